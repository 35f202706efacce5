/*
 * base_digest - SHA-256, HMAC and MD5 on OpenSSL; hex, base64, random numbers.
 *
 * OpenSSL's plain functions are used on purpose: their state lives where we put it, so nothing
 * here can fail half way, and no provider is looked up for each of the small hashes of a signature.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "base_private.h"

#include <openssl/md5.h>
#include <openssl/sha.h>
#include <sys/random.h>

#define SHA256_BLOCK_BYTES 64

struct sha256_ctx {
	SHA256_CTX sha;
};

struct md5_ctx {
	MD5_CTX md5;
};

int sha256_create(struct sha256_ctx **ret)
{
	struct sha256_ctx *c = malloc(sizeof(*c));

	if (!c)
		return -ENOMEM;
	check(SHA256_Init(&c->sha));
	*ret = c;
	return 0;
}

void sha256_update(struct sha256_ctx *c, const void *data, size_t len)
{
	check(SHA256_Update(&c->sha, data, len));
}

void sha256_finish(struct sha256_ctx *c, uint8_t out[32])
{
	check(SHA256_Final(out, &c->sha));
	free(c);
}

void sha256_of(const void *data, size_t len, uint8_t out[32])
{
	SHA256_CTX sha;

	check(SHA256_Init(&sha) && SHA256_Update(&sha, data, len) && SHA256_Final(out, &sha));
}

/* RFC 2104: H(key ^ opad, H(key ^ ipad, text)). */
void hmac_sha256(
	const void *key, size_t key_len, const void *data, size_t data_len, uint8_t out[32])
{
	uint8_t pad[SHA256_BLOCK_BYTES] = {0}, inner[32];
	SHA256_CTX sha;

	if (key_len > sizeof(pad))
		sha256_of(key, key_len, pad);
	else if (key_len > 0)
		memcpy(pad, key, key_len);
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36;
	check(SHA256_Init(&sha) && SHA256_Update(&sha, pad, sizeof(pad)) &&
		SHA256_Update(&sha, data, data_len) && SHA256_Final(inner, &sha));
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36 ^ 0x5c;
	check(SHA256_Init(&sha) && SHA256_Update(&sha, pad, sizeof(pad)) &&
		SHA256_Update(&sha, inner, sizeof(inner)) && SHA256_Final(out, &sha));
	explicit_bzero(pad, sizeof(pad));
}

int md5_create(struct md5_ctx **ret)
{
	struct md5_ctx *c = malloc(sizeof(*c));

	if (!c)
		return -ENOMEM;
	check(MD5_Init(&c->md5));
	*ret = c;
	return 0;
}

void md5_update(struct md5_ctx *c, const void *data, size_t len)
{
	check(MD5_Update(&c->md5, data, len));
}

void md5_finish(struct md5_ctx *c, uint8_t out[16])
{
	check(MD5_Final(out, &c->md5));
	free(c);
}

void hex_encode(const void *data, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++) {
		*out++ = digits[p[i] >> 4];
		*out++ = digits[p[i] & 15];
	}
	*out = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_decode(const char *text, size_t len, uint8_t *out)
{
	if (len % 2)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (hex_value(text[i]) < 0)
			return -EINVAL;
	}
	for (size_t i = 0; i < len / 2; i++)
		out[i] = (uint8_t)((unsigned)hex_value(text[2 * i]) << 4 |
				   (unsigned)hex_value(text[2 * i + 1]));
	return 0;
}

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *data, size_t len, char *out)
{
	const uint8_t *p = data;

	for (; len > 0; p += 3) {
		size_t n = len < 3 ? len : 3;
		uint32_t group = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) |
				 (n > 2 ? p[2] : 0);

		*out++ = base64_digits[group >> 18];
		*out++ = base64_digits[group >> 12 & 63];
		*out++ = n > 1 ? base64_digits[group >> 6 & 63] : '=';
		*out++ = n > 2 ? base64_digits[group & 63] : '=';
		len -= n;
	}
	*out = '\0';
}

/* 0..63, or -1. */
static int base64_value(char c)
{
	const char *at = c ? strchr(base64_digits, c) : NULL;

	return at ? (int)(at - base64_digits) : -1;
}

/* Four digits at p to 1..3 bytes; 0 for anything but the one way to write them. */
static size_t base64_group(const char *p, uint8_t bytes[3])
{
	int v[4];
	size_t n = p[3] != '=' ? 3 : p[2] != '=' ? 2 : 1;

	for (size_t i = 0; i < 4; i++) {
		v[i] = i <= n ? base64_value(p[i]) : 0;
		if (v[i] < 0)
			return 0;
	}
	if ((n == 2 && v[2] & 3) || (n == 1 && v[1] & 15))
		return 0;
	bytes[0] = (uint8_t)(v[0] << 2 | v[1] >> 4);
	bytes[1] = (uint8_t)(v[1] << 4 | v[2] >> 2);
	bytes[2] = (uint8_t)(v[2] << 6 | v[3]);
	return n;
}

int base64_decode(const char *text, uint8_t *out, size_t out_max, size_t *ret_len)
{
	size_t text_len = strlen(text), len = 0;

	if (text_len % 4)
		return -EINVAL;
	for (const char *p = text; *p; p += 4) {
		uint8_t bytes[3];
		size_t n = base64_group(p, bytes);

		if (n == 0 || (n < 3 && p[4] != '\0'))
			return -EINVAL;
		if (n > out_max - len)
			return -ENOBUFS;
		memcpy(out + len, bytes, n);
		len += n;
	}
	*ret_len = len;
	return 0;
}

uint64_t random_u64(void)
{
	uint64_t v;
	ssize_t n;

	do {
		n = getrandom(&v, sizeof(v), 0);
	} while (n < 0 && errno == EINTR);
	check(n == (ssize_t)sizeof(v)); /* eight bytes never come in part, getrandom(2) */
	return v;
}
