/*
 * control_credentials - `.cpgfs/credentials`: keys handed to the running mount.
 *
 * One write is one whole text as auth_hand_over() takes it. Its first line may be "# reply TOKEN":
 * then reply/TOKEN has the answer when the write has returned, {"ok": true, "source": …,
 * "expires_at": …} or {"error": …}. Keys that must be exchanged first (--access-grant) are waited
 * for. Nothing of the text is kept, logged or answered.
 */
#define LOG_ROOM "control"

#include "control_private.h"

#define EXCHANGE_WAIT_MS 20000
#define TOKEN_LINE "# reply "

/* The token of the first line, "" if there is none. The line says nothing to auth_hand_over(). */
static void find_token(const char *data, size_t len, char token[TOKEN_MAX + 1])
{
	const char *end = memchr(data, '\n', len);
	size_t start = strlen(TOKEN_LINE), line = end ? (size_t)(end - data) : len;

	token[0] = '\0';
	if (line <= start || line - start > TOKEN_MAX || memcmp(data, TOKEN_LINE, start) != 0)
		return;
	memcpy(token, data + start, line - start);
	token[line - start] = '\0';
	if (!control_token_is_valid(token))
		token[0] = '\0';
}

static int describe(struct control *c, json_t *answer)
{
	struct auth_status status;
	char expires[32];

	auth_status(c->config.auth, &status);
	if (json_object_set_new(answer, "source", control_json_text(status.source)) < 0)
		return -ENOMEM;
	if (!status.expires_at_ns)
		return 0;
	time_format_iso8601(status.expires_at_ns, expires);
	return json_object_set_new(answer, "expires_at", json_string(expires)) < 0 ? -ENOMEM : 0;
}

/* What waited for credentials need not wait any longer. */
static int hand_over(struct control *c, const char *text, size_t len, char **ret_message)
{
	int r = auth_hand_over(c->config.auth, text, len, ret_message);

	if (r == 0)
		r = auth_wait(c->config.auth, clock_mono_ms() + EXCHANGE_WAIT_MS, ret_message);
	return r;
}

int control_credentials_write(struct control *c, const char *data, size_t len)
{
	char token[TOKEN_MAX + 1];
	cleanup_free char *message = NULL;
	json_t *answer = json_object();
	int r = answer ? hand_over(c, data, len, &message) : -ENOMEM;

	find_token(data, len, token);
	if (r == 0)
		r = describe(c, answer);
	if (r == 0)
		log_info("credentials were handed over");
	else
		log_warn("credentials that were handed over cannot be used: %s",
			message ? message : strerror(-r));
	if (token[0] && answer)
		control_answer_keep(c, token, r, message ? message : strerror(-r), answer);
	json_decref(answer);
	return r;
}
