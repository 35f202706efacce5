/*
 * fs_ops - every request of the kernel, and where it is answered.
 *
 *   fs_attr.c     lookup getattr setattr statfs      fs_change.c   mknod mkdir unlink rmdir rename
 *   fs_open.c     open create flush release          fs_data.c     read write fsync fallocate lseek
 *   fs_list.c     opendir readdir readdirplus releasedir fsyncdir
 *   fs_xattr.c    getxattr setxattr listxattr removexattr
 *
 * Locks (fcntl, flock) and access checks are the kernel's own (default_permissions).
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#define BACKGROUND_MAX 256 /* reads ahead that may wait for the bucket at once */

/* ---- what we and the kernel agree on ---- */

static void want(struct fuse_conn_info *conn, uint64_t capability, bool on)
{
	if (on && (conn->capable & capability))
		conn->want |= (unsigned)capability;
	else if (!on)
		conn->want &= ~(unsigned)capability;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;

	want(conn, FUSE_CAP_ATOMIC_O_TRUNC, true);
	want(conn, FUSE_CAP_AUTO_INVAL_DATA, true);
	want(conn, FUSE_CAP_ASYNC_READ, true);
	want(conn, FUSE_CAP_ASYNC_DIO, true);
	want(conn, FUSE_CAP_PARALLEL_DIROPS, true);
	want(conn, FUSE_CAP_READDIRPLUS, true);
	/* With AUTO only a folder's first request is one of these: ls -l, which reads all names
	 * before it looks at the first, would then cost a lookup for each of the rest. */
	want(conn, FUSE_CAP_READDIRPLUS_AUTO, false);
	want(conn, FUSE_CAP_EXPORT_SUPPORT, true);
	want(conn, FUSE_CAP_WRITEBACK_CACHE, false);
	want(conn, FUSE_CAP_POSIX_ACL, false);
	want(conn, FUSE_CAP_POSIX_LOCKS, false);
	want(conn, FUSE_CAP_FLOCK_LOCKS, false);
	want(conn, FUSE_CAP_SPLICE_READ, false);
	want(conn, FUSE_CAP_SPLICE_WRITE, false);
	want(conn, FUSE_CAP_SPLICE_MOVE, false);
	/* The kernel clears suid and sgid by itself; with version 2 that is ours, and it stops
	 * asking for security.capability before each cached write. */
	want(conn, FUSE_CAP_HANDLE_KILLPRIV, false);
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
	want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2, true);
	fs->kills_privileges = conn->want & FUSE_CAP_HANDLE_KILLPRIV_V2;
#elif defined(FS_KILLPRIV_BY_HAND)
	fs->kills_privileges = fs_killpriv_agree(fs);
#endif
#ifdef FUSE_CAP_DIRECT_IO_ALLOW_MMAP
	want(conn, FUSE_CAP_DIRECT_IO_ALLOW_MMAP, true);
#endif
	fs_lend_init(fs, conn);
	conn->max_write = FS_MAX_WRITE_BYTES;
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
	conn->time_gran = 1;
	atomic_store(&fs->live, true);
}

/* ---- requests ---- */

static struct fs_call call_of(fuse_req_t req, int (*run)(struct fs_call *), uint64_t ino)
{
	return (struct fs_call){.fs = fuse_req_userdata(req), .req = req, .run = run, .ino = ino};
}

static void set_fi(struct fs_call *c, const struct fuse_file_info *fi)
{
	c->has_fi = fi != NULL;
	if (fi)
		c->fi = *fi;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_call c = call_of(req, fs_do_lookup, parent);

	c.name = name;
	fs_call_serve(&c);
}

static void forget(struct fs *fs, uint64_t ino, uint64_t nlookup)
{
	const struct fs_virtual *v = &fs->config.virtual;
	uint64_t virtual_id;

	if (fs_table_forget(fs->table, ino, nlookup, &virtual_id) && virtual_id && v->forget)
		v->forget(v->user, virtual_id);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	forget(fuse_req_userdata(req), ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget(fuse_req_userdata(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_getattr, ino);

	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_setattr, ino);

	c.attr = *attr;
	c.mask = to_set;
	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs_call c = call_of(req, fs_do_statfs, ino);

	fs_call_serve(&c);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fs_call c = call_of(req, fs_do_mknod, parent);

	(void)rdev;
	c.name = name;
	c.mode = mode;
	fs_call_serve(&c);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs_call c = call_of(req, fs_do_mkdir, parent);

	c.name = name;
	c.mode = mode;
	fs_call_serve(&c);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	struct fs_call c = call_of(req, fs_do_refuse_link, parent);

	(void)link;
	(void)name;
	fs_call_serve(&c);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fs_call c = call_of(req, fs_do_refuse_link, ino);

	(void)parent;
	(void)name;
	fs_call_serve(&c);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_call c = call_of(req, fs_do_unlink, parent);

	c.name = name;
	fs_call_serve(&c);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_call c = call_of(req, fs_do_rmdir, parent);

	c.name = name;
	fs_call_serve(&c);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned flags)
{
	struct fs_call c = call_of(req, fs_do_rename, parent);

	c.name = name;
	c.new_parent = new_parent;
	c.new_name = new_name;
	c.mask = (int)flags;
	fs_call_serve(&c);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_open, ino);

	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_create, parent);

	c.name = name;
	c.mode = mode;
	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_read, ino);

	c.size = size;
	c.off = off;
	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_write, ino);
	bool is_virtual = !((struct fs_file *)(uintptr_t)fi->fh)->store;

	c.data = data;
	c.size = size;
	c.off = off;
	set_fi(&c, fi);
	fs_call_serve(&c);
	if (is_virtual) /* its own thread has a copy, or the call has failed */
		fs_virtual_wipe(data, size);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_flush, ino);

	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_release, ino);

	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_fsync, ino);

	c.datasync = datasync;
	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t length,
	struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_fallocate, ino);

	c.mask = mode;
	c.off = off;
	c.length = length;
	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_lseek(
	fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_lseek, ino);

	c.off = off;
	c.mask = whence;
	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_opendir, ino);

	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void serve_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	const struct fuse_file_info *fi, bool plus)
{
	struct fs_call c = call_of(req, fs_do_readdir, ino);

	c.size = size;
	c.off = off;
	c.plus = plus;
	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	serve_readdir(req, ino, size, off, fi, false);
}

static void op_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	serve_readdir(req, ino, size, off, fi, true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_releasedir, ino);

	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs_call c = call_of(req, fs_do_fsyncdir, ino);

	c.datasync = datasync;
	set_fi(&c, fi);
	fs_call_serve(&c);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs_call c = call_of(req, fs_do_getxattr, ino);

	c.name = name;
	c.size = size;
	fs_call_serve(&c);
}

static void op_setxattr(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct fs_call c = call_of(req, fs_do_setxattr, ino);

	c.name = name;
	c.data = value;
	c.size = size;
	c.mask = flags;
	fs_call_serve(&c);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fs_call c = call_of(req, fs_do_listxattr, ino);

	c.size = size;
	fs_call_serve(&c);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fs_call c = call_of(req, fs_do_removexattr, ino);

	c.name = name;
	fs_call_serve(&c);
}

const struct fuse_lowlevel_ops fs_operations = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.statfs = op_statfs,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.getxattr = op_getxattr,
	.setxattr = op_setxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
};
