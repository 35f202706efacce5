/*
 * Outcome → class: errors by code and status, lost answers, answers that lack something; the proof
 * of content; backoff and the retry bucket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "s3_reply.h"

#include <curl/curl.h>

/* ---- one outcome, played through headers, body and end --------------------------------------------- */

struct play {
	enum s3_op op;
	const char *head; /* status line and headers, lines ended by \n; NULL: no answer */
	const char *body;
	CURLcode curl;
	bool not_sent;
	enum s3_stop stop;
	/* expected */
	enum s3_class class;
	const char *code;
};

static struct s3_asked asked_by(enum s3_op op)
{
	static char nothing[] = "";
	return (struct s3_asked){.op = op, .prefix = nothing, .token = nothing};
}

static void feed_head(struct s3_answer *a, const char *head)
{
	while (*head) {
		size_t len = strcspn(head, "\n");
		char line[512];
		snprintf(line, sizeof(line), "%.*s\r\n", (int)len, head);
		s3_answer_header(a, line, strlen(line));
		head += len + (head[len] == '\n');
	}
	s3_answer_header(a, "\r\n", 2);
}

static void play_with(struct s3_answer *a, const struct play *p, const struct s3_asked *asked)
{
	const struct s3_end end = {.stop = p->stop,
		.curl_code = p->curl,
		.curl_text = "curl says why",
		.fully_sent = !p->not_sent};

	s3_answer_init(a);
	if (p->head)
		feed_head(a, p->head);
	if (p->body) {
		buf_add_text(&a->body, p->body);
		a->reply.bytes_received = strlen(p->body);
	}
	s3_answer_judge(a, asked, &end);
}

static void run_plays(const struct play *plays, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct s3_answer a;
		struct s3_asked asked = asked_by(plays[i].op);
		play_with(&a, &plays[i], &asked);
		if (a.reply.class != plays[i].class || strcmp(a.reply.code, plays[i].code) != 0)
			print_error("play %zu (%s): %s, code %s\n", i, s3_op_text(plays[i].op),
				s3_class_text(a.reply.class), a.reply.code);
		assert_int_equal(a.reply.class, plays[i].class);
		assert_string_equal(a.reply.code, plays[i].code);
		assert_int_equal(a.reply.body_fully_sent, !plays[i].not_sent);
		if (a.reply.class != S3_DONE)
			assert_true(a.reply.message[0]);
		s3_answer_release(&a);
	}
}

#define ERROR_XML(code) "<Error><Code>" code "</Code><Message>why</Message></Error>"
#define OK "HTTP/1.1 200 OK"
#define ETAG "\nETag: \"0cc175b9c0f1b6a831c399e269772661\""
#define COMPLETE_XML "<CompleteMultipartUploadResult><ETag>\"e-1\"</ETag></CompleteMultipartUploadResult>"

/* ---- answers that say no ------------------------------------------------------------------------------ */

static void errors_by_code(void **state)
{
	static const struct {
		int status;
		const char *code;
		enum s3_class put, get; /* after the whole request was sent */
	} rows[] = {
		{404, "NoSuchKey", S3_NOT_FOUND, S3_NOT_FOUND},
		{404, "NoSuchUpload", S3_NOT_FOUND, S3_NOT_FOUND},
		{404, "NoSuchBucket", S3_FATAL, S3_FATAL},
		{404, "NoSuchSomethingElse", S3_NOT_FOUND, S3_NOT_FOUND},
		{503, "SlowDown", S3_THROTTLED, S3_THROTTLED},
		{429, "TooManyRequests", S3_THROTTLED, S3_THROTTLED},
		{400, "RequestLimitExceeded", S3_THROTTLED, S3_THROTTLED},
		{400, "ExpiredToken", S3_AUTH, S3_AUTH},
		{403, "InvalidAccessKeyId", S3_AUTH, S3_AUTH},
		{403, "SignatureDoesNotMatch", S3_AUTH, S3_AUTH},
		{400, "InvalidToken", S3_AUTH, S3_AUTH},
		{400, "TokenRefreshRequired", S3_AUTH, S3_AUTH},
		{400, "RequestExpired", S3_AUTH, S3_AUTH},
		{403, "AccessDenied", S3_DENIED, S3_DENIED},
		{403, "QuotaExceeded", S3_DENIED, S3_DENIED},
		{403, "RequestTimeTooSkewed", S3_CLOCK, S3_CLOCK},
		{412, "PreconditionFailed", S3_CONFLICT, S3_CONFLICT},
		{409, "ConditionalRequestConflict", S3_CONFLICT, S3_CONFLICT},
		{409, "OperationAborted", S3_RETRY, S3_RETRY},
		{409, "BucketNotEmpty", S3_FATAL, S3_FATAL},
		{400, "RequestTimeout", S3_RETRY, S3_RETRY},
		{400, "BadDigest", S3_RETRY, S3_RETRY},
		{400, "XAmzContentSHA256Mismatch", S3_RETRY, S3_RETRY},
		{400, "IncompleteBody", S3_RETRY, S3_RETRY},
		{500, "InternalError", S3_UNKNOWN, S3_RETRY},
		{503, "ServiceUnavailable", S3_UNKNOWN, S3_RETRY},
		{500, "SomethingNew", S3_UNKNOWN, S3_RETRY},
		{400, "InvalidRequest", S3_FATAL, S3_FATAL},
		{400, "AuthorizationHeaderMalformed", S3_FATAL, S3_FATAL},
		{400, "EntityTooLarge", S3_FATAL, S3_FATAL},
		{400, "InvalidPart", S3_FATAL, S3_FATAL},
		{301, "PermanentRedirect", S3_FATAL, S3_FATAL},
		{307, "TemporaryRedirect", S3_RETRY, S3_RETRY},
		{501, "NotImplemented", S3_FATAL, S3_FATAL},
		{405, "MethodNotAllowed", S3_FATAL, S3_FATAL},
	};

	for (size_t i = 0; i < array_len(rows); i++) {
		char head[64], body[256];
		snprintf(head, sizeof(head), "HTTP/1.1 %d X", rows[i].status);
		snprintf(body, sizeof(body), "<Error><Code>%s</Code></Error>", rows[i].code);
		const struct play plays[] = {
			{S3_PUT, head, body, CURLE_OK, false, 0, rows[i].put, rows[i].code},
			{S3_GET, head, body, CURLE_OK, false, 0, rows[i].get, rows[i].code},
		};
		run_plays(plays, array_len(plays));
	}
}

