/*
 * base_text - sizes, durations and odd bytes, read strictly and written for people.
 */
#include "base_private.h"

typedef unsigned __int128 u128;

/* Fractions beyond this many digits change no byte of a size and no millisecond. */
#define FRACTION_DIGITS_MAX 18

/* A number as written: whole.fraction, the fraction in units of 10^-digits. */
struct decimal {
	uint64_t whole;
	uint64_t fraction;
	uint64_t fraction_unit; /* 10^digits; 1 without a fraction */
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits at *p, at least one. -EINVAL, -ERANGE. */
static int take_digits(const char **p, uint64_t *ret)
{
	uint64_t v = 0;

	if (!is_digit(**p))
		return -EINVAL;
	for (; is_digit(**p); (*p)++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(**p - '0'), &v))
			return -ERANGE;
	}
	*ret = v;
	return 0;
}

static int take_decimal(const char **p, struct decimal *ret)
{
	int r = take_digits(p, &ret->whole);

	ret->fraction = 0;
	ret->fraction_unit = 1;
	if (r < 0 || **p != '.')
		return r;
	(*p)++;
	if (!is_digit(**p))
		return -EINVAL;
	for (int digits = 0; is_digit(**p); (*p)++, digits++) {
		if (digits >= FRACTION_DIGITS_MAX)
			return -EINVAL;
		ret->fraction = ret->fraction * 10 + (uint64_t)(**p - '0');
		ret->fraction_unit *= 10;
	}
	return 0;
}

/* d · unit, rounded down; a fraction of the smallest unit (1) is refused. */
static int decimal_times(const struct decimal *d, uint64_t unit, uint64_t max, uint64_t *ret)
{
	u128 v = (u128)d->whole * unit + (u128)d->fraction * unit / d->fraction_unit;

	if (unit == 1 && d->fraction_unit != 1)
		return -EINVAL;
	if (v > max)
		return -ERANGE;
	*ret = (uint64_t)v;
	return 0;
}

struct unit {
	const char *text;
	uint64_t factor;
};

static int parse_with_unit(
	const char *text, const struct unit *units, size_t count, uint64_t max, uint64_t *ret)
{
	struct decimal d;
	int r = take_decimal(&text, &d);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		if (strcasecmp(text, units[i].text) == 0)
			return decimal_times(&d, units[i].factor, max, ret);
	}
	return -EINVAL;
}

int size_parse(const char *text, uint64_t *ret_bytes)
{
	static const struct unit units[] = {
		{"", 1},
		{"B", 1},
		{"K", KIB},
		{"KB", KIB},
		{"KiB", KIB},
		{"M", MIB},
		{"MB", MIB},
		{"MiB", MIB},
		{"G", GIB},
		{"GB", GIB},
		{"GiB", GIB},
		{"T", TIB},
		{"TB", TIB},
		{"TiB", TIB},
		{"P", TIB * 1024},
		{"PB", TIB * 1024},
		{"PiB", TIB * 1024},
	};

	return parse_with_unit(text, units, array_len(units), UINT64_MAX, ret_bytes);
}

/* What is added to a time in nanoseconds must not pass their end, in 2262. */
#define DURATION_MAX_MS UINT64_C(3155760000000) /* 100 years */

int duration_parse(const char *text, int64_t *ret_ms)
{
	static const struct unit units[] = {
		{"", 1000},
		{"ms", 1},
		{"s", 1000},
		{"m", 60000},
		{"min", 60000},
		{"h", 3600000},
		{"d", 86400000},
	};
	uint64_t ms;
	int r = parse_with_unit(text, units, array_len(units), DURATION_MAX_MS, &ms);

	if (r < 0)
		return r;
	*ret_ms = (int64_t)ms;
	return 0;
}

void size_format(uint64_t bytes, char out[24])
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	u128 scaled_tenths = (u128)bytes * 10;
	size_t u = 0;
	unsigned tenths;

	if (bytes < KIB) {
		snprintf(out, 24, "%u B", (unsigned)bytes);
		return;
	}
	/* 1023.95 KiB and more reads as 1 MiB, not as 1024 KiB. */
	while ((scaled_tenths + KIB / 2) / KIB >= 10240 && u + 1 < array_len(units)) {
		scaled_tenths /= KIB;
		u++;
	}
	tenths = (unsigned)((scaled_tenths + KIB / 2) / KIB);
	if (tenths % 10 == 0 || tenths >= 1000)
		snprintf(out, 24, "%u %s", (tenths + 5) / 10, units[u]);
	else
		snprintf(out, 24, "%u.%u %s", tenths / 10, tenths % 10, units[u]);
}

