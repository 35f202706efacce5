/*
 * control_layout - `.cpgfs/layout.tsv`: files that lie where the gallery's layout has no place for
 *                  them, or that a person should look at, each with the rule and the likely fix.
 */
#include "control_private.h"

#define BATCH 128

static int judge(struct control *c, const char *path, struct buf *out)
{
	cleanup_buf struct buf reason = {0};
	char key[KEY_MAX_BYTES + 1];
	struct layout_match m;
	const char *component;
	size_t len;
	int r;

	if (path_judge(&c->config.naming, path, false, &component, &len) != NAME_OK ||
		path_to_key(&c->config.naming, path, false, key) < 0)
		return 0; /* held, and said so elsewhere */
	r = layout_match(c->config.layout, key, &m);
	if (r < 0 || m.class < LAYOUT_WARN)
		return r;
	layout_explain(c->config.layout, key, &m, &reason);
	if (buf_error(&reason) < 0)
		return buf_error(&reason);
	text_escape(out, path);
	buf_printf(out, "\t%s\t%s\t", m.class == LAYOUT_WARN ? "warn" : "wrong",
		layout_rule_name(c->config.layout, m.rule));
	text_escape(out, buf_text(&reason));
	buf_add_char(out, '\n');
	return buf_error(out);
}

static int judge_ino(struct control *c, uint64_t ino, struct buf *out)
{
	cleanup_buf struct buf path = {0};
	struct store_attr attr;
	int r = store_attr(c->config.store, ino, &attr);

	if (r == 0 && attr.state != FILE_NONE && attr.state != FILE_DELETING)
		r = store_path(c->config.store, ino, &path);
	if (r < 0 || path.len == 0)
		return r == -ENOENT ? 0 : r; /* gone meanwhile */
	return judge(c, buf_text(&path), out);
}

static void layout_begin(struct control *c, const void *session, struct buf *out)
{
	buf_add_text(out, "path\tclass\trule\twhat\n");
}

static int layout_more(struct control *c, void *session, void *cursor, struct buf *out)
{
	struct store_walk *at = cursor;
	uint64_t inos[BATCH];
	int n, r = 0;

	if (!c->config.layout)
		return 0;
	n = store_walk_next(c->config.store, STORE_ROOT_INO, at, inos, BATCH);
	for (int i = 0; i < n && r == 0; i++)
		r = judge_ino(c, inos[i], out);
	return r < 0 ? r : n > 0 || at->passed_damage ? 1 : n;
}

const struct control_source control_layout = {
	.cursor_bytes = sizeof(struct store_walk), .begin = layout_begin, .more = layout_more};
