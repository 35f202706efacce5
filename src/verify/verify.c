/*
 * verify - the thread that looks at uploads: which are new, which folder's turn it is.
 *
 * News is only a number put on a list; the thread finds the object's folder, waits until the folder
 * is quiet, and compares it with one fresh listing.
 */
#include "verify_private.h"

#define LOG_ROOM "verify"
#define QUIET_DEFAULT_MS 1000
#define QUEUE_BATCH 256
/* A folder is looked at when it was quiet for longer: no need to wake for each upload. */
#define NEWS_GATHER_MS 20
#define NO_MEMORY_MS 1000
#define REST_FACTOR 4 /* of the time that a check took */

int verify_create(struct verify **ret, const struct verify_config *config)
{
	struct verify *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->store = config->store;
	v->remote = config->remote;
	v->naming = config->naming;
	v->quiet_ms = config->quiet_ms ? config->quiet_ms : QUIET_DEFAULT_MS;
	lock_init(&v->lock, RANK_VERIFY, "verify");
	cond_init(&v->wake);
	*ret = v;
	return 0;
}

bool verify_is_stopping(struct verify *v)
{
	with_lock(&v->lock);
	return v->synced.stopping;
}

/* ---- news ---- */

static void notice_ino(struct verify *v, uint64_t ino)
{
	with_lock(&v->lock);
	if (verify_inos_add(&v->synced.noticed, ino) < 0)
		v->synced.overflow = true;
	if (v->synced.noticed.count <= 1)
		cond_signal(&v->wake);
}

void verify_notice(struct verify *v, const struct store_change *change)
{
	if (change->to == FILE_UPLOADED)
		notice_ino(v, change->ino);
}

static int key_of_path(struct verify *v, const char *path, char key[KEY_MAX_BYTES + 1])
{
	if (*path && path_to_key(&v->naming, path, true, key) == 0)
		return 0;
	return text_copy(key, path, KEY_MAX_BYTES + 1) ? 0 : -ENAMETOOLONG;
}

void verify_hurry(struct verify *v, const char *path)
{
	char key[KEY_MAX_BYTES + 1];

	if (key_of_path(v, path, key) < 0)
		return; /* no key is that long */
	with_lock(&v->lock);
	/* A second wish before the first is taken up: everything. */
	if (v->synced.hurry && strcmp(v->synced.hurry, key) != 0)
		v->synced.hurry[0] = '\0';
	else if (!v->synced.hurry)
		v->synced.hurry = text_dup(key);
	cond_signal(&v->wake);
}

void verify_again(struct verify *v)
{
	with_lock(&v->lock);
	v->synced.again = true;
	cond_signal(&v->wake);
}

/* ---- the thread ---- */

struct news {
	struct verify_inos inos;
	bool overflow;
	char *hurry;
	bool again;
};

static bool is_asked_locked(const struct verify *v)
{
	return v->synced.stopping || v->synced.hurry || v->synced.again ||
	       v->synced.listed_count > 0;
}

/* Until something is to be done. Uploads that end one after the other are gathered first; what there
 * was no memory for is read in a while. */
static void sleep_locked(struct verify *v, int64_t until_ms)
{
	int64_t overflow_ms = clock_mono_ms() + NO_MEMORY_MS;
	int r = 0;

	while (!is_asked_locked(v) && v->synced.noticed.count == 0 && r != -ETIMEDOUT) {
		if (v->synced.overflow && until_ms > overflow_ms)
			until_ms = overflow_ms;
		r = cond_wait_until(&v->wake, &v->lock, until_ms);
	}
	if (v->synced.noticed.count == 0)
		return;
	until_ms = clock_mono_ms() + NEWS_GATHER_MS;
	for (r = 0; !is_asked_locked(v) && r != -ETIMEDOUT;)
		r = cond_wait_until(&v->wake, &v->lock, until_ms);
}

static bool wait_for_news(struct verify *v, int64_t until_ms, struct news *ret)
{
	with_lock(&v->lock);
	sleep_locked(v, until_ms);
	*ret = (struct news){
		v->synced.noticed, v->synced.overflow, v->synced.hurry, v->synced.again};
	v->synced.noticed = (struct verify_inos){0};
	v->synced.overflow = false;
	v->synced.hurry = NULL;
	v->synced.again = false;
	return !v->synced.stopping;
}

