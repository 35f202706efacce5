/*
 * Percent-encoding. S3 encodes a key exactly once, and its path is never normalised: "a//b", "a/./b"
 * and "a/../b" are three keys (the generic SigV4 rules normalise; S3 is the documented exception).
 *
 * Source: S3 API, "Signature Calculations for the Authorization Header", UriEncode().
 */
#include "s3_encode.h"

static bool is_unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

static void encode(struct buf *out, const char *text, bool keep_slash)
{
	static const char digits[] = "0123456789ABCDEF";
	for (const char *p = text; *p;) {
		size_t plain = 0;
		while (is_unreserved((unsigned char)p[plain]) || (keep_slash && p[plain] == '/'))
			plain++;
		buf_add(out, p, plain);
		p += plain;
		if (!*p)
			break;
		unsigned char c = (unsigned char)*p++;
		char escaped[3] = {'%', digits[c >> 4], digits[c & 15]};
		buf_add(out, escaped, sizeof(escaped));
	}
}

void s3_encode_path(struct buf *out, const char *key)
{
	encode(out, key, true);
}

void s3_encode_param(struct buf *out, const char *text)
{
	encode(out, text, false);
}

void s3_encode_xml(struct buf *out, const char *text)
{
	for (const char *p = text; *p; p++) {
		if (*p == '&')
			buf_add_text(out, "&amp;");
		else if (*p == '<')
			buf_add_text(out, "&lt;");
		else if (*p == '>')
			buf_add_text(out, "&gt;");
		else if (*p == '"')
			buf_add_text(out, "&quot;");
		else
			buf_add_char(out, *p);
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int s3_decode_listed(char *text, size_t *ret_len)
{
	char *to = text;
	for (const char *p = text; *p; p++) {
		if (*p == '+') {
			*to++ = ' ';
		} else if (*p == '%') {
			int high = hex_digit(p[1]);
			int low = high < 0 ? -1 : hex_digit(p[2]);
			if (low < 0)
				return -EBADMSG;
			*to++ = (char)(high << 4 | low);
			p += 2;
		} else {
			*to++ = *p;
		}
	}
	*to = '\0';
	*ret_len = (size_t)(to - text);
	return 0;
}

/* One "name=value", encoded; sorting the pairs as text would put "a-b=1" before "a=1", so names are
 * compared first. */
struct encoded_param {
	const char *name, *value;
};

static int compare_params(const void *a, const void *b)
{
	const struct encoded_param *x = a, *y = b;
	int by_name = strcmp(x->name, y->name);
	return by_name ? by_name : strcmp(x->value, y->value);
}

void s3_encode_query(struct buf *out, const struct s3_param *params, size_t count)
{
	check(count <= S3_PARAMS_MAX);
	struct buf texts[2 * S3_PARAMS_MAX];
	struct encoded_param pairs[S3_PARAMS_MAX] = { 0 };
	for (size_t i = 0; i < count; i++) {
		buf_init(&texts[2 * i], 0);
		buf_init(&texts[2 * i + 1], 0);
		s3_encode_param(&texts[2 * i], params[i].name);
		s3_encode_param(&texts[2 * i + 1], params[i].value ? params[i].value : "");
		if (!out->error)
			out->error = texts[2 * i].error ? texts[2 * i].error : texts[2 * i + 1].error;
		pairs[i] = (struct encoded_param){
			buf_text(&texts[2 * i]), buf_text(&texts[2 * i + 1])};
	}
	qsort(pairs, count, sizeof(pairs[0]), compare_params);
	for (size_t i = 0; i < count; i++) {
		if (i)
			buf_add_char(out, '&');
		buf_add_text(out, pairs[i].name);
		buf_add_char(out, '=');
		buf_add_text(out, pairs[i].value);
	}
	for (size_t i = 0; i < 2 * count; i++)
		buf_release(&texts[i]);
}
