/*
 * digest - CRC64NVME, CRC32, CRC32C, and the hashes of OpenSSL behind one interface.
 *
 * All CRCs here are reflected, start from all ones and end inverted. They run over 16 bytes at a
 * time by table ("slice by 16"). Where the processor multiplies without carry (PCLMULQDQ), CRC64
 * folds 64 bytes a step first: four 128-bit lanes are each multiplied by x^512 mod P and added to
 * the next data, the lanes are then folded into one by x^128, and the table finishes the rest. The
 * constants come from the polynomial at start, not from a paper.
 */
#include "s3d_digest.h"

#include <string.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CRC64NVME_POLY 0x9a6c9329ac4bc9b5ULL
#define CRC32_POLY 0xedb88320ULL
#define CRC32C_POLY 0x82f63b78ULL
#define SLICES 16

struct crc_table {
	uint64_t poly;
	uint64_t at[SLICES][256];
};

static struct crc_table crc64_table = {.poly = CRC64NVME_POLY};
static struct crc_table crc32_table = {.poly = CRC32_POLY};
static struct crc_table crc32c_table = {.poly = CRC32C_POLY};

/* Fetched once: EVP_md5() and its kind look their algorithm up again at every use. */
static EVP_MD *evp_md5, *evp_sha1, *evp_sha256;

static void crc_table_build(struct crc_table *t)
{
	for (unsigned byte = 0; byte < 256; byte++) {
		uint64_t crc = byte;

		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? t->poly : 0);
		t->at[0][byte] = crc;
	}
	for (int slice = 1; slice < SLICES; slice++) {
		for (unsigned byte = 0; byte < 256; byte++) {
			uint64_t crc = t->at[slice - 1][byte];

			t->at[slice][byte] = (crc >> 8) ^ t->at[0][crc & 255];
		}
	}
}

static uint64_t load_le64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return v;
}

/* Without the inversions at both ends. */
static uint64_t crc_run(const struct crc_table *t, uint64_t crc, const uint8_t *p, size_t len)
{
	while (len >= SLICES) {
		uint64_t a = load_le64(p) ^ crc, b = load_le64(p + 8);

		crc = 0;
		for (int i = 0; i < 8; i++)
			crc ^= t->at[15 - i][a >> (8 * i) & 255] ^ t->at[7 - i][b >> (8 * i) & 255];
		p += SLICES;
		len -= SLICES;
	}
	while (len--)
		crc = (crc >> 8) ^ t->at[0][(crc ^ *p++) & 255];
	return crc;
}

/* a * b modulo the polynomial; bit 63 is x^0. */
static uint64_t crc64_multiply(uint64_t a, uint64_t b)
{
	uint64_t product = 0;

	for (; a; a <<= 1) {
		if (a >> 63)
			product ^= b;
		b = (b >> 1) ^ (b & 1 ? CRC64NVME_POLY : 0);
	}
	return product;
}

/* x^n modulo the polynomial. */
static uint64_t crc64_power_of_x(uint64_t n)
{
	uint64_t result = 1ULL << 63, square = 1ULL << 62;

	for (; n; n >>= 1) {
		if (n & 1)
			result = crc64_multiply(result, square);
		square = crc64_multiply(square, square);
	}
	return result;
}

uint64_t crc64nvme_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b)
{
	return crc64_multiply(crc_a, crc64_power_of_x(8 * len_b)) ^ crc_b;
}

#if defined(__x86_64__)
/* For folding over 512 and over 128 bits: for the low and the high half of a lane. */
static uint64_t fold_512[2], fold_128[2];
static bool have_clmul;

/*
 * The low 8 bytes of a lane come first in the message, so they stand 64 bits higher. The product
 * of two reflected 64-bit values comes out shifted by one bit: hence the -1.
 */
