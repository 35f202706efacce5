/*
 * store - the local truth: inodes, names, data chunks, states, attempts; journal and index.
 *
 * Owns:     the cache directory: index/ (LMDB), journal, data/<xx>/<inode>, lock, format.
 * States:   tbl/file_states.h; transitions in src/store/store_states.c.
 * Threads:  any, except where a function says that it may wait for the disk (fsync): not under a
 *           lock, not on the S3 loop. One maintenance thread (checkpoint, flush, eviction).
 * Locks:    RANK_STORE_FILE < RANK_STORE_SPACE < RANK_STORE_INDEX < RANK_STORE_SYNC, all inside:
 *           no caller sees them. Events are called with none of them held.
 * Errors:   0 or -errno. By name: -ENOENT, -EEXIST, -ENOTEMPTY, -ENOTDIR, -EISDIR as in POSIX;
 *           -ESTALE the generation, key or state is no longer what the caller said;
 *           -EREMOTE a chunk is not here (fetch it, then call again);
 *           -EDQUOT no room just now (wait for room_freed, then call again);
 *           -ENOSPC no room, and waiting will not help; -EFBIG beyond 10,000 chunks or 5 TiB;
 *           -ETXTBSY a program of an earlier mount still writes into it (STORE_FLAG_STRANDED);
 *           -EIO the cache disk failed, or bytes are not what their record says.
 * Signals:  SIGIO is ignored from the first look at who has a data file open.
 * Durable:  when a call returns 0, its effect survives kill -9 of this process; a power cut only
 *           after store_file_sync() or the flush that follows within 30 s.
 * Tests:    tests/unit/test_store_*.c
 *
 * Generation: every file has one; it rises with the first change after a close. Whoever works on
 * a version (digests, sending, verifying) names the generation, and is told -ESTALE when it passed.
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 50
#error "store.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/base.h"
#include "cpgfs/gallery.h"
#include "cpgfs/s3.h"

struct store;
struct store_file;

#define STORE_ROOT_INO UINT64_C(1)
/* Inode numbers with this bit belong to things first seen in the bucket: a hash of the key (of a
 * prefix with its final '/'), so that they stay the same over mounts without being stored. */
#define STORE_INO_FROM_BUCKET (UINT64_C(1) << 63)
uint64_t store_ino_of_key(const char *key);

#define STORE_NAME_MAX 255

/* ---- states ------------------------------------------------------------------------------------ */

enum file_state {
	FILE_NONE, /* folders, and objects from elsewhere that only have chunks cached here */
#define FILE_STATE(id, name, exit, what, remedy) FILE_##id,
#include "cpgfs/tbl/file_states.h"
#undef FILE_STATE
	FILE_STATE_COUNT
};
const char *file_state_text(enum file_state s);   /* "queued" */
const char *file_state_what(enum file_state s);   /* for people */
const char *file_state_remedy(enum file_state s); /* "" if none */
int file_state_exit(enum file_state s);           /* 0, 2 or 3 */
must_check int file_state_parse(const char *text, enum file_state *ret);
bool file_state_may_follow(enum file_state from, enum file_state to);

enum held_kind { HELD_NOT, HELD_TEMPORARY, HELD_JUNK, HELD_NAME, HELD_KIND_COUNT };

/* ---- records -------------------------------------------------------------------------------------- */

/* The object of ours (or from elsewhere) that an inode stands for in the bucket. key "" = none. */
struct store_object {
	char key[KEY_MAX_BYTES + 1];
	char etag[S3_ETAG_MAX];
	uint64_t size_bytes;
	uint64_t generation;   /* the version of the inode that it holds */
	bool has_crc64nvme;
	uint64_t crc64nvme;    /* of the whole object */
	int64_t uploaded_at_ns;
	int64_t verified_at_ns; /* 0: not yet */
};

enum store_type { STORE_FILE = 1, STORE_DIR = 2 };

#define STORE_FLAG_FOREIGN 0x1u    /* not written here: content is the object's */
#define STORE_FLAG_DURABLE 0x2u    /* this version was synced */
#define STORE_FLAG_BORN_LOCAL 0x4u /* folder made here where the bucket showed no such name */
#define STORE_FLAG_UNLINKED 0x8u   /* no name any more */
#define STORE_FLAG_ACCEPTED 0x10u  /* a person accepted this version as it is (incomplete, torn) */
#define STORE_FLAG_COMPLETE 0x20u  /* last FLUSH said "complete so far" */
#define STORE_FLAG_ADOPTED 0x40u   /* object from elsewhere with our content, taken as ours */
#define STORE_FLAG_REPLACES 0x80u  /* a person said that it replaces what is in_the_way (conflict) */
#define STORE_FLAG_LENT 0x100u     /* the kernel may go on writing into this version by itself */
#define STORE_FLAG_STRANDED 0x200u /* a program of an earlier mount may still write into it */
#define STORE_FLAG_COPY 0x400u     /* until it is closed or synced only a copy of what the bucket has:
				    * the start after a kill removes it */
