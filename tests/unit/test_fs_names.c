/*
 * Names: the store's entries win, the bucket's answer where there are none, a lookup waits for a
 * listing once and never while the endpoint is down; levels above the prefix; folders that only
 * the bucket has come into the store with the numbers they had.
 */
#include "fs_rig.h"

static uint64_t key_ino(const char *key)
{
	return store_ino_of_key(key);
}

static void what_the_bucket_has_is_found(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param dir, file, none;
	struct fs_status status;
	double kept_s;

	(void)state;
	fake_put(r->bucket, "plate/a.tif", 1234, "e1");
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "plate", &dir), 0);
	assert_int_equal(dir.ino, key_ino("plate/"));
	assert_true(S_ISDIR(dir.attr.st_mode));
	assert_int_equal(rig_lookup(r, dir.ino, "a.tif", &file), 0);
	assert_int_equal(file.ino, key_ino("plate/a.tif"));
	assert_int_equal(file.attr.st_size, 1234);
	assert_int_equal(file.attr.st_nlink, 2);
	assert_int_equal(file.attr.st_mtim.tv_sec, 1700000000);
	assert_int_equal(file.attr.st_uid, getuid());
	assert_true(file.entry_timeout > 0);
	assert_int_equal(rig_entry(rig_lookup_begin(r, dir.ino, "b.tif"), &none, &kept_s), -ENOENT);
	assert_true(kept_s > 0); /* the listing says so */
	assert_int_equal(fake_count(r->bucket, S3_LIST), 2);

	fs_status(r->fs, &status);
	assert_int_equal(status.nodes, 2);
	rig_forget(r, file.ino, 1);
	rig_forget(r, dir.ino, 1);
	fs_status(r->fs, &status);
	assert_int_equal(status.nodes, 0);
	rig_free(r);
}

static void the_stores_entry_wins(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file, ours;

	(void)state;
	fake_put(r->bucket, "a.tif", 1234, "e1");
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "a.tif", &file), 0);
	ours = rig_put(r, 1, "a.tif", "mine");
	assert_int_equal(rig_lookup(r, 1, "a.tif", &file), 0);
	assert_int_equal(file.ino, ours.ino);
	assert_int_equal(file.attr.st_size, 4);
	assert_int_equal(file.attr.st_nlink, 1); /* only here */
	rig_must_list(r, 1, "a.tif");
	rig_free(r);
}

static void the_link_count_tells_where_a_file_is(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info fi;
	struct stat st;

	(void)state;
	rig_start(r);
	file = rig_put(r, 1, "a", "text");
	assert_int_equal(file.attr.st_nlink, 1);
	rig_upload(r, file.ino, "a");
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(rig_open(r, file.ino, O_WRONLY, &fi), 0);
	assert_int_equal(rig_write(r, file.ino, &fi, "X", 1, 0), 0);
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_nlink, 1); /* the bucket holds another version */
	rig_close(r, file.ino, &fi);
	rig_free(r);
}

static void levels_above_the_prefix_are_made_up(void **state)
{
	struct fs_rig *r = rig_new("p/q");
	struct fuse_entry_param p, q, made;
	struct fuse_file_info fi;

	(void)state;
	fake_put(r->bucket, "p/q/in", 1, "e");
	fake_put(r->bucket, "p/other", 1, "e");
	fake_put(r->bucket, "outside", 1, "e");
	rig_start(r);
	rig_must_list(r, 1, "p");
	assert_int_equal(rig_lookup(r, 1, "p", &p), 0);
	rig_must_list(r, p.ino, "q");
	assert_int_equal(rig_lookup(r, 1, "outside", NULL), -ENOENT);
	assert_int_equal(rig_lookup(r, p.ino, "other", NULL), -ENOENT);
	assert_int_equal(fake_count(r->bucket, S3_LIST), 0); /* nothing was asked for */
	assert_int_equal(rig_lookup(r, p.ino, "q", &q), 0);
	rig_must_list(r, q.ino, "in");

	assert_int_equal(rig_mkdir(r, p.ino, "new", &made), -EACCES);
	assert_int_equal(rig_create(r, 1, "new", O_WRONLY, &made, &fi), -EACCES);
	assert_int_equal(rig_rmdir(r, p.ino, "q"), -EACCES);
	assert_int_equal(rig_rename(r, p.ino, "q", p.ino, "z", 0), -EACCES);
	assert_int_equal(rig_mkdir(r, q.ino, "new", &made), 0);
	rig_must_list(r, q.ino, "in new");
	assert_int_equal(rig_rename(r, q.ino, "new", p.ino, "new", 0), -EACCES);
	rig_must_list(r, 1, "p"); /* in the store now, and still once */
	rig_free(r);
}

