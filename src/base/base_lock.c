/*
 * base_lock - mutexes with ranks, and conditions on the monotonic (or a fake) clock.
 *
 * Each thread keeps the short list of locks it holds, with the place where each was taken. Taking
 * a lock whose rank is not above all of them aborts and names both places: that order, had another
 * thread taken the reverse one, is a deadlock that no test is likely to meet. The list belongs to
 * its thread alone, so asking it races with nobody.
 */
#include "base_private.h"

#include <time.h>

#define LOCKS_HELD_MAX 16
/* With a fake clock, deadlines are looked at this often: nobody signals when it is moved. */
#define FAKE_SLICE_MS 1

struct held_lock {
	const struct lock *lock;
	const char *site;
};

static __thread struct {
	struct held_lock at[LOCKS_HELD_MAX];
	unsigned count;
} held;

_Noreturn static void rank_violation(
	const struct lock *l, const char *site, const struct held_lock *top)
{
	char text[512];

	snprintf(text, sizeof(text),
		"lock order: %s (rank %d) wanted at %s while holding %s (rank %d) taken at %s",
		l->name, (int)l->rank, site, top->lock->name, (int)top->lock->rank, top->site);
	log_last_words(text);
	abort();
}

static void held_push(const struct lock *l, const char *site)
{
	check(held.count < LOCKS_HELD_MAX);
	held.at[held.count++] = (struct held_lock){.lock = l, .site = site};
}

/* Locks may be dropped in any order; what remains stays sorted by rank. */
static void held_remove(const struct lock *l)
{
	unsigned i = held.count;

	while (i > 0 && held.at[i - 1].lock != l)
		i--;
	check(i > 0); /* it is held by this thread */
	for (; i < held.count; i++)
		held.at[i - 1] = held.at[i];
	held.count--;
}

void lock_init(struct lock *l, enum lock_rank rank, const char *name)
{
	*l = (struct lock){.rank = rank, .name = name};
	check(pthread_mutex_init(&l->mutex, NULL) == 0);
}

void lock_release_storage(struct lock *l)
{
	check(!lock_is_mine(l));
	check(pthread_mutex_destroy(&l->mutex) == 0);
}

void lock_take_at(struct lock *l, const char *site)
{
	if (held.count > 0 && held.at[held.count - 1].lock->rank >= l->rank)
		rank_violation(l, site, &held.at[held.count - 1]);
	check(pthread_mutex_lock(&l->mutex) == 0);
	held_push(l, site);
}

void lock_drop(struct lock *l)
{
	held_remove(l);
	check(pthread_mutex_unlock(&l->mutex) == 0);
}

bool lock_is_mine(const struct lock *l)
{
	for (unsigned i = 0; i < held.count; i++) {
		if (held.at[i].lock == l)
			return true;
	}
	return false;
}

void lock_assert_none_held(void)
{
	check(held.count == 0);
}

void cleanup_lock_fn(struct lock **l)
{
	lock_drop(*l);
}

void cond_init(struct cond *c)
{
	pthread_condattr_t attr;

	check(pthread_condattr_init(&attr) == 0);
	check(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	check(pthread_cond_init(&c->cond, &attr) == 0);
	check(pthread_condattr_destroy(&attr) == 0);
}

void cond_release(struct cond *c)
{
	check(pthread_cond_destroy(&c->cond) == 0);
}

/* One wait on the real clock. 0 when woken, -ETIMEDOUT. */
static int cond_wait_real(struct cond *c, struct lock *l, const struct timespec *until)
{
	int r = pthread_cond_timedwait(&c->cond, &l->mutex, until);

	check(r == 0 || r == ETIMEDOUT);
	return -r;
}

/* One slice, then the caller's loop looks at its predicate: a wake-up between two slices would reach
 * nobody. */
static int cond_wait_fake(struct cond *c, struct lock *l, int64_t deadline_ms)
{
	struct timespec slice;

	if (clock_mono_ms() >= deadline_ms)
		return -ETIMEDOUT;
	clock_gettime(CLOCK_MONOTONIC, &slice);
	slice.tv_nsec += FAKE_SLICE_MS * 1000000L;
	if (slice.tv_nsec >= NS_PER_S) {
		slice.tv_nsec -= NS_PER_S;
		slice.tv_sec++;
	}
	(void)cond_wait_real(c, l, &slice); /* woken or not: the loop decides */
	return 0;
}

int cond_wait_until(struct cond *c, struct lock *l, int64_t deadline_ms)
{
	struct timespec until;

	/* Another lock kept across a wait stalls everybody who wants it. */
	check(lock_is_mine(l) && held.count == 1);
	if (deadline_ms == INT64_MAX) {
		check(pthread_cond_wait(&c->cond, &l->mutex) == 0);
		return 0;
	}
	if (clock_is_fake())
		return cond_wait_fake(c, l, deadline_ms);
	until = clock_timespec_of_ms(deadline_ms);
	return cond_wait_real(c, l, &until);
}

void cond_signal(struct cond *c)
{
	check(pthread_cond_signal(&c->cond) == 0);
}

void cond_broadcast(struct cond *c)
{
	check(pthread_cond_broadcast(&c->cond) == 0);
}
