/*
 * Verifying short of memory: `verified` is said of what a listing showed and of nothing else,
 * nothing is given up, and a comparison without a mount finds all there is to find or fails.
 */
#include <errno.h>

#include "memory_fault.h"

#include "cpgfs/verify.h"
#include "fake_bucket.h"
#include "scratch.h"
#include "verify_private.h"
#include "verify_tree.h"

#include <ftw.h>
#include <libxml/parser.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S 60
#define CONTENT "content"
#define CONTENT_MD5 "9a0364b9e99bb480dd25e1f0284c8555"

static struct fake_bucket *bucket;
static struct store *store;
static struct remote *the_remote;
static struct verify *verify;
static char dir[64], file_path[128];
static uint64_t folder_ino;
static pthread_t ticker;
static _Atomic bool is_over;

/* Time goes by. */
static void *tick(void *arg)
{
	struct timespec pause = {.tv_nsec = 100000};

	while (!is_over) {
		nanosleep(&pause, NULL);
		clock_fake_advance_ms(2);
	}
	return NULL;
}

/* ---- uploads ---- */

static uint64_t make_file(const char *name)
{
	struct store_create what = {
		.parent = folder_ino, .name = name, .type = STORE_FILE, .mode = 0644};
	struct store_attr attr;
	struct store_file *f;
	uint64_t chunk;

	assert_int_equal(store_create(store, &what, &attr), 0);
	assert_int_equal(store_file_open(store, attr.ino, &f), 0);
	store_file_writer_add(f);
	assert_int_equal(store_file_write(f, CONTENT, 7, 0, false, &chunk), 0);
	assert_int_equal(store_file_flush(f, false, NULL), 0);
	store_file_writer_drop(f);
	store_file_close(f);
	return attr.ino;
}

static void transition(uint64_t ino, enum file_state from, enum file_state to)
{
	struct store_transition t = {.ino = ino, .from = from, .to = to};
	struct store_attr attr;

	assert_int_equal(store_attr(store, ino, &attr), 0);
	t.generation = attr.generation;
	assert_int_equal(store_state_set(store, &t), 0);
}

/* As the bucket got it from us as "tag"; found: the ETag that it has there by the time this is known
 * (verify may look at once), or NULL if it is gone. */
static uint64_t upload_file(const char *name, const char *key, const char *found)
{
	uint64_t ino = make_file(name), crc = crc64nvme(0, CONTENT, 7);
	struct store_attempt attempt = {.ino = ino, .kind = ATTEMPT_PUT, .phase = ATTEMPT_OPEN};
	struct store_transition t = {.ino = ino, .from = FILE_SENDING, .to = FILE_UPLOADED};
	struct store_object object = {.size_bytes = 7, .etag = "tag"};
	struct store_attr attr;
	bool applied;

	transition(ino, FILE_CLOSED, FILE_SETTLED);
	assert_int_equal(store_attr(store, ino, &attr), 0);
	attempt.generation = t.generation = object.generation = attr.generation;
	assert_int_equal(
		store_version_digested(store, ino, attr.generation, &crc, 1, FILE_QUEUED, NULL), 0);
	snprintf(attempt.key, sizeof(attempt.key), "%s", key);
	snprintf(object.key, sizeof(object.key), "%s", key);
	object.uploaded_at_ns = clock_wall_ns();
	if (found)
		fake_put(bucket, key, 7, found);
	assert_int_equal(store_attempt_begin(store, &attempt, FILE_QUEUED), 0);
	assert_int_equal(store_attempt_end(store, attempt.id, &t, &object, key, 0, &applied), 0);
	return ino;
}

static enum file_state state_of(uint64_t ino)
{
	struct store_attr attr;
	long at = memory_fault_pause();

	must_hold(store_attr(store, ino, &attr) == 0);
	memory_fault_resume(at);
	return attr.state;
}

static void wait_state(const char *name, uint64_t ino, enum file_state state)
{
	struct timespec from, now, pause = {.tv_nsec = 100000};

	clock_gettime(CLOCK_MONOTONIC, &from);
	while (state_of(ino) != state) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - from.tv_sec > WAIT_S)
			fail_msg("call %ld failed: %s stays %s", memory_sweep_at, name,
				file_state_text(state_of(ino)));
		nanosleep(&pause, NULL);
	}
}

