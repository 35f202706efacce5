/*
 * S3 Access Grants: the request as S3 Control wants it, what is checked in the answer, and what is
 * said when there is no grant.
 */
#include "auth_rig.h"

#define GRANTED(access, target)                                                                    \
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<GetDataAccessResult "                        \
	"xmlns=\"http://awss3control.amazonaws.com/doc/2018-08-20/\"><Credentials>"                \
	"<AccessKeyId>" access "</AccessKeyId><Expiration>2026-03-02T00:00:00Z</Expiration>"       \
	"<SecretAccessKey>SECRET1</SecretAccessKey><SessionToken>TOKEN1</SessionToken>"            \
	"</Credentials><MatchedGrantTarget>" target "</MatchedGrantTarget><Grantee>"               \
	"<GranteeType>IAM</GranteeType></Grantee></GetDataAccessResult>"
#define REFUSED(code, message)                                                                     \
	"<ErrorResponse><Error><Code>" code "</Code><Message>" message "</Message></Error>"        \
	"</ErrorResponse>"
#define NO_GRANT REFUSED("AccessDenied", "No matching grant found")

struct gate {
	const char *write, *read; /* answers to READWRITE and READ */
	int write_status, read_status;
};
static struct gate gate;
static struct aws_server server;

static void answer_gate(void *user, unsigned n, const struct server_request *req, struct buf *out)
{
	bool reads = strstr(req->head, "permission=READ&");
	answer_with(
		out, reads ? gate.read_status : gate.write_status, reads ? gate.read : gate.write);
}

