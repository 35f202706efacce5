/*
 * fs_writer - was the writer of a file cut off?
 *
 * A FLUSH names the task that closes. One that is dying has PF_EXITING in its flags (field 9 of
 * /proc/PID/stat), and its exit code (field 52) holds the signal that kills it. PF_SIGNALED alone
 * misleads: a program with several threads that ends normally shows it too. Where the exit code
 * can't be read (another user's process), it is a note and no more. A pid of 0 is a task of
 * another pid namespace: no sign.
 */
#include "fs_private.h"

#include <fcntl.h>

#define PF_EXITING 0x4u
#define PF_SIGNALED 0x400u
#define FIELD_FLAGS 9
#define FIELD_EXIT_CODE 52

/* Field n (from 3) of a stat line; the name, field 2, may hold blanks and brackets. */
static bool stat_field(const char *line, unsigned n, uint64_t *ret)
{
	const char *at = strrchr(line, ')');
	unsigned field = 2;

	while (at && field < n) {
		at = strchr(at, ' ');
		if (at)
			at++;
		field++;
	}
	if (!at || *at < '0' || *at > '9')
		return false;
	*ret = strtoull(at, NULL, 10);
	return true;
}

enum fs_ending fs_writer_judge(const char *stat_line, int *ret_signal)
{
	uint64_t flags, exit_code;

	*ret_signal = 0;
	if (!stat_field(stat_line, FIELD_FLAGS, &flags) || !(flags & PF_EXITING))
		return FS_ENDING_NORMAL;
	if (stat_field(stat_line, FIELD_EXIT_CODE, &exit_code) && (exit_code & 0x7f)) {
		*ret_signal = (int)(exit_code & 0x7f);
		return FS_ENDING_KILLED;
	}
	return flags & PF_SIGNALED ? FS_ENDING_ABRUPT : FS_ENDING_NORMAL;
}

enum fs_ending fs_writer_ending(pid_t pid, int *ret_signal)
{
	char path[48], line[2048];
	cleanup_fd int fd = -1;
	ssize_t len;

	*ret_signal = 0;
	if (pid <= 0)
		return FS_ENDING_NORMAL;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC); /* not the cache directory: no disk faults here */
	if (fd < 0)
		return FS_ENDING_NORMAL;
	len = read(fd, line, sizeof(line) - 1);
	if (len <= 0)
		return FS_ENDING_NORMAL;
	line[len] = '\0';
	return fs_writer_judge(line, ret_signal);
}
