/*
 * base_io - file I/O of the cache directory: whole transfers, or the error the kernel gave.
 */
#include "base_private.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* The kernel moves at most 0x7ffff000 bytes at once; asking for less keeps the counts plain. */
#define TRANSFER_MAX_BYTES ((size_t)(1 * GIB))

#define RESIDENT_PAGES_MAX 256

/* `r = call`, again while a signal cut it short; -errno. */
#define io_retry(call)                                                                             \
	({                                                                                         \
		__typeof__(call) r_;                                                               \
		do {                                                                               \
			r_ = (call);                                                               \
		} while (r_ < 0 && errno == EINTR);                                                \
		r_ < 0 ? -errno : r_;                                                              \
	})

static bool range_fits(uint64_t off, uint64_t len)
{
	return off <= INT64_MAX && len <= INT64_MAX - off;
}

int io_openat(int dir_fd, const char *path, int flags, mode_t mode, int *ret_fd)
{
	int fd = io_retry(openat(dir_fd, path, flags | O_CLOEXEC, mode));

	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

int io_open(const char *path, int flags, mode_t mode, int *ret_fd)
{
	return io_openat(AT_FDCWD, path, flags, mode, ret_fd);
}

ssize_t io_pread(int fd, void *data, size_t len, uint64_t off)
{
	size_t done = 0;

	if (len > SSIZE_MAX || !range_fits(off, len))
		return -EINVAL;
	while (done < len) {
		size_t want = len - done < TRANSFER_MAX_BYTES ? len - done : TRANSFER_MAX_BYTES;
		ssize_t n = io_retry(pread(fd, (char *)data + done, want, (off_t)(off + done)));

		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* RWF_NOWAIT does not tell: it reads ahead, and what needs no disk (an extent that was never written)
 * comes at once. */
int io_is_cached(int fd, uint64_t off, size_t len)
{
	unsigned char resident[RESIDENT_PAGES_MAX];
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (len > SSIZE_MAX || !range_fits(off, len))
		return -EINVAL;
	for (uint64_t at = off / page * page; at < off + len; at += page * RESIDENT_PAGES_MAX) {
		uint64_t left = off + len - at;
		size_t some = left < page * RESIDENT_PAGES_MAX ? left : page * RESIDENT_PAGES_MAX;
		void *map = mmap(NULL, some, PROT_READ, MAP_SHARED, fd, (off_t)at);
		int r;

		if (map == MAP_FAILED)
			return -errno;
		r = mincore(map, some, resident) < 0 ? -errno : 0;
		(void)munmap(map, some);
		if (r < 0)
			return r;
		for (size_t i = 0; i < (some + page - 1) / page; i++)
			if (!(resident[i] & 1))
				return -EAGAIN;
	}
	return 0;
}

int io_pwrite(int fd, const void *data, size_t len, uint64_t off)
{
	size_t done = 0;

	if (!range_fits(off, len))
		return -EFBIG;
	while (done < len) {
		size_t want = len - done < TRANSFER_MAX_BYTES ? len - done : TRANSFER_MAX_BYTES;
		ssize_t n =
			io_retry(pwrite(fd, (const char *)data + done, want, (off_t)(off + done)));

		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO; /* no progress and no reason: not a loop to stay in */
		done += (size_t)n;
	}
	return 0;
}

int io_fsync(int fd)
{
	return io_retry(fsync(fd));
}

int io_fdatasync(int fd)
{
	return io_retry(fdatasync(fd));
}

int io_syncfs(int fd)
{
	return io_retry(syncfs(fd));
}

int io_truncate(int fd, uint64_t size)
{
	if (size > INT64_MAX)
		return -EFBIG;
	return io_retry(ftruncate(fd, (off_t)size));
}

int io_fallocate(int fd, int mode, uint64_t off, uint64_t len)
{
	if (!range_fits(off, len))
		return -EFBIG;
	return io_retry(fallocate(fd, mode, (off_t)off, (off_t)len));
}

static int make_one_dir(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != EEXIST && errno != EROFS && errno != EACCES)
		return -errno;
	/* A level that is there needs no right to make it. */
	if (stat(path, &st) == 0)
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	return -errno;
}

int io_mkdir_p(const char *path, mode_t mode)
{
	cleanup_free char *copy = text_dup(path);
	int r;

	if (!copy)
		return -ENOMEM;
	if (!*copy)
		return -ENOENT;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/' || p[-1] == '/')
			continue;
		*p = '\0';
		r = make_one_dir(copy, mode);
		*p = '/';
		if (r < 0)
			return r;
	}
	return make_one_dir(copy, mode);
}
