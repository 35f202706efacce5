/*
 * cli_credentials - `cpgfs credentials`: hand keys to a running mount.
 *
 * They come on standard input, from a terminal unseen, or out of the environment; never from the
 * command line, which others see in `ps` and shells keep. They are tried on the bucket first, so
 * that keys of another prefix do not take the place of good ones, and go to .cpgfs/credentials in
 * one write. Nothing is kept.
 */
#include "cli_credentials.h"
#include "cli_private.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <sys/prctl.h>

#define GOING_ON_WAIT_MS 5000
#define TRY_TIMEOUT_MS 10000

struct hand_over {
	struct cli_target target;
	bool from_environment, from_input, force;
	struct credentials_text text;
	struct s3_credentials *keys; /* secret_alloc'ed */
	char matched_target[AUTH_TARGET_MAX];
	json_t *status; /* of the mount */
};

static void hand_over_release(struct hand_over *h)
{
	credentials_text_release(&h->text);
	secret_free(h->keys);
	json_decref(h->status);
}

static void credentials_usage(FILE *out)
{
	fprintf(out,
		"Usage: cpgfs credentials [--env|--stdin] [--force] MOUNTPOINT\n\n"
		"Hand new keys to a running mount; uploads that waited for them go on. On standard "
		"input\n"
		"(pasted at a terminal they are not shown):\n\n"
		"  aws s3control get-data-access … | cpgfs credentials MOUNTPOINT\n"
		"  aws configure export-credentials [--format …] | cpgfs credentials MOUNTPOINT\n"
		"  lines AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_SESSION_TOKEN=…\n\n"
		"Without any, from the environment, as `source create_credentials.sh` leaves "
		"them.\n"
		"They are kept in the mount's memory only, until it ends.\n\n"
		"  --env      from the environment, whatever standard input is\n"
		"  --stdin    from standard input, whatever is in the environment\n"
		"  --force    do not try them on the bucket first\n\n"
		"Exit code: 0 the mount uses them; 1 it does not; 3 it does, but uploads still "
		"wait.\n");
}

/* ---- the command line ----------------------------------------------------------------------- */

/* Refuses what looks like a key, and takes it out of sight of `ps`. */
static int refuse_secrets(int argc, char **argv)
{
	bool found = false;
	for (int i = 1; i < argc; i++) {
		if (!credentials_word_is_secret(argv[i]))
			continue;
		explicit_bzero(argv[i], strlen(argv[i]));
		found = true;
	}
	if (found)
		cli_error("keys are not taken from the command line: everybody on this machine "
			  "could read "
			  "them in `ps`, and the shell keeps them in its history (delete them "
			  "there). Run "
			  "`cpgfs credentials MOUNTPOINT` and paste them, or give them on standard "
			  "input");
	return found ? -EINVAL : 0;
}

static int parse_words(int argc, char **argv, struct hand_over *h)
{
	const char *mount = NULL;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			credentials_usage(stdout);
			return -ECANCELED;
		}
		if (strcmp(argv[i], "--env") == 0)
			h->from_environment = true;
		else if (strcmp(argv[i], "--stdin") == 0 || strcmp(argv[i], "-") == 0)
			h->from_input = true;
		else if (strcmp(argv[i], "--force") == 0)
			h->force = true;
		else if (argv[i][0] == '-' || mount) {
			cli_error("credentials: \"%s\" is too much; a file of keys is given as "
				  "`cpgfs "
				  "credentials MOUNTPOINT < FILE`",
				argv[i]);
			return -EINVAL;
		} else
			mount = argv[i];
	}
	if (!mount || (h->from_environment && h->from_input)) {
		credentials_usage(stderr);
		return -EINVAL;
	}
	return cli_target_find(mount, &h->target);
}

/* ---- getting them --------------------------------------------------------------------------- */

static int ask_terminal(struct hand_over *h)
{
	fprintf(stderr, "Paste the keys (JSON, or AWS_… = … lines; they are not shown), then an "
			"empty line:\n");
	int r = credentials_from_terminal(STDIN_FILENO, &h->text);
	if (r == -ECANCELED)
		fprintf(stderr, "nothing was handed over\n");
	return r;
}

