/*
 * upload_key - the key an inode has now, and who else stands for it.
 *
 * A key is computed when it is needed, from the path as it is then: renames cost nothing here. One that
 * comes between that and a record that follows from it makes the store refuse the record, and the key
 * is computed again: else a kill right after it could leave a file that is in the bucket under another
 * name for ever.
 */
#include "upload_private.h"

static enum held_kind held_kind_of(enum name_verdict verdict)
{
	switch (verdict) {
	case NAME_OK:
		return HELD_NOT;
	case NAME_TEMPORARY:
		return HELD_TEMPORARY;
	case NAME_JUNK:
		return HELD_JUNK;
	case NAME_REFUSED:
	case NAME_TOO_LONG:
	case NAME_NOT_TEXT:
		break;
	}
	return HELD_NAME;
}

static int key_of_path(struct upload *u, const char *path, struct key_now *ret)
{
	const char *component = path;
	size_t len = strlen(path);
	enum name_verdict verdict = path_judge(&u->naming, path, false, &component, &len);
	int r = 0;

	ret->held = held_kind_of(verdict);
	ret->reason[0] = '\0';
	if (verdict == NAME_OK)
		r = path_to_key(&u->naming, path, false, ret->key);
	if (r < 0) { /* what no rule named: too long, or nothing left after cleaning */
		verdict = r == -ENAMETOOLONG ? NAME_TOO_LONG : NAME_REFUSED;
		ret->held = HELD_NAME;
	}
	if (verdict != NAME_OK)
		name_reason(&u->naming, verdict, component, len, ret->reason, sizeof(ret->reason));
	return 0;
}

int key_of_inode(struct upload *u, uint64_t ino, struct key_now *ret)
{
	cleanup_buf struct buf path = {0};
	int r;

	ret->names = store_names(u->store);
	r = store_path(u->store, ino, &path);
	if (r < 0)
		return r;
	r = buf_error(&path);
	if (r < 0)
		return r;
	r = key_of_path(u, buf_text(&path), ret);
	if (r == 0 && ret->held == HELD_NOT &&
		prefix_side_of(u->prefix, ret->key) != PREFIX_INSIDE)
		return -EACCES;
	return r;
}

bool key_is(struct upload *u, uint64_t ino, const char *key, uint64_t *ret_names)
{
	struct key_now now;
	int r = key_of_inode(u, ino, &now);

	*ret_names = now.names;
	return r == 0 && now.held == HELD_NOT && strcmp(now.key, key) == 0;
}

/* Content only in the bucket under that key, or soon so: it must not be overwritten. What was fetched
 * from there is here only when a power cut cannot take it. */
static bool needs_its_object(struct upload *u, const struct store_inode *other)
{
	enum file_state state = other->attr.state;
	int fd, r;

	if (state == FILE_UPLOADED || state == FILE_VERIFIED || state == FILE_MOVING)
		return true;
	r = store_version_open(u->store, other->attr.ino, other->attr.generation, &fd);
	if (r == 0)
		close(fd);
	if (r == 0 || r == -ESTALE) /* it is being changed: what was fetched for that has to stay, too */
		return store_make_durable(u->store, other->attr.ino) < 0;
	return r == -EREMOTE || is_shortage(r); /* not known: it may be */
}

static bool is_foreign(const struct upload *u, const struct store_inode *inode)
{
	return (inode->attr.flags & STORE_FLAG_FOREIGN) && !u->allow_overwrite;
}

/* The newest object of ours under this key is what the bucket holds, as far as we know. */
static void own_object_note(
	struct task *t, const struct store_inode *inode, int64_t *newest_ns)
{
	const struct store_object *o = &inode->object;

	t->own_deleting = t->own_deleting || (o->etag[0] && inode->attr.state == FILE_DELETING);
	if (o->etag[0] == '\0' || (t->own_known && o->uploaded_at_ns < *newest_ns))
		return;
	*newest_ns = o->uploaded_at_ns;
	t->own_known = true;
	(void)text_copy(t->own_etag, o->etag, sizeof(t->own_etag));
	t->own_same = t->version.has_crc64nvme && o->has_crc64nvme &&
		      o->crc64nvme == t->version.crc64nvme &&
		      o->size_bytes == t->version.size_bytes;
}

static enum key_owner owner_judge(
	struct upload *u, struct task *t, const struct store_inode *other)
{
	uint64_t names;

	if (other->attr.ino == t->version.ino || other->attr.ino == t->without_object ||
		other->attr.state == FILE_DELETING || other->attr.state == FILE_GONE ||
		(other->attr.flags & STORE_FLAG_UNLINKED) || !needs_its_object(u, other))
		return KEY_FREE;
	if (key_is(u, other->attr.ino, t->key, &names))
		return KEY_TAKEN;
	t->blocked_by = other->attr.ino;
	return KEY_WAIT;
}

/* Attempts stand for this key. Only an upload that took parts while this file was written is no
 * obstacle: it is taken over. */
static bool key_is_pending(struct upload *u, struct task *t)
{
	const struct store_attempt *a = u->sched.attempts;
	int n = store_attempts_of_key(u->store, t->key, u->sched.attempts, ATTEMPTS_WINDOW);

	t->standing_id = 0;
	for (int i = 0; i < n; i++) {
		bool takes_parts = a[i].phase == ATTEMPT_STREAMING || a[i].phase == ATTEMPT_KEPT;

		if (!takes_parts || a[i].ino != t->version.ino || a[i].upload_id[0] == '\0' ||
			(t->kind != TASK_PUT && t->kind != TASK_STREAM))
			return true;
		t->standing_id = a[i].id;
	}
	return n < 0;
}

bool attempts_stand(struct upload *u, const char *key)
{
	return store_attempts_of_key(u->store, key, u->sched.attempts, 1) != 0;
}

enum key_owner key_owner_of(struct upload *u, struct task *t)
{
	struct store_inode *owners = u->sched.owners;
	int64_t newest_ns = 0;
	int n;

	if (key_is_pending(u, t))
		return KEY_PENDING;
	n = store_inodes_of_key(u->store, t->key, owners, OWNERS_MAX);
	t->own_known = t->own_same = t->own_deleting = false;
	t->blocked_by = 0;
	if (n < 0)
		return KEY_WAIT; /* not known: someone's only copy may be there */
	for (int i = 0; i < n; i++) {
		enum key_owner o;

		if (is_foreign(u, &owners[i]))
			continue;
		o = owners[i].attr.state == FILE_NONE ? KEY_FREE : owner_judge(u, t, &owners[i]);
		if (o != KEY_FREE)
			return o;
		own_object_note(t, &owners[i], &newest_ns);
	}
	return KEY_FREE;
}

const char key_taken_reason[] = "another file here has the same key: rename one of them";

bool key_is_taken(struct upload *u, const struct version *v, const char *key)
{
	cleanup_free struct task *t = calloc(1, sizeof(*t));

	if (!t)
		return true; /* not known: it may be */
	t->version = *v;
	(void)text_copy(t->key, key, sizeof(t->key));
	return key_owner_of(u, t) == KEY_TAKEN;
}
