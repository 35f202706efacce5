/*
 * The chain: environment keys (unless a profile was asked for), then the profile in the
 * credentials file, then in the config file. Sections [name] and [profile name] are one profile in
 * both files. The region: AWS_REGION, AWS_DEFAULT_REGION, then the profile's.
 */
#include "auth_sources.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>

#define FILE_MAX_BYTES (4 * MIB)

/* ---- where -------------------------------------------------------------------------------------- */

static const char *env_text(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

static const char *home_folder(void)
{
	const char *home = env_text("HOME");
	if (home)
		return home;
	const struct passwd *me = getpwuid(getuid());
	return me && me->pw_dir ? me->pw_dir : "/";
}

/* Absolute, because a daemon changes its working directory. */
static int absolute_path(char **ret, const char *path)
{
	if (path[0] == '/')
		return (*ret = text_dup(path)) ? 0 : -ENOMEM;
	if (text_starts(path, "~/"))
		return text_printf(ret, "%s/%s", home_folder(), path + 2);
	cleanup_free char *here = getcwd(NULL, 0);
	return here ? text_printf(ret, "%s/%s", here, path) : -errno;
}

int auth_places_init(struct auth_places *ret, const char *profile)
{
	struct auth_places p = {.use_environment = !profile, .profile_is_named = true};
	const char *credentials = env_text("AWS_SHARED_CREDENTIALS_FILE");
	const char *config = env_text("AWS_CONFIG_FILE");
	if (!profile)
		profile = env_text("AWS_PROFILE");
	if (!profile)
		profile = env_text("AWS_DEFAULT_PROFILE");
	if (!profile) {
		p.profile_is_named = false;
		profile = "default";
	}
	p.profile = text_dup(profile);
	int err = p.profile ? 0 : -ENOMEM;
	if (!err)
		err = absolute_path(
			&p.credentials_path, credentials ? credentials : "~/.aws/credentials");
	if (!err)
		err = absolute_path(&p.config_path, config ? config : "~/.aws/config");
	if (err) {
		auth_places_release(&p);
		return err;
	}
	*ret = p;
	return 0;
}

void auth_places_release(struct auth_places *p)
{
	free(p->profile);
	free(p->credentials_path);
	free(p->config_path);
	*p = (struct auth_places){0};
}

/* ---- one file -------------------------------------------------------------------------------------- */

/* The settings of our profile in one file; of two sections for it, the later line counts. */
struct profile_view {
	const char *profile;
	bool exists;
	bool too_long;         /* a key did not fit */
	const char *elsewhere; /* a setting that gets keys in a way not supported */
	char access_key[256], secret_key[256], session_token[4096], region[64], expires[64];
};

static bool is_section_of(const char *section, const char *profile)
{
	if (strcmp(section, profile) == 0)
		return true;
	if (!text_starts(section, "profile") || (section[7] != ' ' && section[7] != '\t'))
		return false;
	const char *name = section + 8 + strspn(section + 8, " \t");
	size_t len = strlen(name);
	if (len >= 2 && (name[0] == '"' || name[0] == '\'') && name[len - 1] == name[0])
		return len - 2 == strlen(profile) && strncmp(name + 1, profile, len - 2) == 0;
	return strcmp(name, profile) == 0;
}

#define FIELD(name, member, is_key)                                                                \
	{                                                                                          \
		name, offsetof(struct profile_view, member),                                       \
			sizeof(((struct profile_view *)NULL)->member), is_key                      \
	}
static const struct field {
	const char *name;
	size_t at, size;
	bool is_key;
} fields[] = {
	FIELD("aws_access_key_id", access_key, true),
	FIELD("aws_secret_access_key", secret_key, true),
	FIELD("aws_session_token", session_token, true),
	FIELD("aws_security_token", session_token, true),
	FIELD("region", region, false),
	FIELD("aws_credential_expiration", expires, false),
	FIELD("aws_expiration", expires, false),
	FIELD("expiration", expires, false),
	FIELD("x_security_token_expires", expires, false),
};

/* What does not fit is no value; a key that was cut must not be used. */
static void set_field(struct profile_view *v, const struct field *f, const char *value)
{
	char *to = (char *)v + f->at;
	if (text_copy(to, value, f->size))
		return;
	to[0] = '\0';
	v->too_long |= f->is_key;
}

static const char *const elsewhere_names[] = {
	"role_arn", "credential_process", "sso_session", "sso_start_url", "web_identity_token_file"};

static int on_setting(void *user, const char *section, const char *name, const char *value)
{
	struct profile_view *v = user;
	if (!is_section_of(section, v->profile))
		return 0;
	v->exists = true;
	for (size_t i = 0; i < array_len(fields); i++)
		if (strcmp(fields[i].name, name) == 0)
			set_field(v, &fields[i], value);
	for (size_t i = 0; i < array_len(elsewhere_names); i++)
		if (strcmp(elsewhere_names[i], name) == 0)
			v->elsewhere = elsewhere_names[i];
	return 0;
}

/* The whole file with a NUL behind it; an absent file is an empty one. */
static int read_whole(const char *path, char **ret, size_t *ret_len)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return (*ret = calloc(1, 1)) ? (*ret_len = 0, 0) : -ENOMEM;
	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uint64_t)st.st_size > FILE_MAX_BYTES)
		return -EFBIG;
	char *text = calloc(1, (size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	ssize_t n = io_pread(fd, text, (size_t)st.st_size, 0);
	if (n < 0) {
		free(text);
		return (int)n;
	}
	*ret = text;
	*ret_len = (size_t)n;
	return 0;
}

/* -EINVAL with a message, -ENOMEM. */
static int read_profile(const char *path, struct profile_view *v, char **ret_message)
{
	char *text = NULL;
	size_t len = 0;
	unsigned line = 0;
	int err = read_whole(path, &text, &len);
	if (err == -ENOMEM)
		return err;
	if (err) {
		(void)!text_printf(ret_message, "%s cannot be read: %s", path, strerror(-err));
		return -EINVAL;
	}
	err = ini_parse(text, len, on_setting, v, &line);
	explicit_bzero(text, len); // NOLINT(clang-analyzer-core.NonNullParamChecker): read_whole made it
	free(text);
	if (err) {
		(void)!text_printf(ret_message,
			"%s, line %u: neither [section] nor \"name = value\"; correct that line",
			path, line);
		return -EINVAL;
	}
	return 0;
}

/* ---- keys ------------------------------------------------------------------------------------------ */

/* "2026-03-01T12:00:00Z", or with an offset "+01:00"; 0 when it is neither. */
static int64_t parse_expiry(const char *text)
{
	char plain[64];
	int64_t at_ns;
	int hours, minutes;
	size_t len = strlen(text);
	if (!len || len >= sizeof(plain))
		return 0;
	if (time_parse_iso8601(text, &at_ns) == 0)
		return at_ns;
	if (len < 7 || sscanf(text + len - 6, "%3d:%2d", &hours, &minutes) != 2)
		return 0;
	snprintf(plain, sizeof(plain), "%.*sZ", (int)(len - 6), text);
	if (time_parse_iso8601(plain, &at_ns))
		return 0;
	if (text[len - 6] == '-')
		minutes = -minutes;
	return at_ns - (hours * INT64_C(3600) + minutes * INT64_C(60)) * NS_PER_S;
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || (unsigned char)*text >= 0x7f)
			return false;
	return true;
}

