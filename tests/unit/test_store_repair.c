/*
 * `cpgfs repair`: every way in which the index, the journal and the witness can be damaged or gone;
 * what comes back, in which state, and that nothing is ever deleted.
 *
 * A child works and is killed or closes; the directory is copied aside, damaged, repaired and
 * opened.
 */
#include <dlfcn.h>

#include "store_rig.h"

#include "store_private.h"

#define PAGE_BYTES 4096u
#define FILE_BYTES (RIG_PART_BYTES * 2 + 100) /* three chunks */

/* ---- damaging -------------------------------------------------------------------------------- */

static char backup[80];

static void place(struct rig *r, const char *name, char out[256])
{
	snprintf(out, 256, "%s/%s", r->dir, name);
}

static void shell(const char *fmt, ...) printf_like(1, 2);
static void shell(const char *fmt, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	must_eq(system(command), 0);
}

static void save(struct rig *r)
{
	snprintf(backup, sizeof(backup), "%s.saved", r->dir);
	rig_remove_tree(backup);
	shell("cp -a %s %s", r->dir, backup);
}

static void restore(struct rig *r)
{
	rig_remove_tree(r->dir);
	shell("cp -a %s %s", backup, r->dir);
}

static uint64_t size_of(struct rig *r, const char *name)
{
	char path[256];
	struct stat st;

	place(r, name, path);
	must_eq(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

/* Faster: what a repair kept comes back, and the index as it was. */
struct kept {
	uint8_t *index;
	size_t bytes;
};

static void keep_index(struct rig *r, struct kept *k)
{
	char path[256];
	int fd;

	k->bytes = size_of(r, "index/data.mdb");
	k->index = malloc(k->bytes);
	place(r, "index/data.mdb", path);
	fd = open(path, O_RDONLY);
	must(fd >= 0);
	must_eq(pread(fd, k->index, k->bytes, 0), k->bytes);
	close(fd);
}

static void undo_repair(struct rig *r, const struct kept *k)
{
	char path[256];
	int fd;

	shell("cd %s && for kept in *.damaged-*; do name=${kept%%%%.*}; rm -rf $name; mv $kept "
	      "$name; "
	      "done",
		r->dir);
	place(r, "index/data.mdb", path);
	fd = open(path, O_WRONLY | O_TRUNC);
	must(fd >= 0);
	must_eq(pwrite(fd, k->index, k->bytes, 0), k->bytes);
	close(fd);
}

static void drop_saved(void)
{
	if (backup[0])
		rig_remove_tree(backup);
	backup[0] = '\0';
}

static void overwrite(struct rig *r, const char *name, uint64_t at, size_t len, int byte)
{
	char path[256];
	cleanup_free uint8_t *data = malloc(len + 1);
	int fd;

	memset(data, byte, len);
	place(r, name, path);
	fd = open(path, O_WRONLY);
	must(fd >= 0);
	must_eq(pwrite(fd, data, len, (off_t)at), len);
	close(fd);
}

static void lose(struct rig *r, const char *name)
{
	char path[256];

	place(r, name, path);
	must_eq(unlink(path), 0);
}

static void cut(struct rig *r, const char *name, uint64_t size)
{
	char path[256];

	place(r, name, path);
	must_eq(truncate(path, (off_t)size), 0);
}

static bool is_there(struct rig *r, const char *name)
{
	char path[256];

	place(r, name, path);
	return access(path, F_OK) == 0;
}

/* ---- repairing ------------------------------------------------------------------------------- */

static struct store_repair_report report;
static char noted[8192];

static void note(void *user, const char *path, const char *what)
{
	size_t len = strlen(noted);

	snprintf(noted + len, sizeof(noted) - len, "%s: %s\n", path, what);
}

static int try_repair(struct rig *r, bool dry_run, const char *identity, char **ret_message)
{
	struct store_repair_config config = {.dir = r->dir,
		.identity = identity,
		.dry_run = dry_run,
		.boot_id = r->config.boot_id,
		.disk_seq = r->config.disk_seq,
		.note = note};

	noted[0] = '\0';
	return store_repair(&config, &report, ret_message);
}

static void repair(struct rig *r)
{
	cleanup_free char *message = NULL;
	int e = try_repair(r, false, NULL, &message);

	if (e < 0)
		must_failed(__FILE__, __LINE__, "store_repair: %s (%s)", strerror(-e),
			message ? message : "no message");
}

/* The mount refuses, names the repair, and changes nothing. */
static void must_refuse(struct rig *r)
{
	cleanup_free char *message = NULL;
	char wanted[256];

	must_eq(rig_try_open(r, &message), -EUCLEAN);
	snprintf(wanted, sizeof(wanted), "`cpgfs repair --cache-dir %s`", r->dir);
	if (!strstr(message, wanted))
		must_failed(__FILE__, __LINE__, "the message lacks %s: %s", wanted, message);
}

/* ---- what there is to be repaired ------------------------------------------------------------ */

#define FILES 24

static void file_name(unsigned i, char out[64])
{
	snprintf(out, 64, "r%02uc%02uf01p01-ch1sk1fk1fl1.tiff", i / 12 + 1, i % 12 + 1);
}

/* Of all ages: digested, or only closed. */
static void work_plate(struct rig *r, void *arg)
{
	uint64_t images = rig_dir(r, rig_dir(r, STORE_ROOT_INO, "cpg0123-example"), "images");

	for (unsigned i = 0; i < FILES; i++) {
		char name[64];
		file_name(i, name);
		uint64_t ino = rig_put(r, images, name, FILE_BYTES + i, i);
		rig_bring(r, ino, i % 3 ? FILE_QUEUED : i % 2 ? FILE_CLOSED : FILE_VERIFIED);
		if (i == FILES / 2)
			must_eq(store_checkpoint(r->s), 0);
	}
}

static uint64_t plate_file(struct rig *r, unsigned i)
{
	char name[64], path[128];

	file_name(i, name);
	snprintf(path, sizeof(path), "cpg0123-example/images/%s", name);
	return rig_find(r, path);
}

/* Every file is there under its name with its bytes; none is said to be in the bucket. Returns how
 * many a person must decide about. */
static unsigned must_hold_plate(struct rig *r)
{
	unsigned person = 0;

	for (unsigned i = 0; i < FILES; i++) {
		uint64_t ino = plate_file(r, i);
		enum file_state state = rig_state(r, ino);

		snprintf(rig_context + strlen(rig_context), 32, " file %u", i);
		rig_must_hold(r, ino, FILE_BYTES + i, i);
		if (i % 3 || i % 2 == 0) /* its checksums were recorded */
			must_state(state, FILE_CLOSED);
		else if (state != FILE_CLOSED && state != FILE_TORN)
			must_state(state, FILE_INCOMPLETE);
		person += state != FILE_CLOSED;
		*strstr(rig_context, " file ") = '\0';
	}
	must_eq(rig_files_in(r, FILE_CLOSED) + person, FILES);
	rig_must_count(r, STORE_ROOT_INO);
	return person;
}

static void repair_and_hold(struct rig *r, unsigned person)
{
	must_refuse(r);
	repair(r);
	must(report.was_damaged);
	must_eq(report.files, FILES);
	must_eq(report.folders, 2);
	must_eq(report.orphans, 0);
	rig_open(r);
	must_eq(must_hold_plate(r), person);
	rig_close(r);
}

/* ---- the index ------------------------------------------------------------------------------- */

#define UNDIGESTED (FILES / 6) /* files of the plate without checksums */

static void sound_is_left_alone(void **state)
{
	struct rig *r = *state;
	uint64_t bytes;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	bytes = size_of(r, "index/data.mdb");
	for (int i = 0; i < 2; i++) {
		repair(r);
		must(!report.was_damaged);
		must_text(report.identity, r->config.identity);
		must_eq(report.orphans, 0);
		must(!is_there(r, "orphans"));
		must_eq(size_of(r, "index/data.mdb"), bytes);
		rig_open(r); /* and again after an orderly end */
		rig_close(r);
		bytes = size_of(r, "index/data.mdb");
	}
}

static void index_is_missing(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	lose(r, "index/data.mdb");
	repair_and_hold(r, UNDIGESTED);
	must(strstr(report.damage, "the index is missing") != NULL);
	must_eq(report.to_check, FILES - UNDIGESTED);
}

static void index_is_missing_after_an_orderly_end(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_CLOSES);
	lose(r, "index/data.mdb");
	repair_and_hold(r, UNDIGESTED);
}

static void index_is_zeroed(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	overwrite(r, "index/data.mdb", 0, size_of(r, "index/data.mdb"), 0);
	repair_and_hold(r, UNDIGESTED);
	must(is_there(r, strrchr(report.kept_index, '/') + 1)); /* it is kept */
}

static void index_is_cut_off(void **state)
{
	struct rig *r = *state;

	struct kept k;

	rig_child(r, work_plate, NULL, CHILD_CLOSES);
	keep_index(r, &k);
	for (uint64_t pages = k.bytes / PAGE_BYTES - 1; pages < k.bytes; pages -= 3) {
		snprintf(rig_context, sizeof(rig_context), "cut to %" PRIu64 " pages", pages);
		cut(r, "index/data.mdb", pages * PAGE_BYTES);
		repair(r);
		must(report.was_damaged);
		rig_open(r);
		(void)must_hold_plate(r);
		rig_close(r);
		undo_repair(r, &k);
	}
	free(k.index);
}

/* Whatever page is gone, and however: a hole, or garbage. */
static void each_page_in_turn(struct rig *r, int byte)
{
	uint64_t damaged = 0;
	struct kept k;

	keep_index(r, &k);
	for (uint64_t n = 0; n < k.bytes / PAGE_BYTES; n++) {
		snprintf(rig_context, sizeof(rig_context), "page %" PRIu64 " is %#x", n, byte);
		overwrite(r, "index/data.mdb", n * PAGE_BYTES, PAGE_BYTES, byte);
		repair(r);
		damaged += report.was_damaged;
		if (!report.was_damaged)
			continue; /* no page in use */
		rig_open(r);
		(void)must_hold_plate(r);
		rig_close(r);
		undo_repair(r, &k);
	}
	must(damaged >= 8);
	free(k.index);
}

static void each_page_is_a_hole(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	each_page_in_turn(r, 0);
}

static void each_page_is_garbage(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_CLOSES);
	each_page_in_turn(r, 0xa5);
}

