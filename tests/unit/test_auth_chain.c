/*
 * Which way to credentials environment and files say, in the order of the AWS tools; nothing is
 * asked for.
 */
#include "auth_rig.h"

static struct auth_places places;
static struct auth_recipe recipe;
static char *message;

static int find(const char *profile)
{
	struct auth_config config = {.profile = profile};
	auth_recipe_release(&recipe);
	auth_places_release(&places);
	free(steal_ptr(message));
	assert_int_equal(auth_places_init(&places, &config), 0);
	return auth_chain_find(&recipe, &places, &message);
}

static void found(const char *profile, enum auth_kind kind)
{
	int err = find(profile);
	if (err)
		print_error("%s\n", message);
	assert_int_equal(err, 0);
	assert_int_equal(recipe.kind, kind);
}

static void refused(const char *profile, const char *part)
{
	assert_int_equal(find(profile), -EINVAL);
	assert_non_null(message);
	if (!strstr(message, part))
		print_error("\"%s\" lacks \"%s\"\n", message, part);
	assert_non_null(strstr(message, part));
}

static int chain_end(void **state)
{
	auth_recipe_release(&recipe);
	auth_places_release(&places);
	free(steal_ptr(message));
	return home_end(state);
}
#define CHAIN_TEST(f) cmocka_unit_test_setup_teardown(f, home_begin, chain_end)

#define KEYS "aws_access_key_id = K\naws_secret_access_key = SECRETk\n"

/* ---- roles ---------------------------------------------------------------------------------- */

static void a_role_of_a_profile_with_keys(void **state)
{
	write_file(*state, "credentials", "[default]\n" KEYS);
	write_file(*state, "config",
		"[profile jump-cp-role]\nrole_arn = "
		"arn:aws:iam::385009899373:role/add-jump-cp-role\n"
		"source_profile = default\nexternal_id = E\nrole_session_name = me\n"
		"duration_seconds = 7200\nregion = us-east-1\n");
	found("jump-cp-role", AUTH_KIND_STATIC);
	assert_string_equal(recipe.keys->access_key, "K");
	assert_int_equal(recipe.role_count, 1);
	assert_string_equal(recipe.roles[0].arn, "arn:aws:iam::385009899373:role/add-jump-cp-role");
	assert_string_equal(recipe.roles[0].external_id, "E");
	assert_string_equal(recipe.roles[0].session, "me");
	assert_int_equal(recipe.roles[0].duration_s, 7200);
	assert_string_equal(recipe.region, "us-east-1");
	assert_string_equal(recipe.origin,
		"role arn:aws:iam::385009899373:role/add-jump-cp-role by "
		"profile jump-cp-role in ~/.aws/config");
}

static void roles_in_a_row(void **state)
{
	write_file(*state, "config",
		"[profile a]\nrole_arn = A\nsource_profile = b\n"
		"[profile b]\nrole_arn = B\nsource_profile = c\n"
		"[profile c]\nrole_arn = C\nsource_profile = d\n[profile d]\n" KEYS);
	found("a", AUTH_KIND_STATIC);
	assert_int_equal(recipe.role_count, 3);
	assert_string_equal(recipe.roles[0].arn, "C");
	assert_string_equal(recipe.roles[1].arn, "B");
	assert_string_equal(recipe.roles[2].arn, "A");
	assert_null(recipe.roles[0].external_id);
	assert_int_equal(recipe.roles[0].duration_s, 0);
	/* a source's own keys come before its role */
	write_file(
		*state, "credentials", "[b]\naws_access_key_id=B\naws_secret_access_key=SECRETb\n");
	found("a", AUTH_KIND_STATIC);
	assert_int_equal(recipe.role_count, 1);
	assert_string_equal(recipe.keys->access_key, "B");
	/* of the profile itself the role comes first */
	found("b", AUTH_KIND_STATIC);
	assert_int_equal(recipe.role_count, 2);
}

