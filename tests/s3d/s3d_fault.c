/*
 * fault - the fault script: which request goes wrong, and how. The language is in s3d_fault.h.
 */
#include "s3d_fault.h"

#include <errno.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct rule {
	struct rule *next;
	char *line;
	char operation[48];
	char key[256]; /* "" = any */
	uint64_t from; /* which of the matching requests; 1 is the first */
	uint64_t to;
	uint64_t every;
	uint64_t times; /* 0 = no limit */
	uint64_t count;
	uint64_t applied;
	struct fault fault;
};

struct fault_script {
	pthread_mutex_t lock;
	char *path;
	struct stat seen; /* of the file that was read */
	bool read;
	struct rule *rules;
	unsigned long applied;
	unsigned bad_lines;
};

/* --- words --- */

/* Splits off a word; quotes group and vanish. */
static char *word_next(char **rest)
{
	char *in = *rest + strspn(*rest, " \t"), *out = in, *word = in;
	bool quoted = false;

	if (!*in)
		return NULL;
	for (; *in && (quoted || (*in != ' ' && *in != '\t')); in++) {
		if (*in == '"')
			quoted = !quoted;
		else
			*out++ = *in;
	}
	*rest = *in ? in + 1 : in;
	*out = '\0';
	return word;
}

enum word_kind { WORD_FLAG, WORD_NUMBER, WORD_TEXT };

/* Where an action's value goes. */
static const struct word {
	const char *name;
	enum word_kind kind;
	size_t offset;
	size_t size; /* of a text */
} words[] = {
#define WORD(name, kind, field)                                                                    \
	{name, kind, offsetof(struct fault, field), sizeof(((struct fault *)0)->field)}
	WORD("status", WORD_NUMBER, status),
	WORD("code", WORD_TEXT, code),
	WORD("message", WORD_TEXT, message),
	WORD("delay", WORD_NUMBER, delay_ms),
	WORD("reset-before", WORD_FLAG, reset_before),
	WORD("reset-after", WORD_FLAG, reset_after),
	WORD("empty-body", WORD_FLAG, empty_body),
	WORD("after", WORD_NUMBER, after_bytes),
	WORD("hold", WORD_TEXT, hold_path),
	WORD("200-error", WORD_FLAG, error_200),
	WORD("leading-space", WORD_FLAG, leading_space),
	WORD("no-etag", WORD_FLAG, no_etag),
	WORD("no-checksum", WORD_FLAG, no_checksum),
	WORD("wrong-etag", WORD_FLAG, wrong_etag),
	WORD("wrong-checksum", WORD_FLAG, wrong_checksum),
	WORD("garbage-xml", WORD_FLAG, garbage_xml),
	WORD("huge-xml", WORD_NUMBER, huge_xml_bytes),
	WORD("entity-bomb", WORD_FLAG, entity_bomb),
	WORD("nul-xml", WORD_FLAG, nul_xml),
	WORD("repeat-token", WORD_FLAG, repeat_token),
	WORD("missing-token", WORD_FLAG, missing_token),
	WORD("redirect", WORD_TEXT, redirect),
	WORD("skew-date", WORD_NUMBER, skew_s),
	WORD("expire-token", WORD_FLAG, expire_token),
	WORD("apply", WORD_FLAG, apply),
	WORD("no-apply", WORD_FLAG, no_apply),
};

static int word_apply(const struct word *word, const char *value, struct fault *fault)
{
	char *field = (char *)fault + word->offset;

	if (word->kind == WORD_FLAG) {
		*(bool *)(void *)field = true;
		return value ? -EINVAL : 0;
	}
	if (!value)
		return -EINVAL;
	if (word->kind == WORD_NUMBER)
		return str_to_i64(value, (int64_t *)(void *)field);
	if (strlen(value) >= word->size)
		return -ENAMETOOLONG;
	memcpy(field, value, strlen(value) + 1);
	return 0;
}

