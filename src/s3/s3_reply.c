/*
 * Headers and body → struct s3_reply. An answer is a success only if it has all that its operation
 * must say: a PUT without an ETag, a 200 that carries <Error>, a Complete whose body is empty or
 * cut off is none.
 *
 * Proof of content: a PUT or part that sent its CRC64NVME must hear it back, unless its payload was
 * signed with its SHA-256 (older servers know no CRC64NVME and ignore the header, right or wrong).
 */
#include "s3_reply.h"

#include "s3_encode.h"
#include "s3_xml.h"

#include <ctype.h>
#include <curl/curl.h>

#define XML_MAX_BYTES (16 * MIB)

void s3_answer_init(struct s3_answer *a)
{
	*a = (struct s3_answer){0};
	buf_init(&a->body, XML_MAX_BYTES);
}

void s3_answer_release(struct s3_answer *a)
{
	buf_release(&a->body);
	s3_reply_release(&a->reply);
}

/* ---- headers ------------------------------------------------------------------------------------- */

/* "1772366400.25" → ns; at most nine digits of fraction count. */
static bool parse_mtime(const char *text, int64_t *ret_ns)
{
	bool negative = *text == '-';
	int64_t seconds = 0, rest = 0, unit = NS_PER_S;
	const char *p = text + negative;
	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++) {
		seconds = seconds * 10 + (*p - '0');
		if (seconds > INT64_MAX / NS_PER_S - 1)
			return false;
	}
	if (*p == '.')
		for (p++; isdigit((unsigned char)*p); p++)
			if (unit > 1)
				rest += (*p - '0') * (unit /= 10);
	if (*p)
		return false;
	*ret_ns = (seconds * NS_PER_S + rest) * (negative ? -1 : 1);
	return true;
}

static bool parse_digits(const char **p, uint64_t *ret)
{
	uint64_t n = 0;
	const char *start = *p;
	for (; isdigit((unsigned char)**p); (*p)++)
		if (__builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, (uint64_t)(**p - '0'), &n))
			return false;
	*ret = n;
	return *p > start;
}

/* "bytes 0-9/100" */
static void take_content_range(struct s3_answer *a, const char *text)
{
	uint64_t start, end, total = 0;
	if (strncasecmp(text, "bytes ", 6) != 0)
		return;
	const char *p = text + 6;
	if (!parse_digits(&p, &start) || *p++ != '-' || !parse_digits(&p, &end) || *p++ != '/')
		return;
	if (strcmp(p, "*") != 0 && (!parse_digits(&p, &total) || *p || end >= total))
		return;
	a->has_content_range = end >= start;
	a->range_start = start;
	a->range_end = end;
	a->reply.content_range_total = total;
}

static void take_length(struct s3_answer *a, const char *text)
{
	a->has_length = u64_parse(text, &a->length_bytes) == 0;
	a->reply.object.size_bytes = a->has_length ? a->length_bytes : 0;
}

static void take_etag(struct s3_answer *a, const char *text)
{
	if (!s3_etag_copy(a->reply.object.etag, text))
		a->reply.object.etag[0] = '\0';
}

static void take_crc(struct s3_answer *a, const char *text)
{
	a->reply.has_crc64nvme = crc64nvme_from_text(text, &a->reply.crc64nvme) == 0;
}

static void take_crc_type(struct s3_answer *a, const char *text)
{
	a->crc_is_composite = strcmp(text, "FULL_OBJECT") != 0;
}

static void take_date(struct s3_answer *a, const char *text)
{
	if (time_parse_http(text, &a->reply.date_ns))
		a->reply.date_ns = 0;
}

static void take_modified(struct s3_answer *a, const char *text)
{
	if (time_parse_http(text, &a->reply.object.last_modified_ns))
		a->reply.object.last_modified_ns = 0;
}

static void take_mtime(struct s3_answer *a, const char *text)
{
	a->reply.has_mtime = parse_mtime(text, &a->reply.mtime_ns);
}

static void take_request_id(struct s3_answer *a, const char *text)
{
	text_copy(a->reply.request_id, text, sizeof(a->reply.request_id));
}

static void take_region(struct s3_answer *a, const char *text)
{
	text_copy(a->reply.region, text, sizeof(a->reply.region));
}

