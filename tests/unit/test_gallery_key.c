/*
 * Paths to keys and back, prefixes, content types, TIFFs that were cut off.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "gallery_private.h"

#define PLATE                                                                                      \
	"cpg0016-jump/source_4/images/2021_04_26_Batch1/images/"                                   \
	"BR00117035__2021-05-02T16_02_51-Measurement1"
#define SPACE_PLATE                                                                                \
	"cpg0016-jump/source_3/images/CP59/images/BR5867a3__2022-04-29T01_02_16-Measurement 1"

static const struct naming_policy hold = {.mode = NAMING_HOLD};
static const struct naming_policy clean = {.mode = NAMING_CLEAN};
static const struct naming_policy clean_underscore = {.mode = NAMING_CLEAN, .clean_with = '_'};
static const struct naming_policy off = {.mode = NAMING_OFF};

/* A path is the key, byte for byte. */
static void path_is_key(void **state)
{
	static const char *const paths[] = {PLATE "/Images/r01c01f01p01-ch1sk1fk1fl1.tiff",
		"cpg0016-jump/source_8/images/J1/images/A1170383/Images/"
		"HTS_A01_s1_w33EFC51B3-x.tif",
		"cpg0016-jump/s/workspace/metadata/platemaps/b/platemap/OAA01.02.03.04.A.txt",
		"p/s/workspace/segmentation/x_1/objects/b/BR1/BR1.zarr/.zgroup",
		PLATE "/Assay layout (old)/A - 01(fld 1 wv 390 - Blue).tif", "a", "a/b c.txt",
		"a/%41+b~.txt", "a/é.txt"};
	char key[KEY_MAX_BYTES + 1];
	const char *component;
	size_t len;

	for (size_t i = 0; i < array_len(paths); i++) {
		assert_int_equal(path_judge(&hold, paths[i], false, &component, &len), NAME_OK);
		assert_int_equal(path_to_key(&hold, paths[i], false, key), 0);
		assert_string_equal(key, paths[i]);
	}
	assert_int_equal(path_judge(&hold, "", true, &component, &len), NAME_OK);
	assert_int_equal(path_to_key(&hold, "", true, key), -EINVAL);
}

static void assert_judged(const struct naming_policy *p, const char *path, bool is_folder,
	enum name_verdict want, const char *want_component)
{
	char key[KEY_MAX_BYTES + 1] = "untouched";
	const char *component = NULL;
	size_t len = 0;

	assert_int_equal(path_judge(p, path, is_folder, &component, &len), want);
	assert_true(component >= path && component + len <= path + strlen(path));
	assert_int_equal(len, strlen(want_component));
	assert_memory_equal(component, want_component, len);
	assert_int_equal(path_to_key(p, path, is_folder, key),
		want == NAME_TOO_LONG ? -ENAMETOOLONG : -EINVAL);
	assert_string_equal(key, "untouched");
}

static void first_bad_component_is_named(void **state)
{
	assert_judged(&hold, SPACE_PLATE "/Images/r01.tiff", false, NAME_REFUSED,
		"BR5867a3__2022-04-29T01_02_16-Measurement 1");
	assert_judged(&hold, SPACE_PLATE, true, NAME_REFUSED,
		"BR5867a3__2022-04-29T01_02_16-Measurement 1");
	assert_judged(&hold, PLATE "/.~tmp~/a.tif", false, NAME_TEMPORARY, ".~tmp~");
	assert_judged(&off, PLATE "/.~tmp~/a.tif", false, NAME_TEMPORARY, ".~tmp~");
	assert_judged(&hold, "$RECYCLE.BIN/x/a.tif", false, NAME_JUNK, "$RECYCLE.BIN");
	assert_judged(&hold, PLATE "/Images/.DS_Store", false, NAME_JUNK, ".DS_Store");
	assert_judged(&hold, PLATE "/Im\nages/a.tif", false, NAME_NOT_TEXT, "Im\nages");
	assert_judged(&off, "a/../b", false, NAME_REFUSED, "..");
	assert_judged(&off, "a//b", false, NAME_REFUSED, "");
	assert_judged(&off, "/a", false, NAME_REFUSED, "");
	assert_judged(&off, "a/", true, NAME_REFUSED, "");
}

