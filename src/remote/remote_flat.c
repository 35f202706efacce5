/*
 * remote_flat - a walk through a tree (find, ls -R, du) is answered from one listing of all keys.
 *
 * A request for each folder would cost a round trip each; a page of a listing without a delimiter
 * holds a thousand keys, of as many small folders as fit. So when somebody asks for one folder
 * after the other, and for all below each, the rest of what their parent holds is listed at once,
 * several pages at a time, and handed out folder by folder as their last keys come by.
 *
 * Who asks for a folder that is still to come waits for it here, but not for long: what takes
 * longer (he does not walk through all that lies between) is listed by itself, and this ends. It
 * stops where it is so far ahead that what it brought might go unused, and ends when nobody has
 * come for a while.
 *
 * A folder from here is what a listing of its own would be, begun when the first page that tells of
 * it was asked for. Our own writes meanwhile are kept and put into it, those from before are not.
 */
#include "remote_private.h"

#define FLATS_MAX 4
#define AHEAD_FIRST                                                                                \
	8000 /* names handed out before anybody asked; later twice as many as were used */
#define NOTES_MAX 20000
#define NOTE_BUCKETS 512
#define IDLE_MS 10000 /* nobody came */
#define WAIT_MS 1000  /* … for a folder, and four times as long as a page took */
#define AFTER_ERROR_MS 60000
#define PAGE_NAMES 950 /* how far apart listings are split: some more fit on a page by now */
#define SPLITS_MAX 512
#define LEVELS_MAX 32 /* looked into to tell whether a walk goes on to the bottom */
#define SAMPLE_MAX 16 /* folders that are looked at to tell how many keys there are */

struct flat_note {
	struct flat_note *next; /* of the bucket; latest last */
	int64_t at_ms;
	size_t folder_len;
	struct remote_note note; /* its name follows; behind that the folder */
};

struct remote_flat {
	struct remote_flat *next; /* of the room */
	struct remote_flight *flight;
	/* const */
	struct remote *remote;
	uint64_t id;
	char *prefix; /* all below this … */
	char *after;  /* … and behind this */
	/* the worker's that has it */
	struct remote_tree tree;
	struct {
		char passed[KEY_MAX_BYTES + 1]; /* up to here folders have been handed out */
		bool ended;
		int64_t came_ms;     /* somebody asked for something of it */
		int64_t page_ms;     /* the longest time that a page took */
		uint64_t handed_out; /* names that nobody had asked for */
		uint64_t used;	     /* of these, asked for since */
		struct remote_folder *waiting;
		struct note_bucket {
			struct flat_note *first, **last; /* last NULL: never had one */
		} notes[NOTE_BUCKETS];
		unsigned note_count;
	} synced; /* by the room's lock */
};

/* ---- which folders ---- */

static bool is_open(const struct remote_flat *flat, const char *prefix)
{
	const char *passed = flat->synced.passed;

	return strcmp(prefix, passed) > 0 || text_starts(passed, prefix);
}

/* Is it still to come? */
static bool covers(const struct remote_flat *flat, const char *prefix)
{
	return !flat->synced.ended && text_starts(prefix, flat->prefix) &&
	       strcmp(prefix, flat->after) > 0 && is_open(flat, prefix);
}

static struct remote_flat *flat_with_id(struct remote *r, uint64_t id)
{
	struct remote_flat *flat = r->synced.flats;

	while (flat && flat->id != id)
		flat = flat->next;
	return flat;
}

/* ---- life ---- */

static int folder_is_whole(
	void *user, const char *prefix, struct remote_names *names, struct remote_time asked);

static struct remote_flat *flat_new(struct remote *r, const char *prefix, const char *after)
{
	struct remote_flat *flat = calloc(1, sizeof(*flat));

	if (!flat)
		return NULL;
	flat->remote = r;
	flat->id = ++r->synced.last_flat_id;
	flat->prefix = text_dup(prefix);
	flat->after = text_dup(after);
	flat->synced.came_ms = clock_mono_ms();
	if (!flat->prefix || !flat->after) {
		remote_flat_free(flat);
		return NULL;
	}
	remote_tree_init(&flat->tree, flat->prefix, folder_is_whole, flat);
	return flat;
}

