/*
 * After a power cut (another boot id, no clean end): what was synced stands; what was not must prove
 * its bytes by its CRCs; bytes on the disk without a record, and records without bytes.
 */
#include "store_rig.h"

#define P RIG_PART_BYTES

static void place(struct rig *r, const char *name, char out[128])
{
	snprintf(out, 128, "%s/%s", r->dir, name);
}

/* What the disk really kept of a file. */
static void damage(const char *path, uint64_t off)
{
	int fd = open(path, O_RDWR);

	must(fd >= 0);
	must_eq(pwrite(fd, "\xa5\x5a\xa5", 3, (off_t)off), 3);
	close(fd);
}

struct paths {
	char path[16][4096];
};

static void sync_file(struct rig *r, uint64_t ino)
{
	struct store_file *f = rig_file(r, ino);

	must_eq(store_file_sync(f, false), 0);
	store_file_close(f);
}

/* ---- one of each ---------------------------------------------------------------------------------------------- */

enum one {
	DURABLE,
	CHECKED,
	CHECKED_BAD,
	UNCHECKED,
	EMPTY,
	VERIFIED_GOOD,
	VERIFIED_BAD,
	HELD_ONE,
	MOVED_BAD,
	INCOMPLETE_ONE,
	MISSING,
	CONFLICT_BAD,
	ONES
};

static const char *const names[ONES] = {"durable", "checked", "checked-bad", "unchecked", "empty",
	"verified", "verified-bad", "held", "moved-bad", "incomplete", "missing", "conflict-bad"};

static void work_one_of_each(struct rig *r, void *arg)
{
	static const enum file_state to[ONES] = {[DURABLE] = FILE_CLOSED,
		[CHECKED] = FILE_QUEUED,
		[CHECKED_BAD] = FILE_QUEUED,
		[UNCHECKED] = FILE_CLOSED,
		[EMPTY] = FILE_CLOSED,
		[VERIFIED_GOOD] = FILE_VERIFIED,
		[VERIFIED_BAD] = FILE_VERIFIED,
		[HELD_ONE] = FILE_HELD,
		[MOVED_BAD] = FILE_VERIFIED,
		[INCOMPLETE_ONE] = FILE_CLOSED,
		[MISSING] = FILE_QUEUED,
		[CONFLICT_BAD] = FILE_CONFLICT};
	struct paths *p = arg;
	struct store_attr zero = {.mtime_ns = 0}, got;

	for (int i = 0; i < ONES; i++) {
		uint64_t ino = rig_put(
			r, STORE_ROOT_INO, names[i], i == EMPTY ? 0 : 2 * P + 5, (unsigned)i);

		rig_bring(r, ino, to[i]);
		if (i != EMPTY)
			rig_data_path(r, ino, p->path[i]);
	}
	sync_file(r, rig_find(r, "durable"));
	must_eq(store_rename(r->s, STORE_ROOT_INO, "moved-bad", STORE_ROOT_INO, "moved", 0, 0), 0);
	must_eq(store_setattr(r->s, rig_find(r, "incomplete"), STORE_SET_MTIME, &zero, &got), 0);
}

static void play_power_cut(struct rig *r)
{
	struct paths *p = rig_shared(sizeof(*p));

	rig_child(r, work_one_of_each, p, CHILD_KILLED);
	damage(p->path[CHECKED_BAD], P + 1);
	damage(p->path[VERIFIED_BAD], 5);
	damage(p->path[MOVED_BAD], 5);
	damage(p->path[CONFLICT_BAD], 2 * P + 1);
	must_eq(unlink(p->path[MISSING]), 0);
	munmap(p, sizeof(*p));
	r->config.boot_id = "boot-2";
}

static enum file_state state_of(struct rig *r, const char *name)
{
	return rig_state(r, rig_find(r, name));
}

static bool present(struct rig *r, const char *name)
{
	struct store_chunk c;

	must_eq(store_chunk(r->s, rig_find(r, name), 0, &c), 0);
	return c.present;
}

