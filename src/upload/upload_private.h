/*
 * upload_private.h - what the files of this room share.
 *
 * The scheduler thread owns everything in `struct sched`; it alone talks to the store about
 * states. Other threads reach it by events (replies, digests) and by look bits (notices). What is
 * worked on is a task; nothing else is kept in memory per file: the queues are the store's.
 *
 *   upload.c            life cycle, notices, status
 *   upload_event.c      events, requests and their replies
 *   upload_schedule.c   the thread: passes over the queues, slots, sleeping
 *   upload_window.c     reading a store queue in windows
 *   upload_waits.c      who is not to be tried before when
 *   upload_map.c        u64 -> pointer
 *   upload_settle.c     CLOSED -> SETTLED, HELD
 *   upload_digest.c     hash pool: CRC64NVME, SHA-256, MD5 of versions and parts
 *   upload_digested.c   what follows from a digest: SETTLED -> QUEUED, UPLOADED, INCOMPLETE
 *   upload_key.c        the key an inode has now, and whether it may be used
 *   upload_plan.c       pure: what to do with a version, given what is known
 *   upload_ask.c        what does the bucket hold under a key (HEAD, settled by LIST)
 *   upload_same.c       does that object hold our content
 *   upload_put.c        QUEUED -> SENDING -> UPLOADED by one request
 *   upload_put_end.c    what a reply to a PUT means
 *   upload_probe.c      does the server honour conditions on PUT
 *   upload_multipart.c  the same in parts
 *   upload_part.c       one part
 *   upload_stream.c     parts of large files while these are written
 *   upload_stream_part.c one of them: read, recorded, sent
 *   upload_sync.c       what has to survive a power cut before a request goes out
 *   upload_complete.c   Complete, Abort and what their replies mean
 *   upload_doubt.c      attempts whose outcome is not known
 *   upload_move.c       MOVING: copy, then the old key is a stray
 *   upload_copy_large.c the same beyond the limit of one copy
 *   upload_delete.c     DELETING
 *   upload_delay.c      a clock that is set ahead does not make them due
 *   upload_rekey.c      folders renamed with something below
 *   upload_pause.c      pauses and their probes
 *   upload_limit.c      how many transfers at once
 *   upload_commands.c   retry, accept, discard, undelete, hurry
 *   upload_rename.c     rename-clean
 */
#pragma once

#include "cpgfs/upload.h"

#include <stdatomic.h>

#define LOG_ROOM "upload"

#define REASON_MAX 256
/* Files and attempts that wait for their next try: beyond this nothing new is begun. */
#define WAITS_MAX 4096
/* curl's send buffer of one transfer, and of all together. */
#define SEND_BUFFER_BYTES (256 * KIB)
#define SEND_BUFFERS_MAX_BYTES (16 * MIB)
/* News of files that are made, written and closed need not be faster than this. */
#define UNHURRIED_MS 20
/* Replans of one version in a row before it waits like after an error. */
#define REPLANS_MAX 6
/* Records that stand for one key at once: more are dealt with one after the other. */
#define OWNERS_MAX 16
#define ATTEMPTS_WINDOW 16
/* PutObject's limit (S3 API, PutObject). */
#define PUT_MAX_BYTES (5 * GIB)
/* CopyObject's limit (S3 API, CopyObject), and what one part of a larger copy holds. */
#define COPY_MAX_BYTES (5 * GIB)
#define COPY_PART_BYTES (1 * GIB)

/* ---- upload_map.c ------------------------------------------------------------------------------ */

/* u64 -> non-NULL pointer. All zeros is an empty map. */
struct map {
	uint64_t *keys;
	void **values;
	size_t cap, count;
};
must_check int map_put(struct map *m, uint64_t key, void *value); /* -ENOMEM */
void *map_get(const struct map *m, uint64_t key);
void map_remove(struct map *m, uint64_t key);
void map_release(struct map *m);

/* ---- upload_waits.c ---------------------------------------------------------------------------- */

struct wait {
	int64_t at_ms;
	uint64_t id;
};
/* A set of ids with a time each: at most one per id. All zeros is empty. */
struct waits {
	struct wait *heap;
	size_t count, cap;
	struct map ids;
};
int waits_add(struct waits *w, uint64_t id, int64_t at_ms); /* 0 too if it waits already; -ENOMEM */
bool waits_has(const struct waits *w, uint64_t id);
bool waits_pop_due(struct waits *w, int64_t now_ms, uint64_t *ret_id);
int64_t waits_next_ms(const struct waits *w); /* INT64_MAX: none */
void waits_all_due(struct waits *w);
int waits_hasten(struct waits *w, uint64_t id, int64_t at_ms); /* add, or not later than this */
void waits_release(struct waits *w);

/* ---- upload_window.c --------------------------------------------------------------------------- */

