/*
 * Each source of credentials against a server on loopback: what it asks, what it takes, and what it
 * says when it does not get it.
 */
#include "auth_rig.h"

#include "auth_process.h"

#include <signal.h>

#define STS_ANSWER                                                                                 \
	"<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"                 \
	"<AssumeRoleResult><AssumedRoleUser><Arn>x</Arn></AssumedRoleUser><Credentials>"           \
	"<AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>SECRET1</SecretAccessKey>"               \
	"<SessionToken>TOKEN1</SessionToken><Expiration>2026-03-01T13:00:00Z</Expiration>"         \
	"</Credentials></AssumeRoleResult></AssumeRoleResponse>"
#define JSON_ANSWER                                                                                \
	"{\"Code\": \"Success\", \"AccessKeyId\": \"ASIA1\", \"SecretAccessKey\": \"SECRET1\", "   \
	"\"Token\": \"TOKEN1\", \"Expiration\": \"2026-03-01T13:00:00Z\"}"
#define KEYS "aws_access_key_id = K\naws_secret_access_key = SECRETk\n"

/* A list of answers in order; the last one stays. */
struct script {
	struct {
		int status;
		const char *body;
	} steps[8];
	unsigned count;
};

static void play(void *user, unsigned n, const struct server_request *req, struct buf *out)
{
	const struct script *s = user;
	unsigned at = n < s->count ? n : s->count - 1;
	answer_with(out, s->steps[at].status, s->steps[at].body);
}

static struct aws_server server;
static struct script script;

static int sources_begin(void **state)
{
	int err = home_begin(state);
	script = (struct script){.count = 1, .steps = {{200, STS_ANSWER}}};
	server_start(&server, play, &script);
	setenv("AWS_ENDPOINT_URL_STS", server.url, 1);
	return err;
}

static int sources_end(void **state)
{
	server_stop(&server);
	return home_end(state);
}
#define SOURCE_TEST(f) cmocka_unit_test_setup_teardown(f, sources_begin, sources_end)

static void answer(int status, const char *body)
{
	script.steps[0].status = status;
	script.steps[0].body = body;
}

static const struct server_request *request(unsigned n)
{
	assert_true(n < server_count(&server));
	return server.requests[n];
}

static void assert_body(unsigned n, const char *part)
{
	if (!strstr(request(n)->body, part))
		print_error("\"%s\" lacks \"%s\"\n", request(n)->body, part);
	assert_non_null(strstr(request(n)->body, part));
}

static void assert_head(unsigned n, const char *part)
{
	if (!strstr(request(n)->head, part))
		print_error("\"%s\" lacks \"%s\"\n", request(n)->head, part);
	assert_non_null(strstr(request(n)->head, part));
}

/* One try; the caller destroys. */
static struct auth *tried(const char *profile)
{
	struct auth *a = auth_of(profile);
	auth_tick(a);
	return a;
}

static void assert_gets(const char *profile, const char *describes)
{
	struct auth *a = tried(profile);
	struct s3_credentials keys;
	assert_keys(a, "ASIA1", "SECRET1", "TOKEN1");
	assert_int_equal(auth_get(a, &keys), 0);
	assert_int_equal(keys.expires_at_ns, (RIG_NOON + 3600) * NS_PER_S);
	assert_describes(a, describes);
	auth_destroy(a);
}

/* err: what auth_wait() says. */
static void assert_fails(const char *profile, int err, const char *part)
{
	struct auth *a = tried(profile);
	cleanup_free char *text = NULL;
	struct s3_credentials keys;
	assert_int_equal(auth_get(a, &keys), err == -ENOKEY ? -ENOKEY : -EKEYEXPIRED);
	assert_int_equal(auth_wait(a, clock_mono_ms(), &text), err);
	if (!strstr(text, part))
		print_error("\"%s\" lacks \"%s\"\n", text, part);
	assert_non_null(strstr(text, part));
	assert_no_secret(text);
	auth_destroy(a);
}

/* ---- STS ------------------------------------------------------------------------------------ */

#define ROLE                                                                                       \
	"[profile up]\nrole_arn = arn:aws:iam::1:role/a+b\nsource_profile = k\nregion = "          \
	"eu-west-1\n"                                                                              \
	"[profile k]\n" KEYS

