/*
 * The disk fails at its 1st, 2nd, 3rd … call until a sequence of steps passes untouched. After each:
 * a step that failed with one record changed nothing, the next ones work, and a new start finds all
 * that was acknowledged. Likewise while a cache is opened.
 */
#define SCRATCH_ON_DISK
#include "store_disk.h"
#include "store_model.h"
#include "store_private.h"

#define SWEEP_STEPS 45

struct fault {
	long at;
	int error;
	bool lasts; /* until the step is over */
};

struct sweep {
	struct fault fault;
	struct model *model;
	struct m_progress *progress; /* shared */
	bool *met;                   /* shared */
	uint64_t *failed_step;       /* shared: 0 none, else counted from 1 */
};

/* Steps that are one record: they are made or not made. */
static bool is_one_record(const struct m_op *op)
{
	return op->kind == M_MKDIR || op->kind == M_RENAME || op->kind == M_UNLINK ||
	       op->kind == M_RMDIR || op->kind == M_CHMOD || op->kind == M_UTIME;
}

static void fault_begin(const struct fault *fault)
{
	disk_on(DISK_FAIL, fault->at, fault->error);
	disk.lasts = fault->lasts;
}

/* False: this step failed in a way after which the child stops. */
static bool step_under_faults(struct rig *r, struct sweep *s, struct model *before, uint64_t n)
{
	struct m_op op = m_next(s->model);
	int want, got;

	*before = *s->model;
	want = m_apply(s->model, &op);
	got = m_do(r, s->model, before, &op);
	if (disk.met)
		disk_off(); /* one fault a run */
	if (got == want)
		return true;
	if (!disk.met)
		must_failed(__FILE__, __LINE__, "step %" PRIu64 " (kind %d): %d, not %d", n,
			(int)op.kind, got, want);
	must(got == -s->fault.error || got == -EIO || got == -ENOSPC);
	if (op.kind == M_EVICT || op.kind == M_CHECKPOINT || op.kind == M_FLUSH_ALL)
		return true; /* they change nothing that is seen */
	if (!is_one_record(&op))
		return false;
	*s->model = *before;
	*s->failed_step = n;
	return true;
}

static bool *excuse_met;

static bool met_in_this_step(void)
{
	if (!disk.armed || !disk.met)
		return false;
	*excuse_met = true;
	return true;
}

static void work_sweep(struct rig *r, void *arg)
{
	static struct model before;
	struct sweep *s = arg;

	m_bind(r, s->model);
	excuse_met = s->met;
	rig_excused = met_in_this_step;
	fault_begin(&s->fault);
	for (uint64_t n = 1; n <= SWEEP_STEPS; n++) {
		bool go_on;

		s->progress->started++;
		go_on = step_under_faults(r, s, &before, n);
		*s->met = disk.met;
		if (!go_on)
			break;
		s->progress->done++;
	}
	disk_off();
}

/* As m_follow, but a step that failed is not made. */
static void follow(struct sweep *s, struct m_progress *rest)
{
	for (uint64_t n = 1; n <= s->progress->done; n++) {
		struct m_op op = m_next(s->model);

		if (n != *s->failed_step)
			(void)m_apply(s->model, &op);
	}
	*rest = (struct m_progress){.started = s->progress->started - s->progress->done};
}

/* Returns whether the fault was met. */
static bool one_run(struct rig *r, struct sweep *s, uint64_t seed)
{
	struct m_progress rest;

	rig_empty(r);
	*s->progress = (struct m_progress){0};
	*s->met = false;
	*s->failed_step = 0;
	m_init(s->model, seed);
	rig_child(r, work_sweep, s, CHILD_KILLED);
	follow(s, &rest);
	rig_open(r);
	m_must_follow(r, s->model, &rest);
	rig_close(r);
	return *s->met;
}

static void sweep(struct rig *r, int error, bool lasts)
{
	static struct model model;
	struct sweep s = {.fault = {.at = 1, .error = error, .lasts = lasts}, .model = &model};
	uint64_t seed = rig_seed();
	struct {
		struct m_progress progress;
		bool met;
		uint64_t failed_step;
	} *shared = rig_shared(sizeof(*shared));

	s.progress = &shared->progress;
	s.met = &shared->met;
	s.failed_step = &shared->failed_step;
	for (;; s.fault.at++) {
		snprintf(rig_context, sizeof(rig_context),
			"CPGFS_TEST_SEED=%" PRIu64 ", errno %d at call %ld", seed, error, s.fault.at);
		if (!one_run(r, &s, seed))
			break;
	}
	rig_context[0] = '\0';
	print_message("%ld calls\n", s.fault.at - 1);
	must(s.fault.at > SWEEP_STEPS / 3);
	munmap(shared, sizeof(*shared));
}

