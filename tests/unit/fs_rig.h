/*
 * fs_rig - the file system's requests without a kernel: a real store and a real remote over the
 * bucket in memory, and a stand-in for the part of libfuse that carries requests and replies.
 *
 * A test calls the operations as the kernel would (rig_…), and gets what was replied.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "fake_bucket.h"
#include "scratch.h"
#include "fs_private.h"

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>

#define RIG_DEADLINE_MS 60000
#define RIG_BUFFER_BYTES 4096 /* as the kernel asks for entries */

/* ---- libfuse's part
 * ---------------------------------------------------------------------------------- */

struct fuse_req {
	struct fs *fs;
	struct fuse_ctx ctx;
	pthread_mutex_t mutex; /* as libfuse's: held during the interrupt callback */
	fuse_interrupt_func_t on_interrupt;
	void *interrupt_user;
	bool interrupted;
	bool refuses; /* the kernel does not take the reply (it was interrupted) */
	atomic_bool done;
	int error; /* of fuse_reply_err: 0 or positive */
	struct fuse_entry_param entry;
	struct stat attr;
	double attr_timeout;
	struct fuse_file_info fi;
	char *data;
	size_t size; /* of data; count of fuse_reply_write and _xattr */
	off_t off;
	struct statvfs space;
};

static inline int rig_replied(fuse_req_t req)
{
	bool refuses = req->refuses;

	lock_assert_none_held();
	check(!atomic_load(&req->done));
	atomic_store(&req->done, true); /* it may be gone from here on */
	return refuses ? -ENOENT : 0;
}

void *fuse_req_userdata(fuse_req_t req)
{
	return req->fs;
}

const struct fuse_ctx *fuse_req_ctx(fuse_req_t req)
{
	return &req->ctx;
}

void fuse_req_interrupt_func(fuse_req_t req, fuse_interrupt_func_t func, void *user)
{
	pthread_mutex_lock(&req->mutex);
	req->on_interrupt = func;
	req->interrupt_user = user;
	if (req->interrupted && func)
		func(req, user);
	pthread_mutex_unlock(&req->mutex);
}

int fuse_reply_err(fuse_req_t req, int error)
{
	req->error = error;
	return rig_replied(req);
}

void fuse_reply_none(fuse_req_t req)
{
	(void)rig_replied(req);
}

int fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param *entry)
{
	req->entry = *entry;
	return rig_replied(req);
}

int fuse_reply_create(
	fuse_req_t req, const struct fuse_entry_param *entry, const struct fuse_file_info *fi)
{
	req->entry = *entry;
	req->fi = *fi;
	return rig_replied(req);
}

int fuse_reply_attr(fuse_req_t req, const struct stat *attr, double attr_timeout)
{
	req->attr = *attr;
	req->attr_timeout = attr_timeout;
	return rig_replied(req);
}

int fuse_reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
	req->fi = *fi;
	return rig_replied(req);
}

int fuse_reply_buf(fuse_req_t req, const char *data, size_t size)
{
	req->data = malloc(size + 1);
	if (size)
		memcpy(req->data, data, size);
	req->data[size] = '\0';
	req->size = size;
	return rig_replied(req);
}

int fuse_reply_write(fuse_req_t req, size_t count)
{
	req->size = count;
	return rig_replied(req);
}

int fuse_reply_xattr(fuse_req_t req, size_t count)
{
	req->size = count;
	return rig_replied(req);
}

int fuse_reply_statfs(fuse_req_t req, const struct statvfs *space)
{
	req->space = *space;
	return rig_replied(req);
}

int fuse_reply_lseek(fuse_req_t req, off_t off)
{
	req->off = off;
	return rig_replied(req);
}

/* ---- the stack below
 * ------------------------------------------------------------------------------------ */

struct fs_rig {
	char dir[64];
	struct store *store;
	struct fake_bucket *bucket;
	struct remote *remote;
	struct fs *fs;
	struct fs_config config;
	struct store_config store_config;
	int64_t list_ttl_ms;
	pid_t pid; /* of the requests to come; 0: this process */
	uid_t uid;
};