static void a_role_is_assumed(void **state)
{
	write_file(*state, "config", ROLE);
	assert_gets("up", "role arn:aws:iam::1:role/a+b by profile up in ~/.aws/config, until "
			  "2026-03-01T13:00:00Z");
	assert_true(text_starts(request(0)->head, "POST / HTTP/1.1\r\n"));
	assert_body(0,
		"Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa%2Bb"
		"&RoleSessionName=cpgfs-1772366400");
	assert_null(strstr(request(0)->body, "ExternalId"));
	assert_null(strstr(request(0)->body, "DurationSeconds"));
	assert_head(0, "Credential=K/20260301/eu-west-1/sts/aws4_request");
	assert_null(strstr(request(0)->head, "SECRET"));
	assert_null(strstr(request(0)->head, "security-token"));
}

static void a_role_with_everything(void **state)
{
	write_file(*state, "config",
		"[profile up]\nrole_arn = R\nsource_profile = k\nexternal_id = x&y\n"
		"role_session_name = me\nduration_seconds = 43200\n"
		"[profile k]\naws_session_token = SECRETt\n" KEYS);
	assert_gets("up", "role R");
	assert_body(0, "&RoleArn=R&RoleSessionName=me&ExternalId=x%26y&DurationSeconds=43200");
	assert_head(0, "x-amz-security-token: SECRETt");
	assert_head(0, "/us-east-1/sts/aws4_request");
}

/* The second role is asked for with what the first gave. */
static void roles_in_a_row(void **state)
{
	write_file(*state, "config",
		"[profile a]\nrole_arn = A\nsource_profile = b\n"
		"[profile b]\nrole_arn = B\nsource_profile = k\n[profile k]\n" KEYS);
	assert_gets("a", "role A");
	assert_body(0, "RoleArn=B&");
	assert_head(0, "Credential=K/");
	assert_body(1, "RoleArn=A&");
	assert_head(1, "Credential=ASIA1/");
	assert_head(1, "x-amz-security-token: TOKEN1");
	assert_int_equal(server_count(&server), 2);
}

#define STS_ERROR(code, message)                                                                   \
	"<ErrorResponse><Error><Type>Sender</Type><Code>" code "</Code><Message>" message          \
	"</Message></Error></ErrorResponse>"

static void roles_that_are_refused(void **state)
{
	write_file(*state, "config", ROLE);
	answer(403,
		STS_ERROR("AccessDenied", "is not authorized to perform: sts:AssumeRole\n\x7f"));
	assert_fails("up", -EACCES,
		"STS refuses arn:aws:iam::1:role/a+b: AccessDenied: is not "
		"authorized to perform: sts:AssumeRole  ; see whether");
	answer(404, STS_ERROR("NoSuchEntity", "")); /* RADOS Gateway: no such role */
	assert_fails("up", -EACCES, "a+b: NoSuchEntity; see whether");
	answer(403, STS_ERROR("InvalidClientTokenId", "invalid"));
	assert_fails("up", -EACCES, "InvalidClientTokenId");
	answer(403, STS_ERROR("ExpiredToken", "over"));
	assert_fails("up", -EKEYEXPIRED, "put new ones into that file");
	answer(500, STS_ERROR("InternalFailure", "oops"));
	assert_fails("up", -EAGAIN, "InternalFailure: oops");
	answer(503, "<html>busy</html>");
	assert_fails("up", -EAGAIN, "STS: status 503 and no usable answer");
	answer(200, "<AssumeRoleResponse><Credentials><AccessKeyId>A</AccessKeyId>");
	assert_fails("up", -EAGAIN, "status 200 and no usable answer");
	answer(200, "");
	assert_fails("up", -EAGAIN, "no usable answer");
	answer(307, "");
	assert_fails("up", -EAGAIN, "status 307");
	setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1", 1);
	assert_fails("up", -EAGAIN, "127.0.0.1:1: ");
	setenv("AWS_ENDPOINT_URL_STS", "ftp://x", 1);
	assert_fails("up", -EACCES, "the endpoint ftp://x is no http or https address");
}

