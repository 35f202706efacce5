/*
 * control_reply - what commands answered, by the token their sender chose: the last 1,000, for a
 * minute each.
 */
#include "control_private.h"

#include <ctype.h>

#define KEPT_MS 60000

bool control_token_is_valid(const char *token)
{
	size_t len = strlen(token);

	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)token[i]) && token[i] != '_' && token[i] != '-')
			return false;
	}
	return len > 0 && len <= TOKEN_MAX;
}

static void reply_drop(struct control_reply *p)
{
	free(p->text);
	*p = (struct control_reply){0};
}

static struct control_reply *find_locked(struct control *c, const char *token)
{
	int64_t now_ms = clock_mono_ms();

	for (size_t i = 0; i < REPLIES_MAX; i++) {
		struct control_reply *p = &c->synced.replies[i];

		if (p->token[0] && now_ms - p->made_ms > KEPT_MS)
			reply_drop(p);
		if (p->token[0] && strcmp(p->token, token) == 0)
			return p;
	}
	return NULL;
}

void control_reply_keep(struct control *c, const char *token, char *text, size_t len)
{
	struct control_reply *p;

	with_lock(&c->lock);
	p = find_locked(c, token);
	if (!p)
		p = &c->synced.replies[c->synced.reply_count % REPLIES_MAX];
	reply_drop(p);
	(void)text_copy(p->token, token, sizeof(p->token)); /* its length was checked */
	p->number = ++c->synced.reply_count;
	p->made_ms = clock_mono_ms();
	p->made_ns = clock_wall_ns();
	p->text = text;
	p->len = len;
}

/* A reply that can't be made for lack of memory is missing; the write's own result still tells. */
void control_answer_keep(struct control *c, const char *token, int64_t result,
	const char *error_text, json_t *answer)
{
	cleanup_buf struct buf text = {0};
	size_t len;
	int r;

	if (result < 0) {
		(void)json_object_clear(answer);
		r = json_object_set_new(answer, "error", control_json_text(error_text));
	} else {
		r = json_object_set_new(answer, "ok", json_true()) |
		    json_object_set_new(answer, "count", json_integer(result));
	}
	if (r < 0 || control_json_write(answer, JSON_COMPACT, &text) < 0)
		return;
	len = text.len;
	control_reply_keep(c, token, buf_steal(&text), len);
}

static struct fs_virtual_attr attr_of(const struct control_reply *p)
{
	return (struct fs_virtual_attr){
		.id = ID_REPLY_BIT | p->number, .mode = 0600, .mtime_ns = p->made_ns};
}

int control_reply_find(struct control *c, const char *token, struct fs_virtual_attr *ret)
{
	struct control_reply *p;

	with_lock(&c->lock);
	p = find_locked(c, token);
	if (!p)
		return -ENOENT;
	*ret = attr_of(p);
	return 0;
}

static struct control_reply *by_id_locked(struct control *c, uint64_t id)
{
	for (size_t i = 0; i < REPLIES_MAX; i++) {
		struct control_reply *p = &c->synced.replies[i];

		if (p->token[0] && (ID_REPLY_BIT | p->number) == id)
			return p;
	}
	return NULL;
}

int control_reply_attr(struct control *c, uint64_t id, struct fs_virtual_attr *ret)
{
	struct control_reply *p;

	with_lock(&c->lock);
	p = by_id_locked(c, id);
	if (!p)
		return -ESTALE;
	*ret = attr_of(p);
	return 0;
}

int control_reply_read(struct control *c, uint64_t id, struct buf *out)
{
	struct control_reply *p;

	with_lock(&c->lock);
	p = by_id_locked(c, id);
	if (!p)
		return -ESTALE;
	buf_add(out, p->text, p->len);
	return buf_error(out);
}

int control_replies_list(struct control *c, control_add_fn *add, void *arg)
{
	int r = 0;

	for (size_t i = 0; i < REPLIES_MAX && r == 0; i++) {
		struct fs_virtual_attr attr;
		char token[TOKEN_MAX + 1];

		{
			const struct control_reply *p = &c->synced.replies[i];

			with_lock(&c->lock);
			(void)text_copy(token, p->token, sizeof(token)); /* same size */
			attr = attr_of(p);
		}
		if (token[0])
			r = add(arg, token, &attr);
	}
	return r;
}

void control_replies_release(struct control *c)
{
	with_lock(&c->lock);
	for (size_t i = 0; i < REPLIES_MAX; i++)
		reply_drop(&c->synced.replies[i]);
}
