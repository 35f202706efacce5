/*
 * store - open, close, lock and format of a cache directory.
 *
 *   lock       held by the daemon (open file description lock); holds its pid for people
 *   index/     LMDB
 *   journal    write-ahead journal
 *   witness    second record of names and checksums, for `cpgfs repair`
 *   data/<xx>/ one sparse file per inode, xx = its last byte
 */
#define LOG_ROOM "store"

#include "store_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define LOCK_RETRY_MS 100

void store_say(char **ret_message, const char *fmt, ...)
{
	char text[1024];
	va_list args;
	if (*ret_message)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	*ret_message = text_dup(text);
}

/* As a shell needs it. */
char *store_quoted(const char *path)
{
	cleanup_buf struct buf b = { 0 };
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%=";
	if (path[strspn(path, plain)] == '\0')
		return text_dup(path);
	buf_add_char(&b, '\'');
	for (const char *p = path; *p; p++)
		if (*p == '\'')
			buf_add_text(&b, "'\\''");
		else
			buf_add_char(&b, *p);
	buf_add_char(&b, '\'');
	return buf_steal(&b);
}

static void say_repair(struct store *s, char **ret_message, const char *what, const char *how)
{
	cleanup_free char *dir = store_quoted(s->dir);
	store_say(ret_message,
		"the %s %s is %s; nothing was changed, and its data is kept: `cpgfs repair --cache-dir "
		"%s` rebuilds what can be rebuilt (--dry-run shows what it would do)",
		what, s->dir, how, dir ? dir : s->dir);
}

/* ---- the lock ---------------------------------------------------------------------------------------------- */

static void read_holder(int fd, char out[64])
{
	ssize_t n = pread(fd, out, 63, 0);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
}

static int write_holder(int fd, const char *what)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "%s %d\n", what, (int)getpid());
	int r = io_truncate(fd, 0);
	return r < 0 ? r : io_pwrite(fd, text, (size_t)len, 0);
}

#define NOBODY 65534 /* what root's files belong to on some network file systems */

/* Files of two users in one cache: soon neither could use it. */
static int check_owner(struct store *s, int fd, char **ret_message)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid == geteuid() || st.st_uid == NOBODY)
		return 0;
	store_say(ret_message,
		"the cache directory %s belongs to user %u, not to %u: mount as that user, change its "
		"owner (chown -R), or give another --cache-dir",
		s->dir, (unsigned)st.st_uid, (unsigned)geteuid());
	return -EPERM;
}

/* One that was killed holds the lock until the last of its threads is gone. */
static bool is_at_work(const char *holder)
{
	uint64_t pid;
	return text_starts(holder, "running ") &&
		(u64_parse(holder + strlen("running "), &pid) < 0 || !process_is_ending((pid_t)pid));
}

/* Waits only for a holder that says it is stopping, has not said anything yet, or was killed. */
int store_take_lock(struct store *s, int64_t wait_ms, char **ret_message)
{
	char holder[64];
	int64_t deadline = clock_mono_ms() + wait_ms;
	cleanup_fd int fd = -1;
	int r = io_openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600, &fd);
	if (r == 0)
		r = check_owner(s, fd, ret_message);
	if (r < 0)
		return r;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		read_holder(fd, holder);
		if (is_at_work(holder) || clock_mono_ms() >= deadline) {
			const char *pid = strchr(holder, ' ');
			store_say(ret_message,
				"the cache directory %s is in use by another cpgfs (pid%s): unmount that, or "
				"give another --cache-dir",
				s->dir, pid ? pid : " unknown");
			return -EBUSY;
		}
		struct timespec pause = { .tv_nsec = LOCK_RETRY_MS * 1000000L };
		nanosleep(&pause, NULL);
	}
	r = write_holder(fd, "running");
	if (r == 0)
		s->lock_fd = steal_fd(&fd);
	return r;
}

