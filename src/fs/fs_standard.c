/*
 * fs_standard - the folders that the gallery wants, shown before anybody makes them: a plate can be
 *               copied to where it belongs without mkdir -p.
 *
 * Such a folder is nowhere but in the answers: it is not in the store (what is first put into it
 * brings it there, with the number it had), not in the bucket, and not in `.cpgfs/remote`. A real
 * one of that name goes first. Removed, it stays away until the mount ends; a folder that has only
 * such ones is empty.
 *
 * In a folder that was made here there are none: cp -r takes a folder that it has just made for empty,
 * and fails where it is not.
 */
#include "fs_private.h"

static bool shows_them(struct fs *fs, const struct fs_place *dir)
{
	bool was_made = !(dir->attr.ino & STORE_INO_FROM_BUCKET);

	return fs->config.standard && !was_made && fs->config.view != FS_VIEW_UPLOADED &&
	       !fs->config.read_only && !atomic_load(&fs->read_only);
}

/* "a/b/" + "c": was it removed here? */
static bool is_removed(struct fs *fs, const char *prefix, const char *name)
{
	char key[KEY_MAX_BYTES + STORE_NAME_MAX + 3];

	snprintf(key, sizeof(key), "%s%s/", prefix, name);
	return fs_hidden_whole(fs, key);
}

/* The prefix without its final slash; false: no folder of ours. */
static bool folder_of(struct fs *fs, const char *prefix, char folder[KEY_MAX_BYTES + 2])
{
	size_t len = strlen(prefix);

	memcpy(folder, prefix, len + 1);
	if (len > 0)
		folder[len - 1] = '\0';
	return prefix_side_of(fs->prefix, folder) == PREFIX_INSIDE;
}

bool fs_standard_is(struct fs *fs, struct fs_place *dir, const char *name)
{
	char prefix[KEY_MAX_BYTES + 2], folder[KEY_MAX_BYTES + 2];

	return shows_them(fs, dir) && fs_place_prefix(fs, dir, prefix) == 0 &&
	       folder_of(fs, prefix, folder) &&
	       layout_is_standard(fs->config.standard, folder, name) &&
	       !is_removed(fs, prefix, name);
}

void fs_standard_list(struct fs *fs, const struct fs_place *dir, const char *prefix,
	struct layout_standard *ret)
{
	char folder[KEY_MAX_BYTES + 2];
	struct layout_standard all;

	*ret = (struct layout_standard){0};
	if (!shows_them(fs, dir) || !folder_of(fs, prefix, folder))
		return;
	layout_standard_folders(fs->config.standard, folder, &all);
	for (unsigned i = 0; i < all.count; i++) {
		if (!is_removed(fs, prefix, all.names[i]))
			memcpy(ret->names[ret->count++], all.names[i], sizeof(all.names[i]));
	}
}
