/*
 * Files that are sent while they are written: who is told of, which chunks are quiet, and that a
 * recorded CRC is always that of the bytes: under threads, and after a kill at any write.
 */
#include "store_disk.h"

#include <semaphore.h>

#define P RIG_PART_BYTES
#define STREAM_BYTES (2u * P)
#define QUIET_MS 5000

struct heard {
	unsigned growing;
};

static void on_growing(void *user)
{
	((struct heard *)user)->growing++;
}

static struct heard *listen_to(struct rig *r)
{
	static struct heard heard;
	struct store_events events = {.user = &heard, .growing = on_growing};

	heard = (struct heard){0};
	store_subscribe(r->s, &events);
	return &heard;
}

static int setup_open(void **state, bool fake_clock)
{
	struct rig *r = calloc(1, sizeof(*r));

	rig_context[0] = '\0';
	if (fake_clock)
		clock_fake_begin(T0_NS);
	rig_make(r);
	r->fake_clock = fake_clock;
	r->config.stream_bytes = STREAM_BYTES;
	rig_open(r);
	*state = r;
	return 0;
}

static int setup(void **state)
{
	return setup_open(state, true);
}

static int setup_real_clock(void **state)
{
	return setup_open(state, false);
}

/* A file being written, of so many chunks. */
static struct store_file *begin_file(struct rig *r, uint64_t *ret_ino, unsigned chunks)
{
	struct store_file *f;

	*ret_ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	f = rig_write_begin(r, *ret_ino);
	rig_write_pattern(f, 0, (size_t)chunks * P, 1);
	return f;
}

/* "Rq." = recorded and not quiet, quiet and not recorded, neither */
static const char *look(struct store_file *f)
{
	static char text[STORE_CHUNKS_MAX + 1];
	uint8_t flags[STORE_CHUNKS_MAX];
	int64_t due_ms;
	size_t n = store_stream_look(f, QUIET_MS, flags, sizeof(flags), &due_ms);

	for (size_t i = 0; i < n; i++)
		text[i] = flags[i] & STORE_CHUNK_RECORDED ? 'R'
			  : flags[i] & STORE_CHUNK_QUIET  ? 'q'
							  : '.';
	text[n] = '\0';
	return text;
}

static uint64_t crc_now(struct store_file *f, uint64_t n)
{
	uint8_t data[P];
	uint64_t chunk;

	must_eq(store_file_read(f, data, P, n * P, &chunk), P);
	return crc64nvme(0, data, P);
}

static void record(struct store_file *f, uint64_t n)
{
	uint32_t mark;

	must_eq(store_stream_begin(f, n, QUIET_MS, &mark), 0);
	must_eq(store_stream_digested(f, n, mark, crc_now(f, n)), 0);
}

static struct store_chunk chunk_at(struct rig *r, uint64_t ino, uint64_t n)
{
	struct store_chunk c = {0};

	must_eq(store_chunk(r->s, ino, n, &c), 0);
	return c;
}

/* ---- who grows ------------------------------------------------------------------------------ */

static void told_once_when_it_grows(void **state)
{
	struct rig *r = *state;
	struct heard *heard = listen_to(r);
	uint64_t ino, out[4];
	struct store_file *f = begin_file(r, &ino, 2);

	must_eq(heard->growing, 0);
	must_eq(store_growing(r->s, 0, out, 4), 0);
	rig_write_pattern(f, 2 * P, 1, 1);
	must_eq(heard->growing, 1);
	must_eq(store_growing(r->s, 0, out, 4), 1);
	must_eq(out[0], ino);
	must_eq(store_growing(r->s, ino, out, 4), 0);
	rig_write_pattern(f, 2 * P, 3 * P, 1);
	must_eq(heard->growing, 1);
	must_eq(store_file_flush(f, false, NULL), 0);
	must_eq(store_growing(r->s, 0, out, 4), 0); /* closed */
	rig_write_pattern(f, 0, 1, 2);
	must_eq(store_growing(r->s, 0, out, 4), 1); /* opened again */
	rig_write_end(f);
	must_eq(store_growing(r->s, 0, out, 4), 0);
}

