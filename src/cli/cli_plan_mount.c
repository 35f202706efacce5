/*
 * cli_plan_mount - the plan of a mount that is paused by hand: what `cpgfs resume` would upload.
 *
 * From the mount's own tables, so that nothing is listed or fetched: files that wait here are judged
 * as those of a folder would be; files that are in the bucket already count for their plates only.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "cli_gallery.h"
#include "cli_plan.h"

enum waiting_kind {
	WAITING,
	STUCK, /* here, and needs a person first */
	THERE, /* in the bucket */
};

struct row {
	char *path;
	size_t folder_len;
	uint64_t size_bytes;
	enum waiting_kind kind;
};

struct rows {
	struct buf queue, rejected, failed, uploaded; /* rows point into them */
	struct row *all;
	size_t count, space;
	uint64_t open;	/* files that are being written */
	uint64_t stuck;
};

static void rows_release(struct rows *r)
{
	buf_release(&r->queue);
	buf_release(&r->rejected);
	buf_release(&r->failed);
	buf_release(&r->uploaded);
	free(r->all);
}

static int rows_add(struct rows *r, char *path, uint64_t size_bytes, enum waiting_kind kind)
{
	const char *slash;

	if (text_unescape(path) < 0)
		return -EBADMSG;
	if (r->count == r->space) {
		size_t space = r->space ? 2 * r->space : 1024;
		struct row *grown = reallocarray(r->all, space, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		r->all = grown;
		r->space = space;
	}
	slash = strrchr(path, '/');
	r->all[r->count++] = (struct row){.path = path,
		.folder_len = slash ? (size_t)(slash - path) : 0,
		.size_bytes = size_bytes,
		.kind = kind};
	return 0;
}

/* ---- reading the tables --------------------------------------------------------------------- */

enum { FIELDS = 3 }; /* the first ones of each table */

static int on_queued(struct rows *r, char *fields[FIELDS])
{
	static const char *const others[] = {"moving", "deleting", "uploaded"};
	uint64_t size_bytes;

	for (size_t i = 0; i < array_len(others); i++) {
		if (strcmp(fields[1], others[i]) == 0)
			return 0;
	}
	if (strcmp(fields[1], "open") == 0) {
		r->open++;
		return 0;
	}
	if (u64_parse(fields[2], &size_bytes) < 0)
		return -EBADMSG;
	return rows_add(r, fields[0], size_bytes, WAITING);
}

/* Its size is asked for: the table has none. */
static int on_rejected(struct rows *r, char *fields[FIELDS])
{
	if (strcmp(fields[1], "refused") == 0)
		return 0; /* not here */
	return rows_add(r, fields[0], UINT64_MAX, WAITING);
}

static int on_failed(struct rows *r, char *fields[FIELDS])
{
	if (strcmp(fields[1], "lost") == 0)
		return 0; /* its bytes are not here */
	r->stuck++;
	return rows_add(r, fields[0], UINT64_MAX, STUCK);
}

static int on_uploaded(struct rows *r, char *fields[FIELDS])
{
	uint64_t size_bytes;

	if (u64_parse(fields[1], &size_bytes) < 0)
		return -EBADMSG;
	return rows_add(r, fields[0], size_bytes, THERE);
}

static int read_table(struct rows *r, const char *root, const char *name, struct buf *text,
	int (*each)(struct rows *r, char *fields[FIELDS]))
{
	int status;
	char *line, *next;

	buf_init(text, 4 * GIB);
	status = cli_read(root, name, text);
	line = status == 0 && text->len ? strchr(text->data, '\n') : NULL;
	for (line = line ? line + 1 : NULL; status == 0 && line && *line; line = next) {
		char *fields[FIELDS] = {NULL}, *save = NULL;

		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		for (size_t i = 0; i < FIELDS; i++)
			fields[i] = strtok_r(i ? NULL : line, "\t", &save);
		status = fields[FIELDS - 1] ? each(r, fields) : -EBADMSG;
	}
	return status;
}

/* ---- in the order of a walk ------------------------------------------------------------------ */

static int order_of(char c)
{
	return c == '/' ? 0 : (unsigned char)c;
}

/* By folder, what is in a folder before what is in the next ('/' sorts first), then by name. */
static int by_folder(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	size_t i = 0, shorter = x->folder_len < y->folder_len ? x->folder_len : y->folder_len;

	while (i < shorter && x->path[i] == y->path[i])
		i++;
	if (i < shorter)
		return order_of(x->path[i]) - order_of(y->path[i]);
	if (x->folder_len != y->folder_len)
		return x->folder_len < y->folder_len ? -1 : 1;
	return strcmp(x->path + i, y->path + i);
}

static bool same_folder(const struct row *a, const struct row *b)
{
	return a->folder_len == b->folder_len && memcmp(a->path, b->path, a->folder_len) == 0;
}

static const char *leaf_of(const struct row *row)
{
	return row->path + row->folder_len + (row->folder_len > 0);
}

static int open_folder(int root, const struct row *row, int *ret)
{
	cleanup_free char *folder = strndup(row->path, row->folder_len);

	if (!folder)
		return -ENOMEM;
	*ret = openat(
		root, folder[0] ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return *ret < 0 ? -errno : 0;
}

/* What waits in one folder, as a walk would find it. */
static int fill_entries(int folder, const struct row *rows, size_t count,
	struct walk_entry *entries, size_t *ret_count)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		struct walk_entry *e = &entries[n];

		if (rows[i].kind == THERE)
			continue;
		*e = (struct walk_entry){.name = leaf_of(&rows[i])};
		e->st.st_mode = S_IFREG | 0644;
		e->st.st_size = (off_t)rows[i].size_bytes;
		if (rows[i].size_bytes == UINT64_MAX &&
			fstatat(folder, e->name, &e->st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno != ENOENT) /* gone meanwhile */
				return -errno;
			continue;
		}
		n++;
	}
	*ret_count = n;
	return 0;
}

