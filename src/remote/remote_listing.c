/*
 * remote_listing - one folder's listing in the background, once per folder.
 *
 * A flight waits in one of two lines (somebody waits for it; background) until few enough are
 * running; then its pages are asked for, several at once (remote_pages.c), and merged in key order
 * as they come. Replies are looked at by a worker, one at a time: `busy` says that one has the
 * flight, or a task that will. Transient errors are repeated a few times; then the folder remembers
 * the error for a moment, so that a dead server is not asked for every lookup.
 */
#include "remote_private.h"

#define LOG_ROOM "remote"

#define FLIGHTS_MAX 32		 /* running at once */
#define FLIGHTS_BACKGROUND_MAX 4 /* … after which background ones wait */
#define REQUESTS_MAX 32		 /* of all flights, at once; but each may have one */
#define REQUESTS_BACKGROUND_MAX 4 /* of one flight that nobody waits for */
#define ATTEMPTS_MAX 4		 /* of one page */
#define ERROR_KEPT_MS 2000
#define REFUSAL_KEPT_MS 10000
#define PROBE_EVERY_MS 2000 /* while the endpoint is down */

struct remote_flight {
	struct remote_pages pages; /* first: pages are their flight's */
	struct remote_task task;
	struct remote *remote;
	struct remote_flight *next, *prev; /* all flights */
	struct remote_flight *line_next;
	struct remote_folder *folder; /* stays while it has a flight; NULL: all below a prefix */
	struct remote_flat *flat;     /* then this takes the pages */
	/* the worker's that has it */
	char *prefix;
	struct remote_names names;
	unsigned restarts; /* of the pages that names holds */
	bool begun;
	struct remote_time begun_at;
	struct {
		bool background;
		bool waiting; /* in a line */
		bool busy;    /* a worker or a queued task has it */
		bool timed;   /* … a task that waits for its time */
		struct remote_note_log log;
	} synced; /* by the room's lock */
};

static void flight_run(struct remote *r, struct remote_task *task);

/* ---- lines ---- */

static void flight_arrived_locked(struct remote_pages *p)
{
	struct remote_flight *fl = (struct remote_flight *)p;
	struct remote *r = fl->remote;

	if (fl->synced.busy && !(fl->synced.timed && remote_task_pull_locked(r, &fl->task))) {
		cond_broadcast(&r->work); /* the room may wait for the last one */
		return;
	}
	fl->synced.busy = true;
	fl->synced.timed = false;
	fl->task.due_ms = 0;
	remote_task_push_locked(r, &fl->task);
}

static struct remote_flight *flight_new(struct remote *r, const char *prefix)
{
	struct remote_flight *fl = calloc(1, sizeof(*fl));

	if (!fl)
		return NULL;
	fl->prefix = text_dup(prefix);
	if (!fl->prefix) {
		free(fl);
		return NULL;
	}
	fl->remote = r;
	fl->task.run = flight_run;
	fl->pages = (struct remote_pages){
		.s3 = r->s3,
		.remote = r,
		.prefix = fl->prefix,
		.attempts_max = ATTEMPTS_MAX,
		.deadline_ms = INT64_MAX,
		.heed_down = true,
		.lock = &r->lock,
		.arrived_locked = flight_arrived_locked,
		.synced.counter = &r->synced.requests,
	};
	return fl;
}

static void flight_free(struct remote_flight *fl)
{
	remote_pages_release(&fl->pages);
	remote_names_release(&fl->names);
	remote_flat_free(fl->flat);
	free(fl->prefix);
	free(fl);
}

static void line_push(struct remote_flight ***last, struct remote_flight *fl)
{
	fl->line_next = NULL;
	**last = fl;
	*last = &fl->line_next;
}

static struct remote_flight *line_pop(struct remote_flight **first, struct remote_flight ***last)
{
	struct remote_flight *fl = *first;

	if (fl) {
		*first = fl->line_next;
		if (!*first)
			*last = first;
	}
	return fl;
}

/* Takes it out of the background line: somebody waits for it now. */
static void line_promote(struct remote *r, struct remote_flight *fl)
{
	struct remote_flight **at = &r->synced.later_first;

	while (*at != fl)
		at = &(*at)->line_next;
	*at = fl->line_next;
	if (r->synced.later_last == &fl->line_next)
		r->synced.later_last = at;
	fl->synced.background = false;
	line_push(&r->synced.wanted_last, fl);
}

static struct remote_flight *next_in_line(struct remote *r)
{
	struct remote_flight *fl = NULL;

