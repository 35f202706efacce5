/*
 * control_tables - the tables of files: one line a file, columns separated by tabs, a header line
 * first; tabs, newlines and odd bytes in names as \t, \n, \xNN.
 *
 * Each is read from the store's queues in batches; a file that changes state meanwhile may be missed
 * or shown in its old state, as in any listing of a directory that changes.
 */
#include "control_private.h"

#include <inttypes.h>

#define BATCH 128

typedef void row_fn(struct buf *out, const char *path, const struct store_inode *inode);

static void add_time(struct buf *out, int64_t wall_ns)
{
	char text[32] = "-";

	if (wall_ns)
		time_format_iso8601(wall_ns, text);
	buf_add_text(out, text);
}

static int add_row(struct control *c, uint64_t ino, enum file_state state, row_fn *row,
	struct store_inode *inode, struct buf *out)
{
	cleanup_buf struct buf path = {0}, shown = {0};
	int r = store_inode(c->config.store, ino, inode);

	if (r == 0 && inode->attr.state == state)
		r = store_path(c->config.store, ino, &path);
	else
		return 0; /* changed meanwhile */
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	text_escape(&shown, buf_text(&path));
	row(out, buf_text(&shown), inode);
	return buf_error(out);
}

static int add_state(
	struct control *c, enum file_state state, row_fn *row, struct store_inode *inode,
	struct buf *out)
{
	struct store_queue_item items[BATCH], last;
	const struct store_queue_item *after = NULL;
	int n = 0, r = 0;

	while (r == 0 &&
		(n = store_queue(c->config.store, state, after, items, BATCH)) > 0) {
		for (int i = 0; i < n && r == 0; i++)
			r = add_row(c, items[i].ino, state, row, inode, out);
		last = items[n - 1];
		after = &last;
	}
	return r < 0 ? r : n;
}

static int add_states(struct control *c, const enum file_state *states, size_t count, row_fn *row,
	struct buf *out)
{
	cleanup_free struct store_inode *inode = calloc(1, sizeof(*inode));
	int r = inode ? 0 : -ENOMEM;

	for (size_t i = 0; i < count && r >= 0; i++)
		r = add_state(c, states[i], row, inode, out);
	return r < 0 ? r : 0;
}

/* ---- queue.tsv ---- */

static void queue_row(struct buf *out, const char *path, const struct store_inode *inode)
{
	buf_printf(out, "%s\t%s\t%" PRIu64 "\t", path, file_state_text(inode->attr.state),
		inode->attr.size_bytes);
	add_time(out, inode->closed_at_ns);
	buf_add_char(out, '\t');
	add_time(out, inode->due_at_ns);
	buf_printf(out, "\t%" PRIu32 "\t", inode->attempts);
	text_escape(out, inode->reason);
	buf_add_char(out, '\n');
}

int control_write_queue(struct control *c, struct buf *out)
{
	static const enum file_state states[] = {FILE_SENDING, FILE_UNKNOWN, FILE_QUEUED,
		FILE_SETTLED, FILE_CLOSED, FILE_OPEN, FILE_MOVING, FILE_DELETING, FILE_UPLOADED};

	buf_add_text(out, "path\tstate\tsize_bytes\tclosed_at\tdue_at\tattempts\treason\n");
	return add_states(c, states, array_len(states), queue_row, out);
}

/* ---- failed.tsv ---- */

static void failed_row(struct buf *out, const char *path, const struct store_inode *inode)
{
	buf_printf(out, "%s\t%s\t", path, file_state_text(inode->attr.state));
	text_escape(out, *inode->reason ? inode->reason : file_state_what(inode->attr.state));
	buf_printf(out, "\t%" PRIu32 "\t%s\n", inode->attempts,
		file_state_remedy(inode->attr.state));
}

int control_write_failed(struct control *c, struct buf *out)
{
	static const enum file_state states[] = {
		FILE_FAILED, FILE_CONFLICT, FILE_INCOMPLETE, FILE_TORN, FILE_LOST};

	buf_add_text(out, "path\tstate\treason\tattempts\tremedy\n");
	return add_states(c, states, array_len(states), failed_row, out);
}

/* ---- rejected.tsv ---- */

static void rejected_row(struct buf *out, const char *path, const struct store_inode *inode)
{
	buf_printf(out, "%s\t%s\t", path, control_held_text(inode->held));
	text_escape(out, inode->reason);
	buf_printf(out, "\t%s\n", control_held_remedy(inode->held));
}

static void refused_row(void *user, const char *path, const char *reason)
{
	struct buf *out = user;

	text_escape(out, path);
	buf_add_text(out, "\trefused\t");
	text_escape(out, reason);
	buf_add_text(out, "\tmake it under another name\n");
}

int control_write_rejected(struct control *c, struct buf *out)
{
	static const enum file_state states[] = {FILE_HELD};
	struct fs *fs = c->config.fs ? c->config.fs(c->config.fs_user) : NULL;

	buf_add_text(out, "path\tkind\treason\tremedy\n");
	if (fs) /* folders that --naming=refuse turned away: nothing of them is kept */
		fs_refusals(fs, refused_row, out);
	return add_states(c, states, array_len(states), rejected_row, out);
}

/* ---- uploaded.tsv ---- */

static void uploaded_row(struct buf *out, const char *path, const struct store_inode *inode)
{
	const struct store_object *o = &inode->object;
	char crc[16] = "-";

	if (o->has_crc64nvme)
		crc64nvme_to_text(o->crc64nvme, crc);
	text_escape(out, o->key);
	buf_printf(out, "\t%" PRIu64 "\t%s\t%s\t", o->size_bytes, crc, o->etag);
	add_time(out, o->uploaded_at_ns);
	buf_add_char(out, '\t');
	add_time(out, o->verified_at_ns);
	buf_printf(out, "\t%s\t", file_state_text(inode->attr.state));
	add_time(out, inode->attr.mtime_ns);
	buf_add_char(out, '\n');
}

/* What was verified first comes first; then what is uploaded and not yet verified. */
int control_write_uploaded(struct control *c, struct buf *out)
{
	static const enum file_state states[] = {FILE_GONE, FILE_VERIFIED, FILE_UPLOADED};

	buf_add_text(out,
		"key\tsize_bytes\tcrc64nvme\tetag\tuploaded_at\tverified_at\tstate\tmtime\n");
	return add_states(c, states, array_len(states), uploaded_row, out);
}
