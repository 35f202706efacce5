/*
 * Data files that the kernel writes by itself: the programs it does that for are played by
 * descriptors of the data file that the store knows nothing of.
 */
#include "store_private.h"
#include "store_rig.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/time.h>

#define P RIG_PART_BYTES
#define DEADLINE_MS 60000

static void data_name(struct rig *r, uint64_t ino, char out[256])
{
	snprintf(out, 256, "%s/data/%02x/%016" PRIx64, r->dir, (unsigned)(ino & 0xff), ino);
}

/* What the kernel opens for a program. */
static int program(struct rig *r, uint64_t ino)
{
	char path[256];
	int fd;

	data_name(r, ino, path);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	must(fd >= 0);
	return fd;
}

static void put(int fd, const char *text)
{
	must_eq(write(fd, text, strlen(text)), strlen(text));
}

static int lend(struct store_file *f)
{
	int fd = -1, e = store_file_lend(f, &fd);

	if (fd >= 0)
		close(fd);
	return e;
}

/* A new file, lent. */
static uint64_t lend_new(struct rig *r, const char *name, struct store_file **ret)
{
	uint64_t ino = rig_create(r, STORE_ROOT_INO, name, STORE_FILE);

	*ret = rig_write_begin(r, ino);
	must_eq(lend(*ret), 0);
	return ino;
}

static void program_ends(struct store_file *f)
{
	store_file_take_back(f, true);
	store_file_writer_drop(f);
	store_file_close(f);
}

static void must_text_of(struct rig *r, uint64_t ino, const char *want)
{
	struct store_file *f = rig_file(r, ino);

	must_eq(rig_attr(r, ino).size_bytes, strlen(want));
	rig_must_read(f, 0, want, strlen(want));
	store_file_close(f);
}

static int settle(struct rig *r, uint64_t ino)
{
	struct store_attr a = rig_attr(r, ino);
	struct store_transition t = {
		.ino = ino, .generation = a.generation, .from = a.state, .to = FILE_SETTLED};

	return store_state_set(r->s, &t);
}

static int accept_it(struct rig *r, uint64_t ino)
{
	struct store_transition t = {.ino = ino,
		.generation = rig_attr(r, ino).generation,
		.from = FILE_INCOMPLETE,
		.to = FILE_CLOSED,
		.reason = ""};

	return store_state_set(r->s, &t);
}

static uint32_t flags(struct rig *r, uint64_t ino)
{
	return rig_attr(r, ino).flags & (STORE_FLAG_LENT | STORE_FLAG_STRANDED);
}

static int setup(void **state)
{
	int e = rig_setup(state);
	struct rig *r = *state;

	r->config.lend_room_bytes = MIB;
	rig_reopen(r);
	return e;
}

static void need_leases(struct rig *r)
{
	int e = store_lend_possible(r->s);

	if (e == 0)
		return;
	print_message("skipped: the disk under %s tells no leases: %s\n", r->dir, strerror(-e));
	skip();
}

static void need_leases_closed(struct rig *r)
{
	need_leases(r);
	rig_close(r);
}

/* ---- while it is lent ---- */

static void what_comes_is_seen(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	struct store_space space;
	uint64_t ino, chunk = 0;
	int w;

	need_leases(r);
	ino = lend_new(r, "f", &f);
	w = program(r, ino);
	must_eq(store_file_look(f), 0);
	put(w, "hello");
	must_eq(rig_attr(r, ino).size_bytes, 5);
	must(rig_attr(r, ino).mtime_ns > T0_NS);
	rig_must_read(f, 0, "hello", 5);
	must_eq(store_file_look(f), 1);
	must_eq(store_file_look(f), 0);
	store_space(r->s, &space);
	must_eq(space.growing_bytes, 5);
	/* another handle writes at the end, as the file is now */
	put(w, " world");
	must_eq(store_file_write(f, "!", 1, 0, true, &chunk), 0);
	rig_must_read(f, 0, "hello world!", 12);
	must_eq(store_file_seek(f, 0, SEEK_HOLE), 12);
	must_eq(store_file_truncate(f, 5, &chunk), 0);
	must_eq(rig_attr(r, ino).size_bytes, 5);
	must_eq(store_file_flush(f, false, NULL), 0);
	store_space(r->s, &space);
	must_eq(space.growing_bytes, 0);
	close(w);
	program_ends(f);
	must_text_of(r, ino, "hello");
	must_eq(settle(r, ino), 0);
}

