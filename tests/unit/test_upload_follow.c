/* The bucket follows renames and deletes; what is only there is never lost on the way. */
#include "upload_fake.h"

#include <lmdb.h>

#define STEP_MS 20 /* of the fake clock while a test waits: pauses between attempts take no time */

static struct bench *open_bench(bool aws)
{
	struct bench *b = bench_begin(aws);

	bench_open_upload(b);
	return b;
}

static void wait_only(struct bench *b, const char *key, const char *text)
{
	wait_until(fake_has(b->fake, key, text, strlen(text)) && fake_object_count(b->fake) == 1);
	wait_until(attempts_standing(b) == 0);
}

/* ---- renames ------------------------------------------------------------------------------------ */

static void test_renamed_after_upload(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		struct store_inode inode;
		uint64_t ino = uploaded(b, "p/d/one", "hello");

		rename_in(b, "p/d", "one", "two");
		wait_only(b, "p/d/two", "hello");
		wait_state(b, ino, FILE_UPLOADED);
		assert_int_equal(store_inode(b->store, ino, &inode), 0);
		assert_string_equal(inode.object.key, "p/d/two");
		assert_int_equal(fake_count(b->fake, S3_COPY), 1);
		assert_int_equal(fake_count(b->fake, S3_PUT), 1);
		assert_int_equal(fake_count(b->fake, S3_DELETE), 1);
		bench_end(b);
	}
}

/* Some policies refuse copies: sent again, the old object goes afterwards. */
static void test_copy_refused(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/d/one", "hello");

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_COPY, .kind = FAULT_REFUSE,
		.class = S3_DENIED, .http_status = 403, .code = "AccessDenied"});
	rename_in(b, "p/d", "one", "two");
	wait_only(b, "p/d/two", "hello");
	wait_state(b, ino, FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	bench_end(b);
}

static void test_copy_answer_lost(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		for (enum fault_kind k = FAULT_LOSE_BEFORE; k <= FAULT_LOSE_AFTER; k++) {
			struct bench *b = open_bench(aws);
			uint64_t ino = uploaded(b, "p/d/one", "hello");

			fake_fault(b->fake, (struct fake_fault){.op = S3_COPY, .kind = k});
			rename_in(b, "p/d", "one", "two");
			wait_only(b, "p/d/two", "hello");
			wait_state(b, ino, FILE_UPLOADED);
			bench_end(b);
		}
	}
}

static void test_renamed_and_back(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/d/one", "hello");

	(void)state;
	upload_pause(b->upload);
	rename_in(b, "p/d", "one", "two");
	wait_state(b, ino, FILE_MOVING);
	rename_in(b, "p/d", "two", "one");
	upload_resume(b->upload);
	wait_state(b, ino, FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_COPY), 0);
	assert_true(fake_has(b->fake, "p/d/one", "hello", 5));
	bench_end(b);
}

static void test_renamed_over_uploaded(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t one = uploaded(b, "p/d/one", "first");

		uploaded(b, "p/d/two", "second");
		rename_in(b, "p/d", "one", "two");
		wait_only(b, "p/d/two", "first");
		wait_state(b, one, FILE_UPLOADED);
		bench_end(b);
	}
}

static void test_names_swapped(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t one = uploaded(b, "p/d/one", "first");
		uint64_t two = uploaded(b, "p/d/two", "second");

		rename_in(b, "p/d", "one", "swap");
		rename_in(b, "p/d", "two", "one");
		rename_in(b, "p/d", "swap", "two");
		wait_until(fake_has(b->fake, "p/d/one", "second", 6) &&
			   fake_has(b->fake, "p/d/two", "first", 5));
		wait_state(b, one, FILE_UPLOADED);
		wait_state(b, two, FILE_UPLOADED);
		wait_until(fake_object_count(b->fake) == 2);
		bench_end(b);
	}
}

/* Written anew under the old name, before the old object was moved away from there. */
static void test_old_name_used_again(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t one = uploaded(b, "p/d/one", "first"), again;

		fake_set_hold(b->fake, S3_COPY, true);
		rename_in(b, "p/d", "one", "two");
		wait_until(fake_count(b->fake, S3_COPY) == 1);
		again = write_text(b, "p/d/one", "second");
		wait_state(b, again, FILE_QUEUED);
		fake_set_hold(b->fake, S3_COPY, false);
		wait_state(b, again, FILE_UPLOADED);
		wait_state(b, one, FILE_UPLOADED);
		wait_until(fake_has(b->fake, "p/d/two", "first", 5) &&
			   fake_has(b->fake, "p/d/one", "second", 6));
		assert_int_equal(fake_object_count(b->fake), 2);
		bench_end(b);
	}
}

static void test_target_taken_by_someone_else(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t one = uploaded(b, "p/d/one", "first");

		fake_put(b->fake, "p/d/two", "theirs");
		rename_in(b, "p/d", "one", "two");
		wait_state(b, one, FILE_CONFLICT);
		assert_true(fake_has(b->fake, "p/d/two", "theirs", 6));
		bench_end(b);
	}
}

/* Someone replaced the source meanwhile: theirs stays, ours is sent under the new name. */
static void test_source_changed_by_someone_else(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = uploaded(b, "p/d/one", "first");

	(void)state;
	fake_put(b->fake, "p/d/one", "theirs");
	rename_in(b, "p/d", "one", "two");
	wait_until(fake_has(b->fake, "p/d/two", "first", 5));
	wait_state(b, one, FILE_UPLOADED);
	wait_until(fake_count(b->fake, S3_DELETE) + fake_count(b->fake, S3_HEAD) > 0);
	assert_true(fake_has(b->fake, "p/d/one", "theirs", 6));
	bench_end(b);
}

static void test_renamed_to_a_held_name_and_back(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = uploaded(b, "p/d/one", "first");

	(void)state;
	rename_in(b, "p/d", "one", "one.tmp");
	wait_state(b, one, FILE_HELD);
	rename_in(b, "p/d", "one.tmp", "two");
	wait_only(b, "p/d/two", "first");
	wait_state(b, one, FILE_UPLOADED);
	bench_end(b);
}

static void test_folder_renamed(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		struct store_counts counts;
		struct upload_status status;
		uint64_t p;
		char path[64];

		b->upload->probe_ahead = 1000; /* that PUT is not the matter here */
		for (unsigned i = 0; i < 100; i++) {
			snprintf(path, sizeof(path), "p/old/%u/f%u", i % 3, i);
			write_text(b, path, path);
		}
		wait_until((assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0),
			counts.files[FILE_UPLOADED] == 100));
		p = file_ino(b, "p", false);
		assert_int_equal(store_rename(b->store, p, "old", p, "new", 0, 0), 0);
		wait_until((upload_status(b->upload, &status), status.jobs_open == 0));
		wait_until((assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0),
			counts.files[FILE_UPLOADED] == 100 && counts.files[FILE_DELETING] == 0));
		wait_until(fake_has(b->fake, "p/new/0/f99", "p/old/0/f99", 11));
		assert_int_equal(fake_object_count(b->fake), 100);
		assert_int_equal(fake_count(b->fake, S3_PUT), 100);
		bench_end(b);
	}
}

