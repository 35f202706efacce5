/*
 * crash_shim - counts calls, and kills, fails or records at them.
 *
 * One mutex orders what is counted. While recording it is held over the call itself, so that the
 * record has the order in which the disk saw the changes; otherwise only over the counting, so that
 * calls of several threads meet as they do in life. A kill happens with the mutex held: no other
 * thread gets past a counted call any more.
 */
#include "crash_shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
	struct crash_control *control;
	char dir[PATH_MAX];
	size_t dir_len;
	const char *boot_id;
	int record_fd;
	pthread_mutex_t lock;
} shim = {.record_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

static void complain(const char *what, const char *on)
{
	dprintf(STDERR_FILENO, "crash_shim: %s: %s: %s\n", what, on, strerror(errno));
	_exit(99);
}

/* Other programs that inherit the environment are left alone. */
static int is_the_daemon(void)
{
	const char *name = getenv("CPGFS_CRASH_PROGRAM");

	return name && strcmp(program_invocation_short_name, name) == 0;
}

/* Descriptors of the shim stay out of the way of those that the program counts on. */
static int open_high(const char *path, int flags)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
	int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 900);

	if (high < 0)
		complain("open", path);
	(void)syscall(SYS_close, fd);
	return high;
}

__attribute__((constructor)) static void start(void)
{
	const char *control = getenv("CPGFS_CRASH"), *dir = getenv("CPGFS_CRASH_DIR");
	const char *record = getenv("CPGFS_CRASH_RECORD");
	int fd;

	if (!control || !dir || !is_the_daemon())
		return;
	snprintf(shim.dir, sizeof(shim.dir), "%s", dir);
	shim.dir_len = strlen(shim.dir);
	shim.boot_id = getenv("CPGFS_CRASH_BOOT_ID");
	if (record)
		shim.record_fd = open_high(record, O_WRONLY | O_CREAT | O_APPEND);
	fd = open_high(control, O_RDWR);
	shim.control = mmap(NULL, sizeof(*shim.control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shim.control == MAP_FAILED || shim.control->magic != CRASH_CONTROL_MAGIC)
		complain("map", control);
	(void)syscall(SYS_close, fd);
}

_Bool crash_is_on(void)
{
	return shim.control;
}

_Bool crash_is_recording(void)
{
	return shim.record_fd >= 0;
}

const char *crash_boot_id_path(void)
{
	return shim.boot_id;
}

/* ---- which file is it? ---- */

const char *crash_below(const char *path)
{
	if (!shim.control || strncmp(path, shim.dir, shim.dir_len) != 0)
		return NULL;
	path += shim.dir_len;
	if (*path == '\0')
		return path;
	return *path == '/' ? path + 1 : NULL;
}

const char *crash_below_at(int dir_fd, const char *path, char *room, unsigned long size)
{
	char link[64];
	ssize_t n;

	if (!shim.control)
		return NULL;
	if (path[0] == '/')
		return crash_below(path);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
	if (dir_fd == AT_FDCWD)
		snprintf(link, sizeof(link), "/proc/self/cwd");
	n = readlink(link, room, size - 1);
	if (n < 0 || (size_t)n + strlen(path) + 2 > size)
		return NULL;
	room[n] = '\0';
	if (path[0])
		snprintf(room + n, size - (size_t)n, "/%s", path);
	return crash_below(room);
}

enum crash_kind crash_kind_of_path(const char *below)
{
	if (strncmp(below, "data/", 5) == 0)
		return KIND_DATA;
	if (strcmp(below, "journal") == 0)
		return KIND_JOURNAL;
	if (strncmp(below, "index/", 6) == 0)
		return KIND_INDEX;
	return KIND_OTHER;
}

enum crash_class crash_class_of(enum crash_kind kind)
{
	return kind == KIND_JOURNAL ? CRASH_JOURNAL
	       : kind == KIND_INDEX ? CRASH_COMMIT
				    : CRASH_STORE;
}

/* ---- what happens at a call ---- */

static void die(void)
{
	msync(shim.control, sizeof(*shim.control), MS_ASYNC);
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static void note(const char *call, const char *on, uint64_t off, uint64_t len)
{
	struct crash_control *c = shim.control;

	if (c->met++ == 0)
		snprintf(c->what, sizeof(c->what), "%s %s off=%llu len=%llu", call, on ? on : "",
			(unsigned long long)off, (unsigned long long)len);
}

/* The mutex is held. */
static void decide(struct crash_step *step)
{
	const struct crash_control *c = shim.control;
	uint64_t nth = c->count - c->at; /* 0 for the call that meets the action */

	switch ((enum crash_action)c->action) {
	case CRASH_NOTHING:
		break;
	case CRASH_KILL_BEFORE:
		if (nth == 0)
			die();
		break;
	case CRASH_KILL_HALF:
	case CRASH_KILL_AFTER:
		step->die_after = nth == 0;
		step->what = nth == 0 && c->action == CRASH_KILL_HALF ? STEP_HALF : STEP_PASS;
		break;
	case CRASH_FAIL:
	case CRASH_SHORT:
		if (nth >= c->span)
			break;
		step->what = nth == 0 && c->action == CRASH_SHORT ? STEP_HALF : STEP_FAIL;
		step->error = c->error;
		break;
	}
}

struct crash_step crash_begin(
	enum crash_class class, const char *call, const char *on, uint64_t off, uint64_t len)
{
	struct crash_step step = {.what = STEP_PASS};
	struct crash_control *c = shim.control;

	if (!c)
		return step;
	pthread_mutex_lock(&shim.lock);
	c->seen[class]++;
	if (c->classes & 1u << class) {
		c->count++;
		if (c->action != CRASH_NOTHING && c->count >= c->at &&
			(c->count == c->at ||
				(c->action >= CRASH_FAIL && c->count - c->at < c->span)))
			note(call, on, off, len);
		if (c->count >= c->at)
			decide(&step);
	}
	step.locked = step.die_after || shim.record_fd >= 0;
	if (!step.locked)
		pthread_mutex_unlock(&shim.lock);
	return step;
}

void crash_end(const struct crash_step *step)
{
	int error = errno;

	if (step->die_after)
		die();
	if (step->locked)
		pthread_mutex_unlock(&shim.lock);
	errno = error;
}

void crash_record(const struct crash_entry *entry, const char *path, const void *data)
{
	struct crash_entry head = *entry;
	struct iovec parts[3];
	size_t path_len = 0;
	ssize_t want;

	if (shim.record_fd < 0)
		return;
	if (path) /* of a rename: both, with the NUL between them */
		path_len = head.op == CRASH_OP_RENAME
				   ? strlen(path) + 1 + strlen(path + strlen(path) + 1)
				   : strlen(path);
	head.magic = CRASH_ENTRY_MAGIC;
	head.path_len = (uint16_t)path_len;
	parts[0] = (struct iovec){&head, sizeof(head)};
	parts[1] = (struct iovec){(void *)path, path_len};
	parts[2] = (struct iovec){(void *)data, data ? head.len : 0};
	want = (ssize_t)(sizeof(head) + path_len + parts[2].iov_len);
	if (syscall(SYS_writev, shim.record_fd, parts, 3) != want)
		complain("record", path ? path : "write");
}
