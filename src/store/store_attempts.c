/*
 * store_attempts - requests that change the bucket, recorded before their first byte; and what the
 *                  bucket is known to hold of ours, by key.
 */
#include "store_private.h"

static int attempt_get(struct store *s, uint64_t id, struct store_attempt *ret)
{
	struct ikey k = ikey_ino(id);
	struct bytes v;
	int r = index_get(&s->index, TABLE_ATTEMPT, &k, &v);
	return r < 0 ? r : attempt_decode(v, id, ret);
}

static void op_attempt(struct store *s, const struct store_attempt *a)
{
	cleanup_buf struct buf b = { 0 };
	struct ikey k = ikey_ino(a->id);
	int r = attempt_encode(a, &b);
	op_put(s, TABLE_ATTEMPT, &k, b.data, b.len);
	if (a->upload_id[0]) /* or nobody could ever abort it */
		op_witness_put(s, TABLE_ATTEMPT, &k, b.data, b.len);
	if (r < 0 && !s->op.list.error)
		s->op.list.error = r;
}

static int begin_locked(struct store *s, struct store_attempt *a, enum file_state from)
{
	struct record old;
	int r = record_get(s, a->ino, &old);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (old.i.attr.generation != a->generation)
		return -ESTALE;
	if (from != FILE_NONE && old.i.attr.state != from)
		return -ESTALE;
	if (names_changed(s, a->names))
		return -EAGAIN;
	struct record new = old;
	new.attempts_open++;
	if (from != FILE_NONE)
		record_enter(&new, FILE_SENDING);
	a->id = s->next_attempt++;
	a->begun_at_ns = clock_wall_ns();
	struct ikey by_key = ikey_hash(a->key, a->id);
	op_begin(s);
	op_meta_u64(s, "next-attempt", s->next_attempt);
	op_attempt(s, a);
	op_put(s, TABLE_ATTEMPT_KEY, &by_key, "", 0);
	op_inode(s, &old, &new);
	return op_commit(s);
}

int store_attempt_begin(struct store *s, struct store_attempt *a, enum file_state from)
{
	struct news news = { 0 };
	check(from == FILE_NONE || file_state_may_follow(from, FILE_SENDING));
	store_enter(s);
	int r = begin_locked(s, a, from);
	store_leave(s, &news);
	news_fire(s, &news);
	return r;
}

int store_attempt_update(struct store *s, const struct store_attempt *a)
{
	struct store_attempt now;
	with_lock(&s->lock);
	int r = attempt_get(s, a->id, &now);
	if (r < 0)
		return r;
	op_begin(s);
	op_attempt(s, a);
	return op_commit(s);
}

static int take_locked(struct store *s, const struct store_attempt *a, enum file_state from)
{
	struct store_attempt now;
	struct record old;
	int r = attempt_get(s, a->id, &now);
	if (r == 0)
		r = record_get(s, a->ino, &old);
	if (r)
		return r == -ENOENT ? -ESTALE : r;
	if (now.ino != a->ino || strcmp(now.key, a->key) != 0 ||
		(now.phase != ATTEMPT_STREAMING && now.phase != ATTEMPT_KEPT) ||
		old.i.attr.generation != a->generation || old.i.attr.state != from)
		return -ESTALE;
	if (names_changed(s, a->names))
		return -EAGAIN;
	struct record new = old;
	record_enter(&new, FILE_SENDING);
	op_begin(s);
	op_attempt(s, a);
	op_inode(s, &old, &new);
	return op_commit(s);
}

int store_attempt_take(struct store *s, const struct store_attempt *a, enum file_state from)
{
	struct news news = { 0 };
	check(file_state_may_follow(from, FILE_SENDING));
	store_enter(s);
	int r = take_locked(s, a, from);
	store_leave(s, &news);
	news_fire(s, &news);
	return r;
}

int store_attempt_part(struct store *s, uint64_t attempt_id, uint64_t chunk, uint64_t crc64nvme,
	const char *etag)
{
	struct store_attempt a;
	cleanup_store_file struct store_file *f = NULL;
	lock_take(&s->lock);
	int r = attempt_get(s, attempt_id, &a);
	lock_drop(&s->lock);
	if (r == 0)
		r = file_get(s, a.ino, &f);
	if (r < 0 || !f)
		return r == -ENOENT ? -ESTALE : r;
	with_lock(&f->lock);
	with_lock(&s->lock);
	struct chunk_record c;
	r = chunk_get(s, a.ino, chunk, &c);
	if (r < 0)
		return r;
	if (!c.has_crc || c.crc64nvme != crc64nvme)
		return -ESTALE; /* the chunk was changed meanwhile */
	c.part_attempt = attempt_id;
	if (!text_copy(c.part_etag, etag, sizeof(c.part_etag)))
		return -ENAMETOOLONG;
	op_begin(s);
	op_chunk(s, a.ino, chunk, &c);
	r = op_commit(s);
	if (r == 0)
		bit_set(f->recorded, chunk, true);
	return r;
}

