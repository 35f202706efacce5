/* The one place that says what an outcome means. */
#pragma once

#include "cpgfs/s3.h"

struct s3_verdict {
	enum s3_class class;
	const char *word; /* for reply.code where the server gave none */
};

/* How the attempt ended on our side, before or instead of an answer. */
enum s3_stop {
	S3_STOP_NONE,
	S3_STOP_CANCELLED,
	S3_STOP_SHUTDOWN,
	S3_STOP_BODY_TOO_SHORT,
	S3_STOP_BODY_READ_FAILED,
	S3_STOP_SINK_FAILED,
	S3_STOP_NO_CREDENTIALS,
	S3_STOP_EXPIRED_CREDENTIALS,
	S3_STOP_PAYLOAD_HASH_NEEDED,
	S3_STOP_RESENT,       /* curl wanted to send a change a second time by itself */
	S3_STOP_NO_MEMORY,
	S3_STOP_RANGE_IGNORED, /* GET: the answer is not the range asked for */
	S3_STOP_OTHER_VERSION, /* GET: the answer's ETag is not the one asked for */
	S3_STOP_BAD_ANSWER,    /* GET: a success that can't be the object's */
};

struct s3_verdict s3_classify_stop(enum s3_op op, enum s3_stop stop, bool fully_sent);
/* No answer, or a cut one; curl_code is a CURLcode. */
struct s3_verdict s3_classify_transport(enum s3_op op, int curl_code, bool fully_sent);
/* An answer that says no: a status from 300 up, or <Error> under any status. xml_code "" if none. */
struct s3_verdict s3_classify_error(
	enum s3_op op, int http_status, const char *xml_code, bool fully_sent);
/* A success that lacks what it must have; word names it. */
struct s3_verdict s3_classify_unusable(enum s3_op op, bool fully_sent, const char *word);
