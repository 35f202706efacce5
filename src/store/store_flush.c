/*
 * store_flush - the end of a version: FLUSH (a program's close), the last writer going, fsync.
 */
#include "store_private.h"

#include <fcntl.h>
#include <sys/stat.h>

#define DUE_SLACK_NS (100 * INT64_C(1000000))

static int sync_close(struct store_file *f, uint64_t close_number);

/* Why this version may not go as it is, or NULL. */
static const char *flaw_of(struct store_file *f, const struct record *r, bool cut_off,
	const char *reason)
{
	if (f->too_large)
		return "it is larger than S3 takes";
	if (f->starved)
		return "the cache's disk was full while it was written";
	if (f->write_error || f->lacks_from < f->lacks_to)
		return "writing a part of it failed";
	if (cut_off)
		return reason && reason[0] ? reason : "its writer was cut off";
	return marks_broken_transfer(r) ? BROKEN_TRANSFER_REASON : NULL;
}

static int record_close(struct store_file *f, bool cut_off, const char *reason, struct news *news,
	uint64_t *ret_number)
{
	struct store *s = f->store;
	struct record old;
	store_enter(s);
	int r = record_get(s, f->ino, &old);
	if (r == 0) {
		struct record new = old;
		int64_t now = clock_wall_ns();
		new.i.attr.size_bytes = atomic_load(&f->size_bytes);
		new.i.attr.mtime_ns = atomic_load(&f->mtime_ns);
		new.i.attr.ctime_ns = now;
		new.present_bytes = file_present_bytes(f);
		new.i.closed_at_ns = now;
		const char *flaw = flaw_of(f, &new, cut_off, reason);
		new.i.attr.flags &= ~STORE_FLAG_COPY;
		new.i.attr.flags |= flaw ? 0 : STORE_FLAG_COMPLETE;
		new.i.attr.flags |= atomic_load(&f->is_lent) ? STORE_FLAG_LENT : 0;
		(void)text_copy(new.i.reason, flaw ? flaw : "", sizeof(new.i.reason)); /* may be cut */
		enum file_state to = flaw ? FILE_INCOMPLETE : FILE_CLOSED;
		if (!(old.i.attr.flags & STORE_FLAG_UNLINKED)) {
			new.i.due_at_ns = settle_due_ns(s, &new);
			record_enter(&new, to);
		} else if (old.i.attr.state == FILE_DELETING) {
			new.i.state_before = to;
		}
		op_begin(s);
		op_inode(s, &old, &new);
		op_unsynced(s, f->ino);
		r = op_commit(s);
		*ret_number = s->journal.next_number - 1;
	}
	store_leave(s, news);
	return r;
}

/* Somebody removed or cut the data file under the writer: its close must say so (-EIO). */
static bool data_vanished(struct store_file *f)
{
	struct stat st;
	return f->fd >= 0 && fstat(f->fd, &st) == 0 &&
		(st.st_nlink == 0 || (uint64_t)st.st_size < atomic_load(&f->size_bytes));
}

/* How this version ended is tried to be recorded until it is, also when nobody has the file any more. */
static void owe_close(struct store_file *f)
{
	struct store *s = f->store;
	with_lock(&s->lock);
	if (f->owes_close)
		return;
	f->owes_close = true;
	f->refs++;
	f->owing_next = s->owing;
	s->owing = f;
}

static struct store_file *owing_take(struct store *s)
{
	with_lock(&s->lock);
	return steal_ptr(s->owing);
}

/* Leaves the list; its ref is the caller's. False: it stays, whoever has it will close it again. */
static bool owing_leave(struct store *s, struct store_file *f, bool last_time)
{
	with_lock(&s->lock);
	if (f->handles > 0 && !last_time) {
		f->owing_next = s->owing;
		s->owing = f;
		return false;
	}
	f->owes_close = false;
	return true;
}

void owed_closes(struct store *s, bool last_time)
{
	struct store_file *next;
	for (struct store_file *f = owing_take(s); f; f = next) {
		next = f->owing_next;
		if (!owing_leave(s, f, last_time))
			continue;
		if (!last_time && store_file_flush(f, true, "its close could not be recorded") < 0) {
			/* it owes its close again */
		}
		file_put(f);
	}
}

