/*
 * fs_mountpoint - is the mount point fit to be mounted on?
 *
 * Files in it would be hidden by the mount, and a copy made while nothing is mounted lands in it:
 * so it must be empty. A mount of ours whose daemon is gone ("Transport endpoint is not
 * connected") is cleared. One that is not there is made, as long as its parent is.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <dirent.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

DEFINE_CLEANUP(dir, DIR *, closedir)

static int refuse(char **ret_message, int error, const char *mountpoint, const char *why)
{
	if (text_printf(ret_message, "%s: %s", mountpoint, why) < 0)
		*ret_message = NULL;
	return error;
}

/* The table of mounts writes blanks and the like as \ooo. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *at = text; *at; to++) {
		bool octal = at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' &&
			     at[2] <= '7' && at[3] >= '0' && at[3] <= '7';

		*to = octal ? (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + at[3] - '0') : *at;
		at += octal ? 4 : 1;
	}
	*to = '\0';
}

/* The path as the table has it. The last component is not looked at: it may be a dead mount. */
static char *absolute(const char *path)
{
	cleanup_free char *copy = text_dup(path), *folder = NULL;
	char *slash, *full = NULL;
	size_t len = copy ? strlen(copy) : 0;

	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = copy ? strrchr(copy, '/') : NULL;
	if (!copy || slash == copy)
		return steal_ptr(copy);
	if (slash)
		*slash = '\0';
	folder = realpath(slash ? copy : ".", NULL);
	if (!folder || text_printf(&full, "%s/%s", strcmp(folder, "/") ? folder : "",
			       slash ? slash + 1 : copy) < 0)
		return NULL;
	return full;
}

/* Is the last mount on that path one of ours? */
static bool is_our_mount(const char *mountpoint)
{
	cleanup_file FILE *f = fopen("/proc/self/mounts", "re");
	cleanup_free char *line = NULL, *path = absolute(mountpoint);
	size_t size = 0;
	bool ours = false;

	while (f && path && getline(&line, &size, f) > 0) {
		char *save, *where, *type;

		(void)strtok_r(line, " ", &save);
		where = strtok_r(NULL, " ", &save);
		type = strtok_r(NULL, " ", &save);
		if (!where || !type)
			continue;
		unescape(where);
		if (strcmp(where, path) == 0)
			ours = strcmp(type, "fuse.cpgfs") == 0;
	}
	return ours;
}

static int clear_dead_mount(const char *mountpoint, char **ret_message)
{
	if (umount2(mountpoint, MNT_DETACH) == 0 || fs_fusermount_unmount(mountpoint) == 0) {
		log_info("cleared a dead mount on %s", mountpoint);
		return 0;
	}
	return refuse(ret_message, -EBUSY, mountpoint,
		"a mount whose daemon is gone is in the way and could not be cleared: run "
		"`fusermount3 -u` on it");
}

static int check_empty(const char *mountpoint, char **ret_message)
{
	cleanup_with(cleanup_dir_fn) DIR *dir = opendir(mountpoint);
	struct dirent *entry;
	cleanup_free char *why = NULL;

	if (!dir)
		return refuse(ret_message, -errno, mountpoint, strerror(errno));
	while ((entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (text_printf(&why,
			    "is not empty (it holds \"%s\"): files in it would be hidden by the "
			    "mount; move them away or mount elsewhere",
			    entry->d_name) < 0)
			return -ENOTEMPTY;
		return refuse(ret_message, -ENOTEMPTY, mountpoint, why);
	}
	return 0;
}

/* The kernel answers stat from what it keeps for a while; statvfs always asks the daemon. */
static int stat_asked(const char *mountpoint, struct stat *st)
{
	struct statvfs room;

	return stat(mountpoint, st) < 0 || statvfs(mountpoint, &room) < 0 ? -errno : 0;
}

/* 0 or -errno of stat; a dead mount is cleared on the way. */
static int stat_living(const char *mountpoint, struct stat *st, char **ret_message)
{
	int r = stat_asked(mountpoint, st);

	if (r == 0)
		return 0;
	if (r != -ENOTCONN && r != -ECONNABORTED) /* the latter: asked while it was dying */
		return refuse(ret_message, r, mountpoint, strerror(-r));
	if (!is_our_mount(mountpoint))
		return refuse(ret_message, -ENOTCONN, mountpoint,
			"another file system is mounted here whose daemon is gone: unmount it "
			"first");
	r = clear_dead_mount(mountpoint, ret_message);
	if (r < 0)
		return r;
	if (stat(mountpoint, st) < 0)
		return refuse(ret_message, -errno, mountpoint, strerror(errno));
	return 0;
}

/* 0 also when it is there already. */
static int make_missing(const char *mountpoint, bool *ret_made, char **ret_message)
{
	struct stat st;

	*ret_made = false;
	if (stat(mountpoint, &st) == 0 || errno != ENOENT)
		return 0;
	if (mkdir(mountpoint, 0777) == 0) {
		log_info("made the folder %s", mountpoint);
		*ret_made = true;
		return 0;
	}
	return errno == EEXIST ? 0 : refuse(ret_message, -errno, mountpoint, strerror(errno));
}

int fs_mountpoint_prepare(const char *mountpoint, bool *ret_made, char **ret_message)
{
	struct stat st = {0};
	bool made;
	int r = make_missing(mountpoint, &made, ret_message);

	if (r == 0)
		r = stat_living(mountpoint, &st, ret_message);
	if (r < 0)
		return r;
	if (!S_ISDIR(st.st_mode))
		return refuse(ret_message, -ENOTDIR, mountpoint, "is not a folder");
	if (is_our_mount(mountpoint))
		return refuse(ret_message, -EBUSY, mountpoint,
			"is mounted already: use it, or `cpgfs umount` it first");
	r = check_empty(mountpoint, ret_message);
	if (r == 0)
		*ret_made = made;
	return r;
}