static inline void rig_on_changed(void *user, const struct store_change *change)
{
	struct fs_rig *r = user;

	fs_notice_store(r->fs, change);
}

static inline void rig_on_room(void *user)
{
	struct fs_rig *r = user;

	remote_room_freed(r->remote);
	fs_notice_room(r->fs);
}

static inline void rig_on_listed(void *user, const char *prefix, int error)
{
	struct fs_rig *r = user;

	fs_notice_listed(r->fs, prefix, error);
}

static inline void rig_on_fetched(void *user, uint64_t ino, uint64_t chunk, int error)
{
	struct fs_rig *r = user;

	fs_notice_fetched(r->fs, ino, chunk, error);
}

/* The configs may be changed between rig_new and rig_start. */
static inline struct fs_rig *rig_new(const char *prefix)
{
	struct fs_rig *r = calloc(1, sizeof(*r));

	snprintf(r->dir, sizeof(r->dir), "%s/cpgfs-fs-XXXXXX", scratch_top());
	check(mkdtemp(r->dir) != NULL);
	r->bucket = fake_create();
	r->config = (struct fs_config){.prefix = prefix,
		.mountpoint = "/mnt",
		.fsname = "s3://bucket",
		.delete_delay_ms = 600000};
	r->store_config = (struct store_config){
		.dir = r->dir, .identity = "fs-rig", .part_size_bytes = 4096, .settle_ms = 600000};
	r->list_ttl_ms = 600000;
	return r;
}

static inline void rig_start(struct fs_rig *r)
{
	struct store_events store = {
		.user = r, .changed = rig_on_changed, .room_freed = rig_on_room};
	struct remote_events remote = {
		.user = r, .listed = rig_on_listed, .fetched = rig_on_fetched};
	struct remote_config config = {
		.s3 = &r->bucket->s3, .prefix = r->config.prefix, .list_ttl_ms = r->list_ttl_ms};
	struct fuse_conn_info conn = {.capable = UINT32_MAX};
	cleanup_free char *message = NULL;

	assert_int_equal(store_open(&r->store, &r->store_config, 0, &message), 0);
	config.store = r->config.store = r->store;
	assert_int_equal(remote_create(&r->remote, &config), 0);
	r->config.remote = r->remote;
	assert_int_equal(fs_create(&r->fs, &r->config), 0);
	assert_int_equal(fs_park_create(&r->fs->park), 0);
	assert_int_equal(fs_notify_create(&r->fs->notify, NULL), 0);
	assert_int_equal(fs_hidden_load(r->fs), 0);
	store_subscribe(r->store, &store);
	remote_subscribe(r->remote, &remote);
	assert_int_equal(store_start(r->store), 0);
	assert_int_equal(remote_start(r->remote), 0);
	fs_operations.init(r->fs, &conn);
}

