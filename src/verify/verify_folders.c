/*
 * verify_folders - which folders of the bucket have uploads to look at, and when.
 *
 * A folder's time comes when no upload arrived in it for quiet_ms, or BUSY_MS after the first one;
 * both are shorter when somebody waits, and nothing is waited for when no upload is to come. After a failed listing it waits, longer each time.
 */
#include "verify_private.h"

#define BUSY_MS 30000
#define BUSY_HURRY_MS 2000
#define HURRY_FACTOR 4
#define FAILED_FIRST_MS 2000
#define FAILED_MAX_MS 600000
#define DENIED_MS 60000

void verify_inos_release(struct verify_inos *l)
{
	free(l->ino);
	*l = (struct verify_inos){0};
}

int verify_inos_add(struct verify_inos *l, uint64_t ino)
{
	if (l->count == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 16;
		uint64_t *grown = reallocarray(l->ino, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		l->ino = grown;
		l->cap = cap;
	}
	l->ino[l->count++] = ino;
	return 0;
}

static void folder_free(struct verify_folder *f)
{
	verify_inos_release(&f->inos);
	free(f->prefix);
	free(f);
}

void verify_folders_release(struct verify_folders *fs)
{
	for (size_t i = 0; i < fs->count; i++)
		folder_free(fs->sorted[i]);
	free(fs->sorted);
	*fs = (struct verify_folders){0};
}

/* Index of the first folder not before prefix. */
static size_t find(const struct verify_folders *fs, const char *prefix)
{
	size_t low = 0, high = fs->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (strcmp(fs->sorted[mid]->prefix, prefix) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct verify_folder *folder_new(const char *prefix)
{
	struct verify_folder *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->prefix = text_dup(prefix);
	if (!f->prefix) {
		free(f);
		return NULL;
	}
	return f;
}

static int reserve(struct verify_folders *fs)
{
	size_t cap = fs->cap ? fs->cap * 2 : 16;
	struct verify_folder **grown;

	if (fs->count < fs->cap)
		return 0;
	grown = reallocarray(fs->sorted, cap, sizeof(struct verify_folder *));
	if (!grown)
		return -ENOMEM;
	fs->sorted = grown;
	fs->cap = cap;
	return 0;
}

static struct verify_folder *find_or_add(struct verify_folders *fs, const char *prefix)
{
	size_t i = find(fs, prefix);
	struct verify_folder *f;

	if (i < fs->count && strcmp(fs->sorted[i]->prefix, prefix) == 0)
		return fs->sorted[i];
	if (reserve(fs) < 0)
		return NULL;
	f = folder_new(prefix);
	if (!f)
		return NULL;
	memmove(fs->sorted + i + 1, fs->sorted + i,
		(fs->count - i) * sizeof(struct verify_folder *));
	fs->sorted[i] = f;
	fs->count++;
	return f;
}

int verify_folders_add(struct verify_folders *fs, const char *key, uint64_t ino, int64_t now_ms)
{
	const char *slash = strrchr(key, '/');
	char prefix[KEY_MAX_BYTES + 1];
	struct verify_folder *f;
	int r;

	(void)text_copy(prefix, key, sizeof(prefix)); /* keys are that short */
	prefix[slash ? slash + 1 - key : 0] = '\0';
	f = find_or_add(fs, prefix);
	if (!f)
		return -ENOMEM;
	r = verify_inos_add(&f->inos, ino);
	if (r < 0)
		return r;
	if (f->inos.count == 1)
		f->first_ms = now_ms;
	f->last_ms = now_ms;
	return 0;
}

/* key may name a file, a folder, or "": everything. */
static bool concerns(const struct verify_folder *f, const char *key)
{
	size_t len = strlen(key), folder_len = strlen(f->prefix);

	if (len == 0 || strncmp(f->prefix, key, folder_len) == 0)
		return true; /* all, or a file (or folder) directly or deeper below f */
	return strncmp(f->prefix, key, len) == 0 && (key[len - 1] == '/' || f->prefix[len] == '/');
}

void verify_folders_hurry(struct verify_folders *fs, const char *key)
{
	for (size_t i = 0; i < fs->count; i++) {
		if (concerns(fs->sorted[i], key))
			fs->sorted[i]->hurry = true;
	}
}

void verify_folders_again(struct verify_folders *fs)
{
	for (size_t i = 0; i < fs->count; i++) {
		if (fs->sorted[i]->failures == 0)
			continue;
		fs->sorted[i]->failures = 0;
		fs->sorted[i]->not_before_ms = 0;
	}
}

static int64_t due_ms_of(const struct verify_folder *f, int64_t quiet_ms, bool more_to_come)
{
	int64_t hurry_ms = more_to_come ? quiet_ms / HURRY_FACTOR : 0;
	int64_t due_ms = f->last_ms + (f->hurry ? hurry_ms : quiet_ms);
	int64_t busy_ms = f->first_ms + (f->hurry ? BUSY_HURRY_MS : BUSY_MS);

	if (due_ms > busy_ms)
		due_ms = busy_ms;
	return due_ms > f->not_before_ms ? due_ms : f->not_before_ms;
}

struct verify_folder *verify_folders_due(
	struct verify_folders *fs, int64_t quiet_ms, bool more_to_come, int64_t *ret_next_ms)
{
	struct verify_folder *first = NULL;
	int64_t first_ms = INT64_MAX;

	for (size_t i = 0; i < fs->count; i++) {
		int64_t due_ms = due_ms_of(fs->sorted[i], quiet_ms, more_to_come);

		if (due_ms < first_ms) {
			first_ms = due_ms;
			first = fs->sorted[i];
		}
	}
	*ret_next_ms = first_ms;
	return first_ms <= clock_mono_ms() ? first : NULL;
}

void verify_folders_settle(struct verify_folders *fs, struct verify_folder *f)
{
	size_t i = find(fs, f->prefix);

	check(i < fs->count && fs->sorted[i] == f);
	f->hurry = false;
	if (f->inos.count > 0) {
		f->first_ms = f->last_ms = clock_mono_ms();
		return;
	}
	memmove(fs->sorted + i, fs->sorted + i + 1,
		(fs->count - i - 1) * sizeof(struct verify_folder *));
	fs->count--;
	folder_free(f);
}

void verify_folder_failed(struct verify_folder *f, int error)
{
	int64_t wait_ms = FAILED_FIRST_MS;

	for (unsigned i = 0; i < f->failures && wait_ms < FAILED_MAX_MS; i++)
		wait_ms *= 2;
	if (error == -EACCES && wait_ms < DENIED_MS)
		wait_ms = DENIED_MS;
	f->failures++;
	f->not_before_ms = clock_mono_ms() + (wait_ms < FAILED_MAX_MS ? wait_ms : FAILED_MAX_MS);
}
