/*
 * store_files - the files in use: one struct store_file per inode, its descriptor and chunk bits.
 */
#define LOG_ROOM "store"

#include "store_private.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

bool bit_test(const uint8_t *bits, uint64_t n)
{
	return n < STORE_CHUNKS_MAX && bits && (bits[n / 8] >> (n % 8) & 1);
}

void bit_set(uint8_t *bits, uint64_t n, bool value)
{
	if (value)
		bits[n / 8] |= (uint8_t)(1u << (n % 8));
	else
		bits[n / 8] &= (uint8_t)~(1u << (n % 8));
}

void data_path(uint64_t ino, char out[64])
{
	snprintf(out, 64, "data/%02x/%016" PRIx64, (unsigned)(ino & 0xff), ino);
}

/* ---- the table (index lock) ----------------------------------------------------------------------------- */

static struct store_file **bucket_of(struct store *s, uint64_t ino)
{
	return &s->files[(ino * UINT64_C(0x9e3779b97f4a7c15)) >> 52 & (FILE_BUCKETS - 1)];
}

struct store_file *file_find_held(struct store *s, uint64_t ino)
{
	lock_assert_held(&s->lock);
	for (struct store_file *f = *bucket_of(s, ino); f; f = f->next)
		if (f->ino == ino)
			return f;
	return NULL;
}

static void file_free(struct store_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	heat_free(f);
	free(f->leaving);
	free(f->filling);
	free(f->recorded);
	free(f->absent);
	cond_release(&f->idle);
	lock_release_storage(&f->lock);
	free(f);
}

static int load_chunks(struct store *s, struct store_file *f)
{
	struct ikey from = ikey_chunk(f->ino, 0);
	cleanup_cursor struct index_cursor c;
	int r = index_seek(&s->index, TABLE_CHUNK, &from, false, &c);
	for (; r == 0 && c.key.len == 12 && get_be64(c.key.data) == f->ino; r = index_next(&c)) {
		struct chunk_record chunk;
		uint64_t n = get_be32((const uint8_t *)c.key.data + 8);
		r = n < STORE_CHUNKS_MAX ? chunk_decode(c.value, &chunk) : -EUCLEAN;
		if (r < 0)
			return r;
		bit_set(f->recorded, n, chunk.has_crc || chunk.part_attempt);
		bit_set(f->absent, n, chunk.absent);
		f->absent_count += chunk.absent;
		f->has_filled = f->has_filled || chunk.filled;
	}
	return r == -ENOENT ? 0 : r;
}

static int file_load(struct store *s, uint64_t ino, struct store_file **ret)
{
	struct record r;
	int e = record_get(s, ino, &r);
	if (e < 0)
		return e;
	if (r.i.attr.type != STORE_FILE)
		return -EISDIR;
	struct store_file *f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	lock_init(&f->lock, RANK_STORE_FILE, "store file");
	cond_init(&f->idle);
	f->store = s;
	f->ino = ino;
	f->fd = -1;
	f->dirty = r.i.attr.state == FILE_OPEN;
	f->is_stranded = r.i.attr.flags & STORE_FLAG_STRANDED;
	f->read_at_ms = clock_mono_ms();
	f->part_size_bytes = r.i.part_size_bytes;
	f->generation = r.i.attr.generation;
	atomic_store(&f->size_bytes, r.i.attr.size_bytes);
	atomic_store(&f->mtime_ns, r.i.attr.mtime_ns);
	atomic_store(&f->is_dirty_hint, f->dirty);
	atomic_store(&f->mode, r.i.attr.mode);
	f->recorded = calloc(1, STORE_CHUNKS_MAX / 8 + 1);
	f->absent = calloc(1, STORE_CHUNKS_MAX / 8 + 1);
	e = f->recorded && f->absent ? load_chunks(s, f) : -ENOMEM;
	if (e < 0) {
		file_free(f);
		return e;
	}
	*ret = f;
	return 0;
}

static int file_get_locked(struct store *s, uint64_t ino, struct store_file **ret)
{
	struct store_file *f = file_find_held(s, ino);
	if (!f) {
		int r = file_load(s, ino, &f);
		if (r < 0)
			return r;
		struct store_file **bucket = bucket_of(s, ino);
		f->next = *bucket;
		*bucket = f;
	}
	f->refs++;
	*ret = f;
	return 0;
}

int file_get(struct store *s, uint64_t ino, struct store_file **ret)
{
	with_lock(&s->lock);
	return file_get_locked(s, ino, ret);
}

static void file_unhook(struct store *s, struct store_file *f)
{
	struct store_file **at = bucket_of(s, f->ino);
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
}

