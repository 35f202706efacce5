/*
 * store_remove - names and files going away, and coming back.
 *
 * An inode without a name stands in TABLE_GRAVE with the path it had. Its data file is unlinked after
 * the record that gives it up; the grave entry goes last, so a crash in between leaves no orphan.
 */
#include "store_private.h"

#include <inttypes.h>
#include <sys/stat.h>

/* All entries of a table that begin with this number. */
static void op_del_all(struct store *s, enum table t, uint64_t ino)
{
	struct ikey from = ikey_ino(ino);
	cleanup_cursor struct index_cursor c;
	int e = index_seek(&s->index, t, &from, false, &c);
	for (; e == 0 && c.key.len >= 8 && get_be64(c.key.data) == ino; e = index_next(&c)) {
		struct ikey k = { .len = c.key.len };
		memcpy(k.data, c.key.data, c.key.len);
		op_del(s, t, &k);
	}
	if (e < 0 && e != -ENOENT)
		op_fail(s, e); /* else they would be those of the next file of this number */
}

/* A folder's number may come again (it is a hash of its key): nothing may hang on it. */
void op_dir_gone(struct store *s, const struct record *dir)
{
	op_del_all(s, TABLE_XATTR, dir->i.attr.ino);
	op_inode(s, dir, NULL);
}

/* Everything of it but the data file and the grave entry that remembers it. */
void op_purge(struct store *s, const struct record *r)
{
	uint64_t ino = r->i.attr.ino;
	op_del_all(s, TABLE_CHUNK, ino);
	op_del_all(s, TABLE_XATTR, ino);
	struct ikey k = ikey_ino(ino);
	op_del(s, TABLE_UNSYNCED, &k);
	op_put(s, TABLE_GRAVE, &k, "", 0);
	op_inode(s, r, NULL);
}

void purge_now(struct store *s, uint64_t ino)
{
	char path[64];
	data_path(ino, path);
	int e = unlinkat(s->dir_fd, path, 0) < 0 && errno != ENOENT ? -errno : 0;
	struct ikey k = ikey_ino(ino);
	struct record r;
	with_lock(&s->lock);
	if (e < 0) {
		disk_note(s, e, "the bytes of a deleted file stay until the next mount removes them");
		return; /* the grave entry stays */
	}
	if (record_get(s, ino, &r) == 0)
		return; /* from the bucket, and there again */
	op_begin(s);
	op_del(s, TABLE_GRAVE, &k);
	if (op_commit(s) < 0)
		return; /* likewise */
}

static int purges_add(struct store *s, uint64_t ino)
{
	struct purges *p = &s->purges;
	with_lock(&s->lock);
	if (p->count == p->cap) {
		size_t cap = p->cap ? 2 * p->cap : 64;
		uint64_t *inos = reallocarray(p->inos, cap, sizeof(*inos));
		if (!inos)
			return -ENOMEM;
		p->inos = inos;
		p->cap = cap;
	}
	p->inos[p->count++] = ino;
	return 0;
}

/*
 * After a power cut the record may be back, and with it the file: a name that was replaced by a rename
 * must then show what it held before. So the bytes wait for a sync of the journal, in batches, made by
 * the maintenance thread. Numbers that may come again (of things from the bucket) cannot wait.
 */
void purge_data(struct store *s, uint64_t ino)
{
	bool waits = s->maintenance && !(ino & STORE_INO_FROM_BUCKET);
	if (waits && purges_add(s, ino) == 0)
		return;
	if (journal_sync(s, journal_last(s)) == 0)
		purge_now(s, ino); /* else the grave entry stays: the next start does it */
}

bool purges_wait(struct store *s)
{
	with_lock(&s->lock);
	return s->purges.count > 0;
}

static void purges_again(struct store *s, struct purges *late)
{
	for (size_t i = 0; i < late->count; i++)
		if (purges_add(s, late->inos[i]) < 0)
			return; /* their grave entries stay: the next start does it */
}