static void small_files_are_not_watched(void **state)
{
	struct rig *r = *state;
	struct heard *heard = listen_to(r);
	uint64_t ino;
	struct store_file *f = begin_file(r, &ino, 2);
	uint32_t mark;

	clock_fake_advance_ms(QUIET_MS);
	must_text(look(f), "..");
	must_eq(store_stream_begin(f, 0, QUIET_MS, &mark), -EAGAIN);
	rig_write_end(f);
	must_eq(heard->growing, 0);
}

static void pages_of_growing_files(void **state)
{
	struct rig *r = *state;
	struct store_file *f[7];
	uint64_t inos[7], out[3], after = 0;
	unsigned seen = 0;

	for (unsigned i = 0; i < 7; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%u", i);
		inos[i] = rig_create(r, STORE_ROOT_INO, name, STORE_FILE);
	}
	for (unsigned i = 0; i < 7; i++) {
		f[i] = rig_write_begin(r, inos[(i * 3) % 7]);
		rig_write_pattern(f[i], 0, 3 * P, i);
	}
	for (size_t n; (n = store_growing(r->s, after, out, 3)) > 0; after = out[n - 1])
		for (size_t i = 0; i < n; i++)
			must_eq(out[i], inos[seen++]);
	must_eq(seen, 7);
	rig_write_end(f[3]);
	must_eq(store_growing(r->s, inos[2 * 3 % 7], out, 3), 0);
	for (unsigned i = 0; i < 7; i++)
		if (i != 3)
			rig_write_end(f[i]);
}

/* ---- quiet ---------------------------------------------------------------------------------- */

static void quiet_after_the_last_write(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = begin_file(r, &ino, 3);
	uint8_t flags[8];
	int64_t due_ms;
	uint32_t mark;

	must_text(look(f), "...");
	clock_fake_advance_ms(QUIET_MS - 1);
	must_text(look(f), "...");
	rig_write_pattern(f, P + 5, 1, 2);
	rig_write_pattern(f, 3 * P, P - 1, 1); /* not whole yet */
	clock_fake_advance_ms(1);
	must_text(look(f), "q.q");
	must_eq(store_stream_look(f, QUIET_MS, flags, 8, &due_ms), 3);
	must_eq(due_ms, clock_mono_ms() + QUIET_MS - 1);
	must_eq(store_stream_look(f, QUIET_MS, flags, 2, &due_ms), 2);
	must_eq(store_stream_begin(f, 1, QUIET_MS, &mark), -EAGAIN);
	must_eq(store_stream_begin(f, 3, QUIET_MS, &mark), -EAGAIN);
	must_eq(store_stream_begin(f, 0, 2 * QUIET_MS, &mark), -EAGAIN); /* as long as asked for */
	rig_write_pattern(f, 4 * P - 1, 1, 1);
	clock_fake_advance_ms(QUIET_MS);
	must_text(look(f), "qqqq");
	rig_write_pattern(f, P - 1, 2, 1); /* touches two */
	must_text(look(f), "..qq");
	rig_write_end(f);
}

static void holes_are_not_sent(void **state)
{
	struct rig *r = *state;
	uint64_t ino, chunk;
	struct store_file *f = begin_file(r, &ino, 1);
	uint32_t mark;

	must_eq(store_file_truncate(f, 6 * P, &chunk), 0);
	must_eq(store_file_fallocate(f, 0, 6 * P, 2 * P, &chunk), 0);
	clock_fake_advance_ms(QUIET_MS);
	must_text(look(f), "qqqqqqqq");
	must_eq(store_stream_begin(f, 0, QUIET_MS, &mark), 0);
	for (uint64_t n = 1; n < 8; n++)
		must_eq(store_stream_begin(f, n, QUIET_MS, &mark), -EAGAIN);
	rig_write_pattern(f, 3 * P, P, 1);
	clock_fake_advance_ms(QUIET_MS);
	must_eq(store_stream_begin(f, 3, QUIET_MS, &mark), 0);
	rig_write_end(f);
}

