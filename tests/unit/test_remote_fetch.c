/*
 * Chunks of an object from elsewhere, fetched into a real store: content, single flight, reading
 * ahead, changed objects, broken transfers, room.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/remote.h"
#include "fake_bucket.h"
#include "scratch.h"

#include <ftw.h>
#include <sched.h>
#include <stdatomic.h>

#define PART (64 * 1024)
#define SIZE (5 * PART + 1000)

static struct fake_bucket *bucket;
static struct remote *the_remote;
static struct store *store;
static char dir[64];
static uint64_t ino;

static atomic_uint fetched[16];
static atomic_int fetch_error[16];

static void on_fetched(void *user, uint64_t which, uint64_t chunk, int error)
{
	lock_assert_none_held();
	assert_int_equal(which, ino);
	atomic_store(&fetch_error[chunk], error);
	atomic_fetch_add(&fetched[chunk], 1);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void start_remote(void)
{
	struct remote_config config = {
		.prefix = "p", .list_ttl_ms = 60000, .s3 = &bucket->s3, .store = store};
	struct remote_events events = {.fetched = on_fetched};

	assert_int_equal(remote_create(&the_remote, &config), 0);
	remote_subscribe(the_remote, &events);
	assert_int_equal(remote_start(the_remote), 0);
}

static int setup_sized(uint64_t cache_size_bytes)
{
	struct store_config config = {.dir = dir,
		.identity = "test",
		.part_size_bytes = PART,
		.cache_size_bytes = cache_size_bytes};
	struct store_object object = {.key = "p/big", .etag = "e1", .size_bytes = SIZE};
	struct store_attr attr;
	char *message = NULL;

	snprintf(dir, sizeof(dir), "%s/cpgfs-fetch-XXXXXX", scratch_top());
	assert_non_null(mkdtemp(dir));
	memset((void *)fetched, 0, sizeof(fetched));
	memset((void *)fetch_error, 0, sizeof(fetch_error));
	assert_int_equal(store_open(&store, &config, 0, &message), 0);
	assert_int_equal(store_start(store), 0);
	bucket = fake_create();
	fake_put(bucket, "p/big", SIZE, "e1");
	start_remote();
	assert_int_equal(store_import(store, &object, &attr), 0);
	ino = attr.ino;
	return 0;
}

static int setup(void **state)
{
	return setup_sized(0);
}

static int teardown(void **state)
{
	store_stop(store);
	remote_stop(the_remote);
	remote_destroy(the_remote);
	s3_destroy(&bucket->s3);
	store_close(store);
	return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void wait_fetched(unsigned chunk, unsigned times)
{
	int64_t deadline_ms = clock_mono_ms() + 60000;

	while (atomic_load(&fetched[chunk]) < times) {
		assert_true(clock_mono_ms() < deadline_ms);
		sched_yield();
	}
}

static bool is_present(uint64_t chunk)
{
	struct store_chunk c;

	assert_int_equal(store_chunk(store, ino, chunk, &c), 0);
	return c.present;
}

static void wait_present(uint64_t chunk)
{
	int64_t deadline_ms = clock_mono_ms() + 60000;

	while (!is_present(chunk)) {
		assert_true(clock_mono_ms() < deadline_ms);
		sched_yield();
	}
}

static void assert_content(uint64_t off, size_t len)
{
	cleanup_free uint8_t *data = malloc(len);
	struct store_file *f;
	uint64_t chunk;

	assert_int_equal(store_file_open(store, ino, &f), 0);
	assert_int_equal(store_file_read(f, data, len, off, &chunk), len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(data[i], (uint8_t)((off + i) * 7));
	store_file_close(f);
}

static int64_t soon(void)
{
	return clock_mono_ms() + 60000;
}

static void a_chunk_is_fetched_once(void **state)
{
	fake_hold(bucket, true);
	for (int i = 0; i < 50; i++)
		assert_int_equal(remote_fetch(the_remote, ino, 3), -EINPROGRESS);
	fake_hold(bucket, false);
	wait_fetched(3, 1);
	assert_int_equal(atomic_load(&fetch_error[3]), 0);
	assert_int_equal(fake_count(bucket, S3_GET), 1);
	assert_content(3 * PART, PART);
	assert_int_equal(remote_fetch(the_remote, ino, 3), 0);
	assert_false(is_present(2));
}

static void the_last_chunk_is_short(void **state)
{
	assert_int_equal(remote_fetch_wait(the_remote, ino, 5, soon()), 0);
	assert_content(5 * PART, 1000);
	assert_int_equal(remote_fetch_wait(the_remote, ino, 6, soon()), -ERANGE);
}

static void reading_in_order_fetches_ahead(void **state)
{
	assert_int_equal(remote_fetch_wait(the_remote, ino, 0, soon()), 0);
	for (uint64_t n = 1; n <= 3; n++)
		wait_present(n);
	assert_int_equal(remote_fetch_wait(the_remote, ino, 4, soon()), 0);
	wait_present(5);
	assert_int_equal(fake_count(bucket, S3_GET), 6);
	assert_content(0, SIZE);
}

static void reading_here_and_there_does_not(void **state)
{
	assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), 0);
	assert_int_equal(remote_fetch_wait(the_remote, ino, 1, soon()), 0);
	assert_int_equal(remote_fetch_wait(the_remote, ino, 5, soon()), 0);
	assert_int_equal(fake_count(bucket, S3_GET), 3);
}

static void a_changed_object_is_stale(void **state)
{
	fake_put(bucket, "p/big", SIZE, "e2");
	assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), -ESTALE);
	assert_false(is_present(3));
	fake_remove(bucket, "p/big");
	assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), -ESTALE);
	wait_fetched(3, 2);
	assert_int_equal(fake_count(bucket, S3_GET), 2);
}

/* ---- broken transfers ---- */