static void answers_that_are_traps(void **state)
{
	cleanup_buf struct buf huge = {0};
	write_file(*state, "config", ROLE);
	answer(200, "<!DOCTYPE a [<!ENTITY x \"y\">]><a><AccessKeyId>&x;</AccessKeyId></a>");
	assert_fails("up", -EAGAIN, "no usable answer");
	answer(200, "<!DOCTYPE AssumeRoleResponse>" STS_ANSWER);
	assert_fails("up", -EAGAIN, "no usable answer");
	buf_add_text(&huge, "<a><Message>");
	for (int i = 0; i < 70000; i++)
		buf_add_char(&huge, 'x');
	buf_add_text(&huge, "</Message></a>");
	answer(200, buf_text(&huge));
	assert_fails("up", -EAGAIN, "an answer longer than credentials are");
	answer(200, "<a><AccessKeyId>A\r\nB</AccessKeyId><SecretAccessKey>SECRET</"
		    "SecretAccessKey></a>");
	assert_fails("up", -EAGAIN, "no usable answer");
	answer(200, "<a><AccessKeyId>A</AccessKeyId></a>");
	assert_fails("up", -EAGAIN, "no usable answer");
	answer(200, "<a><AccessKeyId>A</AccessKeyId><SecretAccessKey>SECRET</SecretAccessKey>"
		    "<Expiration>soon</Expiration></a>");
	assert_fails("up", -EAGAIN, "no usable answer");
}

static void token_file(void **state)
{
	write_file(*state, "config",
		"[profile web]\nrole_arn = R\nweb_identity_token_file = ~/token\n");
	assert_fails("web", -EKEYEXPIRED, "/token: No such file or directory; renew the token");
	write_at_home(*state, "token", "  SECRET/tok+en\n");
	assert_gets("web", "role R by web identity token");
	assert_body(0, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=R&");
	assert_body(0, "&WebIdentityToken=SECRET%2Ftok%2Ben");
	assert_null(strstr(request(0)->head, "authorization"));
	answer(400, STS_ERROR("ExpiredTokenException", "Token expired"));
	assert_fails("web", -EKEYEXPIRED, "ExpiredTokenException");
	write_at_home(*state, "token", "a\r\nb");
	assert_fails("web", -EKEYEXPIRED, "Invalid argument");
}

/* ---- a clock that is wrong ------------------------------------------------------------------ */

static void skewed(void *user, unsigned n, const struct server_request *req, struct buf *out)
{
	const char *body = n ? STS_ANSWER : STS_ERROR("SignatureDoesNotMatch", "Signature expired");
	buf_printf(out,
		"HTTP/1.1 %d X\r\nDate: Sun, 01 Mar 2026 11:00:00 GMT\r\n"
		"Content-Length: %zu\r\n\r\n%s",
		n ? 200 : 403, strlen(body), body);
}

static void the_servers_clock_rules(void **state)
{
	write_file(*state, "config", ROLE);
	server.answer = skewed;
	struct auth *a = tried("up");
	assert_keys(a, "ASIA1", "SECRET1", "TOKEN1");
	assert_head(0, "x-amz-date: 20260301T120000Z");
	assert_head(1, "x-amz-date: 20260301T110000Z");
	assert_int_equal(server_count(&server), 2);
	/* they live until 13:00 of the server, 14:00 of ours */
	struct s3_credentials keys;
	server.answer = play;
	answer(500, "");
	clock_fake_advance_ms(7199 * MS_PER_S);
	assert_int_equal(auth_get(a, &keys), 0);
	clock_fake_advance_ms(1 * MS_PER_S);
	assert_int_equal(auth_get(a, &keys), -EKEYEXPIRED);
	auth_destroy(a);
}

/* ---- SSO ------------------------------------------------------------------------------------ */

#define SSO_PROFILE                                                                                \
	"[profile lab]\nsso_session = lab\nsso_account_id = 123\nsso_role_name = up load\n"        \
	"[sso-session lab]\nsso_start_url = https://x\nsso_region = eu-west-1\n"
#define SSO_CACHE ".aws/sso/cache/3953f9ddf975ab5097ee468d99555c5b441169bf.json"

static void sso(void **state)
{
	setenv("AWS_ENDPOINT_URL_SSO", server.url, 1);
	write_file(*state, "config", SSO_PROFILE);
	assert_fails("lab", -EKEYEXPIRED,
		"SSO role up load of profile lab: nobody is signed in by SSO "
		"here; aws sso login --profile lab");
	write_at_home(*state, SSO_CACHE, "{\"accessToken\": \"SECRETtok\"}");
	assert_fails("lab", -EKEYEXPIRED, "is not usable");
	write_at_home(*state, SSO_CACHE,
		"{\"accessToken\": \"SECRETtok\", \"expiresAt\": \"2026-03-01T11:59:59Z\"}");
	assert_fails("lab", -EKEYEXPIRED,
		"the SSO sign-in expired at 2026-03-01T11:59:59Z; aws sso login");
	assert_int_equal(server_count(&server), 0);
	write_at_home(*state, SSO_CACHE,
		"{\"startUrl\": \"https://x\", \"accessToken\": \"SECRETtok\", \"expiresAt\": "
		"\"2026-03-01T12:00:01UTC\"}"); /* an older form of time: not known to be over */
	answer(200, "{\"roleCredentials\": {\"accessKeyId\": \"ASIA1\", \"secretAccessKey\": "
		    "\"SECRET1\", \"sessionToken\": \"TOKEN1\", \"expiration\": 1772370000000}}");
	assert_gets("lab", "SSO role up load of profile lab, until");
	assert_head(0, "GET /federation/credentials?account_id=123&role_name=up%20load HTTP");
	assert_head(0, "x-amz-sso_bearer_token: SECRETtok\r\n");
	answer(401, "{\"message\": \"Session token not found or invalid\"}");
	assert_fails("lab", -EKEYEXPIRED, "is not valid any more; aws sso login --profile lab");
	answer(403, "{\"message\": \"No access\"}");
	assert_fails("lab", -EACCES, "SSO refuses role up load of account 123: No access");
	answer(500, "x");
	assert_fails("lab", -EAGAIN, "SSO: status 500");
}

/* ---- the machine's own ---------------------------------------------------------------------- */

static void container(void **state)
{
	char url[128];
	answer(200, JSON_ANSWER);
	snprintf(url, sizeof(url), "%s/creds?id=1", server.url);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
	assert_gets(NULL, "the container's credentials endpoint");
	assert_head(0, "GET /creds?id=1 HTTP");
	assert_null(strstr(request(0)->head, "Authorization"));
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic SECRETx", 1);
	assert_gets(NULL, "container");
	assert_head(1, "Authorization: Basic SECRETx\r\n");
	write_at_home(*state, "token", "SECRETfile\n");
	snprintf(url, sizeof(url), "%s/token", ((struct home *)*state)->path);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", url, 1);
	assert_gets(NULL, "container");
	assert_head(2, "Authorization: SECRETfile\r\n");
	answer(403, "");
	assert_fails(NULL, -EACCES, "says 403; see whether the task or pod has a role");
	answer(503, "");
	assert_fails(NULL, -EAGAIN, "says 503");
	answer(200, "[]");
	assert_fails(NULL, -EAGAIN, "no JSON object");
	unsetenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\r\nx: y", 1);
	assert_fails(NULL, -EACCES, "holds a line break");
}

/* A set variable must not send a token to anybody. */
static void container_hosts(void **state)
{
	static const char *const refused[] = {"http://example.org/x", "http://169.254.170.3/x",
		"http://127.0.0.1.evil.org/x", "http://[::2]/x", "http://localhost.evil.org/x",
		"http://127.1.evil/"};
	for (size_t i = 0; i < array_len(refused); i++) {
		setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", refused[i], 1);
		assert_fails(NULL, -EACCES, "is not safe");
	}
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "file:///etc/passwd", 1);
	assert_fails(NULL, -EACCES, "is no http or https address");
	assert_int_equal(server_count(&server), 0);
}

