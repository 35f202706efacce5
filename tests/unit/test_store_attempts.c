/*
 * Attempts and objects: what is recorded before a request's first byte, and what its outcome applies
 * to; whose object a key is; deletes that wait, are taken back, or done.
 */
#include "store_rig.h"

#define P RIG_PART_BYTES

static int attempts(struct rig *r, struct store_attempt *out, size_t max)
{
	return store_attempts(r->s, 0, out, max);
}

static struct store_attempt begun(struct rig *r, uint64_t ino, enum attempt_kind kind, const char *key)
{
	struct store_attempt a = rig_attempt(r, ino, kind, key);

	must_eq(store_attempt_begin(r->s, &a,
			kind == ATTEMPT_PUT || kind == ATTEMPT_MULTIPART ? FILE_QUEUED : FILE_NONE),
		0);
	must(a.id != 0);
	return a;
}

static uint64_t queued(struct rig *r, const char *name, size_t len)
{
	uint64_t ino = rig_put(r, STORE_ROOT_INO, name, len, 1);

	rig_bring(r, ino, FILE_QUEUED);
	return ino;
}

/* ---- begin, update --------------------------------------------------------------------------------------- */

static void begin_is_recorded_before_a_crash(void **state)
{
	static struct store_attempt got[4];
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100);
	struct store_attempt a = rig_attempt(r, ino, ATTEMPT_PUT, "f");

	a.has_crc64nvme = true;
	a.crc64nvme = UINT64_C(0xfedcba9876543210);
	a.if_none_match = true;
	(void)text_copy(a.if_match, "abc", sizeof(a.if_match));
	must_eq(store_attempt_begin(r->s, &a, FILE_QUEUED), 0);
	must_state(rig_state(r, ino), FILE_SENDING);
	rig_reopen(r);
	must_state(rig_state(r, ino), FILE_SENDING);
	must_eq(attempts(r, got, 4), 1);
	must_eq(got[0].id, a.id);
	must_eq(got[0].ino, ino);
	must_eq(got[0].generation, a.generation);
	must_eq(got[0].kind, ATTEMPT_PUT);
	must_eq(got[0].phase, ATTEMPT_OPEN);
	must_text(got[0].key, "f");
	must_eq(got[0].size_bytes, 100);
	must(got[0].has_crc64nvme && got[0].crc64nvme == a.crc64nvme);
	must(got[0].if_none_match);
	must_text(got[0].if_match, "abc");
	must_eq(got[0].begun_at_ns, a.begun_at_ns);
	must(!got[0].has_md5);
}

static void begin_of_what_moved_on_is_refused(void **state)
{
	static struct store_attempt got[4];
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100);
	struct store_attempt a = rig_attempt(r, ino, ATTEMPT_PUT, "f");
	struct store_file *f;

	must_eq(store_attempt_begin(r->s, &a, FILE_UNKNOWN), -ESTALE);
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, 0, 10, 2);
	rig_write_end(f);
	must_eq(store_attempt_begin(r->s, &a, FILE_QUEUED), -ESTALE);
	must_eq(attempts(r, got, 4), 0);
	must_state(rig_state(r, ino), FILE_CLOSED);
	rig_bring(r, ino, FILE_QUEUED); /* queued again, but another version */
	must_eq(store_attempt_begin(r->s, &a, FILE_QUEUED), -ESTALE);
	must_eq(store_attempt_begin(r->s, &a, FILE_NONE), -ESTALE);
	must_eq(attempts(r, got, 4), 0);
}

static void update_keeps_what_was_learned(void **state)
{
	static struct store_attempt got[4];
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100);
	struct store_attempt a = begun(r, ino, ATTEMPT_MULTIPART, "f");

	(void)text_copy(a.upload_id, "upload-1", sizeof(a.upload_id));
	a.phase = ATTEMPT_COMPLETING;
	a.has_md5 = true;
	(void)text_copy(a.md5, "d41d8cd98f00b204e9800998ecf8427e", sizeof(a.md5));
	must_eq(store_attempt_update(r->s, &a), 0);
	rig_reopen(r);
	must_eq(attempts(r, got, 4), 1);
	must_text(got[0].upload_id, "upload-1");
	must_eq(got[0].phase, ATTEMPT_COMPLETING);
	must_text(got[0].md5, "d41d8cd98f00b204e9800998ecf8427e");
	a.id = 4711;
	must(store_attempt_update(r->s, &a) < 0);
}