static atomic_uint gets;

static void send_bytes(const struct s3_request *req, uint64_t len, int add)
{
	for (uint64_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)((req->range_start + i) * 7 + (uint64_t)add);

		(void)req->sink.write(req->sink.user, i, &byte, 1);
	}
}

/* The first two answers break off after 1,000 bytes each. */
static bool breaks_off(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	if (req->op != S3_GET || atomic_fetch_add(&gets, 1) >= 2)
		return false;
	send_bytes(req, 1000, 0);
	fake_error(reply, S3_RETRY, 0, "TransferCut");
	return true;
}

static void a_broken_transfer_goes_on_where_it_broke(void **state)
{
	atomic_store(&gets, 0);
	bucket->answer = breaks_off;
	assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), 0);
	assert_content(3 * PART, PART);
	assert_int_equal(atomic_load(&gets), 3);
}

/* All bytes are here, but not the end of the answer that brought them. */
static bool ends_badly(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	if (req->op != S3_GET)
		return false;
	atomic_fetch_add(&gets, 1);
	send_bytes(req, req->range_len, 0);
	if (req->range_len)
		fake_error(reply, S3_RETRY, 206, "AnswerCut");
	else
		fake_error(reply, S3_FATAL, 416, "InvalidRange");
	return true;
}

static void a_transfer_may_break_off_behind_its_last_byte(void **state)
{
	atomic_store(&gets, 0);
	bucket->answer = ends_badly;
	assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), 0);
	assert_content(3 * PART, PART);
	assert_int_equal(atomic_load(&gets), 1);
}

static bool cut_short(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	if (req->op != S3_GET || atomic_fetch_add(&gets, 1) >= 1)
		return false;
	send_bytes(req, 10, 0);
	reply->class = S3_DONE;
	reply->http_status = 206;
	return true;
}

static void a_short_success_is_none(void **state)
{
	atomic_store(&gets, 0);
	bucket->answer = cut_short;
	assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), 0);
	assert_content(3 * PART, PART);
	assert_int_equal(atomic_load(&gets), 2);
}

static bool too_much(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	if (req->op != S3_GET)
		return false;
	send_bytes(req, req->range_len + 1, 0);
	reply->class = S3_DONE;
	reply->http_status = 206;
	return true;
}

static void more_than_was_asked_for_is_an_error(void **state)
{
	bucket->answer = too_much;
	assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), -EIO);
	assert_false(is_present(3));
}

static bool other_tag(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	if (req->op != S3_GET)
		return false;
	send_bytes(req, req->range_len, 1);
	reply->class = S3_DONE;
	reply->http_status = 206;
	snprintf(reply->object.etag, sizeof(reply->object.etag), "another");
	return true;
}

/* A server that ignores If-Match. */
static void another_objects_bytes_are_not_taken(void **state)
{
	bucket->answer = other_tag;
	assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), -ESTALE);
	assert_false(is_present(3));
}

