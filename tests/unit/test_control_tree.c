/*
 * The tree of `.cpgfs`: names and rights, commands and their answers, the pure view of the bucket.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "control_private.h"

#include "control_bench.h"

static int setup_prefix(void **state)
{
	return bench_setup("p/q");
}

static int add_name(void *arg, const char *name, const struct fs_virtual_attr *attr)
{
	buf_printf(arg, "%s%s:%o:%llu ", name, attr->is_dir ? "/" : "", attr->mode,
		(unsigned long long)attr->size_bytes);
	return 0;
}

static void assert_listed(const char *path, const char *expected)
{
	cleanup_buf struct buf names = {0};
	struct fs_virtual_attr attr;

	assert_int_equal(look(path, &attr), 0);
	assert_int_equal(tree.list(tree.user, attr.id, add_name, &names), 0);
	assert_string_equal(buf_text(&names), expected);
}

static void the_tree_is_complete(void **state)
{
	struct fs_virtual_attr attr;

	assert_listed("", "control:600:0 credentials:600:0 failed.tsv:444:0 layout.tsv:444:0 metrics:444:0 plates.tsv:444:0 queue.tsv:444:0 "
			  "rejected.tsv:444:0 status:444:0 status.json:444:0 uploaded.tsv:444:0 "
			  "plates/:555:0 remote/:555:0 reply/:700:0 ");
	assert_int_equal(look("nothing", &attr), -ENOENT);
	assert_int_equal(look("status/x", &attr), -ENOTDIR);
	assert_int_equal(look("status", &attr), 0);
	assert_int_equal(tree.attr(tree.user, attr.id, &attr), 0);
	assert_int_equal(attr.mode, 0444);
}

/* ---- commands ---- */

static void assert_answer(const char *token, const char *expected)
{
	json_t *json = answer(token);
	char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);

	assert_string_equal(text, expected);
	free(text);
	json_decref(json);
}

static void commands_are_done_and_answered(void **state)
{
	assert_int_equal(command("resume t1 \n"), 0);
	assert_answer("t1", "{\"count\":0,\"ok\":true}");
	wait_paused(false);
	assert_int_equal(command("pause"), 0);
	wait_paused(true);
	assert_int_equal(command("umount t2"), 0);
	assert_int_equal(stops, 1);
	assert_int_equal(command("drain t2"), 0);
	assert_true(drains);
	assert_int_equal(command("no-drain t2"), 0);
	assert_false(drains);
	assert_int_equal(command("checkpoint - \nflush t3\n"), 0);
	assert_answer("t3", "{\"count\":0,\"ok\":true}");
}

static void wrong_commands_are_refused(void **state)
{
	assert_int_equal(command("frobnicate t1 a/b\n"), -EINVAL);
	assert_answer("t1", "{\"error\":\"no such command\"}");
	assert_int_equal(command("pause bad.token\n"), -EINVAL);
	assert_int_equal(command("refresh t2 a/../b\n"), -EINVAL);
	assert_int_equal(command("counts t2 a/../b\n"), -EINVAL);
	assert_int_equal(command("refresh t3 a\\q\n"), -EINVAL);
	assert_int_equal(command("refresh t4 a\\x00\n"), -EINVAL);
	assert_int_equal(command("retry t5 no/such/path\n"), -ENOENT);
	assert_answer("t5", "{\"error\":\"no such file or folder in the mount\"}");
	assert_int_equal(command("discard t6 \n"), -EINVAL);
	assert_int_equal(command("umount"), 0); /* after all that */
	assert_int_equal(stops, 1);
}

static void only_the_owner_and_root_command(void **state)
{
	cleanup_buf struct buf text = {0};

	assert_int_equal(command_as(STRANGER, "umount t1"), -EACCES);
	assert_int_equal(stops, 0);
	assert_int_equal(command_as(0, "umount t1"), 0);
	assert_int_equal(read_as(STRANGER, "reply/t1", &text), -EACCES);
	assert_int_equal(read_as(0, "reply/t1", &text), 0);
	assert_int_equal(read_as(OWNER, "control", &text), -EACCES); /* write-only */
}

static void other_files_are_not_written(void **state)
{
	struct fs_virtual_attr attr;

	assert_int_equal(look("status", &attr), 0);
	assert_int_equal(tree.write_all(tree.user, attr.id, OWNER, "x", 1), -EPERM);
}

static void answers_are_kept_a_minute(void **state)
{
	struct fs_virtual_attr attr;
	char line[64];

	(void)teardown(NULL);
	clock_fake_begin(1700000000 * NS_PER_S);
	(void)setup(NULL);
	assert_int_equal(command("pause first"), 0);
	for (unsigned i = 0; i < 999; i++) {
		snprintf(line, sizeof(line), "pause t%u", i);
		assert_int_equal(command(line), 0);
	}
	assert_int_equal(look("reply/first", &attr), 0);
	assert_int_equal(command("pause last"), 0);
	assert_int_equal(look("reply/first", &attr), -ENOENT); /* 1,000 at most */
	assert_int_equal(look("reply/last", &attr), 0);
	clock_fake_advance_ms(61000);
	assert_int_equal(look("reply/last", &attr), -ENOENT);
	clock_fake_end();
}

