/*
 * store_version - a closed version on its way: its bytes, its digests, its state.
 */
#include "store_private.h"

#include <fcntl.h>
#include <sys/stat.h>

/* Own descriptor, own offset, read-only. */
static int open_data(struct store_file *f, int *ret_fd)
{
	char path[64];
	data_path(f->ino, path);
	return io_openat(f->store->dir_fd, path, O_RDONLY | O_NOFOLLOW, 0, ret_fd);
}

int store_version_open(struct store *s, uint64_t ino, uint64_t generation, int *ret_fd)
{
	struct news news = { 0 };
	cleanup_store_file struct store_file *f = NULL;
	int r = file_get(s, ino, &f);
	if (r < 0)
		return r;
	lock_take(&f->lock);
	struct stat st;
	cleanup_fd int fd = -1;
	if (f->dirty || f->generation != generation)
		r = -ESTALE;
	else if (f->absent_count)
		r = -EREMOTE;
	if (r == 0) {
		r = file_fd(f, true);
		if (r == 0)
			r = open_data(f, &fd);
		if (r == 0 && fstat(fd, &st) < 0)
			r = -errno;
		if (r == 0 && (uint64_t)st.st_size < atomic_load(&f->size_bytes))
			r = -ENODATA;
	}
	if (r == -ENODATA || r == -ENOENT) {
		r = file_mark_lost(f, &news);
		r = r == -EREMOTE ? r : -ENODATA;
	}
	lock_drop(&f->lock);
	news_fire(s, &news);
	if (r == 0)
		*ret_fd = steal_fd(&fd);
	if (r < 0 && r != -ESTALE && r != -EREMOTE && r != -ENODATA) {
		with_lock(&s->lock);
		disk_note(s, r, "a file could not be opened to be sent or compared; it is tried again");
	}
	return r;
}

bool store_version_is(struct store *s, uint64_t ino, uint64_t generation)
{
	struct record r;
	with_lock(&s->lock);
	return record_get(s, ino, &r) == 0 && r.i.attr.generation == generation &&
		r.i.attr.state != FILE_OPEN;
}

int store_version_digested(struct store *s, uint64_t ino, uint64_t generation, const uint64_t *crcs,
	size_t count, enum file_state to, const char *reason)
{
	struct news news = { 0 };
	cleanup_store_file struct store_file *f = NULL;
	int r = file_get(s, ino, &f);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	lock_take(&f->lock);
	store_enter(s);
	struct record old;
	r = record_get(s, ino, &old);
	if (r == 0 && (f->dirty || old.i.attr.generation != generation ||
			      old.i.attr.state != FILE_SETTLED))
		r = -ESTALE;
	if (r == 0 && count != old.i.chunk_count)
		r = -EINVAL;
	if (r == 0) {
		struct record new = old;
		struct store_transition t = { .to = to, .reason = reason };
		record_transition(&new, &t);
		new.i.attr.flags &= ~STORE_FLAG_UNPROVED;
		if (to == FILE_UPLOADED)
			new.i.object.generation = generation; /* its object holds this version too */
		op_begin(s);
		for (uint64_t n = 0; n < count; n++) {
			struct chunk_record c;
			r = chunk_get(s, ino, n, &c);
			if (r < 0)
				break;
			if (!c.has_crc || c.crc64nvme != crcs[n]) {
				c.part_attempt = 0;
				c.part_etag[0] = '\0';
			}
			c.has_crc = true;
			c.crc64nvme = crcs[n];
			op_chunk(s, ino, n, &c);
		}
		op_inode(s, &old, &new);
		if (r == 0)
			r = op_commit(s);
	}
	store_leave(s, &news);
	for (uint64_t n = 0; r == 0 && n < count; n++)
		bit_set(f->recorded, n, true);
	lock_drop(&f->lock);
	news_fire(s, &news);
	return r;
}

static int state_set_locked(struct store *s, const struct store_transition *t,
	const struct store_object *object, bool adopted)
{
	struct record old;
	int r = record_get(s, t->ino, &old);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (old.i.attr.generation != t->generation || old.i.attr.state != t->from)
		return -ESTALE;
	if (names_changed(s, t->names))
		return -EAGAIN;
	struct store_file *f = file_find_held(s, t->ino);
	bool lent = f && atomic_load(&f->is_lent);
	if (lent && t->to != FILE_CLOSED && t->to != FILE_INCOMPLETE)
		return -ESTALE; /* it may be changing */
	struct record new = old;
	op_begin(s);
	new.i.attr.flags &= lent ? UINT32_MAX : ~STORE_FLAG_LENT;
	record_transition(&new, t);
	if (object) {
		if (old.i.object.key[0] && strcmp(old.i.object.key, object->key) != 0)
			op_stray(s, &old.i.object, clock_wall_ns(), 0);
		new.i.object = *object;
		op_claims_void(s, object->key, t->ino);
	}
	if (adopted)
		new.i.attr.flags |= STORE_FLAG_ADOPTED;
	op_inode(s, &old, &new);
	return op_commit(s);
}

