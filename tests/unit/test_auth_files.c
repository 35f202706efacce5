/*
 * Credentials from the environment and the shared files: the chain, reading again.
 */
#include "auth_rig.h"

#define DEFAULT_PROFILE "[default]\naws_access_key_id = D\naws_secret_access_key = SECRETd\n"
#define LAB_PROFILE "[lab]\naws_access_key_id = L\naws_secret_access_key = SECRETl\n"

static void nothing_found(void **state)
{
	struct auth *a = auth_of(NULL);
	struct s3_credentials keys;

	assert_int_equal(auth_get(a, &keys), -ENOKEY);
	assert_describes(a, "none found: set AWS_ACCESS_KEY_ID");
	auth_destroy(a);
}

static void environment_comes_first(void **state)
{
	write_file(*state, "credentials", DEFAULT_PROFILE LAB_PROFILE);
	setenv("AWS_ACCESS_KEY_ID", "E", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SECRETe", 1);
	setenv("AWS_SESSION_TOKEN", "T", 1);
	setenv("AWS_PROFILE", "lab", 1);
	struct auth *a = auth_of(NULL);
	assert_keys(a, "E", "SECRETe", "T");
	assert_describes(a, "environment");
	auth_destroy(a);
	a = auth_of("lab"); /* a profile that was asked for wins */
	assert_keys(a, "L", "SECRETl", "");
	assert_describes(a, "profile lab in ~/.aws/credentials");
	auth_destroy(a);
}

static void profiles(void **state)
{
	write_file(*state, "credentials", DEFAULT_PROFILE LAB_PROFILE);
	struct auth *a = auth_of(NULL);
	assert_keys(a, "D", "SECRETd", "");
	auth_destroy(a);
	setenv("AWS_PROFILE", "lab", 1);
	a = auth_of(NULL);
	assert_keys(a, "L", "SECRETl", "");
	auth_destroy(a);
}

/* Both spellings in both files: the gallery's tutorial writes [cpg_staging] into ~/.aws/config. */
static void both_section_names_in_both_files(void **state)
{
	static const char *const files[] = {"credentials", "config"};
	static const char *const sections[] = {
		"[cpg_staging]", "[profile cpg_staging]", "[profile \"cpg_staging\"]"};

	for (size_t f = 0; f < 2; f++)
		for (size_t s = 0; s < array_len(sections); s++) {
			char text[256];
			snprintf(text, sizeof(text),
				"%s\naws_access_key_id=A%zu%zu\naws_secret_access_key=SECRET\n"
				"[cpg_staging2]\naws_access_key_id=wrong\n", sections[s], f, s);
			write_file(*state, files[f], text);
			write_file(*state, files[1 - f], "");
			struct auth *a = auth_of("cpg_staging");
			char expected[8];
			snprintf(expected, sizeof(expected), "A%zu%zu", f, s);
			assert_keys(a, expected, "SECRET", "");
			auth_destroy(a);
		}
}

static void credentials_file_before_config(void **state)
{
	char region[64];

	write_file(*state, "credentials", LAB_PROFILE);
	write_file(*state, "config",
		"[profile lab]\naws_access_key_id = C\naws_secret_access_key = SECRETc\n"
		"region = eu-west-1\n");
	struct auth *a = auth_of("lab");
	assert_keys(a, "L", "SECRETl", "");
	auth_region(a, region);
	assert_string_equal(region, "eu-west-1");
	auth_destroy(a);
	setenv("AWS_DEFAULT_REGION", "us-west-2", 1);
	a = auth_of("lab");
	auth_region(a, region);
	assert_string_equal(region, "us-west-2");
	auth_destroy(a);
	setenv("AWS_REGION", "us-east-2", 1);
	a = auth_of("lab");
	auth_region(a, region);
	assert_string_equal(region, "us-east-2");
	auth_destroy(a);
}

static void other_places(void **state)
{
	struct home *h = *state;
	char path[128];

	snprintf(path, sizeof(path), "%s/other", h->path);
	setenv("AWS_SHARED_CREDENTIALS_FILE", "~/other", 1);
	FILE *f = fopen(path, "w");
	fputs(LAB_PROFILE, f);
	fclose(f);
	write_file(h, "credentials", "[lab]\naws_access_key_id = wrong\n");
	struct auth *a = auth_of("lab");
	assert_keys(a, "L", "SECRETl", "");
	auth_destroy(a);
	assert_int_equal(chdir(h->path), 0);
	setenv("AWS_SHARED_CREDENTIALS_FILE", "other", 1);
	a = auth_of("lab");
	assert_int_equal(chdir("/"), 0); /* as a daemon does */
	clock_fake_advance_ms(2000);
	auth_tick(a);
	assert_keys(a, "L", "SECRETl", "");
	(void)auth_rejected(a, &(struct s3_credentials){.access_key = "L", .secret_key = "SECRETl"}, "x");
	assert_keys(a, "L", "SECRETl", "");
	auth_destroy(a);
	/* the same for the other file, whose sections are [profile lab] or [lab] */
	unsetenv("AWS_SHARED_CREDENTIALS_FILE");
	setenv("AWS_CONFIG_FILE", path, 1);
	write_file(h, "credentials", "");
	write_file(h, "config", "[profile lab]\naws_access_key_id = wrong\n");
	a = auth_of("lab");
	assert_keys(a, "L", "SECRETl", "");
	auth_destroy(a);
}

static void long_tokens(void **state)
{
	cleanup_buf struct buf text = {0};
	char token[4001];

	memset(token, 't', sizeof(token) - 1);
	token[sizeof(token) - 1] = '\0';
	buf_printf(&text, LAB_PROFILE "aws_session_token = %s\n", token);
	write_file(*state, "credentials", buf_text(&text));
	struct auth *a = auth_of("lab");
	assert_keys(a, "L", "SECRETl", token);
	auth_destroy(a);
	buf_clear(&text);
	buf_printf(&text, LAB_PROFILE "aws_session_token = %s%s\n", token, token);
	write_file(*state, "credentials", buf_text(&text));
	assert_refused("lab", "longer than any key");
}

static void refusals_say_what_to_do(void **state)
{
	write_file(*state, "credentials", LAB_PROFILE);
	assert_refused("typo", "there is no profile typo");
	setenv("AWS_PROFILE", "typo", 1);
	assert_refused(NULL, "there is no profile typo");
	unsetenv("AWS_PROFILE");
	write_file(*state, "credentials", "[lab]\naws_access_key_id = L\nSECRETl\n");
	assert_refused("lab", "credentials, line 3");
	write_file(*state, "credentials", "[lab]\naws_access_key_id = L\n");
	assert_refused("lab", "without a secret key");
	write_file(*state, "credentials",
		"[lab]\naws_access_key_id = L M\naws_secret_access_key = SECRET\n");
	assert_refused("lab", "a space");
	write_file(*state, "credentials", "");
	setenv("AWS_ACCESS_KEY_ID", "E", 1);
	assert_refused(NULL, "the environment's AWS keys: an access key id without a secret key");
}

static void broken_files_do_not_matter_to_environment_keys(void **state)
{
	write_file(*state, "config", "nonsense\n");
	setenv("AWS_ACCESS_KEY_ID", "E", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SECRETe", 1);
	struct auth *a = auth_of(NULL);
	assert_keys(a, "E", "SECRETe", "");
	auth_destroy(a);
}

static void profiles_without_keys_are_named(void **state)
{
	struct s3_credentials keys;

	write_file(*state, "config", "[profile jump-cp-role]\nregion = us-east-1\n");
	struct auth *a = auth_of("jump-cp-role");
	assert_int_equal(auth_get(a, &keys), -ENOKEY);
	assert_describes(a, "profile jump-cp-role holds no keys");
	auth_destroy(a);
}

static void anonymous(void **state)
{
	struct auth *a;
	struct s3_credentials keys;
	struct auth_config config = {.anonymous = true, .profile = "missing"};

	assert_int_equal(auth_create(&a, &config, NULL), 0);
	assert_int_equal(auth_get(a, &keys), 0);
	assert_true(keys.anonymous);
	assert_string_equal(keys.access_key, "");
	assert_describes(a, "not signed");
	auth_destroy(a);
}

/* ---- time --------------------------------------------------------------------------------------------- */

static void expiry(void **state)
{
	static const char *const stamps[] = {"aws_credential_expiration = 2026-03-01T12:01:00Z",
		"x_security_token_expires = 2026-03-01T13:01:00+01:00",
		"expiration = 2026-03-01T08:31:00-03:30"};

	for (size_t i = 0; i < array_len(stamps); i++) {
		char text[256];
		struct s3_credentials keys;
		snprintf(text, sizeof(text), LAB_PROFILE "%s\n", stamps[i]);
		write_file(*state, "credentials", text);
		struct auth *a = auth_of("lab");
		assert_int_equal(auth_get(a, &keys), 0);
		assert_int_equal(keys.expires_at_ns, INT64_C(1772366460) * NS_PER_S);
		clock_fake_advance_ms(59999);
		assert_int_equal(auth_get(a, &keys), 0);
		clock_fake_advance_ms(1);
		assert_int_equal(auth_get(a, &keys), -EKEYEXPIRED);
		auth_destroy(a);
		clock_fake_end();
		clock_fake_begin(INT64_C(1772366400) * NS_PER_S);
	}
	write_file(*state, "credentials", LAB_PROFILE "expiration = soon\n");
	struct auth *a = auth_of("lab");
	struct s3_credentials keys;
	assert_int_equal(auth_get(a, &keys), 0);
	assert_int_equal(keys.expires_at_ns, 0);
	auth_destroy(a);
}

static void changed_files_are_read_again(void **state)
{
	write_file(*state, "credentials", LAB_PROFILE);
	struct auth *a = auth_of("lab");
	assert_keys(a, "L", "SECRETl", "");
	write_file(*state, "credentials",
		"[lab]\naws_access_key_id = NEW\naws_secret_access_key = SECRETn\n");
	clock_fake_advance_ms(999); /* looked at most once a second */
	auth_tick(a);
	assert_keys(a, "L", "SECRETl", "");
	clock_fake_advance_ms(1);
	auth_tick(a);
	assert_keys(a, "NEW", "SECRETn", "");
	/* half a file: the old keys stay */
	write_file(*state, "credentials", "[lab]\naws_access_key_id = HALF\naws_sec");
	clock_fake_advance_ms(1000);
	auth_tick(a);
	assert_keys(a, "NEW", "SECRETn", "");
	write_file(*state, "credentials",
		"[lab]\naws_access_key_id = WHOLE\naws_secret_access_key = SECRETw\n");
	clock_fake_advance_ms(1000);
	auth_tick(a);
	assert_keys(a, "WHOLE", "SECRETw", "");
	auth_destroy(a);
}

static void keys_may_come_later(void **state)
{
	struct s3_credentials keys;
	struct auth *a = auth_of(NULL);

	assert_int_equal(auth_get(a, &keys), -ENOKEY);
	write_file(*state, "credentials", DEFAULT_PROFILE);
	clock_fake_advance_ms(1000);
	auth_tick(a);
	assert_keys(a, "D", "SECRETd", "");
	auth_destroy(a);
}

static void rejected_keys_are_looked_up_at_once(void **state)
{
	struct s3_credentials old, now;

	write_file(*state, "credentials", LAB_PROFILE);
	struct auth *a = auth_of("lab");
	struct s3_credentials_source source = auth_source(a);
	assert_int_equal(source.get(source.user, &old), 0);
	write_file(*state, "credentials",
		"[lab]\naws_access_key_id = NEW\naws_secret_access_key = SECRETn\n");
	/* a request that is wrong says nothing about the keys */
	assert_false(source.rejected(source.user, &old, "SignatureDoesNotMatch"));
	assert_keys(a, "L", "SECRETl", "");
	(void)source.rejected(source.user, &old, "ExpiredToken");
	assert_int_equal(source.get(source.user, &now), -EAGAIN);
	auth_tick(a);
	assert_keys(a, "NEW", "SECRETn", "");
	/* a late word on the old keys is no reason to look again, only to send again */
	write_file(*state, "credentials", LAB_PROFILE);
	assert_true(source.rejected(source.user, &old, "ExpiredToken"));
	auth_tick(a);
	assert_keys(a, "NEW", "SECRETn", "");
	auth_destroy(a);
}

/* Keys that nothing can replace: said once, tried again in a minute. */
static void rejected_keys_that_stay(void **state)
{
	struct s3_credentials keys, now;

	write_file(*state, "credentials", LAB_PROFILE);
	struct auth *a = auth_of("lab");
	uint64_t stamp = auth_stamp(a);
	assert_int_equal(auth_get(a, &keys), 0);
	assert_false(auth_rejected(a, &keys, "InvalidAccessKeyId"));
	auth_tick(a);
	assert_int_equal(auth_get(a, &now), -EKEYEXPIRED);
	assert_explains(a, "profile lab in ~/.aws/credentials: the server refuses them "
			   "(InvalidAccessKeyId); put new ones into that file");
	clock_fake_advance_ms(59000);
	auth_tick(a);
	assert_int_equal(auth_get(a, &now), -EKEYEXPIRED);
	clock_fake_advance_ms(1000);
	assert_int_equal(auth_get(a, &now), 0);
	assert_int_equal(auth_stamp(a), stamp);
	/* the server says so again */
	assert_false(auth_rejected(a, &keys, "InvalidAccessKeyId"));
	auth_tick(a);
	assert_int_equal(auth_get(a, &now), -EKEYEXPIRED);
	/* a file brings others within a second */
	write_file(*state, "credentials",
		"[lab]\naws_access_key_id = NEW\naws_secret_access_key = SECRETn\n");
	clock_fake_advance_ms(1000);
	auth_tick(a);
	assert_keys(a, "NEW", "SECRETn", "");
	assert_true(auth_stamp(a) != stamp);
	auth_destroy(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOME_TEST(nothing_found),
		HOME_TEST(environment_comes_first),
		HOME_TEST(profiles),
		HOME_TEST(both_section_names_in_both_files),
		HOME_TEST(credentials_file_before_config),
		HOME_TEST(other_places),
		HOME_TEST(long_tokens),
		HOME_TEST(refusals_say_what_to_do),
		HOME_TEST(broken_files_do_not_matter_to_environment_keys),
		HOME_TEST(profiles_without_keys_are_named),
		HOME_TEST(anonymous),
		HOME_TEST(expiry),
		HOME_TEST(changed_files_are_read_again),
		HOME_TEST(keys_may_come_later),
		HOME_TEST(rejected_keys_are_looked_up_at_once),
		HOME_TEST(rejected_keys_that_stay),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
