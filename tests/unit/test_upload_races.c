/*
 * A rename comes right after the scheduler has looked up a file's path, before it acts on the key
 * that follows from it: after the first lookup, after the second, … until a scenario passes
 * without. At no moment may the store say that a file is in the bucket while its object has another
 * key than the file, unless the store knows that it has to follow: a kill could come then. In the
 * end the file has to be there under the name that it got.
 */
#include "upload_fake.h"

#include <stdatomic.h>

enum what { RENAME_FILE, RENAME_FOLDER, RENAME_KINDS };

static struct {
	struct bench *_Atomic bench;
	_Atomic uint64_t ino;
	char folder[32]; /* in p */
	enum what what;
	atomic_uint lookups; /* of ino until it is renamed; 0: not (any more) */
	atomic_uint untrue;  /* records that say "in the bucket" of a file which is not there */
} race;

/* Another hand, right after a command has read what it is about to decide on. */
static struct {
	const char *_Atomic path; /* written again then; NULL: nothing */
	_Atomic uint64_t ino;
	const char *text;
} other_hand;

/* A person takes a delete back, right after it was found to be due. */
static struct {
	_Atomic uint64_t ino; /* 0: done */
	const char *path;
} takes_back;

static atomic_uint inode_reads;

/* A record that cannot be read so often while a folder's rename is worked off. */
static struct {
	_Atomic uint64_t ino;
	atomic_uint times;
} unreadable;

static bool has_jobs(struct store *s)
{
	struct store_job job;

	return store_jobs(s, &job, 1) > 0;
}

int __real_store_inode(struct store *s, uint64_t ino, struct store_inode *ret);
int __wrap_store_inode(struct store *s, uint64_t ino, struct store_inode *ret);
int __real_store_path(struct store *s, uint64_t ino, struct buf *out);
int __wrap_store_path(struct store *s, uint64_t ino, struct buf *out);

/* So many times there is no descriptor left, for this file or for any. */
static atomic_uint unopened;
static _Atomic uint64_t unopened_ino;

int __real_store_version_open(struct store *s, uint64_t ino, uint64_t generation, int *ret_fd);
int __wrap_store_version_open(struct store *s, uint64_t ino, uint64_t generation, int *ret_fd);

int __wrap_store_version_open(struct store *s, uint64_t ino, uint64_t generation, int *ret_fd)
{
	if (atomic_load(&unopened) == 0 || (unopened_ino != 0 && ino != unopened_ino))
		return __real_store_version_open(s, ino, generation, ret_fd);
	atomic_fetch_sub(&unopened, 1);
	return -EMFILE;
}

static void rename_now(void)
{
	struct store *s = race.bench->store;
	struct store_inode inode;
	uint64_t p = file_ino(race.bench, "p", false);
	char other[40];
	int r = store_inode(s, race.ino, &inode);

	snprintf(other, sizeof(other), "%s-moved", race.folder);
	assert_int_equal(r, 0);
	if (race.what == RENAME_FILE)
		r = store_rename(
			s, inode.attr.parent, inode.name, inode.attr.parent, "moved", 0, 0);
	else
		r = store_rename(s, p, race.folder, p, other, 0, 0);
	assert_int_equal(r, 0);
}

int __wrap_store_path(struct store *s, uint64_t ino, struct buf *out)
{
	int r = __real_store_path(s, ino, out);
	unsigned left = atomic_load(&race.lookups);

	if (r == 0 && race.bench && ino == race.ino && left > 0 &&
		atomic_fetch_sub(&race.lookups, 1) == 1)
		rename_now();
	return r;
}

int __wrap_store_inode(struct store *s, uint64_t ino, struct store_inode *ret)
{
	int r = __real_store_inode(s, ino, ret);
	const char *path = other_hand.path;

	atomic_fetch_add(&inode_reads, 1);
	if (ino == unreadable.ino && atomic_load(&unreadable.times) > 0 && has_jobs(s)) {
		atomic_fetch_sub(&unreadable.times, 1);
		return -EIO;
	}
	if (ino && ino == takes_back.ino) {
		takes_back.ino = 0;
		assert_int_equal(upload_undelete(race.bench->upload, takes_back.path, NULL, NULL), 1);
	}
	if (r == 0 && path && ino == other_hand.ino) {
		other_hand.path = NULL;
		write_text(race.bench, path, other_hand.text);
	}
	return r;
}

