/* Galleries by name: where they are found, who wins, what the command line does to them. */
#include "cli_gallery.h"
#include "cli_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pwd.h>
#include <sys/stat.h>

static char top[64];

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", top, dir);
	assert_int_equal(io_mkdir_p(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/%s/%s", top, dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static int begin(void **state)
{
	text_copy(top, "/tmp/test_gallery.XXXXXX", sizeof(top));
	if (!mkdtemp(top))
		return -1;
	setenv("XDG_CONFIG_HOME", top, 1);
	return 0;
}

static int end(void **state)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -r %s", top);
	return system(command);
}

#define LAB "[gallery]\nbucket = lab-bucket\ndescription = ours\n"

static struct cli_gallery_dirs three_dirs(void)
{
	struct cli_gallery_dirs d = {0};
	for (int i = 0; i < CLI_GALLERY_DIRS; i++)
		assert_int_equal(text_printf(&d.dirs[i], "%s/dir%d", top, i), 0);
	return d;
}

static void assert_found_in(
	const struct cli_gallery_dirs *dirs, const char *name, const char *where)
{
	struct cli_gallery g;
	cleanup_free char *message = NULL;
	if (cli_gallery_find(dirs, name, &g, &message) != 0)
		fail_msg("%s", message);
	if (!strstr(g.file.path, where))
		fail_msg("%s is from %s, not %s", name, g.file.path, where);
	cli_gallery_release(&g);
}

static void the_first_folder_wins(void **state)
{
	struct cli_gallery_dirs dirs = three_dirs();
	assert_found_in(&dirs, "cellpainting", "built into");
	for (int i = CLI_GALLERY_DIRS - 1; i >= 0; i--) {
		char dir[16];
		snprintf(dir, sizeof(dir), "dir%d", i);
		write_file(dir, "cellpainting.ini", LAB);
		assert_found_in(&dirs, "cellpainting", dir);
	}
	assert_found_in(&dirs, "cellpainting-staging", "built into");
	cli_gallery_dirs_release(&dirs);
}

/* mount(8) at boot has no HOME. */
static void without_a_home_in_the_environment(void **state)
{
	struct cli_gallery_dirs dirs;
	char expected[256];
	const struct passwd *me = getpwuid(geteuid());
	assert_non_null(me);
	snprintf(expected, sizeof(expected), "%s/.config/cpgfs/galleries", me->pw_dir);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("HOME");
	assert_int_equal(cli_gallery_dirs_init(&dirs), 0);
	assert_string_equal(dirs.dirs[0], expected);
	assert_string_equal(dirs.dirs[1], "/etc/cpgfs/galleries");
	assert_true(text_ends(dirs.dirs[2], "/cpgfs/galleries"));
	cli_gallery_dirs_release(&dirs);
	setenv("HOME", "/nonexistent", 1);
	assert_int_equal(cli_gallery_dirs_init(&dirs), 0);
	assert_string_equal(dirs.dirs[0], "/nonexistent/.config/cpgfs/galleries");
	cli_gallery_dirs_release(&dirs);
}

static void names_stand_once(void **state)
{
	struct cli_gallery_dirs dirs = three_dirs();
	char **names;
	write_file("dir0", "lab.ini", LAB);
	write_file("dir2", "lab.ini", LAB);
	write_file("dir2", "not a name.ini", LAB);
	write_file("dir2", "readme.txt", LAB);
	assert_int_equal(cli_gallery_names(&dirs, &names), 0);
	assert_string_equal(names[0], "cellpainting");
	assert_string_equal(names[1], "cellpainting-staging");
	assert_string_equal(names[2], "lab");
	assert_null(names[3]);
	cli_gallery_names_release(names);
	cli_gallery_dirs_release(&dirs);
}

static void assert_wrong(const char *name, const char *text, const char *words[3])
{
	struct cli_gallery_dirs dirs = three_dirs();
	struct cli_gallery g;
	cleanup_free char *message = NULL;
	if (text)
		write_file("dir1", "wrong.ini", text);
	assert_int_equal(cli_gallery_find(&dirs, name, &g, &message), -EINVAL);
	assert_non_null(message);
	for (int i = 0; i < 3 && words[i]; i++)
		if (!strstr(message, words[i]))
			fail_msg("no \"%s\" in: %s", words[i], message);
	cli_gallery_dirs_release(&dirs);
}

static void what_is_wrong_names_file_and_line(void **state)
{
	assert_wrong("wrong", LAB "[mount]\nacll = x\n",
		(const char *[]){"dir1/wrong.ini, line 5", "acll", "allow-other"});
	assert_wrong("wrong", LAB "[mount]\nnaming = loud\n",
		(const char *[]){"dir1/wrong.ini, line 5", "loud", "hold|clean|refuse|off"});
	assert_wrong("wrong", LAB "[mount]\ngallery = lab\n",
		(const char *[]){"dir1/wrong.ini, line 5", "gallery", NULL});
	assert_wrong("wrong", LAB "nonsense\n",
		(const char *[]){"dir1/wrong.ini, line 4: ", "neither", NULL});
	assert_wrong("wrong", "[gallery]\nbucket = x\n",
		(const char *[]){"dir1/wrong.ini: ", "description", NULL});
	assert_wrong("wrong", "[gallery]\nbucket = a b\ndescription = d\n",
		(const char *[]){"dir1/wrong.ini: ", "a b", "not a bucket name"});
	assert_wrong("nobody", NULL, (const char *[]){"nobody", "cellpainting-staging", "dir0"});
	assert_wrong("../dir1/wrong", NULL, (const char *[]){"no gallery", NULL, NULL});
}

/* ---- on the command line -------------------------------------------------------------------- */

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
	return cli_mount_parse(argc, argv, m, ret_exit);
}

