/* What the bucket once proved to hold is no proof of what it holds now. */
#include "upload_fake.h"

static struct bench *open_bench(bool aws)
{
	struct bench *b = bench_begin(aws);

	bench_open_upload(b);
	return b;
}

/* As verify does. */
static void set_state(struct bench *b, uint64_t ino, enum file_state to)
{
	struct store_inode inode;
	struct store_object object;

	assert_int_equal(store_inode(b->store, ino, &inode), 0);
	object = inode.object;
	if (to == FILE_VERIFIED)
		object.verified_at_ns = clock_wall_ns();
	struct store_transition t = {.ino = ino,
		.generation = inode.attr.generation,
		.from = inode.attr.state,
		.to = to,
		.reason = "as verify says"};

	assert_int_equal(store_object_set(b->store, &t, &object, false), 0);
}

static uint64_t gone(struct bench *b, const char *path, const char *text)
{
	uint64_t ino = uploaded(b, path, text);

	set_state(b, ino, FILE_VERIFIED);
	fake_delete(b->fake, path);
	set_state(b, ino, FILE_GONE);
	return ino;
}

static bool is_here(struct store *s, uint64_t ino)
{
	struct store_attr attr;
	int fd, r;

	assert_int_equal(store_attr(s, ino, &attr), 0);
	r = store_version_open(s, ino, attr.generation, &fd);
	if (r == 0)
		close(fd);
	return r == 0;
}

static void evict(struct bench *b, uint64_t ino)
{
	assert_int_equal(store_evict(b->store, UINT64_MAX / 2), 0);
	assert_false(is_here(b->store, ino));
}

static bool is_decided(struct bench *b, uint64_t ino)
{
	enum file_state s = state_of(b, ino);

	return s == FILE_UPLOADED || s == FILE_CONFLICT || s == FILE_GONE || s == FILE_FAILED;
}

static void test_written_again_after_it_vanished(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t ino = uploaded(b, "p/one", "hello");

		fake_delete(b->fake, "p/one");
		write_text(b, "p/one", "hello");
		wait_state(b, ino, FILE_UPLOADED);
		assert_true(fake_has(b->fake, "p/one", "hello", 5));
		bench_end(b);
	}
}

static void test_copied_again_when_it_is_gone(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t ino = gone(b, "p/one", "hello");

		write_text(b, "p/one", "hello");
		wait_state(b, ino, FILE_UPLOADED);
		assert_true(fake_has(b->fake, "p/one", "hello", 5));
		bench_end(b);
	}
}

static void test_written_again_in_a_conflict(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t ino = uploaded(b, "p/one", "ours");

		fake_put(b->fake, "p/one", "theirs");
		write_text(b, "p/one", "other");
		wait_state(b, ino, FILE_CONFLICT);
		write_text(b, "p/one", "ours");
		wait_until(is_decided(b, ino));
		assert_int_equal(state_of(b, ino), FILE_CONFLICT);
		bench_end(b);
	}
}

/* Where neither checksum nor ETag tell, the object that was proved is known by its ETag. */
static void test_unchanged_where_only_the_tag_tells(void **state)
{
	struct bench *b = open_bench(false);
	uint64_t ino;
	struct store_inode inode;

	(void)state;
	b->fake->wants_sha256 = false; /* no MD5 is computed on the way, either */
	ino = uploaded(b, "p/one", "hello");
	lock_take(&b->fake->lock);
	(void)text_copy(fake_find(b->fake, "p/one")->etag, "opaque", S3_ETAG_MAX);
	lock_drop(&b->fake->lock);
	assert_int_equal(store_inode(b->store, ino, &inode), 0);
	(void)text_copy(inode.object.etag, "opaque", sizeof(inode.object.etag));
	struct store_transition t = {.ino = ino,
		.generation = inode.attr.generation,
		.from = FILE_UPLOADED,
		.to = FILE_UPLOADED,
		.reason = ""};
	assert_int_equal(store_object_set(b->store, &t, &inode.object, false), 0);
	write_text(b, "p/one", "hello");
	wait_until(state_of(b, ino) == FILE_UPLOADED &&
		   (assert_int_equal(store_inode(b->store, ino, &inode), 0),
			   inode.object.generation == inode.attr.generation));
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	bench_end(b);
}

