/*
 * remote_page - is this page of a listing one that may follow what came before? Pure.
 */
#pragma once

#include "cpgfs/remote.h"

/* When the server was asked for something. */
struct remote_time {
	int64_t at_ns;	 /* clock_wall_ns */
	int64_t mono_ms; /* clock_mono_ms */
};
static inline struct remote_time remote_time_now(void)
{
	return (struct remote_time){.at_ns = clock_wall_ns(), .mono_ms = clock_mono_ms()};
}
static inline struct remote_time remote_time_earlier(struct remote_time a, struct remote_time b)
{
	return a.mono_ms <= b.mono_ms ? a : b;
}

struct remote_paging {
	const char *prefix; /* asked for; borrowed */
	bool recursive;     /* no delimiter was sent */
	/* what came so far: zero at the start */
	unsigned empty_in_row;
	uint64_t token_last, token_mark; /* hashes */
	uint64_t tokens_since_mark, tokens_to_next_mark;
};

/*
 * 0, or -EIO: a truncated page without a token, a token that came before (such a listing would
 * never end), too many empty pages in a row, entries outside the prefix or cut at the wrong place.
 */
must_check int remote_page_check(struct remote_paging *p, const struct s3_list_page *page);
/* Sorts a page's entries bytewise by key if they are not. */
void remote_page_sort(struct s3_list_page *page);
/* The component that an entry adds to a folder's prefix; *ret_len without the final slash. */
const char *remote_page_name(
	const char *prefix, const struct s3_list_entry *entry, size_t *ret_len);
