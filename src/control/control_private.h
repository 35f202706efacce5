/*
 * control_private - what the files of this room share.
 */
#pragma once

#include "cpgfs/control.h"

#include <jansson.h>
#include <stdatomic.h>

/* Ids of things that are always there; those of remote/ are hashes with the highest bit, those of
 * reply/ are counted from ID_REPLY_BIT. */
enum control_id {
	ID_ROOT = 1,
	ID_REMOTE,
	ID_REPLY,
	ID_PLATES,
	ID_FILES, /* the first of control_files.c */
};
#define ID_REMOTE_BIT (UINT64_C(1) << 63) /* store_ino_of_key sets it */
#define ID_REPLY_BIT (UINT64_C(1) << 40)
#define ID_PLATES_BIT (UINT64_C(1) << 61) /* with ID_REMOTE_BIT clear */

typedef int control_add_fn(void *arg, const char *name, const struct fs_virtual_attr *attr);

struct control_snapshot; /* control_snapshot.c */
struct control_nodes;	 /* control_nodes.c */

#define REPLIES_MAX 1000
#define TOKEN_MAX 64

struct control_reply {
	char token[TOKEN_MAX + 1]; /* "": free */
	uint64_t number;
	int64_t made_ms; /* clock_mono_ms */
	int64_t made_ns;
	char *text;
	size_t len;
};

struct control {
	/* const after create */
	struct control_config config;
	char *bucket, *prefix, *endpoint, *mountpoint, *cache_dir;
	char **options; /* NULL-ended */
	int64_t started_ns, started_mono_ms;

	_Atomic int64_t changed_ms; /* clock_mono_ms: the bucket is known to show other things since */

	struct lock lock;
	struct {
		struct control_reply replies[REPLIES_MAX]; /* round robin */
		uint64_t reply_count;
		struct control_snapshot *snapshots; /* newest first */
		struct control_nodes *nodes;
	} synced; /* by lock */
};

/* ---- control_files.c: the generated files, one table ------------------------------------------ */
must_check int control_file_find(const char *name, struct fs_virtual_attr *ret, struct control *c);
must_check int control_file_attr(uint64_t id, struct fs_virtual_attr *ret, struct control *c);
int control_files_list(struct control *c, control_add_fn *add, void *arg);
must_check int control_file_read(struct control *c, uint64_t id, struct buf *out);
struct control_source;
const struct control_source *control_file_source(uint64_t id); /* NULL: it is read at once */
/* -EPERM: nothing can be written to this. */
must_check int control_file_take(struct control *c, uint64_t id, const char *data, size_t len);

/* ---- their contents ------------------------------------------------------------------------------ */
must_check int control_write_status(struct control *c, struct buf *out);
must_check int control_write_json(struct control *c, struct buf *out);
must_check int control_write_metrics(struct control *c, struct buf *out);
must_check int control_write_plates(struct control *c, struct buf *out);
extern const struct control_source control_queue, control_failed, control_rejected, control_uploaded,
	control_layout;

/* ---- control_stream.c: long ones, made while they are read ---------------------------------------- */
struct control_source {
	size_t cursor_bytes; /* of plain data that says where it is; zero at the beginning */
	const void *about;   /* for open */
	/* What the functions get; NULL: nothing, or what control_stream_open is given. */
	int (*open)(struct control *c, const void *about, void **ret_session);
	void (*begin)(struct control *c, const void *session, struct buf *out); /* the first line */
	/* Some rows from the cursor on, which moves behind them. 1: there may be more; 0; -errno. */
	int (*more)(struct control *c, void *session, void *cursor, struct buf *out);
	void (*close)(void *session); /* NULL: there is none */
};
struct control_stream;
/* Takes the session (or NULL) in any case. */
must_check int control_stream_open(struct control *c, const struct control_source *source,
	void *session, struct control_stream **ret);
void control_stream_close(struct control_stream *s);
must_check ssize_t control_stream_read(
	struct control_stream *s, void *data, size_t len, uint64_t off);

/* ---- control_facts.c: what status, JSON and metrics say, asked once ---------------------------- */
struct control_facts {
	struct store_counts counts;
	struct store_space space;
	struct store_recovery recovery;
	struct upload_status upload;
	struct fs_status fs;
	char credentials[256];
	int remote_health;
	char remote_message[256];
	int exit_code;
};
must_check int control_facts_get(struct control *c, struct control_facts *ret);
const char *control_held_text(enum held_kind kind);   /* "temporary" */
const char *control_held_remedy(enum held_kind kind); /* "" if none */
/* "files", "bytes" and "held" of these counts are added to the object. */
must_check int control_json_counts(json_t *object, const struct store_counts *counts);
/* A string whatever its bytes are (escaped if they are not UTF-8). */
json_t *control_json_text(const char *text);
/* Not json_dumps: jansson 2.14 leaves out a key for which it finds no memory, and goes on. */
must_check int control_json_write(const json_t *json, size_t flags, struct buf *out);