static void attempts_of_a_key_oldest_first(void **state)
{
	static struct store_attempt got[4];
	struct rig *r = *state;
	uint64_t f = queued(r, "f", 100), g = queued(r, "g", 100);
	struct store_attempt a = begun(r, f, ATTEMPT_PUT, "k"), b = begun(r, g, ATTEMPT_PUT, "other");
	struct store_attempt c = begun(r, f, ATTEMPT_DELETE, "k");

	must_eq(store_attempts_of_key(r->s, "k", got, 4), 2);
	must_eq(got[0].id, a.id);
	must_eq(got[1].id, c.id);
	must_eq(store_attempts_of_key(r->s, "k", got, 1), 1);
	must_eq(got[0].id, a.id);
	must_eq(store_attempts_of_key(r->s, "none", got, 4), 0);
	must_eq(store_attempts(r->s, a.id, got, 4), 2);
	must_eq(got[0].id, b.id);
	must_eq(store_attempts(r->s, c.id, got, 4), 0);
}

static void part_is_voided_by_a_change(void **state)
{
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 3 * P);
	struct store_attempt a = begun(r, ino, ATTEMPT_MULTIPART, "f");
	struct store_chunk c;
	struct store_file *f;

	cleanup_free uint64_t *crcs = NULL;
	uint64_t whole;

	must_eq(rig_crcs(r, ino, &whole, &crcs), 3);
	must_eq(store_attempt_part(r->s, a.id, 0, crcs[0], "part-0"), 0);
	must_eq(store_attempt_part(r->s, a.id, 1, crcs[1], "part-1"), 0);
	must_eq(store_attempt_part(r->s, a.id, 2, crcs[2] + 1, "part-2"), -ESTALE);
	must_eq(store_chunk(r->s, ino, 1, &c), 0);
	must_eq(c.part_attempt, a.id);
	must_text(c.part_etag, "part-1");
	must(c.has_crc64nvme && c.crc64nvme == crcs[1]);
	f = rig_write_begin(r, ino);
	rig_write_pattern(f, P + 1, 1, 2);
	must_eq(store_chunk(r->s, ino, 1, &c), 0);
	must_eq(c.part_attempt, 0);
	must_text(c.part_etag, "");
	must(!c.has_crc64nvme);
	must_eq(store_chunk(r->s, ino, 0, &c), 0);
	must_eq(c.part_attempt, a.id);
	must_text(c.part_etag, "part-0");
	rig_write_end(f);
	must(store_attempt_part(r->s, 4711, 0, 1, "x") < 0);
}

/* ---- end ---------------------------------------------------------------------------------------------------- */

static void end_applies(void **state)
{
	static struct store_attempt got[4];
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100);
	struct store_attempt a = begun(r, ino, ATTEMPT_PUT, "f");
	struct store_object o = rig_object(r, ino, "f");
	struct store_transition t = rig_transition(r, ino, FILE_SENDING, FILE_UPLOADED);
	bool applied = false;

	must_eq(store_attempt_end(r->s, a.id, &t, &o, "f", 0, &applied), 0);
	must(applied);
	must_state(rig_state(r, ino), FILE_UPLOADED);
	must(rig_attr(r, ino).in_bucket);
	must_text(rig_inode(r, ino)->object.etag, o.etag);
	must_text(rig_inode(r, ino)->object.key, "f");
	must_eq(attempts(r, got, 4), 0);
	must_eq(rig_files_in(r, FILE_DELETING), 0);
	must(store_attempt_end(r->s, a.id, &t, &o, "f", 0, &applied) < 0);
}

