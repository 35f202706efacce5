/*
 * What a killed daemon leaves and the next one makes of it; the lock; other people's caches.
 */
#define SCRATCH_ON_DISK
#include "store_disk.h"
#include "store_model.h"

#include <pthread.h>
#include <sys/inotify.h>

#define P RIG_PART_BYTES

static struct store_recovery report(struct rig *r)
{
	struct store_recovery got;

	store_recovery_report(r->s, &got);
	return got;
}

/* ---- what is done is done ----------------------------------------------------------------------------------- */

static void work_everything(struct rig *r, void *arg)
{
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), e = rig_dir(r, STORE_ROOT_INO, "e");
	uint64_t closed = rig_put(r, d, "closed", 3 * P + 5, 1);
	uint64_t sending = rig_put(r, d, "sending", 100, 2);
	uint64_t done = rig_put(r, d, "done", 100, 3), gone = rig_put(r, d, "gone", 100, 4);
	uint64_t deleted = rig_put(r, d, "deleted", 100, 5), opened;
	struct store_file *f;

	rig_bring(r, sending, FILE_SENDING);
	rig_bring(r, done, FILE_VERIFIED);
	rig_bring(r, deleted, FILE_UPLOADED);
	must_eq(store_unlink(r->s, d, "gone", 0), 0);
	must_eq(store_unlink(r->s, d, "deleted", 60000), 0);
	must_eq(store_rename(r->s, d, "closed", e, "moved", 0, 0), 0);
	must_eq(store_xattr_set(r->s, closed, "user.x", "y", 1, 0), 0);
	must_eq(store_setting_set(r->s, "k", "v"), 0);
	must(gone > done);
	opened = rig_create(r, d, "open", STORE_FILE);
	f = rig_write_begin(r, opened);
	rig_write_pattern(f, 0, 2 * P, 6);
}

static void must_find_everything(struct rig *r)
{
	static struct store_attempt attempts[4];
	char text[8];

	rig_must_hold(r, rig_find(r, "e/moved"), 3 * P + 5, 1);
	must_state(rig_state(r, rig_find(r, "e/moved")), FILE_CLOSED);
	must_state(rig_state(r, rig_find(r, "d/sending")), FILE_SENDING);
	must_eq(store_attempts(r->s, 0, attempts, 4), 1);
	must_text(attempts[0].key, "d/sending");
	must_state(rig_state(r, rig_find(r, "d/done")), FILE_VERIFIED);
	must_eq(rig_resolve_error(r, "d/gone"), -ENOENT);
	must_eq(rig_resolve_error(r, "d/closed"), -ENOENT);
	must_eq(rig_resolve_error(r, "d/deleted"), -ENOENT);
	must(store_key_is_ours(r->s, "d/deleted"));
	must_eq(rig_files_in(r, FILE_DELETING), 1);
	must_eq(store_xattr_get(r->s, rig_find(r, "e/moved"), "user.x", text, 8), 1);
	must_eq(store_setting_get(r->s, "k", text, 8), 0);
	must_eq(rig_data_files(r), 5);
	rig_must_hold(r, rig_find(r, "d/open"), 2 * P, 6);
	must_state(rig_state(r, rig_find(r, "d/open")), FILE_INCOMPLETE);
	rig_must_count(r, STORE_ROOT_INO);
}

static void killed_daemon_loses_nothing(void **state)
{
	struct rig *r = *state;
	struct store_recovery got;

	rig_child(r, work_everything, NULL, CHILD_KILLED);
	rig_open(r);
	got = report(r);
	must(got.was_unclean);
	must(!got.power_cut);
	must(got.replayed_records > 20);
	must_eq(got.incomplete_files, 1);
	must_eq(got.torn_files, 0);
	must_find_everything(r);
	must(rig_inode(r, rig_find(r, "d/open"))->reason[0] != '\0');
	rig_reopen(r);
	got = report(r);
	must(!got.was_unclean);
	must_eq(got.replayed_records, 0);
	must_eq(got.incomplete_files, 0);
	must_find_everything(r);
}

