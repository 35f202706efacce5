/*
 * cli_report_html - the report as one page: no network, no script; plates as pictures.
 */
#include "cli_report.h"

#include <inttypes.h>

static const char style[] =
	"body{font:15px/1.45 sans-serif;margin:2em auto;max-width:76em;padding:0 1em;color:#222}"
	"h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2em}"
	"table{border-collapse:collapse;width:100%}"
	"th,td{text-align:left;padding:.25em .8em .25em 0;border-bottom:1px solid "
	"#ddd;vertical-align:top}"
	"td.n,th.n{text-align:right}"
	".good{color:#00664b}.bad{color:#b03a00;font-weight:bold}"
	".plate{margin:1em 0;overflow-x:auto}code{overflow-wrap:anywhere}";

static void put(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (strchr("<>&\"'", *text))
			fprintf(out, "&#%d;", *text);
		else if ((unsigned char)*text >= 0x20 || *text == '\n')
			fputc(*text, out);
		else
			fputs("\xef\xbf\xbd", out);
	}
}

static void put_time(FILE *out, int64_t at_ns)
{
	char text[32] = "–";

	if (at_ns)
		time_format_iso8601(at_ns, text);
	put(out, text);
}

static void put_head(const struct report *r, FILE *out)
{
	char bytes[24];
	bool all = r->verified == r->files && r->not_yet + r->stuck == 0;

	size_format(r->bytes, bytes);
	fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
	      "<meta name=\"viewport\" content=\"width=device-width\"><title>Upload of ",
		out);
	put(out, r->path[0] ? r->path : r->bucket);
	fprintf(out, "</title><style>%s</style></head><body>\n<h1>Upload to <code>s3://", style);
	put(out, r->bucket);
	fputs("/", out);
	put(out, r->path);
	fprintf(out,
		"</code></h1>\n<p>%" PRIu64 " files, %s. <span class=\"%s\">%" PRIu64
		" of them verified: a listing made after their upload showed each with our size "
		"and "
		"content tag.</span>",
		r->files, bytes, all ? "good" : "bad", r->verified);
	if (r->gone)
		fprintf(out, " %" PRIu64 " were verified and have since been moved on.", r->gone);
	if (r->not_yet)
		fprintf(out,
			" <span class=\"bad\">%" PRIu64 " more %s not in the bucket yet.</span>",
			r->not_yet, r->not_yet == 1 ? "is" : "are");
	if (r->stuck)
		fprintf(out,
			" <span class=\"bad\">%" PRIu64 " %s somebody first (cpgfs status tells "
			"more).</span>",
			r->stuck, r->stuck == 1 ? "needs" : "need");
	fputs(" manifest.tsv has every file of these with its checksum; <code>cpgfs verify "
	      "manifest.tsv "
	      "s3://…</code> compares it with any bucket.</p>\n",
		out);
}

static int put_plate_row(void *user, const struct plan_plate *p)
{
	FILE *out = user;
	char bytes[24];

	size_format(p->bytes, bytes);
	fputs("<tr><td><code>", out);
	put(out, p->place);
	fprintf(out,
		"</code></td><td>%s</td><td class=\"n\">%" PRIu64 "</td><td class=\"n\">%s</td>"
		"<td>%u × %u × %u</td><td class=\"%s\">%" PRIu64 " of %" PRIu64 "</td><td>",
		image_vendor_text(p->vendor), p->files, bytes, p->facts.wells, p->facts.sites,
		p->facts.channels, p->facts.missing ? "bad" : "good", p->facts.images,
		p->facts.expected);
	put_time(out, p->first_at_ns);
	fputs("</td><td>", out);
	put_time(out, p->last_at_ns);
	fputs("</td></tr>\n", out);
	return 0;
}