static void end_without_an_object(void **state)
{
	static struct store_attempt got[4];
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100);
	struct store_attempt a = begun(r, ino, ATTEMPT_PUT, "f");
	struct store_transition t = rig_transition(r, ino, FILE_SENDING, FILE_FAILED);
	bool applied = false;

	t.reason = "refused";
	must_eq(store_attempt_end(r->s, a.id, &t, NULL, "f", 0, &applied), 0);
	must_state(rig_state(r, ino), FILE_FAILED);
	must_text(rig_inode(r, ino)->reason, "refused");
	must(!rig_attr(r, ino).in_bucket);
	must_eq(attempts(r, got, 4), 0);
	must_text(rig_inode(r, ino)->object.key, "");
}

/* The strays that are recorded: nameless DELETING inodes. */
static int strays_of(struct rig *r, const char *key, struct store_inode *first)
{
	static struct store_inode got[8];
	int n = store_inodes_of_key(r->s, key, got, 8), count = 0;

	must(n >= 0);
	for (int i = 0; i < n; i++) {
		if (got[i].attr.state != FILE_DELETING)
			continue;
		if (count++ == 0)
			*first = got[i];
	}
	return count;
}

static void end_of_an_older_version(void **state)
{
	static struct store_attempt got[4];
	static struct store_inode stray;
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100);
	struct store_attempt a = begun(r, ino, ATTEMPT_PUT, "f");
	struct store_object o = rig_object(r, ino, "f");
	struct store_transition t = rig_transition(r, ino, FILE_SENDING, FILE_UPLOADED);
	struct store_file *f = rig_write_begin(r, ino);
	bool applied = true;

	rig_write_pattern(f, 0, 10, 2);
	rig_write_end(f);
	must_eq(store_attempt_end(r->s, a.id, &t, &o, "f", 0, &applied), 0);
	must(!applied);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must(!rig_attr(r, ino).in_bucket);
	must_eq(attempts(r, got, 4), 0);
	/* ours: either this inode's older object, or a stray; in no case forgotten */
	must(strays_of(r, "f", &stray) == 1 || strcmp(rig_inode(r, ino)->object.etag, o.etag) == 0);
	rig_bring(r, ino, FILE_UPLOADED);
	must(store_key_is_ours(r->s, "f"));
	rig_must_count(r, STORE_ROOT_INO);
}

static void end_under_another_key(void **state)
{
	static struct store_inode stray;
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100);
	struct store_attempt a = begun(r, ino, ATTEMPT_PUT, "f");
	struct store_object o = rig_object(r, ino, "f");
	struct store_transition t = rig_transition(r, ino, FILE_SENDING, FILE_UPLOADED);
	bool applied = true;

	must_eq(store_rename(r->s, STORE_ROOT_INO, "f", STORE_ROOT_INO, "g", 0, 0), 0);
	must_state(rig_state(r, ino), FILE_SENDING);
	must_eq(store_attempt_end(r->s, a.id, &t, &o, "g", 0, &applied), 0);
	must(!applied);
	must(!rig_attr(r, ino).in_bucket);
	must_eq(strays_of(r, "f", &stray), 1);
	must(store_key_is_ours(r->s, "f"));
	must_state(rig_state(r, ino), FILE_QUEUED); /* no other record need follow for that */
	rig_reopen(r);
	must_state(rig_state(r, ino), FILE_QUEUED);
	rig_must_count(r, STORE_ROOT_INO);
}

/* Whoever looked at paths before a rename is told to look again; nothing has changed then. */
static void names_have_changed(void **state)
{
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100), names = store_names(r->s);
	struct store_attempt a = begun(r, ino, ATTEMPT_PUT, "f");
	struct store_object o = rig_object(r, ino, "f");
	struct store_transition t = rig_transition(r, ino, FILE_SENDING, FILE_UPLOADED);
	bool applied = true;

	(void)rig_dir(r, STORE_ROOT_INO, "other");
	must(names != 0);
	must_eq(store_rename(r->s, STORE_ROOT_INO, "other", STORE_ROOT_INO, "again", 0, 0), 0);
	must_eq(store_attempt_end(r->s, a.id, &t, &o, "f", names, &applied), -EAGAIN);
	must_state(rig_state(r, ino), FILE_SENDING);
	must_text(rig_inode(r, ino)->object.key, "");
	names = store_names(r->s);
	must_eq(store_attempt_end(r->s, a.id, &t, &o, "f", names, &applied), 0);
	must(applied);
	t = rig_transition(r, ino, FILE_UPLOADED, FILE_VERIFIED);
	t.names = names;
	must_eq(store_rename(r->s, STORE_ROOT_INO, "again", STORE_ROOT_INO, "other", 0, 0), 0);
	must_eq(store_object_set(r->s, &t, &o, false), -EAGAIN);
	must_eq(store_state_set(r->s, &t), -EAGAIN);
	must_state(rig_state(r, ino), FILE_UPLOADED);
	t.names = store_names(r->s);
	must_eq(store_state_set(r->s, &t), 0);
}

