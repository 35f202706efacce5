/*
 * fs_change - making, removing and renaming names.
 *
 * Everything happens in the store; the bucket follows. Names may only be made, removed and renamed
 * below the mounted prefix (EACCES elsewhere). The first thing made in a folder that only the
 * bucket has brings the chain of folders into the store, with the numbers they had.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#define FOLDER_MODE 0755

static int reply_ok(struct fs_call *c)
{
	(void)fuse_reply_err(c->req, 0);
	return FS_DONE;
}

static int wait_for(struct fs_call *c, uint64_t listing)
{
	return fs_wait_for_listing(c, listing, fs_lookup_patience_ms(c->fs));
}

/* Run again after waiting too long: that folder is not waited for once more. */
static void note_patience(struct fs_call *c)
{
	if (c->impatient && c->wait.kind == FS_WAIT_LISTING)
		fs_set_impatient(c->fs, c->wait.listing);
}

static bool is_reserved(const struct fs *fs, const struct fs_place *dir, const char *name)
{
	return dir->attr.ino == STORE_ROOT_INO && fs_virtual_exists(fs) &&
	       strcmp(name, FS_NAME_VIRTUAL) == 0;
}

/* May a name be made, removed or renamed here? *ret_path is its path. */
static int check_place(struct fs *fs, struct fs_place *dir, const char *name, struct buf *ret_path)
{
	int r;

	if (strlen(name) > STORE_NAME_MAX)
		return -ENAMETOOLONG;
	if (dir->attr.type != STORE_DIR)
		return -ENOTDIR;
	if (dir->kind == FS_VIRTUAL || is_reserved(fs, dir, name))
		return -EACCES;
	r = fs_child_path(fs, dir, name, ret_path);
	if (r < 0)
		return r;
	if (prefix_side_of(fs->prefix, buf_text(ret_path)) != PREFIX_INSIDE ||
		strcmp(buf_text(ret_path), fs->prefix) == 0)
		return -EACCES;
	return 0;
}

static int check_folder_name(struct fs *fs, const char *path)
{
	const char *component;
	size_t len;

	char reason[256];

	if (fs->config.naming.mode != NAMING_REFUSE ||
		path_judge(&fs->config.naming, path, true, &component, &len) != NAME_REFUSED)
		return 0;
	name_reason(&fs->config.naming, NAME_REFUSED, component, len, reason, sizeof(reason));
	fs_refusal_note(fs, path, reason);
	return -EINVAL;
}

/* ---- bringing folders into the store ---- */

/* Is it known that the bucket has nothing under the name that this one maps to? */
static bool bucket_lacks(struct fs *fs, struct fs_place *dir, const char *name)
{
	const struct naming_policy *policy = &fs->config.naming;
	char prefix[KEY_MAX_BYTES + 2], cleaned[STORE_NAME_MAX + 1];
	struct remote_entry entry;

	if (fs_place_prefix(fs, dir, prefix) < 0 ||
		remote_lookup(fs->config.remote, prefix, name, false, &entry) != -ENOENT)
		return false;
	if (policy->mode != NAMING_CLEAN || name_clean(policy, name, cleaned, sizeof(cleaned)) < 0)
		return true;
	return remote_lookup(fs->config.remote, prefix, cleaned, false, &entry) == -ENOENT;
}

static void tell_born_local(struct fs *fs, const char *path)
{
	struct fs_place made = {.kind = FS_STORE};
	char prefix[KEY_MAX_BYTES + 2];

	buf_add_text(&made.path, path);
	made.has_path = true;
	if (buf_error(&made.path) == 0 && fs_place_prefix(fs, &made, prefix) == 0)
		remote_born_local(fs->config.remote, prefix);
	fs_place_release(&made);
}

/* A standard folder that nobody had made is new to a bucket that is known to lack it. */
static uint32_t born_flag(struct fs *fs, const struct store_attr *parent, const char *name)
{
	cleanup_place struct fs_place dir = {.kind = FS_STORE, .attr = *parent};

	if (!fs_standard_is(fs, &dir, name))
		return 0;
	return (dir.attr.flags & STORE_FLAG_BORN_LOCAL) || bucket_lacks(fs, &dir, name)
		       ? STORE_FLAG_BORN_LOCAL
		       : 0;
}