#define STORE_FLAG_ELSEWHERE 0x800u /* DELETING: no file of ours, an object from elsewhere */
#define STORE_FLAG_UNPROVED 0x1000u /* ACCEPTED, and not read since: its checksums may be of other bytes */

/* What listings and stat need. */
struct store_attr {
	uint64_t ino;
	uint64_t parent;
	enum store_type type;
	uint32_t mode; /* permission bits with type bits */
	uint32_t uid, gid;
	uint64_t size_bytes;
	int64_t mtime_ns, ctime_ns, atime_ns;
	uint64_t generation;
	enum file_state state;
	uint32_t flags;
	bool in_bucket; /* an object holds the current version: link count 2 */
};

/* Everything. */
struct store_inode {
	struct store_attr attr;
	char name[STORE_NAME_MAX + 1];
	enum held_kind held;
	char reason[256];        /* why it is in this state, for people; "" if plain */
	uint64_t part_size_bytes; /* 0 until the first chunk record */
	uint64_t chunk_count;
	int64_t closed_at_ns;    /* 0: never closed */
	int64_t due_at_ns;       /* settle, retry or delete time, by state */
	uint32_t attempts;       /* failed attempts of this version */
	uint32_t rewrites;       /* closes after a settle: settle doubles with each */
	enum file_state state_before; /* of a DELETING file: what undelete restores */
	uint64_t in_the_way;     /* of a conflict: store_in_the_way() of what the bucket had; 0: none */
	struct store_object object;
};

/* ---- life cycle --------------------------------------------------------------------------------- */

struct store_change {
	uint64_t ino, parent;
	enum file_state from, to;
};

struct store_events {
	void *user;
	/* Something changed state, was created, renamed or removed. Any thread, no lock held: must
	 * return soon and may not call back into slow functions. */
	void (*changed)(void *user, const struct store_change *change);
	/* Room was freed: waiting writers may try again. */
	void (*room_freed)(void *user);
	/* A file being written becomes larger than stream_bytes: store_growing() has it from now on. */
	void (*growing)(void *user);
};

struct store_config {
	const char *dir;            /* the cache directory; made with mode 0700 */
	const char *identity;       /* endpoint, bucket and prefix: a cache of another is refused */
	uint64_t cache_size_bytes;  /* 0: no limit but min_free */
	uint64_t min_free_bytes;    /* keep so much free on that disk */
	uint64_t part_size_bytes;   /* P of new files; 0: 8 MiB */
	uint64_t stream_bytes;      /* files being written that are larger may be sent meanwhile; 0: none */
	int64_t settle_ms;          /* 0 allowed */
	int64_t flush_ms;           /* dirty data is synced this long after close; 0: 30,000 */
	bool durability_close;      /* every close is an fsync */
	uint64_t lend_room_bytes;   /* store_file_lend wants so much room, and 1/8 of it for each file that is
				     * lent already; 0: 8 GiB */
	const char *boot_id;        /* NULL: /proc/sys/kernel/random/boot_id */
	uint64_t disk_seq;          /* 0: what the kernel says of the disk below dir */
};

/*
 * Take the lock, open or make the index, replay the journal. Waits up to lock_wait_ms for a holder
 * that is shutting down. On failure *ret_message (malloc'ed) is one line for a person with cause
 * and way out. -EBUSY: locked by another daemon; -EUCLEAN: damaged; -EXDEV: a
 * cache of another bucket; -EPROTO: a newer format.
 */
must_check int store_open(struct store **ret, const struct store_config *config,
	int64_t lock_wait_ms, char **ret_message);
/* Up to 8 subscribers, before store_start. */
void store_subscribe(struct store *s, const struct store_events *events);
must_check int store_start(struct store *s); /* the maintenance thread */
/* Ends that thread: from then on events come only from calls. Before any subscriber goes. */
void store_stop(struct store *s);
/* Say in the lock that this daemon is on its way out, so that the next mount waits for it. */
void store_mark_stopping(struct store *s);
/* Say there with which exit code of `cpgfs wait` it ended: "ended-CODE PID". */
void store_mark_ended(struct store *s, int exit_code);
/* Checkpoints, lets go of the lock. All files must be released. */
void store_close(struct store *s);

