/*
 * The cached view: answers, events, single flight, TTL, paging, errors, our own writes while a
 * listing is under way, the bound of the cache, the mounted prefix.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/remote.h"
#include "fake_bucket.h"

#include <sched.h>

#define DEADLINE_MS 60000

struct bench {
	struct fake_bucket *bucket;
	struct remote *remote;
	pthread_mutex_t mutex;
	pthread_cond_t told;
	unsigned listed;
	char last_prefix[256];
	int last_error;
};

static void on_listed(void *user, const char *prefix, int error)
{
	struct bench *b = user;

	lock_assert_none_held();
	pthread_mutex_lock(&b->mutex);
	b->listed++;
	b->last_error = error;
	snprintf(b->last_prefix, sizeof(b->last_prefix), "%s", prefix);
	pthread_cond_broadcast(&b->told);
	pthread_mutex_unlock(&b->mutex);
}

static struct bench *bench_new(const char *prefix, uint64_t cache_max_entries)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct remote_config config = {.prefix = prefix,
		.list_ttl_ms = 60000,
		.cache_max_entries = cache_max_entries};
	struct remote_events events = {.user = b, .listed = on_listed};

	pthread_mutex_init(&b->mutex, NULL);
	pthread_cond_init(&b->told, NULL);
	b->bucket = fake_create();
	config.s3 = &b->bucket->s3;
	assert_int_equal(remote_create(&b->remote, &config), 0);
	remote_subscribe(b->remote, &events);
	assert_int_equal(remote_start(b->remote), 0);
	return b;
}

static void bench_free(struct bench *b)
{
	remote_stop(b->remote);
	remote_destroy(b->remote);
	s3_destroy(&b->bucket->s3);
	pthread_cond_destroy(&b->told);
	pthread_mutex_destroy(&b->mutex);
	free(b);
}

/* Waits for the n-th event since the start. */
static void wait_listed(struct bench *b, unsigned n)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += DEADLINE_MS / 1000;
	pthread_mutex_lock(&b->mutex);
	while (b->listed < n)
		assert_int_equal(pthread_cond_timedwait(&b->told, &b->mutex, &until), 0);
	pthread_mutex_unlock(&b->mutex);
}

static int lookup(struct bench *b, const char *prefix, const char *name, bool stale_ok)
{
	struct remote_entry e;

	return remote_lookup(b->remote, prefix, name, stale_ok, &e);
}

/* "name:size name/ …" of what the cached listing shows. */
static void assert_listed(struct bench *b, const char *prefix, const char *expected)
{
	cleanup_buf struct buf got = {0};
	struct remote_entry e[3];
	char after[256] = "";
	int n;

	while ((n = remote_list(b->remote, prefix, after, true, e, 3)) > 0) {
		for (int i = 0; i < n; i++) {
			buf_add_text(&got, e[i].name);
			if (e[i].is_dir)
				buf_add_text(&got, "/ ");
			else
				buf_printf(&got, ":%u ", (unsigned)e[i].object.size_bytes);
		}
		snprintf(after, sizeof(after), "%s", e[n - 1].name);
	}
	assert_int_equal(n, 0);
	assert_string_equal(buf_text(&got), expected);
}

static void list_now(struct bench *b, const char *prefix)
{
	unsigned before = b->listed;

	assert_int_equal(lookup(b, prefix, "?", false), -EINPROGRESS);
	wait_listed(b, before + 1);
}

static void a_folder_is_listed_once_and_then_answers(void **state)
{
	struct bench *b = bench_new("", 0);

	fake_put(b->bucket, "p/a.tif", 10, "e1");
	fake_put(b->bucket, "p/sub/x", 1, "e2");
	fake_put(b->bucket, "p/sub/y", 1, "e3");
	fake_put(b->bucket, "q", 1, "e4");
	fake_hold(b->bucket, true);
	for (int i = 0; i < 100; i++)
		assert_int_equal(lookup(b, "p/", "a.tif", false), -EINPROGRESS);
	fake_hold(b->bucket, false);
	wait_listed(b, 1);
	assert_string_equal(b->last_prefix, "p/");
	assert_int_equal(b->last_error, 0);
	assert_int_equal(lookup(b, "p/", "a.tif", false), 0);
	assert_int_equal(lookup(b, "p/", "sub", false), 0);
	assert_int_equal(lookup(b, "p/", "b.tif", false), -ENOENT);
	assert_listed(b, "p/", "a.tif:10 sub/ ");
	assert_int_equal(fake_count(b->bucket, S3_LIST), 1);
	assert_true(remote_listed_at(b->remote, "p/") > 0);
	assert_int_equal(remote_listed_at(b->remote, "q/"), 0);
	bench_free(b);
}

