/*
 * store_xattr - extended attributes of inodes, and small settings of other rooms.
 */
#include "store_private.h"

#include <sys/xattr.h>

#define XATTR_VALUE_MAX 65536
#define XATTR_LIST_MAX 65536

static int xattr_check(struct store *s, uint64_t ino, const char *name)
{
	struct record r;
	if (!name[0] || strlen(name) > STORE_NAME_MAX)
		return name[0] ? -ERANGE : -EINVAL;
	return record_get(s, ino, &r);
}

int store_xattr_set(struct store *s, uint64_t ino, const char *name, const void *value, size_t len,
	int flags)
{
	if (len > XATTR_VALUE_MAX)
		return -E2BIG;
	with_lock(&s->lock);
	int r = xattr_check(s, ino, name);
	if (r < 0)
		return r;
	struct ikey k = ikey_ino_name(ino, name);
	struct bytes old;
	r = index_get(&s->index, TABLE_XATTR, &k, &old);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && (flags & XATTR_CREATE))
		return -EEXIST;
	if (r == -ENOENT && (flags & XATTR_REPLACE))
		return -ENODATA;
	op_begin(s);
	op_put(s, TABLE_XATTR, &k, value, len);
	return op_commit(s);
}

ssize_t store_xattr_get(struct store *s, uint64_t ino, const char *name, void *value, size_t size)
{
	with_lock(&s->lock);
	int r = xattr_check(s, ino, name);
	if (r < 0)
		return r;
	struct ikey k = ikey_ino_name(ino, name);
	struct bytes v;
	r = index_get(&s->index, TABLE_XATTR, &k, &v);
	if (r < 0)
		return r == -ENOENT ? -ENODATA : r;
	if (size && v.len > size)
		return -ERANGE;
	if (size && v.len)
		memcpy(value, v.data, v.len);
	return (ssize_t)v.len;
}

ssize_t store_xattr_list(struct store *s, uint64_t ino, char *list, size_t size)
{
	struct ikey from = ikey_ino(ino);
	struct record record;
	size_t total = 0;
	with_lock(&s->lock);
	int r = record_get(s, ino, &record);
	if (r < 0)
		return r;
	cleanup_cursor struct index_cursor c;
	r = index_seek(&s->index, TABLE_XATTR, &from, false, &c);
	for (; r == 0 && c.key.len > 8 && get_be64(c.key.data) == ino; r = index_next(&c)) {
		size_t len = c.key.len - 8;
		if (size && total + len + 1 > size)
			return -ERANGE;
		if (total + len + 1 > XATTR_LIST_MAX)
			return -E2BIG;
		if (size) {
			memcpy(list + total, (const char *)c.key.data + 8, len);
			list[total + len] = '\0';
		}
		total += len + 1;
	}
	return r < 0 && r != -ENOENT ? r : (ssize_t)total;
}

int store_xattr_remove(struct store *s, uint64_t ino, const char *name)
{
	with_lock(&s->lock);
	int r = xattr_check(s, ino, name);
	if (r < 0)
		return r;
	struct ikey k = ikey_ino_name(ino, name);
	struct bytes v;
	r = index_get(&s->index, TABLE_XATTR, &k, &v);
	if (r < 0)
		return r == -ENOENT ? -ENODATA : r;
	op_begin(s);
	op_del(s, TABLE_XATTR, &k);
	return op_commit(s);
}

int store_setting_set(struct store *s, const char *name, const char *value)
{
	struct ikey k = ikey_text(name);
	with_lock(&s->lock);
	op_begin(s);
	if (value)
		op_put(s, TABLE_SETTING, &k, value, strlen(value));
	else
		op_del(s, TABLE_SETTING, &k);
	return op_commit(s);
}

static int setting_copy(struct bytes v, char *out, size_t size)
{
	if (v.len >= size)
		return -ERANGE;
	memcpy(out, v.data, v.len);
	out[v.len] = '\0';
	return 0;
}

int store_setting_get(struct store *s, const char *name, char *out, size_t size)
{
	struct ikey k = ikey_text(name);
	struct bytes v;
	with_lock(&s->lock);
	int r = index_get(&s->index, TABLE_SETTING, &k, &v);
	return r < 0 ? r : setting_copy(v, out, size);
}

int store_setting_next(
	struct store *s, const char *prefix, char name[STORE_NAME_MAX + 1], char *out, size_t size)
{
	struct ikey from = ikey_text(name[0] ? name : prefix);
	size_t prefix_len = strlen(prefix);
	with_lock(&s->lock);
	cleanup_cursor struct index_cursor c;
	int r = index_seek(&s->index, TABLE_SETTING, &from, name[0] != '\0', &c);
	if (r < 0)
		return r;
	if (c.key.len < prefix_len || memcmp(c.key.data, prefix, prefix_len) != 0)
		return -ENOENT;
	if (c.key.len > STORE_NAME_MAX)
		return -EUCLEAN;
	r = setting_copy(c.value, out, size);
	if (r == 0) {
		memcpy(name, c.key.data, c.key.len);
		name[c.key.len] = '\0';
	}
	return r;
}
