/*
 * dispatch - which operation a request is, and whether it may go on.
 */
#include "s3d_services.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX_BYTES 1024
#define PUT_MAX_BYTES (5ULL << 30)

/* Further services are rows of s3d_local.c. */
static const struct operation operations[] = {
	{"AdminStats", "GET", LEVEL_ADMIN, .query = "stats", .handle = handle_admin_stats},
	{"AdminRescan", "POST", LEVEL_ADMIN, .query = "rescan", .handle = handle_admin_rescan},
	{"ListBuckets", "GET", LEVEL_SERVICE, .handle = handle_list_buckets},
	{"HeadBucket", "HEAD", LEVEL_BUCKET, .handle = handle_head_bucket},
	{"CreateBucket", "PUT", LEVEL_BUCKET, .body = BODY_MEMORY, .flags = OPERATION_MAKES_BUCKET,
		.handle = handle_create_bucket},
	{"GetBucketLocation", "GET", LEVEL_BUCKET, .query = "location",
		.handle = handle_get_bucket_location},
	{"GetBucketVersioning", "GET", LEVEL_BUCKET, .query = "versioning",
		.handle = handle_get_bucket_versioning},
	{"ListMultipartUploads", "GET", LEVEL_BUCKET, .query = "uploads",
		.flags = OPERATION_LISTS, .handle = handle_list_multipart_uploads},
	{"ListObjectsV2", "GET", LEVEL_BUCKET, .query = "list-type", .flags = OPERATION_LISTS,
		.handle = handle_list_objects_v2},
	{"ListObjects", "GET", LEVEL_BUCKET, .flags = OPERATION_LISTS,
		.handle = handle_list_objects},
	{"DeleteObjects", "POST", LEVEL_BUCKET, .query = "delete", .body = BODY_MEMORY,
		.flags = OPERATION_CHECKS_KEYS, .handle = handle_delete_objects},
	{"HeadObject", "HEAD", LEVEL_OBJECT, .handle = handle_get_object},
	{"GetObjectAcl", "GET", LEVEL_OBJECT, .query = "acl", .handle = handle_get_object_acl},
	{"GetObjectTagging", "GET", LEVEL_OBJECT, .query = "tagging",
		.handle = handle_get_object_tagging},
	{"ListParts", "GET", LEVEL_OBJECT, .query = "uploadId", .handle = handle_list_parts},
	{"GetObject", "GET", LEVEL_OBJECT, .handle = handle_get_object},
	{"CreateMultipartUpload", "POST", LEVEL_OBJECT, .query = "uploads",
		.flags = OPERATION_NEEDS_ACL, .handle = handle_create_multipart_upload},
	{"CompleteMultipartUpload", "POST", LEVEL_OBJECT, .query = "uploadId",
		.body = BODY_MEMORY, .handle = handle_complete_multipart_upload},
	{"AbortMultipartUpload", "DELETE", LEVEL_OBJECT, .query = "uploadId",
		.handle = handle_abort_multipart_upload},
	{"UploadPartCopy", "PUT", LEVEL_OBJECT, .query = "uploadId",
		.header = "x-amz-copy-source", .handle = handle_upload_part_copy},
	{"UploadPart", "PUT", LEVEL_OBJECT, .query = "uploadId", .body = BODY_FILE,
		.handle = handle_upload_part},
	{"CopyObject", "PUT", LEVEL_OBJECT, .header = "x-amz-copy-source",
		.flags = OPERATION_NEEDS_ACL, .handle = handle_copy_object},
	{"PutObject", "PUT", LEVEL_OBJECT, .body = BODY_FILE, .flags = OPERATION_NEEDS_ACL,
		.handle = handle_put_object},
	{"DeleteObject", "DELETE", LEVEL_OBJECT, .handle = handle_delete_object},
};

static const struct operation operation_unknown = {"Unknown", "", LEVEL_SERVICE, .handle = NULL};

/* Parameters that make a request another one: unless a row names them, NotImplemented. */
static const char *const subresources[] = {"acl", "tagging", "versioning", "policy", "lifecycle",
	"cors", "website", "encryption", "object-lock", "versions", "replication", "notification",
	"logging", "retention", "legal-hold", "torrent", "restore", "select", "attributes",
	"accelerate", "requestPayment", "ownershipControls", "publicAccessBlock", "inventory",
	"intelligent-tiering", "metrics", "analytics", "policyStatus", "uploads", "delete",
	"location", "uploadId", "versionId", "append", "renameObject"};

static enum operation_level request_level(const struct request *request)
{
	if (!strcmp(request->bucket_name, "_s3d"))
		return LEVEL_ADMIN;
	if (!*request->bucket_name)
		return LEVEL_SERVICE;
	return *request->key ? LEVEL_OBJECT : LEVEL_BUCKET;
}

static bool operation_fits(const struct operation *operation, const struct request *request)
{
	if (operation->level != request_level(request) ||
		strcmp(operation->method, request->method))
		return false;
	if (operation->level == LEVEL_ADMIN)
		return !strcmp(operation->query, request->key);
	if (operation->query && !request_parameter(request, operation->query))
		return false;
	return !operation->header || request_header(request, operation->header);
}

