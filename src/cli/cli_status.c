/*
 * cli_status - `cpgfs status`: what the mount says of itself.
 */
#include "cli_plan.h"
#include "cli_watch.h"

#include <getopt.h>
#include <jansson.h>

static void status_usage(FILE *out)
{
	fprintf(out, "Usage: cpgfs status [--json|--watch|--plates] MOUNTPOINT\n\n"
		     "  --json    for programs\n"
		     "  --watch   a live screen; q quits\n"
		     "  --plates  each plate as its grid of wells\n\n"
		     "Of a mount that is paused by hand: also the plan, what `cpgfs resume` would "
		     "upload.\n\n"
		     "Exit code: 0 all verified, 1 error, 2 still pending, 3 something needs a person.\n");
}

int cmd_status(int argc, char **argv)
{
	static const struct option longs[] = { { "json", no_argument, NULL, 'j' },
		{ "watch", no_argument, NULL, 'w' }, { "plates", no_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	bool as_json = false;
	int (*show)(const char *root) = NULL;
	for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
		if (c == 'j') {
			as_json = true;
			continue;
		}
		if (c == 'w' || c == 'p') {
			show = c == 'w' ? cli_watch : cli_plates;
			continue;
		}
		status_usage(c == 'h' ? stdout : stderr);
		return c == 'h' ? EXIT_VERIFIED : EXIT_USAGE;
	}
	struct cli_target target;
	if (optind != argc - 1) {
		status_usage(stderr);
		return EXIT_USAGE;
	}
	if (cli_target_find(argv[optind], &target) < 0)
		return EXIT_USAGE;
	if (show)
		return show(target.root);
	cleanup_buf struct buf json, text;
	buf_init(&json, 0);
	buf_init(&text, 0);
	int r = cli_read(target.root, "status.json", &json);
	if (r == 0 && !as_json)
		r = cli_read(target.root, "status", &text);
	json_error_t error;
	json_t *status = r < 0 ? NULL : json_loadb(buf_text(&json), json.len, 0, &error);
	if (!status) {
		cli_error("%s: status cannot be read: %s", target.root,
			r < 0 ? strerror(-r) : error.text);
		return EXIT_USAGE;
	}
	const struct buf *shown = as_json ? &json : &text;
	fwrite(shown->data, 1, shown->len, stdout);
	int code = cli_exit_of_counts(status);
	if (!as_json && json_is_true(json_object_get(status, "paused_by_hand"))) {
		fflush(stdout); /* the plan may take a while */
		r = cli_plan_waiting(target.root, status);
	}
	json_decref(status);
	return fflush(stdout) == 0 && r == 0 ? code : EXIT_USAGE;
}
