/*
 * verify_listing - one fresh listing of a folder, kept as hashes: 24 bytes a name, so that a folder
 * of 100,000 objects costs 2.4 MB while it is compared.
 *
 * 64-bit hashes of keys and tags: two different keys of one folder meet with a chance of 10^-9 in a
 * folder of 100,000; what a hash calls different or missing is asked again by name before anything
 * follows from it.
 */
#include "verify_private.h"

/* FNV-1a, 64 bits. CRCs are linear, so that two texts differing alike would collide together. */
uint64_t verify_hash_of(const char *text, size_t len)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
	return h;
}

int verify_listing_add(
	struct verify_listing *l, const char *key, size_t len, const struct s3_object *object)
{
	if (l->count == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 1024;
		struct verify_listed *grown = reallocarray(l->entries, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		l->entries = grown;
		l->cap = cap;
	}
	l->entries[l->count++] = (struct verify_listed){
		.key_hash = verify_hash_of(key, len),
		.etag_hash = verify_hash_of(object->etag, strlen(object->etag)),
		.size_bytes = object->size_bytes,
	};
	return 0;
}

static int compare(const void *pa, const void *pb)
{
	const struct verify_listed *a = pa, *b = pb;

	return a->key_hash < b->key_hash ? -1 : a->key_hash > b->key_hash;
}

void verify_listing_finish(struct verify_listing *l)
{
	if (l->count > 0)
		qsort(l->entries, l->count, sizeof(*l->entries), compare);
}

enum verify_shown verify_listing_look(
	const struct verify_listing *l, const struct store_object *ours)
{
	struct verify_listed want = {.key_hash = verify_hash_of(ours->key, strlen(ours->key))}, *found;

	if (l->count == 0)
		return SHOWN_NOT;
	found = bsearch(&want, l->entries, l->count, sizeof(*l->entries), compare);
	if (!found)
		return SHOWN_NOT;
	if (ours->etag[0] && found->size_bytes == ours->size_bytes &&
		found->etag_hash == verify_hash_of(ours->etag, strlen(ours->etag)))
		return SHOWN_EQUAL;
	return SHOWN_DIFFERENT;
}

void verify_listing_release(struct verify_listing *l)
{
	free(l->entries);
	*l = (struct verify_listing){0};
}

int verify_compare(const struct store_object *ours, const struct s3_object *listed)
{
	if (ours->etag[0] && ours->size_bytes == listed->size_bytes &&
		strcmp(ours->etag, listed->etag) == 0)
		return 0;
	return -EBADMSG;
}
