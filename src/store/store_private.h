/*
 * store_private - what the files of this room share.
 *
 * The way of every change (store_op.c): under the index lock it is checked, written down as a list of
 * primitive changes, appended to the journal as one record, and only then made in the open LMDB
 * transaction. Replay makes the same primitive changes again; it knows nothing of their meaning.
 */
#pragma once

#include "cpgfs/store.h"

#include <lmdb.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* ---- tables of the index -------------------------------------------------------------------------- */

enum table {
	TABLE_META,        /* name -> value, see store_meta.c */
	TABLE_INODE,       /* ino -> record (store_codec.c) */
	TABLE_DIRENT,      /* parent, name -> ino */
	TABLE_CHUNK,       /* ino, n -> record; none: present, without a CRC */
	TABLE_QUEUE,       /* state, order, ino -> "" */
	TABLE_COUNT,       /* folder ino, slot -> files, bytes */
	TABLE_ATTEMPT,     /* id -> record */
	TABLE_ATTEMPT_KEY, /* hash of key, id -> "" */
	TABLE_OBJECT_KEY,  /* hash of key, ino -> "" */
	TABLE_XATTR,       /* ino, name -> value */
	TABLE_JOB,         /* id -> folder ino, old path */
	TABLE_SETTING,     /* name -> text */
	TABLE_GRAVE,       /* ino without a name -> the path it had */
	TABLE_UNSYNCED,    /* ino -> number of the record since when, flags */
	TABLE_EVICT,       /* enum evict_class, order, ino -> "": what eviction may take */
	TABLE_FOLDER,      /* parent, name -> ino: of TABLE_DIRENT the folders (since format 2) */
	TABLE_COUNT_OF
};

/* In this order. */
enum evict_class { EVICT_VERIFIED, EVICT_UPLOADED, EVICT_GONE /* since format 3 */ };

/* Counter slots: the file states, held by kind, and bytes on this disk. */
enum slot {
	SLOT_HELD_FIRST = FILE_STATE_COUNT,
	SLOT_FOREIGN = SLOT_HELD_FIRST + HELD_KIND_COUNT,
	SLOT_PRESENT,   /* all bytes of present chunks */
	SLOT_EVICTABLE, /* of these, what eviction may take */
	SLOT_COUNT
};

struct bytes {
	const void *data;
	size_t len;
};

/* Index keys are built in place. */
struct ikey {
	uint8_t data[16 + STORE_NAME_MAX + 16];
	size_t len;
};
struct ikey ikey_ino(uint64_t ino);
struct ikey ikey_ino_name(uint64_t ino, const char *name);
struct ikey ikey_chunk(uint64_t ino, uint64_t n);
struct ikey ikey_queue(uint8_t class_or_state, uint64_t order, uint64_t ino);
struct ikey ikey_count(uint64_t ino, uint8_t slot);
struct ikey ikey_hash(const char *object_key, uint64_t id);
struct ikey ikey_text(const char *name);

/* ---- journal ------------------------------------------------------------------------------------- */

struct journal {
	int fd;
	uint64_t epoch;       /* of the records being written now */
	uint64_t next_number; /* of the next record */
	uint64_t offset;      /* where it goes */
	uint64_t room_bytes;  /* preallocated */
	bool broken;          /* an append failed half way and could not be undone */
};
#define JOURNAL_ROOM_BYTES (64 * MIB)
#define JOURNAL_TRIGGER_BYTES (32 * MIB)

must_check int journal_open(struct journal *j, int dir_fd);
void journal_close(struct journal *j);
/* Append one record with the next number. On error nothing was appended. */
must_check int journal_append(struct journal *j, const void *payload, size_t len);
/* The last record, of so many bytes, never was. */
void journal_take_back(struct journal *j, size_t len);
/* The index holds everything up to the last number: start again at the front. */
void journal_restart(struct journal *j);
/* Say that nothing stands at the present offset: else an empty front is damage. */
must_check int journal_void(struct journal *j);
/* Read the unbroken run of records of this epoch beginning with first_number; each gets the payload.
 * Leaves the journal positioned behind the run. */
typedef int journal_each_fn(void *user, uint64_t number, const void *payload, size_t len);
must_check int journal_replay(struct journal *j, uint64_t epoch, uint64_t first_number,
	journal_each_fn *each, void *user, uint64_t *ret_count);
