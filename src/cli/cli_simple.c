/*
 * cli_simple - commands that are one line to the mount and a count back.
 */
#include "cli_private.h"

#include <inttypes.h>
#include <jansson.h>

struct simple {
	const char *verb;
	bool needs_path;   /* must name what it means */
	bool finds;        /* a path in which it finds nothing to do is a mistake */
	const char *paths; /* shown in usage */
	const char *what;
	const char *done;  /* "N files …" */
};

static const struct simple table[] = {
	{ "retry", false, false, "[PATH…]", "Queue what failed or was denied again.", "queued again" },
	{ "accept", false, true, "[PATH…]",
		"Let the local version win: replace the object of a conflict, take an incomplete or torn "
		"file as it is.",
		"accepted" },
	{ "discard", true, true, "PATH…",
		"Drop the local version of files in conflict, incomplete, torn, lost, failed or held.",
		"dropped" },
	{ "undelete", false, true, "[PATH…]", "Take deletes back that the bucket has not followed yet.",
		"brought back" },
	{ "rename-clean", false, false, "[PATH…]",
		"Rename folders whose names the gallery refuses to their cleaned names.", "renamed" },
	{ "refresh", false, false, "[PATH…]", "Forget cached listings: ask the bucket again.", "refreshed" },
	{ "pause", false, false, "", "Upload nothing until `cpgfs resume`.", NULL },
	{ "resume", false, false, "", "Go on uploading.", NULL },
};

static const struct simple *simple_find(const char *verb)
{
	for (size_t i = 0; i < array_len(table); i++)
		if (strcmp(table[i].verb, verb) == 0)
			return &table[i];
	return NULL;
}

/* What the command had to leave as it was. */
static bool tell_refusals(const struct simple *s, const char *root, const json_t *answer)
{
	json_int_t refused = json_integer_value(json_object_get(answer, "refused"));
	const json_t *list = json_object_get(answer, "refusals"), *one;
	size_t i;

	json_array_foreach(list, i, one) {
		cleanup_buf struct buf path = { 0 };
		const char *text = json_string_value(json_object_get(one, "path"));
		const char *reason = json_string_value(json_object_get(one, "reason"));
		text_escape(&path, text ? text : "?");
		cli_error("%s %s/%s: %s", s->verb, root, buf_text(&path), reason ? reason : "?");
	}
	if (refused > (json_int_t)json_array_size(list))
		cli_error("%s: and %" PRId64 " more (the log has all)", s->verb,
			(int64_t)refused - (int64_t)json_array_size(list));
	return refused > 0;
}

static int simple_one(const struct simple *s, const char *root, const char *path)
{
	json_t *answer;
	if (cli_ask(root, s->verb, path, &answer) < 0)
		return EXIT_USAGE;
	const char *error = json_string_value(json_object_get(answer, "error"));
	json_int_t count = json_integer_value(json_object_get(answer, "count"));
	if (error)
		cli_error("%s %s%s%s: %s", s->verb, root, path[0] ? "/" : "", path, error);
	else if (s->done)
		printf("%" PRId64 " %s\n", (int64_t)count, s->done);
	int code = error ? EXIT_USAGE : EXIT_VERIFIED;
	if (tell_refusals(s, root, answer)) {
		code = EXIT_USAGE;
	} else if (!error && s->finds && path[0] && count == 0) {
		cli_error("%s %s/%s: nothing there that could be %s", s->verb, root, path, s->done);
		code = EXIT_USAGE;
	}
	json_decref(answer);
	return code;
}

int cmd_simple(int argc, char **argv)
{
	const struct simple *s = simple_find(argv[0]);
	check(s != NULL);
	bool help = argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
	if (argc < 2 || help || argv[1][0] == '-') {
		fprintf(help ? stdout : stderr, "Usage: cpgfs %s MOUNTPOINT %s\n\n%s\n", s->verb,
			s->paths, s->what);
		return help ? EXIT_VERIFIED : EXIT_USAGE;
	}
	struct cli_target target;
	if (cli_target_find(argv[1], &target) < 0)
		return EXIT_USAGE;
	if (argc == 2 && s->needs_path && !target.path[0]) {
		cli_error("%s: say which files: cpgfs %s MOUNTPOINT %s", s->verb, s->verb, s->paths);
		return EXIT_USAGE;
	}
	if (argc == 2)
		return simple_one(s, target.root, target.path);
	int code = EXIT_VERIFIED;
	for (int i = 2; i < argc; i++) {
		char path[4096];
		if (cli_target_path(target.root, argv[i], path) < 0 ||
			simple_one(s, target.root, path) != EXIT_VERIFIED)
			code = EXIT_USAGE;
	}
	return code;
}
