/*
 * Bytes of a file through its handles: reads and writes of every shape, and what FLUSH makes of it.
 */
#define SCRATCH_ON_DISK
#include "store_rig.h"

#include <linux/falloc.h>

#define P RIG_PART_BYTES

static struct store_file *new_file(struct rig *r, uint64_t *ret_ino)
{
	*ret_ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	return rig_write_begin(r, *ret_ino);
}

static uint64_t size_of(struct store_file *f)
{
	struct store_attr a;

	store_file_attr(f, &a);
	return a.size_bytes;
}

static int cut(struct store_file *f, uint64_t size_bytes)
{
	uint64_t chunk;

	return store_file_truncate(f, size_bytes, &chunk);
}

static int allocate(struct store_file *f, int mode, uint64_t off, uint64_t len)
{
	uint64_t chunk;

	return store_file_fallocate(f, mode, off, len, &chunk);
}

/* ---- shapes ----------------------------------------------------------------------------------------- */

static void what_was_written_is_read(void **state)
{
	static const size_t sizes[] = {0, 1, P - 1, P, P + 1, 3 * P, 10 * P + 7};
	struct rig *r = *state;

	for (size_t i = 0; i < array_len(sizes); i++) {
		char name[16];
		uint64_t ino;

		snprintf(name, sizeof(name), "f%zu", i);
		ino = rig_put(r, STORE_ROOT_INO, name, sizes[i], (unsigned)i);
		rig_must_hold(r, ino, sizes[i], (unsigned)i);
		must_eq(rig_inode(r, ino)->chunk_count, chunk_count_of(P, sizes[i]));
	}
	rig_reopen(r);
	for (size_t i = 0; i < array_len(sizes); i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%zu", i);
		rig_must_hold(r, rig_find(r, name), sizes[i], (unsigned)i);
	}
}

static void reads_end_at_the_end(void **state)
{
	struct rig *r = *state;
	struct store_file *f = rig_file(r, rig_put(r, STORE_ROOT_INO, "f", 100, 1));
	char data[200];
	uint64_t chunk;

	must_eq(store_file_read(f, data, 200, 0, &chunk), 100);
	must_eq(store_file_read(f, data, 200, 90, &chunk), 10);
	must_eq(store_file_read(f, data, 200, 100, &chunk), 0);
	must_eq(store_file_read(f, data, 200, UINT64_C(1) << 40, &chunk), 0);
	must_eq(store_file_read(f, data, 0, 0, &chunk), 0);
	store_file_close(f);
}

static void holes_are_zeros(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = new_file(r, &ino);

	rig_write_pattern(f, 3 * P + 5, 10, 1);
	must_eq(size_of(f), 3 * P + 15);
	rig_must_read_zeros(f, 0, 3 * P + 5);
	rig_write_pattern(f, P, 10, 1);
	rig_must_read_zeros(f, P + 10, P);
	rig_write_end(f);
	must_eq(rig_attr(r, ino).size_bytes, 3 * P + 15);
	rig_reopen(r);
	f = rig_file(r, ino);
	rig_must_read_zeros(f, 0, P);
	rig_must_read_zeros(f, P + 10, 2 * P - 5);
	store_file_close(f);
}

static void truncate_forgets_what_it_cuts(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = new_file(r, &ino);

	rig_write_pattern(f, 0, 3 * P, 1);
	must_eq(cut(f, P + 100), 0);
	must_eq(size_of(f), P + 100);
	must_eq(cut(f, 2 * P), 0);
	rig_must_read_zeros(f, P + 100, P - 100);
	must_eq(cut(f, 0), 0);
	rig_write_pattern(f, 10, 10, 2);
	rig_must_read_zeros(f, 0, 10);
	rig_write_end(f);
	must_eq(rig_attr(r, ino).size_bytes, 20);
	must_eq(rig_inode(r, ino)->chunk_count, 1);
}

