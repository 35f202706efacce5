/*
 * server - what the parts of s3d share: the server, a request on its way, its reply.
 *
 * Way of a request: s3d_http.c (libmicrohttpd) reads it, s3d_dispatch.c finds its operation and
 * checks who may do it, s3d_body.c takes the body in, a handler (s3d_objects.c, s3d_multipart.c,
 * s3d_list.c, s3d_admin.c) acts and fills the reply in, s3d_http.c sends it. Faults are played at
 * the marked points of s3d_http.c and on the reply (s3d_reply.c).
 *
 * Threads: one per connection; a handler may block.
 */
#pragma once

#include "s3d_body.h"
#include "s3d_error.h"
#include "s3d_fault.h"
#include "s3d_sig.h"
#include "s3d_store.h"
#include "s3d_uploads.h"

#include <microhttpd.h>

struct request_log;

#define OWNER_ID "s3d-bucket-owner"
#define CRC64NVME_HEADER "x-amz-checksum-crc64nvme"

enum conditions_mode {
	CONDITIONS_OFF, /* ignored */
	CONDITIONS_PUT, /* on PutObject only, as RADOS Gateway 16 does */
	CONDITIONS_ON,
};

struct server_options {
	const char *listen_host;
	unsigned listen_port;
	const char *port_file;
	const char *root;
	const char *region;
	const char *fault_script;
	const char *request_log;
	const char *require_acl; /* NULL = none */
	const char *services;    /* s3d_services.h; NULL = none */
	bool public;             /* reading needs no signature */
	bool crc64nvme;
	enum conditions_mode conditions;
	int64_t delay_ms;
	bool sink;
	bool keep_versions;
	bool fast_tag;
	uint64_t page_size;
	uint64_t min_part_size_bytes;
};

struct server {
	struct server_options options;
	struct store *store;
	struct sig_keys keys;
	struct fault_script *faults;
	struct request_log *log;
	int zero_fd; /* endless zeros: what a sink serves */
	_Atomic bool stopping;
};

struct header {
	char *name;
	char *value;
};

struct reply {
	int status;
	enum s3d_error error;
	const char *code; /* "" or the S3 error code (borrowed) */
	struct header *headers;
	size_t headers_len;
	struct buf body;
	int fd;               /* -1, or the data of a GET: … */
	uint64_t fd_offset;   /* … from here */
	uint64_t length_bytes; /* Content-Length; also of what HEAD does not send */
	bool is_data;         /* an object's bytes, not XML */
};

struct parameter {
	char *name;
	char *value;
};

struct request {
	struct server *server;
	struct MHD_Connection *connection;
	unsigned long connection_id;
	unsigned long id;
	char *method;
	char *raw_path;
	char *raw_query; /* NULL = none */
	struct parameter *parameters;
	size_t parameters_len;
	char *bucket_name; /* "" = the service itself */
	char *key;         /* "" = the bucket itself */
	struct bucket *bucket;
	const struct operation *operation;
	struct fault fault;
	struct sig sig;
	struct body body;
	enum s3d_error error; /* the request failed before its handler */
	struct reply reply;
	int64_t started_ms; /* monotonic */
	int64_t now_ms;     /* the server's clock, as this request sees it */
	bool prepared;
	bool counted;  /* among those on their way */
	bool finished; /* logged */
};

enum operation_level { LEVEL_ADMIN, LEVEL_SERVICE, LEVEL_BUCKET, LEVEL_OBJECT };

#define OPERATION_NEEDS_ACL 1u       /* subject to --require-acl */
#define OPERATION_MAKES_BUCKET 2u    /* the bucket need not exist */
#define OPERATION_LISTS 4u           /* a limited key needs its prefix= */
#define OPERATION_CHECKS_KEYS 8u     /* the handler checks each key against the limit */
#define OPERATION_CHECKS_SIGNATURE 16u /* the handler does, if there is to be one */

/* A row of the dispatch table; the first that fits is taken. */
struct operation {
	const char *name;
	const char *method;
	enum operation_level level;
	const char *query;  /* this parameter must be there (LEVEL_ADMIN: the path) */
	const char *header; /* this header must be there */
	enum body_kind body;
	unsigned flags;
	void (*handle)(struct request *request);
};

/* s3d_dispatch.c */
/* Path, query, operation, fault, signature, permissions: fills request->error. */
void request_prepare(struct request *request);
/* service NULL: s3; body NULL: its hash is in a header. Fills request->sig. */
enum s3d_error request_check_signature(struct request *request, const char *service,
	const struct buf *body);
/* May the request's credentials touch this key? */
bool request_may_touch(const struct request *request, const char *bucket, const char *key);

/* s3d_request.c */
const char *request_header(const struct request *request, const char *name);
/* NULL if absent, "" for `?name`. */
const char *request_parameter(const struct request *request, const char *name);
void request_split_uri(struct request *request, const char *uri);
int request_parse_query(struct request *request);
void request_release(struct request *request);
struct conditions request_conditions(const struct request *request, bool is_put);
/* The headers an object keeps: Content-Type, Cache-Control …, x-amz-meta-*; "name: value\n". */
char *request_stored_headers(const struct request *request);
uint64_t request_number(const struct request *request, const char *name, uint64_t otherwise,
	bool *ret_bad);

/* s3d_reply.c */
void reply_header(struct request *request, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void reply_drop_header(struct reply *reply, const char *prefix);
void reply_error(struct request *request, enum s3d_error error);
/* The same with elements of its own inside <Error>. */
void reply_error_with(struct request *request, enum s3d_error error, const char *xml);
void reply_error_text(struct request *request, int status, const char *code, const char *message,
	const char *xml);
/* Takes the buffer's text as the body. */
void reply_xml(struct request *request, int status, struct buf *xml);
void reply_release(struct reply *reply);
/* Plays the request's fault on the finished reply. */
void reply_play_fault(struct request *request);

/* s3d_objects.c */
void handle_put_object(struct request *request);
void handle_get_object(struct request *request);
void handle_delete_object(struct request *request);
void handle_delete_objects(struct request *request);
void handle_copy_object(struct request *request);
void handle_get_object_acl(struct request *request);
void handle_get_object_tagging(struct request *request);
/* The object that x-amz-copy-source names, its conditions checked, and its data. */
enum s3d_error request_copy_source(struct request *request, struct object **ret, int *ret_fd);
/* x-amz-checksum-* of an object (or of a part), as HEAD shows it. */
void reply_checksum(struct request *request, const struct object *object);

/* s3d_buckets.c */
void handle_list_buckets(struct request *request);
void handle_head_bucket(struct request *request);
void handle_create_bucket(struct request *request);
void handle_get_bucket_location(struct request *request);
void handle_get_bucket_versioning(struct request *request);

/* s3d_list.c */
void handle_list_objects_v2(struct request *request);
void handle_list_objects(struct request *request);

/* s3d_multipart.c */
void handle_create_multipart_upload(struct request *request);
void handle_upload_part(struct request *request);
void handle_upload_part_copy(struct request *request);
void handle_complete_multipart_upload(struct request *request);
void handle_abort_multipart_upload(struct request *request);
void handle_list_parts(struct request *request);
void handle_list_multipart_uploads(struct request *request);

/* s3d_admin.c */
void handle_admin_stats(struct request *request);
void handle_admin_rescan(struct request *request);

/* s3d_http.c */
/* Serves until *stop; 0, or -errno if it could not start. */
int server_run(struct server *server, int listen_fd, int stop_fd);