/* Does a whole record of this epoch stand behind the end of the run? Then one before it is damaged. */
must_check int journal_has_later(struct journal *j, bool *ret);
/* What stands at the very front? After journal_replay. */
enum journal_front {
	JOURNAL_FRONT_ELSE,   /* nothing that was ever written there */
	JOURNAL_FRONT_CUT,    /* the next record, cut off, also before the last commits; or an append that was undone */
	JOURNAL_FRONT_RECORD, /* a whole record, of *ret_epoch */
};
must_check int journal_front(const struct journal *j, enum journal_front *ret, uint64_t *ret_epoch);
/* Every whole record from an offset on, wherever it stands and of whatever epoch, in file order.
 * Returns how many reads failed: records that stand there may be left out. -ECANCELED of `each` ends it,
 * and is no error. */
typedef int journal_scan_fn(
	void *user, uint64_t epoch, uint64_t number, const void *payload, size_t len);
must_check int journal_scan(int fd, uint64_t from, journal_scan_fn *each, void *user);
/* The header of a record, for files of the same form. */
#define JOURNAL_HEADER_BYTES 32
void journal_frame(uint8_t header[JOURNAL_HEADER_BYTES], uint64_t epoch, uint64_t number,
	const void *payload, size_t len);
/* Was anything ever written to the journal of this directory? */
bool journal_is_used(int dir_fd);

/* ---- index --------------------------------------------------------------------------------------- */

struct index {
	MDB_env *env;
	MDB_txn *txn; /* always open between calls */
	MDB_dbi dbi[TABLE_COUNT_OF];
	char *path;
	size_t map_bytes;
	unsigned flags; /* beside the usual ones */
	uint64_t commit_pages; /* written by the last commit; 0: not known */
};
must_check int index_open(struct index *x, const char *path);
void index_close(struct index *x); /* drops what was not committed */
must_check int index_begin(struct index *x);
void index_abort(struct index *x);
must_check int index_commit(struct index *x); /* durable; the next begin is the caller's */
must_check int index_grow(struct index *x);
int index_error(int mdb_error); /* LMDB code to -errno; -E2BIG for a full map */
must_check int index_get(struct index *x, enum table t, const struct ikey *k, struct bytes *ret);
must_check int index_put(struct index *x, enum table t, struct bytes key, struct bytes value);
must_check int index_del(struct index *x, enum table t, struct bytes key);

/* Iteration within one call, under the lock: values point into the map until the next change. */
struct index_cursor {
	MDB_cursor *cursor;
	struct bytes key, value;
};
/* First entry with key >= from (strictly after it if `after`). -ENOENT at the end. */
must_check int index_seek(struct index *x, enum table t, const struct ikey *from, bool after,
	struct index_cursor *c);
must_check int index_next(struct index_cursor *c);
void index_done(struct index_cursor *c);
void cleanup_cursor_fn(struct index_cursor *c);
#define cleanup_cursor __attribute__((cleanup(cleanup_cursor_fn)))

/* ---- operations ------------------------------------------------------------------------------------ */

#define OP_CHANGES_MAX 8

enum primitive_kind { PRIMITIVE_PUT = 1, PRIMITIVE_DEL = 2, PRIMITIVE_COUNT = 3 };
struct primitive {
	enum primitive_kind kind;
	enum table table;
	struct bytes key, value;
};

struct op {
	struct buf list;    /* primitive changes, encoded */
	struct buf witness; /* of these: what the witness notes too */
	struct store_change told[OP_CHANGES_MAX];
	size_t told_count;
};

/* Events an operation caused, to be fired when no lock is held. */
struct news {
	struct store_change told[OP_CHANGES_MAX];
	size_t count;
	bool room_freed, growing;
};

/* ---- inodes as stored ------------------------------------------------------------------------------ */

/* Beside the public record. */
struct record {
	struct store_inode i;
	uint64_t present_bytes;  /* of chunks on this disk */
	int64_t since_ns;        /* entered this state */
	uint32_t attempts_open;  /* recorded attempts not yet ended */
};

must_check int record_encode(const struct record *r, struct buf *out);
must_check int record_decode(struct bytes in, uint64_t ino, struct record *ret);

