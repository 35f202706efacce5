/*
 * The Cell Painting Gallery's layout: real keys and real mistakes, each by the rule that must take
 * it; and what a layout file may not say.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <unistd.h>

#include "cpgfs/gallery.h"

static struct layout *cpg;

static char *file_read(const char *path)
{
	cleanup_file FILE *f = fopen(path, "r");
	cleanup_free char *text = NULL;
	size_t size = 0;

	assert_non_null(f);
	assert_true(getdelim(&text, &size, '\0', f) > 0);
	return steal_ptr(text);
}

static int setup(void **state)
{
	cleanup_free char *text = file_read(LAYOUT_FILE), *message = NULL;

	if (layout_create(&cpg, text, &message) == 0)
		return 0;
	print_error("%s\n", message);
	return -1;
}

static int teardown(void **state)
{
	layout_destroy(cpg);
	return 0;
}

struct vector {
	const char *key, *rule;
	enum layout_class class;
	const char *says; /* part of the explanation */
};

static void assert_vector(const struct vector *v)
{
	cleanup_buf struct buf text = {0};
	struct layout_match m;

	assert_int_equal(layout_match(cpg, v->key, &m), 0);
	layout_explain(cpg, v->key, &m, &text);
	if (m.class != v->class || strcmp(layout_rule_name(cpg, m.rule), v->rule) != 0 ||
		(v->says && !strstr(buf_text(&text), v->says)))
		fail_msg("%s\n  is %d by %s: %s", v->key, m.class, layout_rule_name(cpg, m.rule),
			buf_text(&text));
	assert_true((m.class < LAYOUT_WARN) == (text.len == 0));
}

static void assert_vectors(const struct vector *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_vector(&v[i]);
}

#define JUMP4 "cpg0016-jump/source_4/"
#define REQUIRED LAYOUT_REQUIRED, NULL
#define OPTIONAL LAYOUT_OPTIONAL, NULL

static void real_keys_are_taken(void **state)
{
	static const struct vector vectors[] = {
		{JUMP4 "images/2021_04_26_Batch1/images/"
		       "BR00117035__2021-05-02T16_02_51-Measurement1/"
		       "Images/r01c01f01p01-ch1sk1fk1fl1.tiff",
			"images.raw", REQUIRED},
		{"cpg0016-jump/source_8/images/J1/images/A1170383/Images/"
		 "HTS_A01_s1_w33EFC51B3-BD5E-465A-8A92-9E2ED9E72A12.tif",
			"images.raw", REQUIRED},
		{"cpg0016-jump/source_2/images/20210607_Batch_2/images/1053601756/"
		 "1053601756_A01_T0001F001L01A06Z01C06.tif",
			"images.raw", REQUIRED},
		{"cpg0036-EU-OS-bioactives/FMP/images/B1/images/B1001_R1/a b (1).tif", "images.raw",
			REQUIRED},
		{"cpg0016-jump/source_10/images/x/illum/ADMJUM001/ADMJUM001_IllumAGP.npy",
			"images.illum", OPTIONAL},
		{"cpg0021-periscope/broad/images/x/illum/CP257A/CP257A_Cycle1_IllumDNA.npy",
			"images.illum", OPTIONAL},
		{"cpg0021-periscope/broad/images/x/images_corrected/barcoding/CP257A-Well1-0/"
		 "Plate_CP257A_Well_1_Site_0_Cycle01_A.tiff",
			"images.derived", OPTIONAL},
		{JUMP4 "workspace/analysis/b/110000293094/analysis/110000293094-A01-1/Cells.csv",
			"workspace.analysis", OPTIONAL},
		{"cpg0003-rosetta/broad/workspace/analysis/b/p/analysis/J10/outlines/"
		 "J10_s1--cell_outlines.png",
			"workspace.analysis", OPTIONAL},
		{JUMP4 "workspace/backend/b/BR00116996/BR00116996.sqlite", "workspace.backend",
			OPTIONAL},
		{JUMP4 "workspace/backend/b/BR00116996/BR00116996.csv.gz", "workspace.backend",
			OPTIONAL},
		{JUMP4 "workspace/backend/b/BR00116996/notes/run.log", "backend.other_files",
			OPTIONAL},
		{JUMP4 "workspace/load_data_csv/b/BR00116996/load_data_with_illum.parquet",
			"workspace.load_data", REQUIRED},
		{JUMP4 "workspace/metadata/platemaps/b/barcode_platemap.csv", "metadata.barcodes",
			REQUIRED},
		{JUMP4 "workspace/metadata/platemaps/b/platemap/OAA01.02.03.04.A.txt",
			"metadata.platemaps", REQUIRED},
		{JUMP4 "workspace/metadata/external_metadata/external_metadata.tsv",
			"metadata.external", OPTIONAL},
		{JUMP4 "workspace/metadata/b/Barcodes.csv", "metadata.pooled", OPTIONAL},
		{JUMP4 "workspace/profiles/b/BR00116996/BR00116996.csv.gz", "workspace.profiles",
			OPTIONAL},
		{JUMP4 "workspace/profiles/b/BR00116996/"
		       "BR00116996_normalized_feature_select_negcon_batch.csv.gz",
			"workspace.profiles", OPTIONAL},
		{JUMP4 "workspace/segmentation/cellpose_202404/objects/b/BR00117036/"
		       "BR00117036.zarr/"
		       ".zgroup",
			"workspace.segmentation", OPTIONAL},
		{JUMP4 "workspace/quality_control/heatmap/b/p/p_cell_count.png",
			"workspace.quality_control", OPTIONAL},
		{JUMP4 "workspace/profiles_assembled/all/v0.1/var.parquet",
			"workspace.profiles_assembled", OPTIONAL},
		{JUMP4 "workspace/assaydev/x/y.csv", "workspace.known", OPTIONAL},
		{JUMP4 "workspace/assay_dev/x/y.csv", "workspace.known", OPTIONAL},
		{JUMP4 "workspace/pipelines/b/x.cppipe", "workspace.known", OPTIONAL},
		{"cpg0016-jump/source_1/workspace_dl/embeddings/m_1/b/Dest210531-152149/A01-01/"
		 "embedding.parquet",
			"dl.embeddings", OPTIONAL},
		{JUMP4 "workspace_dl/profiles/m/b/p/p.parquet", "dl.profiles", OPTIONAL},
		{JUMP4 "workspace_dl/collated/m/collated.parquet", "dl.collated", OPTIONAL},
		{"cpg0013/broad/images/b/images/p/x.tif", "images.raw", REQUIRED},
	};

	assert_vectors(vectors, array_len(vectors));
}

