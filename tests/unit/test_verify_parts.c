/*
 * The parts without threads: which folder's turn it is, and listings as hashes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "verify_private.h"

#define QUIET_MS 1000

static struct verify_folders folders;
static bool more = true;

static int setup(void **state)
{
	clock_fake_begin(1700000000 * NS_PER_S);
	return 0;
}

static int teardown(void **state)
{
	clock_fake_end();
	verify_folders_release(&folders);
	return 0;
}

static void add(const char *key, uint64_t ino)
{
	assert_int_equal(verify_folders_add(&folders, key, ino, clock_mono_ms()), 0);
}

static const char *due(void)
{
	int64_t next_ms;
	struct verify_folder *f = verify_folders_due(&folders, QUIET_MS, more, &next_ms);

	return f ? f->prefix : "none";
}

static void a_folder_is_due_when_quiet(void **state)
{
	int64_t next_ms;

	add("a/1", 1);
	add("top", 2);
	assert_int_equal(folders.count, 2);
	assert_string_equal(due(), "none");
	clock_fake_advance_ms(600);
	add("a/2", 3);
	clock_fake_advance_ms(500);
	assert_string_equal(due(), ""); /* of "top" */
	verify_folders_due(&folders, QUIET_MS, more, &next_ms)->inos.count = 0;
	verify_folders_settle(&folders, folders.sorted[0]);
	assert_string_equal(due(), "none");
	(void)verify_folders_due(&folders, QUIET_MS, more, &next_ms);
	assert_int_equal(next_ms - clock_mono_ms(), 500);
	clock_fake_advance_ms(500);
	assert_string_equal(due(), "a/");
}

static void a_busy_folder_is_due_every_half_minute(void **state)
{
	for (unsigned i = 0; i < 60; i++) {
		add("a/x", i);
		assert_string_equal(due(), "none");
		clock_fake_advance_ms(500);
	}
	assert_string_equal(due(), "a/");
}

static void somebody_who_waits_makes_it_sooner(void **state)
{
	add("a/b/x", 1);
	add("c/x", 2);
	verify_folders_hurry(&folders, "a");
	clock_fake_advance_ms(QUIET_MS / 4);
	assert_string_equal(due(), "a/b/");
	assert_true(folders.sorted[0]->hurry);
	assert_false(folders.sorted[1]->hurry);
	verify_folders_hurry(&folders, "c/x"); /* a file */
	assert_true(folders.sorted[1]->hurry);
}

static void nothing_to_come_is_not_waited_for(void **state)
{
	add("a/x", 1);
	more = false;
	assert_string_equal(due(), "none");
	verify_folders_hurry(&folders, "a");
	assert_string_equal(due(), "a/");
	more = true;
	assert_string_equal(due(), "none");
}

static void names_that_only_begin_alike_do_not_hurry(void **state)
{
	add("ab/x", 1);
	verify_folders_hurry(&folders, "a");
	assert_false(folders.sorted[0]->hurry);
	verify_folders_hurry(&folders, "");
	assert_true(folders.sorted[0]->hurry);
}

static void failures_wait_longer_each_time(void **state)
{
	int64_t last_ms = 0;

	add("a/x", 1);
	clock_fake_advance_ms(QUIET_MS);
	for (unsigned i = 0; i < 20; i++) {
		int64_t wait_ms;

		verify_folder_failed(folders.sorted[0], -ENETDOWN);
		wait_ms = folders.sorted[0]->not_before_ms - clock_mono_ms();
		assert_true(wait_ms >= last_ms && wait_ms <= 600000);
		last_ms = wait_ms;
	}
	assert_int_equal(last_ms, 600000);
	assert_string_equal(due(), "none");
	clock_fake_advance_ms(600000);
	assert_string_equal(due(), "a/");
}

static void listings_are_looked_up_by_key(void **state)
{
	struct verify_listing l = {0};
	struct s3_object shown = {.etag = "tag"};
	struct store_object ours = {.etag = "tag"};

	assert_int_equal(verify_listing_look(&l, &ours), SHOWN_NOT);
	for (unsigned i = 0; i < 5000; i++) {
		int len = snprintf(ours.key, sizeof(ours.key), "a/%u", i);

		shown.size_bytes = i;
		assert_int_equal(verify_listing_add(&l, ours.key, (size_t)len, &shown), 0);
	}
	verify_listing_finish(&l);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(ours.key, sizeof(ours.key), "a/%u", i);
		ours.size_bytes = i;
		assert_int_equal(verify_listing_look(&l, &ours), SHOWN_EQUAL);
		ours.size_bytes = i + 1;
		assert_int_equal(verify_listing_look(&l, &ours), SHOWN_DIFFERENT);
	}
	snprintf(ours.key, sizeof(ours.key), "a/5000");
	assert_int_equal(verify_listing_look(&l, &ours), SHOWN_NOT);
	snprintf(ours.key, sizeof(ours.key), "a/7");
	ours.size_bytes = 7;
	ours.etag[0] = '\0';
	assert_int_equal(verify_listing_look(&l, &ours), SHOWN_DIFFERENT);
	verify_listing_release(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_folder_is_due_when_quiet, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_busy_folder_is_due_every_half_minute, setup, teardown),
		cmocka_unit_test_setup_teardown(
			somebody_who_waits_makes_it_sooner, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_to_come_is_not_waited_for, setup, teardown),
		cmocka_unit_test_setup_teardown(
			names_that_only_begin_alike_do_not_hurry, setup, teardown),
		cmocka_unit_test_setup_teardown(failures_wait_longer_each_time, setup, teardown),
		cmocka_unit_test(listings_are_looked_up_by_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
