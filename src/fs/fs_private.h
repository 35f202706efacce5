/*
 * fs_private - one request's way through this room, and what its files share.
 *
 * fs_ops.c turns each FUSE request into a struct fs_call and serves it in libfuse's worker: its run
 * function either replies (0), fails (-errno), or says that it must wait (FS_PARK, with c->wait
 * filled in) or that it may block (FS_DISK …). Then the call is copied and kept; it runs again from
 * its start when what it waits for came, when its patience ends or when it is interrupted. So a run
 * function changes nothing before the last place where it may park.
 */
#pragma once

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse3/fuse_lowlevel.h>

#include "fs_table.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define FS_MAX_WRITE_BYTES ((unsigned)MIB)
#define FS_BLOCK_BYTES 4096
#define FS_NAME_VIRTUAL ".cpgfs"

enum fs_run_result {
	FS_DONE = 0, /* replied */
	FS_PARK,     /* wait as c->wait says, then run again */
	FS_DISK,     /* run where it may wait for the disk */
	FS_SLOW,     /* run where it may wait for the bucket */
	FS_ASK, /* likewise, and an interrupt answers at once: fs_call_claim() before replying */
};

/* ---- calls ------------------------------------------------------------------------------------
 */

enum fs_wait_kind { FS_WAIT_LISTING, FS_WAIT_CHUNK, FS_WAIT_ROOM, FS_WAIT_KINDS };

struct fs_wait {
	enum fs_wait_kind kind;
	uint64_t ino, chunk; /* CHUNK */
	uint64_t listing;    /* LISTING: fs_listing_id() */
	int64_t patience_ms; /* from the first time it parked for this kind; 0: without end */
};

struct fs_call {
	struct fs *fs;
	fuse_req_t req; /* NULL in unit tests */
	int (*run)(struct fs_call *c);
	/* arguments, as the request has them */
	uint64_t ino, new_parent;
	const char *name, *new_name;
	const void *data; /* size bytes */
	size_t size;
	off_t off, length;
	struct stat attr;
	int mask; /* to_set, mode of fallocate, whence, flags */
	mode_t mode;
	bool plus, datasync;
	bool has_fi;
	struct fuse_file_info fi;
	/* waiting */
	struct fs_wait wait;
	bool impatient;	  /* waited as long as it may */
	int waited_error; /* how what it waited for ended */
	bool on_slow;	  /* runs where it may block */
	uint32_t uid;	  /* the caller's, for those that do not own the request any more */
	struct fs_stream *stream; /* read from: stays while this is kept, whoever answers */
	unsigned tries;	  /* run again without parking */
	/* fs_park.c */
	bool kept; /* this is a copy that fs_park owns */
	struct fs_call *next, *prev;
	uint64_t news_seen[FS_WAIT_KINDS];
	int64_t deadline_ms, look_again_ms;
	int64_t parked_since_ms[FS_WAIT_KINDS];
	bool parked, interrupted;
	bool asking;		/* FS_ASK: may be answered while it runs */
	bool claimed, answered; /* by the run itself; by an interrupt */
	unsigned users;		/* the run, and who answers */
};

/* Runs a call that lives on the worker's stack; replies, or keeps a copy. */
void fs_call_serve(struct fs_call *c);
/* Replies -error to a call that failed. */
void fs_call_fail(struct fs_call *c, int error);
/* What the kernel is told for an error of a room below. */
int fs_errno(int error);

/* ---- parking (fs_park.c) ------------------------------------------------------------------------
 */

struct fs_park;
must_check int fs_park_create(struct fs_park **ret);
/* What is parked is answered with EINTR, what runs is waited for; later parks are refused. */
void fs_park_stop(struct fs_park *p);
void fs_park_destroy(struct fs_park *p);
/* To be noted before a run looks at what it may wait for, so that no news is lost. */
void fs_park_note_news(struct fs_park *p, struct fs_call *c);
/* Keep a copy of c (or c itself if it is one) as c->wait says. -ENOBUFS: too much is kept already;
 * -EINTR: interrupted or stopping. */
