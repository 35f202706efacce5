/*
 * control - the person's side inside the mount: `.cpgfs/` with status, tables, the pure S3 view and
 *           commands.
 *
 * Owns:     the virtual files; nothing else.
 * Threads:  called from fs's pool.
 * Locks:    RANK_CONTROL.
 * Errors:   0 or -errno.
 * Tests:    tests/unit/test_control_*.c, tests/mount/
 *
 * Files: status, status.json, metrics, queue.tsv, failed.tsv, rejected.tsv, layout.tsv, plates.tsv, uploaded.tsv, remote/…,
 * plates/<project>/<source>/<batch>/<plate>.svg and .txt,
 * control (0600, write-only: one command a line, see src/control/control_commands.c), credentials
 * (0600, write-only: see src/control/control_credentials.c),
 * reply/<token> (0600: what the command with that token answered).
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 100
#error "control.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/auth.h"
#include "cpgfs/fs.h"

struct control;

struct control_config {
	struct store *store;
	struct remote *remote;
	struct upload *upload;
	struct verify *verify;
	struct auth *auth;
	struct fs *(*fs)(void *user); /* the file system, once it is made */
	void *fs_user;
	uid_t owner;               /* only this user (and root) may give commands */
	const char *bucket, *prefix, *endpoint, *mountpoint, *cache_dir;
	struct naming_policy naming;
	const struct layout *layout; /* where plates are; NULL: .cpgfs/plates is empty */
	/* Options in force, for status: NULL-ended "name=value" list. */
	const char *const *options;
	void (*request_stop)(void *user); /* `umount` command */
	/* `drain`, `no-drain`: upload what is pending when it ends, whatever the options say; as they say */
	void (*request_drain)(void *user, bool on);
	void *stop_user; /* of both */
};
must_check int control_create(struct control **ret, const struct control_config *config);
void control_destroy(struct control *c);
/* News from the store (store_events.changed). Cheap, any thread. */
void control_notice(struct control *c, const struct store_change *change);
/* What `cpgfs wait` and `status` would end with. */
int control_exit_of(const struct store_counts *counts, uint64_t jobs, uint64_t jobs_damaged);
/* For fs_config.virtual. */
struct fs_virtual control_virtual(struct control *c);
