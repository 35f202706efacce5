/*
 * upload_stream - large files are sent while they are written: an upload in parts is open, chunks
 * that nothing changed for a while go up as its parts, and the closed version takes it over.
 *
 *   growing ─► asked ─► created ─► parts … ─┬─► closed, settled, hashed, queued: taken over by
 *   (the store says so)  (UploadId          │   upload_multipart.c, which sends the rest, Completes
 *                         recorded)         ├─► its writer was cut off: kept for a day, for whoever
 *                                           │   goes on writing or accepts it; then aborted
 *                                           └─► renamed, unlinked, held, damaged, …: aborted
 *
 * The file keeps its state all the while. The attempt is recorded with phase STREAMING (KEPT while
 * it waits) and neither size nor checksum, since it stands for no version; every such attempt has
 * either a task or its time in waiting_attempts, and a restart asks about all of them: no upload is
 * forgotten while its record can be read.
 *
 * I1  Nothing here changes the file, its bytes or its state; the attempt only keeps its inode.
 * I2  Nothing here says uploaded. A part counts when the reply to exactly these bytes (CRC header,
 *     or signed SHA-256 where the server checks no CRC) has come and the chunk's record still says
 *     that CRC; a write in between has voided it (store_stream.c).
 * I3  Nothing here Completes. Whoever takes the upload over reads the whole closed version first,
 *     takes only parts with the checksums of that reading, and names the checksum of the whole.
 * I4  The key is computed and judged again before each step; requests check the prefix once more.
 *
 * What is not streamed: names that are held; what is there already (its content may be the same, or
 * make a conflict: the close decides) unless it may be replaced and is smaller than what was
 * written; chunks with a hole in them (allocated first, filled later). A chunk that is rewritten
 * after it was sent waits twice as long each time. x-amz-meta-mtime is left out, for an upload gets
 * its metadata when it begins.
 */
#include "upload_private.h"

#include <inttypes.h>

#define STREAMS_MAX 32
#define LOOK_MS 1000
#define LOOK_LEAST_MS 50
/* The bucket holds something under the key, or refuses: the close decides. */
#define NOT_NOW_MS 60000
#define AGAIN_MS 1000
/* How soon an upload without a task is looked at again: its file is about to be sent, or waits. */
#define SOON_MS 5000
#define KEPT_LOOK_MS 60000
#define KEPT_MS (24 * 3600 * MS_PER_S)

/* ---- is it (still) one to be streamed? ------------------------------------------------------ */

static enum stream_end end_of_state(enum file_state state)
{
	switch (state) {
	case FILE_OPEN:
	case FILE_CLOSED:
	case FILE_SETTLED:
		return STREAM_GOES_ON;
	case FILE_QUEUED:
		return STREAM_LEAVES;
	case FILE_INCOMPLETE:
		return STREAM_IS_KEPT;
	case FILE_NONE:
	case FILE_SENDING:
	case FILE_UNKNOWN:
	case FILE_UPLOADED:
	case FILE_VERIFIED:
	case FILE_HELD:
	case FILE_TORN:
	case FILE_LOST:
	case FILE_CONFLICT:
	case FILE_FAILED:
	case FILE_GONE:
	case FILE_MOVING:
	case FILE_DELETING:
	case FILE_STATE_COUNT:
		break;
	}
	return STREAM_ENDS;
}

/* What the file is now, seen from an upload to this key. */
static enum stream_end stream_judge(
	struct upload *u, uint64_t ino, const char *key, struct version *ret)
{
	struct key_now now;
	int r = version_load(u, ino, ret);

	if (r == 0 && (ret->flags & (STORE_FLAG_UNLINKED | STORE_FLAG_FOREIGN)))
		return STREAM_ENDS;
	if (r == 0)
		r = key_of_inode(u, ino, &now);
	if (r == -ENOENT || r == -EACCES)
		return STREAM_ENDS;
	if (r < 0)
		return STREAM_LEAVES; /* the store fails, or memory: looked at again soon */
	if (now.held != HELD_NOT || strcmp(now.key, key) != 0)
		return STREAM_ENDS;
	if (ret->state == FILE_INCOMPLETE && !version_is_large(u, ret))
		return STREAM_ENDS; /* made smaller before it was cut off: no parts to spare anybody */
	return end_of_state(ret->state);
}

