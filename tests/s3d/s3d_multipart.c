/*
 * multipart - CreateMultipartUpload, UploadPart, UploadPartCopy, Complete, Abort.
 */
#include "s3d_server.h"
#include "s3d_uploads.h"
#include "s3d_xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PART_NUMBER_MAX 10000

static enum s3d_error error_of_upload(int r)
{
	return r == -ENOENT ? ERROR_NO_SUCH_UPLOAD : error_from_errno(r);
}

static const char *request_upload_id(const struct request *request)
{
	return request_parameter(request, "uploadId");
}

/* --- Create --- */

/* CRC64NVME is only known as the checksum of the whole; a server without it ignores the request. */
static enum s3d_error request_algorithm(const struct request *request, enum digest_kind *ret)
{
	const char *algorithm = request_header(request, "x-amz-checksum-algorithm");
	const char *type = request_header(request, "x-amz-checksum-type");

	*ret = DIGEST_NONE;
	if (!algorithm)
		return ERROR_NONE;
	*ret = digest_kind_from_name(algorithm);
	if (*ret == DIGEST_CRC64NVME && !request->server->options.crc64nvme)
		*ret = DIGEST_NONE;
	else if (*ret == DIGEST_NONE || (*ret == DIGEST_CRC64NVME && type &&
						strcasecmp(type, "FULL_OBJECT")))
		return ERROR_INVALID_REQUEST;
	return ERROR_NONE;
}

void handle_create_multipart_upload(struct request *request)
{
	AUTO(buf_release) struct buf out = {0};
	enum digest_kind algorithm;
	enum s3d_error error = request_algorithm(request, &algorithm);
	struct upload *upload;
	char id[40];
	int r;

	if (error) {
		reply_error(request, error);
		return;
	}
	upload = upload_create(request->key);
	object_set(&upload->owner, request->sig.key ? request->sig.key->access : "anonymous");
	object_set(&upload->acl, request_header(request, "x-amz-acl"));
	free(upload->headers);
	upload->headers = request_stored_headers(request);
	upload->algorithm = algorithm;
	r = uploads_add(uploads_of(request->bucket), upload, id);
	if (r) {
		reply_error(request, error_from_errno(r));
		return;
	}
	xml_begin(&out, "InitiateMultipartUploadResult");
	xml_text(&out, "Bucket", request->bucket_name);
	xml_text(&out, "Key", request->key);
	xml_text(&out, "UploadId", id);
	xml_close(&out, "InitiateMultipartUploadResult");
	reply_xml(request, 200, &out);
	if (algorithm == DIGEST_NONE)
		return;
	reply_header(request, "x-amz-checksum-algorithm", "%s", digest_kind_name(algorithm));
	if (algorithm == DIGEST_CRC64NVME)
		reply_header(request, "x-amz-checksum-type", "FULL_OBJECT");
}

/* --- parts --- */

static enum s3d_error request_part_number(const struct request *request, unsigned *ret)
{
	bool bad = false;
	uint64_t number = request_number(request, "partNumber", 0, &bad);

	if (bad || !number || number > PART_NUMBER_MAX)
		return ERROR_INVALID_ARGUMENT;
	*ret = (unsigned)number;
	return ERROR_NONE;
}

/* A part must bring the kind of checksum that Create declared. */
static bool part_checksum_fits(struct request *request, enum digest_kind declared)
{
	enum digest_kind sent = request->body.options.checksum;
	AUTO(free_str) char *message = NULL;

	if (declared == DIGEST_NONE || declared == sent)
		return true;
	message = str_printf("Checksum Type mismatch occurred, expected checksum Type: %s, actual "
			     "checksum Type: %s", digest_kind_name(declared),
		sent == DIGEST_NONE ? "null" : digest_kind_name(sent));
	reply_error_text(request, 400, "InvalidRequest", message, "");
	return false;
}

static void reply_part_checksum(struct request *request, const struct part *part)
{
	struct object like = {.checksum_kind = part->checksum_kind, .crc64 = part->crc64};

	memcpy(like.checksum, part->checksum, sizeof(like.checksum));
	reply_checksum(request, &like);
	reply_drop_header(&request->reply, "x-amz-checksum-type");
}

static struct part part_of_body(const struct body *body, unsigned number)
{
	struct part part = {.number = number, .size_bytes = body->decoded_bytes,
		.modified_ms = time_now_ms(), .crc64 = body->crc64,
		.checksum_kind = DIGEST_CRC64NVME};

	memcpy(part.etag, body->etag, sizeof(part.etag));
	if (body->options.checksum != DIGEST_NONE) {
		part.checksum_kind = body->options.checksum;
		memcpy(part.checksum, body->checksum_text, sizeof(part.checksum));
	}
	return part;
}

