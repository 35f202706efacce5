/*
 * store_chunks - chunk geometry, chunk records, and filling chunks that were absent.
 */
#include "store_private.h"

#include <fcntl.h>
#include <linux/falloc.h>

#define CHUNK_MAX_BYTES (5 * GIB)
#define CHUNKS_PER_STEP 1000

/* Chunk n has part << (n / 1000) bytes, so a file that grows while it is sent never needs other parts. */
uint64_t chunk_size(uint64_t part_size_bytes, uint64_t n)
{
	uint64_t step = n / CHUNKS_PER_STEP;
	uint64_t size = step < 32 ? part_size_bytes << step : CHUNK_MAX_BYTES;
	return size < CHUNK_MAX_BYTES ? size : CHUNK_MAX_BYTES;
}

uint64_t chunk_start(uint64_t part_size_bytes, uint64_t n)
{
	uint64_t start = 0;
	for (uint64_t first = 0; first < n; first += CHUNKS_PER_STEP) {
		uint64_t count = n - first < CHUNKS_PER_STEP ? n - first : CHUNKS_PER_STEP;
		start += count * chunk_size(part_size_bytes, first);
	}
	return start;
}

uint64_t chunk_of(uint64_t part_size_bytes, uint64_t off)
{
	check(part_size_bytes > 0);
	for (uint64_t first = 0;; first += CHUNKS_PER_STEP) {
		uint64_t size = chunk_size(part_size_bytes, first);
		if (off < size * CHUNKS_PER_STEP || size == CHUNK_MAX_BYTES) /* none is larger */
			return first + off / size;
		off -= size * CHUNKS_PER_STEP;
	}
}

uint64_t chunk_count_of(uint64_t part_size_bytes, uint64_t size_bytes)
{
	return size_bytes ? chunk_of(part_size_bytes, size_bytes - 1) + 1 : 0;
}

static uint64_t chunk_len(uint64_t part_size_bytes, uint64_t n, uint64_t size_bytes)
{
	uint64_t start = chunk_start(part_size_bytes, n), len = chunk_size(part_size_bytes, n);
	if (start >= size_bytes)
		return 0;
	return size_bytes - start < len ? size_bytes - start : len;
}

int store_chunk(struct store *s, uint64_t ino, uint64_t n, struct store_chunk *ret)
{
	struct record r;
	struct chunk_record c;
	with_lock(&s->lock);
	int e = record_get(s, ino, &r);
	if (e < 0)
		return e;
	record_overlay(s, &r);
	if (r.i.attr.type != STORE_FILE)
		return -EISDIR;
	if (n >= r.i.chunk_count)
		return -ERANGE;
	e = chunk_get(s, ino, n, &c);
	if (e < 0)
		return e;
	*ret = (struct store_chunk){ .number = n,
		.start = chunk_start(r.i.part_size_bytes, n),
		.len = chunk_len(r.i.part_size_bytes, n, r.i.attr.size_bytes),
		.present = !c.absent,
		.has_crc64nvme = c.has_crc,
		.crc64nvme = c.crc64nvme,
		.part_attempt = c.part_attempt };
	(void)text_copy(ret->part_etag, c.part_etag, sizeof(ret->part_etag)); /* same size */
	return 0;
}

/* ---- filling ---------------------------------------------------------------------------------------------- */

static int filling_room(struct store_file *f)
{
	if (!f->filling)
		f->filling = calloc(1, STORE_CHUNKS_MAX / 8 + 1);
	return f->filling ? 0 : -ENOMEM;
}

