/* Versions in parts: sent once, resumed after a kill, aborted when stale, no upload left open. */
#include "upload_fake.h"

#define STEP_MS 20 /* of the fake clock while a test waits: pauses between attempts take no time */

#define LEN (5 * PART + 100)

static struct bench *open_bench(bool aws)
{
	struct bench *b = bench_begin(aws);

	bench_open_upload(b);
	return b;
}

static void check_done(struct bench *b, uint64_t ino, const char *key, const uint8_t *data)
{
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, key, data, LEN));
	wait_until(attempts_standing(b) == 0);
	assert_int_equal(fake_open_uploads(b->fake), 0);
}

static void test_sent_in_parts(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint8_t *data = pattern(LEN, 1);
		uint64_t ino = write_file(b, "p/big", data, LEN);

		check_done(b, ino, "p/big", data);
		assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
		assert_int_equal(fake_count(b->fake, S3_UPLOAD_PART), 6);
		assert_int_equal(fake_count(b->fake, S3_COMPLETE_MULTIPART), 1);
		assert_int_equal(fake_count(b->fake, S3_PUT), 0);
		free(data);
		bench_end(b);
	}
}

/* threshold - 1, threshold, threshold + 1 */
static void test_around_the_threshold(void **state)
{
	struct bench *b = open_bench(true);
	uint8_t *data = pattern(THRESHOLD + 1, 1);

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		char path[32];
		uint64_t ino;

		snprintf(path, sizeof(path), "p/t%u", i);
		ino = write_file(b, path, data, THRESHOLD - 1 + i);
		wait_state(b, ino, FILE_UPLOADED);
		assert_true(fake_has(b->fake, path, data, THRESHOLD - 1 + i));
	}
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	assert_int_equal(fake_count(b->fake, S3_UPLOAD_PART), 3);
	free(data);
	bench_end(b);
}

static void test_part_errors_repeat_that_part(void **state)
{
	struct bench *b = open_bench(true);
	uint8_t *data = pattern(LEN, 1);
	uint64_t ino;

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_UPLOAD_PART, .kind = FAULT_REFUSE, .skip = 1,
		.class = S3_RETRY, .http_status = 500, .code = "InternalError"});
	fake_fault(b->fake, (struct fake_fault){
		.op = S3_UPLOAD_PART, .kind = FAULT_LOSE_AFTER, .skip = 2});
	fake_fault(b->fake, (struct fake_fault){
		.op = S3_UPLOAD_PART, .kind = FAULT_NO_ETAG, .skip = 3});
	ino = write_file(b, "p/big", data, LEN);
	check_done(b, ino, "p/big", data);
	assert_int_equal(fake_count(b->fake, S3_UPLOAD_PART), 9);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
	free(data);
	bench_end(b);
}

/* All parts at once is one failure of each, and not six in a row: none waits longer than after the first. */
static void test_parts_that_fail_at_once(void **state)
{
	struct bench *b = bench_begin(true);
	uint8_t *data = pattern(LEN, 1);
	struct upload_status status;
	uint64_t ino;

	(void)state;
	wait_step_ms = 0;
	fake_fault(b->fake, (struct fake_fault){.op = S3_UPLOAD_PART, .kind = FAULT_REFUSE, .times = 6,
		.class = S3_RETRY, .http_status = 500, .code = "InternalError"});
	fake_set_hold(b->fake, S3_UPLOAD_PART, true);
	ino = write_file(b, "p/big", data, LEN);
	bench_open_upload(b); /* news of a closed file would wait for the clock */
	wait_until(fake_in_flight(b->fake, S3_UPLOAD_PART) == 6);
	fake_set_hold(b->fake, S3_UPLOAD_PART, false);
	wait_until((upload_status(b->upload, &status), status.retries_total == 6));
	clock_fake_advance_ms(500);
	check_done(b, ino, "p/big", data);
	free(data);
	bench_end(b);
	wait_step_ms = STEP_MS;
}

static void complete_fault(bool aws, struct fake_fault fault, unsigned creates)
{
	struct bench *b = open_bench(aws);
	uint8_t *data = pattern(LEN, 1);
	uint64_t ino;

	fault.op = S3_COMPLETE_MULTIPART;
	fake_fault(b->fake, fault);
	ino = write_file(b, "p/big", data, LEN);
	check_done(b, ino, "p/big", data);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), creates);
	assert_int_equal(fake_count(b->fake, S3_UPLOAD_PART), 6 * creates);
	free(data);
	bench_end(b);
}

