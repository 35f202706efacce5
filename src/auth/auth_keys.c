/*
 * What keys look like: the names they have in files, in the environment and in JSON, and what can't
 * be one.
 */
#include "auth_keys.h"

#include <strings.h>

bool auth_keys_copy(char *to, const char *value, size_t size)
{
	if (text_copy(to, value, size))
		return true;
	explicit_bzero(to, size); /* a key that was cut must not be used */
	return false;
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || (unsigned char)*text >= 0x7f)
			return false;
	return true;
}

bool auth_keys_are_empty(const struct s3_credentials *keys)
{
	return !keys->access_key[0] && !keys->secret_key[0];
}

const char *auth_keys_check(const struct s3_credentials *keys)
{
	if (!keys->access_key[0])
		return "a secret key without an access key id";
	if (!keys->secret_key[0])
		return "an access key id without a secret key";
	if (!is_printable(keys->access_key) || !is_printable(keys->secret_key) ||
		!is_printable(keys->session_token))
		return "a key holds a space or another character that no key has";
	return NULL;
}

int64_t auth_expiry_parse(const char *text)
{
	int64_t at_ns;
	return time_parse_iso8601(text, &at_ns) ? 0 : at_ns;
}

/* ---- settings ----------------------------------------------------------------------------------
 */

#define FIELD(name, member)                                                                        \
	{                                                                                          \
		name, offsetof(struct s3_credentials, member),                                     \
			sizeof(((struct s3_credentials *)NULL)->member)                            \
	}
static const struct {
	const char *name;
	size_t at, size;
} settings[] = {
	FIELD("aws_access_key_id", access_key),
	FIELD("aws_secret_access_key", secret_key),
	FIELD("aws_session_token", session_token),
	FIELD("aws_security_token", session_token),
};

static const char *const expiry_settings[] = {"aws_credential_expiration", "aws_expiration",
	"aws_session_expiration", "expiration", "x_security_token_expires"};

int auth_keys_set(struct s3_credentials *keys, const char *name, const char *value)
{
	for (size_t i = 0; i < array_len(settings); i++)
		if (strcasecmp(settings[i].name, name) == 0)
			return auth_keys_copy(
				       (char *)keys + settings[i].at, value, settings[i].size)
				       ? 0
				       : -E2BIG;
	for (size_t i = 0; i < array_len(expiry_settings); i++)
		if (strcasecmp(expiry_settings[i], name) == 0) {
			keys->expires_at_ns = auth_expiry_parse(value);
			return 0;
		}
	return -ENOENT;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static void json_wipes(void)
{
	json_set_alloc_funcs(malloc, wiping_free);
}

json_t *auth_json_load(const char *text, size_t len, size_t flags)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, json_wipes);
	return json_loadb(text, len, flags | JSON_REJECT_DUPLICATES, NULL);
}

static const char *first_text(const json_t *object, const char *const names[3])
{
	for (size_t i = 0; i < 3 && names[i]; i++) {
		const char *text = json_string_value(json_object_get(object, names[i]));
		if (text && *text)
			return text;
	}
	return NULL;
}

/* ISO 8601, or a number: milliseconds as SSO has them, or seconds. */
static int expiry_from_json(const json_t *object, int64_t *ret_ns)
{
	static const char *const names[] = {"Expiration", "expiration", NULL};
	const char *text = first_text(object, names);
	const json_t *number = json_object_get(object, "expiration");
	*ret_ns = 0;
	if (text)
		return (*ret_ns = auth_expiry_parse(text)) ? 0 : -EBADMSG;
	if (!json_is_integer(number))
		return 0;
	json_int_t value = json_integer_value(number);
	int64_t unit_ns = value > INT64_C(100000000000) ? NS_PER_S / 1000 : NS_PER_S;
	if (value <= 0 || value > INT64_MAX / unit_ns)
		return -EBADMSG;
	*ret_ns = value * unit_ns;
	return 0;
}

int auth_keys_from_json(const json_t *object, struct s3_credentials *ret, const char **ret_wrong)
{
	static const char *const access[] = {"AccessKeyId", "accessKeyId", NULL};
	static const char *const secret[] = {"SecretAccessKey", "secretAccessKey", NULL};
	static const char *const token[] = {"SessionToken", "Token", "sessionToken"};
	const char *a = first_text(object, access), *s = first_text(object, secret);
	const char *t = first_text(object, token);
	struct s3_credentials k = {.anonymous = false};
	*ret_wrong = NULL;
	if (!a || !s)
		*ret_wrong = "no AccessKeyId and SecretAccessKey in it";
	else if (!auth_keys_copy(k.access_key, a, sizeof(k.access_key)) ||
		 !auth_keys_copy(k.secret_key, s, sizeof(k.secret_key)) ||
		 !auth_keys_copy(k.session_token, t ? t : "", sizeof(k.session_token)))
		*ret_wrong = "a value is longer than any key";
	else if (expiry_from_json(object, &k.expires_at_ns))
		*ret_wrong = "its Expiration is no time";
	else
		*ret_wrong = auth_keys_check(&k);
	if (!*ret_wrong)
		*ret = k;
	explicit_bzero(&k, sizeof(k));
	return *ret_wrong ? -EBADMSG : 0;
}