struct chunk_record {
	bool absent, filled, has_crc;
	uint64_t crc64nvme;
	uint64_t part_attempt;
	char part_etag[S3_ETAG_MAX];
};
must_check int chunk_encode(const struct chunk_record *c, struct buf *out);
must_check int chunk_decode(struct bytes in, struct chunk_record *ret);
must_check int attempt_encode(const struct store_attempt *a, struct buf *out);
must_check int attempt_decode(struct bytes in, uint64_t id, struct store_attempt *ret);

/* ---- open files ------------------------------------------------------------------------------------ */

/* When the chunks of a large file being written were changed last (store_stream.c). */
struct chunk_heat {
	int64_t at_ms;      /* 0: not since heat.began_ms */
	uint32_t changes;   /* counts begin and end of each change */
	uint32_t under_way; /* changes between begin and end */
};
struct heat {
	int64_t began_ms;
	size_t cap;
	struct chunk_heat *chunks;
	unsigned unwatched; /* writes under way that began before */
	bool broken;        /* out of memory: nothing is known to be quiet */
};
/* The chunks of one change. */
struct span {
	uint64_t first, last;
	bool watched;
};

struct store_file {
	struct store *store;
	uint64_t ino;
	struct store_file *next; /* index lock: bucket chain */
	unsigned refs;           /* index lock */
	unsigned handles;        /* index lock: store_file_open minus store_file_close */
	struct store_file *growing_next; /* index lock */
	bool is_growing;         /* index lock: in the list of those with heat */
	struct store_file *owing_next; /* index lock */
	bool owes_close;         /* index lock: in the list of those whose close was not recorded, which has a ref */

	struct lock lock;        /* guards what follows; data is written without it */
	struct cond idle;
	int fd;                  /* -1: not opened yet */
	bool dirty;              /* this version is OPEN in the index, changes need no more records */
	bool write_error;        /* bytes of this version may be missing */
	uint64_t lacks_from, lacks_to; /* bytes that a writer was told are not there; equal: none */
	bool flushing;
	unsigned in_flight;      /* writes between their record and their end */
	uint64_t done_bytes;     /* with writes in flight: the size without those not ended yet */
	bool tidy_due;           /* one of them failed: what it left beyond that must go */
	uint64_t changes;        /* how many were begun */
	uint64_t synced_changes; /* as of an fsync that found none under way, and one more; 0: none did */
	bool is_new_data;        /* the data file's name may not be durable */
	uint64_t part_size_bytes;
	uint8_t *recorded;       /* bit per chunk: has a CRC or part record */
	uint8_t *absent;         /* bit per chunk */
	uint64_t absent_count;
	bool has_filled;         /* a chunk was fetched: that alone may be why it is unsynced */
	uint64_t generation;
	struct heat *heat;       /* NULL: not larger than stream_bytes so far */

	uint64_t growth_bytes;   /* counted in space.growth_bytes */
	bool is_sparse;          /* its data file may have holes: writes inside it may need the disk, too */
	unsigned fills;          /* chunks that are being filled, and what their bytes still take */
	uint64_t fill_bytes;
	uint8_t *filling;        /* bit per chunk: its bytes are wanted, and of this version; or NULL */
	unsigned fill_writes;    /* of them under way */
	uint64_t read_chunk;     /* the last one a reader asked for, at read_at_ms (or opened then) */
	int64_t read_at_ms;
	int64_t whole_until_ms;  /* a writer waits until all chunks are here: none may go */
	uint8_t *leaving;        /* bit per chunk: "absent" is recorded, the bytes are about to go; or NULL */
	bool fd_is_lent;         /* store_file_fd: others read past the chunk bits */

	/* the kernel writes it by itself (store_lent.c) */
	struct store_file *lent_next; /* index lock */
	bool lent_changed;       /* by whom it was lent to, which no FLUSH of that handle told yet */
	bool lent_opened;        /* its version is OPEN for what a look found: nobody may close it */
	bool is_mapped;          /* perhaps for writing: changes may leave no mark */
	bool is_stranger, is_orphan; /* the loan ends when nobody has it open; nobody tells how it ended */
	bool too_large, starved; /* S3 takes less; the disk was all but full while it was lent */
	bool is_stranded;        /* STORE_FLAG_STRANDED: not to be changed; fd is read-only */