static void test_complete_answer_lost(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		complete_fault(aws, (struct fake_fault){.kind = FAULT_LOSE_AFTER}, 1);
		complete_fault(aws, (struct fake_fault){.kind = FAULT_LOSE_BEFORE}, 1);
		complete_fault(aws, (struct fake_fault){.kind = FAULT_NO_ETAG}, 1);
	}
}

static void test_complete_refused(void **state)
{
	(void)state;
	complete_fault(true, (struct fake_fault){.kind = FAULT_REFUSE, .class = S3_THROTTLED,
		.http_status = 503, .code = "SlowDown"}, 1);
	complete_fault(true, (struct fake_fault){.kind = FAULT_REFUSE, .class = S3_CONFLICT,
		.http_status = 409, .code = "ConditionalRequestConflict"}, 2);
	complete_fault(true, (struct fake_fault){.kind = FAULT_REFUSE, .class = S3_FATAL,
		.http_status = 400, .code = "InvalidPart"}, 2);
	complete_fault(true, (struct fake_fault){.kind = FAULT_REFUSE, .class = S3_RETRY,
		.http_status = 400, .code = "BadDigest"}, 2);
}

/* Something in between sends Complete again, and its second answer comes back: the object is ours,
 * also where only its content can tell. */
static void test_completed_twice(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct bench *b = open_bench(i == 0);
		uint8_t *data = pattern(LEN, 1);
		uint64_t ino;

		b->fake->opaque_etags = i >= 2;
		b->fake->opaque_parts = i == 3;
		fake_fault(b->fake,
			(struct fake_fault){.op = S3_COMPLETE_MULTIPART, .kind = FAULT_TWICE});
		ino = write_file(b, "p/big", data, LEN);
		check_done(b, ino, "p/big", data);
		assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
		assert_int_equal(fake_count(b->fake, S3_GET), i >= 2);
		free(data);
		bench_end(b);
	}
}

/* Its answer is lost as well, and it is carried out only once the upload is gone on with, or the daemon
 * is killed while it aborts what is gone. */
static void test_completed_late(void **state)
{
	(void)state;
	for (unsigned opaque = 0; opaque < 2; opaque++) {
		struct bench *b = open_bench(false);
		uint8_t *data = pattern(LEN, 1);
		uint64_t ino;

		b->fake->opaque_etags = b->fake->opaque_parts = opaque;
		fake_fault(b->fake,
			(struct fake_fault){.op = S3_COMPLETE_MULTIPART, .kind = FAULT_LATE});
		fake_set_hold(b->fake, S3_LIST_PARTS, true);
		ino = write_file(b, "p/big", data, LEN);
		wait_until(fake_count(b->fake, S3_LIST_PARTS) == 1);
		assert_int_equal(fake_late(b->fake), 200);
		fake_set_hold(b->fake, S3_ABORT_MULTIPART, true);
		fake_set_hold(b->fake, S3_LIST_PARTS, false);
		wait_until(fake_count(b->fake, S3_ABORT_MULTIPART) == 1);
		bench_kill(b, false);
		bench_open_upload(b);
		check_done(b, ino, "p/big", data);
		assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
		free(data);
		bench_end(b);
	}
}

/* The server forgot the upload (someone aborted it): begun anew. */
static void test_no_such_upload(void **state)
{
	struct bench *b = open_bench(true);
	uint8_t *data = pattern(LEN, 1);
	uint64_t ino;

	(void)state;
	fake_set_hold(b->fake, S3_UPLOAD_PART, true);
	ino = write_file(b, "p/big", data, LEN);
	wait_until(fake_count(b->fake, S3_UPLOAD_PART) >= 1);
	lock_take(&b->fake->lock);
	fake_close_upload(&b->fake->uploads[0]);
	lock_drop(&b->fake->lock);
	fake_set_hold(b->fake, S3_UPLOAD_PART, false);
	check_done(b, ino, "p/big", data);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 2);
	free(data);
	bench_end(b);
}

/* Complete was applied, its answer lost, and an older object of the same size is no proof. */
static void test_aborted_and_older_object_of_same_size(void **state)
{
	struct bench *b = bench_begin(true);
	uint8_t *data = pattern(LEN, 1), *other = pattern(LEN, 2);
	uint64_t ino;

	(void)state;
	b->config.allow_overwrite = true;
	bench_open_upload(b);
	lock_take(&b->fake->lock);
	fake_store(b->fake, "p/big", other, LEN);
	lock_drop(&b->fake->lock);
	fake_fault(b->fake, (struct fake_fault){.op = S3_COMPLETE_MULTIPART,
		.kind = FAULT_REFUSE, .class = S3_NOT_FOUND, .http_status = 404, .code = "NoSuchUpload"});
	ino = write_file(b, "p/big", data, LEN);
	wait_until(fake_has(b->fake, "p/big", data, LEN));
	wait_state(b, ino, FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 2);
	free(data);
	free(other);
	bench_end(b);
}

