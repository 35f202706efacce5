/*
 * fs_call - serving one request: run it, and reply, keep or fail it; the handles that are open.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

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

void fs_call_serve(struct fs_call *c)
{
	struct fs_park *park = c->fs->park;
	int r;

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
