/*
 * remote_view - answers from cached listings; never blocks. What is not known is asked for in the
 * background, and the one who asked is told by an event.
 *
 * Levels above the mounted prefix are made up (one folder each) and never listed.
 */
#include "remote_private.h"

static bool is_fresh(const struct remote *r, const struct remote_folder *f)
{
	if (!f->known || f->expired)
		return false;
	return clock_mono_ms() - f->begun.mono_ms < r->list_ttl_ms;
}

/* ---- walks through a tree: find, ls -R, du ---- */

#define WALK_BEGINS 2	 /* folders asked for one after the other, as their parent lists them */
#define WALK_AHEAD_MAX 28 /* listings of folders behind that are begun before they are asked for */
#define WALK_REST_MS 10000 /* between two of them; longer is no walk */

/* The next folder among the names, from the index on. */
static bool next_dir(
	const struct remote_names *names, size_t from, size_t *ret_index, struct remote_entry *ret)
{
	for (size_t i = from; i < names->count; i++) {
		if (!remote_names_is_dir(names, i))
			continue;
		remote_names_entry(names, i, ret);
		*ret_index = i;
		return true;
	}
	return false;
}

static struct remote_folder *parent_of_locked(
	struct remote *r, const char *prefix, char name[STORE_NAME_MAX + 1])
{
	char parent[KEY_MAX_BYTES + 2];
	size_t len = strlen(prefix), at = len > 0 ? len - 1 : 0;
	struct remote_folder *f;

	while (at > 0 && prefix[at - 1] != '/')
		at--;
	if (len == 0 || len >= sizeof(parent) || len - 1 - at > STORE_NAME_MAX)
		return NULL;
	memcpy(parent, prefix, at);
	parent[at] = '\0';
	memcpy(name, prefix + at, len - 1 - at);
	name[len - 1 - at] = '\0';
	f = remote_cache_find(&r->synced.cache, parent);
	return f && f->known ? f : NULL;
}

#define PREFIX_BYTES (KEY_MAX_BYTES + STORE_NAME_MAX + 2)

static void prefix_below(char out[PREFIX_BYTES], const struct remote_folder *parent, const char *name)
{
	snprintf(out, PREFIX_BYTES, "%s%s/", parent->prefix, name);
}

static unsigned ahead_of(const struct remote_folder *parent)
{
	return 2 * parent->walked < WALK_AHEAD_MAX ? 2 * parent->walked : WALK_AHEAD_MAX;
}

static void list_ahead_locked(struct remote *r, struct remote_folder *parent, size_t from)
{
	unsigned ahead = ahead_of(parent);
	struct remote_entry entry;
	char prefix[PREFIX_BYTES];

	for (; ahead > 0 && next_dir(&parent->names, from, &from, &entry); ahead--, from++) {
		struct remote_folder *f;

		prefix_below(prefix, parent, entry.name);
		if (remote_flats_cover_locked(r, prefix))
			continue;
		f = remote_cache_find(&r->synced.cache, prefix);
		if (!f && strlen(prefix) <= KEY_MAX_BYTES)
			f = remote_cache_add(&r->synced.cache, prefix);
		if (f && !f->born && !is_fresh(r, f))
			remote_flight_want_locked(r, f, false);
	}
}

/* All folders from the first one on that nothing is known of, if it is near. */
static void list_flat_locked(
	struct remote *r, struct remote_folder *parent, const char *name, size_t from)
{
	unsigned ahead = ahead_of(parent);
	struct remote_entry entry;
	char after[PREFIX_BYTES], prefix[PREFIX_BYTES];

	prefix_below(after, parent, name);
	for (; ahead > 0 && next_dir(&parent->names, from, &from, &entry); ahead--, from++) {
		const struct remote_folder *f;

		prefix_below(prefix, parent, entry.name);
		if (strlen(prefix) > KEY_MAX_BYTES || remote_flats_cover_locked(r, prefix))
			return;
		f = remote_cache_find(&r->synced.cache, prefix);
		if (!f || (!f->flight && !f->born && !is_fresh(r, f))) {
			after[strlen(after) - 1] = '/' + 1; /* behind all that is in the one before */
			(void)remote_flat_begin_locked(r, parent->prefix, after); /* else one by one */
			return;
		}
		memcpy(after, prefix, sizeof(after));
	}
}

/* Whoever asks for folders one after the other in their parent's order will ask for the next, too. */
static void note_walk_locked(struct remote *r, const char *prefix)
{
	char name[STORE_NAME_MAX + 1];
	struct remote_folder *parent = parent_of_locked(r, prefix, name);
	struct remote_entry entry;
	const char *before;
	char prefix_before[PREFIX_BYTES];
	int64_t now_ms = clock_mono_ms();
	size_t at = 0;

	before = parent && parent->walked_to ? parent->walked_to : "";
	if (!parent || strcmp(before, name) == 0)
		return;
	prefix_below(prefix_before, parent, before);
	if (next_dir(&parent->names, remote_names_after(&parent->names, before), &at, &entry) &&
		strcmp(entry.name, name) == 0 &&
		(!parent->walked_to || now_ms - parent->walked_ms < WALK_REST_MS))
		parent->walked++;
	else
		parent->walked = 0;
	parent->walked_ms = now_ms;
	free(parent->walked_to);
	parent->walked_to = text_dup(name); /* without memory for it: begun anew */
	if (parent->walked < WALK_BEGINS)
		return;
	if (remote_is_walked_through_locked(r, prefix_before))
		list_flat_locked(r, parent, name, at + 1);
	list_ahead_locked(r, parent, at + 1);
}

