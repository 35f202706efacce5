/*
 * upload_delete - DELETING records whose time has come: files unlinked here, and strays (objects
 * of ours that no file stands for any more).
 *
 * Only the object that was recorded is deleted: If-Match where the server honours it for DELETE,
 * else the key is asked for right before. What someone else has put there meanwhile stays, and the
 * record goes. A key that a live file has again is left to that file's write, which replaces it.
 */
#include "upload_private.h"

#include <inttypes.h>

#define DELETE_WINDOW 64
#define CLAIMED_MS 200
#define FOLDERS_PAGE 16
#define LEFT_TO_NEWCOMER_MS 10000
#define READ_AGAIN_MS 1000
/* So many that wait for a newcomer are not all passed by whenever something else has ended. */
#define LEFT_MANY 256
#define LEFT_WALK_MS 100
#define DENIED_AGAIN_MS (10 * 60 * MS_PER_S)

/* ---- undelete and DELETE exclude each other ------------------------------------------------------ */

static bool claim_delete(struct upload *u, uint64_t ino)
{
	with_lock(&u->lock);
	for (unsigned i = 0; i < u->synced.deleting_count; i++) {
		if (u->synced.deleting_ino[i] == ino)
			return false;
	}
	if (u->synced.deleting_count >= DELETES_MAX)
		return false;
	u->synced.deleting_ino[u->synced.deleting_count++] = ino;
	return true;
}

/* The next one begins when one of them ends. */
static bool deletes_are_full(struct upload *u)
{
	with_lock(&u->lock);
	return u->synced.deleting_count >= DELETES_MAX;
}

void delete_release(struct upload *u, uint64_t ino)
{
	with_lock(&u->lock);
	for (unsigned i = 0; i < u->synced.deleting_count; i++) {
		if (u->synced.deleting_ino[i] != ino)
			continue;
		u->synced.deleting_ino[i] = u->synced.deleting_ino[--u->synced.deleting_count];
		return;
	}
}

/* It may have come back meanwhile, and even have another object by now. */
static bool stands_for_object(struct upload *u, const struct task *t)
{
	struct store_inode now;

	return store_inode(u->store, t->version.ino, &now) == 0 && now.attr.state == FILE_DELETING &&
	       strcmp(now.object.key, t->key) == 0;
}

/* Before the attempt ends: a record that stands without one says that its object is there, to whoever
 * undeletes it. */
static void delete_forget(struct upload *u, struct task *t)
{
	int r = stands_for_object(u, t) ? store_forget(u->store, t->version.ino) : 0;

	if (r < 0 && r != -ENOENT) {
		pause_note_store(u, r);
		if (t->attempt.id != 0)
			doubt_add(u, t->attempt.id, READ_AGAIN_MS);
	} else if (t->attempt.id != 0) {
		(void)task_attempt_end(u, t, FILE_NONE, NULL, false, NULL);
	}
	task_destroy(u, t);
}

void delete_gone(struct upload *u, struct task *t)
{
	if (u->remote)
		remote_note_delete(u->remote, t->key);
	delete_forget(u, t);
}

/* ---- the request -------------------------------------------------------------------------------- */

static void delete_foreign(struct upload *u, struct task *t)
{
	if (found_is_recorded(u, t))
		log_debug("%s: another file of ours is there by now", t->key);
	else
		log_info("%s: changed by someone else before it was deleted: it stays in the bucket",
			t->key);
	delete_forget(u, t);
}

static void delete_doubted(struct upload *u, struct task *t)
{
	struct s3_reply again = {.class = S3_RETRY};

	if (t->found.says == BUCKET_ABSENT)
		delete_gone(u, t);
	else if (strcmp(t->found.object.etag, t->object.etag) != 0)
		delete_foreign(u, t);
	else
		task_transient(u, t, &again);
}

