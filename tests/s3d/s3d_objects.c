/*
 * objects - PutObject, GetObject and HeadObject, DeleteObject(s), CopyObject, GetObjectAcl,
 * GetObjectTagging.
 */
#include "s3d_server.h"
#include "s3d_xml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void reply_checksum(struct request *request, const struct object *object)
{
	AUTO(free_str) char *name = NULL;
	char crc[16];

	if (object->checksum_kind == DIGEST_NONE)
		return;
	if (object->checksum_kind == DIGEST_CRC64NVME) {
		if (!request->server->options.crc64nvme)
			return;
		crc64nvme_base64(object->crc64, crc);
		reply_header(request, CRC64NVME_HEADER, "%s", crc);
	} else {
		name = str_printf("x-amz-checksum-%s", digest_kind_name(object->checksum_kind));
		for (char *c = name; *c; c++)
			*c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
		reply_header(request, name, "%s", object->checksum);
	}
	reply_header(request, "x-amz-checksum-type", "FULL_OBJECT");
}

static const char *request_access_key(const struct request *request)
{
	return request->sig.key ? request->sig.key->access : "anonymous";
}

/* --- PUT --- */

void handle_put_object(struct request *request)
{
	const struct conditions conditions = request_conditions(request, true);
	AUTO(object_unrefp) struct object *stored = NULL;
	struct object *object = object_create(request->key);
	struct body *body = &request->body;
	bool plain_checksum = body->options.checksum != DIGEST_NONE &&
		body->options.checksum != DIGEST_CRC64NVME;
	int r;

	/* with a dash no client takes it for an MD5 */
	snprintf(object->etag, sizeof(object->etag), "%.32s%s", body->etag, body_has_md5(body) ? "" : "-1");
	object->crc64 = body->crc64;
	object->checksum_kind = plain_checksum ? body->options.checksum : DIGEST_CRC64NVME;
	if (plain_checksum)
		memcpy(object->checksum, body->checksum_text, sizeof(object->checksum));
	object_set(&object->owner, request_access_key(request));
	object_set(&object->acl, request_header(request, "x-amz-acl"));
	free(object->headers);
	object->headers = request_stored_headers(request);
	r = bucket_put(request->bucket, object, &body->temp, &conditions, &stored);
	if (r) {
		reply_error(request, error_from_errno(r));
		return;
	}
	request->reply.status = 200;
	reply_header(request, "ETag", "\"%s\"", stored->etag);
	reply_checksum(request, stored);
}

/* --- GET and HEAD --- */

struct byte_range {
	uint64_t from;
	uint64_t len;
	bool partial;
};

/* One range of bytes, as RFC 9110 §14.1.2; anything else is ignored, as S3 does. */
static int range_parse(const char *text, uint64_t size, struct byte_range *range)
{
	AUTO(free_str) char *copy = NULL;
	char *dash;
	uint64_t first, last = UINT64_MAX;

	if (!str_starts(text, "bytes=") || strchr(text, ','))
		return 0;
	copy = str_dup(text + 6);
	dash = strchr(copy, '-');
	if (!dash)
		return 0;
	*dash++ = '\0';
	if (!*copy) {
		if (str_to_u64(dash, &last))
			return 0;
		if (!last || !size)
			return -ERANGE;
		first = last < size ? size - last : 0;
		last = size - 1;
	} else if (str_to_u64(copy, &first) || (*dash && str_to_u64(dash, &last)) ||
		last < first) {
		return 0;
	}
	if (first >= size)
		return -ERANGE;
	range->from = first;
	range->len = (last < size ? last + 1 : size) - first;
	range->partial = true;
	return 0;
}

/* The n-th part of a multipart object; an object in one piece is its own part 1. */
static int range_of_part(const struct object *object, uint64_t number, struct byte_range *range,
	uint64_t *ret_parts)
{
	const char *sizes = object->part_sizes;
	uint64_t at = 0, count = 0;
	bool found = false;

	if (!*sizes) {
		range->partial = true;
		return number == 1 ? 0 : -ERANGE;
	}
	for (char *end; *sizes; sizes = *end ? end + 1 : end) {
		uint64_t size = strtoull(sizes, &end, 10);

		if (++count == number) {
			*range = (struct byte_range){.from = at, .len = size, .partial = true};
			found = true;
		}
		at += size;
	}
	*ret_parts = count;
	return found ? 0 : -ERANGE;
}

static enum s3d_error request_find_range(struct request *request, const struct object *object,
	struct byte_range *range)
{
	const char *text = request_header(request, "range");
	bool bad = false;
	uint64_t number = request_number(request, "partNumber", 0, &bad), parts = 0;