static void end_of_what_was_unlinked(void **state)
{
	static struct store_inode left;
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100);
	struct store_attempt a = begun(r, ino, ATTEMPT_PUT, "f");
	struct store_object o = rig_object(r, ino, "f");
	struct store_transition t = rig_transition(r, ino, FILE_SENDING, FILE_UPLOADED);
	bool applied = true;

	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 1000), 0);
	must_eq(rig_resolve_error(r, "f"), -ENOENT);
	must_state(rig_state(r, ino), FILE_DELETING); /* an attempt is under way */
	must_eq(store_attempt_end(r->s, a.id, &t, &o, "", 0, &applied), 0);
	must_eq(strays_of(r, "f", &left), 1);
	must_text(left.object.key, "f");
	must_text(left.object.etag, o.etag);
	must(store_key_is_ours(r->s, "f"));
	must_eq(rig_files_in(r, FILE_DELETING), 1);
	rig_reopen(r);
	must_eq(strays_of(r, "f", &left), 1);
}

/* Several requests of one inode: none forgets the other. */
static void ends_of_two_attempts(void **state)
{
	static struct store_attempt got[4];
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100);
	struct store_attempt a = begun(r, ino, ATTEMPT_PUT, "f"), b;
	struct store_object o = rig_object(r, ino, "f"), p;
	struct store_transition t = rig_transition(r, ino, FILE_SENDING, FILE_UPLOADED);
	struct store_file *f = rig_write_begin(r, ino);
	bool applied = true;

	rig_write_pattern(f, 0, 10, 2);
	rig_write_end(f);
	rig_bring(r, ino, FILE_QUEUED);
	b = begun(r, ino, ATTEMPT_PUT, "f");
	must_eq(attempts(r, got, 4), 2);
	must_eq(store_attempt_end(r->s, a.id, &t, &o, "f", 0, &applied), 0);
	must(!applied);
	must_state(rig_state(r, ino), FILE_SENDING);
	must_eq(attempts(r, got, 4), 1);
	t = rig_transition(r, ino, FILE_SENDING, FILE_UPLOADED);
	p = rig_object(r, ino, "f");
	must_eq(store_attempt_end(r->s, b.id, &t, &p, "f", 0, &applied), 0);
	must(applied);
	must_state(rig_state(r, ino), FILE_UPLOADED);
	must_text(rig_inode(r, ino)->object.etag, p.etag);
}

/* ---- objects ------------------------------------------------------------------------------------------------ */

static void adopted_is_ours(void **state)
{
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100);
	struct store_transition t = rig_transition(r, ino, FILE_QUEUED, FILE_UPLOADED);
	struct store_object o = rig_object(r, ino, "f");

	must_eq(store_object_set(r->s, &t, &o, true), 0);
	must(rig_attr(r, ino).flags & STORE_FLAG_ADOPTED);
	must(rig_attr(r, ino).in_bucket);
	must_state(rig_state(r, ino), FILE_UPLOADED);
	rig_reopen(r);
	must(rig_attr(r, ino).flags & STORE_FLAG_ADOPTED);
	must_text(rig_inode(r, ino)->object.key, "f");
}