/* ---- what holds at any moment ---------------------------------------------------------------------- */

static bool is_in_place(const struct store_inode *inode)
{
	cleanup_buf struct buf path = {0};

	return __real_store_path(race.bench->store, inode->attr.ino, &path) == 0 &&
	       strcmp(buf_text(&path), inode->object.key) == 0;
}

static bool is_elsewhere(struct store *s)
{
	struct store_inode inode;

	return store_inode(s, race.ino, &inode) == 0 && inode.attr.in_bucket &&
	       !is_in_place(&inode);
}

/* Record, path and jobs are read one after the other, while other threads go on: it counts only if
 * nothing was renamed meanwhile, and is still so after the look at the jobs. */
static void look_at_record(const struct store_change *change)
{
	struct bench *b = race.bench;
	uint64_t names;
	bool untrue;

	if (!b || change->ino != race.ino)
		return;
	do {
		names = store_names(b->store);
		untrue = is_elsewhere(b->store) && !has_jobs(b->store) && is_elsewhere(b->store);
	} while (names != store_names(b->store));
	if (untrue)
		atomic_fetch_add(&race.untrue, 1);
}

/* ---- scenarios ----------------------------------------------------------------------------------------- */

struct scenario {
	const char *what;
	const char *name;
	void (*before)(struct bench *b, const char *path); /* it is there already; NULL: not */
	void (*then)(struct bench *b, const char *path);
	enum file_state otherwise; /* where it ends when nothing is renamed */
};

#define TEXT "a content"
#define STEP_MS 20 /* of the fake clock */

static void write_it(struct bench *b, const char *path)
{
	race.ino = write_text(b, path, TEXT);
}

static void upload_it(struct bench *b, const char *path)
{
	race.ino = write_text(b, path, TEXT);
	wait_advancing(STEP_MS, state_of(b, race.ino) == FILE_UPLOADED);
}

static void rename_it(struct bench *b, const char *from, const char *to)
{
	char path[64];
	uint64_t d;

	snprintf(path, sizeof(path), "p/%s", race.folder);
	d = file_ino(b, path, false);
	assert_int_equal(store_rename(b->store, d, from, d, to, 0, 0), 0);
}

static void upload_and_hold(struct bench *b, const char *path)
{
	upload_it(b, path);
	rename_it(b, "one", "one.tmp");
	wait_advancing(STEP_MS, state_of(b, race.ino) == FILE_HELD);
}

static void upload_evict_and_hold(struct bench *b, const char *path)
{
	upload_it(b, path);
	assert_int_equal(store_evict(b->store, UINT64_MAX / 2), 0);
	rename_it(b, "one", "one.tmp");
	wait_advancing(STEP_MS, state_of(b, race.ino) == FILE_HELD);
}

static void release_it(struct bench *b, const char *path)
{
	(void)path;
	rename_it(b, "one.tmp", "one");
}

static void move_it(struct bench *b, const char *path)
{
	(void)path;
	rename_it(b, "one", "two");
}

static void move_it_and_back(struct bench *b, const char *path)
{
	(void)path;
	upload_pause(b->upload);
	rename_it(b, "one", "two");
	rename_it(b, "two", "one");
	upload_resume(b->upload);
}

static void the_same_is_there(struct bench *b, const char *path)
{
	fake_put(b->fake, path, TEXT);
}

static void something_else_is_there(struct bench *b, const char *path)
{
	fake_put(b->fake, path, "theirs");
}

static void write_with_a_lost_answer(struct bench *b, const char *path)
{
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT, .kind = FAULT_LOSE_AFTER});
	write_it(b, path);
}

static void write_what_is_refused(struct bench *b, const char *path)
{
	fake_fault(b->fake, (struct fake_fault){.op = S3_PUT,
				    .kind = FAULT_REFUSE,
				    .times = 50,
				    .class = S3_FATAL,
				    .http_status = 400,
				    .code = "InvalidRequest",
				    .key_has = path});
	write_it(b, path);
}

