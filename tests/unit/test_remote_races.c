/*
 * What comes between two steps of a listing: a reply, or the end of the room, before each lock that
 * its thread takes, one after the other.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/remote.h"
#include "fake_bucket.h"
#include "remote_pages.h"

#include <sched.h>
#include <stdatomic.h>

#define STEPS_MAX 1000

/* ---- before the n-th lock of a thread that holds none ---- */

static _Thread_local enum { WATCHED, LEFT_OUT, STOPS } role;
static atomic_uint stop_locks; /* that the thread which stops has given back */
#define LOCK_IS_WATCHED (role == WATCHED)
#define LOCK_GIVEN_BACK() ((void)(role == STOPS && atomic_fetch_add(&stop_locks, 1)))
#include "before_lock.h"

/* ---- a reply, while the pages are to be begun anew ---- */

struct asked {
	struct s3 s3; /* first */
	s3_done_fn *done[4];
	void *user[4];
	unsigned count;
};

static struct asked asked;

static int ask_submit(struct s3 *s3, const struct s3_request *req, s3_done_fn *done, void *user,
	uint64_t *ret_id)
{
	assert_true(asked.count < array_len(asked.done));
	asked.done[asked.count] = done;
	asked.user[asked.count++] = user;
	*ret_id = asked.count;
	return 0;
}

static void reply_to(unsigned i, bool unordered)
{
	struct s3_reply reply = {
		.class = S3_DONE, .http_status = 200, .list = {.unordered = unordered}};

	fake_page_finish(&reply.list);
	asked.done[i](asked.user[i], &reply);
	s3_reply_release(&reply);
}

static void reply_late(void)
{
	reply_to(1, true);
}

static void nobody_waits(struct remote_pages *p)
{
}

/* False: the turn was over before. */
static bool begin_anew_with_a_late_reply(unsigned step, struct lock *lock)
{
	static const struct s3_ops ops = {.submit = ask_submit};
	struct remote_pages p = {.s3 = &asked.s3,
		.prefix = "p/",
		.recursive = true,
		.deadline_ms = INT64_MAX,
		.lock = lock,
		.arrived_locked = nobody_waits};
	struct s3_list_page page;
	int64_t due_ms;
	bool came;

	asked = (struct asked){.s3.ops = &ops};
	assert_int_equal(remote_pages_begin(&p), 0);
	assert_int_equal(remote_scan_split(&p.scan, "p/m"), 1);
	assert_int_equal(remote_pages_turn(&p, &due_ms), 0);
	assert_int_equal(asked.count, 2);
	reply_to(0, true);
	before_lock_begin(step, reply_late);
	assert_int_equal(remote_pages_turn(&p, &due_ms), 0);
	came = before_lock_end();
	if (!came)
		reply_late();
	assert_int_equal(remote_pages_turn(&p, &due_ms), 0);
	assert_int_equal(p.restarts, 1);
	assert_int_equal(asked.count, 3);
	reply_to(2, false);
	assert_int_equal(remote_pages_turn(&p, &due_ms), 0);
	while (remote_scan_take(&p.scan, &page))
		remote_list_release(&page);
	assert_true(remote_pages_done(&p));
	assert_int_equal(p.restarts, 1);
	assert_null(p.synced.asks);
	remote_pages_release(&p);
	return came;
}

/* It is of the ranges of before: they stay until it was looked at. */
static void a_late_reply_while_all_is_begun_anew(void **state)
{
	struct lock lock;
	unsigned step = 1;

	lock_init(&lock, RANK_REMOTE, "pages");
	while (begin_anew_with_a_late_reply(step, &lock))
		assert_true(++step < STEPS_MAX);
	assert_true(step > 3);
	lock_release_storage(&lock);
}

/* ---- the end of the room, while a folder is listed ---- */

#define STOP_LOCKS 3 /* remote_stop: it stops; listings, then fetches are cut off; threads are awaited */

static struct remote *the_remote;
static atomic_bool stop_now;

static void stop_run(void *user)
{
	role = STOPS;
	while (!atomic_load(&stop_now))
		sched_yield();
	remote_stop(the_remote);
}

static void stop_meanwhile(void)
{
	atomic_store(&stop_now, true);
	while (atomic_load(&stop_locks) < STOP_LOCKS)
		sched_yield();
}

static struct fake_bucket *bucket_of_pages(void)
{
	struct fake_bucket *b = fake_create();
	char key[16];

	for (unsigned i = 0; i < 6; i++) {
		snprintf(key, sizeof(key), "p/%u", i);
		fake_put(b, key, i, "e");
	}
	b->page_keys = 2;
	return b;
}

/* False: the listing was there before. */
static bool stop_while_it_lists(unsigned step)
{
	struct fake_bucket *b = bucket_of_pages();
	struct remote_config config = {.s3 = &b->s3, .prefix = "", .list_ttl_ms = 60000};
	struct thread *thread;
	struct remote_entry e;
	bool came;
	int r;

	atomic_store(&stop_now, false);
	atomic_store(&stop_locks, 0);
	assert_int_equal(thread_start(&thread, "stop", stop_run, NULL), 0);
	assert_int_equal(remote_create(&the_remote, &config), 0);
	assert_int_equal(remote_start(the_remote), 0);
	before_lock_begin(step, stop_meanwhile);
	while ((r = remote_lookup(the_remote, "p/", "5", false, &e)) == -EINPROGRESS)
		sched_yield();
	came = before_lock_end();
	assert_true(r == 0 || (came && r == -ESHUTDOWN));
	atomic_store(&stop_now, true);
	thread_join(thread);
	remote_destroy(the_remote);
	s3_destroy(&b->s3);
	return came;
}

static void the_room_stops_while_a_folder_is_listed(void **state)
{
	unsigned step = 1;

	role = LEFT_OUT;
	while (stop_while_it_lists(step))
		assert_true(++step < STEPS_MAX);
	role = WATCHED;
	assert_true(step > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_late_reply_while_all_is_begun_anew),
		cmocka_unit_test(the_room_stops_while_a_folder_is_listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
