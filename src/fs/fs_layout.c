/*
 * fs_layout - names that --layout=enforce turns away: those that the gallery's layout calls wrong.
 *
 * Temporary names pass: they are held, and judged when they are renamed to their real ones.
 */
#include "fs_private.h"

static int refuse(struct fs *fs, const char *path, const char *key, const struct layout_match *m)
{
	cleanup_buf struct buf reason = {0};

	layout_explain(fs->config.layout, key, m, &reason);
	fs_refusal_note(fs, path, buf_text(&reason));
	return -EPERM; /* EINVAL makes mv speak of a folder moved into itself */
}

static int judge_folder(struct fs *fs, const char *path)
{
	cleanup_buf struct buf below = {0};
	struct layout_match m;
	int r;

	if (layout_takes_folder(fs->config.layout, path))
		return 0;
	buf_printf(&below, "%s/*", path); /* what would be in it has no place */
	r = layout_match(fs->config.layout, buf_text(&below), &m);
	return r < 0 ? r : refuse(fs, path, buf_text(&below), &m);
}

static int judge_file(struct fs *fs, const char *path)
{
	const char *component;
	size_t len;
	char key[KEY_MAX_BYTES + 1];
	struct layout_match m;
	int r;

	if (path_judge(&fs->config.naming, path, false, &component, &len) != NAME_OK ||
		path_to_key(&fs->config.naming, path, false, key) < 0)
		return 0; /* held: nothing is uploaded under that name */
	r = layout_match(fs->config.layout, key, &m);
	if (r < 0 || m.class != LAYOUT_WRONG)
		return r;
	return refuse(fs, path, key, &m);
}

int fs_layout_check(struct fs *fs, const char *path, bool is_folder)
{
	if (!fs->config.layout)
		return 0;
	return is_folder ? judge_folder(fs, path) : judge_file(fs, path);
}
