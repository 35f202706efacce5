/*
 * upload_fake.h - a scripted bucket behind struct s3, and a bench: real store, real upload room.
 *
 * The fake answers on a thread of its own, as the real loop does. It checks what it is sent (CRC,
 * SHA-256, conditions where it enforces them), keeps objects and uploads in memory, counts
 * requests, and plays faults: refuse, lose the answer before or after applying, hold.
 */
#pragma once

#include "scratch.h"
#include "upload_private.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define FAKE_OBJECTS 4096
#define FAKE_UPLOADS 64
#define FAKE_PARTS 4096
#define FAKE_LIST_PARTS_MAX 1000
#define FAKE_FAULTS 32
#define FAKE_OPS (S3_GET_ACL + 1)
/* Of a machine that has much else to do: only what hangs gets so far. */
#define WAIT_MS (getenv("CPGFS_UNDER_VALGRIND") ? 240000 : 60000)

struct fake_object {
	char key[256];
	uint8_t *data;
	size_t len;
	char etag[S3_ETAG_MAX];
	uint64_t crc64nvme;
	char acl[32]; /* of those made in parts */
};

struct fake_upload {
	char id[32];
	char key[256];
	char acl[32];
	bool open;
	struct fake_object *parts; /* FAKE_PARTS while it is open; etag set: there */
};

enum fault_kind {
	FAULT_REFUSE,
	FAULT_BY_PROXY, /* answered by something in between */
	FAULT_LOSE_BEFORE,
	FAULT_LOSE_AFTER,
	FAULT_TWICE, /* sent again by something in between: the second answer comes back */
	FAULT_LATE, /* no answer, and carried out when fake_late() says so */
	FAULT_NO_ETAG,
	FAULT_WRONG_ECHO,
	FAULT_EMPTY_PAGE, /* LIST: nothing yet, but there is more */
};
struct fake_fault {
	enum s3_op op;
	enum fault_kind kind;
	unsigned skip, times; /* let so many pass, then so often */
	enum s3_class class;
	int http_status;
	const char *code;
	const char *key_has; /* NULL: any key */
};

struct fake_request {
	struct fake_request *next;
	uint64_t id;
	struct s3_request req;
	char key[1100], if_match[128], source[1100], source_if_match[128], upload_id[64];
	char prefix[1100];
	struct s3_part *parts;
	s3_done_fn *done;
	void *user;
	bool cancelled;
	bool is_late;
};

struct fake {
	struct s3 s3;
	struct lock lock;
	struct cond wake;
	struct thread *thread;
	struct fake_request *first, **last;
	struct fake_request *late; /* received, not answered, not carried out yet */
	uint64_t next_id, next_upload;
	bool stopping;
	/* script, set under the lock */
	bool wants_sha256, has_crc; /* has_crc: stores, checks and echoes CRC64NVME */
	bool opaque_etags, opaque_parts; /* ETags of objects, of parts are no MD5s */
	bool hex_etags; /* those of objects look like some */
	bool enforces[S3_CONDITIONS][FAKE_OPS];
	bool knows_enforces[S3_CONDITIONS][FAKE_OPS]; /* what the client believes */
	bool down;
	unsigned failures;
	int64_t quickest_ms;
	uint32_t hold; /* a bit per op */
	bool hold_second; /* PUTs of a key that holds something */
	bool deaf;     /* to cancelling: as when a body is fully sent */
	unsigned unsent[FAKE_OPS]; /* so many cannot be begun: short of memory */
	bool copies_anything; /* whatever x-amz-copy-source-if-match says */
	struct fake_fault faults[FAKE_FAULTS];
	unsigned fault_count;
	/* what happened */
	unsigned count[FAKE_OPS];
	unsigned in_flight[FAKE_OPS];
	struct fake_object objects[FAKE_OBJECTS];
	struct fake_upload uploads[FAKE_UPLOADS];
	unsigned writes_per_key_max; /* writes of one key at once: never above 1 */
};

/* ---- objects ------------------------------------------------------------------------------------ */

static inline void md5_hex_of(const void *data, size_t len, char out[33])
{
	struct md5_ctx *c;
	uint8_t sum[16];

	assert_int_equal(md5_create(&c), 0);
	md5_update(c, data, len);
	md5_finish(c, sum);
	hex_encode(sum, 16, out);
}

static inline struct fake_object *fake_find(struct fake *f, const char *key)
{
	for (unsigned i = 0; i < FAKE_OBJECTS; i++) {
		if (f->objects[i].key[0] && strcmp(f->objects[i].key, key) == 0)
			return &f->objects[i];
	}
	return NULL;
}

static inline void fake_remove(struct fake *f, const char *key)
{
	struct fake_object *o = fake_find(f, key);

	if (!o)
		return;
	free(o->data);
	*o = (struct fake_object){0};
}

static inline struct fake_object *fake_store(struct fake *f, const char *key, const void *data, size_t len)
{
	struct fake_object *o;

	fake_remove(f, key);
	for (o = f->objects; o->key[0]; o++)
		assert_true(o < f->objects + FAKE_OBJECTS - 1);
	assert_true(text_copy(o->key, key, sizeof(o->key)));
	o->data = malloc(len + 1);
	memcpy(o->data, data, len);
	o->len = len;
	o->crc64nvme = crc64nvme(0, data, len);
	md5_hex_of(data, len, o->etag);
	if (f->opaque_etags)
		o->etag[0] = !f->hex_etags ? 'x' : o->etag[0] == 'a' ? 'b' : 'a';
	return o;
}

