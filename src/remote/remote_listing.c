/*
 * remote_listing - one folder's listing in the background, page after page, once per folder.
 *
 * A flight waits in one of two lines (somebody waits for it; background) until few enough are
 * running, is sent from a worker, and each reply comes back as a task. The next page is asked for
 * before the one at hand is merged; its reply may come while we merge, so `busy` and `ready` make
 * sure that one worker at a time has the flight. Transient errors are repeated a few times; then
 * the folder remembers the error for a moment, so that a dead server is not asked for every lookup.
 */
#include "remote_private.h"

#define LOG_ROOM "remote"

#define FLIGHTS_MAX 16		 /* running at once */
#define FLIGHTS_BACKGROUND_MAX 4 /* … after which background ones wait */
#define ATTEMPTS_MAX 4		 /* of one page */
#define ERROR_KEPT_MS 2000
#define REFUSAL_KEPT_MS 10000
#define PROBE_EVERY_MS 2000 /* while the endpoint is down */

struct remote_flight {
	struct remote_task task; /* first: a task is its flight */
	struct remote_flight *next, *prev; /* all flights */
	struct remote_flight *line_next;
	struct remote_folder *folder; /* stays while it has a flight */
	/* the worker's that has it */
	char *prefix;
	char *token; /* of the page asked for; NULL: the first */
	struct remote_names names;
	struct remote_paging paging;
	unsigned attempts;
	bool to_send; /* the task is there to send, not for a reply */
	int failed;   /* the end is known; only the reply under way is waited for */
	int64_t begun_at_ns, begun_mono_ms;
	struct {
		bool background;
		bool waiting; /* in a line */
		bool busy;    /* a worker or a queued task has it */
		bool ready;   /* reply is there */
		bool sent;    /* a request is under way */
		uint64_t request_id;
		struct s3_reply reply;
		struct remote_note_log log;
	} synced; /* by the room's lock */
};

static void flight_run(struct remote *r, struct remote_task *task);

/* ---- lines ---- */

static struct remote_flight *flight_new(struct remote_folder *f)
{
	struct remote_flight *fl = calloc(1, sizeof(*fl));

	if (!fl)
		return NULL;
	fl->prefix = text_dup(f->prefix);
	if (!fl->prefix) {
		free(fl);
		return NULL;
	}
	fl->folder = f;
	fl->task.run = flight_run;
	fl->paging.prefix = fl->prefix;
	return fl;
}

static void flight_free(struct remote_flight *fl)
{
	s3_reply_release(&fl->synced.reply);
	remote_names_release(&fl->names);
	free(fl->token);
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
	fl->to_send = true;
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
	fl = flight_new(f);
	if (!fl)
		return; /* asked again with the next question */
	f->flight = fl;
	fl->synced.background = background;
	fl->synced.waiting = true;
	fl->next = r->synced.flights;
	if (fl->next)
		fl->next->prev = fl;
	r->synced.flights = fl;
	line_push(background ? &r->synced.later_last : &r->synced.wanted_last, fl);
	start_some_locked(r);
}

/* ---- end ---- */

void remote_listing_install_locked(struct remote *r, struct remote_folder *f,
	struct remote_names *names, struct remote_note_log *log, int64_t begun_at_ns,
	int64_t begun_mono_ms)
{
	bool complete = remote_log_close_locked(f, log, names);

	if (f->known && !f->born && begun_at_ns < f->begun_at_ns)
		return; /* a later one came first */
	remote_cache_install(&r->synced.cache, f, names);
	f->born = false;
	f->expired = !complete;
	f->error = 0;
	f->begun_at_ns = begun_at_ns;
	f->begun_mono_ms = begun_mono_ms;
	remote_cache_trim(&r->synced.cache);
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
	fl->folder->flight = NULL;
	*(fl->prev ? &fl->prev->next : &r->synced.flights) = fl->next;
	if (fl->next)
		fl->next->prev = fl->prev;
}

