/* One version's life against a scripted bucket: sent once, right, and what goes wrong in between. */
#include "upload_fake.h"

#define STEP_MS 20 /* of the fake clock while a test waits: pauses between attempts take no time */

static struct bench *open_bench(bool aws)
{
	struct bench *b = bench_begin(aws);

	bench_open_upload(b);
	return b;
}

static void test_one_file(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = write_text(b, "p/a/one.txt", "hello");
	struct store_inode inode;
	struct upload_status status;

	(void)state;
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/a/one.txt", "hello", 5));
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	assert_int_equal(fake_count(b->fake, S3_HEAD), 0);
	assert_int_equal(store_inode(b->store, ino, &inode), 0);
	assert_string_equal(inode.object.key, "p/a/one.txt");
	assert_string_equal(inode.object.etag, "5d41402abc4b2a76b9719d911017c592");
	assert_int_equal(inode.object.generation, inode.attr.generation);
	assert_true(inode.object.has_crc64nvme);
	assert_int_equal(attempts_standing(b), 0);
	upload_status(b->upload, &status);
	assert_int_equal(status.pauses, 0);
	wait_until((upload_status(b->upload, &status), status.objects_sent_total == 1));
	assert_int_equal(status.bytes_sent_total, 5);
	bench_end(b);
}

static void test_empty_file(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = write_text(b, "p/empty", "");

	(void)state;
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/empty", "", 0));
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	bench_end(b);
}

static void test_many_files_once_each(void **state)
{
	struct bench *b = open_bench(true);
	struct store_counts counts;
	char path[64], text[32];

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(path, sizeof(path), "p/plate/%03u/f%u.tif.txt", i % 7, i);
		snprintf(text, sizeof(text), "content of %u", i);
		write_text(b, path, text);
	}
	wait_until((assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0),
		counts.files[FILE_UPLOADED] == 1000));
	assert_int_equal(fake_count(b->fake, S3_PUT), 1000);
	assert_int_equal(fake_object_count(b->fake), 1000);
	assert_true(fake_has(b->fake, "p/plate/006/f6.tif.txt", "content of 6", 12));
	bench_end(b);
}

/* No checksums, conditions not known: SHA-256 goes along, the key is looked at first. */
static void test_server_without_checksums(void **state)
{
	struct bench *b = open_bench(false);
	uint64_t ino = write_text(b, "p/one", "hello");

	(void)state;
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/one", "hello", 5));
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	assert_int_equal(fake_count(b->fake, S3_HEAD), 1);
	bench_end(b);
}

/* ---- names -------------------------------------------------------------------------------------- */

static void test_held_by_name_until_renamed(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = write_text(b, "p/plate/a.tif.part", "hello");
	uint64_t dir = file_ino(b, "p/plate", false);
	struct store_inode inode;

	(void)state;
	wait_state(b, ino, FILE_HELD);
	assert_int_equal(store_inode(b->store, ino, &inode), 0);
	assert_int_equal(inode.held, HELD_TEMPORARY);
	assert_int_not_equal(inode.reason[0], '\0');
	assert_int_equal(store_rename(b->store, dir, "a.tif.part", dir, "a.bin", 0, 0), 0);
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/plate/a.bin", "hello", 5));
	assert_int_equal(fake_object_count(b->fake), 1);
	bench_end(b);
}

/* A plate was removed and is being copied again: what is to be deleted waits for those who come, however
 * many they are, and nobody waits for that. */
static void test_deletes_left_to_newcomers_hold_up_nobody(void **state)
{
	struct bench *b = bench_begin(true);
	struct store_object object = {.etag = "old", .size_bytes = 3};
	uint64_t ino;

	(void)state;
	wait_step_ms = 0;
	for (unsigned i = 0; i < WAITS_MAX + 10; i++) {
		snprintf(object.key, sizeof(object.key), "p/plate/%u", i);
		file_ino(b, object.key, true);
		assert_int_equal(store_stray_add(b->store, &object, clock_wall_ns()), 0);
	}
	ino = write_text(b, "p/one", "hello");
	bench_open_upload(b);
	wait_state(b, ino, FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_DELETE), 0);
	bench_end(b);
	wait_step_ms = STEP_MS;
}

static void test_outside_the_prefix(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = write_text(b, "other/a", "hello");
	char reason[256];

	(void)state;
	wait_state(b, ino, FILE_HELD);
	reason_of(b, ino, reason);
	assert_non_null(strstr(reason, "prefix"));
	assert_int_equal(fake_count(b->fake, S3_PUT), 0);
	bench_end(b);
}

