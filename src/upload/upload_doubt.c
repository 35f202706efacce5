/*
 * upload_doubt - attempts that stand recorded without anyone working on them: their answer was
 * lost, or a former daemon began them. The bucket is asked what became of each.
 *
 *   PUT        the object is what was sent: recorded (uploaded, or a stray if the file moved on);
 *              else the file is queued again
 *   COPY       likewise for the new key
 *   DELETE     gone: forgotten; still there: the attempt ends and the queue takes it up again
 *              (a copy in parts is aborted and begun anew: it costs the server only)
 *   MULTIPART  open: resumed if the file is still what it was, else aborted; completing: as PUT,
 *              and if the object is not there, resumed; taking parts while the file was written:
 *              upload_stream.c
 *
 * A request whose connection was lost may still be carried out for a moment: that the bucket does not
 * show it counts only when it is asked a second time. What a server does later than that is refused by
 * its own conditions, since the key holds something else by then; unless it holds the very content
 * again that the late request was to replace or delete (GUARANTEES).
 *
 * That it shows what was sent twice (upload_probe.c) says nothing about the second time: likewise.
 *
 * Size alone proves nothing: without a checksum or a comparable ETag the object is fetched and
 * summed. What is not proved is not ours: the next writer of the key finds it and decides by the
 * rules for objects from elsewhere.
 */
#include "upload_private.h"

#include <inttypes.h>

#define TASK_BUSY_MS 200
/* Between the first question and the one that is believed when it says "no". */
#define LATE_MS 1000

void doubt_add(struct upload *u, uint64_t attempt_id, int64_t in_ms)
{
	if (waits_add(&u->sched.waiting_attempts, attempt_id, clock_mono_ms() + in_ms) < 0)
		log_debug("out of memory: attempt %" PRIu64 " is looked at in the next round",
			attempt_id);
	wake_by(u, clock_mono_ms() + in_ms);
}

void doubt_soon(struct upload *u, uint64_t attempt_id)
{
	if (waits_hasten(&u->sched.waiting_attempts, attempt_id, clock_mono_ms()) < 0)
		log_debug("out of memory: attempt %" PRIu64 " is looked at in the next round",
			attempt_id);
	wake_by(u, clock_mono_ms());
}

/* ---- verdicts ----------------------------------------------------------------------------------- */

static bool version_still_is(struct upload *u, const struct task *t)
{
	return store_version_is(u->store, t->version.ino, t->version.generation);
}

static void doubt_not_applied(struct upload *u, struct task *t)
{
	bool follows = t->attempt.kind == ATTEMPT_COPY || t->attempt.kind == ATTEMPT_DELETE ||
		       t->attempt.source_key[0] != '\0';
	enum file_state to = follows ? FILE_NONE : FILE_QUEUED; /* or its state stays */

	(void)task_attempt_end(u, t, to, "the bucket does not have it: sent again", true, NULL);
	task_destroy(u, t);
}

/* True: the attempt stays until it was asked about again. */
static bool asked_too_soon(struct upload *u, struct task *t)
{
	if (map_get(&u->sched.asked_attempts, t->attempt.id)) {
		map_remove(&u->sched.asked_attempts, t->attempt.id);
		return false;
	}
	if (map_put(&u->sched.asked_attempts, t->attempt.id, u) < 0)
		return false;
	doubt_add(u, t->attempt.id, LATE_MS);
	t->attempt.id = 0;
	task_destroy(u, t);
	return true;
}

/* An ETag we can reproduce decides where no checksum does; only while the bytes are still those. */
static bool reading_may_tell(struct upload *u, const struct task *t)
{
	return !t->compared && !t->found.has_crc64nvme && !t->attempt.has_md5 &&
	       t->found.object.size_bytes == t->attempt.size_bytes && version_still_is(u, t);
}

static void doubt_delete(struct upload *u, struct task *t)
{
	if (t->found.says == BUCKET_ABSENT) {
		delete_gone(u, t);
		return;
	}
	if (asked_too_soon(u, t))
		return;
	(void)task_attempt_end(u, t, FILE_NONE, NULL, false, NULL);
	task_destroy(u, t);
}

