/*
 * remote_note - our own writes, told at once: cached listings follow them.
 *
 * A listing under way may have been begun before such a write and show the bucket without it. So
 * each one keeps a log of what was noted in its folder meanwhile, and that is applied again, in
 * order, to what the server listed.
 */
#include "remote_private.h"

bool remote_note_apply(
	struct remote_names *names, const struct remote_note *note, bool *ret_lost)
{
	int e;

	if (note->is_delete)
		return remote_names_remove(names, note->name);
	e = remote_names_put(names, note->name, note->is_dir, &note->object);
	if (e < 0)
		*ret_lost = true;
	return e == 1;
}

static bool log_repeats(const struct remote_note_log *log, const struct remote_note *note)
{
	const struct remote_note *last;

	if (!log->first)
		return false;
	last = (const void *)((const char *)log->last - offsetof(struct remote_note, next));
	return last->is_dir && note->is_dir && strcmp(last->name, note->name) == 0;
}

static void log_add(struct remote_note_log *log, const struct remote_note *note)
{
	size_t bytes = sizeof(*note) + strlen(note->name) + 1;
	struct remote_note *copy;

	if (log_repeats(log, note))
		return;
	copy = malloc(bytes);
	if (!copy) {
		log->incomplete = true;
		return;
	}
	memcpy(copy, note, bytes);
	copy->next = NULL;
	*log->last = copy;
	log->last = &copy->next;
}

void remote_log_open_locked(struct remote_folder *f, struct remote_note_log *log)
{
	*log = (struct remote_note_log){.next = f->logs, .last = &log->first};
	f->logs = log;
}

bool remote_log_close_locked(
	struct remote_folder *f, struct remote_note_log *log, struct remote_names *names)
{
	struct remote_note_log **at = &f->logs;
	bool lost = log->incomplete;

	while (*at != log)
		at = &(*at)->next;
	*at = log->next;
	for (struct remote_note *n = log->first, *next; n; n = next) {
		next = n->next;
		if (names)
			(void)remote_note_apply(names, n, &lost); /* whoever installs tells of it */
		free(n);
	}
	*log = (struct remote_note_log){0};
	return !lost;
}

void remote_folder_expire_locked(struct remote_folder *f)
{
	f->expired = true;
	for (struct remote_note_log *log = f->logs; log; log = log->next)
		log->incomplete = true;
}

static void folder_apply(struct remote *r, struct remote_folder *f, const struct remote_note *note)
{
	size_t before = f->names.count;
	bool lost = false, changed;

	for (struct remote_note_log *log = f->logs; log; log = log->next)
		log_add(log, note);
	if (!f->known)
		return;
	changed = remote_note_apply(&f->names, note, &lost);
	r->synced.cache.entries += f->names.count - before;
	f->expired = f->expired || lost;
	if (changed)
		remote_tell_changed_locked(r, f);
}

/* The folder of a key: everything to its last slash (not counting one at its very end). */
static size_t parent_len(const char *key, size_t len)
{
	if (len > 0 && key[len - 1] == '/')
		len--;
	while (len > 0 && key[len - 1] != '/')
		len--;
	return len;
}

/* Tells the folder of key[0..len): an object of that name, or a folder if key ends in a slash. */
static void note_one(struct remote *r, const char *key, size_t len, struct remote_note *note)
{
	char folder[KEY_MAX_BYTES + 1];
	size_t in = parent_len(key, len), name_len = len - in - (key[len - 1] == '/' ? 1 : 0);
	struct remote_folder *f;

	memcpy(folder, key, in);
	folder[in] = '\0';
	if (!key_component_is_showable(key + in, name_len, in == 0))
		return;
	memcpy(note->name, key + in, name_len);
	note->name[name_len] = '\0';
	remote_flats_note_locked(r, folder, note);
	f = remote_cache_find(&r->synced.cache, folder);
	if (f)
		folder_apply(r, f, note);
}

/* A deletion that empties a folder may have been the folder's end: its parent is asked again. */
static void expire_parent_of_empty(struct remote *r, const char *key, size_t len)
{
	char prefix[KEY_MAX_BYTES + 1];
	size_t in = parent_len(key, len);
	struct remote_folder *f;

	memcpy(prefix, key, in);
	prefix[in] = '\0';
	f = remote_cache_find(&r->synced.cache, prefix);
	if (!f || !f->known || f->names.count > 0 || in <= strlen(r->prefix))
		return;
	prefix[parent_len(prefix, in)] = '\0';
	f = remote_cache_find(&r->synced.cache, prefix);
	if (f)
		remote_folder_expire_locked(f);
}

static struct remote_note *note_new(void)
{
	return calloc(1, sizeof(struct remote_note) + STORE_NAME_MAX + 1);
}

/* Every cached listing may lack it: all count as old. Only when there is no memory for a note. */
static void expire_one(struct remote_cache *c, struct remote_folder *f)
{
	remote_folder_expire_locked(f);
}

static void expire_all_locked(struct remote *r)
{
	remote_cache_each_below(&r->synced.cache, "", expire_one);
	remote_flats_end_locked(r, "");
}

void remote_note_put(struct remote *r, const char *key, const struct s3_object *object)
{
	cleanup_free struct remote_note *note = note_new();
	size_t len = strlen(key), top = strlen(r->prefix);

	if (len == 0 || len > KEY_MAX_BYTES || !remote_is_inside(r, key))
		return;
	with_lock(&r->lock);
	if (!note) {
		expire_all_locked(r);
		return;
	}
	note->object = *object;
	note->is_dir = key[len - 1] == '/';
	while (len > top) {
		note_one(r, key, len, note);
		len = parent_len(key, len);
		note->is_dir = true;
	}
}

void remote_note_delete(struct remote *r, const char *key)
{
	cleanup_free struct remote_note *note = note_new();
	size_t len = strlen(key);

	if (len == 0 || len > KEY_MAX_BYTES || key[len - 1] == '/' || !remote_is_inside(r, key))
		return;
	with_lock(&r->lock);
	if (!note) {
		expire_all_locked(r);
		return;
	}
	note->is_delete = true;
	note_one(r, key, len, note);
	expire_parent_of_empty(r, key, len);
}
