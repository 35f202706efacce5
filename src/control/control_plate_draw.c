/*
 * control_plate_draw - a plate as a picture (SVG) and as text: one cell a well.
 *
 * The colours are told apart by the colour-blind, too (Okabe and Ito's palette). In text a well's
 * letter is that of the worst of its images: what needs a person, then what is missing, then what
 * is on its way.
 */
#include <inttypes.h>

#include "control_plates.h"

static const struct {
	const char *colour, *name;
	char letter;
} shares[SHARES] = {
	[SHARE_VERIFIED] = {"#009e73", "verified", 'V'},
	[SHARE_UPLOADED] = {"#56b4e9", "uploaded", 'u'},
	[SHARE_COPIED] = {"#e69f00", "copied", 'c'},
	[SHARE_PERSON] = {"#d55e00", "needs you", '!'},
};

enum { MISSING_LETTER = '-', NO_WELL_LETTER = '.', LEFT = 34, TOP = 58 };

static unsigned images_of(const struct well_map *w)
{
	unsigned n = 0;

	for (size_t s = 0; s < SHARES; s++)
		n += w->images[s];
	return n;
}

static void row_text(unsigned row, char out[8])
{
	well_format(row, 1, out);
	out[strcspn(out, "0123456789")] = '\0';
}

static void totals(const struct plate_map *m, struct buf *out)
{
	uint64_t files = 0, bytes = 0;
	char size[24];

	for (size_t s = 0; s < SHARES; s++) {
		files += m->files[s];
		bytes += m->bytes[s];
	}
	size_format(bytes, size);
	buf_printf(out,
		"%" PRIu64 " files, %s; %" PRIu64 " of %" PRIu64
		" images (%u wells × %u sites × %u channels)",
		files, size, m->facts.images, m->facts.expected, m->facts.wells, m->facts.sites,
		m->facts.channels);
}

/* ---- SVG ------------------------------------------------------------------------------------ */

static void xml_escape(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (strchr("<>&\"'", *text))
			buf_printf(out, "&#%d;", *text);
		else if ((unsigned char)*text >= 0x20)
			buf_add_char(out, *text);
	}
}

static void svg_labels(const struct plate_map *m, unsigned cell, struct buf *out)
{
	for (unsigned col = 1; col <= m->facts.cols; col++)
		buf_printf(out, "<text x=\"%u\" y=\"%u\" text-anchor=\"middle\">%u</text>\n",
			LEFT + (col - 1) * cell + cell / 2, TOP - 4, col);
	for (unsigned row = 1; row <= m->facts.rows; row++) {
		char text[8];

		row_text(row, text);
		buf_printf(out, "<text x=\"%u\" y=\"%u\" text-anchor=\"end\">%s</text>\n", LEFT - 4,
			TOP + (row - 1) * cell + cell * 3 / 4, text);
	}
}

static void svg_tip(const struct plate_map *m, unsigned row, unsigned col, struct buf *out)
{
	const struct well_map *w = &m->wells[row][col];
	char text[8];

	well_format(row, col, text);
	buf_printf(out, "<title>%s: %u of %u images", text, images_of(w), m->per_well);
	for (size_t s = 0; s < SHARES; s++) {
		if (w->images[s])
			buf_printf(out, ", %u %s", w->images[s], shares[s].name);
	}
	buf_add_text(out, "</title>");
}

static void svg_well(
	const struct plate_map *m, unsigned row, unsigned col, unsigned cell, struct buf *out)
{
	const struct well_map *w = &m->wells[row][col];
	unsigned size = cell - 2, x = LEFT + (col - 1) * cell, y = TOP + (row - 1) * cell, from = 0;
	unsigned whole = images_of(w) > m->per_well ? images_of(w) : m->per_well, seen = 0;

	buf_printf(out, "<g><rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"%s\"/>", x, y,
		size, size, images_of(w) ? "#cccccc" : "#f2f2f2");
	for (size_t s = 0; s < SHARES && whole > 0; s++) {
		unsigned to;

		seen += w->images[s];
		to = seen * size / whole;
		/* a single one that needs a person shows */
		if (s == SHARE_PERSON && w->images[s] && to == from)
			to = from + 2 < size ? from + 2 : size;
		if (to > from)
			buf_printf(out,
				"<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"%s\"/>",
				x, y + size - to, size, to - from, shares[s].colour);
		from = to > from ? to : from;
	}
	svg_tip(m, row, col, out);
	buf_add_text(out, "</g>\n");
}

