/*
 * upload_task - one piece of work on one version: what it holds (inode, key, slot, descriptor), the
 * record of its attempt, and its end.
 */
#include "upload_private.h"

#include <inttypes.h>

#define RECORD_RETRY_MS 5000
/* The bucket may not be asked about a doubtful attempt: it is tried again this often. */
#define REFUSED_AGAIN_MS 30000

static uint64_t key_hash(const char *key)
{
	return crc64nvme(0, key, strlen(key));
}

int task_create(struct upload *u, enum task_kind kind, uint64_t ino, struct task **ret)
{
	struct task *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->kind = kind;
	t->version.ino = ino;
	r = map_put(&u->sched.tasks_of_ino, ino, t);
	if (r < 0) {
		free(t);
		return r;
	}
	t->next = u->sched.tasks;
	if (t->next)
		t->next->prev = t;
	u->sched.tasks = t;
	*ret = t;
	return 0;
}

void slot_take(struct upload *u, struct task *t)
{
	t->holds_slot = true;
	t->slot_bytes = 0;
	if (t->kind == TASK_PUT)
		t->slot_bytes = t->version.size_bytes < SEND_BUFFER_BYTES
					? (unsigned)t->version.size_bytes
					: SEND_BUFFER_BYTES;
	u->sched.slots_used++;
	u->sched.slots_bytes += t->slot_bytes;
}

void slot_drop(struct upload *u, struct task *t)
{
	if (!t->holds_slot)
		return;
	t->holds_slot = false;
	u->sched.slots_used--;
	u->sched.slots_bytes -= t->slot_bytes;
}

static void task_let_go(struct upload *u, struct task *t)
{
	if (map_get(&u->sched.tasks_of_ino, t->version.ino) == t)
		map_remove(&u->sched.tasks_of_ino, t->version.ino);
	if (t->claims_key) {
		map_remove(&u->sched.keys, key_hash(t->key));
		look_again(u, FILE_QUEUED);
		look_again(u, FILE_MOVING);
		look_again(u, FILE_DELETING);
	}
	if (t->claims_delete)
		delete_release(u, t->version.ino);
	slot_drop(u, t);
}

void task_destroy(struct upload *u, struct task *t)
{
	check(t->outstanding == 0);
	task_let_go(u, t);
	if (t->prev)
		t->prev->next = t->next;
	else
		u->sched.tasks = t->next;
	if (t->next)
		t->next->prev = t->prev;
	if (t->parts && !t->stream)
		u->sched.large_open--;
	stream_release(u, t);
	multipart_release(t);
	copy_large_release(t);
	body_fd_unref(t->body);
	if (t->standing_id) /* not taken over: what becomes of it? */
		doubt_soon(u, t->standing_id);
	free(t);
}

bool key_is_busy(struct upload *u, const char *key)
{
	return map_get(&u->sched.keys, key_hash(key)) != NULL;
}

enum s3_condition task_condition(const struct task *t)
{
	return t->condition[0] ? S3_IF_MATCH : S3_IF_NONE_MATCH;
}

bool condition_holds(const struct task *t)
{
	if (t->condition[0] == '\0')
		return t->found.says == BUCKET_ABSENT;
	return t->found.says == BUCKET_HOLDS && strcmp(t->found.object.etag, t->condition) == 0;
}

int task_claim_key(struct upload *u, struct task *t, const char *key)
{
	int r;

	if (key_is_busy(u, key))
		return -EBUSY;
	r = map_put(&u->sched.keys, key_hash(key), t);
	if (r < 0)
		return r;
	(void)text_copy(t->key, key, sizeof(t->key));
	t->claims_key = true;
	return 0;
}

void wait_for(struct upload *u, uint64_t ino, int64_t ms)
{
	if (waits_add(&u->sched.waiting_inos, ino, clock_mono_ms() + ms) < 0)
		log_debug("out of memory: inode %" PRIu64 " is looked at again at once", ino);
	wake_by(u, clock_mono_ms() + ms);
}

void task_retry_in(struct upload *u, struct task *t, int64_t ms)
{
	wait_for(u, t->version.ino, ms);
	task_destroy(u, t);
}

void task_transient(struct upload *u, struct task *t, const struct s3_reply *why)
{
	bool pauses = why->class == S3_AUTH || (why->http_status == 0 && s3_is_down(u->s3));
	bool refused = why->class == S3_DENIED || why->class == S3_FATAL;

	if (t->attempt.id != 0) {
		int64_t ms = pauses	 ? 0
			     : refused ? REFUSED_AGAIN_MS
				       : s3_backoff_ms(t->version.attempts + 2, false);

		doubt_add(u, t->attempt.id, ms);
		t->attempt.id = 0;
		task_destroy(u, t);
	} else if (pauses) {
		task_destroy(u, t);
	} else {
		task_retry_later(u, t, why);
	}
}

void task_retry_later(struct upload *u, struct task *t, const struct s3_reply *why)
{
	unsigned attempt = t->version.attempts + 1;
	bool throttled = why->class == S3_THROTTLED;

	u->sched.retries++;
	if (!s3_retry_bucket_take(&u->sched.retry_bucket, why->class))
		attempt = 32; /* the longest backoff */
	task_retry_in(u, t, s3_backoff_ms(attempt, throttled));
}

/* ---- the record of an attempt ------------------------------------------------------------------- */

