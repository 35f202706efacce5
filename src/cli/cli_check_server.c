/*
 * cli_check_server - credentials, and what one listing tells: reachable, clock, region, rights.
 */
#include "cli_check.h"
#include "cli_credentials.h"
#include "cli_gallery.h"
#include "cli_private.h"

#define CREDENTIALS_WAIT_MS 20000
#define LIST_TIMEOUT_MS 15000
#define CLOCK_WARN_MS (60 * MS_PER_S)
#define CLOCK_FAIL_MS (15 * 60 * MS_PER_S)
#define EXPIRES_SOON_MS (60 * 60 * MS_PER_S)

/* ---- credentials ---------------------------------------------------------------------------- */

static int start_auth(struct check_run *run, char **ret_message)
{
	const struct cli_mount *m = run->options;
	struct auth_config config = {
		.profile = m->profile,
		.anonymous = m->no_sign_request,
		.region = m->region,
		.ca_bundle = m->ca_bundle,
		.access_grant = m->access_grant,
		.account_id = m->account_id,
		.bucket = m->bucket,
		.prefix = m->prefix,
		.permission = m->read_only ? AUTH_READ : AUTH_READWRITE,
	};
	int r = auth_create(&run->auth, &config, ret_message);
	if (r < 0)
		return r;
	auth_forget_environment();
	r = auth_start(run->auth);
	return r < 0 ? r : auth_wait(run->auth, clock_mono_ms() + CREDENTIALS_WAIT_MS, ret_message);
}

/* A refused exchange is the grant's matter; to have no keys at all is not. */
static bool no_credentials(struct check_run *run, int error, const char *message)
{
	const struct cli_mount *m = run->options;
	bool of_grant = m->access_grant && run->auth && error != -ENOKEY;
	const char *name = of_grant ? "grant" : "credentials";
	check_say(run->report, CHECK_FAIL, name, "%s", message ? message : strerror(-error));
	if (of_grant)
		check_remedy(run->report,
			"s3://%s/%s must be the prefix you were given, exactly, with the keys for "
			"it; else ask "
			"who gave them",
			m->bucket, m->prefix);
	else if (m->credentials_way == GALLERY_ROLE)
		check_remedy(run->report,
			"gallery %s is written through a role (%s); to read what is public: "
			"--no-sign-request",
			m->gallery, m->profile ? m->profile : "its maintainers give one");
	else
		check_remedy(run->report,
			"export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (`export`: plain "
			"assignments are not seen), or name a --profile of "
			"~/.aws/credentials");
	return false;
}

static void say_expiry(struct check_run *run, const struct auth_status *s)
{
	char at[32], left[24];
	int64_t left_ms = (s->expires_at_ns - clock_wall_ns()) / 1000000;
	if (!s->expires_at_ns)
		return;
	time_format_iso8601(s->expires_at_ns, at);
	duration_format(left_ms > 0 ? left_ms : 0, left);
	if (s->renew_at_ns) {
		check_say(
			run->report, CHECK_OK, "expiry", "until %s (%s), renewed before", at, left);
	} else {
		check_say(run->report, left_ms < EXPIRES_SOON_MS ? CHECK_WARN : CHECK_OK, "expiry",
			"until %s (%s), and nothing renews them", at, left);
		check_remedy(run->report,
			"when they have expired, uploads wait: hand the mount new ones with "
			"`cpgfs credentials MOUNTPOINT`");
	}
	check_number(run->report, "expires_in_s", (double)left_ms / 1000);
}

static void say_grant(struct check_run *run, const struct auth_status *s)
{
	if (!s->by_grant)
		return;
	const char *target =
		s->matched_target[0] ? s->matched_target : "a grant that it does not name";
	if (s->permission == AUTH_READWRITE) {
		check_say(run->report, CHECK_OK, "grant", "%s, to read and write", target);
	} else if (run->options->read_only) {
		check_say(run->report, CHECK_OK, "grant", "%s, to read", target);
	} else {
		check_say(run->report, CHECK_FAIL, "grant", "%s is for reading only", target);
		check_remedy(run->report, "ask for a READWRITE grant; or mount --read-only");
		run->no_write = true;
	}
}

