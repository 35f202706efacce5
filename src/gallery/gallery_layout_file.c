/*
 * gallery_layout_file - a layout file, read line by line (its head says how it reads).
 */
#include "gallery_layout.h"

static const char *const level_names[] = {
	[LAYOUT_PROJECT] = "project",
	[LAYOUT_SOURCE] = "source",
	[LAYOUT_BATCH] = "batch",
	[LAYOUT_FULLPLATE] = "fullplate",
	[LAYOUT_PLATE] = "plate",
	[LAYOUT_WELL] = "well",
	[LAYOUT_SITE] = "site",
	[LAYOUT_CHANNEL] = "channel",
};

const char *layout_level_name(enum layout_level level)
{
	return level_names[level];
}

static enum layout_level known_level(const char *name)
{
	for (int i = 0; i < LAYOUT_LEVELS; i++) {
		if (strcmp(level_names[i], name) == 0)
			return (enum layout_level)i;
	}
	return LAYOUT_LEVELS;
}

/* One line, cut at its blanks: words[0] is the verb, text what stands behind " : ". */
struct line {
	char *words[5];
	int count;
	char *text; /* NULL: none */
};

static void line_split(char *line, struct line *ret)
{
	char *rest = strstr(line, " : "), *save = NULL;

	*ret = (struct line){0};
	if (rest) {
		*rest = '\0';
		ret->text = rest + 3 + strspn(rest + 3, " \t");
	}
	for (char *word = strtok_r(line, " \t", &save); word; word = strtok_r(NULL, " \t", &save)) {
		if (ret->count < (int)array_len(ret->words))
			ret->words[ret->count] = word;
		ret->count++;
	}
}

