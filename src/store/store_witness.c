/*
 * store_witness - a second, independent account of what the index cannot be made again without:
 * which data file has which name, size and checksums, and which object stands for it.
 *
 * One append-only file, "witness", of records in the journal's form (epoch WITNESS_EPOCH; the
 * number of the operation; a list of primitive changes in the form of store_op.c). `cpgfs repair`
 * reads it when the index is damaged or gone; nothing else does. A file leaves about four records
 * in it: when it is made, digested and uploaded, and its chunk CRCs. Later numbers count, so order
 * means nothing, and damage costs the records that it hits.
 *
 * It must cost next to nothing. Records gather in memory under the index lock and go out with the
 * maintenance thread's tick, at a checkpoint and at the end; what a kill takes is still in the
 * journal and is noted again by its replay. A write that fails is forgotten: the file is "stale",
 * and is written anew from the index, as it is when it has grown to several times what it would
 * need.
 *
 * Measured with 20,000 files: 0.5 KB for a pending file and 0.9 KB for an uploaded one (the index:
 * 0.7 and 1.8), no difference in the time of a create; repairing from it alone takes 2.5 s. A copy of
 * the index instead would be as old as the last copy, and copying means reading and writing all of
 * it. An extended attribute of each data file would be one more file system call for each create and
 * rename, with no room for folders, and not on every file system.
 */
#define LOG_ROOM "store"

#include "store_private.h"

#include <fcntl.h>
#include <sys/stat.h>

#define PENDING_MAX_BYTES (16 * MIB)
#define REWRITE_BATCH 256
#define REWRITE_LEAST_BYTES (16 * MIB)
#define REWRITE_FACTOR 3
#define FILE_NEEDS_BYTES 512 /* about, per inode */
#define REWRITE_RETRY_MS 60000

/* ---- noting (index lock) --------------------------------------------------------------------- */

static void frame_add(struct buf *out, uint64_t number, const void *list, size_t len)
{
	uint8_t header[JOURNAL_HEADER_BYTES];
	journal_frame(header, WITNESS_EPOCH, number, list, len);
	buf_add(out, header, sizeof(header));
	buf_add(out, list, len);
}

