/*
 * One folder's names (sorting, changes, reclaiming) and the judging of pages.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "remote_names.h"
#include "remote_page.h"

static struct s3_object object_of(uint64_t size_bytes, const char *etag)
{
	struct s3_object o = {.size_bytes = size_bytes, .last_modified_ns = 5};

	snprintf(o.etag, sizeof(o.etag), "%s", etag);
	return o;
}

static void append(struct remote_names *n, const char *name, bool is_dir, uint64_t size_bytes)
{
	struct s3_object o = object_of(size_bytes, "e");

	assert_int_equal(remote_names_append(n, name, strlen(name), is_dir, &o), 0);
}

static void assert_names(const struct remote_names *n, const char *expected)
{
	char got[512] = "";

	for (size_t i = 0; i < n->count; i++) {
		struct remote_entry e;

		remote_names_entry(n, i, &e);
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s ", e.name,
			e.is_dir ? "/" : "");
	}
	assert_string_equal(got, expected);
}

static void names_are_sorted_by_component(void **state)
{
	struct remote_names n = {0};

	/* Key order has "a-b" before "a/"; names sort the other way. */
	append(&n, "a-b", false, 1);
	append(&n, "a", true, 0);
	append(&n, "B", false, 1);
	append(&n, "\xc3\xa4", false, 1);
	remote_names_finish(&n);
	assert_names(&n, "B a/ a-b \xc3\xa4 ");
	remote_names_release(&n);
}

static void repeated_names_stay_once_and_folders_win(void **state)
{
	struct remote_names n = {0};
	struct remote_entry e;

	append(&n, "x", false, 1);
	append(&n, "d", false, 1);
	append(&n, "x", false, 2);
	append(&n, "d", true, 0);
	remote_names_finish(&n);
	assert_names(&n, "d/ x ");
	assert_int_equal(n.unshowable, 1); /* the object "d" */
	assert_true(remote_names_find(&n, "x", &e));
	assert_int_equal(e.object.size_bytes, 2);
	remote_names_release(&n);
}

static void after_finds_the_next_name(void **state)
{
	struct remote_names n = {0};

	append(&n, "a", false, 1);
	append(&n, "b", false, 1);
	append(&n, "bb", false, 1);
	remote_names_finish(&n);
	assert_int_equal(remote_names_after(&n, ""), 0);
	assert_int_equal(remote_names_after(&n, "a"), 1);
	assert_int_equal(remote_names_after(&n, "aa"), 1);
	assert_int_equal(remote_names_after(&n, "b"), 2);
	assert_int_equal(remote_names_after(&n, "bb"), 3);
	remote_names_release(&n);
}

static void put_and_remove_follow(void **state)
{
	struct remote_names n = {0};
	struct s3_object one = object_of(1, "one"), two = object_of(2, "two-2");
	struct remote_entry e;

	assert_int_equal(remote_names_put(&n, "m", false, &one), 1);
	assert_int_equal(remote_names_put(&n, "a", true, NULL), 1);
	assert_int_equal(remote_names_put(&n, "m", false, &one), 0);
	assert_int_equal(remote_names_put(&n, "m", false, &two), 1);
	assert_true(remote_names_find(&n, "m", &e));
	assert_int_equal(e.object.size_bytes, 2);
	assert_int_equal(e.object.last_modified_ns, 5);
	assert_string_equal(e.object.etag, "two-2");
	assert_int_equal(remote_names_put(&n, "a", false, &one), 0); /* the folder stays */
	assert_false(remote_names_remove(&n, "a"));
	assert_true(remote_names_remove(&n, "m"));
	assert_false(remote_names_remove(&n, "m"));
	assert_names(&n, "a/ ");
	remote_names_release(&n);
}

static void replaced_records_are_reclaimed(void **state)
{
	struct remote_names n = {0};
	struct s3_object o[2] = {object_of(1, "0123456789abcdef0123456789abcdef"),
		object_of(2, "0123456789abcdef0123456789abcdef-2")};
	struct remote_entry e;
	char name[32];

	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "r%02uc%02u.tiff", i / 50, i % 50);
		assert_int_equal(remote_names_put(&n, name, false, &o[0]), 1);
	}
	for (unsigned round = 1; round < 101; round++) {
		for (unsigned i = 0; i < 1000; i++) {
			snprintf(name, sizeof(name), "r%02uc%02u.tiff", i / 50, i % 50);
			assert_int_equal(remote_names_put(&n, name, false, &o[round % 2]), 1);
		}
	}
	assert_int_equal(n.count, 1000);
	assert_true(n.arena_len < 400000); /* 6 MB without reclaiming */
	assert_true(remote_names_find(&n, "r19c49.tiff", &e));
	assert_int_equal(e.object.size_bytes, 1);
	remote_names_release(&n);
}