void stream_not_now(struct upload *u, uint64_t ino, int64_t ms)
{
	if (waits_add(&u->sched.waiting_streams, ino, clock_mono_ms() + ms) < 0)
		log_debug("out of memory: inode %" PRIu64 " may be tried again at once", ino);
}

/* ---- ends ----------------------------------------------------------------------------------- */

void stream_release(struct upload *u, struct task *t)
{
	if (!t->stream)
		return;
	if (t->stream->file)
		store_file_close(t->stream->file);
	free(t->stream->look);
	free(t->stream->again);
	free(t->stream);
	t->stream = NULL;
	u->sched.streams_open--;
}

void streams_let_go(struct upload *u)
{
	for (struct task *t = u->sched.tasks; t; t = t->next) {
		if (!t->stream || !t->stream->file)
			continue;
		store_file_close(t->stream->file);
		t->stream->file = NULL;
	}
}

/* The attempt stands without a task. */
static void stream_leave(struct upload *u, struct task *t, int64_t look_ms)
{
	if (t->attempt.id != 0)
		doubt_add(u, t->attempt.id, look_ms);
	t->attempt.id = 0;
	task_destroy(u, t);
}

/* How long it is kept counts from the first time that it is found so. */
static void stream_keep(struct upload *u, struct task *t)
{
	struct store_attempt *a = &t->attempt;
	int64_t now_ns = clock_wall_ns();
	int r = 0;

	if (a->phase == ATTEMPT_KEPT && now_ns - a->begun_at_ns > KEPT_MS * 1000000) {
		log_info("%s: nobody went on writing it: its upload is aborted", t->key);
		multipart_abort(u, t);
		return;
	}
	if (a->phase != ATTEMPT_KEPT || a->begun_at_ns > now_ns) {
		a->phase = ATTEMPT_KEPT;
		a->begun_at_ns = now_ns;
		r = store_attempt_update(u->store, a);
	}
	if (r < 0)
		pause_note_store(u, r);
	stream_leave(u, t, KEPT_LOOK_MS);
}

static void stream_vanished(struct upload *u, struct task *t)
{
	log_info("%s: the server no longer knows this upload: it begins anew", t->key);
	(void)task_attempt_end(u, t, FILE_NONE, NULL, false, NULL);
	stream_not_now(u, t->version.ino, s3_backoff_ms(t->parts->errors + 1, false));
	task_destroy(u, t);
}

/* Act as the end says, once nothing is under way any more. */
void stream_settle(struct upload *u, struct task *t)
{
	struct stream *s = t->stream;

	if (t->outstanding > 0)
		return;
	if (s->end != STREAM_GOES_ON && s->file) { /* what was unlinked may go */
		store_file_close(s->file);
		s->file = NULL;
	}
	switch (s->end) {
	case STREAM_GOES_ON:
		return;
	case STREAM_LEAVES:
		stream_leave(u, t, SOON_MS);
		return;
	case STREAM_IS_KEPT:
		stream_keep(u, t);
		return;
	case STREAM_ENDS:
		multipart_abort(u, t);
		return;
	case STREAM_VANISHED:
		stream_vanished(u, t);
		return;
	}
}

void stream_end(struct upload *u, struct task *t, enum stream_end end)
{
	struct stream *s = t->stream;

	if (s->end == STREAM_GOES_ON)
		s->end = end;
	if (s->end == STREAM_ENDS || s->end == STREAM_VANISHED)
		parts_cancel(u, t);
	stream_settle(u, t);
}

/* ---- looking at it -------------------------------------------------------------------------- */

static void part_cancel(struct upload *u, const struct task *t, uint64_t chunk)
{
	for (struct request *rq = u->sched.requests; rq; rq = rq->next_active) {
		if (rq->task == t && rq->op == S3_UPLOAD_PART && rq->chunk == chunk)
			s3_cancel(u->s3, rq->id);
	}
}

