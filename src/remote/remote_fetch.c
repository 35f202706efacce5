/*
 * remote_fetch - absent chunks of an inode, fetched into the store by ranged GETs.
 *
 * One fetch per chunk, whoever asks. It names the ETag that the inode stands for (If-Match), so a
 * chunk never comes from another object than its neighbours: a changed object is -ESTALE. The body
 * is written to the page cache as it arrives, on the S3 loop thread (no sync there); a transfer
 * that breaks off goes on behind the bytes that are here. Who reads in order gets the next chunks
 * fetched ahead.
 */
#include "remote_private.h"

#include <inttypes.h>

#define LOG_ROOM "remote"

#define FETCHES_MAX 16
#define FETCHES_AHEAD_MAX 8 /* running at once, after which nothing is fetched ahead */
#define AHEAD_CHUNKS 3
#define AHEAD_CHUNK_BYTES_MAX (64 * MIB) /* larger ones are not worth guessing */
#define ATTEMPTS_MAX 6			 /* without a byte between */
#define ROOM_RETRY_MS 5000		 /* asks again even if nobody tells of room */

struct remote_fetch {
	struct remote_task task; /* first: a task is its fetch */
	struct remote_fetch *next, *prev;
	struct remote_fetch *line_next;
	struct remote *remote;
	uint64_t ino, chunk; /* const */
	/* the worker's that runs it; while a request is under way the loop's */
	struct store_file *file; /* filling has begun */
	struct store_object object;
	struct store_chunk want;
	uint64_t received_bytes, request_from_bytes;
	uint64_t crc64nvme;
	int sink_error;
	unsigned attempts;
	bool moot; /* the file was changed here meanwhile: nobody needs the object's bytes */
	struct s3_reply reply;
	struct {
		bool ahead;	 /* nobody asked for it yet */
		bool sequential; /* who asked for it reads in order */
		bool waiting;	 /* in the line */
		bool room;	 /* waits for room, its task is queued */
		bool sent, ended;
		int error;
		unsigned waiters; /* it is freed by the last */
		uint64_t request_id;
	} synced; /* by the room's lock */
};

static void fetch_begin(struct remote *r, struct remote_task *task);
static void fetch_reply(struct remote *r, struct remote_task *task);
static void fetch_again(struct remote *r, struct remote_task *task);

static struct remote_fetch *fetch_find(struct remote *r, uint64_t ino, uint64_t chunk)
{
	struct remote_fetch *f = r->synced.fetches;

	while (f && (f->ino != ino || f->chunk != chunk))
		f = f->next;
	return f;
}

/* ---- line ---- */

static void fetch_queue_task(struct remote *r, struct remote_fetch *f, int64_t due_ms,
	void (*run)(struct remote *r, struct remote_task *task))
{
	f->task.due_ms = due_ms;
	f->task.run = run;
	remote_task_push_locked(r, &f->task);
}

static void start_some_locked(struct remote *r, unsigned running_max)
{
	while (r->synced.fetch_line_first && r->synced.fetches_running < running_max) {
		struct remote_fetch *f = r->synced.fetch_line_first;

		r->synced.fetch_line_first = f->line_next;
		if (!f->line_next)
			r->synced.fetch_line_last = &r->synced.fetch_line_first;
		f->synced.waiting = false;
		r->synced.fetches_running++;
		fetch_queue_task(r, f, 0, fetch_begin);
	}
}

static struct remote_fetch *fetch_add_locked(
	struct remote *r, uint64_t ino, uint64_t chunk, bool ahead)
{
	struct remote_fetch *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->remote = r;
	f->ino = ino;
	f->chunk = chunk;
	f->synced.ahead = ahead;
	f->synced.waiting = true;
	f->next = r->synced.fetches;
	if (f->next)
		f->next->prev = f;
	r->synced.fetches = f;
	*r->synced.fetch_line_last = f;
	r->synced.fetch_line_last = &f->line_next;
	start_some_locked(r, FETCHES_MAX);
	return f;
}

/* ---- reading ahead ---- */

