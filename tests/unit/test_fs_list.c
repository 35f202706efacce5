/*
 * Listings: both sources merged, sorted, each name once, over many pages; offsets may be sought
 * back to; a closed name is in every listing whatever its upload does meanwhile; waiting for the
 * bucket.
 */
#include "fs_rig.h"

static void must_be_sorted(const struct rig_listing *l)
{
	for (size_t i = 1; i < l->count; i++)
		assert_true(strcmp(l->names[i - 1], l->names[i]) < 0);
}

/* Names n000, n001, …: by turns here, in the bucket, in both. */
static void fill(struct fs_rig *r, uint64_t dir, const char *prefix, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char name[16], key[64];

		snprintf(name, sizeof(name), "n%03u", i);
		snprintf(key, sizeof(key), "%s%s", prefix, name);
		if (i % 3 != 0)
			(void)fake_put(r->bucket, key, i, "e");
		if (i % 3 != 1)
			(void)rig_put(r, dir, name, "local");
	}
}

static void both_sources_each_name_once(void **state)
{
	static const unsigned counts[] = {0, 1, 47, 48, 49, 96, 97, 300};

	(void)state;
	for (size_t c = 0; c < array_len(counts); c++) {
		struct fs_rig *r = rig_new("");

		rig_start(r);
		fill(r, 1, "", counts[c]);
		for (int plus = 0; plus < 2; plus++) {
			struct rig_listing *l = rig_list(r, 1, plus);

			assert_int_equal(l->count, counts[c]);
			must_be_sorted(l);
			if (counts[c] == 300)
				assert_true(l->requests > (plus ? 10 : 3)); /* many buffers */
			free(l);
		}
		rig_free(r);
	}
}

static void only_one_source(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param dir;
	struct rig_listing *l;

	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		char key[32];

		snprintf(key, sizeof(key), "theirs/k%03u", i);
		(void)fake_put(r->bucket, key, i, "e");
	}
	r->bucket->page_keys = 30;
	rig_start(r);
	l = rig_list(r, rig_walk(r, "theirs").ino, true);
	assert_int_equal(l->count, 200);
	must_be_sorted(l);
	free(l);
	assert_int_equal(rig_mkdir(r, 1, "ours", &dir), 0);
	for (unsigned i = 0; i < 200; i++) {
		char name[32];

		snprintf(name, sizeof(name), "k%03u", i);
		(void)rig_put(r, dir.ino, name, "");
	}
	l = rig_list(r, dir.ino, true);
	assert_int_equal(l->count, 200);
	free(l);
	rig_free(r);
}

/* Every entry with attributes counts as a lookup of a thing of the bucket. */
static void listed_things_are_known_until_forgotten(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fs_status status;
	struct rig_listing *l;

	(void)state;
	(void)fake_put(r->bucket, "a", 1, "e");
	(void)fake_put(r->bucket, "d/x", 1, "e");
	rig_start(r);
	(void)rig_put(r, 1, "ours", "x");
	l = rig_list(r, 1, false);
	fs_status(r->fs, &status);
	assert_int_equal(status.nodes, 0);
	free(l);
	l = rig_list(r, 1, true);
	fs_status(r->fs, &status);
	assert_int_equal(status.nodes, 2);
	rig_forget(r, l->inos[0], 1);
	rig_forget(r, l->inos[1], 1);
	fs_status(r->fs, &status);
	assert_int_equal(status.nodes, 0);
	free(l);
	rig_free(r);
}

/* The kernel asks again for what found no place in the reader's buffer: it is not left out because the
 * bucket's listing was forgotten meanwhile. */
static void read_again_after_its_listing_was_forgotten(void **state)
{
	struct fs_rig *r = rig_new("");

	(void)state;
	for (unsigned i = 0; i < 10; i++) {
		char key[32];

		snprintf(key, sizeof(key), "theirs/k%03u", i);
		(void)fake_put(r->bucket, key, i, "e");
	}
	rig_start(r);
	for (int plus = 0; plus < 2; plus++) {
		struct rig_listing l;

		rig_opendir(r, rig_walk(r, "theirs").ino, plus, &l);
		rig_read_on(r, &l);
		assert_int_equal(l.count, 10);
		l.at_end = false;
		l.count = 5;
		l.off = l.offs[4];
		remote_refresh(r->remote, "");
		rig_read_on(r, &l);
		assert_int_equal(l.count, 10);
		must_be_sorted(&l);
		rig_closedir(r, &l);
	}
	rig_free(r);
}

