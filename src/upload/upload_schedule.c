/*
 * upload_schedule - the thread: news, then a pass over everything that can go on, then sleep until
 * something comes or a time is reached.
 *
 * Order of a pass: what is under way before what is new, answers that are owed (doubt) before
 * both; reading and hashing go on in every pause.
 */
#include "upload_private.h"

#define FOREVER_MS INT64_MAX
/* After the deadline of upload_stop(): how long cancelled requests may take to say so. */
#define CANCEL_GRACE_MS 2000
#define DELAY_AGAIN_MS 1000
/* A large file may be opened anew: looked at no more often than this. */
#define GROWING_NEWS_MS 1000
/* How often all queues are looked at without news. */
#define ROUND_MS (60 * MS_PER_S)

struct news {
	struct event *events;
	uint64_t looks;
	uint64_t stale[64];
	unsigned stale_count;
	bool stale_all, stopping, growing;
	int64_t stop_deadline_ms;
};

unsigned transfers_in_use(const struct upload *u)
{
	return u->sched.slots_used + u->sched.parts_used;
}

bool transfers_may_begin(struct upload *u)
{
	uint64_t buffers = u->sched.slots_bytes +
			   (uint64_t)(u->sched.parts_used + 1) * SEND_BUFFER_BYTES;

	if (u->sched.limit.fresh)
		limit_start(&u->sched.limit, s3_quickest_ms(u->s3));
	if (transfers_in_use(u) < u->sched.limit.now)
		return buffers <= SEND_BUFFERS_MAX_BYTES;
	limit_saturated(&u->sched.limit);
	return false;
}

bool slot_free(struct upload *u)
{
	return u->sched.waiting_inos.count + u->sched.waiting_attempts.count < WAITS_MAX &&
	       sync_has_room(u) && transfers_may_begin(u);
}

void wake_by(struct upload *u, int64_t at_ms)
{
	if (at_ms < u->sched.next_ms)
		u->sched.next_ms = at_ms;
}

/* In the next pass, which follows at once: an item that fails at once can't hold up the others. */
void look_again(struct upload *u, enum file_state state)
{
	u->sched.looks_later |= UINT64_C(1) << state;
	wake_by(u, clock_mono_ms());
}

/* ---- news --------------------------------------------------------------------------------------- */

static bool nothing_new_locked(const struct upload *u)
{
	return !u->synced.first && !u->synced.looks && u->synced.stale_count == 0 &&
	       !u->synced.growing_news &&
	       u->synced.stopping == u->sched.stopping;
}

static void news_take_locked(struct upload *u, struct news *news)
{
	lock_assert_held(&u->lock);
	*news = (struct news){.events = u->synced.first,
		.looks = u->synced.looks,
		.stale_count = u->synced.stale_count,
		.stale_all = u->synced.stale_all,
		.growing = u->synced.growing_news,
		.stopping = u->synced.stopping,
		.stop_deadline_ms = u->synced.stop_deadline_ms};
	memcpy(news->stale, u->synced.stale, sizeof(news->stale));
	u->synced.first = NULL;
	u->synced.last = &u->synced.first;
	u->synced.looks = 0;
	u->synced.stale_count = 0;
	u->synced.stale_all = false;
	u->synced.growing_news = false;
	u->synced.sleep_until_ms = 0;
	news->looks |= u->synced.looks_soon;
	u->synced.looks_soon = 0;
}

/* Closed files are looked at when they are due, jobs and growing files soon: news of one only
 * shortens a long sleep. */
static void news_wait(struct upload *u, struct news *news)
{
	with_lock(&u->lock);
	u->synced.sleep_until_ms = u->sched.next_ms;
	if (u->synced.looks_soon && u->sched.next_ms > clock_mono_ms() + UNHURRIED_MS)
		u->synced.sleep_until_ms = clock_mono_ms() + UNHURRIED_MS;
	while (nothing_new_locked(u) && clock_mono_ms() < u->synced.sleep_until_ms)
		(void)cond_wait_until(&u->wake, &u->lock, u->synced.sleep_until_ms);
	news_take_locked(u, news);
}

static void events_run(struct upload *u, struct event *e)
{
	while (e) {
		struct event *next = e->next;

		e->run(u, e);
		e = next;
	}
}

static void stale_note(struct upload *u, uint64_t ino)
{
	struct task *t = map_get(&u->sched.tasks_of_ino, ino);

	if (t && t->kind == TASK_MULTIPART)
		multipart_stale(u, t);
}

static void stale_note_all(struct upload *u)
{
	struct task *next;

	for (struct task *t = u->sched.tasks; t; t = next) {
		next = t->next;
		if (t->kind == TASK_MULTIPART)
			multipart_stale(u, t);
	}
}

static void looks_apply(struct upload *u, uint64_t looks)
{
	if (looks & (UINT64_C(1) << FILE_CLOSED))
		u->sched.closed_next_ms = 0;
	if (looks & (UINT64_C(1) << FILE_DELETING))
		u->sched.deleting_next_ms = 0;
	if (looks & (UINT64_C(1) << FILE_SETTLED))
		window_again(&u->sched.settled);
	if (looks & (UINT64_C(1) << FILE_QUEUED))
		window_again(&u->sched.queued);
	if (looks & (UINT64_C(1) << FILE_MOVING))
		window_again(&u->sched.moving);
	if (looks & (UINT64_C(1) << FILE_NONE))
		u->sched.jobs_look = true;
	if ((looks & (UINT64_C(1) << FILE_OPEN)) &&
		u->sched.growing_ms > u->sched.growing_looked_ms + GROWING_NEWS_MS)
		u->sched.growing_ms = u->sched.growing_looked_ms + GROWING_NEWS_MS;
}

