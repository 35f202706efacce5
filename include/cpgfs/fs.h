/*
 * fs - the mounted file system: inode table, FUSE operations (op_*), merged namespace, parking.
 *
 * Owns:     the FUSE session and its workers; the table of nodes the kernel knows; parked requests.
 * Threads:  libfuse's workers (10) never wait: what may wait (for a listing, a chunk, room, a
 *           virtual file) is parked and run again by fs's own pool.
 * Locks:    RANK_FS_TABLE, RANK_FS_NODE, RANK_FS_PARK; none is held over fuse_reply_* or another
 *           room's slow call.
 * Errors:   0 or -errno.
 * Tests:    tests/unit/test_fs_*.c, tests/mount/
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 90
#error "fs.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/remote.h"
#include "cpgfs/store.h"
#include "cpgfs/upload.h"
#include "cpgfs/verify.h"

struct fs;

enum fs_view { FS_VIEW_MERGED, FS_VIEW_UPLOADED };

/*
 * The `.cpgfs` folder of the mount root, made by another room. Ids are the provider's own 64-bit
 * numbers (1 = `.cpgfs` itself); the same thing keeps its id while the mount lives. All functions
 * run on fs's pool and may block on the network; uid is the caller's.
 */
struct fs_virtual_attr {
	uint64_t id;
	bool is_dir;
	uint32_t mode; /* permission bits */
	uint64_t size_bytes; /* 0 for generated files: read with direct I/O */
	int64_t mtime_ns;
};
struct fs_virtual {
	void *user;
	int (*lookup)(void *user, uint64_t dir_id, const char *name, struct fs_virtual_attr *ret);
	int (*attr)(void *user, uint64_t id, struct fs_virtual_attr *ret);
	/* Calls add for every entry; add returning non-zero stops. */
	int (*list)(void *user, uint64_t dir_id,
		int (*add)(void *arg, const char *name, const struct fs_virtual_attr *attr), void *arg);
	/* Content is a snapshot made at open (*ret_content, malloc'ed through buf), or, for command
	 * files, what is written is handed over at each write. */
	int (*read_all)(void *user, uint64_t id, uid_t uid, struct buf *ret_content);
	/* Content that is made while it is read: *ret_stream NULL: not this one, read_all has it. Any
	 * offset, several threads. NULL: there are none. */
	int (*stream_open)(void *user, uint64_t id, uid_t uid, void **ret_stream);
	ssize_t (*stream_read)(void *user, void *stream, void *data, size_t len, uint64_t off);
	void (*stream_close)(void *user, void *stream);
	int (*write_all)(void *user, uint64_t id, uid_t uid, const void *data, size_t len);
	/* The kernel no longer refers to this id. */
	void (*forget)(void *user, uint64_t id);
};

struct fs_config {
	struct store *store;
	struct remote *remote;
	struct upload *upload;
	struct verify *verify;
	struct naming_policy naming;
	const struct layout *layout; /* enforced: what it calls wrong is EPERM; NULL: none */
	const struct layout *standard; /* whose standard folders are shown; NULL: none are */
	const char *prefix;         /* mounted prefix */
	const char *mountpoint;
	const char *fsname;         /* shown by mount: "s3://bucket/prefix" */
	enum fs_view view;
	bool read_only;             /* nothing but `.cpgfs` can be changed: EROFS */
	bool allow_other;           /* implies default_permissions */
	bool allow_overwrite, allow_delete;
	bool df_unlimited;
	bool close_syncs;           /* the store was opened with durability_close: closes may block */
	bool passthrough;           /* where kernel, rights and disk allow it */
	int64_t delete_delay_ms;
	int64_t full_timeout_ms;    /* 0: wait for room without end */
	int64_t lookup_wait_ms;     /* longest wait of a lookup for a listing; 0: 2,000 */
	int64_t attr_timeout_ms;    /* kernel caching of attributes and entries; 0: 1,000 */
	struct fs_virtual virtual;  /* `.cpgfs`; lookup NULL: none */
	void (*ending)(void *user); /* fs_exit() was called: who waits for the bucket holds up the end; NULL: nobody */
	void *ending_user;
};

must_check int fs_create(struct fs **ret, const struct fs_config *config);
/* Mount. *ret_message (malloc'ed) on failure is for a person. */
must_check int fs_mount(struct fs *fs, char **ret_message);
/* Serve until unmounted or fs_exit(). Runs in the calling thread plus workers. */
must_check int fs_run(struct fs *fs);
/* From now on nothing new can be changed (EROFS); handles that are open for writing go on. Any
 * thread. */
void fs_set_read_only(struct fs *fs);
/* Ask fs_run to end: async-signal-safe. */
void fs_exit(struct fs *fs);
/* Unmounts if still mounted; answers what is parked with -EINTR/-ESHUTDOWN. */
void fs_unmount(struct fs *fs);
void fs_destroy(struct fs *fs);

/* News: attributes or entries changed behind the kernel's back; room or chunks arrived. Cheap. */
void fs_notice_store(struct fs *fs, const struct store_change *change);
void fs_notice_listed(struct fs *fs, const char *prefix, int error);
void fs_notice_fetched(struct fs *fs, uint64_t ino, uint64_t chunk, int error);
void fs_notice_room(struct fs *fs);

/* What the mount has at this path, or, under NAMING_CLEAN, at what is cleaned to it: a path of the
 * bucket. -ENOENT. */
must_check int fs_resolve(struct fs *fs, const char *path, struct store_attr *ret);

struct fs_status {
	unsigned requests_parked, writers_waiting; /* waiting for room */
	unsigned files_open;
	uint64_t nodes;
	char passthrough[128]; /* "on", or why not */
	uint64_t passthrough_files; /* opened so since the mount */
};
void fs_status(struct fs *fs, struct fs_status *ret);

/* Paths that --naming=refuse or --layout=enforce turned away since the mount, the last 256
 * different ones,
 * oldest first. each runs under a lock: it may only note what it is given. */
typedef void fs_refusal_fn(void *user, const char *path, const char *reason);
void fs_refusals(struct fs *fs, fs_refusal_fn *each, void *user);

/* Make a mount point usable before mounting: a folder, and empty. It is made if only it is missing;
 * a dead mount of ours is cleared (fusermount3 -u). *ret_message on failure. */
must_check int fs_mountpoint_prepare(
	const char *mountpoint, bool *ret_made, char **ret_message);
