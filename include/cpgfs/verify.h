/*
 * verify - compare what was copied in with what the bucket lists afterwards.
 *
 * Owns:     UPLOADED -> VERIFIED, and VERIFIED -> GONE or CONFLICT.
 * Threads:  one, made by verify_start(): after uploads finish in a folder, a fresh listing that was
 *           begun after the last of them is compared.
 * Locks:    RANK_VERIFY; never held over a listing.
 * Errors:   0 or -errno.
 * Tests:    tests/unit/test_verify_*.c
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 80
#error "verify.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/remote.h"
#include "cpgfs/store.h"
#include "cpgfs/upload.h"

struct verify;

struct verify_config {
	struct store *store;
	struct remote *remote;
	struct naming_policy naming;
	int64_t quiet_ms; /* look at a folder this long after the last upload in it; 0: 1,000; while
			     uploads go on in it: at latest every 30 s */
};
must_check int verify_create(struct verify **ret, const struct verify_config *config);
must_check int verify_start(struct verify *v); /* takes up what is UPLOADED from before */
/* Waits for a listing under way: call remote_stop() before, which ends it. */
void verify_stop(struct verify *v);
void verify_destroy(struct verify *v);

/* News from the store (store_events.changed). Cheap, any thread. */
void verify_notice(struct verify *v, const struct store_change *change);
/* News from remote (remote_events.listed): what a listing does not show any more is GONE. Cheap, any
 * thread. */
void verify_notice_listed(struct verify *v, const char *prefix, int error);
/* What made listings fail has changed (other credentials): those that failed are tried again now. */
void verify_again(struct verify *v);
/* Look at once at everything that is UPLOADED below path ("" = all). */
void verify_hurry(struct verify *v, const char *path);

/*
 * Judge one object of ours against a listing entry: 0 equal (size and ETag as the server gave them
 * to us), -EBADMSG different. Pure.
 */
must_check int verify_compare(const struct store_object *ours, const struct s3_object *listed);

/*
 * ---- proving without a mount ------------------------------------------------------------------------
 *
 * What should be in a bucket (a manifest, or files of a folder) against what it lists, key by key:
 * both come in the order of keys, so memory is that of the differences.
 */
struct verify_item {
	char key[KEY_MAX_BYTES + 1];
	uint64_t size_bytes;
	char etag[S3_ETAG_MAX]; /* as the server gave it when it was proved; "" not known */
	bool has_crc64nvme;
	uint64_t crc64nvme;
	char path[4096];        /* the file whose bytes it should hold; "" none */
};

enum verify_kind {
	VERIFY_MISSING, /* not in the bucket */
	VERIFY_EXTRA,   /* in the bucket, and nothing says it should be */
	VERIFY_SIZE,
	VERIFY_CONTENT, /* other bytes, or the bucket has nothing that would prove them: see what */
	VERIFY_ACL,     /* the bucket's owner has no full control */
	VERIFY_KINDS,
};
const char *verify_kind_text(enum verify_kind kind); /* "missing" */

struct verify_difference {
	enum verify_kind kind;
	char *key;
	char *what; /* for a person */
};

/* The bucket's side: S3 itself (verify_bucket_s3), or a mount that asks it for us. Errors come with
 * *ret_message (malloc'ed). list_next from one thread, the others from several. */
struct verify_bucket {
	void *user;
	/* The next object ascending by key: 1, 0 at the end, -errno. key lives until the next call. */
	int (*list_next)(void *user, const char **key, size_t *ret_len, struct s3_object *ret,
		char **ret_message);
	/* The CRC64NVME the server keeps of the whole object: 1, 0 it keeps none, -errno. */
	int (*checksum)(void *user, const char *key, uint64_t *ret_crc, char **ret_message);
	/* The ACL as XML; 0 with an empty buf: it may not be read. NULL: cannot be asked. */
	int (*acl)(void *user, const char *key, struct buf *ret_xml, char **ret_message);
	void (*close)(void *user);
};
/* prefix: keys below it are looked at, "a/b" or "", from behind after on ("": all). close it. */
must_check int verify_bucket_s3(
	struct verify_bucket *ret, struct s3 *s3, const char *prefix, const char *after);

struct verify_tree {
	const struct verify_bucket *bucket;
	/* The next item, ascending by key (bytewise): 1, 0 at the end, -errno. */
	int (*next)(void *user, struct verify_item *ret);
	void *user;
	bool deep;          /* ask for every object's stored checksum */
	bool size_only;     /* do not read files */
	bool extra;         /* objects that no item stands for are differences */
	bool acl;           /* look at every object's ACL */
	const char *owner;  /* canonical id of the bucket's owner; NULL: who controls objects of others */
	unsigned threads;   /* 0: 16 */
	void (*progress)(void *user, uint64_t objects, uint64_t bytes); /* now and then; NULL */
	/* Ask for an early end. NULL: never. */
	bool (*stop)(void *user);
};

struct verify_result {
	uint64_t items, bytes;     /* that should be there */
	uint64_t equal;            /* proved */
	uint64_t listed;           /* objects the bucket listed below the prefix */
	uint64_t count[VERIFY_KINDS];
	uint64_t by_tag, by_checksum; /* how the equal ones were proved; the rest by size alone */
	struct verify_difference *differences; /* by key, then kind */
	size_t difference_count;
	char *acl_guess; /* the id taken for the bucket's owner where every object is its owner's alone;
			    NULL: it is known */
	char reached[KEY_MAX_BYTES + 1]; /* the last item looked at */
};

/* Blocks. 0 (whatever the differences); -errno when the bucket or the source could not be read to
 * the end (*ret_message, malloc'ed, says why), -EILSEQ: items came out of order. -ECANCELED: stopped;
 * the result holds as far as it reached. */
must_check int verify_tree_run(
	const struct verify_tree *t, struct verify_result *ret, char **ret_message);
void verify_result_release(struct verify_result *r);