int purge_waiting(struct store *s)
{
	lock_take(&s->lock);
	struct purges due = s->purges;
	s->purges = (struct purges){ 0 };
	atomic_store(&s->is_purging, due.count > 0);
	uint64_t last = s->journal.next_number - 1;
	lock_drop(&s->lock);
	int r = due.count ? journal_sync(s, last) : 0;
	if (r < 0)
		purges_again(s, &due);
	for (size_t i = 0; r == 0 && i < due.count; i++)
		purge_now(s, due.inos[i]);
	atomic_store(&s->is_purging, false);
	free(due.inos);
	return r;
}

static void op_unname(struct store *s, const struct record *r, const char *path)
{
	struct ikey k = ikey_ino_name(r->i.attr.parent, r->i.name);
	struct ikey grave = ikey_ino(r->i.attr.ino);
	op_del(s, TABLE_DIRENT, &k);
	op_put(s, TABLE_GRAVE, &grave, path, strlen(path));
}

/* Takes the name away inside an operation; *ret_purge: nothing keeps the file, purge its data after. */
int unlink_record(
	struct store *s, struct record *r, int64_t delete_delay_ms, bool *ret_purge)
{
	cleanup_buf struct buf path = { 0 };
	struct record new = *r;
	int e = path_get(s, r->i.attr.ino, &path);
	if (e < 0)
		return e;
	bool in_bucket = r->i.object.key[0] || r->attempts_open;
	bool open = file_find_held(s, r->i.attr.ino) != NULL;
	op_unname(s, r, buf_text(&path));
	former_note(s, r->i.attr.parent, r->i.name);
	new.i.attr.flags |= STORE_FLAG_UNLINKED;
	new.i.attr.ctime_ns = clock_wall_ns();
	if (in_bucket) {
		/* nothing said yet that an open one is whole: its FLUSH may */
		new.i.state_before = r->i.attr.state == FILE_OPEN ? FILE_INCOMPLETE : r->i.attr.state;
		record_enter(&new, FILE_DELETING);
		new.i.due_at_ns = clock_wall_ns() + delete_delay_ms * 1000000;
		new.i.reason[0] = '\0';
	} else {
		new.i.attr.state = FILE_NONE; /* not a state of a file any more */
		new.i.held = HELD_NOT;
	}
	op_inode(s, r, &new);
	if (!in_bucket && !open) {
		op_purge(s, &new);
		*ret_purge = true;
	}
	return 0;
}

static int unlink_locked(struct store *s, uint64_t dir_ino, const char *name, int64_t delay_ms,
	bool *ret_purge, uint64_t *ret_ino)
{
	struct record r = { 0 };
	int e = dirent_get(s, dir_ino, name, ret_ino);
	if (e == 0)
		e = record_get(s, *ret_ino, &r);
	if (e < 0)
		return e;
	if (r.i.attr.type == STORE_DIR)
		return -EISDIR;
	op_begin(s);
	e = unlink_record(s, &r, delay_ms, ret_purge);
	op_touch(s, dir_ino);
	if (e == 0)
		e = op_commit(s);
	*ret_purge = *ret_purge && e == 0;
	return e;
}

int store_unlink(struct store *s, uint64_t dir_ino, const char *name, int64_t delete_delay_ms)
{
	struct news news = { 0 };
	bool purge = false;
	uint64_t ino = 0;
	store_enter(s);
	int r = unlink_locked(s, dir_ino, name, delete_delay_ms, &purge, &ino);
	store_leave(s, &news);
	if (purge) {
		purge_data(s, ino);
		news.room_freed = true;
	}
	if (r == 0)
		space_wake(s);
	news_fire(s, &news);
	return r;
}

int dir_has_entries(struct store *s, uint64_t ino)
{
	struct ikey from = ikey_ino(ino);
	cleanup_cursor struct index_cursor c;
	int r = index_seek(&s->index, TABLE_DIRENT, &from, false, &c);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return c.key.len >= 8 && get_be64(c.key.data) == ino;
}

