/*
 * upload_commands - what a person may order for a path and everything below: retry, accept,
 * discard, undelete, hurry; pause and resume.
 *
 * They run in the caller's thread, in batches, and change states like everything else: a file that
 * has moved on meanwhile is passed by. Each returns how many files it touched.
 */
#include "upload_private.h"

#include <inttypes.h>

#define BATCH 256

/* 1: touched, 0: not for this command, -ESTALE: it has moved on meanwhile, or -errno. */
typedef int command_fn(struct upload *u, const struct store_inode *inode);

struct order {
	command_fn *command;
	upload_refused_fn *refused; /* or NULL */
	void *user;
};

static int apply_one(struct upload *u, uint64_t ino, command_fn *command)
{
	struct store_inode inode;
	int r = store_inode(u->store, ino, &inode);

	if (r == 0)
		r = command(u, &inode);
	return r == -ENOENT ? 0 : r;
}

static const char *why_left(int error)
{
	switch (error) {
	case -ETXTBSY:
		return "a program still writes into it";
	case -ESTALE:
		return "it has changed meanwhile: try again";
	case -EUCLEAN:
		return "its record is damaged: unmount, then run `cpgfs repair`";
	case -EOPNOTSUPP:
		return "its bytes are gone: copy it again, or `cpgfs discard` it";
	case -EPERM:
		return "it cannot be sent: see its reason, then `cpgfs retry`";
	default:
		return strerror(-error);
	}
}

static void tell(const struct order *o, const char *path, int error)
{
	cleanup_buf struct buf shown = {0};

	if (!o->refused)
		return;
	text_escape(&shown, path);
	log_info("left as it is: %s: %s", buf_text(&shown), why_left(error));
	o->refused(o->user, path, why_left(error));
}

static void tell_left(struct upload *u, const struct order *o, uint64_t ino, int error)
{
	cleanup_buf struct buf path = {0};
	int r = store_path(u->store, ino, &path);

	if (r != -ENOENT)
		tell(o, r == 0 ? buf_text(&path) : "a file", error);
}

static void tell_damaged(struct upload *u, const struct order *o, const struct store_walk *walk)
{
	cleanup_buf struct buf path = {0};
	int r = store_walk_path(u->store, walk, &path);

	tell(o, r == 0 ? buf_text(&path) : "a file", -EUCLEAN);
}

/* What ends the whole of it, not only for one file. */
static bool ends_all(int error)
{
	return error < 0 && error != -ETXTBSY && error != -ESTALE && error != -EOPNOTSUPP &&
	       error != -EPERM;
}

static int64_t apply_below(struct upload *u, uint64_t dir_ino, const struct order *o)
{
	struct store_walk walk = {0};
	uint64_t inos[BATCH];
	int64_t touched = 0, left = 0;
	int n;

	while ((n = store_walk_next(u->store, dir_ino, &walk, inos, array_len(inos))) > 0 ||
		walk.passed_damage) {
		if (n < 0) {
			tell_damaged(u, o, &walk);
			left = n; /* the others go on */
		}
		for (int i = 0; i < n; i++) {
			int r = apply_one(u, inos[i], o->command);

			if (ends_all(r))
				return r;
			if (r < 0)
				tell_left(u, o, inos[i], r);
			if (r == -ETXTBSY)
				left = r;
			touched += r > 0 ? r : 0;
		}
	}
	if (n < 0)
		return n;
	return touched || o->refused ? touched : left;
}

static int64_t apply(struct upload *u, const char *path, const struct order *o)
{
	struct store_attr attr;
	int r = store_resolve(u->store, path, &attr);

	if (r < 0)
		return r;
	if (attr.type == STORE_DIR)
		return apply_below(u, attr.ino, o);
	r = apply_one(u, attr.ino, o->command);
	return r == -ESTALE || r == -EOPNOTSUPP || r == -EPERM ? 0 : r;
}

