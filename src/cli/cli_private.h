/*
 * cli_private - what the commands share.
 */
#pragma once

#include "cpgfs/cli.h"

/* "cpgfs: …\n" on standard error. */
void cli_error(const char *fmt, ...) printf_like(1, 2);

/* ---- addresses (cli_address.c) ------------------------------------------------------------------- */

/* The command line of `cpgfs check` (argv[0]): as of a mount; a mount point may stand there, and is not
 * looked at. */
must_check int cli_check_parse(int argc, char **argv, struct cli_mount *ret, int *ret_exit);
/* Bucket naming rules of S3, as far as they keep an address unambiguous. */
bool cli_bucket_is_valid(const char *bucket);
/* Fills bucket and prefix of m: from "s3://BUCKET/PREFIX" (NULL: the gallery's bucket, which is in m
 * already) and m->prefix_option. Prints what is wrong and the likely fix: -EINVAL. */
must_check int cli_address_fill(struct cli_mount *m, const char *address);
/* argv[*at] is an option of the mount ("--name", "--name=value"); *at moves to its last word. */
must_check int cli_mount_option(struct cli_mount *m, int argc, char **argv, int *at);
/* Endpoint and certificates from the environment where no option gave them. */
must_check int cli_mount_endpoint(struct cli_mount *m);
/* What is wrong with a prefix as people type it, and the fix; false: nothing. */
bool cli_prefix_mistake(const char *prefix, char *out, size_t size);

/* ---- looking at the bucket (cli_probe.c) ----------------------------------------------------------- */

/* The reply to a listing of one key, as cli_probe_bucket() judges it. */
must_check int cli_probe_judge(
	const struct s3_reply *reply, const char *bucket, const char *prefix, char **ret_message);

/* ---- a mount, seen from outside (cli_talk.c) ------------------------------------------------------ */

struct cli_target {
	char root[4096]; /* the mount point, absolute */
	char path[4096]; /* below it, no leading slash; "" = all */
};
/* Which mount holds this path? It may be the mount point or anything in it (need not exist).
 * Prints why not. -EINVAL: empty; -ENODEV: not inside a cpgfs mount. */
must_check int cli_target_find(const char *path, struct cli_target *ret);
/* A second path of the same command: absolute inside root, or relative to it (else to the working
 * directory). Prints why not. */
must_check int cli_target_path(const char *root, const char *path, char out[4096]);

/* The value of an option of a mount, by its status.json; NULL: it is not there. */
struct json_t;
const char *cli_option_of(const struct json_t *status, const char *name);
/* The naming rule that a mount has, by the options in its status.json. -EINVAL: this version does not know it. */
must_check int cli_naming_of(const struct json_t *status, struct naming_policy *ret);
/* Of the mount at root. Prints why not. */
must_check int cli_naming_ask(const char *root, struct naming_policy *ret);
/* Where the bucket has what is at t->path: another place where the mount cleans names. Prints why it can't
 * be told. */
must_check int cli_target_key(const struct cli_target *t, char out[4096]);

/* Read a whole file of `.cpgfs`. */
must_check int cli_read(const char *root, const char *name, struct buf *out);
/* Give a command, return its answer as JSON (jansson's json_t, the caller's). Prints errors of
 * transport; an answer with "error" is returned as it is. */
must_check int cli_ask(
	const char *root, const char *verb, const char *path, struct json_t **ret_answer);

/* ---- commands: argv[0] is the command's own name ------------------------------------------------ */

int cmd_check(int argc, char **argv);
int cmd_credentials(int argc, char **argv);
int cmd_galleries(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_wait(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_repair(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_simple(int argc, char **argv); /* retry accept discard undelete pause resume … */

/* The exit code that counts (a JSON object with "files" and "held") amount to. */
int cli_exit_of_counts(const struct json_t *counts);
/* Sums of "files" and "bytes" over the states that still have to reach the bucket, and of all. Held
 * files are in none of them; those of junk names nowhere. */
struct cli_progress {
	uint64_t files_all, files_done, files_person, files_pending;
	uint64_t held_name, held_temporary;
	uint64_t bytes_all, bytes_done;
};
void cli_progress_of(const struct json_t *counts, struct cli_progress *ret);
