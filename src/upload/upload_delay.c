/*
 * upload_delay - a wall clock that is set ahead (by hand, or by NTP at a machine whose own clock is
 * wrong) uses up no --delete-delay: what was deleted before is due so much later. When it is set
 * back, so much earlier, else it would stay for years after a slip of the hand: what was deleted
 * while it was ahead, and what was put off for that. Who knows by which clock anything older was
 * deleted?
 *
 * The queue knows wall times, since a delay goes on while no daemon runs. So the wall clock is
 * compared with the one that nobody can set, at each pass; what it is ahead by since the last one
 * is added to whatever was not due yet, but not to what was deleted since it was set.
 */
#include "upload_private.h"

#include <inttypes.h>

#define AHEAD_MIN_NS (30 * NS_PER_S) /* slews and reading two clocks one after the other are less  \
				      */
#define BATCH 64

/* From one pass to the next. */
struct shift {
	int64_t wall_ns;   /* now */
	int64_t ahead_ns;  /* by so much it was set ahead; below 0: back */
	int64_t passed_ns; /* in truth, at most */
};

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

/* All that was not due when the clock was set, or is not any more: putting one off changes the
 * order of the queue. */
static int gather(struct upload *u, const struct shift *by, struct waiting *w)
{
	int64_t due_ns = by->ahead_ns > 0 ? by->wall_ns - by->ahead_ns : by->wall_ns;
	struct store_queue_item items[BATCH], at = {.order = (uint64_t)due_ns, .ino = UINT64_MAX};
	int n;

	while ((n = store_queue(u->store, FILE_DELETING, &at, items, array_len(items))) > 0) {
		for (int i = 0; i < n; i++)
			if (waiting_add(w, items[i].ino) < 0)
				return -ENOMEM;
		at = items[n - 1];
	}
	return n;
}

/* How much later what was deleted then is due; 0 if it may have been deleted since the clock was
 * set. */
static int64_t later_ns(struct upload *u, const struct shift *by, int64_t deleted_ns)
{
	int64_t back_ns = -by->ahead_ns;

	if (by->ahead_ns > 0)
		return deleted_ns <= by->wall_ns - by->ahead_ns ? by->ahead_ns : 0;
	if (deleted_ns > by->wall_ns)
		return -back_ns;
	if (deleted_ns < by->wall_ns - by->passed_ns)
		return -(back_ns < u->sched.put_off_ns ? back_ns : u->sched.put_off_ns);
	return 0;
}

static int put_off(struct upload *u, uint64_t ino, const struct shift *by)
{
	struct store_inode inode;
	struct version v;
	int64_t ns;
	int r = store_inode(u->store, ino, &inode);

	if (r < 0 || inode.attr.state != FILE_DELETING)
		return r == -ENOENT || r == -EUCLEAN
			       ? 0
			       : r; /* what is damaged is not deleted either */
	ns = later_ns(u, by, inode.attr.ctime_ns);
	if (ns == 0)
		return 0;
	version_of_inode(u, &inode, &v);
	r = state_set(u, &v,
		&(struct state_change){.to = FILE_DELETING,
			.reason = inode.reason,
			.due_at_ns = inode.due_at_ns + ns});
	return r == -ESTALE || r == -ENOENT || r == -EUCLEAN ? 0 : r;
}

static int put_all_off(struct upload *u, const struct shift *by)
{
	bool ahead = by->ahead_ns > 0;
	struct waiting w = {0};
	int r = gather(u, by, &w);

	for (size_t i = 0; r == 0 && i < w.count; i++)
		r = put_off(u, w.inos[i], by);
	if (r == 0 && w.count > 0)
		log_info("the clock was set %s by %" PRId64 " s: what was deleted %s",
			ahead ? "ahead" : "back", (ahead ? by->ahead_ns : -by->ahead_ns) / NS_PER_S,
			ahead ? "before stays so much longer" : "by it stays so much shorter");
	free(w.inos);
	return r;
}

bool delay_is_kept(struct upload *u)
{
	int64_t boot_ns = clock_boot_ns();
	struct shift by = {.wall_ns = clock_wall_ns()};
	int r = 0;

	if (u->sched.seen_boot_ns) {
		by.passed_ns = clock_boot_ns() - u->sched.seen_boot_ns;
		by.ahead_ns = by.wall_ns - u->sched.seen_wall_ns - by.passed_ns;
	}
	if (by.ahead_ns >= AHEAD_MIN_NS || by.ahead_ns <= -AHEAD_MIN_NS) {
		r = put_all_off(u, &by);
		if (r < 0 && by.ahead_ns > 0)
			return false; /* those that were put off are put off once more: better than
					 too early */
		u->sched.put_off_ns += by.ahead_ns;
		if (u->sched.put_off_ns < 0)
			u->sched.put_off_ns = 0;
	}
	u->sched.seen_wall_ns = by.wall_ns;
	u->sched.seen_boot_ns = boot_ns;
	return true;
}