static void start_verify(void)
{
	struct verify_config config = {.quiet_ms = 1, .store = store, .remote = the_remote};
	int r;

	while ((r = verify_create(&verify, &config)) < 0)
		must_hold(r == -ENOMEM);
	while ((r = verify_start(verify)) < 0)
		must_hold(r == -ENOMEM || r == -EAGAIN);
}

static void notice(uint64_t ino)
{
	verify_notice(verify, &(struct store_change){.ino = ino, .to = FILE_UPLOADED});
}

/* Some that were there before, some that come. */
static bool play_uploads(void *user)
{
	uint64_t before = upload_file("before", "p/d/before", "tag"), good, lost, other, new;
	bool reached;

	memory_fault_begin(memory_sweep_at, false);
	start_verify();
	(void)memory_fault_pause();
	good = upload_file("good", "p/d/good", "tag");
	lost = upload_file("lost", "p/d/e/lost", NULL);
	other = upload_file("other", "p/d/other", "theirs");
	memory_fault_resume(memory_sweep_at);
	notice(good);
	notice(lost);
	notice(other);
	wait_state("before", before, FILE_VERIFIED);
	wait_state("good", good, FILE_VERIFIED);
	wait_state("lost", lost, FILE_QUEUED);
	wait_state("other", other, FILE_CONFLICT);
	fake_remove(bucket, "p/d/good");
	remote_refresh(the_remote, "");
	for (struct remote_entry e;
		remote_lookup(the_remote, "p/d/", "good", false, &e) != -ENOENT;)
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	reached = memory_fault_end();

	remote_refresh(the_remote, "");
	for (struct remote_entry e;
		remote_lookup(the_remote, "p/d/", "good", false, &e) != -ENOENT;)
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	verify_notice_listed(verify, "p/d/", 0);
	new = upload_file("new", "p/d/new", "tag"); /* its listing comes by */
	notice(new);
	wait_state("new", new, FILE_VERIFIED);
	wait_state("good", good, FILE_GONE);
	verify_stop(verify);
	verify_destroy(verify);
	must_hold(state_of(before) == FILE_VERIFIED);
	return reached;
}

static void clear(void)
{
	static const char *const names[] = {"before", "good", "lost", "other", "new"};

	for (size_t i = 0; i < array_len(names); i++)
		must_hold(store_unlink(store, folder_ino, names[i], 0) == 0);
	fake_remove(bucket, "p/d/before");
	fake_remove(bucket, "p/d/other");
	fake_remove(bucket, "p/d/new");
	remote_refresh(the_remote, "");
}

static bool play_uploads_and_clear(void *user)
{
	bool reached = play_uploads(user);

	clear();
	return reached;
}

static void uploads_are_verified_in_the_end(void **state)
{
	memory_sweep("uploads", play_uploads_and_clear, NULL, 1);
}

/* No other news would tell of it. */
static void the_only_news_is_not_lost(void **state)
{
	uint64_t first = upload_file("first", "p/d/first", "tag"), only;

	start_verify();
	wait_state("first", first, FILE_VERIFIED);
	only = upload_file("only", "p/d/only", "tag");
	memory_fault_begin(1, false);
	notice(only);
	assert_true(memory_fault_end());
	wait_state("only", only, FILE_VERIFIED);
	verify_stop(verify);
	verify_destroy(verify);
	must_hold(store_unlink(store, folder_ino, "first", 0) == 0);
	must_hold(store_unlink(store, folder_ino, "only", 0) == 0);
	fake_remove(bucket, "p/d/first");
	fake_remove(bucket, "p/d/only");
}

