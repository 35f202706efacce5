/*
 * fs_hidden - folders of the bucket that may be empty shells.
 *
 * What was deleted or moved away here stays in the bucket for a while, and is hidden by its key. A
 * folder of which nothing else is left must be hidden, too, and to know that it has to be listed.
 * So that only such folders cost a listing, the prefixes above every key that went are remembered
 * (as hashes; they only grow, by one for each folder that something went from).
 *
 * A mount learns them anew from what is still to be deleted or moved. A file that was moved and
 * written again waits as any other does, and nothing but its own record tells that its object has
 * another key: so that a mount need not look at all files that wait, settings say from where any
 * were moved, until nothing waits.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <inttypes.h>

#define SLOTS_FIRST 256
#define PAGE 64
#define JOBS_MAX 256
#define ATTEMPTS_PAGE 8 /* they are large */

static uint64_t *slot_of(uint64_t *slots, size_t slot_count, uint64_t hash)
{
	size_t i = hash & (slot_count - 1);

	while (slots[i] && slots[i] != hash)
		i = (i + 1) & (slot_count - 1);
	return &slots[i];
}

static bool grow_locked(struct fs_hidden *h)
{
	size_t slot_count = h->slot_count ? h->slot_count * 2 : SLOTS_FIRST;
	uint64_t *slots = calloc(slot_count, sizeof(*slots));

	if (!slots)
		return false;
	for (size_t i = 0; i < h->slot_count; i++)
		if (h->slots[i])
			*slot_of(slots, slot_count, h->slots[i]) = h->slots[i];
	free(h->slots);
	h->slots = slots;
	h->slot_count = slot_count;
	return true;
}

static void add(struct fs *fs, uint64_t hash)
{
	struct fs_hidden *h = &fs->hidden;
	uint64_t *slot;

	with_lock(&fs->lock);
	if (h->count * 2 >= h->slot_count && !grow_locked(h)) {
		h->all = true; /* out of memory: every folder may be one */
		return;
	}
	slot = slot_of(h->slots, h->slot_count, hash);
	h->count += *slot == 0;
	*slot = hash;
}

/* Something went, and its key cannot be read: every folder may be one. */
static void add_unknown(struct fs *fs)
{
	with_lock(&fs->lock);
	fs->hidden.all = true;
}

/* A whole folder stands in the set under its prefix and one of these: it went, or it did so under
 * an earlier mount and only what the bucket still has of it is left to hide. */
#define TREE_MARK "\1"
#define OLD_TREE_MARK "\2"

static uint64_t tree_hash(const char *prefix, const char *mark)
{
	char marked[KEY_MAX_BYTES + 8];

	snprintf(marked, sizeof(marked), "%s%s", prefix, mark);
	return fs_listing_id(marked);
}

/* Shortens "a/b/c" and "a/b/" to "a/", and "a/" to "". False: nothing is left. */
static bool to_parent(char *prefix)
{
	size_t len = strlen(prefix);

	len -= len > 0;
	while (len > 0 && prefix[len - 1] != '/')
		len--;
	prefix[len] = '\0';
	return len > 0;
}

static void add_key(struct fs *fs, const char *key, const char *mark)
{
	char prefix[KEY_MAX_BYTES + 2];

	if (!text_copy(prefix, key, sizeof(prefix)))
		return; /* no key: the bucket cannot have it */
	if (text_ends(prefix, "/")) {
		add(fs, fs_listing_id(prefix));
		add(fs, tree_hash(prefix, mark));
	}
	while (to_parent(prefix))
		add(fs, fs_listing_id(prefix));
}

void fs_hidden_add(struct fs *fs, const char *key)
{
	add_key(fs, key, TREE_MARK);
}

static bool has(struct fs *fs, uint64_t hash)
{
	struct fs_hidden *h = &fs->hidden;

	with_lock(&fs->lock);
	if (h->all || h->slot_count == 0)
		return h->all;
	return *slot_of(h->slots, h->slot_count, hash) != 0;
}

static bool is_in_tree(struct fs *fs, const char *prefix, const char *mark)
{
	char above[KEY_MAX_BYTES + 2];

	if (!text_copy(above, prefix, sizeof(above)))
		return false;
	do {
		if (has(fs, tree_hash(above, mark)))
			return true;
	} while (to_parent(above));
	return false;
}

bool fs_hidden_whole(struct fs *fs, const char *prefix)
{
	return is_in_tree(fs, prefix, TREE_MARK);
}

bool fs_hidden_below(struct fs *fs, const char *prefix)
{
	return has(fs, fs_listing_id(prefix)) || fs_hidden_whole(fs, prefix) ||
	       (fs->hidden.old_trees && is_in_tree(fs, prefix, OLD_TREE_MARK));
}

bool fs_hidden_add_object(struct fs *fs, uint64_t ino)
{
	cleanup_free struct store_inode *inode = malloc(sizeof(*inode));
	int r = inode ? store_inode(fs->config.store, ino, inode) : -ENOMEM;

	if (r == 0 && inode->object.key[0])
		fs_hidden_add(fs, inode->object.key);
	else if (r < 0 && r != -ENOENT)
		add_unknown(fs);
	return r == 0 ? inode->object.key[0] != '\0' : r != -ENOENT;
}

/* ---- what was moved ---- */

/* Each has a key, or a prefix, in its value, and the hash of that in its name. */
#define MOVED_SETTINGS "fs-moved/"
#define MOVED_MAX_BYTES (KEY_MAX_BYTES + 8)