static void exit_without_close_is_no_different(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_everything, NULL, CHILD_EXITS);
	rig_open(r);
	must(report(r).was_unclean);
	must_find_everything(r);
}

static void work_checkpoint(struct rig *r, void *arg)
{
	work_everything(r, arg);
	must_eq(store_checkpoint(r->s), 0);
}

static void killed_after_a_checkpoint(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_checkpoint, NULL, CHILD_KILLED);
	rig_open(r);
	must_eq(report(r).replayed_records, 0);
	must(report(r).was_unclean);
	must_find_everything(r);
}

static void work_nothing(struct rig *r, void *arg)
{
}

static void killed_again_and_again(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_everything, NULL, CHILD_KILLED);
	for (int i = 0; i < 5; i++)
		rig_child(r, work_nothing, NULL, CHILD_KILLED);
	rig_open(r);
	must_find_everything(r);
}

/* ---- files that were open ---------------------------------------------------------------------------------- */

static void work_rewrite(struct rig *r, void *arg)
{
	struct store_file *f = rig_write_begin(r, rig_find(r, "f"));

	rig_write_pattern(f, P, 10, 9);
}

static void set_mtime(struct rig *r, uint64_t ino, int64_t mtime_ns)
{
	struct store_attr values = {.mtime_ns = mtime_ns}, got;

	must_eq(store_setattr(r->s, ino, STORE_SET_MTIME, &values, &got), 0);
	must_eq(got.mtime_ns, mtime_ns);
}

#define OLD_NS (-1500 * NS_PER_S + 7)

static void work_times(struct rig *r, void *arg)
{
	uint64_t set = rig_create(r, STORE_ROOT_INO, "set", STORE_FILE);
	uint64_t written = rig_create(r, STORE_ROOT_INO, "written", STORE_FILE);
	uint64_t closed = rig_put(r, STORE_ROOT_INO, "closed", 10, 1);
	struct store_file *f = rig_write_begin(r, set);

	rig_write_pattern(f, 0, 10, 1);
	set_mtime(r, set, OLD_NS);
	set_mtime(r, closed, OLD_NS);
	f = rig_write_begin(r, written);
	rig_write_pattern(f, 0, 10, 1);
	set_mtime(r, written, OLD_NS);
	rig_write_pattern(f, 10, 10, 1);
}

/* Who was being written when the daemon was killed has the time of its last write, or what was set. */
static void times_after_a_kill(void **state)
{
	struct rig *r = *state;
	int64_t began_ns = clock_wall_ns();

	rig_child(r, work_times, NULL, CHILD_KILLED);
	rig_open(r);
	must_eq(rig_attr(r, rig_find(r, "set")).mtime_ns, OLD_NS);
	must_eq(rig_attr(r, rig_find(r, "closed")).mtime_ns, OLD_NS);
	must(rig_attr(r, rig_find(r, "written")).mtime_ns > began_ns - NS_PER_S);
}

static void rewritten_and_killed_is_incomplete(void **state)
{
	struct rig *r = *state;
	uint64_t ino, generation;
	struct store_file *f;
	uint8_t want[10];

	rig_open(r);
	ino = rig_put(r, STORE_ROOT_INO, "f", 2 * P, 1);
	rig_bring(r, ino, FILE_VERIFIED);
	generation = rig_attr(r, ino).generation;
	rig_close(r);
	rig_child(r, work_rewrite, NULL, CHILD_KILLED);
	rig_open(r);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
	must_eq(rig_attr(r, ino).generation, generation + 1);
	must(!rig_attr(r, ino).in_bucket);
	must_text(rig_inode(r, ino)->object.key, "f");
	f = rig_file(r, ino);
	rig_pattern(want, 10, P, 9);
	rig_must_read(f, P, want, 10);
	store_file_close(f);
}

/* The record comes before the bytes: killed between them, the version is over although not one byte
 * changed. (The other order would leave new bytes under an old version.) */