static int take_environment(struct hand_over *h)
{
	int r = credentials_from_environment(&h->text);
	if (r == -ENOENT)
		cli_error("there are no keys on standard input, and none in the environment: "
			  "AWS_ACCESS_KEY_ID, "
			  "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN must be exported (`export "
			  "NAME=value`, or `source create_credentials.sh` rather than running it)");
	return r;
}

/* A token in the environment of a terminal is one that was just sourced. */
static int take_text(struct hand_over *h)
{
	bool terminal = isatty(STDIN_FILENO);
	const char *token = getenv("AWS_SESSION_TOKEN");
	if (h->from_environment || (terminal && !h->from_input && token && *token))
		return take_environment(h);
	if (terminal)
		return ask_terminal(h);
	int r = credentials_from_pipe(STDIN_FILENO, &h->text);
	if (r < 0)
		cli_error("standard input: %s",
			r == -EFBIG ? "more text than credentials are" : strerror(-r));
	if (r == 0 && h->text.text[strspn(h->text.text, " \t\r\n")] == '\0' && !h->from_input) {
		credentials_text_release(&h->text);
		r = take_environment(h);
	}
	return r;
}

static int understand(struct hand_over *h)
{
	cleanup_free char *message = NULL;
	char oddity[256];
	h->keys = secret_alloc(sizeof(*h->keys));
	if (!h->keys)
		return -ENOMEM;
	int r = auth_parse_pasted(h->text.text, h->text.len, h->keys, h->matched_target, &message);
	if (r < 0) {
		cli_error("%s: %s", h->text.from, message ? message : strerror(-r));
		return r;
	}
	credentials_oddity(h->keys, oddity, sizeof(oddity));
	if (oddity[0]) {
		cli_error("%s: %s", h->text.from, oddity);
		return -EINVAL;
	}
	return 0;
}

static int say_found(const struct hand_over *h)
{
	char tail[16], expires[32], left[24];
	int64_t at_ns = h->keys->expires_at_ns, left_ms = (at_ns - clock_wall_ns()) / 1000000;
	credentials_key_tail(h->keys, tail);
	printf("%s: %s key %s", h->text.from,
		h->keys->session_token[0] ? "temporary" : "long-lived", tail);
	if (at_ns) {
		time_format_iso8601(at_ns, expires);
		duration_format(left_ms > 0 ? left_ms : -left_ms, left);
		printf(left_ms > 0 ? ", until %s (%s)" : ", EXPIRED at %s (%s ago)", expires, left);
	} else if (h->keys->session_token[0]) {
		printf(", it does not say until when");
	}
	printf("%s%s\n", h->matched_target[0] ? ", for " : "", h->matched_target);
	fflush(stdout);
	if (at_ns && left_ms <= 0) {
		cli_error("they have expired: get new ones");
		return -EKEYEXPIRED;
	}
	return 0;
}

/* ---- trying them ---------------------------------------------------------------------------- */

static int read_status(struct hand_over *h)
{
	cleanup_buf struct buf text;
	buf_init(&text, 0);
	json_decref(h->status);
	h->status = NULL;
	int r = cli_read(h->target.root, "status.json", &text);
	if (r < 0) {
		cli_error("%s: status cannot be read: %s", h->target.root, strerror(-r));
		return r;
	}
	h->status = json_loadb(buf_text(&text), text.len, 0, NULL);
	return h->status ? 0 : -EPROTO;
}

/* The value of an option of the mount; "" if it has none. */
static const char *mount_option(const struct hand_over *h, const char *name)
{
	size_t i, len = strlen(name);
	json_t *row;
	json_array_foreach(json_object_get(h->status, "options"), i, row)
	{
		const char *text = json_string_value(row);
		if (text && text_starts(text, name) && text[len] == '=')
			return text + len + 1;
	}
	return "";
}

static const char *mount_fact(const struct hand_over *h, const char *name)
{
	return json_string_value(json_object_get(json_object_get(h->status, "mount"), name));
}

static bool is_exchanged(const struct hand_over *h)
{
	return strcmp(mount_option(h, "access-grant"), "true") == 0 && !h->keys->session_token[0];
}

