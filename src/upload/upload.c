/*
 * upload - the room's life cycle, notices from the store, and its status.
 */
#include "upload_private.h"

#define MAX_TRANSFERS 256
#define MULTIPART_THRESHOLD_BYTES (16 * MIB)
#define HASH_THREADS 2
#define POOL_QUEUE 256
/* Who sends fewer files has little to win by knowing what the server honours. */
#define PROBE_AFTER 256
#define PROBE_AHEAD 64
/* More open jobs than this are shown as so many. */
#define JOBS_COUNTED_MAX 64

static int upload_copy_texts(struct upload *u, const struct upload_config *config)
{
	if (config->acl) {
		u->acl = text_dup(config->acl);
		if (!u->acl)
			return -ENOMEM;
	}
	return prefix_normalise(config->prefix ? config->prefix : "", u->prefix);
}

static void upload_configure(struct upload *u, const struct upload_config *config)
{
	u->s3 = config->s3;
	u->store = config->store;
	u->remote = config->remote;
	u->naming = config->naming;
	u->max_transfers = config->max_transfers ? config->max_transfers : MAX_TRANSFERS;
	u->settle_ms = config->settle_ms;
	u->stream_quiet_ms = config->stream_quiet_ms;
	u->hash_threads = config->hash_threads ? config->hash_threads : HASH_THREADS;
	u->multipart_threshold_bytes = config->multipart_threshold_bytes
					       ? config->multipart_threshold_bytes
					       : MULTIPART_THRESHOLD_BYTES;
	u->copy_max_bytes = COPY_MAX_BYTES;
	u->probe_after = PROBE_AFTER;
	u->probe_ahead = PROBE_AHEAD;
	u->copy_part_bytes = COPY_PART_BYTES;
	u->allow_overwrite = config->allow_overwrite;
	u->allow_delete = config->allow_delete;
	u->credentials_stamp = config->credentials_stamp;
	u->credentials_explain = config->credentials_explain;
	u->credentials_user = config->credentials_user;
	u->synced.paused_by_hand = config->start_paused;
}

static void sched_init(struct upload *u)
{
	window_init(&u->sched.settled, FILE_SETTLED);
	window_init(&u->sched.queued, FILE_QUEUED);
	window_init(&u->sched.moving, FILE_MOVING);
	limit_init(&u->sched.limit, u->max_transfers, clock_mono_ms());
	s3_retry_bucket_init(&u->sched.retry_bucket);
	u->sched.rate_second = clock_mono_ms() / MS_PER_S;
	u->sched.jobs_look = true;
}

int upload_create(struct upload **ret, const struct upload_config *config)
{
	struct upload *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	atomic_init(&u->refs, 1);
	lock_init(&u->lock, RANK_UPLOAD, "upload");
	cond_init(&u->wake);
	u->synced.last = &u->synced.first;
	upload_configure(u, config);
	r = upload_copy_texts(u, config);
	if (r < 0) {
		upload_unref(u);
		return r;
	}
	sched_init(u);
	*ret = u;
	return 0;
}

int upload_start(struct upload *u)
{
	int r = doubt_recover(u);

	if (r == 0)
		r = pool_create(&u->pool, "hash", u->hash_threads, POOL_QUEUE);
	if (r == 0)
		r = pool_create(&u->sync_pool, "sync", array_len(u->sched.sync_lanes),
			array_len(u->sched.sync_lanes));
	if (r == 0)
		r = thread_start(&u->thread, "upload", scheduler_run, u);
	return r;
}

static void pools_end(struct upload *u)
{
	pool_destroy(u->pool);
	pool_destroy(u->sync_pool);
	u->pool = u->sync_pool = NULL;
}

static struct event *close_events(struct upload *u)
{
	struct event *left;

	with_lock(&u->lock);
	left = u->synced.first;
	u->synced.first = NULL;
	u->synced.last = &u->synced.first;
	u->synced.closed = true;
	return left;
}

static void stop_ask(struct upload *u, int64_t deadline_ms)
{
	with_lock(&u->lock);
	u->synced.stopping = true;
	u->synced.stop_deadline_ms = deadline_ms;
	cond_signal(&u->wake);
}

void upload_stop(struct upload *u, int64_t deadline_ms)
{
	struct event *left;

	atomic_store(&u->digests_end, true);
	stop_ask(u, deadline_ms);
	thread_join(u->thread);
	u->thread = NULL;
	left = close_events(u);
	streams_let_go(u);
	while (left) {
		struct event *next = left->next;

		left->drop(left);
		left = next;
	}
	pools_end(u);
}

