/*
 * The power fails while the bucket has more than the disk: what was recorded and not synced is gone, what
 * was sent is not. The disk after the cut is an image that is kept beside the cache meanwhile, in which is
 * only what was synced.
 */
#include "store_disk.h"
#include "upload_fake.h"

#define STEP_MS 100
#define JOURNAL_COPIED_BYTES (1 * MIB)

/* ---- what the disk holds for sure ---------------------------------------------------------------- */

static struct {
	char from[64], to[80];
	_Atomic bool lost; /* something was synced that it does not follow */
} image;

static void run(const char *what, const char *a, const char *b)
{
	char command[256];

	snprintf(command, sizeof(command), "%s %s %s", what, a, b);
	assert_int_equal(system(command), 0);
}

static void image_of_journal(void)
{
	char path[128];
	uint8_t *data = malloc(JOURNAL_COPIED_BYTES);
	int from, to;

	snprintf(path, sizeof(path), "%s/journal", image.from);
	from = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/journal", image.to);
	to = open(path, O_WRONLY | O_CLOEXEC);
	image.lost = image.lost || !data || from < 0 || to < 0 ||
		     pread(from, data, JOURNAL_COPIED_BYTES, 0) != JOURNAL_COPIED_BYTES ||
		     syscall(SYS_pwrite64, to, data, JOURNAL_COPIED_BYTES, 0) != JOURNAL_COPIED_BYTES;
	close(from);
	close(to);
	free(data);
}

static void image_of_data(void)
{
	char command[256];

	snprintf(command, sizeof(command), "cp -r %s/data %s", image.from, image.to);
	image.lost = image.lost || system(command) != 0;
}

/* A call of sync promises what was written before it. */
static void image_follow(enum disk_call call, enum disk_file file)
{
	if (call != DISK_SYNC)
		return;
	if (file == DISK_JOURNAL || file == DISK_OTHER)
		image_of_journal();
	if (file == DISK_DATA || file == DISK_OTHER)
		image_of_data();
	image.lost = image.lost || file == DISK_INDEX;
}

/* All that is there now is safe; from here on only what is synced. */
static void all_is_safe(struct bench *b)
{
	disk_off();
	assert_int_equal(store_flush_all(b->store), 0);
	assert_int_equal(store_checkpoint(b->store), 0);
	snprintf(image.from, sizeof(image.from), "%s", b->dir);
	snprintf(image.to, sizeof(image.to), "%s.cut", b->dir);
	run("rm -rf", image.to, "");
	run("cp -r", image.from, image.to);
	image.lost = false;
	disk_on(DISK_PASS, 0, 0);
	disk.hook = image_follow;
}

/* Requests that were answered by now were carried out. */
static void power_cut(struct bench *b)
{
	disk_off();
	assert_false(image.lost);
	if (b->upload)
		bench_stop_upload(b);
	bench_close_store(b);
	run("rm -rf", image.from, "");
	assert_int_equal(rename(image.to, image.from), 0);
	b->boot_id = "boot-2";
	bench_open_store(b);
}

/* ---- the bench ------------------------------------------------------------------------------------ */

static void close_bench(struct bench *b)
{
	disk_off();
	bench_end_with_clock(b);
}

static void wait_uploaded(struct bench *b, uint64_t ino)
{
	wait_advancing(STEP_MS, state_of(b, ino) == FILE_UPLOADED && attempts_standing(b) == 0);
}

static void pause_uploads(struct bench *b)
{
	upload_pause(b->upload);
	wait_until(upload_pauses(b) == PAUSE_BY_HAND);
}

/* A closed version that was never sent. */
static uint64_t queued(struct bench *b, const char *path, const char *text)
{
	uint64_t ino = write_text(b, path, text);

	wait_looking(state_of(b, ino) == FILE_QUEUED);
	return ino;
}

static unsigned syncs(void)
{
	unsigned sum = 0;

	for (unsigned file = 0; file < DISK_FILE_COUNT; file++)
		sum += atomic_load(&disk.seen[file][DISK_SYNC]);
	return sum;
}

