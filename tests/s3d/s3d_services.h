/*
 * services - what gives out temporary credentials: STS, S3 Access Grants, SSO, the container's
 * endpoint and EC2 instance metadata. All answer at the server's own address, as a client with its
 * endpoints set asks for them:
 *
 *   POST /                                                      STS (a form body)
 *   GET /v20180820/accessgrantsinstance/dataaccess?target=…     S3 Control
 *   GET /federation/credentials?account_id=…&role_name=…        SSO
 *   GET /container/…                                            the container's endpoint
 *   PUT /latest/api/token, GET /latest/meta-data/iam/security-credentials/[ROLE]      EC2
 *
 * On with --services FILE, which is read again for every such request. One word list a line, `#`
 * begins a comment line:
 *
 *   lifetime SECONDS[,SECONDS…] [told=SECONDS]    credentials work so long (the first, the second …
 *                            that are given out, the last for all others); and say so, unless told
 *                            says else
 *   role ARN [external=ID] [by=ACCESS] [limit=BUCKET/PREFIX]      may be assumed
 *   web-token TEXT           of AssumeRoleWithWebIdentity
 *   account NUMBER           x-amz-account-id of GetDataAccess
 *   grant s3://BUCKET/PREFIX* [READ|WRITE|READWRITE] [by=ACCESS] [matched=TARGET]
 *   sso-token TEXT
 *   container-token TEXT     the Authorization header; without it none is wanted
 *   metadata-role NAME       of the instance; without it 404
 *
 * Credentials that were given out are keys like those of --key: what they sign is checked, token
 * and time, too. Refusals are for the fault script (AssumeRole status=403 code=AccessDenied).
 */
#pragma once

#include "s3d_server.h"

/* NULL: none of them. */
const struct operation *services_operation(const struct request *request);

/* s3d_sts.c, s3d_local.c */
void handle_sts(struct request *request);
void handle_get_data_access(struct request *request);
void handle_get_role_credentials(struct request *request);
void handle_container_credentials(struct request *request);
void handle_metadata_token(struct request *request);
void handle_metadata_role(struct request *request);

/* --- for them --- */

/* The script's line that begins with `word` and, where `second` is not NULL, has it next; split at
 * blanks. words_len 0: there is none. */
struct service_line {
	char *text;
	char *words[8];
	size_t words_len;
};
void service_line_find(const struct request *request, const char *word, const char *second,
	struct service_line *ret);
void service_line_release(struct service_line *line);
/* The value of NAME=VALUE in it, NULL if absent. */
const char *service_line_value(const struct service_line *line, const char *name);

struct service_keys {
	const char *access, *secret, *token; /* of the server's life */
	int64_t told_expiry_ms;
};
/* New ones, limited to bucket and prefix (NULL: not), perhaps only for reading. */
void service_keys_issue(struct request *request, const char *bucket, const char *prefix,
	bool read_only, struct service_keys *ret);
