/*
 * cli_credentials_text - reading keys from a terminal, a pipe or the environment, into memory that
 * is locked and wiped.
 */
#include "cli_credentials.h"

#include <termios.h>

void credentials_text_release(struct credentials_text *t)
{
	secret_free(t->text);
	*t = (struct credentials_text){0};
}

static int text_create(struct credentials_text *t, const char *from)
{
	*t = (struct credentials_text){
		.text = secret_alloc(CREDENTIALS_TEXT_MAX + 1), .from = from};
	return t->text ? 0 : -ENOMEM;
}

static int text_add(struct credentials_text *t, const char *more, size_t len)
{
	if (len > CREDENTIALS_TEXT_MAX - t->len)
		return -EFBIG;
	memcpy(t->text + t->len, more, len);
	t->len += len;
	return 0;
}

/* ---- the command line: never ---------------------------------------------------------------- */

bool credentials_word_is_secret(const char *word)
{
	static const char *const starts[] = {
		"AKIA", "ASIA", "{", "AWS_", "aws_", "export", "$env:", "$Env:", "set "};
	for (size_t i = 0; i < array_len(starts); i++)
		if (text_starts(word, starts[i]))
			return true;
	if (strcasestr(word, "secret") || strcasestr(word, "token") ||
		strcasestr(word, "AccessKey"))
		return strchr(word, '/') == NULL || strchr(word, '=') != NULL;
	/* a secret key has 40 letters, digits, + and /, a token hundreds; a path of that form exists */
	return (strlen(word) == 40 || strlen(word) >= 200) && access(word, F_OK) < 0 &&
	       strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") ==
		       strlen(word);
}

/* ---- the environment ------------------------------------------------------------------------ */

int credentials_from_environment(struct credentials_text *ret)
{
	static const char *const names[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
		"AWS_SESSION_TOKEN", "AWS_CREDENTIAL_EXPIRATION"};
	struct credentials_text t;
	int r = text_create(&t, "the environment");
	for (size_t i = 0; i < array_len(names) && r == 0; i++) {
		const char *value = getenv(names[i]);
		if (!value || !*value)
			continue;
		r = text_add(&t, names[i], strlen(names[i]));
		if (r == 0)
			r = text_add(&t, "=", 1);
		if (r == 0)
			r = text_add(&t, value, strlen(value));
		if (r == 0)
			r = text_add(&t, "\n", 1);
	}
	if (r == 0 && t.len == 0)
		r = -ENOENT;
	if (r < 0)
		credentials_text_release(&t);
	else
		*ret = t;
	return r;
}

/* ---- a pipe or a file ----------------------------------------------------------------------- */

static ssize_t read_some(int fd, char *data, size_t len)
{
	ssize_t n;
	do
		n = read(fd, data, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int read_all(int fd, struct credentials_text *t)
{
	for (;;) {
		/* one byte more than fits: so that too much is noticed */
		ssize_t n = read_some(fd, t->text + t->len, CREDENTIALS_TEXT_MAX + 1 - t->len);
		if (n < 0)
			return (int)n;
		t->len += (size_t)n;
		if (t->len > CREDENTIALS_TEXT_MAX)
			return -EFBIG;
		if (n == 0)
			return 0; /* the memory came zeroed */
	}
}

int credentials_from_pipe(int fd, struct credentials_text *ret)
{
	struct credentials_text t;
	int r = text_create(&t, "standard input");
	if (r == 0)
		r = read_all(fd, &t);
	if (r < 0)
		credentials_text_release(&t);
	else
		*ret = t;
	return r;
}

/* ---- a terminal ----------------------------------------------------------------------------- */

enum { CTRL_C = 3, CTRL_D = 4, BACKSPACE = 8, DELETE = 127 };

/* 1: that was all. */
static int take_byte(struct credentials_text *t, char c)
{
	bool line_is_empty = t->len == 0 || t->text[t->len - 1] == '\n';
	if (c == CTRL_C)
		return -ECANCELED;
	if (c == CTRL_D)
		return 1;
	if (c == BACKSPACE || c == DELETE) {
		if (t->len)
			t->text[--t->len] = '\0';
		return 0;
	}
	if (c == '\r')
		c = '\n';
	if (c == '\n' && line_is_empty)
		return t->len > 0;
	return text_add(t, &c, 1);
}

static int read_keys(int fd, struct credentials_text *t)
{
	int r = 0;
	while (r == 0) {
		char c;
		ssize_t n = read_some(fd, &c, 1);
		if (n <= 0)
			return n < 0 ? (int)n : 0;
		r = take_byte(t, c);
		explicit_bzero(&c, 1);
	}
	return r < 0 ? r : 0;
}

/* Byte by byte and unseen: a terminal's own lines end at 4,095 bytes, JSON with a token may not. */
int credentials_from_terminal(int fd, struct credentials_text *ret)
{
	struct credentials_text t;
	struct termios before, unseen;
	if (tcgetattr(fd, &before) < 0)
		return -errno;
	int r = text_create(&t, "what was pasted");
	if (r < 0)
		return r;
	unseen = before;
	unseen.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
	unseen.c_cc[VMIN] = 1;
	unseen.c_cc[VTIME] = 0;
	r = tcsetattr(fd, TCSADRAIN, &unseen) < 0 ? -errno : read_keys(fd, &t);
	(void)tcsetattr(fd, TCSADRAIN, &before); /* if that fails, there is no terminal any more */
	if (r < 0)
		credentials_text_release(&t);
	else
		*ret = t;
	return r;
}

/* ---- what they look like -------------------------------------------------------------------- */

static bool is_placeholder(const char *value)
{
	return strstr(value, "YOUR_") || strstr(value, "...") || strchr(value, '<') ||
	       strcmp(value, "null") == 0 || strncasecmp(value, "xxx", 3) == 0;
}

void credentials_oddity(const struct s3_credentials *keys, char *out, size_t size)
{
	bool has_token = keys->session_token[0] != '\0';
	bool is_aws_form = strlen(keys->access_key) == 20;
	out[0] = '\0';
	if (is_placeholder(keys->access_key) || is_placeholder(keys->secret_key) ||
		is_placeholder(keys->session_token))
		snprintf(out, size,
			"a value is a placeholder (or jq's \"null\"): put the real one in its "
			"place");
	else if (is_aws_form && text_starts(keys->access_key, "ASIA") && !has_token)
		snprintf(out, size,
			"a temporary key (ASIA…) without its session token: AWS_SESSION_TOKEN "
			"belongs to it, "
			"all three are needed");
	else if (is_aws_form && text_starts(keys->access_key, "AKIA") && has_token)
		snprintf(out, size,
			"a long-lived key (AKIA…) with a session token, which is left over from "
			"other "
			"keys: `unset AWS_SESSION_TOKEN`");
}

void credentials_key_tail(const struct s3_credentials *keys, char out[16])
{
	size_t len = strlen(keys->access_key);
	snprintf(out, 16, "…%s", len >= 12 ? keys->access_key + len - 4 : "");
}
