/* The file system's side short of memory: what went stays hidden. */
#include <errno.h>

#include "memory_fault.h"

#include "fs_rig.h"

/* A folder of which the only file goes. */
static bool one_goes(void *user)
{
	struct fs_rig *r = user;
	struct store_change change = {.from = FILE_UPLOADED, .to = FILE_DELETING};
	struct fuse_entry_param folder, file;
	char name[16], key[32], prefix[32];
	bool met;

	snprintf(name, sizeof(name), "d%ld", memory_sweep_at);
	snprintf(key, sizeof(key), "%s/a", name);
	snprintf(prefix, sizeof(prefix), "%s/", name);
	assert_int_equal(rig_mkdir(r, 1, name, &folder), 0);
	file = rig_put(r, folder.ino, "a", "text");
	rig_upload(r, file.ino, key);
	must_hold(!fs_hidden_below(r->fs, prefix));
	change.ino = file.ino;
	memory_fault_begin(memory_sweep_at, false);
	fs_notice_store(r->fs, &change);
	met = memory_fault_end();
	must_hold(fs_hidden_below(r->fs, prefix));
	r->fs->hidden.all = false; /* for the next one */
	return met;
}

static void what_goes_is_remembered(void **state)
{
	struct fs_rig *r = rig_new("");

	(void)state;
	rig_start(r);
	memory_sweep("one goes", one_goes, r, 1);
	assert_true(memory_sweep_at > 1);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_goes_is_remembered),
	};

	return cmocka_run_group_tests_name("fs memory", tests, NULL, NULL);
}