int store_chunk_fill_begin(struct store_file *f, uint64_t n)
{
	lock_take(&f->lock);
	file_wait_idle(f);
	uint64_t size = atomic_load(&f->size_bytes);
	uint64_t len = chunk_len(f->part_size_bytes, n, size);
	uint64_t stays_ino = clock_mono_ms() < f->whole_until_ms ? f->ino : 0;
	int r = f->dirty || !bit_test(f->absent, n) ? -ESTALE : 0;
	if (r == 0 && bit_test(f->leaving, n))
		r = -EDQUOT; /* its old bytes go first */
	if (r == 0)
		r = filling_room(f);
	if (r == 0)
		r = space_take_for(f->store, 0, stays_ino, 0, len); /* the others can go meanwhile */
	if (r == 0)
		f->growth_bytes += len;
	if (r == 0) {
		r = file_fd(f, true);
		if (r < 0)
			space_arrived(f->store, len);
	}
	if (r == 0) {
		bit_set(f->filling, n, true);
		f->fills++;
		f->fill_bytes += len;
		space_filling(f->store, 1);
	}
	lock_drop(&f->lock);
	return r;
}

/* Of the version for which it was begun, which may have been replaced by another one, absent again. */
static bool is_wanted(struct store_file *f, uint64_t n)
{
	return !f->dirty && bit_test(f->absent, n) && bit_test(f->filling, n);
}

/* A file that becomes empty waits for it, so that it cannot land in what is written next. */
int store_chunk_fill_write(
	struct store_file *f, uint64_t n, uint64_t off_in_chunk, const void *data, size_t len)
{
	lock_take(&f->lock);
	uint64_t most = chunk_len(f->part_size_bytes, n, atomic_load(&f->size_bytes));
	uint64_t start = chunk_start(f->part_size_bytes, n);
	int fd = f->fd, r = is_wanted(f, n) && fd >= 0 ? 0 : -ESTALE;
	if (r == 0 && (off_in_chunk > most || len > most - off_in_chunk))
		r = -ERANGE;
	f->fill_writes += r == 0;
	lock_drop(&f->lock);
	if (r < 0)
		return r;
	r = io_pwrite(fd, data, len, start + off_in_chunk);
	lock_take(&f->lock);
	f->fill_writes--;
	cond_broadcast(&f->idle);
	lock_drop(&f->lock);
	return r;
}

/* Present only now, after its bytes are written; "filled" until a sync, so that a power cut drops it. */
static int record_filled(struct store_file *f, uint64_t n, struct news *news)
{
	struct store *s = f->store;
	struct chunk_record filled = { .filled = true };
	struct record old;
	store_enter(s);
	int r = record_get(s, f->ino, &old);
	if (r == 0) {
		struct record new = old;
		bit_set(f->absent, n, false);
		f->absent_count--;
		new.present_bytes = file_present_bytes(f);
		op_begin(s);
		op_chunk(s, f->ino, n, &filled);
		op_inode(s, &old, &new);
		op_unsynced(s, f->ino);
		r = op_commit(s);
		if (r < 0) {
			bit_set(f->absent, n, true);
			f->absent_count++;
		}
		f->has_filled = true;
	}
	store_leave(s, news);
	return r;
}

/* The file may have become shorter meanwhile: the last one takes all that is left. */
static uint64_t fill_bytes_end(struct store_file *f, uint64_t len)
{
	uint64_t bytes = --f->fills == 0 || len > f->fill_bytes ? f->fill_bytes : len;
	f->fill_bytes -= bytes;
	return bytes;
}

int store_chunk_fill_end(struct store_file *f, uint64_t n, bool ok)
{
	struct news news = { 0 };
	lock_take(&f->lock);
	uint64_t len = chunk_len(f->part_size_bytes, n, atomic_load(&f->size_bytes));
	int r = is_wanted(f, n) ? 0 : -ESTALE;
	bit_set(f->filling, n, false);
	if (r == 0 && ok)
		r = record_filled(f, n, &news);
	uint64_t growth = len < f->growth_bytes ? len : f->growth_bytes;
	f->growth_bytes -= growth;
	uint64_t arrived = fill_bytes_end(f, len);
	lock_drop(&f->lock);
	space_filling(f->store, -1);
	space_arrived(f->store, arrived);
	space_give(f->store, 0, growth);
	return r;
}
