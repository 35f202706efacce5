/*
 * store_sync - what survives a power cut: the journal's group sync, checkpoints, and the flush of
 *              everything that was closed but not synced.
 */
#define LOG_ROOM "store"

#include "store_private.h"

#include <fcntl.h>

#define FLUSH_BATCH 512
#define COMMIT_TRIES 8
#define MEND_MS 1000
#define SUSPECTS_AGAIN_MS 60000

uint64_t journal_last(struct store *s)
{
	with_lock(&s->lock);
	return s->journal.next_number - 1;
}

/* ---- checkpoint -------------------------------------------------------------------------------------------- */

/* It failed only after it was done; or so the page cache says, and the disk may not have it. Before the journal
 * is written over, the next one must succeed. */
static int commit_again(struct store *s, uint64_t epoch)
{
	int r = meta_put_u64(&s->index, "epoch", epoch);
	if (r == 0)
		r = index_commit(&s->index);
	if (r == 0)
		r = index_begin(&s->index);
	if (r == 0)
		journal_restart(&s->journal);
	return r;
}

/* A commit that failed may leave the environment unusable: open it anew and replay. */
static int reopen(struct store *s)
{
	index_close(&s->index);
	uint64_t epoch = 0;
	int r = index_open(&s->index, s->index.path);
	if (r == 0)
		r = meta_get_u64(&s->index, "epoch", &epoch);
	if (r == 0 && epoch == s->journal.epoch + 1)
		r = commit_again(s, epoch);
	if (r == 0)
		r = index_replay(s);
	if (r < 0)
		s->failed = r;
	return r;
}

/* Short of memory, or a disk that fails, for a moment is no end: the journal holds all that the index
 * lacks. */
int store_mend_locked(struct store *s)
{
	lock_assert_held(&s->lock);
	if (!s->failed || s->failed == -EUCLEAN || clock_mono_ms() < s->mend_at_ms)
		return s->failed;
	s->failed = 0;
	int r = reopen(s);
	s->mend_at_ms = r < 0 ? clock_mono_ms() + MEND_MS : 0;
	return r;
}

static void all_synced(struct store *s, uint64_t number)
{
	with_lock(&s->sync.lock);
	if (s->sync.synced_number < number)
		s->sync.synced_number = number;
	cond_broadcast(&s->sync.done);
}

/* One commit. -E2BIG: the map is full, and the transaction is gone. */
static int commit_once(struct store *s, uint64_t last)
{
	int r = meta_put_u64(&s->index, "epoch", s->journal.epoch + 1);
	if (r == 0)
		r = meta_put_u64(&s->index, "number", last);
	if (r == 0)
		r = meta_put_u64(&s->index, WITNESS_BYTES_META, s->witness.offset);
	return r == 0 ? index_commit(&s->index) : r;
}

/* Also for the commit itself the map may be too small: it grows, and the journal is replayed. */
static int commit_with_room(struct store *s, uint64_t last)
{
	int r = commit_once(s, last);
	for (unsigned tries = 0; r == -E2BIG && tries < COMMIT_TRIES; tries++) {
		index_abort(&s->index);
		int e = index_grow(&s->index);
		if (e == 0)
			e = index_replay(s);
		if (e < 0)
			return e;
		r = commit_once(s, last);
	}
	return r;
}

uint64_t checkpoint_ops(uint64_t until_now, uint64_t ops, uint64_t pages)
{
	if (pages == 0 || (pages < CHECKPOINT_PAGES / 16 && ops < until_now / 2))
		return until_now; /* not counted, or too little to learn from */
	uint64_t next = ops * CHECKPOINT_PAGES / pages;
	if (next > 2 * until_now)
		next = 2 * until_now;
	if (next < CHECKPOINT_OPS_FIRST / 4)
		next = CHECKPOINT_OPS_FIRST / 4;
	return next < CHECKPOINT_OPS_MOST ? next : CHECKPOINT_OPS_MOST;
}

int checkpoint_locked(struct store *s)
{
	lock_assert_held(&s->lock);
	if (s->failed)
		return s->failed;
	uint64_t last = s->journal.next_number - 1;
	int64_t began_ms = clock_mono_ms();
	witness_flush_locked(s);
	int r = commit_with_room(s, last);
	if (r < 0) {
		int again = reopen(s);
		return again < 0 ? again : r;
	}
	log_debug("index: %llu operations written in %lld ms", (unsigned long long)s->ops_since_commit,
		(long long)(clock_mono_ms() - began_ms));
	journal_restart(&s->journal);
	s->ops_until_commit = checkpoint_ops(
		s->ops_until_commit, s->ops_since_commit, s->index.commit_pages);
	s->ops_since_commit = 0;
	all_synced(s, last);
	r = index_begin(&s->index);
	if (r < 0)
		s->failed = r;
	return r;
}

int store_checkpoint(struct store *s)
{
	with_lock(&s->lock);
	return checkpoint_locked(s);
}

/* ---- the journal -------------------------------------------------------------------------------------------- */

