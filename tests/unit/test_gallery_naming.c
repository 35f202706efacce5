/*
 * The naming rule and the held names, on names of the gallery and of the programs that write there.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "gallery_private.h"

#include <fnmatch.h>

static const struct naming_policy hold = {.mode = NAMING_HOLD};
static const struct naming_policy clean = {.mode = NAMING_CLEAN};
static const struct naming_policy clean_underscore = {.mode = NAMING_CLEAN, .clean_with = '_'};
static const struct naming_policy refuse = {.mode = NAMING_REFUSE};
static const struct naming_policy off = {.mode = NAMING_OFF};

static void assert_all(const struct naming_policy *p, const char *const *names, bool is_folder,
	unsigned depth, enum name_verdict want)
{
	for (; *names; names++) {
		enum name_verdict got = name_judge(p, *names, is_folder, depth);

		if (got != want)
			print_error("\"%s\"\n", *names);
		assert_int_equal(got, want);
	}
}

/* Folder names of the public gallery. */
static void real_folders_pass(void **state)
{
	static const char *const names[] = {"cpg0016-jump", "cpg0036-EU-OS-bioactives",
		"cpg0026-lacoste_haghighi-rare-diseases", "cpg0013", "broad", "source_4",
		"source_all", "broad-az", "FMP", "images", "workspace", "workspace_dl",
		"2021_04_26_Batch1", "20210607_Batch_2", "J1", "CP59", "20210824-Run5",
		"p210824CPU2OS48hw384exp022JUMP", "JUMPCPE-20210623-Run01_20210624_003152",
		"BR00117035__2021-05-02T16_02_51-Measurement1", "1053601756", "P01_ADMJUM001",
		"GR00003381", "2024-12-09_B11A1R1_widefield__2024-12-09T13_40_28-Measurement_1",
		"images_projected", "x.ome.zarr", "v1.0.0", "CP257A-Well1-0", "-", "_", NULL};

	for (unsigned depth = 1; depth <= 8; depth++)
		assert_all(&hold, names, true, depth, NAME_OK);
	assert_all(&refuse, names, true, 6, NAME_OK);
}

static void refused_folders(void **state)
{
	static const char *const names[] = {"BR5867a3__2022-04-29T01_02_16-Measurement 1", "a b",
		" ", "a+b", "a(1)", "a,b", "µm", "Zürich", ".hidden", "trailing.", "a:b", "a'b",
		"a%20b", "a~", "a=b", "a&b", "a@b", "a#b", "a\\b", "a*b", "a?b", "a[b]", NULL};

	assert_all(&hold, names, true, 1, NAME_REFUSED);
	assert_all(&refuse, names, true, 6, NAME_REFUSED);
	assert_all(&hold, names, true, 7, NAME_OK); /* below the plate */
	assert_all(&hold, names, false, 1, NAME_OK);
	assert_all(&off, names, true, 1, NAME_OK);
	assert_all(&clean_underscore, names, true, 1, NAME_OK);
}

/* What no mode makes a name. */
static void never_a_name(void **state)
{
	static const char *const names[] = {"", ".", "..", "a/b", "/", NULL};

	assert_all(&hold, names, false, 9, NAME_REFUSED);
	assert_all(&off, names, true, 1, NAME_REFUSED);
	assert_all(&clean, names, true, 1, NAME_REFUSED);
}

static void real_files_pass(void **state)
{
	static const char *const names[] = {"r01c01f01p01-ch1sk1fk1fl1.tiff",
		"P01_ADMJUM001_A01_T0001F001L01A06Z01C06.tif",
		"HTS_A01_s1_w52C47F0FB-BD5E-465A-8A92-9E2ED9E72A12.tif",
		"A - 01(fld 1 wv 390 - Blue).tif",
		"Well1_Point1_0000_ChannelDAPI,Cy3,A594,Cy5,Cy7_Seq0000.nd2", "Index.idx.xml",
		"OAA01.02.03.04.A.txt", "BR00116996.csv.gz", "ADMJUM001_IllumAGP.npy",
		"MeasurementData.mlf", "barcode_platemap.csv", "110000293094.sqlite", ".zgroup",
		".zarray", ".zattrs", ".zmetadata", "README", "0", "Cells.csv",
		"J10_s1--cell_outlines.png", "Zürich µm.txt", "a+b%20c.txt", NULL};

	for (unsigned depth = 1; depth <= 8; depth++)
		assert_all(&hold, names, false, depth, NAME_OK);
}

