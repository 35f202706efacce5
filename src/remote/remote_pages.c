/*
 * remote_pages - the requests of one listing, several under way at once.
 *
 * The owner's thread sends and looks at replies (turn); replies come on the S3 loop's thread, which
 * only hangs them where the owner finds them. Each page is tried again by itself; a server that
 * does not list in the order of bytes is asked anew, page after page.
 */
#include "remote_pages.h"

#include "remote_private.h"

#define LOG_ROOM "remote"
/* A server that answers, but not what a listing is, will hardly do so later. */
#define NONSENSE_MAX 4

struct pages_ask {
	struct pages_ask *next;
	struct remote_pages *pages;
	struct scan_range *range;
	bool ready;
	uint64_t id; /* 0: not known yet */
	struct s3_reply reply;
};

int remote_pages_begin(struct remote_pages *p)
{
	int r = remote_scan_init(&p->scan, p->prefix, p->recursive, p->after);

	p->scan.lanes_max = p->lanes_max;
	p->scan.never_split = p->remote && atomic_load(&p->remote->never_split);
	return r;
}

void remote_pages_release(struct remote_pages *p)
{
	check(p->synced.under_way == 0);
	for (struct pages_ask *ask = p->synced.asks, *next; ask; ask = next) {
		next = ask->next;
		s3_reply_release(&ask->reply);
		free(ask);
	}
	p->synced.asks = NULL;
	remote_scan_release(&p->scan);
}

/* ---- sending ---- */

static void count_locked(struct remote_pages *p, int change)
{
	p->synced.under_way += (unsigned)change;
	if (p->synced.counter)
		*p->synced.counter += (unsigned)change;
}

static void on_reply(void *user, struct s3_reply *reply)
{
	struct pages_ask *ask = user;
	struct remote_pages *p = ask->pages;

	with_lock(p->lock);
	s3_reply_move(&ask->reply, reply);
	ask->ready = true;
	count_locked(p, -1);
	p->synced.arrived = true;
	p->arrived_locked(p);
}

static void ask_add(struct remote_pages *p, struct pages_ask *ask)
{
	with_lock(p->lock);
	ask->next = p->synced.asks;
	p->synced.asks = ask;
	count_locked(p, 1);
}

static void ask_unlink_locked(struct remote_pages *p, struct pages_ask *ask)
{
	struct pages_ask **at = &p->synced.asks;

	while (*at != ask)
		at = &(*at)->next;
	*at = ask->next;
}

/* True: it is to be cut off. The ask is the owner's as long as the owner does not look at replies;
 * only its request may be over already. */
static bool ask_has_id(struct remote_pages *p, struct pages_ask *ask, uint64_t id)
{
	with_lock(p->lock);
	ask->id = id;
	return p->synced.cancelled && !ask->ready;
}

static int ask_send(struct remote_pages *p, struct scan_range *range)
{
	struct s3_request req = {
		.op = S3_LIST,
		.prefix = p->prefix,
		.delimiter = p->recursive ? NULL : "/",
		.token = range->token,
		.start_after = range->token ? NULL : range->after,
	};
	struct pages_ask *ask = calloc(1, sizeof(*ask));
	uint64_t id;
	int r;

	if (!ask)
		return -ENOMEM;
	ask->pages = p;
	ask->range = range;
	range->asked_at = remote_time_now();
	ask_add(p, ask);
	r = s3_submit(p->s3, &req, on_reply, ask, &id);
	if (r < 0) {
		with_lock(p->lock);
		ask_unlink_locked(p, ask);
		count_locked(p, -1);
		free(ask);
		return r;
	}
	if (ask_has_id(p, ask, id))
		s3_cancel(p->s3, id);
	return 0;
}

static bool is_cancelled(struct remote_pages *p)
{
	with_lock(p->lock);
	return p->synced.cancelled;
}

static int send_all(struct remote_pages *p, int64_t *ret_due_ms)
{
	struct scan_range *range;

	*ret_due_ms = INT64_MAX;
	if (p->hold || is_cancelled(p))
		return 0;
	while ((range = remote_scan_next(&p->scan, clock_mono_ms(), ret_due_ms)) != NULL) {
		int r = ask_send(p, range);

		if (r < 0) {
			remote_scan_again(&p->scan, range);
			return r;
		}
	}
	return 0;
}

/* ---- looking at replies ---- */

static struct pages_ask *take_ready(struct remote_pages *p)
{
	with_lock(p->lock);
	for (struct pages_ask *ask = p->synced.asks; ask; ask = ask->next) {
		if (ask->ready) {
			ask_unlink_locked(p, ask);
			return ask;
		}
	}
	p->synced.arrived = false;
	return NULL;
}

static void note_health(struct remote_pages *p, int error, const struct s3_reply *reply)
{
	if (!p->remote)
		return;
	with_lock(p->lock);
	remote_health_set_locked(p->remote, error, reply->message);
}

