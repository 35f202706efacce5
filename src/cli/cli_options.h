/*
 * cli_options - the table of mount options, and what is done with it.
 */
#pragma once

#include "cpgfs/cli.h"

enum option_kind {
	OPTION_FLAG,
	OPTION_TEXT,
	OPTION_SIZE,
	OPTION_TIME,
	OPTION_NUMBER,
	OPTION_WORD, /* parsed by its own function */
};

struct option_row {
	const char *name;    /* without the dashes; the same in -o */
	enum option_kind kind;
	size_t offset;       /* of the field in struct cli_mount */
	const char *arg;     /* shown in help: "URL"; NULL for flags */
	const char *preset;  /* default as text, parsed like a given value; NULL: unset */
	const char *help;
	int (*parse)(struct cli_mount *m, const char *value); /* OPTION_WORD */
};
extern const struct option_row option_rows[];
extern const size_t option_row_count;

/* The row of an option ('_' for '-' is fine); NULL: there is none. */
const struct option_row *option_find(const char *name);
/* Set one option by its name. -ENOENT: no such option; -EINVAL: the value does not fit. */
must_check int option_set(struct cli_mount *m, const char *name, const char *value);
/* All presets. */
must_check int options_preset(struct cli_mount *m);
/* The table as the text of --help. */
void options_help(FILE *out);
/* "name=value" of everything in force. */
must_check int options_describe(const struct cli_mount *m, char ***ret);