static void steps_with_a_full_disk_at_every_call(void **state)
{
	sweep(*state, ENOSPC, true);
}

static void steps_with_a_broken_call_at_every_call(void **state)
{
	sweep(*state, EIO, false);
}

/* ---- opening and closing ------------------------------------------------------------------------------------- */

static void work_little(struct rig *r, void *arg)
{
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 10000, 1);
	struct store_file *f;

	rig_bring(r, ino, FILE_QUEUED);
	f = rig_write_begin(r, rig_create(r, STORE_ROOT_INO, "open", STORE_FILE));
	rig_write_pattern(f, 0, 100, 1);
}

static void must_find_little(struct rig *r)
{
	rig_must_hold(r, rig_find(r, "f"), 10000, 1);
	must_state(rig_state(r, rig_find(r, "f")), FILE_QUEUED);
	must_state(rig_state(r, rig_find(r, "open")), FILE_INCOMPLETE);
	rig_must_count(r, STORE_ROOT_INO);
}

static void work_nothing(struct rig *r, void *arg)
{
}

/* A failed start says why, keeps all, and lets go of the lock. */
static void open_with_a_fault_at_every_call(void **state)
{
	struct rig *r = *state;
	unsigned refused = 0;
	long at;

	rig_child(r, work_little, NULL, CHILD_KILLED);
	for (at = 1;; at++) {
		cleanup_free char *message = NULL;
		int e;

		snprintf(rig_context, sizeof(rig_context), "EIO at call %ld of a start", at);
		disk_on(DISK_FAIL, at, EIO);
		e = rig_try_open(r, &message);
		disk_off();
		if (e == 0) {
			must_find_little(r);
			rig_close(r);
			if (!disk.met)
				break;
			rig_child(r, work_nothing, NULL, CHILD_KILLED);
			continue;
		}
		must(disk.met);
		must(message != NULL && message[0] != '\0');
		must(r->s == NULL);
		refused++;
	}
	must(refused >= 3);
	rig_open(r);
	must_find_little(r);
	rig_context[0] = '\0';
}

/* A failed end loses nothing: the next start recovers. */
static void close_with_a_fault_at_every_call(void **state)
{
	struct rig *r = *state;
	long at;

	for (at = 1;; at++) {
		char name[24];

		snprintf(rig_context, sizeof(rig_context), "EIO at call %ld of an end", at);
		snprintf(name, sizeof(name), "f%ld", at);
		rig_open(r);
		(void)rig_put(r, STORE_ROOT_INO, name, 100, 1);
		disk_on(DISK_FAIL, at, EIO);
		rig_close(r);
		disk_off();
		rig_open(r);
		rig_must_hold(r, rig_find(r, name), 100, 1);
		must_eq(rig_files_in(r, FILE_CLOSED), at);
		rig_close(r);
		if (!disk.met)
			break;
	}
	must(at > 3);
	rig_context[0] = '\0';
}

/* ---- one call that fails, looked at closely --------------------------------------------------------------------- */

static void failed_append_changes_nothing(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), f = rig_put(r, d, "f", 100, 1);
	struct store_attr before = rig_attr(r, f);

	disk_on(DISK_FAIL, 1, ENOSPC);
	disk.files_mask = 1u << DISK_JOURNAL | 1u << DISK_INDEX;
	disk.lasts = true;
	must(store_rename(r->s, d, "f", STORE_ROOT_INO, "g", 0, 0) < 0);
	must(store_unlink(r->s, d, "f", 0) < 0);
	must(rig_step(r, f, FILE_CLOSED, FILE_SETTLED, NULL) < 0);
	must(store_rmdir(r->s, STORE_ROOT_INO, "x") == -ENOENT);
	disk_off();
	must_eq(rig_find(r, "d/f"), f);
	must_eq(rig_resolve_error(r, "g"), -ENOENT);
	must_state(rig_state(r, f), FILE_CLOSED);
	must_eq(rig_attr(r, f).generation, before.generation);
	rig_must_hold(r, f, 100, 1);
	rig_must_count(r, STORE_ROOT_INO);
	must_eq(store_rename(r->s, d, "f", STORE_ROOT_INO, "g", 0, 0), 0);
	rig_reopen(r);
	must_eq(rig_find(r, "g"), f);
}