/* An open upload whose object is not there: go on with it, or get rid of it. */
static void doubt_multipart(struct upload *u, struct task *t)
{
	struct key_now now;
	bool same_key = key_of_inode(u, t->version.ino, &now) == 0 && now.held == HELD_NOT &&
			strcmp(now.key, t->key) == 0;

	if (t->attempt.upload_id[0] == '\0') {
		multipart_id_lost(t);
		doubt_not_applied(u, t);
	} else if (t->attempt.phase == ATTEMPT_ABORTING || !same_key || t->attempt.source_key[0] || !version_still_is(u, t) ||
		   (t->version.state != FILE_SENDING && t->version.state != FILE_UNKNOWN)) {
		multipart_abort(u, t);
	} else {
		multipart_resume(u, t);
	}
}

static void doubt_judge(struct upload *u, struct task *t)
{
	if (t->attempt.kind == ATTEMPT_DELETE) {
		doubt_delete(u, t);
	} else if (attempt_made(&t->attempt, &t->found) ||
		   (t->compared && t->content == CONTENT_SAME)) {
		if (attempt_is_probe(&t->attempt) && asked_too_soon(u, t))
			return;
		map_remove(&u->sched.asked_attempts, t->attempt.id);
		if (t->attempt.upload_id[0] != '\0')
			multipart_made(u, t);
		else
			put_done(u, t, &t->found.object);
	} else if (t->found.says == BUCKET_HOLDS && reading_may_tell(u, t)) {
		same_by_reading(u, t, doubt_judge);
	} else if (fetching_may_tell(t)) {
		same_by_fetching(u, t, doubt_judge);
	} else if (asked_too_soon(u, t)) {
		return;
	} else if (t->attempt.kind == ATTEMPT_MULTIPART) {
		doubt_multipart(u, t);
	} else {
		doubt_not_applied(u, t);
	}
}

/* ---- start -------------------------------------------------------------------------------------- */

bool attempt_find(struct upload *u, uint64_t id, struct store_attempt *ret)
{
	return store_attempts(u->store, id - 1, ret, 1) == 1 && ret->id == id;
}

/* The version that was sent, as far as the attempt tells: the file may have moved on. */
static void version_of_attempt(struct upload *u, const struct store_attempt *a, struct version *v)
{
	if (version_load(u, a->ino, v) < 0)
		*v = (struct version){.ino = a->ino};
	v->generation = a->generation;
	v->size_bytes = a->size_bytes;
	v->has_crc64nvme = a->has_crc64nvme;
	v->crc64nvme = a->crc64nvme;
}

static void doubt_start(struct upload *u, const struct store_attempt *a)
{
	struct task *t = map_get(&u->sched.tasks_of_ino, a->ino);

	if (t && t->attempt.id == a->id)
		return; /* someone works on it again */
	if (map_get(&u->sched.tasks_of_ino, a->ino) || key_is_busy(u, a->key) ||
		task_create(u, TASK_DOUBT, a->ino, &t) < 0) {
		doubt_add(u, a->id, TASK_BUSY_MS);
		return;
	}
	version_of_attempt(u, a, &t->version);
	t->attempt = *a;
	if (task_claim_key(u, t, a->key) < 0) {
		task_destroy(u, t);
		doubt_add(u, a->id, TASK_BUSY_MS);
		return;
	}
	slot_take(u, t);
	if (a->phase == ATTEMPT_STREAMING || a->phase == ATTEMPT_KEPT)
		stream_doubt(u, t);
	else if (a->kind == ATTEMPT_MULTIPART && (a->phase == ATTEMPT_OPEN || a->phase == ATTEMPT_ABORTING))
		doubt_multipart(u, t);
	else
		ask_bucket(u, t, t->key, true, doubt_judge);
}