/* Both keys or none, and nothing that could not stand in a header. NULL, or what is wrong. */
static const char *take_keys(struct auth_found *f, const struct profile_view *v)
{
	if (v->too_long)
		return "a value is longer than any key";
	if (!v->access_key[0] && !v->secret_key[0])
		return NULL;
	if (!v->access_key[0])
		return "a secret key without an access key id";
	if (!v->secret_key[0])
		return "an access key id without a secret key";
	if (!is_printable(v->access_key) || !is_printable(v->secret_key) ||
		!is_printable(v->session_token))
		return "a key holds a space or another character that no key has";
	f->has_keys = true;
	text_copy(f->keys.access_key, v->access_key, sizeof(f->keys.access_key));
	text_copy(f->keys.secret_key, v->secret_key, sizeof(f->keys.secret_key));
	text_copy(f->keys.session_token, v->session_token, sizeof(f->keys.session_token));
	f->keys.expires_at_ns = parse_expiry(v->expires);
	return NULL;
}

static void env_copy(struct profile_view *v, const char *name, char *out, size_t size)
{
	const char *value = env_text(name);
	if (value && !text_copy(out, value, size))
		v->too_long = true;
}

static const char *take_environment(struct auth_found *f)
{
	struct profile_view v = {.profile = ""};
	env_copy(&v, "AWS_ACCESS_KEY_ID", v.access_key, sizeof(v.access_key));
	env_copy(&v, "AWS_SECRET_ACCESS_KEY", v.secret_key, sizeof(v.secret_key));
	env_copy(&v, "AWS_SESSION_TOKEN", v.session_token, sizeof(v.session_token));
	env_copy(&v, "AWS_CREDENTIAL_EXPIRATION", v.expires, sizeof(v.expires));
	const char *wrong = take_keys(f, &v);
	explicit_bzero(&v, sizeof(v));
	return wrong;
}

