/* How many transfers at once; the map and the waits that the scheduler keeps. */
#include "upload_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* One window: `l->now` transfers of `bytes` in `ms`; each answer took 1 ms. */
static void one_window(struct limit *l, int64_t *now_ms, int64_t ms, uint64_t bytes)
{
	unsigned count = l->now;

	limit_saturated(l);
	*now_ms += ms;
	for (unsigned i = 0; i < count; i++)
		limit_done(l, *now_ms, bytes, 1, l->now);
}

/* Every window takes as long, however many are sent at once. */
static void test_limit_climbs_with_the_rate(void **state)
{
	struct limit l;
	int64_t now_ms = 1000;

	(void)state;
	limit_init(&l, 64, now_ms);
	assert_int_equal(l.now, 8);
	for (unsigned i = 0; i < 9; i++)
		one_window(&l, &now_ms, 300, 4096);
	assert_int_equal(l.now, 64);
}

/* As many answers as may be out at once; each took answered_ms. */
static void one_round(struct limit *l, int64_t *now_ms, int64_t answered_ms, unsigned in_use)
{
	unsigned count = l->now;

	*now_ms += answered_ms;
	for (unsigned i = 0; i < count; i++)
		limit_done(l, *now_ms, 4096, answered_ms, in_use ? in_use : l->now);
}

static void test_limit_doubles_afar(void **state)
{
	static const unsigned expected[] = {8, 16, 32, 64, 128, 200, 200};
	struct limit l;
	int64_t now_ms = 1000;

	(void)state;
	limit_init(&l, 200, now_ms);
	for (size_t i = 0; i < array_len(expected); i++) {
		one_round(&l, &now_ms, 80, 0);
		assert_int_equal(l.now, expected[i]);
	}
}

static void test_limit_afar_until_answers_take_longer(void **state)
{
	struct limit l;
	int64_t now_ms = 1000;

	(void)state;
	limit_init(&l, 200, now_ms);
	one_round(&l, &now_ms, 80, 0);
	one_round(&l, &now_ms, 80, 0);
	assert_int_equal(l.now, 16);
	one_round(&l, &now_ms, 80, 0);
	assert_int_equal(l.now, 32);
	one_round(&l, &now_ms, 160, 0); /* 16 fill the link */
	assert_int_equal(l.now, 16);
	one_round(&l, &now_ms, 80, 0);
	assert_int_equal(l.now, 16); /* not by rounds any more */
	limit_init(&l, 200, now_ms);
	one_round(&l, &now_ms, 80, 0);
	limit_throttled(&l, now_ms + 2000, l.now);
	assert_int_equal(l.now, 4);
	now_ms += 3000;
	for (unsigned i = 0; i < 3; i++)
		one_round(&l, &now_ms, 80, 0);
	assert_int_equal(l.now, 4); /* not by rounds any more */
}

/* As many requests each second as 8 are at 10 ms. */
static void test_limit_starts_as_far_as_it_is(void **state)
{
	static const struct {
		int64_t quickest_ms;
		unsigned max, now;
	} cases[] = {{0, 256, 8}, {3, 256, 8}, {10, 256, 8}, {20, 256, 16}, {80, 256, 64},
		{700, 256, 64}, {80, 20, 20}, {80, 4, 4}};
	struct limit l;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		limit_init(&l, cases[i].max, 1000);
		limit_start(&l, cases[i].quickest_ms);
		assert_int_equal(l.now, cases[i].now);
	}
	limit_init(&l, 256, 1000);
	limit_start(&l, 0);
	limit_start(&l, 40);
	assert_int_equal(l.now, 32); /* known a moment later */
	limit_start(&l, 80);
	assert_int_equal(l.now, 32);
	limit_init(&l, 256, 1000);
	limit_throttled(&l, 3000, l.now);
	limit_start(&l, 80);
	assert_int_equal(l.now, 4);
}

static void test_limit_started_afar_goes_on_doubling(void **state)
{
	struct limit l;
	int64_t now_ms = 1000;

	(void)state;
	limit_init(&l, 256, now_ms);
	limit_start(&l, 80);
	one_round(&l, &now_ms, 80, 0);
	assert_int_equal(l.now, 64); /* how long a body takes */
	one_round(&l, &now_ms, 80, 0);
	assert_int_equal(l.now, 128);
	one_round(&l, &now_ms, 150, 0);
	assert_int_equal(l.now, 64);
}

/* Where a question precedes each transfer, as many answers again make room. */
static void test_limit_grows_with_questions(void **state)
{
	struct limit l;
	int64_t now_ms = 1000;

	(void)state;
	limit_init(&l, 256, now_ms);
	for (unsigned i = 0; i < 100; i++)
		limit_asked(&l, 80, l.now);
	assert_int_equal(l.now, 16);
	for (unsigned i = 0; i < 8; i++)
		limit_done(&l, now_ms, 4096, 80, 16);
	for (unsigned i = 0; i < 100; i++)
		limit_asked(&l, 80, l.now);
	assert_int_equal(l.now, 32);
	limit_init(&l, 256, now_ms);
	for (unsigned i = 0; i < 100; i++)
		limit_asked(&l, 2, l.now); /* near by */
	for (unsigned i = 0; i < 100; i++)
		limit_asked(&l, 80, 3); /* few are out */
	assert_int_equal(l.now, 8);
}

/* Where few are out, nobody knows what many would do. */
static void test_limit_afar_with_few_files(void **state)
{
	struct limit l;
	int64_t now_ms = 1000;

	(void)state;
	limit_init(&l, 200, now_ms);
	for (unsigned i = 0; i < 100; i++)
		one_round(&l, &now_ms, 80, 3);
	assert_int_equal(l.now, 8);
}

