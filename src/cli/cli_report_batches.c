/*
 * cli_report_batches - totals of each batch: the sums of its plates; batches.tsv and batches.json.
 */
#include "cli_report.h"

#include <inttypes.h>

struct sum {
	int (*each)(void *user, const struct report_batch *batch);
	void *user;
	char *name; /* NULL: no plate yet */
	struct report_batch batch;
};

static int sum_end(struct sum *s)
{
	cleanup_free char *name = steal_ptr(s->name);
	struct report_batch batch = s->batch;

	s->batch = (struct report_batch){0};
	batch.name = name;
	return name ? s->each(s->user, &batch) : 0;
}

static int64_t earlier(int64_t a_ns, int64_t b_ns)
{
	return !a_ns || (b_ns && b_ns < a_ns) ? b_ns : a_ns;
}

/* The plates of a batch stand together. */
static int sum_plate(void *user, const struct plan_plate *p)
{
	struct sum *s = user;
	struct report_batch *b = &s->batch;
	size_t len = (size_t)(strrchr(p->place, '/') - p->place);
	int status = 0;

	if (!s->name || strlen(s->name) != len || strncmp(s->name, p->place, len) != 0) {
		status = sum_end(s);
		s->name = status == 0 ? strndup(p->place, len) : NULL;
		if (!s->name)
			return status ? status : -ENOMEM;
	}
	b->plates++;
	b->files += p->files;
	b->bytes += p->bytes;
	b->images += p->facts.images;
	b->expected += p->facts.expected;
	b->missing += p->facts.missing;
	b->first_at_ns = earlier(b->first_at_ns, p->first_at_ns);
	if (p->last_at_ns > b->last_at_ns)
		b->last_at_ns = p->last_at_ns;
	return 0;
}

int report_batches_each(const struct report *r,
	int (*each)(void *user, const struct report_batch *batch), void *user)
{
	struct sum sum = {.each = each, .user = user};
	int status = plan_plates_each(&r->plan, sum_plate, &sum);

	if (status == 0)
		status = sum_end(&sum);
	free(sum.name);
	return status;
}

/* ---- files ---------------------------------------------------------------------------------- */

static int put_tsv(void *user, const struct report_batch *b)
{
	FILE *out = user;
	cleanup_buf struct buf name = {0};

	text_escape(&name, b->name);
	if (buf_error(&name) < 0)
		return buf_error(&name);
	fprintf(out,
		"%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64,
		buf_text(&name), b->plates, b->files, b->bytes, b->images, b->expected, b->missing);
	report_put_time(out, b->first_at_ns);
	report_put_time(out, b->last_at_ns);
	fputc('\n', out);
	return 0;
}

int report_batches_tsv(const struct report *r, FILE *out)
{
	int status;

	fputs("batch\tplates\tfiles\tsize_bytes\timages\texpected\tmissing\t"
	      "first_uploaded_at\tlast_uploaded_at\n",
		out);
	status = report_batches_each(r, put_tsv, out);
	return status < 0 ? status : ferror(out) ? -EIO : 0;
}

static json_t *json_time(int64_t at_ns)
{
	char text[32];

	if (!at_ns)
		return json_null();
	time_format_iso8601(at_ns, text);
	return json_string(text);
}

static int add_json(void *user, const struct report_batch *b)
{
	json_t *batches = user;
	json_t *batch = json_pack("{s:o s:I s:I s:I s:I s:I s:I s:o s:o}", "batch",
		report_json_key(b->name), "plates", (json_int_t)b->plates, "files",
		(json_int_t)b->files, "size_bytes", (json_int_t)b->bytes, "images",
		(json_int_t)b->images, "expected", (json_int_t)b->expected, "missing",
		(json_int_t)b->missing, "first_uploaded_at", json_time(b->first_at_ns),
		"last_uploaded_at", json_time(b->last_at_ns));

	return batch && json_array_append_new(batches, batch) == 0 ? 0 : -ENOMEM;
}

int report_batches_json(const struct report *r, FILE *out)
{
	json_t *batches = json_array();
	int status = batches ? report_batches_each(r, add_json, batches) : -ENOMEM;

	if (status == 0 && json_dumpf(batches, out, JSON_INDENT(1)) < 0)
		status = -EIO;
	json_decref(batches);
	fputc('\n', out);
	return status < 0 ? status : ferror(out) ? -EIO : 0;
}
