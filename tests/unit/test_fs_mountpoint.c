/*
 * Mount points: an empty folder is fine; everything else is refused with a reason a person can use.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/fs.h"

#include <fcntl.h>
#include <sys/stat.h>

static char top[] = "/tmp/test-fs-mountpoint-XXXXXX";

static int make_top(void **state)
{
	(void)state;
	return mkdtemp(top) ? 0 : -1;
}

static int remove_top(void **state)
{
	(void)state;
	return rmdir(top);
}

static char *path_of(const char *name)
{
	char *path;

	assert_int_equal(text_printf(&path, "%s/%s", top, name), 0);
	return path;
}

static bool made; /* by the last expect() */

static void expect(const char *path, int error, const char *word)
{
	char *message = NULL;

	made = false;
	assert_int_equal(fs_mountpoint_prepare(path, &made, &message), error);
	if (word) {
		assert_non_null(message);
		if (!strstr(message, word) || !strstr(message, path))
			fail_msg("%s", message);
	} else {
		assert_null(message);
	}
	free(message);
}

static void an_empty_folder_is_fine(void **state)
{
	char *path = path_of("with blank\t");

	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	expect(path, 0, NULL);
	assert_false(made);
	assert_int_equal(rmdir(path), 0);
	free(path);
}

static void a_full_folder_is_refused_and_one_entry_named(void **state)
{
	char *path = path_of("full"), *file = path_of("full/important.tif");
	int fd;

	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	fd = open(file, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	expect(path, -ENOTEMPTY, "important.tif");
	expect(file, -ENOTDIR, "not a folder");
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rmdir(path), 0);
	free(file);
	free(path);
}

static void a_missing_folder_is_made(void **state)
{
	char *path = path_of("missing"), *deep = path_of("missing parent/folder");
	struct stat st;

	(void)state;
	expect(deep, -ENOENT, "No such file");
	assert_int_equal(stat(deep, &st), -1);
	expect(path, 0, NULL);
	assert_true(made);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(rmdir(path), 0);
	free(path);
	free(deep);
}

static void a_link_to_nowhere_is_refused(void **state)
{
	char *path = path_of("link"), *nowhere = path_of("nowhere");

	(void)state;
	assert_int_equal(symlink(nowhere, path), 0);
	expect(path, -ENOENT, "No such file");
	assert_int_equal(unlink(path), 0);
	free(path);
	free(nowhere);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_folder_is_fine),
		cmocka_unit_test(a_full_folder_is_refused_and_one_entry_named),
		cmocka_unit_test(a_missing_folder_is_made),
		cmocka_unit_test(a_link_to_nowhere_is_refused),
	};

	return cmocka_run_group_tests(tests, make_top, remove_top);
}
