/*
 * control_plate_map - what each well of a plate has, from the files below its folder.
 */
#include "control_plates.h"

#define BATCH 128

static bool counts(const struct store_inode *inode)
{
	return inode->attr.type == STORE_FILE && inode->attr.state != FILE_DELETING &&
	       inode->attr.state != FILE_NONE && inode->held != HELD_JUNK;
}

enum well_share control_share_of(enum file_state state, enum held_kind held)
{
	if (state == FILE_VERIFIED || state == FILE_GONE)
		return SHARE_VERIFIED;
	if (state == FILE_UPLOADED)
		return SHARE_UPLOADED;
	if (state == FILE_HELD)
		return held == HELD_TEMPORARY ? SHARE_COPIED : SHARE_PERSON;
	return file_state_exit(state) == 3 ? SHARE_PERSON : SHARE_COPIED;
}

static int add_file(struct plate_map *m, struct plate *plate, const struct store_inode *inode)
{
	enum well_share share = control_share_of(inode->attr.state, inode->held);
	struct image_name image;
	int r;

	m->files[share]++;
	m->bytes[share] += inode->attr.size_bytes;
	if (!image_name_parse(inode->name, &image) || image.thumbnail)
		return 0;
	r = plate_add(plate, &image);
	if (r < 0)
		return r == -ERANGE ? 0 : r; /* no well of a plate */
	m->vendor = image.vendor;
	m->wells[image.row][image.col].images[share]++;
	return 0;
}

static int add_files(struct control *c, uint64_t folder, struct plate_map *m, struct plate *plate,
	struct store_inode *inode)
{
	struct store_walk cursor = {0};
	uint64_t inos[BATCH];
	int n, r = 0;

	while ((n = store_walk_next(c->config.store, folder, &cursor, inos, BATCH)) > 0) {
		for (int i = 0; i < n && r == 0; i++) {
			int e = store_inode(c->config.store, inos[i], inode);

			if (e == 0 && counts(inode))
				r = add_file(m, plate, inode);
			else if (e < 0 && e != -ENOENT) /* gone meanwhile */
				r = e;
		}
		if (r < 0)
			return r;
	}
	return n;
}

static void free_plate(struct plate **plate)
{
	plate_destroy(*plate);
}

int control_plate_map(struct control *c, const char *folder, struct plate_map *ret)
{
	cleanup_with(free_plate) struct plate *plate = NULL;
	cleanup_free struct store_inode *inode = calloc(1, sizeof(*inode));
	const char *slash = strrchr(folder, '/');
	struct plate_pin as_seen = {0};
	struct store_attr attr;
	int r = inode ? store_resolve(c->config.store, folder, &attr) : -ENOMEM;

	*ret = (struct plate_map){0};
	if (r == 0 && attr.type != STORE_DIR)
		r = -ENOTDIR;
	if (r == 0)
		r = plate_create(&plate);
	if (r == 0)
		r = add_files(c, attr.ino, ret, plate, inode);
	if (r == 0)
		r = plate_sum(plate, &as_seen, &ret->facts);
	if (r < 0)
		return r;
	(void)text_copy(ret->name, slash ? slash + 1 : folder, sizeof(ret->name));
	ret->per_well = ret->facts.sites * ret->facts.channels * ret->facts.stacks;
	return 0;
}
