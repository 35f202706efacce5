/* One attempt to get credentials by a recipe: blocks, on the auth thread, without any lock. */
#pragma once

#include "auth_chain.h"
#include "auth_fetch.h"

/* Why there are none. Texts are for people and hold no secret. */
struct auth_failure {
	char error[384];
	char remedy[256]; /* "": it may pass by itself */
};

/* What a source gave; in secret memory. */
struct auth_result {
	struct s3_credentials keys;
	bool by_grant;
	char target[AUTH_TARGET_MAX];
	enum auth_permission permission;
};

/* What is asked for through Access Grants. */
struct auth_grant_wish {
	bool wanted;
	char *account_id, *bucket, *prefix;
	enum auth_permission permission;
	unsigned duration_s;
};

struct auth_try {
	const struct auth_places *places;
	const struct auth_recipe *recipe;
	const struct auth_grant_wish *wish;
	const atomic_bool *stop;
	bool is_renewal;	 /* there were credentials before */
	int64_t clock_offset_ns; /* the servers' time minus ours; corrected by their answers */
	struct auth_failure why;
	struct auth_result *result;
};

/* Errors of all that follow, with why filled: -ENOKEY (nothing there), -EACCES (refused for good),
 * -EKEYEXPIRED (a person must renew something), -EAGAIN (may pass by itself), -EINVAL (cannot be
 * meant), -ECANCELED (stopped), -ENOMEM. */
must_check int auth_try_run(struct auth_try *t);

/* Writes why; returns err. */
int auth_fail(struct auth_try *t, int err, const char *remedy, const char *fmt, ...)
	printf_like(4, 5);
int64_t auth_try_now_ns(const struct auth_try *t); /* as the servers see it */

/* auth_sources of one kind each: keys into *ret. */
must_check int auth_from_process(struct auth_try *t, struct s3_credentials *ret);
must_check int auth_from_sso(struct auth_try *t, struct s3_credentials *ret);
must_check int auth_from_container(struct auth_try *t, struct s3_credentials *ret);
must_check int auth_from_instance(struct auth_try *t, struct s3_credentials *ret);
must_check int auth_from_web_identity(struct auth_try *t, struct s3_credentials *ret);
/* *keys become the role's. */
must_check int auth_assume_role(
	struct auth_try *t, const struct auth_role *role, struct s3_credentials *keys);
/* keys are exchanged; *t->result gets keys, target and permission. */
must_check int auth_exchange(struct auth_try *t, const struct s3_credentials *keys);
/* Does a grant's target cover s3://bucket/prefix? */
bool auth_grant_covers(const char *target, const char *bucket, const char *prefix);

/* ---- for them ------------------------------------------------------------------------------- */

/* req->url and the times are set by the caller; sends it and turns a transport failure into
 * -EAGAIN. 0 for any answer. */
must_check int auth_ask(struct auth_try *t, struct auth_request *req, struct auth_answer *ret);
/* A signed request to an AWS service; keys NULL: not signed. Sent again once if our clock was
 * wrong. other holds all but host and wall_ns. */
must_check int auth_ask_signed(struct auth_try *t, const struct s3_credentials *keys,
	const char *endpoint, struct s3_other_request *other, struct auth_answer *ret);
/* JSON {"AccessKeyId": …} of an answer or a program; who is named in the error. */
must_check int auth_take_json(struct auth_try *t, const char *text, size_t len, const char *who,
	struct s3_credentials *ret);
/* A whole small file without white space at its ends, in secret memory. */
must_check int auth_read_token(const char *path, char **ret);

/* What an XML reply says: its credentials, or its error. */
struct auth_xml {
	struct s3_credentials keys;
	char target[AUTH_TARGET_MAX];
	char code[64], message[256];
};
/* -EBADMSG: not XML, or a value that can't be one, or half a pair of keys. Any root will do. */
must_check int auth_xml_parse(const char *text, size_t len, struct auth_xml *ret);
/* "CODE: message", or the code alone where the service says no more. */
#define AUTH_XML_TEXT 264
void auth_xml_say(const struct auth_xml *xml, char out[AUTH_XML_TEXT]);
