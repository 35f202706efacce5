/*
 * What comes between two steps of a request: a delete ends in the bucket, or a name that went is
 * made and uploaded anew, before each lock that the request takes, one after the other. What is
 * ours is never taken for somebody else's meanwhile. And a time set between is not set back.
 */
#include "fs_rig.h"

static _Thread_local bool watched; /* a request is under way here */
#define LOCK_IS_WATCHED watched
#include "before_lock.h"

#define STEPS_MAX 1000

/* ---- what comes between ---- */

static struct fs_rig *the_rig;
static void (*what_comes)(struct fs_rig *r);

static void it_comes(void)
{
	watched = false;
	what_comes(the_rig);
	watched = true;
}

/* topN/plate/a, of the step N */
static char top_name[16], plate_path[32], plate_prefix[40], key[48];

/* As the upload room does it: the listing is told, then the record goes. */
static void the_delete_ends(struct fs_rig *r)
{
	struct store_inode inode;

	assert_int_equal(store_inodes_of_key(r->store, key, &inode, 1), 1);
	assert_int_equal(inode.attr.state, FILE_DELETING);
	fake_remove(r->bucket, key);
	remote_note_delete(r->remote, key);
	assert_int_equal(store_forget(r->store, inode.attr.ino), 0);
}

static void it_is_made(struct fs_rig *r)
{
	struct fuse_entry_param top = rig_walk(r, top_name), plate, file;

	if (rig_lookup(r, top.ino, "plate", &plate) == -ENOENT)
		assert_int_equal(rig_mkdir(r, top.ino, "plate", &plate), 0);
	file = rig_put(r, plate.ino, "a", "anew");
	rig_upload(r, file.ino, key);
}

/* ---- requests ---- */

static void must_be_ours(const struct fuse_entry_param *entry)
{
	assert_false(entry->ino & STORE_INO_FROM_BUCKET);
}

static void look_up(struct fs_rig *r, uint64_t top)
{
	struct fuse_entry_param entry;

	if (rig_lookup(r, top, "plate", &entry) == -ENOENT)
		return;
	must_be_ours(&entry);
	if (rig_lookup(r, entry.ino, "a", &entry) == 0)
		must_be_ours(&entry);
}

static void list_one(struct fs_rig *r, uint64_t ino, bool plus)
{
	cleanup_free struct rig_listing *l = rig_list(r, ino, plus);

	for (size_t i = 0; i < l->count; i++)
		assert_false(l->inos[i] & STORE_INO_FROM_BUCKET);
}

static void list(struct fs_rig *r, uint64_t top)
{
	struct store_attr plate;

	list_one(r, top, false);
	list_one(r, top, true);
	if (store_resolve(r->store, plate_path, &plate) == 0)
		list_one(r, plate.ino, false);
}

static void rename_it(struct fs_rig *r, uint64_t top)
{
	int e = rig_rename(r, top, "plate", top, "moved", 0);

	assert_true(e == 0 || e == -ENOENT);
}

static void rename_above(struct fs_rig *r, uint64_t top)
{
	char moved[24];

	(void)top;
	snprintf(moved, sizeof(moved), "moved-%s", top_name);
	assert_int_equal(rig_rename(r, STORE_ROOT_INO, top_name, STORE_ROOT_INO, moved, 0), 0);
}

/* ---- each at each step ---- */

enum before { STAYS_EMPTY, WAS_REMOVED, NOT_LISTED, NEVER_WAS };

static void wait_until_listed(struct fs_rig *r, const char *prefix, const char *name)
{
	struct remote_entry entry;

	while (remote_lookup(r->remote, prefix, name, false, &entry) != 0 ||
		remote_cached_has(r->remote, prefix, name) != 1)
		sched_yield();
}

/* A folder that the bucket had first, so that what is below it is not known to be ours. */
static uint64_t make_top(struct fs_rig *r, const char *name, struct fuse_entry_param *ret_made)
{
	struct fuse_entry_param top;
	char theirs[32];

	snprintf(theirs, sizeof(theirs), "%s/theirs", top_name);
	fake_put(r->bucket, theirs, 1, "e");
	remote_refresh(r->remote, "");
	top = rig_walk(r, top_name);
	assert_int_equal(rig_mkdir(r, top.ino, name, ret_made), 0);
	fake_remove(r->bucket, theirs);
	remote_note_delete(r->remote, theirs);
	return top.ino;
}

/* One that is known to be new to the bucket, so that all in it is ours; its first listing is still to
 * come. */
static uint64_t make_not_listed(struct fs_rig *r, struct fuse_entry_param *ret_plate)
{
	struct fuse_entry_param top, beside;

	top.ino = make_top(r, "beside", &beside);
	assert_int_equal(rig_lookup(r, top.ino, "plate", ret_plate), -ENOENT);
	fake_hold(r->bucket, true);
	assert_int_equal(rig_mkdir(r, top.ino, "plate", ret_plate), 0);
	assert_int_equal(remote_cached_has(r->remote, plate_prefix, "a"), -ENODATA);
	return top.ino;
}

/* The file was uploaded and deleted; the listings are cached, and show it. Returns the number of
 * topN. */
