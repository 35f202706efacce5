/*
 * upload_part - one part: read for SHA-256 where that is wanted, sent, recorded. A part that fails
 * for a reason of the moment is sent again alone.
 */
#include "upload_private.h"

void part_is(struct task *t, uint64_t chunk, enum part_state state)
{
	t->parts->state[chunk] = (uint8_t)state;
	if (state == PART_TODO && chunk < t->parts->next)
		t->parts->next = chunk;
}

void part_back(struct upload *u, struct task *t, uint64_t chunk, enum part_state state)
{
	u->sched.parts_used--;
	t->parts->busy--;
	part_is(t, chunk, state);
	look_again(u, FILE_QUEUED);
	parts_settle(u, t);
}

void part_again(
	struct upload *u, struct task *t, uint64_t chunk, const struct s3_reply *reply)
{
	uint8_t *failed = &t->parts->failed[chunk];
	int64_t ms;

	u->sched.retries++;
	/* the pause waits; or what was refused is put right, and the client waits for it */
	if (reply->class == S3_AUTH || reply->class == S3_CLOCK ||
		(reply->http_status == 0 && s3_is_down(u->s3))) {
		part_back(u, t, chunk, PART_TODO);
		return;
	}
	/* several at once are no failures in a row */
	t->parts->errors++;
	*failed = (uint8_t)(*failed < UINT8_MAX ? *failed + 1 : UINT8_MAX);
	ms = s3_backoff_ms(*failed, reply->class == S3_THROTTLED);
	if (!s3_retry_bucket_take(&u->sched.retry_bucket, reply->class))
		ms = s3_backoff_ms(32, false);
	if (waits_add(&t->parts->waiting, chunk, clock_mono_ms() + ms) < 0)
		part_back(u, t, chunk, PART_TODO);
	else
		part_back(u, t, chunk, PART_WAITS);
}

/* ---- the reply ---------------------------------------------------------------------------------- */

bool part_record(struct upload *u, struct task *t, struct request *rq)
{
	/* what was sent: not every server echoes it, and one that does was compared by s3 */
	int r = store_attempt_part(u->store, t->attempt.id, rq->chunk, rq->body_crc64nvme,
		rq->reply.object.etag);

	if (r == -ESTALE || r == -ENOENT)
		return false;
	if (r < 0) {
		pause_note_store(u, r);
		part_back(u, t, rq->chunk, PART_TODO);
		return true;
	}
	t->parts->errors = t->parts->failed[rq->chunk] = 0;
	t->parts->sent++;
	s3_retry_bucket_give(&u->sched.retry_bucket);
	part_back(u, t, rq->chunk, PART_SENT);
	return true;
}

static void part_sent(struct upload *u, struct task *t, struct request *rq)
{
	if (part_record(u, t, rq))
		return;
	if (t->parts->end == PARTS_GO_ON)
		t->parts->end = PARTS_STALE;
	part_back(u, t, rq->chunk, PART_TODO);
}

static void part_refused(struct upload *u, struct task *t, struct request *rq)
{
	uint64_t chunk = rq->chunk;

	u->sched.parts_used--;
	t->parts->busy--;
	part_is(t, chunk, PART_TODO);
	if (rq->reply.class == S3_NOT_FOUND)
		multipart_end(u, t, PARTS_RESTART);
	else
		multipart_fail(u, t, &rq->reply);
}

static void part_reread(struct upload *u, struct digest *d)
{
	struct task *t = d->task;
	struct s3_reply again = {.class = S3_RETRY, .http_status = 400};
	struct store_chunk c;

	if (d->error == 0 && store_chunk(u->store, t->version.ino, d->chunk, &c) == 0 &&
		c.has_crc64nvme && c.crc64nvme != d->crc64nvme &&
		store_version_is(u->store, t->version.ino, t->version.generation)) {
		version_damaged(u, &t->version);
		if (t->parts->end == PARTS_GO_ON)
			t->parts->end = PARTS_FAILED;
		part_back(u, t, d->chunk, PART_TODO);
		return;
	}
	part_again(u, t, d->chunk, &again);
}

static void part_digest_refused(struct upload *u, struct task *t, struct request *rq)
{
	struct digest d = {.kind = DIGEST_PART,
		.task = t,
		.version = t->version,
		.chunk = rq->chunk,
		.done = part_reread};

	if (digest_begin(u, &d) < 0)
		part_again(u, t, rq->chunk, &rq->reply);
}

