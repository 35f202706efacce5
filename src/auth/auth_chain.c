/*
 * The chain, in the order of the AWS tools:
 *
 *   1 keys in the environment (not if a profile was asked for by --profile)
 *   2 the profile's role_arn with source_profile or credential_source
 *   3 web identity: of the environment, else the profile's
 *   4 the profile's sso_session or sso_start_url
 *   5 the profile's keys in the credentials file
 *   6 the profile's credential_process
 *   7 the profile's keys in the config file
 *   8 the container's endpoint
 *   9 EC2 instance metadata
 *
 * A source_profile is asked 2 to 7 again, but keys of its own come before its role. A profile may
 * name itself as its source if it has keys; any other loop is refused.
 *
 * Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers" and "Assume role
 * credential provider".
 */
#include "auth_chain.h"

#include "auth_keys.h"

#include <openssl/evp.h>

#define ANY_FILE (AUTH_CREDENTIALS_FILE | AUTH_CONFIG_FILE)
#define DURATION_MIN_S 900
#define DURATION_MAX_S 43200

struct finding {
	const struct auth_places *places;
	struct auth_settings settings;
	struct auth_recipe *recipe;
	const char *visited[AUTH_ROLES_MAX + 1];
	size_t visited_count;
	char **ret_message;
};

static int refuse(struct finding *f, const char *fmt, ...) printf_like(2, 3);
static int refuse(struct finding *f, const char *fmt, ...)
{
	char text[1024];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	*f->ret_message = text_dup(text);
	return *f->ret_message ? -EINVAL : -ENOMEM;
}

static int keep(char **to, const char *value)
{
	return (*to = text_dup(value)) ? 0 : -ENOMEM;
}

static int watch(struct auth_recipe *r, const char *path)
{
	check(r->watch_count < AUTH_WATCH_MAX);
	return keep(&r->watch[r->watch_count++], path);
}

static const char *get(struct finding *f, const char *profile, const char *name)
{
	return auth_profile_get(&f->settings, profile, name, ANY_FILE);
}

/* "profile lab in ~/.aws/config" */
static void say_profile(struct finding *f, const char *profile, bool in_config, char out[200])
{
	char path[120];
	auth_path_for_people(f->places,
		in_config ? f->places->config_path : f->places->credentials_path, path,
		sizeof(path));
	snprintf(out, 200, "profile %.60s in %s", profile, path);
}

/* ---- keys ---------------------------------------------------------------------------------------
 */

static int take_static(struct finding *f, const struct s3_credentials *keys, const char *origin,
	const char *remedy)
{
	struct auth_recipe *r = f->recipe;
	r->keys = secret_alloc(sizeof(*r->keys));
	if (!r->keys)
		return -ENOMEM;
	*r->keys = *keys;
	r->kind = AUTH_KIND_STATIC;
	text_copy(r->origin, origin, sizeof(r->origin));
	text_copy(r->remedy, remedy, sizeof(r->remedy));
	return 0;
}

/* 0: taken; -ENOENT: there are none. */
static int from_environment(struct finding *f)
{
	const struct auth_environment_keys *e = f->places->environment;
	const char *wrong = NULL;
	if (auth_keys_are_empty(&e->keys) && !e->too_long)
		return -ENOENT;
	wrong = e->too_long ? "a value is longer than any key" : auth_keys_check(&e->keys);
	if (wrong)
		return refuse(f, "the environment's AWS keys: %s", wrong);
	return take_static(f, &e->keys, "environment",
		"hand over new ones with `cpgfs credentials MOUNTPOINT`, or mount again with new "
		"ones in the environment");
}

static int from_one_file(struct finding *f, const char *profile, unsigned file)
{
	static const char *const names[] = {"aws_access_key_id", "aws_secret_access_key",
		"aws_session_token", "aws_security_token", "aws_credential_expiration",
		"aws_expiration", "aws_session_expiration", "expiration",
		"x_security_token_expires"};
	cleanup_secret struct s3_credentials *keys = secret_alloc(sizeof(*keys));
	bool too_long = false;
	char origin[200], remedy[256];
	if (!keys)
		return -ENOMEM;
	for (size_t i = 0; i < array_len(names); i++) {
		const char *value = auth_profile_get_key(&f->settings, profile, names[i], file);
		if (value && auth_keys_set(keys, names[i], value))
			too_long = true;
	}
	if (auth_keys_are_empty(keys) && !too_long)
		return -ENOENT;
	say_profile(f, profile, file == AUTH_CONFIG_FILE, origin);
	const char *wrong = too_long ? "a value is longer than any key" : auth_keys_check(keys);
	if (wrong)
		return refuse(f, "%s: %s", origin, wrong);
	snprintf(remedy, sizeof(remedy),
		"put new ones into that file (seen at once), or hand them over with `cpgfs "
		"credentials MOUNTPOINT`");
	return take_static(f, keys, origin, remedy);
}

