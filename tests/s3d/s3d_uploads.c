/*
 * uploads - unfinished multipart uploads and their parts, on disk and in memory.
 *
 *   DIR/.s3d/<bucket>/uploads/<id>/upload.tsv   key owner acl headers initiated_ms algorithm
 *   DIR/.s3d/<bucket>/uploads/<id>/00001        data of part 1
 *   DIR/.s3d/<bucket>/uploads/<id>/parts.tsv    number size modified_ms etag crc64 checksum_kind
 *                                               checksum; the last line of a number counts
 *
 * so that uploads outlive the server. Texts are percent-encoded.
 */
#include "s3d_uploads.h"
#include "s3d_record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

struct uploads {
	pthread_mutex_t lock;
	int dir_fd;
	struct upload *first; /* guarded by lock */
};

static pthread_mutex_t uploads_creation = PTHREAD_MUTEX_INITIALIZER;

static void uploads_unlock(struct uploads **uploads)
{
	pthread_mutex_unlock(&(*uploads)->lock);
}

static struct uploads *uploads_lock(struct uploads *uploads)
{
	pthread_mutex_lock(&uploads->lock);
	return uploads;
}

struct upload *upload_create(const char *key)
{
	struct upload *upload = mem_zalloc(sizeof(*upload));

	upload->key = str_dup(key);
	upload->owner = str_dup("");
	upload->acl = str_dup("");
	upload->headers = str_dup("");
	upload->initiated_ms = time_now_ms();
	upload->dir_fd = -1;
	return upload;
}

void upload_destroy(struct upload *upload)
{
	if (upload->dir_fd >= 0)
		close(upload->dir_fd);
	free(upload->key);
	free(upload->owner);
	free(upload->acl);
	free(upload->headers);
	free(upload->parts);
	free(upload);
}

/* --- on disk --- */

static int file_append(int dir_fd, const char *name, const struct buf *line)
{
	AUTO(close_fd) int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
		0666);

	if (fd < 0)
		return -errno;
	return write(fd, line->data, line->len) == (ssize_t)line->len ? 0 : -EIO;
}

static char *file_read_text(int dir_fd, const char *name)
{
	AUTO(close_fd) int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	struct buf text = {0};
	char data[4096];
	ssize_t n;

	while (fd >= 0 && (n = read(fd, data, sizeof(data))) > 0)
		buf_add(&text, data, (size_t)n);
	return buf_steal(&text);
}

static void line_text(struct buf *line, const char *text)
{
	uri_encode(line, text, true);
	buf_char(line, '\t');
}

static char *field_text(char **rest)
{
	char *field = strsep(rest, "\t"), *text;

	if (!field || uri_decode(field, strlen(field), false, &text))
		return str_dup("");
	return text;
}

static int64_t field_number(char **rest)
{
	char *field = strsep(rest, "\t");
	int64_t v;

	return str_to_i64(field, &v) ? 0 : v;
}

static enum digest_kind field_kind(char **rest)
{
	int64_t v = field_number(rest);

	return v < 0 || v > DIGEST_CRC64NVME ? DIGEST_NONE : (enum digest_kind)v;
}

static int upload_save(const struct upload *upload)
{
	AUTO(buf_release) struct buf line = {0};

	line_text(&line, upload->key);
	line_text(&line, upload->owner);
	line_text(&line, upload->acl);
	line_text(&line, upload->headers);
	buf_printf(&line, "%lld\t%d\n", (long long)upload->initiated_ms, upload->algorithm);
	return file_append(upload->dir_fd, "upload.tsv", &line);
}

static int part_save(const struct upload *upload, const struct part *part)
{
	AUTO(buf_release) struct buf line = {0};

	buf_printf(&line, "%u\t%llu\t%lld\t", part->number, (unsigned long long)part->size_bytes,
		(long long)part->modified_ms);
	line_text(&line, part->etag);
	buf_printf(&line, "%016llx\t%d\t", (unsigned long long)part->crc64, part->checksum_kind);
	uri_encode(&line, part->checksum, true);
	buf_char(&line, '\n');
	return file_append(upload->dir_fd, "parts.tsv", &line);
}

static void upload_set_part(struct upload *upload, const struct part *part)
{
	size_t i = 0;

	while (i < upload->parts_len && upload->parts[i].number < part->number)
		i++;
	if (i < upload->parts_len && upload->parts[i].number == part->number) {
		upload->parts[i] = *part;
		return;
	}
	upload->parts =
		mem_realloc(upload->parts, (upload->parts_len + 1) * sizeof(*upload->parts));
	memmove(&upload->parts[i + 1], &upload->parts[i],
		(upload->parts_len - i) * sizeof(*upload->parts));
	upload->parts[i] = *part;
	upload->parts_len++;
}

