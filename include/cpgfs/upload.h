/*
 * upload - get closed files into the bucket, surely and in the background; make the bucket follow
 *          renames and deletes.
 *
 * Owns:     the states from CLOSED on, attempts, re-key jobs, pauses.
 * States:   tbl/file_states.h.
 * Threads:  one scheduler thread, a hash pool and two that wait for the disk, made by upload_start().
 *           Replies of requests are handed to the scheduler.
 * Locks:    RANK_UPLOAD; never held over a request, a digest or a callback.
 * Errors:   0 or -errno; -ESHUTDOWN after upload_stop().
 * Tests:    tests/unit/test_upload_*.c, tests/mount/
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 70
#error "upload.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/base.h"
#include "cpgfs/gallery.h"
#include "cpgfs/remote.h"
#include "cpgfs/s3.h"
#include "cpgfs/store.h"

struct upload;

struct upload_config {
	struct s3 *s3;
	struct store *store;
	struct remote *remote;
	struct naming_policy naming;
	const char *prefix;           /* mounted prefix: I4 is checked again before every request */
	const char *acl;              /* NULL: no header */
	unsigned max_transfers;       /* 0: 256 */
	uint64_t multipart_threshold_bytes; /* larger files go in parts; 0: 16 MiB */
	bool allow_overwrite, allow_delete; /* of objects from elsewhere */
	bool start_paused;
	int64_t settle_ms;            /* as the store was given it */
	/* Chunks of large files are sent while these are written, once nothing changed them for so
	 * long; 0: only after the close. */
	int64_t stream_quiet_ms;
	unsigned hash_threads;        /* 0: 2 */
	/* A number that changes with the credentials (no secret in it). While these are refused it
	 * is asked for twice a second, so that uploading goes on as soon as others are there.
	 * NULL: a request a minute finds out. Scheduler thread; cheap. */
	uint64_t (*credentials_stamp)(void *user);
	/* Their source, what is wrong and the remedy, for paused_reason; "": nothing is known to be
	 * wrong. NULL: the server's answer is all there is to say. Scheduler thread. */
	void (*credentials_explain)(void *user, char out[512]);
	void *credentials_user;
};

must_check int upload_create(struct upload **ret, const struct upload_config *config);
must_check int upload_start(struct upload *u); /* takes up what recovery left */
/* No new requests; those under way may finish until deadline_ms, then are cut off (their attempts
 * stand recorded). */
void upload_stop(struct upload *u, int64_t deadline_ms);
void upload_destroy(struct upload *u);

/* News from the store (store_events.changed): look at this file. Cheap, any thread. */
void upload_notice(struct upload *u, const struct store_change *change);

/* News from the store (store_events.growing): a file being written has become large. */
void upload_notice_growing(struct upload *u);

/* ---- pauses ---------------------------------------------------------------------------------------- */

enum upload_pause { /* a bit each: several may hold at once */
	PAUSE_CREDENTIALS = 1,
	PAUSE_SPACE = 2,
	PAUSE_NETWORK = 4,
	PAUSE_DENIED = 8,
	PAUSE_BY_HAND = 16,
};

struct upload_status {
	unsigned pauses;             /* enum upload_pause */
	char paused_reason[512];     /* for people, with the remedy; "" if not paused */
	uint64_t bytes_sent_total;   /* since the mount */
	uint64_t objects_sent_total;
	double rate_bytes_per_s;     /* over the last 10 s */
	int64_t eta_s;               /* -1: not known */
	unsigned transfers_active, transfers_limit;
	uint64_t retries_total;
	uint64_t jobs_open;          /* re-key jobs not yet worked off */
	/* … and those that met damaged records of the index: the rest was done, they stand until a repair */
	unsigned jobs_damaged;
	char damaged[512]; /* the first such record, for people, with the remedy; "": none */
};
void upload_status(struct upload *u, struct upload_status *ret);
/* Is this re-key job one of jobs_damaged? */
bool upload_job_is_damaged(struct upload *u, uint64_t job_id);

/* ---- commands (all return how many files they touched, or -errno; path "" = everything) ---------- */

void upload_pause(struct upload *u);
void upload_resume(struct upload *u);
/* Files in FAILED (and CONFLICT whose cause may be gone) are queued again; a denied pause ends. */
must_check int64_t upload_retry(struct upload *u, const char *path);
/* CONFLICT: replace the object with the local version; INCOMPLETE, TORN: take it as it is. */
must_check int64_t upload_accept(struct upload *u, const char *path);
/* CONFLICT, INCOMPLETE, TORN, LOST, FAILED, HELD: drop the local version. Refused (-EINVAL) for "". */
must_check int64_t upload_discard(struct upload *u, const char *path);
/* accept and discard, and of each file that they had to leave though it needs a person `refused` (or
 * NULL) is told why; of a single one by what they return. */
typedef void upload_refused_fn(void *user, const char *path, const char *why);
must_check int64_t upload_accept_all(
	struct upload *u, const char *path, upload_refused_fn *refused, void *user);
must_check int64_t upload_discard_all(
	struct upload *u, const char *path, upload_refused_fn *refused, void *user);
/* DELETING: take it back. path may name a file or folder that is no longer there. Of each that stays
 * deleted `refused` (or NULL) is told why. */
must_check int64_t upload_undelete(
	struct upload *u, const char *path, upload_refused_fn *refused, void *user);
/* CLOSED files need not wait for settle any more (cpgfs wait). */
must_check int64_t upload_hurry(struct upload *u, const char *path);
/* Folders whose names the gallery refuses are renamed to their cleaned names. */
must_check int64_t upload_rename_clean(struct upload *u, const char *path);
