/* What `cpgfs check` says of machines that are not this one. */
#include "cli_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <sys/stat.h>

static struct check_report report;
static FILE *said;
static char *text;
static size_t text_len;
static char dir[64];

static int begin(void **state)
{
	said = open_memstream(&text, &text_len);
	text_copy(dir, "/tmp/test_check.XXXXXX", sizeof(dir));
	return mkdtemp(dir) && said ? check_report_init(&report, said) : -1;
}

static int end(void **state)
{
	char command[128];
	check_report_release(&report);
	fclose(said);
	free(text);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

/* The last line: its level, a word of its text, and whether it has a remedy. */
static void assert_said(const char *level, const char *check, const char *words)
{
	json_t *line = json_array_get(report.lines, json_array_size(report.lines) - 1);
	const char *all = json_string_value(json_object_get(line, "text"));
	assert_non_null(all);
	assert_string_equal(json_string_value(json_object_get(line, "check")), check);
	if (strcmp(json_string_value(json_object_get(line, "result")), level) != 0 ||
		!strstr(all, words))
		fail_msg("not %s \"%s\": %s", level, words, text);
	bool wants_remedy = strcmp(level, "warn") == 0 || strcmp(level, "FAIL") == 0;
	assert_int_equal(json_object_get(line, "remedy") != NULL, wants_remedy);
}

static void speed(void **state)
{
	check_judge_speed(&report, 64 * MIB, 400);
	assert_said("ok", "cache-speed", "160 MiB/s");
	check_judge_speed(&report, 64 * MIB, 0);
	assert_said("ok", "cache-speed", "/s");
	check_judge_speed(&report, 60000000, 2000);
	assert_said("ok", "cache-speed", "28.6 MiB/s");
	check_judge_speed(&report, 59000000, 2000);
	assert_said("warn", "cache-speed", "28.1 MiB/s");
}

#define GB UINT64_C(1000000000)

static void space(void **state)
{
	check_judge_space(&report, 1202 * GB, 2 * GB, 0);
	assert_said("ok", "cache-space", "20 plates");
	check_judge_space(&report, 122 * GB, 2 * GB, 0);
	assert_said("ok", "cache-space", "2.0 plates");
	check_judge_space(&report, 122 * GB, 2 * GB, 60 * GB);
	assert_said("ok", "cache-space", "1.0 plates");
	check_judge_space(&report, 122 * GB, 2 * GB, 59 * GB);
	assert_said("warn", "cache-space", "1.0 plates");
	check_judge_space(&report, 61 * GB, 2 * GB, 0);
	assert_said("warn", "cache-space", "1.0 plates");
	check_judge_space(&report, 2 * GB, 2 * GB, 0);
	assert_said("FAIL", "cache-space", "0.0 plates");
	check_judge_space(&report, GB, 2 * GB, 60 * GB);
	assert_said("FAIL", "cache-space", "0.0 plates");
}

static void kind(void **state)
{
	check_judge_kind(&report, 0xef53, true, true);
	assert_said("ok", "cache-kind", "ext4");
	check_judge_kind(&report, 0x12345678, true, true);
	assert_said("ok", "cache-kind", "another kind");
	check_judge_kind(&report, 0x6969, false, true);
	assert_said("warn", "cache-kind", "NFS");
	check_judge_kind(&report, 0x01021994, true, true);
	assert_said("warn", "cache-kind", "tmpfs");
	check_judge_kind(&report, 0x794c7630, true, true);
	assert_said("warn", "cache-kind", "container");
	check_judge_kind(&report, 0x58465342, false, true);
	assert_said("warn", "cache-kind", "holes");
	check_judge_kind(&report, 0x4d44, false, true);
	assert_said("FAIL", "cache-kind", "4 GB");
	check_judge_kind(&report, 0x6969, true, false);
	assert_said("FAIL", "cache-kind", "locked");
}

/* What a mount says of it. */
static void kind_at_mount(void **state)
{
	assert_null(cli_cache_warning(0xef53));
	assert_null(cli_cache_warning(0x794c7630));
	assert_non_null(strstr(cli_cache_warning(0x01021994), "after a reboot"));
	assert_non_null(strstr(cli_cache_warning(0x6969), "network"));
	assert_non_null(strstr(cli_cache_warning(0xffffffffff534d42), "network")); /* f_type is signed */
}

static void inodes(void **state)
{
	check_judge_inodes(&report, 0, 0); /* btrfs */
	assert_said("ok", "cache-inodes", "not limited");
	check_judge_inodes(&report, 1000000, 300000);
	assert_said("ok", "cache-inodes", "10.0 plates");
	check_judge_inodes(&report, 1000000, 29999);
	assert_said("warn", "cache-inodes", "29999");
	check_judge_inodes(&report, 1000000, 999);
	assert_said("FAIL", "cache-inodes", "999");
}

static void the_clock(void **state)
{
	check_judge_clock(&report, 59999);
	assert_said("ok", "clock", "agrees");
	check_judge_clock(&report, -59999);
	assert_said("ok", "clock", "agrees");
	check_judge_clock(&report, 60000);
	assert_said("warn", "clock", "ahead of");
	check_judge_clock(&report, -899999);
	assert_said("warn", "clock", "behind");
	check_judge_clock(&report, -900000);
	assert_said("FAIL", "clock", "behind");
	check_judge_clock(&report, INT64_C(86400000) * 365);
	assert_said("FAIL", "clock", "ahead of");
}

/* ---- fuse --------------------------------------------------------------------------------------------- */

static void write_file(const char *name, mode_t mode, const char *content)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(content, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void no_device(void **state)
{
	char path[128];
	struct check_places places = {.fuse_device = path, .path = dir, .is_root = true};
	snprintf(path, sizeof(path), "%s/fuse", dir);
	check_fuse(&report, &places);
	assert_said("FAIL", "fuse", "No such file");
	assert_non_null(strstr(text, "modprobe fuse"));
	write_file("fuse", 0600, "");
	check_fuse(&report, &places);
	assert_said("FAIL", "fuse", "not the FUSE device");
	places.fuse_device = "/dev/null";
	check_fuse(&report, &places);
	assert_said("FAIL", "fuse", "not the FUSE device");
}

/* With the real device where there is one. */
static void no_helper(void **state)
{
	struct check_places places = {.fuse_device = "/dev/fuse", .path = dir};
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		skip();
	check_fuse(&report, &places);
	assert_said("FAIL", "fuse", "fusermount3");
	assert_non_null(strstr(text, "apt install fuse3"));
	write_file("fusermount3", 0755, "#!/bin/sh\nexit 0\n");
	check_fuse(&report, &places);
	assert_said("FAIL", "fuse", "not setuid root");
	places.is_root = true;
	write_file("fusermount3", 0755, "#!/bin/sh\necho 'mount failed: for a reason' >&2\nexit 1\n");
	check_fuse(&report, &places);
	assert_said("FAIL", "fuse", "mount failed: for a reason");
}

static void assert_allow_other(const char *conf, const char *level)
{
	char path[128];
	struct check_places places = {.fuse_conf = path};
	snprintf(path, sizeof(path), "%s/fuse.conf", dir);
	if (conf)
		write_file("fuse.conf", 0644, conf);
	check_allow_other(&report, &places);
	assert_said(level, "allow-other", "user_allow_other");
}

static void allow_other(void **state)
{
	struct check_places root = {.fuse_conf = "/nonexistent", .is_root = true};
	assert_allow_other(NULL, "FAIL");
	assert_allow_other("", "FAIL");
	assert_allow_other("# user_allow_other\n", "FAIL");
	assert_allow_other("user_allow_others\n", "FAIL");
	assert_allow_other("mount_max = 5\n  user_allow_other # yes\n", "ok");
	assert_allow_other("user_allow_other", "ok");
	check_allow_other(&report, &root);
	assert_said("ok", "allow-other", "root");
}

/* ---- the report ---------------------------------------------------------------------------------------- */

static void lines_and_exit_codes(void **state)
{
	check_say(&report, CHECK_OK, "one", "fine");
	assert_int_equal(check_report_end(&report), EXIT_VERIFIED);
	check_say(&report, CHECK_WARN, "two", "odd");
	check_remedy(&report, "do %s", "this");
	check_number(&report, "n", 2.5);
	assert_int_equal(check_report_end(&report), EXIT_VERIFIED);
	check_say(&report, CHECK_FAIL, "three", "bad \xff name\n");
	assert_int_equal(check_report_end(&report), EXIT_NEEDS_PERSON);
	assert_true(text_starts(text, "ok    one           fine\n"));
	assert_non_null(strstr(text, "FAIL  three         bad \\xff name\\n\n"));
	assert_non_null(strstr(text, "warn  two           odd\n                    -> do this\n"));
	json_t *two = json_array_get(report.lines, 1), *three = json_array_get(report.lines, 2);
	assert_true(json_real_value(json_object_get(two, "n")) == 2.5);
	assert_string_equal(json_string_value(json_object_get(three, "text")), "bad \\xff name\\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(speed, begin, end),
		cmocka_unit_test_setup_teardown(space, begin, end),
		cmocka_unit_test_setup_teardown(kind, begin, end),
		cmocka_unit_test_setup_teardown(kind_at_mount, begin, end),
		cmocka_unit_test_setup_teardown(inodes, begin, end),
		cmocka_unit_test_setup_teardown(the_clock, begin, end),
		cmocka_unit_test_setup_teardown(no_device, begin, end),
		cmocka_unit_test_setup_teardown(no_helper, begin, end),
		cmocka_unit_test_setup_teardown(allow_other, begin, end),
		cmocka_unit_test_setup_teardown(lines_and_exit_codes, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