static void test_cut_off_tiff_waits_for_accept(void **state)
{
	struct bench *b = open_bench(true);
	/* little endian, first directory at 0x1000, the file ends before */
	static const char tiff[] = "II*\0\0\x10\0\0 and some pixels";
	uint64_t ino = write_file(b, "p/cut.tif", tiff, sizeof(tiff) - 1);

	(void)state;
	wait_state(b, ino, FILE_INCOMPLETE);
	assert_int_equal(fake_count(b->fake, S3_PUT), 0);
	assert_int_equal(upload_accept(b->upload, "p"), 1);
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/cut.tif", tiff, sizeof(tiff) - 1));
	bench_end(b);
}

/* ---- again and again ---------------------------------------------------------------------------- */

static void test_unchanged_is_not_sent_again(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = write_text(b, "p/one", "hello");
	struct store_inode inode;

	(void)state;
	wait_state(b, ino, FILE_UPLOADED);
	write_text(b, "p/one", "hello");
	wait_until(state_of(b, ino) == FILE_UPLOADED &&
		   (assert_int_equal(store_inode(b->store, ino, &inode), 0),
			   inode.object.generation == inode.attr.generation));
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	assert_int_equal(fake_count(b->fake, S3_HEAD), 1); /* is it still there? */
	write_text(b, "p/one", "world");
	wait_until(fake_has(b->fake, "p/one", "world", 5));
	wait_state(b, ino, FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	bench_end(b);
}

static void test_transient_errors_are_retried(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino;

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .class = S3_RETRY,
		.http_status = 400, .code = "RequestTimeout"});
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .class = S3_THROTTLED,
		.http_status = 503, .code = "SlowDown"});
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .class = S3_CLOCK,
		.http_status = 403, .code = "RequestTimeTooSkewed"});
	ino = write_text(b, "p/one", "hello");
	wait_state(b, ino, FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_PUT), 4);
	assert_int_equal(fake_count(b->fake, S3_HEAD), 0);
	bench_end(b);
}

static void test_fatal_fails_one_file_only(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t bad, good;
	char reason[256];

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .class = S3_FATAL,
		.http_status = 400, .code = "KeyTooLongError", .key_has = "bad"});
	bad = write_text(b, "p/bad", "hello");
	good = write_text(b, "p/good", "hello");
	wait_state(b, bad, FILE_FAILED);
	wait_state(b, good, FILE_UPLOADED);
	reason_of(b, bad, reason);
	assert_non_null(strstr(reason, "KeyTooLongError"));
	assert_int_equal(upload_retry(b->upload, ""), 1);
	wait_state(b, bad, FILE_UPLOADED);
	bench_end(b);
}

/* ---- lost answers ------------------------------------------------------------------------------- */

static void lost_answer(bool aws, enum fault_kind kind, unsigned puts)
{
	struct bench *b = open_bench(aws);
	uint64_t ino;

	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = kind});
	ino = write_text(b, "p/one", "hello");
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/one", "hello", 5));
	assert_int_equal(fake_count(b->fake, S3_PUT), puts);
	assert_int_equal(attempts_standing(b), 0);
	bench_end(b);
}

static void test_answer_lost_after_applying(void **state)
{
	(void)state;
	lost_answer(true, FAULT_LOSE_AFTER, 1);
	lost_answer(false, FAULT_LOSE_AFTER, 1);
}

static void test_answer_lost_before_applying(void **state)
{
	(void)state;
	lost_answer(true, FAULT_LOSE_BEFORE, 2);
	lost_answer(false, FAULT_LOSE_BEFORE, 2);
}

static void test_answer_without_proof_is_asked(void **state)
{
	static const enum fault_kind kinds[] = {FAULT_NO_ETAG, FAULT_WRONG_ECHO};

	(void)state;
	for (unsigned i = 0; i < array_len(kinds); i++) {
		struct bench *b = open_bench(true);
		struct store_inode inode;
		uint64_t ino;

		fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = kinds[i]});
		ino = write_text(b, "p/one", "hello");
		wait_state(b, ino, FILE_UPLOADED);
		assert_int_equal(store_inode(b->store, ino, &inode), 0);
		assert_string_equal(inode.object.etag, "5d41402abc4b2a76b9719d911017c592");
		assert_int_equal(fake_count(b->fake, S3_PUT), 1);
		assert_int_equal(fake_count(b->fake, S3_HEAD), 1);
		bench_end(b);
	}
}

