/*
 * gallery_key - local path ⇄ object key, and where a path lies relative to the mounted prefix.
 *
 * A path is the key, byte for byte; only NAMING_CLEAN changes strict folder names on the way. Keys
 * are never normalised: what no file name can say ("//", "..") is left out, not mended.
 */
#include "gallery_private.h"

#define NAME_MAX_BYTES 255 /* what a directory entry can carry */
#define CONTROL_FOLDER ".cpgfs"

/* One component of a path, and what was found on the way to it. */
struct walk {
	const struct naming_policy *policy;
	const char *at; /* component inside the path */
	size_t len;
	unsigned depth; /* from 1 */
	bool is_last;
	char *key; /* KEY_MAX_BYTES + 1 */
	size_t key_len;
};

static bool key_add(struct walk *w, const char *name)
{
	size_t name_len = strlen(name), slash = w->key_len > 0;

	if (w->key_len + slash + name_len > KEY_MAX_BYTES)
		return false;
	if (slash)
		w->key[w->key_len++] = '/';
	memcpy(w->key + w->key_len, name, name_len + 1);
	w->key_len += name_len;
	return true;
}

/* Judges the component and adds it to the key. */
static enum name_verdict walk_component(struct walk *w, bool is_folder)
{
	char name[KEY_MAX_BYTES + 1], cleaned[KEY_MAX_BYTES + 1];
	enum name_verdict verdict;

	if (w->len > KEY_MAX_BYTES)
		return NAME_TOO_LONG;
	memcpy(name, w->at, w->len);
	name[w->len] = '\0';
	verdict = name_judge(w->policy, name, is_folder, w->depth);
	if (verdict != NAME_OK)
		return verdict;
	if (w->policy->mode == NAMING_CLEAN && naming_is_strict(w->policy, is_folder, w->depth)) {
		if (name_clean(w->policy, name, cleaned, sizeof(cleaned)) < 0)
			return NAME_REFUSED;
		return key_add(w, cleaned) ? NAME_OK : NAME_TOO_LONG;
	}
	return key_add(w, name) ? NAME_OK : NAME_TOO_LONG;
}

/* Up to the first component that is not NAME_OK; w->at and w->len then name it. */
static enum name_verdict walk_path(struct walk *w, const char *path, bool is_folder)
{
	w->at = path;
	w->key[0] = '\0';
	for (;;) {
		enum name_verdict verdict;

		w->len = strcspn(w->at, "/");
		w->is_last = w->at[w->len] == '\0';
		w->depth++;
		verdict = walk_component(w, w->is_last ? is_folder : true);
		if (verdict != NAME_OK || w->is_last)
			return verdict;
		w->at += w->len + 1;
	}
}

enum name_verdict path_judge(const struct naming_policy *p, const char *path, bool is_folder,
	const char **ret_component, size_t *ret_len)
{
	char key[KEY_MAX_BYTES + 1];
	struct walk w = {.policy = p, .key = key};
	enum name_verdict verdict;

	if (*path == '\0')
		return NAME_OK; /* the root itself */
	verdict = walk_path(&w, path, is_folder);
	if (verdict != NAME_OK) {
		*ret_component = w.at;
		*ret_len = w.len;
	}
	return verdict;
}

int path_to_key(const struct naming_policy *p, const char *path, bool is_folder,
	char out[KEY_MAX_BYTES + 1])
{
	char key[KEY_MAX_BYTES + 1];
	struct walk w = {.policy = p, .key = key};

	switch (walk_path(&w, path, is_folder)) {
	case NAME_OK:
		memcpy(out, key, w.key_len + 1);
		return 0;
	case NAME_TOO_LONG:
		return -ENAMETOOLONG;
	case NAME_TEMPORARY:
	case NAME_JUNK:
	case NAME_REFUSED:
	case NAME_NOT_TEXT:
		break;
	}
	return -EINVAL;
}

static bool is_component(const char *name, size_t len, const char *text)
{
	return len == strlen(text) && memcmp(name, text, len) == 0;
}

bool key_component_is_showable(const char *name, size_t len, bool at_root)
{
	if (len == 0 || len > NAME_MAX_BYTES || memchr(name, '\0', len) || memchr(name, '/', len))
		return false;
	if (is_component(name, len, ".") || is_component(name, len, ".."))
		return false;
	return !(at_root && is_component(name, len, CONTROL_FOLDER));
}

int prefix_normalise(const char *prefix, char out[KEY_MAX_BYTES + 1])
{
	size_t len = strlen(prefix);
	const char *end;

	if (len > 1 && prefix[len - 1] == '/')
		len--;
	if (len > KEY_MAX_BYTES)
		return -ENAMETOOLONG;
	if (!utf8_is_valid(prefix, len))
		return -EINVAL;
	end = prefix + len;
	for (const char *at = prefix; len > 0 && at <= end;) {
		const char *slash = memchr(at, '/', (size_t)(end - at));
		size_t part = (size_t)((slash ? slash : end) - at);

		if (part > NAME_MAX_BYTES)
			return -ENAMETOOLONG;
		if (!key_component_is_showable(at, part, at == prefix))
			return -EINVAL;
		at += part + 1;
	}
	memcpy(out, prefix, len);
	out[len] = '\0';
	return 0;
}

/* path is folder itself or lies below it; everything lies below "". */
static bool is_at_or_below(const char *path, const char *folder)
{
	size_t len = strlen(folder);

	return len == 0 ||
	       (strncmp(path, folder, len) == 0 && (path[len] == '\0' || path[len] == '/'));
}

enum prefix_side prefix_side_of(const char *prefix, const char *path)
{
	if (is_at_or_below(path, prefix))
		return PREFIX_INSIDE;
	return is_at_or_below(prefix, path) ? PREFIX_ABOVE : PREFIX_OUTSIDE;
}
