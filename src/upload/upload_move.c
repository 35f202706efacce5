/*
 * upload_move - files renamed after their upload: the object is copied inside the bucket, proved,
 * and the old key becomes a stray that upload_delete.c removes.
 *
 * The copy names the source's ETag, so that it moves our bytes or none. Where the server refuses
 * the copy (some ACL policies do) or it is too large for one request, a file whose bytes are all
 * here is sent again under its new name instead. Nothing of the old object is touched before the
 * new one stands recorded.
 */
#include "upload_private.h"

#define BLOCKED_MS 5000
#define FETCHING_MS 200
#define FETCHES_AT_ONCE 4

/* ---- the other way: send it again --------------------------------------------------------------- */

void move_by_sending(
	struct upload *u, struct task *t, const char *why, enum file_state otherwise)
{
	struct state_change change = {.to = FILE_QUEUED};
	char reason[REASON_MAX];
	bool gone = otherwise == FILE_GONE && t->object.verified_at_ns != 0;
	int here = gone ? 0 : version_is_here(u, &t->version);

	if (here < 0) {
		move_again(u, t);
		return;
	}
	if (gone) {
		change = (struct state_change){
			.to = FILE_GONE, .reason = "removed from the bucket by someone else"};
	} else if (here == 0 && otherwise == FILE_GONE) {
		change = (struct state_change){.to = FILE_LOST,
			.reason = "the object vanished before it was verified, and its bytes are not "
				  "here any more"};
	} else if (here == 0) {
		snprintf(reason, sizeof(reason),
			"renamed, but the object cannot follow (%.120s), and its bytes are only in "
			"the bucket under the old name",
			why);
		change = (struct state_change){
			.to = otherwise, .reason = reason, .count_attempt = true};
	}
	/* else it stays MOVING, to another key */
	if (state_set_under(u, &t->version, t->key, &change) == 0 && change.count_attempt)
		log_warn("%s: %s", t->key, reason);
	task_destroy(u, t);
}

/* ---- the reply ---------------------------------------------------------------------------------- */

static void move_not_proved(struct upload *u, struct task *t)
{
	struct s3_reply again = {.class = S3_UNKNOWN, .code = "NotProved"};

	put_doubtful(u, t, &again);
}

/* The source is ours after the copy was made, so it was ours while it was made. */
static void proved_by_source(struct upload *u, struct task *t)
{
	struct s3_object made = {.size_bytes = t->object.size_bytes};

	(void)text_copy(made.etag, t->made_etag, sizeof(made.etag));
	if (t->found.says == BUCKET_HOLDS && strcmp(t->found.object.etag, t->object.etag) == 0)
		put_done(u, t, &made);
	else
		move_not_proved(u, t); /* its content decides */
}

/* A server that ignores the condition on the source may have copied somebody else's bytes, and an
 * ETag that is no MD5 of ours does not tell. */
static void move_proved(struct upload *u, struct task *t)
{
	const struct found *f = &t->found;
	bool summed = f->has_crc64nvme && t->attempt.has_crc64nvme;

	if (f->says != BUCKET_HOLDS || f->object.size_bytes != t->object.size_bytes)
		move_not_proved(u, t);
	else if (attempt_made(&t->attempt, f))
		put_done(u, t, &t->found.object);
	else if (!summed && t->made_etag[0] && strcmp(f->object.etag, t->made_etag) == 0)
		ask_bucket(u, t, t->object.key, true, proved_by_source);
	else
		move_not_proved(u, t);
}

void move_done(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	(void)text_copy(t->made_etag, reply->object.etag, sizeof(t->made_etag));
	if (reply->has_crc64nvme && reply->crc_is_full_object && t->version.has_crc64nvme &&
		reply->crc64nvme == t->version.crc64nvme && t->made_etag[0])
		put_done(u, t, &reply->object);
	else
		ask_bucket(u, t, t->key, true, move_proved);
}