/* 1, or why not. */
static int command_state_flags(
	struct upload *u, const struct store_inode *inode, enum file_state to, uint32_t flags)
{
	struct version v = {.ino = inode->attr.ino,
		.generation = inode->attr.generation,
		.state = inode->attr.state};
	struct store_transition t = {.ino = v.ino,
		.generation = v.generation,
		.from = v.state,
		.to = to,
		.reason = "",
		.flags = flags};
	int r;

	if (!file_state_may_follow(v.state, to))
		return 0;
	r = store_state_set(u->store, &t);
	return r < 0 ? r : 1;
}

static int command_state(struct upload *u, const struct store_inode *inode, enum file_state to)
{
	return command_state_flags(u, inode, to, 0);
}

static void nudge(struct upload *u, bool retry)
{
	with_lock(&u->lock);
	u->synced.retry_wanted = u->synced.retry_wanted || retry;
	u->synced.looks |= UINT64_C(1) << FILE_CLOSED | UINT64_C(1) << FILE_QUEUED |
			   UINT64_C(1) << FILE_DELETING | UINT64_C(1) << FILE_MOVING;
	cond_signal(&u->wake);
}

/* ---- pause, resume ------------------------------------------------------------------------------ */

static void pause_set(struct upload *u, bool paused)
{
	lock_take(&u->lock);
	u->synced.paused_by_hand = paused;
	lock_drop(&u->lock);
	nudge(u, false);
}

void upload_pause(struct upload *u)
{
	pause_set(u, true);
}

void upload_resume(struct upload *u)
{
	pause_set(u, false);
}

/* What a conflict goes on as: nothing may be concluded from the recorded object, which is in
 * question. Bytes that are only in the bucket (under an older name) go the way of a rename. */
static int resolve_conflict(struct upload *u, const struct store_inode *inode, uint32_t flags)
{
	struct version v = {.ino = inode->attr.ino, .generation = inode->attr.generation};
	int here = version_is_here(u, &v);

	if (here < 0)
		return here;
	return command_state_flags(u, inode, here ? FILE_QUEUED : FILE_CLOSED, flags);
}

/* ---- retry -------------------------------------------------------------------------------------- */

/* Settled anew: the name is judged, the bytes are read, the bucket is asked. */
static int command_retry(struct upload *u, const struct store_inode *inode)
{
	if (inode->attr.state == FILE_CONFLICT)
		return resolve_conflict(u, inode, 0);
	if (inode->attr.state != FILE_FAILED)
		return 0;
	if (inode->object.etag[0] != '\0' &&
		inode->object.generation == inode->attr.generation)
		return command_state(u, inode, FILE_MOVING);
	return command_state(u, inode, FILE_CLOSED);
}

int64_t upload_retry(struct upload *u, const char *path)
{
	int64_t n = apply(u, path, &(struct order){.command = command_retry});

	nudge(u, true);
	return n;
}

/* ---- accept ------------------------------------------------------------------------------------- */

static int command_accept(struct upload *u, const struct store_inode *inode)
{
	if (inode->attr.state == FILE_CONFLICT)
		return resolve_conflict(u, inode, STORE_FLAG_REPLACES);
	if (inode->attr.state == FILE_LOST)
		return -EOPNOTSUPP; /* there is nothing to accept */
	if (inode->attr.state == FILE_FAILED)
		return -EPERM; /* accepting is not what it lacks */
	if (inode->attr.state != FILE_INCOMPLETE && inode->attr.state != FILE_TORN)
		return 0;
	return command_state_flags(u, inode, FILE_SETTLED, STORE_FLAG_ACCEPTED);
}

int64_t upload_accept_all(
	struct upload *u, const char *path, upload_refused_fn *refused, void *user)
{
	struct order o = {.command = command_accept, .refused = refused, .user = user};
	int64_t n = apply(u, path, &o);

	nudge(u, false);
	return n;
}

int64_t upload_accept(struct upload *u, const char *path)
{
	return upload_accept_all(u, path, NULL, NULL);
}

/* ---- discard ------------------------------------------------------------------------------------ */

