/*
 * Renewal through hours and days by a faked clock, refusals, failures; and the thread.
 */
#include "auth_rig.h"

#define KEYS "aws_access_key_id = K\naws_secret_access_key = SECRETk\n"
#define ROLE "[profile up]\nrole_arn = R\nsource_profile = k\n[profile k]\n" KEYS

/* STS and S3 Control in one: the n-th credentials are ASIA<n>. */
struct issuer {
	_Atomic int64_t lifetime_s;
	_Atomic int status; /* 200: give */
	_Atomic bool same;  /* always ASIA0 */
	_Atomic bool proxy; /* the first answer is of a proxy whose clock is two days ahead */
	_Atomic bool hold;  /* answer only when this ends */
	_Atomic unsigned holding;
};
static struct issuer issuer;
static struct aws_server server;

static void answer_at(struct buf *out, int status, int64_t wall_ns, const char *body)
{
	char date[64];
	time_t s = (time_t)(wall_ns / NS_PER_S);
	struct tm tm;
	check(gmtime_r(&s, &tm) && strftime(date, sizeof(date), "%a, %d %b %Y %T GMT", &tm));
	buf_printf(out,
		"HTTP/1.1 %d X\r\nDate: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
		status, date, strlen(body), body);
}

static void issue(void *user, unsigned n, const struct server_request *req, struct buf *out)
{
	char body[2048], when[32];
	time_format_iso8601(clock_wall_ns() + issuer.lifetime_s * NS_PER_S, when);
	issuer.holding++;
	while (issuer.hold)
		(void)poll(NULL, 0, 1);
	snprintf(body, sizeof(body),
		"<R><Credentials><AccessKeyId>ASIA%u</AccessKeyId><SecretAccessKey>SECRET%u"
		"</SecretAccessKey><SessionToken>T%u</SessionToken><Expiration>%s</Expiration>"
		"</Credentials><MatchedGrantTarget>s3://b/p/*</MatchedGrantTarget></R>",
		issuer.same ? 0 : n, issuer.same ? 0 : n, issuer.same ? 0 : n, when);
	if (issuer.proxy && n == 0)
		answer_at(out, 502, clock_wall_ns() + 2 * 86400 * NS_PER_S, "Bad Gateway");
	else if (issuer.proxy)
		answer_at(out, 200, clock_wall_ns(), body);
	else if (issuer.status == 200)
		answer_with(out, 200, body);
	else
		answer_with(out, issuer.status,
			"<ErrorResponse><Error><Code>ServiceUnavailable</Code><Message>later</"
			"Message>"
			"</Error></ErrorResponse>");
}

static int renew_begin(void **state)
{
	int err = home_begin(state);
	issuer.lifetime_s = 3600;
	issuer.status = 200;
	issuer.same = issuer.hold = issuer.proxy = false;
	issuer.holding = 0;
	server_start(&server, issue, NULL);
	setenv("AWS_ENDPOINT_URL", server.url, 1);
	write_file(*state, "config", ROLE);
	return err;
}

static int renew_end(void **state)
{
	issuer.hold = false;
	server_stop(&server);
	return home_end(state);
}
#define RENEW_TEST(f) cmocka_unit_test_setup_teardown(f, renew_begin, renew_end)

static struct auth *role(void)
{
	struct auth *a = auth_of("up");
	auth_tick(a);
	return a;
}

static void assert_access(struct auth *a, const char *access)
{
	struct s3_credentials keys;
	assert_int_equal(auth_get(a, &keys), 0);
	assert_string_equal(keys.access_key, access);
}

static int get(struct auth *a)
{
	struct s3_credentials keys;
	return auth_get(a, &keys);
}

static bool reject(struct auth *a, const char *code)
{
	struct s3_credentials keys;
	{
		with_lock(&a->lock);
		keys = a->synced.current->keys;
	}
	return auth_rejected(a, &keys, code);
}

/* Ticks every step_ms; each time there must be good credentials. */
static void live_through(struct auth *a, int64_t ms, int64_t step_ms)
{
	for (int64_t at = 0; at < ms; at += step_ms) {
		clock_fake_advance_ms(step_ms);
		auth_tick(a);
		assert_int_equal(get(a), 0);
	}
}

/* ---- ahead of expiry ------------------------------------------------------------------------ */

static void thirteen_hours(void **state)
{
	struct auth_status status;
	struct auth *a = role();
	live_through(a, 13 * 3600 * MS_PER_S, 1000);
	/* an hour each, renewed 15 minutes before its end */
	assert_int_equal(server_count(&server), 1 + 13 * 60 / 45);
	auth_status(a, &status);
	assert_int_equal(status.renewals, 13 * 60 / 45);
	assert_string_equal(status.error, "");
	auth_destroy(a);
}