/* After the cut: the file of this path is what the bucket has under its key. */
static void must_hold(struct bench *b, const char *path, const char *text)
{
	uint64_t ino = file_ino(b, path, false);

	assert_int_not_equal(ino, 0);
	wait_uploaded(b, ino);
	assert_true(fake_has(b->fake, path, text, strlen(text)));
}

/* ---- an older version comes back, and its key holds a newer one ------------------------------------ */

static void test_rewritten_before_it_was_sent(void **state)
{
	struct bench *b = bench_open_with_clock(true);

	(void)state;
	pause_uploads(b);
	queued(b, "p/d/one", "first");
	all_is_safe(b);
	queued(b, "p/d/one", "second version");
	upload_resume(b->upload);
	wait_looking(state_of(b, file_ino(b, "p/d/one", false)) == FILE_UPLOADED);
	power_cut(b);
	bench_open_upload(b);
	must_hold(b, "p/d/one", "second version");
	close_bench(b);
}

static void test_replaced_by_a_rename_before_it_was_sent(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino;

	(void)state;
	pause_uploads(b);
	queued(b, "p/d/one", "first");
	all_is_safe(b);
	ino = write_text(b, "p/d/.one.Xy12Za", "second version");
	rename_in(b, "p/d", ".one.Xy12Za", "one");
	upload_resume(b->upload);
	wait_looking(state_of(b, ino) == FILE_UPLOADED);
	power_cut(b);
	bench_open_upload(b);
	must_hold(b, "p/d/one", "second version");
	close_bench(b);
}

static void test_removed_and_written_anew(void **state)
{
	struct bench *b = bench_open_with_clock(true);

	(void)state;
	pause_uploads(b);
	queued(b, "p/d/one", "first");
	all_is_safe(b);
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), "one", 0), 0);
	upload_resume(b->upload);
	uploaded(b, "p/d/one", "second version");
	power_cut(b);
	bench_open_upload(b);
	must_hold(b, "p/d/one", "second version");
	close_bench(b);
}

static void test_folders_swapped(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t one, two;

	(void)state;
	pause_uploads(b);
	one = queued(b, "p/d/one/f", "first");
	two = queued(b, "p/d/two/f", "the other");
	all_is_safe(b);
	rename_in(b, "p/d", "one", "swap");
	rename_in(b, "p/d", "two", "one");
	rename_in(b, "p/d", "swap", "two");
	upload_resume(b->upload);
	wait_looking(state_of(b, one) == FILE_UPLOADED);
	wait_looking(state_of(b, two) == FILE_UPLOADED);
	power_cut(b);
	bench_open_upload(b);
	must_hold(b, "p/d/two/f", "first");
	must_hold(b, "p/d/one/f", "the other");
	close_bench(b);
}

static void test_removed_with_its_folder_and_written_anew(void **state)
{
	struct bench *b = bench_open_with_clock(true);

	(void)state;
	pause_uploads(b);
	queued(b, "p/d/e/one", "first");
	all_is_safe(b);
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d/e", false), "one", 0), 0);
	assert_int_equal(store_rmdir(b->store, file_ino(b, "p/d", false), "e"), 0);
	upload_resume(b->upload);
	uploaded(b, "p/d/e/one", "second version");
	power_cut(b);
	bench_open_upload(b);
	must_hold(b, "p/d/e/one", "second version");
	close_bench(b);
}

/* The same where the bucket has to follow: copied to a name that another file had. */
static void test_renamed_over_one_that_was_not_sent(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/sent", "second version");

	(void)state;
	pause_uploads(b);
	queued(b, "p/d/one", "first");
	all_is_safe(b);
	rename_in(b, "p/d", "sent", "one");
	fake_set_hold(b->fake, S3_COPY, true);
	upload_resume(b->upload);
	wait_looking(fake_in_flight(b->fake, S3_COPY) == 1);
	pause_uploads(b); /* nothing follows that is synced */
	fake_set_hold(b->fake, S3_COPY, false);
	wait_looking(state_of(b, ino) == FILE_UPLOADED);
	power_cut(b);
	bench_open_upload(b);
	must_hold(b, "p/d/one", "second version");
	wait_advancing(STEP_MS, fake_object_count(b->fake) == 1);
	close_bench(b);
}