static void change_index(struct bench *b, const char *table, const void *key, size_t key_len,
	const void *value, size_t value_len)
{
	MDB_val k = {.mv_size = key_len, .mv_data = (void *)key},
		v = {.mv_size = value_len, .mv_data = (void *)value};
	char path[128];
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;

	snprintf(path, sizeof(path), "%s/index", b->dir);
	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_set_maxdbs(env, 32), 0);
	assert_int_equal(mdb_env_open(env, path, MDB_NOLOCK, 0600), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, table, 0, &dbi), 0);
	assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

static void make_format_3(struct bench *b)
{
	change_index(b, "meta", "format", 6, (const uint8_t[8]){3}, 8);
}

static void damage_records(struct bench *b, const uint64_t *inos, unsigned count)
{
	if (b->upload)
		bench_stop_upload(b);
	bench_close_store(b);
	for (unsigned i = 0; i < count; i++) {
		uint8_t key[8];

		put_be64(key, inos[i]);
		change_index(b, "inode", key, sizeof(key), "damaged", 8);
	}
	bench_open_store(b);
	bench_open_upload(b);
}

/* A damaged record below a renamed folder (a file's, a folder's, that of the job's own folder): what can
 * be read follows, everything else goes on, and the damage is named, now and after the next start. */
static void test_damage_below_a_renamed_folder(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t inos[3];
	struct upload_status status;
	struct store_job job;

	(void)state;
	inos[0] = uploaded(b, "p/a/1", "one");
	uploaded(b, "p/a/2/x", "two");
	uploaded(b, "p/a/3", "three");
	uploaded(b, "p/b/four", "four");
	uploaded(b, "p/c/five", "five");
	inos[1] = file_ino(b, "p/a/2", false);
	damage_records(b, inos, 2);
	rename_in(b, "p", "a", "n");
	rename_in(b, "p", "b", "m");
	wait_until(fake_has(b->fake, "p/n/3", "three", 5) && fake_has(b->fake, "p/m/four", "four", 4));
	wait_until((upload_status(b->upload, &status), status.jobs_damaged == 1 && status.jobs_open == 0));
	assert_int_equal(status.pauses, 0);
	assert_non_null(strstr(status.damaged, "p/n/1: "));
	assert_non_null(strstr(status.damaged, "cpgfs repair"));
	assert_int_equal(store_jobs(b->store, &job, 1), 1);
	assert_true(upload_job_is_damaged(b->upload, job.id));
	uploaded(b, "p/n/6", "six");
	assert_true(fake_has(b->fake, "p/a/1", "one", 3));

	bench_stop_upload(b); /* the job's own folder, before it was looked at */
	inos[2] = file_ino(b, "p/c", false);
	rename_in(b, "p", "c", "o");
	damage_records(b, inos, 3);
	wait_until((upload_status(b->upload, &status), status.jobs_damaged == 2 && status.jobs_open == 0));
	assert_int_equal(status.pauses, 0);
	uploaded(b, "p/n/7", "seven");
	bench_end(b);
}

/* However many they are: those behind them follow. */
static void test_damage_below_many_renamed_folders(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t inos[70];
	struct upload_status status;
	char path[32], name[16];

	(void)state;
	for (unsigned i = 0; i < array_len(inos); i++) {
		snprintf(path, sizeof(path), "p/%u/x", i);
		inos[i] = write_text(b, path, "x");
	}
	for (unsigned i = 0; i < array_len(inos); i++)
		wait_state(b, inos[i], FILE_UPLOADED);
	uploaded(b, "p/last/y", "y");
	damage_records(b, inos, array_len(inos));
	for (unsigned i = 0; i < array_len(inos); i++) {
		snprintf(path, sizeof(path), "%u", i);
		snprintf(name, sizeof(name), "n%u", i);
		rename_in(b, "p", path, name);
	}
	rename_in(b, "p", "last", "end");
	wait_until(fake_has(b->fake, "p/end/y", "y", 1));
	wait_until((upload_status(b->upload, &status), status.jobs_open == 0));
	assert_int_equal(status.jobs_damaged, array_len(inos));
	assert_int_equal(status.pauses, 0);
	bench_end(b);
}

/* What cannot be recorded for something damaged waits alone. */
static void test_damaged_counters(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/a/one", "one"), dir = file_ino(b, "p/a", false);
	uint8_t key[9] = {[8] = FILE_SETTLED}, value[16] = {[7] = 0x7f};
	struct upload_status status;

	(void)state;
	memset(value, 0xff, 7);
	put_be64(key, dir);
	bench_stop_upload(b);
	bench_close_store(b);
	change_index(b, "count", key, sizeof(key), value, sizeof(value));
	bench_open_store(b);
	bench_open_upload(b);
	ino = write_text(b, "p/a/two", "two");
	for (unsigned i = 0; i < 4; i++)
		uploaded(b, (const char *[]){"p/b/1", "p/b/2", "p/b/3", "p/b/4"}[i], "more");
	wait_state(b, ino, FILE_CLOSED);
	upload_status(b->upload, &status);
	assert_int_equal(status.pauses, 0);
	bench_end(b);
}

/* An older build could leave a file that was renamed while it was sent "in the bucket" for ever,
 * under the name that it had. */
static void test_left_under_the_old_name_by_an_older_build(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/d/one", "hello"), other = uploaded(b, "p/d/e/other", "more");
	struct store_transition t = {
		.ino = ino, .generation = 1, .from = FILE_MOVING, .to = FILE_UPLOADED};
	struct upload_status status;

	(void)state;
	bench_stop_upload(b);
	rename_in(b, "p/d", "one", "two");
	assert_int_equal(store_state_set(b->store, &t), 0);
	bench_close_store(b);
	make_format_3(b);
	bench_open_store(b);
	bench_open_upload(b);
	wait_until(fake_has(b->fake, "p/d/two", "hello", 5) && fake_object_count(b->fake) == 2);
	wait_state(b, ino, FILE_UPLOADED);
	wait_until((upload_status(b->upload, &status), status.jobs_open == 0));
	assert_int_equal(state_of(b, other), FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
	bench_end(b);
}

/* While its files are on their way, and again before the first job is done. */
static void test_folder_renamed_in_flight(void **state)
{
	struct bench *b = open_bench(true);
	struct store_counts counts;
	uint64_t p;
	char path[64];

	(void)state;
	fake_set_hold(b->fake, S3_PUT, true);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "p/old/f%u", i);
		write_text(b, path, path);
	}
	wait_until(fake_count(b->fake, S3_PUT) >= 8);
	p = file_ino(b, "p", false);
	assert_int_equal(store_rename(b->store, p, "old", p, "new", 0, 0), 0);
	assert_int_equal(store_rename(b->store, p, "new", p, "last", 0, 0), 0);
	fake_set_hold(b->fake, S3_PUT, false);
	wait_until((assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0),
		counts.files[FILE_UPLOADED] == 20 && counts.files[FILE_DELETING] == 0));
	assert_true(fake_has(b->fake, "p/last/f7", "p/old/f7", 8));
	wait_until(fake_object_count(b->fake) == 20);
	bench_end(b);
}

