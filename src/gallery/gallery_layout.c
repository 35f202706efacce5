/*
 * gallery_layout - which rule takes a key.
 */
#include "gallery_layout.h"

static const char *const mode_texts[] = {
	[LAYOUT_MODE_WARN] = "warn",
	[LAYOUT_MODE_ENFORCE] = "enforce",
	[LAYOUT_MODE_OFF] = "off",
};

int layout_mode_parse(const char *text, enum layout_mode *ret)
{
	for (size_t i = 0; i < array_len(mode_texts); i++) {
		if (strcmp(text, mode_texts[i]) == 0) {
			*ret = (enum layout_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *layout_mode_text(enum layout_mode mode)
{
	return mode_texts[mode];
}

static void data_free(pcre2_match_data **data)
{
	pcre2_match_data_free(*data);
}

static struct layout_span span_of(pcre2_match_data *data, int group)
{
	const PCRE2_SIZE *at = pcre2_get_ovector_pointer(data) + 2 * (size_t)group;

	if (group <= 0 || (uint32_t)group >= pcre2_get_ovector_count(data) || at[0] == PCRE2_UNSET)
		return (struct layout_span){0};
	return (struct layout_span){.start = at[0], .len = at[1] - at[0]};
}

/* The first level whose text is not what it should be. */
static int judge_levels(const struct layout *l, const struct rule *r, const char *key,
	pcre2_match_data *data, pcre2_match_data *scratch)
{
	for (int i = 0; i < l->level_count; i++) {
		struct layout_span span = span_of(data, r->group[i]);

		if (span.len > 0 && l->levels[i].should &&
			pcre2_match(l->levels[i].should, (PCRE2_SPTR)key + span.start, span.len, 0,
				0, scratch, NULL) < 0)
			return i;
	}
	return -1;
}

static int take(const struct layout *l, int at, const char *key, pcre2_match_data *data,
	struct layout_match *ret)
{
	cleanup_with(data_free) pcre2_match_data *scratch = pcre2_match_data_create(1, NULL);
	const struct rule *r = &l->rules[at];

	if (!scratch)
		return -ENOMEM;
	*ret = (struct layout_match){.class = r->class, .rule = at, .should = -1};
	for (int i = 0; i < LAYOUT_LEVELS; i++) {
		if (l->known[i] >= 0)
			ret->level[i] = span_of(data, r->group[l->known[i]]);
	}
	if (r->class == LAYOUT_WRONG)
		return 0;
	ret->should = judge_levels(l, r, key, data, scratch);
	if (ret->should >= 0)
		ret->class = LAYOUT_WARN;
	return 0;
}

int layout_match(const struct layout *l, const char *key, struct layout_match *ret)
{
	cleanup_with(data_free) pcre2_match_data *data =
		pcre2_match_data_create(RULE_GROUPS_MAX, NULL);
	size_t len = strlen(key);

	if (!data)
		return -ENOMEM;
	for (int i = 0; i < l->rule_count; i++) {
		int status = pcre2_match(l->rules[i].code, (PCRE2_SPTR)key, len, 0, 0, data, NULL);

		if (status == PCRE2_ERROR_NOMEMORY)
			return -ENOMEM;
		if (status >= 0)
			return take(l, i, key, data, ret);
	}
	*ret = (struct layout_match){.class = LAYOUT_WRONG, .rule = -1, .should = -1};
	return 0;
}

bool layout_rule_goes_on(const struct layout *l, int i, const char *folder, size_t len)
{
	cleanup_with(data_free) pcre2_match_data *data = pcre2_match_data_create(1, NULL);

	if (len == 0)
		return true; /* an empty text is no partial match of anything */
	return data && pcre2_match(l->rules[i].code, (PCRE2_SPTR)folder, len, 0, PCRE2_PARTIAL_HARD,
			       data, NULL) == PCRE2_ERROR_PARTIAL;
}

static bool is_mistake(const struct layout *l, int i, const char *folder)
{
	cleanup_with(data_free) pcre2_match_data *data = pcre2_match_data_create(1, NULL);
	cleanup_buf struct buf child = {0};

	if (l->rules[i].class != LAYOUT_WRONG || !text_ends(l->rules[i].template, "/**"))
		return false;
	buf_printf(&child, "%sx", folder);
	return data && pcre2_match(l->rules[i].code, (PCRE2_SPTR)buf_text(&child), child.len, 0, 0,
			       data, NULL) >= 0;
}

bool layout_takes_folder(const struct layout *l, const char *folder)
{
	cleanup_buf struct buf path = {0};

	buf_printf(&path, "%s%s", folder, folder[0] ? "/" : "");
	for (int i = 0; i < l->rule_count; i++) {
		if (is_mistake(l, i, buf_text(&path)))
			return false;
		if (l->rules[i].class != LAYOUT_WRONG &&
			layout_rule_goes_on(l, i, buf_text(&path), path.len))
			return true;
	}
	return false;
}

const char *layout_rule_name(const struct layout *l, int rule)
{
	return rule < 0 ? "unknown" : l->rules[rule].name;
}

enum layout_level layout_rule_per(const struct layout *l, int rule)
{
	return rule < 0 ? LAYOUT_LEVELS : l->rules[rule].per;
}

int layout_rules(const struct layout *l)
{
	return l->rule_count;
}

/* The template of what microscopes write: the first rule that is required per plate folder. */
static const char *plate_template(const struct layout *l)
{
	for (int i = 0; i < l->rule_count; i++) {
		if (l->rules[i].per == LAYOUT_FULLPLATE)
			return l->rules[i].template;
	}
	return NULL;
}

int layout_plate_folder(
	const struct layout *l, const char *const *values, unsigned count, struct buf *out)
{
	const char *at = plate_template(l);
	unsigned used = 0;

	for (; at && *at && strncmp(at, "**", 2) != 0; at += strspn(at, "/")) {
		size_t len = strcspn(at, "/");

		if (*at == '<' && used == count)
			break;
		buf_add_text(out, out->len ? "/" : "");
		if (*at == '<')
			buf_add_text(out, values[used++]);
		else
			buf_add(out, at, len);
		at += len;
	}
	return at && used == count ? buf_error(out) : -ENOENT;
}
