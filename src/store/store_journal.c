/*
 * store_journal - the write-ahead journal: one preallocated file, one record per operation.
 *
 *   record = magic(4) length(4) epoch(8) number(8) crc(8) payload(length)     little-endian
 *
 * crc is CRC64NVME over the first 24 bytes and the payload. Numbers rise by one without end; the epoch
 * rises when the index was committed and the file starts again at its front. Recovery takes the
 * unbroken run that the index asks for (its epoch, from its last number + 1); whatever lies behind the
 * run is of another epoch or broken, and can never join a later one.
 */
#include "store_private.h"

#include <fcntl.h>
#include <sys/stat.h>

#define JOURNAL_MAGIC UINT32_C(0x4a475043) /* "CPGJ" */
#define VOID_MAGIC UINT32_C(0x56475043)    /* "CPGV": nothing stands here, and that is meant */
#define HEADER_BYTES JOURNAL_HEADER_BYTES
#define RECORD_MAX_BYTES (16 * MIB)
#define SCAN_BYTES (1 * MIB)
#define SCAN_STEP_BYTES 4096

int journal_open(struct journal *j, int dir_fd)
{
	cleanup_fd int fd = -1;
	int r = io_openat(dir_fd, "journal", O_RDWR | O_CREAT, 0600, &fd);
	if (r < 0)
		return r;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size < JOURNAL_ROOM_BYTES) {
		r = io_fallocate(fd, 0, 0, JOURNAL_ROOM_BYTES);
		if (r == -EOPNOTSUPP) /* such a file system gives no promise for a full disk */
			r = io_truncate(fd, JOURNAL_ROOM_BYTES);
		if (r == 0)
			r = io_fsync(fd);
		if (r < 0)
			return r;
	}
	*j = (struct journal){ .fd = steal_fd(&fd), .room_bytes = JOURNAL_ROOM_BYTES, .epoch = 1,
		.next_number = 1 };
	return 0;
}

void journal_close(struct journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
	j->fd = -1;
}

static uint64_t record_crc(const uint8_t header[HEADER_BYTES], const void *payload, size_t len)
{
	return crc64nvme(crc64nvme(0, header, 24), payload, len);
}

void journal_frame(uint8_t header[JOURNAL_HEADER_BYTES], uint64_t epoch, uint64_t number,
	const void *payload, size_t len)
{
	put_le32(header, JOURNAL_MAGIC);
	put_le32(header + 4, (uint32_t)len);
	put_le64(header + 8, epoch);
	put_le64(header + 16, number);
	put_le64(header + 24, record_crc(header, payload, len));
}

int journal_void(struct journal *j)
{
	uint8_t header[HEADER_BYTES] = { 0 };
	put_le32(header, VOID_MAGIC);
	return io_pwrite(j->fd, header, sizeof(header), j->offset);
}

/* A record that was written in part must not be found later: its header is overwritten. */
static void append_undo(struct journal *j)
{
	if (journal_void(j) < 0)
		j->broken = true;
}

/* payload points behind HEADER_BYTES of room inside the same buffer (store_op.c), so that header and
 * payload go out in one write. */
int journal_append(struct journal *j, const void *payload, size_t len)
{
	uint8_t *header = (uint8_t *)payload - HEADER_BYTES;
	if (j->broken)
		return -EIO;
	if (len > RECORD_MAX_BYTES)
		return -EFBIG;
	journal_frame(header, j->epoch, j->next_number, payload, len);
	int r = io_pwrite(j->fd, header, HEADER_BYTES + len, j->offset);
	if (r < 0) {
		append_undo(j);
		return r;
	}
	j->offset += HEADER_BYTES + len;
	j->next_number++;
	return 0;
}

void journal_take_back(struct journal *j, size_t len)
{
	j->offset -= HEADER_BYTES + len;
	j->next_number--;
	append_undo(j);
}

void journal_restart(struct journal *j)
{
	j->epoch++;
	j->offset = 0;
	j->broken = false;
}

