/*
 * The store short of memory: a change that fails leaves the index as it was, and succeeds when it
 * is asked for again; one that succeeds is there after a kill.
 */
#include <errno.h>

#include "memory_fault.h"

#include "store_private.h"
#include "store_rig.h"

#include <sys/syscall.h>

static char text[RIG_PART_BYTES * 2 + 100];

/* ---- one change each: 0 or -errno ------------------------------------------------------------------- */

struct work {
	struct rig *rig;
	struct store_file *file;
	struct store_attempt attempt;
	bool failed; /* a step did */
};

static struct store_attr attr_of(struct work *w, const char *path)
{
	struct store_attr attr = {0};
	long at = memory_fault_pause();

	must_hold(store_resolve(w->rig->s, path, &attr) == 0);
	memory_fault_resume(at);
	return attr;
}

static uint64_t ino(struct work *w, const char *path)
{
	return attr_of(w, path).ino;
}

static int make(struct work *w, const char *folder, const char *name, enum store_type type)
{
	struct store_create what = {
		.parent = ino(w, folder), .name = name, .type = type, .mode = 0644};
	struct store_attr attr;

	return store_create(w->rig->s, &what, &attr);
}

static int make_folder(struct work *w)
{
	return make(w, "", "d", STORE_DIR);
}

static int make_file(struct work *w)
{
	return make(w, "d", "a", STORE_FILE);
}

static int open_file(struct work *w)
{
	return store_file_open(w->rig->s, ino(w, "d/a"), &w->file);
}

static int write_file(struct work *w)
{
	uint64_t chunk;

	return store_file_write(w->file, text, sizeof(text), 0, false, &chunk);
}

static int truncate_file(struct work *w)
{
	uint64_t chunk;

	return store_file_truncate(w->file, RIG_PART_BYTES + 1, &chunk);
}

static int flush_file(struct work *w)
{
	return store_file_flush(w->file, false, NULL);
}

static int sync_file(struct work *w)
{
	return store_file_sync(w->file, false);
}

static int set_xattr(struct work *w)
{
	return store_xattr_set(w->rig->s, ino(w, "d/a"), "user.x", text, 3000, 0);
}

static int set_mode(struct work *w)
{
	struct store_attr v = {.mode = 0600};

	return store_setattr(w->rig->s, ino(w, "d/a"), STORE_SET_MODE, &v, &v);
}

static int rename_file(struct work *w)
{
	return store_rename(w->rig->s, ino(w, "d"), "a", STORE_ROOT_INO, "b", 0, 0);
}

static int rename_folder(struct work *w)
{
	return store_rename(w->rig->s, STORE_ROOT_INO, "d", STORE_ROOT_INO, "e", 0, 0);
}

static int settle(struct work *w)
{
	struct store_attr attr = attr_of(w, "b");
	struct store_transition t = {.ino = attr.ino,
		.generation = attr.generation,
		.from = FILE_CLOSED,
		.to = FILE_SETTLED};

	return store_state_set(w->rig->s, &t);
}

static int digest(struct work *w)
{
	uint64_t crcs[2] = {
		crc64nvme(0, text, RIG_PART_BYTES), crc64nvme(0, text + RIG_PART_BYTES, 1)};
	struct store_attr attr = attr_of(w, "b");

	return store_version_digested(
		w->rig->s, attr.ino, attr.generation, crcs, 2, FILE_QUEUED, "");
}

static int attempt_begin(struct work *w)
{
	struct store_attr attr = attr_of(w, "b");

	w->attempt = (struct store_attempt){.ino = attr.ino,
		.generation = attr.generation,
		.kind = ATTEMPT_PUT,
		.phase = ATTEMPT_OPEN,
		.key = "b"};
	return store_attempt_begin(w->rig->s, &w->attempt, FILE_QUEUED);
}

static int attempt_end(struct work *w)
{
	struct store_object object = {.key = "b", .etag = "e", .generation = w->attempt.generation};
	struct store_transition t = {.ino = w->attempt.ino,
		.generation = w->attempt.generation,
		.from = FILE_SENDING,
		.to = FILE_UPLOADED};
	bool applied;

	return store_attempt_end(w->rig->s, w->attempt.id, &t, &object, "b", 0, &applied);
}

static int stray(struct work *w)
{
	struct store_object object = {.key = "old", .etag = "e"};

	return store_stray_add(w->rig->s, &object, 5);
}

