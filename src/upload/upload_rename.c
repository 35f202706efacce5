/*
 * upload_rename - `cpgfs rename-clean`: folders whose names the gallery refuses get their cleaned
 * names, one rename each, until no held file below has a refused component left. Whatever was held
 * below is judged again by the re-key job that the rename opens.
 */
#include "upload_private.h"

#define BATCH 128
/* A folder can be renamed, then its parent, … : no path is deeper than this many passes. */
#define PASSES_MAX 64

struct refused {
	char parent[4096]; /* path of the folder it lies in */
	char name[STORE_NAME_MAX + 1];
};

/* The first refused component of a held file's path, if a folder. */
static bool refused_of(struct upload *u, const char *path, struct refused *ret)
{
	const char *component = NULL;
	size_t len = 0, parent_len;

	if (path_judge(&u->naming, path, false, &component, &len) != NAME_REFUSED || !component ||
		len > STORE_NAME_MAX || component[len] != '/')
		return false;
	parent_len = component > path ? (size_t)(component - path) - 1 : 0;
	if (parent_len >= sizeof(ret->parent))
		return false;
	memcpy(ret->parent, path, parent_len);
	ret->parent[parent_len] = '\0';
	memcpy(ret->name, component, len);
	ret->name[len] = '\0';
	return true;
}

/* 1: renamed. 0: not possible, said in the log. */
static int rename_folder(struct upload *u, const struct refused *what)
{
	struct store_attr parent;
	char clean[STORE_NAME_MAX + 1];
	int r = store_resolve(u->store, what->parent, &parent);

	if (r == 0)
		r = name_clean(&u->naming, what->name, clean, sizeof(clean));
	if (r == 0 && strcmp(clean, what->name) == 0)
		r = -EINVAL;
	if (r == 0)
		r = store_rename(u->store, parent.ino, what->name, parent.ino, clean,
			STORE_RENAME_NOREPLACE, 0);
	if (r == 0) {
		log_info("renamed: %s in %s is now %s", what->name, what->parent, clean);
		return 1;
	}
	if (r != -ENOENT)
		log_warn("%s in %s keeps its name: %s", what->name, what->parent,
			r == -EEXIST ? "its cleaned name is taken" : strerror(-r));
	return 0;
}

static bool lies_below(const char *path, const char *top)
{
	size_t len = strlen(top);

	return len == 0 || (strncmp(path, top, len) == 0 && path[len] == '/');
}

/* One walk over what is held: how many folders were renamed. */
static int64_t rename_walk(struct upload *u, const char *top)
{
	struct store_queue_item items[BATCH], last, *after = NULL;
	int64_t renamed = 0;
	int n;

	while ((n = store_queue(u->store, FILE_HELD, after, items, array_len(items))) > 0) {
		for (int i = 0; i < n; i++) {
			cleanup_buf struct buf path = {0};
			struct refused what;

			if (store_path(u->store, items[i].ino, &path) == 0 &&
				buf_error(&path) == 0 && lies_below(buf_text(&path), top) &&
				refused_of(u, buf_text(&path), &what))
				renamed += rename_folder(u, &what);
		}
		last = items[n - 1];
		after = &last;
	}
	return n < 0 ? n : renamed;
}

int64_t upload_rename_clean(struct upload *u, const char *path)
{
	int64_t renamed = 0;

	for (unsigned pass = 0; pass < PASSES_MAX; pass++) {
		int64_t n = rename_walk(u, path);

		if (n < 0)
			return n;
		renamed += n;
		if (n == 0)
			break;
	}
	return renamed;
}