/* A close whose record cannot be written says so, and a later one can do it. */
static void failed_flush_is_told_and_can_be_tried_again(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 100, 1);
	disk_on(DISK_FAIL, 1, EIO);
	disk.files_mask = 1u << DISK_JOURNAL | 1u << DISK_INDEX;
	disk.lasts = true;
	must(store_file_flush(f, false, NULL) < 0);
	disk_off();
	must_state(rig_state(r, ino), FILE_OPEN);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
	rig_must_hold(r, ino, 100, 1);
}

/* Never closed by anybody who was told so: not whole, also after an end without a kill. */
static void never_flushed_is_incomplete_at_the_next_start(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 100, 1);
	store_file_writer_drop(f);
	store_file_close(f);
	rig_reopen(r);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
	rig_must_hold(r, ino, 100, 1);
}

static void refuse_write(
	struct store_file *f, const void *bytes, size_t count, uint64_t at, int error)
{
	uint64_t chunk;

	disk_on(DISK_FAIL, 1, error);
	disk.files_mask = 1u << DISK_DATA;
	must_eq(store_file_write(f, bytes, count, at, false, &chunk), -error);
	disk_off();
}

/* A write that the disk refused leaves no file that counts as whole, and no foreign bytes in it. */
static void failed_write_is_no_whole_file(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 5000, 1);
	refuse_write(f, "abc", 3, 5000, ENOSPC);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
	must_eq(rig_attr(r, ino).size_bytes, 5000);
	rig_must_hold(r, ino, 5000, 1);
	/* written anew it is whole again */
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, 6000, 2);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
}

/* The disk takes no record of a writer's end: it is known, with all bytes, as soon as it takes one. */
static void close_is_recorded_when_the_disk_is_well(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 5000, 1);
	disk_on(DISK_FAIL, 1, EIO);
	disk.lasts = true;
	must_eq(store_file_flush(f, false, NULL), -EIO);
	store_file_writer_drop(f);
	store_file_close(f);
	must_state(rig_state(r, ino), FILE_OPEN);
	must_eq(rig_attr(r, ino).size_bytes, 5000);
	disk_off();
	must_eq(store_start(r->s), 0);
	for (unsigned tries = 0; rig_state(r, ino) == FILE_OPEN; tries++) {
		must(tries < 20000);
		usleep(1000);
	}
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
	rig_must_hold(r, ino, 5000, 1);
	rig_must_count(r, STORE_ROOT_INO);
	rig_reopen(r);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
}

/* Nor at the end of the mount. */
static void close_is_never_recorded(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 5000, 1);
	disk_on(DISK_FAIL, 1, EIO);
	disk.lasts = true;
	must_eq(store_file_flush(f, false, NULL), -EIO);
	store_file_writer_drop(f);
	store_file_close(f);
	rig_close(r);
	disk_off();
	rig_open(r);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
	rig_must_hold(r, ino, 5000, 1);
}

static void write_without_data_file(struct store_file *f)
{
	uint64_t chunk;

	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_OPEN;
	disk.lasts = true;
	must_eq(store_file_write(f, "abc", 3, 0, false, &chunk), -EIO);
	disk_off();
	rig_write_end(f);
}

/* Not even its data file could be made: the program that was told so leaves no empty file behind. */
static void write_that_found_no_file_is_no_whole_file(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	write_without_data_file(f);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
	/* where nothing was changed yet, the old version stands */
	ino = rig_put(r, STORE_ROOT_INO, "g", 100, 1);
	f = rig_write_begin(r, ino);
	write_without_data_file(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
	rig_must_hold(r, ino, 100, 1);
}

/* What the kernel makes of a long write that fails in its middle: the program is told how much was
 * written, and writes the rest again. */
static void failed_write_that_is_made_good_is_whole(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE), chunk;
	struct store_file *f = rig_write_begin(r, ino);
	uint8_t bytes[4000];

	rig_pattern(bytes, sizeof(bytes), 5000, 1);
	rig_write_pattern(f, 0, 5000, 1);
	refuse_write(f, bytes, sizeof(bytes), 5000, EIO);
	must_eq(store_file_write(f, bytes, 1000, 5000, false, &chunk), 0);
	must_eq(store_file_flush(f, false, NULL), 0);
	must_state(rig_state(r, ino), FILE_INCOMPLETE); /* some of it still lacks */
	must_eq(store_file_write(f, bytes, 1000, 5000, false, &chunk), 0);
	refuse_write(f, bytes + 1000, 3000, 6000, EIO);
	must_eq(store_file_write(f, bytes + 1000, 2000, 6000, false, &chunk), 0);
	must_eq(store_file_write(f, bytes + 3000, 1000, 8000, false, &chunk), 0);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
	rig_must_hold(r, ino, 9000, 1);
}

