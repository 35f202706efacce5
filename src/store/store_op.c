/*
 * store_op - one operation: a list of primitive changes, first in the journal, then in the index.
 *
 *   PUT    1 table klen(2) vlen(4) key value
 *   DEL    2 table klen(2) vlen(4)=0 key
 *   COUNT  3 0 0(2) 25(4) folder(8) slot(1) files(8) bytes(8)
 *
 * COUNT adds to a slot of the folder and of all folders above it, as the index shows them at that point
 * of the list. Replay is exact because the index remembers the last record it holds.
 */
#include "store_private.h"

#define JOURNAL_HEADER_ROOM JOURNAL_HEADER_BYTES
#define COUNT_BYTES 25
#define DEPTH_MAX 4096

/* ---- building --------------------------------------------------------------------------------------- */

void op_begin(struct store *s)
{
	static const char room[JOURNAL_HEADER_ROOM];
	lock_assert_held(&s->lock);
	buf_clear(&s->op.list);
	buf_add(&s->op.list, room, sizeof(room));
	buf_clear(&s->op.witness);
}

void op_fail(struct store *s, int error)
{
	if (!s->op.list.error)
		s->op.list.error = error;
}

static void list_add(struct buf *list, enum primitive_kind kind, enum table t, struct bytes key,
	struct bytes value)
{
	uint8_t head[8] = { (uint8_t)kind, (uint8_t)t };
	head[2] = key.len & 0xff;
	head[3] = (key.len >> 8) & 0xff;
	put_le32(head + 4, (uint32_t)value.len);
	buf_add(list, head, sizeof(head));
	buf_add(list, key.data, key.len);
	buf_add(list, value.data, value.len);
}

void op_list_put(struct buf *list, enum table t, struct bytes key, struct bytes value)
{
	list_add(list, PRIMITIVE_PUT, t, key, value);
}

/* What is always noted in the witness too; inodes and chunks are where it matters. */
bool op_is_witnessed(enum table t)
{
	return t == TABLE_XATTR || t == TABLE_SETTING || t == TABLE_JOB;
}

void op_witness_put(struct store *s, enum table t, const struct ikey *k, const void *value, size_t len)
{
	list_add(&s->op.witness, PRIMITIVE_PUT, t, (struct bytes){ k->data, k->len },
		(struct bytes){ value, len });
}

void op_witness_del(struct store *s, enum table t, const struct ikey *k)
{
	list_add(&s->op.witness, PRIMITIVE_DEL, t, (struct bytes){ k->data, k->len },
		(struct bytes){ 0 });
}

void op_put(struct store *s, enum table t, const struct ikey *k, const void *value, size_t len)
{
	list_add(&s->op.list, PRIMITIVE_PUT, t, (struct bytes){ k->data, k->len },
		(struct bytes){ value, len });
	if (op_is_witnessed(t))
		op_witness_put(s, t, k, value, len);
}

void op_del(struct store *s, enum table t, const struct ikey *k)
{
	list_add(&s->op.list, PRIMITIVE_DEL, t, (struct bytes){ k->data, k->len },
		(struct bytes){ 0 });
	if (op_is_witnessed(t))
		op_witness_del(s, t, k);
}

void op_count(struct store *s, uint64_t dir_ino, unsigned slot, int64_t files, int64_t bytes)
{
	uint8_t value[COUNT_BYTES];
	if (files == 0 && bytes == 0)
		return;
	put_le64(value, dir_ino);
	value[8] = (uint8_t)slot;
	put_le64(value + 9, (uint64_t)files);
	put_le64(value + 17, (uint64_t)bytes);
	list_add(&s->op.list, PRIMITIVE_COUNT, 0, (struct bytes){ 0 },
		(struct bytes){ value, sizeof(value) });
}

void op_tell(struct store *s, const struct store_change *change)
{
	if (s->op.told_count < OP_CHANGES_MAX)
		s->op.told[s->op.told_count++] = *change;
}

void op_meta_u64(struct store *s, const char *name, uint64_t value)
{
	uint8_t bytes[8];
	struct ikey k = ikey_text(name);
	put_le64(bytes, value);
	op_put(s, TABLE_META, &k, bytes, sizeof(bytes));
}