int store_file_flush(struct store_file *f, bool cut_off, const char *reason)
{
	struct news news = { 0 };
	uint64_t growth = 0, number = 0;
	int r = 0;
	lock_take(&f->lock);
	file_wait_idle(f);
	if (atomic_load(&f->is_lent))
		r = lent_observe(f, &news);
	bool closes = f->dirty && r >= 0, synced = false, lost = false;
	r = r > 0 ? 0 : r;
	if (closes) {
		f->flushing = true;
		while (f->in_flight)
			(void)cond_wait_until(&f->idle, &f->lock, INT64_MAX); /* the predicate decides */
		synced = f->synced_changes == f->changes + 1 && !atomic_load(&f->is_lent);
		lost = data_vanished(f);
		r = lost ? file_mark_lost(f, &news)
			 : record_close(f, cut_off, reason, &news, &number);
		if (r == 0 || lost) {
			f->dirty = f->lent_opened = false;
			atomic_store(&f->is_dirty_hint, false);
			growth = f->growth_bytes;
			f->growth_bytes = 0;
		} else if (r != -ENOENT) {
			owe_close(f);
		}
		f->flushing = false;
		cond_broadcast(&f->idle);
	}
	lock_drop(&f->lock);
	if (closes)
		space_give(f->store, f->ino, growth);
	if (r == 0 && closes && f->store->durability_close)
		r = store_file_sync(f, false);
	else if (r == 0 && closes && synced) /* fsync, close: safe is what that says */
		r = sync_close(f, number);
	if (r == 0 && closes && (f->too_large || f->starved))
		r = f->too_large ? -EFBIG : -ENOSPC;
	news_fire(f->store, &news);
	return r;
}

/* Another verdict on a version that is closed, in the index lock. */
static int judge_again(struct store_file *f, enum file_state from, enum file_state to,
	uint64_t generation, const char *reason)
{
	struct store *s = f->store;
	struct record old;
	int r = record_get(s, f->ino, &old);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	struct record new = old;
	bool deleted = old.i.attr.state == FILE_DELETING;
	if (f->dirty || old.i.attr.generation != generation ||
		(deleted ? old.i.state_before : old.i.attr.state) != from ||
		(to == FILE_CLOSED && flaw_of(f, &old, false, NULL)))
		return 0;
	if (deleted) {
		new.i.state_before = to;
	} else {
		record_enter(&new, to);
		new.i.due_at_ns = settle_due_ns(s, &new);
	}
	new.i.attr.flags &= ~STORE_FLAG_COMPLETE;
	new.i.attr.flags |= to == FILE_CLOSED ? STORE_FLAG_COMPLETE : 0;
	(void)text_copy(new.i.reason, reason, sizeof(new.i.reason)); /* may be cut */
	op_begin(s);
	op_inode(s, &old, &new);
	return op_commit(s);
}

static int judge_file_again(struct store_file *f, enum file_state from, enum file_state to,
	uint64_t generation, const char *reason)
{
	struct news news = { 0 };
	lock_take(&f->lock);
	file_wait_idle(f);
	store_enter(f->store);
	int r = judge_again(f, from, to, generation, reason);
	store_leave(f->store, &news);
	lock_drop(&f->lock);
	news_fire(f->store, &news);
	return r;
}

int store_file_cut_off(struct store_file *f, const char *reason)
{
	struct store_attr attr;
	store_file_attr(f, &attr);
	return judge_file_again(f, FILE_CLOSED, FILE_INCOMPLETE, attr.generation, reason);
}

int store_file_cut_off_undo(struct store_file *f, uint64_t generation)
{
	return judge_file_again(f, FILE_INCOMPLETE, FILE_CLOSED, generation, "");
}

void store_file_writer_add(struct store_file *f)
{
	atomic_fetch_add(&f->writers, 1);
}

/* Settle counts from the last writer's end. */
void store_file_writer_drop(struct store_file *f)
{
	struct store *s = f->store;
	struct news news = { 0 };
	check(atomic_load(&f->writers) > 0);
	if (atomic_fetch_sub(&f->writers, 1) != 1)
		return;
	struct record old;
	store_enter(s);
	if (record_get(s, f->ino, &old) == 0 && old.i.attr.state == FILE_CLOSED) {
		struct record new = old;
		new.i.due_at_ns = settle_due_ns(s, &new);
		if (new.i.due_at_ns - old.i.due_at_ns > DUE_SLACK_NS) {
			op_begin(s);
			op_inode(s, &old, &new);
			if (op_commit(s) < 0)
				news.count = 0; /* it settles a little early: no harm */
		}
	}
	store_leave(s, &news);
	news_fire(s, &news);
}

/* ---- fsync --------------------------------------------------------------------------------------------------- */

static int mark_synced(
	struct store_file *f, uint64_t number_before, bool proved, uint64_t *ret_number)
{
	struct store *s = f->store;
	struct ikey k = ikey_ino(f->ino);
	struct bytes v;
	struct record old;
	store_enter(s);
	int r = 0;
	bool same = index_get(&s->index, TABLE_UNSYNCED, &k, &v) == 0 && v.len == 9 &&
		get_le64(v.data) < number_before && (proved || !((const uint8_t *)v.data)[8]);
	same = same && !atomic_load(&f->is_lent); /* it may change at any time */
	if (same && record_get(s, f->ino, &old) == 0 && old.i.attr.state != FILE_OPEN) {
		struct record new = old;
		new.i.attr.flags |= STORE_FLAG_DURABLE;
		op_begin(s);
		op_del(s, TABLE_UNSYNCED, &k);
		op_inode(s, &old, &new);
		s->op.told_count = 0; /* no news to anybody */
		r = op_commit(s);
	}
	*ret_number = s->journal.next_number - 1;
	store_leave(s, NULL);
	return r;
}