static void work_killed_at_first_byte(struct rig *r, void *arg)
{
	struct store_file *f = rig_write_begin(r, rig_find(r, "f"));

	disk_on(DISK_KILL, 1, 0);
	disk.calls_mask = 1u << DISK_WRITE;
	disk.files_mask = 1u << DISK_DATA;
	rig_write_pattern(f, 0, 10, 9);
}

static void work_cut_at_first_byte(struct rig *r, void *arg)
{
	struct store_file *f = rig_write_begin(r, rig_find(r, "f"));
	uint64_t chunk;

	disk_on(DISK_KILL, 1, 0);
	disk.calls_mask = 1u << DISK_SIZE;
	disk.files_mask = 1u << DISK_DATA;
	must_eq(store_file_truncate(f, 5, &chunk), 0);
}

static void version_is_over_before_its_bytes_change(void **state)
{
	static void (*const work[])(struct rig *, void *) = {
		work_killed_at_first_byte, work_cut_at_first_byte};
	struct rig *r = *state;
	uint64_t generation, ino;

	rig_open(r);
	ino = rig_put(r, STORE_ROOT_INO, "f", 2 * P, 1);
	rig_close(r);
	for (size_t i = 0; i < array_len(work); i++) {
		struct store_chunk c;

		rig_open(r);
		if (rig_state(r, ino) == FILE_INCOMPLETE)
			must_eq(rig_step(r, ino, FILE_INCOMPLETE, FILE_CLOSED, ""), 0);
		rig_bring(r, ino, FILE_QUEUED);
		generation = rig_attr(r, ino).generation;
		rig_close(r);
		rig_child(r, work[i], NULL, CHILD_KILLED);
		rig_open(r);
		must_eq(rig_attr(r, ino).generation, generation + 1);
		must_state(rig_state(r, ino), FILE_INCOMPLETE);
		rig_must_hold(r, ino, 2 * P, 1);
		must_eq(store_chunk(r->s, ino, 0, &c), 0);
		must(!c.has_crc64nvme);
		rig_close(r);
	}
}

static void work_unlinked_open(struct rig *r, void *arg)
{
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", P, 1);
	struct store_file *f = rig_write_begin(r, ino);

	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
	rig_write_pattern(f, 0, 10, 1);
}

static void unlinked_and_open_is_gone(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_unlinked_open, NULL, CHILD_KILLED);
	rig_open(r);
	must_eq(rig_data_files(r), 0);
	must_eq(rig_files_in(r, FILE_OPEN), 0);
	must_eq(rig_files_in(r, FILE_INCOMPLETE), 0);
}

/* ---- killed at every disk call ------------------------------------------------------------------------------ */

#define SWEEP_STEPS 60

static struct model model;

static void arm(void *arg)
{
	disk_on(DISK_KILL_HALF, *(long *)arg, 0);
}

