/*
 * remote_names - the names of one folder: records in an arena, offsets in name order.
 *
 * A record is size (8), last modified (8), flags, etag length, name length (1 each), then etag and
 * name, without padding: about 100 bytes a name. Changes of one name move 4-byte offsets only, so
 * that a plate uploaded into a folder of 100,000 names costs microseconds a file. Records that are
 * no longer pointed at are reclaimed when they make up half of the arena.
 */
#include "remote_names.h"

#define RECORD_HEAD_BYTES 19
#define RECORD_DIR 0x1u

static void *grow_array(void *data, size_t *cap, size_t want, size_t item_bytes)
{
	size_t more = *cap ? *cap : 16;
	void *grown;

	while (more < want)
		more += more / 2 + 1;
	grown = realloc(data, more * item_bytes);
	if (grown)
		*cap = more;
	return grown;
}

void remote_names_release(struct remote_names *n)
{
	free(n->arena);
	free(n->at);
	*n = (struct remote_names){0};
}

static const uint8_t *record(const struct remote_names *n, size_t index)
{
	return n->arena + n->at[index];
}

static bool record_is_dir(const uint8_t *rec)
{
	return rec[16] & RECORD_DIR;
}

static const char *record_name(const uint8_t *rec, size_t *ret_len)
{
	*ret_len = rec[18];
	return (const char *)rec + RECORD_HEAD_BYTES + rec[17];
}

static size_t record_bytes(const uint8_t *rec)
{
	return RECORD_HEAD_BYTES + (size_t)rec[17] + rec[18];
}

static void record_write(uint8_t *rec, const char *name, size_t name_len, bool is_dir,
	const struct s3_object *object)
{
	size_t etag_len = object ? strlen(object->etag) : 0;

	put_le64(rec, object ? object->size_bytes : 0);
	put_le64(rec + 8, object ? (uint64_t)object->last_modified_ns : 0);
	rec[16] = is_dir ? RECORD_DIR : 0;
	rec[17] = (uint8_t)etag_len;
	rec[18] = (uint8_t)name_len;
	if (etag_len > 0)
		memcpy(rec + RECORD_HEAD_BYTES, object->etag, etag_len);
	memcpy(rec + RECORD_HEAD_BYTES + etag_len, name, name_len);
}

/* A new record at the arena's end. */
static int arena_add(struct remote_names *n, const char *name, size_t name_len, bool is_dir,
	const struct s3_object *object, uint32_t *ret_at)
{
	size_t len = RECORD_HEAD_BYTES + (object ? strlen(object->etag) : 0) + name_len;

	check(name_len > 0 && name_len <= STORE_NAME_MAX);
	if (n->arena_len + len > UINT32_MAX)
		return -EFBIG;
	if (n->arena_len + len > n->arena_cap) {
		uint8_t *grown = grow_array(n->arena, &n->arena_cap, n->arena_len + len, 1);

		if (!grown)
			return -ENOMEM;
		n->arena = grown;
	}
	record_write(n->arena + n->arena_len, name, name_len, is_dir, object);
	*ret_at = (uint32_t)n->arena_len;
	n->arena_len += len;
	return 0;
}

/* Room for one more offset. */
static int reserve_offset(struct remote_names *n)
{
	uint32_t *grown;

	if (n->count < n->cap)
		return 0;
	grown = grow_array(n->at, &n->cap, n->count + 1, sizeof(*n->at));
	if (!grown)
		return -ENOMEM;
	n->at = grown;
	return 0;
}

int remote_names_append(struct remote_names *n, const char *name, size_t name_len, bool is_dir,
	const struct s3_object *object)
{
	int r = reserve_offset(n);

	if (r == 0)
		r = arena_add(n, name, name_len, is_dir, is_dir ? NULL : object, &n->at[n->count]);
	if (r < 0)
		return r;
	n->count++;
	return 0;
}

static int compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int d = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (d != 0)
		return d;
	return a_len < b_len ? -1 : a_len > b_len;
}

static int compare_records(const uint8_t *a, const uint8_t *b)
{
	size_t a_len, b_len;
	const char *a_name = record_name(a, &a_len), *b_name = record_name(b, &b_len);

	return compare_names(a_name, a_len, b_name, b_len);
}

/* By name; of one name folders first, then the latest record first. */
static int compare_for_sort(const void *pa, const void *pb, void *arena)
{
	uint32_t a_at = *(const uint32_t *)pa, b_at = *(const uint32_t *)pb;
	const uint8_t *a = (uint8_t *)arena + a_at, *b = (uint8_t *)arena + b_at;
	int d = compare_records(a, b);

	if (d != 0)
		return d;
	if (record_is_dir(a) != record_is_dir(b))
		return record_is_dir(a) ? -1 : 1;
	return a_at > b_at ? -1 : a_at < b_at;
}

static bool is_strictly_sorted(const struct remote_names *n)
{
	for (size_t i = 1; i < n->count; i++) {
		if (compare_records(record(n, i - 1), record(n, i)) >= 0)
			return false;
	}
	return true;
}

static void drop_repeated(struct remote_names *n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n->count; i++) {
		const uint8_t *rec = record(n, i);
		const uint8_t *last = kept > 0 ? n->arena + n->at[kept - 1] : NULL;

		if (last && compare_records(last, rec) == 0) {
			n->dead_bytes += record_bytes(rec);
			n->unshowable += record_is_dir(last) && !record_is_dir(rec);
			continue;
		}
		n->at[kept++] = n->at[i];
	}
	n->count = kept;
}

