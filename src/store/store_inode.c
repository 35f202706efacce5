/*
 * store_inode - an inode's record and everything that follows from it: queue, counters, eviction
 *               order, key of its object. Nothing else writes those tables.
 */
#include "store_private.h"

#define SETTLE_MAX_NS (600 * NS_PER_S)

uint64_t store_ino_of_key(const char *key)
{
	uint8_t digest[32];
	sha256_of(key, strlen(key), digest);
	return get_be64(digest) | STORE_INO_FROM_BUCKET;
}

uint64_t store_in_the_way(const char *key, const char *etag)
{
	uint64_t crc = crc64nvme(0, key, strlen(key) + 1);
	crc = crc64nvme(crc, etag, strlen(etag));
	return crc ? crc : 1;
}

int record_get(struct store *s, uint64_t ino, struct record *ret)
{
	struct ikey k = ikey_ino(ino);
	struct bytes v;
	lock_assert_held(&s->lock);
	int r = index_get(&s->index, TABLE_INODE, &k, &v);
	return r < 0 ? r : record_decode(v, ino, ret);
}

int chunk_get(struct store *s, uint64_t ino, uint64_t n, struct chunk_record *ret)
{
	struct ikey k = ikey_chunk(ino, n);
	struct bytes v;
	int r = index_get(&s->index, TABLE_CHUNK, &k, &v);
	if (r == -ENOENT) {
		*ret = (struct chunk_record){ 0 };
		return 0;
	}
	return r < 0 ? r : chunk_decode(v, ret);
}

int dirent_get(struct store *s, uint64_t dir_ino, const char *name, uint64_t *ret_ino)
{
	if (strlen(name) > STORE_NAME_MAX)
		return -ENAMETOOLONG;
	struct ikey k = ikey_ino_name(dir_ino, name);
	struct bytes v;
	int r = index_get(&s->index, TABLE_DIRENT, &k, &v);
	if (r < 0)
		return r;
	if (v.len != 8)
		return -EUCLEAN;
	*ret_ino = get_be64(v.data);
	return 0;
}

static uint64_t positive(int64_t ns)
{
	return ns > 0 ? (uint64_t)ns : 0;
}

uint64_t order_of(const struct record *r)
{
	switch (r->i.attr.state) {
	case FILE_QUEUED:
	case FILE_SETTLED:
		return positive(r->i.closed_at_ns);
	case FILE_CLOSED:
	case FILE_DELETING:
	case FILE_FAILED:
	case FILE_UNKNOWN:
	case FILE_MOVING:
		return positive(r->i.due_at_ns);
	case FILE_VERIFIED:
		return positive(r->i.object.verified_at_ns);
	case FILE_NONE:
	case FILE_OPEN:
	case FILE_SENDING:
	case FILE_UPLOADED:
	case FILE_HELD:
	case FILE_INCOMPLETE:
	case FILE_TORN:
	case FILE_LOST:
	case FILE_CONFLICT:
	case FILE_GONE:
	case FILE_STATE_COUNT:
		break;
	}
	return positive(r->since_ns);
}

/* Settle doubles with every rewrite after an earlier settle, to at most 10 minutes. */
int64_t settle_due_ns(struct store *s, const struct record *r)
{
	int64_t wait = s->settle_ms * 1000000;
	for (uint32_t i = 0; i < r->i.rewrites && wait < SETTLE_MAX_NS; i++)
		wait *= 2;
	int64_t most = s->settle_ms * 1000000 > SETTLE_MAX_NS ? s->settle_ms * 1000000 : SETTLE_MAX_NS;
	return clock_wall_ns() + (wait < most ? wait : most);
}

void record_enter(struct record *r, enum file_state to)
{
	check(file_state_may_follow(r->i.attr.state, to));
	if (r->i.attr.state != to)
		r->since_ns = clock_wall_ns();
	r->i.attr.state = to;
	if (to != FILE_HELD)
		r->i.held = HELD_NOT;
	r->i.attr.in_bucket = to == FILE_UPLOADED || to == FILE_VERIFIED;
}

