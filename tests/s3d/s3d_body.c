/*
 * body - a request's body on its way in: decoded, digested, verified, and kept in memory or a file.
 */
#include "s3d_body.h"

#include <stdio.h>
#include <string.h>

#define MEMORY_MAX_BYTES (2 << 20)

static bool body_is_chunked(enum sig_payload payload)
{
	return payload == SIG_PAYLOAD_CHUNKED || payload == SIG_PAYLOAD_CHUNKED_TRAILER ||
		payload == SIG_PAYLOAD_UNSIGNED_TRAILER;
}

static bool body_wants_md5(const struct body_options *options)
{
	if (options->content_md5)
		return true;
	return options->kind == BODY_FILE && !store_options(options->store)->fast_tag;
}

bool body_has_md5(const struct body *body)
{
	return body_wants_md5(&body->options);
}

static enum s3d_error body_check_options(const struct body_options *options)
{
	uint8_t out[DIGEST_MAX_BYTES];

	if (options->content_md5 && base64_decode(options->content_md5, out, sizeof(out)) != 16)
		return ERROR_INVALID_DIGEST;
	if (options->checksum_value &&
		base64_decode(options->checksum_value, out, sizeof(out)) !=
			(int)digest_kind_bytes(options->checksum))
		return ERROR_INVALID_CHECKSUM;
	return ERROR_NONE;
}

enum s3d_error body_init(struct body *body, const struct body_options *options)
{
	enum sig_payload payload = options->sig->payload;

	*body = (struct body){.kind = options->kind, .options = *options, .temp = {.fd = -1}};
	body->error = body_check_options(options);
	if (body_is_chunked(payload))
		body->chunked = chunked_create(options->sig,
			payload != SIG_PAYLOAD_UNSIGNED_TRAILER && options->sig->key);
	if (payload == SIG_PAYLOAD_SHA256)
		digest_init(&body->sha256, DIGEST_SHA256);
	if (body_wants_md5(options))
		digest_init(&body->md5, DIGEST_MD5);
	if (options->checksum != DIGEST_CRC64NVME)
		digest_init(&body->checksum, options->checksum);
	if (!body->error && options->kind == BODY_FILE)
		body->error = error_from_errno(temp_create(options->store, &body->temp));
	return body->error;
}

static enum s3d_error body_keep(struct body *body, const char *data, size_t len)
{
	if (body->kind == BODY_FILE)
		return error_from_errno(temp_write(&body->temp, data, len));
	if (body->kind == BODY_MEMORY) {
		if (body->memory.len + len > MEMORY_MAX_BYTES)
			return ERROR_ENTITY_TOO_LARGE;
		buf_add(&body->memory, data, len);
	}
	return ERROR_NONE;
}

static enum s3d_error body_take(void *cls, const char *data, size_t len)
{
	struct body *body = cls;

	body->decoded_bytes += len;
	if (body->decoded_bytes > body->options.length_bytes)
		return ERROR_INCOMPLETE_BODY;
	digest_update(&body->sha256, data, len);
	digest_update(&body->md5, data, len);
	digest_update(&body->checksum, data, len);
	if (body->kind == BODY_FILE || body->options.checksum == DIGEST_CRC64NVME)
		body->crc64 = crc64nvme_update(body->crc64, data, len);
	return body_keep(body, data, len);
}

void body_feed(struct body *body, const char *data, size_t len)
{
	body->wire_bytes += len;
	if (body->error)
		return;
	if (body->chunked)
		body->error = chunked_feed(body->chunked, data, len, body_take, body);
	else
		body->error = body_take(body, data, len);
}

static enum s3d_error body_verify_md5(struct body *body)
{
	uint8_t hash[DIGEST_MAX_BYTES], want[DIGEST_MAX_BYTES];

	if (!body_wants_md5(&body->options)) {
		snprintf(body->etag, sizeof(body->etag), "%016llx%016llx",
			(unsigned long long)body->crc64, (unsigned long long)body->decoded_bytes);
		return ERROR_NONE;
	}
	digest_final(&body->md5, hash);
	hex_encode(hash, 16, body->etag);
	if (!body->options.content_md5)
		return ERROR_NONE;
	base64_decode(body->options.content_md5, want, sizeof(want));
	return memcmp(want, hash, 16) ? ERROR_BAD_DIGEST : ERROR_NONE;
}

static enum s3d_error body_verify_sha256(struct body *body)
{
	uint8_t hash[DIGEST_MAX_BYTES];
	char hex[65];

	if (body->options.sig->payload != SIG_PAYLOAD_SHA256)
		return ERROR_NONE;
	digest_final(&body->sha256, hash);
	hex_encode(hash, 32, hex);
	return strcmp(hex, body->options.sig->sha256_hex) ? ERROR_SHA256_MISMATCH : ERROR_NONE;
}

static void body_checksum_text(struct body *body)
{
	uint8_t hash[DIGEST_MAX_BYTES];

	if (body->options.checksum == DIGEST_CRC64NVME) {
		crc64nvme_base64(body->crc64, body->checksum_text);
		return;
	}
	digest_final(&body->checksum, hash);
	base64_encode(hash, digest_kind_bytes(body->options.checksum), body->checksum_text);
}

static enum s3d_error body_verify_checksum(struct body *body)
{
	const char *want = body->options.checksum_value;
	AUTO(free_str) char *name = NULL;

	if (body->options.checksum == DIGEST_NONE)
		return ERROR_NONE;
	if (!want && body->chunked) {
		name = str_printf("x-amz-checksum-%s", digest_kind_name(body->options.checksum));
		want = chunked_trailer(body->chunked, name);
	}
	if (!want)
		return ERROR_INVALID_CHECKSUM;
	body_checksum_text(body);
	return strcmp(want, body->checksum_text) ? ERROR_BAD_DIGEST : ERROR_NONE;
}

enum s3d_error body_finish(struct body *body)
{
	if (!body->error && body->chunked)
		body->error = chunked_finish(body->chunked);
	if (!body->error && body->options.length_bytes != UINT64_MAX &&
		body->decoded_bytes != body->options.length_bytes)
		body->error = ERROR_INCOMPLETE_BODY;
	if (!body->error)
		body->error = body_verify_sha256(body);
	if (!body->error)
		body->error = body_verify_md5(body);
	if (!body->error)
		body->error = body_verify_checksum(body);
	return body->error;
}

void body_release(struct body *body)
{
	chunked_destroy(body->chunked);
	digest_release(&body->sha256);
	digest_release(&body->md5);
	digest_release(&body->checksum);
	temp_discard(&body->temp);
	buf_release(&body->memory);
	*body = (struct body){.temp = {.fd = -1}};
}
