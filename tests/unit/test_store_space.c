/*
 * Room: who may write, who must wait, who cannot; what is evicted, in which order, and when its bytes
 * may go.
 */
#include "store_disk.h"

#include <sys/vfs.h>
#include <time.h>

#define P RIG_PART_BYTES
#define ROOM (16 * P)
#define DEADLINE_S 20

static void rig_small(struct rig *r)
{
	r->config.cache_size_bytes = ROOM;
	rig_reopen(r);
}

static struct store_space space_of(struct rig *r)
{
	struct store_space space;

	store_space(r->s, &space);
	return space;
}

static int try_write(struct rig *r, const char *name, size_t len)
{
	uint64_t ino = rig_create(r, STORE_ROOT_INO, name, STORE_FILE), chunk;
	struct store_file *f = rig_write_begin(r, ino);
	cleanup_free uint8_t *data = malloc(len);
	int e;

	rig_pattern(data, len, 0, 1);
	e = store_file_write(f, data, len, 0, false, &chunk);
	store_file_writer_drop(f);
	store_file_close(f);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, name, 0), 0);
	return e;
}

static bool present(struct rig *r, uint64_t ino)
{
	struct store_chunk c;

	must_eq(store_chunk(r->s, ino, 0, &c), 0);
	return c.present;
}

/* ---- accounting --------------------------------------------------------------------------------------------- */

static void used_pending_and_evictable(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_space s;

	rig_small(r);
	must_eq(space_of(r).used_bytes, 0);
	must_eq(space_of(r).size_bytes, ROOM);
	ino = rig_put(r, STORE_ROOT_INO, "f", 3 * P + 7, 1);
	(void)rig_put(r, STORE_ROOT_INO, "g", 100, 1);
	s = space_of(r);
	must_eq(s.used_bytes, 3 * P + 107);
	must_eq(s.pending_bytes, 3 * P + 107);
	must_eq(s.evictable_bytes, 0);
	rig_bring(r, ino, FILE_VERIFIED);
	s = space_of(r);
	must_eq(s.used_bytes, 3 * P + 107);
	must_eq(s.pending_bytes, 100);
	must_eq(s.evictable_bytes, 3 * P + 7);
	rig_reopen(r);
	must_eq(space_of(r).used_bytes, 3 * P + 107);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	s = space_of(r);
	must_eq(s.used_bytes, 100);
	must_eq(s.pending_bytes, 100);
	must_eq(s.evictable_bytes, 0);
	must_eq(rig_data_files(r), 1);
}

/* Bytes written to an open file count before its close, once. */
static void growth_counts_at_once(void **state)
{
	struct rig *r = *state;
	uint64_t ino, chunk;
	struct store_file *f;

	rig_small(r);
	ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, 1000, 1);
	must_eq(space_of(r).used_bytes, 1000);
	rig_write_pattern(f, 500, 1000, 1);
	must_eq(space_of(r).used_bytes, 1500);
	must_eq(store_file_flush(f, false, NULL), 0);
	must_eq(space_of(r).used_bytes, 1500);
	must_eq(store_file_truncate(f, 300, &chunk), 0);
	rig_write_end(f);
	must_eq(space_of(r).used_bytes, 300);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
	must_eq(space_of(r).used_bytes, 0);
}

/* ---- the gate ------------------------------------------------------------------------------------------------- */

static void full_of_pending_waits(void **state)
{
	static const enum file_state pending[] = {
		FILE_CLOSED, FILE_SETTLED, FILE_QUEUED, FILE_SENDING, FILE_UPLOADED, FILE_VERIFIED};
	struct rig *r = *state;

	rig_small(r);
	for (size_t i = 0; i < array_len(pending); i++) {
		uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", ROOM - P, 1);

		snprintf(rig_context, sizeof(rig_context), "full of %s", file_state_text(pending[i]));
		rig_bring(r, ino, pending[i]);
		must_eq(try_write(r, "x", 2 * P), -EDQUOT);
		must_eq(try_write(r, "y", P), 0);
		if (pending[i] == FILE_SENDING) { /* ends it, so that it can go */
			struct store_attempt *a = calloc(1, sizeof(*a));
			bool applied;

			must_eq(store_attempts(r->s, 0, a, 1), 1);
			must_eq(store_attempt_end(r->s, a->id, NULL, NULL, "f", 0, &applied), 0);
			free(a);
		}
		must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
		if (rig_attr_error(r, ino) == 0)
			must_eq(store_forget(r->s, ino), 0);
	}
	rig_context[0] = '\0';
	must_eq(space_of(r).used_bytes, 0);
}

/* Waiting would not help: a person is needed. */
static void full_of_what_needs_a_person_does_not_wait(void **state)
{
	static const enum file_state stuck[] = {FILE_HELD, FILE_CONFLICT, FILE_FAILED};
	struct rig *r = *state;

	rig_small(r);
	for (size_t i = 0; i < array_len(stuck); i++) {
		uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", ROOM - P, 1);

		snprintf(rig_context, sizeof(rig_context), "full of %s", file_state_text(stuck[i]));
		rig_bring(r, ino, stuck[i]);
		must_eq(try_write(r, "x", 2 * P), -ENOSPC);
		(void)rig_put(r, STORE_ROOT_INO, "small", 100, 1); /* this one will go */
		must_eq(try_write(r, "x", 2 * P), -EDQUOT);
		must_eq(store_discard(r->s, ino, rig_attr(r, ino).generation, stuck[i]), 0);
		must_eq(store_unlink(r->s, STORE_ROOT_INO, "small", 0), 0);
	}
	rig_context[0] = '\0';
}

