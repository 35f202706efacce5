/*
 * Fresh listings and single objects: pages in order, prefetch, stopping early, errors and deadlines,
 * what a walk leaves in the cache, HEAD settled by a listing.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/remote.h"
#include "fake_bucket.h"

#include <sched.h>
#include <stdatomic.h>

struct seen {
	struct remote *remote;
	struct fake_bucket *bucket;
	char text[4096];
	unsigned count, stop_after;
	unsigned requests_at_first; /* when the first entry came */
	bool note_at_first;
};

static struct fake_bucket *bucket;
static struct remote *the_remote;

static int setup(void **state)
{
	struct remote_config config = {.prefix = "", .list_ttl_ms = 60000};

	bucket = fake_create();
	config.s3 = &bucket->s3;
	if (remote_create(&the_remote, &config) < 0)
		return -1;
	return remote_start(the_remote);
}

static int teardown(void **state)
{
	remote_stop(the_remote);
	remote_destroy(the_remote);
	s3_destroy(&bucket->s3);
	return 0;
}

static int each(void *user, const struct remote_walk_entry *e)
{
	struct seen *s = user;
	size_t len = strlen(s->text);

	lock_assert_none_held();
	if (s->count == 0) {
		struct s3_object o = {.size_bytes = 9, .etag = "noted"};

		s->requests_at_first = fake_count(bucket, S3_LIST);
		if (s->note_at_first)
			remote_note_put(the_remote, "p/noted", &o);
	}
	if (len < sizeof(s->text) - 200)
		snprintf(s->text + len, sizeof(s->text) - len, "%.*s:%u ", (int)e->key_len, e->key,
			(unsigned)e->object.size_bytes);
	return ++s->count == s->stop_after ? 77 : 0;
}

static int walk(const char *prefix, bool recursive, struct seen *s)
{
	int64_t begun_ns;

	return remote_walk(the_remote, prefix, recursive, clock_mono_ms() + 60000, each, s, &begun_ns);
}

static void put_some(void)
{
	fake_put(bucket, "p/a", 1, "e");
	fake_put(bucket, "p/s/b", 2, "e");
	fake_put(bucket, "p/s/c/d", 3, "e");
	fake_put(bucket, "p/z", 4, "e");
	fake_put(bucket, "pp", 5, "e");
}

static void walks_list_in_key_order(void **state)
{
	struct seen all = {0}, one = {0}, part = {0};

	put_some();
	bucket->page_keys = 2;
	assert_int_equal(walk("p/", true, &all), 0);
	assert_string_equal(all.text, "p/a:1 p/s/b:2 p/s/c/d:3 p/z:4 ");
	assert_int_equal(walk("p/", false, &one), 0);
	assert_string_equal(one.text, "p/a:1 p/s/:0 p/z:4 ");
	assert_int_equal(walk("p", false, &part), 0); /* as `aws s3 ls s3://bucket/p` */
	assert_string_equal(part.text, "p/:0 pp:5 ");
}

static void the_next_page_is_under_way_while_one_is_seen(void **state)
{
	struct seen s = {0};
	char key[32];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "p/%03u", i);
		fake_put(bucket, key, i, "e");
	}
	bucket->page_keys = 10;
	assert_int_equal(walk("p/", true, &s), 0);
	assert_int_equal(s.count, 100);
	assert_int_equal(s.requests_at_first, 2);
	assert_int_equal(fake_count(bucket, S3_LIST), 10);
}

static void each_may_stop_the_walk(void **state)
{
	struct seen s = {.stop_after = 3};
	char key[32];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "p/%03u", i);
		fake_put(bucket, key, i, "e");
	}
	bucket->page_keys = 10;
	assert_int_equal(walk("p/", false, &s), 77);
	assert_int_equal(s.count, 3);
	assert_true(fake_count(bucket, S3_LIST) <= 2);
	assert_int_equal(remote_listed_at(the_remote, "p/"), 0); /* not a whole folder */
}

static void a_walk_renews_the_cached_listing(void **state)
{
	struct seen s = {.note_at_first = true};
	struct remote_entry e;

	put_some();
	assert_int_equal(walk("p/", false, &s), 0);
	assert_int_equal(remote_lookup(the_remote, "p/", "s", false, &e), 0);
	assert_true(e.is_dir);
	assert_int_equal(remote_lookup(the_remote, "p/", "noted", false, &e), 0);
	assert_int_equal(e.object.size_bytes, 9);
	assert_int_equal(fake_count(bucket, S3_LIST), 1);
}

static void a_recursive_walk_does_not(void **state)
{
	struct seen s = {0};

	put_some();
	assert_int_equal(walk("p/", true, &s), 0);
	assert_int_equal(remote_listed_at(the_remote, "p/"), 0);
}

