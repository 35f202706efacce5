/*
 * cli_repair - `cpgfs repair`: the cache directory of a mount that refuses to start.
 *
 * It takes either the cache directory alone, or the words of the mount that it belongs to: the same
 * options and address find the same directory, and say whose it must be.
 */
#include "cli_options.h"
#include "cli_private.h"

#include <inttypes.h>
#include <limits.h>

#define NOTES_SHOWN 20

static void repair_usage(FILE *out)
{
	fprintf(out,
		"Usage: cpgfs repair [--dry-run] --cache-dir DIR [s3://BUCKET[/PREFIX]]\n"
		"       cpgfs repair [--dry-run] [MOUNT OPTION…] s3://BUCKET[/PREFIX] "
		"[MOUNTPOINT]\n"
		"\n"
		"Make the index of a cache directory anew when a mount says that it is damaged: "
		"from\n"
		"what can still be read of it, from the journal, from the second record of names "
		"and\n"
		"checksums, and from the data files. Nothing may be mounted from it meanwhile.\n"
		"\n"
		"Files whose checksums are known are compared before anything is sent; those "
		"without\n"
		"are shown as torn, and a person decides (copy again, or cpgfs accept). What the "
		"bucket\n"
		"holds is asked again. Nothing is deleted: the old index is kept beside the new "
		"one, and\n"
		"data that belongs to no file any more is moved to DIR/orphans/DATE, where "
		"LIST.tsv says\n"
		"what is known of it: copy what you want into the mount again, then remove that "
		"folder.\n"
		"\n"
		"  --dry-run                   say what would be done, change nothing\n"
		"\n"
		"Exit code: 0 nothing was wrong, or all is well again; 1 it could not be done "
		"(the\n"
		"message says why); 2 dry run: there is something to repair; 3 repaired, and "
		"something\n"
		"needs a person: torn, lost or incomplete files, orphans, deletes that are dropped,\n"
		"or files that needed one before (held by their name, failed, in conflict).\n");
}

/* ---- the words ------------------------------------------------------------------------------- */

static bool takes_value(const char *option)
{
	const struct option_row *row = option_find(option + 2);

	return row && row->kind != OPTION_FLAG;
}

struct request {
	bool dry_run;
	char *dir; /* NULL: the mount's words tell */
	struct cli_mount mount;
	bool has_mount;
};

/* What is left for the mount's parser; the mount point may be missing, and matters to nobody. */
static int sort_words(int argc, char **argv, struct request *q, char **words, int *ret_count)
{
	int count = 2, plain = 0, others = 0;

	words[0] = argv[0];
	words[1] = (char *)"mount";
	for (int i = 1; i < argc; i++) {
		bool is_dir = strcmp(argv[i], "--cache-dir") == 0 && i + 1 < argc;
		if (strcmp(argv[i], "--dry-run") == 0) {
			q->dry_run = true;
			continue;
		}
		words[count++] = argv[i];
		if (argv[i][0] != '-')
			plain++;
		else if (!is_dir && !text_starts(argv[i], "--cache-dir="))
			others++;
		if (i + 1 < argc && (strcmp(argv[i], "-o") == 0 ||
					    (text_starts(argv[i], "--") && takes_value(argv[i]))))
			words[count++] = argv[++i];
	}
	if (plain < 2)
		words[count++] = (char *)".";
	*ret_count = count;
	return plain + others;
}

static const char *dir_word(int argc, char **argv)
{
	const char *dir = NULL;

	for (int i = 1; i < argc; i++) {
		if (text_starts(argv[i], "--cache-dir="))
			dir = argv[i] + strlen("--cache-dir=");
		else if (strcmp(argv[i], "--cache-dir") == 0 && i + 1 < argc)
			dir = argv[++i];
	}
	return dir;
}

static int request_parse(int argc, char **argv, struct request *q, int *ret_exit)
{
	char **words = calloc((size_t)argc + 3, sizeof(*words)), path[PATH_MAX];
	int count, r = 0;

	*ret_exit = EXIT_USAGE;
	if (!words)
		return -ENOMEM;
	if (sort_words(argc, argv, q, words, &count) > 0) {
		r = cli_mount_parse(count, words, &q->mount, ret_exit);
		q->has_mount = r == 0;
	} else if (!dir_word(argc, argv)) {
		repair_usage(stderr);
		r = -EINVAL;
	} else {
		const char *dir = dir_word(argc, argv);
		q->dir = text_dup(realpath(dir, path) ? path : dir);
		r = q->dir ? 0 : -ENOMEM;
	}
	free(words);
	return r;
}

