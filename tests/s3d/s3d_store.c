/*
 * store - objects as plain files, their metadata beside them.
 *
 *   DIR/<bucket>/<key>              an object's data, wherever the key can be a path
 *   DIR/.s3d/<bucket>/odd/<name>    its data where the key cannot: an empty component (`a//b`, a
 *                                   leading or trailing `/`), `.` or `..`, a component beyond 255
 *                                   bytes, or a file where a folder must be (`a` beside `a/b`; the
 *                                   one that came second is the odd one). <name> is the key with
 *                                   everything but A-Z a-z 0-9 - . _ ~ as %XX (`/` is %2F, and a
 *                                   key that is only dots has %2E); if that is longer than 250
 *                                   bytes, `=` and the SHA-256 of the key in hex.
 *   DIR/.s3d/<bucket>/objects.tsv   metadata: one line per change (s3d_record.c), the last one of
 *                                   a key counts; compacted at start
 *   DIR/.s3d/<bucket>/uploads/      unfinished multipart uploads (s3d_uploads.c)
 *   DIR/.s3d/<bucket>/versions/     with --keep-versions: the data of every object that was ever put
 *                                   under any key, and versions.tsv: NAME<tab>encoded key
 *   DIR/.s3d/tmp/                   data before it is an object (s3d_temp.c); emptied at start
 *
 * A sorted index of all keys is in memory. Files that others change: GET, HEAD, a condition and
 * each entry of a listing page look at the file (size and mtime against the metadata); one that
 * changed gets a new ETag (MD5) and loses its metadata, one that is missing is gone. HEAD and GET
 * also find a file that was added; listings show it after a rescan (`POST /_s3d/rescan`, which
 * walks the tree) or that first access.
 */
#include "s3d_store.h"
#include "s3d_record.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ODD_NAME_MAX 250
#define BUCKETS_MAX 256

struct bucket {
	struct store *store;
	char *name;
	int dir_fd;
	int meta_fd;
	int odd_fd;
	int log_fd;
	int64_t created_ms;
	void *extra;
	struct index *index; /* guarded by the store's lock */
};

struct store {
	struct store_options options;
	char *root;
	int root_fd;
	int meta_fd;
	int tmp_fd;
	pthread_rwlock_t lock;
	unsigned scan;                       /* guarded by lock */
	struct bucket *buckets[BUCKETS_MAX]; /* guarded by lock; never removed */
	size_t buckets_len;
};

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static void bucket_unlock(struct bucket **bucket)
{
	if (*bucket)
		pthread_rwlock_unlock(&(*bucket)->store->lock);
}

static struct bucket *bucket_lock(struct bucket *bucket)
{
	pthread_rwlock_wrlock(&bucket->store->lock);
	return bucket;
}

static struct bucket *bucket_lock_shared(struct bucket *bucket)
{
	pthread_rwlock_rdlock(&bucket->store->lock);
	return bucket;
}

