/*
 * A gallery's preset: the two sections of its ini file to one struct.
 */
#include "cpgfs/gallery.h"

#define OPTIONS_MAX 100
#define NAME_MAX_BYTES 64

static const char *const credentials_words[] = {
	[GALLERY_CHAIN] = "chain",
	[GALLERY_ACCESS_GRANT] = "access-grant",
	[GALLERY_ROLE] = "role",
};

const char *gallery_credentials_text(enum gallery_credentials c)
{
	return credentials_words[c];
}

bool gallery_name_is_valid(const char *name)
{
	size_t len = strlen(name);
	if (len == 0 || len > NAME_MAX_BYTES || name[0] == '.' || name[len - 1] == '.')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
	       len;
}

/* ---- one setting ---------------------------------------------------------------------------- */

struct reading {
	struct gallery_preset *preset;
	unsigned line; /* being read */
	bool has_credentials;
	char *why; /* malloc'ed: what is wrong with the line */
};

static int wrong(struct reading *r, const char *fmt, ...) printf_like(2, 3);
static int wrong(struct reading *r, const char *fmt, ...)
{
	char text[512];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	r->why = text_dup(text);
	return r->why ? -EINVAL : -ENOMEM;
}

static int set_credentials(struct reading *r, const char *value)
{
	if (r->has_credentials)
		return wrong(r, "\"credentials\" stands here a second time");
	for (size_t i = 0; i < array_len(credentials_words); i++)
		if (strcmp(value, credentials_words[i]) == 0) {
			r->preset->credentials = (enum gallery_credentials)i;
			r->has_credentials = true;
			return 0;
		}
	return wrong(r, "credentials = %.60s: there are access-grant, role and chain", value);
}

static const struct {
	const char *name;
	size_t at;
} texts[] = {
	{"bucket", offsetof(struct gallery_preset, bucket)},
	{"description", offsetof(struct gallery_preset, description)},
	{"layout", offsetof(struct gallery_preset, layout)},
	{"url", offsetof(struct gallery_preset, url)},
};

static int set_text(struct reading *r, const char *name, const char *value)
{
	for (size_t i = 0; i < array_len(texts); i++) {
		char **field = (char **)((char *)r->preset + texts[i].at);
		if (strcmp(texts[i].name, name) != 0)
			continue;
		if (*field)
			return wrong(r, "\"%s\" stands here a second time", name);
		if (!*value)
			return wrong(r, "\"%s\" has no value", name);
		*field = text_dup(value);
		return *field ? 0 : -ENOMEM;
	}
	return wrong(r,
		"section [gallery] knows no \"%.60s\", only bucket, credentials, description, "
		"layout and "
		"url (options of cpgfs mount belong below [mount])",
		name);
}

static int add_option(struct reading *r, const char *name, const char *value)
{
	struct gallery_preset *p = r->preset;
	for (size_t i = 0; i < p->option_count; i++)
		if (strcmp(p->options[i].name, name) == 0)
			return wrong(r, "\"%.60s\" stands here a second time", name);
	if (p->option_count == OPTIONS_MAX)
		return wrong(r, "more than %d options", OPTIONS_MAX);
	if (!p->options && !(p->options = calloc(OPTIONS_MAX, sizeof(*p->options))))
		return -ENOMEM;
	struct gallery_option *o = &p->options[p->option_count++];
	o->line = r->line;
	o->name = text_dup(name);
	o->value = text_dup(value);
	return o->name && o->value ? 0 : -ENOMEM;
}

static int on_setting(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	if (!*name)
		return wrong(
			r, "\"%.60s\" is indented, as if it continued the line before it", value);
	if (strcmp(section, "gallery") == 0)
		return strcmp(name, "credentials") == 0 ? set_credentials(r, value)
							: set_text(r, name, value);
	if (strcmp(section, "mount") == 0)
		return add_option(r, name, value);
	return wrong(r, "there is no section [%.60s], only [gallery] and [mount]", section);
}

/* ---- a whole file --------------------------------------------------------------------------- */

static int check_whole(const struct gallery_preset *p, char **ret_message)
{
	const char *lack = !p->bucket ? "bucket" : !p->description ? "description" : NULL;
	if (!lack)
		return 0;
	return text_printf(ret_message, "section [gallery] has no \"%s = …\"", lack) < 0 ? -ENOMEM
											 : -EINVAL;
}

static int say_line(const struct reading *r, char **ret_message)
{
	return text_printf(ret_message, "line %u: %s", r->line,
		       r->why ? r->why : "neither [section], \"name = value\" nor # comment") < 0
		       ? -ENOMEM
		       : -EINVAL;
}

int gallery_preset_parse(struct gallery_preset *ret, char *text, size_t len, char **ret_message)
{
	struct gallery_preset preset = {0};
	struct reading reading = {.preset = &preset};
	int r = ini_parse(text, len, on_setting, &reading, &reading.line);
	if (r == -EINVAL || r == -EBADMSG)
		r = say_line(&reading, ret_message);
	else if (r == 0)
		r = check_whole(&preset, ret_message);
	free(reading.why);
	if (r < 0) {
		gallery_preset_release(&preset);
		return r;
	}
	*ret = preset;
	return 0;
}

void gallery_preset_release(struct gallery_preset *p)
{
	for (size_t i = 0; i < array_len(texts); i++)
		free(*(char **)((char *)p + texts[i].at));
	for (size_t i = 0; i < p->option_count; i++) {
		free(p->options[i].name);
		free(p->options[i].value);
	}
	free(p->options);
	*p = (struct gallery_preset){0};
}