static void test_replaced_its_own_object(void **state)
{
	struct bench *b = bench_open_with_clock(true);

	(void)state;
	uploaded(b, "p/d/one", "first");
	all_is_safe(b);
	uploaded(b, "p/d/one", "second version");
	power_cut(b);
	assert_int_not_equal(state_of(b, file_ino(b, "p/d/one", false)), FILE_TORN);
	bench_open_upload(b);
	must_hold(b, "p/d/one", "second version");
	close_bench(b);
}

/* More than are synced one by one. */
static void test_many_replaced_their_objects(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	char path[32];

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		pause_uploads(b);
		for (unsigned i = 0; i < 40; i++) {
			snprintf(path, sizeof(path), "p/d/f%u", i);
			queued(b, path, round ? "second version" : "first");
		}
		upload_resume(b->upload);
		wait_looking(fake_count(b->fake, S3_PUT) == 40 * (round + 1) &&
			     attempts_standing(b) == 0);
		if (round == 0)
			all_is_safe(b);
	}
	power_cut(b);
	bench_open_upload(b);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "p/d/f%u", i);
		must_hold(b, path, "second version");
	}
	close_bench(b);
}

static void test_in_parts(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	size_t len = 3 * PART + 7;
	uint8_t *first = pattern(len, 1), *second = pattern(len, 2);
	uint64_t ino;

	(void)state;
	pause_uploads(b);
	ino = write_file(b, "p/d/one", first, len);
	wait_looking(state_of(b, ino) == FILE_QUEUED);
	all_is_safe(b);
	ino = write_file(b, "p/d/one", second, len);
	upload_resume(b->upload);
	wait_looking(state_of(b, ino) == FILE_UPLOADED);
	power_cut(b);
	bench_open_upload(b);
	wait_uploaded(b, ino);
	assert_true(fake_has(b->fake, "p/d/one", second, len));
	free(first);
	free(second);
	close_bench(b);
}

/* The server keeps an upload whose parts nobody can name for ever. */
static void test_upload_id_is_known(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint8_t *data = pattern(3 * PART, 1);

	(void)state;
	all_is_safe(b);
	write_file(b, "p/d/one", data, 3 * PART);
	fake_set_hold(b->fake, S3_UPLOAD_PART, true);
	wait_looking(fake_in_flight(b->fake, S3_UPLOAD_PART) > 0);
	power_cut(b);
	fake_set_hold(b->fake, S3_UPLOAD_PART, false);
	assert_int_equal(fake_open_uploads(b->fake), 1);
	bench_open_upload(b);
	wait_advancing(STEP_MS, fake_open_uploads(b->fake) == 0 && attempts_standing(b) == 0);
	free(data);
	close_bench(b);
}

/* ---- what was deleted ------------------------------------------------------------------------------- */

static void delete_now(struct bench *b, const char *name, uint64_t ino)
{
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), name, 0), 0);
	wait_looking(state_of(b, ino) == FILE_STATE_COUNT);
}

/* Its object is gone, and whoever takes it back is not told anything else. */
static void test_deleted_and_taken_back(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	all_is_safe(b);
	delete_now(b, "one", ino);
	power_cut(b);
	b->config.start_paused = true;
	bench_open_upload(b);
	assert_int_equal(state_of(b, ino), FILE_DELETING);
	if (upload_undelete(b->upload, "", NULL, NULL) == 1) {
		assert_int_not_equal(state_of(b, ino), FILE_UPLOADED);
		upload_resume(b->upload);
		must_hold(b, "p/d/one", "first");
	} else {
		upload_resume(b->upload);
		wait_advancing(STEP_MS, state_of(b, ino) == FILE_STATE_COUNT);
	}
	close_bench(b);
}

