/*
 * remote_private - what the files of this room share.
 *
 * One lock (RANK_REMOTE) guards everything marked `synced`; no request, callback or merge of a page
 * happens under it. Work that replies start is a remote_task, run by the room's own threads.
 */
#pragma once

#include "remote_names.h"
#include "remote_page.h"
#include "remote_pages.h"
#include "remote_points.h"
#include "remote_tree.h"

#include <stdatomic.h>

#define REMOTE_SUBSCRIBERS_MAX 8
#define REMOTE_WORKERS 3

/* A piece of work, embedded in what it works on. Runs once, at due_ms or when the room stops. */
struct remote_task {
	struct remote_task *next;
	int64_t due_ms; /* clock_mono_ms; 0: at once */
	void (*run)(struct remote *r, struct remote_task *task);
};

/* Our own writes while a listing is under way: it may have been begun before them. */
struct remote_note {
	struct remote_note *next;
	bool is_delete, is_dir;
	struct s3_object object;
	char name[]; /* one component */
};
struct remote_note_log {
	struct remote_note_log *next; /* of the same folder */
	struct remote_note *first, **last;
	bool incomplete; /* out of memory, or to be asked again: it counts as old at once */
};

struct remote_folder {
	struct remote_folder *hash_next;
	struct remote_folder *lru_newer, *lru_older;
	char *prefix;
	uint64_t hash;
	bool known;   /* names are a complete listing (or the folder was born here) */
	bool born;    /* made here, never listed yet: names hold what we put */
	bool expired; /* known, but to be asked again */
	struct remote_names names;
	bool asked;   /* for itself, ever */
	struct remote_time begun;
	int error; /* of the last listing, valid until error_until_ms */
	int64_t error_until_ms;
	struct remote_flight *flight;
	struct remote_note_log *logs;
	bool event_pending;
	/* a listing of all below a folder above */
	struct remote_flat *flat; /* is waited for; NULL: not */
	struct remote_folder *flat_next;
	int64_t flat_since_ms;
	uint64_t flat_id; /* brought these names unasked; 0: not, or asked for since */
	uint64_t flat_names;
	/* who walks through its folders */
	char *walked_to; /* NULL: nobody yet */
	unsigned walked; /* so many in its order */
	int64_t walked_ms; /* the latest then */
};

#define REMOTE_FOLDER_ENTRIES 4 /* what a folder weighs, in names */

struct remote_cache {
	struct remote_folder **buckets;
	size_t bucket_count, folder_count;
	struct remote_folder *newest, *oldest;
	uint64_t entries, entries_max; /* names, and some for each folder */
};

struct remote_fetch; /* remote_fetch.c */

struct remote {
	/* const after start */
	struct s3 *s3;
	struct store *store;
	char *prefix; /* "" or "p/q/": with its final slash */
	char *points_path; /* NULL: none */
	int64_t list_ttl_ms;
	struct remote_events events[REMOTE_SUBSCRIBERS_MAX];
	size_t event_count;
	struct thread *workers[REMOTE_WORKERS];
	size_t worker_count;

	atomic_bool never_split; /* the server lists in an order of its own */

	struct lock lock;
	struct cond work;    /* a task came or became due, or stopping */
	struct cond stopped; /* stopping, for those who wait out a backoff */
	struct cond fetched; /* a fetch ended */
	struct {
		bool stopping;
		struct remote_task *tasks;     /* by due time */
		unsigned requests; /* on their way, whose replies come back as tasks */
		struct remote_cache cache;
		struct remote_points points;
		/* listings */
		struct remote_flight *flights;	     /* all, for stopping */
		struct remote_flight *wanted_first;  /* not begun: somebody waits */
		struct remote_flight **wanted_last;
		struct remote_flight *later_first;   /* not begun: in the background */
		struct remote_flight **later_last;
		unsigned flights_running;
		struct remote_flat *flats;
		uint64_t last_flat_id;
		int64_t no_flats_until_ms; /* the last one was of no use */
		int64_t probe_at_ms; /* next listing while the endpoint is down */
		/* blocking calls */
		struct remote_call *calls;
		struct remote_cursor *cursors;
		/* content */
		struct remote_fetch *fetches; /* all that have not ended */
		struct remote_fetch *fetch_line_first; /* not begun */
		struct remote_fetch **fetch_line_last;
		unsigned fetches_running;
		uint64_t room_generation; /* rises with each remote_room_freed */
		struct remote_reader {
			uint64_t ino, last_chunk, next_chunk;
		} readers[16]; /* who reads in order; round robin */
		unsigned reader_next;
		/* health */
		int list_error; /* of the last listing or probe that got an answer */
		char list_message[256];
	} synced; /* by lock */
};

