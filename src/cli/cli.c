/*
 * cli - the table of commands.
 */
#include "cli_private.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
};

static const struct command commands[] = {
	{ "umount", cmd_umount, "unmount, and wait until the daemon has ended" },
	{ "status", cmd_status, "what is where: counts by state, rate, what needs a person" },
	{ "wait", cmd_wait, "wait until everything is verified in the bucket" },
	{ "ls", cmd_ls, "list the bucket now, as `aws s3 ls` does" },
	{ "verify", cmd_verify, "compare files, a manifest or what was copied in with the bucket" },
	{ "report", cmd_report, "write the hand-over of an upload: manifest, plates, findings" },
	{ "plan", cmd_plan, "dry run: what would be uploaded where, and what is wrong with it" },
	{ "check", cmd_check, "look at everything that a long upload needs" },
	{ "credentials", cmd_credentials, "hand new keys to a running mount" },
	{ "galleries", cmd_galleries, "the galleries that `cpgfs mount --gallery` knows" },
	{ "repair", cmd_repair, "rebuild the index of a cache that a mount calls damaged" },
	{ "retry", cmd_simple, "queue what failed again" },
	{ "accept", cmd_simple, "let the local version win" },
	{ "discard", cmd_simple, "drop the local version" },
	{ "undelete", cmd_simple, "take deletes back" },
	{ "rename-clean", cmd_simple, "rename folders the gallery refuses" },
	{ "refresh", cmd_simple, "ask the bucket again instead of using cached listings" },
	{ "pause", cmd_simple, "stop uploading" },
	{ "resume", cmd_simple, "go on uploading" },
};

static void usage(FILE *out)
{
	fprintf(out, "cpgfs " CPGFS_VERSION
		     " - copy microscope plates into a folder; they arrive in S3, provably\n\n"
		     "Usage: cpgfs mount --gallery NAME --prefix PREFIX [OPTION…] MOUNTPOINT\n"
		     "       cpgfs mount [OPTION…] s3://BUCKET[/PREFIX] MOUNTPOINT\n"
		     "       cpgfs COMMAND [OPTION…] MOUNTPOINT [PATH…]\n\n"
		     "  mount           mount a prefix of a bucket\n");
	for (size_t i = 0; i < array_len(commands); i++)
		fprintf(out, "  %-15s %s\n", commands[i].name, commands[i].help);
	fprintf(out, "\n`cpgfs COMMAND --help` tells more. Exit codes: 0 all verified, 1 error,\n"
		     "2 still pending, 3 something needs a person.\n");
}

/* What was printed is where it should be: else nobody knows what was found. */
static int end_output(int code)
{
	bool failed = ferror(stdout);
	if (fflush(stdout) == 0 && !failed)
		return code;
	cli_error("standard output cannot be written%s%s", failed ? "" : ": ",
		failed ? "" : strerror(errno));
	return EXIT_USAGE;
}

static int run(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
		strcmp(argv[1], "help") == 0) {
		usage(stdout);
		return EXIT_VERIFIED;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("cpgfs " CPGFS_VERSION "\n");
		return EXIT_VERIFIED;
	}
	for (size_t i = 0; i < array_len(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	cli_error("no command \"%s\"; `cpgfs --help` lists them", argv[1]);
	return EXIT_USAGE;
}

int cli_run(int argc, char **argv)
{
	return end_output(run(argc, argv));
}
