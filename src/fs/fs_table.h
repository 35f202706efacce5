/*
 * fs_table - what the kernel knows of things that the store has no name for, and how each open
 *            inode is driven.
 *
 * Most inodes need no entry here: the store knows them by number. A node stands for
 *   - a thing of the bucket (its number is a hash, so its path must be kept while the kernel may
 *     use the number: nlookup),
 *   - a virtual thing under `.cpgfs` (its number stands for the provider's id),
 *   - an inode with open handles (all of them must agree on how it is driven).
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

enum fs_way {
	FS_WAY_CACHED, /* through the kernel's page cache */
	FS_WAY_DIRECT, /* past it */
	FS_WAY_LENT,   /* the kernel writes the data file by itself (fs_lend.c) */
	FS_WAY_BESIDE, /* direct, while it does */
};

/* A handle opens: *ret_way is how it must be driven, given how the others are; *ret_backing_id the
 * kernel's number of the data file (BESIDE). -ENOMEM. */
must_check int fs_table_open(struct fs_table *t, uint64_t ino, bool wants_direct,
	enum fs_way *ret_way, int *ret_backing_id);
/* *ret_backing_id: the kernel wrote it by itself, and this was the last handle; else 0. */
void fs_table_close(struct fs_table *t, uint64_t ino, enum fs_way way, int *ret_backing_id);
/* May a direct handle be lent: is it the only one? Then others that open wait until _end, which makes
 * it LENT (or leaves it direct: 0). */
bool fs_table_lend_begin(struct fs_table *t, uint64_t ino);
void fs_table_lend_end(struct fs_table *t, uint64_t ino, int backing_id);

uint64_t fs_table_nodes(struct fs_table *t);
unsigned fs_table_handles(struct fs_table *t);
