/*
 * upload_digest - the hash pool: one pass over the bytes of a version (or a part) for what is
 * wanted of it.
 *
 * A digest reads through its own descriptor while programs may still write; whether the version is
 * still the same afterwards is the asker's question (store_version_is). Its result is an event.
 */
#include "upload_private.h"

#include <fcntl.h>

/* Stays in the cache of a core between reading and summing. */
#define READ_BYTES (256 * KIB)
#define TIFF_HEAD_BYTES 16
/* A look at what is in memory costs as much as reading a few pages. */
#define PROVE_BYTES MIB

static void digest_free(struct digest *d)
{
	struct upload *u = d->upload;

	if (d->body)
		body_fd_unref(d->body);
	else if (d->fd >= 0)
		close(d->fd);
	free(d->crcs);
	free(d);
	upload_unref(u);
}

static void digest_drop(struct event *e)
{
	digest_free((struct digest *)e);
}

/* Of a version without a task its state tells. */
static void tell_unread(const struct digest *d)
{
	if (d->task && d->error < 0 && d->error != -ENODATA && d->error != -ENOMEM &&
		d->error != -EUCLEAN && d->error != -EAGAIN && d->error != -ESHUTDOWN)
		log_warn("%s: the cache disk could not be read (%s); it is tried again",
			d->task->key, strerror(-d->error));
}

static void digest_ended(struct upload *u, struct event *e)
{
	struct digest *d = (struct digest *)e;

	u->sched.digests_active--;
	if (d->task)
		d->task->outstanding--;
	tell_unread(d);
	d->done(u, d);
	digest_free(d);
}

/* ---- reading ------------------------------------------------------------------------------------ */

/* What is computed on the way; NULL contexts are not wanted. */
struct sums {
	uint64_t crc64nvme;
	struct sha256_ctx *sha256;
	struct md5_ctx *md5;
};

static void sums_add(struct sums *s, const void *data, size_t len)
{
	s->crc64nvme = crc64nvme(s->crc64nvme, data, len);
	if (s->sha256)
		sha256_update(s->sha256, data, len);
	if (s->md5)
		md5_update(s->md5, data, len);
}

static bool has_checksum(const struct digest *d, uint64_t n)
{
	struct store_chunk c;

	return store_chunk(d->upload->store, d->version.ino, n, &c) == 0 && c.has_crc64nvme;
}

/* Has the disk taken it? -EUCLEAN: it said no; -EAGAIN: this cannot be told now. */
static int ask_disk(struct digest *d)
{
	struct store *s = d->upload->store;
	enum store_synced synced = store_synced(s, d->version.ino);
	int r = 0;

	if (synced == STORE_UNSYNCED) {
		/* all: the kernel forgets a file's failure with its inode, but not that there was one */
		r = store_flush_all(s);
		synced = store_synced(s, d->version.ino);
	}
	if (synced == STORE_SUSPECT)
		return -EUCLEAN;
	if (synced == STORE_UNSYNCED && r < 0)
		return -EAGAIN;
	d->is_proving = false;
	return 0;
}

/* What is read for a chunk's first checksum counts from then on as what was written. But what the
 * disk refused, the kernel drops: so it is read from memory, or after the disk has said that it
 * took it. */
static int prove(struct digest *d, uint64_t off, size_t len)
{
	const struct version *v = &d->version;
	uint64_t n = chunk_of(v->part_size_bytes, off);
	uint64_t end = chunk_start(v->part_size_bytes, n) + chunk_size(v->part_size_bytes, n);
	int r;

	if (!d->is_proving || (off >= d->proved_from && off + len <= d->proved_until))
		return 0;
	if (end > v->size_bytes)
		end = v->size_bytes;
	if (end > off + PROVE_BYTES)
		end = off + PROVE_BYTES;
	r = end > off ? io_is_cached(d->fd, off, (size_t)(end - off)) : 0;
	if (r == 0) {
		d->proved_from = off;
		d->proved_until = end;
	}
	if (r != -EAGAIN)
		return r;
	return has_checksum(d, n) ? 0 : ask_disk(d); /* else it will be compared */
}

static ssize_t read_for_checksum(struct digest *d, void *data, size_t len, uint64_t off)
{
	int r = prove(d, off, len);

	return r < 0 ? r : io_pread(d->fd, data, len, off);
}

