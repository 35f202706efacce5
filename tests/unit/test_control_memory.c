/*
 * `.cpgfs` short of memory: what it shows is what it shows otherwise, or an error; never less, and
 * no status that is better than it stands.
 */
#include <errno.h>

#include "memory_fault.h"

#include "control_private.h"

#include "control_bench.h"

#define TEXT_MAX (64 * 1024)

static char baseline[TEXT_MAX], got[TEXT_MAX];

static bool is_told(int error)
{
	return error == -ENOMEM || error == -ENETDOWN;
}

/* ---- files ---- */

/* Without what a busy machine or a moment changes, and without what may be left out. */
static void keep_lines(const char *path, const struct buf *text, char out[TEXT_MAX])
{
	static const char *const passing[] = {"\"disk_free_bytes\"", "\"index_bytes\"",
		"\"journal_bytes\"", "\"uptime_s\"", "\"size_bytes\"", "\"jobs\"", "\"limit\"",
		"_open ", "cache: ", "sending: ", "renamed folders", "cpgfs_transfers_limit",
		"cpgfs_cache_size_bytes", "    d/"};
	const char *line = buf_text(text);
	bool is_table = text_ends(path, ".tsv");
	size_t len = 0;

	for (size_t n; *line; line += n + (line[n] == '\n')) {
		bool keep = true;

		n = strcspn(line, "\n");
		for (size_t i = 0; i < array_len(passing) && !is_table; i++)
			keep = keep && !memmem(line, n, passing[i], strlen(passing[i]));
		if (keep)
			len += (size_t)snprintf(out + len, TEXT_MAX - len, "%.*s\n", (int)n, line);
	}
	out[len] = '\0';
}

static int read_lines(const char *path, char out[TEXT_MAX])
{
	cleanup_buf struct buf text = {0};
	int r = read_as(OWNER, path, &text);

	if (r == 0)
		keep_lines(path, &text, out);
	return r;
}

static size_t equal_len(void)
{
	size_t len = 0;

	while (got[len] && got[len] == baseline[len])
		len++;
	return len;
}

static bool play_read(void *user)
{
	const char *path = user;
	bool reached;
	int r;

	memory_fault_begin(memory_sweep_at, false);
	r = read_lines(path, got);
	reached = memory_fault_end();
	must_hold(r == 0 || is_told(r));
	if (r == 0 && strcmp(got, baseline) != 0)
		fail_msg("call %ld failed: %s says %.200s, not %.200s", memory_sweep_at, path,
			got + equal_len(), baseline + equal_len());
	return reached;
}

static void make_some(void)
{
	uint64_t d = make(STORE_ROOT_INO, "d", STORE_DIR);

	(void)make_file(d, "closed", 10);
	(void)make(d, "open", STORE_FILE);
	set_state(make_file(d, "failed", 20), FILE_FAILED, HELD_NOT, "refused: why");
	set_state(make_file(d, "Thumbs.db", 1), FILE_HELD, HELD_JUNK, "junk");
	set_state(make_file(d, "a b", 2), FILE_HELD, HELD_NAME, "a blank");
	set_state(make_file(d, ".x.aBcDeF", 4), FILE_HELD, HELD_TEMPORARY, "temporary");
	fake_put(bucket, "there/a", 1, "e");
	fake_put(bucket, "there/b", 2, "e");
	fake_put(bucket, "there/c/d", 3, "e");
}

static void files_are_whole_or_fail(void **state)
{
	static const char *const paths[] = {"status", "status.json", "metrics", "queue.tsv",
		"failed.tsv", "rejected.tsv", "uploaded.tsv", "layout.tsv", "plates.tsv",
		"remote/there/.listing.tsv"};

	make_some();
	for (size_t i = 0; i < array_len(paths); i++) {
		assert_int_equal(read_lines(paths[i], baseline), 0);
		assert_true(strlen(baseline) > 0);
		memory_sweep(paths[i], play_read, (void *)paths[i], 1);
	}
}

/* ---- folders ---- */

static int add_name(void *arg, const char *name, const struct fs_virtual_attr *attr)
{
	struct buf *out = arg;

	buf_printf(out, "%s%s:%llu ", name, attr->is_dir ? "/" : "",
		(unsigned long long)attr->size_bytes);
	return buf_error(out);
}

static int list_names(const char *path, char out[TEXT_MAX])
{
	cleanup_buf struct buf names = {0};
	struct fs_virtual_attr attr;
	int r = look(path, &attr);

	if (r == 0)
		r = tree.list(tree.user, attr.id, add_name, &names);
	if (r == 0)
		snprintf(out, TEXT_MAX, "%s", buf_text(&names));
	return r;
}

static bool play_list(void *user)
{
	const char *path = user;
	bool reached;
	int r;

	memory_fault_begin(memory_sweep_at, false);
	r = list_names(path, got);
	reached = memory_fault_end();
	must_hold(r == 0 || is_told(r));
	must_hold(r < 0 || strcmp(got, baseline) == 0);
	return reached;
}

static void folders_are_whole_or_fail(void **state)
{
	static const char *const paths[] = {"", "remote", "remote/there", "plates", "reply"};

	make_some();
	assert_int_equal(command("counts token d\n"), 0);
	for (size_t i = 0; i < array_len(paths); i++) {
		assert_int_equal(list_names(paths[i], baseline), 0);
		memory_sweep(paths[i], play_list, (void *)paths[i], 1);
	}
}

/* ---- plates ---- */