/* Nobody uses it any more: what only memory knew of an open version goes into its record; an
 * unlinked one that has nothing to follow in the bucket goes for good. */
static void file_last_put(struct store *s, struct store_file *f, bool *ret_purge)
{
	struct record old;
	if (record_get(s, f->ino, &old) < 0)
		return;
	bool unlinked = old.i.attr.flags & STORE_FLAG_UNLINKED;
	op_begin(s);
	if (unlinked && old.i.attr.state == FILE_NONE && !old.attempts_open) {
		op_purge(s, &old);
		*ret_purge = op_commit(s) == 0;
	} else if (f->dirty && old.i.attr.size_bytes != atomic_load(&f->size_bytes)) {
		struct record new = old;
		new.i.attr.size_bytes = atomic_load(&f->size_bytes);
		new.i.attr.mtime_ns = atomic_load(&f->mtime_ns);
		new.present_bytes = file_present_bytes(f);
		op_inode(s, &old, &new);
		if (op_commit(s) < 0)
			return; /* the data file knows the size: recovery takes it from there */
	}
}

void file_put(struct store_file *f)
{
	struct store *s = f->store;
	struct news news = { 0 };
	bool purge = false;
	uint64_t ino = f->ino, growth = 0;
	store_enter(s);
	bool last = --f->refs == 0;
	if (last) {
		file_last_put(s, f, &purge);
		file_unhook(s, f);
		heat_unlist(s, f);
		growth = f->growth_bytes;
	}
	store_leave(s, &news);
	if (last)
		file_free(f);
	if (last)
		space_give(s, ino, growth);
	if (purge) {
		purge_data(s, ino);
		space_wake(s);
		news.room_freed = true;
	}
	news_fire(s, &news);
}

int store_file_open(struct store *s, uint64_t ino, struct store_file **ret)
{
	with_lock(&s->lock);
	int r = file_get_locked(s, ino, ret);
	if (r == 0)
		(*ret)->handles++;
	return r;
}

void store_file_close(struct store_file *f)
{
	lock_take(&f->store->lock);
	check(f->handles > 0);
	f->handles--;
	lock_drop(&f->store->lock);
	file_put(f);
}

bool store_has_writers(struct store *s, uint64_t ino)
{
	with_lock(&s->lock);
	struct store_file *f = file_find_held(s, ino);
	return f && atomic_load(&f->writers) > 0;
}

/* ---- the data file (f->lock) ------------------------------------------------------------------------------ */

uint64_t file_present_bytes(struct store_file *f)
{
	uint64_t size = atomic_load(&f->size_bytes);
	if (f->absent_count == 0)
		return size;
	uint64_t present = 0, count = chunk_count_of(f->part_size_bytes, size);
	for (uint64_t n = 0; n < count; n++) {
		uint64_t start = chunk_start(f->part_size_bytes, n);
		uint64_t len = chunk_size(f->part_size_bytes, n);
		if (!bit_test(f->absent, n))
			present += size - start < len ? size - start : len;
	}
	return present;
}

bool file_range_present(struct store_file *f, uint64_t off, uint64_t len, uint64_t *ret_chunk)
{
	uint64_t size = atomic_load(&f->size_bytes);
	if (f->absent_count == 0 || off >= size || len == 0)
		return true;
	uint64_t end = len < size - off ? off + len : size;
	uint64_t last = chunk_of(f->part_size_bytes, end - 1);
	for (uint64_t n = chunk_of(f->part_size_bytes, off); n <= last; n++) {
		if (bit_test(f->absent, n)) {
			*ret_chunk = n;
			return false;
		}
	}
	return true;
}

/* What comes for chunks of before is not wanted any more. */
void fills_forget(struct store_file *f)
{
	lock_assert_held(&f->lock);
	if (f->filling)
		memset(f->filling, 0, STORE_CHUNKS_MAX / 8 + 1);
}

/* Must the data file exist with all its bytes? */
static bool data_expected(struct store_file *f)
{
	uint64_t size = atomic_load(&f->size_bytes);
	return size > 0 && f->absent_count < chunk_count_of(f->part_size_bytes, size);
}

static int data_check_size(struct store_file *f, int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENODATA;
	f->is_sparse = f->is_sparse || st.st_blocks * 512 < st.st_size;
	return (uint64_t)st.st_size >= atomic_load(&f->size_bytes) ? 0 : -ENODATA;
}

/* A data file with bytes stands where that of a new file is to be: the index is older than it (it was put
 * back from a copy). Nobody's bytes are kept, and never show through the holes of another file. */