static int sums_of_range(
	struct digest *d, void *block, uint64_t start, uint64_t len, struct sums *s)
{
	while (len > 0) {
		size_t want = len < READ_BYTES ? len : READ_BYTES;
		ssize_t n;

		if (atomic_load(&d->upload->digests_end))
			return -ESHUTDOWN;
		n = read_for_checksum(d, block, want, start);
		if (n < 0)
			return (int)n;
		if ((size_t)n < want)
			return -ENODATA;
		sums_add(s, block, want);
		start += want;
		len -= want;
	}
	return 0;
}

static void md5_text(struct md5_ctx *c, char out[33])
{
	uint8_t sum[16];

	md5_finish(c, sum);
	hex_encode(sum, sizeof(sum), out);
}

/* Opens the contexts for what is wanted beside the CRC; close_sums ends them in any case. */
static int sums_open(struct sums *s, bool sha256, bool md5)
{
	int r = sha256 ? sha256_create(&s->sha256) : 0;

	if (r == 0 && md5)
		r = md5_create(&s->md5);
	return r;
}

static void sums_close(struct sums *s, struct digest *d)
{
	if (s->sha256)
		sha256_finish(s->sha256, d->sha256);
	if (s->md5)
		md5_text(s->md5, d->md5);
}

/* ---- the kinds ---------------------------------------------------------------------------------- */

/* Every chunk's CRC starts afresh; SHA-256 and MD5 run through. */
static int digest_whole(struct digest *d, void *block)
{
	const struct version *v = &d->version;
	struct sums s = {0};
	int r = sums_open(&s, d->want_sha256, d->want_sha256);

	for (uint64_t n = 0; r == 0 && n < v->chunk_count; n++) {
		uint64_t start = chunk_start(v->part_size_bytes, n);
		uint64_t len = chunk_size(v->part_size_bytes, n);

		if (len > v->size_bytes - start)
			len = v->size_bytes - start;
		s.crc64nvme = 0;
		r = sums_of_range(d, block, start, len, &s);
		d->crcs[n] = s.crc64nvme;
		d->crc64nvme = n == 0 ? s.crc64nvme
				      : crc64nvme_combine(d->crc64nvme, s.crc64nvme, len);
	}
	sums_close(&s, d);
	return r;
}

static int digest_part(struct digest *d, void *block)
{
	const struct version *v = &d->version;
	uint64_t start = chunk_start(v->part_size_bytes, d->chunk);
	uint64_t len = chunk_size(v->part_size_bytes, d->chunk);
	struct sums s = {0};
	int r = sums_open(&s, true, false);

	if (len > v->size_bytes - start)
		len = v->size_bytes - start;
	if (r == 0)
		r = sums_of_range(d, block, start, len, &s);
	d->crc64nvme = s.crc64nvme;
	sums_close(&s, d);
	return r;
}

static int looks_cut_off(struct digest *d)
{
	uint8_t head[TIFF_HEAD_BYTES] = {0};
	ssize_t n;

	if (d->version.size_bytes == 0 || (d->version.flags & STORE_FLAG_ACCEPTED))
		return 0;
	n = read_for_checksum(d, head, sizeof(head), 0);
	if (n < 0)
		return (int)n;
	d->cut_off = tiff_looks_cut_off(d->version.name, head, (size_t)n, d->version.size_bytes);
	return 0;
}

/* ---- does an ETag belong to these bytes? -------------------------------------------------------- */

static int md5_of_range(
	struct digest *d, void *block, uint64_t start, uint64_t len, uint8_t out[16])
{
	struct sums s = {0};
	int r = md5_create(&s.md5);

	if (r < 0)
		return r;
	r = sums_of_range(d, block, start, len, &s);
	md5_finish(s.md5, out);
	return r;
}

bool etag_of_parts(const uint8_t (*md5s)[16], size_t count, char out[S3_ETAG_MAX])
{
	struct md5_ctx *c;
	char hex[33];

	if (count == 0 || md5_create(&c) < 0)
		return false;
	md5_update(c, md5s, count * 16);
	md5_text(c, hex);
	snprintf(out, S3_ETAG_MAX, "%s-%zu", hex, count);
	return true;
}

