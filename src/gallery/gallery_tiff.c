/*
 * gallery_tiff - does a finished TIFF look cut off?
 *
 * Writers put the table of the image (IFD) behind its pixels and its place into the header last, so
 * a copy that was cut off has a header that points past the end, or to 0, or has zeros for a magic.
 * Sources: TIFF 6.0 (Adobe, 1992) section 2; BigTIFF design (Aware Systems).
 */
#include "gallery_private.h"

/* A table's shape: 42 for classic TIFF, 43 for BigTIFF. */
struct tiff_form {
	unsigned header_bytes, count_bytes, entry_bytes;
};

static const struct tiff_form classic = {.header_bytes = 8, .count_bytes = 2, .entry_bytes = 12};
static const struct tiff_form big = {.header_bytes = 16, .count_bytes = 8, .entry_bytes = 20};

static uint64_t number_at(const uint8_t *p, unsigned bytes, bool little)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | p[little ? bytes - 1 - i : i];
	return v;
}

/* NULL: not a TIFF header. */
static const struct tiff_form *tiff_form_of(const uint8_t *head, size_t head_len, bool little)
{
	uint64_t magic;

	if (head_len < classic.header_bytes || head[0] != head[1] ||
		(head[0] != 'I' && head[0] != 'M'))
		return NULL;
	magic = number_at(head + 2, 2, little);
	if (magic == 42)
		return &classic;
	if (magic != 43 || head_len < big.header_bytes)
		return NULL;
	/* Size of offsets, always 8, and a 0. */
	return number_at(head + 4, 4, little) == (little ? 8 : 0x80000) ? &big : NULL;
}

/* The whole table inside the file, as far as its length can be read from head; one entry at least.
 */
static bool ifd_is_inside(const struct tiff_form *form, const uint8_t *head, size_t head_len,
	bool little, uint64_t size_bytes)
{
	unsigned offset_bytes = form == &big ? 8 : 4;
	uint64_t off = number_at(head + form->header_bytes - offset_bytes, offset_bytes, little);
	uint64_t entries = 1;

	if (off < form->header_bytes || off >= size_bytes || size_bytes - off <= form->count_bytes)
		return false;
	if (off <= head_len && head_len - off >= form->count_bytes)
		entries = number_at(head + off, form->count_bytes, little);
	return entries > 0 && entries <= (size_bytes - off - form->count_bytes) / form->entry_bytes;
}

static bool is_tiff_name(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && (strcasecmp(dot, ".tif") == 0 || strcasecmp(dot, ".tiff") == 0);
}

bool tiff_looks_cut_off(const char *name, const uint8_t *head, size_t head_len, uint64_t size_bytes)
{
	const struct tiff_form *form;
	bool little;

	if (!is_tiff_name(name) || size_bytes == 0)
		return false;
	if (head_len > size_bytes)
		head_len = (size_t)size_bytes;
	little = head_len > 0 && head[0] == 'I';
	form = tiff_form_of(head, head_len, little);
	return !form || !ifd_is_inside(form, head, head_len, little, size_bytes);
}
