/*
 * store_evict - which bytes leave the cache when room is wanted, and in which order.
 *
 *   1. files that nobody has open, verified or from elsewhere: the oldest first, as a whole;
 *   2. files that were deleted here, if the object that still waits for its deletion holds the same:
 *      `cpgfs undelete` fetches them again;
 *   3. chunks of such files as in 1 that are being read, so that an object larger than the cache can
 *      be read through it: those behind the reader, then those far ahead of it; what lies under its
 *      hands only when it did not read for a while. Their data file keeps its place: holes are
 *      punched;
 *   4. files that somebody else removed from the bucket after they were verified (GONE): perhaps nobody
 *      else has them, but they are not waited for, and a staging area that is emptied would fill the
 *      cache.
 *
 * Always: "absent" is recorded and synced, then the bytes go. In 3 readers may be under way: the
 * chunk bits and the file's number of evictions change before its bytes do, and whoever read
 * meanwhile looks again (store_file_read); a chunk is not filled before its old bytes are gone.
 */
#include "store_private.h"

#include <linux/falloc.h>

#define EVICT_BATCH 64
#define READ_AHEAD_CHUNKS 4
#define READER_IDLE_MS 5000
#define DELETED_LOOKED_AT_MAX 4096

/* ---- whole files ------------------------------------------------------------------------------------------- */

/* A table in eviction order, and with which bytes its keys begin. */
struct source {
	enum table table;
	uint8_t first, last;
	bool open; /* those that somebody has open, or only the others */
};

static const struct source deleted_files = {
	.table = TABLE_QUEUE, .first = FILE_DELETING, .last = FILE_DELETING
};

/* Its next files behind `after` (len 0: from the start). */
static int candidates(struct store *s, const struct source *from, struct ikey *after, uint64_t *out,
	size_t max)
{
	struct ikey start = *after;
	with_lock(&s->lock);
	cleanup_cursor struct index_cursor c;
	size_t count = 0;
	if (!after->len) {
		start.data[0] = from->first;
		start.len = 1;
	}
	int r = index_seek(&s->index, from->table, &start, after->len > 0, &c);
	for (; r == 0 && count < max && c.key.len == 17; r = index_next(&c)) {
		const uint8_t *key = c.key.data;
		uint64_t ino = get_be64(key + 9);
		if (key[0] > from->last)
			break;
		memcpy(after->data, key, c.key.len);
		after->len = c.key.len;
		if ((file_find_held(s, ino) != NULL) == from->open)
			out[count++] = ino;
	}
	return r < 0 && r != -ENOENT ? r : (int)count;
}

/* The bucket has these bytes, and nothing is on its way that could change that. */
static bool is_deleted_but_safe(const struct record *r)
{
	const struct store_inode *i = &r->i;
	return i->attr.state == FILE_DELETING && !r->attempts_open && i->object.key[0] &&
		i->object.generation == i->attr.generation &&
		(i->state_before == FILE_VERIFIED || i->state_before == FILE_UPLOADED);
}

static bool is_clean(const struct record *r)
{
	return r->i.attr.state == FILE_VERIFIED || r->i.attr.state == FILE_UPLOADED ||
		r->i.attr.state == FILE_GONE || (r->i.attr.flags & STORE_FLAG_FOREIGN);
}

static bool may_be_evicted(const struct record *r)
{
	return is_clean(r) || is_deleted_but_safe(r);
}

static bool is_in_bucket(const struct record *r)
{
	return may_be_evicted(r) && r->i.attr.state != FILE_GONE;
}

static int op_chunk_leaves(struct store *s, uint64_t ino, uint64_t n)
{
	struct chunk_record absent = { .absent = true }, c;
	int r = chunk_get(s, ino, n, &c);
	if (r < 0)
		return r;
	absent.has_crc = c.has_crc; /* what a fetched chunk must have */
	absent.crc64nvme = c.crc64nvme;
	op_chunk(s, ino, n, &absent);
	return 0;
}

/* Record "absent" for all its chunks, if they may leave: for_room, or because they are damaged. Returns the
 * bytes this frees. */
static int64_t record_all_absent(struct store *s, uint64_t ino, bool for_room)
{
	struct record old;
	with_lock(&s->lock);
	s->op.told_count = 0;
	if (file_find_held(s, ino) || record_get(s, ino, &old) < 0)
		return 0; /* opened or gone meanwhile */
	if (!old.present_bytes || !(for_room ? may_be_evicted(&old) : is_in_bucket(&old)))
		return 0;
	struct record new = old;
	new.present_bytes = 0;
	op_begin(s);
	for (uint64_t n = 0; n < old.i.chunk_count; n++) {
		int r = op_chunk_leaves(s, ino, n);
		if (r < 0)
			return r;
	}
	op_inode(s, &old, &new);
	s->op.told_count = 0;
	int r = op_commit(s);
	if (r < 0)
		return r;
	if (for_room)
		atomic_store(&s->is_evicting, true);
	return (int64_t)old.present_bytes;
}