static void cleaning_on_the_way_to_the_key(void **state)
{
	char key[KEY_MAX_BYTES + 1];

	assert_int_equal(path_to_key(&clean, SPACE_PLATE "/My Images/a b.tif", false, key), 0);
	assert_string_equal(key, "cpg0016-jump/source_3/images/CP59/images/"
				 "BR5867a3__2022-04-29T01_02_16-Measurement1/My Images/a b.tif");
	assert_int_equal(path_to_key(&clean_underscore, SPACE_PLATE, true, key), 0);
	assert_true(text_ends(key, "-Measurement_1"));
	/* The same name is a file here, a folder there. */
	assert_int_equal(path_to_key(&clean, "p/a b", false, key), 0);
	assert_string_equal(key, "p/a b");
	assert_int_equal(path_to_key(&clean, "p/a b", true, key), 0);
	assert_string_equal(key, "p/ab");
	assert_int_equal(path_to_key(&clean, "p/  /x", false, key), -EINVAL);
	assert_int_equal(path_to_key(&off, "p/a b/x", false, key), 0);
	assert_string_equal(key, "p/a b/x");
}

static void key_length_limit(void **state)
{
	char path[KEY_MAX_BYTES + 3], key[KEY_MAX_BYTES + 1];
	const char *component;
	size_t len;

	memset(path, 'x', sizeof(path));
	for (size_t i = 200; i < KEY_MAX_BYTES; i += 200)
		path[i] = '/';
	path[KEY_MAX_BYTES] = '\0';
	assert_int_equal(path_to_key(&hold, path, false, key), 0);
	assert_int_equal(strlen(key), KEY_MAX_BYTES);
	path[KEY_MAX_BYTES] = 'x';
	path[KEY_MAX_BYTES + 1] = '\0';
	assert_int_equal(path_to_key(&hold, path, false, key), -ENAMETOOLONG);
	assert_int_equal(path_judge(&hold, path, false, &component, &len), NAME_TOO_LONG);
	assert_ptr_equal(component, path + 1001);
	assert_int_equal(len, 24);
	/* One byte too many, but cleaning takes a space away. */
	path[10] = ' ';
	assert_int_equal(path_to_key(&clean, path, false, key), 0);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(path_judge(&hold, path, false, &component, &len), NAME_TOO_LONG);
}

static void listed_names_that_can_be_shown(void **state)
{
	char longest[257];

	memset(longest, 'x', sizeof(longest));
	assert_true(key_component_is_showable(longest, 255, false));
	assert_false(key_component_is_showable(longest, 256, false));
	assert_false(key_component_is_showable("", 0, false));
	assert_false(key_component_is_showable(".", 1, false));
	assert_false(key_component_is_showable("..", 2, false));
	assert_true(key_component_is_showable("...", 3, false));
	assert_true(key_component_is_showable("..x", 2 + 1, false));
	assert_false(key_component_is_showable("a/b", 3, false));
	assert_false(key_component_is_showable("a\0b", 3, false));
	assert_false(key_component_is_showable(".cpgfs", 6, true));
	assert_true(key_component_is_showable(".cpgfs", 6, false));
	assert_true(key_component_is_showable(".cpgfsx", 7, true));
	assert_true(key_component_is_showable("a b\xff\n", 5, true));
}

static void assert_prefix(const char *prefix, const char *want)
{
	char out[KEY_MAX_BYTES + 1] = "untouched";

	assert_int_equal(prefix_normalise(prefix, out), want ? 0 : -EINVAL);
	assert_string_equal(out, want ? want : "untouched");
}