static const struct scenario scenarios[] = {
	{"written", "one", NULL, write_it, FILE_UPLOADED},
	{"written with a temporary name", "one.tmp", NULL, write_it, FILE_HELD},
	{"the same written again", "one", upload_it, write_it, FILE_UPLOADED},
	{"held meanwhile", "one", upload_and_hold, release_it, FILE_UPLOADED},
	{"held and evicted meanwhile", "one", upload_evict_and_hold, release_it, FILE_UPLOADED},
	{"moved", "one", upload_it, move_it, FILE_UPLOADED},
	{"moved and back", "one", upload_it, move_it_and_back, FILE_UPLOADED},
	{"adopted", "one", the_same_is_there, write_it, FILE_UPLOADED},
	{"in conflict", "one", something_else_is_there, write_it, FILE_CONFLICT},
	{"sent without an answer", "one", NULL, write_with_a_lost_answer, FILE_UPLOADED},
	{"refused", "one", NULL, write_what_is_refused, FILE_FAILED},
};

/* ---- the sweep ------------------------------------------------------------------------------------------ */

static bool has_arrived(struct bench *b, const void *data, size_t len)
{
	cleanup_buf struct buf path = {0};
	struct store_inode inode;

	assert_int_equal(store_inode(b->store, race.ino, &inode), 0);
	assert_int_equal(__real_store_path(b->store, race.ino, &path), 0);
	return inode.attr.state == FILE_UPLOADED && is_in_place(&inode) && !has_jobs(b->store) &&
	       attempts_standing(b) == 0 && fake_has(b->fake, buf_text(&path), data, len);
}

static bool is_over(struct bench *b, const struct scenario *s)
{
	bool is_kept = s->otherwise == FILE_HELD && race.what == RENAME_FOLDER;

	if (atomic_load(&race.lookups) > 0 || is_kept)
		return state_of(b, race.ino) == s->otherwise;
	return has_arrived(b, TEXT, strlen(TEXT));
}

/* False: it passed without a rename. */
static bool run_one(struct bench *b, const struct scenario *s, unsigned lookups)
{
	char path[64];

	lock_take(&b->fake->lock);
	b->fake->fault_count = 0;
	lock_drop(&b->fake->lock);
	snprintf(path, sizeof(path), "p/%s/%s", race.folder, s->name);
	race.ino = 0;
	if (s->before)
		s->before(b, path);
	if (race.ino == 0)
		race.ino = file_ino(b, path, true);
	atomic_store(&race.lookups, lookups);
	s->then(b, path);
	wait_advancing(STEP_MS, is_over(b, s));
	if (atomic_load(&race.untrue) > 0)
		fail_msg("%s: in the bucket under another name (%s renamed after lookup %u)",
			s->what, race.what == RENAME_FILE ? "file" : "folder", lookups);
	return atomic_exchange(&race.lookups, 0) == 0;
}

static void test_renamed_after_a_lookup(void **state)
{
	struct bench *b = *state;

	b->look = look_at_record;
	for (size_t i = 0; i < array_len(scenarios); i++) {
		for (race.what = 0; race.what < RENAME_KINDS; race.what++) {
			unsigned n = 0;

			do
				snprintf(race.folder, sizeof(race.folder), "d%zu-%u-%u", i,
					race.what, ++n);
			while (run_one(b, &scenarios[i], n));
			assert_in_range(n, 2, 30);
		}
	}
}

/* ---- a "no" that speaks of the name it had ---------------------------------------------------------- */

static void refused_while(struct bench *b, size_t len, enum s3_op op)
{
	cleanup_free uint8_t *data = pattern(len, 3);
	char path[64];

	snprintf(race.folder, sizeof(race.folder), "d-%u-%u", race.what, op);
	snprintf(path, sizeof(path), "p/%s/one", race.folder);
	fake_fault(b->fake, (struct fake_fault){.op = op,
				    .kind = FAULT_REFUSE,
				    .class = S3_FATAL,
				    .http_status = 400,
				    .code = "InvalidRequest",
				    .key_has = path});
	fake_set_hold(b->fake, op, true);
	race.ino = write_file(b, path, data, len);
	wait_advancing(STEP_MS, fake_in_flight(b->fake, op) > 0);
	rename_now();
	wait_advancing(STEP_MS, !has_jobs(b->store)); /* it has passed by: the file was SENDING */
	fake_set_hold(b->fake, op, false);
	wait_advancing(STEP_MS, has_arrived(b, data, len));
}

