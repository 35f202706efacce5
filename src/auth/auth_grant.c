/*
 * S3 Access Grants: long-lived keys that may do nothing else are exchanged for credentials of one
 * prefix.
 *
 *   GET /v20180820/accessgrantsinstance/dataaccess
 *         ?durationSeconds=43200&permission=READWRITE&privilege=Default&target=s3%3A%2F%2F…%2F%2A
 *   Host: ACCOUNT.s3-control.REGION.amazonaws.com      x-amz-account-id: ACCOUNT
 *
 * A given endpoint is used as it stands, without the account in its name. The reply does not say
 * which permission the grant has, so READ is asked for when READWRITE is refused.
 *
 * Source: S3 API reference, GetDataAccess.
 */
#include "auth_keys.h"
#include "auth_try.h"

#define DATA_ACCESS "/v20180820/accessgrantsinstance/dataaccess"

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

static const char *permission_text(enum auth_permission p)
{
	return p == AUTH_READ ? "READ" : "READWRITE";
}

static void target_of(const struct auth_grant_wish *w, char out[AUTH_TARGET_MAX])
{
	int n = snprintf(out, AUTH_TARGET_MAX, "s3://%s/%s%s*", w->bucket, w->prefix,
		w->prefix[0] ? "/" : "");
	check(n > 0 && n < AUTH_TARGET_MAX); /* a key has 1,024 bytes at most */
}

/* ---- what it covers ------------------------------------------------------------------------- */

bool auth_grant_covers(const char *target, const char *bucket, const char *prefix)
{
	cleanup_free char *mount = NULL;
	size_t len = strlen(target);
	if (len < 2 || target[len - 1] != '*')
		return false; /* one object */
	if (text_printf(&mount, "s3://%s/%s%s", bucket, prefix, prefix[0] ? "/" : ""))
		return false;
	return strncmp(mount, target, len - 1) == 0;
}

static int refuse_target(struct auth_try *t, const char *target)
{
	const struct auth_grant_wish *w = t->wish;
	if (!target[0])
		return auth_fail(t, -EAGAIN, NULL, "GetDataAccess names no MatchedGrantTarget");
	return auth_fail(t, -EACCES, "mount a prefix inside it",
		"the mount s3://%.60s/%.120s lies outside the grant %.160s", w->bucket, w->prefix,
		target);
}

/* ---- asking --------------------------------------------------------------------------------- */

static int error_of(const struct auth_xml *xml, int status)
{
	static const struct {
		const char *code;
		int err;
	} rows[] = {
		{"AccessDenied", -EACCES},
		{"InvalidAccessKeyId", -EACCES},
		{"InvalidClientTokenId", -EACCES},
		{"SignatureDoesNotMatch", -EACCES},
		{"InvalidRequest", -EACCES},
		{"InvalidArgument", -EACCES},
		{"AccessGrantsInstanceNotExistsError", -EACCES},
		{"AccessGrantsInstanceNotFound", -EACCES},
		{"NoSuchAccessGrantsInstance", -EACCES},
		{"ExpiredToken", -EKEYEXPIRED},
		{"TokenRefreshRequired", -EKEYEXPIRED},
	};
	for (size_t i = 0; i < array_len(rows); i++)
		if (strcmp(rows[i].code, xml->code) == 0)
			return rows[i].err;
	return xml->code[0] && status >= 400 && status < 500 && status != 429 && status != 408
		       ? -EACCES
		       : -EAGAIN;
}