static void temporary_names(void **state)
{
	static const char *const names[] = {".r01c01f01p01-ch1sk1fk1fl1.tiff.Ab12Cd", ".x.XXXXXX",
		".zgroup.a1B2c3", ".Index.idx.xml.000000", ".~tmp~", ".rsync-partial",
		"plate.tif.part", "a.partial", "a.tmp", "A.TMP", ".fuse_hidden0000000100000001",
		".nfs000000000012d68700000001", ".goutputstream-ABCDEF", NULL};
	static const char *const data[] = {".x.XXXXX", ".x.XXXXXXX", ".x.ab-cde", "x.XXXXXX",
		"..XXXXXX", ".XXXXXX", ".zgroup", "part", "partial.csv", "a.part.tif", "tmp",
		"a.tmp2", "~tmp~", ".x.Ab12Cd.tif", NULL};

	assert_all(&hold, names, false, 7, NAME_TEMPORARY);
	assert_all(&off, names, true, 2, NAME_TEMPORARY);
	assert_all(&clean_underscore, names, true, 2, NAME_TEMPORARY);
	assert_all(&hold, data, false, 7, NAME_OK);
}

static void junk_names(void **state)
{
	static const char *const names[] = {".DS_Store", ".ds_store", "Thumbs.db", "THUMBS.DB",
		"desktop.ini", "Desktop.ini", "._r01c01.tiff", "._", "$RECYCLE.BIN", "$Recycle.Bin",
		"System Volume Information", ".Trash-1000", ".Spotlight-V100", "._x.tmp", NULL};
	static const char *const data[] = {
		"DS_Store", "Thumbs.db.tif", "_x", "x._y", "RECYCLE.BIN", NULL};

	assert_all(&hold, names, false, 7, NAME_JUNK);
	assert_all(&hold, names, true, 3, NAME_JUNK);
	assert_all(&off, names, true, 3, NAME_JUNK);
	assert_all(&hold, data, false, 7, NAME_OK);
}

static void lists_are_options(void **state)
{
	static const char *const none[] = {NULL}, *const own[] = {"*.lock", NULL};
	static const char *const usual[] = {".DS_Store", "a.tmp", NULL};
	const struct naming_policy nothing = {.temporary = none, .junk = none};
	const struct naming_policy mine = {.temporary = own, .junk = none};

	assert_all(&nothing, usual, false, 7, NAME_OK);
	assert_int_equal(name_judge(&mine, "x.LOCK", false, 7), NAME_TEMPORARY);
	assert_int_equal(name_judge(&mine, "a.tmp", false, 7), NAME_OK);
}

/* Whatever is asked before fnmatch: its word counts. */
static void patterns_are_fnmatch(void **state)
{
	static const char *const patterns[] = {"*.part", ".?*.[A-Z]", "[ab]x", "a[bc]", "\\*x", "x\\*", "*",
		"?", "Thumbs.DB", "k*", "*k", "\xc3\xa9*", "*\xc3\x89", "[", "]", "a]", "x", NULL};
	static const char *const names[] = {"a.part", "A.PART", ".x.b", ".x.B", "ax", "bx", "cx", "ab",
		"aB", "ad", "*x", "x*", "xx", "x", "thumbs.db", "K", "k.k", "\xe2\x84\xaa",
		"\xc3\xa9t\xc3\xa9", "\xc3\x89", "[", "]", "a]", "part", ".part", NULL};

	for (size_t p = 0; patterns[p]; p++) {
		const char *const one[] = {patterns[p], NULL}, *const none[] = {NULL};
		const struct naming_policy mine = {.mode = NAMING_OFF, .temporary = one, .junk = none};

		for (size_t n = 0; names[n]; n++) {
			bool held = fnmatch(patterns[p], names[n], FNM_CASEFOLD) == 0;

			if ((name_judge(&mine, names[n], false, 7) == NAME_TEMPORARY) != held)
				fail_msg("'%s' and '%s'", patterns[p], names[n]);
		}
	}
}

static void not_text(void **state)
{
	static const char *const names[] = {
		"Z\xfcrich", "a\nb", "a\x7f", "\x01", "\xed\xa0\x80", "a\tb", NULL};

	assert_all(&hold, names, false, 7, NAME_NOT_TEXT);
	assert_all(&hold, names, true, 2, NAME_NOT_TEXT);
	assert_all(&off, names, true, 2, NAME_NOT_TEXT);
	assert_all(&clean, names, true, 7, NAME_NOT_TEXT);
	assert_int_equal(name_judge(&clean, "Z\xfcrich", true, 2), NAME_OK);
	assert_int_equal(name_judge(&clean, "\x01", true, 2), NAME_REFUSED);
}

