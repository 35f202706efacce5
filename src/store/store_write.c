/*
 * store_write - changing bytes. A record that speaks of data is void before the data changes: the
 * first change after a close raises the generation and opens the version, the first touch of a chunk
 * with a CRC or part record voids it; then the bytes are written, without any lock.
 */
#include "store_private.h"

#include <fcntl.h>
#include <linux/falloc.h>

#define FILE_MAX_BYTES (5 * TIB) /* S3's largest object */
#define REWRITE_MEMORY_NS (600 * NS_PER_S)
#define WHOLE_WANTED_MS 60000 /* asked again with each chunk that comes */

void file_wait_idle(struct store_file *f)
{
	while (f->flushing)
		(void)cond_wait_until(&f->idle, &f->lock, INT64_MAX); /* the predicate decides */
}

/* ---- voiding ------------------------------------------------------------------------------------------- */

static void void_chunks(struct store_file *f, uint64_t first, uint64_t last)
{
	struct chunk_record none = { 0 };
	for (uint64_t n = first; n <= last && n < STORE_CHUNKS_MAX; n++)
		if (bit_test(f->recorded, n))
			op_chunk(f->store, f->ino, n, &none);
}

static bool any_recorded(struct store_file *f, uint64_t first, uint64_t last)
{
	for (uint64_t n = first; n <= last && n < STORE_CHUNKS_MAX; n++)
		if (bit_test(f->recorded, n))
			return true;
	return false;
}

/* The version that was closed is over. */
static void open_version(struct store *s, const struct record *old)
{
	struct record new = *old;
	int64_t now = clock_wall_ns();
	new.i.attr.generation++;
	new.i.attr.flags &= ~(STORE_FLAG_DURABLE | STORE_FLAG_ACCEPTED | STORE_FLAG_REPLACES |
		STORE_FLAG_COMPLETE | STORE_FLAG_ADOPTED | STORE_FLAG_LENT | STORE_FLAG_STRANDED |
		STORE_FLAG_UNPROVED);
	new.i.in_the_way = 0;
	new.i.attr.ctime_ns = now;
	if (!old->i.closed_at_ns || now - old->i.closed_at_ns >= REWRITE_MEMORY_NS)
		new.i.rewrites = 0;
	else if (old->i.attr.state != FILE_CLOSED && old->i.attr.state != FILE_INCOMPLETE)
		new.i.rewrites++; /* it had settled; several closes of one writer count for nothing */
	new.i.attempts = 0;
	new.i.reason[0] = '\0';
	if (!(old->i.attr.flags & STORE_FLAG_UNLINKED))
		record_enter(&new, FILE_OPEN);
	else
		new.i.state_before = FILE_INCOMPLETE; /* what undelete brings back, until a FLUSH */
	op_inode(s, old, &new);
}

bool is_unsynced(struct store *s, uint64_t ino)
{
	struct ikey k = ikey_ino(ino);
	struct bytes v;
	return index_get(&s->index, TABLE_UNSYNCED, &k, &v) != -ENOENT; /* not known: it may be */
}

/* May a record on the disk say that its bytes are safe there? What was fetched a moment ago is unsynced, but
 * what had been here before it is not; nor was what a sync that failed made suspect. Index lock held. */
static bool may_be_durable(const struct store_file *f)
{
	return !is_unsynced(f->store, f->ino) || f->has_filled || is_suspect(f->store, f->ino);
}

static int record_change(struct store_file *f, uint64_t first, uint64_t last, struct news *news,
	uint64_t *ret_sync_number)
{
	struct store *s = f->store;
	struct record old;
	store_enter(s);
	int r = record_get(s, f->ino, &old);
	if (r == 0) {
		bool durable = !f->dirty && may_be_durable(f);
		op_begin(s);
		if (!f->dirty) {
			open_version(s, &old);
			op_unsynced(s, f->ino);
		}
		void_chunks(f, first, last);
		r = op_commit(s);
		*ret_sync_number = durable ? s->journal.next_number - 1 : 0;
		if (r == 0 && !f->dirty)
			f->generation = old.i.attr.generation + 1;
	}
	store_leave(s, news);
	return r;
}

