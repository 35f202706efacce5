/*
 * base_log - one line per event, to stderr, a file or syslog.
 *
 * A line is formatted on the stack and leaves in one write(2), so lines of several threads, and of
 * a program that shares stderr, never mix. Control characters are written as \xNN: a file name
 * can neither forge a line nor move the cursor. Lines beyond LINE_BYTES are cut and say so.
 */
#include "base_private.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <syslog.h>

#define LINE_BYTES 8192
#define CUT_MARK " [cut]"

static _Atomic int log_level_now = LOG_LEVEL_INFO;

static pthread_once_t log_once = PTHREAD_ONCE_INIT;
static struct lock log_lock;
static struct {
	char *path; /* absolute; NULL: not a file */
	_Atomic int fd;
	atomic_bool to_syslog;
} out = {
	.fd = STDERR_FILENO}; /* changed under log_lock; fd and to_syslog also read by last words */

static const struct {
	const char *text;
	int priority;
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", LOG_ERR},
	[LOG_LEVEL_WARN] = {"warn", LOG_WARNING},
	[LOG_LEVEL_INFO] = {"info", LOG_INFO},
	[LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
};

static void log_init(void)
{
	lock_init(&log_lock, RANK_LOG, "log");
}

/* A log that can't be written must not stop the work it tells of: errors end here. */
static void write_line(int fd, const char *line, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, line, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		line += n;
		len -= (size_t)n;
	}
}

static int open_append(const char *path)
{
	int fd;

	do {
		fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

/* The daemon changes to "/" later: keep what the path meant here. */
static int absolute_path(const char *path, char **ret)
{
	cleanup_free char *cwd = NULL;

	if (path[0] == '/')
		return text_printf(ret, "%s", path);
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return -errno;
	return text_printf(ret, "%s/%s", cwd, path);
}

static void replace_output(char *path, int fd, bool to_syslog)
{
	int old_fd;

	with_lock(&log_lock);
	old_fd = atomic_exchange(&out.fd, fd);
	if (old_fd > STDERR_FILENO)
		(void)close(old_fd); /* O_APPEND writes went out already */
	free(out.path);
	out.path = path;
	if (to_syslog)
		openlog("cpgfs", LOG_PID, LOG_DAEMON);
	atomic_store(&out.to_syslog, to_syslog);
}

int log_open(enum log_level level, const char *path, bool use_syslog)
{
	cleanup_free char *absolute = NULL;
	int fd = STDERR_FILENO;
	int r;

	pthread_once(&log_once, log_init);
	if (path && !use_syslog) {
		r = absolute_path(path, &absolute);
		if (r < 0)
			return r;
		fd = open_append(absolute);
		if (fd < 0)
			return fd;
	}
	replace_output(steal_ptr(absolute), fd, use_syslog);
	log_set_level(level);
	return 0;
}

int log_reopen(void)
{
	int fd, old_fd;

	pthread_once(&log_once, log_init);
	with_lock(&log_lock);
	if (!out.path)
		return 0;
	fd = open_append(out.path);
	if (fd < 0)
		return fd; /* the old file goes on */
	old_fd = atomic_exchange(&out.fd, fd);
	(void)close(old_fd);
	return 0;
}

void log_set_level(enum log_level level)
{
	atomic_store(&log_level_now, (int)level);
}

bool log_wants(enum log_level level)
{
	return (int)level <= atomic_load(&log_level_now);
}

int log_level_parse(const char *text, enum log_level *ret)
{
	for (size_t i = 0; i < array_len(levels); i++) {
		if (strcmp(text, levels[i].text) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* Adds text to line (size bytes, len used) with control characters shown; returns the new length.
 */
static size_t add_shown(char *line, size_t size, size_t len, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		bool control = *p < 0x20 || *p == 0x7f;

		if (len + 4 >= size)
			return len + (size_t)snprintf(line + len, 1, "%s", "");
		if (control)
			len += (size_t)snprintf(line + len, size - len, "\\x%02x", *p);
		else
			line[len++] = (char)*p;
	}
	line[len] = '\0';
	return len;
}

static void emit(enum log_level level, const char *room, const char *text)
{
	char line[LINE_BYTES + 512], stamp[32];
	size_t len;

	if (atomic_load(&out.to_syslog)) {
		len = add_shown(line, sizeof(line), 0, text);
		syslog(levels[level].priority, "%s: %.*s", room, (int)len, line);
		return;
	}
	time_format_iso8601_ms(clock_wall_ns(), stamp);
	len = (size_t)snprintf(line, 128, "%s %s %.32s: ", stamp, levels[level].text, room);
	len = add_shown(line, sizeof(line) - 1, len, text);
	line[len++] = '\n';
	write_line(atomic_load(&out.fd), line, len);
}

void log_at(enum log_level level, const char *room, const char *fmt, ...)
{
	char text[LINE_BYTES];
	int saved = errno;
	va_list args;
	int n;

	if (!log_wants(level))
		return;
	va_start(args, fmt);
	/* First of all: %m wants the caller's errno. */
	n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (n < 0)
		(void)text_copy(text, "(a log line that could not be formatted)", sizeof(text));
	else if ((size_t)n >= sizeof(text))
		memcpy(text + sizeof(text) - sizeof(CUT_MARK), CUT_MARK, sizeof(CUT_MARK));
	pthread_once(&log_once, log_init);
	{
		with_lock(&log_lock);
		emit(level, room, text);
	}
	errno = saved;
}

void log_last_words(const char *line)
{
	char text[1024];
	int n = snprintf(text, sizeof(text), "cpgfs: %.900s\n", line);
	int fd = atomic_load(&out.fd);

	write_line(STDERR_FILENO, text, (size_t)n);
	if (atomic_load(&out.to_syslog))
		syslog(LOG_CRIT, "%s", line);
	else if (fd != STDERR_FILENO)
		write_line(fd, text, (size_t)n);
}
