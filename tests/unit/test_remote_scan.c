/*
 * Listings cut into ranges, against a plain model: whatever the keys, the points, the size and order
 * of the pages, and what is put and deleted meanwhile, every key that was there all the time is
 * handed out once and in order, and none that never was. Servers that list in an order of their own
 * or do not heed start-after, and replies that fail or make no sense, lead to the whole listing or
 * to an error.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/remote.h"
#include "fake_bucket.h"
#include "remote_scan.h"

#include <sched.h>
#include <stdatomic.h>

#define KEYS_MAX 400

/* ---- chance, the same in every run ---- */

static uint64_t dice;

static unsigned roll(unsigned sides)
{
	dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (unsigned)(dice >> 33) % sides;
}

/* A name as found in buckets, after `p/`: wells, counts, folders, words, UTF-8. */
static void draw_key(char out[64])
{
	static const char *const letters[] = {"a", "b", "B", "~", "\xc3\xa9", "\xf0\x9f\x94\xac",
		"\xef\xbf\xbd", "0", "9", "/", "x/", "-", "y/z/"};

	switch (roll(4)) {
	case 0:
		snprintf(out, 64, "p/r%02uc%02uf%u", roll(4) + 1, roll(12) + 1, roll(3));
		return;
	case 1:
		snprintf(out, 64, "p/%c%02u/img_%03u", 'A' + (int)roll(16), roll(3), roll(30));
		return;
	case 2:
		snprintf(out, 64, "p/img_%04u", roll(2000));
		return;
	}
	strcpy(out, "p/");
	for (unsigned n = roll(4) + 1; n > 0; n--)
		strcat(out, letters[roll(array_len(letters))]);
}

/* ---- the model: keys with their history ---- */

struct model {
	struct model_key {
		char key[64];
		bool there, always, ever;
	} keys[KEYS_MAX];
	size_t count;
	bool recursive;
	unsigned page_keys;
};

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct model_key *)a)->key, ((const struct model_key *)b)->key);
}

static struct model_key *model_find(struct model *m, const char *key)
{
	for (size_t i = 0; i < m->count; i++) {
		if (strcmp(m->keys[i].key, key) == 0)
			return &m->keys[i];
	}
	return NULL;
}

static void model_change(struct model *m, bool at_begin)
{
	char key[64];
	struct model_key *k;

	draw_key(key);
	k = model_find(m, key);
	if (!k && m->count < KEYS_MAX) {
		k = &m->keys[m->count++];
		*k = (struct model_key){0};
		strcpy(k->key, key);
	}
	if (!k)
		return;
	k->there = at_begin || !k->there;
	k->ever = k->ever || k->there;
	k->always = at_begin || (k->always && k->there);
	qsort(m->keys, m->count, sizeof(m->keys[0]), by_key);
}

/* What a listing shows of a key: itself, or the folder it lies in. */
static bool shown_as(const struct model *m, const char *key, char out[64])
{
	const char *slash = m->recursive ? NULL : strchr(key + 2, '/');

	snprintf(out, 64, "%.*s", slash ? (int)(slash + 1 - key) : (int)strlen(key), key);
	return slash != NULL;
}

/* A page as S3 gives it. A folder that sorts before start-after is shown while keys of it follow. */
static void model_page(
	struct model *m, const char *token, const char *start_after, struct s3_list_page *page)
{
	const char *after = token ? token : start_after ? start_after : "";
	char shown[64], last[64] = "";

	for (size_t i = 0; i < m->count; i++) {
		bool is_prefix = shown_as(m, m->keys[i].key, shown);

		if (!m->keys[i].there || strcmp(shown, last) == 0)
			continue;
		if (strcmp(m->keys[i].key, after) <= 0 || (token && strcmp(shown, after) <= 0) ||
			strcmp(shown, after) == 0)
			continue;
		if (page->count == m->page_keys) {
			page->truncated = true;
			break;
		}
		fake_page_add(page, shown, is_prefix, NULL);
		strcpy(last, shown);
	}
	if (page->truncated)
		page->next_token = strdup(last);
	fake_page_finish(page);
}

/* ---- driving a scan, its replies in any order ---- */

struct flying {
	struct scan_range *range;
	struct s3_list_page page;
};

static void take_all(struct remote_scan *s, char handed[][64], size_t *count)
{
	struct s3_list_page page;

	while (remote_scan_take(s, &page)) {
		for (size_t i = 0; i < page.count; i++) {
			assert_true(*count < KEYS_MAX);
			snprintf(handed[(*count)++], 64, "%.*s", (int)page.entries[i].key_len,
				page.entries[i].key);
		}
		remote_list_release(&page);
	}
}

