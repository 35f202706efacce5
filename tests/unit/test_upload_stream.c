/*
 * Large files that are sent while they are written: which chunks go up when, what becomes of the
 * upload when the file takes another turn, and that nothing is completed but a whole closed
 * version.
 */
#include "upload_fake.h"

#include <sys/syscall.h>

#define QUIET_MS 5000
#define LEN (8 * PART + 100)
#define DATA_MAX (32 * MIB)

/* A program that writes. */
struct writer {
	struct bench *b;
	struct store_file *f;
	uint64_t ino;
	uint8_t *data; /* what the file holds; DATA_MAX, zeros beyond len */
	size_t len;
};

static struct bench *open_bench(bool aws)
{
	struct bench *b = bench_make(aws);

	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	b->config.stream_quiet_ms = QUIET_MS;
	bench_open_store(b);
	bench_open_upload(b);
	return b;
}

static void close_bench(struct bench *b)
{
	bench_end(b);
	clock_fake_end();
}

static void write_at(struct writer *w, size_t off, size_t len, unsigned seed)
{
	uint8_t *data = pattern(len, seed);
	uint64_t chunk;

	assert_true(off + len <= DATA_MAX);
	memcpy(w->data + off, data, len);
	w->len = off + len > w->len ? off + len : w->len;
	assert_int_equal(store_file_write(w->f, data, len, off, false, &chunk), 0);
	free(data);
}

static void truncate_to(struct writer *w, size_t len)
{
	uint64_t chunk;

	assert_int_equal(store_file_truncate(w->f, len, &chunk), 0);
	if (len < w->len)
		memset(w->data + len, 0, w->len - len);
	w->len = len;
}

static void writer_open(struct writer *w)
{
	assert_int_equal(store_file_open(w->b->store, w->ino, &w->f), 0);
	store_file_writer_add(w->f);
}

/* A new file of so many bytes, still open. */
static struct writer begin_file(struct bench *b, const char *path, size_t len)
{
	struct writer w = {.b = b, .ino = file_ino(b, path, true), .data = calloc(1, DATA_MAX)};

	writer_open(&w);
	write_at(&w, 0, len, 1);
	return w;
}

static void writer_close(struct writer *w, bool cut_off)
{
	assert_int_equal(store_file_flush(w->f, cut_off, NULL), 0);
	store_file_writer_drop(w->f);
	store_file_close(w->f);
	w->f = NULL;
}

static unsigned parts(struct bench *b)
{
	return fake_count(b->fake, S3_UPLOAD_PART);
}

/* The quiet time passes once, and the parts that are due go up; afterwards nothing is on its way.
 */
static void quiet_until_parts(struct bench *b, unsigned want)
{
	unsigned sent;

	clock_fake_advance_ms(QUIET_MS);
	while ((sent = parts(b)) < want) /* some thousands: each has its own deadline */
		wait_advancing(20, parts(b) > sent);
	wait_advancing(20, fake_in_flight(b->fake, S3_UPLOAD_PART) == 0);
	assert_int_equal(parts(b), want);
}

/* Another file goes the whole way: the scheduler has looked at everything several times. */
static void barrier(struct bench *b)
{
	static unsigned number;
	char path[32];
	uint64_t ino;

	snprintf(path, sizeof(path), "p/barrier%u", ++number);
	ino = write_text(b, path, path);
	assert_true(upload_hurry(b->upload, "") >= 0); /* the clock stands still */
	wait_state(b, ino, FILE_UPLOADED);
}

static void check_sent(struct writer *w, const char *key)
{
	struct bench *b = w->b;

	wait_advancing(20, state_of(b, w->ino) == FILE_UPLOADED);
	assert_true(fake_has(b->fake, key, w->data, w->len));
	wait_advancing(20, attempts_standing(b) == 0);
	assert_int_equal(fake_open_uploads(b->fake), 0);
	free(w->data);
	w->data = NULL;
}

/* ---- the usual way -------------------------------------------------------------------------- */

static void test_parts_before_the_close(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		struct writer w = begin_file(b, "p/big", LEN);

		clock_fake_advance_ms(QUIET_MS - 1);
		barrier(b);
		assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 0);
		quiet_until_parts(b, 8);
		assert_int_equal(state_of(b, w.ino), FILE_OPEN);
		write_at(&w, LEN, 2 * PART, 2);
		quiet_until_parts(b, 10);
		barrier(b);
		assert_int_equal(fake_count(b->fake, S3_COMPLETE_MULTIPART), 0);
		assert_int_equal(fake_open_uploads(b->fake), 1);
		assert_int_equal(attempts_standing(b), 1);
		writer_close(&w, false);
		check_sent(&w, "p/big");
		assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
		assert_int_equal(parts(b), 11);
		assert_int_equal(fake_count(b->fake, S3_COMPLETE_MULTIPART), 1);
		close_bench(b);
	}
}

