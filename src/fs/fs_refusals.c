/*
 * fs_refusals - the names that --naming=refuse and --layout=enforce turned away, for `.cpgfs/rejected.tsv`. An export
 * that runs overnight tries the same folder again and again: each path stands here once, the oldest
 * of too many goes.
 */
#include "fs_private.h"

void fs_refusal_note(struct fs *fs, const char *path, const char *reason)
{
	struct fs_refusal new = {.path = text_dup(path), .reason = text_dup(reason)};

	if (!new.path || !new.reason) { /* the caller is told EINVAL all the same */
		free(new.path);
		free(new.reason);
		return;
	}
	with_lock(&fs->lock);
	for (unsigned i = 0; i < fs->refusal_count && i < FS_REFUSALS_MAX; i++) {
		if (strcmp(fs->refusals[i].path, path) == 0) {
			free(new.path);
			free(new.reason);
			return;
		}
	}
	struct fs_refusal *slot = &fs->refusals[fs->refusal_count++ % FS_REFUSALS_MAX];
	free(slot->path);
	free(slot->reason);
	*slot = new;
}

void fs_refusals(struct fs *fs, fs_refusal_fn *each, void *user)
{
	with_lock(&fs->lock);
	unsigned first =
		fs->refusal_count > FS_REFUSALS_MAX ? fs->refusal_count - FS_REFUSALS_MAX : 0;
	for (unsigned i = first; i < fs->refusal_count; i++)
		each(user, fs->refusals[i % FS_REFUSALS_MAX].path,
			fs->refusals[i % FS_REFUSALS_MAX].reason);
}

void fs_refusals_release(struct fs *fs)
{
	for (unsigned i = 0; i < FS_REFUSALS_MAX; i++) {
		free(fs->refusals[i].path);
		free(fs->refusals[i].reason);
	}
}