/* ---- ways to ask for keys ------------------------------------------------------------------- */

static int from_process(struct finding *f, const char *profile)
{
	const char *command = get(f, profile, "credential_process");
	struct auth_recipe *r = f->recipe;
	if (!command)
		return -ENOENT;
	r->kind = AUTH_KIND_PROCESS;
	snprintf(r->origin, sizeof(r->origin), "credential_process of profile %.60s", profile);
	snprintf(r->remedy, sizeof(r->remedy),
		"run the credential_process of profile %.60s by hand to see what it lacks",
		profile);
	return keep(&r->process, command);
}

/* [sso-session x] of the profile's sso_session, or the older settings in the profile itself. */
static const char *sso_setting(
	struct finding *f, const char *profile, const char *session, const char *name)
{
	return session ? auth_section_get(&f->settings, "sso-session", session, name)
		       : get(f, profile, name);
}

static int sso_cache_path(struct finding *f, const char *key)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	char hex[2 * EVP_MAX_MD_SIZE + 1];
	if (!EVP_Digest(key, strlen(key), digest, &len, EVP_sha1(), NULL))
		return -ENOMEM;
	hex_encode(digest, len, hex);
	return text_printf(
		&f->recipe->sso.cache_path, "%s/.aws/sso/cache/%s.json", f->places->home, hex);
}

static int from_sso(struct finding *f, const char *profile)
{
	struct auth_recipe *r = f->recipe;
	const char *session = get(f, profile, "sso_session");
	const char *start_url = sso_setting(f, profile, session, "sso_start_url");
	const char *region = sso_setting(f, profile, session, "sso_region");
	const char *account = get(f, profile, "sso_account_id");
	const char *role = get(f, profile, "sso_role_name");
	if (!session && !start_url)
		return -ENOENT;
	if (session && !auth_section_exists(&f->settings, "sso-session", session))
		return refuse(f,
			"profile %s names sso_session %s, but there is no section "
			"[sso-session %s]; `aws configure sso` writes one",
			profile, session, session);
	if (!start_url || !region || !account || !role)
		return refuse(f,
			"profile %s lacks %s for sign-in by SSO; `aws configure sso "
			"--profile %s` writes it",
			profile,
			!start_url ? "sso_start_url"
			: !region  ? "sso_region"
			: !account ? "sso_account_id"
				   : "sso_role_name",
			profile);
	r->kind = AUTH_KIND_SSO;
	snprintf(r->origin, sizeof(r->origin), "SSO role %.60s of profile %.60s", role, profile);
	snprintf(r->remedy, sizeof(r->remedy), "aws sso login --profile %.80s", profile);
	int err = sso_cache_path(f, session ? session : start_url);
	if (!err)
		err = keep(&r->sso.region, region);
	if (!err)
		err = keep(&r->sso.account, account);
	if (!err)
		err = keep(&r->sso.role, role);
	return err ? err : watch(r, r->sso.cache_path);
}

/* The environment names token file and role together, or the profile does. */
static int from_web_identity(struct finding *f, const char *profile, bool environment_counts)
{
	const struct auth_places *p = f->places;
	struct auth_recipe *r = f->recipe;
	bool from_env = environment_counts && p->web_token_path[0];
	const char *file = get(f, profile, "web_identity_token_file");
	const char *arn = from_env ? p->role_arn : get(f, profile, "role_arn");
	const char *session = from_env ? p->role_session : get(f, profile, "role_session_name");
	if (!from_env && !file)
		return -ENOENT;
	if (!arn || !*arn)
		return refuse(f, "%s%s names a web identity token file, but no role: set %s",
			from_env ? "the environment" : "profile ", from_env ? "" : profile,
			from_env ? "AWS_ROLE_ARN" : "role_arn");
	r->kind = AUTH_KIND_WEB;
	snprintf(r->origin, sizeof(r->origin), "role %.120s by web identity token", arn);
	int err = from_env ? watch(r, p->web_token_path) : 0;
	if (!from_env) {
		err = auth_path_absolute(p, file, &r->watch[r->watch_count]);
		r->watch_count += !err;
	}
	if (!err)
		err = keep(&r->web.arn, arn);
	if (!err && session && *session)
		err = keep(&r->web.session, session);
	if (!err)
		snprintf(r->remedy, sizeof(r->remedy), "renew the token in %.180s", r->watch[0]);
	return err;
}

