/*
 * The one parser of ini files: the shared AWS files and the galleries.
 *
 * The shared AWS files are what Python's configparser reads, since that is what the AWS tools use: a
 * comment is a whole line beginning with # or ;, a value goes to the end of its line whatever
 * characters it holds (secrets may hold any), the first = or : divides, and a line indented deeper
 * than the setting before it continues that setting (nested blocks such as "s3 ="). Lines may have
 * any length: session tokens exceed 1,000 bytes. General INI libraries (inih, too) cut long lines
 * and take " ;" for a comment, so this is our own.
 */
#include "cpgfs/base.h"

#include <ctype.h>

struct ini {
	ini_fn *visit;
	void *user;
	const char *section; /* NULL before the first */
	bool has_setting;    /* in this section */
	size_t indent;       /* of the last line that continued nothing */
};

static char *strip_end(char *text)
{
	size_t len = strlen(text);
	while (len && isspace((unsigned char)text[len - 1]))
		text[--len] = '\0';
	return text;
}

static char *strip_start(char *text)
{
	while (isspace((unsigned char)*text))
		text++;
	return text;
}

static int take_section(struct ini *ini, char *text)
{
	char *end = strrchr(text, ']');
	if (!end)
		return -EBADMSG;
	*end = '\0';
	ini->section = strip_end(strip_start(text + 1));
	ini->has_setting = false;
	return *ini->section ? 0 : -EBADMSG;
}

static int take_setting(struct ini *ini, char *text)
{
	char *divider = strpbrk(text, "=:");
	if (!divider || divider == text || !ini->section)
		return -EBADMSG;
	*divider = '\0';
	for (char *p = text; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	ini->has_setting = true;
	return ini->visit(ini->user, ini->section, strip_end(text), strip_start(divider + 1));
}

static int take_line(struct ini *ini, char *line)
{
	char *text = strip_end(strip_start(line));
	size_t indent = (size_t)(text - line);
	if (!*text || *text == '#' || *text == ';')
		return 0;
	if (ini->has_setting && indent > ini->indent)
		return ini->visit(ini->user, ini->section, "", text);
	ini->indent = indent;
	return *text == '[' ? take_section(ini, text) : take_setting(ini, text);
}

int ini_parse(char *text, size_t len, ini_fn *visit, void *user, unsigned *ret_line)
{
	struct ini ini = {.visit = visit, .user = user};
	unsigned number = 0;
	char *end = text + len;
	if (text_starts(text, "\xef\xbb\xbf"))
		text += 3;
	while (text < end) {
		char *line = text;
		char *newline = memchr(line, '\n', (size_t)(end - line));
		char *line_end = newline ? newline : end;
		*ret_line = ++number;
		text = line_end + 1;
		*line_end = '\0';
		int err = strlen(line) == (size_t)(line_end - line) ? take_line(&ini, line)
								   : -EBADMSG;
		if (err)
			return err;
	}
	return 0;
}