static void one_file_beyond_the_buffer(void **state)
{
	struct rig *r = *state;
	uint64_t ino, chunk;
	struct store_file *f;

	rig_small(r);
	must_eq(try_write(r, "x", ROOM + 1), -ENOSPC);
	must_eq(try_write(r, "x", ROOM), 0);
	ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, ROOM - 10, 1);
	must_eq(store_file_write(f, "12345678901", 11, ROOM - 10, false, &chunk), -ENOSPC);
	must_eq(store_file_truncate(f, ROOM + 1, &chunk), -ENOSPC);
	must_eq(store_file_fallocate(f, 0, 0, ROOM + 1, &chunk), -ENOSPC);
	store_file_writer_drop(f);
	store_file_close(f);
}

/* Changing bytes in place takes no more room. */
static void rewriting_needs_no_room(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f;

	rig_small(r);
	ino = rig_put(r, STORE_ROOT_INO, "f", ROOM, 1);
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, ROOM, 2);
	rig_write_end(f);
	rig_must_hold(r, ino, ROOM, 2);
	must_eq(space_of(r).used_bytes, ROOM);
}

static void refused_write_leaves_a_closed_file_alone(void **state)
{
	struct rig *r = *state;
	uint64_t ino, chunk;
	struct store_file *f;

	rig_small(r);
	ino = rig_put(r, STORE_ROOT_INO, "f", ROOM - 10, 1);
	f = rig_write_begin(r, ino);
	must_eq(store_file_write(f, "12345678901", 11, ROOM - 10, false, &chunk), -ENOSPC);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must_eq(rig_attr(r, ino).generation, 1);
	rig_must_hold(r, ino, ROOM - 10, 1);
}

/* A program that got an error from a write must not leave a file that counts as whole. */
static void file_with_a_refused_write_is_incomplete(void **state)
{
	struct rig *r = *state;
	uint64_t ino, chunk;
	struct store_file *f;

	rig_small(r);
	ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, ROOM - 10, 1);
	must_eq(store_file_write(f, "12345678901", 11, ROOM - 10, false, &chunk), -ENOSPC);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
}

static void min_free_is_kept(void **state)
{
	struct rig *r = *state;

	r->config.min_free_bytes = UINT64_C(1) << 60;
	rig_reopen(r);
	must_eq(space_of(r).size_bytes, 0);
	must_eq(try_write(r, "x", 1), -ENOSPC);
}

static void waiters_are_let_in_after_eviction(void **state)
{
	struct rig *r = *state;
	uint64_t ino;

	rig_small(r);
	ino = rig_put(r, STORE_ROOT_INO, "f", ROOM, 1);
	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(try_write(r, "x", 1), -EDQUOT);
	must_eq(store_evict(r->s, 1), 0);
	must_eq(try_write(r, "x", ROOM), 0);
}

/* ---- events ----------------------------------------------------------------------------------------------------- */

static _Atomic unsigned freed;

static void on_room_freed(void *user)
{
	lock_assert_none_held();
	freed++;
}

static void eviction_says_so(void **state)
{
	struct store_events events = {.room_freed = on_room_freed};
	struct rig *r = *state;
	uint64_t ino;

	rig_small(r);
	freed = 0;
	store_subscribe(r->s, &events);
	ino = rig_put(r, STORE_ROOT_INO, "f", ROOM, 1);
	must_eq(store_evict(r->s, 1), 0);
	must_eq(freed, 0);
	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_evict(r->s, 1), 0);
	must(freed >= 1);
}

/* The maintenance thread evicts for a writer that was told to wait, and wakes it. */
static void waiting_writer_gets_its_room(void **state)
{
	struct store_events events = {.room_freed = on_room_freed};
	struct rig *r = *state;
	time_t deadline = time(NULL) + DEADLINE_S;
	uint64_t ino;
	int e;

	r->config.cache_size_bytes = 8 * MIB;
	r->config.part_size_bytes = MIB;
	rig_reopen(r);
	freed = 0;
	store_subscribe(r->s, &events);
	must_eq(store_start(r->s), 0);
	ino = rig_put(r, STORE_ROOT_INO, "f", 8 * MIB - 4096, 1);
	rig_bring(r, ino, FILE_UPLOADED);
	must_eq(try_write(r, "x", MIB), -EDQUOT);
	while (present(r, ino) && time(NULL) < deadline)
		usleep(1000);
	while ((e = try_write(r, "x", MIB)) == -EDQUOT && time(NULL) < deadline)
		usleep(1000);
	must_eq(e, 0);
	must(freed > 0);
	must(!present(r, ino));
}

/* What only a person can make go takes room from all who write, not from the one whose turn it is: of many
 * that are written together in what is left, each ends. */