/* Someone else's doing. */
static inline void fake_put(struct fake *f, const char *key, const char *text)
{
	lock_take(&f->lock);
	fake_store(f, key, text, strlen(text));
	lock_drop(&f->lock);
}

static inline void fake_delete(struct fake *f, const char *key)
{
	lock_take(&f->lock);
	fake_remove(f, key);
	lock_drop(&f->lock);
}

static inline bool fake_has(struct fake *f, const char *key, const void *data, size_t len)
{
	struct fake_object *o;
	bool same;

	lock_take(&f->lock);
	o = fake_find(f, key);
	same = o && o->len == len && memcmp(o->data, data, len) == 0;
	lock_drop(&f->lock);
	return same;
}

static inline unsigned fake_object_count(struct fake *f)
{
	unsigned n = 0;

	lock_take(&f->lock);
	for (unsigned i = 0; i < FAKE_OBJECTS; i++)
		n += f->objects[i].key[0] != '\0';
	lock_drop(&f->lock);
	return n;
}

static inline unsigned fake_open_uploads(struct fake *f)
{
	unsigned n = 0;

	lock_take(&f->lock);
	for (unsigned i = 0; i < FAKE_UPLOADS; i++)
		n += f->uploads[i].open;
	lock_drop(&f->lock);
	return n;
}

static inline unsigned fake_count(struct fake *f, enum s3_op op)
{
	unsigned n;

	lock_take(&f->lock);
	n = f->count[op];
	lock_drop(&f->lock);
	return n;
}

static inline unsigned fake_in_flight(struct fake *f, enum s3_op op)
{
	unsigned n;

	lock_take(&f->lock);
	n = f->in_flight[op];
	lock_drop(&f->lock);
	return n;
}

static inline void fake_fault(struct fake *f, struct fake_fault fault)
{
	lock_take(&f->lock);
	assert_true(f->fault_count < FAKE_FAULTS);
	if (fault.times == 0)
		fault.times = 1;
	f->faults[f->fault_count++] = fault;
	lock_drop(&f->lock);
}

static inline void fake_set_hold(struct fake *f, enum s3_op op, bool on)
{
	lock_take(&f->lock);
	f->hold = on ? f->hold | 1u << op : f->hold & ~(1u << op);
	cond_broadcast(&f->wake);
	lock_drop(&f->lock);
}

static inline void fake_set_hold_second(struct fake *f, bool on)
{
	lock_take(&f->lock);
	f->hold_second = on;
	cond_broadcast(&f->wake);
	lock_drop(&f->lock);
}

static inline void fake_set_down(struct fake *f, bool down)
{
	lock_take(&f->lock);
	f->down = down;
	lock_drop(&f->lock);
}

/* ---- carrying out a request (lock held) ---------------------------------------------------------- */

static inline void fake_no(struct s3_reply *r, enum s3_class class, int status, const char *code)
{
	r->class = class;
	r->http_status = status;
	(void)text_copy(r->code, code, sizeof(r->code));
	(void)text_copy(r->request_id, status ? "1" : "", sizeof(r->request_id));
}

static inline void fake_object_reply(struct fake *f, const struct fake_object *o, struct s3_reply *r)
{
	(void)text_copy(r->object.etag, o->etag, sizeof(r->object.etag));
	r->object.size_bytes = o->len;
	r->object.last_modified_ns = clock_wall_ns();
	r->has_crc64nvme = r->crc_is_full_object = f->has_crc;
	r->crc64nvme = f->has_crc ? o->crc64nvme : 0;
}

static inline bool fake_condition(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	struct fake_object *o = fake_find(f, q->key);
	enum s3_condition condition = q->if_match[0] ? S3_IF_MATCH : S3_IF_NONE_MATCH;

	if (!f->enforces[condition][q->req.op])
		return true;
	if ((q->req.if_none_match_any && o) || (q->if_match[0] && o && strcmp(o->etag, q->if_match))) {
		fake_no(r, S3_CONFLICT, 412, "PreconditionFailed");
		if (!q->source_if_match[0]) /* that may have been it */
			f->knows_enforces[condition][q->req.op] = true;
		return false;
	}
	if (q->if_match[0] && !o) {
		fake_no(r, S3_NOT_FOUND, 404, "NoSuchKey");
		return false;
	}
	return true;
}

static inline uint8_t *fake_body(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	const struct s3_body *b = &q->req.body;
	uint8_t *data = malloc(b->len_bytes + 1), sha[32];
	ssize_t n = io_pread(b->fd, data, b->len_bytes, b->offset_bytes);

	if (n < 0 || (uint64_t)n != b->len_bytes) {
		fake_no(r, S3_RETRY, 0, "BodyTooShort");
	} else if (f->wants_sha256 && !b->has_sha256) {
		fake_no(r, S3_RETRY, 0, "PayloadHashNeeded");
	} else if (b->has_sha256 && (sha256_of(data, b->len_bytes, sha), memcmp(sha, b->sha256, 32))) {
		r->body_fully_sent = true;
		fake_no(r, S3_RETRY, 400, "XAmzContentSHA256Mismatch");
	} else if (f->has_crc && (!b->has_crc64nvme || crc64nvme(0, data, b->len_bytes) != b->crc64nvme)) {
		r->body_fully_sent = true;
		fake_no(r, S3_RETRY, 400, "BadDigest");
	} else {
		r->body_fully_sent = true;
		return data;
	}
	free(data);
	return NULL;
}

