/*
 * Locks: the rank rule kills a program that breaks it and names both places; several threads; waits
 * on the real and on a fake clock; the pool.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base_private.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

static struct lock low, high;

static void lock_in_order(void)
{
	lock_take(&low);
	lock_take(&high);
	lock_drop(&low); /* any order of dropping is fine */
	lock_drop(&high);
}

static void lock_against_order(void)
{
	lock_take_at(&high, "first.c:11");
	lock_take_at(&low, "second.c:22");
}

static void lock_twice(void)
{
	lock_take_at(&low, "first.c:11");
	lock_take_at(&low, "second.c:22");
}

static void lock_drop_not_held(void)
{
	lock_drop(&low);
}

static void lock_assert_without(void)
{
	lock_assert_held(&low);
}

static void wait_with_second_lock(void)
{
	struct cond c;

	cond_init(&c);
	lock_take(&low);
	lock_take(&high);
	(void)cond_wait_until(&c, &high, 0);
}

/* Runs body in a child; returns its wait status and what it wrote to stderr. */
static int run_in_child(void (*body)(void), char *said, size_t size)
{
	int fds[2], status;
	ssize_t n;
	size_t len = 0;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(fds[1], STDERR_FILENO);
		body();
		_exit(0);
	}
	close(fds[1]);
	while ((n = read(fds[0], said + len, size - 1 - len)) > 0)
		len += (size_t)n;
	said[len] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int make_locks(void **state)
{
	lock_init(&low, RANK_UPLOAD, "upload");
	lock_init(&high, RANK_STORE_INDEX, "index");
	return 0;
}

static void ranks_rising_are_fine(void **state)
{
	char said[1024];

	assert_int_equal(run_in_child(lock_in_order, said, sizeof(said)), 0);
	assert_string_equal(said, "");
}

static void assert_aborts(void (*body)(void), const char *word1, const char *word2)
{
	char said[1024];
	int status = run_in_child(body, said, sizeof(said));

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(said, word1));
	assert_non_null(strstr(said, word2));
}

static void rank_violation_names_both_sites(void **state)
{
	assert_aborts(lock_against_order, "upload (rank 40) wanted at second.c:22",
		"index (rank 70) taken at first.c:11");
	assert_aborts(lock_twice, "second.c:22", "first.c:11");
}

static void misuse_aborts(void **state)
{
	assert_aborts(lock_drop_not_held, "check failed", "base_lock.c");
	assert_aborts(lock_assert_without, "lock_is_mine", "test_base_lock.c");
	assert_aborts(wait_with_second_lock, "check failed", "base_lock.c");
}

static void scope_holds_and_drops(void **state)
{
	assert_false(lock_is_mine(&low));
	{
		with_lock(&low);
		assert_true(lock_is_mine(&low));
		{
			with_lock(&high);
			assert_true(lock_is_mine(&high));
		}
		assert_false(lock_is_mine(&high));
	}
	assert_false(lock_is_mine(&low));
	lock_assert_none_held();
}

/* ---- threads ---- */

#define COUNT_PER_THREAD 20000

static unsigned counted;

static void count_up(void *user)
{
	for (int i = 0; i < COUNT_PER_THREAD; i++) {
		with_lock(&low);
		counted++;
	}
}

static void lock_excludes(void **state)
{
	struct thread *t[4];

	counted = 0;
	for (size_t i = 0; i < array_len(t); i++)
		assert_int_equal(thread_start(&t[i], "a-name-longer-than-15", count_up, NULL), 0);
	for (size_t i = 0; i < array_len(t); i++)
		thread_join(t[i]);
	assert_int_equal(counted, 4 * COUNT_PER_THREAD);
	thread_join(NULL);
}

static void look_at_mask(void *user)
{
	sigset_t now;

	pthread_sigmask(SIG_SETMASK, NULL, &now);
	*(bool *)user = sigismember(&now, SIGTERM) == 1 && sigismember(&now, SIGINT) == 1;
}

