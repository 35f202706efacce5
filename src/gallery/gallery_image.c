/*
 * gallery_image - the well, site and channel that an image's name tells, by maker of the
 * microscope.
 *
 * One pattern a maker, tried in order; the groups carry the names of the fields. The digit after
 * ImageXpress' _w is the channel, and a UUID may follow it without a separator, so the UUID is
 * matched from the right.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <pthread.h>

#include "cpgfs/gallery.h"

enum field {
	FIELD_ROW,
	FIELD_COL,
	FIELD_WELL,
	FIELD_SITE,
	FIELD_CHANNEL,
	FIELD_CHANNEL_TEXT,
	FIELD_PLANE,
	FIELD_TIME,
	FIELD_THUMB,
	FIELDS,
};

static const char *const field_names[FIELDS] = {
	[FIELD_ROW] = "row",
	[FIELD_COL] = "col",
	[FIELD_WELL] = "well",
	[FIELD_SITE] = "site",
	[FIELD_CHANNEL] = "ch",
	[FIELD_CHANNEL_TEXT] = "chname",
	[FIELD_PLANE] = "plane",
	[FIELD_TIME] = "time",
	[FIELD_THUMB] = "thumb",
};

#define TIFF "\\.(?i:tiff?)"
#define UUID "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
#define WELL "(?<well>[A-Za-z]{1,2}[0-9]{1,2})"

static const struct maker {
	enum image_vendor vendor;
	const char *text;
	const char *pattern;
} makers[] = {
	{IMAGE_HARMONY, "Opera Phenix/Operetta",
		"r(?<row>[0-9]{2})c(?<col>[0-9]{2})f(?<site>[0-9]{2,3})p(?<plane>[0-9]{2,3})"
		"-ch(?<ch>[0-9]{1,2})sk(?<time>[0-9]+)fk[0-9]+fl[0-9]+" TIFF},
	{IMAGE_OPERETTA, "Operetta",
		"r(?<row>[0-9]{2})c(?<col>[0-9]{2})f(?<site>[0-9]{2,3})p(?<plane>[0-9]{2,3})"
		"rc(?<ch>[0-9]+)-ch[0-9]+sk(?<time>[0-9]+)fk[0-9]+fl[0-9]+" TIFF},
	{IMAGE_YOKOGAWA, "Yokogawa CV7000/CV8000",
		".+_" WELL "_T(?<time>[0-9]{4})F(?<site>[0-9]{3})L[0-9]{2}A[0-9]{2}"
		"Z(?<plane>[0-9]{2,3})C(?<ch>[0-9]{2})" TIFF},
	{IMAGE_IMAGEXPRESS, "ImageXpress",
		".+?_(?!s[0-9]+_w)" WELL
		"(?:_s(?<site>[0-9]{1,3}))?_w(?<ch>[0-9])(?<thumb>_thumb)?_?(?:" UUID
		")?\\.(?i:tiff?|png)"},
	{IMAGE_INCELL, "InCell",
		"(?:.*_)?(?<row>[A-P]) - (?<col>[0-9]{1,2})\\(fld (?<site>[0-9]+) "
		"wv (?<chname>.+ - [^)]+?)(?: z (?<plane>[0-9]+))?\\)" TIFF},
	{IMAGE_INCELL_7, "InCell 7.2",
		"(?<row>[A-P])_(?<col>[0-9]+)_f(?<site>[0-9]+)_c(?<ch>[0-9]+)_x.+_m.+"
		"_z(?<plane>[0-9]+)_t(?<time>[0-9]+)" TIFF},
	{IMAGE_CELLOMICS, "Cellomics",
		".+_" WELL "f(?<site>[0-9]{1,2})d(?<ch>[0-9])\\.(?i:tiff?|c01|dib)"},
	{IMAGE_NIKON, "Nikon",
		"Well(?<col>[0-9]+)_Point(?<site>[0-9]+)_[0-9]{4}_Channel(?<chname>.+)"
		"_Seq[0-9]{4}\\.nd2"},
};

static struct compiled {
	pcre2_code *code;
	int group[FIELDS];
} compiled[array_len(makers)];
static pthread_once_t compiled_once = PTHREAD_ONCE_INIT;

/* The patterns are constants: they compile, or memory is out and no name is recognised. */
static void compile_all(void)
{
	for (size_t i = 0; i < array_len(makers); i++) {
		struct compiled *c = &compiled[i];
		int error = 0;
		PCRE2_SIZE at = 0;

		c->code = pcre2_compile((PCRE2_SPTR)makers[i].pattern, PCRE2_ZERO_TERMINATED,
			PCRE2_ANCHORED | PCRE2_ENDANCHORED, &error, &at, NULL);
		check(c->code || error == PCRE2_ERROR_HEAP_FAILED);
		if (!c->code)
			continue;
		(void)pcre2_jit_compile(c->code, PCRE2_JIT_COMPLETE);
		for (int f = 0; f < FIELDS; f++) {
			int group = pcre2_substring_number_from_name(
				c->code, (PCRE2_SPTR)field_names[f]);

			c->group[f] = group > 0 ? group : 0;
		}
	}
}

