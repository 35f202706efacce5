/*
 * store_stream - which chunks of a large file that is being written are quiet, and their CRCs.
 *
 * Only memory knows when a chunk was changed last; a file is watched from the moment it grows
 * beyond stream_bytes until nobody has it open any more. Each change of bytes counts twice, before
 * it begins and after it ended, under f->lock and after the records that speak of those bytes are
 * void.
 *
 * Why a CRC recorded here is always that of the bytes (I3):
 *
 *   store_stream_begin     gives a mark only while no change of the chunk is under way
 *   store_stream_digested  records the CRC only if the mark still stands, so no change began since;
 *                          it waits for file_wait_idle(), so it cannot come between the voiding of
 *                          a record and the change
 *   both                   hold f->lock, under which every change begins; once the `recorded` bit
 *                          is set, the next change voids the record in the journal first
 *                          (file_before_change), whoever makes it
 *
 * So a kill at any point leaves a CRC only beside the bytes it speaks of. A power cut may lose the
 * voiding and keep the bytes: the version is INCOMPLETE then, and whoever sends it reads all of it
 * first and compares (upload_digested.c).
 */
#include "store_private.h"

#include <fcntl.h>

#define CAP_FIRST 16

/* ---- changes (f->lock) ---------------------------------------------------------------------- */

static void list_growing(struct store_file *f)
{
	with_lock(&f->store->lock);
	if (f->is_growing)
		return;
	f->is_growing = true;
	f->growing_next = f->store->growing;
	f->store->growing = f;
}

static bool heat_wanted(const struct store_file *f, uint64_t end)
{
	uint64_t size = atomic_load(&f->size_bytes), most = f->store->stream_bytes;

	return most > 0 && (size > most || end > most) && !atomic_load(&f->is_lent);
}

static void heat_make(struct store_file *f, struct news *news)
{
	f->heat = calloc(1, sizeof(*f->heat));
	if (!f->heat)
		return; /* tried again with the next change; until then nothing is sent early */
	f->heat->began_ms = clock_mono_ms();
	f->heat->unwatched = f->in_flight;
	list_growing(f);
	news->growing = true;
}

static bool heat_room(struct heat *h, uint64_t last)
{
	size_t cap = h->cap ? h->cap : CAP_FIRST;
	struct chunk_heat *chunks;

	if (last < h->cap)
		return true;
	while (cap <= last)
		cap *= 2;
	chunks = realloc(h->chunks, cap * sizeof(*chunks));
	if (!chunks) {
		h->broken = true;
		return false;
	}
	memset(chunks + h->cap, 0, (cap - h->cap) * sizeof(*chunks));
	h->chunks = chunks;
	h->cap = cap;
	return true;
}

struct span heat_begin(struct store_file *f, uint64_t off, uint64_t end, struct news *news)
{
	struct span none = {.first = 1, .watched = true}, span = {.watched = true};
	uint64_t size = atomic_load(&f->size_bytes);

	lock_assert_held(&f->lock);
	if (!f->heat && heat_wanted(f, end))
		heat_make(f, news);
	if (!f->heat)
		return (struct span){0};
	if (off >= end || f->heat->broken)
		return none;
	span.first = chunk_of(f->part_size_bytes, off < size ? off : size);
	span.last = chunk_of(f->part_size_bytes, end - 1);
	if (!heat_room(f->heat, span.last))
		return none;
	for (uint64_t n = span.first; n <= span.last; n++) {
		f->heat->chunks[n].changes++;
		f->heat->chunks[n].under_way++;
	}
	return span;
}

void heat_end(struct store_file *f, struct span span)
{
	int64_t now_ms = clock_mono_ms();

	lock_assert_held(&f->lock);
	if (!f->heat)
		return;
	if (!span.watched) {
		f->heat->unwatched -= f->heat->unwatched > 0;
		f->heat->began_ms = now_ms;
		return;
	}
	for (uint64_t n = span.first; n <= span.last; n++) {
		f->heat->chunks[n].changes++;
		f->heat->chunks[n].under_way--;
		f->heat->chunks[n].at_ms = now_ms;
	}
}

void heat_unlist(struct store *s, struct store_file *f)
{
	lock_assert_held(&s->lock);
	for (struct store_file **at = &s->growing; *at; at = &(*at)->growing_next) {
		if (*at == f) {
			*at = f->growing_next;
			return;
		}
	}
}

void heat_free(struct store_file *f)
{
	if (f->heat)
		free(f->heat->chunks);
	free(f->heat);
}

/* ---- who grows ------------------------------------------------------------------------------ */

/* out holds the smallest numbers seen so far, in order. */
static size_t keep_smallest(uint64_t *out, size_t count, size_t max, uint64_t ino)
{
	size_t at = count < max ? count : max;

	if (count == max && out[max - 1] < ino)
		return count;
	if (count == max)
		at--;
	for (; at > 0 && out[at - 1] > ino; at--)
		out[at] = out[at - 1];
	out[at] = ino;
	return count < max ? count + 1 : count;
}

