/*
 * store - objects as plain files, their metadata beside them.
 *
 * Threads: every function may be called from any thread. One rwlock; held for renames, unlinks and
 * one append, never while object data are read or written.
 * Errors:  0 or -errno; -ENOENT no such key, -EEXIST a condition failed (S3: 412).
 */
#pragma once

#include "s3d_index.h"

struct store;
struct bucket;

/* An object's data before it is one. */
struct temp {
	struct store *store; /* NULL: nothing here */
	int fd;              /* -1 in a sink */
	unsigned long number;
	bool placed; /* it has a name outside tmp/ */
	uint64_t size_bytes;
};

struct conditions {
	const char *if_match;      /* NULL = no such condition */
	const char *if_none_match;
};

struct store_options {
	const char *root;
	bool sink;     /* discard bodies */
	bool fast_tag; /* ETags from CRC64 instead of MD5 */
	bool keep_versions; /* every object that was ever there, in .s3d/<bucket>/versions/ */
};

/* Opens DIR, its buckets and their metadata; scans for files from elsewhere. */
int store_create(const struct store_options *options, struct store **ret);
void store_destroy(struct store *store);
const struct store_options *store_options(const struct store *store);
int store_tmp_fd(const struct store *store);
/* Notices every file that was added, changed or removed below DIR by others. */
int store_rescan(struct store *store);

/* 0 also if it existed; -EINVAL for a name that S3 would refuse. */
int store_bucket_create(struct store *store, const char *name, struct bucket **ret);
struct bucket *store_bucket_find(struct store *store, const char *name);
/* The bucket whose name and a dot begin `host`. */
struct bucket *store_bucket_of_host(struct store *store, const char *host);
/* The n-th bucket by age of discovery, NULL past the last. */
struct bucket *store_bucket_at(struct store *store, size_t n);
const char *bucket_name(const struct bucket *bucket);
size_t bucket_count(struct bucket *bucket);
int64_t bucket_created_ms(const struct bucket *bucket);
struct store *bucket_store(const struct bucket *bucket);
/* DIR/.s3d/<bucket> */
int bucket_meta_fd(const struct bucket *bucket);
/* For the owner's other rooms (multipart uploads). */
void **bucket_extra(struct bucket *bucket);

/* s3d_temp.c */
int temp_create(struct store *store, struct temp *ret);
int temp_write(struct temp *temp, const void *data, size_t len);
/* Appends a range of another file in the kernel. */
int temp_copy(struct temp *temp, int fd, uint64_t offset_bytes, uint64_t len_bytes);
/* Gives the file a name in another folder. */
int temp_rename(struct temp *temp, int dir_fd, const char *name);
void temp_discard(struct temp *temp);

/* Would the conditions hold now? */
int bucket_check(struct bucket *bucket, const char *key, const struct conditions *conditions);
/*
 * Makes the data the object, at once and as a whole, if the conditions hold. Takes `object` in any
 * case; *ret_object (may be NULL) is what was stored.
 */
int bucket_put(struct bucket *bucket, struct object *object, struct temp *temp,
	const struct conditions *conditions, struct object **ret_object);
/* An up-to-date object (whoever changed the file) and, unless ret_fd is NULL, its open data. */
int bucket_get(struct bucket *bucket, const char *key, struct object **ret, int *ret_fd);
/* The same for an object from a listing; -ENOENT if it is gone. */
int bucket_refresh(struct bucket *bucket, struct object **object);
int bucket_delete(struct bucket *bucket, const char *key, const struct conditions *conditions);
/* Calls `visit` with references it may keep, in key order from `key` on, until it returns a key to
 * go on from ("" = the next one) or NULL to stop. */
typedef const char *bucket_visit(void *cls, struct object *object);
void bucket_walk(struct bucket *bucket, const char *key, bool after, bucket_visit *visit,
	void *cls);
