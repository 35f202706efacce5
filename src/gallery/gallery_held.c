/*
 * gallery_held - names that stay local: temporary ones, whose file gets its real name by a rename,
 * and junk that desktops make by themselves.
 *
 * rsync writes `.NAME.XXXXXX` (six characters of mkstemp's alphabet; a NAME that starts with a dot
 * gets no second one) and renames. `.zgroup`, `.zarray`, `.zattrs` have no second dot and are data.
 */
#include "gallery_private.h"

#include <ctype.h>
#include <fnmatch.h>

#define MKSTEMP_CHAR "[A-Za-z0-9]"
#define MKSTEMP_SIX MKSTEMP_CHAR MKSTEMP_CHAR MKSTEMP_CHAR MKSTEMP_CHAR MKSTEMP_CHAR MKSTEMP_CHAR

static const char *const temporary_builtin[] = {
	".?*." MKSTEMP_SIX, /* rsync */
	".~tmp~",	    /* rsync --delay-updates, a folder */
	".rsync-partial",   /* rsync --partial-dir, a folder */
	"*.part",
	"*.partial",
	"*.tmp",
	".fuse_hidden*",    /* libfuse, an unlinked file that is still open */
	".nfs*",	    /* the same on NFS */
	".goutputstream-*", /* GNOME's save */
	NULL,
};

static const char *const junk_builtin[] = {
	".DS_Store",
	"._*", /* macOS: what does not fit the file system */
	".AppleDouble",
	".Spotlight-V100",
	".TemporaryItems",
	".Trashes",
	".fseventsd",
	"Thumbs.db",
	"ehthumbs.db",
	"desktop.ini",
	"$RECYCLE.BIN",
	"System Volume Information",
	".Trash-*", /* freedesktop.org: trash of one user at the top of a volume */
	NULL,
};

/* Can a name have this character where a pattern has that? */
static bool may_fit(char of_pattern, char of_name)
{
	if (strchr("*?[]\\", of_pattern) || (of_pattern & 0x80) || (of_name & 0x80))
		return true;
	return tolower(of_pattern) == tolower(of_name);
}

/* Asked of every component of every key several times, and fnmatch is slow: nearly always the first or
 * the last character says no. */
static bool matches(const char *pattern, const char *name)
{
	size_t pattern_len = strlen(pattern), name_len = strlen(name);

	if (pattern_len && name_len &&
		!(may_fit(pattern[0], name[0]) && may_fit(pattern[pattern_len - 1], name[name_len - 1])))
		return false;
	return fnmatch(pattern, name, FNM_CASEFOLD) == 0;
}

static bool matches_any(const char *const *patterns, const char *name)
{
	for (; *patterns; patterns++) {
		if (matches(*patterns, name))
			return true;
	}
	return false;
}

enum name_verdict held_judge(const struct naming_policy *p, const char *name)
{
	if (matches_any(p->junk ? p->junk : junk_builtin, name))
		return NAME_JUNK;
	if (matches_any(p->temporary ? p->temporary : temporary_builtin, name))
		return NAME_TEMPORARY;
	return NAME_OK;
}