/* As ext4 does it, also where POSIX leaves it open. No new version: no byte changed. */
static void truncate_to_the_same_size_changes_times_only(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	uint64_t generation = rig_attr(r, ino).generation;
	struct store_attr old = {.mtime_ns = T0_NS}, got;
	struct store_file *f;

	must_eq(store_setattr(r->s, ino, STORE_SET_MTIME, &old, &got), 0);
	f = rig_write_begin(r, ino);
	must_eq(cut(f, 100), 0);
	store_file_attr(f, &got);
	must(got.mtime_ns > T0_NS && got.ctime_ns >= got.mtime_ns);
	rig_write_end(f);
	got = rig_attr(r, ino);
	must(got.mtime_ns > T0_NS);
	must_eq(got.generation, generation);
	must_state(got.state, FILE_CLOSED);

	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, 100, 2);
	must_eq(store_setattr(r->s, ino, STORE_SET_MTIME, &old, &got), 0);
	must_eq(cut(f, 100), 0);
	store_file_attr(f, &got);
	must(got.mtime_ns > T0_NS);
	rig_write_end(f);
	must(rig_attr(r, ino).mtime_ns > T0_NS);
	rig_must_hold(r, ino, 100, 2);
}

static void rewrite_inside(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 4 * P, 1);
	struct store_file *f = rig_write_begin(r, ino);
	uint8_t want[2 * P];

	rig_pattern(want, sizeof(want), 0, 9);
	rig_write_at(f, want, sizeof(want), P + P / 2);
	rig_must_read(f, P + P / 2, want, sizeof(want));
	rig_pattern(want, P, 0, 1);
	rig_must_read(f, 0, want, P);
	must_eq(size_of(f), 4 * P);
	rig_write_end(f);
}

static void appends_go_to_the_end(void **state)
{
	struct rig *r = *state;
	uint64_t ino, chunk;
	struct store_file *f = new_file(r, &ino), *g = rig_write_begin(r, ino);

	must_eq(store_file_write(f, "aa", 2, 0, true, &chunk), 0);
	must_eq(store_file_write(g, "bb", 2, 0, true, &chunk), 0);
	must_eq(store_file_write(f, "cc", 2, 99999, true, &chunk), 0);
	must_eq(size_of(g), 6);
	rig_must_read(g, 0, "aabbcc", 6);
	rig_write_end(f);
	rig_write_end(g);
	must_eq(rig_attr(r, ino).size_bytes, 6);
}

static void fallocate_modes(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = new_file(r, &ino);
	uint8_t want[64];

	rig_write_pattern(f, 0, 3 * P, 1);
	must_eq(allocate(f, FALLOC_FL_KEEP_SIZE, 3 * P, 2 * P), 0);
	must_eq(size_of(f), 3 * P);
	must_eq(allocate(f, 0, 0, 4 * P), 0);
	must_eq(size_of(f), 4 * P);
	rig_must_read_zeros(f, 3 * P, P);
	must_eq(allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, P + 10, P), 0);
	rig_must_read_zeros(f, P + 10, P);
	rig_pattern(want, 10, P, 1);
	rig_must_read(f, P, want, 10);
	rig_pattern(want, 10, 2 * P + 10, 1);
	rig_must_read(f, 2 * P + 10, want, 10);
	must_eq(allocate(f, FALLOC_FL_ZERO_RANGE, 10, 100), 0);
	rig_must_read_zeros(f, 10, 100);
	must_eq(allocate(f, FALLOC_FL_ZERO_RANGE, 4 * P - 10, 20), 0);
	must_eq(size_of(f), 4 * P + 10);
	must_eq(allocate(f, FALLOC_FL_COLLAPSE_RANGE, 0, P), -EOPNOTSUPP);
	must_eq(allocate(f, FALLOC_FL_INSERT_RANGE, 0, P), -EOPNOTSUPP);
	must_eq(allocate(f, FALLOC_FL_PUNCH_HOLE, 0, P), -EOPNOTSUPP);
	must_eq(size_of(f), 4 * P + 10);
	rig_write_end(f);
}

static void seek_data_and_hole(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = new_file(r, &ino);
	int64_t at;

	rig_write_pattern(f, 16 * P, P, 1);
	at = store_file_seek(f, 0, SEEK_DATA);
	must(at >= 0 && at <= 16 * P);
	at = store_file_seek(f, 16 * P, SEEK_HOLE);
	must_eq(at, 17 * P);
	must_eq(store_file_seek(f, 17 * P, SEEK_DATA), -ENXIO);
	must_eq(store_file_seek(f, 18 * P, SEEK_HOLE), -ENXIO);
	rig_write_end(f);
}

