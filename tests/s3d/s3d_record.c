/*
 * record - one line of objects.tsv: an object put, or a key deleted.
 *
 *   P key place size mtime_ns modified_ms etag crc64 checksum_kind checksum owner acl part_sizes
 *     headers
 *   D key
 *
 * tab-separated; texts percent-encoded (but for `/`), so that a line is a line.
 */
#include "s3d_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void record_text(struct buf *line, const char *text)
{
	buf_char(line, '\t');
	uri_encode(line, text, true);
}

void record_format_put(struct buf *line, const struct object *object)
{
	buf_char(line, 'P');
	record_text(line, object->key);
	buf_printf(line, "\t%d\t%llu\t%lld\t%lld", object->place,
		(unsigned long long)object->size_bytes, (long long)object->file_mtime_ns,
		(long long)object->modified_ms);
	record_text(line, object->etag);
	buf_printf(line, "\t%016llx\t%d", (unsigned long long)object->crc64,
		object->checksum_kind);
	record_text(line, object->checksum);
	record_text(line, object->owner);
	record_text(line, object->acl);
	record_text(line, object->part_sizes);
	record_text(line, object->headers);
	buf_char(line, '\n');
}

static char *record_next_text(char **rest)
{
	char *field = strsep(rest, "\t"), *text;

	if (!field || uri_decode(field, strlen(field), false, &text))
		return NULL;
	return text;
}

static int64_t record_next_number(char **rest)
{
	char *field = strsep(rest, "\t");
	int64_t v;

	return str_to_i64(field, &v) ? -1 : v;
}

/* 0 unless it is a value of the enumeration that ends with `last`. */
static unsigned record_next_enum(char **rest, unsigned last)
{
	int64_t v = record_next_number(rest);

	return v < 0 || v > (int64_t)last ? 0 : (unsigned)v;
}

static void record_take(char **rest, char **field)
{
	char *text = record_next_text(rest);

	if (text) {
		free(*field);
		*field = text;
	}
}

static void record_copy(char **rest, char *field, size_t size)
{
	AUTO(free_str) char *text = record_next_text(rest);

	snprintf(field, size, "%s", text ? text : "");
}

void record_format_delete(struct buf *line, const char *key)
{
	buf_char(line, 'D');
	record_text(line, key);
	buf_char(line, '\n');
}

static struct object *record_parse_put(char *rest)
{
	AUTO(free_str) char *key = record_next_text(&rest);
	struct object *object;
	char *crc;

	if (!key || !*key)
		return NULL;
	object = object_create(key);
	object->place = record_next_enum(&rest, PLACE_NOWHERE);
	object->size_bytes = (uint64_t)record_next_number(&rest);
	object->file_mtime_ns = record_next_number(&rest);
	object->modified_ms = record_next_number(&rest);
	record_copy(&rest, object->etag, sizeof(object->etag));
	crc = strsep(&rest, "\t");
	object->crc64 = crc ? strtoull(crc, NULL, 16) : 0;
	object->checksum_kind = record_next_enum(&rest, DIGEST_CRC64NVME);
	record_copy(&rest, object->checksum, sizeof(object->checksum));
	record_take(&rest, &object->owner);
	record_take(&rest, &object->acl);
	record_take(&rest, &object->part_sizes);
	record_take(&rest, &object->headers);
	return object;
}

int record_apply(struct index *index, char *line)
{
	AUTO(free_str) char *key = NULL;
	struct object *object;

	if (str_starts(line, "P\t")) {
		object = record_parse_put(line + 2);
		if (!object)
			return -EINVAL;
		index_insert(index, object);
		return 0;
	}
	if (!str_starts(line, "D\t"))
		return -EINVAL;
	line += 2;
	key = record_next_text(&line);
	if (!key)
		return -EINVAL;
	(void)index_remove(index, key); /* it need not be there */
	return 0;
}

int record_file_trim(int dir_fd, const char *name)
{
	AUTO(close_fd) int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC);
	struct stat st;
	off_t end;
	char c = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	for (end = st.st_size; end > 0; end--) {
		if (pread(fd, &c, 1, end - 1) != 1)
			return -EIO;
		if (c == '\n')
			break;
	}
	if (end == st.st_size)
		return 0;
	return ftruncate(fd, end) < 0 ? -errno : 0;
}