static void restart(struct remote_pages *p)
{
	if (!p->to_restart)
		log_info("\"%s\": the server does not list in the order of bytes, or not from "
			 "where it is told to; its pages are fetched one after the other",
			p->prefix);
	p->to_restart = true;
	if (p->remote)
		atomic_store(&p->remote->never_split, true);
}

/* Refused for good. Some servers do not know start-after: without it, then. */
static int refused(struct remote_pages *p, const struct scan_range *range, int error)
{
	if (range->is_ours && !range->seen && error != -EACCES) {
		restart(p);
		return 0;
	}
	return error == -EACCES ? error : -EIO;
}

/* 0: it will be asked for again, later. */
static int failed(struct remote_pages *p, struct scan_range *range, const struct s3_reply *reply,
	enum remote_verdict verdict, int error)
{
	int64_t due_ms = clock_mono_ms();

	p->class = reply->class;
	(void)text_copy(p->code, reply->code, sizeof(p->code)); /* of one size */
	(void)text_copy(p->message, reply->message, sizeof(p->message));
	if (verdict == REMOTE_NO)
		return refused(p, range, error);
	range->attempts++;
	if ((p->attempts_max && range->attempts >= p->attempts_max) ||
		(error == -EIO && range->attempts >= NONSENSE_MAX) ||
		(p->heed_down && s3_is_down(p->s3)))
		return error;
	/* A clock that is corrected again and again must not spin: at once only the first time. */
	if (verdict != REMOTE_AGAIN_AT_ONCE || range->attempts > 1)
		due_ms += s3_backoff_ms(range->attempts, reply->class == S3_THROTTLED);
	if (due_ms >= p->deadline_ms)
		return -ENETDOWN;
	range->due_ms = due_ms;
	if (reply->class == S3_THROTTLED && p->scan.lanes > 1)
		p->scan.lanes /= 2;
	return 0;
}

static int look_at(struct remote_pages *p, struct scan_range *range, struct s3_reply *reply)
{
	int error, r;
	enum remote_verdict verdict = remote_judge(reply, &error);

	if (p->to_restart) {
		remote_scan_again(&p->scan, range);
		return 0;
	}
	if (verdict == REMOTE_OK || (verdict == REMOTE_NO && !p->is_extra))
		note_health(p, error, reply);
	if (verdict != REMOTE_OK) {
		remote_scan_again(&p->scan, range);
		return failed(p, range, reply, verdict, error);
	}
	range->attempts = 0;
	r = remote_scan_page(&p->scan, range, &reply->list, reply->elapsed_ms);
	if (r == -EXDEV)
		restart(p);
	return r == -EXDEV ? 0 : r;
}

/* Neither under way nor here and not looked at: no reply means a range of now any more. */
static bool no_ask_is_left(struct remote_pages *p)
{
	with_lock(p->lock);
	return !p->synced.asks;
}

static int begin_anew(struct remote_pages *p)
{
	int r;

	remote_scan_release(&p->scan);
	r = remote_pages_begin(p);
	p->scan.never_split = true;
	p->scan.lanes = 1;
	p->to_restart = false;
	p->restarts++;
	return r;
}

int remote_pages_turn(struct remote_pages *p, int64_t *ret_due_ms)
{
	struct pages_ask *ask;

	while ((ask = take_ready(p)) != NULL) {
		if (p->error == 0)
			p->error = look_at(p, ask->range, &ask->reply);
		s3_reply_release(&ask->reply);
		free(ask);
	}
	*ret_due_ms = INT64_MAX;
	if (p->error == 0 && p->to_restart && no_ask_is_left(p))
		p->error = begin_anew(p);
	if (p->error == 0 && !p->to_restart)
		p->error = send_all(p, ret_due_ms);
	return p->error;
}

bool remote_pages_done(struct remote_pages *p)
{
	return p->error == 0 && !p->to_restart && remote_scan_is_done(&p->scan);
}

/* ---- the end ---- */

size_t remote_pages_cancel_locked(struct remote_pages *p, uint64_t *ret_ids, size_t max)
{
	size_t count = 0;

	lock_assert_held(p->lock);
	p->synced.cancelled = true;
	for (struct pages_ask *ask = p->synced.asks; ask && count < max; ask = ask->next) {
		if (!ask->ready && ask->id)
			ret_ids[count++] = ask->id;
	}
	return count;
}

void remote_pages_cancel(struct remote_pages *p)
{
	uint64_t ids[SCAN_LANES_DISTANT];
	size_t count;

	{
		with_lock(p->lock);
		count = remote_pages_cancel_locked(p, ids, array_len(ids));
	}
	for (size_t i = 0; i < count; i++)
		s3_cancel(p->s3, ids[i]);
}