static bool may_discard(enum file_state s)
{
	return s == FILE_CONFLICT || s == FILE_INCOMPLETE || s == FILE_TORN || s == FILE_LOST ||
	       s == FILE_FAILED || s == FILE_HELD;
}

static int command_discard(struct upload *u, const struct store_inode *inode)
{
	cleanup_buf struct buf path = {0}, shown = {0};
	int r;

	if (!may_discard(inode->attr.state))
		return 0;
	r = store_path(u->store, inode->attr.ino, &path);
	if (r == 0)
		r = store_discard(u->store, inode->attr.ino, inode->attr.generation,
			inode->attr.state);
	if (r < 0)
		return r;
	text_escape(&shown, buf_text(&path));
	log_warn("discarded by command: %s (%s, %" PRIu64 " bytes)", buf_text(&shown),
		file_state_text(inode->attr.state), inode->attr.size_bytes);
	return 1;
}

/* A walk must not lose its place under its feet: what is to go is collected folder-wise first. */
int64_t upload_discard_all(
	struct upload *u, const char *path, upload_refused_fn *refused, void *user)
{
	struct order o = {.command = command_discard, .refused = refused, .user = user};

	return path[0] == '\0' ? -EINVAL : apply(u, path, &o);
}

int64_t upload_discard(struct upload *u, const char *path)
{
	return upload_discard_all(u, path, NULL, NULL);
}

/* ---- undelete ----------------------------------------------------------------------------------- */

static bool is_at_or_below(const char *path, const char *top)
{
	size_t len = strlen(top);

	return len == 0 ||
	       (strncmp(path, top, len) == 0 && (path[len] == '\0' || path[len] == '/'));
}

/* Not while its DELETE is on its way: then it is too late. */
static int undelete_claim(struct upload *u, uint64_t ino)
{
	with_lock(&u->lock);
	for (unsigned i = 0; i < u->synced.deleting_count; i++) {
		if (u->synced.deleting_ino[i] == ino)
			return -EALREADY;
	}
	if (u->synced.deleting_count == array_len(u->synced.deleting_ino))
		return -EAGAIN;
	u->synced.deleting_ino[u->synced.deleting_count++] = ino;
	return 0;
}

static void undelete_release(struct upload *u, uint64_t ino)
{
	with_lock(&u->lock);
	for (unsigned i = 0; i < u->synced.deleting_count; i++) {
		if (u->synced.deleting_ino[i] == ino) {
			u->synced.deleting_ino[i] =
				u->synced.deleting_ino[--u->synced.deleting_count];
			return;
		}
	}
}

static const char *why_not_undeleted(int error)
{
	switch (error) {
	case -EBUSY:
		return "whether the bucket still has it is not known yet: try again in a moment";
	case -ENODATA:
		return "its bytes were only in the bucket, and are replaced there";
	case -EEXIST:
		return "another file has its name";
	case -EALREADY:
		return "its deletion is on its way to the bucket";
	case -EAGAIN:
		return "other commands take deletes back just now: try again in a moment";
	default:
		return strerror(-error);
	}
}

/* A file of a person, or an object from elsewhere that one removed; not an object that nothing here stands
 * for any more. */
static bool was_removed(const struct store_inode *inode)
{
	return inode->attr.flags & STORE_FLAG_ELSEWHERE ? inode->object.key[0] != '\0'
							: inode->attr.mode != 0;
}

/* What was never ours just stays, unless it may be gone already. */
static int undelete(struct upload *u, const struct store_inode *inode)
{
	struct store_attempt attempt;
	struct key_now now;
	int n;

	if (!(inode->attr.flags & STORE_FLAG_ELSEWHERE)) {
		n = key_of_inode(u, inode->attr.ino, &now);
		if (n < 0 && n != -EACCES)
			return n;
		return store_undelete(u->store, inode->attr.ino,
			n == 0 && now.held == HELD_NOT ? now.key : ""); /* no key: its name is judged again */
	}
	n = store_attempts_of_key(u->store, inode->object.key, &attempt, 1);
	if (n != 0)
		return n < 0 ? n : -EBUSY;
	return store_forget(u->store, inode->attr.ino);
}

