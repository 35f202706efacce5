/*
 * The contract: what other rooms ask and tell. Fetching is auth_renew.c's.
 */
#include "auth_keys.h"
#include "auth_private.h"

#define LOG_ROOM "auth"
#define RENEWAL_AWAITED_MS (30 * MS_PER_S)
#define REFUSED_MS (60 * MS_PER_S)
#define REFUSED_AGAIN_MS (5 * MS_PER_S)
#define PLANNED_SOON_MS (10 * MS_PER_S)
#define GRANT_MAX_S 43200
#define GRANT_MIN_S 900

/* ---- life ----------------------------------------------------------------------------------- */

static int refuse(char **ret_message, const char *why)
{
	*ret_message = text_dup(why);
	return *ret_message ? -EINVAL : -ENOMEM;
}

static bool is_account(const char *text)
{
	return text && strlen(text) == 12 && strspn(text, "0123456789") == 12;
}

static int take_wish(struct auth_grant_wish *w, const struct auth_config *c, char **ret_message)
{
	w->wanted = c->access_grant && !c->anonymous;
	w->permission = c->permission;
	w->duration_s = c->grant_duration_s ? c->grant_duration_s : GRANT_MAX_S;
	w->account_id = text_dup(c->account_id ? c->account_id : "");
	w->bucket = text_dup(c->bucket ? c->bucket : "");
	w->prefix = text_dup(c->prefix ? c->prefix : "");
	if (!w->account_id || !w->bucket || !w->prefix)
		return -ENOMEM;
	if (!w->wanted)
		return 0;
	if (!is_account(c->account_id))
		return refuse(ret_message,
			"--access-grant needs --account-id, the 12 digits of the account that "
			"grants (the gallery's: 309624411020)");
	if (!w->bucket[0] || w->duration_s < GRANT_MIN_S || w->duration_s > GRANT_MAX_S)
		return refuse(ret_message, "an access grant needs a bucket, and 900 to 43200 s");
	return 0;
}

static int create(struct auth *a, const struct auth_config *config, char **ret_message)
{
	a->anonymous = config->anonymous;
	a->news = config->news;
	a->news_user = config->news_user;
	a->looked_at_ms = INT64_MIN / 2;
	a->synced.tried_at_ms = INT64_MIN / 2;
	a->synced.try_at_ms = INT64_MAX;
	a->synced.current = secret_alloc(sizeof(*a->synced.current));
	if (!a->synced.current)
		return -ENOMEM;
	int err = auth_places_init(&a->places, config);
	if (!err)
		err = take_wish(&a->wish, config, ret_message);
	return err ? err : auth_first_look(a, ret_message);
}

int auth_create(struct auth **ret, const struct auth_config *config, char **ret_message)
{
	char *message = NULL;
	struct auth *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	lock_init(&a->lock, RANK_AUTH, "auth");
	cond_init(&a->changed);
	int err = create(a, config, &message);
	if (err && a->anonymous && err == -EINVAL) /* the region is all that is missing */
		err = 0;
	if (err) {
		auth_destroy(a);
		if (ret_message)
			*ret_message = message;
		else
			free(message);
		return err;
	}
	free(message);
	*ret = a;
	return 0;
}

int auth_start(struct auth *a)
{
	if (a->anonymous)
		return 0;
	return thread_start(&a->thread, "cpgfs-auth", auth_thread_run, a);
}

void auth_stop(struct auth *a)
{
	atomic_store(&a->stop, true);
	{
		with_lock(&a->lock);
		cond_broadcast(&a->changed);
	}
	thread_join(steal_ptr(a->thread));
}

void auth_destroy(struct auth *a)
{
	if (!a)
		return;
	auth_stop(a);
	secret_free(a->synced.current);
	secret_free(a->synced.base);
	auth_recipe_release(&a->recipe);
	auth_places_release(&a->places);
	free(a->wish.account_id);
	free(a->wish.bucket);
	free(a->wish.prefix);
	cond_release(&a->changed);
	lock_release_storage(&a->lock);
	free(a);
}

/* ---- asked by the S3 loop ------------------------------------------------------------------- */

static bool is_awaited(const struct auth *a)
{
	if (a->synced.planned && a->synced.try_at_ms - clock_mono_ms() <= PLANNED_SOON_MS)
		return true;
	return (a->synced.wanted || a->synced.trying) &&
	       clock_mono_ms() - a->synced.asked_at_ms < RENEWAL_AWAITED_MS;
}

