/*
 * Folders put together from a listing of all keys: each is what a listing of its own with a
 * delimiter shows, whatever the keys are called and wherever pages end; and not before its last key
 * came by.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/remote.h"
#include "fake_bucket.h"
#include "remote_private.h"

#define FOLDERS_MAX 4000

struct whole {
	char prefix[KEY_MAX_BYTES + 1];
	struct remote_names names;
	struct remote_time asked;
};
static struct whole whole[FOLDERS_MAX];
static unsigned whole_count;

static int keep(
	void *user, const char *prefix, struct remote_names *names, struct remote_time asked)
{
	struct whole *w = &whole[whole_count++];

	assert_true(whole_count <= FOLDERS_MAX);
	snprintf(w->prefix, sizeof(w->prefix), "%s", prefix);
	w->names = *names;
	w->asked = asked;
	*names = (struct remote_names){0};
	return 0;
}

static void forget_all(void)
{
	while (whole_count > 0)
		remote_names_release(&whole[--whole_count].names);
}

static const struct whole *find_whole(const char *prefix)
{
	for (unsigned i = 0; i < whole_count; i++) {
		if (strcmp(whole[i].prefix, prefix) == 0)
			return &whole[i];
	}
	return NULL;
}

/* Page number n is asked for at n. */
static struct remote_time at(int64_t n)
{
	return (struct remote_time){.at_ns = n, .mono_ms = n};
}

/* "name:size name/ …" */
static void assert_names(const struct remote_names *n, const char *expected)
{
	cleanup_buf struct buf got = {0};
	struct remote_entry e;

	for (size_t i = 0; i < n->count; i++) {
		remote_names_entry(n, i, &e);
		buf_add_text(&got, e.name);
		if (e.is_dir)
			buf_add_text(&got, "/ ");
		else
			buf_printf(&got, ":%u ", (unsigned)e.object.size_bytes);
	}
	assert_string_equal(buf_text(&got), expected);
}

static int give(struct remote_tree *t, int64_t n, ...)
{
	struct s3_list_page page = {0};
	struct s3_object o = {.etag = "e"};
	const char *key;
	va_list args;
	int r;

	va_start(args, n);
	while ((key = va_arg(args, const char *)) != NULL) {
		o.size_bytes = strlen(key);
		fake_page_add(&page, key, false, &o);
	}
	va_end(args);
	fake_page_finish(&page);
	r = remote_tree_page(t, &page, at(n));
	remote_list_release(&page);
	return r;
}

static void a_folder_is_whole_when_keys_behind_it_come(void **state)
{
	struct remote_tree t;

	remote_tree_init(&t, "p/", keep, NULL);
	assert_int_equal(give(&t, 5, "p/a/x", "p/a/y", NULL), 0);
	assert_int_equal(whole_count, 0);
	assert_int_equal(give(&t, 2, "p/a/z/", "p/a/zz", NULL), 0);
	assert_int_equal(whole_count, 1);
	assert_string_equal(whole[0].prefix, "p/a/z/");
	assert_names(&whole[0].names, "");
	assert_int_equal(whole[0].asked.mono_ms, 2);
	assert_int_equal(give(&t, 7, NULL), 0);
	assert_int_equal(give(&t, 6, "p/b/c/d", NULL), 0);
	assert_int_equal(whole_count, 2);
	assert_string_equal(whole[1].prefix, "p/a/");
	assert_names(&whole[1].names, "x:5 y:5 z/ zz:6 ");
	assert_int_equal(whole[1].asked.mono_ms, 2);
	assert_int_equal(remote_tree_end(&t), 0);
	assert_int_equal(whole_count, 4);
	assert_string_equal(whole[2].prefix, "p/b/c/");
	assert_string_equal(whole[3].prefix, "p/b/");
	/* what lies before it, an earlier page said: there may have been more of it */
	assert_int_equal(whole[3].asked.mono_ms, 2);
	assert_int_equal(give(&t, 6, "p/a.txt", NULL), -EXDEV);
	remote_tree_release(&t);
	forget_all();
}

static void a_time_is_that_of_the_earliest_page(void **state)
{
	struct remote_tree t;

	remote_tree_init(&t, "", keep, NULL);
	assert_int_equal(give(&t, 9, "a/1", NULL), 0);
	assert_int_equal(give(&t, 3, "a/2", "b/1", NULL), 0);
	assert_int_equal(give(&t, 8, "c/1", "d/1", NULL), 0);
	assert_int_equal(give(&t, 7, "e/1", NULL), 0);
	assert_int_equal(remote_tree_end(&t), 0);
	assert_int_equal(find_whole("a/")->asked.mono_ms, 3);
	assert_int_equal(find_whole("b/")->asked.mono_ms, 3);
	assert_int_equal(find_whole("c/")->asked.mono_ms, 3);
	assert_int_equal(find_whole("d/")->asked.mono_ms, 7);
	assert_int_equal(find_whole("e/")->asked.mono_ms, 7);
	remote_tree_release(&t);
	forget_all();
}

