/*
 * control_stream - a generated file that may be long, made while it is read.
 *
 * It is made in blocks, from front to back; where each began (its source's cursor) and how long it
 * was is kept, and the text of the latest few. Reading an earlier one again makes it anew: if what
 * it tells has changed meanwhile it is cut after a line, or filled up with empty ones, so that all
 * others stay where they are. Memory: the blocks kept, and a cursor for each 128 KiB.
 *
 * Whoever reads has the turn, for making a block may ask the bucket; the lock guards only that.
 */
#include "control_private.h"

#define BLOCK_BYTES ((size_t)128 * KIB)
#define BLOCK_MAX_BYTES ((size_t)16 * MIB) /* with the longest rows that a batch can have */
#define KEPT_MAX 2

struct kept {
	size_t index;
	bool is_used;
	struct buf text;
};

struct control_stream {
	struct control *control;
	const struct control_source *source;
	void *session;
	struct lock lock;
	struct cond turn;
	bool taken; /* by lock */
	/* whoever has the turn */
	uint64_t *ends;	  /* of the blocks made */
	uint8_t *cursors; /* at the begin of each, and behind the last */
	size_t count, cap;
	bool at_end;
	struct kept kept[KEPT_MAX];
	size_t next_kept;
};

/* ---- life ---- */

static uint8_t *cursor_at(const struct control_stream *s, size_t index)
{
	return s->cursors + index * s->source->cursor_bytes;
}

static int grow(struct control_stream *s)
{
	size_t cap = s->cap ? s->cap * 2 : 16;
	uint64_t *ends;
	uint8_t *cursors;

	if (s->count + 1 < s->cap)
		return 0;
	ends = reallocarray(s->ends, cap, sizeof(*ends));
	if (!ends)
		return -ENOMEM;
	s->ends = ends;
	cursors = reallocarray(s->cursors, cap, s->source->cursor_bytes);
	if (!cursors)
		return -ENOMEM;
	s->cursors = cursors;
	s->cap = cap;
	return 0;
}

static int make_next(struct control_stream *s);

static int session_open(struct control_stream *s)
{
	if (s->session || !s->source->open)
		return 0;
	return s->source->open(s->control, s->source->about, &s->session);
}

int control_stream_open(struct control *c, const struct control_source *source, void *session,
	struct control_stream **ret)
{
	struct control_stream *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		if (session)
			source->close(session);
		return -ENOMEM;
	}
	s->control = c;
	s->source = source;
	s->session = session;
	lock_init(&s->lock, RANK_CONTROL, "control stream");
	cond_init(&s->turn);
	for (size_t i = 0; i < KEPT_MAX; i++)
		buf_init(&s->kept[i].text, BLOCK_MAX_BYTES);
	r = session_open(s);
	if (r == 0)
		r = grow(s);
	if (r == 0) {
		memset(s->cursors, 0, source->cursor_bytes);
		r = make_next(s); /* what is wrong is told by the open */
	}
	if (r < 0)
		control_stream_close(s);
	else
		*ret = s;
	return r;
}

void control_stream_close(struct control_stream *s)
{
	if (s->session)
		s->source->close(s->session);
	for (size_t i = 0; i < KEPT_MAX; i++)
		buf_release(&s->kept[i].text);
	free(s->ends);
	free(s->cursors);
	cond_release(&s->turn);
	lock_release_storage(&s->lock);
	free(s);
}

/* ---- blocks ---- */

static struct kept *kept_for(struct control_stream *s, size_t index)
{
	struct kept *k = &s->kept[s->next_kept];

	s->next_kept = (s->next_kept + 1) % KEPT_MAX;
	buf_clear(&k->text);
	k->index = index;
	k->is_used = false;
	return k;
}