/* ---- the journal ----------------------------------------------------------------------------- */

static void journal_is_missing(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	lose(r, "journal");
	must_refuse(r);
	repair(r);
	rig_open(r);
	/* the second half of the plate was in the journal only: it is not known by name */
	must_eq(report.files + report.orphans, FILES);
	must(report.orphans > 0);
	must_eq(report.files, FILES / 2 + 1);
	must_eq(rig_files_in(r, FILE_CLOSED) + rig_files_in(r, FILE_TORN), report.files);
}

static void journal_is_missing_after_an_orderly_end(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_CLOSES);
	lose(r, "journal");
	repair_and_hold(r, 0);
	must(strstr(report.damage, "the journal is missing") != NULL);
}

static void journal_is_zeroed(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	overwrite(r, "journal", 0, MIB, 0);
	must_refuse(r);
	repair(r);
	must_eq(report.files + report.orphans, FILES);
	rig_open(r);
}

static void journal_is_cut_off(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	cut(r, "journal", 5000);
	must_refuse(r);
	repair(r);
	must_eq(report.files + report.orphans, FILES);
	must(report.files > FILES / 2 + 1);
	rig_open(r);
}

/* One record in the middle: what comes behind is used, and none of it believed without a checksum.
 */
static void journal_has_a_hole(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	overwrite(r, "journal", 6000, 4, 0x55);
	must_refuse(r);
	repair(r);
	must(strstr(report.damage, "records of the journal are lost") != NULL);
	must_eq(report.files + report.orphans, FILES);
	must(report.files >= FILES - 1);
	rig_open(r);
	for (unsigned i = 0; i < FILES; i++) {
		enum file_state now;
		char name[64], path[128];
		file_name(i, name);
		snprintf(path, sizeof(path), "cpg0123-example/images/%s", name);
		if (rig_resolve_error(r, path) < 0)
			continue;
		now = rig_state(r, rig_find(r, path));
		if (i % 6 == 3)
			must(now == FILE_TORN || now == FILE_INCOMPLETE);
	}
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void only_the_witness_is_left(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_CLOSES);
	lose(r, "index/data.mdb");
	lose(r, "journal");
	must_refuse(r);
	repair(r);
	must_eq(report.files, FILES);
	must_eq(report.incomplete, UNDIGESTED);
	rig_open(r);
	for (unsigned i = 0; i < FILES; i++)
		rig_must_hold(r, plate_file(r, i), FILE_BYTES + i, i);
}

