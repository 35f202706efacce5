/*
 * Someone else writes, replaces or deletes the same key: before our request, while it is held, and
 * between its lost answer and the question what became of it. As a matrix, and judged by rules and
 * not case by case:
 *
 *   - what someone else wrote stands, unless it is what we have (or a person said so). Where the
 *     server honours no conditions, what came between our question and our request may go
 *   - `uploaded` means that the bucket has our bytes under our key
 *   - our bytes stay readable here, if they were here
 *   - nothing of ours is left over: old names, attempts, uploads in parts
 *   - a conflict ends as `accept` or `discard` says
 *
 * CELL=substring runs some cells only.
 */
#include "upload_fake.h"

#define SMALL 6
#define LARGE (THRESHOLD + 100)

/* ---- what is gone through ------------------------------------------------------------------------ */

enum work {
	WORK_NEW,     /* a file is written */
	WORK_REPLACE, /* a file that was uploaded is written anew */
	WORK_MOVE,    /* one that was uploaded is renamed */
	WORK_DELETE,
	WORK_FOLDER, /* its folder is renamed */
};

struct way {
	const char *name;
	enum work work;
	size_t len;
	bool evicted;  /* its bytes are only in the bucket */
	enum s3_op op; /* the request that is held, or whose answer is lost */
	bool in_parts; /* a copy too large for one request */
};

static const struct way ways[] = {
	{"new", WORK_NEW, SMALL, false, S3_PUT},
	{"new, Create", WORK_NEW, LARGE, false, S3_CREATE_MULTIPART},
	{"new, a part", WORK_NEW, LARGE, false, S3_UPLOAD_PART},
	{"new, Complete", WORK_NEW, LARGE, false, S3_COMPLETE_MULTIPART},
	{"replace", WORK_REPLACE, SMALL, false, S3_PUT},
	{"replace, a part", WORK_REPLACE, LARGE, false, S3_UPLOAD_PART},
	{"replace, Complete", WORK_REPLACE, LARGE, false, S3_COMPLETE_MULTIPART},
	{"move", WORK_MOVE, SMALL, false, S3_COPY},
	{"move what is only there", WORK_MOVE, SMALL, true, S3_COPY},
	{"move in parts, Create", WORK_MOVE, LARGE, true, S3_CREATE_MULTIPART, true},
	{"move in parts, a part", WORK_MOVE, LARGE, true, S3_UPLOAD_PART_COPY, true},
	{"move in parts, Complete", WORK_MOVE, LARGE, true, S3_COMPLETE_MULTIPART, true},
	{"delete", WORK_DELETE, SMALL, false, S3_DELETE},
	{"delete what is only there", WORK_DELETE, SMALL, true, S3_DELETE},
	{"rename the folder", WORK_FOLDER, SMALL, false, S3_COPY},
	{"rename the folder of what is only there", WORK_FOLDER, SMALL, true, S3_COPY},
};

enum moment {
	BEFORE,
	HELD,
	LOST_DONE, /* carried out, no answer; then the other one comes, then we ask */
	LOST_UNDONE,
};
static const char *const moments[] = {[BEFORE] = "before",
	[HELD] = "held",
	[LOST_DONE] = "done, answer lost",
	[LOST_UNDONE] = "not done, answer lost"};

/* At the key that is to be written or deleted; for moves also at the key that is moved away from.
 */
enum act { OTHER_SAME_SIZE, OTHER_SIZE, SAME_CONTENT, DELETED, AT_SOURCE_OTHER, AT_SOURCE_DELETED };
static const char *const acts[] = {[OTHER_SAME_SIZE] = "other content of that size",
	[OTHER_SIZE] = "other content",
	[SAME_CONTENT] = "the same content",
	[DELETED] = "deleted",
	[AT_SOURCE_OTHER] = "other content at the source",
	[AT_SOURCE_DELETED] = "source deleted"};

/* ---- a cell -------------------------------------------------------------------------------------- */

