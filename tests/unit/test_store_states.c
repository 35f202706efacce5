/*
 * States of a version: the table of transitions, and calls that name a generation that has passed.
 */
#include "store_rig.h"

/* ---- the table ------------------------------------------------------------------------------------------ */

/*
 * Every pair, one letter each:
 *   n none   o open   c closed   s settled   q queued   > sending   u uploaded   v verified
 *   h held   i incomplete   t torn   l lost   ? unknown   x conflict   f failed   g gone
 *   m moving   d deleting
 * Whatever may be sent or was sent can be changed (o), deleted (d) or found lost (l). What waits can
 * be found torn after a power cut; what the bucket holds cannot (its chunks are dropped).
 * What needs a person goes on only through c, s or q. A state follows itself (another reason).
 */
static const char letters[] = "nocsq>uvhitl?xfgmd";

static const enum file_state states[] = {FILE_NONE, FILE_OPEN, FILE_CLOSED, FILE_SETTLED, FILE_QUEUED,
	FILE_SENDING, FILE_UPLOADED, FILE_VERIFIED, FILE_HELD, FILE_INCOMPLETE, FILE_TORN, FILE_LOST,
	FILE_UNKNOWN, FILE_CONFLICT, FILE_FAILED, FILE_GONE, FILE_MOVING, FILE_DELETING};

static const char *const matrix[] = {
	/* none       */ "noc..............d",
	/* open       */ ".oc......itl.....d",
	/* closed     */ ".ocs....hitl..f.md",
	/* settled    */ ".ocsq.u.hitl.xf.md",
	/* queued     */ ".ocsq>u.hitl?xf..d",
	/* sending    */ ".ocsq>u.h.tl?xf.md",
	/* uploaded   */ ".ocsq.uv...l.xfgmd",
	/* verified   */ ".oc...uv...l.x.gmd",
	/* held       */ ".ocsq...hitl.....d",
	/* incomplete */ ".ocsq....i.l.....d",
	/* torn       */ ".ocsq.....tl.....d",
	/* lost       */ ".oc........l.....d",
	/* unknown    */ ".ocsq>u.h.tl?xf.md",
	/* conflict   */ ".ocsq>u.h.tl.x...d",
	/* failed     */ ".ocsq.u.hitl.xf.md",
	/* gone       */ ".oc...uv..tl...gmd",
	/* moving     */ ".ocsq>uvh..l?xfgmd",
	/* deleting   */ ".oc...uvhitl.xfgmd",
};

static void every_pair(void **state)
{
	unsigned differ = 0;

	must_eq(array_len(states), FILE_STATE_COUNT);
	must_eq(array_len(matrix), FILE_STATE_COUNT);
	for (size_t i = 0; i < array_len(states); i++) {
		must_eq(strlen(matrix[i]), FILE_STATE_COUNT);
		for (size_t k = 0; k < array_len(states); k++) {
			bool want = matrix[i][k] != '.';

			must(!want || matrix[i][k] == letters[k]);
			if (file_state_may_follow(states[i], states[k]) == want)
				continue;
			print_error("%s -> %s must %sbe allowed\n", file_state_text(states[i]),
				file_state_text(states[k]), want ? "" : "not ");
			differ++;
		}
	}
	must_eq(differ, 0);
}

static void names_and_exits(void **state)
{
	enum file_state got;

	for (size_t i = 1; i < array_len(states); i++) {
		must_eq(file_state_parse(file_state_text(states[i]), &got), 0);
		must_state(got, states[i]);
		must(file_state_what(states[i])[0] != '\0');
		if (file_state_exit(states[i]) == 3)
			must(file_state_remedy(states[i])[0] != '\0');
	}
	must_eq(file_state_parse("done", &got), -EINVAL);
	must_eq(file_state_parse("", &got), -EINVAL);
	must_text(file_state_text(FILE_UPLOADED), "uploaded");
	must_eq(file_state_exit(FILE_VERIFIED), 0);
	must_eq(file_state_exit(FILE_DELETING), 0);
	must_eq(file_state_exit(FILE_GONE), 0);
	must_eq(file_state_exit(FILE_UPLOADED), 2);
	must_eq(file_state_exit(FILE_MOVING), 2);
	must_eq(file_state_exit(FILE_TORN), 3);
}

/* ---- changes of state --------------------------------------------------------------------------------- */

