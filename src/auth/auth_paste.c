/*
 * Credentials as a person pastes them: JSON of the AWS CLI, or lines that set variables in a shell,
 * in PowerShell, in cmd.exe, or in a credentials file. What else stands around is passed over, but
 * half a set of keys is refused. Of several sets the last one counts.
 */
#include "auth_keys.h"
#include "cpgfs/auth.h"

#include <ctype.h>
#include <strings.h>

#define PASTED_MAX_BYTES (256 * KIB)

static int refuse(char **ret_message, const char *why)
{
	*ret_message = text_dup(why);
	return *ret_message ? -EINVAL : -ENOMEM;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static int take_json(const json_t *root, struct s3_credentials *ret, char target[AUTH_TARGET_MAX],
	char **ret_message)
{
	const json_t *inner = json_object_get(root, "Credentials");
	const char *matched = json_string_value(json_object_get(root, "MatchedGrantTarget"));
	const char *wrong;
	cleanup_free char *why = NULL;
	if (!inner)
		inner = json_object_get(root, "roleCredentials");
	if (auth_keys_from_json(inner ? inner : root, ret, &wrong)) {
		int err = text_printf(&why, "this JSON holds no usable credentials: %s", wrong);
		return err ? err : refuse(ret_message, why);
	}
	if (matched && !text_copy(target, matched, AUTH_TARGET_MAX))
		return refuse(ret_message, "the MatchedGrantTarget is longer than any");
	return 0;
}

/* ---- lines ---------------------------------------------------------------------------------- */

static char *strip(char *text)
{
	while (isspace((unsigned char)*text))
		text++;
	size_t len = strlen(text);
	while (len && isspace((unsigned char)text[len - 1]))
		text[--len] = '\0';
	return text;
}

static char *strip_word(char *text, const char *word)
{
	size_t len = strlen(word);
	return strncasecmp(text, word, len) == 0 ? strip(text + len) : text;
}

/* "value", 'value' or value, perhaps with a ; behind it. */
static char *strip_quotes(char *text)
{
	size_t len = strlen(text);
	if (len && text[len - 1] == ';') {
		text[len - 1] = '\0';
		text = strip(text);
		len = strlen(text);
	}
	if (len >= 2 && (text[0] == '"' || text[0] == '\'') && text[len - 1] == text[0]) {
		text[len - 1] = '\0';
		text++;
	}
	return text;
}

static const char *const before[] = {"export ", "declare -x ", "setx ", "set ", "$env:"};

/* Several settings on one line get lines of their own. Only where one begins: secrets of other
 * servers may hold any character. */
static void split_settings(char *text)
{
	const char *line = text;
	for (char *p = text; *p; p++) {
		char *next = p + strspn(p, " \t;&");
		if (*p == '\n')
			line = p + 1;
		if (next == p)
			continue;
		bool begins = text_starts(next, "AWS_");
		for (size_t i = 0; i < array_len(before) && !begins; i++)
			begins = strncasecmp(next, before[i], strlen(before[i])) == 0;
		if (begins && memchr(line, '=', (size_t)(p - line))) {
			memset(p, '\n', (size_t)(next - p));
			line = next;
		}
		p = next - 1;
	}
}

/* set "NAME=value", as cmd.exe has it; setx NAME value. */
static char *strip_cmd(char *text, bool is_setx)
{
	size_t len = strlen(text);
	if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
		text[len - 1] = '\0';
		text++;
	}
	char *blank = is_setx ? strpbrk(text, " \t=") : NULL;
	if (blank)
		*blank = '=';
	return text;
}

static int take_line(struct s3_credentials *keys, char *line)
{
	char *text = strip(line);
	bool is_setx = strncasecmp(text, "setx ", 5) == 0;
	for (size_t i = 0; i < array_len(before); i++)
		text = strip_word(text, before[i]);
	text = strip_cmd(text, is_setx);
	char *equals = strchr(text, '=');
	if (!equals)
		return 0;
	*equals = '\0';
	const char *name = strip(text);
	/* another set begins: nothing of the one before belongs to it */
	if (strcasecmp(name, "aws_access_key_id") == 0 && keys->access_key[0])
		explicit_bzero(keys, sizeof(*keys));
	int err = auth_keys_set(keys, name, strip_quotes(strip(equals + 1)));
	return err == -ENOENT ? 0 : err;
}

static bool has(const char *text, size_t len, const char *word)
{
	return memmem(text, len, word, strlen(word)) != NULL;
}

/* Nothing was found: what may it have been? */
static int refuse_nothing(char **ret_message, const char *text, size_t len)
{
	bool is_named = has(text, len, "AccessKeyId");
	if (is_named && has(text, len, "{"))
		return refuse(ret_message,
			"this JSON is cut off or broken: paste all of it, from { to the last }");
	if (is_named || has(text, len, "CREDENTIALS\t"))
		return refuse(ret_message, "credentials in another form than JSON: give the aws "
					   "command --output json");
	return refuse(ret_message,
		"no credentials in this text: paste the JSON of `aws s3control get-data-access`, "
		"or lines AWS_ACCESS_KEY_ID=…, AWS_SECRET_ACCESS_KEY=… and AWS_SESSION_TOKEN=…");
}

static int take_lines(const char *text, size_t len, struct s3_credentials *ret, char **ret_message)
{
	cleanup_secret char *copy = secret_alloc(len + 1);
	cleanup_secret struct s3_credentials *keys = secret_alloc(sizeof(*keys));
	char *save = NULL;
	if (!copy || !keys)
		return -ENOMEM;
	memcpy(copy, text, len);
	split_settings(copy);
	for (char *line = strtok_r(copy, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save))
		if (take_line(keys, line))
			return refuse(ret_message, "a value is longer than any key");
	if (auth_keys_are_empty(keys))
		return refuse_nothing(ret_message, text, len);
	const char *wrong = auth_keys_check(keys);
	if (wrong)
		return refuse(ret_message, wrong);
	*ret = *keys;
	return 0;
}

int auth_parse_pasted(const char *text, size_t len, struct s3_credentials *ret,
	char matched_target[AUTH_TARGET_MAX], char **ret_message)
{
	size_t json_at = 0;
	*ret_message = NULL;
	matched_target[0] = '\0';
	if (len > PASTED_MAX_BYTES)
		return refuse(ret_message, "more text than credentials are");
	if (memchr(text, '\0', len))
		return refuse(ret_message, "a byte 0 in it: this is no text");
	while (json_at < len && text[json_at] != '{')
		json_at++;
	cleanup_json json_t *root = json_at < len ? auth_json_load(text + json_at, len - json_at,
							    JSON_DISABLE_EOF_CHECK)
						  : NULL;
	if (json_is_object(root))
		return take_json(root, ret, matched_target, ret_message);
	return take_lines(text, len, ret, ret_message);
}