static void test_rewritten_while_sent(void **state)
{
	struct bench *b = open_bench(true);
	uint8_t *data = pattern(LEN, 1), *other = pattern(LEN, 2);
	uint64_t ino;

	(void)state;
	fake_set_hold(b->fake, S3_UPLOAD_PART, true);
	ino = write_file(b, "p/big", data, LEN);
	wait_until(fake_count(b->fake, S3_UPLOAD_PART) >= 2);
	write_file(b, "p/big", other, LEN);
	fake_set_hold(b->fake, S3_UPLOAD_PART, false);
	wait_until(fake_has(b->fake, "p/big", other, LEN));
	check_done(b, ino, "p/big", other);
	assert_int_equal(fake_count(b->fake, S3_ABORT_MULTIPART), 1);
	free(data);
	free(other);
	bench_end(b);
}

/* Nobody wants the rest of it. */
static void test_unlinked_while_sent(void **state)
{
	struct bench *b = open_bench(true);
	uint8_t *data = pattern(LEN, 1);
	unsigned parts;

	(void)state;
	fake_set_hold(b->fake, S3_UPLOAD_PART, true);
	write_file(b, "p/big", data, LEN);
	wait_until(fake_count(b->fake, S3_UPLOAD_PART) >= 2);
	assert_int_equal(store_unlink(b->store, file_ino(b, "p", false), "big", 0), 0);
	wait_until(fake_count(b->fake, S3_ABORT_MULTIPART) == 1);
	parts = fake_count(b->fake, S3_UPLOAD_PART); /* the next may have begun before the unlink */
	fake_set_hold(b->fake, S3_UPLOAD_PART, false);
	wait_until(attempts_standing(b) == 0);
	assert_int_equal(fake_count(b->fake, S3_UPLOAD_PART), parts);
	assert_int_equal(fake_count(b->fake, S3_COMPLETE_MULTIPART), 0);
	assert_int_equal(fake_open_uploads(b->fake), 0);
	free(data);
	bench_end(b);
}

/* Its data file is cut off behind our back: it is lost, and its upload does not wait for better times. */
static void test_cut_off_while_sent(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint8_t *data = pattern(LEN, 1);
		char command[256];
		uint64_t ino;

		fake_set_hold(b->fake, S3_UPLOAD_PART, true);
		ino = write_file(b, "p/big", data, LEN);
		wait_until(fake_count(b->fake, S3_UPLOAD_PART) >= 2);
		snprintf(command, sizeof(command),
			"find %s/data -type f -size +200k -exec truncate -s 2 {} +", b->dir);
		assert_int_equal(system(command), 0);
		fake_set_hold(b->fake, S3_UPLOAD_PART, false);
		wait_state(b, ino, FILE_LOST);
		wait_until(attempts_standing(b) == 0);
		assert_int_equal(fake_open_uploads(b->fake), 0);
		assert_int_equal(fake_object_count(b->fake), 0);
		free(data);
		bench_end(b);
	}
}

/* Rewritten while Complete is on its way: the old version is whole, the new one replaces it. */
static void test_rewritten_while_completing(void **state)
{
	struct bench *b = open_bench(true);
	uint8_t *data = pattern(LEN, 1), *other = pattern(LEN, 2);
	uint64_t ino;

	(void)state;
	fake_set_hold(b->fake, S3_COMPLETE_MULTIPART, true);
	ino = write_file(b, "p/big", data, LEN);
	wait_until(fake_count(b->fake, S3_COMPLETE_MULTIPART) == 1);
	write_file(b, "p/big", other, LEN);
	wait_until(state_of(b, ino) == FILE_QUEUED);
	fake_set_hold(b->fake, S3_COMPLETE_MULTIPART, false);
	wait_until(fake_has(b->fake, "p/big", other, LEN));
	check_done(b, ino, "p/big", other);
	free(data);
	free(other);
	bench_end(b);
}

