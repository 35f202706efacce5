/*
 * Queues: order within a state, paging; counters per folder against a recount by walking.
 */
#include "store_rig.h"

static void must_queue(struct rig *r, enum file_state state, const uint64_t *want, int count)
{
	uint64_t got[32];

	must_eq(rig_queue(r, state, got, 32), count);
	for (int i = 0; i < count; i++)
		if (got[i] != want[i])
			must_failed(__FILE__, __LINE__, "%s[%d] is %" PRIu64 ", not %" PRIu64,
				file_state_text(state), i, got[i], want[i]);
}

static void queued_by_close_time(void **state)
{
	struct rig *r = *state;
	uint64_t ino[4];

	for (int i = 0; i < 4; i++) {
		char name[2] = {(char)('a' + i), '\0'};

		clock_fake_advance_ms(1000);
		ino[i] = rig_put(r, STORE_ROOT_INO, name, 10, 1);
	}
	/* they become queued in another order */
	rig_bring(r, ino[2], FILE_QUEUED);
	rig_bring(r, ino[0], FILE_QUEUED);
	rig_bring(r, ino[3], FILE_QUEUED);
	rig_bring(r, ino[1], FILE_QUEUED);
	must_queue(r, FILE_QUEUED, ino, 4);
	rig_reopen(r);
	must_queue(r, FILE_QUEUED, ino, 4);
	must_queue(r, FILE_CLOSED, NULL, 0);
}

static void closed_and_failed_by_due_time(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_put(r, STORE_ROOT_INO, "a", 10, 1), b, c;
	struct store_transition t;

	clock_fake_advance_ms(1);
	b = rig_put(r, STORE_ROOT_INO, "b", 10, 1);
	clock_fake_advance_ms(1);
	c = rig_put(r, STORE_ROOT_INO, "c", 10, 1);
	must_queue(r, FILE_CLOSED, (uint64_t[]){a, b, c}, 3);
	t = rig_transition(r, b, FILE_CLOSED, FILE_CLOSED);
	t.due_at_ns = T0_NS + 60 * NS_PER_S;
	must_eq(store_state_set(r->s, &t), 0);
	must_queue(r, FILE_CLOSED, (uint64_t[]){a, c, b}, 3);
	t = rig_transition(r, a, FILE_CLOSED, FILE_FAILED);
	t.due_at_ns = T0_NS + 30 * NS_PER_S;
	must_eq(store_state_set(r->s, &t), 0);
	t = rig_transition(r, c, FILE_CLOSED, FILE_FAILED);
	t.due_at_ns = T0_NS + 20 * NS_PER_S;
	must_eq(store_state_set(r->s, &t), 0);
	must_queue(r, FILE_FAILED, (uint64_t[]){c, a}, 2);
}

static void verified_by_verification_time(void **state)
{
	struct rig *r = *state;
	uint64_t ino[3];

	for (int i = 0; i < 3; i++) {
		char name[2] = {(char)('a' + i), '\0'};

		ino[i] = rig_put(r, STORE_ROOT_INO, name, 10, 1);
		rig_bring(r, ino[i], FILE_UPLOADED);
	}
	for (int i = 2; i >= 0; i--) {
		clock_fake_advance_ms(1000);
		rig_verify(r, ino[i]);
	}
	must_queue(r, FILE_VERIFIED, (uint64_t[]){ino[2], ino[1], ino[0]}, 3);
}

static void deleting_by_due_time(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_put(r, STORE_ROOT_INO, "a", 10, 1), b = rig_put(r, STORE_ROOT_INO, "b", 10, 1);
	struct store_queue_item item;

	rig_bring(r, a, FILE_UPLOADED);
	rig_bring(r, b, FILE_UPLOADED);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "a", 60000), 0);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "b", 1000), 0);
	must_queue(r, FILE_DELETING, (uint64_t[]){b, a}, 2);
	must_eq(store_queue(r->s, FILE_DELETING, NULL, &item, 1), 1);
	must_eq(item.order, T0_NS + NS_PER_S);
}

static void others_by_entry(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_put(r, STORE_ROOT_INO, "a", 10, 1), b, c;

	b = rig_put(r, STORE_ROOT_INO, "b", 10, 1);
	c = rig_put(r, STORE_ROOT_INO, "c", 10, 1);
	clock_fake_advance_ms(1);
	rig_bring(r, c, FILE_UPLOADED);
	clock_fake_advance_ms(1);
	rig_bring(r, a, FILE_UPLOADED);
	clock_fake_advance_ms(1);
	rig_bring(r, b, FILE_UPLOADED);
	must_queue(r, FILE_UPLOADED, (uint64_t[]){c, a, b}, 3);
}