/* ---- saying it ------------------------------------------------------------------------------- */

struct notes {
	uint64_t shown, more;
};

static void on_note(void *user, const char *path, const char *what)
{
	struct notes *n = user;
	cleanup_buf struct buf line = {0};

	if (n->shown == NOTES_SHOWN) {
		n->more++;
		return;
	}
	n->shown++;
	text_escape(&line, path[0] ? path : "(no name)");
	printf("  %s: %s\n", buf_text(&line), what);
}

static void say_count(uint64_t count, const char *what)
{
	if (count)
		printf("  %" PRIu64 " %s\n", count, what);
}

static void say_report(const struct store_repair_report *p, bool dry_run)
{
	char size[24];

	size_format(p->orphan_bytes, size);
	if (p->was_damaged) {
		printf("%s %" PRIu64 " files", dry_run ? "the new index would have" : "the new index has",
			p->files);
		if (p->folders) /* one that an earlier repair made does not say it */
			printf(" in %" PRIu64 " folders", p->folders);
		printf(":\n");
		say_count(p->to_check, "are compared with what is known of them, then uploaded "
				       "unless the bucket has them");
		say_count(p->in_bucket_only,
			"are in the bucket only: a listing shows whether they still are");
		say_count(p->as_before,
			"needed a person before and do still (held, failed, in conflict, …)");
		say_count(p->set_aside, "stay set aside (junk, temporary names, gone from the bucket)");
		say_count(p->incomplete, "incomplete: nothing says that their writer had finished");
		say_count(p->torn, "torn: no checksum was left to compare their bytes with");
		say_count(p->lost, "lost: their bytes are gone");
		say_count(
			p->deletes_dropped, "deletes that were due are dropped: the objects stay; delete them again");
	}
	if (p->orphans)
		printf("%" PRIu64 " data file%s (%s) belong%s to no file%s%s\n", p->orphans,
			p->orphans == 1 ? "" : "s", size, p->orphans == 1 ? "s" : "",
			dry_run ? ": would be moved to orphans/ in the cache directory"
				: ": moved to ",
			dry_run ? "" : p->orphans_dir);
	if (p->orphans_dir[0])
		printf("  LIST.tsv there says what is known of them; copy what you want into the "
		       "mount again, then remove that folder\n");
	if (p->kept_index[0])
		printf("the old index is kept: %s\n", p->kept_index);
}

static int exit_of(const struct store_repair_report *p, bool dry_run)
{
	if (dry_run && (p->was_damaged || p->orphans))
		return EXIT_PENDING;
	return p->torn || p->lost || p->incomplete || p->orphans || p->as_before ||
			       p->deletes_dropped
		       ? EXIT_NEEDS_PERSON
		       : EXIT_VERIFIED;
}

static int run(const struct request *q)
{
	struct store_repair_report *report = calloc(1, sizeof(*report));
	struct notes notes = {0};
	cleanup_free char *message = NULL;
	struct store_repair_config config = {.dir = q->has_mount ? q->mount.cache_dir : q->dir,
		.identity = q->has_mount ? q->mount.identity : NULL,
		.dry_run = q->dry_run,
		.note = on_note,
		.user = &notes};

	if (!report)
		return EXIT_USAGE;
	int r = store_repair(&config, report, &message);
	int code = r < 0 ? EXIT_USAGE : exit_of(report, q->dry_run);
	if (notes.more)
		printf("  … and %" PRIu64 " more\n", notes.more);
	if (r < 0)
		cli_error("%s", message ? message : strerror(-r));
	else if (!report->was_damaged)
		printf("%s: the index and journal are sound\n", config.dir);
	else
		printf("%s (%s): %s\n", config.dir, report->identity, report->damage);
	if (r == 0)
		say_report(report, q->dry_run);
	if (r == 0 && report->was_damaged && !q->dry_run)
		printf("mount it as before; `cpgfs status MOUNTPOINT` shows what is left to do\n");
	free(report);
	return code;
}

int cmd_repair(int argc, char **argv)
{
	struct request q = {0};
	int code;

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			repair_usage(stdout);
			return EXIT_VERIFIED;
		}
	if (request_parse(argc, argv, &q, &code) == 0)
		code = run(&q);
	if (q.has_mount)
		cli_mount_release(&q.mount);
	free(q.dir);
	return code;
}