static void many_pages_are_put_together(void **state)
{
	struct bench *b = bench_new("", 0);
	struct remote_entry *e = calloc(30000, sizeof(*e));
	char key[64];

	for (unsigned i = 0; i < 27648; i++) {
		snprintf(key, sizeof(key), "plate/r%05u.tiff", i);
		fake_put(b->bucket, key, i, "0123456789abcdef0123456789abcdef");
	}
	list_now(b, "plate/");
	assert_int_equal(b->last_error, 0);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 28);
	assert_int_equal(remote_list(b->remote, "plate/", "", false, e, 30000), 27648);
	for (unsigned i = 0; i < 27648; i++)
		assert_int_equal(e[i].object.size_bytes, i);
	free(e);
	bench_free(b);
}

static void a_listing_grows_old(void **state)
{
	struct bench *b;

	clock_fake_begin(1700000000 * NS_PER_S);
	b = bench_new("", 0);
	fake_put(b->bucket, "p/a", 1, "e");
	list_now(b, "p/");
	clock_fake_advance_ms(59000);
	assert_int_equal(lookup(b, "p/", "a", false), 0);
	clock_fake_advance_ms(2000);
	fake_put(b->bucket, "p/b", 2, "e");
	assert_int_equal(lookup(b, "p/", "b", true), -ENOENT); /* old answer, renewed meanwhile */
	wait_listed(b, 2);
	assert_int_equal(lookup(b, "p/", "b", false), 0);
	clock_fake_advance_ms(61000);
	assert_int_equal(lookup(b, "p/", "b", false), -EINPROGRESS);
	wait_listed(b, 3);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 3);
	clock_fake_end();
	bench_free(b);
}

/* Which of two listings is the later one is nothing that the wall clock could tell. */
static void a_clock_that_is_set_back_changes_nothing(void **state)
{
	struct bench *b;

	clock_fake_begin(1700003600 * NS_PER_S);
	b = bench_new("", 0);
	fake_put(b->bucket, "p/a", 1, "e");
	list_now(b, "p/");
	clock_fake_begin(1700000000 * NS_PER_S); /* an hour less */
	clock_fake_advance_ms(61000);
	fake_put(b->bucket, "p/b", 2, "e");
	list_now(b, "p/");
	assert_int_equal(lookup(b, "p/", "b", false), 0);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 2);
	clock_fake_end();
	bench_free(b);
}

static void refresh_asks_again(void **state)
{
	struct bench *b = bench_new("", 0);

	fake_put(b->bucket, "p/q/a", 1, "e");
	list_now(b, "p/q/");
	list_now(b, "p/");
	remote_refresh(b->remote, "p/q/");
	assert_int_equal(lookup(b, "p/", "q", false), 0);
	assert_int_equal(lookup(b, "p/q/", "a", true), -EINPROGRESS);
	wait_listed(b, 3);
	assert_int_equal(lookup(b, "p/q/", "a", false), 0);
	bench_free(b);
}

static void refresh_during_a_listing_asks_again(void **state)
{
	struct bench *b = bench_new("", 0);

	fake_put(b->bucket, "p/a", 1, "e");
	list_now(b, "p/");
	remote_refresh(b->remote, "");
	fake_hold(b->bucket, true);
	assert_int_equal(lookup(b, "p/", "a", false), -EINPROGRESS);
	while (fake_count(b->bucket, S3_LIST) < 2)
		sched_yield();
	remote_refresh(b->remote, "");
	fake_hold(b->bucket, false);
	wait_listed(b, 2);
	assert_int_equal(lookup(b, "p/", "a", false), -EINPROGRESS);
	wait_listed(b, 3);
	assert_int_equal(lookup(b, "p/", "a", false), 0);
	bench_free(b);
}

static void names_that_cannot_be_shown_are_counted(void **state)
{
	struct bench *b = bench_new("", 0);
	char key[512] = "p/";

	memset(key + 2, 'n', 256);
	fake_put(b->bucket, key, 1, "e");
	fake_put(b->bucket, "p/", 0, "e"); /* the folder's own marker: not counted */
	fake_put(b->bucket, "p//x", 1, "e");
	fake_put(b->bucket, "p/.", 1, "e");
	fake_put(b->bucket, "p/..", 1, "e");
	fake_put(b->bucket, "p/../x", 1, "e");
	fake_put(b->bucket, "p/d", 7, "e");
	fake_put(b->bucket, "p/d/x", 1, "e");
	fake_put(b->bucket, "p/.cpgfs", 3, "e");
	fake_put(b->bucket, ".cpgfs/x", 3, "e");
	list_now(b, "p/");
	assert_listed(b, "p/", ".cpgfs:3 d/ ");
	assert_int_equal(remote_unshowable_count(b->remote, "p/"), 6);
	list_now(b, "");
	assert_listed(b, "", "p/ ");
	assert_int_equal(remote_unshowable_count(b->remote, ""), 1);
	bench_free(b);
}