static void errors_by_status(void **state)
{
	const struct play plays[] = {
		/* HEAD carries no XML */
		{S3_HEAD, "HTTP/1.1 404 X", NULL, 0, false, 0, S3_NOT_FOUND, "NotFound"},
		{S3_HEAD_BUCKET, "HTTP/1.1 404 X", NULL, 0, false, 0, S3_NOT_FOUND, "NoSuchBucket"},
		{S3_HEAD, "HTTP/1.1 403 X", NULL, 0, false, 0, S3_DENIED, "Forbidden"},
		{S3_HEAD, "HTTP/1.1 503 X", NULL, 0, false, 0, S3_THROTTLED, "SlowDown"},
		{S3_HEAD, "HTTP/1.1 412 X", NULL, 0, false, 0, S3_CONFLICT, "PreconditionFailed"},
		{S3_HEAD, "HTTP/1.1 400 X", NULL, 0, false, 0, S3_DENIED, "BadRequest"},
		/* not S3 speaking: it passes */
		{S3_PUT, "HTTP/1.1 404 X", "<html></html>", 0, false, 0, S3_RETRY, "Http404"},
		{S3_LIST, "HTTP/1.1 404 X", "", 0, false, 0, S3_RETRY, "Http404"},
		{S3_GET, "HTTP/1.1 302 X\nLocation: http://login/", "", 0, false, 0, S3_RETRY,
			"Redirected"},
		/* a proxy's word on a request that left: perhaps applied */
		{S3_PUT, "HTTP/1.1 502 X", "bad gateway", 0, false, 0, S3_UNKNOWN, "ServerError"},
		{S3_PUT, "HTTP/1.1 503 X", "", 0, false, 0, S3_UNKNOWN, "ServerError"},
		{S3_PUT, "HTTP/1.1 504 X", "", 0, true, 0, S3_RETRY, "ServerError"},
		{S3_UPLOAD_PART, "HTTP/1.1 500 X", "", 0, false, 0, S3_RETRY, "ServerError"},
		{S3_GET, "HTTP/1.1 500 X", "", 0, false, 0, S3_RETRY, "ServerError"},
		{S3_PUT, "HTTP/1.1 429 X", "", 0, false, 0, S3_THROTTLED, "TooManyRequests"},
		{S3_PUT, "HTTP/1.1 408 X", "", 0, false, 0, S3_RETRY, "RequestTimeout"},
		{S3_PUT, "HTTP/1.1 412 X", "", 0, false, 0, S3_CONFLICT, "PreconditionFailed"},
		{S3_GET, "HTTP/1.1 416 X", "", 0, false, 0, S3_FATAL, "InvalidRange"},
		{S3_PUT, "HTTP/1.1 418 X", "", 0, false, 0, S3_FATAL, "Refused"},
		/* the code was read although the body was cut */
		{S3_PUT, "HTTP/1.1 403 X", "<Error><Code>AccessDenied</Code><Mes",
			CURLE_PARTIAL_FILE, false, 0, S3_DENIED, "AccessDenied"},
	};
	run_plays(plays, array_len(plays));
}

/* ---- no answer ------------------------------------------------------------------------------------------ */