/* No checksums, and ETags that say nothing, also if they look like MD5s: its content tells that the object
 * is ours. */
static void test_answer_lost_where_etags_say_nothing(void **state)
{
	(void)state;
	for (unsigned hex = 0; hex < 2; hex++) {
		struct bench *b = open_bench(false);
		uint64_t ino;

		b->fake->opaque_etags = true;
		b->fake->hex_etags = hex;
		fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_LOSE_AFTER});
		ino = write_text(b, "p/one", "hello");
		wait_until(state_of(b, ino) == FILE_UPLOADED || state_of(b, ino) == FILE_CONFLICT);
		assert_int_equal(state_of(b, ino), FILE_UPLOADED);
		assert_int_equal(fake_count(b->fake, S3_PUT), 1);
		assert_int_equal(fake_count(b->fake, S3_GET), 1);
		bench_end(b);
	}
}

static bool reason_has(struct bench *b, uint64_t ino, const char *text)
{
	char reason[256];

	reason_of(b, ino, reason);
	return strstr(reason, text) != NULL;
}

/* Nor may anybody ask what became of it. */
static void test_answer_lost_where_nobody_may_ask(void **state)
{
	struct bench *b = open_bench(true);
	struct fake_fault denied = {.kind = FAULT_REFUSE, .times = 1, .class = S3_DENIED,
		.http_status = 403, .code = "AccessDenied"};
	uint64_t ino;

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_LOSE_AFTER});
	denied.op = S3_HEAD;
	fake_fault(b->fake, denied);
	denied.op = S3_LIST;
	fake_fault(b->fake, denied);
	ino = write_text(b, "p/one", "hello");
	wait_until(reason_has(b, ino, "may not be asked (AccessDenied)"));
	assert_int_equal(state_of(b, ino), FILE_UNKNOWN);
	bench_restart(b);
	wait_state(b, ino, FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	bench_end(b);
}

/* Applied, answer lost, and then the file is rewritten: the object is ours, not a conflict. */
static void test_lost_answer_then_rewritten(void **state)
{
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t ino;

		(void)state;
		fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_LOSE_AFTER});
		fake_set_hold(b->fake, S3_HEAD, true);
		b->fake->knows_enforces[S3_IF_NONE_MATCH][S3_PUT] = true;
		ino = write_text(b, "p/one", "hello");
		wait_state(b, ino, FILE_UNKNOWN);
		write_text(b, "p/one", "world, rewritten");
		fake_set_hold(b->fake, S3_HEAD, false);
		wait_until(fake_has(b->fake, "p/one", "world, rewritten", 16));
		wait_state(b, ino, FILE_UPLOADED);
		wait_until(fake_object_count(b->fake) == 1 && attempts_standing(b) == 0);
		assert_int_equal(fake_count(b->fake, S3_PUT), 2);
		bench_end(b);
	}
}

/* The server carries a request out after the first question about it: what it made is ours. */
static void test_applied_after_it_was_asked_for(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino;

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_LOSE_BEFORE});
	ino = write_text(b, "p/one", "hello");
	wait_until(fake_count(b->fake, S3_LIST) == 1 && attempts_standing(b) == 1);
	fake_put(b->fake, "p/one", "hello");
	write_text(b, "p/one", "world, rewritten");
	wait_until(fake_has(b->fake, "p/one", "world, rewritten", 16));
	wait_state(b, ino, FILE_UPLOADED);
	wait_until(attempts_standing(b) == 0);
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	bench_end(b);
}

/* ---- changes while it is sent ------------------------------------------------------------------- */

static void test_rewritten_while_sent(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino;

	(void)state;
	fake_set_hold(b->fake, S3_PUT, true);
	ino = write_text(b, "p/one", "hello");
	wait_until(fake_count(b->fake, S3_PUT) == 1);
	write_text(b, "p/one", "world");
	wait_until(state_of(b, ino) == FILE_QUEUED);
	assert_int_equal(fake_count(b->fake, S3_PUT), 1); /* one write per key at a time */
	fake_set_hold(b->fake, S3_PUT, false);
	wait_until(fake_has(b->fake, "p/one", "world", 5));
	wait_state(b, ino, FILE_UPLOADED);
	wait_until(attempts_standing(b) == 0);
	bench_end(b);
}

