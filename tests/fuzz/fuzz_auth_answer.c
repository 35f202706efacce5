/*
 * What services that give credentials answer: XML of STS and S3 Control, JSON of programs and
 * metadata; and the URLs and grants that come with them.
 *
 *   what(1) text
 */
#include "fuzz.h"
#include "auth_keys.h"
#include "auth_try.h"

static void try_xml(const char *text, size_t len)
{
	static struct auth_xml x;
	int r = auth_xml_parse(text, len, &x);

	must(r == 0 || r == -EBADMSG);
	if (r < 0)
		return;
	must(memchr(x.target, '\0', sizeof(x.target)) && memchr(x.code, '\0', sizeof(x.code)));
	must(memchr(x.message, '\0', sizeof(x.message)));
	must(memchr(x.keys.session_token, '\0', sizeof(x.keys.session_token)));
}

static void try_json(const char *text, size_t len)
{
	static struct s3_credentials keys;
	const char *wrong = NULL;
	cleanup_json json_t *root = auth_json_load(text, len, 0);

	if (!root)
		return;
	if (auth_keys_from_json(root, &keys, &wrong) == 0)
		must(!wrong && !auth_keys_check(&keys) && keys.expires_at_ns >= 0);
	else
		must(wrong && wrong[0]);
}

static void try_url(const char *text)
{
	struct auth_url url;
	int r = auth_url_parse(&url, text);

	must(r == 0 || r == -EINVAL);
	if (r < 0)
		return;
	must(url.host[0] && url.hostname[0] &&
		text_starts(url.base, url.is_plain ? "http://" : "https://"));
	must(!strpbrk(url.host, "/@ \r\n") && text_ends(url.base, url.path));
}

static void try_grant(char *text)
{
	char *prefix = strchr(text, '\n');

	if (!prefix)
		return;
	*prefix++ = '\0';
	if (auth_grant_covers(text, "bucket", prefix))
		must(text_ends(text, "*"));
	must(auth_grant_covers("s3://bucket/*", "bucket", prefix));
	must(!auth_grant_covers("s3://buck/*", "bucket", prefix));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	unsigned what = fuzz_u8(&in) % 4;
	size_t text_len;
	char *text = NULL;

	if (what < 2) {
		text = (char *)fuzz_bytes(&in, len, &text_len);
		(what ? try_json : try_xml)(text, text_len);
	} else {
		text = fuzz_text(&in, len);
		if (what == 2)
			try_url(text);
		else
			try_grant(text);
	}
	free(text);
	return 0;
}
