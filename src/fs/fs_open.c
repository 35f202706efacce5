/*
 * fs_open - handles: opening and creating files, and what a close says.
 *
 * A close is a FLUSH: it records the version before close(2) returns, and says whether the writer
 * was cut off. Handles that changed nothing since their last FLUSH say nothing, so that a reader's
 * or an idle writer's close does not declare another's half-written file complete. Pages of
 * MAP_SHARED mappings may come after the last FLUSH; the RELEASE then flushes again.
 *
 * Write-only handles are driven with direct I/O (no second copy in the page cache, no hidden
 * getxattr per write), all others through the page cache, unless handles of the other kind are open
 * (fs_table.h); what is written from its start may be lent to the kernel (fs_lend.c), and its FLUSH
 * asks the store what came.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <fcntl.h>

/* ---- handles ---- */

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
	r = fs_table_open(
		fs->table, store_ino, (flags & O_ACCMODE) == O_WRONLY, &f->way, &f->backing_id);
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
	r = store_file_flush(
		f->store, cut_off, unborn ? "its writer ended before it wrote anything" : NULL);
	if (r == 0 && atomic_load(&f->cut_off))
		r = store_file_cut_off(f->store, "its writer was cut off");
	if (r < 0)
		log_error("inode %llu: its close could not be recorded: %s; it counts as cut off, "
			  "which is recorded as soon as the disk takes it",
			(unsigned long long)f->store_ino, strerror(-r));
}

/* ---- opening ---- */

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
	r = fs_drop_on_change(c, f); /* of O_TRUNC the kernel leaves that to us */
	if (r == 0)
		r = fs_truncate_alone(f->store, 0, &chunk); /* the kernel gets no handle if it fails */
	if (r == 0)
		atomic_store(&f->changed, true);
	return r;
}

/* As it was asked for. 0: it can be answered; else what to answer instead, and the handle is gone. */
static int make_ready(struct fs_call *c, struct fs_file *f, bool is_new)
{
	int r = is_new ? 0 : truncate_at_open(c, f);

	if (r < 0)
		return wait_for_truncate(c, f, r);
	if (is_new)
		mark_new(f);
	fs_lend(c, f);
	return 0;
}

static int open_in_store(struct fs_call *c, uint64_t store_ino, bool is_new)
{
	struct fs_file *f;
	int r = fs_file_open(c->fs, store_ino, c->fi.flags, &f);

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	r = make_ready(c, f, is_new);
	return r ? r : reply_open(c, f);
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

/* Not by its name, but by `cpgfs discard`, while somebody has it open: the kernel does not know that, and
 * may keep the name for a moment. (What a program removed has a path: where it was.) */
static bool was_discarded(struct fs *fs, const struct store_attr *attr)
{
	cleanup_buf struct buf path = {0};

	return (attr->flags & STORE_FLAG_UNLINKED) &&
	       store_path(fs->config.store, attr->ino, &path) == 0 && path.len == 0;
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
	if (may_write(c->fi.flags) && was_discarded(c->fs, &p.attr))
		return -ESTALE; /* the kernel looks the name up again */
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
	r = make_ready(c, f, is_new);
	return r ? r : reply_create(c, f, &attr);
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
		r = fs_drop_on_change(c, f);
	return r;
}

int fs_do_flush(struct fs_call *c)
{
	struct fs_file *f = fs_file_of(c);
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
	struct fs_file *f = fs_file_of(c);

	flush_at_end(f);
	fs_file_close(c->fs, f);
	(void)fuse_reply_err(c->req, 0);
	return FS_DONE;
}