static inline void fake_do_put(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	uint8_t *data = fake_body(f, q, r);

	if (data && fake_condition(f, q, r))
		fake_object_reply(f, fake_store(f, q->key, data, q->req.body.len_bytes), r);
	free(data);
}

static inline void fake_do_list(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	struct fake_object *best = NULL;

	for (unsigned i = 0; i < FAKE_OBJECTS; i++) {
		struct fake_object *o = &f->objects[i];

		if (o->key[0] && strncmp(o->key, q->prefix, strlen(q->prefix)) == 0 &&
			(!best || strcmp(o->key, best->key) < 0))
			best = o;
	}
	if (!best)
		return;
	r->list.entries = calloc(1, sizeof(*r->list.entries));
	r->list.count = 1;
	r->list.keys = strdup(best->key);
	r->list.entries[0].key = r->list.keys;
	r->list.entries[0].key_len = strlen(best->key);
	fake_object_reply(f, best, r);
	r->list.entries[0].object = r->object;
}

static inline struct fake_upload *fake_upload_of(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	for (unsigned i = 0; i < FAKE_UPLOADS; i++) {
		struct fake_upload *up = &f->uploads[i];

		if (up->open && strcmp(up->id, q->upload_id) == 0 && strcmp(up->key, q->key) == 0)
			return up;
	}
	fake_no(r, S3_NOT_FOUND, 404, "NoSuchUpload");
	return NULL;
}

static inline void fake_do_create(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	struct fake_upload *up = f->uploads;

	while (up->open)
		up++;
	assert_true(up < f->uploads + FAKE_UPLOADS);
	snprintf(up->id, sizeof(up->id), "upload-%u", (unsigned)++f->next_upload);
	assert_true(text_copy(up->key, q->key, sizeof(up->key)));
	(void)text_copy(up->acl, q->req.acl ? q->req.acl : "", sizeof(up->acl));
	up->open = true;
	up->parts = calloc(FAKE_PARTS, sizeof(*up->parts));
	(void)text_copy(r->upload_id, up->id, sizeof(r->upload_id));
}

static inline void fake_do_part(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	struct fake_upload *up = fake_upload_of(f, q, r);
	uint8_t *data = up ? fake_body(f, q, r) : NULL;
	struct fake_object *part;

	if (!data)
		return;
	assert_in_range(q->req.part_number, 1, FAKE_PARTS);
	part = &up->parts[q->req.part_number - 1];
	free(part->data);
	part->data = data;
	part->len = q->req.body.len_bytes;
	part->crc64nvme = crc64nvme(0, data, part->len);
	md5_hex_of(data, part->len, part->etag);
	if (f->opaque_parts)
		part->etag[0] = 'x';
	fake_object_reply(f, part, r);
}

static inline void fake_do_list_parts(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	struct fake_upload *up = fake_upload_of(f, q, r);

	if (!up)
		return;
	r->parts = calloc(FAKE_LIST_PARTS_MAX, sizeof(*r->parts));
	for (unsigned i = q->req.part_number; i < FAKE_PARTS; i++) {
		struct s3_part *p = &r->parts[r->part_count];

		if (!up->parts[i].etag[0])
			continue;
		if (r->part_count == FAKE_LIST_PARTS_MAX) {
			r->parts_truncated = true;
			r->next_part_marker = r->parts[r->part_count - 1].number;
			return;
		}
		p->number = i + 1;
		p->size_bytes = up->parts[i].len;
		p->has_crc64nvme = f->has_crc;
		p->crc64nvme = up->parts[i].crc64nvme;
		(void)text_copy(p->etag, up->parts[i].etag, sizeof(p->etag));
		r->part_count++;
	}
}

static inline void fake_close_upload(struct fake_upload *up)
{
	for (unsigned i = 0; up->parts && i < FAKE_PARTS; i++)
		free(up->parts[i].data);
	free(up->parts);
	up->parts = NULL;
	up->open = false;
}

static inline void fake_do_complete(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	struct fake_upload *up = fake_upload_of(f, q, r);
	struct fake_object *o;
	uint8_t md5s[FAKE_PARTS][16], *data = NULL;
	size_t len = 0;

	if (!up || !fake_condition(f, q, r))
		return;
	for (size_t i = 0; i < q->req.part_count; i++)
		len += up->parts[q->parts[i].number - 1].len;
	data = malloc(len + 1);
	len = 0;
	for (size_t i = 0; i < q->req.part_count; i++) {
		struct fake_object *p = &up->parts[q->parts[i].number - 1];

		if (!p->etag[0] || strcmp(p->etag, q->parts[i].etag) != 0) {
			fake_no(r, S3_FATAL, 400, "InvalidPart");
			free(data);
			return;
		}
		memcpy(data + len, p->data, p->len);
		len += p->len;
		if (f->opaque_parts)
			memcpy(md5s[i], p->etag, sizeof(md5s[i]));
		else
			assert_int_equal(hex_decode(p->etag, 32, md5s[i]), 0);
	}
	assert_int_equal(q->req.total_bytes, len);
	if (f->has_crc && q->req.has_full_crc && q->req.full_crc != crc64nvme(0, data, len)) {
		fake_no(r, S3_RETRY, 400, "BadDigest");
		free(data);
		return;
	}
	o = fake_store(f, q->key, data, len);
	memcpy(o->acl, up->acl, sizeof(o->acl));
	assert_true(etag_of_parts((const uint8_t(*)[16])md5s, q->req.part_count, o->etag));
	if (f->opaque_etags)
		o->etag[0] = !f->hex_etags ? 'x' : o->etag[0] == 'a' ? 'b' : 'a';
	fake_object_reply(f, o, r);
	free(data);
	fake_close_upload(up);
}