static void delete_failed(struct upload *u, struct task *t, const struct s3_reply *reply)
{
	char reason[REASON_MAX];

	if (reply->class != S3_DENIED && reply->class != S3_FATAL) {
		task_transient(u, t, reply);
		return;
	}
	reason_of_reply(reply, u->acl, reason);
	log_warn("%s: cannot be deleted: %s; it is tried again in 10 min", t->key, reason);
	state_set(u, &t->version,
		&(struct state_change){.to = FILE_DELETING,
			.reason = reason,
			.due_at_ns = clock_wall_ns() + DENIED_AGAIN_MS * 1000000,
			.count_attempt = true});
	task_destroy(u, t);
}

/* "Done" counts as S3's word only with a request id (upload_ask.c). */
static void delete_answered(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;
	enum applied applied = reply_applied(reply);

	if (applied == APPLIED_PERHAPS) {
		task_transient(u, t, reply); /* the attempt stays: the bucket is asked */
	} else if (applied == APPLIED_YES && reply->request_id[0] != '\0') {
		delete_gone(u, t);
	} else if (applied == APPLIED_YES || reply->class == S3_NOT_FOUND ||
		   reply->http_status == 412) {
		ask_bucket(u, t, t->key, true, delete_doubted); /* gone, or another one? */
	} else {
		if (!task_attempt_end(u, t, FILE_NONE, NULL, false, NULL))
			t->attempt.id = 0;
		delete_failed(u, t, reply);
	}
}

static void delete_send(struct upload *u, struct task *t)
{
	struct s3_request req = {.op = S3_DELETE,
		.key = t->key,
		.if_match = s3_enforces(u->s3, S3_DELETE, S3_IF_MATCH) ? t->object.etag : NULL};
	int r;

	check(prefix_side_of(u->prefix, t->key) == PREFIX_INSIDE);
	r = request_send(u, t, &req, NULL, 0, delete_answered);
	if (r < 0)
		put_unsent(u, t, r);
}

static void delete_asked(struct upload *u, struct task *t)
{
	if (t->found.says == BUCKET_ABSENT)
		delete_gone(u, t);
	else if (strcmp(t->found.object.etag, t->object.etag) != 0)
		delete_foreign(u, t);
	else
		delete_send(u, t);
}

/* A power cut takes neither that it was deleted here nor that it may be there: or else undelete would find
 * an object that is gone. */
static void delete_synced(struct upload *u, struct task *t)
{
	if (t->sync_error < 0)
		put_unsent(u, t, t->sync_error);
	else if (s3_enforces(u->s3, S3_DELETE, S3_IF_MATCH))
		delete_send(u, t);
	else
		ask_bucket(u, t, t->key, false, delete_asked);
}

static void delete_begin(struct upload *u, struct task *t)
{
	int r = task_attempt_begin(u, t, ATTEMPT_DELETE, FILE_NONE, t->object.etag);

	if (r < 0)
		put_unsent(u, t, r);
	else
		sync_then(u, t, false, delete_synced);
}

/* ---- start -------------------------------------------------------------------------------------- */

static bool live_object_at(const struct store_inode *other, const struct store_inode *gone)
{
	return other->attr.ino != gone->attr.ino && other->attr.state != FILE_DELETING &&
	       other->attr.state != FILE_NONE && other->object.etag[0] != '\0';
}

/* A file here has this key again. Once its write has replaced the object, the record is done. */
static bool was_replaced(struct upload *u, const struct store_inode *gone)
{
	struct store_inode *others = u->sched.owners;
	int n = store_inodes_of_key(u->store, gone->object.key, others, OWNERS_MAX);

	for (int i = 0; i < n; i++) {
		if (live_object_at(&others[i], gone))
			return true;
	}
	return false;
}

static bool is_to_be_sent(const struct store_attr *attr)
{
	return attr->type == STORE_FILE && attr->state != FILE_NONE &&
	       attr->state != FILE_UPLOADED && attr->state != FILE_VERIFIED &&
	       attr->state != FILE_MOVING && attr->state != FILE_HELD && attr->state != FILE_GONE;
}

static bool newcomer_below(
	struct upload *u, uint64_t dir_ino, const char *key_rest, unsigned depth);

