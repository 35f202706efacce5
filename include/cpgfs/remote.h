/*
 * remote - what the bucket shows: listings (cached and fresh), attributes, chunks of objects.
 *
 * Owns:     the listing cache (in memory; of large folders a few names in a file); fetches in flight.
 * Threads:  any. Functions named _fresh and _walk, and remote_fetch_wait, block on the network: not
 *           on the S3 loop, not in a FUSE worker.
 * Locks:    RANK_REMOTE; never held during a callback or a request.
 * Errors:   0 or -errno. -EINPROGRESS: a listing or fetch was started, news will come by the
 *           callback; -ENETDOWN: the endpoint is marked down, or the listing failed for a while:
 *           nothing is known; -EACCES: outside the mounted prefix, or the bucket refuses to list;
 *           -EIO: the server's answer could not be used.
 * Source:   S3 API, ListObjectsV2 (1,000 keys a page, delimiter, encoding-type=url).
 * Tests:    tests/unit/test_remote_*.c
 *
 * Folders are named by their prefix: "" (bucket root) or "a/b/" with the final slash. Nothing
 * outside the mounted prefix is ever asked for.
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 60
#error "remote.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/base.h"
#include "cpgfs/gallery.h"
#include "cpgfs/s3.h"
#include "cpgfs/store.h"

struct remote;

struct remote_entry {
	char name[STORE_NAME_MAX + 1]; /* one component */
	bool is_dir;                   /* a common prefix; wins over an object of the same name */
	struct s3_object object;       /* of a file */
};

struct remote_events {
	void *user;
	/* The listing of this folder arrived (0) or failed (-errno), or an entry of it changed.
	 * A pool thread, no lock held. */
	void (*listed)(void *user, const char *prefix, int error);
	/* A chunk fetch ended: 0 or -errno. */
	void (*fetched)(void *user, uint64_t ino, uint64_t chunk, int error);
};

struct remote_config {
	struct s3 *s3;
	struct store *store;
	const char *prefix;     /* mounted prefix, "" or "p/q" without final slash */
	int64_t list_ttl_ms;    /* a cached listing older than this is fetched again when asked for */
	uint64_t cache_max_entries; /* 0: 300,000 */
	const char *points_path; /* a file of its own: where listings may be cut, for the next mount; or NULL */
};

must_check int remote_create(struct remote **ret, const struct remote_config *config);
void remote_subscribe(struct remote *r, const struct remote_events *events); /* up to 8, before start */
must_check int remote_start(struct remote *r);
/* Cuts off requests under way; whoever blocks in a function below is told -ESHUTDOWN, and so is
 * every later call. */
void remote_stop(struct remote *r);
void remote_destroy(struct remote *r);

/* ---- cached view (never blocks) ---------------------------------------------------------------- */

/* Levels above the mounted prefix hold one folder each, made up and never listed. */

/*
 * One name in a folder. 0; -ENOENT (a fresh enough listing does not have it); -EINPROGRESS (none
 * is cached, or it is too old: one was started, or one is under way); -ENETDOWN; -EACCES.
 * With stale_ok an old listing answers (and is renewed in the background).
 */
must_check int remote_lookup(struct remote *r, const char *prefix, const char *name,
	bool stale_ok, struct remote_entry *ret);
/* Entries whose names sort (bytewise) after `after`, at most max: count, or the errors above.
 * Complete listings only. */
must_check int remote_list(struct remote *r, const char *prefix, const char *after, bool stale_ok,
	struct remote_entry *out, size_t max);
/* Does the cached listing of this folder, however old, show this name? Asks nobody. -ENODATA: none
 * is cached. */
must_check int remote_cached_has(struct remote *r, const char *prefix, const char *name);
/* When was this folder's cached listing begun (clock_wall_ns; 0: none)? */
int64_t remote_listed_at(struct remote *r, const char *prefix);
/* Names of the last listing of this folder that can't be shown as files ("//", "..", too long). */
uint64_t remote_unshowable_count(struct remote *r, const char *prefix);
/* Mark a folder as known empty (just made here where no such name was): answers at once, and one
 * listing follows in the background. */