static void crc64_fold_setup(void)
{
	fold_512[0] = crc64_power_of_x(512 + 64 - 1);
	fold_512[1] = crc64_power_of_x(512 - 1);
	fold_128[0] = crc64_power_of_x(128 + 64 - 1);
	fold_128[1] = crc64_power_of_x(128 - 1);
	have_clmul = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

__attribute__((target("pclmul,sse4.1"))) static inline __m128i crc64_fold(__m128i lane,
	__m128i by, __m128i next)
{
	__m128i low = _mm_clmulepi64_si128(lane, by, 0x00);
	__m128i high = _mm_clmulepi64_si128(lane, by, 0x11);

	return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* len is a multiple of 64, at least 128. */
__attribute__((target("pclmul,sse4.1"))) static uint64_t crc64_run_clmul(uint64_t crc,
	const uint8_t *p, size_t len)
{
	const __m128i by_512 = _mm_set_epi64x((long long)fold_512[1], (long long)fold_512[0]);
	const __m128i by_128 = _mm_set_epi64x((long long)fold_128[1], (long long)fold_128[0]);
	const __m128i *in = (const __m128i *)(const void *)p;
	__m128i lane[4];
	uint8_t rest[16];

	for (int i = 0; i < 4; i++)
		lane[i] = _mm_loadu_si128(in + i);
	lane[0] = _mm_xor_si128(lane[0], _mm_set_epi64x(0, (long long)crc));
	for (len -= 64, in += 4; len; len -= 64, in += 4) {
		for (int i = 0; i < 4; i++)
			lane[i] = crc64_fold(lane[i], by_512, _mm_loadu_si128(in + i));
	}
	for (int i = 1; i < 4; i++)
		lane[i] = crc64_fold(lane[i - 1], by_128, lane[i]);
	_mm_storeu_si128((__m128i *)(void *)rest, lane[3]);
	return crc_run(&crc64_table, 0, rest, sizeof(rest));
}
#endif

uint64_t crc64nvme_update(uint64_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	crc = ~crc;
#if defined(__x86_64__)
	if (have_clmul && len >= 128) {
		size_t folded = len & ~(size_t)63;

		crc = crc64_run_clmul(crc, p, folded);
		p += folded;
		len -= folded;
	}
#endif
	return ~crc_run(&crc64_table, crc, p, len);
}

void crc64nvme_base64(uint64_t crc, char out[13])
{
	uint8_t bytes[8];

	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(crc >> (56 - 8 * i));
	base64_encode(bytes, sizeof(bytes), out);
}

void digest_setup(void)
{
	crc_table_build(&crc64_table);
	crc_table_build(&crc32_table);
	crc_table_build(&crc32c_table);
#if defined(__x86_64__)
	crc64_fold_setup();
#endif
	evp_md5 = EVP_MD_fetch(NULL, "MD5", NULL);
	evp_sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
	evp_sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static const EVP_MD *digest_evp(enum digest_kind kind)
{
	if (kind == DIGEST_MD5)
		return evp_md5;
	if (kind == DIGEST_SHA1)
		return evp_sha1;
	return kind == DIGEST_SHA256 ? evp_sha256 : NULL;
}

void digest_init(struct digest *digest, enum digest_kind kind)
{
	const EVP_MD *md = digest_evp(kind);

	*digest = (struct digest){.kind = kind};
	if (md) {
		digest->ctx = EVP_MD_CTX_new();
		EVP_DigestInit_ex(digest->ctx, md, NULL);
	}
}

static uint64_t crc32_update(const struct crc_table *t, uint64_t crc, const void *data, size_t len)
{
	return crc_run(t, crc ^ 0xffffffff, data, len) ^ 0xffffffff;
}

void digest_update(struct digest *digest, const void *data, size_t len)
{
	if (digest->ctx)
		EVP_DigestUpdate(digest->ctx, data, len);
	else if (digest->kind == DIGEST_CRC64NVME)
		digest->crc = crc64nvme_update(digest->crc, data, len);
	else if (digest->kind == DIGEST_CRC32)
		digest->crc = crc32_update(&crc32_table, digest->crc, data, len);
	else if (digest->kind == DIGEST_CRC32C)
		digest->crc = crc32_update(&crc32c_table, digest->crc, data, len);
}

size_t digest_final(struct digest *digest, uint8_t out[DIGEST_MAX_BYTES])
{
	size_t len = digest_kind_bytes(digest->kind);

	if (digest->ctx) {
		EVP_DigestFinal_ex(digest->ctx, out, NULL);
	} else {
		for (size_t i = 0; i < len; i++)
			out[i] = (uint8_t)(digest->crc >> (8 * (len - 1 - i)));
	}
	return len;
}

void digest_release(struct digest *digest)
{
	EVP_MD_CTX_free(digest->ctx);
	*digest = (struct digest){0};
}

static const struct {
	const char *name;
	size_t bytes;
} digest_kinds[] = {
	[DIGEST_NONE] = {"NONE", 0},
	[DIGEST_MD5] = {"MD5", 16},
	[DIGEST_SHA1] = {"SHA1", 20},
	[DIGEST_SHA256] = {"SHA256", 32},
	[DIGEST_CRC32] = {"CRC32", 4},
	[DIGEST_CRC32C] = {"CRC32C", 4},
	[DIGEST_CRC64NVME] = {"CRC64NVME", 8},
};

enum digest_kind digest_kind_from_name(const char *name)
{
	for (size_t i = DIGEST_SHA1; i < ARRAY_SIZE(digest_kinds); i++) {
		if (!strcasecmp(digest_kinds[i].name, name))
			return (enum digest_kind)i;
	}
	return DIGEST_NONE;
}

const char *digest_kind_name(enum digest_kind kind)
{
	return digest_kinds[kind].name;
}

size_t digest_kind_bytes(enum digest_kind kind)
{
	return digest_kinds[kind].bytes;
}

void sha256_hex(const void *data, size_t len, char out[65])
{
	uint8_t hash[DIGEST_MAX_BYTES];
	struct digest digest;

	digest_init(&digest, DIGEST_SHA256);
	digest_update(&digest, data, len);
	digest_final(&digest, hash);
	digest_release(&digest);
	hex_encode(hash, 32, out);
}

void hmac_sha256(const void *key, size_t key_len, const char *data, uint8_t out[32])
{
	unsigned out_len = 32;

	HMAC(evp_sha256, key, (int)key_len, (const unsigned char *)data, strlen(data), out,
		&out_len);
}
