/*
 * upload_copy_large - a rename of an object too large for one CopyObject, whose bytes are not here:
 * parts copied inside the bucket (UploadPartCopy), each only if the source still has our ETag.
 *
 * Nothing but the attempt is recorded: after a restart the upload is aborted and begun anew, which
 * costs the server's time only. A file whose bytes are here is sent again instead. An upload that is
 * gone when it is aborted after a Complete may have been completed: upload_doubt.c asks.
 */
#include "upload_private.h"

#define AT_ONCE 4
#define UNSENT_MS 1000

/* What follows once the requests under way are back and the upload is aborted. */
enum copy_end {
	COPY_GOES_ON,
	COPY_AGAIN,
	COPY_REFUSED,	/* it is no use */
	COPY_NO_SOURCE, /* so it was said: find out */
	COPY_REPLAN,	/* under the new key is something else than we thought */
};

struct copy_parts {
	struct s3_part *parts; /* etag set: copied */
	uint64_t count, next, copied;
	unsigned busy, errors;
	struct waits waiting; /* part indexes */
	bool ready, completed; /* completed: so it was asked */
	enum copy_end end;
	char why[64]; /* COPY_REFUSED */
};

void copy_large_release(struct task *t)
{
	if (!t->copy)
		return;
	waits_release(&t->copy->waiting);
	free(t->copy->parts);
	free(t->copy);
	t->copy = NULL;
}

static bool is_final(const struct s3_reply *reply)
{
	return reply->class == S3_DENIED || reply->class == S3_FATAL;
}

/* ---- ends --------------------------------------------------------------------------------------- */

static void copy_ended(struct upload *u, struct task *t)
{
	enum copy_end end = t->copy->end;
	char why[sizeof(t->copy->why)];

	memcpy(why, t->copy->why, sizeof(why));
	copy_large_release(t);
	switch (end) {
	case COPY_GOES_ON:
	case COPY_AGAIN:
		move_again(u, t);
		return;
	case COPY_REFUSED:
		move_by_sending(u, t, why, FILE_FAILED);
		return;
	case COPY_NO_SOURCE:
		move_ask_source(u, t);
		return;
	case COPY_REPLAN:
		put_replan(u, t);
		return;
	}
}

static void abort_answered(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;

	if (reply->class == S3_NOT_FOUND && t->copy->completed && t->copy->end != COPY_REFUSED) {
		t->attempt.phase = ATTEMPT_COMPLETING; /* carried out, whatever was said to it? */
		put_doubtful(u, t, reply);
		return;
	}
	if (reply->class != S3_DONE && reply->class != S3_NOT_FOUND && !is_final(reply)) {
		task_transient(u, t, reply); /* asked about, and aborted, by upload_doubt.c */
		return;
	}
	(void)task_attempt_end(u, t, FILE_NONE, NULL, false, NULL);
	copy_ended(u, t);
}

static void copy_abort(struct upload *u, struct task *t)
{
	struct s3_request req = {.op = S3_ABORT_MULTIPART,
		.key = t->key,
		.upload_id = t->attempt.upload_id};
	int r;

	t->attempt.phase = ATTEMPT_ABORTING;
	r = store_attempt_update(u->store, &t->attempt);
	if (r == 0)
		r = request_send(u, t, &req, NULL, 0, abort_answered);
	if (r < 0)
		put_unsent(u, t, r);
}

/* The first reason counts. */
static void copy_ends(struct upload *u, struct task *t, enum copy_end end, const char *why)
{
	if (t->copy->end == COPY_GOES_ON) {
		t->copy->end = end;
		(void)text_copy(t->copy->why, why, sizeof(t->copy->why)); /* may be cut */
	}
	if (t->outstanding == 0)
		copy_abort(u, t);
}

/* ---- Complete ----------------------------------------------------------------------------------- */

static void complete_refused(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	bool vanished = reply->class == S3_NOT_FOUND && strcmp(reply->code, "NoSuchUpload") != 0;

	if (reply->http_status == 412 || vanished)
		copy_ends(u, t, COPY_REPLAN, "");
	else if (is_final(reply) && !parts_were_refused(reply))
		copy_ends(u, t, COPY_REFUSED, reply->code);
	else
		copy_ends(u, t, COPY_AGAIN, "");
}

