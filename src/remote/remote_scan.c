/*
 * remote_scan - a listing as ranges of keys.
 *
 * S3 lists in the order of bytes and can begin behind any key (start-after). So a listing may be cut
 * at any point p into "up to and with p" and "behind p", and both may be fetched at the same time:
 * a key belongs to exactly one of them whatever the points are, good guesses or bad ones, and
 * whatever is put or deleted meanwhile. A range is done when a page of it reaches its end, or is
 * the last; what a page holds beyond the end is cut off, for it is the next range's. A common prefix
 * is a key like any other ("a/b/"). One that is shown again because start-after lies below it sorts
 * before the point, and is the earlier range's.
 *
 * All that relies on the server's order and on its heeding start-after. Points are plain ASCII, at
 * which the orders of UTF-8 and UTF-16 agree. A page that is not in order, or that shows what lies
 * before its range, ends the scan with -EXDEV; the listing is then made anew page after page, as one
 * range, whose order does not matter.
 *
 * Pages are handed out in key order. Those that came too early wait; SCAN_AHEAD_MAX bounds them.
 */
#include "remote_scan.h"

struct scan_page {
	struct scan_page *next;
	struct remote_time asked_at;
	struct s3_list_page list;
};

void remote_list_release(struct s3_list_page *page)
{
	free(page->entries);
	free(page->keys);
	free(page->next_token);
	*page = (struct s3_list_page){0};
}

/* ---- ranges ---- */

static struct scan_range *range_new(const struct remote_scan *s)
{
	struct scan_range *range = calloc(1, sizeof(*range));

	if (!range)
		return NULL;
	range->last = &range->first;
	range->paging = (struct remote_paging){.prefix = s->prefix, .recursive = s->recursive};
	return range;
}

static void range_free(struct scan_range *range)
{
	for (struct scan_page *p = range->first, *next; p; p = next) {
		next = p->next;
		remote_list_release(&p->list);
		free(p);
	}
	free(range->after);
	free(range->end);
	free(range->token);
	free(range->seen);
	free(range->page_from);
	free(range);
}

int remote_scan_init(struct remote_scan *s, const char *prefix, bool recursive, const char *after)
{
	*s = (struct remote_scan){
		.prefix = prefix, .recursive = recursive, .lanes = SCAN_LANES_QUICK};
	s->ranges = range_new(s);
	if (s->ranges && after && *after)
		s->ranges->after = text_dup(after);
	if (s->ranges && (!after || !*after || s->ranges->after))
		return 0;
	remote_scan_release(s);
	return -ENOMEM;
}

void remote_scan_release(struct remote_scan *s)
{
	for (struct scan_range *range = s->ranges, *next; range; range = next) {
		next = range->next;
		range_free(range);
	}
	*s = (struct remote_scan){0};
}

static bool is_ascii(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text >= 0x80)
			return false;
	}
	return true;
}

/* The range that has keys on both sides of the point, still to come. */
static struct scan_range *range_around(struct remote_scan *s, const char *point)
{
	for (struct scan_range *range = s->ranges; range; range = range->next) {
		const char *from = range->seen ? range->seen : range->after ? range->after : "";

		if (range->end && strcmp(point, range->end) >= 0)
			continue;
		return !range->done && strcmp(point, from) > 0 ? range : NULL;
	}
	return NULL;
}

int remote_scan_split(struct remote_scan *s, const char *point)
{
	struct scan_range *range = range_around(s, point), *behind;
	char *end;

	if (!range || s->never_split || strlen(point) > KEY_MAX_BYTES || !is_ascii(point) ||
		!text_starts(point, s->prefix) || strlen(point) == strlen(s->prefix))
		return 0;
	behind = range_new(s);
	if (!behind)
		return -ENOMEM;
	behind->after = text_dup(point);
	end = text_dup(point);
	if (!behind->after || !end) {
		free(end);
		range_free(behind);
		return -ENOMEM;
	}
	behind->is_ours = true;
	behind->end = range->end;
	range->end = end;
	behind->next = range->next;
	range->next = behind;
	s->is_split = true;
	return 1;
}

