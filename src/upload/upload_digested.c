/*
 * upload_digested - SETTLED versions through the hash pool, and what follows: queued, or incomplete if
 * it looks cut off. (That the bucket was proved to hold this content already is a reason to ask whether it
 * still does, no more: somebody may have removed or replaced it since, unseen.)
 *
 * SHA-256 and MD5 (wanted while the server does not check CRC64NVME) are kept for the sending that
 * comes; what does not fit is computed again right before.
 */
#include "upload_private.h"

#include <inttypes.h>

/* Enough that the pool never waits for the scheduler, which then handles results in batches. */
#define DIGESTS_PER_THREAD 16
#define DIGEST_LARGE_BYTES (64 * MIB)
#define SHAS_MAX 8192
#define AGAIN_MS 1000

struct sha_kept {
	uint64_t generation;
	uint8_t sha256[32];
	char md5[33];
};

/* ---- kept SHA-256 ------------------------------------------------------------------------------- */

static void sha_cache_put(struct upload *u, const struct digest *d)
{
	struct sha_kept *kept;

	sha_cache_drop(u, d->version.ino);
	if (u->sched.shas.count >= SHAS_MAX)
		return;
	kept = malloc(sizeof(*kept));
	if (!kept)
		return; /* computed again when it is sent */
	kept->generation = d->version.generation;
	memcpy(kept->sha256, d->sha256, sizeof(kept->sha256));
	memcpy(kept->md5, d->md5, sizeof(kept->md5));
	if (map_put(&u->sched.shas, d->version.ino, kept) < 0)
		free(kept);
}

void sha_cache_get(struct upload *u, struct version *v)
{
	const struct sha_kept *kept = map_get(&u->sched.shas, v->ino);

	if (!kept || kept->generation != v->generation)
		return;
	v->has_sha256 = v->has_md5 = true;
	memcpy(v->sha256, kept->sha256, sizeof(v->sha256));
	memcpy(v->md5, kept->md5, sizeof(v->md5));
}

void sha_cache_drop(struct upload *u, uint64_t ino)
{
	void *kept = map_get(&u->sched.shas, ino);

	map_remove(&u->sched.shas, ino);
	free(kept);
}

void sha_cache_release(struct upload *u)
{
	for (size_t i = 0; i < u->sched.shas.cap; i++)
		free(u->sched.shas.values[i]);
	map_release(&u->sched.shas);
}

/* ---- results ------------------------------------------------------------------------------------ */

static int version_torn(struct upload *u, const struct version *v, const char *reason)
{
	int r = state_set(u, v, &(struct state_change){.to = FILE_TORN, .reason = reason});

	if (r == 0)
		log_error("inode %" PRIu64 " (%s): %s; it is kept and not sent", v->ino, v->name,
			reason);
	return r;
}

int version_damaged(struct upload *u, const struct version *v)
{
	return version_torn(u, v,
		"its bytes in the cache directory are not those that were written (disk fault, or "
		"changed by someone else)");
}

static int version_refused_by_disk(struct upload *u, const struct version *v)
{
	return version_torn(u, v,
		"the cache disk did not take what was written (a sync failed), and it is not in memory any more: "
		"see the disk's health, then copy the file in again");
}

int version_unreadable(struct upload *u, const struct version *v, int error)
{
	char reason[REASON_MAX];
	int r;

	snprintf(reason, sizeof(reason),
		"the cache disk could not be read (%s): see its health, then `cpgfs retry`",
		strerror(-error));
	r = state_set(u, v, &(struct state_change){.to = FILE_FAILED, .reason = reason});
	if (r == 0)
		log_error("inode %" PRIu64 " (%s): %s", v->ino, v->name, reason);
	return r;
}

int task_unreadable(struct upload *u, const struct task *t, int error)
{
	bool heals = error != -EIO && error != -EACCES && error != -EPERM && error != -ELOOP &&
		     error != -EISDIR && error != -ENOTDIR;

	if (heals || t->attempt.id != 0)
		return error;
	version_unreadable(u, &t->version, error);
	return -ESTALE;
}

/* 0, or why it is to be read again. */
static int verdict_unread(struct upload *u, const struct digest *d)
{
	if (d->error == -EAGAIN)
		return d->error;
	if (is_shortage(d->error)) {
		shortage_note(u, d->error);
		return d->error;
	}
	return d->error == -EUCLEAN ? version_refused_by_disk(u, &d->version)
				    : version_unreadable(u, &d->version, d->error);
}

static void digest_failed(struct upload *u, const struct digest *d)
{
	int fd;

	if (d->error == -ESHUTDOWN)
		return;
	if (d->error == -ENODATA) { /* the store looks again, and says lost if it is so */
		if (store_version_open(u->store, d->version.ino, d->version.generation, &fd) == 0)
			close(fd);
		return;
	}
	if (verdict_unread(u, d) < 0)
		wait_for(u, d->version.ino, AGAIN_MS);
}

/* A chunk's checksum stands from before (it was not changed since), and its bytes are others. What a person
 * accepted is what it was then. */
static bool a_chunk_differs(struct upload *u, const struct digest *d)
{
	const struct version *v = &d->version;
	struct store_chunk c;

	if (v->flags & STORE_FLAG_UNPROVED)
		return false;
	for (uint64_t n = 0; n < v->chunk_count; n++) {
		if (store_chunk(u->store, v->ino, n, &c) == 0 && c.has_crc64nvme &&
			c.crc64nvme != d->crcs[n])
			return true;
	}
	return false;
}

