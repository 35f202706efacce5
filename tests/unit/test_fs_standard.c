/*
 * Standard folders: shown where the gallery wants them, made by what is put into them, gone when
 * removed, never the bucket's, and never in the way of anything real.
 */
#include "fs_rig.h"

#define PREFIX "cpg0123-x/broad"

static struct layout *layout;

static int load(void **state)
{
	cleanup_free char *message = NULL;

	(void)state;
	return layout_create(&layout, layout_builtin("cellpainting"), &message);
}

static int unload(void **state)
{
	(void)state;
	layout_destroy(layout);
	return 0;
}

static struct fs_rig *begin(struct fuse_entry_param *ret_source)
{
	struct fs_rig *r = rig_new(PREFIX);

	r->config.standard = layout;
	rig_start(r);
	*ret_source = rig_walk(r, PREFIX);
	return r;
}

static bool is_in_store(struct fs_rig *r, const char *path, struct store_attr *ret)
{
	return store_resolve(r->store, path, ret) == 0;
}

static void shown_and_made_by_what_is_put_in(void **state)
{
	struct fuse_entry_param source, folder, batch;
	struct fs_rig *r = begin(&source);
	struct store_attr attr;
	uint64_t ino;

	(void)state;
	rig_must_list(r, source.ino, "images workspace");
	ino = rig_walk(r, PREFIX "/images").ino;
	rig_must_list(r, ino, "");
	rig_must_list(r, rig_walk(r, PREFIX "/workspace/metadata").ino, "platemaps");
	assert_false(is_in_store(r, PREFIX, &attr)); /* looking made nothing */
	assert_int_equal(rig_mkdir(r, ino, "Batch1", &batch), 0);
	assert_true(is_in_store(r, PREFIX "/images", &attr));
	assert_int_equal(attr.ino, ino);
	rig_must_list(r, batch.ino, ""); /* cp -r relies on it */
	assert_int_equal(rig_lookup(r, batch.ino, "images", NULL), -ENOENT);
	folder = rig_walk(r, PREFIX "/workspace/load_data_csv");
	(void)rig_put(r, folder.ino, "a.csv", "x");
	assert_true(is_in_store(r, PREFIX "/workspace/load_data_csv", &attr));
	assert_true(attr.flags & STORE_FLAG_BORN_LOCAL); /* no lookup in it waits */
	assert_int_equal(attr.ino, folder.ino);
	rig_must_list(r, folder.ino, "a.csv");
	rig_must_list(r, source.ino, "images workspace");
	assert_int_equal(fake_count(r->bucket, S3_PUT), 0);
	rig_free(r);
}

static void real_ones_go_first(void **state)
{
	struct fuse_entry_param source, workspace;
	struct fs_rig *r = rig_new(PREFIX);
	struct rig_listing *l;

	(void)state;
	r->config.standard = layout;
	fake_put(r->bucket, PREFIX "/workspace/metadata/x.txt", 1, "e");
	fake_put(r->bucket, PREFIX "/images", 7, "e"); /* a file, of all things */
	for (unsigned i = 0; i < 100; i++) {           /* more than a page on either side */
		char key[64];

		snprintf(key, sizeof(key), PREFIX "/k%03u", i);
		fake_put(r->bucket, key, 1, "e");
	}
	rig_start(r);
	source = rig_walk(r, PREFIX);
	l = rig_list(r, source.ino, true);
	assert_int_equal(l->count, 102);
	assert_string_equal(l->names[0], "images");
	assert_string_equal(l->names[101], "workspace");
	free(l);
	assert_true(S_ISREG(rig_walk(r, PREFIX "/images").attr.st_mode));
	workspace = rig_walk(r, PREFIX "/workspace");
	rig_must_list(r, workspace.ino, "load_data_csv metadata");
	rig_must_list(r, rig_walk(r, PREFIX "/workspace/metadata").ino, "platemaps x.txt");
	rig_free(r);
}

static void on_every_page(void **state)
{
	static const unsigned counts[] = {46, 47, 48, 49, 95, 96, 97};

	(void)state;
	for (size_t c = 0; c < 2 * array_len(counts); c++) {
		unsigned count = counts[c / 2];
		const char *start = c % 2 ? "a" : "x"; /* before "images", behind "workspace" */
		struct fuse_entry_param source;
		struct fs_rig *r = rig_new(PREFIX);
		struct rig_listing *l;

		r->config.standard = layout;
		for (unsigned i = 0; i < count; i++) {
			char key[64];

			snprintf(key, sizeof(key), PREFIX "/%s%03u", start, i);
			fake_put(r->bucket, key, 1, "e");
		}
		rig_start(r);
		source = rig_walk(r, PREFIX);
		l = rig_list(r, source.ino, c % 3);
		assert_int_equal(l->count, count + 2);
		for (size_t i = 1; i < l->count; i++)
			assert_true(strcmp(l->names[i - 1], l->names[i]) < 0);
		free(l);
		rig_free(r);
	}
}

