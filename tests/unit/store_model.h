/*
 * store_model - a plain tree in memory that says what the store must show, and random steps that are
 *               made on both. A seed repeats them; one step is one call that must be all or nothing
 *               under kill -9 (a write may be done in part).
 *
 * Steps are chosen from the model alone, so a parent can follow a killed child without the store.
 */
#pragma once

#ifndef SCRATCH_ON_DISK
#error "it zeroes ranges: scratch.h"
#endif
#include "store_rig.h"

#include <linux/falloc.h>

#define M_NODES 40
#define M_ROOT 0
#define M_SIZE_MAX 20000
#define M_HANDLES_MAX 3

struct m_node {
	bool used, is_dir, unlinked;
	int parent;
	char name[12];
	uint32_t mode;
	/* files */
	enum file_state state;
	size_t size;
	uint8_t data[M_SIZE_MAX];
	bool has_object, attempt;
	char object_path[256], attempt_path[256];
	int64_t mtime_s; /* 0: not set by a step */
	unsigned writers;
	/* what the child knows */
	uint64_t ino;
	struct store_file *file;
};

struct model {
	uint64_t seed;
	uint64_t deleting; /* records of objects to delete */
	struct m_node node[M_NODES];
};

enum m_kind {
	M_NOTHING,
	M_MKDIR,
	M_CREATE,
	M_OPEN,
	M_CLOSE,
	M_WRITE,
	M_APPEND,
	M_TRUNCATE,
	M_ZERO,
	M_FLUSH,
	M_RENAME,
	M_UNLINK,
	M_RMDIR,
	M_CHMOD,
	M_UTIME,
	M_ADVANCE,
	M_EVICT,
	M_CHECKPOINT,
	M_FLUSH_ALL,
};

struct m_op {
	enum m_kind kind;
	int node, dir;
	char name[12];
	size_t off, len;
	unsigned value;
};

/* ---- looking into the model -------------------------------------------------------------------------------- */

static inline int m_find(const struct model *m, int dir, const char *name)
{
	for (int i = 1; i < M_NODES; i++)
		if (m->node[i].used && !m->node[i].unlinked && m->node[i].parent == dir &&
			strcmp(m->node[i].name, name) == 0)
			return i;
	return -1;
}

static inline bool m_is_empty(const struct model *m, int dir)
{
	for (int i = 1; i < M_NODES; i++)
		if (m->node[i].used && !m->node[i].unlinked && m->node[i].parent == dir)
			return false;
	return true;
}

static inline bool m_is_below(const struct model *m, int node, int top)
{
	for (; node != M_ROOT; node = m->node[node].parent)
		if (node == top)
			return true;
	return top == M_ROOT;
}

static inline void m_path(const struct model *m, int node, char out[256])
{
	char rest[256];

	out[0] = '\0';
	for (; node != M_ROOT; node = m->node[node].parent) {
		snprintf(rest, sizeof(rest), "%s%s%.200s", m->node[node].name, out[0] ? "/" : "", out);
		memcpy(out, rest, 256);
	}
}

static inline int m_free_node(const struct model *m)
{
	for (int i = 1; i < M_NODES; i++)
		if (!m->node[i].used)
			return i;
	return -1;
}

static inline void m_init(struct model *m, uint64_t seed)
{
	memset(m, 0, sizeof(*m));
	m->seed = seed;
	m->node[M_ROOT] = (struct m_node){
		.used = true, .is_dir = true, .mode = 0755, .ino = STORE_ROOT_INO};
}

/* ---- choosing a step --------------------------------------------------------------------------------------- */

static inline int m_pick(struct model *m, bool dirs)
{
	for (int tries = 0; tries < 20; tries++) {
		int i = (int)(rig_random(&m->seed) % M_NODES);

		if (m->node[i].used && m->node[i].is_dir == dirs)
			return i;
	}
	return dirs ? M_ROOT : -1;
}

static inline enum m_kind m_roll(struct model *m)
{
	static const struct {
		enum m_kind kind;
		unsigned weight;
	} table[] = {{M_MKDIR, 3}, {M_CREATE, 10}, {M_OPEN, 6}, {M_CLOSE, 12}, {M_WRITE, 14},
		{M_APPEND, 5}, {M_TRUNCATE, 5}, {M_ZERO, 3}, {M_FLUSH, 10}, {M_RENAME, 8},
		{M_UNLINK, 4}, {M_RMDIR, 2}, {M_CHMOD, 2}, {M_UTIME, 3}, {M_ADVANCE, 26},
		{M_EVICT, 1}, {M_CHECKPOINT, 1}, {M_FLUSH_ALL, 1}};
	unsigned total = 0, roll;

	for (size_t i = 0; i < array_len(table); i++)
		total += table[i].weight;
	roll = (unsigned)(rig_random(&m->seed) % total);
	for (size_t i = 0; i < array_len(table); i++) {
		if (roll < table[i].weight)
			return table[i].kind;
		roll -= table[i].weight;
	}
	return M_NOTHING;
}