/* ---- bytes that are only in the bucket ------------------------------------------------------------ */

static void evict(struct bench *b, uint64_t ino)
{
	struct store_attr attr;
	int fd;

	assert_int_equal(store_attr(b->store, ino, &attr), 0);
	assert_int_equal(store_evict(b->store, UINT64_MAX / 2), 0);
	assert_int_equal(store_version_open(b->store, ino, attr.generation, &fd), -EREMOTE);
}

static void test_evicted_follows_by_copy(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t ino = uploaded(b, "p/d/one", "hello");

		evict(b, ino);
		rename_in(b, "p/d", "one", "two");
		wait_only(b, "p/d/two", "hello");
		wait_state(b, ino, FILE_UPLOADED);
		assert_int_equal(fake_count(b->fake, S3_PUT), 1);
		bench_end(b);
	}
}

/* The old name is written anew: its object is the only copy of the renamed file until it moved. */
static void test_evicted_is_not_overwritten(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = uploaded(b, "p/d/one", "first"), again;

	(void)state;
	evict(b, one);
	fake_fault(b->fake, (struct fake_fault){.op = S3_COPY, .kind = FAULT_REFUSE, .times = 3,
		.class = S3_THROTTLED, .http_status = 503, .code = "SlowDown"});
	rename_in(b, "p/d", "one", "two");
	again = write_text(b, "p/d/one", "second");
	wait_state(b, again, FILE_UPLOADED);
	wait_state(b, one, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/d/two", "first", 5));
	assert_true(fake_has(b->fake, "p/d/one", "second", 6));
	bench_end(b);
}

static void test_evicted_names_swapped(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t one = uploaded(b, "p/d/one", "first");
		uint64_t two = uploaded(b, "p/d/two", "second");

		evict(b, one);
		evict(b, two);
		upload_pause(b->upload);
		rename_in(b, "p/d", "one", "swap");
		rename_in(b, "p/d", "two", "one");
		rename_in(b, "p/d", "swap", "two");
		upload_resume(b->upload);
		wait_until(fake_has(b->fake, "p/d/one", "second", 6) &&
			   fake_has(b->fake, "p/d/two", "first", 5));
		wait_state(b, one, FILE_UPLOADED);
		wait_state(b, two, FILE_UPLOADED);
		wait_until(fake_object_count(b->fake) == 2);
		bench_end(b);
	}
}

static bool says_too_large(struct bench *b, uint64_t ino)
{
	char reason[256];

	reason_of(b, ino, reason);
	return strstr(reason, "more than the cache takes") != NULL;
}

/* The bytes of neither can be fetched: both say so, and what helps. */
static void test_evicted_names_swapped_beyond_the_cache(void **state)
{
	struct bench *b = open_bench(true);
	uint8_t *first = pattern(2 * PART, 1), *second = pattern(2 * PART, 2);
	uint64_t one = write_file(b, "p/d/one", first, 2 * PART);
	uint64_t two = write_file(b, "p/d/two", second, 2 * PART);

	(void)state;
	wait_state(b, one, FILE_UPLOADED);
	wait_state(b, two, FILE_UPLOADED);
	evict(b, one);
	evict(b, two);
	b->cache_size_bytes = PART;
	b->config.start_paused = true;
	bench_restart(b);
	rename_in(b, "p/d", "one", "swap");
	rename_in(b, "p/d", "two", "one");
	rename_in(b, "p/d", "swap", "two");
	upload_resume(b->upload);
	wait_until(says_too_large(b, one) && says_too_large(b, two));
	assert_int_equal(fake_count(b->fake, S3_GET), 0);
	rename_in(b, "p/d", "one", "third");
	wait_until(fake_has(b->fake, "p/d/third", second, 2 * PART) &&
		   fake_has(b->fake, "p/d/two", first, 2 * PART));
	wait_state(b, one, FILE_UPLOADED);
	wait_state(b, two, FILE_UPLOADED);
	assert_false(says_too_large(b, one) || says_too_large(b, two));
	free(first);
	free(second);
	bench_end(b);
}

/* A copy whose answer was lost, of an object made in parts, on a server without checksums, whose
 * file is another one by then: only the content can tell that the object is ours. */
static void test_copy_in_doubt_is_fetched(void **state)
{
	struct bench *b = open_bench(false);
	uint8_t *data = pattern(THRESHOLD + 1, 3);
	uint64_t ino = write_file(b, "p/d/one", data, THRESHOLD + 1);

	(void)state;
	wait_state(b, ino, FILE_UPLOADED);
	evict(b, ino);
	fake_fault(b->fake, (struct fake_fault){.op = S3_COPY, .kind = FAULT_LOSE_AFTER});
	rename_in(b, "p/d", "one", "two");
	wait_until(fake_has(b->fake, "p/d/two", data, THRESHOLD + 1) &&
		   fake_object_count(b->fake) == 1);
	wait_state(b, ino, FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_COPY), 1);
	assert_int_equal(fake_count(b->fake, S3_GET), 1);
	free(data);
	bench_end(b);
}

static void test_delete_asked_in_vain(void **state)
{
	struct bench *b = open_bench(false);

	(void)state;
	uploaded(b, "p/d/one", "hello");
	fake_fault(b->fake, (struct fake_fault){.op = S3_HEAD, .kind = FAULT_REFUSE,
		.class = S3_RETRY, .http_status = 500, .code = "InternalError"});
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), "one", 0), 0);
	wait_until(fake_object_count(b->fake) == 0);
	bench_end(b);
}

/* Replaced a file whose own object has just vanished: "not found" speaks of the target. */
static void test_copy_onto_what_vanished(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = uploaded(b, "p/d/one", "first");

	(void)state;
	uploaded(b, "p/d/two", "second");
	evict(b, one);
	fake_delete(b->fake, "p/d/two");
	rename_in(b, "p/d", "one", "two");
	wait_only(b, "p/d/two", "first");
	wait_state(b, one, FILE_UPLOADED);
	bench_end(b);
}

