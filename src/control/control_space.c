/*
 * control_space - what fills the cache, what of it goes when and why, and why writers wait.
 *
 * Files by state are counted by their sizes: all of what is not safe in the bucket is here. What can
 * be evicted counts by its bytes that are here, and so does what was deleted: the rest.
 */
#include "control_private.h"

#include <inttypes.h>

#define NEARLY_FULL_PERCENT 90

static bool is_clean(enum file_state s)
{
	return s == FILE_UPLOADED || s == FILE_VERIFIED || s == FILE_GONE;
}

void control_fill(const struct control_facts *f, struct control_fill *ret)
{
	uint64_t rest = f->space.used_bytes;

	*ret = (struct control_fill){.clean_bytes = f->space.evictable_bytes};
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++) {
		if (!is_clean(s) && s != FILE_DELETING)
			ret->bytes[s] = f->counts.bytes[s];
	}
	ret->bytes[FILE_LOST] = 0; /* that is what they lost */
	ret->bytes[FILE_OPEN] += f->space.growing_bytes;
	rest -= ret->clean_bytes < rest ? ret->clean_bytes : rest;
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++)
		rest -= ret->bytes[s] < rest ? ret->bytes[s] : rest;
	ret->bytes[FILE_DELETING] =
		rest < f->counts.bytes[FILE_DELETING] ? rest : f->counts.bytes[FILE_DELETING];
}

static const char *when_it_goes(enum file_state s)
{
	if (s == FILE_DELETING)
		return "goes when --delete-delay is over";
	if (file_state_exit(s) == 2)
		return "goes when it is uploaded";
	return *file_state_remedy(s) ? file_state_remedy(s) : "stays";
}

static void write_row(struct buf *out, const char *name, uint64_t bytes, const char *what)
{
	char size[24];

	if (!bytes)
		return;
	size_format(bytes, size);
	buf_printf(out, "    %-12s %10s  %s\n", name, size, what);
}

static bool is_nearly_full(const struct store_space *space)
{
	return space->used_bytes >= space->size_bytes / 100 * NEARLY_FULL_PERCENT;
}

static void write_limit(const struct store_space *space, struct buf *out)
{
	char free_size[24], limit[24];
	bool by_disk = !space->cache_size_bytes || space->size_bytes < space->cache_size_bytes;

	size_format(space->disk_free_bytes, free_size);
	size_format(by_disk ? space->min_free_bytes : space->cache_size_bytes, limit);
	if (by_disk)
		buf_printf(out, "the disk has %s free, and --min-free keeps %s of it", free_size, limit);
	else
		buf_printf(out, "the cache is full (--cache-size %s)", limit);
}

static void write_why(const struct control_facts *f, struct buf *out)
{
	if (f->fs.writers_waiting > 0)
		buf_printf(out, "%u writers wait for room: ", f->fs.writers_waiting);
	write_limit(&f->space, out);
	if (f->fs.writers_waiting > 0)
		buf_add_text(out, f->upload.paused_reason[0]
				? "; it comes with uploads, which are paused, see above"
				: "; it comes with each upload");
	buf_add_text(out, ". What fills it:\n");
}

void control_write_fill(const struct control_facts *f, struct buf *out)
{
	struct control_fill fill;

	if (f->fs.writers_waiting == 0 && !(f->space.used_bytes && is_nearly_full(&f->space)))
		return;
	control_fill(f, &fill);
	write_why(f, out);
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++)
		write_row(out, file_state_text(s), fill.bytes[s], when_it_goes(s));
	write_row(out, "clean", fill.clean_bytes, "safe in the bucket, or removed there by others: goes when room is wanted");
}

json_t *control_json_fill(const struct control_facts *f)
{
	struct control_fill fill;
	json_t *o = json_object();
	int r = o ? 0 : -ENOMEM;

	control_fill(f, &fill);
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT && r == 0; s++) {
		if (fill.bytes[s] && json_object_set_new(o, file_state_text(s),
					     json_integer((json_int_t)fill.bytes[s])) < 0)
			r = -ENOMEM;
	}
	if (r == 0)
		r = json_object_set_new(o, "clean", json_integer((json_int_t)fill.clean_bytes));
	if (r == 0)
		return o;
	json_decref(o);
	return NULL;
}