void move_again(struct upload *u, struct task *t)
{
	struct s3_reply again = {.class = S3_RETRY};

	state_set(u, &t->version, &(struct state_change){.to = FILE_MOVING, .count_attempt = true});
	task_retry_later(u, t, &again);
}

/* The source has another tag: the same content, written once more? Then that one is to be copied. */
static bool source_is_the_same(struct upload *u, struct task *t)
{
	struct store_inode now;

	if (!found_is_of(&t->found, &t->object))
		return false;
	if (store_inode(u->store, t->version.ino, &now) == 0 && now.attr.state == FILE_MOVING &&
		now.attr.generation == t->version.generation &&
		strcmp(now.object.key, t->object.key) == 0 &&
		found_record(u, &now, &t->found, FILE_MOVING, 0) == 0)
		(void)text_copy(t->object.etag, t->found.object.etag, sizeof(t->object.etag));
	return true;
}

/* One answer is no proof that the source is not what we recorded: it is asked for by name. */
static bool source_is_ours(struct upload *u, struct task *t)
{
	if (t->found.says == BUCKET_ABSENT)
		move_by_sending(u, t, "someone removed it", FILE_GONE);
	else if (strcmp(t->found.object.etag, t->object.etag) != 0 && !source_is_the_same(u, t))
		move_by_sending(u, t, "someone changed it", FILE_FAILED);
	else
		return true;
	return false;
}

static void source_asked(struct upload *u, struct task *t)
{
	if (source_is_ours(u, t))
		move_again(u, t);
}

void move_ask_source(struct upload *u, struct task *t)
{
	ask_bucket(u, t, t->object.key, true, source_asked);
}

/* Then it is the target that is not what we thought. */
static void source_of_refused_asked(struct upload *u, struct task *t)
{
	if (source_is_ours(u, t))
		put_replan(u, t);
}

/* A "no" may speak of the source or of a target that we meant to replace. */
static void move_refused(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	int here = reply->class == S3_CONFLICT ? version_is_here(u, &t->version) : 0;

	(void)task_attempt_end(u, t, FILE_NONE, NULL, false, NULL);
	if (reply->class == S3_NOT_FOUND && t->condition[0] != '\0')
		ask_bucket(u, t, t->object.key, true, source_of_refused_asked);
	else if (reply->class == S3_NOT_FOUND)
		move_ask_source(u, t);
	else if (reply->class == S3_DENIED || reply->class == S3_FATAL)
		move_by_sending(u, t, reply->code, FILE_FAILED);
	else if (reply->class != S3_CONFLICT)
		task_transient(u, t, reply);
	else if (here > 0)
		move_by_sending(u, t, reply->code, FILE_FAILED);
	else if (here < 0 || reply->http_status == 409)
		move_again(u, t);
	else
		ask_bucket(u, t, t->object.key, true, source_of_refused_asked);
}

static void move_answered(struct upload *u, struct task *t, struct request *rq)
{
	switch (reply_applied(&rq->reply)) {
	case APPLIED_YES:
		move_done(u, t, &rq->reply);
		return;
	case APPLIED_PERHAPS:
		put_doubtful(u, t, &rq->reply);
		return;
	case APPLIED_NO:
		move_refused(u, t, &rq->reply);
		return;
	}
}

/* ---- the copy ----------------------------------------------------------------------------------- */

static void move_go(struct upload *u, struct task *t, bool holds)
{
	struct s3_request req = {.op = S3_COPY,
		.key = t->key,
		.copy_source_key = t->object.key,
		.copy_source_if_match = t->object.etag,
		.if_none_match_any = t->condition[0] == '\0',
		.if_match = t->condition[0] ? t->condition : NULL,
		.acl = u->acl,
		.content_type = content_type_of(t->version.name),
		.has_mtime = true,
		.mtime_ns = t->version.mtime_ns};
	int r;

	if (!holds) {
		(void)task_attempt_end(u, t, FILE_NONE, NULL, false, NULL);
		put_replan(u, t);
		return;
	}
	check(prefix_side_of(u->prefix, t->key) == PREFIX_INSIDE);
	r = request_send(u, t, &req, NULL, 0, move_answered);
	if (r < 0)
		put_unsent(u, t, r);
}

