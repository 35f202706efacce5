/*
 * upload_sync - what has to survive a power cut before a request goes out: the records that lead to it, up
 * to that of its attempt, and the bytes that it sends.
 *
 * Else the cut would bring back what was before: an older version that takes our newer object for somebody
 * else's, a file whose object was deleted, an upload in parts that nobody can name. What is written to a
 * key that was never another's (a plate that is copied in) needs none of that: after the cut the object is
 * there, and whoever has the same bytes adopts it.
 *
 * Threads of their own wait for the disk: one for records, one where bytes have to be written down, which
 * takes long while a plate is copied in. All that wait at once share one sync. They wait as for an answer,
 * but in no place of a transfer: what is new goes out meanwhile. What they find afterwards may have changed.
 */
#include "upload_private.h"

/* More files than this are synced with the whole disk. */
#define SINGLE_SYNCS_MAX 2
#define SYNC_WAITS_MAX 256

struct sync_item {
	struct task *task;
	uint64_t ino, generation; /* whose bytes, too; 0: records only */
	task_step_fn *then;
	bool had_slot;
	int error;
};

struct sync_batch {
	struct event event;
	struct upload *upload; /* a reference, once it is on its way */
	struct sync_batch *next_done;
	bool with_data;
	uint64_t mark; /* all that its tasks stand on is recorded by now */
	size_t count, cap, done;
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

/* ---- on a thread that waits for the disk ----------------------------------------------------------- */

/* What was not written down with all the rest is tried by itself: a sync of it may have failed before. A
 * version that is over is nobody's concern. */
static int item_sync(struct store *s, const struct sync_item *item)
{
	int r = store_version_is(s, item->ino, item->generation) ? store_make_durable(s, item->ino) : 0;

	return r == -ENOENT ? 0 : r;
}

static void batch_sync(struct sync_batch *b)
{
	struct store *s = b->upload->store;
	int all = b->with_data && b->count > SINGLE_SYNCS_MAX ? store_flush_all(s) : 0;
	int records = 0;

	for (size_t i = 0; i < b->count && b->with_data; i++)
		b->items[i].error = all < 0 ? all : item_sync(s, &b->items[i]);
	if (all == 0)
		records = store_sync_to(s, b->mark);
	for (size_t i = 0; i < b->count; i++) {
		if (b->items[i].error == 0)
			b->items[i].error = records;
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
	struct sync_batch *b = (struct sync_batch *)e, **last = &u->sched.synced;

	u->sched.sync_lanes[b->with_data].runs = false;
	while (*last)
		last = &(*last)->next_done;
	*last = b;
}

static struct sync_batch *batch_next(struct upload *u, bool with_data)
{
	struct sync_lane *lane = &u->sched.sync_lanes[with_data];
	struct sync_batch *b = lane->next;

	if (!b) {
		b = lane->next = calloc(1, sizeof(*b));
		if (b)
			b->with_data = with_data; /* whose lane it is, also if it stays empty */
	}
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
	struct sync_batch *b = batch_next(u, with_data);

	if (!b) {
		t->sync_error = -ENOMEM;
		then(u, t);
		return;
	}
	b->items[b->count++] = (struct sync_item){.task = t,
		.ino = t->version.ino,
		.generation = t->version.generation,
		.then = then,
		.had_slot = t->holds_slot};
	u->sched.sync_waits += t->holds_slot;
	slot_drop(u, t);
	t->outstanding++;
	wake_by(u, clock_mono_ms());
}

bool sync_has_room(const struct upload *u)
{
	return u->sched.sync_waits < SYNC_WAITS_MAX;
}

static void item_go(struct upload *u, struct sync_item *item)
{
	struct task *t = item->task;

	u->sched.sync_waits -= item->had_slot;
	if (item->had_slot)
		slot_take(u, t);
	t->outstanding--;
	t->sync_error = item->error;
	if (t->sync_error < 0 && !is_shortage(t->sync_error))
		pause_note_store(u, t->sync_error);
	item->then(u, t);
}

/* The disk has answered: they go on as places get free. */
void synced_pass(struct upload *u)
{
	struct sync_batch *b;

	while ((b = u->sched.synced)) {
		if (b->done == b->count) {
			u->sched.synced = b->next_done;
			batch_free(b);
			continue;
		}
		if (b->items[b->done].had_slot && !transfers_may_begin(u))
			return;
		item_go(u, &b->items[b->done++]);
	}
}

static void lane_pass(struct upload *u, struct sync_lane *lane)
{
	struct sync_batch *b = lane->next;

	if (!b || lane->runs)
		return;
	b->event = (struct event){.run = batch_done, .drop = batch_drop};
	b->upload = u;
	b->mark = store_mark(u->store);
	atomic_fetch_add(&u->refs, 1);
	lane->next = NULL;
	lane->runs = true;
	if (pool_submit(u->sync_pool, batch_run, b) < 0)
		batch_run(b); /* each lane has its thread: never */
}

void sync_pass(struct upload *u)
{
	for (size_t i = 0; i < array_len(u->sched.sync_lanes); i++)
		lane_pass(u, &u->sched.sync_lanes[i]);
}

void sync_release(struct upload *u)
{
	struct sync_batch *b;

	for (size_t i = 0; i < array_len(u->sched.sync_lanes); i++) {
		if (u->sched.sync_lanes[i].next)
			batch_free(u->sched.sync_lanes[i].next);
		u->sched.sync_lanes[i].next = NULL;
	}
	while ((b = u->sched.synced)) {
		u->sched.synced = b->next_done;
		batch_free(b);
	}
}

/* ---- before a request that writes ------------------------------------------------------------------ */

/* Is it still the version, and are these its key and its object, that the attempt speaks of? */
static bool is_still_meant(struct upload *u, const struct task *t)
{
	struct store_inode now;
	uint64_t names;

	if (store_inode(u->store, t->version.ino, &now) < 0 ||
		now.attr.generation != t->version.generation || (now.attr.flags & STORE_FLAG_UNLINKED) ||
		now.attr.state != (t->kind == TASK_MOVE ? FILE_MOVING : FILE_SENDING))
		return false;
	if (t->kind == TASK_MOVE && strcmp(now.object.key, t->object.key) != 0)
		return false;
	return key_is(u, t->version.ino, t->key, &names);
}

/* What was not sent yet need not be: what the file is now is looked at anew. */
static void safe_go(struct upload *u, struct task *t, bool holds)
{
	if (!holds || is_still_meant(u, t)) {
		t->safe(u, t, holds);
		return;
	}
	(void)task_attempt_end(
		u, t, t->kind == TASK_MOVE ? FILE_NONE : FILE_QUEUED, NULL, false, NULL);
	task_destroy(u, t);
}

static void safe_asked(struct upload *u, struct task *t)
{
	safe_go(u, t, condition_holds(t));
}

/* Where the server honours no condition the key was asked for before the wait. */
static void safe_synced(struct upload *u, struct task *t)
{
	if (t->sync_error == -EIO && t->kind == TASK_PUT)
		put_reread(u, t, "the cache disk failed while it was synced");
	else if (t->sync_error < 0)
		put_unsent(u, t, t->sync_error);
	else if (s3_enforces(u->s3, t->safe_op, task_condition(t)))
		safe_go(u, t, true);
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
