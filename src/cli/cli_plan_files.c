/*
 * cli_plan_files - each file of the source: its key, its line, and what is wrong with it.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <unistd.h>

#include "cli_plan.h"

#define OBJECT_MAX_BYTES (5 * TIB)

/* The path behind the destination's prefix, as in a mount of the whole bucket. */
static void path_of(const struct plan *p, const char *rel, struct buf *out)
{
	buf_printf(out, "%s%s%s", p->prefix, p->prefix[0] && rel[0] ? "/" : "", rel);
}

/* Bytes of the folders that two absolute paths share ("/a/b" and "/a/c": "/a"). */
static size_t common_folders(const char *a, const char *b)
{
	size_t same = 0;

	for (size_t i = 0;; i++) {
		bool a_ends = a[i] == '\0' || a[i] == '/', b_ends = b[i] == '\0' || b[i] == '/';

		if (a_ends && b_ends)
			same = i;
		if (a[i] != b[i] || a[i] == '\0')
			return same;
	}
}

/* As `aws s3` shows a local file: its folder relative to the working directory, then its name. */
void plan_shown(const struct plan *p, const char *rel, struct buf *out)
{
	cleanup_buf struct buf path = {0};
	size_t common, start = out->len;
	char *slash;

	buf_printf(&path, "%s%s%s", p->top, rel[0] ? "/" : "", rel);
	slash = path.len ? strrchr(path.data, '/') : NULL;
	if (!slash)
		return; /* out of memory, which out will meet, too */
	*slash = '\0';
	common = common_folders(path.data, p->cwd);
	for (const char *c = p->cwd + common; *c; c++) {
		if (*c == '/' && c[1])
			buf_add_text(out, out->len > start ? "/.." : "..");
	}
	if (path.data[common])
		buf_printf(out, "%s%s", out->len > start ? "/" : "", path.data + common + 1);
	if (out->len == start)
		buf_add_char(out, '.');
	buf_printf(out, "/%s", slash + 1);
}

void plan_progress(struct plan *p, bool force)
{
	char bytes[24];
	int64_t now;

	if (!p->progress || (!force && (p->files + p->held_files) % 256))
		return;
	now = clock_mono_ms();
	if (!force && now < p->progress_at)
		return;
	p->progress_at = now + 200;
	size_format(p->bytes, bytes);
	fprintf(stderr, "\r%" PRIu64 " files, %s\033[K%s", p->files + p->held_files, bytes,
		force ? "\n" : "");
}

/* ---- names ---------------------------------------------------------------------------------- */

static enum plan_kind kind_of(enum name_verdict verdict)
{
	switch (verdict) {
	case NAME_TEMPORARY:
		return PLAN_TEMPORARY;
	case NAME_JUNK:
		return PLAN_JUNK;
	case NAME_TOO_LONG:
		return PLAN_LONG_KEY;
	case NAME_NOT_TEXT:
		return PLAN_NOT_TEXT;
	case NAME_REFUSED:
	case NAME_OK:
		break;
	}
	return PLAN_NAME;
}

/* Notes what is wrong with the names of the path. The reason names the folder, so equal ones count
 * together. */
static enum name_verdict judge_names(struct plan *p, const char *path, const char *shown)
{
	const char *component;
	size_t len;
	char reason[512];
	enum name_verdict verdict = path_judge(&p->naming, path, false, &component, &len);

	if (verdict == NAME_OK)
		return verdict;
	name_reason(&p->naming, verdict, component, len, reason, sizeof(reason));
	plan_problem(p, kind_of(verdict), shown,
		verdict == NAME_REFUSED || verdict == NAME_NOT_TEXT ? reason : NULL);
	return verdict;
}

static bool is_plain(const char *name)
{
	for (; *name; name++) {
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.",
			    *name))
			return false;
	}
	return true;
}

struct folded {
	char *text;
	const char *name;
};

static int by_text(const void *a, const void *b)
{
	return strcmp(((const struct folded *)a)->text, ((const struct folded *)b)->text);
}

static void note_twins(struct plan *p, const char *rel, const struct folded *list, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		cleanup_buf struct buf shown = {0};

		if (strcmp(list[i - 1].text, list[i].text) != 0)
			continue;
		plan_shown(p, rel, &shown);
		plan_problem_f(p, PLAN_TWIN, buf_text(&shown), "\"%s\" and \"%s\"",
			list[i - 1].name, list[i].name);
	}
}

static void find_twins(
	struct plan *p, const char *rel, const struct walk_entry *entries, size_t count)
{
	cleanup_free struct folded *list = calloc(count + 1, sizeof(*list));
	size_t n = 0;

	for (; list && n < count; n++) {
		list[n] = (struct folded){name_fold(entries[n].name), entries[n].name};
		if (!list[n].text)
			break;
	}
	if (list && n == count) {
		qsort(list, n, sizeof(*list), by_text);
		note_twins(p, rel, list, n);
	}
	for (size_t i = 0; list && i < n; i++)
		free(list[i].text);
}