/* One handle for two hours, a little each minute: every part goes up once, when it is whole; nothing
 * is kept open, asked or begun again meanwhile. */
static void test_a_trickle_of_two_hours(void **state)
{
	struct bench *b = open_bench(false);
	struct writer w = begin_file(b, "p/log", PART / 8);

	(void)state;
	for (unsigned minute = 1; minute < 120; minute++) {
		clock_fake_advance_ms(60 * MS_PER_S);
		write_at(&w, w.len, PART / 8, minute);
		if (minute % 10 == 0) {
			barrier(b);
			assert_int_equal(state_of(b, w.ino), FILE_OPEN);
			assert_true(attempts_standing(b) <= 1);
		}
	}
	quiet_until_parts(b, 15);
	assert_int_equal(fake_count(b->fake, S3_COMPLETE_MULTIPART), 0);
	writer_close(&w, false);
	check_sent(&w, "p/log");
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
	assert_int_equal(parts(b), 15);
	assert_int_equal(fake_count(b->fake, S3_COMPLETE_MULTIPART), 1);
	close_bench(b);
}

/* Closed before anything was quiet: as ever. */
static void test_quick_writer(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	writer_close(&w, false);
	check_sent(&w, "p/big");
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
	assert_int_equal(fake_count(b->fake, S3_LIST_PARTS), 0);
	assert_int_equal(parts(b), 9);
	close_bench(b);
}

static void test_switched_off(void **state)
{
	struct bench *b = bench_begin(true);
	struct writer w;

	(void)state;
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	bench_open_upload(b);
	w = begin_file(b, "p/big", LEN);
	clock_fake_advance_ms(10 * QUIET_MS);
	barrier(b);
	assert_int_equal(parts(b), 0);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	close_bench(b);
}

/* TIFF, HDF5, zip, SQLite: the beginning is written last, or again and again. */
static void test_header_rewritten(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		struct bench *b = open_bench(aws);
		struct writer w = begin_file(b, "p/big", LEN);

		quiet_until_parts(b, 8);
		write_at(&w, 4, 8, 2);
		clock_fake_advance_ms(QUIET_MS);
		barrier(b);
		assert_int_equal(parts(b), 8); /* longer each time */
		clock_fake_advance_ms(QUIET_MS);
		quiet_until_parts(b, 9);
		write_at(&w, 4, 8, 3);
		writer_close(&w, false);
		check_sent(&w, "p/big");
		assert_int_equal(parts(b), 11); /* the first again, and the last */
		close_bench(b);
	}
}

/* A beginning that is rewritten every 6 s for 20 min costs few parts. */
static void test_rewritten_again_and_again(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	quiet_until_parts(b, 8);
	for (unsigned i = 0; i < 200; i++) {
		write_at(&w, 0, 16, i);
		clock_fake_advance_ms(QUIET_MS + 1000);
		if (i % 20 == 0)
			barrier(b);
	}
	assert_in_range(parts(b), 8, 9);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	close_bench(b);
}

/* Written while it is sent: refused by its checksum, or taken and not counted. */
static void test_written_while_sent(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		for (unsigned deaf = 0; deaf < 2; deaf++) {
			struct bench *b = open_bench(aws);
			struct writer w = begin_file(b, "p/big", LEN);

			b->fake->deaf = deaf;
			fake_set_hold(b->fake, S3_UPLOAD_PART, true);
			clock_fake_advance_ms(QUIET_MS);
			wait_advancing(20, parts(b) == 8);
			write_at(&w, 3 * PART + 5, 10, 2);
			clock_fake_advance_ms(1000);
			wait_advancing(20, fake_in_flight(b->fake, S3_UPLOAD_PART) == 7 + deaf);
			fake_set_hold(b->fake, S3_UPLOAD_PART, false);
			wait_advancing(200, parts(b) == 9);
			writer_close(&w, false);
			check_sent(&w, "p/big");
			assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
			assert_int_equal(fake_count(b->fake, S3_COMPLETE_MULTIPART), 1);
			b->fake->deaf = false;
			close_bench(b);
		}
	}
}

/* The part arrives with the old bytes, then they change: the record was void before. */
static void test_written_after_it_was_read(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	fake_fault(b->fake,
		(struct fake_fault){.op = S3_UPLOAD_PART, .kind = FAULT_LOSE_AFTER, .skip = 2});
	quiet_until_parts(b, 9);
	write_at(&w, 2 * PART, PART, 7);
	write_at(&w, 5 * PART, 1, 7);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	assert_int_equal(parts(b), 9 + 3);
	close_bench(b);
}

