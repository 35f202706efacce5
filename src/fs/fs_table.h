/*
 * fs_table - what the kernel knows of things that the store has no name for, and how each open
 *            inode is driven.
 *
 * Most inodes need no entry here: the store knows them by number. A node stands for
 *   - a thing of the bucket (its number is a hash, so its path must be kept while the kernel may
 *     use the number: nlookup),
 *   - a virtual thing under `.cpgfs` (its number stands for the provider's id),
 *   - an inode with open handles (all of them must agree on direct or cached I/O).
 * Find-or-insert, raising nlookup and judging it are one critical section each (RANK_FS_TABLE).
 */
#pragma once

#include "cpgfs/fs.h"

#define FS_INO_VIRTUAL (UINT64_C(1) << 62) /* with STORE_INO_FROM_BUCKET clear */

enum fs_node_kind { FS_NODE_PLAIN, FS_NODE_BUCKET, FS_NODE_VIRTUAL };

/* What is remembered of a node; path is a copy (released with buf_release). */
struct fs_known {
	enum fs_node_kind kind;
	bool is_dir;
	uint64_t size_bytes;
	int64_t mtime_ns;
	uint64_t virtual_id;
	uint64_t alias;	 /* the store file that replaced this object; 0: none */
	struct buf path; /* bucket: from the mount root */
};

struct fs_table;
must_check int fs_table_create(struct fs_table **ret);
void fs_table_destroy(struct fs_table *t);

/* The kernel is about to be told of this thing: one more lookup to forget. Bucket: path, is_dir,
 * size, mtime are taken over; an alias ends (the name shows the object again). -ENOMEM. */
must_check int fs_table_enter(struct fs_table *t, uint64_t ino, const struct fs_known *what);
/* True when the node went; *ret_virtual_id is its id if it was virtual, else 0. */
bool fs_table_forget(struct fs_table *t, uint64_t ino, uint64_t nlookup, uint64_t *ret_virtual_id);
/* -ESTALE: not known. The caller releases ret->path. */
must_check int fs_table_find(struct fs_table *t, uint64_t ino, struct fs_known *ret);
/* From now on everything asked of ino is asked of target. */
void fs_table_set_alias(struct fs_table *t, uint64_t ino, uint64_t target);

/* A handle opens: *ret_direct is how it must be driven, given how the others are. -ENOMEM. */
must_check int fs_table_open(struct fs_table *t, uint64_t ino, bool wants_direct, bool *ret_direct);
void fs_table_close(struct fs_table *t, uint64_t ino, bool direct);

uint64_t fs_table_nodes(struct fs_table *t);
unsigned fs_table_handles(struct fs_table *t);
