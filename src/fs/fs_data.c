/*
 * fs_data - the bytes of open files: reading, writing, truncating, fsync. A request for bytes that
 * are elsewhere, or for room, is parked and run again.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <fcntl.h>

#define NO_ROOM_SAID_AGAIN_MS 60000
#define TRIES_AT_ONCE 8 /* "it is here now" said again and again for the same request */

/* ---- waiting for chunks and room ---- */

static bool is_fetch_failed(const struct fs_call *c, uint64_t ino, uint64_t chunk)
{
	return c->waited_error < 0 && c->wait.kind == FS_WAIT_CHUNK && c->wait.ino == ino &&
	       c->wait.chunk == chunk;
}

static void say_not_fetched(struct fs *fs, uint64_t ino, int error)
{
	cleanup_buf struct buf path = {0}, shown = {0};

	if (store_path(fs->config.store, ino, &path) == 0)
		text_escape(&shown, buf_text(&path));
	log_warn("%s: its bytes cannot be fetched from the bucket (%s); the reader is told EIO",
		shown.len ? shown.data : "a file",
		error == -ESTALE ? "it was replaced or removed there" : strerror(-error));
}

/* Once a minute at most. */
static int say_no_room(struct fs_call *c, const char *why)
{
	int64_t now_ms = clock_mono_ms(), said_ms = atomic_load(&c->fs->no_room_said_ms);

	if ((!said_ms || now_ms - said_ms >= NO_ROOM_SAID_AGAIN_MS) &&
		atomic_compare_exchange_strong(&c->fs->no_room_said_ms, &said_ms, now_ms))
		log_warn("no room for a request: %s; its program is told ENOSPC; `cpgfs status` "
			 "says "
			 "what fills the cache",
			why);
	return -ENOSPC;
}

static int wait_for_chunk(struct fs_call *c, uint64_t ino, uint64_t chunk)
{
	int r = is_fetch_failed(c, ino, chunk) ? c->waited_error
					       : remote_fetch(c->fs->config.remote, ino, chunk);

	if (r == 0)
		return ++c->tries < TRIES_AT_ONCE ? FS_DONE : -EIO;
	if (r == -ENOSPC)
		return say_no_room(c,
			"what is read or changed must be fetched, and what fills the disk or "
			"the cache goes only with somebody's help");
	if (r != -EINPROGRESS) {
		say_not_fetched(c->fs, ino, r);
		return -EIO;
	}
	c->tries = 0; /* it comes, and may have gone again before it is read */
	c->wait = (struct fs_wait){.kind = FS_WAIT_CHUNK, .ino = ino, .chunk = chunk};
	return FS_PARK;
}

int fs_wait_for_data(struct fs_call *c, int error, uint64_t ino, uint64_t chunk)
{
	switch (error) {
	case -EREMOTE:
		return wait_for_chunk(c, ino, chunk);
	case -EDQUOT:
		if (c->impatient)
			return say_no_room(c, "it waited for --full-timeout");
		c->wait = (struct fs_wait){
			.kind = FS_WAIT_ROOM, .patience_ms = c->fs->config.full_timeout_ms};
		return FS_PARK;
	case -ENOSPC:
		return say_no_room(c,
			"the disk is full, the file alone is larger than the cache, or what "
			"fills the cache goes only with somebody's help");
	default:
		return error;
	}
}

/* ---- suid and sgid ---- */

int fs_drop_privileges(struct fs_call *c, uint64_t store_ino, const struct store_attr *attr)
{
	struct store_attr values = {.mode = attr->mode & ~(uint32_t)S_ISUID};
	const struct fuse_ctx *ctx = fuse_req_ctx(c->req);
	int r;

	if (ctx->uid == 0 || attr->type != STORE_FILE || !(attr->mode & (S_ISUID | S_ISGID)))
		return 0;
	if (attr->mode & S_IXGRP)
		values.mode &= ~(uint32_t)S_ISGID;
	if (values.mode == attr->mode)
		return 0;
	r = store_setattr(c->fs->config.store, store_ino, STORE_SET_MODE, &values, &values);
	if (r == 0)
		fs_notify_inode(c->fs->notify, store_ino); /* it keeps the mode over a write */
	return r;
}

