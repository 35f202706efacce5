/*
 * upload_put - QUEUED versions: plan, ask where the plan wants it, send in one request.
 *
 * States: QUEUED while it is planned and asked about; SENDING from the record of the attempt on;
 * what the reply means stands in upload_put_end.c. Larger versions go the way of
 * upload_multipart.c from put_send() on.
 */
#include "upload_private.h"

#include <inttypes.h>

#define LARGE_FILES_MAX 8
#define BLOCKED_MS 5000
#define BLOCKED_SOON_MS 1000

/* ---- plan --------------------------------------------------------------------------------------- */

bool version_is_large(const struct upload *u, const struct version *v)
{
	uint64_t most = u->multipart_threshold_bytes < PUT_MAX_BYTES ? u->multipart_threshold_bytes
								     : PUT_MAX_BYTES;

	return v->size_bytes > most && v->chunk_count > 1;
}

bool found_is_recorded(struct upload *u, const struct task *t)
{
	struct store_inode *owners = u->sched.owners;
	const char *etag = t->found.object.etag;
	int n;

	if (t->own_known && strcmp(etag, t->own_etag) == 0)
		return true;
	n = store_inodes_of_key(u->store, t->key, owners, OWNERS_MAX);
	for (int i = 0; i < n; i++) {
		if (!(owners[i].attr.flags & STORE_FLAG_FOREIGN) &&
			strcmp(owners[i].object.etag, etag) == 0)
			return true;
	}
	return false;
}

/* Of a write on trust. */
static enum s3_condition first_condition(const struct task *t)
{
	return t->own_known ? S3_IF_MATCH : S3_IF_NONE_MATCH;
}

static struct plan_facts facts_of(struct upload *u, struct task *t)
{
	bool moves = t->kind == TASK_MOVE;
	bool large = moves ? t->object.size_bytes > u->copy_max_bytes : version_is_large(u, &t->version);
	enum s3_op op = large ? S3_COMPLETE_MULTIPART : moves ? S3_COPY : S3_PUT;
	struct plan_facts f = {.own_known = t->own_known,
		.own_same = t->own_same,
		.enforced = s3_enforces(u->s3, op, first_condition(t)),
		.ask_first = large || (!t->own_known && u->sched.keys_taken),
		.may_replace = u->allow_overwrite,
		.bucket = t->found.says};

	if (f.bucket != BUCKET_HOLDS)
		return f;
	if (t->version.replaces &&
		t->version.replaces == store_in_the_way(t->key, t->found.object.etag))
		f.may_replace = true;
	f.found_is_ours = found_is_recorded(u, t);
	if (f.own_same && strcmp(t->found.object.etag, t->own_etag) == 0)
		t->content = CONTENT_SAME; /* it was proved when it was recorded */
	else if (!t->compared)
		t->content = same_content(&t->version, &t->found);
	if (t->content == CONTENT_NEEDS_READING && t->own_same &&
		strcmp(t->found.object.etag, t->own_etag) == 0)
		t->content = CONTENT_SAME; /* the very object that was proved to hold it */
	f.content = t->content;
	return f;
}

/* What one key teaches for the next. */
static void plan_note(struct upload *u, const struct task *t, const struct plan_facts *f)
{
	bool only_for_that = !f->enforced && !f->ask_first && !f->own_same;

	if (f->bucket == BUCKET_UNASKED && only_for_that && t->kind == TASK_PUT)
		probe_note_asked(u, first_condition(t));
	if (f->bucket != BUCKET_UNASKED && !t->own_known)
		u->sched.keys_taken = f->bucket == BUCKET_HOLDS;
}

void put_conflict(struct upload *u, struct task *t)
{
	char reason[REASON_MAX], size[24], date[32];

	size_format(t->found.object.size_bytes, size);
	time_format_iso8601(t->found.object.last_modified_ns, date);
	snprintf(reason, sizeof(reason),
		"the bucket holds something else under this key (%s of %s, ETag %s)", size, date,
		t->found.object.etag);
	if (state_set_under(u, &t->version, t->key,
		    &(struct state_change){.to = FILE_CONFLICT,
			    .reason = reason,
			    .in_the_way = store_in_the_way(t->key, t->found.object.etag)}) == 0)
		log_warn("%s: %s; both are kept, `cpgfs accept` or `cpgfs discard` decides", t->key,
			reason);
	task_destroy(u, t);
}