static int setting(struct work *w)
{
	return store_setting_set(w->rig->s, "name", "value");
}

static int remove_folder(struct work *w)
{
	return store_rmdir(w->rig->s, STORE_ROOT_INO, "e");
}

static int checkpoint(struct work *w)
{
	return store_checkpoint(w->rig->s);
}

static int delete_file(struct work *w)
{
	return store_unlink(w->rig->s, STORE_ROOT_INO, "b", 600000);
}

struct step {
	const char *name;
	int (*run)(struct work *w);
	bool is_one_record; /* done or not done, nothing between */
};

static const struct step steps[] = {
	{"mkdir", make_folder, true},
	{"create", make_file, true},
	{"open", open_file, true},
	{"write", write_file, false}, /* the version opens first */
	{"truncate", truncate_file, false},
	{"flush", flush_file, true},
	{"fsync", sync_file, false},
	{"setxattr", set_xattr, true},
	{"chmod", set_mode, true},
	{"rename", rename_file, true},
	{"rename a folder", rename_folder, true},
	{"settle", settle, true},
	{"checkpoint", checkpoint, true},
	{"digest", digest, true},
	{"begin to send", attempt_begin, true},
	{"sent", attempt_end, true},
	{"stray", stray, true},
	{"setting", setting, true},
	{"rmdir", remove_folder, true},
	{"unlink", delete_file, true},
};

/* ---- the index as it is ------------------------------------------------------------------------------ */

static uint64_t index_digest(struct store *s)
{
	struct ikey none = {.len = 0};
	uint64_t crc = 0;

	with_lock(&s->lock);
	must_hold(store_mend_locked(s) == 0); /* as the maintenance thread does */
	for (int t = TABLE_META + 1; t < TABLE_COUNT_OF; t++) {
		struct index_cursor c;
		int r = index_seek(&s->index, (enum table)t, &none, false, &c);

		for (; r == 0; r = index_next(&c)) {
			crc = crc64nvme(crc, c.key.data, c.key.len);
			crc = crc64nvme(crc, c.value.data, c.value.len);
		}
		index_done(&c);
		must_hold(r == -ENOENT);
	}
	return crc;
}

/* The fault stands still while the test looks. */
static uint64_t looked(struct store *s)
{
	long at = memory_fault_pause();
	uint64_t crc = index_digest(s);

	memory_fault_resume(at);
	return crc;
}

static void play_step(struct work *w, const struct step *step)
{
	struct store *s = w->rig->s;
	uint64_t before = looked(s);
	int r = step->run(w);

	if (r == 0)
		return;
	(void)memory_fault_pause(); /* there is but one failure */
	w->failed = true;
	if (r != -ENOMEM)
		fail_msg("call %ld failed: %s says %s", memory_sweep_at, step->name, strerror(-r));
	if (step->is_one_record && index_digest(s) != before)
		fail_msg("call %ld failed: %s left something", memory_sweep_at, step->name);
	r = step->run(w);
	if (r < 0)
		fail_msg("call %ld failed: %s then says %s", memory_sweep_at, step->name,
			strerror(-r));
}

/* On memory, where there is such a place: a store syncs often. */
static int setup(void **state)
{
	int e = rig_setup_closed(state);
	struct rig *r = *state;

	if (access("/dev/shm", W_OK) == 0) {
		(void)rmdir(r->dir);
		snprintf(r->dir, sizeof(r->dir), "/dev/shm/cpgfs-store-XXXXXX");
		must(mkdtemp(r->dir) != NULL);
	}
	return e;
}

static bool play_all(void *user)
{
	struct rig *r = user;
	struct work w = {.rig = r};
	uint64_t held;
	bool reached;

	memory_fault_begin(memory_sweep_at, false);
	for (size_t i = 0; i < array_len(steps); i++) {
		play_step(&w, &steps[i]);
		if (steps[i].run == open_file)
			store_file_writer_add(w.file);
	}
	reached = w.failed || memory_fault_end();
	store_file_writer_drop(w.file);
	store_file_close(w.file);
	must_eq(store_flush_all(r->s), 0);
	held = index_digest(r->s);
	rig_reopen(r);
	must_hold(index_digest(r->s) == held);
	must_eq(store_forget(r->s, w.attempt.ino), 0);
	return reached;
}