#define WINDOW_ITEMS 128
struct window {
	enum file_state state;
	struct store_queue_item items[WINDOW_ITEMS];
	size_t count, next;
	struct store_queue_item last; /* where to go on */
	bool begun;		      /* last is valid */
	bool again;		      /* something came since the start was read */
	bool ended;		      /* the walk came to the end; nothing came since */
	unsigned skipped;	      /* items of this walk that stay in the queue */
};
void window_init(struct window *w, enum file_state state);
/* Something joined the queue, or something that was skipped may go on. */
void window_again(struct window *w);
/* The next item: 1, 0 at the end, or -errno. */
int window_next(struct upload *u, struct window *w, struct store_queue_item *ret);
/* The item just returned stays where it is. */
void window_skipped(struct window *w);

/* ---- upload_limit.c ---------------------------------------------------------------------------- */

/* How many transfers at once. Grows while that makes the rate grow, halves when throttled. */
struct limit {
	unsigned max, now, before; /* before: what to go back to when growing did not help */
	bool fresh;  /* nothing was answered yet */
	bool climbs; /* at first: with every answer, as long as answers do not take longer for it */
	int64_t quickest_ms;	   /* the mean answer of the quickest round; 0: none yet */
	int64_t round_sum_ms;
	unsigned round_size, round_before, round_done; /* before: the size of the last one */
	int64_t window_began_ms, throttled_ms;
	uint64_t window_score, window_done;
	double last_rate;
	unsigned hold_windows; /* before growing is tried again */
	bool saturated;	       /* all slots were in use in this window */
};
void limit_init(struct limit *l, unsigned max, int64_t now_ms);
void limit_reset(struct limit *l, int64_t now_ms);
/* Before the first transfer: the quickest answer to other requests took so long (0: not known). */
void limit_start(struct limit *l, int64_t quickest_ms);
/* A question was answered, which led to no transfer yet. */
void limit_asked(struct limit *l, int64_t answered_ms, unsigned in_use);
/* in_use: with the one that is done. */
void limit_done(
	struct limit *l, int64_t now_ms, uint64_t bytes, int64_t answered_ms, unsigned in_use);
void limit_throttled(struct limit *l, int64_t now_ms, unsigned in_use);
void limit_saturated(struct limit *l);

/* ---- upload_plan.c ----------------------------------------------------------------------------- */

enum bucket_says { BUCKET_UNASKED, BUCKET_ABSENT, BUCKET_HOLDS };
enum content_is { CONTENT_OTHER, CONTENT_SAME, CONTENT_NEEDS_READING };

/* What is known about a version and its key. */
struct plan_facts {
	bool own_known;		 /* an object of ours is recorded under this key, with its ETag */
	bool own_same;		 /* … and is recorded with this content */
	bool enforced;		 /* the server honours conditions of the request that will decide */
	bool ask_first;		 /* too large to be sent on trust */
	bool may_replace;	 /* objects from elsewhere may be overwritten by this version */
	enum bucket_says bucket; /* fresh answer */
	bool found_is_ours;	 /* the object found is one that we sent */
	enum content_is content; /* of the object found */
};
enum plan {
	PLAN_ASK,	    /* ask the bucket, then plan again */
	PLAN_READ,	    /* read our bytes to compare, then plan again */
	PLAN_CREATE,	    /* write if nothing is there */
	PLAN_REPLACE_OWN,   /* write if our recorded object is still there */
	PLAN_REPLACE_FOUND, /* write if the object found is still there */
	PLAN_ADOPT,	    /* it is there already */
	PLAN_CONFLICT,	    /* something else is there */
};
enum plan plan_version(const struct plan_facts *f);

/* What a reply to a request with a body means for the attempt. */
enum applied { APPLIED_NO, APPLIED_YES, APPLIED_PERHAPS };
enum applied reply_applied(const struct s3_reply *reply);

/* ---- tasks ------------------------------------------------------------------------------------- */

enum task_kind { TASK_PUT, TASK_MULTIPART, TASK_DOUBT, TASK_MOVE, TASK_DELETE, TASK_STREAM };

struct task;
typedef void task_step_fn(struct upload *u, struct task *t);
/* Its write may go out; holds: its key is as t->condition says, as far as can be told. */
typedef void task_safe_fn(struct upload *u, struct task *t, bool holds);

/* A version as it is to be sent. */
struct version {
	uint64_t ino, generation;
	uint64_t size_bytes, part_size_bytes, chunk_count;
	uint64_t crc64nvme;
	bool has_crc64nvme;
	int64_t mtime_ns;
	uint32_t flags, attempts;
	uint64_t replaces; /* store_in_the_way() of what it may replace; 0: nothing */
	enum file_state state;
	char name[STORE_NAME_MAX + 1];
	bool has_sha256, has_md5;
	uint8_t sha256[32];
	char md5[33];
};

/* What an ask found (upload_ask.c). */
struct found {
	enum bucket_says says;
	struct s3_object object;
	bool has_crc64nvme;
	uint64_t crc64nvme;
};

/* A descriptor that lives as long as its last user: curl may read it after the task has ended. */
struct body_fd {
	atomic_uint refs;
	int fd;
};

struct parts;
struct stream;
struct copy_parts;

