/*
 * store_rename - one record, whatever lies below; re-key jobs; walking a subtree.
 */
#include "store_private.h"

struct rename {
	uint64_t old_dir, new_dir;
	const char *old_name, *new_name;
	int64_t delete_delay_ms;
	bool replaces;
	struct record moved, target;
};

/* Is `dir` the folder `top`, or below it? */
static int is_below(struct store *s, uint64_t dir, uint64_t top, bool *ret)
{
	for (unsigned depth = 0; depth < 4096; depth++) {
		struct record r;
		if (dir == top) {
			*ret = true;
			return 0;
		}
		if (dir == STORE_ROOT_INO) {
			*ret = false;
			return 0;
		}
		int e = record_get(s, dir, &r);
		if (e < 0)
			return e;
		dir = r.i.attr.parent;
	}
	return -ELOOP;
}

static int check_target(struct store *s, const struct rename *rn)
{
	bool moved_is_dir = rn->moved.i.attr.type == STORE_DIR;
	bool target_is_dir = rn->target.i.attr.type == STORE_DIR;
	if (moved_is_dir && !target_is_dir)
		return -ENOTDIR;
	if (!moved_is_dir && target_is_dir)
		return -EISDIR;
	int has = target_is_dir ? dir_has_entries(s, rn->target.i.attr.ino) : 0;
	return has > 0 ? -ENOTEMPTY : has;
}

static int rename_check(struct store *s, struct rename *rn, unsigned flags, bool *ret_nothing)
{
	uint64_t ino = 0, target = 0;
	struct record dir = { 0 };
	int r = dirent_get(s, rn->old_dir, rn->old_name, &ino);
	if (r == 0)
		r = record_get(s, ino, &rn->moved);
	if (r == 0)
		r = record_get(s, rn->new_dir, &dir);
	if (r < 0)
		return r;
	if (dir.i.attr.type != STORE_DIR)
		return -ENOTDIR;
	r = dirent_get(s, rn->new_dir, rn->new_name, &target);
	if (r < 0 && r != -ENOENT)
		return r;
	rn->replaces = r == 0;
	if (rn->replaces && (flags & STORE_RENAME_NOREPLACE))
		return -EEXIST;
	*ret_nothing = rn->replaces && target == ino;
	if (*ret_nothing)
		return 0;
	if (rn->moved.i.attr.type == STORE_DIR) {
		bool below = false;
		r = is_below(s, rn->new_dir, ino, &below);
		if (r < 0 || below)
			return r < 0 ? r : -EINVAL;
	}
	if (!rn->replaces)
		return 0;
	r = record_get(s, target, &rn->target);
	return r < 0 ? r : check_target(s, rn);
}

/* What a file's state becomes under its new name. */
static void file_renamed(struct store *s, struct record *r)
{
	static const uint32_t again = 1u << FILE_CLOSED | 1u << FILE_SETTLED | 1u << FILE_QUEUED |
		1u << FILE_HELD | 1u << FILE_FAILED | 1u << FILE_CONFLICT;
	static const uint32_t follow = 1u << FILE_UPLOADED | 1u << FILE_VERIFIED | 1u << FILE_GONE;
	uint32_t state = 1u << r->i.attr.state;
	r->i.attr.flags &= ~STORE_FLAG_REPLACES; /* what the bucket has under the old name */
	r->i.in_the_way = 0;
	if (state & again) {
		record_enter(r, FILE_CLOSED);
		r->i.reason[0] = '\0';
		r->i.due_at_ns = settle_due_ns(s, r);
	} else if (state & follow) {
		record_enter(r, FILE_MOVING);
		r->i.due_at_ns = settle_due_ns(s, r);
	}
}

/* All counts of a moved folder leave the old place and come to the new one. */
static void dir_counts(struct store *s, uint64_t dir_ino, uint64_t at, int sign)
{
	struct ikey from = ikey_count(dir_ino, 0);
	cleanup_cursor struct index_cursor c;
	int r = index_seek(&s->index, TABLE_COUNT, &from, false, &c);
	for (; r == 0 && c.key.len == 9 && get_be64(c.key.data) == dir_ino && c.value.len == 16;
		r = index_next(&c)) {
		int64_t files = (int64_t)get_le64(c.value.data);
		int64_t bytes = (int64_t)get_le64((const uint8_t *)c.value.data + 8);
		op_count(s, at, ((const uint8_t *)c.key.data)[8], sign * files, sign * bytes);
	}
	if (r < 0 && r != -ENOENT)
		op_fail(s, r);
}