static void lost_answers(void **state)
{
	static const enum s3_op changes[] = {
		S3_PUT, S3_DELETE, S3_COPY, S3_CREATE_MULTIPART, S3_COMPLETE_MULTIPART};
	static const enum s3_op harmless[] = {S3_HEAD_BUCKET, S3_LIST, S3_HEAD, S3_GET,
		S3_UPLOAD_PART, S3_UPLOAD_PART_COPY, S3_ABORT_MULTIPART, S3_LIST_PARTS, S3_GET_ACL};
	static const struct {
		CURLcode curl;
		const char *word;
	} ends[] = {
		{CURLE_GOT_NOTHING, "NoAnswer"},
		{CURLE_RECV_ERROR, "ReceiveFailed"},
		{CURLE_OPERATION_TIMEDOUT, "Timeout"},
		{CURLE_SEND_ERROR, "SendFailed"},
		{CURLE_WEIRD_SERVER_REPLY, "NotHttp"},
		{CURLE_HTTP2, "TransferFailed"},
	};

	for (size_t e = 0; e < array_len(ends); e++) {
		for (size_t i = 0; i < array_len(changes); i++) {
			const struct play plays[] = {
				{changes[i], NULL, NULL, ends[e].curl, false, 0, S3_UNKNOWN,
					ends[e].word},
				{changes[i], NULL, NULL, ends[e].curl, true, 0, S3_RETRY,
					ends[e].word},
			};
			run_plays(plays, array_len(plays));
		}
		for (size_t i = 0; i < array_len(harmless); i++) {
			const struct play play = {harmless[i], NULL, NULL, ends[e].curl, false, 0,
				S3_RETRY, ends[e].word};
			run_plays(&play, 1);
		}
	}
}

static void never_left(void **state)
{
	const struct play plays[] = {
		{S3_PUT, NULL, NULL, CURLE_COULDNT_CONNECT, true, 0, S3_RETRY, "ConnectFailed"},
		{S3_PUT, NULL, NULL, CURLE_COULDNT_RESOLVE_HOST, true, 0, S3_RETRY,
			"NameNotResolved"},
		{S3_PUT, NULL, NULL, CURLE_PEER_FAILED_VERIFICATION, true, 0, S3_RETRY,
			"TlsNotTrusted"},
		{S3_PUT, NULL, NULL, CURLE_SSL_CACERT_BADFILE, true, 0, S3_FATAL,
			"CaBundleUnreadable"},
		/* interim answers only: 100, then nothing */
		{S3_PUT, "HTTP/1.1 100 Continue", NULL, CURLE_GOT_NOTHING, false, 0, S3_UNKNOWN,
			"NoAnswer"},
	};
	run_plays(plays, array_len(plays));
}

static void ended_by_us(void **state)
{
	const struct play plays[] = {
		{S3_PUT, NULL, NULL, 0, true, S3_STOP_CANCELLED, S3_RETRY, "Cancelled"},
		{S3_PUT, NULL, NULL, 0, true, S3_STOP_SHUTDOWN, S3_RETRY, "ShuttingDown"},
		{S3_PUT, NULL, NULL, 0, false, S3_STOP_SHUTDOWN, S3_UNKNOWN, "ShuttingDown"},
		{S3_GET, NULL, NULL, 0, false, S3_STOP_SHUTDOWN, S3_RETRY, "ShuttingDown"},
		{S3_PUT, NULL, NULL, 0, true, S3_STOP_BODY_TOO_SHORT, S3_RETRY, "BodyTooShort"},
		{S3_PUT, NULL, NULL, 0, true, S3_STOP_BODY_READ_FAILED, S3_RETRY, "BodyReadFailed"},
		{S3_GET, OK, NULL, 0, false, S3_STOP_SINK_FAILED, S3_RETRY, "SinkFailed"},
		{S3_PUT, NULL, NULL, 0, true, S3_STOP_NO_CREDENTIALS, S3_AUTH, "NoCredentials"},
		{S3_PUT, NULL, NULL, 0, true, S3_STOP_EXPIRED_CREDENTIALS, S3_AUTH,
			"ExpiredCredentials"},
		{S3_DELETE, NULL, NULL, 0, false, S3_STOP_RESENT, S3_UNKNOWN, "ConnectionLost"},
		{S3_UPLOAD_PART, NULL, NULL, 0, false, S3_STOP_RESENT, S3_RETRY, "ConnectionLost"},
		{S3_GET, OK, NULL, 0, false, S3_STOP_RANGE_IGNORED, S3_FATAL, "RangeIgnored"},
		{S3_GET, OK, NULL, 0, false, S3_STOP_OTHER_VERSION, S3_CONFLICT, "EtagDiffers"},
		{S3_GET, OK, NULL, 0, false, S3_STOP_BAD_ANSWER, S3_RETRY, "BadAnswer"},
	};
	run_plays(plays, array_len(plays));
}

/* ---- answers that say yes --------------------------------------------------------------------------------- */