/* What a person was told to have back is not deleted. */
static void test_taken_back_is_safe(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), "one", 3600000), 0);
	all_is_safe(b);
	assert_int_equal(upload_undelete(b->upload, "", NULL, NULL), 1);
	power_cut(b);
	assert_int_equal(file_ino(b, "p/d/one", false), ino);
	bench_open_upload(b);
	must_hold(b, "p/d/one", "first");
	close_bench(b);
}

static void test_renamed_and_the_old_one_deleted(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	all_is_safe(b);
	rename_in(b, "p/d", "one", "two");
	wait_looking(fake_count(b->fake, S3_DELETE) == 1 && attempts_standing(b) == 0);
	power_cut(b);
	assert_int_equal(file_ino(b, "p/d/two", false), ino);
	bench_open_upload(b);
	must_hold(b, "p/d/two", "first");
	wait_advancing(STEP_MS, fake_object_count(b->fake) == 1);
	close_bench(b);
}

/* Were it forgotten that it was deleted, with what has its key and its content since, that would be deleted. */
static void test_deleted_and_copied_again(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	all_is_safe(b);
	delete_now(b, "one", ino);
	uploaded(b, "p/d/one", "first");
	power_cut(b);
	bench_open_upload(b);
	must_hold(b, "p/d/one", "first");
	wait_advancing(STEP_MS, attempts_standing(b) == 0);
	close_bench(b);
}

static void test_moved_away_and_copied_again(void **state)
{
	struct bench *b = bench_open_with_clock(true);

	(void)state;
	uploaded(b, "p/d/one", "first");
	all_is_safe(b);
	rename_in(b, "p/d", "one", "two");
	wait_looking(fake_count(b->fake, S3_DELETE) == 1 && attempts_standing(b) == 0);
	uploaded(b, "p/d/one", "first");
	power_cut(b);
	bench_open_upload(b);
	must_hold(b, "p/d/one", "first");
	must_hold(b, "p/d/two", "first");
	wait_advancing(STEP_MS, attempts_standing(b) == 0);
	close_bench(b);
}

static void test_copied_again_before_it_was_deleted(void **state)
{
	struct bench *b = bench_open_with_clock(true);

	(void)state;
	uploaded(b, "p/d/one", "first");
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), "one", 600000), 0);
	all_is_safe(b);
	uploaded(b, "p/d/one", "first");
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	power_cut(b);
	bench_open_upload(b);
	must_hold(b, "p/d/one", "first");
	clock_fake_advance_ms(1200000);
	wait_advancing(STEP_MS, attempts_standing(b) == 0);
	must_hold(b, "p/d/one", "first");
	close_bench(b);
}

/* ---- what a cut forgets without harm, and what it costs ---------------------------------------------- */

/* Its object is there, and the same content copied in again is that. */
static void test_forgotten_and_copied_again(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino;

	(void)state;
	all_is_safe(b);
	uploaded(b, "p/d/one", "first");
	power_cut(b);
	assert_int_equal(file_ino(b, "p/d/one", false), 0);
	bench_open_upload(b);
	ino = write_text(b, "p/d/one", "first");
	wait_uploaded(b, ino);
	assert_true(fake_has(b->fake, "p/d/one", "first", 5));
	close_bench(b);
}

static void test_new_files_cost_no_sync(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	char path[32], name[32];

	(void)state;
	all_is_safe(b);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(path, sizeof(path), "p/d/f%u.csv", i);
		write_text(b, path, "as cp does");
		snprintf(path, sizeof(path), "p/d/.g%u.csv.Xy12Za", i);
		write_text(b, path, "as rsync does");
		snprintf(name, sizeof(name), "g%u.csv", i);
		rename_in(b, "p/d", path + 4, name);
	}
	wait_looking(fake_object_count(b->fake) == 200 && attempts_standing(b) == 0);
	assert_int_equal(syncs(), 0);
	run("rm -rf", image.to, "");
	close_bench(b);
}

