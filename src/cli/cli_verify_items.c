/*
 * cli_verify_items - what should be in the bucket.
 *
 * All of it is in memory, some 150 bytes a file: keys must come in order, and neither a manifest
 * nor a folder whose names are cleaned promises that.
 */
#include "cli_verify.h"
#include "cli_walk.h"

#include <inttypes.h>

struct one {
	char *key;
	char *path; /* NULL: none */
	uint64_t size_bytes, crc64nvme;
	bool has_crc64nvme;
	char etag[48];
};

struct items {
	struct one *all;
	size_t count, space, at;
	size_t left_out, refused;
	bool has_paths;
};

void items_free(struct items *it)
{
	for (size_t i = 0; it && i < it->count; i++) {
		free(it->all[i].key);
		free(it->all[i].path);
	}
	free(it ? it->all : NULL);
	free(it);
}

size_t items_count(const struct items *it)
{
	return it->count - it->at;
}

bool items_have_paths(const struct items *it)
{
	return it->has_paths;
}

size_t items_left_out(const struct items *it)
{
	return it->left_out;
}

size_t items_refused(const struct items *it)
{
	return it->refused;
}

static struct one *items_add(struct items *it, const char *key)
{
	struct one *o;

	if (it->count == it->space) {
		size_t space = it->space ? 2 * it->space : 1024;
		struct one *grown = reallocarray(it->all, space, sizeof(*grown));

		if (!grown)
			return NULL;
		it->all = grown;
		it->space = space;
	}
	o = &it->all[it->count];
	*o = (struct one){.key = text_dup(key)};
	if (!o->key)
		return NULL;
	it->count++;
	return o;
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct one *)a)->key, ((const struct one *)b)->key);
}

/* Sorted; the same key twice is refused: which of both should it be? */
static int items_sort(struct items *it, const char *name)
{
	if (it->count > 0)
		qsort(it->all, it->count, sizeof(*it->all), by_key);
	for (size_t i = 1; i < it->count; i++) {
		if (strcmp(it->all[i - 1].key, it->all[i].key) == 0) {
			cli_error("%s: %s stands for two files", name, it->all[i].key);
			return -EINVAL;
		}
	}
	return 0;
}

void items_start_after(struct items *it, const char *key)
{
	while (it->at < it->count && strcmp(it->all[it->at].key, key) <= 0)
		it->at++;
}

int items_next(void *items, struct verify_item *ret)
{
	struct items *it = items;
	const struct one *o = &it->all[it->at];

	if (it->at == it->count)
		return 0;
	it->at++;
	ret->size_bytes = o->size_bytes;
	ret->has_crc64nvme = o->has_crc64nvme;
	ret->crc64nvme = o->crc64nvme;
	if (!text_copy(ret->key, o->key, sizeof(ret->key)) ||
		!text_copy(ret->path, o->path ? o->path : "", sizeof(ret->path)))
		return -ENAMETOOLONG;
	(void)text_copy(ret->etag, o->etag, sizeof(ret->etag)); /* fits */
	return 1;
}

/* ---- a manifest ----------------------------------------------------------------------------- */

enum column { COLUMN_KEY, COLUMN_SIZE, COLUMN_ETAG, COLUMN_CRC, COLUMN_STATE, COLUMNS };

static const char *const column_names[COLUMNS] = {
	[COLUMN_KEY] = "key",
	[COLUMN_SIZE] = "size_bytes",
	[COLUMN_ETAG] = "etag",
	[COLUMN_CRC] = "crc64nvme",
	[COLUMN_STATE] = "state",
};

enum { FIELDS_MAX = 32 };

/* Cuts the line at its tabs. */
static int split(char *line, char *fields[FIELDS_MAX])
{
	int n = 0;

	line[strcspn(line, "\r")] = '\0';
	for (char *field = line; field && n < FIELDS_MAX; n++) {
		fields[n] = field;
		field = strchr(field, '\t');
		if (field)
			*field++ = '\0';
	}
	return n;
}

static int read_head(char *line, const char *name, int at[COLUMNS])
{
	char *fields[FIELDS_MAX];
	int n = split(line, fields);

	for (size_t c = 0; c < COLUMNS; c++) {
		at[c] = -1;
		for (int i = 0; i < n; i++) {
			if (strcmp(fields[i], column_names[c]) == 0 ||
				(c == COLUMN_SIZE && strcmp(fields[i], "size") == 0))
				at[c] = i;
		}
	}
	if (at[COLUMN_KEY] >= 0 && at[COLUMN_SIZE] >= 0)
		return 0;
	cli_error(
		"%s: its first line has no columns \"key\" and \"size_bytes\" (separated by tabs)",
		name);
	return -EINVAL;
}

static bool is_below(const char *key, const char *prefix)
{
	size_t len = strlen(prefix);

	return len == 0 || (strncmp(key, prefix, len) == 0 && key[len] == '/') ||
	       strcmp(key, prefix) == 0;
}

static const char *field_of(char **fields, int count, int at)
{
	return at >= 0 && at < count && strcmp(fields[at], "-") != 0 ? fields[at] : "";
}

