/*
 * cli_umount - `cpgfs umount`: unmount, and wait until the daemon has ended.
 *
 * The lock of its cache directory tells that, also from another pid namespace, where the daemon's pid is
 * nobody's or somebody else's. Its process is waited for where there is no such directory here.
 */
#include "cli_private.h"

#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define BUSY_TRIES 10
#define BUSY_WAIT_MS 100
#define LOCK_LOOK_MS 20
#define EXIT_GRACE_MS 2000 /* from letting go of the cache to the end of the process */
#define TIMEOUT_MAX_MS (3600 * MS_PER_S)

static void umount_usage(FILE *out)
{
	fprintf(out, "Usage: cpgfs umount [--lazy] [--drain] [--timeout SECONDS] MOUNTPOINT\n\n"
		     "Unmount and wait until the daemon has ended. What is pending stays in the cache and\n"
		     "goes on at the next mount; --drain uploads it first (as cpgfs wait does); --lazy\n"
		     "unmounts although files are open. Exit code: 0 done (with --drain that of cpgfs\n"
		     "wait, for all that was closed before the mount was gone); 1 not unmounted;\n"
		     "2 unmounted, but the daemon has not ended, or nothing here tells whether, or how,\n"
		     "it has.\n");
}

static int run_program(char *const argv[])
{
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		execvp(argv[0], argv);
		_exit(127);
	}
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* What only looks at every mount for a moment (df, an indexer) is no reason to give up: it says why
 * at the last try only. */
static int unmount(const char *root, bool lazy)
{
	char *quietly[] = { (char *)"fusermount3", (char *)"-u", (char *)"-q", (char *)root, NULL };
	char *program[] = { (char *)"fusermount3", (char *)(lazy ? "-uz" : "-u"), (char *)root, NULL };
	for (unsigned i = 0; !lazy && i < BUSY_TRIES; i++) {
		int r = run_program(quietly);
		if (r == 0 || r == 127)
			return r;
		(void)poll(NULL, 0, BUSY_WAIT_MS);
	}
	return run_program(program);
}

/* What tells that the daemon has ended; -1: it is not to be had here. */
struct daemon {
	int pidfd, lock_fd;
};

static void daemon_release(struct daemon *d)
{
	cleanup_fd_fn(&d->pidfd);
	cleanup_fd_fn(&d->lock_fd);
}

static int lock_open(const char *cache_dir)
{
	char path[4096];
	int fd = -1;
	if (!cache_dir || snprintf(path, sizeof(path), "%s/lock", cache_dir) >= (int)sizeof(path) ||
		io_open(path, O_RDONLY | O_NOFOLLOW, 0, &fd) < 0)
		return -1;
	if (flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return fd;
	close(fd); /* nobody holds it: another directory of that name */
	return -1;
}

static struct daemon daemon_find(const char *root)
{
	struct daemon d = { -1, -1 };
	cleanup_buf struct buf text;
	buf_init(&text, 0);
	if (cli_read(root, "status.json", &text) < 0)
		return d;
	json_error_t error;
	json_t *status = json_loadb(buf_text(&text), text.len, 0, &error);
	json_int_t pid = json_integer_value(json_object_get(status, "pid"));
	d.lock_fd = lock_open(
		json_string_value(json_object_get(json_object_get(status, "mount"), "cache_dir")));
	json_decref(status);
	if (pid > 1)
		d.pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	return d;
}

static bool process_ends(int pidfd, int64_t wait_ms)
{
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };
	return poll(&ended, 1, (int)wait_ms) != 0;
}

/* 0, -ETIMEDOUT, or -ENODATA: nothing here tells. */
static int daemon_ends(const struct daemon *d, int64_t timeout_ms)
{
	int64_t deadline_ms = clock_mono_ms() + timeout_ms;
	if (d->lock_fd < 0 && d->pidfd < 0)
		return -ENODATA;
	if (d->lock_fd < 0)
		return process_ends(d->pidfd, timeout_ms) ? 0 : -ETIMEDOUT;
	while (flock(d->lock_fd, LOCK_SH | LOCK_NB) < 0) {
		if (clock_mono_ms() >= deadline_ms)
			return -ETIMEDOUT;
		(void)poll(NULL, 0, LOCK_LOOK_MS); /* the pace of looking, not a condition */
	}
	(void)flock(d->lock_fd, LOCK_UN);
	if (d->pidfd >= 0)
		(void)process_ends(d->pidfd, EXIT_GRACE_MS);
	return 0;
}

