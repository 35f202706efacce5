/*
 * error - the S3 errors s3d answers with: code, HTTP status, message.
 */
#include "s3d_error.h"

#include <errno.h>

static const struct error_text error_texts[] = {
#define ERROR_TEXT(name, status, code, message) [ERROR_##name] = {status, code, message},
	S3D_ERRORS(ERROR_TEXT)
#undef ERROR_TEXT
};

const struct error_text *error_text(enum s3d_error error)
{
	return &error_texts[error];
}

enum s3d_error error_from_errno(int r)
{
	switch (r) {
	case 0:
		return ERROR_NONE;
	case -ENOENT:
		return ERROR_NO_SUCH_KEY;
	case -EEXIST:
		return ERROR_PRECONDITION_FAILED;
	default:
		return ERROR_INTERNAL;
	}
}
