/*
 * The remote room short of memory: what it answers is what the bucket has, or an error; news that
 * it promised comes; and asked again it answers.
 */
#include <errno.h>

#include "memory_fault.h"

#include "cpgfs/remote.h"
#include "fake_bucket.h"
#include "scratch.h"

#include <ftw.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S 60 /* of real time: then something waits in vain */
#define TRIES_MAX 200
#define PAGE_KEYS 3
#define PART_BYTES (64 * 1024)
#define BIG_BYTES (2 * PART_BYTES + 1000)

static struct fake_bucket *bucket;
static struct store *store;
static struct remote *the_remote;
static char dir[64];
static pthread_t ticker;
static _Atomic bool is_over;
static _Atomic unsigned listed, fetched;
static _Atomic int fetch_error;

/* What the test does to the store meets no fault. */
#define undisturbed(what)                                                                          \
	do {                                                                                       \
		long at_ = memory_fault_pause();                                                   \
		what;                                                                              \
		memory_fault_resume(at_);                                                          \
	} while (0)

static void on_listed(void *user, const char *prefix, int error)
{
	listed++;
}

static void on_fetched(void *user, uint64_t ino, uint64_t chunk, int error)
{
	fetch_error = error;
	fetched++;
}

/* Until *count is another than it was. */
static void wait_for_news(const _Atomic unsigned *count, unsigned was)
{
	struct timespec from, now, pause = {.tv_nsec = 100000};

	clock_gettime(CLOCK_MONOTONIC, &from);
	while (atomic_load(count) == was) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - from.tv_sec > WAIT_S)
			fail_msg("call %ld failed: waits in vain for news", memory_sweep_at);
		nanosleep(&pause, NULL);
	}
}

/* Time goes by, for those who wait to ask again. */
static void *tick(void *arg)
{
	struct timespec pause = {.tv_nsec = 100000};

	while (!is_over) {
		nanosleep(&pause, NULL);
		clock_fake_advance_ms(2);
	}
	return NULL;
}

static void open_remote(void)
{
	struct remote_config config = {
		.prefix = "p", .list_ttl_ms = 3600000, .s3 = &bucket->s3, .store = store};
	struct remote_events events = {.listed = on_listed, .fetched = on_fetched};
	int r;

	for (unsigned tries = 0;; tries++) {
		must_hold(tries < 10);
		the_remote = NULL;
		r = remote_create(&the_remote, &config);
		must_hold(r == 0 || (r == -ENOMEM && !the_remote));
		if (r < 0)
			continue;
		remote_subscribe(the_remote, &events);
		r = remote_start(the_remote);
		must_hold(r == 0 || r == -ENOMEM || r == -EAGAIN);
		if (r == 0)
			return;
		remote_destroy(the_remote);
	}
}

static void close_remote(void)
{
	remote_stop(the_remote);
	remote_destroy(the_remote);
}

/* ---- the bucket ---- */

static bool is_distant, is_disordered;
static _Atomic unsigned not_late_before; /* so many first requests do not see …/late */

static bool answer(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	if (req->op == S3_HEAD) {
		fake_error(reply, S3_DENIED, 403, "AccessDenied");
		return true;
	}
	if (req->op != S3_LIST)
		return false;
	fake_answer(b, req, reply);
	reply->elapsed_ms = is_distant ? 500 : 0;
	reply->list.unordered = is_disordered && req->start_after;
	if (fake_count(b, S3_LIST) > not_late_before)
		return true;
	for (size_t i = 0; i < reply->list.count; i++) {
		struct s3_list_entry *e = &reply->list.entries[i];

		if (text_ends(e->key, "/late"))
			memmove(e, e + 1, (--reply->list.count - i) * sizeof(*e));
	}
	return true;
}

/* ---- the truth ---- */

/* "name:size name/ …" of a folder. */
static void truth(const char *prefix, char out[1024])
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < bucket->object_count; i++) {
		const struct fake_object *o = &bucket->objects[i];
		const char *name = o->key + strlen(prefix), *slash;
		char item[128];

		if (!text_starts(o->key, prefix))
			continue;
		slash = strchr(name, '/');
		if (slash)
			snprintf(item, sizeof(item), "%.*s/ ", (int)(slash - name), name);
		else
			snprintf(
				item, sizeof(item), "%s:%u ", name, (unsigned)o->object.size_bytes);
		if (!slash || !strstr(out, item))
			len += (size_t)snprintf(out + len, 1024 - len, "%s", item);
	}
}