static int rmdir_locked(struct store *s, uint64_t dir_ino, const char *name)
{
	uint64_t ino = 0;
	struct record r = { 0 };
	int e = dirent_get(s, dir_ino, name, &ino);
	if (e == 0)
		e = record_get(s, ino, &r);
	if (e < 0)
		return e;
	if (r.i.attr.type != STORE_DIR)
		return -ENOTDIR;
	e = dir_has_entries(s, ino);
	if (e)
		return e < 0 ? e : -ENOTEMPTY;
	struct ikey k = ikey_ino_name(dir_ino, name);
	op_begin(s);
	op_del(s, TABLE_DIRENT, &k);
	op_dir_gone(s, &r);
	former_note(s, dir_ino, name);
	op_touch(s, dir_ino);
	return op_commit(s);
}

int store_rmdir(struct store *s, uint64_t dir_ino, const char *name)
{
	struct news news = { 0 };
	store_enter(s);
	int r = rmdir_locked(s, dir_ino, name);
	store_leave(s, &news);
	news_fire(s, &news);
	return r;
}

/* ---- the end of a DELETING file, or its return ------------------------------------------------------------- */

/* version NULL: any, if it is unlinked. */
static int give_up(struct store *s, uint64_t ino, const struct store_attr *version, bool *ret_purge)
{
	struct record r;
	int e = record_get(s, ino, &r);
	if (e < 0)
		return e;
	if (r.i.attr.type != STORE_FILE || (!version && !(r.i.attr.flags & STORE_FLAG_UNLINKED)))
		return -EINVAL;
	if (version &&
		(r.i.attr.generation != version->generation || r.i.attr.state != version->state))
		return -ESTALE;
	bool kept = r.attempts_open || file_find_held(s, ino);
	op_begin(s);
	if (!(r.i.attr.flags & STORE_FLAG_UNLINKED)) {
		struct ikey k = ikey_ino_name(r.i.attr.parent, r.i.name);
		op_del(s, TABLE_DIRENT, &k);
		former_note(s, r.i.attr.parent, r.i.name);
	} else if (r.i.object.key[0]) {
		former_note_key(s, r.i.object.key);
	}
	if (kept) { /* an open handle or an attempt ends it later */
		struct record new = r;
		struct ikey grave = ikey_ino(ino);
		new.i.attr.flags |= STORE_FLAG_UNLINKED;
		new.i.attr.state = FILE_NONE;
		new.i.held = HELD_NOT;
		new.i.object = (struct store_object){ 0 };
		op_put(s, TABLE_GRAVE, &grave, "", 0);
		op_inode(s, &r, &new);
	} else {
		op_purge(s, &r);
	}
	e = op_commit(s);
	*ret_purge = e == 0 && !kept;
	return e;
}

static int give_up_and_tell(struct store *s, uint64_t ino, const struct store_attr *version)
{
	struct news news = { 0 };
	bool purge = false;
	store_enter(s);
	int r = give_up(s, ino, version, &purge);
	store_leave(s, &news);
	if (purge) {
		purge_data(s, ino);
		news.room_freed = true;
	}
	news_fire(s, &news);
	return r;
}

int store_forget(struct store *s, uint64_t ino)
{
	return give_up_and_tell(s, ino, NULL);
}

int store_discard(struct store *s, uint64_t ino, uint64_t generation, enum file_state state)
{
	return give_up_and_tell(
		s, ino, &(struct store_attr){ .generation = generation, .state = state });
}

/* The folder of a path, its missing levels made again. */
static int folder_again(struct store *s, char *path, uint64_t *ret_dir, const char **ret_name)
{
	uint64_t dir = STORE_ROOT_INO;
	for (;;) {
		char *slash = strchr(path, '/');
		if (!slash)
			break;
		*slash = '\0';
		struct store_attr attr;
		int r = store_lookup(s, dir, path, &attr);
		if (r == -ENOENT) {
			struct store_create make = { .parent = dir, .name = path, .type = STORE_DIR,
				.mode = 0755, .uid = getuid(), .gid = getgid() };
			r = store_create(s, &make, &attr);
		}
		if (r < 0)
			return r;
		if (attr.type != STORE_DIR)
			return -ENOTDIR;
		dir = attr.ino;
		path = slash + 1;
	}
	*ret_dir = dir;
	*ret_name = path;
	return 0;
}

