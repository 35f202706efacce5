/*
 * cli_check_machine - can this user mount a FUSE file system here? The device, the helper that
 * mounts, and then a mount that nobody serves, taken away at once: containers have the first two
 * and still refuse it.
 */
#include "cli_check.h"
#include "cli_private.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define FUSE_MAJOR 10
#define FUSE_MINOR 229

/* ---- the device ----------------------------------------------------------------------------- */

static bool no_device(struct check_report *r, const char *path, int error)
{
	check_say(r, CHECK_FAIL, "fuse", "%s: %s", path, strerror(error));
	if (error == EACCES)
		check_remedy(r,
			"as root: chmod 0666 %s (the package fuse3 has a udev rule for that)",
			path);
	else if (error == ENOENT || error == ENXIO || error == ENODEV)
		check_remedy(r, "as root: modprobe fuse; a container needs --device /dev/fuse "
				"--cap-add SYS_ADMIN");
	else if (error == EPERM)
		check_remedy(r, "the container or a security module forbids it: allow %s", path);
	else
		check_remedy(r, "ask who looks after this machine");
	return false;
}

static bool check_device(struct check_report *r, const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return no_device(r, path, errno);
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(FUSE_MAJOR, FUSE_MINOR)) {
		check_say(r, CHECK_FAIL, "fuse", "%s is not the FUSE device", path);
		check_remedy(r, "as root: rm %s; mknod -m 666 %s c %d %d", path, path, FUSE_MAJOR,
			FUSE_MINOR);
		return false;
	}
	cleanup_fd int fd = open(path, O_RDWR | O_CLOEXEC);
	return fd >= 0 || no_device(r, path, errno);
}

/* ---- the helper ----------------------------------------------------------------------------- */

static bool find_program(const char *path, const char *name, char out[4096])
{
	cleanup_free char *copy = text_dup(path);
	char *save = NULL;
	for (char *dir = copy ? strtok_r(copy, ":", &save) : NULL; dir;
		dir = strtok_r(NULL, ":", &save)) {
		int len = snprintf(out, 4096, "%s/%s", dir, name);
		if (len > 0 && len < 4096 && access(out, X_OK) == 0)
			return true;
	}
	return false;
}

static bool check_helper(struct check_report *r, const struct check_places *p, char program[4096])
{
	struct stat st;
	if (!find_program(p->path, "fusermount3", program)) {
		check_say(r, CHECK_FAIL, "fuse", "fusermount3 is not installed, or not in $PATH");
		check_remedy(r, "as root: apt install fuse3");
		return false;
	}
	if (p->is_root)
		return true;
	if (stat(program, &st) == 0 && (!(st.st_mode & S_ISUID) || st.st_uid != 0)) {
		check_say(r, CHECK_FAIL, "fuse", "%s is not setuid root: users cannot mount",
			program);
		check_remedy(r, "as root: chown root: %s && chmod u+s %s", program, program);
		return false;
	}
	return true;
}

/* ---- a mount -------------------------------------------------------------------------------- */

/* Runs it with its errors in `said`; returns its exit status, or -errno. */
static int run_program(char *const argv[], char *said, size_t size)
{
	int errors[2];
	if (pipe2(errors, O_CLOEXEC) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid == 0) {
		(void)dup2(errors[1], STDERR_FILENO);
		execv(argv[0], argv);
		_exit(127);
	}
	int r = pid < 0 ? -errno : 0, status = 0;
	close(errors[1]);
	size_t len = 0;
	for (ssize_t n = 1; r == 0 && n > 0 && len + 1 < size; len += n > 0 ? (size_t)n : 0)
		n = read(errors[0], said + len, size - 1 - len);
	said[len] = '\0';
	close(errors[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return r < 0 ? r : WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* The helper hands the open device over through a socket; the socket's end closes it. */
static int try_mount(char *program, char *dir, char *said, size_t size)
{
	int pair[2];
	char number[16];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return -errno;
	snprintf(number, sizeof(number), "%d", pair[1]);
	(void)fcntl(pair[0], F_SETFD, FD_CLOEXEC);
	setenv("_FUSE_COMMFD", number, 1);
	char *mount[] = {program, (char *)"-o", (char *)"fsname=cpgfs-check,subtype=cpgfs",
		(char *)"--", dir, NULL};
	char *unmount[] = {program, (char *)"-uz", (char *)"--", dir, NULL};
	int r = run_program(mount, said, size);
	unsetenv("_FUSE_COMMFD");
	close(pair[1]);
	if (r == 0) {
		char ignored[256];
		r = run_program(unmount, ignored, sizeof(ignored));
	}
	close(pair[0]);
	return r;
}

static void check_mount(struct check_report *r, char *program)
{
	char dir[] = "/tmp/cpgfs-check.XXXXXX", said[512] = "";
	if (!mkdtemp(dir)) {
		check_say(r, CHECK_WARN, "fuse", "no mount could be tried: /tmp: %s",
			strerror(errno));
		check_remedy(r, "make /tmp writable, or just mount");
		return;
	}
	int status = try_mount(program, dir, said, sizeof(said));
	said[strcspn(said, "\n")] = '\0';
	if (status == 0) {
		check_say(r, CHECK_OK, "fuse", "this user can mount (tried)");
	} else {
		check_say(r, CHECK_FAIL, "fuse", "a mount was tried and refused: %s",
			said[0] ? said : "fusermount3 says nothing");
		check_remedy(r,
			"a container needs --device /dev/fuse --cap-add SYS_ADMIN, and perhaps "
			"--security-opt apparmor=unconfined; else ask who looks after this "
			"machine");
	}
	(void)rmdir(dir); /* still mounted: then fusermount3 has said so */
}

void check_fuse(struct check_report *r, const struct check_places *p)
{
	char program[4096];
	if (check_device(r, p->fuse_device) && check_helper(r, p, program))
		check_mount(r, program);
}

/* ---- other users ---------------------------------------------------------------------------- */

static bool has_line(FILE *f, const char *word)
{
	char line[256];
	while (fgets(line, sizeof(line), f)) {
		char *text = line + strspn(line, " \t");
		size_t len = strcspn(text, " \t\r\n#");
		if (len == strlen(word) && strncmp(text, word, len) == 0)
			return true;
	}
	return false;
}

void check_allow_other(struct check_report *r, const struct check_places *p)
{
	if (p->is_root) {
		check_say(r, CHECK_OK, "allow-other", "root may let other users in");
		return;
	}
	cleanup_file FILE *f = fopen(p->fuse_conf, "re");
	if (f && has_line(f, "user_allow_other")) {
		check_say(r, CHECK_OK, "allow-other", "%s has user_allow_other", p->fuse_conf);
		return;
	}
	check_say(r, CHECK_FAIL, "allow-other", "%s %s user_allow_other", p->fuse_conf,
		f ? "does not have" : "cannot be read, and should have");
	check_remedy(r, "as root: echo user_allow_other >>%s; or mount without --allow-other",
		p->fuse_conf);
}