static void object_under_a_new_key_leaves_a_stray(void **state)
{
	static struct store_inode stray;
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "a", 100, 1);
	struct store_transition t;
	struct store_object o;

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_rename(r->s, STORE_ROOT_INO, "a", STORE_ROOT_INO, "b", 0, 0), 0);
	t = rig_transition(r, ino, FILE_MOVING, FILE_UPLOADED);
	o = rig_object(r, ino, "b");
	must_eq(store_object_set(r->s, &t, &o, false), 0);
	must_text(rig_inode(r, ino)->object.key, "b");
	must_state(rig_state(r, ino), FILE_UPLOADED);
	must_eq(strays_of(r, "a", &stray), 1);
	must(store_key_is_ours(r->s, "a"));
	must(store_key_is_ours(r->s, "b"));
	must_eq(store_forget(r->s, stray.attr.ino), 0);
	must_eq(strays_of(r, "a", &stray), 0);
	must(!store_key_is_ours(r->s, "a"));
}

static void object_keeps_all_it_is_told(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	struct store_transition t;
	struct store_object o, got;

	rig_bring(r, ino, FILE_UPLOADED);
	t = rig_transition(r, ino, FILE_UPLOADED, FILE_VERIFIED);
	o = rig_inode(r, ino)->object;
	o.has_crc64nvme = true;
	o.crc64nvme = UINT64_MAX - 1;
	o.verified_at_ns = T0_NS + 3;
	o.uploaded_at_ns = T0_NS + 2;
	must_eq(store_object_set(r->s, &t, &o, false), 0);
	rig_reopen(r);
	got = rig_inode(r, ino)->object;
	must_text(got.etag, o.etag);
	must_eq(got.size_bytes, 100);
	must(got.has_crc64nvme && got.crc64nvme == UINT64_MAX - 1);
	must_eq(got.verified_at_ns, T0_NS + 3);
	must_eq(got.uploaded_at_ns, T0_NS + 2);
	must_eq(got.generation, rig_attr(r, ino).generation);
}

static void longest_keys(void **state)
{
	static struct store_inode got[2];
	static struct store_attempt attempt[2];
	struct rig *r = *state;
	uint64_t ino = queued(r, "f", 100);
	char key[KEY_MAX_BYTES + 1];
	struct store_attempt a;

	memset(key, 'k', KEY_MAX_BYTES);
	key[KEY_MAX_BYTES] = '\0';
	a = begun(r, ino, ATTEMPT_COPY, key);
	memset(a.source_key, 's', KEY_MAX_BYTES);
	a.source_key[KEY_MAX_BYTES] = '\0';
	memset(a.upload_id, 'u', S3_UPLOAD_ID_MAX - 1);
	a.upload_id[S3_UPLOAD_ID_MAX - 1] = '\0';
	must_eq(store_attempt_update(r->s, &a), 0);
	must_eq(store_attempts_of_key(r->s, key, attempt, 2), 1);
	must_text(attempt[0].key, key);
	must_text(attempt[0].upload_id, a.upload_id);
	rig_upload_as(r, ino, key);
	must_eq(store_inodes_of_key(r->s, key, got, 2), 1);
	must_text(got[0].object.key, key);
	rig_reopen(r);
	must_eq(store_inodes_of_key(r->s, key, got, 2), 1);
	key[KEY_MAX_BYTES - 1] = 'x';
	must_eq(store_inodes_of_key(r->s, key, got, 2), 0);
}

static void stray_of_nothing(void **state)
{
	static struct store_inode stray;
	struct rig *r = *state;
	struct store_object o = {.key = "lost/one", .etag = "e", .size_bytes = 5};
	struct store_queue_item item;

	must_eq(store_stray_add(r->s, &o, T0_NS + 9), 0);
	must_eq(strays_of(r, "lost/one", &stray), 1);
	must_eq(stray.due_at_ns, T0_NS + 9);
	must(store_key_is_ours(r->s, "lost/one"));
	must_eq(store_queue(r->s, FILE_DELETING, NULL, &item, 1), 1);
	must_eq(item.ino, stray.attr.ino);
	must_eq(item.order, T0_NS + 9);
	rig_reopen(r);
	must_eq(store_forget(r->s, stray.attr.ino), 0);
	must_eq(store_queue(r->s, FILE_DELETING, NULL, &item, 1), 0);
	must(!store_key_is_ours(r->s, "lost/one"));
}

/* ---- deletes ------------------------------------------------------------------------------------------------- */

