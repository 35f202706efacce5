/*
 * upload_delay - a wall clock that is set ahead (by hand, or by NTP at a machine whose own clock is
 * wrong) uses up no --delete-delay: what was deleted before is due so much later.
 *
 * The queue knows wall times, since a delay goes on while no daemon runs. So the wall clock is
 * compared with the one that nobody can set, at each pass; what it is ahead by since the last one is
 * added to whatever was not due yet.
 */
#include "upload_private.h"

#include <inttypes.h>

#define AHEAD_MIN_NS (30 * NS_PER_S) /* slews and reading two clocks one after the other are less */
#define BATCH 64

struct waiting {
	uint64_t *inos;
	size_t count, cap;
};

static int waiting_add(struct waiting *w, uint64_t ino)
{
	if (w->count == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : BATCH;
		uint64_t *grown = reallocarray(w->inos, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		w->inos = grown;
		w->cap = cap;
	}
	w->inos[w->count++] = ino;
	return 0;
}

/* All that was not due when the clock was set: putting one off changes the order of the queue. */
static int gather(struct upload *u, int64_t since_ns, struct waiting *w)
{
	struct store_queue_item items[BATCH], at = {.order = (uint64_t)since_ns, .ino = UINT64_MAX};
	int n;

	while ((n = store_queue(u->store, FILE_DELETING, &at, items, array_len(items))) > 0) {
		for (int i = 0; i < n; i++)
			if (waiting_add(w, items[i].ino) < 0)
				return -ENOMEM;
		at = items[n - 1];
	}
	return n;
}

static int put_off(struct upload *u, uint64_t ino, int64_t since_ns, int64_t ahead_ns)
{
	struct store_inode inode;
	struct version v;
	int r = store_inode(u->store, ino, &inode);

	if (r < 0 || inode.attr.state != FILE_DELETING || inode.attr.ctime_ns > since_ns)
		return r == -ENOENT || r == -EUCLEAN ? 0 : r; /* what is damaged is not deleted either */
	version_of_inode(u, &inode, &v);
	r = state_set(u, &v,
		&(struct state_change){.to = FILE_DELETING,
			.reason = inode.reason,
			.due_at_ns = inode.due_at_ns + ahead_ns});
	return r == -ESTALE || r == -ENOENT || r == -EUCLEAN ? 0 : r;
}

static int put_all_off(struct upload *u, int64_t since_ns, int64_t ahead_ns)
{
	struct waiting w = {0};
	int r = gather(u, since_ns, &w);

	for (size_t i = 0; r == 0 && i < w.count; i++)
		r = put_off(u, w.inos[i], since_ns, ahead_ns);
	if (r == 0 && w.count > 0)
		log_info("the clock was set ahead by %" PRId64 " s: what was deleted before stays so much "
			 "longer",
			ahead_ns / NS_PER_S);
	free(w.inos);
	return r;
}

bool delay_is_kept(struct upload *u)
{
	int64_t wall_ns = clock_wall_ns(), boot_ns = clock_boot_ns();
	int64_t ahead_ns = 0;

	if (u->sched.seen_boot_ns)
		ahead_ns = wall_ns - u->sched.seen_wall_ns - (boot_ns - u->sched.seen_boot_ns);
	if (ahead_ns < AHEAD_MIN_NS || put_all_off(u, wall_ns - ahead_ns, ahead_ns) == 0) {
		u->sched.seen_wall_ns = wall_ns;
		u->sched.seen_boot_ns = boot_ns;
		return true;
	}
	return false; /* those that were put off are put off once more: better than too early */
}
