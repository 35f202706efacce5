/*
 * gallery_template - a layout template as a Perl pattern.
 *
 *	<plate>/<plate>_Illum*.npy   →   (?<plate>N)/\k<plate>_Illum[^/]*\.npy
 *
 * The pattern is anchored at both ends where it is compiled.
 */
#include "gallery_layout.h"

int layout_level_find(const struct layout *l, const char *name, size_t len)
{
	for (int i = 0; i < l->level_count; i++) {
		if (strlen(l->levels[i].name) == len && memcmp(l->levels[i].name, name, len) == 0)
			return i;
	}
	return -1;
}

/* "<plate>…": the level's pattern, or the same text once more. Bytes of it, 0 after a message. */
static size_t add_level(const struct layout *l, const char *at, struct buf *pattern,
	bool seen[LEVELS_MAX], struct buf *message)
{
	size_t len = strcspn(at + 1, ">/");
	int level = layout_level_find(l, at + 1, len);

	if (at[1 + len] != '>') {
		buf_printf(message, "\"%s\" lacks its \">\"", at);
		return 0;
	}
	if (level < 0) {
		buf_printf(message, "<%.*s> is no level; levels stand before the rules", (int)len,
			at + 1);
		return 0;
	}
	if (seen[level])
		buf_printf(pattern, "\\k<%s>", l->levels[level].name);
	else
		buf_printf(pattern, "(?<%s>%s)", l->levels[level].name, l->levels[level].pattern);
	seen[level] = true;
	return len + 2;
}

static size_t add_star(const char *at, struct buf *pattern, struct buf *message)
{
	if (at[1] != '*') {
		buf_add_text(pattern, "[^/]*");
		return 1;
	}
	if (at[2] != '\0') {
		buf_add_text(message, "** must be the last name of a template");
		return 0;
	}
	buf_add_text(pattern, ".+");
	return 2;
}

/* "(a|b)" may not reach over a "/": explanations go name by name. */
static size_t add_group(const char *at, struct buf *pattern, struct buf *message)
{
	size_t inside = strcspn(at, ")/");

	if (at[inside] != ')') {
		buf_printf(message, "\"%s\": a ( needs its ) within the same name", at);
		return 0;
	}
	buf_add_text(pattern, "(?:");
	return 1;
}

static size_t add_piece(const struct layout *l, const char *at, struct buf *pattern,
	bool seen[LEVELS_MAX], struct buf *message)
{
	switch (*at) {
	case '<':
		return add_level(l, at, pattern, seen, message);
	case '*':
		return add_star(at, pattern, message);
	case '(':
		return add_group(at, pattern, message);
	case ')':
		buf_add_text(pattern, at[1] == '?' ? ")?" : ")");
		return at[1] == '?' ? 2 : 1;
	case '|':
	case '/':
		break;
	default:
		if (strchr("\\^$.[]{}+?", *at))
			buf_add_char(pattern, '\\');
	}
	buf_add_char(pattern, *at);
	return 1;
}

int layout_template_pattern(
	const struct layout *l, struct rule *r, struct buf *pattern, struct buf *message)
{
	bool seen[LEVELS_MAX] = {false};
	size_t bytes;

	for (const char *at = r->template; *at; at += bytes) {
		bytes = add_piece(l, at, pattern, seen, message);
		if (bytes == 0)
			return -EINVAL;
	}
	return buf_error(pattern);
}
