/*
 * upload_complete - the end of an upload in parts: Complete, or Abort.
 *
 * Complete carries the condition where the server honours it there; elsewhere the key is asked for
 * right before. Whatever its answer was, the object itself decides what happened: a lost answer
 * makes the next Complete fail with NoSuchUpload although everything is well. Where neither a checksum
 * nor its ETag can tell whose it is, its content does, while the attempt still stands.
 */
#include "upload_private.h"

#define COUNTED_FAILURES_MAX 3

/* ---- what will be completed --------------------------------------------------------------------- */

/* The parts as recorded; -ESTALE if one is not (any more). The caller frees. */
static int parts_collect(struct upload *u, const struct task *t, struct s3_part **ret)
{
	struct s3_part *parts = calloc(t->version.chunk_count, sizeof(*parts));

	if (!parts)
		return -ENOMEM;
	for (uint64_t n = 0; n < t->version.chunk_count; n++) {
		struct store_chunk c;
		int r = store_chunk(u->store, t->version.ino, n, &c);

		if (r == 0 && (c.part_attempt != t->attempt.id || !c.has_crc64nvme))
			r = -ESTALE;
		if (r < 0) {
			free(parts);
			return r;
		}
		parts[n] = (struct s3_part){.number = (unsigned)n + 1,
			.size_bytes = c.len,
			.has_crc64nvme = true,
			.crc64nvme = c.crc64nvme};
		(void)text_copy(parts[n].etag, c.part_etag, sizeof(parts[n].etag));
	}
	*ret = parts;
	return 0;
}

/* The MD5 part of the ETag to come, if the parts' ETags are MD5s: proves the object where there
 * are no checksums. */
static void expected_etag(struct task *t, const struct s3_part *parts)
{
	uint8_t(*md5s)[16] = calloc(t->version.chunk_count, sizeof(*md5s));
	char etag[S3_ETAG_MAX];
	bool all = md5s != NULL;

	for (uint64_t n = 0; all && n < t->version.chunk_count; n++)
		all = s3_etag_is_md5(parts[n].etag) && hex_decode(parts[n].etag, 32, md5s[n]) == 0;
	if (all && etag_of_parts((const uint8_t(*)[16])md5s, t->version.chunk_count, etag)) {
		t->attempt.has_md5 = true;
		memcpy(t->attempt.md5, etag, 32);
		t->attempt.md5[32] = '\0';
	}
	free(md5s);
}

/* ---- Complete ----------------------------------------------------------------------------------- */

static void made_closed(struct upload *u, struct task *t, struct request *rq)
{
	switch (rq->reply.class) {
	case S3_DONE:
	case S3_NOT_FOUND:
	case S3_DENIED:
	case S3_FATAL:
		put_done(u, t, &t->found.object);
		return;
	case S3_RETRY:
	case S3_THROTTLED:
	case S3_AUTH:
	case S3_CLOCK:
	case S3_CONFLICT:
	case S3_UNKNOWN:
		task_transient(u, t, &rq->reply);
		return;
	}
}

void multipart_made(struct upload *u, struct task *t)
{
	struct s3_request req = {.op = S3_ABORT_MULTIPART,
		.key = t->key,
		.upload_id = t->attempt.upload_id};
	int r = request_send(u, t, &req, NULL, 0, made_closed);

	if (r < 0)
		put_unsent(u, t, r);
}

static bool made_it(const struct task *t)
{
	return attempt_made(&t->attempt, &t->found) ||
	       (t->fetched && t->compared && t->content == CONTENT_SAME);
}

static void complete_asked(struct upload *u, struct task *t)
{
	if (made_it(t))
		multipart_made(u, t);
	else if (fetching_may_tell(t))
		same_by_fetching(u, t, complete_asked);
	else if (!store_version_is(u->store, t->version.ino, t->version.generation))
		multipart_end(u, t, PARTS_STALE);
	else
		multipart_end(u, t, PARTS_REPLAN);
}

static void vanished_asked(struct upload *u, struct task *t)
{
	if (made_it(t))
		put_done(u, t, &t->found.object);
	else if (fetching_may_tell(t))
		same_by_fetching(u, t, vanished_asked);
	else
		multipart_end(u, t, PARTS_RESTART);
}