void move_copy(struct upload *u, struct task *t)
{
	int r;

	if (t->object.size_bytes > u->copy_max_bytes) {
		copy_large_begin(u, t);
		return;
	}
	r = task_attempt_begin(
		u, t, ATTEMPT_COPY, FILE_NONE, t->condition[0] ? t->condition : NULL);
	if (r < 0)
		put_unsent(u, t, r);
	else
		write_safely(u, t, S3_COPY, move_go);
}

/* ---- start -------------------------------------------------------------------------------------- */

/* The version that is moved: the object's content, which is this version's. */
static int move_load(struct upload *u, uint64_t ino, struct version *v, struct store_object *object)
{
	struct store_inode inode;
	int r = store_inode(u->store, ino, &inode);

	if (r < 0)
		return r;
	*object = inode.object;
	version_of_inode(u, &inode, v);
	if (object->has_crc64nvme) {
		v->has_crc64nvme = true;
		v->crc64nvme = object->crc64nvme;
	}
	if (s3_etag_is_md5(object->etag)) {
		v->has_md5 = true;
		(void)text_copy(v->md5, object->etag, sizeof(v->md5));
	}
	return 0;
}

/* -ESTALE: it has another name by now. */
static int stayed_record(struct upload *u, struct task *t)
{
	struct store_inode now;
	uint64_t names;
	int r;

	do {
		if (!key_is(u, t->version.ino, t->key, &names))
			return -ESTALE;
		r = store_inode(u->store, t->version.ino, &now);
		if (r == 0 && (now.attr.state != FILE_MOVING ||
				      now.attr.generation != t->version.generation ||
				      strcmp(now.object.key, t->key) != 0))
			r = -ESTALE;
		if (r == 0)
			r = found_record(u, &now, &t->found, FILE_UPLOADED, names);
	} while (r == -EAGAIN);
	return r;
}

/* It has the name again under which its object is, if that is still there: since when it was last seen it
 * may have been gone, or replaced. */
static void stayed_asked(struct upload *u, struct task *t)
{
	bool holds = t->found.says == BUCKET_HOLDS;
	int here;

	if (found_is_of(&t->found, &t->object)) {
		(void)stayed_record(u, t);
		task_destroy(u, t);
		return;
	}
	here = holds ? version_is_here(u, &t->version) : 1;
	if (here == 0)
		put_conflict(u, t);
	else if (holds) /* whoever sends it finds that */
		move_by_sending(u, t, "someone changed it", FILE_FAILED);
	else
		move_by_sending(u, t, "it is not there any more", FILE_GONE);
}

/* START_BEGUN: there is something to move to now->key, or to be looked for there. */
static enum start move_may_begin(struct upload *u, const struct version *v,
	const struct store_object *object, struct key_now *now)
{
	struct state_change change = {.to = FILE_HELD};
	int r = key_of_inode(u, v->ino, now);

	if (r == -ENOENT)
		return START_LEFT;
	if (r < 0 && r != -EACCES)
		return START_STAYS;
	if (r == -EACCES)
		change = (struct state_change){
			.to = FILE_FAILED, .reason = "its key lies outside the mounted prefix"};
	else if (now->held != HELD_NOT)
		change = (struct state_change){
			.to = FILE_HELD, .held = now->held, .reason = now->reason};
	else if (object->etag[0] == '\0' || object->generation != v->generation)
		change.to = FILE_CLOSED;
	else
		return key_is_busy(u, now->key) || key_is_busy(u, object->key) ? START_STAYS
									      : START_BEGUN;
	change.names = now->names;
	r = state_set(u, v, &change);
	if (r == -EAGAIN)
		return move_may_begin(u, v, object, now);
	return r == 0 ? START_LEFT : START_STAYS;
}

