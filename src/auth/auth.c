/*
 * Current credentials: read once, and again when a file's stamp changed or the server refused them.
 * A source that can't be read later (a file being written, a broken edit) leaves the old keys in
 * use; the next change is looked at again.
 */
#include "auth_keys.h"
#include "auth_sources.h"

#include <sys/stat.h>

#define LOG_ROOM "auth"
#define LOOK_AGAIN_MS 1000

struct stamp {
	int64_t mtime_ns, ctime_ns;
	int64_t size_bytes; /* -1: no such file */
	uint64_t inode;
};

struct auth {
	/* constant after create */
	struct auth_places places;
	bool anonymous;
	/* guarded by lock */
	struct lock lock;
	struct auth_found found;
	bool handed_over; /* found is what a person gave */
	bool refused;
	char refused_code[64];
	uint64_t stamp;
	struct stamp credentials_stamp, config_stamp;
	int64_t looked_at_ms;
};

/* ---- reading again ------------------------------------------------------------------------------- */

static struct stamp stamp_of(const char *path)
{
	struct stat st;
	if (stat(path, &st))
		return (struct stamp){.size_bytes = -1};
	return (struct stamp){
		.mtime_ns = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec,
		.ctime_ns = st.st_ctim.tv_sec * NS_PER_S + st.st_ctim.tv_nsec,
		.size_bytes = st.st_size,
		.inode = st.st_ino,
	};
}

static bool same_stamp(const struct stamp *a, const struct stamp *b)
{
	return a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
	       a->size_bytes == b->size_bytes && a->inode == b->inode;
}

/* Takes the stamps first, so that a change while reading is seen the next time. */
static bool take_stamps_locked(struct auth *a)
{
	lock_assert_held(&a->lock);
	struct stamp credentials = stamp_of(a->places.credentials_path);
	struct stamp config = stamp_of(a->places.config_path);
	bool same = same_stamp(&credentials, &a->credentials_stamp) &&
		    same_stamp(&config, &a->config_stamp);
	a->credentials_stamp = credentials;
	a->config_stamp = config;
	a->looked_at_ms = clock_mono_ms();
	return !same;
}

static int read_locked(struct auth *a, char **ret_message)
{
	struct auth_found fresh;
	lock_assert_held(&a->lock);
	int err = auth_sources_read(&a->places, &fresh, ret_message);
	if (err)
		return err;
	explicit_bzero(&a->found, sizeof(a->found));
	a->found = fresh;
	explicit_bzero(&fresh, sizeof(fresh));
	a->handed_over = a->refused = false;
	a->stamp++;
	return 0;
}

/* A later failure keeps what we have. */
static void read_again_locked(struct auth *a)
{
	cleanup_free char *message = NULL;
	int err = read_locked(a, &message);
	if (err)
		log_debug("%s: the credentials stay as they are", message ? message : "error");
	else
		log_debug("credentials read again: %s", a->found.origin);
}

/* ---- contract -------------------------------------------------------------------------------------- */