void remote_born_local(struct remote *r, const char *prefix);
/* Our own writes, told at once: the cached listing follows. */
void remote_note_put(struct remote *r, const char *key, const struct s3_object *object);
void remote_note_delete(struct remote *r, const char *key);
/* Forget cached listings at and below ("" = all): the next question asks the bucket. */
void remote_refresh(struct remote *r, const char *prefix);

/* ---- fresh listings (block) --------------------------------------------------------------------- */

struct remote_walk_entry {
	const char *key; /* whole key or common prefix */
	size_t key_len;
	bool is_prefix;
	struct s3_object object;
};
/*
 * List now, page by page, in key order: everything below prefix (recursive: no delimiter). prefix
 * may end without a slash (as in `aws s3 ls s3://b/pre`). each returns non-zero to stop (that value
 * is returned). Transient errors are retried until deadline_ms (clock_mono_ms; INT64_MAX: without
 * end). *ret_begun_at (may be NULL): wall time just before the first request. A non-recursive
 * complete walk of a folder renews its cached listing.
 */
typedef int remote_each_fn(void *user, const struct remote_walk_entry *entry);
must_check int remote_walk(struct remote *r, const char *prefix, bool recursive,
	int64_t deadline_ms, remote_each_fn *each, void *user, int64_t *ret_begun_at_ns);
/*
 * The same entry by entry, everything below prefix behind the key `after` ("" or NULL: all), without
 * a struct remote: for those who have only a bucket. prefix as above.
 */
struct remote_cursor;
must_check int remote_cursor_open(
	struct remote_cursor **ret, struct s3 *s3, const char *prefix, const char *after);
/* The same of a remote: ends with it (-ESHUTDOWN), and outside the mounted prefix is -EACCES. Nothing
 * is tried again behind the time set (clock_mono_ms; at first without end). */
must_check int remote_cursor_open_inside(
	struct remote_cursor **ret, struct remote *r, const char *prefix, const char *after);
void remote_cursor_until(struct remote_cursor *c, int64_t deadline_ms);
/* 1; 0 at the end; -errno: see remote_cursor_explain(). The entry lives until the next call. Blocks;
 * pages are tried again for some minutes. */
must_check int remote_cursor_next(struct remote_cursor *c, struct remote_walk_entry *ret);
/* Why it failed, for a person (malloc'ed; NULL without memory); returns -ENOENT if the server says
 * that there is no such bucket, else -EIO. */
int remote_cursor_explain(const struct remote_cursor *c, char **ret_message);
void remote_cursor_close(struct remote_cursor *c); /* NULL is fine */
/* One object now, by HEAD with checksum mode; an error to HEAD is settled by a listing of exactly
 * that key. 0, -ENOENT, or -errno. The reply's crc and mtime fields are filled when known. */
must_check int remote_head_fresh(struct remote *r, const char *key, int64_t deadline_ms,
	struct s3_reply *ret);

/* ---- content --------------------------------------------------------------------------------------- */

/* Fetch one absent chunk of an inode (its object's key, If-Match its ETag) into the store; single
 * flight per chunk, read-ahead of the next chunks when reads are sequential. -EINPROGRESS: the
 * fetched event will tell. 0: it is already here. */
must_check int remote_fetch(struct remote *r, uint64_t ino, uint64_t chunk);
must_check int remote_fetch_wait(struct remote *r, uint64_t ino, uint64_t chunk, int64_t deadline_ms);
/* Room may be there again (store's room_freed): fetches that waited go on. */
void remote_room_freed(struct remote *r);

/* Is the endpoint down, or listing denied? For status: 0, -ENETDOWN, -EACCES. */
int remote_health(struct remote *r, char *ret_message, size_t size);