/* ---- records -------------------------------------------------------------------------------- */

static void recorded_until_it_changes(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = begin_file(r, &ino, 4);
	struct store_chunk c;

	clock_fake_advance_ms(QUIET_MS);
	record(f, 0);
	record(f, 2);
	must_text(look(f), "RqRq");
	c = chunk_at(r, ino, 2);
	must(c.has_crc64nvme);
	must_eq(c.crc64nvme, crc_now(f, 2));
	record(f, 2); /* again the same: no harm */
	rig_write_pattern(f, 3 * P - 1, 1, 9);
	must_text(look(f), "Rq.q");
	must(!chunk_at(r, ino, 2).has_crc64nvme);
	must(chunk_at(r, ino, 0).has_crc64nvme);
	rig_write_end(f);
}

/* Growing changes the last chunk, unless it is full. */
static void appending_voids_no_full_chunk(void **state)
{
	struct rig *r = *state;
	uint64_t ino, chunk;
	struct store_file *f = begin_file(r, &ino, 3);

	clock_fake_advance_ms(QUIET_MS);
	record(f, 2);
	rig_write_pattern(f, 3 * P, 10, 1);
	must(chunk_at(r, ino, 2).has_crc64nvme);
	must_eq(store_file_truncate(f, 3 * P, &chunk), 0);
	must_eq(store_file_truncate(f, 5 * P, &chunk), 0);
	must(chunk_at(r, ino, 2).has_crc64nvme);
	must_eq(store_file_truncate(f, 3 * P - 1, &chunk), 0);
	must_eq(store_file_truncate(f, 3 * P, &chunk), 0);
	must(!chunk_at(r, ino, 2).has_crc64nvme);
	rig_write_end(f);
}

static void truncate_to(struct store_file *f, uint64_t size)
{
	uint64_t chunk;

	must_eq(store_file_truncate(f, size, &chunk), 0);
}

static void zero(struct store_file *f, uint64_t off)
{
	uint64_t chunk;
	int r = store_file_fallocate(
		f, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, 100, &chunk);

	if (r == -EOPNOTSUPP)
		rig_write_pattern(f, off, 100, 77);
	else
		must_eq(r, 0);
}

static void punch(struct store_file *f, uint64_t off)
{
	uint64_t chunk;

	must_eq(store_file_fallocate(
			f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, 100, &chunk),
		0);
}

static void one_byte(struct store_file *f, uint64_t off)
{
	rig_write_pattern(f, off, 1, 8);
}

/* Everything that changes a chunk between its reading and its record. */
static void changed_while_it_was_read(void **state)
{
	static void (*const changes[])(struct store_file *, uint64_t) = {
		truncate_to, zero, punch, one_byte};
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = begin_file(r, &ino, 4);

	for (size_t i = 0; i < array_len(changes); i++) {
		uint32_t mark;
		uint64_t crc;

		rig_write_pattern(f, 0, 4 * P, 1);
		clock_fake_advance_ms(QUIET_MS);
		must_eq(store_stream_begin(f, 2, QUIET_MS, &mark), 0);
		crc = crc_now(f, 2);
		changes[i](f, 2 * P + 50);
		clock_fake_advance_ms(QUIET_MS);
		must_eq(store_stream_digested(f, 2, mark, crc), -ESTALE);
		rig_write_pattern(
			f, 0, 4 * P, 1); /* the same bytes again: the mark is old all the same */
		clock_fake_advance_ms(QUIET_MS);
		must_eq(store_stream_digested(f, 2, mark, crc), -ESTALE);
		record(f, 0);
		record(f, 1);
	}
	rig_write_end(f);
}