struct task {
	struct task *prev, *next;
	enum task_kind kind;
	struct version version;
	char key[KEY_MAX_BYTES + 1];
	uint64_t names; /* as of when the key was its own and free; 0: of no matter */
	bool claims_key;
	bool holds_slot;
	unsigned slot_bytes;
	bool claims_delete; /* no undelete meanwhile */
	bool stale;	      /* the version was changed meanwhile */
	unsigned outstanding; /* requests and digests under way */
	unsigned replans, clock_retries;
	/* what is known */
	bool own_known, own_same;
	bool own_deleting; /* what is under its key is to be deleted */
	uint64_t blocked_by; /* KEY_WAIT: whose only copy is under its key; 0: nobody's */
	uint64_t without_object; /* whose copy is there no more, as the bucket said; 0: nobody's */
	char own_etag[S3_ETAG_MAX];
	char condition[S3_ETAG_MAX]; /* If-Match; "": If-None-Match: * */
	bool asked_surely;
	unsigned ask_pages; /* of the listing that decides, without anything in them */
	char ask_key[KEY_MAX_BYTES + 1];
	struct found found;
	enum content_is content; /* of found, once compared */
	bool compared, fetched;
	/* what stands recorded: id 0 = nothing */
	struct store_attempt attempt;
	uint64_t standing_id; /* an upload that took parts while the file was written; 0: none */
	struct body_fd *body;
	struct parts *parts;
	struct stream *stream;
	struct copy_parts *copy;
	/* MOVE, DELETE, DOUBT */
	struct store_object object; /* the object to copy from or to delete */
	task_step_fn *then; /* after an ask or a digest */
	int sync_error;	    /* sync_then() */
	enum s3_op safe_op; /* write_safely() */
	task_safe_fn *safe;
	char made_etag[S3_ETAG_MAX]; /* COPY, and PUT while it is probed: what the reply said */
	int64_t retry_ms; /* multipart: after the abort */
};

/* upload_task.c */
must_check int task_create(struct upload *u, enum task_kind kind, uint64_t ino, struct task **ret);
/* One more transfer: slots_used, and what its body takes of memory while it is sent. */
void slot_take(struct upload *u, struct task *t);
void slot_drop(struct upload *u, struct task *t); /* if it holds one */
/* Lets go of key, slot and inode; what waited for them is looked at again. */
void task_destroy(struct upload *u, struct task *t);
/* The condition that its write carries; is under the key what it says, as t->found? */
enum s3_condition task_condition(const struct task *t);
bool condition_holds(const struct task *t);
must_check int task_claim_key(struct upload *u, struct task *t, const char *key); /* -EBUSY */
bool key_is_busy(struct upload *u, const char *key);
/* An error that says nothing about the file: ends the task; it is taken up again after a pause or
 * at a time that fits the error and how often it happened. A recorded attempt is asked about then. */
void task_transient(struct upload *u, struct task *t, const struct s3_reply *why);
/* Ends the task; its file is not looked at before a time that fits the error and how often it
 * happened. */
void task_retry_later(struct upload *u, struct task *t, const struct s3_reply *why);
void task_retry_in(struct upload *u, struct task *t, int64_t ms);
/* Record the outcome of t->attempt: the transition from the file's state now, and the object (NULL:
 * nothing was written). False: the version or key has moved on, or the record could not be made. */
bool task_attempt_end(struct upload *u, struct task *t, enum file_state to, const char *reason,
	bool count_attempt, const struct store_object *object);
must_check int task_attempt_begin(struct upload *u, struct task *t, enum attempt_kind kind,
	enum file_state from, const char *if_match);
/* Something was renamed since it got its key: is that still its own, and free? */
bool task_key_stands(struct upload *u, struct task *t);
/* The object that t->attempt made, as the reply tells. */
void task_object_of(const struct task *t, const struct s3_object *made, struct store_object *ret);
/* The object of this version is in place (recorded): tell the listing. */
void task_uploaded(struct upload *u, struct task *t, const struct store_object *object);

/* ---- upload_state.c: changes of state, checked against the table first -------------------------- */

struct state_change {
	enum file_state to;
	enum held_kind held;
	uint64_t in_the_way; /* CONFLICT */
	const char *reason; /* NULL: "" */
	int64_t due_at_ns;
	bool count_attempt;
	uint64_t names; /* 0, or what key_of_inode said: the change follows from the key */
};
/* 0, -ESTALE: the file has moved on, -EAGAIN: perhaps it has another key now, look again. Other errors
 * were said and pause the room; the file stays. */
int state_set(struct upload *u, const struct version *v, const struct state_change *c);
/* The same of what is true under this key only: -ESTALE if the file has another one, or none, now. */
int state_set_under(
	struct upload *u, const struct version *v, const char *key, const struct state_change *c);