/* "Not found" may speak of the source, too. */
static void test_copy_of_what_vanished(void **state)
{
	(void)state;
	for (unsigned here = 0; here < 2; here++) {
		struct bench *b = open_bench(true);
		uint64_t one = uploaded(b, "p/d/one", "first");

		uploaded(b, "p/d/two", "second");
		if (!here)
			evict(b, one);
		fake_delete(b->fake, "p/d/one");
		rename_in(b, "p/d", "one", "two");
		wait_state(b, one, here ? FILE_UPLOADED : FILE_LOST);
		assert_int_equal(fake_has(b->fake, "p/d/two", "first", 5), here);
		assert_int_equal(fake_count(b->fake, S3_COPY), 1);
		bench_end(b);
	}
}

static void test_evicted_and_copy_refused(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/d/one", "hello");
	char reason[256];

	(void)state;
	evict(b, ino);
	fake_fault(b->fake, (struct fake_fault){.op = S3_COPY, .kind = FAULT_REFUSE,
		.class = S3_DENIED, .http_status = 403, .code = "AccessDenied"});
	rename_in(b, "p/d", "one", "two");
	wait_state(b, ino, FILE_FAILED);
	reason_of(b, ino, reason);
	assert_non_null(strstr(reason, "only in the bucket"));
	assert_true(fake_has(b->fake, "p/d/one", "hello", 5));
	assert_int_equal(upload_retry(b->upload, "p"), 1); /* the policy was mended */
	wait_only(b, "p/d/two", "hello");
	bench_end(b);
}

static void test_evicted_through_a_held_name(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/d/one", "hello");

	(void)state;
	evict(b, ino);
	rename_in(b, "p/d", "one", "one.tmp");
	wait_state(b, ino, FILE_HELD);
	assert_true(fake_has(b->fake, "p/d/one", "hello", 5));
	rename_in(b, "p/d", "one.tmp", "two");
	wait_only(b, "p/d/two", "hello");
	wait_state(b, ino, FILE_UPLOADED);
	bench_end(b);
}

static void large_copy(bool aws, struct fake_fault fault)
{
	struct bench *b = open_bench(aws);
	uint8_t *data = pattern(5 * PART + 7, 3);
	uint64_t ino;

	b->upload->copy_max_bytes = 2 * PART;
	b->upload->copy_part_bytes = PART;
	ino = write_file(b, "p/d/one", data, 5 * PART + 7);
	wait_state(b, ino, FILE_UPLOADED);
	evict(b, ino);
	if (fault.op != S3_HEAD_BUCKET)
		fake_fault(b->fake, fault);
	rename_in(b, "p/d", "one", "two");
	wait_until(fake_has(b->fake, "p/d/two", data, 5 * PART + 7) &&
		   fake_object_count(b->fake) == 1);
	wait_state(b, ino, FILE_UPLOADED);
	wait_until(attempts_standing(b) == 0);
	assert_int_equal(fake_open_uploads(b->fake), 0);
	assert_true(fake_count(b->fake, S3_UPLOAD_PART_COPY) >= 6);
	free(data);
	bench_end(b);
}

static void test_larger_than_one_copy(void **state)
{
	(void)state;
	large_copy(true, (struct fake_fault){0});
	large_copy(false, (struct fake_fault){0});
	large_copy(true, (struct fake_fault){.op = S3_UPLOAD_PART_COPY, .kind = FAULT_REFUSE, .skip = 2,
		.class = S3_RETRY, .http_status = 500, .code = "InternalError"});
	large_copy(true, (struct fake_fault){.op = S3_COMPLETE_MULTIPART, .skip = 1, .kind = FAULT_LOSE_AFTER});
	large_copy(true, (struct fake_fault){.op = S3_COMPLETE_MULTIPART, .kind = FAULT_LOSE_BEFORE});
	large_copy(true, (struct fake_fault){.op = S3_UPLOAD_PART_COPY, .kind = FAULT_REFUSE, .skip = 1,
		.class = S3_NOT_FOUND, .http_status = 404, .code = "NoSuchUpload"});
}

/* Something in between sends Complete again, and its second answer comes back: the object is ours. */
static void test_copy_completed_twice(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint8_t *data = pattern(5 * PART + 7, 3);
		uint64_t ino;

		b->upload->copy_max_bytes = 2 * PART;
		b->upload->copy_part_bytes = 2 * PART;
		ino = write_file(b, "p/d/one", data, 5 * PART + 7);
		wait_state(b, ino, FILE_UPLOADED);
		evict(b, ino);
		fake_fault(b->fake,
			(struct fake_fault){.op = S3_COMPLETE_MULTIPART, .kind = FAULT_TWICE});
		rename_in(b, "p/d", "one", "two");
		wait_until(fake_has(b->fake, "p/d/two", data, 5 * PART + 7) &&
			   fake_object_count(b->fake) == 1);
		wait_state(b, ino, FILE_UPLOADED);
		wait_until(attempts_standing(b) == 0);
		assert_int_equal(fake_open_uploads(b->fake), 0);
		assert_int_equal(fake_count(b->fake, S3_COMPLETE_MULTIPART), 2);
		free(data);
		bench_end(b);
	}
}

static void test_killed_while_copying_parts(void **state)
{
	struct bench *b = open_bench(true);
	uint8_t *data = pattern(5 * PART, 3);
	uint64_t ino;

	(void)state;
	b->upload->copy_max_bytes = 2 * PART;
	b->upload->copy_part_bytes = PART;
	ino = write_file(b, "p/d/one", data, 5 * PART);
	wait_state(b, ino, FILE_UPLOADED);
	evict(b, ino);
	fake_set_hold(b->fake, S3_UPLOAD_PART_COPY, true);
	rename_in(b, "p/d", "one", "two");
	wait_until(fake_count(b->fake, S3_UPLOAD_PART_COPY) >= 1);
	bench_kill(b, true);
	bench_open_upload(b); /* with its own limits: one CopyObject this time */
	wait_until(fake_has(b->fake, "p/d/two", data, 5 * PART) && fake_object_count(b->fake) == 1);
	wait_state(b, ino, FILE_UPLOADED);
	wait_until(attempts_standing(b) == 0);
	assert_int_equal(fake_open_uploads(b->fake), 0);
	free(data);
	bench_end(b);
}

/* The source is replaced while it is copied, on a server that keeps no checksums and does not
 * honour the condition on the source: what was copied then is not ours, and is not said to be. */