static void make_plate(void)
{
	static const char *const folders[] = {
		"cpg0001-x", "broad", "images", "2026_01_15_Batch1", "images", "BR1__2026-Measurement1"};
	uint64_t at = STORE_ROOT_INO;

	for (size_t i = 0; i < array_len(folders); i++) {
		at = make(at, folders[i], STORE_DIR);
		if (i == 0)
			(void)make_file(make(at, "no_place_for_it", STORE_DIR), "x.exe", 1);
	}
	at = make(at, "Images", STORE_DIR);
	(void)make_file(at, "r01c01f01p01-ch1sk1fk1fl1.tiff", 10);
	(void)make_file(at, "r01c02f01p01-ch1sk1fk1fl1.tiff", 10);
	set_state(make_file(at, "r02c01f01p01-ch1sk1fk1fl1.tiff", 20), FILE_FAILED, HELD_NOT, "why");
}

/* Nothing missing, and no file in a better state than it is. */
static void plates_are_whole_or_fail(void **state)
{
#define BATCH_OF_PLATE "plates/cpg0001-x/broad/2026_01_15_Batch1"
	static const char *const files[] = {BATCH_OF_PLATE "/BR1__2026-Measurement1.svg",
		BATCH_OF_PLATE "/BR1__2026-Measurement1.txt", "plates.tsv", "layout.tsv"};
	static const char *const folders[] = {"plates", "plates/cpg0001-x", BATCH_OF_PLATE};
	struct layout *layout;
	char *message = NULL;

	assert_int_equal(layout_create(&layout, layout_builtin("cellpainting"), &message), 0);
	control->config.layout = layout;
	make_plate();
	for (size_t i = 0; i < array_len(files); i++) {
		assert_int_equal(read_lines(files[i], baseline), 0);
		assert_true(strlen(baseline) > 80);
		memory_sweep(files[i], play_read, (void *)files[i], 1);
	}
	for (size_t i = 0; i < array_len(folders); i++) {
		assert_int_equal(list_names(folders[i], baseline), 0);
		assert_true(strlen(baseline) > 0);
		memory_sweep(folders[i], play_list, (void *)folders[i], 1);
	}
	control->config.layout = NULL;
	layout_destroy(layout);
}

/* ---- commands ---- */

static bool play_command(void *user)
{
	cleanup_buf struct buf text = {0};
	static unsigned serial; /* no token twice */
	char line[128], path[64];
	bool reached;
	int r;

	snprintf(line, sizeof(line), "counts t%u %s\n", ++serial, (const char *)user);
	snprintf(path, sizeof(path), "reply/t%u", serial);
	memory_fault_begin(memory_sweep_at, false);
	r = command(line);
	reached = memory_fault_end();
	must_hold(r == 0 || is_told(r));
	r = read_as(OWNER, path, &text) == 0 ? r
					     : -ENOENT; /* without memory for it there is none */
	if (r == 0 && strcmp(buf_text(&text), baseline) != 0)
		fail_msg("call %ld failed: %s, not %s", memory_sweep_at, buf_text(&text), baseline);
	return reached;
}

static void sweep_counts(const char *path)
{
	cleanup_buf struct buf text = {0};
	char line[128];

	snprintf(line, sizeof(line), "counts base %s\n", path);
	assert_int_equal(command(line), 0);
	assert_int_equal(read_as(OWNER, "reply/base", &text), 0);
	snprintf(baseline, sizeof(baseline), "%s", buf_text(&text));
	memory_sweep(path, play_command, (void *)path, 1);
}

static void counts_are_right_or_fail(void **state)
{
	make_some();
	sweep_counts("");
	sweep_counts("d");
	sweep_counts("there/c"); /* which only the bucket has */
	sweep_counts("nowhere");
}

/* All is verified but for a folder that the bucket has to follow. */
static bool play_exit_code(void *user)
{
	cleanup_buf struct buf text = {0};
	bool reached;
	json_t *json;
	int r;

	memory_fault_begin(memory_sweep_at, false);
	r = read_as(OWNER, "status.json", &text);
	reached = memory_fault_end();
	must_hold(r == 0 || is_told(r));
	if (r < 0)
		return reached;
	json = json_loads(buf_text(&text), 0, NULL);
	must_hold(json_integer_value(json_object_get(json, "exit_code")) == 2);
	json_decref(json);
	return reached;
}

static void what_is_to_follow_is_not_forgotten(void **state)
{
	uint64_t d = make(STORE_ROOT_INO, "d", STORE_DIR), ino;

	upload_stop(upload, 0); /* it would work it off */
	ino = make_file(d, "x.tmp", 1);
	set_state(ino, FILE_HELD, HELD_TEMPORARY, "its name");
	assert_int_equal(store_rename(store, STORE_ROOT_INO, "d", STORE_ROOT_INO, "e", 0, 0), 0);
	assert_int_equal(store_unlink(store, d, "x.tmp", 0), 0);
	memory_sweep("a job", play_exit_code, NULL, 1);
}

static int setup_quiet(void **state)
{
	log_set_level(LOG_LEVEL_ERROR);
	json_set_alloc_funcs(__wrap_malloc, free); /* as auth does */
	return setup(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_are_whole_or_fail, setup_quiet, teardown),
		cmocka_unit_test_setup_teardown(folders_are_whole_or_fail, setup_quiet, teardown),
		cmocka_unit_test_setup_teardown(plates_are_whole_or_fail, setup_quiet, teardown),
		cmocka_unit_test_setup_teardown(counts_are_right_or_fail, setup_quiet, teardown),
		cmocka_unit_test_setup_teardown(
			what_is_to_follow_is_not_forgotten, setup_quiet, teardown),
	};

	return cmocka_run_group_tests_name("control short of memory", tests, NULL, NULL);
}
