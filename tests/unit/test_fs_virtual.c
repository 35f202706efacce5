/*
 * `.cpgfs`: found at the root but not listed, snapshots, commands, who asks; while its maker waits
 * for the bucket an interrupt answers, and no more than once; ids are let go.
 */
#include "fs_rig.h"

#define SIZE_OF_BIG 100000

/* A maker of: (1) `.cpgfs` with (2) status and (9, hashed) far; 7 is a command file. */
static struct maker {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool held;
	unsigned waiting, opened, written, forgotten, streams;
	uid_t uid;
	char command[64];
} maker = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

#define ID_FAR (UINT64_C(0xf000000000000009))

static const struct {
	uint64_t id;
	const char *name;
	bool is_dir;
	uint32_t mode;
} things[] = {
	{1, ".cpgfs", true, 0555},
	{2, "status", false, 0444},
	{3, "long", false, 0444},
	{7, "control", false, 0600},
	{ID_FAR, "far", true, 0555},
};

static void wait_while_held(void)
{
	pthread_mutex_lock(&maker.mutex);
	maker.waiting++;
	while (maker.held)
		pthread_cond_wait(&maker.changed, &maker.mutex);
	maker.waiting--;
	pthread_mutex_unlock(&maker.mutex);
}

static void hold(bool held)
{
	pthread_mutex_lock(&maker.mutex);
	maker.held = held;
	pthread_cond_broadcast(&maker.changed);
	pthread_mutex_unlock(&maker.mutex);
}

static unsigned waiting(void)
{
	unsigned n;

	pthread_mutex_lock(&maker.mutex);
	n = maker.waiting;
	pthread_mutex_unlock(&maker.mutex);
	return n;
}

static void attr_of(size_t i, struct fs_virtual_attr *ret)
{
	*ret = (struct fs_virtual_attr){
		.id = things[i].id, .is_dir = things[i].is_dir, .mode = things[i].mode};
}

static int make_lookup(void *user, uint64_t dir_id, const char *name, struct fs_virtual_attr *ret)
{
	(void)user;
	lock_assert_none_held();
	wait_while_held();
	for (size_t i = 1; dir_id == 1 && i < array_len(things); i++) {
		if (strcmp(things[i].name, name) != 0)
			continue;
		attr_of(i, ret);
		return 0;
	}
	return -ENOENT;
}

static int make_attr(void *user, uint64_t id, struct fs_virtual_attr *ret)
{
	(void)user;
	for (size_t i = 0; i < array_len(things); i++) {
		if (things[i].id != id)
			continue;
		attr_of(i, ret);
		return 0;
	}
	return -ENOENT;
}

static int make_list(void *user, uint64_t dir_id,
	int (*add)(void *arg, const char *name, const struct fs_virtual_attr *attr), void *arg)
{
	(void)user;
	wait_while_held();
	for (size_t i = 1; dir_id == 1 && i < array_len(things); i++) {
		struct fs_virtual_attr attr;
		int r;

		attr_of(i, &attr);
		r = add(arg, things[i].name, &attr);
		if (r)
			return r;
	}
	return 0;
}

static int make_content(void *user, uint64_t id, uid_t uid, struct buf *ret)
{
	(void)user;
	wait_while_held();
	maker.uid = uid;
	maker.opened++;
	if (id != 2)
		return -EACCES;
	for (size_t i = 0; i < SIZE_OF_BIG; i++)
		buf_add_char(ret, (char)('a' + (i + maker.opened) % 26));
	return 0;
}

static int make_stream(void *user, uint64_t id, uid_t uid, void **ret)
{
	(void)user;
	*ret = NULL;
	if (id != 3)
		return 0;
	*ret = malloc(1);
	maker.streams++;
	return *ret ? 0 : -ENOMEM;
}

static ssize_t read_stream(void *user, void *stream, void *data, size_t len, uint64_t off)
{
	(void)user;
	lock_assert_none_held();
	wait_while_held();
	*(char *)stream = 'x'; /* it is still there */
	for (size_t i = 0; i < len; i++)
		((char *)data)[i] = (char)('a' + (off + i) % 26);
	return (ssize_t)len;
}

static void close_stream(void *user, void *stream)
{
	(void)user;
	free(stream);
	pthread_mutex_lock(&maker.mutex);
	maker.streams--;
	pthread_mutex_unlock(&maker.mutex);
}

static unsigned streams(void)
{
	unsigned n;

	pthread_mutex_lock(&maker.mutex);
	n = maker.streams;
	pthread_mutex_unlock(&maker.mutex);
	return n;
}

static int take_command(void *user, uint64_t id, uid_t uid, const void *data, size_t len)
{
	(void)user;
	wait_while_held();
	maker.uid = uid;
	maker.written++;
	if (id != 7)
		return -EACCES;
	snprintf(maker.command, sizeof(maker.command), "%.*s", (int)len, (const char *)data);
	return 0;
}

static void let_go(void *user, uint64_t id)
{
	(void)user;
	assert_true(id == 1 || id == ID_FAR);
	maker.forgotten++;
}

