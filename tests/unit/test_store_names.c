/*
 * Names: create, lookup, readdir by pages, paths, unlink, rmdir, attributes.
 */
#include "store_rig.h"

static int create_error(struct rig *r, uint64_t parent, const char *name, enum store_type type)
{
	struct store_create c = {.parent = parent, .name = name, .type = type, .mode = 0644};
	struct store_attr a;

	return store_create(r->s, &c, &a);
}

static void new_file_has_what_was_asked_for(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "a.tif", STORE_FILE);
	struct store_attr a = rig_attr(r, ino);

	must_eq(a.ino, ino);
	must(ino != STORE_ROOT_INO && !(ino & STORE_INO_FROM_BUCKET));
	must_eq(a.parent, STORE_ROOT_INO);
	must_eq(a.type, STORE_FILE);
	must_eq(a.mode, S_IFREG | 0644);
	must_eq(a.uid, 1000);
	must_eq(a.gid, 1001);
	must_eq(a.size_bytes, 0);
	must_eq(a.mtime_ns, T0_NS);
	must_eq(a.ctime_ns, T0_NS);
	must_state(a.state, FILE_OPEN);
	must(!a.in_bucket);
	must_text(rig_inode(r, ino)->name, "a.tif");
	must_text(rig_inode(r, ino)->object.key, "");
}

static void new_folder_has_what_was_asked_for(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_dir(r, STORE_ROOT_INO, "plate");
	struct store_attr a = rig_attr(r, ino);

	must_eq(a.type, STORE_DIR);
	must_eq(a.mode, S_IFDIR | 0755);
	must_state(a.state, FILE_NONE);
	must_eq(rig_attr(r, STORE_ROOT_INO).type, STORE_DIR);
	must(S_ISDIR(rig_attr(r, STORE_ROOT_INO).mode));
}

static void folder_with_the_buckets_number(void **state)
{
	struct rig *r = *state;
	uint64_t want = store_ino_of_key("p/q/");
	struct store_create c = {.parent = STORE_ROOT_INO,
		.name = "p",
		.type = STORE_DIR,
		.mode = 0755,
		.ino = want,
		.flags = STORE_FLAG_BORN_LOCAL};
	struct store_attr a;

	must(want & STORE_INO_FROM_BUCKET);
	must(want == store_ino_of_key("p/q/"));
	must(want != store_ino_of_key("p/q"));
	must_eq(store_create(r->s, &c, &a), 0);
	must(a.ino == want);
	must_eq(a.flags, STORE_FLAG_BORN_LOCAL);
	must(rig_find(r, "p") == want);
	rig_reopen(r);
	must(rig_find(r, "p") == want);
}

static void create_refuses(void **state)
{
	struct rig *r = *state;
	char long_name[STORE_NAME_MAX + 2];
	uint64_t file = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);

	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	must_eq(create_error(r, STORE_ROOT_INO, "f", STORE_FILE), -EEXIST);
	must_eq(create_error(r, STORE_ROOT_INO, "f", STORE_DIR), -EEXIST);
	must_eq(create_error(r, 4711, "g", STORE_FILE), -ENOENT);
	must_eq(create_error(r, file, "g", STORE_FILE), -ENOTDIR);
	must_eq(create_error(r, STORE_ROOT_INO, long_name, STORE_FILE), -ENAMETOOLONG);
	long_name[STORE_NAME_MAX] = '\0';
	must_eq(create_error(r, STORE_ROOT_INO, long_name, STORE_FILE), 0);
	must_eq(rig_files_in(r, FILE_OPEN), 2);
}

static void lookup_finds_and_refuses(void **state)
{
	struct rig *r = *state;
	uint64_t dir = rig_dir(r, STORE_ROOT_INO, "d");
	uint64_t file = rig_create(r, dir, "f", STORE_FILE);
	struct store_attr a;

	must_eq(store_lookup(r->s, dir, "f", &a), 0);
	must_eq(a.ino, file);
	must_eq(store_lookup(r->s, STORE_ROOT_INO, "f", &a), -ENOENT);
	must_eq(store_lookup(r->s, file, "f", &a), -ENOTDIR);
	must_eq(store_lookup(r->s, 4711, "f", &a), -ENOENT);
	must_eq(rig_attr_error(r, 4711), -ENOENT);
}

