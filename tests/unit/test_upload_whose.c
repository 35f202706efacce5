/* Whose object is it: nothing of someone else is replaced without leave, nothing equal is sent. */
#include "upload_fake.h"

#include <sched.h>
#include <sys/syscall.h>

static struct bench *open_bench(bool aws)
{
	struct bench *b = bench_begin(aws);

	bench_open_upload(b);
	return b;
}

static void test_same_content_is_adopted(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		struct store_inode inode;
		uint64_t ino;

		fake_put(b->fake, "p/one", "hello");
		ino = write_text(b, "p/one", "hello");
		wait_state(b, ino, FILE_UPLOADED);
		assert_int_equal(store_inode(b->store, ino, &inode), 0);
		assert_true(inode.attr.flags & STORE_FLAG_ADOPTED);
		assert_string_equal(inode.object.etag, "5d41402abc4b2a76b9719d911017c592");
		assert_int_equal(fake_count(b->fake, S3_PUT), aws ? 1 : 0); /* refused: 412 */
		assert_int_equal(attempts_standing(b), 0);
		bench_end(b);
	}
}

/* What happens at the reads that compare a file with the object that was found. */
static struct bench *compares;
static enum { READS_PASS, READS_FAIL, READS_WAIT } compare_reads;
static atomic_uint compare_read_count;

ssize_t pread(int fd, void *data, size_t len, off_t off)
{
	if (compare_reads != READS_PASS && fake_count(compares->fake, S3_HEAD) > 0) {
		unsigned before = atomic_fetch_add(&compare_read_count, 1);

		if (compare_reads == READS_FAIL && before == 0) {
			errno = EIO;
			return -1;
		}
		while (compare_reads == READS_WAIT && !atomic_load(&compares->upload->digests_end))
			sched_yield();
	}
	return syscall(SYS_pread64, fd, data, len, off);
}

/* By another tool, and on a server without checksums. */
static uint64_t write_what_is_there_in_parts(struct bench *b)
{
	size_t len = 13 * MIB + 5;
	uint8_t *data = pattern(len, 1), md5s[2][16];
	struct fake_object *o;
	char hex[33];
	uint64_t ino;

	lock_take(&b->fake->lock);
	o = fake_store(b->fake, "p/big", data, len);
	for (unsigned i = 0; i < 2; i++) {
		md5_hex_of(data + i * 8 * MIB, i == 0 ? 8 * MIB : len - 8 * MIB, hex);
		assert_int_equal(hex_decode(hex, 32, md5s[i]), 0);
	}
	assert_true(etag_of_parts((const uint8_t(*)[16])md5s, 2, o->etag));
	lock_drop(&b->fake->lock);
	ino = write_file(b, "p/big", data, len);
	free(data);
	return ino;
}

/* The ETag is reproduced. */
static void test_multipart_from_elsewhere_is_adopted(void **state)
{
	struct bench *b = open_bench(false);
	uint64_t ino = write_what_is_there_in_parts(b);

	(void)state;
	wait_state(b, ino, FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 0);
	assert_int_equal(fake_count(b->fake, S3_PUT), 0);
	bench_end(b);
}

/* A disk that fails meanwhile says nothing about whose the object is. */
static void test_unread_is_not_other_content(void **state)
{
	struct bench *b = compares = open_bench(false);
	uint64_t ino;

	(void)state;
	atomic_store(&compare_read_count, 0);
	compare_reads = READS_FAIL;
	ino = write_what_is_there_in_parts(b);
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(atomic_load(&compare_read_count) > 1);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 0);
	compare_reads = READS_PASS;
	bench_end(b);
}

/* Nor does an unmount. */
static void test_ended_while_it_is_compared(void **state)
{
	struct bench *b = compares = open_bench(false);
	uint64_t ino;

	(void)state;
	atomic_store(&compare_read_count, 0);
	compare_reads = READS_WAIT;
	ino = write_what_is_there_in_parts(b);
	wait_until(atomic_load(&compare_read_count) > 0);
	bench_stop_upload(b);
	assert_int_equal(state_of(b, ino), FILE_QUEUED);
	compare_reads = READS_PASS;
	bench_open_upload(b);
	wait_state(b, ino, FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 0);
	bench_end(b);
}