	if (r->synced.flights_running < FLIGHTS_MAX)
		fl = line_pop(&r->synced.wanted_first, &r->synced.wanted_last);
	if (!fl && r->synced.flights_running < FLIGHTS_BACKGROUND_MAX)
		fl = line_pop(&r->synced.later_first, &r->synced.later_last);
	return fl;
}

static void flight_begin_locked(struct remote *r, struct remote_flight *fl)
{
	fl->synced.waiting = false;
	fl->synced.busy = true;
	fl->task.due_ms = 0;
	r->synced.flights_running++;
	remote_task_push_locked(r, &fl->task);
}

static void start_some_locked(struct remote *r)
{
	struct remote_flight *fl;

	while ((fl = next_in_line(r)) != NULL)
		flight_begin_locked(r, fl);
}

/* While the endpoint is down one listing in a while finds out whether it is back. */
static bool may_ask_locked(struct remote *r, const struct remote_folder *f)
{
	int64_t now_ms = clock_mono_ms();

	if (r->synced.stopping || (f->error && now_ms < f->error_until_ms))
		return false;
	if (!s3_is_down(r->s3))
		return true;
	if (now_ms < r->synced.probe_at_ms)
		return false;
	r->synced.probe_at_ms = now_ms + PROBE_EVERY_MS;
	return true;
}

static void flight_push_locked(struct remote *r, struct remote_flight *fl, bool background)
{
	fl->synced.background = background;
	fl->synced.waiting = true;
	fl->next = r->synced.flights;
	if (fl->next)
		fl->next->prev = fl;
	r->synced.flights = fl;
	line_push(background ? &r->synced.later_last : &r->synced.wanted_last, fl);
	start_some_locked(r);
}

void remote_flight_want_locked(struct remote *r, struct remote_folder *f, bool background)
{
	struct remote_flight *fl = f->flight;

	lock_assert_held(&r->lock);
	if (fl) {
		if (fl->synced.waiting && fl->synced.background && !background)
			line_promote(r, fl);
		start_some_locked(r);
		return;
	}
	if (!may_ask_locked(r, f))
		return;
	fl = flight_new(r, f->prefix);
	if (!fl)
		return; /* asked again with the next question */
	fl->folder = f;
	f->flight = fl;
	flight_push_locked(r, fl, background);
}

struct remote_flight *remote_flight_of_flat_locked(struct remote *r, struct remote_flat *flat)
{
	const char *prefix, *after;
	struct remote_flight *fl;

	remote_flat_scope(flat, &prefix, &after);
	fl = flight_new(r, prefix);
	if (!fl)
		return NULL;
	fl->flat = flat;
	fl->pages.recursive = true;
	fl->pages.is_extra = true;
	fl->pages.after = after;
	flight_push_locked(r, fl, false);
	return fl;
}

/* Something else than a reply is to be looked at. */
void remote_flight_wake_locked(struct remote_flight *fl)
{
	lock_assert_held(&fl->remote->lock);
	if (fl->synced.waiting)
		return;
	fl->pages.synced.arrived = true;
	flight_arrived_locked(&fl->pages);
}

/* ---- end ---- */

void remote_folder_renew_locked(struct remote *r, struct remote_folder *f,
	struct remote_names *names, bool complete, struct remote_time begun)
{
	if (f->known && !f->born && begun.mono_ms < f->begun.mono_ms)
		return; /* a later one came first */
	remote_points_learn(&r->synced.points, f->prefix, names);
	remote_cache_install(&r->synced.cache, f, names);
	f->born = false;
	f->expired = !complete;
	f->error = 0;
	f->begun = begun;
	remote_cache_trim(&r->synced.cache);
}

void remote_listing_install_locked(struct remote *r, struct remote_folder *f,
	struct remote_names *names, struct remote_note_log *log, struct remote_time begun)
{
	bool complete = remote_log_close_locked(f, log, names);

	remote_folder_renew_locked(r, f, names, complete, begun);
}

static void flight_fail_locked(struct remote *r, struct remote_flight *fl, int error)
{
	struct remote_folder *f = fl->folder;

	(void)remote_log_close_locked(f, &fl->synced.log, NULL); /* what is cached has the notes */
	f->error = error;
	f->error_until_ms =
		clock_mono_ms() + (error == -EACCES ? REFUSAL_KEPT_MS : ERROR_KEPT_MS);
}

static void flight_unlink_locked(struct remote *r, struct remote_flight *fl)
{
	if (fl->folder)
		fl->folder->flight = NULL;
	*(fl->prev ? &fl->prev->next : &r->synced.flights) = fl->next;
	if (fl->next)
		fl->next->prev = fl->prev;
}