/* The record at the present offset, if it is the one with this epoch and number. -ENOENT: it is not. */
static int record_read(struct journal *j, uint64_t epoch, uint64_t number, struct buf *payload)
{
	uint8_t header[HEADER_BYTES];
	ssize_t n = io_pread(j->fd, header, sizeof(header), j->offset);
	if (n < 0)
		return (int)n;
	size_t len = get_le32(header + 4);
	if (n < HEADER_BYTES || get_le32(header) != JOURNAL_MAGIC || len > RECORD_MAX_BYTES ||
		get_le64(header + 8) != epoch || get_le64(header + 16) != number)
		return -ENOENT;
	char *room = realloc(payload->data, len + 1);
	if (!room)
		return -ENOMEM;
	payload->data = room;
	payload->cap = len + 1;
	n = io_pread(j->fd, room, len, j->offset + HEADER_BYTES);
	if (n < 0)
		return (int)n;
	if ((size_t)n < len || record_crc(header, room, len) != get_le64(header + 24))
		return -ENOENT;
	payload->len = len;
	return 0;
}

/* A record with this epoch and a number not below `number` at offset `at`? */
static int later_at(const struct journal *j, uint64_t at, const uint8_t *header, bool *ret)
{
	struct journal there = *j;
	cleanup_buf struct buf payload = { 0 };
	uint64_t number = get_le64(header + 16);
	if (get_le32(header) != JOURNAL_MAGIC || get_le64(header + 8) != j->epoch ||
		number < j->next_number)
		return 0;
	there.offset = at;
	int r = record_read(&there, j->epoch, number, &payload);
	*ret = *ret || r == 0;
	return r == -ENOENT ? 0 : r;
}

int journal_has_later(struct journal *j, bool *ret)
{
	cleanup_free uint8_t *block = malloc(SCAN_BYTES);
	uint64_t at = j->offset;
	*ret = false;
	if (!block)
		return -ENOMEM;
	while (!*ret) {
		off_t data = lseek(j->fd, (off_t)at, SEEK_DATA); /* most of it is a hole */
		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		at = (uint64_t)data;
		ssize_t n = io_pread(j->fd, block, SCAN_BYTES, at);
		if (n < HEADER_BYTES)
			return n < 0 ? (int)n : 0;
		size_t last = (size_t)n - HEADER_BYTES;
		const uint8_t *p = block;
		int r = 0;
		while (r == 0 && !*ret && (p = memchr(p, 'C', (size_t)(block + last + 1 - p)))) {
			r = later_at(j, at + (uint64_t)(p - block), p, ret);
			p++;
		}
		if (r < 0)
			return r;
		at += last + 1;
	}
	return 0;
}

/* A piece of the file under search: len bytes at `at`. */
struct scan {
	int fd;
	uint8_t *block;
	uint64_t at;
	size_t len;
	int failed; /* reads so far that did */
};

/* The next piece at or behind an offset. A disk that cannot read a block there may read others: then
 * in small steps. -ENOENT: the end. */
static int scan_load(struct scan *c, uint64_t from)
{
	size_t want = SCAN_BYTES;
	ssize_t n = -EIO;
	while (n == -EIO) {
		off_t data = lseek(c->fd, (off_t)from, SEEK_DATA); /* most of it may be a hole */
		if (data < 0)
			return errno == ENXIO ? -ENOENT : -errno;
		c->at = (uint64_t)data;
		n = io_pread(c->fd, c->block, want, c->at);
		if (n == -EIO && want == SCAN_STEP_BYTES)
			from = (c->at / SCAN_STEP_BYTES + 1) * SCAN_STEP_BYTES;
		c->failed += n == -EIO;
		want = SCAN_STEP_BYTES;
	}
	c->len = n < 0 ? 0 : (size_t)n;
	if (n >= 0 && n < HEADER_BYTES)
		return -ENOENT;
	return n < 0 ? (int)n : 0;
}