static void split_anywhere(struct remote_scan *s, const struct model *m)
{
	char point[64];

	if (roll(2) && m->count > 0)
		strcpy(point, m->keys[roll((unsigned)m->count)].key);
	else
		draw_key(point);
	if (roll(2))
		point[2 + roll((unsigned)strlen(point))] = '\0';
	assert_true(remote_scan_split(s, point) >= 0);
}

static void check_handed(struct model *m, char handed[][64], size_t count)
{
	char shown[64];

	for (size_t i = 0; i < count; i++) {
		bool ever = false;

		if (i > 0)
			assert_true(strcmp(handed[i - 1], handed[i]) < 0);
		for (size_t k = 0; k < m->count && !ever; k++) {
			shown_as(m, m->keys[k].key, shown);
			ever = m->keys[k].ever && strcmp(shown, handed[i]) == 0;
		}
		assert_true(ever);
	}
	for (size_t k = 0; k < m->count; k++) {
		bool found = false;

		shown_as(m, m->keys[k].key, shown);
		for (size_t i = 0; i < count && !found; i++)
			found = strcmp(handed[i], shown) == 0;
		if (m->keys[k].always)
			assert_true(found);
	}
}

static void one_scan(uint64_t seed)
{
	static char handed[KEYS_MAX][64];
	static struct model m;
	struct remote_scan s;
	struct flying flying[SCAN_LANES_DISTANT];
	size_t count = 0, in_air = 0;
	int64_t due_ms;

	dice = seed;
	m = (struct model){.recursive = roll(2), .page_keys = 1 + roll(12)};
	for (unsigned n = roll(200); n > 0; n--)
		model_change(&m, true);
	assert_int_equal(remote_scan_init(&s, "p/", m.recursive, NULL), 0);
	for (unsigned n = roll(2) * roll(12); n > 0; n--)
		split_anywhere(&s, &m);
	for (;;) {
		struct scan_range *range;

		while ((range = remote_scan_next(&s, 0, &due_ms)) != NULL) {
			struct flying *f = &flying[in_air++];

			*f = (struct flying){.range = range};
			assert_true(in_air <= array_len(flying));
			if (roll(2)) /* the server looks now, or when the reply is needed */
				model_page(&m, range->token, range->after, &f->page);
		}
		if (in_air == 0 && remote_scan_is_done(&s))
			break;
		if (in_air > 0) {
			unsigned i = roll((unsigned)in_air);
			struct flying f = flying[i];

			flying[i] = flying[--in_air];
			if (!f.page.keys)
				model_page(&m, f.range->token, f.range->after, &f.page);
			if (roll(8) == 0) { /* lost */
				remote_list_release(&f.page);
				remote_scan_again(&s, f.range);
			} else {
				assert_int_equal(
					remote_scan_page(&s, f.range, &f.page, roll(60)), 0);
			}
		}
		for (unsigned n = roll(4); n > 0; n--)
			model_change(&m, false);
		if (roll(6) == 0)
			split_anywhere(&s, &m);
		if (roll(3) || in_air == 0)
			take_all(&s, handed, &count);
		assert_true(s.asked + s.waiting <= SCAN_AHEAD_MAX + 1);
	}
	remote_scan_release(&s);
	check_handed(&m, handed, count);
}

static void every_key_is_handed_out_once_and_in_order(void **state)
{
	for (uint64_t seed = 1; seed <= 1000; seed++)
		one_scan(seed);
}

static void points_that_are_no_use_are_left_out(void **state)
{
	struct remote_scan s;
	int64_t due_ms;

	assert_int_equal(remote_scan_init(&s, "p/", true, "p/c"), 0);
	assert_int_equal(remote_scan_split(&s, "p/"), 0);
	assert_int_equal(remote_scan_split(&s, "q/x"), 0);
	assert_int_equal(remote_scan_split(&s, "p/a"), 0); /* before what is wanted */
	assert_int_equal(remote_scan_split(&s, "p/c"), 0);
	assert_int_equal(remote_scan_split(&s, "p/\xc3\xa9"), 0);
	assert_int_equal(remote_scan_split(&s, "p/d"), 1);
	assert_int_equal(remote_scan_split(&s, "p/d"), 0);
	assert_int_equal(remote_scan_split(&s, "p/f"), 1);
	assert_int_equal(remote_scan_split(&s, "p/e"), 1);
	assert_string_equal(remote_scan_next(&s, 0, &due_ms)->after, "p/c");
	assert_string_equal(remote_scan_next(&s, 0, &due_ms)->after, "p/d");
	assert_string_equal(remote_scan_next(&s, 0, &due_ms)->after, "p/e");
	assert_string_equal(remote_scan_next(&s, 0, &due_ms)->after, "p/f");
	assert_null(remote_scan_next(&s, 0, &due_ms));
	remote_scan_release(&s);
}