static int64_t stat_mtime_ns(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* --- keys and paths --- */

static bool key_is_path(const char *key)
{
	for (const char *part = key;; part++) {
		size_t len = strcspn(part, "/");

		if (!len || len > 255 || (len == 1 && part[0] == '.') ||
			(len == 2 && part[0] == '.' && part[1] == '.'))
			return false;
		part += len;
		if (!*part)
			return true;
	}
}

static char *key_odd_name(const char *key)
{
	struct buf name = {0};
	char hash[65];

	if (!strcmp(key, "."))
		return str_dup("%2E");
	if (!strcmp(key, ".."))
		return str_dup("%2E%2E");
	uri_encode(&name, key, false);
	if (name.len <= ODD_NAME_MAX)
		return buf_steal(&name);
	buf_release(&name);
	sha256_hex(key, strlen(key), hash);
	return str_printf("=%s", hash);
}

static int dir_make_parents(int dir_fd, const char *path)
{
	AUTO(free_str) char *folder = str_dup(path);

	for (char *slash = strchr(folder, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdirat(dir_fd, folder, 0777) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return 0;
}

static void dir_prune_parents(int dir_fd, const char *path)
{
	AUTO(free_str) char *folder = str_dup(path);

	for (char *slash = strrchr(folder, '/'); slash; slash = strrchr(folder, '/')) {
		*slash = '\0';
		if (unlinkat(dir_fd, folder, AT_REMOVEDIR) < 0)
			return;
	}
}

static int dir_open(int dir_fd, const char *name)
{
	int fd;

	if (mkdirat(dir_fd, name, 0777) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int object_open(const struct bucket *bucket, const struct object *object)
{
	AUTO(free_str) char *name = NULL;
	int fd;

	if (object->place == PLACE_PLAIN) {
		fd = openat(bucket->dir_fd, object->key, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	} else {
		name = key_odd_name(object->key);
		fd = openat(bucket->odd_fd, name, O_RDONLY | O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

static int object_stat(const struct bucket *bucket, const struct object *object, struct stat *st)
{
	AUTO(free_str) char *name = NULL;
	int r;

	if (object->place == PLACE_PLAIN) {
		r = fstatat(bucket->dir_fd, object->key, st, 0);
	} else {
		name = key_odd_name(object->key);
		r = fstatat(bucket->odd_fd, name, st, 0);
	}
	if (r < 0)
		return -errno;
	return S_ISREG(st->st_mode) ? 0 : -ENOENT;
}

static bool object_is_current(const struct object *object, const struct stat *st)
{
	return object->etag[0] && (uint64_t)st->st_size == object->size_bytes &&
		stat_mtime_ns(st) == object->file_mtime_ns;
}

static void object_unlink(const struct bucket *bucket, const struct object *object)
{
	AUTO(free_str) char *name = NULL;

	if (object->place == PLACE_PLAIN) {
		if (unlinkat(bucket->dir_fd, object->key, 0) == 0)
			dir_prune_parents(bucket->dir_fd, object->key);
	} else if (object->place == PLACE_ODD) {
		name = key_odd_name(object->key);
		(void)unlinkat(bucket->odd_fd, name, 0); /* gone is what is wanted */
	}
}

/* --- metadata --- */

static int log_append(struct bucket *bucket, const struct buf *line)
{
	ssize_t n = write(bucket->log_fd, line->data, line->len);

	if (n < 0)
		return -errno;
	return (size_t)n == line->len ? 0 : -EIO;
}

static int log_put(struct bucket *bucket, const struct object *object)
{
	AUTO(buf_release) struct buf line = {0};

	record_format_put(&line, object);
	return log_append(bucket, &line);
}

static int log_delete(struct bucket *bucket, const char *key)
{
	AUTO(buf_release) struct buf line = {0};

	record_format_delete(&line, key);
	return log_append(bucket, &line);
}

static size_t records_load_locked(struct bucket *bucket)
{
	int fd = openat(bucket->meta_fd, "objects.tsv", O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	AUTO(free_str) char *line = NULL;
	size_t size = 0, lines = 0;
	ssize_t len;

	if (!file)
		return 0;
	while ((len = getline(&line, &size, file)) > 0) {
		line[strcspn(line, "\n")] = '\0';
		(void)record_apply(bucket->index, line); /* a damaged line does not count */
		lines++;
	}
	fclose(file);
	return lines;
}

static int records_compact_locked(struct bucket *bucket)
{
	AUTO(buf_release) struct buf all = {0};
	AUTO(close_fd) int fd = openat(bucket->meta_fd, "objects.tsv.new",
		O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	const struct index_node *node = index_seek(bucket->index, "", false);

	for (; node; node = node->next[0])
		record_format_put(&all, node->object);
	if (fd < 0 || (all.len && write(fd, all.data, all.len) != (ssize_t)all.len) ||
		renameat(bucket->meta_fd, "objects.tsv.new", bucket->meta_fd, "objects.tsv") < 0)
		return -EIO;
	return 0;
}

/* --- noticing what others did --- */

static struct object *object_from_file(const char *key, const struct stat *st)
{
	struct object *object = object_create(key);

	object->place = PLACE_PLAIN;
	object->size_bytes = (uint64_t)st->st_size;
	object->file_mtime_ns = stat_mtime_ns(st);
	object->modified_ms = object->file_mtime_ns / 1000000;
	object->checksum_kind = DIGEST_CRC64NVME;
	return object;
}

static void scan_file_locked(struct bucket *bucket, const char *key, const struct stat *st)
{
	struct object *object = index_find(bucket->index, key);

	if (!object || object->place != PLACE_PLAIN || !object_is_current(object, st)) {
		object = object_from_file(key, st);
		index_insert(bucket->index, object);
	}
	object->scan = bucket->store->scan;
}

static void scan_folder_locked(struct bucket *bucket, int dir_fd, struct buf *path)
{
	AUTO(close_dir) DIR *dir = fdopendir(dir_fd);
	struct dirent *entry;
	size_t len = path->len;

	while (dir && (entry = readdir(dir))) {
		struct stat st;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (fstatat(dir_fd, entry->d_name, &st, 0) < 0)
			continue;
		buf_str(path, entry->d_name);
		if (S_ISDIR(st.st_mode)) {
			int below = openat(dir_fd, entry->d_name,
				O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			buf_char(path, '/');
			scan_folder_locked(bucket, below, path);
		} else if (S_ISREG(st.st_mode)) {
			scan_file_locked(bucket, path->data, &st);
		}
		path->len = len;
		path->data[len] = '\0';
	}
}

static bool object_is_lost(const struct bucket *bucket, const struct object *object)
{
	struct stat st;

	if (object->place == PLACE_PLAIN)
		return object->scan != bucket->store->scan;
	return object->place == PLACE_ODD && object_stat(bucket, object, &st) < 0;
}

static void bucket_scan_locked(struct bucket *bucket)
{
	AUTO(buf_release) struct buf path = {0};
	const struct index_node *node;

	bucket->store->scan++;
	scan_folder_locked(bucket,
		openat(bucket->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), &path);
	node = index_seek(bucket->index, "", false);
	while (node) {
		struct object *object = node->object;

		node = node->next[0];
		if (object_is_lost(bucket, object))
			index_remove(bucket->index, object->key);
	}
}

/* The ETag and CRC of a file as it is; `object` is new and nobody else's. */
static int object_digest(struct object *object, int fd, bool fast_tag)
{
	const size_t size = 1 << 18;
	AUTO(free_str) char *data = mem_zalloc(size);
	struct digest md5;
	uint8_t out[DIGEST_MAX_BYTES];
	off_t offset = 0;
	ssize_t n;

	digest_init(&md5, DIGEST_MD5);
	while ((n = pread(fd, data, size, offset)) > 0) {
		if (!fast_tag)
			digest_update(&md5, data, (size_t)n);
		object->crc64 = crc64nvme_update(object->crc64, data, (size_t)n);
		offset += n;
	}
	digest_final(&md5, out);
	digest_release(&md5);
	hex_encode(out, 16, object->etag);
	if (fast_tag)
		snprintf(object->etag, sizeof(object->etag), "%016llx%016llx-1",
			(unsigned long long)object->crc64, (unsigned long long)offset);
	return n < 0 ? -errno : 0;
}

/* `old` (NULL: none) is still what the index has? Then put `object` (NULL: nothing) there. */
static void bucket_replace(struct bucket *bucket, const char *key, struct object *old,
	struct object *object)
{
	AUTO(bucket_unlock) struct bucket *locked = bucket_lock(bucket);

	if (index_find(locked->index, key) != old)
		return;
	if (!object) {
		(void)index_remove(locked->index, key);
		(void)log_delete(locked, key); /* the next start would notice too */
		return;
	}
	index_insert(locked->index, object_ref(object));
	if (object->etag[0])
		(void)log_put(locked, object);
}

/* A new object for the file behind `fd`, which differs from what `old` says. */
static struct object *object_redigest(struct bucket *bucket, const char *key, struct object *old,
	int fd)
{
	struct object *object;
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	object = object_from_file(key, &st);
	if (old)
		object->place = old->place;
	if (object_digest(object, fd, bucket->store->options.fast_tag)) {
		object_unref(object);
		return NULL;
	}
	bucket_replace(bucket, key, old, object);
	return object;
}

static struct object *bucket_find(struct bucket *bucket, const char *key, int *ret_fd)
{
	AUTO(bucket_unlock) struct bucket *locked = bucket_lock_shared(bucket);
	struct object *object = index_find(locked->index, key);

	*ret_fd = -1;
	if (!object)
		return NULL;
	if (object->place != PLACE_NOWHERE)
		*ret_fd = object_open(locked, object);
	return object_ref(object);
}

int bucket_get(struct bucket *bucket, const char *key, struct object **ret, int *ret_fd)
{
	AUTO(close_fd) int fd = -1;
	AUTO(object_unrefp) struct object *object = bucket_find(bucket, key, &fd);
	struct object *current;
	struct stat st;

	if (!object) {
		if (!key_is_path(key))
			return -ENOENT;
		fd = openat(bucket->dir_fd, key, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	}
	if (fd < 0 && (!object || object->place != PLACE_NOWHERE)) {
		if (object)
			bucket_replace(bucket, key, object, NULL);
		return -ENOENT;
	}
	if (object && (fd < 0 || (!fstat(fd, &st) && object_is_current(object, &st)))) {
		*ret = object_ref(object);
	} else {
		current = object_redigest(bucket, key, object, fd);
		if (!current)
			return -ENOENT;
		*ret = current;
	}
	if (ret_fd) {
		*ret_fd = fd;
		fd = -1;
	}
	return 0;
}

int bucket_refresh(struct bucket *bucket, struct object **object)
{
	struct object *current;
	struct stat st;
	int r;

	if ((*object)->place == PLACE_NOWHERE)
		return 0;
	r = object_stat(bucket, *object, &st);
	if (!r && object_is_current(*object, &st))
		return 0;
	r = bucket_get(bucket, (*object)->key, &current, NULL);
	if (r)
		return r;
	object_unref(*object);
	*object = current;
	return 0;
}

/* --- buckets --- */

static bool bucket_name_ok(const char *name)
{
	size_t len = strlen(name);

	if (len < 3 || len > 63 || !isalnum((unsigned char)name[0]) || !strcmp(name, "_s3d"))
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-._"
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == len;
}

static struct bucket *bucket_find_locked(struct store *store, const char *name)
{
	for (size_t i = 0; i < store->buckets_len; i++) {
		if (!strcmp(store->buckets[i]->name, name))
			return store->buckets[i];
	}
	return NULL;
}

static int bucket_open_dirs(struct bucket *bucket)
{
	bucket->dir_fd = dir_open(bucket->store->root_fd, bucket->name);
	if (bucket->dir_fd < 0)
		return bucket->dir_fd;
	bucket->meta_fd = dir_open(bucket->store->meta_fd, bucket->name);
	if (bucket->meta_fd < 0)
		return bucket->meta_fd;
	bucket->odd_fd = dir_open(bucket->meta_fd, "odd");
	return bucket->odd_fd < 0 ? bucket->odd_fd : 0;
}

static int bucket_load_locked(struct bucket *bucket)
{
	struct stat st;
	size_t lines;
	int r = record_file_trim(bucket->meta_fd, "objects.tsv");

	if (r)
		return r;
	lines = records_load_locked(bucket);
	bucket_scan_locked(bucket);
	if (lines > 2 * index_count(bucket->index))
		r = records_compact_locked(bucket);
	if (r)
		return r;
	bucket->log_fd = openat(bucket->meta_fd, "objects.tsv",
		O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (bucket->log_fd < 0 || fstat(bucket->dir_fd, &st) < 0)
		return -errno;
	bucket->created_ms = stat_mtime_ns(&st) / 1000000;
	return 0;
}

static void bucket_destroy(struct bucket *bucket)
{
	const int fds[] = {bucket->dir_fd, bucket->meta_fd, bucket->odd_fd, bucket->log_fd};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	index_destroy(bucket->index);
	free(bucket->name);
	free(bucket);
}

static int bucket_create_locked(struct store *store, const char *name, struct bucket **ret)
{
	struct bucket *bucket = bucket_find_locked(store, name);
	int r;

	if (bucket) {
		*ret = bucket;
		return 0;
	}
	if (!bucket_name_ok(name))
		return -EINVAL;
	if (store->buckets_len == BUCKETS_MAX)
		return -ENOSPC;
	bucket = mem_zalloc(sizeof(*bucket));
	*bucket = (struct bucket){.store = store, .name = str_dup(name), .dir_fd = -1,
		.meta_fd = -1, .odd_fd = -1, .log_fd = -1, .index = index_create()};
	r = bucket_open_dirs(bucket);
	if (!r)
		r = bucket_load_locked(bucket);
	if (r) {
		bucket_destroy(bucket);
		return r;
	}
	store->buckets[store->buckets_len++] = bucket;
	*ret = bucket;
	return 0;
}

int store_bucket_create(struct store *store, const char *name, struct bucket **ret)
{
	int r;

	pthread_rwlock_wrlock(&store->lock);
	r = bucket_create_locked(store, name, ret);
	pthread_rwlock_unlock(&store->lock);
	return r;
}

struct bucket *store_bucket_find(struct store *store, const char *name)
{
	struct bucket *bucket;

	pthread_rwlock_rdlock(&store->lock);
	bucket = bucket_find_locked(store, name);
	pthread_rwlock_unlock(&store->lock);
	return bucket;
}

struct bucket *store_bucket_of_host(struct store *store, const char *host)
{
	struct bucket *found = NULL;

	pthread_rwlock_rdlock(&store->lock);
	for (size_t i = 0; i < store->buckets_len && !found; i++) {
		struct bucket *bucket = store->buckets[i];

		if (str_starts(host, bucket->name) && host[strlen(bucket->name)] == '.')
			found = bucket;
	}
	pthread_rwlock_unlock(&store->lock);
	return found;
}

struct bucket *store_bucket_at(struct store *store, size_t n)
{
	struct bucket *bucket;

	pthread_rwlock_rdlock(&store->lock);
	bucket = n < store->buckets_len ? store->buckets[n] : NULL;
	pthread_rwlock_unlock(&store->lock);
	return bucket;
}

const char *bucket_name(const struct bucket *bucket)
{
	return bucket->name;
}

size_t bucket_count(struct bucket *bucket)
{
	AUTO(bucket_unlock) struct bucket *locked = bucket_lock_shared(bucket);

	return index_count(locked->index);
}

int64_t bucket_created_ms(const struct bucket *bucket)
{
	return bucket->created_ms;
}

struct store *bucket_store(const struct bucket *bucket)
{
	return bucket->store;
}

int bucket_meta_fd(const struct bucket *bucket)
{
	return bucket->meta_fd;
}

void **bucket_extra(struct bucket *bucket)
{
	return &bucket->extra;
}

/* --- the store --- */

static void store_empty_tmp(struct store *store)
{
	int fd = openat(store->tmp_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO(close_dir) DIR *dir = fdopendir(fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		(void)unlinkat(fd, entry->d_name, 0); /* folders refuse, as they should */
}

/* Folders below DIR are buckets; those added by hand are found here as well. */
static int store_scan_buckets_locked(struct store *store)
{
	int fd = openat(store->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO(close_dir) DIR *dir = fdopendir(fd);
	struct dirent *entry;
	struct bucket *bucket;
	struct stat st;

	while (dir && (entry = readdir(dir))) {
		if (!bucket_name_ok(entry->d_name) ||
			fstatat(fd, entry->d_name, &st, 0) < 0 || !S_ISDIR(st.st_mode))
			continue;
		int r = bucket_create_locked(store, entry->d_name, &bucket);
		if (r)
			return r;
	}
	return dir ? 0 : -EIO;
}

int store_rescan(struct store *store)
{
	int r;

	pthread_rwlock_wrlock(&store->lock);
	r = store_scan_buckets_locked(store);
	for (size_t i = 0; i < store->buckets_len; i++)
		bucket_scan_locked(store->buckets[i]);
	pthread_rwlock_unlock(&store->lock);
	return r;
}

static int store_open_dirs(struct store *store)
{
	if (mkdir(store->root, 0777) < 0 && errno != EEXIST)
		return -errno;
	store->root_fd = open(store->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->root_fd < 0)
		return -errno;
	store->meta_fd = dir_open(store->root_fd, ".s3d");
	if (store->meta_fd < 0)
		return store->meta_fd;
	store->tmp_fd = dir_open(store->meta_fd, "tmp");
	return store->tmp_fd < 0 ? store->tmp_fd : 0;
}

int store_create(const struct store_options *options, struct store **ret)
{
	struct store *store = mem_zalloc(sizeof(*store));
	int r;

	store->options = *options;
	store->root = str_dup(options->root);
	store->options.root = store->root;
	store->root_fd = store->meta_fd = store->tmp_fd = -1;
	pthread_rwlock_init(&store->lock, NULL);
	r = store_open_dirs(store);
	if (!r) {
		store_empty_tmp(store);
		r = store_scan_buckets_locked(store);
	}
	if (r) {
		store_destroy(store);
		return r;
	}
	*ret = store;
	return 0;
}

void store_destroy(struct store *store)
{
	for (size_t i = 0; i < store->buckets_len; i++)
		bucket_destroy(store->buckets[i]);
	close_fd(&store->tmp_fd);
	close_fd(&store->meta_fd);
	close_fd(&store->root_fd);
	pthread_rwlock_destroy(&store->lock);
	free(store->root);
	free(store);
}

const struct store_options *store_options(const struct store *store)
{
	return &store->options;
}

int store_tmp_fd(const struct store *store)
{
	return store->tmp_fd;
}

/* --- changing objects --- */

static bool etag_matches(const char *condition, const char *etag)
{
	size_t len = strlen(condition);

	if (!strcmp(condition, "*"))
		return true;
	if (len >= 2 && condition[0] == '"' && condition[len - 1] == '"') {
		condition++;
		len -= 2;
	}
	return len == strlen(etag) && !strncmp(condition, etag, len);
}

static int conditions_judge(const struct conditions *conditions, const struct object *object)
{
	if (conditions->if_match && !object)
		return -ENOENT;
	if (conditions->if_match && !etag_matches(conditions->if_match, object->etag))
		return -EEXIST;
	if (conditions->if_none_match && object &&
		etag_matches(conditions->if_none_match, object->etag))
		return -EEXIST;
	return 0;
}

/* Looks at the file first: whoever changed it by hand must be noticed by conditions too. */
int bucket_check(struct bucket *bucket, const char *key, const struct conditions *conditions)
{
	AUTO(object_unrefp) struct object *object = NULL;

	if (!conditions->if_match && !conditions->if_none_match)
		return 0;
	(void)bucket_get(bucket, key, &object, NULL); /* no object: judged as such */
	return conditions_judge(conditions, object);
}

static int object_place_odd_locked(struct bucket *bucket, struct object *object, struct temp *temp)
{
	AUTO(free_str) char *name = key_odd_name(object->key);

	object->place = PLACE_ODD;
	return temp_rename(temp, bucket->odd_fd, name);
}

static int object_place_locked(struct bucket *bucket, struct object *object, struct temp *temp)
{
	int r;

	if (temp->fd < 0) {
		object->place = PLACE_NOWHERE;
		return 0;
	}
	if (!key_is_path(object->key))
		return object_place_odd_locked(bucket, object, temp);
	object->place = PLACE_PLAIN;
	r = temp_rename(temp, bucket->dir_fd, object->key);
	if (r == -ENOENT) {
		r = dir_make_parents(bucket->dir_fd, object->key);
		if (!r)
			r = temp_rename(temp, bucket->dir_fd, object->key);
	}
	if (r == -ENOTDIR || r == -EISDIR || r == -ENOTEMPTY || r == -EEXIST)
		return object_place_odd_locked(bucket, object, temp);
	return r;
}

/* A second name for the data keeps them when the object is replaced. */
static int version_keep_locked(struct bucket *bucket, const struct object *object,
	const struct temp *temp)
{
	static unsigned long number;
	AUTO(close_fd) int dir_fd = dir_open(bucket->meta_fd, "versions");
	AUTO(buf_release) struct buf line = {0};
	AUTO(close_fd) int log_fd = -1;
	char data[40], name[24];
	int r;

	if (dir_fd < 0)
		return dir_fd;
	snprintf(data, sizeof(data), "/proc/self/fd/%d", temp->fd);
	do {
		snprintf(name, sizeof(name), "%08lu", ++number);
		r = linkat(AT_FDCWD, data, dir_fd, name, AT_SYMLINK_FOLLOW);
	} while (r < 0 && errno == EEXIST); /* of a server before this one */
	if (r < 0)
		return -errno;
	log_fd = openat(dir_fd, "versions.tsv", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	buf_printf(&line, "%s\t", name);
	uri_encode(&line, object->key, true);
	buf_char(&line, '\n');
	return write(log_fd, line.data, line.len) == (ssize_t)line.len ? 0 : -EIO;
}

static int bucket_put_locked(struct bucket *bucket, struct object *object, struct temp *temp,
	const struct conditions *conditions)
{
	struct object *old = index_find(bucket->index, object->key);
	struct stat st;
	int r = conditions_judge(conditions, old);

	if (r)
		return r;
	r = object_place_locked(bucket, object, temp);
	if (!r && temp->fd >= 0 && bucket->store->options.keep_versions)
		r = version_keep_locked(bucket, object, temp);
	if (r)
		return r;
	if (old && old->place != object->place)
		object_unlink(bucket, old);
	if (temp->fd >= 0 && !fstat(temp->fd, &st))
		object->file_mtime_ns = stat_mtime_ns(&st);
	object->size_bytes = temp->size_bytes;
	object->modified_ms = time_now_ms();
	index_insert(bucket->index, object_ref(object));
	return log_put(bucket, object);
}

int bucket_put(struct bucket *bucket, struct object *object, struct temp *temp,
	const struct conditions *conditions, struct object **ret_object)
{
	AUTO(object_unrefp) struct object *owned = object;
	AUTO(bucket_unlock) struct bucket *locked = NULL;
	int r = bucket_check(bucket, owned->key, conditions);

	if (r)
		return r;
	locked = bucket_lock(bucket);
	r = bucket_put_locked(locked, owned, temp, conditions);
	if (!r && ret_object)
		*ret_object = object_ref(owned);
	return r;
}

int bucket_delete(struct bucket *bucket, const char *key, const struct conditions *conditions)
{
	AUTO(bucket_unlock) struct bucket *locked = NULL;
	struct object *object;
	int r = bucket_check(bucket, key, conditions);

	if (r)
		return r;
	locked = bucket_lock(bucket);
	object = index_find(locked->index, key);
	r = conditions_judge(conditions, object);
	if (r || !object)
		return r;
	object_unlink(locked, object);
	index_remove(locked->index, key);
	return log_delete(locked, key);
}

void bucket_walk(struct bucket *bucket, const char *key, bool after, bucket_visit *visit,
	void *cls)
{
	AUTO(bucket_unlock) struct bucket *locked = bucket_lock_shared(bucket);
	const struct index_node *node = index_seek(locked->index, key, after);

	while (node) {
		const char *next = visit(cls, node->object);

		if (!next)
			return;
		node = *next ? index_seek(locked->index, next, false) : node->next[0];
	}
}