static void successes(void **state)
{
	const struct play plays[] = {
		{S3_HEAD_BUCKET, OK, NULL, 0, false, 0, S3_DONE, ""},
		{S3_HEAD, OK ETAG "\nContent-Length: 5", NULL, 0, false, 0, S3_DONE, ""},
		{S3_PUT, OK ETAG, "", 0, false, 0, S3_DONE, ""},
		{S3_UPLOAD_PART, OK ETAG, "", 0, false, 0, S3_DONE, ""},
		{S3_DELETE, "HTTP/1.1 204 X", "", 0, false, 0, S3_DONE, ""},
		{S3_ABORT_MULTIPART, "HTTP/1.1 204 X", "", 0, false, 0, S3_DONE, ""},
		{S3_COMPLETE_MULTIPART, OK, "\n \n" COMPLETE_XML, 0, false, 0, S3_DONE, ""},
		{S3_COPY, OK, "<CopyObjectResult><ETag>e</ETag></CopyObjectResult>", 0, false, 0,
			S3_DONE, ""},
		{S3_UPLOAD_PART_COPY, OK, "<CopyPartResult><ETag>e</ETag></CopyPartResult>", 0,
			false, 0, S3_DONE, ""},
		{S3_CREATE_MULTIPART, OK,
			"<InitiateMultipartUploadResult><UploadId>u</UploadId>"
			"</InitiateMultipartUploadResult>", 0, false, 0, S3_DONE, ""},
		{S3_LIST, OK, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>", 0,
			false, 0, S3_DONE, ""},
		{S3_LIST_PARTS, OK, "<ListPartsResult/>", 0, false, 0, S3_DONE, ""},
		{S3_GET_ACL, OK, "<AccessControlPolicy/>", 0, false, 0, S3_DONE, ""},
		/* an interim answer first */
		{S3_PUT, "HTTP/1.1 100 Continue\nX: y\n\n" OK ETAG, "", 0, false, 0, S3_DONE, ""},
	};
	run_plays(plays, array_len(plays));
}

static void incomplete_successes(void **state)
{
	const struct play plays[] = {
		{S3_PUT, OK, "", 0, false, 0, S3_UNKNOWN, "NoEtag"},
		{S3_UPLOAD_PART, OK, "", 0, false, 0, S3_UNKNOWN, "NoEtag"},
		{S3_PUT, OK ETAG, "<html>login</html>", 0, false, 0, S3_UNKNOWN, "UnexpectedBody"},
		{S3_PUT, OK ETAG, "", 0, true, 0, S3_RETRY, "EarlyAnswer"},
		{S3_PUT, "HTTP/1.1 202 X" ETAG, "", 0, false, 0, S3_UNKNOWN, "UnexpectedStatus"},
		{S3_HEAD, OK ETAG, NULL, 0, false, 0, S3_RETRY, "NoLength"},
		{S3_HEAD, OK "\nContent-Length: 5", NULL, 0, false, 0, S3_RETRY, "NoEtag"},
		{S3_COMPLETE_MULTIPART, OK ETAG, "", 0, false, 0, S3_UNKNOWN, "BadResult"},
		{S3_COMPLETE_MULTIPART, OK, "<CompleteMultipartUploadResult><ETag>e</ETag>",
			CURLE_PARTIAL_FILE, false, 0, S3_UNKNOWN, "AnswerCut"},
		{S3_COMPLETE_MULTIPART, OK, "<CompleteMultipartUploadResult><ETag>e</ETag>", 0,
			false, 0, S3_UNKNOWN, "BadResult"},
		{S3_COMPLETE_MULTIPART, OK,
			"<CompleteMultipartUploadResult><ETag/></CompleteMultipartUploadResult>", 0,
			false, 0, S3_UNKNOWN, "NoEtag"},
		{S3_COPY, OK, "", 0, false, 0, S3_UNKNOWN, "BadResult"},
		{S3_COPY, OK, COMPLETE_XML, 0, false, 0, S3_UNKNOWN, "BadResult"},
		{S3_UPLOAD_PART_COPY, OK, "", 0, false, 0, S3_RETRY, "BadResult"},
		{S3_CREATE_MULTIPART, OK, "", 0, false, 0, S3_UNKNOWN, "BadResult"},
		{S3_LIST, OK, "", 0, false, 0, S3_RETRY, "BadListing"},
		{S3_LIST, OK, "<ListBucketResult><Contents>", 0, false, 0, S3_RETRY, "BadListing"},
		{S3_LIST, OK, "<html></html>", 0, false, 0, S3_RETRY, "BadListing"},
		{S3_LIST, OK, "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
			0, false, 0, S3_RETRY, "NoContinuationToken"},
		{S3_LIST_PARTS, OK, "", 0, false, 0, S3_RETRY, "BadResult"},
		{S3_GET_ACL, OK, "x", 0, false, 0, S3_RETRY, "BadResult"},
		/* someone else's page, as of a hotel's network, deletes nothing */
		{S3_DELETE, OK, "<html>login</html>", 0, false, 0, S3_UNKNOWN, "UnexpectedBody"},
		{S3_ABORT_MULTIPART, OK, "<html>login</html>", 0, false, 0, S3_RETRY,
			"UnexpectedBody"},
	};
	run_plays(plays, array_len(plays));
}

