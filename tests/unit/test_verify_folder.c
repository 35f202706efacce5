/*
 * From uploaded to verified (and elsewhere) against a bucket in memory, with a real store.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/verify.h"
#include "fake_bucket.h"
#include "scratch.h"

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>

static struct fake_bucket *bucket;
static struct remote *the_remote;
static struct store *store;
static struct verify *verify;
static char dir[64];
static uint64_t folder_ino;

static void on_changed(void *user, const struct store_change *change)
{
	verify_notice(verify, change);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int setup(void **state)
{
	struct store_config store_config = {.dir = dir, .identity = "test"};
	struct remote_config remote_config = {.prefix = "p", .list_ttl_ms = 60000};
	struct verify_config config = {.quiet_ms = 1};
	struct store_events events = {.changed = on_changed};
	struct store_create folder = {
		.parent = STORE_ROOT_INO, .name = "p", .type = STORE_DIR, .mode = 0755};
	struct store_attr attr;
	char *message = NULL;

	snprintf(dir, sizeof(dir), "%s/cpgfs-verify-XXXXXX", scratch_top());
	assert_non_null(mkdtemp(dir));
	assert_int_equal(store_open(&store, &store_config, 0, &message), 0);
	bucket = fake_create();
	remote_config.s3 = &bucket->s3;
	remote_config.store = store;
	assert_int_equal(remote_create(&the_remote, &remote_config), 0);
	config.store = store;
	config.remote = the_remote;
	assert_int_equal(verify_create(&verify, &config), 0);
	store_subscribe(store, &events);
	assert_int_equal(store_start(store), 0);
	assert_int_equal(remote_start(the_remote), 0);
	assert_int_equal(store_create(store, &folder, &attr), 0);
	folder_ino = attr.ino;
	return 0;
}

static int teardown(void **state)
{
	remote_stop(the_remote);
	verify_stop(verify);
	store_stop(store);
	verify_destroy(verify);
	remote_destroy(the_remote);
	s3_destroy(&bucket->s3);
	store_close(store);
	return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- a file's way to UPLOADED ---- */

static void write_content(uint64_t ino)
{
	struct store_file *f;
	uint64_t chunk;

	assert_int_equal(store_file_open(store, ino, &f), 0);
	store_file_writer_add(f);
	assert_int_equal(store_file_write(f, "content", 7, 0, false, &chunk), 0);
	assert_int_equal(store_file_flush(f, false, NULL), 0);
	store_file_writer_drop(f);
	store_file_close(f);
}

static uint64_t file_written(const char *name)
{
	struct store_create what = {
		.parent = folder_ino, .name = name, .type = STORE_FILE, .mode = 0644};
	struct store_attr attr;

	assert_int_equal(store_create(store, &what, &attr), 0);
	write_content(attr.ino);
	return attr.ino;
}

static void file_queued(uint64_t ino, struct store_inode *inode)
{
	struct store_transition settle = {.ino = ino, .from = FILE_CLOSED, .to = FILE_SETTLED};
	uint64_t crc = crc64nvme(0, "content", 7);

	assert_int_equal(store_inode(store, ino, inode), 0);
	settle.generation = inode->attr.generation;
	assert_int_equal(store_state_set(store, &settle), 0);
	assert_int_equal(store_version_digested(store, ino, inode->attr.generation, &crc, 1,
				 FILE_QUEUED, NULL),
		0);
}

static void file_sent(uint64_t ino, const char *key, const char *etag)
{
	cleanup_free struct store_inode *inode = malloc(sizeof(*inode));
	struct store_attempt attempt = {.ino = ino, .kind = ATTEMPT_PUT, .phase = ATTEMPT_OPEN};
	struct store_transition t = {.ino = ino, .from = FILE_SENDING, .to = FILE_UPLOADED};
	struct store_object object = {.size_bytes = 7};
	bool applied;

	file_queued(ino, inode);
	attempt.generation = t.generation = object.generation = inode->attr.generation;
	snprintf(attempt.key, sizeof(attempt.key), "%s", key);
	snprintf(object.key, sizeof(object.key), "%s", key);
	snprintf(object.etag, sizeof(object.etag), "%s", etag);
	object.uploaded_at_ns = clock_wall_ns();
	assert_int_equal(store_attempt_begin(store, &attempt, FILE_QUEUED), 0);
	assert_int_equal(store_attempt_end(store, attempt.id, &t, &object, key, 0, &applied), 0);
	assert_true(applied);
}

