/*
 * index - the objects of a bucket in the byte order of their keys (a skip list).
 */
#include "s3d_index.h"

#include <stdlib.h>
#include <string.h>

#define LEVELS 20

struct index {
	struct index_node *head; /* no object, LEVELS high */
	size_t count;
	uint64_t random;
};

struct object *object_create(const char *key)
{
	struct object *object = mem_zalloc(sizeof(*object));

	object->refs = 1;
	object->key = str_dup(key);
	object->owner = str_dup("");
	object->acl = str_dup("");
	object->headers = str_dup("");
	object->part_sizes = str_dup("");
	return object;
}

struct object *object_ref(struct object *object)
{
	object->refs++;
	return object;
}

void object_unref(struct object *object)
{
	if (!object || --object->refs)
		return;
	free(object->key);
	free(object->owner);
	free(object->acl);
	free(object->headers);
	free(object->part_sizes);
	free(object);
}

void object_unrefp(struct object **object)
{
	object_unref(*object);
}

void object_set(char **field, const char *value)
{
	free(*field);
	*field = str_dup(value ? value : "");
}

static struct index_node *index_node_create(struct object *object, int levels)
{
	struct index_node *node =
		mem_zalloc(sizeof(*node) + (size_t)levels * sizeof(struct index_node *));

	node->object = object;
	return node;
}

struct index *index_create(void)
{
	struct index *index = mem_zalloc(sizeof(*index));

	index->head = index_node_create(NULL, LEVELS);
	index->random = 0x9e3779b97f4a7c15;
	return index;
}

void index_destroy(struct index *index)
{
	struct index_node *node = index->head;

	while (node) {
		struct index_node *next = node->next[0];

		object_unref(node->object);
		free(node);
		node = next;
	}
	free(index);
}

/* The last node before `key` on every level; returns the one after it on level 0. */
static struct index_node *index_path(const struct index *index, const char *key, bool after,
	struct index_node *path[LEVELS])
{
	struct index_node *node = index->head;

	for (int level = LEVELS - 1; level >= 0; level--) {
		while (node->next[level] &&
			strcmp(node->next[level]->object->key, key) < (after ? 1 : 0))
			node = node->next[level];
		path[level] = node;
	}
	return node->next[0];
}

const struct index_node *index_seek(const struct index *index, const char *key, bool after)
{
	struct index_node *path[LEVELS];

	return index_path(index, key, after, path);
}

struct object *index_find(const struct index *index, const char *key)
{
	const struct index_node *node = index_seek(index, key, false);

	return node && !strcmp(node->object->key, key) ? node->object : NULL;
}

/* Every fourth node reaches the next level. */
static int index_random_levels(struct index *index)
{
	int levels = 1;

	index->random ^= index->random << 13;
	index->random ^= index->random >> 7;
	index->random ^= index->random << 17;
	for (uint64_t bits = index->random; levels < LEVELS && !(bits & 3); bits >>= 2)
		levels++;
	return levels;
}

void index_insert(struct index *index, struct object *object)
{
	struct index_node *path[LEVELS];
	struct index_node *node = index_path(index, object->key, false, path);
	int levels;

	if (node && !strcmp(node->object->key, object->key)) {
		object_unref(node->object);
		node->object = object;
		return;
	}
	levels = index_random_levels(index);
	node = index_node_create(object, levels);
	for (int i = 0; i < levels; i++) {
		node->next[i] = path[i]->next[i];
		path[i]->next[i] = node;
	}
	index->count++;
}

bool index_remove(struct index *index, const char *key)
{
	struct index_node *path[LEVELS];
	struct index_node *node = index_path(index, key, false, path);

	if (!node || strcmp(node->object->key, key))
		return false;
	for (int i = 0; i < LEVELS && path[i]->next[i] == node; i++)
		path[i]->next[i] = node->next[i];
	object_unref(node->object);
	free(node);
	index->count--;
	return true;
}

size_t index_count(const struct index *index)
{
	return index->count;
}
