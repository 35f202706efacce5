/*
 * What else the index keeps: extended attributes, settings, re-key jobs; and walking a subtree.
 */
#include "store_rig.h"

#include "store_private.h"

#include <sys/xattr.h>

/* ---- extended attributes --------------------------------------------------------------------------------- */

static int set(struct rig *r, uint64_t ino, const char *name, const char *value, int flags)
{
	return store_xattr_set(r->s, ino, name, value, strlen(value), flags);
}

static void xattr_set_and_get(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	char got[16];

	must_eq(set(r, ino, "user.a", "one", 0), 0);
	must_eq(store_xattr_get(r->s, ino, "user.a", NULL, 0), 3);
	must_eq(store_xattr_get(r->s, ino, "user.a", got, 2), -ERANGE);
	must_eq(store_xattr_get(r->s, ino, "user.a", got, 3), 3);
	must(memcmp(got, "one", 3) == 0);
	must_eq(store_xattr_get(r->s, ino, "user.b", got, 16), -ENODATA);
	must_eq(store_xattr_get(r->s, 4711, "user.a", got, 16), -ENOENT);
	must_eq(set(r, ino, "user.a", "", 0), 0);
	must_eq(store_xattr_get(r->s, ino, "user.a", got, 16), 0);
	must_eq(set(r, 4711, "user.a", "x", 0), -ENOENT);
}

static void xattr_flags(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_dir(r, STORE_ROOT_INO, "d");
	char got[16];

	must_eq(set(r, ino, "user.a", "one", XATTR_REPLACE), -ENODATA);
	must_eq(set(r, ino, "user.a", "one", XATTR_CREATE), 0);
	must_eq(set(r, ino, "user.a", "two", XATTR_CREATE), -EEXIST);
	must_eq(set(r, ino, "user.a", "three", XATTR_REPLACE), 0);
	must_eq(store_xattr_get(r->s, ino, "user.a", got, 16), 5);
	must(memcmp(got, "three", 5) == 0);
}

static void xattr_list_and_remove(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	uint64_t next = rig_put(r, STORE_ROOT_INO, "g", 10, 1);
	char got[64];

	must_eq(set(r, ino, "user.b", "2", 0), 0);
	must_eq(set(r, ino, "user.a", "1", 0), 0);
	must_eq(set(r, next, "user.other", "3", 0), 0);
	must_eq(store_xattr_list(r->s, ino, NULL, 0), 14);
	must_eq(store_xattr_list(r->s, ino, got, 13), -ERANGE);
	must_eq(store_xattr_list(r->s, ino, got, 64), 14);
	must(memcmp(got, "user.a\0user.b", 14) == 0);
	must_eq(store_xattr_remove(r->s, ino, "user.a"), 0);
	must_eq(store_xattr_remove(r->s, ino, "user.a"), -ENODATA);
	must_eq(store_xattr_list(r->s, ino, got, 64), 7);
	rig_reopen(r);
	must_eq(store_xattr_list(r->s, ino, got, 64), 7);
	must_eq(store_xattr_get(r->s, ino, "user.b", got, 64), 1);
}

static void xattr_of_any_bytes_and_64_kib(void **state)
{
	static char value[65536], got[65536];
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 10, 1);

	rig_pattern(value, sizeof(value), 0, 1);
	must_eq(store_xattr_set(r->s, ino, "user.a", value, sizeof(value), 0), 0);
	rig_reopen(r);
	must_eq(store_xattr_get(r->s, ino, "user.a", got, sizeof(got)), sizeof(value));
	must(memcmp(value, got, sizeof(value)) == 0);
}

static void xattr_goes_with_its_file(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 10, 1), d = rig_dir(r, STORE_ROOT_INO, "d");
	char got[16];

	must_eq(set(r, ino, "user.a", "one", 0), 0);
	must_eq(set(r, d, "user.a", "one", 0), 0);
	must_eq(store_rename(r->s, STORE_ROOT_INO, "f", STORE_ROOT_INO, "g", 0, 0), 0);
	must_eq(store_xattr_get(r->s, ino, "user.a", got, 16), 3);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "g", 0), 0);
	must_eq(store_rmdir(r->s, STORE_ROOT_INO, "d"), 0);
	must_eq(store_xattr_get(r->s, ino, "user.a", got, 16), -ENOENT);
	must_eq(store_xattr_get(r->s, d, "user.a", got, 16), -ENOENT);
}