static void prefixes(void **state)
{
	static const char *const bad[] = {"/", "/a", "a//b", "a//", "//", ".", "..", "a/..",
		"a/./b", "../a", "a/../", ".cpgfs", ".cpgfs/x", "a\xff/b"};
	char long_prefix[KEY_MAX_BYTES + 2], out[KEY_MAX_BYTES + 1];

	for (size_t i = 0; i < array_len(bad); i++)
		assert_prefix(bad[i], NULL);
	assert_prefix("", "");
	assert_prefix("a", "a");
	assert_prefix("cpg0037-oasis/broad", "cpg0037-oasis/broad");
	assert_prefix("cpg0037-oasis/broad/", "cpg0037-oasis/broad");
	assert_prefix("a b/é", "a b/é");
	assert_prefix("a/.cpgfs", "a/.cpgfs");
	memset(long_prefix, 'x', sizeof(long_prefix));
	long_prefix[300] = '\0';
	assert_int_equal(prefix_normalise(long_prefix, out), -ENAMETOOLONG);
	long_prefix[300] = 'x';
	for (size_t i = 100; i < KEY_MAX_BYTES; i += 100)
		long_prefix[i] = '/';
	long_prefix[KEY_MAX_BYTES + 1] = '\0';
	assert_int_equal(prefix_normalise(long_prefix, out), -ENAMETOOLONG);
	long_prefix[KEY_MAX_BYTES] = '\0';
	assert_int_equal(prefix_normalise(long_prefix, out), 0);
}

static void sides_of_the_prefix(void **state)
{
	static const struct {
		const char *prefix, *path;
		enum prefix_side side;
	} cases[] = {{"", "", PREFIX_INSIDE}, {"", "a/b", PREFIX_INSIDE}, {"p/q", "", PREFIX_ABOVE},
		{"p/q", "p", PREFIX_ABOVE}, {"p/q", "p/q", PREFIX_INSIDE},
		{"p/q", "p/q/r", PREFIX_INSIDE}, {"p/q", "p/qr", PREFIX_OUTSIDE},
		{"p/q", "p/r", PREFIX_OUTSIDE}, {"p/q", "pp", PREFIX_OUTSIDE},
		{"p/q", "q", PREFIX_OUTSIDE}, {"p/q", "p/", PREFIX_OUTSIDE},
		{"pp", "p", PREFIX_OUTSIDE}};

	for (size_t i = 0; i < array_len(cases); i++)
		assert_int_equal(prefix_side_of(cases[i].prefix, cases[i].path), cases[i].side);
}

/* As python3 -c 'import mimetypes; mimetypes.guess_type(NAME)' says on Debian 12. */
static void content_types(void **state)
{
	static const char *const pairs[][2] = {{"a.tif", "image/tiff"}, {"r01.TIFF", "image/tiff"},
		{"a.csv", "text/csv"}, {"a.txt", "text/plain"}, {"a.json", "application/json"},
		{"Index.idx.xml", "application/xml"}, {"a.png", "image/png"},
		{"a.npy", "binary/octet-stream"}, {"a.parquet", "binary/octet-stream"},
		{"a.sqlite", "application/vnd.sqlite3"}, {"a.csv.gz", "text/csv"},
		{"a.CSV.gz", "text/csv"}, {"a.csv.GZ", "application/gzip"},
		{"a.gz", "binary/octet-stream"}, {".gz", "binary/octet-stream"},
		{"a.tar.gz", "application/x-tar"}, {"a.tgz", "application/x-tar"},
		{"a.svgz", "image/svg+xml"}, {"a.txt.bz2", "text/plain"},
		{"a.bz2", "binary/octet-stream"}, {".csv", "binary/octet-stream"},
		{"..csv", "binary/octet-stream"}, {".x.csv", "text/csv"},
		{"a.", "binary/octet-stream"}, {"README", "binary/octet-stream"},
		{"", "binary/octet-stream"}, {".", "binary/octet-stream"}, {"a.gz.csv", "text/csv"},
		{"a.ome.tif", "image/tiff"}, {"p.zarr/.zgroup", "binary/octet-stream"},
		{"p.csv/README", "binary/octet-stream"}, {"x/y.csv", "text/csv"},
		{".x.gz", "binary/octet-stream"}, {"a.zip", "application/zip"},
		{"a.h5", "application/x-hdf5"}, {"a.xz", "binary/octet-stream"}};

	for (size_t i = 0; i < array_len(pairs); i++)
		assert_string_equal(content_type_of(pairs[i][0]), pairs[i][1]);
}

/* ---- TIFF ---- */