/* A change of the voided chunk's neighbour says nothing about it. */
static void marks_are_of_one_chunk(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = begin_file(r, &ino, 4);
	uint32_t mark;

	clock_fake_advance_ms(QUIET_MS);
	must_eq(store_stream_begin(f, 2, QUIET_MS, &mark), 0);
	one_byte(f, 3 * P);
	one_byte(f, 2 * P - 1);
	rig_write_pattern(f, 4 * P, 40 * P, 1); /* the table of chunks moves */
	must_eq(store_stream_digested(f, 2, mark, crc_now(f, 2)), 0);
	rig_write_end(f);
}

/* The disk's doing: the record stands, the bytes are others. */
static void damage_is_noticed(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = begin_file(r, &ino, 3);
	uint32_t mark;

	clock_fake_advance_ms(QUIET_MS);
	record(f, 1);
	must_eq(pwrite(store_file_fd(f), "damage", 6, P + 7), 6);
	must_eq(store_stream_begin(f, 1, QUIET_MS, &mark), 0);
	must_eq(store_stream_digested(f, 1, mark, crc_now(f, 1)), -EIO);
	rig_write_end(f);
}

static void own_descriptor(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = begin_file(r, &ino, 1);
	uint8_t want[P], got[P];
	int fd;

	rig_pattern(want, P, 0, 1);
	must_eq(store_stream_open(f, &fd), 0);
	must_eq(pread(fd, got, P, 0), P);
	must(memcmp(got, want, P) == 0);
	must_eq(pwrite(fd, "x", 1, 0), -1);
	close(fd);
	rig_write_end(f);
}

/* ---- a write that is held up at the disk ---------------------------------------------------- */

static struct {
	sem_t at_disk, go_on;
	_Atomic bool hold;
} held;

static void stand(void)
{
	if (!atomic_exchange(&held.hold, false))
		return;
	sem_post(&held.at_disk);
	sem_wait(&held.go_on);
}

static void hold_data_writes(enum disk_call call, enum disk_file file)
{
	if (call == DISK_WRITE && file == DISK_DATA)
		stand();
}

static void hold_journal_syncs(enum disk_call call, enum disk_file file)
{
	if (call == DISK_SYNC && file == DISK_JOURNAL)
		stand();
}

static void *write_held(void *arg)
{
	rig_write_pattern(arg, P + 100, 10, 7);
	return NULL;
}

static void hold_a_write(
	struct store_file *f, void (*hook)(enum disk_call, enum disk_file), pthread_t *ret_writer)
{
	sem_init(&held.at_disk, 0, 0);
	sem_init(&held.go_on, 0, 0);
	held.hold = true;
	disk_on(DISK_PASS, 0, 0);
	disk.hook = hook;
	must_eq(pthread_create(ret_writer, NULL, write_held, f), 0);
	sem_wait(&held.at_disk);
}

static void let_it_go(pthread_t writer)
{
	sem_post(&held.go_on);
	must_eq(pthread_join(writer, NULL), 0);
	disk_off();
	sem_destroy(&held.at_disk);
	sem_destroy(&held.go_on);
}

static void not_quiet_while_it_is_written(void **state)
{
	struct rig *r = *state;
	uint64_t ino, crc;
	struct store_file *f = begin_file(r, &ino, 3);
	pthread_t writer;
	uint32_t mark;

	clock_fake_advance_ms(QUIET_MS);
	must_eq(store_stream_begin(f, 1, QUIET_MS, &mark), 0);
	crc = crc_now(f, 1);
	hold_a_write(f, hold_data_writes, &writer);
	clock_fake_advance_ms(10 * QUIET_MS);
	must_text(look(f), "q.q");
	must_eq(store_stream_digested(f, 1, mark, crc), -ESTALE);
	must_eq(store_stream_begin(f, 1, QUIET_MS, &mark), -EAGAIN);
	let_it_go(writer);
	must_text(look(f), "q.q"); /* from its end on */
	clock_fake_advance_ms(QUIET_MS);
	record(f, 1);
	rig_write_end(f);
}

