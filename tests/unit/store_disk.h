/*
 * store_disk - a disk that fails, or kills the process, at its n-th call: this program's own write,
 *              sync and open calls, which the store and LMDB meet instead of the C library's.
 *
 * Include it in one .c of a program. A call counts when it speaks of a file below the watched folder
 * (or, for calls by path, always) and its kind is in disk.kinds.
 */
#pragma once

#include "store_rig.h"

#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum disk_call {
	DISK_WRITE,
	DISK_SYNC, /* fsync, fdatasync, syncfs */
	DISK_SIZE, /* ftruncate, fallocate */
	DISK_OPEN,
	DISK_NAME, /* unlink, unlinkat, mkdir */
	DISK_CALL_COUNT
};
enum disk_file { DISK_JOURNAL, DISK_INDEX, DISK_DATA, DISK_OTHER, DISK_FILE_COUNT };
enum disk_action {
	DISK_PASS,
	DISK_FAIL,
	DISK_FAIL_DONE, /* done, and said to have failed; with `lasts` the following just fail */
	DISK_KILL,
	DISK_KILL_HALF,
};

#define DISK_ALL_KINDS 0xffu

/* The store's threads look at it, too. */
static struct {
	_Atomic bool armed;
	_Atomic unsigned calls_mask, files_mask; /* bits of disk_call, disk_file; 0: all */
	_Atomic enum disk_action action;
	_Atomic int error;
	_Atomic long at;    /* the n-th call that counts meets the action, from 1 */
	_Atomic bool lasts; /* and all that follow */
	_Atomic long count;
	_Atomic bool met;
	void (*_Atomic hook)(enum disk_call call, enum disk_file file); /* before a call */
	_Atomic unsigned seen[DISK_FILE_COUNT][DISK_CALL_COUNT];
} disk;

static inline void disk_off(void)
{
	disk.armed = false;
}

/* Count from now on. */
static inline void disk_on(enum disk_action action, long at, int error)
{
	disk_off();
	for (unsigned i = 0; i < DISK_FILE_COUNT * DISK_CALL_COUNT; i++)
		disk.seen[i / DISK_CALL_COUNT][i % DISK_CALL_COUNT] = 0;
	disk.calls_mask = disk.files_mask = 0;
	disk.lasts = disk.met = false;
	disk.hook = NULL;
	disk.count = 0;
	disk.action = action;
	disk.at = at;
	disk.error = error;
	disk.armed = true;
}

static enum disk_file disk_file_of(int fd)
{
	char link[64], path[512];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return DISK_OTHER;
	path[n] = '\0';
	if (!strstr(path, "/cpgfs-store-"))
		return DISK_OTHER;
	if (strstr(path, "/journal"))
		return DISK_JOURNAL;
	if (strstr(path, "/index"))
		return DISK_INDEX;
	return strstr(path, "/data/") ? DISK_DATA : DISK_OTHER;
}

/* True when the call must fail with errno set. half: done in part before the kill, or done and then
 * said to have failed: writes only. */
static bool disk_meets(enum disk_call call, enum disk_file file, bool *half)
{
	void (*hook)(enum disk_call, enum disk_file) = disk.hook;
	long count;

	if (!disk.armed)
		return false;
	disk.seen[file][call]++;
	if (hook)
		hook(call, file);
	if ((disk.calls_mask && !(disk.calls_mask & (1u << call))) ||
		(disk.files_mask && !(disk.files_mask & (1u << file))))
		return false;
	count = ++disk.count;
	if (disk.at <= 0 || (disk.lasts ? count < disk.at : count != disk.at))
		return false;
	disk.met = true;
	switch (disk.action) {
	case DISK_PASS:
		break;
	case DISK_FAIL:
		errno = disk.error;
		return true;
	case DISK_FAIL_DONE:
		*half = call == DISK_WRITE && count == disk.at;
		errno = disk.error;
		return !*half;
	case DISK_KILL_HALF:
		if (call == DISK_WRITE) {
			*half = true;
			break;
		}
		kill(getpid(), SIGKILL);
		break;
	case DISK_KILL:
		kill(getpid(), SIGKILL);
		break;
	}
	return false;
}

/* How much of a write that is done in part, or done and denied, is done. */
static size_t disk_share(size_t whole)
{
	return disk.action == DISK_FAIL_DONE ? whole : whole / 2;
}

static int disk_after_half(void)
{
	if (disk.action != DISK_FAIL_DONE)
		kill(getpid(), SIGKILL);
	errno = disk.error;
	return -1;
}

static ssize_t disk_pwrite(int fd, const void *data, size_t len, off_t off)
{
	bool half = false;

	if (disk.armed && disk_meets(DISK_WRITE, disk_file_of(fd), &half))
		return -1;
	if (half) {
		(void)!syscall(SYS_pwrite64, fd, data, disk_share(len), off);
		return disk_after_half();
	}
	return syscall(SYS_pwrite64, fd, data, len, off);
}

/* Both names of each call: LMDB may have been built with either. */
#define DISK_NAMED(ret, fn, symbol, params, args)                                                  \
	ret fn##_as_##symbol params __asm__(#symbol);                                              \
	ret fn##_as_##symbol params                                                                \
	{                                                                                          \
		return fn args;                                                                    \
	}

DISK_NAMED(ssize_t, disk_pwrite, pwrite, (int fd, const void *data, size_t len, off_t off),
	(fd, data, len, off))
DISK_NAMED(ssize_t, disk_pwrite, pwrite64, (int fd, const void *data, size_t len, off_t off),
	(fd, data, len, off))