	_Atomic unsigned writers;    /* handles that may write */
	_Atomic uint64_t size_bytes; /* of the version being written (read without the lock too) */
	_Atomic int64_t mtime_ns;
	_Atomic bool is_dirty_hint;  /* dirty, for readers without the lock */
	_Atomic bool is_lent;        /* set and cleared under the lock; fd stays meanwhile */
	_Atomic unsigned evictions;  /* changes before bytes go: what was read meanwhile may be zeros */
	_Atomic uint32_t mode;       /* as the index has it */
};

/* ---- the store ---------------------------------------------------------------------------------------- */

#define FILE_BUCKETS 4096
#define SUBSCRIBERS_MAX 8

struct space {
	struct lock lock;          /* RANK_STORE_SPACE */
	uint64_t growth_bytes;     /* written since the last FLUSH of each file */
	int64_t fills;             /* chunks that are being fetched: they can be evicted when they are here */
	uint64_t arriving_bytes;   /* of it: taken, but not yet on the disk that statvfs asks */
	uint64_t disk_free_bytes;  /* at statvfs_at_ms, less what was taken since and was arriving then */
	int64_t statvfs_at_ms;
	uint64_t present_bytes;    /* of all records, at present_at_ms */
	uint64_t stuck_bytes;      /* of it, about: what goes only with a person's help */
	int64_t present_at_ms;
	uint64_t given_bytes;      /* ever: growth that went into records, or came to nothing */
	uint64_t present_given_bytes; /* of it: before present_bytes was counted */
	bool writers_wait;
	uint64_t wanted_bytes; /* the most that one of them asked for, of late */
	int64_t wanted_until_ms;
	uint64_t turn_ino; /* 0: nobody's */
	int64_t turn_until_ms;
	bool no_holes; /* the cache's file system punches none */
};

/* The second record of names and checksums (store_witness.c). */
struct witness {
	int fd;             /* -1: it cannot be written */
	uint64_t offset;    /* index lock: where the next goes */
	struct buf pending; /* index lock */
	uint64_t last_number; /* while opening: of what it holds */
	uint64_t committed;   /* while opening: its length at the last checkpoint */
	_Atomic bool stale; /* it lacks something: to be written anew */
	int64_t retry_ms;   /* maintenance thread */
	bool told;          /* likewise: the log says that it cannot be written */
};
#define WITNESS_EPOCH UINT64_MAX

/* Data files whose records are gone, for the maintenance thread. */
struct purges {
	uint64_t *inos;
	size_t count, cap;
};

/* Names that meant something else before a record that is perhaps not on the disk yet (store_former.c). */
struct former_name {
	uint64_t hash; /* 0: none */
	uint64_t number;
};
struct former {
	struct former_name *names;
	size_t count, cap;
	uint64_t last_number; /* of all records that were noted */
	uint64_t all_until;   /* there was no room for all: up to this record every name counts */
};

struct sync_state {
	struct lock lock; /* RANK_STORE_SYNC */
	struct cond done;
	bool running;
	bool unsure; /* a sync of the journal failed, and no commit took what it holds */
	bool flushes; /* a sync of everything is under way */
	uint64_t flushes_begun, last_flushed; /* the number of the last one that succeeded */
	uint64_t synced_number; /* everything up to this record is durable */
};

/* Failures of the cache disk that nothing else puts into the log. */
struct disk_failures {
	unsigned count;
	int error;        /* the last one */
	const char *what; /* constant: what had failed, and what was done instead */
	int64_t tell_at_ms;
};

struct store {
	/* const after open */
	char *dir;
	int dir_fd, lock_fd;
	uint64_t cache_size_bytes, min_free_bytes, part_size_bytes, stream_bytes, lend_room_bytes;
	int64_t settle_ms, flush_ms;
	bool durability_close;
	char boot_id[64];
	uint64_t disk_seq; /* 0: not known */
	struct store_events subscribers[SUBSCRIBERS_MAX];
	size_t subscriber_count;
	struct store_recovery recovery;