/* Does whoever reads this inode read in order? Starting at the beginning counts. */
static bool reader_note_locked(struct remote *r, uint64_t ino, uint64_t chunk)
{
	struct remote_reader *reader = NULL;
	bool in_order;

	for (size_t i = 0; i < array_len(r->synced.readers); i++) {
		if (r->synced.readers[i].ino == ino)
			reader = &r->synced.readers[i];
	}
	if (!reader) {
		reader = &r->synced.readers[r->synced.reader_next++ % array_len(r->synced.readers)];
		*reader = (struct remote_reader){.ino = ino};
	}
	in_order = chunk == 0 || (chunk > reader->last_chunk && chunk <= reader->next_chunk);
	reader->last_chunk = chunk;
	reader->next_chunk = chunk + 1 + (in_order ? AHEAD_CHUNKS : 0);
	return in_order;
}

static bool may_fetch_ahead(struct remote *r, uint64_t ino, uint64_t chunk)
{
	struct store_chunk c;

	if (store_chunk(r->store, ino, chunk, &c) < 0 || c.present ||
		c.len > AHEAD_CHUNK_BYTES_MAX)
		return false;
	with_lock(&r->lock);
	return !r->synced.stopping && r->synced.fetches_running < FETCHES_AHEAD_MAX &&
	       !fetch_find(r, ino, chunk);
}

static void fetch_ahead(struct remote *r, uint64_t ino, uint64_t chunk, uint64_t chunk_count)
{
	for (uint64_t n = chunk + 1; n <= chunk + AHEAD_CHUNKS && n < chunk_count; n++) {
		if (!may_fetch_ahead(r, ino, n))
			continue;
		with_lock(&r->lock);
		if (!r->synced.stopping && !fetch_find(r, ino, n))
			(void)fetch_add_locked(r, ino, n, true); /* a guess: may fail */
	}
}

/* ---- end ---- */

/* The listing that showed this object shows another one now. */
static void expire_listing_of(struct remote *r, const char *key)
{
	const char *slash = strrchr(key, '/');
	char prefix[KEY_MAX_BYTES + 1];
	struct remote_folder *folder;

	(void)text_copy(prefix, key, sizeof(prefix)); /* as long as a key */
	prefix[slash ? slash + 1 - key : 0] = '\0';
	with_lock(&r->lock);
	folder = remote_cache_find(&r->synced.cache, prefix);
	if (folder)
		remote_folder_expire_locked(folder);
}

static void fetch_free(struct remote_fetch *f)
{
	s3_reply_release(&f->reply);
	free(f);
}

/* True: whoever waits for it frees it. False: still ours. */
static bool fetch_unlink(struct remote *r, struct remote_fetch *f, int error, bool *ret_tell)
{
	with_lock(&r->lock);
	*(f->prev ? &f->prev->next : &r->synced.fetches) = f->next;
	if (f->next)
		f->next->prev = f->prev;
	f->synced.ended = true;
	f->synced.error = error;
	*ret_tell = !f->synced.ahead;
	r->synced.fetches_running--;
	start_some_locked(r, FETCHES_MAX);
	cond_broadcast(&r->fetched);
	return f->synced.waiters > 0;
}

/* Does the file stand for another object by now, as after a rename? Then an error says nothing of it:
 * who wants the chunk looks again. */
static bool was_replaced(struct remote *r, const struct remote_fetch *f)
{
	cleanup_free struct store_inode *inode = calloc(1, sizeof(*inode));

	return f->object.key[0] && inode && store_inode(r->store, f->ino, inode) == 0 &&
	       (strcmp(inode->object.key, f->object.key) != 0 ||
		       strcmp(inode->object.etag, f->object.etag) != 0);
}

/* The store's own -ESTALE is no error of a fetch: who wanted the chunk looks again. */
static int fetch_fill_end(struct remote_fetch *f, int error)
{
	int e = store_chunk_fill_end(f->file, f->chunk, error == 0 && !f->moot);

	store_file_close(steal_ptr(f->file));
	if (f->moot || error < 0)
		return f->moot ? 0 : error;
	return e == -ESTALE ? 0 : e;
}