/* As the bucket got it from us. */
static uint64_t uploaded(const char *name)
{
	uint64_t ino = file_written(name);
	char key[300];

	snprintf(key, sizeof(key), "p/%s", name);
	fake_put(bucket, key, 7, "tag");
	file_sent(ino, key, "tag");
	return ino;
}

static enum file_state state_of(uint64_t ino)
{
	struct store_attr attr;

	assert_int_equal(store_attr(store, ino, &attr), 0);
	return attr.state;
}

static void wait_state(uint64_t ino, enum file_state state)
{
	int64_t deadline_ms = clock_mono_ms() + 60000;

	while (state_of(ino) != state) {
		assert_true(clock_mono_ms() < deadline_ms);
		sched_yield();
	}
}

static void assert_reason(uint64_t ino, const char *part)
{
	cleanup_free struct store_inode *inode = malloc(sizeof(*inode));

	assert_int_equal(store_inode(store, ino, inode), 0);
	assert_non_null(strstr(inode->reason, part));
}

/* ---- cases ---- */

static void uploads_become_verified(void **state)
{
	uint64_t ino[50];
	char name[16];
	cleanup_free struct store_inode *inode = malloc(sizeof(*inode));

	assert_int_equal(verify_start(verify), 0);
	for (unsigned i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "f%02u", i);
		ino[i] = uploaded(name);
	}
	for (unsigned i = 0; i < 50; i++)
		wait_state(ino[i], FILE_VERIFIED);
	assert_int_equal(store_inode(store, ino[7], inode), 0);
	assert_true(inode->object.verified_at_ns >= inode->object.uploaded_at_ns);
	assert_string_equal(inode->object.etag, "tag");
	assert_int_equal(fake_count(bucket, S3_HEAD), 0);
}

static void one_listing_serves_a_folder(void **state)
{
	uint64_t ino[300];
	char name[16];

	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "f%03u", i);
		ino[i] = uploaded(name);
	}
	assert_int_equal(verify_start(verify), 0); /* takes up what was uploaded before */
	for (unsigned i = 0; i < 300; i++)
		wait_state(ino[i], FILE_VERIFIED);
	assert_int_equal(fake_count(bucket, S3_LIST), 1);
}

static void an_upload_that_vanished_is_sent_again(void **state)
{
	uint64_t here = uploaded("here"), lost = uploaded("lost");

	fake_remove(bucket, "p/lost");
	assert_int_equal(verify_start(verify), 0);
	wait_state(here, FILE_VERIFIED);
	wait_state(lost, FILE_QUEUED);
	assert_reason(lost, "vanished");
	assert_int_equal(fake_count(bucket, S3_HEAD), 1);
}

static void other_content_is_a_conflict(void **state)
{
	uint64_t size = uploaded("size"), tag = uploaded("tag");

	fake_put(bucket, "p/size", 8, "tag");
	fake_put(bucket, "p/tag", 7, "another");
	assert_int_equal(verify_start(verify), 0);
	wait_state(size, FILE_CONFLICT);
	wait_state(tag, FILE_CONFLICT);
	assert_reason(size, "8 bytes");
	assert_reason(tag, "another");
}

/* The listing lacks it, HEAD has it: not verified, not lost. */
static bool hide_once(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	unsigned *left = b->answer_user;

	if (req->op != S3_LIST || *left == 0)
		return false;
	--*left;
	reply->class = S3_DONE;
	reply->http_status = 200;
	fake_page_finish(&reply->list);
	return true;
}