	*range = (struct byte_range){.len = object->size_bytes};
	if (bad)
		return ERROR_INVALID_ARGUMENT;
	if (number) {
		if (range_of_part(object, number, range, &parts))
			return ERROR_INVALID_PART_NUMBER;
		if (parts)
			reply_header(request, "x-amz-mp-parts-count", "%llu",
				(unsigned long long)parts);
		return ERROR_NONE;
	}
	return text && range_parse(text, object->size_bytes, range) ? ERROR_INVALID_RANGE
								    : ERROR_NONE;
}

static bool etag_list_matches(const char *list, const char *etag)
{
	size_t len = strlen(etag);

	if (!strcmp(list, "*"))
		return true;
	for (const char *p = list; *p; p += *p == ',') {
		const char *start = p + strspn(p, " \"");

		if (!strncmp(start, etag, len) && (!start[len] || strchr("\", ", start[len])))
			return true;
		p += strcspn(p, ",");
	}
	return false;
}

static enum s3d_error conditions_of_get(const struct request *request,
	const struct object *object)
{
	const char *match = request_header(request, "if-match");
	const char *none_match = request_header(request, "if-none-match");
	const char *since = request_header(request, "if-modified-since");
	const char *until = request_header(request, "if-unmodified-since");
	int64_t modified_ms = object->modified_ms / 1000 * 1000, ms;

	if (match && !etag_list_matches(match, object->etag))
		return ERROR_PRECONDITION_FAILED;
	if (!match && until && !time_parse_http(until, &ms) && modified_ms > ms)
		return ERROR_PRECONDITION_FAILED;
	if (none_match && etag_list_matches(none_match, object->etag))
		return ERROR_NOT_MODIFIED;
	if (!none_match && since && !time_parse_http(since, &ms) && modified_ms <= ms)
		return ERROR_NOT_MODIFIED;
	return ERROR_NONE;
}

static void reply_stored_headers(struct request *request, const struct object *object)
{
	AUTO(free_str) char *copy = str_dup(object->headers);
	char *rest = copy, *line;
	bool typed = false;

	while ((line = strsep(&rest, "\n"))) {
		char *value = strstr(line, ": ");

		if (!value)
			continue;
		*value = '\0';
		typed = typed || !strcmp(line, "content-type");
		reply_header(request, line, "%s", value + 2);
	}
	if (!typed)
		reply_header(request, "content-type", "binary/octet-stream");
}

static void reply_object_headers(struct request *request, const struct object *object,
	const struct byte_range *range)
{
	const char *mode = request_header(request, "x-amz-checksum-mode");
	char modified[40];

	time_format_http(object->modified_ms, modified, sizeof(modified));
	reply_header(request, "ETag", "\"%s\"", object->etag);
	reply_header(request, "Last-Modified", "%s", modified);
	reply_header(request, "Accept-Ranges", "bytes");
	reply_stored_headers(request, object);
	if (mode && !strcasecmp(mode, "enabled") && !range->partial) /* it is that of the whole */
		reply_checksum(request, object);
	if (range->partial && object->size_bytes)
		reply_header(request, "Content-Range", "bytes %llu-%llu/%llu",
			(unsigned long long)range->from,
			(unsigned long long)(range->from + range->len - 1),
			(unsigned long long)object->size_bytes);
}

/* A sink kept nothing: zeros. */
static int request_data_fd(const struct request *request, int *fd)
{
	int data = *fd >= 0 ? *fd : dup(request->server->zero_fd);

	*fd = -1;
	return data;
}

void handle_get_object(struct request *request)
{
	AUTO(object_unrefp) struct object *object = NULL;
	AUTO(close_fd) int fd = -1;
	struct byte_range range;
	enum s3d_error error =
		error_from_errno(bucket_get(request->bucket, request->key, &object, &fd));

	if (!error)
		error = conditions_of_get(request, object);
	if (!error)
		error = request_find_range(request, object, &range);
	if (error) {
		reply_error(request, error);
		if (error == ERROR_NOT_MODIFIED)
			reply_header(request, "ETag", "\"%s\"", object->etag);
		return;
	}
	request->reply.status = range.partial ? 206 : 200;
	reply_object_headers(request, object, &range);
	request->reply.length_bytes = range.len;
	request->reply.is_data = true;
	if (strcmp(request->method, "HEAD") && range.len) {
		request->reply.fd = request_data_fd(request, &fd);
		request->reply.fd_offset = range.from;
	}
}

/* --- DELETE --- */