static bool cache_takes(struct upload *u, const struct version *v)
{
	struct store_space space;

	store_space(u->store, &space);
	return v->size_bytes <= space.size_bytes;
}

bool fetch_some(struct upload *u, const struct version *v)
{
	unsigned under_way = 0;

	if (!cache_takes(u, v))
		return false; /* the first chunk would go for the last */

	for (uint64_t n = 0; u->remote && n < v->chunk_count && under_way < FETCHES_AT_ONCE; n++) {
		struct store_chunk c;
		int r = store_chunk(u->store, v->ino, n, &c);

		if (r == 0 && !c.present)
			r = remote_fetch(u->remote, v->ino, n);
		if (r == -EINPROGRESS)
			under_way++;
	}
	return under_way > 0;
}

/* Until one of the two has another name, or the cache is larger. */
static void tell_too_large(struct upload *u, const struct version *v)
{
	static const char reason[] =
		"another file here has to leave this name in the bucket first; if that one waits for this "
		"one (a swap), one has to be fetched, but this is more than the cache takes: give one of "
		"them a third name for now";
	struct store_inode now;

	if (store_inode(u->store, v->ino, &now) == 0 && strcmp(now.reason, reason) != 0)
		state_set(u, v, &(struct state_change){.to = FILE_MOVING, .reason = reason});
}

/* The place is taken by someone who has to move too (a swap of names). What is here in full need not wait
 * for that, once it no longer depends on its object; so the bytes are fetched. */
static enum start move_blocked(struct upload *u, struct task *t)
{
	struct version v = t->version;
	int here = version_is_here(u, &v);

	task_destroy(u, t);
	if (here > 0 && state_set(u, &v, &(struct state_change){.to = FILE_QUEUED}) == 0)
		return START_LEFT;
	if (here == 0 && !cache_takes(u, &v))
		tell_too_large(u, &v);
	wait_for(u, v.ino, here == 0 && fetch_some(u, &v) ? FETCHING_MS : BLOCKED_MS);
	return START_STAYS;
}

static enum start move_start(struct upload *u, uint64_t ino)
{
	struct version v;
	struct store_object object;
	struct key_now now;
	enum key_owner owner;
	enum start start;
	struct task *t;
	bool asks;

	if (move_load(u, ino, &v, &object) < 0 || v.state != FILE_MOVING)
		return START_LEFT;
	start = move_may_begin(u, &v, &object, &now);
	if (start != START_BEGUN)
		return start;
	if (task_create(u, TASK_MOVE, ino, &t) < 0)
		return START_STAYS;
	t->version = v;
	t->object = object;
	t->names = now.names;
	(void)text_copy(t->key, now.key, sizeof(t->key));
	owner = key_owner_of(u, t);
	asks = owner == KEY_WAIT && blocker_stays(u, t);
	if ((owner == KEY_WAIT && !asks) || owner == KEY_TAKEN)
		return move_blocked(u, t);
	if (owner == KEY_PENDING || task_claim_key(u, t, t->key) < 0) {
		task_destroy(u, t);
		return START_STAYS;
	}
	slot_take(u, t);
	if (strcmp(t->key, t->object.key) == 0)
		ask_bucket(u, t, t->key, true, stayed_asked);
	else if (asks)
		ask_bucket(u, t, t->key, true, blocked_asked);
	else
		put_plan(u, t);
	return START_BEGUN;
}

void move_pass(struct upload *u)
{
	struct store_queue_item item;

	while (slot_free(u)) {
		if (window_next(u, &u->sched.moving, &item) <= 0)
			return;
		if (map_get(&u->sched.tasks_of_ino, item.ino) ||
			waits_has(&u->sched.waiting_inos, item.ino) ||
			move_start(u, item.ino) == START_STAYS)
			window_skipped(&u->sched.moving);
	}
}
