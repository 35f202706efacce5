/*
 * control - life cycle, and the tree of `.cpgfs/`: which file answers for which id.
 */
#include "control_private.h"

/* ---- life cycle ---- */

static void texts_release(struct control *c)
{
	for (char **o = c->options; o && *o; o++)
		free(*o);
	free(c->options);
	free(c->bucket);
	free(c->prefix);
	free(c->endpoint);
	free(c->mountpoint);
	free(c->cache_dir);
}

static int copy_options(struct control *c, const char *const *options)
{
	size_t count = 0;

	while (options && options[count])
		count++;
	c->options = calloc(count + 1, sizeof(char *));
	if (!c->options)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		c->options[i] = text_dup(options[i]);
		if (!c->options[i])
			return -ENOMEM;
	}
	return 0;
}

static int copy_text(char **ret, const char *text)
{
	*ret = text_dup(text ? text : "");
	return *ret ? 0 : -ENOMEM;
}

static int copy_texts(struct control *c, const struct control_config *config)
{
	char prefix[KEY_MAX_BYTES + 1];
	int r = prefix_normalise(config->prefix ? config->prefix : "", prefix);

	if (r == 0)
		r = text_printf(&c->prefix, "%s%s", prefix, *prefix ? "/" : "");
	if (r == 0)
		r = copy_text(&c->bucket, config->bucket);
	if (r == 0)
		r = copy_text(&c->endpoint, config->endpoint);
	if (r == 0)
		r = copy_text(&c->mountpoint, config->mountpoint);
	if (r == 0)
		r = copy_text(&c->cache_dir, config->cache_dir);
	return r < 0 ? r : copy_options(c, config->options);
}

int control_create(struct control **ret, const struct control_config *config)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->config = *config;
	c->started_ns = clock_wall_ns();
	c->started_mono_ms = clock_mono_ms();
	lock_init(&c->lock, RANK_CONTROL, "control");
	r = copy_texts(c, config);
	if (r == 0)
		r = control_nodes_create(&c->synced.nodes);
	if (r < 0) {
		control_destroy(c);
		return r;
	}
	*ret = c;
	return 0;
}

void control_destroy(struct control *c)
{
	if (!c)
		return;
	control_replies_release(c);
	control_snapshots_release(c);
	control_nodes_destroy(c->synced.nodes);
	lock_release_storage(&c->lock);
	texts_release(c);
	free(c);
}

/* What a listing shows is another than before: verification saw it there, or it was removed. */
void control_notice(struct control *c, const struct store_change *change)
{
	if (change->to == FILE_VERIFIED || change->to == FILE_GONE ||
		(change->from == FILE_DELETING && change->to == FILE_NONE))
		atomic_store(&c->changed_ms, clock_mono_ms());
}

/* ---- the tree ---- */

static struct fs_virtual_attr folder_attr(const struct control *c, uint64_t id)
{
	return (struct fs_virtual_attr){.id = id,
		.is_dir = true,
		.mode = id == ID_REPLY ? 0700 : 0555,
		.mtime_ns = c->started_ns};
}

static bool is_owner(const struct control *c, uid_t uid)
{
	return uid == c->config.owner || uid == 0;
}

static bool is_remote(uint64_t id)
{
	return id == ID_REMOTE || id & ID_REMOTE_BIT;
}

static bool is_plates(uint64_t id)
{
	return id == ID_PLATES || (!(id & ID_REMOTE_BIT) && id & ID_PLATES_BIT);
}

static bool is_reply(uint64_t id)
{
	return !(id & (ID_REMOTE_BIT | ID_PLATES_BIT)) && id & ID_REPLY_BIT;
}

static int root_lookup(struct control *c, const char *name, struct fs_virtual_attr *ret)
{
	if (strcmp(name, "remote") == 0)
		*ret = folder_attr(c, ID_REMOTE);
	else if (strcmp(name, "reply") == 0)
		*ret = folder_attr(c, ID_REPLY);
	else if (strcmp(name, "plates") == 0)
		*ret = folder_attr(c, ID_PLATES);
	else
		return control_file_find(name, ret, c);
	return 0;
}