/* A fixed sequence of steps, killed at its 1st, 2nd, 3rd … disk call until it ends untouched. */
static void killed_at_every_disk_call(void **state)
{
	struct rig *r = *state;
	struct m_progress *p = rig_shared(sizeof(*p));
	uint64_t seed = rig_seed();
	long at = 1;

	for (;; at++) {
		struct m_segment g = {.model = &model,
			.progress = p,
			.steps = SWEEP_STEPS,
			.armed = arm,
			.arm_arg = &at};
		int status;

		snprintf(rig_context, sizeof(rig_context),
			"CPGFS_TEST_SEED=%" PRIu64 ", killed at call %ld", seed, at);
		rig_empty(r);
		*p = (struct m_progress){0};
		m_init(&model, seed);
		status = rig_child_status(r, m_segment_work, &g, CHILD_EXITS);
		must(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
		rig_open(r);
		m_must_follow(r, &model, p);
		rig_close(r);
		if (WIFEXITED(status))
			break;
	}
	rig_context[0] = '\0';
	print_message("%ld disk calls\n", at - 1);
	must(at > SWEEP_STEPS / 2);
	munmap(p, sizeof(*p));
}

/* As fs makes it when an object from elsewhere is changed in place. */
static void work_copy(struct rig *r, void *arg)
{
	struct store_create what = {.parent = STORE_ROOT_INO,
		.name = ".copy",
		.type = STORE_FILE,
		.mode = 0644,
		.flags = STORE_FLAG_COPY};
	struct store_file *f;
	struct store_attr attr;

	disk_on(DISK_KILL_HALF, *(long *)arg, 0);
	must_eq(store_create(r->s, &what, &attr), 0);
	f = rig_write_begin(r, attr.ino);
	rig_write_pattern(f, 0, P, 1);
	rig_write_pattern(f, P, P, 1);
	must_eq(store_rename(r->s, STORE_ROOT_INO, ".copy", STORE_ROOT_INO, "f",
			STORE_RENAME_NOREPLACE, 0),
		0);
	must_eq(store_file_flush(f, false, NULL), 0);
	must_eq(rig_attr(r, attr.ino).flags & STORE_FLAG_COPY, 0);
	store_file_writer_drop(f);
	store_file_close(f);
}

/* Somebody opened it by its new name, wrote and synced before it was closed. */
static void work_synced_copy(struct rig *r, void *arg)
{
	struct store_create what = {.parent = STORE_ROOT_INO,
		.name = "f",
		.type = STORE_FILE,
		.mode = 0644,
		.flags = STORE_FLAG_COPY};
	struct store_attr attr;
	struct store_file *f;

	must_eq(store_create(r->s, &what, &attr), 0);
	f = rig_write_begin(r, attr.ino);
	rig_write_pattern(f, 0, P, 1);
	must_eq(store_file_sync(f, *(bool *)arg), 0);
}

static void synced_copy_is_kept(void **state)
{
	struct rig *r = *state;

	for (int data_only = 0; data_only <= 1; data_only++) {
		bool arg = data_only;

		rig_child(r, work_synced_copy, &arg, CHILD_KILLED);
		rig_open(r);
		must_state(rig_state(r, rig_find(r, "f")), FILE_INCOMPLETE);
		rig_must_hold(r, rig_find(r, "f"), P, 1);
		must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
		rig_close(r);
	}
	rig_open(r);
}

/* Killed at its 1st, 2nd … disk call: it is there whole under its name, or nothing of it is. */
static void copy_killed_at_every_disk_call(void **state)
{
	struct rig *r = *state;
	unsigned gone = 0;

	for (long at = 1;; at++) {
		struct store_entry e[2];
		int status, n;

		snprintf(rig_context, sizeof(rig_context), "killed at call %ld", at);
		rig_empty(r);
		status = rig_child_status(r, work_copy, &at, CHILD_EXITS);
		must(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
		rig_open(r);
		n = store_readdir(r->s, STORE_ROOT_INO, "", e, 2);
		must(n == 0 || (n == 1 && strcmp(e[0].name, "f") == 0));
		must_eq(rig_data_files(r), (uint64_t)n);
		must_eq(rig_files_in(r, FILE_INCOMPLETE), 0);
		if (n) {
			must_state(rig_state(r, e[0].attr.ino), FILE_CLOSED);
			rig_must_hold(r, e[0].attr.ino, 2 * P, 1);
		}
		rig_must_count(r, STORE_ROOT_INO);
		gone += n == 0;
		rig_close(r);
		if (WIFEXITED(status))
			break;
	}
	rig_context[0] = '\0';
	must(gone > 4);
}

/* Bytes that the index knows nothing of are in the way of the first write. */
static void work_bytes_in_the_way(struct rig *r, void *arg)
{
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	cleanup_free uint8_t *data = malloc(9000);
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/data/%02x/%016" PRIx64, r->dir, (unsigned)(ino & 0xff), ino);
	memset(data, 'Z', 9000);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	must_eq(write(fd, data, 9000), 9000);
	close(fd);
	disk_on(DISK_KILL_HALF, *(long *)arg, 0);
	struct store_file *f = rig_write_begin(r, ino);
	rig_write_at(f, "x", 1, 299);
	rig_write_end(f);
}

/* They are kept, once, and what was written is nothing else. */
static void setting_aside_killed_at_every_disk_call(void **state)
{
	struct rig *r = *state;
	char command[256];
	unsigned moved = 0;

	snprintf(command, sizeof(command), "test $(find %s -size 9000c | wc -l) = 1", r->dir);
	for (long at = 1;; at++) {
		uint8_t want[300] = {[299] = 'x'};
		struct store_file *f;
		struct stat st;
		char path[256];
		int status;

		snprintf(rig_context, sizeof(rig_context), "killed at call %ld", at);
		rig_empty(r);
		(void)rmdir((snprintf(path, sizeof(path), "%s/orphans", r->dir), path));
		status = rig_child_status(r, work_bytes_in_the_way, &at, CHILD_EXITS);
		must(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
		rig_open(r);
		must_eq(system(command), 0);
		f = rig_file(r, rig_find(r, "f"));
		moved += stat(path, &st) == 0;
		if (rig_attr(r, rig_find(r, "f")).size_bytes == sizeof(want))
			rig_must_read(f, 0, want, sizeof(want));
		store_file_close(f);
		rig_must_count(r, STORE_ROOT_INO);
		rig_close(r);
		if (WIFEXITED(status))
			break;
	}
	rig_context[0] = '\0';
	must(moved > 2);
}

/* Recovery killed at its 1st, 2nd … disk call, on what the kills before left; at last it gets through. */
static void recovery_killed_at_every_disk_call(void **state)
{
	struct rig *r = *state;
	long at;

	rig_child(r, work_everything, NULL, CHILD_KILLED);
	for (at = 1;; at++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			rig_in_child = true;
			disk_on(DISK_KILL_HALF, at, 0);
			rig_open(r);
			_exit(0);
		}
		must_eq(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status)) {
			must_eq(WEXITSTATUS(status), 0);
			break;
		}
		must_eq(WTERMSIG(status), SIGKILL);
	}
	must(at > 5);
	rig_open(r);
	must_find_everything(r);
}

/* The calls that make a cache, as its maker notes them. */
#define CALLS_MAX 4000
#define CALLS_NEAR 4
#define CALLS_STRIDE 31

static struct calls {
	long count;
	uint8_t kind[CALLS_MAX];
} *calls;

static void note_call(enum disk_call call, enum disk_file file)
{
	if (calls->count < CALLS_MAX)
		calls->kind[calls->count++] = (uint8_t)(file * DISK_CALL_COUNT + call);
}

/* 256 folders are made, and looked into, one like the other. */
static bool is_one_of_many(long at)
{
	for (long n = at - CALLS_NEAR; n <= at + CALLS_NEAR; n++) {
		if (n < 1 || n > calls->count || calls->kind[n - 1] != calls->kind[at - 1])
			return false;
	}
	return true;
}

static int make_cache(struct rig *r, enum disk_action action, long at)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		rig_in_child = true;
		disk_on(action, at, 0);
		disk.hook = action == DISK_PASS ? note_call : NULL;
		rig_open(r);
		_exit(0);
	}
	must_eq(waitpid(pid, &status, 0), pid);
	return status;
}

