/*
 * fs_call - serving one request: run it, and reply, keep or fail it; the handles that are open.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <fcntl.h>

/* The one translation of our rooms' errors to what programs understand. */
int fs_errno(int error)
{
	switch (error) {
	case -EREMOTE:	   /* a chunk that could not be fetched */
	case -EINPROGRESS: /* nobody waited for it */
	case -ENETDOWN:
	case -EREMOTEIO:
	case -EBADMSG:
	case -ENODEV:
	case -ESHUTDOWN:
		return EIO;
	case -EDQUOT:
		return ENOSPC;
	case -ENOBUFS: /* too many requests wait already */
		return EAGAIN;
	default:
		return error < 0 ? -error : EIO;
	}
}

void fs_call_fail(struct fs_call *c, int error)
{
	lock_assert_none_held();
	if (c->req)
		(void)fuse_reply_err(c->req, fs_errno(error)); /* nobody to tell if it fails */
}

void fs_set_read_only(struct fs *fs)
{
	atomic_store(&fs->read_only, true);
}

/* Not the kernel's own "ro": commands and credentials must still get in through `.cpgfs`. */
static bool is_refused_by_read_only(const struct fs_call *c)
{
	static int (*const changing[])(struct fs_call *) = {fs_do_mknod, fs_do_mkdir, fs_do_unlink,
		fs_do_rmdir, fs_do_rename, fs_do_refuse_link, fs_do_create, fs_do_setxattr,
		fs_do_removexattr};

	if (!atomic_load(&c->fs->read_only) ||
		(c->ino & (FS_INO_VIRTUAL | STORE_INO_FROM_BUCKET)) == FS_INO_VIRTUAL)
		return false;
	if (c->run == fs_do_open)
		return (c->fi.flags & O_ACCMODE) != O_RDONLY || (c->fi.flags & O_TRUNC);
	if (c->run == fs_do_setattr)
		return !c->has_fi; /* with a handle it was opened before */
	for (size_t i = 0; i < array_len(changing); i++)
		if (c->run == changing[i])
			return true;
	return false;
}

void fs_call_serve(struct fs_call *c)
{
	struct fs_park *park = c->fs->park;
	int r;

	if (is_refused_by_read_only(c)) {
		fs_call_fail(c, -EROFS);
		return;
	}
	fs_park_note_news(park, c);
	r = c->run(c);
	if (r == FS_PARK)
		r = fs_park_keep(park, c);
	else if (r > 0)
		r = fs_park_keep_slow(park, c, (enum fs_run_result)r);
	if (r == -ENOBUFS && c->run == fs_do_write)
		fs_write_failed(c);
	if (r < 0)
		fs_call_fail(c, r);
}

/* ---- handles ---- */

void fs_handle_add(struct fs *fs, struct fs_handle *h)
{
	with_lock(&fs->lock);
	h->prev = NULL;
	h->next = fs->handles;
	if (h->next)
		h->next->prev = h;
	fs->handles = h;
}

void fs_handle_remove(struct fs *fs, struct fs_handle *h)
{
	with_lock(&fs->lock);
	*(h->prev ? &h->prev->next : &fs->handles) = h->next;
	if (h->next)
		h->next->prev = h->prev;
}

/* After the last request. What was still being written stays open in the index: cut off. */
void fs_handles_close(struct fs *fs)
{
	while (fs->handles)
		fs->handles->close(fs, fs->handles);
}
