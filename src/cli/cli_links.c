/*
 * cli_links - tables that name other files: do those exist?
 *
 * barcode_platemap.csv names plates (Assay_Plate_Barcode) and plate maps (Plate_Map_Name, a file of
 * platemap/). load_data names images in columns URL_…: s3:// addresses of the public bucket, with
 * the keys they have here; it must have a column Metadata_Well. It may be compressed (.csv.gz); one
 * that is .parquet is not looked into, and a note says so.
 *
 * Source: broadinstitute/cellpainting-gallery, documentation/data_structure.md.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>
#include <zlib.h>

#include "cli_links.h"

enum { CELLS_MAX = 256 };

struct table {
	const struct links *links;
	const char *key;
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

static void complain(const struct table *t, const char *what, const char *name)
{
	plan_problem_f(t->links->plan, PLAN_LINKS, t->links->shown, "%s %s", what, name);
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

static bool any_below(const struct table *t, const char *fmt, ...) printf_like(2, 3);
static bool any_below(const struct table *t, const char *fmt, ...)
{
	char prefix[KEY_MAX_BYTES + 1];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(prefix, sizeof(prefix), fmt, args); /* no key is longer */
	va_end(args);
	return t->links->any_below(t->links->user, prefix);
}

/* A plate has a folder in images/, "NAME" or "NAME__…", and one wherever its batch has any. Of a batch
 * without images nothing is known. */
static void check_plate(const struct table *t, const char *plate)
{
	static const char *const folders[] = {"backend", "load_data_csv", "profiles"};
	char source[KEY_MAX_BYTES + 1];
	const char *batch;
	int len;

	if (!split_place(t->key, source, sizeof(source), &batch, &len))
		return;
	if (any_below(t, "%s/images/%.*s/images/", source, len, batch) &&
		!any_below(t, "%s/images/%.*s/images/%s/", source, len, batch, plate) &&
		!any_below(t, "%s/images/%.*s/images/%s__", source, len, batch, plate))
		complain(t, "no images of the plate", plate);
	for (size_t i = 0; i < array_len(folders); i++) {
		char what[64];

		if (!any_below(t, "%s/workspace/%s/%.*s/", source, folders[i], len, batch) ||
			any_below(t, "%s/workspace/%s/%.*s/%s/", source, folders[i], len, batch,
				plate))
			continue;
		snprintf(what, sizeof(what), "nothing in workspace/%s of the plate", folders[i]);
		complain(t, what, plate);
	}
}

static void check_platemap(const struct table *t, const char *name)
{
	cleanup_buf struct buf key = {0};
	const char *slash = strrchr(t->key, '/');

	buf_printf(&key, "%.*s/platemap/%s.txt", (int)(slash - t->key), t->key, name);
	if (buf_error(&key) == 0 && !t->links->has(t->links->user, buf_text(&key)))
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

/* A whole plate under another name is one mistake, not thousands. */
static void complain_image(const struct table *t, const char *url, const char *key)
{
	cleanup_free char *folder = text_dup(url);
	char *slash = folder ? strrchr(folder, '/') : NULL;

	if (slash)
		slash[1] = '\0';
	if (slash && folder + (key - url) < slash && !any_below(t, "%s", folder + (key - url)))
		complain(t, "no such folder:", folder);
	else
		complain(t, "no such image:", url);
}

static void check_url(const struct table *t, const char *url)
{
	const char *key = text_starts(url, "s3://") ? strchr(url + 5, '/') : NULL;

	if (!key)
		complain(t, "no s3:// address:", url);
	else if (!text_starts(url, "s3://cellpainting-gallery/"))
		complain(t, "an address in another bucket than the public one:", url);
	else if (!t->links->has(t->links->user, key + 1))
		complain_image(t, url, key + 1);
}

static int load_data_row(struct table *t, char **cells, int n)
{
	for (int i = 0; i < n && i < t->columns; i++) {
		if (text_starts(t->names[i], "URL_") && cells[i][0])
			check_url(t, cells[i]);
	}
	return 0;
}

/* ---- reading tables ------------------------------------------------------------------------- */

/* -EBADMSG stands for what gzip calls damaged, cut off, or none of its own. */
static ssize_t gunzip_read(void *cookie, char *out, size_t size)
{
	gzFile gz = cookie;
	int code = Z_OK, n = gzread(gz, out, size < MIB ? (unsigned)size : MIB);

	if (n <= 0)
		(void)gzerror(gz, &code);
	if (code == Z_OK && (n == 0 || !gzdirect(gz)))
		return n;
	if (code != Z_ERRNO)
		errno = EBADMSG;
	return -1;
}

static int gunzip_close(void *cookie)
{
	(void)gzclose(cookie); /* only read */
	return 0;
}

static FILE *gunzip(FILE *packed)
{
	int fd = fcntl(fileno(packed), F_DUPFD_CLOEXEC, 0);
	gzFile gz = fd < 0 ? NULL : gzdopen(fd, "rb");
	FILE *f = gz ? fopencookie(gz, "r",
			       (cookie_io_functions_t){.read = gunzip_read, .close = gunzip_close})
		     : NULL;

	if (!f && gz)
		(void)gunzip_close(gz);
	else if (!f && fd >= 0)
		(void)close(fd); /* nothing was written */
	return f;
}

static FILE *open_table(const struct table *t)
{
	cleanup_file FILE *f = t->links->open(t->links->user, t->key);

	return f && text_ends(t->key, ".gz") ? gunzip(f) : steal_ptr(f);
}

static void complain_reading(const struct table *t)
{
	complain(t, "cannot be read:",
		errno == EBADMSG ? "damaged, cut off, or not compressed by gzip" : strerror(errno));
}

/* row returns 1 when the rest of the table is of no use. */
static void read_table(struct table *t, const char *must_have,
	int (*row)(struct table *t, char **cells, int n))
{
	cleanup_file FILE *f = open_table(t);
	cleanup_free char *head = NULL, *line = NULL;
	size_t head_space = 0, space = 0;
	char *cells[CELLS_MAX];
	int r = 0;

	if (!f || getline(&head, &head_space, f) < 0) {
		if (f && !ferror(f))
			complain(t, "cannot be read:", "it is empty");
		else
			complain_reading(t);
		return;
	}
	t->columns = csv_split(text_starts(head, "\xef\xbb\xbf") ? head + 3 : head, t->names);
	if (must_have && column_of(t, must_have) < 0)
		complain(t, "no column", must_have);
	while (r == 0 && getline(&line, &space, f) >= 0)
		r = row(t, cells, csv_split(line, cells));
	if (ferror(f))
		complain_reading(t);
}

enum links_table links_table_of(const char *key)
{
	if (text_ends(key, "/barcode_platemap.csv"))
		return LINKS_BARCODES;
	if (!strstr(key, "/load_data_csv/"))
		return LINKS_NONE;
	if (text_ends(key, ".csv") || text_ends(key, ".csv.gz"))
		return LINKS_LOAD_DATA;
	return text_ends(key, ".parquet") ? LINKS_UNREAD : LINKS_NONE;
}

void links_check(const struct links *l, const char *key)
{
	struct table t = {.links = l, .key = key};

	switch (links_table_of(key)) {
	case LINKS_BARCODES:
		read_table(&t, NULL, barcode_row);
		break;
	case LINKS_LOAD_DATA:
		read_table(&t, "Metadata_Well", load_data_row);
		break;
	case LINKS_UNREAD:
		plan_problem(l->plan, PLAN_UNREAD, l->shown, ".parquet is not looked into");
		break;
	case LINKS_NONE:
		break;
	}
}