static int add_row(struct items *it, char *line, const int at[COLUMNS], const char *prefix)
{
	char *fields[FIELDS_MAX];
	int n = split(line, fields);
	const char *crc = field_of(fields, n, at[COLUMN_CRC]);
	struct one *o;
	uint64_t size;

	if (n == 1 && !fields[0][0])
		return 0;
	if (n <= at[COLUMN_KEY] || n <= at[COLUMN_SIZE] || !fields[at[COLUMN_KEY]][0] ||
		text_unescape(fields[at[COLUMN_KEY]]) < 0 ||
		u64_parse(fields[at[COLUMN_SIZE]], &size) < 0)
		return -EINVAL;
	if (strcmp(field_of(fields, n, at[COLUMN_STATE]), "gone") == 0 ||
		!is_below(fields[at[COLUMN_KEY]], prefix)) {
		it->left_out++;
		return 0;
	}
	o = items_add(it, fields[at[COLUMN_KEY]]);
	if (!o)
		return -ENOMEM;
	o->size_bytes = size;
	if (!text_copy(o->etag, field_of(fields, n, at[COLUMN_ETAG]), sizeof(o->etag)))
		return -EINVAL;
	o->has_crc64nvme = crc[0] != '\0';
	return crc[0] ? crc64nvme_from_text(crc, &o->crc64nvme) : 0;
}

static int read_rows(struct items *it, char *text, const char *name, const char *prefix)
{
	int at[COLUMNS], r = 0;
	unsigned number = 1;
	char *line = text, *next = strchr(text, '\n');

	if (next)
		*next++ = '\0';
	r = read_head(line, name, at);
	while (r == 0 && next && *next) {
		line = next;
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		number++;
		r = add_row(it, line, at, prefix);
		if (r == -EINVAL)
			cli_error("%s: line %u is no row of a manifest", name, number);
	}
	return r;
}

int items_from_tsv(struct items **ret, const char *text, const char *name, const char *prefix)
{
	struct items *it = calloc(1, sizeof(*it));
	cleanup_free char *copy = text_dup(text);
	int r = it && copy ? read_rows(it, copy, name, prefix) : -ENOMEM;

	if (r == 0)
		r = items_sort(it, name);
	if (r == -ENOMEM)
		cli_error("%s: %s", name, strerror(-r));
	if (r < 0) {
		items_free(it);
		return r;
	}
	*ret = it;
	return 0;
}

/* ---- a folder ------------------------------------------------------------------------------- */

struct folder {
	struct items *items;
	const char *top, *prefix;
	const struct naming_policy *naming;
};

static int add_file(void *user, int parent, const char *rel, const struct walk_entry *entry)
{
	struct folder *f = user;
	cleanup_buf struct buf path = {0};
	char key[KEY_MAX_BYTES + 1];
	const char *component;
	struct one *o;
	size_t len;

	buf_printf(&path, "%s%s%s", f->prefix, f->prefix[0] ? "/" : "", rel);
	if (buf_error(&path) < 0)
		return -ENOMEM;
	if (path_judge(f->naming, buf_text(&path), false, &component, &len) == NAME_JUNK) {
		f->items->left_out++;
		return 0;
	}
	if (!S_ISREG(entry->st.st_mode) ||
		path_to_key(f->naming, buf_text(&path), false, key) < 0) {
		f->items->refused++;
		return 0;
	}
	o = items_add(f->items, key);
	if (!o || text_printf(&o->path, "%s%s%s", f->top, f->top[0] ? "/" : "", rel) < 0)
		return -ENOMEM;
	o->size_bytes = (uint64_t)entry->st.st_size;
	return 0;
}

static int unreadable(void *user, const char *path, int error)
{
	struct folder *f = user;

	cli_error("%s/%s: %s", f->top, path, strerror(error));
	return -error;
}

static int add_single(struct folder *f, const char *path, const struct stat *st)
{
	const char *slash = strrchr(path, '/');
	struct walk_entry entry = {.name = slash ? slash + 1 : path, .st = *st};
	cleanup_free char *top = slash ? strndup(path, (size_t)(slash - path)) : text_dup("");

	if (!top)
		return -ENOMEM;
	f->top = slash == path ? "/" : top;
	return add_file(f, -1, entry.name, &entry);
}

int items_from_folder(struct items **ret, const char *path, const char *prefix,
	const struct naming_policy *naming)
{
	static const struct walk_hooks hooks = {.file = add_file, .unreadable = unreadable};
	struct items *it = calloc(1, sizeof(*it));
	struct folder f = {.items = it, .top = path, .prefix = prefix, .naming = naming};
	struct stat st;
	int r = it ? 0 : -ENOMEM;

	if (r == 0)
		it->has_paths = true;
	if (r == 0 && stat(path, &st) < 0)
		r = -errno;
	if (r == 0)
		r = S_ISDIR(st.st_mode) ? cli_walk(path, "", &hooks, &f)
					: add_single(&f, path, &st);
	if (r < 0)
		cli_error("%s: %s", path, strerror(-r));
	if (r == 0)
		r = items_sort(it, path);
	if (r < 0) {
		items_free(it);
		return r;
	}
	*ret = it;
	return 0;
}