static void a_folder_of_the_bucket_keeps_its_number(void **state)
{
	struct fs_rig *r = rig_new("p");
	struct fuse_entry_param plate, again, file;
	struct store_attr attr;

	(void)state;
	fake_put(r->bucket, "p/batch/plate/theirs", 1, "e");
	rig_start(r);
	plate = rig_walk(r, "p/batch/plate");
	assert_int_equal(store_attr(r->store, plate.ino, &attr), -ENOENT);
	file = rig_put(r, plate.ino, "ours", "x");
	assert_int_equal(store_attr(r->store, plate.ino, &attr), 0);
	again = rig_walk(r, "p/batch/plate");
	assert_int_equal(again.ino, plate.ino);
	assert_int_equal(store_attr(r->store, key_ino("p/batch/"), &attr), 0);
	assert_int_equal(rig_walk(r, "p/batch/plate/ours").ino, file.ino);
	rig_must_list(r, plate.ino, "ours theirs");
	rig_free(r);
}

static void the_first_lookup_waits_for_the_listing(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_req *req;

	(void)state;
	fake_put(r->bucket, "a", 7, "e");
	rig_start(r);
	fake_hold(r->bucket, true);
	req = rig_lookup_begin(r, 1, "a");
	assert_int_equal(rig_parked(r), 1);
	assert_false(atomic_load(&req->done));
	fake_hold(r->bucket, false);
	assert_int_equal(rig_entry(req, &file, NULL), 0);
	assert_int_equal(file.attr.st_size, 7);
	assert_int_equal(fake_count(r->bucket, S3_LIST), 1);
	rig_free(r);
}

static void but_not_for_ever_and_only_the_first(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	double kept_s;

	(void)state;
	fake_put(r->bucket, "a", 7, "e");
	r->config.lookup_wait_ms = 30;
	rig_start(r);
	fake_hold(r->bucket, true);
	assert_int_equal(rig_entry(rig_lookup_begin(r, 1, "a"), NULL, &kept_s), -ENOENT);
	assert_true(kept_s == 0); /* not known: nothing to keep */
	for (int i = 0; i < 3; i++) {
		struct fuse_req *req = rig_lookup_begin(r, 1, "b");

		assert_true(atomic_load(&req->done)); /* at once */
		assert_int_equal(rig_entry(req, NULL, &kept_s), -ENOENT);
		assert_true(kept_s == 0);
	}
	fake_hold(r->bucket, false);
	while (remote_listed_at(r->remote, "") == 0)
		sched_yield();
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	rig_free(r);
}

static void a_lookup_that_waits_can_be_interrupted(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_req *req, *late;

	(void)state;
	r->config.lookup_wait_ms = 3600000;
	rig_start(r);
	fake_hold(r->bucket, true);
	req = rig_lookup_begin(r, 1, "a");
	assert_int_equal(rig_parked(r), 1);
	rig_interrupt(req);
	assert_int_equal(rig_entry(req, NULL, NULL), -EINTR);
	/* interrupted before it parks */
	late = rig_req(r);
	late->interrupted = true;
	fs_operations.lookup(late, 1, "a");
	assert_int_equal(rig_entry(late, NULL, NULL), -EINTR);
	assert_int_equal(rig_parked(r), 0);
	rig_free(r);
}