static int from_container(struct finding *f)
{
	const struct auth_places *p = f->places;
	struct auth_recipe *r = f->recipe;
	if (!p->container_relative[0] && !p->container_full[0])
		return -ENOENT;
	r->kind = AUTH_KIND_CONTAINER;
	text_copy(r->origin, "the container's credentials endpoint", sizeof(r->origin));
	text_copy(r->remedy, "see whether the task or pod has a role", sizeof(r->remedy));
	return p->container_token_path[0] ? watch(r, p->container_token_path) : 0;
}

static int from_instance(struct finding *f)
{
	if (f->places->metadata_disabled)
		return -ENOENT;
	f->recipe->kind = AUTH_KIND_INSTANCE;
	text_copy(f->recipe->origin, "the role of this EC2 instance", sizeof(f->recipe->origin));
	return 0;
}

/* ---- roles ---------------------------------------------------------------------------------- */

static bool has_role(struct finding *f, const char *profile)
{
	return get(f, profile, "role_arn") && !get(f, profile, "web_identity_token_file");
}

static bool has_keys(struct finding *f, const char *profile)
{
	return get(f, profile, "aws_access_key_id") || get(f, profile, "aws_secret_access_key");
}

static int from_profile(struct finding *f, const char *profile, bool environment_counts);
static int from_role(struct finding *f, const char *profile);

static int from_source_profile(struct finding *f, const char *profile, const char *source)
{
	if (!auth_profile_exists(&f->settings, source))
		return refuse(f, "profile %s names source_profile %s, which does not exist",
			profile, source);
	for (size_t i = 0; i < f->visited_count; i++) {
		bool itself = strcmp(source, profile) == 0 && has_keys(f, source);
		if (strcmp(f->visited[i], source) == 0 && !itself)
			return refuse(f,
				"profile %s: its source_profile %s leads back to it; one "
				"profile of this loop must have keys of its own",
				f->visited[0], source);
	}
	if (has_role(f, source) && !has_keys(f, source))
		return from_role(f, source);
	int err = from_profile(f, source, false);
	if (err == -ENOENT)
		return refuse(f, "profile %s names source_profile %s, which holds no credentials",
			profile, source);
	return err;
}

static int from_credential_source(struct finding *f, const char *profile, const char *source)
{
	int err = -EINVAL;
	if (strcmp(source, "Environment") == 0)
		err = from_environment(f);
	else if (strcmp(source, "EcsContainer") == 0)
		err = from_container(f);
	else if (strcmp(source, "Ec2InstanceMetadata") == 0)
		err = from_instance(f);
	else
		return refuse(f,
			"profile %s: credential_source %s is none of Environment, "
			"EcsContainer, Ec2InstanceMetadata",
			profile, source);
	if (err == -ENOENT)
		return refuse(f,
			"profile %s takes its keys from credential_source %s, which has "
			"none here",
			profile, source);
	return err;
}

static int take_role(struct finding *f, const char *profile)
{
	struct auth_recipe *r = f->recipe;
	struct auth_role *role = &r->roles[r->role_count];
	const char *duration = get(f, profile, "duration_seconds");
	const char *external = get(f, profile, "external_id");
	const char *session = get(f, profile, "role_session_name");
	uint64_t seconds = 0;
	if (duration && (u64_parse(duration, &seconds) || seconds < DURATION_MIN_S ||
				seconds > DURATION_MAX_S))
		return refuse(f, "profile %s: duration_seconds must be %d to %d", profile,
			DURATION_MIN_S, DURATION_MAX_S);
	r->role_count++;
	role->duration_s = (unsigned)seconds;
	int err = keep(&role->arn, get(f, profile, "role_arn"));
	if (!err && external)
		err = keep(&role->external_id, external);
	if (!err && session)
		err = keep(&role->session, session);
	return err;
}

/* The innermost source first: roles[] is filled on the way back. */
static int from_role(struct finding *f, const char *profile)
{
	const char *source = get(f, profile, "source_profile");
	const char *from = get(f, profile, "credential_source");
	if (f->visited_count == AUTH_ROLES_MAX)
		return refuse(f, "profile %s: more than %d roles in a row", f->visited[0],
			AUTH_ROLES_MAX);
	f->visited[f->visited_count++] = profile;
	if (get(f, profile, "mfa_serial"))
		return refuse(f,
			"profile %s wants a code of an MFA device, which cannot be typed "
			"here: let `aws configure export-credentials --profile %s` ask for "
			"it and put what it prints into the environment",
			profile, profile);
	if (!source == !from)
		return refuse(f, "profile %s has role_arn and needs %s", profile,
			source ? "source_profile or credential_source, not both"
			       : "source_profile or credential_source with it");
	int err = source ? from_source_profile(f, profile, source)
			 : from_credential_source(f, profile, from);
	return err ? err : take_role(f, profile);
}

