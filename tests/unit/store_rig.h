/*
 * store_rig - what the store's unit tests share: a private cache directory, children that work and
 *             are killed, files brought to a wanted state, and a recount by walking.
 *
 * Children are forked while the store is closed; a failed `must` in one ends it with CHILD_FAILED,
 * so that cmocka runs in the parent only.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/store.h"
#include "scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define RIG_PART_BYTES 4096u
#define CHILD_FAILED 99
#define T0_NS (INT64_C(1700000000) * NS_PER_S)

struct rig {
	char dir[64];
	struct store_config config;
	struct store *s;
	bool fake_clock;
};

/* ---- assertions that work in children too -------------------------------------------------------- */

static bool rig_in_child;
static bool (*rig_excused)(void); /* a child whose disk fails just now may stop where it is */
static char rig_context[256]; /* shown with a failure: which round, which byte, which seed */

static inline void must_failed(const char *file, int line, const char *fmt, ...) printf_like(3, 4);
static inline void must_failed(const char *file, int line, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!rig_in_child) {
		if (rig_context[0])
			print_error("in: %s\n", rig_context);
		print_error("%s:%d: %s\n", file, line, text);
		_fail(file, line);
	}
	if (rig_excused && rig_excused())
		kill(getpid(), SIGKILL);
	fprintf(stderr, "child%s%s: %s:%d: %s\n", rig_context[0] ? " in " : "", rig_context, file,
		line, text);
	_exit(CHILD_FAILED);
}