static void test_conflict_appears_meanwhile(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint8_t *data = pattern(LEN, 1);
		uint64_t ino;

		fake_set_hold(b->fake, S3_UPLOAD_PART, true);
		ino = write_file(b, "p/big", data, LEN);
		wait_until(fake_count(b->fake, S3_UPLOAD_PART) >= 1);
		fake_put(b->fake, "p/big", "theirs");
		fake_set_hold(b->fake, S3_UPLOAD_PART, false);
		wait_state(b, ino, FILE_CONFLICT);
		assert_true(fake_has(b->fake, "p/big", "theirs", 6));
		wait_until(attempts_standing(b) == 0);
		assert_int_equal(fake_open_uploads(b->fake), 0);
		free(data);
		bench_end(b);
	}
}

/* A part that the policy refuses: failed with the reason, nothing left open. */
static void test_denied_part(void **state)
{
	struct bench *b = open_bench(true);
	uint8_t *data = pattern(LEN, 1);
	char reason[256];
	uint64_t ino;

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_UPLOAD_PART, .kind = FAULT_REFUSE,
		.times = 100, .class = S3_DENIED, .http_status = 403, .code = "AccessDenied"});
	fake_fault(b->fake, (struct fake_fault){
		.op = S3_ABORT_MULTIPART, .kind = FAULT_REFUSE, .class = S3_RETRY, .http_status = 500,
		.code = "InternalError"});
	ino = write_file(b, "p/big", data, LEN);
	wait_state(b, ino, FILE_FAILED);
	reason_of(b, ino, reason);
	assert_non_null(strstr(reason, "AccessDenied"));
	wait_until(attempts_standing(b) == 0);
	assert_int_equal(fake_open_uploads(b->fake), 0);
	free(data);
	bench_end(b);
}

/* ---- kill --------------------------------------------------------------------------------------- */

static unsigned parts_recorded(struct bench *b, uint64_t ino)
{
	struct store_chunk c;
	unsigned count = 0;

	for (uint64_t n = 0; store_chunk(b->store, ino, n, &c) == 0; n++)
		count += c.part_attempt != 0;
	return count;
}

static void test_killed_while_sending_parts(void **state)
{
	(void)state;
	for (unsigned carried_out = 0; carried_out < 2; carried_out++) {
		struct bench *b = open_bench(true);
		uint8_t *data = pattern(LEN, 1);
		unsigned sent;
		uint64_t ino;

		fake_fault(b->fake, (struct fake_fault){.op = S3_UPLOAD_PART, .kind = FAULT_REFUSE,
			.skip = 2, .times = 100, .class = S3_RETRY, .http_status = 500, .code = "x"});
		ino = write_file(b, "p/big", data, LEN);
		wait_until(fake_count(b->fake, S3_UPLOAD_PART) >= 6 && parts_recorded(b, ino) == 2);
		fake_set_hold(b->fake, S3_UPLOAD_PART, true);
		bench_kill(b, carried_out);
		lock_take(&b->fake->lock);
		b->fake->fault_count = 0;
		sent = b->fake->count[S3_UPLOAD_PART];
		lock_drop(&b->fake->lock);
		bench_open_upload(b);
		check_done(b, ino, "p/big", data);
		assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
		assert_int_equal(fake_count(b->fake, S3_UPLOAD_PART) - sent, 4);
		free(data);
		bench_end(b);
	}
}

static void killed_at(enum s3_op op, bool carried_out, unsigned uploads_left)
{
	struct bench *b = open_bench(true);
	uint8_t *data = pattern(LEN, 1);
	uint64_t ino;

	b->uploads_left = uploads_left;
	fake_set_hold(b->fake, op, true);
	ino = write_file(b, "p/big", data, LEN);
	wait_until(fake_count(b->fake, op) == 1);
	bench_kill(b, carried_out);
	bench_open_upload(b);
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/big", data, LEN));
	wait_until(attempts_standing(b) == 0);
	assert_int_equal(fake_open_uploads(b->fake), uploads_left);
	assert_int_equal(fake_object_count(b->fake), 1);
	free(data);
	bench_end(b);
}

static void test_killed_at_create_and_complete(void **state)
{
	(void)state;
	killed_at(S3_CREATE_MULTIPART, false, 0);
	killed_at(S3_CREATE_MULTIPART, true, 1); /* its id was never known here: said in the log */
	killed_at(S3_COMPLETE_MULTIPART, false, 0);
	killed_at(S3_COMPLETE_MULTIPART, true, 0);
}

static void killed_and_with_acl(
	enum s3_op op, const char *before, const char *after, bool forgotten)
{
	struct bench *b = bench_begin(true);
	uint8_t *data = pattern(LEN, 1);
	uint64_t ino;
	struct fake_object *o;

