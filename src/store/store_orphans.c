/*
 * store_orphans - data files that no file of the index needs: moved to orphans/DATE/ under the name
 * they had, as far as anything tells it, with a list. They are nobody's then; a person copies what
 * is wanted into the mount again, and removes the rest.
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

/* Has the sound index a place for it, or will the next start unlink it? */
static bool known_to_sound(struct repair *p, uint64_t ino)
{
	struct ikey k = ikey_ino(ino);
	struct testimony what;

	if (evidence_get(p, TABLE_INODE, &k, &what) == 0 && !what.gone)
		return true;
	return evidence_get(p, TABLE_GRAVE, &k, &what) == 0 && !what.gone;
}

static bool known_to_new(struct repair *p, uint64_t ino)
{
	struct ikey k = ikey_ino(ino);
	cleanup_free struct record *r = malloc(sizeof(*r));
	struct testimony label;
	struct bytes v;

	if (evidence_get(p, EVIDENCE_LABEL, &k, &label) == 0)
		return false;
	return r && index_get(&p->s->index, TABLE_INODE, &k, &v) == 0 &&
	       record_decode(v, ino, r) == 0 && r->i.attr.type == STORE_FILE;
}

static bool is_known(struct repair *p, uint64_t ino)
{
	return p->sources.sound ? known_to_sound(p, ino) : known_to_new(p, ino);
}

static void label_get(struct repair *p, uint64_t ino, struct buf *why, struct buf *path)
{
	struct ikey k = ikey_ino(ino);
	struct testimony label;

	if (evidence_get(p, EVIDENCE_LABEL, &k, &label) < 0 || label.value.len == 0) {
		buf_add_text(why, "nothing tells what it was");
		return;
	}
	const char *text = label.value.data;
	size_t len = strnlen(text, label.value.len);
	buf_add(why, text, len);
	if (len < label.value.len)
		buf_add(path, text + len + 1, label.value.len - len - 1);
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
	if (!o->list)
		return -errno;
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

/* Under its name, if that can be; else by its number. */
static int move(struct orphans *o, uint64_t ino, const char *path, char to[PATH_MAX_BYTES])
{
	char from[64];
	int r = -EINVAL;

	data_path(ino, from);
	if (path[0] && snprintf(to, PATH_MAX_BYTES, "%s/%s", o->dir, path) < PATH_MAX_BYTES)
		r = try_move(o->repair, from, to);
	if (r == 0)
		return 0;
	snprintf(to, PATH_MAX_BYTES, "%s/unnamed/%016" PRIx64, o->dir, ino);
	return try_move(o->repair, from, to);
}

static void list_add(
	struct orphans *o, const char *to, const struct stat *st, const char *why, const char *path)
{
	cleanup_buf struct buf line = {0};
	char when[32];

	time_format_iso8601((int64_t)st->st_mtim.tv_sec * NS_PER_S, when);
	text_escape(&line, to + strlen(o->dir) + 1);
	buf_printf(&line, "\t%lld\t%s\t%s\t", (long long)st->st_size, when, why);
	text_escape(&line, path);
	buf_add_char(&line, '\n');
	fputs(buf_text(&line), o->list);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static int take_one(struct orphans *o, uint64_t ino, const struct stat *st)
{
	struct repair *p = o->repair;
	cleanup_buf struct buf why = {0}, path = {0};
	char to[PATH_MAX_BYTES];

	label_get(p, ino, &why, &path);
	if (buf_error(&why) < 0 || buf_error(&path) < 0)
		return -ENOMEM;
	if (!o->moves) {
		p->report->orphans++;
		p->report->orphan_bytes += (uint64_t)st->st_blocks * 512;
		if (p->config->note)
			p->config->note(p->config->user, buf_text(&path), buf_text(&why));
		return 0;
	}
	int r = make_list(o);
	if (r == 0)
		r = move(o, ino, buf_text(&path), to);
	if (r == 0)
		list_add(o, to, st, buf_text(&why), buf_text(&path));
	return r;
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
	return is_known(o->repair, ino) ? 0 : take_one(o, ino, &st);
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