static void days_by_a_grant(void **state)
{
	issuer.lifetime_s = 43200;
	struct auth_config config = {.access_grant = true,
		.account_id = "309624411020",
		.bucket = "b",
		.prefix = "p",
		.profile = "k"};
	struct auth *a = auth_with(&config);
	auth_tick(a);
	live_through(a, 10 * 24 * 3600 * MS_PER_S, 10000);
	/* every 11 h 45 min */
	assert_int_equal(server_count(&server), 1 + 10 * 24 * 60 / 705);
	auth_destroy(a);
}

/* What is over when it comes is none: it is not asked for each second, either. */
static void a_grant_that_is_over_when_it_comes(void **state)
{
	issuer.lifetime_s = -60;
	struct auth_config config = {.access_grant = true,
		.account_id = "309624411020",
		.bucket = "b",
		.prefix = "p",
		.profile = "k"};
	struct auth *a = auth_with(&config);
	for (int i = 0; i < 600; i++) {
		clock_fake_advance_ms(1000);
		auth_tick(a);
	}
	assert_in_range(server_count(&server), 8, 11);
	assert_int_equal(get(a), -EKEYEXPIRED);
	assert_explains(a, "they expired at 2026-03-01T1");
	issuer.lifetime_s = 3600;
	clock_fake_advance_ms(75000);
	auth_tick(a);
	assert_int_equal(get(a), 0);
	auth_destroy(a);
}

static void a_clock_that_was_wrong_for_a_moment(void **state)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/.aws/token", ((struct home *)*state)->path);
	write_file(*state, "token", "SECRETtoken");
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
	setenv("AWS_ROLE_ARN", "R", 1);
	issuer.proxy = true;
	struct auth *a = auth_with(&(struct auth_config){.region = "us-east-1"});
	auth_tick(a);
	assert_int_not_equal(get(a), 0);
	for (int i = 0; i < 80; i++) {
		clock_fake_advance_ms(1000);
		auth_tick(a);
	}
	assert_int_equal(get(a), 0);
	assert_int_equal(server_count(&server), 2);
	auth_destroy(a);
}

static void short_lives_are_renewed_at_half(void **state)
{
	static const int lives_s[] = {4, 60, 900, 1799};
	for (size_t i = 0; i < array_len(lives_s); i++) {
		issuer.lifetime_s = lives_s[i];
		unsigned before = server_count(&server);
		struct auth *a = role();
		struct auth_status status;
		auth_status(a, &status);
		assert_int_equal(
			(status.renew_at_ns - clock_wall_ns()) / (NS_PER_S / 2), lives_s[i]);
		live_through(a, lives_s[i] * 5 * MS_PER_S, 500);
		assert_in_range(server_count(&server) - before, 8, 11);
		auth_destroy(a);
	}
	/* credentials that are nearly over when they come must not make a storm */
	issuer.lifetime_s = 1;
	unsigned before = server_count(&server);
	struct auth *a = role();
	for (int i = 0; i < 1000; i++) {
		clock_fake_advance_ms(10);
		auth_tick(a);
	}
	assert_in_range(server_count(&server) - before, 2, 11);
	auth_destroy(a);
}

static void credentials_without_an_end(void **state)
{
	write_file(*state, "config", "[profile k]\n" KEYS);
	struct auth *a = auth_of("k");
	live_through(a, 100 * 3600 * MS_PER_S, 60000);
	assert_int_equal(server_count(&server), 0);
	auth_destroy(a);
}

/* ---- failures ------------------------------------------------------------------------------- */