static void take_location(struct s3_answer *a, const char *text)
{
	text_copy(a->reply.redirect_to, text, sizeof(a->reply.redirect_to));
}

static const struct {
	const char *name;
	void (*take)(struct s3_answer *a, const char *text);
} header_rows[] = {
	{"content-length", take_length},
	{"content-range", take_content_range},
	{"date", take_date},
	{"etag", take_etag},
	{"last-modified", take_modified},
	{"location", take_location},
	{"x-amz-bucket-region", take_region},
	{"x-amz-checksum-crc64nvme", take_crc},
	{"x-amz-checksum-type", take_crc_type},
	{"x-amz-meta-mtime", take_mtime},
	{"x-amz-request-id", take_request_id},
};

static void take_status_line(struct s3_answer *a, const char *line)
{
	const char *space = strchr(line, ' ');
	s3_reply_release(&a->reply);
	a->reply = (struct s3_reply){.http_status = space ? atoi(space + 1) : 0};
	a->has_length = a->has_content_range = a->crc_is_composite = false;
}

static void take_header(struct s3_answer *a, char *line)
{
	char *colon = strchr(line, ':');
	if (!colon)
		return;
	*colon = '\0';
	const char *value = colon + 1 + strspn(colon + 1, " \t");
	for (size_t i = 0; i < array_len(header_rows); i++)
		if (strcasecmp(header_rows[i].name, line) == 0)
			header_rows[i].take(a, value);
}

void s3_answer_header(struct s3_answer *a, const char *line, size_t len)
{
	char text[4096];
	if (a->head_done) /* a trailer */
		return;
	while (len && (line[len - 1] == '\r' || line[len - 1] == '\n' || line[len - 1] == ' '))
		len--;
	if (!len) {
		a->head_done = a->reply.http_status >= 200;
		a->reply.crc_is_full_object = a->reply.has_crc64nvme && !a->crc_is_composite;
		return;
	}
	if (len >= sizeof(text) || memchr(line, '\0', len))
		return;
	memcpy(text, line, len);
	text[len] = '\0';
	if (text_starts(text, "HTTP/"))
		take_status_line(a, text);
	else
		take_header(a, text);
}

/* ---- GET ----------------------------------------------------------------------------------------- */

static bool is_range_right(const struct s3_answer *a, const struct s3_asked *asked)
{
	if (a->reply.http_status == 200) /* the whole object: fine if that is what the range covers */
		return asked->range_start == 0 && a->has_length &&
		       a->length_bytes <= asked->range_len;
	return a->has_content_range && a->range_start == asked->range_start &&
	       a->range_end - a->range_start < asked->range_len;
}

/* What says nothing of the object (a page of something in between, an <Error> under status 200) is
 * no reason to think that the object has changed. */
static bool is_of_an_object(const struct s3_answer *a, const struct s3_asked *asked)
{
	if (asked->if_match[0] && !a->reply.object.etag[0])
		return false;
	return !a->has_content_range || !a->has_length ||
	       a->length_bytes == a->range_end - a->range_start + 1;
}

enum s3_stop s3_answer_check_get(const struct s3_answer *a, const struct s3_asked *asked)
{
	if (!is_of_an_object(a, asked))
		return S3_STOP_BAD_ANSWER;
	if (asked->has_range ? !is_range_right(a, asked) : a->reply.http_status != 200)
		return S3_STOP_RANGE_IGNORED;
	if (asked->if_match[0] && strcmp(asked->if_match, a->reply.object.etag) != 0)
		return S3_STOP_OTHER_VERSION;
	return S3_STOP_NONE;
}

/* ---- what a success must say ----------------------------------------------------------------------- */

/* NULL when complete, else the word for what is missing. */
typedef const char *complete_fn(struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x);

static const char *complete_plain(struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	return NULL;
}

static bool is_blank(const char *text)
{
	return text[strspn(text, " \t\r\n")] == '\0';
}

/* Nothing in it: a page of something in between is no answer of the server's. */
static const char *complete_quiet(struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	return is_blank(buf_text(&a->body)) ? NULL : "UnexpectedBody";
}

static const char *complete_head(struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	if (!a->has_length)
		return "NoLength";
	return a->reply.object.etag[0] ? NULL : "NoEtag";
}