static void must_be_judged(struct rig *r)
{
	must_state(state_of(r, "durable"), FILE_CLOSED);
	must_state(state_of(r, "checked"), FILE_QUEUED);
	must_state(state_of(r, "empty"), FILE_CLOSED);
	must_state(state_of(r, "checked-bad"), FILE_TORN);
	must_state(state_of(r, "unchecked"), FILE_TORN);
	must_state(state_of(r, "held"), FILE_TORN);
	must_state(state_of(r, "conflict-bad"), FILE_TORN);
	must(state_of(r, "missing") == FILE_TORN || state_of(r, "missing") == FILE_LOST);
	must_state(state_of(r, "incomplete"), FILE_INCOMPLETE);
	must_state(state_of(r, "verified"), FILE_VERIFIED);
	/* the bucket has these: they are fetched again, not torn */
	must_state(state_of(r, "verified-bad"), FILE_VERIFIED);
	must(!present(r, "verified-bad"));
	must_state(state_of(r, "moved"), FILE_MOVING);
	must(!present(r, "moved"));
	rig_must_count(r, STORE_ROOT_INO);
}

static void each_is_judged_by_what_it_can_prove(void **state)
{
	struct rig *r = *state;
	struct store_recovery got;
	struct store_space space;

	play_power_cut(r);
	rig_open(r);
	store_recovery_report(r->s, &got);
	must(got.was_unclean && got.power_cut);
	must_eq(got.torn_files, 5);
	must_eq(got.incomplete_files, 0);
	must_be_judged(r);
	must(rig_inode(r, rig_find(r, "checked-bad"))->reason[0] != '\0');
	must(strstr(rig_inode(r, rig_find(r, "incomplete"))->reason, "power cut") != NULL);
	rig_must_hold(r, rig_find(r, "checked"), 2 * P + 5, CHECKED);
	rig_must_hold(r, rig_find(r, "durable"), 2 * P + 5, DURABLE);
	/* shown, never deleted: a person looks at it */
	rig_must_hold(r, rig_find(r, "unchecked"), 2 * P + 5, UNCHECKED);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	rig_must_hold(r, rig_find(r, "unchecked"), 2 * P + 5, UNCHECKED);
	store_space(r->s, &space);
	must(space.pending_bytes > 0);
}

/* Judged once: the next start in the same boot, killed or not, finds it so. */
static void judged_once(void **state)
{
	struct rig *r = *state;
	struct store_recovery got;

	play_power_cut(r);
	rig_open(r);
	rig_reopen(r);
	store_recovery_report(r->s, &got);
	must(!got.power_cut);
	must_eq(got.torn_files, 0);
	must_be_judged(r);
}

static void work_accept(struct rig *r, void *arg)
{
	must_eq(rig_step(r, rig_find(r, "unchecked"), FILE_TORN, FILE_CLOSED, ""), 0);
}

/* A person took it as it is; the recovery that judged it also synced it. */
static void accepted_stays_accepted(void **state)
{
	struct rig *r = *state;

	play_power_cut(r);
	rig_child(r, work_accept, NULL, CHILD_KILLED);
	r->config.boot_id = "boot-3";
	rig_open(r);
	must_state(state_of(r, "unchecked"), FILE_CLOSED);
}

/* ---- no power cut: nothing is doubted --------------------------------------------------------------------------- */

static void kill_alone_tears_nothing(void **state)
{
	struct rig *r = *state;
	struct paths *p = rig_shared(sizeof(*p));
	struct store_recovery got;

	r->config.disk_seq = 7;
	rig_child(r, work_one_of_each, p, CHILD_KILLED);
	rig_open(r);
	store_recovery_report(r->s, &got);
	must(!got.power_cut);
	must_eq(got.torn_files, 0);
	must_state(state_of(r, "unchecked"), FILE_CLOSED);
	must_state(state_of(r, "held"), FILE_HELD);
	munmap(p, sizeof(*p));
}

/* The machine went on, but the disk was gone for a moment, and with it what it had not been given yet. */
static void disk_pulled_out_and_put_back(void **state)
{
	struct rig *r = *state;
	struct store_recovery got;

	r->config.disk_seq = 7;
	play_power_cut(r);
	r->config.boot_id = "boot-1";
	r->config.disk_seq = 8;
	rig_open(r);
	store_recovery_report(r->s, &got);
	must(got.power_cut);
	must_be_judged(r);
	rig_reopen(r);
	store_recovery_report(r->s, &got);
	must(!got.power_cut);
}

static void clean_end_before_the_reboot(void **state)
{
	struct rig *r = *state;
	struct paths *p = rig_shared(sizeof(*p));
	struct store_recovery got;

	rig_child(r, work_one_of_each, p, CHILD_CLOSES);
	r->config.boot_id = "boot-2";
	rig_open(r);
	store_recovery_report(r->s, &got);
	must(!got.power_cut && !got.was_unclean);
	must_state(state_of(r, "unchecked"), FILE_CLOSED);
	must_state(state_of(r, "checked-bad"), FILE_QUEUED);
	munmap(p, sizeof(*p));
}

