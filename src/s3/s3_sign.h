/* AWS Signature Version 4, header form; pure. */
#pragma once

#include "cpgfs/base.h"

/* Headers of one request, kept in the order of their names (lower-case literals). Values are
 * trimmed and runs of spaces are one space, so what is signed is what is sent. */
#define S3_HEADERS_MAX 24
struct s3_headers {
	struct {
		const char *name;
		size_t value_at; /* in values */
	} items[S3_HEADERS_MAX];
	size_t count;
	struct buf values;
};
void s3_headers_init(struct s3_headers *h);
void s3_headers_release(struct s3_headers *h);
/* A control character in the value is an error (-EINVAL, latched in values.error). */
void s3_headers_add(struct s3_headers *h, const char *name, const char *value);
const char *s3_headers_value(const struct s3_headers *h, size_t i);
const char *s3_headers_find(const struct s3_headers *h, const char *name); /* or NULL */

#define S3_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"
#define S3_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct s3_sign_input {
	const char *method;
	const char *path;                 /* encoded */
	const char *query;                /* encoded and sorted */
	const struct s3_headers *headers; /* all are signed; x-amz-date and host among them */
	const char *payload;              /* hex SHA-256, or UNSIGNED-PAYLOAD */
	const char *date;                 /* 20130524T000000Z */
	const char *region, *service;
};

/* The key of a day, region and service, kept until one of them changes. */
struct s3_signing_key {
	char scope[128]; /* "20130524/us-east-1/s3"; "": none */
	uint8_t key[32];
};
void s3_signing_key_wipe(struct s3_signing_key *k);

/* "20130524T000000Z" */
void s3_sign_date(int64_t wall_ns, char out[17]);
void s3_canonical_request(struct buf *out, const struct s3_sign_input *in);
/* The value of the Authorization header. key is used while it fits, else made anew. -ENOMEM,
 * -EINVAL (region too long). */
must_check int s3_sign(struct buf *ret_authorization, struct s3_signing_key *key,
	const char *access_key, const char *secret_key, const struct s3_sign_input *in);