/* Without the witness the journal's own memory, as far back as it goes. */
static void the_witness_is_gone_too(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;
	char path[4200];

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	lose(r, "index/data.mdb");
	lose(r, "witness");
	must_eq(try_repair(r, false, NULL, &message), -EINVAL);
	must(strstr(message, "s3://BUCKET") != NULL);
	free(steal_ptr(message));
	must_eq(try_repair(r, false, r->config.identity, &message), 0);
	must_eq(report.files + report.orphans, FILES);
	/* their folders were made before it began afresh: the names are kept with the bytes */
	must(strstr(noted, "?/images/r02c12f01p01-ch1sk1fk1fl1.tiff: its folder is not known") !=
		NULL);
	snprintf(path, sizeof(path), "%s/?/images/r02c12f01p01-ch1sk1fk1fl1.tiff",
		report.orphans_dir);
	must_eq(access(path, R_OK), 0);
	rig_open(r);
}

/* Nothing but bytes: all are orphans, none is gone, and no new file gets the number of one. */
static void nothing_but_data(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;
	uint64_t ino;

	rig_child(r, work_plate, NULL, CHILD_CLOSES);
	lose(r, "index/data.mdb");
	lose(r, "witness");
	lose(r, "journal");
	must_eq(try_repair(r, false, r->config.identity, &message), 0);
	must_eq(report.files, 0);
	must_eq(report.orphans, FILES);
	must(report.orphan_bytes >= FILES * FILE_BYTES);
	must_eq(rig_count_files(report.orphans_dir), FILES + 1); /* and the list */
	must_eq(rig_data_files(r), 0);
	rig_open(r);
	ino = rig_put(r, STORE_ROOT_INO, "new", 10, 1);
	must(ino > FILES + 2);
	rig_must_hold(r, ino, 10, 1);
}

/* ---- not this cache's ------------------------------------------------------------------------ */

static void copy_from(struct rig *from, struct rig *to, const char *name)
{
	shell("cp -a %s/%s %s/%s", from->dir, name, to->dir, name);
}

static void work_one(struct rig *r, void *arg)
{
	(void)rig_put(r, STORE_ROOT_INO, arg, 100, 1);
}

/* The index as it was an hour ago: what happened since is in journal and witness. */
static void index_is_an_older_one(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_one, "early", CHILD_CLOSES);
	save(r);
	rig_child(r, work_plate, NULL, CHILD_CLOSES);
	shell("cp -a %s/index/data.mdb %s/index/data.mdb", backup, r->dir);
	must_refuse(r);
	repair(r);
	must(strstr(report.damage, "the index is older than the journal") != NULL);
	must_eq(report.files, FILES + 1);
	rig_open(r);
	for (unsigned i = 0; i < FILES; i++)
		rig_must_hold(r, plate_file(r, i), FILE_BYTES + i, i);
	drop_saved();
}

/* Index and journal of an hour ago: only the witness knows better. */
static void index_and_journal_are_older_ones(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_one, "early", CHILD_CLOSES);
	save(r);
	rig_child(r, work_plate, NULL, CHILD_CLOSES);
	shell("cp -a %s/index/data.mdb %s/index/data.mdb", backup, r->dir);
	shell("cp -a %s/journal %s/journal", backup, r->dir);
	must_refuse(r);
	repair(r);
	must_eq(report.files, FILES + 1);
	rig_open(r);
	(void)must_hold_plate; /* "early" is there, too */
	for (unsigned i = 0; i < FILES; i++)
		rig_must_hold(r, plate_file(r, i), FILE_BYTES + i, i);
	drop_saved();
}

static void index_is_of_another_bucket(void **state)
{
	struct rig *r = *state, other;
	cleanup_free char *message = NULL;

	rig_make(&other);
	other.config.identity = "https://s3.example/another/prefix";
	rig_child(&other, work_one, "theirs", CHILD_CLOSES);
	rig_child(r, work_plate, NULL, CHILD_CLOSES);
	copy_from(&other, r, "index/data.mdb");

	must_eq(rig_try_open(r, &message), -EXDEV);
	must(strstr(message, "another/prefix") != NULL);
	free(steal_ptr(message));
	must_eq(try_repair(r, false, NULL, &message), -EXDEV);
	must(strstr(message, "another/prefix") != NULL);
	must(strstr(message, "bucket/prefix") != NULL);
	free(steal_ptr(message));
	must_eq(try_repair(r, false, other.config.identity, &message), -EXDEV);
	free(steal_ptr(message));

	/* asked for by name: from the witness, and nothing of the other's */
	must_eq(try_repair(r, false, r->config.identity, &message), 0);
	must_eq(report.files, FILES);
	rig_open(r);
	must_eq(rig_resolve_error(r, "theirs"), -ENOENT);
	for (unsigned i = 0; i < FILES; i++)
		rig_must_hold(r, plate_file(r, i), FILE_BYTES + i, i);
	rig_remove_tree(other.dir);
}

static void another_bucket_is_asked_for(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;

	rig_child(r, work_plate, NULL, CHILD_CLOSES);
	lose(r, "index/data.mdb");
	must_eq(try_repair(r, false, "https://s3.example/another/prefix", &message), -EXDEV);
	must(strstr(message, r->config.identity) != NULL);
	must(!is_there(r, "index.ready"));
}

/* An endpoint with a slash at its end is the same one. */
static void endpoint_with_a_slash(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;

	r->config.identity = "http://a:1 bucket p";
	rig_child(r, work_plate, NULL, CHILD_CLOSES);
	r->config.identity = "http://a:1 bucket /p";
	must_eq(rig_try_open(r, &message), -EXDEV);
	free(steal_ptr(message));
	r->config.identity = "http://a:1/ bucket p";
	rig_open(r);
	rig_close(r);
	lose(r, "index/data.mdb");
	must_eq(try_repair(r, false, r->config.identity, &message), 0);
	must_eq(report.files, FILES);
	rig_open(r);
	rig_close(r);
	r->config.identity = "http://a:1 bucket p";
	rig_open(r);
}

static void work_newer(struct rig *r, void *arg)
{
	with_lock(&r->s->lock);
	op_begin(r->s);
	op_meta_u64(r->s, "format", FORMAT_VERSION + 1);
	must_eq(op_commit(r->s), 0);
}