	struct lock lock; /* RANK_STORE_INDEX: guards what follows */
	struct index index;
	struct journal journal;
	struct op op;
	int failed; /* -errno: the store takes no more changes */
	int64_t mend_at_ms; /* and not before this it is tried to mend that */
	int64_t commit_again_ms; /* it failed: by itself not before this */
	struct disk_failures disk_failures;
	int64_t suspects_read_ms; /* when a sync had failed: not again soon; 0: never */
	uint64_t suspects_owed; /* syncs that failed since, and that could not be recorded */
	uint64_t next_ino, next_attempt, next_job;
	uint64_t ops_since_commit, ops_until_commit;
	int64_t last_change_ms;
	int64_t flush_due_ms; /* 0: nothing unsynced */
	struct store_file *files[FILE_BUCKETS];
	struct purges purges;
	struct former former;
	struct store_file *growing, *owing, *lent;
	uint64_t lent_count;
	bool lent_noted;
	uint64_t job_count;
	_Atomic uint64_t names; /* changed under the lock */
	_Atomic bool is_evicting, is_purging; /* set with the record that says that bytes are gone, under the lock */

	struct witness witness;
	struct space space;
	struct sync_state sync;

	struct lock wake_lock; /* RANK_STORE_SPACE: maintenance thread's */
	struct cond wake;
	bool stopping, evict_wanted;
	struct thread *maintenance;
};

struct store *store_alloc(const struct store_config *config); /* NULL: out of memory */
void store_free(struct store *s);
/* Waits only for a holder that says it is stopping, or has not said anything yet. */
must_check int store_take_lock(struct store *s, int64_t wait_ms, char **ret_message);
must_check int store_boot_id(const char *given, char out[64]);
/* The kernel's number of this attachment of the disk that holds the cache: another one after it was pulled
 * out and put back, when what was in the page cache is gone. 0: not known (no block device directly below, or
 * a kernel before 5.15). */
uint64_t store_disk_seq(uint64_t given, int dir_fd);
bool store_disk_is_another(uint64_t before, uint64_t now);
/* One line for a person, unless there is one already. */
void store_say(char **ret_message, const char *fmt, ...) printf_like(2, 3);
char *store_quoted(const char *path); /* as a shell needs it */
#define FORMAT_VERSION 4
/* Is it the same address? */
bool identity_is(const char *a, const char *b);
#define META_DISK_SEQ "disk-seq"

/* For the log, which the maintenance thread writes (or the end). Index lock held. */
void disk_note(struct store *s, int error, const char *what);
void disk_tell(struct store *s, bool at_once); /* else at most every 10 s */

/* Index lock with what must happen around it. */
void store_enter(struct store *s);
void store_leave(struct store *s, struct news *news); /* adds the op's events to news */
void news_fire(struct store *s, const struct news *news);

/* ---- building an operation (index lock held) -------------------------------------------------------- */

void op_begin(struct store *s);
/* What is built cannot be known whole: op_commit() says this and changes nothing. */
void op_fail(struct store *s, int error);
void op_put(struct store *s, enum table t, const struct ikey *k, const void *value, size_t len);
void op_del(struct store *s, enum table t, const struct ikey *k);
/* Add to a slot of a folder and all above it. */
void op_count(struct store *s, uint64_t dir_ino, unsigned slot, int64_t files, int64_t bytes);
void op_tell(struct store *s, const struct store_change *change);
/* Journal, then index. 0, or nothing changed. */
must_check int op_commit(struct store *s);
/* One record to the transaction: live and replay. */
must_check int op_apply(struct index *x, const void *list, size_t len);
/* The next primitive of a list; at and left move on. -EUCLEAN. */
must_check int op_list_next(const uint8_t **at, size_t *left, struct primitive *ret);
void op_list_put(struct buf *list, enum table t, struct bytes key, struct bytes value);
/* What this operation leaves in the witness. */
bool op_is_witnessed(enum table t);
void op_witness_put(struct store *s, enum table t, const struct ikey *k, const void *value, size_t len);
void op_witness_del(struct store *s, enum table t, const struct ikey *k);
must_check int meta_get_u64(struct index *x, const char *name, uint64_t *ret);
/* Straight to the transaction: while opening, and as part of a commit. */
must_check int meta_put_u64(struct index *x, const char *name, uint64_t value);
must_check int meta_get_text(struct index *x, const char *name, char *out, size_t size);
void op_meta_u64(struct store *s, const char *name, uint64_t value);

/*
 * From one record of an inode to the next (old NULL: made; new NULL: removed): the record itself, its
 * place in the queues, the counters of its folders, what eviction may take, which key it stands for.
 */
