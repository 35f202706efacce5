/*
 * cli_report - `cpgfs report`: what the gallery's maintainers get with an upload.
 *
 *	cli_report.c         the command; manifest.tsv, manifest.json, plates.tsv
 *	cli_report_batches.c totals of each batch; batches.tsv, batches.json
 *	cli_report_links.c   tables that name other files: barcode_platemap.csv, load_data.csv
 *	cli_report_html.c    report.html, one page that opens from disk
 */
#pragma once

#include "cli_plan.h"

struct report_row {
	char *key, *etag, *crc64nvme, *uploaded_at, *verified_at, *state,
		*mtime;	 /* text as in .cpgfs */
	char *path;	 /* in the mount */
	char sha256[65]; /* "" not known */
	uint64_t size_bytes;
	bool outside; /* of the path: only there to be found by tables */
};

struct report {
	const char *root; /* of the mount */
	const char *bucket;
	const char *layout_name; /* for cli_layout_load */
	bool no_layout;		 /* mounted with --layout=off: places and plates are not judged */
	const char *path;	 /* a key, or the begin of some; "" all */
	struct report_row *rows; /* by key: all that was uploaded */
	size_t count;
	uint64_t files;          /* of these, below the path; what follows, too */
	uint64_t bytes, verified, gone;
	uint64_t not_yet, stuck; /* below the path and in no row: on their way; only a person can help */
	struct plan plan; /* layout, plates and problems of the rows */
};

const struct report_row *report_find(const struct report *r, const char *key);
void report_put_time(FILE *out, int64_t at_ns); /* a tab, and the time; 0: "-" */
json_t *report_json_key(const char *key);       /* escaped where it is no UTF-8; NULL: no memory */
/* ---- cli_report_batches.c ---- */
struct report_batch {
	const char *name; /* "project/source/batch" */
	uint64_t plates, files, bytes, images, expected, missing;
	int64_t first_at_ns, last_at_ns;
};
/* Every batch that has plates; each returns non-zero to stop. */
int report_batches_each(const struct report *r,
	int (*each)(void *user, const struct report_batch *batch), void *user);
must_check int report_batches_tsv(const struct report *r, FILE *out);
must_check int report_batches_json(const struct report *r, FILE *out);
/* ---- cli_report_links.c ---- */
void report_links(struct report *r);
/* ---- cli_report_html.c ---- */
must_check int report_html(const struct report *r, FILE *out);