static int state_set(struct store *s, const struct store_transition *t,
	const struct store_object *object, bool adopted)
{
	struct news news = { 0 };
	check(file_state_may_follow(t->from, t->to));
	int r = t->from == FILE_INCOMPLETE ? lent_before_state(s, t->ino) : 0;
	if (r < 0)
		return r;
	store_enter(s);
	r = state_set_locked(s, t, object, adopted);
	store_leave(s, &news);
	if (r == 0)
		space_wake(s);
	news_fire(s, &news);
	return r;
}

int store_state_set(struct store *s, const struct store_transition *t)
{
	return state_set(s, t, NULL, false);
}

int store_object_set(struct store *s, const struct store_transition *t,
	const struct store_object *object, bool adopted)
{
	return state_set(s, t, object, adopted);
}

/* ---- queues and counts ------------------------------------------------------------------------------------ */

int store_queue(struct store *s, enum file_state state, const struct store_queue_item *after,
	struct store_queue_item *out, size_t max)
{
	struct ikey from = after ? ikey_queue((uint8_t)state, after->order, after->ino)
				 : ikey_queue((uint8_t)state, 0, 0);
	with_lock(&s->lock);
	cleanup_cursor struct index_cursor c;
	size_t count = 0;
	int r = index_seek(&s->index, TABLE_QUEUE, &from, after != NULL, &c);
	for (; r == 0 && count < max && c.key.len == 17; r = index_next(&c)) {
		const uint8_t *key = c.key.data;
		if (key[0] != (uint8_t)state)
			break;
		out[count].order = get_be64(key + 1);
		out[count++].ino = get_be64(key + 9);
	}
	return r < 0 && r != -ENOENT ? r : (int)count;
}

/* None where none was ever counted; what cannot be read is not none. */
static int count_get(
	struct store *s, uint64_t ino, unsigned slot, uint64_t *ret_files, uint64_t *ret_bytes)
{
	struct ikey k = ikey_count(ino, (uint8_t)slot);
	struct bytes v;
	int r = index_get(&s->index, TABLE_COUNT, &k, &v);
	if (r == 0 && v.len != 16)
		r = -EUCLEAN;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (ret_files)
		*ret_files = get_le64(v.data);
	if (ret_bytes)
		*ret_bytes = get_le64((const uint8_t *)v.data + 8);
	return 0;
}

uint64_t root_slot_bytes(struct store *s, unsigned slot)
{
	uint64_t bytes = 0;
	with_lock(&s->lock);
	if (count_get(s, STORE_ROOT_INO, slot, NULL, &bytes) < 0)
		(void)0; /* for the room that is shown; who decides by it asks store_counts */
	return bytes;
}

int store_counts(struct store *s, uint64_t ino, struct store_counts *ret)
{
	struct record r;
	with_lock(&s->lock);
	int e = record_get(s, ino, &r);
	if (e < 0)
		return e;
	*ret = (struct store_counts){ 0 };
	if (r.i.attr.type == STORE_FILE) {
		ret->files[r.i.attr.state] = r.i.attr.state != FILE_NONE;
		ret->bytes[r.i.attr.state] = r.i.attr.state != FILE_NONE ? r.i.attr.size_bytes : 0;
		ret->held[r.i.held] = r.i.attr.state == FILE_HELD;
		return 0;
	}
	for (unsigned slot = FILE_NONE + 1; e == 0 && slot < FILE_STATE_COUNT; slot++)
		e = count_get(s, ino, slot, &ret->files[slot], &ret->bytes[slot]);
	for (unsigned kind = HELD_NOT + 1; e == 0 && kind < HELD_KIND_COUNT; kind++)
		e = count_get(s, ino, SLOT_HELD_FIRST + kind, &ret->held[kind], NULL);
	return e < 0 ? e : count_get(s, ino, SLOT_FOREIGN, &ret->foreign_files, NULL);
}