static void test_unchanged_where_nobody_may_ask(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/one", "hello");
	struct fake_fault denied = {.kind = FAULT_REFUSE, .times = 9, .class = S3_DENIED,
		.http_status = 403, .code = "AccessDenied"};

	(void)state;
	denied.op = S3_HEAD;
	fake_fault(b->fake, denied);
	denied.op = S3_LIST;
	fake_fault(b->fake, denied);
	write_text(b, "p/one", "hello");
	wait_until(fake_count(b->fake, S3_PUT) == 2);
	wait_state(b, ino, FILE_UPLOADED);
	bench_end(b);
}

static void test_gone_and_renamed_back(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		uint64_t ino = gone(b, "p/d/one", "hello");

		upload_pause(b->upload);
		wait_until(upload_pauses(b) == PAUSE_BY_HAND);
		rename_in(b, "p/d", "one", "two");
		rename_in(b, "p/d", "two", "one");
		upload_resume(b->upload);
		wait_until(is_decided(b, ino));
		assert_int_equal(state_of(b, ino), FILE_GONE);
		bench_end(b);
	}
}

static void test_gone_is_in_nobodys_way(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = gone(b, "p/d/one", "first"), again;

	(void)state;
	evict(b, one);
	rename_in(b, "p/d", "one", "two");
	wait_state(b, one, FILE_GONE);
	again = write_text(b, "p/d/one", "second");
	wait_state(b, again, FILE_UPLOADED);
	bench_end(b);
}

static void test_held_is_in_nobodys_way(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = uploaded(b, "p/d/one", "first"), again;

	(void)state;
	evict(b, one);
	rename_in(b, "p/d", "one", "one.tmp");
	wait_state(b, one, FILE_HELD);
	again = write_text(b, "p/d/one", "second");
	wait_state(b, again, FILE_UPLOADED);
	assert_true(is_here(b->store, one));
	bench_end(b);
}

/* Its only copy was replaced, or removed, by somebody else before anyone looked: it is lost, and says so;
 * who came under its name waits for nobody. */
static void test_held_and_its_object_is_no_more(void **state)
{
	(void)state;
	for (unsigned replaced = 0; replaced < 2; replaced++) {
		struct bench *b = open_bench(true);
		uint64_t one = uploaded(b, "p/d/one", "first"), again;

		evict(b, one);
		if (replaced)
			fake_put(b->fake, "p/d/one", "theirs");
		else
			fake_delete(b->fake, "p/d/one");
		rename_in(b, "p/d", "one", "one.tmp");
		wait_state(b, one, FILE_HELD);
		again = write_text(b, "p/d/one", "second");
		wait_state(b, again, replaced ? FILE_CONFLICT : FILE_UPLOADED);
		assert_int_equal(state_of(b, one), FILE_LOST);
		assert_true(fake_has(b->fake, "p/d/one", replaced ? "theirs" : "second", 6));
		/* and once more, now that it is known */
		again = write_text(b, "p/d/one", "third!");
		wait_state(b, again, replaced ? FILE_CONFLICT : FILE_UPLOADED);
		bench_end(b);
	}
}

/* The same for who is renamed to that name, and cannot be fetched to be sent. */
static void test_moved_to_where_one_was_held(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = uploaded(b, "p/d/one", "first"), two = uploaded(b, "p/d/two", "second");

	(void)state;
	evict(b, one);
	fake_delete(b->fake, "p/d/one");
	rename_in(b, "p/d", "one", "one.tmp");
	wait_state(b, one, FILE_HELD);
	fake_fault(b->fake, (struct fake_fault){.op = S3_GET, .kind = FAULT_REFUSE, .times = UINT32_MAX,
		.class = S3_DENIED, .http_status = 403, .code = "AccessDenied", .key_has = "two"});
	rename_in(b, "p/d", "two", "one");
	wait_state(b, two, FILE_UPLOADED);
	assert_int_equal(state_of(b, one), FILE_LOST);
	assert_true(fake_has(b->fake, "p/d/one", "second", 6));
	bench_end(b);
}

