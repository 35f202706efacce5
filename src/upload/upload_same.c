/*
 * upload_same - does an object hold our content? Never by size alone.
 *
 * A full-object CRC64NVME decides. Without one (servers that have none) an ETag decides if our
 * bytes reproduce it: the MD5 of the whole, or of parts as tools make them. What can't be
 * reproduced counts as other content; only for our own attempts whose outcome is in doubt the object
 * is fetched for its checksum then.
 */
#include "upload_private.h"

#define POOL_FULL_MS 100

enum content_is same_content(const struct version *v, const struct found *f)
{
	if (f->object.size_bytes != v->size_bytes)
		return CONTENT_OTHER;
	if (f->has_crc64nvme && v->has_crc64nvme)
		return f->crc64nvme == v->crc64nvme ? CONTENT_SAME : CONTENT_OTHER;
	if (v->has_md5 && s3_etag_is_md5(f->object.etag))
		return strcasecmp(v->md5, f->object.etag) == 0 ? CONTENT_SAME : CONTENT_OTHER;
	return CONTENT_NEEDS_READING;
}

static bool etag_made_by(const struct store_attempt *a, const char *etag)
{
	if (!a->has_md5 || strlen(etag) < 32 || strncasecmp(etag, a->md5, 32) != 0)
		return false;
	return etag[32] == (a->kind == ATTEMPT_MULTIPART ? '-' : '\0');
}

bool attempt_made(const struct store_attempt *a, const struct found *f)
{
	if (f->says != BUCKET_HOLDS || f->object.size_bytes != a->size_bytes)
		return false;
	if (f->has_crc64nvme && a->has_crc64nvme)
		return f->crc64nvme == a->crc64nvme;
	return etag_made_by(a, f->object.etag);
}

/* ---- by the record ------------------------------------------------------------------------------ */

bool found_is_of(const struct found *found, const struct store_object *o)
{
	return found->says == BUCKET_HOLDS &&
	       (strcmp(found->object.etag, o->etag) == 0 ||
		       (found->has_crc64nvme && o->has_crc64nvme &&
			       found->crc64nvme == o->crc64nvme &&
			       found->object.size_bytes == o->size_bytes));
}

int found_record(struct upload *u, const struct store_inode *inode, const struct found *found,
	enum file_state to, uint64_t names)
{
	bool stays = to == inode->attr.state;
	struct store_transition change = {.ino = inode->attr.ino,
		.generation = inode->attr.generation,
		.from = inode->attr.state,
		.to = to,
		.held = stays ? inode->held : HELD_NOT,
		.in_the_way = stays ? inode->in_the_way : 0,
		.reason = stays ? NULL : "",
		.due_at_ns = stays ? inode->due_at_ns : 0,
		.names = names};
	struct store_object object = inode->object;
	int r;

	if (stays && strcmp(object.etag, found->object.etag) == 0)
		return 0;
	(void)text_copy(object.etag, found->object.etag, sizeof(object.etag)); /* same size */
	r = store_object_set(u->store, &change, &object, false);
	if (r < 0 && r != -ESTALE && r != -ENOENT && r != -EAGAIN)
		pause_note_store(u, r);
	return r;
}

/* ---- by reading --------------------------------------------------------------------------------- */

static void compared(struct upload *u, struct digest *d)
{
	struct task *t = d->task;

	if (d->error < 0) { /* that says nothing of what they hold */
		put_unsent(u, t, d->error);
		return;
	}
	t->content = d->same ? CONTENT_SAME : CONTENT_OTHER;
	t->compared = true;
	t->then(u, t);
}

void same_by_reading(struct upload *u, struct task *t, task_step_fn *then)
{
	struct digest d = {
		.kind = DIGEST_ETAG, .task = t, .version = t->version, .done = compared};
	int r;

	(void)text_copy(d.etag, t->found.object.etag, sizeof(d.etag));
	t->then = then;
	r = digest_begin(u, &d);
	if (r == -EREMOTE) { /* our bytes are in the bucket only: nothing to compare with */
		t->content = CONTENT_OTHER;
		t->compared = true;
		then(u, t);
	} else if (r < 0) {
		put_unsent(u, t, r == -EAGAIN ? -EAGAIN : r);
	}
}

/* ---- by fetching -------------------------------------------------------------------------------- */

/* An ETag that is not the MD5 of ours may be none at all. What was to be replaced is not what was made. */
bool fetching_may_tell(const struct task *t)
{
	return !t->fetched && t->found.says == BUCKET_HOLDS && !t->found.has_crc64nvme &&
	       t->attempt.has_crc64nvme && t->found.object.size_bytes == t->attempt.size_bytes &&
	       (t->attempt.if_match[0] == '\0' ||
		       strcmp(t->found.object.etag, t->attempt.if_match) != 0);
}

static void fetched(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;

	if (reply->class != S3_DONE && reply->class != S3_CONFLICT &&
		reply->class != S3_NOT_FOUND && reply->class != S3_DENIED &&
		reply->class != S3_FATAL) {
		task_transient(u, t, reply);
		return;
	}
	t->content = reply->class == S3_DONE && rq->received == t->attempt.size_bytes &&
				     rq->crc64nvme == t->attempt.crc64nvme
			     ? CONTENT_SAME
			     : CONTENT_OTHER;
	t->compared = t->fetched = true;
	t->then(u, t);
}

void same_by_fetching(struct upload *u, struct task *t, task_step_fn *then)
{
	struct s3_request req = {
		.op = S3_GET, .key = t->key, .if_match = t->found.object.etag};
	int r;

	check(prefix_side_of(u->prefix, t->key) == PREFIX_INSIDE);
	log_info("%s: nothing but its content can tell whether this object is ours: it is fetched",
		t->key);
	t->then = then;
	r = request_send(u, t, &req, NULL, 0, fetched);
	if (r < 0)
		put_unsent(u, t, r);
}
