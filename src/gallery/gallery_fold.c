/*
 * gallery_fold - names without what a person doesn't see: case, and the way letters are encoded
 *                ("ü" is one character or two). libunistring knows Unicode's tables.
 */
#include <unicase.h>
#include <uninorm.h>

#include "cpgfs/gallery.h"

static bool is_ascii(const char *name)
{
	for (; *name; name++) {
		if ((unsigned char)*name >= 0x80)
			return false;
	}
	return true;
}

char *name_fold(const char *name)
{
	size_t len = strlen(name), out_len = 0;
	char *out;
	uint8_t *folded;

	if (!is_ascii(name) && utf8_is_valid(name, len)) {
		folded = u8_casefold((const uint8_t *)name, len, NULL, UNINORM_NFC, NULL, &out_len);
		out = folded ? realloc(folded, out_len + 1) : NULL;
		if (out)
			out[out_len] = '\0';
		else
			free(folded);
		return out;
	}
	out = text_dup(name);
	for (char *c = out; c && *c; c++) {
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c | 0x20);
	}
	return out;
}
