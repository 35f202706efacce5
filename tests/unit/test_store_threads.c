/*
 * Several threads at once: what ends first when a write is under way, and a crowd on few files.
 */
#include "store_disk.h"

#include <semaphore.h>

#define P RIG_PART_BYTES

/* ---- a write that is held up at the disk ----------------------------------------------------------------------- */

static struct {
	sem_t at_disk, go_on;
	_Atomic bool hold;
	_Atomic bool other_done;
} held;

static void hold_data_writes(enum disk_call call, enum disk_file file)
{
	if (call != DISK_WRITE || file != DISK_DATA || !atomic_exchange(&held.hold, false))
		return;
	sem_post(&held.at_disk);
	sem_wait(&held.go_on);
}

static void *write_held(void *arg)
{
	uint64_t chunk;

	must_eq(store_file_write(arg, "new bytes!", 10, 5000, false, &chunk), 0);
	return NULL;
}

static void *cut_to_100(void *arg)
{
	uint64_t chunk;

	must_eq(store_file_truncate(arg, 100, &chunk), 0);
	held.other_done = true;
	return NULL;
}

static void *flush_it(void *arg)
{
	must_eq(store_file_flush(arg, false, NULL), 0);
	held.other_done = true;
	return NULL;
}

/* Starts `other` while a write stands at the disk: it must wait for it. */
static void must_wait_for(struct store_file *f, void *(*write)(void *), void *(*other)(void *))
{
	pthread_t writer, second;

	sem_init(&held.at_disk, 0, 0);
	sem_init(&held.go_on, 0, 0);
	held.hold = true;
	held.other_done = false;
	disk_on(DISK_PASS, 0, 0);
	disk.hook = hold_data_writes;
	must_eq(pthread_create(&writer, NULL, write, f), 0);
	sem_wait(&held.at_disk);
	must_eq(pthread_create(&second, NULL, other, f), 0);
	for (int i = 0; i < 50; i++) {
		usleep(1000); /* however long we look */
		must(!held.other_done);
	}
	sem_post(&held.go_on);
	must_eq(pthread_join(writer, NULL), 0);
	must_eq(pthread_join(second, NULL), 0);
	disk_off();
	must(held.other_done);
	sem_destroy(&held.at_disk);
	sem_destroy(&held.go_on);
}

static void truncate_waits_for_writes(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 1000, 1);
	must_wait_for(f, write_held, cut_to_100);
	rig_write_end(f);
	must_eq(rig_attr(r, ino).size_bytes, 100);
	rig_must_hold(r, ino, 100, 1);
}

/* What a close records holds all that was written before it. */
static void flush_waits_for_writes(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 1000, 1);
	must_wait_for(f, write_held, flush_it);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must_eq(rig_attr(r, ino).size_bytes, 5010);
	must_eq(rig_attr(r, ino).generation, 1);
	rig_write_end(f);
}

static void *fill_held(void *arg)
{
	uint8_t old[P];

	rig_pattern(old, P, 0, 1);
	must_eq(store_chunk_fill_write(arg, 0, 0, old, P), 0);
	return NULL;
}

static void *cut_to_nothing(void *arg)
{
	uint64_t chunk;

	must_eq(store_file_truncate(arg, 0, &chunk), 0);
	held.other_done = true;
	return NULL;
}

/* The old content that is just being fetched must not land in the new one. */
static void truncate_waits_for_what_is_fetched(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", P, 1);
	struct store_file *f;

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_flush_all(r->s), 0);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	f = rig_write_begin(r, ino);
	must_eq(store_chunk_fill_begin(f, 0), 0);
	must_wait_for(f, fill_held, cut_to_nothing);
	rig_write_pattern(f, 0, P / 2, 7);
	must_eq(store_chunk_fill_end(f, 0, true), -ESTALE);
	rig_write_end(f);
	rig_must_hold(r, ino, P / 2, 7);
}

/* `tail -f`: a reader at the end while the next line is on its way. */
static void *append_held(void *arg)
{
	uint64_t chunk;

	must_eq(store_file_write(arg, "next line\n", 10, 0, true, &chunk), 0);
	return NULL;
}

