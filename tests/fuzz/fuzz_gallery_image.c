/*
 * Names of images: fields in their ranges; a plate of them adds up.
 *
 *   names, a line each
 */
#include "fuzz.h"
#include "cpgfs/gallery.h"

#define MISSING_MAX 10000

static bool count_missing(void *user, unsigned row, unsigned col, unsigned site, unsigned channel,
	unsigned plane, unsigned time)
{
	unsigned *n = user;

	must(row <= PLATE_ROWS_MAX && col <= PLATE_COLS_MAX);
	return ++*n < MISSING_MAX;
}

static void check_image(const struct image_name *image)
{
	char well[8];
	unsigned row, col;

	must(image->vendor > IMAGE_OTHER && image->vendor < IMAGE_VENDORS);
	must(image_vendor_text(image->vendor)[0]);
	well_format(image->row, image->col, well);
	must(memchr(well, '\0', sizeof(well)));
	if (image->row > 0 && image->row <= 52 && image->col <= 99) {
		must(well_parse(well, strlen(well), &row, &col) == 0);
		must(row == image->row && col == image->col);
	}
}

static void check_plate(const struct plate *p, unsigned added)
{
	struct plate_pin pin = {0};
	struct plate_facts facts;
	unsigned missing = 0;

	must(plate_sum(p, &pin, &facts) == 0);
	must(facts.images + facts.twice + facts.thumbnails == added);
	must(facts.images <= facts.expected);
	must(plate_each_missing(p, &pin, count_missing, &missing) == 0);
	must(missing == MISSING_MAX || missing == facts.missing);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	char *text = fuzz_text(&in, 2048);
	struct plate *p;
	unsigned added = 0;

	must(plate_create(&p) == 0);
	for (char *rest = text, *name; (name = strsep(&rest, "\n"));) {
		struct image_name image;

		must(plate_short_name(name, strlen(name)) <= strlen(name));
		if (!image_name_parse(name, &image))
			continue;
		check_image(&image);
		added += plate_add(p, &image) == 0;
	}
	check_plate(p, added);
	plate_destroy(p);
	free(text);
	return 0;
}
