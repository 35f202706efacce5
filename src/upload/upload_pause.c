/*
 * upload_pause - reasons not to send that are not a file's own, how each is noticed, probed and
 * ended. Each is logged once when it begins and once when it ends.
 *
 *   credentials  a reply of class AUTH; a listing of one key a minute probes, at once when others
 *                are there than those it was sent with. The reason follows what is tried meanwhile
 *   network      the endpoint is marked down; a listing of one key probes every few seconds
 *   denied       20 refusals on different keys, none accepted between; one PUT a minute probes
 *   space        the store could not record anything; tried again every few seconds
 *   by hand      until resumed
 */
#include "upload_private.h"

#define PAUSES_OF_CREDENTIALS ((unsigned)PAUSE_CREDENTIALS | (unsigned)PAUSE_DENIED)
#define DENIED_IN_A_ROW 20
#define PROBE_SLOW_MS (60 * MS_PER_S)
#define PROBE_FIRST_MS 500
#define PROBE_NETWORK_MAX_MS (5 * MS_PER_S)
#define STAMP_LOOK_MS 500
#define SPACE_AGAIN_MS (5 * MS_PER_S)
#define DAMAGE_SAID_AGAIN_MS (10 * 60 * MS_PER_S)

static unsigned pause_index(enum upload_pause which)
{
	switch (which) {
	case PAUSE_CREDENTIALS:
		return 0;
	case PAUSE_SPACE:
		return 1;
	case PAUSE_NETWORK:
		return 2;
	case PAUSE_DENIED:
		return 3;
	case PAUSE_BY_HAND:
		break;
	}
	return 4;
}

bool pause_holds(struct upload *u, unsigned which)
{
	return (u->sched.pauses & which) != 0;
}

void pause_begin(struct upload *u, enum upload_pause which, const char *reason)
{
	char *kept = u->sched.pause_reason[pause_index(which)];

	if (pause_holds(u, which))
		return;
	/* other ones end the pause */
	if ((which & PAUSES_OF_CREDENTIALS) && !pause_holds(u, PAUSES_OF_CREDENTIALS) &&
		u->credentials_stamp)
		u->sched.credentials_stamp = u->credentials_stamp(u->credentials_user);
	u->sched.pauses |= which;
	(void)text_copy(kept, reason, sizeof(u->sched.pause_reason[0]));
	if (which == PAUSE_BY_HAND)
		log_info("uploading paused: %s", kept);
	else
		log_warn("uploading paused: %s", kept);
	if (which == PAUSE_NETWORK)
		u->sched.probe_step_ms = PROBE_FIRST_MS;
	if (which & (PAUSE_NETWORK | PAUSE_CREDENTIALS))
		u->sched.probe_at_ms = clock_mono_ms() +
				       (which == PAUSE_NETWORK ? PROBE_FIRST_MS : PROBE_SLOW_MS);
	if (which == PAUSE_DENIED)
		u->sched.probe_put_at_ms = clock_mono_ms() + PROBE_SLOW_MS;
}

void pause_end(struct upload *u, enum upload_pause which)
{
	static const char *const names[] = {
		"credentials", "space", "network", "denied", "by hand"};

	if (!pause_holds(u, which))
		return;
	u->sched.pauses &= ~(unsigned)which;
	u->sched.pause_reason[pause_index(which)][0] = '\0';
	log_info("uploading goes on (was paused: %s)", names[pause_index(which)]);
	if (which == PAUSE_DENIED)
		u->sched.denied_streak = 0;
	if (which == PAUSE_NETWORK) {
		waits_all_due(&u->sched.waiting_inos);
		waits_all_due(&u->sched.waiting_attempts);
		limit_reset(&u->sched.limit, clock_mono_ms());
	}
	look_again(u, FILE_QUEUED);
	look_again(u, FILE_MOVING);
	look_again(u, FILE_DELETING);
}

bool pause_lets_send(struct upload *u)
{
	return u->sched.pauses == 0 || u->sched.pauses == PAUSE_DENIED;
}

bool pause_lets_put(struct upload *u)
{
	if (u->sched.pauses == 0)
		return true;
	if (u->sched.pauses != PAUSE_DENIED || clock_mono_ms() < u->sched.probe_put_at_ms)
		return false;
	u->sched.probe_put_at_ms = clock_mono_ms() + PROBE_SLOW_MS;
	return true;
}

