/*
 * sig - AWS Signature Version 4, the server's side.
 *
 * Written from the specification (docs.aws.amazon.com, "Authenticating Requests (AWS Signature
 * Version 4)"), sharing nothing with the client it tests. Header and presigned-query
 * authentication, and the chain of signatures of aws-chunked bodies.
 */
#pragma once

#include "s3d_error.h"
#include "s3d_util.h"

/* One --key ACCESS:SECRET[:TOKEN][@BUCKET/PREFIX]. */
struct sig_key {
	char *access;
	char *secret;
	char *token;  /* NULL = the key has none */
	char *bucket; /* NULL = all; else only this bucket … */
	char *prefix; /* … and keys that begin so */
	int64_t expires_ms; /* 0: never */
	bool read_only;
};

struct sig_issued; /* keys made while running */
struct sig_keys {
	struct sig_key *keys;
	size_t len;
	const char *region;
	struct sig_issued *issued; /* the last one first; never taken away */
};

int sig_keys_add(struct sig_keys *keys, const char *spec);
/* A new key, of the server's life. Any thread. */
const struct sig_key *sig_keys_issue(struct sig_keys *keys, const char *bucket, const char *prefix,
	bool read_only, int64_t expires_ms);
void sig_keys_release(struct sig_keys *keys);

/* What to check, from the wire. */
struct sig_request {
	const char *method;
	const char *raw_path;
	const char *raw_query; /* NULL if there is none */
	int64_t now_ms;
	bool expire_token; /* play an expired token */
	const char *service;        /* NULL: s3 */
	const char *payload_sha256; /* of the body, for requests without x-amz-content-sha256 */
	/* Appends a header's value, several of a name joined with commas; false if absent. */
	bool (*header)(const void *cls, const char *name, struct buf *out);
	/* Calls `each` for the lower-case name of every header of the request. */
	void (*headers)(const void *cls, void (*each)(void *arg, const char *name), void *arg);
	const void *cls;
};

enum sig_payload {
	SIG_PAYLOAD_NONE,            /* no such header */
	SIG_PAYLOAD_SHA256,          /* sha256_hex is what the body must have */
	SIG_PAYLOAD_UNSIGNED,        /* UNSIGNED-PAYLOAD */
	SIG_PAYLOAD_CHUNKED,         /* STREAMING-AWS4-HMAC-SHA256-PAYLOAD */
	SIG_PAYLOAD_CHUNKED_TRAILER, /* …-TRAILER */
	SIG_PAYLOAD_UNSIGNED_TRAILER /* STREAMING-UNSIGNED-PAYLOAD-TRAILER */
};

struct sig {
	const struct sig_key *key; /* NULL: anonymous */
	enum sig_payload payload;
	char sha256_hex[65];
	char date[17];       /* 20260131T123456Z */
	char scope[128];     /* 20260131/region/s3/aws4_request */
	char signature[65];  /* of the request, then of the last chunk */
	uint8_t signing_key[32];
};

enum sig_payload sig_payload_from_header(const char *value, char sha256_hex[65]);
const char *sig_payload_name(enum sig_payload payload);

/* Without keys everything passes. */
enum s3d_error sig_check(const struct sig_keys *keys, const struct sig_request *request,
	struct sig *ret);
/* The signature of the next chunk, or of the trailer, compared with what the client sent. */
bool sig_check_chunk(struct sig *sig, const char *chunk_sha256_hex, const char *signature);
bool sig_check_trailer(struct sig *sig, const char *trailer_sha256_hex, const char *signature);