static void format_is_newer(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;
	char newer[64];

	rig_child(r, work_newer, NULL, CHILD_CLOSES);
	must_eq(rig_try_open(r, &message), -EPROTO);
	free(steal_ptr(message));
	must_eq(try_repair(r, false, NULL, &message), -EPROTO);
	snprintf(newer, sizeof(newer), "newer cpgfs (format %d)", FORMAT_VERSION + 1);
	must(strstr(message, newer) != NULL);
}

static void no_cache_at_all(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;
	struct rig none = {.dir = "/tmp/cpgfs-store-nowhere/cache"};

	must_eq(try_repair(r, false, NULL, &message), -ENOENT);
	must(strstr(message, "is no cache of cpgfs") != NULL);
	free(steal_ptr(message));
	must_eq(rig_count_files(r->dir), 0);
	must_eq(try_repair(&none, false, NULL, &message), -ENOENT);
	must(strstr(message, "cannot be opened") != NULL);
}

static void a_daemon_holds_it(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;

	rig_open(r);
	must_eq(try_repair(r, false, NULL, &message), -EBUSY);
	must(strstr(message, "in use by another cpgfs") != NULL);
}

/* ---- what becomes of each state -------------------------------------------------------------- */

static const enum file_state brought[] = {FILE_CLOSED, FILE_SETTLED, FILE_QUEUED, FILE_SENDING,
	FILE_FAILED, FILE_CONFLICT, FILE_HELD, FILE_UPLOADED, FILE_VERIFIED, FILE_GONE};

static void work_states(struct rig *r, void *arg)
{
	for (size_t i = 0; i < array_len(brought); i++) {
		const char *name = file_state_text(brought[i]);
		rig_bring(r, rig_put(r, STORE_ROOT_INO, name, 5000, (unsigned)i), brought[i]);
	}
	struct store_file *f =
		rig_write_begin(r, rig_create(r, STORE_ROOT_INO, "open", STORE_FILE));
	rig_write_pattern(f, 0, 5000, 77);
	must_eq(store_checkpoint(r->s), 0);
}

static void must_become(struct rig *r, const char *name, enum file_state want)
{
	snprintf(rig_context, sizeof(rig_context), "what was %s", name);
	must_state(rig_state(r, rig_find(r, name)), want);
	rig_context[0] = '\0';
}

static void states_after_a_repair(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_states, NULL, CHILD_KILLED);
	lose(r, "index/data.mdb"); /* the journal tells it all, but may be outdated */
	repair(r);
	must_eq(report.as_before, 2); /* failed, conflict */
	must_eq(report.set_aside, 1); /* gone */
	rig_open(r);
	must_become(r, "closed", FILE_TORN);
	must_become(r, "settled", FILE_TORN);
	must_become(r, "queued", FILE_CLOSED);
	must_become(r, "sending", FILE_CLOSED);
	must_become(r, "failed", FILE_FAILED);
	must_become(r, "conflict", FILE_CONFLICT);
	must_become(r, "held", FILE_TORN);
	must_become(r, "uploaded", FILE_CLOSED);
	must_become(r, "verified", FILE_CLOSED);
	must_become(r, "gone", FILE_GONE);
	must_become(r, "open", FILE_INCOMPLETE);
	for (size_t i = 0; i < array_len(brought); i++)
		rig_must_hold(r, rig_find(r, file_state_text(brought[i])), 5000, (unsigned)i);
	rig_must_hold(r, rig_find(r, "open"), 5000, 77);
	/* uploaded again only if the digest says something new: the object is known, not believed
	 */
	must_text(rig_inode(r, rig_find(r, "verified"))->object.key, "verified");
	must(rig_inode(r, rig_find(r, "verified"))->object.generation !=
		rig_attr(r, rig_find(r, "verified")).generation);
	must_eq(rig_attr(r, rig_find(r, "verified")).in_bucket, false);
	must(strstr(rig_inode(r, rig_find(r, "closed"))->reason, "no checksum") != NULL);
	rig_must_count(r, STORE_ROOT_INO);
}

/* The index lost a table that everything can be made again from: each record is the latest. */
static void states_with_every_record_left(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;

	rig_child(r, work_states, NULL, CHILD_KILLED);
	lose(r, "witness");
	overwrite(r, "index/data.mdb", 0, PAGE_BYTES, 0); /* one of the two metas */
	if (try_repair(r, false, r->config.identity, &message) < 0)
		must_failed(__FILE__, __LINE__, "%s", message);
	rig_open(r);
	must_become(r, "queued", FILE_CLOSED);
	must_become(r, "verified", FILE_CLOSED);
	must_become(r, "open", FILE_INCOMPLETE);
	must_eq(rig_files_in(r, FILE_UPLOADED), 0);
	for (size_t i = 0; i < array_len(brought); i++)
		rig_must_hold(r, rig_find(r, file_state_text(brought[i])), 5000, (unsigned)i);
}

/* ---- a power cut -------------------------------------------------------------------------------- */

/* Every page of the index that holds this text. */
static void damage_pages_with(struct rig *r, const char *text)
{
	struct kept k;
	unsigned damaged = 0;

	keep_index(r, &k);
	for (uint64_t n = 0; n < k.bytes / PAGE_BYTES; n++) {
		if (!memmem(k.index + n * PAGE_BYTES, PAGE_BYTES, text, strlen(text)))
			continue;
		overwrite(r, "index/data.mdb", n * PAGE_BYTES, PAGE_BYTES, 0xa5);
		damaged++;
	}
	must(damaged > 0);
	free(k.index);
}

static void work_unsynced(struct rig *r, void *arg)
{
	struct store_file *f;

	must_eq(store_setting_set(r->s, "upload.paused", "by hand"), 0);
	(void)rig_put(r, STORE_ROOT_INO, "synced", 5000, 50);
	f = rig_file(r, rig_find(r, "synced"));
	must_eq(store_file_sync(f, false), 0);
	store_file_close(f);
	work_states(r, arg);
}

