/*
 * remote_head - one object, asked for now.
 *
 * An error to HEAD carries no body, and a missing key is 403 where listing is limited to a prefix:
 * so any refusal is settled by a listing of exactly that key.
 */
#include "remote_private.h"

/* A page may hold nothing and say that there is more; this many in a row say nothing at all. */
#define EMPTY_PAGES_MAX 8

/* Sends until there is an answer. 0: c->reply has one (verdict OK or NO). */
static int ask(struct remote_call *c, const struct s3_request *req, int64_t deadline_ms,
	enum remote_verdict *ret_verdict, int *ret_error)
{
	unsigned attempts = 0;

	for (;;) {
		int e = remote_call_submit(c, req);

		if (e < 0)
			return e;
		remote_call_wait(c, deadline_ms);
		if (remote_is_stopping(c->remote))
			return -ESHUTDOWN;
		*ret_verdict = remote_judge(&c->reply, ret_error);
		if (*ret_verdict == REMOTE_OK || *ret_verdict == REMOTE_NO)
			return 0;
		e = remote_wait_again(c, &attempts, deadline_ms);
		if (e < 0)
			return e;
	}
}

static bool page_has(const struct s3_list_page *page, const char *key, struct s3_object *ret)
{
	for (size_t i = 0; i < page->count; i++) {
		const struct s3_list_entry *e = &page->entries[i];

		if (!e->is_prefix && e->key_len == strlen(key) &&
			memcmp(e->key, key, e->key_len) == 0) {
			*ret = e->object;
			return true;
		}
	}
	return false;
}

/* 1: nothing on this page, but there are others. */
static int look_in_page(struct remote_call *c, const char *key, const char *token,
	int64_t deadline_ms, struct s3_object *ret)
{
	struct s3_request req = {.op = S3_LIST, .prefix = key, .token = token, .max_keys = 1};
	const struct s3_list_page *page = &c->reply.list;
	enum remote_verdict verdict;
	int error, e = ask(c, &req, deadline_ms, &verdict, &error);

	if (e < 0)
		return e;
	if (verdict == REMOTE_NO)
		return error == -EACCES ? error : -EIO;
	if (page_has(page, key, ret))
		return 0;
	return page->count == 0 && page->truncated ? 1 : -ENOENT;
}

static int settle_by_listing(
	struct remote_call *c, const char *key, int64_t deadline_ms, struct s3_reply *ret)
{
	cleanup_free char *token = NULL;
	struct s3_object object;
	int e = 1;

	for (unsigned n = 0; e == 1 && n < EMPTY_PAGES_MAX; n++) {
		e = look_in_page(c, key, token, deadline_ms, &object);
		free(token);
		token = e == 1 ? text_dup(c->reply.list.next_token) : NULL;
		if (e == 1 && !token)
			e = -ENOMEM;
	}
	if (e == 0)
		*ret = (struct s3_reply){.class = S3_DONE, .object = object};
	return e == 1 ? -EIO : e;
}

int remote_head_fresh(
	struct remote *r, const char *key, int64_t deadline_ms, struct s3_reply *ret)
{
	struct s3_request req = {.op = S3_HEAD, .key = key};
	struct remote_call c;
	enum remote_verdict verdict;
	int error, e;

	lock_assert_none_held();
	if (*key == '\0' || !remote_is_inside(r, key))
		return -EACCES;
	remote_call_init(r, &c);
	e = ask(&c, &req, deadline_ms, &verdict, &error);
	if (e == 0 && verdict == REMOTE_OK)
		s3_reply_move(ret, &c.reply);
	else if (e == 0)
		e = settle_by_listing(&c, key, deadline_ms, ret);
	remote_call_release(&c);
	return e;
}
