/*
 * remote_guess - where the names of a folder may go on, told by one page of them.
 *
 * Microscopes number what they write: r01c14f03p01-ch2…, A01_s3_w1, img_000817. Between the first
 * and the last key of a page everything up to some place is equal; digits before that place count
 * slower than one page, so the next values of theirs begin pages that lie further on:
 *
 *	first r01c01f01p01-ch1sk1fk1fl1.tiff       points  r03 r04 r05 r06 r07 r08 r09 r1
 *	last  r01c14f08p01-ch3sk1fk1fl1.tiff
 *
 * (r02 is left out: the page that is asked for anyway leads there.) The values of the nearest such
 * place are gone through; of those before it only the next one is taken: what lies behind it tells
 * more once it is seen. A wrong guess costs one request.
 */
#include "remote_scan.h"

#define NUMBERS_MAX 3 /* looked at from the difference leftwards */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* The greatest character that may stand here: '9', or 'P' for a letter that is a row of wells (A01,
 * -B12); '\0': it does not count. */
static char greatest_at(const char *key, size_t i, size_t prefix_len)
{
	if (is_digit(key[i]))
		return '9';
	if (key[i] >= 'A' && key[i] <= 'P' && is_digit(key[i + 1]) &&
		(i == prefix_len || !is_alnum(key[i - 1])))
		return 'P';
	return '\0';
}

struct guess {
	const char *last;
	char (*out)[KEY_MAX_BYTES + 1];
	size_t count;
};

/* Points at the place i: from there on in steps. */
static void add_points(struct guess *g, size_t i, int from, int to, int step)
{
	for (int c = from; c <= to && g->count < GUESS_MAX; c += step) {
		memcpy(g->out[g->count], g->last, i);
		g->out[g->count][i] = (char)c;
		g->out[g->count][i + 1] = '\0';
		g->count++;
	}
}

/* The page went on counting at i itself: so do the points, a page's step apart. Not in the tens: 24
 * columns end in the twenties. */
static void add_at_difference(struct guess *g, const char *first, size_t i, size_t prefix_len)
{
	char greatest = greatest_at(g->last, i, prefix_len);
	bool is_tens = is_digit(g->last[i]) && is_digit(g->last[i + 1]);
	int step = g->last[i] - first[i];

	if (greatest && !is_tens && step > 0 &&
		greatest_at(first, i, prefix_len) == greatest)
		add_points(g, i, g->last[i] + step + 1, greatest, step);
}

/* A place before that. */
static void add_before_difference(struct guess *g, size_t i, char greatest)
{
	int next = g->last[i] + 1;

	if (g->count == 0)
		add_points(g, i, next + 1, greatest, 1);
	else if (next <= greatest)
		add_points(g, i, next, next, 1);
}

size_t remote_guess(const char *first, const char *last, size_t prefix_len,
	char out[GUESS_MAX][KEY_MAX_BYTES + 1])
{
	struct guess g = {.last = last, .out = out};
	size_t differ = 0;
	unsigned numbers = 0;

	while (first[differ] && first[differ] == last[differ])
		differ++;
	if (differ < prefix_len || !last[differ] || strlen(last) > KEY_MAX_BYTES)
		return 0;
	add_at_difference(&g, first, differ, prefix_len);
	for (size_t i = differ; i-- > prefix_len && numbers <= NUMBERS_MAX;) {
		char greatest = greatest_at(last, i, prefix_len);

		if (!greatest)
			continue;
		numbers += i + 1 == differ || !is_digit(last[i]) || !is_digit(last[i + 1]);
		if (numbers <= NUMBERS_MAX)
			add_before_difference(&g, i, greatest);
	}
	return g.count;
}
