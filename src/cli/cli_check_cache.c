/*
 * cli_check_cache - the disk where the data waits: how fast it takes it, how much of it, and
 * whether it is one to trust. Measured with a file without a name, so that nothing is left however
 * it ends.
 */
#include "cli_check.h"
#include "cli_private.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#define MEASURE_BYTES (64 * MIB)
#define MEASURE_MAX_MS 5000
#define BLOCK_BYTES MIB
#define PLATE_BYTES UINT64_C(60000000000)
#define PLATE_FILES 30000
#define SLOW_BYTES_PER_S 30000000

/* ---- judgements ----------------------------------------------------------------------------- */

void check_judge_speed(struct check_report *r, uint64_t bytes, int64_t elapsed_ms)
{
	uint64_t rate = bytes * MS_PER_S / (uint64_t)(elapsed_ms > 0 ? elapsed_ms : 1);
	char text[24];
	size_format(rate, text);
	bool slow = rate < SLOW_BYTES_PER_S;
	check_say(r, slow ? CHECK_WARN : CHECK_OK, "cache-speed",
		"the cache's disk takes %s/s, synced", text);
	if (slow)
		check_remedy(r,
			"copying into the mount is as slow as this: put the cache on a faster disk "
			"(--cache-dir)");
	check_number(r, "bytes_per_s", (double)rate);
}

void check_judge_space(struct check_report *r, uint64_t free_bytes, uint64_t min_free_bytes,
	uint64_t cache_size_bytes)
{
	uint64_t usable = free_bytes > min_free_bytes ? free_bytes - min_free_bytes : 0;
	if (cache_size_bytes && usable > cache_size_bytes)
		usable = cache_size_bytes;
	double plates = (double)usable / (double)PLATE_BYTES;
	char text[24], disk[24], kept[24];
	size_format(usable, text);
	size_format(free_bytes, disk);
	size_format(min_free_bytes, kept);
	enum check_level level = usable == 0 ? CHECK_FAIL : plates < 1 ? CHECK_WARN : CHECK_OK;
	if (plates < 10)
		check_say(r, level, "cache-space", "room for %s that wait: %.1f plates of 60 GB",
			text, plates);
	else
		check_say(r, level, "cache-space", "room for %s that wait: %.0f plates of 60 GB",
			text, plates);
	if (level == CHECK_FAIL)
		check_remedy(r,
			"the disk has %s free and --min-free keeps %s of it: free some, or put the "
			"cache "
			"elsewhere (--cache-dir)",
			disk, kept);
	else if (level == CHECK_WARN)
		check_remedy(r,
			"a copy of a plate will wait for uploads when the cache is full: free some "
			"(%s "
			"are), or put the cache on a larger disk (--cache-dir)",
			disk);
	check_number(r, "usable_bytes", (double)usable);
	check_number(r, "plates", plates);
}

enum kind_class { LOCAL, REMOTE, IN_MEMORY, LAYER, NO_HOLES };

static const struct {
	unsigned long magic;
	const char *name;
	enum kind_class class;
} kinds[] = {
	{0xef53, "ext4", LOCAL},
	{0x58465342, "xfs", LOCAL},
	{0x9123683e, "btrfs", LOCAL},
	{0x2fc12fc1, "zfs", LOCAL},
	{0xca451a4e, "bcachefs", LOCAL},
	{0xf2f52010, "f2fs", LOCAL},
	{0x6969, "NFS", REMOTE},
	{0xff534d42, "CIFS", REMOTE},
	{0xfe534d42, "SMB", REMOTE},
	{0x517b, "SMB", REMOTE},
	{0x65735546, "FUSE", REMOTE},
	{0x01021997, "9P", REMOTE},
	{0x00c36400, "Ceph", REMOTE},
	{0x47504653, "GPFS", REMOTE},
	{0x0bd00bd0, "Lustre", REMOTE},
	{0x19830326, "BeeGFS", REMOTE},
	{0x01021994, "tmpfs", IN_MEMORY},
	{0x858458f6, "ramfs", IN_MEMORY},
	{0x794c7630, "overlay", LAYER},
	{0x4d44, "FAT", NO_HOLES},
	{0x2011bab0, "exFAT", NO_HOLES},
};

static void say_kind(struct check_report *r, enum kind_class class, const char *name)
{
	switch (class) {
	case LOCAL:
		check_say(r, CHECK_OK, "cache-kind", "%s", name);
		return;
	case REMOTE:
		check_say(r, CHECK_WARN, "cache-kind", "%s, a network or FUSE file system", name);
		check_remedy(
			r, "locks and syncs may not hold there: use a local disk (--cache-dir)");
		return;
	case IN_MEMORY:
		check_say(r, CHECK_WARN, "cache-kind",
			"%s: what waits there is gone after a reboot", name);
		check_remedy(r, "use a disk (--cache-dir)");
		return;
	case LAYER:
		check_say(r, CHECK_WARN, "cache-kind",
			"%s: what waits there goes with the container", name);
		check_remedy(r, "use a volume that stays (--cache-dir)");
		return;
	case NO_HOLES:
		check_say(r, CHECK_FAIL, "cache-kind",
			"%s: no sparse files, and none larger than 4 GB", name);
		check_remedy(r, "use a disk with ext4, xfs or btrfs (--cache-dir)");
		return;
	}
}