static inline void fake_do_copy(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	struct fake_object *from = fake_find(f, q->source);

	if (!from) {
		fake_no(r, S3_NOT_FOUND, 404, "NoSuchKey");
	} else if (q->source_if_match[0] && strcmp(q->source_if_match, from->etag) != 0 &&
		   !f->copies_anything) {
		fake_no(r, S3_CONFLICT, 412, "PreconditionFailed");
	} else if (fake_condition(f, q, r)) {
		uint8_t *data = malloc(from->len + 1);
		size_t len = from->len;

		memcpy(data, from->data, len);
		fake_object_reply(f, fake_store(f, q->key, data, len), r);
		free(data);
	}
}

static inline void fake_do_part_copy(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	struct fake_upload *up = fake_upload_of(f, q, r);
	struct fake_object *from = fake_find(f, q->source), *part;

	if (!up)
		return;
	if (!from) {
		fake_no(r, S3_NOT_FOUND, 404, "NoSuchKey");
		return;
	}
	if (strcmp(q->source_if_match, from->etag) != 0 && !f->copies_anything) {
		fake_no(r, S3_CONFLICT, 412, "PreconditionFailed");
		return;
	}
	assert_true(q->req.range_start + q->req.range_len <= from->len);
	assert_in_range(q->req.part_number, 1, FAKE_PARTS);
	part = &up->parts[q->req.part_number - 1];
	free(part->data);
	part->len = q->req.range_len;
	part->data = malloc(part->len + 1);
	memcpy(part->data, from->data + q->req.range_start, part->len);
	part->crc64nvme = crc64nvme(0, part->data, part->len);
	md5_hex_of(part->data, part->len, part->etag);
	(void)text_copy(r->object.etag, part->etag, sizeof(r->object.etag));
}

static inline void fake_do_get(struct fake *f, const struct fake_request *q, struct s3_reply *r)
{
	struct fake_object *o = fake_find(f, q->key);
	size_t start = q->req.has_range ? q->req.range_start : 0, len;

	if (!o) {
		fake_no(r, S3_NOT_FOUND, 404, "NoSuchKey");
		return;
	}
	if (q->if_match[0] && strcmp(q->if_match, o->etag) != 0) {
		fake_no(r, S3_CONFLICT, 412, "PreconditionFailed");
		return;
	}
	len = o->len - start;
	if (q->req.has_range && q->req.range_len < len)
		len = q->req.range_len;
	fake_object_reply(f, o, r);
	r->content_range_total = q->req.has_range ? o->len : 0;
	r->bytes_received = len;
	uint8_t *data = malloc(len + 1);

	memcpy(data, o->data + start, len);
	lock_drop(&f->lock); /* a sink may take locks of its own */
	if (q->req.sink.write(q->req.sink.user, 0, data, len) != 0)
		fake_no(r, S3_RETRY, 0, "SinkFailed");
	lock_take(&f->lock);
	free(data);
}

static inline void fake_carry_out(struct fake *f, struct fake_request *q, struct s3_reply *r)
{
	struct fake_upload *up;
	struct fake_object *o;

	switch (q->req.op) {
	case S3_PUT:
		fake_do_put(f, q, r);
		return;
	case S3_HEAD:
		o = fake_find(f, q->key);
		if (o)
			fake_object_reply(f, o, r);
		else
			fake_no(r, S3_NOT_FOUND, 404, "");
		return;
	case S3_LIST:
		fake_do_list(f, q, r);
		return;
	case S3_DELETE:
		if (fake_condition(f, q, r))
			fake_remove(f, q->key);
		return;
	case S3_COPY:
		fake_do_copy(f, q, r);
		return;
	case S3_CREATE_MULTIPART:
		fake_do_create(f, q, r);
		return;
	case S3_UPLOAD_PART:
		fake_do_part(f, q, r);
		return;
	case S3_LIST_PARTS:
		fake_do_list_parts(f, q, r);
		return;
	case S3_COMPLETE_MULTIPART:
		fake_do_complete(f, q, r);
		return;
	case S3_ABORT_MULTIPART:
		up = fake_upload_of(f, q, r);
		if (up)
			fake_close_upload(up);
		return;
	case S3_UPLOAD_PART_COPY:
		fake_do_part_copy(f, q, r);
		return;
	case S3_GET:
		fake_do_get(f, q, r);
		return;
	case S3_HEAD_BUCKET:
	case S3_GET_ACL:
		break;
	}
	fake_no(r, S3_FATAL, 501, "NotImplemented");
}

/* ---- the loop ----------------------------------------------------------------------------------- */

