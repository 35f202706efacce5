/*
 * control_plates - `.cpgfs/plates/`: each plate as its grid of wells.
 *
 *	control_plates.c      the tree: project/source/batch/plate.svg and plate.txt
 *	control_plate_map.c   what each well of a plate has
 *	control_plate_draw.c  the pictures
 */
#pragma once

#include "control_private.h"

enum well_share { /* in the order in which they are drawn, from the bottom of a well up */
	SHARE_VERIFIED,
	SHARE_UPLOADED,
	SHARE_COPIED, /* here, on its way */
	SHARE_PERSON, /* here, and needs a person */
	SHARES,
};

struct well_map {
	unsigned images[SHARES];
};

struct plate_map {
	char name[STORE_NAME_MAX + 1];
	struct plate_facts facts;
	enum image_vendor vendor;
	unsigned per_well; /* images a well should have */
	struct well_map wells[PLATE_ROWS_MAX + 1][PLATE_COLS_MAX + 1]; /* from 1 */
	uint64_t files[SHARES], bytes[SHARES]; /* all files of the plate's folder */
};

enum well_share control_share_of(enum file_state state, enum held_kind held);
/* Of the plate whose folder this is. -ENOENT, -ENOTDIR. */
must_check int control_plate_map(struct control *c, const char *folder, struct plate_map *ret);
void control_plate_svg(const struct plate_map *m, struct buf *out);
void control_plate_text(const struct plate_map *m, struct buf *out);
