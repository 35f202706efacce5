/*
 * control_tables - the tables of files: one line a file, columns separated by tabs, a header line
 * first; tabs, newlines and odd bytes in names as \t, \n, \xNN.
 *
 * A table is made while it is read, so that a million files need no memory for their rows. Which
 * files it has is settled when it is opened: their numbers are gathered state by state, in the
 * order in which files go through these, so that none is missed that moves on meanwhile, and none
 * is listed twice. What a row says is what holds when it is made; a file that has left the table's
 * states is left out.
 *
 * What was verified may be much more, and stays so: it is read from its queue by and by.
 */
#include "control_private.h"

#include <inttypes.h>

#define BATCH 128
#define STATES_MAX 10

typedef void row_fn(struct buf *out, const char *path, const struct store_inode *inode);

static void add_time(struct buf *out, int64_t wall_ns)
{
	char text[32] = "-";

	if (wall_ns)
		time_format_iso8601(wall_ns, text);
	buf_add_text(out, text);
}

struct table {
	const char *header;
	enum file_state gathered[STATES_MAX]; /* as files go through them; FILE_NONE: the end */
	enum file_state shown[STATES_MAX];    /* the same as they come in the table */
	enum file_state lasting[STATES_MAX];  /* before these; read by and by */
	row_fn *row;
	void (*first)(
		struct control *c, struct buf *out); /* other rows, before all else; or NULL */
};

struct numbers {
	const struct table *table;
	uint64_t *inos; /* as gathered; 0: listed elsewhere */
	size_t count, cap;
	size_t ends[STATES_MAX]; /* of each state */
	uint64_t *sorted;	 /* if some states are lasting */
};

struct table_cursor {
	size_t lasting;
	bool has_after;
	struct store_queue_item after;
	size_t shown, at;
};

/* ---- gathering ---- */

static void numbers_free(void *session)
{
	struct numbers *n = session;

	free(n->inos);
	free(n->sorted);
	free(n);
}

