/*
 * store_repair - `cpgfs repair`: look, gather, rebuild, install.
 *
 * Nothing of the cache is touched before the new index is whole and on disk as "index.ready"; from
 * then on a mount refuses and a repair goes on where it stopped. Orphans are moved out. The old
 * index, journal and witness are kept as NAME.damaged-DATE. Last comes the rename of index.ready to
 * index.
 */
#include "store_repair.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

/* ---- the directory --------------------------------------------------------------------------- */

static bool exists(struct repair *p, const char *name)
{
	struct stat st;

	return fstatat(p->s->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int open_dir(struct repair *p)
{
	static const char *const parts[] = {"data", "index", "index.ready", "journal", "witness"};
	int r = io_open(p->s->dir, O_RDONLY | O_DIRECTORY, 0, &p->s->dir_fd);

	if (r < 0) {
		store_say(p->message, "the cache directory %s cannot be opened: %s", p->s->dir,
			strerror(-r));
		return r;
	}
	for (size_t i = 0; i < array_len(parts); i++)
		if (exists(p, parts[i]))
			return 0;
	store_say(
		p->message, "%s is no cache of cpgfs: it has no data, index or journal", p->s->dir);
	return -ENOENT;
}

static int remove_tree_at(int dir_fd, const char *name)
{
	cleanup_fd int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *e;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	DIR *d = fdopendir(fd);
	if (!d)
		return -errno;
	int inner = steal_fd(&fd), r = 0;
	while (r == 0 && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(inner, e->d_name, 0) < 0)
			r = errno == EISDIR ? remove_tree_at(inner, e->d_name) : -errno;
	}
	closedir(d);
	if (r == 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0)
		r = -errno;
	return r;
}

/* Where the new index is made. A dry run leaves the cache as it is. */
static int make_work_dir(struct repair *p)
{
	const char *tmp = getenv("TMPDIR");

	if (!p->config->dry_run) {
		int r = remove_tree_at(p->s->dir_fd, "repair.tmp"); /* of one that was cut off */
		if (r == 0)
			r = text_printf(&p->work_dir, "%s/repair.tmp", p->s->dir);
		return r < 0 ? r : io_mkdir_p(p->work_dir, 0700);
	}
	int r = text_printf(
		&p->work_dir, "%s/cpgfs-repair.XXXXXX", tmp && tmp[0] == '/' ? tmp : "/var/tmp");
	return r < 0 ? r : mkdtemp(p->work_dir) ? 0 : -errno;
}

static void remove_work_dir(struct repair *p)
{
	if (p->work_dir && remove_tree_at(AT_FDCWD, p->work_dir) < 0)
		(void)0; /* the next repair removes it; it holds copies only */
	free(steal_ptr(p->work_dir));
}

/* ---- whose is it? ---------------------------------------------------------------------------- */

static int refuse_other(struct repair *p, const char *theirs)
{
	store_say(p->message,
		"the cache directory %s belongs to another bucket, prefix or endpoint (%s), not to "
		"%s; "
		"nothing was changed: repair it with that address, or give another --cache-dir",
		p->s->dir, theirs, p->config->identity);
	return -EXDEV;
}

static int check_whose(struct repair *p)
{
	const struct sources *s = &p->sources;
	const char *given = p->config->identity, *whose = s->index_identity;

	if (s->format != UINT64_MAX && s->format > FORMAT_VERSION) {
		store_say(p->message,
			"the cache directory %s was written by a newer cpgfs (format %" PRIu64
			"); nothing was changed: repair it with that version",
			p->s->dir, s->format);
		return -EPROTO;
	}
	if (s->index_is_foreign && !given) {
		store_say(p->message,
			"the index in %s is of another cache (%s) than the rest of it (%s); "
			"nothing was "
			"changed: put it back where it came from, or name the address that the "
			"data is "
			"for: cpgfs repair --cache-dir DIR [--endpoint URL] s3://BUCKET/PREFIX",
			p->s->dir, s->index_identity, s->witness_identity);
		return -EXDEV;
	}
	if (s->witness_identity[0])
		whose = s->witness_identity;
	if (given && whose[0] && !identity_is(given, whose))
		return refuse_other(p, whose);
	if (given && !whose[0])
		whose = given;
	if (!whose[0]) {
		store_say(p->message,
			"nothing in %s tells any more which bucket it is for; nothing was changed: "
			"say it, "
			"as for the mount: cpgfs repair --cache-dir DIR [--endpoint URL] "
			"s3://BUCKET/PREFIX",
			p->s->dir);
		return -EINVAL;
	}
	return text_copy(p->report->identity, whose, sizeof(p->report->identity)) ? 0
										  : -ENAMETOOLONG;
}

static void say_damage(struct repair *p)
{
	const struct sources *s = &p->sources;
	const char *index =
		s->tree_sound ? "the index is whole" : "parts of the index cannot be read";
	const char *journal = "the journal is whole";

	if (!s->has_index)
		index = "the index is missing";
	else if (s->index_is_foreign)
		index = "the index is of another cache and is not used";
	else if (!s->meta_known)
		index = "the index cannot be read";
	if (!s->has_journal)
		journal = "the journal is missing";
	else if (s->meta_known && s->journal_epoch > s->epoch)
		journal = "the index is older than the journal";
	else if (s->records_lost)
		journal = "records of the journal are lost";
	else if (s->tree_sound)
		journal = "the journal is damaged, but held nothing that the index lacks";
	snprintf(p->report->damage, sizeof(p->report->damage), "%s; %s%s", index, journal,
		s->has_witness ? ""
			       : "; there is no second record (witness) of names and checksums");
}

/* ---- installing ------------------------------------------------------------------------------ */

static int keep(struct repair *p, const char *name, const char *when)
{
	char to[128];

	if (!exists(p, name))
		return 0;
	int len = snprintf(to, sizeof(to), "%s.damaged-%s", name, when);
	for (unsigned n = 1; exists(p, to) && n < 100; n++)
		snprintf(to + len, sizeof(to) - (size_t)len, "-%u", n);
	if (renameat(p->s->dir_fd, name, p->s->dir_fd, to) < 0)
		return -errno;
	if (strcmp(name, "index") == 0)
		snprintf(p->report->kept_index, sizeof(p->report->kept_index), "%s/%s", p->s->dir,
			to);
	return 0;
}

static int new_journal(struct repair *p)
{
	struct journal j = {.fd = -1};
	int r = journal_open(&j, p->s->dir_fd);

	if (r == 0)
		r = journal_void(&j);
	if (r == 0)
		r = io_fsync(j.fd);
	journal_close(&j);
	return r;
}

/* index.ready is whole: from here on any number of tries comes to the same end. */
static int install(struct repair *p)
{
	char now[32];
	int r = 0;

	time_format_iso8601(clock_wall_ns(), now);
	for (char *c = now; (c = strchr(c, ':'));)
		memmove(c, c + 1, strlen(c));
	if (journal_is_used(p->s->dir_fd))
		r = keep(p, "journal", now);
	if (r == 0)
		r = keep(p, "index", now);
	if (r == 0)
		r = keep(p, "witness", now);
	if (r == 0)
		r = new_journal(p);
	if (r == 0)
		r = io_fsync(p->s->dir_fd);
	if (r == 0 && renameat(p->s->dir_fd, "index.ready", p->s->dir_fd, "index") < 0)
		r = -errno;
	return r < 0 ? r : io_fsync(p->s->dir_fd);
}

/* What was only in the page cache so far is on disk before the new index says it is. */
static int make_ready(struct repair *p)
{
	int r = io_syncfs(p->s->dir_fd);

	if (r == 0 && renameat(p->s->dir_fd, "repair.tmp/index", p->s->dir_fd, "index.ready") < 0)
		r = -errno;
	return r < 0 ? r : io_fsync(p->s->dir_fd);
}

static int make_data_dirs(struct repair *p)
{
	for (int sub = -1; sub < 256; sub++) {
		char path[32] = "data";
		if (sub >= 0)
			snprintf(path, sizeof(path), "data/%02x", (unsigned)sub);
		if (mkdirat(p->s->dir_fd, path, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int make_anew(struct repair *p)
{
	int r = rebuild(p);

	if (r == 0)
		r = orphans_look(p);
	if (r == 0)
		r = rebuild_end(p);
	if (r < 0 || p->config->dry_run)
		return r;
	r = make_data_dirs(p);
	if (r == 0)
		r = make_ready(p);
	if (r == 0)
		r = orphans_move(p);
	return r < 0 ? r : install(p);
}

static int ready_open(struct repair *p)
{
	cleanup_free char *path = NULL;
	int r = text_printf(&path, "%s/index.ready", p->s->dir);

	return r < 0 ? r : index_open(&p->s->index, path);
}

static void ready_close(struct repair *p)
{
	index_close(&p->s->index);
	free(steal_ptr(p->s->index.path)); /* the next one has another */
}

/* Whose the index is that an earlier repair made, and what is in it: what that repair said is gone. */
static int look_at_ready(struct repair *p)
{
	struct store_repair_report *report = p->report;
	struct store_counts counts;
	int r;

	{
		with_lock(&p->s->lock);
		r = meta_get_text(&p->s->index, "identity", report->identity, sizeof(report->identity));
	}
	if (r == 0 && p->config->identity && !identity_is(p->config->identity, report->identity))
		return refuse_other(p, report->identity);
	if (r == 0)
		r = store_counts(p->s, STORE_ROOT_INO, &counts);
	if (r < 0)
		return r;
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++)
		report->files += counts.files[s];
	report->incomplete = counts.files[FILE_INCOMPLETE];
	report->torn = counts.files[FILE_TORN];
	report->lost = counts.files[FILE_LOST];
	report->as_before =
		counts.files[FILE_FAILED] + counts.files[FILE_CONFLICT] + counts.held[HELD_NAME];
	return 0;
}

/* A repair that was cut off while it installed goes on; then all is looked at as usual. */
static int finish_earlier(struct repair *p)
{
	if (p->config->dry_run || !exists(p, "index.ready"))
		return 0;
	int r = ready_open(p);
	if (r == 0)
		r = look_at_ready(p);
	if (r == 0)
		r = remove_tree_at(p->s->dir_fd, "repair.tmp");
	if (r == 0)
		r = orphans_of_ready(p);
	ready_close(p);
	if (r == 0)
		r = install(p);
	p->report->was_damaged = true;
	snprintf(p->report->damage, sizeof(p->report->damage),
		"an earlier repair was cut off, and is finished now");
	return r;
}

static int repair(struct repair *p)
{
	int r = open_dir(p);

	if (r == 0)
		r = store_take_lock(p->s, 0, p->message);
	if (r == 0)
		r = store_boot_id(p->config->boot_id, p->s->boot_id);
	if (r == 0)
		p->s->disk_seq = store_disk_seq(p->config->disk_seq, p->s->dir_fd);
	if (r == 0)
		r = finish_earlier(p);
	if (r == 0)
		r = sources_look(p);
	if (r == 0)
		r = check_whose(p);
	if (r == 0)
		r = make_work_dir(p);
	if (r == 0)
		r = evidence_gather(p);
	if (r < 0)
		return r;
	if (!p->sources.sound)
		say_damage(p);
	p->report->was_damaged |= !p->sources.sound;
	if (!p->sources.sound)
		return make_anew(p);
	r = orphans_look(p);
	return r == 0 && !p->config->dry_run ? orphans_move(p) : r;
}

int store_repair(const struct store_repair_config *config, struct store_repair_report *ret,
	char **ret_message)
{
	struct store_config store = {.dir = config->dir};
	struct repair p = {.config = config, .report = ret, .message = ret_message};

	*ret = (struct store_repair_report){0};
	*ret_message = NULL;
	p.s = store_alloc(&store);
	if (!p.s)
		return -ENOMEM;
	int r = repair(&p);
	evidence_close(&p);
	index_close(&p.s->index);
	remove_work_dir(&p);
	store_free(p.s);
	if (r < 0)
		store_say(ret_message,
			"repairing the cache in %s failed: %s; nothing of it was deleted: mend the "
			"disk (is "
			"it full?) and repair again",
			config->dir, strerror(-r));
	return r;
}
