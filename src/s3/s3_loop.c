/*
 * The loop thread: sole user of the CURLM. Each turn takes new orders, starts what has room, lets
 * curl work, and hands finished attempts to their callbacks; no lock is held meanwhile.
 *
 * Two lanes share the connections: requests that send file data, and all others, so that a listing
 * never waits behind sixty-four uploads.
 */
#include "s3_client.h"

#define LOG_ROOM "s3"
#define IDLE_WAIT_MS 10000
#define CREDENTIALS_AGAIN_MS 100

static bool is_sender(const struct s3_transfer *t)
{
	return t->wire.asked.op == S3_PUT || t->wire.asked.op == S3_UPLOAD_PART;
}

static unsigned *lane_of(struct s3_client *c, const struct s3_transfer *t)
{
	return is_sender(t) ? &c->senders : &c->others;
}

/* ---- the end of an attempt -------------------------------------------------------------------------- */

static void easy_put_back(struct s3_client *c, CURL *easy)
{
	if (c->idle_count < S3_IDLE_EASIES_MAX)
		c->idle[c->idle_count++] = easy;
	else
		curl_easy_cleanup(easy);
}

/* A handle of curl 8.7 and later keeps what it sent in its buffer until it is cleaned up: a session
 * token is not left there. (Signatures may be.) */
static bool keeps_a_secret(const struct s3_transfer *t)
{
	return LIBCURL_VERSION_NUM >= 0x080700 && t->ring && t->ring->credentials.session_token[0];
}

/* curl keeps no pointer of ours: the handle left the multi and its options are set anew. One that
 * failed may not take them (after an unresolved name it keeps its buffer, and refuses another size). */
static void detach(struct s3_client *c, struct s3_transfer *t, bool failed)
{
	(void)curl_multi_remove_handle(c->multi, t->easy); /* fails only for a handle not in it */
	(void)curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, NULL);
	(void)curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, NULL);
	if (failed || keeps_a_secret(t))
		curl_easy_cleanup(steal_ptr(t->easy));
	else
		easy_put_back(c, steal_ptr(t->easy));
	TAILQ_REMOVE(&c->active, t, link);
	(*lane_of(c, t))--;
}

static void note_answer_time(struct s3_transfer *t)
{
	curl_off_t total_us = 0, ready_us = 0;
	if (!curl_easy_getinfo(t->easy, CURLINFO_TOTAL_TIME_T, &total_us) &&
		!curl_easy_getinfo(t->easy, CURLINFO_PRETRANSFER_TIME_T, &ready_us) && ready_us > 0)
		t->answer.reply.answered_ms = (total_us - ready_us) / 1000;
}

static void log_end(const struct s3_transfer *t)
{
	const struct s3_reply *r = &t->answer.reply;
	log_debug("%s %s: %s, status %d %s, %lld ms", s3_op_text(t->wire.asked.op),
		buf_text(&t->wire.path), s3_class_text(r->class), r->http_status, r->code,
		(long long)r->elapsed_ms);
}

/* t is in no list any more. */
static void finish(struct s3_client *c, struct s3_transfer *t, CURLcode curl_code)
{
	struct s3_end end = {
		.stop = t->stop,
		.curl_code = curl_code,
		.curl_text = t->curl_text[0] ? t->curl_text : curl_easy_strerror(curl_code),
		.fully_sent = s3_transfer_is_sent(t),
	};
	s3_answer_judge(&t->answer, &t->wire.asked, &end);
	t->answer.reply.elapsed_ms = clock_mono_ms() - t->started_ms;
	s3_facts_learn(c, t);
	log_end(t);
	t->done(t->user, &t->answer.reply);
	s3_transfer_destroy(t);
}

/* True when an attempt ended: a place in its lane is free. */
static bool reap(struct s3_client *c)
{
	CURLMsg *msg;
	int left;
	bool any = false;
	while ((msg = curl_multi_info_read(c->multi, &left))) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		struct s3_transfer *t = NULL;
		CURLcode code = msg->data.result;
		if (curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t) || !t)
			continue;
		note_answer_time(t);
		detach(c, t, code != CURLE_OK);
		finish(c, t, code);
		any = true;
	}
	return any;
}

/* ---- the start ---------------------------------------------------------------------------------------- */

static int easy_take(struct s3_client *c, CURL **ret)
{
	if (c->idle_count) {
		*ret = c->idle[--c->idle_count];
		return 0;
	}
	return s3_transfer_easy_create(ret, c);
}