/* A reply that nobody takes gives back what it counted. */
static void a_lost_reply_counts_nothing(void **state)
{
	struct fs_rig *r = rig_new("");
	struct rig_listing l;
	struct fs_status status;
	struct fuse_req *req;

	(void)state;
	(void)fake_put(r->bucket, "a", 1, "e");
	rig_start(r);
	rig_must_list(r, 1, "a"); /* the listing is here */
	fs_status(r->fs, &status);
	rig_opendir(r, 1, true, &l);
	req = rig_req(r);
	req->refuses = true;
	fs_operations.readdirplus(req, 1, RIG_BUFFER_BYTES, 0, &l.fi);
	rig_wait(req);
	rig_req_free(req);
	req = rig_req(r);
	req->refuses = true;
	fs_operations.lookup(req, 1, "a");
	rig_wait(req);
	rig_req_free(req);
	rig_closedir(r, &l);
	rig_forget(r, store_ino_of_key("a"), 1); /* of rig_must_list */
	fs_status(r->fs, &status);
	assert_int_equal(status.nodes, 0);
	rig_free(r);
}

static void an_offset_may_be_sought_back_to(void **state)
{
	struct fs_rig *r = rig_new("");
	struct rig_listing l, again;

	(void)state;
	rig_start(r);
	fill(r, 1, "", 150);
	rig_opendir(r, 1, false, &l);
	rig_read_on(r, &l);
	assert_int_equal(l.count, 150);

	/* changes: one that was listed goes, one comes before the place sought to, one behind */
	(void)rig_unlink(r, 1, "n090");
	(void)rig_put(r, 1, "a", "");
	(void)rig_put(r, 1, "n080x", "");
	again = l;
	again.count = 0;
	again.at_end = false;
	again.off = l.offs[59];
	rig_read_on(r, &again);
	assert_string_equal(again.names[0], l.names[60]);
	assert_int_equal(again.count, 150 - 60 - 1); /* the same ones, but for n090 */
	for (size_t i = 0; i < again.count; i++)
		assert_string_not_equal(again.names[i], "n090");

	again.count = 0; /* rewound: as it is now */
	again.at_end = false;
	again.off = 0;
	rig_read_on(r, &again);
	assert_int_equal(again.count, 151);
	assert_string_equal(again.names[0], "a");
	must_be_sorted(&again);
	rig_closedir(r, &l);
	rig_free(r);
}

/* NFS opens the folder anew for each request. */
static void an_offset_of_another_handle(void **state)
{
	struct fs_rig *r = rig_new("");
	struct rig_listing l, other;

	(void)state;
	rig_start(r);
	fill(r, 1, "", 150);
	rig_opendir(r, 1, false, &l);
	rig_read_on(r, &l);
	rig_closedir(r, &l);
	rig_opendir(r, 1, false, &other);
	other.off = l.offs[99];
	rig_read_on(r, &other);
	assert_int_equal(other.count, 50);
	assert_string_equal(other.names[0], l.names[100]);
	rig_closedir(r, &other);
	rig_free(r);
}

static void removing_while_listing_skips_nothing(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param dir;
	struct rig_listing l;
	size_t removed = 0;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_mkdir(r, 1, "d", &dir), 0);
	for (unsigned i = 0; i < 250; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%03u", i);
		(void)rig_put(r, dir.ino, name, "");
	}
	rig_opendir(r, dir.ino, false, &l);
	while (!l.at_end) {
		assert_int_equal(rig_readdir_end(rig_readdir_begin(r, &l), &l), 0);
		for (; removed < l.count; removed++)
			assert_int_equal(rig_unlink(r, dir.ino, l.names[removed]), 0);
	}
	assert_int_equal(removed, 250);
	assert_int_equal(rig_rmdir(r, 1, "d"), 0);
	rig_closedir(r, &l);
	rig_free(r);
}

/* ---- uploads finishing meanwhile ---- */

struct uploads {
	struct fs_rig *r;
	uint64_t inos[120];
	atomic_uint rounds; /* listings read */
	atomic_bool ended;
};

static void upload_all(void *user)
{
	struct uploads *u = user;

	for (size_t i = 0; i < array_len(u->inos); i++) {
		char key[16];

		snprintf(key, sizeof(key), "n%03zu", i);
		rig_upload(u->r, u->inos[i], key);
		if (i % 10 != 0)
			continue;
		remote_refresh(u->r->remote, "");
		for (unsigned before = atomic_load(&u->rounds); atomic_load(&u->rounds) == before;)
			sched_yield(); /* go on in the middle of the next listing */
	}
	atomic_store(&u->ended, true);
}