int auth_create(struct auth **ret, const struct auth_config *config, char **ret_message)
{
	char *message = NULL;
	struct auth *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	lock_init(&a->lock, RANK_AUTH, "auth");
	a->anonymous = config->anonymous;
	int err = auth_places_init(&a->places, config->profile);
	if (!err) {
		with_lock(&a->lock);
		(void)take_stamps_locked(a);
		err = read_locked(a, &message);
	}
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

void auth_destroy(struct auth *a)
{
	if (!a)
		return;
	auth_places_release(&a->places);
	lock_release_storage(&a->lock);
	explicit_bzero(a, sizeof(*a));
	free(a);
}

static bool is_expired(const struct s3_credentials *keys)
{
	return keys->expires_at_ns && clock_wall_ns() >= keys->expires_at_ns;
}

int auth_get(struct auth *a, struct s3_credentials *ret)
{
	if (a->anonymous) {
		*ret = (struct s3_credentials){.anonymous = true};
		return 0;
	}
	with_lock(&a->lock);
	if (clock_mono_ms() - a->looked_at_ms >= LOOK_AGAIN_MS && take_stamps_locked(a))
		read_again_locked(a);
	if (!a->found.has_keys)
		return -ENOKEY;
	if (is_expired(&a->found.keys) || a->refused)
		return -EKEYEXPIRED;
	*ret = a->found.keys;
	return 0;
}

bool auth_rejected(struct auth *a, const struct s3_credentials *which, const char *code)
{
	with_lock(&a->lock);
	bool current = a->found.has_keys &&
		       strcmp(which->access_key, a->found.keys.access_key) == 0 &&
		       strcmp(which->secret_key, a->found.keys.secret_key) == 0 &&
		       strcmp(which->session_token, a->found.keys.session_token) == 0;
	if (!current || a->anonymous)
		return !a->anonymous;
	log_debug("the server refused the credentials: %s", code);
	text_copy(a->refused_code, code, sizeof(a->refused_code));
	if (!take_stamps_locked(a))
		return false;
	read_again_locked(a);
	return true;
}

void auth_forget_environment(void)
{
	static const char *const names[] = {
		"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"};
	for (size_t i = 0; i < array_len(names); i++) {
		char *value = getenv(names[i]);
		if (value)
			explicit_bzero(value, strlen(value));
	}
}

int auth_start(struct auth *a)
{
	return 0;
}

void auth_stop(struct auth *a)
{
}

int auth_wait(struct auth *a, int64_t deadline_ms, char **ret_message)
{
	cleanup_secret struct s3_credentials *keys = secret_alloc(sizeof(*keys));
	char text[256];
	int err = keys ? auth_get(a, keys) : -ENOMEM;
	if (!err)
		return 0;
	auth_describe(a, text);
	*ret_message = text_dup(text);
	return *ret_message ? err : -ENOMEM;
}

void auth_renew(struct auth *a)
{
	with_lock(&a->lock);
	(void)take_stamps_locked(a);
	read_again_locked(a);
}

uint64_t auth_stamp(struct auth *a)
{
	with_lock(&a->lock);
	return a->stamp;
}

int auth_set_static(
	struct auth *a, const struct s3_credentials *keys, const char *origin, char **ret_message)
{
	const char *wrong = auth_keys_check(keys);
	if (!wrong && is_expired(keys))
		wrong = "they have expired already";
	*ret_message = wrong ? text_dup(wrong) : NULL;
	if (wrong)
		return -EINVAL;
	with_lock(&a->lock);
	a->found.keys = *keys;
	a->found.has_keys = a->handed_over = true;
	a->refused = false;
	text_copy(a->found.origin, origin, sizeof(a->found.origin));
	a->stamp++;
	return 0;
}

int auth_hand_over(struct auth *a, const char *text, size_t len, char **ret_message)
{
	char target[AUTH_TARGET_MAX];
	cleanup_secret struct s3_credentials *keys = secret_alloc(sizeof(*keys));
	*ret_message = NULL;
	if (!keys)
		return -ENOMEM;
	int err = auth_parse_pasted(text, len, keys, target, ret_message);
	return err ? err : auth_set_static(a, keys, "handed over", ret_message);
}

const char *auth_state_text(enum auth_state s)
{
	static const char *const names[] = {[AUTH_ANONYMOUS] = "anonymous",
		[AUTH_FETCHING] = "fetching", [AUTH_GOOD] = "good", [AUTH_NONE] = "none",
		[AUTH_EXPIRED] = "expired"};
	return names[s];
}

void auth_status(struct auth *a, struct auth_status *ret)
{
	*ret = (struct auth_status){.state = a->anonymous ? AUTH_ANONYMOUS : AUTH_GOOD};
	auth_describe(a, ret->source);
	with_lock(&a->lock);
	if (!a->anonymous && !a->found.has_keys)
		ret->state = AUTH_NONE;
	else if (!a->anonymous && (a->refused || is_expired(&a->found.keys)))
		ret->state = AUTH_EXPIRED;
	ret->expires_at_ns = a->found.keys.expires_at_ns;
}

void auth_explain(struct auth *a, char out[512])
{
	out[0] = '\0';
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

void auth_region(struct auth *a, char out[64])
{
	with_lock(&a->lock);
	text_copy(out, a->found.region, 64);
}

void auth_describe(struct auth *a, char out[256])
{
	with_lock(&a->lock);
	text_copy(out, a->anonymous ? "none: requests are not signed" : a->found.origin, 256);
}