	b->config.acl = before;
	bench_open_upload(b);
	fake_set_hold(b->fake, op, true);
	ino = write_file(b, "p/big", data, LEN);
	wait_until(fake_count(b->fake, op) >= 1);
	bench_kill(b, op == S3_UPLOAD_PART);
	if (forgotten) /* by a build that did not note it, or with the index */
		assert_int_equal(store_setting_set(b->store, "upload-acl", NULL), 0);
	b->config.acl = after;
	bench_open_upload(b);
	check_done(b, ino, "p/big", data);
	lock_take(&b->fake->lock);
	o = fake_find(b->fake, "p/big");
	assert_string_equal(o->acl, after ? after : "");
	lock_drop(&b->fake->lock);
	free(data);
	bench_end(b);
}

/* The next mount has another --acl, which an upload gets when it is begun. */
static void test_killed_and_with_another_acl(void **state)
{
	(void)state;
	killed_and_with_acl(S3_UPLOAD_PART, NULL, "bucket-owner-full-control", true);
	killed_and_with_acl(S3_UPLOAD_PART, "bucket-owner-full-control", NULL, false);
	killed_and_with_acl(S3_COMPLETE_MULTIPART, NULL, "bucket-owner-full-control", false);
}

/* Killed while sending, and the file is another one when we come back: the upload is aborted. */
static void test_killed_then_rewritten(void **state)
{
	struct bench *b = open_bench(true);
	uint8_t *data = pattern(LEN, 1), *other = pattern(LEN, 2);
	uint64_t ino;

	(void)state;
	fake_set_hold(b->fake, S3_UPLOAD_PART, true);
	ino = write_file(b, "p/big", data, LEN);
	wait_until(fake_count(b->fake, S3_UPLOAD_PART) >= 1);
	bench_kill(b, true);
	write_file(b, "p/big", other, LEN);
	bench_open_upload(b);
	wait_until(fake_has(b->fake, "p/big", other, LEN));
	check_done(b, ino, "p/big", other);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 2);
	free(data);
	free(other);
	bench_end(b);
}

/* Small files go on while large ones are sent. */
static void test_large_does_not_starve_small(void **state)
{
	struct bench *b = bench_begin(true);
	uint8_t *data = pattern(20 * PART, 1);
	uint64_t large, small;

	(void)state;
	b->config.max_transfers = 4;
	bench_open_upload(b);
	fake_set_hold(b->fake, S3_UPLOAD_PART, true);
	large = write_file(b, "p/big", data, 20 * PART);
	wait_until(fake_count(b->fake, S3_UPLOAD_PART) >= 4);
	small = write_text(b, "p/small", "hello");
	wait_state(b, small, FILE_QUEUED);
	/* One part ends; its slot goes to the small file. */
	lock_take(&b->fake->lock);
	b->fake->first->cancelled = true;
	cond_broadcast(&b->fake->wake);
	lock_drop(&b->fake->lock);
	wait_state(b, small, FILE_UPLOADED);
	fake_set_hold(b->fake, S3_UPLOAD_PART, false);
	wait_state(b, large, FILE_UPLOADED);
	free(data);
	bench_end(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sent_in_parts),
		cmocka_unit_test(test_around_the_threshold),
		cmocka_unit_test(test_part_errors_repeat_that_part),
		cmocka_unit_test(test_parts_that_fail_at_once),
		cmocka_unit_test(test_complete_answer_lost),
		cmocka_unit_test(test_complete_refused),
		cmocka_unit_test(test_completed_twice),
		cmocka_unit_test(test_completed_late),
		cmocka_unit_test(test_no_such_upload),
		cmocka_unit_test(test_aborted_and_older_object_of_same_size),
		cmocka_unit_test(test_rewritten_while_sent),
		cmocka_unit_test(test_unlinked_while_sent),
		cmocka_unit_test(test_cut_off_while_sent),
		cmocka_unit_test(test_rewritten_while_completing),
		cmocka_unit_test(test_conflict_appears_meanwhile),
		cmocka_unit_test(test_denied_part),
		cmocka_unit_test(test_killed_while_sending_parts),
		cmocka_unit_test(test_killed_at_create_and_complete),
		cmocka_unit_test(test_killed_and_with_another_acl),
		cmocka_unit_test(test_killed_then_rewritten),
		cmocka_unit_test(test_large_does_not_starve_small),
	};
	clock_fake_begin(clock_wall_ns());
	wait_step_ms = STEP_MS;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
