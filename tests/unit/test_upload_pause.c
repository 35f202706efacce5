/* Pauses: credentials, network, denied, by hand; each ends by itself when its cause does. The
 * clock is a fake one: an outage of hours takes milliseconds. */
#include "upload_fake.h"

static struct bench *open_bench(void)
{
	struct bench *b = bench_begin(true);

	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	bench_open_upload(b);
	return b;
}

static void end_bench(struct bench *b)
{
	clock_fake_end();
	bench_end(b);
}

static struct upload_status status_of(struct bench *b)
{
	struct upload_status s;

	upload_status(b->upload, &s);
	return s;
}

static uint64_t files_in(struct bench *b, enum file_state state)
{
	struct store_counts counts;

	assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0);
	return counts.files[state];
}

static void write_many(struct bench *b, unsigned from, unsigned count)
{
	char path[64];

	for (unsigned i = from; i < from + count; i++) {
		snprintf(path, sizeof(path), "p/f%u", i);
		write_text(b, path, path);
	}
}

static void forget_faults(struct bench *b)
{
	lock_take(&b->fake->lock);
	b->fake->fault_count = 0;
	lock_drop(&b->fake->lock);
}

static void test_outage_of_hours(void **state)
{
	struct bench *b = open_bench();
	unsigned sent;

	(void)state;
	fake_set_down(b->fake, true);
	write_many(b, 0, 100);
	wait_advancing(10, status_of(b).pauses == PAUSE_NETWORK);
	assert_non_null(strstr(status_of(b).paused_reason, "does not answer"));
	wait_advancing(10, files_in(b, FILE_QUEUED) == 100);
	sent = fake_count(b->fake, S3_PUT);
	assert_in_range(sent, 3, 32); /* no attempt burnt for each file */
	for (unsigned minutes = 0; minutes < 6 * 60; minutes++) {
		clock_fake_advance_ms(60000);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	assert_int_equal(fake_count(b->fake, S3_PUT), sent);
	assert_int_equal(files_in(b, FILE_FAILED), 0);
	fake_set_down(b->fake, false);
	int64_t back_ms = clock_mono_ms();

	wait_advancing(3, files_in(b, FILE_UPLOADED) == 100);
	assert_in_range(clock_mono_ms() - back_ms, 0, 20000);
	wait_advancing(10, status_of(b).pauses == 0);
	end_bench(b);
}

static void wait_in_flight(struct bench *b, enum s3_op op, unsigned count)
{
	wait_advancing(10, fake_in_flight(b->fake, op) == count);
}

/* Of each kind of request that follows a file one is on its way, one was answered by nobody. */
static void test_outage_in_the_middle_of_everything(void **state)
{
	static const enum s3_op held[] = {S3_UPLOAD_PART, S3_COPY, S3_DELETE, S3_HEAD};
	struct bench *b = open_bench();
	uint8_t *data = pattern(6 * PART, 1), *other = pattern(3 * PART, 2);
	uint64_t dir, moved;

	(void)state;
	moved = write_text(b, "p/d/moved", "only there");
	write_text(b, "p/d/gone", "to be deleted");
	wait_advancing(10, files_in(b, FILE_UPLOADED) == 2);
	assert_int_equal(store_evict(b->store, UINT64_MAX / 2), 0);
	dir = file_ino(b, "p/d", false);
	fake_fault(b->fake, (struct fake_fault){
		.op = S3_COMPLETE_MULTIPART, .kind = FAULT_LOSE_AFTER, .key_has = "p/other"});
	fake_set_hold(b->fake, S3_COMPLETE_MULTIPART, true);
	write_file(b, "p/other", other, 3 * PART);
	wait_in_flight(b, S3_COMPLETE_MULTIPART, 1);
	for (size_t i = 0; i < array_len(held); i++)
		fake_set_hold(b->fake, held[i], true);
	fake_set_hold(b->fake, S3_COMPLETE_MULTIPART, false);
	wait_in_flight(b, S3_HEAD, 1); /* whether that was carried out */
	fake_set_hold(b->fake, S3_HEAD, false);
	fake_set_down(b->fake, true);
	write_file(b, "p/big", data, 6 * PART);
	assert_int_equal(store_rename(b->store, dir, "moved", dir, "there", 0, 0), 0);
	assert_int_equal(store_unlink(b->store, dir, "gone", 0), 0);
	for (size_t i = 0; i < array_len(held); i++)
		fake_set_hold(b->fake, held[i], false);
	wait_advancing(10, status_of(b).pauses == PAUSE_NETWORK);
	for (unsigned minutes = 0; minutes < 6 * 60; minutes += 10) {
		clock_fake_advance_ms(600000);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	assert_int_equal(files_in(b, FILE_FAILED) + files_in(b, FILE_CONFLICT), 0);
	fake_set_down(b->fake, false);
	wait_advancing(10, files_in(b, FILE_UPLOADED) == 3 && files_in(b, FILE_DELETING) == 0 &&
				   fake_object_count(b->fake) == 3 && attempts_standing(b) == 0);
	assert_true(fake_has(b->fake, "p/big", data, 6 * PART));
	assert_true(fake_has(b->fake, "p/other", other, 3 * PART));
	assert_true(fake_has(b->fake, "p/d/there", "only there", 10));
	assert_int_equal(state_of(b, moved), FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 2);
	assert_int_equal(fake_count(b->fake, S3_COMPLETE_MULTIPART), 2);
	wait_advancing(10, status_of(b).pauses == 0);
	free(data);
	free(other);
	end_bench(b);
}

/* ---- told once ---------------------------------------------------------------------------------- */

static void log_begin(struct bench *b, char path[128])
{
	snprintf(path, 128, "%s/said", b->dir);
	assert_int_equal(log_open(LOG_LEVEL_WARN, path, false), 0);
}

static void log_end(void)
{
	assert_int_equal(log_open(LOG_LEVEL_ERROR, NULL, false), 0);
}

static unsigned lines_with(const char *path, const char *text)
{
	char line[1024];
	unsigned count = 0;
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		count += strstr(line, text) != NULL;
	fclose(f);
	return count;
}

/* ---- credentials -------------------------------------------------------------------------------- */

static _Atomic uint64_t stamp_now;
static uint64_t stamp(void *user)
{
	return atomic_load((_Atomic uint64_t *)user);
}

static void credentials(bool renewed)
{
	struct bench *b = bench_begin(true);
	int64_t began_ms;
	char said[128];

	log_begin(b, said);
	stamp_now = 1;
	b->config.credentials_stamp = stamp;
	b->config.credentials_user = (void *)&stamp_now;
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	bench_open_upload(b);
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .times = 1000,
		.class = S3_AUTH, .http_status = 400, .code = "ExpiredToken"});
	fake_fault(b->fake, (struct fake_fault){.op = S3_LIST, .kind = FAULT_REFUSE, .times = 1000,
		.class = S3_AUTH, .http_status = 400, .code = "ExpiredToken"});
	write_many(b, 0, 50);
	wait_advancing(10, status_of(b).pauses == PAUSE_CREDENTIALS);
	assert_non_null(strstr(status_of(b).paused_reason, "ExpiredToken"));
	wait_advancing(10, files_in(b, FILE_QUEUED) == 50);
	began_ms = clock_mono_ms();
	unsigned puts = fake_count(b->fake, S3_PUT), lists = fake_count(b->fake, S3_LIST);

	wait_advancing(1000, clock_mono_ms() > began_ms + 600000);
	assert_int_equal(fake_count(b->fake, S3_PUT), puts);
	assert_in_range(fake_count(b->fake, S3_LIST) - lists, 5, 11); /* at most one a minute */
	assert_int_equal(files_in(b, FILE_FAILED), 0);
	assert_int_equal(lines_with(said, "uploading paused: credentials: "), 1);
	assert_int_equal(lines_with(said, "p/f"), 0); /* no file is blamed */
	log_end();
	forget_faults(b);
	if (renewed)
		stamp_now = 2;
	began_ms = clock_mono_ms();
	/* small steps: the clock must not run away from a slow machine (valgrind, ThreadSanitizer) */
	wait_advancing(renewed ? 1 : 20, files_in(b, FILE_UPLOADED) == 50);
	assert_in_range(clock_mono_ms() - began_ms, 0, renewed ? 8000 : 70000);
	end_bench(b);
}

