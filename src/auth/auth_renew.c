/*
 * When credentials are fetched. One thread looks once a second whether it is time:
 *
 *   ahead of expiry   15 minutes before it; what lives under 30 minutes: at half its life
 *   a file changed    the shared files, an SSO token, a web identity token: at once
 *   refused           when the server says that these are over: at once, but credentials that are
 *                     refused right after they came are asked for again after 5, 10, 20 … 60 s
 *                     (requests wait up to 10 s for it, then they fail)
 *   after a failure   in a minute (and up to 15 s more); while the old ones are still good, later
 *                     and later up to 4 minutes
 *
 * What a person handed over stays until it expires or is refused. A failure never takes away what
 * still works.
 */
#include "auth_keys.h"
#include "auth_private.h"

#include <sys/stat.h>

#define LOG_ROOM "auth"
#define LOOK_AGAIN_MS (1 * MS_PER_S)
#define FILES_AGAIN_MS (5 * MS_PER_S) /* between tries that changed files cause */
#define AHEAD_NS (15 * 60 * NS_PER_S)
#define RENEW_MIN_NS (1 * NS_PER_S)
#define AGAIN_MS (60 * MS_PER_S)
#define AGAIN_MORE_MS (15 * MS_PER_S)
#define REFUSED_AGAIN_MS (5 * MS_PER_S)

/* ---- files ---------------------------------------------------------------------------------- */

static struct auth_stamp stamp_of(const char *path)
{
	struct stat st;
	if (stat(path, &st))
		return (struct auth_stamp){.size_bytes = -1};
	return (struct auth_stamp){
		.mtime_ns = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec,
		.ctime_ns = st.st_ctim.tv_sec * NS_PER_S + st.st_ctim.tv_nsec,
		.size_bytes = st.st_size,
		.inode = st.st_ino,
	};
}

static bool same_stamp(const struct auth_stamp *a, const struct auth_stamp *b)
{
	return a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
	       a->size_bytes == b->size_bytes && a->inode == b->inode;
}

/* True when one differs from what was seen. */
static bool take_stamps(struct auth *a)
{
	const char *paths[2 + AUTH_WATCH_MAX] = {a->places.credentials_path, a->places.config_path};
	bool changed = false;
	for (size_t i = 0; i < a->recipe.watch_count; i++)
		paths[2 + i] = a->recipe.watch[i];
	for (size_t i = 0; i < 2 + a->recipe.watch_count; i++) {
		struct auth_stamp now = stamp_of(paths[i]);
		changed |= !same_stamp(&now, &a->stamps[i]);
		a->stamps[i] = now;
	}
	a->looked_at_ms = clock_mono_ms();
	return changed;
}

/* ---- what is there -------------------------------------------------------------------------- */

static int64_t server_now_ns(const struct auth *a)
{
	return clock_wall_ns() + a->synced.clock_offset_ns;
}

static bool is_expired(const struct auth *a)
{
	int64_t at_ns = a->synced.current->keys.expires_at_ns;
	return at_ns && server_now_ns(a) >= at_ns;
}

bool auth_usable_locked(const struct auth *a)
{
	lock_assert_held(&a->lock);
	return a->synced.has && !a->synced.refused && !is_expired(a);
}

void auth_refuse_locked(struct auth *a)
{
	lock_assert_held(&a->lock);
	a->synced.refused = true;
	a->synced.refused_until_ms =
		clock_mono_ms() + AGAIN_MS + (a->synced.is_static ? 0 : 2 * AGAIN_MORE_MS);
}

void auth_want_locked(struct auth *a)
{
	lock_assert_held(&a->lock);
	if (!a->synced.wanted && !a->synced.trying)
		a->synced.asked_at_ms = clock_mono_ms();
	a->synced.wanted = true;
	cond_broadcast(&a->changed);
}