must_check int fs_park_keep(struct fs_park *p, struct fs_call *c);
/* Run a copy of c on the threads that may block: FS_DISK, FS_SLOW, FS_ASK. */
must_check int fs_park_keep_slow(struct fs_park *p, struct fs_call *c, enum fs_run_result where);
/* The right to reply. False: an interrupt was faster, and c->req is gone. */
bool fs_call_claim(struct fs_call *c);
void fs_park_news_listing(struct fs_park *p, uint64_t listing, int error);
void fs_park_news_chunk(struct fs_park *p, uint64_t ino, uint64_t chunk, int error);
void fs_park_news_room(struct fs_park *p);
void fs_park_count(struct fs_park *p, unsigned *ret_parked, unsigned *ret_for_room);

/* ---- the room's state ---------------------------------------------------------------------------
 */

struct fs_notify; /* fs_notify.c */

struct fs_handle;

/* May the kernel write data files by itself (passthrough)? */
enum fs_lending {
	FS_LENDING_OFF,
	FS_LENDING,
	FS_LENDING_CLOSES_SYNC,
	FS_LENDING_NOT_BUILT,
	FS_LENDING_OLD_KERNEL,
	FS_LENDING_DISK,
	FS_LENDING_DENIED,
};

/* How far is it with HANDLE_KILLPRIV_V2, where libfuse leaves it to us? */
enum fs_killpriv {
	FS_KILLPRIV_UNKNOWN, /* the kernel's first request has not come */
	FS_KILLPRIV_OFFERED,
	FS_KILLPRIV_AGREED, /* the answer is to say so */
	FS_KILLPRIV_NOT,    /* to be looked at any more */
};

/* Hashes of prefixes (fs_hidden.c). */
struct fs_hidden {
	uint64_t *slots;
	size_t slot_count, count;
	bool all; /* could not be kept: any folder may be one */
	bool old_trees; /* const while mounted: whole folders went under an earlier mount */
};

#define FS_IMPATIENT_MAX 64

#define FS_REFUSALS_MAX 256
struct fs_refusal {
	char *path, *reason;
};

struct fs {
	/* const after create */
	struct fs_config config;
	char *prefix, *mountpoint, *fsname;
	uint32_t owner_uid, owner_gid;
	double timeout_s;
	int64_t lookup_wait_ms, made_at_ns;
	struct fs_table *table;

	/* const while mounted */
	struct fuse_session *session;
	struct fs_park *park;
	struct fs_notify *notify;
	bool mounted, by_fusermount;
	bool kills_privileges; /* HANDLE_KILLPRIV_V2: the kernel leaves suid and sgid to us */
	_Atomic int killpriv;  /* enum fs_killpriv (fs_killpriv.c) */

	_Atomic int lending, lend_error; /* enum fs_lending; -errno (fs_lend.c) */
	_Atomic uint64_t lent_files;

	/* the end (fs.c) */
	sem_t exit_asked;
	atomic_bool exiting, loop_ended, live, read_only;
	_Atomic int64_t no_room_said_ms; /* 0: never */
	atomic_bool listings_late; /* a lookup waited in vain, and no listing came since */
	pthread_t loop_thread;

	struct lock lock; /* RANK_FS_NODE */
	/* folders whose listing kept a lookup waiting too long (fs_names.c) */
	struct {
		uint64_t listing;
		int64_t until_ms;
	} impatient[FS_IMPATIENT_MAX];		     /* by lock */
	struct fs_hidden hidden;		     /* by lock */
	struct fs_handle *handles;		     /* by lock: the kernel holds them */
	int64_t refusal_said_ms;		     /* by lock; 0: never */
	unsigned refusals_unsaid;		     /* by lock */
	struct fs_refusal refusals[FS_REFUSALS_MAX]; /* by lock: a ring */
	unsigned refusal_count;			     /* by lock: ever */
};

/* fs_fusermount.c: not root's way. The descriptor of the new mount, the caller's to close, or -errno: -ENOENT
 * there is no such program, -EBUSY it ran and has said why it refuses. */
