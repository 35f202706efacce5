/*
 * store_orphans - data files that no file of the index needs: moved to orphans/DATE/ under the name
 * they had, as far as anything tells it, with a list. They are nobody's then; a person copies what
 * is wanted into the mount again, and removes the rest.
 *
 * They go before a new index is installed: what is still in data/ then belongs to it. A repair that
 * is cut off meanwhile goes on with what the new index says.
 */
#include "store_repair.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <sys/stat.h>

#define PATH_MAX_BYTES 4096

struct orphans {
	struct repair *repair;
	bool moves;   /* else it only looks */
	char dir[64]; /* in the cache directory; "" until the first */
	FILE *list;
};

int label_put(struct repair *p, uint64_t ino, const char *why, const char *path)
{
	cleanup_buf struct buf b = {0};
	struct ikey k = ikey_ino(ino);
	struct testimony label = {.number = 1};

	buf_add(&b, why, strlen(why) + 1);
	buf_add_text(&b, path);
	label.value = (struct bytes){b.data, b.len};
	int r = buf_error(&b);
	return r < 0 ? r : evidence_put(p, EVIDENCE_LABEL, (struct bytes){k.data, k.len}, &label);
}

/* ---- which ----------------------------------------------------------------------------------- */

/* 1, 0 or an error: what could not be asked for is no orphan. */
static int has_entry(struct repair *p, enum table t, uint64_t ino)
{
	struct ikey k = ikey_ino(ino);
	struct testimony what;
	int r = evidence_get(p, t, &k, &what);

	return r == -ENOENT ? 0 : r < 0 ? r : !what.gone;
}

/* Has the sound index a place for it, or will the next start unlink it? */
static int known_to_sound(struct repair *p, uint64_t ino)
{
	int known = has_entry(p, TABLE_INODE, ino);

	return known ? known : has_entry(p, TABLE_GRAVE, ino);
}

static int known_to_new(struct repair *p, uint64_t ino, uint64_t data_bytes)
{
	struct ikey k = ikey_ino(ino);
	cleanup_free struct record *record = malloc(sizeof(*record));
	struct bytes v;

	with_lock(&p->s->lock);
	int r = record ? index_get(&p->s->index, TABLE_INODE, &k, &v) : -ENOMEM;
	if (r == 0)
		r = record_decode(v, ino, record);
	if (r != 0)
		return r == -ENOENT ? 0 : r;
	return record->i.attr.type == STORE_FILE && !is_leftover(record, data_bytes);
}

static int is_known(struct repair *p, uint64_t ino, uint64_t data_bytes)
{
	return p->sources.sound ? known_to_sound(p, ino) : known_to_new(p, ino, data_bytes);
}

static int label_of_ready(struct repair *p, uint64_t ino, struct buf *why, struct buf *path)
{
	with_lock(&p->s->lock);
	int r = path_get(p->s, ino, path);

	buf_add_text(why, r == 0 ? "perhaps another version than the one that the bucket holds"
				 : "nothing tells what it was");
	return r == -ENOENT ? 0 : r;
}

static int label_get(struct repair *p, uint64_t ino, struct buf *why, struct buf *path)
{
	struct ikey k = ikey_ino(ino);
	struct testimony label;
	int r = p->evidence.env ? evidence_get(p, EVIDENCE_LABEL, &k, &label) : -ENODATA;

	if (r == -ENODATA)
		return label_of_ready(p, ino, why, path);
	if (r == -ENOENT || (r == 0 && label.value.len == 0))
		buf_add_text(why, "nothing tells what it was");
	if (r < 0 || label.value.len == 0)
		return r == -ENOENT ? 0 : r;
	const char *text = label.value.data;
	size_t len = strnlen(text, label.value.len);
	buf_add(why, text, len);
	if (len < label.value.len)
		buf_add(path, text + len + 1, label.value.len - len - 1);
	return 0;
}

/* ---- where to -------------------------------------------------------------------------------- */