static int64_t renewal_time_ns(const struct auth *a)
{
	int64_t expires_ns = a->synced.current->keys.expires_at_ns;
	int64_t now_ns = server_now_ns(a), life_ns = expires_ns - now_ns;
	if (!expires_ns)
		return 0;
	if (a->synced.is_static || a->synced.handed_over)
		return expires_ns; /* nothing to do before */
	int64_t at_ns = expires_ns - (life_ns < 2 * AHEAD_NS ? life_ns / 2 : AHEAD_NS);
	return at_ns < now_ns + RENEW_MIN_NS ? now_ns + RENEW_MIN_NS : at_ns;
}

void auth_install_locked(struct auth *a, const struct auth_result *result, const char *source)
{
	lock_assert_held(&a->lock);
	*a->synced.current = *result;
	a->synced.has = true;
	a->synced.refused = false;
	a->synced.stamp++;
	a->synced.fetched_at_ms = clock_mono_ms();
	a->synced.try_at_ms = INT64_MAX;
	a->synced.renew_at_ns = renewal_time_ns(a);
	a->synced.error = 0;
	a->synced.why = (struct auth_failure){.error = ""};
	a->synced.tries_failed = 0;
	a->synced.first_done = true;
	text_copy(a->synced.source, source, sizeof(a->synced.source));
	cond_broadcast(&a->changed);
}

/* ---- a try ---------------------------------------------------------------------------------- */

/* Nothing but files decides: no service, no program. */
static bool asks_nobody(const struct auth *a)
{
	const struct auth_recipe *r = &a->recipe;
	return !a->wish.wanted && !r->role_count &&
	       (r->kind == AUTH_KIND_STATIC || r->kind == AUTH_KIND_NONE);
}

/* The recipe of this try: what files and environment say now, unless a person gave keys. */
static int find_recipe(struct auth *a, struct auth_failure *why)
{
	cleanup_free char *message = NULL;
	struct auth_recipe fresh;
	int err = auth_chain_find(&fresh, &a->places, &message);
	if (err) {
		/* the message names the way out, too */
		text_copy(why->error, message ? message : strerror(-err), sizeof(why->error));
		return err;
	}
	auth_recipe_release(&a->recipe);
	a->recipe = fresh;
	with_lock(&a->lock);
	text_copy(a->synced.region, fresh.region, sizeof(a->synced.region));
	text_copy(a->synced.remedy, fresh.remedy, sizeof(a->synced.remedy));
	a->synced.is_static = asks_nobody(a);
	if (!a->synced.has)
		text_copy(a->synced.source, fresh.origin, sizeof(a->synced.source));
	return 0;
}

static int use_base(struct auth *a, const struct s3_credentials *base)
{
	struct auth_recipe *r = &a->recipe;
	secret_free(r->keys);
	r->keys = secret_alloc(sizeof(*r->keys));
	if (!r->keys)
		return -ENOMEM;
	*r->keys = *base;
	r->kind = AUTH_KIND_STATIC;
	r->role_count = 0;
	text_copy(r->origin, "keys handed over", sizeof(r->origin));
	text_copy(r->remedy, "hand over others with `cpgfs credentials MOUNTPOINT`", sizeof(r->remedy));
	return 0;
}

static bool same_keys(const struct s3_credentials *a, const struct s3_credentials *b)
{
	return strcmp(a->access_key, b->access_key) == 0 &&
	       strcmp(a->secret_key, b->secret_key) == 0 &&
	       strcmp(a->session_token, b->session_token) == 0;
}

/* While the old ones are good there is time; then a person waits. */
static int64_t next_try_ms(const struct auth *a)
{
	int64_t now_ms = clock_mono_ms();
	unsigned shift = a->synced.tries_failed > 2 ? 2 : a->synced.tries_failed - 1;
	int64_t soonest_ms = AGAIN_MS + (int64_t)(random_u64() % AGAIN_MORE_MS);
	if (!auth_usable_locked(a))
		return now_ms + soonest_ms;
	int64_t wait_ms = soonest_ms << shift, expires_ns = a->synced.current->keys.expires_at_ns;
	int64_t left_ms =
		expires_ns ? (expires_ns - server_now_ns(a)) / (NS_PER_S / MS_PER_S) : INT64_MAX;
	if (wait_ms > left_ms)
		wait_ms = left_ms > soonest_ms ? left_ms : soonest_ms;
	return now_ms + wait_ms;
}

