/*
 * Numbers, sizes, durations, dates, base64 and escapes: what is read can be written and read again.
 *
 *   what(1) text
 */
#include "fuzz.h"

static void try_u64(const char *text)
{
	uint64_t value, again;
	char plain[32];

	if (u64_parse(text, &value) < 0)
		return;
	snprintf(plain, sizeof(plain), "%llu", (unsigned long long)value);
	must(u64_parse(plain, &again) == 0 && again == value);
	must(strcmp(plain, text + strspn(text, "0")) == 0 || value == 0);
}

static void try_size(const char *text)
{
	uint64_t bytes = 0;
	int64_t ms = 0;
	char out[24];

	must(size_parse(text, &bytes) == 0 || bytes == 0);
	size_format(bytes, out);
	must(memchr(out, '\0', sizeof(out)) && strchr(out, ' '));
	must(duration_parse(text, &ms) == 0 || ms == 0);
	must(ms >= 0);
	duration_format(ms, out);
	must(memchr(out, '\0', sizeof(out)) && strchr(out, ' '));
	duration_format(-ms, out);
	must(memchr(out, '\0', sizeof(out)));
}

static void check_time(int64_t ns)
{
	char out[32];
	int64_t again, down = ns - ((ns % 1000000) + 1000000) % 1000000;

	int r;

	time_format_iso8601_ms(ns, out);
	r = time_parse_iso8601(out, &again);
	must(r == 0 ? again == down : r == -ERANGE); /* an offset leads into the year 2262 */
}

static void try_time(const char *text)
{
	int64_t ns;

	if (time_parse_iso8601(text, &ns) == 0)
		check_time(ns);
	if (time_parse_http(text, &ns) == 0)
		check_time(ns);
}

/* Code points, without looking at utf8_is_valid's way. */
static bool is_utf8(const uint8_t *p, size_t len)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

	for (size_t i = 0; i < len;) {
		unsigned more = p[i] < 0x80		? 0
				: (p[i] & 0xe0) == 0xc0 ? 1
				: (p[i] & 0xf0) == 0xe0 ? 2
				: (p[i] & 0xf8) == 0xf0 ? 3
							: 9;
		uint32_t code = more ? p[i] & (0x3fu >> more) : p[i];

		if (more == 9 || i + more >= len)
			return false;
		for (unsigned n = 1; n <= more; n++) {
			if ((p[i + n] & 0xc0) != 0x80)
				return false;
			code = code << 6 | (p[i + n] & 0x3f);
		}
		if ((more && code < least[more + 1]) || code > 0x10ffff ||
			(code >= 0xd800 && code < 0xe000))
			return false;
		i += more + 1;
	}
	return true;
}

static uint8_t unescape_one(const char **at)
{
	const char *p = *at + 2;
	uint8_t byte = 0;

	if (**at != '\\') {
		*at += 1;
		return (uint8_t)p[-2];
	}
	*at = p;
	if (p[-1] != 'x')
		return p[-1] == 'n' ? '\n' : p[-1] == 't' ? '\t' : (uint8_t)p[-1];
	must(hex_decode(p, 2, &byte) == 0);
	*at += 2;
	return byte;
}

static void try_escape(const char *text)
{
	cleanup_buf struct buf out = {0};
	size_t len = strlen(text);

	must(utf8_is_valid(text, len) == is_utf8((const uint8_t *)text, len));
	text_escape(&out, text);
	must(buf_error(&out) == 0 && utf8_is_valid(buf_text(&out), out.len));
	const char *at = buf_text(&out);
	for (size_t i = 0; i <= len; i++) {
		must((unsigned char)*at >= 0x20 || i == len);
		must(unescape_one(&at) == (uint8_t)text[i]);
	}
}

static void try_codes(const char *text)
{
	uint8_t raw[256];
	size_t len = strlen(text), raw_len;
	char again[512], crc_text[16];
	uint64_t crc;

	if (base64_decode(text, raw, sizeof(raw), &raw_len) == 0) {
		must(raw_len <= sizeof(raw));
		base64_encode(raw, raw_len, again);
		must(strcmp(again, text) == 0);
	}
	if (crc64nvme_from_text(text, &crc) == 0) {
		crc64nvme_to_text(crc, crc_text);
		must(strcmp(crc_text, text) == 0);
	}
	if (len / 2 <= sizeof(raw) && hex_decode(text, len, raw) == 0 && len < sizeof(again)) {
		hex_encode(raw, len / 2, again);
		must(strcasecmp(again, text) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	unsigned what = fuzz_u8(&in);
	char *text = fuzz_text(&in, len);

	switch (what % 5) {
	case 0:
		try_u64(text);
		break;
	case 1:
		try_size(text);
		break;
	case 2:
		try_time(text);
		break;
	case 3:
		try_escape(text);
		break;
	case 4:
		try_codes(text);
		break;
	}
	free(text);
	return 0;
}
