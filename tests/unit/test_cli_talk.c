/* Which mount, and what in it, the words of a command mean. */
#include "cli_private.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "scratch.h"

static char root[PATH_MAX];

static void write_file(const char *name)
{
	char path[PATH_MAX + 64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fclose(f), 0);
}

static void make_folder(const char *name)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

/* What a mount shows of itself is enough; the working directory is in it. */
static int setup(void **state)
{
	char made[PATH_MAX];

	snprintf(made, sizeof(made), "%s/cpgfs-talk-XXXXXX", scratch_top());
	assert_non_null(mkdtemp(made));
	assert_non_null(realpath(made, root));
	make_folder(".cpgfs");
	write_file(".cpgfs/status.json");
	make_folder("a");
	write_file("a/f");
	make_folder("a/inner");
	assert_int_equal(chdir(root), 0);
	assert_int_equal(chdir("a"), 0);
	return 0;
}

static int teardown(void **state)
{
	char command[PATH_MAX + 16];

	assert_int_equal(chdir("/"), 0);
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

static const char *found(const char *path)
{
	static struct cli_target target;

	if (cli_target_find(path, &target) < 0)
		return NULL;
	assert_string_equal(target.root, root);
	return target.path;
}

static const char *second(const char *path)
{
	static char out[4096];

	return cli_target_path(root, path, out) < 0 ? NULL : out;
}

static void paths_in_the_mount(void **state)
{
	char odd[PATH_MAX + 64];

	assert_string_equal(found(root), "");
	assert_string_equal(found(".."), "");
	assert_string_equal(found("."), "a");
	assert_string_equal(found("f"), "a/f");
	assert_string_equal(found("inner/../f"), "a/f");
	assert_string_equal(found("no/such//thing/"), "a/no/such/thing");
	snprintf(odd, sizeof(odd), "%s//a/b c\nd", root);
	assert_string_equal(found(odd), "a/b c\nd");
	assert_null(found("/"));
	assert_null(found("/no/such/place"));
}

static void paths_beside_it(void **state)
{
	char beside[PATH_MAX + 64];

	assert_string_equal(second("a/f"), "a/f");
	assert_string_equal(second("a/"), "a");
	assert_string_equal(second("f"), "a/f"); /* not at the root: in the working directory */
	assert_string_equal(second("no"), "a/no");
	assert_string_equal(second(root), "");
	snprintf(beside, sizeof(beside), "%s-2/f", root);
	assert_null(second(beside));
	assert_null(second("/etc"));
}

/* "$NOT_SET" means nothing, not all of it. */
static void an_empty_word_is_refused(void **state)
{
	assert_null(found(""));
	assert_null(second(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_in_the_mount),
		cmocka_unit_test(paths_beside_it),
		cmocka_unit_test(an_empty_word_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