void witness_note(struct store *s, uint64_t number, const void *list, size_t len)
{
	struct witness *w = &s->witness;
	lock_assert_held(&s->lock);
	if (len == 0)
		return;
	if (w->fd < 0 || w->pending.len + len > PENDING_MAX_BYTES)
		w->stale = true;
	else
		frame_add(&w->pending, number, list, len);
	if (buf_error(&w->pending) < 0) {
		buf_clear(&w->pending);
		w->stale = true;
	}
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Takes what is pending and where it goes. */
static void pending_take(struct store *s, struct buf *ret, uint64_t *ret_at)
{
	struct witness *w = &s->witness;
	lock_assert_held(&s->lock);
	*ret = w->pending;
	*ret_at = w->offset;
	w->offset += w->pending.len;
	w->pending = (struct buf){.max = PENDING_MAX_BYTES + MIB};
}

/* A hole that a failed write leaves is skipped by whoever reads. Index lock held. */
static void pending_failed(struct store *s, int error)
{
	s->witness.stale = true;
	disk_note(s, error, "the second record of names and checksums has a hole, and is written anew");
}

void witness_flush_locked(struct store *s)
{
	cleanup_buf struct buf pending = {0};
	uint64_t at;
	if (s->witness.fd < 0)
		return;
	pending_take(s, &pending, &at);
	int r = pending.len ? io_pwrite(s->witness.fd, pending.data, pending.len, at) : 0;
	if (r < 0)
		pending_failed(s, r);
}

/* Only the maintenance thread, or the only thread: nobody else replaces the file. */
void witness_flush(struct store *s)
{
	cleanup_buf struct buf pending = {0};
	uint64_t at;
	if (s->witness.fd < 0)
		return;
	lock_take(&s->lock);
	pending_take(s, &pending, &at);
	lock_drop(&s->lock);
	int r = pending.len ? io_pwrite(s->witness.fd, pending.data, pending.len, at) : 0;
	if (r == 0)
		return;
	with_lock(&s->lock);
	pending_failed(s, r);
}

static void add_header(struct store *s, struct buf *out)
{
	cleanup_buf struct buf list = {0};
	static const char *const names[] = {"identity", "format"};
	for (size_t i = 0; i < array_len(names); i++) {
		struct ikey k = ikey_text(names[i]);
		struct bytes v;
		if (index_get(&s->index, TABLE_META, &k, &v) == 0)
			op_list_put(&list, TABLE_META, (struct bytes){k.data, k.len}, v);
	}
	frame_add(out, 0, list.data, list.len);
}

/* ---- opening (only thread) ------------------------------------------------------------------- */

struct tail {
	uint64_t last_number;
	bool has_header;
	char *theirs;
	size_t size;
};

static int header_read(struct tail *t, const void *payload, size_t len)
{
	const uint8_t *at = payload;
	struct primitive p;
	while (len && op_list_next(&at, &len, &p) == 0) {
		if (p.key.len != 8 || memcmp(p.key.data, "identity", 8) != 0 ||
			p.value.len >= t->size)
			continue;
		memcpy(t->theirs, p.value.data, p.value.len);
		t->theirs[p.value.len] = '\0';
		t->has_header = true;
	}
	return -ECANCELED; /* the first record only */
}

static int first_each(void *user, uint64_t epoch, uint64_t number, const void *payload, size_t len)
{
	return epoch == WITNESS_EPOCH && number == 0 ? header_read(user, payload, len) : -ECANCELED;
}

static int tail_each(void *user, uint64_t epoch, uint64_t number, const void *payload, size_t len)
{
	struct tail *t = user;
	if (epoch == WITNESS_EPOCH && number > t->last_number)
		t->last_number = number;
	return 0;
}

int witness_identity(int fd, char theirs[], size_t size)
{
	struct tail t = {.theirs = theirs, .size = size};
	int r = journal_scan(fd, 0, first_each, &t); /* the first record that can be read */
	if (r < 0)
		return r;
	return t.has_header ? r : -ENOENT;
}

static int load(struct store *s, uint64_t size)
{
	struct tail t = {0};
	uint64_t offset, number = 0;
	int r = meta_get_u64(&s->index, "number", &number);
	if (r < 0)
		return r;
	s->witness.offset = size;
	if (number == 0 && size == 0) { /* a new cache */
		add_header(s, &s->witness.pending);
		return 0;
	}
	r = meta_get_u64(&s->index, WITNESS_BYTES_META, &offset);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT || offset > size || size == 0) {
		s->witness.stale = true;
		return 0;
	}
	s->witness.committed = offset;
	r = journal_scan(s->witness.fd, offset, tail_each, &t);
	s->witness.last_number = t.last_number;
	if (r > 0) {
		with_lock(&s->lock);
		pending_failed(s, -EIO);
	}
	return r < 0 ? r : 0;
}

/* A witness that cannot be had is no reason not to work: it is tried again later. */
int witness_open(struct store *s, char theirs[], size_t size)
{
	char ours[KEY_MAX_BYTES + 1024];
	struct stat st;
	s->witness.pending.max = PENDING_MAX_BYTES + MIB;
	int r = io_openat(
		s->dir_fd, "witness", O_RDWR | O_CREAT | O_NOFOLLOW, 0600, &s->witness.fd);
	if (r < 0 || fstat(s->witness.fd, &st) < 0) {
		with_lock(&s->lock);
		pending_failed(s, r < 0 ? r : -errno);
		return 0;
	}
	r = witness_identity(s->witness.fd, theirs, size);
	if (r > 0 || (r == -ENOENT && st.st_size > 0)) {
		with_lock(&s->lock);
		pending_failed(s, r > 0 ? -EIO : -EUCLEAN);
	}
	if (r >= 0)
		r = meta_get_text(&s->index, "identity", ours, sizeof(ours));
	if (r == 0 && strcmp(ours, theirs) != 0)
		return -EXDEV;
	return r < 0 && r != -ENOENT ? r : load(s, (uint64_t)st.st_size);
}

