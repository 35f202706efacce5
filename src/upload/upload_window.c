/*
 * upload_window - a store queue read a window at a time.
 *
 * What is begun leaves its queue, so the queue's start is normally what is to be done next. Items
 * that have to stay for now (their key is busy, they wait for a retry) are passed by going on from
 * the last item read; the start is read again when something joined or may go on, at once while
 * few were passed, else at the end of the walk.
 */
#include "upload_private.h"

#define SKIPS_FEW 64
#define READ_AGAIN_MS 1000

void window_init(struct window *w, enum file_state state)
{
	*w = (struct window){.state = state, .again = true};
}

void window_again(struct window *w)
{
	w->again = true;
}

void window_skipped(struct window *w)
{
	w->skipped++;
}

static void window_restart(struct window *w)
{
	w->begun = false;
	w->again = false;
	w->ended = false;
	w->skipped = 0;
}

static int window_read(struct upload *u, struct window *w)
{
	int n = store_queue(
		u->store, w->state, w->begun ? &w->last : NULL, w->items, WINDOW_ITEMS);

	w->next = 0;
	w->count = n > 0 ? (size_t)n : 0;
	if (n > 0) {
		w->last = w->items[n - 1];
		w->begun = true;
	}
	if (n < 0)
		wake_by(u, clock_mono_ms() + READ_AGAIN_MS);
	return n;
}

int window_next(struct upload *u, struct window *w, struct store_queue_item *ret)
{
	int n;

	if (w->next == w->count) {
		if (w->ended && !w->again)
			return 0;
		if (w->again && (w->ended || w->skipped < SKIPS_FEW))
			window_restart(w);
		n = window_read(u, w);
		if (n == 0 && w->again) {
			window_restart(w);
			n = window_read(u, w);
		}
		w->ended = n == 0;
		if (n <= 0)
			return n;
	}
	*ret = w->items[w->next++];
	return 1;
}
