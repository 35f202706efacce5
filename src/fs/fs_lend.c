/*
 * fs_lend - which files the kernel writes by itself (FUSE passthrough), and asking it to.
 *
 * Only those that are written from their start through one write-only handle: a create, or an open
 * that truncates. All handles of an inode must agree (the kernel answers EIO otherwise), so a file
 * is lent only while nobody else has it open; who opens it later is driven "beside" it: what it
 * reads and writes comes here, what it maps is the data file (store_lent.c).
 *
 * The kernel lets go of the data file before it sends a handle's RELEASE.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#ifdef FUSE_CAP_PASSTHROUGH
#ifndef FUSE_DEV_IOC_BACKING_OPEN /* headers older than libfuse */
struct fuse_backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define FUSE_DEV_IOC_BACKING_OPEN _IOW(229, 1, struct fuse_backing_map)
#define FUSE_DEV_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)
#endif
#endif

static void set_state(struct fs *fs, enum fs_lending state, int error)
{
	atomic_store(&fs->lend_error, error);
	atomic_store(&fs->lending, state);
}

void fs_lend_explain(struct fs *fs, char *out, size_t size)
{
	const char *error = strerror(-atomic_load(&fs->lend_error));

	switch ((enum fs_lending)atomic_load(&fs->lending)) {
	case FS_LENDING:
		snprintf(out, size, "on");
		return;
	case FS_LENDING_OFF:
		snprintf(out, size, "off");
		return;
	case FS_LENDING_CLOSES_SYNC:
		snprintf(out, size, "off, for --durability=close");
		return;
	case FS_LENDING_NOT_BUILT:
		snprintf(out, size, "not possible: built with a libfuse before 3.17");
		return;
	case FS_LENDING_OLD_KERNEL:
		snprintf(out, size, "not possible: the kernel is older than 6.9");
		return;
	case FS_LENDING_DISK:
		snprintf(out, size, "not possible on the cache's disk (%s)", error);
		return;
	case FS_LENDING_DENIED:
		if (atomic_load(&fs->lend_error) == -EPERM)
			snprintf(out, size, "not possible without CAP_SYS_ADMIN");
		else
			snprintf(out, size, "not possible: the kernel refused it (%s)", error);
		return;
	}
}

#ifdef FUSE_CAP_PASSTHROUGH

/* In a container even that may not be enough: the kernel's first answer says. */
static bool may_administer(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	return syscall(SYS_capget, &header, data) == 0 &&
	       data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN);
}

#endif

void fs_lend_init(struct fs *fs, struct fuse_conn_info *conn)
{
	char text[128];
#ifdef FUSE_CAP_PASSTHROUGH
	int r;

	if (!fs->config.passthrough)
		set_state(fs, FS_LENDING_OFF, 0);
	else if (fs->config.close_syncs)
		set_state(fs, FS_LENDING_CLOSES_SYNC, 0);
	else if (!(conn->capable & FUSE_CAP_PASSTHROUGH))
		set_state(fs, FS_LENDING_OLD_KERNEL, 0);
	else if (!may_administer())
		set_state(fs, FS_LENDING_DENIED, -EPERM);
	else if ((r = store_lend_possible(fs->config.store)) < 0)
		set_state(fs, FS_LENDING_DISK, r);
	else
		set_state(fs, FS_LENDING, 0);
	if (atomic_load(&fs->lending) == FS_LENDING)
		conn->want |= FUSE_CAP_PASSTHROUGH;
#else
	(void)conn;
	set_state(fs, fs->config.passthrough ? FS_LENDING_NOT_BUILT : FS_LENDING_OFF, 0);
#endif
	fs_lend_explain(fs, text, sizeof(text));
	log_debug("kernel passthrough: %s", text);
}

#ifdef FUSE_CAP_PASSTHROUGH

static bool is_written_whole(const struct fs_file *f, int flags)
{
	return (flags & O_ACCMODE) == O_WRONLY && (f->is_new || (flags & O_TRUNC)) &&
	       !(flags & (O_APPEND | O_DIRECT | O_SYNC | O_DSYNC)) &&
	       !(store_file_mode(f->store) & (S_ISUID | S_ISGID));
}

/* Not tried again: it would fail for each file. */
static void denied(struct fs *fs, int error)
{
	char text[128];

	if (error == -ENOMEM || error == -ENOSPC)
		return; /* for a moment */
	set_state(fs, FS_LENDING_DENIED, error);
	fs_lend_explain(fs, text, sizeof(text));
	log_info("kernel passthrough: %s; writes come through cpgfs", text);
}

/* The kernel's number for the data file, or 0. */
static int backing_open(struct fs *fs, struct store_file *f)
{
	cleanup_fd int fd = -1;
	struct fuse_backing_map map = {0};
	int id;

	if (store_file_lend(f, &fd) < 0)
		return 0;
	map.fd = fd;
	id = ioctl(fuse_session_fd(fs->session), FUSE_DEV_IOC_BACKING_OPEN, &map);
	if (id > 0)
		return id;
	denied(fs, id < 0 ? -errno : -EINVAL);
	store_file_take_back(f, true);
	return 0;
}

void fs_lend(struct fs_call *c, struct fs_file *f)
{
	struct fs *fs = c->fs;

	if (atomic_load(&fs->lending) != FS_LENDING || !c->req || f->way != FS_WAY_DIRECT ||
		!is_written_whole(f, c->fi.flags) || !fs_table_lend_begin(fs->table, f->store_ino))
		return;
	f->backing_id = backing_open(fs, f->store);
	f->way = f->backing_id ? FS_WAY_LENT : FS_WAY_DIRECT;
	atomic_fetch_add(&fs->lent_files, f->backing_id > 0);
	fs_table_lend_end(fs->table, f->store_ino, f->backing_id);
}

void fs_lend_over(struct fs *fs, struct store_file *f, int backing_id)
{
	uint32_t id = (uint32_t)backing_id;

	/* unknown only where the connection is gone, and with it the number */
	if (fs->session)
		(void)ioctl(fuse_session_fd(fs->session), FUSE_DEV_IOC_BACKING_CLOSE, &id);
	store_file_take_back(f, fs->session != NULL);
}

#else

void fs_lend(struct fs_call *c, struct fs_file *f)
{
	(void)c;
	(void)f;
}

void fs_lend_over(struct fs *fs, struct store_file *f, int backing_id)
{
	(void)fs;
	(void)backing_id;
	store_file_take_back(f, true);
}

#endif