/* Same order value for many: none is skipped or seen twice by pages. */
static void pages_with_equal_orders(void **state)
{
	struct rig *r = *state;
	struct store_queue_item page[7], after;
	const struct store_queue_item *from = NULL;
	uint64_t seen[100] = {0};
	unsigned count = 0;
	int n;

	for (int i = 0; i < 100; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		(void)rig_put(r, STORE_ROOT_INO, name, 10, 1);
	}
	while ((n = store_queue(r->s, FILE_CLOSED, from, page, 7)) > 0) {
		for (int i = 0; i < n; i++) {
			for (unsigned k = 0; k < count; k++)
				must(seen[k] != page[i].ino);
			must(count < 100);
			seen[count++] = page[i].ino;
		}
		after = page[n - 1];
		from = &after;
	}
	must_eq(count, 100);
}

/* ---- counts ------------------------------------------------------------------------------------------------ */

static void counts_of_a_folder(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a"), b = rig_dir(r, a, "b");
	uint64_t f = rig_put(r, b, "f", 1000, 1);
	struct store_counts c;

	(void)rig_put(r, a, "g", 10, 1);
	(void)rig_put(r, STORE_ROOT_INO, "h", 1, 1);
	rig_bring(r, f, FILE_UPLOADED);
	must_eq(store_counts(r->s, b, &c), 0);
	must_eq(c.files[FILE_UPLOADED], 1);
	must_eq(c.bytes[FILE_UPLOADED], 1000);
	must_eq(c.files[FILE_CLOSED], 0);
	must_eq(store_counts(r->s, a, &c), 0);
	must_eq(c.files[FILE_CLOSED], 1);
	must_eq(c.bytes[FILE_CLOSED], 10);
	must_eq(c.files[FILE_UPLOADED], 1);
	must_eq(store_counts(r->s, STORE_ROOT_INO, &c), 0);
	must_eq(c.files[FILE_CLOSED], 2);
	must_eq(c.bytes[FILE_CLOSED], 11);
	must_eq(store_counts(r->s, f, &c), 0);
	must_eq(c.files[FILE_UPLOADED], 1);
	must_eq(c.bytes[FILE_UPLOADED], 1000);
	must_eq(store_counts(r->s, 4711, &c), -ENOENT);
}

static void deleting_counts_at_the_root(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), f = rig_put(r, d, "f", 1000, 1);
	struct store_counts c;

	rig_bring(r, f, FILE_UPLOADED);
	must_eq(store_unlink(r->s, d, "f", 60000), 0);
	must_eq(store_counts(r->s, STORE_ROOT_INO, &c), 0);
	must_eq(c.files[FILE_UPLOADED], 0);
	must_eq(c.files[FILE_DELETING], 1);
	must_eq(c.bytes[FILE_DELETING], 1000);
	must_eq(store_forget(r->s, f), 0);
	must_eq(store_counts(r->s, STORE_ROOT_INO, &c), 0);
	must_eq(c.files[FILE_DELETING], 0);
	must_eq(c.bytes[FILE_DELETING], 0);
}

static void bytes_follow_the_size(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 1000, 1), chunk;
	struct store_file *f = rig_write_begin(r, ino);
	struct store_counts c;

	rig_write_pattern(f, 1000, 500, 1);
	must_eq(store_counts(r->s, STORE_ROOT_INO, &c), 0);
	must_eq(c.files[FILE_OPEN], 1);
	must_eq(c.files[FILE_CLOSED], 0);
	must_eq(c.bytes[FILE_CLOSED], 0);
	rig_write_end(f);
	must_eq(store_counts(r->s, STORE_ROOT_INO, &c), 0);
	must_eq(c.bytes[FILE_CLOSED], 1500);
	must_eq(c.bytes[FILE_OPEN], 0);
	f = rig_write_begin(r, ino);
	must_eq(store_file_truncate(f, 7, &chunk), 0);
	rig_write_end(f);
	must_eq(store_counts(r->s, STORE_ROOT_INO, &c), 0);
	must_eq(c.bytes[FILE_CLOSED], 7);
}

/* ---- a random sequence -------------------------------------------------------------------------------------- */

#define FOLDERS 8

static uint64_t any_file(struct rig *r, uint64_t *seed, const uint64_t *dirs, struct store_entry *out)
{
	uint64_t dir = dirs[rig_random(seed) % FOLDERS];
	static struct store_entry page[64];
	int n = store_readdir(r->s, dir, "", page, 64);

	must(n >= 0);
	for (int tries = 0; n > 0 && tries < 8; tries++) {
		*out = page[rig_random(seed) % (uint64_t)n];
		if (out->attr.type == STORE_FILE)
			return dir;
	}
	return 0;
}

