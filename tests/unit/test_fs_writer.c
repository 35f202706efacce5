/*
 * How a closing task ends: lines of /proc/PID/stat as the kernel writes them, and real children.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "fs_private.h"

#include <signal.h>
#include <sys/wait.h>

/* Fields 10 to 51. */
#define REST                                                                                       \
	" 100 0 0 0 1 1 0 0 20 0 1 0 4242 1000 10 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 "   \
	"17 1 "                                                                                    \
	"0 0 0 0 0 0 0 0 0 0 0 0 "

static void judges_lines(void **state)
{
	static const struct {
		const char *what, *line;
		enum fs_ending ending;
		int signal;
	} rows[] = {
		{"alive", "5 (cp) R 1 5 5 0 -1 4194304" REST "0", FS_ENDING_NORMAL, 0},
		{"exit(0)", "5 (cp) R 1 5 5 0 -1 4194308" REST "0", FS_ENDING_NORMAL, 0},
		{"_exit(3)", "5 (cp) R 1 5 5 0 -1 4194308" REST "768", FS_ENDING_NORMAL, 0},
		{"SIGKILL", "5 (cp) R 1 5 5 0 -1 4195332" REST "9", FS_ENDING_KILLED, 9},
		{"SIGSEGV with a core", "5 (cp) R 1 5 5 0 -1 4195332" REST "139", FS_ENDING_KILLED,
			11},
		{"threads, returned from main", "5 (cp) R 1 5 5 0 -1 4195332" REST "0",
			FS_ENDING_ABRUPT, 0},
		{"signalled, not dying", "5 (cp) R 1 5 5 0 -1 4195328" REST "9", FS_ENDING_NORMAL,
			0},
		{"a name with brackets and blanks", "5 (a) R 1 (b) R 1 5 5 0 -1 4195332" REST "15",
			FS_ENDING_KILLED, 15},
		{"cut", "5 (cp) R 1", FS_ENDING_NORMAL, 0},
		{"empty", "", FS_ENDING_NORMAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < array_len(rows); i++) {
		int signal = -1;

		if (fs_writer_judge(rows[i].line, &signal) != rows[i].ending)
			fail_msg("%s", rows[i].what);
		assert_int_equal(signal, rows[i].signal);
	}
}

static void a_living_process_is_no_sign(void **state)
{
	int signal;

	(void)state;
	assert_int_equal(fs_writer_ending(getpid(), &signal), FS_ENDING_NORMAL);
	assert_int_equal(fs_writer_ending(0, &signal), FS_ENDING_NORMAL); /* another namespace */
}

/* A zombie shows what a dying task shows. */
static void a_killed_child_is_seen(void **state)
{
	siginfo_t info;
	int signal;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		for (;;)
			pause();
	assert_int_equal(kill(child, SIGTERM), 0);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(fs_writer_ending(child, &signal), FS_ENDING_KILLED);
	assert_int_equal(signal, SIGTERM);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_lines),
		cmocka_unit_test(a_living_process_is_no_sign),
		cmocka_unit_test(a_killed_child_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
