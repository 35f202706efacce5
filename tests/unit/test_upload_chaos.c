/*
 * Random writes, renames, deletes, evictions, faults and kills on a few names; in the end the
 * bucket holds exactly what the model says, and nothing is left open. Seeded: TEST_SEED=n runs one.
 */
#include "upload_fake.h"

#define DIRS 3
#define FILES 4
#define STEPS 150
#define SEEDS 6

struct slot {
	bool there;
	unsigned content; /* seed of its bytes */
	size_t len;
};
static struct slot model[DIRS][FILES];
static unsigned random_state;

static unsigned rnd(unsigned below)
{
	random_state = random_state * 1103515245 + 12345;
	return (random_state >> 8) % below;
}

static void path_of(char out[64], unsigned dir, unsigned file)
{
	snprintf(out, 64, "p/d%u/f%u", dir, file);
}

static uint64_t dir_of(struct bench *b, unsigned dir)
{
	char path[64];

	snprintf(path, sizeof(path), "p/d%u", dir);
	return file_ino(b, path, false);
}

/* ---- steps -------------------------------------------------------------------------------------- */

static void step_write(struct bench *b)
{
	unsigned d = rnd(DIRS), n = rnd(FILES);
	struct slot *s = &model[d][n];
	uint8_t *data;
	char path[64];

	*s = (struct slot){.there = true, .content = rnd(1000),
		.len = rnd(8) == 0 ? THRESHOLD + 1 + rnd(3 * PART) : rnd(2000)};
	data = pattern(s->len, s->content);
	path_of(path, d, n);
	write_file(b, path, data, s->len);
	free(data);
}

static void step_rename(struct bench *b)
{
	unsigned d = rnd(DIRS), n = rnd(FILES), d2 = rnd(DIRS), n2 = rnd(FILES);
	char from[8], to[8];
	uint64_t old_dir = dir_of(b, d), new_dir = dir_of(b, d2);

	if (!model[d][n].there || !new_dir || (d == d2 && n == n2))
		return;
	snprintf(from, sizeof(from), "f%u", n);
	snprintf(to, sizeof(to), "f%u", n2);
	assert_int_equal(store_rename(b->store, old_dir, from, new_dir, to, 0, 0), 0);
	model[d2][n2] = model[d][n];
	model[d][n].there = false;
}

static void step_unlink(struct bench *b)
{
	unsigned d = rnd(DIRS), n = rnd(FILES);
	char name[8];

	if (!model[d][n].there)
		return;
	snprintf(name, sizeof(name), "f%u", n);
	assert_int_equal(store_unlink(b->store, dir_of(b, d), name, rnd(2) * 20), 0);
	model[d][n].there = false;
}

/* Two folders swap their names, through a third one. */
static void step_swap_folders(struct bench *b)
{
	unsigned d = rnd(DIRS), d2 = rnd(DIRS);
	uint64_t p = file_ino(b, "p", false);
	struct slot row[FILES];
	char one[8], two[8];

	if (d == d2 || !dir_of(b, d) || !dir_of(b, d2))
		return;
	snprintf(one, sizeof(one), "d%u", d);
	snprintf(two, sizeof(two), "d%u", d2);
	assert_int_equal(store_rename(b->store, p, one, p, "swap", 0, 0), 0);
	assert_int_equal(store_rename(b->store, p, two, p, one, 0, 0), 0);
	assert_int_equal(store_rename(b->store, p, "swap", p, two, 0, 0), 0);
	memcpy(row, model[d], sizeof(row));
	memcpy(model[d], model[d2], sizeof(row));
	memcpy(model[d2], row, sizeof(row));
}

static void step_fault(struct bench *b)
{
	static const enum s3_op ops[] = {S3_PUT, S3_PUT, S3_PUT, S3_HEAD, S3_DELETE, S3_COPY,
		S3_CREATE_MULTIPART, S3_UPLOAD_PART, S3_COMPLETE_MULTIPART, S3_ABORT_MULTIPART,
		S3_LIST_PARTS};
	struct fake_fault f = {.op = ops[rnd(array_len(ops))], .times = 1, .skip = rnd(3)};

	switch (rnd(4)) {
	case 0:
		f.kind = FAULT_LOSE_BEFORE;
		break;
	case 1: /* a Create carried out without our knowing leaves an upload open: cannot be seen */
		f.kind = f.op == S3_CREATE_MULTIPART ? FAULT_LOSE_BEFORE : FAULT_LOSE_AFTER;
		break;
	case 2:
		f.kind = FAULT_REFUSE;
		f.class = S3_THROTTLED;
		f.http_status = 503;
		f.code = "SlowDown";
		break;
	default:
		f.kind = FAULT_REFUSE;
		f.class = S3_RETRY;
		f.http_status = 500;
		f.code = "InternalError";
	}
	lock_take(&b->fake->lock);
	for (unsigned i = 0; i < FAKE_FAULTS; i++) {
		if (i == b->fake->fault_count)
			b->fake->fault_count++;
		if (b->fake->faults[i].times > 0)
			continue;
		b->fake->faults[i] = f;
		break;
	}
	lock_drop(&b->fake->lock);
}

/* A Create whose answer was not recorded leaves an upload that nobody knows. */
static void forget_unknown_uploads(struct bench *b)
{
	static struct store_attempt attempts[64];
	int n = store_attempts(b->store, 0, attempts, 64);

	lock_take(&b->fake->lock);
	for (unsigned i = 0; i < FAKE_UPLOADS; i++) {
		struct fake_upload *up = &b->fake->uploads[i];
		bool known = false;

		for (int a = 0; a < n; a++)
			known = known || strcmp(attempts[a].upload_id, up->id) == 0;
		if (up->open && !known)
			fake_close_upload(up);
	}
	lock_drop(&b->fake->lock);
}