/* Bytes that are only in the bucket are data, not a hole. */
static void absent_chunks_are_data(void **state)
{
	struct rig *r = *state;
	struct store_object o = {.key = "k", .etag = "e", .size_bytes = 3 * P};
	struct store_file *f;
	struct store_attr a;

	must_eq(store_import(r->s, &o, &a), 0);
	f = rig_file(r, a.ino);
	must_eq(store_file_seek(f, P + 1, SEEK_DATA), P + 1);
	must_eq(store_file_seek(f, P + 1, SEEK_HOLE), 3 * P);
	store_file_close(f);
}

static void too_large(void **state)
{
	struct rig *r = *state;
	uint64_t ino, chunk, limit = chunk_start(P, STORE_CHUNKS_MAX);
	struct store_file *f = new_file(r, &ino);

	rig_write_pattern(f, 0, 10, 1);
	must_eq(store_file_write(f, "x", 1, limit, false, &chunk), -EFBIG);
	must_eq(store_file_write(f, "xy", 2, limit - 1, false, &chunk), -EFBIG);
	must_eq(cut(f, limit + 1), -EFBIG);
	must_eq(cut(f, UINT64_MAX), -EFBIG);
	must_eq(allocate(f, 0, limit, 1), -EFBIG);
	must_eq(size_of(f), 10);
	must_eq(cut(f, limit), 0);
	must_eq(store_file_write(f, "x", 1, limit - 1, false, &chunk), 0);
	must_eq(store_file_write(f, "x", 1, 0, true, &chunk), -EFBIG);
	must_eq(size_of(f), limit);
	rig_write_end(f);
	must_eq(rig_inode(r, ino)->chunk_count, STORE_CHUNKS_MAX);
}

static void never_beyond_5_tib(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	uint64_t ino, chunk;

	r->config.part_size_bytes = 64 * MIB;
	rig_reopen(r);
	f = new_file(r, &ino);
	must_eq(cut(f, 5 * TIB + 1), -EFBIG);
	must_eq(store_file_write(f, "x", 1, 5 * TIB, false, &chunk), -EFBIG);
	must_eq(size_of(f), 0);
	rig_write_end(f);
}

/* P is kept with the file. */
static void part_size_is_the_files_own(void **state)
{
	struct rig *r = *state;
	uint64_t old = rig_put(r, STORE_ROOT_INO, "old", 3 * P, 1), new;
	struct store_file *f;

	r->config.part_size_bytes = 2 * P;
	rig_reopen(r);
	new = rig_put(r, STORE_ROOT_INO, "new", 3 * P, 1);
	must_eq(rig_inode(r, old)->part_size_bytes, P);
	must_eq(rig_inode(r, new)->part_size_bytes, 2 * P);
	f = rig_write_begin(r, old);
	rig_write_pattern(f, 3 * P, P, 1);
	rig_write_end(f);
	must_eq(rig_inode(r, old)->part_size_bytes, P);
	must_eq(rig_inode(r, old)->chunk_count, 4);
	rig_must_hold(r, old, 4 * P, 1);
}

static void folder_is_no_file(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d");
	struct store_file *f;

	must_eq(store_file_open(r->s, d, &f), -EISDIR);
	must_eq(store_file_open(r->s, 4711, &f), -ENOENT);
}

/* ---- flush and generations --------------------------------------------------------------------------- */