static void say_failure(const struct auth *a, bool is_news)
{
	const struct auth_failure *why = &a->synced.why;
	int64_t wait_s = (a->synced.try_at_ms - clock_mono_ms()) / MS_PER_S;
	bool usable = auth_usable_locked(a);
	/* without credentials it is the upload that pauses, and says so */
	log_at(!is_news	 ? LOG_LEVEL_DEBUG
		: usable ? LOG_LEVEL_WARN
			 : LOG_LEVEL_INFO,
		LOG_ROOM, "credentials: %s: %s%s%s; %s, next try in %lld s", a->synced.source,
		why->error, why->remedy[0] ? "; " : "", why->remedy,
		usable ? "the old ones are still good" : "uploads wait", (long long)wait_s);
}

static void fail_locked(struct auth *a, int err, const struct auth_failure *why)
{
	lock_assert_held(&a->lock);
	bool is_news = strcmp(a->synced.why.error, why->error) != 0;
	a->synced.error = err;
	a->synced.why = *why;
	a->synced.failed_at_ns = clock_wall_ns();
	a->synced.tries_failed++;
	a->synced.renew_at_ns = 0;
	a->synced.try_at_ms = next_try_ms(a);
	a->synced.first_done = true;
	if (a->recipe.kind != AUTH_KIND_NONE || a->synced.has)
		say_failure(a, is_news);
	cond_broadcast(&a->changed);
}

/* What the server refused and what comes again is no success. */
static bool is_refused_again(const struct auth *a, const struct auth_result *result)
{
	return a->synced.has && a->synced.refused &&
	       same_keys(&result->keys, &a->synced.current->keys);
}

static void say_success(const struct auth *a, bool first)
{
	char when[32] = "", source[256];
	int64_t expires_ns = a->synced.current->keys.expires_at_ns;
	text_copy(source, a->synced.source, sizeof(source));
	time_format_iso8601(expires_ns, when);
	log_info("credentials %s: %s%s%s", first ? "found" : "renewed", source,
		expires_ns ? ", until " : "", expires_ns ? when : "");
}

/* A try and what it was begun with. */
struct attempt {
	struct auth_try try;
	uint64_t hand_serial;
};

static void succeed_locked(struct auth *a, const struct auth_result *result)
{
	bool first = !a->synced.has;
	bool same = !first && same_keys(&result->keys, &a->synced.current->keys);
	a->synced.handed_over = false;
	if (!first && !same)
		a->synced.renewals++;
	auth_install_locked(a, result, a->recipe.origin);
	if (!same)
		say_success(a, first);
}

static void end_try(struct auth *a, struct attempt *t, int err)
{
	struct auth_failure *why = &t->try.why;
	with_lock(&a->lock);
	a->synced.trying = false;
	a->synced.clock_offset_ns = t->try.clock_offset_ns;
	if (err == -ECANCELED || t->hand_serial != a->synced.hand_serial)
		return; /* stopped, or a person was faster */
	if (!err && !a->synced.told_to_try && is_refused_again(a, t->try.result)) {
		auth_refuse_locked(a);
		*why = a->synced.why; /* of auth_rejected() */
		err = -EKEYEXPIRED;
	}
	if (err && !why->error[0])
		text_copy(why->error, strerror(-err), sizeof(why->error));
	a->synced.told_to_try = false;
	if (err)
		fail_locked(a, err, why);
	else
		succeed_locked(a, t->try.result);
}

/* True: a person gave keys to be exchanged, here they are. */
static bool begin_try(struct auth *a, struct attempt *t, struct s3_credentials *ret_base)
{
	with_lock(&a->lock);
	if (!a->synced.wanted)
		a->synced.asked_at_ms = clock_mono_ms();
	a->synced.wanted = a->synced.planned = false;
	a->synced.trying = true;
	a->synced.tried_at_ms = clock_mono_ms();
	t->try.clock_offset_ns = a->synced.clock_offset_ns;
	t->try.is_renewal = a->synced.has;
	t->hand_serial = a->synced.hand_serial;
	if (a->synced.base)
		*ret_base = *a->synced.base;
	return a->synced.base;
}

