/*
 * xml - writes the replies' XML, reads the two bodies that clients send.
 */
#pragma once

#include "s3d_util.h"

/* <?xml …?><root xmlns="http://s3.amazonaws.com/doc/2006-03-01/"> */
void xml_begin(struct buf *out, const char *root);
void xml_open(struct buf *out, const char *name);
void xml_close(struct buf *out, const char *name);
void xml_text(struct buf *out, const char *name, const char *text);
void xml_number(struct buf *out, const char *name, uint64_t number);
void xml_etag(struct buf *out, const char *etag);
void xml_time(struct buf *out, const char *name, int64_t ms);

struct xml_part {
	uint64_t number;
	char *etag;      /* without quotes */
	char *crc64nvme; /* NULL = not given */
};

struct xml_parts {
	struct xml_part *parts;
	size_t len;
};

struct xml_delete {
	char **keys;
	char **etags; /* NULL entries: no condition */
	size_t len;
	bool quiet;
};

/* <CompleteMultipartUpload>; -EINVAL. */
int xml_read_parts(const char *data, size_t len, struct xml_parts *ret);
void xml_parts_release(struct xml_parts *parts);
/* <Delete>; -EINVAL. */
int xml_read_delete(const char *data, size_t len, struct xml_delete *ret);
void xml_delete_release(struct xml_delete *request);