void handle_delete_object(struct request *request)
{
	const struct conditions conditions = request_conditions(request, false);
	int r = bucket_delete(request->bucket, request->key, &conditions);

	if (r) {
		reply_error(request, error_from_errno(r));
		return;
	}
	request->reply.status = 204;
}

static enum s3d_error delete_one(struct request *request, const char *key, const char *etag)
{
	const struct conditions conditions = {
		.if_match = request->server->options.conditions == CONDITIONS_ON ? etag : NULL};

	if (!*key)
		return ERROR_INVALID_ARGUMENT;
	if (!request_may_touch(request, request->bucket_name, key))
		return ERROR_ACCESS_DENIED;
	return error_from_errno(bucket_delete(request->bucket, key, &conditions));
}

void handle_delete_objects(struct request *request)
{
	const struct buf *body = &request->body.memory;
	AUTO(xml_delete_release) struct xml_delete list = {0};
	AUTO(buf_release) struct buf out = {0};

	if (xml_read_delete(buf_text(body), body->len, &list)) {
		reply_error(request, ERROR_MALFORMED_XML);
		return;
	}
	xml_begin(&out, "DeleteResult");
	for (size_t i = 0; i < list.len; i++) {
		enum s3d_error error = delete_one(request, list.keys[i], list.etags[i]);

		if (!error && list.quiet)
			continue;
		xml_open(&out, error ? "Error" : "Deleted");
		xml_text(&out, "Key", list.keys[i]);
		if (error) {
			xml_text(&out, "Code", error_text(error)->code);
			xml_text(&out, "Message", error_text(error)->message);
		}
		xml_close(&out, error ? "Error" : "Deleted");
	}
	xml_close(&out, "DeleteResult");
	reply_xml(request, 200, &out);
}

/* --- copy --- */

static enum s3d_error copy_source_conditions(const struct request *request,
	const struct object *source)
{
	const char *match = request_header(request, "x-amz-copy-source-if-match");
	const char *none_match = request_header(request, "x-amz-copy-source-if-none-match");

	if (match && !etag_list_matches(match, source->etag))
		return ERROR_PRECONDITION_FAILED;
	if (none_match && etag_list_matches(none_match, source->etag))
		return ERROR_PRECONDITION_FAILED;
	return ERROR_NONE;
}

/* "[/]bucket/key", percent-encoded. */
enum s3d_error request_copy_source(struct request *request, struct object **ret, int *ret_fd)
{
	const char *header = request_header(request, "x-amz-copy-source");
	AUTO(free_str) char *path = NULL;
	AUTO(free_str) char *name = NULL;
	AUTO(object_unrefp) struct object *source = NULL;
	struct bucket *bucket;
	enum s3d_error error;
	char *slash;

	header += *header == '/';
	if (uri_decode(header, strlen(header), false, &path))
		return ERROR_INVALID_ARGUMENT;
	slash = strchr(path, '/');
	if (!slash || !slash[1])
		return ERROR_INVALID_ARGUMENT;
	name = str_dupn(path, (size_t)(slash - path));
	bucket = store_bucket_find(request->server->store, name);
	if (!bucket)
		return ERROR_NO_SUCH_BUCKET;
	if (!request_may_touch(request, name, slash + 1))
		return ERROR_ACCESS_DENIED;
	error = error_from_errno(bucket_get(bucket, slash + 1, &source, ret_fd));
	if (!error)
		error = copy_source_conditions(request, source);
	if (!error)
		*ret = object_ref(source);
	return error;
}

static struct object *copy_create(struct request *request, const struct object *source)
{
	const char *directive = request_header(request, "x-amz-metadata-directive");
	struct object *object = object_create(request->key);

	object->crc64 = source->crc64;
	object->checksum_kind = source->checksum_kind;
	memcpy(object->checksum, source->checksum, sizeof(object->checksum));
	memcpy(object->etag, source->etag, sizeof(object->etag));
	object_set(&object->owner, request_access_key(request));
	object_set(&object->acl, request_header(request, "x-amz-acl"));
	free(object->headers);
	object->headers = directive && !strcasecmp(directive, "REPLACE")
		? request_stored_headers(request) : str_dup(source->headers);
	return object;
}

/* A copy is one piece: its ETag is the MD5 of its content, also where the source's was not. */
static int copy_data(struct request *request, struct object *object, const struct object *source,
	int fd, struct temp *temp)
{
	struct digest md5;
	uint8_t hash[DIGEST_MAX_BYTES];
	char data[65536];
	off_t offset = 0;
	ssize_t n;
	int r = temp_create(request->server->store, temp);

	if (!r)
		r = temp_copy(temp, fd, 0, source->size_bytes);
	if (r || fd < 0 || !*source->part_sizes)
		return r;
	digest_init(&md5, DIGEST_MD5);
	while ((n = pread(fd, data, sizeof(data), offset)) > 0) {
		digest_update(&md5, data, (size_t)n);
		offset += n;
	}
	digest_final(&md5, hash);
	digest_release(&md5);
	hex_encode(hash, 16, object->etag);
	return n < 0 ? -errno : 0;
}

