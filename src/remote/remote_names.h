/*
 * remote_names - the names of one folder as the bucket shows them: compact, sorted bytewise.
 *
 * Not locked: while a listing is being built it belongs to its builder, later the cache's lock
 * guards it.
 */
#pragma once

#include "cpgfs/remote.h"

struct remote_names {
	uint8_t *arena; /* records, see remote_names.c */
	size_t arena_len, arena_cap;
	size_t dead_bytes; /* of records no longer pointed at */
	uint32_t *at;      /* offset of each record, in name order once finished */
	size_t count, cap;
	uint64_t unshowable; /* names left out */
};

void remote_names_release(struct remote_names *n);

/* Building: names in any order, then finish() once. -ENOMEM, -EFBIG. */
must_check int remote_names_append(struct remote_names *n, const char *name, size_t name_len,
	bool is_dir, const struct s3_object *object);
/* Sorts; of a folder and an object with one name the folder stays and the object is counted as
 * unshowable; of repeated ones the last stays. */
void remote_names_finish(struct remote_names *n);

/* Finished lists only. */
bool remote_names_find(const struct remote_names *n, const char *name, struct remote_entry *ret);
/* Index of the first name after `after` ("" = 0). */
size_t remote_names_after(const struct remote_names *n, const char *after);
bool remote_names_is_dir(const struct remote_names *n, size_t index);
void remote_names_entry(const struct remote_names *n, size_t index, struct remote_entry *ret);
/* 1: something changed, 0: it was so already, -ENOMEM, -EFBIG. A folder is never replaced by an
 * object of the same name. */
must_check int remote_names_put(
	struct remote_names *n, const char *name, bool is_dir, const struct s3_object *object);
/* True: an object (not a folder) of this name was there and is gone. */
bool remote_names_remove(struct remote_names *n, const char *name);