static void writers_beside_what_needs_a_person_end(void **state)
{
	enum { UNIT = 64 * KIB, WRITERS = 11, PIECES = 16, PIECE = UNIT / 2 };
	static const char piece[PIECE];
	struct rig *r = *state;
	struct store_file *open[WRITERS];
	uint64_t inos[WRITERS], chunk;
	unsigned done[WRITERS] = {0}, ended = 0;
	bool moved = true;

	r->config.cache_size_bytes = 20 * UNIT;
	r->config.part_size_bytes = UNIT;
	rig_reopen(r);
	clock_fake_begin(clock_wall_ns());
	rig_bring(r, rig_put(r, STORE_ROOT_INO, "stuck", 4 * UNIT, 1), FILE_HELD);
	for (unsigned i = 0; i < WRITERS; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		inos[i] = rig_create(r, STORE_ROOT_INO, name, STORE_FILE);
		open[i] = rig_write_begin(r, inos[i]);
	}
	while (ended < WRITERS && moved) {
		moved = false;
		for (unsigned i = 0; i < WRITERS; i++) {
			int e;

			if (done[i] == PIECES)
				continue;
			e = store_file_write(open[i], piece, PIECE, done[i] * PIECE, false, &chunk);
			if (e == -EDQUOT)
				continue;
			must_eq(e, 0);
			moved = true;
			if (++done[i] < PIECES)
				continue;
			rig_write_end(open[i]);
			rig_bring(r, inos[i], FILE_VERIFIED);
			must_eq(store_evict(r->s, 8 * UNIT), 0);
			ended++;
		}
	}
	clock_fake_end();
	must_eq(ended, WRITERS);
}

/* While it asks, the last evictable file goes, and with it all that could free room: there is room then. */
static void asking_while_the_last_one_goes(void **state)
{
	struct rig *r = *state;
	time_t deadline = time(NULL) + DEADLINE_S;

	r->config.cache_size_bytes = 40 * RIG_PART_BYTES;
	rig_reopen(r);
	must_eq(store_start(r->s), 0);
	for (unsigned round = 0; round < 25 && time(NULL) < deadline; round++) {
		char name[16];
		uint64_t ino, chunk;
		struct store_file *f;

		snprintf(name, sizeof(name), "f%u", round);
		ino = rig_create(r, STORE_ROOT_INO, name, STORE_FILE);
		f = rig_write_begin(r, ino);
		for (unsigned n = 0; n < 36; n++) {
			static const char part[RIG_PART_BYTES];
			int e;

			while ((e = store_file_write(f, part, sizeof(part), 0, true, &chunk)) == -EDQUOT)
				must(time(NULL) < deadline);
			must_eq(e, 0);
		}
		rig_write_end(f);
		rig_bring(r, ino, FILE_VERIFIED);
	}
}

/* One large piece (a chunk, a fallocate) waits for more than the usual slack. */
static void large_piece_gets_its_room(void **state)
{
	struct rig *r = *state;
	time_t deadline = time(NULL) + DEADLINE_S;
	uint64_t ino[2], chunk;
	struct store_file *f;
	int e;

	r->config.cache_size_bytes = 16 * MIB;
	r->config.part_size_bytes = MIB;
	rig_reopen(r);
	must_eq(store_start(r->s), 0);
	for (int i = 0; i < 2; i++) {
		ino[i] = rig_put(r, STORE_ROOT_INO, i ? "g" : "f", 6 * MIB, 1);
		rig_bring(r, ino[i], FILE_VERIFIED);
	}
	f = rig_write_begin(r, rig_create(r, STORE_ROOT_INO, "x", STORE_FILE));
	while ((e = store_file_fallocate(f, 0, 0, 9 * MIB, &chunk)) == -EDQUOT &&
		time(NULL) < deadline)
		usleep(1000);
	must_eq(e, 0);
	must(!present(r, ino[0]));
	must(present(r, ino[1])); /* and no more than that went */
	rig_write_end(f);
}

/* ---- eviction ---------------------------------------------------------------------------------------------------- */

static void oldest_verified_go_first(void **state)
{
	struct rig *r = *state;
	uint64_t ino[4];

	for (int i = 0; i < 4; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		ino[i] = rig_put(r, STORE_ROOT_INO, name, P, 1);
		rig_bring(r, ino[i], FILE_UPLOADED);
	}
	for (int i = 0; i < 3; i++) { /* f2, f1, f0; f3 stays uploaded */
		clock_fake_advance_ms(1000);
		rig_verify(r, ino[2 - i]);
	}
	must_eq(store_evict(r->s, 1), 0);
	must(!present(r, ino[2]) && present(r, ino[1]) && present(r, ino[0]) && present(r, ino[3]));
	must_eq(store_evict(r->s, P + 1), 0);
	must(!present(r, ino[1]) && !present(r, ino[0]) && present(r, ino[3]));
	must_eq(store_evict(r->s, 1), 0);
	must(!present(r, ino[3])); /* proved by the server: at last */
	must_eq(rig_files_in(r, FILE_VERIFIED), 3);
	must_eq(rig_files_in(r, FILE_UPLOADED), 1);
}