static int add_upload(struct verify *v, uint64_t ino)
{
	struct store_inode *inode = &v->inode;
	int r = store_inode(v->store, ino, inode);

	if (r < 0)
		return r == -ENOMEM ? r : 0; /* forgotten meanwhile */
	if (inode->attr.state != FILE_UPLOADED || !inode->object.key[0])
		return 0;
	return verify_folders_add(&v->folders, inode->object.key, ino, clock_mono_ms());
}

/* Everything that is UPLOADED, from the store's queue. */
static int add_queue(struct verify *v)
{
	struct store_queue_item items[QUEUE_BATCH], last;
	const struct store_queue_item *after = NULL;
	int n = 0, r = 0;

	while (r == 0 && !verify_is_stopping(v) &&
		(n = store_queue(v->store, FILE_UPLOADED, after, items, QUEUE_BATCH)) > 0) {
		for (int i = 0; i < n && r == 0; i++)
			r = add_upload(v, items[i].ino);
		last = items[n - 1];
		after = &last;
	}
	return n == -ENOMEM ? n : r;
}

static int take_news(struct verify *v, struct news *news)
{
	int r = news->overflow ? add_queue(v) : 0;

	for (size_t i = 0; i < news->inos.count && r == 0; i++)
		r = add_upload(v, news->inos.ino[i]);
	if (news->hurry)
		verify_folders_hurry(&v->folders, news->hurry);
	if (news->again)
		verify_folders_again(&v->folders);
	verify_inos_release(&news->inos);
	free(news->hurry);
	return r;
}

static void set_overflow(struct verify *v)
{
	with_lock(&v->lock);
	v->synced.overflow = true;
}

/* Is anything on its way to the bucket? */
static bool more_to_come(struct verify *v)
{
	static const enum file_state coming[] = {
		FILE_CLOSED, FILE_SETTLED, FILE_QUEUED, FILE_SENDING, FILE_UNKNOWN};
	struct store_counts counts;

	if (store_counts(v->store, STORE_ROOT_INO, &counts) < 0)
		return true;
	for (size_t i = 0; i < array_len(coming); i++) {
		if (counts.files[coming[i]] > 0)
			return true;
	}
	return false;
}

static void check_one(struct verify *v, struct verify_folder *f)
{
	int64_t begun_ms = clock_mono_ms();
	int r = verify_check_folder(v, f);

	/* A large folder in which uploads go on is not listed all the time. */
	f->not_before_ms = clock_mono_ms() + REST_FACTOR * (clock_mono_ms() - begun_ms);
	if (r < 0) {
		verify_folder_failed(f, r);
		if (r != -ESHUTDOWN && f->failures == 1 && v->told != r)
			log_info("\"%s\" can't be verified now (%s); will try again, and whatever "
				 "fails likewise",
				f->prefix, strerror(-r));
		else if (r != -ESHUTDOWN)
			log_debug("\"%s\" can't be verified yet (%s)", f->prefix, strerror(-r));
	}
	if (r != -ESHUTDOWN)
		v->told = r;
	verify_folders_settle(&v->folders, f);
}

static void run(void *user)
{
	struct verify *v = user;
	struct news news = {.overflow = true}; /* at first: what was uploaded before */
	int64_t next_ms = 0;

	do {
		struct verify_folder *due;

		if (take_news(v, &news) < 0) {
			log_warn("out of memory; the uploads are read again in a moment");
			set_overflow(v);
			next_ms = INT64_MAX;
			continue;
		}
		due = verify_folders_due(&v->folders, v->quiet_ms, more_to_come(v), &next_ms);
		if (due)
			check_one(v, due);
		if (due || verify_gone_pass(v))
			next_ms = 0;
	} while (wait_for_news(v, next_ms, &news));
	verify_inos_release(&news.inos);
	free(news.hurry);
}

int verify_start(struct verify *v)
{
	return thread_start(&v->thread, "verify", run, v);
}

void verify_stop(struct verify *v)
{
	{
		with_lock(&v->lock);
		v->synced.stopping = true;
		cond_signal(&v->wake);
	}
	thread_join(v->thread);
	v->thread = NULL;
}

void verify_destroy(struct verify *v)
{
	if (!v)
		return;
	verify_stop(v);
	verify_folders_release(&v->folders);
	verify_inos_release(&v->synced.noticed);
	free(v->synced.hurry);
	for (unsigned i = 0; i < v->synced.listed_count; i++)
		free(v->synced.listed[i]);
	cond_release(&v->wake);
	lock_release_storage(&v->lock);
	free(v);
}
