/*
 * base_process - other processes, as /proc/PID/stat tells of them.
 */
#include "base_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PF_EXITING 0x4u
#define FIELD_FLAGS 9
#define FIELD_PENDING 31 /* signals that the main thread has yet to see */

int process_stat(pid_t pid, char *line, size_t size)
{
	char path[48];
	cleanup_fd int fd = -1;
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC); /* not the cache directory: no disk faults here */
	len = fd < 0 ? -1 : read(fd, line, size - 1);
	if (len <= 0)
		return -ESRCH;
	line[len] = '\0';
	return 0;
}

/* The name, field 2, may hold blanks and brackets. */
static const char *behind_name(const char *line)
{
	return strrchr(line, ')');
}

bool process_stat_field(const char *line, unsigned n, uint64_t *ret)
{
	const char *at = behind_name(line);
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

bool process_is_ending(pid_t pid)
{
	char line[2048];
	const char *state;
	uint64_t flags, pending;

	if (process_stat(pid, line, sizeof(line)) < 0)
		return true;
	state = behind_name(line);
	if (state && (text_starts(state, ") Z") || text_starts(state, ") X")))
		return true; /* its main thread is through; others may still be on their way */
	if (process_stat_field(line, FIELD_FLAGS, &flags) && (flags & PF_EXITING))
		return true;
	return process_stat_field(line, FIELD_PENDING, &pending) && (pending >> (SIGKILL - 1) & 1);
}
