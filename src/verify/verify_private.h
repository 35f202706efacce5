/*
 * verify_private - what the files of this room share.
 */
#pragma once

#include "cpgfs/verify.h"

/* A growing list of inode numbers. */
struct verify_inos {
	uint64_t *ino;
	size_t count, cap;
};
void verify_inos_release(struct verify_inos *l);
must_check int verify_inos_add(struct verify_inos *l, uint64_t ino);

/* ---- verify_folders.c: folders of the bucket with uploads to look at; the thread's own ---------- */

struct verify_folder {
	char *prefix; /* "a/b/" */
	struct verify_inos inos;
	int64_t first_ms, last_ms; /* clock_mono_ms of the first and last upload not yet looked at */
	int64_t not_before_ms;	   /* after a failure */
	unsigned failures;
	bool hurry;
};
struct verify_folders {
	struct verify_folder **sorted;
	size_t count, cap;
};
void verify_folders_release(struct verify_folders *fs);
/* Adds an upload under `key`. -ENOMEM. */
must_check int verify_folders_add(
	struct verify_folders *fs, const char *key, uint64_t ino, int64_t now_ms);
void verify_folders_hurry(struct verify_folders *fs, const char *key);
/* Those that failed may be looked at now. */
void verify_folders_again(struct verify_folders *fs);
/* A folder whose time has come, else NULL and *ret_next_ms, when the next one's does. */
struct verify_folder *verify_folders_due(
	struct verify_folders *fs, int64_t quiet_ms, bool more_to_come, int64_t *ret_next_ms);
/* Forgets it if nothing is left in it. */
void verify_folders_settle(struct verify_folders *fs, struct verify_folder *f);
void verify_folder_failed(struct verify_folder *f, int error);

/* ---- verify_listing.c: what one fresh listing showed, by hash --------------------------------- */

struct verify_listing {
	struct verify_listed {
		uint64_t key_hash, etag_hash, size_bytes;
	} *entries;
	size_t count, cap;
};
enum verify_shown { SHOWN_EQUAL, SHOWN_DIFFERENT, SHOWN_NOT };
must_check int verify_listing_add(
	struct verify_listing *l, const char *key, size_t len, const struct s3_object *object);
void verify_listing_finish(struct verify_listing *l);
enum verify_shown verify_listing_look(
	const struct verify_listing *l, const struct store_object *ours);
void verify_listing_release(struct verify_listing *l);

/* ---- verify.c ----------------------------------------------------------------------------------- */

#define VERIFY_LISTED_MAX 64
#define VERIFY_SEEN_MAX 256

struct verify {
	/* const after create */
	struct store *store;
	struct remote *remote;
	struct naming_policy naming;
	int64_t quiet_ms;

	struct thread *thread;
	struct lock lock;
	struct cond wake;
	struct {
		bool stopping;
		struct verify_inos noticed;
		bool overflow;	/* out of memory: the queue is read again */
		char *hurry;	/* key to look at now; "" all; NULL none */
		bool again;	/* those that failed, now */
		char *listed[VERIFY_LISTED_MAX]; /* folders that were listed; no order */
		unsigned listed_count;
	} synced; /* by lock */

	/* the thread's own */
	struct store_inode inode; /* room for one */
	struct verify_folders folders;
	struct verify_lost {
		uint64_t ino;
		unsigned times;
	} lost[64]; /* uploads that vanished before they were verified: round robin */
	unsigned lost_next;
	int told; /* how the last folder failed; 0: it did not */
	uint64_t names; /* store_names() before what is judged was read */
	struct verify_seen { /* listings that were looked at, by hash of the folder */
		uint64_t prefix_hash;
		int64_t listed_at_ns;
	} seen[VERIFY_SEEN_MAX];
};
bool verify_is_stopping(struct verify *v);

/* ---- verify_check.c -------------------------------------------------------------------------------- */

/* Compares a folder's uploads with a fresh listing. Those still open stay in f->inos. 0; -EAGAIN:
 * some could not be settled; or why no listing could be had. */
must_check int verify_check_folder(struct verify *v, struct verify_folder *f);
/* Compares what was verified in a local folder with a fresh listing of its prefix. -EAGAIN: not all
 * could be asked for; or why it could not be listed or read. */
must_check int verify_check_gone(struct verify *v, const char *prefix, uint64_t dir_ino);
/* Is this the key of something directly in that folder? */
bool verify_is_in_folder(const char *key, const char *prefix);
uint64_t verify_hash_of(const char *text, size_t len);

/* ---- verify_gone.c -------------------------------------------------------------------------------- */

/* Looks at one of the folders that were listed; false: there is none. */
bool verify_gone_pass(struct verify *v);

/* ---- verify_outcome.c: what follows from a comparison; -ESTALE is nobody's fault ---------------- */

/* What is to be judged. A rename from here on makes its verdict void (-EAGAIN): its object may be
 * another one by then. */
must_check int verify_outcome_of(struct verify *v, uint64_t ino, struct store_inode *ret);

must_check int verify_outcome_equal(struct verify *v, const struct store_inode *inode);
must_check int verify_outcome_other_tag(
	struct verify *v, const struct store_inode *inode, const struct s3_object *shown);
must_check int verify_outcome_different(
	struct verify *v, const struct store_inode *inode, const struct s3_object *shown);
must_check int verify_outcome_missing(struct verify *v, const struct store_inode *inode);
