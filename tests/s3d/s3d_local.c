/*
 * local - services that a machine asks about itself, without signatures: SSO by its cached token,
 * the container's endpoint, EC2 instance metadata in version 2. Which request is for which service.
 */
#include "s3d_services.h"

#include <stdio.h>
#include <string.h>

#define METADATA_TOKEN "s3d-metadata-token"
#define ROLES_PATH "/latest/meta-data/iam/security-credentials/"

static const struct {
	const char *path; /* the request's begins so; "=" before it: is so */
	struct operation operation;
} services[] = {
	{"=/", {"AssumeRole", "POST", LEVEL_SERVICE, .body = BODY_MEMORY,
		.flags = OPERATION_CHECKS_SIGNATURE, .handle = handle_sts}},
	{"=/v20180820/accessgrantsinstance/dataaccess",
		{"GetDataAccess", "GET", LEVEL_SERVICE, .handle = handle_get_data_access}},
	{"=/federation/credentials", {"GetRoleCredentials", "GET", LEVEL_SERVICE,
		.flags = OPERATION_CHECKS_SIGNATURE, .handle = handle_get_role_credentials}},
	{"/container/", {"ContainerCredentials", "GET", LEVEL_SERVICE,
		.flags = OPERATION_CHECKS_SIGNATURE, .handle = handle_container_credentials}},
	{"=/latest/api/token", {"MetadataToken", "PUT", LEVEL_SERVICE,
		.flags = OPERATION_CHECKS_SIGNATURE, .handle = handle_metadata_token}},
	{ROLES_PATH, {"MetadataRole", "GET", LEVEL_SERVICE,
		.flags = OPERATION_CHECKS_SIGNATURE, .handle = handle_metadata_role}},
};

const struct operation *services_operation(const struct request *request)
{
	if (!request->server->options.services)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(services); i++) {
		const char *path = services[i].path;
		bool fits = *path == '=' ? !strcmp(request->raw_path, path + 1)
					 : str_starts(request->raw_path, path);

		if (fits && !strcmp(services[i].operation.method, request->method))
			return &services[i].operation;
	}
	return NULL;
}

static void reply_plain(struct request *request, int status, const char *type, const char *text)
{
	AUTO(buf_release) struct buf out = {0};

	buf_str(&out, text);
	reply_xml(request, status, &out);
	reply_drop_header(&request->reply, "content-type");
	reply_header(request, "Content-Type", "%s", type);
	if (status >= 400)
		request->reply.code = "Refused";
}

/* --- SSO --- */

void handle_get_role_credentials(struct request *request)
{
	AUTO(service_line_release) struct service_line line = {0};
	AUTO(free_str) char *json = NULL;
	const char *token = request_header(request, "x-amz-sso_bearer_token");
	struct service_keys keys;

	service_line_find(request, "sso-token", NULL, &line);
	if (line.words_len < 2 || !token || strcmp(token, line.words[1])) {
		reply_plain(request, 401, "application/json",
			"{\"message\": \"Session token not found or invalid\"}");
		return;
	}
	if (!request_parameter(request, "account_id") || !request_parameter(request, "role_name")) {
		reply_plain(request, 400, "application/json", "{\"message\": \"No role\"}");
		return;
	}
	service_keys_issue(request, NULL, NULL, false, &keys);
	json = str_printf("{\"roleCredentials\": {\"accessKeyId\": \"%s\", \"secretAccessKey\": "
			  "\"%s\", \"sessionToken\": \"%s\", \"expiration\": %lld}}",
		keys.access, keys.secret, keys.token, (long long)keys.told_expiry_ms);
	reply_plain(request, 200, "application/json", json);
}

/* --- containers and instances --- */

static void reply_keys(struct request *request)
{
	AUTO(free_str) char *json = NULL;
	struct service_keys keys;
	char when[32];

	service_keys_issue(request, NULL, NULL, false, &keys);
	time_format_iso(keys.told_expiry_ms, when, sizeof(when));
	json = str_printf("{\"Code\": \"Success\", \"Type\": \"AWS-HMAC\", \"AccessKeyId\": \"%s\", "
			  "\"SecretAccessKey\": \"%s\", \"Token\": \"%s\", \"Expiration\": \"%s\"}",
		keys.access, keys.secret, keys.token, when);
	reply_plain(request, 200, "application/json", json);
}

void handle_container_credentials(struct request *request)
{
	AUTO(service_line_release) struct service_line line = {0};
	const char *token = request_header(request, "authorization");

	service_line_find(request, "container-token", NULL, &line);
	if (line.words_len > 1 && (!token || strcmp(token, line.words[1])))
		reply_plain(request, 401, "application/json", "{\"message\": \"unauthorized\"}");
	else
		reply_keys(request);
}

void handle_metadata_token(struct request *request)
{
	const char *ttl = request_header(request, "x-aws-ec2-metadata-token-ttl-seconds");

	if (ttl)
		reply_plain(request, 200, "text/plain", METADATA_TOKEN);
	else
		reply_plain(request, 400, "text/plain", "");
}

void handle_metadata_role(struct request *request)
{
	AUTO(service_line_release) struct service_line line = {0};
	const char *token = request_header(request, "x-aws-ec2-metadata-token");
	const char *role = request->raw_path + strlen(ROLES_PATH);

	service_line_find(request, "metadata-role", NULL, &line);
	if (!token || strcmp(token, METADATA_TOKEN))
		reply_plain(request, 401, "text/plain", "");
	else if (line.words_len < 2 || (*role && strcmp(role, line.words[1])))
		reply_plain(request, 404, "text/plain", "");
	else if (!*role)
		reply_plain(request, 200, "text/plain", line.words[1]);
	else
		reply_keys(request);
}
