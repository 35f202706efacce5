/*
 * upload_multipart - versions too large for one request: Create, parts in parallel, Complete.
 *
 * The store's chunks are the parts. What is sent stands recorded (UploadId before the first part,
 * each part with its ETag), so a task can be dropped at any moment and taken up again from its
 * attempt (upload_doubt.c). A version that changes, fails or has to be decided anew is aborted;
 * the record of the attempt stays until the server has confirmed that.
 *
 * Lanes: while small files wait for slots, parts take half of them at most.
 *
 * An upload that already took parts while the file was written (upload_stream.c) is taken over: the
 * record of its attempt becomes this version's, with size, checksum and condition. Which of its
 * parts count is decided anew, from the version's own checksums, which are those of the bytes as
 * they were read after the close (I3).
 */
#include "upload_private.h"

/* ---- the parts of a task ------------------------------------------------------------------------ */

void multipart_release(struct task *t)
{
	if (!t->parts)
		return;
	waits_release(&t->parts->waiting);
	free(t->parts->state);
	free(t->parts->failed);
	free(t->parts);
	t->parts = NULL;
}

int parts_alloc(struct task *t, uint64_t chunks)
{
	struct parts *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->state = calloc(chunks, sizeof(*p->state));
	p->failed = calloc(chunks, sizeof(*p->failed));
	if (!p->state || !p->failed) {
		free(p->state);
		free(p->failed);
		free(p);
		return -ENOMEM;
	}
	t->parts = p;
	return 0;
}

/* A PUT or DOUBT task becomes a multipart one: its parts take slots, not itself. */
static int parts_create(struct upload *u, struct task *t)
{
	int r = parts_alloc(t, t->version.chunk_count);

	if (r < 0)
		return r;
	t->kind = TASK_MULTIPART;
	u->sched.large_open++;
	slot_drop(u, t);
	return 0;
}

/* ---- ending ------------------------------------------------------------------------------------- */

void parts_cancel(struct upload *u, struct task *t)
{
	for (struct request *rq = u->sched.requests; rq; rq = rq->next_active) {
		if (rq->task == t && rq->op == S3_UPLOAD_PART)
			s3_cancel(u->s3, rq->id);
	}
}

void multipart_end(struct upload *u, struct task *t, enum parts_end end)
{
	if (t->parts->end == PARTS_GO_ON)
		t->parts->end = end;
	parts_cancel(u, t);
	multipart_settle(u, t);
}

/* Lost or deleted, though it is still that version. */
static bool version_is_over(struct upload *u, uint64_t ino)
{
	struct store_attr attr;

	return store_attr(u->store, ino, &attr) == 0 &&
	       (attr.state == FILE_LOST || (attr.flags & STORE_FLAG_UNLINKED));
}

void multipart_stale(struct upload *u, struct task *t)
{
	if (!t->parts || t->parts->end != PARTS_GO_ON ||
		(store_version_is(u->store, t->version.ino, t->version.generation) &&
			!version_is_over(u, t->version.ino)))
		return;
	t->parts->end = PARTS_STALE;
	parts_cancel(u, t);
	if (t->parts->ready)
		multipart_settle(u, t);
}

/* The file leaves SENDING while its attempt still stands, to be aborted. */
static void file_leaves(struct upload *u, struct task *t, const struct judged *j)
{
	struct state_change change = {
		.to = j->to, .reason = j->reason, .count_attempt = j->count};
	struct version now;
	int r;

	if (version_load(u, t->version.ino, &now) < 0 || now.generation != t->version.generation ||
		(now.state != FILE_SENDING && now.state != FILE_UNKNOWN))
		return;
	r = state_set_under(u, &now, t->key, &change);
	if (r == -ESTALE) { /* it has another key, which the server did not refuse */
		change.to = FILE_QUEUED;
		r = state_set(u, &now, &change);
	}
	if (r == 0)
		t->version.state = change.to;
}