static void test_refused_under_the_old_name(void **state)
{
	struct bench *b = *state;

	for (race.what = 0; race.what < RENAME_KINDS; race.what++) {
		refused_while(b, 5, S3_PUT);
		refused_while(b, THRESHOLD + 1, S3_CREATE_MULTIPART);
		refused_while(b, THRESHOLD + 1, S3_UPLOAD_PART);
	}
}

/* The copy to the second name is refused when the file has the third already. */
static void test_copy_refused_to_a_name_between(void **state)
{
	struct bench *b = *state;

	snprintf(race.folder, sizeof(race.folder), "d");
	upload_it(b, "p/d/one");
	assert_int_equal(store_evict(b->store, UINT64_MAX / 2), 0);
	fake_fault(b->fake, (struct fake_fault){.op = S3_COPY,
				    .kind = FAULT_REFUSE,
				    .class = S3_DENIED,
				    .http_status = 403,
				    .code = "AccessDenied",
				    .key_has = "p/d/two"});
	fake_set_hold(b->fake, S3_COPY, true);
	rename_it(b, "one", "two");
	wait_advancing(STEP_MS, fake_in_flight(b->fake, S3_COPY) > 0);
	rename_it(b, "two", "three");
	fake_set_hold(b->fake, S3_COPY, false);
	wait_advancing(STEP_MS, has_arrived(b, TEXT, strlen(TEXT)));
}

/* Nobody else would look at the file: its folder's rename is not done before it was read. */
static void test_unreadable_while_its_folder_is_renamed(void **state)
{
	struct bench *b = *state;
	uint64_t p;

	snprintf(race.folder, sizeof(race.folder), "d");
	upload_it(b, "p/d/one");
	unreadable.ino = race.ino;
	atomic_store(&unreadable.times, 2);
	p = file_ino(b, "p", false);
	assert_int_equal(store_rename(b->store, p, "d", p, "e", 0, 0), 0);
	wait_advancing(STEP_MS, !has_jobs(b->store));
	assert_int_equal(atomic_load(&unreadable.times), 0);
	unreadable.ino = 0;
	wait_advancing(STEP_MS, has_arrived(b, TEXT, strlen(TEXT)));
}

/* That the bytes could not be opened just now does not mean that they are not here. */
static void test_copy_refused_while_nothing_can_be_opened(void **state)
{
	struct bench *b = *state;

	snprintf(race.folder, sizeof(race.folder), "d");
	upload_it(b, "p/d/one");
	fake_fault(b->fake, (struct fake_fault){.op = S3_COPY,
				    .kind = FAULT_REFUSE,
				    .times = 50,
				    .class = S3_DENIED,
				    .http_status = 403,
				    .code = "AccessDenied"});
	fake_set_hold(b->fake, S3_COPY, true);
	rename_it(b, "one", "two");
	wait_advancing(STEP_MS, fake_in_flight(b->fake, S3_COPY) > 0);
	atomic_store(&unopened, 2);
	fake_set_hold(b->fake, S3_COPY, false);
	wait_advancing(STEP_MS, has_arrived(b, TEXT, strlen(TEXT)));
	assert_int_equal(atomic_load(&unopened), 0);
	assert_int_equal(fake_count(b->fake, S3_COPY), 3);
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
}

/* The same of what is larger than one copy can be: it is not copied in parts for that. */
static void test_large_one_renamed_while_nothing_can_be_opened(void **state)
{
	struct bench *b = *state;

	snprintf(race.folder, sizeof(race.folder), "d");
	b->upload->copy_max_bytes = 2;
	upload_it(b, "p/d/one");
	atomic_store(&unopened, 1);
	rename_it(b, "one", "two");
	wait_advancing(STEP_MS, has_arrived(b, TEXT, strlen(TEXT)));
	assert_int_equal(atomic_load(&unopened), 0);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 0);
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
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

/* It is said once, however often it is met, and again when it comes back later. */
static void test_written_while_nothing_can_be_opened(void **state)
{
	struct bench *b = *state;
	char log[160];

	snprintf(log, sizeof(log), "%s/log", b->dir);
	assert_int_equal(log_open(LOG_LEVEL_WARN, log, false), 0);
	snprintf(race.folder, sizeof(race.folder), "d");
	atomic_store(&unopened, 2);
	write_it(b, "p/d/one");
	wait_advancing(STEP_MS, has_arrived(b, TEXT, strlen(TEXT)));
	assert_int_equal(lines_of(log, "no file descriptors left"), 1);
	clock_fake_advance_ms(3600 * MS_PER_S);
	atomic_store(&unopened, 1);
	write_text(b, "p/d/two", "another");
	wait_advancing(STEP_MS, atomic_load(&unopened) == 0 && fake_has(b->fake, "p/d/two", "another", 7));
	assert_int_equal(lines_of(log, "no file descriptors left"), 2);
	assert_int_equal(log_open(LOG_LEVEL_ERROR, NULL, false), 0);
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
}

