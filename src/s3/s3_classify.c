/*
 * Outcome → class. An XML code says most and is looked up first, then the status, then the curl
 * code. Four answers matter beyond success:
 *
 *   RETRY    not applied, or repeating it is harmless whatever happened
 *   UNKNOWN  the request left completely and the bucket may have changed: the caller asks the
 *            bucket (HEAD) before it sends anything for that key again
 *   THROTTLED, AUTH, DENIED, CLOCK, CONFLICT, NOT_FOUND: not applied, and why
 *   FATAL    the same request will be refused for ever
 *
 * "Perhaps applied" is the doubt of operations that change an object (s3_op_changes_bucket); parts
 * and reads are repeated. Words of ours stand in the tables below.
 *
 * Source: S3 API reference, "Error responses"; curl's libcurl-errors(3).
 */
#include "s3_classify.h"

#include "s3_request.h"

#include <curl/curl.h>

/* ---- a class for people ------------------------------------------------------------------------- */

const char *s3_class_text(enum s3_class c)
{
	switch (c) {
	case S3_DONE:
		return "done";
	case S3_NOT_FOUND:
		return "not found";
	case S3_RETRY:
		return "retry";
	case S3_THROTTLED:
		return "throttled";
	case S3_AUTH:
		return "credentials refused";
	case S3_DENIED:
		return "denied";
	case S3_CLOCK:
		return "put right";
	case S3_CONFLICT:
		return "conflict";
	case S3_FATAL:
		return "refused";
	case S3_UNKNOWN:
		return "outcome unknown";
	}
	return "?";
}

/* Not applied for certain only if it did not leave completely or changes no object. */
static struct s3_verdict doubtful(enum s3_op op, bool fully_sent, const char *word)
{
	bool perhaps_applied = fully_sent && s3_op_changes_bucket(op);
	return (struct s3_verdict){perhaps_applied ? S3_UNKNOWN : S3_RETRY, word};
}

/* ---- ended by us ---------------------------------------------------------------------------------- */

struct s3_verdict s3_classify_stop(enum s3_op op, enum s3_stop stop, bool fully_sent)
{
	switch (stop) {
	case S3_STOP_NONE:
		break;
	case S3_STOP_CANCELLED:
		return doubtful(op, fully_sent, "Cancelled");
	case S3_STOP_SHUTDOWN:
		return doubtful(op, fully_sent, "ShuttingDown");
	case S3_STOP_BODY_TOO_SHORT:
		return (struct s3_verdict){S3_RETRY, "BodyTooShort"};
	case S3_STOP_BODY_READ_FAILED:
		return (struct s3_verdict){S3_RETRY, "BodyReadFailed"};
	case S3_STOP_SINK_FAILED:
		return (struct s3_verdict){S3_RETRY, "SinkFailed"};
	case S3_STOP_NO_CREDENTIALS:
		return (struct s3_verdict){S3_AUTH, "NoCredentials"};
	case S3_STOP_EXPIRED_CREDENTIALS:
		return (struct s3_verdict){S3_AUTH, "ExpiredCredentials"};
	case S3_STOP_PAYLOAD_HASH_NEEDED:
		return (struct s3_verdict){S3_RETRY, "PayloadHashNeeded"};
	case S3_STOP_RESENT:
		return doubtful(op, true, "ConnectionLost");
	case S3_STOP_NO_MEMORY:
		return doubtful(op, fully_sent, "OutOfMemory");
	case S3_STOP_RANGE_IGNORED:
		return (struct s3_verdict){S3_FATAL, "RangeIgnored"};
	case S3_STOP_OTHER_VERSION:
		return (struct s3_verdict){S3_CONFLICT, "EtagDiffers"};
	case S3_STOP_BAD_ANSWER:
		return (struct s3_verdict){S3_RETRY, "BadAnswer"};
	}
	return doubtful(op, fully_sent, "Stopped");
}

/* ---- no whole answer -------------------------------------------------------------------------------- */

struct transport_row {
	int curl_code;
	const char *word;
	bool never; /* our configuration is wrong: trying again is no use */
};

