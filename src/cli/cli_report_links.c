/*
 * cli_report_links - tables that name other files, read through the mount and looked up in what was
 *                    uploaded.
 */
#include "cli_links.h"
#include "cli_report.h"

static FILE *open_in_mount(void *user, const char *key)
{
	const struct report *r = user;
	const struct report_row *row = report_find(r, key);
	cleanup_buf struct buf path = {0};

	buf_printf(&path, "%s/%s", r->root, row ? row->path : key);
	errno = ENOMEM;
	return buf_error(&path) == 0 ? fopen(buf_text(&path), "re") : NULL;
}

static bool was_uploaded(void *user, const char *key)
{
	return report_find(user, key) != NULL;
}

/* Keys are sorted. */
static bool any_below(void *user, const char *prefix)
{
	const struct report *r = user;
	size_t low = 0, high = r->count, len = strlen(prefix);

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (strncmp(r->rows[middle].key, prefix, len) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < r->count && strncmp(r->rows[low].key, prefix, len) == 0;
}

void report_links(struct report *r)
{
	struct links links = {.plan = &r->plan,
		.user = r,
		.open = open_in_mount,
		.has = was_uploaded,
		.any_below = any_below};

	for (size_t i = 0; i < r->count; i++) {
		links.shown = r->rows[i].key;
		if (!r->rows[i].outside)
			links_check(&links, r->rows[i].key);
	}
}
