/*
 * remote_points - where listings of large folders may be cut, kept over mounts.
 *
 * Not locked: the room's lock guards it once the room has started.
 */
#pragma once

#include "remote_names.h"
#include "remote_scan.h"

#define POINTS_EVERY 950       /* names apart: some more fit on a page by now */
#define POINTS_FOLDERS_MAX 256 /* the latest */
#define POINTS_MAX 64	       /* of one folder */

struct remote_points {
	struct points_folder {
		char *prefix;
		struct buf names; /* each with its NUL */
	} * folders;		  /* latest last */
	size_t count;
	bool changed;
};

void remote_points_release(struct remote_points *p);
/* From a listing of this folder; of a small one nothing. Without memory for it: nothing. */
void remote_points_learn(
	struct remote_points *p, const char *prefix, const struct remote_names *names);
/* Cuts the scan (of this folder's listing) at what is known of it. */
void remote_points_split(
	const struct remote_points *p, const char *prefix, struct remote_scan *scan);
/* 0; -ENOENT; -EUCLEAN: no such file as save writes, nothing is known; -errno. */
must_check int remote_points_load(struct remote_points *p, const char *path);
/* Nothing is synced: it may be lost. */
must_check int remote_points_save(struct remote_points *p, const char *path);