static inline int rig_remove_one(
	const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static inline void rig_stop(struct fs_rig *r)
{
	fake_hold(r->bucket, false);
	fs_park_stop(r->fs->park);
	remote_stop(r->remote);
	fs_unmount(r->fs);
}

static inline void rig_unmake(struct fs_rig *r)
{
	store_stop(r->store);
	fs_destroy(r->fs);
	remote_destroy(r->remote);
	store_close(r->store);
}

/* As after an unmount: the cache and the bucket stay. */
static inline void rig_remount(struct fs_rig *r)
{
	rig_stop(r);
	rig_unmake(r);
	rig_start(r);
}

static inline void rig_free(struct fs_rig *r)
{
	rig_stop(r);
	s3_destroy(&r->bucket->s3);
	rig_unmake(r);
	(void)nftw(r->dir, rig_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(r);
}

/* ---- requests
 * ---------------------------------------------------------------------------------------------- */

static inline struct fuse_req *rig_req(struct fs_rig *r)
{
	struct fuse_req *req = calloc(1, sizeof(*req));

	req->fs = r->fs;
	req->ctx =
		(struct fuse_ctx){.uid = r->uid, .gid = r->uid, .pid = r->pid ? r->pid : getpid()};
	pthread_mutex_init(&req->mutex, NULL);
	return req;
}

static inline void rig_req_free(struct fuse_req *req)
{
	free(req->data);
	pthread_mutex_destroy(&req->mutex);
	free(req);
}

static inline void rig_wait(struct fuse_req *req)
{
	int64_t deadline_ms = clock_mono_ms() + RIG_DEADLINE_MS;

	while (!atomic_load(&req->done)) {
		assert_true(clock_mono_ms() < deadline_ms);
		sched_yield();
	}
}

static inline void rig_interrupt(struct fuse_req *req)
{
	pthread_mutex_lock(&req->mutex);
	req->interrupted = true;
	if (req->on_interrupt)
		req->on_interrupt(req, req->interrupt_user);
	pthread_mutex_unlock(&req->mutex);
}

static inline unsigned rig_parked(struct fs_rig *r)
{
	struct fs_status status;

	fs_status(r->fs, &status);
	return status.requests_parked;
}

/* 0 or -errno; ends the request. */
static inline int rig_result(struct fuse_req *req)
{
	int error;

	rig_wait(req);
	error = req->error;
	rig_req_free(req);
	return -error;
}

/* An entry that is not there comes as -ENOENT; *ret_kept_s is how long the kernel may keep that. */
static inline int rig_entry(struct fuse_req *req, struct fuse_entry_param *ret, double *ret_kept_s)
{
	struct fuse_entry_param entry;
	int error;

	rig_wait(req);
	entry = req->entry;
	error = req->error ? -req->error : entry.ino ? 0 : -ENOENT;
	if (ret_kept_s)
		*ret_kept_s = req->error ? 0 : entry.entry_timeout;
	if (ret)
		*ret = entry;
	rig_req_free(req);
	return error;
}

static inline struct fuse_req *rig_lookup_begin(struct fs_rig *r, uint64_t dir, const char *name)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.lookup(req, dir, name);
	return req;
}

static inline int rig_lookup(
	struct fs_rig *r, uint64_t dir, const char *name, struct fuse_entry_param *ret)
{
	return rig_entry(rig_lookup_begin(r, dir, name), ret, NULL);
}

/* By path, from the root; fails the test when it is not there. */
static inline struct fuse_entry_param rig_walk(struct fs_rig *r, const char *path)
{
	struct fuse_entry_param entry = {.ino = STORE_ROOT_INO};
	cleanup_free char *copy = text_dup(path);
	char *save = NULL;

	for (char *name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
		int e = rig_lookup(r, entry.ino, name, &entry);

		if (e < 0)
			fail_msg("%s: %s: %s", path, name, strerror(-e));
	}
	return entry;
}

static inline int rig_mkdir(
	struct fs_rig *r, uint64_t dir, const char *name, struct fuse_entry_param *ret)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.mkdir(req, dir, name, 0755);
	return rig_entry(req, ret, NULL);
}

static inline int rig_create(struct fs_rig *r, uint64_t dir, const char *name, int flags,
	struct fuse_entry_param *ret, struct fuse_file_info *ret_fi)
{
	struct fuse_file_info fi = {.flags = flags | O_CREAT};
	struct fuse_req *req = rig_req(r);

	fs_operations.create(req, dir, name, 0644, &fi);
	rig_wait(req);
	*ret_fi = req->fi;
	return rig_entry(req, ret, NULL);
}

static inline int rig_open(struct fs_rig *r, uint64_t ino, int flags, struct fuse_file_info *ret_fi)
{
	struct fuse_file_info fi = {.flags = flags};
	struct fuse_req *req = rig_req(r);

	fs_operations.open(req, ino, &fi);
	rig_wait(req);
	*ret_fi = req->fi;
	ret_fi->flags = flags;
	return rig_result(req);
}

static inline int rig_write(struct fs_rig *r, uint64_t ino, struct fuse_file_info *fi,
	const char *data, size_t size, off_t off)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.write(req, ino, data, size, off, fi);
	return rig_result(req);
}

static inline int rig_flush(struct fs_rig *r, uint64_t ino, struct fuse_file_info *fi)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.flush(req, ino, fi);
	return rig_result(req);
}