static void work_flushed(struct rig *r, void *arg)
{
	struct paths *p = rig_shared(sizeof(*p));

	work_one_of_each(r, p);
	must_eq(store_flush_all(r->s), 0);
}

static void flushed_stands(void **state)
{
	struct rig *r = *state;
	struct store_recovery got;

	rig_child(r, work_flushed, NULL, CHILD_KILLED);
	r->config.boot_id = "boot-2";
	rig_open(r);
	store_recovery_report(r->s, &got);
	must(got.power_cut);
	must_eq(got.torn_files, 0);
	must_state(state_of(r, "unchecked"), FILE_CLOSED);
	must_state(state_of(r, "held"), FILE_HELD);
}

static void work_flushed_then_changed(struct rig *r, void *arg)
{
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 2 * P, 1);
	struct store_file *f;

	must_eq(store_flush_all(r->s), 0);
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, 10, 2);
	rig_write_end(f);
}

static void changed_after_the_flush_is_in_doubt_again(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_flushed_then_changed, NULL, CHILD_KILLED);
	r->config.boot_id = "boot-2";
	rig_open(r);
	must_state(state_of(r, "f"), FILE_TORN);
}

static void work_open(struct rig *r, void *arg)
{
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, P, 1);
	must_eq(store_flush_all(r->s), 0);
	rig_write_pattern(f, P, P, 1);
}

static void open_at_a_power_cut_is_incomplete(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_open, NULL, CHILD_KILLED);
	r->config.boot_id = "boot-2";
	rig_open(r);
	must_state(state_of(r, "f"), FILE_INCOMPLETE);
}

static void work_fsync_then_close(struct rig *r, void *arg)
{
	static const char *const which[] = {"synced", "changed", "empty"};

	for (int i = 0; i < 3; i++) {
		uint64_t ino = rig_create(r, STORE_ROOT_INO, which[i], STORE_FILE);
		struct store_file *f = rig_write_begin(r, ino);

		if (i < 2)
			rig_write_pattern(f, 0, 2 * P + 5, 7);
		must_eq(store_file_sync(f, false), 0);
		if (i == 1)
			rig_write_pattern(f, 5, 10, 8);
		rig_write_end(f);
	}
}

/* As programs do it that want to be sure: fsync, close. Nothing was written in between. */
static void closed_after_an_fsync_is_safe(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_fsync_then_close, NULL, CHILD_KILLED);
	r->config.boot_id = "boot-2";
	rig_open(r);
	must_state(state_of(r, "synced"), FILE_CLOSED);
	must_state(state_of(r, "empty"), FILE_CLOSED);
	must_state(state_of(r, "changed"), FILE_TORN);
	rig_must_hold(r, rig_find(r, "synced"), 2 * P + 5, 7);
}

/* ---- deleted, and taken back ------------------------------------------------------------------------------------ */

static const char *const deleted[] = {"rewritten", "verified", "verified-bad"};

/* The object of the first one is an older version; the bytes of the last one are damaged. */
static void work_delete(struct rig *r, void *arg)
{
	uint64_t *inos = arg;
	char path[4096];

	for (size_t i = 0; i < array_len(deleted); i++) {
		inos[i] = rig_put(r, STORE_ROOT_INO, deleted[i], 2 * P, 1);
		rig_bring(r, inos[i], FILE_VERIFIED);
		if (i == 0) {
			struct store_file *f = rig_write_begin(r, inos[i]);

			rig_write_pattern(f, 0, 2 * P, 2);
			rig_write_end(f);
		}
		must_eq(store_unlink(r->s, STORE_ROOT_INO, deleted[i], 600000), 0);
	}
	rig_data_path(r, inos[2], path);
	damage(path, P + 1);
}