static int ask(const char *prefix, char out[1024])
{
	struct remote_entry e[3];
	char after[STORE_NAME_MAX + 1] = "";
	size_t len = 0;
	int n;

	out[0] = '\0';
	while ((n = remote_list(the_remote, prefix, after, false, e, array_len(e))) > 0) {
		for (int i = 0; i < n; i++)
			len += (size_t)(e[i].is_dir
						? snprintf(out + len, 1024 - len, "%s/ ", e[i].name)
						: snprintf(out + len, 1024 - len, "%s:%u ",
							  e[i].name,
							  (unsigned)e[i].object.size_bytes));
		memcpy(after, e[n - 1].name, sizeof(after));
	}
	return n;
}

static bool is_told(int error)
{
	return error == -ENOMEM || error == -ENETDOWN;
}

/* As a program that lists a folder, again after an error. */
static void must_list(const char *prefix)
{
	char want[1024], got[1024];
	unsigned before;

	truth(prefix, want);
	for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
		int r = (before = listed, ask(prefix, got));

		if (r == 0 && strcmp(got, want) != 0)
			fail_msg("call %ld failed: %s shows %s, not %s", memory_sweep_at, prefix,
				got, want);
		if (r == 0)
			return;
		if (r == -EINPROGRESS) {
			wait_for_news(&listed, before);
			continue;
		}
		must_hold(is_told(r));
		clock_fake_advance_ms(500);
	}
	fail_msg("call %ld failed: %s is never listed", memory_sweep_at, prefix);
}

/* ---- listings ---- */

static bool play_listing(void *user)
{
	bool reached;

	memory_fault_begin(memory_sweep_at, false);
	open_remote();
	must_list("p/");
	must_list("p/s/");
	remote_refresh(the_remote, "");
	must_list("p/");
	close_remote();
	reached = memory_fault_end();
	return reached;
}

/* find: one folder after the other, all that is in it. */
static void find_all(const char *prefix)
{
	char names[1024], *at = names, *name;

	must_list(prefix);
	truth(prefix, names);
	while ((name = strsep(&at, " ")) != NULL) {
		char below[256];

		snprintf(below, sizeof(below), "%s%s", prefix, name);
		if (text_ends(name, "/"))
			find_all(below);
	}
}

static bool play_find(void *user)
{
	bool reached;

	memory_fault_begin(memory_sweep_at, false);
	open_remote();
	find_all("p/");
	close_remote();
	reached = memory_fault_end();
	return reached;
}

/* A request for it is on its way; or none could be sent. */
static void ask_until_sent(const char *prefix)
{
	unsigned before = fake_count(bucket, S3_LIST);
	char text[1024];

	while (fake_count(bucket, S3_LIST) == before && ask(prefix, text) == -EINPROGRESS)
		sched_yield();
}

/* We write, while a listing is made that will not show it. */
static void put_late(const char *asked, const char *key)
{
	struct s3_object object = {.size_bytes = 7, .etag = "new"};

	fake_hold(bucket, true);
	ask_until_sent(asked);
	not_late_before = fake_count(bucket, S3_LIST);
	fake_put(bucket, key, 7, "new");
	remote_note_put(the_remote, key, &object);
	fake_hold(bucket, false);
}

/* We write where find comes by later. */
static bool play_find_and_put(void *user)
{
	bool reached;

	memory_fault_begin(memory_sweep_at, false);
	open_remote();
	must_list("p/");
	find_all("p/d/");
	must_list("p/e/");
	put_late("p/f/", "p/s/late");
	must_list("p/f/");
	must_list("p/g/");
	must_list("p/s/");
	close_remote();
	reached = memory_fault_end();
	fake_remove(bucket, "p/s/late");
	return reached;
}