void unlink_data(struct store *s, uint64_t ino)
{
	char path[64];
	struct record r;
	data_path(ino, path);
	with_lock(&s->lock);
	if (file_find_held(s, ino) || record_get(s, ino, &r) < 0 || r.present_bytes)
		return;
	if (unlinkat(s->dir_fd, path, 0) < 0 && errno != ENOENT) /* the next fetch overwrites them */
		disk_note(s, -errno, "bytes that were evicted stay in the cache directory, unused");
}

/* Whole files of a source, until `bytes` are free or it has no more; adds to *freed. */
static int evict_files(
	struct store *s, const struct source *from, uint64_t bytes, uint64_t *freed)
{
	struct ikey after = { .len = 0 };
	while (*freed < bytes) {
		uint64_t inos[EVICT_BATCH], batch = 0;
		int count = candidates(s, from, &after, inos, EVICT_BATCH), taken = 0;
		if (count <= 0)
			return count;
		for (; taken < count && *freed + batch < bytes; taken++) {
			int64_t got = record_all_absent(s, inos[taken], true);
			if (got < 0)
				return (int)got;
			batch += (uint64_t)got;
		}
		int r = batch ? journal_sync(s, journal_last(s)) : 0;
		if (r < 0)
			return r;
		for (int i = 0; i < taken; i++)
			unlink_data(s, inos[i]);
		*freed += batch;
	}
	return 0;
}

bool evict_would_lose_nothing(struct store *s, uint64_t ino)
{
	struct record r;
	with_lock(&s->lock);
	return !file_find_held(s, ino) && record_get(s, ino, &r) == 0 && r.present_bytes && is_in_bucket(&r);
}

int evict_damaged(struct store *s, uint64_t ino)
{
	int64_t bytes = record_all_absent(s, ino, false);
	int r = bytes > 0 ? journal_sync(s, journal_last(s)) : (int)bytes;
	if (r < 0 || bytes == 0)
		return r;
	unlink_data(s, ino);
	return 1;
}

/* Some of the files that wait to be deleted still have their bytes here. */
bool evict_deleted_holds_bytes(struct store *s)
{
	struct ikey after = { .len = 0 };
	uint64_t inos[EVICT_BATCH];
	int count;
	for (unsigned looked = 0; (count = candidates(s, &deleted_files, &after, inos, EVICT_BATCH)) > 0;) {
		with_lock(&s->lock);
		for (int i = 0; i < count; i++) {
			struct record r;
			if (record_get(s, inos[i], &r) == 0 && r.present_bytes)
				return true;
		}
		looked += (unsigned)count;
		if (looked >= DELETED_LOOKED_AT_MAX)
			return true;
	}
	return false;
}

/* ---- chunks of a file that is being read --------------------------------------------------------------- */

static uint64_t chunk_bytes(const struct store_file *f, uint64_t n)
{
	uint64_t size = atomic_load(&f->size_bytes), start = chunk_start(f->part_size_bytes, n);
	uint64_t len = chunk_size(f->part_size_bytes, n);
	return size - start < len ? size - start : len;
}

static bool may_leave(const struct store_file *f, uint64_t n)
{
	if (bit_test(f->absent, n))
		return false;
	return n < f->read_chunk || n > f->read_chunk + READ_AHEAD_CHUNKS ||
		clock_mono_ms() - f->read_at_ms >= READER_IDLE_MS;
}

/* Marks chunks in f->leaving: behind the reader from the start, then ahead of it from the end. */
static uint64_t choose_chunks(struct store_file *f, uint64_t bytes)
{
	uint64_t count = chunk_count_of(f->part_size_bytes, atomic_load(&f->size_bytes)), chosen = 0;
	for (uint64_t n = 0; n < count && n < f->read_chunk && chosen < bytes; n++) {
		if (!may_leave(f, n))
			continue;
		bit_set(f->leaving, n, true);
		chosen += chunk_bytes(f, n);
	}
	for (uint64_t n = count; n-- > f->read_chunk && chosen < bytes;) {
		if (!may_leave(f, n))
			continue;
		bit_set(f->leaving, n, true);
		chosen += chunk_bytes(f, n);
	}
	return chosen;
}