/* ---- what a key holds -------------------------------------------------------------------------------------- */

/* The object that this record names is not there any more: another one of ours has its key. False: it
 * was the last copy, and the record stays (whoever compares it with the bucket will find out). */
static bool claim_void(struct record *r)
{
	static const uint32_t in_bucket = /* GONE stays so: it is never sent again */
		1u << FILE_UPLOADED | 1u << FILE_VERIFIED | 1u << FILE_MOVING;
	bool said_so = in_bucket >> r->i.attr.state & 1, here = r->present_bytes >= r->i.attr.size_bytes;
	if (said_so && !here)
		return false;
	if (said_so)
		record_enter(r, FILE_CLOSED);
	if (r->i.attr.state == FILE_DELETING && in_bucket >> r->i.state_before & 1)
		r->i.state_before = here ? FILE_CLOSED : FILE_LOST;
	if (said_so || r->i.attr.state == FILE_DELETING) /* nothing is left to delete */
		r->i.due_at_ns = clock_wall_ns();
	r->i.object = (struct store_object){ 0 };
	return true;
}

/* An object of ours came to this key, so nothing else of ours is there: a record that goes on saying so
 * would take that object for its own, or delete it. */
void op_claims_void(struct store *s, const char *key, uint64_t but_ino)
{
	struct ikey from = ikey_hash(key, 0);
	cleanup_cursor struct index_cursor c;
	int r = index_seek(&s->index, TABLE_OBJECT_KEY, &from, false, &c);
	for (; r == 0 && c.key.len == 24 && memcmp(c.key.data, from.data, 16) == 0;
		r = index_next(&c)) {
		struct record old;
		uint64_t ino = get_be64((const uint8_t *)c.key.data + 16);
		if (ino == but_ino || record_get(s, ino, &old) < 0 ||
			(old.i.attr.flags & STORE_FLAG_FOREIGN) || strcmp(old.i.object.key, key) != 0)
			continue;
		struct record new = old;
		if (claim_void(&new))
			op_inode(s, &old, &new);
	}
}

/* ---- outcome ------------------------------------------------------------------------------------------------ */

static bool still_meant(const struct record *r, const struct store_object *object,
	const char *current_key)
{
	return r->i.attr.generation == object->generation && current_key &&
		strcmp(current_key, object->key) == 0;
}

int key_is_in_doubt(struct store *s, const char *key)
{
	struct ikey from = ikey_hash(key, 0);
	cleanup_free struct store_attempt *a = malloc(sizeof(*a));
	cleanup_cursor struct index_cursor c;
	int r = index_seek(&s->index, TABLE_ATTEMPT_KEY, &from, false, &c);
	for (; r == 0 && a && c.key.len == 24 && memcmp(c.key.data, from.data, 16) == 0;
		r = index_next(&c)) {
		r = attempt_get(s, get_be64((const uint8_t *)c.key.data + 16), a);
		if (r < 0)
			break;
		if (a->phase != ATTEMPT_STREAMING && a->phase != ATTEMPT_KEPT)
			return 1;
	}
	return !a ? -ENOMEM : r < 0 && r != -ENOENT ? r : 0;
}

/* Renamed while it was sent: the object is a stray, and the version has still to be sent. */
static void left_behind(struct record *new, const struct store_object *object)
{
	bool sending = new->i.attr.state == FILE_SENDING || new->i.attr.state == FILE_UNKNOWN;
	if (object && sending && new->i.attr.generation == object->generation)
		record_transition(new, &(struct store_transition){ .to = FILE_QUEUED, .reason = "" });
}