static void complete_again(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	t->retry_ms = s3_backoff_ms(t->version.attempts + 1, false);
	if (t->version.attempts >= COUNTED_FAILURES_MAX && reply->class == S3_FATAL) {
		multipart_fail(u, t, reply);
		return;
	}
	log_info("%s: %s: its parts are sent again", t->key, reply->code);
	state_set(u, &t->version,
		&(struct state_change){
			.to = FILE_QUEUED, .reason = reply->code, .count_attempt = true});
	multipart_end(u, t, PARTS_FAILED);
}

bool parts_were_refused(const struct s3_reply *reply)
{
	return strcmp(reply->code, "InvalidPart") == 0 ||
	       strcmp(reply->code, "InvalidPartOrder") == 0 || digest_was_refused(reply);
}

static void complete_refused(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	if (reply->class == S3_NOT_FOUND && strcmp(reply->code, "NoSuchKey") != 0)
		ask_bucket(u, t, t->key, true, vanished_asked);
	else if (reply->class == S3_NOT_FOUND || reply->http_status == 412)
		ask_bucket(u, t, t->key, true, complete_asked);
	else if (reply->class == S3_CONFLICT || parts_were_refused(reply))
		complete_again(u, t, reply);
	else if (reply->class == S3_DENIED || reply->class == S3_FATAL)
		multipart_fail(u, t, reply);
	else
		task_transient(u, t, reply);
}

static void complete_answered(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;
	enum applied applied = reply_applied(reply);

	if (applied == APPLIED_YES &&
		(reply->object.etag[0] == '\0' ||
			(reply->has_crc64nvme && reply->crc_is_full_object &&
				reply->crc64nvme != t->version.crc64nvme)))
		applied = APPLIED_PERHAPS;
	if (applied == APPLIED_YES)
		put_done(u, t, &reply->object);
	else if (applied == APPLIED_PERHAPS)
		put_doubtful(u, t, reply);
	else
		complete_refused(u, t, reply);
}

static int complete_request(struct upload *u, struct task *t, const struct s3_part *parts)
{
	bool conditions = s3_enforces(u->s3, S3_COMPLETE_MULTIPART, task_condition(t));
	struct s3_request req = {.op = S3_COMPLETE_MULTIPART,
		.key = t->key,
		.upload_id = t->attempt.upload_id,
		.parts = parts,
		.part_count = t->version.chunk_count,
		.has_full_crc = t->version.has_crc64nvme,
		.full_crc = t->version.crc64nvme,
		.total_bytes = t->version.size_bytes,
		.if_none_match_any = conditions && t->condition[0] == '\0',
		.if_match = conditions && t->condition[0] ? t->condition : NULL};

	check(prefix_side_of(u->prefix, t->key) == PREFIX_INSIDE);
	return request_send(u, t, &req, NULL, 0, complete_answered);
}

/* -ESTALE: they are no longer what is to be completed, and it ends. Else the caller frees. */
static int parts_to_complete(struct upload *u, struct task *t, struct s3_part **ret)
{
	int r = parts_collect(u, t, ret);

	if (r != -ESTALE && r != -ENOENT &&
		store_version_is(u->store, t->version.ino, t->version.generation))
		return r;
	free(*ret);
	t->retry_ms = s3_backoff_ms(t->version.attempts + 1, false);
	multipart_end(u, t, PARTS_REPLAN);
	return -ESTALE;
}

static void complete_send(struct upload *u, struct task *t)
{
	struct s3_part *parts = NULL;
	int r = parts_to_complete(u, t, &parts);

	if (r == -ESTALE)
		return;
	if (r == 0)
		r = complete_request(u, t, parts);
	free(parts);
	if (r < 0)
		put_unsent(u, t, r);
}

static void before_complete(struct upload *u, struct task *t)
{
	if (attempt_made(&t->attempt, &t->found) || !condition_holds(t))
		complete_asked(u, t);
	else
		complete_send(u, t);
}

static void complete_reread(struct upload *u, struct digest *d)
{
	struct task *t = d->task;

	if (d->error == 0 && d->crc64nvme != t->version.crc64nvme &&
		store_version_is(u->store, t->version.ino, t->version.generation)) {
		version_damaged(u, &t->version);
		multipart_end(u, t, PARTS_FAILED);
		return;
	}
	state_set(u, &t->version,
		&(struct state_change){.to = FILE_SENDING, .count_attempt = true,
			.reason = "the cache disk failed while it was synced"});
	put_unsent(u, t, d->error < 0 ? d->error : -EIO);
}