static void reader_beside_an_append(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE), chunk;
	struct store_file *f = rig_write_begin(r, ino);
	uint8_t got[100], want[100];
	pthread_t writer;

	rig_write_pattern(f, 0, 1000, 1);
	sem_init(&held.at_disk, 0, 0);
	sem_init(&held.go_on, 0, 0);
	held.hold = true;
	disk_on(DISK_PASS, 0, 0);
	disk.hook = hold_data_writes;
	must_eq(pthread_create(&writer, NULL, append_held, f), 0);
	sem_wait(&held.at_disk);
	must_eq(store_file_read(f, got, 100, 950, &chunk), 50);
	rig_pattern(want, 50, 950, 1);
	must(memcmp(got, want, 50) == 0);
	must_eq(store_file_read(f, got, 100, 1000, &chunk), 0);
	sem_post(&held.go_on);
	must_eq(pthread_join(writer, NULL), 0);
	disk_off();
	must_eq(store_file_read(f, got, 100, 950, &chunk), 60);
	rig_write_end(f);
	sem_destroy(&held.at_disk);
	sem_destroy(&held.go_on);
}

/* ---- appends from many threads --------------------------------------------------------------------------------------- */

#define APPENDERS 4
#define APPENDS 500

struct appender {
	struct store_file *f;
	char mark;
};

static void *append_lines(void *arg)
{
	struct appender *a = arg;
	char line[37];
	uint64_t chunk;

	memset(line, a->mark, sizeof(line));
	for (int i = 0; i < APPENDS; i++)
		must_eq(store_file_write(a->f, line, sizeof(line), 0, true, &chunk), 0);
	return NULL;
}

static void appends_do_not_mix(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE), chunk;
	struct store_file *f = rig_write_begin(r, ino);
	struct appender a[APPENDERS];
	pthread_t threads[APPENDERS];
	size_t total = (size_t)APPENDERS * APPENDS * 37;
	cleanup_free char *got = malloc(total + 1);
	unsigned lines[APPENDERS] = {0};

	for (int i = 0; i < APPENDERS; i++) {
		a[i] = (struct appender){.f = f, .mark = (char)('a' + i)};
		must_eq(pthread_create(&threads[i], NULL, append_lines, &a[i]), 0);
	}
	for (int i = 0; i < APPENDERS; i++)
		must_eq(pthread_join(threads[i], NULL), 0);
	must_eq(store_file_read(f, got, total + 1, 0, &chunk), total);
	for (size_t at = 0; at < total; at += 37) {
		for (int k = 1; k < 37; k++)
			must_eq(got[at + k], got[at]);
		lines[got[at] - 'a']++;
	}
	for (int i = 0; i < APPENDERS; i++)
		must_eq(lines[i], APPENDS);
	rig_write_end(f);
}

/* ---- a crowd ------------------------------------------------------------------------------------------------------------ */

#define WORKERS 4
#define WORKER_STEPS 400
#define CROWD_FILES 6

struct crowd {
	struct rig *r;
	uint64_t seed;
	unsigned number;
	_Atomic bool *stop;
};

/* Whatever another thread did to the file meanwhile is an answer too. */
static bool is_fair(int e)
{
	return e >= 0 || e == -ENOENT || e == -EEXIST || e == -ESTALE || e == -EREMOTE || e == -EISDIR;
}

static void crowd_write(struct crowd *c, uint64_t ino)
{
	uint64_t chunk, off = rig_random(&c->seed) % 20000;
	uint8_t data[3000];
	struct store_file *f;

	if (store_file_open(c->r->s, ino, &f) < 0)
		return;
	store_file_writer_add(f);
	memset(data, (int)c->number, sizeof(data));
	must(is_fair(store_file_write(f, data, sizeof(data), off, c->number % 2, &chunk)));
	if (rig_random(&c->seed) % 4 == 0)
		must(is_fair(store_file_truncate(f, off, &chunk)));
	must_eq(store_file_flush(f, false, NULL), 0);
	store_file_writer_drop(f);
	store_file_close(f);
}

/* A chain of steps that any other thread may overtake. */
static void crowd_send(struct crowd *c, uint64_t ino, const char *key)
{
	static __thread struct store_inode i;
	static __thread struct store_attempt a;
	struct store_transition t = {.ino = ino, .reason = ""};
	struct store_object o = {.etag = "e"};
	uint64_t crcs[64] = {0};
	bool applied;

	if (store_inode(c->r->s, ino, &i) < 0 || i.attr.state != FILE_CLOSED || i.chunk_count > 64)
		return;
	t.generation = o.generation = i.attr.generation;
	o.size_bytes = i.attr.size_bytes;
	t.from = FILE_CLOSED, t.to = FILE_SETTLED;
	(void)text_copy(o.key, key, sizeof(o.key));
	if (store_state_set(c->r->s, &t) < 0)
		return;
	if (store_version_digested(c->r->s, ino, t.generation, crcs, i.chunk_count, FILE_QUEUED, "") < 0)
		return;
	a = (struct store_attempt){.ino = ino, .generation = t.generation, .kind = ATTEMPT_PUT,
		.phase = ATTEMPT_OPEN};
	(void)text_copy(a.key, key, sizeof(a.key));
	if (store_attempt_begin(c->r->s, &a, FILE_QUEUED) < 0)
		return;
	t.from = FILE_SENDING, t.to = FILE_UPLOADED;
	must_eq(store_attempt_end(c->r->s, a.id, &t, &o, key, 0, &applied), 0);
}