static void thread_blocks_signals(void **state)
{
	struct thread *t;
	bool blocked = false;
	sigset_t mine;

	assert_int_equal(thread_start(&t, "mask", look_at_mask, &blocked), 0);
	thread_join(t);
	assert_true(blocked);
	pthread_sigmask(SIG_SETMASK, NULL, &mine);
	assert_int_equal(sigismember(&mine, SIGTERM), 0);
}

struct meeting {
	struct lock lock;
	struct cond cond;
	bool waiting, done; /* by lock */
	int result;
	int64_t deadline_ms;
};

static void meeting_init(struct meeting *m, int64_t deadline_ms)
{
	*m = (struct meeting){.deadline_ms = deadline_ms, .result = 1};
	lock_init(&m->lock, RANK_UPLOAD, "meeting");
	cond_init(&m->cond);
}

static void meeting_wait(void *user)
{
	struct meeting *m = user;

	with_lock(&m->lock);
	m->waiting = true;
	cond_broadcast(&m->cond);
	m->result = 0;
	while (!m->done && m->result == 0)
		m->result = cond_wait_until(&m->cond, &m->lock, m->deadline_ms);
}

static void meeting_until_waiting(struct meeting *m)
{
	with_lock(&m->lock);
	while (!m->waiting)
		(void)cond_wait_until(&m->cond, &m->lock, INT64_MAX);
}

static void meeting_release(struct meeting *m)
{
	cond_release(&m->cond);
	lock_release_storage(&m->lock);
}

static void cond_wakes_by_signal(void **state)
{
	struct meeting m;
	struct thread *t;

	meeting_init(&m, INT64_MAX);
	assert_int_equal(thread_start(&t, "wait", meeting_wait, &m), 0);
	meeting_until_waiting(&m);
	lock_take(&m.lock);
	m.done = true;
	cond_signal(&m.cond);
	lock_drop(&m.lock);
	thread_join(t);
	assert_int_equal(m.result, 0);
	meeting_release(&m);
}

static void cond_times_out(void **state)
{
	struct meeting m;
	int64_t before_ms = clock_mono_ms();

	meeting_init(&m, before_ms + 20);
	meeting_wait(&m);
	assert_int_equal(m.result, -ETIMEDOUT);
	assert_true(clock_mono_ms() >= before_ms + 20);
	meeting_release(&m);
	meeting_init(&m, -5);
	meeting_wait(&m);
	assert_int_equal(m.result, -ETIMEDOUT);
	meeting_release(&m);
}

/* An hour passes in no time, and only when the test says so. */
static void cond_honours_fake_clock(void **state)
{
	struct meeting m;
	struct thread *t;

	clock_fake_begin(0);
	meeting_init(&m, clock_mono_ms() + 3600 * MS_PER_S);
	assert_int_equal(thread_start(&t, "wait", meeting_wait, &m), 0);
	meeting_until_waiting(&m);
	clock_fake_advance_ms(3599 * MS_PER_S);
	lock_take(&m.lock);
	assert_int_equal(m.result, 0);
	lock_drop(&m.lock);
	clock_fake_advance_ms(1 * MS_PER_S);
	thread_join(t);
	assert_int_equal(m.result, -ETIMEDOUT);
	clock_fake_end();
	meeting_release(&m);
}

/* A signal may fall between two slices of a wait on the fake clock: nobody would hear it. */
static void cond_fake_waiter_looks_again(void **state)
{
	struct meeting m;
	struct thread *t;

	clock_fake_begin(0);
	meeting_init(&m, clock_mono_ms() + 3600 * MS_PER_S);
	assert_int_equal(thread_start(&t, "wait", meeting_wait, &m), 0);
	meeting_until_waiting(&m);
	lock_take(&m.lock);
	m.done = true;
	lock_drop(&m.lock);
	thread_join(t);
	assert_int_equal(m.result, 0);
	clock_fake_end();
	meeting_release(&m);
}

