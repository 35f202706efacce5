/*
 * store_names - the tree of names: look up, list, make, describe.
 */
#include "store_private.h"

#include <fcntl.h>
#include <sys/stat.h>

/* An open file knows its size and time better than its last record. */
void record_overlay(struct store *s, struct record *r)
{
	struct store_file *f = file_find_held(s, r->i.attr.ino);
	bool lent = f && atomic_load(&f->is_lent);
	if (!f || !(lent || atomic_load(&f->is_dirty_hint)))
		return;
	r->i.attr.size_bytes = atomic_load(&f->size_bytes);
	r->i.attr.mtime_ns = atomic_load(&f->mtime_ns);
	if (lent)
		lent_overlay(f, &r->i.attr);
	r->i.chunk_count = chunk_count_of(r->i.part_size_bytes, r->i.attr.size_bytes);
}

static int attr_of(struct store *s, uint64_t ino, struct store_attr *ret)
{
	struct record r;
	int e = record_get(s, ino, &r);
	if (e < 0)
		return e;
	record_overlay(s, &r);
	*ret = r.i.attr;
	return 0;
}

static int require_dir(struct store *s, uint64_t ino)
{
	struct record r;
	int e = record_get(s, ino, &r);
	if (e < 0)
		return e;
	return r.i.attr.type == STORE_DIR ? 0 : -ENOTDIR;
}

/* As dirent_get, but a file instead of a folder is told from a name that is not there. */
static int entry_get(struct store *s, uint64_t dir_ino, const char *name, uint64_t *ret_ino)
{
	int r = dirent_get(s, dir_ino, name, ret_ino);
	if (r != -ENOENT)
		return r;
	r = require_dir(s, dir_ino);
	return r < 0 ? r : -ENOENT;
}

int store_lookup(struct store *s, uint64_t dir_ino, const char *name, struct store_attr *ret)
{
	uint64_t ino;
	with_lock(&s->lock);
	int r = entry_get(s, dir_ino, name, &ino);
	return r < 0 ? r : attr_of(s, ino, ret);
}

int store_attr(struct store *s, uint64_t ino, struct store_attr *ret)
{
	with_lock(&s->lock);
	return attr_of(s, ino, ret);
}

int store_inode(struct store *s, uint64_t ino, struct store_inode *ret)
{
	struct record r;
	with_lock(&s->lock);
	int e = record_get(s, ino, &r);
	if (e < 0)
		return e;
	record_overlay(s, &r);
	*ret = r.i;
	return 0;
}

static int read_entries(struct store *s, enum table t, uint64_t dir_ino, const char *after,
	struct store_entry *out, size_t max)
{
	if (strlen(after) > STORE_NAME_MAX)
		return -ENAMETOOLONG;
	struct ikey from = ikey_ino_name(dir_ino, after);
	with_lock(&s->lock);
	int r = require_dir(s, dir_ino);
	if (r < 0)
		return r;
	cleanup_cursor struct index_cursor c;
	size_t count = 0;
	r = index_seek(&s->index, t, &from, true, &c);
	while (r == 0 && count < max && c.key.len > 8 && c.key.len <= 8 + STORE_NAME_MAX &&
		get_be64(c.key.data) == dir_ino) {
		struct store_entry *e = &out[count];
		memcpy(e->name, (const char *)c.key.data + 8, c.key.len - 8);
		e->name[c.key.len - 8] = '\0';
		r = c.value.len == 8 ? attr_of(s, get_be64(c.value.data), &e->attr) : -EUCLEAN;
		if (r < 0)
			return r == -ENOENT ? -EUCLEAN : r;
		count++;
		r = index_next(&c);
	}
	return r < 0 && r != -ENOENT ? r : (int)count;
}

int store_readdir(struct store *s, uint64_t dir_ino, const char *after, struct store_entry *out,
	size_t max)
{
	return read_entries(s, TABLE_DIRENT, dir_ino, after, out, max);
}

int store_readdir_folders(struct store *s, uint64_t dir_ino, const char *after,
	struct store_entry *out, size_t max)
{
	return read_entries(s, TABLE_FOLDER, dir_ino, after, out, max);
}

int store_path(struct store *s, uint64_t ino, struct buf *out)
{
	with_lock(&s->lock);
	return path_get(s, ino, out);
}

int store_resolve(struct store *s, const char *path, struct store_attr *ret)
{
	cleanup_free char *copy = text_dup(path);
	if (!copy)
		return -ENOMEM;
	with_lock(&s->lock);
	uint64_t ino = STORE_ROOT_INO;
	char *save = NULL;
	for (char *name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
		int r = entry_get(s, ino, name, &ino);
		if (r < 0)
			return r;
	}
	return attr_of(s, ino, ret);
}

/* ---- making ---------------------------------------------------------------------------------------------- */