static void crowd_step(struct crowd *c)
{
	char name[16], other[16];
	struct store_create make = {
		.parent = STORE_ROOT_INO, .name = name, .type = STORE_FILE, .mode = 0644};
	struct store_attr attr;
	uint64_t roll = rig_random(&c->seed) % 20;

	snprintf(name, sizeof(name), "f%u", (unsigned)(rig_random(&c->seed) % CROWD_FILES));
	snprintf(other, sizeof(other), "f%u", (unsigned)(rig_random(&c->seed) % CROWD_FILES));
	if (store_lookup(c->r->s, STORE_ROOT_INO, name, &attr) < 0) {
		must(is_fair(store_create(c->r->s, &make, &attr)));
		return;
	}
	if (roll < 8)
		crowd_write(c, attr.ino);
	else if (roll < 14)
		crowd_send(c, attr.ino, name);
	else if (roll < 16)
		must(is_fair(store_rename(c->r->s, STORE_ROOT_INO, name, STORE_ROOT_INO, other, 0, 0)));
	else if (roll < 18)
		must(is_fair(store_unlink(c->r->s, STORE_ROOT_INO, name, 0)));
	else if (roll == 18)
		must_eq(store_evict(c->r->s, 10000), 0);
	else
		must_eq(store_flush_all(c->r->s), 0);
}

static void *crowd_work(void *arg)
{
	struct crowd *c = arg;

	for (int i = 0; i < WORKER_STEPS; i++)
		crowd_step(c);
	return NULL;
}

static void *crowd_look(void *arg)
{
	struct crowd *c = arg;
	struct store_entry *page = calloc(4, sizeof(*page));
	struct store_counts counts;
	struct store_space space;
	uint64_t chunk;

	while (!atomic_load(c->stop)) {
		char data[100];
		struct store_file *f;

		must(store_readdir(c->r->s, STORE_ROOT_INO, "", page, 4) >= 0);
		must_eq(store_counts(c->r->s, STORE_ROOT_INO, &counts), 0);
		store_space(c->r->s, &space);
		if (page[0].attr.ino && store_file_open(c->r->s, page[0].attr.ino, &f) == 0) {
			must(is_fair((int)store_file_read(f, data, sizeof(data), 50, &chunk)));
			store_file_close(f);
		}
	}
	free(page);
	return NULL;
}

static void crowd_keeps_the_books(void **state)
{
	struct rig *r = *state;
	uint64_t seed = rig_seed();
	pthread_t threads[WORKERS], watcher;
	_Atomic bool stop = false;
	struct crowd c[WORKERS + 1];
	struct store_space space;

	must_eq(store_start(r->s), 0);
	for (unsigned i = 0; i <= WORKERS; i++)
		c[i] = (struct crowd){.r = r, .seed = seed + i, .number = i + 1, .stop = &stop};
	must_eq(pthread_create(&watcher, NULL, crowd_look, &c[WORKERS]), 0);
	for (unsigned i = 0; i < WORKERS; i++)
		must_eq(pthread_create(&threads[i], NULL, crowd_work, &c[i]), 0);
	for (unsigned i = 0; i < WORKERS; i++)
		must_eq(pthread_join(threads[i], NULL), 0);
	stop = true;
	must_eq(pthread_join(watcher, NULL), 0);
	rig_must_count(r, STORE_ROOT_INO);
	rig_reopen(r);
	rig_must_count(r, STORE_ROOT_INO);
	store_space(r->s, &space);
	must(space.used_bytes <= (uint64_t)rig_data_files(r) * 64 * P);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(truncate_waits_for_writes),
		rig_test(flush_waits_for_writes),
		rig_test(truncate_waits_for_what_is_fetched),
		rig_test(reader_beside_an_append),
		rig_test(appends_do_not_mix),
		rig_test(crowd_keeps_the_books),
	};

	return cmocka_run_group_tests_name("store threads", tests, NULL, NULL);
}
