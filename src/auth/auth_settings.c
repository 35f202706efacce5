/*
 * The shared files. Sections [name] and [profile name] are one profile in both files, quotes around
 * the name allowed.
 */
#include "auth_settings.h"

#include <fcntl.h>
#include <sys/stat.h>

#define FILE_MAX_BYTES (4 * MIB)

struct reading {
	struct auth_settings *settings;
	unsigned file;
	char *at; /* where the next copy goes: there is room for all of them */
	const char *header; /* of the section, as the parser has it */
	const char *section;
};

/* ---- reading -------------------------------------------------------------------------------- */

static const char *copy_text(struct reading *r, const char *text)
{
	size_t size = strlen(text) + 1;
	char *at = r->at;
	memcpy(at, text, size);
	r->at += size;
	return at;
}

static int on_setting(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	struct auth_settings *s = r->settings;
	if (!*name) /* a nested block */
		return 0;
	if (s->count == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		struct auth_setting *bigger = reallocarray(s->items, room, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		s->items = bigger;
		s->room = room;
	}
	if (r->header != section) {
		r->header = section;
		r->section = copy_text(r, section);
	}
	struct auth_setting *item = &s->items[s->count++];
	item->section = r->section;
	item->name = copy_text(r, name);
	item->value = copy_text(r, value);
	item->file = r->file;
	return 0;
}

/* The whole file with a NUL behind it; an absent file is an empty one. */
static int read_whole(const char *path, char **ret, size_t *ret_len)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	bool absent = fd < 0 && (errno == ENOENT || errno == ENOTDIR);
	if (fd < 0 && !absent)
		return -errno;
	if (!absent && fstat(fd, &st))
		return -errno;
	if (!absent && !S_ISREG(st.st_mode))
		return -EINVAL;
	if (!absent && (uint64_t)st.st_size > FILE_MAX_BYTES)
		return -EFBIG;
	size_t size = absent ? 0 : (size_t)st.st_size;
	cleanup_secret char *text = secret_alloc(size + 1);
	if (!text)
		return -ENOMEM;
	ssize_t n = size ? io_pread(fd, text, size, 0) : 0;
	if (n < 0)
		return (int)n;
	*ret_len = (size_t)n;
	*ret = steal_ptr(text);
	return 0;
}

static int say_unreadable(struct auth_settings *s, const char *path, int err)
{
	if (err == -ENOMEM || s->broken)
		return err == -ENOMEM ? err : 0;
	return text_printf(&s->broken, "%s cannot be read: %s", path, strerror(-err));
}

static int read_file(struct auth_settings *s, unsigned file, const char *path)
{
	cleanup_secret char *text = NULL;
	size_t len = 0;
	unsigned line = 0;
	int err = read_whole(path, &text, &len);
	if (err)
		return say_unreadable(s, path, err);
	/* a section, a name and a value for each line, each with a NUL instead of its divider */
	s->text[file] = secret_alloc(3 * len + 16);
	if (!s->text[file])
		return -ENOMEM;
	struct reading r = {.settings = s, .file = file, .at = s->text[file]};
	err = ini_parse(text, len, on_setting, &r, &line);
	if (err == -EBADMSG && !s->broken)
		return text_printf(&s->broken,
			"%s, line %u: neither [section] nor \"name = value\"; correct that line",
			path, line);
	return err == -EBADMSG ? 0 : err;
}

int auth_settings_read(struct auth_settings *ret, const struct auth_places *p)
{
	struct auth_settings s = {.count = 0};
	int err = read_file(&s, 0, p->credentials_path);
	if (!err)
		err = read_file(&s, 1, p->config_path);
	if (err) {
		auth_settings_release(&s);
		return err;
	}
	*ret = s;
	return 0;
}

void auth_settings_release(struct auth_settings *s)
{
	free(s->items);
	secret_free(s->text[0]);
	secret_free(s->text[1]);
	free(s->broken);
	*s = (struct auth_settings){.count = 0};
}

/* ---- looking up ----------------------------------------------------------------------------- */

/* [kind of], [kind "of"], [kind 'of'] */
static bool is_section(const char *section, const char *kind, const char *of)
{
	size_t kind_len = strlen(kind);
	if (!text_starts(section, kind) || (section[kind_len] != ' ' && section[kind_len] != '\t'))
		return false;
	const char *name = section + kind_len + strspn(section + kind_len, " \t");
	size_t len = strlen(name);
	if (len >= 2 && (name[0] == '"' || name[0] == '\'') && name[len - 1] == name[0])
		return len - 2 == strlen(of) && strncmp(name + 1, of, len - 2) == 0;
	return strcmp(name, of) == 0;
}

static bool is_profile(const char *section, const char *profile)
{
	return strcmp(section, profile) == 0 || is_section(section, "profile", profile);
}

bool auth_profile_exists(const struct auth_settings *s, const char *profile)
{
	for (size_t i = 0; i < s->count; i++)
		if (is_profile(s->items[i].section, profile))
			return true;
	return false;
}

/* Later items of a file win, and file 0 before file 1. */
static const char *better(const char *had, unsigned had_file, const struct auth_setting *item)
{
	return had && had_file < item->file ? had : item->value;
}

const char *auth_profile_get(
	const struct auth_settings *s, const char *profile, const char *name, unsigned files)
{
	const char *value = NULL;
	unsigned file = 0;
	for (size_t i = 0; i < s->count; i++) {
		const struct auth_setting *item = &s->items[i];
		if (!(files & (1u << item->file)) || strcmp(item->name, name) != 0 ||
			!item->value[0] || !is_profile(item->section, profile))
			continue;
		value = better(value, file, item);
		file = value == item->value ? item->file : file;
	}
	return value;
}

const char *auth_profile_get_key(
	const struct auth_settings *s, const char *profile, const char *name, unsigned file)
{
	const char *section = NULL, *value = NULL;
	for (size_t i = 0; i < s->count; i++) {
		const struct auth_setting *item = &s->items[i];
		if ((file & (1u << item->file)) && item->value[0] &&
			strcmp(item->name, "aws_access_key_id") == 0 &&
			is_profile(item->section, profile))
			section = item->section;
	}
	if (!section)
		return auth_profile_get(s, profile, name, file);
	for (size_t i = 0; i < s->count; i++)
		if (s->items[i].section == section && s->items[i].value[0] &&
			strcmp(s->items[i].name, name) == 0)
			value = s->items[i].value;
	return value;
}

bool auth_section_exists(const struct auth_settings *s, const char *kind, const char *of)
{
	for (size_t i = 0; i < s->count; i++)
		if (is_section(s->items[i].section, kind, of))
			return true;
	return false;
}

const char *auth_section_get(
	const struct auth_settings *s, const char *kind, const char *of, const char *name)
{
	const char *value = NULL;
	for (size_t i = 0; i < s->count; i++) {
		const struct auth_setting *item = &s->items[i];
		if (strcmp(item->name, name) == 0 && item->value[0] &&
			is_section(item->section, kind, of))
			value = item->value;
	}
	return value;
}
