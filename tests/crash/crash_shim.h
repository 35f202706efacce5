/*
 * crash_shim - what the shim and its driver (rig.py, disk.py) tell each other.
 *
 * The shim is preloaded into a daemon and sees every libc call on files below one folder (its
 * cache, LMDB's own calls among them) and on its connections to the server. Environment:
 *
 *   CPGFS_CRASH          a file of struct crash_control, mapped by both sides
 *   CPGFS_CRASH_PROGRAM  the name of the daemon's program, without its folder
 *   CPGFS_CRASH_DIR      the folder, as realpath(3) gives it
 *   CPGFS_CRASH_RECORD   optional: every change of the folder is appended here, in its order
 *   CPGFS_CRASH_BOOT_ID  optional: a file read in place of /proc/sys/kernel/random/boot_id
 */
#pragma once

#include <stdint.h>

#define CRASH_CONTROL_MAGIC UINT64_C(0x3148534152435043) /* "CPCRASH1" */

/* Calls are counted by class. */
enum crash_class {
	CRASH_STORE,   /* writes and sizes of data files, and of files that are none of the below */
	CRASH_JOURNAL, /* of the journal */
	CRASH_COMMIT,  /* of the index */
	CRASH_SYNC,    /* fsync, fdatasync, syncfs, sync_file_range */
	CRASH_NAME,    /* files made, renamed, removed; folders */
	CRASH_REQUEST, /* bytes sent to the server */
	CRASH_REPLY,   /* bytes received */
	CRASH_OPEN,    /* of what exists */
	CRASH_READ,
	CRASH_CLASS_COUNT
};

enum crash_action {
	CRASH_NOTHING,
	CRASH_KILL_BEFORE,
	CRASH_KILL_HALF, /* writes: after half the bytes; other calls: as KILL_AFTER */
	CRASH_KILL_AFTER,
	CRASH_FAIL,  /* with `error`, and so do the calls that follow, `span` in all */
	CRASH_SHORT, /* half the bytes; then as CRASH_FAIL for the rest of `span` */
};

struct crash_control {
	uint64_t magic;
	uint32_t action;
	uint32_t classes; /* bits of the classes whose calls are counted together in `count` */
	uint64_t at;	  /* the call that meets the action, from 1 */
	uint64_t span;
	int32_t error;
	uint32_t met; /* how many calls did */
	uint64_t count;
	uint64_t seen[16]; /* by class */
	char what[256];	   /* the first call that met it */
};

/* One entry of the record: this, then the path (relative to the folder), then a write's bytes. */
enum crash_op {
	CRASH_OP_CREATE = 1,
	CRASH_OP_WRITE,	   /* off, len */
	CRASH_OP_TRUNCATE, /* len */
	CRASH_OP_ALLOCATE, /* off, len; flag: mode of fallocate(2) */
	CRASH_OP_MKDIR,
	CRASH_OP_UNLINK, /* rmdir, too */
	CRASH_OP_RENAME, /* path: old NUL new */
	CRASH_OP_SYNC,
	CRASH_OP_SYNC_DIR, /* path */
	CRASH_OP_SYNC_ALL,
};
#define CRASH_FLAG_DSYNC 1u /* of a write: it is on the disk when it returns */

struct crash_entry {
	uint8_t op, flags;
	uint16_t path_len;
	uint32_t magic; /* CRASH_ENTRY_MAGIC */
	uint64_t file;	/* inode number of the file, where there is one */
	uint64_t off, len;
};
#define CRASH_ENTRY_MAGIC UINT32_C(0x45525043) /* "CPRE" */

/* ---- between crash_shim.c (what happens at a call) and crash_calls.c (the calls) ---- */

enum crash_kind {
	KIND_NONE,
	KIND_DATA,
	KIND_JOURNAL,
	KIND_INDEX,
	KIND_OTHER,
	KIND_DIR,
	KIND_SOCKET
};

/* What is to be done with one call. crash_begin fills it; crash_end must follow. */
struct crash_step {
	enum { STEP_PASS, STEP_FAIL, STEP_HALF } what;
	int error;
	_Bool die_after;
	_Bool locked;
};

_Bool crash_is_on(void);
_Bool crash_is_recording(void);
const char *crash_boot_id_path(void);
/* Relative to the folder ("" for itself), or NULL if path is not below it. */
const char *crash_below(const char *path);
/* The same for a path relative to a descriptor, put together in room. */
const char *crash_below_at(int dir_fd, const char *path, char *room, unsigned long size);
enum crash_class crash_class_of(enum crash_kind kind);
enum crash_kind crash_kind_of_path(const char *below);

struct crash_step crash_begin(
	enum crash_class c, const char *call, const char *on, uint64_t off, uint64_t len);
/* Keeps errno. */
void crash_end(const struct crash_step *step);
/* Between begin and end, when the call did something. */
void crash_record(const struct crash_entry *entry, const char *path, const void *data);