static void test_other_content_is_a_conflict(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		char reason[256];
		uint64_t ino;

		fake_put(b->fake, "p/one", "theirs");
		ino = write_text(b, "p/one", "ours!!");
		wait_state(b, ino, FILE_CONFLICT);
		reason_of(b, ino, reason);
		assert_non_null(strstr(reason, "something else"));
		assert_true(fake_has(b->fake, "p/one", "theirs", 6));
		assert_int_equal(upload_accept(b->upload, "p/one"), 1);
		wait_state(b, ino, FILE_UPLOADED);
		assert_true(fake_has(b->fake, "p/one", "ours!!", 6));
		bench_end(b);
	}
}

/* Where nothing else would refuse the write, "not found" has to be S3's own word. */
static void test_not_found_by_a_proxy(void **state)
{
	struct bench *b = open_bench(false);
	uint64_t ino;

	(void)state;
	b->fake->enforces[S3_IF_NONE_MATCH][S3_PUT] = false;
	fake_put(b->fake, "p/one", "theirs");
	fake_fault(b->fake, (struct fake_fault){.op = S3_HEAD, .kind = FAULT_BY_PROXY,
		.class = S3_NOT_FOUND, .http_status = 404, .code = "NotFound"});
	ino = write_text(b, "p/one", "ours!!");
	wait_state(b, ino, FILE_CONFLICT);
	assert_true(fake_has(b->fake, "p/one", "theirs", 6));
	bench_end(b);
}

/* Taking a cut-off file as it is says nothing about what somebody else has under its key; and what was
 * said of one name does not hold under the next. */
static void test_accepted_but_for_what(void **state)
{
	static const char tiff[] = "II*\0\0\x10\0\0 and some pixels";
	struct bench *b = open_bench(true);
	uint64_t ino = write_text(b, "p/d/other", "x"), d = file_ino(b, "p/d", false);

	(void)state;
	fake_put(b->fake, "p/d/one.tif", "theirs");
	fake_put(b->fake, "p/d/two.tif", "theirs, too");
	ino = write_file(b, "p/d/one.tif", tiff, sizeof(tiff) - 1);
	wait_state(b, ino, FILE_INCOMPLETE);
	assert_int_equal(upload_accept(b->upload, "p/d/one.tif"), 1);
	wait_state(b, ino, FILE_CONFLICT);
	upload_pause(b->upload);
	wait_until(upload_pauses(b) == PAUSE_BY_HAND);
	assert_int_equal(upload_accept(b->upload, "p/d/one.tif"), 1);
	assert_int_equal(store_rename(b->store, d, "one.tif", d, "two.tif", 0, 0), 0);
	upload_resume(b->upload);
	wait_state(b, ino, FILE_CONFLICT); /* and not incomplete again */
	assert_true(fake_has(b->fake, "p/d/one.tif", "theirs", 6));
	assert_true(fake_has(b->fake, "p/d/two.tif", "theirs, too", 11));
	bench_end(b);
}

/* Nor does it hold for what comes to that key later, or under the name that a folder above has got.
 */