static void source_replaced_under_copy(enum s3_op op, bool is_here)
{
	struct bench *b = open_bench(false);
	uint8_t *data = pattern(5 * PART, 3), *theirs = pattern(5 * PART, 4);
	uint64_t ino;

	b->fake->copies_anything = true;
	if (op == S3_UPLOAD_PART_COPY) {
		b->upload->copy_max_bytes = 2 * PART;
		b->upload->copy_part_bytes = PART;
	}
	ino = write_file(b, "p/d/one", data, 5 * PART);
	wait_state(b, ino, FILE_UPLOADED);
	if (!is_here)
		evict(b, ino);
	fake_set_hold(b->fake, op, true);
	rename_in(b, "p/d", "one", "two");
	wait_until(fake_count(b->fake, op) >= 1);
	lock_take(&b->fake->lock);
	fake_store(b->fake, "p/d/one", theirs, 5 * PART);
	lock_drop(&b->fake->lock);
	fake_set_hold(b->fake, op, false);
	wait_until(state_of(b, ino) != FILE_MOVING && attempts_standing(b) == 0);
	wait_state(b, ino, FILE_CONFLICT);
	assert_true(fake_has(b->fake, "p/d/one", theirs, 5 * PART));
	assert_int_equal(fake_open_uploads(b->fake), 0);
	free(theirs);
	free(data);
	bench_end(b);
}

static void test_source_replaced_under_copy(void **state)
{
	(void)state;
	source_replaced_under_copy(S3_COPY, true);
	source_replaced_under_copy(S3_COPY, false);
	source_replaced_under_copy(S3_UPLOAD_PART_COPY, false);
}

/* It is deleted right after it was copied: the copy is ours, as its content tells. */
static void test_source_gone_after_copy(void **state)
{
	struct bench *b = open_bench(false);
	uint8_t *data = pattern(5 * PART, 3);
	uint64_t ino = write_file(b, "p/d/one", data, 5 * PART);

	(void)state;
	wait_state(b, ino, FILE_UPLOADED);
	evict(b, ino);
	fake_set_hold(b->fake, S3_HEAD, true);
	rename_in(b, "p/d", "one", "two");
	wait_until(fake_in_flight(b->fake, S3_HEAD) == 1); /* is the new key free? */
	fake_set_hold(b->fake, S3_COPY, true);
	fake_set_hold(b->fake, S3_HEAD, false);
	wait_until(fake_in_flight(b->fake, S3_COPY) == 1);
	fake_set_hold(b->fake, S3_HEAD, true);
	fake_set_hold(b->fake, S3_COPY, false);
	wait_until(fake_in_flight(b->fake, S3_HEAD) == 1);
	fake_delete(b->fake, "p/d/one");
	fake_set_hold(b->fake, S3_HEAD, false);
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/d/two", data, 5 * PART));
	assert_int_equal(fake_count(b->fake, S3_GET), 1);
	assert_int_equal(fake_count(b->fake, S3_COPY), 1);
	free(data);
	bench_end(b);
}

static void test_rename_clean(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = write_text(b, "p/my plate/raw data/one", "first");
	uint64_t two = write_text(b, "p/my plate/two", "second");

	(void)state;
	wait_state(b, one, FILE_HELD);
	wait_state(b, two, FILE_HELD);
	assert_int_equal(upload_rename_clean(b->upload, "p"), 2);
	wait_state(b, one, FILE_UPLOADED);
	wait_state(b, two, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/myplate/rawdata/one", "first", 5));
	assert_true(fake_has(b->fake, "p/myplate/two", "second", 6));
	bench_end(b);
}

/* The folder that was named is the first that gets another name. */
static void test_rename_clean_of_the_folder_itself(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = write_text(b, "p/my plate/raw data/one", "first");
	uint64_t two = write_text(b, "p/my plate/more data/two", "second");

	(void)state;
	wait_state(b, one, FILE_HELD);
	wait_state(b, two, FILE_HELD);
	assert_int_equal(upload_rename_clean(b->upload, "p/my plate"), 3);
	wait_state(b, one, FILE_UPLOADED);
	wait_state(b, two, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/myplate/moredata/two", "second", 6));
	bench_end(b);
}

/* ---- deletes ------------------------------------------------------------------------------------ */

static void unlink_in(struct bench *b, const char *dir, const char *name, int64_t delay_ms)
{
	assert_int_equal(store_unlink(b->store, file_ino(b, dir, false), name, delay_ms), 0);
}

static uint64_t deleting_count(struct bench *b)
{
	struct store_counts counts;

	assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0);
	return counts.files[FILE_DELETING];
}

static void test_deleted_when_due(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);

		uploaded(b, "p/d/one", "hello");
		unlink_in(b, "p/d", "one", 300);
		assert_int_equal(deleting_count(b), 1);
		assert_int_equal(fake_object_count(b->fake), 1);
		wait_until(deleting_count(b) == 0);
		assert_int_equal(fake_object_count(b->fake), 0);
		assert_int_equal(fake_count(b->fake, S3_DELETE), 1);
		bench_end(b);
	}
}

/* Far more than passes while a busy machine is waited for. */
#define HOUR_MS INT64_C(3600000)

/* By NTP, at a machine whose own clock was wrong. */
static void test_a_clock_set_ahead_makes_nothing_due(void **state)
{
	struct store_object other = {.key = "p/d/other", .size_bytes = 5};
	struct bench *b;
	uint64_t one;

	(void)state;
	b = open_bench(true);
	fake_put(b->fake, "p/d/other", "hello");
	md5_hex_of("hello", 5, other.etag);
	one = file_ino(b, "p/d/one", true);
	(void)write_file(b, "p/d/one", "hello", 5);
	(void)write_file(b, "p/d/two", "hello", 5);
	(void)write_file(b, "p/d/three", "hello", 5);
	wait_until(fake_object_count(b->fake) == 4 && attempts_standing(b) == 0);
	unlink_in(b, "p/d", "one", 60 * HOUR_MS);
	clock_fake_set_ahead_ms(600 * HOUR_MS);
	assert_int_equal(store_stray_add(b->store, &other, clock_wall_ns()), 0);
	unlink_in(b, "p/d", "two", 60 * HOUR_MS);
	unlink_in(b, "p/d", "three", 0);
	wait_until(fake_object_count(b->fake) == 2); /* looked at after the first one */
	assert_int_equal(fake_count(b->fake, S3_DELETE), 2);
	assert_int_equal(state_of(b, one), FILE_DELETING);
	assert_true(fake_has(b->fake, "p/d/one", "hello", 5));
	clock_fake_advance_ms(60 * HOUR_MS);
	wait_until(fake_object_count(b->fake) == 0);
	bench_end(b);
	clock_fake_set_ahead_ms(-600 * HOUR_MS);
}

static int64_t due_at_ns(struct bench *b, uint64_t ino)
{
	struct store_inode inode;

	assert_int_equal(store_inode(b->store, ino, &inode), 0);
	return inode.due_at_ns;
}

