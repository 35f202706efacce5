/* A cache disk that takes no records for a while: what was to be recorded then is done later. */
#include "store_disk.h"
#include "upload_fake.h"

#define STEP_MS 100
/* Far more than the records of a day. */
#define CALLS_MAX 400

/* What the page cache holds of data files. */
static _Atomic enum { MEMORY_ASKED, MEMORY_HAS_ALL, MEMORY_HAS_NONE } memory;

int mincore(void *at, size_t len, unsigned char *resident)
{
	if (memory == MEMORY_ASKED)
		return (int)syscall(SYS_mincore, at, len, resident);
	memset(resident, memory == MEMORY_HAS_ALL, (len + 4095) / 4096);
	return 0;
}

static void close_bench(struct bench *b)
{
	disk_off();
	memory = MEMORY_ASKED;
	bench_end_with_clock(b);
}

/* The n-th write to the journal fails, and so do all that follow until somebody was told. */
static void break_journal(long at, bool lasts)
{
	disk_on(DISK_FAIL, at, EIO);
	disk.calls_mask = 1u << DISK_WRITE;
	disk.files_mask = 1u << DISK_JOURNAL;
	disk.lasts = lasts;
}

static void heal_if_told(struct bench *b)
{
	if (disk.armed && disk.met && (upload_pauses(b) & PAUSE_SPACE))
		disk_off();
}

#define wait_patiently(b, cond) wait_advancing(STEP_MS, (heal_if_told(b), (cond)))

/* Nobody is told of a verdict that came too late: the version is another one by then. */
static void test_verdicts_on_a_version_that_is_over(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = write_text(b, "p/one", "hello");
	char path[128], said[8];
	struct version v;
	int fd;

	(void)state;
	assert_int_equal(version_load(b->upload, ino, &v), 0);
	write_text(b, "p/one", "hallo");
	snprintf(path, sizeof(path), "%s/said", b->dir);
	assert_int_equal(log_open(LOG_LEVEL_ERROR, path, false), 0);
	version_unreadable(b->upload, &v, -EIO);
	version_damaged(b->upload, &v);
	assert_int_equal(log_open(LOG_LEVEL_ERROR, NULL, false), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, said, sizeof(said)), 0);
	close(fd);
	close_bench(b);
}

/* A program that is told of an error does it again. */
static void rename_patiently(struct bench *b, const char *dir, const char *from, const char *to)
{
	uint64_t ino = file_ino(b, dir, false);

	if (store_rename(b->store, ino, from, ino, to, 0, 0) == 0)
		return;
	assert_true(disk.met);
	disk_off();
	assert_int_equal(store_rename(b->store, ino, from, ino, to, 0, 0), 0);
}

static void unlink_patiently(struct bench *b, const char *dir, const char *name)
{
	uint64_t ino = file_ino(b, dir, false);

	if (store_unlink(b->store, ino, name, 0) == 0)
		return;
	assert_true(disk.met);
	disk_off();
	assert_int_equal(store_unlink(b->store, ino, name, 0), 0);
}

static bool all_uploaded(struct bench *b, uint64_t files)
{
	struct upload_status status;
	struct store_counts counts;

	upload_status(b->upload, &status);
	assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0);
	return counts.files[FILE_UPLOADED] == files && counts.files[FILE_DELETING] == 0 &&
	       status.jobs_open == 0 && attempts_standing(b) == 0 &&
	       fake_object_count(b->fake) == files;
}

/* A folder's new name stands recorded, and that its files have to follow does not. */
static void test_folder_renamed(void **state)
{
	struct bench *b = bench_open_with_clock(true);

	(void)state;
	write_text(b, "p/old/one", "hello");
	write_text(b, "p/old/two", "world");
	wait_patiently(b, all_uploaded(b, 2));
	break_journal(2, true);
	rename_patiently(b, "p", "old", "new");
	wait_patiently(b, !disk.armed);
	wait_patiently(b, all_uploaded(b, 2) && fake_has(b->fake, "p/new/one", "hello", 5));
	assert_true(fake_has(b->fake, "p/new/two", "world", 5));
	close_bench(b);
}

static unsigned data_syncs(void)
{
	return atomic_load(&disk.seen[DISK_DATA][DISK_SYNC]);
}