static void repeated_keys_count_once_and_long_ones_end_it(void **state)
{
	char key[KEY_MAX_BYTES + 2];
	struct remote_tree t;

	remote_tree_init(&t, "p/", keep, NULL);
	assert_int_equal(give(&t, 1, "p/a/x", "p/a/x", NULL), 0);
	assert_int_equal(give(&t, 1, "p/a/x", NULL), 0);
	memset(key, 'q', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	assert_int_equal(give(&t, 1, key, NULL), -EFBIG);
	assert_int_equal(remote_tree_end(&t), 0);
	assert_names(&whole[0].names, "x:5 ");
	remote_tree_release(&t);
	forget_all();
}

/* ---- beside listings with a delimiter ---- */

static uint64_t seed = 1;

static unsigned below(unsigned n)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)(seed >> 33) % n;
}

static const char *const parts[] = {"a", "b", "a-b", "a.b", "a0", "aa", "", ".", "..", ".cpgfs",
	"ä", "\x01", "z z", "p", "NUL", "\xf0\x9f\x98\x80", "a'b", "-"};

static void put_random(struct fake_bucket *b)
{
	char key[KEY_MAX_BYTES + 1] = "";
	unsigned depth = 1 + below(5);

	for (unsigned i = 0; i < depth; i++) {
		size_t len = strlen(key);

		snprintf(key + len, sizeof(key) - len, "%s%s", parts[below(array_len(parts))],
			i + 1 < depth || below(6) == 0 ? "/" : "");
	}
	if (*key)
		fake_put(b, key, below(3), "e");
}

/* All of what the bucket answers to, as names. */
static void list_alone(struct fake_bucket *b, const char *prefix, struct remote_names *ret)
{
	struct s3_request req = {
		.op = S3_LIST, .prefix = prefix, .delimiter = "/", .max_keys = 30000};
	struct s3_reply reply = {0};

	fake_list(b, &req, &reply);
	for (size_t i = 0; i < reply.list.count; i++)
		assert_int_equal(remote_merge_entry(ret, prefix, &reply.list.entries[i]), 0);
	remote_names_finish(ret);
	remote_list_release(&reply.list);
}

static void assert_same_names(const struct remote_names *a, const struct remote_names *b)
{
	struct remote_entry ea, eb;

	assert_int_equal(a->count, b->count);
	assert_int_equal(a->unshowable, b->unshowable);
	for (size_t i = 0; i < a->count; i++) {
		remote_names_entry(a, i, &ea);
		remote_names_entry(b, i, &eb);
		assert_string_equal(ea.name, eb.name);
		assert_int_equal(ea.is_dir, eb.is_dir);
		assert_int_equal(ea.object.size_bytes, eb.object.size_bytes);
	}
}

static void list_all(struct fake_bucket *b, const char *prefix, unsigned page_keys)
{
	struct s3_request req = {.op = S3_LIST, .prefix = prefix, .max_keys = page_keys};
	cleanup_free char *token = NULL;
	struct remote_tree t;

	remote_tree_init(&t, prefix, keep, NULL);
	do {
		struct s3_reply reply = {0};

		req.token = token;
		fake_list(b, &req, &reply);
		assert_int_equal(remote_tree_page(&t, &reply.list, at(1)), 0);
		free(token);
		token = steal_ptr(reply.list.next_token);
		remote_list_release(&reply.list);
	} while (token);
	assert_int_equal(remote_tree_end(&t), 0);
	remote_tree_release(&t);
}

/* Each folder below prefix that a walk through listings of their own comes to. */
static unsigned compare_below(struct fake_bucket *b, const char *prefix, bool is_top)
{
	const struct whole *w = is_top ? NULL : find_whole(prefix);
	struct remote_names own = {0};
	struct remote_entry e;
	unsigned count = !is_top;

	list_alone(b, prefix, &own);
	assert_true(is_top || w);
	if (w)
		assert_same_names(&w->names, &own);
	for (size_t i = 0; i < own.count; i++) {
		char deeper[KEY_MAX_BYTES + STORE_NAME_MAX + 2];

		remote_names_entry(&own, i, &e);
		snprintf(deeper, sizeof(deeper), "%s%s/", prefix, e.name);
		count += e.is_dir ? compare_below(b, deeper, false) : 0;
	}
	remote_names_release(&own);
	return count;
}

static void folders_are_what_their_own_listings_show(void **state)
{
	for (unsigned round = 0; round < 30; round++) {
		struct fake_bucket *b = fake_create();
		const char *top = round % 3 == 0 ? "" : round % 3 == 1 ? "a/" : "p/a/";

		seed = round + 1;
		for (unsigned i = 0; i < 20 + round * 10; i++)
			put_random(b);
		list_all(b, top, 1 + below(7));
		assert_int_equal(compare_below(b, top, true), whole_count);
		forget_all();
		s3_destroy(&b->s3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_folder_is_whole_when_keys_behind_it_come),
		cmocka_unit_test(a_time_is_that_of_the_earliest_page),
		cmocka_unit_test(repeated_keys_count_once_and_long_ones_end_it),
		cmocka_unit_test(folders_are_what_their_own_listings_show),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