static void deleted_ones_must_prove_their_bytes(void **state)
{
	struct rig *r = *state;
	uint64_t *inos = rig_shared(4096);

	rig_child(r, work_delete, inos, CHILD_KILLED);
	r->config.boot_id = "boot-2";
	rig_open(r);
	for (size_t i = 0; i < array_len(deleted); i++) {
		must_state(rig_state(r, inos[i]), FILE_DELETING);
		must_eq(store_undelete(r->s, inos[i], NULL), 0);
	}
	must_state(state_of(r, "rewritten"), FILE_TORN);
	must_state(state_of(r, "verified"), FILE_VERIFIED);
	must(present(r, "verified"));
	must_state(state_of(r, "verified-bad"), FILE_VERIFIED);
	must(!present(r, "verified-bad"));
	rig_must_count(r, STORE_ROOT_INO);
	munmap(inos, 4096);
}

/* ---- fetched chunks ------------------------------------------------------------------------------------------------ */

static void work_fill(struct rig *r, void *arg)
{
	struct store_object o = {.key = "k", .etag = "e", .size_bytes = 2 * P};
	uint8_t data[P] = {1};
	struct store_file *f;
	struct store_attr a;

	must_eq(store_import(r->s, &o, &a), 0);
	f = rig_file(r, a.ino);
	for (uint64_t n = 0; n < 2; n++) {
		must_eq(store_chunk_fill_begin(f, n), 0);
		must_eq(store_chunk_fill_write(f, n, 0, data, P), 0);
		must_eq(store_chunk_fill_end(f, n, true), 0);
		if (n == 0 && arg)
			must_eq(store_flush_all(r->s), 0);
	}
	store_file_close(f);
}

static int chunks_present(struct rig *r)
{
	uint64_t ino = store_ino_of_key("k");
	struct store_chunk c;
	int count = 0;

	for (uint64_t n = 0; n < 2; n++) {
		must_eq(store_chunk(r->s, ino, n, &c), 0);
		count += c.present;
	}
	return count;
}

static void work_look(struct rig *r, void *arg)
{
	must_eq(chunks_present(r), 2);
}

static void filled_chunks_are_dropped_after_a_power_cut(void **state)
{
	struct rig *r = *state;
	struct store_space space;

	rig_child(r, work_fill, NULL, CHILD_KILLED);
	rig_child(r, work_look, NULL, CHILD_KILLED); /* a kill alone takes nothing */
	r->config.boot_id = "boot-2";
	rig_open(r);
	must_eq(chunks_present(r), 0);
	store_space(r->s, &space);
	must_eq(space.used_bytes, 0);
}

/* Fetched again after all of it left the cache. */
static void fetch(struct rig *r, uint64_t ino)
{
	struct store_file *f = rig_file(r, ino);
	uint8_t data[P];

	for (uint64_t n = 0; n < 2; n++) {
		rig_pattern(data, P, n * P, 1);
		must_eq(store_chunk_fill_begin(f, n), 0);
		must_eq(store_chunk_fill_write(f, n, 0, data, P), 0);
		must_eq(store_chunk_fill_end(f, n, true), 0);
	}
	store_file_close(f);
}

static void change_at(struct rig *r, uint64_t ino, uint64_t off)
{
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, off, 10, 2);
	rig_write_end(f);
}

static void work_changed_after_fetch(struct rig *r, void *arg)
{
	static const char *const which[] = {"synced", "closed", "queued", "again"};
	uint64_t inos[4];
	struct store_file *f;

	for (int i = 0; i < 4; i++) {
		inos[i] = rig_put(r, STORE_ROOT_INO, which[i], 2 * P, 1);
		rig_bring(r, inos[i], FILE_VERIFIED);
	}
	must_eq(store_flush_all(r->s), 0);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	for (int i = 0; i < 4; i++)
		fetch(r, inos[i]);
	must_eq(store_flush_all(r->s), 0);
	change_at(r, inos[3], 5);
	must_eq(store_flush_all(r->s), 0); /* that is safe, and the bucket has not got it */
	change_at(r, inos[3], P + 5);
	change_at(r, inos[1], 5);
	change_at(r, inos[2], 5);
	rig_bring(r, inos[2], FILE_QUEUED);
	f = rig_write_begin(r, inos[0]);
	rig_write_pattern(f, 5, 10, 2);
	must_eq(store_file_sync(f, false), 0);
}

static void must_be_changed(struct rig *r, const char *name, enum file_state state, uint64_t off)
{
	struct store_file *f = rig_file(r, rig_find(r, name));
	uint8_t want[2 * P], changed[10];

	must_state(state_of(r, name), state);
	rig_pattern(want, 2 * P, 0, 1);
	rig_pattern(changed, 10, 5, 2);
	memcpy(want + 5, changed, 10);
	if (off > 5) {
		rig_pattern(changed, 10, off, 2);
		memcpy(want + off, changed, 10);
	}
	rig_must_read(f, 0, want, 2 * P);
	store_file_close(f);
}