/* Why and what to do: the gallery's own list of mistakes. */
static int refuse(struct auth_try *t, const struct auth_answer *answer, const struct auth_xml *xml)
{
	char target[AUTH_TARGET_MAX];
	char said[AUTH_XML_TEXT];
	target_of(t->wish, target);
	auth_xml_say(xml, said);
	int err = error_of(xml, answer->status);
	if (!xml->code[0])
		return auth_fail(t, -EAGAIN, NULL, "GetDataAccess: status %d and no usable answer",
			answer->status);
	if (err == -EAGAIN)
		return auth_fail(t, err, NULL, "GetDataAccess: %s", said);
	if (err == -EKEYEXPIRED)
		return auth_fail(t, err, t->recipe->remedy, "GetDataAccess: %s", said);
	const char *of_grant =
		t->is_renewal
			? "ask who gave the grant whether it has ended; hand over new keys with "
			  "`cpgfs credentials MOUNTPOINT`"
			: "see whether prefix, --region and --account-id are those you were given; "
			  "keys for another prefix do not help";
	bool unknown = strcmp(xml->code, "InvalidAccessKeyId") == 0 ||
		       strcmp(xml->code, "InvalidClientTokenId") == 0 ||
		       strcmp(xml->code, "SignatureDoesNotMatch") == 0;
	return auth_fail(t, err, unknown ? t->recipe->remedy : of_grant,
		"no grant for %.120s: %.200s", target, said);
}

static int make_query(
	const struct auth_grant_wish *w, enum auth_permission permission, struct buf *query)
{
	char target[AUTH_TARGET_MAX];
	target_of(w, target);
	buf_printf(query,
		"durationSeconds=%u&permission=%s&privilege=Default&target=", w->duration_s,
		permission_text(permission));
	add_encoded(query, target);
	return buf_error(query);
}

static const char *control_endpoint(const struct auth_try *t, const char *region, char out[256])
{
	if (t->places->s3_control_endpoint[0])
		return t->places->s3_control_endpoint;
	snprintf(out, 256, "https://%.20s.s3-control.%.60s.amazonaws.com%s", t->wish->account_id,
		region, text_starts(region, "cn-") ? ".cn" : "");
	return out;
}

static int ask(struct auth_try *t, const struct s3_credentials *keys,
	enum auth_permission permission, struct auth_xml *xml)
{
	char endpoint[256];
	const char *region = t->recipe->region[0] ? t->recipe->region : "us-east-1";
	cleanup_buf struct buf query = {0};
	cleanup_answer struct auth_answer answer = {.status = 0};
	int err = make_query(t->wish, permission, &query);
	if (err)
		return err;
	struct s3_other_request req = {.service = "s3",
		.region = region,
		.method = "GET",
		.path = DATA_ACCESS,
		.query = buf_text(&query),
		.account_id = t->wish->account_id};
	err = auth_ask_signed(t, keys, control_endpoint(t, region, endpoint), &req, &answer);
	if (err)
		return err;
	err = auth_xml_parse(answer.body, answer.len, xml);
	if (err == -ENOMEM)
		return err;
	if (err || answer.status != 200 || !xml->keys.secret_key[0] || !xml->keys.access_key[0])
		return refuse(t, &answer, xml);
	return 0;
}

int auth_exchange(struct auth_try *t, const struct s3_credentials *keys)
{
	const struct auth_grant_wish *w = t->wish;
	enum auth_permission permission = w->permission;
	cleanup_secret struct auth_xml *xml = secret_alloc(sizeof(*xml));
	if (!xml)
		return -ENOMEM;
	int err = ask(t, keys, permission, xml);
	if (err == -EACCES && permission == AUTH_READWRITE &&
		strcmp(xml->code, "AccessDenied") == 0) {
		struct auth_failure why =
			t->why; /* the first word counts if the second is no, too */
		explicit_bzero(xml, sizeof(*xml));
		permission = AUTH_READ;
		err = ask(t, keys, permission, xml);
		if (err == -EACCES)
			t->why = why;
	}
	if (!err && !auth_grant_covers(xml->target, w->bucket, w->prefix))
		err = refuse_target(t, xml->target);
	if (err)
		return err;
	t->result->keys = xml->keys;
	t->result->by_grant = true;
	t->result->permission = permission;
	text_copy(t->result->target, xml->target, sizeof(t->result->target));
	return 0;
}