static void complete_answered(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;

	switch (reply_applied(reply)) {
	case APPLIED_YES:
		move_done(u, t, reply);
		return;
	case APPLIED_PERHAPS:
		put_doubtful(u, t, reply);
		return;
	case APPLIED_NO:
		complete_refused(u, t, reply);
		return;
	}
}

static void complete_now(struct upload *u, struct task *t)
{
	bool conditions = s3_enforces(u->s3, S3_COMPLETE_MULTIPART, task_condition(t));
	struct s3_request req = {.op = S3_COMPLETE_MULTIPART,
		.key = t->key,
		.upload_id = t->attempt.upload_id,
		.parts = t->copy->parts,
		.part_count = t->copy->count,
		.has_full_crc = t->version.has_crc64nvme,
		.full_crc = t->version.crc64nvme,
		.total_bytes = t->object.size_bytes,
		.if_none_match_any = conditions && t->condition[0] == '\0',
		.if_match = conditions && t->condition[0] ? t->condition : NULL};
	int r;

	t->attempt.phase = ATTEMPT_COMPLETING;
	t->copy->completed = true;
	r = store_attempt_update(u->store, &t->attempt);
	if (r == 0)
		r = request_send(u, t, &req, NULL, 0, complete_answered);
	if (r < 0)
		put_unsent(u, t, r);
}

static void before_complete(struct upload *u, struct task *t)
{
	bool holds = t->condition[0] == '\0'
			     ? t->found.says == BUCKET_ABSENT
			     : t->found.says == BUCKET_HOLDS &&
				       strcmp(t->found.object.etag, t->condition) == 0;

	if (holds)
		complete_now(u, t);
	else
		copy_ends(u, t, COPY_REPLAN, "");
}

/* ---- parts -------------------------------------------------------------------------------------- */

/* It is not there, or not as we recorded it. */
static bool speaks_of_source(const struct s3_reply *reply)
{
	return (reply->class == S3_NOT_FOUND && strcmp(reply->code, "NoSuchUpload") != 0) ||
	       (reply->class == S3_CONFLICT && reply->http_status == 412);
}

static void part_answered(struct upload *u, struct task *t, struct request *rq)
{
	struct copy_parts *c = t->copy;
	const struct s3_reply *reply = &rq->reply;

	c->busy--;
	if (reply->class == S3_DONE && reply->object.etag[0] != '\0') {
		c->copied += c->parts[rq->chunk].etag[0] == '\0';
		(void)text_copy(c->parts[rq->chunk].etag, reply->object.etag, S3_ETAG_MAX);
		c->errors = 0;
	} else if (speaks_of_source(reply)) {
		copy_ends(u, t, COPY_NO_SOURCE, "");
		return;
	} else if (is_final(reply)) {
		copy_ends(u, t, COPY_REFUSED, reply->code);
		return;
	} else if (reply->class == S3_NOT_FOUND ||
		   waits_add(&c->waiting, rq->chunk,
			   clock_mono_ms() + s3_backoff_ms(++c->errors, false)) < 0) {
		copy_ends(u, t, COPY_AGAIN, "");
		return;
	}
	if (c->end != COPY_GOES_ON && t->outstanding == 0)
		copy_abort(u, t);
	else if (c->copied == c->count &&
		 s3_enforces(u->s3, S3_COMPLETE_MULTIPART, task_condition(t)))
		complete_now(u, t);
	else if (c->copied == c->count)
		ask_bucket(u, t, t->key, false, before_complete);
}

static bool part_next(struct copy_parts *c, uint64_t *ret)
{
	if (waits_pop_due(&c->waiting, clock_mono_ms(), ret))
		return true;
	while (c->next < c->count && c->parts[c->next].etag[0] != '\0')
		c->next++;
	if (c->next == c->count)
		return false;
	*ret = c->next++;
	return true;
}