static void notes_drop(struct remote_flat *flat)
{
	for (size_t i = 0; i < NOTE_BUCKETS; i++) {
		for (struct flat_note *n = flat->synced.notes[i].first, *next; n; n = next) {
			next = n->next;
			free(n);
		}
		flat->synced.notes[i] = (struct note_bucket){0};
	}
	flat->synced.note_count = 0;
}

void remote_flat_free(struct remote_flat *flat)
{
	if (!flat)
		return;
	remote_tree_release(&flat->tree);
	notes_drop(flat);
	free(flat->prefix);
	free(flat->after);
	free(flat);
}

static void flat_end_locked(struct remote_flat *flat)
{
	flat->synced.ended = true;
	remote_flight_wake_locked(flat->flight);
}

static unsigned count_flats(const struct remote *r, const char *prefix, bool *ret_same)
{
	unsigned count = 0;

	*ret_same = false;
	for (const struct remote_flat *flat = r->synced.flats; flat; flat = flat->next) {
		count++;
		*ret_same = *ret_same || strcmp(flat->prefix, prefix) == 0;
	}
	return count;
}

bool remote_flat_begin_locked(struct remote *r, const char *prefix, const char *after)
{
	struct remote_flat *flat;
	bool same;

	lock_assert_held(&r->lock);
	if (r->synced.stopping || atomic_load(&r->never_split) || s3_is_down(r->s3) ||
		clock_mono_ms() < r->synced.no_flats_until_ms ||
		count_flats(r, prefix, &same) >= FLATS_MAX || same)
		return false;
	flat = flat_new(r, prefix, after);
	if (flat)
		flat->flight = remote_flight_of_flat_locked(r, flat);
	if (!flat || !flat->flight) {
		remote_flat_free(flat);
		return false;
	}
	flat->next = r->synced.flats;
	r->synced.flats = flat;
	return true;
}

/* ---- our own writes meanwhile ---- */

static struct note_bucket *bucket_of(struct remote_flat *flat, const char *folder, size_t len)
{
	return &flat->synced.notes[crc64nvme(0, folder, len) % NOTE_BUCKETS];
}

static char *folder_of(struct flat_note *n)
{
	return n->note.name + strlen(n->note.name) + 1;
}

static void note_add(struct remote_flat *flat, const char *folder, const struct remote_note *note)
{
	size_t name_bytes = strlen(note->name) + 1, len = strlen(folder);
	struct note_bucket *bucket = bucket_of(flat, folder, len);
	struct flat_note *n;

	n = flat->synced.note_count < NOTES_MAX ? malloc(sizeof(*n) + name_bytes + len) : NULL;
	if (!n) {
		flat_end_locked(flat);
		return;
	}
	n->next = NULL;
	n->at_ms = clock_mono_ms();
	n->folder_len = len;
	n->note = *note;
	memcpy(n->note.name, note->name, name_bytes);
	memcpy(folder_of(n), folder, len);
	*(bucket->last ? bucket->last : &bucket->first) = n;
	bucket->last = &n->next;
	flat->synced.note_count++;
}

void remote_flats_note_locked(struct remote *r, const char *folder, const struct remote_note *note)
{
	for (struct remote_flat *flat = r->synced.flats; flat; flat = flat->next) {
		if (covers(flat, folder))
			note_add(flat, folder, note);
	}
}

/* Takes those of a folder and puts what came since into names. *ret_emptied: a deletion left none.
 */
static int notes_apply_locked(struct remote_flat *flat, const char *folder,
	struct remote_names *names, int64_t since_ms, bool *ret_emptied)
{
	size_t len = strlen(folder);
	struct note_bucket *bucket = bucket_of(flat, folder, len);
	struct flat_note **at = &bucket->first;
	bool lost = false;

	*ret_emptied = false;
	while (*at) {
		struct flat_note *n = *at;

		if (n->folder_len != len || memcmp(folder_of(n), folder, len) != 0) {
			at = &n->next;
			continue;
		}
		if (n->at_ms >= since_ms) {
			(void)remote_note_apply(names, &n->note, &lost); /* news anyway */
			*ret_emptied = n->note.is_delete && names->count == 0;
		}
		*at = n->next;
		if (bucket->last == &n->next)
			bucket->last = at;
		free(n);
		flat->synced.note_count--;
	}
	return lost ? -ENOMEM : 0;
}

/* ---- handing out ---- */