/* ---- answers ---- */

/* The folder with names to answer from, or why not. */
static int folder_ask_locked(
	struct remote *r, const char *prefix, bool stale_ok, struct remote_folder **ret)
{
	struct remote_folder *f = remote_cache_find(&r->synced.cache, prefix);

	if (r->synced.stopping)
		return -ESHUTDOWN;
	if (!f)
		f = remote_cache_add(&r->synced.cache, prefix);
	if (!f)
		return -ENOMEM;
	remote_cache_touch(&r->synced.cache, f);
	remote_cache_trim(&r->synced.cache);
	*ret = f;
	f->asked = true;
	remote_flats_asked_locked(r, f);
	if (f->born)
		stale_ok = true;
	else
		note_walk_locked(r, prefix);
	if (is_fresh(r, f) && !f->born)
		return 0;
	if (!f->born && !f->flight) {
		if (f->known && stale_ok && remote_flats_cover_locked(r, prefix))
			return 0;
		if (!(f->known && stale_ok) && remote_flats_wait_locked(r, f))
			return s3_is_down(r->s3) ? -ENETDOWN : -EINPROGRESS;
	}
	remote_flight_want_locked(r, f, stale_ok && f->known);
	if (f->known && stale_ok)
		return 0;
	if (f->error && !f->flight)
		return f->error;
	if (!f->flight) /* without memory for one no news would come */
		return -ENETDOWN;
	return s3_is_down(r->s3) ? -ENETDOWN : -EINPROGRESS;
}

static void entry_above(const char *name, size_t len, struct remote_entry *ret)
{
	*ret = (struct remote_entry){.is_dir = true};
	memcpy(ret->name, name, len < STORE_NAME_MAX ? len : STORE_NAME_MAX);
}

int remote_lookup(struct remote *r, const char *prefix, const char *name, bool stale_ok,
	struct remote_entry *ret)
{
	struct remote_folder *f;
	const char *above;
	size_t len;
	int e;

	if (remote_is_above(r, prefix, &above, &len)) {
		if (strlen(name) != len || memcmp(name, above, len) != 0)
			return -ENOENT;
		entry_above(above, len, ret);
		return 0;
	}
	if (!remote_is_inside(r, prefix))
		return -EACCES;
	with_lock(&r->lock);
	e = folder_ask_locked(r, prefix, stale_ok, &f);
	if (e < 0)
		return e;
	return remote_names_find(&f->names, name, ret) ? 0 : -ENOENT;
}

static int list_above(
	const char *name, size_t len, const char *after, struct remote_entry *out, size_t max)
{
	struct remote_entry only;

	entry_above(name, len, &only);
	if (max == 0 || strcmp(only.name, after) <= 0)
		return 0;
	out[0] = only;
	return 1;
}

int remote_list(struct remote *r, const char *prefix, const char *after, bool stale_ok,
	struct remote_entry *out, size_t max)
{
	struct remote_folder *f;
	const char *above;
	size_t count = 0, len;
	int e;

	if (remote_is_above(r, prefix, &above, &len))
		return list_above(above, len, after, out, max);
	if (!remote_is_inside(r, prefix))
		return -EACCES;
	with_lock(&r->lock);
	e = folder_ask_locked(r, prefix, stale_ok, &f);
	if (e < 0)
		return e;
	for (size_t i = remote_names_after(&f->names, after); i < f->names.count && count < max; i++)
		remote_names_entry(&f->names, i, &out[count++]);
	return (int)count;
}

int remote_cached_has(struct remote *r, const char *prefix, const char *name)
{
	struct remote_folder *f;
	struct remote_entry entry;

	with_lock(&r->lock);
	f = remote_cache_find(&r->synced.cache, prefix);
	if (!f || !f->known || f->born)
		return -ENODATA;
	return remote_names_find(&f->names, name, &entry);
}

int64_t remote_listed_at(struct remote *r, const char *prefix)
{
	struct remote_folder *f;

	with_lock(&r->lock);
	f = remote_cache_find(&r->synced.cache, prefix);
	return f && f->known ? f->begun.at_ns : 0;
}

uint64_t remote_unshowable_count(struct remote *r, const char *prefix)
{
	struct remote_folder *f;

	with_lock(&r->lock);
	f = remote_cache_find(&r->synced.cache, prefix);
	return f ? f->names.unshowable : 0;
}

void remote_born_local(struct remote *r, const char *prefix)
{
	struct remote_folder *f;

	if (!remote_is_inside(r, prefix))
		return;
	with_lock(&r->lock);
	f = remote_cache_find(&r->synced.cache, prefix);
	if (!f)
		f = remote_cache_add(&r->synced.cache, prefix);
	if (!f || f->known || r->synced.stopping)
		return; /* what a listing said stands */
	f->known = f->born = true;
	remote_flight_want_locked(r, f, true);
}

static void forget_one(struct remote_cache *c, struct remote_folder *f)
{
	remote_cache_forget(c, f);
	remote_folder_expire_locked(f);
}

void remote_refresh(struct remote *r, const char *prefix)
{
	with_lock(&r->lock);
	remote_cache_each_below(&r->synced.cache, prefix, forget_one);
	remote_flats_end_locked(r, prefix);
}