static inline bool m_may_write(const struct m_node *n)
{
	return n->writers > 0 && !(n->unlinked && (n->has_object || n->attempt));
}

/* Steps that speak of op->node. */
static inline bool m_node_op_fits(const struct model *m, const struct m_op *op)
{
	const struct m_node *n = &m->node[op->node];
	int target;

	switch (op->kind) {
	case M_OPEN:
		return !n->is_dir && !n->unlinked && n->writers < M_HANDLES_MAX;
	case M_CLOSE: /* the kernel flushes before it releases */
		return n->writers > 0 && n->state != FILE_OPEN;
	case M_WRITE:
	case M_APPEND:
	case M_TRUNCATE:
	case M_ZERO:
	case M_FLUSH:
		return m_may_write(n);
	case M_RENAME: /* the kernel refuses an ancestor as target by itself */
		target = m_find(m, op->dir, op->name);
		return !n->unlinked && (target < 0 || !m_is_below(m, op->node, target));
	case M_CHMOD:
		return !n->unlinked;
	case M_UTIME:
	case M_ADVANCE:
		return !n->unlinked && !n->is_dir;
	case M_NOTHING:
	case M_MKDIR:
	case M_CREATE:
	case M_UNLINK:
	case M_RMDIR:
	case M_EVICT:
	case M_CHECKPOINT:
	case M_FLUSH_ALL:
		break;
	}
	return false;
}

static inline bool m_op_fits(const struct model *m, const struct m_op *op)
{
	if (op->kind == M_MKDIR)
		return m_free_node(m) > 0 && m_free_node(m) < M_NODES / 2;
	if (op->kind == M_CREATE)
		return m_free_node(m) > 0;
	if (op->kind == M_RMDIR)
		return op->dir != M_ROOT;
	if (op->kind == M_NOTHING || op->kind == M_UNLINK || op->kind == M_EVICT ||
		op->kind == M_CHECKPOINT || op->kind == M_FLUSH_ALL)
		return true;
	return op->node > 0 && m_node_op_fits(m, op);
}

static inline struct m_op m_next(struct model *m)
{
	for (;;) {
		struct m_op op = {.kind = m_roll(m)};
		bool wants_dir = op.kind == M_RENAME || op.kind == M_CHMOD
					 ? rig_random(&m->seed) % 4 == 0
					 : false;

		op.node = m_pick(m, wants_dir);
		op.dir = m_pick(m, true);
		snprintf(op.name, sizeof(op.name), "n%u", (unsigned)(rig_random(&m->seed) % 12));
		op.off = rig_random(&m->seed) % (M_SIZE_MAX / 2);
		op.len = 1 + rig_random(&m->seed) % (M_SIZE_MAX / 2 - 1);
		op.value = (unsigned)(rig_random(&m->seed) % 256);
		if (m_op_fits(m, &op))
			return op;
	}
}

/* ---- what a step does, in the model ----------------------------------------------------------------------- */

static inline void m_gone(struct model *m, int i)
{
	struct m_node *n = &m->node[i];

	if (n->unlinked && n->writers == 0)
		memset(n, 0, sizeof(*n));
}

static inline void m_unlink(struct model *m, int i)
{
	struct m_node *n = &m->node[i];

	n->unlinked = true;
	if (n->has_object || n->attempt)
		m->deleting++;
	m_gone(m, i);
}

static inline void m_first_change(struct m_node *n)
{
	n->state = FILE_OPEN;
	n->mtime_s = 0;
}

static inline int m_new(struct model *m, const struct m_op *op, bool is_dir)
{
	int i = m_free_node(m);
	struct m_node *n = &m->node[i];

	if (m_find(m, op->dir, op->name) >= 0)
		return -EEXIST;
	*n = (struct m_node){.used = true,
		.is_dir = is_dir,
		.parent = op->dir,
		.mode = is_dir ? 0755 : 0644,
		.state = is_dir ? FILE_NONE : FILE_OPEN,
		.writers = is_dir ? 0 : 1};
	memcpy(n->name, op->name, sizeof(n->name));
	return 0;
}