const char *image_vendor_text(enum image_vendor vendor)
{
	for (size_t i = 0; i < array_len(makers); i++) {
		if (makers[i].vendor == vendor)
			return makers[i].text;
	}
	return "other";
}

struct piece {
	const char *at;
	size_t len; /* 0: not there */
};

static struct piece piece_of(
	const struct compiled *c, enum field f, const char *name, pcre2_match_data *data)
{
	const PCRE2_SIZE *at = pcre2_get_ovector_pointer(data) + 2 * (size_t)c->group[f];

	if (c->group[f] == 0 || at[0] == PCRE2_UNSET)
		return (struct piece){.at = name};
	return (struct piece){.at = name + at[0], .len = at[1] - at[0]};
}

/* Digits of a name are few; more than nine are no number of ours. */
static bool number_of(struct piece p, unsigned *ret)
{
	unsigned n = 0;

	if (p.len == 0 || p.len > 9)
		return p.len == 0;
	for (size_t i = 0; i < p.len; i++)
		n = n * 10 + (unsigned)(p.at[i] - '0');
	*ret = n;
	return true;
}

static unsigned text_number(struct piece p)
{
	return 1000 + (unsigned)(crc64nvme(0, p.at, p.len) % 1000000);
}

int well_parse(const char *text, size_t len, unsigned *ret_row, unsigned *ret_col)
{
	unsigned row = 0, col = 0;
	size_t i = 0;

	for (; i < len && i < 2 && ((text[i] | 0x20) >= 'a' && (text[i] | 0x20) <= 'z'); i++)
		row = row * 26 + (unsigned)((text[i] | 0x20) - 'a') + 1;
	if (i == 0 || i == len || len - i > 2 || row > 52)
		return -EINVAL;
	for (; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		col = col * 10 + (unsigned)(text[i] - '0');
	}
	if (col == 0)
		return -EINVAL;
	*ret_row = row;
	*ret_col = col;
	return 0;
}

void well_format(unsigned row, unsigned col, char out[8])
{
	char letters[3] = {0};

	if (row > 26) {
		letters[0] = (char)('A' + (row - 1) / 26 - 1);
		letters[1] = (char)('A' + (row - 1) % 26);
	} else if (row > 0) {
		letters[0] = (char)('A' + row - 1);
	}
	if (row > 0)
		(void)snprintf(out, 8, "%s%02u", letters, col % 100);
	else
		(void)snprintf(out, 8, "Well%u", col % 1000);
}

/* Rows are letters in some names and numbers in others. */
static bool row_of(struct piece p, unsigned *ret)
{
	if (p.len == 1 && p.at[0] >= 'A' && p.at[0] <= 'Z') {
		*ret = (unsigned)(p.at[0] - 'A') + 1;
		return true;
	}
	return number_of(p, ret);
}

static bool fields_read(
	const struct compiled *c, const char *name, pcre2_match_data *data, struct image_name *ret)
{
	struct piece well = piece_of(c, FIELD_WELL, name, data);
	struct piece channel = piece_of(c, FIELD_CHANNEL_TEXT, name, data);

	ret->site = ret->plane = ret->time = 1;
	if (well.len > 0 && well_parse(well.at, well.len, &ret->row, &ret->col) < 0)
		return false;
	if (channel.len > 0)
		ret->channel = text_number(channel);
	ret->thumbnail = piece_of(c, FIELD_THUMB, name, data).len > 0;
	return row_of(piece_of(c, FIELD_ROW, name, data), &ret->row) &&
	       number_of(piece_of(c, FIELD_COL, name, data), &ret->col) &&
	       number_of(piece_of(c, FIELD_SITE, name, data), &ret->site) &&
	       number_of(piece_of(c, FIELD_CHANNEL, name, data), &ret->channel) &&
	       number_of(piece_of(c, FIELD_PLANE, name, data), &ret->plane) &&
	       number_of(piece_of(c, FIELD_TIME, name, data), &ret->time) && ret->col > 0;
}

static void data_free(pcre2_match_data **data)
{
	pcre2_match_data_free(*data);
}

bool image_name_parse(const char *name, struct image_name *ret)
{
	cleanup_with(data_free) pcre2_match_data *data = pcre2_match_data_create(16, NULL);
	size_t len = strlen(name);

	*ret = (struct image_name){.vendor = IMAGE_OTHER};
	(void)pthread_once(&compiled_once, compile_all);
	for (size_t i = 0; data && i < array_len(makers); i++) {
		struct image_name image = {.vendor = makers[i].vendor};

		if (!compiled[i].code ||
			pcre2_match(compiled[i].code, (PCRE2_SPTR)name, len, 0, 0, data, NULL) < 0)
			continue;
		if (!fields_read(&compiled[i], name, data, &image))
			continue;
		*ret = image;
		return true;
	}
	return false;
}

size_t plate_short_name(const char *fullplate, size_t len)
{
	for (size_t i = 1; i + 1 < len; i++) {
		if (fullplate[i] == '_' && fullplate[i + 1] == '_')
			return i;
	}
	return len;
}
