/*
 * cli_gallery - galleries by their names: where their files are, and what they preset.
 */
#pragma once

#include "cpgfs/cli.h"

/* The ini files of contrib/galleries as they were at build time; ends with a row without a name. */
struct cli_gallery_builtin {
	const char *name; /* "cellpainting.ini" */
	const char *text;
};
extern const struct cli_gallery_builtin cli_gallery_builtins[];

/* The folders that are looked through, first one first; the built-in files come last. */
#define CLI_GALLERY_DIRS 3
struct cli_gallery_dirs {
	char *dirs[CLI_GALLERY_DIRS]; /* the user's (NULL: no home), /etc, where cpgfs is installed
				       */
};
must_check int cli_gallery_dirs_init(struct cli_gallery_dirs *ret);
void cli_gallery_dirs_release(struct cli_gallery_dirs *d);

struct cli_gallery_file {
	char *path; /* "/etc/cpgfs/galleries/x.ini", or "x.ini, built into cpgfs" */
	char *text;
	size_t len;
};
void cli_gallery_file_release(struct cli_gallery_file *f);
/* The first file of this name ("cellpainting.ini", "cellpainting.layout"). -ENOENT: nowhere; other
 * errors with *ret_message (malloc'ed, names the file). A folder that may not be looked into is
 * passed over with a warning on standard error. */
must_check int cli_gallery_file_find(const struct cli_gallery_dirs *dirs, const char *name,
	struct cli_gallery_file *ret, char **ret_message);

/* One gallery: its file, read and checked against the table of mount options. */
struct cli_gallery {
	struct cli_gallery_file file;
	struct gallery_preset preset;
};
void cli_gallery_release(struct cli_gallery *g);
/* -EINVAL: *ret_message (malloc'ed) names what is wrong in which file and line, and what exists. */
must_check int cli_gallery_find(const struct cli_gallery_dirs *dirs, const char *name,
	struct cli_gallery *ret, char **ret_message);

/* What `cpgfs mount --gallery NAME` starts from: fills bucket and options of m, which the command
 * line may then change. Prints why not: -EINVAL. */
must_check int cli_gallery_apply(struct cli_mount *m, const char *name);

/* Names ("cellpainting") of all galleries, sorted, each once; NULL-ended, the caller's. */
must_check int cli_gallery_names(const struct cli_gallery_dirs *dirs, char ***ret);
void cli_gallery_names_release(char **names);
