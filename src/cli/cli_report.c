/*
 * cli_report - `cpgfs report`: the hand-over of an upload, from what a mount knows of it.
 */
#include "cli_gallery.h"
#include "cli_report.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIELDS = 8 }; /* of uploaded.tsv, but for the path, which older mounts do not tell */

static void report_usage(FILE *out)
{
	fprintf(out, "Usage: cpgfs report [--sha256] [-o DIR] MOUNTPOINT[/PATH]\n\n"
		     "Write what the gallery's maintainers need of an upload into DIR "
		     "[cpgfs-report]:\n\n"
		     "  manifest.tsv, manifest.json  every file: key, size, checksums, times\n"
		     "  report.html                  totals, plates, findings; opens from disk\n"
		     "  batches.tsv, batches.json    totals of each batch\n"
		     "  plates.tsv, findings.tsv     every plate, every finding\n\n"
		     "  --sha256  also of every file (reads them all)\n\n"
		     "Exit codes: 0 written, all is verified and nothing was found; 1 error; 2 "
		     "some files\n"
		     "are not verified yet; 3 findings.\n");
}

/* ---- rows ----------------------------------------------------------------------------------- */

static bool is_below(const char *key, const char *path)
{
	size_t len = strlen(path);

	return len == 0 || (strncmp(key, path, len) == 0 && (key[len] == '/' || !key[len]));
}

/* The line's fields become the row's texts, in place. */
static int row_of(char *line, struct report_row *ret)
{
	char *fields[FIELDS], *path;
	int n = 0;

	for (; line && n < FIELDS; n++)
		fields[n] = strsep(&line, "\t");
	path = line ? strsep(&line, "\t") : NULL;
	if (path && strcmp(path, "-") == 0)
		path = NULL;
	if (n < FIELDS || text_unescape(fields[0]) < 0 || (path && text_unescape(path) < 0))
		return -EBADMSG;
	*ret = (struct report_row){.key = fields[0],
		.crc64nvme = fields[2],
		.etag = fields[3],
		.uploaded_at = fields[4],
		.verified_at = fields[5],
		.state = fields[6],
		.mtime = fields[7],
		.path = path ? path : fields[0]};
	return u64_parse(fields[1], &ret->size_bytes);
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct report_row *)a)->key, ((const struct report_row *)b)->key);
}

const struct report_row *report_find(const struct report *r, const char *key)
{
	struct report_row wanted = {.key = (char *)key};

	return r->count ? bsearch(&wanted, r->rows, r->count, sizeof(wanted), by_key) : NULL;
}