must_check int version_load(struct upload *u, uint64_t ino, struct version *ret);
void version_of_inode(struct upload *u, const struct store_inode *inode, struct version *ret);
/* No memory or no descriptor just now: says nothing of the file. */
bool is_shortage(int error);
/* Say so, once for each time that it is so. */
void shortage_note(struct upload *u, int error);
/* All its bytes, as it was closed? 1, 0, or why that can't be told just now. Any thread. */
must_check int version_is_here(struct upload *u, const struct version *v);
/* Is it sent in parts? */
bool version_is_large(const struct upload *u, const struct version *v);

/* ---- upload_key.c ------------------------------------------------------------------------------ */

struct key_now {
	char key[KEY_MAX_BYTES + 1];
	enum held_kind held; /* HELD_NOT: key is set */
	char reason[REASON_MAX];
	uint64_t names;	     /* for the record that follows from it: always set */
};
/* 0 also when held. -ENOENT, -EACCES: outside the mounted prefix, -ENOMEM. */
must_check int key_of_inode(struct upload *u, uint64_t ino, struct key_now *ret);
/* Is it this one? *ret_names as above. */
bool key_is(struct upload *u, uint64_t ino, const char *key, uint64_t *ret_names);

/* What else here stands for this key. */
enum key_owner {
	KEY_FREE,    /* nothing, or only what this write replaces */
	KEY_WAIT,    /* someone else's only copy is there: it has to move first */
	KEY_TAKEN,   /* another file here has this key */
	KEY_PENDING, /* an attempt stands that must be settled first */
};
enum key_owner key_owner_of(struct upload *u, struct task *t);
/* Of a version without a task: why it is HELD then, and whether it still has to be. */
extern const char key_taken_reason[];
bool key_is_taken(struct upload *u, const struct version *v, const char *key);
/* Is a request to this key without an answer? Then no record tells what is there. */
bool attempts_stand(struct upload *u, const char *key);

/* ---- upload_event.c ---------------------------------------------------------------------------- */

struct event {
	struct event *next;
	void (*run)(struct upload *u, struct event *e); /* scheduler thread; e is the callee's now */
	void (*drop)(struct event *e);			/* when nobody listens any more */
};
void event_post(struct upload *u, struct event *e); /* any thread */

struct request;
typedef void answer_fn(struct upload *u, struct task *t, struct request *rq);
struct request {
	struct event event;
	struct request *prev, *next_active;
	struct upload *upload; /* a reference */
	struct task *task;
	answer_fn *answer;
	struct body_fd *body;
	enum s3_op op;
	uint64_t id;
	uint64_t chunk; /* parts */
	uint64_t body_bytes;
	uint64_t body_crc64nvme;
	uint64_t credentials_stamp; /* when it was sent, or before */
	uint64_t crc64nvme, received; /* GET: of the body, which is not kept */
	struct s3_reply reply;
};
/* One attempt of a request for a task (or NULL); answer runs on the scheduler thread, then rq is
 * freed. rq->body is taken by reference. */
must_check int request_send(struct upload *u, struct task *t, const struct s3_request *req,
	struct body_fd *body, uint64_t chunk, answer_fn *answer);
must_check int body_fd_create(int fd, struct body_fd **ret);
void body_fd_unref(struct body_fd *b);
void upload_unref(struct upload *u);

/* ---- upload_digest.c --------------------------------------------------------------------------- */

enum digest_kind {
	DIGEST_VERSION, /* CRC of every chunk; cut-off check */
	DIGEST_SEND,	/* SHA-256 of the whole, and the CRC again */
	DIGEST_PART,	/* the same of one chunk */
	DIGEST_ETAG,	/* does this ETag belong to our bytes? */
};
struct digest {
	struct event event;
	struct upload *upload; /* a reference */
	enum digest_kind kind;
	struct task *task; /* SEND, PART, ETAG */
	struct version version;
	struct body_fd *body; /* to read through; NULL: an own descriptor of that version */
	int fd;
	uint64_t chunk;
	uint32_t mark; /* of a chunk that may change meanwhile */
	char etag[S3_ETAG_MAX];
	bool want_sha256;
	bool is_proving; /* what is read may not be what was written, but in this range */
	uint64_t proved_from, proved_until;
	void (*done)(struct upload *u, struct digest *d); /* scheduler thread; d is freed after */
	/* results */
	int error; /* -ENODATA: shorter than recorded; -EUCLEAN: the disk refused it, and it is gone; -EAGAIN:
		    * whether it did cannot be told now */
	uint64_t *crcs;
	uint64_t crc64nvme;
	bool cut_off;
	bool same;
	uint8_t sha256[32];
	char md5[33];
};
/* Read the version's bytes in the pool. -ESTALE, -EREMOTE, -ENODATA (as store_version_open),
 * -EAGAIN: the pool is full. */
must_check int digest_begin(struct upload *u, const struct digest *what);

/* upload_digested.c */
void digest_pass(struct upload *u);
void sha_cache_get(struct upload *u, struct version *v);
void sha_cache_drop(struct upload *u, uint64_t ino);
void sha_cache_release(struct upload *u);
/* The bytes here are not what their checksums say. 0, or why that is not recorded. */
int version_damaged(struct upload *u, const struct version *v);
/* Its bytes cannot be read: FAILED, with the reason. 0, or why that is not recorded. */
int version_unreadable(struct upload *u, const struct version *v, int error);
/* Opening the bytes of a task's version failed: if no second try can heal it and nothing was sent, the
 * version is FAILED, and -ESTALE is returned; else the error. */