static void delete_waits_and_is_taken_back(void **state)
{
	static const enum file_state before[] = {FILE_UPLOADED, FILE_VERIFIED, FILE_GONE};
	struct rig *r = *state;

	for (size_t i = 0; i < array_len(before); i++) {
		uint64_t d = rig_dir(r, STORE_ROOT_INO, file_state_text(before[i])), ino;
		struct store_inode now;

		snprintf(rig_context, sizeof(rig_context), "%s", file_state_text(before[i]));
		ino = rig_put(r, d, "f", 100, 1);
		rig_bring(r, ino, before[i]);
		clock_fake_advance_ms(1000);
		must_eq(store_unlink(r->s, d, "f", 600000), 0);
		now = *rig_inode(r, ino);
		must_state(now.attr.state, FILE_DELETING);
		must_state(now.state_before, before[i]);
		must_eq(now.due_at_ns, clock_wall_ns() + 600 * NS_PER_S);
		must_eq(store_rmdir(r->s, STORE_ROOT_INO, file_state_text(before[i])), 0);
		(void)rig_dir(r, STORE_ROOT_INO, file_state_text(before[i]));
		rig_reopen(r);
		must_eq(store_undelete(r->s, ino, NULL), 0);
		must_state(rig_state(r, ino), before[i]);
		must_eq(rig_attr(r, ino).parent, rig_find(r, file_state_text(before[i])));
		must(!(rig_attr(r, ino).flags & STORE_FLAG_UNLINKED));
		rig_must_hold(r, ino, 100, 1);
		must_eq(rig_attr(r, ino).in_bucket, before[i] != FILE_GONE);
		rig_must_count(r, STORE_ROOT_INO);
	}
	rig_context[0] = '\0';
	must_eq(rig_files_in(r, FILE_DELETING), 0);
}

static void path_of_the_deleted_is_where_it_was(void **state)
{
	struct rig *r = *state;
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), ino = rig_put(r, d, "f", 100, 1);

	rig_bring(r, ino, FILE_UPLOADED);
	must_eq(store_unlink(r->s, d, "f", 600000), 0);
	rig_must_path(r, ino, "d/f");
	must(rig_attr(r, ino).flags & STORE_FLAG_UNLINKED);
	must(store_key_is_ours(r->s, "d/f"));
}

/* The answer to its DELETE is missing: that the bucket has it counts no more. */
static void undelete_while_its_object_is_in_doubt(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	struct store_attempt a;

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
	a = begun(r, ino, ATTEMPT_DELETE, "f");
	rig_reopen(r);
	must_eq(store_undelete(r->s, ino, NULL), 0);
	must_state(rig_state(r, ino), FILE_CLOSED);
	must(!rig_attr(r, ino).in_bucket);
	must_text(rig_inode(r, ino)->object.key, "f");
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	rig_must_hold(r, ino, 100, 1);
	must_eq(store_attempt_end(r->s, a.id, NULL, NULL, NULL, 0, NULL), 0);
	rig_must_hold(r, ino, 100, 1);
	rig_must_count(r, STORE_ROOT_INO);
}

/* Why its object could not be deleted is no trouble of the file that is back. */
static void undelete_forgets_the_deletes_trouble(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
	must_eq(rig_step(r, ino, FILE_DELETING, FILE_DELETING, "denied"), 0);
	must_eq(store_undelete(r->s, ino, NULL), 0);
	must_state(rig_state(r, ino), FILE_VERIFIED);
	must_text(rig_inode(r, ino)->reason, "");
}

/* And its bytes went, for the bucket had them: it cannot come back before it is known whether they
 * are still there. */
static void undelete_of_what_only_the_bucket_may_have(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	struct store_attempt a;

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	a = begun(r, ino, ATTEMPT_DELETE, "f");
	must_eq(store_undelete(r->s, ino, NULL), -EBUSY);
	must_state(rig_state(r, ino), FILE_DELETING);
	must_eq(store_attempt_end(r->s, a.id, NULL, NULL, NULL, 0, NULL), 0);
	must_eq(store_undelete(r->s, ino, NULL), 0);
	must_state(rig_state(r, ino), FILE_VERIFIED);
	rig_must_count(r, STORE_ROOT_INO);
}