/* ---- control_space.c: what fills the cache ------------------------------------------------------- */
struct control_fill {
	uint64_t bytes[FILE_STATE_COUNT]; /* of what is not clean */
	uint64_t clean_bytes;
};
void control_fill(const struct control_facts *f, struct control_fill *ret);
/* Nothing while there is room and nobody waits for it. */
void control_write_fill(const struct control_facts *f, struct buf *out);
json_t *control_json_fill(const struct control_facts *f); /* {"queued": 5, …, "clean": 7} */

/* ---- control_commands.c ------------------------------------------------------------------------------ */
must_check int control_command_write(struct control *c, const char *data, size_t len);

/* ---- control_credentials.c ------------------------------------------------------------------------- */
must_check int control_credentials_write(struct control *c, const char *data, size_t len);

/* ---- control_reply.c ---------------------------------------------------------------------------------- */
bool control_token_is_valid(const char *token);
/* {"ok": true, "count": result} or {"error": error_text} with what answer has already; takes nothing. */
void control_answer_keep(struct control *c, const char *token, int64_t result,
	const char *error_text, json_t *answer);
void control_reply_keep(struct control *c, const char *token, char *text, size_t len); /* takes text */
must_check int control_reply_find(
	struct control *c, const char *token, struct fs_virtual_attr *ret);
must_check int control_reply_attr(struct control *c, uint64_t id, struct fs_virtual_attr *ret);
must_check int control_reply_read(struct control *c, uint64_t id, struct buf *out);
int control_replies_list(struct control *c, control_add_fn *add, void *arg);
void control_replies_release(struct control *c);

/* ---- control_remote.c: the pure view of the bucket ----------------------------------------------- */
must_check int control_remote_lookup(
	struct control *c, uint64_t dir_id, const char *name, struct fs_virtual_attr *ret);
must_check int control_remote_attr(struct control *c, uint64_t id, struct fs_virtual_attr *ret);
/* Everything below a folder, as it is listed now; contents are read elsewhere: -EPERM. */
must_check int control_remote_open(struct control *c, uint64_t id, struct control_stream **ret);
int control_remote_list(struct control *c, uint64_t dir_id, control_add_fn *add, void *arg);

/* ---- control_plates.c: each plate as a picture ---------------------------------------------------- */
must_check int control_plates_lookup(
	struct control *c, uint64_t dir_id, const char *name, struct fs_virtual_attr *ret);
must_check int control_plates_attr(struct control *c, uint64_t id, struct fs_virtual_attr *ret);
int control_plates_list(struct control *c, uint64_t dir_id, control_add_fn *add, void *arg);
must_check int control_plates_read(struct control *c, uint64_t id, struct buf *out);

/* ---- control_snapshot.c: one folder as ListObjectsV2 showed it just now ------------------------ */
struct control_shown {
	uint32_t name_at; /* in names */
	bool is_dir;
	uint64_t size_bytes;
	int64_t mtime_ns;
};
struct control_snapshot {
	struct control_snapshot *next; /* in the control's list */
	unsigned refs;
	char *prefix;
	int64_t taken_ms, took_ms; /* clock_mono_ms: begun; how long */
	struct buf names;
	struct control_shown *shown; /* by name */
	size_t count, cap;
	uint64_t unshowable;
};
/* fresh: listed now; else one taken moments ago will do. The caller unrefs it. */
must_check int control_snapshot_get(
	struct control *c, const char *prefix, bool fresh, struct control_snapshot **ret);
void control_snapshot_unref(struct control *c, struct control_snapshot *s);
const struct control_shown *control_snapshot_find(
	const struct control_snapshot *s, const char *name);
const char *control_snapshot_name(
	const struct control_snapshot *s, const struct control_shown *shown);
void control_snapshots_release(struct control *c);

/* ---- control_nodes.c: ids given out for remote/ ------------------------------------------------- */
must_check int control_nodes_create(struct control_nodes **ret);
void control_nodes_destroy(struct control_nodes *n);
/* Remembers key (a folder with its final '/'). The lock is held. */
must_check int control_nodes_put_locked(struct control *c, uint64_t id, const char *key);
/* The key, or false: not known (any more). */
bool control_nodes_key_locked(struct control *c, uint64_t id, char key[KEY_MAX_BYTES + 2]);
void control_nodes_forget_locked(struct control *c, uint64_t id);