/* Any bytes but '/' and NUL are a name. */
static void odd_bytes_are_names(void **state)
{
	struct rig *r = *state;
	static const char *const names[] = {" ", "a b", "\x01", "\xff\xfe", "ä", "%2F", "+", "...", "~",
		"\n", ".x.AbCdEf"};

	for (size_t i = 0; i < array_len(names); i++) {
		uint64_t ino = rig_create(r, STORE_ROOT_INO, names[i], STORE_FILE);

		must_eq(rig_find(r, names[i]), ino);
		rig_must_path(r, ino, names[i]);
	}
}

/* ---- readdir -------------------------------------------------------------------------------------- */

#define MANY 1000

static void many_names(struct rig *r, uint64_t dir)
{
	for (unsigned i = 0; i < MANY; i++) {
		char name[32];

		/* made in another order than they sort, and some with high bytes */
		snprintf(name, sizeof(name), "%c%03u", (i * 7) % MANY < 900 ? 'n' : 0xe4,
			(i * 7) % MANY);
		(void)rig_create(r, dir, name, i % 50 ? STORE_FILE : STORE_DIR);
	}
}

static void readdir_pages_see_each_name_once_in_order(void **state)
{
	struct rig *r = *state;
	static struct store_entry page[MANY + 1];
	static const size_t sizes[] = {1, 7, 64, MANY, MANY + 1};
	uint64_t dir = rig_dir(r, STORE_ROOT_INO, "d");

	many_names(r, dir);
	for (size_t k = 0; k < array_len(sizes); k++) {
		char last[STORE_NAME_MAX + 1] = "";
		unsigned seen = 0, dirs = 0;
		int n;

		while ((n = store_readdir(r->s, dir, last, page, sizes[k])) > 0) {
			must((size_t)n <= sizes[k]);
			for (int i = 0; i < n; i++) {
				must(strcmp(last, page[i].name) < 0);
				(void)text_copy(last, page[i].name, sizeof(last));
				dirs += page[i].attr.type == STORE_DIR;
				must_eq(page[i].attr.parent, dir);
				seen++;
			}
		}
		must_eq(n, 0);
		must_eq(seen, MANY);
		must_eq(dirs, MANY / 50);
	}
}

static void readdir_goes_on_after_a_name_that_is_gone(void **state)
{
	struct rig *r = *state;
	struct store_entry page[2];

	(void)rig_put(r, STORE_ROOT_INO, "a", 1, 1);
	(void)rig_put(r, STORE_ROOT_INO, "b", 1, 1);
	(void)rig_put(r, STORE_ROOT_INO, "c", 1, 1);
	must_eq(store_readdir(r->s, STORE_ROOT_INO, "", page, 2), 2);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "b", 0), 0);
	must_eq(store_readdir(r->s, STORE_ROOT_INO, "b", page, 2), 1);
	must_text(page[0].name, "c");
	must_eq(store_readdir(r->s, STORE_ROOT_INO, "bb", page, 2), 1);
	must_eq(store_readdir(r->s, STORE_ROOT_INO, "c", page, 2), 0);
}

static void readdir_stays_in_its_folder(void **state)
{
	struct rig *r = *state;
	struct store_entry page[8];
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a"), b = rig_dir(r, STORE_ROOT_INO, "b");
	uint64_t file = rig_put(r, b, "x", 1, 1);

	must_eq(store_readdir(r->s, a, "", page, 8), 0);
	must_eq(store_readdir(r->s, b, "", page, 8), 1);
	must_eq(page[0].attr.ino, file);
	must_eq(store_readdir(r->s, file, "", page, 8), -ENOTDIR);
	must_eq(store_readdir(r->s, 4711, "", page, 8), -ENOENT);
}