static void folder_end_locked(struct remote *r, struct remote_flight *fl, int error)
{
	if (!fl->begun) /* ended before its first request */
		remote_log_open_locked(fl->folder, &fl->synced.log);
	if (error == 0)
		remote_listing_install_locked(
			r, fl->folder, &fl->names, &fl->synced.log, fl->begun_at);
	else
		flight_fail_locked(r, fl, error);
}

static void flight_end(struct remote *r, struct remote_flight *fl, int error)
{
	if (fl->flat)
		remote_flat_over(fl->flat, error);
	else if (error == 0)
		remote_names_finish(&fl->names);
	if (fl->pages.scan.never_split)
		atomic_store(&r->never_split, true); /* no order at one place, none at others */
	{
		with_lock(&r->lock);
		flight_unlink_locked(r, fl);
		if (fl->folder)
			folder_end_locked(r, fl, error);
		r->synced.flights_running--;
		start_some_locked(r);
	}
	if (error && error != -ESHUTDOWN)
		log_debug("listing of %s\"%s\" ended: %s", fl->flat ? "all below " : "",
			fl->prefix, strerror(-error));
	if (fl->folder)
		remote_tell_listed(r, fl->prefix, error);
	flight_free(fl);
}

/* ---- pages ---- */

int remote_merge_entry(
	struct remote_names *names, const char *prefix, const struct s3_list_entry *entry)
{
	size_t len;
	const char *name = remote_page_name(prefix, entry, &len);
	bool is_marker = len == 0 && !entry->is_prefix && entry->object.size_bytes == 0;

	if (is_marker)
		return 0; /* the folder itself, as consoles make it */
	if (!key_component_is_showable(name, len, prefix[0] == '\0')) {
		names->unshowable++;
		return 0;
	}
	return remote_names_append(names, name, len, entry->is_prefix, &entry->object);
}

static int merge_page(struct remote_flight *fl, const struct s3_list_page *page)
{
	int e = 0;

	for (size_t i = 0; i < page->count && e == 0; i++)
		e = remote_merge_entry(&fl->names, fl->prefix, &page->entries[i]);
	return e;
}

void remote_split_known_locked(
	struct remote *r, struct remote_scan *s, const struct remote_folder *f)
{
	char key[KEY_MAX_BYTES + STORE_NAME_MAX + 2];
	struct remote_entry entry;

	if (!f->known || f->born)
		remote_points_split(&r->synced.points, f->prefix, s);
	for (size_t i = POINTS_EVERY; i + POINTS_EVERY / 2 < f->names.count; i += POINTS_EVERY) {
		remote_names_entry(&f->names, i, &entry);
		snprintf(key, sizeof(key), "%s%s", f->prefix, entry.name);
		if (!entry.is_dir && remote_scan_split(s, key) < 0)
			return; /* without memory for it the listing is slower */
	}
}

static int flight_begin(struct remote *r, struct remote_flight *fl)
{
	int e = remote_pages_begin(&fl->pages);

	if (e < 0)
		return e;
	with_lock(&r->lock);
	if (fl->flat) {
		remote_flat_split_locked(r, fl->flat, &fl->pages.scan);
	} else {
		remote_log_open_locked(fl->folder, &fl->synced.log);
		remote_split_known_locked(r, &fl->pages.scan, fl->folder);
	}
	fl->begun = true;
	fl->begun_at = remote_time_now();
	return 0;
}

/* How many a flight may have under way. */
static unsigned requests_for(struct remote *r, struct remote_flight *fl)
{
	unsigned each;

	with_lock(&r->lock);
	each = REQUESTS_MAX / (r->synced.flights_running ? r->synced.flights_running : 1);
	if (fl->synced.background && each > REQUESTS_BACKGROUND_MAX)
		each = REQUESTS_BACKGROUND_MAX;
	return each > 0 ? each : 1;
}

/* Merges what is here; 1: something was. */
static int flight_merge(struct remote_flight *fl)
{
	struct s3_list_page page;
	int e = 0, any = 0;

	if (fl->restarts != fl->pages.restarts) {
		remote_names_release(&fl->names);
		fl->restarts = fl->pages.restarts;
	}
	while (e == 0 && remote_scan_take(&fl->pages.scan, &page)) {
		any = 1;
		e = merge_page(fl, &page);
		remote_list_release(&page);
	}
	return e < 0 ? e : any;
}