static void what_a_listing_does_not_show_yet_waits(void **state)
{
	uint64_t ino = uploaded("late");
	unsigned left = 1;

	bucket->answer = hide_once;
	bucket->answer_user = &left;
	assert_int_equal(verify_start(verify), 0);
	wait_state(ino, FILE_VERIFIED); /* by the second listing */
	assert_int_equal(fake_count(bucket, S3_LIST), 2);
	assert_int_equal(fake_count(bucket, S3_HEAD), 1);
}

static void a_verified_object_that_vanished_is_gone(void **state)
{
	uint64_t old = uploaded("old"), new;

	assert_int_equal(verify_start(verify), 0);
	wait_state(old, FILE_VERIFIED);
	fake_remove(bucket, "p/old");
	new = uploaded("new"); /* its listing comes by */
	wait_state(new, FILE_VERIFIED);
	wait_state(old, FILE_GONE);
}

static int no_entry(void *user, const struct remote_walk_entry *entry)
{
	return -EEXIST;
}

/* The same below a folder whose name is another in the bucket, beside one that has that name here. */
static void gone_below_a_cleaned_name(void **state)
{
	struct store_create odd = {
		.parent = folder_ino, .name = "my plate", .type = STORE_DIR, .mode = 0755};
	struct store_create clean = {
		.parent = folder_ino, .name = "myplate", .type = STORE_DIR, .mode = 0755};
	uint64_t top = folder_ino, ino[2];
	struct store_attr attr;

	verify_destroy(verify);
	assert_int_equal(verify_create(&verify,
				 &(struct verify_config){.quiet_ms = 1,
					 .store = store,
					 .remote = the_remote,
					 .naming = {.mode = NAMING_CLEAN}}),
		0);
	for (unsigned i = 0; i < 2; i++) {
		char name[8], key[32];

		assert_int_equal(store_create(store, i ? &clean : &odd, &attr), 0);
		folder_ino = attr.ino;
		snprintf(name, sizeof(name), "f%u", i);
		snprintf(key, sizeof(key), "p/myplate/%s", name);
		ino[i] = file_written(name);
		fake_put(bucket, key, 7, "tag");
		file_sent(ino[i], key, "tag");
	}
	folder_ino = top;
	assert_int_equal(verify_start(verify), 0);
	for (unsigned i = 0; i < 2; i++)
		wait_state(ino[i], FILE_VERIFIED);
	fake_remove(bucket, "p/myplate/f0");
	fake_remove(bucket, "p/myplate/f1");
	assert_int_equal(remote_walk(the_remote, "p/myplate/", false, INT64_MAX, no_entry, NULL, NULL), 0);
	verify_notice_listed(verify, "p/myplate/", 0);
	wait_state(ino[0], FILE_GONE);
	wait_state(ino[1], FILE_GONE);
}

/* By a clock that was an hour ahead. */
static uint64_t verified_ahead(const char *name)
{
	time_t deadline = time(NULL) + 60;
	uint64_t ino;

	clock_fake_begin(clock_wall_ns() + 3600 * NS_PER_S);
	ino = uploaded(name);
	assert_int_equal(verify_start(verify), 0);
	while (state_of(ino) != FILE_VERIFIED && time(NULL) < deadline) {
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		clock_fake_advance_ms(1);
	}
	clock_fake_end();
	assert_int_equal(state_of(ino), FILE_VERIFIED);
	return ino;
}

static void gone_though_the_clock_was_set_back(void **state)
{
	uint64_t ino = verified_ahead("old");
	struct remote_entry e;

	fake_remove(bucket, "p/old");
	remote_refresh(the_remote, "");
	while (remote_lookup(the_remote, "p/", "old", false, &e) != -ENOENT)
		sched_yield();
	verify_notice_listed(verify, "p/", 0);
	wait_state(ino, FILE_GONE);
}

