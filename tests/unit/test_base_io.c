/*
 * File I/O under a bad disk: this program brings its own pread, pwrite and sync calls, which the
 * room then meets instead of the C library's, and plays short transfers, interruptions and errors.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base_private.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum fault { FAULT_NONE, FAULT_EINTR, FAULT_SHORT, FAULT_ZERO, FAULT_ERRNO };

static struct {
	enum fault fault;
	int at_call; /* the n-th call from now meets it, counted from 1 */
	int error;
	int calls;
} disk;

static void disk_set(enum fault fault, int at_call, int error)
{
	disk.fault = fault;
	disk.at_call = at_call;
	disk.error = error;
	disk.calls = 0;
}

/* True when this call fails; *len may be made smaller instead. */
static bool disk_fails(size_t *len, ssize_t *ret)
{
	if (++disk.calls != disk.at_call)
		return false;
	*ret = -1;
	switch (disk.fault) {
	case FAULT_EINTR:
		errno = EINTR;
		return true;
	case FAULT_SHORT:
		*len = 1;
		return false;
	case FAULT_ZERO:
		*ret = 0;
		return true;
	case FAULT_ERRNO:
		errno = disk.error;
		return true;
	case FAULT_NONE:
		break;
	}
	return false;
}

ssize_t pread(int fd, void *data, size_t len, off_t off)
{
	ssize_t r;

	return disk_fails(&len, &r) ? r : syscall(SYS_pread64, fd, data, len, off);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t off)
{
	ssize_t r;

	return disk_fails(&len, &r) ? r : syscall(SYS_pwrite64, fd, data, len, off);
}

int fsync(int fd)
{
	size_t len = 1;
	ssize_t r;

	return disk_fails(&len, &r) ? (int)r : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	size_t len = 1;
	ssize_t r;

	return disk_fails(&len, &r) ? (int)r : (int)syscall(SYS_fdatasync, fd);
}

static char folder[] = "/tmp/cpgfs-test-io-XXXXXX";
static char path[64];
static int file_fd = -1;

static int make_file(void **state)
{
	disk_set(FAULT_NONE, 0, 0);
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/file", folder);
	return io_open(path, O_RDWR | O_CREAT | O_EXCL, 0600, &file_fd);
}

static int remove_file(void **state)
{
	close(file_fd);
	unlink(path);
	return rmdir(folder);
}

static int empty_file(void **state)
{
	disk_set(FAULT_NONE, 0, 0);
	return io_truncate(file_fd, 0);
}

static void assert_content(const char *want)
{
	char got[64] = {0};

	disk_set(FAULT_NONE, 0, 0);
	assert_int_equal(io_pread(file_fd, got, sizeof(got), 0), strlen(want));
	assert_string_equal(got, want);
}

static void opens_close_on_exec(void **state)
{
	int fd = -7, dir_fd;

	assert_true(fcntl(file_fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(io_open("/nonexistent/x", O_RDONLY, 0, &fd), -ENOENT);
	assert_int_equal(fd, -7);
	assert_int_equal(io_open(folder, O_RDONLY | O_DIRECTORY, 0, &dir_fd), 0);
	assert_int_equal(io_openat(dir_fd, "file", O_RDONLY, 0, &fd), 0);
	close(fd);
	close(dir_fd);
}

static void short_count_at_end_only(void **state)
{
	char got[16];

	assert_int_equal(io_pwrite(file_fd, "0123456789", 10, 0), 0);
	assert_int_equal(io_pread(file_fd, got, 16, 4), 6);
	assert_int_equal(io_pread(file_fd, got, 16, 10), 0);
	disk_set(FAULT_SHORT, 1, 0);
	assert_int_equal(io_pread(file_fd, got, 8, 0), 8);
	assert_memory_equal(got, "01234567", 8);
	assert_int_equal(disk.calls, 2);
}

/* The fault meets each call in turn until the case runs through untouched. */
static void interruptions_and_short_transfers(void **state)
{
	static const enum fault faults[] = {FAULT_EINTR, FAULT_SHORT};

	for (size_t f = 0; f < array_len(faults); f++) {
		for (int n = 1; n <= 3; n++) {
			char got[8] = {0};

			disk_set(faults[f], n, 0);
			assert_int_equal(io_pwrite(file_fd, "abcdef", 6, 2), 0);
			assert_int_equal(io_pread(file_fd, got, 6, 2), 6);
			assert_string_equal(got, "abcdef");
			assert_int_equal(disk.calls, n <= 2 ? 3 : 2);
		}
	}
}

static void no_progress_is_an_error(void **state)
{
	disk_set(FAULT_ZERO, 1, 0);
	assert_int_equal(io_pwrite(file_fd, "abc", 3, 0), -EIO);
	assert_int_equal(disk.calls, 1);
}

static void errors_are_told_as_they_are(void **state)
{
	static const int errors[] = {EIO, ENOSPC, EDQUOT, EROFS};
	char got[4];

	for (size_t i = 0; i < array_len(errors); i++) {
		disk_set(FAULT_ERRNO, 1, errors[i]);
		assert_int_equal(io_pwrite(file_fd, "abc", 3, 0), -errors[i]);
		disk_set(FAULT_ERRNO, 1, errors[i]);
		assert_int_equal(io_pread(file_fd, got, 3, 0), -errors[i]);
		disk_set(FAULT_ERRNO, 1, errors[i]);
		assert_int_equal(io_fsync(file_fd), -errors[i]);
		assert_int_equal(disk.calls, 1); /* a failed sync is not tried again */
		disk_set(FAULT_ERRNO, 1, errors[i]);
		assert_int_equal(io_fdatasync(file_fd), -errors[i]);
		assert_int_equal(disk.calls, 1);
	}
}

static void syncs_survive_signals(void **state)
{
	disk_set(FAULT_EINTR, 1, 0);
	assert_int_equal(io_fsync(file_fd), 0);
	assert_int_equal(disk.calls, 2);
	disk_set(FAULT_EINTR, 1, 0);
	assert_int_equal(io_fdatasync(file_fd), 0);
	assert_int_equal(disk.calls, 2);
	assert_int_equal(io_syncfs(file_fd), 0);
	assert_int_equal(io_fsync(-1), -EBADF);
}

/* The page of the file that is not in memory (-1: none), and what the last look began with. */
static long missing_page, looked_from;

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t off)
{
	if (fd >= 0)
		looked_from = off / sysconf(_SC_PAGESIZE);
	return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, off);
}

