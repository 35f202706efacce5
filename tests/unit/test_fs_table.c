/*
 * The inode table: what the kernel looked up stays until it forgets all of it; handles of one inode
 * agree on how they are driven; many nodes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "fs_table.h"

#define BUCKET_INO (STORE_INO_FROM_BUCKET | 5)

static int set_up(void **state)
{
	struct fs_table *t;

	if (fs_table_create(&t) < 0)
		return -1;
	*state = t;
	return 0;
}

static int tear_down(void **state)
{
	fs_table_destroy(*state);
	return 0;
}

static void enter(struct fs_table *t, uint64_t ino, const char *path, uint64_t size_bytes)
{
	struct fs_known what = {.kind = FS_NODE_BUCKET, .size_bytes = size_bytes};

	buf_add_text(&what.path, path);
	assert_int_equal(fs_table_enter(t, ino, &what), 0);
	buf_release(&what.path);
}

static void forgets_when_all_is_forgotten(void **state)
{
	struct fs_table *t = *state;
	struct fs_known known;
	uint64_t virtual_id;

	assert_int_equal(fs_table_find(t, BUCKET_INO, &known), -ESTALE);
	enter(t, BUCKET_INO, "a/b", 10);
	enter(t, BUCKET_INO, "a/b", 20);
	assert_int_equal(fs_table_nodes(t), 1);
	assert_int_equal(fs_table_find(t, BUCKET_INO, &known), 0);
	assert_string_equal(buf_text(&known.path), "a/b");
	assert_int_equal(known.size_bytes, 20);
	buf_release(&known.path);

	assert_false(fs_table_forget(t, BUCKET_INO, 1, &virtual_id));
	assert_int_equal(fs_table_nodes(t), 1);
	assert_true(fs_table_forget(t, BUCKET_INO, 1, &virtual_id));
	assert_int_equal(fs_table_nodes(t), 0);
	assert_int_equal(fs_table_find(t, BUCKET_INO, &known), -ESTALE);
	assert_false(fs_table_forget(t, BUCKET_INO, 1, &virtual_id)); /* one of the store: fine */
}

static void a_handle_keeps_its_node(void **state)
{
	struct fs_table *t = *state;
	struct fs_known known;
	uint64_t virtual_id;
	enum fs_way way;
	int backing_id;

	enter(t, BUCKET_INO, "x", 1);
	assert_int_equal(fs_table_open(t, BUCKET_INO, false, &way, &backing_id), 0);
	assert_int_equal(fs_table_handles(t), 1);
	assert_false(fs_table_forget(t, BUCKET_INO, 1, &virtual_id));
	assert_int_equal(fs_table_find(t, BUCKET_INO, &known), 0);
	buf_release(&known.path);
	fs_table_close(t, BUCKET_INO, way, &backing_id);
	assert_int_equal(fs_table_handles(t), 0);
	assert_int_equal(fs_table_nodes(t), 0);
}

static void virtual_ids_come_back_at_the_end(void **state)
{
	struct fs_table *t = *state;
	struct fs_known what = {.kind = FS_NODE_VIRTUAL, .virtual_id = 77, .is_dir = true};
	uint64_t virtual_id;

	assert_int_equal(fs_table_enter(t, FS_INO_VIRTUAL | 77, &what), 0);
	assert_int_equal(fs_table_enter(t, FS_INO_VIRTUAL | 77, &what), 0);
	assert_false(fs_table_forget(t, FS_INO_VIRTUAL | 77, 1, &virtual_id));
	assert_int_equal(virtual_id, 0);
	assert_true(fs_table_forget(t, FS_INO_VIRTUAL | 77, 1, &virtual_id));
	assert_int_equal(virtual_id, 77);
}