static void while_the_endpoint_is_down_the_index_answers(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param made;
	struct fuse_req *req;
	double kept_s;

	(void)state;
	r->bucket->down = true;
	rig_start(r);
	fake_hold(r->bucket, true);
	(void)rig_entry(rig_lookup_begin(r, 1, "probe"), NULL, NULL); /* one may ask */
	req = rig_lookup_begin(r, 1, "a");
	assert_true(atomic_load(&req->done));
	assert_int_equal(rig_entry(req, NULL, &kept_s), -ENOENT);
	assert_true(kept_s == 0);
	assert_int_equal(rig_mkdir(r, 1, "d", &made), 0);
	(void)rig_put(r, made.ino, "f", "x");
	rig_must_list(r, made.ino, "f");
	rig_free(r);
}

static void below_a_folder_born_here_nobody_waits(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param made;
	struct store_attr attr;
	struct fuse_req *req;

	(void)state;
	fake_put(r->bucket, "x", 1, "e");
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "plate", NULL), -ENOENT);
	fake_hold(r->bucket, true);
	assert_int_equal(rig_mkdir(r, 1, "plate", &made), 0);
	assert_int_equal(store_attr(r->store, made.ino, &attr), 0);
	assert_true(attr.flags & STORE_FLAG_BORN_LOCAL);
	req = rig_lookup_begin(r, made.ino, "a.tif");
	assert_true(atomic_load(&req->done));
	assert_int_equal(rig_entry(req, NULL, NULL), -ENOENT);
	assert_int_equal(rig_mkdir(r, made.ino, "Images", &made), 0);
	assert_int_equal(store_attr(r->store, made.ino, &attr), 0);
	assert_true(attr.flags & STORE_FLAG_BORN_LOCAL);
	rig_free(r);
}

static void a_folder_that_the_bucket_may_have_is_not_born_here(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param made;
	struct store_attr attr;

	(void)state;
	r->config.lookup_wait_ms = 1;
	rig_start(r);
	fake_hold(r->bucket, true);
	assert_int_equal(rig_mkdir(r, 1, "plate", &made), 0);
	assert_int_equal(store_attr(r->store, made.ino, &attr), 0);
	assert_false(attr.flags & STORE_FLAG_BORN_LOCAL);
	rig_free(r);
}

static void folders_of_the_bucket_exist_already(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param made;

	(void)state;
	fake_put(r->bucket, "plate/a", 1, "e");
	fake_put(r->bucket, "both", 1, "e");
	fake_put(r->bucket, "both/in", 1, "e");
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "plate", &made), 0);
	assert_int_equal(rig_mkdir(r, 1, "plate", &made), -EEXIST);
	assert_int_equal(rig_rmdir(r, 1, "plate"), -ENOTEMPTY);
	assert_true(S_ISDIR(rig_walk(r, "both").attr.st_mode)); /* a folder wins */
	rig_must_list(r, 1, "both plate");
	rig_free(r);
}

static void names_are_cleaned_on_the_way_and_stand_for_theirs(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param made;

	(void)state;
	fake_put(r->bucket, "myplate/theirs", 1, "e");
	r->config.naming = (struct naming_policy){.mode = NAMING_CLEAN};
	rig_start(r);
	rig_must_list(r, 1, "myplate");
	assert_int_equal(rig_mkdir(r, 1, "my plate", &made), 0);
	rig_must_list(r, 1, "my plate");
	assert_int_equal(rig_lookup(r, 1, "myplate", NULL), -ENOENT);
	rig_must_list(r, made.ino, "theirs");
	rig_free(r);
}

