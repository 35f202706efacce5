/*
 * digest - CRC64NVME, CRC32, CRC32C, and the hashes of OpenSSL behind one interface.
 */
#pragma once

#include "s3d_util.h"

#include <openssl/evp.h>

enum digest_kind {
	DIGEST_NONE,
	DIGEST_MD5,
	DIGEST_SHA1,
	DIGEST_SHA256,
	DIGEST_CRC32,
	DIGEST_CRC32C,
	DIGEST_CRC64NVME,
};

#define DIGEST_MAX_BYTES 32

/* A running digest; embedded: digest_init() … digest_release(). */
struct digest {
	enum digest_kind kind;
	uint64_t crc;
	EVP_MD_CTX *ctx;
};

/* Builds the tables; call once before any thread. */
void digest_setup(void);

void digest_init(struct digest *digest, enum digest_kind kind);
void digest_update(struct digest *digest, const void *data, size_t len);
/* The digest's bytes (big-endian for CRCs, as S3 writes them); returns their number. */
size_t digest_final(struct digest *digest, uint8_t out[DIGEST_MAX_BYTES]);
void digest_release(struct digest *digest);

/* CRC32C for "crc32c" and so on (any case); DIGEST_NONE if unknown. */
enum digest_kind digest_kind_from_name(const char *name);
const char *digest_kind_name(enum digest_kind kind);
size_t digest_kind_bytes(enum digest_kind kind);

void sha256_hex(const void *data, size_t len, char out[65]);
void hmac_sha256(const void *key, size_t key_len, const char *data, uint8_t out[32]);

/* Continues `crc` (0 at the start) over the data. */
uint64_t crc64nvme_update(uint64_t crc, const void *data, size_t len);
/* The CRC of A followed by B, from both CRCs and the length of B. */
uint64_t crc64nvme_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b);
void crc64nvme_base64(uint64_t crc, char out[13]);
