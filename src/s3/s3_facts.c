/*
 * What the endpoint teaches: whether it confirms checksums, honours conditions, answers at all,
 * what time it has, and which credentials it refuses.
 */
#include "s3_client.h"

#define CLOCK_CORRECTION_MIN_NS (60 * NS_PER_S)

bool s3_facts_wants_sha256(struct s3_client *c)
{
	with_lock(&c->lock);
	return c->sign_payload_always || !c->endpoint.is_private || !c->echo_seen;
}

/* ---- credentials ----------------------------------------------------------------------------------- */

void s3_ring_unref(struct s3_ring *r)
{
	if (!r || --r->refs)
		return;
	secret_free(r);
}

static bool same_credentials(const struct s3_credentials *a, const struct s3_credentials *b)
{
	return a->anonymous == b->anonymous && strcmp(a->access_key, b->access_key) == 0 &&
	       strcmp(a->secret_key, b->secret_key) == 0 &&
	       strcmp(a->session_token, b->session_token) == 0;
}

static int ring_renew(struct s3_client *c, const struct s3_credentials *fresh)
{
	struct s3_ring *r = secret_alloc(sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->refs = 1;
	r->credentials = *fresh;
	s3_ring_unref(c->ring);
	c->ring = r;
	return 0;
}

int s3_ring_get(struct s3_ring **ret, struct s3_client *c)
{
	struct s3_credentials fresh = {.anonymous = false};
	int err = c->credentials.get(c->credentials.user, &fresh);
	if (!err && (!c->ring || !same_credentials(&c->ring->credentials, &fresh)))
		err = ring_renew(c, &fresh);
	explicit_bzero(&fresh, sizeof(fresh));
	registers_wipe();
	if (err)
		return err;
	c->ring->refs++;
	*ret = c->ring;
	return 0;
}

/* ---- after each attempt ------------------------------------------------------------------------------ */

/* The server's clock rules. If it refuses although ours agrees with its Date, more tries at once
 * would go round in circles. */
static void learn_clock(struct s3_client *c, struct s3_reply *r)
{
	bool has_date = r->date_ns > 0; /* before 1970 no server was */
	int64_t offset = has_date ? r->date_ns - clock_wall_ns() : 0;
	int64_t change = offset - c->clock_offset_ns;
	if (!has_date || (change < CLOCK_CORRECTION_MIN_NS && change > -CLOCK_CORRECTION_MIN_NS)) {
		r->class = S3_RETRY;
		return;
	}
	c->clock_offset_ns = offset;
}

static bool is_answered(const struct s3_transfer *t)
{
	return t->answer.head_done && t->answer.reply.http_status > 0;
}

static void learn_distance(struct s3_client *c, const struct s3_transfer *t)
{
	int64_t ms = t->answer.reply.answered_ms;
	if (is_answered(t) && ms > 0 && (!c->quickest_ms || ms < c->quickest_ms))
		c->quickest_ms = ms;
}

static void learn_reachable(struct s3_client *c, const struct s3_transfer *t)
{
	if (is_answered(t))
		c->failures = 0;
	else if (t->stop == S3_STOP_NONE || t->stop == S3_STOP_RESENT)
		c->failures++;
}

static void learn_echo(struct s3_client *c, const struct s3_transfer *t)
{
	const struct s3_reply *r = &t->answer.reply;
	enum s3_op op = t->wire.asked.op;
	if ((op != S3_PUT && op != S3_UPLOAD_PART) || !t->wire.asked.sent_crc)
		return;
	if (r->class == S3_DONE)
		c->echo_seen = r->has_crc64nvme;
	else if (strcmp(r->code, "NoChecksumEcho") == 0)
		c->echo_seen = false;
}

void s3_facts_learn(struct s3_client *c, struct s3_transfer *t)
{
	struct s3_reply *r = &t->answer.reply;
	if (r->class == S3_CLOCK)
		learn_clock(c, r);
	{
		with_lock(&c->lock);
		learn_reachable(c, t);
		learn_distance(c, t);
		learn_echo(c, t);
		if (r->http_status == 412 && t->wire.asked.has_condition)
			c->enforced[t->wire.asked.condition] |= UINT32_C(1) << t->wire.asked.op;
	}
	if (r->class == S3_AUTH && t->ring && is_answered(t) && c->credentials.rejected &&
		c->credentials.rejected(c->credentials.user, &t->ring->credentials, r->code))
		r->class = S3_CLOCK;
}