/* With --naming=clean two folders may become one. */
static int find_merged(
	struct plan *p, const char *rel, const struct walk_entry *entries, size_t count)
{
	cleanup_free struct folded *list = calloc(count + 1, sizeof(*list));
	size_t n = 0;

	for (size_t i = 0; list && i < count; i++) {
		char clean[KEY_MAX_BYTES + 1];

		if (!S_ISDIR(entries[i].st.st_mode) ||
			name_clean(&p->naming, entries[i].name, clean, sizeof(clean)) < 0)
			continue;
		list[n] = (struct folded){text_dup(clean), entries[i].name};
		n += list[n].text != NULL;
	}
	if (list)
		qsort(list, n, sizeof(*list), by_text);
	for (size_t i = 1; list && i < n; i++) {
		cleanup_buf struct buf shown = {0};

		if (strcmp(list[i - 1].text, list[i].text) != 0)
			continue;
		plan_shown(p, rel, &shown);
		plan_problem_f(p, PLAN_DUPLICATE, buf_text(&shown),
			"\"%s\" and \"%s\" both become %s", list[i - 1].name, list[i].name,
			list[i].text);
	}
	for (size_t i = 0; list && i < n; i++)
		free(list[i].text);
	return list ? 0 : -ENOMEM;
}

static int on_folder(void *user, const char *rel, const struct walk_entry *entries, size_t count)
{
	struct plan *p = user;

	p->depth++;
	check(p->depth < array_len(p->sizes));
	plan_folder_sizes(entries, count, &p->sizes[p->depth]);
	find_twins(p, rel, entries, count);
	return p->naming.mode == NAMING_CLEAN ? find_merged(p, rel, entries, count) : 0;
}

static int on_folder_end(void *user, const char *rel)
{
	struct plan *p = user;

	p->depth--;
	return 0;
}

/* ---- files ---------------------------------------------------------------------------------- */

void plan_layout(
	struct plan *p, const char *key, const struct layout_match *m, const char *shown)
{
	cleanup_buf struct buf text = {0};

	if (m->class < LAYOUT_WARN)
		return;
	buf_printf(&text, "[%s] ", layout_rule_name(p->layout, m->rule));
	layout_explain(p->layout, key, m, &text);
	plan_problem(
		p, m->class == LAYOUT_WARN ? PLAN_LAYOUT_WARN : PLAN_LAYOUT, shown, buf_text(&text));
}

static int judge_layout(
	struct plan *p, const char *key, const char *shown, uint64_t bytes, bool there)
{
	struct layout_match m;
	int status = layout_match(p->layout, key, &m);

	if (status < 0)
		return status;
	plan_layout(p, key, &m, shown);
	status = plan_plates_add(p, key, &m, bytes, 0);
	return status == 0 && there ? plan_plates_there(p, key, &m) : status;
}

/* An earlier source has a file for the same key. */
static void judge_duplicate(struct plan *p, const char *rel, const char *shown)
{
	for (size_t i = 0; i < p->source_at; i++) {
		const struct plan_source *s = &p->sources[i];
		const char *slash = strrchr(s->path, '/'), *leaf = slash ? slash + 1 : s->path;
		cleanup_buf struct buf other = {0};

		if (strcmp(s->prefix, p->prefix) != 0 || (s->is_single && strcmp(leaf, rel) != 0))
			continue;
		buf_printf(&other, "%s/%s", s->folder, rel);
		if (access(buf_text(&other), F_OK) == 0)
			plan_problem_f(p, PLAN_DUPLICATE, shown, "also in %s", s->folder);
	}
}

static void judge_size(struct plan *p, const char *shown, uint64_t bytes)
{
	uint64_t parts =
		bytes <= p->threshold_bytes ? 1 : chunk_count_of(p->part_size_bytes, bytes);

	p->parts += parts;
	if (bytes > OBJECT_MAX_BYTES || parts > STORE_CHUNKS_MAX)
		plan_problem(p, PLAN_TOO_LARGE, shown, NULL);
}

static void print_line(const struct plan *p, const char *shown, const char *key)
{
	if (p->lines)
		printf("(dryrun) upload: %s to s3://%s/%s\n", shown, p->bucket, key);
}

/* Is it in the bucket already? 1: with this size; 0: no, or it will be a conflict. */
static int judge_remote(struct plan *p, const char *shown, const char *key, uint64_t bytes)
{
	struct s3_object object;
	int status = p->remote ? plan_remote_find(p->remote, key, &object) : 0;

	if (status != 1 || object.size_bytes == bytes)
		return status;
	plan_problem_f(p, PLAN_OTHER_SIZE, shown, "%" PRIu64 " bytes there, %" PRIu64 " here",
		object.size_bytes, bytes);
	return 0;
}