static void put_adopt_now(struct upload *u, struct task *t)
{
	struct store_transition change = {.ino = t->version.ino,
		.generation = t->version.generation,
		.from = t->version.state,
		.to = FILE_UPLOADED,
		.reason = ""};
	bool ours = found_is_recorded(u, t);
	struct store_object object;
	int r;

	task_object_of(t, &t->found.object, &object);
	do
		r = key_is(u, t->version.ino, t->key, &change.names)
			    ? store_object_set(u->store, &change, &object, !ours)
			    : -ESTALE;
	while (r == -EAGAIN);
	if (r == 0)
		task_uploaded(u, t, &object);
	else if (r != -ESTALE && r != -ENOENT)
		pause_note_store(u, r);
	sha_cache_drop(u, t->version.ino);
	task_destroy(u, t);
}

static void put_adopt_synced(struct upload *u, struct task *t)
{
	if (t->sync_error == -EIO && t->kind == TASK_PUT)
		put_reread(u, t, "the cache disk failed while it was synced");
	else if (t->sync_error < 0)
		put_unsent(u, t, t->sync_error);
	else
		put_adopt_now(u, t);
}

/* A power cut that takes this file, and not that the object was to be deleted, would have it deleted. */
static void put_adopt(struct upload *u, struct task *t)
{
	if (t->own_deleting)
		sync_then(u, t, true, put_adopt_synced);
	else
		put_adopt_now(u, t);
}

static void put_send(struct upload *u, struct task *t);

static void put_send_if(struct upload *u, struct task *t, const char *etag)
{
	char condition[S3_ETAG_MAX]; /* etag may be part of t */

	(void)text_copy(condition, etag, sizeof(condition));
	memcpy(t->condition, condition, sizeof(condition));
	if (t->kind == TASK_MOVE)
		move_copy(u, t);
	else if (version_is_large(u, &t->version))
		multipart_begin(u, t);
	else
		put_send(u, t);
}

void put_plan(struct upload *u, struct task *t)
{
	struct plan_facts facts = facts_of(u, t);

	plan_note(u, t, &facts);
	switch (plan_version(&facts)) {
	case PLAN_ASK:
		ask_bucket(u, t, t->key, false, put_plan);
		return;
	case PLAN_READ:
		same_by_reading(u, t, put_plan);
		return;
	case PLAN_CREATE:
		put_send_if(u, t, "");
		return;
	case PLAN_REPLACE_OWN:
		put_send_if(u, t, t->own_etag);
		return;
	case PLAN_REPLACE_FOUND:
		put_send_if(u, t, t->found.object.etag);
		return;
	case PLAN_ADOPT:
		put_adopt(u, t);
		return;
	case PLAN_CONFLICT:
		put_conflict(u, t);
		return;
	}
}

/* ---- send --------------------------------------------------------------------------------------- */

int put_request(struct upload *u, struct task *t, const char *if_match, answer_fn *answer)
{
	const struct version *v = &t->version;
	struct s3_request req = {.op = S3_PUT,
		.key = t->key,
		.body = {.fd = t->body->fd,
			.len_bytes = v->size_bytes,
			.has_sha256 = v->has_sha256,
			.has_crc64nvme = true,
			.crc64nvme = v->crc64nvme},
		.if_none_match_any = !if_match,
		.if_match = if_match,
		.acl = u->acl,
		.content_type = content_type_of(v->name),
		.has_mtime = true,
		.mtime_ns = v->mtime_ns};

	memcpy(req.body.sha256, v->sha256, sizeof(req.body.sha256));
	check(prefix_side_of(u->prefix, t->key) == PREFIX_INSIDE);
	return request_send(u, t, &req, t->body, 0, answer);
}

int put_open(struct upload *u, struct task *t)
{
	int fd, r = store_version_open(u->store, t->version.ino, t->version.generation, &fd);

	if (r < 0)
		return task_unreadable(u, t, r);
	r = body_fd_create(fd, &t->body);
	if (r < 0)
		close(fd);
	return r;
}

static void put_hashed(struct upload *u, struct digest *d)
{
	struct task *t = d->task;

	if (!store_version_is(u->store, t->version.ino, t->version.generation)) {
		task_destroy(u, t);
	} else if (d->error < 0) {
		put_unsent(u, t, d->error);
	} else if (d->crc64nvme != t->version.crc64nvme) {
		version_damaged(u, &t->version);
		task_destroy(u, t);
	} else {
		t->version.has_sha256 = t->version.has_md5 = true;
		memcpy(t->version.sha256, d->sha256, sizeof(d->sha256));
		memcpy(t->version.md5, d->md5, sizeof(d->md5));
		put_send(u, t);
	}
}

