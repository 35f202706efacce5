/*
 * What is synced when, counted at the disk: closes do not sync, fsync does, a flush takes all at once;
 * a failed sync is no success later.
 */
#include "store_disk.h"

#include <pthread.h>
#include <time.h>

#define P RIG_PART_BYTES
#define DEADLINE_MS 60000

static unsigned syncs(enum disk_file file)
{
	return atomic_load(&disk.seen[file][DISK_SYNC]);
}

static unsigned all_syncs(void)
{
	unsigned sum = 0;

	for (int file = 0; file < DISK_FILE_COUNT; file++)
		sum += syncs((enum disk_file)file);
	return sum;
}

static bool durable(struct rig *r, uint64_t ino)
{
	return rig_attr(r, ino).flags & STORE_FLAG_DURABLE;
}

static void closes_do_not_sync(void **state)
{
	struct rig *r = *state;
	uint64_t ino;

	disk_on(DISK_PASS, 0, 0);
	ino = rig_put(r, STORE_ROOT_INO, "f", 3 * P, 1);
	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_rename(r->s, STORE_ROOT_INO, "f", STORE_ROOT_INO, "g", 0, 0), 0);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "g", 0), 0);
	must_eq(all_syncs(), 0);
	must(atomic_load(&disk.seen[DISK_JOURNAL][DISK_WRITE]) >= 8);
	must_eq(atomic_load(&disk.seen[DISK_INDEX][DISK_WRITE]), 0);
	disk_off();
	must(!durable(r, ino));
}

/* One record, one write: nothing else of a close waits for the disk. */
static void a_close_is_one_journal_write(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 100, 1);
	disk_on(DISK_PASS, 0, 0);
	must_eq(store_file_flush(f, false, NULL), 0);
	must_eq(atomic_load(&disk.seen[DISK_JOURNAL][DISK_WRITE]), 1);
	must_eq(disk.count, 1);
	disk_off();
	store_file_writer_drop(f);
	store_file_close(f);
}

static void fsync_syncs_data_then_journal(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 3 * P, 1);
	struct store_file *f = rig_file(r, ino);

	disk_on(DISK_PASS, 0, 0);
	must_eq(store_file_sync(f, false), 0);
	must(syncs(DISK_DATA) >= 1);
	must_eq(syncs(DISK_JOURNAL), 1);
	disk_off();
	must(durable(r, ino));
	/* a change ends it */
	store_file_writer_add(f);
	rig_write_pattern(f, 0, 10, 2);
	must(!durable(r, ino));
	rig_write_end(f);
	must(!durable(r, ino));
	rig_reopen(r);
	must(!durable(r, ino) || rig_state(r, ino) == FILE_CLOSED);
}

/* A record that speaks of synced bytes is void on the disk before they change there. */
static void first_change_of_a_durable_file_is_synced(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 3 * P, 1);
	struct store_file *f;

	f = rig_file(r, ino);
	must_eq(store_file_sync(f, false), 0);
	store_file_close(f);
	f = rig_write_begin(r, ino);
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_WRITE;
	disk.files_mask = 1u << DISK_DATA;
	must_eq(store_file_write(f, "x", 1, 0, false, &(uint64_t){0}), -EIO);
	must_eq(syncs(DISK_JOURNAL), 1); /* when the first byte is tried */
	disk_on(DISK_PASS, 0, 0);
	rig_write_pattern(f, 0, 10, 2);
	must_eq(all_syncs(), 0);
	disk_off();
	rig_write_end(f);
}

/* The same where it becomes empty while a part of it is not here. */
static void emptied_though_not_all_is_here_is_synced(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 2 * P, 1), chunk;
	uint8_t data[P] = {1};
	struct store_file *f;

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_flush_all(r->s), 0);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	f = rig_file(r, ino);
	must_eq(store_chunk_fill_begin(f, 0), 0);
	must_eq(store_chunk_fill_write(f, 0, 0, data, P), 0);
	must_eq(store_chunk_fill_end(f, 0, true), 0);
	must_eq(store_flush_all(r->s), 0);
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SIZE;
	disk.files_mask = 1u << DISK_DATA;
	must_eq(store_file_truncate(f, 0, &chunk), -EIO);
	must_eq(syncs(DISK_JOURNAL), 1); /* when its bytes were to go */
	disk_off();
	store_file_close(f);
}