static void changes_happen_or_not(void **state)
{
	struct rig *r = *state;

	memset(text, 'x', sizeof(text));
	rig_open(r);
	memory_sweep("changes", play_all, r, 1);
}

/* ---- what a look at the index decides ------------------------------------------------------------------- */

static bool has_chunks(struct store *s, uint64_t ino)
{
	struct ikey from = ikey_ino(ino);
	struct index_cursor c;
	bool has;

	with_lock(&s->lock);
	has = index_seek(&s->index, TABLE_CHUNK, &from, false, &c) == 0 && c.key.len >= 8 &&
	      get_be64(c.key.data) == ino;
	index_done(&c);
	return has;
}

static uint64_t files_below(struct store *s, uint64_t dir)
{
	struct store_counts counts;
	uint64_t files = 0;

	must_hold(store_counts(s, dir, &counts) == 0);
	for (unsigned state = 0; state < FILE_STATE_COUNT; state++)
		files += counts.files[state];
	return files;
}

static bool look_and_change(void *user)
{
	struct rig *r = user;
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a");
	uint64_t sent = rig_put(r, a, "sent", 10, 1), part = rig_put(r, a, "part", 10, 2);
	struct store_job jobs[2];
	struct store_attr attr;
	bool reached;
	int renamed, removed;

	(void)rig_dir(r, STORE_ROOT_INO, "empty");
	rig_bring(r, sent, FILE_UPLOADED);
	memory_fault_begin(memory_sweep_at, false);
	must_hold(store_rmdir(r->s, STORE_ROOT_INO, "a") < 0);
	must_hold(store_rename(r->s, STORE_ROOT_INO, "empty", STORE_ROOT_INO, "a", 0, 0) < 0);
	renamed = store_rename(r->s, STORE_ROOT_INO, "a", STORE_ROOT_INO, "b", 0, 0);
	removed = store_unlink(r->s, a, "part", 0);
	reached = memory_fault_end();
	must_hold(store_resolve(r->s, renamed == 0 ? "b/sent" : "a/sent", &attr) == 0);
	must_hold(store_jobs(r->s, jobs, 2) == (renamed == 0));
	must_hold(files_below(r->s, STORE_ROOT_INO) == (removed == 0 ? 1 : 2));
	must_hold(removed < 0 || !has_chunks(r->s, part));
	if (renamed == 0)
		must_eq(store_job_end(r->s, jobs[0].id), 0);
	if (removed < 0)
		must_eq(store_unlink(r->s, a, "part", 0), 0);
	must_eq(store_unlink(r->s, a, "sent", 0), 0);
	must_eq(store_forget(r->s, sent), 0);
	must_eq(store_rmdir(r->s, STORE_ROOT_INO, renamed == 0 ? "b" : "a"), 0);
	must_eq(store_rmdir(r->s, STORE_ROOT_INO, "empty"), 0);
	must_hold(files_below(r->s, STORE_ROOT_INO) == 0);
	return reached;
}

/* What could not be looked up is not said to be somebody else's. */
static bool ask_whose(void *user)
{
	struct rig *r = user;
	int old_path, old_name, sent;
	bool reached;

	memory_fault_begin(memory_sweep_at, false);
	old_path = store_key_is_ours(r->s, "a/one");
	old_name = store_key_is_ours(r->s, "two");
	sent = store_key_is_ours(r->s, "three");
	reached = memory_fault_end();
	must_hold(old_path == 1 || (reached && old_path == -ENOMEM));
	must_hold(old_name == 1 || (reached && old_name == -ENOMEM));
	must_hold(sent == 1 || (reached && sent == -ENOMEM));
	return reached;
}

static void nothing_ours_is_taken_for_somebody_elses(void **state)
{
	struct rig *r = *state;

	rig_open(r);
	rig_bring(r, rig_put(r, rig_dir(r, STORE_ROOT_INO, "a"), "one", 10, 1), FILE_UPLOADED);
	must_hold(store_rename(r->s, STORE_ROOT_INO, "a", STORE_ROOT_INO, "b", 0, 0) == 0);
	rig_bring(r, rig_put(r, STORE_ROOT_INO, "two", 10, 1), FILE_UPLOADED);
	must_hold(store_rename(r->s, STORE_ROOT_INO, "two", STORE_ROOT_INO, "moved", 0, 0) == 0);
	rig_bring(r, rig_put(r, STORE_ROOT_INO, "three", 10, 1), FILE_SENDING);
	memory_sweep("asking whose a key is", ask_whose, r, 1);
}

