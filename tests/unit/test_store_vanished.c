/*
 * Data files that are removed, cut or replaced behind the daemon's back: what each caller is told,
 * and the state that the file gets. Never zeros, never an abort, and always a way to write it
 * again.
 */
#include "store_rig.h"

static void data_file(struct rig *r, uint64_t ino, char out[256])
{
	snprintf(out, 256, "%s/data/%02x/%016" PRIx64, r->dir, (unsigned)(ino & 0xff), ino);
}

static void remove_data(struct rig *r, uint64_t ino)
{
	char path[256];

	data_file(r, ino, path);
	must_eq(unlink(path), 0);
}

static void cut_data(struct rig *r, uint64_t ino, uint64_t size)
{
	char path[256];

	data_file(r, ino, path);
	must_eq(truncate(path, (off_t)size), 0);
}

static ssize_t try_read(struct rig *r, uint64_t ino, uint64_t off, uint64_t *ret_chunk)
{
	struct store_file *f = rig_file(r, ino);
	char byte[16];
	ssize_t n = store_file_read(f, byte, sizeof(byte), off, ret_chunk);

	store_file_close(f);
	return n;
}

static int try_version(struct rig *r, uint64_t ino)
{
	int fd, e = store_version_open(r->s, ino, rig_attr(r, ino).generation, &fd);

	if (e == 0)
		close(fd);
	return e;
}

/* As `cp` does: O_TRUNC, then all of it. */
static void write_again(struct rig *r, uint64_t ino, size_t len, unsigned seed)
{
	struct store_file *f = rig_write_begin(r, ino);
	uint64_t chunk;

	must_eq(store_file_truncate(f, 0, &chunk), 0);
	rig_write_pattern(f, 0, len, seed);
	rig_write_end(f);
	must_state(rig_state(r, ino), FILE_CLOSED);
	rig_must_hold(r, ino, len, seed);
	must_eq(try_version(r, ino), 0);
}

/* ---- noticed before it is sent --------------------------------------------------------------- */

static void removed_before_it_is_sent(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 9000, 1), chunk;

	rig_bring(r, ino, FILE_QUEUED);
	rig_reopen(r); /* nobody has it open */
	remove_data(r, ino);
	must_eq(try_version(r, ino), -ENODATA);
	must_state(rig_state(r, ino), FILE_LOST);
	must(rig_inode(r, ino)->reason[0] != '\0');
	must_eq(try_read(r, ino, 0, &chunk), -EIO);
	must_eq(try_read(r, ino, 8192, &chunk), -EIO);
	write_again(r, ino, 5000, 2);
}

static void removed_while_somebody_reads_it(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 9000, 1);
	struct store_file *f = rig_file(r, ino);

	rig_bring(r, ino, FILE_QUEUED);
	must(store_file_fd(f) >= 0); /* its bytes are still within reach, until it is closed */
	remove_data(r, ino);
	must_eq(try_version(r, ino), -ENODATA);
	must_state(rig_state(r, ino), FILE_LOST);
	store_file_close(f);
	write_again(r, ino, 9000, 2);
}

static void cut_before_it_is_sent(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 9000, 1), chunk;

	rig_bring(r, ino, FILE_QUEUED);
	rig_reopen(r);
	cut_data(r, ino, 8999);
	must_eq(try_version(r, ino), -ENODATA);
	must_state(rig_state(r, ino), FILE_LOST);
	must_eq(try_read(r, ino, 0, &chunk), -EIO); /* not even what is left: it may be anything */
	write_again(r, ino, 9000, 2);
}

/* A descriptor is open, so its length is looked at where the bytes are missing. */
static void cut_while_somebody_reads_it(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 9000, 1), chunk = 0;
	struct store_file *f = rig_file(r, ino);
	char byte[16];

	must(store_file_fd(f) >= 0);
	cut_data(r, ino, 4096);
	must_eq(store_file_read(f, byte, sizeof(byte), 5000, &chunk), -EIO);
	must_state(rig_state(r, ino), FILE_LOST);
	store_file_close(f);
}