static void a_verified_object_that_was_replaced_is_a_conflict(void **state)
{
	uint64_t old = uploaded("old"), new;

	assert_int_equal(verify_start(verify), 0);
	wait_state(old, FILE_VERIFIED);
	fake_put(bucket, "p/old", 9, "theirs");
	new = uploaded("new");
	wait_state(new, FILE_VERIFIED);
	wait_state(old, FILE_CONFLICT);
}

/* Finished while the listing was already under way: only the next one counts. */
static void an_upload_after_the_listing_began_waits_for_the_next(void **state)
{
	uint64_t first = uploaded("first"), second;

	fake_hold(bucket, true);
	assert_int_equal(verify_start(verify), 0);
	while (fake_count(bucket, S3_LIST) < 1)
		sched_yield();
	second = uploaded("second"); /* the held listing will show it */
	fake_hold(bucket, false);
	wait_state(first, FILE_VERIFIED);
	wait_state(second, FILE_VERIFIED);
	assert_int_equal(fake_count(bucket, S3_LIST), 2);
}

/* What is compared is the version now: it was uploaded after the listing began, so that listing
 * proves nothing of it, equal as it may look. */
static void a_version_newer_than_the_listing_waits_for_the_next(void **state)
{
	uint64_t ino = uploaded("file");

	fake_hold(bucket, true);
	assert_int_equal(verify_start(verify), 0);
	while (fake_count(bucket, S3_LIST) < 1)
		sched_yield();
	write_content(ino);
	file_sent(ino, "p/file", "tag");
	fake_hold(bucket, false);
	wait_state(ino, FILE_VERIFIED);
	assert_int_equal(fake_count(bucket, S3_LIST), 2);
	assert_int_equal(fake_count(bucket, S3_HEAD), 0);
}

static void an_upload_lost_again_and_again_fails(void **state)
{
	uint64_t ino = file_written("ghost");

	assert_int_equal(verify_start(verify), 0);
	for (int round = 0; round < 4; round++) {
		cleanup_free struct store_inode *inode = malloc(sizeof(*inode));
		struct store_attempt attempt = {
			.ino = ino, .kind = ATTEMPT_PUT, .phase = ATTEMPT_OPEN, .key = "p/ghost"};
		struct store_transition t = {.ino = ino, .from = FILE_SENDING, .to = FILE_UPLOADED};
		struct store_object object = {.key = "p/ghost", .etag = "tag", .size_bytes = 7};
		bool applied;

		if (round == 0)
			file_queued(ino, inode);
		assert_int_equal(store_inode(store, ino, inode), 0);
		attempt.generation = t.generation = object.generation = inode->attr.generation;
		object.uploaded_at_ns = clock_wall_ns();
		assert_int_equal(store_attempt_begin(store, &attempt, FILE_QUEUED), 0);
		assert_int_equal(
			store_attempt_end(store, attempt.id, &t, &object, "p/ghost", 0, &applied), 0);
		wait_state(ino, round < 3 ? FILE_QUEUED : FILE_FAILED);
	}
	assert_reason(ino, "again and again");
}

static bool deny(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	if (req->op != S3_LIST)
		return false;
	fake_error(reply, S3_DENIED, 403, "AccessDenied");
	return true;
}

static void a_refused_listing_verifies_nothing(void **state)
{
	uint64_t ino = uploaded("file");

	bucket->answer = deny;
	assert_int_equal(verify_start(verify), 0);
	while (fake_count(bucket, S3_LIST) < 1)
		sched_yield();
	verify_hurry(verify, "");
	assert_int_equal(state_of(ino), FILE_UPLOADED);
	verify_stop(verify);
	store_stop(store);
	assert_int_equal(state_of(ino), FILE_UPLOADED);
	assert_int_equal(fake_count(bucket, S3_LIST), 1); /* not again at once */
}

static unsigned lines_of(const char *path, const char *part)
{
	char text[8192] = "";
	unsigned count = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) >= 0);
	close(fd);
	for (const char *at = text; (at = strstr(at, part)); at++)
		count++;
	return count;
}