must_check int fs_fusermount_mount(const char *options, const char *mountpoint);
must_check int fs_fusermount_unmount(const char *mountpoint);
/* Unmounts what fd is the descriptor of, unless it is gone already. */
void fs_fusermount_end(const char *mountpoint, int fd);

/* fs_refusals.c */
void fs_refusal_note(struct fs *fs, const char *path, const char *reason);
/* -EPERM, noted: the layout that is enforced calls this path wrong. */
must_check int fs_layout_check(struct fs *fs, const char *path, bool is_folder);
void fs_refusals_release(struct fs *fs);

/* What fi->fh points to begins with this, so that the end of the mount finds all of them. */
struct fs_handle {
	struct fs_handle *next, *prev;
	void (*close)(struct fs *fs, struct fs_handle *h);
};
void fs_handle_add(struct fs *fs, struct fs_handle *h);
void fs_handle_remove(struct fs *fs, struct fs_handle *h);
void fs_handles_close(struct fs *fs);

/* ---- places and names (fs_names.c) ---------------------------------------------------------- */

enum fs_kind { FS_STORE, FS_BUCKET, FS_VIRTUAL };

/*
 * Where an inode number points, looked up afresh for each request. attr is the store's, or made up
 * from the bucket's listing. path (from the mount root) is filled in for BUCKET; for STORE by
 * fs_place_path().
 */
struct fs_place {
	enum fs_kind kind;
	struct store_attr attr;
	struct buf path;
	bool has_path;
	bool imported;	     /* BUCKET: the store has an inode for its chunks */
	uint64_t virtual_id; /* VIRTUAL */
	bool certain;	     /* may the kernel keep it for a while? */
	bool standard;	     /* BUCKET, from fs_lookup: nobody has made it (fs_standard.c) */
	bool in_doubt;	     /* BUCKET: perhaps a shell of what went; what is in it is not known */
};
void fs_place_release(struct fs_place *p);
#define cleanup_place cleanup_with(fs_place_release)

/* -ESTALE: nothing (any more). */
must_check int fs_place_find(struct fs *fs, uint64_t ino, struct fs_place *ret);
must_check int fs_place_find_dir(struct fs *fs, uint64_t ino, struct fs_place *ret); /* -ENOTDIR */
/* The folder with this path ("" = the root), in the store or not. */
must_check int fs_place_find_path(struct fs *fs, const char *path, struct fs_place *ret);
must_check int fs_place_path(struct fs *fs, struct fs_place *p);
/* path of name in dir. */
must_check int fs_child_path(
	struct fs *fs, struct fs_place *dir, const char *name, struct buf *ret);
/* Where the bucket has this folder: "" or "a/b/". -ENAMETOOLONG: nowhere. */
must_check int fs_place_prefix(struct fs *fs, struct fs_place *dir, char prefix[KEY_MAX_BYTES + 2]);

/* Under NAMING_CLEAN: the folder of this one of the store that is cleaned to name, and so stands for the
 * bucket's of that name. */
bool fs_shadow_of(struct fs *fs, uint64_t dir_ino, const char *name, struct store_attr *ret);

enum fs_patience {
	FS_ANSWER_NOW, /* from what is known */
	FS_MAY_WAIT,   /* -EINPROGRESS where a listing has to come first (ret_listing) */
	FS_WAITED,     /* likewise, but what came is taken whatever its age */
};
enum fs_patience fs_patience_of(const struct fs_call *c);
/*
 * One name as the mount shows it: the store's entry, else the bucket's. -ENOENT with *ret_certain.
 * ret is released by the caller on success.
 */
must_check int fs_lookup(struct fs *fs, struct fs_place *dir, const char *name,
	enum fs_patience patience, struct fs_place *ret, bool *ret_certain, uint64_t *ret_listing);
/* Turn an entry of a listing into a place: the store's, if it has the name by now. -ENOENT: it is not
 * shown. -EINPROGRESS as above. */