/* Theirs is shown in the folder that stands for its own; what takes its place is there, too. */
static void replaced_in_the_folder_that_stands_for_theirs(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param made, theirs, sub;
	struct fuse_file_info fi;
	struct store_attr attr;

	(void)state;
	fake_put(r->bucket, "myplate/theirs", 1, "e");
	fake_put(r->bucket, "myplate/sub/other", 1, "e");
	r->config.naming = (struct naming_policy){.mode = NAMING_CLEAN};
	rig_start(r);
	rig_must_list(r, 1, "myplate");
	assert_int_equal(rig_mkdir(r, 1, "my plate", &made), 0);
	rig_must_list(r, made.ino, "sub theirs");
	theirs = rig_walk(r, "my plate/theirs");
	assert_int_equal(rig_open(r, theirs.ino, O_WRONLY | O_TRUNC, &fi), 0);
	assert_int_equal(rig_write(r, theirs.ino, &fi, "ours", 4, 0), 0);
	rig_close(r, theirs.ino, &fi);
	sub = rig_walk(r, "my plate/sub");
	(void)rig_put(r, sub.ino, "new", "text");
	rig_must_list(r, 1, "my plate");
	assert_int_equal(store_resolve(r->store, "my plate/theirs", &attr), 0);
	assert_int_equal(attr.size_bytes, 4);
	assert_int_equal(rig_walk(r, "my plate/theirs").ino, attr.ino);
	assert_int_equal(store_resolve(r->store, "my plate/sub/new", &attr), 0);
	rig_must_list(r, sub.ino, "new other");
	rig_free(r);
}

static void refused_folder_names_are_refused(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param made;

	(void)state;
	r->config.naming = (struct naming_policy){.mode = NAMING_REFUSE};
	rig_start(r);
	assert_int_equal(rig_mkdir(r, 1, "my plate", &made), -EINVAL);
	assert_int_equal(rig_mkdir(r, 1, "my_plate", &made), 0);
	assert_int_equal(rig_rename(r, 1, "my_plate", 1, "my plate", 0), -EINVAL);
	rig_must_list(r, 1, "my_plate");
	rig_free(r);
}

static void what_is_deleted_stays_away_while_the_bucket_follows(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param plate, file;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_mkdir(r, 1, "plate", &plate), 0);
	file = rig_put(r, plate.ino, "a", "text");
	rig_upload(r, file.ino, "plate/a");
	assert_int_equal(rig_unlink(r, plate.ino, "a"), 0);
	assert_int_equal(rig_state(r, file.ino), FILE_DELETING);
	assert_int_equal(rig_lookup(r, plate.ino, "a", NULL), -ENOENT);
	rig_must_list(r, plate.ino, "");
	assert_int_equal(rig_rmdir(r, 1, "plate"), 0);
	assert_int_equal(rig_lookup(r, 1, "plate", NULL), -ENOENT);
	rig_must_list(r, 1, "");
	remote_refresh(r->remote, ""); /* the bucket still has it */
	rig_must_list(r, 1, "");
	assert_int_equal(rig_lookup(r, 1, "plate", NULL), -ENOENT);
	rig_remount(r);
	rig_must_list(r, 1, "");
	assert_int_equal(rig_lookup(r, 1, "plate", NULL), -ENOENT);
	/* … but an object from elsewhere beside it shows the folder again */
	fake_put(r->bucket, "plate/theirs", 1, "e");
	remote_refresh(r->remote, "");
	rig_must_list(r, 1, "plate");
	rig_free(r);
}

/* The daemon ended with a request on its way, whose file has another name by now: when its object
 * shows, the folder that it was sent to is not there again. */