/* The old ones as long as they are good, later and later tries; then one a minute; then on. */
static void a_service_that_is_away(void **state)
{
	struct auth *a = role();
	struct auth_status status;

	clock_fake_advance_ms(45 * 60 * MS_PER_S);
	issuer.status = 503;
	unsigned before = server_count(&server);
	int64_t last_ms = clock_mono_ms(), shortest_ms = INT64_MAX;
	while (get(a) == 0) {
		unsigned seen = server_count(&server);
		auth_tick(a);
		if (server_count(&server) > seen && seen > before &&
			clock_mono_ms() - last_ms < shortest_ms)
			shortest_ms = clock_mono_ms() - last_ms;
		if (server_count(&server) > seen)
			last_ms = clock_mono_ms();
		clock_fake_advance_ms(1000);
		assert_access(a, "ASIA0");
		if (clock_wall_ns() >= (RIG_NOON + 3599) * NS_PER_S)
			clock_fake_advance_ms(1000);
	}
	assert_in_range(server_count(&server) - before, 4, 15); /* in 15 minutes */
	assert_in_range(shortest_ms, 60000, 75000);
	auth_tick(a);
	assert_int_equal(get(a), -EKEYEXPIRED);
	assert_explains(a,
		"role R by profile up in ~/.aws/config: STS refuses R: ServiceUnavailable: "
		"later; tried again in ");
	auth_status(a, &status);
	assert_int_equal(status.state, AUTH_EXPIRED);
	/* an hour without */
	before = server_count(&server);
	for (int i = 0; i < 3600; i++) {
		clock_fake_advance_ms(1000);
		auth_tick(a);
		assert_int_equal(get(a), -EKEYEXPIRED);
	}
	assert_in_range(server_count(&server) - before, 45, 61);
	issuer.status = 200;
	for (int i = 0; i < 76 && get(a); i++) {
		clock_fake_advance_ms(1000);
		auth_tick(a);
	}
	assert_int_equal(get(a), 0);
	auth_destroy(a);
}

/* A person does something: seconds, not a minute. */
static void a_person_helps(void **state)
{
	cleanup_free char *message = NULL;
	issuer.status = 503;
	struct auth *a = role();
	assert_int_equal(get(a), -EKEYEXPIRED);
	issuer.status = 200;
	/* a file changes */
	clock_fake_advance_ms(5000);
	write_file(*state, "config", "# new\n" ROLE);
	auth_tick(a);
	assert_int_equal(get(a), 0);
	auth_destroy(a);
	/* `cpgfs retry` */
	issuer.status = 503;
	a = role();
	issuer.status = 200;
	auth_renew(a);
	assert_int_equal(get(a), -EAGAIN);
	auth_tick(a);
	assert_int_equal(get(a), 0);
	auth_destroy(a);
	/* by hand */
	issuer.status = 503;
	a = role();
	uint64_t stamp = auth_stamp(a);
	const char *text = "export AWS_ACCESS_KEY_ID=H\nexport AWS_SECRET_ACCESS_KEY='SECRETh'\n"
			   "export AWS_SESSION_TOKEN=\"T\"\n";
	assert_int_equal(auth_hand_over(a, text, strlen(text), &message), 0);
	assert_keys(a, "H", "SECRETh", "T");
	assert_true(auth_stamp(a) != stamp);
	assert_describes(a, "handed over");
	auth_destroy(a);
}

/* Files that change all the time must not make us ask all the time. */
static void a_file_that_changes_again_and_again(void **state)
{
	struct auth *a = role();
	for (int i = 0; i < 100; i++) {
		char text[512];
		snprintf(text, sizeof(text), "# %d\n" ROLE, i);
		write_file(*state, "config", text);
		clock_fake_advance_ms(1000);
		auth_tick(a);
		assert_int_equal(get(a), 0);
	}
	assert_in_range(server_count(&server), 10, 22);
	auth_destroy(a);
}