/* What was deleted while it was ahead, or before that, does not stay until the day it showed then. */
static void test_a_clock_set_back_keeps_nothing(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t two;

	(void)state;
	uploaded(b, "p/d/one", "hello");
	two = uploaded(b, "p/d/two", "hallo");
	unlink_in(b, "p/d", "one", 30 * HOUR_MS);
	clock_fake_advance_ms(1000); /* before it was looked at again, else nobody knows by which clock */
	clock_fake_set_ahead_ms(600 * HOUR_MS);
	uploaded(b, "p/d/three", "hey"); /* it was looked at */
	unlink_in(b, "p/d", "three", 30 * HOUR_MS);
	uploaded(b, "p/d/four", "hoy");
	clock_fake_set_ahead_ms(-600 * HOUR_MS);
	unlink_in(b, "p/d", "two", 60 * HOUR_MS);
	uploaded(b, "p/d/five", "hi");
	clock_fake_advance_ms(30 * HOUR_MS);
	wait_until(fake_object_count(b->fake) == 3);
	assert_true(fake_has(b->fake, "p/d/two", "hallo", 5));
	assert_true(due_at_ns(b, two) > clock_wall_ns());
	clock_fake_advance_ms(60 * HOUR_MS);
	wait_until(fake_object_count(b->fake) == 2);
	bench_end(b);
}

/* It was ahead when the mount began (a machine whose clock is set once it has a network): what was deleted by
 * the right clock before stays as long as it was to. */
static void test_a_clock_set_right_deletes_nothing_early(void **state)
{
	struct bench *b = open_bench(true);
	int64_t due_ns;
	uint64_t one;

	(void)state;
	one = uploaded(b, "p/d/one", "hello");
	uploaded(b, "p/d/two", "hallo");
	uploaded(b, "p/d/three", "hey");
	unlink_in(b, "p/d", "one", 4 * 3600000);
	due_ns = due_at_ns(b, one);
	bench_stop_upload(b);
	bench_close_store(b);
	clock_fake_advance_ms(600000);
	clock_fake_set_ahead_ms(2 * 3600000);
	bench_open_store(b);
	bench_open_upload(b);
	unlink_in(b, "p/d", "two", 0);
	wait_until(fake_object_count(b->fake) == 2);
	clock_fake_set_ahead_ms(-2 * 3600000);
	unlink_in(b, "p/d", "three", 0);
	wait_until(fake_object_count(b->fake) == 1);
	assert_true(due_at_ns(b, one) == due_ns);
	bench_end(b);
}

/* A record that cannot be put off cannot be deleted either, and holds up no other. */
static void test_a_clock_set_ahead_and_a_damaged_record(void **state)
{
	struct bench *b;
	uint64_t one, two;

	(void)state;
	b = open_bench(true);
	one = write_file(b, "p/d/one", "hello", 5);
	two = write_file(b, "p/d/two", "hallo", 5);
	wait_until(fake_object_count(b->fake) == 2 && attempts_standing(b) == 0);
	unlink_in(b, "p/d", "one", 600000);
	unlink_in(b, "p/d", "two", 600000);
	damage_records(b, &one, 1);
	(void)write_file(b, "p/d/three", "hey", 3);
	wait_until(fake_object_count(b->fake) == 3);
	clock_fake_set_ahead_ms(6 * 3600000);
	wait_until(due_at_ns(b, two) > clock_wall_ns());
	clock_fake_advance_ms(600000);
	wait_until(fake_object_count(b->fake) == 2);
	assert_true(fake_has(b->fake, "p/d/one", "hello", 5));
	bench_end(b);
	clock_fake_set_ahead_ms(-6 * 3600000);
}

/* Whose path is not its key. The object may be the last good version of what is being written. */
static void test_deleted_but_written_again_under_a_cleaned_name(void **state)
{
	struct bench *b = bench_begin(true);
	uint64_t chunk, again;
	struct store_file *f;

	(void)state;
	b->config.naming.mode = NAMING_CLEAN;
	bench_open_upload(b);
	uploaded(b, "p/my plate/a b/one", "hello");
	uploaded(b, "p/other", "more");
	assert_true(fake_has(b->fake, "p/myplate/ab/one", "hello", 5));
	upload_pause(b->upload);
	wait_until(upload_pauses(b) == PAUSE_BY_HAND);
	unlink_in(b, "p/my plate/a b", "one", 0);
	again = file_ino(b, "p/my plate/a b/one", true);
	assert_int_equal(store_file_open(b->store, again, &f), 0);
	store_file_writer_add(f);
	assert_int_equal(store_file_write(f, "hallo", 5, 0, false, &chunk), 0);
	unlink_in(b, "p", "other", 0); /* looked at after that one */
	upload_resume(b->upload);
	wait_until(fake_object_count(b->fake) == 1);
	assert_true(fake_has(b->fake, "p/myplate/ab/one", "hello", 5));
	assert_int_equal(store_file_flush(f, false, NULL), 0);
	store_file_writer_drop(f);
	store_file_close(f);
	wait_only(b, "p/myplate/ab/one", "hallo");
	wait_until(deleting_count(b) == 0);
	assert_int_equal(fake_count(b->fake, S3_DELETE), 1);
	bench_end(b);
}

static char refused[512];

static void note_refused(void *user, const char *path, const char *why)
{
	size_t len = strlen(refused);

	snprintf(refused + len, sizeof(refused) - len, "%s: %s\n", path, why);
}

static int64_t undelete(struct bench *b, const char *path)
{
	refused[0] = '\0';
	return upload_undelete(b->upload, path, note_refused, NULL);
}

static uint64_t closed_as(struct bench *b, const char *path, enum file_state state)
{
	uint64_t ino = write_file(b, path, "hello", 5);
	struct store_attr attr;
	struct store_transition t = {.ino = ino, .from = FILE_CLOSED, .to = state, .reason = "so"};

	assert_int_equal(store_attr(b->store, ino, &attr), 0);
	t.generation = attr.generation;
	assert_int_equal(store_state_set(b->store, &t), 0);
	return ino;
}

/* Of a folder not one count alone: what still needs a person is named. */
static void test_accept_and_discard_name_what_they_leave(void **state)
{
	struct bench *b = bench_begin(true);
	uint64_t damaged, one;

	(void)state;
	one = closed_as(b, "p/d/incomplete", FILE_INCOMPLETE);
	(void)closed_as(b, "p/d/failed", FILE_FAILED);
	(void)closed_as(b, "p/d/lost", FILE_LOST);
	damaged = closed_as(b, "p/d/damaged", FILE_INCOMPLETE);
	damage_records(b, &damaged, 1);
	refused[0] = '\0';
	assert_int_equal(upload_accept_all(b->upload, "p/d", note_refused, NULL), 1);
	assert_string_equal(refused,
		"p/d/damaged: its record is damaged: unmount, then run `cpgfs repair`\n"
		"p/d/failed: it cannot be sent: see its reason, then `cpgfs retry`\n"
		"p/d/lost: its bytes are gone: copy it again, or `cpgfs discard` it\n");
	wait_state(b, one, FILE_UPLOADED);
	refused[0] = '\0';
	assert_int_equal(upload_discard_all(b->upload, "p/d", note_refused, NULL), 2);
	assert_string_equal(
		refused, "p/d/damaged: its record is damaged: unmount, then run `cpgfs repair`\n");
	bench_end(b);
}