/* The cut that damages an index takes bytes, too, and no mount looks for that after a repair. */
static void damaged_by_a_power_cut(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_unsynced, NULL, CHILD_KILLED);
	r->config.boot_id = "boot-2";
	damage_pages_with(r, "by hand");
	repair(r);
	must(strstr(report.damage, "parts of the index cannot be read") != NULL);
	rig_open(r);
	must_become(r, "synced", FILE_CLOSED);
	must_become(r, "closed", FILE_TORN);
	must_become(r, "settled", FILE_TORN);
	must_become(r, "held", FILE_TORN);
	must_become(r, "queued", FILE_CLOSED); /* its checksums tell */
	must_become(r, "failed", FILE_FAILED);
	must_become(r, "verified", FILE_CLOSED);
	must_become(r, "gone", FILE_GONE);
	must_become(r, "open", FILE_INCOMPLETE);
}

/* The same without a power cut: what the index says is the latest. */
static void damaged_by_itself(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_unsynced, NULL, CHILD_KILLED);
	damage_pages_with(r, "by hand");
	repair(r);
	rig_open(r);
	must_become(r, "closed", FILE_CLOSED);
	must_become(r, "held", FILE_HELD);
	must_become(r, "gone", FILE_GONE);
}

static void work_removed(struct rig *r, void *arg)
{
	(void)rig_put(r, STORE_ROOT_INO, "kept", 5000, 1);
	must_eq(store_flush_all(r->s), 0);
	must_eq(store_checkpoint(r->s), 0);
	uint64_t ino = rig_find(r, "kept");
	struct record *record = calloc(1, sizeof(*record));

	(void)rig_put(r, STORE_ROOT_INO, "lost by the cut", 100, 2);
	with_lock(&r->s->lock); /* as unlink does; its bytes go when this is synced */
	must_eq(record_get(r->s, ino, record), 0);
	op_begin(r->s);
	op_purge(r->s, record);
	must_eq(op_commit(r->s), 0);
	free(record);
}

/* A mount replays no record behind the first one that a power cut took. */
static void what_a_power_cut_took_is_not_believed(void **state)
{
	struct rig *r = *state;

	for (int i = 0; i < 4; i++) {
		bool damaged = i & 1, by_disk = i & 2; /* pulled out, the machine went on */

		rig_empty(r);
		r->config.boot_id = "boot-1";
		r->config.disk_seq = 7;
		rig_child(r, work_removed, NULL, CHILD_KILLED);
		r->config.boot_id = by_disk ? "boot-1" : "boot-2";
		r->config.disk_seq = by_disk ? 8 : 7;
		overwrite(r, "journal", 0, 32, 0); /* the first record since the checkpoint */
		if (damaged)
			damage_pages_with(r, "kept");
		repair(r);
		must_eq(report.was_damaged, damaged);
		rig_open(r);
		rig_must_hold(r, rig_find(r, "kept"), 5000, 1);
		rig_close(r);
	}
}

/* ---- bytes that are not here ----------------------------------------------------------------- */

static void work_evicted(struct rig *r, void *arg)
{
	rig_bring(r, rig_put(r, STORE_ROOT_INO, "evicted", 5000, 1), FILE_VERIFIED);
	must_eq(store_evict(r->s, 5000), 0);
	rig_bring(r, rig_put(r, STORE_ROOT_INO, "queued", 5000, 2), FILE_QUEUED);
	rig_bring(r, rig_put(r, STORE_ROOT_INO, "short", 5000, 3), FILE_QUEUED);
}

static void remove_data(struct rig *r, uint64_t ino)
{
	char path[64];

	data_path(ino, path);
	lose(r, path);
}

static void bytes_that_are_missing(void **state)
{
	struct rig *r = *state;
	struct store_file *f;
	char byte, path[64];
	uint64_t chunk = 99;

	rig_child(r, work_evicted, NULL, CHILD_CLOSES);
	lose(r, "index/data.mdb");
	remove_data(r, 3);
	data_path(4, path);
	cut(r, path, 100);
	repair(r);
	must_eq(report.lost, 2);
	must_eq(report.in_bucket_only, 1);
	must(strstr(noted, "queued: lost") != NULL);
	rig_open(r);
	/* evicted: a listing will tell; reading asks for its chunk */
	must_become(r, "evicted", FILE_UPLOADED);
	must_eq(rig_inode(r, rig_find(r, "evicted"))->object.verified_at_ns, 0);
	f = rig_file(r, rig_find(r, "evicted"));
	must_eq(store_file_read(f, &byte, 1, 4999, &chunk), -EREMOTE);
	must_eq(chunk, 1);
	store_file_close(f);
	/* the others never were elsewhere: never zeros */
	must_become(r, "queued", FILE_LOST);
	f = rig_file(r, rig_find(r, "queued"));
	must_eq(store_file_read(f, &byte, 1, 0, &chunk), -EIO);
	store_file_close(f);
	must_become(r, "short", FILE_LOST);
	f = rig_file(r, rig_find(r, "short"));
	must_eq(store_file_read(f, &byte, 1, 0, &chunk), -EIO);
	store_file_close(f);
}

static void work_open_synced(struct rig *r, void *arg)
{
	struct store_file *f = rig_write_begin(r, rig_create(r, STORE_ROOT_INO, "f", STORE_FILE));

	rig_write_pattern(f, 0, 5000, 1);
	must_eq(store_file_sync(f, false), 0);
	must_eq(store_checkpoint(r->s), 0);
}

/* What was synced of a file that was still being written is not said to have been nothing. */
static void synced_bytes_that_are_missing(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_open_synced, NULL, CHILD_KILLED);
	remove_data(r, 2);
	lose(r, "journal");
	repair(r);
	must_eq(report.lost, 1);
	rig_open(r);
	must_become(r, "f", FILE_LOST);
	must_eq(rig_attr(r, rig_find(r, "f")).size_bytes, 5000);
}

/* A file that grew after what is known of it: all its bytes stay within reach. */
static void work_grown(struct rig *r, void *arg)
{
	rig_bring(r, rig_put(r, STORE_ROOT_INO, "log", 5000, 1), FILE_QUEUED);
}

static void longer_than_its_record(void **state)
{
	struct rig *r = *state;
	char path[64];

	rig_child(r, work_grown, NULL, CHILD_CLOSES);
	data_path(2, path);
	overwrite(r, path, 5000, 700, 'x');
	lose(r, "index/data.mdb");
	repair(r);
	rig_open(r);
	must_become(r, "log", FILE_TORN);
	must_eq(rig_attr(r, rig_find(r, "log")).size_bytes, 5700);
}

/* Whatever state it was in: bytes that nobody will compare later are not taken for those that were
 * recorded, and none is out of reach. */