/* What room is left over from growing goes back. */
static void shrink(struct remote_names *n)
{
	uint8_t *arena = n->arena_len > 0 ? realloc(n->arena, n->arena_len) : NULL;
	uint32_t *at = n->count > 0 ? realloc(n->at, n->count * sizeof(*n->at)) : NULL;

	if (arena) {
		n->arena = arena;
		n->arena_cap = n->arena_len;
	}
	if (at) {
		n->at = at;
		n->cap = n->count;
	}
}

void remote_names_finish(struct remote_names *n)
{
	shrink(n);
	if (is_strictly_sorted(n))
		return;
	qsort_r(n->at, n->count, sizeof(*n->at), compare_for_sort, n->arena);
	drop_repeated(n);
}

/* First index whose name is >= name (or > name with `beyond`). */
static size_t lower_bound(
	const struct remote_names *n, const char *name, size_t name_len, bool beyond)
{
	size_t low = 0, high = n->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2, len;
		const char *there = record_name(record(n, mid), &len);
		int d = compare_names(there, len, name, name_len);

		if (d < 0 || (beyond && d == 0))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool is_at(const struct remote_names *n, size_t index, const char *name, size_t name_len)
{
	size_t len;
	const char *there;

	if (index >= n->count)
		return false;
	there = record_name(record(n, index), &len);
	return compare_names(there, len, name, name_len) == 0;
}

bool remote_names_is_dir(const struct remote_names *n, size_t index)
{
	return record_is_dir(record(n, index));
}

void remote_names_entry(const struct remote_names *n, size_t index, struct remote_entry *ret)
{
	const uint8_t *rec = record(n, index);
	size_t len;
	const char *name = record_name(rec, &len);

	memcpy(ret->name, name, len);
	ret->name[len] = '\0';
	ret->is_dir = record_is_dir(rec);
	ret->object.size_bytes = get_le64(rec);
	ret->object.last_modified_ns = (int64_t)get_le64(rec + 8);
	memcpy(ret->object.etag, rec + RECORD_HEAD_BYTES, rec[17]);
	ret->object.etag[rec[17]] = '\0';
}

bool remote_names_find(const struct remote_names *n, const char *name, struct remote_entry *ret)
{
	size_t len = strlen(name), i = lower_bound(n, name, len, false);

	if (!is_at(n, i, name, len))
		return false;
	remote_names_entry(n, i, ret);
	return true;
}

size_t remote_names_after(const struct remote_names *n, const char *after)
{
	return *after ? lower_bound(n, after, strlen(after), true) : 0;
}

/* Copies the living records to a new arena; without memory for that it stays as it is. */
static void reclaim(struct remote_names *n)
{
	struct remote_names fresh = {0};
	size_t live = n->arena_len - n->dead_bytes;

	if (n->dead_bytes < 65536 || n->dead_bytes < live)
		return;
	fresh.arena = malloc(live ? live : 1);
	if (!fresh.arena)
		return;
	for (size_t i = 0; i < n->count; i++) {
		const uint8_t *rec = record(n, i);

		memcpy(fresh.arena + fresh.arena_len, rec, record_bytes(rec));
		n->at[i] = (uint32_t)fresh.arena_len;
		fresh.arena_len += record_bytes(rec);
	}
	free(n->arena);
	n->arena = fresh.arena;
	n->arena_len = fresh.arena_len;
	n->arena_cap = live ? live : 1;
	n->dead_bytes = 0;
}

static bool record_equals(const uint8_t *rec, bool is_dir, const struct s3_object *object)
{
	if (record_is_dir(rec) || is_dir)
		return record_is_dir(rec) == is_dir;
	return get_le64(rec) == object->size_bytes &&
	       (int64_t)get_le64(rec + 8) == object->last_modified_ns &&
	       strlen(object->etag) == rec[17] &&
	       memcmp(rec + RECORD_HEAD_BYTES, object->etag, rec[17]) == 0;
}

static int replace_at(struct remote_names *n, size_t index, const char *name, size_t len,
	bool is_dir, const struct s3_object *object)
{
	size_t old_bytes = record_bytes(record(n, index));
	uint32_t at;
	int r = arena_add(n, name, len, is_dir, object, &at);

	if (r < 0)
		return r;
	n->at[index] = at;
	n->dead_bytes += old_bytes;
	reclaim(n);
	return 1;
}

static int insert_at(struct remote_names *n, size_t index, const char *name, size_t len,
	bool is_dir, const struct s3_object *object)
{
	uint32_t at;
	int r = reserve_offset(n);

	if (r == 0)
		r = arena_add(n, name, len, is_dir, object, &at);
	if (r < 0)
		return r;
	memmove(n->at + index + 1, n->at + index, (n->count - index) * sizeof(*n->at));
	n->at[index] = at;
	n->count++;
	return 1;
}

int remote_names_put(
	struct remote_names *n, const char *name, bool is_dir, const struct s3_object *object)
{
	size_t len = strlen(name), i = lower_bound(n, name, len, false);

	if (is_dir)
		object = NULL;
	if (!is_at(n, i, name, len))
		return insert_at(n, i, name, len, is_dir, object);
	if (record_is_dir(record(n, i)) || record_equals(record(n, i), is_dir, object))
		return 0;
	return replace_at(n, i, name, len, is_dir, object);
}

bool remote_names_remove(struct remote_names *n, const char *name)
{
	size_t len = strlen(name), i = lower_bound(n, name, len, false);

	if (!is_at(n, i, name, len) || record_is_dir(record(n, i)))
		return false;
	n->dead_bytes += record_bytes(record(n, i));
	memmove(n->at + i, n->at + i + 1, (n->count - i - 1) * sizeof(*n->at));
	n->count--;
	reclaim(n);
	return true;
}