static void flight_end(struct remote *r, struct remote_flight *fl, int error)
{
	if (error == 0)
		remote_names_finish(&fl->names);
	{
		with_lock(&r->lock);
		if (fl->synced.log.last == NULL) /* ended before its first request */
			remote_log_open_locked(fl->folder, &fl->synced.log);
		flight_unlink_locked(r, fl);
		if (error == 0)
			remote_listing_install_locked(r, fl->folder, &fl->names, &fl->synced.log,
				fl->begun_at_ns, fl->begun_mono_ms);
		else
			flight_fail_locked(r, fl, error);
		r->synced.flights_running--;
		start_some_locked(r);
	}
	if (error && error != -ESHUTDOWN)
		log_debug("listing of \"%s\" failed: %s", fl->prefix, strerror(-error));
	remote_tell_listed(r, fl->prefix, error);
	flight_free(fl);
}

/* ---- requests and replies ---- */

/* The flight carries its room only through its request. */
struct flight_request {
	struct remote *remote;
	struct remote_flight *flight;
};

static void flight_reply(void *user, struct s3_reply *reply)
{
	struct flight_request *req = user;
	struct remote *r = req->remote;
	struct remote_flight *fl = req->flight;

	free(req);
	with_lock(&r->lock);
	s3_reply_move(&fl->synced.reply, reply);
	fl->synced.ready = true;
	fl->synced.sent = false;
	r->synced.requests--;
	if (!fl->synced.busy) {
		fl->synced.busy = true;
		fl->task.due_ms = 0;
		remote_task_push_locked(r, &fl->task);
	}
	cond_broadcast(&r->work);
}

static void count_request(struct remote *r, struct remote_flight *fl, bool sent)
{
	with_lock(&r->lock);
	fl->synced.sent = sent;
	r->synced.requests += sent ? 1 : -1;
}

static void note_begin(struct remote *r, struct remote_flight *fl)
{
	with_lock(&r->lock);
	if (!fl->synced.log.last)
		remote_log_open_locked(fl->folder, &fl->synced.log);
	fl->begun_at_ns = clock_wall_ns();
	fl->begun_mono_ms = clock_mono_ms();
}

static bool keep_request_id(struct remote *r, struct remote_flight *fl, uint64_t id)
{
	with_lock(&r->lock);
	if (fl->synced.sent)
		fl->synced.request_id = id;
	return r->synced.stopping;
}

static int flight_send(struct remote *r, struct remote_flight *fl)
{
	struct s3_request req = {
		.op = S3_LIST, .prefix = fl->prefix, .delimiter = "/", .token = fl->token};
	struct flight_request *user = malloc(sizeof(*user));
	uint64_t id;
	int e;

	if (!user)
		return -ENOMEM;
	*user = (struct flight_request){.remote = r, .flight = fl};
	if (!fl->token)
		note_begin(r, fl);
	count_request(r, fl, true);
	e = s3_submit(r->s3, &req, flight_reply, user, &id);
	if (e < 0) {
		count_request(r, fl, false);
		free(user);
		return e;
	}
	/* The flight is ours while busy; only the request itself may be over already. */
	if (keep_request_id(r, fl, id))
		s3_cancel(r->s3, id);
	return 0;
}

int remote_merge_page(
	struct remote_names *names, const char *prefix, const struct s3_list_page *page)
{
	for (size_t i = 0; i < page->count; i++) {
		const struct s3_list_entry *entry = &page->entries[i];
		size_t len;
		const char *name = remote_page_name(prefix, entry, &len);
		bool is_marker = len == 0 && !entry->is_prefix && entry->object.size_bytes == 0;
		int e;

		if (is_marker)
			continue; /* the folder itself, as consoles make it */
		if (!key_component_is_showable(name, len, prefix[0] == '\0')) {
			names->unshowable++;
			continue;
		}
		e = remote_names_append(names, name, len, entry->is_prefix, &entry->object);
		if (e < 0)
			return e;
	}
	return 0;
}

/* What a worker does next with a flight, unless it failed (-errno). */
enum flight_step {
	STEP_ON,    /* more will come */
	STEP_DONE,  /* complete */
	STEP_LATER, /* its task is queued again: not ours any more */
};

