/* What an attempt brought back: collected while it arrives, judged at its end. */
#pragma once

#include "s3_classify.h"
#include "s3_request.h"

struct s3_answer {
	struct s3_reply reply;
	struct buf body;       /* XML, bounded */
	bool head_done;        /* the final status's headers are complete */
	bool has_length;
	uint64_t length_bytes; /* Content-Length */
	bool crc_is_composite; /* x-amz-checksum-type says it is no checksum of the content */
	bool has_content_range;
	uint64_t range_start, range_end; /* inclusive */
};

void s3_answer_init(struct s3_answer *a);
void s3_answer_release(struct s3_answer *a);

/* One header line as curl hands it over, the status line and the empty last one included. */
void s3_answer_header(struct s3_answer *a, const char *line, size_t len);
/* May this GET's body go to the sink? Only a success that is what was asked for. */
enum s3_stop s3_answer_check_get(const struct s3_answer *a, const struct s3_asked *asked);

struct s3_end {
	enum s3_stop stop;
	int curl_code;
	const char *curl_text; /* for a person; may be "" */
	bool fully_sent;
};
/* Sets class, code, message and what the body told. */
void s3_answer_judge(struct s3_answer *a, const struct s3_asked *asked, const struct s3_end *end);
