/*
 * record - one line of objects.tsv: an object put, or a key deleted.
 */
#pragma once

#include "s3d_index.h"

void record_format_put(struct buf *line, const struct object *object);
void record_format_delete(struct buf *line, const char *key);
/* Does to the index what a line (changed in place, without its newline) says; -EINVAL. */
int record_apply(struct index *index, char *line);
/* Cuts off a last line without its newline, which a crash left behind; no file is fine. */
int record_file_trim(int dir_fd, const char *name);