/* Half-copied keys are refused by the server with words that help nobody. */
static bool say_oddity(struct check_run *run)
{
	cleanup_secret struct s3_credentials *keys = secret_alloc(sizeof(*keys));
	char oddity[256] = "";
	if (keys && auth_get(run->auth, keys) == 0)
		credentials_oddity(keys, oddity, sizeof(oddity));
	if (!oddity[0])
		return false;
	check_say(run->report, CHECK_FAIL, "credentials", "%s", oddity);
	check_remedy(run->report, "export all values of one set, and nothing of another");
	return true;
}

bool check_credentials(struct check_run *run)
{
	cleanup_free char *message = NULL;
	char source[256];
	struct auth_status status;
	int r = start_auth(run, &message);
	if (check_is_interrupted())
		return false;
	if (r < 0)
		return no_credentials(run, r, message);
	if (say_oddity(run))
		return false;
	auth_describe(run->auth, source);
	auth_status(run->auth, &status);
	if (status.state == AUTH_ANONYMOUS) {
		check_say(run->report, CHECK_OK, "credentials", "%s: for reading only", source);
		run->no_write = true;
		return true;
	}
	check_say(run->report, CHECK_OK, "credentials", "%s", source);
	say_expiry(run, &status);
	say_grant(run, &status);
	return true;
}

/* ---- the clock ------------------------------------------------------------------------------ */

void check_judge_clock(struct check_report *r, int64_t ahead_ms)
{
	int64_t off_ms = ahead_ms < 0 ? -ahead_ms : ahead_ms;
	char text[24];
	duration_format(off_ms, text);
	enum check_level level = off_ms >= CLOCK_FAIL_MS   ? CHECK_FAIL
				 : off_ms >= CLOCK_WARN_MS ? CHECK_WARN
							   : CHECK_OK;
	if (level == CHECK_OK)
		check_say(r, level, "clock", "agrees with the server's (within a minute)");
	else
		check_say(r, level, "clock", "this machine's clock is %s %s the server's", text,
			ahead_ms > 0 ? "ahead of" : "behind");
	if (level == CHECK_FAIL)
		check_remedy(r, "set it: timedatectl set-ntp true. Requests are signed with a "
				"corrected time, but "
				"credentials cannot be renewed and certificates not judged by a "
				"wrong clock");
	else if (level == CHECK_WARN)
		check_remedy(r, "set it: timedatectl set-ntp true");
	check_number(r, "ahead_s", (double)ahead_ms / 1000);
}

/* The Date header has whole seconds, and was written while the request was under way. */
static void say_clock(struct check_run *run, const struct s3_reply *reply)
{
	if (reply->date_ns)
		check_judge_clock(run->report, (clock_wall_ns() - reply->date_ns) / 1000000);
}

/* ---- the server ----------------------------------------------------------------------------- */

static void transport_remedy(struct check_run *run, const char *code)
{
	static const struct {
		const char *code, *remedy;
	} rows[] = {
		{"NameNotResolved", "is the network up, and --endpoint right? (getent hosts NAME)"},
		{"ConnectFailed",
			"is the network up, the server running, --endpoint right (its port, too)?"},
		{"Timeout", "a firewall in between? Does `curl -v` reach it?"},
		{"TlsNotTrusted",
			"its certificate is not trusted: --ca-bundle FILE, or is the clock wrong?"},
		{"TlsFailed", "is --endpoint rather http:// than https://?"},
		{"NotHttp", "what answers there is no S3 server: look at --endpoint"},
		{"ProxyNotResolved", "look at the environment's http_proxy and https_proxy"},
		{"ProxyRefused", "the proxy wants a password, or does not let this through"},
	};
	for (size_t i = 0; i < array_len(rows); i++)
		if (strcmp(rows[i].code, code) == 0) {
			check_remedy(run->report, "%s", rows[i].remedy);
			return;
		}
	check_remedy(run->report, "try again; uploads would wait for the server");
}

static const char *server_name(const struct cli_mount *m)
{
	return m->endpoint ? m->endpoint : "AWS";
}

static bool is_reached(struct check_run *run, const struct s3_reply *reply)
{
	const struct cli_mount *m = run->options;
	bool broken = reply->class == S3_RETRY || reply->class == S3_THROTTLED ||
		      reply->class == S3_UNKNOWN;
	if (reply->http_status && !broken) {
		check_say(run->report, CHECK_OK, "server", "%s answers", server_name(m));
		return true;
	}
	check_say(run->report, CHECK_FAIL, "server", "%s does not answer usably: %s (%s)",
		server_name(m), reply->code, reply->message);
	transport_remedy(run, reply->code);
	return false;
}