static void pending_never_goes(void **state)
{
	static const enum file_state pending[] = {FILE_CLOSED, FILE_SETTLED, FILE_QUEUED, FILE_SENDING,
		FILE_HELD, FILE_FAILED, FILE_CONFLICT};
	struct rig *r = *state;
	uint64_t ino[array_len(pending)], moving;

	for (size_t i = 0; i < array_len(pending); i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%zu", i);
		ino[i] = rig_put(r, STORE_ROOT_INO, name, P, (unsigned)i);
		rig_bring(r, ino[i], pending[i]);
	}
	moving = rig_put(r, STORE_ROOT_INO, "m", P, 1);
	rig_bring(r, moving, FILE_VERIFIED);
	must_eq(store_rename(r->s, STORE_ROOT_INO, "m", STORE_ROOT_INO, "n", 0, 0), 0);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	for (size_t i = 0; i < array_len(pending); i++)
		rig_must_hold(r, ino[i], P, (unsigned)i);
	rig_must_hold(r, moving, P, 1);
}

/* A changed file that was verified once is pending again. */
static void changed_file_never_goes(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", P, 1);
	struct store_file *f;

	rig_bring(r, ino, FILE_VERIFIED);
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, P, 2);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	rig_write_end(f);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	rig_must_hold(r, ino, P, 2);
}

static void open_files_never_go(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", P, 1);
	struct store_file *f;
	uint8_t want[P];

	rig_bring(r, ino, FILE_VERIFIED);
	f = rig_file(r, ino);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	rig_pattern(want, P, 0, 1);
	rig_must_read(f, 0, want, P);
	store_file_close(f);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	must(!present(r, ino));
}

static void foreign_chunks_go(void **state)
{
	struct store_object o = {.key = "k", .etag = "e", .size_bytes = P};
	struct rig *r = *state;
	struct store_file *f;
	struct store_attr a;
	uint8_t data[P];

	must_eq(store_import(r->s, &o, &a), 0);
	f = rig_file(r, a.ino);
	rig_pattern(data, P, 0, 1);
	must_eq(store_chunk_fill_begin(f, 0), 0);
	must_eq(store_chunk_fill_write(f, 0, 0, data, P), 0);
	must_eq(store_chunk_fill_end(f, 0, true), 0);
	store_file_close(f);
	must_eq(space_of(r).evictable_bytes, P);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	must_eq(space_of(r).used_bytes, 0);
	must(!present(r, a.ino));
}

static void evicted_keeps_its_crc_and_comes_back(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", P, 1), chunk = 9;
	struct store_file *f;
	uint8_t data[P];

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	must_eq(rig_data_files(r), 0);
	rig_reopen(r);
	f = rig_file(r, ino);
	must_eq(store_file_read(f, data, P, 0, &chunk), -EREMOTE);
	must_eq(chunk, 0);
	must_eq(rig_attr(r, ino).size_bytes, P);
	must(rig_attr(r, ino).in_bucket);
	rig_pattern(data, P, 0, 1);
	must_eq(store_chunk_fill_begin(f, 0), 0);
	must_eq(store_chunk_fill_write(f, 0, 0, data, P), 0);
	must_eq(store_chunk_fill_end(f, 0, true), 0);
	store_file_close(f);
	rig_must_hold(r, ino, P, 1);
	must_state(rig_state(r, ino), FILE_VERIFIED);
}

/* A file that just fits the buffer can be read back into it. */
static void fill_of_a_file_as_large_as_the_buffer(void **state)
{
	struct store_object o = {.key = "k", .etag = "e", .size_bytes = ROOM};
	struct rig *r = *state;
	struct store_file *f;
	struct store_attr a;
	uint8_t data[P] = {1};

	rig_small(r);
	must_eq(store_import(r->s, &o, &a), 0);
	f = rig_file(r, a.ino);
	for (uint64_t n = 0; n < ROOM / P; n++) {
		must_eq(store_chunk_fill_begin(f, n), 0);
		must_eq(store_chunk_fill_write(f, n, 0, data, P), 0);
		must_eq(store_chunk_fill_end(f, n, true), 0);
	}
	must_eq(space_of(r).used_bytes, ROOM);
	store_file_close(f);
}

/* Where there is plenty of room the index is not asked each time: what was written since counts. */
static void plenty_is_not_more_than_there_is(void **state)
{
	struct rig *r = *state;
	const uint64_t size = 3 * GIB;
	uint64_t chunk;
	char name[16];

	rig_close(r);
	r->config.cache_size_bytes = size;
	rig_open(r);
	for (unsigned i = 0; i < 16; i++) { /* no time passes */
		struct store_file *f;
		int e;

		snprintf(name, sizeof(name), "f%u", i);
		f = rig_write_begin(r, rig_create(r, STORE_ROOT_INO, name, STORE_FILE));
		e = store_file_truncate(f, 300 * MIB, &chunk);
		must(e == 0 || e == -EDQUOT || e == -ENOSPC);
		rig_write_end(f);
		must(space_of(r).used_bytes <= size);
	}
	must(space_of(r).used_bytes > 0);
}

/* ---- files that wait to be deleted ------------------------------------------------------------------------------- */

static void delete_later(struct rig *r, const char *name)
{
	must_eq(store_unlink(r->s, STORE_ROOT_INO, name, 600 * MS_PER_S), 0);
}