void handle_upload_part(struct request *request)
{
	struct uploads *uploads = uploads_of(request->bucket);
	const char *id = request_upload_id(request);
	enum digest_kind declared = DIGEST_NONE;
	struct part part;
	unsigned number;
	enum s3d_error error = request_part_number(request, &number);

	if (!error)
		error = error_of_upload(uploads_algorithm(uploads, id, request->key, &declared));
	if (error) {
		reply_error(request, error);
		return;
	}
	if (!part_checksum_fits(request, declared))
		return;
	part = part_of_body(&request->body, number);
	error = error_of_upload(
		uploads_put_part(uploads, id, request->key, &part, &request->body.temp));
	if (error) {
		reply_error(request, error);
		return;
	}
	request->reply.status = 200;
	reply_header(request, "ETag", "\"%s\"", part.etag);
	reply_part_checksum(request, &part);
}

/* "bytes=first-last", both given and inside the source. */
static enum s3d_error copy_range(const struct request *request, uint64_t size, uint64_t *ret_from,
	uint64_t *ret_len)
{
	const char *header = request_header(request, "x-amz-copy-source-range");
	AUTO(free_str) char *copy = NULL;
	uint64_t first, last;
	char *dash;

	*ret_from = 0;
	*ret_len = size;
	if (!header)
		return ERROR_NONE;
	if (!str_starts(header, "bytes="))
		return ERROR_INVALID_ARGUMENT;
	copy = str_dup(header + 6);
	dash = strchr(copy, '-');
	if (!dash)
		return ERROR_INVALID_ARGUMENT;
	*dash++ = '\0';
	if (str_to_u64(copy, &first) || str_to_u64(dash, &last) || first > last || last >= size)
		return ERROR_INVALID_ARGUMENT;
	*ret_from = first;
	*ret_len = last - first + 1;
	return ERROR_NONE;
}

static int part_copy_data(struct request *request, int fd, uint64_t from, uint64_t len,
	struct temp *temp, struct part *part)
{
	uint8_t hash[DIGEST_MAX_BYTES];
	struct digest md5;
	char data[65536];
	int r = temp_create(request->server->store, temp);

	digest_init(&md5, DIGEST_MD5);
	while (!r && part->size_bytes < len) {
		uint64_t left = len - part->size_bytes;
		ssize_t n = pread(fd >= 0 ? fd : request->server->zero_fd, data,
			left < sizeof(data) ? (size_t)left : sizeof(data),
			(off_t)(from + part->size_bytes));

		if (n <= 0) {
			r = -EIO;
			break;
		}
		digest_update(&md5, data, (size_t)n);
		part->crc64 = crc64nvme_update(part->crc64, data, (size_t)n);
		part->size_bytes += (uint64_t)n;
		r = temp_write(temp, data, (size_t)n);
	}
	digest_final(&md5, hash);
	digest_release(&md5);
	hex_encode(hash, 16, part->etag);
	return r;
}

static void reply_copy_part(struct request *request, const struct part *part)
{
	AUTO(buf_release) struct buf out = {0};
	char crc[16];

	xml_begin(&out, "CopyPartResult");
	xml_etag(&out, part->etag);
	xml_time(&out, "LastModified", part->modified_ms);
	if (request->server->options.crc64nvme) {
		crc64nvme_base64(part->crc64, crc);
		xml_text(&out, "ChecksumCRC64NVME", crc);
	}
	xml_close(&out, "CopyPartResult");
	reply_xml(request, 200, &out);
}

void handle_upload_part_copy(struct request *request)
{
	AUTO(object_unrefp) struct object *source = NULL;
	AUTO(temp_discard) struct temp temp = {.fd = -1};
	AUTO(close_fd) int fd = -1;
	struct part part = {.modified_ms = time_now_ms(), .checksum_kind = DIGEST_CRC64NVME};
	uint64_t from = 0, len = 0;
	enum s3d_error error = request_part_number(request, &part.number);

	if (!error)
		error = request_copy_source(request, &source, &fd);
	if (!error)
		error = copy_range(request, source->size_bytes, &from, &len);
	if (!error)
		error = error_from_errno(part_copy_data(request, fd, from, len, &temp, &part));
	if (!error)
		error = error_of_upload(uploads_put_part(uploads_of(request->bucket),
			request_upload_id(request), request->key, &part, &temp));
	if (error)
		reply_error(request, error);
	else
		reply_copy_part(request, &part);
}

/* --- Complete --- */