static int numbers_room(struct numbers *n)
{
	size_t cap = n->cap ? n->cap * 2 : 1024;
	uint64_t *grown;

	if (n->count + BATCH <= n->cap)
		return 0;
	grown = reallocarray(n->inos, cap, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	n->inos = grown;
	n->cap = cap;
	return 0;
}

static int gather_state(struct control *c, struct numbers *n, enum file_state state)
{
	struct store_queue_item items[BATCH], last;
	const struct store_queue_item *after = NULL;
	int count, r = numbers_room(n);

	while (r == 0 && (count = store_queue(c->config.store, state, after, items, BATCH)) != 0) {
		if (count < 0)
			return count;
		for (int i = 0; i < count; i++)
			n->inos[n->count++] = items[i].ino;
		last = items[count - 1];
		after = &last;
		r = numbers_room(n);
	}
	return r;
}

static int compare_inos(const void *pa, const void *pb, void *inos)
{
	uint32_t at_a = *(const uint32_t *)pa, at_b = *(const uint32_t *)pb;
	uint64_t a = ((const uint64_t *)inos)[at_a], b = ((const uint64_t *)inos)[at_b];

	if (a != b)
		return a < b ? -1 : 1;
	return at_a < at_b ? -1 : at_a > at_b;
}

/* A file that moved on meanwhile stays where it was seen last. */
static int drop_repeated(struct numbers *n)
{
	cleanup_free uint32_t *order = NULL;

	if (n->count == 0)
		return 0;
	if (n->count > UINT32_MAX)
		return -EFBIG;
	order = reallocarray(NULL, n->count, sizeof(*order));
	if (!order)
		return -ENOMEM;
	for (size_t i = 0; i < n->count; i++)
		order[i] = (uint32_t)i;
	qsort_r(order, n->count, sizeof(*order), compare_inos, n->inos);
	for (size_t i = 1; i < n->count; i++) {
		if (n->inos[order[i - 1]] == n->inos[order[i]])
			n->inos[order[i - 1]] = 0;
	}
	return 0;
}

static int compare_numbers(const void *pa, const void *pb)
{
	uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

	return a < b ? -1 : a > b;
}

static int sort_numbers(struct numbers *n)
{
	n->sorted = reallocarray(NULL, n->count + 1, sizeof(*n->sorted));
	if (!n->sorted)
		return -ENOMEM;
	if (n->count > 0) {
		memcpy(n->sorted, n->inos, n->count * sizeof(*n->sorted));
		qsort(n->sorted, n->count, sizeof(*n->sorted), compare_numbers);
	}
	return 0;
}

static bool is_gathered(const struct numbers *n, uint64_t ino)
{
	return n->count > 0 &&
	       bsearch(&ino, n->sorted, n->count, sizeof(*n->sorted), compare_numbers);
}

static int table_open(struct control *c, const void *about, void **ret_session)
{
	const struct table *t = about;
	struct numbers *n = calloc(1, sizeof(*n));
	int r = n ? 0 : -ENOMEM;

	if (!n)
		return r;
	n->table = t;
	for (size_t i = 0; i < STATES_MAX && t->gathered[i] != FILE_NONE && r == 0; i++) {
		r = gather_state(c, n, t->gathered[i]);
		n->ends[i] = n->count;
	}
	if (r == 0)
		r = drop_repeated(n);
	if (r == 0 && t->lasting[0] != FILE_NONE)
		r = sort_numbers(n);
	if (r < 0)
		numbers_free(n);
	else
		*ret_session = n;
	return r;
}

/* ---- rows ---- */

static bool has_state(const enum file_state states[STATES_MAX], enum file_state state)
{
	for (size_t i = 0; i < STATES_MAX && states[i] != FILE_NONE; i++) {
		if (states[i] == state)
			return true;
	}
	return false;
}

static int add_row(struct control *c, const struct table *t, uint64_t ino,
	struct store_inode *inode, struct buf *out)
{
	cleanup_buf struct buf path = {0}, shown = {0};
	int r = store_inode(c->config.store, ino, inode);

	if (r == 0 && !has_state(t->gathered, inode->attr.state) &&
		!has_state(t->lasting, inode->attr.state))
		return 0; /* changed meanwhile */
	if (r == 0)
		r = store_path(c->config.store, ino, &path);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* no row is left out because it could not be read */
	text_escape(&shown, buf_text(&path));
	if (buf_error(&shown) < 0)
		return buf_error(&shown);
	t->row(out, buf_text(&shown), inode);
	return buf_error(out);
}

/* A batch of a lasting state. 1. */
static int add_lasting(struct control *c, const struct numbers *n, struct table_cursor *at,
	struct store_inode *inode, struct buf *out)
{
	struct store_queue_item items[BATCH];
	int count = store_queue(c->config.store, n->table->lasting[at->lasting],
		at->has_after ? &at->after : NULL, items, BATCH);
	int r = count < 0 ? count : 0;

	for (int i = 0; i < count && r == 0; i++) {
		if (!is_gathered(n, items[i].ino))
			r = add_row(c, n->table, items[i].ino, inode, out);
	}
	if (count > 0) {
		at->has_after = true;
		at->after = items[count - 1];
	} else {
		at->has_after = false;
		at->lasting++;
	}
	return r < 0 ? r : 1;
}

/* A batch of those gathered in the state whose turn it is. 1. */
static int add_gathered(struct control *c, const struct numbers *n, struct table_cursor *at,
	struct store_inode *inode, struct buf *out)
{
	size_t group = 0, begin, end;
	int r = 0;

	while (n->table->gathered[group] != n->table->shown[at->shown])
		group++;
	begin = (group ? n->ends[group - 1] : 0) + at->at;
	end = n->ends[group] - begin > BATCH ? begin + BATCH : n->ends[group];
	for (size_t i = begin; i < end && r == 0; i++) {
		if (n->inos[i])
			r = add_row(c, n->table, n->inos[i], inode, out);
	}
	at->at += end - begin;
	if (end == n->ends[group]) {
		at->at = 0;
		at->shown++;
	}
	return r < 0 ? r : 1;
}

static void table_begin(struct control *c, const void *session, struct buf *out)
{
	const struct table *t = ((const struct numbers *)session)->table;

	buf_add_text(out, t->header);
	if (t->first)
		t->first(c, out);
}

static int table_more(struct control *c, void *session, void *cursor, struct buf *out)
{
	cleanup_free struct store_inode *inode = calloc(1, sizeof(*inode));
	const struct numbers *n = session;
	struct table_cursor *at = cursor;

	if (!inode)
		return -ENOMEM;
	if (n->table->lasting[at->lasting] != FILE_NONE)
		return add_lasting(c, n, at, inode, out);
	if (n->table->shown[at->shown] != FILE_NONE)
		return add_gathered(c, n, at, inode, out);
	return 0;
}

#define TABLE_SOURCE(table)                                                                        \
	{                                                                                          \
		.about = &(table), .cursor_bytes = sizeof(struct table_cursor),                    \
		.open = table_open, .begin = table_begin, .more = table_more,                      \
		.close = numbers_free                                                              \
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

static const struct table queue_table = {
	.header = "path\tstate\tsize_bytes\tclosed_at\tdue_at\tattempts\treason\n",
	.gathered = {FILE_OPEN, FILE_CLOSED, FILE_SETTLED, FILE_QUEUED, FILE_SENDING, FILE_UNKNOWN,
		FILE_UPLOADED, FILE_MOVING, FILE_DELETING},
	.shown = {FILE_SENDING, FILE_UNKNOWN, FILE_QUEUED, FILE_SETTLED, FILE_CLOSED, FILE_OPEN,
		FILE_MOVING, FILE_DELETING, FILE_UPLOADED},
	.row = queue_row,
};
const struct control_source control_queue = TABLE_SOURCE(queue_table);

/* ---- failed.tsv ---- */

static void failed_row(struct buf *out, const char *path, const struct store_inode *inode)
{
	buf_printf(out, "%s\t%s\t", path, file_state_text(inode->attr.state));
	text_escape(out, *inode->reason ? inode->reason : file_state_what(inode->attr.state));
	buf_printf(
		out, "\t%" PRIu32 "\t%s\n", inode->attempts, file_state_remedy(inode->attr.state));
}

static const struct table failed_table = {
	.header = "path\tstate\treason\tattempts\tremedy\n",
	.gathered = {FILE_FAILED, FILE_CONFLICT, FILE_INCOMPLETE, FILE_TORN, FILE_LOST},
	.shown = {FILE_FAILED, FILE_CONFLICT, FILE_INCOMPLETE, FILE_TORN, FILE_LOST},
	.row = failed_row,
};
const struct control_source control_failed = TABLE_SOURCE(failed_table);

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

static void refused_rows(struct control *c, struct buf *out)
{
	struct fs *fs = c->config.fs ? c->config.fs(c->config.fs_user) : NULL;

	if (fs) /* folders that --naming=refuse turned away: nothing of them is kept */
		fs_refusals(fs, refused_row, out);
}

static const struct table rejected_table = {
	.header = "path\tkind\treason\tremedy\n",
	.gathered = {FILE_HELD},
	.shown = {FILE_HELD},
	.row = rejected_row,
	.first = refused_rows,
};
const struct control_source control_rejected = TABLE_SOURCE(rejected_table);

/* ---- uploaded.tsv ---- */

/* Where the file is in the mount, if that is not what its key says (--naming=clean); path is
 * escaped. */
static void add_other_path(struct buf *out, const char *path, const char *key)
{
	cleanup_buf struct buf shown = {0};

	text_escape(&shown, key);
	buf_printf(out, "\t%s",
		buf_error(&shown) == 0 && strcmp(buf_text(&shown), path) == 0 ? "-" : path);
}

static void uploaded_row(struct buf *out, const char *path, const struct store_inode *inode)
{
	const struct store_object *o = &inode->object;
	char crc[16] = "-";

	if (o->has_crc64nvme)
		crc64nvme_to_text(o->crc64nvme, crc);
	text_escape(out, o->key);
	buf_printf(out, "\t%" PRIu64 "\t%s\t", o->size_bytes, crc);
	text_escape(out, o->etag); /* a server says what it likes */
	buf_add_char(out, '\t');
	add_time(out, o->uploaded_at_ns);
	buf_add_char(out, '\t');
	add_time(out, o->verified_at_ns);
	buf_printf(out, "\t%s\t", file_state_text(inode->attr.state));
	add_time(out, inode->attr.mtime_ns);
	add_other_path(out, path, o->key);
	buf_add_char(out, '\n');
}

/* What was verified first comes first; then what is uploaded and not yet verified. */
static const struct table uploaded_table = {
	.header =
		"key\tsize_bytes\tcrc64nvme\tetag\tuploaded_at\tverified_at\tstate\tmtime\tpath\n",
	.gathered = {FILE_UPLOADED},
	.shown = {FILE_UPLOADED},
	.lasting = {FILE_GONE, FILE_VERIFIED},
	.row = uploaded_row,
};
const struct control_source control_uploaded = TABLE_SOURCE(uploaded_table);