static int sync_by_checkpoint(struct store *s, int error)
{
	with_lock(&s->lock);
	int r = checkpoint_locked(s);
	if (r == 0)
		disk_note(s, error, "the journal took no sync; the index took its records, nothing is lost");
	return r;
}

/* One thread syncs for all that came before it looked. */
int journal_sync(struct store *s, uint64_t upto)
{
	lock_take(&s->sync.lock);
	while (s->sync.running && s->sync.synced_number < upto)
		(void)cond_wait_until(&s->sync.done, &s->sync.lock, INT64_MAX); /* the predicate decides */
	bool done = s->sync.synced_number >= upto, unsure = s->sync.unsure;
	if (!done)
		s->sync.running = true;
	lock_drop(&s->sync.lock);
	if (done)
		return 0;
	uint64_t last = journal_last(s);
	int r = unsure ? -EIO : io_fdatasync(s->journal.fd);
	if (r < 0) /* never trust a second sync: the index takes it all instead */
		r = sync_by_checkpoint(s, r);
	lock_take(&s->sync.lock);
	s->sync.running = false;
	s->sync.unsure = r < 0;
	if (r == 0 && s->sync.synced_number < last)
		s->sync.synced_number = last;
	cond_broadcast(&s->sync.done);
	lock_drop(&s->sync.lock);
	return r;
}

/* ---- flush --------------------------------------------------------------------------------------------------- */

struct unsynced {
	uint64_t ino, number;
	bool suspect;
};

static int unsynced_batch(struct store *s, uint64_t after_ino, struct unsynced *out, size_t max)
{
	struct ikey from = ikey_ino(after_ino);
	with_lock(&s->lock);
	cleanup_cursor struct index_cursor c;
	size_t count = 0;
	int r = index_seek(&s->index, TABLE_UNSYNCED, &from, true, &c);
	for (; r == 0 && count < max && c.key.len == 8 && c.value.len == 9; r = index_next(&c)) {
		out[count].ino = get_be64(c.key.data);
		out[count].number = get_le64(c.value.data);
		out[count++].suspect = ((const uint8_t *)c.value.data)[8];
	}
	return r < 0 && r != -ENOENT ? r : (int)count;
}

/* Without fd (-1): could all its chunks be compared? 1, 0 or -errno. */
static int chunks_match(struct store *s, const struct store_inode *i, int fd)
{
	for (uint64_t n = 0; n < i->chunk_count; n++) {
		struct store_chunk c;
		uint64_t crc;
		int r = store_chunk(s, i->attr.ino, n, &c);
		if (r == 0 && (!c.present || !c.has_crc64nvme))
			return 0;
		if (r == 0 && fd >= 0)
			r = crc_of_range(fd, c.start, c.len, &crc);
		if (r < 0)
			return r;
		if (fd >= 0 && crc != c.crc64nvme)
			return 0;
	}
	return 1;
}

/* Past memory, which may have the only right bytes: they are sent from there, if nobody drops them. A failure
 * from before is told to the first who asks, also here. -EINVAL: the disk cannot be asked so. */
static int disk_matches(struct store *s, const struct store_inode *i, const char *path)
{
	cleanup_fd int fd = -1;
	int r = io_openat(s->dir_fd, path, O_RDONLY | O_DIRECT, 0, &fd);
	if (r == 0)
		r = chunks_match(s, i, fd);
	return fd >= 0 && (r == -EIO || r == -ENOSPC) ? chunks_match(s, i, fd) : r;
}

bool reread_matches(struct store *s, uint64_t ino)
{
	struct store_inode i;
	char path[64];
	cleanup_fd int fd = -1;
	data_path(ino, path);
	if (store_inode(s, ino, &i) < 0)
		return false;
	if (i.attr.size_bytes == 0)
		return true; /* no byte of it can be another one */
	if (chunks_match(s, &i, -1) != 1)
		return false;
	int r = disk_matches(s, &i, path);
	if (r != 1 && r != -EINVAL)
		return false;
	/* Where there is no such read, or it came from memory all the same */
	if (io_openat(s->dir_fd, path, O_RDONLY, 0, &fd) < 0)
		return false;
	if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
		return false;
	return chunks_match(s, &i, fd) == 1;
}

/* These are on disk now, unless they changed since. Open ones stay: their end is not known yet. */
static int mark_batch(struct store *s, const struct unsynced *list, size_t count)
{
	with_lock(&s->lock);
	op_begin(s);
	for (size_t i = 0; i < count; i++) {
		struct ikey k = ikey_ino(list[i].ino);
		struct bytes v;
		if (index_get(&s->index, TABLE_UNSYNCED, &k, &v) < 0 || v.len != 9 ||
			get_le64(v.data) != list[i].number)
			continue;
		struct record r;
		if (record_get(s, list[i].ino, &r) == 0 && r.i.attr.state == FILE_OPEN)
			continue;
		struct store_file *f = file_find_held(s, list[i].ino);
		if (f && atomic_load(&f->is_lent))
			continue; /* it may have changed since */
		op_del(s, TABLE_UNSYNCED, &k);
	}
	return op_commit(s);
}