static bool operation_ignores_subresource(const struct operation *operation,
	const struct request *request)
{
	for (size_t i = 0; i < ARRAY_SIZE(subresources); i++) {
		if (request_parameter(request, subresources[i]) &&
			(!operation->query || strcmp(operation->query, subresources[i])))
			return true;
	}
	return false;
}

static enum s3d_error request_find_operation(struct request *request)
{
	request->operation = services_operation(request);
	if (request->operation)
		return ERROR_NONE;
	request->operation = &operation_unknown;
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		if (!operation_fits(&operations[i], request))
			continue;
		if (operation_ignores_subresource(&operations[i], request))
			return ERROR_NOT_IMPLEMENTED;
		request->operation = &operations[i];
		return ERROR_NONE;
	}
	return ERROR_METHOD_NOT_ALLOWED;
}

/* "/bucket/key" or, with the bucket in the Host header, "/key". */
static enum s3d_error request_parse_path(struct request *request)
{
	const char *host = request_header(request, "host");
	AUTO(free_str) char *path = NULL;
	struct bucket *bucket;
	const char *slash;

	if (uri_decode(request->raw_path, strlen(request->raw_path), false, &path) ||
		path[0] != '/')
		return ERROR_INVALID_URI;
	free(request->bucket_name);
	free(request->key);
	bucket = host ? store_bucket_of_host(request->server->store, host) : NULL;
	if (bucket && !str_starts(path, "/_s3d/")) {
		request->bucket_name = str_dup(bucket_name(bucket));
		request->key = str_dup(path + 1);
	} else {
		slash = strchrnul(path + 1, '/');
		request->bucket_name = str_dupn(path + 1, (size_t)(slash - path - 1));
		request->key = str_dup(*slash ? slash + 1 : "");
	}
	if (strlen(request->key) > KEY_MAX_BYTES)
		return ERROR_KEY_TOO_LONG;
	return str_is_utf8(path) ? ERROR_NONE : ERROR_INVALID_URI;
}

/* --- signature --- */

struct header_search {
	const char *name;
	struct buf *out;
	bool found;
	void (*each)(void *arg, const char *name);
	void *arg;
};

static enum MHD_Result header_search_visit(void *cls, enum MHD_ValueKind kind, const char *name,
	const char *value)
{
	struct header_search *search = cls;

	(void)kind;
	if (strcasecmp(name, search->name))
		return MHD_YES;
	if (search->found)
		buf_char(search->out, ',');
	buf_str(search->out, value ? value : "");
	search->found = true;
	return MHD_YES;
}

static bool request_header_joined(const void *cls, const char *name, struct buf *out)
{
	const struct request *request = cls;
	struct header_search search = {.name = name, .out = out};

	MHD_get_connection_values(request->connection, MHD_HEADER_KIND, header_search_visit,
		&search);
	return search.found;
}

static enum MHD_Result header_name_visit(void *cls, enum MHD_ValueKind kind, const char *name,
	const char *value)
{
	struct header_search *search = cls;
	AUTO(free_str) char *lower = str_dup(name);

	(void)kind;
	(void)value;
	for (char *c = lower; *c; c++)
		*c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
	search->each(search->arg, lower);
	return MHD_YES;
}

static void request_header_names(const void *cls, void (*each)(void *arg, const char *name),
	void *arg)
{
	const struct request *request = cls;
	struct header_search search = {.each = each, .arg = arg};

	MHD_get_connection_values(request->connection, MHD_HEADER_KIND, header_name_visit, &search);
}

enum s3d_error request_check_signature(struct request *request, const char *service,
	const struct buf *body)
{
	char sha256[65];
	const struct sig_request sig_request = {
		.method = request->method,
		.raw_path = request->raw_path,
		.raw_query = request->raw_query,
		.now_ms = request->now_ms,
		.expire_token = request->fault.expire_token,
		.service = service,
		.payload_sha256 = body ? sha256 : NULL,
		.header = request_header_joined,
		.headers = request_header_names,
		.cls = request,
	};

	if (body)
		sha256_hex(buf_text(body), body->len, sha256);
	if (body && request_header(request, "x-amz-content-sha256") &&
		strcmp(request_header(request, "x-amz-content-sha256"), sha256))
		return ERROR_SHA256_MISMATCH;
	return sig_check(&request->server->keys, &sig_request, &request->sig);
}

/* --- permissions --- */

bool request_may_touch(const struct request *request, const char *bucket, const char *key)
{
	const struct sig_key *limit = request->sig.key;

	if (!limit || !limit->bucket)
		return true;
	return !strcmp(limit->bucket, bucket) && str_starts(key, limit->prefix);
}

static enum s3d_error request_check_limit(const struct request *request)
{
	const struct operation *operation = request->operation;
	const char *prefix = request_parameter(request, "prefix");
	bool allowed = true;

