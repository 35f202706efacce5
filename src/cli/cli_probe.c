/*
 * cli_probe - one look at the bucket before mounting: what cannot heal by itself is said at once.
 */
#include "cli_private.h"

#define PROBE_TIMEOUT_MS 5000

static int say(char **ret_message, int result, const char *fmt, ...) printf_like(3, 4);
static int say(char **ret_message, int result, const char *fmt, ...)
{
	va_list args;
	char text[1024];
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	*ret_message = text_dup(text);
	return *ret_message ? result : -ENOMEM;
}

/* What the server says beside the code and the status; HEAD-like replies say nothing. */
static const char *words(const struct s3_reply *reply)
{
	return text_starts(reply->message, "HTTP status ") ? "it gives no reason" : reply->message;
}

static int judge_auth(const struct s3_reply *reply, char **ret_message)
{
	static const char *const heals[] = { "ExpiredToken", "TokenRefreshRequired", "RequestExpired",
		"ExpiredCredentials" };
	for (size_t i = 0; i < array_len(heals); i++)
		if (strcmp(reply->code, heals[i]) == 0)
			return say(ret_message, 1,
				"the credentials have expired (%s); copying in works, uploads wait for new ones",
				reply->code);
	if (strcmp(reply->code, "NoCredentials") == 0)
		return say(ret_message, -EACCES,
			"no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
			"or name a --profile of ~/.aws/credentials");
	return say(ret_message, -EACCES,
		"the server refuses the credentials: %s (%s); check the keys, the session token and "
		"--profile",
		reply->code, words(reply));
}

int cli_probe_judge(const struct s3_reply *reply, const char *bucket, const char *prefix,
	char **ret_message)
{
	if (reply->class == S3_NOT_FOUND || strcmp(reply->code, "NoSuchBucket") == 0)
		return say(ret_message, -ENOENT,
			"there is no bucket \"%s\" at this server (%s): check its name and --endpoint",
			bucket, reply->code);
	switch (reply->class) {
	case S3_DONE:
	case S3_NOT_FOUND:
		return 0;
	case S3_AUTH:
		return judge_auth(reply, ret_message);
	case S3_DENIED:
		return say(ret_message, 1,
			"listing s3://%s/%s is denied (%s: %s): is the prefix right? Copying in works, "
			"but nothing can be verified before it is allowed",
			bucket, prefix, reply->code, words(reply));
	case S3_FATAL:
		return say(ret_message, -EREMOTEIO, "s3://%s: %s: %s%s%s", bucket, reply->code,
			reply->message, reply->region[0] ? "; use --region " : "", reply->region);
	case S3_RETRY:
	case S3_THROTTLED:
	case S3_CLOCK:
	case S3_CONFLICT:
	case S3_UNKNOWN:
		break;
	}
	return say(ret_message, 1,
		"the server does not answer usably (%s: %s); copying in works, uploads wait for it",
		reply->code, reply->message);
}

int cli_probe_bucket(struct s3 *s3, const char *bucket, const char *prefix, char **ret_message)
{
	cleanup_free char *below = NULL;
	int r = text_printf(&below, "%s%s", prefix, prefix[0] ? "/" : "");
	if (r < 0)
		return r;
	struct s3_request request = {
		.op = S3_LIST, .prefix = below, .max_keys = 1, .timeout_ms = PROBE_TIMEOUT_MS };
	struct s3_reply reply;
	r = s3_call(s3, &request, &reply);
	if (r < 0)
		return say(ret_message, r, "the bucket cannot be asked: %s", strerror(-r));
	if (reply.class == S3_CLOCK) { /* the offset is known now, or credentials are being renewed */
		s3_reply_release(&reply);
		r = s3_call(s3, &request, &reply);
		if (r < 0)
			return say(ret_message, r, "the bucket cannot be asked: %s", strerror(-r));
	}
	r = cli_probe_judge(&reply, bucket, prefix, ret_message);
	s3_reply_release(&reply);
	return r;
}