static inline int rig_release(struct fs_rig *r, uint64_t ino, struct fuse_file_info *fi)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.release(req, ino, fi);
	return rig_result(req);
}

static inline void rig_close(struct fs_rig *r, uint64_t ino, struct fuse_file_info *fi)
{
	assert_int_equal(rig_flush(r, ino, fi), 0);
	assert_int_equal(rig_release(r, ino, fi), 0);
}

/* A whole file, as cp writes it. */
static inline struct fuse_entry_param rig_put(
	struct fs_rig *r, uint64_t dir, const char *name, const char *text)
{
	struct fuse_entry_param entry;
	struct fuse_file_info fi;

	assert_int_equal(rig_create(r, dir, name, O_WRONLY, &entry, &fi), 0);
	fi.flags = O_WRONLY;
	assert_int_equal(rig_write(r, entry.ino, &fi, text, strlen(text), 0), 0);
	rig_close(r, entry.ino, &fi);
	return entry;
}

static inline int rig_unlink(struct fs_rig *r, uint64_t dir, const char *name)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.unlink(req, dir, name);
	return rig_result(req);
}

static inline int rig_rmdir(struct fs_rig *r, uint64_t dir, const char *name)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.rmdir(req, dir, name);
	return rig_result(req);
}

static inline int rig_rename(struct fs_rig *r, uint64_t dir, const char *name, uint64_t new_dir,
	const char *new_name, unsigned flags)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.rename(req, dir, name, new_dir, new_name, flags);
	return rig_result(req);
}

static inline int rig_getattr(struct fs_rig *r, uint64_t ino, struct stat *ret)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.getattr(req, ino, NULL);
	rig_wait(req);
	*ret = req->attr;
	return rig_result(req);
}

static inline void rig_forget(struct fs_rig *r, uint64_t ino, uint64_t nlookup)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.forget(req, ino, nlookup);
	assert_int_equal(rig_result(req), 0);
}

/* ---- the way to the bucket, without the upload room
 * ------------------------------------------------------- */

static inline void rig_step(
	struct fs_rig *r, uint64_t ino, enum file_state from, enum file_state to)
{
	struct store_attr attr;
	struct store_transition t = {.ino = ino, .from = from, .to = to};

	assert_int_equal(store_attr(r->store, ino, &attr), 0);
	t.generation = attr.generation;
	assert_int_equal(store_state_set(r->store, &t), 0);
}

/* Uploads a closed file under this key; the listing shows it, as the upload room says. */
static inline void rig_upload(struct fs_rig *r, uint64_t ino, const char *key)
{
	struct store_attempt attempt = {.ino = ino, .kind = ATTEMPT_PUT, .phase = ATTEMPT_OPEN};
	struct store_transition t = {.ino = ino, .from = FILE_SENDING, .to = FILE_UPLOADED};
	struct store_object object = {.uploaded_at_ns = clock_wall_ns()};
	uint64_t crcs[16] = {0};
	struct store_attr attr;
	struct s3_object listed;
	bool applied;

	rig_step(r, ino, FILE_CLOSED, FILE_SETTLED);
	assert_int_equal(store_attr(r->store, ino, &attr), 0);
	assert_int_equal(store_version_digested(r->store, ino, attr.generation, crcs,
				 chunk_count_of(4096, attr.size_bytes), FILE_QUEUED, NULL),
		0);
	attempt.generation = t.generation = object.generation = attr.generation;
	snprintf(attempt.key, sizeof(attempt.key), "%s", key);
	assert_int_equal(store_attempt_begin(r->store, &attempt, FILE_QUEUED), 0);
	listed = fake_put(r->bucket, key, attr.size_bytes, "etag-ours");
	snprintf(object.key, sizeof(object.key), "%s", key);
	snprintf(object.etag, sizeof(object.etag), "%s", listed.etag);
	object.size_bytes = attr.size_bytes;
	assert_int_equal(store_attempt_end(r->store, attempt.id, &t, &object, key, 0, &applied), 0);
	assert_true(applied);
	remote_note_put(r->remote, key, &listed);
}

