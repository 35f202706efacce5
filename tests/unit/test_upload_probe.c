/*
 * Does a server honour conditions on PUT? It is found out with one write of an object of ours, and
 * whatever happens to that write, to the file or to the object meanwhile, nothing is lost by it.
 */
#include "upload_fake.h"

#define FILES 40
#define ASKED 8 /* questions before it is tried */

struct server {
	const char *name;
	bool none_match, match; /* what it honours on PUT */
	bool known;
};
static const struct server servers[] = {
	{"honours both", true, true},
	{"honours If-None-Match", true, false},
	{"honours none", false, false},
};
static const struct server known = {"honours both, as is known", true, true, true};
static unsigned serial;

static bool clock_is_fake; /* then it stands still but here */
#define wait_on(cond) wait_until((clock_is_fake ? clock_fake_advance_ms(20) : (void)0, (cond)))

static struct bench *b;

/* Cells share a store, and begin with a daemon that knows nothing and a folder of their own. One
 * transfer at a time: what happens when is certain. */
static void begin(const struct server *s)
{
	serial++;
	lock_take(&b->fake->lock);
	for (unsigned op = 0; op < FAKE_OPS; op++)
		b->fake->count[op] = 0;
	b->fake->fault_count = 0;
	b->fake->enforces[S3_IF_NONE_MATCH][S3_PUT] = s->none_match;
	b->fake->enforces[S3_IF_MATCH][S3_PUT] = s->match;
	b->fake->knows_enforces[S3_IF_NONE_MATCH][S3_PUT] = s->known;
	b->fake->knows_enforces[S3_IF_MATCH][S3_PUT] = s->known;
	lock_drop(&b->fake->lock);
	b->config.max_transfers = 1;
	bench_open_upload(b);
	b->upload->probe_after = ASKED;
}

static void end(void)
{
	bench_stop_upload(b);
}

static int open_bench(void **state)
{
	(void)state;
	clock_is_fake = true;
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	b = bench_begin(false);
	return 0;
}

static int open_real_bench(void **state)
{
	(void)state;
	b = bench_begin(false);
	return 0;
}

static int close_bench(void **state)
{
	(void)state;
	bench_end(b);
	if (clock_is_fake)
		clock_fake_end();
	clock_is_fake = false;
	return 0;
}

static const char *path_of(unsigned i)
{
	static char path[32];

	snprintf(path, sizeof(path), "p/%u/f%02u", serial, i);
	return path;
}

static unsigned in_state(enum file_state state)
{
	struct store_counts counts;
	char folder[32];

	snprintf(folder, sizeof(folder), "p/%u", serial);
	assert_int_equal(store_counts(b->store, file_ino(b, folder, false), &counts), 0);
	return (unsigned)counts.files[state];
}

static void write_some(unsigned from, unsigned to, const char *text)
{
	for (unsigned i = from; i < to; i++)
		write_text(b, path_of(i), text);
	wait_on(in_state(FILE_UPLOADED) == to);
	assert_int_equal(attempts_standing(b), 0);
}

static void all_have(unsigned count, const char *text)
{
	assert_false(fake_has(b->fake, path_of(count), text, strlen(text)));
	for (unsigned i = 0; i < count; i++)
		assert_true(fake_has(b->fake, path_of(i), text, strlen(text)));
}

static void test_new_objects(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_len(servers); i++) {
		begin(&servers[i]);
		write_some(0, FILES, "hello");
		all_have(FILES, "hello");
		assert_int_equal(fake_count(b->fake, S3_PUT), FILES + 1);
		assert_int_equal(fake_count(b->fake, S3_HEAD), servers[i].none_match ? ASKED : FILES);
		end();
	}
}

static void write_while_paused(unsigned files)
{
	upload_pause(b->upload);
	for (unsigned i = 0; i < files; i++)
		write_text(b, path_of(i), "hello");
	wait_on(in_state(FILE_QUEUED) == files);
	upload_resume(b->upload);
	wait_on(in_state(FILE_UPLOADED) == files && attempts_standing(b) == 0);
}