void store_mark_stopping(struct store *s)
{
	int r = write_holder(s->lock_fd, "stopping");
	if (r < 0)
		log_warn("%s/lock could not be written (%s): a mount that wants this cache now is refused "
			 "instead of waiting for it",
			s->dir, strerror(-r));
}

void store_mark_ended(struct store *s, int exit_code)
{
	char what[32];
	snprintf(what, sizeof(what), "ended-%d", exit_code);
	int r = write_holder(s->lock_fd, what);
	if (r < 0)
		log_warn("%s/lock could not be written (%s): `cpgfs umount --drain` cannot tell how it ended",
			s->dir, strerror(-r));
}

/* ---- the directory ------------------------------------------------------------------------------------------- */

static int open_dir(struct store *s, char **ret_message)
{
	int r = io_mkdir_p(s->dir, 0700);
	if (r == 0)
		r = io_open(s->dir, O_RDONLY | O_DIRECTORY, 0, &s->dir_fd);
	if (r < 0)
		store_say(ret_message, "the cache directory %s cannot be used: %s", s->dir, strerror(-r));
	return r;
}

static int make_dir(struct store *s, const char *name)
{
	return mkdirat(s->dir_fd, name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static bool exists(struct store *s, const char *name)
{
	struct stat st;
	return fstatat(s->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* It is made with its full length before the index says that this is a cache. */
static bool journal_is_long(struct store *s)
{
	struct stat st;
	return fstatat(s->dir_fd, "journal", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		(uint64_t)st.st_size >= JOURNAL_ROOM_BYTES;
}

static int make_data_dirs(struct store *s)
{
	int r = make_dir(s, "data");
	for (unsigned sub = 0; r == 0 && sub < 256; sub++) {
		char path[32];
		snprintf(path, sizeof(path), "data/%02x", sub);
		r = make_dir(s, path);
	}
	return r;
}

static int put_text(struct store *s, const char *name, const char *value)
{
	struct ikey k = ikey_text(name);
	return index_put(&s->index, TABLE_META, (struct bytes){ k.data, k.len },
		(struct bytes){ value, strlen(value) });
}

static int put_root(struct store *s)
{
	int64_t now = clock_wall_ns();
	struct record root = { .since_ns = now };
	root.i.attr = (struct store_attr){ .ino = STORE_ROOT_INO, .parent = STORE_ROOT_INO,
		.type = STORE_DIR, .mode = S_IFDIR | 0755, .uid = getuid(), .gid = getgid(),
		.mtime_ns = now, .ctime_ns = now, .atime_ns = now, .generation = 1 };
	cleanup_buf struct buf b = { 0 };
	struct ikey k = ikey_ino(STORE_ROOT_INO);
	int r = record_encode(&root, &b);
	if (r < 0)
		return r;
	return index_put(&s->index, TABLE_INODE, (struct bytes){ k.data, k.len },
		(struct bytes){ b.data, b.len });
}

/* Does any data file stand there? Looked at only when the index says nothing. A folder that cannot be
 * read may hold some. */
static bool has_data_files(struct store *s)
{
	bool found = false;
	for (unsigned sub = 0; sub < 256 && !found; sub++) {
		char path[32];
		snprintf(path, sizeof(path), "data/%02x", sub);
		int fd = openat(s->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
		struct dirent *e;
		errno = d ? 0 : errno;
		while (d && !found && (e = readdir(d)))
			found = e->d_name[0] != '.';
		found = found || (errno && errno != ENOENT);
		if (d)
			closedir(d);
		else if (fd >= 0)
			close(fd);
	}
	return found;
}

/* The journal is made before the index says that this is a cache, so an index without it lost it. */
static int make_journal(struct store *s)
{
	struct journal j = { .fd = -1 };
	int r = journal_open(&j, s->dir_fd);
	journal_close(&j);
	return r;
}

/* A new cache: all of it in one commit, so that it exists whole or not at all. The commit syncs itself;
 * all it stands on is synced before. */
static int format(struct store *s, const char *identity)
{
	int r = make_data_dirs(s);
	if (r == 0)
		r = make_journal(s);
	if (r == 0)
		r = io_syncfs(s->dir_fd);
	if (r == 0)
		r = meta_put_u64(&s->index, "format", FORMAT_VERSION);
	if (r == 0)
		r = put_text(s, "identity", identity);
	if (r == 0)
		r = put_text(s, "boot-id", s->boot_id);
	static const struct {
		const char *name;
		uint64_t value;
	} numbers[] = { { "epoch", 1 }, { "number", 0 }, { "clean", 1 },
		{ "next-ino", STORE_ROOT_INO + 1 }, { "next-attempt", 1 }, { "next-job", 1 } };
	for (size_t i = 0; r == 0 && i < array_len(numbers); i++)
		r = meta_put_u64(&s->index, numbers[i].name, numbers[i].value);
	if (r == 0)
		r = put_root(s);
	if (r == 0)
		r = index_commit(&s->index);
	return r < 0 ? r : index_begin(&s->index);
}

/* A slash at the end of an endpoint, which is the first word, says nothing. */
bool identity_is(const char *a, const char *b)
{
	size_t a_len = strcspn(a, " "), b_len = strcspn(b, " ");
	const char *a_rest = a + a_len, *b_rest = b + b_len;
	a_len -= a_len && a[a_len - 1] == '/';
	b_len -= b_len && b[b_len - 1] == '/';
	return a_len == b_len && memcmp(a, b, a_len) == 0 && strcmp(a_rest, b_rest) == 0;
}

static int check_identity(struct store *s, const char *identity, char **ret_message)
{
	char theirs[KEY_MAX_BYTES + 1024];
	uint64_t version;
	int r = meta_get_u64(&s->index, "format", &version);
	if (r < 0)
		return r;
	if (version > FORMAT_VERSION) {
		store_say(ret_message,
			"the cache directory %s was written by a newer cpgfs (format %" PRIu64
			"): use that version, or give another --cache-dir",
			s->dir, version);
		return -EPROTO;
	}
	r = meta_get_text(&s->index, "identity", theirs, sizeof(theirs));
	if (r < 0)
		return r;
	if (!identity_is(theirs, identity)) {
		store_say(ret_message,
			"the cache directory %s belongs to another bucket, prefix or endpoint (%s): give "
			"another --cache-dir",
			s->dir, theirs);
		return -EXDEV;
	}
	return 0;
}

/* An index that cannot be read although nothing was ever kept here: its making was cut off. */
static int open_or_begin_index(struct store *s, const char *path)
{
	int r = index_open(&s->index, path);
	if (r != -EUCLEAN || has_data_files(s) || journal_is_used(s->dir_fd))
		return r;
	if (unlinkat(s->dir_fd, "index/data.mdb", 0) < 0)
		return r;
	return index_open(&s->index, path);
}

static int open_index(struct store *s, const char *identity, char **ret_message)
{
	cleanup_free char *path = NULL;
	if (exists(s, "index.ready")) {
		say_repair(s, ret_message, "index of the cache", "only half repaired");
		return -EUCLEAN;
	}
	if (!exists(s, "index/data.mdb") && (has_data_files(s) || journal_is_used(s->dir_fd))) {
		say_repair(s, ret_message, "index of the cache", "missing");
		return -EUCLEAN;
	}
	int r = make_dir(s, "index");
	if (r == 0)
		r = text_printf(&path, "%s/index", s->dir);
	if (r == 0)
		r = open_or_begin_index(s, path);
	if (r < 0)
		return r;
	uint64_t version;
	r = meta_get_u64(&s->index, "format", &version);
	if (r == -ENOENT && (has_data_files(s) || journal_is_used(s->dir_fd))) {
		say_repair(s, ret_message, "index of the cache", "missing");
		return -EUCLEAN;
	}
	if (r == -ENOENT) /* new, or its making was cut off */
		r = format(s, identity);
	if (r == 0)
		r = check_identity(s, identity, ret_message);
	if (r == 0 && !exists(s, "journal")) {
		say_repair(s, ret_message, "journal of the cache", "missing");
		return -EUCLEAN;
	}
	if (r == 0 && !journal_is_long(s)) {
		say_repair(s, ret_message, "journal of the cache", "cut off");
		return -EUCLEAN;
	}
	return r;
}

static int open_witness(struct store *s, char **ret_message)
{
	char theirs[KEY_MAX_BYTES + 1024];
	int r = witness_open(s, theirs, sizeof(theirs));
	if (r == -EXDEV) {
		store_say(ret_message,
			"the index in the cache directory %s is not its own: its other files belong to "
			"another bucket, prefix or endpoint (%s); nothing was changed: put the index back "
			"where it came from, or let `cpgfs repair` make one for what is here",
			s->dir, theirs);
	}
	return r;
}

static int load_counters(struct store *s)
{
	struct ikey none = { .len = 0 };
	int r = meta_get_u64(&s->index, "next-ino", &s->next_ino);
	if (r == 0)
		r = meta_get_u64(&s->index, "next-attempt", &s->next_attempt);
	if (r == 0)
		r = meta_get_u64(&s->index, "next-job", &s->next_job);
	if (r < 0)
		return r;
	cleanup_cursor struct index_cursor c;
	for (r = index_seek(&s->index, TABLE_JOB, &none, false, &c); r == 0; r = index_next(&c))
		s->job_count++;
	if (r != -ENOENT)
		return r;
	index_done(&c);
	if (index_seek(&s->index, TABLE_UNSYNCED, &none, false, &c) != -ENOENT)
		s->flush_due_ms = clock_mono_ms() + s->flush_ms;
	return 0;
}

/* From now on an end without store_close is unclean, also after a power cut. */
static int mark_clean(struct store *s, bool clean)
{
	struct ikey boot = ikey_text("boot-id");
	with_lock(&s->lock);
	op_begin(s);
	op_meta_u64(s, "clean", clean);
	op_put(s, TABLE_META, &boot, s->boot_id, strlen(s->boot_id));
	op_meta_u64(s, META_DISK_SEQ, s->disk_seq);
	int r = op_commit(s);
	return r < 0 ? r : checkpoint_locked(s);
}

int store_boot_id(const char *given, char out[64])
{
	if (given)
		return text_copy(out, given, 64) ? 0 : -EINVAL;
	cleanup_fd int fd = -1;
	int r = io_open("/proc/sys/kernel/random/boot_id", O_RDONLY, 0, &fd);
	ssize_t n = r < 0 ? r : read(fd, out, 63);
	if (n <= 0)
		return r < 0 ? r : -EIO;
	out[n] = '\0';
	out[strcspn(out, "\n")] = '\0';
	return 0;
}

/* A partition has that of its disk. */
uint64_t store_disk_seq(uint64_t given, int dir_fd)
{
	static const char *const places[] = { "", "../" };
	struct stat st;
	uint64_t seq = 0;
	if (given || fstat(dir_fd, &st) < 0)
		return given;
	for (size_t i = 0; i < array_len(places) && !seq; i++) {
		char path[64], text[32];
		cleanup_fd int fd = -1;
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%sdiskseq", major(st.st_dev),
			minor(st.st_dev), places[i]);
		if (io_open(path, O_RDONLY, 0, &fd) < 0)
			continue;
		ssize_t n = read(fd, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		text[strcspn(text, "\n")] = '\0';
		if (u64_parse(text, &seq) < 0)
			seq = 0;
	}
	return seq;
}

bool store_disk_is_another(uint64_t before, uint64_t now)
{
	return before && now && before != now;
}

static int open_parts(struct store *s, const struct store_config *config, int64_t lock_wait_ms,
	char **ret_message)
{
	int r = open_dir(s, ret_message);
	if (r == 0)
		r = store_take_lock(s, lock_wait_ms, ret_message);
	if (r == 0)
		r = store_boot_id(config->boot_id, s->boot_id);
	if (r == 0)
		s->disk_seq = store_disk_seq(config->disk_seq, s->dir_fd);
	if (r == 0)
		r = open_index(s, config->identity, ret_message);
	if (r == 0)
		r = journal_open(&s->journal, s->dir_fd);
	if (r == 0)
		r = open_witness(s, ret_message);
	if (r == 0)
		r = recover(s, ret_message);
	if (r == 0)
		r = load_counters(s);
	if (r == 0)
		r = mark_clean(s, false);
	if (r == -EUCLEAN)
		say_repair(s, ret_message, "index or journal of the cache", "damaged");
	return r;
}

void store_free(struct store *s)
{
	index_close(&s->index);
	free(s->index.path);
	journal_close(&s->journal);
	witness_close(s);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	free(s->purges.inos);
	former_release(s);
	buf_release(&s->op.list);
	buf_release(&s->op.witness);
	cond_release(&s->wake);
	cond_release(&s->sync.done);
	lock_release_storage(&s->wake_lock);
	lock_release_storage(&s->sync.lock);
	lock_release_storage(&s->space.lock);
	lock_release_storage(&s->lock);
	free(s->dir);
	free(s);
}

struct store *store_alloc(const struct store_config *config)
{
	struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	lock_init(&s->lock, RANK_STORE_INDEX, "store index");
	lock_init(&s->space.lock, RANK_STORE_SPACE, "store space");
	lock_init(&s->wake_lock, RANK_STORE_SPACE, "store wake");
	lock_init(&s->sync.lock, RANK_STORE_SYNC, "store sync");
	cond_init(&s->wake);
	cond_init(&s->sync.done);
	buf_init(&s->op.list, 16 * MIB);
	s->dir_fd = s->lock_fd = s->journal.fd = s->witness.fd = -1;
	s->cache_size_bytes = config->cache_size_bytes;
	s->min_free_bytes = config->min_free_bytes;
	s->part_size_bytes = config->part_size_bytes ? config->part_size_bytes : 8 * MIB;
	s->stream_bytes = config->stream_bytes;
	s->lend_room_bytes = config->lend_room_bytes ? config->lend_room_bytes : 8 * GIB;
	s->settle_ms = config->settle_ms;
	s->ops_until_commit = CHECKPOINT_OPS_FIRST;
	s->flush_ms = config->flush_ms ? config->flush_ms : 30000;
	s->durability_close = config->durability_close;
	s->dir = text_dup(config->dir);
	if (!s->dir) {
		store_free(s);
		return NULL;
	}
	return s;
}

int store_open(struct store **ret, const struct store_config *config, int64_t lock_wait_ms,
	char **ret_message)
{
	*ret_message = NULL;
	struct store *s = store_alloc(config);
	if (!s)
		return -ENOMEM;
	int r = open_parts(s, config, lock_wait_ms, ret_message);
	if (r < 0) {
		store_say(ret_message, "the cache directory %s cannot be used: %s", config->dir,
			strerror(-r));
		store_free(s);
		return r;
	}
	free(*ret_message);
	*ret_message = NULL;
	*ret = s;
	return 0;
}

void store_subscribe(struct store *s, const struct store_events *events)
{
	check(s->subscriber_count < SUBSCRIBERS_MAX);
	s->subscribers[s->subscriber_count++] = *events;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	store_stop(s);
	lent_forget(s);
	owed_closes(s, false);
	owed_closes(s, true); /* the next start takes size and bytes from the data file */
	if (purge_waiting(s) < 0) {
		/* their grave entries stay: the next start does it */
	}
	int r = flush_unsynced(s);
	if (r == 0)
		r = mark_clean(s, true);
	disk_tell(s, true);
	if (r < 0)
		log_error("the cache could not be closed in order (%s): the journal has it all, and the "
			  "next mount goes on from there",
			strerror(-r));
	store_free(s);
}
