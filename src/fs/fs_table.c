/*
 * fs_table - nodes by inode number: a chained hash that doubles.
 *
 * A node lives while the kernel may name it (nlookup) or a handle is open on it.
 */
#include "fs_table.h"

#define BUCKETS_FIRST 1024

struct fs_node {
	struct fs_node *next; /* same bucket */
	uint64_t ino;
	uint64_t nlookup;
	unsigned direct, cached, lent; /* open handles by how they are driven */
	bool lending;
	int backing_id;
	enum fs_node_kind kind;
	bool is_dir;
	uint64_t size_bytes;
	int64_t mtime_ns;
	uint64_t virtual_id;
	uint64_t alias;
	char *path;
};

struct fs_table {
	struct lock lock;
	struct cond lent; /* lending ended */
	struct {
		struct fs_node **buckets;
		size_t bucket_count;
		uint64_t nodes;
		unsigned handles;
	} synced; /* by lock */
};

int fs_table_create(struct fs_table **ret)
{
	struct fs_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->synced.bucket_count = BUCKETS_FIRST;
	t->synced.buckets = calloc(BUCKETS_FIRST, sizeof(*t->synced.buckets));
	if (!t->synced.buckets) {
		free(t);
		return -ENOMEM;
	}
	lock_init(&t->lock, RANK_FS_TABLE, "fs table");
	cond_init(&t->lent);
	*ret = t;
	return 0;
}

static void node_free(struct fs_node *n)
{
	free(n->path);
	free(n);
}

void fs_table_destroy(struct fs_table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->synced.bucket_count; i++)
		for (struct fs_node *n = t->synced.buckets[i], *next; n; n = next) {
			next = n->next;
			node_free(n);
		}
	free(t->synced.buckets);
	cond_release(&t->lent);
	lock_release_storage(&t->lock);
	free(t);
}

/* Store numbers count up and hashes are even already: mixing serves both. */
static size_t bucket_of(uint64_t ino, size_t bucket_count)
{
	ino ^= ino >> 33;
	ino *= UINT64_C(0xff51afd7ed558ccd);
	ino ^= ino >> 33;
	return (size_t)(ino & (bucket_count - 1));
}

static struct fs_node *find_locked(struct fs_table *t, uint64_t ino)
{
	struct fs_node *n;

	lock_assert_held(&t->lock);
	n = t->synced.buckets[bucket_of(ino, t->synced.bucket_count)];
	while (n && n->ino != ino)
		n = n->next;
	return n;
}

/* Without memory for it the table stays as it is, and chains grow. */
static void grow_locked(struct fs_table *t)
{
	size_t count = t->synced.bucket_count * 2;
	struct fs_node **buckets = calloc(count, sizeof(*buckets));

	if (!buckets)
		return;
	for (size_t i = 0; i < t->synced.bucket_count; i++)
		for (struct fs_node *n = t->synced.buckets[i], *next; n; n = next) {
			size_t to = bucket_of(n->ino, count);

			next = n->next;
			n->next = buckets[to];
			buckets[to] = n;
		}
	free(t->synced.buckets);
	t->synced.buckets = buckets;
	t->synced.bucket_count = count;
}

static struct fs_node *find_or_add_locked(struct fs_table *t, uint64_t ino)
{
	struct fs_node *n = find_locked(t, ino);
	size_t at;

	if (n)
		return n;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	if (t->synced.nodes >= t->synced.bucket_count)
		grow_locked(t);
	n->ino = ino;
	at = bucket_of(ino, t->synced.bucket_count);
	n->next = t->synced.buckets[at];
	t->synced.buckets[at] = n;
	t->synced.nodes++;
	return n;
}

static bool drop_if_unused_locked(struct fs_table *t, struct fs_node *n)
{
	struct fs_node **at = &t->synced.buckets[bucket_of(n->ino, t->synced.bucket_count)];

	if (n->nlookup || n->direct || n->cached || n->lent)
		return false;
	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	t->synced.nodes--;
	node_free(n);
	return true;
}

int fs_table_enter(struct fs_table *t, uint64_t ino, const struct fs_known *what)
{
	struct fs_node *n;

	with_lock(&t->lock);
	n = find_or_add_locked(t, ino);
	if (!n)
		return -ENOMEM;
	if (what->kind == FS_NODE_BUCKET && !n->path) {
		n->path = text_dup(buf_text(&what->path));
		if (!n->path) {
			(void)drop_if_unused_locked(t, n);
			return -ENOMEM;
		}
	}
	n->kind = what->kind;
	n->is_dir = what->is_dir;
	n->size_bytes = what->size_bytes;
	n->mtime_ns = what->mtime_ns;
	n->virtual_id = what->virtual_id;
	n->alias = 0;
	n->nlookup++;
	return 0;
}