/* A redirect, or a refusal that names the right one. */
static bool is_right_region(struct check_run *run, const struct s3_reply *reply)
{
	const char *mine = run->region[0] ? run->region : "us-east-1";
	bool moved = reply->http_status / 100 == 3 ||
		     strcmp(reply->code, "AuthorizationHeaderMalformed") == 0;
	if (!moved && (!reply->region[0] || strcmp(reply->region, mine) == 0)) {
		check_say(run->report, CHECK_OK, "region", "%s", mine);
		return true;
	}
	check_say(run->report, CHECK_FAIL, "region", "%s is not the bucket's: %s (%s)", mine,
		reply->code, reply->message);
	if (reply->region[0])
		check_remedy(run->report, "--region %s", reply->region);
	else if (reply->redirect_to[0])
		check_remedy(run->report, "the server says: %s", reply->redirect_to);
	else
		check_remedy(run->report,
			"give the bucket's --region (also AWS_REGION, or the profile's)");
	return false;
}

static void list_remedy(struct check_run *run, const struct s3_reply *reply)
{
	const struct cli_mount *m = run->options;
	if (reply->class == S3_DENIED && !m->gallery)
		check_remedy(run->report,
			"the prefix must be the one you were given, with the keys for it; keys of "
			"a gallery "
			"may have to be exchanged first (--gallery NAME, `cpgfs galleries`)");
	else if (reply->class == S3_DENIED)
		check_remedy(run->report,
			"the prefix must be the one you were given, with the keys for it");
	else if (reply->class == S3_AUTH)
		check_remedy(run->report,
			"get new keys, all of one set (AWS_SESSION_TOKEN, too, for temporary "
			"ones), and look at --profile");
	else
		check_remedy(run->report, "look at the bucket's name and --endpoint");
}

static bool may_list(struct check_run *run, const struct s3_reply *reply)
{
	cleanup_free char *message = NULL;
	const struct cli_mount *m = run->options;
	int r = cli_probe_judge(reply, m->bucket, m->prefix, &message);
	if (r == 0) {
		check_say(run->report, CHECK_OK, "list", "s3://%s/%s can be listed", m->bucket,
			m->prefix);
		check_number(run->report, "round_trip_ms", (double)reply->elapsed_ms);
		return true;
	}
	check_say(run->report, CHECK_FAIL, "list", "%s", message ? message : strerror(ENOMEM));
	list_remedy(run, reply);
	return false;
}

static int start_client(struct check_run *run)
{
	const struct cli_mount *m = run->options;
	auth_region(run->auth, run->region);
	if (m->region)
		(void)text_copy(run->region, m->region, sizeof(run->region));
	struct s3_config config = {
		.endpoint = m->endpoint,
		.region = run->region[0] ? run->region : NULL,
		.bucket = m->bucket,
		.sign_payload_always = m->sign_payload_always,
		.ca_bundle = m->ca_bundle,
		.credentials = auth_source(run->auth),
	};
	int r = s3_client_create(&run->s3, &config);
	if (r < 0) {
		check_say(run->report, CHECK_FAIL, "server",
			"%s: the endpoint or bucket is not usable: %s", server_name(m),
			strerror(-r));
		check_remedy(
			run->report, "an endpoint is http://HOST[:PORT] or https://HOST[:PORT]");
	}
	return r;
}

bool check_server(struct check_run *run)
{
	char below[KEY_MAX_BYTES + 2];
	const struct cli_mount *m = run->options;
	struct s3_request req = {
		.op = S3_LIST, .prefix = below, .max_keys = 1, .timeout_ms = LIST_TIMEOUT_MS};
	struct s3_reply reply;
	if (start_client(run) < 0)
		return false;
	snprintf(below, sizeof(below), "%s%s", m->prefix, m->prefix[0] ? "/" : "");
	int r = check_call(run, &req, &reply);
	if (r < 0) {
		if (r != -EINTR)
			check_say(run->report, CHECK_FAIL, "server", "%s", strerror(-r));
		return false;
	}
	bool fine = is_reached(run, &reply);
	say_clock(run, &reply);
	fine = fine && is_right_region(run, &reply) && may_list(run, &reply);
	s3_reply_release(&reply);
	return fine;
}