static void step_kill(struct bench *b)
{
	bench_kill(b, rnd(2));
	forget_unknown_uploads(b);
	bench_open_upload(b);
}

static void step(struct bench *b)
{
	unsigned what = rnd(100);

	if (what < 40)
		step_write(b);
	else if (what < 60)
		step_rename(b);
	else if (what < 70)
		step_unlink(b);
	else if (what < 73)
		step_swap_folders(b);
	else if (what < 83)
		step_fault(b);
	else if (what < 84)
		step_kill(b);
	else if (what < 86)
		assert_int_equal(store_evict(b->store, 1 * MIB), 0);
	else
		nanosleep(&(struct timespec){.tv_nsec = (long)rnd(20) * 1000000}, NULL);
	clock_fake_advance_ms(rnd(200));
}

/* ---- the end ------------------------------------------------------------------------------------ */

static bool all_quiet(struct bench *b)
{
	struct store_counts counts;
	struct upload_status status;
	uint64_t files = 0;

	clock_fake_advance_ms(200);
	assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0);
	upload_status(b->upload, &status);
	for (unsigned d = 0; d < DIRS; d++)
		for (unsigned n = 0; n < FILES; n++)
			files += model[d][n].there;
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++) {
		if (s != FILE_UPLOADED && counts.files[s] > 0)
			return false;
	}
	return counts.files[FILE_UPLOADED] == files && status.jobs_open == 0 &&
	       attempts_standing(b) == 0;
}

static void check_bucket(struct bench *b, unsigned seed)
{
	unsigned files = 0;

	for (unsigned d = 0; d < DIRS; d++) {
		for (unsigned n = 0; n < FILES; n++) {
			const struct slot *s = &model[d][n];
			uint8_t *data;
			char path[64];

			if (!s->there)
				continue;
			files++;
			path_of(path, d, n);
			data = pattern(s->len, s->content);
			if (!fake_has(b->fake, path, data, s->len))
				fail_msg("seed %u: %s is not what was written", seed, path);
			free(data);
		}
	}
	if (fake_object_count(b->fake) != files || fake_open_uploads(b->fake) != 0)
		fail_msg("seed %u: %u objects for %u files, %u uploads open", seed,
			fake_object_count(b->fake), files, fake_open_uploads(b->fake));
}

/* What is not where it should be, for whoever looks into a red run. */
static void tell(struct bench *b)
{
	static struct store_attempt attempts[64];
	int n = store_attempts(b->store, 0, attempts, 64);

	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++) {
		struct store_queue_item items[32];
		int count = store_queue(b->store, s, NULL, items, 32);

		for (int i = 0; i < count; i++) {
			cleanup_buf struct buf path = {0};
			struct store_inode inode;

			assert_int_equal(store_inode(b->store, items[i].ino, &inode), 0);
			(void)!store_path(b->store, items[i].ino, &path);
			print_message("%llu %s: %s, generation %llu, object %s %s of %llu, reason %s\n",
				(unsigned long long)items[i].ino, buf_text(&path), file_state_text(s),
				(unsigned long long)inode.attr.generation, inode.object.key,
				inode.object.etag, (unsigned long long)inode.object.generation,
				inode.reason);
		}
	}
	for (int i = 0; i < n; i++)
		print_message("attempt %llu of %llu: kind %d phase %d %s\n",
			(unsigned long long)attempts[i].id, (unsigned long long)attempts[i].ino,
			attempts[i].kind, attempts[i].phase, attempts[i].key);
	for (unsigned i = 0; i < FAKE_OBJECTS; i++) {
		if (b->fake->objects[i].key[0])
			print_message("bucket: %s %s\n", b->fake->objects[i].key,
				b->fake->objects[i].etag);
	}
}

static void wait_quiet(struct bench *b, unsigned seed)
{
	for (unsigned i = 0; !all_quiet(b); i++) {
		if (i == WAIT_MS) {
			tell(b);
			fail_msg("seed %u: it never became quiet", seed);
		}
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

static void chaos(unsigned seed, bool aws)
{
	struct bench *b = bench_begin(aws);

	random_state = seed * 7919 + aws;
	memset(model, 0, sizeof(model));
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	bench_open_upload(b);
	for (unsigned i = 0; i < DIRS; i++)
		write_text(b, i == 0 ? "p/d0/x" : i == 1 ? "p/d1/x" : "p/d2/x", "x");
	for (unsigned i = 0; i < DIRS; i++)
		assert_int_equal(store_unlink(b->store, dir_of(b, i), "x", 0), 0);
	for (unsigned i = 0; i < STEPS; i++)
		step(b);
	lock_take(&b->fake->lock);
	b->fake->fault_count = 0;
	lock_drop(&b->fake->lock);
	wait_quiet(b, seed);
	check_bucket(b, seed);
	clock_fake_end();
	bench_end(b);
}

static void test_chaos(void **state)
{
	const char *given = getenv("TEST_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : 1;
	unsigned last = given ? seed : SEEDS;

	(void)state;
	for (; seed <= last; seed++) {
		print_message("seed %u\n", seed);
		chaos(seed, true);
		chaos(seed, false);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_chaos)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