/* Allocated first, filled later: what was never written is not sent as zeros. */
static void test_allocated_first(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", PART);

	(void)state;
	truncate_to(&w, 20 * PART);
	quiet_until_parts(b, 1);
	write_at(&w, PART, 2 * PART, 2);
	quiet_until_parts(b, 3);
	for (unsigned n = 3; n < 18; n++)
		write_at(&w, n * PART, PART, n);
	quiet_until_parts(b, 18);
	writer_close(&w, false); /* with a hole at its end */
	check_sent(&w, "p/big");
	assert_int_equal(parts(b), 20);
	close_bench(b);
}

/* ---- other turns ---------------------------------------------------------------------------- */

static void test_truncated_below_the_threshold(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	quiet_until_parts(b, 8);
	truncate_to(&w, THRESHOLD);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	assert_int_equal(fake_count(b->fake, S3_ABORT_MULTIPART), 1);
	assert_int_equal(fake_count(b->fake, S3_COMPLETE_MULTIPART), 0);
	assert_int_equal(fake_count(b->fake, S3_PUT), 1);
	close_bench(b);
}

/* What cannot be aborted at once is aborted later. */
static void test_truncated_and_short_of_memory(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	quiet_until_parts(b, 8);
	lock_take(&b->fake->lock);
	b->fake->unsent[S3_ABORT_MULTIPART] = 1;
	lock_drop(&b->fake->lock);
	truncate_to(&w, THRESHOLD);
	writer_close(&w, false);
	wait_advancing(20, state_of(b, w.ino) == FILE_UPLOADED);
	check_sent(&w, "p/big");
	assert_int_equal(fake_count(b->fake, S3_ABORT_MULTIPART), 1);
	close_bench(b);
}

/* Shorter, and grown again with other bytes. */
static void test_truncated_and_grown(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	quiet_until_parts(b, 8);
	truncate_to(&w, 4 * PART);
	clock_fake_advance_ms(1000);
	barrier(b);
	write_at(&w, 4 * PART, 2 * PART + 50, 9);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	assert_int_equal(parts(b), 8 + 3);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
	close_bench(b);
}

static void test_cut_at_a_part_s_end(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	quiet_until_parts(b, 8);
	truncate_to(&w, 5 * PART);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	assert_int_equal(parts(b), 8);
	close_bench(b);
}

static void test_renamed(void **state)
{
	(void)state;
	for (unsigned folder = 0; folder < 2; folder++) {
		struct bench *b = open_bench(true);
		struct writer w = begin_file(b, "p/d/big", LEN);
		uint64_t p = file_ino(b, "p", false), d = file_ino(b, "p/d", false);

		quiet_until_parts(b, 8);
		if (folder)
			assert_int_equal(store_rename(b->store, p, "d", p, "e", 0, 0), 0);
		else
			assert_int_equal(store_rename(b->store, d, "big", d, "large", 0, 0), 0);
		wait_advancing(50, fake_count(b->fake, S3_ABORT_MULTIPART) == 1);
		wait_advancing(50, parts(b) == 16); /* to the new key */
		writer_close(&w, false);
		check_sent(&w, folder ? "p/e/big" : "p/d/large");
		assert_int_equal(parts(b), 17);
		assert_int_equal(fake_object_count(b->fake), 1);
		close_bench(b);
	}
}

static void test_unlinked(void **state)
{
	(void)state;
	for (unsigned closed = 0; closed < 2; closed++) {
		struct bench *b = open_bench(true);
		struct writer w = begin_file(b, "p/big", LEN);
		struct store_attr attr;

		quiet_until_parts(b, 8);
		if (closed)
			writer_close(&w, true);
		assert_int_equal(store_unlink(b->store, file_ino(b, "p", false), "big", 600000), 0);
		wait_advancing(50, fake_open_uploads(b->fake) == 0);
		wait_advancing(50, attempts_standing(b) == 0);
		if (!closed) {
			write_at(&w, 0, 10, 2);
			writer_close(&w, false);
			clock_fake_advance_ms(600000);
		}
		wait_advancing(50, store_attr(b->store, w.ino, &attr) == -ENOENT);
		assert_int_equal(fake_object_count(b->fake), 0);
		free(w.data);
		close_bench(b);
	}
}

/* Another file takes its name while it is sent. */
static void test_replaced_by_a_rename(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);
	uint64_t p = file_ino(b, "p", false), other;

	(void)state;
	quiet_until_parts(b, 8);
	other = write_text(b, "p/other.tmp", "other");
	assert_int_equal(store_rename(b->store, p, "other.tmp", p, "big", 0, 0), 0);
	wait_advancing(50, state_of(b, other) == FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/big", "other", 5));
	wait_advancing(50, fake_open_uploads(b->fake) == 0);
	writer_close(&w, false);
	clock_fake_advance_ms(10000);
	barrier(b);
	assert_true(fake_has(b->fake, "p/big", "other", 5));
	free(w.data);
	close_bench(b);
}

