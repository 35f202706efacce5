/*
 * upload_waits - who is not to be tried before when: a binary heap by time and a set of ids.
 */
#include "upload_private.h"

static void swap_waits(struct wait *a, struct wait *b)
{
	struct wait t = *a;

	*a = *b;
	*b = t;
}

static void sift_up(struct waits *w, size_t i)
{
	while (i > 0 && w->heap[(i - 1) / 2].at_ms > w->heap[i].at_ms) {
		swap_waits(&w->heap[(i - 1) / 2], &w->heap[i]);
		i = (i - 1) / 2;
	}
}

static void sift_down(struct waits *w, size_t i)
{
	for (;;) {
		size_t least = i;

		for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < w->count; child++) {
			if (w->heap[child].at_ms < w->heap[least].at_ms)
				least = child;
		}
		if (least == i)
			return;
		swap_waits(&w->heap[i], &w->heap[least]);
		i = least;
	}
}

int waits_add(struct waits *w, uint64_t id, int64_t at_ms)
{
	int r;

	if (waits_has(w, id))
		return 0;
	if (w->count == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 64;
		struct wait *heap = realloc(w->heap, cap * sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		w->heap = heap;
		w->cap = cap;
	}
	r = map_put(&w->ids, id, w);
	if (r < 0)
		return r;
	w->heap[w->count++] = (struct wait){.at_ms = at_ms, .id = id};
	sift_up(w, w->count - 1);
	return 0;
}

bool waits_has(const struct waits *w, uint64_t id)
{
	return map_get(&w->ids, id) != NULL;
}

bool waits_pop_due(struct waits *w, int64_t now_ms, uint64_t *ret_id)
{
	if (w->count == 0 || w->heap[0].at_ms > now_ms)
		return false;
	*ret_id = w->heap[0].id;
	map_remove(&w->ids, *ret_id);
	w->heap[0] = w->heap[--w->count];
	sift_down(w, 0);
	return true;
}

int64_t waits_next_ms(const struct waits *w)
{
	return w->count ? w->heap[0].at_ms : INT64_MAX;
}

void waits_all_due(struct waits *w)
{
	for (size_t i = 0; i < w->count; i++)
		w->heap[i].at_ms = 0;
}

int waits_hasten(struct waits *w, uint64_t id, int64_t at_ms)
{
	if (!waits_has(w, id))
		return waits_add(w, id, at_ms);
	for (size_t i = 0; i < w->count; i++) {
		if (w->heap[i].id != id || w->heap[i].at_ms <= at_ms)
			continue;
		w->heap[i].at_ms = at_ms;
		sift_up(w, i);
		break;
	}
	return 0;
}

void waits_release(struct waits *w)
{
	free(w->heap);
	map_release(&w->ids);
	*w = (struct waits){0};
}
