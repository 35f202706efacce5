/*
 * scratch - where unit tests put their folders: in memory where there is room for it, for hundreds of
 * them sync what nobody ever needs, and a disk that others keep busy takes minutes for that.
 */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SCRATCH_ROOM_BYTES (UINT64_C(2) << 30)

/* Tests of what tmpfs does not have (FALLOC_FL_ZERO_RANGE) define SCRATCH_ON_DISK. */

static inline const char *scratch_top(void)
{
#ifdef SCRATCH_ON_DISK
	return "/tmp";
#else
	struct statvfs s;

	if (access("/dev/shm", W_OK) < 0 || statvfs("/dev/shm", &s) < 0 ||
		(uint64_t)s.f_bavail * s.f_frsize < SCRATCH_ROOM_BYTES)
		return "/tmp";
	return "/dev/shm";
#endif
}
