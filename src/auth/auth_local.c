/*
 * Services of the machine itself: the container's endpoint (ECS, EKS), and EC2 instance metadata in
 * version 2, whose token keeps others from being led to ask in our name.
 *
 * A full container address may be https anywhere, but plain http only at loopback and the three
 * link-local addresses that AWS uses: else a set variable could send the token to anybody.
 *
 * Source: AWS SDKs and Tools Reference Guide, "Container credential provider" and "IMDS credential
 * provider".
 */
#include "auth_keys.h"
#include "auth_try.h"

#define LOCAL_CONNECT_MS 1000
#define LOCAL_ANSWER_MS 5000
#define CONTAINER_ENDPOINT "http://169.254.170.2"
#define METADATA_ENDPOINT "http://169.254.169.254"
#define METADATA_TTL "21600"

static void set_local(struct auth_request *req)
{
	req->never_by_proxy = true;
	req->connect_timeout_ms = LOCAL_CONNECT_MS;
	req->timeout_ms = LOCAL_ANSWER_MS;
}

/* ---- container ------------------------------------------------------------------------------ */

static bool is_allowed_plain(const char *hostname)
{
	static const char *const hosts[] = {
		"localhost", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "[::1]"};
	for (size_t i = 0; i < array_len(hosts); i++)
		if (strcasecmp(hosts[i], hostname) == 0)
			return true;
	unsigned a, b, c, d;
	char end;
	return sscanf(hostname, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &end) == 4 && a == 127;
}

static int container_url(struct auth_try *t, char **ret)
{
	const struct auth_places *p = t->places;
	struct auth_url url;
	if (p->container_relative[0])
		return text_printf(ret, "%s%s%s", CONTAINER_ENDPOINT,
			p->container_relative[0] == '/' ? "" : "/", p->container_relative);
	if (auth_url_parse(&url, p->container_full))
		return auth_fail(t, -EINVAL, "correct it",
			"AWS_CONTAINER_CREDENTIALS_FULL_URI is no http or https address");
	if (url.is_plain && !is_allowed_plain(url.hostname))
		return auth_fail(t, -EINVAL,
			"use https, loopback, or the address of the container agent",
			"AWS_CONTAINER_CREDENTIALS_FULL_URI: plain http to %.100s is not safe",
			url.hostname);
	*ret = text_dup(p->container_full);
	return *ret ? 0 : -ENOMEM;
}

/* The authorization header, or "" if none is wanted. */
static int container_header(struct auth_try *t, char **ret)
{
	const struct auth_places *p = t->places;
	cleanup_secret char *token = NULL;
	const char *value = p->environment->container_token;
	if (p->container_token_path[0]) {
		int err = auth_read_token(p->container_token_path, &token);
		if (err == -ENOMEM)
			return err;
		if (err)
			return auth_fail(t, -EAGAIN, NULL, "the token file %.200s: %s",
				p->container_token_path, strerror(-err));
		value = token;
	}
	if (strpbrk(value, "\r\n"))
		return auth_fail(t, -EINVAL, "correct it",
			"AWS_CONTAINER_AUTHORIZATION_TOKEN holds a line break");
	size_t size = strlen(value) + 32;
	*ret = secret_alloc(size);
	if (!*ret)
		return -ENOMEM;
	if (*value)
		snprintf(*ret, size, "Authorization: %s\n", value);
	return 0;
}

int auth_from_container(struct auth_try *t, struct s3_credentials *ret)
{
	cleanup_free char *url = NULL;
	cleanup_secret char *header = NULL;
	cleanup_answer struct auth_answer answer = {.status = 0};
	int err = container_url(t, &url);
	if (!err)
		err = container_header(t, &header);
	if (err)
		return err;
	struct auth_request req = {.method = "GET", .url = url, .headers = header};
	set_local(&req);
	err = auth_ask(t, &req, &answer);
	if (err)
		return err;
	if (answer.status != 200)
		return auth_fail(t,
			answer.status >= 400 && answer.status < 500 && answer.status != 429
				? -EACCES
				: -EAGAIN,
			t->recipe->remedy, "the container's credentials endpoint says %d",
			answer.status);
	return auth_take_json(
		t, answer.body, answer.len, "the container's credentials endpoint", ret);
}