/* rsync's temporary name: nothing is sent before it has its own. */
static void test_held_name(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/.big.Ab12Cd", LEN);
	uint64_t p = file_ino(b, "p", false);

	(void)state;
	clock_fake_advance_ms(4 * QUIET_MS);
	barrier(b);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 0);
	writer_close(&w, false);
	assert_int_equal(store_rename(b->store, p, ".big.Ab12Cd", p, "big", 0, 0), 0);
	check_sent(&w, "p/big");
	assert_int_equal(parts(b), 9);
	close_bench(b);
}

/* ---- the writer is cut off ------------------------------------------------------------------ */

/* Nothing is completed; what goes on writing goes on with the upload. */
static void test_cut_off_and_gone_on_with(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	quiet_until_parts(b, 8);
	writer_close(&w, true);
	clock_fake_advance_ms(3600 * 1000);
	barrier(b);
	assert_int_equal(state_of(b, w.ino), FILE_INCOMPLETE);
	assert_int_equal(fake_count(b->fake, S3_COMPLETE_MULTIPART), 0);
	assert_int_equal(fake_open_uploads(b->fake), 1);
	writer_open(&w);
	write_at(&w, LEN, 3 * PART, 2);
	quiet_until_parts(b, 11);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
	assert_int_equal(parts(b), 12);
	close_bench(b);
}

static void test_cut_off_and_accepted(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	quiet_until_parts(b, 8);
	writer_close(&w, true);
	clock_fake_advance_ms(100000);
	barrier(b);
	assert_int_equal(upload_accept(b->upload, "p/big"), 1);
	check_sent(&w, "p/big");
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
	assert_int_equal(parts(b), 9);
	close_bench(b);
}

static void test_cut_off_and_left(void **state)
{
	(void)state;
	for (unsigned discarded = 0; discarded < 2; discarded++) {
		struct bench *b = open_bench(true);
		struct writer w = begin_file(b, "p/big", LEN);

		quiet_until_parts(b, 8);
		writer_close(&w, true);
		clock_fake_advance_ms(1000);
		barrier(b);
		assert_int_equal(fake_open_uploads(b->fake), 1);
		if (discarded)
			assert_int_equal(upload_discard(b->upload, "p/big"), 1);
		else
			clock_fake_advance_ms(23 * 3600 * 1000);
		if (!discarded) {
			barrier(b);
			assert_int_equal(fake_open_uploads(b->fake), 1);
			clock_fake_advance_ms(2 * 3600 * 1000);
		}
		wait_advancing(1000, fake_open_uploads(b->fake) == 0);
		wait_advancing(20, attempts_standing(b) == 0);
		if (!discarded)
			assert_int_equal(state_of(b, w.ino), FILE_INCOMPLETE);
		free(w.data);
		close_bench(b);
	}
}

/* Begun anew, and small, when it was cut off: there is nothing to keep its parts for. */
static void test_cut_off_when_small(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	quiet_until_parts(b, 8);
	truncate_to(&w, 1000);
	writer_close(&w, true);
	wait_advancing(1000, fake_open_uploads(b->fake) == 0);
	wait_advancing(20, attempts_standing(b) == 0);
	assert_int_equal(state_of(b, w.ino), FILE_INCOMPLETE);
	free(w.data);
	close_bench(b);
}

/* ---- kill ----------------------------------------------------------------------------------- */

/* As after kill -9 in the middle of writing: the handle's memory is gone. */
static void kill_while_writing(struct bench *b, struct writer *w, bool carried_out)
{
	struct upload *u = b->upload;

	lock_take(&b->fake->lock);
	b->fake->deaf = true;
	lock_drop(&b->fake->lock);
	upload_stop(u, clock_mono_ms() - 60000); /* no grace: the clock stands still */
	b->upload = NULL;
	upload_destroy(u);
	if (w->f) {
		store_file_writer_drop(w->f);
		store_file_close(w->f);
	}
	bench_kill_stopped(b, carried_out);
	bench_open_upload(b);
}

static unsigned parts_there(struct bench *b)
{
	unsigned n = 0;

	lock_take(&b->fake->lock);
	for (unsigned i = 0; b->fake->uploads[0].parts && i < FAKE_PARTS; i++)
		n += b->fake->uploads[0].parts[i].etag[0] != '\0';
	lock_drop(&b->fake->lock);
	return n;
}