static const uint8_t little[] = {'I', 'I', 42, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0};
static const uint8_t bigend[] = {'M', 'M', 0, 42, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
static const uint8_t big_little[] = {'I', 'I', 43, 0, 8, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0};
static const uint8_t big_bigend[] = {'M', 'M', 0, 43, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0};

static void tiff_ifd_inside(void **state)
{
	/* The table at 16 with its count readable: 2 + 2 · 12 bytes. */
	assert_false(tiff_looks_cut_off("a.tif", little, sizeof(little), 16 + 26));
	assert_true(tiff_looks_cut_off("a.tif", little, sizeof(little), 16 + 25));
	assert_false(tiff_looks_cut_off("a.TIFF", bigend, sizeof(bigend), 16 + 26));
	assert_true(tiff_looks_cut_off("a.tiff", bigend, sizeof(bigend), 16 + 25));
	/* Not readable: room for one entry. */
	assert_false(tiff_looks_cut_off("a.tif", little, 16, 16 + 14));
	assert_true(tiff_looks_cut_off("a.tif", little, 16, 16 + 13));
	for (uint64_t size = 16; size < 16 + 14; size++)
		assert_true(tiff_looks_cut_off("a.tif", little, 16, size));
	assert_true(tiff_looks_cut_off("a.tif", bigend, 16, 8));
	/* BigTIFF, table at 256. */
	assert_false(tiff_looks_cut_off("a.tif", big_little, 16, 256 + 28));
	assert_true(tiff_looks_cut_off("a.tif", big_little, 16, 256 + 27));
	assert_false(tiff_looks_cut_off("a.tif", big_bigend, 16, 256 + 28));
	assert_true(tiff_looks_cut_off("a.tif", big_bigend, 16, 256 + 27));
	assert_true(tiff_looks_cut_off("a.tif", big_bigend, 16, 16));
}

static void tiff_bad_heads(void **state)
{
	uint8_t zeros[64] = {0}, head[16];

	assert_true(tiff_looks_cut_off("a.tif", zeros, sizeof(zeros), 2500000));
	for (size_t n = 1; n < 8; n++)
		assert_true(tiff_looks_cut_off("a.tif", little, n, n));
	for (size_t n = 8; n < 16; n++)
		assert_true(tiff_looks_cut_off("a.tif", big_little, n, n));
	memcpy(head, little, sizeof(head));
	head[4] = 0; /* written last: a writer that died leaves 0 */
	assert_true(tiff_looks_cut_off("a.tif", head, sizeof(head), 2500000));
	memset(head + 4, 0xff, 4);
	assert_true(tiff_looks_cut_off("a.tif", head, sizeof(head), 2500000));
	memcpy(head, little, sizeof(head));
	head[1] = 'M';
	assert_true(tiff_looks_cut_off("a.tif", head, sizeof(head), 2500000));
	memcpy(head, little, sizeof(head));
	head[2] = 0;
	head[3] = 42; /* the other order's magic */
	assert_true(tiff_looks_cut_off("a.tif", head, sizeof(head), 2500000));
	memcpy(head, big_little, sizeof(head));
	head[4] = 4; /* offsets of four bytes: no BigTIFF */
	assert_true(tiff_looks_cut_off("a.tif", head, sizeof(head), 2500000));
	memcpy(head, big_little, sizeof(head));
	memset(head + 8, 0xff, 8);
	assert_true(tiff_looks_cut_off("a.tif", head, sizeof(head), UINT64_MAX));
}

static void tiff_only(void **state)
{
	uint8_t zeros[16] = {0};

	assert_false(tiff_looks_cut_off("a.csv", zeros, sizeof(zeros), 100));
	assert_false(tiff_looks_cut_off("tif", zeros, sizeof(zeros), 100));
	assert_false(tiff_looks_cut_off("a.tif.gz", zeros, sizeof(zeros), 100));
	assert_false(tiff_looks_cut_off("a.tif", zeros, 0, 0));
	assert_true(tiff_looks_cut_off("a.ome.tif", zeros, sizeof(zeros), 100));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(path_is_key),
		cmocka_unit_test(first_bad_component_is_named),
		cmocka_unit_test(cleaning_on_the_way_to_the_key),
		cmocka_unit_test(key_length_limit),
		cmocka_unit_test(listed_names_that_can_be_shown),
		cmocka_unit_test(prefixes),
		cmocka_unit_test(sides_of_the_prefix),
		cmocka_unit_test(content_types),
		cmocka_unit_test(tiff_ifd_inside),
		cmocka_unit_test(tiff_bad_heads),
		cmocka_unit_test(tiff_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