static void replaced_by_something_else(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 9000, 1), chunk;
	char path[256];

	rig_bring(r, ino, FILE_QUEUED);
	rig_reopen(r);
	remove_data(r, ino);
	data_file(r, ino, path);
	must_eq(symlink("/etc/passwd", path), 0);
	must(try_version(r, ino) < 0);
	must(try_read(r, ino, 0, &chunk) < 0);
	must_eq(unlink(path), 0);
	must_eq(mkdir(path, 0700), 0);
	must(try_version(r, ino) < 0);
	must(try_read(r, ino, 0, &chunk) < 0);
	must_eq(rmdir(path), 0);
}

/* ---- where the bucket has it ----------------------------------------------------------------- */

static void removed_when_the_bucket_has_it(void **state)
{
	static const enum file_state states[] = {FILE_UPLOADED, FILE_VERIFIED, FILE_MOVING};
	struct rig *r = *state;
	uint64_t ino[3], chunk;

	for (unsigned i = 0; i < 3; i++) {
		char name[2] = {(char)('a' + i), '\0'};
		ino[i] = rig_put(r, STORE_ROOT_INO, name, 9000, i);
		rig_bring(r, ino[i], i == 2 ? FILE_VERIFIED : states[i]);
	}
	must_eq(store_rename(r->s, STORE_ROOT_INO, "c", STORE_ROOT_INO, "moved", 0, 0), 0);
	rig_reopen(r);
	for (unsigned i = 0; i < 3; i++) {
		must_state(rig_state(r, ino[i]), states[i]);
		remove_data(r, ino[i]);
		must_eq(try_read(r, ino[i], 5000, &chunk), -EREMOTE);
		must_eq(chunk, 1);
		must_state(rig_state(r, ino[i]), states[i]);
		must_eq(try_version(r, ino[i]), -EREMOTE);
	}
}

/* ---- under a writer -------------------------------------------------------------------------- */

static void removed_under_its_writer(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 5000, 1);
	remove_data(r, ino);
	rig_write_pattern(f, 5000, 4000, 1); /* the descriptor takes it, but nobody will find it */
	must_eq(store_file_flush(f, false, NULL), -EIO);
	must_state(rig_state(r, ino), FILE_LOST);
	store_file_writer_drop(f);
	store_file_close(f);
	rig_reopen(r);
	must_state(rig_state(r, ino), FILE_LOST);
	write_again(r, ino, 5000, 2);
}

static void cut_under_its_writer(void **state)
{
	struct rig *r = *state;
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE);
	struct store_file *f = rig_write_begin(r, ino);

	rig_write_pattern(f, 0, 5000, 1);
	cut_data(r, ino, 100);
	must_eq(store_file_flush(f, false, NULL), -EIO);
	must_state(rig_state(r, ino), FILE_LOST);
	store_file_writer_drop(f);
	store_file_close(f);
}

/* Unlinked by its user, still open, and then its bytes vanish: nothing to show, and no harm. */
static void removed_when_it_has_no_name(void **state)
{
	static const enum file_state states[] = {FILE_CLOSED, FILE_VERIFIED};
	struct rig *r = *state;

	for (unsigned i = 0; i < 2; i++) {
		uint64_t ino = rig_put(r, STORE_ROOT_INO, "f", 9000, 1), chunk;
		struct store_file *f;
		char byte[16];

		rig_bring(r, ino, states[i]);
		rig_reopen(r);
		f = rig_file(r, ino);
		must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 60000), 0);
		remove_data(r, ino);
		must_eq(store_file_read(f, byte, sizeof(byte), 0, &chunk), -EIO);
		must_eq(try_version(r, ino), -ENODATA);
		store_file_close(f);
		if (i == 0)
			must_eq(rig_attr_error(r, ino), -ENOENT);
		else /* the bucket still has to follow */
			must_state(rig_state(r, ino), FILE_DELETING);
	}
}

static void shell(struct rig *r, const char *command)
{
	char line[1024];

	snprintf(line, sizeof(line), "cd '%s' && %s", r->dir, command);
	must_eq(system(line), 0);
}

/* Index, journal and witness were put back as they were before; the data files are newer, and have the
 * numbers that would be given next. Two of them were removed before that. */