static void test_renamed_while_sent(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t dir, ino;

	(void)state;
	fake_set_hold(b->fake, S3_PUT, true);
	ino = write_text(b, "p/d/one", "hello");
	dir = file_ino(b, "p/d", false);
	wait_until(fake_count(b->fake, S3_PUT) == 1);
	assert_int_equal(store_rename(b->store, dir, "one", dir, "two", 0, 0), 0);
	fake_set_hold(b->fake, S3_PUT, false);
	wait_until(fake_has(b->fake, "p/d/two", "hello", 5));
	wait_until(fake_object_count(b->fake) == 1);
	wait_state(b, ino, FILE_UPLOADED);
	bench_end(b);
}

static void test_deleted_while_sent(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t dir;

	(void)state;
	fake_set_hold(b->fake, S3_PUT, true);
	write_text(b, "p/d/one", "hello");
	dir = file_ino(b, "p/d", false);
	wait_until(fake_count(b->fake, S3_PUT) == 1);
	assert_int_equal(store_unlink(b->store, dir, "one", 0), 0);
	fake_set_hold(b->fake, S3_PUT, false);
	wait_until(fake_count(b->fake, S3_DELETE) == 1);
	wait_until(fake_object_count(b->fake) == 0);
	bench_end(b);
}

/* ---- restart ------------------------------------------------------------------------------------ */

static void test_restart_while_sent(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino;

	(void)state;
	fake_set_hold(b->fake, S3_PUT, true);
	ino = write_text(b, "p/one", "hello");
	wait_until(fake_count(b->fake, S3_PUT) == 1);
	b->fake->s3.ops->learn(&b->fake->s3, S3_PUT, S3_IF_NONE_MATCH, true);
	bench_stop_upload(b);
	fake_set_hold(b->fake, S3_PUT, false);
	bench_close_store(b);
	bench_open_store(b);
	bench_open_upload(b);
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/one", "hello", 5));
	assert_int_equal(attempts_standing(b), 0);
	bench_end(b);
}

static void test_restart_with_a_queue(void **state)
{
	struct bench *b = bench_begin(true);
	struct store_counts counts;
	char path[64];

	(void)state;
	b->config.start_paused = true;
	bench_open_upload(b);
	for (unsigned i = 0; i < 200; i++) {
		snprintf(path, sizeof(path), "p/f%u", i);
		write_text(b, path, path);
	}
	wait_until((assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0),
		counts.files[FILE_QUEUED] == 200));
	assert_int_equal(fake_count(b->fake, S3_PUT), 0);
	b->config.start_paused = false;
	bench_restart(b);
	wait_until((assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0),
		counts.files[FILE_UPLOADED] == 200));
	assert_int_equal(fake_count(b->fake, S3_PUT), 200);
	bench_end(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_file),
		cmocka_unit_test(test_empty_file),
		cmocka_unit_test(test_many_files_once_each),
		cmocka_unit_test(test_server_without_checksums),
		cmocka_unit_test(test_held_by_name_until_renamed),
		cmocka_unit_test(test_deletes_left_to_newcomers_hold_up_nobody),
		cmocka_unit_test(test_outside_the_prefix),
		cmocka_unit_test(test_cut_off_tiff_waits_for_accept),
		cmocka_unit_test(test_unchanged_is_not_sent_again),
		cmocka_unit_test(test_transient_errors_are_retried),
		cmocka_unit_test(test_fatal_fails_one_file_only),
		cmocka_unit_test(test_answer_lost_after_applying),
		cmocka_unit_test(test_answer_lost_before_applying),
		cmocka_unit_test(test_answer_without_proof_is_asked),
		cmocka_unit_test(test_answer_lost_where_etags_say_nothing),
		cmocka_unit_test(test_answer_lost_where_nobody_may_ask),
		cmocka_unit_test(test_lost_answer_then_rewritten),
		cmocka_unit_test(test_applied_after_it_was_asked_for),
		cmocka_unit_test(test_rewritten_while_sent),
		cmocka_unit_test(test_renamed_while_sent),
		cmocka_unit_test(test_deleted_while_sent),
		cmocka_unit_test(test_restart_while_sent),
		cmocka_unit_test(test_restart_with_a_queue),
	};
	clock_fake_begin(clock_wall_ns());
	wait_step_ms = STEP_MS;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