/* What was fetched to be changed in place is on the disk before another file replaces its object. */
static void test_replaced_while_it_is_changed(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t one = write_text(b, "p/d/one", "first"), again, chunk;
	struct store_file *f;

	(void)state;
	wait_patiently(b, all_uploaded(b, 1));
	assert_int_equal(store_evict(b->store, UINT64_MAX / 2), 0);
	upload_pause(b->upload);
	wait_patiently(b, upload_pauses(b) == PAUSE_BY_HAND);
	rename_patiently(b, "p/d", "one", "two");
	assert_int_equal(store_file_open(b->store, one, &f), 0);
	store_file_writer_add(f);
	assert_int_equal(store_chunk_fill_begin(f, 0), 0);
	assert_int_equal(store_chunk_fill_write(f, 0, 0, "first", 5), 0);
	assert_int_equal(store_chunk_fill_end(f, 0, true), 0);
	assert_int_equal(store_file_write(f, "F", 1, 0, false, &chunk), 0);
	again = write_text(b, "p/d/one", "second");
	disk_on(DISK_PASS, 0, 0);
	upload_resume(b->upload);
	wait_patiently(b, state_of(b, again) == FILE_UPLOADED);
	assert_true(data_syncs() > 0);
	disk_off();
	assert_int_equal(store_file_flush(f, false, NULL), 0);
	store_file_writer_drop(f);
	store_file_close(f);
	wait_patiently(b, all_uploaded(b, 2));
	assert_true(fake_has(b->fake, "p/d/two", "First", 5));
	close_bench(b);
}

/* ---- what the disk did not take ------------------------------------------------------------------ */

static void sync_fails(void)
{
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.files_mask = 1u << DISK_OTHER;
}

static void is_torn_unsent(struct bench *b, uint64_t ino)
{
	char reason[256];

	wait_patiently(b, state_of(b, ino) == FILE_TORN);
	reason_of(b, ino, reason);
	assert_non_null(strstr(reason, "a sync failed"));
	assert_non_null(strstr(reason, "copy the file in again"));
	assert_int_equal(fake_count(b->fake, S3_PUT), 0);
}

/* The kernel dropped what the disk refused, before it had a checksum. */
static void test_refused_by_the_disk_and_forgotten(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino;

	(void)state;
	memory = MEMORY_HAS_NONE;
	sync_fails();
	ino = write_text(b, "p/one", "hello");
	is_torn_unsent(b, ino);
	disk_off();
	memory = MEMORY_HAS_ALL;
	write_text(b, "p/one", "hello");
	wait_patiently(b, all_uploaded(b, 1) && fake_has(b->fake, "p/one", "hello", 5));
	close_bench(b);
}

/* The sync of all that was written tells. Memory has it still, or has not. */
static void test_a_sync_of_all_fails(void **state)
{
	(void)state;
	for (unsigned has = MEMORY_HAS_ALL; has <= MEMORY_HAS_NONE; has++) {
		struct bench *b = bench_open_with_clock(true);
		uint64_t ino;

		upload_pause(b->upload);
		wait_patiently(b, upload_pauses(b) == PAUSE_BY_HAND);
		memory = has;
		sync_fails();
		ino = write_text(b, "p/one", "hello");
		assert_true(store_flush_all(b->store) < 0);
		assert_true(disk.met);
		disk_off();
		upload_resume(b->upload);
		if (has == MEMORY_HAS_NONE)
			is_torn_unsent(b, ino);
		else
			wait_patiently(b, all_uploaded(b, 1));
		close_bench(b);
	}
}

static void test_what_the_disk_took_is_read_from_it(void **state)
{
	struct bench *b = bench_open_with_clock(true);

	(void)state;
	memory = MEMORY_HAS_NONE;
	disk_on(DISK_PASS, 0, 0);
	write_text(b, "p/one", "hello");
	wait_patiently(b, all_uploaded(b, 1));
	assert_true(disk.seen[DISK_OTHER][DISK_SYNC] > 0);
	close_bench(b);
}

/* That a record failed, of a sync that succeeded, says nothing of the bytes. */
static void test_a_record_of_a_sync_fails(void **state)
{
	bool met = true;

	(void)state;
	for (long at = 1; met; at++) {
		struct bench *b = bench_open_with_clock(true);
		uint64_t ino = write_text(b, "p/one", "hello");

		assert_true(at < CALLS_MAX);
		memory = MEMORY_HAS_NONE;
		break_journal(at, false);
		disk.error = ENOMEM;
		wait_patiently(b, all_uploaded(b, 1) || state_of(b, ino) == FILE_TORN);
		assert_int_not_equal(state_of(b, ino), FILE_TORN);
		met = disk.met;
		close_bench(b);
	}
}

