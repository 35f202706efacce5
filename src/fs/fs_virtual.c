/*
 * fs_virtual - `.cpgfs`: things that another room makes up.
 *
 * Its functions may ask the bucket, so all of them run where calls may block. A file's content is
 * a snapshot of its open, or made while it is read if it may be long; read with direct I/O (nobody knows
 * its size before). What is written to a command file is handed over at once.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <fcntl.h>
#include <stdatomic.h>

#define ID_MASK (FS_INO_VIRTUAL - 1)

bool fs_virtual_exists(const struct fs *fs)
{
	return fs->config.virtual.lookup != NULL;
}

/* The provider's ids may be hashes: what is cut off here is kept in the table. */
uint64_t fs_virtual_ino(uint64_t virtual_id)
{
	return FS_INO_VIRTUAL | (virtual_id & ID_MASK);
}

int fs_virtual_place(struct fs *fs, const struct fs_virtual_attr *attr, struct fs_place *ret)
{
	uint32_t type = attr->is_dir ? S_IFDIR : S_IFREG;

	*ret = (struct fs_place){
		.kind = FS_VIRTUAL,
		.virtual_id = attr->id,
		.certain = true,
		.attr = {.ino = fs_virtual_ino(attr->id),
			.type = attr->is_dir ? STORE_DIR : STORE_FILE,
			.mode = type | (attr->mode & 07777),
			.uid = fs->owner_uid,
			.gid = fs->owner_gid,
			.size_bytes = attr->size_bytes,
			.mtime_ns = attr->mtime_ns,
			.ctime_ns = attr->mtime_ns,
			.atime_ns = attr->mtime_ns},
	};
	return 0;
}

#define VIRTUAL_TOP 1 /* the provider's id of `.cpgfs` itself */

int fs_virtual_lookup(struct fs_call *c, uint64_t dir_id)
{
	const struct fs_virtual *v = &c->fs->config.virtual;
	cleanup_place struct fs_place p = {0};
	struct fs_virtual_attr attr;
	int r;

	if (!c->on_slow)
		return FS_ASK;
	r = dir_id ? v->lookup(v->user, dir_id, c->name, &attr)
		   : v->attr(v->user, VIRTUAL_TOP, &attr);
	if (r == 0)
		r = fs_virtual_place(c->fs, &attr, &p);
	if (r < 0)
		return r;
	return fs_call_claim(c) ? fs_reply_place(c, &p) : FS_DONE;
}

static int reply_virtual_attr(struct fs_call *c, const struct fs_place *p)
{
	const struct fs_virtual *v = &c->fs->config.virtual;
	cleanup_place struct fs_place now = {0};
	struct fs_virtual_attr attr;
	int r;

	if (!c->on_slow)
		return FS_ASK;
	r = v->attr(v->user, p->virtual_id, &attr);
	if (r == 0)
		r = fs_virtual_place(c->fs, &attr, &now);
	if (r < 0)
		return r;
	return fs_call_claim(c) ? fs_reply_attr_of(c, &now.attr, true) : FS_DONE;
}

int fs_virtual_getattr(struct fs_call *c, struct fs_place *p)
{
	return reply_virtual_attr(c, p);
}

/* `echo command > control` truncates first: fine. All else is not to be changed. */
int fs_virtual_setattr(struct fs_call *c, struct fs_place *p)
{
	int harmless = FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW |
		       FUSE_SET_ATTR_CTIME;

	if (c->mask & ~harmless)
		return -EPERM;
	return reply_virtual_attr(c, p);
}

/* ---- streams: of a handle, and of the reads that it does not wait for ---- */

struct fs_stream {
	const struct fs_virtual *provider;
	void *made;
	atomic_uint refs;
};

void fs_stream_ref(struct fs_stream *s)
{
	if (s)
		atomic_fetch_add(&s->refs, 1);
}