/* One level: the folder `name` (with this path) of `parent`. */
static int materialise_level(
	struct fs *fs, uint64_t parent, const char *name, const char *path, struct store_attr *ret)
{
	char key[KEY_MAX_BYTES + 2];
	struct store_create what = {.parent = parent,
		.name = name,
		.type = STORE_DIR,
		.mode = FOLDER_MODE,
		.uid = fs->owner_uid,
		.gid = fs->owner_gid,
		.shown_ns = fs->made_at_ns};
	struct store_attr above;
	int r = store_lookup(fs->config.store, parent, name, ret);

	if (r == -ENOENT)
		r = store_attr(fs->config.store, parent, &above) < 0 ? -ESTALE : -ENOENT;
	if (r != -ENOENT || fs_shadow_of(fs, parent, name, ret))
		return r == -ENOENT ? 0 : r;
	if (strlen(path) > KEY_MAX_BYTES)
		return -ENAMETOOLONG;
	snprintf(key, sizeof(key), "%s/", path);
	what.ino = store_ino_of_key(key);
	what.flags = born_flag(fs, &above, name);
	r = store_create(fs->config.store, &what, ret);
	if (r == 0 && what.flags)
		tell_born_local(fs, path);
	return r == -EEXIST ? store_lookup(fs->config.store, parent, name, ret) : r;
}

int fs_materialise(struct fs *fs, struct fs_place *dir)
{
	cleanup_free char *path = NULL;
	struct store_attr attr = {.ino = STORE_ROOT_INO};
	int r = 0;

	if (dir->kind == FS_STORE)
		return 0;
	path = text_dup(buf_text(&dir->path));
	if (!path)
		return -ENOMEM;
	for (char *name = path, *slash; r == 0 && name; name = slash ? slash + 1 : NULL) {
		slash = strchr(name, '/');
		if (slash)
			*slash = '\0';
		r = materialise_level(fs, attr.ino, name, path, &attr);
		if (slash)
			*slash = '/';
	}
	if (r < 0)
		return r;
	dir->kind = FS_STORE;
	dir->attr = attr;
	return 0;
}

/* ---- making ---- */

/* As on local file systems: a setgid folder hands on its group. */
static void inherit_group(const struct fs_place *dir, struct store_create *what)
{
	if (!(dir->attr.mode & S_ISGID))
		return;
	what->gid = dir->attr.gid;
	if (what->type == STORE_DIR)
		what->mode |= S_ISGID;
}

int fs_make(struct fs *fs, struct fs_place *dir, const struct fs_make *what, struct store_attr *ret)
{
	struct store_create create = {.name = what->made_as ? what->made_as : what->name,
		.type = what->type,
		.mode = what->mode,
		.uid = what->uid,
		.gid = what->gid,
		.flags = what->flags};
	cleanup_buf struct buf path = {0};
	int r = check_place(fs, dir, what->name, &path);

	if (r == 0)
		r = fs_layout_check(fs, buf_text(&path), what->type == STORE_DIR);
	if (r == 0)
		r = fs_materialise(fs, dir);
	if (r < 0)
		return r;
	create.parent = dir->attr.ino;
	inherit_group(dir, &create);
	return store_create(fs->config.store, &create, ret);
}

static int reply_made(struct fs_call *c, const struct store_attr *attr)
{
	struct fs_place made = {.kind = FS_STORE, .attr = *attr, .certain = true};

	return fs_reply_place(c, &made);
}

/* An mknod'ed file is a complete one of no bytes. */
static int close_empty(struct fs *fs, struct store_attr *attr)
{
	struct store_file *f;
	int r = store_file_open(fs->config.store, attr->ino, &f);

	if (r < 0)
		return r;
	store_file_writer_add(f);
	r = store_file_flush(f, false, NULL);
	store_file_writer_drop(f);
	store_file_attr(f, attr);
	store_file_close(f);
	return r;
}