static void fetch_chunk(struct store_file *f, uint64_t n)
{
	uint8_t data[P] = {1};

	must_eq(store_chunk_fill_begin(f, n), 0);
	must_eq(store_chunk_fill_write(f, n, 0, data, P), 0);
	must_eq(store_chunk_fill_end(f, n, true), 0);
}

/* Verified; its first chunk has been here for a while. */
static struct store_file *a_part_is_here(struct rig *r, uint64_t chunks)
{
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", chunks * P, 1);
	struct store_file *f;

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_flush_all(r->s), 0);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	f = rig_file(r, ino);
	fetch_chunk(f, 0);
	must_eq(store_flush_all(r->s), 0);
	return f;
}

/* What is changed in place is fetched first: that this is unsynced says nothing of what was here before. */
static void first_change_after_a_fetch_is_synced(void **state)
{
	struct rig *r = *state;
	struct store_file *f = a_part_is_here(r, 2);

	fetch_chunk(f, 1);
	store_file_writer_add(f);
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_WRITE;
	disk.files_mask = 1u << DISK_DATA;
	must_eq(store_file_write(f, "x", 1, 0, false, &(uint64_t){0}), -EIO);
	must_eq(syncs(DISK_JOURNAL), 1); /* when the first byte is tried */
	disk_off();
	rig_write_end(f);
}

static void emptied_after_a_fetch_is_synced(void **state)
{
	struct rig *r = *state;
	struct store_file *f = a_part_is_here(r, 3);

	fetch_chunk(f, 1);
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SIZE;
	disk.files_mask = 1u << DISK_DATA;
	must_eq(store_file_truncate(f, 0, &(uint64_t){0}), -EIO);
	must_eq(syncs(DISK_JOURNAL), 1); /* when its bytes were to go */
	disk_off();
	store_file_close(f);
}

/* A sync that failed is no reason to believe that nothing on the disk speaks of these bytes. */
static void first_change_of_a_suspect_file_is_synced(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 3 * P, 1);
	struct store_file *f;

	must_eq(store_flush_all(r->s), 0);
	f = rig_write_begin(r, ino);
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.files_mask = 1u << DISK_DATA;
	must_eq(store_file_sync(f, false), -EIO);
	disk_on(DISK_PASS, 0, 0);
	rig_write_pattern(f, 0, 10, 2);
	must_eq(syncs(DISK_JOURNAL), 1);
	disk_off();
	rig_write_end(f);
}

/* The bytes of a foreign object that was replaced: its record must not come back without them. */
static void replaced_object_is_synced_before_its_bytes_go(void **state)
{
	struct rig *r = *state;
	struct store_object o = {.key = "k", .etag = "e", .size_bytes = P};
	uint8_t data[P] = {1};
	struct store_file *f;
	struct store_attr a;

	must_eq(store_import(r->s, &o, &a), 0);
	f = rig_file(r, a.ino);
	must_eq(store_chunk_fill_begin(f, 0), 0);
	must_eq(store_chunk_fill_write(f, 0, 0, data, P), 0);
	must_eq(store_chunk_fill_end(f, 0, true), 0);
	store_file_close(f);
	must_eq(store_flush_all(r->s), 0);
	(void)text_copy(o.etag, "other", sizeof(o.etag));
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.files_mask = 1u << DISK_JOURNAL | 1u << DISK_INDEX;
	disk.lasts = true;
	must_eq(store_import(r->s, &o, &a), 0);
	disk_off();
	must_eq(rig_data_files(r), 1);
	(void)text_copy(o.etag, "third", sizeof(o.etag));
	f = rig_file(r, a.ino);
	must_eq(store_chunk_fill_begin(f, 0), 0);
	must_eq(store_chunk_fill_write(f, 0, 0, data, P), 0);
	must_eq(store_chunk_fill_end(f, 0, true), 0);
	store_file_close(f);
	must_eq(store_import(r->s, &o, &a), 0);
	must_eq(rig_data_files(r), 0);
}