static void change_carries_reason_due_and_attempts(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	struct store_transition t;
	struct store_inode i;

	rig_bring(r, ino, FILE_QUEUED);
	t = rig_transition(r, ino, FILE_QUEUED, FILE_FAILED);
	t.reason = "the server says no";
	t.due_at_ns = T0_NS + 5;
	t.count_attempt = true;
	must_eq(store_state_set(r->s, &t), 0);
	i = *rig_inode(r, ino);
	must_state(i.attr.state, FILE_FAILED);
	must_text(i.reason, "the server says no");
	must_eq(i.due_at_ns, T0_NS + 5);
	must_eq(i.attempts, 1);
	t.from = FILE_FAILED;
	t.reason = NULL;
	must_eq(store_state_set(r->s, &t), 0);
	i = *rig_inode(r, ino);
	must_text(i.reason, "the server says no");
	must_eq(i.attempts, 2);
	rig_reopen(r);
	i = *rig_inode(r, ino);
	must_text(i.reason, "the server says no");
	must_eq(i.attempts, 2);
	t.to = FILE_CLOSED;
	t.reason = "";
	t.count_attempt = false;
	must_eq(store_state_set(r->s, &t), 0);
	i = *rig_inode(r, ino);
	must_text(i.reason, "");
	must_eq(i.attempts, 0);
}

static void held_carries_its_kind(void **state)
{
	static const enum held_kind kinds[] = {HELD_TEMPORARY, HELD_JUNK, HELD_NAME};
	struct rig *r = *state;
	struct store_counts c;

	for (size_t i = 0; i < array_len(kinds); i++) {
		char name[8];
		uint64_t ino;
		struct store_transition t;

		snprintf(name, sizeof(name), "f%zu", i);
		ino = rig_put(r, STORE_ROOT_INO, name, 10, 1);
		t = rig_transition(r, ino, FILE_CLOSED, FILE_HELD);
		t.held = kinds[i];
		must_eq(store_state_set(r->s, &t), 0);
		must_eq(rig_inode(r, ino)->held, kinds[i]);
		must_eq(store_counts(r->s, STORE_ROOT_INO, &c), 0);
		must_eq(c.held[kinds[i]], 1);
		must_eq(c.files[FILE_HELD], i + 1);
	}
	must_eq(rig_step(r, rig_find(r, "f1"), FILE_HELD, FILE_CLOSED, ""), 0);
	must_eq(rig_inode(r, rig_find(r, "f1"))->held, HELD_NOT);
	must_eq(store_counts(r->s, STORE_ROOT_INO, &c), 0);
	must_eq(c.held[HELD_JUNK], 0);
	must_eq(c.held[HELD_NAME], 1);
	must_eq(c.files[FILE_HELD], 2);
}

static void stale_is_refused(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	struct store_transition t = rig_transition(r, ino, FILE_CLOSED, FILE_SETTLED);

	t.generation++;
	must_eq(store_state_set(r->s, &t), -ESTALE);
	t.generation -= 2;
	must_eq(store_state_set(r->s, &t), -ESTALE);
	t.generation++;
	t.from = FILE_SETTLED;
	t.to = FILE_QUEUED;
	must_eq(store_state_set(r->s, &t), -ESTALE);
	must_state(rig_state(r, ino), FILE_CLOSED);
	t.ino = 4711;
	must(store_state_set(r->s, &t) < 0);
}

static void a_change_makes_older_work_stale(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1), g0 = rig_attr(r, ino).generation;
	cleanup_free uint64_t *crcs = NULL;
	struct store_transition t;
	struct store_object o;
	uint64_t whole;
	struct store_file *f;
	int fd;

	rig_bring(r, ino, FILE_SETTLED);
	must_eq(rig_crcs(r, ino, &whole, &crcs), 1);
	t = rig_transition(r, ino, FILE_CLOSED, FILE_SETTLED);
	o = rig_object(r, ino, "f");
	must(store_version_is(r->s, ino, g0));
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, 100, 2);
	rig_write_end(f);
	must(!store_version_is(r->s, ino, g0));
	must(store_version_is(r->s, ino, g0 + 1));
	must(!store_version_is(r->s, 4711, 1));
	must_eq(store_version_digested(r->s, ino, g0, crcs, 1, FILE_QUEUED, ""), -ESTALE);
	must_eq(store_version_open(r->s, ino, g0, &fd), -ESTALE);
	must_eq(store_state_set(r->s, &t), -ESTALE);
	must_eq(store_object_set(r->s, &t, &o, false), -ESTALE);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must_text(rig_inode(r, ino)->object.key, "");
}

/* ---- digests --------------------------------------------------------------------------------------------- */

static void digested_only_from_settled(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 2 * RIG_PART_BYTES, 1);

	must_eq(rig_digest(r, ino, FILE_QUEUED), -ESTALE);
	rig_bring(r, ino, FILE_SETTLED);
	must_eq(rig_digest(r, ino, FILE_QUEUED), 0);
	must_state(rig_state(r, ino), FILE_QUEUED);
	rig_reopen(r);
	must_state(rig_state(r, ino), FILE_QUEUED);
}

static void digested_empty_file(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 0, 1);

	rig_bring(r, ino, FILE_QUEUED);
	must_eq(rig_inode(r, ino)->chunk_count, 0);
	rig_upload_as(r, ino, "f");
	must(rig_attr(r, ino).in_bucket);
}