/* ---- counts ---- */

static json_int_t counted(const char *path, const char *table, const char *name)
{
	char line[256];
	json_t *json;
	json_int_t n;

	snprintf(line, sizeof(line), "counts tok %s\n", path);
	assert_int_equal(command(line), 0);
	json = answer("tok");
	n = json_integer_value(json_object_get(json_object_get(json, table), name));
	assert_true(json_is_true(json_object_get(json, "exists")));
	assert_true(json_is_integer(json_object_get(json, "jobs")));
	json_decref(json);
	return n;
}

static bool exists(const char *path)
{
	char line[256];
	json_t *json;
	bool there;

	snprintf(line, sizeof(line), "counts tok %s\n", path);
	assert_int_equal(command(line), 0);
	json = answer("tok");
	there = json_is_true(json_object_get(json, "exists"));
	json_decref(json);
	return there;
}

static void counts_are_of_what_is_below(void **state)
{
	uint64_t d = make(STORE_ROOT_INO, "d", STORE_DIR), e = make(STORE_ROOT_INO, "e", STORE_DIR);

	(void)make_file(d, "1", 10);
	(void)make_file(d, "odd\n\\name", 5);
	set_state(make_file(e, "x", 7), FILE_HELD, HELD_JUNK, "");
	assert_int_equal(counted("", "files", "closed"), 2);
	assert_int_equal(counted("d", "files", "closed"), 2);
	assert_int_equal(counted("d/", "bytes", "closed"), 15);
	assert_int_equal(counted("d/odd\\n\\\\name", "bytes", "closed"), 5);
	assert_int_equal(counted("e", "files", "closed"), 0);
	assert_int_equal(counted("e", "held", "junk"), 1);
}

/* However many folders the bucket has to follow: that one of them lies here is not missed. */
static void jobs_are_counted_beyond_the_first(void **state)
{
	uint64_t top = make(STORE_ROOT_INO, "top", STORE_DIR);

	upload_stop(upload, 0); /* it would work them off */
	for (unsigned i = 0; i < 70; i++) {
		char name[16], line[64];
		uint64_t dir_ino;

		snprintf(name, sizeof(name), "d%u", i);
		dir_ino = make(top, name, STORE_DIR);
		set_state(make_file(dir_ino, "x.tmp", 1), FILE_HELD, HELD_TEMPORARY, "its name");
		snprintf(line, sizeof(line), "e%u", i);
		assert_int_equal(store_rename(store, top, name, top, line, 0, 0), 0);
	}
	for (unsigned i = 0; i < 70; i += 69) {
		char line[64];
		json_t *json;

		snprintf(line, sizeof(line), "counts tok top/e%u\n", i);
		assert_int_equal(command(line), 0);
		json = answer("tok");
		assert_int_equal(json_integer_value(json_object_get(json, "jobs")), 1);
		json_decref(json);
	}
}

static void what_only_the_bucket_has_exists(void **state)
{
	fake_put(bucket, "there/file", 1, "e");
	assert_true(exists("there/file"));
	assert_true(exists("there"));
	assert_false(exists("the"));
	assert_false(exists("there/fil"));
	assert_false(exists("nowhere"));
}

static void levels_above_the_prefix_exist(void **state)
{
	assert_true(exists("p"));
	assert_true(exists("p/q"));
	assert_false(exists("p/x"));
	assert_int_equal(fake_count(bucket, S3_LIST), 0);
}

/* ---- remote/ ---- */

static void remote_shows_what_the_bucket_lists(void **state)
{
	struct fs_virtual_attr attr;

	fake_put(bucket, "a/b/c", 3, "e");
	fake_put(bucket, "a/d", 4, "e");
	(void)make_file(STORE_ROOT_INO, "local", 1);
	assert_listed("remote", "a/:555:0 ");
	assert_listed("remote/a", "b/:555:0 d:444:4 ");
	assert_int_equal(look("remote/a/d", &attr), 0);
	assert_int_equal(attr.mtime_ns, 1700000000 * NS_PER_S);
	assert_int_equal(attr.id, store_ino_of_key("a/d"));
	assert_int_equal(look("remote/local", &attr), -ENOENT);
	assert_int_equal(look("remote/a/d/x", &attr), -ENOTDIR);
	assert_int_equal(tree.attr(tree.user, store_ino_of_key("a/d"), &attr), 0);
	assert_int_equal(attr.size_bytes, 4);
}

