/*
 * struct s3_request → method, path, query, headers and XML body: one table row per operation says
 * what it needs and carries; pure.
 *
 * Source: S3 API reference, the page of each operation.
 */
#include "s3_request.h"

#include "s3_encode.h"

#include <inttypes.h>

/* ---- the operations ------------------------------------------------------------------------------ */

enum wire_part {
	HAS_KEY = 1 << 0,
	HAS_BODY = 1 << 1,       /* bytes of a file, and their digests */
	HAS_PUT_IF = 1 << 2,     /* If-None-Match: *, If-Match */
	HAS_GET_IF = 1 << 3,     /* If-Match */
	HAS_OBJECT = 1 << 4,     /* ACL, Content-Type, mtime */
	HAS_RANGE = 1 << 5,
	HAS_SOURCE = 1 << 6,     /* x-amz-copy-source… */
	HAS_UPLOAD_ID = 1 << 7,
	HAS_PART_NUMBER = 1 << 8,
	CHANGES_BUCKET = 1 << 9, /* "perhaps applied" matters */
};

struct wire_op {
	const char *name, *method;
	unsigned parts;
};

static const struct wire_op wire_ops[] = {
	[S3_HEAD_BUCKET] = {"HeadBucket", "HEAD", 0},
	[S3_LIST] = {"ListObjectsV2", "GET", 0},
	[S3_HEAD] = {"HeadObject", "HEAD", HAS_KEY | HAS_GET_IF},
	[S3_GET] = {"GetObject", "GET", HAS_KEY | HAS_GET_IF | HAS_RANGE},
	[S3_PUT] = {"PutObject", "PUT",
		HAS_KEY | HAS_BODY | HAS_PUT_IF | HAS_OBJECT | CHANGES_BUCKET},
	[S3_DELETE] = {"DeleteObject", "DELETE", HAS_KEY | HAS_PUT_IF | CHANGES_BUCKET},
	[S3_COPY] = {"CopyObject", "PUT",
		HAS_KEY | HAS_PUT_IF | HAS_OBJECT | HAS_SOURCE | CHANGES_BUCKET},
	[S3_CREATE_MULTIPART] = {"CreateMultipartUpload", "POST",
		HAS_KEY | HAS_OBJECT | CHANGES_BUCKET},
	[S3_UPLOAD_PART] = {"UploadPart", "PUT",
		HAS_KEY | HAS_BODY | HAS_UPLOAD_ID | HAS_PART_NUMBER},
	[S3_UPLOAD_PART_COPY] = {"UploadPartCopy", "PUT",
		HAS_KEY | HAS_SOURCE | HAS_UPLOAD_ID | HAS_PART_NUMBER},
	[S3_COMPLETE_MULTIPART] = {"CompleteMultipartUpload", "POST",
		HAS_KEY | HAS_PUT_IF | HAS_UPLOAD_ID | CHANGES_BUCKET},
	[S3_ABORT_MULTIPART] = {"AbortMultipartUpload", "DELETE", HAS_KEY | HAS_UPLOAD_ID},
	[S3_LIST_PARTS] = {"ListParts", "GET", HAS_KEY | HAS_UPLOAD_ID},
	[S3_GET_ACL] = {"GetObjectAcl", "GET", HAS_KEY},
};

static bool op_has(enum s3_op op, enum wire_part part)
{
	return wire_ops[op].parts & part;
}

const char *s3_op_text(enum s3_op op)
{
	return wire_ops[op].name;
}

bool s3_op_changes_bucket(enum s3_op op)
{
	return op_has(op, CHANGES_BUCKET);
}

/* ---- checks ------------------------------------------------------------------------------------ */

static bool is_key(const char *key)
{
	return key && *key && strlen(key) <= 1024;
}

static bool is_etag(const char *etag)
{
	return !etag || (*etag && strlen(etag) < S3_ETAG_MAX && !strchr(etag, '"'));
}

static bool is_multipart_fine(const struct s3_request *r)
{
	bool id = r->upload_id && *r->upload_id && strlen(r->upload_id) < S3_UPLOAD_ID_MAX;
	bool number = r->part_number >= 1 && r->part_number <= 10000;
	bool parts = r->parts && r->part_count >= 1 && r->part_count <= 10000;
	return (id || !op_has(r->op, HAS_UPLOAD_ID)) &&
	       (number || !op_has(r->op, HAS_PART_NUMBER)) &&
	       (parts || r->op != S3_COMPLETE_MULTIPART);
}

