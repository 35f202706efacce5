/*
 * store_space - how much the buffer may hold, and who must wait.
 *
 * Used bytes are the counted present bytes of all records (SLOT_PRESENT) plus what open files grew by
 * since their last FLUSH (growth_bytes). A writer that finds no room is told -EDQUOT while something
 * can still free some, else -ENOSPC.
 *
 * Many writers at once could fill the buffer with files of which none can be finished. So when what
 * open files grew by exceeds half of it (less what goes only with a person's help), one file at a time
 * has the turn: it grows until it is closed, or told that there is no room, or does not ask for a while;
 * the others wait. Chunks that
 * are fetched again (ino 0) need no turn: each can be evicted when it is there.
 */
#include "store_private.h"

#include <sys/vfs.h>

#define STATVFS_EVERY_MS 100
#define PRESENT_EVERY_MS 100
#define PLENTY_BYTES GIB /* more than is written in that time */
#define RECORDS_BYTES MIB
#define TURN_IDLE_MS 2000
#define TURN_WAIT_MS 60000
#define WANTED_MS 5000
#define SLACK_PERCENT 10 /* eviction keeps so much of the buffer free for the next writer */

/* ---- what the disk says --------------------------------------------------------------------------------- */

static uint64_t over(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t disk_free(struct store *s)
{
	struct statfs st;
	lock_assert_held(&s->space.lock);
	int64_t now = clock_mono_ms();
	if (s->space.statvfs_at_ms && now - s->space.statvfs_at_ms < STATVFS_EVERY_MS)
		return s->space.disk_free_bytes;
	if (fstatfs(s->dir_fd, &st) == 0) {
		s->space.disk_free_bytes = over(
			(uint64_t)st.f_bavail * (uint64_t)st.f_bsize, s->space.arriving_bytes);
		s->space.statvfs_at_ms = now;
	}
	return s->space.disk_free_bytes;
}

/* Bytes that the disk may still take. Index, journal and the file system's own records grow as well. When
 * they are fewer than wanted, the disk is asked again: what was taken a moment ago may be but a hole, or
 * removed since. */
static uint64_t room_on_disk(struct store *s, uint64_t wanted_bytes)
{
	uint64_t kept = s->min_free_bytes ? s->min_free_bytes + RECORDS_BYTES : 0;
	uint64_t room = over(disk_free(s), kept);
	if (room >= wanted_bytes)
		return room;
	s->space.statvfs_at_ms = 0;
	return over(disk_free(s), kept);
}

/* Bytes that may still be added now. */
static uint64_t room_now(struct store *s, uint64_t used, uint64_t wanted_bytes)
{
	uint64_t room = room_on_disk(s, wanted_bytes);
	if (s->cache_size_bytes && over(s->cache_size_bytes, used) < room)
		room = over(s->cache_size_bytes, used);
	return room;
}

void space_filling(struct store *s, int64_t fills)
{
	with_lock(&s->space.lock);
	s->space.fills += fills;
}

static bool is_filling(struct store *s)
{
	with_lock(&s->space.lock);
	return s->space.fills > 0;
}

/* Are there bytes that are recorded as gone, and perhaps still on the disk? */
static bool is_leaving(struct store *s)
{
	return purges_wait(s) || atomic_load(&s->is_purging) || atomic_load(&s->is_evicting);
}

/* Will anything that is on its way, or can be evicted, or waits to be deleted, free room without a
 * person? What the file that it is for has here is none: it is open, and has to stay. */
bool room_may_come(struct store *s, uint64_t for_ino)
{
	static const enum file_state moving[] = { FILE_CLOSED, FILE_SETTLED, FILE_QUEUED, FILE_SENDING,
		FILE_UNKNOWN, FILE_MOVING, FILE_UPLOADED };
	struct store_counts counts;
	if (store_counts(s, STORE_ROOT_INO, &counts) < 0)
		return false;
	for (size_t i = 0; i < array_len(moving); i++)
		if (counts.bytes[moving[i]] > 0)
			return true;
	/* in this order: what was moving a moment ago, or was being filled, can be evicted now */
	if (is_filling(s) || root_slot_bytes(s, SLOT_EVICTABLE) > evictable_bytes(s, for_ino))
		return true;
	if (counts.bytes[FILE_DELETING] > 0 && evict_deleted_holds_bytes(s))
		return true;
	return is_leaving(s); /* last: what could go a moment ago may be about to */
}

static void want_eviction(struct store *s)
{
	lock_take(&s->wake_lock);
	s->evict_wanted = true;
	cond_signal(&s->wake);
	lock_drop(&s->wake_lock);
}

static bool turn_take(struct store *s, uint64_t ino, uint64_t growth_bytes, uint64_t buffer_bytes)
{
	lock_assert_held(&s->space.lock);
	if (!ino || s->space.growth_bytes + growth_bytes <= buffer_bytes / 2)
		return true;
	int64_t now = clock_mono_ms();
	if (s->space.turn_ino && s->space.turn_ino != ino && now < s->space.turn_until_ms)
		return false;
	s->space.turn_ino = ino;
	s->space.turn_until_ms = now + TURN_IDLE_MS;
	return true;
}

static void turn_end(struct store *s, uint64_t ino)
{
	with_lock(&s->space.lock);
	if (s->space.turn_ino == ino)
		s->space.turn_ino = 0;
}

/* It waits for room and will ask again (unless it was interrupted). */
static void turn_keep(struct store *s, uint64_t ino)
{
	with_lock(&s->space.lock);
	if (s->space.turn_ino == ino)
		s->space.turn_until_ms = clock_mono_ms() + TURN_WAIT_MS;
}

/* Who waits does not ask again until woken, and may have been interrupted: so it is forgotten. */
static void wanted_note(struct store *s, uint64_t bytes)
{
	lock_assert_held(&s->space.lock);
	if (bytes < space_wanted(s))
		return;
	s->space.wanted_bytes = bytes;
	s->space.wanted_until_ms = clock_mono_ms() + WANTED_MS;
}

uint64_t space_wanted(struct store *s)
{
	lock_assert_held(&s->space.lock);
	return clock_mono_ms() < s->space.wanted_until_ms ? s->space.wanted_bytes : 0;
}

static void take_locked(struct store *s, uint64_t growth_bytes)
{
	lock_assert_held(&s->space.lock);
	s->space.growth_bytes += growth_bytes;
	s->space.arriving_bytes += growth_bytes;
	s->space.disk_free_bytes = over(s->space.disk_free_bytes, growth_bytes);
}

/* What files hold as counted last, and what was put into records since. */
static uint64_t used_by_last_count(struct store *s)
{
	lock_assert_held(&s->space.lock);
	return s->space.present_bytes + (s->space.given_bytes - s->space.present_given_bytes) +
		s->space.growth_bytes;
}

static uint64_t count_stuck(struct store *s)
{
	static const enum file_state stuck[] = { FILE_HELD, FILE_INCOMPLETE, FILE_TORN, FILE_CONFLICT,
		FILE_FAILED };
	struct store_counts counts;
	uint64_t bytes = 0;
	if (store_counts(s, STORE_ROOT_INO, &counts) < 0)
		return 0;
	for (size_t i = 0; i < array_len(stuck); i++)
		bytes += counts.bytes[stuck[i]];
	return bytes;
}

/* Counts it anew. Takes the space lock, and gives it back held. */
static void count_present(struct store *s)
{
	lock_take(&s->space.lock);
	uint64_t given = s->space.given_bytes;
	lock_drop(&s->space.lock);
	uint64_t present = root_slot_bytes(s, SLOT_PRESENT), stuck = count_stuck(s);
	lock_take(&s->space.lock);
	s->space.present_bytes = present;
	s->space.stuck_bytes = stuck;
	s->space.present_given_bytes = given;
	s->space.present_at_ms = clock_mono_ms();
}

/* Far from full, what was counted a moment ago will do: a writer does not wait for the index then. */
static bool take_from_plenty(struct store *s, uint64_t growth_bytes)
{
	with_lock(&s->space.lock);
	if (s->space.writers_wait || clock_mono_ms() - s->space.present_at_ms >= PRESENT_EVERY_MS)
		return false;
	uint64_t used = used_by_last_count(s), room = room_now(s, used, 0);
	if (over(room, PLENTY_BYTES) < growth_bytes ||
		s->space.growth_bytes + growth_bytes > (used + room) / 4)
		return false;
	take_locked(s, growth_bytes);
	return true;
}

bool space_can_hold(struct store *s, uint64_t bytes)
{
	for (int looks = 0; looks < 2; looks++) { /* as in space_take */
		count_present(s);
		uint64_t used = used_by_last_count(s);
		bool can = used + room_now(s, used, over(bytes, used)) >= bytes;
		lock_drop(&s->space.lock);
		if (can || is_leaving(s))
			return true;
	}
	return false;
}

bool space_is_ample(struct store *s, uint64_t bytes)
{
	lock_take(&s->space.lock);
	if (clock_mono_ms() - s->space.present_at_ms >= PRESENT_EVERY_MS) {
		lock_drop(&s->space.lock);
		count_present(s);
	}
	bool ample = !s->space.writers_wait && room_now(s, used_by_last_count(s), 0) >= bytes;
	lock_drop(&s->space.lock);
	return ample;
}

void space_grew(struct store *s, uint64_t bytes)
{
	with_lock(&s->space.lock);
	s->space.growth_bytes += bytes;
}

/* Room for it now? Else *ret_turn says whether it was its turn to ask. */
static bool take_now(struct store *s, uint64_t ino, uint64_t growth_bytes, bool *ret_turn)
{
	bool taken;
	count_present(s);
	uint64_t used = used_by_last_count(s), room = room_now(s, used, growth_bytes);
	*ret_turn = turn_take(s, ino, growth_bytes, over(used + room, s->space.stuck_bytes));
	taken = *ret_turn && growth_bytes <= room;
	if (taken) {
		take_locked(s, growth_bytes);
	} else {
		s->space.writers_wait = true;
		wanted_note(s, *ret_turn ? growth_bytes : 0);
	}
	lock_drop(&s->space.lock);
	return taken;
}

int space_take(struct store *s, uint64_t ino, uint64_t file_bytes, uint64_t growth_bytes)
{
	return space_take_for(s, ino, ino, file_bytes, growth_bytes);
}

int space_take_for(struct store *s, uint64_t ino, uint64_t stays_ino, uint64_t file_bytes,
	uint64_t growth_bytes)
{
	if (s->cache_size_bytes && file_bytes + growth_bytes > s->cache_size_bytes)
		return -ENOSPC; /* this file alone exceeds the buffer */
	if (take_from_plenty(s, growth_bytes))
		return 0;
	/* twice: that nothing can free any more may be because all of it just was; and then another
	 * writer, that can still end, may have taken it */
	for (int looks = 0; looks < 2; looks++) {
		bool turn;
		if (take_now(s, ino, growth_bytes, &turn))
			return 0;
		if (!turn)
			return -EDQUOT; /* asked again at the next tick, or when the turn ends */
		want_eviction(s);
		if (room_may_come(s, stays_ino)) {
			turn_keep(s, ino);
			return -EDQUOT;
		}
	}
	turn_end(s, ino);
	return -ENOSPC;
}

static bool take_hole_now(struct store *s, uint64_t bytes)
{
	with_lock(&s->space.lock);
	if (bytes <= room_on_disk(s, bytes)) {
		s->space.arriving_bytes += bytes;
		s->space.disk_free_bytes = over(s->space.disk_free_bytes, bytes);
		return true;
	}
	s->space.writers_wait = true;
	wanted_note(s, bytes);
	return false;
}

int space_take_hole(struct store *s, uint64_t bytes)
{
	for (int looks = 0; looks < 2; looks++) { /* as above */
		if (take_hole_now(s, bytes))
			return 0;
		want_eviction(s);
		if (room_may_come(s, 0))
			return -EDQUOT;
	}
	return -ENOSPC;
}

void space_arrived(struct store *s, uint64_t growth_bytes)
{
	with_lock(&s->space.lock);
	s->space.arriving_bytes = over(s->space.arriving_bytes, growth_bytes);
}

/* Growth that is now in a record, or came to nothing. */
void space_give(struct store *s, uint64_t ino, uint64_t growth_bytes)
{
	{
		with_lock(&s->space.lock);
		s->space.growth_bytes = over(s->space.growth_bytes, growth_bytes);
		s->space.given_bytes += growth_bytes;
	}
	turn_end(s, ino);
	space_wake(s);
}

/* Something became evictable, or went: whoever waits should try again. */
void space_wake(struct store *s)
{
	lock_take(&s->space.lock);
	bool wait = s->space.writers_wait;
	lock_drop(&s->space.lock);
	if (wait)
		want_eviction(s);
}

void store_space(struct store *s, struct store_space *ret)
{
	struct store_space out = {
		.cache_size_bytes = s->cache_size_bytes, .min_free_bytes = s->min_free_bytes
	};
	out.evictable_bytes = root_slot_bytes(s, SLOT_EVICTABLE);
	uint64_t present = root_slot_bytes(s, SLOT_PRESENT);
	lock_take(&s->lock);
	out.index_bytes = 0;
	MDB_envinfo info;
	MDB_stat stat;
	if (mdb_env_info(s->index.env, &info) == 0 && mdb_env_stat(s->index.env, &stat) == 0)
		out.index_bytes = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
	out.journal_bytes = s->journal.offset;
	lock_drop(&s->lock);
	lock_take(&s->space.lock);
	out.growing_bytes = s->space.growth_bytes;
	out.used_bytes = present + out.growing_bytes;
	out.disk_free_bytes = disk_free(s);
	out.size_bytes = out.used_bytes + room_now(s, out.used_bytes, 0);
	lock_drop(&s->space.lock);
	out.pending_bytes = over(out.used_bytes, out.evictable_bytes);
	*ret = out;
}