void op_inode(struct store *s, const struct record *old, const struct record *new);
/* A folder's place in TABLE_FOLDER, straight to the transaction (an older cache has none). */
must_check int folder_put(struct index *x, const struct record *r);
/* A GONE file's place in TABLE_EVICT, likewise (before format 3 it had none). */
must_check int gone_put(struct index *x, const struct record *r);
/* Add to a slot of a folder and all above it, likewise. */
must_check int count_apply(
	struct index *x, uint64_t dir_ino, uint8_t slot, int64_t files, int64_t bytes);
void op_chunk(struct store *s, uint64_t ino, uint64_t n, const struct chunk_record *c);
uint64_t evictable_bytes(struct store *s, uint64_t ino); /* takes the index lock; 0: none, or no file */
/* Is its object this very version? Else chunks that say "filled" were changed since, or have no object. */
bool object_has_version(const struct store_inode *i);
void op_unsynced(struct store *s, uint64_t ino);
bool is_unsynced(struct store *s, uint64_t ino);
/* Unsynced, and a sync of it failed: the next one that succeeds proves nothing. */
bool is_suspect(struct store *s, uint64_t ino);
/* Do its bytes on the disk (not in the page cache) equal every chunk's CRC? */
bool reread_matches(struct store *s, uint64_t ino);
/* An entry of this folder came or went: its times. */
void op_touch(struct store *s, uint64_t dir_ino);
/* A folder goes, with what hangs on its number. */
must_check int dir_has_entries(struct store *s, uint64_t ino); /* 1, 0, -errno */
void op_dir_gone(struct store *s, const struct record *dir);
/* Does a request stand that may replace or delete what is under this key? */
must_check int key_is_in_doubt(struct store *s, const char *key);
/* Record a nameless inode that only stands for an object to delete. */
void op_stray(
	struct store *s, const struct store_object *object, int64_t due_at_ns, uint32_t flags);

/* An object of ours was made under this key: what other records said of it is over. */
void op_claims_void(struct store *s, const char *key, uint64_t but_ino);

must_check int record_get(struct store *s, uint64_t ino, struct record *ret);
must_check int chunk_get(struct store *s, uint64_t ino, uint64_t n, struct chunk_record *ret);
must_check int dirent_get(struct store *s, uint64_t dir_ino, const char *name, uint64_t *ret_ino);
must_check int path_get(struct store *s, uint64_t ino, struct buf *out);
/* Was something renamed since store_names() said this? 0: nobody asks. */
bool names_changed(struct store *s, uint64_t names);
#define BROKEN_TRANSFER_REASON "rsync marked it as broken off (time stamp 1970-01-01)"
bool marks_broken_transfer(const struct record *r);
uint64_t order_of(const struct record *r);
int64_t settle_due_ns(struct store *s, const struct record *r);
void record_enter(struct record *r, enum file_state to);
void record_transition(struct record *r, const struct store_transition *t);
/* The record with what an open handle knows better. */
void record_overlay(struct store *s, struct record *r);
must_check int unlink_record(struct store *s, struct record *r, int64_t delete_delay_ms,
	bool *ret_purge);
void op_purge(struct store *s, const struct record *r);
/* The record of it is gone: its bytes follow when a power cut cannot bring the record back. */
void purge_data(struct store *s, uint64_t ino);
/* Inside an operation: from its record on this name means something else, or nothing. */
void former_note(struct store *s, uint64_t parent, const char *name);
/* Likewise: what was to be deleted under this key is done. */
void former_note_key(struct store *s, const char *key);
void former_release(struct store *s);
void purge_now(struct store *s, uint64_t ino);
bool purges_wait(struct store *s);
/* That nothing of it is here is recorded, and on the disk: its bytes may go, if nobody fetches them again
 * meanwhile. */
void unlink_data(struct store *s, uint64_t ino);
/* All that wait; waits for the disk. Not synced: they go on waiting. */
must_check int purge_waiting(struct store *s);

/* ---- the witness -------------------------------------------------------------------------------------- */

/* Before the journal is replayed: open or make it. -EXDEV: it tells of another cache than the index. */
must_check int witness_open(struct store *s, char theirs[], size_t size);
/* A record that is replayed: noted, unless it is there. */
must_check int witness_replay(struct store *s, uint64_t number, const void *list, size_t len);
/* Whose names stand in a witness; returns how many reads failed. -ENOENT: it does not say. */
must_check int witness_identity(int fd, char theirs[], size_t size);
/* After the replay. -EUCLEAN: it knows of more than index and journal do. */
must_check int witness_opened(struct store *s, bool power_cut);
void witness_close(struct store *s);
void witness_note(struct store *s, uint64_t number, const void *list, size_t len);
void witness_flush(struct store *s);        /* maintenance thread, or the only one */
void witness_flush_locked(struct store *s); /* index lock held; at a checkpoint */
void witness_tick(struct store *s);         /* maintenance thread: flush; write it anew if it must be */
#define WITNESS_BYTES_META "witness-bytes"