static void test_undelete(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/d/one", "hello");

	(void)state;
	unlink_in(b, "p/d", "one", 600000);
	assert_int_equal(undelete(b, "p/other"), 0);
	assert_int_equal(undelete(b, "p/d"), 1);
	assert_string_equal(refused, "");
	assert_int_equal(deleting_count(b), 0);
	assert_int_equal(file_ino(b, "p/d/one", false), ino);
	assert_int_equal(fake_count(b->fake, S3_DELETE), 0);
	bench_end(b);
}

/* Deleted before the rename of its folder was followed: its object still has the old name. */
static void test_undelete_where_the_folder_was_renamed(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/d/one", "hello");
	struct upload_status status;

	(void)state;
	rename_in(b, "p", "d", "e");
	unlink_in(b, "p/e", "one", 600000);
	wait_until((upload_status(b->upload, &status), status.jobs_open == 0));
	assert_int_equal(undelete(b, "p/e"), 1);
	wait_only(b, "p/e/one", "hello");
	wait_until(state_of(b, ino) == FILE_UPLOADED);
	assert_int_equal(fake_count(b->fake, S3_COPY), 1);
	bench_end(b);
}

/* An object from elsewhere (--allow-delete): it just stays, and an own file that came in its place is none. */
static void test_undelete_of_what_was_never_ours(void **state)
{
	struct bench *b = open_bench(true);
	struct store_object object = {.key = "p/theirs", .size_bytes = 6};
	int64_t later = clock_wall_ns() + 600 * NS_PER_S;
	struct store_counts counts;

	(void)state;
	fake_put(b->fake, "p/theirs", "theirs");
	md5_hex_of("theirs", 6, object.etag);
	assert_int_equal(store_stray_add(b->store, &object, later), 0);
	assert_true(store_key_is_ours(b->store, "p/theirs"));
	assert_int_equal(upload_undelete(b->upload, "p", NULL, NULL), 1);
	assert_false(store_key_is_ours(b->store, "p/theirs"));
	assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0);
	assert_int_equal(counts.files[FILE_DELETING], 0);
	assert_true(fake_has(b->fake, "p/theirs", "theirs", 6));

	assert_int_equal(store_stray_add(b->store, &object, later), 0);
	uploaded(b, "p/theirs", "theirs");
	assert_int_equal(upload_undelete(b->upload, "p", NULL, NULL), 0);
	bench_end(b);
}

/* Carried out, but answered by something in between, and the daemon is killed before the bucket was asked:
 * it is sent again from what is here, or stays deleted. */
static void test_undelete_of_what_may_be_deleted(void **state)
{
	(void)state;
	for (unsigned is_here = 0; is_here < 2; is_here++) {
		struct bench *b = open_bench(true);
		uint64_t ino = uploaded(b, "p/d/one", "hello");

		if (!is_here)
			assert_int_equal(store_evict(b->store, UINT64_MAX / 2), 0);
		fake_fault(b->fake, (struct fake_fault){.op = S3_DELETE, .kind = FAULT_BY_PROXY,
			.class = S3_DONE, .http_status = 204, .code = ""});
		fake_set_hold(b->fake, S3_HEAD, true);
		unlink_in(b, "p/d", "one", 0);
		wait_until(fake_in_flight(b->fake, S3_HEAD) == 1);
		fake_delete(b->fake, "p/d/one");
		bench_kill(b, false);
		assert_int_equal(store_undelete(b->store, ino, NULL), is_here ? 0 : -EBUSY);
		bench_open_upload(b);
		if (is_here)
			wait_only(b, "p/d/one", "hello");
		wait_until(deleting_count(b) == 0 && attempts_standing(b) == 0);
		assert_int_equal(file_ino(b, "p/d/one", false), is_here ? ino : 0);
		bench_end(b);
	}
}

static void test_undelete_too_late(void **state)
{
	struct bench *b = open_bench(true);

	(void)state;
	uploaded(b, "p/d/one", "hello");
	fake_set_hold(b->fake, S3_DELETE, true);
	unlink_in(b, "p/d", "one", 0);
	wait_until(fake_count(b->fake, S3_DELETE) == 1);
	assert_int_equal(undelete(b, ""), 0);
	assert_string_equal(refused, "p/d/one: its deletion is on its way to the bucket\n");
	fake_set_hold(b->fake, S3_DELETE, false);
	wait_until(deleting_count(b) == 0);
	assert_int_equal(fake_object_count(b->fake), 0);
	bench_end(b);
}

static void test_undelete_where_the_name_is_taken(void **state)
{
	struct bench *b = open_bench(true);

	(void)state;
	uploaded(b, "p/d/one", "hello");
	uploaded(b, "p/d/two", "hello");
	unlink_in(b, "p/d", "one", 600000);
	unlink_in(b, "p/d", "two", 600000);
	(void)write_file(b, "p/d/one", "another", 7);
	assert_int_equal(undelete(b, "p/d"), 1);
	assert_string_equal(refused, "p/d/one: another file has its name\n");
	bench_end(b);
}

static void test_deleted_but_changed_by_someone_else(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);

		uploaded(b, "p/d/one", "hello");
		fake_put(b->fake, "p/d/one", "theirs");
		unlink_in(b, "p/d", "one", 0);
		wait_until(deleting_count(b) == 0);
		assert_true(fake_has(b->fake, "p/d/one", "theirs", 6));
		bench_end(b);
	}
}

static void test_delete_answer_lost(void **state)
{
	(void)state;
	for (enum fault_kind k = FAULT_LOSE_BEFORE; k <= FAULT_LOSE_AFTER; k++) {
		struct bench *b = open_bench(true);

		uploaded(b, "p/d/one", "hello");
		fake_fault(b->fake, (struct fake_fault){.op = S3_DELETE, .kind = k});
		unlink_in(b, "p/d", "one", 0);
		wait_until(deleting_count(b) == 0);
		assert_int_equal(fake_object_count(b->fake), 0);
		wait_until(attempts_standing(b) == 0);
		bench_end(b);
	}
}

/* Something in between that says "done" by itself has deleted nothing. */
static void test_delete_answered_by_a_proxy(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);

		uploaded(b, "p/d/one", "hello");
		fake_fault(b->fake, (struct fake_fault){.op = S3_DELETE, .kind = FAULT_BY_PROXY,
			.class = S3_DONE, .http_status = 204, .code = ""});
		unlink_in(b, "p/d", "one", 0);
		wait_until(deleting_count(b) == 0);
		assert_int_equal(fake_object_count(b->fake), 0);
		assert_int_equal(fake_count(b->fake, S3_DELETE), 2);
		bench_end(b);
	}
}