/* A write that began before the file was large enough to be watched. */
static void writes_from_before_are_waited_for(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = begin_file(r, &ino, 2);
	pthread_t writer;
	uint32_t mark;

	hold_a_write(f, hold_data_writes, &writer);
	rig_write_pattern(f, 2 * P, P, 1);
	clock_fake_advance_ms(10 * QUIET_MS);
	must_text(look(f), "...");
	must_eq(store_stream_begin(f, 1, QUIET_MS, &mark), -EAGAIN);
	let_it_go(writer);
	must_text(look(f), "..q");
	clock_fake_advance_ms(QUIET_MS);
	must_text(look(f), "qqq");
	record(f, 1);
	rig_write_end(f);
}

struct late {
	struct store_file *f;
	uint32_t mark;
	uint64_t crc;
	int result;
	_Atomic bool done;
};

static void *digested_late(void *arg)
{
	struct late *l = arg;

	l->result = store_stream_digested(l->f, 1, l->mark, l->crc);
	l->done = true;
	return NULL;
}

/* The change of a durable version waits for the sync of what voids its records, without the lock:
 * no record may come in between. */
static void no_record_between_voiding_and_change(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct late l = {.f = begin_file(r, &ino, 3)};
	pthread_t writer, late;

	must_eq(store_file_flush(l.f, false, NULL), 0);
	must_eq(store_file_sync(l.f, false), 0);
	clock_fake_advance_ms(QUIET_MS);
	must_eq(store_stream_begin(l.f, 1, QUIET_MS, &l.mark), 0);
	l.crc = crc_now(l.f, 1);
	hold_a_write(l.f, hold_journal_syncs, &writer);
	must_eq(pthread_create(&late, NULL, digested_late, &l), 0);
	for (int i = 0; i < 50; i++) {
		usleep(1000); /* however long we look */
		must(!l.done);
	}
	let_it_go(writer);
	must_eq(pthread_join(late, NULL), 0);
	must_eq(l.result, -ESTALE);
	must(!chunk_at(r, ino, 1).has_crc64nvme);
	rig_write_end(l.f);
}

/* ---- threads -------------------------------------------------------------------------------- */

#define HAMMER_CHUNKS 4
#define HAMMER_WRITES 3000

struct streamer {
	struct rig *r;
	struct store_file *f;
	uint64_t ino;
	_Atomic bool stop;
	_Atomic unsigned recorded, stale;
};

static void *hammer(void *arg)
{
	struct streamer *s = arg;
	struct store_file *f = s->f;
	uint64_t seed = (uint64_t)(uintptr_t)&seed;

	/* on a slow machine until they have met */
	for (unsigned i = 0; i < HAMMER_WRITES || (!s->stale && i < 100 * HAMMER_WRITES); i++) {
		uint64_t off = rig_random(&seed) % ((HAMMER_CHUNKS - 1) * P), chunk;

		if (i % 500 == 499)
			must_eq(store_file_truncate(f, (HAMMER_CHUNKS + i % 2) * P, &chunk), 0);
		else
			rig_write_pattern(f, off, 1 + rig_random(&seed) % P, i);
	}
	return NULL;
}

static void *stream(void *arg)
{
	struct streamer *s = arg;

	for (uint64_t n = 0; !s->stop; n = (n + 1) % HAMMER_CHUNKS) {
		uint8_t data[P];
		uint64_t chunk;
		uint32_t mark;
		int r;

		if (store_stream_begin(s->f, n, 0, &mark) < 0 ||
			store_file_read(s->f, data, P, n * P, &chunk) != P)
			continue;
		r = store_stream_digested(s->f, n, mark, crc64nvme(0, data, P));
		must(r == 0 || r == -ESTALE);
		s->recorded += r == 0;
		s->stale += r != 0;
	}
	return NULL;
}