static void fetch_end(struct remote *r, struct remote_fetch *f, int error)
{
	uint64_t ino = f->ino, chunk = f->chunk;
	bool tell;

	f->moot = f->moot || (error < 0 && error != -ESHUTDOWN && was_replaced(r, f));
	if (f->file)
		error = fetch_fill_end(f, error);
	if (error == -ESTALE && f->object.key[0])
		expire_listing_of(r, f->object.key);
	if (error < 0)
		log_debug("chunk %" PRIu64 " of inode %" PRIu64 " can't be fetched: %s", chunk, ino,
			strerror(-error));
	if (!fetch_unlink(r, f, error, &tell))
		fetch_free(f);
	/* A guess that found no room while somebody began to want it: they look, and ask again. */
	if (tell)
		remote_tell_fetched(r, ino, chunk, error == -EDQUOT ? 0 : error);
}

/* ---- request ---- */

static int fetch_sink(void *user, uint64_t off, const void *data, size_t len)
{
	struct remote_fetch *f = user;
	uint64_t at = f->request_from_bytes + off;
	int e;

	if (at != f->received_bytes || len > f->want.len - at)
		e = -EIO; /* more than was asked for, or not in order */
	else
		e = store_chunk_fill_write(f->file, f->chunk, at, data, len);
	if (e < 0) {
		f->moot = e == -ESTALE;
		f->sink_error = e;
		return e;
	}
	f->crc64nvme = crc64nvme(f->crc64nvme, data, len);
	f->received_bytes += len;
	f->attempts = 0;
	return 0;
}

static void fetch_done(void *user, struct s3_reply *reply)
{
	struct remote_fetch *f = user;
	struct remote *r = f->remote;

	with_lock(&r->lock);
	s3_reply_release(&f->reply);
	s3_reply_move(&f->reply, reply);
	f->synced.sent = false;
	r->synced.requests--;
	fetch_queue_task(r, f, 0, fetch_reply);
}

static bool fetch_mark_sent(struct remote *r, struct remote_fetch *f)
{
	with_lock(&r->lock);
	if (r->synced.stopping)
		return false;
	f->synced.sent = true;
	r->synced.requests++;
	/* A worker and the stopping thread know the request by this count until its id is here. */
	f->synced.waiters++;
	return true;
}

/* The request may be over already: f lives on until its waiters are gone. */
static void fetch_keep_id(struct remote *r, struct remote_fetch *f, uint64_t id)
{
	bool cancel, ended;

	{
		with_lock(&r->lock);
		f->synced.request_id = id;
		cancel = f->synced.sent && r->synced.stopping;
		f->synced.waiters--;
		ended = f->synced.ended && f->synced.waiters == 0;
	}
	if (cancel)
		s3_cancel(r->s3, id);
	if (ended)
		fetch_free(f);
}

static void fetch_not_sent(struct remote *r, struct remote_fetch *f)
{
	with_lock(&r->lock);
	f->synced.sent = false;
	f->synced.waiters--;
	r->synced.requests--;
}

static int fetch_send(struct remote *r, struct remote_fetch *f)
{
	struct s3_request req = {
		.op = S3_GET,
		.key = f->object.key,
		.if_match = f->object.etag,
		.has_range = true,
		.range_start = f->want.start + f->received_bytes,
		.range_len = f->want.len - f->received_bytes,
		.sink = {.write = fetch_sink, .user = f},
	};
	uint64_t id;
	int e;

	f->request_from_bytes = f->received_bytes;
	f->sink_error = 0;
	if (!fetch_mark_sent(r, f))
		return -ESHUTDOWN;
	e = s3_submit(r->s3, &req, fetch_done, f, &id);
	if (e < 0) {
		fetch_not_sent(r, f);
		return e;
	}
	fetch_keep_id(r, f, id);
	return 0; /* f may be gone */
}

static void fetch_again(struct remote *r, struct remote_task *task)
{
	struct remote_fetch *f = (struct remote_fetch *)task;
	int e = fetch_send(r, f);

	if (e < 0)
		fetch_end(r, f, e);
}

/* ---- begin ---- */

