/*
 * remote_tree - folders put together from a listing of all keys below one.
 *
 * Keys come in the order of bytes, so those of one folder and all below it come in one run, and a
 * folder is whole when a key behind that run came, or the end. Open is, at any moment, the chain of
 * folders that the latest key lies in. What each gets is what a listing of its own with a delimiter
 * would show: names, markers left out, what can't be shown counted once.
 */
#include "remote_tree.h"

#include "remote_private.h"

struct tree_level {
	size_t prefix_len; /* of the tree's key */
	struct remote_names names;
	struct remote_time asked;
};

void remote_tree_init(
	struct remote_tree *t, const char *prefix, remote_tree_done_fn *done, void *user)
{
	*t = (struct remote_tree){.top_len = strlen(prefix), .done = done, .user = user};
}

void remote_tree_release(struct remote_tree *t)
{
	for (size_t i = 0; i < t->count; i++)
		remote_names_release(&t->levels[i].names);
	free(t->levels);
	t->levels = NULL;
	t->count = t->cap = 0;
}

static size_t open_len(const struct remote_tree *t)
{
	return t->count > 0 ? t->levels[t->count - 1].prefix_len : t->top_len;
}

static int level_open(struct remote_tree *t, size_t prefix_len, struct remote_time asked)
{
	if (t->count == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 8;
		struct tree_level *grown = realloc(t->levels, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		t->levels = grown;
		t->cap = cap;
	}
	t->levels[t->count++] = (struct tree_level){.prefix_len = prefix_len, .asked = asked};
	return 0;
}

static int level_close(struct remote_tree *t)
{
	struct tree_level *level = &t->levels[--t->count];
	char prefix[KEY_MAX_BYTES + 1];
	int r;

	memcpy(prefix, t->key, level->prefix_len);
	prefix[level->prefix_len] = '\0';
	remote_names_finish(&level->names);
	r = t->done(t->user, prefix, &level->names, level->asked);
	remote_names_release(&level->names);
	return r;
}

static bool begins_alike(const struct remote_tree *t, const struct s3_list_entry *e, size_t len)
{
	return e->key_len >= len && t->key_len >= len && memcmp(e->key, t->key, len) == 0;
}

static int close_others(struct remote_tree *t, const struct s3_list_entry *e)
{
	int r = 0;

	while (r == 0 && t->count > 0 && !begins_alike(t, e, open_len(t)))
		r = level_close(t);
	return r;
}

/* In a folder that gets names: the top itself does not. */
static int name_add(struct remote_tree *t, const struct s3_list_entry *e, bool is_dir, size_t end)
{
	char prefix[KEY_MAX_BYTES + 1];
	const struct s3_list_entry entry = {.key = e->key, /* with its final slash */
		.key_len = end,
		.is_prefix = is_dir,
		.object = e->object};

	if (t->count == 0)
		return 0;
	memcpy(prefix, t->key, open_len(t));
	prefix[open_len(t)] = '\0';
	return remote_merge_entry(&t->levels[t->count - 1].names, prefix, &entry);
}

/* The folders that the key lies in and the last one did not. */
static int open_new(struct remote_tree *t, const struct s3_list_entry *e, struct remote_time asked)
{
	for (;;) {
		size_t from = open_len(t);
		const char *name = e->key + from;
		const char *slash = memchr(name, '/', e->key_len - from);
		size_t end = slash ? (size_t)(slash + 1 - e->key) : 0;
		int r;

		if (!slash)
			return 0;
		r = name_add(t, e, true, end);
		if (r < 0)
			return r;
		if (!key_component_is_showable(name, end - 1 - from, from == 0)) {
			t->skip_len = end;
			return 0;
		}
		r = level_open(t, end, asked);
		if (r < 0)
			return r;
	}
}

/* 1: this key came before; 0; -EXDEV. */
static int compare_with_last(const struct remote_tree *t, const struct s3_list_entry *e)
{
	size_t least = e->key_len < t->key_len ? e->key_len : t->key_len;
	int d = memcmp(e->key, t->key, least);

	if (d == 0 && e->key_len == t->key_len)
		return t->key_len > 0;
	return d < 0 || (d == 0 && e->key_len < t->key_len) ? -EXDEV : 0;
}

static int key_add(struct remote_tree *t, const struct s3_list_entry *e, struct remote_time asked)
{
	bool skipped = t->skip_len > 0 && begins_alike(t, e, t->skip_len);
	int r = e->key_len > KEY_MAX_BYTES ? -EFBIG : compare_with_last(t, e);

	if (r != 0)
		return r < 0 ? r : 0;
	if (!skipped) {
		t->skip_len = 0;
		r = close_others(t, e);
	}
	if (r != 0)
		return r;
	memcpy(t->key, e->key, e->key_len);
	t->key[e->key_len] = '\0';
	t->key_len = e->key_len;
	if (skipped)
		return 0;
	r = open_new(t, e, asked);
	return r < 0 || t->skip_len > 0 ? r : name_add(t, e, false, e->key_len);
}

int remote_tree_page(
	struct remote_tree *t, const struct s3_list_page *page, struct remote_time asked)
{
	struct remote_time since = t->any ? remote_time_earlier(t->gap, asked) : asked;
	int r = 0;

	for (size_t i = 0; i < t->count; i++)
		t->levels[i].asked = remote_time_earlier(t->levels[i].asked, asked);
	for (size_t i = 0; i < page->count && r == 0; i++)
		r = key_add(t, &page->entries[i], i == 0 ? since : asked);
	t->gap = page->count > 0 ? asked : since;
	t->any = true;
	return r;
}

int remote_tree_end(struct remote_tree *t)
{
	int r = 0;

	while (r == 0 && t->count > 0)
		r = level_close(t);
	return r;
}