/* The time that a program sets is not that of what it wrote before. */
static void times_that_are_set_stay(void **state)
{
	struct rig *r = *state;
	struct store_attr a = {.mtime_ns = 987654321 * NS_PER_S + 123456789};
	struct store_file *f;
	uint64_t ino;
	int w;

	need_leases(r);
	ino = lend_new(r, "f", &f);
	w = program(r, ino);
	put(w, "hello");
	must_eq(store_setattr(r->s, ino, STORE_SET_MTIME, &a, &a), 0);
	must_eq(a.mtime_ns, 987654321 * NS_PER_S + 123456789);
	must_eq(store_file_flush(f, false, NULL), 0);
	must_eq(rig_attr(r, ino).mtime_ns, 987654321 * NS_PER_S + 123456789);
	a.mtime_ns = 5 * NS_PER_S;
	must_eq(store_setattr(r->s, ino, STORE_SET_MTIME, &a, &a), 0);
	must_eq(store_file_look(f), 1); /* of before the flush, by the handle it was lent to */
	must_eq(store_file_look(f), 0);
	put(w, "!");
	must(rig_attr(r, ino).mtime_ns > T0_NS);
	must_eq(store_setattr(r->s, ino, STORE_SET_MTIME, &a, &a), 0);
	close(w);
	must_eq(store_file_flush(f, false, NULL), 0);
	program_ends(f);
	must_eq(rig_attr(r, ino).mtime_ns, 5 * NS_PER_S);
	must_text_of(r, ino, "hello!");
}

/* Its close says nothing as long as it may change. */
static void nothing_goes_on_while_it_is_lent(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	uint64_t ino, generation;
	int w;

	need_leases(r);
	ino = lend_new(r, "f", &f);
	w = program(r, ino);
	put(w, "one");
	must_eq(store_file_flush(f, false, NULL), 0);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must_eq(flags(r, ino), STORE_FLAG_LENT);
	must(store_has_writers(r->s, ino));
	must_eq(settle(r, ino), -ESTALE);
	generation = rig_attr(r, ino).generation;
	put(w, "two");
	must_eq(rig_attr(r, ino).size_bytes, 6);
	must_eq(rig_attr(r, ino).generation, generation);
	close(w);
	must_eq(store_file_look(f), 1); /* that of before the flush counts, too */
	must_state(rig_state(r, ino), FILE_OPEN);
	must_eq(rig_attr(r, ino).generation, generation + 1);
	must_eq(store_file_flush(f, false, NULL), 0);
	must_eq(store_file_look(f), 0);
	program_ends(f);
	must_eq(settle(r, ino), 0);
	must_eq(flags(r, ino), 0);
	must_text_of(r, ino, "onetwo");
}

