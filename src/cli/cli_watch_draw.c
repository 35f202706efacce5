/*
 * cli_watch_draw - one screen of `cpgfs status --watch`.
 *
 * From the top: totals with a bar, rate and time left; what everything waits for; what needs a
 * person, with the remedy; then a line per plate, unfinished ones first, as many as fit.
 */
#include <inttypes.h>

#include "cli_watch.h"

enum { BAR_MAX = 40, NAME_MAX_SHOWN = 44 };

#define RED "\033[31m"
#define GREEN "\033[32m"
#define BOLD "\033[1m"
#define PLAIN "\033[0m"

struct draw {
	const struct watch_screen *screen;
	struct buf *out;
	unsigned lines;
};

static uint64_t count_of(const json_t *status, const char *table, const char *name)
{
	json_int_t n = json_integer_value(json_object_get(json_object_get(status, table), name));

	return n > 0 ? (uint64_t)n : 0;
}

/* Bytes of the first n characters of UTF-8. */
static size_t characters(const char *text, size_t n)
{
	const char *at = text;

	while (*at && n > 0) {
		at++;
		while (((unsigned char)*at & 0xc0) == 0x80)
			at++;
		n--;
	}
	return (size_t)(at - text);
}

/* One line, cut at the screen's width; control characters never reach the terminal. */
static void add_line(struct draw *d, const char *colour, const char *text)
{
	cleanup_buf struct buf shown = {0};
	bool coloured = d->screen->colour && colour[0];

	if (d->lines == d->screen->height)
		return;
	text_escape(&shown, text);
	buf_add_text(d->out, d->lines++ ? "\n" : "");
	buf_add_text(d->out, coloured ? colour : "");
	buf_add(d->out, buf_text(&shown), characters(buf_text(&shown), d->screen->width));
	buf_add_text(d->out, coloured ? PLAIN : "");
}

static void add_line_f(struct draw *d, const char *colour, const char *fmt, ...) printf_like(3, 4);
static void add_line_f(struct draw *d, const char *colour, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args); /* no screen is that wide */
	va_end(args);
	add_line(d, colour, text);
}

/* "[#####.....]": '#' done, '=' in the bucket but not verified, '!' needs a person. */
static void bar(char *out, unsigned width, uint64_t all, const uint64_t shares[3])
{
	static const char letters[] = "#=!";
	uint64_t sum = 0;
	unsigned at = 0;

	for (size_t i = 0; i < 3; i++) {
		unsigned to;

		sum += shares[i];
		/* full only when nothing is left */
		to = all ? (unsigned)(sum * width / all) : 0;
		for (; at < to && at < width; at++)
			out[at] = letters[i];
	}
	memset(out + at, '.', width - at);
	out[width] = '\0';
}

static unsigned bar_width(const struct draw *d)
{
	unsigned width = d->screen->width / 3;

	return width > BAR_MAX ? BAR_MAX : width;
}

/* ---- totals --------------------------------------------------------------------------------- */

static void draw_head(struct draw *d, const json_t *status)
{
	const json_t *mount = json_object_get(status, "mount");
	const char *bucket = json_string_value(json_object_get(mount, "bucket"));
	const char *prefix = json_string_value(json_object_get(mount, "prefix"));
	char when[32];

	time_format_iso8601(d->screen->now_ns, when);
	add_line_f(d, BOLD, "s3://%s/%s  %s", bucket ? bucket : "?", prefix ? prefix : "", when);
}

static void draw_totals(struct draw *d, const json_t *status)
{
	struct cli_progress p;
	char line[BAR_MAX + 1], done[24], all[24];
	uint64_t verified = count_of(status, "bytes", "verified");

	cli_progress_of(status, &p);
	p.files_person += count_of(status, "held", "name");
	p.files_all += count_of(status, "held", "name") + count_of(status, "held", "temporary");
	bar(line, bar_width(d), p.bytes_all, (uint64_t[]){verified, p.bytes_done - verified, 0});
	size_format(p.bytes_done, done);
	size_format(p.bytes_all, all);
	add_line_f(d, "", "[%s] %3u%%  %s of %s in the bucket", line,
		p.bytes_all ? (unsigned)(p.bytes_done * 100 / p.bytes_all) : 100, done, all);
	add_line_f(d, "",
		"files: %" PRIu64 "  verified %" PRIu64 "  on their way %" PRIu64
		"  need you %" PRIu64,
		p.files_all, p.files_done, p.files_pending, p.files_person);
}

