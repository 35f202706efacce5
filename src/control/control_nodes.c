/*
 * control_nodes - which key an id of remote/ stands for.
 *
 * Ids are hashes of keys and can't be turned back, so those given out are remembered: in two tables,
 * a young and an old one. When the young one is full the old one is dropped and the young one grows
 * old; whatever is asked for moves to the young one. So memory is bounded whatever a `find` walks
 * through, and what is in use stays. An id that was dropped is looked up again by the kernel
 * (-ESTALE).
 */
#include "control_private.h"

#define YOUNG_MAX 65536
#define BUCKETS 16384

struct node {
	struct node *next;
	uint64_t id;
	char key[];
};

struct table {
	struct node *buckets[BUCKETS];
	size_t count;
};

struct control_nodes {
	struct table *young, *old;
};

static void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		while (t->buckets[i]) {
			struct node *n = t->buckets[i];

			t->buckets[i] = n->next;
			free(n);
		}
	}
	free(t);
}

int control_nodes_create(struct control_nodes **ret)
{
	struct control_nodes *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->young = calloc(1, sizeof(*n->young));
	n->old = calloc(1, sizeof(*n->old));
	if (!n->young || !n->old) {
		control_nodes_destroy(n);
		return -ENOMEM;
	}
	*ret = n;
	return 0;
}

void control_nodes_destroy(struct control_nodes *n)
{
	if (!n)
		return;
	table_free(n->young);
	table_free(n->old);
	free(n);
}

static struct node **place(struct table *t, uint64_t id)
{
	struct node **at = &t->buckets[id % BUCKETS];

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

static struct node *take(struct table *t, uint64_t id)
{
	struct node **at = place(t, id), *n = *at;

	if (n) {
		*at = n->next;
		t->count--;
	}
	return n;
}

/* Without memory for a new table the young one just goes on growing. */
static void grow_old(struct control_nodes *n)
{
	struct table *fresh;

	if (n->young->count < YOUNG_MAX)
		return;
	fresh = calloc(1, sizeof(*fresh));
	if (!fresh)
		return;
	table_free(n->old);
	n->old = n->young;
	n->young = fresh;
}

static void put(struct control_nodes *n, struct node *node)
{
	struct node **at;

	grow_old(n);
	at = &n->young->buckets[node->id % BUCKETS];
	node->next = *at;
	*at = node;
	n->young->count++;
}

static struct node *find(struct control_nodes *n, uint64_t id)
{
	struct node *node = *place(n->young, id);

	if (!node) {
		node = take(n->old, id);
		if (node)
			put(n, node);
	}
	return node;
}

int control_nodes_put_locked(struct control *c, uint64_t id, const char *key)
{
	size_t bytes = strlen(key) + 1;
	struct node *node;

	lock_assert_held(&c->lock);
	if (find(c->synced.nodes, id))
		return 0;
	node = malloc(sizeof(*node) + bytes);
	if (!node)
		return -ENOMEM;
	node->id = id;
	memcpy(node->key, key, bytes);
	put(c->synced.nodes, node);
	return 0;
}

bool control_nodes_key_locked(struct control *c, uint64_t id, char key[KEY_MAX_BYTES + 2])
{
	struct node *node;

	lock_assert_held(&c->lock);
	node = find(c->synced.nodes, id);
	return node && text_copy(key, node->key, KEY_MAX_BYTES + 2);
}

void control_nodes_forget_locked(struct control *c, uint64_t id)
{
	lock_assert_held(&c->lock);
	free(take(c->synced.nodes->young, id));
	free(take(c->synced.nodes->old, id));
}
