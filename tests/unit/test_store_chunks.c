/*
 * The schedule of chunk sizes (pure), and chunks that come from the bucket.
 */
#include "store_rig.h"

#define P RIG_PART_BYTES

/* ---- schedule ------------------------------------------------------------------------------------------ */

static void sizes_double_every_thousand(void **state)
{
	must_eq(chunk_size(8 * MIB, 0), 8 * MIB);
	must_eq(chunk_size(8 * MIB, 999), 8 * MIB);
	must_eq(chunk_size(8 * MIB, 1000), 16 * MIB);
	must_eq(chunk_size(8 * MIB, 1999), 16 * MIB);
	must_eq(chunk_size(8 * MIB, 9000), 4 * GIB);
	must_eq(chunk_size(8 * MIB, 9999), 4 * GIB);
	must_eq(chunk_size(64 * MIB, 9000), 5 * GIB);
	must_eq(chunk_size(5 * GIB, 0), 5 * GIB);
	must_eq(chunk_size(5 * GIB, 9999), 5 * GIB);
}

static void starts_are_sums_of_sizes(void **state)
{
	static const uint64_t parts[] = {1, P, 5 * MIB, 8 * MIB, 64 * MIB, 5 * GIB};

	for (size_t i = 0; i < array_len(parts); i++) {
		uint64_t sum = 0;

		for (uint64_t n = 0; n <= STORE_CHUNKS_MAX; n++) {
			must_eq(chunk_start(parts[i], n), sum);
			sum += chunk_size(parts[i], n);
		}
	}
	must_eq(chunk_start(8 * MIB, 1000), 1000 * 8 * MIB);
	must_eq(chunk_start(8 * MIB, 2001), 3000 * 8 * MIB + 32 * MIB);
}

static void chunk_of_is_the_inverse(void **state)
{
	static const uint64_t parts[] = {1, P, 8 * MIB, 64 * MIB, 5 * GIB};
	uint64_t seed = rig_seed();

	for (size_t i = 0; i < array_len(parts); i++) {
		uint64_t end = chunk_start(parts[i], STORE_CHUNKS_MAX);

		for (uint64_t n = 0; n < STORE_CHUNKS_MAX; n++) {
			uint64_t start = chunk_start(parts[i], n);

			must_eq(chunk_of(parts[i], start), n);
			must_eq(chunk_of(parts[i], start + chunk_size(parts[i], n) - 1), n);
		}
		for (int k = 0; k < 20000; k++) {
			uint64_t off = rig_random(&seed) % end, n = chunk_of(parts[i], off);

			must(chunk_start(parts[i], n) <= off);
			must(off - chunk_start(parts[i], n) < chunk_size(parts[i], n));
		}
	}
}

static void counts_at_the_edges(void **state)
{
	must_eq(chunk_count_of(8 * MIB, 0), 0);
	must_eq(chunk_count_of(8 * MIB, 1), 1);
	must_eq(chunk_count_of(8 * MIB, 8 * MIB), 1);
	must_eq(chunk_count_of(8 * MIB, 8 * MIB + 1), 2);
	must_eq(chunk_count_of(8 * MIB, 8000 * MIB), 1000);
	must_eq(chunk_count_of(8 * MIB, 8000 * MIB + 1), 1001);
	must_eq(chunk_count_of(8 * MIB, 8016 * MIB), 1001);
	must_eq(chunk_count_of(P, chunk_start(P, STORE_CHUNKS_MAX)), STORE_CHUNKS_MAX);
	must(chunk_count_of(P, chunk_start(P, STORE_CHUNKS_MAX) + 1) > STORE_CHUNKS_MAX);
	must(chunk_of(P, chunk_start(P, STORE_CHUNKS_MAX)) >= STORE_CHUNKS_MAX);
	/* a file that grows never needs other chunks: 5 TiB fit at the usual part size */
	must(chunk_count_of(8 * MIB, 5 * TIB) <= STORE_CHUNKS_MAX);
}

/* ---- filling ------------------------------------------------------------------------------------------- */

static uint64_t import(struct rig *r, const char *key, uint64_t size_bytes)
{
	struct store_object o = {.etag = "e1", .size_bytes = size_bytes};
	struct store_attr a;

	(void)text_copy(o.key, key, sizeof(o.key));
	must_eq(store_import(r->s, &o, &a), 0);
	return a.ino;
}

static void fill(struct store_file *f, uint64_t n, size_t len, unsigned seed)
{
	cleanup_free uint8_t *data = malloc(len);

	rig_pattern(data, len, n * P, seed);
	must_eq(store_chunk_fill_begin(f, n), 0);
	must_eq(store_chunk_fill_write(f, n, 0, data, len / 2), 0);
	must_eq(store_chunk_fill_write(f, n, len / 2, data + len / 2, len - len / 2), 0);
	must_eq(store_chunk_fill_end(f, n, true), 0);
}

