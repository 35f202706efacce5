/*
 * base_buf - a growing byte buffer that remembers its first failure, and numbers in byte strings.
 */
#include "base_private.h"

#include <endian.h>

#define BUF_DEFAULT_MAX_BYTES ((size_t)(64 * MIB))
#define BUF_FIRST_BYTES 64

void buf_init(struct buf *b, size_t max_bytes)
{
	*b = (struct buf){.max = max_bytes};
}

static void give_up(const struct buf *b)
{
	if (b->wipes)
		wiping_free(b->data);
	else
		free(b->data);
}

void buf_release(struct buf *b)
{
	give_up(b);
	*b = (struct buf){.max = b->max, .wipes = b->wipes};
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->error = 0;
	if (b->data)
		b->data[0] = '\0';
}

void cleanup_buf_fn(struct buf *b)
{
	give_up(b);
}

/* Makes room for more bytes and a NUL. False: b->error says why. */
static bool buf_reserve(struct buf *b, size_t more)
{
	size_t max = b->max ? b->max : BUF_DEFAULT_MAX_BYTES;
	size_t cap = b->cap ? b->cap : BUF_FIRST_BYTES;
	char *grown;

	if (b->error)
		return false;
	if (more > max || b->len > max - more || max == SIZE_MAX) {
		b->error = -ENOBUFS;
		return false;
	}
	if (b->data && b->len + more < b->cap)
		return true;
	while (cap <= b->len + more)
		cap = cap > SIZE_MAX / 2 ? b->len + more + 1 : cap * 2;
	grown = b->wipes ? wiping_realloc(b->data, cap) : realloc(b->data, cap);
	if (!grown) {
		b->error = -ENOMEM;
		return false;
	}
	b->data = grown;
	b->cap = cap;
	return true;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
	if (!buf_reserve(b, len))
		return;
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void buf_add_text(struct buf *b, const char *text)
{
	buf_add(b, text, strlen(text));
}

void buf_add_char(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list args, again;
	int n;

	va_start(args, fmt);
	va_copy(again, args);
	n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (n < 0 && !b->error)
		b->error = -EINVAL;
	if (n >= 0 && buf_reserve(b, (size_t)n)) {
		(void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again); /* measured above */
		b->len += (size_t)n;
	}
	va_end(again);
}

const char *buf_text(const struct buf *b)
{
	return b->data ? b->data : "";
}

int buf_error(const struct buf *b)
{
	return b->error;
}

char *buf_steal(struct buf *b)
{
	char *stolen;

	buf_add(b, "", 0); /* an empty buffer still gives a text */
	stolen = b->error ? NULL : steal_ptr(b->data);
	buf_release(b);
	return stolen;
}

void put_be64(uint8_t *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
}

uint64_t get_be64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

void put_be32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

uint32_t get_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

void put_be16(uint8_t *p, uint16_t v)
{
	v = htobe16(v);
	memcpy(p, &v, sizeof(v));
}

uint16_t get_be16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}

void put_le64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

uint64_t get_le64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

void put_le32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

uint32_t get_le32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

void put_le16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

uint16_t get_le16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}