/* A folder's number is a hash of its key, so it comes again. */
static void xattr_goes_with_its_folder(void **state)
{
	struct rig *r = *state;
	struct store_create c = {.parent = STORE_ROOT_INO, .name = "d", .type = STORE_DIR, .mode = 0755,
		.ino = store_ino_of_key("d/")};
	struct store_attr a;
	char got[16];

	for (int i = 0; i < 2; i++) {
		must_eq(store_create(r->s, &c, &a), 0);
		must(a.ino == c.ino);
		must_eq(store_xattr_get(r->s, a.ino, "user.a", got, 16), -ENODATA);
		must_eq(set(r, a.ino, "user.a", "one", 0), 0);
		must_eq(store_rmdir(r->s, STORE_ROOT_INO, "d"), 0);
	}
	must_eq(store_create(r->s, &c, &a), 0);
	must_eq(set(r, a.ino, "user.a", "one", 0), 0);
	(void)rig_dir(r, STORE_ROOT_INO, "e");
	must_eq(store_rename(r->s, STORE_ROOT_INO, "e", STORE_ROOT_INO, "d", 0, 0), 0);
	must_eq(store_rmdir(r->s, STORE_ROOT_INO, "d"), 0);
	must_eq(store_create(r->s, &c, &a), 0);
	must_eq(store_xattr_get(r->s, a.ino, "user.a", got, 16), -ENODATA);
}

/* ---- settings ---------------------------------------------------------------------------------------------- */

static void settings_last(void **state)
{
	struct rig *r = *state;
	char got[32];

	must_eq(store_setting_get(r->s, "upload.paused", got, sizeof(got)), -ENOENT);
	must_eq(store_setting_set(r->s, "upload.paused", "by hand"), 0);
	must_eq(store_setting_set(r->s, "upload.other", ""), 0);
	must_eq(store_setting_get(r->s, "upload.paused", got, sizeof(got)), 0);
	must_text(got, "by hand");
	must_eq(store_setting_set(r->s, "upload.paused", "no"), 0);
	rig_reopen(r);
	must_eq(store_setting_get(r->s, "upload.paused", got, sizeof(got)), 0);
	must_text(got, "no");
	must_eq(store_setting_get(r->s, "upload.other", got, sizeof(got)), 0);
	must_text(got, "");
	must(store_setting_get(r->s, "upload.paused", got, 2) < 0);
}

static void settings_one_after_another(void **state)
{
	struct rig *r = *state;
	char name[STORE_NAME_MAX + 1] = "", got[32];

	must_eq(store_setting_next(r->s, "m/", name, got, sizeof(got)), -ENOENT);
	must_eq(store_setting_set(r->s, "l", "before"), 0);
	must_eq(store_setting_set(r->s, "m/2", "two"), 0);
	must_eq(store_setting_set(r->s, "m/1", "one"), 0);
	must_eq(store_setting_set(r->s, "m/3", "three"), 0);
	must_eq(store_setting_set(r->s, "m0", "behind"), 0);
	must_eq(store_setting_next(r->s, "m/", name, got, 3), -ERANGE);
	must_text(name, "");
	must_eq(store_setting_next(r->s, "m/", name, got, sizeof(got)), 0);
	must_text(name, "m/1");
	must_text(got, "one");
	must_eq(store_setting_set(r->s, "m/1", NULL), 0); /* while they are gone through */
	must_eq(store_setting_next(r->s, "m/", name, got, sizeof(got)), 0);
	must_text(name, "m/2");
	must_eq(store_setting_next(r->s, "m/", name, got, sizeof(got)), 0);
	must_text(got, "three");
	must_eq(store_setting_next(r->s, "m/", name, got, sizeof(got)), -ENOENT);
	must_eq(store_setting_set(r->s, "m/1", NULL), 0); /* it is not there */
	rig_reopen(r);
	must_eq(store_setting_get(r->s, "m/1", got, sizeof(got)), -ENOENT);
	must_eq(store_setting_get(r->s, "m/2", got, sizeof(got)), 0);
}

