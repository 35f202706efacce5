/*
 * Renames of files and folders: names, what becomes of the states, re-key jobs, what one costs.
 */
#include "store_rig.h"

static int mv(struct rig *r, uint64_t from, const char *old, uint64_t to, const char *new)
{
	return store_rename(r->s, from, old, to, new, 0, 600000);
}

static void file_within_and_across_folders(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), ino = rig_put(r, STORE_ROOT_INO, "a", 5000, 1);

	must_eq(mv(r, STORE_ROOT_INO, "a", STORE_ROOT_INO, "b"), 0);
	must_eq(rig_resolve_error(r, "a"), -ENOENT);
	must_eq(rig_find(r, "b"), ino);
	must_eq(mv(r, STORE_ROOT_INO, "b", d, "c"), 0);
	must_eq(rig_resolve_error(r, "b"), -ENOENT);
	rig_must_path(r, ino, "d/c");
	must_eq(rig_attr(r, ino).parent, d);
	must_text(rig_inode(r, ino)->name, "c");
	rig_must_hold(r, ino, 5000, 1);
	rig_must_count(r, STORE_ROOT_INO);
	rig_reopen(r);
	must_eq(rig_find(r, "d/c"), ino);
}

static void over_a_file_that_was_never_sent(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_put(r, STORE_ROOT_INO, "a", 100, 1), b = rig_put(r, STORE_ROOT_INO, "b", 200, 2);

	must_eq(mv(r, STORE_ROOT_INO, "a", STORE_ROOT_INO, "b"), 0);
	must_eq(rig_find(r, "b"), a);
	must_eq(rig_attr_error(r, b), -ENOENT);
	must_eq(rig_data_files(r), 1);
	must_eq(rig_files_in(r, FILE_CLOSED), 1);
	must_eq(rig_files_in(r, FILE_DELETING), 0);
	rig_must_hold(r, a, 100, 1);
}

static void over_a_file_in_the_bucket(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_put(r, STORE_ROOT_INO, "a", 100, 1), b = rig_put(r, STORE_ROOT_INO, "b", 200, 2);

	rig_bring(r, b, FILE_UPLOADED);
	must_eq(mv(r, STORE_ROOT_INO, "a", STORE_ROOT_INO, "b"), 0);
	must_eq(rig_find(r, "b"), a);
	must_state(rig_state(r, b), FILE_DELETING);
	must_eq(rig_files_in(r, FILE_DELETING), 1);
	/* a live file has this key: its object is not hidden */
	must_text(rig_inode(r, b)->object.key, "b");
}

static void over_an_open_file(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_put(r, STORE_ROOT_INO, "a", 100, 1), b = rig_put(r, STORE_ROOT_INO, "b", 200, 2);
	struct store_file *f = rig_file(r, b);

	must_eq(mv(r, STORE_ROOT_INO, "a", STORE_ROOT_INO, "b"), 0);
	rig_must_hold(r, b, 200, 2);
	must_eq(rig_find(r, "b"), a);
	store_file_close(f);
	must_eq(rig_attr_error(r, b), -ENOENT);
}

static void onto_itself_changes_nothing(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "a", 100, 1), d = rig_dir(r, STORE_ROOT_INO, "d");

	must_eq(mv(r, STORE_ROOT_INO, "a", STORE_ROOT_INO, "a"), 0);
	must_eq(rig_find(r, "a"), ino);
	rig_must_hold(r, ino, 100, 1);
	must_eq(mv(r, STORE_ROOT_INO, "d", STORE_ROOT_INO, "d"), 0);
	must_eq(rig_find(r, "d"), d);
	rig_must_count(r, STORE_ROOT_INO);
}

static void noreplace_and_other_flags(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_put(r, STORE_ROOT_INO, "a", 100, 1), b = rig_put(r, STORE_ROOT_INO, "b", 200, 2);

	must_eq(store_rename(r->s, STORE_ROOT_INO, "a", STORE_ROOT_INO, "b",
			STORE_RENAME_NOREPLACE, 0),
		-EEXIST);
	must_eq(rig_find(r, "a"), a);
	must_eq(rig_find(r, "b"), b);
	must_eq(store_rename(r->s, STORE_ROOT_INO, "a", STORE_ROOT_INO, "c",
			STORE_RENAME_NOREPLACE, 0),
		0);
	must_eq(rig_find(r, "c"), a);
	must_eq(store_rename(r->s, STORE_ROOT_INO, "c", STORE_ROOT_INO, "b", 2, 0), -EINVAL);
	must_eq(store_rename(r->s, STORE_ROOT_INO, "c", STORE_ROOT_INO, "b", 4, 0), -EINVAL);
	must_eq(rig_find(r, "c"), a);
}

