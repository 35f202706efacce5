/*
 * cli_plan_problems - what a plan found, counted by kind and by what is wrong.
 *
 * Memory is bounded: a kind keeps its first DETAILS_MAX different details, each with a count and
 * its first path. `--problems FILE` gets every one of them, line by line.
 */
#include <inttypes.h>

#include "cli_plan.h"

enum { DETAILS_MAX = 256, DETAILS_SHOWN = 12 };

static const struct {
	const char *word, *title, *remedy;
} kinds[PLAN_KINDS] = {
	[PLAN_UNREADABLE] = {"unreadable", "cannot be read",
		"they would be left out: mend the permissions"},
	[PLAN_SPECIAL] = {"special", "neither files nor folders",
		"symbolic links, sockets and devices are not uploaded; copy what a link means"},
	[PLAN_NAME] = {"name", "folder names the gallery refuses",
		"rename them before anything refers to them; or mount with --naming=clean"},
	[PLAN_NOT_TEXT] = {"not-text", "names that are not text",
		"S3 listings could not show them: rename"},
	[PLAN_LONG_KEY] = {"long-key", "keys over 1,024 bytes", "shorten the names"},
	[PLAN_TOO_LARGE] = {"too-large", "files larger than S3 and this part size take",
		"use a larger --part-size; S3 ends at 5 TiB"},
	[PLAN_DUPLICATE] = {"duplicate", "several files for one key",
		"only one of them would stay"},
	[PLAN_TWIN] = {"twin", "names that differ only in case or in how their letters are encoded",
		"on Windows and macOS they are one file"},
	[PLAN_LAYOUT] = {"layout", "in a place the gallery's layout does not know",
		"move them; the gallery is strict about it"},
	[PLAN_EMPTY] = {"empty", "empty files", "look whether the copy or the export was cut off"},
	[PLAN_ZEROS] = {"zeros", "images that hold only zeros", "export or copy them again"},
	[PLAN_NO_TIFF] = {"no-tiff", "images that are not TIFFs, or cut off",
		"export or copy them again"},
	[PLAN_SIZE] = {"size", "images of another size than the others in their folder",
		"such files are often damaged: open one"},
	[PLAN_EXPECTED] = {"expected", "plates that lack images you expect", NULL},
	[PLAN_LINKS] = {"links", "tables that name what is not there",
		"mend the table, or copy what it names"},
	[PLAN_EXISTS] = {"exists", "plates that are at the destination already",
		"the same content is taken over, other content becomes a conflict"},
	[PLAN_OTHER_SIZE] = {"other-size", "in the bucket already, with another size",
		"uploading them makes conflicts: yours, or somebody else's?"},
	[PLAN_LAYOUT_WARN] = {"layout-note", "taken by the layout, but worth a look", NULL},
	[PLAN_LEAF_NAME] = {"file-name", "names with blanks or special characters below the plate",
		"allowed; scripts may trip over them"},
	[PLAN_MISSING] = {"missing", "plates with gaps", "fine if those sites were never imaged"},
	[PLAN_COUNTERPART] = {"counterpart", "plates with only images/ or only workspace/", NULL},
	[PLAN_REQUIRED] = {"required", "files the gallery requires", NULL},
	[PLAN_UNREAD] = {"unread", "tables whose names of images were not looked up",
		"look through them yourself"},
	[PLAN_TEMPORARY] = {"temporary", "temporary names",
		"they stay here until they are renamed"},
	[PLAN_JUNK] = {"junk", "files that desktops make", "never uploaded"},
};

struct detail {
	char *text; /* NULL: none */
	char *first;
	uint64_t count;
};

struct plan_problems {
	struct found {
		struct detail *details;
		size_t known;
		uint64_t count;
	} found[PLAN_KINDS];
	FILE *tsv;
	int error; /* out of memory: totals stay right, details lack */
};

int plan_problems_create(struct plan_problems **ret, const char *tsv_path)
{
	struct plan_problems *ps = calloc(1, sizeof(*ps));
	FILE *tsv = tsv_path ? fopen(tsv_path, "we") : NULL;
	int status = !ps ? -ENOMEM : tsv_path && !tsv ? -errno : 0;

	if (status < 0) {
		free(ps);
		if (tsv)
			(void)fclose(tsv); /* nothing in it yet */
		return status;
	}
	ps->tsv = tsv;
	if (tsv)
		fputs("kind\tpath\twhat\n", tsv);
	*ret = ps;
	return 0;
}

