/*
 * A gallery's preset file: whole, or refused with the line.
 */
#include "fuzz.h"
#include "cpgfs/gallery.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct gallery_preset p = {0};
	char *text = malloc(len + 1), *message = NULL;
	int r;

	must(text);
	memcpy(text, data, len);
	text[len] = '\0';
	r = gallery_preset_parse(&p, text, len, &message);
	must(r == 0 || r == -EINVAL);
	must((r == 0) == !message);
	if (r == 0) {
		must(p.description && p.bucket);
		for (size_t i = 0; i < p.option_count; i++) {
			must(p.options[i].name[0] && p.options[i].value && p.options[i].line > 0);
			for (size_t k = 0; k < i; k++)
				must(strcmp(p.options[i].name, p.options[k].name) != 0);
		}
		must(gallery_credentials_text(p.credentials)[0]);
	}
	gallery_preset_release(&p);
	free(message);
	free(text);
	return 0;
}
