/*
 * upload_rename - `cpgfs rename-clean`: folders whose names the gallery refuses get their cleaned
 * names, one rename each, until no held file below has a refused component left. The held files are
 * noted first: each rename opens a re-key job by which they are judged again, so they may leave that
 * state (and the named folder) while this goes on.
 */
#include "upload_private.h"

#define BATCH 128
#define RENAMES_MAX 512 /* of one file's folders: no path is deeper */

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

/* What is held below a folder. */
struct held {
	uint64_t *inos;
	size_t count, room;
};

static int held_add(struct held *h, uint64_t ino)
{
	if (h->count == h->room) {
		size_t room = h->room ? 2 * h->room : BATCH;
		uint64_t *bigger = reallocarray(h->inos, room, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		h->inos = bigger;
		h->room = room;
	}
	h->inos[h->count++] = ino;
	return 0;
}

static int held_below(struct upload *u, const char *top, struct held *ret)
{
	struct store_queue_item items[BATCH], last, *after = NULL;
	int n;

	while ((n = store_queue(u->store, FILE_HELD, after, items, array_len(items))) > 0) {
		for (int i = 0; i < n; i++) {
			cleanup_buf struct buf path = {0};

			if (store_path(u->store, items[i].ino, &path) < 0 ||
				!lies_below(buf_text(&path), top))
				continue;
			if (held_add(ret, items[i].ino) < 0)
				return -ENOMEM;
		}
		last = items[n - 1];
		after = &last;
	}
	return n;
}

/* All folders above a file that need it; how many were renamed. */
static unsigned rename_above(struct upload *u, uint64_t ino)
{
	unsigned renamed = 0;

	while (renamed < RENAMES_MAX) {
		cleanup_buf struct buf path = {0};
		struct refused what;

		if (store_path(u->store, ino, &path) < 0 ||
			!refused_of(u, buf_text(&path), &what) || !rename_folder(u, &what))
			break;
		renamed++;
	}
	return renamed;
}

int64_t upload_rename_clean(struct upload *u, const char *path)
{
	struct held held = {0};
	int64_t renamed = 0;
	int r = held_below(u, path, &held);

	for (size_t i = 0; r == 0 && i < held.count; i++)
		renamed += rename_above(u, held.inos[i]);
	free(held.inos);
	return r < 0 ? r : renamed;
}