/* What recovery found: for the log and status. */
struct store_recovery {
	bool was_unclean, power_cut;
	bool same_boot; /* as the run before: its programs may still be there */
	uint64_t replayed_records, torn_files, incomplete_files, lost_files, orphan_data_files;
};
void store_recovery_report(struct store *s, struct store_recovery *ret);

/* Commit the index and start the journal afresh (tests, unmount). May wait for the disk. */
must_check int store_checkpoint(struct store *s);
/* Sync everything closed so far (one syncfs, one record). May wait for the disk. */
must_check int store_flush_all(struct store *s);
/* A mark: the last record made so far. store_sync_to: everything up to it survives a power cut (0 at
 * once if it does already); may wait for the disk. What takes something out of the bucket, or replaces
 * it, has to wait for the record that says why: else after a power cut the older record says that it is
 * there. */
uint64_t store_mark(struct store *s);
must_check int store_sync_to(struct store *s, uint64_t mark);
/* May a power cut bring back another version of this file, or another file or folder that had its name, or
 * that of a folder above it, or the delete of an object that its key had? What is sent under that name would
 * meet that one then: store_make_durable() and store_sync_to() first. */
bool store_was_other(struct store *s, uint64_t ino, const char *key);

/* ---- names ---------------------------------------------------------------------------------------- */

must_check int store_lookup(
	struct store *s, uint64_t dir_ino, const char *name, struct store_attr *ret);
must_check int store_attr(struct store *s, uint64_t ino, struct store_attr *ret);
must_check int store_inode(struct store *s, uint64_t ino, struct store_inode *ret);

struct store_entry {
	char name[STORE_NAME_MAX + 1];
	struct store_attr attr;
};
/* Up to max entries whose names sort (bytewise) after `after` ("" = from the start). Returns how
 * many (0 = end). */
must_check int store_readdir(struct store *s, uint64_t dir_ino, const char *after,
	struct store_entry *out, size_t max);

/* The same of the folders in it only: does not look at its files, however many these are. */
must_check int store_readdir_folders(struct store *s, uint64_t dir_ino, const char *after,
	struct store_entry *out, size_t max);

/* Path of an inode from the mount root, "a/b/c" ("" for the root), as the user sees it. For an
 * unlinked one: where it was. -ENOENT. */
must_check int store_path(struct store *s, uint64_t ino, struct buf *out);
must_check int store_resolve(struct store *s, const char *path, struct store_attr *ret);
/* Changes whenever something gets another path; never 0. Read it before a path: a record that is right
 * only while the path is names it (store_transition.names, store_attempt_end), and is refused with
 * -EAGAIN when something was renamed since: the path is to be read again. Takes no lock. */
uint64_t store_names(struct store *s);

struct store_create {
	uint64_t parent;
	const char *name;
	enum store_type type;
	uint32_t mode; /* permission bits */
	uint32_t uid, gid;
	uint64_t ino;  /* 0: the next number; else one from store_ino_of_key (a folder that the bucket has) */
	uint32_t flags; /* STORE_FLAG_BORN_LOCAL, … */
	int64_t shown_ns; /* not 0: a folder that listings had already, with this time: it keeps that, and its
			     parent's times stay (rsync sets only a time that differs in its seconds) */
};
/* A file starts in state OPEN (an mknod'ed one is closed by store_file_flush). -EEXIST. */
must_check int store_create(
	struct store *s, const struct store_create *what, struct store_attr *ret);

/* Remember an object from elsewhere so that its chunks can be cached: an inode without a name,
 * state NONE, all chunks absent, number store_ino_of_key(object->key). Called again with another
 * ETag it drops the cached chunks (-EBUSY while open; may wait for the disk). */
must_check int store_import(
	struct store *s, const struct store_object *object, struct store_attr *ret);

#define STORE_SET_MODE 1u
#define STORE_SET_UID 2u
#define STORE_SET_GID 4u
#define STORE_SET_MTIME 8u
#define STORE_SET_ATIME 16u
/* Not sizes: see store_file_truncate. Never raises the generation; a changed mtime of a file that
 * is in the bucket is kept here only. An mtime of second 0 of 1970 on a file marks its version
 * INCOMPLETE (how rsync marks a broken transfer). */
must_check int store_setattr(struct store *s, uint64_t ino, uint32_t mask,
	const struct store_attr *values, struct store_attr *ret);