static uint64_t room_generation(struct remote *r)
{
	with_lock(&r->lock);
	return r->synced.room_generation;
}

/* No room: a guess is given up, a wanted one waits (unless room came meanwhile). */
static int fetch_wait_room(struct remote *r, struct remote_fetch *f, uint64_t generation)
{
	with_lock(&r->lock);
	if (f->synced.ahead)
		return -EDQUOT;
	if (r->synced.stopping)
		return -ESHUTDOWN;
	f->synced.room = r->synced.room_generation == generation;
	fetch_queue_task(r, f, f->synced.room ? clock_mono_ms() + ROOM_RETRY_MS : 0, fetch_begin);
	return 0;
}

static bool fetch_is_sequential(struct remote *r, const struct remote_fetch *f)
{
	with_lock(&r->lock);
	return f->synced.sequential;
}

/* What is to be fetched, from where. Filling has begun: if the file gets other content from here on,
 * the store takes no bytes of this one. 1: nothing. */
static int fetch_look_up(struct remote *r, struct remote_fetch *f)
{
	cleanup_free struct store_inode *inode = calloc(1, sizeof(*inode));
	int e;

	if (!inode)
		return -ENOMEM;
	e = store_inode(r->store, f->ino, inode);
	if (e == 0)
		e = store_chunk(r->store, f->ino, f->chunk, &f->want);
	if (e < 0)
		return e;
	if (f->want.present || f->want.len == 0)
		return 1;
	f->object = inode->object;
	if (!f->object.key[0] || !f->object.etag[0])
		return -EIO; /* nothing in the bucket to fetch it from */
	if (!remote_is_inside(r, f->object.key))
		return -EACCES;
	if (fetch_is_sequential(r, f))
		fetch_ahead(r, f->ino, f->chunk, inode->chunk_count);
	return 0;
}

/* 1: no longer absent. */
static int fetch_open(struct remote *r, struct remote_fetch *f)
{
	struct store_file *file;
	int e = store_file_open(r->store, f->ino, &file);

	if (e < 0)
		return e;
	e = store_chunk_fill_begin(file, f->chunk);
	if (e < 0) {
		store_file_close(file);
		return e == -ESTALE ? 1 : e;
	}
	f->file = file;
	return 0;
}

static void fetch_begin(struct remote *r, struct remote_task *task)
{
	struct remote_fetch *f = (struct remote_fetch *)task;
	uint64_t generation = room_generation(r);
	int e;

	{
		with_lock(&r->lock);
		f->synced.room = false;
	}
	e = remote_is_stopping(r) ? -ESHUTDOWN : fetch_open(r, f);
	if (e == 0)
		e = fetch_look_up(r, f);
	f->moot = e > 0;
	if (e == -EDQUOT) {
		e = fetch_wait_room(r, f, generation);
		if (e == 0)
			return;
	} else if (e == 0) {
		e = fetch_send(r, f);
		if (e == 0)
			return;
	}
	fetch_end(r, f, e > 0 ? 0 : e);
}

/* ---- reply ---- */

/* A complete answer: is it what was asked for? -ESTALE: of another object. */
static int fetch_check(struct remote_fetch *f)
{
	const struct s3_reply *reply = &f->reply;

	if (reply->object.etag[0] && strcmp(reply->object.etag, f->object.etag) != 0)
		return -ESTALE;
	if (reply->content_range_total && reply->content_range_total != f->object.size_bytes)
		return -ESTALE;
	if (f->want.has_crc64nvme && f->crc64nvme != f->want.crc64nvme)
		return -EIO;
	return 0;
}

static int fetch_retry(
	struct remote *r, struct remote_fetch *f, enum remote_verdict verdict, int error)
{
	with_lock(&r->lock);
	if (r->synced.stopping)
		return -ESHUTDOWN;
	if (++f->attempts >= ATTEMPTS_MAX)
		return error;
	fetch_queue_task(r, f,
		verdict == REMOTE_AGAIN_AT_ONCE && f->attempts == 1
			? 0
			: clock_mono_ms() + s3_backoff_ms(
						    f->attempts, f->reply.class == S3_THROTTLED),
		fetch_again);
	return 1;
}

