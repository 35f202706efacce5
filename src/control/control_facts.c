/*
 * control_facts - what status, status.json and metrics say, asked once from every room, and the
 * words for it.
 */
#include "control_private.h"

const char *control_held_text(enum held_kind kind)
{
	switch (kind) {
	case HELD_TEMPORARY:
		return "temporary";
	case HELD_JUNK:
		return "junk";
	case HELD_NAME:
		return "name";
	case HELD_NOT:
	case HELD_KIND_COUNT:
		break;
	}
	return "none";
}

const char *control_held_remedy(enum held_kind kind)
{
	switch (kind) {
	case HELD_TEMPORARY:
		return "nothing to do: it is sent when it gets its real name";
	case HELD_JUNK:
		return "nothing to do: such files are never sent";
	case HELD_NAME:
		return file_state_remedy(FILE_HELD);
	case HELD_NOT:
	case HELD_KIND_COUNT:
		break;
	}
	return "";
}

/* 3 before 2 before 0: what needs a person does not go away by waiting. */
int control_exit_of(const struct store_counts *counts, uint64_t jobs, uint64_t jobs_damaged)
{
	bool pending = jobs > 0 || counts->held[HELD_TEMPORARY] > 0;

	if (counts->held[HELD_NAME] > 0 || jobs_damaged > 0)
		return 3;
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++) {
		if (s == FILE_HELD || counts->files[s] == 0)
			continue;
		if (file_state_exit(s) == 3)
			return 3;
		pending = pending || file_state_exit(s) == 2;
	}
	return pending ? 2 : 0;
}

int control_facts_get(struct control *c, struct control_facts *ret)
{
	const struct control_config *config = &c->config;
	struct fs *fs = config->fs ? config->fs(config->fs_user) : NULL;
	int r;

	upload_status(config->upload, &ret->upload); /* jobs first: what one leaves behind is counted */
	r = store_counts(config->store, STORE_ROOT_INO, &ret->counts);
	if (r < 0)
		return r;
	store_space(config->store, &ret->space);
	store_recovery_report(config->store, &ret->recovery);
	ret->fs = (struct fs_status){0};
	if (fs)
		fs_status(fs, &ret->fs);
	auth_describe(config->auth, ret->credentials);
	ret->remote_health = remote_health(
		config->remote, ret->remote_message, sizeof(ret->remote_message));
	ret->exit_code = control_exit_of(
		&ret->counts, ret->upload.jobs_open, ret->upload.jobs_damaged);
	return 0;
}

json_t *control_json_text(const char *text)
{
	cleanup_buf struct buf escaped = {0};

	if (utf8_is_valid(text, strlen(text)))
		return json_string(text);
	text_escape(&escaped, text);
	return buf_error(&escaped) < 0 ? NULL : json_string(buf_text(&escaped));
}

static int add_bytes(const char *data, size_t len, void *out)
{
	buf_add(out, data, len);
	return buf_error(out);
}

int control_json_write(const json_t *json, size_t flags, struct buf *out)
{
	int r = json_dump_callback(json, add_bytes, out, flags);

	return buf_error(out) < 0 ? buf_error(out) : r < 0 ? -ENOMEM : 0;
}

static int set_number(json_t *object, const char *name, uint64_t value)
{
	return json_object_set_new(object, name, json_integer((json_int_t)value));
}

static int add_states(json_t *object, const char *name, const uint64_t *numbers)
{
	json_t *table = json_object();
	int r = json_object_set_new(object, name, table);

	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT && r == 0; s++)
		r = set_number(table, file_state_text(s), numbers[s]);
	return r;
}

int control_json_counts(json_t *object, const struct store_counts *counts)
{
	json_t *held = json_object();
	int r = json_object_set_new(object, "held", held);

	for (enum held_kind k = HELD_NOT + 1; k < HELD_KIND_COUNT && r == 0; k++)
		r = set_number(held, control_held_text(k), counts->held[k]);
	if (r == 0)
		r = add_states(object, "files", counts->files);
	if (r == 0)
		r = add_states(object, "bytes", counts->bytes);
	return r == 0 ? 0 : -ENOMEM;
}
