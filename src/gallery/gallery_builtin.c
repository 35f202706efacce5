/*
 * gallery_builtin - the layouts of contrib/galleries, put into the program as they stand there, so
 *                   that a copied binary knows them.
 */
#include "cpgfs/gallery.h"

#define EMBED(symbol, file)                                                                        \
	__asm__(".pushsection .rodata\n" #symbol ":\n.incbin \"" file "\"\n.byte 0\n.popsection"); \
	extern const char symbol[] __attribute__((visibility("hidden")))

EMBED(layout_cellpainting, GALLERIES "/cellpainting.layout");

static const struct {
	const char *name, *text;
} layouts[] = {
	{"cellpainting", layout_cellpainting},
};

const char *layout_builtin(const char *name)
{
	for (size_t i = 0; i < array_len(layouts); i++) {
		if (strcmp(layouts[i].name, name) == 0)
			return layouts[i].text;
	}
	return NULL;
}