static void nothing_outside_the_prefix_is_asked_for(void **state)
{
	struct bench *b = bench_new("p/q/", 0);
	struct remote_entry e[4];

	fake_put(b->bucket, "p/q/a", 1, "e");
	fake_put(b->bucket, "p/x", 1, "e");
	assert_int_equal(lookup(b, "", "p", false), 0);
	assert_int_equal(lookup(b, "", "other", false), -ENOENT);
	assert_int_equal(lookup(b, "p/", "q", false), 0);
	assert_int_equal(lookup(b, "p/", "x", false), -ENOENT);
	assert_int_equal(remote_list(b->remote, "p/", "", false, e, 4), 1);
	assert_string_equal(e[0].name, "q");
	assert_true(e[0].is_dir);
	assert_int_equal(remote_list(b->remote, "p/", "q", false, e, 4), 0);
	assert_int_equal(lookup(b, "p/x/", "a", false), -EACCES);
	assert_int_equal(lookup(b, "p/qq/", "a", false), -EACCES);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 0);
	list_now(b, "p/q/");
	assert_int_equal(lookup(b, "p/q/", "a", false), 0);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 1);
	bench_free(b);
}

/* ---- walks ---- */

static void wait_known(struct bench *b, const char *prefix)
{
	while (lookup(b, prefix, "?", false) == -EINPROGRESS)
		sched_yield();
}

/* find, as far as remote sees it: each folder is listed when its turn comes. */
static void find_all(struct bench *b, const char *prefix)
{
	char after[STORE_NAME_MAX + 1] = "", below[1024];
	struct remote_entry e;

	wait_known(b, prefix);
	while (remote_list(b->remote, prefix, after, false, &e, 1) == 1) {
		memcpy(after, e.name, sizeof(after));
		snprintf(below, sizeof(below), "%s%s/", prefix, e.name);
		if (e.is_dir)
			find_all(b, below);
	}
}

/* p/d0001/below, … */
static void put_tree(struct bench *b, const char *below, unsigned count)
{
	char key[64];

	for (unsigned i = 0; i < count; i++) {
		snprintf(key, sizeof(key), "p/d%04u%s", i, below);
		fake_put(b->bucket, key, 1, "e");
	}
}

/* Two folders of p/: the rest of it is asked for, and stands still. */
static void list_two_and_hold(struct bench *b)
{
	list_now(b, "p/");
	list_now(b, "p/d0000/");
	fake_hold(b->bucket, true);
	assert_int_equal(lookup(b, "p/d0001/", "x", false), -EINPROGRESS);
	while (fake_count(b->bucket, S3_LIST) < 4)
		sched_yield();
}

static void a_walk_is_one_listing(void **state)
{
	struct bench *b = bench_new("", 0);

	put_tree(b, "/x", 400);
	put_tree(b, ".txt", 400);
	put_tree(b, "/sub/y", 400);
	b->bucket->page_keys = 10;
	find_all(b, "p/");
	assert_listed(b, "p/d0000/", "sub/ x:1 ");
	assert_listed(b, "p/d0399/", "sub/ x:1 ");
	assert_listed(b, "p/d0399/sub/", "y:1 ");
	/* 80 pages of p/ itself, 400 folders with one each: three keys of each make up 120 pages */
	assert_true(fake_count(b->bucket, S3_LIST) < 250);
	assert_int_equal(fake_count_log(b->bucket, "ListObjectsV2 p/d0399/"), 0);
	bench_free(b);
}

/* What is put and deleted, or listed out of turn, while all is listed. */
static void our_writes_meanwhile_are_in_it(void **state)
{
	struct bench *b = bench_new("", 0);
	struct s3_object o = {.size_bytes = 5, .etag = "new"};

	put_tree(b, "/x", 40);
	put_tree(b, "/y", 40);
	list_two_and_hold(b);
	assert_int_equal(lookup(b, "p/d0020/", "x", false), -EINPROGRESS); /* it will come */
	remote_note_put(b->remote, "p/d0020/ours", &o);
	remote_note_put(b->remote, "p/d0020/x", &o);
	remote_note_delete(b->remote, "p/d0020/y");
	remote_note_put(b->remote, "p/d0021/below/it", &o);
	remote_note_put(b->remote, "p/d0022/brief", &o);
	remote_note_delete(b->remote, "p/d0022/brief");
	fake_hold(b->bucket, false);
	wait_known(b, "p/d0039/");
	assert_listed(b, "p/d0020/", "ours:5 x:5 ");
	assert_listed(b, "p/d0021/", "below/ x:1 y:1 ");
	assert_listed(b, "p/d0022/", "x:1 y:1 ");
	assert_int_equal(fake_count(b->bucket, S3_LIST), 4);
	bench_free(b);
}

