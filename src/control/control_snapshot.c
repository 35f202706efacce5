/*
 * control_snapshot - one folder of the bucket as ListObjectsV2 showed it just now, and nothing else:
 * unlike the cached listings of the mount's own view it knows nothing of what we sent.
 *
 * `ls -l`, `find` and rsync look up every name after (or without) reading the folder; so a snapshot
 * answers lookups for some seconds, longer if it took long to list; once what we sent was verified
 * or deleted, only for a few times what it took. Reading a folder always lists it anew.
 */
#include "control_private.h"

#define LOG_ROOM "control"

#define KEPT_MS 5000
#define KEPT_TIMES_TAKEN 10
#define KEPT_TIMES_TAKEN_CHANGED 4
#define SNAPSHOTS_MAX 16
#define LISTING_MAX_MS 120000 /* then the reader gets an error: it can be repeated */

static void snapshot_free(struct control_snapshot *s)
{
	buf_release(&s->names);
	free(s->shown);
	free(s->prefix);
	free(s);
}

const char *control_snapshot_name(
	const struct control_snapshot *s, const struct control_shown *shown)
{
	return s->names.data + shown->name_at;
}

/* ---- making one ---- */

static int snapshot_add(struct control_snapshot *s, const char *name, size_t len, bool is_dir,
	const struct s3_object *object)
{
	if (s->count == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 64;
		struct control_shown *grown = reallocarray(s->shown, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		s->shown = grown;
		s->cap = cap;
	}
	if (s->names.len > UINT32_MAX - len - 1)
		return -EFBIG;
	s->shown[s->count++] = (struct control_shown){
		.name_at = (uint32_t)s->names.len,
		.is_dir = is_dir,
		.size_bytes = is_dir ? 0 : object->size_bytes,
		.mtime_ns = is_dir ? 0 : object->last_modified_ns,
	};
	buf_add(&s->names, name, len);
	buf_add(&s->names, "", 1);
	return buf_error(&s->names);
}

static int each(void *user, const struct remote_walk_entry *e)
{
	struct control_snapshot *s = user;
	size_t prefix_len = strlen(s->prefix);
	size_t len = e->key_len - prefix_len - (e->is_prefix ? 1 : 0);
	const char *name = e->key + prefix_len;

	if (len == 0 && !e->is_prefix && e->object.size_bytes == 0)
		return 0; /* the folder's own marker */
	if (!key_component_is_showable(name, len, prefix_len == 0)) {
		s->unshowable++;
		return 0;
	}
	return snapshot_add(s, name, len, e->is_prefix, &e->object);
}

/* By name; of an object and a folder with one name the folder first. */
static int compare(const void *pa, const void *pb, void *names)
{
	const struct control_shown *a = pa, *b = pb;
	int d = strcmp((char *)names + a->name_at, (char *)names + b->name_at);

	return d ? d : (int)b->is_dir - (int)a->is_dir;
}

static void snapshot_sort(struct control_snapshot *s)
{
	size_t kept = 0;

	if (s->count == 0)
		return;
	qsort_r(s->shown, s->count, sizeof(*s->shown), compare, s->names.data);
	for (size_t i = 0; i < s->count; i++) {
		if (kept > 0 && strcmp(control_snapshot_name(s, &s->shown[kept - 1]),
					control_snapshot_name(s, &s->shown[i])) == 0) {
			s->unshowable++;
			continue;
		}
		s->shown[kept++] = s->shown[i];
	}
	s->count = kept;
}

/* Levels above the mounted prefix hold one folder each and are never listed. */
static const char *component_above(struct control *c, const char *prefix, size_t *ret_len)
{
	size_t len = strlen(prefix);

	if (strlen(c->prefix) <= len || !text_starts(c->prefix, prefix) ||
		(len > 0 && c->prefix[len - 1] != '/'))
		return NULL;
	*ret_len = strcspn(c->prefix + len, "/");
	return c->prefix + len;
}

static int snapshot_fill(struct control *c, struct control_snapshot *s)
{
	size_t len;
	const char *above = component_above(c, s->prefix, &len);
	int r;

	if (above)
		return snapshot_add(s, above, len, true, NULL);
	r = remote_walk(c->config.remote, s->prefix, false, s->taken_ms + LISTING_MAX_MS, each, s,
		NULL);
	if (r == 0)
		snapshot_sort(s);
	if (r == 0 && s->unshowable > 0)
		log_info("s3://%s/%s has %llu names that can't be shown as files", c->bucket,
			s->prefix, (unsigned long long)s->unshowable);
	return r;
}

static int snapshot_take(struct control *c, const char *prefix, struct control_snapshot **ret)
{
	struct control_snapshot *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (!s)
		return r;
	s->refs = 1;
	s->taken_ms = clock_mono_ms();
	buf_init(&s->names, 4 * GIB);
	s->prefix = text_dup(prefix);
	if (s->prefix)
		r = snapshot_fill(c, s);
	s->took_ms = clock_mono_ms() - s->taken_ms;
	if (r < 0) {
		snapshot_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* ---- keeping some ---- */

static bool is_recent(const struct control *c, const struct control_snapshot *s)
{
	bool changed = atomic_load(&c->changed_ms) >= s->taken_ms;
	int64_t kept_ms = s->took_ms * (changed ? KEPT_TIMES_TAKEN_CHANGED : KEPT_TIMES_TAKEN);

	if (!changed && kept_ms < KEPT_MS)
		kept_ms = KEPT_MS;
	return clock_mono_ms() - s->taken_ms <= s->took_ms + kept_ms;
}

static void unref_locked(struct control_snapshot *s)
{
	if (--s->refs == 0)
		snapshot_free(s);
}

/* Drops old ones, those of prefix (NULL: none), and those beyond the bound. */
static void trim_locked(struct control *c, const char *prefix)
{
	struct control_snapshot **at = &c->synced.snapshots;
	unsigned count = 0;

	while (*at) {
		struct control_snapshot *s = *at;

		if (is_recent(c, s) && ++count < SNAPSHOTS_MAX &&
			!(prefix && strcmp(s->prefix, prefix) == 0)) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		unref_locked(s);
	}
}

static struct control_snapshot *find_recent(struct control *c, const char *prefix)
{
	with_lock(&c->lock);
	trim_locked(c, NULL);
	for (struct control_snapshot *s = c->synced.snapshots; s; s = s->next) {
		if (strcmp(s->prefix, prefix) == 0) {
			s->refs++;
			return s;
		}
	}
	return NULL;
}

static void keep(struct control *c, struct control_snapshot *s)
{
	with_lock(&c->lock);
	trim_locked(c, s->prefix);
	s->refs++;
	s->next = c->synced.snapshots;
	c->synced.snapshots = s;
}

int control_snapshot_get(
	struct control *c, const char *prefix, bool fresh, struct control_snapshot **ret)
{
	struct control_snapshot *s = fresh ? NULL : find_recent(c, prefix);
	int r;

	if (!s) {
		r = snapshot_take(c, prefix, &s);
		if (r < 0)
			return r;
		keep(c, s);
	}
	*ret = s;
	return 0;
}

void control_snapshot_unref(struct control *c, struct control_snapshot *s)
{
	with_lock(&c->lock);
	unref_locked(s);
}

void control_snapshots_release(struct control *c)
{
	with_lock(&c->lock);
	while (c->synced.snapshots) {
		struct control_snapshot *s = c->synced.snapshots;

		c->synced.snapshots = s->next;
		unref_locked(s);
	}
}

const struct control_shown *control_snapshot_find(
	const struct control_snapshot *s, const char *name)
{
	size_t low = 0, high = s->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int d = strcmp(control_snapshot_name(s, &s->shown[mid]), name);

		if (d == 0)
			return &s->shown[mid];
		if (d < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}
