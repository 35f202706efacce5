/*
 * s3 - one bucket behind one endpoint: requests, signing, the HTTP loop, XML replies, error classes.
 *
 * Owns:     the only CURLM of the process and its thread; endpoint facts (clock offset, whether
 *           checksums are echoed, whether it is down).
 * Threads:  s3_submit() from any thread; done callbacks run on the loop thread and must not block:
 *           hand real work to a pool.
 * Locks:    RANK_S3; never held during a callback.
 * Errors:   0 or -errno for submitting; a request's outcome is its reply's class.
 * Seam:     struct s3 is a table of operations: s3_client_create() makes the real one; tests make
 *           fakes and faulty ones.
 * Tests:    tests/unit/test_s3_*.c
 *
 * One submit is one attempt: retrying is the caller's, with s3_backoff_ms().
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 30
#error "s3.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/base.h"

/* ---- outcome --------------------------------------------------------------------------------- */

/* The one classification of curl code + HTTP status + XML code (s3_classify.c). */
enum s3_class {
	S3_DONE,      /* the server did it, and said so completely */
	S3_NOT_FOUND, /* NoSuchKey, NoSuchUpload (see code), 404 */
	S3_RETRY,     /* transient; not applied, or harmless to repeat */
	S3_THROTTLED, /* 503 SlowDown, 429, RequestLimitExceeded … */
	S3_AUTH,      /* the credentials are at fault (expired, unknown, wrong signature) */
	S3_DENIED,    /* AccessDenied: these credentials may not do this */
	S3_CLOCK,     /* what was refused is put right (RequestTimeTooSkewed: the offset is known now;
	               * credentials that are being renewed): send again at once */
	S3_CONFLICT,  /* 412 PreconditionFailed, 409 ConditionalRequestConflict (see code) */
	S3_FATAL,     /* this request will never succeed as it is */
	S3_UNKNOWN,   /* sent (perhaps applied), no usable answer */
};
const char *s3_class_text(enum s3_class c);

#define S3_ETAG_MAX 128
#define S3_UPLOAD_ID_MAX 1024

/* What a listing or HEAD tells about an object. */
struct s3_object {
	uint64_t size_bytes;
	int64_t last_modified_ns;
	char etag[S3_ETAG_MAX]; /* without quotes */
};

struct s3_part {
	unsigned number; /* 1..10,000 */
	uint64_t size_bytes;
	char etag[S3_ETAG_MAX];
	bool has_crc64nvme;
	uint64_t crc64nvme;
};

struct s3_list_entry {
	const char *key;    /* whole key as in the bucket (decoded), or prefix ending in '/' */
	size_t key_len;     /* keys may hold any byte but NUL */
	bool is_prefix;     /* CommonPrefixes */
	struct s3_object object; /* of a key */
};

struct s3_list_page {
	struct s3_list_entry *entries; /* in key order, keys and prefixes merged */
	size_t count;
	bool truncated;
	bool unordered;   /* they came otherwise: the keys, or the prefixes, among themselves */
	char *next_token; /* when truncated */
	size_t left_out;  /* keys with a NUL byte: no file name can show them */
	char *keys;       /* where the entries' keys lie */
};

