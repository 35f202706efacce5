/*
 * store_lent - a data file that the kernel writes by itself (FUSE passthrough): nothing here sees
 * the bytes come, so everything is asked of the data file.
 *
 * The mark. What is known of a lent file was true at its last look; a look leaves MARK_S as the
 * data file's modification time, which the next write replaces under the same inode lock. So
 * another time there means "changed since", however coarse the disk's clock is, and also after this
 * process died.
 *
 * What is lent changes without a record, so no record is believed (I1, I3):
 *
 *   lending   only a version that is OPEN, empty, and of one handle (store_file_lend)
 *   FLUSH     records the close with STORE_FLAG_LENT; while the loan lasts the file settles nowhere
 *             (it has writers), is not marked durable and not sent in parts (heat_wanted)
 *   the end   a last look; what changed is one more version
 *   killed    the next start asks the kernel (a lease) whether anybody still has the data file open
 *             for writing: programs go on writing after the daemon's death. While they do the file
 *             is INCOMPLETE and STORE_FLAG_STRANDED: nothing takes it out of that state, nothing
 *             changes it but what empties it, which gives it a new data file. If they wrote after
 *             its close and are gone, it is INCOMPLETE only.
 *
 * Others that open the file meanwhile read and write through this process, but what they map is the
 * data file itself, and a mapping outlives its handle. If one of them may write, writes through it
 * may leave no mark, so each look says "changed", and the loan ends when no mapping is left.
 */
#include "store_private.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define MARK_S 1	 /* 1970-01-01 00:00:01: nobody's clock */
#define META_LENT "lent" /* 1: something was lent since the last start that found none */
#define REASON_STRANDED                                                                            \
	"cpgfs ended while it was being written, and a program still writes into it: end that "    \
	"program"
#define REASON_CHANGED "it was changed after its close, when cpgfs had ended"

/* ---- marks and leases ----------------------------------------------------------------------- */

bool lent_is_marked(const struct stat *st)
{
	return st->st_mtim.tv_sec == MARK_S && st->st_mtim.tv_nsec == 0;
}

static int mark(int fd)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = MARK_S}};

	return futimens(fd, times) < 0 ? -errno : 0;
}

static int64_t mtime_ns(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec;
}

/* What lies beyond was never part of a file here. */
static uint64_t usable_size(const struct stat *st, uint64_t part_size_bytes)
{
	uint64_t size = (uint64_t)st->st_size, limit = file_limit(part_size_bytes);

	return size < limit ? size : limit;
}

/* Who opens what a lease is just tried on waits for that, and the kernel sends us one. */
static void ignore_sigio(void)
{
	check(sigaction(SIGIO, &(struct sigaction){.sa_handler = SIG_IGN}, NULL) == 0);
}

static int try_lease(int fd, int kind)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	check(pthread_once(&once, ignore_sigio) == 0);
	if (fcntl(fd, F_SETLEASE, kind) < 0)
		return -errno;
	(void)fcntl(fd, F_SETLEASE, F_UNLCK); /* it was just taken */
	return 0;
}

/* Does anybody have it open for writing? fd is read-only, and no other of ours is not. 0, -EAGAIN:
 * somebody has; else it cannot be known. */
static int written_by_nobody(int fd)
{
	return try_lease(fd, F_RDLCK);
}

/* Does nobody else have it open or mapped? */
static int is_alone(int fd)
{
	return try_lease(fd, F_WRLCK);
}

bool lent_is_shared(int fd)
{
	return is_alone(fd) == -EAGAIN;
}

static int open_read_only(int dir_fd, uint64_t ino, int *ret_fd)
{
	char path[64];

	data_path(ino, path);
	return io_openat(dir_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, ret_fd);
}

enum lent_verdict lent_judge(int dir_fd, uint64_t ino, const struct store_attr *closed)
{
	cleanup_fd int fd = -1;
	struct stat st;
	int r = open_read_only(dir_fd, ino, &fd);

	if (r == -ENOENT)
		return LENT_OVER; /* whoever wants its bytes finds that out */
	if (r == 0)
		r = written_by_nobody(fd);
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r != 0)
		return LENT_HELD;
	if (closed && (!lent_is_marked(&st) || (uint64_t)st.st_size != closed->size_bytes))
		return LENT_CHANGED;
	return LENT_OVER;
}

