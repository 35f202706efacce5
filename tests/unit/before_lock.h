/*
 * before_lock - something comes before the n-th lock that is taken by a thread that holds none, and
 * so between two steps of whatever is tested. For test_*_races.c, which meson.build links with the
 * locks' functions wrapped.
 */
#pragma once

#include "cpgfs/base.h"

#include <stdatomic.h>

/* A test may say beforehand which threads count, and what is to be done when one gave a lock back.
 */
#ifndef LOCK_IS_WATCHED
#define LOCK_IS_WATCHED true
#endif
#ifndef LOCK_GIVEN_BACK
#define LOCK_GIVEN_BACK() ((void)0)
#endif

static _Thread_local unsigned locks_held;
static atomic_uint locks_to_come; /* until then; 0: over */
static void (*before_lock)(void);

void __real_lock_take_at(struct lock *l, const char *site);
void __wrap_lock_take_at(struct lock *l, const char *site);
void __real_lock_drop(struct lock *l);
void __wrap_lock_drop(struct lock *l);
void __real_cleanup_lock_fn(struct lock **l);
void __wrap_cleanup_lock_fn(struct lock **l);

static bool its_turn_has_come(void)
{
	unsigned n = atomic_load(&locks_to_come);

	while (n > 0 && !atomic_compare_exchange_weak(&locks_to_come, &n, n - 1))
		;
	return n == 1;
}

void __wrap_lock_take_at(struct lock *l, const char *site)
{
	if (locks_held == 0 && LOCK_IS_WATCHED && its_turn_has_come())
		before_lock();
	__real_lock_take_at(l, site);
	locks_held++;
}

void __wrap_lock_drop(struct lock *l)
{
	__real_lock_drop(l);
	locks_held--;
	LOCK_GIVEN_BACK();
}

void __wrap_cleanup_lock_fn(struct lock **l)
{
	__real_cleanup_lock_fn(l);
	locks_held--;
	LOCK_GIVEN_BACK();
}

static inline void before_lock_begin(unsigned n, void (*act)(void))
{
	before_lock = act;
	atomic_store(&locks_to_come, n);
}

/* Did it come? */
static inline bool before_lock_end(void)
{
	return atomic_exchange(&locks_to_come, 0) == 0;
}