/* A good page: ask for the next one, then merge this. */
static int flight_page(struct remote *r, struct remote_flight *fl, struct s3_list_page *page)
{
	int e = remote_page_check(&fl->paging, page);

	if (e < 0)
		return e;
	fl->attempts = 0;
	free(fl->token);
	fl->token = page->truncated ? steal_ptr(page->next_token) : NULL;
	if (page->truncated) {
		e = flight_send(r, fl);
		if (e < 0)
			return e;
	}
	e = remote_merge_page(&fl->names, fl->prefix, page);
	if (e < 0)
		return e;
	return page->truncated ? STEP_ON : STEP_DONE;
}

/* An error reply: once more, or the end. */
static int flight_failed(struct remote *r, struct remote_flight *fl, enum remote_verdict verdict,
	int error, bool throttled)
{
	bool down = s3_is_down(r->s3);

	with_lock(&r->lock);
	if (r->synced.stopping)
		return -ESHUTDOWN;
	if (verdict == REMOTE_NO)
		return error == -EACCES ? error : -EIO;
	if (++fl->attempts >= ATTEMPTS_MAX || down)
		return error;
	fl->to_send = true;
	fl->task.due_ms = 0;
	if (verdict == REMOTE_AGAIN)
		fl->task.due_ms = clock_mono_ms() + s3_backoff_ms(fl->attempts, throttled);
	remote_task_push_locked(r, &fl->task);
	return STEP_LATER;
}

static int flight_judge(struct remote *r, struct remote_flight *fl, struct s3_reply *reply)
{
	int error;
	enum remote_verdict verdict = remote_judge(reply, &error);

	if (verdict == REMOTE_OK || verdict == REMOTE_NO) {
		with_lock(&r->lock);
		remote_health_set_locked(r, error, reply->message);
	}
	if (verdict == REMOTE_OK)
		return flight_page(r, fl, &reply->list);
	return flight_failed(r, fl, verdict, error, reply->class == S3_THROTTLED);
}

/* False: none is here yet, and the flight is given back to the one who brings it. */
static bool flight_take_reply(struct remote *r, struct remote_flight *fl, struct s3_reply *ret)
{
	with_lock(&r->lock);
	fl->synced.busy = fl->synced.ready;
	if (!fl->synced.ready)
		return false;
	fl->synced.ready = false;
	s3_reply_move(ret, &fl->synced.reply);
	return true;
}

/* False: a request is under way; the flight ends with its reply. */
static bool flight_may_end(struct remote *r, struct remote_flight *fl, int error)
{
	with_lock(&r->lock);
	fl->failed = error;
	fl->synced.busy = !fl->synced.sent;
	return !fl->synced.sent;
}

static int flight_work(struct remote *r, struct remote_flight *fl)
{
	int step = STEP_ON;

	if (fl->to_send) {
		fl->to_send = false;
		step = remote_is_stopping(r) ? -ESHUTDOWN : flight_send(r, fl);
	}
	while (step == STEP_ON) {
		struct s3_reply reply = {0};

		if (!flight_take_reply(r, fl, &reply))
			return STEP_LATER;
		step = flight_judge(r, fl, &reply);
		s3_reply_release(&reply);
	}
	return step;
}

static void flight_run(struct remote *r, struct remote_task *task)
{
	struct remote_flight *fl = (struct remote_flight *)task;
	int step = fl->failed ? fl->failed : flight_work(r, fl);

	if (step == STEP_DONE)
		flight_end(r, fl, 0);
	else if (step < 0 && flight_may_end(r, fl, step))
		flight_end(r, fl, step);
}

void remote_flights_stop(struct remote *r)
{
	uint64_t ids[FLIGHTS_MAX];
	size_t count = 0;

	{
		struct remote_flight *fl;

		with_lock(&r->lock);
		while ((fl = line_pop(&r->synced.wanted_first, &r->synced.wanted_last)) != NULL)
			flight_begin_locked(r, fl); /* ends at once: the room stops */
		while ((fl = line_pop(&r->synced.later_first, &r->synced.later_last)) != NULL)
			flight_begin_locked(r, fl);
		for (fl = r->synced.flights; fl && count < FLIGHTS_MAX; fl = fl->next) {
			if (fl->synced.sent)
				ids[count++] = fl->synced.request_id;
		}
	}
	for (size_t i = 0; i < count; i++)
		s3_cancel(r->s3, ids[i]);
}
