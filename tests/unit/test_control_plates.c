/*
 * Pictures of a plate: what each well shows.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <libxml/parser.h>

#include "control_plates.h"

static struct plate_map *map_new(unsigned rows, unsigned cols)
{
	struct plate_map *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	strcpy(m->name, "BR<1>&\"2\"");
	m->facts = (struct plate_facts){.rows = rows,
		.cols = cols,
		.wells = 5,
		.sites = 2,
		.channels = 2,
		.stacks = 1,
		.images = 14,
		.expected = 20,
		.missing = 6};
	m->per_well = 4;
	return m;
}

static void text_shows_the_worst_of_a_well(void **state)
{
	struct plate_map *m = map_new(2, 3);
	cleanup_buf struct buf out = {0};

	m->wells[1][1].images[SHARE_VERIFIED] = 4;
	m->wells[1][2].images[SHARE_VERIFIED] = 3;
	m->wells[1][2].images[SHARE_UPLOADED] = 1;
	m->wells[1][3].images[SHARE_UPLOADED] = 3;
	m->wells[1][3].images[SHARE_COPIED] = 1;
	m->wells[2][1].images[SHARE_COPIED] = 3;
	m->wells[2][2].images[SHARE_VERIFIED] = 1;
	m->wells[2][2].images[SHARE_PERSON] = 1;
	m->files[SHARE_VERIFIED] = 9;
	m->bytes[SHARE_VERIFIED] = 2 * MIB;
	control_plate_text(m, &out);
	assert_string_equal(buf_text(&out),
		"BR<1>&\"2\"\n"
		"9 files, 2 MiB; 14 of 20 images (5 wells × 2 sites × 2 channels)\n\n"
		"   1 2 3 \n"
		" A V u c\n"
		" B - ! .\n\n"
		"V verified 9  u uploaded 0  c copied 0  ! needs you 0  - missing 6  . no image\n");
	free(m);
}

static void the_largest_plate_fits_80_columns(void **state)
{
	struct plate_map *m = map_new(32, 48);
	cleanup_buf struct buf out = {0};
	char *save = NULL;
	unsigned lines = 0;

	m->wells[32][48].images[SHARE_COPIED] = 4;
	control_plate_text(m, &out);
	assert_non_null(strstr(buf_text(&out), "AF "));
	for (char *line = strtok_r(out.data, "\n", &save); line;
		line = strtok_r(NULL, "\n", &save), lines++)
		assert_true(strlen(line) <= 82); /* three × take two bytes each */
	assert_int_equal(lines, 2 + 1 + 32 + 1);
	free(m);
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
		n++;
	return n;
}

static void the_svg_is_well_formed_and_has_every_well(void **state)
{
	struct plate_map *m = map_new(16, 24);
	cleanup_buf struct buf out = {0};
	xmlDoc *doc;

	m->wells[1][1].images[SHARE_VERIFIED] = 4;
	m->wells[16][24].images[SHARE_VERIFIED] = 999;
	m->wells[16][24].images[SHARE_PERSON] = 1; /* one among a thousand shows */
	control_plate_svg(m, &out);
	doc = xmlReadMemory(buf_text(&out), (int)out.len, "plate.svg", NULL, XML_PARSE_NONET);
	assert_non_null(doc);
	xmlFreeDoc(doc);
	assert_int_equal(count(buf_text(&out), "<title>"), 384);
	assert_non_null(strstr(buf_text(&out), "A01: 4 of 4 images, 4 verified"));
	assert_non_null(strstr(buf_text(&out), "P24: 1000 of 4 images, 999 verified, 1 needs you"));
	assert_non_null(strstr(buf_text(&out), "BR&#60;1&#62;&#38;&#34;2&#34;"));
	assert_int_equal(count(buf_text(&out), "#d55e00"), 2); /* legend and well */
	free(m);
}

static void a_plate_without_images(void **state)
{
	struct plate_map *m = map_new(0, 0);
	cleanup_buf struct buf svg = {0}, text = {0};
	xmlDoc *doc;

	m->facts = (struct plate_facts){0};
	m->per_well = 0;
	control_plate_svg(m, &svg);
	control_plate_text(m, &text);
	doc = xmlReadMemory(buf_text(&svg), (int)svg.len, "plate.svg", NULL, XML_PARSE_NONET);
	assert_non_null(doc);
	xmlFreeDoc(doc);
	assert_non_null(strstr(buf_text(&text), "0 of 0 images"));
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_shows_the_worst_of_a_well),
		cmocka_unit_test(the_largest_plate_fits_80_columns),
		cmocka_unit_test(the_svg_is_well_formed_and_has_every_well),
		cmocka_unit_test(a_plate_without_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