static void refused(void **state)
{
	struct rig *r = *state;
	char long_name[STORE_NAME_MAX + 2];
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), e = rig_dir(r, d, "e");
	uint64_t f = rig_put(r, STORE_ROOT_INO, "f", 1, 1);

	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	must_eq(mv(r, STORE_ROOT_INO, "x", STORE_ROOT_INO, "y"), -ENOENT);
	must_eq(mv(r, STORE_ROOT_INO, "f", 4711, "y"), -ENOENT);
	must_eq(mv(r, STORE_ROOT_INO, "d", f, "y"), -ENOTDIR);
	must_eq(mv(r, STORE_ROOT_INO, "f", STORE_ROOT_INO, "d"), -EISDIR);
	must_eq(mv(r, STORE_ROOT_INO, "d", STORE_ROOT_INO, "f"), -ENOTDIR);
	must_eq(mv(r, STORE_ROOT_INO, "d", d, "y"), -EINVAL);
	must_eq(mv(r, STORE_ROOT_INO, "d", e, "y"), -EINVAL);
	must_eq(mv(r, STORE_ROOT_INO, "f", STORE_ROOT_INO, long_name), -ENAMETOOLONG);
	must_eq(rig_find(r, "d/e"), e);
	must_eq(rig_find(r, "f"), f);
}

static void folder_over_folder(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a"), empty = rig_dir(r, STORE_ROOT_INO, "empty");
	uint64_t full = rig_dir(r, STORE_ROOT_INO, "full");

	(void)rig_put(r, full, "x", 1, 1);
	(void)rig_put(r, a, "y", 2, 1);
	must_eq(mv(r, STORE_ROOT_INO, "a", STORE_ROOT_INO, "full"), -ENOTEMPTY);
	must_eq(mv(r, STORE_ROOT_INO, "a", STORE_ROOT_INO, "empty"), 0);
	must_eq(rig_find(r, "empty"), a);
	must_eq(rig_attr_error(r, empty), -ENOENT);
	rig_must_path(r, rig_find(r, "empty/y"), "empty/y");
	rig_must_count(r, STORE_ROOT_INO);
}

/* ---- states ---------------------------------------------------------------------------------------- */

static void what_each_state_becomes(void **state)
{
	static const struct {
		enum file_state before, after;
	} cases[] = {
		{FILE_CLOSED, FILE_CLOSED},
		{FILE_SETTLED, FILE_CLOSED},
		{FILE_QUEUED, FILE_CLOSED},
		{FILE_HELD, FILE_CLOSED},
		{FILE_FAILED, FILE_CLOSED},
		{FILE_SENDING, FILE_SENDING},
		{FILE_UPLOADED, FILE_MOVING},
		{FILE_VERIFIED, FILE_MOVING},
	};
	struct rig *r = *state;

	r->config.settle_ms = 2000;
	rig_reopen(r);
	for (size_t i = 0; i < array_len(cases); i++) {
		uint64_t ino = rig_put(r, STORE_ROOT_INO, "old", 100, 1), generation;
		struct store_inode now;
		char name[16];

		snprintf(rig_context, sizeof(rig_context), "renamed while %s",
			file_state_text(cases[i].before));
		snprintf(name, sizeof(name), "new-%zu", i);
		rig_bring(r, ino, cases[i].before);
		generation = rig_attr(r, ino).generation;
		clock_fake_advance_ms(60000);
		must_eq(mv(r, STORE_ROOT_INO, "old", STORE_ROOT_INO, name), 0);
		now = *rig_inode(r, ino);
		must_state(now.attr.state, cases[i].after);
		must_eq(now.attr.generation, generation);
		if (cases[i].after == FILE_CLOSED)
			must_eq(now.due_at_ns, clock_wall_ns() + 2 * NS_PER_S);
		if (cases[i].before == FILE_HELD) {
			must_eq(now.held, HELD_NOT);
			must_text(now.reason, "");
		}
		rig_must_count(r, STORE_ROOT_INO);
	}
	rig_context[0] = '\0';
}

/* What needs a person still does under another name; what is being written stays so. */
static void states_that_a_rename_keeps(void **state)
{
	struct rig *r = *state;
	uint64_t cut = rig_create(r, STORE_ROOT_INO, "cut", STORE_FILE);
	uint64_t open = rig_create(r, STORE_ROOT_INO, "open", STORE_FILE);
	struct store_file *f = rig_write_begin(r, cut), *g = rig_write_begin(r, open);

	rig_write_pattern(f, 0, 10, 1);
	must_eq(store_file_flush(f, true, "killed"), 0);
	store_file_writer_drop(f);
	store_file_close(f);
	must_state(rig_state(r, cut), FILE_INCOMPLETE);
	must_eq(mv(r, STORE_ROOT_INO, "cut", STORE_ROOT_INO, "cut2"), 0);
	must_state(rig_state(r, cut), FILE_INCOMPLETE);
	must_text(rig_inode(r, cut)->reason, "killed");
	rig_write_pattern(g, 0, 10, 1);
	must_eq(mv(r, STORE_ROOT_INO, "open", STORE_ROOT_INO, "open2"), 0);
	must_state(rig_state(r, open), FILE_OPEN);
	rig_write_end(g);
	must_state(rig_state(r, open), FILE_CLOSED);
	rig_must_path(r, open, "open2");
}