/* ---- guesses ---- */

static void assert_guess(const char *first, const char *last, const char *expected)
{
	static char points[GUESS_MAX][KEY_MAX_BYTES + 1];
	size_t count = remote_guess(first, last, 2, points);
	char got[512] = "";

	for (size_t i = 0; i < count; i++) {
		assert_true(strcmp(points[i], last) > 0);
		if (i > 0)
			assert_true(strcmp(points[i - 1], points[i]) < 0);
		strcat(strcat(got, points[i] + 2), " ");
	}
	assert_string_equal(got, expected);
}

static void guesses_go_on_counting(void **state)
{
	assert_guess("p/r01c01f01p01-ch1.tiff", "p/r01c14f08p01-ch3.tiff",
		"r03 r04 r05 r06 r07 r08 r09 r1 ");
	assert_guess("p/r10c01f01p01-ch1.tiff", "p/r10c14f08p01-ch3.tiff",
		"r12 r13 r14 r15 r16 r17 r18 r19 r2 ");
	assert_guess("p/img_000000.tif", "p/img_000999.tif",
		"img_002 img_003 img_004 img_005 img_006 img_007 img_008 img_009 img_01 img_1 ");
	assert_guess("p/A01_s1.tif", "p/A17_s4.tif", "C D E F G H I J K L M N O P ");
	assert_guess("p/A01_s1.tif", "p/C17_s4.tif", "F H J L N P ");
	assert_guess("p/a", "p/a", "");
	assert_guess("p/word", "p/zebra", "");
	assert_guess("p/", "p/x", "");
	assert_guess("p/99", "p/99x", "");
}

/* ---- through requests: servers that are odd, replies that fail ---- */

static struct fake_bucket *bucket;
static struct remote *the_remote;

static int setup(void **state)
{
	struct remote_config config = {.prefix = "", .list_ttl_ms = 60000};

	clock_fake_begin(1700000000 * NS_PER_S);
	bucket = fake_create();
	config.s3 = &bucket->s3;
	return remote_create(&the_remote, &config) < 0 ? -1 : remote_start(the_remote);
}

static int teardown(void **state)
{
	remote_stop(the_remote);
	remote_destroy(the_remote);
	s3_destroy(&bucket->s3);
	clock_fake_end();
	return 0;
}

enum oddity {
	ODD_NOT,
	ODD_INCLUSIVE,	    /* start-after is shown, too */
	ODD_IGNORES,	    /* … is not heeded */
	ODD_REFUSES,	    /* … is not known */
	ODD_ORDER,	    /* lists upper and lower case alike */
	ODD_KINDS
};

struct odd {
	enum oddity oddity;
	unsigned fault_every; /* a fault in so many requests; 0: none */
	uint64_t seed;
	unsigned asked;
};

static int by_case(const void *a, const void *b)
{
	const struct fake_object *x = a, *y = b;
	int d = strcasecmp(x->key, y->key);

	return d ? d : strcmp(x->key, y->key);
}

/* A page of a server with an order of its own: tokens are places in it. */
static void list_by_case(
	struct fake_bucket *b, const struct s3_request *req, struct s3_list_page *page)
{
	static struct fake_object sorted[KEYS_MAX];
	size_t at = 0, count = b->object_count;

	memcpy(sorted, b->objects, count * sizeof(sorted[0]));
	qsort(sorted, count, sizeof(sorted[0]), by_case);
	if (req->token)
		at = (size_t)atoi(req->token);
	else if (req->start_after)
		while (at < count && strcasecmp(sorted[at].key, req->start_after) <= 0)
			at++;
	for (; at < count && page->count < b->page_keys; at++)
		fake_page_add(page, sorted[at].key, false, &sorted[at].object);
	page->truncated = at < count;
	if (page->truncated && asprintf(&page->next_token, "%zu", at) < 0)
		abort();
	for (size_t i = 1; i < page->count; i++)
		page->unordered = page->unordered ||
				  strcmp(page->entries[i - 1].key, page->entries[i].key) > 0;
	fake_page_finish(page);
}