static void move(struct rig *r, const char *from, const char *to)
{
	must_eq(store_rename(r->s, STORE_ROOT_INO, from, STORE_ROOT_INO, to, 0, 0), 0);
}

/* What may come back by a power cut under the name, or with the number, of a file that is sent. */
static void what_was_another_is_known_until_it_is_synced(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_put(r, STORE_ROOT_INO, "a", 10, 1), again, below, dir;
	struct store_file *f;

	must(!store_was_other(r->s, a, "a"));
	move(r, "a", "b");
	must(!store_was_other(r->s, a, "b"));
	again = rig_put(r, STORE_ROOT_INO, "a", 10, 2);
	must(store_was_other(r->s, again, "a"));
	f = rig_file(r, a); /* its bytes stay meanwhile */
	move(r, "a", "b");
	must(store_was_other(r->s, again, "b"));
	store_file_close(f);
	must_eq(store_sync_to(r->s, store_mark(r->s)), 0);
	must(!store_was_other(r->s, again, "b"));

	f = rig_write_begin(r, again); /* another version: its bytes count, too */
	rig_write_pattern(f, 0, 5, 3);
	rig_write_end(f);
	must_eq(store_sync_to(r->s, store_mark(r->s)), 0);
	must(store_was_other(r->s, again, "b"));
	must_eq(store_make_durable(r->s, again), 0);
	must(!store_was_other(r->s, again, "b"));

	move(r, "b", "ä b. c"); /* keys may be made of fewer characters */
	move(r, "ä b. c", "b");
	dir = rig_put(r, STORE_ROOT_INO, "b_c", 10, 5);
	must(store_was_other(r->s, dir, "b_c"));
	must_eq(store_sync_to(r->s, store_mark(r->s)), 0);
	must(!store_was_other(r->s, dir, "b_c"));

	dir = rig_create(r, STORE_ROOT_INO, "dir", STORE_DIR);
	below = rig_put(r, dir, "f", 10, 4);
	must(!store_was_other(r->s, below, "dir/f"));
	f = rig_file(r, again);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "b", 0), 0);
	move(r, "dir", "b");
	must(store_was_other(r->s, below, "b/f"));
	store_file_close(f);
}

/* Also among more names than are kept. */
static void what_was_another_is_known_among_many(void **state)
{
	struct rig *r = *state;
	uint64_t first = rig_put(r, STORE_ROOT_INO, "first", 10, 1), other, fresh;
	char from[32] = "n", to[32];

	move(r, "first", "n");
	other = rig_put(r, STORE_ROOT_INO, "first", 10, 1);
	fresh = rig_put(r, STORE_ROOT_INO, "fresh", 10, 1);
	for (unsigned i = 0; i < 70000; i++) {
		snprintf(to, sizeof(to), "n%u", i);
		move(r, from, to);
		memcpy(from, to, sizeof(from));
		must(i % 1000 || store_was_other(r->s, other, "first"));
		must(i % 1000 || i > 60000 || !store_was_other(r->s, fresh, "fresh"));
	}
	must(store_was_other(r->s, other, "first"));
	must_eq(store_sync_to(r->s, store_mark(r->s)), 0);
	must(!store_was_other(r->s, other, "first"));
	must(!store_was_other(r->s, first, from));
}

static void durability_close_syncs_each(void **state)
{
	struct rig *r = *state;
	uint64_t ino;

	r->config.durability_close = true;
	rig_reopen(r);
	disk_on(DISK_PASS, 0, 0);
	ino = rig_put(r, STORE_ROOT_INO, "f", 3 * P, 1);
	must(syncs(DISK_DATA) >= 1);
	must(syncs(DISK_JOURNAL) >= 1);
	disk_off();
	must(durable(r, ino));
}

