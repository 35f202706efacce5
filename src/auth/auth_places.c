/*
 * The environment of the AWS tools. Service endpoints: AWS_ENDPOINT_URL_<SERVICE>, else
 * AWS_ENDPOINT_URL, else the region's own; used as they stand.
 *
 * Source: AWS SDKs and Tools Reference Guide, "Environment variables supported" and
 * "Service-specific endpoints".
 */
#include "auth_places.h"

#include "auth_keys.h"

#include <pwd.h>

static const char *env_text(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : NULL;
}

static bool env_is_true(const char *name)
{
	const char *value = env_text(name);
	return value && strcasecmp(value, "true") == 0;
}

static const char *home_folder(void)
{
	const char *home = env_text("HOME");
	if (home)
		return home;
	const struct passwd *me = getpwuid(getuid());
	return me && me->pw_dir ? me->pw_dir : "/";
}

int auth_path_absolute(const struct auth_places *p, const char *path, char **ret)
{
	if (path[0] == '/')
		return (*ret = text_dup(path)) ? 0 : -ENOMEM;
	if (text_starts(path, "~/"))
		return text_printf(ret, "%s/%s", p->home, path + 2);
	return text_printf(ret, "%s/%s", p->start_folder, path);
}

void auth_path_for_people(const struct auth_places *p, const char *path, char *out, size_t size)
{
	size_t len = strlen(p->home);
	bool below = len > 1 && strncmp(path, p->home, len) == 0 && path[len] == '/';
	int n = snprintf(out, size, "%s%s", below ? "~" : "", below ? path + len : path);
	if (n < 0)
		out[0] = '\0';
}

/* ---- taking it over ------------------------------------------------------------------------- */

static int keep(char **to, const char *value)
{
	return (*to = text_dup(value ? value : "")) ? 0 : -ENOMEM;
}

static int keep_path(struct auth_places *p, char **to, const char *path)
{
	return path ? auth_path_absolute(p, path, to) : keep(to, NULL);
}

static int keep_profile(struct auth_places *p, const char *asked_for)
{
	const char *profile = asked_for;
	p->use_environment = !profile;
	if (!profile)
		profile = env_text("AWS_PROFILE");
	if (!profile)
		profile = env_text("AWS_DEFAULT_PROFILE");
	p->profile_is_named = profile;
	return keep(&p->profile, profile ? profile : "default");
}

static int keep_paths(struct auth_places *p, const struct auth_config *config)
{
	const char *credentials = env_text("AWS_SHARED_CREDENTIALS_FILE");
	const char *shared_config = env_text("AWS_CONFIG_FILE");
	const char *bundle = config->ca_bundle ? config->ca_bundle : env_text("AWS_CA_BUNDLE");
	int err = keep(&p->home, home_folder());
	if (!err && !(p->start_folder = getcwd(NULL, 0)))
		err = keep(&p->start_folder, "/"); /* it was deleted: relative paths lead nowhere */
	if (!err)
		err = auth_path_absolute(
			p, credentials ? credentials : "~/.aws/credentials", &p->credentials_path);
	if (!err)
		err = auth_path_absolute(
			p, shared_config ? shared_config : "~/.aws/config", &p->config_path);
	if (!err)
		err = keep_path(p, &p->ca_bundle, bundle);
	if (!err)
		err = keep_path(p, &p->web_token_path, env_text("AWS_WEB_IDENTITY_TOKEN_FILE"));
	if (!err)
		err = keep_path(p, &p->container_token_path,
			env_text("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"));
	return err;
}

static const char *endpoint_of(const char *own_name)
{
	const char *own = env_text(own_name), *any = env_text("AWS_ENDPOINT_URL");
	if (env_is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"))
		return NULL;
	return own ? own : any;
}

static int keep_names(struct auth_places *p, const struct auth_config *config)
{
	const char *region = config->region && *config->region ? config->region : NULL;
	if (!region)
		region = env_text("AWS_REGION");
	if (!region)
		region = env_text("AWS_DEFAULT_REGION");
	const struct {
		char **to;
		const char *value;
	} names[] = {
		{&p->region, region},
		{&p->role_arn, env_text("AWS_ROLE_ARN")},
		{&p->role_session, env_text("AWS_ROLE_SESSION_NAME")},
		{&p->container_relative, env_text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")},
		{&p->container_full, env_text("AWS_CONTAINER_CREDENTIALS_FULL_URI")},
		{&p->sts_endpoint, endpoint_of("AWS_ENDPOINT_URL_STS")},
		{&p->s3_control_endpoint, endpoint_of("AWS_ENDPOINT_URL_S3_CONTROL")},
		{&p->sso_endpoint, endpoint_of("AWS_ENDPOINT_URL_SSO")},
		{&p->metadata_endpoint, env_text("AWS_EC2_METADATA_SERVICE_ENDPOINT")},
	};
	for (size_t i = 0; i < array_len(names); i++)
		if (keep(names[i].to, names[i].value))
			return -ENOMEM;
	const char *mode = env_text("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
	if (!p->metadata_endpoint[0] && mode && strcasecmp(mode, "IPv6") == 0) {
		free(p->metadata_endpoint);
		p->metadata_endpoint = NULL;
		return keep(&p->metadata_endpoint, "http://[fd00:ec2::254]");
	}
	return 0;
}

static int keep_secrets(struct auth_places *p)
{
	static const char *const names[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
		"AWS_SESSION_TOKEN", "AWS_CREDENTIAL_EXPIRATION"};
	p->environment = secret_alloc(sizeof(*p->environment));
	if (!p->environment)
		return -ENOMEM;
	for (size_t i = 0; i < array_len(names); i++) {
		const char *value = env_text(names[i]);
		if (value && auth_keys_set(&p->environment->keys, names[i], value))
			p->environment->too_long = true;
	}
	const char *token = env_text("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	if (token && !auth_keys_copy(p->environment->container_token, token,
			     sizeof(p->environment->container_token)))
		p->environment->too_long = true;
	return 0;
}

int auth_places_init(struct auth_places *ret, const struct auth_config *config)
{
	struct auth_places p = {.metadata_disabled = env_is_true("AWS_EC2_METADATA_DISABLED")};
	int err = keep_profile(&p, config->profile);
	if (!err)
		err = keep_paths(&p, config);
	if (!err)
		err = keep_names(&p, config);
	if (!err)
		err = keep_secrets(&p);
	if (err) {
		auth_places_release(&p);
		return err;
	}
	*ret = p;
	return 0;
}

void auth_places_release(struct auth_places *p)
{
	char *const texts[] = {p->profile, p->home, p->start_folder, p->credentials_path,
		p->config_path, p->region, p->ca_bundle, p->role_arn, p->role_session,
		p->web_token_path, p->container_relative, p->container_full,
		p->container_token_path, p->sts_endpoint, p->s3_control_endpoint, p->sso_endpoint,
		p->metadata_endpoint};
	for (size_t i = 0; i < array_len(texts); i++)
		free(texts[i]);
	secret_free(p->environment);
	*p = (struct auth_places){0};
}

void auth_forget_environment(void)
{
	static const char *const names[] = {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"AWS_SECURITY_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"};
	for (size_t i = 0; i < array_len(names); i++) {
		char *value = getenv(names[i]);
		if (value)
			explicit_bzero(value, strlen(value));
	}
}