struct cell {
	const struct way *way;
	enum moment moment;
	enum act act;
	bool aws, accepts;
	struct bench *b;
	char name[160];
	char dir[32], path[64], key[64], source[64];
	uint64_t ino;
	uint8_t *ours, *theirs;
	size_t theirs_len;
	bool evicted, acted, source_changed;
	unsigned uploads_before, bad;
};

__attribute__((format(printf, 2, 3))) static void bad(struct cell *c, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", c->name);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	c->bad++;
}

/* Until it holds three times in a row: it looks at several things, one after the other. */
static bool wait_moving(
	struct cell *c, unsigned step_ms, bool (*done)(struct cell *c), const char *what)
{
	time_t began = time(NULL);

	for (unsigned times = 0; times < 3;) {
		times = done(c) ? times + 1 : 0;
		if (time(NULL) - began > WAIT_MS / 1000) {
			bad(c, "waited in vain until %s", what);
			return false;
		}
		clock_fake_advance_ms(step_ms);
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
	}
	return true;
}

static bool until(struct cell *c, bool (*done)(struct cell *c), const char *what)
{
	return wait_moving(c, 100, done, what);
}

static bool moves(const struct cell *c)
{
	return c->way->work == WORK_MOVE || c->way->work == WORK_FOLDER;
}

/* ---- conditions to wait for ---------------------------------------------------------------------- */

static unsigned requests_in_flight(struct cell *c)
{
	unsigned n = 0;

	for (unsigned op = 0; op < FAKE_OPS; op++)
		n += fake_in_flight(c->b->fake, (enum s3_op)op);
	return n;
}

static bool is_quiet(struct cell *c)
{
	struct store_counts counts;
	struct upload_status status;

	assert_int_equal(store_counts(c->b->store, STORE_ROOT_INO, &counts), 0);
	upload_status(c->b->upload, &status);
	return counts.files[FILE_DELETING] == 0 && counts.files[FILE_MOVING] == 0 &&
	       counts.files[FILE_QUEUED] == 0 && counts.files[FILE_SENDING] == 0 &&
	       counts.files[FILE_UNKNOWN] == 0 && counts.files[FILE_CLOSED] == 0 &&
	       counts.files[FILE_SETTLED] == 0 && attempts_standing(c->b) == 0 &&
	       status.jobs_open == 0 && requests_in_flight(c) == 0;
}

static bool op_is_held(struct cell *c)
{
	return fake_in_flight(c->b->fake, c->way->op) > 0;
}

static unsigned ops_before;

static bool op_was_lost(struct cell *c)
{
	return fake_count(c->b->fake, c->way->op) > ops_before && requests_in_flight(c) == 0;
}

/* ---- what someone else does ---------------------------------------------------------------------- */

static void fake_write(struct cell *c, const char *key, const void *data, size_t len)
{
	lock_take(&c->b->fake->lock);
	fake_store(c->b->fake, key, data, len);
	lock_drop(&c->b->fake->lock);
}

static void act(struct cell *c)
{
	c->acted = true;
	c->source_changed = c->act == AT_SOURCE_OTHER || c->act == AT_SOURCE_DELETED;
	switch (c->act) {
	case OTHER_SAME_SIZE:
	case OTHER_SIZE:
		fake_write(c, c->key, c->theirs, c->theirs_len);
		return;
	case SAME_CONTENT:
		fake_write(c, c->key, c->ours, c->way->len);
		return;
	case DELETED:
		fake_delete(c->b->fake, c->key);
		return;
	case AT_SOURCE_OTHER:
		fake_write(c, c->source, c->theirs, c->theirs_len);
		return;
	case AT_SOURCE_DELETED:
		fake_delete(c->b->fake, c->source);
		return;
	}
}

/* ---- what we do ---------------------------------------------------------------------------------- */

