/*
 * store_recover - from what a kill or a power cut left to a consistent store.
 *
 * The journal is replayed on the index and committed. Files that were OPEN are INCOMPLETE: no FLUSH
 * said that they are whole. After a power cut (another boot id, or the disk was attached anew), every file
 * whose bytes were not synced must prove them by its chunk CRCs, or is TORN; chunks fetched again since the
 * last sync are dropped. So must those of which a sync failed before an end in order.
 */
#include "store_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#define BATCH 256
#define READ_BLOCK_BYTES (1 * MIB)
#define DIRECT_ALIGN ((size_t)4096) /* no disk wants more */
#define NUMBERS_TRIED 256

int crc_of_range(int fd, uint64_t start, uint64_t len, uint64_t *ret)
{
	cleanup_free uint8_t *block = aligned_alloc(DIRECT_ALIGN, READ_BLOCK_BYTES);
	uint64_t crc = 0;
	if (!block)
		return -ENOMEM;
	while (len) {
		size_t want = len < READ_BLOCK_BYTES ? len : READ_BLOCK_BYTES;
		size_t whole = (want + DIRECT_ALIGN - 1) / DIRECT_ALIGN * DIRECT_ALIGN;
		ssize_t n = io_pread(fd, block, whole, start);
		if (n < 0)
			return (int)n;
		if ((size_t)n < want)
			return -ENODATA;
		crc = crc64nvme(crc, block, want);
		start += want;
		len -= want;
	}
	*ret = crc;
	return 0;
}

/* ---- files that were open ---------------------------------------------------------------------------------- */

/* A copy of what the bucket has, of which nobody was told: it goes. False: it does not. Index lock
 * held. */
static bool remove_copy(struct store *s, struct record *r)
{
	bool purge = false;
	if (!(r->i.attr.flags & STORE_FLAG_COPY) || r->i.object.key[0] || r->attempts_open)
		return false;
	op_begin(s);
	return unlink_record(s, r, 0, &purge) == 0 && op_commit(s) == 0 && purge;
}

/* 1: it was removed, but for its bytes. -EUCLEAN: the queue speaks of a file that is not open. */
static int close_open_file(struct store *s, const struct store_queue_item *item, bool lent)
{
	uint64_t ino = item->ino;
	struct record old;
	with_lock(&s->lock);
	int r = record_get(s, ino, &old);
	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	if (old.i.attr.state != FILE_OPEN || order_of(&old) != item->order)
		return -EUCLEAN;
	if (remove_copy(s, &old))
		return 1;
	struct record new = old;
	lent_learn(s->dir_fd, ino, &new.i); /* the record learns of it at the next FLUSH only */
	new.i.chunk_count = chunk_count_of(new.i.part_size_bytes, new.i.attr.size_bytes);
	new.present_bytes = new.i.attr.size_bytes;
	record_enter(&new, FILE_INCOMPLETE);
	(void)text_copy(new.i.reason, "cpgfs ended while it was being written", /* it fits */
		sizeof(new.i.reason));
	if (lent && lent_judge(s->dir_fd, ino, NULL) == LENT_HELD)
		lent_strand(&new, LENT_HELD);
	op_begin(s);
	op_inode(s, &old, &new);
	return op_commit(s);
}

static int close_open_files(struct store *s)
{
	bool lent = s->recovery.same_boot && lent_ever(s);
	for (;;) {
		struct store_queue_item items[BATCH];
		int count = store_queue(s, FILE_OPEN, NULL, items, BATCH);
		if (count <= 0)
			return count;
		for (int i = 0; i < count; i++) {
			int r = close_open_file(s, &items[i], lent);
			if (r < 0)
				return r;
			if (r > 0)
				purge_now(s, items[i].ino);
			s->recovery.incomplete_files += r == 0;
		}
	}
}

/* ---- the nameless -------------------------------------------------------------------------------------------- */