void duration_format(int64_t ms, char out[24])
{
	const char *sign = ms < 0 ? "-" : "";
	uint64_t abs_ms = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;
	unsigned long long s = abs_ms / 1000;

	if (abs_ms < 1000)
		snprintf(out, 24, "%s%d ms", sign, (int)abs_ms);
	else if (s < 60)
		snprintf(out, 24, "%s%llu s", sign, s);
	else if (s < 3600)
		snprintf(out, 24, "%s%llu min %llu s", sign, s / 60, s % 60);
	else if (s < 86400)
		snprintf(out, 24, "%s%llu h %llu min", sign, s / 3600, s / 60 % 60);
	else
		snprintf(out, 24, "%s%llu d %llu h", sign, s / 86400, s / 3600 % 24);
}

int u64_parse(const char *text, uint64_t *ret)
{
	uint64_t v;
	int r = take_digits(&text, &v);

	if (r < 0)
		return r;
	if (*text)
		return -EINVAL;
	*ret = v;
	return 0;
}

bool text_starts(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_ends(const char *text, const char *suffix)
{
	size_t text_len = strlen(text), suffix_len = strlen(suffix);

	return text_len >= suffix_len && strcmp(text + text_len - suffix_len, suffix) == 0;
}

/* Length of the valid UTF-8 sequence at p (1..4), 0 if there is none (RFC 3629). */
static size_t utf8_sequence(const uint8_t *p, size_t len)
{
	uint8_t low = 0x80, high = 0xbf;
	size_t n;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (p[0] == 0xe0)
		low = 0xa0; /* shorter forms exist */
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xed)
		high = 0x9f; /* surrogates */
	else if (p[0] == 0xf4)
		high = 0x8f; /* above U+10FFFF */
	if (len < n || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	}
	return n;
}

bool utf8_is_valid(const char *text, size_t len)
{
	const uint8_t *p = (const uint8_t *)text;

	while (len > 0) {
		size_t n = utf8_sequence(p, len);

		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

bool text_copy(char *dst, const char *src, size_t size)
{
	size_t len = strlen(src);
	bool fits = len < size;

	check(size > 0);
	if (!fits)
		len = size - 1;
	memcpy(dst, src, len);
	dst[len] = '\0';
	return fits;
}

char *text_dup(const char *text)
{
	return strdup(text);
}

int text_printf(char **ret, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0)
		return -ENOMEM;
	*ret = text;
	return 0;
}

/* C0, DEL, and the two-byte C1 controls that some terminals obey. */
static bool is_control(const uint8_t *p, size_t n)
{
	return n == 1 ? p[0] < 0x20 || p[0] == 0x7f : n == 2 && p[0] == 0xc2 && p[1] < 0xa0;
}

static void escape_bytes(struct buf *out, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "\\x%02x", p[i]);
}

void text_escape(struct buf *out, const char *text)
{
	const uint8_t *p = (const uint8_t *)text, *end = p + strlen(text);

	while (p < end) {
		size_t n = utf8_sequence(p, (size_t)(end - p));

		if (*p == '\\')
			buf_add_text(out, "\\\\");
		else if (*p == '\t')
			buf_add_text(out, "\\t");
		else if (*p == '\n')
			buf_add_text(out, "\\n");
		else if (n == 0 || is_control(p, n))
			escape_bytes(out, p, n ? n : 1);
		else
			buf_add(out, p, n);
		p += n ? n : 1;
	}
}

/* "\xNN", "\n", "\t", "\\" back to bytes, in place. */
int text_unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		uint8_t byte = (uint8_t)*from;

		if (*from == '\\') {
			from++;
			if (*from == 'x' && from[1] && from[2] && hex_decode(from + 1, 2, &byte) == 0)
				from += 2;
			else if (*from == 'n' || *from == 't' || *from == '\\')
				byte = *from == 'n' ? '\n' : *from == 't' ? '\t' : '\\';
			else
				return -EINVAL;
		}
		if (byte == '\0')
			return -EINVAL;
		*to++ = (char)byte;
	}
	*to = '\0';
	return 0;
}