/* The object still has it: its bytes go, and come back with it. */
static void deleted_files_go_when_the_bucket_has_them(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	uint64_t ino, chunk;
	uint8_t data[P];

	rig_small(r);
	ino = rig_put(r, STORE_ROOT_INO, "f", ROOM, 1);
	rig_bring(r, ino, FILE_VERIFIED);
	delete_later(r, "f");
	must_state(rig_state(r, ino), FILE_DELETING);
	must_eq(try_write(r, "x", P), -EDQUOT);
	must_eq(store_evict(r->s, P), 0);
	must_eq(space_of(r).used_bytes, 0);
	must_eq(try_write(r, "x", P), 0);
	must_eq(store_undelete(r->s, ino, NULL), 0);
	must_state(rig_state(r, ino), FILE_VERIFIED);
	f = rig_file(r, ino);
	must_eq(store_file_read(f, data, P, 0, &chunk), -EREMOTE);
	store_file_close(f);
}

/* Perhaps nobody else has what somebody else removed from the bucket: it goes after all that can be
 * had again, and what has no object of its own not at all. */
static void gone_files_go_last(void **state)
{
	struct rig *r = *state;
	uint64_t gone = rig_put(r, STORE_ROOT_INO, "gone", P, 1);
	uint64_t kept = rig_put(r, STORE_ROOT_INO, "kept", P, 2);
	uint64_t deleted = rig_put(r, STORE_ROOT_INO, "deleted", P, 3), later;

	rig_bring(r, gone, FILE_GONE);
	rig_bring(r, kept, FILE_FAILED);
	rig_bring(r, deleted, FILE_VERIFIED);
	delete_later(r, "deleted");
	later = rig_put(r, STORE_ROOT_INO, "later", P, 4);
	rig_bring(r, later, FILE_VERIFIED);
	must_eq(space_of(r).evictable_bytes, 2 * P);
	must_eq(store_evict(r->s, 2 * P), 0);
	must_eq(space_of(r).used_bytes, 2 * P);
	rig_must_hold(r, gone, P, 1);
	must_eq(store_evict(r->s, 1), 0);
	must_eq(space_of(r).used_bytes, P);
	must_state(rig_state(r, gone), FILE_GONE);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	rig_must_hold(r, kept, P, 2);
	must_eq(space_of(r).evictable_bytes, 0);
	rig_must_count(r, STORE_ROOT_INO);
}

/* Writers wait for that, too. */
static void full_of_gone_files(void **state)
{
	struct rig *r = *state;
	uint64_t ino;

	rig_small(r);
	ino = rig_put(r, STORE_ROOT_INO, "gone", ROOM, 1);
	rig_bring(r, ino, FILE_GONE);
	must_eq(try_write(r, "x", P), -EDQUOT);
	must_eq(store_evict(r->s, P), 0);
	must_eq(try_write(r, "x", P), 0);
}

/* What the object does not hold stays until its time has come, and writers wait for that. */
static void deleted_versions_of_their_own_stay(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	uint64_t ino;

	rig_small(r);
	ino = rig_put(r, STORE_ROOT_INO, "f", ROOM, 1);
	rig_bring(r, ino, FILE_VERIFIED);
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, ROOM, 2);
	rig_write_end(f);
	delete_later(r, "f");
	must_eq(try_write(r, "x", P), -EDQUOT);
	must_eq(store_evict(r->s, P), 0);
	must_eq(space_of(r).used_bytes, ROOM);
	must_eq(try_write(r, "x", P), -EDQUOT);
	must_eq(store_forget(r->s, ino), 0);
	must_eq(try_write(r, "x", P), 0);
}

/* ---- chunks of a file that is being read --------------------------------------------------------------------------- */

static bool chunk_is_here(struct rig *r, uint64_t ino, uint64_t n)
{
	struct store_chunk c;

	must_eq(store_chunk(r->s, ino, n, &c), 0);
	return c.present;
}

static void fill_chunk(struct store_file *f, uint64_t n, unsigned seed)
{
	uint8_t data[P];

	rig_pattern(data, P, n * P, seed);
	must_eq(store_chunk_fill_write(f, n, 0, data, P), 0);
	must_eq(store_chunk_fill_end(f, n, true), 0);
}

static void must_read_chunk(struct store_file *f, uint64_t n, unsigned seed)
{
	uint8_t want[P];

	rig_pattern(want, P, n * P, seed);
	rig_must_read(f, n * P, want, P);
}

static void behind_a_reader_chunks_go(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 16 * P, 1), chunk = 99;
	struct store_file *f;
	uint8_t data[P];

	rig_bring(r, ino, FILE_VERIFIED);
	f = rig_file(r, ino);
	must_read_chunk(f, 5, 1);
	must_eq(store_evict(r->s, 2 * P), 0);
	for (uint64_t n = 0; n < 16; n++)
		must_eq(chunk_is_here(r, ino, n), n >= 2);
	must_eq(space_of(r).used_bytes, 14 * P);
	must_eq(store_file_read(f, data, P, P, &chunk), -EREMOTE);
	must_eq(chunk, 1);
	must_read_chunk(f, 5, 1);
	/* all but what lies under its hands */
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	for (uint64_t n = 0; n < 16; n++)
		must_eq(chunk_is_here(r, ino, n), n >= 5 && n <= 9);
	must_eq(store_chunk_fill_begin(f, 1), 0);
	fill_chunk(f, 1, 1);
	must_read_chunk(f, 1, 1);
	store_file_close(f);
	must_eq(space_of(r).used_bytes, 6 * P);
	rig_reopen(r);
	must_eq(space_of(r).used_bytes, 6 * P);
	must(!chunk_is_here(r, ino, 0));
	must_state(rig_state(r, ino), FILE_VERIFIED);
}