static void put_hash(struct upload *u, struct task *t)
{
	struct digest d = {.kind = DIGEST_SEND,
		.task = t,
		.version = t->version,
		.want_sha256 = true,
		.done = put_hashed};
	int r = digest_begin(u, &d);

	if (r < 0)
		put_unsent(u, t, r);
}

static void put_go(struct upload *u, struct task *t, bool holds)
{
	int r;

	if (!holds) {
		put_condition_refused(u, t);
		return;
	}
	r = put_request(u, t, t->condition[0] ? t->condition : NULL, put_answer);
	if (r < 0)
		put_unsent(u, t, r);
}

static void put_send(struct upload *u, struct task *t)
{
	const char *if_match = t->condition[0] ? t->condition : NULL;
	int r;

	if (s3_wants_sha256(u->s3) && !t->version.has_sha256) {
		put_hash(u, t);
		return;
	}
	r = put_open(u, t);
	if (r == 0)
		r = task_attempt_begin(u, t, ATTEMPT_PUT, FILE_QUEUED, if_match);
	if (r < 0)
		put_unsent(u, t, r);
	else
		write_safely(u, t, S3_PUT, put_go);
}

/* ---- start -------------------------------------------------------------------------------------- */

/* What keeps this file from being sent under its name now? START_BEGUN: nothing. */
static enum start put_may_begin(struct upload *u, const struct version *v, struct key_now *now)
{
	struct state_change change;
	int r = key_of_inode(u, v->ino, now);

	if (r == -ENOENT)
		return START_LEFT;
	if (r == -EACCES)
		change = (struct state_change){
			.to = FILE_FAILED, .reason = "its key lies outside the mounted prefix"};
	else if (r < 0)
		return START_STAYS;
	else if (now->held != HELD_NOT)
		change = (struct state_change){
			.to = FILE_HELD, .held = now->held, .reason = now->reason};
	else if (!v->has_crc64nvme)
		change = (struct state_change){.to = FILE_CLOSED};
	else
		return key_is_busy(u, now->key) ? START_STAYS : START_BEGUN;
	change.names = now->names;
	r = state_set(u, v, &change);
	if (r == -EAGAIN)
		return put_may_begin(u, v, now);
	return r == 0 ? START_LEFT : START_STAYS;
}

/* Parts were sent while it was larger. */
static void put_without_parts(struct upload *u, struct task *t)
{
	if (!attempt_find(u, t->standing_id, &t->attempt))
		t->attempt.id = 0;
	t->standing_id = 0;
	if (t->attempt.id == 0)
		put_plan(u, t);
	else
		multipart_abort(u, t);
}

static void put_begin(struct upload *u, struct task *t)
{
	if (t->standing_id != 0 && !version_is_large(u, &t->version))
		put_without_parts(u, t);
	else
		put_plan(u, t);
}

/* Ends the task: looked at again when the other one has moved, or its bytes have come. */
static void blocked_still(struct upload *u, struct task *t, bool bytes_come)
{
	wait_for(u, t->version.ino, bytes_come ? BLOCKED_SOON_MS : BLOCKED_MS);
	t->standing_id = 0;
	task_destroy(u, t);
}

/* Somebody else replaced or removed the only copy of the other one: nobody has it any more, and it is in
 * nobody's way. */
static void blocked_by_none(struct upload *u, struct task *t, const struct version *other)
{
	static const char reason[] =
		"its only copy was in the bucket, and somebody else replaced or removed that";

	if (other->state != FILE_LOST &&
		state_set(u, other, &(struct state_change){.to = FILE_LOST, .reason = reason}) < 0) {
		blocked_still(u, t, false);
		return;
	}
	t->without_object = other->ino;
	if (key_owner_of(u, t) == KEY_FREE)
		put_begin(u, t); /* on what was found */
	else
		blocked_still(u, t, false);
}

static bool is_only_there(struct upload *u, const struct store_inode *inode)
{
	int fd, r = store_version_open(u->store, inode->attr.ino, inode->attr.generation, &fd);

	if (r == 0)
		close(fd);
	return r == -EREMOTE && inode->object.etag[0] != '\0';
}