static int make_list(struct orphans *o)
{
	char now[32], *end;
	cleanup_free char *path = NULL;
	struct repair *p = o->repair;

	if (o->dir[0])
		return 0;
	time_format_iso8601(clock_wall_ns(), now);
	for (char *c = now; (c = strchr(c, ':'));)
		memmove(c, c + 1, strlen(c));
	end = o->dir + snprintf(o->dir, sizeof(o->dir), "orphans/%s", now);
	if (mkdirat(p->s->dir_fd, "orphans", 0700) < 0 && errno != EEXIST)
		return -errno;
	for (unsigned n = 1; mkdirat(p->s->dir_fd, o->dir, 0700) < 0; n++) {
		if (errno != EEXIST || n > 100)
			return -errno;
		snprintf(end, (size_t)(o->dir + sizeof(o->dir) - end), "-%u", n);
	}
	snprintf(
		p->report->orphans_dir, sizeof(p->report->orphans_dir), "%s/%s", p->s->dir, o->dir);
	int r = text_printf(&path, "%s/LIST.tsv", p->report->orphans_dir);
	if (r < 0)
		return r;
	o->list = fopen(path, "we");
	if (!o->list ||
		setvbuf(o->list, NULL, _IOLBF, 0) != 0) /* one that is cut off tells of all */
		return o->list ? -ENOMEM : -errno;
	fputs("file\tsize_bytes\tchanged_at\twhy\tpath\n", o->list);
	return 0;
}

/* "a/b/c" below the orphans' folder; levels that are in the way (a file) end it. */
static int make_levels(struct repair *p, char *path)
{
	for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		int r = mkdirat(p->s->dir_fd, path, 0700) < 0 && errno != EEXIST ? -errno : 0;
		*slash = '/';
		if (r < 0)
			return r;
	}
	return 0;
}

static int try_move(struct repair *p, const char *from, char *to)
{
	int r = make_levels(p, to);

	if (r == 0 && renameat2(p->s->dir_fd, from, p->s->dir_fd, to, RENAME_NOREPLACE) < 0)
		r = -errno;
	return r;
}

/* What a damaged record calls its name may lead anywhere. */
static bool leads_out(const char *path)
{
	cleanup_buf struct buf whole = {0};

	buf_printf(&whole, "/%s/", path);
	return buf_error(&whole) < 0 || strstr(buf_text(&whole), "/../") != NULL;
}

static int list_add(
	struct orphans *o, const char *to, const struct stat *st, const char *why, const char *path)
{
	cleanup_buf struct buf line = {0};
	char when[32];

	time_format_iso8601((int64_t)st->st_mtim.tv_sec * NS_PER_S, when);
	text_escape(&line, to + strlen(o->dir) + 1);
	buf_printf(&line, "\t%lld\t%s\t%s\t", (long long)st->st_size, when, why);
	text_escape(&line, path);
	buf_add_char(&line, '\n');
	if (buf_error(&line) < 0)
		return buf_error(&line);
	return fputs(buf_text(&line), o->list) < 0 || fflush(o->list) != 0 ? -errno : 0;
}

/* In the list first: one that cannot be listed stays where the next repair finds it. */
static int list_and_move(struct orphans *o, const char *from, char *to, const struct stat *st,
	const char *why, const char *path)
{
	off_t listed = ftello(o->list);
	int r = listed < 0 ? -errno : list_add(o, to, st, why, path);

	if (r == 0)
		r = try_move(o->repair, from, to);
	if (r < 0 && listed >= 0) { /* a line too many says nothing wrong: its file is not there */
		clearerr(o->list);
		if (ftruncate(fileno(o->list), listed) == 0)
			(void)fseeko(o->list, listed, SEEK_SET);
	}
	return r;
}