#define must(expr)                                                                                 \
	((expr) ? (void)0 : must_failed(__FILE__, __LINE__, "does not hold: %s", #expr))
#define must_eq(got, want)                                                                         \
	do {                                                                                       \
		long long got_ = (long long)(got), want_ = (long long)(want);                      \
		if (got_ != want_)                                                                 \
			must_failed(__FILE__, __LINE__, "%s is %lld, not %lld (%s)", #got, got_,   \
				want_, #want);                                                     \
	} while (0)
#define must_state(got, want)                                                                      \
	do {                                                                                       \
		enum file_state got_ = (got), want_ = (want);                                      \
		if (got_ != want_)                                                                 \
			must_failed(__FILE__, __LINE__, "%s is %s, not %s", #got,                  \
				file_state_text(got_), file_state_text(want_));                    \
	} while (0)
#define must_text(got, want)                                                                       \
	do {                                                                                       \
		const char *got_ = (got), *want_ = (want);                                         \
		if (strcmp(got_, want_) != 0)                                                      \
			must_failed(__FILE__, __LINE__, "%s is \"%s\", not \"%s\"", #got, got_,    \
				want_);                                                            \
	} while (0)

/* ---- the cache directory ------------------------------------------------------------------------- */

static inline int rig_remove_one(
	const char *path, const struct stat *st, int type, struct FTW *where)
{
	return remove(path);
}

static inline void rig_remove_tree(const char *dir)
{
	(void)nftw(dir, rig_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline int rig_remove_file(
	const char *path, const struct stat *st, int type, struct FTW *where)
{
	return type == FTW_D || type == FTW_DP ? 0 : remove(path);
}

/* Nothing but empty folders is left: a new cache is made from it, faster than from nothing. */
static inline void rig_empty(struct rig *r)
{
	must_eq(nftw(r->dir, rig_remove_file, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static inline void rig_make(struct rig *r)
{
	*r = (struct rig){.config = {.identity = "https://s3.example/bucket/prefix",
				  .part_size_bytes = RIG_PART_BYTES,
				  .boot_id = "boot-1"}};
	snprintf(r->dir, sizeof(r->dir), "%s/cpgfs-store-XXXXXX", scratch_top());
	must(mkdtemp(r->dir) != NULL);
	r->config.dir = r->dir;
}

static inline int rig_try_open(struct rig *r, char **ret_message)
{
	return store_open(&r->s, &r->config, 0, ret_message);
}

static inline void rig_open(struct rig *r)
{
	cleanup_free char *message = NULL;
	int e = rig_try_open(r, &message);

	if (e < 0)
		must_failed(__FILE__, __LINE__, "store_open: %s (%s)", strerror(-e),
			message ? message : "no message");
}

static inline void rig_close(struct rig *r)
{
	if (r->s)
		store_close(steal_ptr(r->s));
}

static inline void rig_reopen(struct rig *r)
{
	rig_close(r);
	rig_open(r);
}

static inline int rig_setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	rig_context[0] = '\0';
	rig_make(r);
	rig_open(r);
	*state = r;
	return 0;
}

/* Not opened yet: for tests that work in children. */
static inline int rig_setup_closed(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	rig_context[0] = '\0';
	rig_make(r);
	*state = r;
	return 0;
}

static inline int rig_setup_clock(void **state)
{
	int e;

	clock_fake_begin(T0_NS);
	e = rig_setup(state);
	((struct rig *)*state)->fake_clock = true;
	return e;
}

static inline int rig_teardown(void **state)
{
	struct rig *r = *state;

	rig_close(r);
	if (r->fake_clock)
		clock_fake_end();
	rig_remove_tree(r->dir);
	free(r);
	return 0;
}

#define rig_test(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)
#define rig_test_closed(fn) cmocka_unit_test_setup_teardown(fn, rig_setup_closed, rig_teardown)
#define rig_test_clock(fn) cmocka_unit_test_setup_teardown(fn, rig_setup_clock, rig_teardown)

/* ---- children -------------------------------------------------------------------------------------- */

enum child_end { CHILD_KILLED, CHILD_EXITS, CHILD_CLOSES };

/* Memory that children write and the parent reads. */
static inline void *rig_shared(size_t size_bytes)
{
	void *p = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must(p != MAP_FAILED);
	return p;
}

static inline int rig_child_status(
	struct rig *r, void (*work)(struct rig *, void *), void *arg, enum child_end end)
{
	int status;
	pid_t pid;

	check(!r->s);
	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		rig_in_child = true;
		rig_open(r);
		work(r, arg);
		if (end == CHILD_CLOSES)
			rig_close(r);
		if (end == CHILD_KILLED)
			kill(getpid(), SIGKILL);
		_exit(0);
	}
	must_eq(waitpid(pid, &status, 0), pid);
	return status;
}

/* A child opens the store, works, and ends as said. */
static inline void rig_child(
	struct rig *r, void (*work)(struct rig *, void *), void *arg, enum child_end end)
{
	int status = rig_child_status(r, work, arg, end);

	if (end == CHILD_KILLED && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return;
	if (end != CHILD_KILLED && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	must_failed(__FILE__, __LINE__, "the child ended with status %#x", status);
}

/* ---- files ------------------------------------------------------------------------------------------ */

static inline uint64_t rig_create(
	struct rig *r, uint64_t parent, const char *name, enum store_type type)
{
	struct store_create c = {.parent = parent,
		.name = name,
		.type = type,
		.mode = type == STORE_DIR ? 0755 : 0644,
		.uid = 1000,
		.gid = 1001};
	struct store_attr a;
	int e = store_create(r->s, &c, &a);

	if (e < 0)
		must_failed(__FILE__, __LINE__, "create %s: %s", name, strerror(-e));
	return a.ino;
}

static inline uint64_t rig_dir(struct rig *r, uint64_t parent, const char *name)
{
	return rig_create(r, parent, name, STORE_DIR);
}

/* Bytes that depend on the seed and on their place. */
static inline void rig_pattern(void *data, size_t len, uint64_t off, unsigned seed)
{
	uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((off + i) * 31 + ((off + i) >> 8) * 7 + seed * 101 + 1);
}

static inline struct store_file *rig_file(struct rig *r, uint64_t ino)
{
	struct store_file *f = NULL;

	must_eq(store_file_open(r->s, ino, &f), 0);
	return f;
}

static inline void rig_write_at(
	struct store_file *f, const void *data, size_t len, uint64_t off)
{
	uint64_t chunk;

	must_eq(store_file_write(f, data, len, off, false, &chunk), 0);
}

static inline void rig_write_pattern(struct store_file *f, uint64_t off, size_t len, unsigned seed)
{
	cleanup_free uint8_t *data = malloc(len + 1);

	rig_pattern(data, len, off, seed);
	rig_write_at(f, data, len, off);
}

/* Open for writing, as a program would; rig_write_end closes it. */
static inline struct store_file *rig_write_begin(struct rig *r, uint64_t ino)
{
	struct store_file *f = rig_file(r, ino);

	store_file_writer_add(f);
	return f;
}

static inline void rig_write_end(struct store_file *f)
{
	must_eq(store_file_flush(f, false, NULL), 0);
	store_file_writer_drop(f);
	store_file_close(f);
}

/* A new closed file of len patterned bytes. */
static inline uint64_t rig_put(
	struct rig *r, uint64_t parent, const char *name, size_t len, unsigned seed)
{
	uint64_t ino = rig_create(r, parent, name, STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	if (len)
		rig_write_pattern(f, 0, len, seed);
	rig_write_end(f);
	return ino;
}

static inline struct store_attr rig_attr(struct rig *r, uint64_t ino)
{
	struct store_attr a = {0};

	must_eq(store_attr(r->s, ino, &a), 0);
	return a;
}

static inline enum file_state rig_state(struct rig *r, uint64_t ino)
{
	return rig_attr(r, ino).state;
}

/* Static: a store_inode has more than 2 KiB. */
static inline const struct store_inode *rig_inode(struct rig *r, uint64_t ino)
{
	static struct store_inode inode;

	must_eq(store_inode(r->s, ino, &inode), 0);
	return &inode;
}

static inline uint64_t rig_find(struct rig *r, const char *path)
{
	struct store_attr a;
	int e = store_resolve(r->s, path, &a);

	if (e < 0)
		must_failed(__FILE__, __LINE__, "resolve %s: %s", path, strerror(-e));
	return a.ino;
}

static inline int rig_resolve_error(struct rig *r, const char *path)
{
	struct store_attr a;

	return store_resolve(r->s, path, &a);
}

static inline int rig_attr_error(struct rig *r, uint64_t ino)
{
	struct store_attr a;

	return store_attr(r->s, ino, &a);
}

static inline void rig_must_path(struct rig *r, uint64_t ino, const char *want)
{
	cleanup_buf struct buf path = {0};

	must_eq(store_path(r->s, ino, &path), 0);
	must_text(buf_text(&path), want);
}

/* The whole content equals len patterned bytes. */
static inline void rig_must_hold(struct rig *r, uint64_t ino, size_t len, unsigned seed)
{
	cleanup_free uint8_t *got = malloc(len + 16), *want = malloc(len + 16);
	struct store_file *f = rig_file(r, ino);
	uint64_t chunk = 0;

	rig_pattern(want, len, 0, seed);
	must_eq(rig_attr(r, ino).size_bytes, len);
	must_eq(store_file_read(f, got, len + 16, 0, &chunk), len);
	store_file_close(f);
	for (size_t i = 0; i < len; i++)
		if (got[i] != want[i])
			must_failed(__FILE__, __LINE__, "byte %zu of %zu is %#x, not %#x", i, len,
				got[i], want[i]);
}

static inline void rig_must_read(
	struct store_file *f, uint64_t off, const void *want, size_t len)
{
	cleanup_free uint8_t *got = malloc(len + 1);
	uint64_t chunk = 0;

	must_eq(store_file_read(f, got, len, off, &chunk), len);
	if (memcmp(got, want, len) != 0)
		must_failed(__FILE__, __LINE__, "other bytes than expected at %" PRIu64, off);
}

static inline void rig_must_read_zeros(struct store_file *f, uint64_t off, size_t len)
{
	cleanup_free uint8_t *zeros = calloc(1, len + 1);

	rig_must_read(f, off, zeros, len);
}

/* The data file of an inode, by what the kernel says about its descriptor. */
static inline void rig_data_path(struct rig *r, uint64_t ino, char out[4096])
{
	struct store_file *f = rig_file(r, ino);
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", store_file_fd(f));
	n = readlink(link, out, 4095);
	must(n > 0);
	out[n] = '\0';
	store_file_close(f);
}

static inline unsigned rig_count_files(const char *dir)
{
	cleanup_free char *path = NULL;
	struct dirent *e;
	unsigned count = 0;
	DIR *d = opendir(dir);

	while (d && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		free(path);
		must_eq(text_printf(&path, "%s/%s", dir, e->d_name), 0);
		count += e->d_type == DT_DIR ? rig_count_files(path) : 1;
	}
	if (d)
		closedir(d);
	return count;
}

static inline unsigned rig_data_files(struct rig *r)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/data", r->dir);
	return rig_count_files(path);
}

/* ---- a version on its way ----------------------------------------------------------------------------- */

static inline int rig_step(
	struct rig *r, uint64_t ino, enum file_state from, enum file_state to, const char *reason)
{
	struct store_transition t = {.ino = ino,
		.generation = rig_attr(r, ino).generation,
		.from = from,
		.to = to,
		.held = to == FILE_HELD ? HELD_TEMPORARY : HELD_NOT,
		.reason = reason};

	return store_state_set(r->s, &t);
}

/* CRCs of the content as it stands, in chunk order. Returns how many. */
static inline size_t rig_crcs(struct rig *r, uint64_t ino, uint64_t *ret_whole, uint64_t **ret_crcs)
{
	struct store_attr a = rig_attr(r, ino);
	uint64_t part = rig_inode(r, ino)->part_size_bytes;
	size_t count = a.size_bytes ? chunk_count_of(part, a.size_bytes) : 0;
	cleanup_free uint8_t *data = malloc(a.size_bytes + 1);
	uint64_t *crcs = calloc(count + 1, sizeof(*crcs));
	struct store_file *f = rig_file(r, ino);
	uint64_t chunk;

	must_eq(store_file_read(f, data, a.size_bytes, 0, &chunk), a.size_bytes);
	store_file_close(f);
	for (size_t n = 0; n < count; n++) {
		uint64_t start = chunk_start(part, n), len = chunk_size(part, n);

		if (len > a.size_bytes - start)
			len = a.size_bytes - start;
		crcs[n] = crc64nvme(0, data + start, len);
	}
	*ret_whole = crc64nvme(0, data, a.size_bytes);
	*ret_crcs = crcs;
	return count;
}

static inline int rig_digest(struct rig *r, uint64_t ino, enum file_state to)
{
	cleanup_free uint64_t *crcs = NULL;
	uint64_t whole;
	size_t count = rig_crcs(r, ino, &whole, &crcs);

	return store_version_digested(
		r->s, ino, rig_attr(r, ino).generation, crcs, count, to, "");
}

static inline struct store_attempt rig_attempt(struct rig *r, uint64_t ino, enum attempt_kind kind,
	const char *key)
{
	struct store_attr a = rig_attr(r, ino);
	struct store_attempt t = {.ino = ino,
		.generation = a.generation,
		.kind = kind,
		.phase = ATTEMPT_OPEN,
		.size_bytes = a.size_bytes,
		.begun_at_ns = clock_wall_ns()};

	(void)text_copy(t.key, key, sizeof(t.key));
	return t;
}

static inline struct store_object rig_object(struct rig *r, uint64_t ino, const char *key)
{
	struct store_attr a = rig_attr(r, ino);
	struct store_object o = {.size_bytes = a.size_bytes,
		.generation = a.generation,
		.uploaded_at_ns = clock_wall_ns()};

	(void)text_copy(o.key, key, sizeof(o.key));
	snprintf(o.etag, sizeof(o.etag), "etag-%" PRIu64 "-%" PRIu64, ino, a.generation);
	return o;
}

static inline struct store_transition rig_transition(
	struct rig *r, uint64_t ino, enum file_state from, enum file_state to)
{
	return (struct store_transition){.ino = ino,
		.generation = rig_attr(r, ino).generation,
		.from = from,
		.to = to,
		.reason = ""};
}

static inline void rig_upload_as(struct rig *r, uint64_t ino, const char *key)
{
	struct store_attempt a = rig_attempt(r, ino, ATTEMPT_PUT, key);
	struct store_object o = rig_object(r, ino, key);
	struct store_transition t;
	bool applied = false;

	must_eq(store_attempt_begin(r->s, &a, FILE_QUEUED), 0);
	t = rig_transition(r, ino, FILE_SENDING, FILE_UPLOADED);
	must_eq(store_attempt_end(r->s, a.id, &t, &o, key, 0, &applied), 0);
	must(applied);
}

static inline void rig_verify(struct rig *r, uint64_t ino)
{
	struct store_transition t = rig_transition(r, ino, FILE_UPLOADED, FILE_VERIFIED);
	struct store_object o = rig_inode(r, ino)->object;

	o.verified_at_ns = clock_wall_ns();
	must_eq(store_object_set(r->s, &t, &o, false), 0);
}

/* Brings a CLOSED file on to `to` the way upload and verify do; its path is its key. */
static inline void rig_bring(struct rig *r, uint64_t ino, enum file_state to)
{
	cleanup_buf struct buf key = {0};

	must_eq(store_path(r->s, ino, &key), 0);
	if (to == FILE_CLOSED)
		return;
	if (to == FILE_HELD) {
		must_eq(rig_step(r, ino, FILE_CLOSED, to, "its name"), 0);
		return;
	}
	must_eq(rig_step(r, ino, FILE_CLOSED, FILE_SETTLED, NULL), 0);
	if (to == FILE_SETTLED)
		return;
	must_eq(rig_digest(r, ino, FILE_QUEUED), 0);
	if (to == FILE_QUEUED)
		return;
	if (to == FILE_SENDING) {
		struct store_attempt a = rig_attempt(r, ino, ATTEMPT_PUT, buf_text(&key));

		must_eq(store_attempt_begin(r->s, &a, FILE_QUEUED), 0);
		return;
	}
	if (to == FILE_FAILED || to == FILE_CONFLICT) {
		must_eq(rig_step(r, ino, FILE_QUEUED, to, "refused"), 0);
		return;
	}
	rig_upload_as(r, ino, buf_text(&key));
	if (to == FILE_UPLOADED)
		return;
	rig_verify(r, ino);
	if (to == FILE_VERIFIED)
		return;
	if (to == FILE_GONE) {
		must_eq(rig_step(r, ino, FILE_VERIFIED, to, "vanished"), 0);
		return;
	}
	must_failed(__FILE__, __LINE__, "no way to bring a file to %s", file_state_text(to));
}

/* ---- counts, and the same by walking --------------------------------------------------------------- */

/* The folders of a folder, by name, end to end. */
static inline void rig_folders(struct rig *r, uint64_t dir, struct buf *ret)
{
	struct store_entry *page = calloc(3, sizeof(*page));
	char after[STORE_NAME_MAX + 1] = "";
	int n;

	while ((n = store_readdir_folders(r->s, dir, after, page, 3)) > 0) {
		for (int i = 0; i < n; i++) {
			must_eq(page[i].attr.type, STORE_DIR);
			buf_printf(ret, "%s/%" PRIu64 "/", page[i].name, page[i].attr.ino);
		}
		(void)text_copy(after, page[n - 1].name, sizeof(after));
	}
	must_eq(n, 0);
	free(page);
}

static inline void rig_recount(struct rig *r, uint64_t dir, struct store_counts *c)
{
	cleanup_buf struct buf folders = {0}, seen = {0};
	struct store_entry *page = calloc(16, sizeof(*page));
	char after[STORE_NAME_MAX + 1] = "";
	int n;

	rig_folders(r, dir, &folders);

	while ((n = store_readdir(r->s, dir, after, page, 16)) > 0) {
		for (int i = 0; i < n; i++) {
			const struct store_attr *a = &page[i].attr;

			if (a->type == STORE_DIR) {
				buf_printf(&seen, "%s/%" PRIu64 "/", page[i].name, a->ino);
				rig_recount(r, a->ino, c);
				continue;
			}
			c->files[a->state]++;
			c->bytes[a->state] += a->size_bytes;
			if (a->state == FILE_HELD)
				c->held[rig_inode(r, a->ino)->held]++;
			if (a->flags & STORE_FLAG_FOREIGN)
				c->foreign_files++;
		}
		(void)text_copy(after, page[n - 1].name, sizeof(after));
	}
	must_eq(n, 0);
	must_text(buf_text(&folders), buf_text(&seen));
	free(page);
}

/* Counters of this folder and of all below equal what walking finds (of states that are seen by
 * walking: not DELETING). */
static inline void rig_must_count(struct rig *r, uint64_t dir)
{
	struct store_counts got = {0}, want = {0};
	struct store_entry *page;
	char after[STORE_NAME_MAX + 1] = "";
	int n;

	must_eq(store_counts(r->s, dir, &got), 0);
	rig_recount(r, dir, &want);
	for (int s = FILE_NONE; s < FILE_STATE_COUNT; s++) {
		if (s == FILE_NONE || s == FILE_DELETING)
			continue;
		if (got.files[s] != want.files[s] || got.bytes[s] != want.bytes[s])
			must_failed(__FILE__, __LINE__,
				"folder %" PRIu64 " counts %" PRIu64 " files, %" PRIu64
				" bytes as %s; walking finds %" PRIu64 ", %" PRIu64,
				dir, got.files[s], got.bytes[s], file_state_text(s), want.files[s],
				want.bytes[s]);
	}
	for (int k = 0; k < HELD_KIND_COUNT; k++)
		must_eq(got.held[k], want.held[k]);
	page = calloc(16, sizeof(*page));
	while ((n = store_readdir(r->s, dir, after, page, 16)) > 0) {
		for (int i = 0; i < n; i++)
			if (page[i].attr.type == STORE_DIR)
				rig_must_count(r, page[i].attr.ino);
		(void)text_copy(after, page[n - 1].name, sizeof(after));
	}
	free(page);
}

static inline uint64_t rig_files_in(struct rig *r, enum file_state state)
{
	struct store_counts c = {0};

	must_eq(store_counts(r->s, STORE_ROOT_INO, &c), 0);
	return c.files[state];
}

/* Inodes of a state in queue order, up to max. */
static inline int rig_queue(struct rig *r, enum file_state state, uint64_t *out, size_t max)
{
	struct store_queue_item item, after;
	const struct store_queue_item *from = NULL;
	size_t count = 0;
	int n;

	while ((n = store_queue(r->s, state, from, &item, 1)) > 0) {
		if (count < max)
			out[count] = item.ino;
		count++;
		after = item;
		from = &after;
	}
	must_eq(n, 0);
	return (int)count;
}

/* ---- random numbers that a seed repeats --------------------------------------------------------------- */

static inline uint64_t rig_random(uint64_t *seed)
{
	uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* CPGFS_TEST_SEED repeats a run. */
static inline uint64_t rig_seed(void)
{
	const char *text = getenv("CPGFS_TEST_SEED");
	uint64_t seed;

	if (!text || u64_parse(text, &seed) < 0)
		seed = random_u64() % 1000000000;
	print_message("CPGFS_TEST_SEED=%" PRIu64 "\n", seed);
	return seed;
}
