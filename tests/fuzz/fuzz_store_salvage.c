/*
 * A damaged index, read page by page for repair: it ends, stays inside the file, and what it
 * reports is there; an undamaged one comes out whole.
 *
 *   damage, again and again: page(1) offset(2) length(1) bytes; page 255 cuts the file off at the
 * offset
 */
#include "fuzz.h"
#include "store_private.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE_BYTES 4096
#define FILES 60

static uint8_t *whole, *damaged;
static size_t whole_len;
static uint64_t whole_entries;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	return remove(path);
}

static uint64_t count_all(int fd, struct salvage_report *report, int *ret_r);

/* Some pages of each kind: branches, values of pages of their own. */
static void fill(struct store *s)
{
	static char value[9000];
	struct store_create what = {.parent = STORE_ROOT_INO, .type = STORE_DIR, .mode = 0755};
	struct store_attr attr;

	for (int i = 0; i < FILES; i++) {
		char name[128];

		snprintf(name, sizeof(name), "folder-%0100d", i);
		what.name = name;
		must(store_create(s, &what, &attr) == 0);
	}
	memset(value, 'v', sizeof(value));
	must(store_xattr_set(s, attr.ino, "user.large", value, sizeof(value), 0) == 0);
	must(store_checkpoint(s) == 0);
}

static void begin(void)
{
	struct salvage_report report;
	char dir[64], path[128], *message = NULL;
	struct store_config config = {.dir = dir, .identity = "fuzz", .boot_id = "boot"};
	struct store *s;
	int fd, r;

	clock_fake_begin(INT64_C(1700000000) * NS_PER_S);
	snprintf(dir, sizeof(dir), "/tmp/cpgfs-fuzz-XXXXXX");
	must(mkdtemp(dir));
	must(store_open(&s, &config, 0, &message) == 0);
	fill(s);
	store_close(s);
	snprintf(path, sizeof(path), "%s/index/data.mdb", dir);
	must(io_open(path, O_RDONLY, 0, &fd) == 0);
	whole_len = (size_t)lseek(fd, 0, SEEK_END);
	whole = malloc(whole_len);
	damaged = malloc(whole_len);
	must(whole && damaged && io_pread(fd, whole, whole_len, 0) == (ssize_t)whole_len);
	whole_entries = count_all(fd, &report, &r);
	must(r == 0 && report.bad_pages == 0 && !report.is_short && whole_entries > FILES);
	close(fd);
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static bool is_table(const char *name)
{
	static const char *const names[] = {"meta", "inode", "dirent", "chunk", "queue", "count",
		"attempt", "attempt-key", "object-key", "xattr", "job", "setting", "grave",
		"unsynced", "evict"};

	for (size_t i = 0; i < array_len(names); i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

static int each(void *user, const char *table, struct bytes key, struct bytes value)
{
	uint64_t *count = user;

	must(strlen(table) < 64 && key.len <= 511 && value.len <= 64 * MIB);
	must(crc64nvme(crc64nvme(0, key.data, key.len), value.data, value.len) | 1);
	*count += is_table(table);
	return 0;
}

static uint64_t count_all(int fd, struct salvage_report *report, int *ret_r)
{
	uint64_t count = 0;

	*ret_r = salvage_index(fd, NULL, each, &count, report);
	return count;
}

static size_t damage(struct fuzz_in *in)
{
	size_t len = whole_len;

	memcpy(damaged, whole, whole_len);
	while (in->len > 0) {
		size_t page = fuzz_u8(in), offset = (size_t)fuzz_number(in, 2), n;
		uint8_t *bytes = fuzz_bytes(in, fuzz_u8(in), &n);
		size_t at = page % (whole_len / PAGE_BYTES) * PAGE_BYTES + offset % PAGE_BYTES;

		if (page == 255)
			len = offset * 16 < whole_len ? offset * 16 : whole_len;
		else
			memcpy(damaged + at, bytes, n < whole_len - at ? n : whole_len - at);
		free(bytes);
	}
	return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static int fd = -1;
	struct fuzz_in in = {data, len};
	struct salvage_report report;
	uint64_t entries;
	size_t file_len;
	bool same;
	int r;

	if (!whole) {
		begin();
		fd = memfd_create("index", MFD_CLOEXEC);
	}
	file_len = damage(&in);
	must(io_truncate(fd, 0) == 0 && io_pwrite(fd, damaged, file_len, 0) == 0);
	entries = count_all(fd, &report, &r);
	same = file_len == whole_len && memcmp(damaged, whole, whole_len) == 0;
	must(r == 0 || r == -EUCLEAN);
	must(!same || (r == 0 && entries == whole_entries && report.bad_pages == 0));
	must(file_len >= whole_len - PAGE_BYTES || r < 0 || report.is_short || same ||
		report.bad_pages);
	return 0;
}
