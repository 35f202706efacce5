/*
 * SSO (IAM Identity Center): `aws sso login` leaves a token in ~/.aws/sso/cache; with it
 * GetRoleCredentials gives the role's credentials. The token is only read: renewing it is the
 * AWS CLI's.
 *
 *   GET /federation/credentials?account_id=…&role_name=…   x-amz-sso_bearer_token: …
 *   {"roleCredentials": {"accessKeyId": …, "secretAccessKey": …, "sessionToken": …, "expiration":
 * ms}}
 *
 * Source: IAM Identity Center Portal API, GetRoleCredentials.
 */
#include "auth_keys.h"
#include "auth_try.h"

#include <curl/curl.h>

/* What was given out by a cached token, without it. */
static int take_token(struct auth_try *t, char **ret)
{
	const struct auth_recipe *r = t->recipe;
	cleanup_secret char *text = NULL;
	int err = auth_read_token(r->sso.cache_path, &text);
	if (err == -ENOMEM)
		return err;
	if (err == -ENOENT)
		return auth_fail(t, -EKEYEXPIRED, r->remedy, "nobody is signed in by SSO here");
	cleanup_json json_t *root = err ? NULL : auth_json_load(text, strlen(text), 0);
	const char *token = json_string_value(json_object_get(root, "accessToken"));
	const char *expires = json_string_value(json_object_get(root, "expiresAt"));
	if (!token || !*token || strpbrk(token, "\r\n") || !expires)
		return auth_fail(t, -EKEYEXPIRED, r->remedy,
			"the cached SSO token %.160s is not usable", r->sso.cache_path);
	int64_t at_ns = auth_expiry_parse(expires);
	if (at_ns && auth_try_now_ns(t) >= at_ns)
		return auth_fail(
			t, -EKEYEXPIRED, r->remedy, "the SSO sign-in expired at %.40s", expires);
	size_t size = strlen(token) + 64;
	*ret = secret_alloc(size);
	if (!*ret)
		return -ENOMEM;
	snprintf(*ret, size, "x-amz-sso_bearer_token: %s\n", token);
	return 0;
}

static int url_for(const struct auth_try *t, char **ret)
{
	const struct auth_recipe *r = t->recipe;
	char *account = curl_easy_escape(NULL, r->sso.account, 0);
	char *role = curl_easy_escape(NULL, r->sso.role, 0);
	char endpoint[128];
	snprintf(endpoint, sizeof(endpoint), "https://portal.sso.%.60s.amazonaws.com",
		r->sso.region);
	size_t len = strlen(t->places->sso_endpoint);
	while (len && t->places->sso_endpoint[len - 1] == '/')
		len--;
	int err =
		!account || !role
			? -ENOMEM
			: text_printf(ret, "%.*s/federation/credentials?account_id=%s&role_name=%s",
				  len ? (int)len : (int)strlen(endpoint),
				  len ? t->places->sso_endpoint : endpoint, account, role);
	curl_free(account);
	curl_free(role);
	return err;
}

static int refuse(struct auth_try *t, const struct auth_answer *answer)
{
	cleanup_json json_t *root = auth_json_load(answer->body, answer->len, 0);
	const char *message = json_string_value(json_object_get(root, "message"));
	if (answer->status == 401)
		return auth_fail(t, -EKEYEXPIRED, t->recipe->remedy,
			"the SSO sign-in is not valid any more");
	if (answer->status == 403 || answer->status == 404 || answer->status == 400)
		return auth_fail(t, -EACCES, "see sso_account_id and sso_role_name of the profile",
			"SSO refuses role %.60s of account %.20s: %.160s", t->recipe->sso.role,
			t->recipe->sso.account, message ? message : "it gives no reason");
	return auth_fail(t, -EAGAIN, NULL, "SSO: status %d", answer->status);
}

int auth_from_sso(struct auth_try *t, struct s3_credentials *ret)
{
	cleanup_secret char *header = NULL;
	cleanup_free char *url = NULL;
	cleanup_answer struct auth_answer answer = {.status = 0};
	const char *wrong;
	int err = take_token(t, &header);
	if (!err)
		err = url_for(t, &url);
	if (err)
		return err;
	struct auth_request req = {.method = "GET", .url = url, .headers = header};
	err = auth_ask(t, &req, &answer);
	if (err)
		return err;
	if (answer.status != 200)
		return refuse(t, &answer);
	cleanup_json json_t *root = auth_json_load(answer.body, answer.len, 0);
	if (auth_keys_from_json(json_object_get(root, "roleCredentials"), ret, &wrong))
		return auth_fail(t, -EAGAIN, NULL, "SSO: %s", wrong);
	return 0;
}