/* Our own writes: to what is cached, and to what is just being listed and will not show them. */
static bool play_notes(void *user)
{
	struct s3_object object = {.size_bytes = 7, .etag = "new"};
	bool reached;

	open_remote();
	must_list("p/");
	must_list("p/s/");
	memory_fault_begin(memory_sweep_at, false);
	fake_put(bucket, "p/new", 7, "new");
	remote_note_put(the_remote, "p/new", &object);
	fake_put(bucket, "p/t/deep", 7, "new");
	remote_note_put(the_remote, "p/t/deep", &object);
	fake_remove(bucket, "p/a");
	remote_note_delete(the_remote, "p/a");
	must_list("p/");
	must_list("p/t/");

	remote_refresh(the_remote, "p/");
	put_late("p/", "p/late");
	must_list("p/");
	reached = memory_fault_end();

	close_remote();
	fake_remove(bucket, "p/new");
	fake_remove(bucket, "p/late");
	fake_remove(bucket, "p/t/deep");
	fake_put(bucket, "p/a", 1, "e");
	return reached;
}

/* ---- fresh ones ---- */

struct seen {
	char text[1024];
	size_t len;
};

static int each(void *user, const struct remote_walk_entry *e)
{
	struct seen *s = user;

	s->len += (size_t)snprintf(
		s->text + s->len, sizeof(s->text) - s->len, "%.*s ", (int)e->key_len, e->key);
	return 0;
}

/* All keys, or one level of them. */
static void walk_truth(const char *prefix, bool recursive, char out[1024])
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < bucket->object_count; i++) {
		const char *key = bucket->objects[i].key, *slash;
		char item[128];

		if (!text_starts(key, prefix))
			continue;
		slash = recursive ? NULL : strchr(key + strlen(prefix), '/');
		snprintf(item, sizeof(item), "%.*s ", slash ? (int)(slash + 1 - key) : 100, key);
		if (!strstr(out, item))
			len += (size_t)snprintf(out + len, 1024 - len, "%s", item);
	}
}

static void must_walk(const char *prefix, bool recursive)
{
	char want[1024];

	walk_truth(prefix, recursive, want);
	for (unsigned tries = 0; tries < 10; tries++) {
		struct seen s = {.len = 0};
		int64_t begun_ns = 0;
		int r = remote_walk(the_remote, prefix, recursive, INT64_MAX, each, &s, &begun_ns);

		must_hold(r == 0 || r == -ENOMEM);
		if (r == 0)
			must_hold(strcmp(s.text, want) == 0 && begun_ns > 0);
		if (r == 0)
			return;
		must_hold(text_starts(want, s.text));
	}
	fail_msg("call %ld failed: no walk comes to its end", memory_sweep_at);
}

static bool play_walk(void *user)
{
	bool reached;

	memory_fault_begin(memory_sweep_at, false);
	open_remote();
	must_walk("p/", true);
	must_walk("p/", false);
	must_walk("p/n/", false);
	must_list("p/"); /* what a walk leaves, or another listing */
	close_remote();
	reached = memory_fault_end();
	return reached;
}

/* HEAD is refused: a listing of that key decides. */
static void must_head(const char *key, int want)
{
	for (unsigned tries = 0; tries < 10; tries++) {
		struct s3_reply reply = {0};
		int r = remote_head_fresh(the_remote, key, INT64_MAX, &reply);

		must_hold(r == want || r == -ENOMEM);
		if (r == 0)
			must_hold(reply.object.size_bytes == 1);
		s3_reply_release(&reply);
		if (r == want)
			return;
	}
	fail_msg("call %ld failed: %s is never found", memory_sweep_at, key);
}

static bool play_head(void *user)
{
	bool reached;

	memory_fault_begin(memory_sweep_at, false);
	open_remote();
	must_head("p/a", 0);
	must_head("p/nothing", -ENOENT);
	close_remote();
	reached = memory_fault_end();
	return reached;
}

/* ---- content ---- */

static bool is_present(uint64_t ino, uint64_t chunk)
{
	struct store_chunk c;
	bool present;

	undisturbed(must_hold(store_chunk(store, ino, chunk, &c) == 0); present = c.present);
	return present;
}

static void check_content(uint64_t ino, uint64_t off, size_t len)
{
	cleanup_free uint8_t *data = malloc(len);
	struct store_file *f;
	uint64_t chunk;

	undisturbed(must_hold(store_file_open(store, ino, &f) == 0);
		    must_hold(store_file_read(f, data, len, off, &chunk) == (ssize_t)len);
		    store_file_close(f));
	for (size_t i = 0; i < len; i++)
		must_hold(data[i] == (uint8_t)((off + i) * 7));
}

