/*
 * util - growing buffers, percent-encoding, hex, base64, and the time formats of S3.
 *
 * Out of memory ends the process: this is a test server, its callers need no second path.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUTO(release) __attribute__((cleanup(release)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* A byte string that grows; `data` is NUL-terminated once anything was added. */
struct buf {
	char *data;
	size_t len;
	size_t cap;
};

void buf_add(struct buf *buf, const void *data, size_t len);
void buf_str(struct buf *buf, const char *s);
void buf_char(struct buf *buf, char c);
void buf_printf(struct buf *buf, const char *format, ...)
	__attribute__((format(printf, 2, 3), nonnull(2)));
void buf_reset(struct buf *buf);
void buf_release(struct buf *buf);
const char *buf_text(const struct buf *buf);
/* Hands the string over (never NULL) and leaves the buffer empty. */
char *buf_steal(struct buf *buf);

void *mem_zalloc(size_t size);
void *mem_realloc(void *old, size_t size);
char *str_dup(const char *s);
char *str_dupn(const char *s, size_t len);
char *str_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool str_starts(const char *s, const char *prefix);
/* 0 and the number, or -EINVAL for anything but decimal digits that fit. */
int str_to_u64(const char *s, uint64_t *ret);
int str_to_i64(const char *s, int64_t *ret);
/* Valid UTF-8 without NUL, surrogates or overlong forms? */
bool str_is_utf8(const char *s);

/* For AUTO(). */
void free_str(char **s);
void close_fd(int *fd);

/* RFC 3986 as SigV4 wants it: unreserved characters stay, `/` only if keep_slash. */
void uri_encode(struct buf *out, const char *s, bool keep_slash);
/* What S3 does for encoding-type=url: `+` for a space; letters, digits and * - . _ / stay. */
void uri_encode_listing(struct buf *out, const char *s);
/* Decodes %XX (and `+` if plus_is_space); -EINVAL for a broken escape or a NUL byte. */
int uri_decode(const char *s, size_t len, bool plus_is_space, char **ret);

void hex_encode(const uint8_t *data, size_t len, char *out);
/* 0, or -EINVAL unless `hex` is exactly 2 * len hexadecimal digits. */
int hex_decode(const char *hex, uint8_t *out, size_t len);
void base64_encode(const uint8_t *data, size_t len, char *out);
/* The decoded length, or -EINVAL; `out` must hold `size` bytes. */
int base64_decode(const char *s, uint8_t *out, size_t size);

int64_t time_now_ms(void);
int64_t time_monotonic_ms(void);
/* 2026-01-31T12:34:56.789Z into at least 25 bytes. */
void time_format_iso(int64_t ms, char *out, size_t size);
/* Sat, 31 Jan 2026 12:34:56 GMT into at least 30 bytes. */
void time_format_http(int64_t ms, char *out, size_t size);
/* 20260131T123456Z */
int time_parse_amz(const char *s, int64_t *ret_ms);
/* An HTTP date (IMF-fixdate). */
int time_parse_http(const char *s, int64_t *ret_ms);
