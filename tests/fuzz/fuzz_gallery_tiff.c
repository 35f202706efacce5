/*
 * Does a TIFF look cut off? A head that is whole stays whole when the file grows, and only the
 * named bytes are read.
 *
 *   size(8) head
 */
#include "fuzz.h"
#include "cpgfs/gallery.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	uint64_t size = fuzz_number(&in, 8);
	size_t head_len;
	uint8_t *head = fuzz_bytes(&in, len, &head_len);
	bool cut = tiff_looks_cut_off("a.TIFF", head, head_len, size);

	must(cut == tiff_looks_cut_off("/b/c.tif", head, head_len, size));
	must(!tiff_looks_cut_off("a.png", head, head_len, size));
	must(!tiff_looks_cut_off("tif", head, head_len, size));
	must(!tiff_looks_cut_off("a.tif", head, head_len, 0));
	if (!cut && size >= head_len) {
		must(size == 0 || !tiff_looks_cut_off("a.tif", head, head_len, UINT64_MAX));
		must(size == 0 || head_len >= 8);
		if (head_len >= 8 && size > 0) /* without its table */
			must(tiff_looks_cut_off("a.tif", head, 8, 8));
	}
	free(head);
	return 0;
}
