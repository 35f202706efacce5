/*
 * store_maintain - the one thread of this room: checkpoints, the flush within 30 s of a close, and
 *                  eviction when room is wanted.
 */
#define LOG_ROOM "store"

#include "store_private.h"

#define TICK_MS 250
#define IDLE_MS 1000
#define TELL_MS 10000
#define COMMIT_AGAIN_MS 5000
#define WRITE_ROOM_BYTES (2 * MIB) /* the largest write takes half of it */

static bool checkpoint_is_due(struct store *s)
{
	with_lock(&s->lock);
	if (!s->ops_since_commit || s->failed || clock_mono_ms() < s->commit_again_ms)
		return false;
	return clock_mono_ms() - s->last_change_ms >= IDLE_MS ||
		s->journal.offset >= JOURNAL_TRIGGER_BYTES || s->ops_since_commit >= s->ops_until_commit;
}

static bool flush_is_due(struct store *s)
{
	with_lock(&s->lock);
	if (!s->flush_due_ms || clock_mono_ms() < s->flush_due_ms)
		return false;
	s->flush_due_ms = 0;
	return true;
}

static void retry_flush_later(struct store *s)
{
	with_lock(&s->lock);
	if (!s->flush_due_ms)
		s->flush_due_ms = clock_mono_ms() + s->flush_ms;
}

static void do_flush(struct store *s)
{
	int r = flush_unsynced(s);
	if (r < 0) {
		log_error("the cache disk did not take a sync (%s): files closed since then are not safe "
			  "from a power cut; will try again in %d s",
			strerror(-r), (int)(s->flush_ms / 1000));
		retry_flush_later(s);
		return;
	}
	struct ikey none = { .len = 0 };
	lock_take(&s->lock);
	struct index_cursor c;
	bool more = index_seek(&s->index, TABLE_UNSYNCED, &none, false, &c) != -ENOENT;
	index_done(&c);
	lock_drop(&s->lock);
	if (more)
		retry_flush_later(s);
}

static uint64_t room_of(const struct store_space *space)
{
	return space->size_bytes > space->used_bytes ? space->size_bytes - space->used_bytes : 0;
}

/* For the next write, or for the largest piece that somebody waits for (a chunk, a fallocate). */
static uint64_t room_needed(struct store *s, const struct store_space *space)
{
	uint64_t write = space->size_bytes / 4 < WRITE_ROOM_BYTES ? space->size_bytes / 4
								   : WRITE_ROOM_BYTES;
	with_lock(&s->space.lock);
	return space_wanted(s) > write ? space_wanted(s) : write;
}

/* Those who wait are woken when there is room for a write, or none will come (they are told so), and
 * only then: woken in vain they would ask again at once, and round it goes. Files that become
 * evictable ask again (space_wake), and so does every tick while somebody waits. */
static void do_evict(struct store *s)
{
	struct store_space space;
	struct news news = { .room_freed = true };
	store_space(s, &space);
	uint64_t needed = room_needed(s, &space);
	uint64_t wanted = needed > space.size_bytes / 10 ? needed : space.size_bytes / 10;
	int r = room_of(&space) < wanted ? store_evict(s, wanted - room_of(&space)) : 0;
	if (r < 0)
		log_warn("evicting from the cache failed (%s); will try again", strerror(-r));
	lock_take(&s->space.lock);
	s->space.statvfs_at_ms = 0;
	lock_drop(&s->space.lock);
	store_space(s, &space);
	if (room_of(&space) < needed && room_may_come(s, 0))
		return;
	lock_take(&s->space.lock);
	s->space.writers_wait = false;
	lock_drop(&s->space.lock);
	news_fire(s, &news);
}

static bool writers_wait(struct store *s)
{
	with_lock(&s->space.lock);
	return s->space.writers_wait;
}