/* 200 that carries an <Error>, as Complete and Copy may. */
static void success_with_error_inside(void **state)
{
	const struct play plays[] = {
		{S3_COMPLETE_MULTIPART, OK, "\n" ERROR_XML("InternalError"), 0, false, 0,
			S3_UNKNOWN, "InternalError"},
		{S3_COMPLETE_MULTIPART, OK, ERROR_XML("SlowDown"), 0, false, 0, S3_THROTTLED,
			"SlowDown"},
		{S3_COMPLETE_MULTIPART, OK, ERROR_XML("PreconditionFailed"), 0, false, 0,
			S3_CONFLICT, "PreconditionFailed"},
		{S3_COPY, OK, ERROR_XML("AccessDenied"), 0, false, 0, S3_DENIED, "AccessDenied"},
		{S3_COPY, OK, ERROR_XML("InternalError"), 0, false, 0, S3_UNKNOWN, "InternalError"},
		{S3_COPY, OK, ERROR_XML("NeverHeardOf"), 0, false, 0, S3_UNKNOWN, "NeverHeardOf"},
		{S3_UPLOAD_PART_COPY, OK, ERROR_XML("InternalError"), 0, false, 0, S3_RETRY,
			"InternalError"},
		{S3_PUT, OK ETAG, ERROR_XML("InternalError"), 0, false, 0, S3_UNKNOWN,
			"InternalError"},
		{S3_LIST, OK, ERROR_XML("InternalError"), 0, false, 0, S3_RETRY, "InternalError"},
		{S3_COPY, OK, "<Error></Error>", 0, false, 0, S3_UNKNOWN, "UnexpectedStatus"},
	};
	run_plays(plays, array_len(plays));
}

/* ---- GET ------------------------------------------------------------------------------------------------ */

static enum s3_stop check_get(const char *head, bool ranged, const char *if_match)
{
	struct s3_answer a;
	struct s3_asked asked = asked_by(S3_GET);
	asked.has_range = ranged;
	asked.range_start = ranged ? 10 : 0;
	asked.range_len = ranged ? 5 : 0;
	text_copy(asked.if_match, if_match, sizeof(asked.if_match));
	s3_answer_init(&a);
	feed_head(&a, head);
	enum s3_stop stop = s3_answer_check_get(&a, &asked);
	s3_answer_release(&a);
	return stop;
}

static void texts_are_one_line(void **state)
{
	struct s3_asked asked = asked_by(S3_PUT);
	struct play play = {S3_PUT, "HTTP/1.1 400 Bad Request\nx-amz-request-id: a\tb",
		"<Error><Code>Odd\nCode</Code><Message>first\r\nsecond&#x7f;</Message></Error>", 0,
		false, 0, S3_FATAL, ""};
	struct s3_answer a;

	play_with(&a, &play, &asked);
	assert_string_equal(a.reply.code, "Odd Code");
	assert_string_equal(a.reply.message, "first second ");
	assert_string_equal(a.reply.request_id, "a b");
	s3_answer_release(&a);
}

static void get_takes_only_what_was_asked(void **state)
{
#define PARTIAL "HTTP/1.1 206 X"
	assert_int_equal(check_get(OK, false, ""), S3_STOP_NONE);
	assert_int_equal(check_get(PARTIAL, false, ""), S3_STOP_RANGE_IGNORED);
	assert_int_equal(check_get(OK "\nContent-Length: 5", true, ""), S3_STOP_RANGE_IGNORED);
	assert_int_equal(
		check_get(PARTIAL "\nContent-Range: bytes 10-14/100", true, ""), S3_STOP_NONE);
	assert_int_equal(
		check_get(PARTIAL "\nContent-Range: bytes 10-11/12", true, ""), S3_STOP_NONE);
	assert_int_equal(check_get(PARTIAL "\nContent-Range: bytes 0-4/100", true, ""),
		S3_STOP_RANGE_IGNORED);
	assert_int_equal(check_get(PARTIAL "\nContent-Range: bytes 10-15/100", true, ""),
		S3_STOP_RANGE_IGNORED);
	assert_int_equal(check_get(PARTIAL "\nContent-Range: bytes 10-14/12", true, ""),
		S3_STOP_RANGE_IGNORED);
	assert_int_equal(check_get(PARTIAL, true, ""), S3_STOP_RANGE_IGNORED);
	assert_int_equal(check_get(OK "\nETag: \"new\"", false, "old"), S3_STOP_OTHER_VERSION);
	assert_int_equal(check_get(OK "\nETag: \"old\"", false, "old"), S3_STOP_NONE);
	/* no object's answer at all */
	assert_int_equal(check_get(OK, false, "old"), S3_STOP_BAD_ANSWER);
	assert_int_equal(check_get(OK "\nContent-Length: 200", true, "old"), S3_STOP_BAD_ANSWER);
	assert_int_equal(
		check_get(PARTIAL "\nContent-Length: 9\nContent-Range: bytes 10-14/100", true, ""),
		S3_STOP_BAD_ANSWER);
}

static void get_must_be_whole(void **state)
{
	const struct play plays[] = {
		{S3_GET, OK "\nContent-Length: 3", "abc", 0, false, 0, S3_DONE, ""},
		{S3_GET, OK "\nContent-Length: 4", "abc", 0, false, 0, S3_RETRY, "AnswerCut"},
		{S3_GET, OK "\nContent-Length: 4", "abc", CURLE_PARTIAL_FILE, false, 0, S3_RETRY,
			"AnswerCut"},
		{S3_GET, OK, "abc", 0, false, 0, S3_RETRY, "NoLength"},
		{S3_GET, "HTTP/1.1 206 X\nContent-Range: bytes 0-2/9", "abc", 0, false, 0, S3_DONE,
			""},
		{S3_GET, "HTTP/1.1 206 X\nContent-Range: bytes 0-3/9", "abc", 0, false, 0, S3_RETRY,
			"AnswerCut"},
	};
	run_plays(plays, array_len(plays));
}