/* The first one tells about all that wait. */
static void test_many_wait(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_len(servers); i++) {
		begin(&servers[i]);
		b->upload->probe_after = 2 * FILES;
		b->upload->probe_ahead = FILES / 2;
		write_while_paused(FILES);
		all_have(FILES, "hello");
		assert_int_equal(fake_count(b->fake, S3_PUT), FILES + 1);
		assert_int_equal(fake_count(b->fake, S3_HEAD), servers[i].none_match ? 1 : FILES);
		end();
	}
}

/* Another one follows only after as many questions as pay for it. */
static void test_many_wait_and_nothing_is_learned(void **state)
{
	(void)state;
	begin(&servers[0]);
	b->upload->probe_ahead = FILES / 2;
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .skip = 1,
				    .class = S3_THROTTLED, .http_status = 503, .code = "SlowDown"});
	write_while_paused(FILES);
	all_have(FILES, "hello");
	assert_int_equal(fake_count(b->fake, S3_PUT), FILES + 2);
	assert_int_equal(fake_count(b->fake, S3_HEAD), 1 + ASKED);
	end();
}

static void test_few_wait(void **state)
{
	(void)state;
	begin(&servers[0]);
	b->upload->probe_ahead = ASKED;
	write_while_paused(ASKED - 1);
	assert_int_equal(fake_count(b->fake, S3_PUT), ASKED - 1);
	end();
}

static unsigned rewrite_all(const char *text)
{
	unsigned asked = fake_count(b->fake, S3_HEAD);

	for (unsigned n = 0; n < FILES; n++)
		write_text(b, path_of(n), text);
	wait_on(fake_has(b->fake, path_of(FILES - 1), text, strlen(text)));
	write_some(FILES, FILES, "");
	all_have(FILES, text);
	return fake_count(b->fake, S3_HEAD) - asked;
}

/* What is known of If-None-Match says nothing about If-Match. Where it is not known the key is asked for once
 * more when the disk was waited for meanwhile; all that wait at once were asked for before the first one of
 * them tells. */
static void test_rewritten_objects(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_len(servers); i++) {
		bool match = servers[i].match;
		unsigned put;

		begin(&servers[i]);
		write_some(0, FILES, "hello");
		put = fake_count(b->fake, S3_PUT);
		assert_in_range(rewrite_all("world, rewritten"), match ? ASKED : FILES, 2 * FILES);
		assert_int_equal(fake_count(b->fake, S3_PUT) - put, FILES + 1);
		assert_in_range(rewrite_all("once more"), match ? 0 : FILES, match ? 0 : 2 * FILES);
		assert_int_equal(fake_count(b->fake, S3_PUT) - put, 2 * FILES + 1);
		end();
	}
}

static void test_a_few_objects_are_sent_once_each(void **state)
{
	begin(&servers[2]);

	(void)state;
	write_some(0, ASKED - 1, "hello");
	assert_int_equal(fake_count(b->fake, S3_PUT), ASKED - 1);
	end();
}

static void test_where_it_is_known(void **state)
{
	(void)state;
	begin(&known);
	write_some(0, FILES, "hello");
	assert_int_equal(fake_count(b->fake, S3_PUT), FILES);
	assert_int_equal(fake_count(b->fake, S3_HEAD), 0);
	end();
}

/* ---- someone else, at each moment ---------------------------------------------------------------- */

enum moment { HELD, LOST_DONE, LOST_UNDONE, REFUSED };
static const char *const moments[] = {[HELD] = "held",
	[LOST_DONE] = "carried out, answer lost",
	[LOST_UNDONE] = "lost",
	[REFUSED] = "refused"};

