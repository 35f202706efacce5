/*
 * Proving without a mount, with a bucket of a few lines: what a comparison may say that did not come
 * to its end.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/verify.h"

#define OBJECTS 4

static struct bench {
	unsigned item, listed;
	unsigned stop_at;   /* items that came; 0: never */
	const char *broken; /* this object's checksum can't be had */
} bench;

static int next_item(void *user, struct verify_item *ret)
{
	if (bench.item == OBJECTS)
		return 0;
	snprintf(ret->key, sizeof(ret->key), "p/%u", bench.item++);
	ret->size_bytes = 1;
	ret->has_crc64nvme = true;
	return 1;
}

static int next_object(
	void *user, const char **key, size_t *ret_len, struct s3_object *ret, char **ret_message)
{
	static char name[16];

	if (bench.listed == OBJECTS)
		return 0;
	snprintf(name, sizeof(name), "p/%u", bench.listed++);
	*key = name;
	*ret_len = strlen(name);
	*ret = (struct s3_object){.size_bytes = 1, .etag = "tag"};
	return 1;
}

static int checksum(void *user, const char *key, uint64_t *ret_crc, char **ret_message)
{
	if (bench.broken && strcmp(key, bench.broken) == 0) {
		*ret_message = text_dup("no answer");
		return -EIO;
	}
	*ret_crc = 0;
	return 1;
}

static bool is_stopped(void *user)
{
	return bench.stop_at && bench.item >= bench.stop_at;
}

static int compare(struct verify_result *ret, char **ret_message)
{
	const struct verify_bucket bucket = {.list_next = next_object, .checksum = checksum};
	const struct verify_tree tree = {.bucket = &bucket,
		.next = next_item,
		.deep = true,
		.threads = 1,
		.stop = is_stopped};

	bench.item = bench.listed = 0;
	return verify_tree_run(&tree, ret, ret_message);
}

static int setup(void **state)
{
	bench = (struct bench){0};
	return 0;
}

static void all_are_equal(void **state)
{
	struct verify_result result;
	char *message;

	assert_int_equal(compare(&result, &message), 0);
	assert_int_equal(result.equal, OBJECTS);
	assert_string_equal(result.reached, "p/3");
	verify_result_release(&result);
}

static void stopped_it_says_how_far_it_came(void **state)
{
	struct verify_result result;
	char *message;

	bench.stop_at = 3;
	assert_int_equal(compare(&result, &message), -ECANCELED);
	assert_string_equal(result.reached, "p/1");
	assert_int_equal(result.equal, 2);
	verify_result_release(&result);
}

/* Who goes on behind the last one compared would never look at the one that failed. */
static void stopped_with_an_error_is_an_error(void **state)
{
	struct verify_result result;
	char *message;

	bench.stop_at = 3;
	bench.broken = "p/0";
	assert_int_equal(compare(&result, &message), -EIO);
	assert_string_equal(message, "no answer");
	assert_int_equal(result.difference_count, 0);
	free(message);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(all_are_equal, setup),
		cmocka_unit_test_setup(stopped_it_says_how_far_it_came, setup),
		cmocka_unit_test_setup(stopped_with_an_error_is_an_error, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