static void staging_in_one_line(void **state)
{
	struct cli_mount m;
	int code;
	setenv("AWS_REGION", "us-west-2", 1); /* as many have it; the gallery knows better */
	assert_int_equal(parse(&m, &code,
				 "cpgfs mount --gallery cellpainting-staging --prefix "
				 "cpg0123-example/broad /g"),
		0);
	unsetenv("AWS_REGION");
	assert_string_equal(m.bucket, "staging-cellpainting-gallery");
	assert_string_equal(m.prefix, "cpg0123-example/broad");
	assert_string_equal(m.mountpoint, "/g");
	assert_string_equal(m.region, "us-east-1");
	assert_string_equal(m.account_id, "309624411020");
	assert_string_equal(m.acl, "bucket-owner-full-control");
	assert_true(m.access_grant);
	assert_string_equal(m.gallery, "cellpainting-staging");
	cli_mount_release(&m);
}

static void the_public_bucket(void **state)
{
	struct cli_mount m;
	int code;
	assert_int_equal(
		parse(&m, &code, "cpgfs mount --no-sign-request --gallery cellpainting /g"), 0);
	assert_string_equal(m.bucket, "cellpainting-gallery");
	assert_string_equal(m.prefix, "");
	assert_string_equal(m.profile, "jump-cp-role");
	assert_false(m.access_grant);
	assert_int_equal(m.credentials_way, GALLERY_ROLE);
	cli_mount_release(&m);
}

/* Wherever it stands on the line, and as mount(8) gives it. */
static void what_is_given_goes_first(void **state)
{
	static const char *const lines[] = {
		"cpgfs mount --region eu-west-1 --access-grant=false --acl none --gallery "
		"cellpainting-staging s3://other-bucket/p /g",
		"cpgfs mount --gallery cellpainting-staging --region eu-west-1 "
		"--access-grant=false --acl none "
		"s3://other-bucket/p /g",
		"cpgfs s3://other-bucket/p /g -o "
		"region=eu-west-1,acl=none,gallery=cellpainting-staging,access_grant=false",
	};
	for (size_t i = 0; i < array_len(lines); i++) {
		struct cli_mount m;
		int code;
		assert_int_equal(parse(&m, &code, lines[i]), 0);
		assert_string_equal(m.bucket, "other-bucket");
		assert_string_equal(m.prefix, "p");
		assert_string_equal(m.region, "eu-west-1");
		assert_null(m.acl);
		assert_false(m.access_grant);
		assert_string_equal(m.account_id, "309624411020"); /* not given */
		cli_mount_release(&m);
	}
}