/* ---- probes: a listing of one key --------------------------------------------------------------- */

static void probe_answered(struct upload *u, struct task *t, struct request *rq)
{
	u->sched.probe_out = false;
	if (rq->reply.class != S3_AUTH && rq->reply.http_status != 0)
		pause_end(u, PAUSE_CREDENTIALS);
	if (rq->reply.http_status != 0 && !s3_is_down(u->s3))
		pause_end(u, PAUSE_NETWORK);
}

static void probe_send(struct upload *u)
{
	char prefix[KEY_MAX_BYTES + 2];
	struct s3_request req = {.op = S3_LIST, .prefix = prefix, .max_keys = 1};

	snprintf(prefix, sizeof(prefix), "%s%s", u->prefix, u->prefix[0] ? "/" : "");
	if (request_send(u, NULL, &req, NULL, 0, probe_answered) == 0)
		u->sched.probe_out = true;
}

static void probe_tick(struct upload *u, int64_t now_ms)
{
	if (u->sched.probe_out)
		return;
	if (now_ms >= u->sched.probe_at_ms) {
		probe_send(u);
		if (pause_holds(u, PAUSE_NETWORK)) {
			u->sched.probe_step_ms *= 2;
			if (u->sched.probe_step_ms > PROBE_NETWORK_MAX_MS)
				u->sched.probe_step_ms = PROBE_NETWORK_MAX_MS;
			u->sched.probe_at_ms = now_ms + u->sched.probe_step_ms;
		} else {
			u->sched.probe_at_ms = now_ms + PROBE_SLOW_MS;
		}
	}
	wake_by(u, u->sched.probe_at_ms);
}

/* What is tried meanwhile, and what a person can do. False: nothing is known. */
static bool explain_credentials(struct upload *u, char *out, size_t size)
{
	char text[512] = "";

	if (u->credentials_explain)
		u->credentials_explain(u->credentials_user, text);
	if (text[0])
		snprintf(out, size, "credentials: %.420s", text);
	return text[0];
}

/* Other credentials than those that were refused: worth a request now. */
static void credentials_tick(struct upload *u, int64_t now_ms)
{
	uint64_t stamp;

	if (pause_holds(u, PAUSE_CREDENTIALS)) {
		char *reason = u->sched.pause_reason[pause_index(PAUSE_CREDENTIALS)];

		(void)explain_credentials(u, reason, sizeof(u->sched.pause_reason[0]));
	}
	if (!u->credentials_stamp)
		return;
	stamp = u->credentials_stamp(u->credentials_user);
	if (stamp != u->sched.credentials_stamp) {
		u->sched.credentials_stamp = stamp;
		u->sched.probe_at_ms = now_ms;
		pause_end(u, PAUSE_DENIED);
	}
	wake_by(u, now_ms + STAMP_LOOK_MS);
}

static void by_hand_tick(struct upload *u)
{
	bool by_hand, retry;

	lock_take(&u->lock);
	by_hand = u->synced.paused_by_hand;
	retry = u->synced.retry_wanted;
	u->synced.retry_wanted = false;
	lock_drop(&u->lock);
	if (by_hand)
		pause_begin(u, PAUSE_BY_HAND, "by hand: `cpgfs resume` goes on");
	else
		pause_end(u, PAUSE_BY_HAND);
	if (!retry)
		return;
	pause_end(u, PAUSE_DENIED);
	waits_all_due(&u->sched.waiting_inos);
	waits_all_due(&u->sched.waiting_attempts);
	u->sched.probe_at_ms = clock_mono_ms();
}

void pause_tick(struct upload *u)
{
	int64_t now_ms = clock_mono_ms();

	by_hand_tick(u);
	if (pause_holds(u, PAUSE_SPACE)) {
		if (now_ms >= u->sched.space_until_ms)
			pause_end(u, PAUSE_SPACE);
		else
			wake_by(u, u->sched.space_until_ms);
	}
	if (s3_is_down(u->s3))
		pause_begin(u, PAUSE_NETWORK,
			"the server does not answer; it is tried every few seconds, and uploading "
			"goes on by itself");
	else
		pause_end(u, PAUSE_NETWORK);
	if (pause_holds(u, PAUSES_OF_CREDENTIALS))
		credentials_tick(u, now_ms);
	if (pause_holds(u, PAUSE_CREDENTIALS | PAUSE_NETWORK))
		probe_tick(u, now_ms);
	if (pause_holds(u, PAUSE_DENIED))
		wake_by(u, u->sched.probe_put_at_ms);
}