static int grave_batch(struct store *s, uint64_t after, uint64_t *out, size_t max)
{
	struct ikey from = ikey_ino(after);
	with_lock(&s->lock);
	cleanup_cursor struct index_cursor c;
	size_t count = 0;
	int r = index_seek(&s->index, TABLE_GRAVE, &from, true, &c);
	for (; r == 0 && count < max && c.key.len == 8; r = index_next(&c))
		out[count++] = get_be64(c.key.data);
	return r < 0 && r != -ENOENT ? r : (int)count;
}

/* Unlinked, no handle can be left, nothing to follow in the bucket: gone. */
static int bury(struct store *s, uint64_t ino)
{
	struct record r;
	bool purge = true;
	int e = 0;
	lock_take(&s->lock);
	int known = record_get(s, ino, &r);
	if (known < 0 && known != -ENOENT) { /* nothing is deleted on doubt */
		purge = false;
		e = known == -EUCLEAN ? 0 : known;
	}
	if (known == 0) {
		purge = r.i.attr.state == FILE_NONE && !r.attempts_open;
		if (purge) {
			op_begin(s);
			op_purge(s, &r);
			e = op_commit(s);
		}
	}
	lock_drop(&s->lock);
	if (e == 0 && purge)
		purge_now(s, ino);
	return e;
}

static int bury_all(struct store *s)
{
	uint64_t inos[BATCH], after = 0;
	for (;;) {
		int count = grave_batch(s, after, inos, BATCH);
		if (count <= 0)
			return count;
		for (int i = 0; i < count; i++) {
			int r = bury(s, inos[i]);
			if (r < 0)
				return r;
		}
		after = inos[count - 1];
	}
}

/* ---- after a power cut ------------------------------------------------------------------------------------------ */

/* Chunks fetched from the bucket whose bytes may not have reached the disk. A version that was changed
 * since has bytes that its object lacks: it stands or falls with its checksums, as any other. */
static int drop_filled(struct store *s, uint64_t ino)
{
	struct record old;
	with_lock(&s->lock);
	int r = record_get(s, ino, &old);
	if (r < 0 || !object_has_version(&old.i))
		return r;
	struct record new = old;
	op_begin(s);
	for (uint64_t n = 0; n < old.i.chunk_count; n++) {
		struct chunk_record c;
		r = chunk_get(s, ino, n, &c);
		if (r < 0)
			return r;
		if (!c.filled || c.absent)
			continue;
		struct chunk_record absent = { .absent = true };
		op_chunk(s, ino, n, &absent);
		uint64_t start = chunk_start(old.i.part_size_bytes, n);
		uint64_t len = chunk_size(old.i.part_size_bytes, n);
		uint64_t left = old.i.attr.size_bytes - start;
		new.present_bytes -= len < left ? len : left;
	}
	op_inode(s, &old, &new);
	return op_commit(s);
}

/* 1, 0, or an error that says nothing of them. */
static int bytes_match(struct store *s, const struct store_inode *i)
{
	char path[64];
	cleanup_fd int fd = -1;
	if (i->chunk_count == 0)
		return 1;
	data_path(i->attr.ino, path);
	int r = io_openat(s->dir_fd, path, O_RDONLY | O_NOFOLLOW, 0, &fd);
	bool match = r == 0;
	for (uint64_t n = 0; match && n < i->chunk_count; n++) {
		struct store_chunk c;
		uint64_t crc = 0;
		r = store_chunk(s, i->attr.ino, n, &c);
		if (r == 0 && c.present && c.has_crc64nvme)
			r = crc_of_range(fd, c.start, c.len, &crc);
		match = r == 0 && (!c.present || (c.has_crc64nvme && crc == c.crc64nvme));
	}
	return r == -ENOMEM || r == -EMFILE || r == -ENFILE ? r : match;
}

/* What undelete brings back of a DELETING one. */
static enum file_state state_of_bytes(const struct store_inode *i)
{
	return i->attr.state == FILE_DELETING ? i->state_before : i->attr.state;
}