/* The inode's side of an outcome. Returns whether object and transition were for the inode as it is. */
static bool outcome_apply(struct store *s, struct record *new, const struct store_transition *t,
	const struct store_object *object, const char *current_key)
{
	bool unlinked = new->i.attr.flags & STORE_FLAG_UNLINKED;
	bool meant = object ? still_meant(new, object, current_key)
			    : t && new->i.attr.generation == t->generation;
	if (object && unlinked && new->i.attr.generation == object->generation)
		meant = true; /* deleted meanwhile: this is the object to delete */
	if (!meant) {
		left_behind(new, object);
		if (object && strcmp(new->i.object.key, object->key) == 0)
			(void)claim_void(new); /* a last copy keeps it */
		return false;
	}
	if (object) {
		if (new->i.object.key[0] && strcmp(new->i.object.key, object->key) != 0)
			op_stray(s, &new->i.object, clock_wall_ns(), 0);
		new->i.object = *object;
	}
	if (unlinked) {
		if (new->i.attr.state == FILE_NONE) {
			record_enter(new, FILE_DELETING);
			new->i.due_at_ns = clock_wall_ns();
		}
		return true;
	}
	if (t && (new->i.attr.state == t->from || file_state_may_follow(new->i.attr.state, t->to)))
		record_transition(new, t);
	return true;
}

static int end_locked(struct store *s, uint64_t id, const struct store_transition *t,
	const struct store_object *object, const char *current_key, uint64_t names,
	bool *ret_applied, bool *ret_purge, uint64_t *ret_ino)
{
	struct store_attempt a;
	struct record old;
	int r = attempt_get(s, id, &a);
	if (r < 0)
		return r;
	if (names_changed(s, names))
		return -EAGAIN;
	*ret_ino = a.ino;
	r = record_get(s, a.ino, &old);
	if (r < 0 && r != -ENOENT && r != -EUCLEAN)
		return r;
	bool alive = r == 0, damaged = r == -EUCLEAN, applied = false;
	struct ikey k = ikey_ino(id), by_key = ikey_hash(a.key, id);
	op_begin(s);
	op_del(s, TABLE_ATTEMPT, &k);
	if (a.upload_id[0])
		op_witness_del(s, TABLE_ATTEMPT, &k);
	op_del(s, TABLE_ATTEMPT_KEY, &by_key);
	if (alive) {
		struct record new = old;
		new.attempts_open -= new.attempts_open > 0;
		applied = outcome_apply(s, &new, t, object, current_key);
		bool leftover = (new.i.attr.flags & STORE_FLAG_UNLINKED) && !new.attempts_open &&
			!new.i.object.key[0] && !file_find_held(s, a.ino);
		op_inode(s, &old, &new);
		if (leftover) { /* unlinked while it was sent, and nothing arrived */
			op_purge(s, &new);
			*ret_purge = true;
		}
	}
	if (object)
		op_claims_void(s, object->key, a.ino);
	if (object && !applied && !damaged) /* whose it is then, a repair finds out */
		op_stray(s, object, clock_wall_ns(), 0);
	r = op_commit(s);
	*ret_purge = *ret_purge && r == 0;
	if (r == 0)
		*ret_applied = applied;
	return r;
}

int store_attempt_end(struct store *s, uint64_t attempt_id, const struct store_transition *t,
	const struct store_object *object, const char *current_key, uint64_t names,
	bool *ret_applied)
{
	struct news news = { 0 };
	bool purge = false, applied = false;
	uint64_t ino = 0;
	store_enter(s);
	int r = end_locked(s, attempt_id, t, object, current_key, names, &applied, &purge,
		&ino);
	store_leave(s, &news);
	if (purge)
		purge_data(s, ino);
	if (r == 0)
		space_wake(s);
	if (r == 0 && ret_applied)
		*ret_applied = applied;
	news_fire(s, &news);
	return r;
}

/* ---- lists --------------------------------------------------------------------------------------------------- */

int store_attempts_of_key(
	struct store *s, const char *key, struct store_attempt *out, size_t max)
{
	struct ikey from = ikey_hash(key, 0);
	with_lock(&s->lock);
	cleanup_cursor struct index_cursor c;
	size_t count = 0;
	int r = index_seek(&s->index, TABLE_ATTEMPT_KEY, &from, false, &c);
	for (; r == 0 && count < max && c.key.len == 24; r = index_next(&c)) {
		if (memcmp(c.key.data, from.data, 16) != 0)
			break;
		int e = attempt_get(s, get_be64((const uint8_t *)c.key.data + 16), &out[count]);
		if (e < 0)
			return e == -ENOENT ? -EUCLEAN : e;
		count++;
	}
	return r < 0 && r != -ENOENT ? r : (int)count;
}

int store_attempts(struct store *s, uint64_t after_id, struct store_attempt *out, size_t max)
{
	struct ikey from = ikey_ino(after_id);
	with_lock(&s->lock);
	cleanup_cursor struct index_cursor c;
	size_t count = 0;
	int r = index_seek(&s->index, TABLE_ATTEMPT, &from, true, &c);
	for (; r == 0 && count < max; r = index_next(&c)) {
		if (c.key.len != 8)
			return -EUCLEAN;
		int e = attempt_decode(c.value, get_be64(c.key.data), &out[count]);
		if (e < 0)
			return e;
		count++;
	}
	return r < 0 && r != -ENOENT ? r : (int)count;
}

