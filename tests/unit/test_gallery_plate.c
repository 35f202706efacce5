/*
 * Image names of the microscopes this field uses, and what a plate of them has and lacks.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/gallery.h"

static void names_tell_well_site_and_channel(void **state)
{
	static const struct {
		const char *name;
		struct image_name want;
	} vectors[] = {
		{"r01c02f03p04-ch5sk6fk1fl1.tiff", {IMAGE_HARMONY, 1, 2, 3, 5, 4, 6}},
		{"r16c24f09p01-ch8sk1fk1fl1.tiff", {IMAGE_HARMONY, 16, 24, 9, 8, 1, 1}},
		{"r27c48f001p01-ch1sk1fk1fl1.tif", {IMAGE_HARMONY, 27, 48, 1, 1, 1, 1}},
		{"r01c02f03p04rc5-ch1sk1fk1fl1.tiff", {IMAGE_OPERETTA, 1, 2, 3, 5, 4, 1}},
		{"P01_ADMJUM001_A01_T0001F002L01A06Z03C06.tif", {IMAGE_YOKOGAWA, 1, 1, 2, 6, 3, 1}},
		{"1053601756_AF48_T0002F001L01A06Z01C01.TIF", {IMAGE_YOKOGAWA, 32, 48, 1, 1, 1, 2}},
		{"HTS_A01_s1_w52C47F0FB-BD5E-465A-8A92-9E2ED9E72A12.tif",
			{IMAGE_IMAGEXPRESS, 1, 1, 1, 5, 1, 1}},
		{"IXMtest_B15_s8_w49DE56250-1234-465A-8A92-9E2ED9E72A12.png",
			{IMAGE_IMAGEXPRESS, 2, 15, 8, 4, 1, 1}},
		{"plate_P24_w3.tif", {IMAGE_IMAGEXPRESS, 16, 24, 1, 3, 1, 1}},
		{"plate_A01_s2_w1_thumb0F7A2F0B-BD5E-465A-8A92-9E2ED9E72A12.tif",
			{IMAGE_IMAGEXPRESS, 1, 1, 2, 1, 1, 1, true}},
		{"H_7_f2_c1_x0_m0_z3_t4.tif", {IMAGE_INCELL_7, 8, 7, 2, 1, 3, 4}},
		{"MFGTMP_150406100001_B03f01d2.TIF", {IMAGE_CELLOMICS, 2, 3, 1, 2, 1, 1}},
	};

	for (size_t i = 0; i < array_len(vectors); i++) {
		const struct image_name *w = &vectors[i].want;
		struct image_name got;

		if (!image_name_parse(vectors[i].name, &got))
			fail_msg("%s is not understood", vectors[i].name);
		if (got.vendor != w->vendor || got.row != w->row || got.col != w->col ||
			got.site != w->site || got.channel != w->channel || got.plane != w->plane ||
			got.time != w->time || got.thumbnail != w->thumbnail)
			fail_msg("%s: %s row %u col %u site %u ch %u plane %u time %u",
				vectors[i].name, image_vendor_text(got.vendor), got.row, got.col,
				got.site, got.channel, got.plane, got.time);
	}
}

static void channels_by_name_differ(void **state)
{
	struct image_name blue, green, nikon;

	assert_true(image_name_parse("A - 01(fld 1 wv 390 - Blue).tif", &blue));
	assert_true(image_name_parse("x_A - 01(fld 1 wv 473 - Green z 2).tiff", &green));
	assert_int_equal(blue.vendor, IMAGE_INCELL);
	assert_int_equal(blue.row, 1);
	assert_int_equal(blue.site, 1);
	assert_int_not_equal(blue.channel, green.channel);
	assert_int_equal(green.plane, 2);
	assert_true(image_name_parse("Well2_Point0003_0003_ChannelDAPI,Cy3_Seq0000.nd2", &nikon));
	assert_int_equal(nikon.vendor, IMAGE_NIKON);
	assert_int_equal(nikon.row, 0);
	assert_int_equal(nikon.col, 2);
	assert_int_equal(nikon.site, 3);
}

static void other_names_tell_nothing(void **state)
{
	static const char *const names[] = {"", "Index.idx.xml", "x.tif", "A01.tif",
		"r1c2f3p4-ch1sk1fk1fl1.tiff", "r01c02f03p04-ch5sk6fk1fl1.tiff.part",
		"r01c00f01p01-ch1sk1fk1fl1.tiff", "HTS_A01_s1_w12.tif",
		"plate_A00_T0001F001L01A06Z01C06.tif", "plate_s1_w1.tif",
		"W0001F0001T0001Z001C1.tif"};

	for (size_t i = 0; i < array_len(names); i++) {
		struct image_name got = {.vendor = IMAGE_NIKON};

		if (image_name_parse(names[i], &got))
			fail_msg("%s is %s", names[i], image_vendor_text(got.vendor));
		assert_int_equal(got.vendor, IMAGE_OTHER);
	}
}

static void wells_to_AF48(void **state)
{
	static const struct {
		const char *text;
		unsigned row, col;
	} wells[] = {
		{"A01", 1, 1}, {"P24", 16, 24}, {"Z48", 26, 48}, {"AA01", 27, 1}, {"AF48", 32, 48}};
	unsigned row, col;

	for (size_t i = 0; i < array_len(wells); i++) {
		char text[8];

		assert_int_equal(well_parse(wells[i].text, strlen(wells[i].text), &row, &col), 0);
		assert_int_equal(row, wells[i].row);
		assert_int_equal(col, wells[i].col);
		well_format(row, col, text);
		assert_string_equal(text, wells[i].text);
	}
	assert_int_equal(well_parse("a1", 2, &row, &col), 0);
	assert_int_equal(row * 100 + col, 101);
	assert_int_equal(well_parse("A", 1, &row, &col), -EINVAL);
	assert_int_equal(well_parse("01", 2, &row, &col), -EINVAL);
	assert_int_equal(well_parse("A00", 3, &row, &col), -EINVAL);
	assert_int_equal(well_parse("A001", 4, &row, &col), -EINVAL);
	assert_int_equal(well_parse("BA01", 4, &row, &col), -EINVAL);
	assert_int_equal(well_parse("A0x", 3, &row, &col), -EINVAL);
	assert_int_equal(plate_short_name("BR00117035__2021-05-02T16_02_51-Measurement1", 44), 10);
	assert_int_equal(plate_short_name("P01_ADMJUM001", 13), 13);
	assert_int_equal(plate_short_name("__x", 3), 3);
}

static void add(struct plate *p, unsigned row, unsigned col, unsigned site, unsigned channel)
{
	struct image_name image = {IMAGE_HARMONY, row, col, site, channel, 1, 1};

	assert_int_equal(plate_add(p, &image), 0);
}

struct list {
	char text[600];
	unsigned n;
};

static bool list_missing(void *user, unsigned row, unsigned col, unsigned site, unsigned channel,
	unsigned plane, unsigned time)
{
	struct list *l = user;
	char well[8];

	well_format(row, col, well);
	l->n++;
	if (strlen(l->text) < 560)
		sprintf(l->text + strlen(l->text), "%s:%u:%u ", well, site, channel);
	return true;
}

static void a_plate_names_what_it_lacks(void **state)
{
	struct plate *p;
	struct plate_facts facts;
	struct plate_pin pin = {0};
	struct list missing = {0};

	assert_int_equal(plate_create(&p), 0);
	for (unsigned row = 1; row <= 16; row++) {
		for (unsigned col = 1; col <= 24; col++) {
			for (unsigned site = 1; site <= 9; site++) {
				for (unsigned channel = 1; channel <= 8; channel++) {
					if ((row == 2 && col == 3 && site == 4 && channel > 6) ||
						(row == 16 && col == 24 && site == 9))
						continue;
					add(p, row, col, site, channel);
				}
			}
		}
	}
	add(p, 1, 1, 1, 1);
	assert_int_equal(plate_sum(p, &pin, &facts), 0);
	assert_int_equal(facts.rows, 16);
	assert_int_equal(facts.cols, 24);
	assert_int_equal(facts.wells, 384);
	assert_int_equal(facts.sites, 9);
	assert_int_equal(facts.channels, 8);
	assert_int_equal(facts.expected, 27648);
	assert_int_equal(facts.images, 27638);
	assert_int_equal(facts.twice, 1);
	assert_int_equal(facts.missing, 10);
	assert_int_equal(plate_each_missing(p, &pin, list_missing, &missing), 0);
	assert_string_equal(missing.text,
		"B03:4:7 B03:4:8 P24:9:1 P24:9:2 P24:9:3 P24:9:4 P24:9:5 P24:9:6 P24:9:7 P24:9:8 ");
	plate_destroy(p);
}

static void a_pinned_plate_lacks_whole_wells_and_channels(void **state)
{
	struct plate *p;
	struct plate_facts facts;
	struct plate_pin pin;
	struct list missing = {0};

	assert_int_equal(plate_pin_parse("96,,2", &pin), 0);
	assert_int_equal(plate_create(&p), 0);
	for (unsigned col = 1; col <= 12; col++) {
		for (unsigned row = 1; row <= 8; row++) {
			if (row != 3 || col != 7)
				add(p, row, col, 0, 1);
		}
	}
	assert_int_equal(plate_sum(p, &pin, &facts), 0);
	assert_int_equal(facts.wells, 95);
	assert_int_equal(facts.expected, 192);
	assert_int_equal(facts.missing, 97);
	assert_int_equal(plate_each_missing(p, &pin, list_missing, &missing), 0);
	assert_string_equal(missing.text, "C07:0:0 ");
	plate_destroy(p);
}

static void the_largest_plate_and_beyond(void **state)
{
	struct image_name image = {IMAGE_HARMONY, 32, 48, 1, 1, 1, 1};
	struct plate *p;
	struct plate_facts facts;
	struct plate_pin pin = {0};

	assert_int_equal(plate_create(&p), 0);
	assert_int_equal(plate_sum(p, &pin, &facts), 0);
	assert_int_equal(facts.rows + facts.cols + facts.expected + facts.missing, 0);
	assert_int_equal(plate_add(p, &image), 0);
	image.row = 33;
	assert_int_equal(plate_add(p, &image), -ERANGE);
	image = (struct image_name){IMAGE_HARMONY, 1, 49, 1, 1, 1, 1};
	assert_int_equal(plate_add(p, &image), -ERANGE);
	for (unsigned plane = 1; plane <= 1000; plane++) {
		image = (struct image_name){IMAGE_HARMONY, 1, 1, 1, 1, plane, plane % 2};
		assert_int_equal(plate_add(p, &image), 0);
	}
	assert_int_equal(plate_sum(p, &pin, &facts), 0);
	assert_int_equal(facts.rows, 32);
	assert_int_equal(facts.cols, 48);
	assert_int_equal(facts.images, 1001 - 0);
	assert_int_equal(facts.stacks, 2000);
	plate_destroy(p);
}

static bool stop_at_three(void *user, unsigned row, unsigned col, unsigned site, unsigned channel,
	unsigned plane, unsigned time)
{
	struct list *l = user;

	return ++l->n < 3;
}

/* Every file its own site, channel, plane and time: too many to count, and counted no wrong. */
static void absurd_names(void **state)
{
	enum { FILES = 60000 };
	struct plate_pin pin = {0};
	struct plate_facts facts;
	struct list missing = {0};
	struct plate *p;

	(void)state;
	assert_int_equal(plate_create(&p), 0);
	for (unsigned i = 0; i < FILES; i++) {
		struct image_name image = {IMAGE_HARMONY, 1 + i / 48 % 32, 1 + i % 48, 1, 1, 1, 1};
		unsigned *field[] = {&image.site, &image.channel, &image.plane, &image.time};

		*field[i % 4] = i;
		assert_int_equal(plate_add(p, &image), 0);
	}
	assert_int_equal(plate_sum(p, &pin, &facts), 0);
	assert_int_equal(facts.images, FILES);
	assert_true(facts.expected == UINT64_MAX);
	assert_true(facts.missing == UINT64_MAX - FILES);
	assert_int_equal(plate_each_missing(p, &pin, stop_at_three, &missing), 0);
	assert_int_equal(missing.n, 3);
	plate_destroy(p);
}

static void pins(void **state)
{
	static const char *const bad[] = {"", "1", "1,2", "1,2,3,", "a,b,c", "1,2,-3", "12345,1,1"};
	struct plate_pin pin;

	assert_int_equal(plate_pin_parse("384,9,5", &pin), 0);
	assert_int_equal(pin.wells, 384);
	assert_int_equal(pin.sites, 9);
	assert_int_equal(pin.channels, 5);
	assert_int_equal(plate_pin_parse(",,", &pin), 0);
	assert_int_equal(pin.wells + pin.sites + pin.channels, 0);
	for (size_t i = 0; i < array_len(bad); i++)
		assert_int_equal(plate_pin_parse(bad[i], &pin), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_tell_well_site_and_channel),
		cmocka_unit_test(channels_by_name_differ),
		cmocka_unit_test(other_names_tell_nothing),
		cmocka_unit_test(wells_to_AF48),
		cmocka_unit_test(a_plate_names_what_it_lacks),
		cmocka_unit_test(a_pinned_plate_lacks_whole_wells_and_channels),
		cmocka_unit_test(the_largest_plate_and_beyond),
		cmocka_unit_test(absurd_names),
		cmocka_unit_test(pins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
