/*
 * remote_call - one request that the calling thread waits for, and that ends early at its deadline
 * or when the room stops.
 *
 * The reply's callback writes into the call, so a submitted call is always waited for to its end,
 * also when nobody wants the answer any more.
 */
#include "remote_private.h"

/* A server that answers, but not what a listing is, will hardly do so later. */
#define NONSENSE_MAX 4

static void call_done(void *user, struct s3_reply *reply)
{
	struct remote_call *c = user;

	with_lock(&c->remote->lock);
	s3_reply_move(&c->reply, reply);
	c->done = true;
	cond_signal(&c->cond);
}

void remote_call_init(struct remote *r, struct remote_call *c)
{
	*c = (struct remote_call){.remote = r};
	cond_init(&c->cond);
	with_lock(&r->lock);
	c->next = r->synced.calls;
	r->synced.calls = c;
}

int remote_call_submit(struct remote_call *c, const struct s3_request *req)
{
	int e;

	check(!c->submitted);
	if (remote_is_stopping(c->remote))
		return -ESHUTDOWN;
	s3_reply_release(&c->reply);
	c->reply = (struct s3_reply){0};
	c->done = false;
	c->submitted = true;
	e = s3_submit(c->remote->s3, req, call_done, c, &c->id);
	if (e < 0)
		c->submitted = false;
	return e;
}

static bool wait_done(struct remote_call *c, int64_t deadline_ms, bool heed_stop)
{
	struct remote *r = c->remote;

	with_lock(&r->lock);
	while (!c->done && !(heed_stop && r->synced.stopping)) {
		if (cond_wait_until(&c->cond, &r->lock, deadline_ms) == -ETIMEDOUT)
			break;
	}
	return c->done;
}

void remote_call_wait(struct remote_call *c, int64_t deadline_ms)
{
	check(c->submitted);
	lock_assert_none_held();
	if (!wait_done(c, deadline_ms, true)) {
		s3_cancel(c->remote->s3, c->id);
		check(wait_done(c, INT64_MAX, false));
	}
	c->submitted = false;
}

void remote_call_release(struct remote_call *c)
{
	struct remote *r = c->remote;

	if (c->submitted)
		remote_call_wait(c, INT64_MIN);
	{
		struct remote_call **at = &r->synced.calls;

		with_lock(&r->lock);
		while (*at != c)
			at = &(*at)->next;
		*at = c->next;
	}
	s3_reply_release(&c->reply);
	cond_release(&c->cond);
}

void remote_calls_wake_locked(struct remote *r)
{
	lock_assert_held(&r->lock);
	for (struct remote_call *c = r->synced.calls; c; c = c->next)
		cond_signal(&c->cond);
}

int remote_wait_again(struct remote_call *c, unsigned *attempts, int64_t deadline_ms)
{
	int error;
	enum remote_verdict verdict = remote_judge(&c->reply, &error);
	int64_t due_ms = clock_mono_ms();

	if (error == -EIO && *attempts + 1 >= NONSENSE_MAX)
		return error;
	/* A clock that is corrected again and again must not spin: at once only the first time. */
	if (verdict != REMOTE_AGAIN_AT_ONCE || *attempts > 0)
		due_ms += s3_backoff_ms(*attempts + 1, c->reply.class == S3_THROTTLED);
	if (due_ms >= deadline_ms)
		return -ENETDOWN;
	++*attempts;
	return remote_sleep_until(c->remote, due_ms) ? 0 : -ESHUTDOWN;
}