int task_unreadable(struct upload *u, const struct task *t, int error);

/* ---- asking ------------------------------------------------------------------------------------ */

/* Find out what the bucket holds under t->key now: fills t->found, then runs t->then; an error that
 * is not an answer ends the task with a retry. sure: a 404 to HEAD is confirmed by a listing. */
void ask_bucket(struct upload *u, struct task *t, const char *key, bool sure, task_step_fn *then);
/* Does t->found hold our content? Sets t->content. */
enum content_is same_content(const struct version *v, const struct found *f);
/* Compare by reading our bytes: sets t->content, then runs then. */
void same_by_reading(struct upload *u, struct task *t, task_step_fn *then);
/* Can only the content of t->found tell whether t->attempt made it? */
bool fetching_may_tell(const struct task *t);
/* Compare with t->attempt by fetching the object, for its checksum: sets t->content, then runs
 * then. For the rare case that nothing else can prove whose it is. */
void same_by_fetching(struct upload *u, struct task *t, task_step_fn *then);
/* The ETag that these parts' MD5s make ("…-N"), or false. */
bool etag_of_parts(const uint8_t (*md5s)[16], size_t count, char out[S3_ETAG_MAX]);
/* Is the object found that of this record, or the same content that somebody else wrote once more? */
bool found_is_of(const struct found *found, const struct store_object *o);
/* It is: the record gets the tag that it has now, and the file the state `to` (its own: as it is). 0, or
 * as state_set_under(). */
int found_record(struct upload *u, const struct store_inode *inode, const struct found *found,
	enum file_state to, uint64_t names);
/* Was the object found made by this attempt? */
bool attempt_made(const struct store_attempt *a, const struct found *f);

/* ---- upload_sync.c ----------------------------------------------------------------------------- */

/* Run then when all that is recorded by now survives a power cut, with the bytes of its version if so asked;
 * t->sync_error: why not, which was said. */
void sync_then(struct upload *u, struct task *t, bool with_data, task_step_fn *then);
/* t->attempt stands recorded: run go when no power cut can make another story of its write. Ends the task if
 * the disk or the bucket can't tell. */
void write_safely(struct upload *u, struct task *t, enum s3_op op, task_safe_fn *go);
void synced_pass(struct upload *u); /* those that need wait no longer go on */
void sync_pass(struct upload *u);   /* all that wait, at once */
bool sync_has_room(const struct upload *u); /* for more that may have to wait */
void sync_release(struct upload *u);

/* The next sync of its kind. */
struct sync_lane {
	struct sync_batch *next; /* who waits for it; NULL: nobody */
	bool runs;		 /* the one before it */
};

/* ---- work -------------------------------------------------------------------------------------- */

/* BEGUN: a task works on it; STAYS: not now, it stays in its queue; LEFT: it left the queue. */
enum start { START_BEGUN, START_STAYS, START_LEFT };

void settle_pass(struct upload *u);
void held_pass(struct upload *u);
void held_look_again(struct upload *u);
void put_pass(struct upload *u);
/* t->blocked_by goes nowhere (held, failed …), and its only copy is under t's key: t->found says whether it
 * is still there. Fetches its bytes and waits, or goes on without it. */
bool blocker_stays(struct upload *u, const struct task *t);
void blocked_asked(struct upload *u, struct task *t);
void put_plan(struct upload *u, struct task *t);
/* t->found is in its way: ends the task. */
void put_conflict(struct upload *u, struct task *t);
void put_answer(struct upload *u, struct task *t, struct request *rq);
/* The bytes of t->body, if the key holds if_match (NULL: nothing). */
must_check int put_request(
	struct upload *u, struct task *t, const char *if_match, answer_fn *answer);
/* Does a reply that says "done" prove that these bytes arrived? */
bool done_is_proved(const struct task *t, const struct s3_reply *reply);
/* The object that t's reply speaks of is proved: record it, end the task. */
void put_done(struct upload *u, struct task *t, const struct s3_object *made);
/* No usable answer: the attempt becomes doubtful, ends the task. */
void put_doubtful(struct upload *u, struct task *t, const struct s3_reply *reply);
/* The condition was refused or what it named is gone: ask the bucket and plan again. */
void put_replan(struct upload *u, struct task *t);
void put_condition_refused(struct upload *u, struct task *t); /* of a PUT; its attempt ends */
/* Likewise, where its bytes may not be those that were closed: they are read, and it is tried again later. */
void put_reread(struct upload *u, struct task *t, const char *reason);
/* A failed request of a version, by its class: again later, a pause, or FAILED. Ends the task. */
void put_failed(struct upload *u, struct task *t, const struct s3_reply *reply);
/* A request that could not even be made (no memory, shutting down). Ends the task. */
void put_unsent(struct upload *u, struct task *t, int error);
must_check int put_open(struct upload *u, struct task *t);
/* Is the object found one that we recorded? */
bool found_is_recorded(struct upload *u, const struct task *t);
/* The server read other bytes than we announced. */
bool digest_was_refused(const struct s3_reply *reply);
/* What a failure means for the version: not for conditions and digests. */
enum after { AFTER_NOTHING, AFTER_BACKOFF, AFTER_MOMENT };
struct judged {
	enum file_state to;
	bool count;
	enum after after;
	char reason[REASON_MAX];
};
void failure_judge(
	struct upload *u, const struct task *t, const struct s3_reply *reply, struct judged *ret);