/* A folder that the parent's older listing shows and that did not come by is asked for. */
static void what_a_walk_does_not_find_is_asked_for(void **state)
{
	struct bench *b = bench_new("", 0);

	put_tree(b, "/x", 40);
	list_two_and_hold(b);
	fake_remove(b->bucket, "p/d0020/x");
	fake_remove(b->bucket, "p/d0039/x");
	assert_int_equal(lookup(b, "p/d0020/", "x", false), -EINPROGRESS);
	assert_int_equal(lookup(b, "p/d0039/", "x", false), -EINPROGRESS);
	fake_hold(b->bucket, false);
	wait_known(b, "p/d0039/");
	wait_known(b, "p/d0020/");
	assert_listed(b, "p/d0020/", "");
	assert_listed(b, "p/d0039/", "");
	assert_listed(b, "p/d0038/", "x:1 ");
	assert_int_equal(fake_count(b->bucket, S3_LIST), 6);
	bench_free(b);
}

static bool refuse_all_below(
	struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	if (req->delimiter)
		return false;
	fake_error(reply, S3_DENIED, 403, "AccessDenied");
	return true;
}

static void a_walk_that_may_not_list_all_goes_on_by_folders(void **state)
{
	struct bench *b = bench_new("", 0);
	char message[128];

	put_tree(b, "/x", 40);
	b->bucket->answer = refuse_all_below;
	find_all(b, "p/");
	assert_listed(b, "p/d0039/", "x:1 ");
	assert_int_equal(fake_count(b->bucket, S3_LIST), 42); /* tried once */
	assert_int_equal(remote_health(b->remote, message, sizeof(message)), 0);
	bench_free(b);
}

static bool disordered(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	if (req->delimiter)
		return false;
	reply->class = S3_DONE;
	reply->http_status = 200;
	fake_page_add(&reply->list, req->token ? "p/d0005/x" : "p/d0009/x", false, NULL);
	fake_page_finish(&reply->list);
	reply->list.truncated = !req->token;
	reply->list.next_token = req->token ? NULL : strdup("next");
	return true;
}

static void a_server_without_order_is_asked_by_folders(void **state)
{
	struct bench *b = bench_new("", 0);

	put_tree(b, "/x", 40);
	put_tree(b, "/z", 40);
	b->bucket->answer = disordered;
	list_now(b, "p/");
	list_now(b, "p/d0000/");
	list_now(b, "p/d0001/");
	for (unsigned i = 2; i < 40; i++) {
		char prefix[32];

		snprintf(prefix, sizeof(prefix), "p/d%04u/", i);
		wait_known(b, prefix);
		assert_listed(b, prefix, "x:1 z:1 ");
	}
	bench_free(b);
}

static void refresh_ends_a_walks_listing(void **state)
{
	struct bench *b = bench_new("", 0);

	put_tree(b, "/x", 40);
	list_two_and_hold(b);
	assert_int_equal(lookup(b, "p/d0020/", "x", false), -EINPROGRESS);
	fake_put(b->bucket, "p/d0020/y", 2, "e");
	remote_refresh(b->remote, "p/d0020/");
	while (fake_cancels(b->bucket) < 1)
		sched_yield();
	fake_hold(b->bucket, false);
	wait_known(b, "p/d0020/");
	assert_listed(b, "p/d0020/", "x:1 y:2 ");
	bench_free(b);
}

/* Who does not go into what lies between is not kept waiting by it. */
static void folders_not_gone_into_are_no_tree(void **state)
{
	struct bench *b = bench_new("", 0);
	char prefix[64];

	put_tree(b, "/sub/x", 40);
	list_now(b, "p/");
	for (unsigned i = 0; i < 40; i++) {
		snprintf(prefix, sizeof(prefix), "p/d%04u/", i);
		wait_known(b, prefix);
	}
	assert_int_equal(fake_count(b->bucket, S3_LIST), 41);
	bench_free(b);
}

static void who_waits_too_long_asks_by_himself(void **state)
{
	struct bench *b;

	clock_fake_begin(1700000000 * NS_PER_S);
	b = bench_new("", 0);
	put_tree(b, "/x", 40);
	list_two_and_hold(b);
	assert_int_equal(lookup(b, "p/d0020/", "x", false), -EINPROGRESS);
	clock_fake_advance_ms(1500);
	while (fake_count(b->bucket, S3_LIST) < 5)
		sched_yield();
	assert_int_equal(fake_count_log(b->bucket, "ListObjectsV2 p/d0020/"), 1);
	fake_hold(b->bucket, false);
	wait_known(b, "p/d0020/");
	assert_listed(b, "p/d0020/", "x:1 ");
	clock_fake_end();
	bench_free(b);
}