/*
 * Unlink: never in the bucket and no attempt under way: gone when the last handle closes. Otherwise
 * it becomes DELETING, due after delete_delay_ms.
 */
must_check int store_unlink(
	struct store *s, uint64_t dir_ino, const char *name, int64_t delete_delay_ms);
must_check int store_rmdir(struct store *s, uint64_t dir_ino, const char *name);

#define STORE_RENAME_NOREPLACE 1u
/*
 * One record, whatever lies below. A file that waits (CLOSED … QUEUED, HELD, FAILED) is CLOSED
 * again with a fresh settle; one in the bucket becomes MOVING; one being sent stays SENDING (its
 * attempt will find another key). A replaced file is unlinked as above, without delay if it was
 * never in the bucket. A folder with anything held, sent or in flight below opens a re-key job.
 */
must_check int store_rename(struct store *s, uint64_t old_dir, const char *old_name,
	uint64_t new_dir, const char *new_name, unsigned flags, int64_t delete_delay_ms);

must_check int store_xattr_set(struct store *s, uint64_t ino, const char *name, const void *value,
	size_t len, int flags); /* XATTR_CREATE, XATTR_REPLACE */
/* Returns the length; size 0 asks for it. -ENODATA, -ERANGE. */
must_check ssize_t store_xattr_get(
	struct store *s, uint64_t ino, const char *name, void *value, size_t size);
must_check ssize_t store_xattr_list(struct store *s, uint64_t ino, char *list, size_t size);
must_check int store_xattr_remove(struct store *s, uint64_t ino, const char *name);

/* ---- data: one struct store_file per open inode, shared by its handles -------------------------- */

must_check int store_file_open(struct store *s, uint64_t ino, struct store_file **ret);
void store_file_close(struct store_file *f); /* one per open; the last frees unlinked data */
/* A handle that may write comes and goes; the last one going starts settle. */
void store_file_writer_add(struct store_file *f);
void store_file_writer_drop(struct store_file *f);

/* Bytes read (0 at the end), or -EREMOTE with *ret_chunk. Holes are zeros. */
must_check ssize_t store_file_read(
	struct store_file *f, void *data, size_t len, uint64_t off, uint64_t *ret_chunk);
/* All of it or an error. -EREMOTE (*ret_chunk): absent chunks must be fetched before the first
 * change. append: at the end whatever off says. */
must_check int store_file_write(struct store_file *f, const void *data, size_t len, uint64_t off,
	bool append, uint64_t *ret_chunk);
must_check int store_file_truncate(struct store_file *f, uint64_t size_bytes, uint64_t *ret_chunk);
/* FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE|KEEP_SIZE, FALLOC_FL_ZERO_RANGE or 0; -EOPNOTSUPP. */
must_check int store_file_fallocate(
	struct store_file *f, int mode, uint64_t off, uint64_t len, uint64_t *ret_chunk);
/*
 * FLUSH: if this version was changed, record size, mtime and complete (or why not: cut_off) and
 * make it CLOSED (or INCOMPLETE). Nothing changed: nothing happens. With durability_close it syncs.
 */
must_check int store_file_flush(struct store_file *f, bool cut_off, const char *reason);
/* A writer of this version was cut off after another's FLUSH had closed it: CLOSED becomes INCOMPLETE. */
must_check int store_file_cut_off(struct store_file *f, const char *reason);
/* It was not the end of the writer: INCOMPLETE becomes CLOSED, if this version (generation) has no other
 * flaw and nobody changed it since. */
must_check int store_file_cut_off_undo(struct store_file *f, uint64_t generation);
/* The writer was told an error that this room does not know of (it gave up waiting for room): this
 * version lacks bytes, and its FLUSH makes it INCOMPLETE. */
void store_file_write_failed(struct store_file *f);
must_check int store_file_sync(struct store_file *f, bool data_only); /* waits for the disk */
/* The same of a closed file by number, if it was not synced since its bytes came (0 at once): before the
 * last other copy of them goes. */
must_check int store_make_durable(struct store *s, uint64_t ino);
/* Current attributes, with the size of the version being written. */
void store_file_attr(struct store_file *f, struct store_attr *ret);
uint32_t store_file_mode(struct store_file *f); /* takes no lock */
int64_t store_file_seek(struct store_file *f, uint64_t off, int whence); /* SEEK_DATA, SEEK_HOLE */
/* The data file's descriptor, for replies without a copy; valid while f is open. Present ranges
 * only: ask store_file_has first. */