/* ---- upload_probe.c ----------------------------------------------------------------------------- */

/* What is known of one condition on PUT. */
struct probe {
	unsigned asked; /* keys asked about because nothing is known */
	bool busy, tried, ignored;
};
/* A key is asked about only because the condition is not known to be honoured. */
void probe_note_asked(struct upload *u, enum s3_condition condition);
/* True: the task goes on; what was made is recorded when the answer comes. */
bool probe_begin(struct upload *u, struct task *t, const struct s3_object *made);
/* Was its object perhaps written a second time? */
bool attempt_is_probe(const struct store_attempt *a);

/* What a multipart task is to do once its parts have come back. */
enum parts_end {
	PARTS_GO_ON,
	PARTS_STALE,   /* the version is another one, or lost: abort */
	PARTS_REPLAN,  /* abort, then decide about this version anew */
	PARTS_FAILED,  /* abort; the file's state says why */
	PARTS_RESTART, /* the upload is gone: begin another */
};
enum part_state { PART_TODO, PART_BUSY, PART_WAITS, PART_SENT };
struct parts {
	uint8_t *state;	 /* enum part_state of each chunk */
	uint8_t *failed; /* how often each failed in a row */
	uint64_t next;	/* chunks below are not TODO */
	uint64_t sent, busy;
	struct waits waiting; /* PART_WAITS */
	unsigned errors;      /* in a row */
	bool ready;	      /* parts may be sent */
	enum parts_end end;
};
void multipart_begin(struct upload *u, struct task *t);
void multipart_resume(struct upload *u, struct task *t);
void multipart_pass(struct upload *u);
void multipart_stale(struct upload *u, struct task *t);
void multipart_release(struct task *t);
void multipart_abort(struct upload *u, struct task *t);
/* t->found is what t->attempt would have made, but perhaps someone else's doing: then the upload
 * stands open yet. Sees to that, and records the object. */
void multipart_made(struct upload *u, struct task *t);
/* Say that an upload may be open which nobody can name. */
void multipart_id_lost(const struct task *t);
void multipart_not_created(const struct task *t, const struct s3_reply *reply);
/* Go on when all parts have come back: end as t->parts->end says, or Complete. */
void multipart_settle(struct upload *u, struct task *t);
void multipart_complete(struct upload *u, struct task *t);
/* End it: state of the file, then what the end asks for. */
void multipart_fail(struct upload *u, struct task *t, const struct s3_reply *reply);
void multipart_end(struct upload *u, struct task *t, enum parts_end end);
/* Complete does not like the parts: they have to be made again. */
bool parts_were_refused(const struct s3_reply *reply);
/* An upload that took parts while the file was written becomes that of the closed version. */
void multipart_take_over(struct upload *u, struct task *t);
/* Which parts are there already? Then they are sent, or Complete. */
void parts_resume(struct upload *u, struct task *t);
void parts_settle(struct upload *u, struct task *t); /* multipart_settle, stream_settle */
must_check int parts_alloc(struct task *t, uint64_t chunks);
void parts_cancel(struct upload *u, struct task *t);
bool part_begin(struct upload *u, struct task *t); /* false: nothing to send just now */
bool part_slot_free(struct upload *u);
void part_is(struct task *t, uint64_t chunk, enum part_state state);
/* The part's slot is free again; the task may end now. */
void part_back(struct upload *u, struct task *t, uint64_t chunk, enum part_state state);
/* It failed for a reason of the moment: sent again, not at once. */
void part_again(
	struct upload *u, struct task *t, uint64_t chunk, const struct s3_reply *reply);
void part_request(struct upload *u, struct task *t, const struct store_chunk *c,
	const uint8_t *sha256, answer_fn *answer);
/* It arrived: recorded, unless its bytes have changed (false). */
bool part_record(struct upload *u, struct task *t, struct request *rq);

/* ---- upload_stream.c ---------------------------------------------------------------------------- */

