/*
 * fs_attr - lookup, attributes and the buffer's truth.
 *
 * The link count of a file tells where it is: 1 only here, 2 in the bucket too (0: removed, still
 * open). That of a folder is 1, which says "not known": find(1) takes a constant 2 for "no folders
 * inside" and would not descend.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <sys/statvfs.h>

#define STAT_BLOCK_BYTES 512

/*
 * How much programs write at a time if they ask (st_blksize; cp, stdio). Each write that comes here
 * is a round trip; one that the kernel does by itself is none, and then a buffer that stays in the
 * processor's cache counts: with 1 MiB `cp -r` into a lending mount took a third longer than with
 * 256 KiB.
 */
#define OUR_IO_BYTES ((blksize_t)MIB)
#define LENT_IO_BYTES ((blksize_t)(256 * KIB))

#define UNLIMITED_BYTES (1024 * TIB)
#define FILES_SHOWN UINT64_C(0xffffffff) /* no limit of ours */

static struct timespec to_timespec(int64_t ns)
{
	int64_t s = ns / NS_PER_S, rest = ns % NS_PER_S;

	if (rest < 0) {
		s--;
		rest += NS_PER_S;
	}
	return (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

static int64_t from_timespec(const struct timespec *t)
{
	int64_t ns;

	if (__builtin_mul_overflow((int64_t)t->tv_sec, NS_PER_S, &ns) ||
		__builtin_add_overflow(ns, (int64_t)t->tv_nsec, &ns))
		return t->tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

static nlink_t link_count(const struct store_attr *attr)
{
	if (attr->flags & STORE_FLAG_UNLINKED)
		return 0;
	if (attr->type == STORE_DIR)
		return 1;
	return attr->in_bucket ? 2 : 1;
}

/* While it is being written the index learns of the changes only at the close. */
static int64_t change_time(const struct store_attr *attr)
{
	bool is_open = attr->state == FILE_OPEN && attr->mtime_ns > attr->ctime_ns;

	return is_open ? attr->mtime_ns : attr->ctime_ns;
}

static blksize_t preferred_io(struct fs *fs)
{
	return atomic_load(&fs->lending) == FS_LENDING ? LENT_IO_BYTES : OUR_IO_BYTES;
}

void fs_stat_fill(struct fs *fs, const struct store_attr *attr, struct stat *ret)
{
	*ret = (struct stat){
		.st_ino = attr->ino,
		.st_mode = attr->mode,
		.st_nlink = link_count(attr),
		.st_uid = attr->uid,
		.st_gid = attr->gid,
		.st_size = (off_t)attr->size_bytes,
		.st_blksize = preferred_io(fs),
		.st_blocks =
			(blkcnt_t)((attr->size_bytes + STAT_BLOCK_BYTES - 1) / STAT_BLOCK_BYTES),
		.st_atim = to_timespec(attr->atime_ns),
		.st_mtim = to_timespec(attr->mtime_ns),
		.st_ctim = to_timespec(change_time(attr)),
	};
}

/* ---- entries ---- */

static bool is_counted(const struct fs_place *p)
{
	return p->kind == FS_BUCKET || p->kind == FS_VIRTUAL;
}

/* Fills an entry; what only the table knows is entered there first. Undone by fs_entry_undo(). */
int fs_entry_fill(struct fs *fs, const struct fs_place *p, struct fuse_entry_param *ret)
{
	int r;

	if (is_counted(p)) {
		struct fs_known known = {
			.kind = p->kind == FS_BUCKET ? FS_NODE_BUCKET : FS_NODE_VIRTUAL,
			.is_dir = p->attr.type == STORE_DIR,
			.size_bytes = p->attr.size_bytes,
			.mtime_ns = p->attr.mtime_ns,
			.virtual_id = p->virtual_id,
			.path = p->path,
		};

		r = fs_table_enter(fs->table, p->attr.ino, &known);
		if (r < 0)
			return r;
	}
	*ret = (struct fuse_entry_param){
		.ino = p->attr.ino,
		.attr_timeout = p->certain ? fs->timeout_s : 0,
		.entry_timeout = p->certain ? fs->timeout_s : 0,
	};
	fs_stat_fill(fs, &p->attr, &ret->attr);
	return 0;
}

void fs_entry_undo(struct fs *fs, const struct fs_place *p)
{
	uint64_t virtual_id;

	if (is_counted(p))
		(void)fs_table_forget(fs->table, p->attr.ino, 1, &virtual_id);
}

int fs_reply_place(struct fs_call *c, const struct fs_place *p)
{
	struct fuse_entry_param entry;
	int r = fs_entry_fill(c->fs, p, &entry);

	if (r < 0)
		return r;
	if (fuse_reply_entry(c->req, &entry) < 0)
		fs_entry_undo(c->fs, p);
	return FS_DONE;
}

int fs_reply_attr_of(struct fs_call *c, const struct store_attr *attr, bool certain)
{
	struct stat st;

	fs_stat_fill(c->fs, attr, &st);
	(void)fuse_reply_attr(c->req, &st, certain ? c->fs->timeout_s : 0);
	return FS_DONE;
}

/* ---- lookup ---- */

/* Something went from this folder: it may come back, without a word to the kernel (fs_notify.c). */
static bool may_come_back(struct fs *fs, struct fs_place *dir)
{
	char prefix[KEY_MAX_BYTES + 2];

	return fs_place_prefix(fs, dir, prefix) < 0 || fs_hidden_below(fs, prefix);
}

static int reply_absent(struct fs_call *c, struct fs_place *dir, bool certain)
{
	struct fuse_entry_param none = {.entry_timeout = c->fs->timeout_s};

	if (!certain || may_come_back(c->fs, dir))
		return -ENOENT; /* the kernel keeps nothing */
	(void)fuse_reply_entry(c->req, &none);
	return FS_DONE;
}

/* NFS asks for "." and ".." of what it holds only a handle of. */
static int lookup_dots(struct fs_call *c, struct fs_place *dir)
{
	cleanup_place struct fs_place up = {0};
	char *slash;
	int r;

	if (strcmp(c->name, ".") == 0)
		return fs_reply_place(c, dir);
	r = fs_place_path(c->fs, dir);
	if (r < 0)
		return r;
	slash = dir->path.len ? strrchr(dir->path.data, '/') : NULL;
	if (slash)
		*slash = '\0';
	r = fs_place_find_path(c->fs, slash ? dir->path.data : "", &up);
	return r < 0 ? r : fs_reply_place(c, &up);
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int lookup_in(struct fs_call *c, struct fs_place *dir)
{
	cleanup_place struct fs_place found = {0};
	bool certain;
	uint64_t listing = 0;
	int r;

	r = fs_lookup(c->fs, dir, c->name, fs_patience_of(c), &found, &certain, &listing);
	if (r == -EINPROGRESS)
		return fs_wait_for_listing(c, listing, fs_lookup_patience_ms(c->fs));
	if (r == -ENOENT)
		return reply_absent(c, dir, certain);
	return r < 0 ? r : fs_reply_place(c, &found);
}

int fs_do_lookup(struct fs_call *c)
{
	cleanup_place struct fs_place dir = {0};
	int r;

	if (c->ino == STORE_ROOT_INO && fs_virtual_exists(c->fs) &&
		strcmp(c->name, FS_NAME_VIRTUAL) == 0)
		return fs_virtual_lookup(c, 0);
	if (c->impatient)
		fs_set_impatient(c->fs, c->wait.listing);
	r = fs_place_find(c->fs, c->ino, &dir);
	if (r < 0)
		return r;
	if (is_dots(c->name))
		return lookup_dots(c, &dir);
	if (dir.attr.type != STORE_DIR)
		return -ENOTDIR;
	if (dir.kind == FS_VIRTUAL)
		return fs_virtual_lookup(c, dir.virtual_id);
	return lookup_in(c, &dir);
}

/* ---- getattr ---- */

/* Size and times of an object as the bucket shows them now, if that is known. */
static void refresh_object(struct fs *fs, struct fs_place *p)
{
	char folder[KEY_MAX_BYTES + 2];
	struct remote_entry entry;
	char *slash;

	if (!text_copy(folder, buf_text(&p->path), sizeof(folder)))
		return;
	slash = strrchr(folder, '/');
	if (slash)
		slash[1] = '\0';
	else
		folder[0] = '\0';
	p->certain = remote_lookup(fs->config.remote, folder, buf_text(&p->path) + strlen(folder),
			     true, &entry) == 0 &&
		     !entry.is_dir;
	if (!p->certain)
		return;
	p->attr.size_bytes = entry.object.size_bytes;
	if (!p->imported || entry.object.last_modified_ns > p->attr.ctime_ns)
		p->attr.mtime_ns = entry.object.last_modified_ns;
}

int fs_do_getattr(struct fs_call *c)
{
	struct fs_file *file = c->has_fi ? (struct fs_file *)(uintptr_t)c->fi.fh : NULL;
	cleanup_place struct fs_place p = {0};
	struct store_attr attr;
	int r;

	if (file && file->store) {
		store_file_attr(file->store, &attr);
		return fs_reply_attr_of(c, &attr, true);
	}
	r = fs_place_find(c->fs, c->ino, &p);
	if (r < 0)
		return r;
	if (p.kind == FS_VIRTUAL)
		return fs_virtual_getattr(c, &p);
	if (p.kind == FS_BUCKET && p.attr.type == STORE_FILE)
		refresh_object(c->fs, &p);
	return fs_reply_attr_of(c, &p.attr, p.certain);
}

/* ---- setattr ---- */

static int64_t time_wanted(bool now, const struct timespec *t)
{
	return now ? clock_wall_ns() : from_timespec(t);
}

/* What is to change beside the size. */
static uint32_t wanted(const struct fs_call *c, struct store_attr *values)
{
	uint32_t mask = 0;

	if (c->mask & FUSE_SET_ATTR_MODE) {
		values->mode = c->attr.st_mode;
		mask |= STORE_SET_MODE;
	}
	if (c->mask & FUSE_SET_ATTR_UID) {
		values->uid = c->attr.st_uid;
		mask |= STORE_SET_UID;
	}
	if (c->mask & FUSE_SET_ATTR_GID) {
		values->gid = c->attr.st_gid;
		mask |= STORE_SET_GID;
	}
	if (c->mask & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
		values->atime_ns = time_wanted(c->mask & FUSE_SET_ATTR_ATIME_NOW, &c->attr.st_atim);
		mask |= STORE_SET_ATIME;
	}
	if (c->mask & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
		values->mtime_ns = time_wanted(c->mask & FUSE_SET_ATTR_MTIME_NOW, &c->attr.st_mtim);
		mask |= STORE_SET_MTIME;
	}
	return mask;
}

/* A changed owner takes suid and sgid away from files (where the kernel leaves that to us). */
static void drop_on_chown(const struct fs_call *c, const struct store_attr *now,
	struct store_attr *values, uint32_t *mask)
{
	uint32_t mode = *mask & STORE_SET_MODE ? values->mode : now->mode;

	if (!c->fs->kills_privileges || !(*mask & (STORE_SET_UID | STORE_SET_GID)) ||
		now->type != STORE_FILE || (*mask & STORE_SET_MODE))
		return;
	mode &= ~(uint32_t)S_ISUID;
	if (mode & S_IXGRP)
		mode &= ~(uint32_t)S_ISGID;
	if (mode == now->mode)
		return;
	values->mode = mode;
	*mask |= STORE_SET_MODE;
}

static int set_others(struct fs_call *c, struct fs_place *p, struct store_attr *ret)
{
	struct store_attr values = {0};
	uint32_t mask = wanted(c, &values);

	*ret = p->attr;
	if (!mask)
		return 0;
	drop_on_chown(c, &p->attr, &values, &mask);
	return store_setattr(c->fs->config.store, p->attr.ino, mask, &values, ret);
}

/* Something of the bucket must be in the store to keep what was set. */
static int settle_in_store(struct fs_call *c, struct fs_place *p)
{
	struct store_attr attr;
	int r;

	if (p->kind == FS_STORE)
		return 0;
	if (p->attr.type == STORE_DIR)
		return fs_materialise(c->fs, p);
	r = fs_foreign_import(c->fs, p, &attr);
	return r;
}

static int set_size(struct fs_call *c, struct fs_place *p, struct fs_file *file)
{
	if (p->attr.type == STORE_DIR)
		return -EISDIR;
	return fs_truncate(c, p, file, (uint64_t)c->attr.st_size);
}

int fs_do_setattr(struct fs_call *c)
{
	struct fs_file *file = c->has_fi ? (struct fs_file *)(uintptr_t)c->fi.fh : NULL;
	cleanup_place struct fs_place p = {0};
	struct store_attr attr;
	int r = fs_place_find(c->fs, file && file->store ? file->store_ino : c->ino, &p);

	if (r < 0)
		return r;
	if (p.kind == FS_VIRTUAL)
		return fs_virtual_setattr(c, &p);
	if (c->mask & FUSE_SET_ATTR_SIZE) {
		r = set_size(c, &p, file);
		if (r != FS_DONE)
			return r;
		fs_place_release(&p); /* an object of the bucket is a file of ours now */
		r = fs_place_find(c->fs, file && file->store ? file->store_ino : c->ino, &p);
		if (r < 0)
			return r;
	}
	if (c->mask & ~FUSE_SET_ATTR_SIZE) {
		r = settle_in_store(c, &p);
		if (r < 0)
			return r;
	}
	r = set_others(c, &p, &attr);
	if (r < 0)
		return r;
	if (p.kind == FS_BUCKET) { /* sizes are the bucket's */
		attr.size_bytes = p.attr.size_bytes;
		attr.in_bucket = true;
	}
	if (file && file->store)
		store_file_attr(file->store, &attr);
	return fs_reply_attr_of(c, &attr, p.certain);
}

/* ---- statfs ---- */

int fs_do_statfs(struct fs_call *c)
{
	struct statvfs st = {
		.f_bsize = FS_BLOCK_BYTES,
		.f_frsize = FS_BLOCK_BYTES,
		.f_files = FILES_SHOWN,
		.f_ffree = FILES_SHOWN,
		.f_favail = FILES_SHOWN,
		.f_namemax = STORE_NAME_MAX,
	};
	struct store_space space;
	uint64_t size, used, available;

	store_space(c->fs->config.store, &space);
	size = c->fs->config.df_unlimited ? UNLIMITED_BYTES : space.size_bytes;
	used = space.used_bytes - (space.evictable_bytes < space.used_bytes ? space.evictable_bytes
									    : space.used_bytes);
	available = used < size ? size - used : 0;
	st.f_blocks = size / FS_BLOCK_BYTES;
	st.f_bfree = st.f_bavail = available / FS_BLOCK_BYTES;
	(void)fuse_reply_statfs(c->req, &st);
	return FS_DONE;
}