static void close_is_flush(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = new_file(r, &ino);
	struct store_inode i;

	clock_fake_advance_ms(10);
	rig_write_pattern(f, 0, 100, 1);
	must_state(rig_state(r, ino), FILE_OPEN);
	clock_fake_advance_ms(10);
	must_eq(store_file_flush(f, false, NULL), 0);
	i = *rig_inode(r, ino);
	must_state(i.attr.state, FILE_CLOSED);
	must(i.attr.flags & STORE_FLAG_COMPLETE);
	must_eq(i.attr.size_bytes, 100);
	must_eq(i.attr.mtime_ns, T0_NS + 10000000);
	must_eq(i.closed_at_ns, T0_NS + 20000000);
	store_file_writer_drop(f);
	store_file_close(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
}

static void mknod_is_closed_by_a_flush(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_file(r, ino);

	must_eq(store_file_flush(f, false, NULL), 0);
	store_file_close(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must_eq(rig_attr(r, ino).size_bytes, 0);
}

static void first_change_raises_the_generation(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1), g0 = rig_attr(r, ino).generation;
	struct store_file *f = rig_write_begin(r, ino);

	must(g0 > 0);
	rig_write_pattern(f, 0, 10, 2);
	must_eq(rig_attr(r, ino).generation, g0 + 1);
	must_state(rig_state(r, ino), FILE_OPEN);
	rig_write_pattern(f, 10, 10, 2);
	must_eq(cut(f, 5), 0);
	must_eq(rig_attr(r, ino).generation, g0 + 1);
	must_eq(store_file_flush(f, false, NULL), 0);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must_eq(rig_attr(r, ino).generation, g0 + 1);
	must_eq(store_file_flush(f, false, NULL), 0);
	must_eq(rig_attr(r, ino).generation, g0 + 1);
	must_eq(cut(f, 3), 0);
	must_eq(rig_attr(r, ino).generation, g0 + 2);
	must_state(rig_state(r, ino), FILE_OPEN);
	rig_write_end(f);
	must_eq(rig_attr(r, ino).generation, g0 + 2);
	must_eq(rig_attr(r, ino).size_bytes, 3);
}

static void open_that_writes_nothing_changes_nothing(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	struct store_attr before, after;

	rig_bring(r, ino, FILE_VERIFIED);
	before = rig_attr(r, ino);
	clock_fake_advance_ms(1000);
	rig_write_end(rig_write_begin(r, ino));
	after = rig_attr(r, ino);
	must_state(after.state, FILE_VERIFIED);
	must_eq(after.generation, before.generation);
	must_eq(after.mtime_ns, before.mtime_ns);
	must(after.in_bucket);
}

/* A failed first change must not look like a new version either. */
static void refused_change_changes_nothing(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1), g0 = rig_attr(r, ino).generation, chunk;
	struct store_file *f = rig_write_begin(r, ino);

	must_eq(store_file_write(f, "x", 1, chunk_start(P, STORE_CHUNKS_MAX), false, &chunk),
		-EFBIG);
	must_eq(allocate(f, FALLOC_FL_COLLAPSE_RANGE, 0, P), -EOPNOTSUPP);
	rig_write_end(f);
	must_eq(rig_attr(r, ino).generation, g0);
	must_state(rig_state(r, ino), FILE_CLOSED);
}

static void cut_off_is_incomplete(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = new_file(r, &ino);
	uint64_t g0;

	rig_write_pattern(f, 0, 100, 1);
	must_eq(store_file_flush(f, true, "its writer (cp) was killed"), 0);
	store_file_writer_drop(f);
	store_file_close(f);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
	must_text(rig_inode(r, ino)->reason, "its writer (cp) was killed");
	must(!(rig_attr(r, ino).flags & STORE_FLAG_COMPLETE));
	g0 = rig_attr(r, ino).generation;
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 100, 100, 1);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must_text(rig_inode(r, ino)->reason, "");
	must_eq(rig_attr(r, ino).generation, g0 + 1);
}

/* rsync sets the time through its name or handle before the close. */
static void mtime_zero_before_flush_is_incomplete(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = new_file(r, &ino);
	struct store_attr v = {.mtime_ns = 0}, a;

	rig_write_pattern(f, 0, 100, 1);
	must_eq(store_setattr(r->s, ino, STORE_SET_MTIME, &v, &a), 0);
	must_eq(a.mtime_ns, 0);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
}

/* A writer may set the time of what it wrote before it closes: it stands. */
static void mtime_set_while_open_stands(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = new_file(r, &ino);
	struct store_attr v = {.mtime_ns = 1234 * NS_PER_S + 567}, a;

	rig_write_pattern(f, 0, 100, 1);
	must_eq(store_setattr(r->s, ino, STORE_SET_MTIME, &v, &a), 0);
	must_eq(a.mtime_ns, 1234 * NS_PER_S + 567);
	store_file_attr(f, &a);
	must_eq(a.mtime_ns, 1234 * NS_PER_S + 567);
	clock_fake_advance_ms(1000);
	rig_write_end(f);
	must_eq(rig_attr(r, ino).mtime_ns, 1234 * NS_PER_S + 567);
	must_state(rig_state(r, ino), FILE_CLOSED);
}