static void other_bytes_than_recorded(void **state)
{
	static const struct {
		const char *name;
		uint64_t at;
		size_t len;
	} changes[] = {{"failed", 5000, 700}, {"conflict", 5000, 700}, {"held", 5000, 700},
		{"gone", 5000, 700}, {"verified", 5000, 700}, {"gone", 4999, 1}};
	struct rig *r = *state;

	rig_child(r, work_states, NULL, CHILD_KILLED);
	rig_open(r);
	uint64_t inos[array_len(changes)];
	for (size_t i = 0; i < array_len(changes); i++)
		inos[i] = rig_find(r, changes[i].name);
	rig_close(r);
	lose(r, "index/data.mdb");
	save(r);
	for (size_t i = 0; i < array_len(changes); i++) {
		char path[64];
		restore(r);
		data_path(inos[i], path);
		overwrite(r, path, changes[i].at, changes[i].len, 'x');
		repair(r);
		must_eq(report.orphans, 0);
		rig_open(r);
		must_become(r, changes[i].name, FILE_TORN);
		must_eq(rig_attr(r, inos[i]).size_bytes, changes[i].at + changes[i].len);
		rig_close(r);
	}
	drop_saved();
}

/* ---- names ----------------------------------------------------------------------------------- */

static void work_names(struct rig *r, void *arg)
{
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a"), b = rig_dir(r, a, "b");

	(void)rig_put(r, b, "kept", 100, 1);
	(void)rig_put(r, b, ".tmp.Xa81", 100, 2); /* as rsync does */
	must_eq(store_rename(r->s, b, ".tmp.Xa81", b, "renamed", 0, 0), 0);
	(void)rig_put(r, b, "removed", 100, 3);
	must_eq(store_unlink(r->s, b, "removed", 0), 0);
	(void)rig_put(r, b, "old", 100, 4);
	(void)rig_put(r, b, "new", 100, 5);
	must_eq(store_rename(r->s, b, "new", b, "old", 0, 0), 0);
	must_eq(store_rename(r->s, STORE_ROOT_INO, "a", STORE_ROOT_INO, "moved", 0, 0), 0);
	must_eq(store_xattr_set(r->s, rig_find(r, "moved/b/kept"), "user.note", "hello", 5, 0), 0);
	must_eq(store_setting_set(r->s, "upload.paused", "by hand"), 0);
}

static void must_have_names(struct rig *r)
{
	char value[32];

	rig_must_hold(r, rig_find(r, "moved/b/kept"), 100, 1);
	rig_must_hold(r, rig_find(r, "moved/b/renamed"), 100, 2);
	rig_must_hold(r, rig_find(r, "moved/b/old"), 100, 5);
	must_eq(rig_resolve_error(r, "moved/b/removed"), -ENOENT);
	must_eq(rig_resolve_error(r, "moved/b/new"), -ENOENT);
	must_eq(rig_resolve_error(r, "a"), -ENOENT);
	must_eq(store_xattr_get(r->s, rig_find(r, "moved/b/kept"), "user.note", value, 32), 5);
	must_eq(store_setting_get(r->s, "upload.paused", value, sizeof(value)), 0);
	must_text(value, "by hand");
}

static void names_from_the_journal(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_names, NULL, CHILD_KILLED);
	lose(r, "index/data.mdb");
	repair(r);
	must_eq(report.orphans, 0);
	rig_open(r);
	must_have_names(r);
}

static void names_from_the_witness(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_names, NULL, CHILD_CLOSES);
	lose(r, "index/data.mdb");
	lose(r, "journal");
	repair(r);
	must_eq(report.orphans, 0);
	rig_open(r);
	must_have_names(r);
}

/* ---- deletes, uploads under way -------------------------------------------------------------- */

static void work_deleted(struct rig *r, void *arg)
{
	uint64_t ino = rig_put(r, STORE_ROOT_INO, "deleted", 5000, 1);
	struct store_attempt a;

	rig_bring(r, ino, FILE_VERIFIED);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "deleted", 600000), 0);
	ino = rig_put(r, STORE_ROOT_INO, "large", 50000, 2);
	rig_bring(r, ino, FILE_QUEUED);
	a = rig_attempt(r, ino, ATTEMPT_MULTIPART, "large");
	must_eq(store_attempt_begin(r->s, &a, FILE_QUEUED), 0);
	(void)text_copy(a.upload_id, "upload-1", sizeof(a.upload_id));
	must_eq(store_attempt_update(r->s, &a), 0);
	ino = rig_put(r, STORE_ROOT_INO, "small", 500, 3);
	rig_bring(r, ino, FILE_SENDING);
}

/* What was to be deleted stays in the bucket and here; an upload in parts is aborted. */
static void doubtful_requests_change_nothing(void **state)
{
	struct rig *r = *state;
	struct store_attempt *a;
	uint64_t inos[4];
	char path[4200];

	rig_child(r, work_deleted, NULL, CHILD_CLOSES);
	lose(r, "index/data.mdb");
	repair(r);
	must_eq(report.deletes_dropped, 1);
	must(strstr(noted, "deleted: its deletion was due: it stays in the bucket") != NULL);
	must_eq(report.orphans, 1);
	snprintf(path, sizeof(path), "%s/deleted", report.orphans_dir);
	must_eq(access(path, R_OK), 0);
	rig_open(r);
	a = calloc(4, sizeof(*a)); /* not in the child, where it would be a leak */
	must_eq(rig_queue(r, FILE_DELETING, inos, 4), 0);
	must_eq(store_attempts(r->s, 0, a, 4), 1);
	must_text(a->upload_id, "upload-1");
	must_eq(a->phase, ATTEMPT_ABORTING);
	must_eq(a->ino, rig_find(r, "large"));
	must_eq(store_attempts_of_key(r->s, "large", a, 4), 1);
	must_become(r, "large", FILE_CLOSED);
	must_become(r, "small", FILE_CLOSED);
	free(a);
}

/* ---- orphans --------------------------------------------------------------------------------- */