static int record_chosen_absent(struct store_file *f, uint64_t chosen_bytes)
{
	struct store *s = f->store;
	struct record old;
	uint64_t count = chunk_count_of(f->part_size_bytes, atomic_load(&f->size_bytes)), chunks = 0;
	with_lock(&s->lock);
	s->op.told_count = 0;
	int r = record_get(s, f->ino, &old);
	if (r < 0)
		return r;
	bool foreign = old.i.attr.state == FILE_NONE && (old.i.attr.flags & STORE_FLAG_FOREIGN);
	if ((old.i.attr.state != FILE_VERIFIED && !foreign) || old.present_bytes < chosen_bytes)
		return -ESTALE;
	struct record new = old;
	new.present_bytes -= chosen_bytes;
	op_begin(s);
	for (uint64_t n = 0; n < count && r == 0; n++)
		if (bit_test(f->leaving, n))
			r = op_chunk_leaves(s, f->ino, n);
	if (r < 0)
		return r;
	op_inode(s, &old, &new);
	s->op.told_count = 0;
	r = op_commit(s);
	if (r == 0)
		atomic_store(&s->is_evicting, true);
	for (uint64_t n = 0; n < count && r == 0; n++) {
		if (!bit_test(f->leaving, n))
			continue;
		bit_set(f->absent, n, true);
		chunks++;
	}
	f->absent_count += chunks;
	return r;
}

/* Returns the bytes that may go when the record is synced, 0: none; *ret_changes as of now. */
static int64_t mark_leaving(struct store_file *f, uint64_t bytes, uint64_t *ret_changes)
{
	with_lock(&f->lock);
	if (f->dirty || f->leaving || f->fd_is_lent || clock_mono_ms() < f->whole_until_ms)
		return 0;
	if (f->fd >= 0 && lent_is_shared(f->fd))
		return 0; /* mapped while it was lent: there holes would be read as zeros */
	f->leaving = calloc(1, STORE_CHUNKS_MAX / 8 + 1);
	if (!f->leaving)
		return -ENOMEM;
	uint64_t chosen = choose_chunks(f, bytes);
	int r = chosen ? record_chosen_absent(f, chosen) : -ESTALE;
	if (r < 0) {
		free(steal_ptr(f->leaving));
		return r == -ESTALE || r == -ENOENT ? 0 : r;
	}
	*ret_changes = f->changes;
	atomic_fetch_add(&f->evictions, 1);
	return (int64_t)chosen;
}

/* Those that are still absent, in a file that nobody changed. */
static int punch_leaving(struct store_file *f, uint64_t changes, bool synced)
{
	with_lock(&f->lock);
	uint64_t count = chunk_count_of(f->part_size_bytes, atomic_load(&f->size_bytes));
	int r = synced && f->changes == changes && !f->dirty ? file_fd(f, false) : -ESTALE;
	for (uint64_t n = 0; n < count && r == 0; n++)
		if (bit_test(f->leaving, n) && bit_test(f->absent, n))
			r = io_fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				chunk_start(f->part_size_bytes, n), chunk_bytes(f, n));
	free(steal_ptr(f->leaving));
	return r;
}

static int evict_chunks_of(struct store *s, uint64_t ino, uint64_t bytes, uint64_t *freed)
{
	cleanup_store_file struct store_file *f = NULL;
	uint64_t changes = 0;
	int r = file_get(s, ino, &f);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	int64_t leaving = mark_leaving(f, bytes, &changes);
	if (leaving <= 0)
		return (int)leaving;
	int synced = journal_sync(s, journal_last(s));
	r = punch_leaving(f, changes, synced == 0);
	if (r == -EOPNOTSUPP) {
		with_lock(&s->space.lock);
		s->space.no_holes = true; /* the file's end, or its last reader's, frees them */
	}
	if (r == 0)
		*freed += (uint64_t)leaving;
	return synced;
}

static bool has_no_holes(struct store *s)
{
	with_lock(&s->space.lock);
	return s->space.no_holes;
}

static int evict_chunks(struct store *s, uint64_t bytes, uint64_t *freed)
{
	static const struct source read = { .table = TABLE_EVICT, .last = EVICT_UPLOADED, .open = true };
	struct ikey after = { .len = 0 };
	while (*freed < bytes && !has_no_holes(s)) {
		uint64_t inos[EVICT_BATCH];
		int count = candidates(s, &read, &after, inos, EVICT_BATCH);
		if (count <= 0)
			return count;
		for (int i = 0; i < count && *freed < bytes; i++) {
			int r = evict_chunks_of(s, inos[i], bytes - *freed, freed);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

int store_evict(struct store *s, uint64_t bytes)
{
	static const struct source closed = { .table = TABLE_EVICT, .last = EVICT_UPLOADED };
	static const struct source gone = { .table = TABLE_EVICT, .first = EVICT_GONE, .last = EVICT_GONE };
	struct news news = { .room_freed = false };
	uint64_t freed = 0;
	int r = evict_files(s, &closed, bytes, &freed);
	if (r == 0)
		r = evict_files(s, &deleted_files, bytes, &freed);
	if (r == 0)
		r = evict_chunks(s, bytes, &freed);
	if (r == 0)
		r = evict_files(s, &gone, bytes, &freed);
	atomic_store(&s->is_evicting, false);
	if (freed) {
		lock_take(&s->space.lock);
		s->space.statvfs_at_ms = 0;
		lock_drop(&s->space.lock);
		news.room_freed = true;
	}
	news_fire(s, &news);
	return r;
}
