/*
 * control_files - the generated files of `.cpgfs/`, in one table: name, rights, who writes them.
 */
#include "control_private.h"

#define CONTENT_MAX_BYTES (64 * MIB)

static const struct file {
	const char *name;
	uint32_t mode;
	int (*write)(struct control *c, struct buf *out); /* its content … */
	const struct control_source *source; /* … or where it comes from; neither: write-only */
	int (*take)(struct control *c, const char *data, size_t len); /* what is written to it */
} files[] = {
	{"control", 0600, .take = control_command_write},
	{"credentials", 0600, .take = control_credentials_write},
	{"failed.tsv", 0444, .source = &control_failed},
	{"layout.tsv", 0444, .source = &control_layout},
	{"metrics", 0444, control_write_metrics},
	{"plates.tsv", 0444, control_write_plates},
	{"queue.tsv", 0444, .source = &control_queue},
	{"rejected.tsv", 0444, .source = &control_rejected},
	{"status", 0444, control_write_status},
	{"status.json", 0444, control_write_json},
	{"uploaded.tsv", 0444, .source = &control_uploaded},
};

static struct fs_virtual_attr attr_of(const struct control *c, size_t index)
{
	return (struct fs_virtual_attr){.id = ID_FILES + index,
		.mode = files[index].mode,
		.mtime_ns = files[index].take ? c->started_ns : clock_wall_ns()};
}

int control_file_find(const char *name, struct fs_virtual_attr *ret, struct control *c)
{
	for (size_t i = 0; i < array_len(files); i++) {
		if (strcmp(files[i].name, name) == 0) {
			*ret = attr_of(c, i);
			return 0;
		}
	}
	return -ENOENT;
}

static const struct file *by_id(uint64_t id)
{
	return id >= ID_FILES && id < ID_FILES + array_len(files) ? &files[id - ID_FILES] : NULL;
}

int control_file_attr(uint64_t id, struct fs_virtual_attr *ret, struct control *c)
{
	if (!by_id(id))
		return -ESTALE;
	*ret = attr_of(c, id - ID_FILES);
	return 0;
}

int control_files_list(struct control *c, control_add_fn *add, void *arg)
{
	int r = 0;

	for (size_t i = 0; i < array_len(files) && r == 0; i++) {
		struct fs_virtual_attr attr = attr_of(c, i);

		r = add(arg, files[i].name, &attr);
	}
	return r;
}

const struct control_source *control_file_source(uint64_t id)
{
	const struct file *f = by_id(id);

	return f ? f->source : NULL;
}

int control_file_read(struct control *c, uint64_t id, struct buf *out)
{
	const struct file *f = by_id(id);
	int r;

	if (!f)
		return -ESTALE;
	if (!f->write)
		return -EACCES; /* write-only */
	out->max = CONTENT_MAX_BYTES;
	r = f->write(c, out);
	return r < 0 ? r : buf_error(out);
}

int control_file_take(struct control *c, uint64_t id, const char *data, size_t len)
{
	const struct file *f = by_id(id);

	return f && f->take ? f->take(c, data, len) : -EPERM;
}