void multipart_fail(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	struct judged j;

	failure_judge(u, t, reply, &j);
	if (j.to == FILE_FAILED)
		log_warn("%s: %s", t->key, j.reason);
	if (j.after == AFTER_BACKOFF)
		t->retry_ms = s3_backoff_ms(t->version.attempts + 1, false);
	file_leaves(u, t, &j);
	multipart_end(u, t, PARTS_FAILED);
}

/* The abort costs one request, and is no waste where the server was mistaken. */
static void multipart_restart(struct upload *u, struct task *t)
{
	struct judged j = {
		.to = FILE_QUEUED, .count = true, .reason = "its upload vanished: begun anew"};

	log_info("%s: the server no longer knows this upload: it begins anew", t->key);
	t->retry_ms = s3_backoff_ms(t->version.attempts + 1, false);
	file_leaves(u, t, &j);
	multipart_abort(u, t);
}

static void multipart_replan(struct upload *u, struct task *t)
{
	struct judged j = {.to = FILE_QUEUED};

	file_leaves(u, t, &j);
	multipart_abort(u, t);
}

void multipart_settle(struct upload *u, struct task *t)
{
	if (t->outstanding > 0)
		return;
	switch (t->parts->end) {
	case PARTS_GO_ON:
		if (t->parts->sent == t->version.chunk_count)
			multipart_complete(u, t);
		return;
	case PARTS_STALE:
		if (stream_takes_back(u, t))
			return;
		/* the version still stands but its parts do not: not at full speed again */
		if (store_version_is(u->store, t->version.ino, t->version.generation))
			t->retry_ms = s3_backoff_ms(t->version.attempts + 1, false);
		multipart_abort(u, t);
		return;
	case PARTS_FAILED:
		multipart_abort(u, t);
		return;
	case PARTS_REPLAN:
		multipart_replan(u, t);
		return;
	case PARTS_RESTART:
		multipart_restart(u, t);
		return;
	}
}

void parts_settle(struct upload *u, struct task *t)
{
	if (t->stream)
		stream_settle(u, t);
	else
		multipart_settle(u, t);
}

/* ---- begin -------------------------------------------------------------------------------------- */

static bool reply_may_have_created(const struct s3_reply *reply)
{
	return reply->class == S3_UNKNOWN ||
	       (reply->class == S3_DONE && reply->upload_id[0] == '\0');
}

void multipart_id_lost(const struct task *t)
{
	log_warn("%s: an upload may have been left open on the server: its id was lost", t->key);
}

void multipart_not_created(const struct task *t, const struct s3_reply *reply)
{
	if (reply_may_have_created(reply))
		multipart_id_lost(t);
}

static void create_failed(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	multipart_not_created(t, reply);
	put_failed(u, t, reply);
}

/* An upload whose id a power cut took stays open for ever. */
static void create_synced(struct upload *u, struct task *t)
{
	if (t->sync_error < 0) {
		multipart_end(u, t, PARTS_REPLAN);
		return;
	}
	t->parts->ready = true;
	if (t->parts->end != PARTS_GO_ON)
		multipart_settle(u, t);
}

static void create_answered(struct upload *u, struct task *t, struct request *rq)
{
	int r;

	if (rq->reply.class != S3_DONE || rq->reply.upload_id[0] == '\0') {
		create_failed(u, t, &rq->reply);
		return;
	}
	pause_note_accepted(u);
	(void)text_copy(
		t->attempt.upload_id, rq->reply.upload_id, sizeof(t->attempt.upload_id));
	r = store_attempt_update(u->store, &t->attempt);
	if (r < 0) {
		pause_note_store(u, r);
		multipart_end(u, t, PARTS_REPLAN);
		return;
	}
	sync_then(u, t, false, create_synced);
}