static void attr_shows_the_version_being_written(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = new_file(r, &ino), *g = rig_file(r, ino);

	rig_write_pattern(f, 0, 100, 1);
	must_eq(size_of(f), 100);
	must_eq(size_of(g), 100);
	must_eq(rig_attr(r, ino).size_bytes, 100);
	must_eq(cut(f, 50), 0);
	must_eq(size_of(g), 50);
	store_file_close(g);
	rig_write_end(f);
}

/* ---- several handles ------------------------------------------------------------------------------------ */

static void handles_share_one_file(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = new_file(r, &ino), *g = rig_file(r, ino);

	must(f == g);
	rig_write_pattern(f, 0, 100, 1);
	rig_must_hold(r, ino, 100, 1);
	store_file_close(g);
	rig_write_end(f);
}

static void each_flush_is_a_version(void **state)
{
	struct rig *r = *state;
	uint64_t ino;
	struct store_file *f = new_file(r, &ino), *g = rig_write_begin(r, ino);
	uint64_t g0;

	rig_write_pattern(f, 0, 100, 1);
	rig_write_pattern(g, 100, 100, 1);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must(store_has_writers(r->s, ino));
	g0 = rig_attr(r, ino).generation;
	rig_write_pattern(g, 200, 100, 1);
	must_state(rig_state(r, ino), FILE_OPEN);
	must_eq(rig_attr(r, ino).generation, g0 + 1);
	rig_write_end(g);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must(!store_has_writers(r->s, ino));
	rig_must_hold(r, ino, 300, 1);
}

static void last_writer_starts_settle(void **state)
{
	struct rig *r = *state;
	struct store_file *f, *g;
	uint64_t ino;

	r->config.settle_ms = 2000;
	rig_reopen(r);
	f = new_file(r, &ino);
	g = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, 100, 1);
	rig_write_end(f);
	clock_fake_advance_ms(5000);
	store_file_writer_drop(g);
	must_eq(rig_inode(r, ino)->due_at_ns, T0_NS + 7 * NS_PER_S);
	store_file_close(g);
}

/* A file rewritten again and again waits twice as long each time, at most 10 min. */
static void settle_doubles_with_rewrites(void **state)
{
	struct rig *r = *state;
	int64_t last_ms = 0;
	uint64_t ino;

	r->config.settle_ms = 2000;
	rig_reopen(r);
	ino = rig_put(r, STORE_ROOT_INO, "Index.idx.xml", 100, 1);
	must_eq(rig_inode(r, ino)->due_at_ns, T0_NS + 2 * NS_PER_S);
	for (int i = 0; i < 14; i++) {
		struct store_file *f;
		int64_t wait_ms;

		must_eq(rig_step(r, ino, FILE_CLOSED, FILE_SETTLED, NULL), 0);
		f = rig_write_begin(r, ino);
		rig_write_pattern(f, 0, 100, 2);
		rig_write_end(f);
		wait_ms = (rig_inode(r, ino)->due_at_ns - clock_wall_ns()) / 1000000;
		must(wait_ms >= last_ms);
		must(wait_ms <= 600000);
		last_ms = wait_ms;
	}
	must_eq(last_ms, 600000);
}

/* `(a; b; c) > file`: each program's end flushes the same handle. */
static void many_closes_of_one_writer_wait_no_longer(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	uint64_t ino;

	r->config.settle_ms = 2000;
	rig_reopen(r);
	f = new_file(r, &ino);
	for (unsigned i = 0; i < 20; i++) {
		rig_write_pattern(f, i * 10, 10, 1);
		must_eq(store_file_flush(f, false, NULL), 0);
	}
	store_file_writer_drop(f);
	store_file_close(f);
	must_eq(rig_inode(r, ino)->due_at_ns, T0_NS + 2 * NS_PER_S);
}

/* ---- chunk records are void before the bytes change ---------------------------------------------------- */