static struct fs_make make_of(struct fs_call *c, enum store_type type)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(c->req);

	return (struct fs_make){.name = c->name,
		.type = type,
		.mode = c->mode & 07777,
		.uid = ctx->uid,
		.gid = ctx->gid};
}

int fs_do_mknod(struct fs_call *c)
{
	cleanup_place struct fs_place dir = {0};
	struct fs_make what = make_of(c, STORE_FILE);
	struct store_attr attr;
	int r;

	if (c->mode & S_IFMT && !S_ISREG(c->mode))
		return -EPERM;
	r = fs_place_find_dir(c->fs, c->ino, &dir);
	if (r == 0)
		r = fs_make(c->fs, &dir, &what, &attr);
	if (r == 0)
		r = close_empty(c->fs, &attr);
	return r < 0 ? r : reply_made(c, &attr);
}

/* Is it known that the bucket has no such folder? Then all below it is ours. */
static bool is_new_to_bucket(
	struct fs *fs, struct fs_place *dir, const char *name, bool *ret_exists)
{
	cleanup_place struct fs_place found = {0};
	uint64_t listing = 0;
	bool certain;
	int r = fs_lookup(fs, dir, name, FS_ANSWER_NOW, &found, &certain, &listing);

	*ret_exists = r == 0 && !found.standard;
	if (r != -ENOENT && !(r == 0 && found.standard))
		return false;
	return (dir->attr.flags & STORE_FLAG_BORN_LOCAL) || bucket_lacks(fs, dir, name);
}

int fs_do_mkdir(struct fs_call *c)
{
	cleanup_place struct fs_place dir = {0};
	cleanup_buf struct buf path = {0};
	struct fs_make what = make_of(c, STORE_DIR);
	struct store_attr attr;
	bool exists;
	int r = fs_place_find_dir(c->fs, c->ino, &dir);

	if (r == 0)
		r = check_place(c->fs, &dir, c->name, &path);
	if (r == 0)
		r = check_folder_name(c->fs, buf_text(&path));
	if (r < 0)
		return r;
	if (is_new_to_bucket(c->fs, &dir, c->name, &exists))
		what.flags = STORE_FLAG_BORN_LOCAL;
	if (exists)
		return -EEXIST;
	r = fs_make(c->fs, &dir, &what, &attr);
	if (r < 0)
		return r;
	if (what.flags & STORE_FLAG_BORN_LOCAL)
		tell_born_local(c->fs, buf_text(&path));
	return reply_made(c, &attr);
}

int fs_do_refuse_link(struct fs_call *c)
{
	(void)c;
	return -EPERM; /* objects have one name, and no kind but regular */
}

/* ---- removing ---- */

/* As on local file systems, a folder's times tell that a name went. */
static int touch_folder(struct fs *fs, const struct fs_place *dir)
{
	struct store_attr values = {.mtime_ns = clock_wall_ns()};

	if (dir->kind != FS_STORE)
		return 0;
	return store_setattr(fs->config.store, dir->attr.ino, STORE_SET_MTIME, &values, &values);
}

int fs_do_unlink(struct fs_call *c)
{
	cleanup_place struct fs_place dir = {0}, found = {0};
	cleanup_buf struct buf path = {0};
	uint64_t listing = 0;
	bool certain;
	int r = fs_place_find_dir(c->fs, c->ino, &dir);

	note_patience(c);
	if (r == 0)
		r = check_place(c->fs, &dir, c->name, &path);
	if (r == 0)
		r = fs_lookup(c->fs, &dir, c->name, fs_patience_of(c), &found, &certain, &listing);
	if (r == -EINPROGRESS)
		return wait_for(c, listing);
	if (r < 0)
		return r;
	if (found.attr.type == STORE_DIR)
		return -EISDIR;
	if (found.kind == FS_BUCKET)
		r = fs_foreign_unlink(c, &found);
	else
		r = store_unlink(
			c->fs->config.store, dir.attr.ino, c->name, c->fs->config.delete_delay_ms);
	return r < 0 ? r : reply_ok(c);
}