static void test_credentials_expire(void **state)
{
	(void)state;
	credentials(false);
	credentials(true);
}

/* Others came while the refusal was on its way: no minute is lost. */
static uint64_t stamp_that_moves(void *user)
{
	return atomic_fetch_add((_Atomic uint64_t *)user, 1) > 0 ? 2 : 1;
}

static void test_credentials_changed_before_the_refusal(void **state)
{
	struct bench *b = bench_begin(true);
	int64_t began_ms;

	(void)state;
	stamp_now = 0;
	b->config.credentials_stamp = stamp_that_moves;
	b->config.credentials_user = (void *)&stamp_now;
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	bench_open_upload(b);
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .times = 1,
		.class = S3_AUTH, .http_status = 400, .code = "ExpiredToken"});
	began_ms = clock_mono_ms();
	write_many(b, 0, 1);
	wait_advancing(10, files_in(b, FILE_UPLOADED) == 1);
	assert_in_range(clock_mono_ms() - began_ms, 0, 20000);
	end_bench(b);
}

static const char *_Atomic explanation;
static void explain(void *user, char out[512])
{
	(void)text_copy(out, explanation, 512);
}

/* Source, error and remedy as they are now, not only as the first refusal had them. */
static void test_the_reason_follows_what_is_tried(void **state)
{
	struct bench *b = bench_begin(true);

	(void)state;
	explanation = "profile lab: refused";
	b->config.credentials_explain = explain;
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	bench_open_upload(b);
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .times = 1000,
		.class = S3_AUTH, .http_status = 400, .code = "ExpiredToken"});
	fake_fault(b->fake, (struct fake_fault){.op = S3_LIST, .kind = FAULT_REFUSE, .times = 1000,
		.class = S3_AUTH, .http_status = 400, .code = "ExpiredToken"});
	write_many(b, 0, 1);
	wait_advancing(10, status_of(b).pauses == PAUSE_CREDENTIALS);
	assert_string_equal(status_of(b).paused_reason, "credentials: profile lab: refused");
	explanation = "profile lab: aws sso login --profile lab";
	wait_advancing(10, strcmp(status_of(b).paused_reason,
		"credentials: profile lab: aws sso login --profile lab") == 0);
	end_bench(b);
}