/* remote.c */
bool remote_is_inside(const struct remote *r, const char *key_or_prefix);
/* A folder above the mounted prefix: *ret_name is the one component it has. */
bool remote_is_above(const struct remote *r, const char *prefix, const char **ret_name, size_t *len);
void remote_tell_listed(struct remote *r, const char *prefix, int error);
void remote_tell_fetched(struct remote *r, uint64_t ino, uint64_t chunk, int error);
void remote_tell_changed_locked(struct remote *r, struct remote_folder *f);
void remote_health_set_locked(struct remote *r, int error, const char *message);

/* remote_work.c */
must_check int remote_work_start(struct remote *r);
void remote_work_stop(struct remote *r);
void remote_task_push_locked(struct remote *r, struct remote_task *task);
/* False: it is not in the line; it runs, or is about to. */
bool remote_task_pull_locked(struct remote *r, struct remote_task *task);
bool remote_is_stopping(struct remote *r);
/* Waits until due_ms; false when the room stops. */
bool remote_sleep_until(struct remote *r, int64_t due_ms);

/* remote_judge.c: what a reply to a read means */
enum remote_verdict { REMOTE_OK, REMOTE_AGAIN, REMOTE_AGAIN_AT_ONCE, REMOTE_NO };
enum remote_verdict remote_judge(const struct s3_reply *reply, int *ret_error);

/* remote_cache.c (all with the lock held) */
must_check int remote_cache_init(struct remote_cache *c, uint64_t entries_max);
void remote_cache_release(struct remote_cache *c);
struct remote_folder *remote_cache_find(struct remote_cache *c, const char *prefix);
struct remote_folder *remote_cache_add(struct remote_cache *c, const char *prefix);
void remote_cache_touch(struct remote_cache *c, struct remote_folder *f);
/* names are taken over (and emptied). */
void remote_cache_install(
	struct remote_cache *c, struct remote_folder *f, struct remote_names *names);
void remote_cache_forget(struct remote_cache *c, struct remote_folder *f);
void remote_cache_trim(struct remote_cache *c);
void remote_cache_each_below(struct remote_cache *c, const char *prefix,
	void (*fn)(struct remote_cache *c, struct remote_folder *f));

/* remote_note.c */
void remote_log_open_locked(struct remote_folder *f, struct remote_note_log *log);
/* One of them. True when names changed; *ret_lost: without memory for it they are not right now. */
bool remote_note_apply(
	struct remote_names *names, const struct remote_note *note, bool *ret_lost);
/* To be asked again. A listing under way may be older than what makes it so: it is installed as old. */
void remote_folder_expire_locked(struct remote_folder *f);
/* Takes the log off its folder and applies it to names; false: it is incomplete. */
bool remote_log_close_locked(
	struct remote_folder *f, struct remote_note_log *log, struct remote_names *names);

/* remote_listing.c */
void remote_flight_want_locked(struct remote *r, struct remote_folder *f, bool background);
void remote_flights_stop(struct remote *r);
/* Adds an entry of a folder's page to its names. */
must_check int remote_merge_entry(
	struct remote_names *names, const char *prefix, const struct s3_list_entry *entry);
/* Where a listing of f may be cut, as far as its cached one tells, or one before that. */
void remote_split_known_locked(
	struct remote *r, struct remote_scan *s, const struct remote_folder *f);
/* A complete listing of f begun at these times is here; its log is closed. */
void remote_listing_install_locked(struct remote *r, struct remote_folder *f,
	struct remote_names *names, struct remote_note_log *log, struct remote_time begun);