static bool never(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	fake_error(reply, S3_RETRY, 0, "ConnectFailed");
	atomic_fetch_add(&gets, 1);
	return true;
}

static void a_dead_server_is_given_up(void **state)
{
	time_t deadline = time(NULL) + 60; /* the fake clock may run far ahead of a thread */

	(void)teardown(NULL);
	clock_fake_begin(1700000000 * NS_PER_S);
	(void)setup(NULL);
	atomic_store(&gets, 0);
	bucket->answer = never;
	assert_int_equal(remote_fetch(the_remote, ino, 3), -EINPROGRESS);
	while (atomic_load(&fetched[3]) == 0 && time(NULL) < deadline) {
		clock_fake_advance_ms(10);
		sched_yield();
	}
	clock_fake_end();
	assert_int_equal(atomic_load(&fetch_error[3]), -ENETDOWN);
	assert_int_equal(atomic_load(&gets), 6);
}

/* ---- a file of ours that stands for another object meanwhile ---- */

/* Two contents that a file of ours may have. */
static uint8_t byte_of(unsigned content, size_t i)
{
	return (uint8_t)(i * (content ? 11 : 7) + content);
}

static void write_all(unsigned content)
{
	cleanup_free uint8_t *data = malloc(SIZE);
	struct store_file *f;
	uint64_t chunk;

	for (size_t i = 0; i < SIZE; i++)
		data[i] = byte_of(content, i);
	assert_int_equal(store_file_open(store, ino, &f), 0);
	store_file_writer_add(f);
	assert_int_equal(store_file_truncate(f, 0, &chunk), 0);
	assert_int_equal(store_file_write(f, data, SIZE, 0, false, &chunk), 0);
	assert_int_equal(store_file_flush(f, false, NULL), 0);
	store_file_writer_drop(f);
	store_file_close(f);
}

static void object_is(enum file_state from, const char *key, const char *etag)
{
	cleanup_free struct store_inode *inode = malloc(sizeof(*inode));
	struct store_transition t = {.ino = ino, .from = from, .to = FILE_UPLOADED};
	struct store_object object = {.size_bytes = SIZE};

	assert_int_equal(store_inode(store, ino, inode), 0);
	t.generation = object.generation = inode->attr.generation;
	snprintf(object.key, sizeof(object.key), "%s", key);
	snprintf(object.etag, sizeof(object.etag), "%s", etag);
	assert_int_equal(store_object_set(store, &t, &object, false), 0);
}

/* Written, uploaded and evicted. */
static void write_and_evict(unsigned content, const char *key, const char *etag)
{
	struct store_transition t = {.ino = ino, .from = FILE_CLOSED, .to = FILE_SETTLED};
	uint64_t crcs[6] = {0};
	struct store_attr attr;

	write_all(content);
	assert_int_equal(store_attr(store, ino, &attr), 0);
	t.generation = attr.generation;
	assert_int_equal(store_state_set(store, &t), 0);
	for (size_t i = 0; i < SIZE; i++) {
		uint8_t byte = byte_of(content, i);

		crcs[i / PART] = crc64nvme(crcs[i / PART], &byte, 1);
	}
	assert_int_equal(
		store_version_digested(store, ino, t.generation, crcs, 6, FILE_QUEUED, NULL), 0);
	t.from = FILE_QUEUED;
	t.to = FILE_SENDING;
	assert_int_equal(store_state_set(store, &t), 0);
	object_is(FILE_SENDING, key, etag);
	assert_int_equal(store_evict(store, UINT64_MAX), 0);
	assert_false(is_present(3));
}

static void make_ours(void)
{
	struct store_create what = {
		.parent = STORE_ROOT_INO, .name = "ours", .type = STORE_FILE, .mode = 0644};
	struct store_attr attr;

	assert_int_equal(store_create(store, &what, &attr), 0);
	ino = attr.ino;
	write_and_evict(0, "p/big", "e1");
}

/* Before it answers anything, its object has another name. */
static bool moves(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	if (req->op != S3_GET || atomic_fetch_add(&gets, 1) > 0)
		return false;
	fake_put(b, "p/moved", SIZE, "e2");
	object_is(FILE_UPLOADED, "p/moved", "e2");
	fake_remove(b, "p/big");
	return false;
}

