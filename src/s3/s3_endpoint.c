/*
 * Endpoint and addressing style. AWS: https://BUCKET.s3.REGION.amazonaws.com, but path style for a
 * bucket whose name is no single DNS label (its certificate would not match). A given endpoint:
 * path style, which every server understands.
 */
#include "s3_endpoint.h"

#include <curl/curl.h>

static bool is_word(const char *text, const char *also, size_t max)
{
	size_t len = strlen(text);
	if (!len || len > max)
		return false;
	for (const char *p = text; *p; p++) {
		bool alnum = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			     (*p >= '0' && *p <= '9');
		if (!alnum && !strchr(also, *p))
			return false;
	}
	return true;
}

static bool is_dns_label(const char *bucket)
{
	for (const char *p = bucket; *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-'))
			return false;
	return strlen(bucket) >= 3 && strlen(bucket) <= 63;
}

static void aws_endpoint(struct s3_endpoint *e)
{
	const char *domain = text_starts(e->region, "cn-") ? "amazonaws.com.cn" : "amazonaws.com";
	e->is_aws = e->is_private = true;
	e->path_style = !is_dns_label(e->bucket);
	if (e->path_style)
		snprintf(e->host, sizeof(e->host), "s3.%s.%s", e->region, domain);
	else
		snprintf(e->host, sizeof(e->host), "%s.s3.%s.%s", e->bucket, e->region, domain);
	snprintf(e->root, sizeof(e->root), "https://%.400s", e->host);
}

static bool is_loopback(const char *host)
{
	return strcasecmp(host, "localhost") == 0 || text_starts(host, "127.") ||
	       strcmp(host, "[::1]") == 0;
}

struct url_parts {
	char *scheme, *host, *port, *path, *user, *query;
};

static void url_parts_release(struct url_parts *u)
{
	char **all[] = {&u->scheme, &u->host, &u->port, &u->path, &u->user, &u->query};
	for (size_t i = 0; i < array_len(all); i++)
		curl_free(*all[i]);
}

static int url_error(CURLUcode code)
{
	if (code == CURLUE_OUT_OF_MEMORY)
		return -ENOMEM;
	return code == CURLUE_OK ? 0 : -EINVAL;
}

/* What may be absent stays NULL. */
static int url_part_take(CURLU *url, CURLUPart part, bool must_be, char **ret)
{
	CURLUcode code = curl_url_get(
		url, part, ret, part == CURLUPART_PORT ? CURLU_NO_DEFAULT_PORT : 0);
	return must_be || code == CURLUE_OUT_OF_MEMORY ? url_error(code) : 0;
}

static int url_parts_take(struct url_parts *u, CURLU *url)
{
	int err = url_part_take(url, CURLUPART_SCHEME, true, &u->scheme);
	if (!err)
		err = url_part_take(url, CURLUPART_HOST, true, &u->host);
	if (!err)
		err = url_part_take(url, CURLUPART_PATH, true, &u->path);
	if (!err)
		err = url_part_take(url, CURLUPART_PORT, false, &u->port);
	if (!err)
		err = url_part_take(url, CURLUPART_USER, false, &u->user);
	if (!err)
		err = url_part_take(url, CURLUPART_QUERY, false, &u->query);
	if (err)
		return err;
	bool http = strcmp(u->scheme, "http") == 0, https = strcmp(u->scheme, "https") == 0;
	bool bare = strcmp(u->path, "/") == 0 && !u->user && !u->query;
	return (http || https) && bare ? 0 : -EINVAL;
}

static int named_endpoint(struct s3_endpoint *e, const struct url_parts *u)
{
	int len = snprintf(e->host, sizeof(e->host), "%s%s%s", u->host, u->port ? ":" : "",
		u->port ? u->port : "");
	if (len < 0 || (size_t)len >= sizeof(e->host))
		return -EINVAL;
	snprintf(e->root, sizeof(e->root), "%s://%.400s", u->scheme, e->host);
	e->path_style = true;
	e->is_aws = text_ends(u->host, ".amazonaws.com") || text_ends(u->host, ".amazonaws.com.cn");
	e->is_private = strcmp(u->scheme, "https") == 0 || is_loopback(u->host);
	return 0;
}

static int parse_endpoint(struct s3_endpoint *e, const char *text)
{
	CURLU *url = curl_url();
	if (!url)
		return -ENOMEM;
	struct url_parts parts = {0};
	int err = url_error(curl_url_set(url, CURLUPART_URL, text, 0));
	if (!err)
		err = url_parts_take(&parts, url);
	if (!err)
		err = named_endpoint(e, &parts);
	url_parts_release(&parts);
	curl_url_cleanup(url);
	return err;
}

int s3_endpoint_init(struct s3_endpoint *ret, const struct s3_config *config)
{
	const char *region = config->region && *config->region ? config->region : "us-east-1";
	struct s3_endpoint e = {0};
	if (!config->bucket || !is_word(config->bucket, "._-", sizeof(e.bucket) - 1) ||
		config->bucket[0] == '.' || !is_word(region, "-_", sizeof(e.region) - 1))
		return -EINVAL;
	text_copy(e.bucket, config->bucket, sizeof(e.bucket));
	text_copy(e.region, region, sizeof(e.region));
	if (config->endpoint) {
		int err = parse_endpoint(&e, config->endpoint);
		if (err)
			return err;
	} else {
		aws_endpoint(&e);
	}
	*ret = e;
	return 0;
}
