/* Percent-encoding as S3 wants it, once and never normalised; and back for listings. */
#pragma once

#include "cpgfs/base.h"

/* A key as the path of a request: all but A-Z a-z 0-9 - . _ ~ and '/' becomes %XX. */
void s3_encode_path(struct buf *out, const char *key);
/* A query name or value: '/' is encoded too. */
void s3_encode_param(struct buf *out, const char *text);
/* Text inside an XML element. */
void s3_encode_xml(struct buf *out, const char *text);

/* A key of a listing made with encoding-type=url: %XX and '+' (a space). In place; the length comes
 * back because the text may hold NUL bytes. -EBADMSG: a broken escape. */
must_check int s3_decode_listed(char *text, size_t *ret_len);

struct s3_param {
	const char *name, *value; /* not encoded; a NULL value is an empty one */
};
/* "a=1&b=2", encoded and in the order SigV4 wants. At most S3_PARAMS_MAX. */
#define S3_PARAMS_MAX 12
void s3_encode_query(struct buf *out, const struct s3_param *params, size_t count);