/* In the middle of a large file: the same upload goes on. */
static void test_credentials_expire_between_parts(void **state)
{
	struct bench *b = open_bench();
	uint8_t *data = pattern(6 * PART, 1);
	uint64_t ino;

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_UPLOAD_PART, .kind = FAULT_REFUSE, .skip = 2,
		.times = 4, .class = S3_AUTH, .http_status = 400, .code = "ExpiredToken"});
	ino = write_file(b, "p/big", data, 6 * PART);
	wait_advancing(100, state_of(b, ino) == FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/big", data, 6 * PART));
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
	assert_int_equal(fake_count(b->fake, S3_UPLOAD_PART), 10);
	free(data);
	end_bench(b);
}

/* ---- denied ------------------------------------------------------------------------------------- */

static void deny_puts(struct bench *b, unsigned times)
{
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .times = times,
		.class = S3_DENIED, .http_status = 403, .code = "AccessDenied"});
}

static void test_one_key_denied(void **state)
{
	struct bench *b = open_bench();
	char reason[256];
	uint64_t ino;

	(void)state;
	deny_puts(b, 1);
	ino = write_text(b, "p/one", "hello");
	wait_advancing(10, state_of(b, ino) == FILE_FAILED);
	reason_of(b, ino, reason);
	assert_non_null(strstr(reason, "AccessDenied"));
	assert_non_null(strstr(reason, "--acl"));
	write_many(b, 0, 10);
	wait_advancing(10, files_in(b, FILE_UPLOADED) == 10);
	assert_int_equal(status_of(b).pauses, 0);
	assert_int_equal(upload_retry(b->upload, "p/one"), 1);
	wait_advancing(10, state_of(b, ino) == FILE_UPLOADED);
	end_bench(b);
}