/* ---- what failed ------------------------------------------------------------------------------------------ */

static void forget_failures(struct store_file *f)
{
	f->write_error = false;
	f->lacks_from = f->lacks_to = 0;
}

/* A writer was told that these bytes are not there. What lies between two such ranges counts, too. */
static void bytes_lack(struct store_file *f, uint64_t from, uint64_t to)
{
	bool any = f->lacks_from < f->lacks_to;
	f->lacks_from = any && f->lacks_from < from ? f->lacks_from : from;
	f->lacks_to = any && f->lacks_to > to ? f->lacks_to : to;
}

/* The kernel tells a program of a long write that failed in its middle how much of it was written; so
 * it writes the rest again, and all is well. */
static void bytes_are_there(struct store_file *f, uint64_t from, uint64_t to)
{
	if (from <= f->lacks_from && to > f->lacks_from)
		f->lacks_from = to;
	else if (from < f->lacks_to && to >= f->lacks_to)
		f->lacks_to = from;
}

/* What the records said until now is over on the disk, too. f->lock is dropped meanwhile; nobody else begins
 * a change. number 0: nothing to do. */
static int sync_before_change(struct store_file *f, uint64_t number)
{
	if (!number)
		return 0;
	f->flushing = true;
	lock_drop(&f->lock);
	int r = journal_sync(f->store, number);
	lock_take(&f->lock);
	f->flushing = false;
	cond_broadcast(&f->idle);
	return r;
}

int file_before_change(struct store_file *f, uint64_t off, uint64_t len, struct news *news)
{
	uint64_t size = atomic_load(&f->size_bytes), sync_number = 0;
	uint64_t start = off < size ? off : size; /* growing changes the last chunk too */
	uint64_t end = off + len > start ? off + len : start + 1;
	uint64_t first = chunk_of(f->part_size_bytes, start); /* a full chunk stays as it is */
	uint64_t last = chunk_of(f->part_size_bytes, end - 1);
	lock_assert_held(&f->lock);
	if (f->dirty && !any_recorded(f, first, last))
		return 0;
	int r = record_change(f, first, last, news, &sync_number);
	if (r < 0)
		return r;
	if (!f->dirty)
		forget_failures(f);
	f->dirty = true;
	atomic_store(&f->is_dirty_hint, true);
	for (uint64_t n = first; n <= last && n < STORE_CHUNKS_MAX; n++)
		bit_set(f->recorded, n, false);
	return sync_before_change(f, sync_number);
}

/* ---- writing --------------------------------------------------------------------------------------------- */

uint64_t file_limit(uint64_t part_size_bytes)
{
	uint64_t by_chunks = chunk_start(part_size_bytes, STORE_CHUNKS_MAX);
	return by_chunks < FILE_MAX_BYTES ? by_chunks : FILE_MAX_BYTES;
}

/* All chunks must be here at once. A reader of a file that the buffer cannot hold is luckier. */
static int want_whole(struct store_file *f, uint64_t *ret_chunk)
{
	uint64_t most = f->store->cache_size_bytes, size = atomic_load(&f->size_bytes);
	if ((most && size > most) || !space_can_hold(f->store, size))
		return -ENOSPC;
	f->whole_until_ms = clock_mono_ms() + WHOLE_WANTED_MS;
	(void)file_range_present(f, 0, UINT64_MAX, ret_chunk);
	return -EREMOTE;
}

/* Room, record, descriptor: everything before the bytes, after which the growth has arrived. f->lock
 * held. */
