/*
 * fs_foreign - objects that other tools put there (design: never changed silently).
 *
 * Reading one gives it an inode in the store, so that its chunks can be kept. Replacing one as a
 * whole makes a new file of ours under its name; whether that is the same, a conflict or an
 * overwrite is decided when it is uploaded. The kernel may go on using the object's number: it
 * stands for the new file then (an alias in the table). Changing one in place needs
 * --allow-overwrite and is a replacement by a copy; removing one needs --allow-delete.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#define COPY_BYTES ((size_t)MIB)
#define PAGE 64
#define BELOW_DEPTH_MAX 60
#define SAY_EVERY_MS 5000
#define FETCH_WAIT_MS (10 * 60 * MS_PER_S)

/* False: one was said a moment ago; *ret_unsaid counts those left out since. */
static bool may_say(struct fs *fs, unsigned *ret_unsaid)
{
	int64_t now_ms = clock_mono_ms();

	with_lock(&fs->lock);
	*ret_unsaid = fs->refusals_unsaid;
	if (fs->refusal_said_ms && now_ms - fs->refusal_said_ms < SAY_EVERY_MS) {
		fs->refusals_unsaid++;
		return false;
	}
	fs->refusal_said_ms = now_ms;
	fs->refusals_unsaid = 0;
	return true;
}

/* A line that names the way out; `rm -r` of a plate must not fill the log. */
static void say_refused(struct fs *fs, const char *path, const char *what, const char *way_out)
{
	unsigned unsaid;

	if (!may_say(fs, &unsaid))
		return;
	log_warn("%s was not copied in through this mount: %s is refused; %s", path, what, way_out);
	if (unsaid)
		log_warn("... and %u like it before", unsaid);
}

/* Splits "a/b/c" into folder "a/b" and name "c" (pointing into path). */
static const char *split(const char *path, struct buf *ret_folder)
{
	const char *slash = strrchr(path, '/');

	buf_clear(ret_folder);
	buf_add(ret_folder, path, slash ? (size_t)(slash - path) : 0);
	return slash ? slash + 1 : path;
}

/* The object as the bucket lists it now (or did last). */
static int current_object(struct fs *fs, struct fs_place *p, struct store_object *ret)
{
	cleanup_buf struct buf folder = {0};
	const char *path = buf_text(&p->path), *name = split(path, &folder);
	struct store_object object = {0};
	struct remote_entry entry;
	int r;

	if (folder.len)
		buf_add_char(&folder, '/');
	if (buf_error(&folder) < 0)
		return -ENOMEM;
	r = remote_lookup(fs->config.remote, buf_text(&folder), name, true, &entry);
	if (r == -ENOENT || (r == 0 && entry.is_dir))
		return -ESTALE; /* no longer there */
	if (r < 0)
		return r;
	(void)text_copy(object.key, path, sizeof(object.key));
	(void)text_copy(object.etag, entry.object.etag, sizeof(object.etag));
	object.size_bytes = entry.object.size_bytes;
	object.uploaded_at_ns = entry.object.last_modified_ns;
	*ret = object;
	return 0;
}

/* A fresh import has the time of its making: it gets the object's. */
static int give_its_time(struct fs *fs, const struct store_object *object, struct store_attr *attr)
{
	struct store_attr values = {
		.mtime_ns = object->uploaded_at_ns, .atime_ns = object->uploaded_at_ns};

	if (attr->mtime_ns != attr->ctime_ns || attr->atime_ns != attr->ctime_ns)
		return 0;
	return store_setattr(
		fs->config.store, attr->ino, STORE_SET_MTIME | STORE_SET_ATIME, &values, attr);
}

int fs_foreign_import(struct fs *fs, struct fs_place *p, struct store_attr *ret)
{
	struct store_object object;
	int r = current_object(fs, p, &object);

	if (r == 0)
		r = store_import(fs->config.store, &object, ret);
	if (r == 0)
		r = give_its_time(fs, &object, ret);
	if (r < 0 && r != -ESTALE && p->imported) /* what is kept of it serves */
		r = store_attr(fs->config.store, p->attr.ino, ret);
	return r;
}