static const char *complete_get(struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	if (!a->has_length && !a->has_content_range)
		return "NoLength";
	uint64_t expected = a->has_content_range ? a->range_end - a->range_start + 1
						 : a->length_bytes;
	return a->reply.bytes_received == expected ? NULL : "AnswerCut";
}

static const char *complete_put(struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	if (!is_blank(buf_text(&a->body)))
		return "UnexpectedBody";
	return a->reply.object.etag[0] ? NULL : "NoEtag";
}

/* The result is in the body; headers may carry an ETag of their own, which does not count. */
static const char *complete_result(
	struct s3_answer *a, const struct s3_xml *x, enum s3_xml_root root)
{
	if (x->root != root || !x->whole)
		return "BadResult";
	if (!x->etag[0])
		return "NoEtag";
	text_copy(a->reply.object.etag, x->etag, sizeof(a->reply.object.etag));
	if (x->has_crc64nvme) {
		a->reply.has_crc64nvme = a->reply.crc_is_full_object = true;
		a->reply.crc64nvme = x->crc64nvme;
	}
	return NULL;
}

static const char *complete_copy(struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	return complete_result(a, x, S3_XML_COPY);
}

static const char *complete_copy_part(
	struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	return complete_result(a, x, S3_XML_COPY_PART);
}

static const char *complete_complete(
	struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	const char *missing = complete_result(a, x, S3_XML_COMPLETE);
	if (missing)
		return missing;
	bool differs = q->sent_crc && a->reply.has_crc64nvme && a->reply.crc64nvme != q->crc;
	return differs ? "ChecksumEchoDiffers" : NULL;
}

static const char *complete_create(struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	if (x->root != S3_XML_CREATE || !x->whole || !x->upload_id[0])
		return "BadResult";
	text_copy(a->reply.upload_id, x->upload_id, sizeof(a->reply.upload_id));
	return NULL;
}

static bool is_inside_prefix(const struct s3_list_page *list, const char *prefix)
{
	size_t len = strlen(prefix);
	for (size_t i = 0; i < list->count; i++)
		if (list->entries[i].key_len < len ||
			memcmp(list->entries[i].key, prefix, len) != 0)
			return false;
	return true;
}

/* Nothing in it, and it speaks of another place: the answer to some other question. */
static bool is_of_another_prefix(const struct s3_xml *x, const char *prefix)
{
	char echoed[sizeof(x->list_prefix)];
	size_t len;
	if (x->list.count || x->list.left_out || !x->list_prefix[0] ||
		strcmp(x->list_prefix, prefix) == 0)
		return false;
	text_copy(echoed, x->list_prefix, sizeof(echoed));
	return s3_decode_listed(echoed, &len) || strcmp(echoed, prefix) != 0;
}

static const char *complete_list(struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	const char *next = x->list.next_token;
	if (x->root != S3_XML_LIST || !x->whole || !is_inside_prefix(&x->list, q->prefix) ||
		is_of_another_prefix(x, q->prefix))
		return "BadListing";
	/* what does not say that it is the end may be cut */
	if (!x->says_truncated || (!x->list.truncated && next && *next))
		return "UncertainEnd";
	if (x->list.truncated && (!next || !*next))
		return "NoContinuationToken";
	if (x->list.truncated && strcmp(next, q->token) == 0)
		return "RepeatedContinuationToken";
	a->reply.list = x->list;
	x->list = (struct s3_list_page){0};
	return NULL;
}

static const char *complete_parts(struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	if (x->root != S3_XML_LIST_PARTS || !x->whole)
		return "BadResult";
	if (x->parts_truncated && x->next_part_marker <= q->part_marker)
		return "RepeatedPartMarker";
	a->reply.parts = steal_ptr(x->parts);
	a->reply.part_count = x->part_count;
	a->reply.parts_truncated = x->parts_truncated;
	a->reply.next_part_marker = x->next_part_marker;
	return NULL;
}

static const char *complete_acl(struct s3_answer *a, const struct s3_asked *q, struct s3_xml *x)
{
	if (x->root != S3_XML_ACL || !x->whole)
		return "BadResult";
	a->reply.text = a->body;
	buf_init(&a->body, 0);
	return NULL;
}