int fs_drop_on_change(struct fs_call *c, struct fs_file *f)
{
	struct store_attr attr;

	if (!(store_file_mode(f->store) & (S_ISUID | S_ISGID)))
		return 0;
	store_file_attr(f->store, &attr);
	return fs_drop_privileges(c, f->store_ino, &attr);
}

/* ---- reading ---- */

/* A worker's own buffer: requests are answered before the next one is read. */
static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;

static void make_buffer_key(void)
{
	check(pthread_key_create(&buffer_key, free) == 0);
}

static char *worker_buffer(void)
{
	char *buffer;

	check(pthread_once(&buffer_once, make_buffer_key) == 0);
	buffer = pthread_getspecific(buffer_key);
	if (buffer)
		return buffer;
	buffer = malloc(FS_MAX_WRITE_BYTES);
	if (buffer && pthread_setspecific(buffer_key, buffer) != 0) {
		free(buffer);
		return NULL;
	}
	return buffer;
}

/* All that was asked for, up to the end of the file: the kernel takes less for the end. */
static ssize_t read_fully(
	struct fs_file *f, char *buffer, size_t size, uint64_t off, uint64_t *ret_chunk)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = store_file_read(
			f->store, buffer + done, size - done, off + done, ret_chunk);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int fs_do_read(struct fs_call *c)
{
	struct fs_file *f = fs_file_of(c);
	char *buffer;

	if (c->stream) /* an interrupt may have answered, and f be closed */
		return fs_virtual_read_stream(c);
	if (!f->store)
		return fs_virtual_read(c, f);
	buffer = worker_buffer();
	if (!buffer)
		return -ENOMEM;
	for (;;) {
		size_t size = c->size < FS_MAX_WRITE_BYTES ? c->size : FS_MAX_WRITE_BYTES;
		uint64_t chunk = 0;
		ssize_t n = read_fully(f, buffer, size, (uint64_t)c->off, &chunk);
		int r;

		if (n >= 0) {
			(void)fuse_reply_buf(c->req, buffer, (size_t)n);
			return FS_DONE;
		}
		r = fs_wait_for_data(c, (int)n, f->store_ino, chunk);
		if (r != FS_DONE)
			return r;
	}
}

/* ---- writing ---- */

void fs_write_failed(struct fs_call *c)
{
	struct fs_file *f = fs_file_of(c);

	if (f->store)
		store_file_write_failed(f->store);
}

/* The writer will be told an error that the store does not know of: the version lacks bytes. */
static int wait_to_write(struct fs_call *c, struct fs_file *f, int error, uint64_t chunk)
{
	bool ours = error == -EDQUOT || error == -EREMOTE;
	int r = fs_wait_for_data(c, error, f->store_ino, chunk);

	if (ours && r < 0)
		fs_write_failed(c);
	return r;
}

int fs_do_write(struct fs_call *c)
{
	struct fs_file *f = fs_file_of(c);
	bool append = (c->fi.flags & O_APPEND) && !c->fi.writepage;
	int r;

	if (!f->store)
		return fs_virtual_write(c, f);
	r = c->fi.writepage ? 0
			    : fs_drop_on_change(c, f); /* of a page it is not known whose it is */
	if (r < 0)
		return r;
	for (;;) {
		uint64_t chunk = 0;

		atomic_store(&f->changed, true);
		r = store_file_write(f->store, c->data, c->size, (uint64_t)c->off, append, &chunk);
		if (r == 0) {
			f->was_written = true;
			(void)fuse_reply_write(c->req, c->size);
			return FS_DONE;
		}
		r = wait_to_write(c, f, r, chunk);
		if (r != FS_DONE)
			return r;
	}
}

int fs_truncate_alone(struct store_file *f, uint64_t size_bytes, uint64_t *ret_chunk)
{
	struct store_attr before;
	int r;

	store_file_attr(f, &before);
	r = store_file_truncate(f, size_bytes, ret_chunk);
	if (r < 0 && before.state != FILE_OPEN && store_file_flush(f, true, NULL) < 0)
		log_debug("inode %llu: how its truncation ended is recorded later",
			(unsigned long long)before.ino);
	return r;
}

