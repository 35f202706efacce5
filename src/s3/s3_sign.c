/*
 * AWS Signature Version 4:
 *
 *   canonical request = method \n path \n query \n headers \n names of headers \n payload hash
 *   string to sign    = AWS4-HMAC-SHA256 \n date \n scope \n hex(SHA-256(canonical request))
 *   signing key       = HMAC(HMAC(HMAC(HMAC("AWS4" secret, day), region), service), "aws4_request")
 *   signature         = hex(HMAC(signing key, string to sign))
 *
 * Source: S3 API, "Authenticating Requests: Using the Authorization Header (AWS Signature Version
 * 4)". The signing key holds for a day, so it is kept.
 */
#include "s3_sign.h"

#include <time.h>

/* ---- headers --------------------------------------------------------------------------------- */

void s3_headers_init(struct s3_headers *h)
{
	h->count = 0;
	h->values = (struct buf){.max = 64 * KIB, .wipes = true}; /* a session token among them */
}

void s3_headers_release(struct s3_headers *h)
{
	buf_release(&h->values);
	h->count = 0;
}

static void add_squeezed(struct buf *out, const char *value)
{
	size_t start = out->len;
	for (const char *p = value; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			if (!out->error)
				out->error = -EINVAL;
			return;
		}
		if (*p == ' ' && (out->len == start || p[1] == ' ' || !p[1]))
			continue;
		buf_add_char(out, *p);
	}
}

void s3_headers_add(struct s3_headers *h, const char *name, const char *value)
{
	check(h->count < S3_HEADERS_MAX);
	size_t at = h->count++;
	for (; at > 0 && strcmp(h->items[at - 1].name, name) > 0; at--)
		h->items[at] = h->items[at - 1];
	h->items[at].name = name;
	h->items[at].value_at = h->values.len;
	add_squeezed(&h->values, value);
	buf_add_char(&h->values, '\0');
}

const char *s3_headers_value(const struct s3_headers *h, size_t i)
{
	return h->values.data + h->items[i].value_at;
}

const char *s3_headers_find(const struct s3_headers *h, const char *name)
{
	for (size_t i = 0; i < h->count; i++)
		if (strcmp(h->items[i].name, name) == 0)
			return s3_headers_value(h, i);
	return NULL;
}

/* ---- signature --------------------------------------------------------------------------------- */

static void add_signed_names(struct buf *out, const struct s3_headers *h)
{
	for (size_t i = 0; i < h->count; i++) {
		if (i)
			buf_add_char(out, ';');
		buf_add_text(out, h->items[i].name);
	}
}

void s3_canonical_request(struct buf *out, const struct s3_sign_input *in)
{
	buf_printf(out, "%s\n%s\n%s\n", in->method, in->path, in->query);
	for (size_t i = 0; i < in->headers->count; i++)
		buf_printf(out, "%s:%s\n", in->headers->items[i].name,
			s3_headers_value(in->headers, i));
	buf_add_char(out, '\n');
	add_signed_names(out, in->headers);
	buf_printf(out, "\n%s", in->payload);
}

void s3_sign_date(int64_t wall_ns, char out[17])
{
	time_t seconds = (time_t)(wall_ns / NS_PER_S);
	struct tm tm;
	if (!gmtime_r(&seconds, &tm) || !strftime(out, 17, "%Y%m%dT%H%M%SZ", &tm))
		text_copy(out, "19700101T000000Z", 17);
}

void s3_signing_key_wipe(struct s3_signing_key *k)
{
	explicit_bzero(k, sizeof(*k));
}

static int signing_key_prepare(
	struct s3_signing_key *k, const char *secret, const struct s3_sign_input *in)
{
	char scope[sizeof(k->scope)];
	int len = snprintf(
		scope, sizeof(scope), "%.8s/%s/%s", in->date, in->region, in->service);
	if (len < 0 || (size_t)len >= sizeof(scope))
		return -EINVAL;
	if (strcmp(scope, k->scope) == 0)
		return 0;
	char start[512];
	int start_len = snprintf(start, sizeof(start), "AWS4%s", secret);
	if (start_len < 0 || (size_t)start_len >= sizeof(start))
		return -EINVAL;
	uint8_t a[32], b[32];
	hmac_sha256(start, (size_t)start_len, in->date, 8, a);
	hmac_sha256(a, sizeof(a), in->region, strlen(in->region), b);
	hmac_sha256(b, sizeof(b), in->service, strlen(in->service), a);
	hmac_sha256(a, sizeof(a), "aws4_request", 12, k->key);
	text_copy(k->scope, scope, sizeof(k->scope));
	explicit_bzero(start, sizeof(start));
	explicit_bzero(a, sizeof(a));
	explicit_bzero(b, sizeof(b));
	registers_wipe();
	return 0;
}

int s3_sign(struct buf *ret_authorization, struct s3_signing_key *key, const char *access_key,
	const char *secret_key, const struct s3_sign_input *in)
{
	int err = signing_key_prepare(key, secret_key, in);
	if (err)
		return err;
	uint8_t digest[32];
	char hex[65];
	cleanup_buf struct buf text = {.wipes = true};
	s3_canonical_request(&text, in);
	if (buf_error(&text))
		return buf_error(&text);
	sha256_of(text.data, text.len, digest);
	hex_encode(digest, sizeof(digest), hex);
	buf_clear(&text);
	buf_printf(&text, "AWS4-HMAC-SHA256\n%s\n%s/aws4_request\n%s", in->date, key->scope, hex);
	if (buf_error(&text))
		return buf_error(&text);
	hmac_sha256(key->key, sizeof(key->key), text.data, text.len, digest);
	hex_encode(digest, sizeof(digest), hex);
	buf_printf(ret_authorization, "AWS4-HMAC-SHA256 Credential=%s/%s/aws4_request, SignedHeaders=",
		access_key, key->scope);
	add_signed_names(ret_authorization, in->headers);
	buf_printf(ret_authorization, ", Signature=%s", hex);
	return buf_error(ret_authorization);
}
