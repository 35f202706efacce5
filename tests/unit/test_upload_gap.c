/*
 * Between the record of an attempt and its request the disk is waited for (upload_sync.c): what happens to
 * the file meanwhile, and what becomes of the attempt. Here the disk takes as long as the test wants.
 */
#include "store_disk.h"
#include "upload_fake.h"

#define STEP_MS 100

/* ---- a disk that holds what is to be synced ---------------------------------------------------------- */

static struct {
	_Atomic bool held;
	_Atomic unsigned waiting;
} slow;

static void slow_disk(enum disk_call call, enum disk_file file)
{
	if (call != DISK_SYNC || file == DISK_INDEX)
		return;
	slow.waiting++;
	while (slow.held)
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
	slow.waiting--;
}

static void disk_holds(bool on)
{
	slow.held = on;
	if (!on)
		return;
	disk_on(DISK_PASS, 0, 0);
	disk.hook = slow_disk;
}

/* ---- memory that is short once ------------------------------------------------------------------------ */

static _Atomic bool no_more;

/* Instead of the C library's. */
void *reallocarray(void *p, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes) || (!p && atomic_exchange(&no_more, false))) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, bytes);
}

/* ---- the bench --------------------------------------------------------------------------------------- */

static void close_bench(struct bench *b)
{
	disk_holds(false);
	disk_off();
	bench_end_with_clock(b);
}

static void wait_uploaded(struct bench *b, uint64_t ino)
{
	wait_advancing(STEP_MS, state_of(b, ino) == FILE_UPLOADED && attempts_standing(b) == 0);
}

/* A version that is to replace an object, and waits for the disk. */
static uint64_t waits_for_the_disk(struct bench *b, const char *path, const char *text)
{
	uint64_t ino;

	disk_holds(true);
	ino = write_text(b, path, text);
	wait_looking(slow.waiting > 0 && state_of(b, ino) == FILE_SENDING);
	return ino;
}

/* ---- the file is another one when the disk has answered ----------------------------------------------- */

static void test_renamed(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	waits_for_the_disk(b, "p/d/one", "second version");
	rename_in(b, "p/d", "one", "two");
	disk_holds(false);
	wait_uploaded(b, ino);
	wait_advancing(STEP_MS, fake_object_count(b->fake) == 1);
	assert_true(fake_has(b->fake, "p/d/two", "second version", 14));
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	assert_int_equal(fake_count(b->fake, S3_COPY), 0);
	close_bench(b);
}

static void test_its_folder_renamed(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	waits_for_the_disk(b, "p/d/one", "second version");
	rename_in(b, "p", "d", "e");
	disk_holds(false);
	wait_uploaded(b, ino);
	wait_advancing(STEP_MS, fake_object_count(b->fake) == 1);
	assert_true(fake_has(b->fake, "p/e/one", "second version", 14));
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	close_bench(b);
}

static void test_removed(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	waits_for_the_disk(b, "p/d/one", "second version");
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), "one", 0), 0);
	disk_holds(false);
	wait_advancing(STEP_MS, state_of(b, ino) == FILE_STATE_COUNT && attempts_standing(b) == 0);
	assert_int_equal(fake_object_count(b->fake), 0);
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	close_bench(b);
}

static void test_removed_and_written_anew(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino;

	(void)state;
	uploaded(b, "p/d/one", "first");
	waits_for_the_disk(b, "p/d/one", "second version");
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), "one", 3600000), 0);
	ino = write_text(b, "p/d/one", "the third");
	disk_holds(false);
	wait_uploaded(b, ino);
	assert_true(fake_has(b->fake, "p/d/one", "the third", 9));
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	close_bench(b);
}

static void test_rewritten(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	waits_for_the_disk(b, "p/d/one", "second version");
	write_text(b, "p/d/one", "the third");
	disk_holds(false);
	wait_uploaded(b, ino);
	assert_true(fake_has(b->fake, "p/d/one", "the third", 9));
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	close_bench(b);
}

/* Its object is to follow to a name that another file had: and then it has a third one. */
static void test_renamed_again(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first"), other = uploaded(b, "p/d/two", "second");

	(void)state;
	disk_holds(true);
	rename_in(b, "p/d", "two", "other");
	rename_in(b, "p/d", "one", "two");
	wait_looking(slow.waiting > 0 && attempts_standing(b) > 0);
	rename_in(b, "p/d", "two", "three");
	disk_holds(false);
	wait_uploaded(b, ino);
	wait_uploaded(b, other);
	wait_advancing(STEP_MS, fake_object_count(b->fake) == 2);
	assert_true(fake_has(b->fake, "p/d/three", "first", 5));
	assert_true(fake_has(b->fake, "p/d/other", "second", 6));
	close_bench(b);
}

/* ---- a delete ------------------------------------------------------------------------------------------ */