static void failed_append_leaves_what_was_there(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE), chunk;
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 5000, 1);
	disk_on(DISK_FAIL, 1, ENOSPC);
	disk.files_mask = 1u << DISK_DATA;
	must_eq(store_file_write(f, "abc", 3, 0, true, &chunk), -ENOSPC);
	disk_off();
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
	rig_must_hold(r, ino, 5000, 1);
	f = rig_write_begin(r, ino);
	must_eq(store_file_write(f, "abc", 3, 0, true, &chunk), 0);
	rig_must_read(f, 5000, "abc", 3);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must_eq(rig_attr(r, ino).size_bytes, 5003);
}

/* What a failed write left beyond the end is not seen when the file grows over it. */
static void failed_write_leaves_no_bytes_beyond_the_end(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE), chunk;
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 1000, 1);
	disk_on(DISK_FAIL_DONE, 1, EIO);
	disk.files_mask = 1u << DISK_DATA;
	must_eq(store_file_write(f, "abc", 3, 3000, false, &chunk), -EIO);
	disk_off();
	must_eq(store_file_truncate(f, 5000, &chunk), 0);
	rig_must_read_zeros(f, 1000, 4000);
	rig_write_end(f);
}

/* A failed commit keeps all in the journal; a later one takes it. */
static void failed_checkpoint_loses_nothing(void **state)
{
	struct rig *r = *state;

	for (long at = 1; at < 12; at++) {
		char name[16];

		snprintf(name, sizeof(name), "f%ld", at);
		(void)rig_put(r, STORE_ROOT_INO, name, 100, 1);
		disk_on(DISK_FAIL, at, EIO);
		disk.files_mask = 1u << DISK_INDEX;
		if (store_checkpoint(r->s) < 0)
			must(disk.met);
		disk_off();
		must_eq(rig_files_in(r, FILE_CLOSED), at);
		rig_must_hold(r, rig_find(r, name), 100, 1);
	}
	rig_reopen(r);
	must_eq(rig_files_in(r, FILE_CLOSED), 11);
}

static void rename_index(struct rig *r, const char *from, const char *to)
{
	char old[128], new[128];

	snprintf(old, sizeof(old), "%s/%s", r->dir, from);
	snprintf(new, sizeof(new), "%s/%s", r->dir, to);
	must_eq(rename(old, new), 0);
}

/* The index takes nothing and cannot be found for a while; then the maintenance thread opens it anew,
 * and all is there. */
static void index_takes_records_again_when_the_disk_is_well(void **state)
{
	struct rig *r = *state;
	struct store_attr attr;
	const struct store_create what = {
		.parent = STORE_ROOT_INO, .name = "late", .type = STORE_DIR, .mode = 0755};
	int64_t deadline = clock_mono_ms() + 60000;
	int e;

	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);

	rename_index(r, "index", "away");
	disk_on(DISK_FAIL, 1, EIO);
	disk.files_mask = 1u << DISK_INDEX | 1u << DISK_OTHER;
	disk.lasts = true;
	must(store_checkpoint(r->s) < 0);
	disk_off();
	must(store_create(r->s, &what, &attr) < 0);
	must_eq(store_synced(r->s, ino), STORE_UNSYNCED); /* not known is not refused */
	rename_index(r, "away", "index");
	must(store_create(r->s, &what, &attr) < 0);
	must_eq(store_start(r->s), 0);
	while ((e = store_create(r->s, &what, &attr)) < 0 && clock_mono_ms() < deadline)
		usleep(1000);
	must_eq(e, 0);
	rig_must_hold(r, rig_find(r, "f"), 100, 1);
	rig_reopen(r);
	must_eq(rig_find(r, "late"), attr.ino);
	rig_must_hold(r, rig_find(r, "f"), 100, 1);
}

/* ---- on doubt there is something ---------------------------------------------------------------- */