/* ---- proof of content -------------------------------------------------------------------------------------- */

#define ECHO_1 "\nx-amz-checksum-crc64nvme: AAAAAAAAAAE="
#define ECHO_2 "\nx-amz-checksum-crc64nvme: AAAAAAAAAAI="

static void assert_echo(enum s3_op op, const char *head, bool payload_unsigned,
	enum s3_class class, const char *code)
{
	struct s3_answer a;
	struct s3_asked asked = asked_by(op);
	const struct play play = {.op = op, .head = head};
	asked.sent_crc = true;
	asked.crc = 1;
	asked.payload_unsigned = payload_unsigned;
	play_with(&a, &play, &asked);
	assert_int_equal(a.reply.class, class);
	assert_string_equal(a.reply.code, code);
	s3_answer_release(&a);
}

static void checksum_echo(void **state)
{
	const enum s3_op ops[] = {S3_PUT, S3_UPLOAD_PART};

	for (size_t i = 0; i < array_len(ops); i++) {
		assert_echo(ops[i], OK ETAG ECHO_1, true, S3_DONE, "");
		/* an object was written, but which? */
		enum s3_class unproved = ops[i] == S3_PUT ? S3_UNKNOWN : S3_RETRY;

		assert_echo(ops[i], OK ETAG, true, unproved, "NoChecksumEcho");
		assert_echo(ops[i], OK ETAG "\nx-amz-checksum-crc64nvme: nonsense", true, unproved,
			"NoChecksumEcho");
		assert_echo(ops[i], OK ETAG, false, S3_DONE, "");
		assert_echo(ops[i], OK ETAG ECHO_2, true, unproved, "ChecksumEchoDiffers");
		assert_echo(ops[i], OK ETAG ECHO_2, false, unproved, "ChecksumEchoDiffers");
		assert_echo(ops[i], OK ECHO_1, true, S3_UNKNOWN, "NoEtag");
	}
}

static void complete_echo(void **state)
{
	struct s3_asked asked = asked_by(S3_COMPLETE_MULTIPART);
	struct s3_answer a;
	struct play play = {.op = S3_COMPLETE_MULTIPART,
		.head = OK,
		.body = "<CompleteMultipartUploadResult><ETag>e</ETag><ChecksumCRC64NVME>"
			"AAAAAAAAAAI=</ChecksumCRC64NVME></CompleteMultipartUploadResult>"};
	asked.sent_crc = true;
	asked.crc = 2;
	play_with(&a, &play, &asked);
	assert_int_equal(a.reply.class, S3_DONE);
	assert_true(a.reply.has_crc64nvme);
	assert_true(a.reply.crc_is_full_object);
	s3_answer_release(&a);
	asked.crc = 3;
	play_with(&a, &play, &asked);
	assert_int_equal(a.reply.class, S3_UNKNOWN);
	assert_string_equal(a.reply.code, "ChecksumEchoDiffers");
	s3_answer_release(&a);
}

/* ---- listings stay inside, tokens go on ------------------------------------------------------------------- */

static void listing_is_what_was_asked(void **state)
{
	struct s3_asked asked = asked_by(S3_LIST);
	struct s3_answer a;
	char prefix[] = "p/", token[] = "t1";
	struct play play = {.op = S3_LIST, .head = OK,
		.body = "<ListBucketResult><Contents><Key>p/a</Key><Size>1</Size></Contents>"
			"<Contents><Key>q/a</Key><Size>1</Size></Contents></ListBucketResult>"};

	asked.prefix = prefix;
	asked.token = token;
	play_with(&a, &play, &asked);
	assert_int_equal(a.reply.class, S3_RETRY);
	assert_string_equal(a.reply.code, "BadListing");
	assert_int_equal(a.reply.list.count, 0);
	s3_answer_release(&a);
	play.body = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t1"
		    "</NextContinuationToken></ListBucketResult>";
	play_with(&a, &play, &asked);
	assert_string_equal(a.reply.code, "RepeatedContinuationToken");
	s3_answer_release(&a);
	play.body = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t2"
		    "</NextContinuationToken></ListBucketResult>";
	play_with(&a, &play, &asked);
	assert_int_equal(a.reply.class, S3_DONE);
	assert_string_equal(a.reply.list.next_token, "t2");
	s3_answer_release(&a);
}

/* What does not say that it ends here would make files vanish that are there; and so would an empty
 * answer to a question about another place. */
