/*
 * cli_verify - `cpgfs verify`: is everything that should be in the bucket there, and the same?
 *
 *	cli_verify.c         the command: which two sides, and what it prints
 *	cli_verify_items.c   what should be there: a manifest (TSV), or the files of a folder
 *	cli_verify_mount.c   the bucket as a mount asks it: .listing.tsv and checksums
 */
#pragma once

#include "cpgfs/verify.h"

#include "cli_bucket.h"

/* ---- cli_verify_items.c ---- */
struct items; /* ascending by key */
/* Columns by the names in the first line: key, size_bytes (or size), etag, crc64nvme; rows whose
 * state is "gone" are left out. Keys outside prefix are left out and counted. */
must_check int items_from_tsv(
	struct items **ret, const char *text, const char *name, const char *prefix);
/* Files below (or the file) path, as keys below prefix. What desktops make is left out and counted;
 * so is, as refused, what a mount would hold back for its name or take no copy of (a link, a
 * device). */
must_check int items_from_folder(struct items **ret, const char *path, const char *prefix,
	const struct naming_policy *naming);
void items_free(struct items *it);
size_t items_count(const struct items *it);
bool items_have_paths(const struct items *it); /* of files to be read */
size_t items_left_out(const struct items *it);
size_t items_refused(const struct items *it);
void items_start_after(struct items *it, const char *key);
int items_next(void *items, struct verify_item *ret); /* for verify_tree.next */

/* ---- cli_verify_mount.c ---- */
/* prefix: a path below the mount's root, "" all. -errno after a message. */
must_check int verify_bucket_mount(
	struct verify_bucket *ret, const char *root, const char *prefix, const char *after);
