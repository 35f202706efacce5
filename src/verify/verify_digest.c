/*
 * verify_digest - what a file's object would be called by S3: its MD5, or the ETag of the parts an
 *                 uploader makes of it; and its CRC64NVME.
 *
 * Part sizes are not told by the ETag "…-N", only their number. Those that uploaders use and that
 * make N parts of this size are tried: 5, 8 and 16 MiB and their doublings (aws-cli, s5cmd: 50 MB
 * and MiB; rclone: 5 MiB up), and cpgfs' own parts of 8 MiB that double every 1,000. All of them in
 * one reading.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "verify_tree.h"

enum { BUFFER_BYTES = 1 << 20, SCHEDULES_MAX = 24 };

/* One way to cut the file: part n has base << (n / step) bytes (step 0: all the same). */
struct schedule {
	uint64_t base;
	unsigned step;
	uint64_t left;	/* of the part at hand */
	unsigned parts; /* finished */
	struct md5_ctx *part;
	struct md5_ctx *whole; /* over the parts' MD5s */
};

struct digest {
	struct schedule schedules[SCHEDULES_MAX];
	unsigned count;
	struct md5_ctx *md5; /* of a plain ETag */
	uint64_t crc;
};

static uint64_t part_bytes(const struct schedule *s)
{
	return s->step ? chunk_size(s->base, s->parts) : s->base;
}

static uint64_t parts_of(uint64_t size, uint64_t base, unsigned step)
{
	return step ? chunk_count_of(base, size) : (size + base - 1) / base;
}

static int schedule_add(struct digest *d, uint64_t base, unsigned step)
{
	struct schedule *s = &d->schedules[d->count];

	if (d->count == SCHEDULES_MAX)
		return 0;
	*s = (struct schedule){.base = base, .step = step};
	d->count++;
	if (md5_create(&s->part) < 0 || md5_create(&s->whole) < 0)
		return -ENOMEM;
	s->left = part_bytes(s);
	return 0;
}

static int schedules_make(struct digest *d, uint64_t size, uint64_t parts)
{
	static const uint64_t bases[] = {
		5 * MIB, 8 * MIB, 15 * MIB, 50 * MIB, 50000000, 10000000, 100000000};
	int r = 0;

	if (parts_of(size, 8 * MIB, 1000) == parts && parts > 1000)
		r = schedule_add(d, 8 * MIB, 1000);
	for (size_t i = 0; i < array_len(bases); i++) {
		for (uint64_t base = bases[i]; base <= 5 * GIB && r == 0; base *= 2) {
			if (parts_of(size, base, 0) == parts)
				r = schedule_add(d, base, 0);
		}
	}
	return r;
}

/* "…-N": N; 0 for a plain one. */
static uint64_t part_count(const char *etag)
{
	const char *dash = strrchr(etag, '-');
	uint64_t n;

	return dash && u64_parse(dash + 1, &n) == 0 ? n : 0;
}

static int part_end(struct schedule *s)
{
	uint8_t md5[16];

	md5_finish(steal_ptr(s->part), md5);
	md5_update(s->whole, md5, sizeof(md5));
	s->parts++;
	s->left = part_bytes(s);
	return md5_create(&s->part);
}

static int schedule_feed(struct schedule *s, const uint8_t *data, size_t len)
{
	while (len > 0) {
		size_t n = len < s->left ? len : (size_t)s->left;

		md5_update(s->part, data, n);
		s->left -= n;
		data += n;
		len -= n;
		if (s->left == 0 && part_end(s) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void digest_free(struct digest *d)
{
	uint8_t md5[16];

	for (unsigned i = 0; i < d->count; i++) {
		if (d->schedules[i].part)
			md5_finish(d->schedules[i].part, md5);
		if (d->schedules[i].whole)
			md5_finish(d->schedules[i].whole, md5);
	}
	if (d->md5)
		md5_finish(d->md5, md5);
}

static int feed(struct digest *d, const uint8_t *data, size_t len, bool with_crc)
{
	if (with_crc)
		d->crc = crc64nvme(d->crc, data, len);
	if (d->md5)
		md5_update(d->md5, data, len);
	for (unsigned i = 0; i < d->count; i++) {
		if (schedule_feed(&d->schedules[i], data, len) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int read_all(struct digest *d, const char *path, bool with_crc, uint64_t *ret_bytes)
{
	cleanup_free uint8_t *data = malloc(BUFFER_BYTES);
	cleanup_fd int fd = -1;
	int r = data ? io_open(path, O_RDONLY, 0, &fd) : -ENOMEM;
	ssize_t n = 1;

	*ret_bytes = 0;
	while (r == 0 && n > 0) {
		n = io_pread(fd, data, BUFFER_BYTES, *ret_bytes);
		if (n > 0)
			r = feed(d, data, (size_t)n, with_crc);
		*ret_bytes += n > 0 ? (uint64_t)n : 0;
	}
	return r < 0 ? r : n < 0 ? (int)n : 0;
}

/* The tag of the schedule that gives `like`; "" if none does. */
static int etag_of_parts(struct digest *d, const char *like, char out[S3_ETAG_MAX])
{
	for (unsigned i = 0; i < d->count; i++) {
		struct schedule *s = &d->schedules[i];
		uint8_t md5[16];
		char hex[33];

		if (s->left != part_bytes(s) && part_end(s) < 0)
			return -ENOMEM;
		md5_finish(steal_ptr(s->whole), md5);
		hex_encode(md5, sizeof(md5), hex);
		snprintf(out, S3_ETAG_MAX, "%s-%u", hex, s->parts);
		if (strcasecmp(out, like) == 0)
			return 0;
	}
	out[0] = '\0';
	return 0;
}

int verify_digest(const char *path, const char *like, bool with_crc, struct file_digest *ret)
{
	cleanup_with(digest_free) struct digest d = {0};
	struct file_digest out = {0};
	uint64_t parts = part_count(like);
	struct stat st;
	uint8_t md5[16];
	int r = stat(path, &st) < 0 ? -errno : 0;

	if (r == 0 && parts > 0)
		r = schedules_make(&d, (uint64_t)st.st_size, parts);
	else if (r == 0 && s3_etag_is_md5(like))
		r = md5_create(&d.md5);
	if (r == 0)
		r = read_all(&d, path, with_crc, &out.size_bytes);
	if (r < 0)
		return r;
	out.crc64nvme = d.crc;
	if (d.md5) {
		md5_finish(steal_ptr(d.md5), md5);
		hex_encode(md5, sizeof(md5), out.etag);
	} else if (etag_of_parts(&d, like, out.etag) < 0) {
		return -ENOMEM;
	}
	*ret = out;
	return 0;
}
