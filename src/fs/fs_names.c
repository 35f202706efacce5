/*
 * fs_names - what a name or an inode number stands for: the store's entry, else the bucket's.
 *
 * The store wins. Where it has no entry, the cached listing of the folder answers; where that has
 * to come first, a lookup may wait for it once (design: the first lookup of a folder waits a
 * moment, copying in never does): afterwards, and while the endpoint is down, the index alone
 * answers and the kernel keeps nothing. Folders above the mounted prefix are made up.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#define FOLDER_MODE 0755
#define OBJECT_MODE 0644
#define IMPATIENT_MS                                                                               \
	30000		   /* a folder that kept a lookup waiting is not waited for again so long  \
			    */
#define LATE_WAIT_MS 50	   /* a lookup's patience while no listing comes at all */
#define HIDDEN_DEPTH_MAX 100 /* folders below a deleted one that are looked into */
#define PAGE 64

/* ---- places ---- */

void fs_place_release(struct fs_place *p)
{
	buf_release(&p->path);
}

static void place_set_path(struct fs_place *p, const char *path)
{
	buf_clear(&p->path);
	buf_add_text(&p->path, path);
	p->has_path = true;
}

/* An attribute set for what only the bucket has. */
static struct store_attr bucket_attr(
	const struct fs *fs, uint64_t ino, bool is_dir, uint64_t size_bytes, int64_t mtime_ns)
{
	if (is_dir)
		mtime_ns = fs->made_at_ns; /* S3 has no times for folders */
	return (struct store_attr){
		.ino = ino,
		.type = is_dir ? STORE_DIR : STORE_FILE,
		.mode = is_dir ? S_IFDIR | FOLDER_MODE : S_IFREG | OBJECT_MODE,
		.uid = fs->owner_uid,
		.gid = fs->owner_gid,
		.size_bytes = is_dir ? 0 : size_bytes,
		.mtime_ns = mtime_ns,
		.ctime_ns = mtime_ns,
		.atime_ns = mtime_ns,
		.flags = STORE_FLAG_FOREIGN,
		.in_bucket = true,
	};
}

/* Modes, owners and times that were set here on an object from elsewhere are kept with its chunks;
 * its own time counts if it was replaced since. */
static void overlay_import(struct fs *fs, struct fs_place *p)
{
	struct store_attr kept;

	if (p->attr.type != STORE_FILE || store_attr(fs->config.store, p->attr.ino, &kept) < 0)
		return;
	p->imported = true;
	p->attr.mode = kept.mode;
	p->attr.uid = kept.uid;
	p->attr.gid = kept.gid;
	if (p->attr.mtime_ns > kept.ctime_ns)
		return;
	p->attr.mtime_ns = kept.mtime_ns;
	p->attr.ctime_ns = kept.ctime_ns;
	p->attr.atime_ns = kept.atime_ns;
}

/*
 * The number is a hash of the key. A folder that was brought into the store keeps its number when
 * it is renamed: should the bucket show the old name again, that gets another one.
 */
static uint64_t ino_of_bucket_path(struct fs *fs, const char *path, bool is_dir)
{
	char key[KEY_MAX_BYTES + 3];
	struct store_attr taken;
	uint64_t ino;

	snprintf(key, sizeof(key), "%s%s", path, is_dir ? "/" : "");
	ino = store_ino_of_key(key);
	if (!is_dir || store_attr(fs->config.store, ino, &taken) < 0)
		return ino;
	snprintf(key, sizeof(key), "%s//", path);
	return store_ino_of_key(key);
}

/* A thing of the bucket by its path. */
static int bucket_place(struct fs *fs, const char *path, bool is_dir, uint64_t size_bytes,
	int64_t mtime_ns, struct fs_place *ret)
{
	struct fs_place p = {.kind = FS_BUCKET, .certain = true};

	p.attr =
		bucket_attr(fs, ino_of_bucket_path(fs, path, is_dir), is_dir, size_bytes, mtime_ns);
	place_set_path(&p, path);
	if (buf_error(&p.path) < 0)
		return -ENOMEM;
	overlay_import(fs, &p);
	*ret = p;
	return 0;
}