static void from_this_sync_on(enum disk_call call, enum disk_file file)
{
	if (call == DISK_SYNC && file == DISK_OTHER && disk.at == 0)
		disk.at = disk.count + 1;
}

/* The verdict is tried again, but not as often as the processor can. */
static void test_a_verdict_that_is_not_recorded(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = write_text(b, "p/one", "hello");
	int64_t end_ms;

	(void)state;
	memory = MEMORY_HAS_NONE;
	disk_on(DISK_FAIL, 0, EIO);
	disk.calls_mask = 1u << DISK_SYNC | 1u << DISK_WRITE;
	disk.files_mask = 1u << DISK_OTHER | 1u << DISK_JOURNAL;
	disk.lasts = true;
	disk.hook = from_this_sync_on;
	wait_advancing(STEP_MS, disk.met);
	end_ms = clock_mono_ms() + 10000;
	wait_advancing(STEP_MS, clock_mono_ms() >= end_ms);
	assert_int_equal(state_of(b, ino), FILE_SETTLED);
	assert_true(disk.seen[DISK_OTHER][DISK_OPEN] < 30);
	disk_off();
	is_torn_unsent(b, ino);
	close_bench(b);
}

/* A person looked at it and says that it is right. */
static void test_refused_by_the_disk_and_accepted(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino;

	(void)state;
	memory = MEMORY_HAS_NONE;
	sync_fails();
	ino = write_text(b, "p/one", "hello");
	is_torn_unsent(b, ino);
	disk_off();
	assert_int_equal(upload_accept(b->upload, "p/one"), 1);
	wait_patiently(b, all_uploaded(b, 1));
	close_bench(b);
}

/* ---- each record of a day ------------------------------------------------------------------------ */

/* Renames in mid-upload, of a folder, and a delete, while the n-th record and those that follow
 * fail. */
static bool day(long at, bool lasts)
{
	struct bench *b = bench_open_with_clock(true);
	bool met;

	fake_set_hold(b->fake, S3_PUT, true);
	write_text(b, "p/old/one", "hello");
	write_text(b, "p/old/two", "world");
	wait_patiently(b, fake_count(b->fake, S3_PUT) == 2);
	break_journal(at, lasts);
	rename_patiently(b, "p/old", "one", "three");
	fake_set_hold(b->fake, S3_PUT, false);
	wait_patiently(b, all_uploaded(b, 2) && fake_has(b->fake, "p/old/three", "hello", 5));
	rename_patiently(b, "p", "old", "new");
	wait_patiently(b, all_uploaded(b, 2) && fake_has(b->fake, "p/new/three", "hello", 5));
	assert_true(fake_has(b->fake, "p/new/two", "world", 5));
	unlink_patiently(b, "p/new", "two");
	wait_patiently(b, all_uploaded(b, 1));
	assert_true(fake_has(b->fake, "p/new/three", "hello", 5));
	met = disk.met;
	close_bench(b);
	return met;
}

static void test_each_record_of_a_day(void **state)
{
	(void)state;
	for (unsigned lasts = 0; lasts < 2; lasts++) {
		long at = 1;

		do
			snprintf(rig_context, sizeof(rig_context), "record %ld", at);
		while (day(at, lasts) && ++at < CALLS_MAX);
		assert_in_range(at, 10, CALLS_MAX - 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verdicts_on_a_version_that_is_over),
		cmocka_unit_test(test_folder_renamed),
		cmocka_unit_test(test_replaced_while_it_is_changed),
		cmocka_unit_test(test_refused_by_the_disk_and_forgotten),
		cmocka_unit_test(test_a_sync_of_all_fails),
		cmocka_unit_test(test_what_the_disk_took_is_read_from_it),
		cmocka_unit_test(test_a_record_of_a_sync_fails),
		cmocka_unit_test(test_a_verdict_that_is_not_recorded),
		cmocka_unit_test(test_refused_by_the_disk_and_accepted),
		cmocka_unit_test(test_each_record_of_a_day),
	};

	return cmocka_run_group_tests_name("upload disk", tests, NULL, NULL);
}