/* ---- paths ---------------------------------------------------------------------------------------- */

static void paths_both_ways(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a"), b = rig_dir(r, a, "b");
	uint64_t f = rig_put(r, b, "c.tif", 3, 1);

	rig_must_path(r, STORE_ROOT_INO, "");
	rig_must_path(r, b, "a/b");
	rig_must_path(r, f, "a/b/c.tif");
	must_eq(rig_find(r, ""), STORE_ROOT_INO);
	must_eq(rig_find(r, "a/b/c.tif"), f);
	must_eq(rig_resolve_error(r, "a/x"), -ENOENT);
	must_eq(rig_resolve_error(r, "a/x/y"), -ENOENT);
	must_eq(rig_resolve_error(r, "a/b/c.tif/d"), -ENOTDIR);
}

static void path_of_nothing(void **state)
{
	struct rig *r = *state;
	cleanup_buf struct buf path = {0};

	must_eq(store_path(r->s, 4711, &path), -ENOENT);
}

static void deep_paths(void **state)
{
	struct rig *r = *state;
	cleanup_buf struct buf want = {0};
	uint64_t ino = STORE_ROOT_INO;

	for (int i = 0; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "d%d", i);
		ino = rig_dir(r, ino, name);
		buf_printf(&want, "%s%s", i ? "/" : "", name);
	}
	rig_must_path(r, ino, buf_text(&want));
	must_eq(rig_find(r, buf_text(&want)), ino);
}

/* ---- unlink, rmdir ------------------------------------------------------------------------------------ */

static void unlink_of_what_was_never_sent(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 5000, 1);

	must_eq(rig_data_files(r), 1);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 600000), 0);
	must_eq(rig_resolve_error(r, "f"), -ENOENT);
	must_eq(rig_attr_error(r, ino), -ENOENT);
	must_eq(rig_data_files(r), 0);
	must_eq(rig_files_in(r, FILE_CLOSED), 0);
	must_eq(rig_files_in(r, FILE_DELETING), 0);
	rig_reopen(r);
	must_eq(rig_attr_error(r, ino), -ENOENT);
}

static void unlinked_file_lives_while_open(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 5000, 1);
	struct store_file *f = rig_write_begin(r, ino), *g = rig_file(r, ino);
	struct store_attr a;

	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
	must_eq(rig_resolve_error(r, "f"), -ENOENT);
	rig_write_pattern(f, 5000, 3000, 1);
	rig_must_hold(r, ino, 8000, 1);
	store_file_attr(f, &a);
	must_eq(a.size_bytes, 8000);
	must(a.flags & STORE_FLAG_UNLINKED);
	rig_must_path(r, ino, "f");
	rig_write_end(f);
	must_eq(rig_attr(r, ino).ino, ino);
	store_file_close(g);
	must_eq(rig_attr_error(r, ino), -ENOENT);
	must_eq(rig_data_files(r), 0);
	rig_must_count(r, STORE_ROOT_INO);
}

static void name_is_free_after_unlink(void **state)
{
	struct rig *r = *state;
	uint64_t first = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	struct store_file *f = rig_file(r, first);
	uint64_t second;

	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
	second = rig_put(r, STORE_ROOT_INO, "f", 200, 2);
	must(second != first);
	store_file_close(f);
	rig_must_hold(r, second, 200, 2);
	must_eq(rig_data_files(r), 1);
}

static void unlink_and_rmdir_refuse(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d");

	(void)rig_put(r, d, "f", 1, 1);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "d", 0), -EISDIR);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "x", 0), -ENOENT);
	must_eq(store_rmdir(r->s, STORE_ROOT_INO, "d"), -ENOTEMPTY);
	must_eq(store_rmdir(r->s, STORE_ROOT_INO, "x"), -ENOENT);
	must_eq(store_rmdir(r->s, d, "f"), -ENOTDIR);
	must_eq(store_unlink(r->s, d, "f", 0), 0);
	must_eq(store_rmdir(r->s, STORE_ROOT_INO, "d"), 0);
	must_eq(rig_attr_error(r, d), -ENOENT);
	must_eq(rig_resolve_error(r, "d"), -ENOENT);
}

