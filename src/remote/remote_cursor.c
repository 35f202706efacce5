/*
 * remote_cursor - a listing made now, entry by entry in key order, for those who may wait. More of
 * it is under way while one page is looked at.
 */
#include "remote_private.h"

#define LOG_ROOM "remote"
#define TRIES_MAX 12 /* of a cursor of its own: some minutes of backoff */

/* ---- life ---- */

static void on_arrived(struct remote_pages *p)
{
	struct remote_cursor *c = (struct remote_cursor *)p; /* its first member */

	cond_signal(&c->cond);
}

static int cursor_new(struct remote_cursor **ret, struct s3 *s3, const char *prefix,
	const char *after, bool recursive)
{
	struct remote_cursor *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	lock_init(&c->own_lock, RANK_REMOTE, "remote cursor");
	cond_init(&c->cond);
	c->prefix = text_dup(prefix);
	c->after = text_dup(after ? after : "");
	c->pages = (struct remote_pages){
		.s3 = s3,
		.prefix = c->prefix,
		.after = c->after,
		.recursive = recursive,
		.deadline_ms = INT64_MAX,
		.lock = &c->own_lock,
		.arrived_locked = on_arrived,
	};
	if (!c->prefix || !c->after || strlen(c->after) > KEY_MAX_BYTES ||
		remote_pages_begin(&c->pages) < 0) {
		remote_cursor_close(c);
		return -ENOMEM;
	}
	memcpy(c->last_key, c->after, strlen(c->after));
	c->last_key_len = strlen(c->after);
	*ret = c;
	return 0;
}

int remote_cursor_open(
	struct remote_cursor **ret, struct s3 *s3, const char *prefix, const char *after)
{
	int r = cursor_new(ret, s3, prefix, after, true);

	if (r == 0)
		(*ret)->pages.attempts_max = TRIES_MAX;
	return r;
}

int remote_cursor_open_in(struct remote_cursor **ret, struct remote *r, const char *prefix,
	const char *after, bool recursive, int64_t deadline_ms)
{
	struct remote_cursor *c;
	int e;

	if (!remote_is_inside(r, prefix))
		return -EACCES;
	if (remote_is_stopping(r))
		return -ESHUTDOWN;
	e = cursor_new(&c, r->s3, prefix, after, recursive);
	if (e < 0)
		return e;
	c->pages.remote = r;
	c->pages.lock = &r->lock;
	c->pages.deadline_ms = deadline_ms;
	with_lock(&r->lock);
	c->next = r->synced.cursors;
	r->synced.cursors = c;
	*ret = c;
	return 0;
}

int remote_cursor_open_inside(
	struct remote_cursor **ret, struct remote *r, const char *prefix, const char *after)
{
	return remote_cursor_open_in(ret, r, prefix, after, true, INT64_MAX);
}

void remote_cursor_until(struct remote_cursor *c, int64_t deadline_ms)
{
	c->pages.deadline_ms = deadline_ms;
}

/* Requests write into the cursor: it stays until the last is over. */
static void wait_until_quiet(struct remote_cursor *c)
{
	remote_pages_cancel(&c->pages);
	with_lock(c->pages.lock);
	while (c->pages.synced.under_way > 0)
		(void)cond_wait_until(&c->cond, c->pages.lock, INT64_MAX);
}

static void unlink_from_room(struct remote_cursor *c)
{
	struct remote_cursor **at = &c->pages.remote->synced.cursors;

	with_lock(c->pages.lock);
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
}

void remote_cursor_close(struct remote_cursor *c)
{
	if (!c)
		return;
	lock_assert_none_held();
	wait_until_quiet(c);
	if (c->pages.remote)
		unlink_from_room(c);
	remote_pages_release(&c->pages);
	remote_list_release(&c->page);
	cond_release(&c->cond);
	lock_release_storage(&c->own_lock);
	free(c->prefix);
	free(c->after);
	free(c);
}

void remote_cursors_wake_locked(struct remote *r)
{
	lock_assert_held(&r->lock);
	for (struct remote_cursor *c = r->synced.cursors; c; c = c->next)
		cond_signal(&c->cond);
}

/* ---- pages ---- */