static void a_users_own(void **state)
{
	struct cli_mount m;
	int code;
	write_file("cpgfs/galleries", "lab.ini",
		LAB
		"[mount]\nendpoint = http://127.0.0.1:9\nprefix = ours/here\nallow-delete = true\n"
		"settle = 7s\n");
	assert_int_equal(parse(&m, &code, "cpgfs mount --gallery lab --settle 1s /g"), 0);
	assert_string_equal(m.bucket, "lab-bucket");
	assert_string_equal(m.prefix, "ours/here");
	assert_string_equal(m.endpoint, "http://127.0.0.1:9");
	assert_true(m.allow_delete);
	assert_int_equal(m.settle_ms, 1000);
	cli_mount_release(&m);
}

/* ---- addresses as they are typed ------------------------------------------------------------ */

static void prefixes_typed_wrong(void **state)
{
	static const struct {
		const char *prefix, *says;
	} wrong[] = {
		{"s3://staging-cellpainting-gallery/cpg0037-oasis/broad",
			"--prefix cpg0037-oasis/broad"},
		{"s3://staging-cellpainting-gallery", "follows the bucket"},
		{"cpg0037-oasis/broad/*", ": cpg0037-oasis/broad"},
		{"cpg0037-oasis/*", ": cpg0037-oasis"},
		{"*", "no *"},
		{"YOUR_PREFIX", "placeholder"},
		{"<project>/<source>", "placeholder"},
		{"${PROJECT}/broad", "placeholder"},
		{"cpgXXXX-name/broad", "placeholder"},
		{"cpg0037-oasis\\broad", "\\"},
		{"/cpg0037-oasis/broad", ": cpg0037-oasis/broad"},
		{" cpg0037-oasis", "blank"},
		{"'cpg0037-oasis'", "quote"},
	};
	char said[512];
	for (size_t i = 0; i < array_len(wrong); i++) {
		assert_true(cli_prefix_mistake(wrong[i].prefix, said, sizeof(said)));
		if (!strstr(said, wrong[i].says))
			fail_msg("%s: %s", wrong[i].prefix, said);
	}
	static const char *const right[] = {"", "cpg0037-oasis", "cpg0016-jump/source_2/workspace/",
		"a b/c$d", "cpg0036-EU-OS-bioactives/FMP"};
	for (size_t i = 0; i < array_len(right); i++)
		assert_false(cli_prefix_mistake(right[i], said, sizeof(said)));
}

static void lines_that_are_refused(void **state)
{
	static const char *const wrong[] = {
		"cpgfs mount --gallery cellpainting-staging /g",
		"cpgfs mount --gallery cellpainting-staging --prefix a/b",
		"cpgfs mount --gallery cellpainting-staging --prefix a s3://bucket/b /g",
		"cpgfs mount --gallery nobody --prefix a /g",
		("cpgfs mount --gallery cellpainting-staging --account-id 3096-2441-1020 --prefix a "
		 "/g"),
		"cpgfs mount --access-grant s3://bucket/a /g",
		"cpgfs mount --access-grant --account-id 309624411020 s3://bucket /g",
		"cpgfs mount https://bucket.s3.amazonaws.com/a /g",
		"cpgfs mount arn:aws:s3:::bucket/a /g",
		"cpgfs mount s3://bucket/a/* /g",
		"cpgfs mount --prefix /g",
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
	setenv("XDG_CACHE_HOME", "/tmp/cache-home", 1);
	unsetenv("AWS_ENDPOINT_URL");
	unsetenv("AWS_ENDPOINT_URL_S3");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_first_folder_wins, begin, end),
		cmocka_unit_test_setup_teardown(without_a_home_in_the_environment, begin, end),
		cmocka_unit_test_setup_teardown(names_stand_once, begin, end),
		cmocka_unit_test_setup_teardown(what_is_wrong_names_file_and_line, begin, end),
		cmocka_unit_test_setup_teardown(staging_in_one_line, begin, end),
		cmocka_unit_test_setup_teardown(the_public_bucket, begin, end),
		cmocka_unit_test_setup_teardown(what_is_given_goes_first, begin, end),
		cmocka_unit_test_setup_teardown(a_users_own, begin, end),
		cmocka_unit_test(prefixes_typed_wrong),
		cmocka_unit_test_setup_teardown(lines_that_are_refused, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