static void it_stops_when_nobody_follows(void **state)
{
	struct bench *b;
	unsigned asked;

	clock_fake_begin(1700000000 * NS_PER_S);
	b = bench_new("", 0);
	put_tree(b, "/x", 9000);
	list_now(b, "p/");
	list_now(b, "p/d0000/");
	list_now(b, "p/d0001/");
	wait_known(b, "p/d0002/");
	/* 8,000 names, of folders with one each; some pages more may be under way */
	while (remote_listed_at(b->remote, "p/d3990/") == 0)
		sched_yield();
	asked = fake_count(b->bucket, S3_LIST);
	assert_true(asked < 33 + 30);
	wait_known(b, "p/d0003/");
	wait_known(b, "p/d8999/"); /* far away: by itself */
	assert_int_equal(fake_count_log(b->bucket, "ListObjectsV2 p/d8999/"), 1);
	clock_fake_advance_ms(11000); /* nobody comes: it ends */
	assert_int_equal(lookup(b, "p/d5000/", "x", false), -EINPROGRESS);
	wait_known(b, "p/d5000/");
	assert_true(fake_count(b->bucket, S3_LIST) <= asked + 3);
	clock_fake_end();
	bench_free(b);
}

static void a_walk_is_listed_ahead(void **state)
{
	struct bench *b = bench_new("", 0);
	char key[64];

	for (unsigned i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "p/d%02u/x", i);
		fake_put(b->bucket, key, 1, "e");
		snprintf(key, sizeof(key), "p/d%02u/unseen/y", i); /* it does not go to the bottom */
		fake_put(b->bucket, key, 1, "e");
		snprintf(key, sizeof(key), "p/d%02u.txt", i); /* files between them don't matter */
		fake_put(b->bucket, key, 1, "e");
	}
	list_now(b, "p/");
	list_now(b, "p/d00/");
	assert_int_equal(fake_count(b->bucket, S3_LIST), 2);
	assert_int_equal(lookup(b, "p/d01/", "x", false), -EINPROGRESS); /* the second: four more */
	wait_listed(b, 7);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 7);
	for (unsigned i = 1; i <= 5; i++) {
		snprintf(key, sizeof(key), "p/d%02u/", i);
		assert_true(remote_listed_at(b->remote, key) > 0);
	}
	for (unsigned i = 2; i < 40; i++) {
		snprintf(key, sizeof(key), "p/d%02u/", i);
		while (lookup(b, key, "x", false) == -EINPROGRESS)
			sched_yield();
		assert_int_equal(lookup(b, key, "x", false), 0);
	}
	assert_int_equal(fake_count(b->bucket, S3_LIST), 41); /* each once */
	bench_free(b);
}

static void folders_asked_for_here_and_there_are_no_walk(void **state)
{
	struct bench *b = bench_new("", 0);
	char key[64];

	for (unsigned i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "p/d%02u/x", i);
		fake_put(b->bucket, key, 1, "e");
	}
	list_now(b, "p/");
	for (unsigned i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "p/d%02u/", i * 7 % 40);
		list_now(b, key);
	}
	assert_int_equal(fake_count(b->bucket, S3_LIST), 41);
	assert_int_equal(b->listed, 41);
	bench_free(b);
}

/* ---- our own writes ---- */

static void notes_change_the_cached_listing(void **state)
{
	struct bench *b = bench_new("", 0);
	struct s3_object o = {.size_bytes = 5, .etag = "new"};

	fake_put(b->bucket, "p/a", 1, "e");
	list_now(b, "p/");
	list_now(b, "");
	remote_note_put(b->remote, "p/b", &o);
	wait_listed(b, 3);
	assert_string_equal(b->last_prefix, "p/");
	remote_note_put(b->remote, "p/new/sub/c", &o); /* folders above appear too */
	wait_listed(b, 4);
	assert_listed(b, "p/", "a:1 b:5 new/ ");
	remote_note_delete(b->remote, "p/a");
	wait_listed(b, 5);
	assert_listed(b, "p/", "b:5 new/ ");
	remote_note_put(b->remote, "fresh/x", &o);
	wait_listed(b, 6);
	assert_listed(b, "", "fresh/ p/ ");
	assert_int_equal(fake_count(b->bucket, S3_LIST), 2);
	bench_free(b);
}

static void a_listing_begun_before_a_note_does_not_undo_it(void **state)
{
	struct bench *b = bench_new("", 0);
	struct s3_object o = {.size_bytes = 5, .etag = "new"};

	fake_put(b->bucket, "p/gone", 1, "e");
	fake_put(b->bucket, "p/changed", 1, "e");
	fake_hold(b->bucket, true);
	assert_int_equal(lookup(b, "p/", "?", false), -EINPROGRESS);
	while (fake_count(b->bucket, S3_LIST) < 1)
		sched_yield();
	remote_note_put(b->remote, "p/b", &o);
	remote_note_put(b->remote, "p/changed", &o);
	remote_note_put(b->remote, "p/brief", &o);
	remote_note_delete(b->remote, "p/brief");
	remote_note_delete(b->remote, "p/gone");
	remote_note_put(b->remote, "p/sub/c", &o);
	fake_hold(b->bucket, false); /* the listing shows the bucket as it was */
	wait_listed(b, 1);
	assert_listed(b, "p/", "b:5 changed:5 sub/ ");
	bench_free(b);
}

