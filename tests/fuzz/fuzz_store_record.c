/*
 * Records of the index: bytes are refused or read, and what was read is written as many bytes,
 * which read the same. Numbers of chunks stay in their bounds.
 *
 *   kind(1) record
 */
#include "fuzz.h"
#include "store_private.h"

#define INO 77

static int encode_again(unsigned kind, struct bytes in, struct buf *out)
{
	static struct record r;
	static struct chunk_record c;
	static struct store_attempt a;
	int e;

	memset(&r, 0xa5, sizeof(r)); /* what is not set shows */
	memset(&c, 0xa5, sizeof(c));
	memset(&a, 0xa5, sizeof(a));
	switch (kind) {
	case 0:
		e = record_decode(in, INO, &r);
		must(e == 0 || e == -EUCLEAN);
		return e < 0 ? e : record_encode(&r, out);
	case 1:
		e = chunk_decode(in, &c);
		must(e == 0 || e == -EUCLEAN);
		return e < 0 ? e : chunk_encode(&c, out);
	default:
		e = attempt_decode(in, INO, &a);
		must(e == 0 || e == -EUCLEAN);
		return e < 0 ? e : attempt_encode(&a, out);
	}
}

static void check_inode(struct bytes in)
{
	static struct record r;
	const struct store_inode *i = &r.i;

	if (record_decode(in, INO, &r) < 0)
		return;
	must(i->attr.ino == INO && memchr(i->name, '\0', sizeof(i->name)));
	must(memchr(i->reason, '\0', sizeof(i->reason)));
	must(file_state_text(i->attr.state)[0] && file_state_exit(i->attr.state) <= 3);
	if (i->attr.type != STORE_FILE) {
		must(i->chunk_count == 0);
		return;
	}
	must((i->chunk_count == 0) == (i->attr.size_bytes == 0));
	if (i->chunk_count > 0 && i->chunk_count <= STORE_CHUNKS_MAX) {
		uint64_t part = i->part_size_bytes, last = i->chunk_count - 1;

		must(chunk_start(part, last) < i->attr.size_bytes);
		must(i->attr.size_bytes - chunk_start(part, last) <= chunk_size(part, last));
		must(chunk_of(part, i->attr.size_bytes - 1) == last);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	unsigned kind = fuzz_u8(&in) % 3;
	cleanup_buf struct buf first = {0}, again = {0};
	size_t record_len;
	uint8_t *record = fuzz_bytes(&in, len, &record_len);
	struct bytes bytes = {record, record_len};

	if (kind == 0)
		check_inode(bytes);
	if (encode_again(kind, bytes, &first) == 0) {
		must(first.len == record_len);
		must(encode_again(kind, (struct bytes){first.data, first.len}, &again) == 0);
		must(again.len == first.len && memcmp(again.data, first.data, first.len) == 0);
	}
	free(record);
	return 0;
}