int meta_get_u64(struct index *x, const char *name, uint64_t *ret)
{
	struct ikey k = ikey_text(name);
	struct bytes v;
	int r = index_get(x, TABLE_META, &k, &v);
	if (r < 0)
		return r;
	if (v.len != 8)
		return -EUCLEAN;
	*ret = get_le64(v.data);
	return 0;
}

int meta_put_u64(struct index *x, const char *name, uint64_t value)
{
	uint8_t bytes[8];
	struct ikey k = ikey_text(name);
	put_le64(bytes, value);
	return index_put(x, TABLE_META, (struct bytes){ k.data, k.len },
		(struct bytes){ bytes, sizeof(bytes) });
}

int meta_get_text(struct index *x, const char *name, char *out, size_t size)
{
	struct ikey k = ikey_text(name);
	struct bytes v;
	int r = index_get(x, TABLE_META, &k, &v);
	if (r < 0)
		return r;
	if (v.len >= size)
		return -EUCLEAN;
	memcpy(out, v.data, v.len);
	out[v.len] = '\0';
	return 0;
}

/* ---- applying --------------------------------------------------------------------------------------- */

static int count_add(struct index *x, uint64_t ino, uint8_t slot, int64_t files, int64_t bytes)
{
	struct ikey k = ikey_count(ino, slot);
	struct bytes v;
	int64_t now[2] = { 0, 0 };
	int r = index_get(x, TABLE_COUNT, &k, &v);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && v.len == 16) {
		now[0] = (int64_t)get_le64(v.data);
		now[1] = (int64_t)get_le64((const uint8_t *)v.data + 8);
	}
	if (__builtin_add_overflow(now[0], files, &now[0]) ||
		__builtin_add_overflow(now[1], bytes, &now[1]))
		return -EUCLEAN;
	if (now[0] == 0 && now[1] == 0)
		return index_del(x, TABLE_COUNT, (struct bytes){ k.data, k.len });
	uint8_t out[16];
	put_le64(out, (uint64_t)now[0]);
	put_le64(out + 8, (uint64_t)now[1]);
	return index_put(
		x, TABLE_COUNT, (struct bytes){ k.data, k.len }, (struct bytes){ out, sizeof(out) });
}

/* The parent stands behind the version byte of an inode record. */
static int parent_of(struct index *x, uint64_t ino, uint64_t *ret)
{
	struct ikey k = ikey_ino(ino);
	struct bytes v;
	int r = index_get(x, TABLE_INODE, &k, &v);
	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	if (v.len < 9)
		return -EUCLEAN;
	*ret = get_le64((const uint8_t *)v.data + 1);
	return 0;
}

int count_apply(struct index *x, uint64_t ino, uint8_t slot, int64_t files, int64_t bytes)
{
	for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
		int r = count_add(x, ino, slot, files, bytes);
		if (r < 0 || ino == STORE_ROOT_INO)
			return r;
		r = parent_of(x, ino, &ino);
		if (r < 0)
			return r;
	}
	return -EUCLEAN;
}

static int apply_count(struct index *x, const uint8_t *value)
{
	return count_apply(x, get_le64(value), value[8], (int64_t)get_le64(value + 9),
		(int64_t)get_le64(value + 17));
}

int op_list_next(const uint8_t **at, size_t *left, struct primitive *ret)
{
	const uint8_t *p = *at;
	if (*left < 8)
		return -EUCLEAN;
	size_t key_len = p[2] | (size_t)p[3] << 8, value_len = get_le32(p + 4);
	if (*left - 8 < key_len || *left - 8 - key_len < value_len || p[1] >= TABLE_COUNT_OF)
		return -EUCLEAN;
	if (p[0] < PRIMITIVE_PUT || p[0] > PRIMITIVE_COUNT || (key_len == 0) != (p[0] == PRIMITIVE_COUNT))
		return -EUCLEAN;
	*ret = (struct primitive){ .kind = (enum primitive_kind)p[0],
		.table = (enum table)p[1],
		.key = { p + 8, key_len },
		.value = { p + 8 + key_len, value_len } };
	*at += 8 + key_len + value_len;
	*left -= 8 + key_len + value_len;
	return 0;
}

static int apply_one(struct index *x, const struct primitive *p)
{
	switch (p->kind) {
	case PRIMITIVE_PUT:
		return index_put(x, p->table, p->key, p->value);
	case PRIMITIVE_DEL:
		return index_del(x, p->table, p->key);
	case PRIMITIVE_COUNT:
		return p->value.len == COUNT_BYTES ? apply_count(x, p->value.data) : -EUCLEAN;
	}
	return -EUCLEAN;
}

