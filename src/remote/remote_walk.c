/*
 * remote_walk - listings made now, for those who may wait, handed out in constant memory.
 *
 * A whole folder walked without going deeper is also kept as its cached listing.
 */
#include "remote_private.h"

struct walk {
	struct remote *remote;
	struct remote_cursor *cursor;
	const char *prefix;
	/* renewing the cached listing; folder NULL: not (any more) */
	struct remote_folder *folder;
	struct remote_note_log log;
	struct remote_names names;
	struct remote_time begun_at;
};

/* ---- the cached listing that comes with it ---- */

static void renew_begin(struct walk *w)
{
	struct remote *r = w->remote;
	size_t len = strlen(w->prefix);

	if (w->cursor->pages.recursive || (len > 0 && w->prefix[len - 1] != '/'))
		return;
	with_lock(&r->lock);
	w->folder = remote_cache_find(&r->synced.cache, w->prefix);
	if (!w->folder)
		w->folder = remote_cache_add(&r->synced.cache, w->prefix);
	if (!w->folder)
		return;
	remote_log_open_locked(w->folder, &w->log);
	remote_split_known_locked(r, &w->cursor->pages.scan, w->folder);
}

static void renew_drop(struct walk *w)
{
	if (!w->folder)
		return;
	with_lock(&w->remote->lock);
	(void)remote_log_close_locked(w->folder, &w->log, NULL); /* nothing is installed */
	w->folder = NULL;
}

static void renew_add(struct walk *w, const struct remote_walk_entry *e)
{
	const struct s3_list_entry entry = {.key = e->key,
		.key_len = e->key_len,
		.is_prefix = e->is_prefix,
		.object = e->object};

	if (!w->folder)
		return;
	if (w->names.count >= w->remote->synced.cache.entries_max ||
		remote_merge_entry(&w->names, w->prefix, &entry) < 0)
		renew_drop(w); /* the walk goes on without */
}

static void renew_end(struct walk *w)
{
	if (!w->folder)
		return;
	remote_names_finish(&w->names);
	with_lock(&w->remote->lock);
	remote_listing_install_locked(w->remote, w->folder, &w->names, &w->log, w->begun_at);
	remote_tell_changed_locked(w->remote, w->folder);
	w->folder = NULL;
}

/* ---- all of it ---- */

static int walk_entries(struct walk *w, remote_each_fn *each, void *user)
{
	struct remote_walk_entry entry;
	int r;

	while ((r = remote_cursor_next(w->cursor, &entry)) == 1) {
		renew_add(w, &entry);
		r = each(user, &entry);
		if (r != 0)
			return r;
	}
	return r;
}

int remote_walk(struct remote *r, const char *prefix, bool recursive, int64_t deadline_ms,
	remote_each_fn *each, void *user, int64_t *ret_begun_at_ns)
{
	struct walk w = {
		.remote = r,
		.prefix = prefix,
		.begun_at = remote_time_now(),
	};
	int e;

	lock_assert_none_held();
	e = remote_cursor_open_in(&w.cursor, r, prefix, NULL, recursive, deadline_ms);
	if (e < 0)
		return e;
	renew_begin(&w);
	e = walk_entries(&w, each, user);
	if (e == 0)
		renew_end(&w);
	renew_drop(&w);
	remote_cursor_close(w.cursor);
	remote_names_release(&w.names);
	if (e == 0 && ret_begun_at_ns)
		*ret_begun_at_ns = w.begun_at.at_ns;
	return e;
}
