/*
 * control_bench - `.cpgfs` over a real store, remote, upload and verify, and a bucket in memory;
 * nothing is mounted. For test_control_*.c.
 */
#pragma once

#include "cpgfs/control.h"
#include "fake_bucket.h"
#include "scratch.h"

#include <ftw.h>
#include <jansson.h>
#include <sched.h>

#define OWNER 4711
#define STRANGER 4712

static struct fake_bucket *bucket;
static struct store *store;
static struct remote *the_remote;
static struct upload *upload;
static struct verify *verify;
static struct auth *auth;
static struct control *control;
static struct fs_virtual tree;
static char dir[64];
static unsigned stops;
static bool drains;
static bool bench_has_chain; /* credentials are looked for, and can be handed over */

static void on_stop(void *user)
{
	stops++;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static inline void bench_rooms(const char *prefix)
{
	struct store_config store_config = {
		.dir = dir, .identity = "test", .cache_size_bytes = GIB, .settle_ms = 3600000};
	struct remote_config remote_config = {.prefix = prefix, .list_ttl_ms = 60000};
	struct upload_config upload_config = {
		.prefix = prefix, .start_paused = true, .settle_ms = store_config.settle_ms};
	struct verify_config verify_config = {0};
	struct auth_config auth_config = {.anonymous = !bench_has_chain};
	char *message = NULL;

	assert_int_equal(store_open(&store, &store_config, 0, &message), 0);
	remote_config.s3 = upload_config.s3 = &bucket->s3;
	remote_config.store = upload_config.store = verify_config.store = store;
	assert_int_equal(remote_create(&the_remote, &remote_config), 0);
	upload_config.remote = verify_config.remote = the_remote;
	assert_int_equal(upload_create(&upload, &upload_config), 0);
	assert_int_equal(verify_create(&verify, &verify_config), 0);
	assert_int_equal(auth_create(&auth, &auth_config, &message), 0);
	assert_int_equal(auth_start(auth), 0);
}

static void on_drain(void *user, bool on)
{
	drains = on;
}

/* Commands reach the uploads' own thread in their time. */
static inline void wait_paused(bool paused)
{
	int64_t deadline_ms = clock_mono_ms() + 60000;
	struct upload_status status;

	do {
		assert_true(clock_mono_ms() < deadline_ms);
		sched_yield();
		upload_status(upload, &status);
	} while (((status.pauses & PAUSE_BY_HAND) != 0) != paused);
}

static inline int bench_setup(const char *prefix)
{
	static const char *const options[] = {"acl=none", "list-ttl=60", NULL};
	struct control_config config = {
		.owner = OWNER,
		.bucket = "the-bucket",
		.prefix = prefix,
		.endpoint = "http://127.0.0.1:9",
		.mountpoint = "/mnt/odd\xff",
		.cache_dir = dir,
		.options = options,
		.request_stop = on_stop,
		.request_drain = on_drain,
	};

	snprintf(dir, sizeof(dir), "%s/cpgfs-control-XXXXXX", scratch_top());
	assert_non_null(mkdtemp(dir));
	stops = 0;
	drains = false;
	bucket = fake_create();
	bench_rooms(prefix);
	config.store = store;
	config.remote = the_remote;
	config.upload = upload;
	config.verify = verify;
	config.auth = auth;
	assert_int_equal(store_start(store), 0);
	assert_int_equal(remote_start(the_remote), 0);
	assert_int_equal(upload_start(upload), 0);
	assert_int_equal(control_create(&control, &config), 0);
	tree = control_virtual(control);
	wait_paused(true); /* it has looked at what was there before */
	return 0;
}

static inline int setup(void **state)
{
	return bench_setup("");
}

static int teardown(void **state)
{
	upload_stop(upload, 0);
	remote_stop(the_remote);
	verify_stop(verify);
	store_stop(store);
	control_destroy(control);
	verify_destroy(verify);
	upload_destroy(upload);
	remote_destroy(the_remote);
	s3_destroy(&bucket->s3);
	store_close(store);
	auth_destroy(auth);
	return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- `.cpgfs` by path ---- */

static inline int look(const char *path, struct fs_virtual_attr *ret)
{
	cleanup_free char *copy = strdup(path);
	char *at = copy;
	int r = tree.attr(tree.user, 1, ret);

	while (r == 0 && at && *at)
		r = tree.lookup(tree.user, ret->id, strsep(&at, "/"), ret);
	return r;
}

static inline int read_as(uid_t uid, const char *path, struct buf *out)
{
	struct fs_virtual_attr attr;
	void *stream = NULL;
	char block[5000];
	ssize_t n = 0;
	int r = look(path, &attr);

	buf_clear(out);
	if (r == 0)
		r = tree.stream_open(tree.user, attr.id, uid, &stream);
	if (r < 0 || !stream)
		return r < 0 ? r : tree.read_all(tree.user, attr.id, uid, out);
	while (buf_error(out) == 0 &&
		(n = tree.stream_read(tree.user, stream, block, sizeof(block), out->len)) > 0)
		buf_add(out, block, (size_t)n);
	tree.stream_close(tree.user, stream);
	return n < 0 ? (int)n : buf_error(out);
}

static inline int command_as(uid_t uid, const char *text)
{
	struct fs_virtual_attr attr;

	assert_int_equal(look("control", &attr), 0);
	return tree.write_all(tree.user, attr.id, uid, text, strlen(text));
}

static inline int command(const char *text)
{
	return command_as(OWNER, text);
}

/* The answer to a token; the caller decrefs it. */
static inline json_t *answer(const char *token)
{
	cleanup_buf struct buf text = {0};
	char path[128];
	json_t *json;

	snprintf(path, sizeof(path), "reply/%s", token);
	assert_int_equal(read_as(OWNER, path, &text), 0);
	json = json_loads(buf_text(&text), 0, NULL);
	assert_non_null(json);
	return json;
}

/* ---- local files ---- */

static inline uint64_t make(uint64_t parent, const char *name, enum store_type type)
{
	struct store_create what = {.parent = parent, .name = name, .type = type, .mode = 0755};
	struct store_attr attr;

	assert_int_equal(store_create(store, &what, &attr), 0);
	return attr.ino;
}

/* A closed file of so many bytes. */
static inline uint64_t make_file(uint64_t parent, const char *name, size_t size)
{
	uint64_t ino = make(parent, name, STORE_FILE), chunk;
	struct store_file *f;

	assert_int_equal(store_file_open(store, ino, &f), 0);
	store_file_writer_add(f);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(store_file_write(f, "x", 1, i, false, &chunk), 0);
	assert_int_equal(store_file_flush(f, false, NULL), 0);
	store_file_writer_drop(f);
	store_file_close(f);
	return ino;
}

static inline void set_state(uint64_t ino, enum file_state to, enum held_kind held,
	const char *reason)
{
	struct store_attr attr;
	struct store_transition t = {.ino = ino, .to = to, .held = held, .reason = reason};

	assert_int_equal(store_attr(store, ino, &attr), 0);
	t.generation = attr.generation;
	t.from = attr.state;
	assert_int_equal(store_state_set(store, &t), 0);
}