static void digest_good(struct upload *u, struct digest *d)
{
	const struct version *v = &d->version;
	int r;

	if (!store_version_is(u->store, v->ino, v->generation))
		return;
	if (a_chunk_differs(u, d)) {
		if (version_damaged(u, v) < 0)
			wait_for(u, v->ino, AGAIN_MS);
		return;
	}
	r = store_version_digested(u->store, v->ino, v->generation, d->crcs,
		(size_t)v->chunk_count, FILE_QUEUED, "");
	if (r == 0 && d->want_sha256) {
		sha_cache_put(u, d);
	} else if (r < 0 && r != -ESTALE && r != -ENOENT) {
		pause_note_store(u, r);
		wait_for(u, v->ino, AGAIN_MS);
	}
}

static void version_digested(struct upload *u, struct digest *d)
{
	map_remove(&u->sched.digests_of_ino, d->version.ino);
	if (d->version.size_bytes >= DIGEST_LARGE_BYTES)
		u->sched.digests_large--;
	window_again(&u->sched.settled);
	if (d->error < 0)
		digest_failed(u, d);
	else if (d->cut_off)
		state_set(u, &d->version,
			&(struct state_change){.to = FILE_INCOMPLETE,
				.reason = "this TIFF is cut off: its first directory lies outside "
					  "the file"});
	else
		digest_good(u, d);
}

/* ---- the pass ----------------------------------------------------------------------------------- */

static bool digest_room(struct upload *u, uint64_t size_bytes)
{
	unsigned large_max = u->hash_threads > 1 ? u->hash_threads - 1 : 1;

	return size_bytes < DIGEST_LARGE_BYTES || u->sched.digests_large < large_max;
}

static bool digest_skips(struct upload *u, uint64_t ino)
{
	return map_get(&u->sched.digests_of_ino, ino) || waits_has(&u->sched.waiting_inos, ino);
}

/* This very version was uploaded before (it was held by its name meanwhile): no need to read it. Its object
 * has to be looked for, or to be moved if the key is another one now and the bytes are not here; if there is
 * no key, its name is to be judged again. 0: it has left the queue; -ENODATA: it has to be read; -EBUSY or a
 * shortage: not known now; -EAGAIN. */
static int uploaded_before(struct upload *u, const struct version *v)
{
	struct state_change change = {.to = FILE_MOVING};
	struct store_inode inode;
	struct key_now now;
	int fd, r, k;

	if (store_inode(u->store, v->ino, &inode) < 0 || inode.object.etag[0] == '\0' ||
		inode.object.generation != v->generation ||
		(inode.attr.flags & STORE_FLAG_FOREIGN))
		return -ENODATA;
	r = store_version_open(u->store, v->ino, v->generation, &fd);
	if (r == 0)
		close(fd);
	if (is_shortage(r))
		return r;
	if (attempts_stand(u, inode.object.key))
		return r == -EREMOTE ? -EBUSY : -ENODATA;
	k = key_of_inode(u, v->ino, &now);
	if (k < 0 && k != -EACCES)
		return k;
	if (k == -EACCES || now.held != HELD_NOT)
		change.to = FILE_CLOSED;
	if (r != -EREMOTE &&
		(change.to == FILE_CLOSED || strcmp(now.key, inode.object.key) != 0))
		return -ENODATA;
	change.names = now.names;
	return state_set(u, v, &change);
}

/* False: it stays SETTLED for now. */
static bool digest_file(struct upload *u, uint64_t ino)
{
	struct digest d = {.kind = DIGEST_VERSION, .done = version_digested};
	int r;

	if (version_load(u, ino, &d.version) < 0 || d.version.state != FILE_SETTLED)
		return true;
	do
		r = uploaded_before(u, &d.version);
	while (r == -EAGAIN);
	if (r == 0 || r == -ESTALE || r == -ENOENT)
		return true;
	if (r != -ENODATA) {
		if (is_shortage(r))
			shortage_note(u, r);
		wait_for(u, ino, AGAIN_MS);
		return false;
	}
	if (!digest_room(u, d.version.size_bytes))
		return false;
	/* before the first answer it is not known: then only what is sent meanwhile is read again */
	d.want_sha256 = u->sched.answered && s3_wants_sha256(u->s3) &&
			d.version.size_bytes <= u->multipart_threshold_bytes &&
			u->sched.shas.count < SHAS_MAX;
	r = digest_begin(u, &d);
	if (r == -ESTALE || r == -ENODATA || r == -ENOENT)
		return true;
	if (r < 0) {
		d.error = r;
		if (r != -EAGAIN)
			digest_failed(u, &d);
		return false;
	}
	if (d.version.size_bytes >= DIGEST_LARGE_BYTES)
		u->sched.digests_large++;
	if (map_put(&u->sched.digests_of_ino, ino, u) < 0)
		log_debug("out of memory: inode %" PRIu64 " may be hashed twice", ino);
	return false;
}

void digest_pass(struct upload *u)
{
	struct store_queue_item item;

	while (u->sched.digests_active < u->hash_threads * DIGESTS_PER_THREAD) {
		if (window_next(u, &u->sched.settled, &item) <= 0)
			return;
		if (digest_skips(u, item.ino) || !digest_file(u, item.ino))
			window_skipped(&u->sched.settled);
	}
}
