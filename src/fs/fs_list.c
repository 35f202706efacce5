/*
 * fs_list - listings of folders: the store's entries and the bucket's, merged by name.
 *
 * Both come sorted by name and resume after a name, so each request merges a page of either afresh
 * and nothing that is listed is older than the request. The store's entry wins; a name that only
 * the bucket had a moment ago is looked up in the store once more, so that a file whose upload just
 * finished is listed once and never missing.
 *
 * Offsets: 1 and 2 are "." and "..", 2 + n is the n-th name that this handle listed. The names
 * listed are kept, so that a program may seek back to an offset and meets the same names again;
 * offset 0 starts afresh.
 *
 * The first request waits until the bucket's listing is there (the listing ends by itself when the
 * endpoint is down: then the index alone answers).
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#define PAGE 48
#define FIRST_NAME 2 /* offset after "." and ".." */
#define LISTING_WAIT_MS (5 * 60 * MS_PER_S)
#define TEXT_BLOCK_BYTES ((size_t)64 * KIB)

/* Names in the order listed. */
struct names {
	char **at; /* into blocks */
	size_t count, cap;
	struct names_block {
		struct names_block *next;
		size_t used;
		char text[TEXT_BLOCK_BYTES];
	} * blocks;
};

struct fs_dir {
	struct fs_handle handle;
	struct names names;
	char after[STORE_NAME_MAX + 1]; /* merged up to here */
	bool at_end;
	bool bucket_known; /* the bucket's listing was there when this one began */
	bool waited;	   /* it was waited for: any age will do */
	bool local_only;   /* it did not come */
	bool no_bucket;	   /* no key can name this folder */
	struct store_entry ours[PAGE];
	struct remote_entry theirs[PAGE + LAYOUT_STANDARD_MAX];
	bool more_theirs; /* the bucket's page was full */
	/* virtual: a snapshot */
	bool is_virtual;
	struct fs_virtual_attr *attrs; /* beside names */
	size_t attrs_cap;
};

/* ---- names ---- */

static void names_release(struct names *n)
{
	for (struct names_block *b = n->blocks, *next; b; b = next) {
		next = b->next;
		free(b);
	}
	free(n->at);
	*n = (struct names){0};
}

static char *names_text(struct names *n, const char *name)
{
	size_t bytes = strlen(name) + 1;
	struct names_block *b = n->blocks;
	char *to;

	if (!b || b->used + bytes > TEXT_BLOCK_BYTES) {
		b = malloc(sizeof(*b));
		if (!b)
			return NULL;
		b->next = n->blocks;
		b->used = 0;
		n->blocks = b;
	}
	to = b->text + b->used;
	memcpy(to, name, bytes);
	b->used += bytes;
	return to;
}

static int names_add(struct names *n, const char *name)
{
	char *text;

	if (n->count == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : PAGE;
		char **at = realloc(n->at, cap * sizeof(*at));

		if (!at)
			return -ENOMEM;
		n->at = at;
		n->cap = cap;
	}
	text = names_text(n, name);
	if (!text)
		return -ENOMEM;
	n->at[n->count++] = text;
	return 0;
}

/* ---- the reply being filled ---- */

struct reply {
	struct fs_call *c;
	char *data;
	size_t used;
	struct fs_place *entered; /* to undo if the reply fails */
	size_t entered_count, entered_cap;
};

static void reply_release(struct reply *reply)
{
	free(reply->data);
	free(reply->entered);
}

static int remember_entered(struct reply *reply, const struct fs_place *p)
{
	if (p->kind == FS_STORE)
		return 0;
	if (reply->entered_count == reply->entered_cap) {
		size_t cap = reply->entered_cap ? reply->entered_cap * 2 : PAGE;
		struct fs_place *to = realloc(reply->entered, cap * sizeof(*to));

		if (!to)
			return -ENOMEM;
		reply->entered = to;
		reply->entered_cap = cap;
	}
	reply->entered[reply->entered_count++] = (struct fs_place){
		.kind = p->kind, .attr.ino = p->attr.ino, .virtual_id = p->virtual_id};
	return 0;
}

