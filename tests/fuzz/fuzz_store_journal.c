/*
 * A journal file of any bytes: only records with the right checksum, epoch and number come back,
 * all of them, in order; a search finds every whole record, and nothing else.
 *
 * The input is the file; so that records can be whole, "\1CPGJ" stands for one that the target
 * writes:
 *
 *   "\1CPGJ" epoch(1) number(1) length(1) damage(1) payload
 */
#include "fuzz.h"
#include "store_private.h"

#include <sys/mman.h>

#define FILE_MAX_BYTES (64 * KIB)
#define MARK "\1CPGJ"
#define EPOCH 3
#define FIRST_NUMBER 5

static uint8_t file[FILE_MAX_BYTES];
static size_t file_len;

static void add(const void *data, size_t len)
{
	if (len > sizeof(file) - file_len)
		len = sizeof(file) - file_len;
	memcpy(file + file_len, data, len);
	file_len += len;
}

static void add_record(struct fuzz_in *in)
{
	uint8_t header[JOURNAL_HEADER_BYTES];
	unsigned epoch = fuzz_u8(in), number = fuzz_u8(in), want = fuzz_u8(in),
		 damage = fuzz_u8(in);
	size_t len;
	uint8_t *payload = fuzz_bytes(in, want, &len);

	journal_frame(header, epoch, number, payload, len);
	if (damage & 0x80)
		header[damage % sizeof(header)] ^= 1;
	add(header, sizeof(header));
	add(payload, len);
	free(payload);
}

static void make_file(struct fuzz_in in)
{
	file_len = 0;
	while (in.len > 0) {
		if (in.len >= strlen(MARK) && memcmp(in.at, MARK, strlen(MARK)) == 0) {
			in.at += strlen(MARK);
			in.len -= strlen(MARK);
			add_record(&in);
		} else {
			uint8_t byte = fuzz_u8(&in);

			add(&byte, 1);
		}
	}
}

/* A whole record at this place, read without the journal's code? Its length, or 0. */
static size_t record_at(size_t at)
{
	const uint8_t *h = file + at;
	uint64_t len;

	if (file_len - at < JOURNAL_HEADER_BYTES || memcmp(h, "CPGJ", 4) != 0)
		return 0;
	len = get_le32(h + 4);
	if (len > file_len - at - JOURNAL_HEADER_BYTES)
		return 0;
	if (crc64nvme(crc64nvme(0, h, 24), h + JOURNAL_HEADER_BYTES, len) != get_le64(h + 24))
		return 0;
	return JOURNAL_HEADER_BYTES + len;
}

struct walk {
	size_t at; /* where the next record must begin, or behind it */
	uint64_t number, count;
};

static int each_replayed(void *user, uint64_t number, const void *payload, size_t len)
{
	struct walk *w = user;

	must(record_at(w->at) == JOURNAL_HEADER_BYTES + len);
	must(get_le64(file + w->at + 8) == EPOCH && get_le64(file + w->at + 16) == number);
	must(number == w->number++);
	must(!len || memcmp(payload, file + w->at + JOURNAL_HEADER_BYTES, len) == 0);
	w->at += JOURNAL_HEADER_BYTES + len;
	w->count++;
	return 0;
}

static int each_found(void *user, uint64_t epoch, uint64_t number, const void *payload, size_t len)
{
	struct walk *w = user;

	while (w->at < file_len && record_at(w->at) == 0)
		w->at++;
	must(w->at < file_len && record_at(w->at) == JOURNAL_HEADER_BYTES + len);
	must(get_le64(file + w->at + 8) == epoch && get_le64(file + w->at + 16) == number);
	w->at += JOURNAL_HEADER_BYTES + len;
	w->count++;
	return 0;
}

static uint64_t number_at(size_t at)
{
	return get_le64(file + at + 16);
}

static void try_replay(struct journal *j)
{
	struct walk w = {.number = FIRST_NUMBER};
	uint64_t count = 0;
	bool later = false, expected = false;

	must(journal_replay(j, EPOCH, FIRST_NUMBER, each_replayed, &w, &count) == 0);
	must(count == w.count && j->next_number == FIRST_NUMBER + count && j->offset == w.at);
	if (w.at < file_len && record_at(w.at) && get_le64(file + w.at + 8) == EPOCH)
		must(number_at(w.at) != j->next_number);
	for (size_t at = w.at; at < file_len; at++)
		expected |= record_at(at) && get_le64(file + at + 8) == EPOCH &&
			    number_at(at) >= j->next_number;
	must(journal_has_later(j, &later) == 0 && later == expected);
}

static void try_search(int fd)
{
	struct walk w = {0};

	must(journal_scan(fd, 0, each_found, &w) == 0);
	for (; w.at < file_len; w.at++)
		must(record_at(w.at) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static int fd = -1;
	enum journal_front front;
	uint64_t epoch;

	if (fd < 0)
		fd = memfd_create("journal", MFD_CLOEXEC);
	make_file((struct fuzz_in){data, len});
	must(io_truncate(fd, 0) == 0 && io_pwrite(fd, file, file_len, 0) == 0);
	struct journal j = {.fd = fd, .epoch = EPOCH, .next_number = FIRST_NUMBER};
	try_replay(&j);
	must(journal_front(&j, &front, &epoch) == 0);
	must((front == JOURNAL_FRONT_RECORD) == (record_at(0) > 0));
	must(front != JOURNAL_FRONT_RECORD || epoch == get_le64(file + 8));
	try_search(fd);
	return 0;
}