static void upload_load_part(struct upload *upload, char *line)
{
	struct part part = {.number = (unsigned)field_number(&line)};
	AUTO(free_str) char *etag = NULL;
	AUTO(free_str) char *checksum = NULL;
	char *crc;

	part.size_bytes = (uint64_t)field_number(&line);
	part.modified_ms = field_number(&line);
	etag = field_text(&line);
	crc = strsep(&line, "\t");
	part.crc64 = crc ? strtoull(crc, NULL, 16) : 0;
	part.checksum_kind = field_kind(&line);
	checksum = field_text(&line);
	snprintf(part.etag, sizeof(part.etag), "%s", etag);
	snprintf(part.checksum, sizeof(part.checksum), "%s", checksum);
	if (part.number)
		upload_set_part(upload, &part);
}

static void upload_load_parts(struct upload *upload)
{
	AUTO(free_str) char *text = NULL;
	char *rest, *line;

	(void)record_file_trim(upload->dir_fd, "parts.tsv"); /* the reading below stops there too */
	rest = text = file_read_text(upload->dir_fd, "parts.tsv");
	while ((line = strsep(&rest, "\n")) && rest)
		upload_load_part(upload, line);
}

static struct upload *upload_load(int dir_fd, const char *id)
{
	AUTO(free_str) char *text = file_read_text(dir_fd, "upload.tsv");
	AUTO(free_str) char *key = NULL;
	char *rest = text, *line = strsep(&rest, "\n");
	struct upload *upload;

	if (!rest || strlen(id) >= sizeof(upload->id))
		return NULL;
	key = field_text(&line);
	upload = upload_create(key);
	memcpy(upload->id, id, strlen(id) + 1);
	free(upload->owner);
	free(upload->acl);
	free(upload->headers);
	upload->owner = field_text(&line);
	upload->acl = field_text(&line);
	upload->headers = field_text(&line);
	upload->initiated_ms = field_number(&line);
	upload->algorithm = field_kind(&line);
	upload->dir_fd = dir_fd;
	upload_load_parts(upload);
	return upload;
}

/* --- the list --- */

static void uploads_insert_locked(struct uploads *uploads, struct upload *upload)
{
	struct upload **at = &uploads->first;

	for (; *at; at = &(*at)->next) {
		int order = strcmp((*at)->key, upload->key);

		if (order > 0 || (!order && (*at)->initiated_ms > upload->initiated_ms))
			break;
	}
	upload->next = *at;
	*at = upload;
}

static void uploads_load_locked(struct uploads *uploads)
{
	int fd = openat(uploads->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		struct upload *upload;
		int dir_fd;

		if (entry->d_name[0] == '.')
			continue;
		dir_fd = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		upload = dir_fd < 0 ? NULL : upload_load(dir_fd, entry->d_name);
		if (upload)
			uploads_insert_locked(uploads, upload);
		else
			close_fd(&dir_fd);
	}
	if (dir)
		closedir(dir);
}

struct uploads *uploads_of(struct bucket *bucket)
{
	struct uploads **slot = (struct uploads **)(void *)bucket_extra(bucket);

