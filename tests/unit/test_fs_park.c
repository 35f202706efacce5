/*
 * Parking: kept with its arguments, woken by its own news only, run again at its deadline, never
 * asleep over news that came between looking and parking, answered when the mount ends.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "fs_private.h"

#include <sched.h>

#define DEADLINE_MS 60000

static struct fs fs;
static atomic_uint runs, finished;
static atomic_bool may_finish;
static char seen_name[16], seen_data[16];
static size_t seen_size;
static bool seen_impatient, seen_slow;
static int seen_error;

static int set_up(void **state)
{
	(void)state;
	fs = (struct fs){0};
	atomic_store(&runs, 0);
	atomic_store(&finished, 0);
	atomic_store(&may_finish, false);
	seen_impatient = seen_slow = false;
	return fs_park_create(&fs.park);
}

static int tear_down(void **state)
{
	(void)state;
	fs_park_destroy(fs.park);
	return 0;
}

static void wait_for(atomic_uint *count, unsigned want)
{
	int64_t deadline_ms = clock_mono_ms() + DEADLINE_MS;

	while (atomic_load(count) < want) {
		assert_true(clock_mono_ms() < deadline_ms);
		sched_yield();
	}
	assert_int_equal(atomic_load(count), want);
}

static unsigned parked(void)
{
	unsigned all, for_room;

	fs_park_count(fs.park, &all, &for_room);
	return all;
}

/* Waits (as c->wait says already) until it may finish or its patience is over. */
static int waiter(struct fs_call *c)
{
	atomic_fetch_add(&runs, 1);
	if (!atomic_load(&may_finish) && !c->impatient && c->waited_error == 0)
		return FS_PARK;
	if (c->name)
		(void)text_copy(seen_name, c->name, sizeof(seen_name));
	seen_size = c->size;
	if (c->data)
		memcpy(seen_data, c->data, c->size);
	seen_impatient = c->impatient;
	seen_error = c->waited_error;
	atomic_fetch_add(&finished, 1);
	return FS_DONE;
}

static struct fs_call call(enum fs_wait_kind kind)
{
	return (struct fs_call){.fs = &fs,
		.run = waiter,
		.wait = {.kind = kind, .ino = 7, .chunk = 3, .listing = 9}};
}

static void keeps_arguments_and_wakes_on_its_news(void **state)
{
	char name[] = "name", data[] = "12345";
	struct fs_call c = call(FS_WAIT_CHUNK);

	(void)state;
	c.name = name;
	c.data = data;
	c.size = 5;
	fs_call_serve(&c);
	memset(name, 'x', 4); /* libfuse uses its buffer again */
	memset(data, 'x', 5);
	assert_int_equal(parked(), 1);

	fs_park_news_room(fs.park);
	fs_park_news_listing(fs.park, 9, 0);
	fs_park_news_chunk(fs.park, 7, 4, 0);
	fs_park_news_chunk(fs.park, 8, 3, 0);
	assert_int_equal(parked(), 1);
	assert_int_equal(atomic_load(&runs), 1);

	atomic_store(&may_finish, true);
	fs_park_news_chunk(fs.park, 7, 3, 0);
	wait_for(&finished, 1);
	assert_int_equal(atomic_load(&runs), 2);
	assert_string_equal(seen_name, "name");
	assert_int_equal(seen_size, 5);
	assert_memory_equal(seen_data, "12345", 5);
	assert_int_equal(parked(), 0);
}

static void is_told_how_it_failed(void **state)
{
	struct fs_call c = call(FS_WAIT_CHUNK);

	(void)state;
	fs_call_serve(&c);
	fs_park_news_chunk(fs.park, 7, 3, -ENOENT);
	wait_for(&finished, 1);
	assert_int_equal(seen_error, -ENOENT);
}

/* News between looking and parking: the first run itself brings them. */
static int looks_then_news_come(struct fs_call *c)
{
	if (atomic_fetch_add(&runs, 1) == 0) {
		fs_park_news_chunk(c->fs->park, 7, 3, 0);
		return FS_PARK;
	}
	atomic_fetch_add(&finished, 1);
	return FS_DONE;
}