static void listing_that_may_be_cut(void **state)
{
#define END "<IsTruncated>false</IsTruncated></ListBucketResult>"
	static const struct {
		const char *body, *code; /* code "": believed */
	} rows[] = {
		{"<ListBucketResult></ListBucketResult>", "UncertainEnd"},
		{"<ListBucketResult><Contents><Key>p+q/a</Key><Size>1</Size></Contents>"
		 "</ListBucketResult>", "UncertainEnd"},
		{"<ListBucketResult><NextContinuationToken>t2</NextContinuationToken>" END,
			"UncertainEnd"},
		{"<ListBucketResult><NextContinuationToken/>" END, ""},
		{"<ListBucketResult><Prefix>other/</Prefix>" END, "BadListing"},
		{"<ListBucketResult><Prefix>p</Prefix>" END, "BadListing"},
		{"<ListBucketResult><Prefix>p%</Prefix>" END, "BadListing"},
		{"<ListBucketResult><Prefix/>" END, ""},
		{"<ListBucketResult><Prefix>p+q/</Prefix>" END, ""}, /* not encoded, whatever it says */
		{"<ListBucketResult><EncodingType>url</EncodingType><Prefix>p%2Bq/</Prefix>" END, ""},
		{"<ListBucketResult><Prefix>other/</Prefix><Contents><Key>p+q/a</Key><Size>1</Size>"
		 "</Contents>" END, ""}, /* the keys say whose they are */
	};
#undef END
	for (size_t i = 0; i < array_len(rows); i++) {
		struct s3_asked asked = asked_by(S3_LIST);
		struct s3_answer a;
		char prefix[] = "p+q/";
		const struct play play = {.op = S3_LIST, .head = OK, .body = rows[i].body};

		asked.prefix = prefix;
		play_with(&a, &play, &asked);
		if (strcmp(a.reply.code, rows[i].code) != 0)
			print_error("row %zu: %s\n", i, a.reply.code);
		assert_int_equal(a.reply.class, rows[i].code[0] ? S3_RETRY : S3_DONE);
		assert_string_equal(a.reply.code, rows[i].code);
		s3_answer_release(&a);
	}
}

/* ---- headers ------------------------------------------------------------------------------------------------- */

/* Whoever asked on from there would be told the same for ever. */
static void parts_lead_on(void **state)
{
	static const char body[] = "<ListPartsResult><Part><PartNumber>8</PartNumber><ETag>e</ETag>"
				   "</Part><NextPartNumberMarker>8</NextPartNumberMarker>"
				   "<IsTruncated>true</IsTruncated></ListPartsResult>";

	for (unsigned marker = 7; marker <= 9; marker++) {
		struct s3_answer a;
		struct s3_asked asked = asked_by(S3_LIST_PARTS);
		const struct play play = {.op = S3_LIST_PARTS, .head = OK, .body = body};

		asked.part_marker = marker;
		play_with(&a, &play, &asked);
		assert_int_equal(a.reply.class, marker == 7 ? S3_DONE : S3_RETRY);
		assert_string_equal(a.reply.code, marker == 7 ? "" : "RepeatedPartMarker");
		s3_answer_release(&a);
	}
}

static void headers_are_read(void **state)
{
	struct s3_answer a;
	struct s3_asked asked = asked_by(S3_HEAD);
	const struct play play = {.op = S3_HEAD,
		.head = OK "\nDate: Sun, 06 Nov 1994 08:49:37 GMT\ncontent-length: 42"
			   "\nLAST-MODIFIED: Sun, 06 Nov 1994 08:49:38 GMT\netag:\"e\""
			   "\nx-amz-checksum-crc64nvme: AAAAAAAAAAE="
			   "\nx-amz-checksum-type: FULL_OBJECT\nx-amz-meta-mtime: 1772366400.25"
			   "\nx-amz-request-id: R\nx-amz-bucket-region: eu-west-1\nno colon here"};

	play_with(&a, &play, &asked);
	assert_int_equal(a.reply.class, S3_DONE);
	assert_int_equal(a.reply.http_status, 200);
	assert_int_equal(a.reply.date_ns, INT64_C(784111777) * NS_PER_S);
	assert_int_equal(a.reply.object.size_bytes, 42);
	assert_int_equal(a.reply.object.last_modified_ns, INT64_C(784111778) * NS_PER_S);
	assert_string_equal(a.reply.object.etag, "e");
	assert_true(a.reply.has_crc64nvme);
	assert_int_equal(a.reply.crc64nvme, 1);
	assert_true(a.reply.crc_is_full_object);
	assert_true(a.reply.has_mtime);
	assert_int_equal(a.reply.mtime_ns, INT64_C(1772366400250000000));
	assert_string_equal(a.reply.request_id, "R");
	assert_string_equal(a.reply.region, "eu-west-1");
	/* a trailer changes nothing */
	s3_answer_header(&a, "ETag: \"other\"\r\n", 15);
	assert_string_equal(a.reply.object.etag, "e");
	s3_answer_release(&a);
}

static void composite_checksum_is_none_of_the_content(void **state)
{
	static const char *const heads[] = {
		OK "\nx-amz-checksum-crc64nvme: AAAAAAAAAAE=\nx-amz-checksum-type: COMPOSITE",
		OK "\nx-amz-checksum-type: COMPOSITE\nx-amz-checksum-crc64nvme: AAAAAAAAAAE=",
	};

	for (size_t i = 0; i < array_len(heads); i++) {
		struct s3_answer a;
		s3_answer_init(&a);
		feed_head(&a, heads[i]);
		assert_true(a.reply.has_crc64nvme);
		assert_false(a.reply.crc_is_full_object);
		s3_answer_release(&a);
	}
}

