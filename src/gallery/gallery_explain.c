/*
 * gallery_explain - why the layout does not like a key, and what is likely meant.
 *
 * A rule that knows the mistake has the text. Where no rule takes the key, those that go along with
 * it furthest tell what they want at the first name that fits none of them.
 */
#include "gallery_layout.h"

static void data_free(pcre2_match_data **data)
{
	pcre2_match_data_free(*data);
}

static void add_capture(
	struct buf *out, const struct rule *r, int level, const char *key, pcre2_match_data *data)
{
	const PCRE2_SIZE *at = pcre2_get_ovector_pointer(data) + 2 * (size_t)r->group[level];

	if (r->group[level] > 0 && at[0] != PCRE2_UNSET)
		buf_add(out, key + at[0], at[1] - at[0]);
}

/* The text with <name> replaced by what was found there. */
static void fill_text(const struct layout *l, const struct rule *r, const char *text,
	const char *key, struct buf *out)
{
	cleanup_with(data_free) pcre2_match_data *data = pcre2_match_data_create(RULE_GROUPS_MAX, NULL);
	bool matched =
		data && pcre2_match(r->code, (PCRE2_SPTR)key, strlen(key), 0, 0, data, NULL) >= 0;

	for (const char *at = text; *at;) {
		size_t len = *at == '<' ? strcspn(at, ">") : 0;
		int level = len > 0 && at[len] ? layout_level_find(l, at + 1, len - 1) : -1;

		if (level >= 0 && matched) {
			add_capture(out, r, level, key, data);
			at += len + 1;
		} else {
			buf_add_char(out, *at++);
		}
	}
}

/* Bytes of the first n names of a path, with the slash behind them. */
static size_t names_len(const char *path, int n)
{
	const char *at = path;

	for (; n > 0; n--) {
		at += strcspn(at, "/");
		at += *at == '/';
	}
	return (size_t)(at - path);
}

/* How many leading folders of the key a rule goes along with; -1: none at all. */
static int agreement(const struct layout *l, int rule, const char *key, int folders)
{
	for (int n = folders; n >= 0; n--) {
		if (layout_rule_goes_on(l, rule, key, names_len(key, n)))
			return n;
	}
	return -1;
}

/* The n-th name (from 0) of a template. */
static const char *template_name(const char *template, int n, size_t *ret_len)
{
	const char *at = template + names_len(template, n);

	*ret_len = strcspn(at, "/");
	return at;
}

struct wants {
	const char *name[8];
	size_t len[8];
	int count;
	bool more;
};

static void wants_add(struct wants *w, const char *name, size_t len)
{
	for (int i = 0; i < w->count; i++) {
		if (w->len[i] == len && memcmp(w->name[i], name, len) == 0)
			return;
	}
	if (w->count == (int)array_len(w->name)) {
		w->more = true;
		return;
	}
	w->name[w->count] = name;
	w->len[w->count++] = len;
}

/* "<plate>" alone says more with its description. */
static void add_want(const struct layout *l, struct buf *out, const char *name, size_t len)
{
	int level = name[0] == '<' && name[len - 1] == '>' ? layout_level_find(l, name + 1, len - 2)
							   : -1;

	if (level >= 0)
		buf_printf(out, "%.*s (%s)", (int)len, name, l->levels[level].description);
	else
		buf_printf(out, "%.*s", (int)len, name);
}

/* Same letters in another case, or one letter more, less or other. */
static bool looks_like(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t head = 0, tail = 0, shorter = a_len < b_len ? a_len : b_len;

	if (a_len == b_len && strncasecmp(a, b, a_len) == 0)
		return true;
	if (shorter < 4 || a_len > b_len + 1 || b_len > a_len + 1)
		return false;
	while (head < shorter && a[head] == b[head])
		head++;
	while (tail < shorter - head && a[a_len - 1 - tail] == b[b_len - 1 - tail])
		tail++;
	return head + tail + 1 >= (a_len > b_len ? a_len : b_len);
}

static void add_guess(struct buf *out, const struct wants *w, const char *name, size_t len)
{
	for (int i = 0; i < w->count; i++) {
		bool literal = strcspn(w->name[i], "<*(|") >= w->len[i];

		if (literal && looks_like(w->name[i], w->len[i], name, len)) {
			buf_printf(out, "; did you mean \"%.*s\"?", (int)w->len[i], w->name[i]);
			return;
		}
	}
}

static int furthest(const struct layout *l, const char *key, int folders, struct wants *w)
{
	int best = 0;

	for (int i = 0; i < l->rule_count; i++) {
		int n = l->rules[i].class == LAYOUT_WRONG ? -1 : agreement(l, i, key, folders);
		size_t len;
		const char *name;

		if (n < best)
			continue;
		if (n > best)
			*w = (struct wants){0};
		best = n;
		name = template_name(l->rules[i].template, n, &len);
		wants_add(w, name, len);
	}
	return best;
}

static void explain_unknown(const struct layout *l, const char *key, struct buf *out)
{
	struct wants w = {0};
	int folders = 0, at;
	const char *name;
	size_t len;

	for (const char *c = key; *c; c++)
		folders += *c == '/';
	at = furthest(l, key, folders, &w);
	name = key + names_len(key, at);
	len = strcspn(name, "/");
	buf_printf(out, "\"%.*s\" has no place in %.*s; there the gallery wants ", (int)len, name,
		at > 0 ? (int)(name - key) : 10, at > 0 ? key : "the prefix");
	for (int i = 0; i < w.count; i++) {
		buf_add_text(out, i == 0 ? "" : i + 1 < w.count || w.more ? ", " : " or ");
		add_want(l, out, w.name[i], w.len[i]);
	}
	buf_add_text(out, w.more ? " and more" : "");
	add_guess(out, &w, name, len);
}

void layout_explain(
	const struct layout *l, const char *key, const struct layout_match *m, struct buf *out)
{
	if (m->should >= 0)
		fill_text(l, &l->rules[m->rule], l->levels[m->should].should_text, key, out);
	else if (m->rule >= 0 && l->rules[m->rule].text)
		fill_text(l, &l->rules[m->rule], l->rules[m->rule].text, key, out);
	else if (m->class == LAYOUT_WRONG)
		explain_unknown(l, key, out);
}
