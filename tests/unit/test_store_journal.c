/*
 * The journal against a cut or changed end: taken apart by a reader of its own, damaged byte by byte,
 * and given to a new start together with the index as it was.
 *
 *   record = magic(4) length(4) epoch(8) number(8) crc(8) payload(length)     little-endian
 */
#include "store_rig.h"

#define MAGIC UINT32_C(0x4a475043)
#define HEADER_BYTES 32
#define FRONT_BYTES (256 * KIB) /* of the journal: more than a test writes */

struct saved {
	uint8_t journal[FRONT_BYTES];
	uint8_t *index;
	size_t index_bytes;
	size_t start[4096], count, end; /* records: where they begin, where the last one ends */
};

static struct saved saved;

static void place(struct rig *r, const char *name, char out[128])
{
	snprintf(out, 128, "%s/%s", r->dir, name);
}

/* ---- reading it without the store -------------------------------------------------------------------------- */

static bool record_at(const uint8_t *at, size_t room, uint64_t epoch, uint64_t number)
{
	uint64_t len;

	if (room < HEADER_BYTES || get_le32(at) != MAGIC || get_le64(at + 8) != epoch ||
		get_le64(at + 16) != number)
		return false;
	len = get_le32(at + 4);
	return len <= room - HEADER_BYTES &&
	       crc64nvme(crc64nvme(0, at, 24), at + HEADER_BYTES, len) == get_le64(at + 24);
}

static void find_records(void)
{
	const uint8_t *j = saved.journal;
	uint64_t epoch = get_le64(j + 8), number = get_le64(j + 16);
	size_t at = 0;

	saved.count = 0;
	while (record_at(j + at, FRONT_BYTES - at, epoch, number)) {
		must(saved.count < array_len(saved.start));
		saved.start[saved.count++] = at;
		at += HEADER_BYTES + get_le32(j + at + 4);
		number++;
	}
	saved.end = at;
}

static void save(struct rig *r)
{
	char path[128];
	struct stat st;
	int fd;

	place(r, "journal", path);
	fd = open(path, O_RDONLY);
	must(fd >= 0);
	must_eq(pread(fd, saved.journal, FRONT_BYTES, 0), FRONT_BYTES);
	close(fd);
	place(r, "index/data.mdb", path);
	fd = open(path, O_RDONLY);
	must(fd >= 0);
	must_eq(fstat(fd, &st), 0);
	saved.index_bytes = (size_t)st.st_size;
	free(saved.index);
	saved.index = malloc(saved.index_bytes);
	must_eq(pread(fd, saved.index, saved.index_bytes, 0), saved.index_bytes);
	close(fd);
	find_records();
}

static void put(const char *path, const void *data, size_t len, bool cut)
{
	int fd = open(path, O_WRONLY);

	must(fd >= 0);
	if (cut)
		must_eq(ftruncate(fd, (off_t)len), 0);
	must_eq(pwrite(fd, data, len, 0), len);
	close(fd);
}

/* The directory as the killed child left it, but with this journal. */
static void restore(struct rig *r, const uint8_t *journal)
{
	char path[128];

	place(r, "journal", path);
	put(path, journal, FRONT_BYTES, false);
	place(r, "index/data.mdb", path);
	put(path, saved.index, saved.index_bytes, true);
	place(r, "witness", path);
	must_eq(unlink(path), 0); /* it knows of what came since */
}

/* ---- the child's work: one folder per record -------------------------------------------------------------------- */

#define FOLDERS 12

static void work_folders(struct rig *r, void *arg)
{
	for (int i = 0; i < FOLDERS; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%s-%02d", (const char *)arg, i);
		(void)rig_dir(r, STORE_ROOT_INO, name);
	}
}

static int folders(struct rig *r, const char *prefix)
{
	struct store_entry *page = calloc(64, sizeof(*page));
	int n = store_readdir(r->s, STORE_ROOT_INO, "", page, 64), count = 0;

	must(n >= 0);
	for (int i = 0; i < n; i++)
		count += text_starts(page[i].name, prefix);
	free(page);
	return count;
}

static void prepare(struct rig *r)
{
	rig_child(r, work_folders, "old", CHILD_KILLED);
	save(r);
	must_eq(saved.count, FOLDERS);
}

/* Goes on as if nothing had been: new work, a kill, and all of it there. */
static void must_go_on(struct rig *r, int old)
{
	must_eq(folders(r, "old"), old);
	rig_close(r);
	rig_child(r, work_folders, "new", CHILD_KILLED);
	rig_open(r);
	must_eq(folders(r, "old"), old);
	must_eq(folders(r, "new"), FOLDERS);
}

