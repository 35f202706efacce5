/*
 * remote_judge - what a reply to a LIST, HEAD or GET means for the one who asked: the translation
 * of the S3 classes to this room's errors, in one place.
 */
#include "remote_private.h"

enum remote_verdict remote_judge(const struct s3_reply *reply, int *ret_error)
{
	*ret_error = 0;
	switch (reply->class) {
	case S3_DONE:
		return REMOTE_OK;
	case S3_RETRY:
	case S3_THROTTLED:
	case S3_UNKNOWN: /* nothing was changed: asking again does no harm */
		*ret_error = reply->http_status == 200 ? -EIO : -ENETDOWN; /* it spoke, but what? */
		return REMOTE_AGAIN;
	case S3_CLOCK:
		*ret_error = -ENETDOWN;
		return REMOTE_AGAIN_AT_ONCE;
	case S3_NOT_FOUND:
		*ret_error = -ENOENT;
		return REMOTE_NO;
	case S3_AUTH:
	case S3_DENIED:
		*ret_error = -EACCES;
		return REMOTE_NO;
	case S3_CONFLICT:
		*ret_error = reply->http_status == 409 ? -ENETDOWN : -ESTALE;
		return reply->http_status == 409 ? REMOTE_AGAIN : REMOTE_NO; /* "another one just now" */
	case S3_FATAL:
		*ret_error = -EIO;
		return REMOTE_NO;
	}
	*ret_error = -EIO;
	return REMOTE_NO;
}