/* ---- the chain ----------------------------------------------------------------------------------------- */

static void say_origin(struct auth_found *f, const char *profile, const char *path)
{
	const char *home = home_folder();
	size_t len = strlen(home);
	bool below = strncmp(path, home, len) == 0 && path[len] == '/';
	f->origin[0] = '\0';
	snprintf(f->origin, sizeof(f->origin), "profile %.60s in %s%.80s", profile,
		below ? "~" : "", below ? path + len : path);
}

static void take_region(struct auth_found *f, const char *from_profile)
{
	const char *region = env_text("AWS_REGION");
	if (!region)
		region = env_text("AWS_DEFAULT_REGION");
	if (!region)
		region = from_profile;
	text_copy(f->region, region, sizeof(f->region));
}

/* Everything that is not an error and yet gives no keys. */
static void say_nothing_found(
	struct auth_found *f, const struct auth_places *p, const struct profile_view *v)
{
	if (v->elsewhere)
		snprintf(f->origin, sizeof(f->origin),
			"none: profile %.40s gets its keys by %s, which is not supported: put keys "
			"into it or the environment", p->profile, v->elsewhere);
	else if (v->exists)
		snprintf(f->origin, sizeof(f->origin),
			"none: profile %.60s holds no keys: add aws_access_key_id and "
			"aws_secret_access_key", p->profile);
	else
		snprintf(f->origin, sizeof(f->origin),
			"none found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a "
			"profile with --profile");
}

static int wrong_keys(char **ret_message, const char *where, const char *wrong)
{
	return text_printf(ret_message, "%s: %s", where, wrong) ? -ENOMEM : -EINVAL;
}

static int no_such_profile(const struct auth_places *p, char **ret_message)
{
	int err = text_printf(ret_message,
		"there is no profile %s in %s or %s; \"aws configure --profile %s\" makes one",
		p->profile, p->credentials_path, p->config_path, p->profile);
	return err ? -ENOMEM : -EINVAL;
}

/* Keys from the first file that has any; the region from either. */
static int read_files(const struct auth_places *p, struct auth_found *f, struct profile_view *both,
	char **ret_message)
{
	const char *paths[] = {p->credentials_path, p->config_path};
	for (size_t i = 0; i < array_len(paths); i++) {
		struct profile_view v = {.profile = p->profile};
		int err = read_profile(paths[i], &v, ret_message);
		const char *wrong = err || f->has_keys ? NULL : take_keys(f, &v);
		if (!err && wrong) {
			say_origin(f, p->profile, paths[i]);
			err = wrong_keys(ret_message, f->origin, wrong);
		}
		if (!err && f->has_keys && !f->origin[0])
			say_origin(f, p->profile, paths[i]);
		both->exists |= v.exists;
		if (v.elsewhere)
			both->elsewhere = v.elsewhere;
		if (v.region[0])
			text_copy(both->region, v.region, sizeof(both->region));
		explicit_bzero(&v, sizeof(v));
		if (err)
			return err;
	}
	return 0;
}

int auth_sources_read(const struct auth_places *p, struct auth_found *ret, char **ret_message)
{
	struct auth_found f = {.has_keys = false};
	struct profile_view both = {.profile = p->profile};
	const char *wrong = p->use_environment ? take_environment(&f) : NULL;
	if (wrong)
		return wrong_keys(ret_message, "the environment's AWS keys", wrong);
	if (f.has_keys)
		text_copy(f.origin, "environment", sizeof(f.origin));
	bool keys_are_environment = f.has_keys;
	int err = read_files(p, &f, &both, ret_message);
	if (err == -EINVAL && keys_are_environment) {
		/* broken or forbidden files cost no more than the region */
		free(steal_ptr(*ret_message));
		err = 0;
	}
	if (!err && !both.exists && p->profile_is_named && !keys_are_environment)
		err = no_such_profile(p, ret_message);
	if (err) {
		explicit_bzero(&f, sizeof(f));
		return err;
	}
	take_region(&f, both.region);
	if (!f.has_keys)
		say_nothing_found(&f, p, &both);
	*ret = f;
	explicit_bzero(&f, sizeof(f));
	return 0;
}