/* Somebody else wrote over it; that is no removal, and the bytes here may be the last. */
static void test_moved_back_and_replaced(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/d/one", "ours");

	(void)state;
	set_state(b, ino, FILE_VERIFIED);
	upload_pause(b->upload);
	wait_until(upload_pauses(b) == PAUSE_BY_HAND);
	rename_in(b, "p/d", "one", "two");
	rename_in(b, "p/d", "two", "one");
	fake_put(b->fake, "p/d/one", "theirs");
	upload_resume(b->upload);
	wait_until(is_decided(b, ino));
	assert_int_equal(state_of(b, ino), FILE_CONFLICT);
	assert_int_equal(store_evict(b->store, UINT64_MAX / 2), 0);
	assert_true(is_here(b->store, ino));
	bench_end(b);
}

/* Nobody has it any more, and it was never verified. */
static void test_moved_and_vanished_before_it_was_verified(void **state)
{
	(void)state;
	for (unsigned back = 0; back < 2; back++) {
		struct bench *b = open_bench(true);
		uint64_t ino = uploaded(b, "p/d/one", "ours");

		evict(b, ino);
		fake_delete(b->fake, "p/d/one");
		upload_pause(b->upload);
		wait_until(upload_pauses(b) == PAUSE_BY_HAND);
		rename_in(b, "p/d", "one", "two");
		if (back)
			rename_in(b, "p/d", "two", "one");
		upload_resume(b->upload);
		wait_until(state_of(b, ino) != FILE_MOVING);
		assert_int_equal(state_of(b, ino), FILE_LOST);
		bench_end(b);
	}
}

/* ---- the same content, written once more by somebody else: only its tag is another one ---------- */

static void tag_anew(struct bench *b, const char *key)
{
	lock_take(&b->fake->lock);
	(void)text_copy(fake_find(b->fake, key)->etag, "another-tag", S3_ETAG_MAX);
	lock_drop(&b->fake->lock);
}

static void test_held_and_tagged_anew(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = uploaded(b, "p/d/one", "first"), again;

	(void)state;
	evict(b, one);
	tag_anew(b, "p/d/one");
	rename_in(b, "p/d", "one", "one.tmp");
	wait_state(b, one, FILE_HELD);
	clock_fake_begin(clock_wall_ns());
	again = write_text(b, "p/d/one", "second");
	wait_advancing(20, state_of(b, again) == FILE_UPLOADED);
	clock_fake_end();
	assert_int_equal(state_of(b, one), FILE_HELD);
	assert_true(is_here(b->store, one));
	assert_true(fake_has(b->fake, "p/d/one", "second", 6));
	bench_end(b);
}