int mincore(void *at, size_t len, unsigned char *resident)
{
	long page = sysconf(_SC_PAGESIZE);

	for (long i = 0; i < ((long)len + page - 1) / page; i++)
		resident[i] = looked_from + i != missing_page;
	return 0;
}

static void what_is_in_memory(void **state)
{
	long page = sysconf(_SC_PAGESIZE), pages = 600; /* more than one look */
	size_t all = (size_t)(pages * page);

	assert_int_equal(io_truncate(file_fd, all), 0);
	missing_page = -1;
	assert_int_equal(io_is_cached(file_fd, 0, all), 0);
	for (missing_page = 0; missing_page < pages; missing_page += 599)
		assert_int_equal(io_is_cached(file_fd, 0, all), -EAGAIN);
	missing_page = 256;
	assert_int_equal(io_is_cached(file_fd, 0, all), -EAGAIN);
	assert_int_equal(io_is_cached(file_fd, (uint64_t)(257 * page) - 1, 2), -EAGAIN);
	assert_int_equal(io_is_cached(file_fd, (uint64_t)(257 * page), 2), 0);
	assert_int_equal(io_is_cached(file_fd, (uint64_t)(256 * page) - 2, 2), 0);
	assert_int_equal(io_is_cached(file_fd, (uint64_t)(256 * page) - 2, 3), -EAGAIN);
	assert_int_equal(io_is_cached(file_fd, UINT64_MAX, 3), -EINVAL);
	assert_int_equal(io_is_cached(-1, 0, 3), -EBADF);
}

static void ranges_beyond_off_t(void **state)
{
	char got[4];

	assert_int_equal(io_pwrite(file_fd, "abc", 3, INT64_MAX), -EFBIG);
	assert_int_equal(io_pwrite(file_fd, "abc", 3, UINT64_MAX), -EFBIG);
	assert_int_equal(io_pread(file_fd, got, 3, UINT64_MAX), -EINVAL);
	assert_int_equal(io_truncate(file_fd, UINT64_MAX), -EFBIG);
	assert_int_equal(io_fallocate(file_fd, 0, UINT64_MAX, 1), -EFBIG);
	assert_int_equal(disk.calls, 0);
	assert_content("");
}

static void truncates_and_allocates(void **state)
{
	struct stat st;

	assert_int_equal(io_pwrite(file_fd, "0123456789", 10, 0), 0);
	assert_int_equal(io_truncate(file_fd, 4), 0);
	assert_content("0123");
	assert_int_equal(io_fallocate(file_fd, FALLOC_FL_KEEP_SIZE, 0, 65536), 0);
	assert_int_equal(fstat(file_fd, &st), 0);
	assert_int_equal(st.st_size, 4);
	assert_true(st.st_blocks * 512 >= 65536);
	assert_int_equal(io_truncate(file_fd, 0), 0);
}

static void mkdir_all_levels(void **state)
{
	char deep[128], file_below[128];
	struct stat st;

	snprintf(deep, sizeof(deep), "%s/a//b/c/", folder);
	assert_int_equal(io_mkdir_p(deep, 0700), 0);
	assert_int_equal(io_mkdir_p(deep, 0700), 0);
	assert_int_equal(stat(deep, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0700);
	snprintf(file_below, sizeof(file_below), "%s/x", path);
	assert_int_equal(io_mkdir_p(file_below, 0700), -ENOTDIR);
	assert_int_equal(io_mkdir_p(path, 0700), -ENOTDIR);
	assert_int_equal(io_mkdir_p("", 0700), -ENOENT);
	assert_int_equal(io_mkdir_p("/", 0700), 0);
	for (int i = 0; i < 3; i++) {
		static const char *const levels[] = {"a/b/c", "a/b", "a"};

		snprintf(deep, sizeof(deep), "%s/%s", folder, levels[i]);
		assert_int_equal(rmdir(deep), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(opens_close_on_exec, empty_file),
		cmocka_unit_test_setup(short_count_at_end_only, empty_file),
		cmocka_unit_test_setup(what_is_in_memory, empty_file),
		cmocka_unit_test_setup(interruptions_and_short_transfers, empty_file),
		cmocka_unit_test_setup(no_progress_is_an_error, empty_file),
		cmocka_unit_test_setup(errors_are_told_as_they_are, empty_file),
		cmocka_unit_test_setup(syncs_survive_signals, empty_file),
		cmocka_unit_test_setup(ranges_beyond_off_t, empty_file),
		cmocka_unit_test_setup(truncates_and_allocates, empty_file),
		cmocka_unit_test_setup(mkdir_all_levels, empty_file),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
