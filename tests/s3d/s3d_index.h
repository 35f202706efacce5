/*
 * index - the objects of a bucket in the byte order of their keys (a skip list).
 *
 * Objects are immutable once they are in an index, and counted: whoever holds a reference may read
 * one without a lock. The index itself is guarded by its owner.
 */
#pragma once

#include "s3d_digest.h"

enum object_place {
	PLACE_PLAIN,  /* DIR/<bucket>/<key> */
	PLACE_ODD,    /* DIR/.s3d/<bucket>/odd/<escaped key> */
	PLACE_NOWHERE /* --sink: only its metadata exist */
};

struct object {
	_Atomic unsigned refs;
	unsigned scan; /* the last rescan that saw its file; the store's lock guards it */
	char *key;
	enum object_place place;
	uint64_t size_bytes;
	int64_t file_mtime_ns; /* of the stored file: tells whether somebody changed it */
	int64_t modified_ms;
	char etag[48]; /* without quotes; "" = not computed yet (a file from elsewhere) */
	uint64_t crc64;
	enum digest_kind checksum_kind; /* what the object shows; CRC64NVME means crc64 */
	char checksum[48];              /* base64, for the other kinds */
	char *owner;                    /* access key of the uploader */
	char *acl;                      /* canned ACL, "" = none */
	char *headers;                  /* stored headers, "name: value\n" each */
	char *part_sizes;               /* of a multipart object: "8388608,100"; else "" */
};

struct object *object_create(const char *key);
struct object *object_ref(struct object *object);
void object_unref(struct object *object);
void object_unrefp(struct object **object);
/* Replaces a string field. */
void object_set(char **field, const char *value);

struct index_node {
	struct object *object;
	struct index_node *next[];
};

struct index *index_create(void);
void index_destroy(struct index *index);
/* Borrowed, NULL if there is none. */
struct object *index_find(const struct index *index, const char *key);
/* Takes the caller's reference; an object with the same key is replaced. */
void index_insert(struct index *index, struct object *object);
bool index_remove(struct index *index, const char *key);
/* The first node whose key is >= key (> key if `after`). */
const struct index_node *index_seek(const struct index *index, const char *key, bool after);
size_t index_count(const struct index *index);
