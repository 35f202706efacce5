/*
 * base_thread - named threads, and a pool of them over one queue.
 *
 * Threads start with every signal blocked, so that signals meet only the thread that waits for
 * them. The pool's queue is a ring made once: submitting never allocates.
 */
#include "base_private.h"

#include <signal.h>

#define THREAD_NAME_BYTES 16 /* the kernel's limit, NUL included */

struct thread {
	pthread_t id;
	void (*run)(void *user);
	void *user;
	char name[THREAD_NAME_BYTES];
};

static void *thread_main(void *arg)
{
	struct thread *t = arg;

	(void)pthread_setname_np(pthread_self(), t->name); /* only for people with top and gdb */
	t->run(t->user);
	lock_assert_none_held();
	return NULL;
}

int thread_start(struct thread **ret, const char *name, void (*run)(void *user), void *user)
{
	struct thread *t = calloc(1, sizeof(*t));
	sigset_t all, before;
	int r;

	if (!t)
		return -ENOMEM;
	t->run = run;
	t->user = user;
	(void)text_copy(t->name, name, sizeof(t->name));
	sigfillset(&all);
	check(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
	r = pthread_create(&t->id, NULL, thread_main, t);
	check(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
	if (r) {
		free(t);
		return -r;
	}
	*ret = t;
	return 0;
}

void thread_join(struct thread *t)
{
	if (!t)
		return;
	check(pthread_join(t->id, NULL) == 0);
	free(t);
}

struct pool_job {
	void (*run)(void *user);
	void *user;
};

struct pool {
	/* const after create */
	struct thread **workers;
	unsigned worker_count;
	unsigned max_queued;

	struct lock lock;
	struct cond work; /* a job came, or stopping */
	struct {
		struct pool_job *ring;
		unsigned first, count;
		bool stopping;
	} synced; /* by lock */
};

/* Waits for a job. False: nothing is left and the pool ends. */
static bool pool_take(struct pool *p, struct pool_job *job)
{
	with_lock(&p->lock);
	while (p->synced.count == 0 && !p->synced.stopping)
		(void)cond_wait_until(&p->work, &p->lock, INT64_MAX);
	if (p->synced.count == 0)
		return false;
	*job = p->synced.ring[p->synced.first];
	p->synced.first = p->synced.first + 1 == p->max_queued ? 0 : p->synced.first + 1;
	p->synced.count--;
	return true;
}

static void pool_worker(void *user)
{
	struct pool *p = user;
	struct pool_job job;

	while (pool_take(p, &job)) {
		job.run(job.user);
		lock_assert_none_held();
	}
}

static int pool_start_workers(struct pool *p, const char *name, unsigned threads)
{
	while (p->worker_count < threads) {
		char numbered[THREAD_NAME_BYTES];
		int r;

		snprintf(numbered, sizeof(numbered), "%.11s-%u", name, p->worker_count % 1000);
		r = thread_start(&p->workers[p->worker_count], numbered, pool_worker, p);
		if (r < 0)
			return r;
		p->worker_count++;
	}
	return 0;
}

int pool_create(struct pool **ret, const char *name, unsigned threads, unsigned max_queued)
{
	struct pool *p;
	int r;

	check(threads > 0 && max_queued > 0);
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->max_queued = max_queued;
	lock_init(&p->lock, RANK_POOL, "pool");
	cond_init(&p->work);
	p->synced.ring = calloc(max_queued, sizeof(*p->synced.ring));
	p->workers = calloc(threads, sizeof(struct thread *));
	r = p->synced.ring && p->workers ? pool_start_workers(p, name, threads) : -ENOMEM;
	if (r < 0) {
		pool_destroy(p);
		return r;
	}
	*ret = p;
	return 0;
}

int pool_submit(struct pool *p, void (*run)(void *user), void *user)
{
	with_lock(&p->lock);
	if (p->synced.stopping)
		return -ESHUTDOWN;
	if (p->synced.count == p->max_queued)
		return -EAGAIN;
	p->synced.ring[((uint64_t)p->synced.first + p->synced.count) % p->max_queued] =
		(struct pool_job){.run = run, .user = user};
	p->synced.count++;
	cond_signal(&p->work);
	return 0;
}

static void pool_stop(struct pool *p)
{
	with_lock(&p->lock);
	p->synced.stopping = true;
	cond_broadcast(&p->work);
}

void pool_destroy(struct pool *p)
{
	if (!p)
		return;
	pool_stop(p);
	for (unsigned i = 0; i < p->worker_count; i++)
		thread_join(p->workers[i]);
	cond_release(&p->work);
	lock_release_storage(&p->lock);
	free(p->workers);
	free(p->synced.ring);
	free(p);
}