static inline void m_write(struct m_node *n, size_t off, size_t len, unsigned seed)
{
	if (off + len > M_SIZE_MAX)
		len = M_SIZE_MAX - off;
	if (off > n->size)
		memset(n->data + n->size, 0, off - n->size);
	rig_pattern(n->data + off, len, off, seed);
	if (off + len > n->size)
		n->size = off + len;
	m_first_change(n);
}

static inline void m_truncate(struct m_node *n, size_t size)
{
	if (size > n->size)
		memset(n->data + n->size, 0, size - n->size);
	n->size = size;
	m_first_change(n);
}

static inline void m_renamed(struct m_node *n)
{
	switch (n->state) {
	case FILE_CLOSED:
	case FILE_SETTLED:
	case FILE_QUEUED:
	case FILE_HELD:
	case FILE_FAILED:
	case FILE_CONFLICT:
		n->state = FILE_CLOSED;
		break;
	case FILE_UPLOADED:
	case FILE_VERIFIED:
	case FILE_GONE:
		n->state = FILE_MOVING;
		break;
	case FILE_NONE:
	case FILE_OPEN:
	case FILE_SENDING:
	case FILE_INCOMPLETE:
	case FILE_TORN:
	case FILE_LOST:
	case FILE_UNKNOWN:
	case FILE_MOVING:
	case FILE_DELETING:
	case FILE_STATE_COUNT:
		break;
	}
}

static inline int m_rename(struct model *m, const struct m_op *op)
{
	struct m_node *n = &m->node[op->node];
	int target = m_find(m, op->dir, op->name);
	bool noreplace = op->value % 4 == 0;

	if (target >= 0 && noreplace)
		return -EEXIST;
	if (target == op->node)
		return 0;
	if (n->is_dir && m_is_below(m, op->dir, op->node))
		return -EINVAL;
	if (target >= 0 && n->is_dir != m->node[target].is_dir)
		return n->is_dir ? -ENOTDIR : -EISDIR;
	if (target >= 0 && n->is_dir && !m_is_empty(m, target))
		return -ENOTEMPTY;
	if (target >= 0 && n->is_dir)
		memset(&m->node[target], 0, sizeof(m->node[target]));
	else if (target >= 0)
		m_unlink(m, target);
	n->parent = op->dir;
	memcpy(n->name, op->name, sizeof(n->name));
	if (!n->is_dir)
		m_renamed(n);
	return 0;
}

/* What ADVANCE does with a file, from the model alone. */
enum m_advance {
	M_STAY,
	M_SETTLE,
	M_DIGEST,
	M_SEND,
	M_END,    /* the attempt's outcome applies */
	M_ABANDON, /* it does not: another key or version by now */
	M_VERIFY,
	M_MOVE,
	M_REOPEN, /* back to closed */
};

/* Is what the bucket holds under this path another file's, which has to move first? */
static inline bool m_is_needed(const struct model *m, int but, const char *path)
{
	for (int i = 1; i < M_NODES; i++) {
		const struct m_node *n = &m->node[i];

		if (i != but && n->used && !n->unlinked && n->has_object &&
			strcmp(n->object_path, path) == 0 &&
			(n->state == FILE_UPLOADED || n->state == FILE_VERIFIED ||
				n->state == FILE_MOVING))
			return true;
	}
	return false;
}

static inline enum m_advance m_advance_of(const struct model *m, int i)
{
	const struct m_node *n = &m->node[i];
	char path[256];

	m_path(m, i, path);
	if (n->attempt && (n->state != FILE_SENDING || strcmp(path, n->attempt_path) != 0))
		return M_ABANDON;
	switch (n->state) {
	case FILE_CLOSED:
		return n->writers ? M_STAY : M_SETTLE;
	case FILE_SETTLED:
		return M_DIGEST;
	case FILE_QUEUED:
		return m_is_needed(m, i, path) ? M_STAY : M_SEND;
	case FILE_SENDING:
		return M_END;
	case FILE_UPLOADED:
		return M_VERIFY;
	case FILE_MOVING:
		return m_is_needed(m, i, path) ? M_STAY : M_MOVE;
	case FILE_INCOMPLETE:
		return M_REOPEN;
	case FILE_NONE:
	case FILE_OPEN:
	case FILE_VERIFIED:
	case FILE_HELD:
	case FILE_TORN:
	case FILE_LOST:
	case FILE_UNKNOWN:
	case FILE_CONFLICT:
	case FILE_FAILED:
	case FILE_GONE:
	case FILE_DELETING:
	case FILE_STATE_COUNT:
		break;
	}
	return M_STAY;
}