/* ---- reading what is damaged ------------------------------------------------------------------------- */

struct salvage_report {
	uint64_t entries;   /* read, in all tables */
	uint64_t bad_pages; /* left out, or entries that make no sense */
	bool is_short;      /* the file ends before its last page */
};
typedef int salvage_each_fn(void *user, const char *table, struct bytes key, struct bytes value);
/* All entries of an LMDB file that can be reached (of one table, or NULL: all, and the structure of
 * the rest too). -EUCLEAN: there is nothing to begin with. */
must_check int salvage_index(int fd, const char *only, salvage_each_fn *each, void *user,
	struct salvage_report *ret);

/* ---- open files (store_files.c) ---------------------------------------------------------------------- */

/* Find or make, with a reference. -ENOENT, -EISDIR. */
must_check int file_get(struct store *s, uint64_t ino, struct store_file **ret);
void file_put(struct store_file *f);
struct store_file *file_find_held(struct store *s, uint64_t ino); /* index lock; no reference taken */
bool bit_test(const uint8_t *bits, uint64_t n);
void bit_set(uint8_t *bits, uint64_t n, bool value);
must_check int file_bits_room(struct store_file *f, uint64_t chunks);
/* Open the data file (f->lock held); made if `make`. -ENODATA: it is missing or too short. */
must_check int file_fd(struct store_file *f, bool make);
void data_path(uint64_t ino, char out[64]);
/* First absent chunk of a range (f->lock held). */
bool file_range_present(struct store_file *f, uint64_t off, uint64_t len, uint64_t *ret_chunk);
/* The bytes are not where they should be (f->lock held): LOST, or, when the bucket has the same,
 * absent. Returns -EIO or -EREMOTE. */
int file_mark_lost(struct store_file *f, struct news *news);
uint64_t file_present_bytes(struct store_file *f);
void fills_forget(struct store_file *f); /* f->lock held */
/* Before bytes in [off, off+len) change (f->lock held): the version opens, records of the touched
 * chunks are voided; synced if the version was durable (drops f->lock meanwhile). */
must_check int file_before_change(
	struct store_file *f, uint64_t off, uint64_t len, struct news *news);
void file_wait_idle(struct store_file *f);
static inline void cleanup_file_put_fn(struct store_file **f)
{
	if (*f)
		file_put(*f);
}
#define cleanup_store_file cleanup_with(cleanup_file_put_fn)

uint64_t file_limit(uint64_t part_size_bytes);

/* ---- lent data files (store_lent.c) -------------------------------------------------------------------- */

/* How large it is by now (f->lock held; nothing if it is not lent). */
void lent_look(struct store_file *f);
bool lent_is_marked(const struct stat *st); /* its time says only that nothing was written since */
/* The same, marked: 1: it changed, and is an OPEN version; 0 (f->lock held, is lent). */
must_check int lent_observe(struct store_file *f, struct news *news);
void lent_overlay(struct store_file *f, struct store_attr *attr);
void lent_before_time(struct store *s, uint64_t ino); /* its mtime is to be set */
void lent_tick(struct store *s);   /* maintenance thread */
void lent_forget(struct store *s); /* at the end: what is lent yet is the next start's */
bool lent_is_shared(int fd);       /* does anybody else have it open or mapped? */
/* What is stranded may change from now on, or -ETXTBSY (f->lock held). */
must_check int lent_unstrand(struct store_file *f, struct news *news);
must_check int lent_before_state(struct store *s, uint64_t ino); /* the same, no lock held */
/* It became empty: bytes go to a data file of its own from now on (f->lock held). */
must_check int lent_replace(struct store_file *f);
enum lent_verdict {
	LENT_OVER,    /* nobody has it open for writing */
	LENT_CHANGED, /* likewise, but somebody had, after its close */
	LENT_HELD,    /* somebody has, or it cannot be known */
};
/* closed NULL: no close is to be kept to. */
enum lent_verdict lent_judge(int dir_fd, uint64_t ino, const struct store_attr *closed);
void lent_strand(struct record *r, enum lent_verdict verdict);
/* Size and time as the data file has them; where that cannot be asked, they stay as recorded. */
void lent_learn(int dir_fd, uint64_t ino, struct store_inode *i);
bool lent_ever(struct store *s);
must_check int lent_recover(struct store *s);