/* ---- replacing ---- */

/* What "a/b/c" is to be in the store, with its folder. */
static int place_ours(struct fs_call *c, struct fs_place *p, struct fs_make *ret, struct fs_place *ret_dir)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(c->req);
	cleanup_buf struct buf folder = {0};
	const char *name = split(buf_text(&p->path), &folder);
	int r = buf_error(&folder);

	*ret = (struct fs_make){.name = name,
		.type = STORE_FILE,
		.mode = p->attr.mode & 07777,
		.uid = ctx->uid,
		.gid = ctx->gid};
	return r < 0 ? r : fs_place_find_path(c->fs, buf_text(&folder), ret_dir);
}

int fs_foreign_replace(
	struct fs_call *c, struct fs_place *p, struct store_attr *ret, bool *ret_is_new)
{
	cleanup_place struct fs_place dir = {0};
	struct fs_make what;
	int r = place_ours(c, p, &what, &dir);

	if (r == 0)
		r = fs_make(c->fs, &dir, &what, ret);
	*ret_is_new = r == 0;
	if (r == -EEXIST) /* somebody was faster: that one stands for it */
		r = store_lookup(c->fs->config.store, dir.attr.ino, what.name, ret);
	if (r == 0)
		fs_table_set_alias(c->fs->table, p->attr.ino, ret->ino);
	return r;
}

void fs_foreign_unreplace(struct fs_call *c, struct fs_place *p, const struct store_attr *made)
{
	struct store_inode inode;
	int r = store_inode(c->fs->config.store, made->ino, &inode);

	fs_table_set_alias(c->fs->table, p->attr.ino, 0);
	if (r == 0 && inode.attr.state == FILE_OPEN && inode.attr.size_bytes == 0)
		r = store_unlink(c->fs->config.store, inode.attr.parent, inode.name, 0);
	if (r < 0 && r != -ENOENT)
		log_warn("%s: an empty file in the place of an object could not be removed: %s; "
			 "remove it",
			buf_text(&p->path), strerror(-r));
}

/* ---- changing in place ---- */

/* Reads a range, fetching what is not here yet, one chunk after the other. */
static ssize_t read_fetched(
	struct fs *fs, struct store_file *from, uint64_t from_ino, char *buffer, uint64_t off)
{
	for (unsigned tries = 0; tries < STORE_CHUNKS_MAX; tries++) {
		uint64_t chunk = 0;
		ssize_t n = store_file_read(from, buffer, COPY_BYTES, off, &chunk);
		int r;

		if (n != -EREMOTE)
			return n;
		r = remote_fetch_wait(
			fs->config.remote, from_ino, chunk, clock_mono_ms() + FETCH_WAIT_MS);
		if (r < 0)
			return r == -ENOSPC ? r : -EIO;
	}
	return -EIO;
}

static int copy_range(struct fs *fs, struct store_file *from, uint64_t from_ino,
	struct store_file *to, uint64_t off, char *buffer, size_t *ret_len)
{
	ssize_t n = read_fetched(fs, from, from_ino, buffer, off);
	uint64_t chunk = 0;
	int r;

	*ret_len = 0;
	if (n <= 0)
		return (int)n;
	r = store_file_write(to, buffer, (size_t)n, off, false, &chunk);
	if (r == 0)
		*ret_len = (size_t)n;
	return r == -EDQUOT ? -ENOSPC : r;
}

static int copy_content(
	struct fs *fs, struct store_file *from, uint64_t from_ino, struct store_file *to)
{
	cleanup_free char *buffer = malloc(COPY_BYTES);
	uint64_t off = 0;
	size_t len;
	int r;

