/*
 * cli_plan_links - tables of the source that name other files, looked up in the sources.
 *
 * Only what the sources would hold is missed: images that are named while no source has an images/
 * folder of theirs may be in the bucket, and whatever a table names that comes alone.
 */
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli_links.h"

static void dir_close(DIR **d)
{
	if (*d)
		(void)closedir(*d); /* only read */
}

static bool is_single(const struct plan *p, size_t n)
{
	return p->source_count && p->sources[n].is_single;
}

/* Where the n-th source, or the one at hand, has this key. False: it lies elsewhere. */
static bool place_of(const struct plan *p, size_t n, const char *key, struct buf *out)
{
	const char *place = p->source_count ? p->sources[n].path : p->top;
	const char *prefix = p->source_count ? p->sources[n].prefix : p->prefix;
	const char *slash = strrchr(place, '/'), *leaf = slash ? slash + 1 : place;
	size_t len = strlen(prefix);

	if (!text_starts(key, prefix) || (len > 0 && key[len] != '/'))
		return false;
	key += len + (len > 0);
	if (is_single(p, n) && strcmp(key, leaf) != 0)
		return false;
	buf_clear(out);
	buf_printf(out, "%s%s%s", place, is_single(p, n) ? "" : "/", is_single(p, n) ? "" : key);
	return buf_error(out) == 0;
}

static size_t places(const struct plan *p)
{
	return p->source_count ? p->source_count : 1;
}

static bool exists(const struct plan *p, const char *key)
{
	cleanup_buf struct buf path = {0};

	for (size_t i = 0; i < places(p); i++) {
		if (place_of(p, i, key, &path) && access(buf_text(&path), F_OK) == 0)
			return true;
	}
	return false;
}

static FILE *open_source(void *user, const char *key)
{
	const struct plan *p = user;
	cleanup_buf struct buf path = {0};

	for (size_t i = 0; i < places(p); i++) {
		FILE *f = place_of(p, i, key, &path) ? fopen(buf_text(&path), "re") : NULL;

		if (f)
			return f;
	}
	return NULL;
}

static bool has(void *user, const char *key)
{
	const struct plan *p = user;
	const char *images = strstr(key, "/images/");
	cleanup_free char *top = images ? strndup(key, (size_t)(images - key) + 7) : NULL;

	return exists(p, key) || is_single(p, p->source_at) || (top && !exists(p, top));
}

static bool any_below(void *user, const char *prefix)
{
	const struct plan *p = user;
	cleanup_free char *folder = strndup(prefix, (size_t)(strrchr(prefix, '/') - prefix));
	const char *start = strrchr(prefix, '/') + 1;
	cleanup_buf struct buf path = {0};

	for (size_t i = 0; folder && i < places(p); i++) {
		cleanup_with(dir_close) DIR *d = NULL;

		if (!place_of(p, i, folder, &path) || !(d = opendir(buf_text(&path))))
			continue;
		for (struct dirent *e; (e = readdir(d));) {
			if (e->d_name[0] != '.' && text_starts(e->d_name, start))
				return true;
		}
	}
	return false;
}

void plan_links(struct plan *p, const char *key, const char *shown)
{
	struct links links = {.plan = p,
		.shown = shown,
		.user = p,
		.open = open_source,
		.has = has,
		.any_below = any_below};

	if (p->naming.mode != NAMING_CLEAN)
		links_check(&links, key);
	else if (links_table_of(key) != LINKS_NONE) /* keys are not paths there */
		plan_problem(p, PLAN_UNREAD, shown, "--naming=clean gives files other names");
}
