/*
 * A store that was killed: a fixed small index, and a journal of any records. It opens with exactly
 * the unbroken run of whole records, or refuses and changes nothing; recovering twice is recovering
 * once; what it then holds can be walked and worked with.
 *
 *   how(1), then records: kind(1) number(1) length(2) payload
 *
 * kind: whole with the next number; whole with a number of its own; damaged; bytes that are no
 * record. how: 1 the power was cut.
 */
#include "fuzz.h"
#include "store_private.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#define PART_BYTES 4096
#define JOURNAL_FRONT_BYTES (256 * KIB)
#define T0_NS (INT64_C(1700000000) * NS_PER_S)

static char dir[64];
static uint8_t *index_file;
static size_t index_len;
static uint64_t epoch, number; /* of the index */
static uint8_t journal[JOURNAL_FRONT_BYTES], journal_after[JOURNAL_FRONT_BYTES];
static uint8_t journal_before[JOURNAL_FRONT_BYTES]; /* whose records the index holds */
static size_t journal_len;

/* ---- the cache directory -----------------------------------------------------------------------
 */

static const char *place(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static int try_open(struct store **ret, const char *boot_id, char **ret_message)
{
	struct store_config config = {.dir = dir,
		.identity = "fuzz",
		.part_size_bytes = PART_BYTES,
		.boot_id = boot_id,
		.flush_ms = 1};

	return store_open(ret, &config, 0, ret_message);
}

static uint64_t make(struct store *s, uint64_t parent, const char *name, enum store_type type)
{
	struct store_create what = {.parent = parent, .name = name, .type = type, .mode = 0755};
	struct store_attr attr = {0};

	must(store_create(s, &what, &attr) == 0);
	return attr.ino;
}

static void make_file(struct store *s, uint64_t parent, const char *name)
{
	struct store_file *f;
	uint64_t chunk;

	must(store_file_open(s, make(s, parent, name, STORE_FILE), &f) == 0);
	store_file_writer_add(f);
	must(store_file_write(f, name, strlen(name), 0, false, &chunk) == 0);
	must(store_file_flush(f, false, NULL) == 0);
	store_file_writer_drop(f);
	store_file_close(f);
}

static uint8_t *read_file(const char *name, size_t *ret_len)
{
	int fd = open(place(name), O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *data;

	must(fd >= 0 && fstat(fd, &st) == 0);
	data = malloc((size_t)st.st_size + 1);
	must(data && io_pread(fd, data, (size_t)st.st_size, 0) == st.st_size);
	close(fd);
	*ret_len = (size_t)st.st_size;
	return data;
}

static void read_journal(uint8_t out[JOURNAL_FRONT_BYTES])
{
	int fd = open(place("journal"), O_RDONLY | O_CLOEXEC);

	must(fd >= 0 && io_pread(fd, out, JOURNAL_FRONT_BYTES, 0) == JOURNAL_FRONT_BYTES);
	close(fd);
}

static void write_file(const char *name, const void *data, size_t len, off_t size)
{
	int fd = open(place(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0 && ftruncate(fd, size) == 0 && io_pwrite(fd, data, len, 0) == 0);
	close(fd);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	return remove(path);
}

static void remove_dir(void)
{
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* root/{a, b, d/{e, f/g}}, all of it in the index. */
static void begin(void)
{
	struct store *s;
	char *message = NULL;
	uint64_t d;

	clock_fake_begin(T0_NS);
	snprintf(dir, sizeof(dir), "%s/cpgfs-fuzz-XXXXXX",
		access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	must(mkdtemp(dir));
	atexit(remove_dir);
	must(try_open(&s, "boot-1", &message) == 0);
	make_file(s, STORE_ROOT_INO, "a");
	make_file(s, STORE_ROOT_INO, "b");
	d = make(s, STORE_ROOT_INO, "d", STORE_DIR);
	make_file(s, d, "e");
	make_file(s, make(s, d, "f", STORE_DIR), "g");
	must(store_checkpoint(s) == 0);
	lock_take(&s->lock);
	must(meta_get_u64(&s->index, "epoch", &epoch) == 0);
	must(meta_get_u64(&s->index, "number", &number) == 0);
	lock_drop(&s->lock);
	index_file = read_file("index/data.mdb", &index_len);
	read_journal(journal_before);
	store_close(s);
}

/* ---- the journal -------------------------------------------------------------------------------
 */

static void add(const void *data, size_t len)
{
	if (len > sizeof(journal) - journal_len)
		len = sizeof(journal) - journal_len;
	memcpy(journal + journal_len, data, len);
	journal_len += len;
}

static void add_record(struct fuzz_in *in, uint64_t next)
{
	uint8_t header[JOURNAL_HEADER_BYTES];
	unsigned kind = fuzz_u8(in) % 4;
	uint64_t own = number + fuzz_u8(in);
	size_t len;
	uint8_t *payload = fuzz_bytes(in, fuzz_number(in, 2), &len);

	journal_frame(header, epoch, kind == 1 ? own : next, payload, len);
	if (kind == 2)
		header[24 + own % 8] ^= 1;
	if (kind != 3)
		add(header, sizeof(header));
	add(payload, len);
	free(payload);
}

static void make_journal(struct fuzz_in *in)
{
	journal_len = 0;
	memcpy(journal, journal_before, sizeof(journal));
	for (uint64_t next = number + 1; in->len > 0; next++)
		add_record(in, next);
}

/* How many whole records stand at the front, one number after the other; read without the journal's
 * code. */
static uint64_t run_length(void)
{
	uint64_t count = 0, len;

	for (size_t at = 0; sizeof(journal) - at >= JOURNAL_HEADER_BYTES; count++) {
		const uint8_t *h = journal + at;

		len = get_le32(h + 4);
		if (memcmp(h, "CPGJ", 4) != 0 || get_le64(h + 8) != epoch ||
			get_le64(h + 16) != number + 1 + count ||
			len > sizeof(journal) - at - JOURNAL_HEADER_BYTES ||
			crc64nvme(crc64nvme(0, h, 24), h + JOURNAL_HEADER_BYTES, len) !=
				get_le64(h + 24))
			break;
		at += JOURNAL_HEADER_BYTES + len;
	}
	return count;
}

/* ---- what it holds -----------------------------------------------------------------------------
 */

static uint64_t digest(struct store *s)
{
	struct ikey none = {.len = 0};
	uint64_t crc = 0;

	with_lock(&s->lock);
	for (int t = TABLE_META + 1; t < TABLE_COUNT_OF; t++) {
		struct index_cursor c;
		int r = index_seek(&s->index, (enum table)t, &none, false, &c);

		for (; r == 0; r = index_next(&c)) {
			crc = crc64nvme(crc, c.key.data, c.key.len);
			crc = crc64nvme(crc, c.value.data, c.value.len);
		}
		index_done(&c);
		must(r == -ENOENT);
	}
	return crc;
}

static void look_at(struct store *s, uint64_t ino)
{
	static struct store_inode inode;
	cleanup_buf struct buf path = {0};
	struct store_counts counts;
	struct store_chunk chunk;

	(void)!store_path(s, ino, &path);
	(void)!store_counts(s, ino, &counts);
	if (store_inode(s, ino, &inode) == 0 && inode.chunk_count > 0)
		(void)!store_chunk(s, ino, 0, &chunk);
}

static void walk(struct store *s)
{
	static struct store_attempt attempts[4];
	static struct store_job jobs[4];
	struct store_entry entries[8];
	struct store_walk cursor = {0};
	uint64_t inos[8];
	int count = store_readdir(s, STORE_ROOT_INO, "", entries, array_len(entries));

	for (int i = 0; i < count; i++)
		look_at(s, entries[i].attr.ino);
	for (int rounds = 0; rounds < 8; rounds++) {
		int n = store_walk_next(s, STORE_ROOT_INO, &cursor, inos, array_len(inos));

		for (int i = 0; i < n; i++)
			look_at(s, inos[i]);
		if (n <= 0)
			break;
	}
	for (int state = 0; state < FILE_STATE_COUNT; state++) {
		struct store_queue_item items[4];
		int n = store_queue(s, (enum file_state)state, NULL, items, array_len(items));

		for (int i = 0; i < n; i++)
			look_at(s, items[i].ino);
	}
	(void)!store_attempts(s, 0, attempts, array_len(attempts));
	(void)!store_jobs(s, jobs, array_len(jobs));
}

/* Whatever it holds, new work is done or refused. */
static void work(struct store *s)
{
	struct store_create what = {.parent = STORE_ROOT_INO, .name = "new", .type = STORE_FILE};
	struct store_attr attr;
	struct store_file *f;
	uint64_t chunk;

	if (store_create(s, &what, &attr) == 0 && store_file_open(s, attr.ino, &f) == 0) {
		store_file_writer_add(f);
		(void)!store_file_write(f, "x", 1, 5000, false, &chunk);
		(void)!store_file_flush(f, false, NULL);
		store_file_writer_drop(f);
		store_file_close(f);
	}
	(void)!store_rename(s, STORE_ROOT_INO, "d", STORE_ROOT_INO, "h", 0, 0);
	(void)!store_unlink(s, STORE_ROOT_INO, "a", 0);
	(void)!store_rename(s, STORE_ROOT_INO, "b", STORE_ROOT_INO, "c", 0, 0);
}

/* ---- one input ---------------------------------------------------------------------------------
 */

static bool is_unchanged(void)
{
	size_t len;
	uint8_t *now = read_file("index/data.mdb", &len);
	bool same = len == index_len && memcmp(now, index_file, len) == 0;

	free(now);
	read_journal(journal_after);
	return same && memcmp(journal_after, journal, sizeof(journal)) == 0;
}

/* Damage: said with a message, and not forgotten by asking again. What the replay itself refuses
 * changes nothing. */
static void refused(int r, const char *boot_id, char *message)
{
	struct store *s = NULL;
	char *again = NULL;

	must(r == -EUCLEAN && strstr(message, "repair"));
	if (!is_unchanged())
		must(try_open(&s, boot_id, &again) == -EUCLEAN);
	free(again);
	free(message);
}

/* As a kill right after recovery leaves it. */
static void keep_and_close(struct store *s)
{
	size_t len;
	uint8_t *file = read_file("index/data.mdb", &len);

	read_journal(journal_after);
	store_close(s);
	write_file("index/data.mdb", file, len, (off_t)len);
	write_file("journal", journal_after, sizeof(journal_after), JOURNAL_ROOM_BYTES);
	free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	const char *boot_id = fuzz_u8(&in) & 1 ? "boot-2" : "boot-1";
	struct store_recovery report;
	struct store *s = NULL;
	char *message = NULL;
	uint64_t held;
	int r;

	if (!index_file)
		begin();
	make_journal(&in);
	write_file("index/data.mdb", index_file, index_len, (off_t)index_len);
	write_file("journal", journal, sizeof(journal), JOURNAL_ROOM_BYTES);
	(void)unlink(place("witness"));
	r = try_open(&s, boot_id, &message);
	must((r < 0) == !!message);
	if (r < 0) {
		refused(r, boot_id, message);
		return 0;
	}
	store_recovery_report(s, &report);
	must(report.replayed_records == run_length());
	held = digest(s);
	keep_and_close(s);
	must(try_open(&s, boot_id, &message) == 0);
	must(digest(s) == held);
	walk(s);
	work(s);
	store_close(s);
	return 0;
}