static void a_broken_file_changes_nothing(void **state)
{
	struct auth *a = role();
	write_file(*state, "config", "[profile up\n");
	clock_fake_advance_ms(50 * 60 * MS_PER_S);
	auth_tick(a);
	assert_access(a, "ASIA0");
	assert_explains(a, "line 1: neither [section]");
	assert_explains(a, "the old ones are still good");
	write_file(*state, "config", ROLE);
	clock_fake_advance_ms(5000);
	auth_tick(a);
	assert_access(a, "ASIA1");
	assert_explains(a, "");
	auth_destroy(a);
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void one_renewal_for_all(void **state)
{
	static const char *const codes[] = {
		"ExpiredToken", "InvalidAccessKeyId", "TokenRefreshRequired", "RequestExpired"};
	struct auth *a = role();
	for (size_t i = 0; i < array_len(codes); i++) {
		struct s3_credentials old;
		clock_fake_advance_ms(5 * 60 * MS_PER_S);
		assert_int_equal(auth_get(a, &old), 0);
		unsigned before = server_count(&server);
		for (int k = 0; k < 64; k++)
			assert_true(auth_rejected(a, &old, codes[i]));
		assert_int_equal(get(a), -EAGAIN);
		assert_int_equal(server_count(&server), before);
		auth_tick(a);
		assert_int_equal(server_count(&server), before + 1);
		assert_int_equal(get(a), 0);
		/* late words of those that were under way */
		for (int k = 0; k < 64; k++)
			assert_true(auth_rejected(a, &old, codes[i]));
		auth_tick(a);
		assert_int_equal(server_count(&server), before + 1);
		assert_int_equal(get(a), 0);
	}
	/* what is no word on credentials */
	struct s3_credentials keys;
	assert_int_equal(auth_get(a, &keys), 0);
	assert_false(auth_rejected(a, &keys, "SignatureDoesNotMatch"));
	assert_int_equal(get(a), 0);
	auth_destroy(a);
}

/* Fresh ones are refused, too: 5, 10, 20 … 60 s between. */
static void refused_again_and_again(void **state)
{
	struct auth *a = role();
	int pauses = 0;
	clock_fake_advance_ms(61000);
	unsigned before = server_count(&server);
	for (int i = 0; i < 3600; i++) {
		if (get(a) == 0 && !reject(a, "InvalidAccessKeyId"))
			pauses++;
		auth_tick(a);
		clock_fake_advance_ms(1000);
	}
	assert_in_range(server_count(&server) - before, 40, 75); /* in an hour */
	assert_in_range(pauses, 30, 75);
	auth_destroy(a);
}

/* A source that gives what was refused is no help: in a minute again. */
static void the_same_again_is_no_success(void **state)
{
	issuer.same = true;
	struct auth *a = role();
	clock_fake_advance_ms(120000);
	assert_true(reject(a, "ExpiredToken"));
	unsigned before = server_count(&server);
	auth_tick(a);
	assert_int_equal(server_count(&server), before + 1);
	assert_int_equal(get(a), -EKEYEXPIRED);
	assert_explains(a, "the server refuses them (ExpiredToken)");
	for (int i = 0; i < 59; i++) {
		clock_fake_advance_ms(1000);
		auth_tick(a);
	}
	assert_int_equal(server_count(&server), before + 1);
	/* after a while one more attempt shows whether the server meant it: it did */
	for (int i = 0; i < 32; i++) {
		clock_fake_advance_ms(1000);
		auth_tick(a);
	}
	before = server_count(&server);
	clock_fake_advance_ms(90000);
	assert_int_equal(get(a), 0);
	assert_false(reject(a, "ExpiredToken"));
	assert_int_equal(get(a), -EKEYEXPIRED);
	assert_int_equal(server_count(&server), before);
	auth_tick(a);
	issuer.same = false;
	clock_fake_advance_ms(76000);
	auth_tick(a);
	assert_int_equal(get(a), 0);
	auth_destroy(a);
}

static void handed_over_ones_that_are_refused(void **state)
{
	cleanup_free char *message = NULL;
	struct auth *a = role();
	struct s3_credentials keys = {.access_key = "H", .secret_key = "SECRETh"};
	assert_int_equal(auth_set_static(a, &keys, "handed over", &message), 0);
	assert_access(a, "H");
	/* files do not matter to them */
	write_file(*state, "config", "# x\n" ROLE);
	clock_fake_advance_ms(10000);
	auth_tick(a);
	assert_access(a, "H");
	assert_true(reject(a, "InvalidAccessKeyId"));
	assert_int_equal(get(a), -EAGAIN);
	auth_tick(a);
	assert_access(a, "ASIA1");
	auth_destroy(a);
}

static void what_is_refused_by_hand(void **state)
{
	static const struct {
		struct s3_credentials keys;
		const char *says;
	} bad[] = {
		{{.secret_key = "SECRET"}, "without an access key id"},
		{{.access_key = "A"}, "without a secret key"},
		{{.access_key = "A", .secret_key = "SECRET x"}, "a space"},
		{{.access_key = "A", .secret_key = "SECRET", .expires_at_ns = RIG_NOON * NS_PER_S},
			"expired already"},
	};
	struct auth *a = role();
	for (size_t i = 0; i < array_len(bad); i++) {
		cleanup_free char *message = NULL;
		assert_int_equal(auth_set_static(a, &bad[i].keys, "x", &message), -EINVAL);
		assert_non_null(strstr(message, bad[i].says));
		assert_no_secret(message);
		assert_access(a, "ASIA0");
	}
	auth_destroy(a);
	cleanup_free char *message = NULL;
	a = auth_with(&(struct auth_config){.anonymous = true});
	assert_int_equal(
		auth_set_static(a,
			&(struct s3_credentials){.access_key = "A", .secret_key = "SECRET"}, "x",
			&message),
		-EINVAL);
	assert_non_null(strstr(message, "--no-sign-request"));
	auth_destroy(a);
}

/* ---- the thread ----------------------------------------------------------------------------- */

static void await(bool (*is)(struct auth *a), struct auth *a)
{
	int64_t end_ms = clock_mono_ms() + RIG_DEADLINE_MS;
	while (!is(a)) {
		assert_true(clock_mono_ms() < end_ms);
		(void)poll(NULL, 0, 5);
	}
}

static bool is_good(struct auth *a)
{
	return get(a) == 0;
}

static bool is_third(struct auth *a)
{
	struct auth_status s;
	auth_status(a, &s);
	return s.renewals >= 2;
}

static bool is_held(struct auth *a)
{
	return issuer.holding > 0;
}

static void the_thread_renews(void **state)
{
	cleanup_free char *message = NULL;
	clock_fake_end();
	issuer.lifetime_s = 2;
	struct auth *a = auth_of("up");
	assert_int_equal(get(a), -EAGAIN);
	assert_int_equal(auth_wait(a, clock_mono_ms() + 1, &message), -ETIMEDOUT);
	free(steal_ptr(message));
	assert_int_equal(auth_start(a), 0);
	assert_int_equal(auth_wait(a, clock_mono_ms() + RIG_DEADLINE_MS, &message), 0);
	await(is_third, a);
	auth_stop(a);
	auth_stop(a);
	auth_destroy(a);
}

static void stopping_does_not_wait_for_a_service(void **state)
{
	clock_fake_end();
	issuer.hold = true;
	struct auth *a = auth_of("up");
	assert_int_equal(auth_start(a), 0);
	await(is_held, a);
	int64_t began_ms = clock_mono_ms();
	auth_destroy(a);
	assert_in_range(clock_mono_ms() - began_ms, 0, 15000); /* of 30 s that it may take */
}

/* What a person gave while a try was under way stays. */
static void a_person_is_faster(void **state)
{
	cleanup_free char *message = NULL;
	clock_fake_end();
	issuer.hold = true;
	struct auth *a = auth_of("up");
	assert_int_equal(auth_start(a), 0);
	await(is_held, a);
	struct s3_credentials keys = {.access_key = "H", .secret_key = "SECRETh"};
	assert_int_equal(auth_set_static(a, &keys, "handed over", &message), 0);
	assert_access(a, "H");
	issuer.hold = false;
	int64_t end_ms = clock_mono_ms() + RIG_DEADLINE_MS;
	for (bool trying = true; trying;) {
		assert_true(clock_mono_ms() < end_ms);
		with_lock(&a->lock);
		trying = a->synced.trying;
	}
	assert_access(a, "H");
	auth_destroy(a);
}

static void count_news(void *user)
{
	(*(_Atomic int *)user)++;
}

static void news_are_told(void **state)
{
	_Atomic int news = 0;
	cleanup_free char *message = NULL;
	struct auth_config config = {
		.profile = "up", .news = count_news, .news_user = (void *)&news};
	struct auth *a = auth_with(&config);
	assert_int_equal(news, 0);
	auth_tick(a);
	assert_int_equal(news, 1);
	struct s3_credentials keys = {.access_key = "H", .secret_key = "SECRETh"};
	assert_int_equal(auth_set_static(a, &keys, "x", &message), 0);
	assert_int_equal(news, 2);
	auth_destroy(a);
}

/* Nobody waits for ever: half a minute, then it is a pause. */
static void an_answer_that_does_not_come(void **state)
{
	struct auth *a = auth_of("up");
	assert_int_equal(get(a), -EAGAIN);
	clock_fake_advance_ms(29999);
	assert_int_equal(get(a), -EAGAIN);
	clock_fake_advance_ms(1);
	assert_int_equal(get(a), -EKEYEXPIRED);
	auth_tick(a);
	assert_int_equal(get(a), 0);
	assert_true(is_good(a));
	auth_destroy(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RENEW_TEST(thirteen_hours),
		RENEW_TEST(days_by_a_grant),
		RENEW_TEST(a_grant_that_is_over_when_it_comes),
		RENEW_TEST(a_clock_that_was_wrong_for_a_moment),
		RENEW_TEST(short_lives_are_renewed_at_half),
		RENEW_TEST(credentials_without_an_end),
		RENEW_TEST(a_service_that_is_away),
		RENEW_TEST(a_person_helps),
		RENEW_TEST(a_file_that_changes_again_and_again),
		RENEW_TEST(a_broken_file_changes_nothing),
		RENEW_TEST(one_renewal_for_all),
		RENEW_TEST(refused_again_and_again),
		RENEW_TEST(the_same_again_is_no_success),
		RENEW_TEST(handed_over_ones_that_are_refused),
		RENEW_TEST(what_is_refused_by_hand),
		RENEW_TEST(the_thread_renews),
		RENEW_TEST(stopping_does_not_wait_for_a_service),
		RENEW_TEST(a_person_is_faster),
		RENEW_TEST(news_are_told),
		RENEW_TEST(an_answer_that_does_not_come),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