static int set_up(void **state)
{
	struct fs_rig *r = rig_new("");

	maker.held = false;
	maker.opened = maker.written = maker.forgotten = maker.streams = 0;
	r->config.virtual = (struct fs_virtual){.lookup = make_lookup,
		.attr = make_attr,
		.list = make_list,
		.read_all = make_content,
		.stream_open = make_stream,
		.stream_read = read_stream,
		.stream_close = close_stream,
		.write_all = take_command,
		.forget = let_go};
	rig_start(r);
	*state = r;
	return 0;
}

static int tear_down(void **state)
{
	hold(false);
	rig_free(*state);
	return 0;
}

static void it_is_found_but_not_listed(void **state)
{
	struct fs_rig *r = *state;
	struct fuse_entry_param top, status;
	struct fuse_file_info fi;

	rig_must_list(r, 1, "");
	assert_int_equal(rig_lookup(r, 1, ".cpgfs", &top), 0);
	assert_int_equal(top.attr.st_mode, S_IFDIR | 0555);
	assert_int_equal(rig_lookup(r, top.ino, "status", &status), 0);
	assert_int_equal(rig_lookup(r, top.ino, "nothing", NULL), -ENOENT);
	rig_must_list(r, top.ino, "status long control far");
	/* nothing else may take its name */
	assert_int_equal(rig_mkdir(r, 1, ".cpgfs", NULL), -EACCES);
	assert_int_equal(rig_create(r, 1, ".cpgfs", O_WRONLY, &top, &fi), -EACCES);
	assert_int_equal(rig_rename(r, 1, "x", 1, ".cpgfs", 0), -EACCES);
}

static void reading_reads_a_snapshot(void **state)
{
	struct fs_rig *r = *state;
	uint64_t ino = rig_walk(r, ".cpgfs/status").ino;
	struct fuse_file_info fi, later;
	struct fuse_req *req;
	size_t got = 0;

	r->uid = 1234;
	assert_int_equal(rig_open(r, ino, O_RDONLY, &fi), 0);
	assert_int_equal(maker.uid, 1234);
	assert_true(fi.direct_io);
	assert_int_equal(rig_open(r, ino, O_RDONLY, &later), 0); /* has another content */
	for (size_t size = 1; size; got += size) {
		req = rig_req(r);
		fs_operations.read(req, ino, 7000, (off_t)got, &fi);
		rig_wait(req);
		size = req->size;
		for (size_t i = 0; i < size; i++)
			assert_int_equal(req->data[i], 'a' + (int)((got + i + 1) % 26));
		rig_req_free(req);
	}
	assert_int_equal(got, SIZE_OF_BIG);
	rig_close(r, ino, &fi);
	rig_close(r, ino, &later);
}

static void a_stream_outlives_who_interrupts_and_closes(void **state)
{
	struct fs_rig *r = *state;
	uint64_t ino = rig_walk(r, ".cpgfs/long").ino;
	struct fuse_file_info fi;
	struct fuse_req *req;

	assert_int_equal(rig_open(r, ino, O_RDONLY, &fi), 0);
	assert_true(fi.direct_io);
	req = rig_req(r);
	fs_operations.read(req, ino, 7000, 1000, &fi);
	rig_wait(req);
	assert_int_equal(req->size, 7000);
	assert_int_equal(req->data[0], 'a' + 1000 % 26);
	rig_req_free(req);
	hold(true);
	req = rig_req(r);
	fs_operations.read(req, ino, 7000, 8000, &fi);
	while (waiting() == 0)
		sched_yield();
	rig_interrupt(req);
	assert_int_equal(rig_result(req), -EINTR);
	rig_close(r, ino, &fi);
	assert_int_equal(streams(), 1);
	hold(false);
	while (streams() > 0)
		sched_yield();
	assert_int_equal(maker.opened, 0); /* no snapshot was made of it */
}

static void commands_are_handed_over(void **state)
{
	struct fs_rig *r = *state;
	uint64_t ino = rig_walk(r, ".cpgfs/control").ino;
	struct stat empty = {0};
	struct fuse_file_info fi;
	struct fuse_req *req = rig_req(r);

	fs_operations.setattr(req, ino, &empty, FUSE_SET_ATTR_SIZE, NULL);
	assert_int_equal(rig_result(req), 0); /* as `echo >` does */
	req = rig_req(r);
	fs_operations.setattr(req, ino, &empty, FUSE_SET_ATTR_MODE, NULL);
	assert_int_equal(rig_result(req), -EPERM);
	r->uid = 77;
	assert_int_equal(rig_open(r, ino, O_WRONLY, &fi), 0);
	assert_int_equal(maker.opened, 0);
	char line[] = "retry\n";
	assert_int_equal(rig_write(r, ino, &fi, line, 6, 0), 0);
	assert_memory_equal(line, "\0\0\0\0\0\0", 6); /* it might have been keys */
	assert_string_equal(maker.command, "retry\n");
	assert_int_equal(maker.uid, 77);
	rig_close(r, ino, &fi);
	assert_int_equal(rig_open(r, ino, O_RDONLY, &fi), -EACCES);
}