/* Appended anew each time: nothing of an older section is used with the keys of a newer one. */
static void sections_of_one_profile_are_not_mixed(void **state)
{
	write_file(*state, "credentials",
		"[lab]\naws_access_key_id = OLD\naws_secret_access_key = SECRETold\n"
		"aws_session_token = TOLD\naws_expiration = 2026-03-01T13:00:00Z\n"
		"[lab]\naws_secret_access_key = SECRETnew\naws_access_key_id = NEW\n");
	found("lab", AUTH_KIND_STATIC);
	assert_string_equal(recipe.keys->access_key, "NEW");
	assert_string_equal(recipe.keys->secret_key, "SECRETnew");
	assert_string_equal(recipe.keys->session_token, "");
	assert_int_equal(recipe.keys->expires_at_ns, 0);
	write_file(*state, "credentials",
		"[profile lab]\n" KEYS "[other]\n" KEYS "[lab]\naws_access_key_id = NEW\n");
	refused("lab", "an access key id without a secret key");
}

static void loops_are_refused(void **state)
{
	write_file(*state, "config",
		"[profile a]\nrole_arn = A\nsource_profile = b\n"
		"[profile b]\nrole_arn = B\nsource_profile = c\n"
		"[profile c]\nrole_arn = C\nsource_profile = b\n"
		"[profile self]\nrole_arn = S\nsource_profile = self\n"
		"[profile own]\nrole_arn = O\nsource_profile = own\n" KEYS);
	refused("a", "profile a: its source_profile b leads back");
	refused("self", "leads back");
	found("own", AUTH_KIND_STATIC);
	assert_int_equal(recipe.role_count, 1);
	cleanup_buf struct buf text = {0};
	for (int i = 0; i < 12; i++)
		buf_printf(&text, "[profile p%d]\nrole_arn = R%d\nsource_profile = p%d\n", i, i,
			i + 1);
	buf_add_text(&text, "[profile p12]\n" KEYS);
	write_file(*state, "config", buf_text(&text));
	refused("p0", "more than 8 roles in a row");
	found("p5", AUTH_KIND_STATIC);
	assert_int_equal(recipe.role_count, 7);
}

static void roles_that_cannot_be_meant(void **state)
{
	write_file(*state, "config",
		"[profile none]\nrole_arn = A\n"
		"[profile both]\nrole_arn = A\nsource_profile = k\ncredential_source = "
		"Environment\n"
		"[profile gone]\nrole_arn = A\nsource_profile = nowhere\n"
		"[profile empty]\nrole_arn = A\nsource_profile = bare\n[profile bare]\nregion = r\n"
		"[profile odd]\nrole_arn = A\ncredential_source = Moon\n"
		"[profile env]\nrole_arn = A\ncredential_source = Environment\n"
		"[profile long]\nrole_arn = A\nsource_profile = k\nduration_seconds = 43201\n"
		"[profile mfa]\nrole_arn = A\nsource_profile = k\nmfa_serial = "
		"arn:aws:iam::1:mfa/me\n"
		"[profile k]\n" KEYS);
	refused("none", "needs source_profile or credential_source");
	refused("both", "not both");
	refused("gone", "names source_profile nowhere, which does not exist");
	refused("empty", "source_profile bare, which holds no credentials");
	refused("odd", "credential_source Moon is none of Environment");
	refused("env", "credential_source Environment, which has none here");
	refused("long", "duration_seconds must be 900 to 43200");
	refused("mfa", "aws configure export-credentials --profile mfa");
}