static const struct transport_row transport_rows[] = {
	{CURLE_COULDNT_RESOLVE_PROXY, "ProxyNotResolved", false},
	{CURLE_COULDNT_RESOLVE_HOST, "NameNotResolved", false},
	{CURLE_COULDNT_CONNECT, "ConnectFailed", false},
	{CURLE_OPERATION_TIMEDOUT, "Timeout", false},
	{CURLE_SSL_CONNECT_ERROR, "TlsFailed", false},
	{CURLE_PEER_FAILED_VERIFICATION, "TlsNotTrusted", false},
	{CURLE_SSL_CACERT_BADFILE, "CaBundleUnreadable", true},
	{CURLE_URL_MALFORMAT, "BadUrl", true},
	{CURLE_SEND_ERROR, "SendFailed", false},
	{CURLE_RECV_ERROR, "ReceiveFailed", false},
	{CURLE_GOT_NOTHING, "NoAnswer", false},
	{CURLE_PARTIAL_FILE, "AnswerCut", false},
	{CURLE_WEIRD_SERVER_REPLY, "NotHttp", false},
	{CURLE_UNSUPPORTED_PROTOCOL, "NotHttp", false}, /* curl's word for an HTTP/0.9 answer */
	{CURLE_SEND_FAIL_REWIND, "ConnectionLost", false},
	{CURLE_ABORTED_BY_CALLBACK, "ConnectionLost", false},
	{CURLE_OUT_OF_MEMORY, "OutOfMemory", false},
	{CURLE_OK, "NoAnswer", false}, /* an end without a final status */
};

struct s3_verdict s3_classify_transport(enum s3_op op, int curl_code, bool fully_sent)
{
	for (size_t i = 0; i < array_len(transport_rows); i++) {
		const struct transport_row *row = &transport_rows[i];
		if (row->curl_code != curl_code)
			continue;
		if (row->never && !fully_sent)
			return (struct s3_verdict){S3_FATAL, row->word};
		return doubtful(op, fully_sent, row->word);
	}
	return doubtful(op, fully_sent, "TransferFailed");
}

/* ---- answers that say no ---------------------------------------------------------------------------- */

/* DOUBT: by doubtful(); the others as named. */
enum row_class { DOUBT = -1 };

struct code_row {
	const char *code;
	int class;
};

static const struct code_row code_rows[] = {
	{"NoSuchKey", S3_NOT_FOUND},
	{"NoSuchUpload", S3_NOT_FOUND},
	{"NoSuchVersion", S3_NOT_FOUND},
	{"NoSuchBucket", S3_FATAL},

	{"SlowDown", S3_THROTTLED},
	{"SlowDownRead", S3_THROTTLED},
	{"SlowDownWrite", S3_THROTTLED},
	{"Throttling", S3_THROTTLED},
	{"ThrottlingException", S3_THROTTLED},
	{"ThrottledException", S3_THROTTLED},
	{"RequestThrottled", S3_THROTTLED},
	{"RequestThrottledException", S3_THROTTLED},
	{"RequestLimitExceeded", S3_THROTTLED},
	{"TooManyRequests", S3_THROTTLED},
	{"TooManyRequestsException", S3_THROTTLED},
	{"BandwidthLimitExceeded", S3_THROTTLED},
	{"LimitExceededException", S3_THROTTLED},
	{"PriorRequestNotComplete", S3_THROTTLED},

	{"ExpiredToken", S3_AUTH},
	{"ExpiredTokenException", S3_AUTH},
	{"InvalidAccessKeyId", S3_AUTH},
	{"InvalidClientTokenId", S3_AUTH},
	{"InvalidToken", S3_AUTH},
	{"InvalidSecurity", S3_AUTH},
	{"TokenRefreshRequired", S3_AUTH},
	{"SignatureDoesNotMatch", S3_AUTH},
	{"RequestExpired", S3_AUTH},
	{"UnrecognizedClientException", S3_AUTH},
	{"MissingSecurityHeader", S3_AUTH},
	{"NotSignedUp", S3_AUTH},

	{"AccessDenied", S3_DENIED},
	{"AllAccessDisabled", S3_DENIED},
	{"AccountProblem", S3_DENIED},
	{"UserSuspended", S3_DENIED},
	{"QuotaExceeded", S3_DENIED},

	{"RequestTimeTooSkewed", S3_CLOCK},

	{"PreconditionFailed", S3_CONFLICT},
	{"ConditionalRequestConflict", S3_CONFLICT},

	{"RequestTimeout", S3_RETRY},
	{"BadDigest", S3_RETRY},
	{"XAmzContentSHA256Mismatch", S3_RETRY},
	{"XAmzContentChecksumMismatch", S3_RETRY},
	{"IncompleteBody", S3_RETRY},
	{"OperationAborted", S3_RETRY},
	{"TemporaryRedirect", S3_RETRY},
	{"XMinioServerNotInitialized", S3_RETRY},
	{"XMinioStorageFull", S3_RETRY},

	{"InternalError", DOUBT},
	{"InternalFailure", DOUBT},
	{"InternalServerError", DOUBT},
	{"ServiceUnavailable", DOUBT},
	{"ServiceUnavailableException", DOUBT},
	{"ServiceFailure", DOUBT},
	{"Busy", DOUBT},
};