/* ---- attributes ------------------------------------------------------------------------------------- */

static void setattr_changes_what_the_mask_names(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	struct store_attr before = rig_attr(r, ino), got;
	struct store_attr v = {.mode = 0600,
		.uid = 7,
		.gid = 8,
		.mtime_ns = 123 * NS_PER_S + 5,
		.atime_ns = 456 * NS_PER_S};

	clock_fake_advance_ms(5);
	must_eq(store_setattr(r->s, ino, STORE_SET_MODE, &v, &got), 0);
	must_eq(got.mode, S_IFREG | 0600);
	must_eq(got.uid, 1000);
	must_eq(got.mtime_ns, before.mtime_ns);
	must_eq(got.ctime_ns, T0_NS + 5000000);
	must_eq(store_setattr(r->s, ino,
			STORE_SET_UID | STORE_SET_GID | STORE_SET_MTIME | STORE_SET_ATIME, &v, &got),
		0);
	must_eq(got.uid, 7);
	must_eq(got.gid, 8);
	must_eq(got.mtime_ns, 123 * NS_PER_S + 5);
	must_eq(got.atime_ns, 456 * NS_PER_S);
	must(got.flags & STORE_FLAG_COMPLETE);
	must_eq(got.generation, before.generation);
	must_state(got.state, FILE_CLOSED);
	rig_reopen(r);
	got = rig_attr(r, ino);
	must_eq(got.mode, S_IFREG | 0600);
	must_eq(got.mtime_ns, 123 * NS_PER_S + 5);
}

/* rsync marks what it kept of a broken transfer so; whatever the file waits for, it must not go. */
static void mtime_zero_marks_incomplete(void **state)
{
	static const enum file_state from[] = {
		FILE_CLOSED, FILE_SETTLED, FILE_QUEUED, FILE_HELD, FILE_FAILED};
	struct rig *r = *state;

	for (size_t i = 0; i < array_len(from); i++) {
		struct store_attr v = {.mtime_ns = 999999999}, got;
		uint64_t ino;
		char name[8];

		snprintf(name, sizeof(name), "f%zu", i);
		snprintf(rig_context, sizeof(rig_context), "%s", file_state_text(from[i]));
		ino = rig_put(r, STORE_ROOT_INO, name, 10, 1);
		rig_bring(r, ino, from[i]);
		must_eq(store_setattr(r->s, ino, STORE_SET_MTIME, &v, &got), 0);
		must_state(got.state, FILE_INCOMPLETE);
		must_eq(got.mtime_ns, 999999999);
		must(rig_inode(r, ino)->reason[0] != '\0');
	}
	rig_context[0] = '\0';
	must_eq(rig_files_in(r, FILE_INCOMPLETE), array_len(from));
}

static void mtime_zero_of_what_is_in_the_bucket_is_kept_here_only(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	struct store_attr v = {.mtime_ns = 77 * NS_PER_S}, got;

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_setattr(r->s, ino, STORE_SET_MTIME, &v, &got), 0);
	must_state(got.state, FILE_VERIFIED);
	must(got.in_bucket);
	must_eq(got.mtime_ns, 77 * NS_PER_S);
}

static void folders_times_follow_their_entries(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), e = rig_dir(r, STORE_ROOT_INO, "e");

	clock_fake_advance_ms(10);
	(void)rig_put(r, d, "f", 1, 1);
	must_eq(rig_attr(r, d).mtime_ns, T0_NS + 10 * 1000000);
	clock_fake_advance_ms(10);
	must_eq(store_rename(r->s, d, "f", e, "f", 0, 0), 0);
	must_eq(rig_attr(r, d).mtime_ns, T0_NS + 20 * 1000000);
	must_eq(rig_attr(r, e).mtime_ns, T0_NS + 20 * 1000000);
	clock_fake_advance_ms(10);
	must_eq(store_unlink(r->s, e, "f", 0), 0);
	must_eq(rig_attr(r, e).mtime_ns, T0_NS + 30 * 1000000);
	must_eq(rig_attr(r, d).mtime_ns, T0_NS + 20 * 1000000);
}