static int prepare_change(struct store_file *f, uint64_t off, uint64_t len, uint64_t growth,
	uint64_t *ret_chunk, struct news *news)
{
	if (f->absent_count)
		return want_whole(f, ret_chunk);
	int r = lent_unstrand(f, news);
	if (r < 0)
		return r;
	r = file_fd(f, true); /* before the record: a missing data file must be noticed first */
	if (r == -ENODATA) {
		r = file_mark_lost(f, news);
		*ret_chunk = 0;
	}
	if (r == 0 && growth)
		r = space_take(f->store, f->ino, atomic_load(&f->size_bytes), growth);
	if (r < 0)
		return r;
	f->growth_bytes += growth;
	f->changes++;
	r = file_before_change(f, off, len, news);
	if (r < 0)
		space_arrived(f->store, growth);
	return r;
}

/* Does a write inside the file fill a hole? Then the disk must have room. f->lock held. */
static int take_hole(struct store_file *f, uint64_t off, uint64_t end, uint64_t *ret_bytes)
{
	uint64_t size = atomic_load(&f->size_bytes), bytes = (end < size ? end : size) - off;
	*ret_bytes = 0;
	if (off >= size || f->absent_count || file_fd(f, false) < 0 || !f->is_sparse)
		return 0;
	off_t hole = lseek(f->fd, (off_t)off, SEEK_HOLE);
	if (hole < 0 || (uint64_t)hole >= off + bytes)
		return 0;
	int r = space_take_hole(f->store, bytes);
	if (r == 0)
		*ret_bytes = bytes;
	return r;
}

static void size_at_least(struct store_file *f, uint64_t end)
{
	if (atomic_load(&f->size_bytes) < end)
		atomic_store(&f->size_bytes, end);
}

/* f->lock held. What failed writes left beyond the end would show when the file grows over it. */
static void write_ended(struct store_file *f, uint64_t off, uint64_t end, int error)
{
	f->in_flight--;
	if (error == 0) {
		bytes_are_there(f, off, end);
		size_at_least(f, end);
		f->done_bytes = end > f->done_bytes ? end : f->done_bytes;
	} else {
		bytes_lack(f, off, end);
		f->tidy_due = true;
	}
	atomic_store(&f->mtime_ns, clock_wall_ns());
	if (f->in_flight || !f->tidy_due || atomic_load(&f->is_lent))
		return;
	f->tidy_due = false;
	atomic_store(&f->size_bytes, f->done_bytes);
	if (io_truncate(f->fd, f->done_bytes) < 0)
		return; /* the version is incomplete anyway */
}

int store_file_write(struct store_file *f, const void *data, size_t len, uint64_t off, bool append,
	uint64_t *ret_chunk)
{
	struct news news = { 0 };
	lock_take(&f->lock);
	file_wait_idle(f);
	lent_look(f);
	uint64_t size = atomic_load(&f->size_bytes);
	if (append)
		off = size;
	int r = 0;
	uint64_t limit = file_limit(f->part_size_bytes);
	if (len > limit || off > limit - len)
		r = -EFBIG;
	uint64_t end = off + len, growth = end > size ? end - size : 0, hole = 0;
	if (r == 0 && len)
		r = take_hole(f, off, end, &hole);
	if (r == 0 && len) {
		r = prepare_change(f, off, len, growth, ret_chunk, &news);
		if (r < 0)
			space_arrived(f->store, hole);
		f->is_sparse = f->is_sparse || off > size;
	}
	if (r == 0 && f->in_flight == 0)
		f->done_bytes = size;
	if (r == 0 && append)
		size_at_least(f, end); /* the next appender goes behind */
	if (r == -EFBIG && f->dirty)
		f->write_error = true;
	else if (r < 0 && r != -EDQUOT && r != -EREMOTE && f->dirty)
		bytes_lack(f, off, end);
	struct span span = { 0 };
	if (r == 0 && len)
		span = heat_begin(f, off, end, &news);
	int fd = f->fd;
	f->in_flight += r == 0 && len;
	lock_drop(&f->lock);
	news_fire(f->store, &news);
	if (r < 0 || len == 0)
		return r;

	r = io_pwrite(fd, data, len, off);
	space_arrived(f->store, growth + hole);

	lock_take(&f->lock);
	heat_end(f, span);
	write_ended(f, off, end, r);
	cond_broadcast(&f->idle);
	lock_drop(&f->lock);
	return r;
}