enum act { NOTHING, OTHER, SAME, DELETED, ACTS };
static const char *const acts[] = {[NOTHING] = "nothing",
	[OTHER] = "other content",
	[SAME] = "the same content",
	[DELETED] = "deleted"};

static bool settled(unsigned files)
{
	return in_state(FILE_UPLOADED) + in_state(FILE_CONFLICT) == files && attempts_standing(b) == 0;
}

/* The eighth file is on its way for the second time. */
static void up_to_the_probe(void)
{
	write_some(0, ASKED - 1, "hello");
	fake_set_hold_second(b->fake, true);
	write_text(b, path_of(ASKED - 1), "hello");
	wait_on(fake_count(b->fake, S3_PUT) == ASKED + 1);
}

static void someone(enum act act, const char *key)
{
	if (act == OTHER)
		fake_put(b->fake, key, "other");
	else if (act == SAME)
		fake_put(b->fake, key, "hello");
	else if (act == DELETED)
		fake_delete(b->fake, key);
}

static void judge(const struct server *s, enum moment moment, enum act act, const char *key)
{
	uint64_t ino = file_ino(b, key, false);
	bool ours = fake_has(b->fake, key, "hello", 5);
	bool theirs = fake_has(b->fake, key, "other", 5);

	/* the window: it came between an answer and the next request, and the server does not look */
	if (act == OTHER && !(moment == HELD && !s->none_match))
		assert_true(theirs);
	/* while its answer is out, the bucket is asked: what is not ours is seen */
	if (act == OTHER && (moment == LOST_DONE || moment == LOST_UNDONE))
		assert_int_equal(state_of(b, ino), FILE_CONFLICT);
	else
		assert_int_equal(state_of(b, ino), FILE_UPLOADED);
	if (act == NOTHING || act == SAME)
		assert_true(ours);
	/* was proved and then removed; else it is written anew */
	if (act == DELETED)
		assert_true(ours || moment == REFUSED);
}

static void play(const struct server *s, enum moment moment, enum act act)
{
	static const enum fault_kind kinds[] = {[LOST_DONE] = FAULT_LOSE_AFTER,
		[LOST_UNDONE] = FAULT_LOSE_BEFORE,
		[REFUSED] = FAULT_REFUSE};
	char name[32];

	begin(s);
	(void)text_copy(name, path_of(ASKED - 1), sizeof(name));
	up_to_the_probe();
	if (moment == HELD) {
		someone(act, name);
		fake_set_hold_second(b->fake, false);
	} else {
		fake_fault(b->fake,
			(struct fake_fault){.op = S3_PUT, .kind = kinds[moment],
				.class = S3_THROTTLED, .http_status = 503, .code = "SlowDown"});
		fake_set_hold(b->fake, S3_HEAD, true);
		fake_set_hold_second(b->fake, false);
		wait_until(fake_in_flight(b->fake, S3_PUT) == 0);
		someone(act, name);
		fake_set_hold(b->fake, S3_HEAD, false);
	}
	wait_on(settled(ASKED));
	/* that it is there is believed when the second write can't come any more */
	if (moment == LOST_DONE || moment == LOST_UNDONE)
		assert_true(fake_count(b->fake, S3_HEAD) >= ASKED + 2);
	judge(s, moment, act, name);
	end();
}

static void test_someone_else_meanwhile(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_len(servers) * array_len(moments) * ACTS; i++) {
		const struct server *s = &servers[i % array_len(servers)];
		enum moment moment = (enum moment)(i / array_len(servers) / ACTS);
		enum act act = (enum act)(i / array_len(servers) % ACTS);

		print_message("%s, %s, %s\n", s->name, moments[moment], acts[act]);
		play(s, moment, act);
	}
}

/* ---- the file, meanwhile -------------------------------------------------------------------------- */