static void credential_sources(void **state)
{
	write_file(*state, "config",
		"[profile env]\nrole_arn = A\ncredential_source = Environment\n"
		"[profile ecs]\nrole_arn = A\ncredential_source = EcsContainer\n"
		"[profile ec2]\nrole_arn = A\ncredential_source = Ec2InstanceMetadata\n");
	setenv("AWS_ACCESS_KEY_ID", "E", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SECRETe", 1);
	found("env", AUTH_KIND_STATIC);
	assert_string_equal(recipe.keys->access_key, "E");
	assert_int_equal(recipe.role_count, 1);
	refused("ecs", "EcsContainer, which has none here");
	setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x", 1);
	found("ecs", AUTH_KIND_CONTAINER);
	assert_int_equal(recipe.role_count, 1);
	refused("ec2", "Ec2InstanceMetadata, which has none here");
	unsetenv("AWS_EC2_METADATA_DISABLED");
	found("ec2", AUTH_KIND_INSTANCE);
}

/* ---- the others ----------------------------------------------------------------------------- */

static void sso_profiles(void **state)
{
	char path[160];
	write_file(*state, "config",
		"[profile new]\nsso_session = lab\nsso_account_id = 1\nsso_role_name = up\n"
		"[sso-session lab]\nsso_start_url = https://x\nsso_region = eu-west-1\n"
		"[profile old]\nsso_start_url = https://x.awsapps.com/start\nsso_region = "
		"us-east-1\n"
		"sso_account_id = 2\nsso_role_name = r\n"
		"[profile lacks]\nsso_session = lab\nsso_account_id = 1\n"
		"[profile gone]\nsso_session = nowhere\nsso_account_id = 1\nsso_role_name = r\n");
	found("new", AUTH_KIND_SSO);
	/* sha1("lab"), sha1("https://x.awsapps.com/start"): what `aws sso login` writes */
	snprintf(path, sizeof(path),
		"%s/.aws/sso/cache/3953f9ddf975ab5097ee468d99555c5b441169bf.json",
		((struct home *)*state)->path);
	assert_string_equal(recipe.sso.cache_path, path);
	assert_string_equal(recipe.sso.region, "eu-west-1");
	assert_string_equal(recipe.sso.account, "1");
	assert_string_equal(recipe.sso.role, "up");
	assert_string_equal(recipe.remedy, "aws sso login --profile new");
	assert_string_equal(recipe.watch[0], recipe.sso.cache_path);
	found("old", AUTH_KIND_SSO);
	assert_true(
		text_ends(recipe.sso.cache_path, "/3947de8b16688092197fa616c34e01335f21d256.json"));
	assert_string_equal(recipe.sso.region, "us-east-1");
	refused("lacks", "profile lacks lacks sso_role_name");
	refused("gone", "there is no section [sso-session nowhere]");
	/* keys of the environment are not the profile's */
	setenv("AWS_ACCESS_KEY_ID", "E", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SECRETe", 1);
	found("new", AUTH_KIND_SSO);
	setenv("AWS_PROFILE", "new", 1);
	found(NULL, AUTH_KIND_STATIC);
}

static void web_identity(void **state)
{
	write_file(*state, "config",
		"[profile web]\nrole_arn = R\nweb_identity_token_file = ~/token\n"
		"role_session_name = s\n[profile half]\nweb_identity_token_file = /t\n" KEYS);
	found("web", AUTH_KIND_WEB);
	assert_int_equal(recipe.role_count, 0);
	assert_string_equal(recipe.web.arn, "R");
	assert_string_equal(recipe.web.session, "s");
	assert_true(text_ends(recipe.watch[0], "/token"));
	assert_int_equal(recipe.watch[0][0], '/');
	refused("half", "profile half names a web identity token file, but no role");
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token", 1);
	refused(NULL, "set AWS_ROLE_ARN");
	setenv("AWS_ROLE_ARN", "E", 1);
	found(NULL, AUTH_KIND_WEB);
	assert_string_equal(recipe.web.arn, "E");
	assert_string_equal(recipe.watch[0], "/var/run/token");
	found("web", AUTH_KIND_WEB); /* a profile that was asked for: not the environment */
	assert_string_equal(recipe.web.arn, "R");
}

static void the_order_within_a_profile(void **state)
{
	static const char all[] = "credential_process = /bin/p\n" KEYS;
	cleanup_buf struct buf text = {0};
	buf_printf(&text, "[profile p]\n%s", all);
	write_file(*state, "config", buf_text(&text));
	found("p", AUTH_KIND_PROCESS); /* before keys in the config file */
	assert_string_equal(recipe.process, "/bin/p");
	write_file(*state, "credentials",
		"[p]\naws_access_key_id = C\naws_secret_access_key = SECRETc\n");
	found("p", AUTH_KIND_STATIC); /* keys in the credentials file before that */
	assert_string_equal(recipe.keys->access_key, "C");
	buf_add_text(&text,
		"sso_start_url = u\nsso_region = r\nsso_account_id = 1\nsso_role_name = n\n");
	write_file(*state, "config", buf_text(&text));
	found("p", AUTH_KIND_SSO);
	buf_add_text(&text, "web_identity_token_file = /t\nrole_arn = R\n");
	write_file(*state, "config", buf_text(&text));
	found("p", AUTH_KIND_WEB);
	write_file(*state, "config", "[profile p]\nrole_arn = R\nsource_profile = p\n");
	found("p", AUTH_KIND_STATIC);
	assert_int_equal(recipe.role_count, 1);
}

static void the_machine_comes_last(void **state)
{
	found(NULL, AUTH_KIND_NONE);
	unsetenv("AWS_EC2_METADATA_DISABLED");
	found(NULL, AUTH_KIND_INSTANCE);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/x", 1);
	found(NULL, AUTH_KIND_CONTAINER);
	write_file(*state, "credentials", "[default]\n" KEYS);
	found(NULL, AUTH_KIND_STATIC);
	setenv("AWS_ACCESS_KEY_ID", "E", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SECRETe", 1);
	found(NULL, AUTH_KIND_STATIC);
	assert_string_equal(recipe.keys->access_key, "E");
	assert_string_equal(recipe.origin, "environment");
}

static void certificates_and_endpoints(void **state)
{
	write_file(*state, "config", "[profile p]\nca_bundle = ~/ca.pem\n" KEYS);
	found("p", AUTH_KIND_STATIC);
	assert_true(text_ends(recipe.ca_bundle, "/ca.pem"));
	setenv("AWS_CA_BUNDLE", "/etc/ca", 1);
	setenv("AWS_ENDPOINT_URL", "https://any", 1);
	setenv("AWS_ENDPOINT_URL_STS", "https://sts", 1);
	found("p", AUTH_KIND_STATIC);
	assert_string_equal(recipe.ca_bundle, "/etc/ca");
	assert_string_equal(places.sts_endpoint, "https://sts");
	assert_string_equal(places.s3_control_endpoint, "https://any");
	setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", 1);
	found("p", AUTH_KIND_STATIC);
	assert_string_equal(places.sts_endpoint, "");
}

/* What another program sees of this process has no secret any more. */
static void the_environment_is_forgotten(void **state)
{
	setenv("AWS_ACCESS_KEY_ID", "E", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SECRETe", 1);
	setenv("AWS_SESSION_TOKEN", "SECRETt", 1);
	const char *secret = getenv("AWS_SECRET_ACCESS_KEY");
	struct auth *a = auth_of(NULL);
	auth_forget_environment();
	assert_string_equal(getenv("AWS_SECRET_ACCESS_KEY"), "");
	assert_string_equal(getenv("AWS_SESSION_TOKEN"), "");
	for (int i = 0; i < 7; i++)
		assert_int_equal(secret[i], 0);
	assert_keys(a, "E", "SECRETe", "SECRETt");
	auth_renew(a); /* from the copies */
	auth_tick(a);
	assert_keys(a, "E", "SECRETe", "SECRETt");
	auth_destroy(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CHAIN_TEST(a_role_of_a_profile_with_keys),
		CHAIN_TEST(roles_in_a_row),
		CHAIN_TEST(sections_of_one_profile_are_not_mixed),
		CHAIN_TEST(loops_are_refused),
		CHAIN_TEST(roles_that_cannot_be_meant),
		CHAIN_TEST(credential_sources),
		CHAIN_TEST(sso_profiles),
		CHAIN_TEST(web_identity),
		CHAIN_TEST(the_order_within_a_profile),
		CHAIN_TEST(the_machine_comes_last),
		CHAIN_TEST(certificates_and_endpoints),
		CHAIN_TEST(the_environment_is_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
