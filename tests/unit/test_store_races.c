/*
 * What comes between two steps of asking for room, before each lock that this takes: what filled the
 * buffer goes, and other writers take the room. While any of them can still end, nobody is told ENOSPC.
 * And between two steps of a flush that makes up for syncs that failed: another one that fails.
 */
#include "store_disk.h"

static _Thread_local bool is_watched;
#define LOCK_IS_WATCHED is_watched
#include "before_lock.h"
#include "store_private.h"

#define PARTS 20
#define STEPS_MAX 100

/* ---- what comes between ---- */

static struct rig *the_rig;
static struct store_file *other;

static void take_parts(unsigned parts)
{
	static const char part[RIG_PART_BYTES];
	uint64_t chunk;

	must_eq(store_evict(the_rig->s, UINT64_MAX), 0);
	for (unsigned i = 0; i < parts; i++)
		must_eq(store_file_write(other, part, sizeof(part), 0, true, &chunk), 0);
}

/* More than half of the buffer, so that it has the turn: until it ends the others wait. */
static void another_has_the_turn(void)
{
	take_parts(PARTS - 3);
}

static void another_has_ended(void)
{
	take_parts(PARTS - 3);
	rig_write_end(other);
	other = NULL;
}

/* False: it was over before. */
static bool one_between(struct rig *r, unsigned step, void (*between)(void))
{
	struct store_file *f;
	uint64_t verified, ino;
	bool came;
	int e;

	rig_reopen(r);
	verified = rig_put(r, STORE_ROOT_INO, "verified", (PARTS - 3) * RIG_PART_BYTES, 1);
	rig_bring(r, verified, FILE_VERIFIED);
	ino = rig_create(r, STORE_ROOT_INO, "it", STORE_FILE);
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, RIG_PART_BYTES, 1);
	other = rig_write_begin(r, rig_create(r, STORE_ROOT_INO, "other", STORE_FILE));
	rig_write_pattern(other, 0, RIG_PART_BYTES, 1);
	before_lock_begin(step, between);
	e = space_take(r->s, ino, RIG_PART_BYTES, 2 * RIG_PART_BYTES);
	came = before_lock_end();
	must(e == 0 || e == -EDQUOT);
	if (e == 0)
		space_give(r->s, ino, 2 * RIG_PART_BYTES);
	rig_write_end(f);
	if (other)
		rig_write_end(other);
	for (const char *const *name = (const char *const[]){"verified", "it", "other", NULL}; *name; name++)
		must_eq(store_unlink(r->s, STORE_ROOT_INO, *name, 0), 0);
	must_eq(store_forget(r->s, verified), 0);
	return came;
}

static void at_each_step(struct rig *r, void (*between)(void))
{
	unsigned step = 1;

	r->config.cache_size_bytes = PARTS * RIG_PART_BYTES;
	the_rig = r;
	while (one_between(r, step, between))
		must(++step < STEPS_MAX);
	must(step > 3);
}

static void what_was_freed_is_taken_by_one_that_has_the_turn(void **state)
{
	at_each_step(*state, another_has_the_turn);
}

static void what_was_freed_is_taken_by_one_that_ends(void **state)
{
	at_each_step(*state, another_has_ended);
}

/* ---- a sync that fails and cannot be recorded -------------------------------------------------------- */

static struct store_file *late;

static void disk_takes_nothing(void)
{
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC | 1u << DISK_WRITE;
	disk.lasts = true;
}

static void another_sync_fails(void)
{
	late = rig_file(the_rig, rig_put(the_rig, STORE_ROOT_INO, "late", RIG_PART_BYTES, 2));
	disk_takes_nothing();
	must(store_file_sync(late, false) < 0);
	disk_off();
}

/* False: it was over before. */
static bool fails_meanwhile(struct rig *r, unsigned step)
{
	bool came;
	int e;

	rig_reopen(r);
	(void)rig_put(r, STORE_ROOT_INO, "f", RIG_PART_BYTES, 1);
	disk_takes_nothing();
	must(store_flush_all(r->s) < 0);
	disk_off();
	before_lock_begin(step, another_sync_fails);
	e = store_flush_all(r->s);
	came = before_lock_end();
	must(e == 0 || came);
	if (came) {
		must_eq(store_file_sync(late, false), -EIO);
		store_file_close(late);
		must_eq(store_unlink(r->s, STORE_ROOT_INO, "late", 0), 0);
	}
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
	return came;
}

static void a_sync_fails_while_others_are_made_up_for(void **state)
{
	unsigned step = 1;

	the_rig = *state;
	while (fails_meanwhile(*state, step))
		must(++step < STEPS_MAX);
	must(step > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(what_was_freed_is_taken_by_one_that_has_the_turn),
		rig_test(what_was_freed_is_taken_by_one_that_ends),
		rig_test(a_sync_fails_while_others_are_made_up_for),
	};

	is_watched = true; /* this thread */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