/* What nobody's close told of is a version of its own. */
static void the_last_look_counts(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	uint64_t ino, generation;
	int w;

	need_leases(r);
	ino = lend_new(r, "f", &f);
	w = program(r, ino);
	put(w, "one");
	must_eq(store_file_flush(f, false, NULL), 0);
	generation = rig_attr(r, ino).generation;
	put(w, "two");
	close(w);
	program_ends(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must_eq(rig_attr(r, ino).generation, generation + 1);
	must_text_of(r, ino, "onetwo");
}

static void not_everything_is_lent(void **state)
{
	struct rig *r = *state;
	struct store_file *f, *g;
	uint64_t chunk = 0, ino;

	need_leases(r);
	f = rig_write_begin(r, rig_create(r, STORE_ROOT_INO, "written", STORE_FILE));
	rig_write_pattern(f, 0, 10, 1);
	must_eq(lend(f), -EAGAIN);
	must_eq(store_file_truncate(f, 0, &chunk), 0);
	must_eq(lend(f), 0);
	must_eq(lend(f), -EAGAIN);
	must_eq(store_file_flush(f, false, NULL), 0);
	program_ends(f);
	ino = rig_put(r, STORE_ROOT_INO, "closed", 0, 1);
	f = rig_write_begin(r, ino);
	must_eq(lend(f), -EAGAIN);
	g = rig_file(r, ino);
	must_eq(store_file_truncate(f, 0, &chunk), 0);
	must_eq(lend(f), -EAGAIN); /* somebody else has it */
	store_file_close(g);
	must_eq(lend(f), 0);
	program_ends(f);
	r->config.lend_room_bytes = 1000000 * TIB;
	rig_reopen(r);
	f = rig_write_begin(r, rig_create(r, STORE_ROOT_INO, "no room", STORE_FILE));
	must_eq(lend(f), -EAGAIN);
	rig_write_end(f);
	r->config.durability_close = true;
	rig_reopen(r);
	must_eq(store_lend_possible(r->s), -EINVAL);
}

static void too_large(void **state)
{
	struct rig *r = *state;
	uint64_t limit = chunk_start(P, STORE_CHUNKS_MAX), ino;
	struct store_file *f;
	int w;

	need_leases(r);
	ino = lend_new(r, "f", &f);
	w = program(r, ino);
	must_eq(ftruncate(w, (off_t)limit + 1), 0);
	close(w);
	must_eq(store_file_flush(f, false, NULL), -EFBIG);
	program_ends(f);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
	must_text(rig_inode(r, ino)->reason, "it is larger than S3 takes");
	must_eq(rig_attr(r, ino).size_bytes, limit);
}

/* The program was told, and may not care. */
static void disk_was_full(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	uint64_t ino;
	int w;

	need_leases(r);
	ino = lend_new(r, "f", &f);
	w = program(r, ino);
	put(w, "one");
	must_eq(store_file_flush(f, false, NULL), 0);
	put(w, "two");
	r->s->lend_room_bytes = UINT64_MAX; /* no disk has so much */
	must_eq(store_file_look(f), 1);
	r->s->lend_room_bytes = MIB;
	must_eq(store_file_flush(f, false, NULL), -ENOSPC);
	close(w);
	program_ends(f);
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
	must_text(rig_inode(r, ino)->reason, "the cache's disk was full while it was written");
	must_eq(accept_it(r, ino), 0);
}

/* ---- what outlives the last handle ---- */

static bool has_no_writers(struct rig *r, uint64_t ino)
{
	int64_t end_ms = clock_mono_ms() + DEADLINE_MS;

	while (store_has_writers(r->s, ino) && clock_mono_ms() < end_ms)
		(void)poll(NULL, 0, 10);
	return !store_has_writers(r->s, ino);
}

/* Mapped for writing: it goes on changing, and nothing shows when. */
static void what_is_mapped_is_waited_for(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	uint64_t ino, generation;
	int w;

	need_leases(r);
	must_eq(store_start(r->s), 0);
	ino = lend_new(r, "f", &f);
	w = program(r, ino);
	put(w, "one");
	store_file_share(f, true);
	must_eq(store_file_flush(f, false, NULL), 0);
	must_eq(store_file_sync(f, false), 0); /* a look that nobody's close follows */
	generation = rig_attr(r, ino).generation;
	program_ends(f);
	must(store_has_writers(r->s, ino));
	must_state(rig_state(r, ino), FILE_OPEN);
	must_eq(pwrite(w, "ONE", 3, 0), 3);
	close(w);
	must(has_no_writers(r, ino));
	must(rig_attr(r, ino).generation >= generation);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must_text_of(r, ino, "ONE");
	must_eq(settle(r, ino), 0);
	store_stop(r->s);
}

/* The mount is gone, and nobody tells how its programs end. */
static void mount_is_gone(void **state)
{
	struct rig *r = *state;
	struct store_file *f, *g;
	uint64_t changed, same;
	int w;

	need_leases(r);
	must_eq(store_start(r->s), 0);
	changed = lend_new(r, "changed", &f);
	same = lend_new(r, "same", &g);
	w = program(r, changed);
	put(w, "one");
	must_eq(store_file_flush(f, false, NULL), 0);
	must_eq(store_file_flush(g, false, NULL), 0);
	store_file_take_back(f, false);
	store_file_writer_drop(f);
	store_file_close(f);
	store_file_take_back(g, false);
	store_file_writer_drop(g);
	store_file_close(g);
	must(has_no_writers(r, same));
	must_state(rig_state(r, same), FILE_CLOSED);
	must_eq(settle(r, same), 0);
	must(store_has_writers(r->s, changed));
	put(w, "two");
	close(w);
	must(has_no_writers(r, changed));
	must_state(rig_state(r, changed), FILE_INCOMPLETE);
	must_text(rig_inode(r, changed)->reason, "nobody saw how its writer ended");
	must_text_of(r, changed, "onetwo");
	must_eq(accept_it(r, changed), 0);
	store_stop(r->s);
}

/* The kernel sends one to whoever tries a lease on what somebody opens just then; it would end us. The
 * first test here: nothing else has looked yet. */
static void no_signal_ends_us(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100 * P, 1);
	uint8_t last[P];
	struct store_file *f;
	struct sigaction now;

	rig_bring(r, ino, FILE_VERIFIED);
	f = rig_file(r, ino);
	rig_pattern(last, P, 99 * P, 1);
	rig_must_read(f, 99 * P, last, P);
	must_eq(store_evict(r->s, 10 * P), 0);
	must_eq(sigaction(SIGIO, NULL, &now), 0);
	must(now.sa_handler == SIG_IGN);
	store_file_close(f);
}