static void put_back_with_newer_data(struct rig *r)
{
	struct store_recovery got;

	rig_close(r);
	shell(r, "mkdir kept && cp -r index journal witness kept");
	rig_open(r);
	(void)rig_dir(r, STORE_ROOT_INO, "d");
	(void)rig_dir(r, STORE_ROOT_INO, "e");
	(void)rig_put(r, STORE_ROOT_INO, "newer", 9000, 1);
	rig_close(r);
	shell(r, "rm -r index journal witness && mv kept/* . && rmdir kept");
	rig_open(r);
	store_recovery_report(r->s, &got);
	must_eq(got.orphan_data_files, 1);
}

static void work_created(struct rig *r, void *arg)
{
	for (int i = 0; i < 8; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		(void)rig_create(r, STORE_ROOT_INO, name, STORE_FILE);
	}
}

/* Their numbers are spared: also what was made and never written, when the daemon was killed, shows nothing of
 * them. */
static void restored_index_with_newer_data(void **state)
{
	struct rig *r = *state;

	put_back_with_newer_data(r);
	rig_close(r);
	rig_child(r, work_created, NULL, CHILD_KILLED);
	rig_open(r);
	must_eq(rig_files_in(r, FILE_INCOMPLETE), 8);
	for (int i = 0; i < 8; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		must_eq(rig_attr(r, rig_find(r, name)).size_bytes, 0);
	}
	shell(r, "test $(cat data/*/* | wc -c) = 9000"); /* kept */
}

/* Whatever put it there. */
static void bytes_in_the_way_of_a_new_file(void **state)
{
	struct rig *r = *state;
	uint8_t got[300], want[300] = {0};
	uint64_t ino = rig_create(r, STORE_ROOT_INO, "f", STORE_FILE), chunk;
	struct store_file *f;
	char path[256], command[512];

	data_file(r, ino, path);
	snprintf(command, sizeof(command), "head -c 9000 /dev/zero | tr '\\0' Z >'%s'", path);
	shell(r, command);
	f = rig_write_begin(r, ino);
	rig_write_at(f, "x", 1, sizeof(want) - 1); /* all before it is a hole */
	want[sizeof(want) - 1] = 'x';
	must_eq(store_file_read(f, got, sizeof(got), 0, &chunk), sizeof(got));
	must(memcmp(got, want, sizeof(got)) == 0);
	rig_write_end(f);
	shell(r, "test $(stat -c %s orphans/*) = 9000"); /* kept */
}

static void work_synced(struct rig *r, void *arg)
{
	struct store_file *f = rig_write_begin(r, rig_create(r, STORE_ROOT_INO, "f", STORE_FILE));

	rig_write_pattern(f, 0, 9000, 1);
	must_eq(store_file_sync(f, false), 0);
	rig_write_pattern(f, 9000, 1000, 1);
}

/* A start that cannot ask the disk how long it is. */
static void unreadable_when_it_starts_again(void **state)
{
	struct rig *r = *state;
	uint64_t ino;

	rig_child(r, work_synced, NULL, CHILD_KILLED);
	shell(r, "mv data away && ln -s data data"); /* ELOOP */
	rig_open(r);
	ino = rig_find(r, "f");
	must_state(rig_state(r, ino), FILE_INCOMPLETE);
	must_eq(rig_attr(r, ino).size_bytes, 9000);
	shell(r, "rm data && mv away data");
	rig_must_hold(r, ino, 9000, 1);
}

static void removed_when_it_starts_again(void **state)
{
	struct rig *r = *state;
	uint64_t ino, chunk;

	rig_child(r, work_synced, NULL, CHILD_KILLED);
	shell(r, "rm data/*/*");
	rig_open(r);
	ino = rig_find(r, "f");
	must_eq(try_read(r, ino, 0, &chunk), -EIO);
	must_state(rig_state(r, ino), FILE_LOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(removed_before_it_is_sent),
		rig_test(removed_while_somebody_reads_it),
		rig_test(cut_before_it_is_sent),
		rig_test(cut_while_somebody_reads_it),
		rig_test(replaced_by_something_else),
		rig_test(removed_when_the_bucket_has_it),
		rig_test(removed_under_its_writer),
		rig_test(cut_under_its_writer),
		rig_test(removed_when_it_has_no_name),
		rig_test(restored_index_with_newer_data),
		rig_test(bytes_in_the_way_of_a_new_file),
		rig_test_closed(unreadable_when_it_starts_again),
		rig_test_closed(removed_when_it_starts_again),
	};

	return cmocka_run_group_tests_name("store vanished", tests, NULL, NULL);
}