static void loses_no_news(void **state)
{
	struct fs_call c = call(FS_WAIT_CHUNK);

	(void)state;
	c.run = looks_then_news_come;
	fs_call_serve(&c);
	wait_for(&finished, 1);
	assert_int_equal(atomic_load(&runs), 2);
}

static void patience_ends(void **state)
{
	struct fs_call c = call(FS_WAIT_LISTING);

	(void)state;
	clock_fake_begin(0);
	c.wait.patience_ms = 2000;
	fs_call_serve(&c);
	clock_fake_advance_ms(1999);
	fs_park_news_listing(fs.park, 10, 0);
	assert_int_equal(parked(), 1);
	clock_fake_advance_ms(2);
	while (atomic_load(&finished) == 0)
		sched_yield();
	clock_fake_end();
	assert_true(seen_impatient);
	assert_int_equal(atomic_load(&runs), 2);
}

static void waits_for_room_and_looks_again(void **state)
{
	struct fs_call c = call(FS_WAIT_ROOM);
	unsigned all, for_room;

	(void)state;
	clock_fake_begin(0);
	fs_call_serve(&c);
	fs_park_count(fs.park, &all, &for_room);
	assert_int_equal(for_room, 1);
	atomic_store(&may_finish, true);
	clock_fake_advance_ms(1001);
	while (atomic_load(&finished) == 0)
		sched_yield();
	clock_fake_end();
	assert_false(seen_impatient);
}

static int slow(struct fs_call *c)
{
	atomic_fetch_add(&runs, 1);
	if (!c->on_slow)
		return FS_SLOW;
	seen_slow = true;
	atomic_fetch_add(&finished, 1);
	return FS_DONE;
}

static void what_may_block_runs_elsewhere(void **state)
{
	struct fs_call c = call(FS_WAIT_ROOM);

	(void)state;
	c.run = slow;
	fs_call_serve(&c);
	wait_for(&finished, 1);
	assert_true(seen_slow);
	assert_int_equal(atomic_load(&runs), 2);
}

static void fifty_writers_wait_and_all_go_on(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		struct fs_call c = call(FS_WAIT_ROOM);

		fs_call_serve(&c);
	}
	assert_int_equal(atomic_load(&runs), 50);
	atomic_store(&may_finish, true);
	fs_park_news_room(fs.park);
	wait_for(&finished, 50);
	assert_int_equal(parked(), 0);
}

static void the_end_answers_what_is_parked(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		struct fs_call c = call(FS_WAIT_ROOM);

		fs_call_serve(&c);
	}
	assert_int_equal(parked(), 5);
	fs_park_stop(fs.park);
	assert_int_equal(parked(), 0);
	assert_int_equal(atomic_load(&runs), 5); /* failed, not run */

	struct fs_call late = call(FS_WAIT_ROOM);
	fs_call_serve(&late);
	assert_int_equal(parked(), 0);
}

/* More data than may be kept is refused, and what was kept is given back. */
static void keeps_no_more_than_it_may(void **state)
{
	size_t size = 200 * MIB;
	char *data = calloc(1, size);
	struct fs_call c = call(FS_WAIT_ROOM);

	(void)state;
	assert_non_null(data);
	c.data = data;
	c.size = size;
	assert_int_equal(fs_park_keep(fs.park, &c), 0);
	assert_int_equal(fs_park_keep(fs.park, &c), -ENOBUFS);
	assert_int_equal(parked(), 1);
	c.data = NULL;
	assert_int_equal(fs_park_keep(fs.park, &c), 0);
	assert_int_equal(parked(), 2);
	free(data);
	fs_park_stop(fs.park);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			keeps_arguments_and_wakes_on_its_news, set_up, tear_down),
		cmocka_unit_test_setup_teardown(is_told_how_it_failed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(loses_no_news, set_up, tear_down),
		cmocka_unit_test_setup_teardown(patience_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(waits_for_room_and_looks_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_may_block_runs_elsewhere, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			fifty_writers_wait_and_all_go_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_end_answers_what_is_parked, set_up, tear_down),
		cmocka_unit_test_setup_teardown(keeps_no_more_than_it_may, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