static void real_mistakes_are_named(void **state)
{
	static const struct vector vectors[] = {
		{"cpg0016-jump/source_11/images/Batch4/EC000111__2021-10-28T12_04_09-Measurement1/"
		 "Images/r14c09f01p01-ch1sk1fk1fl1.tiff",
			"images.inner", LAYOUT_WRONG,
			"the inner images/ is missing: images/Batch4/images/"
			"EC000111__2021-10-28T12_04_09-Measurement1/"},
		{"cpg0016-jump/source_2/images/b/1053601756/"
		 "1053601756_A01_T0001F001L01A06Z01C06.tif",
			"images.inner_flat", LAYOUT_WRONG, "inner images/ is missing"},
		{"cpg0016-jump/source_7/images/b/illum/IllumAGP.tif/IllumAGP.tif", "illum.format",
			LAYOUT_WRONG, "PLATE_IllumCHANNEL.npy"},
		{"cpg0016-jump/source_11/images/b/illum/EC000038/EC000001_IllumAGP.npy",
			"illum.other", LAYOUT_WRONG, "\"EC000001\" is another plate's name"},
		{JUMP4 "images/b/images/BR5867a3__2022-04-29T01_02_16-Measurement 1/Images/x.tiff",
			"unknown", LAYOUT_WRONG,
			"\"BR5867a3__2022-04-29T01_02_16-Measurement 1\" has no place in"},
		{"cpg0016-jump/source_8/workspace/profiles/README.md", "unknown", LAYOUT_WRONG,
			"\"README.md\" has no place in cpg0016-jump/source_8/workspace/profiles/"},
		{JUMP4 "workspace/scratch/x/y", "workspace.unknown", LAYOUT_WARN, "\"scratch\""},
		{JUMP4 "images/2021_04_26_Batch1/images/Images/r01c01f01p01-ch1sk1fk1fl1.tiff",
			"plate.missing", LAYOUT_WRONG, "images/2021_04_26_Batch1/images/PLATE/"},
		{JUMP4 "images/b/images_unprojected/p/x.tif", "images.unprojected", LAYOUT_WRONG,
			"images_projected"},
		{JUMP4 "images/b/unprojected_images/p/x.tif", "images.unprojected", LAYOUT_WRONG,
			NULL},
		{JUMP4 "images/b/images/images/p/x.tif", "images.twice", LAYOUT_WRONG,
			"images/b/images/p/"},
		{JUMP4 "images/b/images/images/x.tif", "plate.missing", LAYOUT_WRONG, "images/b/images/PLATE"},
		{JUMP4 "images/b/illum/CP1/CP2_Cycle1_IllumDNA.npy", "illum.other_cycle", LAYOUT_WRONG,
			"\"CP2\" is another plate's name"},
		{JUMP4 "images/b/illum/CP1/CP1_Illum-DNA.npy", "illum.channel", LAYOUT_WRONG,
			"\"-DNA\" is no channel's name"},
		{JUMP4 "images/b/illum/CP1/CP1_Cycle1_IllumDNA 1.npy", "illum.channel", LAYOUT_WRONG,
			"\"DNA 1\" is no channel's name"},
		{JUMP4 "images/b/illum/CP1/CP1_Illum.npy", "illum.channel_missing", LAYOUT_WRONG,
			"the channel's name is missing"},
		{JUMP4 "workspace/metadata/notes.txt", "metadata.other", LAYOUT_WARN, "external_metadata"},
		{JUMP4 "workspace_dl/other/x", "dl.other", LAYOUT_WARN, "workspace_dl"},
		{JUMP4 "2021_04_26_Batch1/images/p/x.tif", "batch.above", LAYOUT_WRONG,
			"images/2021_04_26_Batch1/images/"},
		{JUMP4 "images/images/p/x.tif", "batch.missing", LAYOUT_WRONG, NULL},
		{JUMP4 "images/set1/b/images/p/x.tif", "batch.nested", LAYOUT_WRONG,
			"images/b/images"},
		{"cpg0016-jump/images/b/images/p/x.tif", "source.missing", LAYOUT_WRONG, "SOURCE"},
		{JUMP4 "workspace/analysis/b/p/p-A01-1/Cells.csv", "analysis.inner", LAYOUT_WRONG,
			"analysis/b/p/analysis/p-A01-1/"},
		{JUMP4 "workspace/backend/b/EC000157/EC000157real.sqlite", "backend.other",
			LAYOUT_WRONG, "\"EC000157real\""},
		{JUMP4 "workspace/profiles/b/EC000157/EC000158.csv.gz", "profiles.other",
			LAYOUT_WRONG, "EC000158"},
		{JUMP4 "workspace/metadata/platemaps/b/platemaps/x.txt", "metadata.platemap_folder",
			LAYOUT_WRONG, "called platemap"},
		{JUMP4 "workspace/metadata/platemaps/b/x.txt", "metadata.platemap_place",
			LAYOUT_WRONG, "platemap/x.txt"},
		{"jump/source_4/images/b/images/p/x.tif", "images.raw", LAYOUT_WARN,
			"cpgNNNN-name, and its maintainers give the number; \"jump\" is not"},
		{JUMP4 "workspace/profiles/b/A01/A01.csv", "workspace.profiles", LAYOUT_WARN,
			"reads as a well"},
		{JUMP4 "workspaces/profiles/b/p/p.csv", "unknown", LAYOUT_WRONG,
			"did you mean \"workspace\"?"},
		{JUMP4 "Images/b/images/p/Images/x.tif", "unknown", LAYOUT_WRONG,
			"did you mean \"images\"?"},
		{"x", "unknown", LAYOUT_WRONG, "\"x\" has no place in the prefix"},
		{"", "unknown", LAYOUT_WRONG, NULL},
	};

	assert_vectors(vectors, array_len(vectors));
}