enum stream_end {
	STREAM_GOES_ON,
	STREAM_LEAVES,	 /* the closed version takes the upload over */
	STREAM_IS_KEPT,	 /* the writer was cut off: the upload waits for what becomes of the file */
	STREAM_ENDS,	 /* abort */
	STREAM_VANISHED, /* the server does not know the upload any more */
};
struct stream {
	struct store_file *file; /* a handle: as long as it is there, the store remembers writes */
	size_t whole, seen;	 /* chunks below the end; the most that ever were */
	uint8_t *look;		 /* store_stream_look() */
	uint8_t *again;		 /* how often a chunk changed after it had been sent */
	int64_t look_ms;	 /* the next look is due */
	enum stream_end end;
};
void stream_pass(struct upload *u);
/* Is the file still one to be sent meanwhile? Acts if not. */
void stream_check(struct upload *u, struct task *t);
void stream_settle(struct upload *u, struct task *t);
void stream_end(struct upload *u, struct task *t, enum stream_end end);
/* Not for a while, whatever happens to this file: its close decides. */
void stream_not_now(struct upload *u, uint64_t ino, int64_t ms);
/* An attempt that takes parts of a file being written, without anyone working on it. */
void stream_doubt(struct upload *u, struct task *t);
/* The version that its upload was for is over: the upload stays, for the next one. */
bool stream_takes_back(struct upload *u, struct task *t);
void stream_release(struct upload *u, struct task *t);
/* The thread has ended: no handle of a file is held any more. */
void streams_let_go(struct upload *u);
bool stream_part_begin(struct upload *u, struct task *t); /* false: nothing to send just now */

/* Not before then; out of memory: at once. */
void wait_for(struct upload *u, uint64_t ino, int64_t ms);

void doubt_add(struct upload *u, uint64_t attempt_id, int64_t in_ms);
void doubt_soon(struct upload *u, uint64_t attempt_id);
void doubt_pass(struct upload *u);
void doubt_round(struct upload *u); /* nobody works on it, and it waits for nothing: asked about */
int doubt_recover(struct upload *u);

bool attempt_find(struct upload *u, uint64_t id, struct store_attempt *ret);

void delete_release(struct upload *u, uint64_t ino);
/* The object is not there (any more): its record goes, then t's attempt, if one stands. Ends the task. */
void delete_gone(struct upload *u, struct task *t);
/* Was something sent for this file whose outcome is not known, beside that attempt? */
bool attempts_of_inode(struct upload *u, uint64_t ino, uint64_t but_id);
void move_pass(struct upload *u);
void move_copy(struct upload *u, struct task *t);
/* The server says that the copy is made: proved, then recorded. Ends the task. */
void move_done(struct upload *u, struct task *t, const struct s3_reply *reply);
/* Ends the task: queued if its bytes are here, else FAILED (or gone, if the object is). What was
 * verified once and then removed by someone else is not sent again. */
void move_by_sending(
	struct upload *u, struct task *t, const char *why, enum file_state otherwise);
/* Is the source still what we recorded? Ends the task accordingly, or it is tried again later. */
void move_ask_source(struct upload *u, struct task *t);
/* Ends the task; it stays MOVING, and waits longer each time. */
void move_again(struct upload *u, struct task *t);
/* A few chunks that are not here are fetched. False: there is no one to fetch them. */
bool fetch_some(struct upload *u, const struct version *v);
/* Objects too large for one CopyObject: parts copied inside the bucket. */
void copy_large_begin(struct upload *u, struct task *t);
void copy_large_pass(struct upload *u);
void copy_large_release(struct task *t);
void delete_pass(struct upload *u);
bool delay_is_kept(struct upload *u); /* before it; false: what is due is not known yet */
void rekey_pass(struct upload *u);

/* upload_rekey.c */
bool job_is_damaged_locked(const struct upload *u, uint64_t id);

/* ---- upload_schedule.c ------------------------------------------------------------------------- */

void scheduler_run(void *user);
bool slot_free(struct upload *u);
unsigned transfers_in_use(const struct upload *u);
/* Is there room for one transfer more, whatever the size of its body? */
bool transfers_may_begin(struct upload *u);
void look_again(struct upload *u, enum file_state state);
void wake_by(struct upload *u, int64_t at_ms); /* scheduler thread: sleep no longer than this */

/* ---- upload_pause.c ---------------------------------------------------------------------------- */

void pause_begin(struct upload *u, enum upload_pause which, const char *reason);
void pause_end(struct upload *u, enum upload_pause which);
bool pause_holds(struct upload *u, unsigned which);
/* May new requests be begun now? A probe is let through when its time has come. */
bool pause_lets_send(struct upload *u);
bool pause_lets_put(struct upload *u);
void pause_tick(struct upload *u);
/* Every reply passes here first. */
void pause_note_reply(struct upload *u, const struct request *rq);
void pause_note_accepted(struct upload *u);
/* True: this refusal is one of many: the file stays queued. */
bool pause_note_denied(struct upload *u, const char *key, const struct s3_reply *reply);
/* A record that was not taken: by the disk, then all waits; -EUCLEAN: for what is damaged, then what it
 * concerns does. */
void pause_note_store(struct upload *u, int error);

/* ---- upload_reason.c --------------------------------------------------------------------------- */

/* "AccessDenied (403): … ; what to do" */
void reason_of_reply(const struct s3_reply *reply, const char *acl, char out[REASON_MAX]);

/* ---- the whole --------------------------------------------------------------------------------- */

