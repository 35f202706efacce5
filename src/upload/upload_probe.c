/*
 * upload_probe - does this server honour conditions on PUT? Where that is not known each key is asked
 * about before it is written, which costs as much as writing it. One write more settles it.
 *
 * When enough keys were asked about, or wait to be, the next object that was written and proved is
 * written again: the same bytes, under a condition that this object itself fails. A server that
 * honours it refuses (the client learns from that), one that does not puts our object in the place of
 * our object. What someone else writes to the key between the two is in the same window as between
 * question and write, for as long: a round trip. The record of the attempt stands until the second
 * answer, and speaks for both: it has both conditions. That the object is there says nothing about the
 * second write then, which may still be carried out for a moment: upload_doubt.c asks twice.
 */
#include "upload_private.h"

#define PROBE_MAX_BYTES (4 * MIB)
/* No object's ETag. */
#define NO_ETAG "00000000000000000000000000000000"

void probe_note_asked(struct upload *u, enum s3_condition condition)
{
	u->sched.probes[condition].asked++;
}

static uint64_t files_waiting(struct upload *u)
{
	struct store_counts counts;

	if (store_counts(u->store, STORE_ROOT_INO, &counts) < 0)
		return 0;
	return counts.files[FILE_CLOSED] + counts.files[FILE_SETTLED] + counts.files[FILE_QUEUED];
}

/* Does knowing spare more than it costs? One that taught nothing is not followed at once by another. */
static bool probe_pays(struct upload *u, const struct probe *p)
{
	return p->asked >= u->probe_after ||
	       (p->asked > 0 && !p->tried && files_waiting(u) >= u->probe_ahead);
}

/* S3_CONDITIONS: nothing that could be learned from this object. */
static enum s3_condition probe_wanted(struct upload *u, const struct task *t)
{
	unsigned i;

	if (t->kind != TASK_PUT || t->version.size_bytes > PROBE_MAX_BYTES)
		return S3_CONDITIONS;
	for (i = 0; i < S3_CONDITIONS; i++) {
		const struct probe *p = &u->sched.probes[i];

		if (!p->busy && !p->ignored && !s3_enforces(u->s3, S3_PUT, (enum s3_condition)i) &&
			probe_pays(u, p))
			break;
	}
	return (enum s3_condition)i;
}

/* Nothing came of the second write: the first one is what there is. */
static void probe_refused(struct upload *u, struct task *t)
{
	struct s3_object made = {.size_bytes = t->version.size_bytes};

	(void)text_copy(made.etag, t->made_etag, sizeof(made.etag));
	put_done(u, t, &made);
}

static void probe_written(struct upload *u, struct task *t, struct probe *p, struct s3_reply *reply)
{
	p->ignored = true;
	log_info("the server does not honour conditions of PUT (%s): every key is asked about before it is written",
		p == &u->sched.probes[S3_IF_MATCH] ? "If-Match" : "If-None-Match");
	put_done(u, t, &reply->object);
}

static void probe_answered(
	struct upload *u, struct task *t, struct request *rq, enum s3_condition condition)
{
	struct probe *p = &u->sched.probes[condition];
	enum applied applied = reply_applied(&rq->reply);

	p->busy = false;
	p->asked = 0; /* if this taught nothing, another one does, later */
	if (applied == APPLIED_NO)
		probe_refused(u, t);
	else if (applied == APPLIED_YES && done_is_proved(t, &rq->reply))
		probe_written(u, t, p, &rq->reply);
	else
		put_doubtful(u, t, &rq->reply);
}

bool attempt_is_probe(const struct store_attempt *a)
{
	return a->kind == ATTEMPT_PUT && a->if_none_match && a->if_match[0] != '\0';
}

static int probe_record(struct upload *u, struct task *t, const struct s3_object *made)
{
	t->attempt.if_none_match = true;
	(void)text_copy(t->attempt.if_match, made->etag, sizeof(t->attempt.if_match));
	return store_attempt_update(u->store, &t->attempt);
}

static void none_match_answered(struct upload *u, struct task *t, struct request *rq)
{
	probe_answered(u, t, rq, S3_IF_NONE_MATCH);
}

static void match_answered(struct upload *u, struct task *t, struct request *rq)
{
	probe_answered(u, t, rq, S3_IF_MATCH);
}

bool probe_begin(struct upload *u, struct task *t, const struct s3_object *made)
{
	enum s3_condition condition = probe_wanted(u, t);
	bool matches = condition == S3_IF_MATCH;

	if (condition == S3_CONDITIONS ||
		!store_version_is(u->store, t->version.ino, t->version.generation))
		return false;
	if (probe_record(u, t, made) < 0)
		return false;
	if (put_request(u, t, matches ? NO_ETAG : NULL,
		    matches ? match_answered : none_match_answered) < 0)
		return false;
	u->sched.probes[condition].busy = u->sched.probes[condition].tried = true;
	(void)text_copy(t->made_etag, made->etag, sizeof(t->made_etag));
	return true;
}
