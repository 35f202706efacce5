/*
 * cli_walk - the files below a folder, in the order in which S3 lists their keys (and `aws s3 sync`
 *            uploads them): bytewise by full path, a folder sorting as "name/".
 */
#pragma once

#include <sys/stat.h>

#include "cli_private.h"

enum { WALK_DEPTH_MAX = 256 }; /* folders; S3 keys end long before */

struct walk_entry {
	const char *name; /* without '/' */
	struct stat st;	  /* of the entry itself, symbolic links not followed */
};

struct walk_hooks {
	/* Before a folder's entries, with all of them, sorted. May be NULL. */
	int (*folder)(void *user, const char *path, const struct walk_entry *entries, size_t count);
	/* Whatever is not a folder. parent is open for reading. */
	int (*file)(void *user, int parent, const char *path, const struct walk_entry *entry);
	/* After a folder's last entry. May be NULL. */
	int (*folder_end)(void *user, const char *path);
	/* A folder that cannot be read: it is left out and the walk goes on. */
	int (*unreadable)(void *user, const char *path, int error);
};

/* Walks top, following it if it is a symbolic link; path is what hooks see for it ("" for "what is
 * below"), and below it path/name. Memory: the names of one folder per level. Ends with the first
 * hook that returns non-zero, which is returned; -errno if top itself cannot be read. */
must_check int cli_walk(
	const char *top, const char *path, const struct walk_hooks *hooks, void *user);