int plan_problems_close(struct plan_problems *ps)
{
	int status = 0;

	if (!ps)
		return 0;
	if (ps->tsv) {
		bool failed = ferror(ps->tsv);

		status = fclose(ps->tsv) != 0 || failed ? -EIO : 0;
	}
	if (ps->error < 0 && status == 0)
		status = ps->error;
	for (size_t k = 0; k < PLAN_KINDS; k++) {
		for (size_t i = 0; i < ps->found[k].known; i++) {
			free(ps->found[k].details[i].text);
			free(ps->found[k].details[i].first);
		}
		free(ps->found[k].details);
	}
	free(ps);
	return status;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static struct detail *detail_of(struct plan_problems *ps, struct found *f, const char *text)
{
	struct detail *grown;

	for (size_t i = f->known; i > 0; i--) { /* most likely the last one again */
		if (same_text(f->details[i - 1].text, text))
			return &f->details[i - 1];
	}
	if (f->known == DETAILS_MAX)
		return NULL;
	grown = reallocarray(f->details, f->known + 1, sizeof(*grown));
	if (!grown) {
		ps->error = -ENOMEM;
		return NULL;
	}
	f->details = grown;
	grown[f->known] = (struct detail){.text = text ? text_dup(text) : NULL};
	return &grown[f->known++];
}

static int tsv_line(FILE *out, enum plan_kind kind, const char *path, const char *detail)
{
	cleanup_buf struct buf line = {0};

	buf_printf(&line, "%s\t", kinds[kind].word);
	text_escape(&line, path);
	buf_add_char(&line, '\t');
	text_escape(&line, detail ? detail : kinds[kind].title);
	if (buf_error(&line) < 0)
		return buf_error(&line);
	fprintf(out, "%s\n", buf_text(&line));
	return 0; /* what could not be written is told by the stream */
}

void plan_problem(struct plan *p, enum plan_kind kind, const char *path, const char *detail)
{
	struct plan_problems *ps = p->problems;
	struct detail *d = detail_of(ps, &ps->found[kind], detail);

	ps->found[kind].count++;
	if (ps->tsv && tsv_line(ps->tsv, kind, path, detail) < 0)
		ps->error = -ENOMEM;
	if (!d)
		return;
	if (!d->first)
		d->first = text_dup(path);
	d->count++;
}

void plan_problem_f(struct plan *p, enum plan_kind kind, const char *path, const char *fmt, ...)
{
	va_list args;
	char text[1024];

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args); /* cut is good enough for a person */
	va_end(args);
	plan_problem(p, kind, path, text);
}

static void print_detail(FILE *out, const struct detail *d)
{
	cleanup_buf struct buf path = {0};

	text_escape(&path, d->first ? d->first : "");
	if (d->text && d->count > 1)
		fprintf(out, "    %s\n      %" PRIu64 " times, first: %s\n", d->text, d->count,
			buf_text(&path));
	else if (d->text)
		fprintf(out, "    %s\n      %s\n", d->text, buf_text(&path));
	else
		fprintf(out, "    first: %s\n", buf_text(&path));
}

/* What occurs most often first: a whole plate under another name stands before single files. */
static int by_count(const void *a, const void *b)
{
	const struct detail *x = *(const struct detail *const *)a,
			    *y = *(const struct detail *const *)b;

	if (x->count != y->count)
		return x->count > y->count ? -1 : 1;
	return x < y ? -1 : x > y; /* as they were found */
}

/* The details to be shown; their number. *ret_more: how often the others occurred. */
static size_t details_shown(
	const struct found *f, const struct detail *ret[DETAILS_MAX], uint64_t *ret_more)
{
	size_t shown = f->known < DETAILS_SHOWN ? f->known : DETAILS_SHOWN;

	*ret_more = f->count;
	for (size_t i = 0; i < f->known; i++)
		ret[i] = &f->details[i];
	if (f->known > 0)
		qsort(ret, f->known, sizeof(ret[0]), by_count);
	for (size_t i = 0; i < shown; i++)
		*ret_more -= ret[i]->count;
	return shown;
}

static void print_kind(const struct found *f, size_t kind, FILE *out)
{
	const struct detail *order[DETAILS_MAX];
	uint64_t more;
	size_t shown = details_shown(f, order, &more);

	fprintf(out, "  %s: %" PRIu64 "%s%s%s\n", kinds[kind].title, f->count,
		kinds[kind].remedy ? " (" : "", kinds[kind].remedy ? kinds[kind].remedy : "",
		kinds[kind].remedy ? ")" : "");
	for (size_t i = 0; i < shown; i++)
		print_detail(out, order[i]);
	if (more)
		fprintf(out, "    and %" PRIu64 " more (--problems FILE has all)\n", more);
}

static void print_range(const struct plan *p, size_t from, size_t to, const char *head, FILE *out)
{
	bool first = true;

	for (size_t k = from; k < to; k++) {
		if (p->problems->found[k].count == 0)
			continue;
		if (first)
			fprintf(out, "\n%s\n", head);
		first = false;
		print_kind(&p->problems->found[k], k, out);
	}
}

void plan_problems_print(const struct plan *p, FILE *out)
{
	print_range(p, 0, PLAN_NOTES, "Problems", out);
	print_range(p, PLAN_NOTES, PLAN_KINDS, "Worth a look", out);
}

static bool any_of(const struct plan *p, size_t kinds_end)
{
	for (size_t k = 0; k < kinds_end; k++) {
		if (p->problems->found[k].count > 0)
			return true;
	}
	return false;
}

bool plan_has_problems(const struct plan *p)
{
	return any_of(p, PLAN_NOTES);
}

bool plan_has_findings(const struct plan *p)
{
	return any_of(p, PLAN_KINDS);
}

int plan_problems_each(
	const struct plan *p, int (*each)(void *user, const struct plan_finding *f), void *user)
{
	int r = 0;

	for (size_t k = 0; k < PLAN_KINDS; k++) {
		const struct found *found = &p->problems->found[k];
		const struct detail *order[DETAILS_MAX];
		uint64_t more;
		size_t shown = details_shown(found, order, &more);

		for (size_t i = 0; i < shown && r == 0; i++) {
			struct plan_finding f = {.is_note = k >= PLAN_NOTES,
				.title = kinds[k].title,
				.remedy = kinds[k].remedy,
				.what = order[i]->text,
				.first = order[i]->first ? order[i]->first : "",
				.count = order[i]->count,
				.kind_count = found->count,
				.more = i + 1 == shown ? more : 0};

			r = each(user, &f);
		}
	}
	return r;
}
