/*
 * A layout file of one's own: taken, or refused with a line that says what is wrong; then matched.
 *
 *   key NUL layout file
 */
#include "fuzz.h"
#include "cpgfs/gallery.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	char *key = fuzz_text(&in, 128), *text = fuzz_text(&in, len), *message = NULL;
	cleanup_buf struct buf why = {0};
	struct layout *l = NULL;
	struct layout_match m;
	int r = layout_create(&l, text, &message);

	must(r == 0 || r == -EINVAL);
	must((r == 0) == !message && (r == 0) == !!l);
	must(r == 0 || text_starts(message, "line ") || strstr(message, "no rule"));
	if (r == 0) {
		must(layout_rules(l) > 0);
		must(layout_match(l, key, &m) == 0 && m.rule < layout_rules(l));
		(void)layout_takes_folder(l, key);
		layout_explain(l, key, &m, &why);
	}
	layout_destroy(l);
	free(message);
	free(text);
	free(key);
	return 0;
}
