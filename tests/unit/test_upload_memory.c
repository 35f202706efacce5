/*
 * The upload room short of memory (the store below it, too): whatever call fails for want of it,
 * everything arrives in the end without a person, and nothing is believed, left over or given up.
 */
#include <errno.h>

#include "memory_fault.h"

#include "upload_fake.h"

#define BIG (THRESHOLD + 1)
#define STEP_MS 100

static uint8_t *big;

/* What the test does to the store meets no fault. */
#define undisturbed(what)                                                                          \
	do {                                                                                       \
		long at_ = memory_fault_pause();                                                   \
		what;                                                                              \
		memory_fault_resume(at_);                                                          \
	} while (0)

static bool is_uploaded(struct bench *b, uint64_t ino, const char *key)
{
	struct store_inode inode;
	long at = memory_fault_pause();
	bool yes = store_inode(b->store, ino, &inode) == 0 && inode.attr.state == FILE_UPLOADED &&
		   strcmp(inode.object.key, key) == 0;

	memory_fault_resume(at);
	return yes;
}

static bool is_quiet(struct bench *b)
{
	long at = memory_fault_pause();
	bool yes = attempts_standing(b) == 0 && fake_open_uploads(b->fake) == 0;

	memory_fault_resume(at);
	return yes;
}

#define arrives(cond)                                                                              \
	do {                                                                                       \
		struct timespec from_, now_, pause_ = {.tv_nsec = 500000};                         \
		clock_gettime(CLOCK_MONOTONIC, &from_);                                            \
		while (!(clock_fake_advance_ms(STEP_MS), (cond))) {                                \
			clock_gettime(CLOCK_MONOTONIC, &now_);                                     \
			if ((now_.tv_sec - from_.tv_sec) * 1000 > WAIT_MS)                         \
				fail_msg("call %ld failed: waits for %s", memory_sweep_at, #cond); \
			nanosleep(&pause_, NULL);                                                  \
		}                                                                                  \
	} while (0)

static void open_upload_somehow(struct bench *b)
{
	struct upload *u;
	int r;

	b->config.s3 = &b->fake->s3;
	b->config.store = b->store;
	b->config.remote = b->remote;
	while ((r = upload_create(&u, &b->config)) < 0)
		must_hold(r == -ENOMEM);
	b->upload = u;
	while ((r = upload_start(u)) < 0)
		must_hold(r == -ENOMEM || r == -EAGAIN);
}

static bool play(void *user)
{
	const bool *aws = user;
	struct bench *b = bench_begin(*aws);
	uint64_t small = write_text(b, "p/d/small", "hello");
	uint64_t large = write_file(b, "p/d/large", big, BIG);
	uint64_t dir = file_ino(b, "p/d", false);
	bool reached;

	memory_fault_begin(memory_sweep_at, false);
	open_upload_somehow(b);
	arrives(is_uploaded(b, small, "p/d/small") && is_uploaded(b, large, "p/d/large"));
	undisturbed(must_hold(store_rename(b->store, dir, "small", dir, "moved", 0, 0) == 0));
	arrives(is_uploaded(b, small, "p/d/moved"));
	undisturbed(must_hold(store_unlink(b->store, dir, "large", 0) == 0));
	arrives(fake_object_count(b->fake) == 1 && is_quiet(b));
	reached = memory_fault_end();
	must_hold(fake_has(b->fake, "p/d/moved", "hello", 5));
	bench_end(b);
	return reached;
}

static void evict(struct bench *b, uint64_t ino)
{
	struct store_attr attr;
	int fd;

	must_hold(store_attr(b->store, ino, &attr) == 0);
	must_hold(store_evict(b->store, UINT64_MAX / 2) == 0);
	must_hold(store_version_open(b->store, ino, attr.generation, &fd) == -EREMOTE);
}

/* An object that is the only copy of a file with a held name is not written over. */
static bool play_only_copy(void *user)
{
	struct bench *b = bench_begin(true);
	uint64_t one = write_text(b, "p/d/one", "first"), again;
	uint64_t dir = file_ino(b, "p/d", false);
	bool reached;

	(void)user;
	bench_open_upload(b);
	arrives(is_uploaded(b, one, "p/d/one") && is_quiet(b));
	evict(b, one);
	memory_fault_begin(memory_sweep_at, false);
	undisturbed(must_hold(store_rename(b->store, dir, "one", dir, ".one.Ab12Cd", 0, 0) == 0));
	undisturbed(again = write_text(b, "p/d/one", "second"));
	for (unsigned i = 0; i < 100; i++) {
		clock_fake_advance_ms(STEP_MS);
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	}
	undisturbed(must_hold(store_rename(b->store, dir, ".one.Ab12Cd", dir, "two", 0, 0) == 0));
	arrives(is_uploaded(b, one, "p/d/two") && is_uploaded(b, again, "p/d/one") && is_quiet(b));
	reached = memory_fault_end();
	must_hold(fake_has(b->fake, "p/d/two", "first", 5));
	must_hold(fake_has(b->fake, "p/d/one", "second", 6));
	bench_end(b);
	return reached;
}

static void only_copies_stay(void **state)
{
	(void)state;
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	memory_sweep("only copies", play_only_copy, NULL, getenv("CPGFS_TEST_LONG") ? 1 : 7);
	clock_fake_end();
}

static void everything_arrives(void **state)
{
	long step = getenv("CPGFS_TEST_LONG") ? 1 : 17;

	(void)state;
	big = pattern(BIG, 5);
	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	for (int aws = 0; aws < 2; aws++)
		memory_sweep(aws ? "uploads" : "uploads without checksums", play, &(bool){aws}, step);
	clock_fake_end();
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_arrives),
		cmocka_unit_test(only_copies_stay),
	};

	return cmocka_run_group_tests_name("uploads short of memory", tests, NULL, NULL);
}
