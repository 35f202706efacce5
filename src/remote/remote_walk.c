/*
 * remote_walk - listings made now, for those who may wait: page by page in constant memory, the
 * next page on its way while one is handed out.
 *
 * A whole folder walked without going deeper is also kept as its cached listing.
 */
#include "remote_private.h"

struct walk {
	struct remote *remote;
	struct remote_call call;
	struct remote_paging paging;
	int64_t deadline_ms;
	char *token;
	/* the last entry handed out */
	char last_key[KEY_MAX_BYTES + 2];
	size_t last_key_len;
	/* renewing the cached listing; folder NULL: not (any more) */
	struct remote_folder *folder;
	struct remote_note_log log;
	struct remote_names names;
	int64_t begun_at_ns, begun_mono_ms;
};

static int walk_send(struct walk *w)
{
	struct s3_request req = {
		.op = S3_LIST,
		.prefix = w->paging.prefix,
		.delimiter = w->paging.recursive ? NULL : "/",
		.token = w->token,
	};

	return remote_call_submit(&w->call, &req);
}

static void health_note(struct walk *w, enum remote_verdict verdict, int error)
{
	if (verdict != REMOTE_OK && verdict != REMOTE_NO)
		return;
	with_lock(&w->remote->lock);
	remote_health_set_locked(w->remote, error, w->call.reply.message);
}

/* Waits for the page that was asked for, asking again as long as it makes sense. */
static int walk_receive(struct walk *w)
{
	unsigned attempts = 0;

	for (;;) {
		enum remote_verdict verdict;
		int error;

		remote_call_wait(&w->call, w->deadline_ms);
		if (remote_is_stopping(w->remote))
			return -ESHUTDOWN;
		verdict = remote_judge(&w->call.reply, &error);
		health_note(w, verdict, error);
		if (verdict == REMOTE_OK)
			return remote_page_check(&w->paging, &w->call.reply.list);
		if (verdict == REMOTE_NO)
			return error == -EACCES ? error : -EIO;
		error = remote_wait_again(&w->call, &attempts, w->deadline_ms);
		if (error == 0)
			error = walk_send(w);
		if (error < 0)
			return error;
	}
}

/* Some servers repeat an entry on the next page; anything else out of order can't be handed out in
 * order without keeping it all. */
static int check_order(struct walk *w, const struct s3_list_entry *e, bool *ret_repeated)
{
	size_t least = e->key_len < w->last_key_len ? e->key_len : w->last_key_len;
	int d = memcmp(e->key, w->last_key, least);

	if (d == 0)
		d = e->key_len < w->last_key_len ? -1 : e->key_len > w->last_key_len;
	*ret_repeated = d == 0 && w->last_key_len > 0;
	if (d < 0 || e->key_len >= sizeof(w->last_key))
		return -EIO;
	memcpy(w->last_key, e->key, e->key_len);
	w->last_key_len = e->key_len;
	return 0;
}

static int walk_deliver(
	struct walk *w, const struct s3_list_page *page, remote_each_fn *each, void *user)
{
	for (size_t i = 0; i < page->count; i++) {
		const struct s3_list_entry *e = &page->entries[i];
		struct remote_walk_entry entry = {
			.key = e->key,
			.key_len = e->key_len,
			.is_prefix = e->is_prefix,
			.object = e->object,
		};
		bool repeated;
		int r = check_order(w, e, &repeated);

		if (r == 0 && !repeated)
			r = each(user, &entry);
		if (r != 0)
			return r;
	}
	return 0;
}

/* ---- the cached listing that comes with it ---- */

static void renew_begin(struct walk *w)
{
	struct remote *r = w->remote;
	const char *prefix = w->paging.prefix;
	size_t len = strlen(prefix);

	if (w->paging.recursive || (len > 0 && prefix[len - 1] != '/'))
		return;
	with_lock(&r->lock);
	w->folder = remote_cache_find(&r->synced.cache, prefix);
	if (!w->folder)
		w->folder = remote_cache_add(&r->synced.cache, prefix);
	if (w->folder)
		remote_log_open_locked(w->folder, &w->log);
}

static void renew_drop(struct walk *w)
{
	if (!w->folder)
		return;
	with_lock(&w->remote->lock);
	(void)remote_log_close_locked(w->folder, &w->log, NULL); /* nothing is installed */
	w->folder = NULL;
}

static void renew_add(struct walk *w, const struct s3_list_page *page)
{
	if (!w->folder)
		return;
	if (w->names.count + page->count > w->remote->synced.cache.entries_max ||
		remote_merge_page(&w->names, w->paging.prefix, page) < 0)
		renew_drop(w); /* the walk goes on without */
}

static void renew_end(struct walk *w)
{
	if (!w->folder)
		return;
	remote_names_finish(&w->names);
	with_lock(&w->remote->lock);
	remote_listing_install_locked(w->remote, w->folder, &w->names, &w->log, w->begun_at_ns,
		w->begun_mono_ms);
	remote_tell_changed_locked(w->remote, w->folder);
	w->folder = NULL;
}

/* ---- all of it ---- */

static int walk_pages(struct walk *w, remote_each_fn *each, void *user)
{
	int r = walk_send(w);

	while (r == 0) {
		struct s3_reply page = {0};
		bool more;

		r = walk_receive(w);
		if (r < 0)
			return r;
		s3_reply_move(&page, &w->call.reply);
		more = page.list.truncated;
		free(w->token);
		w->token = more ? steal_ptr(page.list.next_token) : NULL;
		if (more)
			r = walk_send(w);
		remote_page_sort(&page.list);
		renew_add(w, &page.list);
		if (r == 0)
			r = walk_deliver(w, &page.list, each, user);
		s3_reply_release(&page);
		if (!more)
			break;
	}
	return r;
}

int remote_walk(struct remote *r, const char *prefix, bool recursive, int64_t deadline_ms,
	remote_each_fn *each, void *user, int64_t *ret_begun_at_ns)
{
	struct walk w = {
		.remote = r,
		.paging = {.prefix = prefix, .recursive = recursive},
		.deadline_ms = deadline_ms,
		.begun_at_ns = clock_wall_ns(),
		.begun_mono_ms = clock_mono_ms(),
	};
	int e;

	lock_assert_none_held();
	if (!remote_is_inside(r, prefix))
		return -EACCES;
	remote_call_init(r, &w.call);
	renew_begin(&w);
	e = walk_pages(&w, each, user);
	remote_call_release(&w.call);
	if (e == 0)
		renew_end(&w);
	renew_drop(&w);
	remote_names_release(&w.names);
	free(w.token);
	if (e == 0 && ret_begun_at_ns)
		*ret_begun_at_ns = w.begun_at_ns;
	return e;
}
