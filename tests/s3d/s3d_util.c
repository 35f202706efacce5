/*
 * util - growing buffers, percent-encoding, hex, base64, and the time formats of S3.
 */
#include "s3d_util.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void *mem_checked(void *p)
{
	if (!p) {
		fputs("s3d: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *mem_zalloc(size_t size)
{
	return mem_checked(calloc(1, size ? size : 1));
}

void *mem_realloc(void *old, size_t size)
{
	return mem_checked(realloc(old, size ? size : 1));
}

char *str_dup(const char *s)
{
	return mem_checked(strdup(s));
}

char *str_dupn(const char *s, size_t len)
{
	return mem_checked(strndup(s, len));
}

char *str_printf(const char *format, ...)
{
	va_list args;
	char *s = NULL;

	va_start(args, format);
	if (vasprintf(&s, format, args) < 0)
		s = NULL;
	va_end(args);
	return mem_checked(s);
}

bool str_starts(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

int str_to_u64(const char *s, uint64_t *ret)
{
	char *end;
	unsigned long long v;

	if (!s || !isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || *end)
		return -EINVAL;
	*ret = v;
	return 0;
}

int str_to_i64(const char *s, int64_t *ret)
{
	uint64_t v;
	bool negative = s && *s == '-';

	if (str_to_u64(s && (*s == '-' || *s == '+') ? s + 1 : s, &v) || v > INT64_MAX)
		return -EINVAL;
	*ret = negative ? -(int64_t)v : (int64_t)v;
	return 0;
}

/* The length of the UTF-8 sequence at `s`, 0 if it is not one. */
static size_t utf8_length(const unsigned char *s)
{
	size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3
		: s[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))
		return 0;
	if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

bool str_is_utf8(const char *s)
{
	for (const unsigned char *p = (const unsigned char *)s; *p;) {
		size_t len = utf8_length(p);

		if (!len)
			return false;
		p += len;
	}
	return true;
}

void free_str(char **s)
{
	free(*s);
}

void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static void buf_reserve(struct buf *buf, size_t more)
{
	size_t cap = buf->cap ? buf->cap : 128;

	while (cap < buf->len + more + 1)
		cap *= 2;
	if (cap != buf->cap)
		buf->data = mem_realloc(buf->data, cap);
	buf->cap = cap;
	buf->data[buf->len] = '\0';
}

void buf_add(struct buf *buf, const void *data, size_t len)
{
	buf_reserve(buf, len);
	if (len)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

void buf_str(struct buf *buf, const char *s)
{
	buf_add(buf, s, strlen(s));
}

void buf_char(struct buf *buf, char c)
{
	buf_add(buf, &c, 1);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
	va_list args, again;
	int len;

	va_start(args, format);
	va_copy(again, args);
	len = vsnprintf(NULL, 0, format, args);
	if (len > 0) {
		buf_reserve(buf, (size_t)len);
		vsnprintf(buf->data + buf->len, (size_t)len + 1, format, again);
		buf->len += (size_t)len;
	}
	va_end(again);
	va_end(args);
}

void buf_reset(struct buf *buf)
{
	buf->len = 0;
	if (buf->data)
		buf->data[0] = '\0';
}

void buf_release(struct buf *buf)
{
	free(buf->data);
	*buf = (struct buf){0};
}

const char *buf_text(const struct buf *buf)
{
	return buf->data ? buf->data : "";
}

char *buf_steal(struct buf *buf)
{
	char *s = buf->data ? buf->data : str_dup("");

	*buf = (struct buf){0};
	return s;
}

static bool uri_is_unreserved(unsigned char c)
{
	return (c < 0x80 && isalnum(c)) || c == '-' || c == '.' || c == '_' || c == '~';
}

void uri_encode(struct buf *out, const char *s, bool keep_slash)
{
	buf_reserve(out, 3 * strlen(s));
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (uri_is_unreserved(c) || (c == '/' && keep_slash))
			buf_char(out, *s);
		else
			buf_printf(out, "%%%02X", c);
	}
}

void uri_encode_listing(struct buf *out, const char *s)
{
	buf_reserve(out, strlen(s));
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if ((c < 0x80 && isalnum(c)) || (c && strchr("-_./*", c)))
			buf_char(out, *s);
		else if (c == ' ')
			buf_char(out, '+');
		else
			buf_printf(out, "%%%02X", c);
	}
}

int uri_decode(const char *s, size_t len, bool plus_is_space, char **ret)
{
	AUTO(free_str) char *out = mem_zalloc(len + 1);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)s[i];

		if (s[i] == '%') {
			char hex[3] = {0};

			if (i + 2 >= len)
				return -EINVAL;
			memcpy(hex, s + i + 1, 2);
			if (hex_decode(hex, &byte, 1) || !byte)
				return -EINVAL;
			i += 2;
		} else if (s[i] == '+' && plus_is_space) {
			byte = ' ';
		}
		out[n++] = (char)byte;
	}
	*ret = out;
	out = NULL;
	return 0;
}

void hex_encode(const uint8_t *data, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[data[i] >> 4];
		out[2 * i + 1] = digits[data[i] & 15];
	}
	out[2 * len] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_decode(const char *hex, uint8_t *out, size_t len)
{
	if (strlen(hex) != 2 * len)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

void base64_encode(const uint8_t *data, size_t len, char *out)
{
	EVP_EncodeBlock((unsigned char *)out, data, (int)len);
}

int base64_decode(const char *s, uint8_t *out, size_t size)
{
	size_t len = strlen(s);
	uint8_t tmp[192];
	int n;

	if (!len || len % 4 || len / 4 * 3 > sizeof(tmp))
		return -EINVAL;
	n = EVP_DecodeBlock(tmp, (const unsigned char *)s, (int)len);
	if (n < 0)
		return -EINVAL;
	n -= (s[len - 1] == '=') + (s[len - 2] == '=');
	if (n < 0 || (size_t)n > size)
		return -EINVAL;
	memcpy(out, tmp, (size_t)n);
	return n;
}

static int64_t time_of_clock_ms(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t time_now_ms(void)
{
	return time_of_clock_ms(CLOCK_REALTIME);
}

int64_t time_monotonic_ms(void)
{
	return time_of_clock_ms(CLOCK_MONOTONIC);
}

void time_format_iso(int64_t ms, char *out, size_t size)
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;
	size_t len;

	gmtime_r(&seconds, &tm);
	len = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + len, size - len, ".%03dZ", (int)(ms % 1000));
}

/* Not strftime: names of days and months must not follow the locale. */
void time_format_http(int64_t ms, char *out, size_t size)
{
	static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
		"Sep", "Oct", "Nov", "Dec"};
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	snprintf(out, size, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
		months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static int time_parse(const char *s, const char *format, int64_t *ret_ms)
{
	struct tm tm = {0};
	const char *end = strptime(s, format, &tm);

	if (!end || *end)
		return -EINVAL;
	*ret_ms = (int64_t)timegm(&tm) * 1000;
	return 0;
}

int time_parse_amz(const char *s, int64_t *ret_ms)
{
	return time_parse(s, "%Y%m%dT%H%M%SZ", ret_ms);
}

int time_parse_http(const char *s, int64_t *ret_ms)
{
	return time_parse(s, "%a, %d %b %Y %H:%M:%S GMT", ret_ms);
}