static void whole_journal_is_replayed(void **state)
{
	struct rig *r = *state;
	struct store_recovery got;

	prepare(r);
	rig_open(r);
	store_recovery_report(r->s, &got);
	must_eq(got.replayed_records, FOLDERS);
	must_go_on(r, FOLDERS);
}

/* ---- its last record, cut or changed ---------------------------------------------------------------------------- */

static void last_record_torn_at_every_byte(void **state)
{
	static uint8_t journal[FRONT_BYTES];
	struct rig *r = *state;
	size_t start;

	prepare(r);
	start = saved.start[FOLDERS - 1];
	for (size_t cut = start; cut <= saved.end; cut += cut < start + HEADER_BYTES ? 1 : 13) {
		snprintf(rig_context, sizeof(rig_context), "cut %zu bytes into the last record",
			cut - start);
		memcpy(journal, saved.journal, FRONT_BYTES);
		memset(journal + cut, 0, saved.end - cut);
		if (memcmp(journal, saved.journal, FRONT_BYTES) == 0)
			continue; /* it ends with zeros anyway */
		restore(r, journal);
		rig_open(r);
		must_eq(folders(r, "old"), FOLDERS - 1);
		rig_close(r);
	}
	restore(r, saved.journal);
	rig_open(r);
	must_eq(folders(r, "old"), FOLDERS);
	rig_close(r);
	memset(journal + start + 40, 0, saved.end - start - 40);
	restore(r, journal);
	rig_open(r);
	must_go_on(r, FOLDERS - 1);
	rig_context[0] = '\0';
}

static void last_record_changed_at_every_byte(void **state)
{
	static uint8_t journal[FRONT_BYTES];
	struct rig *r = *state;
	size_t start;

	prepare(r);
	start = saved.start[FOLDERS - 1];
	for (size_t at = start; at < saved.end; at += at < start + HEADER_BYTES ? 1 : 17) {
		snprintf(rig_context, sizeof(rig_context), "byte %zu of the last record changed",
			at - start);
		memcpy(journal, saved.journal, FRONT_BYTES);
		journal[at] ^= (uint8_t)(1u << (at % 8));
		restore(r, journal);
		rig_open(r);
		must_eq(folders(r, "old"), FOLDERS - 1);
		rig_close(r);
	}
	rig_context[0] = '\0';
}

/* ---- a broken record with whole ones behind it --------------------------------------------------------------------- */

static void break_the_middle(struct rig *r)
{
	static uint8_t journal[FRONT_BYTES];

	memcpy(journal, saved.journal, FRONT_BYTES);
	journal[saved.start[5] + HEADER_BYTES + 3] ^= 0x10;
	restore(r, journal);
}

/* Nothing of a journal is lost when a process is killed: this is damage, and nothing is thrown away. */
static void broken_in_the_middle_is_damage(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;

	prepare(r);
	break_the_middle(r);
	for (int tries = 0; tries < 2; tries++) { /* looking at it changes nothing */
		free(message);
		message = NULL;
		must_eq(rig_try_open(r, &message), -EUCLEAN);
		must(strstr(message, "--cache-dir") != NULL);
	}
	restore(r, saved.journal);
	rig_open(r);
	must_eq(folders(r, "old"), FOLDERS);
}

/* A power cut writes pages in any order: what comes before the gap is taken. */
static void broken_in_the_middle_by_a_power_cut(void **state)
{
	struct rig *r = *state;

	prepare(r);
	break_the_middle(r);
	r->config.boot_id = "boot-2";
	rig_open(r);
	must_go_on(r, 5);
}

/* ---- what lies behind the run never joins a later one ---------------------------------------------------------------- */

static uint64_t replayed(struct rig *r)
{
	struct store_recovery got;

	store_recovery_report(r->s, &got);
	return got.replayed_records;
}

/* Names as long as the old ones: these records end where old ones do, which stand whole behind. */
static void work_three(struct rig *r, void *arg)
{
	for (int i = 0; i < 3; i++) {
		char name[16];

		snprintf(name, sizeof(name), "new-%02d", i);
		(void)rig_dir(r, STORE_ROOT_INO, name);
	}
}

static void stale_tail_never_joins(void **state)
{
	struct rig *r = *state;

	prepare(r);
	rig_child(r, work_three, NULL, CHILD_KILLED);
	save(r);
	must_eq(saved.count, 3);
	must_eq(get_le32(saved.journal + saved.end), MAGIC);
	rig_open(r);
	must_eq(replayed(r), 3);
	must_eq(folders(r, "new"), 3);
	must_eq(folders(r, "old"), FOLDERS);
}