static void a_folder_emptied_makes_its_parent_ask_again(void **state)
{
	struct bench *b = bench_new("", 0);

	fake_put(b->bucket, "p/q/a", 1, "e");
	list_now(b, "p/");
	list_now(b, "p/q/");
	fake_remove(b->bucket, "p/q/a");
	remote_note_delete(b->remote, "p/q/a");
	wait_listed(b, 3);
	assert_int_equal(lookup(b, "p/", "q", false), -EINPROGRESS);
	wait_listed(b, 4);
	assert_int_equal(lookup(b, "p/", "q", false), -ENOENT);
	bench_free(b);
}

/* A listing of the parent that began before that is not the answer. */
static void a_folder_emptied_while_its_parent_is_listed(void **state)
{
	struct bench *b = bench_new("", 0);

	fake_put(b->bucket, "p/q/a", 1, "e");
	list_now(b, "p/q/");
	fake_hold(b->bucket, true);
	assert_int_equal(lookup(b, "p/", "q", false), -EINPROGRESS);
	while (fake_count(b->bucket, S3_LIST) < 2)
		sched_yield();
	remote_note_delete(b->remote, "p/q/a");
	fake_hold(b->bucket, false);
	while (!remote_listed_at(b->remote, "p/"))
		sched_yield();
	fake_remove(b->bucket, "p/q/a");
	while (lookup(b, "p/", "q", false) == -EINPROGRESS)
		sched_yield();
	assert_int_equal(lookup(b, "p/", "q", false), -ENOENT);
	bench_free(b);
}

static void a_folder_born_here_answers_at_once(void **state)
{
	struct bench *b = bench_new("", 0);

	fake_put(b->bucket, "new/from-elsewhere", 1, "e");
	fake_hold(b->bucket, true);
	remote_born_local(b->remote, "new/");
	assert_int_equal(lookup(b, "new/", "a", false), -ENOENT);
	fake_hold(b->bucket, false);
	wait_listed(b, 1); /* the truth follows */
	assert_int_equal(lookup(b, "new/", "from-elsewhere", false), 0);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 1);
	bench_free(b);
}

/* ---- errors ---- */

struct script {
	enum s3_class class;
	int status;
	const char *code;
	unsigned times;	 /* then the bucket answers */
	unsigned asked;
};

static bool play(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	struct script *s = b->answer_user;

	if (s->asked++ >= s->times)
		return false;
	fake_error(reply, s->class, s->status, s->code);
	return true;
}

/* With a standing clock, moves it until the n-th event; who knows how far. */
static void wait_listed_moving(struct bench *b, unsigned n)
{
	for (;;) {
		pthread_mutex_lock(&b->mutex);
		bool there = b->listed >= n;

		pthread_mutex_unlock(&b->mutex);
		if (there)
			return;
		clock_fake_advance_ms(10);
		sched_yield();
	}
}

static void transient_errors_are_repeated(void **state)
{
	struct script s = {.class = S3_THROTTLED, .status = 503, .code = "SlowDown", .times = 2};
	struct bench *b;

	clock_fake_begin(1700000000 * NS_PER_S);
	b = bench_new("", 0);
	b->bucket->answer = play;
	b->bucket->answer_user = &s;
	fake_put(b->bucket, "p/a", 1, "e");
	assert_int_equal(lookup(b, "p/", "a", false), -EINPROGRESS);
	wait_listed_moving(b, 1);
	assert_int_equal(b->last_error, 0);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 3);
	assert_int_equal(lookup(b, "p/", "a", true), 0);
	clock_fake_end();
	bench_free(b);
}

static void a_dead_server_is_not_hammered(void **state)
{
	struct script s = {.class = S3_RETRY, .code = "ConnectFailed", .times = 1000000};
	struct bench *b;

	clock_fake_begin(1700000000 * NS_PER_S);
	b = bench_new("", 0);
	b->bucket->answer = play;
	b->bucket->answer_user = &s;
	assert_int_equal(lookup(b, "p/", "a", false), -EINPROGRESS);
	wait_listed_moving(b, 1);
	assert_int_equal(b->last_error, -ENETDOWN);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 4);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(lookup(b, "p/", "a", false), -ENETDOWN);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 4);
	clock_fake_advance_ms(3000);
	assert_int_equal(lookup(b, "p/", "a", false), -EINPROGRESS);
	wait_listed_moving(b, 2);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 8);
	clock_fake_end();
	bench_free(b);
}

