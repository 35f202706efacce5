/*
 * cli_talk - a running mount, seen from outside: only through its `.cpgfs` folder.
 *
 * A command is one line "VERB TOKEN PATH\n" in one write to .cpgfs/control; its answer is the JSON in
 * .cpgfs/reply/TOKEN. In PATH a backslash, a newline and other control bytes are written \\, \n, \xNN.
 */
#include "cli_private.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <sys/stat.h>

void cli_error(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	fputs("cpgfs: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
}

/* Absolute, without "//", "/./" and a final slash; ".." stays for the kernel to refuse. */
static int path_absolute(const char *path, char out[4096])
{
	char whole[8192];
	char here[PATH_MAX] = "";
	if (path[0] != '/' && !getcwd(here, sizeof(here)))
		return -errno;
	int len = snprintf(whole, sizeof(whole), "%s/%s", here, path);
	if (len < 0 || (size_t)len >= sizeof(whole))
		return -ENAMETOOLONG;
	size_t at = 0;
	char *save = NULL;
	for (char *part = strtok_r(whole, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		if (strcmp(part, ".") == 0)
			continue;
		size_t part_len = strlen(part);
		if (at + part_len + 2 > 4096)
			return -ENAMETOOLONG;
		out[at++] = '/';
		memcpy(out + at, part, part_len);
		at += part_len;
	}
	if (at == 0)
		out[at++] = '/';
	out[at] = '\0';
	return 0;
}

/* Symlinks resolved as far as the path exists. */
static int path_resolve(const char *path, char out[4096])
{
	char real[PATH_MAX];
	if (realpath(path, real))
		return text_copy(out, real, 4096) ? 0 : -ENAMETOOLONG;
	return path_absolute(path, out);
}

static bool is_mount_root(const char *dir, int *ret_error)
{
	char probe[4200];
	struct stat st;
	snprintf(probe, sizeof(probe), "%s/.cpgfs/status.json", dir);
	if (stat(probe, &st) == 0)
		return true;
	if (errno != ENOENT && errno != ENOTDIR)
		*ret_error = errno;
	return false;
}

/* A variable that was not set: that means nothing, least of all everything. */
static int refuse_empty(const char *path)
{
	if (path[0])
		return 0;
	cli_error("an empty path (\"\") names nothing");
	return -EINVAL;
}

int cli_target_find(const char *path, struct cli_target *ret)
{
	char whole[4096];
	if (refuse_empty(path) < 0)
		return -EINVAL;
	int r = path_resolve(path, whole);
	if (r < 0) {
		cli_error("%s: %s", path, strerror(-r));
		return r;
	}
	struct cli_target target = { 0 };
	(void)text_copy(target.root, whole, sizeof(target.root)); /* same size */
	int error = 0;
	for (;;) {
		if (is_mount_root(target.root, &error)) {
			const char *rest = whole + strlen(target.root);
			(void)text_copy(target.path, rest + (*rest == '/'), sizeof(target.path));
			*ret = target;
			return 0;
		}
		char *slash = strrchr(target.root, '/');
		if (!slash || slash == target.root)
			break;
		*slash = '\0';
	}
	if (error == ENOTCONN || error == ECONNABORTED)
		cli_error("%s: the mount is dead (its daemon ended); `cpgfs mount` there again clears it",
			path);
	else if (error == EACCES)
		cli_error("%s: not allowed to look into the mount (another user's? see --allow-other)",
			path);
	else
		cli_error("%s is not inside a cpgfs mount", path);
	return -ENODEV;
}

int cli_target_path(const char *root, const char *path, char out[4096])
{
	char whole[4096];
	size_t root_len = strlen(root);
	int r = 0;
	if (refuse_empty(path) < 0)
		return -EINVAL;
	if (path[0] == '/') {
		r = path_resolve(path, whole);
	} else {
		int len = snprintf(whole, sizeof(whole), "%s/%s", root, path);
		struct stat st;
		if (len < 0 || (size_t)len >= sizeof(whole))
			r = -ENAMETOOLONG;
		else if (lstat(whole, &st) < 0) {
			char here[4096]; /* not below the root: perhaps below the working directory */
			if (path_resolve(path, here) == 0 && text_starts(here, root) &&
				(here[root_len] == '/' || !here[root_len]))
				(void)text_copy(whole, here, sizeof(whole));
		}
	}
	if (r == 0 && (!text_starts(whole, root) || (whole[root_len] && whole[root_len] != '/'))) {
		cli_error("%s is not inside %s", path, root);
		return -EINVAL;
	}
	if (r < 0) {
		cli_error("%s: %s", path, strerror(-r));
		return r;
	}
	const char *rest = whole + root_len;
	while (*rest == '/')
		rest++;
	(void)text_copy(out, rest, 4096);
	for (size_t len = strlen(out); len && out[len - 1] == '/'; len--)
		out[len - 1] = '\0';
	return 0;
}

int cli_read(const char *root, const char *name, struct buf *out)
{
	char path[4300];
	snprintf(path, sizeof(path), "%s/.cpgfs/%s", root, name);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	char block[65536];
	for (;;) {
		ssize_t n = read(fd, block, sizeof(block));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return buf_error(out);
		buf_add(out, block, (size_t)n);
	}
}

static int send_line(const char *root, const char *line, size_t len)
{
	char path[4300];
	snprintf(path, sizeof(path), "%s/.cpgfs/control", root);
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, line, len);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

int cli_ask(const char *root, const char *verb, const char *path, json_t **ret_answer)
{
	char token[32], reply_name[64];
	snprintf(token, sizeof(token), "%016" PRIx64, random_u64());
	snprintf(reply_name, sizeof(reply_name), "reply/%s", token);
	cleanup_buf struct buf line, reply;
	buf_init(&line, 0);
	buf_init(&reply, 256 * MIB);
	buf_printf(&line, "%s %s ", verb, token);
	text_escape(&line, path);
	buf_add_char(&line, '\n');
	int r = buf_error(&line);
	int sent = r < 0 ? r : send_line(root, line.data, line.len);
	if (sent == -EACCES || sent == -EPERM) {
		cli_error("%s: only the user who mounted it (or root) may give commands", root);
		return sent;
	}
	r = cli_read(root, reply_name, &reply); /* a refused command has an answer too */
	if (r < 0) {
		cli_error("%s: the mount does not answer: %s", root, strerror(sent < 0 ? -sent : -r));
		return sent < 0 ? sent : r;
	}
	json_error_t error;
	json_t *answer = json_loadb(buf_text(&reply), reply.len, 0, &error);
	if (!answer) {
		cli_error("%s: the mount's answer cannot be read: %s", root, error.text);
		return -EPROTO;
	}
	*ret_answer = answer;
	return 0;
}

/* ---- its options ------------------------------------------------------------------------------------------ */

const char *cli_option_of(const json_t *status, const char *name)
{
	size_t i, len = strlen(name);
	json_t *option;
	json_array_foreach(json_object_get(status, "options"), i, option)
	{
		const char *text = json_string_value(option);
		if (text && text_starts(text, name) && text[len] == '=')
			return text + len + 1;
	}
	return NULL;
}

int cli_naming_of(const json_t *status, struct naming_policy *ret)
{
	const char *mode = cli_option_of(status, "naming"), *with = cli_option_of(status, "clean-with");
	int r = mode ? naming_mode_parse(mode, &ret->mode) : 0;
	return r == 0 && with ? naming_clean_with_parse(with, &ret->clean_with) : r;
}

int cli_naming_ask(const char *root, struct naming_policy *ret)
{
	cleanup_buf struct buf text = { 0 };
	int r = cli_read(root, "status.json", &text);
	json_t *status = r == 0 ? json_loadb(buf_text(&text), text.len, 0, NULL) : NULL;
	if (r == 0)
		r = status ? cli_naming_of(status, ret) : -EPROTO;
	json_decref(status);
	if (r < 0)
		cli_error("%s: its naming rule cannot be told: %s", root, strerror(-r));
	return r;
}

int cli_target_key(const struct cli_target *t, char out[4096])
{
	struct naming_policy naming = { .mode = NAMING_HOLD };
	cleanup_buf struct buf place = { 0 };
	struct stat st;
	char key[KEY_MAX_BYTES + 1];
	int r = cli_naming_ask(t->root, &naming);
	(void)text_copy(out, t->path, 4096); /* same size */
	if (r < 0 || naming.mode != NAMING_CLEAN || !t->path[0])
		return r;
	buf_printf(&place, "%s/%s", t->root, t->path);
	if (buf_error(&place) < 0)
		return buf_error(&place);
	/* what is not there may be a key already; what has none is held under its path */
	if (lstat(buf_text(&place), &st) == 0 && path_to_key(&naming, t->path, S_ISDIR(st.st_mode), key) == 0)
		(void)text_copy(out, key, 4096);
	return 0;
}
