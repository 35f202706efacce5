/*
 * Headers, body and end of an answer, judged: "done" only where everything that its operation must
 * say was said, and "perhaps applied" whenever a change may have happened.
 *
 *   op(1) flags(1) ends(1) headers up to an empty line, body
 */
#include "fuzz.h"
#include "s3_reply.h"

#include <curl/curl.h>

enum flag {
	FULLY_SENT = 1,
	SENT_CRC = 2,
	PAYLOAD_UNSIGNED = 4,
	HAS_RANGE = 8,
	HAS_IF_MATCH = 16,
	CRC_IS_CHECK_VALUE = 32,
};

#define CHECK_VALUE UINT64_C(0xae8b14860a799888) /* "rosUhgp5mYg=" */

static char prefix[] = "p/", token[] = "t0";

static struct s3_asked asked_by(unsigned op, unsigned flags)
{
	struct s3_asked q = {.op = (enum s3_op)(op % (S3_GET_ACL + 1)),
		.sent_crc = flags & SENT_CRC,
		.crc = flags & CRC_IS_CHECK_VALUE ? CHECK_VALUE : 0,
		.payload_unsigned = flags & PAYLOAD_UNSIGNED,
		.has_range = flags & HAS_RANGE,
		.range_start = 5,
		.range_len = 10,
		.prefix = prefix,
		.token = token};

	if (flags & HAS_IF_MATCH)
		text_copy(q.if_match, "abc", sizeof(q.if_match));
	return q;
}

static struct s3_end end_by(unsigned ends, unsigned flags)
{
	static const int curl_codes[] = {CURLE_OK, CURLE_OK, CURLE_OK, CURLE_PARTIAL_FILE,
		CURLE_OPERATION_TIMEDOUT, CURLE_RECV_ERROR, CURLE_SEND_FAIL_REWIND, 999};

	return (struct s3_end){.stop = ends & 0x80 ? (enum s3_stop)(ends >> 3 & 15) : S3_STOP_NONE,
		.curl_code = curl_codes[ends & 7],
		.curl_text = "curl's text",
		.fully_sent = flags & FULLY_SENT};
}

/* Line by line, as curl hands them over; what follows the empty one is the body. */
static void feed(struct s3_answer *a, struct fuzz_in *in)
{
	while (in->len) {
		const uint8_t *newline = memchr(in->at, '\n', in->len);
		size_t want = newline ? (size_t)(newline - in->at) + 1 : in->len, len;
		uint8_t *line = fuzz_bytes(in, want, &len);

		s3_answer_header(a, (const char *)line, len);
		free(line);
		if (len <= 2 && a->head_done)
			break;
	}
	if (a->head_done) {
		buf_add(&a->body, in->at, in->len);
		a->reply.bytes_received = in->len;
	}
}

#define must_end(text) must(memchr((text), '\0', sizeof(text)))

static void check_one_line(const char *text)
{
	for (; *text; text++)
		must((unsigned char)*text >= ' ' && *text != 0x7f);
}

static void check_texts(const struct s3_reply *r)
{
	must_end(r->code);
	must_end(r->message);
	must_end(r->request_id);
	must_end(r->region);
	must_end(r->redirect_to);
	must_end(r->object.etag);
	must_end(r->upload_id);
	must(r->class <= S3_UNKNOWN);
	if (r->class != S3_DONE)
		must(r->code[0] && r->message[0]);
	check_one_line(r->code);
	check_one_line(r->message);
	check_one_line(r->request_id);
	check_one_line(r->region);
	check_one_line(r->redirect_to);
}

static void check_list(const struct s3_reply *r)
{
	for (size_t i = 0; i < r->list.count; i++)
		must(text_starts(r->list.entries[i].key, prefix));
	if (r->list.truncated)
		must(r->list.next_token[0] && strcmp(r->list.next_token, token) != 0);
}

static void check_done(
	const struct s3_answer *a, const struct s3_asked *q, const struct s3_end *end)
{
	const struct s3_reply *r = &a->reply;
	bool makes = q->op == S3_PUT || q->op == S3_UPLOAD_PART || q->op == S3_COPY ||
		     q->op == S3_UPLOAD_PART_COPY || q->op == S3_COMPLETE_MULTIPART;

	must(a->head_done && end->stop == S3_STOP_NONE && end->curl_code == CURLE_OK);
	must(r->http_status == 200 || r->http_status == 204 || r->http_status == 206);
	must(end->fully_sent);
	must(!makes || r->object.etag[0]);
	if (q->op == S3_PUT || q->op == S3_UPLOAD_PART)
		must(r->has_crc64nvme || !q->payload_unsigned);
	if ((q->op == S3_PUT || q->op == S3_UPLOAD_PART || q->op == S3_COMPLETE_MULTIPART) &&
		q->sent_crc && r->has_crc64nvme)
		must(r->crc64nvme == q->crc);
	if (q->op == S3_CREATE_MULTIPART)
		must(r->upload_id[0]);
	if (q->op == S3_HEAD)
		must(a->has_length && r->object.etag[0]);
}

/* A change that left completely and was not clearly refused may have happened. */
static void check_doubt(
	const struct s3_answer *a, const struct s3_asked *q, const struct s3_end *end)
{
	if (!end->fully_sent || !s3_op_changes_bucket(q->op) || a->reply.class != S3_RETRY)
		return;
	must(end->stop == S3_STOP_NONE ? a->head_done : end->stop != S3_STOP_RESENT);
	if (end->stop == S3_STOP_NONE && a->reply.http_status >= 200 && a->reply.http_status < 300)
		must(a->body.len > 0 || strcmp(a->reply.code, "NoChecksumEcho") == 0 ||
			strcmp(a->reply.code, "ChecksumEchoDiffers") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	unsigned op = fuzz_u8(&in), flags = fuzz_u8(&in), ends = fuzz_u8(&in);
	struct s3_asked q = asked_by(op, flags);
	struct s3_end end = end_by(ends, flags);
	struct s3_answer a;

	s3_answer_init(&a);
	feed(&a, &in);
	if (a.head_done && s3_answer_check_get(&a, &q) == S3_STOP_NONE) {
		must(q.has_range || a.reply.http_status == 200);
		must(!q.if_match[0] || strcmp(q.if_match, a.reply.object.etag) == 0);
	}
	s3_answer_judge(&a, &q, &end);
	check_texts(&a.reply);
	check_list(&a.reply);
	if (a.reply.class == S3_DONE)
		check_done(&a, &q, &end);
	check_doubt(&a, &q, &end);
	s3_answer_release(&a);
	return 0;
}