/* ---- objects from elsewhere ----------------------------------------------------------------------------- */

static void import_makes_a_nameless_inode(void **state)
{
	struct rig *r = *state;
	struct store_object o = {.key = "p/elsewhere.tif", .etag = "e1", .size_bytes = 10000};
	struct store_file *f;
	struct store_attr a;
	uint64_t chunk = 99;
	char byte;

	must_eq(store_import(r->s, &o, &a), 0);
	must(a.ino == store_ino_of_key("p/elsewhere.tif"));
	must_state(a.state, FILE_NONE);
	must_eq(a.size_bytes, 10000);
	must(a.flags & STORE_FLAG_FOREIGN);
	must_eq(rig_resolve_error(r, "p/elsewhere.tif"), -ENOENT);
	f = rig_file(r, a.ino);
	must_eq(store_file_read(f, &byte, 1, 5000, &chunk), -EREMOTE);
	must_eq(chunk, 1);
	store_file_close(f);
	must_eq(store_import(r->s, &o, &a), 0);
}

static void import_with_another_etag_drops_chunks(void **state)
{
	struct rig *r = *state;
	struct store_object o = {.key = "p/e", .etag = "e1", .size_bytes = 100};
	struct store_file *f;
	struct store_attr a;
	uint64_t chunk;

	must_eq(store_import(r->s, &o, &a), 0);
	f = rig_file(r, a.ino);
	must_eq(store_chunk_fill_begin(f, 0), 0);
	must_eq(store_chunk_fill_write(f, 0, 0, o.key, 3), 0);
	must_eq(store_chunk_fill_end(f, 0, true), 0);
	must(store_file_has(f, 0, 100, &chunk));
	must_eq(store_import(r->s, &o, &a), 0);
	must(store_file_has(f, 0, 100, &chunk));
	(void)text_copy(o.etag, "e2", sizeof(o.etag));
	o.size_bytes = 50;
	must_eq(store_import(r->s, &o, &a), -EBUSY);
	store_file_close(f);
	must_eq(store_import(r->s, &o, &a), 0);
	must_eq(a.size_bytes, 50);
	f = rig_file(r, a.ino);
	must(!store_file_has(f, 0, 50, &chunk));
	store_file_close(f);
	must_text(rig_inode(r, a.ino)->object.etag, "e2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test_clock(new_file_has_what_was_asked_for),
		rig_test(new_folder_has_what_was_asked_for),
		rig_test(folder_with_the_buckets_number),
		rig_test(create_refuses),
		rig_test(lookup_finds_and_refuses),
		rig_test(odd_bytes_are_names),
		rig_test(readdir_pages_see_each_name_once_in_order),
		rig_test(readdir_goes_on_after_a_name_that_is_gone),
		rig_test(readdir_stays_in_its_folder),
		rig_test(paths_both_ways),
		rig_test(path_of_nothing),
		rig_test(deep_paths),
		rig_test(unlink_of_what_was_never_sent),
		rig_test(unlinked_file_lives_while_open),
		rig_test(name_is_free_after_unlink),
		rig_test(unlink_and_rmdir_refuse),
		rig_test_clock(setattr_changes_what_the_mask_names),
		rig_test(mtime_zero_marks_incomplete),
		rig_test(mtime_zero_of_what_is_in_the_bucket_is_kept_here_only),
		rig_test_clock(folders_times_follow_their_entries),
		rig_test(import_makes_a_nameless_inode),
		rig_test(import_with_another_etag_drops_chunks),
	};

	return cmocka_run_group_tests_name("store names", tests, NULL, NULL);
}
