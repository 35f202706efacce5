/*
 * cli_check - `cpgfs check`, and `cpgfs mount --check`: the steps in order.
 */
#include "cli_check.h"
#include "cli_private.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void check_usage(FILE *out)
{
	fprintf(out,
		"Usage: cpgfs check [--json] [--quick] [--no-write] [OPTION…] --gallery NAME "
		"--prefix "
		"PREFIX\n"
		"       cpgfs check [--json] [--quick] [--no-write] [OPTION…] "
		"s3://BUCKET[/PREFIX]\n\n"
		"Look at everything that a long upload needs, before it begins: FUSE, the cache's "
		"disk, the\n"
		"clock, credentials and grant, region, the right to list, to put with the ACL, to "
		"read back,\n"
		"to send in parts and to delete. A small object is put below the prefix and always "
		"removed.\n"
		"Options are those of `cpgfs mount`, which does the same first with --check.\n\n"
		"  --json      the report as JSON\n"
		"  --quick     do not measure how fast disk and line are\n"
		"  --no-write  put nothing into the bucket\n\n"
		"Each line: ok, skip, warn or FAIL, what was found, and what to do about it. Exit "
		"code: 0 an\n"
		"upload will work (there may be warnings), 3 something failed, 1 usage or "
		"error.\n");
}

static void check_machine(struct check_report *r, const struct cli_mount *m, bool quick)
{
	const char *path = getenv("PATH");
	struct check_places places = {.fuse_device = "/dev/fuse",
		.fuse_conf = "/etc/fuse.conf",
		.path = path ? path : "/usr/bin:/bin",
		.is_root = geteuid() == 0};
	check_fuse(r, &places);
	if (m->allow_other)
		check_allow_other(r, &places);
	check_cache(r, m, quick);
}

static void check_bucket(struct check_run *run)
{
	check_gallery(run->report, run->options);
	if (check_is_interrupted() || !check_credentials(run) || check_is_interrupted())
		return;
	if (check_server(run) && !check_is_interrupted())
		check_writing(run);
	check_clean_up(run);
}

/* Exit code. */
static int check_all(struct check_run run, FILE *out)
{
	struct check_report report;
	run.report = &report;
	run.body_fd = -1;
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* a refusal only weakens that */
	log_set_level(LOG_LEVEL_ERROR);
	if (check_report_init(&report, out) < 0) {
		cli_error("%s", strerror(ENOMEM));
		return EXIT_USAGE;
	}
	check_catch_signals();
	check_machine(&report, run.options, run.quick);
	if (!check_is_interrupted())
		check_bucket(&run);
	s3_destroy(run.s3);
	auth_destroy(run.auth);
	int code = EXIT_USAGE;
	if (check_is_interrupted())
		cli_error("stopped before the end; nothing is left in the bucket but what is named "
			  "above");
	else
		code = check_report_end(&report);
	check_report_release(&report);
	return code;
}

/* Takes the words that are check's own out of argv. */
static bool take_word(int *argc, char **argv, const char *word)
{
	for (int i = 1; i < *argc; i++) {
		if (strcmp(argv[i], word) != 0)
			continue;
		memmove(&argv[i], &argv[i + 1],
			(size_t)(*argc - i) * sizeof(*argv)); /* and the NULL */
		(*argc)--;
		return true;
	}
	return false;
}

int cmd_check(int argc, char **argv)
{
	struct cli_mount m;
	int code;
	bool help = take_word(&argc, argv, "--help") || take_word(&argc, argv, "-h");
	if (help || argc == 1) {
		check_usage(help ? stdout : stderr);
		return help ? EXIT_VERIFIED : EXIT_USAGE;
	}
	struct check_run run = {.options = &m};
	bool json = take_word(&argc, argv, "--json");
	run.quick = take_word(&argc, argv, "--quick");
	run.no_write = take_word(&argc, argv, "--no-write");
	if (cli_check_parse(argc, argv, &m, &code) < 0)
		return code;
	code = check_all(run, json ? NULL : stdout);
	cli_mount_release(&m);
	return code;
}

/* A process of its own: a daemon must begin without threads. */
int cli_check_before_mount(const struct cli_mount *m)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(check_all((struct check_run){.options = m}, stderr));
	if (pid < 0) {
		cli_error("no new process can be made: %s", strerror(errno));
		return EXIT_USAGE;
	}
	/* Ctrl-C reaches the child, too, which cleans up */
	struct sigaction old, ignore = {.sa_handler = SIG_IGN};
	sigaction(SIGINT, &ignore, &old);
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_USAGE;
	sigaction(SIGINT, &old, NULL);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_VERIFIED)
		return EXIT_VERIFIED;
	cli_error("not mounted: see the report above (without --check the mount would be tried)");
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_USAGE;
}