static void test_accepted_and_then(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino, p = file_ino(b, "p/d/x", true) ? file_ino(b, "p", false) : 0;

	(void)state;
	fake_put(b->fake, "p/d/one", "theirs");
	ino = write_text(b, "p/d/one", "ours");
	wait_state(b, ino, FILE_CONFLICT);
	upload_pause(b->upload);
	wait_until(upload_pauses(b) == PAUSE_BY_HAND);
	assert_int_equal(upload_accept(b->upload, "p/d/one"), 1);
	fake_put(b->fake, "p/d/one", "theirs, newer");
	upload_resume(b->upload);
	wait_state(b, ino, FILE_CONFLICT);

	upload_pause(b->upload);
	wait_until(upload_pauses(b) == PAUSE_BY_HAND);
	assert_int_equal(upload_accept(b->upload, "p/d/one"), 1);
	fake_put(b->fake, "p/e/one", "theirs, too");
	assert_int_equal(store_rename(b->store, p, "d", p, "e", 0, 0), 0);
	upload_resume(b->upload);
	wait_state(b, ino, FILE_CONFLICT);
	assert_true(fake_has(b->fake, "p/d/one", "theirs, newer", 13));
	assert_true(fake_has(b->fake, "p/e/one", "theirs, too", 11));

	assert_int_equal(upload_accept(b->upload, "p/e/one"), 1);
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/e/one", "ours", 4));
	assert_true(fake_has(b->fake, "p/d/one", "theirs, newer", 13));
	bench_end(b);
}

static void test_conflict_discarded(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino;

	(void)state;
	fake_put(b->fake, "p/one", "theirs");
	ino = write_text(b, "p/one", "ours!!");
	wait_state(b, ino, FILE_CONFLICT);
	assert_int_equal(upload_discard(b->upload, ""), -EINVAL);
	assert_int_equal(upload_discard(b->upload, "p/one"), 1);
	assert_int_equal(file_ino(b, "p/one", false), 0);
	assert_true(fake_has(b->fake, "p/one", "theirs", 6));
	bench_end(b);
}

/* The listing showed another tag than we were told, so it was called a conflict; asked again, the
 * bucket proves to hold our content. */
static void test_conflict_that_was_none(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = write_text(b, "p/one", "ours!!");
	struct store_transition doubt = {
		.ino = ino, .from = FILE_UPLOADED, .to = FILE_CONFLICT, .reason = "another tag"};
	struct store_inode inode;

	(void)state;
	wait_state(b, ino, FILE_UPLOADED);
	lock_take(&b->fake->lock);
	(void)text_copy(fake_find(b->fake, "p/one")->etag, "another-tag", S3_ETAG_MAX);
	lock_drop(&b->fake->lock);
	assert_int_equal(store_inode(b->store, ino, &inode), 0);
	doubt.generation = inode.attr.generation;
	assert_int_equal(store_state_set(b->store, &doubt), 0);
	assert_int_equal(upload_retry(b->upload, "p/one"), 1);
	wait_state(b, ino, FILE_UPLOADED);
	assert_int_equal(store_inode(b->store, ino, &inode), 0);
	assert_string_equal(inode.object.etag, "another-tag");
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	bench_end(b);
}

static void test_allowed_to_overwrite(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = bench_begin(aws);
		uint64_t ino;

		b->config.allow_overwrite = true;
		bench_open_upload(b);
		fake_put(b->fake, "p/one", "theirs");
		ino = write_text(b, "p/one", "ours!!");
		wait_state(b, ino, FILE_UPLOADED);
		assert_true(fake_has(b->fake, "p/one", "ours!!", 6));
		bench_end(b);
	}
}

/* Ours was uploaded; someone replaced it; we rewrite ours. */
static void test_ours_was_replaced(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t ino = write_text(b, "p/one", "first");

		wait_state(b, ino, FILE_UPLOADED);
		fake_put(b->fake, "p/one", "theirs");
		write_text(b, "p/one", "second");
		wait_state(b, ino, FILE_CONFLICT);
		assert_true(fake_has(b->fake, "p/one", "theirs", 6));
		bench_end(b);
	}
}

static void test_ours_was_removed(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t ino = write_text(b, "p/one", "first");

		wait_state(b, ino, FILE_UPLOADED);
		fake_delete(b->fake, "p/one");
		write_text(b, "p/one", "second");
		wait_until(fake_has(b->fake, "p/one", "second", 6));
		wait_state(b, ino, FILE_UPLOADED);
		bench_end(b);
	}
}

