/*
 * upload_put_end - what the reply to a request of a version means for the version.
 *
 *   applied        the object is recorded; uploaded
 *   perhaps        the attempt stays recorded as doubtful; upload_doubt.c asks the bucket
 *   not applied    the attempt ends: a refused condition is planned anew, what is transient goes
 *                  back to the queue, what is not becomes FAILED with its reason
 */
#include "upload_private.h"

#include <inttypes.h>

#define CLOCK_AGAIN_MS 100
#define CLOCK_TRIES_MAX 3
#define SOON_MS 100
#define DOUBT_FIRST_MS 500

/* ---- applied ------------------------------------------------------------------------------------ */

void put_done(struct upload *u, struct task *t, const struct s3_object *made)
{
	struct store_object object;

	task_object_of(t, made, &object);
	if (task_attempt_end(u, t, FILE_UPLOADED, NULL, false, &object))
		task_uploaded(u, t, &object);
	else
		log_debug("%s: changed or renamed while it was sent", t->key);
	sha_cache_drop(u, t->version.ino);
	u->sched.answered = true;
	u->sched.objects_sent++;
	s3_retry_bucket_give(&u->sched.retry_bucket);
	pause_note_accepted(u);
	task_destroy(u, t);
}

/* ---- perhaps ------------------------------------------------------------------------------------ */

void put_doubtful(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	char reason[REASON_MAX];
	struct store_attr attr;
	int r;

	if (t->attempt.phase == ATTEMPT_OPEN)
		t->attempt.phase = ATTEMPT_DOUBTFUL;
	r = store_attempt_update(u->store, &t->attempt);
	if (r < 0)
		pause_note_store(u, r);
	snprintf(reason, sizeof(reason), "sent, but the answer was lost (%s)", reply->code);
	if (store_attr(u->store, t->version.ino, &attr) == 0 &&
		attr.generation == t->version.generation && attr.state == FILE_SENDING)
		state_set(u, &t->version,
			&(struct state_change){.to = FILE_UNKNOWN, .reason = reason});
	u->sched.retries++;
	doubt_add(u, t->attempt.id, DOUBT_FIRST_MS);
	t->attempt.id = 0;
	task_destroy(u, t);
}

/* ---- not applied -------------------------------------------------------------------------------- */

static bool ended_by_us(const struct s3_reply *reply)
{
	return strcmp(reply->code, "ShuttingDown") == 0 || strcmp(reply->code, "Cancelled") == 0 ||
	       strcmp(reply->code, "PayloadHashNeeded") == 0;
}

/* No answer at all while the endpoint is down: the pause waits, not the file. */
static bool network_is_at_fault(struct upload *u, const struct s3_reply *reply)
{
	return reply->http_status == 0 && reply->class == S3_RETRY && s3_is_down(u->s3);
}

static void judge_again(struct upload *u, const struct s3_reply *reply, struct judged *j)
{
	j->to = FILE_QUEUED;
	if (ended_by_us(reply) || network_is_at_fault(u, reply))
		return;
	j->count = true;
	j->after = AFTER_BACKOFF;
}

static void judge_refused(
	struct upload *u, const struct task *t, const struct s3_reply *reply, struct judged *j)
{
	j->to = FILE_FAILED;
	if (reply->class == S3_DENIED && pause_note_denied(u, t->key, reply))
		j->to = FILE_QUEUED;
	else
		j->count = true;
}

void failure_judge(
	struct upload *u, const struct task *t, const struct s3_reply *reply, struct judged *j)
{
	*j = (struct judged){.to = FILE_QUEUED};
	reason_of_reply(reply, u->acl, j->reason);
	switch (reply->class) {
	case S3_RETRY:
	case S3_THROTTLED:
	case S3_CONFLICT:
	case S3_UNKNOWN:
	case S3_DONE:
		judge_again(u, reply, j);
		return;
	case S3_CLOCK:
		j->count = true;
		j->after = t->version.attempts < CLOCK_TRIES_MAX ? AFTER_MOMENT : AFTER_BACKOFF;
		return;
	case S3_AUTH:
		return;
	case S3_NOT_FOUND:
	case S3_DENIED:
	case S3_FATAL:
		judge_refused(u, t, reply, j);
		return;
	}
}

/* The judged outcome is recorded: with the attempt, if one stands. False: the version moved on. */
static bool record_failure(struct upload *u, struct task *t, const struct judged *j)
{
	struct state_change change = {.to = j->to, .reason = j->reason, .count_attempt = j->count};

	if (t->attempt.id != 0)
		return task_attempt_end(u, t, j->to, j->reason, j->count, NULL);
	return j->to == t->version.state ||
	       state_set_under(u, &t->version, t->key, &change) == 0;
}

void put_failed(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	struct judged j;

	failure_judge(u, t, reply, &j);
	if (j.to == FILE_FAILED)
		log_warn("%s: %s", t->key, j.reason);
	else
		log_debug("%s: %s: will be tried again", t->key, j.reason);
	if (!record_failure(u, t, &j) || j.after == AFTER_NOTHING)
		task_destroy(u, t);
	else if (j.after == AFTER_MOMENT)
		task_retry_in(u, t, CLOCK_AGAIN_MS);
	else
		task_retry_later(u, t, reply);
}