/* ---- in order ------------------------------------------------------------------------------- */

static int from_profile(struct finding *f, const char *profile, bool environment_counts)
{
	int err = from_web_identity(f, profile, environment_counts);
	if (err == -ENOENT)
		err = from_sso(f, profile);
	if (err == -ENOENT)
		err = from_one_file(f, profile, AUTH_CREDENTIALS_FILE);
	if (err == -ENOENT)
		err = from_process(f, profile);
	if (err == -ENOENT)
		err = from_one_file(f, profile, AUTH_CONFIG_FILE);
	return err;
}

static int no_such_profile(struct finding *f)
{
	return refuse(f,
		"there is no profile %s in %s or %s; \"aws configure --profile %s\" makes one",
		f->places->profile, f->places->credentials_path, f->places->config_path,
		f->places->profile);
}

static int from_files(struct finding *f)
{
	const struct auth_places *p = f->places;
	if (f->settings.broken)
		return refuse(f, "%s", f->settings.broken);
	if (p->profile_is_named && !auth_profile_exists(&f->settings, p->profile))
		return no_such_profile(f);
	int err = has_role(f, p->profile) ? from_role(f, p->profile)
					  : from_profile(f, p->profile, p->use_environment);
	if (!err && f->recipe->role_count) {
		char where[200];
		say_profile(f, p->profile,
			!auth_profile_get(
				&f->settings, p->profile, "role_arn", AUTH_CREDENTIALS_FILE),
			where);
		snprintf(f->recipe->origin, sizeof(f->recipe->origin), "role %.100s by %.140s",
			f->recipe->roles[f->recipe->role_count - 1].arn, where);
	}
	return err;
}

static int find(struct finding *f)
{
	int err = f->places->use_environment ? from_environment(f) : -ENOENT;
	if (err == -ENOENT)
		err = from_files(f);
	if (err == -ENOENT)
		err = from_container(f);
	if (err == -ENOENT)
		err = from_instance(f);
	return err;
}

static void say_nothing_found(struct finding *f)
{
	struct auth_recipe *r = f->recipe;
	const char *profile = f->places->profile;
	if (auth_profile_exists(&f->settings, profile))
		snprintf(r->remedy, sizeof(r->remedy),
			"profile %.60s holds no keys: add aws_access_key_id and "
			"aws_secret_access_key, or name another with --profile",
			profile);
	else
		snprintf(r->remedy, sizeof(r->remedy),
			"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with "
			"--profile");
	if (r->kind == AUTH_KIND_NONE)
		text_copy(r->origin, "none found", sizeof(r->origin));
}

/* Keys of the environment don't need the files: these may be broken or forbidden. */
static int take_surroundings(struct finding *f)
{
	const struct auth_places *p = f->places;
	const char *region = p->region[0] ? p->region : get(f, p->profile, "region");
	const char *bundle = get(f, p->profile, "ca_bundle");
	if (region && !text_copy(f->recipe->region, region, sizeof(f->recipe->region)))
		return refuse(f, "the region's name is longer than any");
	if (p->ca_bundle[0])
		return keep(&f->recipe->ca_bundle, p->ca_bundle);
	return bundle ? auth_path_absolute(p, bundle, &f->recipe->ca_bundle) : 0;
}

int auth_chain_find(struct auth_recipe *ret, const struct auth_places *p, char **ret_message)
{
	struct auth_recipe r = {.kind = AUTH_KIND_NONE};
	struct finding f = {.places = p, .recipe = &r, .ret_message = ret_message};
	int err = auth_settings_read(&f.settings, p);
	if (!err)
		err = find(&f);
	if (err == -ENOENT)
		err = 0;
	if (!err && (r.kind == AUTH_KIND_NONE || r.kind == AUTH_KIND_INSTANCE))
		say_nothing_found(&f);
	if (!err)
		err = take_surroundings(&f);
	auth_settings_release(&f.settings);
	if (err) {
		auth_recipe_release(&r);
		return err;
	}
	*ret = r;
	return 0;
}

static void role_release(struct auth_role *role)
{
	free(role->arn);
	free(role->external_id);
	free(role->session);
}

void auth_recipe_release(struct auth_recipe *r)
{
	secret_free(r->keys);
	free(r->ca_bundle);
	free(r->process);
	role_release(&r->web);
	free(r->sso.cache_path);
	free(r->sso.region);
	free(r->sso.account);
	free(r->sso.role);
	for (size_t i = 0; i < r->role_count; i++)
		role_release(&r->roles[i]);
	for (size_t i = 0; i < r->watch_count; i++)
		free(r->watch[i]);
	*r = (struct auth_recipe){.kind = AUTH_KIND_NONE};
}