static void draw_rate(struct draw *d, const json_t *status)
{
	double rate = json_number_value(json_object_get(status, "rate_bytes_per_s"));
	const json_t *eta = json_object_get(status, "eta_s");
	const json_t *transfers = json_object_get(status, "transfers");
	char speed[24], left[24] = "unknown";

	size_format((uint64_t)rate, speed);
	if (json_is_integer(eta))
		duration_format(json_integer_value(eta) * MS_PER_S, left);
	add_line_f(d, "",
		"rate: %s/s  left: %s  transfers: %" JSON_INTEGER_FORMAT
		" of %" JSON_INTEGER_FORMAT,
		speed, left, json_integer_value(json_object_get(transfers, "active")),
		json_integer_value(json_object_get(transfers, "limit")));
}

/* ---- what waits, and what needs a person ---------------------------------------------------- */

static void draw_waits(struct draw *d, const json_t *status)
{
	const char *paused = json_string_value(json_object_get(status, "paused_reason"));
	const char *remote = json_string_value(json_object_get(status, "remote_problem"));
	json_int_t writers = json_integer_value(
		json_object_get(json_object_get(status, "requests"), "writers_waiting"));

	if (paused)
		add_line_f(d, RED, "PAUSED: %s", paused);
	if (remote)
		add_line_f(d, RED, "bucket: %s", remote);
	if (writers > 0)
		add_line_f(d, RED, "%" JSON_INTEGER_FORMAT " writers wait for room in the cache",
			writers);
	if (count_of(status, "held", "temporary"))
		add_line_f(d, "",
			"%" PRIu64 " files with temporary names wait until they are renamed",
			count_of(status, "held", "temporary"));
}

static void draw_person(struct draw *d, const json_t *status)
{
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++) {
		uint64_t n = count_of(status, "files", file_state_text(s));

		if (s == FILE_HELD)
			n = count_of(status, "held", "name");
		if (n == 0 || file_state_exit(s) != EXIT_NEEDS_PERSON)
			continue;
		add_line_f(
			d, RED, "%s %" PRIu64 ": %s", file_state_text(s), n, file_state_remedy(s));
	}
}

/* ---- plates --------------------------------------------------------------------------------- */

struct plate_row {
	const char *name;
	int name_len;
	uint64_t verified, uploaded, copied, person;
};

static bool row_read(const char *line, struct plate_row *ret)
{
	*ret = (struct plate_row){.name = line, .name_len = (int)strcspn(line, "\t\n")};
	return sscanf(line + ret->name_len,
		       "\t%" SCNu64 "\t%*u\t%" SCNu64 "\t%*u\t%" SCNu64 "\t%*u\t%" SCNu64,
		       &ret->verified, &ret->uploaded, &ret->copied, &ret->person) == 4;
}

/* Those that need a person, then the unfinished, then the rest; each in the order of names. */
static int rank_of(const struct plate_row *r)
{
	return r->person ? 0 : r->copied + r->uploaded ? 1 : 2;
}

static void draw_plate(struct draw *d, const struct plate_row *r)
{
	uint64_t all = r->verified + r->uploaded + r->copied + r->person;
	unsigned width = d->screen->width > 78 ? NAME_MAX_SHOWN : d->screen->width / 3;
	const char *name = r->name;
	int len = r->name_len;
	char line[BAR_MAX + 1];

	/* the end of the name tells plates apart */
	if (len > (int)width) {
		name += len - (int)width;
		len = (int)width;
	}
	bar(line, bar_width(d) / 2, all, (uint64_t[]){r->verified, r->uploaded, r->person});
	add_line_f(d,
		r->person	  ? RED
		: rank_of(r) == 2 ? GREEN
				  : "",
		"%-*.*s [%s] %" PRIu64 "/%" PRIu64, (int)width, len, name, line, r->verified, all);
}

static void draw_plates(struct draw *d, const char *plates)
{
	const char *first = strchr(plates, '\n');
	unsigned left = d->screen->height > d->lines + 1 ? d->screen->height - d->lines - 1 : 0;
	unsigned count = 0;

	for (int rank = 0; rank < 3 && first; rank++) {
		for (const char *line = first + 1; *line; line += strcspn(line, "\n") + 1) {
			struct plate_row row;

			if (!row_read(line, &row) || rank_of(&row) != rank)
				continue;
			if (count++ < left)
				draw_plate(d, &row);
			if (!strchr(line, '\n'))
				break;
		}
	}
	if (count > left)
		add_line_f(d, "", "and %u more plates; q quits", count - left);
	else
		add_line(d, "", "q quits");
}

void watch_draw(const json_t *status, const char *plates, const struct watch_screen *screen,
	struct buf *out)
{
	struct draw d = {.screen = screen, .out = out};

	draw_head(&d, status);
	draw_totals(&d, status);
	draw_rate(&d, status);
	draw_waits(&d, status);
	draw_person(&d, status);
	draw_plates(&d, plates);
}