static int fetch_error(int error)
{
	return error == -ENOENT ? -ESTALE : error; /* gone is changed */
}

/* 0: the chunk is complete; 1: it will be asked for again. */
static int fetch_judge(struct remote *r, struct remote_fetch *f)
{
	int error;
	enum remote_verdict verdict = remote_judge(&f->reply, &error);

	if (f->moot)
		return 0;
	if (f->sink_error)
		return f->sink_error;
	if (verdict == REMOTE_NO)
		return fetch_error(error);
	if (f->received_bytes == f->want.len) /* if only the answer's end was cut off, too */
		return fetch_check(f);
	if (verdict == REMOTE_OK)
		error = -EIO; /* "complete", but short */
	return fetch_retry(r, f, verdict, error);
}

static void fetch_reply(struct remote *r, struct remote_task *task)
{
	struct remote_fetch *f = (struct remote_fetch *)task;
	int e = fetch_judge(r, f);

	if (e <= 0)
		fetch_end(r, f, e);
}

/* ---- for others ---- */

static int is_present(struct remote *r, uint64_t ino, uint64_t chunk)
{
	struct store_chunk c;
	int e = store_chunk(r->store, ino, chunk, &c);

	if (e < 0)
		return e;
	return c.present ? 1 : 0;
}

static int fetch_want_locked(
	struct remote *r, uint64_t ino, uint64_t chunk, struct remote_fetch **ret)
{
	struct remote_fetch *f = fetch_find(r, ino, chunk);
	bool in_order = reader_note_locked(r, ino, chunk);

	if (r->synced.stopping)
		return -ESHUTDOWN;
	if (!f)
		f = fetch_add_locked(r, ino, chunk, false);
	if (!f)
		return -ENOMEM;
	f->synced.ahead = false;
	f->synced.sequential = f->synced.sequential || in_order;
	*ret = f;
	return 0;
}

int remote_fetch(struct remote *r, uint64_t ino, uint64_t chunk)
{
	struct remote_fetch *f;
	int e = is_present(r, ino, chunk);

	if (e != 0)
		return e > 0 ? 0 : e;
	with_lock(&r->lock);
	e = fetch_want_locked(r, ino, chunk, &f);
	return e < 0 ? e : -EINPROGRESS;
}

int remote_fetch_wait(struct remote *r, uint64_t ino, uint64_t chunk, int64_t deadline_ms)
{
	struct remote_fetch *f;
	bool last;
	int e = is_present(r, ino, chunk);

	lock_assert_none_held();
	if (e != 0)
		return e > 0 ? 0 : e;
	{
		with_lock(&r->lock);
		e = fetch_want_locked(r, ino, chunk, &f);
		if (e < 0)
			return e;
		f->synced.waiters++;
		while (!f->synced.ended && e == 0)
			e = cond_wait_until(&r->fetched, &r->lock, deadline_ms);
		if (f->synced.ended)
			e = f->synced.error;
		last = --f->synced.waiters == 0 && f->synced.ended;
	}
	if (last)
		fetch_free(f);
	return e;
}

void remote_room_freed(struct remote *r)
{
	with_lock(&r->lock);
	r->synced.room_generation++;
	for (struct remote_fetch *f = r->synced.fetches; f; f = f->next) {
		if (!f->synced.room)
			continue;
		f->synced.room = false;
		remote_task_pull_locked(r, &f->task);
		fetch_queue_task(r, f, 0, fetch_begin);
	}
}

void remote_fetches_stop(struct remote *r)
{
	uint64_t ids[FETCHES_MAX];
	size_t count = 0;

	{
		with_lock(&r->lock);
		start_some_locked(r, UINT32_MAX); /* they end at once: the room stops */
		for (struct remote_fetch *f = r->synced.fetches; f; f = f->next) {
			if (f->synced.sent && count < FETCHES_MAX)
				ids[count++] = f->synced.request_id;
		}
	}
	for (size_t i = 0; i < count; i++)
		s3_cancel(r->s3, ids[i]);
}