static void test_moved_and_tagged_anew(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = uploaded(b, "p/d/one", "first");

	(void)state;
	evict(b, one);
	tag_anew(b, "p/d/one");
	clock_fake_begin(clock_wall_ns());
	rename_in(b, "p/d", "one", "two");
	wait_advancing(20, is_decided(b, one));
	assert_int_equal(state_of(b, one), FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/d/two", "first", 5));
	wait_advancing(20, fake_object_count(b->fake) == 1);
	clock_fake_end();
	bench_end(b);
}

static void test_in_conflict_and_tagged_anew(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = uploaded(b, "p/d/one", "first");
	struct store_inode inode;

	(void)state;
	evict(b, one);
	tag_anew(b, "p/d/one");
	set_state(b, one, FILE_CONFLICT);
	assert_int_equal(upload_retry(b->upload, "p/d/one"), 1);
	wait_until(is_decided(b, one));
	assert_int_equal(state_of(b, one), FILE_UPLOADED);
	assert_int_equal(store_inode(b->store, one, &inode), 0);
	assert_string_equal(inode.object.etag, "another-tag");
	bench_end(b);
}

static void test_conflict_evicted_and_tried_again(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/one", "ours");

	(void)state;
	evict(b, ino);
	fake_put(b->fake, "p/one", "theirs");
	set_state(b, ino, FILE_CONFLICT);
	assert_int_equal(upload_retry(b->upload, "p/one"), 1);
	wait_until(is_decided(b, ino));
	assert_int_equal(state_of(b, ino), FILE_CONFLICT);
	bench_end(b);
}

static void test_vanished_and_tried_again(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/one", "hello");

	(void)state;
	fake_delete(b->fake, "p/one");
	set_state(b, ino, FILE_FAILED);
	assert_int_equal(upload_retry(b->upload, "p/one"), 1);
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/one", "hello", 5));
	bench_end(b);
}

/* Its bytes were damaged here while it was held. A person takes them as they are: then those are sent,
 * though the bucket still has what this version once was. */
static void damage(struct bench *b, const char *text)
{
	char command[256];

	snprintf(command, sizeof(command),
		"find %s/data -type f -size -10c -exec sh -c 'printf %s 1<>$1' sh {} ';'", b->dir, text);
	assert_int_equal(system(command), 0);
}

static void test_damaged_and_accepted(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = uploaded(b, "p/d/one", "hello");

	(void)state;
	rename_in(b, "p/d", "one", "one.tmp");
	wait_state(b, ino, FILE_HELD);
	damage(b, "HELLO");
	rename_in(b, "p/d", "one.tmp", "two");
	wait_state(b, ino, FILE_TORN);
	rename_in(b, "p/d", "two", "one");
	assert_int_equal(upload_accept(b->upload, "p/d/one"), 1);
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/d/one", "HELLO", 5));
	bench_end(b);
}

/* A person accepted what it was then, and nothing that becomes of it. */
static void test_accepted_and_damaged(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t ino = write_text(b, "p/d/one.tmp", "hello");

	(void)state;
	wait_state(b, ino, FILE_HELD);
	rename_in(b, "p/d", "one.tmp", "one");
	wait_state(b, ino, FILE_UPLOADED);
	rename_in(b, "p/d", "one", "one.tmp");
	wait_state(b, ino, FILE_HELD);
	damage(b, "HELLO");
	rename_in(b, "p/d", "one.tmp", "two");
	wait_state(b, ino, FILE_TORN);
	assert_int_equal(upload_accept(b->upload, "p/d/two"), 1);
	wait_state(b, ino, FILE_UPLOADED);
	rename_in(b, "p/d", "two", "two.tmp");
	wait_state(b, ino, FILE_HELD);
	damage(b, "Hallo");
	rename_in(b, "p/d", "two.tmp", "three");
	wait_state(b, ino, FILE_TORN);
	assert_false(fake_has(b->fake, "p/d/three", "Hallo", 5));
	bench_end(b);
}

static void test_other_naming(void **state)
{
	struct bench *b = bench_begin(true);
	uint64_t ino;

	(void)state;
	b->config.naming.mode = NAMING_HOLD;
	bench_open_upload(b);
	ino = write_text(b, "p/a b/one", "hello");
	wait_state(b, ino, FILE_HELD);
	b->config.naming.mode = NAMING_CLEAN;
	bench_restart(b);
	wait_state(b, ino, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/ab/one", "hello", 5));
	bench_end(b);
}

/* Opened anew as after a power cut right now. */
static struct store *after_power_cut(struct bench *b, char dir[128])
{
	struct store_config config = {
		.identity = "fake/bucket", .part_size_bytes = PART, .boot_id = "boot-2"};
	struct store *s;
	char command[512], *message = NULL;

	assert_int_equal(store_checkpoint(b->store), 0); /* nothing is written while it is copied */
	snprintf(dir, 128, "%s.cut", b->dir);
	snprintf(command, sizeof(command), "cp -r %s %s", b->dir, dir);
	assert_int_equal(system(command), 0);
	config.dir = dir;
	if (store_open(&s, &config, 1000, &message) < 0)
		fail_msg("%s", message);
	return s;
}

/* What was sent under other rules makes room for who has that name by these. */
static void test_other_naming_and_its_objects(void **state)
{
	struct bench *b = bench_begin(true);
	uint64_t one, again;

	(void)state;
	b->config.naming.mode = NAMING_CLEAN;
	bench_open_upload(b);
	one = uploaded(b, "p/a b/one", "first");
	evict(b, one);
	b->config.naming.mode = NAMING_HOLD;
	bench_restart(b);
	again = write_text(b, "p/ab/one", "second");
	wait_state(b, again, FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/ab/one", "second", 6));
	assert_true(is_here(b->store, one));
	assert_int_equal(state_of(b, one), FILE_HELD);
	bench_end(b);
}

/* The other one replaces the object of what was fetched and is still to be sent. */
static void test_fetched_is_safe_before_its_object_goes(void **state)
{
	struct bench *b = open_bench(true);
	uint64_t one = uploaded(b, "p/d/one", "first"), two = uploaded(b, "p/d/two", "second");
	char dir[128], command[256];
	struct store *cut;

	(void)state;
	evict(b, one);
	evict(b, two);
	upload_pause(b->upload);
	wait_until(upload_pauses(b) == PAUSE_BY_HAND);
	rename_in(b, "p/d", "one", "swap");
	rename_in(b, "p/d", "two", "one");
	rename_in(b, "p/d", "swap", "two");
	fake_set_hold(b->fake, S3_PUT, true);
	upload_resume(b->upload);
	wait_until(fake_in_flight(b->fake, S3_PUT) == 1);
	wait_until(fake_count(b->fake, S3_COPY) == 1 && fake_in_flight(b->fake, S3_COPY) == 0);
	wait_until(state_of(b, one) == FILE_UPLOADED || state_of(b, two) == FILE_UPLOADED);
	cut = after_power_cut(b, dir);
	one = state_of(b, one) == FILE_UPLOADED ? two : one; /* the one that is on its way */
	assert_true(is_here(cut, one));
	store_close(cut);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
	fake_set_hold(b->fake, S3_PUT, false);
	bench_end(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written_again_after_it_vanished),
		cmocka_unit_test(test_copied_again_when_it_is_gone),
		cmocka_unit_test(test_written_again_in_a_conflict),
		cmocka_unit_test(test_unchanged_where_only_the_tag_tells),
		cmocka_unit_test(test_unchanged_where_nobody_may_ask),
		cmocka_unit_test(test_gone_and_renamed_back),
		cmocka_unit_test(test_gone_is_in_nobodys_way),
		cmocka_unit_test(test_held_is_in_nobodys_way),
		cmocka_unit_test(test_held_and_its_object_is_no_more),
		cmocka_unit_test(test_moved_to_where_one_was_held),
		cmocka_unit_test(test_moved_back_and_replaced),
		cmocka_unit_test(test_moved_and_vanished_before_it_was_verified),
		cmocka_unit_test(test_held_and_tagged_anew),
		cmocka_unit_test(test_moved_and_tagged_anew),
		cmocka_unit_test(test_in_conflict_and_tagged_anew),
		cmocka_unit_test(test_conflict_evicted_and_tried_again),
		cmocka_unit_test(test_vanished_and_tried_again),
		cmocka_unit_test(test_damaged_and_accepted),
		cmocka_unit_test(test_accepted_and_damaged),
		cmocka_unit_test(test_other_naming),
		cmocka_unit_test(test_other_naming_and_its_objects),
		cmocka_unit_test(test_fetched_is_safe_before_its_object_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