void multipart_begin(struct upload *u, struct task *t)
{
	struct s3_request req = {.op = S3_CREATE_MULTIPART,
		.key = t->key,
		.acl = u->acl,
		.content_type = content_type_of(t->version.name),
		.has_mtime = true,
		.mtime_ns = t->version.mtime_ns};
	int r;

	if (t->standing_id != 0) {
		multipart_take_over(u, t);
		return;
	}
	r = put_open(u, t);
	if (r == 0)
		r = parts_create(u, t);
	if (r == 0)
		r = task_attempt_begin(u, t, ATTEMPT_MULTIPART, FILE_QUEUED,
			t->condition[0] ? t->condition : NULL);
	if (r == 0) {
		check(prefix_side_of(u->prefix, t->key) == PREFIX_INSIDE);
		r = request_send(u, t, &req, NULL, 0, create_answered);
	}
	if (r < 0)
		put_unsent(u, t, r);
}

/* ---- resume ------------------------------------------------------------------------------------- */

/* Is this part the chunk as it is now? Then it need not be sent again. */
static bool part_is_good(struct upload *u, struct task *t, const struct s3_part *part)
{
	struct store_chunk c;

	if (store_chunk(u->store, t->version.ino, part->number - 1, &c) < 0 || !c.has_crc64nvme ||
		c.len != part->size_bytes)
		return false;
	if (c.part_attempt == t->attempt.id && strcmp(c.part_etag, part->etag) == 0)
		return true;
	return part->has_crc64nvme && part->crc64nvme == c.crc64nvme &&
	       store_attempt_part(u->store, t->attempt.id, c.number, c.crc64nvme, part->etag) == 0;
}

/* The server may not be asked: what was recorded is believed, Complete will tell. */
static void parts_believe(struct upload *u, struct task *t)
{
	struct store_chunk c;

	for (uint64_t n = 0; n < t->version.chunk_count; n++) {
		if (store_chunk(u->store, t->version.ino, n, &c) < 0 || !c.has_crc64nvme ||
			c.part_attempt != t->attempt.id)
			continue;
		t->parts->state[n] = PART_SENT;
		t->parts->sent++;
	}
}

static void parts_note(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	for (size_t i = 0; i < reply->part_count; i++) {
		const struct s3_part *part = &reply->parts[i];

		if (part->number < 1 || part->number > t->version.chunk_count ||
			t->parts->state[part->number - 1] == PART_SENT ||
			!part_is_good(u, t, part))
			continue;
		t->parts->state[part->number - 1] = PART_SENT;
		t->parts->sent++;
	}
}

static void resume_list(struct upload *u, struct task *t, unsigned marker);

static void upload_vanished(struct upload *u, struct task *t)
{
	if (t->stream)
		stream_end(u, t, STREAM_VANISHED);
	else
		multipart_end(u, t, PARTS_RESTART);
}

static void resume_listed(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;

	if (reply->class == S3_NOT_FOUND) {
		upload_vanished(u, t);
	} else if (reply->class == S3_DONE) {
		parts_note(u, t, reply);
		if (reply->parts_truncated && reply->next_part_marker > 0) {
			resume_list(u, t, reply->next_part_marker);
			return;
		}
		log_debug("%s: %llu of %llu parts are there already", t->key,
			(unsigned long long)t->parts->sent,
			(unsigned long long)t->version.chunk_count);
		t->parts->ready = true;
		parts_settle(u, t);
	} else if (reply->class == S3_DENIED || reply->class == S3_FATAL) {
		parts_believe(u, t);
		t->parts->ready = true;
		parts_settle(u, t);
	} else {
		task_transient(u, t, reply);
	}
}

static void resume_list(struct upload *u, struct task *t, unsigned marker)
{
	struct s3_request req = {.op = S3_LIST_PARTS,
		.key = t->key,
		.upload_id = t->attempt.upload_id,
		.part_number = marker};
	int r = request_send(u, t, &req, NULL, 0, resume_listed);

	if (r < 0)
		put_unsent(u, t, r);
}