static void remote_is_listed_anew_each_time(void **state)
{
	unsigned before;

	fake_put(bucket, "a/1", 1, "e");
	assert_listed("remote/a", "1:444:1 ");
	fake_put(bucket, "a/2", 2, "e");
	before = fake_count(bucket, S3_LIST);
	assert_listed("remote/a", "1:444:1 2:444:2 ");
	assert_int_equal(fake_count(bucket, S3_LIST), before + 1);
}

static void our_own_news_is_not_in_remote(void **state)
{
	struct s3_object object = {.size_bytes = 5, .etag = "e"};
	struct fs_virtual_attr attr;

	fake_put(bucket, "a/1", 1, "e");
	assert_listed("remote/a", "1:444:1 ");
	remote_note_put(the_remote, "a/claimed", &object);
	assert_int_equal(look("remote/a/claimed", &attr), -ENOENT);
	assert_listed("remote/a", "1:444:1 ");
}

static void many_lookups_cost_one_listing(void **state)
{
	struct fs_virtual_attr attr;
	char path[64];

	for (unsigned i = 0; i < 500; i++) {
		snprintf(path, sizeof(path), "a/%u", i);
		fake_put(bucket, path, i, "e");
	}
	for (unsigned i = 0; i < 500; i++) {
		snprintf(path, sizeof(path), "remote/a/%u", i);
		assert_int_equal(look(path, &attr), 0);
		assert_int_equal(attr.size_bytes, i);
	}
	assert_int_equal(fake_count(bucket, S3_LIST), 2); /* of "" and "a/" */
}

static void remote_is_not_read_or_forgotten(void **state)
{
	cleanup_buf struct buf text = {0};
	struct fs_virtual_attr attr;

	fake_put(bucket, "a", 1, "e");
	assert_int_equal(read_as(OWNER, "remote/a", &text), -EPERM);
	assert_int_equal(look("remote/a", &attr), 0);
	tree.forget(tree.user, attr.id);
	assert_int_equal(tree.attr(tree.user, attr.id, &attr), -ESTALE);
	assert_int_equal(look("remote/a", &attr), 0);
}

static bool is_known(uint64_t id)
{
	char key[KEY_MAX_BYTES + 2];

	with_lock(&control->lock);
	return control_nodes_key_locked(control, id, key);
}

static void remember(uint64_t id)
{
	with_lock(&control->lock);
	assert_int_equal(control_nodes_put_locked(control, id, "key"), 0);
}

static void ids_in_use_are_remembered_others_not_for_ever(void **state)
{
	remember(1);
	remember(2);
	for (uint64_t id = 3; id < 300000; id++) {
		remember(id);
		if (id % 1000 == 0)
			assert_true(is_known(1));
	}
	assert_true(is_known(1));
	assert_false(is_known(2));
	assert_true(is_known(299999));
}

static void remote_stays_inside_the_prefix(void **state)
{
	struct fs_virtual_attr attr;

	fake_put(bucket, "p/q/in", 1, "e");
	fake_put(bucket, "p/out", 1, "e");
	assert_listed("remote", "p/:555:0 ");
	assert_listed("remote/p", "q/:555:0 ");
	assert_int_equal(fake_count(bucket, S3_LIST), 0);
	assert_listed("remote/p/q", "in:444:1 ");
	assert_int_equal(look("remote/p/out", &attr), -ENOENT);
	assert_string_equal(bucket->log[0], "ListObjectsV2 p/q/ ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_tree_is_complete, setup, teardown),
		cmocka_unit_test_setup_teardown(commands_are_done_and_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_commands_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(only_the_owner_and_root_command, setup, teardown),
		cmocka_unit_test_setup_teardown(other_files_are_not_written, setup, teardown),
		cmocka_unit_test_setup_teardown(answers_are_kept_a_minute, setup, teardown),
		cmocka_unit_test_setup_teardown(counts_are_of_what_is_below, setup, teardown),
		cmocka_unit_test_setup_teardown(jobs_are_counted_beyond_the_first, setup, teardown),
		cmocka_unit_test_setup_teardown(what_only_the_bucket_has_exists, setup, teardown),
		cmocka_unit_test_setup_teardown(
			levels_above_the_prefix_exist, setup_prefix, teardown),
		cmocka_unit_test_setup_teardown(
			remote_shows_what_the_bucket_lists, setup, teardown),
		cmocka_unit_test_setup_teardown(remote_is_listed_anew_each_time, setup, teardown),
		cmocka_unit_test_setup_teardown(our_own_news_is_not_in_remote, setup, teardown),
		cmocka_unit_test_setup_teardown(many_lookups_cost_one_listing, setup, teardown),
		cmocka_unit_test_setup_teardown(remote_is_not_read_or_forgotten, setup, teardown),
		cmocka_unit_test_setup_teardown(
			ids_in_use_are_remembered_others_not_for_ever, setup, teardown),
		cmocka_unit_test_setup_teardown(
			remote_stays_inside_the_prefix, setup_prefix, teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