static bool is_request_fine(const struct s3_request *r)
{
	if ((unsigned)r->op >= array_len(wire_ops))
		return false;
	if (op_has(r->op, HAS_KEY) && !is_key(r->key))
		return false;
	if (op_has(r->op, HAS_SOURCE) && !is_key(r->copy_source_key))
		return false;
	if (r->if_none_match_any && r->if_match)
		return false;
	if (op_has(r->op, HAS_BODY) && r->body.len_bytes && r->body.fd < 0)
		return false;
	if (r->has_range && (!r->range_len || r->range_start + r->range_len < r->range_start))
		return false;
	return is_etag(r->if_match) && is_etag(r->copy_source_if_match) && is_multipart_fine(r);
}

/* ---- path and query ---------------------------------------------------------------------------- */

static void add_path(struct s3_wire *w, const struct s3_endpoint *e, const struct s3_request *r)
{
	buf_add_char(&w->path, '/');
	if (e->path_style)
		buf_add_text(&w->path, e->bucket);
	if (!op_has(r->op, HAS_KEY))
		return;
	if (e->path_style)
		buf_add_char(&w->path, '/');
	s3_encode_path(&w->path, r->key);
}

struct params {
	struct s3_param items[S3_PARAMS_MAX];
	size_t count;
	char numbers[2][24];
};

static void param_add(struct params *p, const char *name, const char *value)
{
	p->items[p->count++] = (struct s3_param){name, value};
}

static void param_add_set(struct params *p, const char *name, const char *value)
{
	if (value && *value)
		param_add(p, name, value);
}

static void params_of_list(struct params *p, const struct s3_request *r)
{
	snprintf(p->numbers[0], sizeof(p->numbers[0]), "%u", r->max_keys ? r->max_keys : 1000);
	param_add(p, "list-type", "2");
	param_add(p, "encoding-type", "url");
	param_add(p, "max-keys", p->numbers[0]);
	param_add(p, "prefix", r->prefix);
	param_add_set(p, "delimiter", r->delimiter);
	param_add_set(p, "start-after", r->start_after);
	param_add_set(p, "continuation-token", r->token);
}

static void add_query(struct s3_wire *w, const struct s3_request *r)
{
	struct params p = {.count = 0};
	snprintf(p.numbers[1], sizeof(p.numbers[1]), "%u", r->part_number);
	if (r->op == S3_LIST)
		params_of_list(&p, r);
	if (r->op == S3_CREATE_MULTIPART)
		param_add(&p, "uploads", NULL);
	if (r->op == S3_GET_ACL)
		param_add(&p, "acl", NULL);
	if (op_has(r->op, HAS_UPLOAD_ID))
		param_add(&p, "uploadId", r->upload_id);
	if (op_has(r->op, HAS_PART_NUMBER))
		param_add(&p, "partNumber", p.numbers[1]);
	if (r->op == S3_LIST_PARTS && r->part_number)
		param_add(&p, "part-number-marker", p.numbers[1]);
	if (r->op == S3_LIST_PARTS)
		w->asked.part_marker = r->part_number;
	s3_encode_query(&w->query, p.items, p.count);
}

/* ---- headers ----------------------------------------------------------------------------------- */

static void add_quoted(struct s3_wire *w, const char *name, const char *etag)
{
	char quoted[S3_ETAG_MAX + 2];
	if (!etag)
		return;
	snprintf(quoted, sizeof(quoted), "\"%s\"", etag);
	s3_headers_add(&w->headers, name, quoted);
}