static void what_was_on_its_way_shows_no_folder(void **state)
{
	struct store_attempt attempt = {.kind = ATTEMPT_PUT, .phase = ATTEMPT_OPEN, .key = "plate/a"};
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param plate, file;
	struct store_attr attr;
	struct store_job job;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_mkdir(r, 1, "plate", &plate), 0);
	file = rig_put(r, plate.ino, "a", "");
	rig_step(r, file.ino, FILE_CLOSED, FILE_SETTLED);
	assert_int_equal(store_attr(r->store, file.ino, &attr), 0);
	assert_int_equal(store_version_digested(r->store, file.ino, attr.generation, NULL, 0,
				 FILE_QUEUED, NULL),
		0);
	attempt.ino = file.ino;
	attempt.generation = attr.generation;
	assert_int_equal(store_attempt_begin(r->store, &attempt, FILE_QUEUED), 0);
	assert_int_equal(rig_rename(r, 1, "plate", 1, "renamed", 0), 0);
	assert_int_equal(store_jobs(r->store, &job, 1), 1);
	assert_int_equal(store_job_end(r->store, job.id), 0);
	fake_put(r->bucket, "plate/a", 0, "e");
	rig_remount(r);
	rig_must_list(r, 1, "renamed");
	assert_int_equal(rig_lookup(r, 1, "plate", NULL), -ENOENT);
	rig_free(r);
}

/* A folder is renamed and made anew before the bucket follows: what was below it is not below the
 * new one. */
static void a_new_folder_does_not_show_what_its_name_held_before(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param plate, images, file;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_mkdir(r, 1, "plate", &plate), 0);
	assert_int_equal(rig_mkdir(r, plate.ino, "Images", &images), 0);
	file = rig_put(r, images.ino, "a", "text");
	rig_upload(r, file.ino, "plate/Images/a");
	assert_int_equal(rig_rename(r, 1, "plate", 1, "old", 0), 0);
	assert_int_equal(rig_mkdir(r, 1, "plate", &plate), 0);
	rig_must_list(r, plate.ino, "");
	assert_int_equal(rig_lookup(r, plate.ino, "Images", NULL), -ENOENT);
	assert_int_equal(rig_mkdir(r, plate.ino, "Images", &images), 0);
	rig_must_list(r, images.ino, "");
	rig_must_list(r, rig_walk(r, "old/Images").ino, "a");
	rig_free(r);
}

/* And no listing of it is under way any more: a folder born here is known before it was listed. */
static void wait_until_listed(struct fs_rig *r, const char *prefix, const char *name)
{
	struct remote_entry entry;

	while (remote_lookup(r->remote, prefix, name, false, &entry) != 0 ||
		remote_cached_has(r->remote, prefix, name) != 1)
		sched_yield();
}

/* Hiding must not make every folder of the bucket cost a listing. */
static void only_folders_that_something_went_from_are_looked_into(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param mine, file;
	unsigned before;

	(void)state;
	fake_put(r->bucket, "p1/x/y", 1, "e");
	fake_put(r->bucket, "p2/x/y", 1, "e");
	rig_start(r);
	assert_int_equal(rig_mkdir(r, 1, "mine", &mine), 0);
	file = rig_put(r, mine.ino, "a", "text");
	rig_upload(r, file.ino, "mine/a");
	assert_int_equal(rig_unlink(r, mine.ino, "a"), 0);
	assert_int_equal(rig_rename(r, 1, "mine", 1, "other", 0), 0);
	rig_must_list(r, 1, "other p1 p2");
	before = fake_count(r->bucket, S3_LIST);
	remote_refresh(r->remote, "");
	rig_must_list(r, 1, "other p1 p2");
	assert_int_equal(fake_count(r->bucket, S3_LIST), before + 2); /* "" and "mine/" */
	rig_free(r);
}

