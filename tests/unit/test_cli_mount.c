/* The command line of `cpgfs mount`. */
#include "cpgfs/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static int parse(struct cli_mount *m, int *ret_exit, const char *words)
{
	static char copy[1024];
	static char *argv[32];
	int argc = 0;
	char *save = NULL;
	text_copy(copy, words, sizeof(copy));
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	argv[argc] = NULL;
	assert_true(cli_is_mount(argc, argv));
	return cli_mount_parse(argc, argv, m, ret_exit);
}

static const char *option(const struct cli_mount *m, const char *start)
{
	for (char **o = m->options; *o; o++)
		if (text_starts(*o, start))
			return *o;
	return NULL;
}

static void test_defaults(void **state)
{
	struct cli_mount m;
	int code;
	assert_int_equal(parse(&m, &code, "cpgfs mount s3://bucket/a/b/ /mnt/x"), 0);
	assert_string_equal(m.bucket, "bucket");
	assert_string_equal(m.prefix, "a/b");
	assert_string_equal(m.mountpoint, "/mnt/x");
	assert_string_equal(m.acl, "bucket-owner-full-control");
	assert_int_equal(m.naming.mode, NAMING_HOLD);
	assert_int_equal(m.settle_ms, 2000);
	assert_int_equal(m.part_size_bytes, 8 * MIB);
	assert_int_equal(m.delete_delay_ms, 600000);
	assert_false(m.allow_overwrite);
	assert_non_null(strstr(m.cache_dir, "/cpgfs/bucket-"));
	assert_string_equal(option(&m, "settle"), "settle=2000ms");
	cli_mount_release(&m);
}

static void test_long_options(void **state)
{
	struct cli_mount m;
	int code;
	assert_int_equal(parse(&m, &code,
				 "cpgfs mount --acl none --settle=500ms --part-size 5M -f --naming clean "
				 "--clean-with=_ --endpoint http://127.0.0.1:9000 --allow-delete s3://bucket /m"),
		0);
	assert_null(m.acl);
	assert_int_equal(m.settle_ms, 500);
	assert_int_equal(m.part_size_bytes, 5 * MIB);
	assert_true(m.foreground);
	assert_int_equal(m.naming.mode, NAMING_CLEAN);
	assert_int_equal(m.naming.clean_with, '_');
	assert_string_equal(m.endpoint, "http://127.0.0.1:9000");
	assert_true(m.allow_delete);
	assert_string_equal(m.prefix, "");
	cli_mount_release(&m);
}

/* As mount(8) and fstab call it. */
static void test_mount8(void **state)
{
	struct cli_mount m;
	int code;
	assert_int_equal(parse(&m, &code,
				 "cpgfs s3://bucket/p /m -o rw,_netdev,allow_other,cache-size=10G,ro,settle=1s"),
		0);
	assert_true(m.allow_other);
	assert_true(m.read_only);
	assert_int_equal(m.cache_size_bytes, 10 * GIB);
	assert_int_equal(m.settle_ms, 1000);
	cli_mount_release(&m);
}

static void test_two_prefixes_two_caches(void **state)
{
	struct cli_mount a, b;
	int code;
	assert_int_equal(parse(&a, &code, "cpgfs mount s3://bucket/p /m"), 0);
	assert_int_equal(parse(&b, &code, "cpgfs mount s3://bucket/q /m"), 0);
	assert_string_not_equal(a.cache_dir, b.cache_dir);
	cli_mount_release(&a);
	cli_mount_release(&b);
}

static char top[] = "/tmp/cpgfs-homes-XXXXXX";

static void in_top(const char *below, char out[256])
{
	snprintf(out, 256, "%s/%s", top, below);
}

/* The directory for the same address, "" if it is refused; *out is below top. */
static void cache_of_words(const char *words, char out[256])
{
	struct cli_mount m;
	int code;
	out[0] = '\0';
	if (parse(&m, &code, words) < 0)
		return;
	assert_true(text_starts(m.cache_dir, top));
	(void)text_copy(out, m.cache_dir + strlen(top), 256);
	cli_mount_release(&m);
}

static void cache_of(char out[256])
{
	cache_of_words("cpgfs mount s3://bucket/p /m", out);
}

static void make_folder(const char *below)
{
	char path[512];
	snprintf(path, sizeof(path), "%s%s", top, below);
	assert_int_equal(io_mkdir_p(path, 0700), 0);
}

