/*
 * The log: whole lines from many threads, no forged lines, errno kept, reopened after a rename.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base_private.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LOG_ROOM "test"

static char folder[] = "/tmp/cpgfs-test-log-XXXXXX";
static char path[64], moved[64];

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/log", folder);
	snprintf(moved, sizeof(moved), "%s/log.1", folder);
	return 0;
}

static int remove_folder(void **state)
{
	int r = log_open(LOG_LEVEL_INFO, NULL, false);

	unlink(path);
	unlink(moved);
	return r < 0 ? r : rmdir(folder);
}

static int fresh_log(void **state)
{
	unlink(path);
	unlink(moved);
	return log_open(LOG_LEVEL_INFO, path, false);
}

static char *read_all(const char *name)
{
	struct buf b = {0};
	char block[65536];
	ssize_t n;
	int fd;

	assert_int_equal(io_open(name, O_RDONLY, 0, &fd), 0);
	while ((n = read(fd, block, sizeof(block))) > 0)
		buf_add(&b, block, (size_t)n);
	close(fd);
	return buf_steal(&b);
}

static size_t count_lines(const char *text)
{
	size_t lines = 0;

	for (; *text; text++)
		lines += *text == '\n';
	return lines;
}

static void line_form(void **state)
{
	cleanup_free char *text = NULL;

	clock_fake_begin(1772366400 * NS_PER_S + 5000000);
	log_warn("disk %s is %d %% full", "x", 97);
	clock_fake_end();
	text = read_all(path);
	assert_string_equal(text, "2026-03-01T12:00:00.005Z warn test: disk x is 97 % full\n");
}

static void levels_filter(void **state)
{
	cleanup_free char *text = NULL;

	assert_false(log_wants(LOG_LEVEL_DEBUG));
	log_debug("not this");
	log_info("this");
	log_set_level(LOG_LEVEL_ERROR);
	log_warn("not this");
	log_error("and this");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("and that");
	text = read_all(path);
	assert_int_equal(count_lines(text), 3);
	assert_null(strstr(text, "not this"));
	assert_non_null(strstr(text, "debug test: and that\n"));
}

static void no_forged_lines(void **state)
{
	cleanup_free char *text = NULL;

	log_info("name %s", "a\nb\x1b[2J\x7f\t"
			    "é");
	text = read_all(path);
	assert_int_equal(count_lines(text), 1);
	assert_non_null(strstr(text, "name a\\x0ab\\x1b[2J\\x7f\\x09"
				     "é\n"));
}

static void errno_is_kept(void **state)
{
	cleanup_free char *text = NULL;

	errno = ENOSPC;
	log_error("failed: %m");
	assert_int_equal(errno, ENOSPC);
	text = read_all(path);
	assert_non_null(strstr(text, "failed: No space left on device\n"));
	errno = EXDEV;
	log_debug("filtered");
	assert_int_equal(errno, EXDEV);
	assert_int_equal(log_open(LOG_LEVEL_INFO, "/dev/full", false), 0);
	log_info("this write fails");
	assert_int_equal(errno, EXDEV);
}

static void long_line_is_cut(void **state)
{
	cleanup_free char *text = NULL, *big = malloc(100001);

	assert_non_null(big);
	memset(big, 'x', 100000);
	big[100000] = '\0';
	log_info("%s", big);
	memset(big, '\n', 100000);
	log_info("%s", big);
	log_info("after");
	text = read_all(path);
	assert_int_equal(count_lines(text), 3);
	assert_non_null(strstr(text, "xxx [cut]\n"));
	assert_true(strlen(text) < 20000);
	assert_true(text_ends(text, "info test: after\n"));
}

static void write_lines(void *user)
{
	for (int i = 0; i < 500; i++)
		log_info("%s-%s-%s", (char *)user, (char *)user, (char *)user);
}

static void threads_never_mix(void **state)
{
	static const char *const words[] = {"alpha", "beta", "gamma", "delta"};
	struct thread *t[array_len(words)];
	cleanup_free char *text = NULL;
	char *line, *rest;
	size_t good = 0;

	for (size_t i = 0; i < array_len(t); i++)
		assert_int_equal(
			thread_start(&t[i], "log", write_lines, (void *)(uintptr_t)words[i]), 0);
	for (size_t i = 0; i < array_len(t); i++)
		thread_join(t[i]);
	text = read_all(path);
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		for (size_t i = 0; i < array_len(words); i++) {
			char want[64];

			snprintf(want, sizeof(want), "Z info test: %s-%s-%s", words[i], words[i],
				words[i]);
			good += text_ends(line, want);
		}
	}
	assert_int_equal(good, 2000);
}

static void reopen_follows_rename(void **state)
{
	cleanup_free char *old = NULL, *new = NULL;
	struct stat st;

	log_info("one");
	assert_int_equal(rename(path, moved), 0);
	log_info("two");
	assert_int_equal(log_reopen(), 0);
	log_info("three");
	old = read_all(moved);
	new = read_all(path);
	assert_int_equal(count_lines(old), 2);
	assert_int_equal(count_lines(new), 1);
	assert_non_null(strstr(new, "three"));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void bad_path_is_told(void **state)
{
	cleanup_free char *text = NULL;

	assert_int_equal(log_open(LOG_LEVEL_INFO, "/nonexistent-folder/log", false), -ENOENT);
	log_info("still here");
	text = read_all(path);
	assert_non_null(strstr(text, "still here"));
}

static void level_names(void **state)
{
	enum log_level level = LOG_LEVEL_INFO;

	assert_int_equal(log_level_parse("debug", &level), 0);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse("loud", &level), -EINVAL);
	assert_int_equal(log_level_parse("", &level), -EINVAL);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
}

/* A failed check is found in the log of a daemon whose stderr is gone. */
static void last_words_reach_the_file(void **state)
{
	cleanup_free char *text = NULL;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		check(1 == 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	text = read_all(path);
	assert_non_null(strstr(text, "check failed: 1 == 2 ("));
	assert_non_null(strstr(text, "test_base_log.c:"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(line_form, fresh_log),
		cmocka_unit_test_setup(levels_filter, fresh_log),
		cmocka_unit_test_setup(no_forged_lines, fresh_log),
		cmocka_unit_test_setup(errno_is_kept, fresh_log),
		cmocka_unit_test_setup(long_line_is_cut, fresh_log),
		cmocka_unit_test_setup(threads_never_mix, fresh_log),
		cmocka_unit_test_setup(reopen_follows_rename, fresh_log),
		cmocka_unit_test_setup(bad_path_is_told, fresh_log),
		cmocka_unit_test_setup(level_names, fresh_log),
		cmocka_unit_test_setup(last_words_reach_the_file, fresh_log),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