static void cond_signal_reaches_fake_waiter(void **state)
{
	struct meeting m;
	struct thread *t;

	clock_fake_begin(0);
	meeting_init(&m, clock_mono_ms() + 1);
	assert_int_equal(thread_start(&t, "wait", meeting_wait, &m), 0);
	meeting_until_waiting(&m);
	lock_take(&m.lock);
	m.done = true;
	cond_broadcast(&m.cond);
	lock_drop(&m.lock);
	thread_join(t);
	assert_int_equal(m.result, 0);
	clock_fake_end();
	meeting_release(&m);
}

/* ---- pool ---- */

static atomic_uint jobs_run;

static void run_job(void *user)
{
	atomic_fetch_add(&jobs_run, 1);
}

struct gate {
	struct lock lock;
	struct cond cond;
	bool entered, open; /* by lock */
};

static void run_gate(void *user)
{
	struct gate *g = user;

	with_lock(&g->lock);
	g->entered = true;
	cond_broadcast(&g->cond);
	while (!g->open)
		(void)cond_wait_until(&g->cond, &g->lock, INT64_MAX);
}

static void pool_runs_all_and_refuses_too_many(void **state)
{
	struct gate g = {0};
	struct pool *p;

	lock_init(&g.lock, RANK_UPLOAD, "gate");
	cond_init(&g.cond);
	atomic_store(&jobs_run, 0);
	assert_int_equal(pool_create(&p, "hash", 1, 3), 0);
	assert_int_equal(pool_submit(p, run_gate, &g), 0);
	lock_take(&g.lock);
	while (!g.entered)
		(void)cond_wait_until(&g.cond, &g.lock, INT64_MAX);
	lock_drop(&g.lock);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pool_submit(p, run_job, NULL), 0);
	assert_int_equal(pool_submit(p, run_job, NULL), -EAGAIN);
	assert_int_equal(atomic_load(&jobs_run), 0);
	lock_take(&g.lock);
	g.open = true;
	cond_broadcast(&g.cond);
	lock_drop(&g.lock);
	pool_destroy(p); /* finishes what is queued */
	assert_int_equal(atomic_load(&jobs_run), 3);
	cond_release(&g.cond);
	lock_release_storage(&g.lock);
	pool_destroy(NULL);
}

/* The ring goes round many times with several workers: nothing is lost or run twice. */
static void pool_many_jobs(void **state)
{
	struct pool *p;
	unsigned submitted = 0;

	atomic_store(&jobs_run, 0);
	assert_int_equal(pool_create(&p, "hash", 4, 7), 0);
	while (submitted < 5000) {
		int r = pool_submit(p, run_job, NULL);

		assert_true(r == 0 || r == -EAGAIN);
		submitted += r == 0;
	}
	pool_destroy(p);
	assert_int_equal(atomic_load(&jobs_run), 5000);
}

static void submit_again(void *user)
{
	struct pool *p = *(struct pool **)user;

	while (pool_submit(p, run_job, NULL) != -ESHUTDOWN)
		;
	atomic_fetch_add(&jobs_run, 1000000);
}

static void pool_says_shutdown(void **state)
{
	struct pool *p;

	atomic_store(&jobs_run, 0);
	assert_int_equal(pool_create(&p, "hash", 2, 64), 0);
	assert_int_equal(pool_submit(p, submit_again, &p), 0);
	pool_destroy(p);
	assert_true(atomic_load(&jobs_run) >= 1000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranks_rising_are_fine),
		cmocka_unit_test(rank_violation_names_both_sites),
		cmocka_unit_test(misuse_aborts),
		cmocka_unit_test(scope_holds_and_drops),
		cmocka_unit_test(lock_excludes),
		cmocka_unit_test(thread_blocks_signals),
		cmocka_unit_test(cond_wakes_by_signal),
		cmocka_unit_test(cond_times_out),
		cmocka_unit_test(cond_honours_fake_clock),
		cmocka_unit_test(cond_fake_waiter_looks_again),
		cmocka_unit_test(cond_signal_reaches_fake_waiter),
		cmocka_unit_test(pool_runs_all_and_refuses_too_many),
		cmocka_unit_test(pool_many_jobs),
		cmocka_unit_test(pool_says_shutdown),
	};

	return cmocka_run_group_tests(tests, make_locks, NULL);
}