static void store_place(const struct store_attr *attr, struct fs_place *ret)
{
	*ret = (struct fs_place){.kind = FS_STORE, .attr = *attr, .certain = true};
}

bool fs_shadow_of(struct fs *fs, uint64_t dir_ino, const char *name, struct store_attr *ret)
{
	const struct naming_policy *policy = &fs->config.naming;
	cleanup_free struct store_entry *page = NULL;
	char after[STORE_NAME_MAX + 1] = "", cleaned[STORE_NAME_MAX + 1];
	int n;

	if (policy->mode != NAMING_CLEAN)
		return false;
	page = malloc(PAGE * sizeof(*page));
	if (!page)
		return false;
	while ((n = store_readdir_folders(fs->config.store, dir_ino, after, page, PAGE)) > 0) {
		for (int i = 0; i < n; i++) {
			if (name_clean(policy, page[i].name, cleaned, sizeof(cleaned)) < 0 ||
				strcmp(cleaned, name) != 0)
				continue;
			*ret = page[i].attr;
			return true;
		}
		(void)text_copy(after, page[n - 1].name, sizeof(after));
	}
	return false;
}

int fs_resolve(struct fs *fs, const char *path, struct store_attr *ret)
{
	cleanup_free char *copy = NULL;
	char *save = NULL;
	int r = store_resolve(fs->config.store, path, ret);

	if (r != -ENOENT || fs->config.naming.mode != NAMING_CLEAN)
		return r;
	copy = text_dup(path);
	if (!copy)
		return -ENOMEM;
	*ret = (struct store_attr){.ino = STORE_ROOT_INO};
	for (char *name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
		uint64_t dir = ret->ino;

		r = store_lookup(fs->config.store, dir, name, ret);
		if (r == -ENOENT && fs_shadow_of(fs, dir, name, ret))
			r = 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* A folder of the bucket may be in the store by now; an object may have been replaced. */
static int known_place(
	struct fs *fs, uint64_t ino, const struct fs_known *known, struct fs_place *ret)
{
	struct store_attr attr;

	if (known->alias) {
		if (store_attr(fs->config.store, known->alias, &attr) < 0)
			return -ESTALE;
		store_place(&attr, ret);
		return 0;
	}
	if (known->is_dir &&
		(store_attr(fs->config.store, ino, &attr) == 0 ||
			fs_resolve(fs, buf_text(&known->path), &attr) == 0)) {
		store_place(&attr, ret);
		return 0;
	}
	return bucket_place(
		fs, buf_text(&known->path), known->is_dir, known->size_bytes, known->mtime_ns, ret);
}

static int table_place(struct fs *fs, uint64_t ino, struct fs_place *ret)
{
	struct fs_known known;
	struct store_attr attr;
	int r = fs_table_find(fs->table, ino, &known);

	if (r == -ESTALE && store_attr(fs->config.store, ino, &attr) == 0 &&
		attr.type == STORE_DIR) {
		store_place(&attr, ret); /* a folder of the store with a number of the bucket */
		return 0;
	}
	if (r < 0)
		return r;
	if (known.kind == FS_NODE_VIRTUAL)
		*ret = (struct fs_place){
			.kind = FS_VIRTUAL,
			.virtual_id = known.virtual_id,
			.attr = {.ino = ino, .type = known.is_dir ? STORE_DIR : STORE_FILE},
		};
	else
		r = known_place(fs, ino, &known, ret);
	buf_release(&known.path);
	return r;
}

int fs_place_find(struct fs *fs, uint64_t ino, struct fs_place *ret)
{
	struct store_attr attr;
	int r;

	if (ino & (STORE_INO_FROM_BUCKET | FS_INO_VIRTUAL))
		return table_place(fs, ino, ret);
	r = store_attr(fs->config.store, ino, &attr);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	store_place(&attr, ret);
	return 0;
}

int fs_place_find_dir(struct fs *fs, uint64_t ino, struct fs_place *ret)
{
	int r = fs_place_find(fs, ino, ret);

	if (r < 0)
		return r;
	if (ret->attr.type == STORE_DIR)
		return 0;
	fs_place_release(ret);
	return -ENOTDIR;
}

int fs_place_find_path(struct fs *fs, const char *path, struct fs_place *ret)
{
	struct store_attr attr;
	int r;

	if (*path == '\0')
		return fs_place_find(fs, STORE_ROOT_INO, ret);
	r = fs_resolve(fs, path, &attr);
	if (r == 0)
		store_place(&attr, ret);
	if (r != -ENOENT)
		return r;
	return strlen(path) > KEY_MAX_BYTES ? -ENOENT : bucket_place(fs, path, true, 0, 0, ret);
}

int fs_place_path(struct fs *fs, struct fs_place *p)
{
	int r;

	if (p->has_path || p->kind == FS_VIRTUAL)
		return 0;
	r = store_path(fs->config.store, p->attr.ino, &p->path);
	if (r == 0)
		r = buf_error(&p->path);
	p->has_path = r == 0;
	return r;
}

int fs_child_path(struct fs *fs, struct fs_place *dir, const char *name, struct buf *ret)
{
	int r = fs_place_path(fs, dir);

	if (r < 0)
		return r;
	buf_clear(ret);
	if (dir->path.len)
		buf_printf(ret, "%s/", buf_text(&dir->path));
	buf_add_text(ret, name);
	return buf_error(ret);
}

int fs_place_prefix(struct fs *fs, struct fs_place *dir, char prefix[KEY_MAX_BYTES + 2])
{
	const struct naming_policy *policy = &fs->config.naming;
	char key[KEY_MAX_BYTES + 1];
	const char *path;
	int r = fs_place_path(fs, dir);

	if (r < 0)
		return r;
	path = buf_text(&dir->path);
	if (dir->kind == FS_STORE && policy->mode == NAMING_CLEAN && *path &&
		path_to_key(policy, path, true, key) == 0)
		path = key;
	if (strlen(path) > KEY_MAX_BYTES)
		return -ENAMETOOLONG;
	snprintf(prefix, KEY_MAX_BYTES + 2, "%s%s", path, *path ? "/" : "");
	return 0;
}

/* ---- patience ---- */

uint64_t fs_listing_id(const char *prefix)
{
	return store_ino_of_key(prefix);
}

static unsigned impatient_slot(uint64_t listing)
{
	return (unsigned)(listing % FS_IMPATIENT_MAX);
}

bool fs_is_impatient(struct fs *fs, uint64_t listing)
{
	unsigned i = impatient_slot(listing);

	with_lock(&fs->lock);
	return fs->impatient[i].listing == listing && clock_mono_ms() < fs->impatient[i].until_ms;
}

void fs_set_impatient(struct fs *fs, uint64_t listing)
{
	unsigned i = impatient_slot(listing);

	atomic_store(&fs->listings_late, true);
	with_lock(&fs->lock);
	fs->impatient[i].listing = listing;
	fs->impatient[i].until_ms = clock_mono_ms() + IMPATIENT_MS;
}

void fs_clear_impatient(struct fs *fs, uint64_t listing)
{
	unsigned i = impatient_slot(listing);

	atomic_store(&fs->listings_late, false);
	with_lock(&fs->lock);
	if (fs->impatient[i].listing == listing)
		fs->impatient[i].listing = 0;
}

enum fs_patience fs_patience_of(const struct fs_call *c)
{
	if (c->impatient)
		return FS_ANSWER_NOW;
	return c->parked_since_ms[FS_WAIT_LISTING] ? FS_WAITED : FS_MAY_WAIT;
}

/* A server that hangs would else hold up each new folder of a copy anew. */
int64_t fs_lookup_patience_ms(struct fs *fs)
{
	bool late = atomic_load(&fs->listings_late) && fs->lookup_wait_ms > LATE_WAIT_MS;

	return late ? LATE_WAIT_MS : fs->lookup_wait_ms;
}

int fs_wait_for_listing(struct fs_call *c, uint64_t listing, int64_t patience_ms)
{
	c->wait = (struct fs_wait){
		.kind = FS_WAIT_LISTING, .listing = listing, .patience_ms = patience_ms};
	return FS_PARK;
}

/* ---- what the bucket shows ---- */

/* Does a folder made here map to this one of the bucket? It stands for it. */
static bool is_shadowed(struct fs *fs, const struct fs_place *dir, const char *name)
{
	struct store_attr attr;

	return dir->kind == FS_STORE && fs_shadow_of(fs, dir->attr.ino, name, &attr);
}

/* "prefix/name", folders with a final slash. False: longer than a key can be. */
static bool key_of_entry(
	const char *prefix, const struct remote_entry *entry, char key[KEY_MAX_BYTES + 2])
{
	size_t before = strlen(prefix), len = strlen(entry->name);

	if (before + len + 1 > KEY_MAX_BYTES)
		return false;
	memcpy(key, prefix, before);
	memcpy(key + before, entry->name, len);
	if (entry->is_dir)
		key[before + len++] = '/';
	key[before + len] = '\0';
	return true;
}

static int shows_nothing(struct fs *fs, const char *prefix, unsigned depth,
	enum fs_patience patience, uint64_t *ret_listing);

/* Ours shows as its file. What was ours when the listing was asked, and is deleted by now, has gone
 * from the listing before it was forgotten here. 1, 0, -ENODATA: not known. */
static int object_is_hidden(struct fs *fs, const char *prefix, const char *name, const char *key)
{
	struct remote_entry entry;
	int ours = store_key_is_ours(fs->config.store, key);

	if (ours)
		return ours < 0 ? -ENODATA : 1;
	switch (remote_lookup(fs->config.remote, prefix, name, true, &entry)) {
	case 0:
		return 0;
	case -ENOENT:
		return 1;
	default:
		return -ENODATA;
	}
}

static int entry_is_hidden(struct fs *fs, const char *prefix, const struct remote_entry *entry,
	unsigned depth, enum fs_patience patience, uint64_t *ret_listing)
{
	char key[KEY_MAX_BYTES + 2];

	if (!key_of_entry(prefix, entry, key))
		return 1;
	if (entry->is_dir)
		return shows_nothing(fs, key, depth - 1, patience, ret_listing);
	return object_is_hidden(fs, prefix, entry->name, key);
}

/* Does nothing below this prefix show? 1, 0, -ENODATA (not known), -EINPROGRESS. */
static int shows_nothing(struct fs *fs, const char *prefix, unsigned depth,
	enum fs_patience patience, uint64_t *ret_listing)
{
	cleanup_free struct remote_entry *page = malloc(PAGE * sizeof(*page));
	char after[STORE_NAME_MAX + 1] = "";
	int n, r;

	if (!page || depth == 0)
		return -ENODATA;
	while ((n = remote_list(fs->config.remote, prefix, after, true, page, PAGE)) > 0) {
		for (int i = 0; i < n; i++) {
			r = entry_is_hidden(fs, prefix, &page[i], depth, patience, ret_listing);
			if (r <= 0)
				return r;
		}
		(void)text_copy(after, page[n - 1].name, sizeof(after));
	}
	if (n == 0)
		return 1;
	if (n != -EINPROGRESS || patience == FS_ANSWER_NOW)
		return -ENODATA;
	*ret_listing = fs_listing_id(prefix);
	return fs_is_impatient(fs, *ret_listing) ? -ENODATA : n;
}

int fs_prefix_is_empty(
	struct fs *fs, const char *prefix, enum fs_patience patience, uint64_t *ret_listing)
{
	return shows_nothing(fs, prefix, HIDDEN_DEPTH_MAX, patience, ret_listing);
}

/* A folder that is an empty shell of what was removed here. */
static int folder_is_hidden(struct fs *fs, struct fs_place *dir, const char *name,
	const char *prefix, enum fs_patience patience, uint64_t *ret_listing)
{
	if (is_shadowed(fs, dir, name))
		return 1;
	if (!fs_hidden_below(fs, prefix))
		return 0;
	return shows_nothing(fs, prefix, HIDDEN_DEPTH_MAX, patience, ret_listing);
}

int fs_place_of_entry(struct fs *fs, struct fs_place *dir, const char *prefix,
	const struct remote_entry *entry, enum fs_patience patience, struct fs_place *ret,
	uint64_t *ret_listing)
{
	char key[KEY_MAX_BYTES + 2];
	struct store_attr attr;
	int hidden, r;

	if (!key_of_entry(prefix, entry, key))
		return -ENOENT;
	hidden = entry->is_dir ? folder_is_hidden(fs, dir, entry->name, key, patience, ret_listing)
			       : object_is_hidden(fs, prefix, entry->name, key);
	if (hidden && hidden != -ENODATA) /* nothing is hidden on doubt */
		return hidden < 0 ? hidden : -ENOENT;
	if (dir->kind == FS_STORE) { /* made since it was asked, and uploaded already? */
		r = store_lookup(fs->config.store, dir->attr.ino, entry->name, &attr);
		if (r == 0)
			store_place(&attr, ret);
		if (r != -ENOENT)
			return r;
	}
	if (entry->is_dir)
		key[strlen(key) - 1] = '\0';
	r = bucket_place(fs, key, entry->is_dir, entry->object.size_bytes,
		entry->object.last_modified_ns, ret);
	if (r == 0 && hidden == -ENODATA) {
		ret->in_doubt = true;
		ret->certain = false;
	}
	return r;
}

/* The bucket's answer for a name inside the prefix. */
static int lookup_bucket(struct fs *fs, struct fs_place *dir, const char *name,
	enum fs_patience patience, struct fs_place *ret, bool *ret_certain, uint64_t *ret_listing)
{
	char prefix[KEY_MAX_BYTES + 2];
	struct remote_entry entry;
	bool now = patience == FS_ANSWER_NOW || (dir->attr.flags & STORE_FLAG_BORN_LOCAL);
	int r = fs_place_prefix(fs, dir, prefix);

	if (r < 0)
		return r == -ENAMETOOLONG ? -ENOENT : r; /* a folder that no key can name */
	r = remote_lookup(fs->config.remote, prefix, name, now || patience == FS_WAITED, &entry);
	if (r == -EINPROGRESS && !now) {
		*ret_listing = fs_listing_id(prefix);
		if (!fs_is_impatient(fs, *ret_listing))
			return r;
	}
	if (r < 0 && r != -ENOENT) { /* not known: an old listing is better than none */
		*ret_certain = false;
		r = now ? -ENOENT : remote_lookup(fs->config.remote, prefix, name, true, &entry);
	}
	if (r < 0)
		return -ENOENT;
	r = fs_place_of_entry(fs, dir, prefix, &entry, patience, ret, ret_listing);
	if (r == 0 && ret->kind == FS_BUCKET && !*ret_certain)
		ret->certain = false;
	return r;
}

int fs_lookup(struct fs *fs, struct fs_place *dir, const char *name, enum fs_patience patience,
	struct fs_place *ret, bool *ret_certain, uint64_t *ret_listing)
{
	cleanup_buf struct buf path = {0};
	struct store_attr attr;
	int r;

	*ret_certain = true;
	if (strlen(name) > STORE_NAME_MAX)
		return -ENAMETOOLONG;
	if (dir->kind == FS_STORE) {
		r = store_lookup(fs->config.store, dir->attr.ino, name, &attr);
		if (r == 0)
			store_place(&attr, ret);
		if (r != -ENOENT)
			return r;
	}
	r = fs_child_path(fs, dir, name, &path);
	if (r < 0)
		return r;
	switch (prefix_side_of(fs->prefix, buf_text(&path))) {
	case PREFIX_OUTSIDE:
		return -ENOENT;
	case PREFIX_ABOVE:
		return bucket_place(fs, buf_text(&path), true, 0, 0, ret);
	case PREFIX_INSIDE:
		break;
	}
	if (strcmp(buf_text(&path), fs->prefix) == 0) /* the mounted folder itself always is */
		return bucket_place(fs, buf_text(&path), true, 0, 0, ret);
	r = lookup_bucket(fs, dir, name, patience, ret, ret_certain, ret_listing);
	if (r != -ENOENT || !fs_standard_is(fs, dir, name))
		return r;
	r = bucket_place(fs, buf_text(&path), true, 0, 0, ret);
	if (r == 0) {
		ret->standard = true;
		ret->certain = *ret_certain;
	}
	return r;
}
