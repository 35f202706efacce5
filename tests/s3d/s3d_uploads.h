/*
 * uploads - unfinished multipart uploads and their parts, on disk and in memory.
 *
 * Threads: any; one mutex per bucket. An upload that is being completed is the completing thread's
 * alone: to all others it is gone, and its parts stay as they are.
 * Errors:  0 or -errno; -ENOENT no such upload.
 */
#pragma once

#include "s3d_store.h"

struct part {
	unsigned number;
	uint64_t size_bytes;
	int64_t modified_ms;
	char etag[48];
	uint64_t crc64;
	enum digest_kind checksum_kind; /* a checksum of another kind that was verified */
	char checksum[48];
};

struct upload {
	struct upload *next; /* by key, then by age */
	char id[40];
	char *key;
	char *owner;
	char *acl;
	char *headers;
	int64_t initiated_ms;
	enum digest_kind algorithm; /* as declared; DIGEST_NONE = not */
	int dir_fd;
	bool completing;
	struct part *parts; /* by number */
	size_t parts_len;
};

struct uploads;

/* Reads the unfinished uploads of a bucket the first time. */
struct uploads *uploads_of(struct bucket *bucket);
size_t uploads_count(struct bucket *bucket);
void uploads_destroy_all(struct store *store);

struct upload *upload_create(const char *key);
void upload_destroy(struct upload *upload);
/* Takes the upload (also when it fails), gives it an id and a place on disk. */
int uploads_add(struct uploads *uploads, struct upload *upload, char ret_id[40]);
/* Keeps a part's data; an older part of that number goes. */
int uploads_put_part(struct uploads *uploads, const char *id, const char *key,
	const struct part *part, struct temp *temp);
/* What was declared at Create; -ENOENT. */
int uploads_algorithm(struct uploads *uploads, const char *id, const char *key,
	enum digest_kind *ret);
/* The upload becomes the caller's until uploads_return() or uploads_remove(). */
struct upload *uploads_take(struct uploads *uploads, const char *id, const char *key);
void uploads_return(struct uploads *uploads, struct upload *upload);
/* Ends an upload taken before, and frees it. */
void uploads_remove(struct uploads *uploads, struct upload *upload);
const struct part *upload_part(const struct upload *upload, uint64_t number);
/* The data of a part; -1 in a sink, else a descriptor or -errno. */
int upload_open_part(const struct upload *upload, unsigned number);
/* Calls `visit` for each upload, in order, under the lock, until it returns false. */
void uploads_walk(struct uploads *uploads, bool (*visit)(void *cls, const struct upload *upload),
	void *cls);
/* The same for one; -ENOENT. */
int uploads_look(struct uploads *uploads, const char *id, const char *key,
	void (*look)(void *cls, const struct upload *upload), void *cls);
