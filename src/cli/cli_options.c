/*
 * cli_options - one row per mount option: the parser (--name and -o name), --help, the man page
 * (contrib/man, made from --help) and status are all made from this table.
 */
#include "cli_options.h"

#include <inttypes.h>

static int parse_naming(struct cli_mount *m, const char *value)
{
	return naming_mode_parse(value, &m->naming.mode);
}

static int parse_clean_with(struct cli_mount *m, const char *value)
{
	if (strlen(value) > 1 || (value[0] && !strchr("_-", value[0])))
		return -EINVAL;
	m->naming.clean_with = value[0];
	return 0;
}

static int parse_layout(struct cli_mount *m, const char *value)
{
	return layout_mode_parse(value, &m->layout);
}

static int parse_view(struct cli_mount *m, const char *value)
{
	m->view_uploaded = strcmp(value, "uploaded") == 0;
	return m->view_uploaded || strcmp(value, "merged") == 0 ? 0 : -EINVAL;
}

static int parse_df(struct cli_mount *m, const char *value)
{
	m->df_unlimited = strcmp(value, "unlimited") == 0;
	return m->df_unlimited || strcmp(value, "buffer") == 0 ? 0 : -EINVAL;
}

static int parse_sign_payload(struct cli_mount *m, const char *value)
{
	m->sign_payload_always = strcmp(value, "always") == 0;
	return m->sign_payload_always || strcmp(value, "auto") == 0 ? 0 : -EINVAL;
}

static int parse_durability(struct cli_mount *m, const char *value)
{
	m->durability_close = strcmp(value, "close") == 0;
	return m->durability_close || strcmp(value, "flush") == 0 ? 0 : -EINVAL;
}

static int parse_passthrough(struct cli_mount *m, const char *value)
{
	m->passthrough = strcmp(value, "auto") == 0;
	return m->passthrough || strcmp(value, "off") == 0 ? 0 : -EINVAL;
}

static int parse_log_level(struct cli_mount *m, const char *value)
{
	return log_level_parse(value, &m->log_level);
}

#define FIELD(f) offsetof(struct cli_mount, f)