static int put_batch_row(void *user, const struct report_batch *b)
{
	FILE *out = user;
	char bytes[24];

	size_format(b->bytes, bytes);
	fputs("<tr><td><code>", out);
	put(out, b->name);
	fprintf(out,
		"</code></td><td class=\"n\">%" PRIu64 "</td><td class=\"n\">%" PRIu64
		"</td><td class=\"n\">%s</td><td>%" PRIu64 " of %" PRIu64 "</td></tr>\n",
		b->plates, b->files, bytes, b->images, b->expected);
	return 0;
}

/* ---- findings, pictures --------------------------------------------------------------------- */

static int put_finding(void *user, const struct plan_finding *f)
{
	FILE *out = user;

	fprintf(out, "<tr><td class=\"%s\">%s</td><td>", f->is_note ? "" : "bad",
		f->is_note ? "look" : "problem");
	put(out, f->title);
	fputs("</td><td>", out);
	put(out, f->what ? f->what : "");
	fprintf(out, "</td><td class=\"n\">%" PRIu64 "</td><td><code>", f->count);
	put(out, f->first);
	fputs("</code></td></tr>\n", out);
	if (f->more)
		fprintf(out,
			"<tr><td></td><td></td><td>and more of this kind (findings.tsv has "
			"all)</td>"
			"<td class=\"n\">%" PRIu64 "</td><td></td></tr>\n",
			f->more);
	return 0;
}

static int put_findings(const struct report *r, FILE *out)
{
	int status;

	fputs("<h2>Findings</h2>\n", out);
	if (!plan_has_findings(&r->plan)) {
		fprintf(out, "<p class=\"good\">Nothing was found: %s.</p>\n",
			r->no_layout
				? "no file is empty, and tables name what is there (mounted with "
				  "--layout=off: places and plates were not looked at)"
				: "every file has its place, every plate seen is complete, and "
				  "tables name what is there");
		return 0;
	}
	fputs("<table><tr><th></th><th>kind</th><th>what</th><th class=\"n\">times</th>"
	      "<th>first</th></tr>\n",
		out);
	status = plan_problems_each(&r->plan, put_finding, out);
	fputs("</table>\n", out);
	return status;
}

struct pictures {
	const struct report *report;
	FILE *out;
};

/* The mount draws them; its SVG holds only shapes and text, and is checked by its own tests. */
static int put_picture(void *user, const struct plan_plate *p)
{
	struct pictures *s = user;
	cleanup_buf struct buf name = {0}, svg = {0};

	buf_printf(&name, "plates/%s.svg", p->place);
	if (buf_error(&name) < 0)
		return -ENOMEM;
	buf_init(&svg, 0);
	if (cli_read(s->report->root, buf_text(&name), &svg) < 0)
		return 0; /* under another name in the mount (--naming=clean): the table has it */
	fputs("<div class=\"plate\">", s->out);
	fwrite(svg.data, 1, svg.len, s->out);
	fputs("</div>\n", s->out);
	return 0;
}

int report_html(const struct report *r, FILE *out)
{
	struct pictures pictures = {r, out};
	int status;

	put_head(r, out);
	fputs("<h2>Batches</h2>\n<table><tr><th>batch</th><th class=\"n\">plates</th>"
	      "<th class=\"n\">files</th><th class=\"n\">size</th><th>images</th></tr>\n",
		out);
	status = report_batches_each(r, put_batch_row, out);
	fputs("</table>\n<h2>Plates</h2>\n<table><tr><th>plate</th><th>microscope</th>"
	      "<th class=\"n\">files</th><th class=\"n\">size</th><th>wells × sites × channels</th>"
	      "<th>images</th><th>first uploaded</th><th>last uploaded</th></tr>\n",
		out);
	if (status == 0)
		status = plan_plates_each(&r->plan, put_plate_row, out);
	fputs("</table>\n", out);
	if (status == 0)
		status = put_findings(r, out);
	fputs("<h2>Plate maps</h2>\n", out);
	if (status == 0)
		status = plan_plates_each(&r->plan, put_picture, &pictures);
	fputs("</body></html>\n", out);
	return status < 0 ? status : ferror(out) ? -EIO : 0;
}