static ssize_t disk_pwritev(int fd, const struct iovec *v, int count, off_t off)
{
	bool half = false;

	if (disk.armed && disk_meets(DISK_WRITE, disk_file_of(fd), &half))
		return -1;
	if (half) {
		(void)!syscall(SYS_pwritev, fd, v, (int)disk_share((size_t)count), off, 0);
		return disk_after_half();
	}
	return syscall(SYS_pwritev, fd, v, count, off, 0);
}

DISK_NAMED(ssize_t, disk_pwritev, pwritev, (int fd, const struct iovec *v, int count, off_t off),
	(fd, v, count, off))
DISK_NAMED(ssize_t, disk_pwritev, pwritev64, (int fd, const struct iovec *v, int count, off_t off),
	(fd, v, count, off))

static ssize_t disk_writev(int fd, const struct iovec *v, int count)
{
	bool half = false;

	if (disk.armed && disk_meets(DISK_WRITE, disk_file_of(fd), &half))
		return -1;
	if (half) {
		(void)!syscall(SYS_writev, fd, v, (int)disk_share((size_t)count));
		return disk_after_half();
	}
	return syscall(SYS_writev, fd, v, count);
}

DISK_NAMED(ssize_t, disk_writev, writev, (int fd, const struct iovec *v, int count), (fd, v, count))

static int disk_sync(int fd, long number)
{
	bool half = false;

	if (disk.armed && disk_meets(DISK_SYNC, disk_file_of(fd), &half))
		return -1;
	return (int)syscall(number, fd);
}

static int disk_fsync(int fd)
{
	return disk_sync(fd, SYS_fsync);
}

static int disk_fdatasync(int fd)
{
	return disk_sync(fd, SYS_fdatasync);
}

static int disk_syncfs(int fd)
{
	return disk_sync(fd, SYS_syncfs);
}

DISK_NAMED(int, disk_fsync, fsync, (int fd), (fd))
DISK_NAMED(int, disk_fdatasync, fdatasync, (int fd), (fd))
DISK_NAMED(int, disk_syncfs, syncfs, (int fd), (fd))

static int disk_ftruncate(int fd, off_t size)
{
	bool half = false;

	if (disk.armed && disk_meets(DISK_SIZE, disk_file_of(fd), &half))
		return -1;
	return (int)syscall(SYS_ftruncate, fd, size);
}

static int disk_fallocate(int fd, int mode, off_t off, off_t len)
{
	bool half = false;

	if (disk.armed && disk_meets(DISK_SIZE, disk_file_of(fd), &half))
		return -1;
	return (int)syscall(SYS_fallocate, fd, mode, off, len);
}

DISK_NAMED(int, disk_ftruncate, ftruncate, (int fd, off_t size), (fd, size))
DISK_NAMED(int, disk_ftruncate, ftruncate64, (int fd, off_t size), (fd, size))
DISK_NAMED(int, disk_fallocate, fallocate, (int fd, int mode, off_t off, off_t len),
	(fd, mode, off, len))
DISK_NAMED(int, disk_fallocate, fallocate64, (int fd, int mode, off_t off, off_t len),
	(fd, mode, off, len))

static int disk_openat(int dir, const char *path, int flags, mode_t mode)
{
	bool half = false;

	/* reading /proc is no disk */
	if (disk.armed && !strstr(path, "/proc/") &&
		disk_meets(DISK_OPEN, strstr(path, "journal") ? DISK_JOURNAL : DISK_OTHER, &half))
		return -1;
	return (int)syscall(SYS_openat, dir, path, flags, mode);
}

int disk_openat_short(int dir, const char *path, int flags, ...) __asm__("openat");
int disk_openat_long(int dir, const char *path, int flags, ...) __asm__("openat64");

#define DISK_OPENAT_BODY                                                                           \
	mode_t mode = 0;                                                                           \
	va_list ap;                                                                                \
                                                                                                   \
	va_start(ap, flags);                                                                       \
	if (flags & (O_CREAT | __O_TMPFILE))                                                       \
		mode = va_arg(ap, mode_t);                                                         \
	va_end(ap);                                                                                \
	return disk_openat(dir, path, flags, mode);

int disk_openat_short(int dir, const char *path, int flags, ...)
{
	DISK_OPENAT_BODY
}

int disk_openat_long(int dir, const char *path, int flags, ...)
{
	DISK_OPENAT_BODY
}

static int disk_unlinkat(int dir, const char *path, int flags)
{
	bool half = false;

	if (disk.armed && disk_meets(DISK_NAME, DISK_OTHER, &half))
		return -1;
	return (int)syscall(SYS_unlinkat, dir, path, flags);
}

static int disk_unlink(const char *path)
{
	return disk_unlinkat(AT_FDCWD, path, 0);
}

static int disk_mkdirat(int dir, const char *path, mode_t mode)
{
	bool half = false;

	if (disk.armed && disk_meets(DISK_NAME, DISK_OTHER, &half))
		return -1;
	return (int)syscall(SYS_mkdirat, dir, path, mode);
}

static int disk_mkdir(const char *path, mode_t mode)
{
	return disk_mkdirat(AT_FDCWD, path, mode);
}

DISK_NAMED(int, disk_unlinkat, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
DISK_NAMED(int, disk_unlink, unlink, (const char *path), (path))
DISK_NAMED(int, disk_mkdirat, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
DISK_NAMED(int, disk_mkdir, mkdir, (const char *path, mode_t mode), (path, mode))