static void test_all_denied(void **state)
{
	struct bench *b = open_bench();
	int64_t began_ms;
	unsigned puts;
	char said[128];

	(void)state;
	log_begin(b, said);
	deny_puts(b, 100000);
	write_many(b, 0, 200);
	wait_advancing(10, status_of(b).pauses == PAUSE_DENIED);
	wait_advancing(10, files_in(b, FILE_QUEUED) + files_in(b, FILE_FAILED) == 200);
	wait_until(status_of(b).transfers_active == 0);
	assert_int_equal(files_in(b, FILE_FAILED), 19);
	puts = fake_count(b->fake, S3_PUT);
	assert_in_range(puts, 20, 40);
	began_ms = clock_mono_ms();
	wait_advancing(1000, clock_mono_ms() > began_ms + 600000);
	assert_in_range(fake_count(b->fake, S3_PUT) - puts, 5, 11); /* one a minute */
	assert_int_equal(files_in(b, FILE_FAILED), 19);
	assert_int_equal(lines_with(said, "uploading paused: denied: "), 1);
	assert_int_equal(lines_with(said, "AccessDenied"), 20); /* one for each file, and that */
	log_end();
	/* The policy is mended: a probe finds out, everything that waits goes. */
	forget_faults(b);
	wait_advancing(1000, files_in(b, FILE_UPLOADED) == 181);
	assert_int_equal(upload_retry(b->upload, ""), 19);
	wait_advancing(100, files_in(b, FILE_UPLOADED) == 200);
	end_bench(b);
}

static void test_denied_ended_by_retry(void **state)
{
	struct bench *b = open_bench();
	int64_t began_ms;

	(void)state;
	deny_puts(b, 100000);
	write_many(b, 0, 100);
	wait_advancing(10, status_of(b).pauses == PAUSE_DENIED);
	wait_until(status_of(b).transfers_active == 0);
	forget_faults(b);
	began_ms = clock_mono_ms();
	assert_true(upload_retry(b->upload, "") >= 19);
	wait_advancing(10, files_in(b, FILE_UPLOADED) == 100);
	assert_in_range(clock_mono_ms() - began_ms, 0, 30000);
	end_bench(b);
}

/* Others may write what these may not. */
static void test_denied_ended_by_other_credentials(void **state)
{
	struct bench *b = bench_begin(true);
	int64_t began_ms;

	(void)state;
	stamp_now = 1;
	b->config.credentials_stamp = stamp;
	b->config.credentials_user = (void *)&stamp_now;
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	bench_open_upload(b);
	deny_puts(b, 100000);
	write_many(b, 0, 100);
	wait_advancing(10, status_of(b).pauses == PAUSE_DENIED);
	wait_until(status_of(b).transfers_active == 0);
	wait_advancing(10, files_in(b, FILE_QUEUED) == 81);
	forget_faults(b);
	stamp_now = 2;
	began_ms = clock_mono_ms();
	wait_advancing(1, files_in(b, FILE_UPLOADED) == 81);
	assert_in_range(clock_mono_ms() - began_ms, 0, 8000);
	assert_int_equal(files_in(b, FILE_FAILED), 19);
	end_bench(b);
}

