/*
 * bench_passthrough - the least a FUSE daemon can do: hand every request on to a folder below.
 *
 *   bench_passthrough SOURCE MOUNTPOINT [direct|kernel]
 *
 * What a mount costs before it does anything of its own. Runs in the foreground; with `direct`
 * write-only handles bypass the kernel's page cache (FOPEN_DIRECT_IO), as cpgfs has it; with `kernel`
 * the kernel reads and writes what is created by itself (needs root, Linux 6.9 and libfuse 3.17).
 * Only what the benchmarks call is there: no rename, no links, no attributes changed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int direct_writes;
static int kernel_writes;

/* An inode number is the address of its node; nodes stay until the end. */
struct node {
	int fd;
};
static struct node root;

static int fd_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? root.fd : ((struct node *)ino)->fd;
}

static int look(fuse_ino_t parent, const char *name, struct fuse_entry_param *ret)
{
	int fd = openat(fd_of(parent), name, O_PATH | O_NOFOLLOW);
	if (fd < 0)
		return errno;
	struct node *node = malloc(sizeof(*node));
	*ret = (struct fuse_entry_param){ .attr_timeout = 1, .entry_timeout = 1, .ino = (fuse_ino_t)node };
	if (!node || fstatat(fd, "", &ret->attr, AT_EMPTY_PATH) < 0) {
		int error = node ? errno : ENOMEM;
		close(fd);
		free(node);
		return error;
	}
	node->fd = fd;
	return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry;
	int error = look(parent, name, &entry);
	if (error)
		fuse_reply_err(req, error);
	else
		fuse_reply_entry(req, &entry);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	(void)nlookup;
	/* every lookup has a node of its own, used by one kernel inode */
	close(((struct node *)ino)->fd);
	free((struct node *)ino);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	struct stat st;
	if (fstatat(fd_of(ino), "", &st, AT_EMPTY_PATH) < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_attr(req, &st, 1);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	if (mkdirat(fd_of(parent), name, mode) < 0)
		fuse_reply_err(req, errno);
	else
		op_lookup(req, parent, name);
}

static void set_mode(struct fuse_file_info *fi)
{
	fi->direct_io = direct_writes && (fi->flags & O_ACCMODE) == O_WRONLY;
}

#ifdef FUSE_CAP_PASSTHROUGH

static int backing_ids[1 << 16]; /* by descriptor */

static void op_init(void *user, struct fuse_conn_info *conn)
{
	(void)user;
	if (kernel_writes)
		conn->want |= conn->capable & (FUSE_CAP_PASSTHROUGH | FUSE_CAP_HANDLE_KILLPRIV_V2);
}

static void lend(fuse_req_t req, struct fuse_file_info *fi)
{
	if (kernel_writes && fi->fh < sizeof(backing_ids) / sizeof(*backing_ids))
		fi->backing_id = backing_ids[fi->fh] = fuse_passthrough_open(req, (int)fi->fh);
}

static void take_back(fuse_req_t req, int fd)
{
	if (!kernel_writes || fd >= (int)(sizeof(backing_ids) / sizeof(*backing_ids)) || !backing_ids[fd])
		return;
	fuse_passthrough_close(req, backing_ids[fd]);
	backing_ids[fd] = 0;
}

#else

static void op_init(void *user, struct fuse_conn_info *conn)
{
	(void)user;
	(void)conn;
}

static void lend(fuse_req_t req, struct fuse_file_info *fi)
{
	(void)req;
	(void)fi;
}

static void take_back(fuse_req_t req, int fd)
{
	(void)req;
	(void)fd;
}

#endif

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_entry_param entry;
	int fd = openat(fd_of(parent), name, (fi->flags | O_CREAT) & ~O_NOFOLLOW, mode);
	int error = fd < 0 ? errno : look(parent, name, &entry);
	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	fi->fh = (uint64_t)fd;
	set_mode(fi);
	lend(req, fi);
	fuse_reply_create(req, &entry, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd_of(ino));
	int fd = open(path, fi->flags & ~O_NOFOLLOW);
	if (fd < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	fi->fh = (uint64_t)fd;
	set_mode(fi);
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
	(void)ino;
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);
	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = (int)fi->fh;
	buf.buf[0].pos = at;
	fuse_reply_data(req, &buf, 0);
}

static void op_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in, off_t at, struct fuse_file_info *fi)
{
	(void)ino;
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	out.buf[0].fd = (int)fi->fh;
	out.buf[0].pos = at;
	ssize_t n = fuse_buf_copy(&out, in, 0);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	take_back(req, (int)fi->fh);
	close((int)fi->fh);
	fuse_reply_err(req, 0);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
	(void)fi;
	char *buf = malloc(size);
	int fd = openat(fd_of(ino), ".", O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	size_t used = 0;
	if (dir && buf) {
		seekdir(dir, at);
		for (struct dirent *d; (d = readdir(dir));) {
			struct stat st = { .st_ino = d->d_ino, .st_mode = (mode_t)d->d_type << 12 };
			size_t n = fuse_add_direntry(req, buf + used, size - used, d->d_name, &st, d->d_off);
			if (n > size - used)
				break;
			used += n;
		}
	}
	if (dir && buf)
		fuse_reply_buf(req, buf, used);
	else
		fuse_reply_err(req, errno);
	if (dir)
		closedir(dir);
	free(buf);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.getattr = op_getattr,
	.mkdir = op_mkdir,
	.create = op_create,
	.open = op_open,
	.read = op_read,
	.write_buf = op_write_buf,
	.release = op_release,
	.readdir = op_readdir,
};

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: bench_passthrough SOURCE MOUNTPOINT [direct|kernel]\n");
		return 2;
	}
	direct_writes = argc > 3 && !strcmp(argv[3], "direct");
	kernel_writes = argc > 3 && !strcmp(argv[3], "kernel");
	root.fd = open(argv[1], O_PATH | O_DIRECTORY);
	if (root.fd < 0) {
		perror(argv[1]);
		return 1;
	}
	umask(0);
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_session *session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (!session || fuse_set_signal_handlers(session) < 0 || fuse_session_mount(session, argv[2]) < 0)
		return 1;
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r = config ? fuse_session_loop_mt(session, config) : -1;
	fuse_loop_cfg_destroy(config);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	return r ? 1 : 0;
}