void fs_stream_unref(struct fs_stream *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
		return;
	s->provider->stream_close(s->provider->user, s->made);
	free(s);
}

/* *ret NULL: it has none. */
static int stream_open(
	const struct fs_virtual *v, uint64_t id, uint32_t uid, struct fs_stream **ret)
{
	struct fs_stream *s;
	void *made = NULL;
	int r = v->stream_open ? v->stream_open(v->user, id, uid, &made) : 0;

	*ret = NULL;
	if (r < 0 || !made)
		return r;
	s = malloc(sizeof(*s));
	if (!s) {
		v->stream_close(v->user, made);
		return -ENOMEM;
	}
	s->provider = v;
	s->made = made;
	atomic_init(&s->refs, 1);
	*ret = s;
	return 0;
}

int fs_virtual_read_stream(struct fs_call *c)
{
	const struct fs_virtual *v = c->stream->provider;
	cleanup_free char *data = malloc(c->size);
	ssize_t n;

	if (!data)
		return -ENOMEM;
	n = v->stream_read(v->user, c->stream->made, data, c->size, (uint64_t)c->off);
	if (n < 0)
		return (int)n;
	if (fs_call_claim(c))
		(void)fuse_reply_buf(c->req, data, (size_t)n);
	return FS_DONE;
}

int fs_virtual_open(struct fs_call *c, struct fs_place *p)
{
	const struct fs_virtual *v = &c->fs->config.virtual;
	struct fuse_file_info fi = c->fi;
	struct fs_file *f;
	int r = 0;

	if (!c->on_slow) {
		c->uid = fuse_req_ctx(c->req)->uid;
		return FS_ASK;
	}
	f = fs_file_new(c->fs);
	if (!f)
		return -ENOMEM;
	f->virtual_id = p->virtual_id;
	if ((c->fi.flags & O_ACCMODE) != O_WRONLY)
		r = stream_open(v, p->virtual_id, c->uid, &f->stream);
	if (r == 0 && !f->stream && (c->fi.flags & O_ACCMODE) != O_WRONLY)
		r = v->read_all(v->user, p->virtual_id, c->uid, &f->content);
	if (r == 0)
		r = buf_error(&f->content);
	if (r < 0) {
		fs_file_close(c->fs, f);
		return r;
	}
	fs_file_reply_flags(f, &fi);
	if (!fs_call_claim(c) || fuse_reply_open(c->req, &fi) < 0)
		fs_file_close(c->fs, f);
	return FS_DONE;
}

int fs_virtual_read(struct fs_call *c, struct fs_file *f)
{
	size_t off = (size_t)c->off, len = 0;
	cleanup_free char *copy = NULL;

	if (f->stream) {
		c->stream = f->stream;
		return FS_ASK;
	}
	if (off < f->content.len)
		len = f->content.len - off < c->size ? f->content.len - off : c->size;
	if (len) {
		/* who has the answer may close the file, and free its content, before the reply
		 * returns */
		copy = malloc(len);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, f->content.data + off, len);
	}
	(void)fuse_reply_buf(c->req, copy, len);
	return FS_DONE;
}

/* What is written may be keys. The bytes are in a buffer of ours or of libfuse, and went through
 * this thread's registers. */
void fs_virtual_wipe(const void *data, size_t len)
{
	explicit_bzero((void *)(uintptr_t)data, len);
	stack_wipe();
}

int fs_virtual_write(struct fs_call *c, struct fs_file *f)
{
	const struct fs_virtual *v = &c->fs->config.virtual;
	int r;

	if (!c->on_slow)
		return FS_SLOW; /* a command that was given is not taken back */
	r = v->write_all(v->user, f->virtual_id, fuse_req_ctx(c->req)->uid, c->data, c->size);
	fs_virtual_wipe(c->data, c->size); /* the kept call's own copy */
	if (r < 0)
		return r;
	(void)fuse_reply_write(c->req, c->size);
	return FS_DONE;
}