#define RATE_SECONDS 10

struct sched {
	struct window queued, settled, moving;
	struct task *tasks;
	struct map tasks_of_ino;    /* the one task of an inode that sends, moves or deletes it */
	struct map digests_of_ino;  /* inodes in the hash pool */
	struct map keys;	    /* hash of a key -> the task that writes it */
	bool answered;		    /* an object was sent: the server showed what it proves */
	int64_t short_until_ms;	    /* a shortage was said, and is no news until then */
	bool keys_taken;	    /* the last key that was asked about was not free */
	struct probe probes[S3_CONDITIONS];
	struct map shas;	    /* upload_digested.c */
	struct waits waiting_inos, waiting_attempts, waiting_streams;
	struct waits waiting_deletes; /* left to a newcomer: those hold up nothing else */
	struct map asked_attempts; /* in doubt, and the bucket has said "no" once */
	struct request *requests;
	uint64_t slots_bytes; /* send buffers of slots_used, at most */
	unsigned slots_used, parts_used, large_open, digests_active, digests_large;
	unsigned streams_open, stream_digests;
	int64_t growing_ms, growing_looked_ms; /* the next look at who grows, the last one */
	bool small_wait; /* small files wait for slots: large ones take half of them at most */
	struct limit limit;
	struct s3_retry_bucket retry_bucket;
	int64_t next_ms;	  /* wake up by then */
	int64_t closed_next_ms, deleting_next_ms;
	int64_t seen_wall_ns, seen_boot_ns, put_off_ns; /* upload_delay.c */
	int64_t deleting_looked_ns; /* all that were due by then were looked at */
	int64_t deleting_walked_ms;
	struct store_queue_item held_last; /* up to it all that were held are judged anew */
	bool held_judged, held_for_keys; /* some of them: another file has their key */
	int64_t round_ms;	  /* all queues and attempts are looked at */
	/* pauses */
	unsigned pauses;
	char pause_reason[5][440];
	int64_t probe_at_ms, probe_put_at_ms, space_until_ms, damage_said_ms;
	int64_t probe_step_ms;
	bool probe_out;
	unsigned denied_streak;
	uint64_t denied_last_key;
	uint64_t credentials_stamp;
	/* status */
	uint64_t bytes_sent, objects_sent, retries;
	uint64_t rate_bytes[RATE_SECONDS + 1];
	int64_t rate_second;
	/* re-key */
	struct store_job job;
	struct store_walk job_walk;
	bool job_active, jobs_look;
	bool job_met_damage;
	/* Room for answers of the store that are too large for the stack; nothing nests in their use. */
	struct store_inode owners[OWNERS_MAX];
	struct store_attempt attempts[ATTEMPTS_WINDOW];
	uint64_t looks_later; /* a bit per file_state: queues to be read again in the next pass */
	struct sync_lane sync_lanes[2]; /* records; with bytes, too */
	struct sync_batch *synced;	/* these may go on */
	unsigned sync_waits;		/* who gave up a place for it */
	bool stopping;
};

#define DELETES_MAX 64   /* on their way at once */
#define UNDELETES_MAX 16 /* commands that take some back, at once: they find room however many those are */

struct upload {
	atomic_uint refs;
	/* const after create */
	struct s3 *s3;
	struct store *store;
	struct remote *remote; /* NULL: none to tell (tests) */
	struct naming_policy naming;
	char prefix[KEY_MAX_BYTES + 1];
	char *acl;
	unsigned max_transfers, hash_threads;
	unsigned probe_after; /* so many questions that a known server would spare */
	unsigned probe_ahead; /* or so many that it would still spare */
	uint64_t multipart_threshold_bytes;
	uint64_t copy_max_bytes, copy_part_bytes;
	bool allow_overwrite, allow_delete;
	int64_t settle_ms, stream_quiet_ms;
	uint64_t (*credentials_stamp)(void *user);
	void (*credentials_explain)(void *user, char out[512]);
	void *credentials_user;
	struct pool *pool, *sync_pool;
	struct thread *thread;
	atomic_bool digests_end; /* stopping: what is being read need not be read to its end */

	struct lock lock;
	struct cond wake;
	struct {
		struct event *first, **last;
		uint64_t looks; /* a bit per file_state */
		uint64_t stale[64]; /* inodes changed while being sent */
		unsigned stale_count;
		bool stale_all;	    /* … more than fit */
		int64_t sleep_until_ms;
		bool stopping, closed;
		int64_t stop_deadline_ms;
		bool paused_by_hand, retry_wanted;
		uint64_t looks_soon; /* the same, when the sleep ends */
		bool growing_news;
		uint64_t deleting_ino[DELETES_MAX + UNDELETES_MAX]; /* DELETE on its way: no undelete */
		unsigned deleting_count;
		uint64_t damaged_below; /* jobs before this one that are there yet: they stand until the next mount */
		unsigned damaged_count;
		char damaged[512];
		struct upload_status status;
	} synced; /* by lock */

	struct sched sched; /* scheduler thread only */
};
