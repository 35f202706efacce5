/*
 * upload_limit - how many transfers at once.
 *
 * More transfers than the link needs cost CPU and gain nothing; fewer leave a long round trip
 * unused. So the limit climbs: after each window in which all slots were busy it grows by half, as
 * long as the rate grew with it; when it did not, it goes back and tries again later. A throttled
 * reply halves it, at most once a second. Small objects count as 256 KiB more than their bytes,
 * because a request costs something too.
 *
 * At first, where answers come from afar, it need not wait for windows: each answer makes room for one
 * request more, so that there are twice as many after each round trip, until the answers of a round
 * take longer than those of the quickest one (then it goes back a round), or the server throttles.
 * Answers to questions make room, too, but say nothing about how long a body takes. And it begins
 * with as many as make up for the distance, where that is known.
 */
#include "upload_private.h"

#define LIMIT_START 8
#define LIMIT_START_MAX 64
#define WINDOW_MS 250
#define REQUEST_SCORE_BYTES (256 * KIB)
#define HOLD_WINDOWS 16
#define GAIN_WANTED 1.08
#define THROTTLE_PAUSE_MS 1000
#define FAR_MS 10 /* from there on */
#define SLOWER_MS 10

static void window_begin(struct limit *l, int64_t now_ms)
{
	l->window_began_ms = now_ms;
	l->window_score = 0;
	l->window_done = 0;
	l->saturated = false;
}

static void round_begin(struct limit *l)
{
	l->round_before = l->round_size;
	l->round_size = l->now;
	l->round_done = 0;
	l->round_sum_ms = 0;
}

void limit_init(struct limit *l, unsigned max, int64_t now_ms)
{
	*l = (struct limit){.max = max ? max : 1, .throttled_ms = now_ms - THROTTLE_PAUSE_MS};
	limit_reset(l, now_ms);
}

void limit_reset(struct limit *l, int64_t now_ms)
{
	l->now = l->max < LIMIT_START ? l->max : LIMIT_START;
	l->before = l->now;
	l->last_rate = 0;
	l->hold_windows = 0;
	l->climbs = l->fresh = true;
	l->quickest_ms = 0;
	l->round_size = l->now;
	round_begin(l);
	window_begin(l, now_ms);
}

/* As many requests each second as LIMIT_START are at FAR_MS. */
void limit_start(struct limit *l, int64_t quickest_ms)
{
	int64_t many = quickest_ms * LIMIT_START / FAR_MS;

	if (!l->fresh || many <= LIMIT_START)
		return;
	l->fresh = false;
	l->now = many < LIMIT_START_MAX ? (unsigned)many : LIMIT_START_MAX;
	l->now = l->now < l->max ? l->now : l->max;
	l->before = l->round_size = l->now;
	round_begin(l);
}

static void limit_grow(struct limit *l, double rate)
{
	l->last_rate = rate;
	l->before = l->now;
	l->now += l->now / 2 + 1;
	if (l->now > l->max)
		l->now = l->max;
}

static void limit_judge(struct limit *l, double rate)
{
	if (l->hold_windows > 0) {
		l->hold_windows--;
		l->last_rate = rate;
		return;
	}
	if (l->now == l->before || rate > l->last_rate * GAIN_WANTED) {
		limit_grow(l, rate);
		return;
	}
	l->now = l->before;
	l->hold_windows = HOLD_WINDOWS;
}

/* ---- afar, at first ----------------------------------------------------------------------------- */

static void climb_end(struct limit *l, int64_t now_ms)
{
	l->climbs = false;
	l->before = l->now;
	l->last_rate = 0;
	window_begin(l, now_ms);
}

static void climb_round(struct limit *l, int64_t now_ms)
{
	int64_t mean_ms = l->round_sum_ms / l->round_done;

	if (l->quickest_ms == 0 || mean_ms < l->quickest_ms)
		l->quickest_ms = mean_ms;
	if (l->quickest_ms < FAR_MS) {
		climb_end(l, now_ms);
	} else if (mean_ms > l->quickest_ms * 3 / 2 + SLOWER_MS) {
		l->now = l->round_before; /* what was answered now was sent in that one */
		climb_end(l, now_ms);
	}
	round_begin(l);
}

static void limit_climb(struct limit *l, int64_t now_ms, int64_t answered_ms, unsigned in_use)
{
	l->round_sum_ms += answered_ms;
	l->round_done++;
	if (l->quickest_ms > 0 && l->now < l->max && in_use * 2 > l->now)
		l->now++;
	if (l->round_done >= l->round_size)
		climb_round(l, now_ms);
	if (l->climbs && l->now == l->max)
		climb_end(l, now_ms);
}

void limit_asked(struct limit *l, int64_t answered_ms, unsigned in_use)
{
	if (l->climbs && answered_ms >= FAR_MS && l->now < l->max && in_use * 2 > l->now &&
		l->now < l->round_size * 2)
		l->now++;
}

/* ------------------------------------------------------------------------------------------------- */

void limit_done(
	struct limit *l, int64_t now_ms, uint64_t bytes, int64_t answered_ms, unsigned in_use)
{
	int64_t elapsed_ms = now_ms - l->window_began_ms;

	l->fresh = false;
	if (l->climbs) {
		limit_climb(l, now_ms, answered_ms, in_use);
		return;
	}
	l->window_score += bytes + REQUEST_SCORE_BYTES;
	l->window_done++;
	if (elapsed_ms < WINDOW_MS || l->window_done < l->now)
		return;
	if (l->saturated)
		limit_judge(l, (double)l->window_score / (double)elapsed_ms);
	window_begin(l, now_ms);
}

void limit_throttled(struct limit *l, int64_t now_ms, unsigned in_use)
{
	if (now_ms - l->throttled_ms < THROTTLE_PAUSE_MS)
		return;
	l->throttled_ms = now_ms;
	if (in_use < l->now) /* fewer than were allowed, and too many */
		l->now = in_use;
	l->now = l->now > 1 ? l->now / 2 : 1;
	l->before = l->now;
	l->climbs = l->fresh = false;
	l->hold_windows = HOLD_WINDOWS;
	window_begin(l, now_ms);
}

void limit_saturated(struct limit *l)
{
	l->saturated = true;
}