must_check int fs_place_of_entry(struct fs *fs, struct fs_place *dir, const char *prefix,
	const struct remote_entry *entry, enum fs_patience patience, struct fs_place *ret,
	uint64_t *ret_listing);
/* Is nothing left to show below this prefix of the bucket? 1, 0, -ENODATA: not known,
 * -EINPROGRESS. */
must_check int fs_prefix_is_empty(
	struct fs *fs, const char *prefix, enum fs_patience patience, uint64_t *ret_listing);

/* fs_standard.c: does the gallery want a folder of this name here? Nobody need have made it. */
bool fs_standard_is(struct fs *fs, struct fs_place *dir, const char *name);
/* All of them in dir, which is this prefix of the bucket ("a/b/"). */
void fs_standard_list(struct fs *fs, const struct fs_place *dir, const char *prefix,
	struct layout_standard *ret);

/* fs_hidden.c: something with this key went (or, with a final slash, a folder) that the bucket may
 * still have. */
void fs_hidden_add(struct fs *fs, const char *key);
bool fs_hidden_add_object(struct fs *fs, uint64_t ino); /* false: it has none */
/* Before this is renamed: the next mount has to look for what stays under the old key. */
must_check int fs_hidden_expect(struct fs *fs, struct fs_place *moved);
/* Did anything below this prefix go? */
bool fs_hidden_below(struct fs *fs, const char *prefix);
/* Did it go itself, or a folder that it was in? */
bool fs_hidden_whole(struct fs *fs, const char *prefix);
must_check int fs_hidden_load(struct fs *fs);

uint64_t fs_listing_id(const char *prefix);
bool fs_is_impatient(struct fs *fs, uint64_t listing);
void fs_set_impatient(struct fs *fs, uint64_t listing);
void fs_clear_impatient(struct fs *fs, uint64_t listing);

int64_t fs_lookup_patience_ms(struct fs *fs);
/* Fills c->wait; returns FS_PARK. */
int fs_wait_for_listing(struct fs_call *c, uint64_t listing, int64_t patience_ms);
/* A store call on inode `ino` said -EREMOTE or -EDQUOT: FS_PARK, FS_DONE (try again at once) or
 * what to answer. */
int fs_wait_for_data(struct fs_call *c, int error, uint64_t ino, uint64_t chunk);

/* ---- attributes (fs_attr.c) ----------------------------------------------------------------- */

void fs_stat_fill(struct fs *fs, const struct store_attr *attr, struct stat *ret);
/* Reply with an entry; the table learns of it first. Always FS_DONE. */
int fs_reply_place(struct fs_call *c, const struct fs_place *p);
int fs_entry_fill(struct fs *fs, const struct fs_place *p, struct fuse_entry_param *ret);
void fs_entry_undo(struct fs *fs, const struct fs_place *p);
int fs_reply_attr_of(struct fs_call *c, const struct store_attr *attr, bool certain);
int fs_do_getattr(struct fs_call *c);
int fs_do_setattr(struct fs_call *c);
int fs_do_statfs(struct fs_call *c);
int fs_do_lookup(struct fs_call *c);

/* ---- handles (fs_open.c) -------------------------------------------------------------------- */

/* An open file; fi->fh points to it. */
struct fs_file {
	struct fs_handle handle;
	struct store_file *store; /* NULL: virtual */
	uint64_t store_ino;
	enum fs_way way;
	int backing_id; /* LENT, BESIDE */
	bool writer, is_new;
	atomic_bool was_written, was_flushed;
	atomic_bool changed; /* since its last FLUSH */
	atomic_bool cut_off; /* its last FLUSH said so */
	_Atomic uint64_t cut_off_generation; /* … of this version, or of one before it */
	uint64_t virtual_id;
	struct buf content; /* virtual: the snapshot of its open … */
	struct fs_stream *stream; /* … or what makes it; NULL: the snapshot */
};
static inline struct fs_file *fs_file_of(const struct fs_call *c)
{
	return (struct fs_file *)(uintptr_t)c->fi.fh;
}
must_check int fs_file_open(struct fs *fs, uint64_t store_ino, int flags, struct fs_file **ret);
struct fs_file *fs_file_new(struct fs *fs); /* of nothing yet; NULL: out of memory */
void fs_file_close(struct fs *fs, struct fs_file *f);
void fs_file_reply_flags(const struct fs_file *f, struct fuse_file_info *fi);
int fs_do_open(struct fs_call *c);
int fs_do_create(struct fs_call *c);
int fs_do_flush(struct fs_call *c);
int fs_do_release(struct fs_call *c);

