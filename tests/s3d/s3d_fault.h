/*
 * fault - the fault script: which request goes wrong, and how.
 *
 * A text file, read again when its mtime, size or inode changes (looked at for every request). One
 * rule a line, `#` begins a comment line. A rule:
 *
 *   OPERATION [key=GLOB] [n=3 | n=3-5 | n=2+ | every=N | always] [times=K] ACTION…
 *
 * OPERATION is a name of the dispatch table (PutObject, UploadPart, ListObjectsV2 …), a glob of one
 * (`*Object`) or `*`. Every rule counts the requests that match its operation and key, whichever
 * rule is applied; `times=K` ends a rule after it was applied K times. The first rule of the file
 * that fits is applied. Counts live as long as the rule's text stays in the file unchanged. Words
 * hold no spaces, except between double quotes (message="Slow down").
 *
 * Actions (a rule may have several):
 *   status=503 code=SlowDown [message=…]  answer so, nothing is applied
 *   delay=MS                 wait before the request is handled
 *   reset-before             RST instead of handling it
 *   reset-after              handle it, then RST instead of the reply
 *   cut-body=BYTES           full Content-Length, but the connection ends after BYTES of the body
 *   empty-body               status 200 and no body
 *   stall=MS|forever [after=BYTES] [of=request|response]
 *                            stop reading the request's body (default where it has one) or
 *                            writing the reply (one without a body: in its headers)
 *   hold=FILE [at=before-apply|after-apply|mid-body] [after=BYTES]
 *                            wait there until FILE exists (default before-apply; mid-body: after
 *                            BYTES of the request body, default 1); FILE.held appears when the
 *                            first request has come there
 *   200-error code=… [leading-space]   status 200 with an <Error> body; nothing is applied
 *   no-etag no-checksum wrong-etag wrong-checksum     in headers and XML of the reply
 *   wrong-content-length[=DELTA]       announce DELTA (default 7) bytes more, then close
 *   garbage-xml  huge-xml=BYTES  entity-bomb          instead of the reply's XML
 *   nul-xml                  eight NUL bytes in the middle of the reply's body
 *   repeat-token missing-token         in ListObjectsV2: IsTruncated with the same token as asked
 *                            with (first page: one that leads to it again), or with none; the
 *                            marker of ListParts likewise (but its first page leads on)
 *   redirect=URL [status=301|307]      nothing is applied
 *   skew-date=SECONDS        the server's clock for this request (Date and RequestTimeTooSkewed)
 *   expire-token             ExpiredToken
 *   apply | no-apply         handle the request nevertheless, or don't
 *   at=headers               with status, redirect, 200-error, reset-before: at once, without
 *                            reading the body
 *   at=mid-body after=BYTES  with reset-before: after so much of the request's body
 */
#pragma once

#include "s3d_util.h"

enum fault_point {
	FAULT_AT_DEFAULT,
	FAULT_AT_HEADERS,
	FAULT_AT_MID_BODY,
	FAULT_AT_BEFORE_APPLY,
	FAULT_AT_AFTER_APPLY,
};

enum fault_side { FAULT_OF_DEFAULT, FAULT_OF_REQUEST, FAULT_OF_RESPONSE };

#define FAULT_FOREVER INT64_MAX

/* What one request suffers; all zero: nothing. */
struct fault {
	bool active;
	char text[160]; /* the rule's actions, for the log */
	int64_t status;
	char code[64];
	char message[160];
	int64_t delay_ms;
	bool reset_before;
	bool reset_after;
	bool has_cut_body;
	int64_t cut_body_bytes;
	bool empty_body;
	int64_t stall_ms; /* FAULT_FOREVER: until the client or the server goes */
	int64_t after_bytes;
	enum fault_side of;
	char hold_path[256];
	enum fault_point at;
	bool error_200;
	bool leading_space;
	bool no_etag;
	bool no_checksum;
	bool wrong_etag;
	bool wrong_checksum;
	bool has_wrong_length;
	int64_t wrong_length_delta_bytes;
	bool garbage_xml;
	int64_t huge_xml_bytes;
	bool entity_bomb;
	bool nul_xml;
	bool repeat_token;
	bool missing_token;
	char redirect[256];
	int64_t skew_s;
	bool expire_token;
	bool apply;
	bool no_apply;
};

struct fault_script;

/* `path` may be NULL (no faults) and need not exist. */
struct fault_script *fault_script_create(const char *path);
void fault_script_destroy(struct fault_script *script);
/* Counts the request and fills in what it suffers. */
void fault_script_match(struct fault_script *script, const char *operation, const char *key,
	struct fault *ret);
/* How often a rule was applied; how many lines of the present script could not be understood. */
void fault_script_stats(struct fault_script *script, unsigned long *ret_applied,
	unsigned *ret_bad_lines);
/* Does this fault keep the request from being handled? */
bool fault_prevents(const struct fault *fault);