static void flush_takes_all_at_once(void **state)
{
	struct rig *r = *state;

	for (int i = 0; i < 100; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		(void)rig_put(r, STORE_ROOT_INO, name, 10, 1);
	}
	disk_on(DISK_PASS, 0, 0);
	must_eq(store_flush_all(r->s), 0);
	must_eq(syncs(DISK_OTHER), 1); /* syncfs */
	must_eq(syncs(DISK_JOURNAL), 1);
	must_eq(syncs(DISK_DATA), 0);
	disk_off();
}

/* By the maintenance thread, at latest flush_ms after the close. */
static void flush_comes_by_itself(void **state)
{
	struct rig *r = *state;
	int64_t deadline;

	r->config.flush_ms = 5000;
	rig_reopen(r);
	must_eq(store_start(r->s), 0);
	disk_on(DISK_PASS, 0, 0);
	(void)rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	clock_fake_advance_ms(4000);
	for (int i = 0; i < 50; i++)
		usleep(1000); /* not yet, however long we look */
	must_eq(syncs(DISK_OTHER), 0);
	clock_fake_advance_ms(1500);
	deadline = time(NULL) + DEADLINE_MS / 1000;
	while (syncs(DISK_OTHER) == 0 && time(NULL) < deadline)
		usleep(1000);
	must_eq(syncs(DISK_OTHER), 1);
	rig_close(r);
	disk_off();
}

/* A checkpoint when nothing changed for a second. */
static void checkpoint_comes_by_itself(void **state)
{
	struct rig *r = *state;
	struct store_space space;
	time_t deadline = time(NULL) + DEADLINE_MS / 1000;

	must_eq(store_start(r->s), 0);
	(void)rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	store_space(r->s, &space);
	must(space.journal_bytes > 0);
	while (space.journal_bytes > 0 && time(NULL) < deadline) {
		clock_fake_advance_ms(300);
		usleep(2000);
		store_space(r->s, &space);
	}
	must_eq(space.journal_bytes, 0);
}

static void fail_data_sync(struct store_file *f)
{
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.files_mask = 1u << DISK_DATA;
	must_eq(store_file_sync(f, false), -EIO);
	disk_off();
}

static void failed_fsync_is_no_success_later(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 3 * P, 1);
	struct store_file *f = rig_file(r, ino);

	fail_data_sync(f);
	must(!durable(r, ino));
	/* the kernel says yes now, and proves nothing */
	must_eq(store_file_sync(f, false), -EIO);
	must(!durable(r, ino));
	store_file_close(f);
	/* its bytes read again and equal to its CRCs do prove it */
	rig_bring(r, ino, FILE_QUEUED);
	f = rig_file(r, ino);
	must_eq(store_file_sync(f, false), 0);
	must(durable(r, ino));
	store_file_close(f);
}

/* Nothing is left of the bytes in doubt once the file was emptied. */
static void suspicion_ends_with_the_bytes(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 3 * P, 1), chunk;
	struct store_file *f = rig_write_begin(r, ino);

	fail_data_sync(f);
	must_eq(store_file_truncate(f, 10, &chunk), 0);
	must_eq(store_file_sync(f, false), -EIO);
	must_eq(store_file_truncate(f, 0, &chunk), 0);
	rig_write_pattern(f, 0, 2 * P, 2);
	must_eq(store_file_sync(f, false), 0);
	rig_write_end(f);
	f = rig_file(r, ino);
	must_eq(store_file_sync(f, false), 0);
	must(durable(r, ino));
	store_file_close(f);
}

static void suspicion_outlives_a_change_and_a_restart(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 3 * P, 1);
	struct store_file *f = rig_file(r, ino);

	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	must_eq(store_file_sync(f, false), -EIO);
	disk_off();
	store_file_writer_add(f);
	rig_write_pattern(f, 0, 10, 2);
	rig_write_end(f);
	rig_reopen(r);
	f = rig_file(r, ino);
	must_eq(store_file_sync(f, false), -EIO);
	must(!durable(r, ino));
	store_file_close(f);
}