/* Chunks that have changed since they were sent (or while they are) are to be sent again. */
static void note_changes(struct upload *u, struct task *t)
{
	struct stream *s = t->stream;

	for (size_t n = 0; n < s->seen; n++) {
		bool stands = n < s->whole && (s->look[n] & STORE_CHUNK_RECORDED);

		if (stands || (t->parts->state[n] != PART_SENT && t->parts->state[n] != PART_BUSY))
			continue;
		if (t->parts->state[n] == PART_BUSY) {
			part_cancel(u, t, n);
			continue;
		}
		t->parts->sent--;
		part_is(t, n, PART_TODO);
		s->again[n] += s->again[n] < UINT8_MAX;
	}
}

static void stream_look(struct upload *u, struct task *t)
{
	struct stream *s = t->stream;
	int64_t now_ms = clock_mono_ms(), due_ms;

	s->whole =
		store_stream_look(s->file, u->stream_quiet_ms, s->look, STORE_CHUNKS_MAX, &due_ms);
	if (s->whole > s->seen)
		s->seen = s->whole;
	note_changes(u, t);
	t->parts->next = 0;
	s->look_ms = due_ms < now_ms + LOOK_MS ? due_ms : now_ms + LOOK_MS;
	if (s->look_ms < now_ms + LOOK_LEAST_MS)
		s->look_ms = now_ms + LOOK_LEAST_MS;
}

void stream_check(struct upload *u, struct task *t)
{
	struct version now;
	enum stream_end end;

	if (t->stream->end != STREAM_GOES_ON)
		return;
	end = stream_judge(u, t->version.ino, t->key, &now);
	if (end != STREAM_GOES_ON)
		stream_end(u, t, end);
	else
		stream_look(u, t);
}

/* ---- begin ---------------------------------------------------------------------------------- */

/* The task becomes a stream (and its own kind, whatever it was); its parts take slots, not it. */
static int stream_make(struct upload *u, struct task *t)
{
	struct stream *s = calloc(1, sizeof(*s));
	int fd, r;

	if (!s)
		return -ENOMEM;
	t->stream = s;
	t->kind = TASK_STREAM;
	u->sched.streams_open++;
	slot_drop(u, t);
	s->look = calloc(1, STORE_CHUNKS_MAX);
	s->again = calloc(1, STORE_CHUNKS_MAX);
	if (!s->look || !s->again)
		return -ENOMEM;
	r = parts_alloc(t, STORE_CHUNKS_MAX);
	if (r == 0)
		r = store_file_open(u->store, t->version.ino, &s->file);
	if (r == 0)
		r = store_stream_open(s->file, &fd);
	if (r < 0)
		return r;
	r = body_fd_create(fd, &t->body);
	if (r < 0)
		close(fd);
	return r;
}

static void stream_unsent(struct upload *u, struct task *t, int error)
{
	log_debug("%s: cannot be sent while it is written: %s", t->key, strerror(-error));
	stream_not_now(u, t->version.ino, AGAIN_MS);
	stream_leave(u, t, AGAIN_MS);
}

static void stream_synced(struct upload *u, struct task *t)
{
	if (t->sync_error < 0) {
		stream_end(u, t, STREAM_ENDS);
		return;
	}
	log_debug("%s: is sent while it is written", t->key);
	t->parts->ready = true;
	stream_settle(u, t);
}

static void stream_created(struct upload *u, struct task *t, struct request *rq)
{
	const struct s3_reply *reply = &rq->reply;
	bool refused = reply->class == S3_DENIED || reply->class == S3_FATAL;
	int r;

	if (reply->class != S3_DONE || reply->upload_id[0] == '\0') {
		multipart_not_created(t, reply);
		(void)task_attempt_end(u, t, FILE_NONE, NULL, false, NULL);
		stream_not_now(u, t->version.ino,
			refused ? NOT_NOW_MS : s3_backoff_ms(2, reply->class == S3_THROTTLED));
		task_destroy(u, t);
		return;
	}
	pause_note_accepted(u);
	(void)text_copy(t->attempt.upload_id, reply->upload_id, sizeof(t->attempt.upload_id));
	r = store_attempt_update(u->store, &t->attempt);
	if (r < 0) {
		pause_note_store(u, r);
		stream_end(u, t, STREAM_ENDS);
		return;
	}
	sync_then(u, t, false, stream_synced);
}

/* The version that is being written now; its checksum, if it has one, says nothing of what comes.
 */