static void undo_entered(struct reply *reply)
{
	for (size_t i = 0; i < reply->entered_count; i++)
		fs_entry_undo(reply->c->fs, &reply->entered[i]);
}

/* 1: added, 0: no room, -errno. */
static int add_plus(struct reply *reply, const char *name, const struct fs_place *p, off_t next)
{
	struct fs_call *c = reply->c;
	struct fuse_entry_param entry;
	size_t room = c->size - reply->used, need;
	int r = fs_entry_fill(c->fs, p, &entry);

	if (r < 0)
		return r;
	need = fuse_add_direntry_plus(c->req, reply->data + reply->used, room, name, &entry, next);
	r = need <= room ? remember_entered(reply, p) : 0;
	if (need > room || r < 0) {
		fs_entry_undo(c->fs, p);
		return r;
	}
	reply->used += need;
	return 1;
}

static int add_plain(
	struct reply *reply, const char *name, const struct store_attr *attr, off_t next)
{
	struct stat st = {.st_ino = attr->ino, .st_mode = attr->mode};
	size_t room = reply->c->size - reply->used;
	size_t need =
		fuse_add_direntry(reply->c->req, reply->data + reply->used, room, name, &st, next);

	if (need > room)
		return 0;
	reply->used += need;
	return 1;
}

static int add_entry(struct reply *reply, const char *name, const struct fs_place *p, off_t next)
{
	return reply->c->plus ? add_plus(reply, name, p, next)
			      : add_plain(reply, name, &p->attr, next);
}

/* "." and ".." carry no lookup. */
static int add_dot(struct reply *reply, const char *name, uint64_t ino, off_t next)
{
	struct fuse_entry_param entry = {.attr = {.st_ino = ino, .st_mode = S_IFDIR}};
	size_t room = reply->c->size - reply->used, need;

	if (!reply->c->plus) {
		struct store_attr attr = {.ino = ino, .mode = S_IFDIR};

		return add_plain(reply, name, &attr, next);
	}
	need = fuse_add_direntry_plus(
		reply->c->req, reply->data + reply->used, room, name, &entry, next);
	if (need > room)
		return 0;
	reply->used += need;
	return 1;
}

static int add_dots(struct reply *reply, const struct fs_place *dir, off_t *off)
{
	uint64_t parent = dir->attr.parent ? dir->attr.parent : STORE_ROOT_INO;
	int r = 1;

	if (*off == 0)
		r = add_dot(reply, ".", dir->attr.ino, 1);
	if (r == 1 && *off <= 1)
		r = add_dot(reply, "..", parent, FIRST_NAME);
	if (r == 1 && *off < FIRST_NAME)
		*off = FIRST_NAME;
	return r;
}

/* ---- the merge ---- */

/* What the bucket shows of a level above the prefix: the next component. */
static int list_above(
	struct fs *fs, struct fs_place *dir, const char *after, struct remote_entry *out)
{
	const char *rest = fs->prefix + dir->path.len + (dir->path.len ? 1 : 0);
	size_t len = strcspn(rest, "/");

	memcpy(out->name, rest, len);
	out->name[len] = '\0';
	out->is_dir = true;
	out->object = (struct s3_object){0};
	return strcmp(out->name, after) > 0 ? 1 : 0;
}

static bool is_above(const struct fs *fs, const struct fs_place *dir)
{
	const char *path = buf_text(&dir->path);

	return prefix_side_of(fs->prefix, path) == PREFIX_ABOVE && strcmp(path, fs->prefix) != 0;
}

/* A page of the bucket's entries; 0 where nothing is known. -EINPROGRESS: wait. */
static int list_theirs(struct fs *fs, struct fs_dir *d, struct fs_place *dir, const char *prefix)
{
	int n;

	if (d->no_bucket)
		return 0;
	if (is_above(fs, dir))
		return list_above(fs, dir, d->after, d->theirs);
	n = remote_list(fs->config.remote, prefix, d->after,
		d->bucket_known || d->local_only || d->waited, d->theirs, PAGE);
	if (n == -EINPROGRESS && !d->local_only)
		return n;
	if (n < 0 &&
		!d->local_only) { /* down, denied: what was listed before is better than nothing */
		d->local_only = true;
		n = remote_list(fs->config.remote, prefix, d->after, true, d->theirs, PAGE);
	}
	if (n >= 0)
		d->bucket_known = true;
	return n < 0 ? 0 : n;
}