static void fail_one(struct bench *b, const char *path)
{
	uint64_t ino = write_text(b, path, path);

	wait_advancing(10, state_of(b, ino) == FILE_FAILED);
}

/* Some keys are closed to us, the rest is not: none of their business. */
static void test_denied_here_and_there(void **state)
{
	struct bench *b = open_bench();
	char path[64];

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .times = 1000,
		.class = S3_DENIED, .http_status = 403, .code = "AccessDenied", .key_has = "closed"});
	for (unsigned i = 0; i < 30; i++) {
		snprintf(path, sizeof(path), "p/closed%u", i);
		fail_one(b, path);
		if (i % 15 == 14) {
			write_many(b, i, 1);
			wait_advancing(10, files_in(b, FILE_UPLOADED) == i / 15 + 1);
		}
		assert_int_equal(status_of(b).pauses, 0);
	}
	/* and one that is tried again and again is one */
	for (unsigned i = 0; i < 30; i++) {
		assert_int_equal(upload_retry(b->upload, "p/closed0"), 1);
		wait_advancing(10, fake_count(b->fake, S3_PUT) == 33 + i &&
					   files_in(b, FILE_FAILED) == 30);
		assert_int_equal(status_of(b).pauses, 0);
	}
	end_bench(b);
}

/* What was refused for good stays, with its bytes and its reason, until a person says so. */
static void test_failed_is_kept_for_a_month(void **state)
{
	struct bench *b = open_bench();
	char reason[256];
	uint64_t ino;

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .times = 1000,
		.class = S3_FATAL, .http_status = 400, .code = "InvalidRequest"});
	fail_one(b, "p/one");
	ino = file_ino(b, "p/one", false);
	for (unsigned day = 0; day < 30; day++) {
		if (day % 10 == 9)
			bench_restart(b);
		clock_fake_advance_ms(24 * 3600 * MS_PER_S);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		assert_int_equal(state_of(b, ino), FILE_FAILED);
	}
	assert_int_equal(store_evict(b->store, UINT64_MAX / 2), 0);
	reason_of(b, ino, reason);
	assert_non_null(strstr(reason, "InvalidRequest"));
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	forget_faults(b);
	assert_int_equal(upload_retry(b->upload, ""), 1);
	wait_advancing(10, state_of(b, ino) == FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/one", "p/one", 5));
	end_bench(b);
}

/* ---- by hand, hurry, rewrites -------------------------------------------------------------------- */

static void test_by_hand(void **state)
{
	struct bench *b = open_bench();

	(void)state;
	upload_pause(b->upload);
	write_many(b, 0, 10);
	wait_advancing(10, files_in(b, FILE_QUEUED) == 10);
	assert_int_equal(status_of(b).pauses, PAUSE_BY_HAND);
	assert_int_equal(fake_count(b->fake, S3_PUT), 0);
	upload_resume(b->upload);
	wait_advancing(10, files_in(b, FILE_UPLOADED) == 10);
	assert_int_equal(status_of(b).pauses, 0);
	end_bench(b);
}

/* Files settle for 5 s, on a fake clock. */
static struct bench *begin_settling(void)
{
	struct bench *b = bench_begin(true);

	bench_close_store(b);
	b->settle_ms = 5000;
	bench_open_store(b);
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	bench_open_upload(b);
	return b;
}

static void test_settle_and_hurry(void **state)
{
	struct bench *b = begin_settling();
	int64_t began_ms;
	uint64_t ino;

	(void)state;
	began_ms = clock_mono_ms();
	ino = write_text(b, "p/one", "hello");
	wait_advancing(10, state_of(b, ino) == FILE_UPLOADED);
	assert_in_range(clock_mono_ms() - began_ms, 5000, 7000);
	ino = write_text(b, "p/two", "hello");
	assert_int_equal(upload_hurry(b->upload, ""), 1);
	began_ms = clock_mono_ms();
	wait_advancing(1, state_of(b, ino) == FILE_UPLOADED);
	assert_in_range(clock_mono_ms() - began_ms, 0, 2000);
	end_bench(b);
}