/*
 * The version that comes back, and its state. Its object may be gone, or is replaced: then the file is sent
 * again, from what is here. (A GONE one was gone before.)
 */
static int undelete_judge(
	struct store *s, const struct record *old, const char *key, struct record *new)
{
	bool replaced = !old->i.object.key[0];
	enum file_state to = old->i.state_before;
	int doubt = replaced ? 0 : key_is_in_doubt(s, old->i.object.key);
	if (doubt < 0)
		return doubt;
	if (to == FILE_NONE || !file_state_may_follow(FILE_DELETING, to))
		to = FILE_CLOSED;
	if (to == FILE_HELD)
		to = FILE_CLOSED; /* its name is judged again */
	if (key && strcmp(old->i.object.key, key) != 0 && (to == FILE_UPLOADED || to == FILE_VERIFIED))
		to = FILE_MOVING;
	*new = *old;
	if ((replaced || doubt) && to != FILE_GONE) {
		if (old->present_bytes < old->i.attr.size_bytes)
			return doubt ? -EBUSY : -ENODATA;
		new->i.object.generation = 0;
		new->i.object.has_crc64nvme = false;
		if (to == FILE_UPLOADED || to == FILE_VERIFIED || to == FILE_MOVING)
			to = FILE_CLOSED;
	}
	record_enter(new, to);
	new->i.reason[0] = '\0'; /* why it could not be deleted; of a state of before, the state itself tells */
	return 0;
}

static int undelete_locked(
	struct store *s, uint64_t ino, const char *key, uint64_t dir, const char *name)
{
	struct record old;
	uint64_t taken;
	int r = record_get(s, ino, &old);
	if (r < 0)
		return r;
	if (old.i.attr.state != FILE_DELETING || !name[0] || strlen(name) > STORE_NAME_MAX)
		return -EINVAL;
	r = dirent_get(s, dir, name, &taken);
	if (r != -ENOENT)
		return r < 0 ? r : -EEXIST;
	struct record new;
	struct ikey grave = ikey_ino(ino), dirent = ikey_ino_name(dir, name);
	uint8_t value[8];
	r = undelete_judge(s, &old, key, &new);
	if (r < 0)
		return r;
	put_be64(value, ino);
	new.i.attr.flags &= ~STORE_FLAG_UNLINKED;
	new.i.attr.parent = dir;
	new.i.due_at_ns = settle_due_ns(s, &old);
	(void)text_copy(new.i.name, name, sizeof(new.i.name)); /* its length was checked */
	op_begin(s);
	op_del(s, TABLE_GRAVE, &grave);
	op_put(s, TABLE_DIRENT, &dirent, value, sizeof(value));
	op_inode(s, &old, &new);
	atomic_fetch_add(&s->names, 1); /* its folder may be another one than when it went */
	return op_commit(s);
}

int store_undelete(struct store *s, uint64_t ino, const char *key)
{
	struct news news = { 0 };
	struct record r, back;
	cleanup_buf struct buf path = { 0 };
	uint64_t dir = STORE_ROOT_INO;
	const char *name = "";
	lock_take(&s->lock);
	int e = record_get(s, ino, &r);
	if (e == 0 && (r.i.attr.state != FILE_DELETING || !(r.i.attr.flags & STORE_FLAG_UNLINKED)))
		e = -EINVAL;
	if (e == 0 && !r.i.attr.mode)
		e = -EINVAL; /* a stray: no file of ours stood for it */
	if (e == 0)
		e = undelete_judge(s, &r, key, &back); /* before any folder is made for it */
	if (e == 0)
		e = path_get(s, ino, &path);
	lock_drop(&s->lock);
	if (e == 0)
		e = folder_again(s, path.data, &dir, &name);
	if (e < 0)
		return e;
	store_enter(s);
	e = undelete_locked(s, ino, key, dir, name);
	store_leave(s, &news);
	news_fire(s, &news);
	return e;
}