/* A file under its key. 1: there is nothing to upload. */
static int judge_upload(struct plan *p, const char *rel, const struct walk_entry *entry,
	const char *shown, const char *key)
{
	uint64_t bytes = (uint64_t)entry->st.st_size;
	int there = judge_remote(p, shown, key, bytes);

	if (there != 0) {
		p->there_files += there == 1;
		return there;
	}
	p->files++;
	p->bytes += bytes;
	if (!is_plain(entry->name))
		plan_problem(p, PLAN_LEAF_NAME, shown, NULL);
	judge_size(p, shown, bytes);
	judge_duplicate(p, rel, shown);
	print_line(p, shown, key);
	return 0;
}

static int on_regular(struct plan *p, int parent, const char *rel, const struct walk_entry *entry)
{
	struct naming_policy cleaning = {.mode = NAMING_CLEAN, .clean_with = p->naming.clean_with};
	cleanup_buf struct buf path = {0}, shown = {0};
	char key[KEY_MAX_BYTES + 1];
	uint64_t bytes = (uint64_t)entry->st.st_size;
	enum name_verdict verdict;
	int there = 0;

	path_of(p, rel, &path);
	plan_shown(p, rel, &shown);
	if (buf_error(&path) < 0 || buf_error(&shown) < 0)
		return -ENOMEM;
	verdict = judge_names(p, buf_text(&path), buf_text(&shown));
	p->held_files += verdict != NAME_OK;
	p->held_bytes += verdict != NAME_OK ? bytes : 0;
	if (verdict != NAME_OK && verdict != NAME_REFUSED)
		return 0;
	plan_content(p, parent, entry, buf_text(&shown));
	/* a folder that is to be renamed is judged under the name it will get */
	if (path_to_key(verdict == NAME_OK ? &p->naming : &cleaning, buf_text(&path), false, key) <
		0)
		return 0;
	if (verdict == NAME_OK)
		there = judge_upload(p, rel, entry, buf_text(&shown), key);
	if (there < 0)
		return there;
	if (!p->layout)
		return 0;
	if (bytes > 0) /* an empty one is named as such */
		plan_links(p, key, buf_text(&shown));
	return judge_layout(p, key, buf_text(&shown), bytes, there == 1);
}

static const char *kind_text(mode_t mode)
{
	return S_ISLNK(mode)	? "symbolic link"
	       : S_ISSOCK(mode) ? "socket"
	       : S_ISFIFO(mode) ? "pipe"
				: "device";
}

static int on_file(void *user, int parent, const char *rel, const struct walk_entry *entry)
{
	cleanup_buf struct buf shown = {0};
	struct plan *p = user;

	plan_progress(p, false);
	if (S_ISREG(entry->st.st_mode))
		return on_regular(p, parent, rel, entry);
	plan_shown(p, rel, &shown);
	plan_problem(p, PLAN_SPECIAL, buf_text(&shown), kind_text(entry->st.st_mode));
	return 0;
}

static int on_unreadable(void *user, const char *rel, int error)
{
	cleanup_buf struct buf shown = {0};
	struct plan *p = user;

	plan_shown(p, rel, &shown);
	plan_problem(p, PLAN_UNREADABLE, buf_text(&shown), strerror(error));
	return 0;
}

/* ---- a source ------------------------------------------------------------------------------- */

/* A single file goes to the destination under its own name. */
static int plan_single(
	struct plan *p, const char *folder, const char *source, const struct stat *st)
{
	const char *slash = strrchr(source, '/'), *leaf = slash ? slash + 1 : source;
	struct walk_entry entry = {.name = leaf, .st = *st};
	cleanup_fd int dir = -1;
	int status = io_open(folder, O_RDONLY | O_DIRECTORY, 0, &dir);

	p->sizes[p->depth] = (struct plan_sizes){0};
	return status < 0 ? status : on_file(p, dir, leaf, &entry);
}

/* The folder that holds a single file, or the folder itself. */
static int source_folder(const char *path, struct stat *st, char **ret)
{
	const char *slash = strrchr(path, '/');

	if (stat(path, st) < 0)
		return -errno;
	if (S_ISDIR(st->st_mode))
		*ret = text_dup(path);
	else
		*ret = slash ? strndup(path, (size_t)(slash - path) + 1) : text_dup(".");
	return *ret ? 0 : -ENOMEM;
}

const struct walk_hooks plan_hooks = {on_folder, on_file, on_folder_end, on_unreadable};

int plan_source(struct plan *p, struct plan_source *source)
{
	struct stat st;
	int status = source_folder(source->path, &st, &source->folder);

	if (status == 0 && (!realpath(source->folder, p->top) || !getcwd(p->cwd, sizeof(p->cwd))))
		status = -errno;
	if (status == 0) {
		p->prefix = source->prefix;
		status = S_ISDIR(st.st_mode) ? cli_walk(source->path, "", &plan_hooks, p)
					     : plan_single(p, source->folder, source->path, &st);
	}
	if (status < 0)
		cli_error("%s: %s", source->path, strerror(-status));
	return status;
}