const struct option_row option_rows[] = {
	{ "gallery", OPTION_TEXT, FIELD(gallery), "NAME", NULL,
		"a gallery's bucket, region, way to get credentials, rules (cpgfs galleries lists them); "
		"other options given go before its own", NULL },
	{ "prefix", OPTION_TEXT, FIELD(prefix_option), "PREFIX", NULL,
		"what to mount of the bucket, if the address does not say: the prefix you were given, "
		"as cpg0123-example/broad", NULL },
	{ "endpoint", OPTION_TEXT, FIELD(endpoint), "URL", NULL,
		"S3 server, addressed path-style (also AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL); "
		"without it AWS, virtual-hosted over https", NULL },
	{ "region", OPTION_TEXT, FIELD(region), "NAME", NULL,
		"region to sign for (also AWS_REGION, the profile; else us-east-1)", NULL },
	{ "profile", OPTION_TEXT, FIELD(profile), "NAME", NULL,
		"profile in ~/.aws/credentials and ~/.aws/config; before keys in the environment", NULL },
	{ "access-grant", OPTION_FLAG, FIELD(access_grant), NULL, NULL,
		"exchange the keys for temporary ones of the prefix (S3 Access Grants), again before they "
		"expire", NULL },
	{ "account-id", OPTION_TEXT, FIELD(account_id), "NUMBER", NULL,
		"with access-grant: the account that grants, 12 digits", NULL },
	{ "no-sign-request", OPTION_FLAG, FIELD(no_sign_request), NULL, NULL,
		"no credentials: read a public bucket", NULL },
	{ "ca-bundle", OPTION_TEXT, FIELD(ca_bundle), "FILE", NULL,
		"certificates to trust (also AWS_CA_BUNDLE)", NULL },
	{ "acl", OPTION_TEXT, FIELD(acl), "ACL", "bucket-owner-full-control",
		"canned ACL of every object written; none: send no ACL", NULL },
	{ "cache-dir", OPTION_TEXT, FIELD(cache_dir), "DIR", NULL,
		"where the data waits (default: one folder per bucket and prefix under "
		"$XDG_STATE_HOME/cpgfs or ~/.local/state/cpgfs; one that is still under "
		"$XDG_CACHE_HOME/cpgfs or ~/.cache/cpgfs is used on)", NULL },
	{ "cache-size", OPTION_SIZE, FIELD(cache_size_bytes), "SIZE", "0",
		"most that the cache may hold; 0: what min-free leaves", NULL },
	{ "min-free", OPTION_SIZE, FIELD(min_free_bytes), "SIZE", "2G",
		"keep so much free on the cache's disk", NULL },
	{ "settle", OPTION_TIME, FIELD(settle_ms), "TIME", "2s",
		"upload a file this long after its last close or rename", NULL },
	{ "max-transfers", OPTION_NUMBER, FIELD(max_transfers), "N", "256",
		"most requests at once; the number in use adapts", NULL },
	{ "part-size", OPTION_SIZE, FIELD(part_size_bytes), "SIZE", "8M",
		"size of chunks and parts, 5M to 5G (grows along a file)", NULL },
	{ "multipart-threshold", OPTION_SIZE, FIELD(multipart_threshold_bytes), "SIZE", "16M",
		"larger files go up in parts", NULL },
	{ "stream-quiet", OPTION_TIME, FIELD(stream_quiet_ms), "TIME", "5s",
		"send what was not changed for so long of larger files while they are still written; "
		"0: only after their close", NULL },
	{ "view", OPTION_WORD, 0, "merged|uploaded", "merged",
		"what listings show: local and bucket together, or only what S3 lists", parse_view },
	{ "naming", OPTION_WORD, 0, "hold|clean|refuse|off", "hold",
		"folders whose names the gallery refuses: keep them here, clean the key, refuse them, "
		"or no rule", parse_naming },
	{ "clean-with", OPTION_WORD, 0, "CHAR", "",
		"with naming=clean: put _ or - in place of refused characters, else drop them",
		parse_clean_with },
	{ "layout", OPTION_WORD, 0, "warn|enforce|off", "warn",
		"what lies where the gallery's layout has no place for it: list it in .cpgfs/layout.tsv, "
		"refuse it, or do not look", parse_layout },
	{ "allow-overwrite", OPTION_FLAG, FIELD(allow_overwrite), NULL, NULL,
		"objects from elsewhere may be replaced and changed", NULL },
	{ "allow-delete", OPTION_FLAG, FIELD(allow_delete), NULL, NULL,
		"objects from elsewhere may be deleted", NULL },
	{ "delete-delay", OPTION_TIME, FIELD(delete_delay_ms), "TIME", "10m",
		"delete uploaded objects this long after their file; cpgfs undelete takes it back", NULL },
	{ "full-timeout", OPTION_TIME, FIELD(full_timeout_ms), "TIME", "0",
		"a writer waits this long for room, then gets ENOSPC; 0: as long as it takes", NULL },
	{ "df", OPTION_WORD, 0, "buffer|unlimited", "buffer",
		"what df shows: the buffer's truth, or endless room", parse_df },
	{ "list-ttl", OPTION_TIME, FIELD(list_ttl_ms), "TIME", "60s",
		"a folder's listing older than this is fetched again", NULL },
	{ "durability", OPTION_WORD, 0, "flush|close", "flush",
		"data is synced to disk within 30 s of its close, or before close returns",
		parse_durability },
	{ "passthrough", OPTION_WORD, 0, "auto|off", "auto",
		"let the kernel write new files to the cache by itself, where it can (as root, Linux 6.9, "
		"libfuse 3.17)",
		parse_passthrough },
	{ "sign-payload", OPTION_WORD, 0, "auto|always", "auto",
		"sign SHA-256 of every body, or only until the server echoed a CRC64NVME",
		parse_sign_payload },
	{ "paused", OPTION_FLAG, FIELD(start_paused), NULL, NULL,
		"accept files, upload nothing until cpgfs resume", NULL },
	{ "drain", OPTION_FLAG, FIELD(drain), NULL, NULL,
		"when unmounted or told to stop, upload what is pending first", NULL },
	{ "check", OPTION_FLAG, FIELD(check_first), NULL, NULL,
		"look at everything an upload needs first (as cpgfs check), and mount only if nothing fails",
		NULL },
	{ "read-only", OPTION_FLAG, FIELD(read_only), NULL, NULL, "nothing can be changed", NULL },
	{ "allow-other", OPTION_FLAG, FIELD(allow_other), NULL, NULL,
		"other users may use the mount (as user: needs user_allow_other in /etc/fuse.conf)", NULL },
	{ "log-level", OPTION_WORD, 0, "error|warn|info|debug", "info", "how much to log",
		parse_log_level },
	{ "log-file", OPTION_TEXT, FIELD(log_file), "FILE", NULL,
		"where to log (default: cpgfs.log in the cache directory; with -f standard error)", NULL },
};
const size_t option_row_count = array_len(option_rows);

const struct option_row *option_find(const char *name)
{
	char plain[64];
	if (!text_copy(plain, name, sizeof(plain)))
		return NULL;
	for (char *c = plain; *c; c++)
		if (*c == '_')
			*c = '-';
	for (size_t i = 0; i < option_row_count; i++)
		if (strcmp(option_rows[i].name, plain) == 0)
			return &option_rows[i];
	return NULL;
}

static int set_flag(bool *field, const char *value)
{
	if (value && strcmp(value, "true") && strcmp(value, "false"))
		return -EINVAL;
	*field = !value || strcmp(value, "true") == 0;
	return 0;
}