int op_apply(struct index *x, const void *list, size_t len)
{
	const uint8_t *at = list;
	while (len) {
		struct primitive p;
		int r = op_list_next(&at, &len, &p);
		if (r == 0)
			r = apply_one(x, &p);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- committing an operation --------------------------------------------------------------------------- */

static int replay_one(void *user, uint64_t number, const void *payload, size_t len)
{
	return op_apply(user, payload, len);
}

/* Bring the index from its last commit to the journal's end; a full map grows on the way. */
int index_replay(struct store *s)
{
	for (unsigned tries = 0; tries < 16; tries++) {
		struct journal from_start = s->journal;
		uint64_t number = 0, count;
		int r = s->index.txn ? 0 : index_begin(&s->index);
		if (r == 0)
			r = meta_get_u64(&s->index, "number", &number);
		if (r == 0)
			r = journal_replay(&from_start, s->journal.epoch, number + 1, replay_one, &s->index,
				&count);
		if (r == 0)
			r = index_upgrade(&s->index); /* it was not committed yet */
		if (r == 0)
			return from_start.next_number >= s->journal.next_number ? 0 : -EIO;
		index_abort(&s->index);
		if (r != -E2BIG)
			return r;
		r = index_grow(&s->index);
		if (r < 0)
			return r;
	}
	return -ENOSPC;
}

/* The record is in the journal, so it must come true; or be taken back, as if it never had been: else nothing
 * more may happen. What is damaged in the index stops those operations only that meet it. */
static int repair_apply(struct store *s, int error, size_t len)
{
	index_abort(&s->index);
	int r = error == -E2BIG ? index_grow(&s->index) : 0;
	if (r == 0)
		r = index_replay(s);
	if (r == 0)
		return 0;
	journal_take_back(&s->journal, len);
	s->failed = index_replay(s);
	return r;
}

static int append(struct store *s)
{
	const struct buf *list = &s->op.list;
	const uint8_t *payload = (const uint8_t *)list->data + JOURNAL_HEADER_ROOM;
	size_t len = list->len - JOURNAL_HEADER_ROOM;
	int r = journal_append(&s->journal, payload, len);
	if (r == -ENOSPC || r == -EIO) { /* perhaps at the front there is room */
		int error = r;
		if (checkpoint_locked(s) == 0)
			r = journal_append(&s->journal, payload, len);
		if (r == 0)
			disk_note(s, error, "the journal took no record; it was begun anew, nothing is lost");
	}
	return r;
}

int op_commit(struct store *s)
{
	lock_assert_held(&s->lock);
	if (s->failed)
		return s->failed;
	int r = buf_error(&s->op.list);
	if (r == 0 && s->op.list.len > JOURNAL_HEADER_ROOM)
		r = append(s);
	if (r < 0)
		return r;
	size_t len = s->op.list.len - JOURNAL_HEADER_ROOM;
	r = op_apply(&s->index, s->op.list.data + JOURNAL_HEADER_ROOM, len);
	if (r < 0)
		r = repair_apply(s, r, len);
	if (r == 0)
		witness_note(s, s->journal.next_number - 1, s->op.witness.data, s->op.witness.len);
	s->ops_since_commit++;
	s->last_change_ms = clock_mono_ms();
	return r;
}

/* ---- the lock around it all ------------------------------------------------------------------------------ */

void store_enter(struct store *s)
{
	lock_take(&s->lock);
	s->op.told_count = 0;
}

void store_leave(struct store *s, struct news *news)
{
	if (news)
		for (size_t i = 0; i < s->op.told_count && news->count < OP_CHANGES_MAX; i++)
			news->told[news->count++] = s->op.told[i];
	lock_drop(&s->lock);
}

void news_fire(struct store *s, const struct news *news)
{
	for (size_t n = 0; n < s->subscriber_count; n++) {
		const struct store_events *e = &s->subscribers[n];
		for (size_t i = 0; e->changed && i < news->count; i++)
			e->changed(e->user, &news->told[i]);
		if (e->room_freed && news->room_freed)
			e->room_freed(e->user);
		if (e->growing && news->growing)
			e->growing(e->user);
	}
}
