/* XML replies of S3 → plain data. */
#pragma once

#include "cpgfs/s3.h"

enum s3_xml_root {
	S3_XML_NONE, /* nothing that is XML */
	S3_XML_OTHER,
	S3_XML_ERROR,
	S3_XML_LIST,
	S3_XML_CREATE,
	S3_XML_COMPLETE,
	S3_XML_COPY,
	S3_XML_COPY_PART,
	S3_XML_LIST_PARTS,
	S3_XML_ACL,
};

struct s3_xml {
	enum s3_xml_root root;
	bool whole; /* well-formed to the last byte, and every element we know was readable */
	/* errors */
	char code[64], message[256], request_id[64], region[32], endpoint[256];
	/* results */
	char etag[S3_ETAG_MAX];
	char upload_id[S3_UPLOAD_ID_MAX];
	bool has_crc64nvme;
	uint64_t crc64nvme;
	struct s3_list_page list;
	bool says_truncated; /* a listing tells whether there is more, with either word */
	char list_prefix[3 * 1024 + 1]; /* as it came, encoded or not; "" if none */
	struct s3_part *parts;
	size_t part_count;
	bool parts_truncated;
	unsigned next_part_marker;
};

/* Parses what arrived, whole or cut: what was read before a fault stays (an error's code). White
 * space before the document is skipped; a DOCTYPE, entities of its own and lists beyond 100,000
 * entries make it not whole. -ENOMEM. */
must_check int s3_xml_parse(struct s3_xml *ret, const char *data, size_t len);
void s3_xml_release(struct s3_xml *x);

/* Copies an ETag without its quotes; false when it does not fit or is empty. */
bool s3_etag_copy(char out[S3_ETAG_MAX], const char *text);