static void mtime_headers(void **state)
{
	static const struct {
		const char *text;
		bool fine;
		int64_t ns;
	} rows[] = {
		{"0", true, 0},
		{"1.5", true, 1500000000},
		{"-1.5", true, -1500000000},
		{"1.1234567891", true, 1123456789},
		{"1e9", false, 0},
		{"", false, 0},
		{"x", false, 0},
		{"99999999999999999999", false, 0},
	};

	for (size_t i = 0; i < array_len(rows); i++) {
		struct s3_answer a;
		char head[128];
		s3_answer_init(&a);
		snprintf(head, sizeof(head), OK "\nx-amz-meta-mtime: %s", rows[i].text);
		feed_head(&a, head);
		assert_int_equal(a.reply.has_mtime, rows[i].fine);
		if (rows[i].fine)
			assert_int_equal(a.reply.mtime_ns, rows[i].ns);
		s3_answer_release(&a);
	}
}

static void redirects_name_the_region(void **state)
{
	struct s3_answer a;
	struct s3_asked asked = asked_by(S3_LIST);
	const struct play play = {.op = S3_LIST,
		.head = "HTTP/1.1 301 Moved\nLocation: https://b.s3.eu-west-1.amazonaws.com/\n"
			"x-amz-bucket-region: eu-west-1",
		.body = ERROR_XML("PermanentRedirect")};
	const struct play malformed = {.op = S3_LIST,
		.head = "HTTP/1.1 400 X",
		.body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong</Message>"
			"<Region>eu-west-3</Region></Error>"};

	play_with(&a, &play, &asked);
	assert_int_equal(a.reply.class, S3_FATAL);
	assert_string_equal(a.reply.redirect_to, "https://b.s3.eu-west-1.amazonaws.com/");
	assert_string_equal(a.reply.region, "eu-west-1");
	assert_non_null(strstr(a.reply.message, "--region eu-west-1"));
	s3_answer_release(&a);
	play_with(&a, &malformed, &asked);
	assert_int_equal(a.reply.class, S3_FATAL);
	assert_string_equal(a.reply.region, "eu-west-3");
	assert_non_null(strstr(a.reply.message, "--region eu-west-3"));
	s3_answer_release(&a);
}

/* ---- retrying ------------------------------------------------------------------------------------------------- */

static void backoff_is_bounded_and_spread(void **state)
{
	static const int64_t caps_ms[] = {500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};

	for (unsigned attempt = 1; attempt <= array_len(caps_ms); attempt++) {
		int64_t low = INT64_MAX, high = 0;
		for (int i = 0; i < 1000; i++) {
			int64_t ms = s3_backoff_ms(attempt, false);
			assert_in_range(ms, 1, caps_ms[attempt - 1]);
			low = ms < low ? ms : low;
			high = ms > high ? ms : high;
		}
		assert_true(low < caps_ms[attempt - 1] / 4);
		assert_true(high > caps_ms[attempt - 1] * 3 / 4);
	}
	for (int i = 0; i < 100; i++) {
		assert_in_range(s3_backoff_ms(1, true), 1, 2000);
		assert_in_range(s3_backoff_ms(4000000000u, true), 1, 60000);
	}
}

static void bucket_empties_and_fills(void **state)
{
	struct s3_retry_bucket b;
	unsigned taken = 0;

	s3_retry_bucket_init(&b);
	while (s3_retry_bucket_take(&b, S3_RETRY))
		taken++;
	assert_int_equal(taken, 100);
	for (int i = 0; i < 9; i++)
		s3_retry_bucket_give(&b);
	assert_false(s3_retry_bucket_take(&b, S3_THROTTLED));
	s3_retry_bucket_give(&b);
	assert_true(s3_retry_bucket_take(&b, S3_THROTTLED));
	assert_int_equal(b.tokens, 0);
	for (int i = 0; i < 1000; i++)
		s3_retry_bucket_give(&b);
	assert_int_equal(b.tokens, 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_by_code),
		cmocka_unit_test(errors_by_status),
		cmocka_unit_test(lost_answers),
		cmocka_unit_test(never_left),
		cmocka_unit_test(ended_by_us),
		cmocka_unit_test(successes),
		cmocka_unit_test(incomplete_successes),
		cmocka_unit_test(success_with_error_inside),
		cmocka_unit_test(texts_are_one_line),
		cmocka_unit_test(get_takes_only_what_was_asked),
		cmocka_unit_test(get_must_be_whole),
		cmocka_unit_test(checksum_echo),
		cmocka_unit_test(complete_echo),
		cmocka_unit_test(listing_is_what_was_asked),
		cmocka_unit_test(listing_that_may_be_cut),
		cmocka_unit_test(parts_lead_on),
		cmocka_unit_test(headers_are_read),
		cmocka_unit_test(composite_checksum_is_none_of_the_content),
		cmocka_unit_test(mtime_headers),
		cmocka_unit_test(redirects_name_the_region),
		cmocka_unit_test(backoff_is_bounded_and_spread),
		cmocka_unit_test(bucket_empties_and_fills),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