/* Made anew, sent and renamed since: the object that it had is replaced, or may be. */
static void undelete_of_what_another_file_replaces(struct rig *r, bool here)
{
	uint64_t d = rig_dir(r, STORE_ROOT_INO, "d"), old = rig_put(r, d, "f", 100, 1), new;
	struct store_attempt a;
	struct store_object o;
	bool applied;

	rig_bring(r, old, FILE_VERIFIED);
	must_eq(store_unlink(r->s, d, "f", 600000), 0);
	if (!here)
		must_eq(store_evict(r->s, UINT64_MAX), 0);
	new = rig_put(r, d, "f", 200, 2);
	rig_bring(r, new, FILE_QUEUED);
	a = begun(r, new, ATTEMPT_PUT, "d/f");
	o = rig_object(r, new, "d/f");
	must_eq(store_rename(r->s, d, "f", STORE_ROOT_INO, "g", 0, 0), 0);
	must_eq(store_rmdir(r->s, STORE_ROOT_INO, "d"), 0);
	if (!here) {
		must_eq(store_undelete(r->s, old, NULL), -EBUSY);
		must_eq(rig_resolve_error(r, "d"), -ENOENT); /* no folder was made for it */
	}
	must_eq(store_attempt_end(r->s, a.id, NULL, &o, "g", 0, &applied), 0);
	must_eq(store_undelete(r->s, old, NULL), here ? 0 : -ENODATA);
	if (here) {
		must_state(rig_state(r, old), FILE_CLOSED);
		rig_must_hold(r, old, 100, 1);
	} else {
		must_eq(rig_resolve_error(r, "d"), -ENOENT);
	}
	rig_must_count(r, STORE_ROOT_INO);
}

static void undelete_of_what_was_replaced_and_is_here(void **state)
{
	undelete_of_what_another_file_replaces(*state, true);
}

static void undelete_of_what_was_replaced_and_evicted(void **state)
{
	undelete_of_what_another_file_replaces(*state, false);
}

static void undelete_refuses_a_taken_name(void **state)
{
	struct rig *r = *state;
	uint64_t old = rig_put(r, STORE_ROOT_INO, "f", 100, 1), new;

	rig_bring(r, old, FILE_UPLOADED);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 600000), 0);
	must(store_key_is_ours(r->s, "f"));
	new = rig_put(r, STORE_ROOT_INO, "f", 200, 2);
	must_eq(store_undelete(r->s, old, NULL), -EEXIST);
	must_state(rig_state(r, old), FILE_DELETING);
	must_eq(rig_find(r, "f"), new);
	must(store_undelete(r->s, new, NULL) < 0);
	must_eq(store_undelete(r->s, 4711, NULL), -ENOENT);
}

/* `rm -r` took the folder too: it is made again. */
static void undelete_makes_the_folder_again(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a"), b = rig_dir(r, a, "b");
	uint64_t f = rig_put(r, b, "f", 100, 1), g = rig_put(r, b, "g", 100, 1);

	rig_bring(r, f, FILE_UPLOADED);
	rig_bring(r, g, FILE_VERIFIED);
	must_eq(store_unlink(r->s, b, "f", 600000), 0);
	must_eq(store_unlink(r->s, b, "g", 600000), 0);
	must_eq(store_rmdir(r->s, a, "b"), 0);
	must_eq(store_rmdir(r->s, STORE_ROOT_INO, "a"), 0);
	rig_must_path(r, f, "a/b/f");
	rig_reopen(r);
	must_eq(store_undelete(r->s, f, NULL), 0);
	must_eq(store_undelete(r->s, g, NULL), 0);
	must_eq(rig_find(r, "a/b/f"), f);
	must_eq(rig_find(r, "a/b/g"), g);
	must_state(rig_state(r, g), FILE_VERIFIED);
	rig_must_count(r, STORE_ROOT_INO);
}