/* ---- errors ---- */

struct script {
	enum s3_class class;
	int status;
	const char *code;
	enum s3_op op;
	unsigned first, times; /* which requests of that kind fail */
	atomic_uint asked;
};

static bool play(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	struct script *s = b->answer_user;
	unsigned n;

	if (req->op != s->op)
		return false;
	n = atomic_fetch_add(&s->asked, 1);
	if (n < s->first || n >= s->first + s->times)
		return false;
	fake_error(reply, s->class, s->status, s->code);
	return true;
}

static void use_script(struct script *s)
{
	bucket->answer = play;
	bucket->answer_user = s;
}

static void transient_errors_are_waited_out(void **state)
{
	struct script s = {.op = S3_LIST, .class = S3_RETRY, .status = 500, .code = "InternalError",
		.first = 1, .times = 2};
	struct seen seen = {0};

	put_some();
	bucket->page_keys = 2;
	use_script(&s);
	assert_int_equal(walk("p/", true, &seen), 0);
	assert_string_equal(seen.text, "p/a:1 p/s/b:2 p/s/c/d:3 p/z:4 ");
	assert_int_equal(fake_count(bucket, S3_LIST), 4);
}

static void nothing_waits_beyond_the_deadline(void **state)
{
	struct script s = {
		.op = S3_LIST, .class = S3_RETRY, .code = "ConnectFailed", .times = 1000000};
	struct seen seen = {0};
	int64_t before_ms = clock_mono_ms();

	use_script(&s);
	assert_int_equal(
		remote_walk(the_remote, "p/", true, before_ms + 300, each, &seen, NULL), -ENETDOWN);
	assert_true(clock_mono_ms() - before_ms < 60000); /* it would go on for days */
	assert_int_equal(seen.count, 0);
}

static void a_request_beyond_the_deadline_is_cut_off(void **state)
{
	struct seen seen = {0};

	fake_hold(bucket, true);
	assert_int_equal(remote_walk(the_remote, "p/", true, clock_mono_ms() + 50, each, &seen, NULL),
		-ENETDOWN);
	assert_int_equal(bucket->cancels, 1);
}

static void refusals_end_at_once(void **state)
{
	struct script s = {.op = S3_LIST, .class = S3_DENIED, .status = 403, .code = "AccessDenied",
		.times = 1000000};
	struct seen seen = {0};

	use_script(&s);
	assert_int_equal(walk("p/", true, &seen), -EACCES);
	assert_int_equal(fake_count(bucket, S3_LIST), 1);
}

static void nonsense_ends_after_a_few(void **state)
{
	struct script s = {.op = S3_LIST, .class = S3_RETRY, .status = 200, .code = "BadListing",
		.times = 1000000};
	struct seen seen = {0};

	use_script(&s);
	assert_int_equal(walk("p/", true, &seen), -EIO);
	assert_int_equal(fake_count(bucket, S3_LIST), 4);
}

struct walker {
	struct thread *thread;
	int result;
	struct seen seen;
};

static void walker_run(void *user)
{
	struct walker *w = user;

	w->result = remote_walk(the_remote, "p/", true, INT64_MAX, each, &w->seen, NULL);
}

static void stopping_wakes_walkers(void **state)
{
	struct script s = {
		.op = S3_LIST, .class = S3_RETRY, .code = "ConnectFailed", .times = 1000000};
	struct walker waiting = {0}, backing_off = {0};

	fake_hold(bucket, true);
	assert_int_equal(thread_start(&waiting.thread, "walk", walker_run, &waiting), 0);
	while (fake_count(bucket, S3_LIST) < 1)
		sched_yield();
	remote_stop(the_remote);
	thread_join(waiting.thread);
	assert_int_equal(waiting.result, -ESHUTDOWN);
	(void)teardown(NULL);
	(void)setup(NULL);
	use_script(&s);
	assert_int_equal(thread_start(&backing_off.thread, "walk", walker_run, &backing_off), 0);
	while (fake_count(bucket, S3_LIST) < 6)
		sched_yield();
	remote_stop(the_remote);
	thread_join(backing_off.thread);
	assert_int_equal(backing_off.result, -ESHUTDOWN);
}

