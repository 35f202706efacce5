/*
 * engine_rig.h - everything between a written file and the bucket (store, remote, upload, verify,
 * the real S3 client) against the scripted server tests/s3d, with a ledger that knows better.
 *
 * The clock is a fake one that moves only while no request is on its way: hours of backoff take
 * milliseconds, and a slow machine changes nothing. Whatever becomes `uploaded` or `verified` is
 * compared at that moment with the server's plain file.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cpgfs/verify.h"

#include "../../src/upload/upload_private.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define RIG_BUCKET "bucket"
#ifndef RIG_PART
#define RIG_PART (64 * KIB)
#endif
#define RIG_THRESHOLD (2 * RIG_PART)
#define RIG_FILES_MAX 16
/* Of a machine that has much else to do: only what hangs gets so far. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RIG_DEADLINE_S 400
#else
#define RIG_DEADLINE_S (getenv("CPGFS_UNDER_VALGRIND") ? 1200 : 90)
#endif
#define RIG_STEP_MS 100
/* Nothing came for so many steps: what is waited for lies further ahead. */
#define RIG_QUIET_TURNS 60
#define RIG_STRIDE_MS 2000

/* Counts what is on its way, and what has been, between the rooms and the client. */
struct shim {
	struct s3 s3; /* first */
	struct s3 *real;
	atomic_uint in_flight, ended;
};

/* What was closed last under a name. */
struct ledger {
	uint64_t ino;
	char path[128]; /* the key, too */
	uint8_t *data;
	size_t len;
};

struct engine {
	/* the server */
	char dir[64];
	pid_t server;
	unsigned port;
	struct s3_credentials keys;
	/* the stack */
	char cache[128];
	struct shim shim;
	struct store *store;
	struct remote *remote;
	struct upload *upload;
	struct verify *verify;
	unsigned stall_timeout_ms, max_transfers;
	int64_t clock_off_ms; /* of the local clock */
	/* truth */
	struct ledger files[RIG_FILES_MAX];
	unsigned file_count;
	pthread_mutex_t mutex;
	char early[512]; /* why `uploaded` was a lie; "" */
	unsigned quiet_turns;
	unsigned fetch_ok, fetch_errors; /* by the mutex */
};

/* ---- the server as a child ----------------------------------------------------------------------
 */

static inline bool rig_server_path(char out[4096])
{
	ssize_t n = readlink("/proc/self/exe", out, 4000);

	if (n < 0)
		return false;
	out[n] = '\0';
	strcpy(strrchr(out, '/'), "/../s3d/s3d");
	return access(out, X_OK) == 0;
}

static inline void rig_path(const struct engine *e, const char *name, char out[512])
{
	snprintf(out, 512, "%s/%s", e->dir, name);
}

static inline unsigned rig_read_port(const struct engine *e)
{
	char path[512];
	unsigned port = 0;
	FILE *f;

	rig_path(e, "port", path);
	f = fopen(path, "r");
	if (f && fscanf(f, "%u", &port) != 1)
		port = 0;
	if (f)
		fclose(f);
	return port;
}

/* options: NULL-ended, at most 8. */
static inline void rig_server_start(struct engine *e, const char *const *options)
{
	char program[4096], root[512], port[512], faults[512], log[512];
	const char *argv[32] = {"s3d", "--root", root, "--port-file", port, "--fault-script",
		faults, "--request-log", log, "--key", "AKIDEXAMPLE:secret:token", "--bucket",
		RIG_BUCKET, "--min-part-size", "1"};
	unsigned n = 15;

	assert_true(rig_server_path(program));
	rig_path(e, "root", root);
	rig_path(e, "port", port);
	rig_path(e, "faults", faults);
	rig_path(e, "requests", log);
	(void)mkdir(root, 0700);
	while (options && *options)
		argv[n++] = *options++;
	argv[n] = NULL;
	e->server = fork();
	if (!e->server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(program, (char *const *)argv);
		_exit(127);
	}
	for (unsigned tries = 0; !(e->port = rig_read_port(e)); tries++) {
		assert_true(tries < RIG_DEADLINE_S * 200);
		poll(NULL, 0, 5);
	}
}