static void instance_steps(
	void *user, unsigned n, const struct server_request *req, struct buf *out)
{
	if (strstr(req->head, "PUT /latest/api/token"))
		answer_with(out, 200, "TOK");
	else if (strstr(req->head, "security-credentials/ HTTP"))
		answer_with(out, 200, "worker\nsecond");
	else
		answer_with(out, 200, JSON_ANSWER);
}

static void instance_without_role(
	void *user, unsigned n, const struct server_request *req, struct buf *out)
{
	bool is_token = strstr(req->head, "PUT /latest/api/token");
	answer_with(out, is_token ? 200 : 404, is_token ? "TOK" : "");
}

static void instance(void **state)
{
	unsetenv("AWS_EC2_METADATA_DISABLED");
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url, 1);
	server.answer = instance_steps;
	assert_gets(NULL, "the role of this EC2 instance");
	assert_head(0, "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n");
	assert_head(1, "GET /latest/meta-data/iam/security-credentials/ HTTP");
	assert_head(1, "X-aws-ec2-metadata-token: TOK\r\n");
	assert_head(2, "GET /latest/meta-data/iam/security-credentials/worker HTTP");
	server.answer = play;
	answer(404, "");
	assert_fails(NULL, -ENOKEY, "no credentials were found");
	answer(500, "");
	assert_fails(NULL, -EAGAIN, "instance metadata says 500");
	server.answer = instance_without_role;
	assert_fails(NULL, -ENOKEY, "no credentials were found");
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1", 1);
	assert_fails(NULL, -ENOKEY, "set AWS_ACCESS_KEY_ID");
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	assert_fails(NULL, -ENOKEY, "set AWS_ACCESS_KEY_ID");
}