static uint64_t prepare(struct fs_rig *r, enum before before, unsigned step)
{
	struct fuse_entry_param plate, file;
	char prefix[24];
	uint64_t top;

	snprintf(top_name, sizeof(top_name), "top%d-%u", before, step);
	snprintf(prefix, sizeof(prefix), "%s/", top_name);
	snprintf(plate_path, sizeof(plate_path), "%s/plate", top_name);
	snprintf(plate_prefix, sizeof(plate_prefix), "%s/", plate_path);
	snprintf(key, sizeof(key), "%sa", plate_prefix);
	if (before == NEVER_WAS)
		return make_top(r, "beside", &plate);
	top = before == NOT_LISTED ? make_not_listed(r, &plate) : make_top(r, "plate", &plate);
	file = rig_put(r, plate.ino, "a", "text");
	rig_upload(r, file.ino, key);
	assert_int_equal(rig_unlink(r, plate.ino, "a"), 0);
	if (before == NOT_LISTED)
		return top;
	if (before == WAS_REMOVED)
		assert_int_equal(rig_rmdir(r, top, "plate"), 0);
	wait_until_listed(r, prefix, "plate");
	wait_until_listed(r, plate_prefix, "a");
	return top;
}

/* False: the request was over before. */
static bool one_between(struct fs_rig *r, void (*request)(struct fs_rig *r, uint64_t top),
	void (*between)(struct fs_rig *r), enum before before, unsigned step)
{
	uint64_t top = prepare(r, before, step);

	the_rig = r;
	what_comes = between;
	before_lock_begin(step, it_comes);
	watched = true;
	request(r, top);
	watched = false;
	fake_hold(r->bucket, false);
	return before_lock_end();
}

static bool is_worth_it(void (*request)(struct fs_rig *r, uint64_t top),
	void (*between)(struct fs_rig *r), enum before before)
{
	switch (before) {
	case NOT_LISTED:
		return request == look_up; /* others wait for the listing */
	case NEVER_WAS:
		return between == it_is_made; /* nothing to delete */
	case STAYS_EMPTY:
	case WAS_REMOVED:
		break;
	}
	return true;
}

static void at_each_step(
	void (*request)(struct fs_rig *r, uint64_t top), void (*between)(struct fs_rig *r))
{
	struct fs_rig *r = rig_new("");

	rig_start(r);
	for (enum before before = STAYS_EMPTY; before <= NEVER_WAS; before++) {
		unsigned step = 1;

		if (!is_worth_it(request, between, before))
			continue;

		while (one_between(r, request, between, before, step))
			assert_true(++step < STEPS_MAX);
		assert_true(step > 3);
	}
	rig_free(r);
}

static void a_delete_ends_during_a_lookup(void **state)
{
	(void)state;
	at_each_step(look_up, the_delete_ends);
}

static void a_delete_ends_during_a_listing(void **state)
{
	(void)state;
	at_each_step(list, the_delete_ends);
}

static void a_delete_ends_during_a_rename(void **state)
{
	(void)state;
	at_each_step(rename_it, the_delete_ends);
	at_each_step(rename_above, the_delete_ends);
}

static void made_during_a_lookup(void **state)
{
	(void)state;
	at_each_step(look_up, it_is_made);
}

static void made_during_a_listing(void **state)
{
	(void)state;
	at_each_step(list, it_is_made);
}

static void made_during_a_rename(void **state)
{
	(void)state;
	at_each_step(rename_it, it_is_made);
}

/* ---- the time of a folder ---- */

#define SET_TIME_S 1000000000

static void a_time_is_set(struct fs_rig *r)
{
	struct store_attr top, value = {.mtime_ns = SET_TIME_S * NS_PER_S};

	assert_int_equal(store_resolve(r->store, top_name, &top), 0);
	assert_int_equal(store_setattr(r->store, top.ino, STORE_SET_MTIME, &value, &top), 0);
}

/* What comes first into a folder that only the bucket has brings that into the store. */
static void make_below(struct fs_rig *r, uint64_t sub)
{
	struct fuse_entry_param made;

	assert_int_equal(rig_mkdir(r, sub, "mine", &made), 0);
}

static bool a_time_between(struct fs_rig *r, unsigned step)
{
	struct fuse_entry_param top, sub, beside;
	struct store_attr attr;
	char theirs[32];

	snprintf(top_name, sizeof(top_name), "top%u", step);
	snprintf(theirs, sizeof(theirs), "%s/sub/theirs", top_name);
	fake_put(r->bucket, theirs, 1, "e");
	remote_refresh(r->remote, "");
	top = rig_walk(r, top_name);
	assert_int_equal(rig_mkdir(r, top.ino, "beside", &beside), 0);
	assert_int_equal(rig_lookup(r, top.ino, "sub", &sub), 0);
	the_rig = r;
	what_comes = a_time_is_set;
	before_lock_begin(step, it_comes);
	watched = true;
	make_below(r, sub.ino);
	watched = false;
	if (!before_lock_end())
		return false;
	assert_int_equal(store_resolve(r->store, top_name, &attr), 0);
	assert_int_equal(attr.mtime_ns, SET_TIME_S * NS_PER_S);
	return true;
}

static void a_folders_time_is_set_while_one_below_is_brought_in(void **state)
{
	struct fs_rig *r = rig_new("");
	unsigned step = 1;

	(void)state;
	rig_start(r);
	while (a_time_between(r, step))
		assert_true(++step < STEPS_MAX);
	assert_true(step > 3);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_folders_time_is_set_while_one_below_is_brought_in),
		cmocka_unit_test(a_delete_ends_during_a_lookup),
		cmocka_unit_test(a_delete_ends_during_a_listing),
		cmocka_unit_test(a_delete_ends_during_a_rename),
		cmocka_unit_test(made_during_a_lookup),
		cmocka_unit_test(made_during_a_listing),
		cmocka_unit_test(made_during_a_rename),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