static inline enum file_state rig_state(struct fs_rig *r, uint64_t ino)
{
	struct store_attr attr;

	assert_int_equal(store_attr(r->store, ino, &attr), 0);
	return attr.state;
}

/* ---- listings
 * ------------------------------------------------------------------------------------------------
 */

struct rig_listing {
	struct fuse_file_info fi;
	uint64_t ino;
	off_t off; /* where to go on */
	bool plus;
	char names[512][64]; /* without the dots */
	uint64_t inos[512];  /* d_ino */
	off_t offs[512];     /* offset behind each */
	size_t count;
	unsigned requests;
	bool at_end;
};

static inline void rig_opendir(struct fs_rig *r, uint64_t ino, bool plus, struct rig_listing *l)
{
	struct fuse_file_info fi = {.flags = O_RDONLY | O_DIRECTORY};
	struct fuse_req *req = rig_req(r);

	*l = (struct rig_listing){.ino = ino, .plus = plus};
	fs_operations.opendir(req, ino, &fi);
	rig_wait(req);
	l->fi = req->fi;
	assert_int_equal(rig_result(req), 0);
}

/* What the kernel's struct fuse_dirent looks like on the wire. */
struct rig_dirent {
	uint64_t ino, off;
	uint32_t namelen, type;
	char name[];
};
#define RIG_ENTRY_OUT_BYTES 128

static inline void rig_listing_add(struct rig_listing *l, const struct rig_dirent *d)
{
	l->off = (off_t)d->off;
	if (d->name[0] == '.' && (d->namelen == 1 || (d->namelen == 2 && d->name[1] == '.')))
		return;
	assert_true(l->count < 512 && d->namelen < 64);
	memcpy(l->names[l->count], d->name, d->namelen);
	l->names[l->count][d->namelen] = '\0';
	l->inos[l->count] = d->ino;
	l->offs[l->count] = (off_t)d->off;
	l->count++;
}

static inline struct fuse_req *rig_readdir_begin(struct fs_rig *r, struct rig_listing *l)
{
	struct fuse_req *req = rig_req(r);

	(l->plus ? fs_operations.readdirplus : fs_operations.readdir)(
		req, l->ino, RIG_BUFFER_BYTES, l->off, &l->fi);
	return req;
}

static inline int rig_readdir_end(struct fuse_req *req, struct rig_listing *l)
{
	size_t head = l->plus ? RIG_ENTRY_OUT_BYTES : 0;

	rig_wait(req);
	l->requests++;
	l->at_end = !req->error && req->size == 0;
	for (size_t at = 0; at < req->size;) {
		const struct rig_dirent *d = (const void *)(req->data + at + head);

		rig_listing_add(l, d);
		at += head + ((sizeof(*d) + d->namelen + 7) & ~(size_t)7);
	}
	return rig_result(req);
}

/* To the end. */
static inline void rig_read_on(struct fs_rig *r, struct rig_listing *l)
{
	while (!l->at_end)
		assert_int_equal(rig_readdir_end(rig_readdir_begin(r, l), l), 0);
}

static inline void rig_closedir(struct fs_rig *r, struct rig_listing *l)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.releasedir(req, l->ino, &l->fi);
	assert_int_equal(rig_result(req), 0);
}

/* The whole folder; the caller frees. */
static inline struct rig_listing *rig_list(struct fs_rig *r, uint64_t ino, bool plus)
{
	struct rig_listing *l = calloc(1, sizeof(*l));

	rig_opendir(r, ino, plus, l);
	rig_read_on(r, l);
	rig_closedir(r, l);
	return l;
}

/* "a b c" */
static inline void rig_must_list(struct fs_rig *r, uint64_t ino, const char *want)
{
	for (int plus = 0; plus < 2; plus++) {
		cleanup_free struct rig_listing *l = rig_list(r, ino, plus);
		cleanup_buf struct buf got = {0};

		for (size_t i = 0; i < l->count; i++)
			buf_printf(&got, "%s%s", i ? " " : "", l->names[i]);
		assert_string_equal(buf_text(&got), want);
	}
}