/* The log has one line for all folders of an outage, and another one for the next. */
static void an_outage_is_told_of_once(void **state)
{
	uint64_t ino[8];
	char log[96];

	snprintf(log, sizeof(log), "%s/log", dir);
	assert_int_equal(log_open(LOG_LEVEL_INFO, log, false), 0);
	assert_int_equal(verify_start(verify), 0);
	for (unsigned round = 0; round < 2; round++) {
		unsigned lists = fake_count(bucket, S3_LIST);

		bucket->answer = deny;
		for (unsigned i = 0; i < 4; i++) {
			char name[16], key[32];

			snprintf(name, sizeof(name), "f%u-%u", round, i);
			snprintf(key, sizeof(key), "p/%u/%s", i, name);
			ino[4 * round + i] = file_written(name);
			fake_put(bucket, key, 7, "tag");
			file_sent(ino[4 * round + i], key, "tag");
		}
		while (fake_count(bucket, S3_LIST) < lists + 4)
			sched_yield();
		bucket->answer = NULL;
		verify_again(verify);
		for (unsigned i = 0; i < 4; i++)
			wait_state(ino[4 * round + i], FILE_VERIFIED);
		assert_int_equal(lines_of(log, "can't be verified now"), round + 1);
	}
	assert_int_equal(log_open(LOG_LEVEL_INFO, NULL, false), 0);
}

static void stopping_does_not_wait_for_a_dead_server(void **state)
{
	(void)uploaded("file");
	fake_hold(bucket, true);
	assert_int_equal(verify_start(verify), 0);
	while (fake_count(bucket, S3_LIST) < 1)
		sched_yield();
	/* teardown: remote first, then verify */
}

/* ---- renamed while the bucket is asked ---- */

static uint64_t moved_ino;

static void move_to(uint64_t dir_ino, const char *key)
{
	cleanup_free struct store_inode *inode = malloc(sizeof(*inode));
	struct store_object g = {.etag = "tag2", .size_bytes = 7, .has_crc64nvme = true};
	struct store_transition t = {.ino = moved_ino, .from = FILE_MOVING, .to = FILE_UPLOADED};

	assert_int_equal(store_rename(store, folder_ino, "f", dir_ino, "g", 0, 0), 0);
	assert_int_equal(store_inode(store, moved_ino, inode), 0);
	assert_true(text_copy(g.key, key, sizeof(g.key)));
	fake_put(bucket, key, 7, "tag2");
	fake_remove(bucket, "p/f");
	g.crc64nvme = crc64nvme(0, "content", 7);
	g.generation = t.generation = inode->attr.generation;
	g.uploaded_at_ns = clock_wall_ns();
	assert_int_equal(store_object_set(store, &t, &g, false), 0);
}

/* The object is moved, and by then another one with the same content has come under its old key. */
static bool move_when_asked(
	struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	bool *same_content = b->answer_user;

	if (req->op != S3_HEAD || strcmp(req->key, "p/f") != 0)
		return false;
	b->answer = NULL; /* once */
	move_to(folder_ino, "p/g");
	if (!*same_content)
		return false; /* not there */
	reply->class = S3_DONE;
	reply->http_status = 200;
	reply->object.size_bytes = 7;
	(void)text_copy(reply->object.etag, "other", sizeof(reply->object.etag));
	reply->has_crc64nvme = reply->crc_is_full_object = true;
	reply->crc64nvme = crc64nvme(0, "content", 7);
	return true;
}