	if (!buffer)
		return -ENOMEM;
	do {
		r = copy_range(fs, from, from_ino, to, off, buffer, &len);
		off += len;
	} while (r == 0 && len > 0);
	return r;
}

/* A name for the copy until it is whole; one that is never sent. */
static void copy_name(char out[32])
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
	uint64_t random = random_u64();
	char tail[7] = "";

	for (size_t i = 0; i < 6; i++)
		tail[i] = letters[random >> (5 * i) & 31];
	snprintf(out, 32, ".cpgfs-copy.%s", tail);
}

/* Only whole it gets its name, if nobody else was faster. It is closed then, so that it is never
 * sent under the other one; until then a kill leaves nothing of it (STORE_FLAG_COPY). */
static int name_copy(struct fs *fs, const struct store_attr *made, const char *made_as,
	const char *name, struct store_file *f)
{
	int r = store_rename(fs->config.store, made->parent, made_as, made->parent, name,
		STORE_RENAME_NOREPLACE, 0);

	return r < 0 ? r : store_file_flush(f, false, NULL);
}

static int fill_copy(struct fs *fs, uint64_t from_ino, const struct store_attr *made,
	const char *made_as, const char *name)
{
	struct store_file *from, *to;
	int r = store_file_open(fs->config.store, from_ino, &from);

	if (r < 0)
		return r;
	r = store_file_open(fs->config.store, made->ino, &to);
	if (r < 0) {
		store_file_close(from);
		return r;
	}
	store_file_writer_add(to);
	r = copy_content(fs, from, from_ino, to);
	if (r == 0)
		r = name_copy(fs, made, made_as, name, to);
	store_file_writer_drop(to);
	store_file_close(to);
	store_file_close(from);
	return r;
}

/* A copy that failed, or that nobody needs any more. */
static void unmake(struct fs *fs, const struct store_attr *made, const char *made_as)
{
	int r = store_unlink(fs->config.store, made->parent, made_as, 0);

	if (r < 0 && r != -ENOENT)
		log_warn("%s: a copy that failed could not be removed: %s; remove it", made_as,
			strerror(-r));
}

static int make_copy(
	struct fs_call *c, struct fs_place *p, uint64_t from_ino, struct store_attr *ret)
{
	cleanup_place struct fs_place dir = {0};
	struct store_attr made = {0};
	struct fs_make what;
	char made_as[32];
	int r = place_ours(c, p, &what, &dir);

	copy_name(made_as);
	what.made_as = made_as;
	what.flags = STORE_FLAG_COPY;
	if (r == 0)
		r = fs_make(c->fs, &dir, &what, &made);
	if (r < 0)
		return r == -EEXIST ? -EBUSY : r; /* that name of all */
	r = fill_copy(c->fs, from_ino, &made, made_as, what.name);
	if (r < 0)
		unmake(c->fs, &made, made_as);
	if (r == 0 || r == -EEXIST) /* somebody was faster: that one stands for it */
		r = store_lookup(c->fs->config.store, made.parent, what.name, ret);
	return r;
}

int fs_foreign_take_over(struct fs_call *c, struct fs_place *p, struct store_attr *ret)
{
	struct store_attr imported = {0};
	int r;

	if (!c->fs->config.allow_overwrite) {
		say_refused(c->fs, buf_text(&p->path), "changing it in place",
			"replace it as a whole, or mount with --allow-overwrite");
		return -EPERM;
	}
	if (!c->on_slow)
		return FS_SLOW;
	r = fs_foreign_import(c->fs, p, &imported);
	if (r == 0)
		r = make_copy(c, p, imported.ino, ret);
	if (r == 0)
		fs_table_set_alias(c->fs->table, p->attr.ino, ret->ino);
	return r;
}

/* ---- removing and renaming ---- */