static struct fuse_req *begin(struct fs_rig *r, uint64_t top, uint64_t status, int what)
{
	struct fuse_file_info fi = {.flags = O_RDONLY};
	struct fuse_req *req = rig_req(r);

	if (what == 0)
		fs_operations.lookup(req, top, "far");
	else if (what == 1)
		fs_operations.opendir(req, top, &fi);
	else
		fs_operations.open(req, status, &fi);
	return req;
}

static void an_interrupt_answers_while_the_maker_waits(void **state)
{
	struct fs_rig *r = *state;
	uint64_t status = rig_walk(r, ".cpgfs/status").ino, top = rig_walk(r, ".cpgfs").ino;
	struct fs_status before, after;

	fs_status(r->fs, &before);
	for (int what = 0; what < 3; what++) {
		struct fuse_req *req;

		hold(true);
		req = begin(r, top, status, what);
		while (waiting() == 0)
			sched_yield();
		assert_false(atomic_load(&req->done));
		rig_interrupt(req);
		assert_int_equal(rig_result(req), -EINTR);
		hold(false);
		while (waiting() > 0)
			sched_yield();
	}
	fs_park_stop(r->fs->park); /* all have ended: nothing was replied twice, nothing is left */
	fs_status(r->fs, &after);
	assert_int_equal(after.nodes, before.nodes);
	assert_null(r->fs->handles);
}

static void an_interrupt_that_comes_first(void **state)
{
	struct fs_rig *r = *state;
	uint64_t status = rig_walk(r, ".cpgfs/status").ino;
	struct fuse_file_info fi = {.flags = O_RDONLY};
	struct fuse_req *req = rig_req(r);

	req->interrupted = true;
	fs_operations.open(req, status, &fi);
	assert_int_equal(rig_result(req), -EINTR);
	assert_int_equal(rig_open(r, status, O_RDONLY, &fi), 0); /* the next one is fine */
	rig_close(r, status, &fi);
}

/* Interrupts at any moment: each request has exactly one answer. */
static void interrupts_at_any_moment(void **state)
{
	struct fs_rig *r = *state;
	uint64_t top = rig_walk(r, ".cpgfs").ino;
	unsigned answered = 0, interrupted = 0;

	for (unsigned i = 0; i < 2000; i++) {
		struct fuse_req *req = rig_lookup_begin(r, top, "far");

		for (unsigned n = 0; n < i % 50; n++)
			sched_yield();
		rig_interrupt(req);
		rig_wait(req);
		if (req->error == 0) {
			answered++;
			rig_forget(r, req->entry.ino, 1);
		} else {
			assert_int_equal(req->error, EINTR);
			interrupted++;
		}
		pthread_mutex_lock(&req->mutex); /* libfuse's last use of it */
		pthread_mutex_unlock(&req->mutex);
		rig_req_free(req);
	}
	assert_int_equal(answered + interrupted, 2000);
	assert_int_equal(maker.forgotten, answered);
}

static void fsync_does_not_wait_behind_the_bucket(void **state)
{
	struct fs_rig *r = *state;
	uint64_t top = rig_walk(r, ".cpgfs").ino;
	struct fuse_entry_param file;
	struct fuse_req *reqs[40], *sync;
	struct fuse_file_info fi;

	assert_int_equal(rig_create(r, 1, "a", O_WRONLY, &file, &fi), 0);
	hold(true);
	for (size_t i = 0; i < array_len(reqs); i++)
		reqs[i] = rig_lookup_begin(r, top, "far");
	sync = rig_req(r);
	fs_operations.fsync(sync, file.ino, 0, &fi);
	assert_int_equal(rig_result(sync), 0);
	for (size_t i = 0; i < array_len(reqs); i++)
		assert_false(atomic_load(&reqs[i]->done));
	hold(false);
	for (size_t i = 0; i < array_len(reqs); i++)
		assert_int_equal(rig_entry(reqs[i], NULL, NULL), 0);
	rig_close(r, file.ino, &fi);
}

static void ids_are_let_go(void **state)
{
	struct fs_rig *r = *state;
	struct fuse_entry_param far = rig_walk(r, ".cpgfs/far"), again;
	struct fs_status status;

	assert_int_equal(rig_lookup(r, rig_walk(r, ".cpgfs").ino, "far", &again), 0);
	assert_int_equal(again.ino, far.ino);
	assert_false(far.ino & STORE_INO_FROM_BUCKET); /* a hash of the maker's, not the store's */
	rig_forget(r, far.ino, 1);
	assert_int_equal(maker.forgotten, 0);
	rig_forget(r, far.ino, 1);
	assert_int_equal(maker.forgotten, 1);
	rig_forget(r, fs_virtual_ino(1), 2);
	assert_int_equal(maker.forgotten, 2);
	fs_status(r->fs, &status);
	assert_int_equal(status.nodes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_is_found_but_not_listed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reading_reads_a_snapshot, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_stream_outlives_who_interrupts_and_closes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(commands_are_handed_over, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			an_interrupt_answers_while_the_maker_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_interrupt_that_comes_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(interrupts_at_any_moment, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			fsync_does_not_wait_behind_the_bucket, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ids_are_let_go, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
