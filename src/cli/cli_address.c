/*
 * cli_address - "s3://BUCKET/PREFIX" and --prefix as people type them, and what they meant.
 */
#include "cli_private.h"

bool cli_bucket_is_valid(const char *bucket)
{
	size_t len = strlen(bucket);
	if (len < 3 || len > 63)
		return false;
	return strspn(bucket,
		       "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == len;
}

/* ---- what is typed wrong -------------------------------------------------------------------- */

/* Placeholders of instructions that were copied as they stood. */
static bool is_placeholder(const char *text)
{
	static const char *const marks[] = {"YOUR_", "<", ">", "${", "cpgXXXX", "cpgxxxx"};
	for (size_t i = 0; i < array_len(marks); i++)
		if (strstr(text, marks[i]))
			return true;
	return false;
}

bool cli_prefix_mistake(const char *prefix, char *out, size_t size)
{
	size_t len = strlen(prefix);
	if (text_starts(prefix, "s3://")) {
		const char *rest = strchr(prefix + 5, '/');
		snprintf(out, size, "a prefix is what follows the bucket: --prefix %s",
			rest && rest[1] ? rest + 1 : "cpg0123-example/broad");
	} else if (is_placeholder(prefix)) {
		snprintf(out, size,
			"that is a placeholder: put the prefix there that you were given, such as "
			"cpg0123-example/broad");
	} else if (text_ends(prefix, "*")) {
		while (len && strchr("/*", prefix[len - 1]))
			len--;
		snprintf(out, size, "no * belongs at the end of a prefix here: %.*s",
			len ? (int)len : 20, len ? prefix : "cpg0123-example/broad");
	} else if (strchr(prefix, '\\')) {
		snprintf(out, size, "a prefix has / between its folders, no \\");
	} else if (len &&
		   (strchr(" \t\r\n'\"", prefix[0]) || strchr(" \t\r\n'\"", prefix[len - 1]))) {
		snprintf(out, size, "there is a blank or a quote at an end of it");
	} else if (prefix[0] == '/') {
		snprintf(out, size, "a prefix begins without a slash: %s",
			prefix + strspn(prefix, "/"));
	} else {
		return false;
	}
	return true;
}

static void complain_address(const char *address)
{
	const char *colon = strstr(address, ":::");
	if (text_starts(address, "http://") || text_starts(address, "https://"))
		cli_error("\"%s\" is a web address: name the bucket as s3://BUCKET/PREFIX, and a "
			  "server "
			  "other than AWS with --endpoint",
			address);
	else if (text_starts(address, "arn:") && colon)
		cli_error("\"%s\": write it as s3://%s", address, colon + 3);
	else if (strncasecmp(address, "s3:", 3) == 0)
		cli_error("\"%s\": write it as s3://%s", address,
			address + 3 + strspn(address + 3, "/"));
	else
		cli_error("\"%s\" is not an address like s3://BUCKET/PREFIX", address);
}

/* ---- parts ---------------------------------------------------------------------------------- */

static int set_bucket(struct cli_mount *m, const char *bucket, size_t len, const char *address)
{
	char *copy = strndup(bucket, len);
	if (!copy)
		return -ENOMEM;
	free(m->bucket);
	m->bucket = copy;
	if (cli_bucket_is_valid(copy))
		return 0;
	cli_error("\"%s\" in %s is not a bucket name", copy, address);
	return -EINVAL;
}

static int set_prefix(struct cli_mount *m, const char *text, const char *where)
{
	char mistake[512], prefix[KEY_MAX_BYTES + 1];
	if (cli_prefix_mistake(text, mistake, sizeof(mistake))) {
		cli_error("the prefix \"%s\": %s", text, mistake);
		return -EINVAL;
	}
	if (prefix_normalise(text, prefix) < 0) {
		cli_error(
			"the prefix of %s has an empty, \".\" or \"..\" component, or is too long",
			where);
		return -EINVAL;
	}
	m->prefix = text_dup(prefix);
	return m->prefix ? 0 : -ENOMEM;
}

int cli_address_fill(struct cli_mount *m, const char *address)
{
	const char *prefix = "";
	if (address) {
		if (!text_starts(address, "s3://")) {
			complain_address(address);
			return -EINVAL;
		}
		const char *bucket = address + 5;
		size_t len = strcspn(bucket, "/");
		int r = set_bucket(m, bucket, len, address);
		if (r < 0)
			return r;
		prefix = bucket[len] ? bucket + len + 1 : "";
	}
	if (m->prefix_option && *prefix) {
		cli_error("%s names a prefix already: leave --prefix %s away, or the one of the "
			  "address",
			address, m->prefix_option);
		return -EINVAL;
	}
	if (m->prefix_option)
		return set_prefix(m, m->prefix_option, "--prefix");
	return set_prefix(m, prefix, address ? address : "--prefix");
}