static inline void m_object(struct model *m, struct m_node *n, const char *path)
{
	if (n->has_object && strcmp(n->object_path, path) != 0)
		m->deleting++; /* the object under the old key is a stray */
	for (int i = 1; i < M_NODES; i++)
		if (m->node[i].has_object && strcmp(m->node[i].object_path, path) == 0)
			m->node[i].has_object = false; /* it was replaced */
	n->has_object = true;
	memcpy(n->object_path, path, sizeof(n->object_path));
	n->state = FILE_UPLOADED;
}

static inline void m_advance(struct model *m, int i)
{
	struct m_node *n = &m->node[i];
	char path[256];

	m_path(m, i, path);
	switch (m_advance_of(m, i)) {
	case M_STAY:
		break;
	case M_SETTLE:
		n->state = FILE_SETTLED;
		break;
	case M_DIGEST:
		n->state = FILE_QUEUED;
		break;
	case M_SEND:
		n->state = FILE_SENDING;
		n->attempt = true;
		memcpy(n->attempt_path, path, sizeof(path));
		break;
	case M_END:
		n->attempt = false;
		m_object(m, n, path);
		break;
	case M_ABANDON:
		n->attempt = false;
		if (n->state == FILE_SENDING)
			n->state = FILE_QUEUED;
		break;
	case M_VERIFY:
		n->state = FILE_VERIFIED;
		break;
	case M_MOVE:
		m_object(m, n, path);
		break;
	case M_REOPEN:
		n->state = FILE_CLOSED;
		break;
	}
}

/* The result the store must give. */
static inline int m_apply(struct model *m, const struct m_op *op)
{
	struct m_node *n = &m->node[op->node > 0 ? op->node : 0];
	int at;

	switch (op->kind) {
	case M_NOTHING:
	case M_EVICT:
	case M_CHECKPOINT:
	case M_FLUSH_ALL:
		return 0;
	case M_MKDIR:
		return m_new(m, op, true);
	case M_CREATE:
		return m_new(m, op, false);
	case M_OPEN:
		n->writers++;
		return 0;
	case M_CLOSE:
		n->writers--;
		m_gone(m, op->node);
		return 0;
	case M_WRITE:
		m_write(n, op->off, op->len, op->value);
		return 0;
	case M_APPEND:
		if (n->size + op->len <= M_SIZE_MAX)
			m_write(n, n->size, op->len, op->value);
		return 0;
	case M_TRUNCATE: /* to the size it has: no change, unless O_TRUNC of an empty file */
		if (op->off != n->size || (op->off == 0 && n->state != FILE_OPEN))
			m_truncate(n, op->off);
		return 0;
	case M_ZERO:
		m_first_change(n);
		if (op->off < n->size)
			memset(n->data + op->off, 0,
				op->len < n->size - op->off ? op->len : n->size - op->off);
		return 0;
	case M_FLUSH:
		if (n->state == FILE_OPEN)
			n->state = op->value % 16 == 0 ? FILE_INCOMPLETE : FILE_CLOSED;
		return 0;
	case M_RENAME:
		return m_rename(m, op);
	case M_UNLINK:
		at = m_find(m, op->dir, op->name);
		if (at < 0)
			return -ENOENT;
		if (m->node[at].is_dir)
			return -EISDIR;
		m_unlink(m, at);
		return 0;
	case M_RMDIR:
		if (!m_is_empty(m, op->dir))
			return -ENOTEMPTY;
		memset(&m->node[op->dir], 0, sizeof(m->node[op->dir]));
		return 0;
	case M_CHMOD:
		n->mode = op->node ? 0400 + op->value % 64 : n->mode;
		return 0;
	case M_UTIME:
		n->mtime_s = 1000 + op->value;
		return 0;
	case M_ADVANCE:
		m_advance(m, op->node);
		return 0;
	}
	return 0;
}

/* What is left when the process was killed and the store opened again. */
static inline void m_crash(struct model *m)
{
	for (int i = 1; i < M_NODES; i++) {
		struct m_node *n = &m->node[i];

		n->writers = 0;
		n->file = NULL;
		if (n->used && !n->is_dir && n->state == FILE_OPEN)
			n->state = FILE_INCOMPLETE;
		m_gone(m, i);
	}
}

/* ---- what a step does, in the store ------------------------------------------------------------------------- */

static inline void m_bind(struct rig *r, struct model *m)
{
	char path[256];

	for (int i = 1; i < M_NODES; i++) {
		if (!m->node[i].used || m->node[i].unlinked)
			continue;
		m_path(m, i, path);
		m->node[i].ino = rig_find(r, path);
	}
}

