/*
 * cli_gallery - galleries by their names.
 *
 * A gallery NAME is the file NAME.ini (include/cpgfs/gallery.h) in the first of these that has it:
 * $XDG_CONFIG_HOME/cpgfs/galleries (~/.config/…), /etc/cpgfs/galleries, where cpgfs is installed,
 * and last what was built into this binary. HOME may be missing (mount(8) at boot): then the home
 * of the user who mounts counts.
 */
#include "cli_gallery.h"
#include "cli_options.h"
#include "cli_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>

#define FILE_MAX_BYTES MIB

/* ---- folders -------------------------------------------------------------------------------- */

static int user_dir(char **ret)
{
	const char *config = getenv("XDG_CONFIG_HOME");
	if (config && config[0] == '/')
		return text_printf(ret, "%s/cpgfs/galleries", config);
	const char *home = getenv("HOME");
	const struct passwd *me = home && home[0] == '/' ? NULL : getpwuid(geteuid());
	if (me)
		home = me->pw_dir;
	if (!home || home[0] != '/')
		return 0;
	return text_printf(ret, "%s/.config/cpgfs/galleries", home);
}

int cli_gallery_dirs_init(struct cli_gallery_dirs *ret)
{
	struct cli_gallery_dirs d = {0};
	int r = user_dir(&d.dirs[0]);
	if (r == 0)
		r = text_printf(&d.dirs[1], "/etc/cpgfs/galleries");
	if (r == 0)
		r = text_printf(&d.dirs[2], "%s/cpgfs/galleries", CPGFS_DATADIR);
	if (r < 0) {
		cli_gallery_dirs_release(&d);
		return r;
	}
	*ret = d;
	return 0;
}

void cli_gallery_dirs_release(struct cli_gallery_dirs *d)
{
	for (size_t i = 0; i < CLI_GALLERY_DIRS; i++)
		free(d->dirs[i]);
	*d = (struct cli_gallery_dirs){0};
}

/* ---- one file ------------------------------------------------------------------------------- */

void cli_gallery_file_release(struct cli_gallery_file *f)
{
	free(f->path);
	free(f->text);
	*f = (struct cli_gallery_file){0};
}

static int cannot_read(const char *path, int error, char **ret_message)
{
	int r = text_printf(ret_message, "%s cannot be read: %s", path, strerror(-error));
	return r < 0 ? r : error;
}

static int read_fd(int fd, struct cli_gallery_file *ret)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if ((uint64_t)st.st_size > FILE_MAX_BYTES)
		return -EFBIG;
	char *text = calloc(1, (size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	ssize_t n = io_pread(fd, text, (size_t)st.st_size, 0);
	if (n < 0) {
		free(text);
		return (int)n;
	}
	ret->text = text;
	ret->len = (size_t)n;
	return 0;
}

/* -ENOENT without a message: not in this folder. */
static int read_in(
	const char *dir, const char *name, struct cli_gallery_file *ret, char **ret_message)
{
	cleanup_free char *path = NULL;
	int r = text_printf(&path, "%s/%s", dir, name);
	if (r < 0)
		return r;
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return -ENOENT;
	if (fd < 0 && errno == EACCES && access(dir, X_OK) < 0) {
		/* another user's home: HOME may be stale, as after setpriv */
		fprintf(stderr, "cpgfs: warning: galleries in %s are not looked at: %s\n", dir,
			strerror(EACCES));
		return -ENOENT;
	}
	r = fd < 0 ? -errno : read_fd(fd, ret);
	if (r < 0)
		return cannot_read(path, r, ret_message);
	ret->path = steal_ptr(path);
	return 0;
}

static int read_builtin(const char *name, struct cli_gallery_file *ret)
{
	for (const struct cli_gallery_builtin *b = cli_gallery_builtins; b->name; b++) {
		if (strcmp(b->name, name) != 0)
			continue;
		ret->text = text_dup(b->text);
		ret->len = strlen(b->text);
		int r = text_printf(&ret->path, "%s, built into cpgfs", name);
		return ret->text ? r : -ENOMEM;
	}
	return -ENOENT;
}

int cli_gallery_file_find(const struct cli_gallery_dirs *dirs, const char *name,
	struct cli_gallery_file *ret, char **ret_message)
{
	struct cli_gallery_file file = {0};
	int r = -ENOENT;
	for (size_t i = 0; i < CLI_GALLERY_DIRS && r == -ENOENT; i++)
		if (dirs->dirs[i])
			r = read_in(dirs->dirs[i], name, &file, ret_message);
	if (r == -ENOENT)
		r = read_builtin(name, &file);
	if (r < 0) {
		cli_gallery_file_release(&file);
		return r;
	}
	*ret = file;
	return 0;
}

/* ---- names ---------------------------------------------------------------------------------- */

void cli_gallery_names_release(char **names)
{
	for (char **n = names; n && *n; n++)
		free(*n);
	free(names);
}

struct names {
	char **list; /* NULL-ended */
	size_t count;
};

/* "x.ini" as "x"; what is no gallery's file is passed over. */
static int names_add(struct names *names, const char *file)
{
	char name[256];
	if (!text_ends(file, ".ini") || !text_copy(name, file, sizeof(name)))
		return 0;
	name[strlen(name) - 4] = '\0';
	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->list[i], name) == 0)
			return 0;
	if (!gallery_name_is_valid(name))
		return 0;
	char **bigger = reallocarray(names->list, names->count + 2, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	names->list = bigger;
	bigger[names->count] = text_dup(name);
	if (!bigger[names->count])
		return -ENOMEM;
	bigger[++names->count] = NULL;
	return 0;
}