/* Unchanged content is never sent again: a rewritten file goes straight to uploaded. */
static void digested_and_already_in_the_bucket(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	struct store_file *f;

	rig_bring(r, ino, FILE_VERIFIED);
	must(rig_attr(r, ino).in_bucket);
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, 100, 1);
	rig_write_end(f);
	must(!rig_attr(r, ino).in_bucket);
	rig_bring(r, ino, FILE_SETTLED);
	must_eq(rig_digest(r, ino, FILE_UPLOADED), 0);
	must_state(rig_state(r, ino), FILE_UPLOADED);
	must(rig_attr(r, ino).in_bucket);
	must_eq(rig_inode(r, ino)->object.generation, rig_attr(r, ino).generation);
}

/* ---- a version's bytes ------------------------------------------------------------------------------------ */

static void version_open_gives_its_own_descriptor(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	uint8_t want[100], got[200];
	int fd;

	must_eq(store_version_open(r->s, ino, rig_attr(r, ino).generation, &fd), 0);
	rig_pattern(want, 100, 0, 1);
	must_eq(pread(fd, got, sizeof(got), 0), 100);
	must(memcmp(got, want, 100) == 0);
	must_eq(pwrite(fd, "x", 1, 0), -1);
	must_eq(close(fd), 0);
}

static void version_open_of_absent_chunks(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	int fd;

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_flush_all(r->s), 0);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	must_eq(store_version_open(r->s, ino, rig_attr(r, ino).generation, &fd), -EREMOTE);
}

static void vanished_bytes_are_lost(void **state)
{
	struct rig *r = *state;
	uint64_t gone = rig_put(r, STORE_ROOT_INO, "gone", 100, 1);
	uint64_t shorter = rig_put(r, STORE_ROOT_INO, "shorter", 100, 1);
	char path[4096];
	int fd;

	rig_data_path(r, gone, path);
	must_eq(unlink(path), 0);
	rig_data_path(r, shorter, path);
	must_eq(truncate(path, 99), 0);
	must_eq(store_version_open(r->s, gone, rig_attr(r, gone).generation, &fd), -ENODATA);
	must_eq(store_version_open(r->s, shorter, rig_attr(r, shorter).generation, &fd), -ENODATA);
	must_state(rig_state(r, gone), FILE_LOST);
	must_state(rig_state(r, shorter), FILE_LOST);
	must_eq(rig_files_in(r, FILE_LOST), 2);
	must(rig_inode(r, gone)->reason[0] != '\0');
}

/* ---- events ----------------------------------------------------------------------------------------------- */

static struct {
	unsigned changed, of_ino;
	uint64_t watch_ino;
	struct store_change last;
} heard;

static void on_changed(void *user, const struct store_change *change)
{
	must(user == &heard);
	lock_assert_none_held();
	heard.changed++;
	heard.last = *change;
	heard.of_ino += change->ino == heard.watch_ino;
}

static void events_tell_each_change_once(void **state)
{
	struct rig *r = *state;
	struct store_events events = {.user = &heard, .changed = on_changed};
	uint64_t d, ino;

	memset(&heard, 0, sizeof(heard));
	store_subscribe(r->s, &events);
	d = rig_dir(r, STORE_ROOT_INO, "d");
	ino = rig_put(r, d, "f", 10, 1);
	must_eq(heard.last.ino, ino);
	must_eq(heard.last.parent, d);
	must_state(heard.last.to, FILE_CLOSED);
	heard.changed = 0;
	must_eq(rig_step(r, ino, FILE_CLOSED, FILE_SETTLED, NULL), 0);
	must_eq(heard.changed, 1);
	must_state(heard.last.from, FILE_CLOSED);
	must_state(heard.last.to, FILE_SETTLED);
	must_eq(rig_step(r, ino, FILE_CLOSED, FILE_SETTLED, NULL), -ESTALE);
	must_eq(heard.changed, 1);
	must_eq(rig_digest(r, ino, FILE_QUEUED), 0);
	must_eq(heard.changed, 2);
	must_state(heard.last.to, FILE_QUEUED);
	heard.of_ino = 0;
	heard.watch_ino = ino;
	must_eq(store_unlink(r->s, d, "f", 0), 0);
	must(heard.of_ino > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_pair),
		cmocka_unit_test(names_and_exits),
		rig_test_clock(change_carries_reason_due_and_attempts),
		rig_test(held_carries_its_kind),
		rig_test(stale_is_refused),
		rig_test(a_change_makes_older_work_stale),
		rig_test(digested_only_from_settled),
		rig_test(digested_empty_file),
		rig_test(digested_and_already_in_the_bucket),
		rig_test(version_open_gives_its_own_descriptor),
		rig_test(version_open_of_absent_chunks),
		rig_test(vanished_bytes_are_lost),
		rig_test(events_tell_each_change_once),
	};

	return cmocka_run_group_tests_name("store states", tests, NULL, NULL);
}