/* Never a second, empty one beside one in which data may wait. */
static void test_where_the_data_waits(void **state)
{
	char home[256], one[256], other[256], old[256], command[300];
	const char *state_was = getenv("XDG_STATE_HOME"), *cache_was = getenv("XDG_CACHE_HOME");
	cleanup_free char *state_home = text_dup(state_was ? state_was : "");
	cleanup_free char *cache_home = text_dup(cache_was ? cache_was : "");
	const char *name;
	assert_non_null(mkdtemp(top));
	in_top("home", home);
	setenv("HOME", home, 1);
	unsetenv("XDG_STATE_HOME");
	unsetenv("XDG_CACHE_HOME");
	cache_of(one);
	assert_true(text_starts(one, "/home/.local/state/cpgfs/bucket-"));
	name = strrchr(one, '/');
	in_top("state", other);
	setenv("XDG_STATE_HOME", other, 1);
	cache_of(other);
	assert_true(text_starts(other, "/state/cpgfs/bucket-"));
	unsetenv("XDG_STATE_HOME");

	snprintf(old, sizeof(old), "/home/.cache/cpgfs%s", name); /* of an older cpgfs */
	make_folder(old);
	cache_of(other);
	assert_string_equal(other, old);
	make_folder(one); /* both: nobody knows what waits where */
	cache_of(other);
	assert_string_equal(other, "");
	snprintf(command, sizeof(command), "rm -r %s/home/.cache", top);
	assert_int_equal(system(command), 0);
	cache_of(other);
	assert_string_equal(other, one);

	snprintf(command, sizeof(command), "rm -r %s", top);
	assert_int_equal(system(command), 0);
	setenv("XDG_STATE_HOME", state_home, 1);
	setenv("XDG_CACHE_HOME", cache_home, 1);
}

/* An endpoint with a slash at its end is the same one; where a cache was made for that, it is used. */
static void test_endpoint_with_a_slash(void **state)
{
	static const char with[] = "cpgfs mount --endpoint http://a:1/ s3://bucket/p /m";
	static const char without[] = "cpgfs mount --endpoint http://a:1 s3://bucket/p /m";
	/* what older builds made of the two */
	static const char old_with[] = "/bucket-02bdd2930014e832", old_without[] = "/bucket-f5d453ec6ce6f0c8";
	char out[256], folder[256], command[300];
	struct cli_mount m;
	int code;
	memcpy(top + strlen(top) - 6, "XXXXXX", 6);
	assert_non_null(mkdtemp(top));
	setenv("XDG_STATE_HOME", top, 1);
	cache_of_words(without, out);
	assert_true(text_ends(out, old_without));
	cache_of_words(with, out);
	assert_true(text_ends(out, old_without));
	snprintf(folder, sizeof(folder), "/cpgfs%s", old_with);
	make_folder(folder);
	cache_of_words(without, out);
	assert_true(text_ends(out, old_with));
	snprintf(folder, sizeof(folder), "/cpgfs%s", old_without);
	make_folder(folder); /* both: each is still found */
	cache_of_words(without, out);
	assert_true(text_ends(out, old_without));
	cache_of_words(with, out);
	assert_true(text_ends(out, old_with));
	assert_int_equal(parse(&m, &code, with), 0);
	assert_string_equal(m.identity, "http://a:1 bucket p");
	cli_mount_release(&m);
	snprintf(command, sizeof(command), "rm -r %s", top);
	assert_int_equal(system(command), 0);
	setenv("XDG_STATE_HOME", "/tmp/no/such/state-home", 1);
}

static void test_refused(void **state)
{
	static const char *const wrong[] = {
		"cpgfs mount s3://bucket",
		"cpgfs mount bucket /m",
		"cpgfs mount s3://b /m",
		"cpgfs mount s3://bucket/a//b /m",
		"cpgfs mount s3://bucket/../b /m",
		"cpgfs mount s3://bucket /m more",
		"cpgfs mount --no-such s3://bucket /m",
		"cpgfs mount --settle soon s3://bucket /m",
		"cpgfs mount --part-size 1M s3://bucket /m",
		"cpgfs mount --part-size 8M --cache-size 15M s3://bucket /m",
		"cpgfs mount --endpoint localhost:9000 s3://bucket /m",
		"cpgfs mount --naming tidy s3://bucket /m",
		"cpgfs mount --max-transfers 0 s3://bucket /m",
		"cpgfs mount -o no_such s3://bucket /m",
		"cpgfs mount s3://bucket /m --acl",
		"cpgfs mount --cache-dir= s3://bucket /m",
		"cpgfs mount --log-file= s3://bucket /m",
	};
	for (size_t i = 0; i < array_len(wrong); i++) {
		struct cli_mount m;
		int code = 0;
		assert_int_equal(parse(&m, &code, wrong[i]), -EINVAL);
		assert_int_equal(code, EXIT_USAGE);
	}
}

int main(void)
{
	setenv("XDG_STATE_HOME", "/tmp/no/such/state-home", 1);
	setenv("XDG_CACHE_HOME", "/tmp/no/such/cache-home", 1);
	unsetenv("AWS_ENDPOINT_URL");
	unsetenv("AWS_ENDPOINT_URL_S3");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_long_options),
		cmocka_unit_test(test_mount8),
		cmocka_unit_test(test_two_prefixes_two_caches),
		cmocka_unit_test(test_where_the_data_waits),
		cmocka_unit_test(test_endpoint_with_a_slash),
		cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