static int expect(struct fs *fs, const char *key)
{
	char name[sizeof(MOVED_SETTINGS) + 16], had[MOVED_MAX_BYTES];

	snprintf(name, sizeof(name), MOVED_SETTINGS "%016" PRIx64, fs_listing_id(key));
	if (store_setting_get(fs->config.store, name, had, sizeof(had)) == 0)
		return 0;
	return store_setting_set(fs->config.store, name, key);
}

/* Its object may have another key than its path: what counts is where the bucket has it. Any name
 * stands for all of that folder. */
static int expect_file(struct fs *fs, uint64_t ino)
{
	cleanup_free struct store_inode *inode = malloc(sizeof(*inode));
	char key[MOVED_MAX_BYTES];
	int r = inode ? store_inode(fs->config.store, ino, inode) : -ENOMEM;

	if (r < 0)
		return r;
	if (!to_parent(inode->object.key))
		return 0;
	snprintf(key, sizeof(key), "%s.", inode->object.key);
	return expect(fs, key);
}

static int expect_folder(struct fs *fs, struct fs_place *folder)
{
	char prefix[KEY_MAX_BYTES + 2];
	struct store_counts counts;
	uint64_t files = 0;
	int r = store_counts(fs->config.store, folder->attr.ino, &counts);

	for (unsigned s = 0; r == 0 && s < FILE_STATE_COUNT; s++)
		files += counts.files[s];
	if (r < 0 || files == 0)
		return r;
	r = fs_place_prefix(fs, folder, prefix);
	if (r < 0)
		return r == -ENAMETOOLONG ? 0 : r;
	return expect(fs, prefix);
}

int fs_hidden_expect(struct fs *fs, struct fs_place *moved)
{
	return moved->attr.type == STORE_DIR ? expect_folder(fs, moved)
					     : expect_file(fs, moved->attr.ino);
}

/* ---- what an earlier mount left to do ---- */

static int load_state(struct fs *fs, enum file_state state, bool *any)
{
	struct store_queue_item page[PAGE], after, *from = NULL;
	int n;

	while ((n = store_queue(fs->config.store, state, from, page, PAGE)) > 0) {
		for (int i = 0; i < n; i++)
			*any |= fs_hidden_add_object(fs, page[i].ino);
		after = page[n - 1];
		from = &after;
	}
	return n;
}

static int load_jobs(struct fs *fs, bool *any)
{
	cleanup_free struct store_job *jobs = calloc(JOBS_MAX, sizeof(*jobs));
	char prefix[KEY_MAX_BYTES + 2];
	int n;

	if (!jobs)
		return -ENOMEM;
	n = store_jobs(fs->config.store, jobs, JOBS_MAX);
	for (int i = 0; i < n; i++) {
		snprintf(prefix, sizeof(prefix), "%s/", jobs[i].old_prefix);
		fs_hidden_add(fs, prefix);
		*any = true;
	}
	fs->hidden.all = fs->hidden.all || n == JOBS_MAX;
	return n < 0 ? n : 0;
}

/* What was being written when the daemon was killed may be there, under a name that its file has no
 * longer. */
static int load_attempts(struct fs *fs)
{
	cleanup_free struct store_attempt *page = calloc(ATTEMPTS_PAGE, sizeof(*page));
	uint64_t after = 0;
	int n;

	if (!page)
		return -ENOMEM;
	while ((n = store_attempts(fs->config.store, after, page, ATTEMPTS_PAGE)) > 0) {
		for (int i = 0; i < n; i++)
			fs_hidden_add(fs, page[i].key);
		after = page[n - 1].id;
	}
	return n;
}

static int load_states(struct fs *fs, const enum file_state *states, size_t count, bool *any)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = load_state(fs, states[i], any);
	return r;
}

static int any_waits(struct fs *fs, bool *any)
{
	static const enum file_state states[] = {
		FILE_OPEN, FILE_CLOSED, FILE_SETTLED, FILE_QUEUED, FILE_SENDING, FILE_UNKNOWN};
	struct store_counts counts;
	int r = store_counts(fs->config.store, STORE_ROOT_INO, &counts);

	for (size_t i = 0; r == 0 && i < array_len(states); i++)
		*any |= counts.files[states[i]] > 0;
	return r;
}

/* Where no file is left that could have been moved, it is forgotten. */
static int load_moved(struct fs *fs, bool any)
{
	char name[STORE_NAME_MAX + 1] = "", key[MOVED_MAX_BYTES];
	int r = any_waits(fs, &any);

	while (r == 0) {
		r = store_setting_next(fs->config.store, MOVED_SETTINGS, name, key, sizeof(key));
		if (r == 0 && any) {
			add_key(fs, key, OLD_TREE_MARK);
			fs->hidden.old_trees = true;
		} else if (r == 0) {
			r = store_setting_set(fs->config.store, name, NULL);
		}
	}
	return r == -ENOENT ? 0 : r;
}

/* A file that waits for a person may have been moved before: its last good version stays under the
 * old key as long. */
int fs_hidden_load(struct fs *fs)
{
	static const enum file_state states[] = {FILE_DELETING, FILE_MOVING, FILE_HELD,
		FILE_INCOMPLETE, FILE_TORN, FILE_LOST, FILE_CONFLICT, FILE_FAILED};
	bool any = false;
	int r = load_states(fs, states, array_len(states), &any);

	if (r == 0)
		r = load_jobs(fs, &any);
	if (r == 0)
		r = load_attempts(fs);
	return r < 0 ? r : load_moved(fs, any);
}