static int attempt(struct auth *a, struct attempt *t)
{
	cleanup_secret struct s3_credentials *base = secret_alloc(sizeof(*base));
	if (!base || !t->try.result)
		return -ENOMEM;
	bool has_base = begin_try(a, t, base);
	int err = find_recipe(a, &t->try.why);
	if (!err)
		(void)take_stamps(a); /* of the recipe's files, too, before they are read */
	if (!err && has_base)
		err = use_base(a, base);
	if (!err)
		err = auth_try_run(&t->try);
	if (a->recipe.kind == AUTH_KIND_PROCESS)
		(void)take_stamps(a); /* it may write into the shared files each time */
	return err;
}

static void try_now(struct auth *a)
{
	cleanup_secret struct auth_result *result = secret_alloc(sizeof(*result));
	struct attempt t = {.try = {
				    .places = &a->places,
				    .recipe = &a->recipe,
				    .wish = &a->wish,
				    .stop = &a->stop,
				    .result = result,
			    }};
	int err = attempt(a, &t);
	stack_wipe();
	end_try(a, &t, err);
	if (a->news)
		a->news(a->news_user);
}

/* ---- the schedule --------------------------------------------------------------------------- */

/* What was handed over is used up: back to the chain. */
static void drop_handed_locked(struct auth *a)
{
	if (!a->synced.handed_over || auth_usable_locked(a))
		return;
	a->synced.handed_over = false;
	auth_want_locked(a);
}

static bool is_due_locked(struct auth *a)
{
	int64_t now_ms = clock_mono_ms();
	drop_handed_locked(a);
	return a->synced.wanted || now_ms >= a->synced.try_at_ms ||
	       (a->synced.renew_at_ns && server_now_ns(a) >= a->synced.renew_at_ns);
}

static bool look_at_files(struct auth *a)
{
	int64_t now_ms = clock_mono_ms();
	if (now_ms - a->looked_at_ms < LOOK_AGAIN_MS)
		return false;
	return take_stamps(a);
}

/* Tries that ask somebody keep a distance: who changes a file may do so again at once. */
static void note_files_locked(struct auth *a)
{
	int64_t at_ms = a->synced.tried_at_ms + (a->synced.is_static ? 0 : FILES_AGAIN_MS);
	if ((a->synced.handed_over || a->synced.base) && auth_usable_locked(a))
		return;
	secret_free(steal_ptr(a->synced.base)); /* it does not work any more; the files may */
	if (clock_mono_ms() >= at_ms)
		auth_want_locked(a);
	else if (a->synced.try_at_ms > at_ms)
		a->synced.try_at_ms = at_ms;
}

int64_t auth_tick(struct auth *a)
{
	bool changed = look_at_files(a), due;
	int64_t now_ms = clock_mono_ms();
	{
		with_lock(&a->lock);
		if (changed)
			note_files_locked(a);
		due = is_due_locked(a);
	}
	if (due)
		try_now(a);
	return now_ms + LOOK_AGAIN_MS;
}

void auth_thread_run(void *auth)
{
	struct auth *a = auth;
	while (!atomic_load(&a->stop)) {
		int64_t until_ms = auth_tick(a);
		with_lock(&a->lock);
		while (!a->synced.wanted && !atomic_load(&a->stop) &&
			cond_wait_until(&a->changed, &a->lock, until_ms) == 0)
			;
	}
}

int auth_first_look(struct auth *a, char **ret_message)
{
	struct auth_failure why = {.error = ""};
	int err = find_recipe(a, &why);
	if (err) {
		*ret_message = why.error[0] ? text_dup(why.error) : NULL;
		return err;
	}
	(void)take_stamps(a);
	if (asks_nobody(a)) {
		try_now(a);
		return 0;
	}
	with_lock(&a->lock);
	auth_want_locked(a);
	return 0;
}
