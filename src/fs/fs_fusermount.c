/*
 * fs_fusermount - mounting and unmounting as somebody who is not root, through fusermount3.
 *
 * libfuse would do it, but before 3.17 by a fork of its own, whose child takes memory (setenv)
 * before it becomes fusermount3. Threads of ours run by then, and a lock that one of them holds at
 * that moment is held in the child for ever: the mount command would hang. posix_spawn() runs
 * nothing of ours in between. What libfuse gets is the descriptor (/dev/fd/N for a mount point),
 * as its documentation of fuse_session_mount() describes; so the end of the mount is ours, too.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* Where fusermount3 sends the descriptor of the mount (its manual page does not say; its source). */
#define COMM_FD_VARIABLE "_FUSE_COMMFD"

extern char **environ;

/* 0, or -errno; -EBUSY: it ran, and said why on standard error. */
static int await(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

int fs_fusermount_unmount(const char *mountpoint)
{
	char *argv[] = {"fusermount3", "-u", "-z", "-q", "--", (char *)mountpoint, NULL};
	pid_t pid;
	int r = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);

	return r ? -r : await(pid);
}

/* The environment with one variable more. The array is the caller's to free, the texts are not. */
static char **environment_with(char *variable)
{
	size_t count = 0, kept = 0;
	char **env;

	while (environ[count])
		count++;
	env = calloc(count + 2, sizeof(*env));
	if (!env)
		return NULL;
	for (size_t i = 0; i < count; i++)
		if (strncmp(environ[i], COMM_FD_VARIABLE "=", strlen(COMM_FD_VARIABLE "=")) != 0)
			env[kept++] = environ[i];
	env[kept] = variable;
	return env;
}

static int spawn(pid_t *ret, const char *options, const char *mountpoint, int comm_fd)
{
	char *argv[] = {"fusermount3", "-o", (char *)options, "--", (char *)mountpoint, NULL};
	char variable[sizeof(COMM_FD_VARIABLE "=") + 3 * sizeof(int)];
	cleanup_free char **env = NULL;
	posix_spawn_file_actions_t actions;
	int r;

	(void)snprintf(variable, sizeof(variable), COMM_FD_VARIABLE "=%d", comm_fd);
	env = environment_with(variable);
	if (!env || posix_spawn_file_actions_init(&actions))
		return -ENOMEM;
	/* onto itself: only so it stays open over the exec */
	r = posix_spawn_file_actions_adddup2(&actions, comm_fd, comm_fd);
	if (r == 0)
		r = posix_spawnp(ret, argv[0], &actions, NULL, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* The descriptor that comes through the socket; -EBUSY: the other side ended without. */
static int receive(int socket)
{
	char byte;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec data = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *header;
	ssize_t n;
	int fd;

	do
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	header = CMSG_FIRSTHDR(&message);
	if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
		header->cmsg_len != CMSG_LEN(sizeof(int)))
		return -EBUSY;
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

int fs_fusermount_mount(const char *options, const char *mountpoint)
{
	int sockets[2], fd, r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	r = spawn(&pid, options, mountpoint, sockets[1]);
	close(sockets[1]);
	fd = r < 0 ? r : receive(sockets[0]);
	close(sockets[0]);
	if (r == 0)
		(void)await(pid); /* it has said what it had to say: the descriptor, or none */
	return fd;
}

void fs_fusermount_end(const char *mountpoint, int fd)
{
	struct pollfd poll_fd = {.fd = fd};

	/* gone already: what is on that path now is somebody else's */
	if (poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLERR))
		return;
	if (umount2(mountpoint, MNT_DETACH) < 0 && fs_fusermount_unmount(mountpoint) < 0)
		log_warn("%s could not be unmounted: run `fusermount3 -u` on it", mountpoint);
}