struct s3_reply {
	enum s3_class class;
	bool body_fully_sent;  /* the whole request body left: the outcome may be "applied" */
	int http_status;       /* 0: none arrived */
	char code[64];         /* XML <Code>, or a word of ours ("ConnectFailed", "Timeout", …:
	                        * src/s3/s3_classify.c has them all) */
	char message[256];     /* one line for a person */
	char request_id[64];
	int64_t date_ns;       /* Date header, 0 if none */
	/* from headers */
	struct s3_object object;     /* HEAD, GET; etag of PUT, Complete, Copy, part */
	bool has_crc64nvme;          /* x-amz-checksum-crc64nvme was in the reply */
	uint64_t crc64nvme;
	bool crc_is_full_object;     /* x-amz-checksum-type: FULL_OBJECT, or a single PUT */
	bool has_mtime;              /* x-amz-meta-mtime */
	int64_t mtime_ns;
	uint64_t content_range_total; /* GET with a range: whole size; else 0 */
	char region[32];             /* x-amz-bucket-region */
	char redirect_to[256];       /* Location/Endpoint of a 301/307, never followed */
	/* from bodies; owned by the reply, valid during the callback unless stolen */
	struct s3_list_page list;    /* S3_LIST */
	char upload_id[S3_UPLOAD_ID_MAX]; /* S3_CREATE_MULTIPART */
	struct s3_part *parts;       /* S3_LIST_PARTS, ascending */
	size_t part_count;
	bool parts_truncated;
	unsigned next_part_marker;
	struct buf text;             /* S3_GET_ACL: the XML */
	uint64_t bytes_received;
	int64_t elapsed_ms;  /* since the request was submitted */
	int64_t answered_ms; /* since it began to be sent, on a connection that stood */
};
void s3_reply_release(struct s3_reply *r); /* frees what it owns; for stolen/synchronous replies */
/* Moves everything owned from `from` to `to` (to is overwritten). */
void s3_reply_move(struct s3_reply *to, struct s3_reply *from);

/* ---- requests -------------------------------------------------------------------------------- */

enum s3_op {
	S3_HEAD_BUCKET,
	S3_LIST,             /* ListObjectsV2 */
	S3_HEAD,             /* HeadObject, checksum mode enabled */
	S3_GET,
	S3_PUT,
	S3_DELETE,
	S3_COPY,
	S3_CREATE_MULTIPART,
	S3_UPLOAD_PART,
	S3_UPLOAD_PART_COPY,
	S3_COMPLETE_MULTIPART,
	S3_ABORT_MULTIPART,
	S3_LIST_PARTS,
	S3_GET_ACL,
};
const char *s3_op_text(enum s3_op op);

/* Bytes to send: a range of an open file, read with io_pread as curl asks. The fd stays the
 * caller's and must stay open until done. A file shorter than promised ends the request with
 * S3_RETRY, code "BodyTooShort"; one that can't be read with "BodyReadFailed". Without sha256 where
 * s3_wants_sha256() (it may have changed meanwhile), or without both digests, nothing is sent:
 * S3_RETRY, code "PayloadHashNeeded". */
struct s3_body {
	int fd;
	uint64_t offset_bytes;
	uint64_t len_bytes;
	bool has_sha256; /* of exactly this range; needed when s3_wants_sha256() */
	uint8_t sha256[32];
	bool has_crc64nvme;
	uint64_t crc64nvme;
};

struct s3_sink {
	/* Bytes of a successful GET body in order; off counts from the start of the range. Runs on the
	 * loop thread. Non-zero stops the transfer (class S3_RETRY, code "SinkFailed"). */
	int (*write)(void *user, uint64_t off, const void *data, size_t len);
	void *user;
};

/* Plain data; every pointer is borrowed until s3_submit() returns (it copies what it needs),
 * except body.fd and sink, which are used until done. Unused fields zero. */
struct s3_request {
	enum s3_op op;
	const char *key;             /* as in the bucket, not encoded */
	struct s3_body body;         /* PUT, UPLOAD_PART */
	struct s3_sink sink;         /* GET */
	/* conditions (PUT, COMPLETE, DELETE, COPY target; GET and HEAD: if_match) */
	bool if_none_match_any;      /* If-None-Match: * */
	const char *if_match;        /* ETag without quotes */
	/* object headers (PUT, CREATE_MULTIPART, COPY) */
	const char *acl;             /* x-amz-acl; NULL: none */
	const char *content_type;
	bool has_mtime;              /* x-amz-meta-mtime, seconds with fraction */
	int64_t mtime_ns;
	/* GET */
	bool has_range;
	uint64_t range_start, range_len;
	/* LIST */
	const char *prefix, *delimiter, *start_after, *token;
	unsigned max_keys;           /* 0: 1,000 */
	/* COPY, UPLOAD_PART_COPY */
	const char *copy_source_key; /* in the same bucket */
	const char *copy_source_if_match;
	/* multipart */
	const char *upload_id;
	unsigned part_number;        /* UPLOAD_PART*; LIST_PARTS: marker */
	                             /* UPLOAD_PART_COPY: has_range and range_* are the source's */
	const struct s3_part *parts; /* COMPLETE */
	size_t part_count;
	bool has_full_crc;           /* COMPLETE: full-object CRC64NVME */
	uint64_t full_crc;
	uint64_t total_bytes;        /* COMPLETE: x-amz-mp-object-size */
	/* how */
	unsigned timeout_ms;         /* whole request; 0: no limit but the stall limit (30 s) */
};