void doubt_pass(struct upload *u)
{
	struct store_attempt a;
	uint64_t id;

	while (u->sched.slots_used < u->sched.limit.max &&
		waits_pop_due(&u->sched.waiting_attempts, clock_mono_ms(), &id)) {
		if (attempt_find(u, id, &a))
			doubt_start(u, &a);
	}
	if (u->sched.slots_used < u->sched.limit.max)
		wake_by(u, waits_next_ms(&u->sched.waiting_attempts));
}

/* Attempts that nobody works on and that wait for nothing. */
void doubt_round(struct upload *u)
{
	struct store_attempt *window = u->sched.attempts;
	uint64_t after = 0;
	int n;

	while ((n = store_attempts(u->store, after, window, ATTEMPTS_WINDOW)) > 0) {
		for (int i = 0; i < n; i++) {
			struct task *t = map_get(&u->sched.tasks_of_ino, window[i].ino);
			bool is_worked_on = t && (t->attempt.id == window[i].id ||
							 t->standing_id == window[i].id);

			if (!is_worked_on && !waits_has(&u->sched.waiting_attempts, window[i].id))
				doubt_add(u, window[i].id, 0);
		}
		after = window[n - 1].id;
	}
}

/* ---- after a restart ---------------------------------------------------------------------------- */

static int recover_attempts(struct upload *u, struct map *inos)
{
	struct store_attempt *window = u->sched.attempts;
	uint64_t after = 0;
	int n;

	while ((n = store_attempts(u->store, after, window, ATTEMPTS_WINDOW)) > 0) {
		for (int i = 0; i < n; i++) {
			int r = map_put(inos, window[i].ino, u);

			if (r == 0)
				r = waits_add(&u->sched.waiting_attempts, window[i].id, 0);
			if (r < 0)
				return r;
		}
		after = window[n - 1].id;
	}
	return n;
}

/* In flight by its state, but no attempt stands: queued again. */
static int recover_state(struct upload *u, const struct map *inos, enum file_state state)
{
	struct store_queue_item items[128], last, *from = NULL;
	int n;

	while ((n = store_queue(u->store, state, from, items, array_len(items))) > 0) {
		for (int i = 0; i < n; i++) {
			struct version v;

			if (map_get(inos, items[i].ino) ||
				version_load(u, items[i].ino, &v) < 0 || v.state != state)
				continue;
			state_set(u, &v, &(struct state_change){.to = FILE_QUEUED});
		}
		last = items[n - 1];
		from = &last;
	}
	return n;
}

/* What is open takes no more parts and is not completed: S3 gave it its ACL when it was begun. (What was
 * completed already is found by its object when the upload turns out to be gone.) */
static int abort_open_uploads(struct upload *u)
{
	struct store_attempt *window = u->sched.attempts;
	uint64_t after = 0;
	int n;

	while ((n = store_attempts(u->store, after, window, ATTEMPTS_WINDOW)) > 0) {
		for (int i = 0; i < n; i++) {
			int r = 0;

			if (window[i].upload_id[0]) {
				window[i].phase = ATTEMPT_ABORTING;
				r = store_attempt_update(u->store, &window[i]);
			}
			if (r < 0)
				return r;
		}
		after = window[n - 1].id;
	}
	return n;
}

/* Was this cache mounted with another --acl before, or with one that nobody noted? */
static int recover_acl(struct upload *u)
{
	static const char name[] = "upload-acl";
	const char *now = u->acl ? u->acl : "";
	char before[128];
	int r = store_setting_get(u->store, name, before, sizeof(before));

	if (r < 0 && r != -ENOENT && r != -ERANGE)
		return r;
	if (r == 0 && strcmp(before, now) == 0)
		return 0;
	r = abort_open_uploads(u);
	return r < 0 ? r : store_setting_set(u->store, name, now);
}

int doubt_recover(struct upload *u)
{
	struct map inos = {0};
	int r = recover_acl(u);

	if (r == 0)
		r = recover_attempts(u, &inos);

	if (r == 0)
		r = recover_state(u, &inos, FILE_SENDING);
	if (r == 0)
		r = recover_state(u, &inos, FILE_UNKNOWN);
	map_release(&inos);
	return r;
}