static int order(const char *root, const char *verb)
{
	json_t *answer;
	if (cli_ask(root, verb, "", &answer) < 0)
		return -EIO;
	const char *error = json_string_value(json_object_get(answer, "error"));
	if (error)
		cli_error("%s %s: %s", verb, root, error);
	int r = error ? -EIO : 0;
	json_decref(answer);
	return r;
}

/* As long as it is mounted, and can be interrupted; the daemon does the same with what comes late. */
static int drain_first(const char *root)
{
	char *words[] = { (char *)"wait", (char *)root, NULL };
	optind = 0;
	if (cmd_wait(2, words) != EXIT_USAGE && order(root, "drain") == 0)
		return 0;
	cli_error("%s was not unmounted: what is pending could not be waited for", root);
	return -EIO;
}

/* The exit code that a daemon left behind which was to upload all it had. */
static int how_it_drained(const struct daemon *d, const char *root)
{
	static const char head[] = "ended-";
	char text[64];
	ssize_t len = d->lock_fd < 0 ? 0 : io_pread(d->lock_fd, text, sizeof(text) - 1, 0);
	text[len > 0 ? len : 0] = '\0';
	int code = text_starts(text, head) ? text[strlen(head)] - '0' : -1;
	if (code == EXIT_VERIFIED)
		return code;
	if (code == EXIT_NEEDS_PERSON) {
		cli_error("%s is unmounted; some files need you: `cpgfs status` tells after the next mount",
			root);
		return code;
	}
	if (code == EXIT_PENDING)
		cli_error("%s is unmounted, but not everything is verified: the next mount goes on", root);
	else
		cli_error("%s is unmounted; nothing here tells whether what came at the end is verified: the "
			  "next mount shows it",
			root);
	return EXIT_PENDING;
}

int cmd_umount(int argc, char **argv)
{
	static const struct option longs[] = { { "lazy", no_argument, NULL, 'l' },
		{ "drain", no_argument, NULL, 'd' }, { "timeout", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	bool lazy = false, drain = false;
	int64_t timeout_ms = 120 * MS_PER_S;
	for (int c; (c = getopt_long(argc, argv, "lt:h", longs, NULL)) != -1;) {
		if (c == 'l')
			lazy = true;
		else if (c == 'd')
			drain = true;
		else if (c != 't' || duration_parse(optarg, &timeout_ms) < 0) {
			umount_usage(c == 'h' ? stdout : stderr);
			return c == 'h' ? EXIT_VERIFIED : EXIT_USAGE;
		}
	}
	struct cli_target target;
	if (optind != argc - 1) {
		umount_usage(stderr);
		return EXIT_USAGE;
	}
	if (cli_target_find(argv[optind], &target) < 0)
		return EXIT_USAGE;
	if (target.path[0]) {
		cli_error("%s is inside the mount %s: unmount that", argv[optind], target.root);
		return EXIT_USAGE;
	}
	cleanup_with(daemon_release) struct daemon d = daemon_find(target.root);
	if (drain && drain_first(target.root) < 0)
		return EXIT_USAGE;
	int r = unmount(target.root, lazy);
	if (r != 0) {
		cli_error("%s was not unmounted%s", target.root,
			r == 127 ? ": fusermount3 is not installed (package fuse3)"
				 : ": end what uses it (`fuser -vm`), or use --lazy");
		if (drain)
			(void)order(target.root, "no-drain"); /* it says so if that fails */
		return EXIT_USAGE;
	}
	r = daemon_ends(&d, timeout_ms > TIMEOUT_MAX_MS ? TIMEOUT_MAX_MS : timeout_ms);
	if (r == -ETIMEDOUT)
		cli_error("%s is unmounted, but its daemon has not ended yet", target.root);
	if (r == -ENODATA)
		cli_error("%s is unmounted; whether its daemon has ended can't be seen from here "
			  "(neither its process nor its cache directory): this did not wait for it",
			target.root);
	if (r < 0)
		return EXIT_PENDING;
	return drain ? how_it_drained(&d, target.root) : EXIT_VERIFIED;
}
