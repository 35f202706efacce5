/*
 * remote_tree - folders put together from a listing of all keys below one. Pure.
 */
#pragma once

#include "remote_names.h"
#include "remote_page.h"

/* A folder is whole: its names (finished; the callee may take them over), and when the earliest
 * page that tells of it was asked for. Non-zero ends remote_tree_page with it. */
typedef int remote_tree_done_fn(
	void *user, const char *prefix, struct remote_names *names, struct remote_time asked);

struct remote_tree {
	size_t top_len; /* of the prefix that is listed: it gets no names itself */
	remote_tree_done_fn *done;
	void *user;
	char key[KEY_MAX_BYTES + 1]; /* the latest; what is open begins it */
	size_t key_len;
	size_t skip_len; /* so much of key leads into a folder that can't be shown; 0: none */
	struct tree_level *levels;
	size_t count, cap;
	struct remote_time gap; /* the earliest of the pages since the latest key */
	bool any;		/* a page came */
};

void remote_tree_init(
	struct remote_tree *t, const char *prefix, remote_tree_done_fn *done, void *user);
void remote_tree_release(struct remote_tree *t);
/* The next page, its keys in order of bytes. -EXDEV: it does not follow the last one; -EFBIG: a key
 * longer than keys are; -ENOMEM. */
must_check int remote_tree_page(
	struct remote_tree *t, const struct s3_list_page *page, struct remote_time asked);
/* There are no more. */
must_check int remote_tree_end(struct remote_tree *t);