void store_file_write_failed(struct store_file *f)
{
	with_lock(&f->lock);
	f->write_error = true;
}

/* ---- truncate --------------------------------------------------------------------------------------------- */

/* A file that becomes empty needs nothing of what is absent, or lost. *ret_sync_number: the record that must
 * be on the disk before what is here goes; 0: none. */
static int forget_bytes(struct store_file *f, struct news *news, uint64_t *ret_sync_number)
{
	struct store *s = f->store;
	struct chunk_record none = { 0 };
	uint64_t count = chunk_count_of(f->part_size_bytes, atomic_load(&f->size_bytes));
	store_enter(s);
	struct record old;
	int r = record_get(s, f->ino, &old);
	if (r == 0) {
		bool durable = f->absent_count < count && may_be_durable(f);
		op_begin(s);
		open_version(s, &old);
		op_unsynced(s, f->ino);
		for (uint64_t n = 0; n < count; n++)
			op_chunk(s, f->ino, n, &none);
		r = op_commit(s);
		*ret_sync_number = durable ? s->journal.next_number - 1 : 0;
	}
	store_leave(s, news);
	if (r < 0)
		return r;
	f->generation = old.i.attr.generation + 1;
	f->changes++;
	f->dirty = true;
	forget_failures(f);
	atomic_store(&f->is_dirty_hint, true);
	memset(f->absent, 0, STORE_CHUNKS_MAX / 8);
	memset(f->recorded, 0, STORE_CHUNKS_MAX / 8);
	fills_forget(f);
	f->absent_count = 0;
	atomic_store(&f->size_bytes, 0);
	return 0;
}

/* Cut to the size that it has: only its times change, as on ext4. An open version's is on its data
 * file, too, where recovery finds it. */
static int truncate_to_same(struct store_file *f, struct news *news)
{
	struct store *s = f->store;
	int64_t now = clock_wall_ns();
	struct record old;
	int r = f->dirty && f->fd >= 0 ? io_truncate(f->fd, atomic_load(&f->size_bytes)) : 0;
	if (r < 0)
		return r;
	store_enter(s);
	if (!f->dirty)
		r = record_get(s, f->ino, &old);
	if (r == 0 && !f->dirty) {
		struct record new = old;
		new.i.attr.mtime_ns = new.i.attr.ctime_ns = now;
		op_begin(s);
		op_inode(s, &old, &new);
		r = op_commit(s);
	}
	if (r == 0)
		atomic_store(&f->mtime_ns, now);
	store_leave(s, news);
	return r;
}

/* None of the bytes that a failed sync left in doubt is there any more. */
static void unsuspect(struct store_file *f)
{
	struct store *s = f->store;
	uint8_t value[9] = { 0 };
	struct ikey k = ikey_ino(f->ino);
	with_lock(&s->lock);
	if (!is_suspect(s, f->ino))
		return;
	put_le64(value, s->journal.next_number);
	op_begin(s);
	op_put(s, TABLE_UNSYNCED, &k, value, sizeof(value));
	if (op_commit(s) < 0)
		return; /* it stays in doubt */
}