/* What the listed parts make together. */
struct assembly {
	const struct part **parts;
	size_t len;
	uint64_t size_bytes;
	uint64_t crc64;
	struct buf part_sizes;
	char etag[48];
};

static void assembly_release(struct assembly *assembly)
{
	free(assembly->parts);
	buf_release(&assembly->part_sizes);
}

static bool part_matches(const struct part *part, const struct xml_part *claim, bool crc64nvme)
{
	char crc[16];

	if (strcmp(part->etag, claim->etag))
		return false;
	if (!claim->crc64nvme || !crc64nvme)
		return true;
	crc64nvme_base64(part->crc64, crc);
	return !strcmp(crc, claim->crc64nvme);
}

static enum s3d_error assembly_take_parts(struct assembly *assembly, const struct upload *upload,
	const struct xml_parts *list, bool crc64nvme)
{
	assembly->parts = mem_zalloc(list->len * sizeof(*assembly->parts));
	for (size_t i = 1; i < list->len; i++) {
		if (list->parts[i].number <= list->parts[i - 1].number)
			return ERROR_INVALID_PART_ORDER;
	}
	for (size_t i = 0; i < list->len; i++) {
		const struct part *part = upload_part(upload, list->parts[i].number);

		if (!part || !part_matches(part, &list->parts[i], crc64nvme))
			return ERROR_INVALID_PART;
		assembly->parts[assembly->len++] = part;
	}
	return ERROR_NONE;
}

static void assembly_sum_up(struct assembly *assembly)
{
	uint8_t hash[DIGEST_MAX_BYTES];
	struct digest md5;
	size_t len;

	digest_init(&md5, DIGEST_MD5);
	for (size_t i = 0; i < assembly->len; i++) {
		const struct part *part = assembly->parts[i];

		assembly->crc64 = i ? crc64nvme_combine(assembly->crc64, part->crc64,
					      part->size_bytes)
				    : part->crc64;
		assembly->size_bytes += part->size_bytes;
		buf_printf(&assembly->part_sizes, "%s%llu", i ? "," : "",
			(unsigned long long)part->size_bytes);
		if (!hex_decode(part->etag, hash, 16))
			digest_update(&md5, hash, 16);
	}
	digest_final(&md5, hash);
	digest_release(&md5);
	hex_encode(hash, 16, assembly->etag);
	len = strlen(assembly->etag);
	snprintf(assembly->etag + len, sizeof(assembly->etag) - len, "-%zu", assembly->len);
}

static bool complete_check_sizes(struct request *request, const struct assembly *assembly)
{
	uint64_t min = request->server->options.min_part_size_bytes;
	AUTO(buf_release) struct buf xml = {0};

	for (size_t i = 0; i + 1 < assembly->len; i++) {
		const struct part *part = assembly->parts[i];

		if (part->size_bytes >= min)
			continue;
		xml_number(&xml, "ProposedSize", part->size_bytes);
		xml_number(&xml, "MinSizeAllowed", min);
		xml_number(&xml, "PartNumber", part->number);
		xml_text(&xml, "ETag", part->etag);
		reply_error_with(request, ERROR_ENTITY_TOO_SMALL, buf_text(&xml));
		return false;
	}
	return true;
}

static bool complete_check_object_size(struct request *request, const struct assembly *assembly)
{
	const char *header = request_header(request, "x-amz-mp-object-size");
	AUTO(free_str) char *message = NULL;
	uint64_t size;

	if (!header || (!str_to_u64(header, &size) && size == assembly->size_bytes))
		return true;
	message = str_printf("The provided 'x-amz-mp-object-size' header value %s does not match "
			     "what was computed: %llu", header,
		(unsigned long long)assembly->size_bytes);
	reply_error_text(request, 400, "InvalidRequest", message, "");
	return false;
}

static enum s3d_error complete_check_crc(const struct request *request,
	const struct assembly *assembly)
{
	const char *want = request_header(request, CRC64NVME_HEADER);
	const char *type = request_header(request, "x-amz-checksum-type");
	uint8_t bytes[8];
	char crc[16];

	if (!want || !request->server->options.crc64nvme)
		return ERROR_NONE;
	if (base64_decode(want, bytes, sizeof(bytes)) != 8)
		return ERROR_INVALID_CHECKSUM;
	if (type && strcasecmp(type, "FULL_OBJECT"))
		return ERROR_INVALID_REQUEST;
	crc64nvme_base64(assembly->crc64, crc);
	return strcmp(crc, want) ? ERROR_BAD_DIGEST : ERROR_NONE;
}