int auth_get(struct auth *a, struct s3_credentials *ret)
{
	if (a->anonymous) {
		*ret = (struct s3_credentials){.anonymous = true};
		return 0;
	}
	with_lock(&a->lock);
	bool usable = auth_usable_locked(a);
	if (!usable && is_awaited(a))
		return -EAGAIN;
	/* after a while another attempt shows whether the server meant it */
	if (!usable && a->synced.refused && clock_mono_ms() >= a->synced.refused_until_ms) {
		a->synced.refused = false;
		usable = auth_usable_locked(a);
		a->synced.refused = true;
	}
	if (usable) {
		*ret = a->synced.current->keys;
		return 0;
	}
	return !a->synced.has && a->synced.error == -ENOKEY ? -ENOKEY : -EKEYEXPIRED;
}

/* "These are over", as against "this request is wrong". */
static bool is_over(const char *code)
{
	static const char *const codes[] = {"ExpiredToken", "ExpiredTokenException",
		"InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "InvalidSecurity",
		"TokenRefreshRequired", "RequestExpired", "UnrecognizedClientException",
		"Unauthorized"};
	for (size_t i = 0; i < array_len(codes); i++)
		if (strcmp(codes[i], code) == 0)
			return true;
	return false;
}

static void note_refusal_locked(struct auth *a, const char *code)
{
	auth_refuse_locked(a);
	a->synced.error = -EKEYEXPIRED;
	a->synced.failed_at_ns = clock_wall_ns();
	snprintf(a->synced.why.error, sizeof(a->synced.why.error),
		"the server refuses them (%.60s)", code);
	text_copy(a->synced.why.remedy, a->synced.remedy, sizeof(a->synced.why.remedy));
	log_info("credentials: %s: the server refuses them (%.60s)", a->synced.source, code);
}

/* Credentials that are refused as soon as they come must not make us ask for more and more. */
static int64_t renewal_delay_ms(struct auth *a)
{
	if (clock_mono_ms() - a->synced.fetched_at_ms >= REFUSED_MS)
		a->synced.refusals = 0;
	unsigned n = a->synced.refusals++;
	if (!n)
		return 0;
	int64_t delay_ms = REFUSED_AGAIN_MS << (n > 4 ? 4 : n - 1);
	return delay_ms < REFUSED_MS ? delay_ms : REFUSED_MS;
}

bool auth_rejected(struct auth *a, const struct s3_credentials *which, const char *code)
{
	if (a->anonymous)
		return false;
	with_lock(&a->lock);
	if (!a->synced.has || strcmp(which->access_key, a->synced.current->keys.access_key) != 0 ||
		strcmp(which->secret_key, a->synced.current->keys.secret_key) != 0 ||
		strcmp(which->session_token, a->synced.current->keys.session_token) != 0)
		return auth_usable_locked(a) || is_awaited(a);
	if (!is_over(code))
		return false;
	if (a->synced.refused) { /* others said so, or it was tried once more: renewal is planned */
		auth_refuse_locked(a);
		return is_awaited(a);
	}
	note_refusal_locked(a, code);
	int64_t delay_ms = renewal_delay_ms(a);
	if (delay_ms) {
		if (a->synced.try_at_ms > clock_mono_ms() + delay_ms)
			a->synced.try_at_ms = clock_mono_ms() + delay_ms;
		a->synced.planned = true;
		return is_awaited(a);
	}
	auth_want_locked(a);
	return !a->synced.is_static || a->synced.handed_over;
}

static int source_get(void *user, struct s3_credentials *ret)
{
	return auth_get(user, ret);
}

static bool source_rejected(void *user, const struct s3_credentials *which, const char *code)
{
	return auth_rejected(user, which, code);
}

struct s3_credentials_source auth_source(struct auth *a)
{
	return (struct s3_credentials_source){
		.get = source_get, .rejected = source_rejected, .user = a};
}

/* ---- asked by others ------------------------------------------------------------------------ */

static int explain_failure(struct auth *a, int err, char **ret_message)
{
	char text[512];
	struct auth_status status;
	auth_status(a, &status);
	auth_explain_shortly(&status, text);
	if (err == -ENOKEY)
		snprintf(text, sizeof(text), "no credentials were found: %s", status.remedy);
	else if (!text[0])
		snprintf(text, sizeof(text), "%s: no answer yet", status.source);
	*ret_message = text_dup(text);
	return *ret_message ? err : -ENOMEM;
}