static void remove_in_cache(struct rig *r, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", r->dir, name);
	must_eq(unlink(path), 0);
}

/* Index and journal are gone, and the folder with the only data file cannot be read just now: a new
 * cache there would give the file's number, and its bytes, to another. */
static void unreadable_folder_is_not_taken_for_empty(void **state)
{
	struct rig *r = *state;
	long at;

	rig_open(r);
	(void)rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	rig_close(r);
	remove_in_cache(r, "index/data.mdb");
	remove_in_cache(r, "journal");
	remove_in_cache(r, "witness");
	for (at = 1;; at++) {
		cleanup_free char *message = NULL;

		disk_on(DISK_FAIL, at, EIO);
		disk.calls_mask = 1u << DISK_OPEN;
		must(rig_try_open(r, &message) < 0);
		disk_off();
		must(message != NULL);
		if (!disk.met)
			break;
	}
	must(at > 2);
	must_eq(rig_data_files(r), 1);
}

static void make_orphan(struct rig *r, uint64_t ino)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/data/%02x/%016" PRIx64, r->dir, (unsigned)(ino & 0xff), ino);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	must(fd >= 0);
	close(fd);
}

/* After a power cut: the number of an orphan that could not be seen is not given away. */
static void unreadable_folder_may_hold_an_orphan(void **state)
{
	struct rig *r = *state;
	bool met = true;

	rig_child(r, work_little, NULL, CHILD_KILLED);
	for (long at = 1; met; at++) {
		cleanup_free char *message = NULL;
		uint64_t orphan = 0xc8 + 0x100 * (uint64_t)at;

		make_orphan(r, orphan);
		r->config.boot_id = "another boot";
		disk_on(DISK_FAIL, at, EIO);
		disk.calls_mask = 1u << DISK_OPEN;
		int e = rig_try_open(r, &message);
		met = disk.met;
		disk_off();
		must(e == 0 || met);
		r->config.boot_id = "boot-1";
		if (e < 0)
			continue;
		must(rig_create(r, STORE_ROOT_INO, "new", STORE_FILE) > orphan);
		must_eq(store_unlink(r->s, STORE_ROOT_INO, "new", 0), 0);
		rig_close(r);
		rig_child(r, work_nothing, NULL, CHILD_KILLED);
	}
	rig_open(r);
}

/* ---- the second record of names and checksums ---------------------------------------------------- */

static struct {
	long at, count; /* reads of it fail from this one on; 0: none does */
	bool once;	/* only this one */
} witness_reads;

ssize_t pread(int fd, void *data, size_t len, off_t off)
{
	char link[64], path[512] = "";

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (witness_reads.at && readlink(link, path, sizeof(path) - 1) > 0 &&
		strstr(path, "/witness") && ++witness_reads.count >= witness_reads.at &&
		(!witness_reads.once || witness_reads.count == witness_reads.at)) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pread64, fd, data, len, off);
}

/* It has more than the last commit knows of. */
static void work_killed_at_a_checkpoint(struct rig *r, void *arg)
{
	work_little(r, arg);
	disk_on(DISK_KILL, 1, 0);
	disk.files_mask = 1u << DISK_INDEX;
	(void)!store_checkpoint(r->s);
	must(!"killed");
}

static bool log_says(const char *path, const char *what)
{
	char text[8192];
	cleanup_fd int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	must(n >= 0);
	text[n] = '\0';
	return strstr(text, what);
}

static ino_t witness_number(struct rig *r)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/witness", r->dir);
	must_eq(stat(path, &st), 0);
	return st.st_ino;
}

static void unread_witness(struct rig *r, bool once)
{
	char log[128];
	long at;

	witness_reads.once = once;
	snprintf(log, sizeof(log), "%s.log", r->dir);
	for (at = 1;; at++) {
		(void)unlink(log);
		must_eq(log_open(LOG_LEVEL_INFO, log, false), 0);
		rig_child(r, work_killed_at_a_checkpoint, NULL, CHILD_KILLED);
		ino_t before = witness_number(r);
		witness_reads.count = 0;
		witness_reads.at = at;
		rig_open(r);
		witness_reads.at = 0;
		bool met = witness_reads.count >= at;
		must_eq(store_start(r->s), 0);
		for (int ms = 0; met && ms < 20000 && witness_number(r) == before; ms += 10)
			usleep(10000);
		must_eq(witness_number(r) == before, !met);
		rig_close(r);
		must_eq(log_says(log, "the second record of names and checksums has a hole"), met);
		if (!met)
			break;
		rig_empty(r);
	}
	must(at > (once ? 3 : 6)); /* its front, and what was added since the commit */
	must_eq(log_open(LOG_LEVEL_INFO, NULL, false), 0);
	must_eq(unlink(log), 0);
}