/* A moved object is ours under its old name, too; what was not sent yet is none. */
static void old_key_is_ours(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "a", 100, 1);

	rig_bring(r, ino, FILE_UPLOADED);
	must(store_key_is_ours(r->s, "a"));
	must_eq(mv(r, STORE_ROOT_INO, "a", STORE_ROOT_INO, "b"), 0);
	must(store_key_is_ours(r->s, "a"));
	must_eq(store_key_is_ours(r->s, "b"), 0);
	must_text(rig_inode(r, ino)->object.key, "a");
}

/* ---- folders ------------------------------------------------------------------------------------------ */

static int jobs(struct rig *r, struct store_job *first)
{
	struct store_job *list = calloc(8, sizeof(*list));
	int n = store_jobs(r->s, list, 8);

	if (n > 0)
		*first = list[0];
	free(list);
	return n;
}

static void folder_opens_a_job_only_if_needed(void **state)
{
	static const struct {
		enum file_state below;
		bool job;
	} cases[] = {
		{FILE_CLOSED, false},
		{FILE_SETTLED, false},
		{FILE_HELD, true},
		{FILE_SENDING, true},
		{FILE_UPLOADED, true},
		{FILE_VERIFIED, true},
	};
	static struct store_job job;
	struct rig *r = *state;

	for (size_t i = 0; i < array_len(cases); i++) {
		uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), e = rig_dir(r, d, "e"), ino;
		char name[16];

		snprintf(rig_context, sizeof(rig_context), "%s below",
			file_state_text(cases[i].below));
		snprintf(name, sizeof(name), "to-%zu", i);
		ino = rig_put(r, e, "f", 100, 1);
		rig_bring(r, ino, cases[i].below);
		must_eq(mv(r, STORE_ROOT_INO, "d", STORE_ROOT_INO, name), 0);
		must_eq(jobs(r, &job), cases[i].job ? 1 : 0);
		if (!cases[i].job)
			continue;
		must_eq(job.dir_ino, d);
		must_text(job.old_prefix, "d");
		rig_reopen(r);
		must_eq(jobs(r, &job), 1);
		must_eq(job.dir_ino, d);
		must_eq(store_job_end(r->s, job.id), 0);
		must_eq(jobs(r, &job), 0);
		rig_must_count(r, STORE_ROOT_INO);
	}
	rig_context[0] = '\0';
}

static void folder_moves_everything_below(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a"), b = rig_dir(r, a, "b");
	uint64_t other = rig_dir(r, STORE_ROOT_INO, "other"), f = rig_put(r, b, "f", 100, 1);
	struct store_counts c;

	must_eq(mv(r, a, "b", other, "bb"), 0);
	rig_must_path(r, f, "other/bb/f");
	must_eq(store_counts(r->s, a, &c), 0);
	must_eq(c.files[FILE_CLOSED], 0);
	must_eq(store_counts(r->s, other, &c), 0);
	must_eq(c.files[FILE_CLOSED], 1);
	must_eq(c.bytes[FILE_CLOSED], 100);
	rig_must_count(r, STORE_ROOT_INO);
}

static void folder_costs_one_record(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d");
	struct store_space before, after;
	uint64_t f = 0;

	for (int i = 0; i < 2000; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		f = rig_put(r, d, name, 0, 1);
	}
	store_space(r->s, &before);
	must_eq(mv(r, STORE_ROOT_INO, "d", STORE_ROOT_INO, "e"), 0);
	store_space(r->s, &after);
	must(after.journal_bytes > before.journal_bytes);
	must(after.journal_bytes - before.journal_bytes < 4096);
	rig_must_path(r, f, "e/f1999");
	must_eq(rig_find(r, "e/f1999"), f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(file_within_and_across_folders),
		rig_test(over_a_file_that_was_never_sent),
		rig_test(over_a_file_in_the_bucket),
		rig_test(over_an_open_file),
		rig_test(onto_itself_changes_nothing),
		rig_test(noreplace_and_other_flags),
		rig_test(refused),
		rig_test(folder_over_folder),
		rig_test_clock(what_each_state_becomes),
		rig_test(states_that_a_rename_keeps),
		rig_test(old_key_is_ours),
		rig_test(folder_opens_a_job_only_if_needed),
		rig_test(folder_moves_everything_below),
		rig_test(folder_costs_one_record),
	};

	return cmocka_run_group_tests_name("store rename", tests, NULL, NULL);
}