/* Nor of a file that must be whole for its next change, or is being changed. */
static void no_chunks_go_that_a_writer_waits_for(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 16 * P, 1), chunk = 99;
	struct store_file *f;

	rig_bring(r, ino, FILE_VERIFIED);
	f = rig_write_begin(r, ino);
	must_read_chunk(f, 5, 1);
	must_eq(store_evict(r->s, 1), 0);
	must(!chunk_is_here(r, ino, 0));
	must_eq(store_file_write(f, "x", 1, 9 * P, false, &chunk), -EREMOTE);
	must_eq(chunk, 0);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	must(chunk_is_here(r, ino, 1) && chunk_is_here(r, ino, 15));
	must_eq(store_chunk_fill_begin(f, 0), 0);
	fill_chunk(f, 0, 1);
	must_eq(store_file_write(f, "x", 1, 9 * P, false, &chunk), 0);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	must(chunk_is_here(r, ino, 0) && chunk_is_here(r, ino, 15));
	rig_write_end(f);
}

/* An object of ours, open for writing, beside what goes only with somebody's help. */
static struct store_file *beside_what_stays(struct rig *r, uint64_t ino, uint64_t stays_bytes)
{
	rig_bring(r, rig_put(r, STORE_ROOT_INO, "stays", stays_bytes, 1), FILE_FAILED);
	return rig_write_begin(r, ino);
}

/* Its own chunks are no room that may come: they stay until all of it is here. */
static void does_not_fit_as_a_whole(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	uint64_t ino, chunk;

	rig_small(r);
	ino = rig_put(r, STORE_ROOT_INO, "f", 12 * P, 1);
	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	f = beside_what_stays(r, ino, 8 * P);
	for (uint64_t n = 0; n < 8; n++) {
		must_eq(store_file_write(f, "x", 1, 9 * P, false, &chunk), -EREMOTE);
		must_eq(chunk, n);
		must_eq(store_chunk_fill_begin(f, n), 0);
		fill_chunk(f, n, 1);
	}
	must_eq(store_file_write(f, "x", 1, 9 * P, false, &chunk), -EREMOTE);
	must_eq(store_chunk_fill_begin(f, 8), -ENOSPC);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_VERIFIED);
}

static void does_not_fit_longer(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	uint64_t ino, chunk;

	rig_small(r);
	ino = rig_put(r, STORE_ROOT_INO, "f", 12 * P, 1);
	rig_bring(r, ino, FILE_VERIFIED);
	f = beside_what_stays(r, ino, 4 * P);
	must_eq(store_file_write(f, "x", 1, 12 * P, false, &chunk), -ENOSPC);
	must_eq(store_file_truncate(f, 13 * P, &chunk), -ENOSPC);
	must_eq(store_file_write(f, "x", 1, 9 * P, false, &chunk), 0);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
}

/* More than the disk can ever hold is not fetched in vain. */
static void larger_than_the_disk_is_not_fetched_to_be_changed(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 2 * P, 1), chunk;
	struct store_file *f;

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	r->config.min_free_bytes = UINT64_C(1) << 60;
	rig_reopen(r);
	f = rig_write_begin(r, ino);
	must_eq(store_file_write(f, "x", 1, 0, false, &chunk), -ENOSPC);
	must_eq(store_file_truncate(f, 0, &chunk), 0);
	rig_write_end(f);
}

/* It passes through the buffer. To be changed in place it would have to be in it as a whole. */
static void object_larger_than_the_buffer_is_read(void **state)
{
	struct store_object o = {.key = "k", .etag = "e", .size_bytes = 4 * ROOM};
	struct rig *r = *state;
	struct store_file *f;
	struct store_attr a;
	uint64_t chunk;

	rig_small(r);
	must_eq(store_import(r->s, &o, &a), 0);
	f = rig_file(r, a.ino);
	for (uint64_t n = 0; n < 4 * ROOM / P; n++) {
		uint8_t data[P];
		int e;

		must_eq(store_file_read(f, data, P, n * P, &chunk), -EREMOTE);
		e = store_chunk_fill_begin(f, n);
		if (e == -EDQUOT) {
			must_eq(store_evict(r->s, P), 0);
			e = store_chunk_fill_begin(f, n);
		}
		must_eq(e, 0);
		fill_chunk(f, n, 3);
		must_read_chunk(f, n, 3);
		must(space_of(r).used_bytes <= ROOM);
	}
	must_eq(store_file_write(f, "x", 1, 0, false, &chunk), -ENOSPC);
	store_file_close(f);
}

