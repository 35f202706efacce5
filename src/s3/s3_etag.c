/*
 * ETags that can be computed: a plain object's is the MD5 of its content, a multipart object's the
 * MD5 of its parts' MD5s with their number. Neither holds under some server-side encryptions.
 */
#include "cpgfs/s3.h"

#include <ctype.h>

#define MD5_BYTES 16

bool s3_etag_is_md5(const char *etag)
{
	for (size_t i = 0; i < 2 * MD5_BYTES; i++)
		if (!isxdigit((unsigned char)etag[i]))
			return false;
	return etag[2 * MD5_BYTES] == '\0';
}

bool s3_etag_of_parts(const struct s3_part *parts, size_t count, char out[S3_ETAG_MAX])
{
	struct md5_ctx *md5;
	uint8_t digest[MD5_BYTES];
	bool plain = true;
	if (!count || md5_create(&md5))
		return false;
	for (size_t i = 0; i < count && plain; i++) {
		plain = s3_etag_is_md5(parts[i].etag) &&
			hex_decode(parts[i].etag, 2 * MD5_BYTES, digest) == 0;
		if (plain)
			md5_update(md5, digest, sizeof(digest));
	}
	md5_finish(md5, digest);
	if (!plain)
		return false;
	hex_encode(digest, sizeof(digest), out);
	snprintf(out + 2 * MD5_BYTES, S3_ETAG_MAX - 2 * MD5_BYTES, "-%zu", count);
	return true;
}