static void sched_release(struct upload *u)
{
	while (u->sched.tasks) {
		u->sched.tasks->outstanding = 0; /* what is still out will find nobody listening */
		task_destroy(u, u->sched.tasks);
	}
	sync_release(u);
	sha_cache_release(u);
	map_release(&u->sched.tasks_of_ino);
	map_release(&u->sched.digests_of_ino);
	map_release(&u->sched.keys);
	waits_release(&u->sched.waiting_inos);
	waits_release(&u->sched.waiting_attempts);
	map_release(&u->sched.asked_attempts);
	waits_release(&u->sched.waiting_streams);
	waits_release(&u->sched.waiting_deletes);
}

void upload_destroy(struct upload *u)
{
	if (!u)
		return;
	if (u->thread)
		upload_stop(u, clock_mono_ms());
	else
		(void)close_events(u);
	pools_end(u);
	sched_release(u);
	upload_unref(u);
}

/* ---- notices ------------------------------------------------------------------------------------ */

static bool was_in_flight(const struct store_change *change)
{
	if (change->from != FILE_SENDING && change->from != FILE_UNKNOWN)
		return false;
	return change->to == FILE_OPEN || change->to == FILE_CLOSED ||
	       change->to == FILE_INCOMPLETE || change->to == FILE_DELETING ||
	       change->to == FILE_LOST || change->to == FILE_NONE;
}

static void notice_stale_locked(struct upload *u, uint64_t ino)
{
	if (u->synced.stale_count < array_len(u->synced.stale))
		u->synced.stale[u->synced.stale_count++] = ino;
	else
		u->synced.stale_all = true;
}

static void tell_lost(struct upload *u, uint64_t ino)
{
	cleanup_buf struct buf path = {0}, shown = {0};
	struct store_inode inode;
	bool has_reason = store_inode(u->store, ino, &inode) == 0 && inode.reason[0];

	if (store_path(u->store, ino, &path) == 0)
		text_escape(&shown, buf_text(&path));
	log_error("%s: %s: it is not sent; copy it again", shown.len ? buf_text(&shown) : "a file",
		has_reason ? inode.reason : "its bytes are not here any more");
}

/* What copying in brings by the thousand (files made and closed, folders touched): waking the
 * scheduler for each would cost more than the rest of it. */
static bool is_unhurried(enum file_state to)
{
	return to == FILE_NONE || to == FILE_OPEN || to == FILE_CLOSED;
}

void upload_notice(struct upload *u, const struct store_change *change)
{
	int64_t now_ms = clock_mono_ms();

	if (change->to == FILE_LOST && change->from != FILE_LOST)
		tell_lost(u, change->ino);
	with_lock(&u->lock);
	if (was_in_flight(change))
		notice_stale_locked(u, change->ino);
	if (is_unhurried(change->to)) {
		u->synced.looks_soon |= UINT64_C(1) << change->to;
		if (u->synced.sleep_until_ms <= now_ms + UNHURRIED_MS)
			return;
		u->synced.sleep_until_ms = now_ms + UNHURRIED_MS;
	} else {
		u->synced.looks |= UINT64_C(1) << change->to;
	}
	cond_signal(&u->wake);
}

void upload_notice_growing(struct upload *u)
{
	with_lock(&u->lock);
	u->synced.growing_news = true;
	cond_signal(&u->wake);
}

/* ---- status ------------------------------------------------------------------------------------- */

static uint64_t bytes_pending(const struct store_counts *c)
{
	return c->bytes[FILE_OPEN] + c->bytes[FILE_CLOSED] + c->bytes[FILE_SETTLED] +
	       c->bytes[FILE_QUEUED] + c->bytes[FILE_SENDING] + c->bytes[FILE_UNKNOWN];
}

/* From the store itself: a job counts from the moment of the rename that opened it. */
static uint64_t jobs_open(struct upload *u, size_t damaged)
{
	struct store_job *jobs = calloc(damaged + JOBS_COUNTED_MAX, sizeof(*jobs));
	int n = jobs ? store_jobs(u->store, jobs, damaged + JOBS_COUNTED_MAX) : -ENOMEM;
	uint64_t open = n >= 0 ? 0 : 1; /* what could not be asked for is not over */

	for (int i = 0; i < n; i++)
		open += !upload_job_is_damaged(u, jobs[i].id);
	free(jobs);
	return open;
}

void upload_status(struct upload *u, struct upload_status *ret)
{
	struct store_counts counts;

	lock_take(&u->lock);
	*ret = u->synced.status;
	ret->jobs_damaged = u->synced.damaged_count;
	memcpy(ret->damaged, u->synced.damaged, sizeof(ret->damaged));
	lock_drop(&u->lock);
	ret->jobs_open = jobs_open(u, ret->jobs_damaged);
	ret->eta_s = -1;
	if (ret->rate_bytes_per_s > 0 && store_counts(u->store, STORE_ROOT_INO, &counts) == 0)
		ret->eta_s = (int64_t)((double)bytes_pending(&counts) / ret->rate_bytes_per_s);
}