/* The same of one that goes through a tree. *ret_due_ms: when it has to look again at the latest. */
static int flight_hand_out(struct remote_flight *fl, int64_t *ret_due_ms)
{
	struct s3_list_page page;
	int64_t due_ms = INT64_MAX;
	bool held = fl->pages.hold;
	int e = fl->pages.restarts ? -EXDEV : 0, any = 0; /* it has to come in order */

	while (e == 0) {
		e = remote_flat_look(fl->flat, &fl->pages.hold, &due_ms);
		if (e < 0 || fl->pages.hold || !remote_scan_take(&fl->pages.scan, &page))
			break;
		any = 1;
		e = remote_flat_page(fl->flat, &page, fl->pages.scan.taken_asked);
		remote_list_release(&page);
	}
	*ret_due_ms = due_ms < *ret_due_ms ? due_ms : *ret_due_ms;
	return e < 0 ? e : any || (held && !fl->pages.hold);
}

/* What came and what can be asked for. 1: all is here; 0: wait; -errno: the end. */
static int flight_work(struct remote *r, struct remote_flight *fl, int64_t *ret_due_ms)
{
	int e = fl->begun ? 0 : flight_begin(r, fl);

	if (e == 0 && remote_is_stopping(r))
		fl->pages.error = -ESHUTDOWN;
	fl->pages.scan.lanes_max = requests_for(r, fl);
	do { /* pages that are taken make room for more */
		if (e >= 0)
			e = remote_pages_turn(&fl->pages, ret_due_ms);
		if (e == 0)
			e = fl->flat ? flight_hand_out(fl, ret_due_ms) : flight_merge(fl);
	} while (e == 1);
	if (e < 0)
		return fl->pages.error = e;
	return remote_pages_done(&fl->pages) ? 1 : 0;
}

/* True: the flight is given to whoever brings the next reply, or to a task; false: go on. */
static bool flight_rests(struct remote *r, struct remote_flight *fl, int step, int64_t due_ms)
{
	with_lock(&r->lock);
	if (fl->pages.synced.arrived)
		return false;
	if (fl->pages.synced.cancelled && fl->pages.synced.under_way == 0)
		return false; /* the room began to stop while this looked: nobody would come */
	check(fl->pages.synced.under_way > 0 || due_ms < INT64_MAX);
	fl->synced.timed = step == 0 && due_ms < INT64_MAX;
	fl->synced.busy = fl->synced.timed;
	if (!fl->synced.timed)
		return true;
	fl->task.due_ms = due_ms;
	remote_task_push_locked(r, &fl->task);
	return true;
}

static bool is_under_way(struct remote *r, struct remote_flight *fl)
{
	with_lock(&r->lock);
	return fl->pages.synced.under_way > 0;
}

static struct remote_flight *flight_of_task(struct remote_task *task)
{
	return (void *)((char *)task - offsetof(struct remote_flight, task));
}

static void task_began(struct remote *r, struct remote_flight *fl)
{
	with_lock(&r->lock);
	fl->synced.timed = false;
}

static void flight_run(struct remote *r, struct remote_task *task)
{
	struct remote_flight *fl = flight_of_task(task);
	bool told = fl->pages.error != 0; /* those under way to end early */
	int64_t due_ms;
	int step;

	task_began(r, fl);
	do {
		due_ms = INT64_MAX;
		step = flight_work(r, fl, &due_ms);
		if (step < 0 && !told)
			remote_pages_cancel(&fl->pages);
		told = told || step < 0;
		if (step == 1 || (step < 0 && !is_under_way(r, fl))) {
			flight_end(r, fl, step < 0 ? step : 0);
			return;
		}
	} while (!flight_rests(r, fl, step, due_ms));
}

void remote_flights_stop(struct remote *r)
{
	uint64_t ids[FLIGHTS_MAX * SCAN_LANES_DISTANT];
	size_t count = 0;

	{
		struct remote_flight *fl;

		with_lock(&r->lock);
		while ((fl = line_pop(&r->synced.wanted_first, &r->synced.wanted_last)) != NULL)
			flight_begin_locked(r, fl); /* ends at once: the room stops */
		while ((fl = line_pop(&r->synced.later_first, &r->synced.later_last)) != NULL)
			flight_begin_locked(r, fl);
		for (fl = r->synced.flights; fl; fl = fl->next)
			count += remote_pages_cancel_locked(
				&fl->pages, ids + count, array_len(ids) - count);
	}
	for (size_t i = 0; i < count; i++)
		s3_cancel(r->s3, ids[i]);
}