static void a_down_endpoint_is_probed_by_one_listing(void **state)
{
	struct bench *b;
	char prefix[32];

	clock_fake_begin(1700000000 * NS_PER_S);
	b = bench_new("", 0);
	b->bucket->down = true;
	fake_hold(b->bucket, true);
	for (int i = 0; i < 100; i++) {
		snprintf(prefix, sizeof(prefix), "p%d/", i);
		assert_int_equal(lookup(b, prefix, "a", false), -ENETDOWN);
	}
	fake_hold(b->bucket, false);
	wait_listed(b, 1);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 1);
	clock_fake_advance_ms(2001);
	assert_int_equal(lookup(b, "p5/", "a", false), -ENETDOWN);
	wait_listed(b, 2);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 2);
	b->bucket->down = false;
	assert_int_equal(lookup(b, "p6/", "a", false), -EINPROGRESS);
	wait_listed(b, 3);
	clock_fake_end();
	bench_free(b);
}

static void a_refused_listing_is_denied(void **state)
{
	struct script s = {
		.class = S3_DENIED, .status = 403, .code = "AccessDenied", .times = 1000000};
	struct bench *b = bench_new("", 0);
	char message[128];

	b->bucket->answer = play;
	b->bucket->answer_user = &s;
	assert_int_equal(remote_health(b->remote, message, sizeof(message)), 0);
	list_now(b, "p/");
	assert_int_equal(b->last_error, -EACCES);
	assert_int_equal(lookup(b, "p/", "a", false), -EACCES);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 1);
	assert_int_equal(remote_health(b->remote, message, sizeof(message)), -EACCES);
	assert_non_null(strstr(message, "AccessDenied"));
	bench_free(b);
}

static bool endless(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	static _Atomic unsigned page;
	char text[64];

	reply->class = S3_DONE;
	reply->http_status = 200;
	snprintf(text, sizeof(text), "%skey%u", req->prefix, page++);
	fake_page_add(&reply->list, text, false, NULL);
	fake_page_finish(&reply->list);
	reply->list.truncated = true;
	reply->list.next_token = strdup(page % 2 ? "odd" : "even");
	return true;
}

static void an_endless_listing_is_an_error(void **state)
{
	struct bench *b = bench_new("", 0);

	b->bucket->answer = endless;
	list_now(b, "p/");
	assert_int_equal(b->last_error, -EIO);
	assert_int_equal(lookup(b, "p/", "key0", false), -EIO);
	assert_true(fake_count(b->bucket, S3_LIST) < 10);
	bench_free(b);
}

static bool reversed(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	char text[64];

	reply->class = S3_DONE;
	reply->http_status = 200;
	for (unsigned i = 10; i-- > 0;) {
		snprintf(text, sizeof(text), "%s%c%u", req->prefix, req->token ? 'a' : 'b', i);
		fake_page_add(&reply->list, text, false, NULL);
	}
	fake_page_finish(&reply->list);
	reply->list.truncated = !req->token;
	reply->list.next_token = req->token ? NULL : strdup("next");
	return true;
}

static void keys_out_of_order_are_sorted(void **state)
{
	struct bench *b = bench_new("", 0);
	struct remote_entry e[32];

	b->bucket->answer = reversed;
	list_now(b, "p/");
	assert_int_equal(remote_list(b->remote, "p/", "", false, e, 32), 20);
	assert_string_equal(e[0].name, "a0");
	assert_string_equal(e[19].name, "b9");
	assert_int_equal(lookup(b, "p/", "a3", false), 0);
	bench_free(b);
}

static bool elsewhere(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	reply->class = S3_DONE;
	reply->http_status = 200;
	fake_page_add(&reply->list, "secret/key", false, NULL);
	fake_page_finish(&reply->list);
	return true;
}

static void keys_from_elsewhere_are_an_error(void **state)
{
	struct bench *b = bench_new("p", 0);

	b->bucket->answer = elsewhere;
	list_now(b, "p/");
	assert_int_equal(b->last_error, -EIO);
	bench_free(b);
}

/* ---- bounds and ends ---- */

static void the_cache_drops_the_oldest(void **state)
{
	struct bench *b = bench_new("", 30); /* a folder weighs four */
	char key[32], prefix[32];

	for (unsigned f = 0; f < 5; f++) {
		for (unsigned i = 0; i < 9; i++) {
			snprintf(key, sizeof(key), "f%u/%u", f, i);
			fake_put(b->bucket, key, 1, "e");
		}
	}
	for (unsigned f = 0; f < 5; f++) {
		snprintf(prefix, sizeof(prefix), "f%u/", f);
		list_now(b, prefix);
		assert_int_equal(lookup(b, prefix, "0", false), 0);
	}
	assert_true(remote_listed_at(b->remote, "f4/") > 0);
	assert_true(remote_listed_at(b->remote, "f3/") > 0);
	assert_int_equal(remote_listed_at(b->remote, "f2/"), 0);
	assert_int_equal(remote_listed_at(b->remote, "f0/"), 0);
	bench_free(b);
}