static complete_fn *const complete_by_op[] = {
	[S3_HEAD_BUCKET] = complete_plain,
	[S3_LIST] = complete_list,
	[S3_HEAD] = complete_head,
	[S3_GET] = complete_get,
	[S3_PUT] = complete_put,
	[S3_DELETE] = complete_quiet,
	[S3_COPY] = complete_copy,
	[S3_CREATE_MULTIPART] = complete_create,
	[S3_UPLOAD_PART] = complete_put,
	[S3_UPLOAD_PART_COPY] = complete_copy_part,
	[S3_COMPLETE_MULTIPART] = complete_complete,
	[S3_ABORT_MULTIPART] = complete_quiet,
	[S3_LIST_PARTS] = complete_parts,
	[S3_GET_ACL] = complete_acl,
};

/* ---- the verdict ----------------------------------------------------------------------------------- */

static void set_verdict(struct s3_answer *a, struct s3_verdict v, const char *message)
{
	a->reply.class = v.class;
	if (!a->reply.code[0] && v.word)
		text_copy(a->reply.code, v.word, sizeof(a->reply.code));
	if (!a->reply.message[0])
		text_copy(a->reply.message, message, sizeof(a->reply.message));
}

/* A PUT or part whose content the server has not proved to hold: it holds something, so that a PUT
 * may not simply be repeated. */
static bool judge_echo(struct s3_answer *a, const struct s3_asked *q)
{
	enum s3_class unproved = q->op == S3_PUT ? S3_UNKNOWN : S3_RETRY;

	if (q->op != S3_PUT && q->op != S3_UPLOAD_PART)
		return true;
	if (!a->reply.has_crc64nvme && q->payload_unsigned) {
		set_verdict(a, (struct s3_verdict){unproved, "NoChecksumEcho"},
			"the server did not confirm the checksum");
		return false;
	}
	if (a->reply.has_crc64nvme && q->sent_crc && a->reply.crc64nvme != q->crc) {
		set_verdict(a, (struct s3_verdict){unproved, "ChecksumEchoDiffers"},
			"the server confirmed another checksum than was sent");
		return false;
	}
	return true;
}

/* A part without an ETag can't be named in Complete; whether it is there only ListParts knows. */
static struct s3_verdict unusable(const struct s3_asked *q, const char *word, bool fully_sent)
{
	if (q->op == S3_UPLOAD_PART && fully_sent)
		return (struct s3_verdict){S3_UNKNOWN, word};
	return s3_classify_unusable(q->op, fully_sent, word);
}

static void judge_success(struct s3_answer *a, const struct s3_asked *q, const struct s3_end *end,
	struct s3_xml *x)
{
	const char *missing = end->fully_sent ? complete_by_op[q->op](a, q, x) : "EarlyAnswer";
	if (missing)
		set_verdict(a, unusable(q, missing, end->fully_sent),
			"the server's answer is not complete");
	else if (judge_echo(a, q))
		a->reply.class = S3_DONE;
}

static void name_region(struct s3_answer *a)
{
	if (!a->reply.region[0])
		return;
	snprintf(a->reply.message, sizeof(a->reply.message),
		"the bucket is in region %s: use --region %s", a->reply.region, a->reply.region);
}

static void judge_error(struct s3_answer *a, const struct s3_asked *q, const struct s3_end *end,
	const struct s3_xml *x)
{
	struct s3_reply *r = &a->reply;
	char message[64];
	text_copy(r->code, x->code, sizeof(r->code));
	text_copy(r->message, x->message, sizeof(r->message));
	if (x->request_id[0])
		text_copy(r->request_id, x->request_id, sizeof(r->request_id));
	if (!r->region[0])
		text_copy(r->region, x->region, sizeof(r->region));
	if (!r->redirect_to[0])
		text_copy(r->redirect_to, x->endpoint, sizeof(r->redirect_to));
	snprintf(message, sizeof(message), "HTTP status %d", r->http_status);
	set_verdict(
		a, s3_classify_error(q->op, r->http_status, x->code, end->fully_sent), message);
	if (strcmp(r->code, "PermanentRedirect") == 0 || r->http_status == 400 ||
		strcmp(r->code, "AuthorizationHeaderMalformed") == 0)
		name_region(a);
}