static void evict(struct cell *c)
{
	struct store_attr attr;
	int fd;

	assert_int_equal(store_attr(c->b->store, c->ino, &attr), 0);
	assert_int_equal(store_evict(c->b->store, UINT64_MAX / 2), 0);
	assert_int_equal(store_version_open(c->b->store, c->ino, attr.generation, &fd), -EREMOTE);
	c->evicted = true;
}

/* What has to be there before. */
static void prepare(struct cell *c)
{
	uint8_t *first;

	c->b->upload->copy_max_bytes = c->way->in_parts ? PART : COPY_MAX_BYTES;
	c->b->upload->copy_part_bytes = c->way->in_parts ? PART : COPY_PART_BYTES;
	if (c->way->work == WORK_NEW)
		return;
	first = pattern(c->way->len, c->way->work == WORK_REPLACE ? 77 : 1);
	c->ino = write_file(c->b, c->path, first, c->way->len);
	free(first);
	until(c, is_quiet, "the file was uploaded");
	assert_int_equal(state_of(c->b, c->ino), FILE_UPLOADED);
	if (c->way->evicted)
		evict(c);
}

static void rename_to(struct cell *c, const char *in, const char *from, const char *to)
{
	uint64_t dir = file_ino(c->b, in, false);

	assert_int_equal(store_rename(c->b->store, dir, from, dir, to, 0, 0), 0);
}

static void work(struct cell *c)
{
	char folder[64];

	switch (c->way->work) {
	case WORK_NEW:
	case WORK_REPLACE:
		c->ino = write_file(c->b, c->path, c->ours, c->way->len);
		return;
	case WORK_MOVE:
		snprintf(folder, sizeof(folder), "%s/a", c->dir);
		rename_to(c, folder, "one", "two");
		return;
	case WORK_FOLDER:
		rename_to(c, c->dir, "a", "b");
		return;
	case WORK_DELETE:
		snprintf(folder, sizeof(folder), "%s/a", c->dir);
		assert_int_equal(
			store_unlink(c->b->store, file_ino(c->b, folder, false), "one", 0), 0);
		return;
	}
}

/* ---- one cell: up to where nothing moves any more ------------------------------------------------ */

static void lose(struct cell *c)
{
	fake_fault(c->b->fake,
		(struct fake_fault){.op = c->way->op,
			.kind = c->moment == LOST_DONE ? FAULT_LOSE_AFTER : FAULT_LOSE_BEFORE});
}

static void play(struct cell *c)
{
	ops_before = fake_count(c->b->fake, c->way->op);
	switch (c->moment) {
	case BEFORE:
		upload_pause(c->b->upload);
		work(c);
		act(c);
		upload_resume(c->b->upload);
		break;
	case HELD:
		fake_set_hold(c->b->fake, c->way->op, true);
		work(c);
		if (until(c, op_is_held, "the request was held"))
			act(c);
		fake_set_hold(c->b->fake, c->way->op, false);
		break;
	case LOST_DONE:
	case LOST_UNDONE:
		lose(c);
		fake_set_hold(c->b->fake, c->way->op, true);
		work(c);
		until(c, op_is_held, "the request was on its way");
		fake_set_hold(c->b->fake, c->way->op, false);
		/* the clock stands still: nothing is asked or sent again before they come */
		if (wait_moving(c, 0, op_was_lost, "the answer was lost"))
			act(c);
		break;
	}
	until(c, is_quiet, "all was settled");
}

/* ---- judging ------------------------------------------------------------------------------------- */

static bool holds(struct cell *c, const char *key, const void *data, size_t len)
{
	return fake_has(c->b->fake, key, data, len);
}

static bool exists(struct cell *c, const char *key)
{
	bool is;

	lock_take(&c->b->fake->lock);
	is = fake_find(c->b->fake, key) != NULL;
	lock_drop(&c->b->fake->lock);
	return is;
}

static bool is_ours(struct cell *c, const char *key)
{
	return holds(c, key, c->ours, c->way->len);
}

static bool is_theirs(struct cell *c, const char *key)
{
	return holds(c, key, c->theirs, c->theirs_len);
}