int store_file_fd(struct store_file *f);
/* Is [off, off+len) here (or beyond the end)? Else *ret_chunk is the first absent one. */
bool store_file_has(struct store_file *f, uint64_t off, uint64_t len, uint64_t *ret_chunk);

/* ---- a data file that the kernel writes by itself (FUSE passthrough) ------------------------------- */

/* Can the cache's disk tell who has a file open, and when it was written? 0, or why not. */
must_check int store_lend_possible(struct store *s);
/* Lend the data file of an OPEN version without bytes, which has just this handle: *ret_fd, read-only,
 * is what the kernel is given. Whatever is written from then on is looked for in the data file.
 * -EAGAIN: not this one, or there is not ample room. */
must_check int store_file_lend(struct store_file *f, int *ret_fd);
/* Another handle on a lent file: it may map the data file itself. */
void store_file_share(struct store_file *f, bool may_write);
/* Was anything written to a lent file since the last call? 1, 0. What is new is a version that is
 * OPEN. Its flush says -EFBIG if it became larger than S3 takes, and -ENOSPC if the disk was so full
 * meanwhile that a program that does not care for errors may have left something out. */
must_check int store_file_look(struct store_file *f);
/* The loan ends: the kernel closed all handles on it (or, if not all_closed, the mount is gone and
 * nobody knows: the file is watched until no program has it open). */
void store_file_take_back(struct store_file *f, bool all_closed);

/* ---- chunks ----------------------------------------------------------------------------------------- */

#define STORE_CHUNKS_MAX 10000
/* Chunk n has part_size << (n / 1000) bytes, at most 5 GiB; these are pure. */
uint64_t chunk_size(uint64_t part_size_bytes, uint64_t n);
uint64_t chunk_start(uint64_t part_size_bytes, uint64_t n);
uint64_t chunk_of(uint64_t part_size_bytes, uint64_t off);
uint64_t chunk_count_of(uint64_t part_size_bytes, uint64_t size_bytes); /* 0 for size 0 */

struct store_chunk {
	uint64_t number;
	uint64_t start, len;  /* of the current size */
	bool present;
	bool has_crc64nvme;
	uint64_t crc64nvme;
	uint64_t part_attempt; /* attempt whose upload holds this chunk as a part; 0: none */
	char part_etag[S3_ETAG_MAX];
};
must_check int store_chunk(struct store *s, uint64_t ino, uint64_t n, struct store_chunk *ret);

/* Fill an absent chunk (single flight is the caller's): write its bytes, then end. ok = false or a
 * change in between leaves it absent. May wait for room (-EDQUOT) like a write. */
must_check int store_chunk_fill_begin(struct store_file *f, uint64_t n);
must_check int store_chunk_fill_write(
	struct store_file *f, uint64_t n, uint64_t off_in_chunk, const void *data, size_t len);
must_check int store_chunk_fill_end(struct store_file *f, uint64_t n, bool ok);

/* ---- a file that is sent while it is written ------------------------------------------------------- */

/* Files being written that are, or were since they are open, larger than stream_bytes, by number above
 * after_ino; from memory. Returns how many. */
size_t store_growing(struct store *s, uint64_t after_ino, uint64_t *out, size_t max);

/* Of one chunk that lies wholly below the present end: */
#define STORE_CHUNK_RECORDED 1u /* a CRC of its bytes stands, and is void before they change */
#define STORE_CHUNK_QUIET 2u    /* nothing was written to it for quiet_ms, nothing is being written */
/* How they stand, by number; returns how many lie wholly below the end, at most max. *ret_due_ms: the
 * monotonic time when the next one becomes quiet (INT64_MAX: none). All 0 for a file that is not
 * watched (not larger than stream_bytes since it is open). */
size_t store_stream_look(
	struct store_file *f, int64_t quiet_ms, uint8_t *out, size_t max, int64_t *ret_due_ms);
/* Before the chunk is read for its CRC: it is whole, quiet and has no hole (which would be filled
 * later); *ret_mark changes with every change of it. -EAGAIN: not now. */
must_check int store_stream_begin(
	struct store_file *f, uint64_t n, int64_t quiet_ms, uint32_t *ret_mark);
/* After it was read: its CRC is recorded if nothing was written to it since. -ESTALE: something was;
 * -EIO: a record of it stood, and the bytes are others: the disk's or a stranger's doing. */
must_check int store_stream_digested(
	struct store_file *f, uint64_t n, uint32_t mark, uint64_t crc64nvme);
/* An own read-only descriptor, whatever the file's state. */
must_check int store_stream_open(struct store_file *f, int *ret_fd);

/* ---- a version on its way --------------------------------------------------------------------------- */