/* Not to be uploaded now, but its plate has it. */
static int plan_counted(struct plan *p, const struct row *row, uint64_t size_bytes)
{
	char key[KEY_MAX_BYTES + 1];
	const char *at = path_to_key(&p->naming, row->path, false, key) == 0 ? key : row->path;
	struct layout_match m;
	int status = p->layout ? layout_match(p->layout, at, &m) : 0;

	return status < 0 || !p->layout ? status : plan_plates_add(p, at, &m, size_bytes, 0);
}

/* What is in the bucket has its key for a path: its folder may have another name here, or be gone. */
static int plan_there(struct plan *p, const struct row *rows, size_t count)
{
	int status = 0;

	for (size_t i = 0; status == 0 && i < count; i++) {
		if (rows[i].kind == THERE)
			status = plan_counted(p, &rows[i], rows[i].size_bytes);
	}
	return status;
}

static int plan_stuck(
	struct plan *p, int folder, const struct row *row, const struct walk_entry *entry)
{
	cleanup_buf struct buf shown = {0};

	plan_shown(p, row->path, &shown);
	if (buf_error(&shown) < 0)
		return -ENOMEM;
	plan_content(p, folder, entry, buf_text(&shown));
	return plan_counted(p, row, (uint64_t)entry->st.st_size);
}

static int plan_rows(struct plan *p, int root, const struct row *rows, size_t count)
{
	cleanup_free struct walk_entry *entries = calloc(count, sizeof(*entries));
	cleanup_free char *path = strndup(rows->path, rows->folder_len);
	cleanup_fd int folder = -1;
	size_t n = 0, at = 0;
	int status = entries && path ? open_folder(root, rows, &folder) : -ENOMEM;

	if (status == -ENOENT)
		return plan_there(p, rows, count);
	if (status == 0)
		status = fill_entries(folder, rows, count, entries, &n);
	if (status == 0)
		status = plan_hooks.folder(p, path, entries, n);
	for (size_t i = 0; status == 0 && i < count; i++) {
		if (rows[i].kind == THERE)
			status = plan_counted(p, &rows[i], rows[i].size_bytes);
		else if (at == n || strcmp(entries[at].name, leaf_of(&rows[i])) != 0)
			continue; /* gone meanwhile */
		else if (rows[i].kind == STUCK)
			status = plan_stuck(p, folder, &rows[i], &entries[at++]);
		else
			status = plan_hooks.file(p, folder, rows[i].path, &entries[at++]);
	}
	return status < 0 ? status : plan_hooks.folder_end(p, path);
}

