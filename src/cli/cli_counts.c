/*
 * cli_counts - what a table of counts by state amounts to: exit code and progress.
 */
#include "cli_private.h"

#include <jansson.h>

static uint64_t count_of(const json_t *counts, const char *table, const char *name)
{
	json_int_t n = json_integer_value(json_object_get(json_object_get(counts, table), name));
	return n > 0 ? (uint64_t)n : 0;
}

static int worse(int a, int b)
{
	return a == EXIT_NEEDS_PERSON || b == EXIT_NEEDS_PERSON ? EXIT_NEEDS_PERSON : a > b ? a : b;
}

/* Held by a temporary name: pending; junk: does not count; a refused name: needs a person. */
static int exit_of_held(const json_t *counts)
{
	if (count_of(counts, "held", "name"))
		return EXIT_NEEDS_PERSON;
	return count_of(counts, "held", "temporary") ? EXIT_PENDING : EXIT_VERIFIED;
}

int cli_exit_of_counts(const json_t *counts)
{
	int result = exit_of_held(counts);
	if (!json_is_object(json_object_get(counts, "files")))
		return EXIT_USAGE; /* says nothing: not that all is well */
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++) {
		if (s == FILE_HELD || !count_of(counts, "files", file_state_text(s)))
			continue;
		result = worse(result, file_state_exit(s));
	}
	if (json_integer_value(json_object_get(counts, "jobs")) > 0)
		result = worse(result, EXIT_PENDING); /* renamed folders the bucket has to follow */
	if (json_integer_value(json_object_get(counts, "jobs_damaged")) > 0)
		result = EXIT_NEEDS_PERSON;
	return result;
}

void cli_progress_of(const json_t *counts, struct cli_progress *ret)
{
	struct cli_progress p = { .held_name = count_of(counts, "held", "name"),
		.held_temporary = count_of(counts, "held", "temporary") };
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++) {
		uint64_t files = count_of(counts, "files", file_state_text(s));
		uint64_t bytes = count_of(counts, "bytes", file_state_text(s));
		if (s == FILE_DELETING || s == FILE_HELD || s == FILE_GONE)
			continue;
		p.files_all += files;
		p.bytes_all += bytes;
		if (s == FILE_VERIFIED)
			p.files_done += files;
		if (s == FILE_VERIFIED || s == FILE_UPLOADED)
			p.bytes_done += bytes;
		if (file_state_exit(s) == EXIT_NEEDS_PERSON)
			p.files_person += files;
		if (file_state_exit(s) == EXIT_PENDING)
			p.files_pending += files;
	}
	*ret = p;
}