/* An own read-only descriptor of a version's bytes, for hashing and sending. -ESTALE; -EREMOTE if
 * chunks are absent; -ENODATA: the data file is missing or shorter than its record says (the file
 * becomes LOST). The bytes may still be changed by writers: check store_version_is afterwards. */
must_check int store_version_open(struct store *s, uint64_t ino, uint64_t generation, int *ret_fd);
bool store_version_is(struct store *s, uint64_t ino, uint64_t generation);
/* Has the disk said that it took a file's bytes? What it refuses, the kernel drops from memory sooner or
 * later, and reads old bytes or zeros instead. Any thread. */
enum store_synced {
	STORE_SYNCED,
	STORE_UNSYNCED, /* it was not asked since they were written, or this cannot be told now */
	STORE_SUSPECT,	/* it said no: only what is in memory, or has a checksum, is known to be right */
};
enum store_synced store_synced(struct store *s, uint64_t ino);
/* Does any handle that may write stand open? */
bool store_has_writers(struct store *s, uint64_t ino);

/* The chunk digests of a version, all of them, with the state it goes to (SETTLED -> QUEUED, or
 * UPLOADED when the object proves to hold the same). crcs in chunk order. -ESTALE. */
must_check int store_version_digested(struct store *s, uint64_t ino, uint64_t generation,
	const uint64_t *crcs, size_t count, enum file_state to, const char *reason);

/*
 * Change the state of a version: only if it has this generation and is in `from` (-ESTALE), and
 * only along the table (check()). due_at_ns 0 = now. reason NULL keeps, "" clears. names 0: it does
 * not depend on the file's path; else -EAGAIN, see store_names().
 */
struct store_transition {
	uint64_t ino, generation;
	enum file_state from, to;
	enum held_kind held;
	uint64_t in_the_way; /* to CONFLICT: with what */
	const char *reason;
	int64_t due_at_ns;
	bool count_attempt; /* attempts + 1; else, on leaving for UPLOADED or CLOSED: 0 */
	uint64_t names;
	uint32_t flags; /* STORE_FLAG_ACCEPTED, STORE_FLAG_REPLACES: set as well */
};
must_check int store_state_set(struct store *s, const struct store_transition *t);
/* A number for an object under its key, so that leave to replace it is none for another; never 0. */
uint64_t store_in_the_way(const char *key, const char *etag);
/* The object of a version as now known, with the state that follows (UPLOADED, VERIFIED, GONE …);
 * adopting sets STORE_FLAG_ADOPTED. An earlier object of this inode under another key becomes a
 * stray to delete. -ESTALE. */
must_check int store_object_set(struct store *s, const struct store_transition *t,
	const struct store_object *object, bool adopted);

/* ---- the queues: files by state, in order ------------------------------------------------------- */

/* Order within a state: QUEUED by close time, CLOSED/DELETING/FAILED by due time, VERIFIED by
 * verification time, others by entry. */
struct store_queue_item {
	uint64_t ino;
	uint64_t order; /* due or close time in ns, or a sequence */
};
/* Items after `after` (NULL: from the start). Returns how many (0 = none). */
must_check int store_queue(struct store *s, enum file_state state,
	const struct store_queue_item *after, struct store_queue_item *out, size_t max);

struct store_counts {
	uint64_t files[FILE_STATE_COUNT];
	uint64_t bytes[FILE_STATE_COUNT];
	uint64_t held[HELD_KIND_COUNT]; /* HELD by kind */
	uint64_t foreign_files;
};
/* Of everything at or below an inode (STORE_ROOT_INO: all, DELETING included). O(states). */
must_check int store_counts(struct store *s, uint64_t ino, struct store_counts *ret);

/* ---- attempts: every request that changes the bucket, recorded before its first byte ----------- */