/* part_bytes 0: the chunks of the version are the parts. */
static int etag_with_parts(struct digest *d, void *block, uint64_t part_bytes, uint64_t count)
{
	const struct version *v = &d->version;
	uint8_t(*md5s)[16] = calloc(count, sizeof(*md5s));
	char etag[S3_ETAG_MAX];
	int r = md5s ? 0 : -ENOMEM;

	for (uint64_t n = 0; r == 0 && n < count; n++) {
		uint64_t start = part_bytes ? n * part_bytes : chunk_start(v->part_size_bytes, n);
		uint64_t len = part_bytes ? part_bytes : chunk_size(v->part_size_bytes, n);

		if (len > v->size_bytes - start)
			len = v->size_bytes - start;
		r = md5_of_range(d, block, start, len, md5s[n]);
	}
	if (r == 0 && etag_of_parts((const uint8_t(*)[16])md5s, count, etag))
		d->same = strcasecmp(etag, d->etag) == 0;
	free(md5s);
	return r;
}

static int etag_plain(struct digest *d, void *block)
{
	uint8_t sum[16];
	int r = md5_of_range(d, block, 0, d->version.size_bytes, sum);

	hex_encode(sum, sizeof(sum), d->md5);
	d->same = r == 0 && strcasecmp(d->md5, d->etag) == 0;
	return r;
}

/* Part sizes that tools use, in MiB: aws-cli and rclone 5 and 8, boto3 8, s5cmd 50, others. */
static const unsigned part_sizes_mib[] = {5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 512};

static int digest_etag(struct digest *d, void *block)
{
	const char *dash = strchr(d->etag, '-');
	uint64_t count, size = d->version.size_bytes;
	int r = 0;

	if (!dash)
		return etag_plain(d, block);
	if (u64_parse(dash + 1, &count) < 0 || count == 0 || count > STORE_CHUNKS_MAX)
		return 0;
	if (count == d->version.chunk_count)
		r = etag_with_parts(d, block, 0, count);
	for (size_t i = 0; r == 0 && !d->same && i < array_len(part_sizes_mib); i++) {
		uint64_t part = part_sizes_mib[i] * MIB;

		if ((size + part - 1) / part == count &&
			!(part == d->version.part_size_bytes && count <= 1000))
			r = etag_with_parts(d, block, part, count);
	}
	return r;
}

/* ---- the pool ----------------------------------------------------------------------------------- */

static int digest_run(struct digest *d)
{
	cleanup_free void *block = malloc(READ_BYTES);
	int r = 0;

	if (!block)
		return -ENOMEM;
	switch (d->kind) {
	case DIGEST_VERSION:
		r = looks_cut_off(d);
		return r < 0 || d->cut_off ? r : digest_whole(d, block);
	case DIGEST_SEND:
		return digest_whole(d, block);
	case DIGEST_PART:
		return digest_part(d, block);
	case DIGEST_ETAG:
		return digest_etag(d, block);
	}
	return r;
}

static void digest_job(void *user)
{
	struct digest *d = user;

	(void)posix_fadvise(d->fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* a hint only */
	d->is_proving = (d->kind == DIGEST_VERSION || d->kind == DIGEST_PART) &&
			!(d->version.flags & STORE_FLAG_UNPROVED) &&
			store_synced(d->upload->store, d->version.ino) != STORE_SYNCED;
	d->error = digest_run(d);
	event_post(d->upload, &d->event);
}

static int digest_prepare(struct upload *u, struct digest *d)
{
	int r = 0;

	if (d->body)
		d->fd = d->body->fd;
	else
		r = store_version_open(u->store, d->version.ino, d->version.generation, &d->fd);
	if (r < 0)
		return d->task ? task_unreadable(u, d->task, r) : r;
	if (d->kind == DIGEST_PART || d->kind == DIGEST_ETAG)
		return 0;
	d->crcs = calloc(d->version.chunk_count ? d->version.chunk_count : 1, sizeof(*d->crcs));
	return d->crcs ? 0 : -ENOMEM;
}

int digest_begin(struct upload *u, const struct digest *what)
{
	struct digest *d = malloc(sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	*d = *what;
	d->event = (struct event){.run = digest_ended, .drop = digest_drop};
	d->upload = u;
	d->fd = -1;
	d->crcs = NULL;
	if (d->body)
		atomic_fetch_add(&d->body->refs, 1);
	atomic_fetch_add(&u->refs, 1);
	r = digest_prepare(u, d);
	if (r == 0)
		r = pool_submit(u->pool, digest_job, d);
	if (r < 0) {
		digest_free(d);
		return r;
	}
	u->sched.digests_active++;
	if (d->task)
		d->task->outstanding++;
	return 0;
}