void parts_resume(struct upload *u, struct task *t)
{
	resume_list(u, t, 0);
}

static int attempt_take(struct upload *u, struct task *t, struct store_attempt *a)
{
	const struct version *v = &t->version;
	int r;

	a->phase = ATTEMPT_OPEN;
	a->generation = v->generation;
	a->size_bytes = v->size_bytes;
	a->has_crc64nvme = v->has_crc64nvme;
	a->crc64nvme = v->crc64nvme;
	a->if_none_match = t->condition[0] == '\0';
	(void)text_copy(a->if_match, t->condition, sizeof(a->if_match));
	do {
		a->names = t->names;
		r = store_attempt_take(u->store, a, FILE_QUEUED);
	} while (r == -EAGAIN && task_key_stands(u, t));
	r = r == -EAGAIN ? -ESTALE : r;
	if (r < 0 && r != -ESTALE && r != -ENOENT)
		pause_note_store(u, r);
	return r;
}

void multipart_take_over(struct upload *u, struct task *t)
{
	uint64_t id = t->standing_id;
	struct store_attempt a;
	int r;

	if (!attempt_find(u, id, &a)) {
		put_unsent(u, t, -ESTALE); /* it ended meanwhile: the file is still queued */
		return;
	}
	r = put_open(u, t);
	if (r == 0)
		r = parts_create(u, t);
	if (r == 0)
		r = attempt_take(u, t, &a);
	if (r < 0) {
		put_unsent(u, t, r);
		return;
	}
	t->attempt = a;
	t->standing_id = 0;
	t->version.state = FILE_SENDING;
	parts_resume(u, t);
}

void multipart_resume(struct upload *u, struct task *t)
{
	int r = put_open(u, t);

	if (r == -ESTALE || r == -ENOENT || r == -EREMOTE || r == -ENODATA) {
		multipart_abort(u, t);
		return;
	}
	if (r == 0)
		r = parts_create(u, t);
	if (r == 0 && t->attempt.phase != ATTEMPT_OPEN) {
		t->attempt.phase = ATTEMPT_OPEN;
		r = store_attempt_update(u->store, &t->attempt);
	}
	if (r == 0 && t->version.state == FILE_UNKNOWN)
		r = state_set(u, &t->version, &(struct state_change){.to = FILE_SENDING});
	if (r < 0) {
		put_unsent(u, t, r);
		return;
	}
	t->version.state = FILE_SENDING;
	(void)text_copy(t->condition, t->attempt.if_match, sizeof(t->condition));
	parts_resume(u, t);
}

/* ---- the pass ----------------------------------------------------------------------------------- */

bool part_slot_free(struct upload *u)
{
	unsigned most = u->sched.limit.now;

	if (u->sched.small_wait && most > 1)
		most /= 2;
	if (u->sched.parts_used < most)
		return transfers_may_begin(u);
	limit_saturated(&u->sched.limit);
	return false;
}

static bool one_part_each(struct upload *u)
{
	bool any = false;
	struct task *next;

	for (struct task *t = u->sched.tasks; t; t = next) {
		next = t->next;
		if (t->kind == TASK_MULTIPART && t->parts && t->parts->ready &&
			t->parts->end == PARTS_GO_ON && part_slot_free(u))
			any = part_begin(u, t) || any;
		else if (t->stream && t->parts->ready && t->stream->end == STREAM_GOES_ON)
			any = stream_part_begin(u, t) || any;
	}
	return any;
}

void multipart_pass(struct upload *u)
{
	if ((u->sched.large_open == 0 && u->sched.streams_open == 0) || u->sched.pauses != 0)
		return;
	while (one_part_each(u))
		;
	for (struct task *t = u->sched.tasks; t; t = t->next) {
		if (t->parts)
			wake_by(u, waits_next_ms(&t->parts->waiting));
	}
}
