/*
 * remote_scan - which pages of a listing to ask for, several at once, and what of them counts. Pure:
 * no requests, no lock; whoever drives it (remote_pages.c) guards it.
 */
#pragma once

#include "remote_page.h"

#define SCAN_LANES_QUICK 4    /* pages under way at once, at first */
#define SCAN_LANES_DISTANT 12 /* … where an answer takes long and guesses were good */
#define SCAN_AHEAD_MAX 24    /* pages under way or waiting for one that comes before them */
#define SCAN_DISTANT_MS 30   /* an answer that takes so long is worth guessing where to go on */

/* Keys after `after` up to and with `end`: a chain of pages. */
struct scan_range {
	struct scan_range *next; /* the keys behind end */
	char *after;		 /* NULL: from the beginning */
	char *end;		 /* NULL: to the end */
	char *token;		 /* of the next page; NULL: start-after says where to begin */
	char *seen;		 /* the greatest key so far; NULL: no page came yet */
	char *page_from;	 /* the least key of the latest page that may tell where to split */
	bool is_ours;		 /* `after` is a point where we split, not the caller's wish */
	bool asked, done;
	struct remote_paging paging;
	struct scan_page *first, **last; /* came, not yet taken */
	/* the driver's */
	struct remote_time asked_at;
	unsigned attempts;
	int64_t due_ms; /* not to be asked before */
};

struct remote_scan {
	const char *prefix; /* borrowed */
	bool recursive;
	struct scan_range *ranges; /* in key order; those taken to their end are gone */
	unsigned asked, waiting;   /* pages under way; pages that came and were not taken */
	unsigned lanes, lanes_max; /* how many at once; 0: no limit */
	bool is_split;	 /* there was more than one range */
	bool never_split; /* this server's order is not that of bytes */
	bool is_distant;
	struct remote_time taken_asked; /* when the page taken last was asked for */
};

/* after: keys behind it are wanted; NULL or "": all. -ENOMEM. */
must_check int remote_scan_init(
	struct remote_scan *s, const char *prefix, bool recursive, const char *after);
void remote_scan_release(struct remote_scan *s);

/* From here on a range of its own. Points that are no use (outside the prefix, passed already, not
 * plain ASCII) are left out: 0. 1: split. -ENOMEM. */
must_check int remote_scan_split(struct remote_scan *s, const char *point);

/* A range whose next page is to be asked for now, or NULL; *ret_due_ms: when one may be (INT64_MAX:
 * none waits for a time). It counts as asked. */
struct scan_range *remote_scan_next(struct remote_scan *s, int64_t now_ms, int64_t *ret_due_ms);
/* Its request failed, or was not sent: it may be asked for again. */
void remote_scan_again(struct remote_scan *s, struct scan_range *range);
/* Its page came (taken over in any case), `took_ms` after it was asked for. 0; -EIO: no page that can
 * follow what came before; -EXDEV: this server does not list in the order of bytes, or not from
 * where it is told to: what came is of no use, begin anew without splitting; -ENOMEM. */
must_check int remote_scan_page(struct remote_scan *s, struct scan_range *range,
	struct s3_list_page *page, int64_t took_ms);
/* The next page in key order, if it is here; the caller releases it. */
bool remote_scan_take(struct remote_scan *s, struct s3_list_page *ret);
/* All has been taken. */
bool remote_scan_is_done(const struct remote_scan *s);

void remote_list_release(struct s3_list_page *page);

/* ---- remote_guess.c ---- */

#define GUESS_MAX 32
/*
 * Keys at which what follows `last` may be split, ascending, all behind `last`; guessed from the
 * first and last key of one page: numbers in the names go on counting, rows of wells go on to P.
 * prefix_len bytes at the front are left alone. At most GUESS_MAX.
 */
size_t remote_guess(const char *first, const char *last, size_t prefix_len,
	char out[GUESS_MAX][KEY_MAX_BYTES + 1]);