/* Who maps it would read holes as zeros. */
static void nothing_is_punched_under_others(void **state)
{
	struct rig *r = *state;
	struct store_space space;
	struct store_file *f;
	uint64_t ino, used;
	char path[256];
	uint8_t last[P];
	int other;

	need_leases(r);
	ino = rig_put(r, STORE_ROOT_INO, "f", 100 * P, 1);
	rig_bring(r, ino, FILE_VERIFIED);
	f = rig_file(r, ino);
	rig_pattern(last, P, 99 * P, 1);
	rig_must_read(f, 99 * P, last, P);
	data_name(r, ino, path);
	other = open(path, O_RDONLY | O_CLOEXEC);
	must(other >= 0);
	store_space(r->s, &space);
	used = space.used_bytes;
	must_eq(store_evict(r->s, 10 * P), 0);
	store_space(r->s, &space);
	must_eq(space.used_bytes, used);
	close(other);
	must_eq(store_evict(r->s, 10 * P), 0);
	store_space(r->s, &space);
	must(space.used_bytes < used);
	store_file_close(f);
}

/* ---- when the daemon was killed ---- */

struct shared {
	uint64_t open, closed, plain;
};

/* Two that are lent, one of them closed, and one that never was. */
static void work_lent(struct rig *r, void *arg)
{
	struct shared *s = arg;
	struct store_file *f;
	int w;

	s->plain = rig_put(r, STORE_ROOT_INO, "plain", 100, 1);
	s->open = lend_new(r, "open", &f);
	w = program(r, s->open);
	put(w, "open");
	close(w);
	s->closed = lend_new(r, "closed", &f);
	w = program(r, s->closed);
	put(w, "closed");
	close(w);
	must_eq(store_file_flush(f, false, NULL), 0);
}

static struct shared *killed(struct rig *r)
{
	struct shared *s = rig_shared(sizeof(*s));

	need_leases_closed(r);
	rig_child(r, work_lent, s, CHILD_KILLED);
	return s;
}

static void nobody_is_left(void **state)
{
	struct rig *r = *state;
	struct shared *s = killed(r);

	rig_open(r);
	must_state(rig_state(r, s->open), FILE_INCOMPLETE);
	must_eq(flags(r, s->open), 0);
	must_text_of(r, s->open, "open");
	must_state(rig_state(r, s->closed), FILE_CLOSED);
	must_text_of(r, s->closed, "closed");
	must_state(rig_state(r, s->plain), FILE_CLOSED);
	must_eq(settle(r, s->closed), 0);
	must_eq(accept_it(r, s->open), 0);
}