/* ---- walking --------------------------------------------------------------------------------------------------- */

static unsigned walk(struct rig *r, uint64_t top, size_t page, uint64_t *out, unsigned max)
{
	struct store_walk cursor = {0};
	uint64_t got[64];
	unsigned count = 0;
	int n;

	while ((n = store_walk_next(r->s, top, &cursor, got, page)) > 0) {
		must((size_t)n <= page);
		for (int i = 0; i < n; i++) {
			must(count < max);
			out[count++] = got[i];
		}
	}
	must_eq(n, 0);
	return count;
}

static unsigned tree(struct rig *r, uint64_t *out)
{
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a"), aa = rig_dir(r, a, "aa");
	uint64_t c = rig_dir(r, STORE_ROOT_INO, "c");
	unsigned n = 0;

	(void)rig_dir(r, a, "empty");
	for (int i = 0; i < 20; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%02d", i);
		out[n++] = rig_put(r, i % 3 ? aa : a, name, 0, 1);
		out[n++] = rig_put(r, c, name, 0, 1);
	}
	out[n++] = rig_put(r, STORE_ROOT_INO, "b", 0, 1);
	return n;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void walk_sees_each_file_once(void **state)
{
	static const size_t pages[] = {1, 2, 7, 64};
	struct rig *r = *state;
	uint64_t want[64], got[64];
	unsigned count = tree(r, want);

	qsort(want, count, sizeof(want[0]), by_number);
	for (size_t i = 0; i < array_len(pages); i++) {
		must_eq(walk(r, STORE_ROOT_INO, pages[i], got, 64), count);
		qsort(got, count, sizeof(got[0]), by_number);
		must(memcmp(got, want, count * sizeof(got[0])) == 0);
	}
}

static void walk_below_a_folder_and_of_a_file(void **state)
{
	struct rig *r = *state;
	uint64_t want[64], got[64];

	(void)tree(r, want);
	must_eq(walk(r, rig_find(r, "c"), 3, got, 64), 20);
	must_eq(walk(r, rig_find(r, "a/empty"), 3, got, 64), 0);
	must_eq(walk(r, rig_find(r, "a/aa"), 3, got, 64), 13);
}

/* A damaged record, and a name without one: each is passed by once, after what came before it. */
static void walk_passes_what_is_damaged(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), got[8], ino[4];
	struct store_walk cursor = {0};
	cleanup_buf struct buf path = {0};

	for (int i = 0; i < 4; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		ino[i] = rig_put(r, d, name, 0, 1);
	}
	lock_take(&r->s->lock);
	struct ikey damaged = ikey_ino(ino[1]), missing = ikey_ino(ino[2]);
	must_eq(index_put(&r->s->index, TABLE_INODE, (struct bytes){damaged.data, damaged.len},
			(struct bytes){"x", 1}), 0);
	must_eq(index_del(&r->s->index, TABLE_INODE, (struct bytes){missing.data, missing.len}), 0);
	lock_drop(&r->s->lock);
	must_eq(store_walk_next(r->s, STORE_ROOT_INO, &cursor, got, 8), 1);
	must_eq(got[0], ino[0]);
	must(!cursor.passed_damage);
	must_eq(store_walk_next(r->s, STORE_ROOT_INO, &cursor, got, 8), -EUCLEAN);
	must(cursor.passed_damage);
	must_eq(store_walk_path(r->s, &cursor, &path), 0);
	must_text(buf_text(&path), "d/f1");
	must_eq(store_walk_next(r->s, STORE_ROOT_INO, &cursor, got, 8), -EUCLEAN);
	must(cursor.passed_damage);
	must_eq(store_walk_next(r->s, STORE_ROOT_INO, &cursor, got, 8), 1);
	must_eq(got[0], ino[3]);
	must_eq(store_walk_next(r->s, STORE_ROOT_INO, &cursor, got, 8), 0);
	must(!cursor.passed_damage);
}