/* Anything below that was sent, is held or on its way? CLOSED … QUEUED find their key when they go.
 * 1, 0, -errno. */
static int dir_needs_job(struct store *s, uint64_t dir_ino)
{
	static const uint32_t plain = 1u << FILE_OPEN | 1u << FILE_CLOSED | 1u << FILE_SETTLED |
		1u << FILE_QUEUED | 1u << FILE_INCOMPLETE | 1u << FILE_TORN | 1u << FILE_LOST;
	struct ikey from = ikey_count(dir_ino, 0);
	cleanup_cursor struct index_cursor c;
	int r = index_seek(&s->index, TABLE_COUNT, &from, false, &c);
	for (; r == 0 && c.key.len == 9 && get_be64(c.key.data) == dir_ino; r = index_next(&c)) {
		uint8_t slot = ((const uint8_t *)c.key.data)[8];
		if (slot && slot < FILE_STATE_COUNT && !(plain >> slot & 1) && get_le64(c.value.data))
			return 1;
	}
	return r < 0 && r != -ENOENT ? r : 0;
}

static int op_job(struct store *s, uint64_t dir_ino, const char *old_path)
{
	cleanup_buf struct buf value = { 0 };
	uint8_t ino[8];
	struct ikey k = ikey_ino(s->next_job);
	put_be64(ino, dir_ino);
	buf_add(&value, ino, sizeof(ino));
	buf_add_text(&value, old_path);
	int r = buf_error(&value);
	if (r < 0)
		return r;
	s->next_job++;
	op_put(s, TABLE_JOB, &k, value.data, value.len);
	op_meta_u64(s, "next-job", s->next_job);
	s->job_count++;
	return 0;
}

static int op_target(struct store *s, struct rename *rn, bool *ret_purge)
{
	if (rn->target.i.attr.type == STORE_DIR) {
		op_dir_gone(s, &rn->target);
		return 0;
	}
	return unlink_record(s, &rn->target, rn->delete_delay_ms, ret_purge);
}

static void op_moved(struct store *s, const struct rename *rn)
{
	struct record new = rn->moved;
	struct ikey from = ikey_ino_name(rn->old_dir, rn->old_name);
	struct ikey to = ikey_ino_name(rn->new_dir, rn->new_name);
	uint8_t value[8];
	bool is_dir = new.i.attr.type == STORE_DIR;
	put_be64(value, new.i.attr.ino);
	new.i.attr.parent = rn->new_dir;
	new.i.attr.ctime_ns = clock_wall_ns();
	new.i.attr.flags &= ~STORE_FLAG_BORN_LOCAL;
	(void)text_copy(new.i.name, rn->new_name, sizeof(new.i.name)); /* its length was checked */
	if (!is_dir)
		file_renamed(s, &new);
	if (is_dir)
		dir_counts(s, new.i.attr.ino, rn->old_dir, -1);
	op_del(s, TABLE_DIRENT, &from);
	op_put(s, TABLE_DIRENT, &to, value, sizeof(value));
	op_inode(s, &rn->moved, &new);
	former_note(s, rn->old_dir, rn->old_name);
	if (rn->replaces)
		former_note(s, rn->new_dir, rn->new_name);
	if (is_dir)
		dir_counts(s, new.i.attr.ino, rn->new_dir, 1);
}

static int rename_locked(struct store *s, struct rename *rn, unsigned flags, bool *ret_purge)
{
	bool nothing;
	cleanup_buf struct buf old_path = { 0 };
	int r = rename_check(s, rn, flags, &nothing);
	if (r < 0 || nothing)
		return r;
	bool is_dir = rn->moved.i.attr.type == STORE_DIR;
	uint64_t jobs = s->job_count;
	op_begin(s);
	if (rn->replaces)
		r = op_target(s, rn, ret_purge);
	int job = r == 0 && is_dir ? dir_needs_job(s, rn->moved.i.attr.ino) : 0;
	r = job < 0 ? job : r;
	if (r == 0 && job) {
		r = path_get(s, rn->moved.i.attr.ino, &old_path);
		if (r == 0)
			r = op_job(s, rn->moved.i.attr.ino, buf_text(&old_path));
	}
	if (r == 0) {
		op_moved(s, rn);
		op_touch(s, rn->old_dir);
		if (rn->new_dir != rn->old_dir)
			op_touch(s, rn->new_dir);
		atomic_fetch_add(&s->names, 1);
		r = op_commit(s);
	}
	if (r < 0) {
		s->job_count = jobs;
		*ret_purge = false;
	}
	return r;
}