/* Said once, and when it ends: a disk may fail for days. */
static void do_checkpoint(struct store *s, bool *told)
{
	int r = store_checkpoint(s);
	if (r == 0 && *told)
		log_warn("the index is written again");
	else if (r < 0 && !*told)
		log_error("writing the index failed (%s); the journal keeps it all meanwhile, and it is "
			  "tried again every %d s",
			strerror(-r), COMMIT_AGAIN_MS / 1000);
	*told = r < 0;
	with_lock(&s->lock);
	s->commit_again_ms = r < 0 ? clock_mono_ms() + COMMIT_AGAIN_MS : 0;
}

static void do_purges(struct store *s)
{
	struct news news = { .room_freed = true };
	int r = purge_waiting(s);
	if (r < 0) {
		log_warn("the cache disk did not take a sync (%s): the bytes of deleted files stay until "
			 "it does; will try again",
			strerror(-r));
		return;
	}
	space_wake(s);
	news_fire(s, &news);
}

/* Waits for the next tick or a wish to evict. Returns whether to go on. */
static bool wait_tick(struct store *s, bool *ret_evict)
{
	with_lock(&s->wake_lock);
	int64_t deadline = clock_mono_ms() + TICK_MS;
	while (!s->stopping && !s->evict_wanted)
		if (cond_wait_until(&s->wake, &s->wake_lock, deadline) == -ETIMEDOUT)
			break;
	*ret_evict = s->evict_wanted;
	s->evict_wanted = false;
	return !s->stopping;
}

/* Nothing can be recorded: nothing new is accepted or sent meanwhile. */
static void tell_failure(struct store *s, bool *told)
{
	cleanup_free char *dir = store_quoted(s->dir);
	lock_take(&s->lock);
	int before = s->failed, failed = store_mend_locked(s);
	lock_drop(&s->lock);
	if (before && !failed)
		log_warn("the index of the cache takes records again (it did not: %s); nothing was lost",
			strerror(-before));
	*told = *told && failed;
	if (!failed || *told)
		return;
	*told = true;
	log_error("the index of the cache takes no more records (%s): what was acknowledged is safe; it "
		  "is tried again every second. If that does not end: mend the disk, unmount and mount "
		  "again, and if that says it is damaged: `cpgfs repair --cache-dir %s`",
		strerror(-failed), dir ? dir : s->dir);
}

void disk_note(struct store *s, int error, const char *what)
{
	struct disk_failures *d = &s->disk_failures;
	lock_assert_held(&s->lock);
	d->count++;
	d->error = error;
	d->what = what;
}

void disk_tell(struct store *s, bool at_once)
{
	int64_t now = clock_mono_ms();
	lock_take(&s->lock);
	struct disk_failures d = s->disk_failures;
	bool tell = d.count && (at_once || now >= d.tell_at_ms);
	if (tell)
		s->disk_failures = (struct disk_failures){ .tell_at_ms = now + TELL_MS };
	lock_drop(&s->lock);
	if (tell)
		log_warn("the cache disk failed %u time(s); the last: %s (%s)", d.count, d.what,
			strerror(-d.error));
}

static void maintain(void *user)
{
	struct store *s = user;
	bool evict, told = false, commit_told = false;
	while (wait_tick(s, &evict)) {
		tell_failure(s, &told);
		disk_tell(s, false);
		if (purges_wait(s))
			do_purges(s);
		if (evict || writers_wait(s))
			do_evict(s);
		witness_tick(s);
		lent_tick(s);
		owed_closes(s, false);
		if (flush_is_due(s))
			do_flush(s);
		if (checkpoint_is_due(s))
			do_checkpoint(s, &commit_told);
	}
}

int store_start(struct store *s)
{
	return thread_start(&s->maintenance, "store", maintain, s);
}

void store_stop(struct store *s)
{
	lock_take(&s->wake_lock);
	s->stopping = true;
	cond_broadcast(&s->wake);
	lock_drop(&s->wake_lock);
	thread_join(s->maintenance);
	s->maintenance = NULL;
}