/* ---- credential_process --------------------------------------------------------------------- */

static void assert_splits(const char *line, const char *expected)
{
	char room[256], joined[256] = "";
	char *words[8];
	assert_int_equal(auth_process_split(line, words, 8, room), 0);
	for (char **w = words; *w; w++) {
		size_t len = strlen(joined);
		snprintf(joined + len, sizeof(joined) - len, "[%s]", *w);
	}
	assert_string_equal(joined, expected);
}

/* As Python's shlex.split() does. */
static void lines_are_split_as_aws_does(void **state)
{
	char room[64];
	char *words[4];
	assert_splits("a b  c", "[a][b][c]");
	assert_splits("\"/opt/my tools/p\" --x='a \"b\"' \"c 'd'\"",
		"[/opt/my tools/p][--x=a \"b\"][c 'd']");
	assert_splits("a\\ b c\\\\d \\\"e", "[a b][c\\d][\"e]");
	assert_splits("\"a\\\"b\\\\c\\d\" '\\x'", "[a\"b\\c\\d][\\x]");
	assert_splits("a '' \"\"", "[a][][]");
	assert_splits("a#b # c $X `d` *", "[a#b][#][c][$X][`d`][*]");
	assert_int_equal(auth_process_split("a 'b", words, 4, room), -EINVAL);
	assert_int_equal(auth_process_split("a \"b", words, 4, room), -EINVAL);
	assert_int_equal(auth_process_split("a \\", words, 4, room), -EINVAL);
	assert_int_equal(auth_process_split("  ", words, 4, room), -EINVAL);
	assert_int_equal(auth_process_split("a b c d", words, 4, room), -E2BIG);
}

static void set_process(struct home *h, const char *script_text)
{
	char text[256], path[128];
	write_at_home(h, "my tools/p", script_text);
	snprintf(path, sizeof(path), "%s/my tools/p", h->path);
	assert_int_equal(chmod(path, 0755), 0);
	snprintf(text, sizeof(text), "[profile p]\ncredential_process = \"%s\" one 'two three'\n",
		path);
	write_file(h, "config", text);
}

static void process(void **state)
{
	clock_fake_end(); /* programs take real time */
	set_process(*state, "#!/bin/sh\n"
			    "[ \"$1/$2/$#\" = \"one/two three/2\" ] || exit 9\n"
			    "echo noise >&2\n"
			    "echo '{\"Version\": 1, \"AccessKeyId\": \"P\", \"SecretAccessKey\": "
			    "\"SECRETp\", \"SessionToken\": \"T\", \"Expiration\": "
			    "\"2099-01-01T00:00:00Z\"}'\n");
	struct auth *a = tried("p");
	assert_keys(a, "P", "SECRETp", "T");
	assert_describes(a, "credential_process of profile p, until 2099-01-01T00:00:00Z");
	auth_destroy(a);
	set_process(*state, "#!/bin/sh\necho '{\"Version\": 1, \"AccessKeyId\": \"P\", "
			    "\"SecretAccessKey\": \"SECRETp\"}'\n");
	a = tried("p");
	assert_keys(a, "P", "SECRETp", "");
	auth_destroy(a);
}

static void processes_that_fail(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"#!/bin/sh\necho 'no ticket' >&2\necho more >&2\nexit 3\n",
			"credential_process ended with status 3: no ticket; run the "
			"credential_process of profile p by hand"},
		{"#!/bin/sh\nkill -9 $$\n", "ended with signal 9"},
		{"#!/bin/sh\necho SECRET\n", "prints no JSON"},
		{"#!/bin/sh\necho '{\"AccessKeyId\": \"P\", \"SecretAccessKey\": \"SECRETp\"}'\n",
			"no \"Version\": 1"},
		{"#!/bin/sh\necho '{\"Version\": 2, \"AccessKeyId\": \"P\", \"SecretAccessKey\": "
		 "\"SECRETp\"}'\n",
			"no \"Version\": 1"},
		{"#!/bin/sh\necho '{\"Version\": 1, \"AccessKeyId\": \"P\"}'\n",
			"no AccessKeyId and SecretAccessKey"},
		{"#!/bin/sh\nhead -c 100000 /dev/zero\n", "prints more than credentials"},
		{"#!/nonexistent\n", "cannot be run: No such file"},
		{"#!/bin/sh\necho '{\"Version\": 1, \"AccessKeyId\": \"P\", \"SecretAccessKey\": "
		 "\"SECRETp\", \"Expiration\": \"2020-01-01T00:00:00Z\"}'\n",
			"they expired at 2020-01-01T00:00:00Z"},
	};
	clock_fake_end();
	for (size_t i = 0; i < array_len(cases); i++) {
		/* valgrind ends a process whose exec fails */
		if (getenv("CPGFS_UNDER_VALGRIND") && strstr(cases[i].says, "cannot be run"))
			continue;
		set_process(*state, cases[i].text);
		assert_fails("p", -EKEYEXPIRED, cases[i].says);
	}
}

