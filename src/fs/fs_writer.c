/*
 * fs_writer - was the writer of a file cut off?
 *
 * A FLUSH names the task that closes. One that is dying has PF_EXITING in its flags (field 9 of
 * /proc/PID/stat), and its exit code (field 52) holds the signal that kills it. PF_SIGNALED alone
 * misleads: a program with several threads that ends normally shows it too. Where the exit code
 * can't be read (another user's process), it is a note and no more. A pid of 0 is a task of
 * another pid namespace: no sign.
 */
#include "fs_private.h"

#define PF_EXITING 0x4u
#define PF_SIGNALED 0x400u
#define FIELD_FLAGS 9
#define FIELD_EXIT_CODE 52

enum fs_ending fs_writer_judge(const char *stat_line, int *ret_signal)
{
	uint64_t flags, exit_code;

	*ret_signal = 0;
	if (!process_stat_field(stat_line, FIELD_FLAGS, &flags) || !(flags & PF_EXITING))
		return FS_ENDING_NORMAL;
	if (process_stat_field(stat_line, FIELD_EXIT_CODE, &exit_code) && (exit_code & 0x7f)) {
		*ret_signal = (int)(exit_code & 0x7f);
		return FS_ENDING_KILLED;
	}
	return flags & PF_SIGNALED ? FS_ENDING_ABRUPT : FS_ENDING_NORMAL;
}

enum fs_ending fs_writer_ending(pid_t pid, int *ret_signal)
{
	char line[2048];

	*ret_signal = 0;
	if (pid <= 0 || process_stat(pid, line, sizeof(line)) < 0)
		return FS_ENDING_NORMAL;
	return fs_writer_judge(line, ret_signal);
}
