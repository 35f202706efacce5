/*
 * fs_killpriv - HANDLE_KILLPRIV_V2 with a libfuse that does not know it (3.14 to 3.16).
 *
 * Before each cached write the kernel asks for the xattr security.capability: one round trip more
 * for each, half of what a program that writes 4 KiB at a time through an O_RDWR handle waits for.
 * It stops where the file system says that it takes suid and sgid away by itself (it has no
 * security.capability): the flag FUSE_HANDLE_KILLPRIV_V2 in the answer to the kernel's first
 * request. libfuse before 3.17 neither tells that the kernel offers it nor can be told to answer
 * so.
 *
 * But it lets us carry requests and answers (fuse_session_custom_io): they are read and written as
 * libfuse itself would, except that the offer is seen in the first request and the flag is added to
 * the answer. What libfuse masks then is which writes and truncates are to take the bits away
 * (FUSE_WRITE_KILL_SUIDGID and its like): all by others than root do, as the kernel would ask
 * (fs_drop_privileges).
 *
 * Session and mount stay libfuse's: the hooks are set on the descriptor that it has mounted.
 * Without splice hooks it does not splice, which we do not want anyway. In its versions 3.14.0
 * to 3.16.2 all else of the loop is the same with hooks and without; it looks at their errno.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#ifdef FS_KILLPRIV_BY_HAND

#include <linux/fuse.h>
#include <sys/uio.h>

static bool is_offered(const void *request, size_t size)
{
	struct fuse_in_header header;
	struct fuse_init_in init;

	if (size < sizeof(header) + offsetof(struct fuse_init_in, flags) + sizeof(init.flags))
		return false;
	memcpy(&header, request, sizeof(header));
	if (header.opcode != FUSE_INIT)
		return false;
	memcpy(&init.flags,
		(const char *)request + sizeof(header) + offsetof(struct fuse_init_in, flags),
		sizeof(init.flags));
	return init.flags & FUSE_HANDLE_KILLPRIV_V2;
}

ssize_t fs_killpriv_read(int fd, void *request, size_t size, void *user)
{
	struct fs *fs = user;
	ssize_t n = read(fd, request, size);

	if (n > 0 && atomic_load(&fs->killpriv) == FS_KILLPRIV_UNKNOWN)
		atomic_store(&fs->killpriv,
			is_offered(request, (size_t)n) ? FS_KILLPRIV_OFFERED : FS_KILLPRIV_NOT);
	return n;
}

bool fs_killpriv_agree(struct fs *fs)
{
	int offered = FS_KILLPRIV_OFFERED;

	return atomic_compare_exchange_strong(&fs->killpriv, &offered, FS_KILLPRIV_AGREED);
}

/* The first answer after op_init(): to the kernel's first request, before there are others. */
static void answer(struct fs *fs, const struct iovec *iov, int count)
{
	const struct fuse_out_header *header = iov[0].iov_base;
	struct fuse_init_out *init = count > 1 ? iov[1].iov_base : NULL;
	bool is_whole =
		count == 2 && header->error == 0 &&
		iov[1].iov_len >= offsetof(struct fuse_init_out, flags) + sizeof(init->flags);

	atomic_store(&fs->killpriv, FS_KILLPRIV_NOT);
	if (is_whole)
		init->flags |= FUSE_HANDLE_KILLPRIV_V2;
	else
		fs->kills_privileges = false;
}

ssize_t fs_killpriv_writev(int fd, struct iovec *iov, int count, void *user)
{
	struct fs *fs = user;

	if (atomic_load(&fs->killpriv) == FS_KILLPRIV_AGREED)
		answer(fs, iov, count);
	return writev(fd, iov, count);
}

void fs_killpriv_attach(struct fs *fs)
{
	static const struct fuse_custom_io io = {
		.read = fs_killpriv_read, .writev = fs_killpriv_writev};

	if (fuse_session_custom_io(fs->session, &io, fuse_session_fd(fs->session)) < 0)
		log_debug(
			"requests go past us: the kernel asks for security.capability before each "
			"cached write");
}

#endif