/* A full link: twice as many take twice as long. */
static void test_limit_stays_where_more_is_no_use(void **state)
{
	struct limit l;
	int64_t now_ms = 1000;
	unsigned most = 0;

	(void)state;
	limit_init(&l, 64, now_ms);
	for (unsigned i = 0; i < 40; i++) {
		one_window(&l, &now_ms, 40 * l.now, 1 * MIB);
		most = l.now > most ? l.now : most;
	}
	assert_in_range(l.now, 8, 24);
	assert_in_range(most, 9, 24);
}

static void test_limit_idle_slots_teach_nothing(void **state)
{
	struct limit l;
	int64_t now_ms = 1000;

	(void)state;
	limit_init(&l, 64, now_ms);
	for (unsigned i = 0; i < 100; i++) {
		now_ms += 100;
		limit_done(&l, now_ms, 4096, 1, 2);
	}
	assert_int_equal(l.now, 8);
}

static void test_limit_throttled(void **state)
{
	struct limit l;
	int64_t now_ms = 1000;

	(void)state;
	limit_init(&l, 64, now_ms);
	limit_throttled(&l, now_ms, 8);
	assert_int_equal(l.now, 4);
	limit_throttled(&l, now_ms + 10, 4); /* a burst of refusals is one */
	assert_int_equal(l.now, 4);
	for (unsigned i = 0; i < 5; i++)
		limit_throttled(&l, now_ms + 2000 * (i + 1), l.now);
	assert_int_equal(l.now, 1);
	now_ms += 20000;
	for (unsigned i = 0; i < 60; i++)
		one_window(&l, &now_ms, 300, 4096);
	assert_in_range(l.now, 4, 64); /* and it comes back */
}

static void test_limit_of_one(void **state)
{
	struct limit l;
	int64_t now_ms = 1000;

	(void)state;
	limit_init(&l, 1, now_ms);
	for (unsigned i = 0; i < 10; i++)
		one_window(&l, &now_ms, 300, 4096);
	assert_int_equal(l.now, 1);
	limit_throttled(&l, now_ms, 1);
	assert_int_equal(l.now, 1);
	limit_init(&l, 256, now_ms);
	l.now = 200;
	limit_throttled(&l, now_ms + 2000, 60); /* of 200 that were allowed */
	assert_int_equal(l.now, 30);
}

/* ---- map ---------------------------------------------------------------------------------------- */

#define KEYS 5000

static uint64_t key_number(unsigned i)
{
	return i % 3 == 0 ? i : i % 3 == 1 ? (uint64_t)i << 40 : STORE_INO_FROM_BUCKET | i;
}

/* Against a plain array: put, remove every other, put again, with keys that collide. */
static void test_map_against_an_array(void **state)
{
	struct map m = {0};
	static char values[KEYS];
	static bool there[KEYS];
	unsigned seed = 1;

	(void)state;
	for (unsigned step = 0; step < 100000; step++) {
		unsigned i;

		seed = seed * 1103515245 + 12345;
		i = (seed >> 8) % KEYS;
		if (seed >> 30 & 1) {
			assert_int_equal(map_put(&m, key_number(i), &values[i]), 0);
			there[i] = true;
		} else {
			map_remove(&m, key_number(i));
			there[i] = false;
		}
	}
	size_t count = 0;

	for (unsigned i = 0; i < KEYS; i++) {
		assert_ptr_equal(map_get(&m, key_number(i)), there[i] ? &values[i] : NULL);
		count += there[i];
	}
	assert_int_equal(m.count, count);
	map_release(&m);
	assert_null(map_get(&m, 1));
	map_remove(&m, 1);
}

/* ---- waits -------------------------------------------------------------------------------------- */

static void test_waits_in_order(void **state)
{
	struct waits w = {0};
	uint64_t id, last = 0;
	unsigned popped = 0;

	(void)state;
	assert_int_equal(waits_next_ms(&w), INT64_MAX);
	for (uint64_t i = 1; i <= 1000; i++)
		assert_int_equal(waits_add(&w, i, (int64_t)(i * 7919 % 1000)), 0);
	assert_int_equal(waits_add(&w, 5, 0), 0); /* keeps its first time */
	assert_int_equal(w.count, 1000);
	assert_false(waits_pop_due(&w, -1, &id));
	while (waits_pop_due(&w, 499, &id)) {
		assert_true(id * 7919 % 1000 >= last);
		last = id * 7919 % 1000;
		assert_false(waits_has(&w, id));
		popped++;
	}
	assert_int_equal(popped, 500);
	assert_int_equal(waits_next_ms(&w), 500);
	waits_all_due(&w);
	while (waits_pop_due(&w, 0, &id))
		popped++;
	assert_int_equal(popped, 1000);
	waits_release(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limit_climbs_with_the_rate),
		cmocka_unit_test(test_limit_doubles_afar),
		cmocka_unit_test(test_limit_afar_until_answers_take_longer),
		cmocka_unit_test(test_limit_starts_as_far_as_it_is),
		cmocka_unit_test(test_limit_started_afar_goes_on_doubling),
		cmocka_unit_test(test_limit_grows_with_questions),
		cmocka_unit_test(test_limit_afar_with_few_files),
		cmocka_unit_test(test_limit_stays_where_more_is_no_use),
		cmocka_unit_test(test_limit_idle_slots_teach_nothing),
		cmocka_unit_test(test_limit_throttled),
		cmocka_unit_test(test_limit_of_one),
		cmocka_unit_test(test_map_against_an_array),
		cmocka_unit_test(test_waits_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