/* Nothing below it can be counted any more, and no more than that. */
static void a_damaged_folder_stops_what_is_below(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), below = rig_put(r, d, "f", 10, 1), other;
	struct ikey missing = ikey_ino(d);

	lock_take(&r->s->lock);
	must_eq(index_del(&r->s->index, TABLE_INODE, (struct bytes){missing.data, missing.len}), 0);
	lock_drop(&r->s->lock);
	must_eq(store_checkpoint(r->s), 0);
	other = rig_put(r, STORE_ROOT_INO, "f", 10, 2);
	must_eq(rig_step(r, below, FILE_CLOSED, FILE_SETTLED, NULL), -EUCLEAN);
	must_state(rig_state(r, below), FILE_CLOSED);
	rig_bring(r, other, FILE_VERIFIED);
	must_eq(rig_step(r, below, FILE_CLOSED, FILE_SETTLED, NULL), -EUCLEAN);
	rig_reopen(r);
	must_state(rig_state(r, other), FILE_VERIFIED);
	must_state(rig_state(r, below), FILE_CLOSED);
	rig_must_hold(r, below, 10, 1);
}

/* What was sent of a file whose record is damaged now is not ours to delete: its bytes here may be lost. */
static void an_object_of_a_damaged_record_stays(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	struct store_attempt a = rig_attempt(r, ino, ATTEMPT_PUT, "f");
	struct store_object o = rig_object(r, ino, "f");
	struct ikey damaged = ikey_ino(ino);

	rig_bring(r, ino, FILE_QUEUED);
	must_eq(store_attempt_begin(r->s, &a, FILE_QUEUED), 0);
	lock_take(&r->s->lock);
	must_eq(index_put(&r->s->index, TABLE_INODE, (struct bytes){damaged.data, damaged.len},
			(struct bytes){"x", 1}), 0);
	lock_drop(&r->s->lock);
	must_eq(store_attempt_end(r->s, a.id, NULL, &o, "f", 0, NULL), 0);
	must_eq(store_attempts(r->s, 0, &a, 1), 0);
	must_eq(rig_files_in(r, FILE_DELETING), 0);
}

static void work_damaged(struct rig *r, void *arg)
{
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	struct ikey damaged = ikey_ino(ino);

	rig_bring(r, ino, FILE_UPLOADED);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 600000), 0);
	must_state(rig_state(r, ino), FILE_DELETING);
	lock_take(&r->s->lock);
	must_eq(index_put(&r->s->index, TABLE_INODE, (struct bytes){damaged.data, damaged.len},
			(struct bytes){"x", 1}), 0);
	lock_drop(&r->s->lock);
	(void)rig_dir(r, STORE_ROOT_INO, "d");
	must_eq(store_checkpoint(r->s), 0);
}

/* A deleted file that may still come back: who cannot read its record does not unlink its bytes. */
static void bytes_of_a_damaged_record_stay(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_damaged, NULL, CHILD_KILLED);
	rig_open(r);
	must_eq(rig_data_files(r), 1);
}

/* No number is better than one that is too small: nothing pending means that all is done. */
static void counts_that_are_damaged(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d");
	struct ikey k = ikey_count(STORE_ROOT_INO, FILE_CLOSED);
	struct store_counts counts;

	(void)rig_put(r, d, "f", 0, 1);
	must_eq(store_counts(r->s, STORE_ROOT_INO, &counts), 0);
	must_eq(counts.files[FILE_CLOSED], 1);
	lock_take(&r->s->lock);
	must_eq(index_put(&r->s->index, TABLE_COUNT, (struct bytes){k.data, k.len},
			(struct bytes){"x", 1}), 0);
	lock_drop(&r->s->lock);
	must_eq(store_counts(r->s, STORE_ROOT_INO, &counts), -EUCLEAN);
	must_eq(store_counts(r->s, d, &counts), 0);
	must_eq(counts.files[FILE_CLOSED], 1);
}

