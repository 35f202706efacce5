/*
 * cli_report_links - tables that name other files, read through the mount and looked up in what was
 *                    uploaded.
 *
 * barcode_platemap.csv names plates (Assay_Plate_Barcode) and plate maps (Plate_Map_Name, a file of
 * platemap/). load_data names images in columns URL_…: s3:// addresses of the public bucket, with
 * the keys they have here.
 *
 * Source: broadinstitute/cellpainting-gallery, documentation/data_structure.md.
 */
#include <inttypes.h>

#include "cli_report.h"

enum { CELLS_MAX = 256 };

struct table {
	struct report *report;
	const struct report_row *row;
	char *names[CELLS_MAX]; /* of the first line */
	int columns;
};

/* Cuts a line of CSV in place; quotes as in RFC 4180. */
static int csv_split(char *line, char *cells[CELLS_MAX])
{
	int n = 0;
	char *at = line;

	line[strcspn(line, "\r\n")] = '\0';
	while (n < CELLS_MAX) {
		char *to = at;
		bool quoted = *at == '"';

		cells[n++] = at;
		at += quoted;
		while (*at && (quoted || *at != ',')) {
			if (quoted && at[0] == '"' && at[1] != '"') {
				quoted = false;
				at++;
				continue;
			}
			at += quoted && at[0] == '"';
			*to++ = *at++;
		}
		if (!*at) {
			*to = '\0';
			return n;
		}
		at++;
		*to = '\0';
	}
	return n;
}

static int column_of(const struct table *t, const char *name)
{
	for (int i = 0; i < t->columns; i++) {
		if (strcmp(t->names[i], name) == 0)
			return i;
	}
	return -1;
}

static void complain(struct table *t, const char *what, const char *name)
{
	plan_problem_f(&t->report->plan, PLAN_LINKS, t->row->key, "%s %s", what, name);
}

/* Does any key begin so? Keys are sorted. */
static bool any_below(const struct report *r, const char *prefix)
{
	size_t low = 0, high = r->count, len = strlen(prefix);

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (strncmp(r->rows[middle].key, prefix, len) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < r->count && strncmp(r->rows[low].key, prefix, len) == 0;
}

/* "a/b/workspace/metadata/platemaps/BATCH/x": the part before "workspace/", and BATCH. */
static bool split_place(
	const char *key, char *source, size_t size, const char **batch, int *batch_len)
{
	const char *at = strstr(key, "/workspace/metadata/platemaps/");

	if (!at || (size_t)(at - key) >= size)
		return false;
	memcpy(source, key, (size_t)(at - key));
	source[at - key] = '\0';
	*batch = at + strlen("/workspace/metadata/platemaps/");
	*batch_len = (int)strcspn(*batch, "/");
	return true;
}

/* A plate is there if its folder in images/ is, under its name or "NAME__…". */
static void check_plate(struct table *t, const char *plate)
{
	char source[KEY_MAX_BYTES + 1];
	cleanup_buf struct buf exact = {0}, longer = {0};
	const char *batch;
	int len;

	if (!split_place(t->row->key, source, sizeof(source), &batch, &len))
		return;
	buf_printf(&exact, "%s/images/%.*s/images/%s/", source, len, batch, plate);
	buf_printf(&longer, "%s/images/%.*s/images/%s__", source, len, batch, plate);
	if (!any_below(t->report, buf_text(&exact)) && !any_below(t->report, buf_text(&longer)))
		complain(t, "no images of the plate", plate);
}

static void check_platemap(struct table *t, const char *name)
{
	cleanup_buf struct buf key = {0};
	const char *slash = strrchr(t->row->key, '/');

	buf_printf(&key, "%.*s/platemap/%s.txt", (int)(slash - t->row->key), t->row->key, name);
	if (!report_find(t->report, buf_text(&key)))
		complain(t, "no plate map", name);
}

static int barcode_row(struct table *t, char **cells, int n)
{
	int plate = column_of(t, "Assay_Plate_Barcode"), map = column_of(t, "Plate_Map_Name");

	if (plate < 0 || map < 0) {
		complain(t, "no columns", "Assay_Plate_Barcode and Plate_Map_Name");
		return 1;
	}
	if (n <= plate || n <= map)
		return 0;
	check_plate(t, cells[plate]);
	check_platemap(t, cells[map]);
	return 0;
}

static void check_url(struct table *t, const char *url)
{
	const char *key = text_starts(url, "s3://") ? strchr(url + 5, '/') : NULL;

	if (!key)
		complain(t, "no s3:// address:", url);
	else if (!text_starts(url, "s3://cellpainting-gallery/"))
		complain(t, "an address in another bucket than the public one:", url);
	else if (!report_find(t->report, key + 1))
		complain(t, "no such image:", url);
}

static int load_data_row(struct table *t, char **cells, int n)
{
	for (int i = 0; i < n && i < t->columns; i++) {
		if (text_starts(t->names[i], "URL_") && cells[i][0])
			check_url(t, cells[i]);
	}
	return 0;
}

/* row returns 1 when the rest of the table is of no use. */
static int read_table(struct table *t, int (*row)(struct table *t, char **cells, int n))
{
	cleanup_buf struct buf path = {0};
	cleanup_file FILE *f = NULL;
	cleanup_free char *head = NULL, *line = NULL;
	size_t head_space = 0, space = 0;
	char *cells[CELLS_MAX];
	int r = 0;

	buf_printf(&path, "%s/%s", t->report->root, t->row->key);
	f = buf_error(&path) == 0 ? fopen(buf_text(&path), "re") : NULL;
	if (!f || getline(&head, &head_space, f) < 0) {
		complain(t, "cannot be read:", f ? "it is empty" : strerror(errno));
		return 0;
	}
	t->columns = csv_split(text_starts(head, "\xef\xbb\xbf") ? head + 3 : head, t->names);
	while (r == 0 && getline(&line, &space, f) >= 0)
		r = row(t, cells, csv_split(line, cells));
	if (ferror(f))
		complain(t, "cannot be read:", strerror(errno));
	return r < 0 ? r : 0;
}

int report_links(struct report *r)
{
	int status = 0;

	for (size_t i = 0; i < r->count && status == 0; i++) {
		struct table t = {.report = r, .row = &r->rows[i]};
		const char *key = r->rows[i].key;

		if (r->rows[i].outside)
			continue;
		if (text_ends(key, "/barcode_platemap.csv"))
			status = read_table(&t, barcode_row);
		else if (strstr(key, "/load_data_csv/") && text_ends(key, ".csv"))
			status = read_table(&t, load_data_row);
	}
	return status;
}
