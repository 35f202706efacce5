/*
 * cli_walk - see cli_walk.h.
 */
#include "cli_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

struct list {
	struct walk_entry *entries;
	size_t count, space;
};

static void list_free(struct list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free((char *)l->entries[i].name);
	free(l->entries);
}

static void dir_close(DIR **d)
{
	if (*d)
		(void)closedir(*d); /* only read */
}

/* As if folders ended with '/': "a.b" < "a/" < "a0". */
static int by_key(const void *a, const void *b)
{
	const struct walk_entry *x = a, *y = b;
	const unsigned char *p = (const unsigned char *)x->name,
			    *q = (const unsigned char *)y->name;
	int c, d;

	while (*p && *p == *q) {
		p++;
		q++;
	}
	c = *p ? *p : S_ISDIR(x->st.st_mode) ? '/' : 0;
	d = *q ? *q : S_ISDIR(y->st.st_mode) ? '/' : 0;
	return c - d;
}

static int list_add(struct list *l, int dir, const char *name)
{
	struct walk_entry *entry;

	if (l->count == l->space) {
		size_t space = l->space ? 2 * l->space : 256;
		struct walk_entry *grown = reallocarray(l->entries, space, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		l->entries = grown;
		l->space = space;
	}
	entry = &l->entries[l->count];
	if (fstatat(dir, name, &entry->st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno; /* gone since it was listed */
	entry->name = text_dup(name);
	if (!entry->name)
		return -ENOMEM;
	l->count++;
	return 0;
}

static int list_read(DIR *d, struct list *l)
{
	int status = 0;

	while (status == 0) {
		struct dirent *e;

		errno = 0;
		e = readdir(d);
		if (!e)
			return -errno;
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			status = list_add(l, dirfd(d), e->d_name);
	}
	return status;
}

struct walk {
	const struct walk_hooks *hooks;
	void *user;
	struct buf path;
	unsigned depth;
};

static int walk_folder(struct walk *w, int parent, const char *name);

static int walk_entry(struct walk *w, int dir, const struct walk_entry *entry)
{
	size_t len = w->path.len;
	int status;

	buf_printf(&w->path, "%s%s", len ? "/" : "", entry->name);
	status = buf_error(&w->path);
	if (status == 0 && S_ISDIR(entry->st.st_mode))
		status = walk_folder(w, dir, entry->name);
	else if (status == 0)
		status = w->hooks->file(w->user, dir, buf_text(&w->path), entry);
	w->path.len = len;
	w->path.data[len] = '\0';
	return status;
}

static int walk_list(struct walk *w, int dir, const struct list *l)
{
	int status = w->hooks->folder
			     ? w->hooks->folder(w->user, buf_text(&w->path), l->entries, l->count)
			     : 0;

	for (size_t i = 0; i < l->count && status == 0; i++)
		status = walk_entry(w, dir, &l->entries[i]);
	if (status == 0 && w->hooks->folder_end)
		status = w->hooks->folder_end(w->user, buf_text(&w->path));
	return status;
}

static int walk_folder(struct walk *w, int parent, const char *name)
{
	cleanup_with(list_free) struct list l = {0};
	cleanup_with(dir_close) DIR *d = NULL;
	/* only the top may be a link: what links lead to below it is not part of the plate */
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (w->depth ? O_NOFOLLOW : 0);
	int fd = w->depth < WALK_DEPTH_MAX ? openat(parent, name, flags) : -1;
	int status = fd < 0 ? (w->depth < WALK_DEPTH_MAX ? -errno : -ENAMETOOLONG) : 0;

	if (status == 0) {
		d = fdopendir(fd);
		status = d ? list_read(d, &l) : -errno;
		if (!d)
			close(fd);
	}
	if (status < 0 || !d)
		return w->depth ? w->hooks->unreadable(w->user, buf_text(&w->path), -status)
				: status;
	if (l.count > 0)
		qsort(l.entries, l.count, sizeof(*l.entries), by_key);
	w->depth++;
	status = walk_list(w, dirfd(d), &l);
	w->depth--;
	return status;
}

int cli_walk(const char *top, const char *path, const struct walk_hooks *hooks, void *user)
{
	struct walk w = {.hooks = hooks, .user = user};
	int status;

	buf_add_text(&w.path, path);
	status = buf_error(&w.path);
	if (status == 0)
		status = walk_folder(&w, AT_FDCWD, top);
	buf_release(&w.path);
	return status;
}