/* Deleted here and copied again with the same content before the delete was due: nothing is sent,
 * nothing is deleted. With other content: replaced. */
static void test_created_again_before_the_delete(void **state)
{
	(void)state;
	for (unsigned same = 0; same < 2; same++) {
		struct bench *b = open_bench(true);
		struct store_counts counts;
		uint64_t dir, ino = write_text(b, "p/d/one", "hello");

		dir = file_ino(b, "p/d", false);
		wait_state(b, ino, FILE_UPLOADED);
		assert_int_equal(store_unlink(b->store, dir, "one", 600000), 0);
		ino = write_text(b, "p/d/one", same ? "hello" : "other");
		wait_state(b, ino, FILE_UPLOADED);
		wait_until((assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0),
			counts.files[FILE_DELETING] == 0));
		assert_true(fake_has(b->fake, "p/d/one", same ? "hello" : "other", 5));
		assert_int_equal(fake_count(b->fake, S3_PUT), same ? 1 : 2);
		assert_int_equal(fake_count(b->fake, S3_DELETE), 0);
		bench_end(b);
	}
}

/* The old record's time comes while the new file of that name is still being written, or was cut
 * off: the object stays until it is replaced. */
static void test_delete_leaves_it_to_the_newcomer(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t dir, chunk, ino = write_text(b, "p/d/one", "hello");
	struct store_file *f;
	int64_t began_ms;

	(void)state;
	dir = file_ino(b, "p/d", false);
	wait_state(b, ino, FILE_UPLOADED);
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	ino = file_ino(b, "p/d/two", true);
	assert_int_equal(store_file_open(b->store, ino, &f), 0);
	store_file_writer_add(f);
	assert_int_equal(store_file_write(f, "other", 5, 0, false, &chunk), 0);
	assert_int_equal(store_rename(b->store, dir, "two", dir, "one", 0, 0), 0);
	began_ms = clock_mono_ms();
	wait_advancing(100, clock_mono_ms() > began_ms + 60000);
	assert_true(fake_has(b->fake, "p/d/one", "hello", 5));
	assert_int_equal(store_file_flush(f, true, "cut off"), 0);
	store_file_writer_drop(f);
	store_file_close(f);
	began_ms = clock_mono_ms();
	wait_advancing(100, clock_mono_ms() > began_ms + 60000);
	assert_int_equal(state_of(b, ino), FILE_INCOMPLETE);
	assert_true(fake_has(b->fake, "p/d/one", "hello", 5));
	assert_int_equal(upload_accept(b->upload, "p/d/one"), 1);
	wait_advancing(10, fake_has(b->fake, "p/d/one", "other", 5));
	wait_advancing(10, state_of(b, ino) == FILE_UPLOADED);
	assert_int_equal(fake_object_count(b->fake), 1);
	assert_int_equal(fake_count(b->fake, S3_DELETE), 0);
	clock_fake_end();
	bench_end(b);
}

/* Two names with one key under --naming=clean: the second is held. */
static void test_two_names_one_key(void **state)
{
	struct bench *b = bench_begin(true);
	uint64_t first, second;

	(void)state;
	b->config.naming.mode = NAMING_CLEAN;
	bench_open_upload(b);
	first = write_text(b, "p/a b/one", "first");
	wait_state(b, first, FILE_UPLOADED);
	second = write_text(b, "p/ab/one", "second");
	wait_state(b, second, FILE_HELD);
	assert_true(fake_has(b->fake, "p/ab/one", "first", 5));
	bench_end(b);
}