/* The making of a cache killed at every call: the next start has a cache. */
static void making_killed_at_every_disk_call(void **state)
{
	struct rig *r = *state;
	unsigned killed = 0;
	int status;

	calls = rig_shared(sizeof(*calls));
	rig_empty(r);
	must_eq(make_cache(r, DISK_PASS, 0), 0);
	must(calls->count > 256 && calls->count < CALLS_MAX);
	for (long at = 1;; at++) {
		if (is_one_of_many(at) && at % CALLS_STRIDE)
			continue;
		if (at < 10)
			rig_remove_tree(r->dir);
		else
			rig_empty(r);
		status = make_cache(r, DISK_KILL_HALF, at);
		snprintf(rig_context, sizeof(rig_context), "making killed at call %ld", at);
		rig_open(r);
		must_eq(rig_attr(r, STORE_ROOT_INO).type, STORE_DIR);
		rig_must_hold(r, rig_put(r, STORE_ROOT_INO, "f", 10, 1), 10, 1);
		rig_close(r);
		if (WIFEXITED(status))
			break;
		killed++;
	}
	must_eq(WEXITSTATUS(status), 0);
	rig_context[0] = '\0';
	print_message("killed at %u of %ld calls\n", killed, calls->count);
	must(killed > 10);
	munmap(calls, sizeof(*calls));
}