static int truncate_locked(
	struct store_file *f, uint64_t to, uint64_t *ret_chunk, struct news *news)
{
	lent_look(f);
	uint64_t size = atomic_load(&f->size_bytes);
	int r = 0;
	if (to > file_limit(f->part_size_bytes))
		return -EFBIG;
	if (to == size && to > 0)
		return truncate_to_same(f, news);
	uint64_t growth = to > size ? to - size : 0;
	if (to == 0 && !f->absent_count)
		r = file_fd(f, true);
	bool stranded = to == 0 && f->is_stranded;
	if (r < 0 && r != -ENODATA)
		return r;
	uint64_t sync_number = 0;
	if (to == 0 && (f->absent_count || r == -ENODATA || stranded))
		r = forget_bytes(f, news, &sync_number);
	else if (to != size || !f->dirty)
		r = prepare_change(f, to < size ? to : size, to < size ? size - to : to - size,
			growth, ret_chunk, news);
	if (r < 0)
		return r;
	space_arrived(f->store, growth); /* no bytes, but a hole */
	f->is_sparse = f->is_sparse || growth;
	int synced = sync_before_change(f, sync_number); /* it is empty in memory: its bytes go in any case */
	struct span span = heat_begin(f, to < size ? to : size, to < size ? size : to, news);
	r = stranded ? lent_replace(f) : file_fd(f, true);
	if (r == 0)
		r = io_truncate(f->fd, to);
	heat_end(f, span);
	if (r == 0)
		r = synced;
	if (r < 0) {
		f->write_error = true;
		return r;
	}
	atomic_store(&f->size_bytes, to);
	atomic_store(&f->mtime_ns, clock_wall_ns());
	if (to == 0)
		unsuspect(f);
	return 0;
}

/* Writes under way end first, so that a late one cannot grow the file again unseen. */
static void begin_alone(struct store_file *f)
{
	file_wait_idle(f);
	f->flushing = true;
	while (f->in_flight || f->fill_writes)
		(void)cond_wait_until(&f->idle, &f->lock, INT64_MAX); /* the predicate decides */
	f->flushing = false;
}

int store_file_truncate(struct store_file *f, uint64_t size_bytes, uint64_t *ret_chunk)
{
	struct news news = { 0 };
	lock_take(&f->lock);
	begin_alone(f);
	int r = truncate_locked(f, size_bytes, ret_chunk, &news);
	cond_broadcast(&f->idle);
	lock_drop(&f->lock);
	news_fire(f->store, &news);
	return r;
}

/* ---- fallocate --------------------------------------------------------------------------------------------- */

static int fallocate_locked(struct store_file *f, int mode, uint64_t off, uint64_t len,
	uint64_t *ret_chunk, struct news *news)
{
	lent_look(f);
	uint64_t size = atomic_load(&f->size_bytes), end = off + len;
	bool changes = mode != FALLOC_FL_KEEP_SIZE && (mode != 0 || end > size);
	uint64_t growth = !(mode & FALLOC_FL_KEEP_SIZE) && end > size ? end - size : 0;
	int r = 0;
	if (changes)
		r = prepare_change(f, off, len, growth, ret_chunk, news);
	else if (f->absent_count || f->is_stranded)
		return 0; /* clean and complete in the bucket, or not to be touched: nothing to reserve */
	if (r < 0)
		return r;
	struct span span = heat_begin(f, off, changes ? end : off, news);
	r = file_fd(f, true);
	if (r == 0)
		r = io_fallocate(f->fd, mode, off, len);
	if (changes)
		space_arrived(f->store, growth);
	f->is_sparse = f->is_sparse || mode & FALLOC_FL_PUNCH_HOLE;
	heat_end(f, span);
	if (r < 0)
		return r;
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		size_at_least(f, end);
	if (changes)
		atomic_store(&f->mtime_ns, clock_wall_ns());
	return 0;
}

int store_file_fallocate(
	struct store_file *f, int mode, uint64_t off, uint64_t len, uint64_t *ret_chunk)
{
	struct news news = { 0 };
	if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE &&
		mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) && mode != FALLOC_FL_ZERO_RANGE &&
		mode != (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (len == 0)
		return -EINVAL;
	lock_take(&f->lock);
	begin_alone(f);
	uint64_t limit = file_limit(f->part_size_bytes);
	int r = len > limit || off > limit - len
		? -EFBIG
		: fallocate_locked(f, mode, off, len, ret_chunk, &news);
	cond_broadcast(&f->idle);
	lock_drop(&f->lock);
	news_fire(f->store, &news);
	return r;
}
