/*
 * cli_check - `cpgfs check`: everything a long upload needs, looked at before it begins.
 *
 * Threads:  the main thread; a signal only sets a flag, and what the check put into the bucket is
 *           removed before it ends.
 */
#pragma once

#include "cpgfs/auth.h"
#include "cpgfs/cli.h"

struct json_t;

/* ---- the report (cli_check_report.c) -------------------------------------------------------- */

enum check_level {
	CHECK_OK,
	CHECK_SKIP, /* not looked at, and why */
	CHECK_WARN, /* works, but a person should know */
	CHECK_FAIL, /* an upload will not work like this */
	CHECK_LEVELS,
};

struct check_report {
	FILE *out; /* lines go there as they are found; NULL: JSON at the end, to standard output */
	struct json_t *lines; /* array of objects */
	unsigned count[CHECK_LEVELS];
	bool incomplete; /* out of memory */
};
must_check int check_report_init(struct check_report *r, FILE *out);
void check_report_release(struct check_report *r);
/* name: one word, the same in every release. */
void check_say(struct check_report *r, enum check_level level, const char *name, const char *fmt,
	...) printf_like(4, 5);
/* Of the line said last: what a person does about it; a number for programs. */
void check_remedy(struct check_report *r, const char *fmt, ...) printf_like(2, 3);
void check_number(struct check_report *r, const char *name, double value);
/* The last line, or all of the JSON. Exit code: 0, or 3 if anything failed. */
int check_report_end(struct check_report *r);

/* ---- the machine (cli_check_machine.c, cli_check_cache.c) ----------------------------------- */

/* Where to look; tests have other places. */
struct check_places {
	const char *fuse_device; /* /dev/fuse */
	const char *fuse_conf;	 /* /etc/fuse.conf */
	const char *path;	 /* of programs, as in $PATH */
	bool is_root;
};
void check_fuse(struct check_report *r, const struct check_places *p);
void check_allow_other(struct check_report *r, const struct check_places *p);

/* Speed (not if quick), room, kind and inodes of the disk that the cache directory is or will be
 * on. Leaves nothing. */
void check_cache(struct check_report *r, const struct cli_mount *m, bool quick);
/* Noise that nothing can compress; len in steps of 8. */
void check_fill(uint8_t *bytes, size_t len);
/* Its judgements, pure. */
void check_judge_speed(struct check_report *r, uint64_t bytes, int64_t elapsed_ms);
void check_judge_space(struct check_report *r, uint64_t free_bytes, uint64_t min_free_bytes,
	uint64_t cache_size_bytes);
void check_judge_kind(struct check_report *r, unsigned long magic, bool punches_holes, bool locks);
void check_judge_inodes(struct check_report *r, uint64_t total, uint64_t available);

/* ---- the bucket ----------------------------------------------------------------------------- */

struct check_run {
	const struct cli_mount *options;
	struct check_report *report;
	bool no_write, quick;
	struct auth *auth;
	struct s3 *s3;
	char region[64];
	bool cleaning; /* signals no longer cut requests short */
	/* the probe object */
	int body_fd;
	char key[KEY_MAX_BYTES + 1];
	bool may_exist; /* a PUT was sent */
	char etag[S3_ETAG_MAX];
	char upload_id[S3_UPLOAD_ID_MAX]; /* "": none is open */
	const char *acl;		  /* that works; NULL: none */
};

/* cli_check_call.c: signals, and requests that end early when one came. */
void check_catch_signals(void);
bool check_is_interrupted(void);
/* Tries transient failures three times. -EINTR: a signal came (not while cleaning). */
must_check int check_call(
	struct check_run *run, const struct s3_request *req, struct s3_reply *ret);

/* cli_check_server.c. False: the rest makes no sense, and the report says why. */
bool check_credentials(struct check_run *run);
bool check_server(struct check_run *run);
void check_judge_clock(struct check_report *r, int64_t ahead_ms);
/* What is odd about bucket and prefix of a gallery. */
void check_gallery(struct check_report *r, const struct cli_mount *m);

/* cli_check_write.c: put, ACL, head, conditions, parts, rate, delete. */
void check_writing(struct check_run *run);
/* Removes what may be in the bucket; says so only if it fails. */
void check_clean_up(struct check_run *run);