static bool has(struct store_file *f, uint64_t off, uint64_t len, uint64_t want_chunk)
{
	uint64_t chunk = 4711;
	bool yes = store_file_has(f, off, len, &chunk);

	if (!yes)
		must_eq(chunk, want_chunk);
	return yes;
}

static void filled_chunks_are_read(void **state)
{
	struct rig *r = *state;
	struct store_file *f = rig_file(r, import(r, "k", 3 * P + 10));
	uint8_t want[P], got[4 * P];
	uint64_t chunk = 99;

	must(!has(f, 0, 1, 0));
	fill(f, 1, P, 1);
	must(has(f, P, P, 0));
	must(!has(f, P, P + 1, 2));
	must(!has(f, P - 1, 2, 0));
	rig_pattern(want, P, P, 1);
	rig_must_read(f, P, want, P);
	must_eq(store_file_read(f, got, P, 2 * P, &chunk), -EREMOTE);
	must_eq(chunk, 2);
	fill(f, 0, P, 1);
	fill(f, 3, 10, 1);
	must(!has(f, 0, 4 * P, 2));
	fill(f, 2, P, 1);
	must(has(f, 0, 3 * P + 10, 0));
	must(has(f, 3 * P, 4711, 0)); /* what is beyond the end is not missing */
	must_eq(store_file_read(f, got, sizeof(got), 0, &chunk), 3 * P + 10);
	store_file_close(f);
}

/* A read that begins in a present chunk may return what is there. */
static void read_across_the_edge_gives_no_wrong_bytes(void **state)
{
	struct rig *r = *state;
	struct store_file *f = rig_file(r, import(r, "k", 3 * P));
	uint8_t want[P], got[2 * P];
	uint64_t chunk = 99;
	ssize_t n;

	fill(f, 0, P, 1);
	n = store_file_read(f, got, 2 * P, 0, &chunk);
	must(n == -EREMOTE || n == P);
	if (n == -EREMOTE)
		must_eq(chunk, 1);
	rig_pattern(want, P, 0, 1);
	if (n == P)
		must(memcmp(want, got, P) == 0);
	store_file_close(f);
}

static void failed_fill_leaves_it_absent(void **state)
{
	struct rig *r = *state;
	struct store_file *f = rig_file(r, import(r, "k", 2 * P));
	struct store_space space;

	must_eq(store_chunk_fill_begin(f, 0), 0);
	must_eq(store_chunk_fill_write(f, 0, 0, "abc", 3), 0);
	must(!has(f, 0, 3, 0));
	must_eq(store_chunk_fill_end(f, 0, false), 0);
	must(!has(f, 0, 3, 0));
	store_space(r->s, &space);
	must_eq(space.used_bytes, 0);
	fill(f, 0, P, 1);
	must(has(f, 0, P, 0));
	store_file_close(f);
}

static void fill_survives_a_clean_reopen(void **state)
{
	struct rig *r = *state;
	uint64_t ino = import(r, "k", 2 * P);
	struct store_file *f = rig_file(r, ino);
	struct store_space space;

	fill(f, 1, P, 1);
	store_file_close(f);
	store_space(r->s, &space);
	must_eq(space.used_bytes, P);
	must_eq(space.pending_bytes, 0);
	rig_reopen(r);
	f = rig_file(r, ino);
	must(has(f, P, P, 0));
	must(!has(f, 0, P, 0));
	store_file_close(f);
	store_space(r->s, &space);
	must_eq(space.used_bytes, P);
}

static void filled_with_crc_is_known(void **state)
{
	struct rig *r = *state;
	uint64_t ino = import(r, "k", 2 * P);
	struct store_file *f = rig_file(r, ino);
	struct store_chunk c;

	fill(f, 0, P, 1);
	must_eq(store_chunk(r->s, ino, 0, &c), 0);
	must(c.present);
	must_eq(store_chunk(r->s, ino, 1, &c), 0);
	must(!c.present);
	store_file_close(f);
}

/* ---- the first change to a file with absent chunks --------------------------------------------------------- */

/* A file of ours whose chunks were all evicted. */
static uint64_t evicted(struct rig *r, const char *name, size_t len)
{
	uint64_t ino = rig_put(r, STORE_ROOT_INO, name, len, 1);

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_flush_all(r->s), 0);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	return ino;
}