/* They came between our question and our request, and the server does not look. */
static bool in_the_window(const struct cell *c)
{
	return !c->aws && c->moment == HELD &&
	       (c->way->op == S3_COPY || c->way->op == S3_COMPLETE_MULTIPART ||
		       c->way->op == S3_DELETE);
}

static void judge_theirs(struct cell *c)
{
	bool at_key = c->act == OTHER_SAME_SIZE || c->act == OTHER_SIZE;

	if (at_key && !in_the_window(c) && !is_theirs(c, c->key))
		bad(c, "what someone else wrote is gone");
	if (c->act == AT_SOURCE_OTHER && !in_the_window(c) && !is_theirs(c, c->source))
		bad(c, "what someone else wrote to the source is gone");
}

static void judge_local(struct cell *c)
{
	struct store_file *f;
	uint64_t chunk;
	uint8_t *data;
	ssize_t n;

	if (c->evicted)
		return;
	data = malloc(c->way->len + 1);
	assert_int_equal(store_file_open(c->b->store, c->ino, &f), 0);
	n = store_file_read(f, data, c->way->len + 1, 0, &chunk);
	if (n != (ssize_t)c->way->len || memcmp(data, c->ours, c->way->len) != 0)
		bad(c, "the local bytes are not what was written (%zd)", n);
	store_file_close(f);
	free(data);
}

static void judge_state(struct cell *c)
{
	enum file_state s = state_of(c->b, c->ino);
	bool no_source = c->evicted && c->source_changed;
	/* without checksums, and our bytes elsewhere, their object may be ours and nobody knows */
	bool blind = !c->aws && c->evicted && c->act == SAME_CONTENT && c->way->in_parts;

	if (s == FILE_UPLOADED && !is_ours(c, c->key))
		bad(c, "it is uploaded, but the bucket has something else");
	else if (s == FILE_CONFLICT && !blind && (is_ours(c, c->key) || !exists(c, c->key)))
		bad(c, "a conflict with nothing");
	else if (s != FILE_UPLOADED && s != FILE_CONFLICT &&
		 !(no_source && (s == FILE_FAILED || s == FILE_LOST)))
		bad(c, "it is %s", file_state_text(s));
	else if (s != FILE_CONFLICT && is_theirs(c, c->key))
		bad(c, "theirs is there, but it is %s", file_state_text(s));
}

/* Nothing of ours is left; and the only copy is not gone. */
static void judge_source(struct cell *c)
{
	enum file_state s = state_of(c->b, c->ino);

	if (!moves(c) || c->source_changed)
		return;
	if (s == FILE_UPLOADED && exists(c, c->source))
		bad(c, "the old name is left in the bucket");
	if (s != FILE_UPLOADED && c->evicted && !is_ours(c, c->source))
		bad(c, "the only copy is gone");
}

static void judge_deleted(struct cell *c)
{
	bool theirs = c->act == OTHER_SAME_SIZE || c->act == OTHER_SIZE;

	if (!theirs && exists(c, c->key))
		bad(c, "the object is left in the bucket");
}

static void judge(struct cell *c)
{
	judge_theirs(c);
	if (c->way->work == WORK_DELETE) {
		judge_deleted(c);
	} else {
		judge_local(c);
		judge_state(c);
		judge_source(c);
	}
	if (fake_open_uploads(c->b->fake) != c->uploads_before)
		bad(c, "an upload is left open");
	if (c->b->fake->writes_per_key_max > 1)
		bad(c, "two writes of one key at once");
}

/* ---- a person decides ---------------------------------------------------------------------------- */

static bool ours_is_there(struct cell *c)
{
	return is_quiet(c) && is_ours(c, c->key);
}