static inline void rig_faults(struct engine *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static inline void rig_faults(struct engine *e, const char *fmt, ...)
{
	char path[512], fresh[512];
	va_list args;
	FILE *f;

	rig_path(e, "faults", path);
	rig_path(e, "faults.new", fresh);
	f = fopen(fresh, "w");
	assert_non_null(f);
	va_start(args, fmt);
	vfprintf(f, fmt, args);
	va_end(args);
	fputc('\n', f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(rename(fresh, path), 0);
}

/* The number after "name": in GET /_s3d/stats. */
static inline long rig_stat(struct engine *e, const char *name)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)e->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	static const char ask[] = "GET /_s3d/stats HTTP/1.0\r\nHost: s3d\r\n\r\n";
	char reply[16384], want[64];
	const char *at;
	size_t len = 0;
	ssize_t n;
	cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(write(fd, ask, strlen(ask)), strlen(ask));
	while (len < sizeof(reply) - 1 && (n = read(fd, reply + len, sizeof(reply) - 1 - len)) > 0)
		len += (size_t)n;
	reply[len] = '\0';
	snprintf(want, sizeof(want), "\"%s\": ", name);
	at = strstr(reply, want);
	assert_non_null(at);
	return strtol(at + strlen(want), NULL, 10);
}

static inline void rig_object_path(const struct engine *e, const char *key, char out[512])
{
	snprintf(out, 512, "%s/root/" RIG_BUCKET "/%s", e->dir, key);
}

