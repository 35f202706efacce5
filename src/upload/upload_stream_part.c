/*
 * upload_stream_part - one part of a file that is still written: read, recorded, sent.
 *
 * A part's checksum is of bytes that did not change while they were read (store_stream_begin and
 * _digested); from its record on a write voids it first. While it is sent it may be written all the
 * same: then the server refuses the part (checksum or signature), or takes it whole and the void
 * record says that it does not count. Either way the chunk is sent again once it is quiet, and
 * never while an earlier request for the same part number is out.
 */
#include "upload_private.h"

#include <inttypes.h>

/* A chunk that changes again and again waits twice as long each time, at most so often. */
#define DOUBLINGS_MAX 10
#define REFUSED_MS 60000

/* ---- the reply ------------------------------------------------------------------------------ */

/* Nothing of this file is sent before its close any more: that decides, with a reason if it fails.
 */
static void part_given_up(struct upload *u, struct task *t, uint64_t chunk)
{
	stream_not_now(u, t->version.ino, REFUSED_MS);
	if (t->stream->end == STREAM_GOES_ON)
		t->stream->end = STREAM_ENDS;
	parts_cancel(u, t);
	part_back(u, t, chunk, PART_TODO);
}

static void part_refused(struct upload *u, struct task *t, const struct request *rq)
{
	char reason[REASON_MAX];

	if (rq->reply.class == S3_NOT_FOUND) {
		if (t->stream->end == STREAM_GOES_ON)
			t->stream->end = STREAM_VANISHED;
		parts_cancel(u, t);
		part_back(u, t, rq->chunk, PART_TODO);
		return;
	}
	reason_of_reply(&rq->reply, u->acl, reason);
	log_info("%s: %s: not sent before it is closed", t->key, reason);
	part_given_up(u, t, rq->chunk);
}

static void part_answered(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;
	bool lies = reply->class == S3_DONE && reply->object.etag[0] == '\0';

	if (reply->class == S3_DONE && !lies) {
		if (!part_record(u, t, rq))
			part_back(u, t, rq->chunk, PART_TODO); /* changed meanwhile */
	} else if (t->stream->end != STREAM_GOES_ON || strcmp(reply->code, "Cancelled") == 0) {
		part_back(u, t, rq->chunk, PART_TODO);
	} else if (!digest_was_refused(reply) &&
		   (reply->class == S3_NOT_FOUND || reply->class == S3_DENIED ||
			   reply->class == S3_FATAL)) {
		part_refused(u, t, rq);
	} else {
		part_again(u, t, rq->chunk, reply);
	}
}

/* ---- reading -------------------------------------------------------------------------------- */

static void part_unread(struct upload *u, struct task *t, struct digest *d, int error)
{
	struct s3_reply again = {.class = S3_RETRY};

	if (error == -ESTALE || error == -ENODATA) { /* changed while it was read */
		part_back(u, t, d->chunk, PART_TODO);
		return;
	}
	if (error == -EIO && d->error == 0) {
		log_error("%s: its bytes in the cache directory are not those that were written "
			  "(disk fault, or changed by someone else)",
			t->key);
		part_given_up(u, t, d->chunk);
		return;
	}
	if (error == -EUCLEAN && d->error < 0) { /* its close is not the end: the whole file's checksums tell */
		part_given_up(u, t, d->chunk);
		return;
	}
	if (is_shortage(error))
		shortage_note(u, error);
	else if (d->error == 0)
		pause_note_store(u, error);
	part_again(u, t, d->chunk, &again);
}

static void part_read(struct upload *u, struct digest *d)
{
	struct task *t = d->task;
	struct store_chunk c = {.number = d->chunk,
		.start = chunk_start(t->version.part_size_bytes, d->chunk),
		.len = chunk_size(t->version.part_size_bytes, d->chunk),
		.crc64nvme = d->crc64nvme};
	int r = d->error;

	u->sched.stream_digests--;
	if (t->stream->end != STREAM_GOES_ON) {
		part_back(u, t, d->chunk, PART_TODO);
		return;
	}
	if (r == 0)
		r = store_stream_digested(t->stream->file, d->chunk, d->mark, d->crc64nvme);
	if (r < 0)
		part_unread(u, t, d, r);
	else
		part_request(u, t, &c, d->sha256, part_answered);
}

/* ---- which ---------------------------------------------------------------------------------- */

static int64_t quiet_for(const struct upload *u, const struct stream *s, uint64_t n)
{
	unsigned doublings = s->again[n] < DOUBLINGS_MAX ? s->again[n] : DOUBLINGS_MAX;

	return u->stream_quiet_ms << doublings;
}

static bool part_next(struct upload *u, struct task *t, uint64_t *ret, uint32_t *ret_mark)
{
	struct stream *s = t->stream;
	struct parts *p = t->parts;
	uint64_t n;

	while (waits_pop_due(&p->waiting, clock_mono_ms(), &n))
		part_is(t, n, PART_TODO);
	for (n = p->next; n < s->whole; n++) {
		p->next = n + 1;
		if (p->state[n] != PART_TODO || !(s->look[n] & STORE_CHUNK_QUIET) ||
			store_stream_begin(s->file, n, quiet_for(u, s, n), ret_mark) < 0)
			continue;
		*ret = n;
		return true;
	}
	return false;
}

bool stream_part_begin(struct upload *u, struct task *t)
{
	struct digest d = {.kind = DIGEST_PART,
		.task = t,
		.version = t->version,
		.body = t->body,
		.done = part_read};
	struct s3_reply unsent = {.class = S3_RETRY};
	unsigned most = u->hash_threads > 1 ? u->hash_threads - 1 : 1;

	if (u->sched.stream_digests >= most || !part_next(u, t, &d.chunk, &d.mark))
		return false;
	if (!part_slot_free(u)) {
		t->parts->next = d.chunk;
		return false;
	}
	d.version.size_bytes = UINT64_MAX; /* the chunk is whole */
	u->sched.parts_used++;
	t->parts->busy++;
	part_is(t, d.chunk, PART_BUSY);
	if (digest_begin(u, &d) < 0) {
		part_again(u, t, d.chunk, &unsent);
		return false;
	}
	u->sched.stream_digests++;
	return true;
}