static void must_fetch(uint64_t ino, uint64_t chunk)
{
	for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
		unsigned before = fetched;
		int r = remote_fetch(the_remote, ino, chunk);

		if (r == -EINPROGRESS) {
			wait_for_news(&fetched, before);
			must_hold(fetch_error == 0 || is_told(fetch_error));
			continue;
		}
		must_hold(r == 0 || r == -ENOMEM);
		if (r == 0 && is_present(ino, chunk))
			return;
	}
	fail_msg("call %ld failed: chunk %u never comes", memory_sweep_at, (unsigned)chunk);
}

static bool play_fetch(void *user)
{
	uint64_t ino = *(uint64_t *)user;
	bool reached;

	must_hold(store_evict(store, UINT64_MAX / 2) == 0);
	must_hold(!is_present(ino, 0) && !is_present(ino, 2));
	memory_fault_begin(memory_sweep_at, false);
	open_remote();
	for (uint64_t chunk = 0; chunk < 3; chunk++)
		must_fetch(ino, chunk);
	check_content(ino, 0, BIG_BYTES);
	close_remote();
	reached = memory_fault_end();
	return reached;
}

/* ---- all ---- */

static long step(void)
{
	return getenv("CPGFS_TEST_LONG") ? 1 : 3;
}

static void listings_are_whole(void **state)
{
	memory_sweep("listings", play_listing, NULL, 1);
	memory_sweep("find", play_find, NULL, 1);
	is_distant = true;
	memory_sweep("find far away", play_find, NULL, step());
	is_distant = false;
	memory_sweep("find and put", play_find_and_put, NULL, step());
}

static void our_own_writes_are_shown(void **state)
{
	bucket->page_keys = 0;
	memory_sweep("notes", play_notes, NULL, 1);
	bucket->page_keys = PAGE_KEYS;
}

static void walks_show_all(void **state)
{
	memory_sweep("walks", play_walk, NULL, step());
	is_distant = true;
	memory_sweep("walks far away", play_walk, NULL, step());
	is_disordered = true;
	memory_sweep("walks without order", play_walk, NULL, step());
	is_distant = is_disordered = false;
}

static void heads_tell(void **state)
{
	memory_sweep("heads", play_head, NULL, 1);
}

static void chunks_come(void **state)
{
	struct store_object object = {.key = "p/big", .etag = "big", .size_bytes = BIG_BYTES};
	struct store_attr attr;

	assert_int_equal(store_import(store, &object, &attr), 0);
	memory_sweep("chunks", play_fetch, &attr.ino, 1);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int setup(void **state)
{
	static const char *const keys[] = {
		"a", "b", "c", "d/x", "d/y/z", "e/x", "f/x", "g/x", "s/k", "s/l", "z"};
	struct store_config config = {
		.dir = dir, .identity = "test", .part_size_bytes = PART_BYTES};
	char *message = NULL;

	log_set_level(LOG_LEVEL_WARN);
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	assert_int_equal(pthread_create(&ticker, NULL, tick, NULL), 0);
	snprintf(dir, sizeof(dir), "%s/cpgfs-remote-XXXXXX", scratch_top());
	assert_non_null(mkdtemp(dir));
	assert_int_equal(store_open(&store, &config, 0, &message), 0);
	assert_int_equal(store_start(store), 0);
	bucket = fake_create();
	bucket->page_keys = PAGE_KEYS;
	bucket->answer = answer;
	for (size_t i = 0; i < array_len(keys); i++) {
		char key[16];

		snprintf(key, sizeof(key), "p/%s", keys[i]);
		fake_put(bucket, key, 1, "e");
	}
	for (unsigned i = 0; i < 30; i++) {
		char key[24];

		snprintf(key, sizeof(key), "p/n/img_%03u", i);
		fake_put(bucket, key, 1, "e");
	}
	fake_put(bucket, "p/big", BIG_BYTES, "big");
	return 0;
}

static int teardown(void **state)
{
	s3_destroy(&bucket->s3);
	store_stop(store);
	store_close(store);
	is_over = true;
	pthread_join(ticker, NULL);
	clock_fake_end();
	return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listings_are_whole),
		cmocka_unit_test(our_own_writes_are_shown),
		cmocka_unit_test(walks_show_all),
		cmocka_unit_test(heads_tell),
		cmocka_unit_test(chunks_come),
	};

	return cmocka_run_group_tests_name("remote short of memory", tests, setup, teardown);
}