static bool is_stopping_locked(const struct remote_cursor *c)
{
	return c->pages.remote && c->pages.remote->synced.stopping;
}

/* Until a reply is here or due_ms. */
static int wait_for_reply(struct remote_cursor *c, int64_t due_ms)
{
	int64_t deadline_ms = c->pages.deadline_ms, until_ms;

	until_ms = due_ms < deadline_ms ? due_ms : deadline_ms;
	with_lock(c->pages.lock);
	while (!c->pages.synced.arrived && !is_stopping_locked(c)) {
		if (cond_wait_until(&c->cond, c->pages.lock, until_ms) == -ETIMEDOUT)
			break;
	}
	if (is_stopping_locked(c))
		return -ESHUTDOWN;
	if (c->pages.synced.arrived || clock_mono_ms() < deadline_ms)
		return 0;
	return -ENETDOWN;
}

/* The next page, in c->page: 1; 0 at the end. */
static int page_turn(struct remote_cursor *c)
{
	remote_list_release(&c->page);
	for (;;) {
		int64_t due_ms;
		int r = remote_pages_turn(&c->pages, &due_ms);

		if (r < 0)
			return r;
		if (remote_scan_take(&c->pages.scan, &c->page))
			return 1;
		if (remote_pages_done(&c->pages))
			return 0;
		r = wait_for_reply(c, due_ms);
		if (r < 0)
			return r;
	}
}

/* A listing begun anew shows again what was handed out. All of it, or something would be missed that
 * the server shows in an order of its own. */
static int end_skipping(struct remote_cursor *c)
{
	if (!c->skipping)
		return 0;
	c->skipping = false;
	return c->skipped == c->handed_out ? 0 : -EIO;
}

/* Some servers repeat an entry on the next page. Anything else out of order can't be handed out in
 * order without keeping it all. */
static int check_order(struct remote_cursor *c, const struct s3_list_entry *e, bool *ret_repeated)
{
	size_t least = e->key_len < c->last_key_len ? e->key_len : c->last_key_len;
	uint64_t hash = crc64nvme(0, e->key, e->key_len);
	int d = memcmp(e->key, c->last_key, least);

	if (d == 0)
		d = e->key_len < c->last_key_len ? -1 : e->key_len > c->last_key_len;
	*ret_repeated = c->skipping ? d <= 0 : d == 0 && c->last_key_len > 0;
	if (*ret_repeated) {
		c->skipped += c->skipping ? hash : 0;
		return 0;
	}
	if (d < 0 || e->key_len >= sizeof(c->last_key) || end_skipping(c) < 0)
		return -EIO;
	c->handed_out += hash;
	memcpy(c->last_key, e->key, e->key_len);
	c->last_key_len = e->key_len;
	return 0;
}

static int next_page(struct remote_cursor *c)
{
	unsigned restarts = c->pages.restarts;
	int r = page_turn(c);

	c->at = 0;
	if (c->pages.restarts != restarts) {
		c->skipping = true;
		c->skipped = 0;
	}
	return r == 0 ? end_skipping(c) : r;
}

int remote_cursor_next(struct remote_cursor *c, struct remote_walk_entry *ret)
{
	for (;;) {
		const struct s3_list_entry *e;
		bool repeated;
		int r;

		while (c->at == c->page.count) {
			r = next_page(c);
			if (r <= 0)
				return r;
		}
		e = &c->page.entries[c->at++];
		r = check_order(c, e, &repeated);
		if (r < 0)
			return r;
		if (repeated)
			continue;
		*ret = (struct remote_walk_entry){.key = e->key,
			.key_len = e->key_len,
			.is_prefix = e->is_prefix,
			.object = e->object};
		return 1;
	}
}

int remote_cursor_explain(const struct remote_cursor *c, char **ret_message)
{
	const struct remote_pages *p = &c->pages;
	int r = p->code[0] ? text_printf(ret_message, "%s %s: %s (%s)", s3_op_text(S3_LIST),
				     p->prefix, p->code, p->message)
			   : text_printf(ret_message, "the listing of %s makes no sense", p->prefix);

	if (r < 0)
		*ret_message = NULL;
	return p->code[0] && p->class == S3_NOT_FOUND ? -ENOENT : -EIO;
}
