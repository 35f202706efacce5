/*
 * request - reading a request: headers, URI, query, conditions.
 */
#include "s3d_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *request_header(const struct request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *request_parameter(const struct request *request, const char *name)
{
	for (size_t i = 0; i < request->parameters_len; i++) {
		if (!strcmp(request->parameters[i].name, name))
			return request->parameters[i].value;
	}
	return NULL;
}

void request_split_uri(struct request *request, const char *uri)
{
	const char *query = strchr(uri, '?');

	if (str_starts(uri, "http://") || str_starts(uri, "https://")) {
		const char *path = strchr(strstr(uri, "//") + 2, '/');

		uri = path ? path : "/";
	}
	request->raw_path = query ? str_dupn(uri, (size_t)(query - uri)) : str_dup(uri);
	request->raw_query = query ? str_dup(query + 1) : NULL;
}

static int request_add_parameter(struct request *request, const char *raw, size_t len)
{
	const char *equals = memchr(raw, '=', len);
	size_t name_len = equals ? (size_t)(equals - raw) : len;
	AUTO(free_str) char *name = NULL;
	char *value;

	if (uri_decode(raw, name_len, true, &name))
		return -EINVAL;
	if (!equals)
		value = str_dup("");
	else if (uri_decode(equals + 1, len - name_len - 1, true, &value))
		return -EINVAL;
	request->parameters = mem_realloc(request->parameters,
		(request->parameters_len + 1) * sizeof(*request->parameters));
	request->parameters[request->parameters_len++] =
		(struct parameter){.name = name, .value = value};
	name = NULL;
	return 0;
}

int request_parse_query(struct request *request)
{
	int r = 0;

	for (const char *p = request->raw_query; p && *p && !r; p += *p == '&') {
		size_t len = strcspn(p, "&");

		if (len)
			r = request_add_parameter(request, p, len);
		p += len;
	}
	return r;
}

struct conditions request_conditions(const struct request *request, bool is_put)
{
	enum conditions_mode mode = request->server->options.conditions;

	if (mode == CONDITIONS_OFF || (mode == CONDITIONS_PUT && !is_put))
		return (struct conditions){0};
	return (struct conditions){.if_match = request_header(request, "if-match"),
		.if_none_match = request_header(request, "if-none-match")};
}

static bool header_is_stored(const char *name)
{
	static const char *const names[] = {"content-type", "cache-control", "content-disposition",
		"content-encoding", "content-language", "expires", "x-amz-storage-class",
		"x-amz-website-redirect-location"};

	if (!strncasecmp(name, "x-amz-meta-", strlen("x-amz-meta-")))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcasecmp(name, names[i]))
			return true;
	}
	return false;
}

/* `aws-chunked` is how the body came, not what it is. */
static char *header_stored_value(const char *name, const char *value)
{
	if (strcasecmp(name, "content-encoding") || !str_starts(value, "aws-chunked"))
		return str_dup(value);
	value += strlen("aws-chunked");
	return str_dup(value + strspn(value, ", "));
}

static enum MHD_Result stored_header_visit(void *cls, enum MHD_ValueKind kind, const char *name,
	const char *value)
{
	struct buf *out = cls;
	AUTO(free_str) char *kept = NULL;

	(void)kind;
	if (!value || !header_is_stored(name))
		return MHD_YES;
	kept = header_stored_value(name, value);
	if (!*kept)
		return MHD_YES;
	for (; *name; name++)
		buf_char(out, *name >= 'A' && *name <= 'Z' ? (char)(*name + 32) : *name);
	buf_printf(out, ": %s\n", kept);
	return MHD_YES;
}

char *request_stored_headers(const struct request *request)
{
	struct buf out = {0};

	MHD_get_connection_values(request->connection, MHD_HEADER_KIND, stored_header_visit, &out);
	return buf_steal(&out);
}

uint64_t request_number(const struct request *request, const char *name, uint64_t otherwise,
	bool *ret_bad)
{
	const char *text = request_parameter(request, name);
	uint64_t v;

	if (!text)
		return otherwise;
	if (str_to_u64(text, &v)) {
		*ret_bad = true;
		return otherwise;
	}
	return v;
}

void request_release(struct request *request)
{
	body_release(&request->body);
	reply_release(&request->reply);
	for (size_t i = 0; i < request->parameters_len; i++) {
		free(request->parameters[i].name);
		free(request->parameters[i].value);
	}
	free(request->parameters);
	free(request->method);
	free(request->raw_path);
	free(request->raw_query);
	free(request->bucket_name);
	free(request->key);
	free(request);
}