/* Of the folder that is left of it in the bucket it is not known whether anything else is in it. */
static void what_is_not_known_is_not_taken_for_somebody_elses(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param top, plate, file;

	(void)state;
	r->config.lookup_wait_ms = 1;
	fake_put(r->bucket, "top/theirs", 1, "e");
	rig_start(r);
	wait_until_listed(r, "", "top");
	top = rig_walk(r, "top");
	assert_int_equal(rig_mkdir(r, top.ino, "plate", &plate), 0);
	file = rig_put(r, plate.ino, "a", "text");
	rig_upload(r, file.ino, "top/plate/a");
	fake_remove(r->bucket, "top/theirs");
	remote_note_delete(r->remote, "top/theirs");
	wait_until_listed(r, "top/", "plate");
	assert_int_equal(rig_unlink(r, plate.ino, "a"), 0);
	assert_int_equal(rig_rmdir(r, top.ino, "plate"), 0);
	wait_until_listed(r, "top/plate/", "a"); /* one that came late would tell */
	fake_hold(r->bucket, true);
	remote_refresh(r->remote, "top/plate/");
	assert_int_equal(rig_rename(r, top.ino, "plate", top.ino, "moved", 0), -EBUSY);
	assert_int_equal(rig_rename(r, 1, "top", 1, "moved", 0), 0);
	rig_free(r);
}

static void write_again(struct fs_rig *r, uint64_t ino)
{
	struct fuse_file_info fi = {0};

	assert_int_equal(rig_open(r, ino, O_WRONLY | O_TRUNC, &fi), 0);
	assert_int_equal(rig_write(r, ino, &fi, "new", 3, 0), 0);
	rig_close(r, ino, &fi);
}

/* A mount knows from where files were moved without a look at all that wait: one that was written
 * again where it was makes its folder none to be looked into. */
static void what_was_moved_is_known_without_a_look_at_all_that_waits(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param stays, tree, sub, in_tree, kept, single;
	struct store_queue_item old;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_mkdir(r, 1, "stays", &stays), 0);
	assert_int_equal(rig_mkdir(r, 1, "tree", &tree), 0);
	assert_int_equal(rig_mkdir(r, tree.ino, "sub", &sub), 0);
	kept = rig_put(r, stays.ino, "a", "text");
	rig_upload(r, kept.ino, "stays/a");
	in_tree = rig_put(r, sub.ino, "b", "text");
	rig_upload(r, in_tree.ino, "tree/sub/b");
	assert_int_equal(rig_mkdir(r, 1, "from", &sub), 0);
	single = rig_put(r, sub.ino, "c", "text");
	rig_upload(r, single.ino, "from/c");
	write_again(r, kept.ino);
	write_again(r, in_tree.ino);
	write_again(r, single.ino);
	assert_int_equal(rig_rename(r, 1, "tree", 1, "moved", 0), 0);
	assert_int_equal(rig_rename(r, sub.ino, "c", stays.ino, "c", 0), 0);
	assert_int_equal(rig_rmdir(r, 1, "from"), 0);
	for (unsigned mounts = 0; mounts < 2; mounts++) {
		rig_remount(r);
		rig_must_list(r, 1, "moved stays");
		assert_true(fs_hidden_below(r->fs, "tree/"));
		assert_true(fs_hidden_below(r->fs, "tree/sub/"));
		assert_true(fs_hidden_below(r->fs, "tree/any/"));
		assert_false(
			fs_hidden_whole(r->fs, "tree/")); /* a standard folder is shown again */
		assert_true(fs_hidden_below(r->fs, "from/"));
		assert_false(fs_hidden_below(r->fs, "from/any/"));
		assert_false(fs_hidden_below(r->fs, "stays/"));
		assert_false(fs_hidden_below(r->fs, "moved/"));
	}
	rig_upload(r, kept.ino, "stays/a");
	rig_upload(r, in_tree.ino, "moved/sub/b");
	rig_upload(r, single.ino, "stays/c");
	while (store_queue(r->store, FILE_DELETING, NULL, &old, 1) == 1)
		assert_int_equal(store_forget(r->store, old.ino), 0);
	for (unsigned mounts = 0; mounts < 2; mounts++) {
		char name[STORE_NAME_MAX + 1] = "", value[16];

		assert_int_equal(
			store_setting_next(r->store, "fs-moved/", name, value, sizeof(value)),
			mounts ? -ENOENT : 0);
		rig_remount(r);
	}
	rig_free(r);
}