/* A record read back does not tell what changed: more is noted than live, and no harm done. */
static bool wants(const struct primitive *p)
{
	struct chunk_record c;
	if (p->table == TABLE_CHUNK)
		return p->kind == PRIMITIVE_PUT && chunk_decode(p->value, &c) == 0 && c.has_crc &&
		       !c.absent;
	return p->kind != PRIMITIVE_COUNT && (p->table == TABLE_INODE || op_is_witnessed(p->table));
}

int witness_replay(struct store *s, uint64_t number, const void *list, size_t len)
{
	cleanup_buf struct buf kept = {0};
	const uint8_t *at = list;
	if (number <= s->witness.last_number)
		return 0;
	while (len) {
		struct primitive p;
		size_t before = len;
		const uint8_t *begin = at;
		int r = op_list_next(&at, &len, &p);
		if (r < 0)
			return r;
		if (wants(&p))
			buf_add(&kept, begin, before - len);
	}
	witness_note(s, number, kept.data, kept.len);
	return buf_error(&kept);
}

int witness_opened(struct store *s, bool power_cut)
{
	uint64_t last = s->journal.next_number - 1;
	if (s->witness.last_number <= last)
		return 0;
	if (!power_cut)
		return -EUCLEAN;
	s->witness.stale = true; /* those numbers come again, for other operations */
	s->witness.offset = s->witness.committed;
	return io_truncate(s->witness.fd, s->witness.committed);
}

void witness_close(struct store *s)
{
	if (s->witness.fd >= 0)
		close(s->witness.fd);
	s->witness.fd = -1;
	buf_release(&s->witness.pending);
}

/* ---- writing it anew ------------------------------------------------------------------------- */

struct rewrite {
	struct store *store;
	int fd;
	uint64_t offset;
	struct buf out;
};

static int rewrite_out(struct rewrite *w)
{
	int r = buf_error(&w->out);
	if (r == 0)
		r = io_pwrite(w->fd, w->out.data, w->out.len, w->offset);
	w->offset += w->out.len;
	buf_clear(&w->out);
	return r;
}

static bool is_absent_chunk(enum table t, struct bytes value)
{
	struct chunk_record c;
	return t == TABLE_CHUNK && (chunk_decode(value, &c) < 0 || c.absent || !c.has_crc);
}

/* One batch of a table, as of the last record. Returns how many entries it had. */
static int rewrite_batch(struct rewrite *w, enum table t, struct ikey *after)
{
	struct store *s = w->store;
	cleanup_buf struct buf list = {0};
	with_lock(&s->lock);
	cleanup_cursor struct index_cursor c;
	int count = 0;
	int r = index_seek(&s->index, t, after, after->len > 0, &c);
	for (; r == 0 && count < REWRITE_BATCH; r = index_next(&c), count++) {
		if (!is_absent_chunk(t, c.value))
			op_list_put(&list, t, c.key, c.value);
		memcpy(after->data, c.key.data, c.key.len);
		after->len = c.key.len;
	}
	if (list.len)
		frame_add(&w->out, s->journal.next_number - 1, list.data, list.len);
	if (r < 0 && r != -ENOENT)
		return r;
	return buf_error(&list) < 0 ? buf_error(&list) : count;
}

static int rewrite_table(struct rewrite *w, enum table t)
{
	struct ikey after = {.len = 0};
	int count;
	do {
		count = rewrite_batch(w, t, &after);
		int r = rewrite_out(w);
		if (r < 0)
			return r;
	} while (count > 0);
	return count;
}

