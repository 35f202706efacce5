/*
 * cli_plan_content - what a file's size and first bytes tell of it.
 *
 * A damaged image among thousands shows by its size: the usual size of a folder's TIFFs is known
 * before its files are judged.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "cli_plan.h"

enum { HEAD_BYTES = 4096, TIFFS_FOR_A_RULE = 20 };

static bool is_tiff(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && (strcasecmp(dot, ".tif") == 0 || strcasecmp(dot, ".tiff") == 0);
}

/* Thumbnails beside their images are smaller for a good reason. */
static bool counts(const struct walk_entry *entry)
{
	return S_ISREG(entry->st.st_mode) && is_tiff(entry->name) && !strstr(entry->name, "_thumb");
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

void plan_folder_sizes(const struct walk_entry *entries, size_t count, struct plan_sizes *ret)
{
	cleanup_free uint64_t *sizes = calloc(count + 1, sizeof(*sizes));
	size_t n = 0, usual = 0;

	*ret = (struct plan_sizes){0};
	for (size_t i = 0; sizes && i < count; i++) {
		if (counts(&entries[i]))
			sizes[n++] = (uint64_t)entries[i].st.st_size;
	}
	if (n < TIFFS_FOR_A_RULE)
		return;
	qsort(sizes, n, sizeof(*sizes), by_size);
	ret->usual_bytes = sizes[n / 2];
	for (size_t i = 0; i < n; i++)
		usual += sizes[i] == ret->usual_bytes;
	ret->equal = usual * 10 >= n * 9;
}

/* Uncompressed images are all of one size; compressed ones vary, but not without end. */
static bool is_outlier(const struct plan *p, const struct walk_entry *entry)
{
	const struct plan_sizes *s = &p->sizes[p->depth];
	uint64_t bytes = (uint64_t)entry->st.st_size, usual = s->usual_bytes;

	if (!usual || !counts(entry))
		return false;
	return s->equal ? bytes != usual : bytes < usual / 4 || bytes > usual * 4;
}

static bool all_zero(const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i])
			return false;
	}
	return len > 0;
}

static void judge_tiff(struct plan *p, int fd, const struct walk_entry *entry, const char *shown)
{
	uint8_t head[HEAD_BYTES];
	ssize_t got = pread(fd, head, sizeof(head), 0);
	bool good;

	if (got < 0) {
		plan_problem(p, PLAN_UNREADABLE, shown, strerror(errno));
		return;
	}
	good = !tiff_looks_cut_off(entry->name, head, (size_t)got, (uint64_t)entry->st.st_size);
	if (all_zero(head, (size_t)got))
		plan_problem(p, PLAN_ZEROS, shown, NULL);
	else if (!good)
		plan_problem(p, PLAN_NO_TIFF, shown, NULL);
	else if (is_outlier(p, entry))
		plan_problem_f(p, PLAN_SIZE, shown, "%" PRIu64 " bytes; usual there: %" PRIu64,
			(uint64_t)entry->st.st_size, p->sizes[p->depth].usual_bytes);
}

void plan_content(struct plan *p, int parent, const struct walk_entry *entry, const char *shown)
{
	/* a source that is a link stands for what it leads to, as with cp */
	bool is_single = p->source_count && p->sources[p->source_at].is_single;
	cleanup_fd int fd = -1;

	if (p->waiting && entry->st.st_size > 0 && !is_tiff(entry->name))
		return;
	fd = openat(parent, entry->name,
		O_RDONLY | O_CLOEXEC | O_NONBLOCK | (is_single ? 0 : O_NOFOLLOW));
	if (fd < 0)
		plan_problem(p, PLAN_UNREADABLE, shown, strerror(errno));
	else if (entry->st.st_size == 0)
		plan_problem(p, PLAN_EMPTY, shown, NULL);
	else if (is_tiff(entry->name))
		judge_tiff(p, fd, entry, shown);
}