static int give_keys(void *user, struct s3_credentials *ret)
{
	*ret = *(const struct s3_credentials *)user;
	return 0;
}

static bool keys_rejected(void *user, const struct s3_credentials *which, const char *code)
{
	return false;
}

static int list_once(const struct hand_over *h, struct s3_reply *ret)
{
	const char *region = mount_option(h, "region"), *bundle = mount_option(h, "ca-bundle");
	struct s3_config config = {
		.endpoint = mount_fact(h, "endpoint"),
		.region = region[0] ? region : NULL,
		.bucket = mount_fact(h, "bucket"),
		.ca_bundle = bundle[0] ? bundle : NULL,
		.credentials = {give_keys, keys_rejected, h->keys},
	};
	struct s3_request request = {.op = S3_LIST,
		.prefix = mount_fact(h, "prefix"),
		.max_keys = 1,
		.timeout_ms = TRY_TIMEOUT_MS};
	struct s3 *s3;
	int r = s3_client_create(&s3, &config);
	if (r < 0)
		return r;
	r = s3_call(s3, &request, ret);
	if (r == 0 && ret->class == S3_CLOCK) { /* the offset is known now */
		s3_reply_release(ret);
		r = s3_call(s3, &request, ret);
	}
	s3_destroy(s3);
	return r;
}

/* Only a clear no counts: a network that is down must not keep good keys out. */
static int try_keys(const struct hand_over *h)
{
	struct s3_reply reply;
	if (h->force || is_exchanged(h))
		return 0;
	int r = list_once(h, &reply);
	if (r < 0) {
		cli_error("the keys could not be tried on the bucket: %s", strerror(-r));
		return 0;
	}
	if (reply.class == S3_AUTH || reply.class == S3_DENIED) {
		cli_error("these keys are refused for s3://%s/%s (%s: %s): are they those of this "
			  "prefix? "
			  "The mount keeps the ones it has (--force hands them over nevertheless)",
			mount_fact(h, "bucket"), mount_fact(h, "prefix"), reply.code,
			reply.message);
		r = -EACCES;
	} else if (reply.class != S3_DONE) {
		cli_error("warning: the keys could not be tried on the bucket (%s: %s)", reply.code,
			reply.message);
	}
	s3_reply_release(&reply);
	return r;
}

/* ---- handing over --------------------------------------------------------------------------- */

static int add(char *text, size_t *at, size_t size, const char *fmt, ...) printf_like(4, 5);
static int add(char *text, size_t *at, size_t size, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(text + *at, size - *at, fmt, args);
	va_end(args);
	if (n < 0 || (size_t)n >= size - *at)
		return -EFBIG;
	*at += (size_t)n;
	return 0;
}

/* A JSON string: keys are printable ASCII. */
static int add_member(char *text, size_t *at, size_t size, const char *name, const char *value)
{
	int r = add(text, at, size, "\"%s\":\"", name);
	for (; *value && r == 0; value++)
		r = add(text, at, size, "%s%c", *value == '"' || *value == '\\' ? "\\" : "",
			*value);
	return r < 0 ? r : add(text, at, size, "\"");
}

/* What of the text is meant, and nothing else of it, as `aws s3control get-data-access` says it. */
static int write_json(
	const struct hand_over *h, const char *token, char *text, size_t size, size_t *ret_len)
{
	const struct s3_credentials *k = h->keys;
	char expires[32];
	size_t at = 0;
	int r = add(text, &at, size, "# reply %s\n{\"Credentials\":{", token);
	if (r == 0)
		r = add_member(text, &at, size, "AccessKeyId", k->access_key);
	if (r == 0)
		r = add(text, &at, size, ",");
	if (r == 0)
		r = add_member(text, &at, size, "SecretAccessKey", k->secret_key);
	if (r == 0 && k->session_token[0])
		r = add(text, &at, size, ",");
	if (r == 0 && k->session_token[0])
		r = add_member(text, &at, size, "SessionToken", k->session_token);
	if (r == 0 && k->expires_at_ns) {
		time_format_iso8601(k->expires_at_ns, expires);
		r = add(text, &at, size, ",\"Expiration\":\"%s\"", expires);
	}
	if (r == 0)
		r = add(text, &at, size, "}");
	if (r == 0 && h->matched_target[0])
		r = add(text, &at, size, ",");
	if (r == 0 && h->matched_target[0])
		r = add_member(text, &at, size, "MatchedGrantTarget", h->matched_target);
	if (r == 0)
		r = add(text, &at, size, "}\n");
	*ret_len = at;
	return r;
}