static void strangers_go_on(void **state)
{
	struct rig *r = *state;
	struct shared *s = killed(r);
	int w[2] = {program(r, s->open), program(r, s->closed)};
	uint64_t inos[2] = {s->open, s->closed}, chunk = 0;
	const char *texts[2] = {"openAB", "closedAB"};

	for (int i = 0; i < 2; i++)
		must(lseek(w[i], 0, SEEK_END) > 0);
	for (unsigned round = 0; round < 2; round++) {
		rig_open(r); /* and again: they are still there */
		must_state(rig_state(r, s->plain), FILE_CLOSED);
		for (int i = 0; i < 2; i++) {
			struct store_file *f = rig_write_begin(r, inos[i]);

			must_state(rig_state(r, inos[i]), FILE_INCOMPLETE);
			must_eq(flags(r, inos[i]), STORE_FLAG_STRANDED);
			must_eq(accept_it(r, inos[i]), -ETXTBSY);
			rig_must_read(f, 0, texts[i], 4);
			must_eq(store_file_write(f, "x", 1, 0, false, &chunk), -ETXTBSY);
			must_eq(store_file_truncate(f, 2, &chunk), -ETXTBSY);
			must_eq(store_file_fallocate(f, 0, 0, 1000, &chunk), -ETXTBSY);
			must_eq(lend(f), -EAGAIN);
			must_eq(store_file_flush(f, false, NULL), 0);
			store_file_writer_drop(f);
			store_file_close(f);
			must_state(rig_state(r, inos[i]), FILE_INCOMPLETE);
			put(w[i], round ? "B" : "A");
		}
		rig_close(r);
	}
	rig_open(r);
	for (int i = 0; i < 2; i++) {
		struct store_file *f = rig_file(r, inos[i]);

		must_eq(accept_it(r, inos[i]), -ETXTBSY);
		rig_must_read(f, 0, texts[i], 4); /* its descriptor is used by readers meanwhile */
		close(w[i]);
		must_eq(accept_it(r, inos[i]), 0);
		must_eq(flags(r, inos[i]), 0);
		must_text_of(r, inos[i], texts[i]);
		rig_write_at(f, "X", 1, 0);
		must_eq(store_file_flush(f, false, NULL), 0);
		store_file_close(f);
		must_eq(settle(r, inos[i]), 0);
	}
}

/* What replaces it is not what they write into. */
static void emptied_under_a_stranger(void **state)
{
	struct rig *r = *state;
	struct shared *s = killed(r);
	int w = program(r, s->open);
	struct store_file *f;
	uint64_t chunk = 0;

	rig_open(r);
	f = rig_write_begin(r, s->open);
	rig_must_read(f, 0, "open", 4);
	must_eq(store_file_truncate(f, 0, &chunk), 0);
	must_eq(lend(f), 0);
	program_ends(f);
	put(w, "stranger");
	must_eq(rig_attr(r, s->open).size_bytes, 0);
	f = rig_write_begin(r, s->open);
	rig_write_at(f, "new", 3, 0);
	rig_write_end(f);
	must_eq(flags(r, s->open), 0);
	must_text_of(r, s->open, "new");
	rig_reopen(r);
	must_state(rig_state(r, s->open), FILE_CLOSED);
	must_text_of(r, s->open, "new");
	close(w);
}

static void changed_after_its_close(void **state)
{
	struct rig *r = *state;
	struct shared *s = killed(r);
	int w = program(r, s->closed);

	must_eq(pwrite(w, "C", 1, 0), 1); /* not even its size is another */
	close(w);
	rig_open(r);
	must_state(rig_state(r, s->closed), FILE_INCOMPLETE);
	must_eq(flags(r, s->closed), 0);
	must_text_of(r, s->closed, "Closed");
	must_state(rig_state(r, s->plain), FILE_CLOSED);
	rig_reopen(r);
	must_state(rig_state(r, s->closed), FILE_INCOMPLETE);
}

static void work_deleted(struct rig *r, void *arg)
{
	struct shared *s = arg;
	struct store_file *f;
	uint64_t chunk = 0, *inos[2] = {&s->open, &s->closed};

	for (int i = 0; i < 2; i++) {
		int w;

		*inos[i] = rig_put(r, STORE_ROOT_INO, i ? "closed" : "open", 100, 1);
		rig_bring(r, *inos[i], FILE_VERIFIED);
		f = rig_write_begin(r, *inos[i]);
		must_eq(store_file_truncate(f, 0, &chunk), 0);
		must_eq(lend(f), 0);
		w = program(r, *inos[i]);
		put(w, "new");
		close(w);
		if (i)
			must_eq(store_file_flush(f, false, NULL), 0);
		must_eq(store_unlink(r->s, STORE_ROOT_INO, i ? "closed" : "open", 600000), 0);
	}
}