static void test_delete_is_not_taken_back_any_more(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	disk_holds(true);
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), "one", 0), 0);
	wait_looking(slow.waiting > 0 && attempts_standing(b) == 1);
	assert_int_equal(upload_undelete(b->upload, "", NULL, NULL), 0);
	assert_int_equal(state_of(b, ino), FILE_DELETING);
	disk_holds(false);
	wait_looking(state_of(b, ino) == FILE_STATE_COUNT && attempts_standing(b) == 0);
	assert_int_equal(fake_object_count(b->fake), 0);
	close_bench(b);
}

/* ---- the end of the daemon ------------------------------------------------------------------------------ */

static _Atomic bool is_stopping;

static void let_go_soon(void *user)
{
	(void)user;
	wait_until(is_stopping);
	disk_holds(false);
}

static void stop_meanwhile(struct bench *b)
{
	struct upload *u = b->upload;
	struct thread *helper;

	is_stopping = false;
	assert_int_equal(thread_start(&helper, "helper", let_go_soon, NULL), 0);
	b->upload = NULL;
	is_stopping = true;
	upload_stop(u, clock_mono_ms());
	upload_destroy(u);
	thread_join(helper);
}

/* One waits for the disk, the other one for its turn. */
static void test_stopped(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t one = uploaded(b, "p/d/one", "first"), two = uploaded(b, "p/d/two", "first");

	(void)state;
	waits_for_the_disk(b, "p/d/one", "second version");
	write_text(b, "p/d/two", "second version");
	wait_looking(state_of(b, two) == FILE_SENDING);
	stop_meanwhile(b);
	assert_int_equal(attempts_standing(b), 2);
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	bench_close_store(b);
	bench_open_store(b);
	bench_open_upload(b);
	wait_uploaded(b, one);
	wait_uploaded(b, two);
	assert_true(fake_has(b->fake, "p/d/one", "second version", 14));
	assert_true(fake_has(b->fake, "p/d/two", "second version", 14));
	assert_int_equal(fake_count(b->fake, S3_PUT), 4);
	close_bench(b);
}

/* ---- the disk fails ------------------------------------------------------------------------------------- */

/* A sync failed, and what the disk has is not what was written: never sent, and no reason to try for ever. */
static void second_version_is_lost(const void *data, size_t len, bool removed)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first"), dir = file_ino(b, "p/d", false);
	char path[128];
	int fd;

	if (removed)
		assert_int_equal(store_unlink(b->store, dir, "one", 3600000), 0);
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.files_mask = 1u << DISK_DATA;
	ino = write_file(b, "p/d/one", data, len);
	wait_looking(upload_pauses(b) & PAUSE_SPACE);
	disk_off();
	snprintf(path, sizeof(path), "%s/data/%02x/%016" PRIx64, b->dir, (unsigned)(ino & 0xff), ino);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "zzz", 3, 0), 3);
	close(fd);
	wait_advancing(STEP_MS, state_of(b, ino) == FILE_TORN && attempts_standing(b) == 0);
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	assert_true(fake_has(b->fake, "p/d/one", "first", 5));
	close_bench(b);
}

static void test_bytes_that_the_disk_lost(void **state)
{
	(void)state;
	second_version_is_lost("second version", 14, false);
}

/* The same where nothing is to be sent: the bucket has it yet. */
static void test_bytes_that_the_disk_lost_of_a_copy(void **state)
{
	(void)state;
	second_version_is_lost("first", 5, true);
}

/* There is no memory to note that it waits: it is tried again, and gets its turn. */
static void test_no_memory_to_wait(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	no_more = true;
	write_text(b, "p/d/one", "second version");
	wait_advancing(STEP_MS, !no_more);
	wait_uploaded(b, ino);
	assert_true(fake_has(b->fake, "p/d/one", "second version", 14));
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	close_bench(b);
}

/* ---- who does not wait ---------------------------------------------------------------------------------- */

/* What is new goes out while others wait. */
static void test_new_ones_go_on(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	char path[32];
	uint64_t ino;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "p/d/f%u", i);
		uploaded(b, path, "first");
	}
	waits_for_the_disk(b, "p/d/f0", "second version");
	for (unsigned i = 1; i < 40; i++) {
		snprintf(path, sizeof(path), "p/d/f%u", i);
		write_text(b, path, "second version");
	}
	ino = write_text(b, "p/d/new", "as cp does");
	wait_looking(state_of(b, ino) == FILE_UPLOADED);
	disk_holds(false);
	wait_looking(fake_count(b->fake, S3_PUT) == 81 && attempts_standing(b) == 0);
	close_bench(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_renamed),
		cmocka_unit_test(test_its_folder_renamed),
		cmocka_unit_test(test_removed),
		cmocka_unit_test(test_removed_and_written_anew),
		cmocka_unit_test(test_rewritten),
		cmocka_unit_test(test_renamed_again),
		cmocka_unit_test(test_delete_is_not_taken_back_any_more),
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_bytes_that_the_disk_lost),
		cmocka_unit_test(test_bytes_that_the_disk_lost_of_a_copy),
		cmocka_unit_test(test_no_memory_to_wait),
		cmocka_unit_test(test_new_ones_go_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