static bool stream_version(struct upload *u, struct task *t)
{
	struct version now;

	if (stream_judge(u, t->version.ino, t->key, &now) != STREAM_GOES_ON ||
		now.state != FILE_OPEN)
		return false;
	now.has_crc64nvme = false;
	now.size_bytes = 0;
	t->version = now;
	return true;
}

static void stream_create(struct upload *u, struct task *t)
{
	struct s3_request req = {.op = S3_CREATE_MULTIPART, .key = t->key, .acl = u->acl};
	int r;

	if (!stream_version(u, t)) {
		task_destroy(u, t);
		return;
	}
	req.content_type = content_type_of(t->version.name);
	check(prefix_side_of(u->prefix, t->key) == PREFIX_INSIDE);
	r = stream_make(u, t);
	if (r == 0)
		r = task_attempt_begin(u, t, ATTEMPT_MULTIPART, FILE_NONE, NULL);
	if (r == 0)
		r = request_send(u, t, &req, NULL, 0, stream_created);
	if (r < 0 && t->attempt.id != 0) /* recorded, but nothing was sent */
		(void)task_attempt_end(u, t, FILE_NONE, NULL, false, NULL);
	if (r < 0)
		stream_unsent(u, t, r);
}

/* May what is there be replaced, and is it surely something else? */
static bool may_follow_object(struct upload *u, const struct task *t)
{
	struct store_inode inode;

	return (found_is_recorded(u, t) || u->allow_overwrite) &&
	       store_inode(u->store, t->version.ino, &inode) == 0 &&
	       inode.attr.size_bytes > t->found.object.size_bytes;
}

static void stream_asked(struct upload *u, struct task *t)
{
	if (t->found.says == BUCKET_ABSENT || may_follow_object(u, t)) {
		stream_create(u, t);
		return;
	}
	stream_not_now(u, t->version.ino, NOT_NOW_MS);
	task_destroy(u, t);
}

static void stream_resume(struct upload *u, struct task *t)
{
	int r = stream_make(u, t);

	if (r == 0 && t->attempt.phase != ATTEMPT_STREAMING) {
		t->attempt.phase = ATTEMPT_STREAMING;
		r = store_attempt_update(u->store, &t->attempt);
	}
	if (r < 0)
		stream_unsent(u, t, r);
	else
		parts_resume(u, t);
}

/* ---- who grows ------------------------------------------------------------------------------ */

/* Is there anything to send? Most files are closed before. */
static bool has_quiet_chunk(struct upload *u, uint64_t ino)
{
	uint8_t look[STORE_CHUNKS_MAX];
	struct store_file *f;
	bool quiet = false;
	int64_t due_ms;
	uint32_t mark;
	size_t count;

	if (store_file_open(u->store, ino, &f) < 0)
		return false;
	count = store_stream_look(f, u->stream_quiet_ms, look, sizeof(look), &due_ms);
	for (size_t n = 0; n < count && !quiet; n++)
		quiet = (look[n] & STORE_CHUNK_QUIET) &&
			store_stream_begin(f, n, u->stream_quiet_ms, &mark) == 0;
	store_file_close(f);
	return quiet;
}

/* The task is made: may it have its key? An upload of this file that stands is gone on with. */
static bool stream_take_key(struct upload *u, struct task *t)
{
	if (key_owner_of(u, t) != KEY_FREE ||
		attempts_of_inode(u, t->version.ino, t->standing_id) ||
		task_claim_key(u, t, t->key) < 0)
		return false;
	if (t->standing_id != 0 && !attempt_find(u, t->standing_id, &t->attempt))
		return false;
	t->standing_id = 0;
	return true;
}

static void stream_start(struct upload *u, const struct version *v, const char *key)
{
	struct task *t;

	if (task_create(u, TASK_STREAM, v->ino, &t) < 0)
		return;
	t->version = *v;
	(void)text_copy(t->key, key, sizeof(t->key));
	if (!stream_take_key(u, t)) {
		t->standing_id = 0;
		stream_not_now(u, v->ino, SOON_MS);
		task_destroy(u, t);
	} else if (t->attempt.id != 0) {
		stream_resume(u, t);
	} else {
		ask_bucket(u, t, t->key, false, stream_asked);
	}
}