static inline struct fake_fault *fake_fault_for(struct fake *f, const struct fake_request *q)
{
	for (unsigned i = 0; i < f->fault_count; i++) {
		struct fake_fault *fault = &f->faults[i];

		if (fault->op != q->req.op || fault->times == 0 ||
			(fault->key_has && !strstr(q->key, fault->key_has)))
			continue;
		if (fault->skip > 0) {
			fault->skip--;
			continue;
		}
		fault->times--;
		return fault;
	}
	return NULL;
}

/* It has the body by then, whatever becomes of the file. */
static inline void fake_keep_late(struct fake *f, struct fake_request *q)
{
	uint64_t len = q->req.body.len_bytes;

	if (q->req.op == S3_PUT) {
		uint8_t *data = malloc(len + 1);

		assert_int_equal(io_pread(q->req.body.fd, data, len, q->req.body.offset_bytes), len);
		q->req.body.fd = memfd_create("late", MFD_CLOEXEC);
		q->req.body.offset_bytes = 0;
		assert_int_equal(io_pwrite(q->req.body.fd, data, len, 0), 0);
		free(data);
	}
	q->is_late = true;
	q->next = f->late;
	f->late = q;
}

static inline void fake_answer(struct fake *f, struct fake_request *q, struct s3_reply *r)
{
	struct fake_fault *fault;

	*r = (struct s3_reply){.class = S3_DONE, .http_status = 200, .request_id = "1"};
	if (q->cancelled) {
		fake_no(r, S3_RETRY, 0, "Cancelled");
		return;
	}
	if (f->down) {
		fake_no(r, S3_RETRY, 0, "ConnectFailed");
		f->failures++;
		return;
	}
	f->failures = 0;
	fault = fake_fault_for(f, q);
	if (fault && (fault->kind == FAULT_REFUSE || fault->kind == FAULT_BY_PROXY)) {
		r->body_fully_sent = true;
		fake_no(r, fault->class, fault->http_status, fault->code);
		if (fault->kind == FAULT_BY_PROXY)
			r->request_id[0] = '\0';
		return;
	}
	if (fault && fault->kind == FAULT_EMPTY_PAGE) {
		r->list.truncated = true;
		r->list.next_token = strdup("more");
		return;
	}
	if (fault && fault->kind == FAULT_LATE)
		fake_keep_late(f, q);
	else if (!fault || fault->kind != FAULT_LOSE_BEFORE)
		fake_carry_out(f, q, r);
	if (fault && fault->kind == FAULT_TWICE) {
		s3_reply_release(r);
		*r = (struct s3_reply){.class = S3_DONE, .http_status = 200, .request_id = "1"};
		fake_carry_out(f, q, r);
		return;
	}
	if (fault && fault->kind == FAULT_NO_ETAG)
		r->object.etag[0] = '\0';
	if (fault && fault->kind == FAULT_WRONG_ECHO) {
		r->has_crc64nvme = r->crc_is_full_object = true;
		r->crc64nvme++;
	} else if (fault && fault->kind != FAULT_NO_ETAG) {
		s3_reply_release(r);
		*r = (struct s3_reply){.body_fully_sent = true};
		fake_no(r, S3_UNKNOWN, 0, "ConnectionLost");
	}
}

static inline struct fake_request *fake_next(struct fake *f)
{
	for (struct fake_request **p = &f->first; *p; p = &(*p)->next) {
		struct fake_request *q = *p;

		bool second = f->hold_second && q->req.op == S3_PUT && fake_find(f, q->key);

		if ((second || (f->hold & 1u << q->req.op)) && !q->cancelled && !f->stopping)
			continue;
		*p = q->next;
		if (!*p)
			f->last = p;
		return q;
	}
	return NULL;
}

static inline void fake_run(void *user)
{
	struct fake *f = user;

#ifdef MEMORY_FAULT
	memory_spares_thread = true;
#endif
	lock_take(&f->lock);
	for (;;) {
		struct fake_request *q = fake_next(f);
		struct s3_reply r;

		if (!q) {
			if (f->stopping)
				break;
			(void)cond_wait_until(&f->wake, &f->lock, INT64_MAX);
			continue;
		}
		fake_answer(f, q, &r);
		f->in_flight[q->req.op]--;
		lock_drop(&f->lock);
		q->done(q->user, &r);
		s3_reply_release(&r);
		if (!q->is_late) {
			free(q->parts);
			free(q);
		}
		lock_take(&f->lock);
	}
	lock_drop(&f->lock);
}

/* What is late is carried out now; says with which status. */
static inline int fake_late(struct fake *f)
{
	struct s3_reply r = {.class = S3_DONE, .http_status = 200};
	struct fake_request *q;

	lock_take(&f->lock);
	q = f->late;
	assert_non_null(q);
	f->late = q->next;
	fake_carry_out(f, q, &r);
	lock_drop(&f->lock);
	if (q->req.op == S3_PUT)
		close(q->req.body.fd);
	free(q->parts);
	free(q);
	s3_reply_release(&r);
	return r.http_status;
}

static inline bool fake_writes(enum s3_op op)
{
	return op == S3_PUT || op == S3_DELETE || op == S3_COPY || op == S3_COMPLETE_MULTIPART;
}

static inline bool fake_unsent(struct fake *f, enum s3_op op)
{
	with_lock(&f->lock);
	if (f->unsent[op] == 0)
		return false;
	f->unsent[op]--;
	return true;
}