	pthread_mutex_lock(&uploads_creation);
	if (!*slot) {
		struct uploads *uploads = mem_zalloc(sizeof(*uploads));

		pthread_mutex_init(&uploads->lock, NULL);
		(void)mkdirat(bucket_meta_fd(bucket), "uploads", 0777); /* or the open fails */
		uploads->dir_fd = openat(bucket_meta_fd(bucket), "uploads",
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		uploads_load_locked(uploads);
		*slot = uploads;
	}
	pthread_mutex_unlock(&uploads_creation);
	return *slot;
}

void uploads_destroy_all(struct store *store)
{
	struct bucket *bucket;

	for (size_t i = 0; (bucket = store_bucket_at(store, i)); i++) {
		struct uploads *uploads = *bucket_extra(bucket);

		while (uploads && uploads->first) {
			struct upload *upload = uploads->first;

			uploads->first = upload->next;
			upload_destroy(upload);
		}
		if (uploads) {
			close_fd(&uploads->dir_fd);
			pthread_mutex_destroy(&uploads->lock);
		}
		free(uploads);
	}
}

static struct upload *uploads_find_locked(struct uploads *uploads, const char *id, const char *key)
{
	for (struct upload *upload = uploads->first; upload; upload = upload->next) {
		if (!strcmp(upload->id, id) && !strcmp(upload->key, key) && !upload->completing)
			return upload;
	}
	return NULL;
}

size_t uploads_count(struct bucket *bucket)
{
	AUTO(uploads_unlock) struct uploads *uploads = uploads_lock(uploads_of(bucket));
	size_t count = 0;

	for (const struct upload *upload = uploads->first; upload; upload = upload->next)
		count++;
	return count;
}

static int upload_make_folder(struct uploads *uploads, struct upload *upload)
{
	uint8_t random[16];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	hex_encode(random, sizeof(random), upload->id);
	if (mkdirat(uploads->dir_fd, upload->id, 0777) < 0)
		return -errno;
	upload->dir_fd = openat(uploads->dir_fd, upload->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return upload->dir_fd < 0 ? -errno : upload_save(upload);
}

int uploads_add(struct uploads *uploads, struct upload *upload, char ret_id[40])
{
	AUTO(uploads_unlock) struct uploads *locked = NULL;
	int r = upload_make_folder(uploads, upload);

	locked = uploads_lock(uploads);
	if (r) {
		upload_destroy(upload);
		return r;
	}
	memcpy(ret_id, upload->id, sizeof(upload->id));
	uploads_insert_locked(locked, upload);
	return 0;
}

int uploads_put_part(struct uploads *uploads, const char *id, const char *key,
	const struct part *part, struct temp *temp)
{
	AUTO(uploads_unlock) struct uploads *locked = uploads_lock(uploads);
	struct upload *upload = uploads_find_locked(locked, id, key);
	char name[16];
	int r;

	if (!upload)
		return -ENOENT;
	snprintf(name, sizeof(name), "%05u", part->number);
	r = temp_rename(temp, upload->dir_fd, name);
	if (!r)
		r = part_save(upload, part);
	if (!r)
		upload_set_part(upload, part);
	return r;
}

int uploads_algorithm(struct uploads *uploads, const char *id, const char *key,
	enum digest_kind *ret)
{
	AUTO(uploads_unlock) struct uploads *locked = uploads_lock(uploads);
	const struct upload *upload = uploads_find_locked(locked, id, key);

	if (!upload)
		return -ENOENT;
	*ret = upload->algorithm;
	return 0;
}

struct upload *uploads_take(struct uploads *uploads, const char *id, const char *key)
{
	AUTO(uploads_unlock) struct uploads *locked = uploads_lock(uploads);
	struct upload *upload = uploads_find_locked(locked, id, key);

	if (upload)
		upload->completing = true;
	return upload;
}

void uploads_return(struct uploads *uploads, struct upload *upload)
{
	AUTO(uploads_unlock) struct uploads *locked = uploads_lock(uploads);

	(void)locked;
	upload->completing = false;
}

static void upload_delete_files(const struct uploads *uploads, const struct upload *upload)
{
	char name[16];

	for (size_t i = 0; i < upload->parts_len; i++) {
		snprintf(name, sizeof(name), "%05u", upload->parts[i].number);
		(void)unlinkat(upload->dir_fd, name, 0); /* a sink has none */
	}
	(void)unlinkat(upload->dir_fd, "parts.tsv", 0);
	(void)unlinkat(upload->dir_fd, "upload.tsv", 0);
	(void)unlinkat(uploads->dir_fd, upload->id, AT_REMOVEDIR);
}

void uploads_remove(struct uploads *uploads, struct upload *upload)
{
	AUTO(uploads_unlock) struct uploads *locked = uploads_lock(uploads);
	struct upload **at = &locked->first;

	while (*at != upload)
		at = &(*at)->next;
	*at = upload->next;
	upload_delete_files(locked, upload);
	upload_destroy(upload);
}

const struct part *upload_part(const struct upload *upload, uint64_t number)
{
	for (size_t i = 0; i < upload->parts_len; i++) {
		if (upload->parts[i].number == number)
			return &upload->parts[i];
	}
	return NULL;
}

int upload_open_part(const struct upload *upload, unsigned number)
{
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "%05u", number);
	fd = openat(upload->dir_fd, name, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void uploads_walk(struct uploads *uploads, bool (*visit)(void *cls, const struct upload *upload),
	void *cls)
{
	AUTO(uploads_unlock) struct uploads *locked = uploads_lock(uploads);

	for (const struct upload *upload = locked->first; upload; upload = upload->next) {
		if (!visit(cls, upload))
			return;
	}
}

int uploads_look(struct uploads *uploads, const char *id, const char *key,
	void (*look)(void *cls, const struct upload *upload), void *cls)
{
	AUTO(uploads_unlock) struct uploads *locked = uploads_lock(uploads);
	const struct upload *upload = uploads_find_locked(locked, id, key);

	if (!upload)
		return -ENOENT;
	look(cls, upload);
	return 0;
}