/* The chunk comes from the bucket: it holds what the file holds. */
static inline void m_fetch(struct rig *r, const struct m_node *n, uint64_t chunk)
{
	struct store_chunk c;

	must_eq(store_chunk(r->s, n->ino, chunk, &c), 0);
	must(c.start + c.len <= n->size);
	must(n->state == FILE_VERIFIED || n->state == FILE_UPLOADED || n->state == FILE_MOVING);
	must_eq(store_chunk_fill_begin(n->file, chunk), 0);
	must_eq(store_chunk_fill_write(n->file, chunk, 0, n->data + c.start, c.len), 0);
	must_eq(store_chunk_fill_end(n->file, chunk, true), 0);
}

static inline int m_change(
	struct rig *r, const struct m_node *before, const struct m_op *op, uint64_t *chunk)
{
	size_t len = op->len;
	static uint8_t data[M_SIZE_MAX];

	if (op->kind == M_TRUNCATE)
		return store_file_truncate(before->file, op->off, chunk);
	if (op->kind == M_ZERO)
		return store_file_fallocate(before->file,
			(op->value % 2 ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE) |
				FALLOC_FL_KEEP_SIZE,
			op->off, len, chunk);
	if (op->kind == M_APPEND) {
		if (before->size + len > M_SIZE_MAX)
			return 0;
		rig_pattern(data, len, before->size, op->value);
		return store_file_write(before->file, data, len, 0, true, chunk);
	}
	if (op->off + len > M_SIZE_MAX)
		len = M_SIZE_MAX - op->off;
	rig_pattern(data, len, op->off, op->value);
	return store_file_write(before->file, data, len, op->off, false, chunk);
}

static inline int m_do_change(struct rig *r, const struct m_node *before, const struct m_op *op)
{
	for (int tries = 0;; tries++) {
		uint64_t chunk = UINT64_MAX;
		int e = m_change(r, before, op, &chunk);

		if (e != -EREMOTE)
			return e;
		must(tries < 16);
		m_fetch(r, before, chunk);
	}
}

static inline void m_do_advance(struct rig *r, const struct model *before, int i)
{
	const struct m_node *n = &before->node[i];
	static struct store_attempt attempts[M_NODES * 4];
	struct store_transition t;
	struct store_object o;
	char path[256];
	bool applied;
	int count;

	m_path(before, i, path);
	switch (m_advance_of(before, i)) {
	case M_STAY:
		break;
	case M_SETTLE:
		must_eq(rig_step(r, n->ino, FILE_CLOSED, FILE_SETTLED, NULL), 0);
		break;
	case M_DIGEST:
		must_eq(rig_digest(r, n->ino, FILE_QUEUED), 0);
		break;
	case M_SEND:
		attempts[0] = rig_attempt(r, n->ino, ATTEMPT_PUT, path);
		must_eq(store_attempt_begin(r->s, &attempts[0], FILE_QUEUED), 0);
		break;
	case M_END:
	case M_ABANDON:
		count = store_attempts_of_key(
			r->s, n->attempt_path, attempts, array_len(attempts));
		while (count > 0 && attempts[count - 1].ino != n->ino)
			count--;
		must(count > 0);
		if (m_advance_of(before, i) == M_ABANDON) {
			t = rig_transition(r, n->ino, FILE_SENDING, FILE_QUEUED);
			must_eq(store_attempt_end(r->s, attempts[count - 1].id,
					n->state == FILE_SENDING ? &t : NULL, NULL, path, 0, &applied),
				0);
			break;
		}
		t = rig_transition(r, n->ino, FILE_SENDING, FILE_UPLOADED);
		o = rig_object(r, n->ino, path);
		must_eq(store_attempt_end(r->s, attempts[count - 1].id, &t, &o, path, 0, &applied), 0);
		must(applied);
		break;
	case M_VERIFY:
		rig_verify(r, n->ino);
		break;
	case M_MOVE:
		t = rig_transition(r, n->ino, FILE_MOVING, FILE_UPLOADED);
		o = rig_object(r, n->ino, path);
		must_eq(store_object_set(r->s, &t, &o, false), 0);
		break;
	case M_REOPEN:
		must_eq(rig_step(r, n->ino, FILE_INCOMPLETE, FILE_CLOSED, ""), 0);
		break;
	}
}

