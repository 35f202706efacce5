/*
 * fs_notify - tell the kernel that what it keeps of an inode is old.
 *
 * Only attributes are told, which waits for no lock. A notice about a name does wait inside the
 * kernel, for the lock of its folder, which a request that we have not answered may hold: killed in
 * that moment this process would never end, nor would the program that made the request. So names
 * that may come back (`cpgfs undelete`) are not kept by the kernel in the first place (fs_attr.c).
 *
 * One thread does it, so that nobody waits for the kernel. An inode that waits to be told stands in
 * the queue once; what does not fit is dropped: the kernel asks again anyway when its time-out (a
 * second) is over.
 */
#include "fs_private.h"

#define QUEUE_MAX 8192 /* inodes; a power of 2 */
/* A thread that is woken for every file costs more than what it does. */
#define GATHER_MS 5

struct fs_notify {
	struct fuse_session *session;
	struct thread *thread;
	struct lock lock;
	struct cond work;
	struct {
		uint64_t *ring;
		uint64_t *set; /* open addressing over twice the ring: what is in it; 0: free */
		unsigned first, count;
		bool stopping;
	} synced; /* by lock */
};

#define SET_SIZE (2 * QUEUE_MAX)

static unsigned set_slot(uint64_t ino)
{
	return (unsigned)((ino * UINT64_C(0x9e3779b97f4a7c15)) >> 40) & (SET_SIZE - 1);
}

static bool set_add_locked(struct fs_notify *n, uint64_t ino)
{
	unsigned i = set_slot(ino);

	while (n->synced.set[i] && n->synced.set[i] != ino)
		i = (i + 1) & (SET_SIZE - 1);
	if (n->synced.set[i])
		return false;
	n->synced.set[i] = ino;
	return true;
}

/* Takes one out and closes the gap behind it. */
static void set_remove_locked(struct fs_notify *n, uint64_t ino)
{
	unsigned i = set_slot(ino), gap;

	while (n->synced.set[i] != ino)
		i = (i + 1) & (SET_SIZE - 1);
	for (gap = i;;) {
		unsigned home;

		n->synced.set[gap] = 0;
		do {
			i = (i + 1) & (SET_SIZE - 1);
			if (!n->synced.set[i])
				return;
			home = set_slot(n->synced.set[i]);
		} while (((i - home) & (SET_SIZE - 1)) < ((i - gap) & (SET_SIZE - 1)));
		n->synced.set[gap] = n->synced.set[i];
		gap = i;
	}
}

void fs_notify_inode(struct fs_notify *n, uint64_t ino)
{
	with_lock(&n->lock);
	if (n->synced.stopping || n->synced.count == QUEUE_MAX || !set_add_locked(n, ino))
		return;
	n->synced.ring[(n->synced.first + n->synced.count) % QUEUE_MAX] = ino;
	if (n->synced.count++ == 0)
		cond_signal(&n->work);
}

/* Until there is something, and a moment longer for what comes with it. */
static void wait_locked(struct fs_notify *n)
{
	int64_t until_ms;

	while (n->synced.count == 0 && !n->synced.stopping)
		(void)cond_wait_until(&n->work, &n->lock, INT64_MAX);
	until_ms = clock_mono_ms() + GATHER_MS;
	while (!n->synced.stopping &&
		cond_wait_until(&n->work, &n->lock, until_ms) != -ETIMEDOUT)
		;
}

static bool take(struct fs_notify *n, uint64_t *ret_ino)
{
	with_lock(&n->lock);
	if (n->synced.count == 0)
		wait_locked(n);
	if (n->synced.stopping)
		return false;
	*ret_ino = n->synced.ring[n->synced.first];
	n->synced.first = (n->synced.first + 1) % QUEUE_MAX;
	n->synced.count--;
	set_remove_locked(n, *ret_ino);
	return true;
}

static void notify_main(void *user)
{
	struct fs_notify *n = user;
	uint64_t ino;

	while (take(n, &ino)) /* that the kernel does not know it is fine */
		(void)fuse_lowlevel_notify_inval_inode(n->session, ino, -1, 0);
}

int fs_notify_create(struct fs_notify **ret, struct fuse_session *session)
{
	struct fs_notify *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return -ENOMEM;
	n->session = session;
	lock_init(&n->lock, RANK_FS_PARK, "fs notify");
	cond_init(&n->work);
	n->synced.ring = calloc(QUEUE_MAX, sizeof(*n->synced.ring));
	n->synced.set = calloc(SET_SIZE, sizeof(*n->synced.set));
	r = n->synced.ring && n->synced.set ? 0 : -ENOMEM;
	if (r == 0 && session) /* without one nobody is told: unit tests */
		r = thread_start(&n->thread, "fs-notify", notify_main, n);
	if (r < 0) {
		fs_notify_destroy(n);
		return r;
	}
	*ret = n;
	return 0;
}

static void begin_stop(struct fs_notify *n)
{
	with_lock(&n->lock);
	n->synced.stopping = true;
	cond_broadcast(&n->work);
}

void fs_notify_stop(struct fs_notify *n)
{
	begin_stop(n);
	thread_join(steal_ptr(n->thread));
}

void fs_notify_destroy(struct fs_notify *n)
{
	if (!n)
		return;
	fs_notify_stop(n);
	cond_release(&n->work);
	lock_release_storage(&n->lock);
	free(n->synced.ring);
	free(n->synced.set);
	free(n);
}