/* A file without a name on the cache's disk shows what the disk can do. */
static int probe(int fd)
{
	char path[32];
	cleanup_fd int again = -1;
	struct stat st;
	int r = is_alone(fd);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (r == 0)
		r = io_open(path, O_RDONLY, 0, &again);
	if (r == 0 && written_by_nobody(again) != -EAGAIN)
		r = -EOPNOTSUPP;
	if (r == 0)
		r = mark(fd);
	if (r == 0 && (fstat(fd, &st) < 0 || !lent_is_marked(&st)))
		r = -EOPNOTSUPP;
	if (r == 0)
		r = io_pwrite(fd, "", 1, 0);
	if (r == 0 && (fstat(fd, &st) < 0 || lent_is_marked(&st)))
		r = -EOPNOTSUPP;
	return r;
}

int store_lend_possible(struct store *s)
{
	cleanup_fd int fd = -1;
	int r;

	if (s->durability_close)
		return -EINVAL; /* a close must be an fsync, of bytes that stay as they are */
	r = io_openat(s->dir_fd, ".", O_TMPFILE | O_RDWR, 0600, &fd);
	return r < 0 ? r : probe(fd);
}

/* ---- looks (f->lock) ------------------------------------------------------------------------ */

static void learn_size(struct store_file *f, const struct stat *st)
{
	uint64_t size = usable_size(st, f->part_size_bytes), known = atomic_load(&f->size_bytes);

	f->too_large = size < (uint64_t)st->st_size;
	if (size > known) {
		f->growth_bytes += size - known;
		space_grew(f->store, size - known);
	}
	atomic_store(&f->size_bytes, size);
}

/* The kernel tells the program of a full disk, and nobody else. */
static void look_at_disk(struct store_file *f)
{
	struct statfs st;

	if (fstatfs(f->fd, &st) == 0 &&
		(uint64_t)st.f_bavail * (uint64_t)st.f_bsize < f->store->lend_room_bytes / 8)
		f->starved = true;
}

void lent_look(struct store_file *f)
{
	struct stat st;

	lock_assert_held(&f->lock);
	if (atomic_load(&f->is_lent) && fstat(f->fd, &st) == 0)
		learn_size(f, &st);
}