static void make_orphan(struct rig *r, uint64_t ino)
{
	char name[64], path[256];
	int fd;

	data_path(ino, name);
	place(r, name, path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	must(fd >= 0);
	must_eq(write(fd, "orphan", 6), 6);
	close(fd);
}

static void orphans_of_a_sound_cache(void **state)
{
	struct rig *r = *state;
	char path[4200];

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	make_orphan(r, 0x4711);
	repair(r);
	must(!report.was_damaged);
	must_eq(report.orphans, 1);
	snprintf(path, sizeof(path), "%s/unnamed/0000000000004711", report.orphans_dir);
	must_eq(access(path, R_OK), 0);
	must(strstr(noted, "nothing tells what it was") != NULL);
	repair(r);
	must_eq(report.orphans, 0);
	rig_open(r);
	must_eq(rig_data_files(r), FILES);
}

static void read_text(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n;

	must(fd >= 0);
	n = read(fd, out, size - 1);
	must(n >= 0);
	out[n] = '\0';
	close(fd);
}

/* Where the kernel wrote by itself the time is only a mark. */
static void orphan_with_a_mark_for_a_time(void **state)
{
	const struct timespec marked[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
	struct rig *r = *state;
	char name[64], path[4200], list[4200];
	struct stat st;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	make_orphan(r, 0x4711);
	data_path(0x4711, name);
	place(r, name, path);
	must_eq(utimensat(AT_FDCWD, path, marked, 0), 0);
	repair(r);
	must_eq(report.orphans, 1);
	snprintf(path, sizeof(path), "%s/LIST.tsv", report.orphans_dir);
	read_text(path, list, sizeof(list));
	must(strstr(list, "0000000000004711") != NULL);
	must(strstr(list, "1970") == NULL);
	snprintf(path, sizeof(path), "%s/unnamed/0000000000004711", report.orphans_dir);
	must_eq(stat(path, &st), 0);
	must(st.st_mtim.tv_sec > 1000000000); /* a copy of it gets this */
}

/* In place of libc's: the disk is full for what is written by stdio. */
static bool stdio_is_full;

int fflush(FILE *f)
{
	static int (*real)(FILE *f);

	if (stdio_is_full && f && f != stdout && f != stderr) {
		errno = ENOSPC;
		return EOF;
	}
	if (!real)
		real = (int (*)(FILE *))dlsym(RTLD_NEXT, "fflush");
	return real(f);
}

/* One that is on no list would never be found. */
static void orphan_that_cannot_be_listed(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;
	char name[64], path[4200], list[4200];

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	make_orphan(r, 0x4711);
	data_path(0x4711, name);
	place(r, name, path);
	stdio_is_full = true;
	must_eq(try_repair(r, false, NULL, &message), -ENOSPC);
	stdio_is_full = false;
	must_eq(access(path, F_OK), 0);
	repair(r);
	must_eq(report.orphans, 1);
	must_eq(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/LIST.tsv", report.orphans_dir);
	read_text(path, list, sizeof(list));
	must(strstr(list, "unnamed/0000000000004711\t") != NULL);
}

/* Its data file waits to be unlinked: not an orphan. */
static void work_dead(struct rig *r, void *arg)
{
	struct ikey k = ikey_ino(0x4711);

	with_lock(&r->s->lock);
	op_begin(r->s);
	op_put(r->s, TABLE_GRAVE, &k, "", 0);
	must_eq(op_commit(r->s), 0);
}

static void what_is_being_removed_is_no_orphan(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_dead, NULL, CHILD_KILLED);
	make_orphan(r, 0x4711);
	repair(r);
	must_eq(report.orphans, 0);
	rig_open(r);
	must_eq(rig_data_files(r), 0);
}

/* ---- how it is done -------------------------------------------------------------------------- */

static void dry_run_changes_nothing(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	lose(r, "index/data.mdb");
	make_orphan(r, 0x4711);
	save(r);
	must_eq(try_repair(r, true, NULL, &message), 0);
	must(report.was_damaged);
	must_eq(report.files, FILES);
	must_eq(report.orphans, 1);
	shell("diff -r --exclude=lock %s %s", backup, r->dir);
	drop_saved();
	must_refuse(r);
}

/* Ended at each step of the installation: the next one comes to the same end. */
static void cut_off_while_installing(void **state)
{
	static const char *const steps[] = {"", "journal", "index", "witness"};
	struct rig *r = *state;
	unsigned undigested = UNDIGESTED;
	char *message = NULL;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	lose(r, "index/data.mdb");
	save(r);
	for (size_t done = 0; done < array_len(steps) + 1; done++) {
		snprintf(rig_context, sizeof(rig_context), "%zu steps done", done);
		restore(r);
		repair(r); /* where the new index comes from */
		shell("mv %s/index %s/index.ready", r->dir, r->dir);
		shell("rm -f %s/journal", r->dir);
		for (size_t i = done; i < array_len(steps); i++)
			if (steps[i][0])
				shell("rm -rf %s/%s; cp -a %s/%s %s/", r->dir, steps[i], backup,
					steps[i], r->dir);
		must_refuse(r);
		must_eq(try_repair(r, false, "https://s3.example/other", &message), -EXDEV);
		must(is_there(r, "index.ready")); /* nothing was changed, as it says */
		free(steal_ptr(message));
		repair(r);
		must(report.was_damaged);
		must_eq(report.files, FILES);
		must(!is_there(r, "index.ready"));
		rig_open(r);
		must_eq(must_hold_plate(r), undigested);
		rig_close(r);
	}
	drop_saved();
}

/* Ended before what the new index has no use for was moved out: that is not left where a chunk that
 * is fetched again would be written over it. */
static void cut_off_before_the_orphans_went(void **state)
{
	struct rig *r = *state;
	char data[64], path[4200];

	rig_child(r, work_evicted, NULL, CHILD_CLOSES);
	data_path(2, data);
	place(r, data, path);
	for (int cut_off = 0; cut_off < 2; cut_off++) {
		snprintf(rig_context, sizeof(rig_context), "%s", cut_off ? "cut off" : "at once");
		make_orphan(r, 2); /* of the evicted file: perhaps a newer version */
		if (cut_off)
			shell("mv %s/index %s/index.ready", r->dir, r->dir);
		else
			lose(r, "index/data.mdb");
		repair(r);
		must_eq(report.orphans, 1);
		must(strstr(noted, "evicted: ") != NULL);
		must(strstr(noted, "perhaps another version") != NULL);
		must_eq(access(path, F_OK), -1);
		snprintf(path, sizeof(path), "%s/evicted", report.orphans_dir);
		must_eq(access(path, R_OK), 0);
		place(r, data, path);
		rig_open(r);
		must_become(r, "evicted", FILE_UPLOADED);
		rig_close(r);
	}
}

static void after_a_power_cut(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	r->config.boot_id = "boot-2";
	repair(r);
	must(!report.was_damaged); /* the mount judges that, as ever */
	lose(r, "index/data.mdb");
	repair_and_hold(r, UNDIGESTED);
}

/* Again and again: what a repair made can be lost as well. */
static void repaired_twice(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	for (int i = 0; i < 3; i++) {
		snprintf(rig_context, sizeof(rig_context), "round %d", i);
		lose(r, "index/data.mdb");
		repair(r);
		rig_open(r);
		must_eq(store_start(r->s), 0); /* it writes the witness anew */
		for (int ms = 0; ms < 20000 && size_of(r, "witness") < 4096; ms += 10)
			usleep(10000);
		must(size_of(r, "witness") >= 4096);
		(void)must_hold_plate(r);
		rig_close(r);
	}
}

/* ---- the witness itself ---------------------------------------------------------------------- */

/* What it had not written yet when it was killed is noted by the replay. */
static void witness_after_a_kill(void **state)
{
	struct rig *r = *state;

	rig_child(r, work_plate, NULL, CHILD_KILLED);
	rig_open(r);
	rig_close(r);
	lose(r, "index/data.mdb");
	lose(r, "journal");
	repair(r);
	must_eq(report.files, FILES);
	must_eq(report.to_check + report.torn + report.incomplete, FILES);
	rig_open(r);
	for (unsigned i = 0; i < FILES; i++)
		rig_must_hold(r, plate_file(r, i), FILE_BYTES + i, i);
}

/* Renamed again and again it would grow without end. */
static void witness_is_written_anew(void **state)
{
	struct rig *r = *state;
	uint64_t most = 0, now = 0;

	rig_open(r);
	must_eq(store_start(r->s), 0);
	(void)rig_put(r, STORE_ROOT_INO, "a", 100, 1);
	for (unsigned i = 0; i < 2000000 && now >= most / 2; i++) {
		must_eq(store_rename(r->s, STORE_ROOT_INO, i % 2 ? "b" : "a", STORE_ROOT_INO,
				i % 2 ? "a" : "b", 0, 0),
			0);
		if (i % 100 == 0)
			now = size_of(r, "witness");
		most = now > most ? now : most;
	}
	must(now < most / 2);
	must(most > MIB);
	(void)rig_put(r, STORE_ROOT_INO, "later", 100, 2);
	rig_close(r);
	lose(r, "index/data.mdb");
	lose(r, "journal");
	repair(r);
	must_eq(report.files, 2);
	rig_open(r);
	rig_must_hold(r, rig_find(r, "later"), 100, 2);
}

/* Where it cannot be had, everything else works; a mount after that makes up for it. */
static void works_without_a_witness(void **state)
{
	struct rig *r = *state;

	shell("mkdir %s/witness", r->dir);
	rig_open(r);
	(void)rig_put(r, STORE_ROOT_INO, "early", 100, 1);
	rig_close(r);
	shell("rmdir %s/witness", r->dir);
	rig_open(r);
	must_eq(store_start(r->s), 0);
	for (int ms = 0; ms < 20000 && size_of(r, "witness") == 0; ms += 10)
		usleep(10000);
	rig_close(r);
	lose(r, "index/data.mdb");
	lose(r, "journal");
	repair(r);
	must_eq(report.files, 1);
	rig_open(r);
	rig_must_hold(r, rig_find(r, "early"), 100, 1);
}

static int teardown(void **state)
{
	drop_saved();
	return rig_teardown(state);
}

/* In memory, if that can be: it is about what is read, and syncs of a busy disk take long. */
static int setup(void **state)
{
	struct rig *r;
	int e = rig_setup_closed(state);

	r = *state;
	if (e == 0 && access("/dev/shm", W_OK) == 0) {
		rig_remove_tree(r->dir);
		snprintf(r->dir, sizeof(r->dir), "/dev/shm/cpgfs-store-XXXXXX");
		must(mkdtemp(r->dir) != NULL);
	}
	return e;
}

#define repair_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* liblmdb 0.9 forgets a transaction's list of spilled pages; only this test makes one so long. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:mdb_midl_alloc";
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		repair_test(sound_is_left_alone),
		repair_test(index_is_missing),
		repair_test(index_is_missing_after_an_orderly_end),
		repair_test(index_is_zeroed),
		repair_test(index_is_cut_off),
		repair_test(each_page_is_a_hole),
		repair_test(each_page_is_garbage),
		repair_test(journal_is_missing),
		repair_test(journal_is_missing_after_an_orderly_end),
		repair_test(journal_is_zeroed),
		repair_test(journal_is_cut_off),
		repair_test(journal_has_a_hole),
		repair_test(only_the_witness_is_left),
		repair_test(the_witness_is_gone_too),
		repair_test(nothing_but_data),
		repair_test(index_is_an_older_one),
		repair_test(index_and_journal_are_older_ones),
		repair_test(index_is_of_another_bucket),
		repair_test(another_bucket_is_asked_for),
		repair_test(endpoint_with_a_slash),
		repair_test(format_is_newer),
		repair_test(no_cache_at_all),
		repair_test(a_daemon_holds_it),
		repair_test(states_after_a_repair),
		repair_test(states_with_every_record_left),
		repair_test(damaged_by_a_power_cut),
		repair_test(damaged_by_itself),
		repair_test(what_a_power_cut_took_is_not_believed),
		repair_test(bytes_that_are_missing),
		repair_test(synced_bytes_that_are_missing),
		repair_test(longer_than_its_record),
		repair_test(other_bytes_than_recorded),
		repair_test(names_from_the_journal),
		repair_test(names_from_the_witness),
		repair_test(doubtful_requests_change_nothing),
		repair_test(orphans_of_a_sound_cache),
		repair_test(orphan_with_a_mark_for_a_time),
		repair_test(orphan_that_cannot_be_listed),
		repair_test(what_is_being_removed_is_no_orphan),
		repair_test(dry_run_changes_nothing),
		repair_test(cut_off_while_installing),
		repair_test(cut_off_before_the_orphans_went),
		repair_test(after_a_power_cut),
		repair_test(repaired_twice),
		repair_test(witness_after_a_kill),
		repair_test(witness_is_written_anew),
		repair_test(works_without_a_witness),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