static void assert_clean(const struct naming_policy *p, const char *name, const char *want)
{
	char out[64] = "untouched";
	int r = name_clean(p, name, out, sizeof(out));

	assert_int_equal(r, want ? 0 : -EINVAL);
	assert_string_equal(out, want ? want : "untouched");
	if (want)
		assert_int_equal(name_judge(&hold, out, true, 1), NAME_OK);
}

static void cleaning(void **state)
{
	char small[4];

	assert_clean(&clean, "BR5867a3-Measurement 1", "BR5867a3-Measurement1");
	assert_clean(&clean_underscore, "BR5867a3-Measurement 1", "BR5867a3-Measurement_1");
	assert_clean(&clean, "Zürich µm (2)", "Zrichm2");
	assert_clean(&clean_underscore, "Zürich µm (2)", "Z_rich__m__2_");
	assert_clean(&clean_underscore, "Z\xfcrich", "Z_rich");
	assert_clean(&clean, "x.ome.zarr", "x.ome.zarr");
	assert_clean(&clean, " .hidden. ", "hidden");
	assert_clean(&clean, "..a..", "a");
	assert_clean(&clean_underscore, ".a.", "_a_");
	assert_clean(&clean, "   ", NULL);
	assert_clean(&clean_underscore, "   ", "___");
	assert_clean(&clean, "...", NULL);
	assert_clean(&clean, "", NULL);
	assert_clean(&clean, "a .tmp", NULL); /* would be held in its turn */
	assert_clean(&clean, "Thumbs .db", NULL);
	assert_int_equal(name_judge(&clean, "Thumbs .db", true, 1), NAME_REFUSED);
	assert_int_equal(name_clean(&clean, "abc", small, sizeof(small)), 0);
	assert_int_equal(name_clean(&clean, "abcd", small, sizeof(small)), -ENAMETOOLONG);
}

static void modes_by_name(void **state)
{
	enum naming_mode mode = NAMING_OFF;

	for (int m = NAMING_HOLD; m <= NAMING_OFF; m++) {
		assert_int_equal(
			naming_mode_parse(naming_mode_text((enum naming_mode)m), &mode), 0);
		assert_int_equal((int)mode, m);
	}
	assert_int_equal(naming_mode_parse("Hold", &mode), -EINVAL);
	assert_int_equal(naming_mode_parse("", &mode), -EINVAL);
}

static void clean_with_values(void **state)
{
	char c = 'x';

	assert_int_equal(naming_clean_with_parse("_", &c), 0);
	assert_int_equal(c, '_');
	assert_int_equal(naming_clean_with_parse(".", &c), -EINVAL);
	assert_int_equal(naming_clean_with_parse(" ", &c), -EINVAL);
	assert_int_equal(naming_clean_with_parse("/", &c), -EINVAL);
	assert_int_equal(naming_clean_with_parse("__", &c), -EINVAL);
	assert_int_equal(c, '_');
	assert_int_equal(naming_clean_with_parse("", &c), 0);
	assert_int_equal(c, '\0');
}

static void reasons_name_the_way_out(void **state)
{
	char text[512], tiny[8];

	name_reason(&hold, NAME_REFUSED, "Measurement 1/x", 13, text, sizeof(text));
	assert_non_null(strstr(text, "\"Measurement 1\""));
	assert_non_null(strstr(text, "rename it in the mount"));
	assert_non_null(strstr(text, "cpgfs rename-clean, which makes it \"Measurement1\""));
	name_reason(&hold, NAME_REFUSED, "   ", 3, text, sizeof(text));
	assert_null(strstr(text, "rename-clean")); /* it could not help */
	name_reason(&hold, NAME_NOT_TEXT, "a\nb", 3, text, sizeof(text));
	assert_non_null(strstr(text, "\"a\\nb\""));
	name_reason(&hold, NAME_TEMPORARY, "a.tmp", 5, text, sizeof(text));
	assert_non_null(strstr(text, "until it is renamed"));
	name_reason(&hold, NAME_JUNK, "a.tmp", 5, tiny, sizeof(tiny));
	assert_int_equal(strlen(tiny), 7);
	name_reason(&hold, NAME_TOO_LONG, "a", 1, text, sizeof(text));
	assert_non_null(strstr(text, "1024"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_folders_pass),
		cmocka_unit_test(refused_folders),
		cmocka_unit_test(never_a_name),
		cmocka_unit_test(real_files_pass),
		cmocka_unit_test(temporary_names),
		cmocka_unit_test(patterns_are_fnmatch),
		cmocka_unit_test(junk_names),
		cmocka_unit_test(lists_are_options),
		cmocka_unit_test(not_text),
		cmocka_unit_test(cleaning),
		cmocka_unit_test(modes_by_name),
		cmocka_unit_test(clean_with_values),
		cmocka_unit_test(reasons_name_the_way_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