enum attempt_kind { ATTEMPT_PUT = 1, ATTEMPT_MULTIPART, ATTEMPT_COPY, ATTEMPT_DELETE };
enum attempt_phase {
	ATTEMPT_OPEN = 1,   /* recorded; perhaps sent */
	ATTEMPT_COMPLETING, /* multipart: Complete recorded; perhaps sent */
	ATTEMPT_DOUBTFUL,   /* sent, no answer: the bucket must be asked */
	ATTEMPT_ABORTING,   /* multipart: to be aborted */
	ATTEMPT_STREAMING,  /* multipart: takes parts while the file is written; no version's yet */
	ATTEMPT_KEPT,       /* the same, of a file whose writer was cut off; since begun_at_ns */
};
struct store_attempt {
	uint64_t id;          /* given by store_attempt_begin */
	uint64_t ino, generation;
	enum attempt_kind kind;
	enum attempt_phase phase;
	char key[KEY_MAX_BYTES + 1];
	uint64_t size_bytes;
	bool has_crc64nvme;
	uint64_t crc64nvme;   /* of the whole content */
	bool has_md5;
	char md5[33];         /* hex, when it was computed on the way */
	bool if_none_match;
	char if_match[S3_ETAG_MAX];
	char upload_id[S3_UPLOAD_ID_MAX];
	char source_key[KEY_MAX_BYTES + 1]; /* COPY */
	int64_t begun_at_ns;
	uint64_t names; /* not kept; 0, or as of when the key was its own and free: -EAGAIN, see store_names() */
};
/* Record it; the file goes from `from` to SENDING (PUT, MULTIPART), or keeps its state (from =
 * FILE_NONE). -ESTALE. */
must_check int store_attempt_begin(struct store *s, struct store_attempt *a, enum file_state from);
/* A multipart attempt that took parts while the file was written (STREAMING, KEPT) is now that of a
 * version: it becomes *a, and the file goes from `from` to SENDING, in one record. -ESTALE. */
must_check int store_attempt_take(
	struct store *s, const struct store_attempt *a, enum file_state from);
/* Change phase, upload_id, md5 or crc of a recorded attempt. A new upload_id has to be on the disk
 * (store_sync_to) before anything is sent for it: nobody may list the open uploads at the gallery. */
must_check int store_attempt_update(struct store *s, const struct store_attempt *a);
/* A part of a multipart attempt arrived (voided by any change of that chunk). */
must_check int store_attempt_part(struct store *s, uint64_t attempt_id, uint64_t chunk,
	uint64_t crc64nvme, const char *etag);
/*
 * The outcome is known, in one record: the attempt goes; the transition (NULL: none) and the object
 * (NULL: none) come. With an object whose generation or key is not the inode's any more
 * (-ESTALE inside, not returned): the attempt goes and *object is recorded as a stray of ours to be
 * deleted or replaced; what files deleted here had under its key is replaced: nothing is left to delete
 * of them; a version that only got another key meanwhile is QUEUED again (from SENDING or
 * UNKNOWN); *ret_applied says false. current_key is that of names (0: unasked; else -EAGAIN, nothing
 * changed, see store_names()).
 */
must_check int store_attempt_end(struct store *s, uint64_t attempt_id,
	const struct store_transition *t, const struct store_object *object, const char *current_key,
	uint64_t names, bool *ret_applied);
/* Attempts of a key / an inode / all, oldest first; after_id pages. Returns how many. */
must_check int store_attempts_of_key(
	struct store *s, const char *key, struct store_attempt *out, size_t max);
must_check int store_attempts(
	struct store *s, uint64_t after_id, struct store_attempt *out, size_t max);

/* ---- what the bucket holds of ours ----------------------------------------------------------------- */

/* Inodes whose object has this key (the live one, one DELETING, strays …), with their state.
 * Returns how many. */
must_check int store_inodes_of_key(
	struct store *s, const char *key, struct store_inode *out, size_t max);
/* Is an object with this key ours: that of a file here, or one that is being made, deleted or moved
 * away? Listings show it as that file, under the name that this has now, or not at all. 1, 0, or an error: it
 * is not known. */
must_check int store_key_is_ours(struct store *s, const char *key);
/* An object from elsewhere is to be deleted when due; store_forget() takes that back. */
must_check int store_stray_add(
	struct store *s, const struct store_object *object, int64_t due_at_ns);
/* A DELETING inode is done (object deleted, replaced or vanished): forget it and its data. */
must_check int store_forget(struct store *s, uint64_t ino);
/* Take a delete back: the name and the state before. Where its object may be gone (a request stands
 * that deletes or replaces it) or is, it is to be sent again; if its bytes are not all here, -EBUSY or
 * -ENODATA. -EEXIST if the name is taken, -ENOTDIR or -ENOENT if its folder is gone (made again if it
 * was one of ours). key: that of its path; an object under another one has to follow (its folder had been
 * renamed right before). NULL: it is not. */
must_check int store_undelete(struct store *s, uint64_t ino, const char *key);
/* Drop the local version for good (`cpgfs discard`): the inode and its data go, the object stays.
 * -ESTALE: it is another version, or in another state. */
must_check int store_discard(
	struct store *s, uint64_t ino, uint64_t generation, enum file_state state);
/* Subtree walk for re-key jobs and commands: files below dir in (folder, name) order, resumed by
 * cursor (zero-initialised; plain data). Returns how many. */