/* ---- asking ---- */

static unsigned lanes(const struct remote_scan *s)
{
	return s->lanes_max && s->lanes_max < s->lanes ? s->lanes_max : s->lanes;
}

struct scan_range *remote_scan_next(struct remote_scan *s, int64_t now_ms, int64_t *ret_due_ms)
{
	*ret_due_ms = INT64_MAX;
	if (s->asked >= lanes(s))
		return NULL;
	for (struct scan_range *range = s->ranges; range; range = range->next) {
		/* What all others wait for is always asked for. */
		if ((range != s->ranges || range->first) &&
			s->asked + s->waiting >= SCAN_AHEAD_MAX)
			return NULL;
		if (range->asked || range->done)
			continue;
		if (range->due_ms > now_ms) {
			*ret_due_ms = range->due_ms < *ret_due_ms ? range->due_ms : *ret_due_ms;
			continue;
		}
		range->asked = true;
		s->asked++;
		return range;
	}
	return NULL;
}

void remote_scan_again(struct remote_scan *s, struct scan_range *range)
{
	check(range->asked);
	range->asked = false;
	s->asked--;
}

/* ---- a page ---- */

static int compare_key(const struct s3_list_entry *e, const char *key)
{
	size_t len = strlen(key);
	int d = memcmp(e->key, key, e->key_len < len ? e->key_len : len);

	if (d != 0)
		return d;
	return e->key_len < len ? -1 : e->key_len > len;
}

/* A common prefix shown again because its keys go on behind `after`. */
static bool is_shown_again(const struct s3_list_entry *e, const char *after)
{
	return e->is_prefix && strlen(after) > e->key_len && memcmp(after, e->key, e->key_len) == 0;
}

/* How many entries at the page's front lie before what this range still wants. -EXDEV: more than a
 * server that keeps the order shows. */
static ssize_t count_before(const struct scan_range *range, const struct s3_list_page *page)
{
	const char *from = range->seen ? range->seen : range->after;
	size_t n = 0;

	while (from && n < page->count && compare_key(&page->entries[n], from) <= 0) {
		const struct s3_list_entry *e = &page->entries[n++];

		if (compare_key(e, from) == 0 || is_shown_again(e, from))
			continue;
		if (range->seen || range->is_ours)
			return -EXDEV;
	}
	return (ssize_t)n;
}

static void drop_front(struct s3_list_page *page, size_t count)
{
	if (count == 0)
		return;
	page->count -= count;
	memmove(page->entries, page->entries + count, page->count * sizeof(*page->entries));
}

/* Cuts off what lies behind the range's end; true: the page reached it. */
static bool cut_at_end(const struct scan_range *range, struct s3_list_page *page)
{
	bool reached = false;

	while (range->end && page->count > 0) {
		int d = compare_key(&page->entries[page->count - 1], range->end);

		reached = reached || d >= 0;
		if (d <= 0)
			break;
		page->count--;
	}
	return reached;
}

static int remember_key(char **at, const struct s3_list_entry *e)
{
	char *copy = malloc(e->key_len + 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, e->key, e->key_len);
	copy[e->key_len] = '\0';
	free(*at);
	*at = copy;
	return 0;
}

static int remember_place(struct scan_range *range, const struct s3_list_page *page)
{
	int r;

	if (page->count == 0)
		return 0;
	r = remember_key(&range->page_from, &page->entries[0]);
	return r < 0 ? r : remember_key(&range->seen, &page->entries[page->count - 1]);
}

/* Of one range that was never split: any order will do. */
static void note_disorder(struct remote_scan *s)
{
	s->never_split = true;
	s->lanes = 1;
}