static void assert_level(
	const char *key, const struct layout_match *m, enum layout_level level, const char *want)
{
	assert_int_equal(m->level[level].len, strlen(want));
	assert_memory_equal(key + m->level[level].start, want, strlen(want));
}

static void levels_are_found(void **state)
{
	const char *key = JUMP4 "workspace/analysis/b/p-1/analysis/p-1-AB12-3/Cells.csv";
	struct layout_match m;

	assert_int_equal(layout_match(cpg, key, &m), 0);
	assert_level(key, &m, LAYOUT_PROJECT, "cpg0016-jump");
	assert_level(key, &m, LAYOUT_SOURCE, "source_4");
	assert_level(key, &m, LAYOUT_BATCH, "b");
	assert_level(key, &m, LAYOUT_PLATE, "p-1");
	assert_level(key, &m, LAYOUT_WELL, "AB12");
	assert_level(key, &m, LAYOUT_SITE, "3");
	assert_int_equal(m.level[LAYOUT_FULLPLATE].len, 0);
}

static void rules_say_what_is_required(void **state)
{
	int required = 0;

	for (int i = 0; i < layout_rules(cpg); i++) {
		if (layout_rule_per(cpg, i) != LAYOUT_LEVELS)
			required++;
		if (strcmp(layout_rule_name(cpg, i), "images.raw") == 0)
			assert_int_equal(layout_rule_per(cpg, i), LAYOUT_FULLPLATE);
	}
	assert_int_equal(required, 4);
	assert_string_equal(layout_level_name(LAYOUT_FULLPLATE), "fullplate");
}

