/*
 * upload_sync - what has to survive a power cut before a request goes out: the records that lead to it, up
 * to that of its attempt, and the bytes that it sends.
 *
 * Else the cut would bring back what was before: an older version that takes our newer object for somebody
 * else's, a file whose object was deleted, an upload in parts that nobody can name. What is written to a
 * key that was never another's (a plate that is copied in) needs none of that: after the cut the object is
 * there, and whoever has the same bytes adopts it.
 *
 * A thread of its own waits for the disk; all that wait at once share one sync. The task waits as for an
 * answer: what it finds afterwards may have changed.
 */
#include "upload_private.h"

/* More files than this are synced with the whole disk. */
#define SINGLE_SYNCS_MAX 8

struct sync_item {
	struct task *task;
	uint64_t ino; /* whose bytes, too; 0: records only */
	task_step_fn *then;
	int error;
};

struct sync_batch {
	struct event event;
	struct upload *upload; /* a reference */
	size_t count, cap, with_data;
	struct sync_item *items;
};

static void batch_free(struct sync_batch *b)
{
	if (b->upload)
		upload_unref(b->upload);
	free(b->items);
	free(b);
}

static void batch_drop(struct event *e)
{
	batch_free((struct sync_batch *)e);
}

/* ---- on the thread that waits for the disk -------------------------------------------------------- */

static void batch_sync(struct sync_batch *b)
{
	struct store *s = b->upload->store;
	int all = b->with_data > SINGLE_SYNCS_MAX ? store_flush_all(s) : 0;
	int records;

	for (size_t i = 0; i < b->count && b->with_data <= SINGLE_SYNCS_MAX; i++) {
		if (b->items[i].ino)
			b->items[i].error = store_make_durable(s, b->items[i].ino);
	}
	records = store_sync_to(s, store_mark(s));
	for (size_t i = 0; i < b->count; i++) {
		struct sync_item *item = &b->items[i];

		if (item->error == 0 && item->ino)
			item->error = all;
		if (item->error == 0 || item->error == -ENOENT)
			item->error = records;
	}
}

static void batch_run(void *user)
{
	struct sync_batch *b = user;

	batch_sync(b);
	event_post(b->upload, &b->event);
}

/* ---- on the scheduler thread ---------------------------------------------------------------------- */

static void batch_done(struct upload *u, struct event *e)
{
	struct sync_batch *b = (struct sync_batch *)e;

	u->sched.sync_runs = false;
	for (size_t i = 0; i < b->count; i++) {
		struct task *t = b->items[i].task;

		t->outstanding--;
		t->sync_error = b->items[i].error;
		if (t->sync_error < 0 && !is_shortage(t->sync_error))
			pause_note_store(u, t->sync_error);
		b->items[i].then(u, t);
	}
	batch_free(b);
}

static struct sync_batch *batch_next(struct upload *u)
{
	struct sync_batch *b = u->sched.sync_next;

	if (!b)
		b = u->sched.sync_next = calloc(1, sizeof(*b));
	if (b && b->count == b->cap) {
		size_t cap = b->cap ? 2 * b->cap : 16;
		struct sync_item *more = reallocarray(b->items, cap, sizeof(*more));

		if (!more)
			return NULL;
		b->items = more;
		b->cap = cap;
	}
	return b;
}

void sync_then(struct upload *u, struct task *t, bool with_data, task_step_fn *then)
{
	struct sync_batch *b = batch_next(u);

	if (!b) {
		t->sync_error = -ENOMEM;
		then(u, t);
		return;
	}
	b->items[b->count++] = (struct sync_item){
		.task = t, .ino = with_data ? t->version.ino : 0, .then = then};
	b->with_data += with_data;
	t->outstanding++;
	wake_by(u, clock_mono_ms());
}

void sync_pass(struct upload *u)
{
	struct sync_batch *b = u->sched.sync_next;

	if (!b || u->sched.sync_runs)
		return;
	b->event = (struct event){.run = batch_done, .drop = batch_drop};
	b->upload = u;
	atomic_fetch_add(&u->refs, 1);
	u->sched.sync_next = NULL;
	u->sched.sync_runs = true;
	if (pool_submit(u->sync_pool, batch_run, b) < 0)
		batch_run(b); /* it has no other work: never */
}

void sync_release(struct upload *u)
{
	if (u->sched.sync_next)
		batch_free(u->sched.sync_next);
	u->sched.sync_next = NULL;
}

/* ---- before a request that writes ------------------------------------------------------------------ */

static void safe_asked(struct upload *u, struct task *t)
{
	t->safe(u, t, condition_holds(t));
}

/* Where the server honours no condition the key was asked for before the wait. */
static void safe_synced(struct upload *u, struct task *t)
{
	if (t->sync_error < 0)
		put_unsent(u, t, t->sync_error);
	else if (s3_enforces(u->s3, t->safe_op, task_condition(t)))
		t->safe(u, t, true);
	else
		ask_bucket(u, t, t->key, false, safe_asked);
}

void write_safely(struct upload *u, struct task *t, enum s3_op op, task_safe_fn *go)
{
	t->safe_op = op;
	t->safe = go;
	if (t->condition[0] != '\0' || store_was_other(u->store, t->version.ino, t->key))
		sync_then(u, t, op != S3_COPY, safe_synced);
	else
		go(u, t, true);
}