/* Folders of other names that are cleaned to this one. */
static bool newcomer_in_cleaned(
	struct upload *u, uint64_t dir_ino, const char *name, const char *key_rest, unsigned depth)
{
	struct store_entry page[FOLDERS_PAGE];
	char after[STORE_NAME_MAX + 1] = "", cleaned[STORE_NAME_MAX + 1];
	int n;

	while ((n = store_readdir_folders(u->store, dir_ino, after, page, FOLDERS_PAGE)) > 0) {
		for (int i = 0; i < n; i++) {
			if (strcmp(page[i].name, name) != 0 &&
				name_clean(&u->naming, page[i].name, cleaned, sizeof(cleaned)) ==
					0 &&
				strcmp(cleaned, name) == 0 &&
				newcomer_below(u, page[i].attr.ino, key_rest, depth + 1))
				return true;
		}
		memcpy(after, page[n - 1].name, sizeof(after));
	}
	return n < 0; /* not known: it is looked at again */
}

static bool newcomer_below(struct upload *u, uint64_t dir_ino, const char *key_rest, unsigned depth)
{
	size_t len = strcspn(key_rest, "/");
	bool is_file = key_rest[len] == '\0';
	char name[STORE_NAME_MAX + 1];
	struct store_attr attr;

	if (len >= sizeof(name))
		return false;
	memcpy(name, key_rest, len);
	name[len] = '\0';
	if (store_lookup(u->store, dir_ino, name, &attr) == 0 &&
		(is_file ? is_to_be_sent(&attr)
			 : newcomer_below(u, attr.ino, key_rest + len + 1, depth + 1)))
		return true;
	return !is_file && u->naming.mode == NAMING_CLEAN && depth <= NAMING_STRICT_DEPTH &&
	       newcomer_in_cleaned(u, dir_ino, name, key_rest + len + 1, depth);
}

/* A file here stands for this key again: its write replaces the object, which until then may be
 * the last good version of it. */
static bool newcomer_comes(struct upload *u, const char *key)
{
	return newcomer_below(u, STORE_ROOT_INO, key, 1);
}

/* Something was sent for this file whose outcome is not known: there may be an object yet. */
bool attempts_of_inode(struct upload *u, uint64_t ino, uint64_t but_id)
{
	struct store_attempt *window = u->sched.attempts;
	uint64_t after = 0;
	int n;

	while ((n = store_attempts(u->store, after, window, ATTEMPTS_WINDOW)) > 0) {
		for (int i = 0; i < n; i++) {
			if (window[i].ino == ino && window[i].id != but_id)
				return true;
		}
		after = window[n - 1].id;
	}
	return n < 0;
}

static bool is_ours_to_delete(const struct upload *u, const struct store_inode *inode)
{
	return !(inode->attr.flags & STORE_FLAG_FOREIGN) || u->allow_delete;
}

/* Until it was claimed it might be taken back, and even be deleted again. */
static bool is_still_to_be_deleted(struct upload *u, const struct store_inode *inode)
{
	struct store_inode now;

	return store_inode(u->store, inode->attr.ino, &now) == 0 && now.attr.state == FILE_DELETING &&
	       now.due_at_ns == inode->due_at_ns &&
	       now.attr.generation == inode->attr.generation &&
	       strcmp(now.object.key, inode->object.key) == 0 &&
	       strcmp(now.object.etag, inode->object.etag) == 0;
}

static void delete_task(struct upload *u, const struct store_inode *inode)
{
	struct task *t;

	if (task_create(u, TASK_DELETE, inode->attr.ino, &t) < 0)
		return;
	t->claims_delete = claim_delete(u, inode->attr.ino);
	if (!t->claims_delete) { /* it is just being taken back, or many are under way */
		task_retry_in(u, t, CLAIMED_MS);
		return;
	}
	version_of_inode(u, inode, &t->version);
	t->object = inode->object;
	if (!is_still_to_be_deleted(u, inode) || task_claim_key(u, t, inode->object.key) < 0) {
		task_destroy(u, t);
		return;
	}
	slot_take(u, t);
	delete_begin(u, t);
}

