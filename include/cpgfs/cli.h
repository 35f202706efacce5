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
#include "cpgfs/s3.h"
#include "cpgfs/store.h"
#include "cpgfs/upload.h"

enum cli_exit { EXIT_VERIFIED = 0, EXIT_USAGE = 1, EXIT_PENDING = 2, EXIT_NEEDS_PERSON = 3 };

/* Everything `cpgfs mount` was told, parsed and checked. Strings are owned by the struct; NULL is
 * "not given" and means what include/cpgfs/<room>.h says for it. */
struct cli_mount {
	char *bucket, *prefix, *mountpoint; /* prefix "" or "p/q"; mountpoint absolute */
	char *gallery;            /* --gallery: what it presets is in the other fields */
	enum gallery_credentials credentials_way; /* as the gallery says */
	char *prefix_option;      /* --prefix as it was given */
	char *endpoint, *region, *profile, *ca_bundle, *account_id;
	char *acl;                /* NULL: none */
	char *cache_dir;
	char *identity;           /* endpoint, bucket and prefix in one line: what a cache belongs to */
	uint64_t cache_size_bytes, min_free_bytes, part_size_bytes, multipart_threshold_bytes;
	int64_t settle_ms, stream_quiet_ms, delete_delay_ms, full_timeout_ms, list_ttl_ms;
	unsigned max_transfers;
	bool view_uploaded, df_unlimited, allow_overwrite, allow_delete, allow_other, read_only;
	bool sign_payload_always, no_sign_request, access_grant, durability_close, start_paused;
	bool passthrough;
	bool foreground, drain;
	bool check_first; /* --check: cli_check_before_mount() decides */
	struct naming_policy naming;
	enum layout_mode layout;
	char *layout_name;        /* for cli_layout_load; NULL: the default */
	enum log_level log_level;
	char *log_file;
	char **options;           /* in force, "name=value", NULL-ended: for status */
};

/* `mount …`, or `s3://… DIR -o …` as mount(8) calls a helper of type fuse.cpgfs. */
bool cli_is_mount(int argc, char **argv);
/* Whole argv. Prints help and errors itself. 0: go on; else *ret_exit is the exit code and the
 * result is -ECANCELED (help was asked for) or -EINVAL. */
must_check int cli_mount_parse(int argc, char **argv, struct cli_mount *ret, int *ret_exit);
void cli_mount_release(struct cli_mount *m);

/* The report of `cpgfs check` on standard error, made by a child process. 0: mount; else the exit
 * code, and it was said why. */
must_check int cli_check_before_mount(const struct cli_mount *m);

/* What a person should know of a cache directory on a file system of this kind (f_type of statfs), to be
 * read behind "the cache directory DIR is "; NULL: nothing. */
const char *cli_cache_warning(unsigned long magic);

/* A layout by name (that of a gallery; NULL: the Cell Painting Gallery's) or by the path of its file.
 * *ret_message (malloc'ed) names the file and what is wrong in it. */
must_check int cli_layout_load(const char *name, struct layout **ret, char **ret_message);

/* Every command but mount. Returns the exit code. */
int cli_run(int argc, char **argv);

/*
 * Ask the bucket once whether this mount can work: list one key under the prefix. 0: fine; 1: it
 * may heal by itself (unreachable, throttled, expired credentials, listing denied); -errno: it will
 * not. Unless 0, *ret_message (malloc'ed) names cause and way out. Blocks for at most 5 s.
 */
must_check int cli_probe_bucket(
	struct s3 *s3, const char *bucket, const char *prefix, char **ret_message);