/* Anchored at both ends; PCRE2_ENDANCHORED would refuse partial matches. */
static int compile(const char *pattern, pcre2_code **ret, struct buf *message)
{
	cleanup_buf struct buf whole = {0};
	int code = 0;
	PCRE2_SIZE at = 0;
	PCRE2_UCHAR text[160];

	buf_printf(&whole, "(?:%s)$", pattern);
	if (buf_error(&whole) < 0)
		return -ENOMEM;
	*ret = pcre2_compile((PCRE2_SPTR)buf_text(&whole), whole.len,
		PCRE2_ANCHORED | PCRE2_DOLLAR_ENDONLY | PCRE2_DOTALL, &code, &at, NULL);
	if (*ret) {
		(void)pcre2_jit_compile(*ret, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
		return 0; /* where there is no JIT it is slower, not wrong */
	}
	pcre2_get_error_message(code, text, sizeof(text));
	buf_printf(message, "the pattern \"%s\" is wrong: %s", pattern, text);
	return -EINVAL;
}

static void code_free(pcre2_code **code)
{
	pcre2_code_free(*code);
}

static bool is_word(const char *name)
{
	return name[0] && !(name[0] >= '0' && name[0] <= '9') &&
	       name[strspn(name, "abcdefghijklmnopqrstuvwxyz_0123456789")] == '\0';
}

static int read_level(struct layout *l, const struct line *line, struct buf *message)
{
	cleanup_with(code_free) pcre2_code *code = NULL;
	struct level *level = &l->levels[l->level_count];

	if (line->count != 3 || !line->text || !is_word(line->words[1])) {
		buf_add_text(message, "write: level name PATTERN : WHAT IT IS");
		return -EINVAL;
	}
	if (layout_level_find(l, line->words[1], strlen(line->words[1])) >= 0 ||
		l->level_count == LEVELS_MAX) {
		buf_printf(message, "level %s is there already, or there are more than %d",
			line->words[1], LEVELS_MAX);
		return -EINVAL;
	}
	if (compile(line->words[2], &code, message) < 0)
		return -EINVAL;
	l->level_count++;
	level->name = text_dup(line->words[1]);
	level->pattern = text_dup(line->words[2]);
	level->description = text_dup(line->text);
	if (!level->name || !level->pattern || !level->description)
		return -ENOMEM;
	if (known_level(level->name) != LAYOUT_LEVELS)
		l->known[known_level(level->name)] = l->level_count - 1;
	return 0;
}

static int read_should(struct layout *l, const struct line *line, struct buf *message)
{
	int at = line->count == 3 && line->text
			 ? layout_level_find(l, line->words[1], strlen(line->words[1]))
			 : -1;
	struct level *level = &l->levels[at < 0 ? 0 : at];

	if (at < 0 || level->should) {
		buf_add_text(
			message, "write, once and after its level: should LEVEL PATTERN : TEXT");
		return -EINVAL;
	}
	if (compile(line->words[2], &level->should, message) < 0)
		return -EINVAL;
	level->should_text = text_dup(line->text);
	return level->should_text ? 0 : -ENOMEM;
}

/* "required per LEVEL NAME TEMPLATE" and its shorter kin: the words behind what "per" takes. */
static int read_per(const struct line *line, struct rule *r, int *ret_at, struct buf *message)
{
	r->per = LAYOUT_LEVELS;
	*ret_at = 1;
	if (line->count < 3 || strcmp(line->words[1], "per") != 0)
		return 0;
	r->per = known_level(line->words[2]);
	*ret_at = 3;
	if (r->per != LAYOUT_LEVELS)
		return 0;
	buf_printf(message, "per what? project, source, batch, fullplate or plate; not \"%s\"",
		line->words[2]);
	return -EINVAL;
}

static int find_groups(const struct layout *l, struct rule *r, struct buf *message)
{
	uint32_t count = 0;

	if (pcre2_pattern_info(r->code, PCRE2_INFO_CAPTURECOUNT, &count) != 0 ||
		count >= RULE_GROUPS_MAX) {
		buf_printf(message, "the patterns of its levels have %u groups, more than %d: write (?:…)",
			(unsigned)count, RULE_GROUPS_MAX - 1);
		return -EINVAL;
	}
	for (int i = 0; i < l->level_count; i++) {
		int group =
			pcre2_substring_number_from_name(r->code, (PCRE2_SPTR)l->levels[i].name);

		r->group[i] = group > 0 ? group : 0;
	}
	return 0;
}

static int compile_rule(struct layout *l, struct rule *r, struct buf *message)
{
	cleanup_buf struct buf pattern = {0};
	int status = layout_template_pattern(l, r, &pattern, message);

	if (status == 0)
		status = compile(buf_text(&pattern), &r->code, message);
	if (status == 0)
		status = find_groups(l, r, message);
	if (status == 0 && r->per != LAYOUT_LEVELS &&
		(l->known[r->per] < 0 || !r->group[l->known[r->per]])) {
		buf_printf(message, "per %s, but there is no <%s> in the template",
			level_names[r->per], level_names[r->per]);
		return -EINVAL;
	}
	return status;
}

static int add_rule(
	struct layout *l, const struct line *line, enum layout_class class, struct buf *message)
{
	struct rule *rules = reallocarray(l->rules, (size_t)l->rule_count + 1, sizeof(*rules));
	struct rule *r;
	int at;

	if (!rules)
		return -ENOMEM;
	l->rules = rules;
	r = &rules[l->rule_count++];
	*r = (struct rule){.class = class};
	if (read_per(line, r, &at, message) < 0)
		return -EINVAL;
	if (line->count != at + 2 || (class >= LAYOUT_WARN && !line->text)) {
		buf_printf(message, "write: %s %sRULE TEMPLATE%s (a template has no blanks)",
			line->words[0], at == 3 ? "per LEVEL " : "",
			class >= LAYOUT_WARN ? " : TEXT" : "");
		return -EINVAL;
	}
	r->name = text_dup(line->words[at]);
	r->template = text_dup(line->words[at + 1]);
	r->text = line->text ? text_dup(line->text) : NULL;
	if (!r->name || !r->template || (line->text && !r->text))
		return -ENOMEM;
	return compile_rule(l, r, message);
}

static int read_line(struct layout *l, char *text, struct buf *message)
{
	static const char *const classes[] = {
		[LAYOUT_REQUIRED] = "required",
		[LAYOUT_OPTIONAL] = "optional",
		[LAYOUT_WARN] = "warn",
		[LAYOUT_WRONG] = "wrong",
	};
	struct line line;

	line_split(text, &line);
	if (line.count == 0)
		return 0;
	if (strcmp(line.words[0], "level") == 0)
		return read_level(l, &line, message);
	if (strcmp(line.words[0], "should") == 0)
		return read_should(l, &line, message);
	for (size_t i = 0; i < array_len(classes); i++) {
		if (strcmp(line.words[0], classes[i]) == 0)
			return add_rule(l, &line, (enum layout_class)i, message);
	}
	buf_printf(message, "\"%s\" is none of level, should, required, optional, warn, wrong",
		line.words[0]);
	return -EINVAL;
}

static int read_lines(struct layout *l, char *text, struct buf *message)
{
	unsigned number = 1;
	int status = 0;

	for (char *next; text && status == 0; text = next, number++) {
		cleanup_buf struct buf what = {0};

		next = strchr(text, '\n');
		if (next)
			*next++ = '\0';
		text[strcspn(text, "\r")] = '\0';
		if (text[0] == '#')
			continue;
		status = read_line(l, text, &what);
		if (status == -EINVAL)
			buf_printf(message, "line %u: %s", number, buf_text(&what));
	}
	if (status == 0 && l->rule_count == 0) {
		buf_add_text(message, "there is no rule in it");
		return -EINVAL;
	}
	return status;
}

static struct layout *layout_new(void)
{
	struct layout *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->levels = calloc(LEVELS_MAX, sizeof(*l->levels));
	for (int i = 0; i < LAYOUT_LEVELS; i++)
		l->known[i] = -1;
	if (l->levels)
		return l;
	free(l);
	return NULL;
}

void layout_destroy(struct layout *l)
{
	if (!l)
		return;
	for (int i = 0; i < l->level_count; i++) {
		free(l->levels[i].name);
		free(l->levels[i].pattern);
		free(l->levels[i].description);
		free(l->levels[i].should_text);
		pcre2_code_free(l->levels[i].should);
	}
	for (int i = 0; i < l->rule_count; i++) {
		free(l->rules[i].name);
		free(l->rules[i].template);
		free(l->rules[i].text);
		pcre2_code_free(l->rules[i].code);
	}
	free(l->levels);
	free(l->rules);
	free(l);
}

DEFINE_CLEANUP(layout, struct layout *, layout_destroy)

int layout_create(struct layout **ret, const char *text, char **ret_message)
{
	cleanup_with(cleanup_layout_fn) struct layout *l = layout_new();
	cleanup_free char *lines = text_dup(text);
	cleanup_buf struct buf message = {0};
	int status = l && lines ? read_lines(l, lines, &message) : -ENOMEM;

	if (status < 0) {
		*ret_message = status == -EINVAL ? buf_steal(&message) : NULL;
		return status;
	}
	*ret = steal_ptr(l);
	return 0;
}