int store_inodes_of_key(struct store *s, const char *key, struct store_inode *out, size_t max)
{
	struct ikey from = ikey_hash(key, 0);
	with_lock(&s->lock);
	cleanup_cursor struct index_cursor c;
	size_t count = 0;
	int r = index_seek(&s->index, TABLE_OBJECT_KEY, &from, false, &c);
	for (; r == 0 && count < max && c.key.len == 24; r = index_next(&c)) {
		struct record record;
		if (memcmp(c.key.data, from.data, 16) != 0)
			break;
		int e = record_get(s, get_be64((const uint8_t *)c.key.data + 16), &record);
		if (e < 0)
			return e == -ENOENT ? -EUCLEAN : e;
		if (!(record.i.attr.flags & STORE_FLAG_FOREIGN))
			out[count++] = record.i;
	}
	return r < 0 && r != -ENOENT ? r : (int)count;
}

/* A key below the old path of a folder whose objects have not followed its rename yet? */
static int below_a_job(struct store *s, const char *key)
{
	struct ikey from = { .len = 0 };
	if (s->job_count == 0)
		return 0;
	cleanup_cursor struct index_cursor c;
	int r = index_seek(&s->index, TABLE_JOB, &from, false, &c);
	for (; r == 0; r = index_next(&c)) {
		size_t len = c.value.len > 8 ? c.value.len - 8 : 0;
		const char *old_path = (const char *)c.value.data + 8;
		if (len && strlen(key) > len && memcmp(key, old_path, len) == 0 && key[len] == '/')
			return 1;
	}
	return r == -ENOENT ? 0 : r;
}

/* Is the object under the key of this record ours, by the state of its file? */
static bool holds_its_key(const struct record *r)
{
	if (r->i.attr.flags & STORE_FLAG_FOREIGN)
		return false;
	switch (r->i.attr.state) {
	case FILE_NONE:
	case FILE_CONFLICT: /* what is there now is not ours */
	case FILE_GONE:
	case FILE_STATE_COUNT:
		return false;
	case FILE_OPEN: /* a version to be sent: where its file has another name, this key goes */
	case FILE_CLOSED:
	case FILE_SETTLED:
	case FILE_QUEUED:
	case FILE_SENDING:
	case FILE_UNKNOWN:
	case FILE_UPLOADED:
	case FILE_VERIFIED:
	case FILE_HELD:
	case FILE_INCOMPLETE:
	case FILE_TORN:
	case FILE_LOST:
	case FILE_FAILED:
	case FILE_MOVING:
	case FILE_DELETING:
		return true;
	}
	return false;
}

/* Perhaps sent and perhaps there already, while its file may have another name or none? */
static int is_being_made(struct store *s, const char *key)
{
	struct ikey from = ikey_hash(key, 0);
	cleanup_cursor struct index_cursor c;
	int r = index_seek(&s->index, TABLE_ATTEMPT_KEY, &from, false, &c);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return c.key.len == 24 && memcmp(c.key.data, from.data, 16) == 0;
}

static int is_held_by_a_file(struct store *s, const char *key)
{
	struct ikey from = ikey_hash(key, 0);
	cleanup_cursor struct index_cursor c;
	int r = index_seek(&s->index, TABLE_OBJECT_KEY, &from, false, &c);
	for (; r == 0 && c.key.len == 24 && memcmp(c.key.data, from.data, 16) == 0;
		r = index_next(&c)) {
		struct record record;
		r = record_get(s, get_be64((const uint8_t *)c.key.data + 16), &record);
		if (r < 0)
			return r == -ENOENT ? -EUCLEAN : r;
		if (holds_its_key(&record))
			return 1;
	}
	return r == -ENOENT ? 0 : r;
}

int store_key_is_ours(struct store *s, const char *key)
{
	with_lock(&s->lock);
	int r = below_a_job(s, key);
	if (r == 0)
		r = is_held_by_a_file(s, key);
	return r ? r : is_being_made(s, key);
}

int store_stray_add(struct store *s, const struct store_object *object, int64_t due_at_ns)
{
	struct news news = { 0 };
	store_enter(s);
	op_begin(s);
	op_stray(s, object, due_at_ns, STORE_FLAG_ELSEWHERE);
	int r = op_commit(s);
	store_leave(s, &news);
	news_fire(s, &news);
	return r;
}
