/*
 * control_remote - `.cpgfs/remote/`: the bucket as it lists itself now, for `ls -lR`, `diff`,
 * rsync.
 *
 * Each folder answers to `.listing.tsv`, too (not listed): everything below it, listed now, with
 * its ETags, for `cpgfs verify`.
 *
 * Names, sizes and LastModified only. Contents are read through the mount itself: two ways to the
 * same bytes would need two caches, and this one is for checking; open() answers EPERM.
 */
#include <inttypes.h>

#include "control_private.h"

#define LISTING_NAME ".listing.tsv"
#define LISTING_ROWS 256     /* at once */
#define LISTING_MAX_MS 60000 /* for these; after that nothing is tried again */

static struct fs_virtual_attr attr_of(
	const struct control *c, const char *key, const struct control_shown *shown)
{
	return (struct fs_virtual_attr){
		.id = store_ino_of_key(key),
		.is_dir = shown->is_dir,
		.mode = shown->is_dir ? 0555 : 0444,
		.size_bytes = shown->size_bytes,
		.mtime_ns = shown->is_dir ? c->started_ns : shown->mtime_ns,
	};
}

/* Prefix of a folder id. -ESTALE: forgotten; -ENOTDIR. */
static int prefix_of(struct control *c, uint64_t id, char prefix[KEY_MAX_BYTES + 2])
{
	bool known;
	size_t len;

	if (id == ID_REMOTE) {
		prefix[0] = '\0';
		return 0;
	}
	{
		with_lock(&c->lock);
		known = control_nodes_key_locked(c, id, prefix);
	}
	len = known ? strlen(prefix) : 0;
	if (len == 0)
		return -ESTALE;
	return prefix[len - 1] == '/' ? 0 : -ENOTDIR;
}

/* The key of a name in a folder. -ENAMETOOLONG: no key is that long. */
static int key_of(const char *prefix, const char *name, bool is_dir, char key[KEY_MAX_BYTES + 2])
{
	int n = snprintf(key, KEY_MAX_BYTES + 2, "%s%s%s", prefix, name, is_dir ? "/" : "");

	return n >= 0 && n < KEY_MAX_BYTES + 2 ? 0 : -ENAMETOOLONG;
}

static int give_out(struct control *c, const char *prefix, const char *name,
	const struct control_shown *shown, struct fs_virtual_attr *ret)
{
	char key[KEY_MAX_BYTES + 2];
	int r = key_of(prefix, name, shown->is_dir, key);

	if (r < 0)
		return r;
	*ret = attr_of(c, key, shown);
	with_lock(&c->lock);
	return control_nodes_put_locked(c, ret->id, key);
}

static bool is_listing(const char *key)
{
	const char *slash = strrchr(key, '/');

	return strcmp(slash ? slash + 1 : key, LISTING_NAME) == 0;
}

static struct fs_virtual_attr listing_attr(const char *key)
{
	return (struct fs_virtual_attr){
		.id = store_ino_of_key(key), .mode = 0444, .mtime_ns = clock_wall_ns()};
}

static int listing_look_up(struct control *c, const char *prefix, struct fs_virtual_attr *ret)
{
	char key[KEY_MAX_BYTES + 2];
	int r = key_of(prefix, LISTING_NAME, false, key);

	if (r < 0)
		return r;
	*ret = listing_attr(key);
	with_lock(&c->lock);
	return control_nodes_put_locked(c, ret->id, key);
}

static int look_up(
	struct control *c, const char *prefix, const char *name, struct fs_virtual_attr *ret)
{
	struct control_snapshot *s;
	const struct control_shown *shown;
	int r = control_snapshot_get(c, prefix, false, &s);

	if (r < 0)
		return r;
	shown = control_snapshot_find(s, name);
	r = shown ? give_out(c, prefix, name, shown, ret) : -ENOENT;
	control_snapshot_unref(c, s);
	return r;
}

int control_remote_lookup(
	struct control *c, uint64_t dir_id, const char *name, struct fs_virtual_attr *ret)
{
	char prefix[KEY_MAX_BYTES + 2];
	int r = prefix_of(c, dir_id, prefix);

	if (r < 0)
		return r;
	return strcmp(name, LISTING_NAME) == 0 ? listing_look_up(c, prefix, ret)
					       : look_up(c, prefix, name, ret);
}