/* The same with the log's part done; complete: that was all of it. */
void remote_folder_renew_locked(struct remote *r, struct remote_folder *f,
	struct remote_names *names, bool complete, struct remote_time begun);
struct remote_flight *remote_flight_of_flat_locked(struct remote *r, struct remote_flat *flat);
void remote_flight_wake_locked(struct remote_flight *fl);

/* remote_flat.c: a whole tree by one listing, for those who walk through it */
/* All below prefix behind the key `after`. False: not now. */
bool remote_flat_begin_locked(struct remote *r, const char *prefix, const char *after);
/* Its flight: what to list, where to split it; pages in order; is it far ahead, or at its end
 * (-ECANCELED, -ETIMEDOUT); and the end. */
void remote_flat_scope(
	const struct remote_flat *flat, const char **ret_prefix, const char **ret_after);
void remote_flat_split_locked(
	struct remote *r, struct remote_flat *flat, struct remote_scan *scan);
must_check int remote_flat_look(struct remote_flat *flat, bool *ret_hold, int64_t *ret_due_ms);
must_check int remote_flat_page(struct remote_flat *flat, const struct s3_list_page *page,
	struct remote_time asked);
void remote_flat_over(struct remote_flat *flat, int error);
void remote_flat_free(struct remote_flat *flat); /* NULL is fine */
/* Somebody asks for this folder. */
void remote_flats_asked_locked(struct remote *r, struct remote_folder *f);
/* Will one of them bring it? */
bool remote_flats_cover_locked(struct remote *r, const char *prefix);
/* The same; then its news will come. */
bool remote_flats_wait_locked(struct remote *r, struct remote_folder *f);
void remote_flats_note_locked(
	struct remote *r, const char *folder, const struct remote_note *note);
/* What they bring from at, below or above this prefix is not wanted any more. */
void remote_flats_end_locked(struct remote *r, const char *prefix);
/* Was this folder asked for, and all at the end of what lies below it? */
bool remote_is_walked_through_locked(struct remote *r, const char *prefix);

/* remote_call.c: one request that a thread waits for */
struct remote_call {
	struct remote_call *next;
	struct remote *remote;
	struct cond cond;
	bool done, submitted;
	uint64_t id;
	struct s3_reply reply;
};
void remote_call_init(struct remote *r, struct remote_call *c);
/* May be used again after each wait. -ESHUTDOWN, -EINVAL, -ENOMEM. */
must_check int remote_call_submit(struct remote_call *c, const struct s3_request *req);
/* Waits; at the deadline or when the room stops the request is cut off (and its end waited for). */
void remote_call_wait(struct remote_call *c, int64_t deadline_ms);
void remote_call_release(struct remote_call *c); /* cuts off what is under way */
void remote_calls_wake_locked(struct remote *r);
/* Before asking again after such a reply: waits out the backoff. 0, -ENETDOWN (beyond the deadline),
 * -EIO (answers that make no sense, again and again), -ESHUTDOWN. */
must_check int remote_wait_again(struct remote_call *c, unsigned *attempts, int64_t deadline_ms);

/* remote_cursor.c: a listing that a thread waits for */
struct remote_cursor {
	struct remote_pages pages; /* first */
	struct remote_cursor *next; /* of the room */
	struct cond cond;
	struct lock own_lock; /* of one that belongs to no room */
	char *prefix, *after;
	struct s3_list_page page;
	size_t at;
	/* the last entry handed out */
	char last_key[KEY_MAX_BYTES + 2];
	size_t last_key_len;
	uint64_t handed_out;	/* sum of their hashes */
	/* begun anew: up to last_key all has been handed out */
	bool skipping;
	uint64_t skipped;
};
/* Of this room: ends with it, and at the deadline. -EACCES, -ESHUTDOWN. */
must_check int remote_cursor_open_in(struct remote_cursor **ret, struct remote *r,
	const char *prefix, const char *after, bool recursive, int64_t deadline_ms);
void remote_cursors_wake_locked(struct remote *r);

/* remote_fetch.c */
void remote_fetches_stop(struct remote *r);