static void removed_ones_stay_away(void **state)
{
	struct fuse_entry_param source, made;
	struct fs_rig *r = begin(&source);
	struct store_attr attr;

	(void)state;
	(void)rig_walk(r, PREFIX "/workspace");
	assert_int_equal(rig_rmdir(r, source.ino, "workspace"), 0);
	assert_int_equal(rig_lookup(r, source.ino, "workspace", NULL), -ENOENT);
	rig_must_list(r, source.ino, "images");
	assert_int_equal(rig_rmdir(r, source.ino, "workspace"), -ENOENT);
	assert_false(is_in_store(r, PREFIX "/workspace", &attr));
	assert_int_equal(rig_mkdir(r, source.ino, "workspace", &made), 0);
	rig_must_list(r, source.ino, "images workspace");
	assert_int_equal(rig_rmdir(r, source.ino, "workspace"), 0);
	/* one in it is gone, not itself */
	rig_remount(r);
	source = rig_walk(r, PREFIX);
	assert_int_equal(rig_rmdir(r, rig_walk(r, PREFIX "/workspace").ino, "metadata"), 0);
	rig_must_list(r, rig_walk(r, PREFIX "/workspace").ino, "load_data_csv");
	/* a folder that has only such ones is empty */
	rig_remount(r);
	source = rig_walk(r, PREFIX);
	(void)rig_put(r, rig_walk(r, PREFIX "/workspace/metadata").ino, "x", "x");
	assert_int_equal(
		rig_unlink(r, rig_walk(r, PREFIX "/workspace/metadata").ino, "x"), 0);
	rig_must_list(r, rig_walk(r, PREFIX "/workspace/metadata").ino, "platemaps");
	assert_int_equal(rig_rmdir(r, rig_walk(r, PREFIX "/workspace").ino, "metadata"), 0);
	rig_must_list(r, rig_walk(r, PREFIX "/workspace").ino, "load_data_csv");
	assert_int_equal(rig_rmdir(r, source.ino, "workspace"), 0);
	rig_must_list(r, source.ino, "images");
	rig_free(r);
}

/* The kernel did not know of it: as if it were not there. */
static void made_by_name(void **state)
{
	struct fuse_entry_param source, made;
	struct fs_rig *r = begin(&source);
	struct store_attr attr;

	(void)state;
	assert_int_equal(rig_lookup(r, source.ino, "other", NULL), -ENOENT); /* it is listed */
	assert_int_equal(rig_mkdir(r, source.ino, "images", &made), 0);
	assert_true(is_in_store(r, PREFIX "/images", &attr));
	assert_true(attr.flags & STORE_FLAG_BORN_LOCAL);
	assert_int_equal(rig_mkdir(r, source.ino, "images", &made), -EEXIST);
	rig_free(r);
}

static void renamed_and_renamed_over(void **state)
{
	struct fuse_entry_param source, made;
	struct fs_rig *r = begin(&source);

	(void)state;
	assert_int_equal(rig_mkdir(r, source.ino, "mine", &made), 0);
	(void)rig_put(r, made.ino, "f", "x");
	assert_int_equal(rig_rename(r, source.ino, "mine", source.ino, "images", RENAME_NOREPLACE),
		-EEXIST);
	assert_int_equal(rig_rename(r, source.ino, "mine", source.ino, "images", 0), 0);
	rig_must_list(r, rig_walk(r, PREFIX "/images").ino, "f");
	assert_int_equal(rig_rename(r, source.ino, "workspace", source.ino, "other", 0), 0);
	rig_must_list(r, source.ino, "images other");
	rig_free(r);
}

static void nowhere_else(void **state)
{
	struct fuse_entry_param source;
	struct fs_rig *r;

	(void)state;
	for (int how = 0; how < 4; how++) {
		r = rig_new(how == 3 ? "jump/source_4" : PREFIX);
		r->config.standard = how == 0 ? NULL : layout;
		r->config.read_only = how == 1;
		r->config.view = how == 2 ? FS_VIEW_UPLOADED : FS_VIEW_MERGED;
		rig_start(r);
		source = rig_walk(r, r->config.prefix);
		rig_must_list(r, source.ino, "");
		assert_int_equal(rig_lookup(r, source.ino, "images", NULL), -ENOENT);
		rig_free(r);
	}
	/* above the prefix there is only the way to it */
	r = rig_new(PREFIX "/workspace/load_data_csv");
	r->config.standard = layout;
	rig_start(r);
	rig_must_list(r, rig_walk(r, PREFIX).ino, "workspace");
	assert_int_equal(rig_lookup(r, rig_walk(r, PREFIX).ino, "images", NULL), -ENOENT);
	assert_int_equal(fake_count(r->bucket, S3_LIST), 0);
	rig_free(r);
}

/* What only stands in answers has the mount's time. rsync sets none that is right to the second, and
 * must not find another one when something below was set. */
static void brought_in_with_the_time_shown(void **state)
{
	struct fuse_entry_param source, before, metadata;
	struct fs_rig *r = begin(&source);
	struct stat mode = {.st_mode = S_IFDIR | 0700};
	struct fuse_req *req;
	struct store_attr attr;

	(void)state;
	before = rig_walk(r, PREFIX "/workspace");
	metadata = rig_walk(r, PREFIX "/workspace/metadata");
	req = rig_req(r);
	fs_operations.setattr(req, metadata.ino, &mode, FUSE_SET_ATTR_MODE, NULL);
	assert_int_equal(rig_result(req), 0);
	assert_true(is_in_store(r, PREFIX "/workspace/metadata", &attr));
	assert_int_equal(attr.mtime_ns % NS_PER_S, metadata.attr.st_mtim.tv_nsec);
	assert_int_equal(attr.mtime_ns / NS_PER_S, metadata.attr.st_mtim.tv_sec);
	assert_true(is_in_store(r, PREFIX "/workspace", &attr));
	assert_int_equal(attr.mtime_ns % NS_PER_S, before.attr.st_mtim.tv_nsec);
	assert_int_equal(attr.mtime_ns / NS_PER_S, before.attr.st_mtim.tv_sec);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shown_and_made_by_what_is_put_in),
		cmocka_unit_test(brought_in_with_the_time_shown),
		cmocka_unit_test(real_ones_go_first),
		cmocka_unit_test(on_every_page),
		cmocka_unit_test(removed_ones_stay_away),
		cmocka_unit_test(made_by_name),
		cmocka_unit_test(renamed_and_renamed_over),
		cmocka_unit_test(nowhere_else),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