static int add_row(struct report *r, size_t *space, const struct report_row *row)
{
	if (r->count == *space) {
		size_t more = *space ? 2 * *space : 1024;
		struct report_row *grown = reallocarray(r->rows, more, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		r->rows = grown;
		*space = more;
	}
	r->rows[r->count++] = *row;
	if (row->outside)
		return 0;
	r->files++;
	r->bytes += row->size_bytes;
	r->gone += strcmp(row->state, "gone") == 0;
	r->verified += strcmp(row->state, "uploaded") != 0;
	return 0;
}

/* text stays: rows point into it. */
static int read_rows(struct report *r, char *text)
{
	size_t space = 0;
	int status = 0;
	char *line = strchr(text, '\n');

	line = line ? line + 1 : text + strlen(text);
	while (*line && status == 0) {
		char *next = strchr(line, '\n');
		struct report_row row;

		if (next)
			*next++ = '\0';
		status = row_of(line, &row);
		if (status == 0) {
			row.outside = !is_below(row.key, r->path);
			status = add_row(r, &space, &row);
		}
		line = next ? next : line + strlen(line);
	}
	if (r->count)
		qsort(r->rows, r->count, sizeof(*r->rows), by_key);
	return status;
}

static int add_sha256(const struct report *r, struct report_row *row)
{
	cleanup_free uint8_t *block = malloc(MIB);
	cleanup_buf struct buf path = {0};
	struct sha256_ctx *ctx = NULL;
	cleanup_fd int fd = -1;
	uint8_t digest[32];
	uint64_t at = 0, crc = 0;
	char crc_text[16];
	ssize_t n = 1;
	int status;

	buf_printf(&path, "%s/%s", r->root, row->path);
	status = block && buf_error(&path) == 0 ? io_open(buf_text(&path), O_RDONLY, 0, &fd)
						: -ENOMEM;
	if (status == 0)
		status = sha256_create(&ctx);
	while (status == 0 && n > 0) {
		n = io_pread(fd, block, MIB, at);
		if (n > 0) {
			sha256_update(ctx, block, (size_t)n);
			crc = crc64nvme(crc, block, (size_t)n);
		}
		at += n > 0 ? (uint64_t)n : 0;
	}
	if (ctx)
		sha256_finish(ctx, digest);
	if (status == 0 && n < 0)
		status = (int)n;
	crc64nvme_to_text(crc, crc_text);
	if (status == -EIO && strcmp(row->state, "gone") == 0) {
		cli_error("%s: moved on, and no longer here: its SHA-256 is not known",
			buf_text(&path));
		return 0;
	}
	if (status < 0) {
		cli_error("%s: %s", buf_text(&path), strerror(-status));
		return status;
	}
	if (at != row->size_bytes ||
		(strcmp(row->crc64nvme, "-") != 0 && strcmp(row->crc64nvme, crc_text) != 0)) {
		cli_error("%s: what is read here is not what was uploaded: its checksum is another",
			buf_text(&path));
		return -EBADMSG;
	}
	hex_encode(digest, sizeof(digest), row->sha256);
	return 0;
}

/* ---- judging -------------------------------------------------------------------------------- */

static int judge_row(struct report *r, const struct report_row *row)
{
	struct layout_match m;
	int64_t at_ns = 0;
	int status;

	if (row->size_bytes == 0)
		plan_problem(&r->plan, PLAN_EMPTY, row->key, NULL);
	if (r->no_layout)
		return 0;
	status = layout_match(r->plan.layout, row->key, &m);
	if (status < 0)
		return status;
	if (time_parse_iso8601(row->uploaded_at, &at_ns) < 0)
		at_ns = 0; /* "-": adopted, never sent */
	plan_layout(&r->plan, row->key, &m, row->key);
	return plan_plates_add(&r->plan, row->key, &m, row->size_bytes, at_ns);
}

static int judge(struct report *r, const char *dir)
{
	cleanup_free char *message = NULL, *findings = NULL;
	int status = r->no_layout ? 0 : cli_layout_load(r->layout_name, &r->plan.layout, &message);

	if (status < 0)
		cli_error("%s", message ? message : strerror(-status));
	if (status == 0)
		status = text_printf(&findings, "%s/findings.tsv", dir);
	if (status == 0) {
		status = plan_problems_create(&r->plan.problems, findings);
		if (status < 0)
			cli_error("%s: %s", findings, strerror(-status));
	}
	if (status == 0)
		status = plan_plates_create(&r->plan.plates);
	for (size_t i = 0; i < r->count && status == 0; i++) {
		if (!r->rows[i].outside)
			status = judge_row(r, &r->rows[i]);
	}
	if (status == 0)
		status = plan_plates_finish(&r->plan);
	if (status == 0)
		report_links(r);
	return status;
}

/* ---- files ---------------------------------------------------------------------------------- */

static int write_tsv(const struct report *r, FILE *out)
{
	fputs("key\tsize_bytes\tcrc64nvme\tsha256\tetag\tmtime\tuploaded_at\tverified_at\tstate\n",
		out);
	for (size_t i = 0; i < r->count; i++) {
		const struct report_row *row = &r->rows[i];
		cleanup_buf struct buf key = {0};

		if (row->outside)
			continue;
		text_escape(&key, row->key);
		if (buf_error(&key) < 0)
			return buf_error(&key);
		fprintf(out, "%s\t%" PRIu64 "\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", buf_text(&key),
			row->size_bytes, row->crc64nvme, row->sha256[0] ? row->sha256 : "-",
			row->etag, row->mtime, row->uploaded_at, row->verified_at, row->state);
	}
	return ferror(out) ? -EIO : 0;
}

static json_t *text_or_null(const char *text)
{
	return text[0] && strcmp(text, "-") != 0 ? json_string(text) : json_null();
}

json_t *report_json_key(const char *key)
{
	cleanup_buf struct buf shown = {0};
	json_t *text = json_string(key);

	if (text)
		return text;
	text_escape(&shown, key);
	return buf_error(&shown) < 0 ? NULL : json_string(buf_text(&shown));
}

static json_t *json_row(const struct report_row *row)
{
	return json_pack("{s:o s:I s:o s:o s:o s:o s:o s:o s:s}", "key", report_json_key(row->key),
		"size_bytes", (json_int_t)row->size_bytes, "crc64nvme",
		text_or_null(row->crc64nvme), "sha256", text_or_null(row->sha256), "etag",
		text_or_null(row->etag), "mtime", text_or_null(row->mtime), "uploaded_at",
		text_or_null(row->uploaded_at), "verified_at", text_or_null(row->verified_at),
		"state", row->state);
}

/* Row by row: a whole upload as one JSON tree would take gigabytes. */
static int write_json(const struct report *r, FILE *out)
{
	const char *comma = "[\n";

	for (size_t i = 0; i < r->count; i++) {
		json_t *row = r->rows[i].outside ? NULL : json_row(&r->rows[i]);

		if (r->rows[i].outside)
			continue;
		fputs(comma, out);
		comma = ",\n";
		if (!row)
			return -ENOMEM;
		if (json_dumpf(row, out, JSON_COMPACT) < 0) {
			json_decref(row);
			return -EIO;
		}
		json_decref(row);
	}
	fputs("\n]\n", out);
	return ferror(out) ? -EIO : 0;
}

void report_put_time(FILE *out, int64_t at_ns)
{
	char text[32] = "-";

	if (at_ns)
		time_format_iso8601(at_ns, text);
	fprintf(out, "\t%s", text);
}

static int plate_row(void *user, const struct plan_plate *p)
{
	FILE *out = user;
	cleanup_buf struct buf place = {0};

	text_escape(&place, p->place);
	if (buf_error(&place) < 0)
		return buf_error(&place);
	fprintf(out, "%s\t%" PRIu64 "\t%" PRIu64 "\t%u\t%u\t%u\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64,
		buf_text(&place), p->files, p->bytes, p->facts.wells, p->facts.sites,
		p->facts.channels, p->facts.images, p->facts.expected, p->facts.missing);
	report_put_time(out, p->first_at_ns);
	report_put_time(out, p->last_at_ns);
	fputc('\n', out);
	return 0;
}

static int write_plates(const struct report *r, FILE *out)
{
	int status;

	fputs("plate\tfiles\tsize_bytes\twells\tsites\tchannels\timages\texpected\tmissing\t"
	      "first_uploaded_at\tlast_uploaded_at\n",
		out);
	status = plan_plates_each(&r->plan, plate_row, out);
	return status < 0 ? status : ferror(out) ? -EIO : 0;
}

/* Under another name first: a report is there whole, or not. */
static int write_file(const struct report *r, const char *dir, const char *name,
	int (*write)(const struct report *r, FILE *out))
{
	cleanup_free char *path = NULL, *new = NULL;
	FILE *out;
	int status = text_printf(&path, "%s/%s", dir, name);

	if (status == 0)
		status = text_printf(&new, "%s/%s.new", dir, name);
	if (status < 0)
		return status;
	out = fopen(new, "we");
	status = out ? write(r, out) : -errno;
	if (out && fclose(out) != 0 && status == 0)
		status = -errno;
	if (status == 0 && rename(new, path) < 0)
		status = -errno;
	if (status < 0)
		cli_error("%s: %s", path, strerror(-status));
	else
		printf("%s\n", path);
	return status;
}

static int make_folder(const char *dir)
{
	int status = io_mkdir_p(dir, 0777);

	if (status < 0)
		cli_error("%s: %s", dir, strerror(-status));
	return status;
}

static int write_all(const struct report *r, const char *dir)
{
	int status = write_file(r, dir, "manifest.tsv", write_tsv);
	if (status == 0)
		status = write_file(r, dir, "manifest.json", write_json);
	if (status == 0)
		status = write_file(r, dir, "batches.tsv", report_batches_tsv);
	if (status == 0)
		status = write_file(r, dir, "batches.json", report_batches_json);
	if (status == 0)
		status = write_file(r, dir, "plates.tsv", write_plates);
	return status < 0 ? status : write_file(r, dir, "report.html", report_html);
}

/* ---- the command ---------------------------------------------------------------------------- */

static void json_free(json_t **j)
{
	json_decref(*j);
}

/* What it was mounted with: its gallery (NULL: none), and whether places are looked at. */
static int take_options(struct report *r, const json_t *status, char **ret_gallery)
{
	const char *gallery = cli_option_of(status, "gallery"),
		   *layout = cli_option_of(status, "layout");

	r->no_layout = layout && strcmp(layout, layout_mode_text(LAYOUT_MODE_OFF)) == 0;
	if (gallery && gallery[0])
		return (*ret_gallery = text_dup(gallery)) ? 0 : -ENOMEM;
	return 0;
}

/* What of the path is not in uploaded.tsv. */
static void count_missing(struct report *r, const json_t *counts)
{
	struct cli_progress p;

	cli_progress_of(counts, &p);
	r->not_yet = p.files_pending + p.held_temporary -
		     (uint64_t)json_integer_value(
			     json_object_get(json_object_get(counts, "files"), "uploaded"));
	r->stuck = p.files_person + p.held_name;
}

/* *ret_code: what the counts of the path amount to. */
static int ask_mount(struct report *report, const struct cli_target *t, struct buf *text,
	char **ret_bucket, char **ret_gallery, int *ret_code)
{
	cleanup_with(json_free) json_t *counts = NULL, *status = NULL;
	cleanup_buf struct buf json = {0};
	const char *bucket, *error;
	int r = cli_ask(t->root, "counts", t->path, &counts);

	error = json_string_value(json_object_get(counts, "error"));
	if (r == 0 && (error || !json_is_true(json_object_get(counts, "exists")))) {
		cli_error("%s/%s: %s", t->root, t->path,
			error ? error : "no such file or folder, here or in the bucket");
		return -ENOENT;
	}
	buf_init(text, 4 * GIB);
	if (r == 0)
		r = cli_read(t->root, "status.json", &json);
	if (r == 0)
		r = cli_read(t->root, "uploaded.tsv", text);
	status = r == 0 ? json_loadb(buf_text(&json), json.len, 0, NULL) : NULL;
	bucket = json_string_value(json_object_get(json_object_get(status, "mount"), "bucket"));
	if (r == 0 && !bucket)
		r = -EPROTO;
	if (r == 0 && !(*ret_bucket = text_dup(bucket)))
		r = -ENOMEM;
	if (r == 0)
		r = take_options(report, status, ret_gallery);
	if (r == 0)
		*ret_code = cli_exit_of_counts(counts);
	if (r == 0)
		count_missing(report, counts);
	if (r < 0)
		cli_error("%s: %s", t->root, strerror(-r));
	return r;
}

static int make(const struct cli_target *target, const char *dir, bool sha256)
{
	char key[4096] = "";
	struct report r = {.root = target->root, .path = key};
	cleanup_buf struct buf text = {0};
	cleanup_free char *bucket = NULL, *gallery = NULL;
	struct cli_mount preset = {0};
	int code = EXIT_USAGE, closed,
	    status = ask_mount(&r, target, &text, &bucket, &gallery, &code);

	r.bucket = bucket;
	if (status == 0)
		status = cli_target_key(target, key);
	if (status == 0 && gallery)
		status = cli_gallery_apply(&preset, gallery);
	r.layout_name = preset.layout_name;
	if (status == 0)
		status = text.data ? read_rows(&r, text.data) : -ENODATA;
	if (status == 0 && r.files == 0) {
		cli_error("%s/%s: nothing of it has been uploaded yet", target->root, target->path);
		status = -ENODATA;
	} else if (status < 0 && text.data) {
		cli_error("%s: %s", target->root, strerror(-status));
	}
	for (size_t i = 0; sha256 && i < r.count && status == 0; i++) {
		if (!r.rows[i].outside)
			status = add_sha256(&r, &r.rows[i]);
	}
	if (status == 0)
		status = make_folder(dir);
	if (status == 0)
		status = judge(&r, dir);
	if (status == 0)
		status = write_all(&r, dir);
	if (status == 0 && code == EXIT_VERIFIED && r.verified < r.files)
		code = EXIT_PENDING; /* copied in since they were counted */
	if (status == 0 && plan_has_problems(&r.plan))
		code = EXIT_NEEDS_PERSON;
	closed = plan_problems_close(r.plan.problems);
	if (status == 0 && closed < 0)
		cli_error("%s/findings.tsv: %s", dir, strerror(-closed));
	if (status == 0)
		status = closed;
	plan_plates_destroy(r.plan.plates);
	layout_destroy(r.plan.layout);
	free(r.rows);
	cli_mount_release(&preset);
	return status < 0 ? EXIT_USAGE : code;
}

int cmd_report(int argc, char **argv)
{
	static const struct option longs[] = {{"sha256", no_argument, NULL, 's'},
		{"output", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}};
	const char *dir = "cpgfs-report";
	struct cli_target target;
	bool sha256 = false;

	for (int o; (o = getopt_long(argc, argv, "o:h", longs, NULL)) != -1;) {
		if (o == 's') {
			sha256 = true;
		} else if (o == 'o') {
			dir = optarg;
		} else {
			report_usage(o == 'h' ? stdout : stderr);
			return o == 'h' ? EXIT_VERIFIED : EXIT_USAGE;
		}
	}
	if (optind != argc - 1) {
		report_usage(stderr);
		return EXIT_USAGE;
	}
	if (cli_target_find(argv[optind], &target) < 0)
		return EXIT_USAGE;
	return make(&target, dir, sha256);
}