static int grant_begin(void **state)
{
	int err = home_begin(state);
	gate = (struct gate){.write = GRANTED("ASIA1", "s3://staging/cpg0037-oasis/broad/*"),
		.write_status = 200,
		.read = NO_GRANT,
		.read_status = 403};
	server_start(&server, answer_gate, NULL);
	setenv("AWS_ENDPOINT_URL_S3_CONTROL", server.url, 1);
	setenv("AWS_ACCESS_KEY_ID", "AKIABASE", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SECRETb", 1);
	return err;
}

static int grant_end(void **state)
{
	server_stop(&server);
	return home_end(state);
}
#define GRANT_TEST(f) cmocka_unit_test_setup_teardown(f, grant_begin, grant_end)

static struct auth_config config_of(const char *prefix)
{
	return (struct auth_config){.access_grant = true,
		.account_id = "309624411020",
		.bucket = "staging",
		.prefix = prefix,
		.region = "us-east-1"};
}

static struct auth *mount_of(const char *prefix)
{
	struct auth_config config = config_of(prefix);
	struct auth *a = auth_with(&config);
	auth_tick(a);
	return a;
}

static void assert_refuses(const char *prefix, int err, const char *part)
{
	struct auth *a = mount_of(prefix);
	cleanup_free char *text = NULL;
	assert_int_equal(auth_wait(a, clock_mono_ms(), &text), err);
	if (!strstr(text, part))
		print_error("\"%s\" lacks \"%s\"\n", text, part);
	assert_non_null(strstr(text, part));
	assert_no_secret(text);
	auth_destroy(a);
}

/* As in the gallery's tutorial, `aws s3control get-data-access …`. */
static void the_request(void **state)
{
	char value[512];
	struct auth *a = mount_of("cpg0037-oasis/broad");
	struct auth_status status;

	assert_keys(a, "ASIA1", "SECRET1", "TOKEN1");
	assert_int_equal(server_count(&server), 1);
	assert_true(text_starts(server.requests[0]->head,
		"GET /v20180820/accessgrantsinstance/dataaccess?durationSeconds=43200&"
		"permission=READWRITE&privilege=Default&target=s3%3A%2F%2Fstaging%2Fcpg0037-oasis%"
		"2F"
		"broad%2F%2A HTTP/1.1\r\n"));
	header_of(server.requests[0], "x-amz-account-id", value, sizeof(value));
	assert_string_equal(value, "309624411020");
	header_of(server.requests[0], "authorization", value, sizeof(value));
	assert_non_null(strstr(value, "Credential=AKIABASE/20260301/us-east-1/s3/aws4_request"));
	assert_non_null(strstr(value, "SignedHeaders=host;x-amz-account-id;"));
	auth_status(a, &status);
	assert_int_equal(status.state, AUTH_GOOD);
	assert_true(status.by_grant);
	assert_int_equal(status.permission, AUTH_READWRITE);
	assert_string_equal(status.matched_target, "s3://staging/cpg0037-oasis/broad/*");
	assert_int_equal(status.expires_at_ns, (RIG_NOON + 12 * 3600) * NS_PER_S);
	assert_int_equal(status.renew_at_ns, (RIG_NOON + 12 * 3600 - 15 * 60) * NS_PER_S);
	assert_describes(a, "environment, access grant s3://staging/cpg0037-oasis/broad/*, until "
			    "2026-03-02T00:00:00Z");
	auth_destroy(a);
}

static void targets(void **state)
{
	static const struct {
		const char *target, *prefix;
		bool covers;
	} cases[] = {
		{"s3://b/p/q/*", "p/q", true},
		{"s3://b/p/q/*", "p/q/r", true}, /* a nested mount */
		{"s3://b/p/*", "p/q", true},	 /* a project's grant */
		{"s3://b/*", "p", true},
		{"s3://b/*", "", true},
		{"s3://b/p*", "p", true}, /* as the first tutorial had it */
		{"s3://b/p*", "pq", true},
		{"s3://b/p/q/*", "p", false}, /* narrower */
		{"s3://b/p/q/*", "p/qq", false},
		{"s3://b/p/q/*", "", false},
		{"s3://c/p/q/*", "p/q", false},
		{"s3://bb/*", "", false},
		{"s3://b/p/q", "p/q", false}, /* one object */
		{"", "p", false},
		{"*", "p", false},
	};
	for (size_t i = 0; i < array_len(cases); i++)
		if (auth_grant_covers(cases[i].target, "b", cases[i].prefix) != cases[i].covers)
			fail_msg("%s for %s", cases[i].target, cases[i].prefix);
}

static void a_mount_outside_the_grant(void **state)
{
	assert_refuses("cpg0037-oasis", -EACCES,
		"the mount s3://staging/cpg0037-oasis lies outside the grant "
		"s3://staging/cpg0037-oasis/broad/*; mount a prefix inside it");
	assert_refuses("cpg0016-jump/source_4", -EACCES, "lies outside the grant");
	gate.write = GRANTED("ASIA1", "s3://staging/cpg0037-oasis/*");
	struct auth *a = mount_of("cpg0037-oasis/broad");
	assert_keys(a, "ASIA1", "SECRET1", "TOKEN1");
	auth_destroy(a);
}

static void a_grant_for_reading(void **state)
{
	struct auth_status status;

	gate.write = NO_GRANT;
	gate.write_status = 403;
	gate.read = GRANTED("ASIAREAD", "s3://staging/cpg0037-oasis/broad/*");
	gate.read_status = 200;
	struct auth *a = mount_of("cpg0037-oasis/broad");
	assert_keys(a, "ASIAREAD", "SECRET1", "TOKEN1");
	auth_status(a, &status);
	assert_int_equal(status.permission, AUTH_READ);
	assert_describes(a, "(only reading)");
	assert_int_equal(server_count(&server), 2);
	auth_destroy(a);
	struct auth_config config = config_of("cpg0037-oasis/broad");
	config.permission = AUTH_READ; /* a read-only mount asks for no more */
	a = auth_with(&config);
	auth_tick(a);
	assert_keys(a, "ASIAREAD", "SECRET1", "TOKEN1");
	assert_int_equal(server_count(&server), 3);
	auth_destroy(a);
}

static void refusals(void **state)
{
	gate.write = NO_GRANT;
	gate.write_status = 403;
	assert_refuses("cpg0037-oasis/broad", -EACCES,
		"environment: no grant for s3://staging/cpg0037-oasis/broad/*: AccessDenied: No "
		"matching "
		"grant found; see whether prefix, --region and --account-id are those you were "
		"given; "
		"keys for another prefix do not help");
	assert_int_equal(server_count(&server), 2); /* READWRITE, then READ */
	gate.write = REFUSED("InvalidAccessKeyId", "does not exist");
	assert_refuses("p", -EACCES, "hand over new ones with `cpgfs credentials MOUNTPOINT`");
	gate.write = REFUSED("ExpiredToken", "over");
	assert_refuses("p", -EKEYEXPIRED, "GetDataAccess: ExpiredToken: over; hand over");
	gate.write = REFUSED("InternalError", "oops");
	gate.write_status = 500;
	assert_refuses("p", -EAGAIN, "GetDataAccess: InternalError: oops");
	gate.write_status = 503;
	gate.write = "";
	assert_refuses("p", -EAGAIN, "GetDataAccess: status 503");
	gate.write_status = 200;
	gate.write = "<GetDataAccessResult/>";
	assert_refuses("p", -EAGAIN, "no usable answer");
	gate.write = GRANTED("ASIA1", "");
	assert_refuses("p", -EAGAIN, "names no MatchedGrantTarget");
}

/* Prefix, region and account were right once: what is left is the grant, and other keys. */
static void a_grant_that_ends_in_mid_upload(void **state)
{
	char text[512];
	struct auth *a = mount_of("cpg0037-oasis/broad");

	assert_keys(a, "ASIA1", "SECRET1", "TOKEN1");
	gate.write = NO_GRANT;
	gate.write_status = 403;
	clock_fake_advance_ms(12 * 3600 * MS_PER_S);
	auth_tick(a);
	auth_explain(a, text);
	assert_non_null(strstr(text,
		"AccessDenied: No matching grant found; ask who gave the grant whether it has "
		"ended; hand over new keys with `cpgfs credentials MOUNTPOINT`"));
	auth_destroy(a);
}

static void what_it_needs(void **state)
{
	static const char *const bad[] = {NULL, "", "30962441102", "3096244110200", "30962441102x"};
	for (size_t i = 0; i < array_len(bad); i++) {
		struct auth *a;
		cleanup_free char *message = NULL;
		struct auth_config config = config_of("p");
		config.account_id = bad[i];
		assert_int_equal(auth_create(&a, &config, &message), -EINVAL);
		assert_non_null(strstr(message, "--account-id, the 12 digits"));
	}
	struct auth *a;
	cleanup_free char *message = NULL;
	struct auth_config config = config_of("p");
	config.grant_duration_s = 43201;
	assert_int_equal(auth_create(&a, &config, &message), -EINVAL);
}

/* The exchange comes on top of any source. */
static void by_a_role(void **state)
{
	setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1", 1);
	write_file(*state, "config",
		"[profile up]\nrole_arn = R\nsource_profile = k\n[profile k]\n"
		"aws_access_key_id = K\naws_secret_access_key = SECRETk\n");
	struct auth_config config = config_of("cpg0037-oasis/broad");
	config.profile = "up";
	struct auth *a = auth_with(&config);
	auth_tick(a);
	assert_explains(a, "role R by profile up in ~/.aws/config: 127.0.0.1:1: ");
	assert_int_equal(server_count(&server), 0);
	auth_destroy(a);
	config.profile = "k";
	a = auth_with(&config);
	auth_tick(a);
	assert_keys(a, "ASIA1", "SECRET1", "TOKEN1");
	assert_describes(a, "profile k in ~/.aws/config, access grant");
	auth_destroy(a);
}

static void anonymous_asks_for_none(void **state)
{
	struct auth_config config = config_of("p");
	config.anonymous = true;
	struct auth *a = auth_with(&config);
	struct s3_credentials keys;
	auth_tick(a);
	assert_int_equal(auth_get(a, &keys), 0);
	assert_true(keys.anonymous);
	assert_int_equal(server_count(&server), 0);
	auth_destroy(a);
}

/* ---- by hand -------------------------------------------------------------------------------- */

static void long_lived_keys_are_exchanged(void **state)
{
	cleanup_free char *message = NULL;
	struct s3_credentials keys;
	char value[512];

	gate.write = REFUSED("InvalidAccessKeyId", "gone");
	gate.write_status = 403;
	struct auth *a = mount_of("cpg0037-oasis/broad");
	assert_int_equal(auth_get(a, &keys), -EKEYEXPIRED);
	gate.write = GRANTED("ASIA2", "s3://staging/cpg0037-oasis/broad/*");
	gate.write_status = 200;
	const char *text = "AWS_ACCESS_KEY_ID=AKIANEW\nAWS_SECRET_ACCESS_KEY=SECRETn\n";
	assert_int_equal(auth_hand_over(a, text, strlen(text), &message), 0);
	assert_int_equal(auth_get(a, &keys), -EAGAIN);
	auth_tick(a);
	assert_keys(a, "ASIA2", "SECRET1", "TOKEN1");
	header_of(
		server.requests[server_count(&server) - 1], "authorization", value, sizeof(value));
	assert_non_null(strstr(value, "Credential=AKIANEW/"));
	assert_describes(a, "keys handed over, access grant");
	/* and again 15 minutes before the end, with the same ones */
	clock_fake_advance_ms((12 * 3600 - 15 * 60) * MS_PER_S);
	gate.write = GRANTED("ASIA3", "s3://staging/cpg0037-oasis/broad/*");
	auth_tick(a);
	assert_keys(a, "ASIA3", "SECRET1", "TOKEN1");
	auth_destroy(a);
}

static void a_grant_from_elsewhere_is_taken_as_it_is(void **state)
{
	static const char json[] =
		"{\"Credentials\": {\"AccessKeyId\": \"ASIAX\", \"SecretAccessKey\": \"SECRETx\", "
		"\"SessionToken\": \"T\", \"Expiration\": \"2026-03-01T20:00:00+00:00\"}, "
		"\"MatchedGrantTarget\": \"s3://staging/%s/*\"}";
	char text[512];
	struct auth_status status;
	cleanup_free char *message = NULL;

	struct auth *a = mount_of("cpg0037-oasis/broad");
	unsigned asked = server_count(&server);
	snprintf(text, sizeof(text), json, "cpg0016-jump");
	assert_int_equal(auth_hand_over(a, text, strlen(text), &message), -EINVAL);
	assert_string_equal(message,
		"the mount s3://staging/cpg0037-oasis/broad lies outside the grant "
		"s3://staging/cpg0016-jump/*");
	assert_keys(a, "ASIA1", "SECRET1", "TOKEN1");
	free(steal_ptr(message));
	snprintf(text, sizeof(text), json, "cpg0037-oasis");
	assert_int_equal(auth_hand_over(a, text, strlen(text), &message), 0);
	auth_tick(a);
	assert_keys(a, "ASIAX", "SECRETx", "T");
	auth_status(a, &status);
	assert_string_equal(status.source, "handed over");
	assert_string_equal(status.matched_target, "s3://staging/cpg0037-oasis/*");
	assert_int_equal(server_count(&server), asked);
	/* used up: the chain's turn again */
	clock_fake_advance_ms(8 * 3600 * MS_PER_S);
	auth_tick(a);
	assert_keys(a, "ASIA1", "SECRET1", "TOKEN1");
	auth_destroy(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		GRANT_TEST(the_request),
		GRANT_TEST(targets),
		GRANT_TEST(a_mount_outside_the_grant),
		GRANT_TEST(a_grant_for_reading),
		GRANT_TEST(refusals),
		GRANT_TEST(a_grant_that_ends_in_mid_upload),
		GRANT_TEST(what_it_needs),
		GRANT_TEST(by_a_role),
		GRANT_TEST(anonymous_asks_for_none),
		GRANT_TEST(long_lived_keys_are_exchanged),
		GRANT_TEST(a_grant_from_elsewhere_is_taken_as_it_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