/* A folder that can't be listed adds no names; cli_gallery_file_find tells why where it matters. */
static int names_add_dir(struct names *names, const char *dir)
{
	DIR *d = opendir(dir);
	int r = 0;
	if (!d)
		return 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));)
		r = names_add(names, e->d_name);
	closedir(d);
	return r;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int cli_gallery_names(const struct cli_gallery_dirs *dirs, char ***ret)
{
	struct names names = {.list = calloc(1, sizeof(char *))};
	int r = names.list ? 0 : -ENOMEM;
	for (size_t i = 0; i < CLI_GALLERY_DIRS && r == 0; i++)
		if (dirs->dirs[i])
			r = names_add_dir(&names, dirs->dirs[i]);
	for (const struct cli_gallery_builtin *b = cli_gallery_builtins; b->name && r == 0; b++)
		r = names_add(&names, b->name);
	if (r < 0) {
		cli_gallery_names_release(names.list);
		return r;
	}
	qsort(names.list, names.count, sizeof(*names.list), by_text);
	*ret = names.list;
	return 0;
}

static int no_such_gallery(
	const struct cli_gallery_dirs *dirs, const char *name, char **ret_message)
{
	char **names;
	cleanup_buf struct buf list;
	buf_init(&list, 0);
	int r = cli_gallery_names(dirs, &names);
	if (r < 0)
		return r;
	for (char **n = names; *n; n++)
		buf_printf(&list, "%s%s", n == names ? "" : ", ", *n);
	cli_gallery_names_release(names);
	r = text_printf(ret_message,
		"there is no gallery \"%s\": there are %s (`cpgfs galleries` shows "
		"them, %s may hold others)",
		name, buf_text(&list), dirs->dirs[0] ? dirs->dirs[0] : dirs->dirs[1]);
	return r < 0 ? r : -EINVAL;
}

/* ---- one gallery ---------------------------------------------------------------------------- */

void cli_gallery_release(struct cli_gallery *g)
{
	cli_gallery_file_release(&g->file);
	gallery_preset_release(&g->preset);
}

static int wrong_option(
	const struct cli_gallery *g, const struct gallery_option *o, int error, char **ret_message)
{
	cleanup_buf struct buf text;
	buf_init(&text, 0);
	buf_printf(&text, "%s, line %u: ", g->file.path, o->line);
	if (error == -ENOENT) {
		buf_printf(&text, "`cpgfs mount` has no option \"%s\"; it has", o->name);
		for (size_t i = 0; i < option_row_count; i++)
			buf_printf(&text, "%s %s", i ? "," : "", option_rows[i].name);
	} else if (error == -EINVAL) {
		const struct option_row *row = option_find(o->name);
		buf_printf(&text, "%s = %s: \"%s\" does not fit (%s: %s)", o->name, o->value,
			o->value, row->arg ? row->arg : "true|false", row->help);
	} else {
		return error;
	}
	free(*ret_message);
	*ret_message = NULL;
	int r = buf_error(&text);
	if (r == 0 && !(*ret_message = buf_steal(&text)))
		r = -ENOMEM;
	return r < 0 ? r : -EINVAL;
}