static void plates_are_found(void **state)
{
	static const char *const values[] = {"P", "S", "B", "X"};
	static const char *const want[] = {
		"", "P", "P/S/images", "P/S/images/B/images", "P/S/images/B/images/X"};

	for (unsigned n = 0; n <= LAYOUT_PLATE_DEPTH; n++) {
		cleanup_buf struct buf got = {0};

		assert_int_equal(layout_plate_folder(cpg, values, n, &got), 0);
		assert_string_equal(buf_text(&got), want[n]);
	}
	cleanup_buf struct buf none = {0};
	assert_int_equal(layout_plate_folder(cpg, values, 5, &none), -ENOENT);
}

static void folders_are_taken_or_not(void **state)
{
	static const char *const good[] = {"", "cpg0016-jump", "cpg0016-jump/broad", JUMP4 "images",
		JUMP4 "images/b", JUMP4 "images/b/images", JUMP4 "images/b/images/p",
		JUMP4 "images/b/images/p/Images/deep", JUMP4 "images/b/illum/p", JUMP4 "workspace",
		JUMP4 "workspace/scratch", JUMP4 "workspace/profiles/b/p", "jump/source_4/images"};
	static const char *const bad[] = {"cpg0016-jump/images/b", JUMP4 "pictures",
		JUMP4 "images/b/unprojected_images/p", JUMP4 "images/b/images/a b",
		JUMP4 "workspace/profiles/b/p/deeper", JUMP4 "images/b/images/Images/x"};

	for (size_t i = 0; i < array_len(good); i++) {
		if (!layout_takes_folder(cpg, good[i]))
			fail_msg("%s is not taken", good[i]);
	}
	for (size_t i = 0; i < array_len(bad); i++) {
		if (layout_takes_folder(cpg, bad[i]))
			fail_msg("%s is taken", bad[i]);
	}
}

#define EIGHT "(x)(x)(x)(x)(x)(x)(x)(x)"

static void bad_files_are_refused_with_the_line(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"", "there is no rule in it"},
		{"# only this\n\n", "there is no rule in it"},
		{"level a b : c\nallowed x y\n", "line 2: \"allowed\" is none of"},
		{"level a b\n", "line 1: write: level"},
		{"level A b : c\n", "line 1: write: level"},
		{"level a [ : c\n", "line 1: the pattern \"[\" is wrong: "},
		{"level a b : c\nlevel a d : e\n", "line 2: level a is there already"},
		{"should a b : c\n", "line 1: write, once and after its level"},
		{"optional r <a>/b\n", "line 1: <a> is no level"},
		{"level a b : c\noptional r <a/b\n", "line 2: \"<a/b\" lacks its \">\""},
		{"optional r **/b\n", "line 1: ** must be the last"},
		{"optional r (a/b)\n", "line 1: \"(a/b)\": a ( needs its )"},
		{"optional r\n", "line 1: write: optional RULE TEMPLATE"},
		{"optional r a b\n", "(a template has no blanks)"},
		{"wrong r a\n", "line 1: write: wrong RULE TEMPLATE : TEXT"},
		{"required per moon r a\n", "line 1: per what?"},
		{"level plate b : c\nrequired per plate r a\n",
			"line 2: per plate, but there is no"},
		{"required per plate r a\n", "line 1: per plate, but there is no"},
		{"level a " EIGHT EIGHT EIGHT EIGHT EIGHT EIGHT EIGHT EIGHT " : b\nwarn r <a> : <a>\n",
			"line 2: the patterns of its levels have 65 groups"},
	};

	for (size_t i = 0; i < array_len(bad); i++) {
		cleanup_free char *message = NULL;
		struct layout *l = NULL;

		if (layout_create(&l, bad[i].text, &message) != -EINVAL)
			fail_msg("%s\nis taken", bad[i].text);
		assert_null(l);
		if (!strstr(message, bad[i].message))
			fail_msg("%s\nsays: %s", bad[i].text, message);
	}
}