/* Those that wait at once share one sync. */
static void test_syncs_are_shared(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	char path[32];
	unsigned before;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "p/d/f%u", i);
		write_text(b, path, "first");
	}
	wait_looking(fake_object_count(b->fake) == 40 && attempts_standing(b) == 0);
	pause_uploads(b);
	disk_on(DISK_PASS, 0, 0);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "f%u", i);
		assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), path, 0), 0);
	}
	before = syncs();
	upload_resume(b->upload);
	wait_looking(fake_object_count(b->fake) == 0 && attempts_standing(b) == 0);
	assert_in_range(syncs() - before, 1, 30);
	close_bench(b);
}

/* The disk takes no sync: nothing goes out that a cut could make another story of. */
static void test_no_sync_no_request(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.lasts = true;
	write_text(b, "p/d/one", "second version");
	wait_advancing(STEP_MS, upload_pauses(b) & PAUSE_SPACE);
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	assert_true(fake_has(b->fake, "p/d/one", "first", 5));
	disk_off();
	wait_uploaded(b, ino);
	assert_true(fake_has(b->fake, "p/d/one", "second version", 14));
	close_bench(b);
}

static struct bench *damaged;

/* What the page cache has of it is not what was written any more, as after a failed sync. */
static void damage_data(enum disk_call call, enum disk_file file)
{
	char command[256];

	if (call != DISK_SYNC || file != DISK_DATA)
		return;
	snprintf(command, sizeof(command),
		"find %s/data -type f -size +100k -exec sh -c 'printf x 1<>$1' sh {} ';'", damaged->dir);
	image.lost = system(command) != 0;
}

/* An upload in parts whose bytes cannot be synced is not tried for ever. */
static void test_damaged_before_it_was_completed(void **state)
{
	struct bench *b = bench_open_with_clock(true);
	size_t len = 3 * PART + 7;
	uint8_t *data = pattern(len, 1);
	uint64_t ino = uploaded(b, "p/d/one", "first");

	(void)state;
	damaged = b;
	image.lost = false;
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.files_mask = 1u << DISK_DATA;
	disk.hook = damage_data;
	write_file(b, "p/d/one", data, len);
	wait_advancing(STEP_MS, state_of(b, ino) == FILE_TORN && attempts_standing(b) == 0);
	assert_false(image.lost);
	assert_true(fake_has(b->fake, "p/d/one", "first", 5));
	assert_int_equal(fake_open_uploads(b->fake), 0);
	free(data);
	close_bench(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rewritten_before_it_was_sent),
		cmocka_unit_test(test_replaced_by_a_rename_before_it_was_sent),
		cmocka_unit_test(test_removed_and_written_anew),
		cmocka_unit_test(test_folders_swapped),
		cmocka_unit_test(test_removed_with_its_folder_and_written_anew),
		cmocka_unit_test(test_renamed_over_one_that_was_not_sent),
		cmocka_unit_test(test_replaced_its_own_object),
		cmocka_unit_test(test_many_replaced_their_objects),
		cmocka_unit_test(test_in_parts),
		cmocka_unit_test(test_upload_id_is_known),
		cmocka_unit_test(test_deleted_and_taken_back),
		cmocka_unit_test(test_taken_back_is_safe),
		cmocka_unit_test(test_renamed_and_the_old_one_deleted),
		cmocka_unit_test(test_deleted_and_copied_again),
		cmocka_unit_test(test_moved_away_and_copied_again),
		cmocka_unit_test(test_copied_again_before_it_was_deleted),
		cmocka_unit_test(test_forgotten_and_copied_again),
		cmocka_unit_test(test_new_files_cost_no_sync),
		cmocka_unit_test(test_syncs_are_shared),
		cmocka_unit_test(test_no_sync_no_request),
		cmocka_unit_test(test_damaged_before_it_was_completed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