static void longest_names_fit(void **state)
{
	struct remote_names n = {0};
	struct remote_entry e;
	char name[STORE_NAME_MAX + 1];
	struct s3_object o = {0};

	memset(name, 'x', STORE_NAME_MAX);
	name[STORE_NAME_MAX] = '\0';
	memset(o.etag, 'e', S3_ETAG_MAX - 1);
	assert_int_equal(remote_names_put(&n, name, false, &o), 1);
	assert_true(remote_names_find(&n, name, &e));
	assert_string_equal(e.name, name);
	assert_string_equal(e.object.etag, o.etag);
	remote_names_release(&n);
}

/* ---- pages ---- */

static struct s3_list_entry entry_of(const char *key, bool is_prefix)
{
	return (struct s3_list_entry){
		.key = key, .key_len = strlen(key), .is_prefix = is_prefix};
}

static int check_entry(const char *prefix, bool recursive, const char *key, bool is_prefix)
{
	struct remote_paging p = {.prefix = prefix, .recursive = recursive};
	struct s3_list_entry e = entry_of(key, is_prefix);
	struct s3_list_page page = {.entries = &e, .count = 1};

	return remote_page_check(&p, &page);
}

static void entries_elsewhere_are_refused(void **state)
{
	assert_int_equal(check_entry("a/", false, "a/b", false), 0);
	assert_int_equal(check_entry("a/", false, "a/b/", true), 0);
	assert_int_equal(check_entry("a/", false, "a//", true), 0);
	assert_int_equal(check_entry("a/", false, "a/", false), 0);
	assert_int_equal(check_entry("a/", true, "a/b/c", false), 0);
	assert_int_equal(check_entry("a/", false, "b/c", false), -EIO);
	assert_int_equal(check_entry("a/", false, "a", false), -EIO);
	assert_int_equal(check_entry("a/", false, "a/b/c", false), -EIO);
	assert_int_equal(check_entry("a/", false, "a/b/c/", true), -EIO);
	assert_int_equal(check_entry("a/", false, "a/b", true), -EIO);
	assert_int_equal(check_entry("a/", true, "a/b/", true), -EIO);
}

static int check_token(struct remote_paging *p, const char *token, size_t count)
{
	struct s3_list_entry e = entry_of("k", false);
	char *copy = token ? strdup(token) : NULL;
	struct s3_list_page page = {
		.entries = &e, .count = count, .truncated = true, .next_token = copy};
	int r = remote_page_check(p, &page);

	free(copy);
	return r;
}

static void listings_that_never_end_are_refused(void **state)
{
	struct remote_paging missing = {.prefix = ""}, same = {.prefix = ""},
			     empty = {.prefix = ""}, fine = {.prefix = ""};
	char token[32];

	assert_int_equal(check_token(&missing, NULL, 1), -EIO);
	assert_int_equal(check_token(&missing, "", 1), -EIO);
	assert_int_equal(check_token(&same, "t", 1), 0);
	assert_int_equal(check_token(&same, "t", 1), -EIO);
	for (unsigned i = 0; i < 8; i++) {
		snprintf(token, sizeof(token), "e%u", i);
		assert_int_equal(check_token(&empty, token, 0), 0);
	}
	assert_int_equal(check_token(&empty, "e8", 0), -EIO);
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(token, sizeof(token), "t%u", i);
		assert_int_equal(check_token(&fine, token, 1), 0);
	}
}

static void cycles_of_tokens_are_found(void **state)
{
	for (unsigned lead = 0; lead < 20; lead++) {
		for (unsigned cycle = 1; cycle < 20; cycle++) {
			struct remote_paging p = {.prefix = ""};
			char token[32];
			int r = 0;
			unsigned i;

			for (i = 0; i < 1000 && r == 0; i++) {
				unsigned n = i < lead ? i : lead + (i - lead) % cycle;

				snprintf(token, sizeof(token), "t%u", n);
				r = check_token(&p, token, 1);
			}
			assert_int_equal(r, -EIO);
			assert_true(i <= 4 * (lead + cycle) + 4);
		}
	}
}

static void pages_out_of_order_are_sorted(void **state)
{
	struct s3_list_entry e[] = {
		entry_of("b", false), entry_of("a/", true), entry_of("a", false)};
	struct s3_list_page page = {.entries = e, .count = 3};

	remote_page_sort(&page);
	assert_string_equal(e[0].key, "a");
	assert_string_equal(e[1].key, "a/");
	assert_string_equal(e[2].key, "b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_sorted_by_component),
		cmocka_unit_test(repeated_names_stay_once_and_folders_win),
		cmocka_unit_test(after_finds_the_next_name),
		cmocka_unit_test(put_and_remove_follow),
		cmocka_unit_test(replaced_records_are_reclaimed),
		cmocka_unit_test(longest_names_fit),
		cmocka_unit_test(entries_elsewhere_are_refused),
		cmocka_unit_test(listings_that_never_end_are_refused),
		cmocka_unit_test(cycles_of_tokens_are_found),
		cmocka_unit_test(pages_out_of_order_are_sorted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