/* If its data file is too short, the store says so now, and that ends this upload (multipart_stale). */
static void part_cut_off(struct upload *u, struct task *t, struct request *rq)
{
	int here = version_is_here(u, &t->version);

	if (is_shortage(here))
		shortage_note(u, here);
	part_again(u, t, rq->chunk, &rq->reply);
}

static void part_answered(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;
	bool lies = reply->class == S3_DONE && reply->object.etag[0] == '\0';

	if (t->parts->end != PARTS_GO_ON)
		part_back(u, t, rq->chunk, PART_TODO);
	else if (digest_was_refused(reply))
		part_digest_refused(u, t, rq);
	else if (strcmp(reply->code, "BodyTooShort") == 0)
		part_cut_off(u, t, rq);
	else if (reply->class == S3_DONE && !lies)
		part_sent(u, t, rq);
	else if (reply->class == S3_NOT_FOUND || reply->class == S3_DENIED ||
		 reply->class == S3_FATAL)
		part_refused(u, t, rq);
	else
		part_again(u, t, rq->chunk, reply);
}

/* ---- sending ------------------------------------------------------------------------------------ */

void part_request(struct upload *u, struct task *t, const struct store_chunk *c,
	const uint8_t *sha256, answer_fn *answer)
{
	struct s3_request req = {.op = S3_UPLOAD_PART,
		.key = t->key,
		.upload_id = t->attempt.upload_id,
		.part_number = (unsigned)c->number + 1,
		.body = {.fd = t->body->fd,
			.offset_bytes = c->start,
			.len_bytes = c->len,
			.has_sha256 = sha256 != NULL,
			.has_crc64nvme = true,
			.crc64nvme = c->crc64nvme}};
	struct s3_reply unsent = {.class = S3_RETRY};

	if (sha256)
		memcpy(req.body.sha256, sha256, sizeof(req.body.sha256));
	check(prefix_side_of(u->prefix, t->key) == PREFIX_INSIDE);
	if (request_send(u, t, &req, t->body, c->number, answer) < 0)
		part_again(u, t, c->number, &unsent);
}

/* The chunk as it stands; false: the version has changed. */
static bool part_chunk(
	struct upload *u, struct task *t, uint64_t n, struct store_chunk *ret)
{
	return store_version_is(u->store, t->version.ino, t->version.generation) &&
	       store_chunk(u->store, t->version.ino, n, ret) == 0 && ret->has_crc64nvme;
}

static void part_stale(struct upload *u, struct task *t, uint64_t chunk)
{
	if (t->parts->end == PARTS_GO_ON)
		t->parts->end = PARTS_STALE;
	part_back(u, t, chunk, PART_TODO);
}

static void part_hashed(struct upload *u, struct digest *d)
{
	struct task *t = d->task;
	struct store_chunk c;

	if (t->parts->end != PARTS_GO_ON)
		part_back(u, t, d->chunk, PART_TODO);
	else if (!part_chunk(u, t, d->chunk, &c))
		part_stale(u, t, d->chunk);
	else if (d->error < 0 || d->crc64nvme != c.crc64nvme)
		part_reread(u, d);
	else
		part_request(u, t, &c, d->sha256, part_answered);
}

static void part_hash(struct upload *u, struct task *t, uint64_t chunk)
{
	struct digest d = {.kind = DIGEST_PART,
		.task = t,
		.version = t->version,
		.chunk = chunk,
		.done = part_hashed};
	struct s3_reply unsent = {.class = S3_RETRY};

	if (digest_begin(u, &d) < 0)
		part_again(u, t, chunk, &unsent);
}

static bool part_next(struct task *t, uint64_t *ret)
{
	struct parts *p = t->parts;

	if (waits_pop_due(&p->waiting, clock_mono_ms(), ret))
		return true;
	while (p->next < t->version.chunk_count && p->state[p->next] != PART_TODO)
		p->next++;
	*ret = p->next;
	return p->next < t->version.chunk_count;
}

bool part_begin(struct upload *u, struct task *t)
{
	struct store_chunk c;
	uint64_t chunk;

	if (!part_next(t, &chunk))
		return false;
	u->sched.parts_used++;
	t->parts->busy++;
	part_is(t, chunk, PART_BUSY);
	if (!part_chunk(u, t, chunk, &c))
		part_stale(u, t, chunk);
	else if (s3_wants_sha256(u->s3))
		part_hash(u, t, chunk);
	else
		part_request(u, t, &c, NULL, part_answered);
	return true;
}