/* Is the only copy of the other one, whose bytes are to be fetched, still there? */
void blocked_asked(struct upload *u, struct task *t)
{
	struct store_inode now;
	struct version other;

	if (t->found.says == BUCKET_UNASKED || version_load(u, t->blocked_by, &other) < 0 ||
		store_inode(u->store, t->blocked_by, &now) < 0)
		blocked_still(u, t, false);
	else if (now.attr.generation != other.generation || !is_only_there(u, &now) ||
		 strcmp(now.object.key, t->key) != 0)
		blocked_still(u, t, true); /* it came, or went, meanwhile */
	else if (found_is_of(&t->found, &now.object))
		blocked_still(u, t,
			found_record(u, &now, &t->found, now.attr.state, 0) == 0 &&
				fetch_some(u, &other));
	else
		blocked_by_none(u, t, &other);
}

bool blocker_stays(struct upload *u, const struct task *t)
{
	struct version other;

	return t->blocked_by != 0 && version_load(u, t->blocked_by, &other) == 0 &&
	       other.state != FILE_MOVING && other.state != FILE_UPLOADED &&
	       other.state != FILE_VERIFIED;
}

/* The only copy of another file here is under its key. One that is not held goes to where it belongs; the
 * bytes of the other are fetched, if they are still there. */
static enum start put_blocked(struct upload *u, struct task *t)
{
	struct version other;

	if (blocker_stays(u, t))
		return task_claim_key(u, t, t->key) == 0 ? START_BEGUN : START_STAYS;
	if (t->blocked_by == 0 || version_load(u, t->blocked_by, &other) < 0 ||
		(other.state != FILE_UPLOADED && other.state != FILE_VERIFIED))
		return START_STAYS;
	state_set(u, &other, &(struct state_change){.to = FILE_MOVING});
	wait_for(u, t->version.ino, BLOCKED_MS);
	return START_STAYS;
}

/* The task is made, nothing is claimed yet: may it have its key? */
static enum start put_take_key(struct upload *u, struct task *t)
{
	switch (key_owner_of(u, t)) {
	case KEY_FREE:
		return task_claim_key(u, t, t->key) == 0 ? START_BEGUN : START_STAYS;
	case KEY_WAIT:
		return put_blocked(u, t);
	case KEY_PENDING:
		return START_STAYS;
	case KEY_TAKEN:
		break;
	}
	u->sched.held_for_keys = true;
	state_set_under(u, &t->version, t->key,
		&(struct state_change){.to = FILE_HELD, .held = HELD_NAME,
			.reason = key_taken_reason});
	return START_LEFT;
}

static enum start put_start(struct upload *u, uint64_t ino)
{
	struct version v;
	struct key_now now;
	enum start start;
	struct task *t;

	if (version_load(u, ino, &v) < 0 || v.state != FILE_QUEUED)
		return START_LEFT;
	if (version_is_large(u, &v) && u->sched.large_open >= LARGE_FILES_MAX)
		return START_STAYS;
	start = put_may_begin(u, &v, &now);
	if (start != START_BEGUN)
		return start;
	if (task_create(u, TASK_PUT, ino, &t) < 0)
		return START_STAYS;
	t->version = v;
	t->names = now.names;
	(void)text_copy(t->key, now.key, sizeof(t->key));
	start = put_take_key(u, t);
	if (start != START_BEGUN) {
		t->standing_id = 0; /* looked at again without haste */
		task_destroy(u, t);
		return start;
	}
	slot_take(u, t);
	sha_cache_get(u, &t->version);
	if (t->blocked_by != 0)
		ask_bucket(u, t, t->key, true, blocked_asked);
	else
		put_begin(u, t);
	return START_BEGUN;
}

/* What is still being streamed is let go first. */
static bool put_is_busy(struct upload *u, uint64_t ino)
{
	struct task *t = map_get(&u->sched.tasks_of_ino, ino);

	if (!t)
		return waits_has(&u->sched.waiting_inos, ino);
	if (t->stream)
		stream_check(u, t);
	return true;
}

void put_pass(struct upload *u)
{
	struct store_queue_item item;

	while (slot_free(u) && pause_lets_put(u)) {
		if (window_next(u, &u->sched.queued, &item) <= 0) {
			u->sched.small_wait = false;
			return;
		}
		if (put_is_busy(u, item.ino) || put_start(u, item.ino) == START_STAYS)
			window_skipped(&u->sched.queued);
	}
	u->sched.small_wait = true;
}