int store_rename(struct store *s, uint64_t old_dir, const char *old_name, uint64_t new_dir,
	const char *new_name, unsigned flags, int64_t delete_delay_ms)
{
	struct news news = { 0 };
	bool purge = false;
	struct rename *rn = calloc(1, sizeof(*rn));
	cleanup_free struct rename *free_it = rn;
	if (!free_it)
		return -ENOMEM;
	if (flags & ~STORE_RENAME_NOREPLACE)
		return -EINVAL;
	if (strlen(new_name) > STORE_NAME_MAX || strlen(old_name) > STORE_NAME_MAX)
		return -ENAMETOOLONG;
	if (!new_name[0] || strchr(new_name, '/') || !strcmp(new_name, ".") || !strcmp(new_name, ".."))
		return -EINVAL;
	*rn = (struct rename){ .old_dir = old_dir, .new_dir = new_dir, .old_name = old_name,
		.new_name = new_name, .delete_delay_ms = delete_delay_ms };
	store_enter(s);
	int r = rename_locked(s, rn, flags, &purge);
	store_leave(s, &news);
	if (purge)
		purge_data(s, rn->target.i.attr.ino);
	news.room_freed = purge;
	news_fire(s, &news);
	return r;
}

uint64_t store_names(struct store *s)
{
	return atomic_load(&s->names) + 1;
}

bool names_changed(struct store *s, uint64_t names)
{
	lock_assert_held(&s->lock);
	return names && names != store_names(s);
}

/* ---- jobs ---------------------------------------------------------------------------------------------------- */

int store_jobs(struct store *s, struct store_job *out, size_t max)
{
	struct ikey from = { .len = 0 };
	with_lock(&s->lock);
	cleanup_cursor struct index_cursor c;
	size_t count = 0;
	int r = index_seek(&s->index, TABLE_JOB, &from, false, &c);
	for (; r == 0 && count < max; r = index_next(&c)) {
		size_t len = c.value.len > 8 ? c.value.len - 8 : 0;
		if (c.key.len != 8 || c.value.len < 8)
			return -EUCLEAN;
		struct store_job *job = &out[count++];
		job->id = get_be64(c.key.data);
		job->dir_ino = get_be64(c.value.data);
		if (len >= sizeof(job->old_prefix))
			len = 0; /* no key can lie below such a path */
		memcpy(job->old_prefix, (const char *)c.value.data + 8, len);
		job->old_prefix[len] = '\0';
	}
	return r < 0 && r != -ENOENT ? r : (int)count;
}

int store_job_end(struct store *s, uint64_t id)
{
	struct ikey k = ikey_ino(id);
	struct bytes v;
	with_lock(&s->lock);
	int r = index_get(&s->index, TABLE_JOB, &k, &v);
	if (r < 0)
		return r;
	op_begin(s);
	op_del(s, TABLE_JOB, &k);
	r = op_commit(s);
	if (r == 0 && s->job_count)
		s->job_count--;
	return r;
}

/* ---- walking ---------------------------------------------------------------------------------------------------- */

#define WALK_DEPTH_MAX 4096 /* nothing can be counted any deeper (store_op.c) */

static size_t walk_level(const struct store_walk *w)
{
	return (w->depth < array_len(w->stack) ? w->depth : array_len(w->stack)) - 1;
}

/* Where the current folder stands. Deeper than the stack the last place serves for all levels: the
 * way up is in the records. */
static uint64_t *walk_current(struct store_walk *w)
{
	return &w->stack[walk_level(w)];
}

static uint64_t name_crc(const char *name)
{
	return crc64nvme(0, name, strlen(name));
}

