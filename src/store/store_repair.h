/*
 * store_repair - what the files of a repair share.
 *
 * Way: store_repair.c looks and decides; store_evidence.c gathers all that the index, the journal
 * and the witness still say; store_rebuild.c makes a new index of it; store_orphans.c takes out of
 * data/ what belongs to nobody.
 */
#pragma once

#include "store_private.h"

/* What index, journal and witness say of themselves. */
struct sources {
	bool has_index, has_journal, has_witness;
	bool tree_sound;       /* every page and every record of the index can be read */
	bool meta_known;       /* … at least where it stands, and whose it is */
	bool index_is_foreign; /* the witness says another identity: neither index nor journal count
				*/
	bool records_lost; /* of what happened since the index was committed, some is not known */
	bool power_cut;
	bool sound; /* nothing to rebuild */
	char index_identity[KEY_MAX_BYTES + 1024], witness_identity[KEY_MAX_BYTES + 1024];
	uint64_t format, epoch, number, clean, disk_seq;
	uint64_t front_number; /* the first record of the newest epoch in the journal */
	uint64_t run_end;      /* the last record that a mount would replay */
	uint64_t journal_epoch;
};

struct repair {
	const struct store_repair_config *config;
	struct store_repair_report *report;
	char **message;
	struct store *s; /* of the index being made: its directory, lock, index */
	struct sources sources;
	char *work_dir; /* for what is only needed meanwhile */
	struct index evidence;
	uint64_t puts;
	bool can_see_writers;			   /* the disk tells who has a file open */
	uint64_t next_ino, next_attempt, next_job; /* above all that was ever seen */
	uint64_t highest_number, highest_epoch;
};

/* ---- evidence -------------------------------------------------------------------------------- */

/*
 * The last that is known of an entry. In evidence each value has this before it: the number of the
 * operation that it is from, and whether it can only be the latest (exact) or older ones are all
 * that is left.
 */
struct testimony {
	uint64_t number;
	bool exact, gone;
	struct bytes value;
};
#define EVIDENCE_LABEL                                                                             \
	TABLE_UNSYNCED /* ino -> why its bytes have no place in the new index, and path */
#define EVIDENCE_NAME TABLE_DIRENT /* parent, name -> ino: who has that name */
#define EVIDENCE_ABORTS                                                                            \
	TABLE_QUEUE /* ino -> how many uploads of it are to be aborted (its number) */

must_check int sources_look(struct repair *p);
must_check int evidence_gather(struct repair *p);
void evidence_close(struct repair *p);
must_check int evidence_get(
	struct repair *p, enum table t, const struct ikey *k, struct testimony *ret);
must_check int testimony_read(struct bytes raw, struct testimony *ret);
must_check int evidence_put(
	struct repair *p, enum table t, struct bytes key, const struct testimony *what);

/* ---- the new index --------------------------------------------------------------------------- */

must_check int rebuild(struct repair *p);
must_check int rebuild_end(struct repair *p); /* durable; still open: orphans are what it lacks */

/* ---- orphans: data files that the index has no use for --------------------------------------- */

/* Counts and notes them, and sees that no new file gets the number of one. */
must_check int orphans_look(struct repair *p);
must_check int orphans_move(struct repair *p);
/* Of a new index that is opened again: nothing but itself tells any more why. */
must_check int orphans_of_ready(struct repair *p);
/* Does the new index say that nothing of this data file is here? */
static inline bool is_leftover(const struct record *r, uint64_t data_bytes)
{
	return r->present_bytes == 0 && data_bytes > 0;
}
/* Why, and the path as far as known ("" if not). */
must_check int label_put(struct repair *p, uint64_t ino, const char *why, const char *path);
