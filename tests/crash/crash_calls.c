/*
 * crash_calls - the libc calls that the shim stands in for: by the names under which programs,
 * LMDB, libcurl and libfuse call them (the 64-bit and the fortified ones, too).
 *
 * What changes the folder by a way that is not seen here would be missing from the record; the
 * driver notices, for it compares a rebuilt folder with the real one.
 */
#undef _FILE_OFFSET_BITS /* the names as they are; those ending in 64 are given below */
#include "crash_shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS_MAX 65536
#define DSYNC_BIT 0x80u

static unsigned char kinds[FDS_MAX]; /* enum crash_kind and DSYNC_BIT, by descriptor */

static enum crash_kind kind_of(int fd)
{
	return fd >= 0 && fd < FDS_MAX && crash_is_on() ? kinds[fd] & ~DSYNC_BIT : KIND_NONE;
}

static void kind_set(int fd, unsigned char kind)
{
	if (fd >= 0 && fd < FDS_MAX)
		kinds[fd] = kind;
}

static void kind_copy(int from, int to)
{
	if (to >= 0 && crash_is_on())
		kind_set(to, from >= 0 && from < FDS_MAX ? kinds[from] & ~DSYNC_BIT : KIND_NONE);
}

static _Bool is_file(enum crash_kind kind)
{
	return kind >= KIND_DATA && kind <= KIND_OTHER;
}

