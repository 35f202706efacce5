/*
 * cli - `cpgfs <command>`: options, help, and the commands that talk to a mount through `.cpgfs/`
 *       or to the bucket directly.
 *
 * Owns:     the one table of mount options (src/cli/cli_options.c): parser, --help, man page and
 *           status are made from it.
 * Threads:  the main thread only.
 * Errors:   exit codes: 0 all verified; 1 usage or error; 2 still pending; 3 needs a person.
 * Tests:    tests/unit/test_cli_*.c, tests/mount/
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 110
#error "cli.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/gallery.h"
#include "cpgfs/store.h"
#include "cpgfs/upload.h"

/* Everything `cpgfs mount` was told, parsed and checked. Strings live as long as the struct. */
struct cli_mount {
	char *bucket, *prefix, *mountpoint;
	char *endpoint, *region, *profile, *ca_bundle;
	char *acl;                /* NULL: none */
	char *cache_dir;
	uint64_t cache_size_bytes, min_free_bytes, part_size_bytes, multipart_threshold_bytes;
	int64_t settle_ms, delete_delay_ms, full_timeout_ms, list_ttl_ms;
	unsigned max_transfers;
	bool view_uploaded, df_unlimited, allow_overwrite, allow_delete, allow_other, read_only;
	bool sign_payload_always, no_sign_request, durability_close, start_paused;
	bool foreground, drain;
	struct naming_policy naming;
	enum log_level log_level;
	char *log_file;
	char **options;           /* in force, "name=value", NULL-ended */
};
/* argv after the word `mount` (or of `cpgfs s3://… DIR -o …` as mount(8) calls it). Prints its own
 * errors. 0, or the exit code + 1 when there is nothing to run (--help: 1, usage error: 2). */
must_check int cli_mount_parse(int argc, char **argv, struct cli_mount *ret);
void cli_mount_release(struct cli_mount *m);

/* Every command but mount. Returns the exit code; -1: argv[1] is not a command of ours. */
int cli_run(int argc, char **argv);
bool cli_is_mount(int argc, char **argv); /* `mount`, or s3:// first as mount(8) does */