/* Standard folders (fs_standard.c) go among the bucket's entries, unless it has the name. Returns the
 * new count. */
static int add_standard(struct fs_dir *d, const struct layout_standard *s, int n)
{
	const char *last = d->more_theirs ? d->theirs[n - 1].name : NULL;

	for (unsigned i = 0; i < s->count; i++) {
		const char *name = s->names[i];
		int at = 0;

		if (strcmp(name, d->after) <= 0 || (last && strcmp(name, last) > 0))
			continue; /* listed, or of a later page */
		while (at < n && strcmp(d->theirs[at].name, name) < 0)
			at++;
		if (at < n && strcmp(d->theirs[at].name, name) == 0)
			continue;
		memmove(&d->theirs[at + 1], &d->theirs[at],
			(size_t)(n - at) * sizeof(d->theirs[0]));
		d->theirs[at] = (struct remote_entry){.is_dir = true};
		(void)text_copy(d->theirs[at].name, name, sizeof(d->theirs[at].name)); /* fits */
		n++;
	}
	return n;
}

static int list_ours(struct fs *fs, struct fs_dir *d, struct fs_place *dir)
{
	if (dir->kind != FS_STORE)
		return 0;
	return store_readdir(fs->config.store, dir->attr.ino, d->after, d->ours, PAGE);
}

/* Its place, -ENOENT if it is not shown (any more). */
static int place_of_theirs(struct fs_call *c, struct fs_place *dir, const char *prefix,
	const struct remote_entry *entry, struct fs_place *ret, uint64_t *ret_listing)
{
	struct store_attr attr;

	if (dir->kind == FS_STORE &&
		store_lookup(c->fs->config.store, dir->attr.ino, entry->name, &attr) == 0) {
		*ret = (struct fs_place){.kind = FS_STORE, .attr = attr, .certain = true};
		return 0;
	}
	return fs_place_of_entry(c->fs, dir, prefix, entry, fs_patience_of(c), ret, ret_listing);
}

struct merge {
	struct fs_call *c;
	struct fs_dir *d;
	struct fs_place *dir;
	struct reply *reply;
	char prefix[KEY_MAX_BYTES + 2];
	struct layout_standard standard;
	off_t off;	  /* of the next entry */
	off_t first;	  /* from here on entries are wanted */
	uint64_t listing; /* to wait for, with -EINPROGRESS */
};

/* 1: listed (or nothing to list), 0: no room, -errno. */
static int emit(struct merge *m, const char *name, const struct fs_place *p)
{
	int r = m->off < m->first ? 1 : add_entry(m->reply, name, p, m->off + 1);

	if (r <= 0)
		return r;
	r = names_add(&m->d->names, name);
	if (r < 0)
		return r;
	m->off++;
	(void)text_copy(m->d->after, name, sizeof(m->d->after));
	return 1;
}

static int emit_ours(struct merge *m, const struct store_entry *entry)
{
	struct fs_place p = {.kind = FS_STORE, .attr = entry->attr, .certain = true};

	return emit(m, entry->name, &p);
}

static int emit_theirs(struct merge *m, const struct remote_entry *entry)
{
	cleanup_place struct fs_place p = {0};
	int r = place_of_theirs(m->c, m->dir, m->prefix, entry, &p, &m->listing);

	if (r == -ENOENT) {
		(void)text_copy(m->d->after, entry->name, sizeof(m->d->after));
		return 1;
	}
	return r < 0 ? r : emit(m, entry->name, &p);
}