bool task_key_stands(struct upload *u, struct task *t)
{
	uint64_t standing_id = t->standing_id;
	bool stands = key_is(u, t->version.ino, t->key, &t->names) && key_owner_of(u, t) == KEY_FREE;

	t->standing_id = standing_id;
	return stands;
}

int task_attempt_begin(struct upload *u, struct task *t, enum attempt_kind kind,
	enum file_state from, const char *if_match)
{
	struct store_attempt *a = &t->attempt;
	int r;

	*a = (struct store_attempt){.ino = t->version.ino,
		.generation = t->version.generation,
		.kind = kind,
		.phase = t->kind == TASK_STREAM ? ATTEMPT_STREAMING : ATTEMPT_OPEN,
		.size_bytes = t->version.size_bytes,
		.has_crc64nvme = t->version.has_crc64nvme,
		.crc64nvme = t->version.crc64nvme,
		.has_md5 = t->version.has_md5,
		.if_none_match = !if_match && kind != ATTEMPT_DELETE,
		.begun_at_ns = clock_wall_ns()};
	(void)text_copy(a->key, t->key, sizeof(a->key));
	(void)text_copy(a->md5, t->version.md5, sizeof(a->md5));
	(void)text_copy(a->if_match, if_match ? if_match : "", sizeof(a->if_match));
	if (kind == ATTEMPT_COPY || t->kind == TASK_MOVE)
		(void)text_copy(a->source_key, t->object.key, sizeof(a->source_key));
	do {
		a->names = kind == ATTEMPT_DELETE ? 0 : t->names;
		r = store_attempt_begin(u->store, a, from);
	} while (r == -EAGAIN && task_key_stands(u, t));
	r = r == -EAGAIN ? -ESTALE : r;
	if (r < 0)
		a->id = 0;
	else if (from != FILE_NONE)
		t->version.state = FILE_SENDING;
	if (r < 0 && r != -ESTALE && r != -ENOENT)
		pause_note_store(u, r);
	return r;
}

static bool in_flight_state(enum file_state s)
{
	return s == FILE_SENDING || s == FILE_UNKNOWN || s == FILE_MOVING;
}

/* The attempt stands recorded although its outcome is known: it will be asked about again. */
static bool attempt_not_recorded(struct upload *u, struct task *t, int error)
{
	log_error("the outcome of %s could not be recorded (%s): it will be looked up again",
		t->attempt.key, strerror(-error));
	pause_note_store(u, error);
	doubt_add(u, t->attempt.id, RECORD_RETRY_MS);
	t->attempt.id = 0;
	return false;
}

/* What the server says of one key is no verdict on a file that has another one by now. */
static enum file_state verdict_elsewhere(enum file_state now, enum file_state to)
{
	if (to != FILE_FAILED && to != FILE_CONFLICT)
		return to;
	return now == FILE_MOVING ? FILE_NONE : FILE_QUEUED;
}

/* -EAGAIN: something was renamed meanwhile. */
static int outcome_record(struct upload *u, struct task *t, struct store_transition *change,
	const struct store_object *object, bool *ret_applied)
{
	struct key_now now = {.held = HELD_NAME};
	bool known = key_of_inode(u, t->version.ino, &now) == 0 && now.held == HELD_NOT;
	struct store_transition outcome = *change;
	struct store_attr attr;
	bool applied = false, changes = false;
	int r;

	if (store_attr(u->store, t->version.ino, &attr) == 0) {
		if (!known || strcmp(now.key, t->key) != 0)
			outcome.to = verdict_elsewhere(attr.state, outcome.to);
		changes = outcome.to != FILE_NONE && in_flight_state(attr.state) &&
			  file_state_may_follow(attr.state, outcome.to);
		outcome.from = attr.state;
	}
	r = store_attempt_end(u->store, t->attempt.id, changes ? &outcome : NULL, object,
		known ? now.key : "", now.names, &applied);
	*change = r == 0 ? outcome : *change;
	*ret_applied = r == 0 && applied && changes;
	return r;
}

bool task_attempt_end(struct upload *u, struct task *t, enum file_state to, const char *reason,
	bool count_attempt, const struct store_object *object)
{
	struct store_transition change = {.ino = t->version.ino,
		.generation = t->version.generation,
		.to = to,
		.reason = reason ? reason : "",
		.count_attempt = count_attempt};
	bool applied;
	int r;

	do
		r = outcome_record(u, t, &change, object, &applied);
	while (r == -EAGAIN);
	if (r < 0)
		return attempt_not_recorded(u, t, r);
	t->attempt.id = 0;
	if (applied)
		t->version.state = change.to;
	return applied;
}

void task_object_of(
	const struct task *t, const struct s3_object *made, struct store_object *ret)
{
	*ret = (struct store_object){.size_bytes = t->version.size_bytes,
		.generation = t->version.generation,
		.has_crc64nvme = t->version.has_crc64nvme,
		.crc64nvme = t->version.crc64nvme,
		.uploaded_at_ns = clock_wall_ns()};
	(void)text_copy(ret->key, t->key, sizeof(ret->key));
	(void)text_copy(ret->etag, made->etag, sizeof(ret->etag));
}

/* ---- after success ------------------------------------------------------------------------------ */

void task_uploaded(struct upload *u, struct task *t, const struct store_object *object)
{
	struct s3_object shown = {
		.size_bytes = object->size_bytes, .last_modified_ns = clock_wall_ns()};

	(void)text_copy(shown.etag, object->etag, sizeof(shown.etag));
	if (u->remote)
		remote_note_put(u->remote, t->key, &shown);
}
