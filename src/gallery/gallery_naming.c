/*
 * gallery_naming - the naming rule: what it refuses, how it would be written, what to tell people.
 *
 * Folders down to the plate: letters, digits, _ and -, and a dot inside (`x.ome.zarr`). Anything
 * else there breaks scripts of those who work with the gallery, and a plate folder with a space
 * can't be mended later, because tables with its path exist by then.
 */
#include "gallery_private.h"

static const char *const mode_texts[] = {
	[NAMING_HOLD] = "hold",
	[NAMING_CLEAN] = "clean",
	[NAMING_REFUSE] = "refuse",
	[NAMING_OFF] = "off",
};

int naming_mode_parse(const char *text, enum naming_mode *ret)
{
	for (size_t i = 0; i < array_len(mode_texts); i++) {
		if (strcmp(text, mode_texts[i]) == 0) {
			*ret = (enum naming_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *naming_mode_text(enum naming_mode mode)
{
	return mode_texts[mode];
}

/* ASCII only, whatever the locale. */
static bool is_plain_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

int naming_clean_with_parse(const char *text, char *ret)
{
	if (text[0] != '\0' && (!is_plain_char(text[0]) || text[1] != '\0'))
		return -EINVAL;
	*ret = text[0];
	return 0;
}

bool naming_is_strict(const struct naming_policy *p, bool is_folder, unsigned depth)
{
	return p->mode != NAMING_OFF && is_folder && depth <= NAMING_STRICT_DEPTH;
}

bool naming_is_plain(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++) {
		bool inner_dot = name[i] == '.' && i > 0 && i + 1 < len;

		if (!is_plain_char(name[i]) && !inner_dot)
			return false;
	}
	return len > 0;
}

static bool has_control(const char *name)
{
	for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
		if (*c < 0x20 || *c == 0x7f)
			return true;
	}
	return false;
}

/* Would be another place than it says, or none. */
static bool is_no_name(const char *name)
{
	return name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	       strchr(name, '/');
}

enum name_verdict name_judge(
	const struct naming_policy *p, const char *name, bool is_folder, unsigned depth)
{
	enum name_verdict held = held_judge(p, name);
	bool strict = naming_is_strict(p, is_folder, depth);
	char cleaned[KEY_MAX_BYTES + 1];

	if (is_no_name(name))
		return NAME_REFUSED;
	if (held != NAME_OK)
		return held;
	if (strict && naming_is_plain(name))
		return NAME_OK;
	if (strict && p->mode == NAMING_CLEAN)
		return name_clean(p, name, cleaned, sizeof(cleaned)) == 0 ? NAME_OK : NAME_REFUSED;
	if (!utf8_is_valid(name, strlen(name)) || has_control(name))
		return NAME_NOT_TEXT;
	return strict ? NAME_REFUSED : NAME_OK;
}

/* Bytes of the character at s: one refused character gets one replacement. */
static size_t character_bytes(const char *s, size_t len)
{
	for (size_t n = 1; n <= 4 && n <= len; n++) {
		if (utf8_is_valid(s, n))
			return n;
	}
	return 1;
}

/* Cuts dots off both ends of out; replacing turns them into a character of the name instead. */
static size_t strip_outer_dots(char *out, size_t len)
{
	size_t first = 0;

	while (first < len && out[first] == '.')
		first++;
	while (len > first && out[len - 1] == '.')
		len--;
	memmove(out, out + first, len - first);
	return len - first;
}

int name_clean(const struct naming_policy *p, const char *name, char *out, size_t size)
{
	char clean[KEY_MAX_BYTES + 1];
	size_t in_len = strlen(name), len = 0;

	if (in_len >= sizeof(clean))
		return -ENAMETOOLONG;
	for (size_t i = 0; i < in_len;) {
		size_t n = character_bytes(name + i, in_len - i);
		bool outer_dot = name[i] == '.' && (i == 0 || i + 1 == in_len);

		if (is_plain_char(name[i]) || (name[i] == '.' && !(outer_dot && p->clean_with)))
			clean[len++] = name[i];
		else if (p->clean_with)
			clean[len++] = p->clean_with;
		i += n;
	}
	len = strip_outer_dots(clean, len);
	if (len == 0)
		return -EINVAL;
	if (len >= size)
		return -ENAMETOOLONG;
	clean[len] = '\0';
	if (held_judge(p, clean) != NAME_OK)
		return -EINVAL;
	memcpy(out, clean, len + 1);
	return 0;
}

/* "; cpgfs rename-clean makes it "X"" where it would. */
static void add_clean_form(struct buf *out, const struct naming_policy *p, const char *name)
{
	char cleaned[KEY_MAX_BYTES + 1];

	if (name_clean(p, name, cleaned, sizeof(cleaned)) == 0)
		buf_printf(out, ", or run cpgfs rename-clean, which makes it \"%s\"", cleaned);
}

static void reason_refused(struct buf *out, const struct naming_policy *p, const char *name)
{
	buf_add_text(out, ": the gallery takes only letters, digits, _ and - (and dots inside) in "
			  "folder names down to the plate; rename it in the mount");
	add_clean_form(out, p, name);
}

static void reason_add(
	struct buf *out, const struct naming_policy *p, enum name_verdict verdict, const char *name)
{
	buf_add_char(out, '"');
	text_escape(out, name);
	buf_add_char(out, '"');
	switch (verdict) {
	case NAME_TEMPORARY:
		buf_add_text(out, " is a temporary name: kept here until it is renamed");
		break;
	case NAME_JUNK:
		buf_add_text(
			out, " is made by desktops and is not data: kept here, never uploaded");
		break;
	case NAME_REFUSED:
		reason_refused(out, p, name);
		break;
	case NAME_TOO_LONG:
		buf_add_text(out, " makes the key longer than S3's 1024 bytes; "
				  "shorten it or its folders by renaming in the mount");
		break;
	case NAME_NOT_TEXT:
		buf_add_text(out, " is not UTF-8 or holds a control character, which S3 listings "
				  "cannot show; rename it in the mount");
		break;
	case NAME_OK:
		check(verdict != NAME_OK);
	}
}

void name_reason(const struct naming_policy *p, enum name_verdict verdict, const char *component,
	size_t len, char *out, size_t out_size)
{
	cleanup_buf struct buf text = {0};
	char name[KEY_MAX_BYTES + 1];

	if (len > KEY_MAX_BYTES)
		len = KEY_MAX_BYTES;
	memcpy(name, component, len);
	name[len] = '\0';
	reason_add(&text, p, verdict, name);
	(void)text_copy(out, buf_text(&text), out_size); /* cut or short of memory: still a hint */
}
