/*
 * Ini files: names and values come stripped and on one line; a file written from what was read
 * reads the same.
 */
#include "fuzz.h"

struct seen {
	struct buf all;	    /* section, name, value, NUL-ended each */
	struct buf again;   /* a file that says the same */
	char section[4096]; /* of the last setting */
	bool can_write;	    /* whatever came can be written plainly */
	unsigned count;
};

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static void check_stripped(const char *text)
{
	size_t len = strlen(text);

	must(len == 0 || (!is_space(text[0]) && !is_space(text[len - 1])));
	must(!strchr(text, '\n'));
}

static void write_again(struct seen *s, const char *section, const char *name, const char *value)
{
	if (strlen(section) >= sizeof(s->section) || strchr(section, ']'))
		s->can_write = false;
	if (!s->can_write)
		return;
	if (strcmp(section, s->section) != 0 || !s->count)
		buf_printf(&s->again, "[%s]\n", section);
	text_copy(s->section, section, sizeof(s->section));
	buf_printf(&s->again, *name ? "%s = %s\n" : "%s  %s\n", name, value);
}

static int on_setting(void *user, const char *section, const char *name, const char *value)
{
	struct seen *s = user;

	must(section && *section);
	check_stripped(section);
	check_stripped(name);
	check_stripped(value);
	must(!strpbrk(name, "=:"));
	for (const char *c = name; *c; c++)
		must(*c < 'A' || *c > 'Z');
	write_again(s, section, name, value);
	buf_add(&s->all, section, strlen(section) + 1);
	buf_add(&s->all, name, strlen(name) + 1);
	buf_add(&s->all, value, strlen(value) + 1);
	s->count++;
	return 0;
}

static int read_file(struct seen *s, const void *data, size_t len)
{
	char *text = malloc(len + 1);
	unsigned line = 0, lines = 1;
	int r;

	must(text);
	if (len)
		memcpy(text, data, len);
	text[len] = '\0';
	for (size_t i = 0; i < len; i++)
		lines += text[i] == '\n';
	r = ini_parse(text, len, on_setting, s, &line);
	must(r == 0 || (r == -EBADMSG && line >= 1 && line <= lines));
	free(text);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct seen first = {.can_write = true}, again = {.can_write = true};

	if (read_file(&first, data, len) == 0 && first.can_write) {
		must(read_file(&again, buf_text(&first.again), first.again.len) == 0);
		must(again.count == first.count && again.all.len == first.all.len);
		must(!first.all.len || memcmp(again.all.data, first.all.data, first.all.len) == 0);
	}
	buf_release(&first.all);
	buf_release(&first.again);
	buf_release(&again.all);
	buf_release(&again.again);
	return 0;
}