static void bring_on(struct rig *r, uint64_t *seed, const struct store_attr *a)
{
	static const enum file_state to[] = {FILE_SETTLED, FILE_QUEUED, FILE_SENDING, FILE_UPLOADED,
		FILE_VERIFIED, FILE_HELD, FILE_FAILED, FILE_CONFLICT, FILE_GONE};

	if (a->state == FILE_CLOSED)
		rig_bring(r, a->ino, to[rig_random(seed) % array_len(to)]);
	else if (a->state == FILE_UPLOADED)
		rig_verify(r, a->ino);
	else if (a->state == FILE_FAILED || a->state == FILE_HELD || a->state == FILE_CONFLICT)
		must_eq(rig_step(r, a->ino, a->state, FILE_CLOSED, ""), 0);
}

static void rewrite(struct rig *r, uint64_t *seed, uint64_t ino)
{
	struct store_file *f = rig_write_begin(r, ino);
	uint64_t chunk;

	if (rig_random(seed) % 3 == 0)
		must_eq(store_file_truncate(f, rig_random(seed) % 9000, &chunk), 0);
	else
		rig_write_pattern(f, rig_random(seed) % 5000, 1 + rig_random(seed) % 5000, 1);
	must_eq(store_file_flush(f, rig_random(seed) % 8 == 0, "cut"), 0);
	store_file_writer_drop(f);
	store_file_close(f);
}

/* Folders move into one another where that is allowed. */
static void move_folder(struct rig *r, uint64_t *seed, const uint64_t *dirs)
{
	uint64_t from = dirs[1 + rig_random(seed) % (FOLDERS - 1)], to = dirs[rig_random(seed) % FOLDERS];
	struct store_inode i = *rig_inode(r, from);
	char name[16];
	int e;

	snprintf(name, sizeof(name), "m%u", (unsigned)(rig_random(seed) % 1000000));
	e = store_rename(r->s, i.attr.parent, i.name, to, name, 0, 1000);
	must(e == 0 || e == -EINVAL || e == -ENOTEMPTY || e == -EISDIR);
}

static void random_step(struct rig *r, uint64_t *seed, const uint64_t *dirs)
{
	uint64_t roll = rig_random(seed) % 100, dir;
	struct store_entry e;
	char name[16];

	snprintf(name, sizeof(name), "f%u", (unsigned)(rig_random(seed) % 1000000));
	dir = any_file(r, seed, dirs, &e);
	if (roll < 30 || !dir) {
		uint64_t to = dirs[rig_random(seed) % FOLDERS];
		struct store_attr there;

		if (store_lookup(r->s, to, name, &there) == -ENOENT)
			(void)rig_put(r, to, name, rig_random(seed) % 9000, 1);
	} else if (roll < 60) {
		bring_on(r, seed, &e.attr);
	} else if (roll < 75) {
		rewrite(r, seed, e.attr.ino);
	} else if (roll < 85) {
		int got = store_rename(r->s, dir, e.name, dirs[rig_random(seed) % FOLDERS],
			roll < 80 ? name : e.name, 0, 1000);

		must(got == 0 || got == -EISDIR);
	} else if (roll < 92) {
		must_eq(store_unlink(r->s, dir, e.name, 1000), 0);
	} else {
		move_folder(r, seed, dirs);
	}
}

static void counters_equal_a_recount(void **state)
{
	struct rig *r = *state;
	uint64_t seed = rig_seed(), dirs[FOLDERS] = {STORE_ROOT_INO};

	snprintf(rig_context, sizeof(rig_context), "CPGFS_TEST_SEED=%" PRIu64, seed);
	for (int i = 1; i < FOLDERS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "d%d", i);
		dirs[i] = rig_dir(r, dirs[i / 2], name);
	}
	for (int i = 0; i < 3000; i++) {
		random_step(r, &seed, dirs);
		if (i % 250 == 249)
			rig_must_count(r, STORE_ROOT_INO);
		if (i % 1000 == 999)
			rig_reopen(r);
	}
	rig_must_count(r, STORE_ROOT_INO);
	rig_context[0] = '\0';
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test_clock(queued_by_close_time),
		rig_test_clock(closed_and_failed_by_due_time),
		rig_test_clock(verified_by_verification_time),
		rig_test_clock(deleting_by_due_time),
		rig_test_clock(others_by_entry),
		rig_test_clock(pages_with_equal_orders),
		rig_test(counts_of_a_folder),
		rig_test(deleting_counts_at_the_root),
		rig_test(bytes_follow_the_size),
		rig_test(counters_equal_a_recount),
	};

	return cmocka_run_group_tests_name("store queue", tests, NULL, NULL);
}
