/*
 * upload_ask - what does the bucket hold under a key now?
 *
 * HEAD with checksums answers when it succeeds. Its errors carry no cause (a missing key is 403
 * where listing is limited to a prefix), so a listing of exactly that key decides then. A 404 is
 * believed where a wrong belief would be refused or cost nothing (sure = false), and only from S3: a
 * proxy whose server is away says the same, but numbers no requests.
 */
#include "upload_private.h"

#define CLOCK_RETRIES_MAX 3
/* A page may hold nothing and say that there is more; this many in a row say nothing at all. */
#define EMPTY_PAGES_MAX 8

static bool says_nothing(const struct s3_reply *reply)
{
	switch (reply->class) {
	case S3_RETRY:
	case S3_THROTTLED:
	case S3_AUTH:
	case S3_CLOCK:
	case S3_UNKNOWN:
		return true;
	case S3_DONE:
	case S3_NOT_FOUND:
	case S3_DENIED:
	case S3_CONFLICT:
	case S3_FATAL:
		break;
	}
	return false;
}

static void ask_again(struct upload *u, struct task *t);
static void ask_list(struct upload *u, struct task *t, const char *token);

/* The same question again at once, after the clock was set right; else later. */
static void ask_failed(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	if (reply->class == S3_CLOCK && t->clock_retries++ < CLOCK_RETRIES_MAX)
		ask_again(u, t);
	else
		task_transient(u, t, reply);
}

/* ---- the listing that decides ------------------------------------------------------------------- */

static void listed(struct task *t, const struct s3_reply *reply)
{
	const struct s3_list_entry *e = reply->list.entries;

	t->found = (struct found){.says = BUCKET_ABSENT};
	if (reply->list.count == 0 || e->is_prefix || e->key_len != strlen(t->ask_key) ||
		memcmp(e->key, t->ask_key, e->key_len) != 0)
		return;
	t->found.says = BUCKET_HOLDS;
	t->found.object = e->object;
}

static void ask_next_page(struct upload *u, struct task *t, const char *token)
{
	struct s3_reply again = {.class = S3_RETRY, .http_status = 200};

	if (++t->ask_pages < EMPTY_PAGES_MAX)
		ask_list(u, t, token);
	else
		task_transient(u, t, &again);
}

/* Whoever may write but not ask sends again what was proved once, on condition that it is still that. */
static bool asked_in_vain(struct upload *u, struct task *t)
{
	if (!t->own_same)
		return false;
	t->own_same = false;
	t->found = (struct found){.says = BUCKET_UNASKED};
	t->then(u, t);
	return true;
}

/* Until somebody allows it, what became of this version stays unknown: a person has to hear why. */
static void tell_refused(struct upload *u, const struct task *t, const struct s3_reply *reply)
{
	char reason[REASON_MAX];
	struct store_inode now;

	snprintf(reason, sizeof(reason),
		"sent, but the answer was lost, and whether it arrived may not be asked (%.64s): reading or "
		"listing has to be allowed",
		reply->code);
	if (t->version.state != FILE_UNKNOWN || store_inode(u->store, t->version.ino, &now) < 0 ||
		strcmp(now.reason, reason) == 0)
		return;
	if (state_set(u, &t->version,
		    &(struct state_change){.to = FILE_UNKNOWN, .reason = reason}) == 0)
		log_warn("%s: %s", t->key, reason);
}

static void ask_listed(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_list_page *page = &rq->reply.list;

	if (rq->reply.class == S3_DONE && page->count == 0 && page->truncated) {
		ask_next_page(u, t, page->next_token);
	} else if (rq->reply.class == S3_DONE) {
		listed(t, &rq->reply);
		t->then(u, t);
	} else if (says_nothing(&rq->reply)) {
		ask_failed(u, t, &rq->reply);
	} else if (t->kind == TASK_PUT && t->attempt.id == 0) {
		u->sched.keys_taken = false; /* the next one is perhaps written without a question */
		if (!asked_in_vain(u, t))
			put_failed(u, t, &rq->reply);
	} else {
		tell_refused(u, t, &rq->reply);
		task_transient(u, t, &rq->reply);
	}
}

static void ask_list(struct upload *u, struct task *t, const char *token)
{
	struct s3_request req = {
		.op = S3_LIST, .prefix = t->ask_key, .token = token, .max_keys = 1};
	int r = request_send(u, t, &req, NULL, 0, ask_listed);

	if (r < 0)
		put_unsent(u, t, r);
}

/* ---- HEAD --------------------------------------------------------------------------------------- */

static void ask_headed(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;

	if (reply->class == S3_DONE && reply->object.etag[0] != '\0') {
		t->found = (struct found){.says = BUCKET_HOLDS, .object = reply->object};
		t->found.has_crc64nvme = reply->has_crc64nvme && reply->crc_is_full_object;
		t->found.crc64nvme = reply->crc64nvme;
		t->then(u, t);
	} else if (says_nothing(reply)) {
		ask_failed(u, t, reply);
	} else if (reply->class == S3_NOT_FOUND && !t->asked_surely && reply->request_id[0]) {
		t->found = (struct found){.says = BUCKET_ABSENT};
		t->then(u, t);
	} else {
		t->ask_pages = 0;
		ask_list(u, t, NULL);
	}
}

static void ask_again(struct upload *u, struct task *t)
{
	struct s3_request req = {.op = S3_HEAD, .key = t->ask_key};
	int r = request_send(u, t, &req, NULL, 0, ask_headed);

	if (r < 0)
		put_unsent(u, t, r);
}

void ask_bucket(
	struct upload *u, struct task *t, const char *key, bool sure, task_step_fn *then)
{
	check(prefix_side_of(u->prefix, key) == PREFIX_INSIDE);
	(void)text_copy(t->ask_key, key, sizeof(t->ask_key));
	t->asked_surely = sure;
	t->then = then;
	t->compared = false;
	ask_again(u, t);
}