static void test_hurry_is_for_what_is_below(void **state)
{
	struct bench *b = begin_settling();
	uint64_t below, deeper, beside, file;

	(void)state;
	below = write_text(b, "p/in/one", "hello");
	deeper = write_text(b, "p/in/deep/two", "hello");
	beside = write_text(b, "p/in2/three", "hello");
	file = write_text(b, "p/four", "hello");
	assert_int_equal(upload_hurry(b->upload, "p/none"), -ENOENT);
	assert_int_equal(upload_hurry(b->upload, "p/in"), 2);
	assert_int_equal(upload_hurry(b->upload, "p/in"), 0);
	assert_int_equal(upload_hurry(b->upload, "p/four"), 1);
	wait_advancing(1, state_of(b, below) == FILE_UPLOADED && state_of(b, deeper) == FILE_UPLOADED &&
				  state_of(b, file) == FILE_UPLOADED);
	assert_int_equal(state_of(b, beside), FILE_CLOSED);
	end_bench(b);
}

static void test_open_writer_holds_back(void **state)
{
	struct bench *b = open_bench();
	struct store_file *f;
	uint64_t chunk, ino = file_ino(b, "p/one", true);
	int64_t began_ms = clock_mono_ms();

	(void)state;
	assert_int_equal(store_file_open(b->store, ino, &f), 0);
	store_file_writer_add(f);
	assert_int_equal(store_file_write(f, "hello", 5, 0, false, &chunk), 0);
	assert_int_equal(store_file_flush(f, false, NULL), 0);
	wait_advancing(100, clock_mono_ms() > began_ms + 30000);
	assert_int_equal(state_of(b, ino), FILE_CLOSED);
	store_file_writer_drop(f);
	store_file_close(f);
	wait_advancing(10, state_of(b, ino) == FILE_UPLOADED);
	end_bench(b);
}

/* A stop with requests under way: their answers come when nobody listens any more. */
static void test_stop_does_not_wait_for_ever(void **state)
{
	struct bench *b = bench_begin(true);
	struct timespec from, now;

	(void)state;
	bench_open_upload(b);
	lock_take(&b->fake->lock);
	b->fake->deaf = true;
	b->fake->hold = 1u << S3_PUT;
	lock_drop(&b->fake->lock);
	write_many(b, 0, 20);
	wait_until(fake_count(b->fake, S3_PUT) >= 8);
	clock_gettime(CLOCK_MONOTONIC, &from);
	bench_stop_upload(b);
	clock_gettime(CLOCK_MONOTONIC, &now);
	assert_in_range(now.tv_sec - from.tv_sec, 0, WAIT_MS / MS_PER_S);
	fake_set_hold(b->fake, S3_PUT, false);
	wait_until(fake_object_count(b->fake) == fake_count(b->fake, S3_PUT));
	bench_end(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_outage_of_hours),
		cmocka_unit_test(test_outage_in_the_middle_of_everything),
		cmocka_unit_test(test_credentials_expire),
		cmocka_unit_test(test_credentials_changed_before_the_refusal),
		cmocka_unit_test(test_the_reason_follows_what_is_tried),
		cmocka_unit_test(test_credentials_expire_between_parts),
		cmocka_unit_test(test_one_key_denied),
		cmocka_unit_test(test_all_denied),
		cmocka_unit_test(test_denied_ended_by_retry),
		cmocka_unit_test(test_denied_ended_by_other_credentials),
		cmocka_unit_test(test_denied_here_and_there),
		cmocka_unit_test(test_failed_is_kept_for_a_month),
		cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_settle_and_hurry),
		cmocka_unit_test(test_hurry_is_for_what_is_below),
		cmocka_unit_test(test_open_writer_holds_back),
		cmocka_unit_test(test_stop_does_not_wait_for_ever),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