/* What stands recorded in the end is what stands in the file. */
static void records_under_threads(void **state)
{
	struct rig *r = *state;
	struct streamer s = {.r = r};
	pthread_t streamer, writers[2];

	s.f = begin_file(r, &s.ino, HAMMER_CHUNKS);
	must_eq(pthread_create(&streamer, NULL, stream, &s), 0);
	for (unsigned i = 0; i < 2; i++)
		must_eq(pthread_create(&writers[i], NULL, hammer, &s), 0);
	for (unsigned i = 0; i < 2; i++)
		must_eq(pthread_join(writers[i], NULL), 0);
	for (unsigned tries = 0; !s.recorded; tries++) {
		must(tries < 20000);
		usleep(1000);
	}
	s.stop = true;
	must_eq(pthread_join(streamer, NULL), 0);
	for (uint64_t n = 0; n < HAMMER_CHUNKS; n++) {
		struct store_chunk c = chunk_at(r, s.ino, n);

		if (c.has_crc64nvme)
			must_eq(c.crc64nvme, crc_now(s.f, n));
	}
	must(s.stale > 0);
	rig_write_end(s.f);
}

/* ---- kill ----------------------------------------------------------------------------------- */

struct kill_case {
	long at;
	bool *passed; /* shared */
};

/* Parts are sent of a file being written, then its beginning is rewritten. */
static void write_and_rewrite(struct rig *r, void *arg)
{
	struct kill_case *k = arg;
	uint64_t ino;
	struct store_file *f = begin_file(r, &ino, 5);
	struct store_attempt a = rig_attempt(r, ino, ATTEMPT_MULTIPART, "f");

	a.phase = ATTEMPT_STREAMING;
	must_eq(store_attempt_begin(r->s, &a, FILE_NONE), 0);
	clock_fake_advance_ms(QUIET_MS);
	disk_on(DISK_KILL_HALF, k->at, 0);
	disk.calls_mask = 1u << DISK_WRITE;
	for (uint64_t n = 0; n < 4; n++) {
		record(f, n);
		must_eq(store_attempt_part(r->s, a.id, n, crc_now(f, n), "etag"), 0);
	}
	rig_write_pattern(f, 10, 2 * P, 9);
	rig_write_pattern(f, 10, 2 * P, 10);
	must_eq(store_file_truncate(f, 3 * P + 1, &(uint64_t){0}), 0);
	clock_fake_advance_ms(QUIET_MS);
	record(f, 0);
	must_eq(store_attempt_part(r->s, a.id, 0, crc_now(f, 0), "etag2"), 0);
	rig_write_pattern(f, 0, 1, 11);
	disk_off();
	*k->passed = true;
}

/* Killed at the 1st, 2nd, 3rd … write: no part is taken for sent whose bytes are others. */
static void killed_anywhere(void **state)
{
	struct rig *r = *state;
	struct kill_case k = {.passed = rig_shared(sizeof(bool))};
	unsigned sent = 0;

	rig_close(r);
	for (k.at = 1; !*k.passed; k.at++) {
		struct store_attempt out[2];
		struct store_file *f;
		uint64_t ino;

		snprintf(rig_context, sizeof(rig_context), "killed at write %ld", k.at);
		rig_empty(r);
		rig_child(r, write_and_rewrite, &k, CHILD_KILLED);
		rig_open(r);
		ino = rig_find(r, "f");
		must_state(rig_state(r, ino), FILE_INCOMPLETE);
		must_eq(store_attempts(r->s, 0, out, 2), 1);
		must_eq(out[0].phase, ATTEMPT_STREAMING);
		f = rig_file(r, ino);
		for (uint64_t n = 0; n < rig_inode(r, ino)->chunk_count; n++) {
			struct store_chunk c = chunk_at(r, ino, n);

			must(c.has_crc64nvme || !c.part_attempt);
			if (c.has_crc64nvme)
				must_eq(c.crc64nvme, crc_now(f, n));
			sent += c.part_attempt == out[0].id;
		}
		store_file_close(f);
		rig_close(r);
	}
	must(k.at > 15);
	must(sent > 10);
}