static void news_apply(struct upload *u, const struct news *news)
{
	for (unsigned i = 0; i < news->stale_count; i++)
		stale_note(u, news->stale[i]);
	if (news->stale_all)
		stale_note_all(u);
	if (news->growing)
		u->sched.growing_ms = 0;
	looks_apply(u, news->looks | u->sched.looks_later);
	u->sched.looks_later = 0;
	events_run(u, news->events);
}

/* ---- passes ------------------------------------------------------------------------------------- */

static void waits_pass(struct upload *u)
{
	uint64_t ino;
	bool any = false;

	while (waits_pop_due(&u->sched.waiting_inos, clock_mono_ms(), &ino))
		any = true;
	if (any)
		looks_apply(u, UINT64_C(1) << FILE_SETTLED | UINT64_C(1) << FILE_QUEUED |
				       UINT64_C(1) << FILE_MOVING |
				       UINT64_C(1) << FILE_DELETING);
	while (waits_pop_due(&u->sched.waiting_deletes, clock_mono_ms(), &ino))
		looks_apply(u, UINT64_C(1) << FILE_DELETING);
}

/* Nothing is left lying: not what was missed because a queue could not be read, nor an attempt for whose
 * wait there was no memory. */
static void round_pass(struct upload *u)
{
	if (clock_mono_ms() >= u->sched.round_ms) {
		u->sched.round_ms = clock_mono_ms() + ROUND_MS;
		looks_apply(u, UINT64_MAX);
		held_look_again(u);
		doubt_round(u);
	}
	wake_by(u, u->sched.round_ms);
}

static void send_passes(struct upload *u)
{
	doubt_pass(u);
	stream_pass(u);
	multipart_pass(u);
	copy_large_pass(u);
	put_pass(u);
	move_pass(u);
	if (clock_mono_ms() >= u->sched.deleting_next_ms)
		delete_pass(u);
}

static void clock_pass(struct upload *u)
{
	if (!delay_is_kept(u))
		u->sched.deleting_next_ms = clock_mono_ms() + DELAY_AGAIN_MS;
}

static void passes(struct upload *u)
{
	u->sched.next_ms = FOREVER_MS;
	waits_pass(u);
	round_pass(u);
	pause_tick(u);
	clock_pass(u);
	if (clock_mono_ms() >= u->sched.closed_next_ms)
		settle_pass(u);
	held_pass(u);
	digest_pass(u);
	rekey_pass(u);
	synced_pass(u);
	if (pause_lets_send(u)) {
		send_passes(u);
		wake_by(u, u->sched.deleting_next_ms);
	}
	sync_pass(u);
	wake_by(u, u->sched.closed_next_ms);
	wake_by(u, waits_next_ms(&u->sched.waiting_inos));
	wake_by(u, waits_next_ms(&u->sched.waiting_deletes));
	if (u->sched.looks_later)
		wake_by(u, clock_mono_ms());
}

/* ---- stopping ----------------------------------------------------------------------------------- */

static void cancel_all(struct upload *u)
{
	for (struct request *rq = u->sched.requests; rq; rq = rq->next_active)
		s3_cancel(u->s3, rq->id);
}

/* True: nothing is under way any more, or no more time is given. */
static bool stop_done(struct upload *u, int64_t deadline_ms)
{
	int64_t now_ms = clock_mono_ms();

	if (!u->sched.requests && u->sched.digests_active == 0)
		return true;
	if (now_ms >= deadline_ms + CANCEL_GRACE_MS)
		return true;
	if (now_ms >= deadline_ms)
		cancel_all(u);
	u->sched.next_ms = now_ms < deadline_ms ? deadline_ms : deadline_ms + CANCEL_GRACE_MS;
	return false;
}

/* ---- the thread --------------------------------------------------------------------------------- */

static void status_publish(struct upload *u)
{
	struct upload_status s = {.pauses = u->sched.pauses,
		.bytes_sent_total = u->sched.bytes_sent,
		.objects_sent_total = u->sched.objects_sent,
		.transfers_active = transfers_in_use(u),
		.transfers_limit = u->sched.limit.now,
		.retries_total = u->sched.retries};
	int64_t second = clock_mono_ms() / MS_PER_S;
	uint64_t bytes = 0;
	size_t len = 0;

	for (unsigned i = 0; i < array_len(u->sched.pause_reason); i++) {
		const char *reason = u->sched.pause_reason[i];

		if (reason[0] && len < sizeof(s.paused_reason))
			len += (size_t)snprintf(s.paused_reason + len,
				sizeof(s.paused_reason) - len, "%s%s", len ? "; " : "", reason);
	}
	for (unsigned i = 0; i <= RATE_SECONDS; i++)
		bytes += u->sched.rate_bytes[i];
	if (second - u->sched.rate_second <= RATE_SECONDS)
		s.rate_bytes_per_s = (double)bytes / RATE_SECONDS;
	with_lock(&u->lock);
	u->synced.status = s;
}

void scheduler_run(void *user)
{
	struct upload *u = user;
	struct news news;

	u->sched.next_ms = 0;
	for (;;) {
		news_wait(u, &news);
		u->sched.stopping = news.stopping;
		news_apply(u, &news);
		if (!news.stopping)
			passes(u);
		else if (stop_done(u, news.stop_deadline_ms))
			break;
		status_publish(u);
	}
}