/* What only the page cache has does not outlive the boot, however orderly the end was. */
static void suspicion_outlives_a_clean_end_and_a_reboot(void **state)
{
	struct rig *r = *state;
	uint64_t bad = rig_put(r, STORE_ROOT_INO, "bad", P, 1);
	uint64_t checked = rig_put(r, STORE_ROOT_INO, "checked", P, 2);
	uint64_t good = rig_put(r, STORE_ROOT_INO, "good", P, 3);
	struct store_recovery got;
	char path[4096];
	struct store_file *f;
	int fd;

	rig_bring(r, checked, FILE_QUEUED);
	rig_data_path(r, bad, path);
	f = rig_file(r, bad);
	fail_data_sync(f);
	store_file_close(f);
	f = rig_file(r, checked);
	fail_data_sync(f);
	store_file_close(f);
	rig_close(r);
	fd = open(path, O_WRONLY); /* what the disk has */
	must_eq(pwrite(fd, "\0\0\0", 3, 5), 3);
	close(fd);
	r->config.boot_id = "boot-2";
	rig_open(r);
	store_recovery_report(r->s, &got);
	must(!got.was_unclean && !got.power_cut);
	must_eq(got.torn_files, 1);
	must_state(rig_state(r, bad), FILE_TORN);
	must(strstr(rig_inode(r, bad)->reason, "disk failed") != NULL);
	must_state(rig_state(r, checked), FILE_QUEUED);
	must_state(rig_state(r, good), FILE_CLOSED);
	f = rig_file(r, checked); /* proved */
	must_eq(store_file_sync(f, false), 0);
	store_file_close(f);
}

/* The disk took neither the bytes nor the record that says so. */
static void suspicion_that_cannot_be_recorded_is_owed(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", P, 1);
	struct store_file *f = rig_file(r, ino);

	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC | 1u << DISK_WRITE;
	disk.files_mask = 1u << DISK_OTHER | 1u << DISK_JOURNAL;
	disk.lasts = true;
	must_eq(store_flush_all(r->s), -EIO);
	disk_off();
	must_eq(store_file_sync(f, false), -EIO);
	must_eq(store_flush_all(r->s), 0); /* recorded now */
	must_eq(store_file_sync(f, false), -EIO);
	must(!durable(r, ino));
	store_file_close(f);
	ino = rig_put(r, STORE_ROOT_INO, "g", P, 1);
	f = rig_file(r, ino);
	must_eq(store_file_sync(f, false), 0);
	store_file_close(f);
}

static struct {
	struct store *store;
	pthread_t first, second;
	_Atomic bool begun, over;
} two_flushes;

static void *second_flush(void *user)
{
	must_eq(store_flush_all(two_flushes.store), 0);
	two_flushes.over = true;
	return user;
}

/* The first one fails, but is not told before the second one was answered, if it asked by now. */
static void second_flush_meanwhile(enum disk_call call, enum disk_file file)
{
	if (call != DISK_SYNC || file != DISK_OTHER)
		return;
	if (!pthread_equal(pthread_self(), two_flushes.first)) {
		disk.action = DISK_PASS;
		return;
	}
	two_flushes.begun =
		pthread_create(&two_flushes.second, NULL, second_flush, NULL) == 0;
	for (int i = 0; i < 100 && !two_flushes.over; i++)
		usleep(1000);
	disk.action = DISK_FAIL;
}

static void a_flush_that_fails_beside_another(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", P, 1);
	struct store_file *f = rig_file(r, ino);

	two_flushes.store = r->s;
	two_flushes.first = pthread_self();
	two_flushes.begun = two_flushes.over = false;
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.files_mask = 1u << DISK_OTHER;
	disk.lasts = true;
	disk.hook = second_flush_meanwhile;
	must_eq(store_flush_all(r->s), -EIO);
	must(two_flushes.begun);
	must_eq(pthread_join(two_flushes.second, NULL), 0);
	disk_off();
	must_eq(store_file_sync(f, false), -EIO);
	must(!durable(r, ino));
	store_file_close(f);
}

static void failed_flush_says_so(void **state)
{
	struct rig *r = *state;

	(void)rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	must(store_flush_all(r->s) < 0);
	disk_off();
}

