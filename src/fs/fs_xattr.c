/*
 * fs_xattr - extended attributes: user.* kept in the index, user.cpgfs.* made up on asking.
 *
 * user.cpgfs.state|key|etag|crc64nvme|error|attempts tell where a file stands. They are not
 * listed, so that programs that copy all attributes (cp -a, rsync -X) do not try to set them.
 * Other name spaces: EOPNOTSUPP, at once: a kernel that does not leave suid and sgid to us asks for
 * security.capability before each cached write.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <sys/xattr.h>

#define OURS "user.cpgfs."
#define VALUE_MAX_BYTES 65536 /* the kernel's own limit (XATTR_SIZE_MAX) */

static bool is_user(const char *name)
{
	return text_starts(name, "user.");
}

/* ---- made up ---- */

/* What is told about: a file of ours or a folder (inode), or an object from elsewhere (object). */
struct facts {
	struct store_inode inode;
	const char *key;
	char etag[S3_ETAG_MAX];
};

static void fact_state(const struct facts *f, struct buf *out)
{
	if (f->inode.attr.state != FILE_NONE)
		buf_add_text(out, file_state_text(f->inode.attr.state));
	else if (f->inode.attr.flags & STORE_FLAG_FOREIGN)
		buf_add_text(out, "foreign");
}

static void fact_key(const struct facts *f, struct buf *out)
{
	buf_add_text(out, f->key);
}

static void fact_etag(const struct facts *f, struct buf *out)
{
	buf_add_text(out, f->etag);
}

static void fact_crc(const struct facts *f, struct buf *out)
{
	char text[16];

	if (!f->inode.object.has_crc64nvme)
		return;
	crc64nvme_to_text(f->inode.object.crc64nvme, text);
	buf_add_text(out, text);
}

static void fact_error(const struct facts *f, struct buf *out)
{
	buf_add_text(out, f->inode.reason);
}

static void fact_attempts(const struct facts *f, struct buf *out)
{
	if (f->inode.attr.state != FILE_NONE)
		buf_printf(out, "%u", (unsigned)f->inode.attempts);
}

static const struct {
	const char *name;
	void (*tell)(const struct facts *f, struct buf *out); /* nothing: ENODATA */
} made_up[] = {
	{OURS "state", fact_state},
	{OURS "key", fact_key},
	{OURS "etag", fact_etag},
	{OURS "crc64nvme", fact_crc},
	{OURS "error", fact_error},
	{OURS "attempts", fact_attempts},
};

static void facts_of_object(struct fs *fs, const struct fs_place *p, struct facts *f)
{
	const char *path = buf_text(&p->path), *slash = strrchr(path, '/');
	char folder[KEY_MAX_BYTES + 2] = "";
	struct remote_entry entry;

	if (slash)
		snprintf(folder, sizeof(folder), "%.*s", (int)(slash + 1 - path), path);
	f->inode.attr = p->attr;
	if (p->attr.type == STORE_FILE && remote_lookup(fs->config.remote, folder,
						  slash ? slash + 1 : path, true, &entry) == 0)
		(void)text_copy(f->etag, entry.object.etag, sizeof(f->etag));
}

static int collect(struct fs *fs, struct fs_place *p, struct facts *f, char key[KEY_MAX_BYTES + 1])
{
	int r = fs_place_path(fs, p);

	if (r < 0)
		return r;
	if (path_to_key(&fs->config.naming, buf_text(&p->path), p->attr.type == STORE_DIR, key) < 0)
		key[0] = '\0'; /* held: it has none */
	if (p->kind == FS_BUCKET) {
		(void)text_copy(key, buf_text(&p->path), KEY_MAX_BYTES + 1);
		facts_of_object(fs, p, f);
	} else {
		r = store_inode(fs->config.store, p->attr.ino, &f->inode);
		(void)text_copy(f->etag, f->inode.object.etag, sizeof(f->etag));
	}
	f->key = key;
	return r;
}