void record_transition(struct record *r, const struct store_transition *t)
{
	record_enter(r, t->to);
	r->i.held = t->to == FILE_HELD ? t->held : HELD_NOT;
	if (t->reason)
		(void)text_copy(r->i.reason, t->reason, sizeof(r->i.reason)); /* may be cut */
	r->i.due_at_ns = t->due_at_ns ? t->due_at_ns : clock_wall_ns();
	r->i.attr.flags |= t->flags & (STORE_FLAG_ACCEPTED | STORE_FLAG_REPLACES);
	if (t->flags & STORE_FLAG_ACCEPTED)
		r->i.attr.flags |= STORE_FLAG_UNPROVED;
	if ((t->flags & STORE_FLAG_ACCEPTED) && r->present_bytes >= r->i.attr.size_bytes)
		r->i.object.generation = 0; /* what was sent once may be other bytes than these */
	if (t->to == FILE_CONFLICT) {
		r->i.attr.flags &= ~STORE_FLAG_REPLACES; /* that was another object */
		r->i.in_the_way = t->in_the_way;
	}
	if (t->count_attempt)
		r->i.attempts++;
	else if (t->to == FILE_UPLOADED || t->to == FILE_CLOSED)
		r->i.attempts = 0;
}

/* ---- what follows from a record ------------------------------------------------------------------------ */

struct tally {
	uint64_t home; /* folder it counts in */
	int64_t files[SLOT_COUNT], bytes[SLOT_COUNT];
};

static bool is_counted(const struct record *r)
{
	return r && r->i.attr.type == STORE_FILE;
}

static bool is_evictable(const struct record *r)
{
	const struct store_attr *a = &r->i.attr;
	return r->present_bytes &&
		(a->state == FILE_VERIFIED || a->state == FILE_UPLOADED || a->state == FILE_GONE ||
			(a->state == FILE_NONE && (a->flags & STORE_FLAG_FOREIGN)));
}

uint64_t evictable_bytes(struct store *s, uint64_t ino)
{
	struct record r;
	with_lock(&s->lock);
	return record_get(s, ino, &r) == 0 && is_evictable(&r) ? r.present_bytes : 0;
}

static uint64_t home_of(const struct record *r)
{
	return r->i.attr.flags & STORE_FLAG_UNLINKED ? STORE_ROOT_INO : r->i.attr.parent;
}

static void tally_add(struct tally *t, const struct record *r, int sign)
{
	const struct store_attr *a = &r->i.attr;
	if (a->state != FILE_NONE) {
		t->files[a->state] += sign;
		t->bytes[a->state] += sign * (int64_t)a->size_bytes;
	} else if (a->flags & STORE_FLAG_FOREIGN) {
		t->files[SLOT_FOREIGN] += sign;
	}
	if (a->state == FILE_HELD)
		t->files[SLOT_HELD_FIRST + r->i.held] += sign;
	t->bytes[SLOT_PRESENT] += sign * (int64_t)r->present_bytes;
	if (is_evictable(r))
		t->bytes[SLOT_EVICTABLE] += sign * (int64_t)r->present_bytes;
}

static void tally_emit(struct store *s, const struct tally *t)
{
	for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
		op_count(s, t->home, slot, t->files[slot], t->bytes[slot]);
}

static void op_tally(struct store *s, const struct record *old, const struct record *new)
{
	struct tally t = { 0 };
	if (is_counted(old)) {
		t.home = home_of(old);
		tally_add(&t, old, -1);
	}
	if (is_counted(old) && is_counted(new) && home_of(new) != t.home) {
		tally_emit(s, &t);
		t = (struct tally){ 0 };
	}
	if (is_counted(new)) {
		t.home = home_of(new);
		tally_add(&t, new, 1);
	}
	tally_emit(s, &t);
}