/* Nothing can be left behind where nothing was: a new folder gets its name. */
static void an_empty_folder_leaves_nothing_to_remember(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param folder;
	char name[STORE_NAME_MAX + 1] = "", value[16];

	(void)state;
	rig_start(r);
	assert_int_equal(rig_mkdir(r, 1, "New folder", &folder), 0);
	assert_int_equal(rig_mkdir(r, folder.ino, "in it", &folder), 0);
	assert_int_equal(rig_rename(r, 1, "New folder", 1, "plate", 0), 0);
	assert_int_equal(
		store_setting_next(r->store, "fs-moved/", name, value, sizeof(value)), -ENOENT);
	rig_free(r);
}

static void long_and_reserved_names(void **state)
{
	struct fs_rig *r = rig_new("");
	char name[300];

	(void)state;
	memset(name, 'x', sizeof(name));
	name[256] = '\0';
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, name, NULL), -ENAMETOOLONG);
	assert_int_equal(rig_mkdir(r, 1, name, NULL), -ENAMETOOLONG);
	name[255] = '\0';
	assert_int_equal(rig_mkdir(r, 1, name, NULL), 0);
	assert_int_equal(rig_lookup(r, 1, name, NULL), 0);
	rig_free(r);
}

static void dots_are_found_for_nfs(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param in, entry;

	(void)state;
	fake_put(r->bucket, "a/b/c", 1, "e");
	rig_start(r);
	in = rig_walk(r, "a/b");
	assert_int_equal(rig_lookup(r, in.ino, ".", &entry), 0);
	assert_int_equal(entry.ino, in.ino);
	assert_int_equal(rig_lookup(r, in.ino, "..", &entry), 0);
	assert_int_equal(entry.ino, key_ino("a/"));
	assert_int_equal(rig_lookup(r, STORE_INO_FROM_BUCKET | 77, ".", &entry), -ESTALE);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_bucket_has_is_found),
		cmocka_unit_test(the_stores_entry_wins),
		cmocka_unit_test(the_link_count_tells_where_a_file_is),
		cmocka_unit_test(levels_above_the_prefix_are_made_up),
		cmocka_unit_test(a_folder_of_the_bucket_keeps_its_number),
		cmocka_unit_test(the_first_lookup_waits_for_the_listing),
		cmocka_unit_test(but_not_for_ever_and_only_the_first),
		cmocka_unit_test(a_lookup_that_waits_can_be_interrupted),
		cmocka_unit_test(while_the_endpoint_is_down_the_index_answers),
		cmocka_unit_test(below_a_folder_born_here_nobody_waits),
		cmocka_unit_test(a_folder_that_the_bucket_may_have_is_not_born_here),
		cmocka_unit_test(folders_of_the_bucket_exist_already),
		cmocka_unit_test(names_are_cleaned_on_the_way_and_stand_for_theirs),
		cmocka_unit_test(replaced_in_the_folder_that_stands_for_theirs),
		cmocka_unit_test(refused_folder_names_are_refused),
		cmocka_unit_test(what_is_deleted_stays_away_while_the_bucket_follows),
		cmocka_unit_test(what_was_on_its_way_shows_no_folder),
		cmocka_unit_test(a_new_folder_does_not_show_what_its_name_held_before),
		cmocka_unit_test(only_folders_that_something_went_from_are_looked_into),
		cmocka_unit_test(what_is_not_known_is_not_taken_for_somebody_elses),
		cmocka_unit_test(what_was_moved_is_known_without_a_look_at_all_that_waits),
		cmocka_unit_test(an_empty_folder_leaves_nothing_to_remember),
		cmocka_unit_test(long_and_reserved_names),
		cmocka_unit_test(dots_are_found_for_nfs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