static inline int m_do_create(struct rig *r, struct model *m, const struct model *before,
	const struct m_op *op)
{
	struct store_create c = {.parent = before->node[op->dir].ino,
		.name = op->name,
		.type = op->kind == M_MKDIR ? STORE_DIR : STORE_FILE,
		.mode = op->kind == M_MKDIR ? 0755 : 0644};
	struct store_attr a;
	int e = store_create(r->s, &c, &a);
	struct m_node *n = &m->node[m_free_node(before)];

	if (e < 0)
		return e;
	n->ino = a.ino;
	if (op->kind == M_CREATE)
		n->file = rig_write_begin(r, a.ino);
	return 0;
}

static inline int m_do_setattr(struct rig *r, const struct m_node *n, const struct m_op *op)
{
	struct store_attr v = {.mode = n->mode, .mtime_ns = n->mtime_s * NS_PER_S}, a;

	return store_setattr(
		r->s, n->ino, op->kind == M_CHMOD ? STORE_SET_MODE : STORE_SET_MTIME, &v, &a);
}

/* before: the model as it was; m: after m_apply (gets inode numbers and handles). */
static inline int m_do(
	struct rig *r, struct model *m, const struct model *before, const struct m_op *op)
{
	int i = op->node > 0 ? op->node : 0;
	const struct m_node *n = &before->node[i];

	switch (op->kind) {
	case M_NOTHING:
		return 0;
	case M_EVICT:
		return store_evict(r->s, op->len);
	case M_CHECKPOINT:
		return store_checkpoint(r->s);
	case M_FLUSH_ALL:
		return store_flush_all(r->s);
	case M_MKDIR:
	case M_CREATE:
		return m_do_create(r, m, before, op);
	case M_OPEN:
		m->node[i].file = rig_write_begin(r, n->ino);
		return 0;
	case M_CLOSE:
		store_file_writer_drop(n->file);
		store_file_close(n->file);
		return 0;
	case M_WRITE:
	case M_APPEND:
	case M_TRUNCATE:
	case M_ZERO:
		return m_do_change(r, n, op);
	case M_FLUSH:
		return store_file_flush(n->file, op->value % 16 == 0, "cut off");
	case M_RENAME:
		return store_rename(r->s, before->node[n->parent].ino, n->name,
			before->node[op->dir].ino, op->name,
			op->value % 4 == 0 ? STORE_RENAME_NOREPLACE : 0, 1000);
	case M_UNLINK:
		return store_unlink(r->s, before->node[op->dir].ino, op->name, 1000);
	case M_RMDIR:
		return store_rmdir(r->s, before->node[before->node[op->dir].parent].ino,
			before->node[op->dir].name);
	case M_CHMOD:
	case M_UTIME:
		return m_do_setattr(r, &m->node[i], op);
	case M_ADVANCE:
		m_do_advance(r, before, i);
		return 0;
	}
	return 0;
}

/* One step on both. */
static inline void m_step(struct rig *r, struct model *m)
{
	static struct model before;
	struct m_op op = m_next(m);
	int want, got;

	before = *m;
	want = m_apply(m, &op);
	got = m_do(r, m, &before, &op);
	if (got != want)
		must_failed(__FILE__, __LINE__, "step kind %d on node %d, folder %d, name %s: %d, not %d",
			(int)op.kind, op.node, op.dir, op.name, got, want);
}

/* The child's handles go, flushed, as at an unmount. */
static inline void m_close_all(struct rig *r, struct model *m)
{
	for (int i = 1; i < M_NODES; i++) {
		struct m_node *n = &m->node[i];

		if (!n->used || n->is_dir || !n->writers)
			continue;
		if (n->state == FILE_OPEN)
			n->state = FILE_CLOSED;
		for (; n->writers; n->writers--) {
			if (!n->file)
				continue; /* the parent, following */
			must_eq(store_file_flush(n->file, false, NULL), 0);
			store_file_writer_drop(n->file);
			store_file_close(n->file);
		}
		n->file = NULL;
		m_gone(m, i);
	}
}

/* ---- comparing ---------------------------------------------------------------------------------------------- */

struct m_diff {
	char text[512];
};

#define m_differs(d, ...) (snprintf((d)->text, sizeof((d)->text), __VA_ARGS__), false)

