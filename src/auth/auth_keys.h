/* What keys look like, wherever they come from; pure. */
#pragma once

#include "cpgfs/s3.h"

#include <jansson.h>

/* NULL, or what is wrong with them ("a secret key without an access key id"). Both keys are needed;
 * nothing may hold what could not stand in a header. */
const char *auth_keys_check(const struct s3_credentials *keys);
/* Is there nothing at all? */
bool auth_keys_are_empty(const struct s3_credentials *keys);
/* False: longer than any key (then `to` is ""). */
bool auth_keys_copy(char *to, const char *value, size_t size);
/* ISO 8601 to ns since the epoch; 0 when it is not. */
int64_t auth_expiry_parse(const char *text);

/* Sets the member that a setting of that name (any case: aws_access_key_id, AWS_SESSION_TOKEN,
 * aws_credential_expiration, …) is for. 0, -ENOENT: of no key; -E2BIG. */
must_check int auth_keys_set(struct s3_credentials *keys, const char *name, const char *value);
/* From an object with AccessKeyId, SecretAccessKey, SessionToken or Token, Expiration; or the same
 * names in camelCase, as SSO has them. 0, -EBADMSG: *ret_wrong says what. */
must_check int auth_keys_from_json(
	const json_t *object, struct s3_credentials *ret, const char **ret_wrong);
/* Text that may not end with a NUL, to the JSON it begins with; jansson's freed memory is wiped.
 * NULL: it is none. */
json_t *auth_json_load(const char *text, size_t len, size_t flags);
static inline void cleanup_json_fn(json_t **j)
{
	json_decref(*j);
}
#define cleanup_json __attribute__((cleanup(cleanup_json_fn)))