/* Whether an older file's bytes are here can't be told just now: its object is not replaced. */
static void test_only_copy_while_nothing_can_be_opened(void **state)
{
	struct bench *b = *state;
	uint64_t old;

	snprintf(race.folder, sizeof(race.folder), "d");
	upload_evict_and_hold(b, "p/d/one");
	old = race.ino;
	unopened_ino = old;
	atomic_store(&unopened, 1);
	race.ino = write_text(b, "p/d/one", "another content");
	wait_advancing(STEP_MS, atomic_load(&unopened) == 0);
	unopened_ino = 0;
	race.ino = old;
	rename_it(b, "one.tmp", "two");
	wait_advancing(STEP_MS, has_arrived(b, TEXT, strlen(TEXT)));
	wait_advancing(STEP_MS, fake_has(b->fake, "p/d/one", "another content", 15));
}

/* A deleted file comes back to the key that a newer one is about to be sent to, as its folder has
 * another name by now: only one of them is the key's, and the last copy of the other is there. */
static void test_undeleted_before_it_is_replaced(void **state)
{
	struct bench *b = *state;
	uint64_t p, old;

	for (unsigned c = 0; c < S3_CONDITIONS; c++)
		b->fake->knows_enforces[c][S3_PUT] = false; /* so that it is asked for first */
	snprintf(race.folder, sizeof(race.folder), "d");
	upload_it(b, "p/d/one");
	old = race.ino;
	p = file_ino(b, "p", false);
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), "one", 600000), 0);
	assert_int_equal(store_evict(b->store, UINT64_MAX / 2), 0);
	fake_set_hold(b->fake, S3_HEAD, true);
	race.ino = write_text(b, "p/d/one", "another content");
	wait_advancing(STEP_MS, fake_in_flight(b->fake, S3_HEAD) > 0);
	assert_int_equal(store_rename(b->store, p, "d", p, "e", 0, 0), 0);
	assert_int_equal(upload_undelete(b->upload, "p/d", NULL, NULL), 1);
	fake_set_hold(b->fake, S3_HEAD, false);
	wait_advancing(STEP_MS, has_arrived(b, "another content", 15));
	assert_true(state_of(b, old) == FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/d/one", TEXT, strlen(TEXT)));
	assert_int_equal(fake_count(b->fake, S3_PUT), 2);
}

/* Its time has come, and it is taken back before the request that deletes it is on its way. */
static void test_undeleted_before_it_is_deleted(void **state)
{
	struct bench *b = *state;
	uint64_t ino;

	snprintf(race.folder, sizeof(race.folder), "d");
	upload_it(b, "p/d/one");
	ino = race.ino;
	assert_int_equal(store_evict(b->store, UINT64_MAX / 2), 0);
	assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), "one", 600000), 0);
	takes_back.path = "p/d/one";
	takes_back.ino = ino;
	wait_advancing(1000, takes_back.ino == 0);
	upload_it(b, "p/d/two");
	wait_advancing(STEP_MS, attempts_standing(b) == 0);
	assert_int_equal(state_of(b, ino), FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/d/one", TEXT, strlen(TEXT)));
	assert_int_equal(fake_count(b->fake, S3_DELETE), 0);
}

/* ---- a command for a version that is another one by now ---------------------------------------------- */

static uint64_t in_conflict(struct bench *b, const char *path)
{
	uint64_t ino;

	fake_put(b->fake, path, "theirs");
	ino = write_text(b, path, "ours");
	wait_advancing(STEP_MS, state_of(b, ino) == FILE_CONFLICT);
	upload_pause(b->upload);
	wait_advancing(STEP_MS, upload_pauses(b) == PAUSE_BY_HAND);
	other_hand.ino = ino;
	other_hand.text = "ours, and more";
	other_hand.path = path;
	return ino;
}

static void count_refused(void *user, const char *path, const char *why)
{
	++*(unsigned *)user;
}

