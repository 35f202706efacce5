/* A request as it goes over the wire, without what belongs to an attempt (date, signature); pure. */
#pragma once

#include "s3_endpoint.h"
#include "s3_sign.h"

/* What a reply is held against. */
struct s3_asked {
	enum s3_op op;
	bool sent_crc;        /* PUT, UPLOAD_PART: CRC64NVME went along; COMPLETE: of the whole */
	uint64_t crc;
	bool payload_unsigned; /* set when sent */
	/* Writes: what a 412 says is refused, when only one condition went along. */
	bool has_condition;
	enum s3_condition condition;
	bool has_range;
	uint64_t range_start, range_len;
	char if_match[S3_ETAG_MAX]; /* GET; "" if none */
	unsigned part_marker;       /* LIST_PARTS: where to go on; 0: the first page */
	char *prefix, *token;       /* LIST; owned, never NULL there */
};

struct s3_wire {
	struct s3_asked asked;
	const char *method;
	struct buf path, query; /* encoded, as signed */
	struct s3_headers headers;
	struct buf xml;         /* the body when it is made here (COMPLETE) */
	char payload[65];       /* hex SHA-256 of the body; "": not known */
};

/* -EINVAL: a field that the operation needs is missing or malformed; -ENOMEM. */
must_check int s3_wire_init(
	struct s3_wire *ret, const struct s3_endpoint *endpoint, const struct s3_request *req);
void s3_wire_release(struct s3_wire *w);

/* Does the operation change the bucket so that "perhaps applied" matters? A part doesn't: Complete
 * names the parts it wants. */
bool s3_op_changes_bucket(enum s3_op op);