static int undelete_one(struct upload *u, uint64_t ino, const char *top,
	upload_refused_fn *refused, void *user)
{
	cleanup_buf struct buf path = {0}, shown = {0};
	struct store_inode inode;
	int r = store_path(u->store, ino, &path);

	if (r == 0)
		r = buf_error(&path) < 0 ? -ENOMEM : store_inode(u->store, ino, &inode);
	if (r == -ENOENT || (r == 0 && !was_removed(&inode)))
		return 0;
	if (r != 0)
		return r;
	if (!is_at_or_below(buf_text(&path), top))
		return 0;
	r = undelete_claim(u, ino);
	if (r == 0) {
		r = undelete(u, &inode);
		undelete_release(u, ino);
	}
	if (r == 0)
		return 1;
	if (r == -EINVAL)
		return 0; /* done meanwhile, one way or the other */
	text_escape(&shown, buf_text(&path));
	log_warn("%s cannot be undeleted: %s", buf_text(&shown), why_not_undeleted(r));
	if (refused)
		refused(user, buf_text(&path), why_not_undeleted(r));
	return 0;
}

int64_t upload_undelete(
	struct upload *u, const char *path, upload_refused_fn *refused, void *user)
{
	struct store_queue_item items[BATCH], last, *after = NULL;
	int64_t touched = 0;
	int n;

	while ((n = store_queue(u->store, FILE_DELETING, after, items, array_len(items))) > 0) {
		for (int i = 0; i < n; i++) {
			int r = undelete_one(u, items[i].ino, path, refused, user);

			if (r < 0)
				return r;
			touched += r;
		}
		last = items[n - 1];
		after = &last;
	}
	if (n == 0 && touched) /* a power cut would have it deleted after all */
		n = store_sync_to(u->store, store_mark(u->store));
	nudge(u, false);
	return n < 0 ? n : touched;
}

/* ---- hurry -------------------------------------------------------------------------------------- */

static int command_hurry(struct upload *u, const struct store_inode *inode)
{
	if (inode->attr.state != FILE_CLOSED || inode->due_at_ns <= clock_wall_ns())
		return 0;
	return command_state(u, inode, FILE_CLOSED);
}

static bool is_below(struct upload *u, uint64_t ino, const char *top)
{
	cleanup_buf struct buf path = {0};

	return *top == '\0' ||
	       (store_path(u->store, ino, &path) == 0 && is_at_or_below(buf_text(&path), top));
}

/* `cpgfs wait` asks for it again and again: what settles is found by its queue, and what is due
 * already needs no hurry, so that a million pending files cost nothing. */
static int64_t hurry_below(struct upload *u, const char *top)
{
	struct store_queue_item items[BATCH], at = {.order = (uint64_t)clock_wall_ns(), .ino = UINT64_MAX};
	int64_t touched = 0;
	int n;

	while ((n = store_queue(u->store, FILE_CLOSED, &at, items, array_len(items))) > 0) {
		at = items[n - 1];
		for (int i = 0; i < n; i++) {
			int r = is_below(u, items[i].ino, top)
					? apply_one(u, items[i].ino, command_hurry)
					: 0;

			if (r < 0 && r != -ESTALE)
				return r;
			touched += r > 0;
		}
	}
	return n < 0 ? n : touched;
}

static int64_t hurry(struct upload *u, const char *path)
{
	cleanup_buf struct buf top = {0};
	struct store_attr attr;
	int r = store_resolve(u->store, path, &attr);

	if (r < 0)
		return r;
	if (attr.type == STORE_FILE) {
		r = apply_one(u, attr.ino, command_hurry);
		return r == -ESTALE ? 0 : r;
	}
	r = store_path(u->store, attr.ino, &top);
	return r < 0 ? r : hurry_below(u, buf_text(&top));
}

int64_t upload_hurry(struct upload *u, const char *path)
{
	int64_t n = hurry(u, path);

	nudge(u, false);
	return n;
}