static inline int fake_submit(struct s3 *s3, const struct s3_request *req, s3_done_fn *done, void *user, uint64_t *ret_id)
{
	struct fake *f = (struct fake *)s3;
	struct fake_request *q = calloc(1, sizeof(*q));
	unsigned same = 1;

	if (fake_unsent(f, req->op)) {
		free(q);
		return -ENOMEM;
	}
	q->req = *req;
	q->done = done;
	q->user = user;
	if (req->key)
		assert_true(text_copy(q->key, req->key, sizeof(q->key)));
	if (req->if_match)
		assert_true(text_copy(q->if_match, req->if_match, sizeof(q->if_match)));
	if (req->copy_source_key)
		assert_true(text_copy(q->source, req->copy_source_key, sizeof(q->source)));
	if (req->copy_source_if_match)
		assert_true(text_copy(q->source_if_match, req->copy_source_if_match, sizeof(q->source_if_match)));
	if (req->upload_id)
		assert_true(text_copy(q->upload_id, req->upload_id, sizeof(q->upload_id)));
	if (req->prefix)
		assert_true(text_copy(q->prefix, req->prefix, sizeof(q->prefix)));
	if (req->part_count) {
		q->parts = calloc(req->part_count, sizeof(*q->parts));
		memcpy(q->parts, req->parts, req->part_count * sizeof(*q->parts));
	}
	lock_take(&f->lock);
	q->id = ++f->next_id;
	if (ret_id)
		*ret_id = q->id;
	f->count[req->op]++;
	f->in_flight[req->op]++;
	for (struct fake_request *o = f->first; o; o = o->next)
		same += fake_writes(o->req.op) && fake_writes(req->op) && strcmp(o->key, q->key) == 0;
	if (same > f->writes_per_key_max)
		f->writes_per_key_max = same;
	*f->last = q;
	f->last = &q->next;
	cond_broadcast(&f->wake);
	lock_drop(&f->lock);
	return 0;
}

static inline void fake_cancel(struct s3 *s3, uint64_t id)
{
	struct fake *f = (struct fake *)s3;

	lock_take(&f->lock);
	for (struct fake_request *q = f->first; q && !f->deaf; q = q->next)
		q->cancelled = q->cancelled || q->id == id;
	cond_broadcast(&f->wake);
	lock_drop(&f->lock);
}

static inline bool fake_wants_sha256(struct s3 *s3)
{
	return ((struct fake *)s3)->wants_sha256;
}

static inline bool fake_is_down(struct s3 *s3)
{
	struct fake *f = (struct fake *)s3;
	bool down;

	lock_take(&f->lock);
	down = f->failures >= 3;
	lock_drop(&f->lock);
	return down;
}

static inline bool fake_enforces(struct s3 *s3, enum s3_op op, enum s3_condition condition)
{
	return ((struct fake *)s3)->knows_enforces[condition][op];
}

static inline void fake_learn(
	struct s3 *s3, enum s3_op op, enum s3_condition condition, bool enforced)
{
	((struct fake *)s3)->knows_enforces[condition][op] = enforced;
}

static inline void fake_destroy(struct s3 *s3)
{
	struct fake *f = (struct fake *)s3;

	lock_take(&f->lock);
	f->stopping = true;
	cond_broadcast(&f->wake);
	lock_drop(&f->lock);
	thread_join(f->thread);
	for (unsigned i = 0; i < FAKE_OBJECTS; i++)
		free(f->objects[i].data);
	for (unsigned i = 0; i < FAKE_UPLOADS; i++)
		fake_close_upload(&f->uploads[i]);
	cond_release(&f->wake);
	lock_release_storage(&f->lock);
	free(f);
}

static inline int64_t fake_quickest_ms(struct s3 *s3)
{
	struct fake *f = (struct fake *)s3;

	with_lock(&f->lock);
	return f->quickest_ms;
}

static const struct s3_ops fake_ops = {.submit = fake_submit,
	.cancel = fake_cancel,
	.wants_sha256 = fake_wants_sha256,
	.is_down = fake_is_down,
	.quickest_ms = fake_quickest_ms,
	.enforces = fake_enforces,
	.learn = fake_learn,
	.destroy = fake_destroy};

/* aws: checksums and conditions honoured and known. Else like RADOS Gateway 16: conditions on PUT
 * only, not known at first; no checksums, signed payload wanted. */
static inline struct fake *fake_create(bool aws)
{
	static const enum s3_op conditional[] = {
		S3_PUT, S3_DELETE, S3_COPY, S3_COMPLETE_MULTIPART};
	struct fake *f = calloc(1, sizeof(*f));

	f->s3.ops = &fake_ops;
	lock_init(&f->lock, RANK_S3, "fake s3");
	cond_init(&f->wake);
	f->last = &f->first;
	f->has_crc = aws;
	f->wants_sha256 = !aws;
	for (unsigned i = 0; i < array_len(conditional); i++) {
		for (unsigned c = 0; c < S3_CONDITIONS; c++) {
			f->enforces[c][conditional[i]] = aws || conditional[i] == S3_PUT;
			f->knows_enforces[c][conditional[i]] = aws;
		}
	}
	assert_int_equal(thread_start(&f->thread, "fake-s3", fake_run, f), 0);
	return f;
}

/* ---- the bench ---------------------------------------------------------------------------------- */

#define PART (64 * KIB)
#define THRESHOLD (128 * KIB)