/* What could not be looked at is looked at with the next news, also if these tell of the same listing. */
static bool play_gone(void *user)
{
	uint64_t ino = upload_file("old", "p/d/old", "tag");
	struct store_attr attr;
	bool reached;

	start_verify();
	wait_state("old", ino, FILE_VERIFIED);
	clock_fake_advance_ms(1); /* the listing is later */
	fake_remove(bucket, "p/d/old");
	remote_refresh(the_remote, "");
	for (struct remote_entry e;
		remote_lookup(the_remote, "p/d/", "old", false, &e) != -ENOENT;)
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	memory_fault_begin(memory_sweep_at, false);
	verify_notice_listed(verify, "p/d/", 0);
	memory_spares_thread = true;
	for (attr.state = FILE_VERIFIED;
		attr.state != FILE_GONE && memory_fault.calls < memory_sweep_at;) {
		must_hold(store_attr(store, ino, &attr) == 0);
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	}
	memory_spares_thread = false;
	reached = memory_fault_end();
	for (unsigned n = 0; state_of(ino) != FILE_GONE && n < WAIT_S * 1000; n++) {
		verify_notice_listed(verify, "p/d/", 0);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	wait_state("old", ino, FILE_GONE);
	verify_stop(verify);
	verify_destroy(verify);
	must_hold(store_unlink(store, folder_ino, "old", 0) == 0);
	return reached;
}

static void what_is_gone_is_found_out_in_the_end(void **state)
{
	memory_sweep("what is gone", play_gone, NULL, 1);
}

/* ---- without a mount ---- */

#define GRANT(id)                                                                                  \
	"<Grant><Grantee><ID>" id "</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant>"
#define ACL(grants)                                                                                \
	"<AccessControlPolicy><Owner><ID>me</ID></Owner><AccessControlList>" grants                \
	"</AccessControlList></AccessControlPolicy>"

static const char *acl_of_all; /* NULL: some have the bucket's owner */

static bool answer(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	const char *acl = acl_of_all ? acl_of_all
			  : strstr(req->key ? req->key : "", "alone")
				  ? ACL(GRANT("me"))
				  : ACL(GRANT("me") GRANT("owner"));

	if (req->op == S3_GET_ACL) {
		memory_spares_thread = true;
		buf_add_text(&reply->text, acl);
		memory_spares_thread = false;
		reply->class = S3_DONE;
		return true;
	}
	if (req->op != S3_HEAD || !strstr(req->key, "sum"))
		return false;
	fake_answer(b, req, reply);
	reply->has_crc64nvme = reply->crc_is_full_object = true;
	reply->crc64nvme = crc64nvme(0, strstr(req->key, "bad") ? "CONTENT" : CONTENT, 7);
	return true;
}

static const struct {
	const char *name, *etag; /* as it should be */
	const char *shown_etag;	 /* NULL: it is not there */
	bool has_file, has_crc;
} things[] = {
	{"alone", "tag", "tag", false, false},
	{"badsum", "old", "new", false, true},
	{"file", "", CONTENT_MD5, true, false},
	{"filesum", "", CONTENT_MD5 "-1", true, false},
	{"missing", "tag", NULL, false, false},
	{"otherfile", "", "00000000000000000000000000000000", true, false},
	{"plain", "tag", "tag", false, false},
	{"sum", "old", "new", false, true},
};

static int next_item(void *user, struct verify_item *ret)
{
	size_t i = (*(size_t *)user)++;

	if (i >= array_len(things))
		return 0;
	snprintf(ret->key, sizeof(ret->key), "q/%s", things[i].name);
	snprintf(ret->etag, sizeof(ret->etag), "%s", things[i].etag);
	snprintf(ret->path, sizeof(ret->path), "%s", things[i].has_file ? file_path : "");
	ret->has_crc64nvme = things[i].has_crc;
	ret->crc64nvme = crc64nvme(0, CONTENT, 7);
	ret->size_bytes = 7;
	return 1;
}

static void write_result(const struct verify_result *r, char out[1024])
{
	size_t len = (size_t)snprintf(out, 1024, "%u items %u equal %u listed %u tag %u sum, %s\n",
		(unsigned)r->items, (unsigned)r->equal, (unsigned)r->listed, (unsigned)r->by_tag,
		(unsigned)r->by_checksum, r->acl_guess ? r->acl_guess : "owner known");

	for (size_t i = 0; i < r->difference_count; i++)
		len += (size_t)snprintf(out + len, 1024 - len, "%s %s: %s\n",
			verify_kind_text(r->differences[i].kind), r->differences[i].key,
			r->differences[i].what);
}

/* 0, or what it said. */
static int compare_all(char out[1024])
{
	struct verify_bucket side;
	size_t at = 0;
	struct verify_tree tree = {.bucket = &side,
		.next = next_item,
		.user = &at,
		.extra = true,
		.acl = true,
		.threads = 2};
	struct verify_result result;
	char *message = NULL;
	int r = verify_bucket_s3(&side, &bucket->s3, "q", NULL);

	if (r < 0)
		return r;
	r = verify_tree_run(&tree, &result, &message);
	if (r == 0) {
		write_result(&result, out);
		verify_result_release(&result);
	}
	free(message);
	side.close(side.user);
	return r;
}

static bool play_compare(void *user)
{
	const char *want = user;
	char got[1024];
	bool reached;
	int r;

	memory_fault_begin(memory_sweep_at, false);
	r = compare_all(got);
	reached = memory_fault_end();
	must_hold(r == 0 || r == -ENOMEM || r == -EAGAIN || r == -EBADMSG);
	if (r == 0 && strcmp(got, want) != 0)
		fail_msg("call %ld failed: says %s, not %s", memory_sweep_at, got, want);
	return reached;
}

static void put_things(void)
{
	for (size_t i = 0; i < array_len(things); i++) {
		char key[32];

		snprintf(key, sizeof(key), "q/%s", things[i].name);
		if (things[i].shown_etag)
			fake_put(bucket, key, 7, things[i].shown_etag);
	}
	fake_put(bucket, "q/extra", 1, "tag");
}

static void a_comparison_finds_all_or_fails(void **state)
{
	long step =
		getenv("CPGFS_TEST_LONG") ? 1 : 5; /* replies that are asked for again take time */
	char want[1024];

	put_things();
	bucket->page_keys = 4;
	assert_int_equal(compare_all(want), 0);
	assert_string_equal(want, "8 items 5 equal 8 listed 3 tag 2 sum, owner known\n"
				  "acl q/alone: full control only for another account\n"
				  "content q/badsum: other bytes\n"
				  "extra q/extra: in the bucket only\n"
				  "missing q/missing: not in the bucket\n"
				  "content q/otherfile: other bytes\n");
	memory_sweep("a comparison", play_compare, want, step);
	acl_of_all = ACL(GRANT("me"));
	assert_int_equal(compare_all(want), 0);
	assert_non_null(strstr(want, "sum, me\n")); /* a guess, and said so */
	memory_sweep("a guessed owner", play_compare, want, step);
	bucket->page_keys = 0;
}

/* ---- all ---- */

static void open_rooms(void)
{
	struct store_config store_config = {.dir = dir, .identity = "test"};
	struct remote_config remote_config = {.prefix = "p", .list_ttl_ms = 60000};
	struct store_create folder = {
		.parent = STORE_ROOT_INO, .name = "p", .type = STORE_DIR, .mode = 0755};
	struct store_attr attr;
	char *message = NULL;

	assert_int_equal(store_open(&store, &store_config, 0, &message), 0);
	assert_int_equal(store_start(store), 0);
	bucket = fake_create();
	bucket->answer = answer;
	remote_config.s3 = &bucket->s3;
	remote_config.store = store;
	assert_int_equal(remote_create(&the_remote, &remote_config), 0);
	assert_int_equal(remote_start(the_remote), 0);
	assert_int_equal(store_create(store, &folder, &attr), 0);
	folder.parent = attr.ino;
	folder.name = "d";
	assert_int_equal(store_create(store, &folder, &attr), 0);
	folder_ino = attr.ino;
}

static void say_nothing(void *user, const char *fmt, ...)
{
}

static int setup(void **state)
{
	FILE *out;

	log_set_level(LOG_LEVEL_ERROR);
	xmlSetGenericErrorFunc(NULL, say_nothing);
	assert_int_equal(xmlMemSetup(free, __wrap_malloc, __wrap_realloc, __wrap_strdup),
		0);
	xmlInitParser(); /* once, before there are threads: both as s3 does */
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	assert_int_equal(pthread_create(&ticker, NULL, tick, NULL), 0);
	snprintf(dir, sizeof(dir), "%s/cpgfs-verify-XXXXXX", scratch_top());
	assert_non_null(mkdtemp(dir));
	open_rooms();
	snprintf(file_path, sizeof(file_path), "%s/file", dir);
	out = fopen(file_path, "w");
	assert_non_null(out);
	assert_int_equal(fputs(CONTENT, out) >= 0 && fclose(out) == 0, 1);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	remote_stop(the_remote);
	store_stop(store);
	remote_destroy(the_remote);
	s3_destroy(&bucket->s3);
	store_close(store);
	is_over = true;
	pthread_join(ticker, NULL);
	clock_fake_end();
	return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_comparison_finds_all_or_fails),
		cmocka_unit_test(uploads_are_verified_in_the_end),
		cmocka_unit_test(the_only_news_is_not_lost),
		cmocka_unit_test(what_is_gone_is_found_out_in_the_end),
	};

	return cmocka_run_group_tests_name("verifying short of memory", tests, setup, teardown);
}
