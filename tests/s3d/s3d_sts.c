/*
 * sts - AssumeRole, AssumeRoleWithWebIdentity and GetDataAccess; the script of all services, and
 * the credentials they give out.
 */
#include "s3d_services.h"
#include "s3d_xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCRIPT_MAX_BYTES 65536
#define LIFETIME_DEFAULT_S 3600

/* --- the script --- */

static bool line_take(struct service_line *line, const char *from, size_t len, const char *word,
	const char *second)
{
	char *rest, *next;

	free(line->text);
	*line = (struct service_line){.text = str_dupn(from, len)};
	rest = line->text;
	while ((next = strsep(&rest, " \t")) && line->words_len < ARRAY_SIZE(line->words))
		if (*next)
			line->words[line->words_len++] = next;
	return line->words_len && !strcmp(line->words[0], word) &&
		(!second || (line->words_len > 1 && !strcmp(line->words[1], second)));
}

static char *script_read(const struct request *request)
{
	FILE *file = fopen(request->server->options.services, "re");
	char *text = mem_zalloc(SCRIPT_MAX_BYTES + 1);

	if (file) {
		text[fread(text, 1, SCRIPT_MAX_BYTES, file)] = '\0';
		fclose(file);
	}
	return text;
}

void service_line_find(const struct request *request, const char *word, const char *second,
	struct service_line *ret)
{
	AUTO(free_str) char *text = script_read(request);

	*ret = (struct service_line){.text = NULL};
	for (const char *at = text; *at; at += *at == '\n') {
		size_t len = strcspn(at, "\n");

		if (line_take(ret, at, len, word, second))
			return;
		at += len;
	}
	ret->words_len = 0;
}

void service_line_release(struct service_line *line)
{
	free(line->text);
	line->text = NULL;
}

const char *service_line_value(const struct service_line *line, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 1; i < line->words_len; i++) {
		if (!strncmp(line->words[i], name, len) && line->words[i][len] == '=')
			return line->words[i] + len + 1;
	}
	return NULL;
}

/* --- giving out --- */

/* The n-th of a list with commas (from 0), or its last one. */
static char *list_item(const char *list, unsigned long n)
{
	const char *comma;

	while (n-- && (comma = strchr(list, ',')))
		list = comma + 1;
	return str_dupn(list, strcspn(list, ","));
}

static int64_t number_or(const char *text, int64_t otherwise)
{
	int64_t v;

	return text && !str_to_i64(text, &v) ? v : otherwise;
}

void service_keys_issue(struct request *request, const char *bucket, const char *prefix,
	bool read_only, struct service_keys *ret)
{
	static _Atomic unsigned long issued;
	AUTO(service_line_release) struct service_line line = {0};
	AUTO(free_str) char *lifetime = NULL;
	int64_t now_ms = time_now_ms(), lifetime_s, told_s;
	const struct sig_key *key;

	service_line_find(request, "lifetime", NULL, &line);
	lifetime = list_item(line.words_len > 1 ? line.words[1] : "", issued++);
	lifetime_s = number_or(lifetime, LIFETIME_DEFAULT_S);
	told_s = number_or(service_line_value(&line, "told"), lifetime_s);
	key = sig_keys_issue(&request->server->keys, bucket, prefix, read_only,
		now_ms + 1000 * lifetime_s);
	*ret = (struct service_keys){.access = key->access, .secret = key->secret,
		.token = key->token, .told_expiry_ms = now_ms + 1000 * told_s};
}

static void write_credentials(struct buf *out, const struct service_keys *keys)
{
	char when[32];

	time_format_iso(keys->told_expiry_ms, when, sizeof(when));
	xml_open(out, "Credentials");
	xml_text(out, "AccessKeyId", keys->access);
	xml_text(out, "SecretAccessKey", keys->secret);
	xml_text(out, "SessionToken", keys->token);
	xml_text(out, "Expiration", when);
	xml_close(out, "Credentials");
}

/* --- STS --- */