/* ---- whose cache is it ------------------------------------------------------------------------------------------ */

static void must_refuse(struct rig *r, int error, const char *word)
{
	cleanup_free char *message = NULL;

	must_eq(rig_try_open(r, &message), error);
	must(r->s == NULL);
	must(message != NULL);
	must(strchr(message, '\n') == NULL);
	if (!strstr(message, word))
		must_failed(__FILE__, __LINE__, "\"%s\" does not speak of %s", message, word);
}

static void other_bucket_is_refused(void **state)
{
	struct rig *r = *state;
	const char *ours = r->config.identity;

	rig_open(r);
	(void)rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	rig_close(r);
	r->config.identity = "https://s3.example/bucket/other";
	must_refuse(r, -EXDEV, r->dir);
	r->config.identity = ours;
	rig_open(r);
	rig_must_hold(r, rig_find(r, "f"), 10, 1);
}

static void second_daemon_is_refused(void **state)
{
	struct rig *r = *state;
	int ready[2], go[2], status;
	char byte, pid_text[24];
	pid_t pid;

	must_eq(pipe(ready), 0);
	must_eq(pipe(go), 0);
	pid = fork();
	if (pid == 0) {
		rig_in_child = true;
		rig_open(r);
		must_eq(write(ready[1], "x", 1), 1);
		must_eq(read(go[0], &byte, 1), 1);
		rig_close(r);
		_exit(0);
	}
	must_eq(read(ready[0], &byte, 1), 1);
	snprintf(pid_text, sizeof(pid_text), "%d", (int)pid);
	must_refuse(r, -EBUSY, pid_text);
	must_eq(write(go[1], "x", 1), 1);
	must_eq(waitpid(pid, &status, 0), pid);
	must_eq(status, 0);
	rig_open(r);
	close(ready[0]), close(ready[1]), close(go[0]), close(go[1]);
}

/* A holder that is stopping is waited for. */
static void stopping_daemon_is_waited_for(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;
	int ready[2], status;
	char byte;
	pid_t pid;

	must_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		struct timespec pause = {.tv_nsec = 300000000}; /* a slow end */

		rig_in_child = true;
		rig_open(r);
		store_mark_stopping(r->s);
		must_eq(write(ready[1], "x", 1), 1);
		nanosleep(&pause, NULL);
		rig_close(r);
		_exit(0);
	}
	must_eq(read(ready[0], &byte, 1), 1);
	must_eq(store_open(&r->s, &r->config, 20000, &message), 0);
	must_eq(waitpid(pid, &status, 0), pid);
	close(ready[0]), close(ready[1]);
}

/* Ends the process once somebody has read who holds the lock. */
static void *end_when_read(void *arg)
{
	struct inotify_event event;
	int fd = *(int *)arg;

	_exit(read(fd, &event, sizeof(event)) == sizeof(event) ? 0 : 1);
}

/*
 * A holder that was killed keeps the lock until its last thread is gone, and is waited for. Here its
 * main thread ends first, and the other one once the next daemon has looked who it is.
 */
static void dying_daemon_is_waited_for(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;
	char lock[160];
	int status;
	pid_t pid;

	snprintf(lock, sizeof(lock), "%s/lock", r->dir);
	pid = fork();
	if (pid == 0) {
		pthread_t other;
		static int fd; /* outlives this thread */

		fd = inotify_init1(IN_CLOEXEC);
		rig_in_child = true;
		rig_open(r);
		must(inotify_add_watch(fd, lock, IN_ACCESS) >= 0);
		must_eq(pthread_create(&other, NULL, end_when_read, &fd), 0);
		pthread_exit(NULL);
	}
	while (!process_is_ending(pid))
		sched_yield();
	must_eq(store_open(&r->s, &r->config, 20000, &message), 0);
	must_eq(waitpid(pid, &status, 0), pid);
	if (!getenv("CPGFS_UNDER_VALGRIND")) /* to which all is lost that the main thread knew of */
		must_eq(status, 0);
}