void put_unsent(struct upload *u, struct task *t, int error)
{
	struct s3_reply reply = {.class = S3_RETRY};

	if (is_shortage(error))
		shortage_note(u, error);
	if (t->attempt.id == 0 && (error == -ESTALE || error == -ENOENT || error == -ENODATA)) {
		task_destroy(u, t); /* the version is another one, or lost: its state says so */
		return;
	}
	if (error == -EAGAIN && t->attempt.id == 0) {
		task_retry_in(u, t, SOON_MS);
		return;
	}
	if (error == -EREMOTE || error == -EINVAL)
		reply.class = S3_FATAL; /* as it is now, it can never be sent */
	(void)text_copy(
		reply.code, error == -ESHUTDOWN ? "ShuttingDown" : "NotSent", sizeof(reply.code));
	(void)text_copy(reply.message,
		error == -EREMOTE ? "part of its content is only in the bucket: read it once here"
				  : strerror(-error),
		sizeof(reply.message));
	if (t->kind == TASK_PUT)
		put_failed(u, t, &reply);
	else
		task_transient(u, t, &reply);
}

/* ---- conditions --------------------------------------------------------------------------------- */

void put_replan(struct upload *u, struct task *t)
{
	if (t->replans++ >= REPLANS_MAX) {
		task_retry_in(u, t, s3_backoff_ms(t->replans, false));
		return;
	}
	t->own_same = false;
	ask_bucket(u, t, t->key, true, put_plan);
}

void put_condition_refused(struct upload *u, struct task *t)
{
	body_fd_unref(t->body);
	t->body = NULL;
	if (task_attempt_end(u, t, FILE_QUEUED, NULL, false, NULL))
		put_replan(u, t);
	else
		task_destroy(u, t);
}

/* ---- bytes that did not match ------------------------------------------------------------------- */

bool digest_was_refused(const struct s3_reply *reply)
{
	static const char *const codes[] = {
		"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"};

	for (size_t i = 0; i < array_len(codes); i++) {
		if (strcmp(reply->code, codes[i]) == 0)
			return true;
	}
	return false;
}

static void reread(struct upload *u, struct digest *d)
{
	struct task *t = d->task;
	struct s3_reply again = {.class = S3_RETRY};

	if (d->error == 0 && d->crc64nvme != t->version.crc64nvme &&
		store_version_is(u->store, t->version.ino, t->version.generation)) {
		version_damaged(u, &t->version);
		task_destroy(u, t);
		return;
	}
	task_retry_later(u, t, &again);
}

void put_reread(struct upload *u, struct task *t, const char *reason)
{
	struct digest d = {.kind = DIGEST_SEND, .task = t, .done = reread};
	int r;

	sha_cache_drop(u, t->version.ino);
	if (t->attempt.id != 0 && !task_attempt_end(u, t, FILE_QUEUED, reason, true, NULL)) {
		task_destroy(u, t);
		return;
	}
	d.version = t->version;
	r = digest_begin(u, &d);
	if (r < 0)
		put_unsent(u, t, r);
}

/* Changed while it was sent, changed on the disk, or on the wire: read it again and see. */
static void put_digest_refused(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	char reason[REASON_MAX];

	reason_of_reply(reply, u->acl, reason);
	put_reread(u, t, reason);
}

/* ---- the reply ---------------------------------------------------------------------------------- */

static void put_refused(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	if (reply->class == S3_CONFLICT && reply->http_status == 412)
		put_condition_refused(u, t);
	else if (reply->class == S3_NOT_FOUND && t->condition[0] != '\0')
		put_condition_refused(u, t);
	else if (digest_was_refused(reply))
		put_digest_refused(u, t, reply);
	else
		put_failed(u, t, reply);
}

/* "Done", but with another checksum than ours or without an ETag: not believed, asked. */
bool done_is_proved(const struct task *t, const struct s3_reply *reply)
{
	if (reply->object.etag[0] == '\0')
		return false;
	return !reply->has_crc64nvme || reply->crc64nvme == t->version.crc64nvme;
}

void put_answer(struct upload *u, struct task *t, struct request *rq)
{
	struct s3_reply *reply = &rq->reply;
	enum applied applied = reply_applied(reply);

	if (applied == APPLIED_YES && !done_is_proved(t, reply)) {
		log_warn("%s: the server's answer proves nothing (%s): asking it again", t->key,
			reply->object.etag[0] ? "another checksum" : "no ETag");
		applied = APPLIED_PERHAPS;
	}
	if (applied == APPLIED_YES && probe_begin(u, t, &reply->object))
		return;
	body_fd_unref(t->body);
	t->body = NULL;
	switch (applied) {
	case APPLIED_YES:
		put_done(u, t, &reply->object);
		return;
	case APPLIED_PERHAPS:
		put_doubtful(u, t, reply);
		return;
	case APPLIED_NO:
		put_refused(u, t, reply);
		return;
	}
}