int lent_observe(struct store_file *f, struct news *news)
{
	struct stat st;
	int r = 0;

	lock_assert_held(&f->lock);
	look_at_disk(f);
	if (fstat(f->fd, &st) < 0)
		return -errno;
	if (!f->is_mapped && lent_is_marked(&st))
		return 0; /* nor has its size changed */
	atomic_store(&f->mtime_ns, mtime_ns(&st));
	/* first the mark: what is written before it is in this look, what comes later replaces it
	 */
	if (!f->is_mapped)
		r = mark(f->fd);
	if (r == 0 && fstat(f->fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return r;
	learn_size(f, &st);
	f->lent_changed = true;
	f->changes++;
	if (!f->dirty) {
		r = file_before_change(f, 0, atomic_load(&f->size_bytes), news);
		f->lent_opened = r == 0;
	}
	return r < 0 ? r : 1;
}

/* As a stat of it shall show. The index lock is held, or the file is; f->fd stays. */
void lent_overlay(struct store_file *f, struct store_attr *attr)
{
	struct stat st;

	attr->mtime_ns = atomic_load(&f->mtime_ns);
	if (fstat(f->fd, &st) < 0)
		return;
	attr->size_bytes = (uint64_t)st.st_size;
	if (!lent_is_marked(&st))
		attr->mtime_ns = mtime_ns(&st);
}

int store_file_look(struct store_file *f)
{
	struct news news = {0};
	int r;

	lock_take(&f->lock);
	file_wait_idle(f);
	r = atomic_load(&f->is_lent) ? lent_observe(f, &news) : 0;
	if (r >= 0) {
		r = f->lent_changed;
		f->lent_changed = false;
	}
	lock_drop(&f->lock);
	news_fire(f->store, &news);
	return r;
}

/* A time is to be set: what was written before counts for nothing then. */
void lent_before_time(struct store *s, uint64_t ino)
{
	cleanup_store_file struct store_file *f = NULL;
	struct news news = {0};

	lock_take(&s->lock);
	f = file_find_held(s, ino);
	if (f && atomic_load(&f->is_lent))
		f->refs++;
	else
		f = NULL;
	lock_drop(&s->lock);
	if (!f)
		return;
	lock_take(&f->lock);
	file_wait_idle(f);
	if (atomic_load(&f->is_lent) && lent_observe(f, &news) < 0)
		news.count = 0; /* its close tries again, and says so */
	lock_drop(&f->lock);
	news_fire(s, &news);
}

/* ---- lending -------------------------------------------------------------------------------- */

static void list_add(struct store_file *f)
{
	struct store *s = f->store;

	with_lock(&s->lock);
	f->refs++; /* the list's */
	f->lent_next = s->lent;
	s->lent = f;
	s->lent_count++;
}

static void list_remove(struct store_file *f)
{
	struct store *s = f->store;
	struct store_file **at = &s->lent;

	with_lock(&s->lock);
	while (*at != f)
		at = &(*at)->lent_next;
	*at = f->lent_next;
	s->lent_count--;
}

/* That anything may be lent outlives this process. */
static int note_lending(struct store *s)
{
	int r;

	with_lock(&s->lock);
	if (s->lent_noted)
		return 0;
	op_begin(s);
	op_meta_u64(s, META_LENT, 1);
	r = op_commit(s);
	s->lent_noted = r == 0;
	return r;
}

static uint64_t room_to_leave(struct store *s)
{
	with_lock(&s->lock);
	return s->lend_room_bytes + s->lent_count * (s->lend_room_bytes / 8);
}

static bool has_one_handle(struct store_file *f)
{
	with_lock(&f->store->lock);
	return f->handles == 1 && f->refs == 1;
}

static int lend_locked(struct store_file *f, int *ret_fd)
{
	int r;

	if (!f->dirty || atomic_load(&f->size_bytes) || f->absent_count || f->in_flight ||
		f->heat || f->is_stranded || f->write_error || atomic_load(&f->is_lent) ||
		atomic_load(&f->writers) != 1 || !has_one_handle(f))
		return -EAGAIN;
	r = file_fd(f, true);
	if (r == 0)
		r = mark(f->fd); /* a first look must not take its making for a change */
	if (r == 0)
		r = open_read_only(f->store->dir_fd, f->ino, ret_fd);
	if (r < 0)
		return r;
	f->lent_changed = f->lent_opened = f->is_mapped = f->too_large = f->starved = false;
	f->synced_changes = 0;
	list_add(f);
	atomic_store(&f->is_lent, true);
	return 0;
}

int store_file_lend(struct store_file *f, int *ret_fd)
{
	struct store *s = f->store;
	int r;

	if (s->durability_close || !space_is_ample(s, room_to_leave(s)))
		return -EAGAIN;
	r = note_lending(s);
	if (r < 0)
		return r;
	with_lock(&f->lock);
	file_wait_idle(f);
	return lend_locked(f, ret_fd);
}

void store_file_share(struct store_file *f, bool may_write)
{
	with_lock(&f->lock);
	f->is_mapped = f->is_mapped || (may_write && atomic_load(&f->is_lent));
}

/* ---- the end of a loan ---------------------------------------------------------------------- */

/* Its program asked for an fsync, and until now it could not be called durable. */
static void flush_soon(struct store *s)
{
	with_lock(&s->lock);
	s->flush_due_ms = clock_mono_ms();
}

/* The last look. What nobody's FLUSH told of is a version of its own. */
static void end_loan(struct store_file *f)
{
	struct news news = {0};
	struct stat st;
	bool closes, cut_off, synced;
	int r;

	lock_take(&f->lock);
	file_wait_idle(f);
	cut_off = f->is_orphan;
	r = lent_observe(f, &news);
	closes = f->dirty && f->lent_opened;
	synced = r == 0 && !f->dirty && f->synced_changes == f->changes + 1;
	f->is_sparse = f->is_sparse || fstat(f->fd, &st) < 0 || st.st_blocks * 512 < st.st_size;
	f->is_mapped = f->is_stranger = f->is_orphan = false;
	atomic_store(&f->is_lent, false);
	lock_drop(&f->lock);
	list_remove(f);
	news_fire(f->store, &news);
	if (r < 0)
		store_file_write_failed(f);
	if ((closes || r < 0) &&
		store_file_flush(f, cut_off || r < 0, "nobody saw how its writer ended") < 0) {
		/* it owes its close: tried again until it is recorded */
	}
	if (synced)
		flush_soon(f->store);
}

void store_file_take_back(struct store_file *f, bool all_closed)
{
	bool waits;

	if (!atomic_load(&f->is_lent))
		return;
	lock_take(&f->lock);
	waits = !all_closed || (f->is_mapped && is_alone(f->fd) < 0);
	if (waits)
		store_file_writer_add(f); /* until they are gone */
	f->is_stranger = waits;
	f->is_orphan = !all_closed;
	lock_drop(&f->lock);
	if (waits)
		return;
	end_loan(f);
	file_put(f);
}

/* Those that are lent, each with a reference. */
static struct store_file **lent_files(struct store *s, size_t *ret_count)
{
	struct store_file **list;

	*ret_count = 0;
	with_lock(&s->lock);
	if (!s->lent_count)
		return NULL;
	list = calloc(s->lent_count, sizeof(struct store_file *));
	for (struct store_file *f = s->lent; list && f; f = f->lent_next) {
		f->refs++;
		list[(*ret_count)++] = f;
	}
	return list;
}

/* How large it is by now; has the last stranger gone? */
static bool tend(struct store_file *f)
{
	with_lock(&f->lock);
	lent_look(f);
	look_at_disk(f);
	return f->is_stranger && is_alone(f->fd) == 0;
}

void lent_tick(struct store *s)
{
	size_t count;
	cleanup_free struct store_file **list = lent_files(s, &count);

	for (size_t i = 0; i < count; i++) {
		struct store_file *f = list[i];

		if (tend(f)) {
			end_loan(f);
			store_file_writer_drop(f);
			file_put(f);
		}
		file_put(f);
	}
}

void lent_forget(struct store *s)
{
	struct store_file *f;

	for (;;) {
		lock_take(&s->lock);
		f = s->lent;
		if (f) {
			s->lent = f->lent_next;
			s->lent_count--;
		}
		lock_drop(&s->lock);
		if (!f)
			return;
		if (f->is_stranger)
			store_file_writer_drop(f);
		file_put(f);
	}
}

/* ---- stranded files ------------------------------------------------------------------------- */

/* An own descriptor in the place of the one that could only read: readers may be using it. */
static int reopen(struct store_file *f)
{
	char path[64];
	cleanup_fd int fd = -1;
	int r;

	data_path(f->ino, path);
	r = io_openat(f->store->dir_fd, path, O_RDWR | O_NOFOLLOW | O_CREAT, 0600, &fd);
	if (r < 0)
		return r;
	if (f->fd < 0)
		f->fd = steal_fd(&fd);
	else if (dup3(fd, f->fd, O_CLOEXEC) < 0)
		return -errno;
	f->is_stranded = false;
	return 0;
}

/* Nobody writes into it any more: its record learns how it was left. */
static int record_as_left(struct store_file *f, const struct stat *st, struct news *news)
{
	struct store *s = f->store;
	uint64_t size = usable_size(st, f->part_size_bytes);
	struct record old;
	int r;

	store_enter(s);
	r = record_get(s, f->ino, &old);
	if (r == 0) {
		struct record new = old;

		new.i.attr.flags &= ~STORE_FLAG_STRANDED;
		new.i.attr.size_bytes = size;
		new.i.chunk_count = chunk_count_of(new.i.part_size_bytes, new.i.attr.size_bytes);
		new.present_bytes = new.i.attr.size_bytes;
		if (!lent_is_marked(st))
			new.i.attr.mtime_ns = mtime_ns(st);
		op_begin(s);
		op_inode(s, &old, &new);
		op_unsynced(s, f->ino);
		r = op_commit(s);
		if (r == 0)
			atomic_store(&f->mtime_ns, new.i.attr.mtime_ns);
	}
	store_leave(s, news);
	if (r == 0)
		atomic_store(&f->size_bytes, size);
	return r;
}

int lent_unstrand(struct store_file *f, struct news *news)
{
	cleanup_fd int fd = -1;
	struct stat st;
	int r;

	lock_assert_held(&f->lock);
	if (!f->is_stranded)
		return 0;
	r = open_read_only(f->store->dir_fd, f->ino, &fd);
	if (r == 0)
		r = written_by_nobody(fd);
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r == 0)
		r = record_as_left(f, &st, news);
	if (r == 0)
		r = reopen(f);
	return r == -EAGAIN ? -ETXTBSY : r;
}

int lent_replace(struct store_file *f)
{
	char path[64];

	lock_assert_held(&f->lock);
	data_path(f->ino, path);
	if (unlinkat(f->store->dir_fd, path, 0) < 0 && errno != ENOENT)
		return -errno;
	f->is_new_data = true;
	return reopen(f);
}

int lent_before_state(struct store *s, uint64_t ino)
{
	cleanup_store_file struct store_file *f = NULL;
	struct news news = {0};
	struct record record;
	int r;

	lock_take(&s->lock);
	r = record_get(s, ino, &record);
	lock_drop(&s->lock);
	if (r < 0 || !(record.i.attr.flags & STORE_FLAG_STRANDED))
		return 0;
	r = file_get(s, ino, &f);
	if (r < 0)
		return r;
	lock_take(&f->lock);
	r = lent_unstrand(f, &news);
	lock_drop(&f->lock);
	news_fire(s, &news);
	return r;
}

/* ---- recovery ------------------------------------------------------------------------------- */

#define BATCH 256

void lent_strand(struct record *r, enum lent_verdict verdict)
{
	r->i.attr.flags &= ~(STORE_FLAG_LENT | STORE_FLAG_STRANDED);
	if (verdict == LENT_OVER)
		return;
	if (r->i.attr.state == FILE_DELETING)
		r->i.state_before = FILE_INCOMPLETE;
	else
		record_enter(r, FILE_INCOMPLETE);
	r->i.attr.flags &= ~(STORE_FLAG_COMPLETE | STORE_FLAG_DURABLE);
	if (verdict == LENT_HELD)
		r->i.attr.flags |= STORE_FLAG_STRANDED;
	(void)text_copy(r->i.reason, verdict == LENT_HELD ? REASON_STRANDED : REASON_CHANGED,
		sizeof(r->i.reason)); /* it fits */
}

void lent_learn(int dir_fd, uint64_t ino, struct store_inode *i)
{
	char path[64];
	struct stat st;

	data_path(ino, path);
	if (fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return; /* whoever wants its bytes finds that out */
	i->attr.size_bytes = usable_size(&st, i->part_size_bytes);
	if (!lent_is_marked(&st))
		i->attr.mtime_ns = mtime_ns(&st);
}

static bool is_in_question(const struct record *r)
{
	return r->i.attr.flags & (STORE_FLAG_LENT | STORE_FLAG_STRANDED) ||
	       (r->i.attr.state == FILE_DELETING && r->i.state_before == FILE_INCOMPLETE);
}

/* One that was lent, or still is. */
static int recover_file(struct store *s, uint64_t ino, bool *ret_stranded)
{
	enum lent_verdict verdict = LENT_OVER;
	struct record old, new;
	bool was_closed;
	int r;

	with_lock(&s->lock);
	r = record_get(s, ino, &old);
	if (r < 0 || !is_in_question(&old))
		return r == -ENOENT ? 0 : r;
	new = old;
	was_closed = old.i.attr.flags & STORE_FLAG_LENT;
	if (s->recovery.same_boot)
		verdict = lent_judge(s->dir_fd, ino, was_closed ? &old.i.attr : NULL);
	lent_strand(&new, verdict);
	if (verdict != LENT_OVER || old.i.attr.flags & STORE_FLAG_STRANDED) {
		lent_learn(s->dir_fd, ino, &new.i);
		new.i.chunk_count = chunk_count_of(new.i.part_size_bytes, new.i.attr.size_bytes);
		new.present_bytes = new.i.attr.size_bytes;
	}
	s->recovery.incomplete_files += old.i.attr.state == FILE_CLOSED && verdict != LENT_OVER;
	*ret_stranded = *ret_stranded || verdict == LENT_HELD;
	op_begin(s);
	op_inode(s, &old, &new);
	return op_commit(s);
}

static int recover_state(struct store *s, enum file_state state, bool *ret_stranded)
{
	struct store_queue_item items[BATCH], last = {0}, *after = NULL;
	int count;

	while ((count = store_queue(s, state, after, items, BATCH)) > 0) {
		for (int i = 0; i < count; i++) {
			int r = recover_file(s, items[i].ino, ret_stranded);

			if (r < 0)
				return r;
		}
		last = items[count - 1];
		after = &last;
	}
	return count;
}

bool lent_ever(struct store *s)
{
	uint64_t lent = 0;

	with_lock(&s->lock);
	return meta_get_u64(&s->index, META_LENT, &lent) == 0 && lent;
}

int lent_recover(struct store *s)
{
	static const enum file_state states[] = {
		FILE_CLOSED, FILE_HELD, FILE_DELETING, FILE_INCOMPLETE};
	bool stranded = false;
	int r = 0;

	if (!lent_ever(s))
		return 0;
	for (size_t i = 0; r == 0 && i < array_len(states); i++)
		r = recover_state(s, states[i], &stranded);
	if (r < 0 || stranded)
		return r;
	with_lock(&s->lock);
	op_begin(s);
	op_meta_u64(s, META_LENT, 0);
	return op_commit(s);
}