static void add_conditions(struct s3_wire *w, const struct s3_request *r)
{
	if (op_has(r->op, HAS_PUT_IF) && r->if_none_match_any)
		s3_headers_add(&w->headers, "if-none-match", "*");
	/* bare on writes: S3 takes the value with and without quotes, RADOS Gateway compares bytes */
	if (op_has(r->op, HAS_PUT_IF) && r->if_match)
		s3_headers_add(&w->headers, "if-match", r->if_match);
	if (op_has(r->op, HAS_GET_IF))
		add_quoted(w, "if-match", r->if_match);
	w->asked.has_condition = op_has(r->op, HAS_PUT_IF) && !r->copy_source_if_match &&
				 r->if_none_match_any != (r->if_match != NULL);
	w->asked.condition = r->if_match ? S3_IF_MATCH : S3_IF_NONE_MATCH;
	if (r->op == S3_GET && r->if_match)
		text_copy(w->asked.if_match, r->if_match, sizeof(w->asked.if_match));
}

/* Seconds with fraction, as rclone and s3fs write them; trailing zeros dropped. */
static void format_mtime(int64_t mtime_ns, char out[40])
{
	int64_t seconds = mtime_ns / NS_PER_S, rest = mtime_ns % NS_PER_S;
	bool negative = mtime_ns < 0;
	snprintf(out, 40, "%s%" PRId64 ".%09" PRId64, negative ? "-" : "",
		negative ? -seconds : seconds, negative ? -rest : rest);
	size_t len = strlen(out);
	while (out[len - 1] == '0')
		out[--len] = '\0';
	if (out[len - 1] == '.')
		out[--len] = '\0';
}

static void add_object_headers(struct s3_wire *w, const struct s3_request *r)
{
	char mtime[40];
	if (!op_has(r->op, HAS_OBJECT))
		return;
	if (r->acl)
		s3_headers_add(&w->headers, "x-amz-acl", r->acl);
	if (r->content_type)
		s3_headers_add(&w->headers, "content-type", r->content_type);
	if (r->has_mtime) {
		format_mtime(r->mtime_ns, mtime);
		s3_headers_add(&w->headers, "x-amz-meta-mtime", mtime);
	}
	if (r->op == S3_COPY && (r->content_type || r->has_mtime))
		s3_headers_add(&w->headers, "x-amz-metadata-directive", "REPLACE");
}

static void add_range(struct s3_wire *w, const struct s3_request *r, const char *name)
{
	char text[64];
	if (!r->has_range)
		return;
	snprintf(text, sizeof(text), "bytes=%" PRIu64 "-%" PRIu64, r->range_start,
		r->range_start + r->range_len - 1);
	s3_headers_add(&w->headers, name, text);
	w->asked.has_range = true;
	w->asked.range_start = r->range_start;
	w->asked.range_len = r->range_len;
}

static void add_copy_source(
	struct s3_wire *w, const struct s3_endpoint *e, const struct s3_request *r)
{
	if (!op_has(r->op, HAS_SOURCE))
		return;
	cleanup_buf struct buf source;
	buf_init(&source, 0);
	buf_printf(&source, "/%s/", e->bucket);
	s3_encode_path(&source, r->copy_source_key);
	if (buf_error(&source))
		w->headers.values.error = buf_error(&source);
	s3_headers_add(&w->headers, "x-amz-copy-source", buf_text(&source));
	add_quoted(w, "x-amz-copy-source-if-match", r->copy_source_if_match);
	if (r->op == S3_UPLOAD_PART_COPY)
		add_range(w, r, "x-amz-copy-source-range");
}

static void add_crc(struct s3_wire *w, uint64_t crc)
{
	char text[16];
	crc64nvme_to_text(crc, text);
	s3_headers_add(&w->headers, "x-amz-checksum-crc64nvme", text);
	w->asked.sent_crc = true;
	w->asked.crc = crc;
}

static void add_body_headers(struct s3_wire *w, const struct s3_request *r)
{
	if (!op_has(r->op, HAS_BODY))
		return;
	if (r->body.has_crc64nvme)
		add_crc(w, r->body.crc64nvme);
	if (!r->body.len_bytes)
		text_copy(w->payload, S3_EMPTY_SHA256, sizeof(w->payload));
	else if (r->body.has_sha256)
		hex_encode(r->body.sha256, sizeof(r->body.sha256), w->payload);
	else
		w->payload[0] = '\0';
}