/* Every CRC the index holds is that of the bytes. */
static inline bool m_same_crcs(struct rig *r, const struct m_node *n, struct m_diff *d)
{
	uint64_t count = n->size ? chunk_count_of(rig_inode(r, n->ino)->part_size_bytes, n->size) : 0;

	if (rig_inode(r, n->ino)->chunk_count != count && n->state != FILE_INCOMPLETE)
		return m_differs(d, "%s has %" PRIu64 " chunks, not %" PRIu64, n->name,
			rig_inode(r, n->ino)->chunk_count, count);
	for (uint64_t k = 0; k < count; k++) {
		struct store_chunk c;

		if (store_chunk(r->s, n->ino, k, &c) < 0)
			return m_differs(d, "%s has no chunk %" PRIu64, n->name, k);
		if (c.has_crc64nvme && c.crc64nvme != crc64nvme(0, n->data + c.start, c.len))
			return m_differs(d, "%s: CRC of chunk %" PRIu64 " is of other bytes", n->name, k);
		if (!c.has_crc64nvme && (n->state == FILE_QUEUED || n->state == FILE_SENDING))
			return m_differs(d, "%s: chunk %" PRIu64 " has no CRC", n->name, k);
	}
	return true;
}

static inline bool m_same_content(struct rig *r, struct m_node *n, struct m_diff *d)
{
	static uint8_t got[M_SIZE_MAX + 1];
	ssize_t len;

	n->file = rig_file(r, n->ino);
	for (;;) {
		uint64_t chunk = 0;

		len = store_file_read(n->file, got, sizeof(got), 0, &chunk);
		if (len == (ssize_t)n->size || (len < 0 && len != -EREMOTE))
			break;
		/* evicted, or read up to what was evicted */
		if (store_file_has(n->file, 0, n->size, &chunk))
			break;
		m_fetch(r, n, chunk);
	}
	store_file_close(n->file);
	n->file = NULL;
	if (len != (ssize_t)n->size)
		return m_differs(d, "%s: reading gives %zd, not %zu", n->name, len, n->size);
	for (size_t i = 0; i < n->size; i++)
		if (got[i] != n->data[i])
			return m_differs(d, "%s (%s): byte %zu of %zu is %#x, not %#x", n->name,
				file_state_text(n->state), i, n->size, got[i], n->data[i]);
	return true;
}

static inline bool m_has_attempt(struct rig *r, uint64_t ino)
{
	static struct store_attempt attempts[M_NODES];
	uint64_t after = 0;
	int count;

	while ((count = store_attempts(r->s, after, attempts, array_len(attempts))) > 0) {
		for (int i = 0; i < count; i++)
			if (attempts[i].ino == ino)
				return true;
		after = attempts[count - 1].id;
	}
	must_eq(count, 0);
	return false;
}

static inline bool m_same_node(struct rig *r, struct m_node *n, const struct store_attr *a,
	struct m_diff *d)
{
	n->ino = a->ino;
	if ((a->type == STORE_DIR) != n->is_dir)
		return m_differs(d, "%s is of another type", n->name);
	if ((a->mode & 07777) != n->mode)
		return m_differs(d, "%s has mode %o, not %o", n->name, a->mode, n->mode);
	if (n->is_dir)
		return true;
	if (a->state != n->state)
		return m_differs(d, "%s is %s, not %s", n->name, file_state_text(a->state),
			file_state_text(n->state));
	if (a->size_bytes != n->size)
		return m_differs(d, "%s (%s) has %" PRIu64 " bytes, not %zu", n->name,
			file_state_text(n->state), a->size_bytes, n->size);
	if (n->mtime_s && a->mtime_ns != n->mtime_s * NS_PER_S)
		return m_differs(d, "%s has another mtime", n->name);
	if (m_has_attempt(r, a->ino) != n->attempt)
		return m_differs(d, "%s has %s attempt", n->name, n->attempt ? "no" : "an");
	return m_same_content(r, n, d) && m_same_crcs(r, n, d);
}

static inline bool m_same_dir(struct rig *r, struct model *m, int dir, struct m_diff *d)
{
	struct store_entry *page = calloc(8, sizeof(*page));
	char after[STORE_NAME_MAX + 1] = "";
	unsigned seen = 0, want = 0;
	bool same = true;
	int n;

	while (same && (n = store_readdir(r->s, m->node[dir].ino, after, page, 8)) > 0) {
		for (int i = 0; same && i < n; i++) {
			int at = m_find(m, dir, page[i].name);

			seen++;
			if (at < 0)
				same = m_differs(d, "%s must not be there", page[i].name);
			else
				same = m_same_node(r, &m->node[at], &page[i].attr, d) &&
				       (!m->node[at].is_dir || m_same_dir(r, m, at, d));
		}
		(void)text_copy(after, page[n - 1].name, sizeof(after));
	}
	free(page);
	for (int i = 1; i < M_NODES; i++)
		want += m->node[i].used && !m->node[i].unlinked && m->node[i].parent == dir;
	if (same && seen != want)
		same = m_differs(d, "a folder has %u entries, not %u", seen, want);
	return same;
}