/* Under its name, if that can be; else by its number. */
static int move(struct orphans *o, uint64_t ino, const struct stat *st, const char *why,
	const char *path, char to[PATH_MAX_BYTES])
{
	char from[64];
	int r = -EINVAL;

	data_path(ino, from);
	if (path[0] && !leads_out(path) &&
		snprintf(to, PATH_MAX_BYTES, "%s/%s", o->dir, path) < PATH_MAX_BYTES)
		r = list_and_move(o, from, to, st, why, path);
	if (r == 0)
		return 0;
	snprintf(to, PATH_MAX_BYTES, "%s/unnamed/%016" PRIx64, o->dir, ino);
	return list_and_move(o, from, to, st, why, path);
}

/* One that was lent bears a mark instead of a time (store_lent.c): what is copied back from here
 * would get that. Its last change is not younger than that of its entry. */
static int give_time(struct repair *p, uint64_t ino, struct stat *st)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, st->st_ctim};
	char path[64];

	if (!lent_is_marked(st))
		return 0;
	st->st_mtim = st->st_ctim;
	data_path(ino, path);
	return utimensat(p->s->dir_fd, path, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static int take_one(struct orphans *o, uint64_t ino, struct stat *st)
{
	struct repair *p = o->repair;
	cleanup_buf struct buf why = {0}, path = {0};
	char to[PATH_MAX_BYTES];

	int r = label_get(p, ino, &why, &path);
	if (r == 0 && (buf_error(&why) < 0 || buf_error(&path) < 0))
		r = -ENOMEM;
	if (r < 0)
		return r;
	if (!o->moves) {
		p->report->orphans++;
		p->report->orphan_bytes += (uint64_t)st->st_blocks * 512;
		if (p->config->note)
			p->config->note(p->config->user, buf_text(&path), buf_text(&why));
		return 0;
	}
	r = make_list(o);
	if (r == 0)
		r = give_time(p, ino, st);
	return r < 0 ? r : move(o, ino, st, buf_text(&why), buf_text(&path), to);
}

static int take_entry(struct orphans *o, int dir_fd, const char *name)
{
	uint8_t raw[8];
	struct stat st;

	if (strlen(name) != 16 || hex_decode(name, 16, raw) < 0 ||
		fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return 0; /* no data file: somebody else's */
	uint64_t ino = get_be64(raw);
	if (!(ino & STORE_INO_FROM_BUCKET) && ino >= o->repair->next_ino)
		o->repair->next_ino = ino + 1;
	int known = is_known(o->repair, ino, (uint64_t)st.st_size);
	return known ? (known < 0 ? known : 0) : take_one(o, ino, &st);
}

static int take_folder(struct orphans *o, unsigned sub)
{
	char path[32];
	cleanup_fd int fd = -1;

	snprintf(path, sizeof(path), "data/%02x", sub);
	int r = io_openat(o->repair->s->dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	DIR *d = fdopendir(fd);
	if (!d)
		return -errno;
	int dir_fd = steal_fd(&fd);
	struct dirent *e;
	while (r == 0 && (e = readdir(d)))
		r = take_entry(o, dir_fd, e->d_name);
	closedir(d);
	return r;
}

static int end_list(struct orphans *o)
{
	if (!o->list)
		return 0;
	int r = fflush(o->list) != 0 || fsync(fileno(o->list)) < 0 ? -errno : 0;
	fclose(o->list);
	return r < 0 ? r : io_syncfs(o->repair->s->dir_fd);
}

static int take_all(struct repair *p, bool moves)
{
	struct orphans o = {.repair = p, .moves = moves};
	int r = 0;

	for (unsigned sub = 0; r == 0 && sub < 256; sub++)
		r = take_folder(&o, sub);
	int e = end_list(&o);
	return r < 0 ? r : e;
}

int orphans_look(struct repair *p)
{
	return take_all(p, false);
}

int orphans_move(struct repair *p)
{
	return p->report->orphans ? take_all(p, true) : 0;
}

int orphans_of_ready(struct repair *p)
{
	int r = orphans_look(p);

	return r < 0 ? r : orphans_move(p);
}