/* ---- sending while writing (store_stream.c) ------------------------------------------------------------ */

/* Around every change of bytes in [off, end), under f->lock both, after the records that speak of them
 * are void. */
struct span heat_begin(struct store_file *f, uint64_t off, uint64_t end, struct news *news);
void heat_end(struct store_file *f, struct span span);
void heat_unlist(struct store *s, struct store_file *f); /* index lock */
/* Closes that could not be recorded, again; at the end of the store for the last time. */
void owed_closes(struct store *s, bool last_time);
void heat_free(struct store_file *f);

/* ---- space, sync, eviction --------------------------------------------------------------------------- */

must_check int space_take(
	struct store *s, uint64_t ino, uint64_t file_bytes, uint64_t growth_bytes);
/* ino: whose turn it must be (0: nobody's); stays_ino: what this one has here cannot go meanwhile. */
must_check int space_take_for(struct store *s, uint64_t ino, uint64_t stays_ino, uint64_t file_bytes,
	uint64_t growth_bytes);
bool space_can_hold(struct store *s, uint64_t bytes); /* if all else went */
void space_filling(struct store *s, int64_t fills); /* 1: one begins, -1: it is in its record, or not */
/* Room on the disk for bytes that are counted already: a hole is filled. -EDQUOT, -ENOSPC as above. */
/* Far more room than that, and nobody waits for any? */
bool space_is_ample(struct store *s, uint64_t bytes);
/* What was written without asking. */
void space_grew(struct store *s, uint64_t bytes);
must_check int space_take_hole(struct store *s, uint64_t bytes);
/* Each growth and hole that was taken, once its bytes are written (or will not be). */
void space_arrived(struct store *s, uint64_t growth_bytes);
void space_give(struct store *s, uint64_t ino, uint64_t growth_bytes);
bool room_may_come(struct store *s, uint64_t for_ino); /* without a person; 0: for any */
bool evict_would_lose_nothing(struct store *s, uint64_t ino); /* nobody has it open, and the bucket has it */
/* 1: its bytes here, which are damaged, are gone, and the bucket has it; 0: nothing was done; -errno. */
must_check int evict_damaged(struct store *s, uint64_t ino);
bool evict_deleted_holds_bytes(struct store *s); /* does any file that waits to be deleted? */
uint64_t space_wanted(struct store *s); /* space lock: what a waiting writer asked for, or 0 */
void space_wake(struct store *s);
uint64_t root_slot_bytes(struct store *s, unsigned slot); /* takes the index lock */
must_check int journal_sync(struct store *s, uint64_t upto_number);
uint64_t journal_last(struct store *s); /* takes the index lock */
must_check int checkpoint_locked(struct store *s);
/* How many operations may gather until the next commit, when the last one took so many and wrote so
 * many pages: LMDB keeps the memory of all that one transaction changed, for ever. */
uint64_t checkpoint_ops(uint64_t until_now, uint64_t ops, uint64_t pages);
#define CHECKPOINT_OPS_FIRST 4096
#define CHECKPOINT_OPS_MOST 100000
#define CHECKPOINT_PAGES 4096 /* 16 MiB */
must_check int index_replay(struct store *s); /* after an aborted transaction */
/* Bring an index of an older format up to this one: behind a replay. -E2BIG. */
must_check int index_upgrade(struct index *x);
/* If the index took no records, perhaps it does now. Returns what store.failed says then. */
int store_mend_locked(struct store *s);
/* A sync of it failed. Not recorded: all that is unsynced is suspect then (store.suspects_owed). */
int mark_suspect(struct store *s, uint64_t ino);
must_check int flush_unsynced(struct store *s);
must_check int recover(struct store *s, char **ret_message);
must_check int sync_data_dir(struct store *s, uint64_t ino);
/* CRC64NVME of a range of a file; -ENODATA if the file ends before. */
must_check int crc_of_range(int fd, uint64_t start, uint64_t len, uint64_t *ret);