static void waiting_remove(struct remote_flat *flat, struct remote_folder *f)
{
	struct remote_folder **at = &flat->synced.waiting;

	while (*at != f)
		at = &(*at)->flat_next;
	*at = f->flat_next;
	f->flat_next = NULL;
	f->flat = NULL;
}

static void expire_parent(struct remote *r, const char *prefix)
{
	char parent[KEY_MAX_BYTES + 1];
	size_t len = strlen(prefix) - 1;
	struct remote_folder *f;

	while (len > 0 && prefix[len - 1] != '/')
		len--;
	memcpy(parent, prefix, len);
	parent[len] = '\0';
	f = remote_cache_find(&r->synced.cache, parent);
	if (f)
		remote_folder_expire_locked(f);
}

/* A listing of it is here. True: its news is to be told at once. */
static bool hand_out_locked(struct remote_flat *flat, const char *prefix,
	struct remote_names *names, struct remote_time asked)
{
	struct remote *r = flat->remote;
	struct remote_folder *f = remote_cache_find(&r->synced.cache, prefix);
	bool was_known = f && f->known, waited = f && f->flat == flat, emptied, lost;

	if (!f)
		f = remote_cache_add(&r->synced.cache, prefix);
	if (!f)
		return false; /* asked for by itself, later */
	lost = notes_apply_locked(flat, prefix, names, asked.mono_ms, &emptied) < 0;
	if (emptied)
		expire_parent(r, prefix);
	if (!waited && !was_known) {
		f->flat_id = flat->id;
		f->flat_names = names->count + 1;
		flat->synced.handed_out += f->flat_names;
	}
	if (waited)
		waiting_remove(flat, f);
	remote_cache_touch(&r->synced.cache, f);
	remote_folder_renew_locked(r, f, names, !lost, asked);
	if (was_known && !waited)
		remote_tell_changed_locked(r, f);
	return waited;
}

static int folder_is_whole(
	void *user, const char *prefix, struct remote_names *names, struct remote_time asked)
{
	struct remote_flat *flat = user;
	struct remote *r = flat->remote;
	bool tell;

	{
		with_lock(&r->lock);
		if (flat->synced.ended)
			return -ECANCELED;
		tell = hand_out_locked(flat, prefix, names, asked);
	}
	if (tell)
		remote_tell_listed(r, prefix, 0);
	return 0;
}

static void pass(struct remote_flat *flat, const char *key, int64_t took_ms)
{
	with_lock(&flat->remote->lock);
	(void)text_copy(flat->synced.passed, key, sizeof(flat->synced.passed)); /* fits */
	if (took_ms > flat->synced.page_ms)
		flat->synced.page_ms = took_ms;
}

/*
 * The next of those who wait (passed_only: for what did not come by) asks for it by itself. That its
 * keys are gone is the likely reason; that the server keeps no order is one, too.
 */
static bool give_up_waiting(struct remote_flat *flat, bool passed_only,
	char prefix[KEY_MAX_BYTES + 1], int *ret_error)
{
	struct remote *r = flat->remote;
	struct remote_folder *f;

	with_lock(&r->lock);
	f = flat->synced.waiting;
	while (f && passed_only && is_open(flat, f->prefix))
		f = f->flat_next;
	if (!f)
		return false;
	waiting_remove(flat, f);
	remote_flight_want_locked(r, f, false);
	*ret_error = f->flight ? 0 : r->synced.stopping ? -ESHUTDOWN : -ENETDOWN;
	(void)text_copy(prefix, f->prefix, KEY_MAX_BYTES + 1); /* fits: see the asking */
	return true;
}

static void give_up(struct remote_flat *flat, bool passed_only)
{
	char prefix[KEY_MAX_BYTES + 1];
	int error;

	while (give_up_waiting(flat, passed_only, prefix, &error)) {
		if (error)
			remote_tell_listed(flat->remote, prefix, error);
	}
}

/* ---- the flight's side ---- */

void remote_flat_scope(
	const struct remote_flat *flat, const char **ret_prefix, const char **ret_after)
{
	*ret_prefix = flat->prefix;
	*ret_after = flat->after;
}

