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
	return clock_mono_ms() - f->begun_mono_ms < r->list_ttl_ms;
}

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
	if (f->born)
		stale_ok = true;
	if (is_fresh(r, f) && !f->born)
		return 0;
	remote_flight_want_locked(r, f, stale_ok && f->known);
	if (f->known && stale_ok)
		return 0;
	if (f->error && !f->flight)
		return f->error;
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
	return f && f->known ? f->begun_at_ns : 0;
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

/* A listing under way may be older than the wish: it is installed as old. */
static void forget_one(struct remote_cache *c, struct remote_folder *f)
{
	remote_cache_forget(c, f);
	for (struct remote_note_log *log = f->logs; log; log = log->next)
		log->incomplete = true;
}

void remote_refresh(struct remote *r, const char *prefix)
{
	with_lock(&r->lock);
	remote_cache_each_below(&r->synced.cache, prefix, forget_one);
}
