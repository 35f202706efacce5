/*
 * reply - filling a reply in, and the faults that change a finished one.
 */
#include "s3d_server.h"
#include "s3d_xml.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void reply_add(struct reply *reply, const char *name, char *value)
{
	reply->headers =
		mem_realloc(reply->headers, (reply->headers_len + 1) * sizeof(*reply->headers));
	reply->headers[reply->headers_len++] =
		(struct header){.name = str_dup(name), .value = value};
}

void reply_header(struct request *request, const char *name, const char *format, ...)
{
	va_list args;
	char *value = NULL;

	va_start(args, format);
	if (vasprintf(&value, format, args) < 0)
		abort();
	va_end(args);
	reply_add(&request->reply, name, value);
}

void reply_drop_header(struct reply *reply, const char *prefix)
{
	size_t kept = 0;

	for (size_t i = 0; i < reply->headers_len; i++) {
		if (strncasecmp(reply->headers[i].name, prefix, strlen(prefix))) {
			reply->headers[kept++] = reply->headers[i];
			continue;
		}
		free(reply->headers[i].name);
		free(reply->headers[i].value);
	}
	reply->headers_len = kept;
}

static void reply_reset(struct reply *reply)
{
	reply_release(reply);
	reply->fd = -1;
}

void reply_release(struct reply *reply)
{
	reply_drop_header(reply, "");
	free(reply->headers);
	buf_release(&reply->body);
	if (reply->fd >= 0)
		close(reply->fd);
	*reply = (struct reply){.fd = -1, .code = ""};
}

void reply_xml(struct request *request, int status, struct buf *xml)
{
	struct reply *reply = &request->reply;

	reply->status = status;
	buf_release(&reply->body);
	reply->body = *xml;
	*xml = (struct buf){0};
	reply->length_bytes = reply->body.len;
	reply_header(request, "Content-Type", "application/xml");
}