static void cache_is_private(void **state)
{
	struct rig *r = *state;
	struct stat st;

	rig_remove_tree(r->dir);
	rig_open(r);
	must_eq(stat(r->dir, &st), 0);
	must_eq(st.st_mode & 07777, 0700);
}

static void place(struct rig *r, const char *name, char out[128])
{
	snprintf(out, 128, "%s/%s", r->dir, name);
}

static void vanished_parts_are_refused(void **state)
{
	struct rig *r = *state;
	char journal[128], kept[128], index[128], index_kept[128];

	place(r, "journal", journal);
	place(r, "journal-kept", kept);
	place(r, "index", index);
	place(r, "index-kept", index_kept);
	rig_open(r);
	(void)rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	rig_close(r);
	must_eq(rename(journal, kept), 0);
	must_refuse(r, -EUCLEAN, "--cache-dir");
	must_eq(rename(kept, journal), 0);
	must_eq(rename(index, index_kept), 0);
	must_refuse(r, -EUCLEAN, "--cache-dir");
	rig_remove_tree(index);
	must_eq(rename(index_kept, index), 0);
	rig_open(r);
	rig_must_hold(r, rig_find(r, "f"), 10, 1);
}

/* Nothing but a journal is left: its records must not join those of a new index. */
static void vanished_index_beside_a_used_journal(void **state)
{
	struct rig *r = *state;
	char index[128];

	rig_open(r);
	(void)rig_dir(r, STORE_ROOT_INO, "d");
	rig_close(r);
	place(r, "index", index);
	rig_remove_tree(index);
	must_refuse(r, -EUCLEAN, "--cache-dir");
}

static void broken_index_is_refused(void **state)
{
	struct rig *r = *state;
	char index[128], junk[8192];
	int fd;

	rig_open(r);
	(void)rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	rig_close(r);
	place(r, "index/data.mdb", index);
	memset(junk, 0x5a, sizeof(junk));
	fd = open(index, O_RDWR);
	must(fd >= 0);
	must_eq(pwrite(fd, junk, sizeof(junk), 0), sizeof(junk));
	close(fd);
	must_refuse(r, -EUCLEAN, "--cache-dir");
	must_eq(rig_data_files(r), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test_closed(killed_daemon_loses_nothing),
		rig_test_closed(exit_without_close_is_no_different),
		rig_test_closed(killed_after_a_checkpoint),
		rig_test_closed(killed_again_and_again),
		rig_test_closed(times_after_a_kill),
		rig_test_closed(rewritten_and_killed_is_incomplete),
		rig_test_closed(version_is_over_before_its_bytes_change),
		rig_test_closed(unlinked_and_open_is_gone),
		rig_test_closed(killed_at_every_disk_call),
		rig_test_closed(synced_copy_is_kept),
		rig_test_closed(copy_killed_at_every_disk_call),
		rig_test_closed(setting_aside_killed_at_every_disk_call),
		rig_test_closed(recovery_killed_at_every_disk_call),
		rig_test_closed(making_killed_at_every_disk_call),
		rig_test_closed(other_bucket_is_refused),
		rig_test_closed(second_daemon_is_refused),
		rig_test_closed(stopping_daemon_is_waited_for),
		rig_test_closed(dying_daemon_is_waited_for),
		rig_test_closed(cache_is_private),
		rig_test_closed(vanished_parts_are_refused),
		rig_test_closed(vanished_index_beside_a_used_journal),
		rig_test_closed(broken_index_is_refused),
	};

	return cmocka_run_group_tests_name("store recovery", tests, NULL, NULL);
}