static void templates_mean_what_they_say(void **state)
{
	cleanup_free char *message = NULL;
	struct layout *l = NULL;
	struct layout_match m;

	assert_int_equal(layout_create(&l,
				 "level plate [a-z]+ : p\r\n"
				 "optional r <plate>/(<plate>_)?x+.(csv|gz)\r\n"
				 "optional any b*/**\n",
				 &message),
		0);
	assert_int_equal(layout_match(l, "p/p_x+.gz", &m), 0);
	assert_int_equal(m.rule, 0);
	assert_int_equal(layout_match(l, "p/x+.csv", &m), 0);
	assert_int_equal(m.rule, 0);
	assert_int_equal(layout_match(l, "p/q_x+.gz", &m), 0);
	assert_int_equal(m.rule, -1);
	assert_int_equal(layout_match(l, "p/xx+.gz", &m), 0);
	assert_int_equal(m.rule, -1);
	assert_int_equal(layout_match(l, "p/x+_gz", &m), 0);
	assert_int_equal(m.rule, -1);
	assert_int_equal(layout_match(l, "blue 1/any/thing", &m), 0);
	assert_int_equal(m.rule, 1);
	assert_int_equal(layout_match(l, "blue 1", &m), 0);
	assert_int_equal(m.rule, -1);
	layout_destroy(l);
}

static void assert_standard(const char *folder, const char *want)
{
	struct layout_standard s;
	char got[512] = "";

	layout_standard_folders(cpg, folder, &s);
	for (unsigned i = 0; i < s.count; i++) {
		assert_true(layout_is_standard(cpg, folder, s.names[i]));
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s ", s.names[i]);
	}
	if (strcmp(got, want) != 0)
		fail_msg("below %s: \"%s\", not \"%s\"", folder, got, want);
}

static void standard_folders_lead_to_what_is_required(void **state)
{
	(void)state;
	assert_standard("", "");
	assert_standard("cpg0123-x", "");
	assert_standard("cpg0123-x/broad", "images workspace ");
	assert_standard("cpg0123-x/broad/images", "");
	assert_standard("cpg0123-x/broad/images/2026_01_15_Batch1", ""); /* who knows what it is */
	assert_standard("cpg0123-x/broad/images/b/images", "");
	assert_standard("cpg0123-x/broad/images/b/images/p", "");
	assert_standard("cpg0123-x/broad/workspace", "load_data_csv metadata ");
	assert_standard("cpg0123-x/broad/workspace/load_data_csv/b", "");
	assert_standard("cpg0123-x/broad/workspace/metadata", "platemaps ");
	assert_standard("cpg0123-x/broad/workspace/metadata/platemaps/b", "");
	assert_standard("cpg0123-x/broad/workspace/metadata/platemaps/b/platemap", "");
	/* mistakes are not helped along */
	assert_standard("cpg0123-x/broad/images/images", "");
	assert_standard("cpg0123-x/images", "");
	assert_standard("cpg0123-x/broad/images/a b", "");
	/* nor other people's projects */
	assert_standard("jump/source_4", "");
	assert_false(layout_is_standard(cpg, "cpg0123-x/broad", "workspace_dl"));
	assert_false(layout_is_standard(cpg, "cpg0123-x/broad", "<batch>"));
	assert_false(layout_is_standard(cpg, "cpg0123-x/broad", ""));
	assert_false(layout_is_standard(cpg, "cpg0123-x/broad", "image"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_keys_are_taken),
		cmocka_unit_test(real_mistakes_are_named),
		cmocka_unit_test(levels_are_found),
		cmocka_unit_test(rules_say_what_is_required),
		cmocka_unit_test(plates_are_found),
		cmocka_unit_test(folders_are_taken_or_not),
		cmocka_unit_test(standard_folders_lead_to_what_is_required),
		cmocka_unit_test(bad_files_are_refused_with_the_line),
		cmocka_unit_test(templates_mean_what_they_say),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