int fs_foreign_unlink(struct fs_call *c, struct fs_place *p)
{
	struct fs *fs = c->fs;
	struct store_object object;
	int r;

	if (!fs->config.allow_delete) {
		say_refused(fs, buf_text(&p->path), "deleting it",
			"mount with --allow-delete if it is meant to go");
		return -EPERM;
	}
	r = current_object(fs, p, &object);
	if (r < 0)
		return r;
	fs_hidden_add(fs, object.key);
	return store_stray_add(fs->config.store, &object,
		clock_wall_ns() + fs->config.delete_delay_ms * (NS_PER_S / MS_PER_S));
}

int fs_foreign_rename(struct fs_call *c, const char *path, bool in_doubt)
{
	if (c->fs->config.allow_overwrite && c->fs->config.allow_delete)
		return -EXDEV; /* mv copies and deletes, by the rules for both */
	if (in_doubt)
		return -EBUSY; /* there may be nothing at all */
	say_refused(c->fs, path, "renaming it",
		"mount with --allow-overwrite and --allow-delete if it is meant to move");
	return -EPERM;
}

/* ---- is anything from elsewhere below a folder? ---- */

static int foreign_in_prefix(struct fs *fs, struct fs_place *dir, const char *prefix,
	enum fs_patience patience, uint64_t *ret_listing)
{
	cleanup_free struct remote_entry *page = malloc(PAGE * sizeof(*page));
	char after[STORE_NAME_MAX + 1] = "";
	int n;

	if (!page)
		return -ENOMEM;
	while ((n = remote_list(fs->config.remote, prefix, after, true, page, PAGE)) > 0) {
		for (int i = 0; i < n; i++) {
			cleanup_place struct fs_place found = {0};
			struct store_attr ours;
			int r = store_lookup(fs->config.store, dir->attr.ino, page[i].name, &ours);

			if (r == -ENOENT)
				r = fs_place_of_entry(
					fs, dir, prefix, &page[i], patience, &found, ret_listing);
			else
				continue;
			if (r < 0 && r != -ENOENT)
				return r;
			if (r == 0 && found.kind != FS_STORE && !found.in_doubt)
				return 1;
		}
		(void)text_copy(after, page[n - 1].name, sizeof(after));
	}
	if (n == -EINPROGRESS && patience != FS_ANSWER_NOW) {
		*ret_listing = fs_listing_id(prefix);
		return fs_is_impatient(fs, *ret_listing) ? 0 : n;
	}
	return 0; /* nothing, or nothing known: the upload decides */
}

static int foreign_below(struct fs *fs, const struct store_attr *attr, unsigned depth,
	enum fs_patience patience, uint64_t *ret_listing)
{
	cleanup_place struct fs_place dir = {.kind = FS_STORE, .attr = *attr};
	cleanup_free struct store_entry *page = NULL;
	char prefix[KEY_MAX_BYTES + 2], after[STORE_NAME_MAX + 1] = "";
	int n, r;

	if (attr->flags & STORE_FLAG_BORN_LOCAL)
		return 0; /* all below was made here */
	r = fs_place_prefix(fs, &dir, prefix);
	if (r < 0)
		return r == -ENAMETOOLONG ? 0 : r;
	r = foreign_in_prefix(fs, &dir, prefix, patience, ret_listing);
	if (r || depth == 0)
		return r;
	page = malloc(PAGE * sizeof(*page));
	if (!page)
		return -ENOMEM;
	while ((n = store_readdir_folders(fs->config.store, attr->ino, after, page, PAGE)) > 0) {
		for (int i = 0; i < n; i++) {
			r = foreign_below(fs, &page[i].attr, depth - 1, patience, ret_listing);
			if (r)
				return r;
		}
		(void)text_copy(after, page[n - 1].name, sizeof(after));
	}
	return n;
}

int fs_foreign_below(
	struct fs *fs, struct fs_place *dir, enum fs_patience patience, uint64_t *ret_listing)
{
	return foreign_below(fs, &dir->attr, BELOW_DEPTH_MAX, patience, ret_listing);
}