/* A journal that does not sync any more: the index takes it all, which is as good. */
static void journal_that_does_not_sync(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	struct store_file *f = rig_file(r, ino);
	struct store_space space;

	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.files_mask = 1u << DISK_JOURNAL;
	must_eq(store_file_sync(f, false), 0);
	must(disk.met);
	must(syncs(DISK_INDEX) >= 1);
	disk_off();
	store_space(r->s, &space);
	must_eq(space.journal_bytes, 0);
	store_file_close(f);
}

/* When the index took nothing either, the next sync of the journal that succeeds proves nothing. */
static void journal_is_not_believed_after_that(void **state)
{
	struct rig *r = *state;
	uint64_t mark;

	(void)rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	mark = store_mark(r->s);
	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.files_mask = 1u << DISK_JOURNAL | 1u << DISK_INDEX;
	disk.lasts = true;
	must_eq(store_sync_to(r->s, mark), -EIO);
	disk_on(DISK_PASS, 0, 0);
	must_eq(store_sync_to(r->s, mark), 0);
	must(syncs(DISK_INDEX) >= 1);
	(void)rig_put(r, STORE_ROOT_INO, "g", 10, 1);
	disk_on(DISK_PASS, 0, 0);
	must_eq(store_sync_to(r->s, store_mark(r->s)), 0);
	must_eq(syncs(DISK_JOURNAL), 1);
	must_eq(syncs(DISK_INDEX), 0);
	disk_off();
}

/* Nothing of it can be other bytes on the disk. */
static void an_empty_file_is_not_suspected_for_ever(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 0, 1);

	disk_on(DISK_FAIL, 1, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	must_eq(store_flush_all(r->s), -EIO);
	disk_off();
	must_eq(store_make_durable(r->s, ino), 0);
	must(durable(r, ino));
}

/* The disk did not keep a byte of it, as seen when it is read again. */
static void damage(struct rig *r, uint64_t ino)
{
	char path[4096];
	int fd;

	rig_data_path(r, ino, path);
	fd = open(path, O_WRONLY);
	must(fd >= 0);
	must_eq(pwrite(fd, "!", 1, 5), 1);
	close(fd);
}

static bool is_here(struct rig *r, uint64_t ino)
{
	struct store_chunk c;

	must_eq(store_chunk(r->s, ino, 0, &c), 0);
	return c.present;
}

static void all_syncs_fail(bool fail)
{
	disk_on(fail ? DISK_FAIL : DISK_PASS, fail ? 1 : 0, EIO);
	disk.calls_mask = 1u << DISK_SYNC;
	disk.files_mask = 1u << DISK_OTHER | 1u << DISK_DATA;
	disk.lasts = true;
}

/* What a failed sync made suspect, and is not what was written: it leaves if the bucket has it and nobody has it
 * open. With the sync that failed, and no other ever succeeds, or with the next. */
static void damage_that_the_bucket_can_mend_leaves(void **state)
{
	struct rig *r = *state;

	for (unsigned succeeds = 0; succeeds < 2; succeeds++) {
		uint64_t sent = rig_put(r, STORE_ROOT_INO, "sent", 100, 1);
		uint64_t right = rig_put(r, STORE_ROOT_INO, "right", 100, 2);
		uint64_t open = rig_put(r, STORE_ROOT_INO, "open", 100, 3);
		uint64_t gone = rig_put(r, STORE_ROOT_INO, "gone", 100, 4);
		uint64_t queued = rig_put(r, STORE_ROOT_INO, "queued", 100, 5);
		struct store_file *f;

		rig_bring(r, right, FILE_UPLOADED);
		rig_bring(r, open, FILE_VERIFIED);
		rig_bring(r, gone, FILE_GONE);
		rig_bring(r, queued, FILE_QUEUED);
		rig_bring(r, sent, succeeds ? FILE_QUEUED : FILE_VERIFIED);
		damage(r, sent);
		damage(r, open);
		damage(r, gone);
		damage(r, queued);
		f = rig_file(r, open);
		all_syncs_fail(true);
		must_eq(store_flush_all(r->s), -EIO);
		all_syncs_fail(false);
		must_eq(is_here(r, sent), succeeds);
		if (succeeds) {
			rig_upload_as(r, sent, "k");
			must_eq(store_flush_all(r->s), 0);
		}
		must(!is_here(r, sent));
		must_eq(store_synced(r->s, sent), succeeds ? STORE_SYNCED : STORE_SUSPECT);
		must(is_here(r, right) && is_here(r, open) && is_here(r, gone) && is_here(r, queued));
		must_eq(store_synced(r->s, right), succeeds ? STORE_SYNCED : STORE_SUSPECT);
		must_eq(store_synced(r->s, queued), STORE_SUSPECT);
		store_file_close(f);
		disk_off();
		must_eq(store_unlink(r->s, STORE_ROOT_INO, "sent", 0), 0);
		must_eq(store_unlink(r->s, STORE_ROOT_INO, "right", 0), 0);
		must_eq(store_unlink(r->s, STORE_ROOT_INO, "open", 0), 0);
		must_eq(store_unlink(r->s, STORE_ROOT_INO, "gone", 0), 0);
		must_eq(store_unlink(r->s, STORE_ROOT_INO, "queued", 0), 0);
		must_eq(store_flush_all(r->s), 0);
	}
}