static bool name_is_valid(const char *name)
{
	return name[0] && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int pick_ino(struct store *s, const struct store_create *what, uint64_t *ret)
{
	struct record other;
	if (!what->ino) {
		*ret = s->next_ino++;
		op_meta_u64(s, "next-ino", s->next_ino);
		return 0;
	}
	*ret = what->ino;
	int r = record_get(s, what->ino, &other);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	*ret = s->next_ino++; /* taken (a folder of that name was here, or an import): any will do */
	op_meta_u64(s, "next-ino", s->next_ino);
	return 0;
}

void op_touch(struct store *s, uint64_t dir_ino)
{
	struct record old;
	if (record_get(s, dir_ino, &old) < 0)
		return;
	struct record new = old;
	new.i.attr.mtime_ns = new.i.attr.ctime_ns = clock_wall_ns();
	op_inode(s, &old, &new);
}

static int create_locked(
	struct store *s, const struct store_create *what, struct store_attr *ret)
{
	uint64_t ino;
	int r = require_dir(s, what->parent);
	if (r < 0)
		return r;
	r = dirent_get(s, what->parent, what->name, &ino);
	if (r != -ENOENT)
		return r < 0 ? r : -EEXIST;
	op_begin(s);
	r = pick_ino(s, what, &ino);
	if (r < 0)
		return r;
	int64_t now = clock_wall_ns(), made_ns = what->shown_ns ? what->shown_ns : now;
	struct record new = { .since_ns = now };
	bool is_dir = what->type == STORE_DIR;
	new.i.attr = (struct store_attr){ .ino = ino, .parent = what->parent, .type = what->type,
		.mode = (what->mode & 07777) | (is_dir ? S_IFDIR : S_IFREG), .uid = what->uid,
		.gid = what->gid, .mtime_ns = made_ns, .ctime_ns = made_ns, .atime_ns = made_ns,
		.generation = 1, .state = is_dir ? FILE_NONE : FILE_OPEN, .flags = what->flags };
	(void)text_copy(new.i.name, what->name, sizeof(new.i.name)); /* its length was checked */
	new.i.part_size_bytes = is_dir ? 0 : s->part_size_bytes;
	struct ikey k = ikey_ino_name(what->parent, what->name);
	uint8_t value[8];
	put_be64(value, ino);
	op_inode(s, NULL, &new);
	op_put(s, TABLE_DIRENT, &k, value, sizeof(value));
	if (!is_dir)
		op_unsynced(s, ino);
	if (!what->shown_ns)
		op_touch(s, what->parent);
	r = op_commit(s);
	if (r == 0)
		*ret = new.i.attr;
	return r;
}

int store_create(struct store *s, const struct store_create *what, struct store_attr *ret)
{
	struct news news = { 0 };
	if (!name_is_valid(what->name))
		return -EINVAL;
	if (strlen(what->name) > STORE_NAME_MAX)
		return -ENAMETOOLONG;
	store_enter(s);
	int r = create_locked(s, what, ret);
	store_leave(s, &news);
	news_fire(s, &news);
	return r;
}

/* ---- objects from elsewhere -------------------------------------------------------------------------------- */

static void import_chunks(struct store *s, const struct record *r, const struct record *old)
{
	struct chunk_record absent = { .absent = true }, none = { 0 };
	uint64_t had = old ? old->i.chunk_count : 0;
	for (uint64_t n = 0; n < r->i.chunk_count; n++)
		op_chunk(s, r->i.attr.ino, n, &absent);
	for (uint64_t n = r->i.chunk_count; n < had; n++)
		op_chunk(s, r->i.attr.ino, n, &none);
}

static uint64_t import_part_size(struct store *s, uint64_t size_bytes)
{
	uint64_t part = s->part_size_bytes;
	while (chunk_count_of(part, size_bytes) > STORE_CHUNKS_MAX && part < 5 * GIB)
		part *= 2;
	return part;
}

static int import_locked(struct store *s, const struct store_object *object,
	struct store_attr *ret, bool *ret_dropped)
{
	struct record old, new = { .since_ns = clock_wall_ns() };
	uint64_t ino = store_ino_of_key(object->key);
	int r = record_get(s, ino, &old);
	if (r < 0 && r != -ENOENT)
		return r;
	bool known = r == 0;
	if (known && !(old.i.attr.flags & STORE_FLAG_FOREIGN))
		return -EEXIST;
	if (known && strcmp(old.i.object.etag, object->etag) == 0 &&
		old.i.object.size_bytes == object->size_bytes) {
		*ret = old.i.attr;
		return 0;
	}
	if (known && file_find_held(s, ino))
		return -EBUSY;
	int64_t now = clock_wall_ns();
	new.i.attr = (struct store_attr){ .ino = ino, .parent = STORE_ROOT_INO, .type = STORE_FILE,
		.mode = known ? old.i.attr.mode : S_IFREG | 0644,
		.uid = known ? old.i.attr.uid : getuid(), .gid = known ? old.i.attr.gid : getgid(),
		.size_bytes = object->size_bytes, .mtime_ns = now,
		.ctime_ns = now, .atime_ns = now, .generation = known ? old.i.attr.generation + 1 : 1,
		.flags = STORE_FLAG_FOREIGN };
	new.i.part_size_bytes = import_part_size(s, object->size_bytes);
	new.i.chunk_count = chunk_count_of(new.i.part_size_bytes, object->size_bytes);
	new.i.object = *object;
	op_begin(s);
	op_inode(s, known ? &old : NULL, &new);
	import_chunks(s, &new, known ? &old : NULL);
	r = op_commit(s);
	if (r == 0) {
		*ret = new.i.attr;
		*ret_dropped = known && old.present_bytes;
	}
	return r;
}

int store_import(struct store *s, const struct store_object *object, struct store_attr *ret)
{
	struct news news = { 0 };
	bool dropped = false;
	store_enter(s);
	int r = import_locked(s, object, ret, &dropped);
	store_leave(s, &news);
	/* the old bytes are of no use; after a power cut their record must not find other ones */
	if (dropped && journal_sync(s, journal_last(s)) == 0)
		unlink_data(s, store_ino_of_key(object->key));
	news_fire(s, &news);
	return r;
}

/* ---- describing -------------------------------------------------------------------------------------------- */

bool marks_broken_transfer(const struct record *r)
{
	return r->i.attr.type == STORE_FILE && r->i.attr.mtime_ns >= 0 &&
		r->i.attr.mtime_ns < NS_PER_S;
}

/* rsync sets second 0 of 1970 on what it kept of a broken transfer. */
static void judge_mtime(struct record *r)
{
	enum file_state state = r->i.attr.state;
	if (!marks_broken_transfer(r))
		return;
	if (state != FILE_CLOSED && state != FILE_SETTLED && state != FILE_QUEUED &&
		state != FILE_HELD && state != FILE_FAILED)
		return; /* an OPEN one is judged at its FLUSH */
	record_enter(r, FILE_INCOMPLETE);
	(void)text_copy(r->i.reason, BROKEN_TRANSFER_REASON, sizeof(r->i.reason)); /* it fits */
}

static void set_values(struct record *r, uint32_t mask, const struct store_attr *v)
{
	struct store_attr *a = &r->i.attr;
	if (mask & STORE_SET_MODE)
		a->mode = (a->mode & S_IFMT) | (v->mode & 07777);
	if (mask & STORE_SET_UID)
		a->uid = v->uid;
	if (mask & STORE_SET_GID)
		a->gid = v->gid;
	if (mask & STORE_SET_MTIME)
		a->mtime_ns = v->mtime_ns;
	if (mask & STORE_SET_ATIME)
		a->atime_ns = v->atime_ns;
	a->ctime_ns = clock_wall_ns();
}

/* A file that is being written carries its time on the data file, where recovery finds it. Only an
 * incomplete file's time is at stake: an error changes nothing that matters. */
static void note_on_data(struct store *s, uint64_t ino, int64_t mtime_ns)
{
	char path[64];
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
		{ .tv_sec = mtime_ns / NS_PER_S, .tv_nsec = mtime_ns % NS_PER_S } };
	if (times[1].tv_nsec < 0) {
		times[1].tv_sec--;
		times[1].tv_nsec += NS_PER_S;
	}
	data_path(ino, path);
	(void)utimensat(s->dir_fd, path, times, AT_SYMLINK_NOFOLLOW);
}

int store_setattr(struct store *s, uint64_t ino, uint32_t mask, const struct store_attr *values,
	struct store_attr *ret)
{
	struct news news = { 0 };
	struct record old;
	if (mask & STORE_SET_MTIME)
		lent_before_time(s, ino);
	store_enter(s);
	int r = record_get(s, ino, &old);
	if (r == 0) {
		struct record new = old;
		set_values(&new, mask, values);
		if (mask & STORE_SET_MTIME)
			judge_mtime(&new);
		op_begin(s);
		op_inode(s, &old, &new);
		r = op_commit(s);
	}
	struct store_file *f = r == 0 ? file_find_held(s, ino) : NULL;
	if (f && (mask & STORE_SET_MTIME))
		atomic_store(&f->mtime_ns, values->mtime_ns);
	if (f && (mask & STORE_SET_MODE))
		atomic_store(&f->mode, (atomic_load(&f->mode) & S_IFMT) | (values->mode & 07777));
	bool written = f && (mask & STORE_SET_MTIME) && atomic_load(&f->is_dirty_hint);
	if (r == 0)
		r = attr_of(s, ino, ret);
	store_leave(s, &news);
	if (written)
		note_on_data(s, ino, values->mtime_ns);
	news_fire(s, &news);
	return r;
}