static void reply_copy(struct request *request, const struct object *object, const char *root)
{
	AUTO(buf_release) struct buf out = {0};
	char crc[16];

	xml_begin(&out, root);
	xml_etag(&out, object->etag);
	xml_time(&out, "LastModified", object->modified_ms);
	if (request->server->options.crc64nvme && object->checksum_kind == DIGEST_CRC64NVME) {
		crc64nvme_base64(object->crc64, crc);
		xml_text(&out, "ChecksumType", "FULL_OBJECT");
		xml_text(&out, "ChecksumCRC64NVME", crc);
	}
	xml_close(&out, root);
	reply_xml(request, 200, &out);
}

void handle_copy_object(struct request *request)
{
	const struct conditions conditions = request_conditions(request, false);
	AUTO(object_unrefp) struct object *source = NULL;
	AUTO(object_unrefp) struct object *stored = NULL;
	AUTO(temp_discard) struct temp temp = {.fd = -1};
	AUTO(close_fd) int fd = -1;
	enum s3d_error error = request_copy_source(request, &source, &fd);
	struct object *object;
	int r;

	if (!error && source->size_bytes > 5ULL << 30)
		error = ERROR_INVALID_REQUEST;
	if (error) {
		reply_error(request, error);
		return;
	}
	object = copy_create(request, source);
	r = copy_data(request, object, source, fd, &temp);
	if (r)
		object_unref(object);
	else
		r = bucket_put(request->bucket, object, &temp, &conditions, &stored);
	if (r)
		reply_error(request, error_from_errno(r));
	else
		reply_copy(request, stored, "CopyObjectResult");
}

/* --- ACL --- */

static void xml_grant(struct buf *out, const char *type, const char *id, const char *permission)
{
	buf_printf(out, "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" "
			"xsi:type=\"%s\">", type);
	xml_text(out, strcmp(type, "Group") ? "ID" : "URI", id);
	buf_str(out, "</Grantee>");
	xml_text(out, "Permission", permission);
	xml_close(out, "Grant");
}

static void xml_canned_grants(struct buf *out, const char *acl)
{
	static const char all_users[] = "http://acs.amazonaws.com/groups/global/AllUsers";

	if (!strcmp(acl, "bucket-owner-full-control"))
		xml_grant(out, "CanonicalUser", OWNER_ID, "FULL_CONTROL");
	else if (!strcmp(acl, "bucket-owner-read"))
		xml_grant(out, "CanonicalUser", OWNER_ID, "READ");
	else if (str_starts(acl, "public-read"))
		xml_grant(out, "Group", all_users, "READ");
	if (!strcmp(acl, "public-read-write"))
		xml_grant(out, "Group", all_users, "WRITE");
}

void handle_get_object_acl(struct request *request)
{
	AUTO(object_unrefp) struct object *object = NULL;
	AUTO(buf_release) struct buf out = {0};
	int r = bucket_get(request->bucket, request->key, &object, NULL);
	const char *owner;

	if (r) {
		reply_error(request, error_from_errno(r));
		return;
	}
	owner = *object->owner ? object->owner : OWNER_ID;
	xml_begin(&out, "AccessControlPolicy");
	xml_open(&out, "Owner");
	xml_text(&out, "ID", owner);
	xml_close(&out, "Owner");
	xml_open(&out, "AccessControlList");
	xml_grant(&out, "CanonicalUser", owner, "FULL_CONTROL");
	xml_canned_grants(&out, object->acl);
	xml_close(&out, "AccessControlList");
	xml_close(&out, "AccessControlPolicy");
	reply_xml(request, 200, &out);
}

/* No object has tags; `aws s3 cp` asks before it copies a large one. */
void handle_get_object_tagging(struct request *request)
{
	AUTO(object_unrefp) struct object *object = NULL;
	AUTO(buf_release) struct buf out = {0};
	int r = bucket_get(request->bucket, request->key, &object, NULL);

	if (r) {
		reply_error(request, error_from_errno(r));
		return;
	}
	xml_begin(&out, "Tagging");
	xml_text(&out, "TagSet", "");
	xml_close(&out, "Tagging");
	reply_xml(request, 200, &out);
}
