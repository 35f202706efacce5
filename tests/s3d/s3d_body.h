/*
 * body - a request's body on its way in: decoded, digested, verified, and kept in memory or a file.
 */
#pragma once

#include "s3d_chunked.h"
#include "s3d_store.h"

enum body_kind {
	BODY_NONE,   /* discarded */
	BODY_MEMORY, /* XML, at most 2 MiB */
	BODY_FILE,
};

/* What the headers promise. */
struct body_options {
	enum body_kind kind;
	struct store *store;
	struct sig *sig;            /* borrowed; its payload kind counts */
	bool crc64nvme;             /* false: that header is ignored */
	uint64_t length_bytes;      /* of the decoded body; UINT64_MAX = unknown */
	const char *content_md5;    /* NULL = none, likewise below */
	enum digest_kind checksum;  /* of x-amz-checksum-<kind>, or announced in x-amz-trailer */
	const char *checksum_value; /* NULL: it comes as a trailer */
};

struct body {
	enum body_kind kind;
	struct body_options options;
	uint64_t wire_bytes;
	uint64_t decoded_bytes;
	enum s3d_error error; /* the first; later bytes are only counted */
	struct chunked *chunked;
	struct digest sha256;
	struct digest md5;
	struct digest checksum;
	uint64_t crc64;
	struct temp temp;
	struct buf memory;
	char etag[48];
	char checksum_text[48]; /* verified, base64 */
};

enum s3d_error body_init(struct body *body, const struct body_options *options);
void body_feed(struct body *body, const char *data, size_t len);
/* All came in: is it what was promised? */
enum s3d_error body_finish(struct body *body);
/* Is `etag` the MD5 of the content? Else it is cheaper (--etag fast). */
bool body_has_md5(const struct body *body);
void body_release(struct body *body);