/* All of the room is taken by chunks that are on their way: they can go when they are here. */
static void full_of_what_is_being_fetched(void **state)
{
	struct store_object o = {.key = "k", .etag = "e", .size_bytes = 2 * ROOM};
	struct rig *r = *state;
	struct store_file *f;
	struct store_attr a;

	rig_small(r);
	must_eq(store_import(r->s, &o, &a), 0);
	f = rig_file(r, a.ino);
	for (uint64_t n = 0; n < ROOM / P; n++)
		must_eq(store_chunk_fill_begin(f, n), 0);
	must_eq(store_chunk_fill_begin(f, ROOM / P), -EDQUOT);
	must_eq(try_write(r, "x", P), -EDQUOT);
	for (uint64_t n = 0; n < ROOM / P; n++)
		must_eq(store_chunk_fill_end(f, n, false), 0);
	must_eq(try_write(r, "x", P), 0);
	store_file_close(f);
}

/* Runs when the next read of bytes is about to look at the disk. */
static void (*before_read)(void);

ssize_t pread(int fd, void *data, size_t len, off_t off)
{
	void (*hook)(void) = before_read;

	before_read = NULL;
	if (hook)
		hook();
	return syscall(SYS_pread64, fd, data, len, off);
}

/* The same of a look for data and holes. */
static void (*before_seek)(void);

off_t lseek(int fd, off_t off, int whence)
{
	void (*hook)(void) = before_seek;

	before_seek = NULL;
	if (hook)
		hook();
	return syscall(SYS_lseek, fd, off, whence);
}

static struct rig *evicting;
static struct store_file *evicted;
static uint64_t evicted_ino;

/* Another reader goes on ahead, and what the first is about to read lies behind. */
static void evict_what_is_read(void)
{
	must_read_chunk(evicted, 9, 1);
	must_eq(store_evict(evicting->s, UINT64_MAX), 0);
	must(!chunk_is_here(evicting, evicted_ino, 3));
}

/* What goes while it is read is not read as zeros. */
static void going_while_it_is_read(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 16 * P, 1), chunk = 99;
	uint8_t data[P];

	rig_bring(r, ino, FILE_VERIFIED);
	evicting = r;
	evicted = rig_file(r, ino);
	evicted_ino = ino;
	before_read = evict_what_is_read;
	must_eq(store_file_read(evicted, data, P, 3 * P, &chunk), -EREMOTE);
	must_eq(chunk, 3);
	must(!before_read);
	must_eq(store_chunk_fill_begin(evicted, 3), 0);
	fill_chunk(evicted, 3, 1);
	must_read_chunk(evicted, 3, 1);
	store_file_close(evicted);
}

/* Nor taken for a hole by who copies only data. */
static void going_while_holes_are_looked_for(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 16 * P, 1);

	rig_bring(r, ino, FILE_VERIFIED);
	evicting = r;
	evicted = rig_file(r, ino);
	evicted_ino = ino;
	before_seek = evict_what_is_read;
	must_eq(store_file_seek(evicted, 3 * P, SEEK_DATA), 3 * P);
	must(!before_seek);
	must_eq(store_file_seek(evicted, 0, SEEK_HOLE), 16 * P);
	store_file_close(evicted);
}

/* And is not filled again before it went: those bytes would go. */
static bool tried_to_fill;

static void fill_at_the_sync(enum disk_call call, enum disk_file file)
{
	if (call != DISK_SYNC || file != DISK_JOURNAL || tried_to_fill)
		return;
	tried_to_fill = true;
	must_eq(store_chunk_fill_begin(evicted, 0), -EDQUOT);
}

static void filling_while_it_goes(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 16 * P, 1);

	rig_bring(r, ino, FILE_VERIFIED);
	evicted = rig_file(r, ino);
	must_read_chunk(evicted, 5, 1);
	disk_on(DISK_PASS, 0, 0);
	disk.hook = fill_at_the_sync;
	must_eq(store_evict(r->s, P), 0);
	disk_off();
	must(tried_to_fill);
	must_eq(store_chunk_fill_begin(evicted, 0), 0);
	fill_chunk(evicted, 0, 1);
	must_read_chunk(evicted, 0, 1);
	store_file_close(evicted);
}

/* ---- bytes that are on their way out ------------------------------------------------------------------------------ */

/* How much the disk has free, to whoever asks. */
static _Atomic bool disk_is_full;

int fstatfs(int fd, struct statfs *ret)
{
	int e = (int)syscall(SYS_fstatfs, fd, ret);

	if (e == 0 && disk_is_full)
		ret->f_bavail = 0;
	return e;
}

static struct store_file *asking;
static _Atomic int told; /* who asked while they go; 1: nobody yet */

static int ask(void)
{
	uint64_t chunk;

	return store_file_write(asking, "x", 1, P, false, &chunk);
}

static void ask_at_the_sync(enum disk_call call, enum disk_file file)
{
	if (call != DISK_SYNC || file != DISK_JOURNAL || told != 1)
		return;
	told = 2;
	told = ask();
}

/* Nothing is left that could go then, and the disk has no room yet. */
static void without_room(struct rig *r, enum file_state state)
{
	disk_is_full = false;
	rig_bring(r, rig_put(r, STORE_ROOT_INO, "f", 16 * P, 1), state);
	r->config.min_free_bytes = 1;
	rig_reopen(r);
	asking = rig_write_begin(r, rig_create(r, STORE_ROOT_INO, "x", STORE_FILE));
	told = 1;
	disk_is_full = true;
	disk_on(DISK_PASS, 0, 0);
	disk.hook = ask_at_the_sync;
}