static int assembly_write(struct request *request, const struct assembly *assembly,
	const struct upload *upload, struct temp *temp)
{
	int r = temp_create(request->server->store, temp);

	for (size_t i = 0; i < assembly->len && !r; i++) {
		const struct part *part = assembly->parts[i];
		AUTO(close_fd) int fd = temp->fd < 0 ? -1 : upload_open_part(upload, part->number);

		r = temp->fd >= 0 && fd < 0 ? fd : temp_copy(temp, fd, 0, part->size_bytes);
	}
	return r;
}

static struct object *assembly_object(const struct assembly *assembly, const struct upload *upload)
{
	struct object *object = object_create(upload->key);

	memcpy(object->etag, assembly->etag, sizeof(object->etag));
	object->crc64 = assembly->crc64;
	object->checksum_kind =
		upload->algorithm == DIGEST_NONE ? DIGEST_CRC64NVME : upload->algorithm;
	if (object->checksum_kind != DIGEST_CRC64NVME)
		object->checksum_kind = DIGEST_NONE; /* of parts; not kept for the whole */
	object_set(&object->owner, upload->owner);
	object_set(&object->acl, upload->acl);
	object_set(&object->headers, upload->headers);
	object_set(&object->part_sizes, buf_text(&assembly->part_sizes));
	return object;
}

static void reply_complete(struct request *request, const struct object *object)
{
	AUTO(buf_release) struct buf out = {0};
	char crc[16];

	xml_begin(&out, "CompleteMultipartUploadResult");
	xml_text(&out, "Location", request->raw_path);
	xml_text(&out, "Bucket", request->bucket_name);
	xml_text(&out, "Key", request->key);
	xml_etag(&out, object->etag);
	if (request->server->options.crc64nvme && object->checksum_kind == DIGEST_CRC64NVME) {
		crc64nvme_base64(object->crc64, crc);
		xml_text(&out, "ChecksumCRC64NVME", crc);
		xml_text(&out, "ChecksumType", "FULL_OBJECT");
	}
	xml_close(&out, "CompleteMultipartUploadResult");
	reply_xml(request, 200, &out);
}

/* Conditions are checked before the parts are put together, and again when it becomes visible. */
static bool complete_store(struct request *request, const struct assembly *assembly,
	const struct upload *upload)
{
	const struct conditions conditions = request_conditions(request, false);
	AUTO(temp_discard) struct temp temp = {.fd = -1};
	AUTO(object_unrefp) struct object *stored = NULL;
	int r = bucket_check(request->bucket, request->key, &conditions);

	if (!r)
		r = assembly_write(request, assembly, upload, &temp);
	if (!r)
		r = bucket_put(request->bucket, assembly_object(assembly, upload), &temp,
			&conditions, &stored);
	if (r) {
		reply_error(request, error_from_errno(r));
		return false;
	}
	reply_complete(request, stored);
	return true;
}

/* True if the object is there and the upload over. */
static bool complete_upload(struct request *request, const struct xml_parts *list,
	const struct upload *upload)
{
	AUTO(assembly_release) struct assembly assembly = {0};
	enum s3d_error error = assembly_take_parts(&assembly, upload, list,
		request->server->options.crc64nvme);

	if (error) {
		reply_error(request, error);
		return false;
	}
	assembly_sum_up(&assembly);
	if (!complete_check_sizes(request, &assembly) ||
		!complete_check_object_size(request, &assembly))
		return false;
	error = complete_check_crc(request, &assembly);
	if (error) {
		reply_error(request, error);
		return false;
	}
	return complete_store(request, &assembly, upload);
}

void handle_complete_multipart_upload(struct request *request)
{
	struct uploads *uploads = uploads_of(request->bucket);
	const struct buf *body = &request->body.memory;
	AUTO(xml_parts_release) struct xml_parts list = {0};
	struct upload *upload;

	if (xml_read_parts(buf_text(body), body->len, &list)) {
		reply_error(request, ERROR_MALFORMED_XML);
		return;
	}
	upload = uploads_take(uploads, request_upload_id(request), request->key);
	if (!upload)
		reply_error(request, ERROR_NO_SUCH_UPLOAD);
	else if (complete_upload(request, &list, upload))
		uploads_remove(uploads, upload);
	else
		uploads_return(uploads, upload);
}

void handle_abort_multipart_upload(struct request *request)
{
	struct uploads *uploads = uploads_of(request->bucket);
	struct upload *upload = uploads_take(uploads, request_upload_id(request), request->key);

	if (!upload) {
		reply_error(request, ERROR_NO_SUCH_UPLOAD);
		return;
	}
	uploads_remove(uploads, upload);
	request->reply.status = 204;
}