/* The next one of that name: libc's, or a sanitizer's. */
#define REAL(name)                                                                                 \
	({                                                                                         \
		static __typeof__(&name) real_;                                                    \
		if (!real_ && !(real_ = (__typeof__(&name))dlsym(RTLD_NEXT, #name)))               \
			abort();                                                                   \
		real_;                                                                             \
	})

static int fails(const struct crash_step *step)
{
	crash_end(step);
	errno = step->error;
	return -1;
}

static uint64_t file_number(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

static const char *file_name(int fd, char room[64])
{
	static const char *const names[] = {
		"", "data", "journal", "index", "other", "folder", "socket"};

	snprintf(room, 64, "%s (descriptor %d)", names[kind_of(fd)], fd);
	return room;
}

/* ---- writing ---- */

static ssize_t plain_write(int fd, const void *data, size_t len, off_t off)
{
	return off < 0 ? REAL(write)(fd, data, len) : REAL(pwrite)(fd, data, len, off);
}

/* off -1: where the descriptor stands. */
static ssize_t file_write(const char *call, int fd, const void *data, size_t len, off_t off)
{
	char room[64];
	struct crash_step step = crash_begin(
		crash_class_of(kind_of(fd)), call, file_name(fd, room), (uint64_t)off, len);
	ssize_t n;

	if (step.what == STEP_FAIL)
		return fails(&step);
	n = plain_write(fd, data, step.what == STEP_HALF && len > 1 ? len / 2 : len, off);
	if (n > 0 && crash_is_recording()) {
		off_t at = off < 0 ? lseek(fd, 0, SEEK_CUR) - n : off;
		struct crash_entry e = {.op = CRASH_OP_WRITE,
			.flags = kinds[fd] & DSYNC_BIT ? CRASH_FLAG_DSYNC : 0,
			.file = file_number(fd),
			.off = (uint64_t)at,
			.len = (uint64_t)n};

		crash_record(&e, NULL, data);
	}
	crash_end(&step);
	return n;
}

static ssize_t socket_send(int fd, const void *data, size_t len, int flags)
{
	char room[64];
	struct crash_step step = crash_begin(CRASH_REQUEST, "send", file_name(fd, room), 0, len);
	ssize_t n;

	if (step.what == STEP_FAIL)
		return fails(&step);
	n = REAL(send)(fd, data, step.what == STEP_HALF && len > 1 ? len / 2 : len, flags);
	crash_end(&step);
	return n;
}

ssize_t write(int fd, const void *data, size_t len)
{
	if (is_file(kind_of(fd)))
		return file_write("write", fd, data, len, -1);
	if (kind_of(fd) == KIND_SOCKET)
		return socket_send(fd, data, len, MSG_NOSIGNAL);
	return REAL(write)(fd, data, len);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t off)
{
	return is_file(kind_of(fd)) ? file_write("pwrite", fd, data, len, off)
				    : REAL(pwrite)(fd, data, len, off);
}

static ssize_t gather(const char *call, int fd, const struct iovec *parts, int count, off_t off)
{
	size_t len = 0, at = 0;
	char *flat;
	ssize_t n;

	for (int i = 0; i < count; i++)
		len += parts[i].iov_len;
	if (!(flat = malloc(len + 1)))
		return errno = ENOMEM, -1;
	for (int i = 0; i < count; at += parts[i++].iov_len)
		memcpy(flat + at, parts[i].iov_base, parts[i].iov_len);
	if (kind_of(fd) == KIND_SOCKET)
		n = socket_send(fd, flat, len, MSG_NOSIGNAL);
	else
		n = file_write(call, fd, flat, len, off);
	free(flat);
	return n;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
	return kind_of(fd) != KIND_NONE ? gather("writev", fd, parts, count, -1)
					: REAL(writev)(fd, parts, count);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t off)
{
	return is_file(kind_of(fd)) ? gather("pwritev", fd, parts, count, off)
				    : REAL(pwritev)(fd, parts, count, off);
}

static int file_size(
	const char *call, int fd, const struct crash_entry *entry, int (*real)(void *), void *user)
{
	char room[64];
	struct crash_step step = crash_begin(
		crash_class_of(kind_of(fd)), call, file_name(fd, room), entry->off, entry->len);
	struct crash_entry e = *entry;
	int r;

	if (step.what == STEP_FAIL)
		return fails(&step);
	r = real(user);
	e.file = file_number(fd);
	if (r == 0)
		crash_record(&e, NULL, NULL);
	crash_end(&step);
	return r;
}

struct size_call {
	int fd, mode;
	off_t off, len;
};

static int call_ftruncate(void *user)
{
	const struct size_call *c = user;

	return REAL(ftruncate)(c->fd, c->len);
}

static int call_fallocate(void *user)
{
	const struct size_call *c = user;

	return REAL(fallocate)(c->fd, c->mode, c->off, c->len);
}

int ftruncate(int fd, off_t len)
{
	struct size_call c = {.fd = fd, .len = len};
	struct crash_entry e = {.op = CRASH_OP_TRUNCATE, .len = (uint64_t)len};

	return is_file(kind_of(fd)) ? file_size("ftruncate", fd, &e, call_ftruncate, &c)
				    : call_ftruncate(&c);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	struct size_call c = {.fd = fd, .mode = mode, .off = off, .len = len};
	struct crash_entry e = {.op = CRASH_OP_ALLOCATE,
		.flags = (uint8_t)mode,
		.off = (uint64_t)off,
		.len = (uint64_t)len};

	return is_file(kind_of(fd)) ? file_size("fallocate", fd, &e, call_fallocate, &c)
				    : call_fallocate(&c);
}

/* ---- syncing ---- */

static int sync_call(const char *call, int fd, int (*real)(int), enum crash_op op)
{
	char room[64], dir[PATH_MAX];
	const char *path = NULL;
	struct crash_step step = crash_begin(CRASH_SYNC, call, file_name(fd, room), 0, 0);
	int r;

	if (step.what == STEP_FAIL)
		return fails(&step);
	r = real(fd);
	if (r == 0 && crash_is_recording()) {
		struct crash_entry e = {.op = (uint8_t)op, .file = file_number(fd)};

		if (op == CRASH_OP_SYNC && kind_of(fd) == KIND_DIR) {
			e.op = CRASH_OP_SYNC_DIR;
			path = crash_below_at(fd, "", dir, sizeof(dir));
		}
		crash_record(&e, path, NULL);
	}
	crash_end(&step);
	return r;
}

#define COUNTS(fd) (kind_of(fd) != KIND_NONE && kind_of(fd) != KIND_SOCKET)

int fsync(int fd)
{
	return COUNTS(fd) ? sync_call("fsync", fd, REAL(fsync), CRASH_OP_SYNC) : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	return COUNTS(fd) ? sync_call("fdatasync", fd, REAL(fdatasync), CRASH_OP_SYNC)
			  : REAL(fdatasync)(fd);
}

int syncfs(int fd)
{
	return COUNTS(fd) ? sync_call("syncfs", fd, REAL(syncfs), CRASH_OP_SYNC_ALL)
			  : REAL(syncfs)(fd);
}

/* ---- names ---- */

/* 256 like each other: three of them tell as much. */
static _Bool is_one_of_many(const char *below)
{
	return strlen(below) == 7 && strncmp(below, "data/", 5) == 0 &&
	       !strstr("00 80 ff", below + 5);
}

static int opened(const char *below, int fd, int flags, _Bool is_new)
{
	struct crash_entry e = {.op = CRASH_OP_CREATE, .file = file_number(fd)};
	unsigned char kind = crash_kind_of_path(below);
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		kind = KIND_DIR;
	kind_set(fd, kind | ((flags & O_DSYNC) ? DSYNC_BIT : 0));
	if (is_new)
		crash_record(&e, below, NULL);
	e.op = CRASH_OP_TRUNCATE;
	if (!is_new && (flags & O_TRUNC) && kind != KIND_DIR)
		crash_record(&e, NULL, NULL);
	return fd;
}

static int open_call(int dir_fd, const char *path, int flags, mode_t mode)
{
	char room[PATH_MAX];
	const char *below, *boot_id = crash_boot_id_path();
	struct stat st;
	int fd;

	if (boot_id && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
		path = boot_id;
	below = crash_below_at(dir_fd, path, room, sizeof(room));
	if (!below) {
		fd = REAL(openat)(dir_fd, path, flags, mode);
		kind_set(fd, KIND_NONE);
		return fd;
	}
	_Bool is_new = (flags & O_CREAT) && fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0;
	struct crash_step step = {.what = STEP_PASS};
	if (is_new || !is_one_of_many(below))
		step = crash_begin(is_new ? CRASH_NAME : CRASH_OPEN, "open", below, 0, 0);
	if (step.what == STEP_FAIL)
		return fails(&step);
	fd = REAL(openat)(dir_fd, path, flags, mode);
	if (fd >= 0)
		fd = opened(below, fd, flags, is_new);
	crash_end(&step);
	return fd;
}

#define MODE_OF(flags)                                                                             \
	({                                                                                         \
		mode_t mode_ = 0;                                                                  \
		if ((flags) & (O_CREAT | O_TMPFILE)) {                                             \
			va_list args_;                                                             \
			va_start(args_, flags);                                                    \
			mode_ = va_arg(args_, mode_t);                                             \
			va_end(args_);                                                             \
		}                                                                                  \
		mode_;                                                                             \
	})

int openat(int dir_fd, const char *path, int flags, ...)
{
	return open_call(dir_fd, path, flags, MODE_OF(flags));
}

int open(const char *path, int flags, ...)
{
	return open_call(AT_FDCWD, path, flags, MODE_OF(flags));
}

int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
	return open_call(AT_FDCWD, path, flags, 0);
}

int __openat_2(int dir_fd, const char *path, int flags);
int __openat_2(int dir_fd, const char *path, int flags)
{
	return open_call(dir_fd, path, flags, 0);
}

/* One name changes. real does it; a NULL real only counts. */
struct name_call {
	int (*real)(const struct name_call *c);
	int dir_fd, to_fd;
	const char *path, *to;
	unsigned flags;
	mode_t mode;
};

static int name_change(const char *call, const struct name_call *c, enum crash_op op)
{
	char room[2 * PATH_MAX], other[PATH_MAX];
	const char *below = crash_below_at(c->dir_fd, c->path, room, PATH_MAX), *to = NULL;
	struct crash_step step = {.what = STEP_PASS};
	struct crash_entry e = {.op = (uint8_t)op};
	char *both = room;
	int r;

	if (!below)
		return c->real(c);
	if (op != CRASH_OP_MKDIR || !is_one_of_many(below))
		step = crash_begin(CRASH_NAME, call, below, 0, 0);
	if (step.what == STEP_FAIL)
		return fails(&step);
	r = c->real(c);
	if (r == 0 && c->to) {
		to = crash_below_at(c->to_fd, c->to, other, sizeof(other));
		both = (char *)below + strlen(below) + 1;
		snprintf(both, (size_t)(room + sizeof(room) - both), "%s", to ? to : "");
	}
	if (r == 0)
		crash_record(&e, below, NULL);
	crash_end(&step);
	return r;
}

static int real_mkdirat(const struct name_call *c)
{
	return REAL(mkdirat)(c->dir_fd, c->path, c->mode);
}

static int real_unlinkat(const struct name_call *c)
{
	return REAL(unlinkat)(c->dir_fd, c->path, (int)c->flags);
}

static int real_renameat2(const struct name_call *c)
{
	return c->flags ? REAL(renameat2)(c->dir_fd, c->path, c->to_fd, c->to, c->flags)
			: REAL(renameat)(c->dir_fd, c->path, c->to_fd, c->to);
}

int mkdirat(int dir_fd, const char *path, mode_t mode)
{
	struct name_call c = {.real = real_mkdirat, .dir_fd = dir_fd, .path = path, .mode = mode};

	return name_change("mkdir", &c, CRASH_OP_MKDIR);
}

int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

int unlinkat(int dir_fd, const char *path, int flags)
{
	struct name_call c = {
		.real = real_unlinkat, .dir_fd = dir_fd, .path = path, .flags = (unsigned)flags};

	return name_change("unlink", &c, CRASH_OP_UNLINK);
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int renameat2(int dir_fd, const char *path, int to_fd, const char *to, unsigned flags)
{
	struct name_call c = {.real = real_renameat2,
		.dir_fd = dir_fd,
		.to_fd = to_fd,
		.path = path,
		.to = to,
		.flags = flags};

	return name_change("rename", &c, CRASH_OP_RENAME);
}

int renameat(int dir_fd, const char *path, int to_fd, const char *to)
{
	return renameat2(dir_fd, path, to_fd, to, 0);
}

int rename(const char *path, const char *to)
{
	return renameat2(AT_FDCWD, path, AT_FDCWD, to, 0);
}

/* ---- reading ---- */

static ssize_t plain_read(int fd, void *data, size_t len, off_t off)
{
	return off < 0 ? REAL(read)(fd, data, len) : REAL(pread)(fd, data, len, off);
}

static ssize_t file_read(int fd, void *data, size_t len, off_t off)
{
	char room[64];
	struct crash_step step =
		crash_begin(CRASH_READ, "read", file_name(fd, room), (uint64_t)off, len);
	ssize_t n;

	if (step.what == STEP_FAIL)
		return fails(&step);
	n = plain_read(fd, data, step.what == STEP_HALF && len > 1 ? len / 2 : len, off);
	crash_end(&step);
	return n;
}

/* Only what came is a reply. */
static ssize_t received(int fd, ssize_t n)
{
	char room[64];
	struct crash_step step;

	if (n <= 0 || kind_of(fd) != KIND_SOCKET)
		return n;
	step = crash_begin(CRASH_REPLY, "recv", file_name(fd, room), 0, (uint64_t)n);
	crash_end(&step);
	return n;
}

ssize_t read(int fd, void *data, size_t len)
{
	if (is_file(kind_of(fd)))
		return file_read(fd, data, len, -1);
	return received(fd, REAL(read)(fd, data, len));
}

ssize_t pread(int fd, void *data, size_t len, off_t off)
{
	return is_file(kind_of(fd)) ? file_read(fd, data, len, off)
				    : REAL(pread)(fd, data, len, off);
}

ssize_t __read_chk(int fd, void *data, size_t len, size_t room);
ssize_t __read_chk(int fd, void *data, size_t len, size_t room)
{
	return len <= room ? read(fd, data, len) : (abort(), -1);
}

ssize_t __pread_chk(int fd, void *data, size_t len, off_t off, size_t room);
ssize_t __pread_chk(int fd, void *data, size_t len, off_t off, size_t room)
{
	return len <= room ? pread(fd, data, len, off) : (abort(), -1);
}

/* ---- the network ---- */

int connect(int fd, const struct sockaddr *address, socklen_t len)
{
	if (crash_is_on() && (address->sa_family == AF_INET || address->sa_family == AF_INET6))
		kind_set(fd, KIND_SOCKET);
	return REAL(connect)(fd, address, len);
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
	return kind_of(fd) == KIND_SOCKET ? socket_send(fd, data, len, flags)
					  : REAL(send)(fd, data, len, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (kind_of(fd) == KIND_SOCKET)
		return gather("sendmsg", fd, message->msg_iov, (int)message->msg_iovlen, -1);
	return REAL(sendmsg)(fd, message, flags);
}

ssize_t recv(int fd, void *data, size_t len, int flags)
{
	ssize_t n = REAL(recv)(fd, data, len, flags);

	return flags & MSG_PEEK ? n : received(fd, n);
}

ssize_t __recv_chk(int fd, void *data, size_t len, size_t room, int flags);
ssize_t __recv_chk(int fd, void *data, size_t len, size_t room, int flags)
{
	return len <= room ? recv(fd, data, len, flags) : (abort(), -1);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	return received(fd, REAL(recvmsg)(fd, message, flags));
}

ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to,
	socklen_t to_len)
{
	return kind_of(fd) == KIND_SOCKET ? socket_send(fd, data, len, flags)
					  : REAL(sendto)(fd, data, len, flags, to, to_len);
}

ssize_t recvfrom(
	int fd, void *data, size_t len, int flags, struct sockaddr *from, socklen_t *from_len)
{
	ssize_t n = REAL(recvfrom)(fd, data, len, flags, from, from_len);

	return flags & MSG_PEEK ? n : received(fd, n);
}

/* ---- what would change the folder by a way that nothing here follows ---- */

static void must_be_elsewhere(const char *call, int fd)
{
	if (!is_file(kind_of(fd)))
		return;
	dprintf(STDERR_FILENO, "crash_shim: %s on a file of the cache is not followed yet\n", call);
	abort();
}

ssize_t copy_file_range(
	int from, off_t *from_off, int to, off_t *to_off, size_t len, unsigned flags)
{
	must_be_elsewhere("copy_file_range", to);
	return REAL(copy_file_range)(from, from_off, to, to_off, len, flags);
}

ssize_t splice(int from, off_t *from_off, int to, off_t *to_off, size_t len, unsigned flags)
{
	must_be_elsewhere("splice", to);
	return REAL(splice)(from, from_off, to, to_off, len, flags);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t off, int flags)
{
	must_be_elsewhere("pwritev2", fd);
	return REAL(pwritev2)(fd, parts, count, off, flags);
}

int posix_fallocate(int fd, off_t off, off_t len)
{
	must_be_elsewhere("posix_fallocate", fd);
	return REAL(posix_fallocate)(fd, off, len);
}

int sync_file_range(int fd, off_t off, off_t len, unsigned flags)
{
	must_be_elsewhere("sync_file_range", fd);
	return REAL(sync_file_range)(fd, off, len, flags);
}

int linkat(int dir_fd, const char *path, int to_fd, const char *to, int flags)
{
	char room[PATH_MAX];

	if (crash_below_at(to_fd, to, room, sizeof(room)))
		abort();
	return REAL(linkat)(dir_fd, path, to_fd, to, flags);
}

/* ---- descriptors ---- */

int close(int fd)
{
	kind_set(fd, KIND_NONE);
	return REAL(close)(fd);
}

int dup(int fd)
{
	int copy = REAL(dup)(fd);

	kind_copy(fd, copy);
	return copy;
}

int dup2(int fd, int to)
{
	int copy = REAL(dup2)(fd, to);

	kind_copy(fd, copy);
	return copy;
}

int dup3(int fd, int to, int flags)
{
	int copy = REAL(dup3)(fd, to, flags);

	kind_copy(fd, copy);
	return copy;
}

int fcntl(int fd, int command, ...)
{
	va_list args;
	void *value;
	int r;

	va_start(args, command);
	value = va_arg(args, void *);
	va_end(args);
	r = REAL(fcntl)(fd, command, value);
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		kind_copy(fd, r);
	return r;
}

/* ---- the 64-bit names: the same calls where off_t has 64 bits anyway ---- */

_Static_assert(sizeof(off_t) == 8, "the shim is for 64-bit systems");

ssize_t pwrite64(int fd, const void *data, size_t len, off_t off) __attribute__((alias("pwrite")));
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t off)
	__attribute__((alias("pwritev")));
ssize_t pread64(int fd, void *data, size_t len, off_t off) __attribute__((alias("pread")));
ssize_t __pread64_chk(int fd, void *data, size_t len, off_t off, size_t room)
	__attribute__((alias("__pread_chk")));
int ftruncate64(int fd, off_t len) __attribute__((alias("ftruncate")));
int fallocate64(int fd, int mode, off_t off, off_t len) __attribute__((alias("fallocate")));
int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int dir_fd, const char *path, int flags, ...) __attribute__((alias("openat")));
int __open64_2(const char *path, int flags) __attribute__((alias("__open_2")));
int __openat64_2(int dir_fd, const char *path, int flags) __attribute__((alias("__openat_2")));
int fcntl64(int fd, int command, ...) __attribute__((alias("fcntl")));