static void a_folder_larger_than_the_cache_still_answers(void **state)
{
	struct bench *b = bench_new("", 5);
	char key[32];

	for (unsigned i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "f/%02u", i);
		fake_put(b->bucket, key, 1, "e");
	}
	list_now(b, "f/");
	assert_int_equal(lookup(b, "f/", "49", false), 0);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 1);
	bench_free(b);
}

static void background_listings_do_not_crowd_out_wanted_ones(void **state)
{
	struct bench *b = bench_new("", 0);
	char prefix[32];

	fake_hold(b->bucket, true);
	for (unsigned i = 0; i < 200; i++) {
		snprintf(prefix, sizeof(prefix), "born%03u/", i);
		remote_born_local(b->remote, prefix);
	}
	while (fake_count(b->bucket, S3_LIST) < 4)
		sched_yield();
	assert_int_equal(lookup(b, "wanted/", "a", false), -EINPROGRESS);
	while (fake_count(b->bucket, S3_LIST) < 5)
		sched_yield();
	assert_string_equal(b->bucket->log[4], "ListObjectsV2 wanted/ ");
	fake_hold(b->bucket, false);
	wait_listed(b, 201);
	assert_int_equal(fake_count(b->bucket, S3_LIST), 201);
	bench_free(b);
}

static void stopping_ends_what_is_under_way(void **state)
{
	struct bench *b = bench_new("", 0);
	char prefix[32];

	fake_hold(b->bucket, true);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(prefix, sizeof(prefix), "f%u/", i);
		assert_int_equal(lookup(b, prefix, "a", false), -EINPROGRESS);
	}
	remote_stop(b->remote);
	assert_int_equal(b->listed, 40);
	assert_int_equal(b->last_error, -ESHUTDOWN);
	assert_int_equal(lookup(b, "f1/", "a", false), -ESHUTDOWN);
	bench_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_folder_is_listed_once_and_then_answers),
		cmocka_unit_test(many_pages_are_put_together),
		cmocka_unit_test(a_listing_grows_old),
		cmocka_unit_test(a_clock_that_is_set_back_changes_nothing),
		cmocka_unit_test(refresh_asks_again),
		cmocka_unit_test(refresh_during_a_listing_asks_again),
		cmocka_unit_test(names_that_cannot_be_shown_are_counted),
		cmocka_unit_test(nothing_outside_the_prefix_is_asked_for),
		cmocka_unit_test(a_walk_is_one_listing),
		cmocka_unit_test(our_writes_meanwhile_are_in_it),
		cmocka_unit_test(what_a_walk_does_not_find_is_asked_for),
		cmocka_unit_test(a_walk_that_may_not_list_all_goes_on_by_folders),
		cmocka_unit_test(a_server_without_order_is_asked_by_folders),
		cmocka_unit_test(refresh_ends_a_walks_listing),
		cmocka_unit_test(folders_not_gone_into_are_no_tree),
		cmocka_unit_test(who_waits_too_long_asks_by_himself),
		cmocka_unit_test(it_stops_when_nobody_follows),
		cmocka_unit_test(a_walk_is_listed_ahead),
		cmocka_unit_test(folders_asked_for_here_and_there_are_no_walk),
		cmocka_unit_test(notes_change_the_cached_listing),
		cmocka_unit_test(a_listing_begun_before_a_note_does_not_undo_it),
		cmocka_unit_test(a_folder_emptied_makes_its_parent_ask_again),
		cmocka_unit_test(a_folder_emptied_while_its_parent_is_listed),
		cmocka_unit_test(a_folder_born_here_answers_at_once),
		cmocka_unit_test(transient_errors_are_repeated),
		cmocka_unit_test(a_dead_server_is_not_hammered),
		cmocka_unit_test(a_down_endpoint_is_probed_by_one_listing),
		cmocka_unit_test(a_refused_listing_is_denied),
		cmocka_unit_test(an_endless_listing_is_an_error),
		cmocka_unit_test(keys_out_of_order_are_sorted),
		cmocka_unit_test(keys_from_elsewhere_are_an_error),
		cmocka_unit_test(the_cache_drops_the_oldest),
		cmocka_unit_test(a_folder_larger_than_the_cache_still_answers),
		cmocka_unit_test(background_listings_do_not_crowd_out_wanted_ones),
		cmocka_unit_test(stopping_ends_what_is_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