/* 1: wait on. */
static int outcome_locked(struct auth *a)
{
	if (a->anonymous || auth_usable_locked(a))
		return 0;
	if (!a->synced.first_done || is_awaited(a))
		return 1;
	switch (a->synced.error) {
	case -ENOKEY:
	case -EACCES:
	case -EKEYEXPIRED:
		return a->synced.error;
	case -EINVAL:
		return -EACCES;
	default:
		return -EAGAIN;
	}
}

int auth_wait(struct auth *a, int64_t deadline_ms, char **ret_message)
{
	int err;
	*ret_message = NULL;
	{
		with_lock(&a->lock);
		while ((err = outcome_locked(a)) == 1 && !atomic_load(&a->stop))
			if (cond_wait_until(&a->changed, &a->lock, deadline_ms))
				break;
	}
	if (err == 1)
		err = -ETIMEDOUT;
	return err ? explain_failure(a, err, ret_message) : 0;
}

uint64_t auth_stamp(struct auth *a)
{
	with_lock(&a->lock);
	return a->synced.stamp;
}

void auth_renew(struct auth *a)
{
	if (a->anonymous)
		return;
	with_lock(&a->lock);
	a->synced.refused_until_ms = clock_mono_ms();
	a->synced.told_to_try = true;
	if (!a->synced.trying)
		auth_want_locked(a);
}

void auth_region(struct auth *a, char out[64])
{
	with_lock(&a->lock);
	text_copy(out, a->synced.region, 64);
}

/* ---- by hand -------------------------------------------------------------------------------- */

static int check_handed(struct auth *a, const struct auth_result *given, char **ret_message)
{
	const char *wrong = auth_keys_check(&given->keys);
	char text[2 * AUTH_TARGET_MAX];
	if (a->anonymous)
		return refuse(
			ret_message, "this mount does not sign its requests (--no-sign-request)");
	if (wrong)
		return refuse(ret_message, wrong);
	if (given->keys.expires_at_ns && given->keys.expires_at_ns <= clock_wall_ns())
		return refuse(ret_message, "they have expired already");
	if (!given->by_grant || !a->wish.bucket[0] ||
		auth_grant_covers(given->target, a->wish.bucket, a->wish.prefix))
		return 0;
	snprintf(text, sizeof(text), "the mount s3://%s/%.1100s lies outside the grant %.2000s",
		a->wish.bucket, a->wish.prefix, given->target);
	return refuse(ret_message, text);
}

/* Long-lived keys of a mount by grant are what is exchanged. */
static int take_base(struct auth *a, const struct s3_credentials *keys)
{
	struct s3_credentials *base = secret_alloc(sizeof(*base));
	if (!base)
		return -ENOMEM;
	*base = *keys;
	with_lock(&a->lock);
	secret_free(a->synced.base);
	a->synced.base = base;
	a->synced.hand_serial++;
	a->synced.refusals = 0;
	auth_want_locked(a);
	return 0;
}

static int take_handed(struct auth *a, const struct auth_result *given, const char *origin)
{
	with_lock(&a->lock);
	secret_free(steal_ptr(a->synced.base));
	a->synced.handed_over = true;
	a->synced.hand_serial++;
	a->synced.refusals = 0;
	a->synced.wanted = false;
	a->synced.renewals++;
	auth_install_locked(a, given, origin);
	log_info("credentials: %s", origin);
	return 0;
}

static int hand_over(
	struct auth *a, const struct auth_result *given, const char *origin, char **ret_message)
{
	int err = check_handed(a, given, ret_message);
	if (err)
		return err;
	if (a->wish.wanted && !given->by_grant && !given->keys.session_token[0])
		return take_base(a, &given->keys);
	err = take_handed(a, given, origin);
	if (!err && a->news)
		a->news(a->news_user);
	return err;
}

int auth_set_static(
	struct auth *a, const struct s3_credentials *keys, const char *origin, char **ret_message)
{
	cleanup_secret struct auth_result *given = secret_alloc(sizeof(*given));
	*ret_message = NULL;
	if (!given)
		return -ENOMEM;
	given->keys = *keys;
	return hand_over(a, given, origin, ret_message);
}

int auth_hand_over(struct auth *a, const char *text, size_t len, char **ret_message)
{
	cleanup_secret struct auth_result *given = secret_alloc(sizeof(*given));
	*ret_message = NULL;
	if (!given)
		return -ENOMEM;
	int err = auth_parse_pasted(text, len, &given->keys, given->target, ret_message);
	stack_wipe();
	given->by_grant = given->target[0];
	return err ? err : hand_over(a, given, "handed over", ret_message);
}
