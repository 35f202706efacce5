/*
 * chunked - decodes `Content-Encoding: aws-chunked` bodies piece by piece.
 *
 *   hex-size[;chunk-signature=…]\r\n  data \r\n  …  0[;chunk-signature=…]\r\n
 *   [name:value\r\n …] [x-amz-trailer-signature:…\r\n]  \r\n
 */
#pragma once

#include "s3d_digest.h"
#include "s3d_sig.h"

struct chunked;

/* `signed_chunks`: every chunk carries a signature, checked against `sig` (borrowed). */
struct chunked *chunked_create(struct sig *sig, bool signed_chunks);
void chunked_destroy(struct chunked *chunked);
/* Feeds wire bytes; calls `data` with decoded ones. */
enum s3d_error chunked_feed(struct chunked *chunked, const char *in, size_t len,
	enum s3d_error (*data)(void *cls, const char *p, size_t n), void *cls);
/* ERROR_INCOMPLETE_BODY unless the terminating chunk and trailer were seen. */
enum s3d_error chunked_finish(const struct chunked *chunked);
/* The value of a trailer, NULL if there was none. */
const char *chunked_trailer(const struct chunked *chunked, const char *name);