void reply_error_text(struct request *request, int status, const char *code, const char *message,
	const char *xml)
{
	struct buf out = {0};

	reply_reset(&request->reply);
	request->reply.code = code;
	if (status == 304) {
		request->reply.status = status;
		return;
	}
	buf_str(&out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
	xml_text(&out, "Code", code);
	xml_text(&out, "Message", message);
	if (request->bucket_name && *request->bucket_name)
		xml_text(&out, "BucketName", request->bucket_name);
	if (request->key && *request->key)
		xml_text(&out, "Key", request->key);
	buf_str(&out, xml);
	buf_printf(&out, "<RequestId>%016lX</RequestId><HostId>s3d</HostId></Error>", request->id);
	reply_xml(request, status, &out);
}

void reply_error_with(struct request *request, enum s3d_error error, const char *xml)
{
	const struct error_text *text = error_text(error);

	reply_error_text(request, text->status, text->code, text->message, xml);
	request->reply.error = error;
}

/* What S3 adds to explain some errors. */
void reply_error(struct request *request, enum s3d_error error)
{
	AUTO(buf_release) struct buf xml = {0};
	const char *date = request_header(request, "x-amz-date");

	if (error == ERROR_TIME_TOO_SKEWED) {
		xml_text(&xml, "RequestTime", date ? date : "");
		xml_time(&xml, "ServerTime", request->now_ms);
		xml_text(&xml, "MaxAllowedSkewMilliseconds", "900000");
	} else if (error == ERROR_AUTH_MALFORMED) {
		xml_text(&xml, "Region", request->server->options.region);
	}
	reply_error_with(request, error, buf_text(&xml));
}

/* --- faults --- */

static void fault_error(struct request *request, int status)
{
	const struct fault *fault = &request->fault;
	const char *code = fault->code[0] ? fault->code : "InternalError";

	reply_error_text(request, status, code,
		fault->message[0] ? fault->message : "A fault of the script.", "");
	if (fault->leading_space) {
		struct buf body = {0};

		buf_printf(&body, "  \n \n%s", request->reply.body.data);
		buf_release(&request->reply.body);
		request->reply.body = body;
		request->reply.length_bytes = body.len;
	}
}

static void fault_redirect(struct request *request)
{
	const struct fault *fault = &request->fault;
	int status = fault->status ? (int)fault->status : 307;
	AUTO(buf_release) struct buf xml = {0};

	xml_text(&xml, "Endpoint", fault->redirect);
	reply_error_text(request, status,
		fault->code[0] ? fault->code
			       : status == 301 ? "PermanentRedirect" : "TemporaryRedirect",
		"Please send the request to the endpoint.", buf_text(&xml));
	reply_header(request, "Location", "%s", fault->redirect);
}

static char flipped(char c)
{
	return c == '0' ? '1' : c == 'A' ? 'B' : c >= '1' && c <= '9' ? '0' : 'A';
}

static void flip_header(struct reply *reply, const char *prefix, size_t at)
{
	for (size_t i = 0; i < reply->headers_len; i++) {
		char *value = reply->headers[i].value;

		if (!strncasecmp(reply->headers[i].name, prefix, strlen(prefix)) &&
			strcasecmp(reply->headers[i].name, "x-amz-checksum-type") &&
			strlen(value) > at)
			value[at] = flipped(value[at]);
	}
}

/* Finds the next `<prefix…>text</` of the body; the end of its closing tag, or NULL. */
static char *element_next(char *from, const char *prefix, char **ret_start, char **ret_text)
{
	char *start = strstr(from, prefix);
	char *text = start ? strchr(start, '>') : NULL;
	char *close_tag = text ? strstr(text, "</") : NULL;
	char *end = close_tag ? strchr(close_tag, '>') : NULL;

	if (!end)
		return NULL;
	*ret_start = start;
	*ret_text = text + 1;
	return end + 1;
}

static void drop_elements(struct reply *reply, const char *prefix)
{
	char *at = reply->body.data, *start, *text, *end;

	if (reply->is_data || !at)
		return;
	while ((end = element_next(at, prefix, &start, &text))) {
		memmove(start, end, strlen(end) + 1);
		at = start;
	}
	reply->body.len = strlen(reply->body.data);
	reply->length_bytes = reply->body.len;
}

static void flip_elements(struct reply *reply, const char *prefix, const char *skip)
{
	char *at = reply->body.data, *start, *text, *end;

	if (reply->is_data || !at)
		return;
	while ((end = element_next(at, prefix, &start, &text))) {
		if (str_starts(text, skip))
			text += strlen(skip);
		*text = flipped(*text);
		at = end;
	}
}

static void replace_body(struct request *request, struct buf *body)
{
	struct reply *reply = &request->reply;

	reply_drop_header(reply, "content-type");
	if (reply->fd >= 0)
		close(reply->fd);
	reply->fd = -1;
	reply_xml(request, reply->status ? reply->status : 200, body);
}

static void fault_huge_xml(struct request *request)
{
	struct buf body = {0};

	xml_begin(&body, "ListBucketResult");
	while (body.len < (uint64_t)request->fault.huge_xml_bytes)
		buf_str(&body, "<Contents><Key>padding</Key><Size>0</Size></Contents>\n");
	xml_close(&body, "ListBucketResult");
	replace_body(request, &body);
}

static void fault_entity_bomb(struct request *request)
{
	struct buf body = {0};

	buf_str(&body, "<?xml version=\"1.0\"?>\n"
		       "<!DOCTYPE ListBucketResult [\n<!ENTITY e0 \"ha\">\n");
	for (int i = 1; i < 30; i++)
		buf_printf(&body, "<!ENTITY e%d \"&e%d;&e%d;\">\n", i, i - 1, i - 1);
	buf_str(&body, "]>\n<ListBucketResult><Name>&e29;</Name><IsTruncated>false</IsTruncated>"
		       "<Contents><Key>&e29;</Key></Contents></ListBucketResult>");
	replace_body(request, &body);
}

static void fault_garbage_xml(struct request *request)
{
	struct buf body = {0};

	buf_str(&body, "<?xml version=\"1.0\"?>\n<ListBucketResult><Contents><Key>\x01\xff</Keys>"
		       "<Error><<&&;");
	replace_body(request, &body);
}

static void fault_nul_xml(struct request *request)
{
	const struct buf *old = &request->reply.body;
	size_t half = old->len / 2;
	struct buf body = {0};

	buf_add(&body, buf_text(old), half);
	buf_add(&body, "\0\0\0\0\0\0\0", 8);
	buf_add(&body, buf_text(old) + half, old->len - half);
	replace_body(request, &body);
}

static void fault_tags(struct reply *reply, const struct fault *fault)
{
	if (fault->no_etag) {
		reply_drop_header(reply, "etag");
		drop_elements(reply, "<ETag");
	}
	if (fault->wrong_etag) {
		flip_header(reply, "etag", 1);
		flip_elements(reply, "<ETag", "&quot;");
	}
	if (fault->no_checksum) {
		reply_drop_header(reply, "x-amz-checksum-");
		drop_elements(reply, "<Checksum");
	}
	if (fault->wrong_checksum) {
		flip_header(reply, "x-amz-checksum-", 0);
		flip_elements(reply, "<ChecksumCRC", "");
	}
}

/* Status stays what it was: the operation's, or 200. */
static void fault_bodies(struct request *request)
{
	const struct fault *fault = &request->fault;

	if (fault->garbage_xml)
		fault_garbage_xml(request);
	if (fault->huge_xml_bytes)
		fault_huge_xml(request);
	if (fault->entity_bomb)
		fault_entity_bomb(request);
	if (fault->nul_xml)
		fault_nul_xml(request);
	if (fault->empty_body) {
		struct buf none = {0};

		request->reply.status = 200;
		replace_body(request, &none);
		request->reply.is_data = false;
		request->reply.length_bytes = 0;
	}
}

void reply_play_fault(struct request *request)
{
	const struct fault *fault = &request->fault;

	if (!fault->active)
		return;
	if (fault->redirect[0])
		fault_redirect(request);
	else if (fault->error_200)
		fault_error(request, 200);
	else if (fault->status)
		fault_error(request, (int)fault->status);
	fault_tags(&request->reply, fault);
	fault_bodies(request);
}
