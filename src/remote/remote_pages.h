/*
 * remote_pages - the requests of one listing, several under way at once.
 */
#pragma once

#include "remote_scan.h"

struct pages_ask;

struct remote_pages {
	/* the owner's: one thread at a time */
	struct remote_scan scan;
	struct s3 *s3;
	struct remote *remote; /* told of refusals; NULL: nobody is */
	const char *prefix;    /* borrowed, as `after` is */
	const char *after;
	bool recursive;
	unsigned attempts_max; /* of one page; 0: until the deadline */
	int64_t deadline_ms;   /* nothing is tried again behind it */
	bool heed_down;	       /* nothing is tried again while the endpoint is down */
	bool is_extra;	       /* nobody asked for just this: a refusal of it says nothing of others */
	bool hold;	       /* nothing is sent for now */
	unsigned lanes_max;    /* 0: no limit but the scan's own */
	bool to_restart;       /* once nothing is under way any more: as one range */
	unsigned restarts;     /* what was taken before the latest is void */
	int error;	       /* the end is known; only requests under way are waited for */
	enum s3_class class;   /* of the latest error reply, with its words */
	char code[64], message[256];
	/* const */
	struct lock *lock;
	void (*arrived_locked)(struct remote_pages *p); /* a reply is here; the S3 loop thread */
	struct {
		struct pages_ask *asks; /* under way, or here and not looked at */
		unsigned under_way;
		unsigned *counter; /* of the room's requests; NULL: they don't count */
		bool arrived;	/* one of them is here */
		bool cancelled; /* no more are sent */
	} synced; /* by lock */
};

/* The fields above `scan` excepted are set before. -ENOMEM. */
must_check int remote_pages_begin(struct remote_pages *p);
/* Nothing may be under way. */
void remote_pages_release(struct remote_pages *p);
/* Looks at the replies that are here and sends what can be sent. 0: take pages, then wait for
 * arrived_locked, or until *ret_due_ms; -errno: the end (wait until nothing is under way). */
must_check int remote_pages_turn(struct remote_pages *p, int64_t *ret_due_ms);
/* Asks those under way to end early; no more are sent. */
void remote_pages_cancel(struct remote_pages *p);
/* The same in two steps, for whoever holds the lock: ids to s3_cancel, at most max. */
size_t remote_pages_cancel_locked(struct remote_pages *p, uint64_t *ret_ids, size_t max);
/* All came and was taken. */
bool remote_pages_done(struct remote_pages *p);