/* From its n-th read on the disk gives nothing of it, or that one read fails: no reason not to mount, but
 * one to say so, and to write it anew. */
static void unread_witness_is_told_of_and_written_anew(void **state)
{
	unread_witness(*state, false);
	rig_empty(*state);
	unread_witness(*state, true);
}

/* A power cut may take every name whose folder was not synced: an index that says "this is a cache"
 * before the journal's name is safe would refuse to start for ever after. */
static void journal_is_safe_before_the_index_says_that_this_is_a_cache(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;

	rig_empty(r);
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.files_mask = 1u << DISK_OTHER; /* the cache directory */
	must_eq(rig_try_open(r, &message), -EIO);
	must(disk.met);
	disk_off();
	remove_in_cache(r, "journal"); /* as the power cut would */
	rig_open(r);
	(void)rig_put(r, STORE_ROOT_INO, "f", 100, 1);
}

struct failed_commit {
	enum disk_action action;
	long at;
};

/* As the maintenance thread does. */
static void mend(struct rig *r)
{
	with_lock(&r->s->lock);
	must_eq(store_mend_locked(r->s), 0);
}

static void work_failed_commit(struct rig *r, void *arg)
{
	const struct failed_commit *c = arg;
	char name[24];

	disk_on(c->action, c->at, EIO);
	disk.files_mask = 1u << DISK_INDEX;
	disk.lasts = true;
	if (store_checkpoint(r->s) < 0)
		must(disk.met);
	disk_off();
	mend(r);
	snprintf(name, sizeof(name), "f%ld", c->at);
	(void)rig_put(r, STORE_ROOT_INO, name, 100, 1); /* in the journal, after that */
	if (!disk.met)
		_exit(0);
}

/* Also when the commit is there although its last write was said to have failed. */
static void killed_after_failed_commits(void **state)
{
	static const enum disk_action actions[] = {DISK_FAIL, DISK_FAIL_DONE};
	struct rig *r = *state;

	for (size_t i = 0; i < array_len(actions); i++) {
		struct failed_commit c = {.action = actions[i]};
		int status;

		rig_empty(r);
		do {
			c.at++;
			snprintf(rig_context, sizeof(rig_context), "action %zu at call %ld", i, c.at);
			status = rig_child_status(r, work_failed_commit, &c, CHILD_KILLED);
			must(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
			rig_open(r);
			must_eq(rig_files_in(r, FILE_CLOSED), c.at);
			rig_must_count(r, STORE_ROOT_INO);
			rig_close(r);
		} while (WIFSIGNALED(status));
		must(c.at > 2);
	}
	rig_context[0] = '\0';
}

/* The last write of a commit is said to have failed, and so is the one that would take it back: perhaps only the
 * page cache has it. Until a commit is on the disk, nothing is written over the journal that the index on the
 * disk needs. */
static void journal_outlives_a_commit_in_doubt(void **state)
{
	struct rig *r = *state;
	struct store_space space;
	unsigned writes;

	(void)rig_put(r, STORE_ROOT_INO, "a", 100, 1);
	disk_on(DISK_PASS, 0, 0);
	must_eq(store_checkpoint(r->s), 0);
	writes = disk.seen[DISK_INDEX][DISK_WRITE];
	disk_off();
	(void)rig_put(r, STORE_ROOT_INO, "b", 100, 1);
	disk_on(DISK_FAIL_DONE, writes, EIO);
	disk.calls_mask = 1u << DISK_WRITE;
	disk.files_mask = 1u << DISK_INDEX;
	disk.lasts = true;
	must_eq(store_checkpoint(r->s), -EIO);
	must(disk.met);
	must_eq(disk.seen[DISK_JOURNAL][DISK_WRITE], 0);
	must_eq(store_setting_set(r->s, "name", "value"), -EIO); /* nothing goes to its front */
	must_eq(disk.seen[DISK_JOURNAL][DISK_WRITE], 0);
	disk_on(DISK_PASS, 0, 0);
	mend(r);
	must(disk.seen[DISK_INDEX][DISK_WRITE] > 0); /* on the disk now */
	disk_off();
	store_space(r->s, &space);
	must_eq(space.journal_bytes, 0);
	(void)rig_put(r, STORE_ROOT_INO, "c", 100, 1);
	must_eq(rig_files_in(r, FILE_CLOSED), 3);
}

/* ---- bytes go after the record that gives them up is on the disk ------------------------------- */

static _Atomic unsigned records_at_risk, bytes_gone;

static void watch_order(enum disk_call call, enum disk_file file)
{
	if (call == DISK_WRITE && file == DISK_JOURNAL)
		records_at_risk++;
	else if (call == DISK_SYNC)
		records_at_risk = 0;
	else if (call == DISK_NAME && bytes_gone++ == 0)
		must_eq(records_at_risk, 0);
}

static void watch_begin(struct rig *r, bool with_thread)
{
	(void)rig_put(r, STORE_ROOT_INO, "old", 100, 1);
	(void)rig_put(r, STORE_ROOT_INO, "new", 200, 2);
	must_eq(store_flush_all(r->s), 0);
	if (with_thread)
		must_eq(store_start(r->s), 0);
	records_at_risk = bytes_gone = 0;
	disk_on(DISK_PASS, 0, 0);
	disk.hook = watch_order;
}

static void watch_end(struct rig *r, unsigned files_left)
{
	int64_t deadline = clock_mono_ms() + 60000;

	while (rig_data_files(r) != files_left && clock_mono_ms() < deadline)
		usleep(1000);
	disk_off();
	must_eq(rig_data_files(r), files_left);
	must_eq(bytes_gone, 1);
}

/* A power cut may bring back the record of a file that was replaced: its bytes must be there then. */
static void replaced_bytes_outlive_an_unsynced_rename(void **state)
{
	struct rig *r = *state;

	watch_begin(r, true);
	must_eq(store_rename(r->s, STORE_ROOT_INO, "new", STORE_ROOT_INO, "old", 0, 0), 0);
	watch_end(r, 1);
	rig_must_hold(r, rig_find(r, "old"), 200, 2);
}

static void removed_bytes_outlive_an_unsynced_unlink(void **state)
{
	struct rig *r = *state;

	watch_begin(r, false);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "old", 0), 0);
	watch_end(r, 1);
}