static bool play_fault(struct odd *o, const struct s3_request *req, struct s3_reply *reply)
{
	switch (roll(6)) {
	case 0:
		fake_error(reply, S3_THROTTLED, 503, "SlowDown");
		return true;
	case 1:
		fake_error(reply, S3_RETRY, 200, "AnswerCut");
		return true;
	case 2:
		fake_error(reply, S3_RETRY, 0, "ConnectFailed");
		return true;
	case 3:
		fake_error(reply, S3_RETRY, 200, "NoContinuationToken");
		return true;
	case 4:
		if (roll(4) == 0) {
			fake_error(reply, S3_DENIED, 403, "AccessDenied");
			return true;
		}
		return false;
	default:
		fake_list(bucket, req, reply);
		free(reply->list.next_token); /* the client lets through what it can't judge */
		reply->list.next_token = strdup(req->token ? req->token : "tok:");
		reply->list.truncated = true;
		return true;
	}
}

static bool odd_answer(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	struct odd *o = b->answer_user;
	struct s3_request as = *req;
	char before[128];

	reply->class = S3_DONE;
	reply->http_status = 200;
	reply->elapsed_ms = 100; /* far away: worth guessing */
	o->asked++;
	if (o->fault_every && roll(o->fault_every) == 0 && play_fault(o, req, reply))
		return true;
	if (o->oddity == ODD_REFUSES && req->start_after) {
		fake_error(reply, S3_FATAL, 501, "NotImplemented");
		return true;
	}
	if (o->oddity == ODD_ORDER) {
		list_by_case(b, req, &reply->list);
		return true;
	}
	if (o->oddity == ODD_IGNORES)
		as.start_after = NULL;
	if (o->oddity == ODD_INCLUSIVE && req->start_after && *req->start_after) {
		snprintf(before, sizeof(before), "%s", req->start_after);
		before[strlen(before) - 1]--;
		strcat(before, "\x7f");
		as.start_after = before;
	}
	fake_list(b, &as, reply);
	return true;
}

struct expected {
	size_t at;
	bool wrong;
};

static int compare_each(void *user, const struct remote_walk_entry *e)
{
	struct expected *x = user;
	const char *key = x->at < bucket->object_count ? bucket->objects[x->at].key : "";

	x->wrong = x->wrong || strlen(key) != e->key_len || memcmp(key, e->key, e->key_len) != 0;
	x->at++;
	return 0;
}

static bool is_cached_right(void)
{
	static struct remote_entry entries[KEYS_MAX];
	int n = remote_list(the_remote, "p/", "", true, entries, KEYS_MAX);
	bool right = n == (int)bucket->object_count;

	for (int i = 0; right && i < n; i++)
		right = strcmp(entries[i].name, bucket->objects[i].key + 2) == 0;
	return right;
}

/* The cached listing: 0 or its error. */
static int list_cached(void)
{
	struct remote_entry e;
	int r;

	remote_refresh(the_remote, "");
	clock_fake_advance_ms(20000);
	while ((r = remote_lookup(the_remote, "p/", "?", false, &e)) == -EINPROGRESS) {
		clock_fake_advance_ms(5);
		sched_yield();
	}
	return r == -ENOENT ? 0 : r;
}

struct walking {
	struct thread *thread;
	struct expected seen;
	bool recursive;
	int64_t deadline_ms;
	int result;
	atomic_bool over;
};

static void walk_run(void *user)
{
	struct walking *w = user;

	w->result = remote_walk(
		the_remote, "p/", w->recursive, w->deadline_ms, compare_each, &w->seen, NULL);
	atomic_store(&w->over, true);
}

static int walk_within(struct expected *ret, bool recursive, int64_t limit_ms)
{
	struct walking w = {.recursive = recursive, .deadline_ms = clock_mono_ms() + limit_ms};

	assert_int_equal(thread_start(&w.thread, "walk", walk_run, &w), 0);
	while (!atomic_load(&w.over)) { /* backoffs pass */
		clock_fake_advance_ms(5);
		sched_yield();
	}
	thread_join(w.thread);
	*ret = w.seen;
	return w.result;
}

/* Without a limit that the fake clock could pass while the walk waits for a processor. */
static int walk_now(struct expected *ret, bool recursive)
{
	return walk_within(ret, recursive, INT32_MAX * (int64_t)MS_PER_S);
}

static void empty_bucket(void)
{
	while (bucket->object_count > 0)
		fake_remove(bucket, bucket->objects[0].key);
}