/* Rows: what is open already, what is wanted, what it gets. */
static void handles_of_one_inode_agree(void **state)
{
	struct fs_table *t = *state;
	static const struct {
		bool first_wants, second_wants;
		enum fs_way first, second;
	} rows[] = {
		{false, false, FS_WAY_CACHED, FS_WAY_CACHED},
		{false, true, FS_WAY_CACHED, FS_WAY_CACHED}, /* a writer joins cached readers */
		{true, false, FS_WAY_DIRECT, FS_WAY_DIRECT}, /* readers join a direct writer */
		{true, true, FS_WAY_DIRECT, FS_WAY_DIRECT},
	};

	for (size_t i = 0; i < array_len(rows); i++) {
		uint64_t ino = 100 + i;
		enum fs_way first, second, third;
		int id;

		assert_int_equal(fs_table_open(t, ino, rows[i].first_wants, &first, &id), 0);
		assert_int_equal(fs_table_open(t, ino, rows[i].second_wants, &second, &id), 0);
		assert_int_equal(first, rows[i].first);
		assert_int_equal(second, rows[i].second);
		assert_false(fs_table_lend_begin(t, ino));
		fs_table_close(t, ino, first, &id);
		fs_table_close(t, ino, second, &id);
		assert_int_equal(fs_table_open(t, ino, true, &third, &id), 0);
		assert_int_equal(third, FS_WAY_DIRECT); /* nobody else is left: as wanted */
		fs_table_close(t, ino, third, &id);
		assert_int_equal(id, 0);
	}
	assert_int_equal(fs_table_nodes(t), 0);
}

/* The kernel keeps one number until the last handle is closed, whoever that is. */
static void what_is_lent_stays_so_until_all_are_closed(void **state)
{
	struct fs_table *t = *state;
	enum fs_way way;
	int id;

	assert_int_equal(fs_table_open(t, 7, true, &way, &id), 0);
	assert_true(fs_table_lend_begin(t, 7));
	assert_false(fs_table_lend_begin(t, 7));
	fs_table_lend_end(t, 7, 0); /* the kernel refused */
	assert_int_equal(fs_table_open(t, 7, false, &way, &id), 0);
	assert_int_equal(way, FS_WAY_DIRECT);
	assert_false(fs_table_lend_begin(t, 7));
	fs_table_close(t, 7, way, &id);
	assert_true(fs_table_lend_begin(t, 7));
	fs_table_lend_end(t, 7, 42);
	assert_int_equal(fs_table_open(t, 7, false, &way, &id), 0);
	assert_int_equal(way, FS_WAY_BESIDE);
	assert_int_equal(id, 42);
	fs_table_close(t, 7, FS_WAY_LENT, &id);
	assert_int_equal(id, 0);
	assert_int_equal(fs_table_open(t, 7, true, &way, &id), 0);
	assert_int_equal(way, FS_WAY_BESIDE);
	fs_table_close(t, 7, way, &id);
	assert_int_equal(id, 0);
	fs_table_close(t, 7, way, &id);
	assert_int_equal(id, 42);
	assert_int_equal(fs_table_open(t, 7, false, &way, &id), 0);
	assert_int_equal(way, FS_WAY_CACHED);
	fs_table_close(t, 7, way, &id);
	assert_int_equal(fs_table_nodes(t), 0);
}

static void an_alias_ends_with_the_next_lookup(void **state)
{
	struct fs_table *t = *state;
	struct fs_known known;

	enter(t, BUCKET_INO, "x", 1);
	fs_table_set_alias(t, BUCKET_INO, 42);
	assert_int_equal(fs_table_find(t, BUCKET_INO, &known), 0);
	assert_int_equal(known.alias, 42);
	buf_release(&known.path);
	enter(t, BUCKET_INO, "x", 1);
	assert_int_equal(fs_table_find(t, BUCKET_INO, &known), 0);
	assert_int_equal(known.alias, 0);
	buf_release(&known.path);
}

static void many_nodes(void **state)
{
	struct fs_table *t = *state;
	uint64_t virtual_id, count = 20000;
	struct fs_known known;

	for (uint64_t i = 0; i < count; i++)
		enter(t, STORE_INO_FROM_BUCKET | (i * 4096), "p", i);
	assert_int_equal(fs_table_nodes(t), count);
	for (uint64_t i = 0; i < count; i++) {
		assert_int_equal(fs_table_find(t, STORE_INO_FROM_BUCKET | (i * 4096), &known), 0);
		assert_int_equal(known.size_bytes, i);
		buf_release(&known.path);
	}
	for (uint64_t i = 0; i < count; i++)
		assert_true(fs_table_forget(t, STORE_INO_FROM_BUCKET | (i * 4096), 1, &virtual_id));
	assert_int_equal(fs_table_nodes(t), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(forgets_when_all_is_forgotten, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_handle_keeps_its_node, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			virtual_ids_come_back_at_the_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(handles_of_one_inode_agree, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_lent_stays_so_until_all_are_closed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			an_alias_ends_with_the_next_lookup, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many_nodes, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