static void nothing_is_taken_for_absent(void **state)
{
	struct rig *r = *state;

	rig_open(r);
	memory_sweep("looking", look_and_change, r, 1);
}

/* ---- a sync that fails ------------------------------------------------------------------------------- */

static _Atomic bool syncfs_fails;
static _Atomic unsigned syncfs_failed;

int syncfs(int fd)
{
	if (!syncfs_fails)
		return (int)syscall(SYS_syncfs, fd);
	syncfs_failed++;
	errno = EIO;
	return -1;
}

/* Whom it concerns is known later. */
static bool fail_and_sync(void *user)
{
	struct rig *r = user;
	uint64_t file = rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	struct store_file *f = rig_file(r, file);
	bool reached;

	syncfs_failed = 0;
	syncfs_fails = true;
	memory_fault_begin(memory_sweep_at, false);
	must_hold(store_flush_all(r->s) < 0);
	reached = memory_fault_end();
	syncfs_fails = false;
	must_hold(store_flush_all(r->s) == 0);
	must_hold(store_file_sync(f, false) == (syncfs_failed ? -EIO : 0));
	store_file_close(f);
	must_hold(store_unlink(r->s, STORE_ROOT_INO, "f", 0) == 0);
	return reached;
}

static void failed_sync_is_not_forgotten(void **state)
{
	struct rig *r = *state;

	rig_open(r);
	memory_sweep("a sync that fails", fail_and_sync, r, 1);
}

/* ---- opening ------------------------------------------------------------------------------------------ */

static bool open_once(void *user)
{
	struct rig *r = user;
	char *message = NULL;
	bool reached;
	int e;

	memory_fault_begin(memory_sweep_at, false);
	e = rig_try_open(r, &message);
	reached = memory_fault_end();
	must_hold(e == 0 || e == -ENOMEM || e == -EAGAIN);
	must_hold(e == 0 || !reached || r->s == NULL);
	free(message);
	if (e < 0)
		rig_open(r);
	must_hold(rig_find(r, "d/a") > 0);
	rig_close(r);
	return reached;
}

static void work_and_die(struct rig *r, void *arg)
{
	(void)rig_put(r, rig_dir(r, STORE_ROOT_INO, "d"), "a", 10, 1);
}

/* After a kill: the journal is replayed. */
static void opens_or_not(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_and_die, NULL, CHILD_KILLED);
	memory_sweep("opening", open_once, r, 1);
}

static void work_and_lose_power(struct rig *r, void *arg)
{
	rig_bring(r, rig_put(r, STORE_ROOT_INO, arg, 10, 1), FILE_QUEUED);
}

static bool judge_once(void *user)
{
	struct rig *r = user;
	char name[32], *message = NULL;
	bool reached;
	int e;

	snprintf(name, sizeof(name), "f%ld", memory_sweep_at);
	r->config.boot_id = "before";
	rig_child(r, work_and_lose_power, name, CHILD_KILLED);
	r->config.boot_id = "after";
	memory_fault_begin(memory_sweep_at, false);
	e = rig_try_open(r, &message);
	reached = memory_fault_end();
	must_hold(e == 0 || e == -ENOMEM || e == -EAGAIN);
	free(message);
	if (e < 0)
		rig_open(r);
	must_hold(rig_state(r, rig_find(r, name)) == FILE_QUEUED);
	rig_close(r);
	return reached;
}

/* After a power cut: short of memory is no reason to call a file damaged. */
static void good_files_are_not_torn(void **state)
{
	struct rig *r = *state;

	memory_sweep("judging", judge_once, r, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(opens_or_not, setup, rig_teardown),
		cmocka_unit_test_setup_teardown(good_files_are_not_torn, setup, rig_teardown),
		cmocka_unit_test_setup_teardown(changes_happen_or_not, setup, rig_teardown),
		cmocka_unit_test_setup_teardown(nothing_is_taken_for_absent, setup, rig_teardown),
		cmocka_unit_test_setup_teardown(
			nothing_ours_is_taken_for_somebody_elses, setup, rig_teardown),
		cmocka_unit_test_setup_teardown(failed_sync_is_not_forgotten, setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("store short of memory", tests, NULL, NULL);
}