struct status_row {
	int status;
	int class;
	const char *word;
};

/* Answers without a code we know. A missing key is only what a HEAD says without XML: any other
 * 404 that is not S3's XML comes from something in between, and passes. */
static const struct status_row status_rows[] = {
	{301, S3_FATAL, "PermanentRedirect"},
	{302, S3_RETRY, "Redirected"},
	{303, S3_RETRY, "Redirected"},
	{307, S3_RETRY, "TemporaryRedirect"},
	{308, S3_FATAL, "PermanentRedirect"},
	{401, S3_AUTH, "Unauthorized"},
	{403, S3_DENIED, "Forbidden"},
	{404, S3_RETRY, "Http404"},
	{407, S3_RETRY, "ProxyRefused"},
	{408, S3_RETRY, "RequestTimeout"},
	{409, S3_CONFLICT, "Conflict"},
	{412, S3_CONFLICT, "PreconditionFailed"},
	{416, S3_FATAL, "InvalidRange"},
	{425, S3_RETRY, "TooEarly"},
	{429, S3_THROTTLED, "TooManyRequests"},
	{501, S3_FATAL, "NotImplemented"},
	{505, S3_FATAL, "HttpVersionRefused"},
	{507, S3_RETRY, "ServerFull"},
	{509, S3_THROTTLED, "BandwidthLimitExceeded"},
};

static struct s3_verdict row_verdict(
	enum s3_op op, int class, bool fully_sent, const char *word)
{
	if (class == DOUBT)
		return doubtful(op, fully_sent, word);
	return (struct s3_verdict){(enum s3_class)class, word};
}

static struct s3_verdict classify_head(enum s3_op op, int status)
{
	if (status == 404)
		return (struct s3_verdict){
			S3_NOT_FOUND, op == S3_HEAD_BUCKET ? "NoSuchBucket" : "NotFound"};
	if (status == 400) /* an expired token, a wrong region: HEAD can't say which */
		return (struct s3_verdict){S3_DENIED, "BadRequest"};
	return (struct s3_verdict){S3_THROTTLED, "SlowDown"}; /* 503 */
}

static struct s3_verdict classify_status(enum s3_op op, int status, bool fully_sent)
{
	bool is_head = op == S3_HEAD || op == S3_HEAD_BUCKET;
	if (is_head && (status == 404 || status == 400 || status == 503))
		return classify_head(op, status);
	for (size_t i = 0; i < array_len(status_rows); i++)
		if (status_rows[i].status == status)
			return row_verdict(
				op, status_rows[i].class, fully_sent, status_rows[i].word);
	if (status >= 500)
		return doubtful(op, fully_sent, "ServerError");
	if (status >= 400)
		return (struct s3_verdict){S3_FATAL, "Refused"};
	return (struct s3_verdict){S3_FATAL, "UnexpectedStatus"};
}

struct s3_verdict s3_classify_error(
	enum s3_op op, int http_status, const char *xml_code, bool fully_sent)
{
	for (size_t i = 0; i < array_len(code_rows); i++)
		if (strcmp(code_rows[i].code, xml_code) == 0)
			return row_verdict(op, code_rows[i].class, fully_sent, code_rows[i].code);
	if (!*xml_code)
		return classify_status(op, http_status, fully_sent);
	/* S3's own "no" with a code that needs no rule of its own */
	if (http_status == 404)
		return (struct s3_verdict){S3_NOT_FOUND, "NotFound"};
	if (http_status == 409)
		return (struct s3_verdict){S3_FATAL, "Conflict"};
	if (http_status < 300)
		return doubtful(op, fully_sent, "Error");
	return classify_status(op, http_status, fully_sent);
}

struct s3_verdict s3_classify_unusable(enum s3_op op, bool fully_sent, const char *word)
{
	return doubtful(op, fully_sent, word);
}
