/*
 * upload_map - u64 -> pointer: open addressing, linear probing, removal by shifting back, so that
 * a map that lives as long as the mount never fills with tombstones.
 */
#include "upload_private.h"

#define MAP_MIN 64

/* Mixes all bits: inode numbers are dense, and a dense run would probe long. */
static size_t map_home(const struct map *m, uint64_t key)
{
	key ^= key >> 33;
	key *= UINT64_C(0xff51afd7ed558ccd);
	key ^= key >> 33;
	return key & (m->cap - 1);
}

/* Where key is, or the free place where it would go. */
static size_t map_place(const struct map *m, uint64_t key)
{
	size_t i = map_home(m, key);

	while (m->values[i] && m->keys[i] != key)
		i = (i + 1) & (m->cap - 1);
	return i;
}

static int map_grow(struct map *m)
{
	struct map bigger = {.cap = m->cap ? m->cap * 2 : MAP_MIN};

	bigger.keys = calloc(bigger.cap, sizeof(*bigger.keys));
	bigger.values = calloc(bigger.cap, sizeof(*bigger.values));
	if (!bigger.keys || !bigger.values) {
		map_release(&bigger);
		return -ENOMEM;
	}
	for (size_t i = 0; i < m->cap; i++) {
		size_t to;

		if (!m->values[i])
			continue;
		to = map_place(&bigger, m->keys[i]);
		bigger.keys[to] = m->keys[i];
		bigger.values[to] = m->values[i];
		bigger.count++;
	}
	map_release(m);
	*m = bigger;
	return 0;
}

int map_put(struct map *m, uint64_t key, void *value)
{
	size_t i;

	check(value);
	if ((m->count + 1) * 3 > m->cap * 2) {
		int r = map_grow(m);

		if (r < 0)
			return r;
	}
	i = map_place(m, key);
	if (!m->values[i])
		m->count++;
	m->keys[i] = key;
	m->values[i] = value;
	return 0;
}

void *map_get(const struct map *m, uint64_t key)
{
	return m->cap ? m->values[map_place(m, key)] : NULL;
}

void map_remove(struct map *m, uint64_t key)
{
	size_t hole, i;

	if (!m->cap)
		return;
	hole = map_place(m, key);
	if (!m->values[hole])
		return;
	m->count--;
	for (i = (hole + 1) & (m->cap - 1); m->values[i]; i = (i + 1) & (m->cap - 1)) {
		size_t home = map_home(m, m->keys[i]);

		/* Stays if its home lies (cyclically) after the hole. */
		if (((i - home) & (m->cap - 1)) < ((i - hole) & (m->cap - 1)))
			continue;
		m->keys[hole] = m->keys[i];
		m->values[hole] = m->values[i];
		hole = i;
	}
	m->values[hole] = NULL;
}

void map_release(struct map *m)
{
	free(m->keys);
	free(m->values);
	*m = (struct map){0};
}
