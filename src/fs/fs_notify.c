/*
 * fs_notify - tell the kernel that what it keeps of an inode is old.
 *
 * Such a notice may wait inside the kernel for an inode's lock, which a request that we have not
 * answered yet may hold. So one thread does nothing else, and nobody waits for it but the end of
 * the mount. An inode that waits to be told stands in the queue once; what does not fit is
 * dropped: the kernel asks again anyway when its time-out (a second) is over.
 *
 * Names that came back (`cpgfs undelete`) are told as well, for the kernel keeps that there were
 * none; and those of their folders, if these had to be made again.
 */
#include "fs_private.h"

#define QUEUE_MAX 8192 /* inodes; a power of 2 */
#define NAMES_MAX 1024
#define DEPTH_MAX 256

struct fs_notify {
	struct fuse_session *session;
	struct store *store;
	struct thread *thread;
	struct lock lock;
	struct cond work;
	struct {
		uint64_t *ring;
		uint64_t *set; /* open addressing over twice the ring: what is in it; 0: free */
		unsigned first, count;
		uint64_t names[NAMES_MAX]; /* inodes whose name came back */
		unsigned names_count;
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
	n->synced.count++;
	cond_signal(&n->work);
}

void fs_notify_name(struct fs_notify *n, uint64_t ino)
{
	with_lock(&n->lock);
	if (n->synced.stopping || n->synced.names_count == NAMES_MAX)
		return;
	n->synced.names[n->synced.names_count++] = ino;
	cond_signal(&n->work);
}

static bool take(struct fs_notify *n, uint64_t *ret_ino, bool *ret_by_name)
{
	with_lock(&n->lock);
	while (n->synced.count == 0 && n->synced.names_count == 0 && !n->synced.stopping)
		(void)cond_wait_until(&n->work, &n->lock, INT64_MAX);
	if (n->synced.stopping)
		return false;
	*ret_by_name = n->synced.names_count > 0;
	if (*ret_by_name) {
		*ret_ino = n->synced.names[--n->synced.names_count];
		return true;
	}
	*ret_ino = n->synced.ring[n->synced.first];
	n->synced.first = (n->synced.first + 1) % QUEUE_MAX;
	n->synced.count--;
	set_remove_locked(n, *ret_ino);
	return true;
}

/* A folder that is younger than what lies in it was made again for it. (The others are left alone:
 * dropping the name of a folder that somebody works in takes his working directory away.) */
static void tell_names(struct fs_notify *n, uint64_t ino)
{
	cleanup_free struct store_inode *inode = calloc(1, sizeof(*inode));
	uint64_t file = ino;

	for (unsigned depth = 0; inode && depth < DEPTH_MAX && ino != STORE_ROOT_INO; depth++) {
		if (store_inode(n->store, ino, inode) < 0)
			return; /* gone again */
		if (ino >= file)
			(void)fuse_lowlevel_notify_inval_entry(
				n->session, inode->attr.parent, inode->name, strlen(inode->name));
		ino = inode->attr.parent;
	}
}

static void notify_main(void *user)
{
	struct fs_notify *n = user;
	uint64_t ino;
	bool by_name;

	while (take(n, &ino, &by_name)) {
		if (by_name)
			tell_names(n, ino);
		else /* attributes only; that the kernel does not know it is fine */
			(void)fuse_lowlevel_notify_inval_inode(n->session, ino, -1, 0);
	}
}

int fs_notify_create(struct fs_notify **ret, struct fuse_session *session, struct store *store)
{
	struct fs_notify *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return -ENOMEM;
	n->session = session;
	n->store = store;
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