static int plan_all(struct plan *p, const char *root, struct rows *r)
{
	cleanup_fd int fd = -1;
	int status = io_open(root, O_RDONLY | O_DIRECTORY, 0, &fd);

	if (r->count > 0)
		qsort(r->all, r->count, sizeof(*r->all), by_folder);
	for (size_t i = 0, n; status == 0 && i < r->count; i += n) {
		for (n = 1; i + n < r->count && same_folder(&r->all[i], &r->all[i + n]); n++)
			;
		status = plan_rows(p, fd, &r->all[i], n);
	}
	plan_progress(p, true);
	return status < 0 ? status : plan_plates_finish(p);
}

/* ---- as the mount was told ------------------------------------------------------------------ */

static int take_options(struct cli_mount *o, const json_t *status)
{
	size_t i;
	json_t *option;
	int r = 0;

	json_array_foreach(json_object_get(status, "options"), i, option)
	{
		cleanup_free char *text = text_dup(json_string_value(option));
		char *value = text ? strchr(text, '=') : NULL;

		if (!value)
			return -EBADMSG;
		*value++ = '\0';
		if (strcmp(text, "gallery") == 0 && *value)
			r = cli_gallery_apply(o, value);
		if (r < 0)
			return r;
	}
	json_array_foreach(json_object_get(status, "options"), i, option)
	{
		cleanup_free char *text = text_dup(json_string_value(option));
		char *value = text ? strchr(text, '=') : NULL;
		static const char *const ours[] = {
			"naming", "clean-with", "layout", "part-size", "multipart-threshold"};

		if (value)
			*value++ = '\0';
		for (size_t k = 0; value && k < array_len(ours); k++) {
			if (strcmp(text, ours[k]) == 0)
				r = option_set(o, text, value);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int prepare(struct plan *p, const struct cli_mount *o, const char *root)
{
	cleanup_free char *message = NULL;
	int status = 0;

	p->naming = o->naming;
	p->part_size_bytes = o->part_size_bytes;
	p->threshold_bytes = o->multipart_threshold_bytes;
	p->prefix = "";
	if (!realpath(root, p->top) || !getcwd(p->cwd, sizeof(p->cwd)))
		return -errno;
	if (o->layout != LAYOUT_MODE_OFF)
		status = cli_layout_load(o->layout_name, &p->layout, &message);
	if (message)
		cli_error("%s", message);
	if (status == 0)
		status = plan_plates_create(&p->plates);
	return status < 0 ? status : plan_problems_create(&p->problems, NULL);
}

int cli_plan_waiting(const char *root, const json_t *status)
{
	struct plan p = {.rate_bytes_per_s = PLAN_RATE_BYTES_PER_S,
		.progress = isatty(STDERR_FILENO),
		.waiting = true};
	cleanup_with(rows_release) struct rows rows = {0};
	struct cli_mount options = {0};
	int r = options_preset(&options);

	if (r == 0)
		r = take_options(&options, status);
	if (r == 0)
		r = prepare(&p, &options, root);
	if (r == 0)
		r = read_table(&rows, root, "queue.tsv", &rows.queue, on_queued);
	if (r == 0)
		r = read_table(&rows, root, "rejected.tsv", &rows.rejected, on_rejected);
	if (r == 0)
		r = read_table(&rows, root, "failed.tsv", &rows.failed, on_failed);
	if (r == 0)
		r = read_table(&rows, root, "uploaded.tsv", &rows.uploaded, on_uploaded);
	if (r == 0)
		r = plan_all(&p, root, &rows);
	if (r == 0) {
		puts("\nThe plan: what `cpgfs resume` uploads");
		plan_print(&p);
		if (rows.stuck)
			printf("Not uploaded until somebody has looked at them (see the states "
			       "above): %" PRIu64 " files\n",
				rows.stuck);
		if (rows.open)
			printf("Still being written, and not looked at: %" PRIu64 " files\n",
				rows.open);
		if (rows.count)
			puts("Not looked up here: what barcode_platemap and load_data name "
			     "(`cpgfs plan SRC DEST` and `cpgfs report` do)");
	} else {
		cli_error("%s: no plan: %s", root, strerror(-r));
	}
	(void)!plan_problems_close(p.problems); /* no file of its own */
	plan_plates_destroy(p.plates);
	layout_destroy(p.layout);
	cli_mount_release(&options);
	return r;
}