static bool bucket_holds(const struct store_inode *i)
{
	enum file_state state = state_of_bytes(i);
	return (state == FILE_UPLOADED || state == FILE_VERIFIED || state == FILE_MOVING) &&
		i->object.key[0] && i->object.generation == i->attr.generation;
}

static int mark_torn(struct store *s, const struct store_inode *i)
{
	struct record old;
	with_lock(&s->lock);
	int r = record_get(s, i->attr.ino, &old);
	if (r < 0)
		return r;
	struct record new = old;
	op_begin(s);
	if (bucket_holds(i)) { /* fetch it again when it is read */
		struct chunk_record absent = { .absent = true };
		for (uint64_t n = 0; n < i->chunk_count; n++)
			op_chunk(s, i->attr.ino, n, &absent);
		new.present_bytes = 0;
	} else if (i->attr.state == FILE_DELETING) {
		new.i.state_before = FILE_TORN;
	} else {
		record_enter(&new, FILE_TORN);
		snprintf(new.i.reason, sizeof(new.i.reason), "%s, and its bytes differ from what was written or "
							     "cannot be checked",
			s->recovery.power_cut ? "not synced before a power cut or the loss of the disk"
					      : "the cache's disk failed while it was synced");
		s->recovery.torn_files++;
	}
	op_inode(s, &old, &new);
	return op_commit(s);
}

/* States whose bytes are already in doubt, or count for nothing. */
static bool needs_no_proof(enum file_state state)
{
	return state == FILE_LOST || state == FILE_TORN || state == FILE_INCOMPLETE || state == FILE_NONE;
}

/* Whoever accepts it knows perhaps that its writer had done all, but not this. */
static int note_doubt(struct store *s, const struct store_inode *i)
{
	static const char doubt[] = "not synced before a power cut, which may have damaged it, too";
	struct record old;
	with_lock(&s->lock);
	int r = record_get(s, i->attr.ino, &old);
	if (r < 0 || strstr(old.i.reason, doubt))
		return r;
	struct record new = old;
	snprintf(new.i.reason, sizeof(new.i.reason), "%.180s%s%s", old.i.reason, /* the rest fits */
		old.i.reason[0] ? "; " : "", doubt);
	op_begin(s);
	op_inode(s, &old, &new);
	return op_commit(s);
}

static int check_unsynced(struct store *s, uint64_t ino)
{
	struct store_inode i;
	int r = store_inode(s, ino, &i);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = drop_filled(s, ino);
	if (r == 0)
		r = store_inode(s, ino, &i);
	bool incomplete = i.attr.state == FILE_INCOMPLETE;
	if (r < 0 || (!incomplete && needs_no_proof(state_of_bytes(&i))))
		return r;
	r = bytes_match(s, &i);
	if (r != 0)
		return r < 0 ? r : 0;
	return incomplete ? note_doubt(s, &i) : mark_torn(s, &i);
}

static int unsynced_after(struct store *s, uint64_t after, uint64_t *out, size_t max)
{
	struct ikey from = ikey_ino(after);
	with_lock(&s->lock);
	cleanup_cursor struct index_cursor c;
	size_t count = 0;
	int r = index_seek(&s->index, TABLE_UNSYNCED, &from, true, &c);
	for (; r == 0 && count < max && c.key.len == 8; r = index_next(&c))
		out[count++] = get_be64(c.key.data);
	return r < 0 && r != -ENOENT ? r : (int)count;
}

static int check_all_unsynced(struct store *s)
{
	uint64_t inos[BATCH], after = 0;
	for (;;) {
		int count = unsynced_after(s, after, inos, BATCH);
		if (count <= 0)
			return count;
		for (int i = 0; i < count; i++) {
			int r = check_unsynced(s, inos[i]);
			if (r < 0)
				return r;
		}
		after = inos[count - 1];
	}
}

/* Data files no record knows (their records were in the journal's lost tail): kept and reported. */
static void count_orphan(struct store *s, const char *name, uint64_t *highest)
{
	uint8_t raw[8];
	struct record r;
	if (strlen(name) != 16 || hex_decode(name, 16, raw) < 0)
		return;
	uint64_t ino = get_be64(raw);
	if (!(ino & STORE_INO_FROM_BUCKET) && ino > *highest)
		*highest = ino;
	with_lock(&s->lock);
	s->recovery.orphan_data_files += record_get(s, ino, &r) == -ENOENT;
}