/* Leaves the cursor behind it. 1: there may be more. */
static int make(struct control_stream *s, size_t index, uint8_t *cursor, struct buf *out)
{
	int r = 1;

	if (index == 0)
		s->source->begin(s->control, s->session, out);
	while (r == 1 && out->len < BLOCK_BYTES)
		r = s->source->more(s->control, s->session, cursor, out);
	if (r >= 0 && buf_error(out) < 0)
		r = buf_error(out);
	return r;
}

static int make_next(struct control_stream *s)
{
	struct kept *k = kept_for(s, s->count);
	int r = grow(s);

	if (r < 0)
		return r;
	memcpy(cursor_at(s, s->count + 1), cursor_at(s, s->count), s->source->cursor_bytes);
	r = make(s, s->count, cursor_at(s, s->count + 1), &k->text);
	if (r < 0)
		return r;
	s->at_end = r == 0;
	if (k->text.len == 0)
		return 0;
	k->is_used = true;
	s->ends[s->count] = (s->count ? s->ends[s->count - 1] : 0) + k->text.len;
	s->count++;
	return 0;
}

/* Of this length, whatever it tells now. */
static void fit(struct buf *text, size_t len)
{
	if (text->len > len) {
		text->len = len;
		while (text->len > 0 && text->data[text->len - 1] != '\n')
			text->len--;
	}
	while (text->len < len && buf_error(text) == 0)
		buf_add_char(text, '\n');
}

static int make_again(struct control_stream *s, size_t index, struct kept **ret)
{
	cleanup_free uint8_t *cursor = malloc(s->source->cursor_bytes);
	struct kept *k = kept_for(s, index);
	int r = cursor ? 0 : -ENOMEM;

	if (r == 0) {
		memcpy(cursor, cursor_at(s, index), s->source->cursor_bytes);
		r = make(s, index, cursor, &k->text);
	}
	if (r < 0)
		return r;
	fit(&k->text, s->ends[index] - (index ? s->ends[index - 1] : 0));
	r = buf_error(&k->text);
	k->is_used = r == 0;
	*ret = k;
	return r;
}

/* The first block that ends behind off; s->count: it is not made yet. */
static size_t block_at(const struct control_stream *s, uint64_t off)
{
	size_t low = 0, high = s->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (s->ends[mid] <= off)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* What stands at off: 1, or 0 at the end. */
static int text_at(struct control_stream *s, uint64_t off, const char **ret_text, size_t *ret_len)
{
	struct kept *k = NULL;
	size_t index;
	int r = 0;

	while ((index = block_at(s, off)) == s->count && !s->at_end && r == 0)
		r = make_next(s);
	if (r < 0 || index == s->count)
		return r;
	for (size_t i = 0; i < KEPT_MAX; i++) {
		if (s->kept[i].is_used && s->kept[i].index == index)
			k = &s->kept[i];
	}
	if (!k)
		r = make_again(s, index, &k);
	if (r < 0)
		return r;
	off -= index ? s->ends[index - 1] : 0;
	*ret_text = k->text.data + off;
	*ret_len = k->text.len - off;
	return 1;
}

/* ---- reading ---- */

static void turn_take(struct control_stream *s)
{
	with_lock(&s->lock);
	while (s->taken)
		(void)cond_wait_until(&s->turn, &s->lock, INT64_MAX);
	s->taken = true;
}

static void turn_give(struct control_stream *s)
{
	with_lock(&s->lock);
	s->taken = false;
	cond_signal(&s->turn);
}

ssize_t control_stream_read(struct control_stream *s, void *data, size_t len, uint64_t off)
{
	size_t got = 0;
	int r = 1;

	turn_take(s);
	while (r == 1 && got < len) {
		const char *text = NULL;
		size_t here = 0;

		r = text_at(s, off + got, &text, &here);
		if (r != 1)
			break;
		here = here < len - got ? here : len - got;
		memcpy((char *)data + got, text, here);
		got += here;
	}
	turn_give(s);
	return got > 0 ? (ssize_t)got : r < 0 ? r : 0;
}