/* What a write may demand of the object under its key. Servers may know one and not the other. */
enum s3_condition {
	S3_IF_NONE_MATCH, /* there is none */
	S3_IF_MATCH,	  /* it has this ETag */
};
#define S3_CONDITIONS (S3_IF_MATCH + 1)

typedef void s3_done_fn(void *user, struct s3_reply *reply);

struct s3; /* begins with the table below */
struct s3_ops {
	/* 0: done will be called exactly once, later, on the loop thread. -EINVAL, -ENOMEM,
	 * -ESHUTDOWN: done will not be called. ret_id may be NULL. */
	int (*submit)(struct s3 *s3, const struct s3_request *req, s3_done_fn *done, void *user,
		uint64_t *ret_id);
	/* Ask for an early end: done still comes, S3_RETRY code "Cancelled". Without effect once the
	 * body is fully sent, or when id is unknown. */
	void (*cancel)(struct s3 *s3, uint64_t id);
	bool (*wants_sha256)(struct s3 *s3);
	bool (*is_down)(struct s3 *s3);
	int64_t (*quickest_ms)(struct s3 *s3);
	bool (*enforces)(struct s3 *s3, enum s3_op op, enum s3_condition condition);
	void (*learn)(struct s3 *s3, enum s3_op op, enum s3_condition condition, bool enforced);
	void (*destroy)(struct s3 *s3);
};
struct s3 {
	const struct s3_ops *ops;
};

must_check static inline int s3_submit(struct s3 *s3, const struct s3_request *req,
	s3_done_fn *done, void *user, uint64_t *ret_id)
{
	return s3->ops->submit(s3, req, done, user, ret_id);
}
static inline void s3_cancel(struct s3 *s3, uint64_t id)
{
	s3->ops->cancel(s3, id);
}
/* PUT and UPLOAD_PART need body.sha256 now: no reply of this endpoint has echoed a CRC64NVME yet,
 * or plain HTTP to another host, or --sign-payload=always. */
static inline bool s3_wants_sha256(struct s3 *s3)
{
	return s3->ops->wants_sha256(s3);
}
/* Three transport failures in a row and no answer since. */
static inline bool s3_is_down(struct s3 *s3)
{
	return s3->ops->is_down(s3);
}
/* How long the quickest of all answers so far took: about a round trip. 0: none took a millisecond. */
static inline int64_t s3_quickest_ms(struct s3 *s3)
{
	return s3->ops->quickest_ms(s3);
}
/* Is this condition known to be honoured here with this operation? True for AWS; elsewhere false
 * until it was seen refused (the client learns from every 412 that only it can have caused), or a
 * caller proved it with s3_learn(). */
static inline bool s3_enforces(struct s3 *s3, enum s3_op op, enum s3_condition condition)
{
	return s3->ops->enforces(s3, op, condition);
}
static inline void s3_learn(
	struct s3 *s3, enum s3_op op, enum s3_condition condition, bool enforced)
{
	s3->ops->learn(s3, op, condition, enforced);
}
/* Ends the loop thread; requests under way end with S3_RETRY/S3_UNKNOWN, code "ShuttingDown". */
static inline void s3_destroy(struct s3 *s3)
{
	if (s3)
		s3->ops->destroy(s3);
}
/* Submit and wait (not on the loop thread). The caller releases the reply. */
must_check int s3_call(struct s3 *s3, const struct s3_request *req, struct s3_reply *ret);

/* ---- the real client ---------------------------------------------------------------------------- */