static int count_orphans_in(struct store *s, unsigned sub, uint64_t *highest)
{
	char path[32];
	cleanup_fd int fd = -1;
	snprintf(path, sizeof(path), "data/%02x", sub);
	int r = io_openat(s->dir_fd, path, O_RDONLY | O_DIRECTORY, 0, &fd);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	DIR *d = fdopendir(fd);
	if (!d)
		return -errno;
	(void)steal_fd(&fd);
	struct dirent *e;
	while (errno = 0, (e = readdir(d)))
		count_orphan(s, e->d_name, highest);
	r = -errno;
	closedir(d);
	return r;
}

/* No new file may get the number, and with it the bytes, of an orphan. */
static int spare_orphans(struct store *s)
{
	uint64_t highest = 0, next;
	int r = 0;
	for (unsigned sub = 0; r == 0 && sub < 256; sub++)
		r = count_orphans_in(s, sub, &highest);
	if (r < 0)
		return r;
	with_lock(&s->lock);
	r = meta_get_u64(&s->index, "next-ino", &next);
	if (r < 0 || next > highest)
		return r;
	op_begin(s);
	op_meta_u64(s, "next-ino", highest + 1);
	return op_commit(s);
}

/* Data files stand behind the last number that was given: the index is older than they are (it was put back
 * from a copy). */