static void test_killed_and_gone_on_with(void **state)
{
	(void)state;
	for (unsigned carried_out = 0; carried_out < 2; carried_out++) {
		struct bench *b = open_bench(true);
		struct writer w = begin_file(b, "p/big", LEN);
		unsigned sent;

		fake_fault(b->fake, (struct fake_fault){.op = S3_UPLOAD_PART,
					    .kind = FAULT_REFUSE,
					    .skip = 5,
					    .times = 100,
					    .class = S3_RETRY,
					    .http_status = 500,
					    .code = "x"});
		clock_fake_advance_ms(QUIET_MS);
		wait_advancing(20, parts(b) >= 8 && parts_there(b) == 5);
		fake_set_hold(b->fake, S3_UPLOAD_PART, true);
		wait_advancing(200, fake_in_flight(b->fake, S3_UPLOAD_PART) == 3);
		lock_take(&b->fake->lock);
		b->fake->fault_count = 0;
		lock_drop(&b->fake->lock);
		kill_while_writing(b, &w, carried_out);
		sent = parts(b);
		wait_advancing(20, state_of(b, w.ino) == FILE_INCOMPLETE);
		writer_open(&w);
		write_at(&w, PART + 7, 1, 3); /* part 2 was sent: it is sent again */
		write_at(&w, LEN, PART, 2);
		writer_close(&w, false);
		check_sent(&w, "p/big");
		assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
		assert_in_range(fake_count(b->fake, S3_LIST_PARTS), 1, 3);
		assert_int_equal(parts(b) - sent, carried_out ? 3 : 6);
		close_bench(b);
	}
}

static void killed_at(enum s3_op op, bool carried_out, unsigned uploads_left)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	b->uploads_left = uploads_left;
	print_message("killed at %s, %scarried out\n", s3_op_text(op), carried_out ? "" : "not ");
	fake_set_hold(b->fake, op, true);
	clock_fake_advance_ms(QUIET_MS);
	if (op == S3_COMPLETE_MULTIPART || op == S3_LIST_PARTS) {
		wait_advancing(20, parts(b) == 8 && fake_in_flight(b->fake, S3_UPLOAD_PART) == 0);
		writer_close(&w, false);
	}
	wait_advancing(20, fake_count(b->fake, op) == 1);
	kill_while_writing(b, &w, carried_out);
	if (op == S3_CREATE_MULTIPART || op == S3_HEAD) { /* still being written then */
		wait_advancing(20, state_of(b, w.ino) == FILE_INCOMPLETE);
		assert_int_equal(upload_accept(b->upload, "p/big"), 1);
	}
	wait_advancing(20, state_of(b, w.ino) == FILE_UPLOADED);
	assert_true(fake_has(b->fake, "p/big", w.data, w.len));
	wait_advancing(20, attempts_standing(b) == 0);
	assert_int_equal(fake_open_uploads(b->fake), uploads_left);
	free(w.data);
	close_bench(b);
}

static void test_killed_at_each_request(void **state)
{
	(void)state;
	killed_at(S3_HEAD, false, 0);
	killed_at(S3_CREATE_MULTIPART, false, 0);
	killed_at(S3_CREATE_MULTIPART, true, 1); /* its id was never known here: said in the log */
	killed_at(S3_LIST_PARTS, false, 0);
	killed_at(S3_COMPLETE_MULTIPART, false, 0);
	killed_at(S3_COMPLETE_MULTIPART, true, 0);
}

/* An orderly end in the middle, and nobody goes on: kept a day, counted over starts. */
static void test_restarts_do_not_keep_it_for_ever(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	quiet_until_parts(b, 8);
	kill_while_writing(b, &w, false);
	for (unsigned i = 0; i < 3; i++) {
		wait_advancing(20, state_of(b, w.ino) == FILE_INCOMPLETE);
		barrier(b);
		assert_int_equal(fake_open_uploads(b->fake), 1);
		clock_fake_advance_ms(7 * 3600 * 1000);
		bench_restart(b);
	}
	clock_fake_advance_ms(4 * 3600 * 1000);
	wait_advancing(1000, fake_open_uploads(b->fake) == 0);
	wait_advancing(20, attempts_standing(b) == 0);
	free(w.data);
	close_bench(b);
}

/* ---- whose object --------------------------------------------------------------------------- */

static void test_conflict_appears_meanwhile(void **state)
{
	(void)state;
	for (unsigned aws = 0; aws < 2; aws++) {
		for (unsigned late = 0; late < 2; late++) {
			struct bench *b = open_bench(aws);
			struct writer w = begin_file(b, "p/big", LEN);

			quiet_until_parts(b, 8);
			if (late && !aws) /* the question right before Complete finds it */
				fake_set_hold(b->fake, S3_LIST_PARTS, true);
			else if (late)
				fake_set_hold(b->fake, S3_COMPLETE_MULTIPART, true);
			else
				fake_put(b->fake, "p/big", "theirs");
			writer_close(&w, false);
			if (late) {
				wait_advancing(20,
					fake_in_flight(b->fake, S3_COMPLETE_MULTIPART) +
							fake_in_flight(b->fake, S3_LIST_PARTS) ==
						1);
				fake_put(b->fake, "p/big", "theirs");
				fake_set_hold(b->fake, S3_COMPLETE_MULTIPART, false);
				fake_set_hold(b->fake, S3_LIST_PARTS, false);
			}
			wait_advancing(20, state_of(b, w.ino) == FILE_CONFLICT);
			assert_true(fake_has(b->fake, "p/big", "theirs", 6));
			wait_advancing(20, attempts_standing(b) == 0);
			assert_int_equal(fake_open_uploads(b->fake), 0);
			free(w.data);
			close_bench(b);
		}
	}
}