void check_judge_kind(struct check_report *r, unsigned long magic, bool punches_holes, bool locks)
{
	const char *name = "a file system of another kind";
	enum kind_class class = LOCAL;
	for (size_t i = 0; i < array_len(kinds); i++)
		if (kinds[i].magic == magic) {
			name = kinds[i].name;
			class = kinds[i].class;
		}
	if (!locks) {
		check_say(r, CHECK_FAIL, "cache-kind", "%s: files cannot be locked there", name);
		check_remedy(r, "use a local disk (--cache-dir)");
	} else if (class == LOCAL && !punches_holes) {
		check_say(
			r, CHECK_WARN, "cache-kind", "%s: no holes can be punched in files", name);
		check_remedy(r, "the room of large files comes free only when all of them has "
				"arrived; ext4, xfs "
				"and btrfs are better (--cache-dir)");
	} else {
		say_kind(r, class, name);
	}
}

const char *cli_cache_warning(unsigned long magic)
{
	for (size_t i = 0; i < array_len(kinds); i++) {
		if (kinds[i].magic != (magic & 0xffffffff))
			continue;
		if (kinds[i].class == REMOTE)
			return "on a network or FUSE file system: locks and syncs may not hold "
			       "there; use a local disk";
		if (kinds[i].class == IN_MEMORY)
			return "in memory (tmpfs): what waits there is gone after a reboot; use a "
			       "disk";
	}
	return NULL;
}

void check_judge_inodes(struct check_report *r, uint64_t total, uint64_t available)
{
	if (total == 0) {
		check_say(r, CHECK_OK, "cache-inodes", "the number of files is not limited");
		return;
	}
	enum check_level level = available < 1000	   ? CHECK_FAIL
				 : available < PLATE_FILES ? CHECK_WARN
							   : CHECK_OK;
	check_say(r, level, "cache-inodes", "%llu more files can be made: %.1f plates of %d",
		(unsigned long long)available, (double)available / PLATE_FILES, PLATE_FILES);
	if (level != CHECK_OK)
		check_remedy(r, "every file that waits takes one inode: delete small files there, "
				"or put the "
				"cache elsewhere (--cache-dir)");
	check_number(r, "inodes", (double)available);
}

/* ---- measuring ------------------------------------------------------------------------------ */

/* The cache directory, or what of its path is there already. */
static void existing_part(const char *cache_dir, char out[4096])
{
	struct stat st;
	(void)text_copy(out, cache_dir, 4096); /* a path that was cut fails below */
	while (stat(out, &st) < 0 && errno == ENOENT) {
		char *slash = strrchr(out, '/');
		if (!slash || slash == out) {
			(void)text_copy(out, "/", 4096);
			return;
		}
		*slash = '\0';
	}
}

static int nameless_file(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd < 0 ? -errno : fd;
	char path[4200]; /* file systems that must have a name */
	snprintf(path, sizeof(path), "%s/.cpgfs-check.XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return unlink(path) < 0 ? (close(fd), -errno) : fd;
}

void check_fill(uint8_t *bytes, size_t len)
{
	uint64_t x = random_u64() | 1;
	for (size_t i = 0; i + 8 <= len; i += 8) { /* xorshift64 */
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		put_be64(bytes + i, x);
	}
}

static int64_t fill(int fd, uint8_t *block, uint64_t *ret_bytes)
{
	int64_t began_ms = clock_mono_ms();
	uint64_t bytes = 0;
	check_fill(block, BLOCK_BYTES);
	int r = 0;
	while (bytes < MEASURE_BYTES && r == 0 && clock_mono_ms() - began_ms < MEASURE_MAX_MS &&
		!check_is_interrupted()) {
		put_be64(block, bytes);
		r = io_pwrite(fd, block, BLOCK_BYTES, bytes);
		bytes += BLOCK_BYTES;
	}
	if (r == 0)
		r = io_fsync(fd);
	*ret_bytes = bytes;
	return r < 0 ? r : clock_mono_ms() - began_ms;
}

static bool measure(struct check_report *r, int fd, const char *dir)
{
	cleanup_free uint8_t *block = malloc(BLOCK_BYTES);
	uint64_t bytes = 0;
	int64_t elapsed_ms = block ? fill(fd, block, &bytes) : -ENOMEM;
	if (elapsed_ms >= 0) {
		check_judge_speed(r, bytes, elapsed_ms);
		return true;
	}
	check_say(r, CHECK_FAIL, "cache-speed", "%s takes no data: %s", dir,
		strerror((int)-elapsed_ms));
	check_remedy(r,
		"free some room, look at the disk's health (dmesg), or put the cache elsewhere "
		"(--cache-dir)");
	return false;
}

static void check_place(struct check_report *r, int fd, const struct cli_mount *m)
{
	struct statvfs room;
	struct statfs kind;
	bool punches = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			       (off_t)BLOCK_BYTES) == 0;
	bool locks = flock(fd, LOCK_EX | LOCK_NB) == 0;
	if (ftruncate(fd, 0) < 0 || fstatvfs(fd, &room) < 0 || fstatfs(fd, &kind) < 0) {
		check_say(r, CHECK_FAIL, "cache-space", "%s: %s", m->cache_dir, strerror(errno));
		check_remedy(r, "look at the disk's health (dmesg)");
		return;
	}
	check_judge_space(
		r, (uint64_t)room.f_bavail * room.f_frsize, m->min_free_bytes, m->cache_size_bytes);
	check_judge_kind(r, (unsigned long)kind.f_type & 0xffffffff, punches, locks);
	check_judge_inodes(r, room.f_files, room.f_favail);
}

void check_cache(struct check_report *r, const struct cli_mount *m, bool quick)
{
	char dir[4096];
	existing_part(m->cache_dir, dir);
	cleanup_fd int fd = nameless_file(dir);
	if (fd < 0) {
		check_say(r, CHECK_FAIL, "cache-space", "nothing can be written in %s: %s", dir,
			strerror(-fd));
		check_remedy(r, "give a --cache-dir of your own");
		return;
	}
	if (quick || measure(r, fd, dir))
		check_place(r, fd, m);
}