bool fs_table_forget(struct fs_table *t, uint64_t ino, uint64_t nlookup, uint64_t *ret_virtual_id)
{
	struct fs_node *n;

	*ret_virtual_id = 0;
	with_lock(&t->lock);
	n = find_locked(t, ino);
	if (!n)
		return false; /* an inode of the store: nothing was counted */
	n->nlookup -= nlookup < n->nlookup ? nlookup : n->nlookup;
	if (n->kind == FS_NODE_VIRTUAL)
		*ret_virtual_id = n->virtual_id;
	if (drop_if_unused_locked(t, n))
		return true;
	*ret_virtual_id = 0;
	return false;
}

int fs_table_find(struct fs_table *t, uint64_t ino, struct fs_known *ret)
{
	const struct fs_node *n;
	struct fs_known known = {0};

	with_lock(&t->lock);
	n = find_locked(t, ino);
	if (!n || n->kind == FS_NODE_PLAIN)
		return -ESTALE;
	known.kind = n->kind;
	known.is_dir = n->is_dir;
	known.size_bytes = n->size_bytes;
	known.mtime_ns = n->mtime_ns;
	known.virtual_id = n->virtual_id;
	known.alias = n->alias;
	if (n->path)
		buf_add_text(&known.path, n->path);
	if (buf_error(&known.path) < 0) {
		buf_release(&known.path);
		return -ENOMEM;
	}
	*ret = known;
	return 0;
}

void fs_table_set_alias(struct fs_table *t, uint64_t ino, uint64_t target)
{
	struct fs_node *n;

	with_lock(&t->lock);
	n = find_locked(t, ino);
	if (n)
		n->alias = target;
}

/* A direct writer needs that nobody reads through the page cache, and the other way round. */
static enum fs_way way_of(const struct fs_node *n, bool wants_direct)
{
	if (n->lent > 0)
		return FS_WAY_BESIDE;
	return n->direct > 0 || (wants_direct && n->cached == 0) ? FS_WAY_DIRECT : FS_WAY_CACHED;
}

static unsigned *count_of(struct fs_node *n, enum fs_way way)
{
	switch (way) {
	case FS_WAY_CACHED:
		return &n->cached;
	case FS_WAY_DIRECT:
		return &n->direct;
	case FS_WAY_LENT:
	case FS_WAY_BESIDE:
		break;
	}
	return &n->lent;
}

int fs_table_open(struct fs_table *t, uint64_t ino, bool wants_direct, enum fs_way *ret_way,
	int *ret_backing_id)
{
	struct fs_node *n;

	with_lock(&t->lock);
	n = find_or_add_locked(t, ino);
	if (!n)
		return -ENOMEM;
	while (n->lending) { /* two system calls of another worker; its handle keeps the node */
		(void)cond_wait_until(&t->lent, &t->lock, INT64_MAX);
		n = find_or_add_locked(t, ino);
		if (!n)
			return -ENOMEM;
	}
	*ret_way = way_of(n, wants_direct);
	(*count_of(n, *ret_way))++;
	t->synced.handles++;
	*ret_backing_id = n->backing_id;
	return 0;
}

void fs_table_close(struct fs_table *t, uint64_t ino, enum fs_way way, int *ret_backing_id)
{
	struct fs_node *n;
	unsigned *count;

	*ret_backing_id = 0;
	with_lock(&t->lock);
	n = find_locked(t, ino);
	check(n);
	count = count_of(n, way);
	check(*count > 0);
	(*count)--;
	if (n->lent == 0) {
		*ret_backing_id = n->backing_id;
		n->backing_id = 0;
	}
	t->synced.handles--;
	(void)drop_if_unused_locked(t, n); /* the kernel may still know it */
}

bool fs_table_lend_begin(struct fs_table *t, uint64_t ino)
{
	struct fs_node *n;

	with_lock(&t->lock);
	n = find_locked(t, ino);
	check(n);
	if (n->lending || n->direct != 1 || n->cached || n->lent)
		return false;
	n->lending = true;
	return true;
}

void fs_table_lend_end(struct fs_table *t, uint64_t ino, int backing_id)
{
	struct fs_node *n;

	with_lock(&t->lock);
	n = find_locked(t, ino);
	check(n && n->lending && n->direct == 1);
	n->lending = false;
	if (backing_id) {
		n->direct--;
		n->lent++;
		n->backing_id = backing_id;
	}
	cond_broadcast(&t->lent);
}

uint64_t fs_table_nodes(struct fs_table *t)
{
	with_lock(&t->lock);
	return t->synced.nodes;
}

unsigned fs_table_handles(struct fs_table *t)
{
	with_lock(&t->lock);
	return t->synced.handles;
}