static void with_room(void)
{
	disk_off();
	disk_is_full = false;
	must_eq(ask(), 0);
	rig_write_end(asking);
}

static void asking_while_the_last_bytes_go(void **state)
{
	struct rig *r = *state;

	without_room(r, FILE_VERIFIED);
	must_eq(ask(), -EDQUOT);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	must_eq(told, -EDQUOT);
	must_eq(ask(), -ENOSPC);
	with_room();
}

static void asking_while_what_was_removed_goes(void **state)
{
	struct rig *r = *state;
	time_t deadline = time(NULL) + DEADLINE_S;

	without_room(r, FILE_FAILED);
	must_eq(ask(), -ENOSPC);
	must_eq(store_start(r->s), 0);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
	while (told > 0 && time(NULL) < deadline)
		usleep(1000);
	must_eq(told, -EDQUOT);
	while (ask() == -EDQUOT) /* until it went */
		must(time(NULL) < deadline);
	with_room();
}

/* ---- "absent" is recorded and synced before the bytes go ---------------------------------------------------------- */

static void work_evict_killed(struct rig *r, void *arg)
{
	disk_on(DISK_KILL, 1, 0);
	disk.calls_mask = 1u << *(enum disk_call *)arg;
	must_eq(store_evict(r->s, UINT64_MAX), 0);
}

static void killed_in_the_middle_of_eviction(void **state)
{
	static enum disk_call at[] = {DISK_SYNC, DISK_NAME};
	struct rig *r = *state;

	for (size_t i = 0; i < array_len(at); i++) {
		uint64_t ino;

		rig_open(r);
		ino = rig_put(r, STORE_ROOT_INO, i ? "g" : "f", P, 1);
		rig_bring(r, ino, FILE_VERIFIED);
		rig_close(r);
		rig_child(r, work_evict_killed, &at[i], CHILD_KILLED);
		rig_open(r);
		/* killed before the record is synced or after: the bytes are still there; what the
		 * index says of them is true */
		must(rig_data_files(r) > 0);
		if (present(r, ino))
			rig_must_hold(r, ino, P, 1);
		must_state(rig_state(r, ino), FILE_VERIFIED);
		rig_close(r);
	}
}

static void sync_comes_before_the_unlink(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", P, 1);

	rig_bring(r, ino, FILE_VERIFIED);
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_NAME;
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	must(disk.met);
	must_eq(atomic_load(&disk.seen[DISK_JOURNAL][DISK_SYNC]), 1);
	/* and a sync that fails takes no bytes */
	disk_off();
	ino = rig_put(r, STORE_ROOT_INO, "g", P, 1);
	rig_bring(r, ino, FILE_VERIFIED);
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.lasts = true;
	must(store_evict(r->s, UINT64_MAX) < 0);
	must_eq(atomic_load(&disk.seen[DISK_OTHER][DISK_NAME]), 0);
	disk_off();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(used_pending_and_evictable),
		rig_test(growth_counts_at_once),
		rig_test(full_of_pending_waits),
		rig_test(full_of_what_needs_a_person_does_not_wait),
		rig_test(one_file_beyond_the_buffer),
		rig_test(rewriting_needs_no_room),
		rig_test(refused_write_leaves_a_closed_file_alone),
		rig_test(file_with_a_refused_write_is_incomplete),
		rig_test(min_free_is_kept),
		rig_test(waiters_are_let_in_after_eviction),
		rig_test(eviction_says_so),
		rig_test(waiting_writer_gets_its_room),
		rig_test(writers_beside_what_needs_a_person_end),
		rig_test(asking_while_the_last_one_goes),
		rig_test(large_piece_gets_its_room),
		rig_test_clock(oldest_verified_go_first),
		rig_test(pending_never_goes),
		rig_test(changed_file_never_goes),
		rig_test(open_files_never_go),
		rig_test(foreign_chunks_go),
		rig_test(evicted_keeps_its_crc_and_comes_back),
		rig_test(fill_of_a_file_as_large_as_the_buffer),
		rig_test(plenty_is_not_more_than_there_is),
		rig_test(deleted_files_go_when_the_bucket_has_them),
		rig_test(gone_files_go_last),
		rig_test(full_of_gone_files),
		rig_test(deleted_versions_of_their_own_stay),
		rig_test(behind_a_reader_chunks_go),
		rig_test(no_chunks_go_that_a_writer_waits_for),
		rig_test(does_not_fit_as_a_whole),
		rig_test(does_not_fit_longer),
		rig_test(larger_than_the_disk_is_not_fetched_to_be_changed),
		rig_test(object_larger_than_the_buffer_is_read),
		rig_test(full_of_what_is_being_fetched),
		rig_test(going_while_it_is_read),
		rig_test(going_while_holes_are_looked_for),
		rig_test(filling_while_it_goes),
		rig_test(asking_while_the_last_bytes_go),
		rig_test(asking_while_what_was_removed_goes),
		rig_test_closed(killed_in_the_middle_of_eviction),
		rig_test(sync_comes_before_the_unlink),
	};

	return cmocka_run_group_tests_name("store space", tests, NULL, NULL);
}