/* Theirs is there from the start: the close decides, nothing is sent for nothing. */
static void test_theirs_is_there(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w;

	(void)state;
	fake_put(b->fake, "p/big", "theirs");
	w = begin_file(b, "p/big", LEN);
	clock_fake_advance_ms(QUIET_MS);
	wait_advancing(20, fake_count(b->fake, S3_HEAD) == 1);
	clock_fake_advance_ms(3 * QUIET_MS);
	barrier(b);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 0);
	assert_in_range(fake_count(b->fake, S3_HEAD), 1, 2);
	writer_close(&w, false);
	wait_advancing(20, state_of(b, w.ino) == FILE_CONFLICT);
	free(w.data);
	close_bench(b);
}

/* Ours is there: only what is longer than it can be told from it before the close. */
static void test_ours_is_there(void **state)
{
	struct bench *b = open_bench(true);
	uint8_t *data = pattern(LEN, 1);
	uint64_t ino = write_file(b, "p/big", data, LEN);
	struct writer w;

	(void)state;
	wait_advancing(20, state_of(b, ino) == FILE_UPLOADED);
	assert_int_equal(parts(b), 9);
	w = begin_file(b, "p/big", LEN); /* the same bytes */
	clock_fake_advance_ms(4 * QUIET_MS);
	barrier(b);
	assert_int_equal(parts(b), 9);
	writer_close(&w, false);
	wait_advancing(20, state_of(b, ino) == FILE_UPLOADED);
	assert_int_equal(parts(b), 9); /* unchanged content is never sent again */
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
	writer_open(&w);
	write_at(&w, LEN, PART, 2);
	clock_fake_advance_ms(60000); /* it was asked about a moment ago */
	wait_advancing(1000, parts(b) == 9 + 9);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	assert_int_equal(parts(b), 9 + 10);
	free(data);
	close_bench(b);
}

/* ---- pauses and refusals -------------------------------------------------------------------- */

static void test_paused_by_hand(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w;

	(void)state;
	upload_pause(b->upload);
	w = begin_file(b, "p/big", LEN);
	clock_fake_advance_ms(4 * QUIET_MS);
	wait_advancing(20, upload_pauses(b) == PAUSE_BY_HAND);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 0);
	upload_resume(b->upload);
	wait_advancing(20, parts(b) == 8);
	upload_pause(b->upload);
	wait_advancing(20, upload_pauses(b) == PAUSE_BY_HAND);
	write_at(&w, LEN, 4 * PART, 2);
	clock_fake_advance_ms(4 * QUIET_MS);
	assert_int_equal(parts(b), 8);
	upload_resume(b->upload);
	quiet_until_parts(b, 12);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	close_bench(b);
}

/* Keys that end in the middle: the same upload goes on with the next ones. */
static void test_credentials(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	fake_fault(b->fake, (struct fake_fault){.op = S3_UPLOAD_PART,
				    .kind = FAULT_REFUSE,
				    .skip = 3,
				    .times = 2,
				    .class = S3_AUTH,
				    .http_status = 403,
				    .code = "ExpiredToken"});
	clock_fake_advance_ms(QUIET_MS);
	wait_advancing(20, upload_pauses(b) == PAUSE_CREDENTIALS);
	wait_advancing(1000, upload_pauses(b) == 0);
	wait_advancing(20, parts(b) >= 9 && fake_in_flight(b->fake, S3_UPLOAD_PART) == 0);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
	close_bench(b);
}

/* Refused: not before the close; then with the reason, and nothing is left open. */
static void test_denied(void **state)
{
	static const enum s3_op ops[] = {S3_CREATE_MULTIPART, S3_UPLOAD_PART};

	(void)state;
	for (unsigned i = 0; i < array_len(ops); i++) {
		struct bench *b = open_bench(true);
		struct writer w = begin_file(b, "p/big", LEN);
		char reason[256];

		fake_fault(b->fake, (struct fake_fault){.op = ops[i],
					    .kind = FAULT_REFUSE,
					    .times = 100,
					    .class = S3_DENIED,
					    .http_status = 403,
					    .code = "AccessDenied"});
		clock_fake_advance_ms(QUIET_MS);
		wait_advancing(20, fake_count(b->fake, ops[i]) > 0 && attempts_standing(b) == 0);
		clock_fake_advance_ms(2 * QUIET_MS);
		barrier(b);
		assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
		writer_close(&w, false);
		wait_advancing(20, state_of(b, w.ino) == FILE_FAILED);
		reason_of(b, w.ino, reason);
		assert_non_null(strstr(reason, "AccessDenied"));
		wait_advancing(20, attempts_standing(b) == 0);
		assert_int_equal(fake_open_uploads(b->fake), 0);
		free(w.data);
		close_bench(b);
	}
}

