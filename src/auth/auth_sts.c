/*
 * STS: AssumeRole (signed) and AssumeRoleWithWebIdentity (a token stands for the signature).
 *
 *   POST /   Action=AssumeRole&Version=2011-06-15&RoleArn=…&RoleSessionName=…
 *
 * Source: STS API reference.
 */
#include "auth_try.h"

#define FORM "application/x-www-form-urlencoded; charset=utf-8"

static void add_encoded(struct buf *out, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			     (*p >= '0' && *p <= '9') || strchr("-_.~", *p);
		if (plain)
			buf_add_char(out, (char)*p);
		else
			buf_printf(out, "%%%02X", *p);
	}
}

static void add_field(struct buf *body, const char *name, const char *value)
{
	buf_printf(body, "&%s=", name);
	add_encoded(body, value);
}

static void begin(struct buf *body, const char *action, const struct auth_role *role)
{
	char own[64];
	buf_printf(body, "Action=%s&Version=2011-06-15", action);
	snprintf(own, sizeof(own), "cpgfs-%lld", (long long)(clock_wall_ns() / NS_PER_S));
	add_field(body, "RoleArn", role->arn);
	add_field(body, "RoleSessionName", role->session ? role->session : own);
	if (role->external_id)
		add_field(body, "ExternalId", role->external_id);
	if (role->duration_s)
		buf_printf(body, "&DurationSeconds=%u", role->duration_s);
}

/* Codes after which asking again is no use before a person did something. */
static int error_of(const char *code)
{
	static const struct {
		const char *code;
		int err;
	} rows[] = {
		{"AccessDenied", -EACCES}, /* AWS, also where there is no such role */
		{"NoSuchEntity", -EACCES}, /* RADOS Gateway: no such role */
		{"InvalidClientTokenId", -EACCES},
		{"SignatureDoesNotMatch", -EACCES},
		{"UnrecognizedClientException", -EACCES},
		{"IncompleteSignature", -EACCES},
		{"MalformedPolicyDocument", -EACCES},
		{"ValidationError", -EACCES},
		{"RegionDisabledException", -EACCES},
		{"OptInRequired", -EACCES},
		{"InvalidIdentityToken", -EACCES},
		{"ExpiredToken", -EKEYEXPIRED},
		{"ExpiredTokenException", -EKEYEXPIRED},
	};
	for (size_t i = 0; i < array_len(rows); i++)
		if (strcmp(rows[i].code, code) == 0)
			return rows[i].err;
	return -EAGAIN;
}

static int refuse(struct auth_try *t, const struct auth_answer *answer, const struct auth_xml *xml,
	const struct auth_role *role)
{
	char said[AUTH_XML_TEXT];
	int err = error_of(xml->code);
	auth_xml_say(xml, said);
	if (!xml->code[0])
		return auth_fail(
			t, -EAGAIN, NULL, "STS: status %d and no usable answer", answer->status);
	return auth_fail(t, err,
		err == -EAGAIN	      ? NULL
		: err == -EKEYEXPIRED ? t->recipe->remedy
				      : "see whether these keys may assume that role",
		"STS refuses %.100s: %.210s", role->arn, said);
}

static const char *sts_endpoint(const struct auth_try *t, const char *region, char out[128])
{
	if (t->places->sts_endpoint[0])
		return t->places->sts_endpoint;
	snprintf(out, 128, "https://sts.%.60s.amazonaws.com%s", region,
		text_starts(region, "cn-") ? ".cn" : "");
	return out;
}

static int ask(struct auth_try *t, const struct s3_credentials *signer, struct buf *body,
	const struct auth_role *role, struct s3_credentials *ret)
{
	char endpoint[128];
	const char *region = t->recipe->region[0] ? t->recipe->region : "us-east-1";
	cleanup_answer struct auth_answer answer = {.status = 0};
	cleanup_secret struct auth_xml *xml = secret_alloc(sizeof(*xml));
	if (!xml || buf_error(body))
		return -ENOMEM;
	struct s3_other_request req = {.service = "sts",
		.region = region,
		.method = "POST",
		.path = "/",
		.body = body->data,
		.body_len = body->len,
		.content_type = FORM};
	int err = auth_ask_signed(t, signer, sts_endpoint(t, region, endpoint), &req, &answer);
	if (err)
		return err;
	err = auth_xml_parse(answer.body, answer.len, xml);
	if (err == -ENOMEM)
		return err;
	if (err || answer.status != 200 || !xml->keys.secret_key[0] || !xml->keys.access_key[0])
		return refuse(t, &answer, xml, role);
	*ret = xml->keys;
	return 0;
}

int auth_assume_role(struct auth_try *t, const struct auth_role *role, struct s3_credentials *keys)
{
	cleanup_buf struct buf body = {0};
	begin(&body, "AssumeRole", role);
	return ask(t, keys, &body, role, keys);
}

int auth_from_web_identity(struct auth_try *t, struct s3_credentials *ret)
{
	const struct auth_recipe *r = t->recipe;
	cleanup_secret char *token = NULL;
	cleanup_buf struct buf body = {.wipes = true};
	int err = auth_read_token(r->watch[0], &token);
	if (err == -ENOMEM)
		return err;
	if (err)
		return auth_fail(t, -EKEYEXPIRED, r->remedy, "the token file %.200s: %s",
			r->watch[0], strerror(-err));
	begin(&body, "AssumeRoleWithWebIdentity", &r->web);
	add_field(&body, "WebIdentityToken", token);
	return ask(t, NULL, &body, &r->web, ret);
}