static void decide(struct cell *c)
{
	if (c->way->work == WORK_DELETE || state_of(c->b, c->ino) != FILE_CONFLICT)
		return;
	if (c->accepts) {
		assert_int_equal(upload_accept(c->b->upload, c->key), 1);
		until(c, ours_is_there, "what was accepted was sent");
		if (state_of(c->b, c->ino) != FILE_UPLOADED || !is_ours(c, c->key))
			bad(c, "accepted, but it is %s", file_state_text(state_of(c->b, c->ino)));
		if (moves(c) && !c->source_changed && exists(c, c->source))
			bad(c, "accepted, but the old name is left");
	} else {
		assert_int_equal(upload_discard(c->b->upload, c->key), 1);
		until(c, is_quiet, "it was discarded");
		if (file_ino(c->b, c->key, false) != 0)
			bad(c, "discarded, but it is there");
		judge_theirs(c);
	}
	if (fake_open_uploads(c->b->fake) != c->uploads_before)
		bad(c, "an upload is left open after the decision");
}

/* ---- all cells ----------------------------------------------------------------------------------- */

static bool applies(const struct way *w, enum moment m, enum act a)
{
	if ((a == AT_SOURCE_OTHER || a == AT_SOURCE_DELETED) && w->work != WORK_MOVE &&
		w->work != WORK_FOLDER)
		return false;
	/* a Create whose answer is lost leaves an upload that nobody knows */
	return w->op != S3_CREATE_MULTIPART || m != LOST_DONE;
}

static void cell_name(struct cell *c)
{
	snprintf(c->name, sizeof(c->name), "%s: %s, %s, %s", c->aws ? "aws" : "old", c->way->name,
		moments[c->moment], acts[c->act]);
}

static void cell_paths(struct cell *c, unsigned serial)
{
	bool folder = c->way->work == WORK_FOLDER;

	snprintf(c->dir, sizeof(c->dir), "p/c%u", serial);
	snprintf(c->path, sizeof(c->path), "%s/a/one", c->dir);
	(void)text_copy(c->source, c->path, sizeof(c->source));
	snprintf(c->key, sizeof(c->key), "%s/%s", c->dir,
		folder			    ? "b/one"
		: c->way->work == WORK_MOVE ? "a/two"
					    : "a/one");
}

static unsigned cell_run(struct cell *c, unsigned serial)
{
	cell_paths(c, serial);
	c->accepts = serial % 2;
	c->ours = pattern(c->way->len, 1);
	c->theirs_len = c->act == OTHER_SIZE ? c->way->len + 3 : c->way->len;
	c->theirs = pattern(c->theirs_len, 5);
	c->uploads_before = fake_open_uploads(c->b->fake);
	prepare(c);
	play(c);
	if (!c->bad) {
		judge(c);
		decide(c);
	}
	lock_take(&c->b->fake->lock);
	c->b->fake->fault_count = 0;
	lock_drop(&c->b->fake->lock);
	free(c->ours);
	free(c->theirs);
	return c->bad;
}

static bool is_chosen(const struct cell *c)
{
	const char *wanted = getenv("CELL");

	return !wanted || strstr(c->name, wanted);
}

static void run_all(bool aws)
{
	struct bench *b = bench_begin(aws);
	unsigned cells = 0, wrong = 0;

	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	bench_open_upload(b);
	for (size_t w = 0; w < array_len(ways); w++) {
		for (size_t i = 0; i < array_len(moments) * array_len(acts); i++) {
			struct cell c = {.way = &ways[w],
				.moment = (enum moment)(i / array_len(acts)),
				.act = (enum act)(i % array_len(acts)),
				.aws = aws,
				.b = b};

			cell_name(&c);
			if (!applies(c.way, c.moment, c.act) || !is_chosen(&c))
				continue;
			wrong += cell_run(&c, ++cells) > 0;
		}
	}
	print_message("%u cells, %u wrong\n", cells, wrong);
	clock_fake_end();
	bench_end(b);
	assert_int_equal(wrong, 0);
}

static void test_server_like_aws(void **state)
{
	(void)state;
	run_all(true);
}

static void test_server_like_an_old_gateway(void **state)
{
	(void)state;
	run_all(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server_like_aws),
		cmocka_unit_test(test_server_like_an_old_gateway),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