static void work_unlink(struct rig *r, void *arg)
{
	watch_begin(r, true);
	disk_off();
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "old", 0), 0);
}

/* Killed before the maintenance thread came to it: the next start removes them. */
static void bytes_left_by_a_kill_go_at_the_next_start(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_unlink, NULL, CHILD_KILLED);
	rig_open(r);
	must_eq(rig_data_files(r), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test_closed(steps_with_a_full_disk_at_every_call),
		rig_test_closed(steps_with_a_broken_call_at_every_call),
		rig_test_closed(open_with_a_fault_at_every_call),
		rig_test_closed(close_with_a_fault_at_every_call),
		rig_test(failed_append_changes_nothing),
		rig_test(failed_flush_is_told_and_can_be_tried_again),
		rig_test(never_flushed_is_incomplete_at_the_next_start),
		rig_test(failed_write_is_no_whole_file),
		rig_test(close_is_recorded_when_the_disk_is_well),
		rig_test(close_is_never_recorded),
		rig_test(write_that_found_no_file_is_no_whole_file),
		rig_test(failed_write_that_is_made_good_is_whole),
		rig_test(failed_append_leaves_what_was_there),
		rig_test(failed_write_leaves_no_bytes_beyond_the_end),
		rig_test(failed_checkpoint_loses_nothing),
		rig_test(index_takes_records_again_when_the_disk_is_well),
		rig_test_closed(unreadable_folder_is_not_taken_for_empty),
		rig_test_closed(unreadable_folder_may_hold_an_orphan),
		rig_test_closed(unread_witness_is_told_of_and_written_anew),
		rig_test_closed(journal_is_safe_before_the_index_says_that_this_is_a_cache),
		rig_test_closed(killed_after_failed_commits),
		rig_test(journal_outlives_a_commit_in_doubt),
		rig_test(replaced_bytes_outlive_an_unsynced_rename),
		rig_test(removed_bytes_outlive_an_unsynced_unlink),
		rig_test_closed(bytes_left_by_a_kill_go_at_the_next_start),
	};

	return cmocka_run_group_tests_name("store faults", tests, NULL, NULL);
}
