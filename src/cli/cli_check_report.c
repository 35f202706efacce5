/*
 * cli_check_report - lines "ok|skip|warn|FAIL  name  text", each with its remedy below it; or the
 * same as JSON.
 */
#include "cli_check.h"
#include "cli_private.h"

#include <jansson.h>

#define NAME_WIDTH 14

static const char *const level_words[CHECK_LEVELS] = {
	[CHECK_OK] = "ok", [CHECK_SKIP] = "skip", [CHECK_WARN] = "warn", [CHECK_FAIL] = "FAIL"};

int check_report_init(struct check_report *r, FILE *out)
{
	*r = (struct check_report){.out = out, .lines = json_array()};
	return r->lines ? 0 : -ENOMEM;
}

void check_report_release(struct check_report *r)
{
	json_decref(r->lines);
	r->lines = NULL;
}

/* Texts may hold what a server or a file name said: one line of UTF-8 is made of them. */
static void tidy(char *text, size_t size)
{
	cleanup_buf struct buf escaped = {0};
	bool is_plain = utf8_is_valid(text, strlen(text));
	for (const char *c = text; *c && is_plain; c++)
		is_plain = (unsigned char)*c >= ' ' && *c != 0x7f;
	if (is_plain)
		return;
	text_escape(&escaped, text);
	(void)text_copy(text, buf_text(&escaped), size); /* its end may be cut */
}

static void set(struct check_report *r, json_t *line, const char *name, json_t *value)
{
	if (json_object_set_new(line, name, value) < 0)
		r->incomplete = true;
}

static json_t *last_line(const struct check_report *r)
{
	size_t count = json_array_size(r->lines);
	return count ? json_array_get(r->lines, count - 1) : NULL;
}

void check_say(
	struct check_report *r, enum check_level level, const char *name, const char *fmt, ...)
{
	char text[1024];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	tidy(text, sizeof(text));
	r->count[level]++;
	json_t *line = json_object();
	set(r, line, "check", json_string(name));
	set(r, line, "result", json_string(level_words[level]));
	set(r, line, "text", json_string(text));
	if (json_array_append_new(r->lines, line) < 0)
		r->incomplete = true;
	if (!r->out)
		return;
	fprintf(r->out, "%-4s  %-*s%s\n", level_words[level], NAME_WIDTH, name, text);
	fflush(r->out);
}

void check_remedy(struct check_report *r, const char *fmt, ...)
{
	char text[1024];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	tidy(text, sizeof(text));
	set(r, last_line(r), "remedy", json_string(text));
	if (!r->out)
		return;
	fprintf(r->out, "%*s-> %s\n", 6 + NAME_WIDTH, "", text);
	fflush(r->out);
}

void check_number(struct check_report *r, const char *name, double value)
{
	set(r, last_line(r), name, json_real(value));
}

static void print_json(struct check_report *r)
{
	const char *result = r->count[CHECK_FAIL] ? "FAIL" : r->count[CHECK_WARN] ? "warn" : "ok";
	json_t *all = json_pack("{s:s, s:O}", "result", result, "checks", r->lines);
	if (!all || json_dumpf(all, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER) < 0)
		r->incomplete = true;
	json_decref(all);
	putchar('\n');
}

int check_report_end(struct check_report *r)
{
	if (!r->out)
		print_json(r);
	else if (r->count[CHECK_FAIL])
		fprintf(r->out, "%u of these would keep an upload from working\n",
			r->count[CHECK_FAIL]);
	else if (r->count[CHECK_WARN])
		fprintf(r->out, "an upload will work; see the warnings\n");
	else
		fprintf(r->out, "an upload will work\n");
	if (r->incomplete)
		cli_error("out of memory: the report is not complete");
	if (fflush(r->out ? r->out : stdout) != 0 || r->incomplete)
		return EXIT_USAGE;
	return r->count[CHECK_FAIL] ? EXIT_NEEDS_PERSON : EXIT_VERIFIED;
}