static int mark_suspects(struct store *s)
{
	struct unsynced list[FLUSH_BATCH];
	uint64_t after = 0;
	for (;;) {
		int count = unsynced_batch(s, after, list, FLUSH_BATCH), r = 0;
		if (count <= 0)
			return count;
		for (int i = 0; i < count && r == 0; i++)
			r = list[i].suspect ? 0 : mark_suspect(s, list[i].ino);
		if (r < 0)
			return r;
		after = list[count - 1].ino;
	}
}

/* A sync failed, and whom it concerns could not be recorded: all that is unsynced. One that fails meanwhile
 * stays owed. */
static int mark_owed_suspects(struct store *s)
{
	lock_take(&s->lock);
	uint64_t owed = s->suspects_owed;
	lock_drop(&s->lock);
	int r = owed ? mark_suspects(s) : 0;
	if (!owed || r < 0)
		return r;
	with_lock(&s->lock);
	if (s->suspects_owed == owed)
		s->suspects_owed = 0;
	return 0;
}

static void owe_suspects(struct store *s)
{
	with_lock(&s->lock);
	s->suspects_owed++;
}

/* Either its bytes are right, or there are none of it here any more. */
static bool is_past_doubt(struct store *s, uint64_t ino)
{
	if (reread_matches(s, ino))
		return true;
	if (evict_damaged(s, ino) <= 0)
		return false;
	with_lock(&s->lock);
	disk_note(s, -EIO, "it did not keep what was written; the bucket has it, and it is fetched when it is read");
	return true;
}

/* While no sync succeeds: what is right in the bucket shall not be read wrong from here. */
static void look_at_suspects(struct store *s)
{
	struct unsynced list[FLUSH_BATCH];
	uint64_t after = 0;
	int count;
	lock_take(&s->lock);
	bool is_due = !s->suspects_read_ms || clock_mono_ms() - s->suspects_read_ms >= SUSPECTS_AGAIN_MS;
	if (is_due)
		s->suspects_read_ms = clock_mono_ms();
	lock_drop(&s->lock);
	while (is_due && (count = unsynced_batch(s, after, list, FLUSH_BATCH)) > 0) {
		for (int i = 0; i < count; i++)
			if (list[i].suspect && evict_would_lose_nothing(s, list[i].ino))
				(void)is_past_doubt(s, list[i].ino); /* a sync that succeeds clears it */
		after = list[count - 1].ino;
	}
}

static int flush_all(struct store *s)
{
	struct unsynced list[FLUSH_BATCH];
	uint64_t after = 0, limit = journal_last(s);
	int r = mark_owed_suspects(s);
	if (r < 0)
		return r;
	r = io_syncfs(s->dir_fd);
	if (r < 0) {
		owe_suspects(s); /* until all are marked */
		int e = mark_owed_suspects(s);
		if (e == 0)
			look_at_suspects(s);
		return e < 0 ? e : r;
	}
	for (;;) {
		int count = unsynced_batch(s, after, list, FLUSH_BATCH);
		if (count <= 0) {
			r = count;
			break;
		}
		after = list[count - 1].ino;
		int kept = 0;
		for (int i = 0; i < count; i++)
			if (list[i].number <= limit && (!list[i].suspect || is_past_doubt(s, list[i].ino)))
				list[kept++] = list[i];
		r = mark_batch(s, list, (size_t)kept);
		if (r < 0)
			break;
	}
	return r < 0 ? r : journal_sync(s, journal_last(s));
}

/* 0: one that began later than the caller came took all. */
static uint64_t flush_begin(struct store *s)
{
	with_lock(&s->sync.lock);
	uint64_t before = s->sync.flushes_begun;
	while (s->sync.flushes && s->sync.last_flushed <= before)
		(void)cond_wait_until(&s->sync.done, &s->sync.lock, INT64_MAX); /* the predicate decides */
	if (s->sync.last_flushed > before)
		return 0;
	s->sync.flushes = true;
	return ++s->sync.flushes_begun;
}

static void flush_end(struct store *s, uint64_t number, int result)
{
	with_lock(&s->sync.lock);
	s->sync.flushes = false;
	if (result == 0)
		s->sync.last_flushed = number;
	cond_broadcast(&s->sync.done);
}

/* The kernel tells one caller that it failed. Until that one has marked whom it concerns, nobody else may
 * believe the next answer. */
int flush_unsynced(struct store *s)
{
	uint64_t number = flush_begin(s);
	if (!number)
		return 0;
	int r = flush_all(s);
	flush_end(s, number, r);
	return r;
}

int store_flush_all(struct store *s)
{
	return flush_unsynced(s);
}

uint64_t store_mark(struct store *s)
{
	return journal_last(s);
}

int store_sync_to(struct store *s, uint64_t mark)
{
	return journal_sync(s, mark);
}