/* A page without anything in it says that there is more: it is no proof that the object is gone. */
static void test_delete_asked_of_empty_pages(void **state)
{
	(void)state;
	for (unsigned pages = 1; pages <= 20; pages += 19) {
		struct bench *b = open_bench(true);

		uploaded(b, "p/d/one", "hello");
		fake_fault(b->fake, (struct fake_fault){.op = S3_DELETE, .kind = FAULT_LOSE_BEFORE});
		fake_fault(b->fake, (struct fake_fault){.op = S3_HEAD, .kind = FAULT_REFUSE,
			.times = 2, .class = S3_DENIED, .http_status = 403, .code = "Forbidden"});
		fake_fault(b->fake, (struct fake_fault){
			.op = S3_LIST, .kind = FAULT_EMPTY_PAGE, .times = pages});
		unlink_in(b, "p/d", "one", 0);
		wait_until(deleting_count(b) == 0);
		assert_int_equal(fake_object_count(b->fake), 0);
		wait_until(attempts_standing(b) == 0);
		bench_end(b);
	}
}

static void test_delete_denied_keeps_trying_quietly(void **state)
{
	struct bench *b = open_bench(true);

	(void)state;
	uploaded(b, "p/d/one", "hello");
	fake_fault(b->fake, (struct fake_fault){.op = S3_DELETE, .kind = FAULT_REFUSE,
		.class = S3_DENIED, .http_status = 403, .code = "AccessDenied"});
	unlink_in(b, "p/d", "one", 0);
	wait_until(fake_count(b->fake, S3_DELETE) == 1 && attempts_standing(b) == 0);
	assert_int_equal(deleting_count(b), 1);
	wait_until(undelete(b, "p/d/one") == 1); /* the answer is being worked on */
	bench_end(b);
}

static void killed_at(enum s3_op op, bool carried_out)
{
	struct bench *b = open_bench(true);
	uint64_t one = uploaded(b, "p/d/one", "hello");

	fake_set_hold(b->fake, op, true);
	rename_in(b, "p/d", "one", "two");
	wait_until(fake_count(b->fake, op) == 1);
	bench_kill(b, carried_out);
	bench_open_upload(b);
	wait_only(b, "p/d/two", "hello");
	wait_state(b, one, FILE_UPLOADED);
	wait_until(deleting_count(b) == 0);
	bench_end(b);
}

static void test_killed_while_moving(void **state)
{
	(void)state;
	killed_at(S3_COPY, false);
	killed_at(S3_COPY, true);
	killed_at(S3_DELETE, false);
	killed_at(S3_DELETE, true);
}

static void killed_put(bool aws, bool carried_out, bool rewritten)
{
	struct bench *b = open_bench(aws);
	const char *text = rewritten ? "other!" : "hello";
	uint64_t one;

	fake_set_hold(b->fake, S3_PUT, true);
	one = write_text(b, "p/d/one", "hello");
	wait_until(fake_count(b->fake, S3_PUT) == 1);
	bench_kill(b, carried_out);
	if (rewritten)
		write_text(b, "p/d/one", text);
	bench_open_upload(b);
	wait_only(b, "p/d/one", text);
	wait_state(b, one, FILE_UPLOADED);
	wait_until(deleting_count(b) == 0);
	bench_end(b);
}

static void test_killed_while_sending(void **state)
{
	(void)state;
	for (unsigned bits = 0; bits < 8; bits++)
		killed_put(bits & 1, bits & 2, bits & 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_renamed_after_upload),
		cmocka_unit_test(test_copy_refused),
		cmocka_unit_test(test_copy_answer_lost),
		cmocka_unit_test(test_renamed_and_back),
		cmocka_unit_test(test_renamed_over_uploaded),
		cmocka_unit_test(test_names_swapped),
		cmocka_unit_test(test_old_name_used_again),
		cmocka_unit_test(test_target_taken_by_someone_else),
		cmocka_unit_test(test_source_changed_by_someone_else),
		cmocka_unit_test(test_renamed_to_a_held_name_and_back),
		cmocka_unit_test(test_folder_renamed),
		cmocka_unit_test(test_folder_renamed_in_flight),
		cmocka_unit_test(test_left_under_the_old_name_by_an_older_build),
		cmocka_unit_test(test_damage_below_a_renamed_folder),
		cmocka_unit_test(test_damage_below_many_renamed_folders),
		cmocka_unit_test(test_damaged_counters),
		cmocka_unit_test(test_evicted_follows_by_copy),
		cmocka_unit_test(test_evicted_is_not_overwritten),
		cmocka_unit_test(test_evicted_names_swapped),
		cmocka_unit_test(test_evicted_names_swapped_beyond_the_cache),
		cmocka_unit_test(test_copy_in_doubt_is_fetched),
		cmocka_unit_test(test_delete_asked_in_vain),
		cmocka_unit_test(test_copy_onto_what_vanished),
		cmocka_unit_test(test_copy_of_what_vanished),
		cmocka_unit_test(test_evicted_and_copy_refused),
		cmocka_unit_test(test_evicted_through_a_held_name),
		cmocka_unit_test(test_larger_than_one_copy),
		cmocka_unit_test(test_copy_completed_twice),
		cmocka_unit_test(test_killed_while_copying_parts),
		cmocka_unit_test(test_source_replaced_under_copy),
		cmocka_unit_test(test_source_gone_after_copy),
		cmocka_unit_test(test_rename_clean),
		cmocka_unit_test(test_rename_clean_of_the_folder_itself),
		cmocka_unit_test(test_deleted_when_due),
		cmocka_unit_test(test_a_clock_set_ahead_makes_nothing_due),
		cmocka_unit_test(test_a_clock_set_back_keeps_nothing),
		cmocka_unit_test(test_a_clock_set_right_deletes_nothing_early),
		cmocka_unit_test(test_a_clock_set_ahead_and_a_damaged_record),
		cmocka_unit_test(test_deleted_but_written_again_under_a_cleaned_name),
		cmocka_unit_test(test_accept_and_discard_name_what_they_leave),
		cmocka_unit_test(test_undelete),
		cmocka_unit_test(test_undelete_where_the_folder_was_renamed),
		cmocka_unit_test(test_undelete_of_what_was_never_ours),
		cmocka_unit_test(test_undelete_of_what_may_be_deleted),
		cmocka_unit_test(test_undelete_too_late),
		cmocka_unit_test(test_undelete_where_the_name_is_taken),
		cmocka_unit_test(test_deleted_but_changed_by_someone_else),
		cmocka_unit_test(test_delete_answer_lost),
		cmocka_unit_test(test_delete_answered_by_a_proxy),
		cmocka_unit_test(test_delete_asked_of_empty_pages),
		cmocka_unit_test(test_delete_denied_keeps_trying_quietly),
		cmocka_unit_test(test_killed_while_moving),
		cmocka_unit_test(test_killed_while_sending),
	};
	clock_fake_begin(clock_wall_ns());
	wait_step_ms = STEP_MS;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