size_t store_growing(struct store *s, uint64_t after_ino, uint64_t *out, size_t max)
{
	size_t count = 0;

	with_lock(&s->lock);
	for (const struct store_file *f = s->growing; f && max > 0; f = f->growing_next) {
		if (f->ino > after_ino && atomic_load(&f->is_dirty_hint))
			count = keep_smallest(out, count, max, f->ino);
	}
	return count;
}

/* ---- quiet chunks (f->lock) ----------------------------------------------------------------- */

static uint64_t whole_chunks(const struct store_file *f)
{
	uint64_t size = atomic_load(&f->size_bytes);
	uint64_t count = chunk_count_of(f->part_size_bytes, size);

	return count > 0 && chunk_start(f->part_size_bytes, count) > size ? count - 1 : count;
}

static struct chunk_heat heat_of(const struct store_file *f, uint64_t n)
{
	return n < f->heat->cap ? f->heat->chunks[n] : (struct chunk_heat){0};
}

/* When chunk n becomes quiet; INT64_MAX: not before something ends. */
static int64_t quiet_at_ms(const struct store_file *f, uint64_t n, int64_t quiet_ms)
{
	struct chunk_heat c = heat_of(f, n);

	if (c.under_way || f->heat->unwatched || f->heat->broken || bit_test(f->absent, n))
		return INT64_MAX;
	return (c.at_ms ? c.at_ms : f->heat->began_ms) + quiet_ms;
}

size_t store_stream_look(
	struct store_file *f, int64_t quiet_ms, uint8_t *out, size_t max, int64_t *ret_due_ms)
{
	int64_t now_ms = clock_mono_ms();
	size_t count;

	*ret_due_ms = INT64_MAX;
	with_lock(&f->lock);
	file_wait_idle(f);
	count = whole_chunks(f) < max ? whole_chunks(f) : max;
	memset(out, 0, count);
	for (size_t n = 0; f->heat && n < count; n++) {
		int64_t at_ms = quiet_at_ms(f, n, quiet_ms);

		out[n] = (at_ms <= now_ms ? STORE_CHUNK_QUIET : 0) |
			 (bit_test(f->recorded, n) ? STORE_CHUNK_RECORDED : 0);
		if (at_ms > now_ms && at_ms < *ret_due_ms)
			*ret_due_ms = at_ms;
	}
	return count;
}

/* Something in it was never written. Where a file system cannot say, it is taken for data. */
static bool has_hole(int fd, uint64_t start, uint64_t len)
{
	off_t at = lseek(fd, (off_t)start, SEEK_HOLE);

	return at < 0 ? errno == ENXIO : (uint64_t)at < start + len;
}

int store_stream_begin(struct store_file *f, uint64_t n, int64_t quiet_ms, uint32_t *ret_mark)
{
	uint32_t mark = 0;
	int fd, r;

	lock_take(&f->lock);
	file_wait_idle(f);
	if (!f->heat || n >= whole_chunks(f) || quiet_at_ms(f, n, quiet_ms) > clock_mono_ms())
		r = -EAGAIN;
	else
		r = file_fd(f, false);
	if (r == 0)
		mark = heat_of(f, n).changes;
	fd = f->fd;
	lock_drop(&f->lock);
	if (r == 0 &&
		has_hole(fd, chunk_start(f->part_size_bytes, n), chunk_size(f->part_size_bytes, n)))
		r = -EAGAIN;
	if (r == 0)
		*ret_mark = mark;
	return r;
}

static int record_crc(struct store_file *f, uint64_t n, uint64_t crc64nvme)
{
	struct store *s = f->store;
	struct chunk_record c;
	struct record inode;
	int r;

	with_lock(&s->lock);
	r = record_get(s, f->ino, &inode);
	if (r == 0)
		r = chunk_get(s, f->ino, n, &c);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (c.has_crc)
		return c.crc64nvme == crc64nvme ? 0 : -EIO;
	c.has_crc = true;
	c.crc64nvme = crc64nvme;
	c.part_attempt = 0;
	c.part_etag[0] = '\0';
	op_begin(s);
	op_chunk(s, f->ino, n, &c);
	return op_commit(s);
}

int store_stream_digested(struct store_file *f, uint64_t n, uint32_t mark, uint64_t crc64nvme)
{
	int r;

	with_lock(&f->lock);
	file_wait_idle(f);
	if (!f->heat || n >= whole_chunks(f) || quiet_at_ms(f, n, 0) == INT64_MAX ||
		heat_of(f, n).changes != mark)
		return -ESTALE;
	r = record_crc(f, n, crc64nvme);
	if (r == 0)
		bit_set(f->recorded, n, true);
	return r;
}

int store_stream_open(struct store_file *f, int *ret_fd)
{
	char path[64];

	data_path(f->ino, path);
	return io_openat(f->store->dir_fd, path, O_RDONLY | O_NOFOLLOW, 0, ret_fd);
}
