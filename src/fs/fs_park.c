/*
 * fs_park - requests that must wait, kept without a thread.
 *
 * A kept call is in one of three places: parked (in the list below, waiting for news, its deadline
 * or an interrupt), queued or running on one of the two pools, or gone (replied). Only the lock
 * moves it out of the list, so one of news, deadline and interrupt wins.
 *
 * No news is lost: each kind of news is counted, a call notes the counts before it looks at what it
 * may wait for, and one that finds them changed when it parks is run again at once.
 */
#include "fs_private.h"

#define QUICK_THREADS 4
#define DISK_THREADS 4
#define SLOW_THREADS 12
#define KEPT_MAX 16384		  /* calls */
#define KEPT_DATA_MAX (256 * MIB) /* bytes of writes */
#define ROOM_LOOK_AGAIN_MS 1000	  /* what fills the buffer may have become a person's matter */

struct fs_park {
	struct pool *quick; /* runs calls again */
	struct pool *disk;  /* runs what waits for the disk */
	struct pool *slow;  /* runs what may ask the bucket */
	struct thread *clock;
	struct lock lock;
	struct cond due; /* an earlier deadline, or stopping */
	struct {
		struct fs_call *first, *last; /* parked, in order of parking */
		uint64_t news[FS_WAIT_KINDS];
		unsigned kept, parked[FS_WAIT_KINDS];
		uint64_t kept_data_bytes;
		bool stopping;
	} synced; /* by lock */
};

/* ---- the list (lock held) ---- */

static void list_add_locked(struct fs_park *p, struct fs_call *c)
{
	lock_assert_held(&p->lock);
	c->parked = true;
	c->next = NULL;
	c->prev = p->synced.last;
	*(c->prev ? &c->prev->next : &p->synced.first) = c;
	p->synced.last = c;
	p->synced.parked[c->wait.kind]++;
}

static void list_remove_locked(struct fs_park *p, struct fs_call *c)
{
	lock_assert_held(&p->lock);
	c->parked = false;
	*(c->prev ? &c->prev->next : &p->synced.first) = c->next;
	*(c->next ? &c->next->prev : &p->synced.last) = c->prev;
	p->synced.parked[c->wait.kind]--;
}

static void run_again(void *user);

/* The pools hold every call that can be kept, and end only when none is left. */
static void wake_locked(struct fs_park *p, struct fs_call *c)
{
	list_remove_locked(p, c);
	check(pool_submit(p->quick, run_again, c) == 0);
}

/* ---- keeping ---- */

static struct fs_park *park_of(const struct fs_call *c)
{
	return c->fs->park;
}

