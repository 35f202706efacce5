/*
 * chunked - decodes `Content-Encoding: aws-chunked` bodies piece by piece.
 */
#include "s3d_chunked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 4096
#define TRAILERS_MAX 8

enum chunked_state {
	CHUNK_HEADER,
	CHUNK_DATA,
	CHUNK_DATA_END, /* the \r\n after data */
	CHUNK_TRAILER,
	CHUNK_DONE,
};

struct chunked {
	struct sig *sig;
	bool signed_chunks;
	enum chunked_state state;
	struct buf line;
	uint64_t left_bytes; /* of the present chunk */
	struct digest sha256;
	char *signature;
	char *names[TRAILERS_MAX];
	char *values[TRAILERS_MAX];
	size_t trailers;
	struct buf trailer_text; /* what the trailer's signature covers */
};

struct chunked *chunked_create(struct sig *sig, bool signed_chunks)
{
	struct chunked *chunked = mem_zalloc(sizeof(*chunked));

	chunked->sig = sig;
	chunked->signed_chunks = signed_chunks;
	return chunked;
}

void chunked_destroy(struct chunked *chunked)
{
	if (!chunked)
		return;
	for (size_t i = 0; i < chunked->trailers; i++) {
		free(chunked->names[i]);
		free(chunked->values[i]);
	}
	buf_release(&chunked->line);
	buf_release(&chunked->trailer_text);
	digest_release(&chunked->sha256);
	free(chunked->signature);
	free(chunked);
}

static enum s3d_error chunked_check_signature(struct chunked *chunked)
{
	uint8_t hash[DIGEST_MAX_BYTES];
	char hex[65];

	if (!chunked->signed_chunks)
		return ERROR_NONE;
	digest_final(&chunked->sha256, hash);
	digest_release(&chunked->sha256);
	hex_encode(hash, 32, hex);
	return sig_check_chunk(chunked->sig, hex, chunked->signature) ? ERROR_NONE
								       : ERROR_SIGNATURE_MISMATCH;
}

static enum s3d_error chunked_take_header(struct chunked *chunked, const char *line)
{
	char *end;
	const char *signature = strstr(line, ";chunk-signature=");

	errno = 0;
	chunked->left_bytes = strtoull(line, &end, 16);
	if (errno || end == line || (*end && *end != ';'))
		return ERROR_INVALID_CHUNK;
	if (chunked->signed_chunks) {
		if (!signature)
			return ERROR_INVALID_CHUNK;
		free(chunked->signature);
		chunked->signature = str_dup(strchr(signature, '=') + 1);
		digest_release(&chunked->sha256);
		digest_init(&chunked->sha256, DIGEST_SHA256);
	}
	if (chunked->left_bytes) {
		chunked->state = CHUNK_DATA;
		return ERROR_NONE;
	}
	chunked->state = CHUNK_TRAILER;
	return chunked_check_signature(chunked);
}

static enum s3d_error chunked_take_trailer(struct chunked *chunked, char *line)
{
	char *value = strchr(line, ':'), hash[65];

	if (!*line) {
		chunked->state = CHUNK_DONE;
		return ERROR_NONE;
	}
	if (!value || chunked->trailers == TRAILERS_MAX)
		return ERROR_INVALID_CHUNK;
	*value++ = '\0';
	value += strspn(value, " ");
	if (!strcasecmp(line, "x-amz-trailer-signature")) {
		sha256_hex(buf_text(&chunked->trailer_text), chunked->trailer_text.len, hash);
		return !chunked->signed_chunks || sig_check_trailer(chunked->sig, hash, value)
			? ERROR_NONE : ERROR_SIGNATURE_MISMATCH;
	}
	buf_printf(&chunked->trailer_text, "%s:%s\n", line, value);
	chunked->names[chunked->trailers] = str_dup(line);
	chunked->values[chunked->trailers++] = str_dup(value);
	return ERROR_NONE;
}

static enum s3d_error chunked_take_line(struct chunked *chunked, char *line)
{
	switch (chunked->state) {
	case CHUNK_HEADER:
		return chunked_take_header(chunked, line);
	case CHUNK_DATA_END:
		chunked->state = CHUNK_HEADER;
		return *line ? ERROR_INVALID_CHUNK : chunked_check_signature(chunked);
	case CHUNK_TRAILER:
		return chunked_take_trailer(chunked, line);
	case CHUNK_DATA:
	case CHUNK_DONE:
		break;
	}
	return ERROR_INVALID_CHUNK;
}

/* One byte of a line; a whole line is acted on. */
static enum s3d_error chunked_feed_line(struct chunked *chunked, char c)
{
	enum s3d_error error;

	if (c != '\n') {
		buf_char(&chunked->line, c);
		return chunked->line.len > LINE_MAX_BYTES ? ERROR_INVALID_CHUNK : ERROR_NONE;
	}
	if (!chunked->line.len || chunked->line.data[chunked->line.len - 1] != '\r')
		return ERROR_INVALID_CHUNK;
	chunked->line.data[--chunked->line.len] = '\0';
	error = chunked_take_line(chunked, chunked->line.data);
	buf_reset(&chunked->line);
	return error;
}

enum s3d_error chunked_feed(struct chunked *chunked, const char *in, size_t len,
	enum s3d_error (*data)(void *cls, const char *p, size_t n), void *cls)
{
	enum s3d_error error = ERROR_NONE;

	while (len && !error) {
		size_t n = 1;

		if (chunked->state == CHUNK_DATA) {
			n = len < chunked->left_bytes ? len : (size_t)chunked->left_bytes;
			if (chunked->signed_chunks)
				digest_update(&chunked->sha256, in, n);
			error = data(cls, in, n);
			chunked->left_bytes -= n;
			if (!chunked->left_bytes)
				chunked->state = CHUNK_DATA_END;
		} else {
			error = chunked_feed_line(chunked, *in);
		}
		in += n;
		len -= n;
	}
	return error;
}

/* Some clients leave out the empty line after the last chunk when there is no trailer. */
enum s3d_error chunked_finish(const struct chunked *chunked)
{
	return chunked->state == CHUNK_DONE || chunked->state == CHUNK_TRAILER
		? ERROR_NONE : ERROR_INCOMPLETE_BODY;
}

const char *chunked_trailer(const struct chunked *chunked, const char *name)
{
	for (size_t i = 0; i < chunked->trailers; i++) {
		if (!strcasecmp(chunked->names[i], name))
			return chunked->values[i];
	}
	return NULL;
}