static void add_multipart_headers(struct s3_wire *w, const struct s3_request *r)
{
	char total[24];
	if (r->op == S3_CREATE_MULTIPART) {
		s3_headers_add(&w->headers, "x-amz-checksum-algorithm", "CRC64NVME");
		s3_headers_add(&w->headers, "x-amz-checksum-type", "FULL_OBJECT");
	}
	if (r->op != S3_COMPLETE_MULTIPART)
		return;
	snprintf(total, sizeof(total), "%" PRIu64, r->total_bytes);
	s3_headers_add(&w->headers, "x-amz-mp-object-size", total);
	s3_headers_add(&w->headers, "content-type", "application/xml");
	if (r->has_full_crc) {
		add_crc(w, r->full_crc);
		s3_headers_add(&w->headers, "x-amz-checksum-type", "FULL_OBJECT");
	}
}

static void add_headers(struct s3_wire *w, const struct s3_endpoint *e, const struct s3_request *r)
{
	s3_headers_add(&w->headers, "host", e->host);
	add_conditions(w, r);
	add_object_headers(w, r);
	add_body_headers(w, r);
	add_copy_source(w, e, r);
	add_multipart_headers(w, r);
	if (r->op == S3_GET)
		add_range(w, r, "range");
	if (r->op == S3_HEAD || r->op == S3_GET)
		s3_headers_add(&w->headers, "x-amz-checksum-mode", "ENABLED");
}

/* ---- the body of Complete ---------------------------------------------------------------------- */

static void add_complete_xml(struct s3_wire *w, const struct s3_request *r)
{
	char crc[16];
	uint8_t digest[32];
	if (r->op != S3_COMPLETE_MULTIPART)
		return;
	buf_add_text(&w->xml, "<CompleteMultipartUpload "
			      "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (size_t i = 0; i < r->part_count; i++) {
		buf_printf(&w->xml, "<Part><PartNumber>%u</PartNumber><ETag>&quot;",
			r->parts[i].number);
		s3_encode_xml(&w->xml, r->parts[i].etag);
		buf_add_text(&w->xml, "&quot;</ETag>");
		if (r->parts[i].has_crc64nvme) {
			crc64nvme_to_text(r->parts[i].crc64nvme, crc);
			buf_printf(&w->xml, "<ChecksumCRC64NVME>%s</ChecksumCRC64NVME>", crc);
		}
		buf_add_text(&w->xml, "</Part>");
	}
	buf_add_text(&w->xml, "</CompleteMultipartUpload>");
	sha256_of(buf_text(&w->xml), w->xml.len, digest);
	hex_encode(digest, sizeof(digest), w->payload);
}

/* ---- together ---------------------------------------------------------------------------------- */

static int remember_listing(struct s3_asked *a, const struct s3_request *r)
{
	if (r->op != S3_LIST)
		return 0;
	a->prefix = text_dup(r->prefix ? r->prefix : "");
	a->token = text_dup(r->token ? r->token : "");
	return a->prefix && a->token ? 0 : -ENOMEM;
}

static int wire_error(const struct s3_wire *w)
{
	const struct buf *all[] = {&w->path, &w->query, &w->headers.values, &w->xml};
	for (size_t i = 0; i < array_len(all); i++)
		if (buf_error(all[i]))
			return buf_error(all[i]);
	return 0;
}

int s3_wire_init(
	struct s3_wire *ret, const struct s3_endpoint *endpoint, const struct s3_request *req)
{
	if (!is_request_fine(req))
		return -EINVAL;
	struct s3_wire w = {.asked = {.op = req->op}, .method = wire_ops[req->op].method};
	text_copy(w.payload, S3_EMPTY_SHA256, sizeof(w.payload));
	buf_init(&w.path, 0);
	buf_init(&w.query, 0);
	buf_init(&w.xml, 0);
	s3_headers_init(&w.headers);
	add_path(&w, endpoint, req);
	add_query(&w, req);
	add_headers(&w, endpoint, req);
	add_complete_xml(&w, req);
	int err = remember_listing(&w.asked, req);
	if (!err)
		err = wire_error(&w);
	if (err) {
		s3_wire_release(&w);
		return err;
	}
	*ret = w;
	return 0;
}

void s3_wire_release(struct s3_wire *w)
{
	buf_release(&w->path);
	buf_release(&w->query);
	buf_release(&w->xml);
	s3_headers_release(&w->headers);
	free(w->asked.prefix);
	free(w->asked.token);
	w->asked.prefix = w->asked.token = NULL;
}