/* ---- EC2 ------------------------------------------------------------------------------------ */

static const char *metadata_root(const struct auth_try *t, int *ret_len)
{
	const char *root =
		t->places->metadata_endpoint[0] ? t->places->metadata_endpoint : METADATA_ENDPOINT;
	*ret_len = (int)strlen(root);
	while (*ret_len && root[*ret_len - 1] == '/')
		(*ret_len)--;
	return root;
}

static int metadata_ask(struct auth_try *t, const char *method, const char *path, const char *name,
	const char *headers, struct auth_answer *ret)
{
	cleanup_free char *url = NULL;
	int len;
	const char *root = metadata_root(t, &len);
	*ret = (struct auth_answer){.status = 0};
	if (text_printf(&url, "%.*s/latest/%s%s", len, root, path, name))
		return -ENOMEM;
	struct auth_request req = {.method = method, .url = url, .headers = headers};
	set_local(&req);
	return auth_ask(t, &req, ret);
}

static int metadata_token(struct auth_try *t, char **ret_header)
{
	cleanup_answer struct auth_answer answer = {.status = 0};
	int err = metadata_ask(t, "PUT", "api/token", "",
		"X-aws-ec2-metadata-token-ttl-seconds: " METADATA_TTL "\nContent-Length: 0\n",
		&answer);
	if (err == -EAGAIN) /* no EC2, most likely */
		return auth_fail(t, -ENOKEY, t->recipe->remedy, "no credentials were found");
	if (err)
		return err;
	size_t len = strcspn(answer.body, "\r\n");
	if (answer.status != 200 || !len || len != strlen(answer.body))
		return auth_fail(t, answer.status >= 500 ? -EAGAIN : -ENOKEY, t->recipe->remedy,
			"no credentials were found (instance metadata says %d)", answer.status);
	*ret_header = secret_alloc(len + 64);
	if (!*ret_header)
		return -ENOMEM;
	snprintf(*ret_header, len + 64, "X-aws-ec2-metadata-token: %s\n", answer.body);
	return 0;
}

/* The first line of the list is the role; its name goes into a path. */
static int metadata_role(struct auth_try *t, const char *header, char role[128])
{
	cleanup_answer struct auth_answer answer = {.status = 0};
	int err =
		metadata_ask(t, "GET", "meta-data/iam/security-credentials/", "", header, &answer);
	if (err)
		return err;
	if (answer.status == 404)
		return auth_fail(t, -ENOKEY, t->recipe->remedy,
			"no credentials were found (this EC2 instance has no role)");
	answer.body[strcspn(answer.body, "\r\n")] = '\0';
	bool is_name = strspn(answer.body, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					   "0123456789+=,.@_-") == strlen(answer.body);
	if (answer.status != 200 || !is_name || !text_copy(role, answer.body, 128) || !*role)
		return auth_fail(t, -EAGAIN, NULL,
			"instance metadata: status %d and no role's name", answer.status);
	return 0;
}

int auth_from_instance(struct auth_try *t, struct s3_credentials *ret)
{
	cleanup_secret char *header = NULL;
	cleanup_answer struct auth_answer answer = {.status = 0};
	char role[128];
	int err = metadata_token(t, &header);
	if (!err)
		err = metadata_role(t, header, role);
	if (!err)
		err = metadata_ask(
			t, "GET", "meta-data/iam/security-credentials/", role, header, &answer);
	if (err)
		return err;
	if (answer.status != 200)
		return auth_fail(t, -EAGAIN, NULL, "instance metadata: status %d", answer.status);
	return auth_take_json(t, answer.body, answer.len, "instance metadata", ret);
}