/* Options that say which gallery this is can't come from one. */
static int set_option(struct cli_mount *m, const struct gallery_option *o)
{
	if (strcmp(o->name, "gallery") == 0)
		return -ENOENT;
	return option_set(m, o->name, o->value);
}

static int set_options(const struct cli_gallery *g, struct cli_mount *m, char **ret_message)
{
	for (size_t i = 0; i < g->preset.option_count; i++) {
		int r = set_option(m, &g->preset.options[i]);
		if (r < 0)
			return wrong_option(g, &g->preset.options[i], r, ret_message);
	}
	return 0;
}

static int check_gallery(const struct cli_gallery *g, char **ret_message)
{
	struct cli_mount scratch = {0};
	int r = set_options(g, &scratch, ret_message);
	cli_mount_release(&scratch);
	if (r == 0 && !cli_bucket_is_valid(g->preset.bucket))
		r = text_printf(ret_message, "%s: \"%s\" is not a bucket name", g->file.path,
			    g->preset.bucket) < 0
			    ? -ENOMEM
			    : -EINVAL;
	return r;
}

/* "line 3: …" becomes "FILE, line 3: …". */
static int name_file(const struct cli_gallery *g, int error, char **ret_message)
{
	cleanup_free char *what = steal_ptr(*ret_message);
	if (!what)
		return error;
	bool has_line = text_starts(what, "line ");
	int r = text_printf(ret_message, "%s%s %s", g->file.path, has_line ? "," : ":", what);
	return r < 0 ? r : error;
}

int cli_gallery_find(const struct cli_gallery_dirs *dirs, const char *name, struct cli_gallery *ret,
	char **ret_message)
{
	struct cli_gallery g = {0};
	char file[256];
	if (!gallery_name_is_valid(name))
		return no_such_gallery(dirs, name, ret_message);
	snprintf(file, sizeof(file), "%s.ini", name);
	int r = cli_gallery_file_find(dirs, file, &g.file, ret_message);
	if (r == -ENOENT)
		return no_such_gallery(dirs, name, ret_message);
	if (r == 0) {
		r = gallery_preset_parse(&g.preset, g.file.text, g.file.len, ret_message);
		if (r < 0)
			r = name_file(&g, r, ret_message);
		else
			r = check_gallery(&g, ret_message);
	}
	if (r < 0) {
		cli_gallery_release(&g);
		return r;
	}
	*ret = g;
	return 0;
}

static int apply(struct cli_mount *m, const struct cli_gallery *g, char **ret_message)
{
	int r = set_options(g, m, ret_message);
	if (r < 0)
		return r;
	m->credentials_way = g->preset.credentials;
	if (g->preset.credentials == GALLERY_ACCESS_GRANT)
		m->access_grant = true;
	m->bucket = text_dup(g->preset.bucket);
	if (g->preset.layout && !(m->layout_name = text_dup(g->preset.layout)))
		return -ENOMEM;
	return m->bucket ? 0 : -ENOMEM;
}

int cli_gallery_apply(struct cli_mount *m, const char *name)
{
	struct cli_gallery_dirs dirs;
	struct cli_gallery g = {0};
	cleanup_free char *message = NULL;
	int r = cli_gallery_dirs_init(&dirs);
	if (r < 0)
		return r;
	r = cli_gallery_find(&dirs, name, &g, &message);
	if (r == 0) {
		r = apply(m, &g, &message);
		cli_gallery_release(&g);
	}
	cli_gallery_dirs_release(&dirs);
	if (message)
		cli_error("%s", message);
	return message && r < 0 ? -EINVAL : r;
}