static int rewrite_tables(struct rewrite *w)
{
	static const enum table tables[] = {
		TABLE_INODE, TABLE_CHUNK, TABLE_XATTR, TABLE_SETTING, TABLE_JOB, TABLE_ATTEMPT};
	lock_take(&w->store->lock);
	add_header(w->store, &w->out);
	lock_drop(&w->store->lock);
	int r = rewrite_out(w);
	for (size_t i = 0; r == 0 && i < array_len(tables); i++)
		r = rewrite_table(w, tables[i]);
	return r;
}

/* What was noted while the tables were read stands in the old file from `from` on. */
static int rewrite_tail(struct rewrite *w, uint64_t from)
{
	struct witness *old = &w->store->witness;
	cleanup_free uint8_t *block = malloc(MIB);
	if (!block)
		return -ENOMEM;
	while (old->fd >= 0 && from < old->offset) {
		size_t want = old->offset - from < MIB ? (size_t)(old->offset - from) : MIB;
		ssize_t n = io_pread(old->fd, block, want, from);
		if (n <= 0)
			return n < 0 ? (int)n : 0;
		int r = io_pwrite(w->fd, block, (size_t)n, w->offset);
		if (r < 0)
			return r;
		w->offset += (uint64_t)n;
		from += (uint64_t)n;
	}
	return 0;
}

static int rewrite_swap(struct rewrite *w, uint64_t from)
{
	struct store *s = w->store;
	with_lock(&s->lock);
	witness_flush_locked(s);
	if (s->witness.stale)
		return -EIO; /* the tail has a hole */
	int r = rewrite_tail(w, from);
	if (r == 0 && renameat(s->dir_fd, "witness.new", s->dir_fd, "witness") < 0)
		r = -errno;
	if (r < 0)
		return r;
	if (s->witness.fd >= 0)
		close(s->witness.fd);
	s->witness.fd = steal_fd(&w->fd);
	s->witness.offset = w->offset;
	return 0;
}

static int rewrite_begin(struct rewrite *w, uint64_t *ret_from)
{
	struct store *s = w->store;
	int r = io_openat(
		s->dir_fd, "witness.new", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600, &w->fd);
	with_lock(&s->lock);
	if (r == 0 && s->witness.fd < 0) /* what is noted meanwhile must go somewhere */
		r = io_openat(
			s->dir_fd, "witness", O_RDWR | O_CREAT | O_NOFOLLOW, 0600, &s->witness.fd);
	s->witness.stale = false;
	*ret_from = s->witness.offset;
	return r;
}

static int rewrite(struct store *s)
{
	struct rewrite w = {.store = s, .fd = -1, .out = {.max = 64 * MIB}};
	uint64_t from;
	int r = rewrite_begin(&w, &from);
	if (r == 0)
		r = rewrite_tables(&w);
	if (r == 0)
		r = rewrite_swap(&w, from);
	buf_release(&w.out);
	if (w.fd >= 0)
		close(w.fd);
	if (r == 0)
		return store_checkpoint(s); /* which records how long it is */
	s->witness.stale = true;
	(void)unlinkat(s->dir_fd, "witness.new", 0); /* made again at the next try */
	return r;
}

static bool has_grown(struct store *s)
{
	MDB_stat stat = {0};
	with_lock(&s->lock);
	if (s->failed || s->witness.offset < REWRITE_LEAST_BYTES || !s->index.txn ||
		mdb_stat(s->index.txn, s->index.dbi[TABLE_INODE], &stat) != 0)
		return false;
	return s->witness.offset > REWRITE_FACTOR * FILE_NEEDS_BYTES * (uint64_t)stat.ms_entries;
}

void witness_tick(struct store *s)
{
	witness_flush(s);
	if (!s->witness.stale && !has_grown(s))
		return;
	if (s->failed || clock_mono_ms() < s->witness.retry_ms)
		return;
	s->witness.retry_ms = clock_mono_ms() + REWRITE_RETRY_MS;
	int r = rewrite(s);
	if (r < 0 && !s->witness.told)
		log_warn("the second record of names and checksums was not written (%s); will try again "
			 "every minute",
			strerror(-r));
	s->witness.told = r < 0;
}