/* Its reader is told nothing of the old one: there is nothing wrong with the file. */
static void moved_while_it_is_fetched(void **state)
{
	make_ours();
	atomic_store(&gets, 0);
	bucket->answer = moves;
	assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), 0);
	assert_false(is_present(3));
	assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), 0);
	assert_content(3 * PART, PART);
	assert_int_equal(atomic_load(&gets), 2);
}

static atomic_bool replace_before_open;

int __real_store_file_open(struct store *s, uint64_t which, struct store_file **ret);
int __wrap_store_file_open(struct store *s, uint64_t which, struct store_file **ret);
int __wrap_store_file_open(struct store *s, uint64_t which, struct store_file **ret)
{
	if (atomic_exchange(&replace_before_open, false))
		write_and_evict(1, "p/new", "e2");
	return __real_store_file_open(s, which, ret);
}

/* It got another content, and that has left the cache, too: its old object still is there, and nothing of
 * it may get into the file. */
static void replaced_before_it_is_filled(void **state)
{
	cleanup_free uint8_t *data = malloc(SIZE), *got = malloc(PART);
	struct store_file *f;
	uint64_t chunk = 0;

	make_ours();
	for (size_t i = 0; i < SIZE; i++)
		data[i] = byte_of(1, i);
	fake_put(bucket, "p/new", SIZE, "e2");
	fake_find(bucket, "p/new")->data = data;
	atomic_store(&replace_before_open, true);
	assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), 0);
	assert_false(atomic_load(&replace_before_open));
	if (!is_present(3))
		assert_int_equal(remote_fetch_wait(the_remote, ino, 3, soon()), 0);
	assert_int_equal(store_file_open(store, ino, &f), 0);
	assert_int_equal(store_file_read(f, got, PART, 3 * PART, &chunk), PART);
	assert_memory_equal(got, data + 3 * PART, PART);
	store_file_close(f);
}

/* ---- ends ---- */

static void a_wait_ends_at_its_deadline(void **state)
{
	fake_hold(bucket, true);
	assert_int_equal(
		remote_fetch_wait(the_remote, ino, 3, clock_mono_ms() + 50), -ETIMEDOUT);
	fake_hold(bucket, false);
	wait_fetched(3, 1); /* the fetch itself went on */
	assert_true(is_present(3));
}

static void stopping_ends_fetches(void **state)
{
	fake_hold(bucket, true);
	assert_int_equal(remote_fetch(the_remote, ino, 1), -EINPROGRESS);
	assert_int_equal(remote_fetch(the_remote, ino, 3), -EINPROGRESS);
	remote_stop(the_remote);
	assert_int_equal(atomic_load(&fetch_error[1]), -ESHUTDOWN);
	assert_int_equal(atomic_load(&fetch_error[3]), -ESHUTDOWN);
	assert_false(is_present(3));
	assert_int_equal(remote_fetch(the_remote, ino, 3), -ESHUTDOWN);
}

static void keys_outside_the_prefix_are_not_fetched(void **state)
{
	struct store_object object = {.key = "other/big", .etag = "e1", .size_bytes = SIZE};
	struct store_attr attr;

	assert_int_equal(store_import(store, &object, &attr), 0);
	ino = attr.ino;
	assert_int_equal(remote_fetch_wait(the_remote, ino, 0, soon()), -EACCES);
	assert_int_equal(fake_count(bucket, S3_GET), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_chunk_is_fetched_once, setup, teardown),
		cmocka_unit_test_setup_teardown(the_last_chunk_is_short, setup, teardown),
		cmocka_unit_test_setup_teardown(reading_in_order_fetches_ahead, setup, teardown),
		cmocka_unit_test_setup_teardown(reading_here_and_there_does_not, setup, teardown),
		cmocka_unit_test_setup_teardown(a_changed_object_is_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_broken_transfer_goes_on_where_it_broke, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_transfer_may_break_off_behind_its_last_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(a_short_success_is_none, setup, teardown),
		cmocka_unit_test_setup_teardown(
			more_than_was_asked_for_is_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(
			another_objects_bytes_are_not_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(a_dead_server_is_given_up, setup, teardown),
		cmocka_unit_test_setup_teardown(moved_while_it_is_fetched, setup, teardown),
		cmocka_unit_test_setup_teardown(replaced_before_it_is_filled, setup, teardown),
		cmocka_unit_test_setup_teardown(a_wait_ends_at_its_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(stopping_ends_fetches, setup, teardown),
		cmocka_unit_test_setup_teardown(
			keys_outside_the_prefix_are_not_fetched, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
