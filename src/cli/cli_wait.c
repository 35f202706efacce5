/*
 * cli_wait - `cpgfs wait`: until everything (below the paths) is verified, or only a person can help.
 */
#include "cli_private.h"

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>

#define POLL_MS 100

struct wait {
	const char *root;
	char (*paths)[4096];
	size_t path_count;
	bool on_terminal;
	int64_t deadline_ms;
};

static void wait_usage(FILE *out)
{
	fprintf(out,
		"Usage: cpgfs wait [--timeout SECONDS] MOUNTPOINT [PATH…]\n\n"
		"Wait until every file (below each PATH) is verified in the bucket. Files need not\n"
		"settle any more. Exit code: 0 all verified; 1 error, or a path that does not exist\n"
		"or holds nothing; 2 still pending at the timeout; 3 something needs a person.\n");
}

/* Adds `more` to the tables of `sum`. */
static int add_counts(json_t *sum, const json_t *more)
{
	static const char *const tables[] = { "files", "bytes", "held" };
	for (size_t i = 0; i < array_len(tables); i++) {
		json_t *to = json_object_get(sum, tables[i]);
		if (!to && json_object_set_new(sum, tables[i], to = json_object()) < 0)
			return -ENOMEM;
		const char *name;
		json_t *value;
		json_object_foreach(json_object_get(more, tables[i]), name, value) {
			json_int_t n = json_integer_value(json_object_get(to, name));
			if (json_object_set_new(to, name, json_integer(n + json_integer_value(value))) < 0)
				return -ENOMEM;
		}
	}
	static const char *const numbers[] = { "jobs", "jobs_damaged" };
	for (size_t i = 0; i < array_len(numbers); i++) {
		json_int_t jobs = json_integer_value(json_object_get(sum, numbers[i])) +
			json_integer_value(json_object_get(more, numbers[i]));
		if (json_object_set_new(sum, numbers[i], json_integer(jobs)) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* One look at all paths. -ENOENT names (once) what does not exist; *ret_empty is a path that holds
 * nothing, or NULL. */
static int wait_look(const struct wait *w, json_t *sum, const char **ret_empty)
{
	*ret_empty = NULL;
	for (size_t i = 0; i < w->path_count; i++) {
		json_t *answer;
		int r = cli_ask(w->root, "counts", w->paths[i], &answer);
		if (r < 0)
			return r;
		const char *error = json_string_value(json_object_get(answer, "error"));
		if (error || !json_is_true(json_object_get(answer, "exists"))) {
			cli_error("%s/%s: %s", w->root, w->paths[i],
				error ? error : "no such file or folder, here or in the bucket");
			json_decref(answer);
			return -ENOENT;
		}
		struct cli_progress p;
		cli_progress_of(answer, &p);
		if (p.files_all == 0 && w->paths[i][0])
			*ret_empty = w->paths[i];
		r = add_counts(sum, answer);
		json_decref(answer);
		if (r < 0)
			return r;
	}
	return 0;
}

static void show_progress(const struct wait *w, const json_t *sum)
{
	struct cli_progress p;
	char done[24], all[24], eta[24] = "";
	cli_progress_of(sum, &p);
	size_format(p.bytes_done, done);
	size_format(p.bytes_all, all);
	cleanup_buf struct buf text;
	buf_init(&text, 0);
	json_error_t error;
	json_t *status = NULL;
	if (cli_read(w->root, "status.json", &text) == 0)
		status = json_loadb(buf_text(&text), text.len, 0, &error);
	double rate = json_number_value(json_object_get(status, "rate_bytes_per_s"));
	json_int_t eta_s = json_integer_value(json_object_get(status, "eta_s"));
	const char *paused = json_string_value(json_object_get(status, "paused_reason"));
	if (eta_s > 0)
		duration_format(eta_s * MS_PER_S, eta);
	fprintf(stderr, "\r\033[K%" PRIu64 "/%" PRIu64 " verified, %s of %s sent, %.1f MB/s%s%s%s%.60s",
		p.files_done, p.files_all, done, all, rate / 1e6, eta[0] ? ", " : "", eta,
		paused ? ", PAUSED: " : "", paused ? paused : "");
	fflush(stderr);
	json_decref(status);
}

/* Why wait ends with this exit code, where it is not plain. */
static void say_end(const struct wait *w, int code)
{
	if (w->on_terminal)
		fputc('\n', stderr);
	if (code == EXIT_PENDING)
		cli_error("not everything is verified yet: see `cpgfs status %s`", w->root);
	if (code == EXIT_NEEDS_PERSON)
		cli_error("some files need you: see `cpgfs status %s`", w->root);
}

/* 0 with *ret_exit, or -EAGAIN: look again. */
static int wait_step(const struct wait *w, int *ret_exit)
{
	json_t *sum = json_object();
	if (!sum)
		return -ENOMEM;
	const char *empty;
	int r = wait_look(w, sum, &empty);
	if (r == 0) {
		struct cli_progress p;
		cli_progress_of(sum, &p);
		int code = cli_exit_of_counts(sum);
		if (w->on_terminal)
			show_progress(w, sum);
		json_t *held = json_object_get(sum, "held");
		bool moving = p.files_pending > 0 ||
			json_integer_value(json_object_get(sum, "jobs")) > 0 ||
			json_integer_value(json_object_get(held, "temporary")) > 0;
		*ret_exit = code;
		r = moving ? -EAGAIN : 0;
		if (r == 0 && code == EXIT_VERIFIED && empty) {
			cli_error("%s/%s holds nothing that was copied in", w->root, empty);
			*ret_exit = EXIT_USAGE;
		}
	}
	json_decref(sum);
	return r;
}

static int wait_run(const struct wait *w)
{
	int code = EXIT_USAGE;
	for (;;) {
		for (size_t i = 0; i < w->path_count; i++) {
			json_t *answer = NULL;
			if (cli_ask(w->root, "hurry", w->paths[i], &answer) < 0)
				return EXIT_USAGE;
			json_decref(answer); /* a path that does not exist is told by wait_look */
		}
		int r = wait_step(w, &code);
		if (r != -EAGAIN || clock_mono_ms() >= w->deadline_ms) {
			if (r < 0 && r != -EAGAIN)
				code = EXIT_USAGE;
			say_end(w, code);
			return code;
		}
		(void)poll(NULL, 0, POLL_MS); /* the pace of looking, not a condition */
	}
}

int cmd_wait(int argc, char **argv)
{
	static const struct option longs[] = { { "timeout", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	struct wait w = { .on_terminal = isatty(STDERR_FILENO), .deadline_ms = INT64_MAX };
	int64_t timeout_ms = -1;
	for (int c; (c = getopt_long(argc, argv, "t:h", longs, NULL)) != -1;) {
		if (c == 'h') {
			wait_usage(stdout);
			return EXIT_VERIFIED;
		}
		if (c != 't' || duration_parse(optarg, &timeout_ms) < 0) {
			wait_usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind >= argc) {
		wait_usage(stderr);
		return EXIT_USAGE;
	}
	struct cli_target target;
	if (cli_target_find(argv[optind], &target) < 0)
		return EXIT_USAGE;
	size_t more = (size_t)(argc - optind - 1);
	cleanup_free char(*paths)[4096] = calloc(more + 1, sizeof(*paths));
	if (!paths)
		return EXIT_USAGE;
	(void)text_copy(paths[0], target.path, sizeof(paths[0]));
	for (size_t i = 0; i < more; i++)
		if (cli_target_path(target.root, argv[optind + 1 + (int)i], paths[i]) < 0)
			return EXIT_USAGE;
	w.root = target.root;
	w.paths = paths;
	w.path_count = more ? more : 1;
	if (timeout_ms >= 0)
		w.deadline_ms = clock_mono_ms() + timeout_ms;
	return wait_run(&w);
}