struct s3_credentials {
	char access_key[256];
	char secret_key[256];
	char session_token[4096]; /* "" if none */
	int64_t expires_at_ns;    /* 0: not known to expire */
	bool anonymous;           /* send unsigned */
};

/* Where credentials come from (the auth room implements it). Called from the loop thread; must not
 * block. */
struct s3_credentials_source {
	/* -EAGAIN: being fetched or renewed, requests that did not start wait (get is asked again
	 * every 100 ms); -EKEYEXPIRED, -ENOKEY: class S3_AUTH, nothing is sent. */
	int (*get)(void *user, struct s3_credentials *ret);
	/* The server refused exactly these. True: there are others, or will be: the reply's class is
	 * S3_CLOCK instead of S3_AUTH. */
	bool (*rejected)(void *user, const struct s3_credentials *which, const char *code);
	void *user;
};

struct s3_config {
	const char *endpoint;      /* "http://127.0.0.1:9000" (path-style), NULL: AWS virtual-hosted https */
	const char *region;        /* NULL: us-east-1 */
	const char *bucket;
	unsigned max_connections;  /* transfers at once on the loop; 0: 64 */
	bool sign_payload_always;
	const char *ca_bundle;     /* NULL: the system's */
	unsigned stall_timeout_ms; /* 0: 30,000: less than 1 byte/s for so long ends a request */
	unsigned connect_timeout_ms; /* 0: 10,000 */
	struct s3_credentials_source credentials;
};

/* Starts the loop thread: call after daemonising. -EINVAL: endpoint or bucket unusable. */
must_check int s3_client_create(struct s3 **ret, const struct s3_config *config);

/* Full-jitter backoff before attempt n (1 = first retry): 0.5 s doubled up to 60 s, uniformly drawn
 * from (0, cap]. Throttled replies start at 2 s. */
int64_t s3_backoff_ms(unsigned attempt, bool throttled);

/* Retry token bucket (500; a retry costs 5, a throttled one 10, a success gives 1): when empty,
 * callers wait for the longest backoff. Not locked: the caller's lock guards it. */
struct s3_retry_bucket {
	unsigned tokens;
};
void s3_retry_bucket_init(struct s3_retry_bucket *b);
bool s3_retry_bucket_take(struct s3_retry_bucket *b, enum s3_class why);
void s3_retry_bucket_give(struct s3_retry_bucket *b);

/* ---- other services ----------------------------------------------------------------------------- */

/* curl and libxml2 made ready, once in the process; what they free is wiped. s3_client_create does
 * it, too. */
void s3_libraries_init(void);

/* A request to STS ("sts") or S3 Control ("s3"); plain data, borrowed. */
struct s3_other_request {
	const char *service, *region;
	const char *method, *host; /* host with its port, as it goes into the Host header */
	const char *path;          /* encoded */
	const char *query;         /* encoded and sorted; NULL: none */
	const void *body;          /* NULL: none */
	size_t body_len;
	const char *content_type;  /* NULL: no header */
	const char *account_id;    /* x-amz-account-id; NULL: no header */
	int64_t wall_ns;           /* the server's time, as far as it is known */
};
/* Adds header lines "name: value\n" (all but Host) that sign it with Signature Version 4. They hold
 * the session token: the caller wipes them. -EINVAL: a value can't stand in a header; -ENOMEM. */
must_check int s3_sign_other(struct buf *ret_lines, const struct s3_credentials *keys,
	const struct s3_other_request *req);

/* ---- ETags ---------------------------------------------------------------------------------------- */

/* Is this the plain MD5 of the content (32 hex digits, no "-parts")? Only then comparable. */
bool s3_etag_is_md5(const char *etag);
/* The ETag that an object made of these parts gets: MD5 of their MD5s and "-count". False when a
 * part's ETag is no MD5. (RADOS Gateway 16 answers Complete with an empty ETag: S3_UNKNOWN, code
 * "NoEtag"; a HEAD whose ETag is this proves it.) */
bool s3_etag_of_parts(const struct s3_part *parts, size_t count, char out[S3_ETAG_MAX]);