/* Merges what both pages tell for certain. 1: go on with the next pages. */
static int merge_pages(struct merge *m, int ours, int theirs)
{
	bool listed_only = m->c->fs->config.view == FS_VIEW_UPLOADED;
	int i = 0, j = 0, r = 1;

	while (r == 1 && (i < ours || j < theirs)) {
		int order;

		if ((i == ours && ours == PAGE) || (j == theirs && m->d->more_theirs))
			return 1; /* the next of that page may come first */
		order = i == ours     ? 1
			: j == theirs ? -1
				      : strcmp(m->d->ours[i].name, m->d->theirs[j].name);
		if (order < 0 && listed_only)
			(void)text_copy(m->d->after, m->d->ours[i].name, sizeof(m->d->after));
		else
			r = order <= 0 ? emit_ours(m, &m->d->ours[i])
				       : emit_theirs(m, &m->d->theirs[j]);
		i += order <= 0;
		j += order >= 0;
	}
	m->d->at_end = r == 1 && ours < PAGE && !m->d->more_theirs;
	return r;
}

static int merge(struct merge *m)
{
	int r = 1;

	while (r == 1 && !m->d->at_end) {
		int ours = list_ours(m->c->fs, m->d, m->dir), theirs;

		if (ours < 0)
			return ours;
		theirs = list_theirs(m->c->fs, m->d, m->dir, m->prefix);
		if (theirs < 0) {
			m->listing = fs_listing_id(m->prefix);
			return theirs;
		}
		m->d->more_theirs = theirs == PAGE;
		theirs = add_standard(m->d, &m->standard, theirs);
		r = merge_pages(m, ours, theirs);
	}
	return r;
}

/* Names that this handle listed before: those that are still there, in the same order. Where the
 * bucket's listing was forgotten meanwhile it has to come again: its names may be there. */
static int replay(struct merge *m)
{
	enum fs_patience patience = m->d->local_only ? FS_ANSWER_NOW : FS_WAITED;
	int r = 1;

	while (r == 1 && (size_t)(m->off - FIRST_NAME) < m->d->names.count) {
		const char *name = m->d->names.at[m->off - FIRST_NAME];
		cleanup_place struct fs_place p = {0};
		bool certain;

		r = fs_lookup(m->c->fs, m->dir, name, patience, &p, &certain, &m->listing);
		if (r == 0)
			r = add_entry(m->reply, name, &p, m->off + 1);
		else if (r == -ENOENT)
			r = 1;
		if (r == 1)
			m->off++;
	}
	return r;
}

/* ---- .cpgfs ---- */

static int add_virtual(void *arg, const char *name, const struct fs_virtual_attr *attr)
{
	struct fs_dir *d = arg;
	int r;

	if (d->names.count == d->attrs_cap) {
		size_t cap = d->attrs_cap ? d->attrs_cap * 2 : PAGE;
		struct fs_virtual_attr *to = realloc(d->attrs, cap * sizeof(*to));

		if (!to)
			return -ENOMEM;
		d->attrs = to;
		d->attrs_cap = cap;
	}
	r = names_add(&d->names, name);
	if (r == 0)
		d->attrs[d->names.count - 1] = *attr;
	return r;
}

static int list_virtual(struct fs_call *c, struct fs_dir *d, const struct fs_place *dir)
{
	const struct fs_virtual *v = &c->fs->config.virtual;

	d->is_virtual = true;
	return v->list(v->user, dir->virtual_id, add_virtual, d);
}

static int emit_virtual(struct merge *m)
{
	int r = 1;

	while (r == 1 && (size_t)(m->off - FIRST_NAME) < m->d->names.count) {
		size_t i = (size_t)(m->off - FIRST_NAME);
		cleanup_place struct fs_place p = {0};

		r = fs_virtual_place(m->c->fs, &m->d->attrs[i], &p);
		if (r == 0)
			r = add_entry(m->reply, m->d->names.at[i], &p, m->off + 1);
		if (r == 1)
			m->off++;
	}
	return r;
}

/* ---- requests ---- */

static struct fs_dir *dir_of(const struct fs_call *c)
{
	return (struct fs_dir *)(uintptr_t)c->fi.fh;
}

static void dir_close(struct fs *fs, struct fs_handle *h)
{
	struct fs_dir *d = (struct fs_dir *)h;

	fs_handle_remove(fs, h);
	names_release(&d->names);
	free(d->attrs);
	free(d);
}