static void test_create_answer_lost(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	fake_fault(
		b->fake, (struct fake_fault){.op = S3_CREATE_MULTIPART, .kind = FAULT_LOSE_BEFORE});
	clock_fake_advance_ms(QUIET_MS);
	wait_advancing(100, parts(b) == 8);
	assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 2);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	close_bench(b);
}

/* Someone aborted it: begun anew while it is still written. */
static void test_no_such_upload(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	quiet_until_parts(b, 8);
	lock_take(&b->fake->lock);
	fake_close_upload(&b->fake->uploads[0]);
	lock_drop(&b->fake->lock);
	write_at(&w, LEN, PART, 2);
	clock_fake_advance_ms(QUIET_MS);
	wait_advancing(100, fake_count(b->fake, S3_CREATE_MULTIPART) == 2);
	wait_advancing(20, parts(b) == 8 + 1 + 9);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	close_bench(b);
}

/* The bytes in the cache are not those that were written: nothing of it is completed. */
static void test_damaged(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w = begin_file(b, "p/big", LEN);

	(void)state;
	quiet_until_parts(b, 8);
	assert_int_equal(pwrite(store_file_fd(w.f), "damage", 6, 3 * PART), 6);
	log_set_level(LOG_LEVEL_ERROR);
	writer_close(&w, false);
	wait_advancing(20, state_of(b, w.ino) == FILE_TORN);
	wait_advancing(100, attempts_standing(b) == 0);
	assert_int_equal(fake_open_uploads(b->fake), 0);
	assert_int_equal(fake_object_count(b->fake), 0);
	free(w.data);
	close_bench(b);
}

/* The disk refuses what is written, and memory forgets it. */
static atomic_bool disk_refuses;

int mincore(void *at, size_t len, unsigned char *resident)
{
	if (!disk_refuses)
		return (int)syscall(SYS_mincore, at, len, resident);
	memset(resident, 0, (len + 4095) / 4096);
	return 0;
}

int syncfs(int fd)
{
	if (!disk_refuses)
		return (int)syscall(SYS_syncfs, fd);
	errno = EIO;
	return -1;
}

static void test_refused_by_the_disk(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w;

	(void)state;
	disk_refuses = true;
	w = begin_file(b, "p/big", LEN);
	clock_fake_advance_ms(QUIET_MS);
	wait_advancing(20, store_synced(b->store, w.ino) == STORE_SUSPECT);
	wait_advancing(20, attempts_standing(b) == 0 && fake_open_uploads(b->fake) == 0);
	assert_int_equal(state_of(b, w.ino), FILE_OPEN);
	writer_close(&w, false);
	wait_advancing(20, state_of(b, w.ino) == FILE_TORN);
	assert_int_equal(parts(b), 0);
	disk_refuses = false;
	writer_open(&w);
	truncate_to(&w, 0);
	write_at(&w, 0, LEN, 2);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	close_bench(b);
}

/* ---- opened again --------------------------------------------------------------------------- */

/* Closed and opened again before and after it began to be sent: one upload all the way. */
static void test_opened_again(void **state)
{
	(void)state;
	for (unsigned sending = 0; sending < 2; sending++) {
		struct bench *b = open_bench(true);
		struct writer w = begin_file(b, "p/big", LEN);

		quiet_until_parts(b, 8);
		fake_set_hold(b->fake, S3_UPLOAD_PART, sending);
		writer_close(&w, false);
		if (sending)
			wait_advancing(20, fake_in_flight(b->fake, S3_UPLOAD_PART) == 1);
		writer_open(&w);
		write_at(&w, 2 * PART, 5, 4);
		fake_set_hold(b->fake, S3_UPLOAD_PART, false);
		clock_fake_advance_ms(QUIET_MS);
		barrier(b);
		write_at(&w, LEN, PART, 4);
		writer_close(&w, false);
		check_sent(&w, "p/big");
		assert_int_equal(fake_count(b->fake, S3_CREATE_MULTIPART), 1);
		assert_int_equal(fake_count(b->fake, S3_ABORT_MULTIPART), 0);
		assert_in_range(parts(b), 8 + 3, 8 + 6);
		close_bench(b);
	}
}

/* ---- sizes and lanes ------------------------------------------------------------------------ */