/* The server's own file; NULL: none. The caller frees. */
static inline uint8_t *rig_object(const struct engine *e, const char *key, size_t *ret_len)
{
	char path[512];
	struct stat st;
	uint8_t *data;
	cleanup_fd int fd = -1;

	rig_object_path(e, key, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	data = malloc((size_t)st.st_size + 1);
	assert_int_equal(io_pread(fd, data, (size_t)st.st_size, 0), st.st_size);
	*ret_len = (size_t)st.st_size;
	return data;
}

static inline bool rig_object_is(
	const struct engine *e, const char *key, const void *data, size_t len)
{
	size_t got;
	cleanup_free uint8_t *object = rig_object(e, key, &got);

	return object && got == len && memcmp(object, data, len) == 0;
}

/* ---- the shim
 * ------------------------------------------------------------------------------------ */

struct shim_call {
	struct shim *shim;
	s3_done_fn *done;
	void *user;
};

static inline void shim_done(void *user, struct s3_reply *reply)
{
	struct shim_call *call = user;
	struct shim *shim = call->shim;

	call->done(call->user, reply);
	atomic_fetch_add(&shim->ended, 1);
	atomic_fetch_sub(&shim->in_flight, 1);
	free(call);
}

static inline int shim_submit(
	struct s3 *s3, const struct s3_request *req, s3_done_fn *done, void *user, uint64_t *ret_id)
{
	struct shim *shim = (struct shim *)s3;
	struct shim_call *call = malloc(sizeof(*call));
	int r;

	*call = (struct shim_call){.shim = shim, .done = done, .user = user};
	atomic_fetch_add(&shim->in_flight, 1);
	r = s3_submit(shim->real, req, shim_done, call, ret_id);
	if (r < 0) {
		atomic_fetch_sub(&shim->in_flight, 1);
		free(call);
	}
	return r;
}

static inline void shim_cancel(struct s3 *s3, uint64_t id)
{
	s3_cancel(((struct shim *)s3)->real, id);
}

static inline bool shim_wants_sha256(struct s3 *s3)
{
	return s3_wants_sha256(((struct shim *)s3)->real);
}

static inline bool shim_is_down(struct s3 *s3)
{
	return s3_is_down(((struct shim *)s3)->real);
}

static inline int64_t shim_quickest_ms(struct s3 *s3)
{
	return s3_quickest_ms(((struct shim *)s3)->real);
}

static inline bool shim_enforces(struct s3 *s3, enum s3_op op, enum s3_condition condition)
{
	return s3_enforces(((struct shim *)s3)->real, op, condition);
}

static inline void shim_learn(
	struct s3 *s3, enum s3_op op, enum s3_condition condition, bool enforced)
{
	s3_learn(((struct shim *)s3)->real, op, condition, enforced);
}

static inline void shim_destroy(struct s3 *s3)
{
	s3_destroy(((struct shim *)s3)->real);
}

static const struct s3_ops shim_ops = {.submit = shim_submit,
	.cancel = shim_cancel,
	.wants_sha256 = shim_wants_sha256,
	.is_down = shim_is_down,
	.quickest_ms = shim_quickest_ms,
	.enforces = shim_enforces,
	.learn = shim_learn,
	.destroy = shim_destroy};

/* ---- the ledger
 * ---------------------------------------------------------------------------------- */

static inline struct ledger *rig_ledger(struct engine *e, uint64_t ino)
{
	for (unsigned i = 0; i < e->file_count; i++) {
		if (e->files[i].ino == ino)
			return &e->files[i];
	}
	return NULL;
}

/* The newest of them. */
static inline void rig_ledger_drop(struct engine *e)
{
	pthread_mutex_lock(&e->mutex);
	e->file_count--;
	free(steal_ptr(e->files[e->file_count].data));
	pthread_mutex_unlock(&e->mutex);
}

/* The file is said to be in the bucket: is it? Under the key that its record names, for a rename
 * may have come meanwhile. */
static inline void rig_check_proved(struct engine *e, uint64_t ino, enum file_state state)
{
	cleanup_free struct store_inode *inode = malloc(sizeof(*inode));
	struct ledger *l;

	if (store_inode(e->store, ino, inode) < 0 || inode->attr.state != state ||
		inode->object.generation != inode->attr.generation)
		return; /* it has moved on */
	pthread_mutex_lock(&e->mutex);
	l = rig_ledger(e, ino);
	if (l && !rig_object_is(e, inode->object.key, l->data, l->len) && !e->early[0])
		snprintf(e->early, sizeof(e->early),
			"%s is %s, but the bucket's %.200s is something else", l->path,
			file_state_text(state), inode->object.key);
	pthread_mutex_unlock(&e->mutex);
}

static inline void rig_changed(void *user, const struct store_change *change)
{
	struct engine *e = user;

	if (e->upload)
		upload_notice(e->upload, change);
	if (e->verify)
		verify_notice(e->verify, change);
	if (change->to == FILE_UPLOADED || change->to == FILE_VERIFIED)
		rig_check_proved(e, change->ino, change->to);
}

static inline void rig_room_freed(void *user)
{
	struct engine *e = user;

	if (e->remote)
		remote_room_freed(e->remote);
}

static inline void rig_listed(void *user, const char *prefix, int error)
{
	struct engine *e = user;

	if (e->verify)
		verify_notice_listed(e->verify, prefix, error);
}

static inline void rig_fetched(void *user, uint64_t ino, uint64_t chunk, int error)
{
	struct engine *e = user;

	pthread_mutex_lock(&e->mutex);
	e->fetch_ok += error == 0;
	e->fetch_errors += error != 0;
	pthread_mutex_unlock(&e->mutex);
}

/* ---- the stack
 * ----------------------------------------------------------------------------------- */

static inline int rig_keys_get(void *user, struct s3_credentials *ret)
{
	*ret = *(const struct s3_credentials *)user;
	return 0;
}

static inline void rig_client(struct engine *e)
{
	char url[64];
	struct s3_config config = {.endpoint = url,
		.bucket = RIG_BUCKET,
		.stall_timeout_ms = e->stall_timeout_ms,
		.credentials = {rig_keys_get, NULL, &e->keys}};

	snprintf(url, sizeof(url), "http://127.0.0.1:%u", e->port);
	text_copy(e->keys.access_key, "AKIDEXAMPLE", sizeof(e->keys.access_key));
	text_copy(e->keys.secret_key, "secret", sizeof(e->keys.secret_key));
	text_copy(e->keys.session_token, "token", sizeof(e->keys.session_token));
	e->shim.s3.ops = &shim_ops;
	atomic_store(&e->shim.in_flight, 0);
	assert_int_equal(s3_client_create(&e->shim.real, &config), 0);
}

static inline void rig_rooms_create(struct engine *e)
{
	struct store_config store = {
		.dir = e->cache, .identity = "rig", .part_size_bytes = RIG_PART};
	struct remote_config remote = {.s3 = &e->shim.s3, .prefix = "p", .list_ttl_ms = 60000};
	struct upload_config upload = {.s3 = &e->shim.s3,
		.prefix = "p",
		.acl = "bucket-owner-full-control",
		.max_transfers = e->max_transfers,
		.multipart_threshold_bytes = RIG_THRESHOLD};
	struct verify_config verify = {.quiet_ms = 50};
	struct store_events events = {
		.user = e, .changed = rig_changed, .room_freed = rig_room_freed};
	struct remote_events news = {.user = e, .listed = rig_listed, .fetched = rig_fetched};
	char *message = NULL;

	if (store_open(&e->store, &store, 1000, &message) < 0)
		fail_msg("store_open: %s", message ? message : "?");
	remote.store = upload.store = verify.store = e->store;
	assert_int_equal(remote_create(&e->remote, &remote), 0);
	remote_subscribe(e->remote, &news);
	upload.remote = verify.remote = e->remote;
	assert_int_equal(upload_create(&e->upload, &upload), 0);
	assert_int_equal(verify_create(&e->verify, &verify), 0);
	store_subscribe(e->store, &events);
}

/* The clock is that of the machine, off by clock_off_ms, and stands still from here on. */
static inline void rig_start(struct engine *e)
{
	clock_fake_begin(clock_wall_ns() + e->clock_off_ms * 1000000);
	rig_client(e);
	rig_rooms_create(e);
	assert_int_equal(store_start(e->store), 0);
	assert_int_equal(remote_start(e->remote), 0);
	assert_int_equal(upload_start(e->upload), 0);
	assert_int_equal(verify_start(e->verify), 0);
}

static inline void rig_stop(struct engine *e)
{
	upload_stop(e->upload, clock_mono_ms());
	remote_stop(e->remote);
	verify_stop(e->verify);
	store_stop(e->store);
	verify_destroy(steal_ptr(e->verify));
	upload_destroy(steal_ptr(e->upload));
	remote_destroy(steal_ptr(e->remote));
	s3_destroy(&e->shim.s3);
	store_close(steal_ptr(e->store));
	clock_fake_end();
}

static inline int rig_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static inline void rig_forget(struct engine *e)
{
	while (e->file_count > 0)
		rig_ledger_drop(e);
	pthread_mutex_lock(&e->mutex);
	e->early[0] = '\0';
	e->fetch_ok = e->fetch_errors = 0;
	pthread_mutex_unlock(&e->mutex);
}

static inline void rig_forget_cache(struct engine *e)
{
	nftw(e->cache, rig_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	rig_forget(e);
}

/* How far the clock has been moved. */
static inline int64_t rig_ahead_ms(const struct engine *e)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return clock_wall_ns() / 1000000 - e->clock_off_ms - (int64_t)now.tv_sec * 1000;
}

/* NULL: the server was not built. In memory where that can be: what is tested here is no disk. */
static inline struct engine *rig_create(const char *const *server_options)
{
	char program[4096];
	struct engine *e;

	if (!rig_server_path(program))
		return NULL;
	e = calloc(1, sizeof(*e));
	snprintf(e->dir, sizeof(e->dir), "%s/cpgfs-engine-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(e->dir));
	rig_path(e, "cache", program);
	text_copy(e->cache, program, sizeof(e->cache));
	pthread_mutex_init(&e->mutex, NULL);
	rig_faults(e, "# none");
	rig_server_start(e, server_options);
	return e;
}

static inline void rig_destroy(struct engine *e)
{
	if (!e)
		return;
	kill(e->server, SIGKILL);
	waitpid(e->server, NULL, 0);
	rig_forget_cache(e);
	nftw(e->dir, rig_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	pthread_mutex_destroy(&e->mutex);
	free(e);
}

/* ---- waiting: the clock moves while the network is quiet
 * ------------------------------------------ */

static inline void rig_turn(struct engine *e)
{
	poll(NULL, 0, 1);
	if (atomic_load(&e->shim.in_flight) > 0)
		e->quiet_turns = 0;
	else
		clock_fake_advance_ms(
			e->quiet_turns++ < RIG_QUIET_TURNS ? RIG_STEP_MS : RIG_STRIDE_MS);
}

typedef bool rig_done_fn(struct engine *e, void *user);

/* False: not within the deadline, which is the machine's time. */
static inline bool rig_until(struct engine *e, rig_done_fn *done, void *user)
{
	time_t began = time(NULL);

	while (!done(e, user)) {
		if (time(NULL) - began > RIG_DEADLINE_S)
			return false;
		rig_turn(e);
	}
	return true;
}

/* ---- files
 * --------------------------------------------------------------------------------------- */

static inline uint64_t rig_ino(struct engine *e, const char *path, bool make)
{
	char part[256];
	uint64_t dir = STORE_ROOT_INO;

	for (;;) {
		const char *slash = strchr(path, '/');
		size_t len = slash ? (size_t)(slash - path) : strlen(path);
		struct store_attr attr;
		int r;

		memcpy(part, path, len);
		part[len] = '\0';
		r = store_lookup(e->store, dir, part, &attr);
		if (r == -ENOENT && make) {
			struct store_create c = {.parent = dir,
				.name = part,
				.type = slash ? STORE_DIR : STORE_FILE,
				.mode = slash ? 0755 : 0644};

			r = store_create(e->store, &c, &attr);
		}
		if (r < 0 || !slash)
			return r < 0 ? 0 : attr.ino;
		dir = attr.ino;
		path = slash + 1;
	}
}

/* Replaces the whole content, closes; the ledger knows before the first byte is written. */
static inline uint64_t rig_write(struct engine *e, const char *path, size_t len, unsigned seed)
{
	uint64_t ino = rig_ino(e, path, true), chunk;
	struct ledger *l = rig_ledger(e, ino);
	uint8_t *data = malloc(len + 1);
	struct store_file *f;

	for (size_t i = 0; i < len; i++) {
		seed = seed * 1103515245 + 12345;
		data[i] = (uint8_t)(seed >> 16);
	}
	pthread_mutex_lock(&e->mutex);
	if (!l) {
		assert_true(e->file_count < RIG_FILES_MAX);
		l = &e->files[e->file_count++];
	}
	free(l->data);
	*l = (struct ledger){.ino = ino, .data = data, .len = len};
	text_copy(l->path, path, sizeof(l->path));
	pthread_mutex_unlock(&e->mutex);
	assert_int_equal(store_file_open(e->store, ino, &f), 0);
	store_file_writer_add(f);
	assert_int_equal(store_file_truncate(f, 0, &chunk), 0);
	if (len)
		assert_int_equal(store_file_write(f, data, len, 0, false, &chunk), 0);
	assert_int_equal(store_file_flush(f, false, NULL), 0);
	store_file_writer_drop(f);
	store_file_close(f);
	return ino;
}

static inline void rig_rename(struct engine *e, const char *from, const char *to)
{
	char dir[128];
	uint64_t dir_ino;
	struct ledger *l = rig_ledger(e, rig_ino(e, from, false));

	text_copy(dir, from, sizeof(dir));
	*strrchr(dir, '/') = '\0';
	dir_ino = rig_ino(e, dir, false);
	assert_true(strncmp(from, to, strlen(dir)) == 0);
	pthread_mutex_lock(&e->mutex);
	text_copy(l->path, to, sizeof(l->path));
	pthread_mutex_unlock(&e->mutex);
	assert_int_equal(store_rename(e->store, dir_ino, strrchr(from, '/') + 1, dir_ino,
				 strrchr(to, '/') + 1, 0, 0),
		0);
}

static inline void rig_unlink(struct engine *e, const char *path)
{
	char dir[128];

	text_copy(dir, path, sizeof(dir));
	*strrchr(dir, '/') = '\0';
	assert_int_equal(
		store_unlink(e->store, rig_ino(e, dir, false), strrchr(path, '/') + 1, 0), 0);
}

static inline enum file_state rig_state(struct engine *e, uint64_t ino)
{
	struct store_attr attr;

	return store_attr(e->store, ino, &attr) == 0 ? attr.state : FILE_STATE_COUNT;
}

static inline bool rig_all_verified(struct engine *e, void *user)
{
	for (unsigned i = 0; i < e->file_count; i++) {
		if (rig_state(e, e->files[i].ino) != FILE_VERIFIED)
			return false;
	}
	return true;
}

/* Nothing waits to be deleted, and no attempt stands. */
static inline bool rig_is_idle(struct engine *e, void *user)
{
	struct store_counts counts;
	cleanup_free struct store_attempt *a = malloc(sizeof(*a));

	assert_int_equal(store_counts(e->store, STORE_ROOT_INO, &counts), 0);
	return counts.files[FILE_DELETING] == 0 && store_attempts(e->store, 0, a, 1) == 0 &&
	       atomic_load(&e->shim.in_flight) == 0;
}