/* Does the store show exactly the model? (No handle open in either.) */
static inline bool m_same(struct rig *r, struct model *m, struct m_diff *d)
{
	if (!m_same_dir(r, m, M_ROOT, d))
		return false;
	if (rig_files_in(r, FILE_DELETING) != m->deleting)
		return m_differs(d, "%" PRIu64 " files are deleting, not %" PRIu64,
			rig_files_in(r, FILE_DELETING), m->deleting);
	return true;
}

/*
 * A killed write may be done in part: the file's bytes in [from, to) may be old or new, its size too.
 * Takes into `after` what is there if that is the only difference.
 */
static inline void m_take_partial(
	struct rig *r, const struct model *before, struct model *after, const struct m_op *op)
{
	static uint8_t got[M_SIZE_MAX + 1];
	const struct m_node *old = &before->node[op->node > 0 ? op->node : 0];
	struct m_node *new = &after->node[op->node > 0 ? op->node : 0];
	struct store_file *f;
	struct store_attr a;
	uint64_t chunk;
	char path[256];
	ssize_t len;

	if (op->kind != M_WRITE && op->kind != M_APPEND && op->kind != M_TRUNCATE &&
		op->kind != M_ZERO)
		return;
	if (old->unlinked)
		return;
	m_path(after, op->node, path);
	if (store_resolve(r->s, path, &a) < 0 || a.state != FILE_INCOMPLETE)
		return;
	must(a.size_bytes >= (old->size < new->size ? old->size : new->size) &&
		a.size_bytes <= (old->size > new->size ? old->size : new->size));
	f = rig_file(r, a.ino);
	len = store_file_read(f, got, sizeof(got), 0, &chunk);
	store_file_close(f);
	must_eq(len, a.size_bytes);
	for (size_t i = 0; i < (size_t)len; i++) {
		uint8_t was = i < old->size ? old->data[i] : 0;
		uint8_t is = i < new->size ? new->data[i] : 0;

		if (got[i] != was && got[i] != is)
			must_failed(__FILE__, __LINE__,
				"%s: byte %zu is %#x after a killed write; it was %#x, and should be "
				"%#x",
				path, i, got[i], was, is);
	}
	memcpy(new->data, got, (size_t)len);
	new->size = (size_t)len;
}

/* ---- segments: a child works, the parent follows ------------------------------------------------------------- */

struct m_progress {
	uint64_t started, done;
};

struct m_segment {
	struct model *model; /* of the parent at the start; the child works on its own copy */
	struct m_progress *progress;
	uint64_t steps;
	void (*armed)(void *arg); /* called in the child before the first step */
	void *arm_arg;
};

static inline void m_segment_work(struct rig *r, void *arg)
{
	struct m_segment *g = arg;

	m_bind(r, g->model);
	if (g->armed)
		g->armed(g->arm_arg);
	for (uint64_t i = 0; i < g->steps; i++) {
		g->progress->started++;
		m_step(r, g->model);
		g->progress->done++;
	}
}

static inline void m_segment_close_work(struct rig *r, void *arg)
{
	struct m_segment *g = arg;

	m_segment_work(r, arg);
	m_close_all(r, g->model);
}

/* Bring the parent's model to where the child was. With a step begun and not ended, *ret_op is it. */
static inline bool m_follow(struct model *m, const struct m_progress *p, struct m_op *ret_op)
{
	for (uint64_t i = 0; i < p->done; i++) {
		struct m_op op = m_next(m);

		(void)m_apply(m, &op);
	}
	if (p->started == p->done)
		return false;
	*ret_op = m_next(m);
	return true;
}

/* After a kill: the store (open) shows the model, with the last step done or not. */
static inline void m_must_follow(struct rig *r, struct model *m, const struct m_progress *p)
{
	static struct model before, after;
	struct m_diff without, with;
	struct m_op op;
	bool between = m_follow(m, p, &op);

	before = *m;
	after = *m;
	if (between)
		(void)m_apply(&after, &op);
	if (between)
		m_take_partial(r, &before, &after, &op);
	m_crash(&before);
	m_crash(&after);
	if (m_same(r, &before, &without)) {
		*m = before;
	} else if (m_same(r, &after, &with)) {
		*m = after;
	} else {
		must_failed(__FILE__, __LINE__,
			"after %" PRIu64 " steps%s: %s; with the step under way (kind %d): %s", p->done,
			between ? " and a part of one" : "", without.text, between ? (int)op.kind : 0,
			with.text);
	}
	rig_must_count(r, STORE_ROOT_INO);
}