static void fill_bucket(void)
{
	char key[64];

	empty_bucket();
	for (unsigned n = roll(250); n > 0; n--) {
		draw_key(key);
		for (char *c = key + 2; *c; c++)
			*c = *c == '/' ? '+' : *c;
		if (key_component_is_showable(key + 2, strlen(key + 2), false))
			fake_put(bucket, key, 1, "e");
	}
	bucket->page_keys = 5 + roll(20);
}

/* A bucket of this seed's making, and a server that answers for it as o says. */
static void begin_odd(unsigned seed, struct odd *o)
{
	(void)teardown(NULL);
	(void)setup(NULL);
	dice = seed;
	fill_bucket();
	bucket->answer_user = o;
	bucket->answer = odd_answer;
}

static void odd_servers_are_listed_whole_or_not_at_all(void **state)
{
	unsigned walked = 0, runs = 0;

	for (unsigned seed = 1; seed <= 60 * ODD_KINDS; seed++) {
		struct odd o = {.oddity = (enum oddity)(seed % ODD_KINDS)};
		struct expected seen;
		int r;

		begin_odd(seed, &o);
		r = walk_now(&seen, seed % 2);
		assert_true(r == 0 || (r == -EIO && o.oddity == ODD_ORDER));
		if (r == 0) {
			assert_false(seen.wrong);
			assert_int_equal(seen.at, bucket->object_count);
		}
		assert_int_equal(list_cached(), 0);
		assert_true(is_cached_right());
		walked += r == 0;
		runs++;
	}
	assert_true(walked >= runs * 4 / 5);
}

static void replies_that_fail_lead_to_all_or_an_error(void **state)
{
	unsigned whole = 0, errors = 0;

	for (unsigned seed = 1; seed <= 300; seed++) {
		struct odd o = {.fault_every = 3 + seed % 40};
		struct expected seen;
		int r;

		begin_odd(seed, &o);
		r = walk_within(&seen, true, 600000); /* some never get a whole page */
		if (r == 0) {
			assert_false(seen.wrong);
			assert_int_equal(seen.at, bucket->object_count);
		}
		whole += r == 0;
		errors += r < 0;
		r = list_cached();
		if (r == 0)
			assert_true(is_cached_right());
		whole += r == 0;
		errors += r < 0;
	}
	assert_true(whole > 100 && errors > 50);
}

/* ---- how many are asked for ---- */

static void a_distant_server_is_asked_for_several_pages_at_once(void **state)
{
	struct odd o = {0};
	struct expected seen;
	char key[64];

	for (unsigned i = 0; i < 4000; i++) {
		snprintf(key, sizeof(key), "p/r%02uc%02uf%02u", i / 240 + 1, i / 10 % 24 + 1, i % 10);
		fake_put(bucket, key, i, "e");
	}
	bucket->page_keys = 150;
	bucket->answer_user = &o;
	bucket->answer = odd_answer;
	assert_int_equal(walk_now(&seen, true), 0);
	assert_false(seen.wrong);
	assert_int_equal(seen.at, 4000);
	assert_in_range(o.asked, 27, 50);
}

static void a_listing_known_before_is_split_at_its_names(void **state)
{
	struct remote_entry e;
	char key[64];
	unsigned before;

	for (unsigned i = 0; i < 4700; i++) {
		snprintf(key, sizeof(key), "p/%c%04u", i % 2 ? 'a' : 'b', i);
		fake_put(bucket, key, i, "e");
	}
	assert_int_equal(list_cached(), 0);
	before = fake_count(bucket, S3_LIST);
	clock_fake_advance_ms(61000); /* old, but known */
	assert_int_equal(remote_lookup(the_remote, "p/", "a0001", true, &e), 0);
	while (remote_listed_at(the_remote, "p/") < clock_wall_ns())
		sched_yield();
	assert_int_equal(fake_count(bucket, S3_LIST) - before, 5);
	for (unsigned i = bucket->logged - 5; i < bucket->logged; i++) /* each a page of its own */
		assert_null(strstr(bucket->log[i % 64], "tok:"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_key_is_handed_out_once_and_in_order),
		cmocka_unit_test(points_that_are_no_use_are_left_out),
		cmocka_unit_test(guesses_go_on_counting),
		cmocka_unit_test_setup_teardown(odd_servers_are_listed_whole_or_not_at_all, setup, teardown),
		cmocka_unit_test_setup_teardown(replies_that_fail_lead_to_all_or_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_distant_server_is_asked_for_several_pages_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_listing_known_before_is_split_at_its_names, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
