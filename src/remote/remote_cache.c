/*
 * remote_cache - cached folders: a hash by prefix, and the order of use to drop the oldest.
 *
 * The bound counts names (and some for each folder). A folder with a listing or walk under way stays
 * whatever the bound says, and so does the one used last: whoever waited for it must find it.
 */
#include "remote_private.h"

#define FIRST_BUCKETS 256

static uint64_t hash_of(const char *prefix)
{
	return crc64nvme(0, prefix, strlen(prefix));
}

int remote_cache_init(struct remote_cache *c, uint64_t entries_max)
{
	*c = (struct remote_cache){.entries_max = entries_max, .bucket_count = FIRST_BUCKETS};
	c->buckets = calloc(c->bucket_count, sizeof(struct remote_folder *));
	return c->buckets ? 0 : -ENOMEM;
}

static void folder_free(struct remote_folder *f)
{
	remote_names_release(&f->names);
	free(f->walked_to);
	free(f->prefix);
	free(f);
}

void remote_cache_release(struct remote_cache *c)
{
	struct remote_folder *f = c->newest;

	while (f) {
		struct remote_folder *older = f->lru_older;

		folder_free(f);
		f = older;
	}
	free(c->buckets);
	*c = (struct remote_cache){0};
}

struct remote_folder *remote_cache_find(struct remote_cache *c, const char *prefix)
{
	uint64_t hash = hash_of(prefix);
	struct remote_folder *f = c->buckets[hash & (c->bucket_count - 1)];

	while (f && (f->hash != hash || strcmp(f->prefix, prefix) != 0))
		f = f->hash_next;
	return f;
}

static void lru_unlink(struct remote_cache *c, struct remote_folder *f)
{
	*(f->lru_newer ? &f->lru_newer->lru_older : &c->newest) = f->lru_older;
	*(f->lru_older ? &f->lru_older->lru_newer : &c->oldest) = f->lru_newer;
	f->lru_newer = f->lru_older = NULL;
}

static void lru_push(struct remote_cache *c, struct remote_folder *f)
{
	f->lru_newer = NULL;
	f->lru_older = c->newest;
	*(c->newest ? &c->newest->lru_newer : &c->oldest) = f;
	c->newest = f;
}

void remote_cache_touch(struct remote_cache *c, struct remote_folder *f)
{
	if (c->newest == f)
		return;
	lru_unlink(c, f);
	lru_push(c, f);
}

/* Without memory for more buckets the chains grow instead. */
static void grow_buckets(struct remote_cache *c)
{
	size_t count = c->bucket_count * 2;
	struct remote_folder **grown = calloc(count, sizeof(struct remote_folder *));

	if (!grown)
		return;
	for (struct remote_folder *f = c->newest; f; f = f->lru_older) {
		f->hash_next = grown[f->hash & (count - 1)];
		grown[f->hash & (count - 1)] = f;
	}
	free(c->buckets);
	c->buckets = grown;
	c->bucket_count = count;
}

struct remote_folder *remote_cache_add(struct remote_cache *c, const char *prefix)
{
	struct remote_folder *f = calloc(1, sizeof(*f));
	struct remote_folder **bucket;

	if (!f)
		return NULL;
	f->prefix = text_dup(prefix);
	if (!f->prefix) {
		free(f);
		return NULL;
	}
	f->hash = hash_of(prefix);
	lru_push(c, f);
	bucket = &c->buckets[f->hash & (c->bucket_count - 1)];
	f->hash_next = *bucket;
	*bucket = f;
	c->entries += REMOTE_FOLDER_ENTRIES;
	if (++c->folder_count > c->bucket_count)
		grow_buckets(c);
	return f;
}

void remote_cache_install(
	struct remote_cache *c, struct remote_folder *f, struct remote_names *names)
{
	c->entries -= f->names.count;
	remote_names_release(&f->names);
	f->names = *names;
	*names = (struct remote_names){0};
	c->entries += f->names.count;
	f->known = true;
}

void remote_cache_forget(struct remote_cache *c, struct remote_folder *f)
{
	struct remote_names none = {0};

	remote_cache_install(c, f, &none);
	f->known = f->born = f->expired = false;
	f->error = 0;
	f->begun = (struct remote_time){0};
}

static void folder_remove(struct remote_cache *c, struct remote_folder *f)
{
	struct remote_folder **at = &c->buckets[f->hash & (c->bucket_count - 1)];

	while (*at != f)
		at = &(*at)->hash_next;
	*at = f->hash_next;
	lru_unlink(c, f);
	c->entries -= f->names.count + REMOTE_FOLDER_ENTRIES;
	c->folder_count--;
	folder_free(f);
}

void remote_cache_trim(struct remote_cache *c)
{
	struct remote_folder *f = c->oldest;

	while (f && c->entries > c->entries_max) {
		struct remote_folder *newer = f->lru_newer;

		if (!f->flight && !f->flat && !f->logs && f != c->newest)
			folder_remove(c, f);
		f = newer;
	}
}

void remote_cache_each_below(struct remote_cache *c, const char *prefix,
	void (*fn)(struct remote_cache *c, struct remote_folder *f))
{
	for (struct remote_folder *f = c->newest; f; f = f->lru_older) {
		if (text_starts(f->prefix, prefix))
			fn(c, f);
	}
}