static int tree_lookup(
	void *user, uint64_t dir_id, const char *name, struct fs_virtual_attr *ret)
{
	struct control *c = user;

	if (dir_id == ID_ROOT)
		return root_lookup(c, name, ret);
	if (dir_id == ID_REPLY)
		return control_reply_find(c, name, ret);
	if (is_remote(dir_id))
		return control_remote_lookup(c, dir_id, name, ret);
	if (is_plates(dir_id))
		return control_plates_lookup(c, dir_id, name, ret);
	return -ENOTDIR;
}

static int tree_attr(void *user, uint64_t id, struct fs_virtual_attr *ret)
{
	struct control *c = user;

	if (id & ID_REMOTE_BIT)
		return control_remote_attr(c, id, ret);
	if (is_reply(id))
		return control_reply_attr(c, id, ret);
	if (is_plates(id) && id != ID_PLATES)
		return control_plates_attr(c, id, ret);
	if (id >= ID_FILES)
		return control_file_attr(id, ret, c);
	*ret = folder_attr(c, id);
	return 0;
}

static int root_list(struct control *c, control_add_fn *add, void *arg)
{
	struct fs_virtual_attr remote = folder_attr(c, ID_REMOTE), reply = folder_attr(c, ID_REPLY);
	struct fs_virtual_attr plates = folder_attr(c, ID_PLATES);
	int r = control_files_list(c, add, arg);

	if (r == 0)
		r = add(arg, "plates", &plates);
	if (r == 0)
		r = add(arg, "remote", &remote);
	return r == 0 ? add(arg, "reply", &reply) : r;
}

static int tree_list(void *user, uint64_t dir_id, control_add_fn *add, void *arg)
{
	struct control *c = user;

	if (dir_id == ID_ROOT)
		return root_list(c, add, arg);
	if (dir_id == ID_REPLY)
		return control_replies_list(c, add, arg);
	if (is_remote(dir_id))
		return control_remote_list(c, dir_id, add, arg);
	if (is_plates(dir_id))
		return control_plates_list(c, dir_id, add, arg);
	return -ENOTDIR;
}

static int tree_read_all(void *user, uint64_t id, uid_t uid, struct buf *ret_content)
{
	struct control *c = user;

	if (id < ID_FILES)
		return -EISDIR;
	if (is_plates(id))
		return control_plates_read(c, id, ret_content);
	if (!is_reply(id))
		return control_file_read(c, id, ret_content);
	return is_owner(c, uid) ? control_reply_read(c, id, ret_content) : -EACCES;
}

static int tree_stream_open(void *user, uint64_t id, uid_t uid, void **ret_stream)
{
	struct control *c = user;
	const struct control_source *source;
	struct control_stream *s = NULL;
	int r = 0;

	if (id & ID_REMOTE_BIT)
		r = control_remote_open(c, id, &s);
	else if (!is_plates(id) && !is_reply(id) && (source = control_file_source(id)) != NULL)
		r = control_stream_open(c, source, NULL, &s);
	*ret_stream = s;
	return r;
}

static ssize_t tree_stream_read(void *user, void *stream, void *data, size_t len, uint64_t off)
{
	return control_stream_read(stream, data, len, off);
}

static void tree_stream_close(void *user, void *stream)
{
	control_stream_close(stream);
}

static int tree_write_all(void *user, uint64_t id, uid_t uid, const void *data, size_t len)
{
	struct control *c = user;

	if (!is_owner(c, uid))
		return -EACCES;
	return control_file_take(c, id, data, len);
}

static void tree_forget(void *user, uint64_t id)
{
	struct control *c = user;

	if (!(id & (ID_REMOTE_BIT | ID_PLATES_BIT)))
		return;
	with_lock(&c->lock);
	control_nodes_forget_locked(c, id);
}

struct fs_virtual control_virtual(struct control *c)
{
	return (struct fs_virtual){
		.user = c,
		.lookup = tree_lookup,
		.attr = tree_attr,
		.list = tree_list,
		.read_all = tree_read_all,
		.stream_open = tree_stream_open,
		.stream_read = tree_stream_read,
		.stream_close = tree_stream_close,
		.write_all = tree_write_all,
		.forget = tree_forget,
	};
}
