/*
 * verify_pages - the objects below a prefix in the order of keys; the next page is fetched while
 *                this one is looked at.
 */
#include "verify_tree.h"

struct pages {
	struct s3 *s3;
	char prefix[KEY_MAX_BYTES + 2];
	char start_after[KEY_MAX_BYTES + 1];
	struct s3_list_page page;
	size_t at;
	bool last; /* no page behind this one */

	struct lock lock;
	struct cond arrived;
	struct {
		struct s3_reply reply;
		bool busy, done;
	} next; /* by lock */
};

static void on_page(void *user, struct s3_reply *reply)
{
	struct pages *p = user;
	with_lock(&p->lock);

	s3_reply_move(&p->next.reply, reply);
	p->next.done = true;
	cond_signal(&p->arrived);
}

static struct s3_request request_of(const struct pages *p)
{
	return (struct s3_request){.op = S3_LIST,
		.prefix = p->prefix,
		.start_after = p->start_after[0] ? p->start_after : NULL};
}

/* start-after, not the token: a retry or another page begins where it is said to. */
static int fetch(struct pages *p)
{
	struct s3_request req = request_of(p);
	int r;

	p->next.done = false;
	p->next.busy = true;
	r = s3_submit(p->s3, &req, on_page, p, NULL);
	if (r < 0)
		p->next.busy = false;
	return r;
}

static void await(struct pages *p)
{
	with_lock(&p->lock);

	while (!p->next.done)
		(void)cond_wait_until(&p->arrived, &p->lock, INT64_MAX);
	p->next.busy = false;
}

int pages_open(struct pages **ret, struct s3 *s3, const char *prefix, const char *after)
{
	struct pages *p = calloc(1, sizeof(*p));
	int r = 0;

	if (!p)
		return -ENOMEM;
	p->s3 = s3;
	snprintf(p->prefix, sizeof(p->prefix), "%s%s", prefix, prefix[0] ? "/" : "");
	(void)text_copy(p->start_after, after, sizeof(p->start_after)); /* keys fit */
	lock_init(&p->lock, RANK_VERIFY, "verify pages");
	cond_init(&p->arrived);
	r = fetch(p);
	if (r < 0) {
		pages_close(p);
		return r;
	}
	*ret = p;
	return 0;
}

static void page_free(struct s3_list_page *page)
{
	struct s3_reply reply = {.list = *page};

	s3_reply_release(&reply);
	*page = (struct s3_list_page){0};
}

void pages_close(struct pages *p)
{
	if (!p)
		return;
	if (p->next.busy) {
		await(p);
		s3_reply_release(&p->next.reply);
	}
	page_free(&p->page);
	cond_release(&p->arrived);
	lock_release_storage(&p->lock);
	free(p);
}

/* The reply that arrived, or another try of the same page. */
static int usable(struct pages *p, struct s3_reply *reply, char **ret_message)
{
	struct s3_request req = request_of(p);
	int r = 0;

	await(p);
	s3_reply_move(reply, &p->next.reply);
	if (verify_helps_to_retry(reply->class)) {
		s3_reply_release(reply);
		r = verify_ask(p->s3, &req, reply, ret_message);
	}
	if (r < 0 || reply->class == S3_DONE)
		return r;
	verify_describe(&req, reply, ret_message);
	r = reply->class == S3_DENIED || reply->class == S3_AUTH ? -EACCES
	    : reply->class == S3_NOT_FOUND			 ? -ENOENT
								 : -EIO;
	s3_reply_release(reply);
	return r;
}

static int turn(struct pages *p, char **ret_message)
{
	struct s3_reply reply = {0};
	int r = usable(p, &reply, ret_message);

	if (r < 0)
		return r;
	page_free(&p->page);
	p->page = reply.list;
	reply.list = (struct s3_list_page){0};
	s3_reply_release(&reply);
	p->at = 0;
	p->last = !p->page.truncated;
	if (p->last)
		return 0;
	if (p->page.count == 0 || p->page.entries[p->page.count - 1].key_len > KEY_MAX_BYTES) {
		if (text_printf(ret_message, "the listing of %s has no end", p->prefix) < 0)
			*ret_message = NULL;
		return -EBADMSG;
	}
	memcpy(p->start_after, p->page.entries[p->page.count - 1].key,
		p->page.entries[p->page.count - 1].key_len);
	p->start_after[p->page.entries[p->page.count - 1].key_len] = '\0';
	return fetch(p);
}

int pages_next(struct pages *p, const struct s3_list_entry **ret, char **ret_message)
{
	while (p->at == p->page.count) {
		int r;

		if (p->last)
			return 0;
		r = turn(p, ret_message);
		if (r < 0)
			return r;
	}
	*ret = &p->page.entries[p->at++];
	return 1;
}
