/*
 * cli_umount - `cpgfs umount`: unmount, and wait until the daemon has ended.
 */
#include "cli_private.h"

#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define BUSY_TRIES 10
#define BUSY_WAIT_MS 100

static void umount_usage(FILE *out)
{
	fprintf(out, "Usage: cpgfs umount [--lazy] [--drain] [--timeout SECONDS] MOUNTPOINT\n\n"
		     "Unmount and wait until the daemon has ended. What is pending stays in the cache and\n"
		     "goes on at the next mount; --drain uploads it first (as cpgfs wait does); --lazy\n"
		     "unmounts although files are open.\n");
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

static int daemon_pidfd(const char *root)
{
	cleanup_buf struct buf text;
	buf_init(&text, 0);
	if (cli_read(root, "status.json", &text) < 0)
		return -1;
	json_error_t error;
	json_t *status = json_loadb(buf_text(&text), text.len, 0, &error);
	json_int_t pid = json_integer_value(json_object_get(status, "pid"));
	json_decref(status);
	return pid > 1 ? (int)syscall(SYS_pidfd_open, (pid_t)pid, 0) : -1;
}

static int drain_first(const char *root)
{
	char *words[] = { (char *)"wait", (char *)root, NULL };
	optind = 0;
	return cmd_wait(2, words);
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
	cleanup_fd int pidfd = daemon_pidfd(target.root);
	int code = drain ? drain_first(target.root) : EXIT_VERIFIED;
	int r = unmount(target.root, lazy);
	if (r != 0) {
		cli_error("%s was not unmounted%s", target.root,
			r == 127 ? ": fusermount3 is not installed (package fuse3)"
				 : ": end what uses it (`fuser -vm`), or use --lazy");
		return EXIT_USAGE;
	}
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };
	if (pidfd >= 0 && poll(&ended, 1, (int)(timeout_ms > 3600000 ? 3600000 : timeout_ms)) == 0) {
		cli_error("%s is unmounted, but its daemon has not ended yet", target.root);
		return EXIT_PENDING;
	}
	return code;
}