/* As STS says no: <ErrorResponse><Error>. */
static void sts_refuse(struct request *request, int status, const char *code, const char *message)
{
	AUTO(buf_release) struct buf out = {0};

	request->reply.code = code;
	buf_str(&out, "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">");
	xml_open(&out, "Error");
	xml_text(&out, "Type", "Sender");
	xml_text(&out, "Code", code);
	xml_text(&out, "Message", message);
	buf_str(&out, "</Error><RequestId>1</RequestId></ErrorResponse>");
	reply_xml(request, status, &out);
}

/* The value of a form's field, NULL if absent. */
static char *form_value(const struct request *request, const char *name)
{
	size_t name_len = strlen(name);
	char *value;

	for (const char *at = buf_text(&request->body.memory); *at; at += *at == '&') {
		size_t len = strcspn(at, "&");

		if (len > name_len && !strncmp(at, name, name_len) && at[name_len] == '=')
			return uri_decode(at + name_len + 1, len - name_len - 1, true, &value)
				? NULL : value;
		at += len;
	}
	return NULL;
}

static bool word_is(const char *want, const char *got)
{
	return !want || (got && !strcmp(want, got));
}

static void reply_assumed(struct request *request, const char *action, const char *role,
	const struct service_line *line)
{
	AUTO(buf_release) struct buf out = {0};
	AUTO(free_str) char *limit = str_dup(service_line_value(line, "limit")
		? service_line_value(line, "limit") : "");
	char *slash = strchr(limit, '/');
	struct service_keys keys;

	if (slash)
		*slash++ = '\0';
	service_keys_issue(request, *limit ? limit : NULL, slash ? slash : "", false, &keys);
	buf_printf(&out, "<%sResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><%sResult>",
		action, action);
	xml_open(&out, "AssumedRoleUser");
	xml_text(&out, "AssumedRoleId", "AROAEXAMPLE:session");
	xml_text(&out, "Arn", role);
	xml_close(&out, "AssumedRoleUser");
	write_credentials(&out, &keys);
	buf_printf(&out, "</%sResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>"
		"</%sResponse>", action, action);
	reply_xml(request, 200, &out);
}

static void assume(struct request *request, const char *action)
{
	AUTO(free_str) char *role = form_value(request, "RoleArn");
	AUTO(free_str) char *session = form_value(request, "RoleSessionName");
	AUTO(free_str) char *external = form_value(request, "ExternalId");
	AUTO(service_line_release) struct service_line line = {0};
	const char *by = request->sig.key ? request->sig.key->access : NULL;

	if (!role || !session || !*session) {
		sts_refuse(request, 400, "ValidationError", "RoleArn and RoleSessionName are needed");
		return;
	}
	service_line_find(request, "role", role, &line);
	if (!line.words_len || !word_is(service_line_value(&line, "external"), external) ||
		(by && !word_is(service_line_value(&line, "by"), by))) {
		sts_refuse(request, 403, "AccessDenied", "is not authorized to perform: sts:AssumeRole");
		return;
	}
	reply_assumed(request, action, role, &line);
}

static void assume_by_token(struct request *request)
{
	AUTO(free_str) char *token = form_value(request, "WebIdentityToken");
	AUTO(service_line_release) struct service_line line = {0};

	service_line_find(request, "web-token", NULL, &line);
	if (line.words_len < 2 || !word_is(line.words[1], token)) {
		sts_refuse(request, 400, "ExpiredTokenException", "Token expired");
		return;
	}
	assume(request, "AssumeRoleWithWebIdentity");
}

/* A form's signature covers its body, so it is checked here, when that has come. */
void handle_sts(struct request *request)
{
	AUTO(free_str) char *action = form_value(request, "Action");
	enum s3d_error error = ERROR_NONE;

	if (action && !strcmp(action, "AssumeRoleWithWebIdentity")) {
		assume_by_token(request);
		return;
	}
	error = request_check_signature(request, "sts", &request->body.memory);
	if (error)
		sts_refuse(request, error_text(error)->status,
			error == ERROR_INVALID_ACCESS_KEY ? "InvalidClientTokenId"
							  : error_text(error)->code,
			error_text(error)->message);
	else if (action && !strcmp(action, "AssumeRole"))
		assume(request, "AssumeRole");
	else
		sts_refuse(request, 400, "InvalidAction", "Could not find operation");
}

/* --- S3 Access Grants --- */

static void grant_refuse(struct request *request, int status, const char *code,
	const char *message)
{
	AUTO(buf_release) struct buf out = {0};

	request->reply.code = code;
	buf_str(&out, "<ErrorResponse xmlns=\"http://awss3control.amazonaws.com/doc/2018-08-20/\">");
	xml_open(&out, "Error");
	xml_text(&out, "Code", code);
	xml_text(&out, "Message", message);
	buf_str(&out, "</Error></ErrorResponse>");
	reply_xml(request, status, &out);
}

static bool target_is_within(const char *target, const char *grant)
{
	size_t len = strlen(grant);

	return len && grant[len - 1] == '*' && !strncmp(target, grant, len - 1);
}

static bool grant_fits(const struct service_line *line, const struct request *request,
	const char *target, const char *permission)
{
	const char *has = line->words_len > 2 && !strchr(line->words[2], '=') ? line->words[2]
									      : "READWRITE";
	const char *by = service_line_value(line, "by");

	return line->words_len > 1 && !strcmp(line->words[0], "grant") &&
		target_is_within(target, line->words[1]) &&
		(!strcmp(has, "READWRITE") || !strcmp(has, permission)) &&
		word_is(by, request->sig.key ? request->sig.key->access : by);
}

/* The first grant that covers the target with this permission. */
static bool grant_find(const struct request *request, const char *target, const char *permission,
	struct service_line *ret)
{
	AUTO(free_str) char *text = script_read(request);

	for (const char *at = text; *at; at += *at == '\n') {
		size_t len = strcspn(at, "\n");

		if (line_take(ret, at, len, "grant", NULL) &&
			grant_fits(ret, request, target, permission))
			return true;
		at += len;
	}
	return false;
}

static void reply_granted(struct request *request, const struct service_line *line,
	const char *permission)
{
	AUTO(buf_release) struct buf out = {0};
	AUTO(free_str) char *grant = str_dup(line->words[1] + strlen("s3://"));
	const char *matched = service_line_value(line, "matched");
	char *slash = strchr(grant, '/');
	struct service_keys keys;

	*strrchr(grant, '*') = '\0';
	if (slash)
		*slash++ = '\0';
	service_keys_issue(request, grant, slash ? slash : "", !strcmp(permission, "READ"), &keys);
	buf_str(&out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<GetDataAccessResult "
		"xmlns=\"http://awss3control.amazonaws.com/doc/2018-08-20/\">");
	write_credentials(&out, &keys);
	xml_text(&out, "MatchedGrantTarget", matched ? matched : line->words[1]);
	buf_str(&out, "<Grantee><GranteeType>IAM</GranteeType><GranteeIdentifier>"
		"arn:aws:iam::123456789012:user/contributor</GranteeIdentifier></Grantee>"
		"</GetDataAccessResult>");
	reply_xml(request, 200, &out);
}

void handle_get_data_access(struct request *request)
{
	AUTO(service_line_release) struct service_line account = {0};
	AUTO(service_line_release) struct service_line grant = {0};
	const char *target = request_parameter(request, "target");
	const char *permission = request_parameter(request, "permission");
	const char *duration = request_parameter(request, "durationSeconds");
	int64_t seconds = number_or(duration, LIFETIME_DEFAULT_S);

	service_line_find(request, "account", NULL, &account);
	if (!target || !permission || seconds < 900 || seconds > 43200)
		grant_refuse(request, 400, "InvalidRequest", "Invalid request");
	else if (account.words_len > 1 &&
		!word_is(account.words[1], request_header(request, "x-amz-account-id")))
		grant_refuse(request, 403, "AccessDenied",
			"not authorized to perform: s3:GetDataAccess on resource");
	else if (!grant_find(request, target, permission, &grant))
		grant_refuse(request, 403, "AccessDenied", "No matching grant found");
	else
		reply_granted(request, &grant, permission);
}