static void moved_while_asked(bool same_content)
{
	cleanup_free struct store_inode *inode = malloc(sizeof(*inode));
	struct store_transition t = {.from = FILE_UPLOADED, .to = FILE_UPLOADED};
	struct store_counts counts;

	moved_ino = uploaded("f");
	assert_int_equal(store_inode(store, moved_ino, inode), 0);
	inode->object.has_crc64nvme = true;
	inode->object.crc64nvme = crc64nvme(0, "content", 7);
	t.ino = moved_ino;
	t.generation = inode->attr.generation;
	assert_int_equal(store_object_set(store, &t, &inode->object, false), 0);
	assert_int_equal(store_evict(store, UINT64_MAX), 0);
	fake_remove(bucket, "p/f"); /* no listing shows it */
	bucket->answer = move_when_asked;
	bucket->answer_user = &same_content;
	assert_int_equal(verify_start(verify), 0);
	wait_state(moved_ino, FILE_VERIFIED); /* what was found under the old key is no verdict */
	assert_int_equal(store_inode(store, moved_ino, inode), 0);
	assert_string_equal(inode->object.key, "p/g");
	assert_int_equal(store_counts(store, STORE_ROOT_INO, &counts), 0);
	assert_int_equal(counts.files[FILE_DELETING], 1); /* the old one */
}

static void moved_and_a_twin_came(void **state)
{
	moved_while_asked(true);
}

static void moved_and_missed(void **state)
{
	moved_while_asked(false);
}

struct moving {
	uint64_t to_ino;
	unsigned lists; /* of the folder that it leaves */
};

static bool move_away_when_listed(
	struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	struct moving *m = b->answer_user;

	if (req->op == S3_LIST && strcmp(req->prefix, "p/") == 0 && ++m->lists == 1)
		move_to(m->to_ino, "p/q/g");
	return false;
}

/* Where it was is not looked at for it any more: with many renames that took all the time there was. */
static void moved_to_another_folder(void **state)
{
	struct store_create q = {
		.parent = folder_ino, .name = "q", .type = STORE_DIR, .mode = 0755};
	struct store_attr attr;
	struct moving m = {0};

	assert_int_equal(store_create(store, &q, &attr), 0);
	m.to_ino = attr.ino;
	moved_ino = uploaded("f");
	bucket->answer = move_away_when_listed;
	bucket->answer_user = &m;
	assert_int_equal(verify_start(verify), 0);
	wait_state(moved_ino, FILE_VERIFIED);
	assert_int_equal(m.lists, 1);
	assert_int_equal(fake_count(bucket, S3_HEAD), 0);
}

static void comparing_is_exact(void **state)
{
	struct store_object ours = {.size_bytes = 7, .etag = "tag"}, no_tag = {.size_bytes = 7};
	struct s3_object same = {.size_bytes = 7, .etag = "tag"},
			 longer = {.size_bytes = 8, .etag = "tag"},
			 other = {.size_bytes = 7, .etag = "Tag"}, none = {.size_bytes = 7};

	assert_int_equal(verify_compare(&ours, &same), 0);
	assert_int_equal(verify_compare(&ours, &longer), -EBADMSG);
	assert_int_equal(verify_compare(&ours, &other), -EBADMSG);
	assert_int_equal(verify_compare(&no_tag, &none), -EBADMSG); /* nothing proves it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(uploads_become_verified, setup, teardown),
		cmocka_unit_test_setup_teardown(one_listing_serves_a_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_upload_that_vanished_is_sent_again, setup, teardown),
		cmocka_unit_test_setup_teardown(other_content_is_a_conflict, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_a_listing_does_not_show_yet_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_verified_object_that_vanished_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(gone_below_a_cleaned_name, setup, teardown),
		cmocka_unit_test_setup_teardown(
			gone_though_the_clock_was_set_back, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_verified_object_that_was_replaced_is_a_conflict, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_upload_after_the_listing_began_waits_for_the_next, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_version_newer_than_the_listing_waits_for_the_next, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_upload_lost_again_and_again_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_refused_listing_verifies_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(an_outage_is_told_of_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
			stopping_does_not_wait_for_a_dead_server, setup, teardown),
		cmocka_unit_test_setup_teardown(moved_and_a_twin_came, setup, teardown),
		cmocka_unit_test_setup_teardown(moved_and_missed, setup, teardown),
		cmocka_unit_test_setup_teardown(moved_to_another_folder, setup, teardown),
		cmocka_unit_test(comparing_is_exact),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