/* The first whole record that begins in this piece, at or behind `from`. -ENOENT: none does. */
static int scan_find(struct scan *c, uint64_t from, struct buf *payload, uint64_t *ret_at)
{
	const uint8_t *last = c->block + c->len - HEADER_BYTES, *p = c->block;
	if (from > c->at && from - c->at > c->len - HEADER_BYTES)
		return -ENOENT;
	if (from > c->at)
		p += from - c->at;
	while (p <= last && (p = memchr(p, 'C', (size_t)(last + 1 - p)))) {
		struct journal there = { .fd = c->fd, .offset = c->at + (uint64_t)(p - c->block) };
		int r = -ENOENT;
		if (get_le32(p) == JOURNAL_MAGIC)
			r = record_read(&there, get_le64(p + 8), get_le64(p + 16), payload);
		if (r != -ENOENT && r != -EIO) {
			*ret_at = there.offset;
			return r;
		}
		c->failed += r == -EIO;
		p++;
	}
	return -ENOENT;
}

static int scan_piece(
	struct scan *c, uint64_t *at, struct buf *payload, journal_scan_fn *each, void *user)
{
	uint64_t found = 0;
	int r;
	while ((r = scan_find(c, *at, payload, &found)) == 0) {
		const uint8_t *header = c->block + (found - c->at);
		r = each(user, get_le64(header + 8), get_le64(header + 16), payload->data, payload->len);
		if (r < 0)
			return r;
		*at = found + HEADER_BYTES + payload->len;
	}
	uint64_t end = c->at + c->len - HEADER_BYTES + 1;
	*at = *at > end ? *at : end;
	return r == -ENOENT ? 0 : r;
}

int journal_scan(int fd, uint64_t from, journal_scan_fn *each, void *user)
{
	cleanup_free uint8_t *block = malloc(SCAN_BYTES);
	cleanup_buf struct buf payload = { 0 };
	struct scan c = { .fd = fd, .block = block };
	int r = block ? 0 : -ENOMEM;
	while (r == 0) {
		r = scan_load(&c, from);
		if (r == 0)
			r = scan_piece(&c, &from, &payload, each, user);
	}
	return r == -ENOENT || r == -ECANCELED ? c.failed : r;
}

int journal_front(const struct journal *j, enum journal_front *ret, uint64_t *ret_epoch)
{
	struct journal there = *j;
	cleanup_buf struct buf payload = { 0 };
	uint8_t header[HEADER_BYTES];
	ssize_t n = io_pread(j->fd, header, sizeof(header), 0);
	if (n < 0)
		return (int)n;
	*ret = JOURNAL_FRONT_ELSE;
	*ret_epoch = 0;
	if (n < HEADER_BYTES)
		return 0;
	uint64_t epoch = get_le64(header + 8), number = get_le64(header + 16);
	there.offset = 0;
	int r = record_read(&there, epoch, number, &payload);
	if (r == 0) {
		*ret = JOURNAL_FRONT_RECORD;
		*ret_epoch = epoch;
	} else if (get_le32(header) == VOID_MAGIC ||
		(get_le32(header) == JOURNAL_MAGIC && epoch <= j->epoch && number == j->next_number)) {
		*ret = JOURNAL_FRONT_CUT;
	}
	return r == -ENOENT ? 0 : r;
}

bool journal_is_used(int dir_fd)
{
	uint8_t magic[4];
	cleanup_fd int fd = -1;
	int r = io_openat(dir_fd, "journal", O_RDONLY | O_NOFOLLOW, 0, &fd);
	if (r < 0)
		return r != -ENOENT; /* one that cannot be read may well be */
	ssize_t n = io_pread(fd, magic, sizeof(magic), 0);
	return n < 0 || (n == sizeof(magic) && get_le32(magic) == JOURNAL_MAGIC);
}

int journal_replay(struct journal *j, uint64_t epoch, uint64_t first_number, journal_each_fn *each,
	void *user, uint64_t *ret_count)
{
	cleanup_buf struct buf payload = { 0 };
	uint64_t count = 0;
	j->epoch = epoch;
	j->next_number = first_number;
	j->offset = 0;
	for (;;) {
		int r = record_read(j, epoch, j->next_number, &payload);
		if (r == -ENOENT)
			break;
		if (r == 0)
			r = each(user, j->next_number, payload.data, payload.len);
		if (r < 0)
			return r;
		j->offset += HEADER_BYTES + payload.len;
		j->next_number++;
		count++;
	}
	*ret_count = count;
	return 0;
}