/* ---- what replies tell -------------------------------------------------------------------------- */

static void note_bytes(struct upload *u, uint64_t bytes)
{
	int64_t second = clock_mono_ms() / MS_PER_S;

	while (u->sched.rate_second < second) {
		u->sched.rate_second = second - u->sched.rate_second > RATE_SECONDS
					       ? second - RATE_SECONDS
					       : u->sched.rate_second + 1;
		u->sched.rate_bytes[u->sched.rate_second % (RATE_SECONDS + 1)] = 0;
	}
	u->sched.rate_bytes[second % (RATE_SECONDS + 1)] += bytes;
	u->sched.bytes_sent += bytes;
}

/* Perhaps others came between the request and its reply. */
static void credentials_refused(struct upload *u, const struct request *rq)
{
	char reason[REASON_MAX], text[sizeof(u->sched.pause_reason[0])];
	bool is_first = !pause_holds(u, PAUSES_OF_CREDENTIALS);

	reason_of_reply(&rq->reply, u->acl, reason);
	snprintf(text, sizeof(text), "credentials: %s", reason);
	(void)explain_credentials(u, text, sizeof(text));
	pause_begin(u, PAUSE_CREDENTIALS, text);
	if (is_first)
		u->sched.credentials_stamp = rq->credentials_stamp;
}

void pause_note_reply(struct upload *u, const struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;

	if (reply->class == S3_THROTTLED)
		limit_throttled(&u->sched.limit, clock_mono_ms(), transfers_in_use(u));
	if (reply->class == S3_DONE && (rq->op == S3_PUT || rq->op == S3_UPLOAD_PART)) {
		limit_done(&u->sched.limit, clock_mono_ms(), rq->body_bytes, reply->answered_ms,
			transfers_in_use(u));
		note_bytes(u, rq->body_bytes);
	}
	if (rq->op == S3_HEAD && (reply->class == S3_DONE || reply->class == S3_NOT_FOUND))
		limit_asked(&u->sched.limit, reply->answered_ms, transfers_in_use(u));
	if (reply->class == S3_AUTH)
		credentials_refused(u, rq);
}

void pause_note_accepted(struct upload *u)
{
	u->sched.denied_streak = 0;
	pause_end(u, PAUSE_DENIED);
}

bool pause_note_denied(struct upload *u, const char *key, const struct s3_reply *reply)
{
	uint64_t key_id = crc64nvme(0, key, strlen(key));
	char reason[REASON_MAX], text[REASON_MAX + 64];

	if (pause_holds(u, PAUSE_DENIED))
		return true;
	if (u->sched.denied_streak == 0 || key_id != u->sched.denied_last_key)
		u->sched.denied_streak++;
	u->sched.denied_last_key = key_id;
	if (u->sched.denied_streak < DENIED_IN_A_ROW)
		return false;
	reason_of_reply(reply, u->acl, reason);
	snprintf(text, sizeof(text), "denied: %s; then `cpgfs retry`", reason);
	pause_begin(u, PAUSE_DENIED, text);
	return true;
}

/* It concerns what meets it, and others go on. */
static void damage_say(struct upload *u)
{
	int64_t now_ms = clock_mono_ms();

	if (u->sched.damage_said_ms && now_ms - u->sched.damage_said_ms < DAMAGE_SAID_AGAIN_MS)
		return;
	u->sched.damage_said_ms = now_ms;
	log_error("something is damaged in the index, and some files wait for that: unmount, then `cpgfs repair`");
}

void pause_note_store(struct upload *u, int error)
{
	char text[128];

	if (error == -ESHUTDOWN)
		return;
	if (error == -EINVAL || error == -ENAMETOOLONG) { /* this one record; others may go on */
		log_error("the store refused a record: %s", strerror(-error));
		return;
	}
	if (error == -EUCLEAN) {
		damage_say(u);
		return;
	}
	snprintf(text, sizeof(text), "space: the cache disk takes no records (%s)", strerror(-error));
	u->sched.space_until_ms = clock_mono_ms() + SPACE_AGAIN_MS;
	pause_begin(u, PAUSE_SPACE, text);
}