static int parse_point(const char *value, struct fault *fault)
{
	static const char *const names[] = {[FAULT_AT_HEADERS] = "headers",
		[FAULT_AT_MID_BODY] = "mid-body", [FAULT_AT_BEFORE_APPLY] = "before-apply",
		[FAULT_AT_AFTER_APPLY] = "after-apply"};

	for (size_t i = FAULT_AT_HEADERS; value && i < ARRAY_SIZE(names); i++) {
		if (!strcmp(names[i], value)) {
			fault->at = (enum fault_point)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_side(const char *value, struct fault *fault)
{
	if (!value || (strcmp(value, "request") && strcmp(value, "response")))
		return -EINVAL;
	fault->of = strcmp(value, "request") ? FAULT_OF_RESPONSE : FAULT_OF_REQUEST;
	return 0;
}

static int parse_stall(const char *value, struct fault *fault)
{
	if (value && !strcmp(value, "forever")) {
		fault->stall_ms = FAULT_FOREVER;
		return 0;
	}
	return str_to_i64(value, &fault->stall_ms);
}

static int parse_cut(const char *value, struct fault *fault)
{
	fault->has_cut_body = true;
	return str_to_i64(value, &fault->cut_body_bytes);
}

static int parse_wrong_length(const char *value, struct fault *fault)
{
	fault->has_wrong_length = true;
	fault->wrong_length_delta_bytes = 7;
	return value ? str_to_i64(value, &fault->wrong_length_delta_bytes) : 0;
}

static const struct {
	const char *name;
	int (*parse)(const char *value, struct fault *fault);
} special_words[] = {
	{"at", parse_point},
	{"of", parse_side},
	{"stall", parse_stall},
	{"cut-body", parse_cut},
	{"wrong-content-length", parse_wrong_length},
};

static int action_parse(const char *name, const char *value, struct fault *fault)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (!strcmp(words[i].name, name))
			return word_apply(&words[i], value, fault);
	}
	for (size_t i = 0; i < ARRAY_SIZE(special_words); i++) {
		if (!strcmp(special_words[i].name, name))
			return special_words[i].parse(value, fault);
	}
	return -EINVAL;
}

/* --- rules --- */

/* "3", "3-5", "2+" */
static int range_parse(char *value, struct rule *rule)
{
	char *dash = strchr(value, '-');
	size_t len = strlen(value);

	if (dash) {
		*dash = '\0';
		return str_to_u64(value, &rule->from) ? -EINVAL : str_to_u64(dash + 1, &rule->to);
	}
	if (len && value[len - 1] == '+') {
		value[len - 1] = '\0';
		rule->to = UINT64_MAX;
		return str_to_u64(value, &rule->from);
	}
	if (str_to_u64(value, &rule->from))
		return -EINVAL;
	rule->to = rule->from;
	return 0;
}

static int word_parse(char *word, struct rule *rule)
{
	char *value = word, *name = strsep(&value, "=");
	size_t len = strlen(rule->fault.text);
	int r;

	if (!strcmp(name, "n") && value)
		return range_parse(value, rule);
	if (!strcmp(name, "every"))
		return str_to_u64(value, &rule->every);
	if (!strcmp(name, "times"))
		return str_to_u64(value, &rule->times);
	if (!strcmp(name, "always"))
		return value ? -EINVAL : 0;
	if (!strcmp(name, "key") && value && strlen(value) < sizeof(rule->key)) {
		snprintf(rule->key, sizeof(rule->key), "%s", value);
		return 0;
	}
	r = action_parse(name, value, &rule->fault);
	snprintf(rule->fault.text + len, sizeof(rule->fault.text) - len, "%s%s%s%s",
		len ? " " : "", name, value ? "=" : "", value ? value : "");
	return r;
}

static void rule_destroy(struct rule *rule)
{
	free(rule->line);
	free(rule);
}

static struct rule *rule_parse(const char *line)
{
	AUTO(free_str) char *copy = str_dup(line);
	struct rule *rule = mem_zalloc(sizeof(*rule));
	char *rest = copy, *word = word_next(&rest);
	int r = word && strlen(word) < sizeof(rule->operation) ? 0 : -EINVAL;

	rule->from = 1;
	rule->to = UINT64_MAX;
	rule->every = 1;
	rule->line = str_dup(line);
	rule->fault.active = true;
	if (!r)
		snprintf(rule->operation, sizeof(rule->operation), "%s", word);
	while (!r && (word = word_next(&rest)))
		r = word_parse(word, rule);
	if (r || !rule->fault.text[0] || !rule->every) {
		rule_destroy(rule);
		return NULL;
	}
	return rule;
}

/* The counters of the same line in the script as it was. */
static void rule_inherit(struct rule *rule, struct rule **old)
{
	for (; *old; old = &(*old)->next) {
		struct rule *same = *old;

		if (strcmp(same->line, rule->line))
			continue;
		rule->count = same->count;
		rule->applied = same->applied;
		*old = same->next;
		rule_destroy(same);
		return;
	}
}

static void rules_destroy(struct rule *rule)
{
	while (rule) {
		struct rule *next = rule->next;

		rule_destroy(rule);
		rule = next;
	}
}

static void script_read_line_locked(struct fault_script *script, char *line, struct rule **old,
	struct rule ***end)
{
	struct rule *rule;

	line += strspn(line, " \t");
	line[strcspn(line, "\r\n")] = '\0';
	if (!*line || *line == '#')
		return;
	rule = rule_parse(line);
	if (!rule) {
		script->bad_lines++;
		fprintf(stderr, "s3d: fault script: cannot understand: %s\n", line);
		return;
	}
	rule_inherit(rule, old);
	**end = rule;
	*end = &rule->next;
}

static void script_read_locked(struct fault_script *script)
{
	FILE *file = fopen(script->path, "re");
	AUTO(free_str) char *line = NULL;
	struct rule *old = script->rules, **end = &script->rules;
	size_t size = 0;

	script->rules = NULL;
	script->bad_lines = 0;
	while (file && getline(&line, &size, file) > 0)
		script_read_line_locked(script, line, &old, &end);
	if (file)
		fclose(file);
	rules_destroy(old);
}

static void script_refresh_locked(struct fault_script *script)
{
	struct stat st = {0};

	(void)stat(script->path, &st); /* no file: all zero, no rules */
	if (script->read && st.st_size == script->seen.st_size &&
		st.st_ino == script->seen.st_ino &&
		st.st_mtim.tv_sec == script->seen.st_mtim.tv_sec &&
		st.st_mtim.tv_nsec == script->seen.st_mtim.tv_nsec)
		return;
	script->seen = st;
	script->read = true;
	script_read_locked(script);
}

struct fault_script *fault_script_create(const char *path)
{
	struct fault_script *script = mem_zalloc(sizeof(*script));

	pthread_mutex_init(&script->lock, NULL);
	if (path)
		script->path = str_dup(path);
	return script;
}

void fault_script_destroy(struct fault_script *script)
{
	rules_destroy(script->rules);
	pthread_mutex_destroy(&script->lock);
	free(script->path);
	free(script);
}

/* Counts; is it this rule's turn? */
static bool rule_match(struct rule *rule, const char *operation, const char *key)
{
	if (fnmatch(rule->operation, operation, 0))
		return false;
	if (rule->key[0] && fnmatch(rule->key, key, 0))
		return false;
	rule->count++;
	if (rule->count < rule->from || rule->count > rule->to)
		return false;
	if (rule->count % rule->every)
		return false;
	return !rule->times || rule->applied < rule->times;
}

void fault_script_match(struct fault_script *script, const char *operation, const char *key,
	struct fault *ret)
{
	struct rule *chosen = NULL;

	if (!script->path)
		return;
	pthread_mutex_lock(&script->lock);
	script_refresh_locked(script);
	for (struct rule *rule = script->rules; rule; rule = rule->next) {
		if (rule_match(rule, operation, key) && !chosen)
			chosen = rule;
	}
	if (chosen) {
		chosen->applied++;
		script->applied++;
		*ret = chosen->fault;
	}
	pthread_mutex_unlock(&script->lock);
}

void fault_script_stats(struct fault_script *script, unsigned long *ret_applied,
	unsigned *ret_bad_lines)
{
	pthread_mutex_lock(&script->lock);
	if (script->path)
		script_refresh_locked(script);
	*ret_applied = script->applied;
	*ret_bad_lines = script->bad_lines;
	pthread_mutex_unlock(&script->lock);
}

bool fault_prevents(const struct fault *fault)
{
	if (fault->apply || fault->no_apply)
		return !fault->apply;
	return fault->status || fault->error_200 || fault->redirect[0];
}