static void undelete_where_a_file_took_the_folders_place(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a"), f = rig_put(r, a, "f", 100, 1);

	rig_bring(r, f, FILE_UPLOADED);
	must_eq(store_unlink(r->s, a, "f", 600000), 0);
	must_eq(store_rmdir(r->s, STORE_ROOT_INO, "a"), 0);
	(void)rig_put(r, STORE_ROOT_INO, "a", 1, 1);
	must_eq(store_undelete(r->s, f, NULL), -ENOTDIR);
	must_state(rig_state(r, f), FILE_DELETING);
}

static void forget_ends_it(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);

	must(store_forget(r->s, ino) < 0);
	rig_bring(r, ino, FILE_UPLOADED);
	must(store_forget(r->s, ino) < 0);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
	must_eq(store_forget(r->s, ino), 0);
	must_eq(rig_attr_error(r, ino), -ENOENT);
	must_eq(rig_data_files(r), 0);
	must(!store_key_is_ours(r->s, "f"));
	must_eq(store_forget(r->s, ino), -ENOENT);
}

static void forget_while_open_keeps_the_bytes(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1);
	struct store_file *f = rig_file(r, ino);
	uint8_t want[100];

	rig_bring(r, ino, FILE_UPLOADED);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 0), 0);
	must_eq(store_forget(r->s, ino), 0);
	rig_pattern(want, 100, 0, 1);
	rig_must_read(f, 0, want, 100);
	store_file_close(f);
	must_eq(rig_attr_error(r, ino), -ENOENT);
	must_eq(rig_data_files(r), 0);
}

/* The object stays: the file is what the bucket shows from now on. */
static void discard_drops_the_local_version(void **state)
{
	static struct store_inode got[2];
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 100, 1), generation;

	rig_bring(r, ino, FILE_CONFLICT);
	generation = rig_attr(r, ino).generation;
	must_eq(store_discard(r->s, ino, generation + 1, FILE_CONFLICT), -ESTALE);
	must_eq(store_discard(r->s, ino, generation, FILE_FAILED), -ESTALE);
	must_state(rig_state(r, ino), FILE_CONFLICT);
	must_eq(store_discard(r->s, ino, generation, FILE_CONFLICT), 0);
	must_eq(rig_attr_error(r, ino), -ENOENT);
	must_eq(rig_resolve_error(r, "f"), -ENOENT);
	must_eq(rig_data_files(r), 0);
	must_eq(rig_files_in(r, FILE_CONFLICT), 0);
	must_eq(store_inodes_of_key(r->s, "f", got, 2), 0);
	must(!store_key_is_ours(r->s, "f"));
	must_eq(store_discard(r->s, ino, generation, FILE_CONFLICT), -ENOENT);
	rig_must_count(r, STORE_ROOT_INO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(begin_is_recorded_before_a_crash),
		rig_test(begin_of_what_moved_on_is_refused),
		rig_test(update_keeps_what_was_learned),
		rig_test(attempts_of_a_key_oldest_first),
		rig_test(part_is_voided_by_a_change),
		rig_test(end_applies),
		rig_test(end_without_an_object),
		rig_test(end_of_an_older_version),
		rig_test(end_under_another_key),
		rig_test(names_have_changed),
		rig_test(end_of_what_was_unlinked),
		rig_test(ends_of_two_attempts),
		rig_test(adopted_is_ours),
		rig_test(object_under_a_new_key_leaves_a_stray),
		rig_test(object_keeps_all_it_is_told),
		rig_test(longest_keys),
		rig_test(stray_of_nothing),
		rig_test_clock(delete_waits_and_is_taken_back),
		rig_test(path_of_the_deleted_is_where_it_was),
		rig_test(undelete_while_its_object_is_in_doubt),
		rig_test(undelete_forgets_the_deletes_trouble),
		rig_test(undelete_of_what_only_the_bucket_may_have),
		rig_test(undelete_of_what_was_replaced_and_is_here),
		rig_test(undelete_of_what_was_replaced_and_evicted),
		rig_test(undelete_refuses_a_taken_name),
		rig_test(undelete_makes_the_folder_again),
		rig_test(undelete_where_a_file_took_the_folders_place),
		rig_test(forget_ends_it),
		rig_test(forget_while_open_keeps_the_bytes),
		rig_test(discard_drops_the_local_version),
	};

	return cmocka_run_group_tests_name("store attempts", tests, NULL, NULL);
}