static bool same_key(const struct ikey *a, const struct ikey *b)
{
	return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* Replace one derived key by another (len 0: none). */
static void op_move_key(
	struct store *s, enum table t, const struct ikey *old, const struct ikey *new)
{
	if (same_key(old, new))
		return;
	if (old->len)
		op_del(s, t, old);
	if (new->len)
		op_put(s, t, new, "", 0);
}

static struct ikey queue_key(const struct record *r)
{
	if (!is_counted(r) || r->i.attr.state == FILE_NONE)
		return (struct ikey){ .len = 0 };
	return ikey_queue((uint8_t)r->i.attr.state, order_of(r), r->i.attr.ino);
}

static struct ikey evict_key(const struct record *r)
{
	if (!is_counted(r) || !is_evictable(r))
		return (struct ikey){ .len = 0 };
	enum file_state state = r->i.attr.state;
	uint8_t class = state == FILE_UPLOADED ? EVICT_UPLOADED
		: state == FILE_GONE	       ? EVICT_GONE
					       : EVICT_VERIFIED;
	return ikey_queue(class, order_of(r), r->i.attr.ino);
}

int gone_put(struct index *x, const struct record *r)
{
	struct ikey k = evict_key(r);
	if (r->i.attr.state != FILE_GONE || !k.len)
		return 0;
	int e = index_put(x, TABLE_EVICT, (struct bytes){ k.data, k.len }, (struct bytes){ "", 0 });
	return e < 0 ? e : count_apply(x, home_of(r), SLOT_EVICTABLE, 0, (int64_t)r->present_bytes);
}

static struct ikey object_key(const struct record *r)
{
	if (!is_counted(r) || !r->i.object.key[0])
		return (struct ikey){ .len = 0 };
	return ikey_hash(r->i.object.key, r->i.attr.ino);
}

static struct ikey folder_key(const struct record *r)
{
	if (!r || r->i.attr.type != STORE_DIR || r->i.attr.ino == STORE_ROOT_INO)
		return (struct ikey){ .len = 0 };
	return ikey_ino_name(r->i.attr.parent, r->i.name);
}

int folder_put(struct index *x, const struct record *r)
{
	struct ikey k = folder_key(r);
	uint8_t value[8];
	if (!k.len)
		return 0;
	put_be64(value, r->i.attr.ino);
	return index_put(x, TABLE_FOLDER, (struct bytes){ k.data, k.len },
		(struct bytes){ value, sizeof(value) });
}

static void op_folder(struct store *s, const struct record *old, const struct record *new)
{
	struct ikey before = folder_key(old), after = folder_key(new);
	uint8_t value[8];
	if (same_key(&before, &after))
		return;
	if (before.len)
		op_del(s, TABLE_FOLDER, &before);
	if (!after.len)
		return;
	put_be64(value, new->i.attr.ino);
	op_put(s, TABLE_FOLDER, &after, value, sizeof(value));
}

/* Steps that the witness notes: what a repair could not find out again. */
static bool is_milestone(const struct record *old, const struct record *new)
{
	static const uint32_t passing = UINT32_C(1) << FILE_OPEN | UINT32_C(1) << FILE_CLOSED |
		UINT32_C(1) << FILE_SETTLED | UINT32_C(1) << FILE_SENDING | UINT32_C(1) << FILE_UNKNOWN |
		UINT32_C(1) << FILE_VERIFIED;
	if (!old || !new || old->i.attr.parent != new->i.attr.parent ||
		strcmp(old->i.name, new->i.name) != 0)
		return true;
	if ((old->i.attr.flags ^ new->i.attr.flags) & STORE_FLAG_UNLINKED)
		return true;
	return old->i.attr.state != new->i.attr.state &&
		!(passing & UINT32_C(1) << new->i.attr.state);
}

void op_inode(struct store *s, const struct record *old, const struct record *new)
{
	struct ikey before, after;
	check(old || new);
	uint64_t ino = new ? new->i.attr.ino : old->i.attr.ino;
	struct ikey k = ikey_ino(ino);

	before = queue_key(old), after = queue_key(new);
	op_move_key(s, TABLE_QUEUE, &before, &after);
	before = evict_key(old), after = evict_key(new);
	op_move_key(s, TABLE_EVICT, &before, &after);
	before = object_key(old), after = object_key(new);
	op_move_key(s, TABLE_OBJECT_KEY, &before, &after);
	op_folder(s, old, new);
	op_tally(s, old, new);
	if (new) {
		cleanup_buf struct buf b = { 0 };
		int r = record_encode(new, &b);
		op_put(s, TABLE_INODE, &k, b.data, b.len);
		if (is_milestone(old, new))
			op_witness_put(s, TABLE_INODE, &k, b.data, b.len);
		if (r < 0 && !s->op.list.error)
			s->op.list.error = r; /* op_commit returns it */
	} else {
		op_del(s, TABLE_INODE, &k);
		op_witness_del(s, TABLE_INODE, &k);
	}
	struct store_change change = { .ino = ino,
		.parent = (new ? new : old)->i.attr.parent,
		.from = old ? old->i.attr.state : FILE_NONE,
		.to = new ? new->i.attr.state : FILE_NONE };
	op_tell(s, &change);
}

void op_chunk(struct store *s, uint64_t ino, uint64_t n, const struct chunk_record *c)
{
	struct ikey k = ikey_chunk(ino, n);
	if (!c->absent && !c->filled && !c->has_crc && !c->part_attempt) {
		op_del(s, TABLE_CHUNK, &k);
		return;
	}
	cleanup_buf struct buf b = { 0 };
	int r = chunk_encode(c, &b);
	op_put(s, TABLE_CHUNK, &k, b.data, b.len);
	if (c->has_crc && !c->absent)
		op_witness_put(s, TABLE_CHUNK, &k, b.data, b.len);
	if (r < 0 && !s->op.list.error)
		s->op.list.error = r;
}

bool object_has_version(const struct store_inode *i)
{
	return i->object.key[0] &&
		(i->object.generation == i->attr.generation || (i->attr.flags & STORE_FLAG_FOREIGN));
}

bool is_suspect(struct store *s, uint64_t ino)
{
	struct ikey k = ikey_ino(ino);
	struct bytes v;
	int r = index_get(&s->index, TABLE_UNSYNCED, &k, &v);
	return r == 0 ? v.len == 9 && ((const uint8_t *)v.data)[8] : r != -ENOENT;
}

/* From this record on the file's bytes are only in the page cache. What a failed sync made suspect
 * stays so: a change may have touched other chunks. */
void op_unsynced(struct store *s, uint64_t ino)
{
	uint8_t value[9] = { 0 };
	struct ikey k = ikey_ino(ino);
	put_le64(value, s->journal.next_number);
	value[8] = is_suspect(s, ino);
	op_put(s, TABLE_UNSYNCED, &k, value, sizeof(value));
	if (s->flush_due_ms == 0)
		s->flush_due_ms = clock_mono_ms() + s->flush_ms;
}

void op_stray(
	struct store *s, const struct store_object *object, int64_t due_at_ns, uint32_t flags)
{
	int64_t now = clock_wall_ns();
	struct record r = { .since_ns = now };
	uint64_t ino = s->next_ino++;
	op_meta_u64(s, "next-ino", s->next_ino);
	r.i.attr = (struct store_attr){ .ino = ino, .parent = STORE_ROOT_INO, .type = STORE_FILE,
		.state = FILE_DELETING, .flags = STORE_FLAG_UNLINKED | flags, .size_bytes = object->size_bytes,
		.ctime_ns = now, .generation = object->generation };
	r.i.part_size_bytes = s->part_size_bytes;
	r.i.due_at_ns = due_at_ns;
	r.i.object = *object;
	struct ikey k = ikey_ino(ino);
	op_put(s, TABLE_GRAVE, &k, object->key, strlen(object->key));
	op_inode(s, NULL, &r);
}

/* ---- paths --------------------------------------------------------------------------------------------- */

#define PATH_DEPTH_MAX 512

static int grave_path(struct store *s, uint64_t ino, struct buf *out)
{
	struct ikey k = ikey_ino(ino);
	struct bytes v;
	int r = index_get(&s->index, TABLE_GRAVE, &k, &v);
	if (r < 0)
		return r;
	buf_add(out, v.data, v.len);
	return buf_error(out);
}

int path_get(struct store *s, uint64_t ino, struct buf *out)
{
	struct record *r = malloc(sizeof(*r));
	cleanup_free struct record *free_it = r;
	cleanup_buf struct buf reversed = { 0 };
	if (!free_it)
		return -ENOMEM;
	size_t starts[PATH_DEPTH_MAX];
	unsigned depth = 0;
	while (ino != STORE_ROOT_INO) {
		int e = record_get(s, ino, r);
		if (e < 0)
			return e;
		if (r->i.attr.flags & (STORE_FLAG_UNLINKED | STORE_FLAG_FOREIGN))
			return depth ? -ENOENT : r->i.attr.flags & STORE_FLAG_FOREIGN
				? (buf_add_text(out, r->i.object.key), buf_error(out))
				: grave_path(s, ino, out);
		if (depth == PATH_DEPTH_MAX)
			return -ENAMETOOLONG;
		starts[depth++] = reversed.len;
		buf_add(&reversed, r->i.name, strlen(r->i.name) + 1);
		ino = r->i.attr.parent;
	}
	int e = buf_error(&reversed);
	while (e == 0 && depth--) {
		buf_add_text(out, reversed.data + starts[depth]);
		if (depth)
			buf_add_char(out, '/');
	}
	return e < 0 ? e : buf_error(out);
}
