/*
 * store_former - names that meant another file or folder before a record that a power cut may still take.
 *
 * What is sent under such a name would meet the other one after the cut, when that is sent itself, and be
 * taken for somebody else's; likewise a version that is not the first of its file and was not synced. And
 * the keys of objects that were deleted: a delete that comes back would meet what was sent there since. In
 * memory only: a start leaves nothing in the journal that is not on the disk.
 *
 * Several names may have one key (--naming=clean): only letters and digits count. Two that are taken for one
 * wait for the disk without need.
 */
#include "store_private.h"

#define FORMER_FIRST 1024u
#define FORMER_MAX 65536u /* names since the last sync; beyond, all count */
#define DEPTH_MAX 4096u
#define OF_KEYS 0u /* no folder has this number */

static uint64_t name_hash(uint64_t parent, const char *name)
{
	static const char counts[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	uint64_t hash = crc64nvme(0, &parent, sizeof(parent));
	while (*name) {
		size_t len = strspn(name, counts);
		hash = crc64nvme(hash, name, len);
		name += len + (name[len] != '\0');
	}
	return hash ? hash : 1;
}

/* Where it is, or the free place where it would go. */
static struct former_name *place(const struct former *f, uint64_t hash)
{
	size_t i = (hash * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (f->cap - 1);
	while (f->names[i].hash && f->names[i].hash != hash)
		i = (i + 1) & (f->cap - 1);
	return &f->names[i];
}

static bool grow(struct former *f)
{
	struct former bigger = *f;
	bigger.cap = f->cap ? 2 * f->cap : FORMER_FIRST;
	bigger.names = bigger.cap <= 2 * FORMER_MAX ? calloc(bigger.cap, sizeof(*bigger.names)) : NULL;
	if (!bigger.names)
		return false;
	for (size_t i = 0; i < f->cap; i++)
		if (f->names[i].hash)
			*place(&bigger, f->names[i].hash) = f->names[i];
	free(f->names);
	*f = bigger;
	return true;
}

static uint64_t synced_number(struct store *s)
{
	with_lock(&s->sync.lock);
	return s->sync.synced_number;
}

void former_note(struct store *s, uint64_t parent, const char *name)
{
	struct former *f = &s->former;
	uint64_t number = s->journal.next_number; /* of the record that is being made */
	lock_assert_held(&s->lock);
	if (f->count && f->last_number <= synced_number(s)) {
		memset(f->names, 0, f->cap * sizeof(*f->names));
		f->count = 0;
	}
	f->last_number = number;
	if (2 * (f->count + 1) > f->cap && !grow(f)) {
		f->all_until = number;
		return;
	}
	uint64_t hash = name_hash(parent, name);
	struct former_name *n = place(f, hash);
	f->count += n->hash == 0;
	*n = (struct former_name){ .hash = hash, .number = number };
}

void former_release(struct store *s)
{
	free(s->former.names);
}

void former_note_key(struct store *s, const char *key)
{
	former_note(s, OF_KEYS, key);
}

static bool was_other(struct store *s, uint64_t parent, const char *name, uint64_t synced)
{
	const struct former *f = &s->former;
	return f->all_until > synced || (f->cap && place(f, name_hash(parent, name))->number > synced);
}

bool store_was_other(struct store *s, uint64_t ino, const char *key)
{
	struct record r;
	with_lock(&s->lock);
	uint64_t synced = synced_number(s);
	if (record_get(s, ino, &r) < 0 || (r.i.attr.generation > 1 && is_unsynced(s, ino)))
		return true;
	if (s->former.last_number <= synced)
		return false;
	if (was_other(s, OF_KEYS, key, synced))
		return true;
	for (unsigned depth = 0; ino != STORE_ROOT_INO && depth < DEPTH_MAX; depth++) {
		if (was_other(s, r.i.attr.parent, r.i.name, synced))
			return true;
		ino = r.i.attr.parent;
		if (record_get(s, ino, &r) < 0)
			return true;
	}
	return false;
}