/* What was not yet visited is found although entries come and go meanwhile. */
static void walk_while_the_tree_changes(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), got[4], ino[6];
	struct store_walk cursor = {0};

	for (int i = 0; i < 6; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		ino[i] = rig_put(r, d, name, 0, 1);
	}
	must_eq(store_walk_next(r->s, STORE_ROOT_INO, &cursor, got, 2), 2);
	must_eq(got[1], ino[1]);
	must_eq(store_unlink(r->s, d, "f1", 0), 0);
	must_eq(store_unlink(r->s, d, "f2", 0), 0);
	(void)rig_put(r, d, "f0x", 0, 1);
	must_eq(store_walk_next(r->s, STORE_ROOT_INO, &cursor, got, 4), 3);
	must_eq(got[0], ino[3]);
	must_eq(got[2], ino[5]);
	must_eq(store_walk_next(r->s, STORE_ROOT_INO, &cursor, got, 4), 0);
}

/* The folder that it is in gets a name that sorts behind others, and another place. */
static void walk_while_folders_are_renamed(void **state)
{
	struct rig *r = *state;
	uint64_t top = rig_dir(r, STORE_ROOT_INO, "top"), a = rig_dir(r, top, "a"), got[8];
	uint64_t b = rig_put(r, rig_dir(r, top, "b"), "f", 0, 1);
	struct store_walk cursor = {0};

	for (int i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		(void)rig_put(r, a, name, 0, 1);
	}
	must_eq(store_walk_next(r->s, top, &cursor, got, 2), 2);
	must_eq(store_rename(r->s, top, "a", top, "z", 0, 0), 0);
	must_eq(store_walk_next(r->s, top, &cursor, got, 2), 2);
	must_eq(got[1], b);
	cursor = (struct store_walk){0};
	must_eq(store_rename(r->s, top, "z", top, "a", 0, 0), 0);
	must_eq(store_walk_next(r->s, top, &cursor, got, 2), 2);
	must_eq(store_rename(r->s, top, "a", STORE_ROOT_INO, "c", 0, 0), 0);
	must_eq(store_walk_next(r->s, top, &cursor, got, 8), 2);
	must_eq(got[1], b);
}

/* Deeper than its cursor can remember. */
static void walk_of_a_deep_tree(void **state)
{
	struct rig *r = *state;
	uint64_t dir = STORE_ROOT_INO, want[200], got[200];
	unsigned count = 0;

	for (int i = 0; i < 90; i++) {
		want[count++] = rig_put(r, dir, "a", 0, 1);
		if (i % 3 == 0)
			want[count++] = rig_put(r, dir, "z", 0, 1);
		dir = rig_dir(r, dir, "d");
	}
	want[count++] = rig_put(r, dir, "f", 0, 1);
	for (size_t page = 1; page < 64; page = page * 4 + 1) {
		must_eq(walk(r, STORE_ROOT_INO, page, got, 200), count);
		qsort(got, count, sizeof(got[0]), by_number);
		qsort(want, count, sizeof(want[0]), by_number);
		must(memcmp(got, want, count * sizeof(got[0])) == 0);
	}
}

static void jobs_of_nothing(void **state)
{
	static struct store_job job;
	struct rig *r = *state;

	must_eq(store_jobs(r->s, &job, 1), 0);
	must_eq(store_job_end(r->s, 1), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(xattr_set_and_get),
		rig_test(xattr_flags),
		rig_test(xattr_list_and_remove),
		rig_test(xattr_of_any_bytes_and_64_kib),
		rig_test(xattr_goes_with_its_file),
		rig_test(xattr_goes_with_its_folder),
		rig_test(settings_last),
		rig_test(settings_one_after_another),
		rig_test(walk_sees_each_file_once),
		rig_test(walk_below_a_folder_and_of_a_file),
		rig_test(walk_passes_what_is_damaged),
		rig_test(a_damaged_folder_stops_what_is_below),
		rig_test(an_object_of_a_damaged_record_stays),
		rig_test_closed(bytes_of_a_damaged_record_stay),
		rig_test(counts_that_are_damaged),
		rig_test(walk_while_the_tree_changes),
		rig_test(walk_while_folders_are_renamed),
		rig_test(walk_of_a_deep_tree),
		rig_test(jobs_of_nothing),
	};

	return cmocka_run_group_tests_name("store kept", tests, NULL, NULL);
}