/* What a sync that failed left in doubt would never be completed: are these still its bytes? */
static void complete_in_doubt(struct upload *u, struct task *t)
{
	struct digest d = {.kind = DIGEST_SEND,
		.task = t,
		.version = t->version,
		.done = complete_reread};
	int r = digest_begin(u, &d);

	if (r < 0)
		put_unsent(u, t, r);
}

static void complete_synced(struct upload *u, struct task *t)
{
	if (t->sync_error == -EIO)
		complete_in_doubt(u, t);
	else if (t->sync_error < 0)
		put_unsent(u, t, t->sync_error);
	else if (s3_enforces(u->s3, S3_COMPLETE_MULTIPART, task_condition(t)))
		complete_send(u, t);
	else
		ask_bucket(u, t, t->key, false, before_complete);
}

void multipart_complete(struct upload *u, struct task *t)
{
	struct s3_part *parts = NULL;
	int r;

	t->parts->ready = false;
	r = parts_to_complete(u, t, &parts);
	if (r == -ESTALE)
		return;
	if (r == 0) {
		expected_etag(t, parts);
		t->attempt.phase = ATTEMPT_COMPLETING;
		r = store_attempt_update(u->store, &t->attempt);
	}
	free(parts);
	if (r < 0)
		put_unsent(u, t, r);
	else
		sync_then(u, t,
			t->condition[0] || store_was_other(u->store, t->version.ino, t->key),
			complete_synced);
}

/* ---- Abort -------------------------------------------------------------------------------------- */

static void abort_done(struct upload *u, struct task *t)
{
	int64_t retry_ms = t->retry_ms;
	/* a copy, or no version's yet: the file is in another state for reasons of its own */
	bool beside = t->attempt.source_key[0] || !t->attempt.has_crc64nvme;

	(void)task_attempt_end(u, t, beside ? FILE_NONE : FILE_QUEUED, NULL, false, NULL);
	if (retry_ms > 0)
		task_retry_in(u, t, retry_ms);
	else
		task_destroy(u, t);
}

/* The upload is unknown: aborted before, or its Complete had been carried out after all. */
static void abort_asked(struct upload *u, struct task *t)
{
	if (made_it(t))
		put_done(u, t, &t->found.object);
	else if (fetching_may_tell(t))
		same_by_fetching(u, t, abort_asked);
	else
		abort_done(u, t);
}

static void abort_answered(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;

	switch (reply->class) {
	case S3_DONE:
		abort_done(u, t);
		return;
	case S3_NOT_FOUND:
		ask_bucket(u, t, t->key, true, abort_asked);
		return;
	case S3_DENIED:
	case S3_FATAL:
		log_warn("%s: an upload stays open on the server: it may not be aborted (%s)",
			t->key, reply->code);
		abort_done(u, t);
		return;
	case S3_RETRY:
	case S3_THROTTLED:
	case S3_AUTH:
	case S3_CLOCK:
	case S3_CONFLICT:
	case S3_UNKNOWN:
		task_transient(u, t, reply);
		return;
	}
}

/* Its record stands: it is aborted later. */
static void abort_unsent(struct upload *u, struct task *t, int error)
{
	struct s3_reply again = {.class = S3_RETRY};

	if (is_shortage(error))
		shortage_note(u, error);
	task_transient(u, t, &again);
}

void multipart_abort(struct upload *u, struct task *t)
{
	struct s3_request req = {.op = S3_ABORT_MULTIPART,
		.key = t->key,
		.upload_id = t->attempt.upload_id};
	int r = 0;

	if (t->parts)
		t->parts->ready = false;
	if (t->attempt.upload_id[0] == '\0') {
		abort_done(u, t);
		return;
	}
	if (t->attempt.phase != ATTEMPT_ABORTING) {
		t->attempt.phase = ATTEMPT_ABORTING;
		r = store_attempt_update(u->store, &t->attempt);
	}
	if (r == 0)
		r = request_send(u, t, &req, NULL, 0, abort_answered);
	if (r < 0)
		abort_unsent(u, t, r);
}