/*
 * Objects from elsewhere keep a folder from being removed; those that are being deleted do not.
 * What is not known does not count: removing a folder here changes nothing in the bucket.
 */
static int check_empty_in_bucket(struct fs_call *c, struct fs_place *dir)
{
	bool ours = dir->attr.flags & STORE_FLAG_BORN_LOCAL;
	char prefix[KEY_MAX_BYTES + 2];
	uint64_t listing = 0;
	int r = fs_place_prefix(c->fs, dir, prefix);

	if (r < 0)
		return r == -ENAMETOOLONG ? 0 : r;
	r = fs_prefix_is_empty(c->fs, prefix, ours ? FS_ANSWER_NOW : fs_patience_of(c), &listing);
	if (r == -EINPROGRESS)
		return wait_for(c, listing);
	return r == 0 ? -ENOTEMPTY : 0;
}

/* The bucket may go on showing what had this name. */
static void note_gone(struct fs *fs, struct fs_place *p)
{
	char key[KEY_MAX_BYTES + 2];

	if (p->attr.type == STORE_DIR) {
		if (fs_place_prefix(fs, p, key) == 0)
			fs_hidden_add(fs, key);
		return;
	}
	if (fs_place_path(fs, p) < 0)
		return;
	if (path_to_key(&fs->config.naming, buf_text(&p->path), false, key) < 0)
		(void)text_copy(key, buf_text(&p->path), sizeof(key)); /* held: no object */
	fs_hidden_add(fs, key);
}

static int rmdir_store(struct fs_call *c, struct fs_place *dir, struct fs_place *found)
{
	struct store_entry first;
	int r = store_readdir(c->fs->config.store, found->attr.ino, "", &first, 1);

	if (r)
		return r < 0 ? r : -ENOTEMPTY;
	r = check_empty_in_bucket(c, found);
	if (r)
		return r;
	note_gone(c->fs, found);
	return store_rmdir(c->fs->config.store, dir->attr.ino, c->name);
}

/* One that only the bucket has is there because something is in it, or as a marker of somebody's.
 */
static int rmdir_bucket(struct fs_call *c, struct fs_place *found)
{
	char prefix[KEY_MAX_BYTES + 2];
	uint64_t listing = 0;
	int r;

	if (fs_place_prefix(c->fs, found, prefix) < 0)
		return -ENOTEMPTY;
	r = fs_prefix_is_empty(c->fs, prefix, FS_ANSWER_NOW, &listing);
	return r == 1 ? -EPERM : -ENOTEMPTY;
}

int fs_do_rmdir(struct fs_call *c)
{
	cleanup_place struct fs_place dir = {0}, found = {0};
	cleanup_buf struct buf path = {0};
	uint64_t listing = 0;
	bool certain;
	int r = fs_place_find_dir(c->fs, c->ino, &dir);

	note_patience(c);
	if (r == 0)
		r = check_place(c->fs, &dir, c->name, &path);
	if (r == 0)
		r = fs_lookup(c->fs, &dir, c->name, fs_patience_of(c), &found, &certain, &listing);
	if (r == -EINPROGRESS)
		return wait_for(c, listing);
	if (r < 0)
		return r;
	if (found.attr.type != STORE_DIR)
		return -ENOTDIR;
	if (found.standard) {
		note_gone(c->fs, &found);
		return reply_ok(c);
	}
	if (found.kind == FS_BUCKET)
		return rmdir_bucket(c, &found);
	r = rmdir_store(c, &dir, &found);
	if (r == 0)
		r = touch_folder(c->fs, &dir);
	return r ? r : reply_ok(c);
}

/* ---- renaming ---- */