static int send_text(const struct hand_over *h, const char *text, size_t len)
{
	char path[4300];
	snprintf(path, sizeof(path), "%s/.cpgfs/credentials", h->target.root);
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, len);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

static int say_answer(const struct hand_over *h, const char *token, int sent)
{
	cleanup_buf struct buf reply;
	char name[64];
	buf_init(&reply, 0);
	snprintf(name, sizeof(name), "reply/%s", token);
	int r = cli_read(h->target.root, name, &reply);
	json_t *answer = r < 0 ? NULL : json_loadb(buf_text(&reply), reply.len, 0, NULL);
	const char *error = json_string_value(json_object_get(answer, "error"));
	const char *source = json_string_value(json_object_get(answer, "source"));
	const char *until = json_string_value(json_object_get(answer, "expires_at"));
	if (sent == 0)
		printf("handed over: the mount uses %s%s%s\n", source ? source : "them",
			until ? ", until " : "", until ? until : "");
	else if (!answer && (sent == -EACCES || sent == -EPERM))
		cli_error("%s: only the user who mounted it (or root) may hand over keys",
			h->target.root);
	else
		cli_error("the mount does not take them: %s", error ? error : strerror(-sent));
	json_decref(answer);
	return sent;
}

static int hand_over(const struct hand_over *h)
{
	size_t size = 4 * sizeof(struct s3_credentials) + 2 * AUTH_TARGET_MAX, len;
	cleanup_secret char *text = secret_alloc(size);
	char token[32];
	snprintf(token, sizeof(token), "%016" PRIx64, random_u64());
	int r = text ? write_json(h, token, text, size, &len) : -ENOMEM;
	if (r < 0) {
		cli_error("%s", strerror(-r));
		return r;
	}
	return say_answer(h, token, send_text(h, text, len));
}

static const char *paused_reason(const struct hand_over *h)
{
	return json_string_value(json_object_get(h->status, "paused_reason"));
}

/* Uploads that waited go on within a second; what they still wait for is said. */
static int await_going_on(struct hand_over *h)
{
	int64_t deadline_ms = clock_mono_ms() + GOING_ON_WAIT_MS;
	for (;;) {
		if (read_status(h) < 0)
			return EXIT_USAGE;
		const char *reason = paused_reason(h);
		bool waits = reason && strstr(reason, "credentials:");
		if (!waits || clock_mono_ms() >= deadline_ms) {
			if (reason)
				printf("uploads are paused: %s\n", reason);
			return waits ? EXIT_NEEDS_PERSON : EXIT_VERIFIED;
		}
		(void)poll(NULL, 0, 100); /* the pace of looking */
	}
}

static int run(struct hand_over *h)
{
	int (*const steps[])(struct hand_over *) = {take_text, understand, read_status};
	int r = 0;
	for (size_t i = 0; i < array_len(steps) && r == 0; i++)
		r = steps[i](h);
	if (r == 0)
		r = say_found(h);
	if (r == 0)
		r = try_keys(h);
	if (r == 0)
		r = hand_over(h);
	return r < 0 ? EXIT_USAGE : await_going_on(h);
}

int cmd_credentials(int argc, char **argv)
{
	struct hand_over h = {0};
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* a refusal only weakens that */
	log_set_level(LOG_LEVEL_ERROR);
	int r = refuse_secrets(argc, argv);
	if (r == 0)
		r = parse_words(argc, argv, &h);
	int code = r == -ECANCELED ? EXIT_VERIFIED : EXIT_USAGE;
	if (r == 0)
		code = run(&h);
	hand_over_release(&h);
	return fflush(stdout) == 0 ? code : EXIT_USAGE;
}