/* Its bytes are no longer the object's: fetched again they would be those of before the change. */
static void changed_after_it_was_fetched(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_changed_after_fetch, NULL, CHILD_KILLED);
	r->config.boot_id = "boot-2";
	rig_open(r);
	must_be_changed(r, "synced", FILE_INCOMPLETE, 5);
	must_be_changed(r, "closed", FILE_TORN, 5);
	must_be_changed(r, "queued", FILE_QUEUED, 5);
	must_be_changed(r, "again", FILE_TORN, P + 5);
}

/* ---- records that never reached the disk ------------------------------------------------------------------------------ */

static void copy_front(const char *from, const char *to, size_t len)
{
	cleanup_free char *data = calloc(1, len);
	int fd = open(from, O_RDONLY);
	ssize_t n;

	must(fd >= 0);
	n = pread(fd, data, len, 0);
	must(n >= 0);
	close(fd);
	fd = open(to, O_WRONLY | O_CREAT, 0600);
	must(fd >= 0);
	must_eq(pwrite(fd, data, (size_t)n, 0), n);
	close(fd);
}

static void keep_or_bring_back(struct rig *r, bool back)
{
	static const char *const parts[] = {"journal", "index/data.mdb"};
	char path[128], kept[160];

	for (size_t i = 0; i < array_len(parts); i++) {
		place(r, parts[i], path);
		snprintf(kept, sizeof(kept), "%s-kept-%zu", r->dir, i);
		if (back) {
			copy_front(kept, path, MIB);
			must_eq(unlink(kept), 0);
		} else {
			copy_front(path, kept, MIB);
		}
	}
}

static void work_lost_records(struct rig *r, void *arg)
{
	for (int i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		(void)rig_put(r, STORE_ROOT_INO, name, 3 * P, (unsigned)i);
	}
}

static void orphans_are_kept_and_their_numbers_spared(void **state)
{
	struct rig *r = *state;
	struct store_recovery got;
	struct store_file *f;
	uint64_t ino, chunk;
	uint8_t byte;

	rig_open(r);
	rig_close(r);
	rig_child(r, work_flushed_then_changed, NULL, CHILD_KILLED);
	keep_or_bring_back(r, false);
	rig_child(r, work_lost_records, NULL, CHILD_KILLED);
	keep_or_bring_back(r, true);
	r->config.boot_id = "boot-2";
	rig_open(r);
	store_recovery_report(r->s, &got);
	must_eq(got.orphan_data_files, 3);
	must_eq(rig_resolve_error(r, "f0"), -ENOENT);
	must_eq(rig_data_files(r), 4);
	for (int i = 0; i < 5; i++) { /* none of these may meet an orphan's bytes */
		char name[8];

		snprintf(name, sizeof(name), "n%d", i);
		ino = rig_create(r, STORE_ROOT_INO, name, STORE_FILE);
		f = rig_write_begin(r, ino);
		rig_write_pattern(f, 0, 1, 1);
		must_eq(store_file_truncate(f, 2 * P, &chunk), 0);
		must_eq(store_file_read(f, &byte, 1, P, &chunk), 1);
		must_eq(byte, 0);
		rig_write_end(f);
	}
	must_eq(rig_data_files(r), 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test_closed(each_is_judged_by_what_it_can_prove),
		rig_test_closed(judged_once),
		rig_test_closed(accepted_stays_accepted),
		rig_test_closed(disk_pulled_out_and_put_back),
		rig_test_closed(kill_alone_tears_nothing),
		rig_test_closed(clean_end_before_the_reboot),
		rig_test_closed(flushed_stands),
		rig_test_closed(changed_after_the_flush_is_in_doubt_again),
		rig_test_closed(open_at_a_power_cut_is_incomplete),
		rig_test_closed(closed_after_an_fsync_is_safe),
		rig_test_closed(deleted_ones_must_prove_their_bytes),
		rig_test_closed(filled_chunks_are_dropped_after_a_power_cut),
		rig_test_closed(changed_after_it_was_fetched),
		rig_test_closed(orphans_are_kept_and_their_numbers_spared),
	};

	return cmocka_run_group_tests_name("store powercut", tests, NULL, NULL);
}