static void test_rewritten_meanwhile(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_len(servers); i++) {
		begin(&servers[i]);
		up_to_the_probe();
		write_text(b, path_of(ASKED - 1), "rewritten");
		fake_set_hold_second(b->fake, false);
		wait_on(fake_has(b->fake, path_of(ASKED - 1), "rewritten", 9) && settled(ASKED));
		end();
	}
}

static void test_renamed_and_deleted_meanwhile(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_len(servers) * 2; i++) {
		bool renamed = i % 2;
		char folder[32], key[48];
		uint64_t dir;

		begin(&servers[i / 2]);
		up_to_the_probe();
		snprintf(folder, sizeof(folder), "p/%u", serial);
		snprintf(key, sizeof(key), "%s/other", folder);
		dir = file_ino(b, folder, false);
		if (renamed)
			assert_int_equal(store_rename(b->store, dir, "f07", dir, "other", 0, 0), 0);
		else
			assert_int_equal(store_unlink(b->store, dir, "f07", 0), 0);
		fake_set_hold_second(b->fake, false);
		wait_on(!fake_has(b->fake, path_of(ASKED - 1), "hello", 5) && attempts_standing(b) == 0);
		wait_on(fake_has(b->fake, key, "hello", 5) == renamed);
		wait_on(settled(renamed ? ASKED : ASKED - 1));
		end();
	}
}

static void test_killed_meanwhile(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_len(servers) * 2; i++) {
		begin(&servers[i / 2]);
		up_to_the_probe();
		bench_kill(b, i % 2);
		assert_int_equal(attempts_standing(b), 1);
		bench_open_upload(b);
		wait_on(settled(ASKED));
		all_have(ASKED, "hello");
		end();
	}
}

/* It taught nothing: another object does, after as many questions. */
static void test_refused_for_another_reason(void **state)
{
	(void)state;
	begin(&servers[0]);
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_REFUSE, .skip = ASKED,
				    .class = S3_THROTTLED, .http_status = 503, .code = "SlowDown"});
	for (unsigned i = 0; i < FILES; i++)
		write_text(b, path_of(i), "hello");
	wait_on(settled(FILES));
	all_have(FILES, "hello");
	assert_int_equal(fake_count(b->fake, S3_HEAD), 2 * ASKED);
	assert_int_equal(fake_count(b->fake, S3_PUT), FILES + 2);
	end();
}

/* ---- what is there already ------------------------------------------------------------------------ */

/* Copied again after the cache was lost: once the bucket was seen to hold it, it is asked first. */
static void test_objects_that_are_there(void **state)
{
	(void)state;
	begin(&known);
	for (unsigned i = 0; i < FILES; i++)
		fake_put(b->fake, path_of(i), "hello");
	write_some(0, FILES, "hello");
	assert_int_equal(fake_count(b->fake, S3_PUT), 1); /* refused */
	write_some(FILES, FILES + 5, "hello");
	assert_int_equal(fake_count(b->fake, S3_PUT), 1 + 5);
	assert_int_equal(fake_count(b->fake, S3_HEAD), FILES + 1);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_objects),
		cmocka_unit_test(test_many_wait),
		cmocka_unit_test(test_many_wait_and_nothing_is_learned),
		cmocka_unit_test(test_few_wait),
		cmocka_unit_test(test_rewritten_objects),
		cmocka_unit_test(test_a_few_objects_are_sent_once_each),
		cmocka_unit_test(test_where_it_is_known),
		cmocka_unit_test(test_someone_else_meanwhile),
		cmocka_unit_test(test_rewritten_meanwhile),
		cmocka_unit_test(test_renamed_and_deleted_meanwhile),
		cmocka_unit_test(test_refused_for_another_reason),
		cmocka_unit_test(test_objects_that_are_there),
	};

	const struct CMUnitTest stopping[] = {
		cmocka_unit_test(test_killed_meanwhile),
	};

	return cmocka_run_group_tests(tests, open_bench, close_bench) +
	       cmocka_run_group_tests(stopping, open_real_bench, close_bench);
}