static void test_discarded_while_written_again(void **state)
{
	struct bench *b = *state;
	unsigned left = 0;
	uint64_t ino = in_conflict(b, "p/d/one");

	assert_int_equal(upload_discard_all(b->upload, "p/d", count_refused, &left), 0);
	assert_int_equal(left, 1);
	assert_null(other_hand.path);
	assert_int_equal(file_ino(b, "p/d/one", false), ino);
	upload_resume(b->upload);
	wait_advancing(STEP_MS, state_of(b, ino) == FILE_CONFLICT);
}

static void test_accepted_while_written_again(void **state)
{
	struct bench *b = *state;
	uint64_t ino = in_conflict(b, "p/d/one");

	assert_int_equal(upload_accept(b->upload, "p/d"), 0);
	assert_null(other_hand.path);
	upload_resume(b->upload);
	wait_advancing(STEP_MS, state_of(b, ino) == FILE_CONFLICT);
	assert_true(fake_has(b->fake, "p/d/one", "theirs", 6));
	assert_int_equal(upload_accept(b->upload, "p/d"), 1);
	wait_advancing(STEP_MS, fake_has(b->fake, "p/d/one", "ours, and more", 14));
}

/* Those that wait are not read again each time one of them is due, or ends. */
static void test_deletes_that_fail(void **state)
{
	enum { FILES = 150 };
	struct bench *b = *state;
	struct store_counts counts;
	char path[32];
	unsigned reads;

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), "p/d/%u", i);
		write_text(b, path, path);
	}
	wait_advancing(STEP_MS, fake_object_count(b->fake) == FILES && attempts_standing(b) == 0);
	upload_pause(b->upload);
	wait_until(upload_pauses(b) == PAUSE_BY_HAND);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), "%u", i);
		assert_int_equal(store_unlink(b->store, file_ino(b, "p/d", false), path, 0), 0);
	}
	fake_fault(b->fake, (struct fake_fault){.op = S3_DELETE,
				    .kind = FAULT_REFUSE,
				    .class = S3_THROTTLED,
				    .http_status = 503,
				    .code = "SlowDown",
				    .times = FILES});
	clock_fake_advance_ms(STEP_MS); /* due since then, however slowly this runs */
	reads = atomic_load(&inode_reads);
	upload_resume(b->upload);
	wait_advancing(
		STEP_MS, (assert_int_equal(store_counts(b->store, STORE_ROOT_INO, &counts), 0),
				 counts.files[FILE_DELETING] == 0));
	assert_int_equal(fake_object_count(b->fake), 0);
	reads = atomic_load(&inode_reads) - reads;
	print_message("%u inodes read for %u deletes\n", reads, fake_count(b->fake, S3_DELETE));
	assert_true(reads < 10 * fake_count(b->fake, S3_DELETE));
}

static int begin(void **state)
{
	struct bench *b;

	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	b = bench_begin(true);
	bench_open_upload(b);
	race.bench = b;
	*state = b;
	return 0;
}

static int end(void **state)
{
	race.bench = NULL;
	bench_end(*state);
	clock_fake_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_renamed_after_a_lookup, begin, end),
		cmocka_unit_test_setup_teardown(test_refused_under_the_old_name, begin, end),
		cmocka_unit_test_setup_teardown(test_copy_refused_to_a_name_between, begin, end),
		cmocka_unit_test_setup_teardown(test_unreadable_while_its_folder_is_renamed, begin, end),
		cmocka_unit_test_setup_teardown(
			test_copy_refused_while_nothing_can_be_opened, begin, end),
		cmocka_unit_test_setup_teardown(
			test_large_one_renamed_while_nothing_can_be_opened, begin, end),
		cmocka_unit_test_setup_teardown(
			test_written_while_nothing_can_be_opened, begin, end),
		cmocka_unit_test_setup_teardown(
			test_only_copy_while_nothing_can_be_opened, begin, end),
		cmocka_unit_test_setup_teardown(test_undeleted_before_it_is_replaced, begin, end),
		cmocka_unit_test_setup_teardown(test_undeleted_before_it_is_deleted, begin, end),
		cmocka_unit_test_setup_teardown(test_discarded_while_written_again, begin, end),
		cmocka_unit_test_setup_teardown(test_accepted_while_written_again, begin, end),
		cmocka_unit_test_setup_teardown(test_deletes_that_fail, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