/* False: nothing more just now. */
static bool part_send(struct upload *u, struct task *t)
{
	struct copy_parts *c = t->copy;
	uint64_t n;
	struct s3_request req = {.op = S3_UPLOAD_PART_COPY,
		.key = t->key,
		.upload_id = t->attempt.upload_id,
		.copy_source_key = t->object.key,
		.copy_source_if_match = t->object.etag,
		.has_range = true};

	if (c->busy >= AT_ONCE || !part_next(c, &n))
		return false;
	req.part_number = c->parts[n].number;
	req.range_start = n * u->copy_part_bytes;
	req.range_len = c->parts[n].size_bytes;
	if (request_send(u, t, &req, NULL, n, part_answered) < 0) {
		if (waits_add(&c->waiting, n, clock_mono_ms() + UNSENT_MS) < 0)
			c->next = n;
		return false;
	}
	c->busy++;
	return true;
}

void copy_large_pass(struct upload *u)
{
	struct task *next;

	for (struct task *t = u->sched.tasks; t && u->sched.pauses == 0; t = next) {
		next = t->next;
		if (!t->copy || !t->copy->ready || t->copy->end != COPY_GOES_ON)
			continue;
		while (part_send(u, t))
			;
		wake_by(u, waits_next_ms(&t->copy->waiting));
	}
}

/* ---- begin -------------------------------------------------------------------------------------- */

static void create_synced(struct upload *u, struct task *t)
{
	if (t->sync_error < 0) {
		copy_ends(u, t, COPY_AGAIN, "");
		return;
	}
	t->copy->ready = true;
	wake_by(u, clock_mono_ms());
}

static void create_answered(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;
	int r;

	if (reply->class != S3_DONE || reply->upload_id[0] == '\0') {
		multipart_not_created(t, reply);
		(void)task_attempt_end(u, t, FILE_NONE, NULL, false, NULL);
		if (is_final(reply))
			move_by_sending(u, t, reply->code, FILE_FAILED);
		else
			task_transient(u, t, reply);
		return;
	}
	(void)text_copy(t->attempt.upload_id, reply->upload_id, sizeof(t->attempt.upload_id));
	r = store_attempt_update(u->store, &t->attempt);
	if (r < 0) {
		pause_note_store(u, r);
		copy_ends(u, t, COPY_AGAIN, "");
		return;
	}
	sync_then(u, t, false, create_synced);
}

static int copy_create(struct upload *u, struct task *t)
{
	uint64_t size = t->object.size_bytes, count = (size + u->copy_part_bytes - 1) / u->copy_part_bytes;
	struct copy_parts *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	t->copy = c;
	c->count = count;
	c->parts = calloc(count, sizeof(*c->parts));
	if (!c->parts)
		return -ENOMEM;
	for (uint64_t n = 0; n < count; n++) {
		c->parts[n].number = (unsigned)n + 1;
		c->parts[n].size_bytes = n + 1 < count ? u->copy_part_bytes
						       : size - n * u->copy_part_bytes;
	}
	return 0;
}

void copy_large_begin(struct upload *u, struct task *t)
{
	struct s3_request req = {.op = S3_CREATE_MULTIPART,
		.key = t->key,
		.acl = u->acl,
		.content_type = content_type_of(t->version.name),
		.has_mtime = true,
		.mtime_ns = t->version.mtime_ns};
	int r, here = version_is_here(u, &t->version);

	if (here > 0) {
		move_by_sending(u, t, "", FILE_FAILED);
		return;
	}
	if (is_shortage(here)) {
		shortage_note(u, here);
		move_again(u, t);
		return;
	}
	if (here < 0)
		log_warn("%s: its bytes here cannot be read (%s): it is copied inside the bucket", t->key,
			strerror(-here));
	check(prefix_side_of(u->prefix, t->key) == PREFIX_INSIDE);
	r = copy_create(u, t);
	if (r == 0)
		r = task_attempt_begin(u, t, ATTEMPT_MULTIPART, FILE_NONE,
			t->condition[0] ? t->condition : NULL);
	if (r == 0)
		r = request_send(u, t, &req, NULL, 0, create_answered);
	if (r < 0)
		put_unsent(u, t, r);
}