static void a_closed_name_is_in_every_listing(void **state)
{
	struct fs_rig *r = rig_new("");
	struct uploads u = {.r = r};
	struct thread *thread;

	(void)state;
	rig_start(r);
	for (size_t i = 0; i < array_len(u.inos); i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%03zu", i);
		u.inos[i] = rig_put(r, 1, name, "text").ino;
	}
	assert_int_equal(thread_start(&thread, "uploads", upload_all, &u), 0);
	do {
		struct rig_listing *l = rig_list(r, 1, atomic_load(&u.rounds) % 2);

		assert_int_equal(l->count, array_len(u.inos));
		must_be_sorted(l);
		for (size_t i = 0; i < l->count; i++)
			assert_int_equal(l->inos[i], u.inos[i]);
		free(l);
		atomic_fetch_add(&u.rounds, 1);
	} while (!atomic_load(&u.ended));
	thread_join(thread);
	assert_true(atomic_load(&u.rounds) >= array_len(u.inos) / 10);
	rig_free(r);
}

/* ---- waiting ---- */

static void a_listing_waits_for_the_bucket(void **state)
{
	struct fs_rig *r = rig_new("");
	struct rig_listing l;
	struct fuse_req *req;

	(void)state;
	(void)fake_put(r->bucket, "a", 1, "e");
	rig_start(r);
	fake_hold(r->bucket, true);
	rig_opendir(r, 1, true, &l);
	assert_int_equal(rig_readdir_end(rig_readdir_begin(r, &l), &l), 0); /* the dots */
	req = rig_readdir_begin(r, &l);
	assert_false(atomic_load(&req->done));
	assert_int_equal(rig_parked(r), 1);
	rig_interrupt(req);
	assert_int_equal(rig_readdir_end(req, &l), -EINTR);
	req = rig_readdir_begin(r, &l);
	fake_hold(r->bucket, false);
	assert_int_equal(rig_readdir_end(req, &l), 0);
	assert_int_equal(l.count, 1);
	rig_closedir(r, &l);
	rig_free(r);
}

static bool all_fail(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	(void)b;
	(void)req;
	fake_error(reply, S3_DENIED, 403, "AccessDenied");
	return true;
}

static void without_the_bucket_what_is_here_is_listed(void **state)
{
	struct fs_rig *r = rig_new("");

	(void)state;
	r->bucket->answer = all_fail;
	rig_start(r);
	(void)rig_put(r, 1, "ours", "x");
	rig_must_list(r, 1, "ours");
	rig_free(r);
}

static void the_uploaded_view_shows_what_s3_listed(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file, dir;

	(void)state;
	(void)fake_put(r->bucket, "theirs", 1, "e");
	r->config.view = FS_VIEW_UPLOADED;
	rig_start(r);
	file = rig_put(r, 1, "a", "x");
	assert_int_equal(rig_mkdir(r, 1, "dir", &dir), 0);
	rig_must_list(r, 1, "theirs");
	assert_int_equal(rig_lookup(r, 1, "a", NULL), 0); /* for its writer */
	rig_upload(r, file.ino, "a");
	rig_must_list(r, 1, "a theirs");
	file = rig_put(r, dir.ino, "in", "x");
	rig_upload(r, file.ino, "dir/in");
	rig_must_list(r, 1, "a dir theirs");
	rig_must_list(r, dir.ino, "in");
	rig_free(r);
}

static void a_listing_with_no_patience_for_old_ones(void **state)
{
	struct fs_rig *r = rig_new("");

	(void)state;
	r->list_ttl_ms = 1; /* each listing is old when it is looked at */
	(void)fake_put(r->bucket, "a", 1, "e");
	rig_start(r);
	for (int i = 0; i < 5; i++)
		rig_must_list(r, 1, "a");
	assert_int_equal(rig_lookup(r, 1, "a", NULL), 0);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_sources_each_name_once),
		cmocka_unit_test(only_one_source),
		cmocka_unit_test(listed_things_are_known_until_forgotten),
		cmocka_unit_test(read_again_after_its_listing_was_forgotten),
		cmocka_unit_test(a_lost_reply_counts_nothing),
		cmocka_unit_test(an_offset_may_be_sought_back_to),
		cmocka_unit_test(an_offset_of_another_handle),
		cmocka_unit_test(removing_while_listing_skips_nothing),
		cmocka_unit_test(a_closed_name_is_in_every_listing),
		cmocka_unit_test(a_listing_waits_for_the_bucket),
		cmocka_unit_test(without_the_bucket_what_is_here_is_listed),
		cmocka_unit_test(the_uploaded_view_shows_what_s3_listed),
		cmocka_unit_test(a_listing_with_no_patience_for_old_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