static int get_made_up(struct fs_call *c, struct fs_place *p, struct buf *out)
{
	char key[KEY_MAX_BYTES + 1];
	struct facts f = {0};
	int r;

	for (size_t i = 0; i < array_len(made_up); i++) {
		if (strcmp(made_up[i].name, c->name) != 0)
			continue;
		r = collect(c->fs, p, &f, key);
		if (r < 0)
			return r;
		made_up[i].tell(&f, out);
		return out->len ? buf_error(out) : -ENODATA;
	}
	return -ENODATA;
}

/* ---- replies ---- */

static int reply_value(struct fs_call *c, const void *data, size_t len)
{
	if (c->size == 0)
		(void)fuse_reply_xattr(c->req, len);
	else if (len > c->size)
		return -ERANGE;
	else
		(void)fuse_reply_buf(c->req, data, len);
	return FS_DONE;
}

static int reply_kept(struct fs_call *c, uint64_t ino, bool list)
{
	cleanup_free char *value = malloc(VALUE_MAX_BYTES);
	struct store *s = c->fs->config.store;
	ssize_t n;

	if (!value)
		return -ENOMEM;
	n = list ? store_xattr_list(s, ino, value, VALUE_MAX_BYTES)
		 : store_xattr_get(s, ino, c->name, value, VALUE_MAX_BYTES);
	return n < 0 ? (int)n : reply_value(c, value, (size_t)n);
}

int fs_do_getxattr(struct fs_call *c)
{
	cleanup_place struct fs_place p = {0};
	cleanup_buf struct buf value = {0};
	int r;

	if (!is_user(c->name))
		return -EOPNOTSUPP;
	r = fs_place_find(c->fs, c->ino, &p);
	if (r < 0)
		return r;
	if (p.kind == FS_VIRTUAL)
		return -ENODATA;
	if (text_starts(c->name, OURS)) {
		r = get_made_up(c, &p, &value);
		return r < 0 ? r : reply_value(c, value.data, value.len);
	}
	if (p.kind == FS_BUCKET && !p.imported)
		return -ENODATA;
	return reply_kept(c, p.attr.ino, false);
}

int fs_do_listxattr(struct fs_call *c)
{
	cleanup_place struct fs_place p = {0};
	int r = fs_place_find(c->fs, c->ino, &p);

	if (r < 0)
		return r;
	if (p.kind == FS_VIRTUAL || (p.kind == FS_BUCKET && !p.imported))
		return reply_value(c, "", 0);
	return reply_kept(c, p.attr.ino, true);
}

/* Where a value can be kept; what only the bucket has comes into the store. */
static int place_to_change(struct fs_call *c, uint64_t *ret_ino)
{
	cleanup_place struct fs_place p = {0};
	struct store_attr attr;
	int r;

	if (!is_user(c->name))
		return -EOPNOTSUPP;
	if (text_starts(c->name, OURS))
		return -EPERM;
	r = fs_place_find(c->fs, c->ino, &p);
	if (r < 0)
		return r;
	if (p.kind == FS_VIRTUAL)
		return -EPERM;
	attr = p.attr;
	if (p.kind == FS_BUCKET && p.attr.type == STORE_DIR) {
		r = fs_materialise(c->fs, &p);
		attr = p.attr;
	} else if (p.kind == FS_BUCKET) {
		r = fs_foreign_import(c->fs, &p, &attr);
	}
	*ret_ino = attr.ino;
	return r;
}

static int reply_result(struct fs_call *c, int r)
{
	if (r < 0)
		return r;
	(void)fuse_reply_err(c->req, 0);
	return FS_DONE;
}

int fs_do_setxattr(struct fs_call *c)
{
	uint64_t ino;
	int r = place_to_change(c, &ino);

	if (r == 0)
		r = store_xattr_set(c->fs->config.store, ino, c->name, c->data, c->size, c->mask);
	return reply_result(c, r);
}

int fs_do_removexattr(struct fs_call *c)
{
	uint64_t ino;
	int r = place_to_change(c, &ino);

	if (r == 0)
		r = store_xattr_remove(c->fs->config.store, ino, c->name);
	return reply_result(c, r);
}
