/*
 * cli_plan - `cpgfs plan`, the dry run: what would be uploaded where, and what a person should look
 *            at before it is.
 *
 *	cli_plan.c           the command, its options, where the destination is
 *	cli_plan_files.c     each file on its way to a line, a problem or both
 *	cli_plan_mount.c     the same of what waits in a paused mount (cpgfs status)
 *	cli_plan_content.c   what a file's size and first bytes tell
 *	cli_plan_links.c     tables that name what is not there
 *	cli_plan_remote.c    what the bucket has of it already (--remote)
 *	cli_plan_plates.c    plate by plate: what is there, what lacks
 *	cli_plan_problems.c  everything found, by kind
 */
#pragma once

#include <jansson.h>
#include <limits.h>

#include "cli_bucket.h"
#include "cli_options.h"
#include "cli_walk.h"

enum plan_kind { /* in the order in which they are shown */
	PLAN_UNREADABLE,
	PLAN_SPECIAL,
	PLAN_NAME,
	PLAN_NOT_TEXT,
	PLAN_LONG_KEY,
	PLAN_TOO_LARGE,
	PLAN_DUPLICATE,
	PLAN_TWIN,
	PLAN_LAYOUT,
	PLAN_EMPTY,
	PLAN_ZEROS,
	PLAN_NO_TIFF,
	PLAN_SIZE,
	PLAN_EXPECTED,
	PLAN_LINKS,
	PLAN_EXISTS,
	PLAN_OTHER_SIZE,
	PLAN_NOTES, /* from here on: worth a look, no problem */
	PLAN_LAYOUT_WARN = PLAN_NOTES,
	PLAN_LEAF_NAME,
	PLAN_MISSING,
	PLAN_COUNTERPART,
	PLAN_REQUIRED,
	PLAN_UNREAD,
	PLAN_TEMPORARY,
	PLAN_JUNK,
	PLAN_KINDS,
};

struct plan_problems;
struct plan_plates;
struct plan_remote;

struct plan {
	/* what was asked for */
	char *bucket;
	char *mount_root; /* the destination is in this mount; NULL */
	struct naming_policy naming;
	struct layout *layout; /* NULL: not judged */
	struct plate_pin pin;
	uint64_t part_size_bytes, threshold_bytes, rate_bytes_per_s;
	bool lines;    /* one line per file */
	bool progress; /* a counter on standard error */
	bool waiting; /* in a mount: they can be read, and each look is a request to it */

	struct plan_source {
		char *path;   /* as given */
		char *prefix; /* of the keys below it */
		char *folder; /* set by plan_source() */
		bool is_single; /* a file, not a folder */
	} * sources;
	size_t source_count, source_at;

	/* of the source at hand */
	const char *prefix;
	char top[PATH_MAX], cwd[PATH_MAX]; /* absolute: the source, where we are */

	/* what was found */
	struct plan_problems *problems;
	struct plan_plates *plates;
	uint64_t files, bytes, parts, held_files, held_bytes, there_files;
	struct plan_remote *remote; /* NULL: not asked */
	struct plan_sizes { /* of the TIFFs of each folder from the source down to this one */
		uint64_t usual_bytes; /* 0: no usual size */
		bool equal;	      /* nearly all have it exactly */
	} sizes[WALK_DEPTH_MAX + 1];
	unsigned depth;
	int64_t progress_at;
};

#define PLAN_RATE_BYTES_PER_S 100000000 /* where none is given */

/* ---- cli_plan.c ---- */
void plan_print(const struct plan *p); /* after plan_plates_finish: plates, problems, totals */

/* ---- cli_plan_mount.c ---- */
/* What would be uploaded from the mount at root, to standard output; status: its status.json. -errno
 * after a message. */
must_check int cli_plan_waiting(const char *root, const json_t *status);

/* ---- cli_plan_files.c ---- */
extern const struct walk_hooks plan_hooks; /* of struct plan */
/* Notes what the layout has against this key, if anything: rule, path, likely fix. */
void plan_layout(
	struct plan *p, const char *key, const struct layout_match *m, const char *shown);
void plan_shown(const struct plan *p, const char *rel, struct buf *out); /* as lines show it */
must_check int plan_source(
	struct plan *p, struct plan_source *source); /* -errno, after a message */
void plan_progress(struct plan *p, bool force);

/* ---- cli_plan_content.c ---- */
void plan_folder_sizes(const struct walk_entry *entries, size_t count, struct plan_sizes *ret);
void plan_content(struct plan *p, int parent, const struct walk_entry *entry, const char *shown);

/* ---- cli_plan_plates.c ---- */
must_check int plan_plates_create(struct plan_plates **ret);
void plan_plates_destroy(struct plan_plates *pl);
/* A file that would be uploaded, with the rule that takes its key. */
/* at_ns: when it was uploaded; 0: not yet. */
must_check int plan_plates_add(struct plan *p, const char *key, const struct layout_match *m,
	uint64_t bytes, int64_t at_ns);
/* The bucket has this file of a plate already. */
must_check int plan_plates_there(struct plan *p, const char *key, const struct layout_match *m);
must_check int plan_plates_finish(struct plan *p);
void plan_plates_print(const struct plan *p, FILE *out);
size_t plan_plates_count(const struct plan *p);
struct plan_plate {
	const char *place; /* "project/source/batch/plate" */
	enum image_vendor vendor;
	struct plate_facts facts;
	uint64_t files, bytes;
	int64_t first_at_ns, last_at_ns;
};
/* After plan_plates_finish, every plate folder; each returns non-zero to stop. */
int plan_plates_each(
	const struct plan *p, int (*each)(void *user, const struct plan_plate *plate), void *user);

/* ---- cli_plan_links.c ---- */
/* If it is a table that names other files: those that are not there. */
void plan_links(struct plan *p, const char *key, const char *shown);

/* ---- cli_plan_remote.c ---- */
must_check int plan_remote_open(struct plan_remote **ret, struct s3 *s3, const char *prefix);
void plan_remote_close(struct plan_remote **remote); /* *remote may be NULL */
/* 1: *ret is listed under the key; 0: nothing is; -errno after a message. Cheap where keys ascend.
 */
must_check int plan_remote_find(struct plan_remote *remote, const char *key, struct s3_object *ret);

/* ---- cli_plan_problems.c ---- */
must_check int plan_problems_create(struct plan_problems **ret, const char *tsv_path);
int plan_problems_close(struct plan_problems *ps); /* frees; -errno of writing the TSV */
/* detail: what is wrong, for a person; equal ones are counted together. NULL: the path says it. */
void plan_problem(struct plan *p, enum plan_kind kind, const char *path, const char *detail);
void plan_problem_f(struct plan *p, enum plan_kind kind, const char *path, const char *fmt, ...)
	printf_like(4, 5);
void plan_problems_print(const struct plan *p, FILE *out);
bool plan_has_problems(const struct plan *p);
bool plan_has_findings(const struct plan *p); /* problems or notes */
/* Every kind that occurred, with its most frequent details: first path and count. */
struct plan_finding {
	bool is_note;
	const char *title, *remedy, *what, *first; /* remedy, what: NULL: none */
	uint64_t count, kind_count;		   /* of this detail; of the kind */
	uint64_t more; /* of the last detail shown: how often others of the kind occurred */
};
int plan_problems_each(
	const struct plan *p, int (*each)(void *user, const struct plan_finding *f), void *user);
