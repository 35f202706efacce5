/*
 * upload_limit - how many transfers at once.
 *
 * More transfers than the link needs cost CPU and gain nothing; fewer leave a long round trip
 * unused. So the limit climbs: after each window in which all slots were busy it grows by half, as
 * long as the rate grew with it; when it did not, it goes back and tries again later. A throttled
 * reply halves it, at most once a second. Small objects count as 256 KiB more than their bytes,
 * because a request costs something too.
 */
#include "upload_private.h"

#define LIMIT_START 8
#define WINDOW_MS 250
#define REQUEST_SCORE_BYTES (256 * KIB)
#define HOLD_WINDOWS 16
#define GAIN_WANTED 1.08
#define THROTTLE_PAUSE_MS 1000

static void window_begin(struct limit *l, int64_t now_ms)
{
	l->window_began_ms = now_ms;
	l->window_score = 0;
	l->window_done = 0;
	l->saturated = false;
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
	window_begin(l, now_ms);
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

void limit_done(struct limit *l, int64_t now_ms, uint64_t bytes)
{
	int64_t elapsed_ms = now_ms - l->window_began_ms;

	l->window_score += bytes + REQUEST_SCORE_BYTES;
	l->window_done++;
	if (elapsed_ms < WINDOW_MS || l->window_done < l->now)
		return;
	if (l->saturated)
		limit_judge(l, (double)l->window_score / (double)elapsed_ms);
	window_begin(l, now_ms);
}

void limit_throttled(struct limit *l, int64_t now_ms)
{
	if (now_ms - l->throttled_ms < THROTTLE_PAUSE_MS)
		return;
	l->throttled_ms = now_ms;
	l->now = l->now > 1 ? l->now / 2 : 1;
	l->before = l->now;
	l->hold_windows = HOLD_WINDOWS;
	window_begin(l, now_ms);
}

void limit_saturated(struct limit *l)
{
	l->saturated = true;
}