struct bench {
	char dir[64];
	struct fake *fake;
	struct store *store;
	struct remote *remote;
	struct upload *upload;
	struct upload_config config; /* stream_quiet_ms: the store is told, too */
	int64_t settle_ms;
	uint64_t part_size_bytes, cache_size_bytes; /* 0: no limit */
	const char *boot_id; /* NULL: always the same */
	void (*look)(const struct store_change *change); /* NULL; any thread, after each record */
	unsigned uploads_left; /* in parts, that the test leaves open on the server: it says why */
};

static inline void bench_changed(void *user, const struct store_change *change)
{
	struct bench *b = user;

	if (b->look)
		b->look(change);
	if (b->upload)
		upload_notice(b->upload, change);
}

static inline void bench_growing(void *user)
{
	struct bench *b = user;

	if (b->upload)
		upload_notice_growing(b->upload);
}

static inline void bench_open_store(struct bench *b)
{
	struct store_config config = {.dir = b->dir,
		.identity = "fake/bucket",
		.part_size_bytes = b->part_size_bytes,
		.cache_size_bytes = b->cache_size_bytes,
		.stream_bytes = b->config.stream_quiet_ms ? THRESHOLD : 0,
		.settle_ms = b->settle_ms,
		.boot_id = b->boot_id ? b->boot_id : "boot-1"};
	struct store_events events = {
		.user = b, .changed = bench_changed, .growing = bench_growing};
	char *message = NULL;
	int r = store_open(&b->store, &config, 1000, &message);

	if (r < 0)
		fail_msg("store_open: %s: %s", strerror(-r), message ? message : "");
	store_subscribe(b->store, &events);
	assert_int_equal(store_start(b->store), 0);
	struct remote_config remote = {
		.s3 = &b->fake->s3, .store = b->store, .prefix = "p", .list_ttl_ms = 60000};

	assert_int_equal(remote_create(&b->remote, &remote), 0);
	assert_int_equal(remote_start(b->remote), 0);
}

static inline void bench_close_store(struct bench *b)
{
	store_stop(b->store);
	remote_stop(b->remote);
	remote_destroy(b->remote);
	store_close(b->store);
}

static inline void bench_open_upload(struct bench *b)
{
	struct upload *u;

	b->config.s3 = &b->fake->s3;
	b->config.store = b->store;
	b->config.remote = b->remote;
	assert_int_equal(upload_create(&u, &b->config), 0);
	b->upload = u;
	assert_int_equal(upload_start(u), 0);
}

