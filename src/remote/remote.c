/*
 * remote - life cycle of the room, its scope (nothing outside the mounted prefix), its news and its
 * health.
 */
#include "remote_private.h"

#define LOG_ROOM "remote"
#define ENTRIES_MAX_DEFAULT 300000 /* about 100 bytes each */
#define TTL_MS_DEFAULT 60000

static void lines_init(struct remote *r)
{
	r->synced.wanted_last = &r->synced.wanted_first;
	r->synced.later_last = &r->synced.later_first;
	r->synced.fetch_line_last = &r->synced.fetch_line_first;
}

static int prefix_set(struct remote *r, const char *prefix)
{
	char plain[KEY_MAX_BYTES + 1];
	int e = prefix_normalise(prefix, plain);

	if (e < 0)
		return e;
	return text_printf(&r->prefix, "%s%s", plain, *plain ? "/" : "");
}

/* A hint that can't be read is none. */
static int points_load(struct remote *r, const char *path)
{
	int e;

	r->points_path = text_dup(path);
	if (!r->points_path)
		return -ENOMEM;
	e = remote_points_load(&r->synced.points, path);
	if (e < 0 && e != -ENOENT)
		log_warn("%s: %s; the first listings are slower, then it is written anew", path,
			strerror(-e));
	return 0;
}

static void points_save(struct remote *r)
{
	int e = r->points_path ? remote_points_save(&r->synced.points, r->points_path) : 0;

	if (e < 0)
		log_warn("%s: %s; the first listings of the next mount are slower", r->points_path,
			strerror(-e));
}

int remote_create(struct remote **ret, const struct remote_config *config)
{
	struct remote *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	lock_init(&r->lock, RANK_REMOTE, "remote");
	cond_init(&r->work);
	cond_init(&r->stopped);
	cond_init(&r->fetched);
	lines_init(r);
	r->s3 = config->s3;
	r->store = config->store;
	r->list_ttl_ms = config->list_ttl_ms ? config->list_ttl_ms : TTL_MS_DEFAULT;
	e = prefix_set(r, config->prefix);
	if (e == 0 && config->points_path)
		e = points_load(r, config->points_path);
	if (e == 0)
		e = remote_cache_init(&r->synced.cache, config->cache_max_entries
								? config->cache_max_entries
								: ENTRIES_MAX_DEFAULT);
	if (e < 0) {
		remote_destroy(r);
		return e;
	}
	*ret = r;
	return 0;
}

void remote_subscribe(struct remote *r, const struct remote_events *events)
{
	check(r->event_count < REMOTE_SUBSCRIBERS_MAX && r->worker_count == 0);
	r->events[r->event_count++] = *events;
}

int remote_start(struct remote *r)
{
	int e = remote_work_start(r);

	if (e < 0)
		remote_stop(r);
	return e;
}

static bool stop_begin(struct remote *r)
{
	with_lock(&r->lock);
	if (r->synced.stopping)
		return false;
	r->synced.stopping = true;
	cond_broadcast(&r->work);
	cond_broadcast(&r->stopped);
	cond_broadcast(&r->fetched);
	remote_calls_wake_locked(r);
	remote_cursors_wake_locked(r);
	return true;
}

void remote_stop(struct remote *r)
{
	if (!stop_begin(r))
		return;
	remote_flights_stop(r);
	remote_fetches_stop(r);
	remote_work_stop(r);
}

void remote_destroy(struct remote *r)
{
	if (!r)
		return;
	remote_stop(r);
	check(!r->synced.calls && !r->synced.cursors); /* nobody may be inside a blocking function */
	points_save(r);
	remote_points_release(&r->synced.points);
	free(r->points_path);
	remote_cache_release(&r->synced.cache);
	cond_release(&r->work);
	cond_release(&r->stopped);
	cond_release(&r->fetched);
	lock_release_storage(&r->lock);
	free(r->prefix);
	free(r);
}

/* ---- scope ---- */

bool remote_is_inside(const struct remote *r, const char *key_or_prefix)
{
	return text_starts(key_or_prefix, r->prefix);
}

bool remote_is_above(const struct remote *r, const char *prefix, const char **ret_name, size_t *len)
{
	size_t above = strlen(prefix);

	if (!text_starts(r->prefix, prefix) || strlen(r->prefix) == above)
		return false;
	if (above > 0 && prefix[above - 1] != '/')
		return false;
	*ret_name = r->prefix + above;
	*len = strcspn(*ret_name, "/");
	return true;
}

/* ---- news ---- */

void remote_tell_listed(struct remote *r, const char *prefix, int error)
{
	lock_assert_none_held();
	for (size_t i = 0; i < r->event_count; i++) {
		if (r->events[i].listed)
			r->events[i].listed(r->events[i].user, prefix, error);
	}
}

void remote_tell_fetched(struct remote *r, uint64_t ino, uint64_t chunk, int error)
{
	lock_assert_none_held();
	for (size_t i = 0; i < r->event_count; i++) {
		if (r->events[i].fetched)
			r->events[i].fetched(r->events[i].user, ino, chunk, error);
	}
}

/* Uploads into one folder change its listing thousands of times a second: told so much later, once. */
#define CHANGED_GATHER_MS 20

struct changed_task {
	struct remote_task task; /* first */
	char prefix[];
};

static void tell_changed(struct remote *r, struct remote_task *task)
{
	struct changed_task *t = (struct changed_task *)task;

	{
		struct remote_folder *f;

		with_lock(&r->lock);
		f = remote_cache_find(&r->synced.cache, t->prefix);
		if (f)
			f->event_pending = false;
	}
	remote_tell_listed(r, t->prefix, 0);
	free(t);
}

void remote_tell_changed_locked(struct remote *r, struct remote_folder *f)
{
	size_t len = strlen(f->prefix) + 1;
	struct changed_task *t;

	if (f->event_pending || r->event_count == 0 || r->worker_count == 0 || r->synced.stopping)
		return;
	t = malloc(sizeof(*t) + len);
	if (!t)
		return; /* a listener learns of it when the kernel's caches time out */
	t->task = (struct remote_task){
		.run = tell_changed, .due_ms = clock_mono_ms() + CHANGED_GATHER_MS};
	memcpy(t->prefix, f->prefix, len);
	f->event_pending = true;
	remote_task_push_locked(r, &t->task);
}

/* ---- health ---- */

void remote_health_set_locked(struct remote *r, int error, const char *message)
{
	lock_assert_held(&r->lock);
	r->synced.list_error = error;
	(void)text_copy(r->synced.list_message, message, sizeof(r->synced.list_message)); /* may cut */
}

int remote_health(struct remote *r, char *ret_message, size_t size)
{
	bool down = s3_is_down(r->s3);

	with_lock(&r->lock);
	if (down) {
		(void)text_copy(ret_message, "the endpoint does not answer", size); /* may cut */
		return -ENETDOWN;
	}
	if (r->synced.list_error == -EACCES) {
		snprintf(ret_message, size, "the bucket refuses to list: %s",
			r->synced.list_message);
		return -EACCES;
	}
	(void)text_copy(ret_message, "", size);
	return 0;
}