/* What lies below a folder, as far as it is known. */
static uint64_t keys_below_locked(struct remote *r, const struct remote_folder *f, unsigned depth)
{
	uint64_t count = f->names.count, sampled = 0, dirs = 0, in_them = 0;
	char prefix[KEY_MAX_BYTES + STORE_NAME_MAX + 2];
	struct remote_entry entry;

	for (size_t i = 0; i < f->names.count && depth > 0; i++) {
		const struct remote_folder *below;

		if (!remote_names_is_dir(&f->names, i))
			continue;
		if (dirs++ >= SAMPLE_MAX)
			continue;
		remote_names_entry(&f->names, i, &entry);
		snprintf(prefix, sizeof(prefix), "%s%s/", f->prefix, entry.name);
		below = remote_cache_find(&r->synced.cache, prefix);
		if (below && below->known) {
			in_them += keys_below_locked(r, below, depth - 1);
			sampled++;
		}
	}
	return count + (sampled ? in_them * dirs / sampled : 0);
}

/* How many of its folders make up a page, by the first that are known. */
static uint64_t folders_a_page_locked(struct remote *r, const struct remote_folder *parent)
{
	uint64_t keys = 0, known = 0;
	char prefix[KEY_MAX_BYTES + STORE_NAME_MAX + 2];
	struct remote_entry entry;

	for (size_t i = 0; i < parent->names.count && known < SAMPLE_MAX; i++) {
		const struct remote_folder *f;

		if (!remote_names_is_dir(&parent->names, i))
			continue;
		remote_names_entry(&parent->names, i, &entry);
		snprintf(prefix, sizeof(prefix), "%s%s/", parent->prefix, entry.name);
		f = remote_cache_find(&r->synced.cache, prefix);
		if (!f || !f->known)
			break;
		keys += keys_below_locked(r, f, 3);
		known++;
	}
	return keys == 0 ? PAGE_NAMES : PAGE_NAMES * known / keys;
}

void remote_flat_split_locked(struct remote *r, struct remote_flat *flat, struct remote_scan *scan)
{
	const struct remote_folder *parent = remote_cache_find(&r->synced.cache, flat->prefix);
	char point[KEY_MAX_BYTES + STORE_NAME_MAX + 2];
	struct remote_entry entry;
	uint64_t every, since = 0, splits = 0;

	if (!parent || !parent->known)
		return;
	every = folders_a_page_locked(r, parent);
	for (size_t i = 0; i < parent->names.count && splits < SPLITS_MAX; i++) {
		if (!remote_names_is_dir(&parent->names, i))
			continue;
		remote_names_entry(&parent->names, i, &entry);
		snprintf(point, sizeof(point), "%s%s/", parent->prefix, entry.name);
		if (strcmp(point, flat->after) <= 0 || ++since < every)
			continue;
		since = 0;
		splits++;
		if (remote_scan_split(scan, point) < 0)
			return; /* without memory for it the listing is slower */
	}
}

int remote_flat_page(
	struct remote_flat *flat, const struct s3_list_page *page, struct remote_time asked)
{
	int r = remote_tree_page(&flat->tree, page, asked);

	if (r == -EXDEV)
		atomic_store(&flat->remote->never_split, true);
	if (r < 0)
		return r;
	pass(flat, flat->tree.key, clock_mono_ms() - asked.mono_ms);
	give_up(flat, true);
	return 0;
}

/* Is a waiting one late? */
static bool is_late(const struct remote_flat *flat, int64_t now_ms, int64_t *due_ms)
{
	int64_t patience_ms = 4 * flat->synced.page_ms;
	bool late = false;

	if (patience_ms < WAIT_MS)
		patience_ms = WAIT_MS;
	for (struct remote_folder *f = flat->synced.waiting; f; f = f->flat_next) {
		int64_t until_ms = f->flat_since_ms + patience_ms;

		late = late || until_ms <= now_ms;
		*due_ms = until_ms < *due_ms ? until_ms : *due_ms;
	}
	return late;
}

static bool is_far_ahead(const struct remote_flat *flat)
{
	uint64_t most = flat->remote->synced.cache.entries_max / 4, ahead = 2 * flat->synced.used;

	ahead = ahead > AHEAD_FIRST ? ahead : AHEAD_FIRST;
	return flat->synced.handed_out - flat->synced.used > (ahead < most ? ahead : most);
}