/* 50 GB in small: parts of 1, 2 and 4 units, more than 1000 to a page. */
static void test_parts_grow_along_the_file(void **state)
{
	struct bench *b = bench_make(true);
	struct writer w;
	size_t len = 1000 * 4096 + 1000 * 8192 + 300 * 16384 + 77;

	(void)state;
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	b->config.stream_quiet_ms = QUIET_MS;
	b->part_size_bytes = 4096;
	bench_open_store(b);
	bench_open_upload(b);
	w = begin_file(b, "p/big", 1500 * 4096);
	quiet_until_parts(b, 1250);
	write_at(&w, w.len, len - w.len, 2);
	quiet_until_parts(b, 2300);
	write_at(&w, 1000 * 4096 + 5, 1, 3);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	assert_int_equal(parts(b), 2302);
	assert_int_equal(fake_count(b->fake, S3_LIST_PARTS), 3);
	close_bench(b);
}

static void test_small_files_go_on(void **state)
{
	struct bench *b = bench_make(true);
	struct writer w;
	uint64_t small;

	(void)state;
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	b->config.stream_quiet_ms = QUIET_MS;
	b->config.max_transfers = 4;
	bench_open_store(b);
	bench_open_upload(b);
	w = begin_file(b, "p/big", 40 * PART);
	fake_set_hold(b->fake, S3_UPLOAD_PART, true);
	clock_fake_advance_ms(QUIET_MS);
	wait_advancing(20, parts(b) == 4);
	small = write_text(b, "p/small", "hello");
	wait_advancing(20, state_of(b, small) == FILE_QUEUED);
	lock_take(&b->fake->lock); /* one part ends; its slot goes to the small file */
	b->fake->first->cancelled = true;
	cond_broadcast(&b->fake->wake);
	lock_drop(&b->fake->lock);
	wait_advancing(20, state_of(b, small) == FILE_UPLOADED);
	fake_set_hold(b->fake, S3_UPLOAD_PART, false);
	writer_close(&w, false);
	check_sent(&w, "p/big");
	close_bench(b);
}

/* Many slow writers: none waits for another's close. */
static void test_many_writers(void **state)
{
	struct bench *b = open_bench(true);
	struct writer w[20];
	char path[32];

	(void)state;
	for (unsigned i = 0; i < array_len(w); i++) {
		snprintf(path, sizeof(path), "p/big%u", i);
		w[i] = begin_file(b, path, 3 * PART);
	}
	quiet_until_parts(b, 60);
	for (unsigned i = 0; i < array_len(w); i++) {
		snprintf(path, sizeof(path), "p/big%u", i);
		writer_close(&w[i], false);
		wait_advancing(20, state_of(b, w[i].ino) == FILE_UPLOADED);
		assert_true(fake_has(b->fake, path, w[i].data, w[i].len));
		free(w[i].data);
	}
	assert_int_equal(parts(b), 60);
	assert_int_equal(fake_open_uploads(b->fake), 0);
	close_bench(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts_before_the_close),
		cmocka_unit_test(test_a_trickle_of_two_hours),
		cmocka_unit_test(test_quick_writer),
		cmocka_unit_test(test_switched_off),
		cmocka_unit_test(test_header_rewritten),
		cmocka_unit_test(test_rewritten_again_and_again),
		cmocka_unit_test(test_written_while_sent),
		cmocka_unit_test(test_written_after_it_was_read),
		cmocka_unit_test(test_allocated_first),
		cmocka_unit_test(test_truncated_below_the_threshold),
		cmocka_unit_test(test_truncated_and_short_of_memory),
		cmocka_unit_test(test_truncated_and_grown),
		cmocka_unit_test(test_cut_at_a_part_s_end),
		cmocka_unit_test(test_renamed),
		cmocka_unit_test(test_unlinked),
		cmocka_unit_test(test_replaced_by_a_rename),
		cmocka_unit_test(test_held_name),
		cmocka_unit_test(test_cut_off_and_gone_on_with),
		cmocka_unit_test(test_cut_off_and_accepted),
		cmocka_unit_test(test_cut_off_and_left),
		cmocka_unit_test(test_cut_off_when_small),
		cmocka_unit_test(test_killed_and_gone_on_with),
		cmocka_unit_test(test_killed_at_each_request),
		cmocka_unit_test(test_restarts_do_not_keep_it_for_ever),
		cmocka_unit_test(test_conflict_appears_meanwhile),
		cmocka_unit_test(test_theirs_is_there),
		cmocka_unit_test(test_ours_is_there),
		cmocka_unit_test(test_paused_by_hand),
		cmocka_unit_test(test_credentials),
		cmocka_unit_test(test_denied),
		cmocka_unit_test(test_create_answer_lost),
		cmocka_unit_test(test_no_such_upload),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_refused_by_the_disk),
		cmocka_unit_test(test_opened_again),
		cmocka_unit_test(test_parts_grow_along_the_file),
		cmocka_unit_test(test_small_files_go_on),
		cmocka_unit_test(test_many_writers),
	};
	cmocka_set_test_filter(getenv("TEST_FILTER"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