/* Until the first is renamed, or deleted. */
static void one_key_until(bool deleted)
{
	struct bench *b;
	uint64_t first, second, dir;
	int64_t began_ms;

	clock_fake_begin(clock_wall_ns());
	b = bench_begin(true);
	b->config.naming.mode = NAMING_CLEAN;
	bench_open_upload(b);
	first = write_text(b, "p/a b/one", "first");
	wait_advancing(100, state_of(b, first) == FILE_UPLOADED);
	second = write_text(b, "p/ab/one", "second");
	wait_advancing(100, state_of(b, second) == FILE_HELD);
	bench_restart(b);
	began_ms = clock_mono_ms();
	wait_advancing(1000, clock_mono_ms() > began_ms + 130000);
	assert_int_equal(state_of(b, second), FILE_HELD);
	dir = file_ino(b, "p/a b", false);
	if (deleted)
		assert_int_equal(store_unlink(b->store, dir, "one", 10000), 0);
	else
		assert_int_equal(store_rename(b->store, dir, "one", dir, "two", 0, 0), 0);
	wait_advancing(1000, state_of(b, second) == FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/ab/one", "second", 6));
	wait_advancing(1000, attempts_standing(b) == 0);
	assert_int_equal(fake_has(b->fake, "p/ab/two", "first", 5), !deleted);
	bench_end(b);
	clock_fake_end();
}

static void test_two_names_one_key_until(void **state)
{
	(void)state;
	one_key_until(false);
	one_key_until(true);
}

/* The bytes in the cache directory changed behind our back, between digest and sending. */
static void test_damaged_bytes_are_not_sent(void **state)
{
	(void)state;
	for (unsigned way = 0; way < 3; way++) { /* AWS; SHA-256 kept; SHA-256 to be computed */
		struct bench *b = bench_begin(way == 0);
		char command[256];
		uint64_t ino;

		b->config.start_paused = true;
		bench_open_upload(b);
		ino = write_text(b, "p/one", "hello");
		wait_state(b, ino, FILE_QUEUED);
		snprintf(command, sizeof(command),
			"find %s/data -type f -size -10c -exec sh -c 'printf HELLO 1<>$1' sh {} ';'",
			b->dir);
		assert_int_equal(system(command), 0);
		if (way == 2)
			bench_restart(b);
		upload_resume(b->upload);
		wait_state(b, ino, FILE_TORN);
		assert_int_equal(fake_object_count(b->fake), 0);
		bench_end(b);
	}
}

static void test_lost_bytes_are_not_sent(void **state)
{
	struct bench *b = bench_begin(true);
	char command[256];
	uint64_t ino;

	(void)state;
	b->config.start_paused = true;
	bench_open_upload(b);
	ino = write_text(b, "p/one", "hello");
	wait_state(b, ino, FILE_QUEUED);
	snprintf(command, sizeof(command), "find %s/data -type f -size -10c -exec truncate -s 2 {} +",
		b->dir);
	assert_int_equal(system(command), 0);
	upload_resume(b->upload);
	wait_state(b, ino, FILE_LOST);
	assert_int_equal(fake_object_count(b->fake), 0);
	bench_end(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_content_is_adopted),
		cmocka_unit_test(test_multipart_from_elsewhere_is_adopted),
		cmocka_unit_test(test_unread_is_not_other_content),
		cmocka_unit_test(test_ended_while_it_is_compared),
		cmocka_unit_test(test_other_content_is_a_conflict),
		cmocka_unit_test(test_not_found_by_a_proxy),
		cmocka_unit_test(test_accepted_but_for_what),
		cmocka_unit_test(test_accepted_and_then),
		cmocka_unit_test(test_conflict_discarded),
		cmocka_unit_test(test_conflict_that_was_none),
		cmocka_unit_test(test_allowed_to_overwrite),
		cmocka_unit_test(test_ours_was_replaced),
		cmocka_unit_test(test_ours_was_removed),
		cmocka_unit_test(test_created_again_before_the_delete),
		cmocka_unit_test(test_delete_leaves_it_to_the_newcomer),
		cmocka_unit_test(test_two_names_one_key),
		cmocka_unit_test(test_two_names_one_key_until),
		cmocka_unit_test(test_damaged_bytes_are_not_sent),
		cmocka_unit_test(test_lost_bytes_are_not_sent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