/* ---- data (fs_data.c) ----------------------------------------------------------------------- */

int fs_do_read(struct fs_call *c);
int fs_do_write(struct fs_call *c);
void fs_write_failed(struct fs_call *c); /* what it writes is lost */
int fs_do_fsync(struct fs_call *c);
int fs_do_fallocate(struct fs_call *c);
int fs_do_lseek(struct fs_call *c);
/* Truncate by handle or by path (file NULL). FS_DONE: done, go on. */
int fs_truncate(struct fs_call *c, struct fs_place *p, struct fs_file *file, uint64_t size_bytes);
/* For those who have no handle of which a close comes. If it fails, the version that it began is over. */
int fs_truncate_alone(struct store_file *f, uint64_t size_bytes, uint64_t *ret_chunk);
/* Writing or changing its owner takes suid and sgid away. */
int fs_drop_privileges(struct fs_call *c, uint64_t store_ino, const struct store_attr *attr);
int fs_drop_on_change(struct fs_call *c, struct fs_file *f);

/* ---- lending (fs_lend.c) -------------------------------------------------------------------- */

/* From the kernel's first request: what is agreed on. */
void fs_lend_init(struct fs *fs, struct fuse_conn_info *conn);
void fs_lend_explain(struct fs *fs, char *out, size_t size);
/* A handle that is about to be answered: is it LENT, if it can be. */
void fs_lend(struct fs_call *c, struct fs_file *f);
/* The last handle of a file that was lent is closed. */
void fs_lend_over(struct fs *fs, struct store_file *f, int backing_id);

/* ---- suid and sgid are left to us (fs_killpriv.c) ------------------------------------------- */

#if !defined(FUSE_CAP_HANDLE_KILLPRIV_V2) && FUSE_VERSION >= FUSE_MAKE_VERSION(3, 14)
#define FS_KILLPRIV_BY_HAND
/* After the mount, before the loop. */
void fs_killpriv_attach(struct fs *fs);
/* While the kernel's first request is answered: will they be? */
bool fs_killpriv_agree(struct fs *fs);
/* As read(2) and writev(2); user is the struct fs. */
ssize_t fs_killpriv_read(int fd, void *request, size_t size, void *user);
ssize_t fs_killpriv_writev(int fd, struct iovec *iov, int count, void *user);
#endif

/* ---- changing names (fs_change.c) ----------------------------------------------------------- */

int fs_do_mknod(struct fs_call *c);
int fs_do_mkdir(struct fs_call *c);
int fs_do_unlink(struct fs_call *c);
int fs_do_rmdir(struct fs_call *c);
int fs_do_rename(struct fs_call *c);
int fs_do_refuse_link(struct fs_call *c);
/* Checks that a new name may stand there, makes the folder chain in the store where only the bucket
 * has it, and creates. */
struct fs_make {
	const char *name;
	const char *made_as; /* a name for now, instead; NULL: none */
	enum store_type type;
	uint32_t mode, uid, gid, flags;
};
must_check int fs_make(
	struct fs *fs, struct fs_place *dir, const struct fs_make *what, struct store_attr *ret);
/* The folder is in the store afterwards (*dir is STORE). */
must_check int fs_materialise(struct fs *fs, struct fs_place *dir);

/* ---- objects from elsewhere (fs_foreign.c) -------------------------------------------------- */