static int set_text(char **field, const char *value)
{
	char *copy = text_dup(value);
	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int set_number(unsigned *field, const char *value)
{
	uint64_t number;
	if (u64_parse(value, &number) < 0 || number < 1 || number > 1024)
		return -EINVAL;
	*field = (unsigned)number;
	return 0;
}

int option_set(struct cli_mount *m, const char *name, const char *value)
{
	const struct option_row *row = option_find(name);
	if (!row)
		return -ENOENT;
	if (!value && row->kind != OPTION_FLAG)
		return -EINVAL;
	void *field = (char *)m + row->offset;
	switch (row->kind) {
	case OPTION_FLAG:
		return set_flag(field, value);
	case OPTION_TEXT:
		return set_text(field, value);
	case OPTION_SIZE:
		return size_parse(value, field);
	case OPTION_TIME:
		return duration_parse(value, field);
	case OPTION_NUMBER:
		return set_number(field, value);
	case OPTION_WORD:
		return row->parse(m, value);
	}
	return -EINVAL;
}

int options_preset(struct cli_mount *m)
{
	for (size_t i = 0; i < option_row_count; i++) {
		if (!option_rows[i].preset)
			continue;
		int r = option_set(m, option_rows[i].name, option_rows[i].preset);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Help text, wrapped at 78 columns behind a 30-column margin. */
static void print_wrapped(FILE *out, const char *text)
{
	unsigned column = 0;
	while (*text) {
		size_t word = strcspn(text, " ");
		if (column && column + word + 1 > 48) {
			fprintf(out, "\n%30s", "");
			column = 0;
		}
		fprintf(out, "%s%.*s", column ? " " : "", (int)word, text);
		column += (unsigned)word + (column ? 1 : 0);
		text += word + (text[word] == ' ');
	}
	fputc('\n', out);
}

void options_help(FILE *out)
{
	for (size_t i = 0; i < option_row_count; i++) {
		const struct option_row *row = &option_rows[i];
		char head[80];
		snprintf(head, sizeof(head), "  --%s%s%s", row->name, row->arg ? " " : "",
			row->arg ? row->arg : "");
		if (strlen(head) < 29)
			fprintf(out, "%-30s", head);
		else
			fprintf(out, "%s\n%30s", head, "");
		cleanup_free char *help = NULL;
		if (row->preset && row->preset[0]) {
			if (text_printf(&help, "%s [%s]", row->help, row->preset) < 0)
				return;
		} else {
			help = text_dup(row->help);
		}
		print_wrapped(out, help ? help : "");
	}
}

static int describe_row(const struct cli_mount *m, const struct option_row *row, char **ret)
{
	const void *field = (const char *)m + row->offset;
	switch (row->kind) {
	case OPTION_FLAG:
		return text_printf(ret, "%s=%s", row->name, *(const bool *)field ? "true" : "false");
	case OPTION_TEXT: {
		const char *text = *(char *const *)field;
		return text_printf(ret, "%s=%s", row->name, text ? text : "");
	}
	case OPTION_SIZE:
		return text_printf(ret, "%s=%" PRIu64, row->name, *(const uint64_t *)field);
	case OPTION_TIME:
		return text_printf(ret, "%s=%" PRId64 "ms", row->name, *(const int64_t *)field);
	case OPTION_NUMBER:
		return text_printf(ret, "%s=%u", row->name, *(const unsigned *)field);
	case OPTION_WORD:
		break;
	}
	if (row->parse == parse_naming)
		return text_printf(ret, "naming=%s", naming_mode_text(m->naming.mode));
	if (row->parse == parse_clean_with)
		return text_printf(
			ret, "clean-with=%.*s", m->naming.clean_with ? 1 : 0, &m->naming.clean_with);
	if (row->parse == parse_layout)
		return text_printf(ret, "layout=%s", layout_mode_text(m->layout));
	if (row->parse == parse_view)
		return text_printf(ret, "view=%s", m->view_uploaded ? "uploaded" : "merged");
	if (row->parse == parse_df)
		return text_printf(ret, "df=%s", m->df_unlimited ? "unlimited" : "buffer");
	if (row->parse == parse_durability)
		return text_printf(ret, "durability=%s", m->durability_close ? "close" : "flush");
	if (row->parse == parse_passthrough)
		return text_printf(ret, "passthrough=%s", m->passthrough ? "auto" : "off");
	if (row->parse == parse_sign_payload)
		return text_printf(ret, "sign-payload=%s", m->sign_payload_always ? "always" : "auto");
	static const char *const levels[] = { "error", "warn", "info", "debug" };
	return text_printf(ret, "log-level=%s", levels[m->log_level]);
}

int options_describe(const struct cli_mount *m, char ***ret)
{
	char **list = calloc(option_row_count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < option_row_count; i++) {
		int r = describe_row(m, &option_rows[i], &list[i]);
		if (r < 0) {
			for (size_t k = 0; k < i; k++)
				free(list[k]);
			free(list);
			return r;
		}
	}
	*ret = list;
	return 0;
}