	if (request->sig.key && request->sig.key->read_only && strcmp(request->method, "GET") &&
		strcmp(request->method, "HEAD"))
		return ERROR_ACCESS_DENIED;
	if (operation->flags & OPERATION_CHECKS_KEYS)
		return ERROR_NONE;
	if (operation->level == LEVEL_OBJECT)
		allowed = request_may_touch(request, request->bucket_name, request->key);
	else if (operation->flags & OPERATION_LISTS)
		allowed = request_may_touch(request, request->bucket_name, prefix ? prefix : "");
	else if (operation->level == LEVEL_BUCKET)
		allowed = !request->sig.key || !request->sig.key->bucket ||
			(!strcmp(request->sig.key->bucket, request->bucket_name) &&
				!(operation->flags & OPERATION_MAKES_BUCKET));
	return allowed ? ERROR_NONE : ERROR_ACCESS_DENIED;
}

static enum s3d_error request_check_acl(const struct request *request)
{
	const char *want = request->server->options.require_acl;
	const char *acl = request_header(request, "x-amz-acl");

	if (!want || !(request->operation->flags & OPERATION_NEEDS_ACL))
		return ERROR_NONE;
	return acl && !strcmp(acl, want) ? ERROR_NONE : ERROR_MISSING_ACL;
}

static enum s3d_error request_check_bucket(struct request *request)
{
	if (request->operation->level < LEVEL_BUCKET)
		return ERROR_NONE;
	request->bucket = store_bucket_find(request->server->store, request->bucket_name);
	if (request->bucket || (request->operation->flags & OPERATION_MAKES_BUCKET))
		return ERROR_NONE;
	return ERROR_NO_SUCH_BUCKET;
}

/* --- body --- */

static enum s3d_error request_body_length(const struct request *request, uint64_t *ret)
{
	const char *length = request_header(request, "x-amz-decoded-content-length");

	if (!length)
		length = request_header(request, "content-length");
	*ret = UINT64_MAX;
	if (length && str_to_u64(length, ret))
		return ERROR_INVALID_ARGUMENT;
	if (request->operation->body != BODY_FILE)
		return ERROR_NONE;
	if (!length)
		return ERROR_MISSING_LENGTH;
	return *ret > PUT_MAX_BYTES ? ERROR_ENTITY_TOO_LARGE : ERROR_NONE;
}

/* Which checksum was sent or announced; CRC64NVME is not known to every server. */
static void request_find_checksum(const struct request *request, struct body_options *options)
{
	static const char prefix[] = "x-amz-checksum-";
	const char *trailer = request_header(request, "x-amz-trailer");

	for (int kind = DIGEST_SHA1; kind <= DIGEST_CRC64NVME; kind++) {
		AUTO(free_str) char *name =
			str_printf("%s%s", prefix, digest_kind_name((enum digest_kind)kind));
		const char *value = request_header(request, name);

		if (kind == DIGEST_CRC64NVME && !options->crc64nvme)
			return;
		if (value || (trailer && !strcasecmp(trailer, name))) {
			options->checksum = (enum digest_kind)kind;
			options->checksum_value = value;
			return;
		}
	}
}

static enum s3d_error request_init_body(struct request *request)
{
	struct body_options options = {
		.kind = request->operation->body,
		.store = request->server->store,
		.sig = &request->sig,
		.crc64nvme = request->server->options.crc64nvme,
		.content_md5 = request_header(request, "content-md5"),
	};
	enum s3d_error error = request_body_length(request, &options.length_bytes);

	if (error)
		return error;
	if (options.kind == BODY_FILE) /* on Complete, the checksum is that of the object */
		request_find_checksum(request, &options);
	if (options.kind == BODY_NONE)
		options.length_bytes = UINT64_MAX;
	return body_init(&request->body, &options);
}

static bool request_is_public(const struct request *request)
{
	return request->server->options.public && !request_header(request, "authorization") &&
		!request_parameter(request, "X-Amz-Signature") &&
		(!strcmp(request->method, "GET") || !strcmp(request->method, "HEAD"));
}

static enum s3d_error request_check(struct request *request)
{
	enum s3d_error error = ERROR_NONE;

	if (request->operation->level == LEVEL_ADMIN ||
		(request->operation->flags & OPERATION_CHECKS_SIGNATURE))
		return ERROR_NONE;
	if (!request_is_public(request))
		error = request_check_signature(request, NULL, NULL);
	if (!error)
		error = request_check_bucket(request);
	if (!error)
		error = request_check_limit(request);
	if (!error)
		error = request_check_acl(request);
	return error;
}

static enum s3d_error request_identify(struct request *request)
{
	enum s3d_error error = request_parse_path(request);

	if (error)
		return error;
	if (request_parse_query(request))
		return ERROR_INVALID_URI;
	return request_find_operation(request);
}

void request_prepare(struct request *request)
{
	enum s3d_error error;

	request->operation = &operation_unknown;
	request->bucket_name = str_dup("");
	request->key = str_dup("");
	error = request_identify(request);
	fault_script_match(request->server->faults, request->operation->name, request->key,
		&request->fault);
	request->now_ms = time_now_ms() + 1000 * request->fault.skew_s;
	if (!error)
		error = request_check(request);
	if (!error)
		error = request_init_body(request);
	request->error = error;
}
