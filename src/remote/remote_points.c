/*
 * remote_points - where listings of large folders may be cut, kept over mounts.
 *
 * A listing is fetched several pages at a time where its names are known (remote_scan.c). Listings
 * themselves are kept in memory only; so that the first one after a mount need not guess, some
 * names of each large folder are written down when the room ends: a line a folder, its prefix and
 * the names, separated by tabs. The file is a hint: cut at any key a listing is as complete, and
 * one that is missing or damaged only makes it slower.
 */
#include "remote_points.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER "cpgfs listing points 1\n"
#define FILE_MAX_BYTES ((size_t)32 * MIB) /* of the longest names, escaped: less */

static void folder_release(struct points_folder *f)
{
	free(f->prefix);
	buf_release(&f->names);
}

void remote_points_release(struct remote_points *p)
{
	for (size_t i = 0; i < p->count; i++)
		folder_release(&p->folders[i]);
	free(p->folders);
	*p = (struct remote_points){0};
}

/* Takes it; the oldest goes if there are too many. */
static void folder_add(struct remote_points *p, struct points_folder *f)
{
	if (!p->folders)
		p->folders = calloc(POINTS_FOLDERS_MAX, sizeof(*p->folders));
	if (!p->folders) {
		folder_release(f);
		return;
	}
	if (p->count == POINTS_FOLDERS_MAX) {
		folder_release(&p->folders[0]);
		memmove(p->folders, p->folders + 1, --p->count * sizeof(*p->folders));
	}
	p->folders[p->count++] = *f;
}

static void folder_forget(struct remote_points *p, const char *prefix)
{
	for (size_t i = 0; i < p->count; i++) {
		if (strcmp(p->folders[i].prefix, prefix) != 0)
			continue;
		folder_release(&p->folders[i]);
		memmove(p->folders + i, p->folders + i + 1, (--p->count - i) * sizeof(*p->folders));
		return;
	}
}

void remote_points_learn(
	struct remote_points *p, const char *prefix, const struct remote_names *names)
{
	size_t every = names->count / (POINTS_MAX + 1);
	struct points_folder f = {0};
	struct remote_entry entry;

	every = every > POINTS_EVERY ? every : POINTS_EVERY;
	if (names->count <= every + every / 2)
		return;
	f.prefix = text_dup(prefix);
	if (!f.prefix)
		return;
	for (size_t i = every; i + every / 2 < names->count; i += every) {
		remote_names_entry(names, i, &entry);
		if (!entry.is_dir)
			buf_add(&f.names, entry.name, strlen(entry.name) + 1);
	}
	folder_forget(p, prefix);
	p->changed = true;
	if (buf_error(&f.names) < 0 || f.names.len == 0)
		folder_release(&f);
	else
		folder_add(p, &f);
}

void remote_points_split(
	const struct remote_points *p, const char *prefix, struct remote_scan *scan)
{
	char key[KEY_MAX_BYTES + STORE_NAME_MAX + 2];

	for (size_t i = 0; i < p->count; i++) {
		const struct points_folder *f = &p->folders[i];

		if (strcmp(f->prefix, prefix) != 0)
			continue;
		for (size_t at = 0; at < f->names.len; at += strlen(f->names.data + at) + 1) {
			snprintf(key, sizeof(key), "%s%s", prefix, f->names.data + at);
			if (remote_scan_split(scan, key) < 0)
				return; /* without memory for it the listing is slower */
		}
	}
}

/* ---- the file ---- */

static int read_file(const char *path, char **ret)
{
	cleanup_fd int fd = -1;
	struct stat st;
	ssize_t n;
	int r = io_open(path, O_RDONLY, 0, &fd);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > FILE_MAX_BYTES)
		return -EUCLEAN;
	*ret = malloc((size_t)st.st_size + 1);
	if (!*ret)
		return -ENOMEM;
	n = io_pread(fd, *ret, (size_t)st.st_size, 0);
	if (n < 0)
		return (int)n;
	(*ret)[n] = '\0';
	return strlen(*ret) == (size_t)n ? 0 : -EUCLEAN;
}

static int read_names(char *at, struct buf *ret)
{
	unsigned count = 0;
	char *name;

	while ((name = strsep(&at, "\t")) != NULL) {
		if (text_unescape(name) < 0 || !*name || strlen(name) > STORE_NAME_MAX ||
			++count > POINTS_MAX)
			return -EUCLEAN;
		buf_add(ret, name, strlen(name) + 1);
	}
	return count == 0 ? -EUCLEAN : buf_error(ret);
}

static int read_folder(struct remote_points *p, char *line)
{
	char *at = line, *prefix = strsep(&at, "\t");
	struct points_folder f = {0};
	int r = -EUCLEAN;

	if (text_unescape(prefix) == 0 && strlen(prefix) <= KEY_MAX_BYTES &&
		p->count < POINTS_FOLDERS_MAX)
		r = read_names(at, &f.names);
	if (r == 0)
		f.prefix = text_dup(prefix);
	if (r == 0 && f.prefix) {
		folder_add(p, &f);
		return 0;
	}
	folder_release(&f);
	return r < 0 ? r : -ENOMEM;
}

static int read_folders(struct remote_points *p, char *text)
{
	int r = 0;

	while (*text && r == 0) {
		char *end = strchr(text, '\n');

		if (!end)
			return -EUCLEAN;
		*end = '\0';
		r = read_folder(p, text);
		text = end + 1;
	}
	return r;
}

int remote_points_load(struct remote_points *p, const char *path)
{
	cleanup_free char *text = NULL;
	int r = read_file(path, &text);

	if (r < 0)
		return r;
	if (!text || !text_starts(text, HEADER))
		return -EUCLEAN;
	r = read_folders(p, text + strlen(HEADER));
	if (r < 0)
		remote_points_release(p);
	return r;
}

static void write_folder(struct buf *out, const struct points_folder *f)
{
	text_escape(out, f->prefix);
	for (size_t at = 0; at < f->names.len; at += strlen(f->names.data + at) + 1) {
		buf_add_char(out, '\t');
		text_escape(out, f->names.data + at);
	}
	buf_add_char(out, '\n');
}

static int write_file(const char *path, const struct buf *text)
{
	cleanup_fd int fd = -1;
	int r = io_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd);

	return r < 0 ? r : io_pwrite(fd, text->data, text->len, 0);
}

int remote_points_save(struct remote_points *p, const char *path)
{
	cleanup_buf struct buf text = {0};
	cleanup_free char *fresh = NULL;
	int r;

	if (!p->changed)
		return 0;
	buf_init(&text, FILE_MAX_BYTES);
	buf_add_text(&text, HEADER);
	for (size_t i = 0; i < p->count; i++)
		write_folder(&text, &p->folders[i]);
	r = buf_error(&text);
	if (r == 0)
		r = text_printf(&fresh, "%s.new", path);
	if (r == 0)
		r = write_file(fresh, &text);
	if (r == 0 && rename(fresh, path) < 0)
		r = -errno;
	if (r < 0 && fresh)
		(void)unlink(fresh); /* it may not be there */
	if (r == 0)
		p->changed = false;
	return r;
}