/* The same after a power cut took the new run's end: old numbers, old epoch. */
static void stale_tail_behind_a_cut_run(void **state)
{
	static uint8_t journal[FRONT_BYTES];
	struct rig *r = *state;

	prepare(r);
	rig_child(r, work_three, NULL, CHILD_KILLED);
	save(r);
	memcpy(journal, saved.journal, FRONT_BYTES);
	memset(journal + saved.start[2], 0, HEADER_BYTES);
	restore(r, journal);
	r->config.boot_id = "boot-2";
	rig_open(r);
	must_eq(replayed(r), 2);
	must_eq(folders(r, "new"), 2);
	must_eq(folders(r, "old"), FOLDERS);
}

/* After a power cut numbers are given again: only the epoch tells an old record from a new one. */
static void work_one(struct rig *r, void *arg)
{
	(void)rig_dir(r, STORE_ROOT_INO, "new-00");
}

static void record_with_the_next_number_but_an_old_epoch(void **state)
{
	static uint8_t journal[FRONT_BYTES], old[FRONT_BYTES];
	struct rig *r = *state;
	size_t from, len;

	prepare(r);
	memcpy(old, saved.journal, FRONT_BYTES);
	break_the_middle(r);
	r->config.boot_id = "boot-2";
	rig_child(r, work_one, NULL, CHILD_KILLED);
	for (size_t i = 0; i < FOLDERS; i++) { /* every old number may be the next one */
		len = HEADER_BYTES + get_le32(old + saved.start[i] + 4);
		from = saved.start[i];
		memmove(journal + i * 4096, old + from, len);
	}
	save(r);
	must_eq(saved.count, 1);
	for (size_t i = 0; i < FOLDERS; i++) {
		static uint8_t front[FRONT_BYTES];

		if (get_le64(journal + i * 4096 + 16) != get_le64(saved.journal + 16) + 1)
			continue;
		memcpy(front, saved.journal, FRONT_BYTES);
		memcpy(front + saved.end, journal + i * 4096, 4096);
		restore(r, front);
		rig_open(r);
		must_eq(replayed(r), 1);
		must_eq(folders(r, "old"), 5);
		return;
	}
	must_failed(__FILE__, __LINE__, "no old record has the next number");
}

/* A disk that takes only the beginning of a record, and then nothing for a while, not even that it is void:
 * the next commits make an older epoch of it. What else stands there in place of a record is damage. */
static void cut_at_the_front_before_other_commits(void **state)
{
	static uint8_t journal[FRONT_BYTES];
	struct rig *r = *state;
	cleanup_free char *message = NULL;
	uint64_t epoch, number;

	prepare(r);
	epoch = get_le64(saved.journal + 8);
	number = get_le64(saved.journal + 16);
	must(epoch > 1);
	memset(journal, 0, sizeof(journal));
	memcpy(journal, saved.journal, HEADER_BYTES);
	put_le64(journal + 8, epoch - 1);
	put_le64(journal + 16, number + 1);
	restore(r, journal);
	must_eq(rig_try_open(r, &message), -EUCLEAN);
	put_le64(journal + 16, number);
	restore(r, journal);
	rig_open(r);
	must_go_on(r, 0);
}

/* Replaying what the index holds already changes nothing: it knows the last number it holds. */
static void work_nothing(struct rig *r, void *arg)
{
}

static void replay_is_idempotent(void **state)
{
	struct rig *r = *state;

	prepare(r);
	rig_child(r, work_nothing, NULL, CHILD_KILLED); /* replayed, committed, killed */
	must_eq(saved.count, FOLDERS);
	{
		char path[128];

		place(r, "journal", path);
		put(path, saved.journal, FRONT_BYTES, false); /* the old run is back at the front */
	}
	rig_open(r);
	must_go_on(r, FOLDERS);
}

static void journal_is_preallocated(void **state)
{
	struct rig *r = *state;
	char path[128];
	struct stat st;

	rig_open(r);
	place(r, "journal", path);
	must_eq(stat(path, &st), 0);
	must((uint64_t)st.st_size >= 32 * MIB);
	must((uint64_t)st.st_blocks * 512 >= 32 * MIB);
}

static int free_saved(void **state)
{
	free(saved.index);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test_closed(whole_journal_is_replayed),
		rig_test_closed(last_record_torn_at_every_byte),
		rig_test_closed(last_record_changed_at_every_byte),
		rig_test_closed(broken_in_the_middle_is_damage),
		rig_test_closed(broken_in_the_middle_by_a_power_cut),
		rig_test_closed(stale_tail_never_joins),
		rig_test_closed(stale_tail_behind_a_cut_run),
		rig_test_closed(record_with_the_next_number_but_an_old_epoch),
		rig_test_closed(cut_at_the_front_before_other_commits),
		rig_test_closed(replay_is_idempotent),
		rig_test_closed(journal_is_preallocated),
	};

	return cmocka_run_group_tests_name("store journal", tests, NULL, free_saved);
}