static int is_older_than_data(struct store *s, bool *ret)
{
	uint64_t next;
	with_lock(&s->lock);
	int r = meta_get_u64(&s->index, "next-ino", &next);
	*ret = false;
	for (uint64_t ino = next; r == 0 && !*ret && ino < next + NUMBERS_TRIED; ino++) {
		char path[64];
		struct stat st;
		data_path(ino, path);
		*ret = fstatat(s->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
	}
	return r;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static int replay_count(void *user, uint64_t number, const void *payload, size_t len)
{
	struct store *s = user;
	int r = op_apply(&s->index, payload, len);
	if (r == 0)
		r = witness_replay(s, number, payload, len);
	s->recovery.replayed_records += r == 0;
	return r;
}

/* Before format 4 a file that was renamed in the wrong moment could say that it is in the bucket
 * though its object had the old name, for ever; and a conflict did not say with what. Everything is
 * looked at once. */
static int rekey_all(struct index *x)
{
	struct ikey k = ikey_ino(0); /* no rename has this number */
	uint8_t value[8];
	put_be64(value, STORE_ROOT_INO);
	return index_put(
		x, TABLE_JOB, (struct bytes){k.data, k.len}, (struct bytes){value, sizeof(value)});
}

/* Caches of format 1 have no table of folders, those of format 2 none of GONE files that can be evicted:
 * they follow from the inodes. */
static int upgrade_tables(struct index *x, uint64_t format)
{
	struct ikey after = {.len = 0};
	for (;;) {
		cleanup_cursor struct index_cursor c;
		struct record record;
		int r = index_seek(x, TABLE_INODE, &after, after.len > 0, &c);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		uint64_t ino = c.key.len == 8 ? get_be64(c.key.data) : 0;
		after = ikey_ino(ino);
		r = record_decode(c.value, ino, &record);
		if (r == 0 && format < 2)
			r = folder_put(x, &record);
		if (r == 0)
			r = gone_put(x, &record);
		if (r < 0)
			return r;
	}
}

int index_upgrade(struct index *x)
{
	uint64_t format;
	int r = meta_get_u64(x, "format", &format);
	if (r < 0 || format >= FORMAT_VERSION)
		return r;
	if (format < 3)
		r = upgrade_tables(x, format);
	if (r == 0)
		r = rekey_all(x);
	return r < 0 ? r : meta_put_u64(x, "format", FORMAT_VERSION);
}

static int replay(struct store *s)
{
	uint64_t epoch, number, count = 0;
	for (unsigned tries = 0; tries < 16; tries++) {
		s->recovery.replayed_records = 0;
		int r = meta_get_u64(&s->index, "epoch", &epoch);
		if (r == 0)
			r = meta_get_u64(&s->index, "number", &number);
		if (r == 0)
			r = journal_replay(&s->journal, epoch, number + 1, replay_count, s, &count);
		if (r == 0)
			r = index_upgrade(&s->index);
		if (r != -E2BIG)
			return r;
		index_abort(&s->index);
		r = index_grow(&s->index);
		if (r == 0)
			r = index_begin(&s->index);
		if (r < 0)
			return r;
	}
	return -ENOSPC;
}

/* Without a power cut nothing of the journal is lost: its run must go to its end, and its front hold
 * something. The journal of a later index is another's, and never this one's. */
static int check_run(struct store *s)
{
	enum journal_front front;
	uint64_t epoch;
	bool later;
	int r = journal_front(&s->journal, &front, &epoch);
	if (r == 0 && front == JOURNAL_FRONT_RECORD && epoch > s->journal.epoch)
		return -EUCLEAN;
	if (r < 0 || s->recovery.power_cut)
		return r;
	if (front == JOURNAL_FRONT_ELSE && s->journal.next_number > 1)
		return -EUCLEAN;
	r = journal_has_later(&s->journal, &later);
	return r == 0 && later ? -EUCLEAN : r;
}

/* The disk was pulled out and put back, or its file attached anew: the page cache was lost with it, as in
 * a power cut. */
static int disk_is_another(struct store *s, bool *ret)
{
	uint64_t seq = 0;
	int r = meta_get_u64(&s->index, META_DISK_SEQ, &seq);
	*ret = store_disk_is_another(seq, s->disk_seq);
	return r == -ENOENT ? 0 : r; /* a cache of an earlier cpgfs */
}

/* A clean end leaves what is unsynced only where the disk did not take it, and then perhaps only in the page
 * cache of that boot. */
static int check_bytes(struct store *s)
{
	int r = check_all_unsynced(s);
	return r < 0 ? r : flush_unsynced(s);
}

int recover(struct store *s, char **ret_message)
{
	uint64_t clean = 0;
	bool other_disk = false, older = false;
	char boot[64] = "";
	lock_take(&s->lock);
	int r = replay(s);
	if (r == 0)
		r = meta_get_u64(&s->index, "clean", &clean);
	if (r == 0)
		r = meta_get_text(&s->index, "boot-id", boot, sizeof(boot));
	if (r == 0)
		r = disk_is_another(s, &other_disk);
	s->recovery.was_unclean = !clean;
	s->recovery.same_boot = strcmp(boot, s->boot_id) == 0;
	s->recovery.power_cut = !clean && (!s->recovery.same_boot || other_disk);
	if (r == 0)
		r = check_run(s);
	if (r == 0)
		r = witness_opened(s, s->recovery.power_cut);
	if (r == 0)
		r = checkpoint_locked(s);
	lock_drop(&s->lock);
	if (r == 0) /* a clean end leaves none, unless a FLUSH failed */
		r = close_open_files(s);
	if (r == 0)
		r = lent_recover(s);
	if (r == 0 && !clean)
		r = bury_all(s);
	if (r == 0 && (!s->recovery.same_boot || other_disk))
		r = check_bytes(s);
	if (r == 0)
		r = is_older_than_data(s, &older);
	if (r == 0 && (s->recovery.power_cut || older))
		r = spare_orphans(s);
	if (r < 0 && r != -EUCLEAN && text_printf(ret_message,
			     "recovering the cache in %s failed: %s; nothing in it was deleted: mend the "
			     "disk (is it full?) and mount again",
			     s->dir, strerror(-r)) < 0)
		*ret_message = NULL;
	return r;
}

void store_recovery_report(struct store *s, struct store_recovery *ret)
{
	*ret = s->recovery;
}