static size_t text_bytes(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

static const void *copy_in(char **at, const void *data, size_t len)
{
	void *to = *at;

	if (!data)
		return NULL;
	memcpy(to, data, len);
	*at += len;
	return to;
}

/* One allocation: the call, its names, its data. */
static struct fs_call *call_copy(const struct fs_call *c)
{
	size_t data_bytes = c->data ? c->size : 0;
	size_t names = text_bytes(c->name) + text_bytes(c->new_name);
	struct fs_call *copy = malloc(sizeof(*copy) + names + data_bytes);
	char *at;

	if (!copy)
		return NULL;
	*copy = *c;
	at = (char *)(copy + 1);
	copy->name = copy_in(&at, c->name, text_bytes(c->name));
	copy->new_name = copy_in(&at, c->new_name, text_bytes(c->new_name));
	copy->data = copy_in(&at, c->data, data_bytes);
	copy->kept = true;
	fs_stream_ref(copy->stream);
	return copy;
}

static uint64_t data_bytes_of(const struct fs_call *c)
{
	return c->data ? c->size : 0;
}

static bool may_keep(struct fs_park *p, const struct fs_call *c)
{
	with_lock(&p->lock);
	if (p->synced.stopping || p->synced.kept >= KEPT_MAX ||
		p->synced.kept_data_bytes + data_bytes_of(c) > KEPT_DATA_MAX)
		return false;
	p->synced.kept++;
	p->synced.kept_data_bytes += data_bytes_of(c);
	return true;
}

static void call_forget(struct fs_park *p, struct fs_call *c)
{
	uint64_t bytes = data_bytes_of(c);

	fs_stream_unref(c->stream);
	free(c);
	with_lock(&p->lock);
	p->synced.kept--;
	p->synced.kept_data_bytes -= bytes;
}

/* The call itself if it is kept already, else a copy that is. NULL: no room for it. */
static struct fs_call *call_keep(struct fs_park *p, struct fs_call *c)
{
	struct fs_call *copy;

	if (c->kept)
		return c;
	if (!may_keep(p, c))
		return NULL;
	copy = call_copy(c);
	if (!copy) {
		with_lock(&p->lock);
		p->synced.kept--;
		p->synced.kept_data_bytes -= data_bytes_of(c);
	}
	return copy;
}

static void answer_interrupt(void *user);

/* Runs with the request's own lock held by libfuse. */
static void on_interrupt(fuse_req_t req, void *user)
{
	struct fs_call *c = user;
	struct fs_park *p = park_of(c);

	(void)req;
	with_lock(&p->lock);
	c->interrupted = true;
	if (c->parked)
		wake_locked(p, c);
	if (!c->asking || c->claimed || c->users > 1 || p->synced.stopping)
		return;
	c->users++;
	check(pool_submit(p->quick, answer_interrupt, c) == 0);
}

/* After this returns no interrupt callback for c is running or will come. */
static void watch_interrupts(struct fs_call *c, bool on)
{
	if (c->req)
		fuse_req_interrupt_func(c->req, on ? on_interrupt : NULL, on ? c : NULL);
}

static void set_deadlines(struct fs_call *c)
{
	int64_t now_ms = clock_mono_ms(), *since = &c->parked_since_ms[c->wait.kind];

	if (!*since)
		*since = now_ms;
	c->deadline_ms = c->wait.patience_ms ? *since + c->wait.patience_ms : INT64_MAX;
	c->look_again_ms = c->wait.kind == FS_WAIT_ROOM ? now_ms + ROOM_LOOK_AGAIN_MS : INT64_MAX;
}

/* A copy that was made in vain; a call that was kept before stays its caller's. */
static int give_up(struct fs_park *p, struct fs_call *mine, const struct fs_call *c, int error)
{
	watch_interrupts(mine, false);
	if (mine != c)
		call_forget(p, mine);
	return error;
}

/* Nothing is handed to the pools once they may be ending. */
static bool park(struct fs_park *p, struct fs_call *mine)
{
	with_lock(&p->lock);
	if (p->synced.stopping)
		return false;
	list_add_locked(p, mine);
	if (mine->interrupted ||
		p->synced.news[mine->wait.kind] != mine->news_seen[mine->wait.kind])
		wake_locked(p, mine);
	else
		cond_signal(&p->due);
	return true;
}

int fs_park_keep(struct fs_park *p, struct fs_call *c)
{
	struct fs_call *mine = call_keep(p, c);

	if (!mine)
		return -ENOBUFS;
	mine->waited_error = 0;
	set_deadlines(mine);
	watch_interrupts(mine, true);
	return park(p, mine) ? 0 : give_up(p, mine, c, -EINTR);
}

static void run_asking(void *user);

static bool submit_slow(struct fs_park *p, struct fs_call *mine, enum fs_run_result where)
{
	struct pool *pool = where == FS_DISK ? p->disk : p->slow;

	with_lock(&p->lock);
	if (p->synced.stopping)
		return false;
	mine->users = 1;
	mine->asking = where == FS_ASK;
	check(pool_submit(pool, mine->asking ? run_asking : run_again, mine) == 0);
	return true;
}

int fs_park_keep_slow(struct fs_park *p, struct fs_call *c, enum fs_run_result where)
{
	struct fs_call *mine = call_keep(p, c);

	if (!mine)
		return -ENOBUFS;
	mine->on_slow = true;
	return submit_slow(p, mine, where) ? 0 : give_up(p, mine, c, -EINTR);
}

static bool is_stopping(struct fs_park *p, struct fs_call *c)
{
	with_lock(&p->lock);
	return p->synced.stopping || c->interrupted;
}

/* ---- asking: the bucket may take its time, the caller need not ---- */

/* Who got the right to reply owns the request; the other one must not touch it any more. */
bool fs_call_claim(struct fs_call *c)
{
	struct fs_park *p = park_of(c);
	bool mine;

	if (!c->asking)
		return true;
	{
		with_lock(&p->lock);
		mine = !c->answered;
		c->claimed = true;
	}
	if (mine)
		watch_interrupts(c, false);
	return mine;
}

static void call_unref(struct fs_park *p, struct fs_call *c)
{
	bool last;

	{
		with_lock(&p->lock);
		last = --c->users == 0;
	}
	if (last)
		call_forget(p, c);
}

static bool may_answer(struct fs_park *p, struct fs_call *c)
{
	with_lock(&p->lock);
	c->answered = !c->claimed;
	return c->answered;
}

static void answer_interrupt(void *user)
{
	struct fs_call *c = user;
	struct fs_park *p = park_of(c);

	if (may_answer(p, c)) {
		watch_interrupts(c, false);
		fs_call_fail(c, -EINTR);
	}
	call_unref(p, c);
}

static void run_asking(void *user)
{
	struct fs_call *c = user;
	int r;

	watch_interrupts(c, true);
	r = is_stopping(park_of(c), c) ? -EINTR : c->run(c);
	check(r <= 0);
	if (r < 0 && fs_call_claim(c))
		fs_call_fail(c, r);
	call_unref(park_of(c), c);
}

/* ---- running again ---- */

/* On a pool's thread: replies, or parks c once more. */
static void run_again(void *user)
{
	struct fs_call *c = user;
	struct fs_park *p = park_of(c);
	int r;

	watch_interrupts(c, false);
	if (is_stopping(p, c)) {
		fs_call_fail(c, -EINTR);
		call_forget(p, c);
		return;
	}
	fs_park_note_news(p, c);
	r = c->run(c);
	if (r == FS_PARK)
		r = fs_park_keep(p, c) < 0 ? -EINTR : FS_PARK;
	else if (r > 0 && fs_park_keep_slow(p, c, (enum fs_run_result)r) < 0)
		r = -EINTR;
	if (r > 0)
		return;
	if (r < 0)
		fs_call_fail(c, r);
	call_forget(p, c);
}

/* ---- news ---- */

void fs_park_note_news(struct fs_park *p, struct fs_call *c)
{
	with_lock(&p->lock);
	memcpy(c->news_seen, p->synced.news, sizeof(c->news_seen));
}

static bool is_awaited(const struct fs_call *c, const struct fs_wait *news)
{
	if (c->wait.kind != news->kind)
		return false;
	switch (news->kind) {
	case FS_WAIT_LISTING:
		return c->wait.listing == news->listing;
	case FS_WAIT_CHUNK:
		return c->wait.ino == news->ino && c->wait.chunk == news->chunk;
	case FS_WAIT_ROOM:
		return true;
	case FS_WAIT_KINDS:
		break;
	}
	return false;
}

static void news(struct fs_park *p, const struct fs_wait *what, int error)
{
	with_lock(&p->lock);
	p->synced.news[what->kind]++;
	for (struct fs_call *c = p->synced.first, *next; c; c = next) {
		next = c->next;
		if (!is_awaited(c, what))
			continue;
		c->waited_error = error;
		wake_locked(p, c);
	}
}

void fs_park_news_listing(struct fs_park *p, uint64_t listing, int error)
{
	struct fs_wait what = {.kind = FS_WAIT_LISTING, .listing = listing};

	news(p, &what, error);
}

void fs_park_news_chunk(struct fs_park *p, uint64_t ino, uint64_t chunk, int error)
{
	struct fs_wait what = {.kind = FS_WAIT_CHUNK, .ino = ino, .chunk = chunk};

	news(p, &what, error);
}

void fs_park_news_room(struct fs_park *p)
{
	struct fs_wait what = {.kind = FS_WAIT_ROOM};

	news(p, &what, 0);
}

/* ---- deadlines ---- */

static int64_t wake_due_locked(struct fs_park *p)
{
	int64_t now_ms = clock_mono_ms(), next_ms = INT64_MAX;

	for (struct fs_call *c = p->synced.first, *next; c; c = next) {
		next = c->next;
		if (c->deadline_ms <= now_ms || c->look_again_ms <= now_ms) {
			c->impatient = c->impatient || c->deadline_ms <= now_ms;
			wake_locked(p, c);
			continue;
		}
		if (c->deadline_ms < next_ms)
			next_ms = c->deadline_ms;
		if (c->look_again_ms < next_ms)
			next_ms = c->look_again_ms;
	}
	return next_ms;
}

static void clock_main(void *user)
{
	struct fs_park *p = user;

	with_lock(&p->lock);
	while (!p->synced.stopping) {
		int64_t next_ms = wake_due_locked(p);

		(void)cond_wait_until(&p->due, &p->lock, next_ms);
	}
}

/* ---- life ---- */

int fs_park_create(struct fs_park **ret)
{
	struct fs_park *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	lock_init(&p->lock, RANK_FS_PARK, "fs park");
	cond_init(&p->due);
	r = pool_create(&p->quick, "fs-again", QUICK_THREADS, KEPT_MAX);
	if (r == 0)
		r = pool_create(&p->disk, "fs-disk", DISK_THREADS, KEPT_MAX);
	if (r == 0)
		r = pool_create(&p->slow, "fs-slow", SLOW_THREADS, KEPT_MAX);
	if (r == 0)
		r = thread_start(&p->clock, "fs-park", clock_main, p);
	if (r < 0) {
		fs_park_destroy(p);
		return r;
	}
	*ret = p;
	return 0;
}

static void begin_stop(struct fs_park *p)
{
	with_lock(&p->lock);
	p->synced.stopping = true;
	while (p->synced.first)
		wake_locked(p, p->synced.first);
	cond_broadcast(&p->due);
}

void fs_park_stop(struct fs_park *p)
{
	begin_stop(p);
	thread_join(steal_ptr(p->clock));
	pool_destroy(steal_ptr(p->disk));
	pool_destroy(steal_ptr(p->slow)); /* its calls may still go to the quick one */
	pool_destroy(steal_ptr(p->quick));
}

void fs_park_destroy(struct fs_park *p)
{
	if (!p)
		return;
	fs_park_stop(p);
	cond_release(&p->due);
	lock_release_storage(&p->lock);
	free(p);
}

void fs_park_count(struct fs_park *p, unsigned *ret_parked, unsigned *ret_for_room)
{
	unsigned all = 0;

	with_lock(&p->lock);
	for (unsigned i = 0; i < FS_WAIT_KINDS; i++)
		all += p->synced.parked[i];
	*ret_parked = all;
	*ret_for_room = p->synced.parked[FS_WAIT_ROOM];
}