/* However many they are: nobody else has to wait for it (WAITS_MAX). */
static void left_to_newcomer(struct upload *u, uint64_t ino)
{
	int64_t at_ms = clock_mono_ms() + LEFT_TO_NEWCOMER_MS;

	if (waits_add(&u->sched.waiting_deletes, ino, at_ms) < 0)
		log_debug("out of memory: inode %" PRIu64 " is looked at again soon", ino);
}

static void forget_now(struct upload *u, uint64_t ino)
{
	int r = store_forget(u->store, ino);

	if (r < 0 && r != -ENOENT)
		pause_note_store(u, r);
}

/* What stands in the way of a delete ends with a task, and then this is looked at again; only a
 * newcomer may take its time. */
static void delete_start(struct upload *u, uint64_t ino)
{
	struct store_inode inode;

	if (store_inode(u->store, ino, &inode) < 0 || inode.attr.state != FILE_DELETING)
		return;
	if (inode.object.etag[0] == '\0') {
		if (!attempts_of_inode(u, ino, 0))
			forget_now(u, ino);
	} else if (!is_ours_to_delete(u, &inode) || was_replaced(u, &inode)) {
		forget_now(u, ino);
	} else if (prefix_side_of(u->prefix, inode.object.key) != PREFIX_INSIDE) {
		log_error("%s: outside the mounted prefix: not deleted", inode.object.key);
		forget_now(u, ino);
	} else if (newcomer_comes(u, inode.object.key)) {
		left_to_newcomer(u, ino);
	} else if (!key_is_busy(u, inode.object.key) && !attempts_stand(u, inode.object.key)) {
		delete_task(u, &inode);
	}
}

/* Nothing stands in the way of forgetting what was replaced; that is due anew since then, so that
 * all those that wait need not be read. */
static bool delete_waits(struct upload *u, const struct store_queue_item *item, int64_t looked_ns)
{
	struct store_inode inode;

	if (!waits_has(&u->sched.waiting_inos, item->ino) &&
		!waits_has(&u->sched.waiting_deletes, item->ino))
		return false;
	return (int64_t)item->order <= looked_ns || store_inode(u->store, item->ino, &inode) < 0 ||
	       inode.object.etag[0] != '\0';
}

void delete_pass(struct upload *u)
{
	struct store_queue_item items[DELETE_WINDOW], last, *after = NULL;
	int64_t wall_ns = clock_wall_ns(), looked_ns = u->sched.deleting_looked_ns;
	int n;

	if (u->sched.waiting_deletes.count >= LEFT_MANY &&
		clock_mono_ms() < u->sched.deleting_walked_ms + LEFT_WALK_MS) {
		u->sched.deleting_next_ms = u->sched.deleting_walked_ms + LEFT_WALK_MS;
		return;
	}
	u->sched.deleting_walked_ms = clock_mono_ms();
	u->sched.deleting_next_ms = INT64_MAX;
	while ((n = store_queue(u->store, FILE_DELETING, after, items, array_len(items))) > 0) {
		for (int i = 0; i < n; i++) {
			if ((int64_t)items[i].order > wall_ns) {
				u->sched.deleting_next_ms =
					clock_mono_ms() +
					((int64_t)items[i].order - wall_ns) / 1000000 + 1;
				return;
			}
			if (!slot_free(u) || deletes_are_full(u))
				return;
			if (!map_get(&u->sched.tasks_of_ino, items[i].ino) &&
				!delete_waits(u, &items[i], looked_ns))
				delete_start(u, items[i].ino);
			if ((int64_t)items[i].order > looked_ns)
				u->sched.deleting_looked_ns = (int64_t)items[i].order;
		}
		last = items[n - 1];
		after = &last;
	}
	if (n < 0)
		u->sched.deleting_next_ms = clock_mono_ms() + READ_AGAIN_MS;
}
