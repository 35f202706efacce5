/*
 * gallery_standard - the folders that every contribution has: those that lead to what the layout
 *                    requires, with fixed names, above the batches.
 */
#include "gallery_layout.h"

static void data_free(pcre2_match_data **data)
{
	pcre2_match_data_free(*data);
}

/* "<level>": a batch, or the text is not what that level should be. */
static bool leads_elsewhere(
	const struct layout *l, const char *name, size_t len, const char *text, size_t text_len)
{
	cleanup_with(data_free) pcre2_match_data *data = NULL;
	int level = name[0] == '<' ? layout_level_find(l, name + 1, len - 2) : -1;

	if (level < 0 || level == l->known[LAYOUT_BATCH] || !l->levels[level].should)
		return level >= 0 && level == l->known[LAYOUT_BATCH];
	data = pcre2_match_data_create(1, NULL);
	return !data || pcre2_match(l->levels[level].should, (PCRE2_SPTR)text, text_len, 0, 0, data,
				NULL) < 0;
}

/* What the template has directly below the folder ("a/b/", or ""), if that is a folder with a fixed
 * name; its length in *ret_len. */
static const char *fixed_below(
	const struct layout *l, const char *template, const char *folder, size_t *ret_len)
{
	size_t len = strcspn(template, "/");

	for (; *folder && template[len]; len = strcspn(template, "/")) {
		size_t text_len = strcspn(folder, "/");

		if (leads_elsewhere(l, template, len, folder, text_len))
			return NULL;
		template += len + 1;
		folder += text_len + 1;
	}
	*ret_len = len;
	return template[len] && strcspn(template, "<*(|") >= len ? template : NULL;
}

static void standard_add(struct layout_standard *s, const char *name)
{
	unsigned at = 0;

	while (at < s->count && strcmp(s->names[at], name) < 0)
		at++;
	if (s->count == LAYOUT_STANDARD_MAX || (at < s->count && strcmp(s->names[at], name) == 0))
		return;
	memmove(s->names[at + 1], s->names[at], (s->count - at) * sizeof(s->names[0]));
	(void)text_copy(s->names[at], name, sizeof(s->names[at])); /* fits: see the caller */
	s->count++;
}

void layout_standard_folders(
	const struct layout *l, const char *folder, struct layout_standard *ret)
{
	cleanup_buf struct buf path = {0};

	*ret = (struct layout_standard){0};
	buf_printf(&path, "%s%s", folder, folder[0] ? "/" : "");
	for (int i = 0; i < l->rule_count && buf_error(&path) == 0; i++) {
		cleanup_buf struct buf child = {0};
		char name[LAYOUT_STANDARD_NAME_MAX + 1];
		const char *below = NULL;
		size_t len = 0;

		if (l->rules[i].class == LAYOUT_REQUIRED &&
			layout_rule_goes_on(l, i, buf_text(&path), path.len))
			below = fixed_below(l, l->rules[i].template, buf_text(&path), &len);
		if (!below || len > LAYOUT_STANDARD_NAME_MAX)
			continue;
		memcpy(name, below, len);
		name[len] = '\0';
		buf_printf(&child, "%s%s", buf_text(&path), name);
		if (buf_error(&child) == 0 && layout_takes_folder(l, buf_text(&child)))
			standard_add(ret, name);
	}
}

/* A cheap first look: does any template have this name? Most names that are asked for are files. */
static bool is_fixed_somewhere(const struct layout *l, const char *name)
{
	size_t len = strlen(name);

	for (int i = 0; i < l->rule_count; i++) {
		const char *at = l->rules[i].template;

		if (l->rules[i].class != LAYOUT_REQUIRED)
			continue;
		for (; (at = strstr(at, name)); at++) {
			if ((at == l->rules[i].template || at[-1] == '/') && at[len] == '/')
				return true;
		}
	}
	return false;
}

bool layout_is_standard(const struct layout *l, const char *folder, const char *name)
{
	struct layout_standard s;

	if (!name[0] || !is_fixed_somewhere(l, name))
		return false;
	layout_standard_folders(l, folder, &s);
	for (unsigned i = 0; i < s.count; i++) {
		if (strcmp(s.names[i], name) == 0)
			return true;
	}
	return false;
}
