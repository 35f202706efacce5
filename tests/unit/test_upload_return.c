/* A file that comes back to a name under which something else was sent meanwhile: what its record says
 * of the bucket is of before. */
#include "upload_fake.h"

/* What was sent without an answer stays in doubt for seconds: the clock goes on with each look. A state
 * in between that lasts longer than a step is seen. */
#define wait_on(cond) wait_advancing(20, cond)

static uint64_t deleting_count(struct bench *b)
{
	struct store_counts counts;

	assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0);
	return counts.files[FILE_DELETING];
}

/* It is uploaded, nothing is to be deleted any more: then the bucket has it. */
static void wait_there(struct bench *b, uint64_t ino, const char *key, const char *text)
{
	wait_on(state_of(b, ino) == FILE_UPLOADED);
	wait_on(deleting_count(b) == 0 && attempts_standing(b) == 0);
	wait_on(state_of(b, ino) == FILE_UPLOADED);
	assert_true(fake_has(b->fake, key, text, strlen(text)));
}

/* Put aside under a name that is held, another one was sent under the old name, and back over it. */
static void returns(bool aws, const char *other)
{
	struct bench *b = bench_open_with_clock(aws);
	uint64_t one = uploaded(b, "p/d/one", "first");

	rename_in(b, "p/d", "one", "one.tmp");
	wait_on(state_of(b, one) == FILE_HELD);
	uploaded(b, "p/d/one", other);
	rename_in(b, "p/d", "one.tmp", "one");
	wait_there(b, one, "p/d/one", "first");
	assert_int_equal(fake_object_count(b->fake), 1);
	bench_end_with_clock(b);
}

static void test_replaced_by_other_content(void **state)
{
	(void)state;
	returns(true, "second");
	returns(false, "second");
}

static void test_replaced_by_the_same_content(void **state)
{
	(void)state;
	returns(true, "first");
	returns(false, "first");
}

/* Written anew and sent, and before the answer has come, again with what the bucket held before: its
 * record says that of the bucket yet. */
static void rewritten_back(bool aws)
{
	struct bench *b = bench_open_with_clock(aws);
	uint64_t one = uploaded(b, "p/d/one", "first");

	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_LOSE_AFTER});
	write_text(b, "p/d/one", "second");
	wait_on(state_of(b, one) == FILE_UNKNOWN);
	write_text(b, "p/d/one", "first");
	wait_there(b, one, "p/d/one", "first");
	bench_end_with_clock(b);
}

static void test_rewritten_back_while_sent(void **state)
{
	(void)state;
	rewritten_back(true);
	rewritten_back(false);
}

/* ---- carried out late: when nobody waits for it any more, and after what was sent instead ------- */

static void test_first_version_late(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = bench_open_with_clock(aws);
		uint64_t one;

		fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_LATE});
		one = write_text(b, "p/d/one", "first");
		wait_on(state_of(b, one) == FILE_UNKNOWN);
		write_text(b, "p/d/one", "second");
		wait_there(b, one, "p/d/one", "second");
		assert_int_equal(fake_late(b->fake), 412);
		assert_true(fake_has(b->fake, "p/d/one", "second", 6));
		bench_end_with_clock(b);
	}
}

static void test_later_version_late(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = bench_open_with_clock(aws);
		uint64_t one = uploaded(b, "p/d/one", "first");

		fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_LATE});
		write_text(b, "p/d/one", "second");
		wait_on(state_of(b, one) == FILE_UNKNOWN);
		write_text(b, "p/d/one", "third");
		wait_there(b, one, "p/d/one", "third");
		assert_int_equal(fake_late(b->fake), 412);
		assert_true(fake_has(b->fake, "p/d/one", "third", 5));
		bench_end_with_clock(b);
	}
}

/* A copy names what it copies: once that was replaced or moved on it copies nothing. */
static void test_copy_late(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t one = uploaded(b, "p/d/one", "first");

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_COPY, .kind = FAULT_LATE});
	rename_in(b, "p/d", "one", "two");
	wait_on(attempts_standing(b) == 1);
	rename_in(b, "p/d", "two", "three");
	wait_there(b, one, "p/d/three", "first");
	assert_int_equal(fake_late(b->fake), 404);
	assert_int_equal(fake_object_count(b->fake), 1);
	bench_end_with_clock(b);
}

static void test_delete_late(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t again;

	(void)state;
	uploaded(b, "p/d/one", "first");
	fake_fault(b->fake, (struct fake_fault){.op = S3_DELETE, .kind = FAULT_LATE});
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), "one", 0), 0);
	wait_on(fake_count(b->fake, S3_DELETE) == 1);
	again = write_text(b, "p/d/one", "second");
	wait_there(b, again, "p/d/one", "second");
	assert_int_equal(fake_late(b->fake), 412);
	assert_true(fake_has(b->fake, "p/d/one", "second", 6));
	bench_end_with_clock(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replaced_by_other_content),
		cmocka_unit_test(test_replaced_by_the_same_content),
		cmocka_unit_test(test_rewritten_back_while_sent),
		cmocka_unit_test(test_first_version_late),
		cmocka_unit_test(test_later_version_late),
		cmocka_unit_test(test_copy_late),
		cmocka_unit_test(test_delete_late),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