static void outside_the_prefix_nothing_is_walked(void **state)
{
	struct remote_config config = {.prefix = "p/q", .s3 = &bucket->s3};
	struct remote *inside;
	struct seen seen = {0};
	struct s3_reply reply;

	put_some();
	assert_int_equal(remote_create(&inside, &config), 0);
	assert_int_equal(remote_walk(inside, "", true, INT64_MAX, each, &seen, NULL), -EACCES);
	assert_int_equal(remote_walk(inside, "p/", true, INT64_MAX, each, &seen, NULL), -EACCES);
	assert_int_equal(remote_walk(inside, "p/q", true, INT64_MAX, each, &seen, NULL), -EACCES);
	assert_int_equal(remote_walk(inside, "p/qq/", true, INT64_MAX, each, &seen, NULL), -EACCES);
	assert_int_equal(remote_head_fresh(inside, "p/a", INT64_MAX, &reply), -EACCES);
	assert_int_equal(remote_walk(inside, "p/q/", true, INT64_MAX, each, &seen, NULL), 0);
	assert_int_equal(fake_count(bucket, S3_LIST), 1);
	remote_destroy(inside);
}

/* ---- one object ---- */

static int head(const char *key, struct s3_reply *ret)
{
	return remote_head_fresh(the_remote, key, clock_mono_ms() + 60000, ret);
}

static void an_object_is_found_by_head(void **state)
{
	struct s3_reply reply = {0};

	put_some();
	assert_int_equal(head("p/z", &reply), 0);
	assert_int_equal(reply.object.size_bytes, 4);
	assert_int_equal(fake_count(bucket, S3_HEAD), 1);
	assert_int_equal(fake_count(bucket, S3_LIST), 0);
	s3_reply_release(&reply);
}

static void a_refused_head_is_settled_by_a_listing(void **state)
{
	struct script s = {
		.op = S3_HEAD, .class = S3_DENIED, .status = 403, .code = "", .times = 1000000};
	struct s3_reply reply = {0};

	put_some();
	use_script(&s);
	assert_int_equal(head("p/z", &reply), 0);
	assert_int_equal(reply.object.size_bytes, 4);
	assert_int_equal(head("p/missing", &reply), -ENOENT);
	assert_int_equal(head("p/s", &reply), -ENOENT); /* a folder is no object */
	assert_int_equal(fake_count(bucket, S3_LIST), 3);
	s3_reply_release(&reply);
}

static void a_refused_listing_settles_nothing(void **state)
{
	struct script s = {
		.op = S3_LIST, .class = S3_DENIED, .status = 403, .code = "AccessDenied", .times = 9};
	struct s3_reply reply = {0};

	use_script(&s);
	assert_int_equal(head("p/missing", &reply), -EACCES);
}

/* HEAD refused, and LIST with pages that hold nothing but say that there is more. */
static bool play_empty_pages(
	struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	unsigned *pages = b->answer_user;
	unsigned n = req->token ? (unsigned)atoi(req->token) : 0; /* four digits */

	if (req->op == S3_HEAD) {
		fake_error(reply, S3_DENIED, 403, "Forbidden");
		return true;
	}
	if (req->op != S3_LIST || n >= *pages)
		return false;
	reply->class = S3_DONE;
	reply->http_status = 200;
	reply->list.truncated = true;
	check(text_printf(&reply->list.next_token, "%04u", n + 1) == 0);
	return true;
}

static void an_empty_page_settles_nothing(void **state)
{
	struct s3_reply reply = {0};
	unsigned pages = 3;

	put_some();
	bucket->answer_user = &pages;
	bucket->answer = play_empty_pages;
	assert_int_equal(head("p/z", &reply), 0);
	assert_int_equal(reply.object.size_bytes, 4);
	assert_int_equal(fake_count(bucket, S3_LIST), 4);
	assert_int_equal(head("p/missing", &reply), -ENOENT);
	pages = 1000;
	assert_int_equal(head("p/z", &reply), -EIO);
	s3_reply_release(&reply);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(walks_list_in_key_order, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_next_page_is_under_way_while_one_is_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(each_may_stop_the_walk, setup, teardown),
		cmocka_unit_test_setup_teardown(a_walk_renews_the_cached_listing, setup, teardown),
		cmocka_unit_test_setup_teardown(a_recursive_walk_does_not, setup, teardown),
		cmocka_unit_test_setup_teardown(transient_errors_are_waited_out, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_waits_beyond_the_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_request_beyond_the_deadline_is_cut_off, setup, teardown),
		cmocka_unit_test_setup_teardown(refusals_end_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(nonsense_ends_after_a_few, setup, teardown),
		cmocka_unit_test_setup_teardown(stopping_wakes_walkers, setup, teardown),
		cmocka_unit_test_setup_teardown(
			outside_the_prefix_nothing_is_walked, setup, teardown),
		cmocka_unit_test_setup_teardown(an_object_is_found_by_head, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_refused_head_is_settled_by_a_listing, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_refused_listing_settles_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(an_empty_page_settles_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
