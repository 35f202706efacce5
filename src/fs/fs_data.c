/*
 * fs_data - open files: reading, writing, and what a close says.
 *
 * A close is a FLUSH: it records the version before close(2) returns, and says whether the writer
 * was cut off. Handles that changed nothing since their last FLUSH say nothing, so that a reader's
 * or an idle writer's close does not declare another's half-written file complete. Pages of
 * MAP_SHARED mappings may come after the last FLUSH; the RELEASE then flushes again.
 *
 * Write-only handles are driven with direct I/O (no second copy in the page cache, no hidden
 * getxattr per write), all others through the page cache, unless handles of the other kind are open
 * (fs_table.h); what is written from its start may be lent to the kernel (fs_lend.c), and its FLUSH asks
 * the store what came. A request for bytes that are elsewhere, or for room, is parked and run again.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <fcntl.h>

#define NO_ROOM_SAID_AGAIN_MS 60000
#define TRIES_AT_ONCE 8 /* "it is here now" said again and again for the same request */

static struct fs_file *file_of(const struct fs_call *c)
{
	return (struct fs_file *)(uintptr_t)c->fi.fh;
}

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
		log_warn("no room for a request: %s; its program is told ENOSPC; `cpgfs status` says "
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
		return say_no_room(c, "what is read or changed must be fetched, and what fills the disk or "
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
		return say_no_room(c, "the disk is full, the file alone is larger than the cache, or what "
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

static int drop_on_change(struct fs_call *c, struct fs_file *f)
{
	struct store_attr attr;

	if (!(store_file_mode(f->store) & (S_ISUID | S_ISGID)))
		return 0;
	store_file_attr(f->store, &attr);
	return fs_drop_privileges(c, f->store_ino, &attr);
}

/* ---- opening and closing ---- */

static bool may_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

static void close_handle(struct fs *fs, struct fs_handle *h)
{
	fs_file_close(fs, (struct fs_file *)h);
}

struct fs_file *fs_file_new(struct fs *fs)
{
	struct fs_file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->handle.close = close_handle;
	fs_handle_add(fs, &f->handle);
	return f;
}

static void file_free(struct fs *fs, struct fs_file *f)
{
	fs_handle_remove(fs, &f->handle);
	buf_release(&f->content);
	fs_stream_unref(f->stream);
	free(f);
}

int fs_file_open(struct fs *fs, uint64_t store_ino, int flags, struct fs_file **ret)
{
	struct fs_file *f = fs_file_new(fs);
	int r;

	if (!f)
		return -ENOMEM;
	f->store_ino = store_ino;
	f->writer = may_write(flags);
	r = store_file_open(fs->config.store, store_ino, &f->store);
	if (r < 0) {
		f->store = NULL;
		file_free(fs, f);
		return r;
	}
	r = fs_table_open(fs->table, store_ino, (flags & O_ACCMODE) == O_WRONLY, &f->way,
		&f->backing_id);
	if (r < 0) {
		store_file_close(f->store);
		file_free(fs, f);
		return r;
	}
	if (f->writer)
		store_file_writer_add(f->store);
	if (f->way == FS_WAY_BESIDE)
		store_file_share(f->store, (flags & O_ACCMODE) == O_RDWR);
	*ret = f;
	return 0;
}

void fs_file_close(struct fs *fs, struct fs_file *f)
{
	if (f->store) {
		int backing_id;

		fs_table_close(fs->table, f->store_ino, f->way, &backing_id);
		if (backing_id)
			fs_lend_over(fs, f->store, backing_id);
		if (f->writer)
			store_file_writer_drop(f->store);
		store_file_close(f->store);
	}
	file_free(fs, f);
}

void fs_file_reply_flags(const struct fs_file *f, struct fuse_file_info *fi)
{
	fi->fh = (uint64_t)(uintptr_t)f;
	fi->direct_io = f->way == FS_WAY_DIRECT || f->way == FS_WAY_BESIDE || !f->store;
	fi->keep_cache = 0; /* direct writers may have been here */
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	fi->parallel_direct_writes = f->way == FS_WAY_DIRECT;
#endif
#ifdef FUSE_CAP_PASSTHROUGH
	if (f->way == FS_WAY_LENT || f->way == FS_WAY_BESIDE)
		fi->backing_id = f->backing_id;
#endif
}

/* What came to a lent file since its last FLUSH. */
static int look(struct fs_file *f)
{
	int r = f->way == FS_WAY_LENT ? store_file_look(f->store) : 0;

	if (r == 0)
		return 0;
	f->was_written = true;
	atomic_store(&f->changed, true);
	return r < 0 ? r : 0;
}

/* The last word about a version when no FLUSH brings it, or the FLUSH could not be recorded. */
static void flush_at_end(struct fs_file *f)
{
	bool unborn, cut_off;
	int r;

	if (!f->store || !f->writer)
		return;
	r = look(f);
	if (!atomic_load(&f->changed))
		return;
	unborn = f->is_new && !f->was_flushed && !f->was_written;
	cut_off = unborn || r < 0 || atomic_load(&f->cut_off);
	r = store_file_flush(f->store, cut_off,
		unborn ? "its writer ended before it wrote anything" : NULL);
	if (r == 0 && atomic_load(&f->cut_off))
		r = store_file_cut_off(f->store, "its writer was cut off");
	if (r < 0)
		log_error("inode %llu: its close could not be recorded: %s; it counts as cut off, "
			  "which is recorded as soon as the disk takes it",
			(unsigned long long)f->store_ino, strerror(-r));
}

/* The kernel took no handle: there will be no RELEASE. */
static void abandon(struct fs_call *c, struct fs_file *f)
{
	flush_at_end(f);
	fs_file_close(c->fs, f);
}

static int reply_open(struct fs_call *c, struct fs_file *f)
{
	struct fuse_file_info fi = c->fi;

	fs_file_reply_flags(f, &fi);
	if (fuse_reply_open(c->req, &fi) < 0)
		abandon(c, f);
	return FS_DONE;
}

static void mark_new(struct fs_file *f)
{
	f->is_new = true;
	atomic_store(&f->changed, true);
}

/* What to answer when O_TRUNC has to wait. */
static int wait_for_truncate(struct fs_call *c, struct fs_file *f, int error)
{
	uint64_t ino = f->store_ino;
	int r;

	fs_file_close(c->fs, f);
	r = fs_wait_for_data(c, error, ino, 0);
	return r == FS_DONE ? -EIO : r;
}

/* O_TRUNC, done by the open itself. */
static int truncate_at_open(struct fs_call *c, struct fs_file *f)
{
	uint64_t chunk = 0;
	int r;

	if (!(c->fi.flags & O_TRUNC))
		return 0;
	r = drop_on_change(c, f); /* of O_TRUNC the kernel leaves that to us */
	if (r == 0)
		r = store_file_truncate(f->store, 0, &chunk);
	if (r == 0)
		atomic_store(&f->changed, true);
	return r;
}

static int open_in_store(struct fs_call *c, uint64_t store_ino, bool is_new)
{
	struct fs_file *f;
	int r = fs_file_open(c->fs, store_ino, c->fi.flags, &f);

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	r = is_new ? 0 : truncate_at_open(c, f);
	if (r < 0)
		return wait_for_truncate(c, f, r);
	if (is_new)
		mark_new(f);
	fs_lend(c, f);
	return reply_open(c, f);
}

/* An object from elsewhere: read it, replace it whole, or change it in place if that is allowed. */
static int open_foreign(struct fs_call *c, struct fs_place *p)
{
	struct store_attr attr;
	bool is_new = false;
	int r;

	if (!may_write(c->fi.flags)) {
		r = fs_foreign_import(c->fs, p, &attr);
		return r < 0 ? r : open_in_store(c, attr.ino, false);
	}
	if (c->fi.flags & O_TRUNC)
		r = fs_foreign_replace(c, p, &attr, &is_new);
	else
		r = fs_foreign_take_over(c, p, &attr);
	if (r)
		return r;
	r = open_in_store(c, attr.ino, is_new);
	if (r < 0 && is_new)
		fs_foreign_unreplace(c, p, &attr);
	return r;
}

int fs_do_open(struct fs_call *c)
{
	cleanup_place struct fs_place p = {0};
	int r = fs_place_find(c->fs, c->ino, &p);

	if (r < 0)
		return r;
	if (p.attr.type == STORE_DIR)
		return -EISDIR;
	switch (p.kind) {
	case FS_VIRTUAL:
		return fs_virtual_open(c, &p);
	case FS_BUCKET:
		return open_foreign(c, &p);
	case FS_STORE:
		break;
	}
	return open_in_store(c, p.attr.ino, false);
}

static int reply_create(struct fs_call *c, struct fs_file *f, const struct store_attr *attr)
{
	struct fs_place p = {.kind = FS_STORE, .attr = *attr, .certain = true};
	struct fuse_file_info fi = c->fi;
	struct fuse_entry_param entry;

	fs_file_reply_flags(f, &fi);
	store_file_attr(f->store, &p.attr);
	(void)fs_entry_fill(c->fs, &p, &entry); /* cannot fail for the store's */
	if (fuse_reply_create(c->req, &entry, &fi) < 0)
		abandon(c, f);
	return FS_DONE;
}

/* Somebody was faster: without O_EXCL that one is opened. */
static int create_existing(struct fs_call *c, struct fs_place *dir, struct store_attr *attr)
{
	if (c->fi.flags & O_EXCL)
		return -EEXIST;
	if (dir->kind != FS_STORE)
		return -EEXIST;
	return store_lookup(c->fs->config.store, dir->attr.ino, c->name, attr);
}

int fs_do_create(struct fs_call *c)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(c->req);
	struct fs_make what = {.name = c->name,
		.type = STORE_FILE,
		.mode = c->mode & 07777,
		.uid = ctx->uid,
		.gid = ctx->gid};
	cleanup_place struct fs_place dir = {0};
	struct store_attr attr = {0};
	struct fs_file *f;
	bool is_new = true;
	int r = fs_place_find_dir(c->fs, c->ino, &dir);

	if (r == 0)
		r = fs_make(c->fs, &dir, &what, &attr);
	if (r == -EEXIST) {
		r = create_existing(c, &dir, &attr);
		is_new = false;
	}
	if (r < 0)
		return r;
	if (attr.type == STORE_DIR)
		return -EISDIR;
	r = fs_file_open(c->fs, attr.ino, c->fi.flags, &f);
	if (r < 0)
		return r;
	r = is_new ? 0 : truncate_at_open(c, f);
	if (r < 0)
		return wait_for_truncate(c, f, r);
	if (is_new)
		mark_new(f);
	fs_lend(c, f);
	return reply_create(c, f, &attr);
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
	struct fs_file *f = file_of(c);
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
	struct fs_file *f = file_of(c);

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
	struct fs_file *f = file_of(c);
	bool append = (c->fi.flags & O_APPEND) && !c->fi.writepage;
	int r;

	if (!f->store)
		return fs_virtual_write(c, f);
	r = c->fi.writepage ? 0 : drop_on_change(c, f); /* of a page it is not known whose it is */
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

/* One complete version: no handle stands behind it. */
static int truncate_by_path(
	struct fs_call *c, uint64_t ino, uint64_t size_bytes, uint64_t *ret_chunk)
{
	struct store_file *f;
	int r = store_file_open(c->fs->config.store, ino, &f);

	if (r < 0)
		return r;
	store_file_writer_add(f);
	r = store_file_truncate(f, size_bytes, ret_chunk);
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
	struct fs_file *f = file_of(c);
	int r;

	if (!f->store)
		return -EOPNOTSUPP;
	r = drop_on_change(c, f);
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
	struct fs_file *f = file_of(c);
	int64_t at;

	if (!f->store)
		return -EINVAL;
	at = store_file_seek(f->store, (uint64_t)c->off, c->mask);
	if (at < 0)
		return (int)at;
	(void)fuse_reply_lseek(c->req, (off_t)at);
	return FS_DONE;
}

/* ---- closing ---- */

/* Did the task that closes die of a signal? *reason is for people. */
static bool is_cut_off(struct fs_call *c, char *reason, size_t size)
{
	int signal;

	switch (fs_writer_ending(fuse_req_ctx(c->req)->pid, &signal)) {
	case FS_ENDING_KILLED:
		snprintf(reason, size, "its writer was killed by signal %d (%s)", signal,
			strsignal(signal));
		return true;
	case FS_ENDING_ABRUPT:
		log_info("inode %llu: its writer ended abruptly; taken as complete",
			(unsigned long long)c->ino);
		return false;
	case FS_ENDING_NORMAL:
		break;
	}
	return false;
}

/* What it wrote may be a version that another's close has closed already. */
static int flush_cut_off(struct fs_file *f, const char *reason)
{
	struct store_attr attr;
	int r;

	store_file_attr(f->store, &attr);
	atomic_store(&f->cut_off_generation, attr.generation);
	r = store_file_flush(f->store, true, reason);
	return r < 0 ? r : store_file_cut_off(f->store, reason);
}

/* A child that was killed held a copy of the handle: it was cut off, but the owner now closes in
 * order what nobody changed since. */
static int flush(struct fs_call *c, struct fs_file *f)
{
	bool was_cut_off = atomic_load(&f->cut_off), changed, cut_off;
	char reason[128] = "";
	int r = look(f);

	if (r < 0)
		return r;
	changed = atomic_exchange(&f->changed, false);
	f->was_flushed = true;
	if (!changed && !was_cut_off)
		return 0;
	cut_off = is_cut_off(c, reason, sizeof(reason));
	atomic_store(&f->cut_off, cut_off);
	if (!changed)
		return cut_off ? 0
			       : store_file_cut_off_undo(
					 f->store, atomic_load(&f->cut_off_generation));
	r = cut_off ? flush_cut_off(f, reason) : store_file_flush(f->store, false, NULL);
	if (r < 0)
		atomic_store(&f->changed, true); /* nothing was recorded */
	if (r == 0 && f->way == FS_WAY_LENT)
		r = drop_on_change(c, f);
	return r;
}

int fs_do_flush(struct fs_call *c)
{
	struct fs_file *f = file_of(c);
	int r = 0;

	if (f->store && f->writer) {
		if (c->fs->config.close_syncs && !c->on_slow)
			return FS_DISK;
		r = flush(c, f);
	}
	if (r < 0)
		return r;
	(void)fuse_reply_err(c->req, 0);
	return FS_DONE;
}

int fs_do_release(struct fs_call *c)
{
	struct fs_file *f = file_of(c);

	flush_at_end(f);
	fs_file_close(c->fs, f);
	(void)fuse_reply_err(c->req, 0);
	return FS_DONE;
}

int fs_do_fsync(struct fs_call *c)
{
	struct fs_file *f = file_of(c);
	int r;

	if (!c->on_slow)
		return FS_DISK;
	r = f->store ? store_file_sync(f->store, c->datasync) : 0;
	if (r < 0)
		return r;
	(void)fuse_reply_err(c->req, 0);
	return FS_DONE;
}