static void undeleted_while_a_stranger_goes_on(void **state)
{
	struct rig *r = *state;
	struct shared *s = rig_shared(sizeof(*s));
	int w[2];

	need_leases_closed(r);
	rig_child(r, work_deleted, s, CHILD_KILLED);
	w[0] = program(r, s->open);
	w[1] = program(r, s->closed);
	rig_open(r);
	for (int i = 0; i < 2; i++) {
		uint64_t ino = i ? s->closed : s->open;

		must_eq(store_undelete(r->s, ino, NULL), 0);
		must_state(rig_state(r, ino), FILE_INCOMPLETE);
		must_eq(accept_it(r, ino), -ETXTBSY);
		close(w[i]);
		must_eq(accept_it(r, ino), 0);
	}
}

/* No program survives a reboot; but nothing of what was lent was said to be durable. */
static void work_flushed(struct rig *r, void *arg)
{
	struct shared *s = arg;
	struct store_file *f;
	int w;

	s->closed = lend_new(r, "closed", &f);
	w = program(r, s->closed);
	put(w, "closed");
	close(w);
	must_eq(store_file_sync(f, false), 0);
	must_eq(store_file_flush(f, false, NULL), 0);
	must_eq(store_flush_all(r->s), 0);
	must(!(rig_attr(r, s->closed).flags & STORE_FLAG_DURABLE));
	s->open = lend_new(r, "ended", &f);
	w = program(r, s->open);
	put(w, "open");
	close(w);
	must_eq(store_file_sync(f, false), 0);
	must_eq(store_file_flush(f, false, NULL), 0);
	program_ends(f);
	must_eq(store_flush_all(r->s), 0);
}

static void power_cut(void **state)
{
	struct rig *r = *state;
	struct shared *s = rig_shared(sizeof(*s));
	int w;

	need_leases_closed(r);
	rig_child(r, work_flushed, s, CHILD_KILLED);
	w = program(r, s->open); /* a backup's, of after the reboot */
	r->config.boot_id = "boot-2";
	rig_open(r);
	must_state(rig_state(r, s->closed), FILE_TORN);
	must_state(rig_state(r, s->open), FILE_CLOSED);
	must_eq(flags(r, s->closed) | flags(r, s->open), 0);
	must_text_of(r, s->open, "open");
	close(w);
}

/* Nothing is left of the index but what the files show. */
static void repaired_while_a_stranger_goes_on(void **state)
{
	struct rig *r = *state;
	struct shared *s = killed(r);
	int w = program(r, s->closed);
	struct store_repair_config config = {.dir = r->dir, .boot_id = "boot-1"};
	struct store_repair_report report;
	cleanup_free char *message = NULL;
	char path[256];

	snprintf(path, sizeof(path), "%s/index/data.mdb", r->dir);
	must_eq(unlink(path), 0);
	must_eq(store_repair(&config, &report, &message), 0);
	rig_open(r);
	must_state(rig_state(r, rig_find(r, "closed")), FILE_INCOMPLETE);
	must_state(rig_state(r, rig_find(r, "open")), FILE_INCOMPLETE);
	must_state(rig_state(r, rig_find(r, "plain")), FILE_TORN); /* as without a stranger */
	must_eq(accept_it(r, rig_find(r, "closed")), -ETXTBSY);
	must_eq(accept_it(r, rig_find(r, "open")), 0);
	close(w);
	must_eq(accept_it(r, rig_find(r, "closed")), 0);
}

#define rig_test_lent(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test_lent(no_signal_ends_us),
		rig_test_lent(what_comes_is_seen),
		rig_test_lent(times_that_are_set_stay),
		rig_test_lent(nothing_goes_on_while_it_is_lent),
		rig_test_lent(the_last_look_counts),
		rig_test_lent(not_everything_is_lent),
		rig_test_lent(too_large),
		rig_test_lent(disk_was_full),
		rig_test_lent(what_is_mapped_is_waited_for),
		rig_test_lent(mount_is_gone),
		rig_test_lent(nothing_is_punched_under_others),
		rig_test_lent(nobody_is_left),
		rig_test_lent(strangers_go_on),
		rig_test_lent(emptied_under_a_stranger),
		rig_test_lent(changed_after_its_close),
		rig_test_lent(undeleted_while_a_stranger_goes_on),
		rig_test_lent(power_cut),
		rig_test_lent(repaired_while_a_stranger_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