/* What stands at the new name, if it is the bucket's. 0: nothing in the way. */
static int check_target(struct fs_call *c, struct fs_place *dir, bool source_is_dir)
{
	cleanup_place struct fs_place found = {0};
	uint64_t listing = 0;
	bool certain;
	int r = fs_lookup(c->fs, dir, c->new_name, fs_patience_of(c), &found, &certain, &listing);

	if (r == -EINPROGRESS)
		return wait_for(c, listing);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (c->mask & RENAME_NOREPLACE)
		return -EEXIST;
	if (source_is_dir && found.attr.type != STORE_DIR)
		return -ENOTDIR;
	if (!source_is_dir && found.attr.type == STORE_DIR)
		return -EISDIR;
	if (found.attr.type != STORE_DIR || found.standard)
		return 0; /* replaced; an object from elsewhere is judged when we upload */
	return found.kind == FS_BUCKET ? -ENOTEMPTY : check_empty_in_bucket(c, &found);
}

/* A folder may only go if all below it is ours. */
static int check_source(struct fs_call *c, struct fs_place *source)
{
	uint64_t listing = 0;
	int r;

	if (source->attr.type != STORE_DIR)
		return 0;
	r = fs_foreign_below(c->fs, source, fs_patience_of(c), &listing);
	if (r == -EINPROGRESS)
		return wait_for(c, listing);
	if (r <= 0)
		return r;
	r = fs_place_path(c->fs, source);
	return r < 0 ? r : fs_foreign_rename(c, buf_text(&source->path), false);
}

static int find_source(struct fs_call *c, struct fs_place *dir, struct fs_place *ret)
{
	uint64_t listing = 0;
	bool certain;
	int r = fs_lookup(c->fs, dir, c->name, fs_patience_of(c), ret, &certain, &listing);

	if (r == -EINPROGRESS)
		return wait_for(c, listing);
	if (r < 0 || ret->kind == FS_STORE)
		return r;
	if (ret->standard)
		return fs_materialise(c->fs, ret);
	return fs_foreign_rename(c, buf_text(&ret->path), ret->in_doubt);
}

/* Everything that may refuse or wait, before anything changes. */
static int check_rename(struct fs_call *c, struct fs_place *from, struct fs_place *to,
	struct fs_place *source, struct buf *new_path)
{
	cleanup_buf struct buf old_path = {0};
	int r = check_place(c->fs, from, c->name, &old_path);

	if (r == 0)
		r = check_place(c->fs, to, c->new_name, new_path);
	if (r == 0)
		r = find_source(c, from, source);
	if (r == 0 && source->attr.type == STORE_DIR)
		r = check_folder_name(c->fs, buf_text(new_path));
	if (r == 0)
		r = fs_layout_check(c->fs, buf_text(new_path), source->attr.type == STORE_DIR);
	if (r == 0)
		r = check_target(c, to, source->attr.type == STORE_DIR);
	if (r == 0)
		r = check_source(c, source);
	return r;
}

int fs_do_rename(struct fs_call *c)
{
	cleanup_place struct fs_place from = {0}, to = {0}, source = {0};
	cleanup_buf struct buf new_path = {0};
	bool exists;
	int r;

	if (c->mask & ~RENAME_NOREPLACE)
		return -EINVAL;
	note_patience(c);
	r = fs_place_find_dir(c->fs, c->ino, &from);
	if (r == 0)
		r = fs_place_find_dir(c->fs, c->new_parent, &to);
	if (r == 0)
		r = check_rename(c, &from, &to, &source, &new_path);
	if (r == 0 && source.attr.type == STORE_DIR &&
		(source.attr.flags & STORE_FLAG_BORN_LOCAL) &&
		is_new_to_bucket(c->fs, &to, c->new_name, &exists))
		tell_born_local(c->fs, buf_text(&new_path));
	if (r == 0)
		r = fs_materialise(c->fs, &to);
	if (r == 0)
		r = fs_hidden_expect(c->fs, &source);
	if (r)
		return r;
	note_gone(c->fs, &source);
	r = store_rename(c->fs->config.store, from.attr.ino, c->name, to.attr.ino, c->new_name,
		c->mask & RENAME_NOREPLACE ? STORE_RENAME_NOREPLACE : 0,
		c->fs->config.delete_delay_ms);
	return r < 0 ? r : reply_ok(c);
}
