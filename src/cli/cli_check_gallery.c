/*
 * cli_check_gallery - a bucket that belongs to a gallery, and a prefix that cannot be one of it.
 */
#include "cli_check.h"
#include "cli_gallery.h"
#include "cli_private.h"

/* The gallery whose bucket this is, by name; false: none that can be read. */
static bool find_by_bucket(const struct cli_gallery_dirs *dirs, const char *bucket, char name[128],
	struct cli_gallery *ret)
{
	char **names;
	bool found = false;
	if (cli_gallery_names(dirs, &names) < 0)
		return false;
	for (char **n = names; *n && !found; n++) {
		cleanup_free char *message = NULL;
		if (cli_gallery_find(dirs, *n, ret, &message) < 0)
			continue;
		found = strcmp(ret->preset.bucket, bucket) == 0;
		if (found)
			(void)text_copy(name, *n, 128); /* names have at most 64 bytes */
		else
			cli_gallery_release(ret);
	}
	cli_gallery_names_release(names);
	return found;
}

static struct layout *layout_of(const struct cli_gallery_dirs *dirs, const char *name)
{
	struct cli_gallery_file file;
	struct layout *layout = NULL;
	cleanup_free char *message = NULL;
	char path[256];
	snprintf(path, sizeof(path), "%s.layout", name);
	if (cli_gallery_file_find(dirs, path, &file, &message) == 0) {
		if (layout_create(&layout, file.text, &message) < 0)
			layout = NULL;
		cli_gallery_file_release(&file);
	} else if (layout_builtin(name) &&
		   layout_create(&layout, layout_builtin(name), &message) < 0) {
		layout = NULL;
	}
	return layout;
}

/* What the layout says against this prefix; false: nothing. */
static bool find_mistake(const struct layout *layout, const char *prefix, struct buf *out)
{
	/* an image below PROJECT or PROJECT/SOURCE shows whether those are right */
	bool has_source = strchr(prefix, '/') != NULL;
	cleanup_free char *key = NULL;
	struct layout_match match;
	if (!layout_takes_folder(layout, prefix)) {
		buf_add_text(out,
			"a gallery's prefix is PROJECT/SOURCE, such as cpg0123-example/broad, or a "
			"folder below it");
		return true;
	}
	if (has_source && strchr(strchr(prefix, '/') + 1, '/'))
		return false;
	if (text_printf(&key, "%s%s/images/batch/images/plate/x.tiff", prefix,
		    has_source ? "" : "/source") < 0 ||
		layout_match(layout, key, &match) < 0 || match.class == LAYOUT_REQUIRED ||
		match.class == LAYOUT_OPTIONAL)
		return false;
	layout_explain(layout, key, &match, out);
	return true;
}

static void check_prefix(struct check_report *r, const struct cli_gallery_dirs *dirs,
	const char *layout_name, const char *prefix)
{
	cleanup_buf struct buf mistake = {0};
	struct layout *layout = layout_name && prefix[0] ? layout_of(dirs, layout_name) : NULL;
	if (!layout)
		return;
	if (find_mistake(layout, prefix, &mistake)) {
		check_say(r, CHECK_WARN, "prefix", "%s is an odd place in the layout %s", prefix,
			layout_name);
		check_remedy(r, "%s", buf_text(&mistake));
	} else {
		check_say(r, CHECK_OK, "prefix", "%s has the form that the gallery's have", prefix);
	}
	layout_destroy(layout);
}

void check_gallery(struct check_report *r, const struct cli_mount *m)
{
	struct cli_gallery_dirs dirs;
	struct cli_gallery gallery;
	char name[128];
	if (cli_gallery_dirs_init(&dirs) < 0)
		return;
	if (find_by_bucket(&dirs, m->bucket, name, &gallery)) {
		if (!m->gallery) {
			check_say(r, CHECK_WARN, "gallery", "bucket %s is that of the gallery %s",
				m->bucket, name);
			check_remedy(r,
				"--gallery %s sets what it wants: region, ACL, the exchange of "
				"keys",
				name);
		}
		check_prefix(r, &dirs, gallery.preset.layout, m->prefix);
		cli_gallery_release(&gallery);
	}
	cli_gallery_dirs_release(&dirs);
}
