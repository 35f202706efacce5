/*
 * control_plates - the tree of `.cpgfs/plates/`, project/source/batch/plate.svg: folders are those
 * of the plates' folders in the mount, with the fixed names of the layout left out.
 *
 * An id is a hash of the path, with ID_PLATES_BIT; control_nodes remembers the path.
 */
#include <inttypes.h>

#include "control_plates.h"

#define BATCH 32

static const struct {
	const char *suffix;
	void (*draw)(const struct plate_map *m, struct buf *out);
} kinds[] = {
	{".svg", control_plate_svg},
	{".txt", control_plate_text},
};

/* A path below plates/, cut at its slashes. */
struct place {
	char path[KEY_MAX_BYTES + 2];
	const char *names[LAYOUT_PLATE_DEPTH];
	unsigned depth;
	int kind; /* index in kinds; -1: a folder */
};

/* -ENOENT: nothing can be there. */
static int place_parse(const char *path, struct place *ret)
{
	char *save = NULL;

	*ret = (struct place){.kind = -1};
	if (!text_copy(ret->path, path, sizeof(ret->path)))
		return -ENOENT;
	for (char *name = strtok_r(ret->path, "/", &save); name;
		name = strtok_r(NULL, "/", &save)) {
		if (ret->depth == LAYOUT_PLATE_DEPTH)
			return -ENOENT;
		ret->names[ret->depth++] = name;
	}
	if (ret->depth < LAYOUT_PLATE_DEPTH)
		return 0;
	for (size_t i = 0; i < array_len(kinds); i++) {
		char *name = (char *)ret->names[LAYOUT_PLATE_DEPTH - 1];

		if (text_ends(name, kinds[i].suffix) && strlen(name) > strlen(kinds[i].suffix)) {
			name[strlen(name) - strlen(kinds[i].suffix)] = '\0';
			ret->kind = (int)i;
		}
	}
	return ret->kind < 0 ? -ENOENT : 0;
}

/* The folder in the mount that a place stands for. */
static int folder_of(struct control *c, const struct place *p, struct buf *out)
{
	return c->config.layout ? layout_plate_folder(c->config.layout, p->names, p->depth, out)
				: -ENOENT;
}

static int attr_of(struct control *c, const char *path, struct fs_virtual_attr *ret)
{
	cleanup_buf struct buf folder = {0};
	struct store_attr attr;
	struct place p;
	int r = place_parse(path, &p);

	if (r == 0)
		r = folder_of(c, &p, &folder);
	if (r == 0)
		r = store_resolve(c->config.store, buf_text(&folder), &attr);
	if (r == 0 && attr.type != STORE_DIR)
		r = -ENOENT;
	if (r < 0)
		return r;
	*ret = (struct fs_virtual_attr){
		.id = (store_ino_of_key(path) & (ID_PLATES_BIT - 1)) | ID_PLATES_BIT,
		.is_dir = p.kind < 0,
		.mode = p.kind < 0 ? 0555 : 0444,
		.mtime_ns = p.kind < 0 ? c->started_ns : clock_wall_ns(),
	};
	return 0;
}

static int path_of(struct control *c, uint64_t id, char path[KEY_MAX_BYTES + 2])
{
	with_lock(&c->lock);
	if (id == ID_PLATES)
		path[0] = '\0';
	else if (!control_nodes_key_locked(c, id, path))
		return -ESTALE;
	return 0;
}

static int give_out(
	struct control *c, const char *folder, const char *name, struct fs_virtual_attr *ret)
{
	char path[KEY_MAX_BYTES + 2];
	int n = snprintf(path, sizeof(path), "%s%s%s", folder, folder[0] ? "/" : "", name);
	int r = n >= 0 && (size_t)n < sizeof(path) ? attr_of(c, path, ret) : -ENAMETOOLONG;

	if (r < 0)
		return r;
	with_lock(&c->lock);
	return control_nodes_put_locked(c, ret->id, path);
}

int control_plates_lookup(
	struct control *c, uint64_t dir_id, const char *name, struct fs_virtual_attr *ret)
{
	char folder[KEY_MAX_BYTES + 2];
	int r = path_of(c, dir_id, folder);

	return r < 0 ? r : give_out(c, folder, name, ret);
}

int control_plates_attr(struct control *c, uint64_t id, struct fs_virtual_attr *ret)
{
	char path[KEY_MAX_BYTES + 2];
	int r = path_of(c, id, path);

	return r < 0 ? r : attr_of(c, path, ret);
}

/* A folder of the mount is a folder here, or at the last level a picture of each kind. */
static int add_entry(struct control *c, const char *folder, bool plates, const char *name,
	control_add_fn *add, void *arg)
{
	int r = 0;

	for (size_t i = 0; i < (plates ? array_len(kinds) : 1) && r == 0; i++) {
		struct fs_virtual_attr attr;
		char shown[STORE_NAME_MAX + 8];

		snprintf(shown, sizeof(shown), "%s%s", name, plates ? kinds[i].suffix : "");
		if (strlen(shown) > STORE_NAME_MAX)
			continue; /* no name of a file is that long */
		r = give_out(c, folder, shown, &attr);
		if (r == 0)
			r = add(arg, shown, &attr);
		else if (r == -ENOENT || r == -ENAMETOOLONG)
			r = 0; /* gone meanwhile, or no name */
	}
	return r;
}