static void change_waits_for_absent_chunks(void **state)
{
	struct rig *r = *state;
	uint64_t ino = evicted(r, "f", 2 * P), chunk = 99, g0 = rig_attr(r, ino).generation;
	struct store_file *f = rig_write_begin(r, ino);

	must_eq(store_file_write(f, "x", 1, P + 5, false, &chunk), -EREMOTE);
	must(chunk < 2);
	must_eq(rig_attr(r, ino).generation, g0);
	must_state(rig_state(r, ino), FILE_VERIFIED);
	must_eq(store_file_truncate(f, 10, &chunk), -EREMOTE);
	fill(f, 0, P, 1);
	must_eq(store_file_write(f, "x", 1, P + 5, false, &chunk), -EREMOTE);
	must_eq(chunk, 1);
	fill(f, 1, P, 1);
	must_eq(store_file_write(f, "x", 1, P + 5, false, &chunk), 0);
	must_eq(rig_attr(r, ino).generation, g0 + 1);
	rig_must_read(f, P + 5, "x", 1);
	rig_write_end(f);
}

/* Nothing of the old content is needed. */
static void truncate_to_nothing_needs_no_chunks(void **state)
{
	struct rig *r = *state;
	uint64_t ino = evicted(r, "f", 2 * P), chunk;
	struct store_file *f = rig_write_begin(r, ino);

	must_eq(store_file_truncate(f, 0, &chunk), 0);
	rig_write_pattern(f, 0, 3 * P, 5);
	rig_write_end(f);
	rig_must_hold(r, ino, 3 * P, 5);
	must_state(rig_state(r, ino), FILE_CLOSED);
}

static void change_during_a_fill_drops_it(void **state)
{
	struct rig *r = *state;
	uint64_t ino = evicted(r, "f", P), chunk;
	struct store_file *f = rig_write_begin(r, ino);
	uint8_t old[P];

	rig_pattern(old, P, 0, 1);
	must_eq(store_chunk_fill_begin(f, 0), 0);
	must_eq(store_chunk_fill_write(f, 0, 0, old, P / 2), 0);
	must_eq(store_file_truncate(f, 0, &chunk), 0);
	rig_write_pattern(f, 0, P, 7);
	/* told or not that it comes too late: it must not land */
	if (store_chunk_fill_write(f, 0, P / 2, old, P / 2) == 0)
		must(store_chunk_fill_end(f, 0, true) <= 0);
	else
		must(store_chunk_fill_end(f, 0, false) <= 0);
	rig_write_end(f);
	rig_must_hold(r, ino, P, 7);
}

/* A fetch that stalls for long: meanwhile the file was written anew, and that version evicted in part. */
static void fill_of_an_older_version(void **state)
{
	struct rig *r = *state;
	uint64_t ino = evicted(r, "f", 16 * P), chunk;
	struct store_file *f = rig_write_begin(r, ino);
	struct store_chunk c;
	uint8_t old[P];

	rig_pattern(old, P, 0, 1);
	must_eq(store_chunk_fill_begin(f, 0), 0);
	must_eq(store_chunk_fill_write(f, 0, 0, old, P / 2), 0);
	must_eq(store_file_truncate(f, 0, &chunk), 0);
	rig_write_pattern(f, 0, 16 * P, 7);
	must_eq(store_file_flush(f, false, NULL), 0);
	store_file_writer_drop(f);
	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_file_read(f, old, 1, 5 * P, &chunk), 1);
	must_eq(store_evict(r->s, 2 * P), 0);
	must_eq(store_chunk(r->s, ino, 0, &c), 0);
	must(!c.present);
	rig_pattern(old, P, 0, 1);
	must_eq(store_chunk_fill_write(f, 0, P / 2, old, P / 2), -ESTALE);
	must_eq(store_chunk_fill_end(f, 0, true), -ESTALE);
	must_eq(store_chunk(r->s, ino, 0, &c), 0);
	must(!c.present);
	fill(f, 0, P, 7); /* what is asked for now */
	store_file_close(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_double_every_thousand),
		cmocka_unit_test(starts_are_sums_of_sizes),
		cmocka_unit_test(chunk_of_is_the_inverse),
		cmocka_unit_test(counts_at_the_edges),
		rig_test(filled_chunks_are_read),
		rig_test(read_across_the_edge_gives_no_wrong_bytes),
		rig_test(failed_fill_leaves_it_absent),
		rig_test(fill_survives_a_clean_reopen),
		rig_test(filled_with_crc_is_known),
		rig_test(change_waits_for_absent_chunks),
		rig_test(truncate_to_nothing_needs_no_chunks),
		rig_test(change_during_a_fill_drops_it),
		rig_test(fill_of_an_older_version),
	};

	return cmocka_run_group_tests_name("store chunks", tests, NULL, NULL);
}
