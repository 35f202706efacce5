/*
 * upload_state - versions as they are recorded, and changes of state along the table.
 */
#include "upload_private.h"

#define SHORTAGE_ENDS_MS (60 * MS_PER_S)

/* The whole content's CRC from the chunks'. False: one is missing. */
static bool full_crc(struct upload *u, const struct store_inode *inode, uint64_t *ret)
{
	uint64_t crc = 0;

	for (uint64_t n = 0; n < inode->chunk_count; n++) {
		struct store_chunk chunk;

		if (store_chunk(u->store, inode->attr.ino, n, &chunk) < 0 || !chunk.has_crc64nvme)
			return false;
		crc = n == 0 ? chunk.crc64nvme
			     : crc64nvme_combine(crc, chunk.crc64nvme, chunk.len);
	}
	*ret = crc;
	return true;
}

void version_of_inode(struct upload *u, const struct store_inode *inode, struct version *ret)
{
	struct version v = {.ino = inode->attr.ino,
		.generation = inode->attr.generation,
		.size_bytes = inode->attr.size_bytes,
		.part_size_bytes = inode->part_size_bytes,
		.mtime_ns = inode->attr.mtime_ns,
		.flags = inode->attr.flags,
		.attempts = inode->attempts,
		.replaces = inode->attr.flags & STORE_FLAG_REPLACES ? inode->in_the_way : 0,
		.state = inode->attr.state};

	if (v.size_bytes > 0)
		v.chunk_count = chunk_count_of(v.part_size_bytes, v.size_bytes);
	if (inode->chunk_count == v.chunk_count)
		v.has_crc64nvme = full_crc(u, inode, &v.crc64nvme);
	(void)text_copy(v.name, inode->name, sizeof(v.name));
	*ret = v;
}

int version_load(struct upload *u, uint64_t ino, struct version *ret)
{
	struct store_inode inode;
	int r = store_inode(u->store, ino, &inode);

	if (r == 0)
		version_of_inode(u, &inode, ret);
	return r;
}

bool is_shortage(int error)
{
	return error == -ENOMEM || error == -EMFILE || error == -ENFILE;
}

void shortage_note(struct upload *u, int error)
{
	int64_t now_ms = clock_mono_ms();

	if (now_ms >= u->sched.short_until_ms)
		log_warn("no %s left (%s): files wait, and are tried again every second or so",
			error == -ENOMEM ? "memory" : "file descriptors", strerror(-error));
	u->sched.short_until_ms = now_ms + SHORTAGE_ENDS_MS;
}

int version_is_here(struct upload *u, const struct version *v)
{
	int fd, r = store_version_open(u->store, v->ino, v->generation, &fd);

	if (r == 0) {
		close(fd);
		return 1;
	}
	return r == -EREMOTE || r == -ESTALE || r == -ENODATA || r == -ENOENT ? 0 : r;
}

int state_set(struct upload *u, const struct version *v, const struct state_change *c)
{
	struct store_transition t = {.ino = v->ino,
		.generation = v->generation,
		.from = v->state,
		.to = c->to,
		.held = c->held,
		.in_the_way = c->in_the_way,
		.reason = c->reason ? c->reason : "",
		.due_at_ns = c->due_at_ns,
		.count_attempt = c->count_attempt,
		.names = c->names};
	int r;

	if (!file_state_may_follow(t.from, t.to)) {
		log_error("inode %llu: %s cannot become %s; it stays as it is",
			(unsigned long long)v->ino, file_state_text(t.from), file_state_text(t.to));
		return -EINVAL;
	}
	r = store_state_set(u->store, &t);
	if (r < 0 && r != -ESTALE && r != -ENOENT && r != -EAGAIN)
		pause_note_store(u, r);
	return r;
}

int state_set_under(
	struct upload *u, const struct version *v, const char *key, const struct state_change *c)
{
	struct state_change change = *c;
	int r;

	do {
		if (!key_is(u, v->ino, key, &change.names))
			return -ESTALE;
		r = state_set(u, v, &change);
	} while (r == -EAGAIN);
	return r;
}