static void svg_legend(const struct plate_map *m, unsigned y, struct buf *out)
{
	unsigned x = LEFT;

	for (size_t s = 0; s < SHARES; s++, x += 130)
		buf_printf(out,
			"<rect x=\"%u\" y=\"%u\" width=\"10\" height=\"10\" fill=\"%s\"/>"
			"<text x=\"%u\" y=\"%u\">%s %" PRIu64 "</text>\n",
			x, y, shares[s].colour, x + 14, y + 9, shares[s].name, m->files[s]);
	buf_printf(out,
		"<rect x=\"%u\" y=\"%u\" width=\"10\" height=\"10\" fill=\"#cccccc\"/>"
		"<text x=\"%u\" y=\"%u\">missing %" PRIu64 "</text>\n",
		x, y, x + 14, y + 9, m->facts.missing);
}

void control_plate_svg(const struct plate_map *m, struct buf *out)
{
	unsigned cell = m->facts.cols > 24 ? 14 : 24;
	unsigned width = LEFT + m->facts.cols * cell + 10, height = TOP + m->facts.rows * cell + 30;

	buf_printf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" "
		"viewBox=\"0 0 %u %u\" font-family=\"sans-serif\" font-size=\"%u\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n"
		"<text x=\"%u\" y=\"18\" font-size=\"14\" font-weight=\"bold\">",
		width < 700 ? 700 : width, height, width < 700 ? 700 : width, height,
		cell > 20 ? 10 : 8, LEFT);
	xml_escape(out, m->name);
	buf_printf(out, "</text>\n<text x=\"%u\" y=\"34\" font-size=\"11\">", LEFT);
	totals(m, out);
	buf_add_text(out, "</text>\n");
	svg_labels(m, cell, out);
	for (unsigned row = 1; row <= m->facts.rows; row++) {
		for (unsigned col = 1; col <= m->facts.cols; col++)
			svg_well(m, row, col, cell, out);
	}
	svg_legend(m, height - 20, out);
	buf_add_text(out, "</svg>\n");
}

/* ---- text ----------------------------------------------------------------------------------- */

static char letter_of(const struct plate_map *m, const struct well_map *w)
{
	if (images_of(w) == 0)
		return NO_WELL_LETTER;
	if (w->images[SHARE_PERSON])
		return shares[SHARE_PERSON].letter;
	if (images_of(w) < m->per_well)
		return MISSING_LETTER;
	if (w->images[SHARE_COPIED])
		return shares[SHARE_COPIED].letter;
	return shares[w->images[SHARE_UPLOADED] ? SHARE_UPLOADED : SHARE_VERIFIED].letter;
}

static void text_row(const struct plate_map *m, unsigned row, struct buf *out)
{
	char label[8];

	row_text(row, label);
	buf_printf(out, "%2s ", label);
	for (unsigned col = 1; col <= m->facts.cols; col++) {
		/* wide plates fit 80 columns without gaps */
		buf_add_char(out, letter_of(m, &m->wells[row][col]));
		buf_add_text(out, m->facts.cols <= 24 && col < m->facts.cols ? " " : "");
	}
	buf_add_char(out, '\n');
}

static void text_columns(const struct plate_map *m, struct buf *out)
{
	unsigned step = m->facts.cols <= 24 ? 1 : 2, width = m->facts.cols <= 24 ? 2 : 1;

	if (m->facts.cols == 0)
		return;
	buf_add_text(out, "   ");
	for (unsigned col = 1; col <= m->facts.cols; col += step)
		buf_printf(out, "%-*u", (int)(width * step), col % 10);
	buf_add_char(out, '\n');
}

void control_plate_text(const struct plate_map *m, struct buf *out)
{
	text_escape(out, m->name);
	buf_add_char(out, '\n');
	totals(m, out);
	buf_add_text(out, "\n\n");
	text_columns(m, out);
	for (unsigned row = 1; row <= m->facts.rows; row++)
		text_row(m, row, out);
	buf_add_char(out, '\n');
	for (size_t s = 0; s < SHARES; s++)
		buf_printf(
			out, "%c %s %" PRIu64 "  ", shares[s].letter, shares[s].name, m->files[s]);
	buf_printf(out, "%c missing %" PRIu64 "  %c no image\n", MISSING_LETTER, m->facts.missing,
		NO_WELL_LETTER);
}