/* -EUCLEAN: folders that are their own parents. */
static int walk_down(struct store_walk *w, uint64_t ino)
{
	if (w->depth >= WALK_DEPTH_MAX)
		return -EUCLEAN;
	w->depth++;
	if (w->depth <= array_len(w->stack))
		w->name_crcs[walk_level(w)] = name_crc(w->after);
	*walk_current(w) = ino;
	w->after[0] = '\0';
	return 0;
}

/* Does the folder just finished still stand where it was entered? */
static bool walk_is_in_place(const struct store_walk *w, const struct record *r)
{
	size_t level = walk_level(w);
	if (w->depth > array_len(w->stack))
		return true;
	return w->name_crcs[level] == name_crc(r->i.name) &&
		(level == 0 || w->stack[level - 1] == r->i.attr.parent);
}

/* Go up: behind the name of the folder just finished. If it was renamed or removed meanwhile, the one
 * above is begun again. -ENOENT: that was the top. */
static int walk_up(struct store *s, struct store_walk *w)
{
	struct record r;
	int e = record_get(s, *walk_current(w), &r);
	bool in_place = e == 0 && walk_is_in_place(w, &r);
	if (e < 0 && w->depth > array_len(w->stack))
		w->depth = array_len(w->stack);
	if (--w->depth == 0)
		return -ENOENT;
	(void)text_copy(w->after, in_place ? r.i.name : "", sizeof(w->after)); /* same size */
	if (w->depth >= array_len(w->stack) && e == 0)
		*walk_current(w) = r.i.attr.parent;
	return 0;
}

/* What the record of an entry is, or why it can't be told. */
static int walk_record(struct store *s, struct bytes ino, struct record *ret)
{
	int r = ino.len == 8 ? record_get(s, get_be64(ino.data), ret) : -EUCLEAN;
	return r == -ENOENT ? -EUCLEAN : r;
}

/* The next entry of the folder on top of the stack. One that is damaged is passed if told so. */
static int walk_step(struct store *s, struct store_walk *w, bool pass, uint64_t *ret_file)
{
	uint64_t dir = *walk_current(w);
	struct ikey from = ikey_ino_name(dir, w->after);
	cleanup_cursor struct index_cursor c;
	*ret_file = 0;
	int r = index_seek(&s->index, TABLE_DIRENT, &from, true, &c);
	if (r < 0 || c.key.len <= 8 || get_be64(c.key.data) != dir)
		return r < 0 && r != -ENOENT ? r : walk_up(s, w);
	struct record record;
	r = walk_record(s, c.value, &record);
	w->passed_damage = r == -EUCLEAN && pass;
	if (r < 0 && !w->passed_damage)
		return r;
	memcpy(w->after, (const char *)c.key.data + 8, c.key.len - 8);
	w->after[c.key.len - 8] = '\0';
	if (r < 0)
		return r;
	if (record.i.attr.type == STORE_DIR)
		return walk_down(w, record.i.attr.ino);
	*ret_file = record.i.attr.ino;
	return 0;
}

int store_walk_next(
	struct store *s, uint64_t top_ino, struct store_walk *w, uint64_t *out_inos, size_t max)
{
	struct record top;
	size_t count = 0;
	with_lock(&s->lock);
	w->passed_damage = false;
	int r = record_get(s, top_ino, &top);
	if (r < 0)
		return r;
	if (!w->started && top.i.attr.type == STORE_FILE) {
		w->started = true;
		out_inos[0] = top_ino;
		return max > 0;
	}
	if (!w->started) {
		*w = (struct store_walk){ .started = true, .depth = 1 };
		w->stack[0] = top_ino;
	}
	while (w->depth && count < max) {
		uint64_t file;
		r = walk_step(s, w, count == 0, &file);
		if (r == -ENOENT || (r < 0 && count > 0))
			break;
		if (r < 0)
			return r;
		if (file)
			out_inos[count++] = file;
	}
	return (int)count;
}

int store_walk_path(struct store *s, const struct store_walk *w, struct buf *out)
{
	with_lock(&s->lock);
	int r = w->depth ? path_get(s, w->stack[walk_level(w)], out) : -ENOENT;
	if (r < 0)
		return r;
	if (out->len)
		buf_add_char(out, '/');
	buf_add_text(out, w->after);
	return buf_error(out);
}