static bool is_success(int status)
{
	return status == 200 || status == 204 || status == 206;
}

static void judge_answer(struct s3_answer *a, const struct s3_asked *q, const struct s3_end *end,
	struct s3_xml *x)
{
	bool says_error = x->root == S3_XML_ERROR;
	int status = a->reply.http_status;
	if (status >= 300 || (says_error && x->code[0]))
		judge_error(a, q, end, x);
	else if (a->body.error)
		set_verdict(a, s3_classify_unusable(q->op, end->fully_sent, "AnswerTooLarge"),
			"the server's answer is too large");
	else if (end->curl_code != CURLE_OK)
		set_verdict(a, s3_classify_transport(q->op, end->curl_code, end->fully_sent),
			end->curl_text);
	else if (says_error || !is_success(status))
		set_verdict(a, s3_classify_unusable(q->op, end->fully_sent, "UnexpectedStatus"),
			"the server's answer makes no sense");
	else
		judge_success(a, q, end, x);
}

static const char *stop_message(enum s3_stop stop)
{
	switch (stop) {
	case S3_STOP_NONE:
		break;
	case S3_STOP_CANCELLED:
		return "cancelled";
	case S3_STOP_SHUTDOWN:
		return "shutting down";
	case S3_STOP_BODY_TOO_SHORT:
		return "the file is shorter than promised";
	case S3_STOP_BODY_READ_FAILED:
		return "the file could not be read";
	case S3_STOP_SINK_FAILED:
		return "what was read could not be kept";
	case S3_STOP_NO_CREDENTIALS:
		return "no credentials";
	case S3_STOP_EXPIRED_CREDENTIALS:
		return "the credentials have expired";
	case S3_STOP_PAYLOAD_HASH_NEEDED:
		return "the payload has to be signed here";
	case S3_STOP_RESENT:
		return "the connection was lost while waiting for the answer";
	case S3_STOP_NO_MEMORY:
		return "out of memory";
	case S3_STOP_RANGE_IGNORED:
		return "the server sent another range than was asked for";
	case S3_STOP_OTHER_VERSION:
		return "the object has changed";
	case S3_STOP_BAD_ANSWER:
		return "the server's answer is not that of an object";
	}
	return "stopped";
}

/* What a server says may hold line ends; these texts go into logs, tables and messages. */
static void one_line(char *text)
{
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
}

static void tidy_texts(struct s3_reply *r)
{
	one_line(r->code);
	one_line(r->message);
	one_line(r->request_id);
	one_line(r->region);
	one_line(r->redirect_to);
}

void s3_answer_judge(struct s3_answer *a, const struct s3_asked *asked, const struct s3_end *end)
{
	struct s3_xml x = {.root = S3_XML_NONE};
	a->reply.body_fully_sent = end->fully_sent;
	if (end->stop != S3_STOP_NONE) {
		set_verdict(a, s3_classify_stop(asked->op, end->stop, end->fully_sent),
			stop_message(end->stop));
	} else if (!a->head_done) {
		a->reply.http_status = 0;
		set_verdict(a, s3_classify_transport(asked->op, end->curl_code, end->fully_sent),
			end->curl_text);
	} else if (s3_xml_parse(&x, buf_text(&a->body), a->body.len)) {
		set_verdict(a, s3_classify_stop(asked->op, S3_STOP_NO_MEMORY, end->fully_sent),
			stop_message(S3_STOP_NO_MEMORY));
	} else {
		judge_answer(a, asked, end, &x);
	}
	tidy_texts(&a->reply);
	s3_xml_release(&x);
}

/* ---- a reply's own ----------------------------------------------------------------------------------- */

void s3_reply_release(struct s3_reply *r)
{
	free(r->list.entries);
	free(r->list.keys);
	free(r->list.next_token);
	free(r->parts);
	buf_release(&r->text);
	r->list = (struct s3_list_page){0};
	r->parts = NULL;
	r->part_count = 0;
}

void s3_reply_move(struct s3_reply *to, struct s3_reply *from)
{
	*to = *from;
	from->list = (struct s3_list_page){0};
	from->parts = NULL;
	from->part_count = 0;
	buf_init(&from->text, 0);
}