static int set_aside(struct store_file *f, const char *path)
{
	struct store *s = f->store;
	struct stat st;
	char to[64];
	if (f->generation != 1 || fstatat(s->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		st.st_size == 0)
		return 0;
	snprintf(to, sizeof(to), "orphans/%016" PRIx64 ".%" PRId64, f->ino, clock_wall_ns());
	if ((mkdirat(s->dir_fd, "orphans", 0700) < 0 && errno != EEXIST) ||
		renameat(s->dir_fd, path, s->dir_fd, to) < 0)
		return -errno;
	log_warn("%s/%s: bytes that the index knows nothing of were in the way of a new file, and are "
		 "kept there",
		s->dir, to);
	return 1;
}

/* The data file of a file without bytes, which has none yet: 1. 0: it has one. */
static int make_new(struct store_file *f, const char *path)
{
	int r;
	do
		r = io_openat(f->store->dir_fd, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600,
			&f->fd);
	while (r == -EEXIST && (r = set_aside(f, path)) > 0);
	f->is_new_data = f->is_new_data || f->fd >= 0;
	return r == 0 && f->fd >= 0 ? 1 : r;
}

int file_fd(struct store_file *f, bool make)
{
	lock_assert_held(&f->lock);
	if (f->fd >= 0)
		return 0;
	char path[64];
	data_path(f->ino, path);
	cleanup_fd int fd = -1;
	bool expected = data_expected(f);
	int r = 0;
	if (make && atomic_load(&f->size_bytes) == 0 && !f->is_stranded) /* the usual one: a new file */
		r = make_new(f, path);
	if (r != 0)
		return r < 0 ? r : 0;
	r = io_openat(f->store->dir_fd, path, (f->is_stranded ? O_RDONLY : O_RDWR) | O_NOFOLLOW, 0, &fd);
	if (r == 0 && expected)
		r = data_check_size(f, fd);
	if (r == -ENOENT && expected)
		return -ENODATA;
	if (r == -ENOENT && make && !f->is_stranded) {
		r = io_openat(f->store->dir_fd, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600, &fd);
		if (r == 0 && atomic_load(&f->size_bytes) > 0)
			r = io_truncate(fd, atomic_load(&f->size_bytes));
		f->is_new_data = true;
	}
	if (r < 0)
		return r;
	f->fd = steal_fd(&fd);
	return 0;
}

static void mark_all_absent(struct store_file *f)
{
	struct chunk_record absent = { .absent = true };
	uint64_t count = chunk_count_of(f->part_size_bytes, atomic_load(&f->size_bytes));
	for (uint64_t n = 0; n < count; n++) {
		op_chunk(f->store, f->ino, n, &absent);
		bit_set(f->absent, n, true);
		bit_set(f->recorded, n, false);
	}
	fills_forget(f);
	f->absent_count = count;
}

/* Can all of this version be fetched from the bucket? */
static bool can_be_fetched(const struct record *r)
{
	const struct store_inode *i = &r->i;
	enum file_state state = i->attr.state;
	if (i->attr.flags & STORE_FLAG_FOREIGN)
		return true;
	return (state == FILE_UPLOADED || state == FILE_VERIFIED || state == FILE_MOVING) &&
		i->object.key[0] && i->object.generation == i->attr.generation;
}

int file_mark_lost(struct store_file *f, struct news *news)
{
	struct store *s = f->store;
	struct record old;
	lock_assert_held(&f->lock);
	store_enter(s);
	int r = record_get(s, f->ino, &old);
	if (r == 0 && (old.i.attr.flags & STORE_FLAG_UNLINKED))
		r = -EIO; /* no file any more: nothing to show */
	if (r == 0) {
		struct record new = old;
		bool fetch = can_be_fetched(&old);
		op_begin(s);
		if (fetch) {
			new.present_bytes = 0;
			mark_all_absent(f);
		} else {
			new.i.attr.size_bytes = atomic_load(&f->size_bytes);
			record_enter(&new, FILE_LOST);
			(void)text_copy(new.i.reason, /* it fits */
				"its data file in the cache directory is missing or too short",
				sizeof(new.i.reason));
		}
		op_inode(s, &old, &new);
		r = op_commit(s);
		if (r == 0)
			r = fetch ? -EREMOTE : -EIO;
	}
	store_leave(s, news);
	return r;
}

int store_file_fd(struct store_file *f)
{
	with_lock(&f->lock);
	int r = file_fd(f, false);
	f->fd_is_lent = true;
	return r < 0 ? r : f->fd;
}

bool store_file_has(struct store_file *f, uint64_t off, uint64_t len, uint64_t *ret_chunk)
{
	with_lock(&f->lock);
	return file_range_present(f, off, len, ret_chunk);
}

uint32_t store_file_mode(struct store_file *f)
{
	return atomic_load(&f->mode);
}

void store_file_attr(struct store_file *f, struct store_attr *ret)
{
	struct store_attr attr = { .ino = f->ino };
	if (store_attr(f->store, f->ino, &attr) < 0) { /* its record is gone: memory is what there is */
		attr.size_bytes = atomic_load(&f->size_bytes);
		attr.mtime_ns = atomic_load(&f->mtime_ns);
		attr.type = STORE_FILE;
		attr.mode = S_IFREG | 0600;
	}
	*ret = attr;
}

/*
 * The data file ended early. With writes under way (an append is counted before its bytes are there)
 * that is where the file ends for now; otherwise bytes are missing, unless a change came in between.
 * Never zeros.
 */
static ssize_t read_short(struct store_file *f, void *data, size_t len, uint64_t off, ssize_t n,
	uint64_t *ret_chunk, struct news *news)
{
	with_lock(&f->lock);
	uint64_t size = atomic_load(&f->size_bytes);
	if (f->in_flight || off >= size || atomic_load(&f->is_lent))
		return n;
	if (len > size - off)
		len = size - off;
	n = io_pread(f->fd, data, len, off);
	if (n < 0 || (size_t)n == len)
		return n;
	*ret_chunk = chunk_of(f->part_size_bytes, off);
	return f->dirty ? -EIO : file_mark_lost(f, news); /* its writer's close says it */
}

static void note_reader(struct store_file *f, uint64_t off)
{
	f->read_chunk = chunk_of(f->part_size_bytes, off);
	f->read_at_ms = clock_mono_ms();
}

/* The kernel may try again, or keep the error from the program: what it reads ahead. */
static void note_unread(struct store_file *f, int error)
{
	if (error >= 0 || error == -ENODATA || error == -ENOENT)
		return;
	with_lock(&f->store->lock);
	disk_note(f->store, error, "bytes could not be read, and the reader was told so");
}

static ssize_t read_once(
	struct store_file *f, void *data, size_t len, uint64_t off, uint64_t *ret_chunk)
{
	struct news news = { 0 };
	lock_take(&f->lock);
	lent_look(f);
	uint64_t size = atomic_load(&f->size_bytes);
	int fd = -1, r = 0;
	if (off >= size)
		len = 0;
	else if (len > size - off)
		len = size - off;
	if (len)
		note_reader(f, off);
	if (len && !file_range_present(f, off, len, ret_chunk))
		r = -EREMOTE;
	if (len && r == 0) {
		r = file_fd(f, false);
		note_unread(f, r);
	}
	fd = f->fd;
	if (r == -ENODATA || (r == -ENOENT && data_expected(f))) {
		r = file_mark_lost(f, &news);
		*ret_chunk = chunk_of(f->part_size_bytes, off);
	}
	lock_drop(&f->lock);
	news_fire(f->store, &news);
	news = (struct news){ 0 };
	if (r == -ENOENT) { /* nothing was written yet: all of it is a hole */
		memset(data, 0, len);
		return (ssize_t)len;
	}
	if (r < 0 || len == 0)
		return r;
	ssize_t n = io_pread(fd, data, len, off);
	note_unread(f, (int)n);
	if (n >= 0 && (size_t)n < len)
		n = read_short(f, data, len, off, n, ret_chunk, &news);
	news_fire(f->store, &news);
	return n;
}

/* Bytes that went while they were read may have been read as zeros: the next look sees them absent. */
ssize_t store_file_read(
	struct store_file *f, void *data, size_t len, uint64_t off, uint64_t *ret_chunk)
{
	for (;;) {
		unsigned evictions = atomic_load(&f->evictions);
		ssize_t n = read_once(f, data, len, off, ret_chunk);
		if (n <= 0 || atomic_load(&f->evictions) == evictions)
			return n;
	}
}

static int64_t seek_once(struct store_file *f, uint64_t off, int whence)
{
	lock_take(&f->lock);
	uint64_t size = atomic_load(&f->size_bytes);
	int r = f->absent_count ? -EREMOTE : file_fd(f, false);
	int fd = f->fd;
	lock_drop(&f->lock);
	if (off >= size)
		return -ENXIO;
	if (r < 0) /* not all here: one piece of data */
		return whence == SEEK_DATA ? (int64_t)off : (int64_t)size;
	off_t at = lseek(fd, (off_t)off, whence);
	if (at < 0)
		return -errno;
	return (uint64_t)at > size ? (int64_t)size : at;
}

/* What goes meanwhile is no hole. */
int64_t store_file_seek(struct store_file *f, uint64_t off, int whence)
{
	for (;;) {
		unsigned evictions = atomic_load(&f->evictions);
		int64_t at = seek_once(f, off, whence);
		if (atomic_load(&f->evictions) == evictions)
			return at;
	}
}