static inline struct bench *bench_make(bool aws)
{
	struct bench *b = calloc(1, sizeof(*b));

	snprintf(b->dir, sizeof(b->dir), "%s/cpgfs-store-of-upload-XXXXXX", scratch_top());
	assert_non_null(mkdtemp(b->dir));
	b->fake = fake_create(aws);
	b->part_size_bytes = PART;
	b->config = (struct upload_config){.prefix = "p",
		.acl = "bucket-owner-full-control",
		.multipart_threshold_bytes = THRESHOLD};
	log_set_level(getenv("TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return b;
}

static inline struct bench *bench_begin(bool aws)
{
	struct bench *b = bench_make(aws);

	bench_open_store(b);
	return b;
}

static inline void bench_stop_upload_at(struct bench *b, int64_t deadline_ms)
{
	struct upload *u = b->upload;

	upload_stop(u, deadline_ms);
	b->upload = NULL;
	upload_destroy(u);
}

static inline void bench_stop_upload(struct bench *b)
{
	bench_stop_upload_at(b, clock_mono_ms());
}

/* The clock is a fake one, and stands still until the test moves it. */
static inline struct bench *bench_open_with_clock(bool aws)
{
	struct bench *b;

	clock_fake_begin(clock_wall_ns());
	b = bench_begin(aws);
	bench_open_upload(b);
	return b;
}

/* As after kill -9, as far as this room can tell: nothing about what is under way gets recorded.
 * Afterwards those requests are carried out (or dropped), and everything is opened anew. */
static inline void bench_kill_stopped(struct bench *b, bool carried_out)
{
	lock_take(&b->fake->lock);
	b->fake->deaf = false;
	for (struct fake_request *q = b->fake->first; q && !carried_out; q = q->next)
		q->cancelled = true;
	b->fake->hold = 0;
	b->fake->hold_second = false;
	cond_broadcast(&b->fake->wake);
	while (b->fake->first) {
		lock_drop(&b->fake->lock);
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
		lock_take(&b->fake->lock);
	}
	lock_drop(&b->fake->lock);
	bench_close_store(b);
	bench_open_store(b);
}

static inline void bench_kill(struct bench *b, bool carried_out)
{
	lock_take(&b->fake->lock);
	b->fake->deaf = true;
	lock_drop(&b->fake->lock);
	bench_stop_upload_at(b, clock_mono_ms() - 60000); /* nothing is waited for */
	bench_kill_stopped(b, carried_out);
}

static inline void bench_restart(struct bench *b)
{
	bench_stop_upload(b);
	bench_close_store(b);
	bench_open_store(b);
	bench_open_upload(b);
}

/* ---- files -------------------------------------------------------------------------------------- */

/* Folders are made as needed; the last component is created if missing. */
static inline uint64_t file_ino(struct bench *b, const char *path, bool make)
{
	char part[256];
	uint64_t dir = STORE_ROOT_INO;

	for (;;) {
		const char *slash = strchr(path, '/');
		size_t len = slash ? (size_t)(slash - path) : strlen(path);
		struct store_attr attr;
		int r;

		memcpy(part, path, len);
		part[len] = '\0';
		r = store_lookup(b->store, dir, part, &attr);
		if (r == -ENOENT && make) {
			struct store_create c = {.parent = dir,
				.name = part,
				.type = slash ? STORE_DIR : STORE_FILE,
				.mode = slash ? 0755 : 0644};

			r = store_create(b->store, &c, &attr);
		}
		if (r == -ENOENT)
			return 0;
		assert_int_equal(r, 0);
		if (!slash)
			return attr.ino;
		dir = attr.ino;
		path = slash + 1;
	}
}

/* Replace the whole content, close. */
static inline uint64_t write_file(struct bench *b, const char *path, const void *data, size_t len)
{
	uint64_t ino = file_ino(b, path, true), chunk;
	struct store_file *f;

	assert_int_equal(store_file_open(b->store, ino, &f), 0);
	store_file_writer_add(f);
	assert_int_equal(store_file_truncate(f, 0, &chunk), 0);
	if (len)
		assert_int_equal(store_file_write(f, data, len, 0, false, &chunk), 0);
	assert_int_equal(store_file_flush(f, false, NULL), 0);
	store_file_writer_drop(f);
	store_file_close(f);
	return ino;
}

static inline uint64_t write_text(struct bench *b, const char *path, const char *text)
{
	return write_file(b, path, text, strlen(text));
}

static inline uint8_t *pattern(size_t len, unsigned seed)
{
	uint8_t *data = malloc(len + 1);

	for (size_t i = 0; i < len; i++) {
		seed = seed * 1103515245 + 12345;
		data[i] = (uint8_t)(seed >> 16);
	}
	return data;
}

static inline enum file_state state_of(struct bench *b, uint64_t ino)
{
	struct store_attr attr;

	return store_attr(b->store, ino, &attr) == 0 ? attr.state : FILE_STATE_COUNT;
}

static inline void reason_of(struct bench *b, uint64_t ino, char out[256])
{
	struct store_inode inode;

	assert_int_equal(store_inode(b->store, ino, &inode), 0);
	memcpy(out, inode.reason, sizeof(inode.reason));
}

/* So far the fake clock moves on between two looks of who waits. 0: it stands, or is none. */
static int64_t wait_step_ms;

static inline void wait_a_moment(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
	if (wait_step_ms)
		clock_fake_advance_ms(wait_step_ms);
}

#define wait_until(cond)                                                                           \
	do {                                                                                       \
		struct timespec from_, now_;                                                       \
		clock_gettime(CLOCK_MONOTONIC, &from_);                                            \
		for (;;) {                                                                         \
			if (cond)                                                                  \
				break;                                                             \
			clock_gettime(CLOCK_MONOTONIC, &now_);                                     \
			if ((now_.tv_sec - from_.tv_sec) * 1000 > WAIT_MS)                         \
				fail_msg("%s:%d: waited for %s", __FILE__, __LINE__, #cond);       \
			wait_a_moment();                                                           \
		}                                                                                  \
	} while (0)

/* The same with the fake clock moving on. */
#define wait_advancing(step_ms, cond)                                                              \
	wait_until((clock_fake_advance_ms(step_ms), (cond)))

static inline void bench_end(struct bench *b)
{
	char command[128];

	assert_int_equal(b->fake->writes_per_key_max <= 1, 1);
	wait_until(fake_open_uploads(b->fake) == b->uploads_left);
	if (b->upload)
		bench_stop_upload(b);
	bench_close_store(b);
	s3_destroy(&b->fake->s3);
	snprintf(command, sizeof(command), "rm -rf %s", b->dir);
	assert_int_equal(system(command), 0);
	free(b);
}

static inline void bench_end_with_clock(struct bench *b)
{
	bench_end(b);
	clock_fake_end();
}

static inline void wait_state(struct bench *b, uint64_t ino, enum file_state state)
{
	for (unsigned i = 0; state_of(b, ino) != state; i++) {
		if (i > WAIT_MS * 2) {
			char reason[256] = "";

			if (state_of(b, ino) != FILE_STATE_COUNT)
				reason_of(b, ino, reason);
			fail_msg("inode is %d (%s), not %s", state_of(b, ino), reason, file_state_text(state));
		}
		wait_a_moment();
	}
}

static inline unsigned upload_pauses(struct bench *b)
{
	struct upload_status status;

	upload_status(b->upload, &status);
	return status.pauses;
}

static inline unsigned attempts_standing(struct bench *b)
{
	static struct store_attempt out[64];
	int n = store_attempts(b->store, 0, out, 64);

	assert_true(n >= 0);
	return (unsigned)n;
}

/* ---- what many tests do ----------------------------------------------------------------------------- */

static inline void rename_in(struct bench *b, const char *dir, const char *from, const char *to)
{
	uint64_t ino = file_ino(b, dir, false);

	assert_int_equal(store_rename(b->store, ino, from, ino, to, 0, 0), 0);
}

/* The clock may stand still, so that nothing is synced for its own sake. */
#define wait_looking(cond) wait_until(upload_hurry(b->upload, "") >= 0 && (cond))

static inline uint64_t uploaded(struct bench *b, const char *path, const char *text)
{
	uint64_t ino = write_text(b, path, text);

	wait_looking(state_of(b, ino) == FILE_UPLOADED && attempts_standing(b) == 0);
	return ino;
}