/* One complete version: no handle stands behind it. */
static int truncate_by_path(
	struct fs_call *c, uint64_t ino, uint64_t size_bytes, uint64_t *ret_chunk)
{
	struct store_file *f;
	int r = store_file_open(c->fs->config.store, ino, &f);

	if (r < 0)
		return r;
	store_file_writer_add(f);
	r = fs_truncate_alone(f, size_bytes, ret_chunk);
	if (r == 0)
		r = store_file_flush(f, false, NULL);
	store_file_writer_drop(f);
	store_file_close(f);
	return r;
}

static int empty_foreign(struct fs_call *c, struct fs_place *p)
{
	struct store_attr attr;
	uint64_t chunk = 0;
	bool is_new = false;
	int r = fs_foreign_replace(c, p, &attr, &is_new);

	if (r)
		return r;
	r = truncate_by_path(c, attr.ino, 0, &chunk);
	if (r < 0 && is_new)
		fs_foreign_unreplace(c, p, &attr);
	return r < 0 ? fs_wait_for_data(c, r, attr.ino, chunk) : r;
}

/* The object is a file of ours from then on, with the same content. */
static int take_over(struct fs_call *c, struct fs_place *p)
{
	struct store_attr attr;
	int r = fs_foreign_take_over(c, p, &attr);

	if (r)
		return r;
	p->kind = FS_STORE;
	p->attr = attr;
	return 0;
}

static int truncate_once(struct fs_call *c, struct fs_place *p, struct fs_file *file,
	uint64_t size_bytes, uint64_t *ret_chunk)
{
	if (!file || !file->store)
		return truncate_by_path(c, p->attr.ino, size_bytes, ret_chunk);
	atomic_store(&file->changed, true);
	return store_file_truncate(file->store, size_bytes, ret_chunk);
}

int fs_truncate(struct fs_call *c, struct fs_place *p, struct fs_file *file, uint64_t size_bytes)
{
	int r;

	if (p->kind == FS_BUCKET && size_bytes == 0)
		return empty_foreign(c, p);
	r = p->kind == FS_BUCKET ? take_over(c, p) : 0;
	if (r)
		return r;
	for (;;) {
		uint64_t chunk = 0;

		r = truncate_once(c, p, file, size_bytes, &chunk);
		if (r == 0)
			break;
		r = fs_wait_for_data(c, r, p->attr.ino, chunk);
		if (r != FS_DONE)
			return r;
	}
	return c->fs->kills_privileges ? fs_drop_privileges(c, p->attr.ino, &p->attr) : 0;
}

int fs_do_fallocate(struct fs_call *c)
{
	struct fs_file *f = fs_file_of(c);
	int r;

	if (!f->store)
		return -EOPNOTSUPP;
	r = fs_drop_on_change(c, f);
	if (r < 0)
		return r;
	for (;;) {
		uint64_t chunk = 0;

		atomic_store(&f->changed, true);
		r = store_file_fallocate(
			f->store, c->mask, (uint64_t)c->off, (uint64_t)c->length, &chunk);
		if (r == 0) {
			(void)fuse_reply_err(c->req, 0);
			return FS_DONE;
		}
		r = fs_wait_for_data(c, r, f->store_ino, chunk);
		if (r != FS_DONE)
			return r;
	}
}

int fs_do_lseek(struct fs_call *c)
{
	struct fs_file *f = fs_file_of(c);
	int64_t at;

	if (!f->store)
		return -EINVAL;
	at = store_file_seek(f->store, (uint64_t)c->off, c->mask);
	if (at < 0)
		return (int)at;
	(void)fuse_reply_lseek(c->req, (off_t)at);
	return FS_DONE;
}

int fs_do_fsync(struct fs_call *c)
{
	struct fs_file *f = fs_file_of(c);
	int r;

	if (!c->on_slow)
		return FS_DISK;
	r = f->store ? store_file_sync(f->store, c->datasync) : 0;
	if (r < 0)
		return r;
	(void)fuse_reply_err(c->req, 0);
	return FS_DONE;
}
