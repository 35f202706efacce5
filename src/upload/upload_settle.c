/*
 * upload_settle - CLOSED files whose time has come: held by name, or settled and hashed. And whether
 * what an earlier mount held is to be held by this one.
 *
 * The queue is in order of due time. A file that someone may still write to stays and is looked at
 * again when its writer goes (the store makes it due anew then), at the latest after POLL_MS.
 */
#include "upload_private.h"

#define POLL_MS 1000
#define SETTLE_LONGEST_MS (11 * 60 * MS_PER_S) /* of what the store doubles; or --settle itself */
#define SETTLE_WINDOW 128
/* A pass settles at most so many before events are looked at again. */
#define SETTLE_PASS_MAX 1024
#define HELD_BATCH 256

/* -EAGAIN: it may have another name now. */
static int settle_judged(struct upload *u, const struct store_inode *inode)
{
	struct version v = {.ino = inode->attr.ino,
		.generation = inode->attr.generation,
		.state = inode->attr.state};
	struct state_change change = {.to = FILE_SETTLED};
	struct key_now now;
	int r = key_of_inode(u, v.ino, &now);

	if (r == -EACCES) {
		change = (struct state_change){.to = FILE_HELD, .held = HELD_NAME,
			.reason = "outside the mounted prefix"};
	} else if (r < 0) {
		return r;
	} else if (now.held != HELD_NOT) {
		change = (struct state_change){
			.to = FILE_HELD, .held = now.held, .reason = now.reason};
	}
	change.names = now.names;
	return state_set(u, &v, &change);
}

static int settle_file(struct upload *u, const struct store_inode *inode)
{
	int r;

	do
		r = settle_judged(u, inode);
	while (r == -EAGAIN);
	return r;
}

/* False: it must stay CLOSED for now. */
static bool settle_one(struct upload *u, uint64_t ino)
{
	struct store_inode inode;

	if (store_inode(u->store, ino, &inode) < 0 || inode.attr.state != FILE_CLOSED)
		return true;
	if (store_has_writers(u->store, ino))
		return false;
	return settle_file(u, &inode) == 0;
}

/* Sees that the pass comes again when this item is due. True: it is not due yet. */
static bool settle_not_due(struct upload *u, const struct store_queue_item *item, int64_t wall_ns)
{
	int64_t in_ms = ((int64_t)item->order - wall_ns) / 1000000 + 1;

	if ((int64_t)item->order <= wall_ns || in_ms > SETTLE_LONGEST_MS + u->settle_ms)
		return false; /* the wall clock was set back: no file settles that long */
	if (clock_mono_ms() + in_ms < u->sched.closed_next_ms)
		u->sched.closed_next_ms = clock_mono_ms() + in_ms;
	return true;
}

void settle_pass(struct upload *u)
{
	struct store_queue_item items[SETTLE_WINDOW], last, *after = NULL;
	int64_t wall_ns = clock_wall_ns();
	unsigned settled = 0;
	int n;

	u->sched.closed_next_ms = INT64_MAX;
	while ((n = store_queue(u->store, FILE_CLOSED, after, items, array_len(items))) > 0) {
		for (int i = 0; i < n; i++) {
			if (settle_not_due(u, &items[i], wall_ns))
				return;
			if (settle_one(u, items[i].ino))
				settled++;
			else
				u->sched.closed_next_ms = clock_mono_ms() + POLL_MS;
		}
		last = items[n - 1];
		after = &last;
		if (settled >= SETTLE_PASS_MAX) {
			u->sched.closed_next_ms = clock_mono_ms();
			return;
		}
	}
	if (n < 0)
		u->sched.closed_next_ms = clock_mono_ms() + POLL_MS;
}

static bool held_for_its_key(struct upload *u, uint64_t ino)
{
	struct store_inode inode;

	return store_inode(u->store, ino, &inode) == 0 && strcmp(inode.reason, key_taken_reason) == 0;
}

/* -EAGAIN: it may have another name now. */
static int held_judged(struct upload *u, uint64_t ino)
{
	struct state_change change = {.to = FILE_CLOSED};
	struct version v;
	struct key_now now;
	int r = version_load(u, ino, &v);

	if (r < 0 || v.state != FILE_HELD)
		return r;
	r = key_of_inode(u, ino, &now);
	if (r < 0 || now.held != HELD_NOT)
		return r;
	if (held_for_its_key(u, ino)) {
		u->sched.held_for_keys = true;
		if (key_is_taken(u, &v, now.key))
			return 0;
	}
	change.names = now.names;
	return state_set(u, &v, &change);
}

/* Who has their key may be renamed or deleted meanwhile. */
void held_look_again(struct upload *u)
{
	if (!u->sched.held_for_keys || !u->sched.held_judged)
		return;
	u->sched.held_for_keys = u->sched.held_judged = false;
	u->sched.held_last = (struct store_queue_item){0};
}

/* Once after a start, all that were held before: the mount may have other rules for names. */
void held_pass(struct upload *u)
{
	struct store_queue_item items[HELD_BATCH];
	int n;

	if (u->sched.held_judged)
		return;
	n = store_queue(u->store, FILE_HELD, u->sched.held_last.ino ? &u->sched.held_last : NULL,
		items, HELD_BATCH);
	for (int i = 0; i < n; i++) {
		while (held_judged(u, items[i].ino) == -EAGAIN)
			;
	}
	u->sched.held_judged = n == 0;
	if (n > 0)
		u->sched.held_last = items[n - 1];
	if (n != 0)
		wake_by(u, clock_mono_ms() + (n < 0 ? POLL_MS : 0));
}