int remote_flat_look(struct remote_flat *flat, bool *ret_hold, int64_t *ret_due_ms)
{
	struct remote *r = flat->remote;
	int64_t now_ms = clock_mono_ms();

	*ret_due_ms = INT64_MAX;
	with_lock(&r->lock);
	*ret_hold = is_far_ahead(flat);
	if (flat->synced.ended)
		return -ECANCELED;
	if (is_late(flat, now_ms, ret_due_ms)) {
		r->synced.no_flats_until_ms = now_ms + AFTER_ERROR_MS;
		return -ETIMEDOUT;
	}
	if (!*ret_hold)
		return 0;
	if (now_ms >= flat->synced.came_ms + IDLE_MS)
		return -ECANCELED;
	if (flat->synced.came_ms + IDLE_MS < *ret_due_ms)
		*ret_due_ms = flat->synced.came_ms + IDLE_MS;
	return 0;
}

static void flat_unlink(struct remote_flat *flat, int error)
{
	struct remote *r = flat->remote;
	struct remote_flat **at = &r->synced.flats;

	with_lock(&r->lock);
	while (*at != flat)
		at = &(*at)->next;
	*at = flat->next;
	flat->synced.ended = true;
	if (error != 0 && error != -ECANCELED && error != -ESHUTDOWN)
		r->synced.no_flats_until_ms = clock_mono_ms() + AFTER_ERROR_MS;
}

void remote_flat_over(struct remote_flat *flat, int error)
{
	if (error == 0)
		error = remote_tree_end(&flat->tree);
	flat_unlink(flat, error);
	if (error == -EXDEV)
		remote_refresh(flat->remote, flat->prefix); /* what came before may lack something */
	give_up(flat, false);
}

/* ---- those who ask ---- */

void remote_flats_asked_locked(struct remote *r, struct remote_folder *f)
{
	struct remote_flat *from = f->flat_id ? flat_with_id(r, f->flat_id) : NULL;

	if (from) {
		bool was_far = is_far_ahead(from);

		from->synced.used += f->flat_names;
		from->synced.came_ms = clock_mono_ms();
		if (was_far && !is_far_ahead(from))
			remote_flight_wake_locked(from->flight);
	}
	f->flat_id = 0;
}

bool remote_flats_cover_locked(struct remote *r, const char *prefix)
{
	for (const struct remote_flat *flat = r->synced.flats; flat; flat = flat->next) {
		if (covers(flat, prefix))
			return true;
	}
	return false;
}

bool remote_flats_wait_locked(struct remote *r, struct remote_folder *f)
{
	struct remote_flat *flat = r->synced.flats;

	if (f->flat)
		return true;
	while (flat && (!covers(flat, f->prefix) || is_far_ahead(flat)))
		flat = flat->next;
	if (!flat || f->flight || strlen(f->prefix) > KEY_MAX_BYTES)
		return false;
	f->flat = flat;
	f->flat_since_ms = flat->synced.came_ms = clock_mono_ms();
	f->flat_next = flat->synced.waiting;
	flat->synced.waiting = f;
	remote_flight_wake_locked(flat->flight); /* it has to look when this becomes late */
	return true;
}

void remote_flats_end_locked(struct remote *r, const char *prefix)
{
	for (struct remote_flat *flat = r->synced.flats; flat; flat = flat->next) {
		if (text_starts(flat->prefix, prefix) || text_starts(prefix, flat->prefix))
			flat_end_locked(flat);
	}
}

/* Were all folders at the end of what lies below this one asked for, too? */
bool remote_is_walked_through_locked(struct remote *r, const char *prefix)
{
	char below[KEY_MAX_BYTES + STORE_NAME_MAX + 2];

	snprintf(below, sizeof(below), "%s", prefix);
	for (unsigned depth = 0; depth < LEVELS_MAX; depth++) {
		const struct remote_folder *f = remote_cache_find(&r->synced.cache, below);
		struct remote_entry entry;
		size_t i, len = strlen(below);

		if (!f || !f->known || !f->asked || len > KEY_MAX_BYTES)
			return false;
		i = f->names.count;
		while (i > 0 && !remote_names_is_dir(&f->names, i - 1))
			i--;
		if (i == 0)
			return true;
		remote_names_entry(&f->names, i - 1, &entry);
		snprintf(below + len, sizeof(below) - len, "%s/", entry.name);
	}
	return false;
}