/* It has the keys that this process has overwritten in its own environment, and its folder. */
static void a_process_has_the_environment(void **state)
{
	clock_fake_end();
	set_process(*state, "#!/bin/sh\necho \"{\\\"Version\\\": 1, \\\"AccessKeyId\\\": "
			    "\\\"$AWS_ACCESS_KEY_ID\\\", \\\"SecretAccessKey\\\": "
			    "\\\"$AWS_SECRET_ACCESS_KEY$PWD\\\"}\"\n");
	setenv("AWS_ACCESS_KEY_ID", "E", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SECRETe", 1);
	assert_int_equal(chdir("/usr"), 0);
	struct auth *a = auth_of("p");
	assert_int_equal(chdir("/"), 0);
	auth_forget_environment();
	auth_tick(a);
	assert_keys(a, "E", "SECRETe/usr", "");
	auth_destroy(a);
}

static void stop_soon(void *user)
{
	struct auth *a = user;
	auth_stop(a);
}

/* Ended with what it started, when the mount ends. */
static void a_process_that_hangs_is_stopped(void **state)
{
	char path[128];
	clock_fake_end();
	snprintf(path, sizeof(path), "%s/running", ((struct home *)*state)->path);
	cleanup_buf struct buf text = {0};
	buf_printf(&text, "#!/bin/sh\nsleep 1000 &\necho $! >'%s.new'\nmv '%s.new' '%s'\nwait\n",
		path, path, path);
	set_process(*state, buf_text(&text));
	struct auth *a = auth_of("p");
	assert_int_equal(auth_start(a), 0);
	int64_t end_ms = clock_mono_ms() + RIG_DEADLINE_MS;
	while (access(path, F_OK)) {
		assert_true(clock_mono_ms() < end_ms);
		(void)poll(NULL, 0, 5);
	}
	struct thread *stopper;
	assert_int_equal(thread_start(&stopper, "stopper", stop_soon, a), 0);
	thread_join(stopper);
	FILE *f = fopen(path, "r");
	int pid = 0;
	assert_int_equal(fscanf(f, "%d", &pid), 1);
	fclose(f);
	/* a killed child of init or of a reaper that is slow may be a zombie for a moment */
	while (kill(pid, 0) == 0) {
		char stat_path[64], line[256] = "";
		snprintf(stat_path, sizeof(stat_path), "/proc/%d/stat", pid);
		f = fopen(stat_path, "r");
		if (!f || !fgets(line, sizeof(line), f) || strstr(line, ") Z "))
			end_ms = 0;
		if (f)
			fclose(f);
		if (!end_ms)
			break;
		assert_true(clock_mono_ms() < end_ms);
		(void)poll(NULL, 0, 5);
	}
	auth_destroy(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SOURCE_TEST(a_role_is_assumed),
		SOURCE_TEST(a_role_with_everything),
		SOURCE_TEST(roles_in_a_row),
		SOURCE_TEST(roles_that_are_refused),
		SOURCE_TEST(answers_that_are_traps),
		SOURCE_TEST(token_file),
		SOURCE_TEST(the_servers_clock_rules),
		SOURCE_TEST(sso),
		SOURCE_TEST(container),
		SOURCE_TEST(container_hosts),
		SOURCE_TEST(instance),
		SOURCE_TEST(lines_are_split_as_aws_does),
		SOURCE_TEST(process),
		SOURCE_TEST(processes_that_fail),
		SOURCE_TEST(a_process_has_the_environment),
		SOURCE_TEST(a_process_that_hangs_is_stopped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
