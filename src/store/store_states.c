/*
 * store_states - the states of a file version and which may follow which. The only list of both.
 *
 * A state may always follow itself (another reason, another due time).
 */
#include "store_private.h"

#define BIT(s) (UINT32_C(1) << FILE_##s)

/* Any file may be changed, unlinked, found damaged. */
#define ANY (BIT(OPEN) | BIT(DELETING) | BIT(LOST))

static const uint32_t may_follow[FILE_STATE_COUNT] = {
	[FILE_NONE] = BIT(OPEN) | BIT(CLOSED) | BIT(DELETING),
	[FILE_OPEN] = ANY | BIT(CLOSED) | BIT(INCOMPLETE) | BIT(TORN),
	[FILE_CLOSED] = ANY | BIT(SETTLED) | BIT(HELD) | BIT(INCOMPLETE) | BIT(TORN) | BIT(FAILED) |
		BIT(MOVING),
	[FILE_SETTLED] = ANY | BIT(CLOSED) | BIT(QUEUED) | BIT(UPLOADED) | BIT(HELD) | BIT(MOVING) |
		BIT(INCOMPLETE) | BIT(FAILED) | BIT(TORN) | BIT(CONFLICT),
	[FILE_QUEUED] = ANY | BIT(CLOSED) | BIT(SETTLED) | BIT(SENDING) | BIT(UPLOADED) |
		BIT(CONFLICT) | BIT(HELD) | BIT(FAILED) | BIT(TORN) | BIT(UNKNOWN) | BIT(INCOMPLETE),
	[FILE_SENDING] = ANY | BIT(CLOSED) | BIT(SETTLED) | BIT(QUEUED) | BIT(UPLOADED) |
		BIT(UNKNOWN) | BIT(CONFLICT) | BIT(FAILED) | BIT(HELD) | BIT(MOVING) | BIT(TORN),
	[FILE_UNKNOWN] = ANY | BIT(CLOSED) | BIT(SETTLED) | BIT(QUEUED) | BIT(SENDING) |
		BIT(UPLOADED) | BIT(CONFLICT) | BIT(FAILED) | BIT(HELD) | BIT(MOVING) | BIT(TORN),
	[FILE_UPLOADED] = ANY | BIT(VERIFIED) | BIT(CLOSED) | BIT(SETTLED) | BIT(QUEUED) |
		BIT(CONFLICT) | BIT(GONE) | BIT(MOVING) | BIT(FAILED),
	[FILE_VERIFIED] = ANY | BIT(UPLOADED) | BIT(CLOSED) | BIT(CONFLICT) | BIT(GONE) | BIT(MOVING),
	[FILE_HELD] = ANY | BIT(CLOSED) | BIT(SETTLED) | BIT(QUEUED) | BIT(INCOMPLETE) | BIT(TORN),
	[FILE_INCOMPLETE] = ANY | BIT(CLOSED) | BIT(SETTLED) | BIT(QUEUED),
	[FILE_TORN] = ANY | BIT(CLOSED) | BIT(SETTLED) | BIT(QUEUED),
	[FILE_LOST] = ANY | BIT(CLOSED),
	[FILE_CONFLICT] = ANY | BIT(CLOSED) | BIT(SETTLED) | BIT(QUEUED) | BIT(SENDING) |
		BIT(UPLOADED) | BIT(HELD) | BIT(TORN),
	[FILE_FAILED] = ANY | BIT(CLOSED) | BIT(SETTLED) | BIT(QUEUED) | BIT(HELD) | BIT(UPLOADED) |
		BIT(CONFLICT) | BIT(MOVING) | BIT(INCOMPLETE) | BIT(TORN),
	[FILE_GONE] = ANY | BIT(CLOSED) | BIT(UPLOADED) | BIT(VERIFIED) | BIT(MOVING) | BIT(TORN),
	[FILE_MOVING] = ANY | BIT(CLOSED) | BIT(SETTLED) | BIT(QUEUED) | BIT(SENDING) | BIT(UNKNOWN) |
		BIT(UPLOADED) | BIT(VERIFIED) | BIT(FAILED) | BIT(CONFLICT) | BIT(HELD) | BIT(GONE),
	/* undelete brings back what was */
	[FILE_DELETING] = ANY | BIT(CLOSED) | BIT(UPLOADED) | BIT(VERIFIED) | BIT(CONFLICT) |
		BIT(FAILED) | BIT(MOVING) | BIT(GONE) | BIT(HELD) | BIT(INCOMPLETE) | BIT(TORN),
};

bool file_state_may_follow(enum file_state from, enum file_state to)
{
	return from == to || (may_follow[from] & (UINT32_C(1) << to)) != 0;
}

struct state_row {
	const char *name, *what, *remedy;
	int exit_code;
};

static const struct state_row rows[FILE_STATE_COUNT] = {
	[FILE_NONE] = { "none", "not a file of ours", "", 0 },
#define FILE_STATE(id, name, code, what, remedy) [FILE_##id] = { name, what, remedy, code },
#include "cpgfs/tbl/file_states.h"
#undef FILE_STATE
};

const char *file_state_text(enum file_state s)
{
	return rows[s].name;
}

const char *file_state_what(enum file_state s)
{
	return rows[s].what;
}

const char *file_state_remedy(enum file_state s)
{
	return rows[s].remedy;
}

int file_state_exit(enum file_state s)
{
	return rows[s].exit_code;
}

int file_state_parse(const char *text, enum file_state *ret)
{
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++) {
		if (strcmp(rows[s].name, text) != 0)
			continue;
		*ret = s;
		return 0;
	}
	return -EINVAL;
}