static void stream_consider(struct upload *u, uint64_t ino)
{
	struct version v;
	struct key_now now;

	if (map_get(&u->sched.tasks_of_ino, ino) || waits_has(&u->sched.waiting_streams, ino) ||
		waits_has(&u->sched.waiting_inos, ino) || u->sched.streams_open >= STREAMS_MAX ||
		key_of_inode(u, ino, &now) < 0 || now.held != HELD_NOT || key_is_busy(u, now.key) ||
		stream_judge(u, ino, now.key, &v) != STREAM_GOES_ON ||
		v.size_bytes <= u->multipart_threshold_bytes || !has_quiet_chunk(u, ino))
		return;
	stream_start(u, &v, now.key);
}

static void growing_pass(struct upload *u, int64_t now_ms)
{
	uint64_t inos[64], after = 0, ino;
	size_t n;

	while (waits_pop_due(&u->sched.waiting_streams, now_ms, &ino))
		;
	u->sched.growing_looked_ms = now_ms;
	u->sched.growing_ms = INT64_MAX;
	while ((n = store_growing(u->store, after, inos, array_len(inos))) > 0) {
		for (size_t i = 0; i < n; i++)
			stream_consider(u, inos[i]);
		after = inos[n - 1];
		u->sched.growing_ms = now_ms + LOOK_MS;
	}
}

/* ---- the pass ------------------------------------------------------------------------------- */

void stream_pass(struct upload *u)
{
	int64_t now_ms = clock_mono_ms();
	struct task *next;

	if (u->stream_quiet_ms <= 0 || u->sched.pauses != 0)
		return;
	for (struct task *t = u->sched.tasks; t && u->sched.streams_open > 0; t = next) {
		next = t->next;
		if (t->stream && t->stream->end == STREAM_GOES_ON && now_ms >= t->stream->look_ms)
			stream_check(u, t);
	}
	if (now_ms >= u->sched.growing_ms)
		growing_pass(u, now_ms);
	for (struct task *t = u->sched.tasks; t && u->sched.streams_open > 0; t = t->next) {
		if (t->stream && t->stream->end == STREAM_GOES_ON)
			wake_by(u, t->stream->look_ms);
	}
	wake_by(u, u->sched.growing_ms);
}

/* ---- uploads without a task ----------------------------------------------------------------- */

void stream_doubt(struct upload *u, struct task *t)
{
	enum stream_end end = stream_judge(u, t->attempt.ino, t->key, &t->version);

	if (t->attempt.upload_id[0] == '\0') {
		multipart_id_lost(t);
		(void)task_attempt_end(u, t, FILE_NONE, NULL, false, NULL);
		task_destroy(u, t);
		return;
	}
	switch (end) {
	case STREAM_GOES_ON:
		if (t->version.state == FILE_OPEN && u->stream_quiet_ms > 0 &&
			u->sched.streams_open < STREAMS_MAX)
			stream_resume(u, t);
		else
			stream_leave(u, t, SOON_MS);
		return;
	case STREAM_LEAVES:
		stream_leave(u, t, SOON_MS);
		return;
	case STREAM_IS_KEPT:
		stream_keep(u, t);
		return;
	case STREAM_ENDS:
	case STREAM_VANISHED:
		multipart_abort(u, t);
		return;
	}
}

bool stream_takes_back(struct upload *u, struct task *t)
{
	struct version now = {0};
	enum stream_end end = stream_judge(u, t->version.ino, t->key, &now);

	if (u->stream_quiet_ms <= 0 || t->attempt.phase != ATTEMPT_OPEN ||
		t->attempt.upload_id[0] == '\0' || t->attempt.source_key[0] != '\0' ||
		now.generation == t->version.generation ||
		(end != STREAM_GOES_ON && end != STREAM_LEAVES && end != STREAM_IS_KEPT))
		return false;
	t->attempt.phase = ATTEMPT_STREAMING;
	t->attempt.has_crc64nvme = t->attempt.has_md5 = false;
	t->attempt.size_bytes = 0;
	if (store_attempt_update(u->store, &t->attempt) < 0)
		return false;
	stream_leave(u, t, 0);
	return true;
}