struct store_walk {
	uint64_t stack[64];
	uint64_t name_crcs[64]; /* under which name each was entered */
	char after[STORE_NAME_MAX + 1];
	unsigned depth;
	bool started;
	bool passed_damage;
};
/* An error comes with no file: those before it came with the call before, and the same place is tried
 * again. But with -EUCLEAN and cursor->passed_damage the record of one entry is damaged or missing, and
 * the next call goes on behind it (and what is below it). */
must_check int store_walk_next(struct store *s, uint64_t top_ino, struct store_walk *cursor,
	uint64_t *out_inos, size_t max);
/* The path of what the cursor stands behind. */
must_check int store_walk_path(struct store *s, const struct store_walk *cursor, struct buf *out);

struct store_job {
	uint64_t id;
	uint64_t dir_ino;
	char old_prefix[KEY_MAX_BYTES + 1]; /* path of the folder before, without trailing slash */
};
must_check int store_jobs(struct store *s, struct store_job *out, size_t max);
must_check int store_job_end(struct store *s, uint64_t id);

/* ---- space ------------------------------------------------------------------------------------------- */

struct store_space {
	uint64_t size_bytes;    /* what the buffer may hold now: --cache-size and --min-free together */
	uint64_t used_bytes;    /* chunks present */
	uint64_t pending_bytes; /* of these: not (yet) safe in the bucket */
	uint64_t evictable_bytes;
	uint64_t growing_bytes; /* of these: what open files grew by since their last FLUSH */
	uint64_t disk_free_bytes;
	uint64_t cache_size_bytes, min_free_bytes; /* as set; 0: no limit */
	uint64_t index_bytes, journal_bytes;
};
void store_space(struct store *s, struct store_space *ret);
/* Evict until `bytes` are free or nothing can go. May wait for the disk. */
must_check int store_evict(struct store *s, uint64_t bytes);

/* ---- settings: small values of other rooms, in the index --------------------------------------- */
must_check int store_setting_set(
	struct store *s, const char *name, const char *value); /* NULL: none */
must_check int store_setting_get(struct store *s, const char *name, char *out, size_t size);
/* The one that follows `name` ("": the first) among those whose names begin with `prefix`: its name
 * and its value. -ENOENT: there is none. -ERANGE. */
must_check int store_setting_next(
	struct store *s, const char *prefix, char name[STORE_NAME_MAX + 1], char *out, size_t size);

/* ---- repair ------------------------------------------------------------------------------------------ */

struct store_repair_config {
	const char *dir;
	const char *identity; /* NULL: what the cache says of itself */
	bool dry_run;         /* look and say; change nothing in the directory but its lock */
	const char *boot_id;  /* NULL: this machine's */
	uint64_t disk_seq;    /* as in store_config */
	/* One thing that a person should know of: a file (its path) and what became of it. NULL: none. */
	void (*note)(void *user, const char *path, const char *what);
	void *user;
};
struct store_repair_report {
	bool was_damaged;         /* the index was made anew (dry run: would be) */
	char damage[256];         /* what was found, for people */
	char identity[KEY_MAX_BYTES + 1024];
	uint64_t folders, files;  /* in the new index */
	uint64_t to_check;        /* files that wait to be compared with their checksums, then uploaded */
	uint64_t in_bucket_only;  /* evicted ones: a listing shows whether the bucket has them */
	uint64_t as_before;       /* held by name, failed, in conflict, incomplete, torn as they were */
	uint64_t set_aside;       /* junk, temporary names, gone: as they were, and need nobody */
	uint64_t incomplete, torn, lost; /* by this repair */
	uint64_t deletes_dropped; /* objects whose deletion was due: they stay in the bucket */
	uint64_t orphans, orphan_bytes;
	char orphans_dir[4096];   /* "" if none */
	char kept_index[4096];    /* where the damaged one is now; "" if it was sound */
};
/*
 * Make the index of a cache directory anew from what can still be read of it, of its journal, of its
 * witness, and from the data files. Data files that belong to no file are moved to orphans/DATE, with a
 * list; nothing is deleted. Waits for the disk. Unless 0, *ret_message is one line with cause and way
 * out. -EBUSY: a daemon holds it; -ENOENT: no cache is there; -EXDEV: of another bucket; -EPROTO: a
 * newer format; -EINVAL: nothing says what bucket it belongs to: config->identity must.
 */
must_check int store_repair(const struct store_repair_config *config,
	struct store_repair_report *ret, char **ret_message);