int control_plates_list(struct control *c, uint64_t dir_id, control_add_fn *add, void *arg)
{
	cleanup_free struct store_entry *entries = calloc(BATCH, sizeof(*entries));
	char path[KEY_MAX_BYTES + 2], after[STORE_NAME_MAX + 1] = "";
	cleanup_buf struct buf folder = {0};
	struct store_attr attr;
	struct place p = {0};
	int n = 0, r = entries ? path_of(c, dir_id, path) : -ENOMEM;

	if (r == 0)
		r = place_parse(path, &p);
	if (r == 0)
		r = folder_of(c, &p, &folder);
	if (r == 0)
		r = store_resolve(c->config.store, buf_text(&folder), &attr);
	while (r == 0 &&
		(n = store_readdir_folders(c->config.store, attr.ino, after, entries, BATCH)) > 0) {
		for (int i = 0; i < n && r == 0; i++)
			r = add_entry(c, path, p.depth + 1 == LAYOUT_PLATE_DEPTH, entries[i].name,
				add, arg);
		memcpy(after, entries[n - 1].name, sizeof(after));
	}
	if (r == -ENOENT && dir_id == ID_PLATES)
		return 0; /* no layout, or nothing there yet */
	return r < 0 ? r : n;
}

int control_plates_read(struct control *c, uint64_t id, struct buf *out)
{
	cleanup_free struct plate_map *map = calloc(1, sizeof(*map));
	cleanup_buf struct buf folder = {0};
	char path[KEY_MAX_BYTES + 2];
	struct place p;
	int r = map ? path_of(c, id, path) : -ENOMEM;

	if (r == 0)
		r = place_parse(path, &p);
	if (r == 0 && p.kind < 0)
		r = -EISDIR;
	if (r == 0)
		r = folder_of(c, &p, &folder);
	if (r == 0)
		r = control_plate_map(c, buf_text(&folder), map);
	if (r < 0)
		return r;
	kinds[p.kind].draw(map, out);
	return buf_error(out);
}

/* ---- plates.tsv: from the counters of the plates' folders, whatever is in them -------------- */

static void add_counts(
	const struct store_counts *counts, uint64_t files[SHARES], uint64_t bytes[SHARES])
{
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++) {
		enum well_share share = control_share_of(s, HELD_NOT);

		if (s == FILE_DELETING || s == FILE_HELD)
			continue;
		files[share] += counts->files[s];
		bytes[share] += counts->bytes[s];
	}
	files[SHARE_COPIED] += counts->held[HELD_TEMPORARY];
	files[SHARE_PERSON] += counts->held[HELD_NAME];
}

static int add_plate_row(struct control *c, const char *path, uint64_t ino, struct buf *out)
{
	uint64_t files[SHARES] = {0}, bytes[SHARES] = {0};
	struct store_counts counts;
	int r = store_counts(c->config.store, ino, &counts);

	if (r < 0)
		return r == -ENOENT ? 0 : r; /* gone meanwhile */
	add_counts(&counts, files, bytes);
	text_escape(out, path);
	for (size_t s = 0; s < SHARES; s++)
		buf_printf(out, "\t%" PRIu64 "\t%" PRIu64, files[s], bytes[s]);
	buf_add_char(out, '\n');
	return buf_error(out);
}

static int add_level(struct control *c, const char *path, struct buf *out);

static int add_child(struct control *c, const char *path, const struct store_entry *entry,
	bool plates, struct buf *out)
{
	cleanup_buf struct buf child = {0};

	buf_printf(&child, "%s%s%s", path, path[0] ? "/" : "", entry->name);
	if (buf_error(&child) < 0)
		return -ENOMEM;
	return plates ? add_plate_row(c, buf_text(&child), entry->attr.ino, out)
		      : add_level(c, buf_text(&child), out);
}

static int add_level(struct control *c, const char *path, struct buf *out)
{
	cleanup_free struct store_entry *entries = calloc(BATCH, sizeof(*entries));
	char after[STORE_NAME_MAX + 1] = "";
	cleanup_buf struct buf folder = {0};
	struct store_attr attr;
	struct place p;
	int n = 0, r = entries ? place_parse(path, &p) : -ENOMEM;

	if (r == 0)
		r = folder_of(c, &p, &folder);
	if (r == 0)
		r = store_resolve(c->config.store, buf_text(&folder), &attr);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* no such folder in this project */
	while (r == 0 &&
		(n = store_readdir_folders(c->config.store, attr.ino, after, entries, BATCH)) > 0) {
		for (int i = 0; i < n && r == 0; i++)
			r = add_child(c, path, &entries[i], p.depth + 1 == LAYOUT_PLATE_DEPTH, out);
		memcpy(after, entries[n - 1].name, sizeof(after));
	}
	return r < 0 ? r : n;
}

int control_write_plates(struct control *c, struct buf *out)
{
	buf_add_text(out, "plate\tverified\tverified_bytes\tuploaded\tuploaded_bytes\tcopied\t"
			  "copied_bytes\tneeds_person\tneeds_person_bytes\n");
	return c->config.layout ? add_level(c, "", out) : 0;
}