static int put_in_line(
	struct remote_scan *s, struct scan_range *range, struct s3_list_page *page)
{
	struct scan_page *p = malloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct scan_page){.list = *page, .asked_at = range->asked_at};
	*page = (struct s3_list_page){0};
	*range->last = p;
	range->last = &p->next;
	s->waiting++;
	return 0;
}

static unsigned count_open(const struct remote_scan *s)
{
	unsigned count = 0;

	for (const struct scan_range *range = s->ranges; range; range = range->next)
		count += !range->done;
	return count;
}

/* Splits where the names say that more will follow, as far as requests are free; if they are few,
 * at some of the points, evenly. */
static int breed(struct remote_scan *s, struct scan_range *range)
{
	cleanup_free char(*points)[KEY_MAX_BYTES + 1] = NULL;
	unsigned open = count_open(s);
	size_t count, wanted;

	if (!range->page_from || range->done || open >= lanes(s))
		return 0;
	points = malloc(GUESS_MAX * sizeof(*points));
	if (!points)
		return -ENOMEM;
	count = remote_guess(range->page_from, range->seen, strlen(s->prefix), points);
	while (count > 0 && range->end && strcmp(points[count - 1], range->end) >= 0)
		count--;
	wanted = count < lanes(s) - open ? count : lanes(s) - open;
	for (size_t i = 1; i <= wanted; i++) {
		int r = remote_scan_split(s, points[count * i / wanted - 1]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* A point that had keys behind it: more of that; one that had none was a request for nothing. */
static void learn(struct remote_scan *s, bool hit)
{
	if (hit && s->lanes + 2 <= SCAN_LANES_DISTANT)
		s->lanes += 2;
	else if (!hit && s->lanes > SCAN_LANES_QUICK)
		s->lanes--;
}

/* All that have a page that may tell where to split; nearest first. */
static int breed_all(struct remote_scan *s)
{
	int r = 0;

	if (!s->is_distant || s->never_split)
		return 0;
	for (struct scan_range *range = s->ranges; range && r == 0; range = range->next)
		r = breed(s, range);
	return r;
}

static int page_arrange(struct remote_scan *s, struct scan_range *range, struct s3_list_page *page)
{
	ssize_t before;
	bool truncated = page->truncated;
	int r = remote_page_check(&range->paging, page);

	if (r < 0)
		return r;
	remote_page_sort(page);
	before = page->unordered ? -EXDEV : count_before(range, page);
	if (before < 0 && s->is_split)
		return -EXDEV;
	if (before < 0)
		note_disorder(s);
	else
		drop_front(page, (size_t)before);
	free(range->token);
	range->token = truncated ? steal_ptr(page->next_token) : NULL;
	range->done = cut_at_end(range, page) || !truncated;
	if (range->is_ours && !range->seen && s->is_distant)
		learn(s, page->count > 0);
	r = remember_place(range, page);
	return r < 0 ? r : put_in_line(s, range, page);
}

int remote_scan_page(struct remote_scan *s, struct scan_range *range, struct s3_list_page *page,
	int64_t took_ms)
{
	int r;

	remote_scan_again(s, range);
	s->is_distant = s->is_distant || took_ms >= SCAN_DISTANT_MS;
	r = page_arrange(s, range, page);
	remote_list_release(page);
	return r < 0 ? r : breed_all(s);
}

bool remote_scan_take(struct remote_scan *s, struct s3_list_page *ret)
{
	struct scan_range *range;

	while ((range = s->ranges) != NULL) {
		struct scan_page *p = range->first;

		if (p) {
			range->first = p->next;
			if (!range->first)
				range->last = &range->first;
			*ret = p->list;
			s->taken_asked = p->asked_at;
			free(p);
			s->waiting--;
			return true;
		}
		if (!range->done || range->asked)
			return false;
		s->ranges = range->next;
		range_free(range);
	}
	return false;
}

bool remote_scan_is_done(const struct remote_scan *s)
{
	return !s->ranges;
}
