/*
 * cli_report - `cpgfs report`: what the gallery's maintainers get with an upload.
 *
 *	cli_report.c         the command; manifest.tsv, manifest.json
 *	cli_report_links.c   tables that name other files: barcode_platemap.csv, load_data.csv
 *	cli_report_html.c    report.html, one page that opens from disk
 */
#pragma once

#include "cli_plan.h"

struct report_row {
	char *key, *etag, *crc64nvme, *uploaded_at, *verified_at, *state,
		*mtime;	 /* text as in .cpgfs */
	char sha256[65]; /* "" not known */
	uint64_t size_bytes;
	bool outside; /* of the path: only there to be found by tables */
};

struct report {
	const char *root; /* of the mount */
	const char *bucket;
	const char *layout_name; /* for cli_layout_load */
	const char *path;	 /* below the root; "" all */
	struct report_row *rows; /* by key: all that was uploaded */
	size_t count;
	uint64_t files;          /* of these, below the path; what follows, too */
	uint64_t bytes, verified, gone;
	struct plan plan; /* layout, plates and problems of the rows */
};

const struct report_row *report_find(const struct report *r, const char *key);
/* ---- cli_report_links.c ---- */
void report_links(struct report *r);
/* ---- cli_report_html.c ---- */
must_check int report_html(const struct report *r, FILE *out);