int fs_do_opendir(struct fs_call *c)
{
	cleanup_place struct fs_place p = {0};
	struct fuse_file_info fi = c->fi;
	struct fs_dir *d;
	int r = fs_place_find_dir(c->fs, c->ino, &p);

	if (r < 0)
		return r;
	if (p.kind == FS_VIRTUAL && !c->on_slow)
		return FS_ASK;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->handle.close = dir_close;
	fs_handle_add(c->fs, &d->handle);
	r = p.kind == FS_VIRTUAL ? list_virtual(c, d, &p) : 0;
	if (r < 0) {
		dir_close(c->fs, &d->handle);
		return r;
	}
	fi.fh = (uint64_t)(uintptr_t)d;
	if (!fs_call_claim(c) || fuse_reply_open(c->req, &fi) < 0)
		dir_close(c->fs, &d->handle);
	return FS_DONE;
}

static void start_afresh(struct fs_dir *d)
{
	if (d->is_virtual)
		return; /* a snapshot */
	names_release(&d->names);
	d->after[0] = '\0';
	d->at_end = false;
	d->bucket_known = false;
	d->local_only = false;
}

static int fill(struct merge *m)
{
	int r = add_dots(m->reply, m->dir, &m->off);

	if (r != 1)
		return r;
	if (m->d->is_virtual)
		return emit_virtual(m);
	r = fs_place_prefix(m->c->fs, m->dir, m->prefix);
	m->d->no_bucket = r == -ENAMETOOLONG;
	if (r < 0 && !m->d->no_bucket)
		return r;
	if (!m->d->no_bucket)
		fs_standard_list(m->c->fs, m->dir, m->prefix, &m->standard);
	r = replay(m);
	/* An offset that another handle was given (NFS): list up to it first. */
	if (m->off > FIRST_NAME + (off_t)m->d->names.count)
		m->off = FIRST_NAME + (off_t)m->d->names.count;
	return r == 1 ? merge(m) : r;
}

/* Entries that found place are told even if the next one has to wait or failed. */
static int finish(struct merge *m, int r)
{
	struct reply *reply = m->reply;

	if (r == -EINPROGRESS && reply->used == 0)
		return fs_wait_for_listing(m->c, m->listing, LISTING_WAIT_MS);
	if (r < 0 && reply->used == 0)
		return r;
	if (fuse_reply_buf(m->c->req, reply->data, reply->used) < 0)
		undo_entered(reply);
	return FS_DONE;
}

int fs_do_readdir(struct fs_call *c)
{
	cleanup_with(reply_release) struct reply reply = {.c = c};
	cleanup_place struct fs_place dir = {0};
	struct merge m = {.c = c,
		.d = dir_of(c),
		.dir = &dir,
		.reply = &reply,
		.off = c->off,
		.first = c->off};
	int r = fs_place_find(c->fs, c->ino, &dir);

	if (r == -ESTALE) { /* removed while it is open: nothing is in it */
		(void)fuse_reply_buf(c->req, NULL, 0);
		return FS_DONE;
	}
	if (r < 0)
		return r;
	reply.data = malloc(c->size);
	if (!reply.data)
		return -ENOMEM;
	if (c->off == 0)
		start_afresh(m.d);
	m.d->waited = fs_patience_of(c) == FS_WAITED;
	m.d->local_only = c->impatient || (dir.attr.flags & STORE_FLAG_BORN_LOCAL &&
						  c->fs->config.view != FS_VIEW_UPLOADED);
	return finish(&m, fill(&m));
}

int fs_do_releasedir(struct fs_call *c)
{
	dir_close(c->fs, &dir_of(c)->handle);
	(void)fuse_reply_err(c->req, 0);
	return FS_DONE;
}

/* Names are durable with the journal: all of it. */
int fs_do_fsyncdir(struct fs_call *c)
{
	int r;

	if (!c->on_slow)
		return FS_DISK;
	r = store_flush_all(c->fs->config.store);
	if (r < 0)
		return r;
	(void)fuse_reply_err(c->req, 0);
	return FS_DONE;
}