/* ---- the attempt ---------------------------------------------------------------------------- */

static void taken_by_the_closed_version(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = begin_file(r, &ino, 3);
	struct store_attempt a = rig_attempt(r, ino, ATTEMPT_MULTIPART, "f"), other, got[2];

	a.phase = ATTEMPT_STREAMING;
	must_eq(store_attempt_begin(r->s, &a, FILE_NONE), 0);
	must_state(rig_state(r, ino), FILE_OPEN);
	rig_write_end(f);
	must_eq(rig_step(r, ino, FILE_CLOSED, FILE_SETTLED, ""), 0);
	other = rig_attempt(r, ino, ATTEMPT_MULTIPART, "f");
	other.id = a.id;
	must_eq(store_attempt_take(r->s, &other, FILE_QUEUED), -ESTALE); /* not yet */
	must_eq(rig_digest(r, ino, FILE_QUEUED), 0);
	rig_reopen(r);
	other.generation++;
	must_eq(store_attempt_take(r->s, &other, FILE_QUEUED), -ESTALE);
	other.generation--;
	other.id++;
	must_eq(store_attempt_take(r->s, &other, FILE_QUEUED), -ESTALE);
	other.id--;
	(void)text_copy(other.key, "g", sizeof(other.key));
	must_eq(store_attempt_take(r->s, &other, FILE_QUEUED), -ESTALE);
	(void)text_copy(other.key, "f", sizeof(other.key));
	must_eq(store_attempt_take(r->s, &other, FILE_QUEUED), 0);
	must_state(rig_state(r, ino), FILE_SENDING);
	must_eq(store_attempts(r->s, 0, got, 2), 1);
	must_eq(got[0].phase, ATTEMPT_OPEN);
	must_eq(store_attempt_take(r->s, &other, FILE_QUEUED), -ESTALE); /* once */
}

/* Unlinked while its upload stands: it goes with the attempt. */
static void unlinked_meanwhile(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = begin_file(r, &ino, 3);
	struct store_attempt a = rig_attempt(r, ino, ATTEMPT_MULTIPART, "f");
	bool applied;

	a.phase = ATTEMPT_STREAMING;
	must_eq(store_attempt_begin(r->s, &a, FILE_NONE), 0);
	rig_write_end(f);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 600000), 0);
	must_state(rig_state(r, ino), FILE_DELETING);
	must_eq(store_attempt_end(r->s, a.id, NULL, NULL, "", 0, &applied), 0);
	must_eq(rig_attr_error(r, ino), -ENOENT);
	must_eq(rig_data_files(r), 0);
}

#define stream_test(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		stream_test(told_once_when_it_grows),
		stream_test(small_files_are_not_watched),
		stream_test(pages_of_growing_files),
		stream_test(quiet_after_the_last_write),
		stream_test(holes_are_not_sent),
		stream_test(recorded_until_it_changes),
		stream_test(appending_voids_no_full_chunk),
		stream_test(changed_while_it_was_read),
		stream_test(marks_are_of_one_chunk),
		stream_test(damage_is_noticed),
		stream_test(own_descriptor),
		stream_test(not_quiet_while_it_is_written),
		stream_test(writes_from_before_are_waited_for),
		stream_test(no_record_between_voiding_and_change),
		cmocka_unit_test_setup_teardown(
			records_under_threads, setup_real_clock, rig_teardown),
		stream_test(killed_anywhere),
		stream_test(taken_by_the_closed_version),
		stream_test(unlinked_meanwhile),
	};

	return cmocka_run_group_tests_name("store stream", tests, NULL, NULL);
}