static bool has_crc(struct rig *r, uint64_t ino, uint64_t n)
{
	struct store_chunk c;

	must_eq(store_chunk(r->s, ino, n, &c), 0);
	must_eq(c.number, n);
	return c.has_crc64nvme;
}

static void must_have_crcs(struct rig *r, uint64_t ino, const char *want)
{
	for (size_t n = 0; want[n]; n++) {
		snprintf(rig_context, sizeof(rig_context), "chunk %zu, wanted %s", n, want);
		must_eq(has_crc(r, ino, n), want[n] == '+');
	}
	rig_context[0] = '\0';
}

static void changes_void_what_they_touch(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 5 * P + 100, 1), chunk;
	struct store_file *f;

	must_have_crcs(r, ino, "------");
	rig_bring(r, ino, FILE_QUEUED);
	must_have_crcs(r, ino, "++++++");
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 2 * P - 1, 2, 2);
	must_have_crcs(r, ino, "+--+++");
	must_eq(allocate(f, FALLOC_FL_ZERO_RANGE, 3 * P, 1), 0);
	must_have_crcs(r, ino, "+---++");
	must_eq(cut(f, 4 * P + 10), 0);
	must_have_crcs(r, ino, "+----");
	must_eq(store_file_write(f, "x", 1, 0, true, &chunk), 0);
	must_have_crcs(r, ino, "+----");
	rig_write_end(f);
	rig_reopen(r);
	must_have_crcs(r, ino, "+----");
}

/* The last chunk grows when the file does: its old CRC is of other bytes. */
static void growing_voids_the_last_chunk(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", P + 100, 1);
	struct store_file *f;

	rig_bring(r, ino, FILE_QUEUED);
	must_have_crcs(r, ino, "++");
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 4 * P, 10, 1);
	must_have_crcs(r, ino, "+----");
	rig_write_end(f);
}

static void chunk_records_tell_their_place(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 2 * P + 100, 1);
	struct store_chunk c;
	uint8_t data[P];

	rig_bring(r, ino, FILE_QUEUED);
	must_eq(store_chunk(r->s, ino, 2, &c), 0);
	must_eq(c.start, 2 * P);
	must_eq(c.len, 100);
	must(c.present);
	rig_pattern(data, 100, 2 * P, 1);
	must(c.crc64nvme == crc64nvme(0, data, 100));
	must_eq(store_chunk(r->s, ino, 1, &c), 0);
	must_eq(c.len, P);
	rig_pattern(data, P, P, 1);
	must(c.crc64nvme == crc64nvme(0, data, P));
	must(store_chunk(r->s, ino, 3, &c) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(what_was_written_is_read),
		rig_test(reads_end_at_the_end),
		rig_test(holes_are_zeros),
		rig_test(truncate_forgets_what_it_cuts),
		rig_test(truncate_to_the_same_size_changes_times_only),
		rig_test(rewrite_inside),
		rig_test(appends_go_to_the_end),
		rig_test(fallocate_modes),
		rig_test(seek_data_and_hole),
		rig_test(absent_chunks_are_data),
		rig_test(too_large),
		rig_test(never_beyond_5_tib),
		rig_test(part_size_is_the_files_own),
		rig_test(folder_is_no_file),
		rig_test_clock(close_is_flush),
		rig_test(mknod_is_closed_by_a_flush),
		rig_test(first_change_raises_the_generation),
		rig_test_clock(open_that_writes_nothing_changes_nothing),
		rig_test(refused_change_changes_nothing),
		rig_test(cut_off_is_incomplete),
		rig_test(mtime_zero_before_flush_is_incomplete),
		rig_test_clock(mtime_set_while_open_stands),
		rig_test(attr_shows_the_version_being_written),
		rig_test(handles_share_one_file),
		rig_test(each_flush_is_a_version),
		rig_test_clock(last_writer_starts_settle),
		rig_test_clock(settle_doubles_with_rewrites),
		rig_test_clock(many_closes_of_one_writer_wait_no_longer),
		rig_test(changes_void_what_they_touch),
		rig_test(growing_voids_the_last_chunk),
		rig_test(chunk_records_tell_their_place),
	};

	return cmocka_run_group_tests_name("store data", tests, NULL, NULL);
}
