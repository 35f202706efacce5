/*
 * cli_watch - the live screen of `cpgfs status --watch`, and plates in a terminal.
 *
 *	cli_watch_draw.c   one screen from status.json and plates.tsv; pure
 *	cli_watch.c        the terminal: raw keys, redrawing, leaving it as it was
 *	cli_plates.c       `cpgfs status --plates`
 */
#pragma once

#include <jansson.h>

#include "cli_private.h"

struct watch_screen {
	unsigned width, height; /* characters; at least 20 × 8 are drawn for */
	bool colour;
	int64_t now_ns;
};

/* height lines at most, each at most width characters wide (colours not counted), with "\n" between
 * them. plates: the text of plates.tsv. */
void watch_draw(const json_t *status, const char *plates, const struct watch_screen *screen,
	struct buf *out);

/* Until q, or a signal. EXIT_*: as `cpgfs status` at that moment. */
int cli_watch(const char *root);
/* Every plate below the mount, in colours if standard output is a terminal. EXIT_*. */
int cli_plates(const char *root);