int control_remote_attr(struct control *c, uint64_t id, struct fs_virtual_attr *ret)
{
	char key[KEY_MAX_BYTES + 2], prefix[KEY_MAX_BYTES + 2];
	char *slash;
	size_t len;
	bool known;

	{
		with_lock(&c->lock);
		known = control_nodes_key_locked(c, id, key);
	}
	if (!known)
		return -ESTALE;
	if (is_listing(key)) {
		*ret = listing_attr(key);
		return 0;
	}
	len = strlen(key);
	if (key[len - 1] == '/')
		key[len - 1] = '\0';
	memcpy(prefix, key, sizeof(prefix));
	slash = strrchr(prefix, '/');
	prefix[slash ? slash + 1 - prefix : 0] = '\0';
	return look_up(c, prefix, key + strlen(prefix), ret);
}

int control_remote_list(struct control *c, uint64_t dir_id, control_add_fn *add, void *arg)
{
	char prefix[KEY_MAX_BYTES + 2];
	struct control_snapshot *s;
	int r = prefix_of(c, dir_id, prefix);

	if (r == 0)
		r = control_snapshot_get(c, prefix, true, &s);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->count && r == 0; i++) {
		const char *name = control_snapshot_name(s, &s->shown[i]);
		struct fs_virtual_attr attr;

		r = give_out(c, prefix, name, &s->shown[i], &attr);
		if (r == 0)
			r = add(arg, name, &attr);
		else if (r == -ENAMETOOLONG)
			r = 0;
	}
	control_snapshot_unref(c, s);
	return r;
}

/* ---- .listing.tsv --------------------------------------------------------------------------- */

struct listing {
	char *prefix;
	struct remote_cursor *cursor; /* NULL: none */
	char at[KEY_MAX_BYTES + 1];   /* behind this */
};

/* Where a stream's cursor is: the last key. */
struct listing_place {
	char after[KEY_MAX_BYTES + 1];
};

static void listing_begin(struct control *c, const void *session, struct buf *out)
{
	buf_add_text(out, "key\tsize_bytes\tetag\tlast_modified\n");
}

static void add_row(struct buf *out, const char *key, const struct s3_object *object)
{
	char when[32];

	time_format_iso8601(object->last_modified_ns, when);
	text_escape(out, key);
	buf_printf(out, "\t%" PRIu64 "\t%s\t%s\n", object->size_bytes, object->etag, when);
}

/* The bucket's cursor where the stream's is. */
static int listing_go_to(struct control *c, struct listing *l, const struct listing_place *place)
{
	int r = 0;

	if (l->cursor && strcmp(l->at, place->after) != 0) {
		remote_cursor_close(l->cursor);
		l->cursor = NULL;
	}
	if (!l->cursor)
		r = remote_cursor_open_inside(&l->cursor, c->config.remote, l->prefix, place->after);
	if (r < 0)
		return r;
	memcpy(l->at, place->after, sizeof(l->at));
	remote_cursor_until(l->cursor, clock_mono_ms() + LISTING_MAX_MS);
	return 0;
}

static void listing_drop(struct listing *l)
{
	remote_cursor_close(l->cursor);
	l->cursor = NULL;
}

static int listing_more(struct control *c, void *session, void *cursor, struct buf *out)
{
	struct listing *l = session;
	struct listing_place *place = cursor;
	struct remote_walk_entry entry;
	int r = listing_go_to(c, l, place);

	if (r < 0)
		return r;
	r = 1;
	for (unsigned n = 0; n < LISTING_ROWS && r == 1; n++) {
		r = remote_cursor_next(l->cursor, &entry);
		if (r != 1 || entry.key_len > KEY_MAX_BYTES)
			continue;
		memcpy(l->at, entry.key, entry.key_len);
		l->at[entry.key_len] = '\0';
		add_row(out, l->at, &entry.object);
	}
	memcpy(place->after, l->at, sizeof(place->after));
	if (r < 0)
		listing_drop(l); /* the next reader begins where the last row was told */
	return r;
}

static void listing_close(void *session)
{
	struct listing *l = session;

	listing_drop(l);
	free(l->prefix);
	free(l);
}

static const struct control_source listing_source = {.cursor_bytes = sizeof(struct listing_place),
	.begin = listing_begin,
	.more = listing_more,
	.close = listing_close};

int control_remote_open(struct control *c, uint64_t id, struct control_stream **ret)
{
	char key[KEY_MAX_BYTES + 2];
	struct listing *l;
	bool known;

	{
		with_lock(&c->lock);
		known = control_nodes_key_locked(c, id, key);
	}
	if (!known)
		return -ESTALE;
	if (!is_listing(key))
		return -EPERM; /* see above */
	key[strlen(key) - strlen(LISTING_NAME)] = '\0';
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	/* Above the mounted prefix lies nothing but it. */
	l->prefix = text_dup(text_starts(c->prefix, key) ? c->prefix : key);
	if (!l->prefix) {
		free(l);
		return -ENOMEM;
	}
	return control_stream_open(c, &listing_source, l, ret);
}