/* fsync in the middle of writing: the record's size must not lag behind the synced bytes, and the next
 * start must keep them, also where a copy of what the bucket has is not closed yet. */
static int record_size(struct store_file *f)
{
	struct store *s = f->store;
	struct record old;
	with_lock(&s->lock);
	s->op.told_count = 0;
	int r = record_get(s, f->ino, &old);
	bool copy = r == 0 && old.i.attr.flags & STORE_FLAG_COPY;
	if (r < 0 || (!copy && old.i.attr.size_bytes == atomic_load(&f->size_bytes)))
		return r;
	struct record new = old;
	new.i.attr.flags &= ~STORE_FLAG_COPY;
	new.i.attr.size_bytes = atomic_load(&f->size_bytes);
	new.i.attr.mtime_ns = atomic_load(&f->mtime_ns);
	op_begin(s);
	op_inode(s, &old, &new);
	s->op.told_count = 0;
	return op_commit(s);
}

int sync_data_dir(struct store *s, uint64_t ino)
{
	char path[64];
	cleanup_fd int fd = -1;
	snprintf(path, sizeof(path), "data/%02x", (unsigned)(ino & 0xff));
	int r = io_openat(s->dir_fd, path, O_RDONLY | O_DIRECTORY, 0, &fd);
	return r < 0 ? r : io_fsync(fd);
}

/* The kernel may have thrown the bytes away: a later sync that succeeds proves nothing for them. */
int mark_suspect(struct store *s, uint64_t ino)
{
	uint8_t value[9];
	struct ikey k = ikey_ino(ino);
	with_lock(&s->lock);
	put_le64(value, s->journal.next_number);
	value[8] = 1;
	op_begin(s);
	op_put(s, TABLE_UNSYNCED, &k, value, sizeof(value));
	int r = op_commit(s);
	s->suspects_owed += r < 0;
	if (s->flush_due_ms == 0)
		s->flush_due_ms = clock_mono_ms() + s->flush_ms;
	return r;
}

enum store_synced store_synced(struct store *s, uint64_t ino)
{
	struct ikey k = ikey_ino(ino);
	struct bytes v;
	with_lock(&s->lock);
	int r = index_get(&s->index, TABLE_UNSYNCED, &k, &v);
	if (r == -ENOENT)
		return STORE_SYNCED;
	if (r < 0)
		return STORE_UNSYNCED;
	return is_suspect(s, ino) || s->suspects_owed > 0 ? STORE_SUSPECT : STORE_UNSYNCED;
}

int store_file_sync(struct store_file *f, bool data_only)
{
	struct store *s = f->store;
	lock_take(&s->lock);
	uint64_t before = s->journal.next_number;
	bool unsynced = is_unsynced(s, f->ino), suspect = is_suspect(s, f->ino) || s->suspects_owed > 0;
	lock_drop(&s->lock);
	struct news news = { 0 };
	lock_take(&f->lock);
	file_wait_idle(f);
	int r = atomic_load(&f->is_lent) ? lent_observe(f, &news) : 0;
	if (r >= 0)
		r = file_fd(f, false);
	bool empty = r == -ENOENT, is_new = f->is_new_data, dirty = f->dirty;
	uint64_t changes = f->in_flight ? UINT64_MAX : f->changes;
	int fd = f->fd;
	lock_drop(&f->lock);
	news_fire(s, &news);
	if (r < 0 && !empty)
		return r;
	r = empty ? 0 : data_only ? io_fdatasync(fd) : io_fsync(fd);
	if (r < 0)
		(void)mark_suspect(s, f->ino); /* what cannot be recorded is owed */
	if (r == 0 && suspect && !reread_matches(s, f->ino))
		r = -EIO; /* never a success because the kernel forgot its first answer */
	if (r == 0 && !empty && (is_new || unsynced))
		r = sync_data_dir(s, f->ino); /* another handle may have made it */
	if (r == 0 && dirty)
		r = record_size(f);
	uint64_t number = 0;
	if (r == 0)
		r = mark_synced(f, before, suspect, &number);
	if (r == 0)
		r = journal_sync(s, number);
	if (r < 0)
		return r;
	lock_take(&f->lock);
	f->is_new_data = f->is_new_data && !is_new;
	f->synced_changes = changes + 1;
	lock_drop(&f->lock);
	return 0;
}

int store_make_durable(struct store *s, uint64_t ino)
{
	struct store_file *f;
	lock_take(&s->lock);
	bool durable = !is_unsynced(s, ino);
	lock_drop(&s->lock);
	int r = durable ? 0 : store_file_open(s, ino, &f);
	if (durable || r < 0)
		return r;
	r = store_file_sync(f, false);
	store_file_close(f);
	return r;
}

/* Its bytes are on the disk; its FLUSH, of which the record close_number is, shall be, too. */
static int sync_close(struct store_file *f, uint64_t close_number)
{
	uint64_t number;
	int r = mark_synced(f, close_number + 1, false, &number);
	return r < 0 ? r : journal_sync(f->store, number);
}
