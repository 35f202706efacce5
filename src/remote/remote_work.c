/*
 * remote_work - the room's own threads: they merge pages, wait out backoffs and tell the news.
 *
 * Replies arrive on the S3 loop thread, which must not block; it only links a task here. Stopping:
 * tasks that wait for a time run at once (and see that the room stops), requests under way come
 * back as tasks, and the threads end when neither is left.
 */
#include "remote_private.h"

void remote_task_push_locked(struct remote *r, struct remote_task *task)
{
	struct remote_task **at = &r->synced.tasks;

	lock_assert_held(&r->lock);
	while (*at && (*at)->due_ms <= task->due_ms)
		at = &(*at)->next;
	task->next = *at;
	*at = task;
	cond_broadcast(&r->work);
}

/* The next task that may run now; else how long to wait for it. */
static struct remote_task *take_due_locked(struct remote *r, int64_t *ret_wait_until)
{
	struct remote_task *t = r->synced.tasks;

	*ret_wait_until = t ? t->due_ms : INT64_MAX;
	if (!t || (!r->synced.stopping && t->due_ms > clock_mono_ms()))
		return NULL;
	r->synced.tasks = t->next;
	return t;
}

static struct remote_task *wait_for_task(struct remote *r)
{
	with_lock(&r->lock);
	for (;;) {
		int64_t until;
		struct remote_task *t = take_due_locked(r, &until);

		if (t)
			return t;
		if (r->synced.stopping && r->synced.requests == 0)
			break;
		(void)cond_wait_until(&r->work, &r->lock, until); /* either way look again */
	}
	cond_broadcast(&r->work); /* the others may end too */
	return NULL;
}

static void worker(void *user)
{
	struct remote *r = user;
	struct remote_task *t;

	while ((t = wait_for_task(r)) != NULL)
		t->run(r, t);
}

int remote_work_start(struct remote *r)
{
	for (r->worker_count = 0; r->worker_count < REMOTE_WORKERS; r->worker_count++) {
		int e = thread_start(&r->workers[r->worker_count], "remote", worker, r);

		if (e < 0)
			return e;
	}
	return 0;
}

void remote_work_stop(struct remote *r)
{
	for (size_t i = 0; i < r->worker_count; i++)
		thread_join(r->workers[i]);
	r->worker_count = 0;
}

bool remote_sleep_until(struct remote *r, int64_t due_ms)
{
	with_lock(&r->lock);
	while (!r->synced.stopping && clock_mono_ms() < due_ms)
		(void)cond_wait_until(&r->stopped, &r->lock, due_ms); /* the loop looks again */
	return !r->synced.stopping;
}

bool remote_is_stopping(struct remote *r)
{
	with_lock(&r->lock);
	return r->synced.stopping;
}

bool remote_task_pull_locked(struct remote *r, struct remote_task *task)
{
	struct remote_task **at = &r->synced.tasks;

	lock_assert_held(&r->lock);
	while (*at && *at != task)
		at = &(*at)->next;
	if (!*at)
		return false;
	*at = task->next;
	return true;
}