/* Makes the store's inode for its chunks. Returns 0 and the inode's number. */
must_check int fs_foreign_import(struct fs *fs, struct fs_place *p, struct store_attr *ret);
/* A complete replacement: an empty file of ours under its name (or one that somebody was faster to put
 * there: *ret_is_new false); asked by its old number from now on. */
must_check int fs_foreign_replace(
	struct fs_call *c, struct fs_place *p, struct store_attr *ret, bool *ret_is_new);
/* That replacement failed before it was one: the object stands again. */
void fs_foreign_unreplace(struct fs_call *c, struct fs_place *p, const struct store_attr *made);
/* A change in place: -EPERM, or (--allow-overwrite) a copy of ours with its content. Blocks on the
 * network: FS_SLOW first. */
int fs_foreign_take_over(struct fs_call *c, struct fs_place *p, struct store_attr *ret);
int fs_foreign_unlink(struct fs_call *c, struct fs_place *p);
/* Renaming or replacing: -EPERM with a line in the log, or -EXDEV where the options allow that mv
 * copies and deletes. -EBUSY: it may be a shell of what went from here (in_doubt). */
int fs_foreign_rename(struct fs_call *c, const char *path, bool in_doubt);
/* Does a folder of the store have objects from elsewhere below it? 1, 0, -EINPROGRESS. */
must_check int fs_foreign_below(
	struct fs *fs, struct fs_place *dir, enum fs_patience patience, uint64_t *ret_listing);

/* ---- listings (fs_list.c) ------------------------------------------------------------------- */

int fs_do_opendir(struct fs_call *c);
int fs_do_readdir(struct fs_call *c);
int fs_do_releasedir(struct fs_call *c);
int fs_do_fsyncdir(struct fs_call *c);

/* ---- extended attributes (fs_xattr.c) ------------------------------------------------------- */

int fs_do_getxattr(struct fs_call *c);
int fs_do_setxattr(struct fs_call *c);
int fs_do_listxattr(struct fs_call *c);
int fs_do_removexattr(struct fs_call *c);

/* ---- .cpgfs (fs_virtual.c) ------------------------------------------------------------------ */

bool fs_virtual_exists(const struct fs *fs);
uint64_t fs_virtual_ino(uint64_t virtual_id);
must_check int fs_virtual_place(
	struct fs *fs, const struct fs_virtual_attr *attr, struct fs_place *ret);
int fs_virtual_lookup(struct fs_call *c, uint64_t dir_id);
int fs_virtual_getattr(struct fs_call *c, struct fs_place *p);
int fs_virtual_setattr(struct fs_call *c, struct fs_place *p);
int fs_virtual_open(struct fs_call *c, struct fs_place *p);
int fs_virtual_read(struct fs_call *c, struct fs_file *f);
int fs_virtual_read_stream(struct fs_call *c); /* c->stream; does not touch the handle */
void fs_stream_ref(struct fs_stream *s); /* NULL is fine */
void fs_stream_unref(struct fs_stream *s);
int fs_virtual_write(struct fs_call *c, struct fs_file *f);
void fs_virtual_wipe(const void *data, size_t len);

/* ---- the rest ------------------------------------------------------------------------------- */

/* fs_writer.c: how the task that closes a file ends. */
enum fs_ending { FS_ENDING_NORMAL, FS_ENDING_ABRUPT, FS_ENDING_KILLED };
/* Judge a line of /proc/PID/stat; *ret_signal for KILLED. */
enum fs_ending fs_writer_judge(const char *stat_line, int *ret_signal);
enum fs_ending fs_writer_ending(pid_t pid, int *ret_signal);

/* fs_notify.c: tell the kernel what changed behind its back. */
must_check int fs_notify_create(struct fs_notify **ret, struct fuse_session *session);
void fs_notify_inode(struct fs_notify *n, uint64_t ino);
/* Waits for a notice under way: requests must still be served, or the mount be gone. */
void fs_notify_stop(struct fs_notify *n);
void fs_notify_destroy(struct fs_notify *n);

/* fs_ops.c */
extern const struct fuse_lowlevel_ops fs_operations;