static int launch(struct s3_client *c, struct s3_transfer *t)
{
	CURL *easy;
	int err = easy_take(c, &easy);
	if (err) {
		t->stop = S3_STOP_NO_MEMORY;
		return err;
	}
	err = s3_transfer_prepare(t, easy);
	if (err == -EAGAIN && t->stop == S3_STOP_NONE) { /* nothing was touched */
		easy_put_back(c, easy);
		return err;
	}
	if (!err && curl_multi_add_handle(c->multi, easy)) {
		t->stop = S3_STOP_NO_MEMORY;
		err = -ENOMEM;
	}
	if (err) {
		curl_easy_cleanup(easy);
		return err;
	}
	t->easy = easy;
	TAILQ_INSERT_TAIL(&c->active, t, link);
	(*lane_of(c, t))++;
	return 0;
}

/* False: credentials are being renewed, t waits on in its place. */
static bool start_one(struct s3_client *c, struct s3_transfer *t, struct s3_transfer *next)
{
	TAILQ_REMOVE(&c->waiting, t, link);
	int err = launch(c, t);
	if (err == -EAGAIN && t->stop == S3_STOP_NONE) {
		if (next)
			TAILQ_INSERT_BEFORE(next, t, link);
		else
			TAILQ_INSERT_TAIL(&c->waiting, t, link);
		c->held_until_ms = clock_mono_ms() + CREDENTIALS_AGAIN_MS;
		return false;
	}
	if (err)
		finish(c, t, CURLE_OK);
	return true;
}

static void start_waiting(struct s3_client *c)
{
	struct s3_transfer *t, *next;
	if (clock_mono_ms() < c->held_until_ms)
		return;
	for (t = TAILQ_FIRST(&c->waiting); t; t = next) {
		next = TAILQ_NEXT(t, link);
		if (*lane_of(c, t) < c->max_connections && !start_one(c, t, next))
			return;
	}
}

static int wait_ms(const struct s3_client *c)
{
	int64_t left_ms = c->held_until_ms - clock_mono_ms();
	return left_ms > 0 && left_ms < IDLE_WAIT_MS ? (int)left_ms : IDLE_WAIT_MS;
}

/* ---- orders ------------------------------------------------------------------------------------------- */

static void cancel_one(struct s3_client *c, uint64_t id)
{
	struct s3_transfer *t;
	TAILQ_FOREACH (t, &c->waiting, link)
		if (t->id == id)
			break;
	if (t) {
		TAILQ_REMOVE(&c->waiting, t, link);
		t->stop = S3_STOP_CANCELLED;
		finish(c, t, CURLE_OK);
		return;
	}
	TAILQ_FOREACH (t, &c->active, link)
		if (t->id == id)
			break;
	bool is_read = t && !t->body_len_bytes && !s3_op_changes_bucket(t->wire.asked.op);
	if (!t || (s3_transfer_is_sent(t) && !is_read))
		return;
	t->stop = S3_STOP_CANCELLED;
	detach(c, t, true);
	finish(c, t, CURLE_OK);
}

/* Moves the inbox over. False: stop. */
static bool take_orders(struct s3_client *c, uint64_t **ret_cancels, size_t *ret_count)
{
	with_lock(&c->lock);
	TAILQ_CONCAT(&c->waiting, &c->inbox, link);
	*ret_cancels = steal_ptr(c->cancels);
	*ret_count = c->cancel_count;
	c->cancel_count = c->cancel_room = 0;
	return !c->stopping;
}

static bool has_orders(struct s3_client *c)
{
	with_lock(&c->lock);
	return !TAILQ_EMPTY(&c->inbox) || c->cancel_count || c->stopping;
}

/* ---- the thread ----------------------------------------------------------------------------------------- */

static void end_all(struct s3_client *c)
{
	struct s3_transfer *t;
	while ((t = TAILQ_FIRST(&c->active))) {
		t->stop = S3_STOP_SHUTDOWN;
		detach(c, t, true);
		finish(c, t, CURLE_OK);
	}
	while ((t = TAILQ_FIRST(&c->waiting))) {
		TAILQ_REMOVE(&c->waiting, t, link);
		t->stop = S3_STOP_SHUTDOWN;
		finish(c, t, CURLE_OK);
	}
	while (c->idle_count)
		curl_easy_cleanup(c->idle[--c->idle_count]);
	s3_ring_unref(steal_ptr(c->ring));
}

static bool turn(struct s3_client *c)
{
	int running;
	uint64_t *cancels;
	size_t cancel_count;
	bool goes_on = take_orders(c, &cancels, &cancel_count);
	for (size_t i = 0; i < cancel_count; i++)
		cancel_one(c, cancels[i]);
	free(cancels);
	if (!goes_on)
		return false;
	start_waiting(c);
	(void)curl_multi_perform(c->multi, &running); /* a transfer's failure comes as its message */
	if (!reap(c) && !has_orders(c))
		(void)curl_multi_poll(c->multi, NULL, 0, wait_ms(c), NULL);
	return true;
}

void s3_loop_run(void *user)
{
	struct s3_client *c = user;
	{
		with_lock(&c->lock);
		c->loop_thread = pthread_self();
		c->loop_runs = true;
	}
	while (turn(c))
		;
	end_all(c);
}