/* A disk that fails for days must not write the same down again for each of its files. */
static void who_is_suspect_is_recorded_once(void **state)
{
	struct rig *r = *state;
	char name[16];

	for (unsigned n = 0; n < 40; n++) {
		snprintf(name, sizeof(name), "f%u", n);
		(void)rig_put(r, STORE_ROOT_INO, name, 100, n);
	}
	for (unsigned round = 0; round < 2; round++) {
		all_syncs_fail(true);
		must_eq(store_flush_all(r->s), -EIO);
		must_eq(disk.seen[DISK_JOURNAL][DISK_WRITE], round ? 0 : 40);
	}
	disk_off();
	must_eq(store_synced(r->s, rig_find(r, "f7")), STORE_SUSPECT);
}

static void checkpoint_empties_the_journal(void **state)
{
	struct rig *r = *state;
	struct store_space space;

	(void)rig_put(r, STORE_ROOT_INO, "f", 10, 1);
	store_space(r->s, &space);
	must(space.journal_bytes > 100);
	must_eq(store_checkpoint(r->s), 0);
	store_space(r->s, &space);
	must_eq(space.journal_bytes, 0);
	must(space.index_bytes > 0);
	rig_must_hold(r, rig_find(r, "f"), 10, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(closes_do_not_sync),
		rig_test(a_close_is_one_journal_write),
		rig_test(fsync_syncs_data_then_journal),
		rig_test(first_change_of_a_durable_file_is_synced),
		rig_test(emptied_though_not_all_is_here_is_synced),
		rig_test(first_change_after_a_fetch_is_synced),
		rig_test(emptied_after_a_fetch_is_synced),
		rig_test(first_change_of_a_suspect_file_is_synced),
		rig_test(replaced_object_is_synced_before_its_bytes_go),
		rig_test(what_was_another_is_known_until_it_is_synced),
		rig_test(what_was_another_is_known_among_many),
		rig_test(durability_close_syncs_each),
		rig_test(flush_takes_all_at_once),
		rig_test_clock(flush_comes_by_itself),
		rig_test_clock(checkpoint_comes_by_itself),
		rig_test(failed_fsync_is_no_success_later),
		rig_test(suspicion_ends_with_the_bytes),
		rig_test(suspicion_outlives_a_change_and_a_restart),
		rig_test(suspicion_outlives_a_clean_end_and_a_reboot),
		rig_test(suspicion_that_cannot_be_recorded_is_owed),
		rig_test(a_flush_that_fails_beside_another),
		rig_test(failed_flush_says_so),
		rig_test(journal_that_does_not_sync),
		rig_test(journal_is_not_believed_after_that),
		rig_test(an_empty_file_is_not_suspected_for_ever),
		rig_test(damage_that_the_bucket_can_mend_leaves),
		rig_test(who_is_suspect_is_recorded_once),
		rig_test(checkpoint_empties_the_journal),
	};

	return cmocka_run_group_tests_name("store sync", tests, NULL, NULL);
}
