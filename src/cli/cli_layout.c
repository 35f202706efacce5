/*
 * cli_layout - the layout of a gallery: NAME.layout beside the gallery's file, else the one that
 * comes with the program; or a file by its path.
 */
#include "cli_layout.h"

#include "cli_gallery.h"

static int read_path(const char *path, char **ret)
{
	cleanup_file FILE *f = fopen(path, "re");
	size_t space = 0;

	if (!f)
		return -errno;
	return getdelim(ret, &space, '\0', f) < 0 ? (ferror(f) ? -EIO : -ENODATA) : 0;
}

/* Of the user, the machine or the installation; -ENOENT: none has one. */
static int read_named(const char *name, char **ret, char **ret_message)
{
	struct cli_gallery_file file = {0};
	struct cli_gallery_dirs dirs;
	cleanup_free char *leaf = NULL;
	int r = text_printf(&leaf, "%s.layout", name);

	if (r == 0)
		r = cli_gallery_dirs_init(&dirs);
	if (r < 0)
		return r;
	r = cli_gallery_file_find(&dirs, leaf, &file, ret_message);
	if (r == 0)
		*ret = text_dup(file.text);
	if (r == 0 && !*ret)
		r = -ENOMEM;
	if (r == 0)
		cli_gallery_file_release(&file);
	cli_gallery_dirs_release(&dirs);
	return r;
}

static int read_layout(const char *name, char **ret, char **ret_message)
{
	const char *builtin = layout_builtin(name);
	int r;

	if (strchr(name, '/'))
		return read_path(name, ret);
	r = read_named(name, ret, ret_message);
	if (r != -ENOENT || !builtin)
		return r;
	*ret = text_dup(builtin);
	return *ret ? 0 : -ENOMEM;
}

int cli_layout_load(const char *name, struct layout **ret, char **ret_message)
{
	cleanup_free char *text = NULL, *why = NULL;
	const char *wanted = name ? name : CLI_LAYOUT_DEFAULT;
	int r = read_layout(wanted, &text, &why);

	if (r == 0)
		r = layout_create(ret, text, &why);
	if (r < 0 &&
		text_printf(ret_message, "layout %s: %s", wanted, why ? why : strerror(-r)) < 0)
		*ret_message = NULL;
	return r;
}
