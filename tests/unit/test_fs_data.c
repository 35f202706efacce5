/*
 * Open files: what a FLUSH says about a version and what it must not, cut-off writers, direct and
 * cached handles, reading and replacing objects from elsewhere, waiting for room and chunks, the
 * attributes that are made up.
 */
#include "fs_rig.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sys/xattr.h>

/* ---- closing ---- */

static void a_close_is_a_flush(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info fi;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_create(r, 1, "a", O_WRONLY, &file, &fi), 0);
	assert_true(fi.direct_io);
	assert_int_equal(rig_write(r, file.ino, &fi, "text", 4, 0), 0);
	assert_int_equal(rig_state(r, file.ino), FILE_OPEN);
	assert_int_equal(rig_flush(r, file.ino, &fi), 0);
	assert_int_equal(rig_state(r, file.ino), FILE_CLOSED);
	assert_int_equal(rig_release(r, file.ino, &fi), 0);
	rig_free(r);
}

static void others_do_not_close_a_half_written_file(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info writer, reader, idle;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_create(r, 1, "a", O_WRONLY, &file, &writer), 0);
	assert_int_equal(rig_write(r, file.ino, &writer, "half", 4, 0), 0);
	assert_int_equal(rig_open(r, file.ino, O_RDONLY, &reader), 0);
	rig_close(r, file.ino, &reader);
	assert_int_equal(rig_open(r, file.ino, O_WRONLY, &idle), 0);
	rig_close(r, file.ino, &idle);
	assert_int_equal(rig_state(r, file.ino), FILE_OPEN);
	rig_close(r, file.ino, &writer);
	assert_int_equal(rig_state(r, file.ino), FILE_CLOSED);
	rig_free(r);
}

static void an_open_that_writes_nothing_changes_nothing(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct store_attr before, after;
	struct fuse_file_info fi;

	(void)state;
	rig_start(r);
	file = rig_put(r, 1, "a", "text");
	rig_upload(r, file.ino, "a");
	assert_int_equal(store_attr(r->store, file.ino, &before), 0);
	assert_int_equal(rig_open(r, file.ino, O_RDWR, &fi), 0);
	rig_close(r, file.ino, &fi);
	assert_int_equal(store_attr(r->store, file.ino, &after), 0);
	assert_int_equal(after.generation, before.generation);
	assert_int_equal(after.state, FILE_UPLOADED);
	rig_free(r);
}

/* Pages of a mapping come after the last FLUSH: the RELEASE closes. */
static void late_pages_are_closed_by_the_release(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info fi, late;
	struct stat st;

	(void)state;
	rig_start(r);
	file = rig_put(r, 1, "a", "text");
	assert_int_equal(rig_open(r, file.ino, O_RDWR, &fi), 0);
	assert_false(fi.direct_io);
	assert_int_equal(rig_flush(r, file.ino, &fi), 0);
	late = fi;
	late.writepage = 1;
	late.flags = O_RDWR | O_APPEND; /* the page knows its place */
	assert_int_equal(rig_write(r, file.ino, &late, "T", 1, 0), 0);
	assert_int_equal(rig_state(r, file.ino), FILE_OPEN);
	assert_int_equal(rig_release(r, file.ino, &fi), 0);
	assert_int_equal(rig_state(r, file.ino), FILE_CLOSED);
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_size, 4);
	rig_free(r);
}

/* A killed process that nobody waited for: /proc shows it as a dying task. */
static pid_t killed_child(void)
{
	siginfo_t info;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0)
		for (;;)
			pause();
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	return child;
}

static void a_killed_writer_leaves_incomplete(void **state)
{
	struct fs_rig *r = rig_new("");
	pid_t child = killed_child();
	struct fuse_entry_param file;
	struct store_inode *inode = malloc(sizeof(*inode));
	struct fuse_file_info fi;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_create(r, 1, "a", O_WRONLY, &file, &fi), 0);
	assert_int_equal(rig_write(r, file.ino, &fi, "half", 4, 0), 0);
	r->pid = child;
	rig_close(r, file.ino, &fi);
	assert_int_equal(store_inode(r->store, file.ino, inode), 0);
	assert_int_equal(inode->attr.state, FILE_INCOMPLETE);
	assert_non_null(strstr(inode->reason, "signal 9"));
	free(inode);
	r->pid = 0; /* somebody else's close says nothing about it */
	assert_int_equal(rig_open(r, file.ino, O_WRONLY, &fi), 0);
	rig_close(r, file.ino, &fi);
	assert_int_equal(rig_state(r, file.ino), FILE_INCOMPLETE);
	assert_int_equal(waitpid(child, NULL, 0), child);
	rig_free(r);
}

/* Its parent holds the same handle and closes in order, with and without writing more. */
static void a_killed_child_of_the_writer_is_no_end(void **state)
{
	struct fs_rig *r = rig_new("");
	pid_t child = killed_child();
	struct fuse_entry_param file;
	struct fuse_file_info fi;

	(void)state;
	rig_start(r);
	for (int writes_more = 0; writes_more < 2; writes_more++) {
		assert_int_equal(
			rig_create(r, 1, writes_more ? "b" : "a", O_WRONLY, &file, &fi), 0);
		assert_int_equal(rig_write(r, file.ino, &fi, "half", 4, 0), 0);
		r->pid = child;
		assert_int_equal(rig_flush(r, file.ino, &fi), 0);
		assert_int_equal(rig_state(r, file.ino), FILE_INCOMPLETE);
		r->pid = 0;
		if (writes_more)
			assert_int_equal(rig_write(r, file.ino, &fi, "more", 4, 4), 0);
		rig_close(r, file.ino, &fi);
		assert_int_equal(rig_state(r, file.ino), FILE_CLOSED);
	}
	assert_int_equal(waitpid(child, NULL, 0), child);
	rig_free(r);
}

/* No write of this process succeeds, as on a disk that is gone. */
static void disk_takes_writes(bool on)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = on ? limit.rlim_max : 0;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The disk takes no record at the FLUSH, and takes one at the RELEASE: of what the FLUSH said. */
static void truncate_to(struct fs_rig *r, uint64_t ino, off_t size)
{
	struct fuse_req *req = rig_req(r);
	struct stat st = {.st_size = size};

	fs_operations.setattr(req, ino, &st, FUSE_SET_ATTR_SIZE, NULL);
	assert_int_equal(rig_result(req), 0);
}

/* Another writer's close, or a truncate by path, had said "whole so far" before. */
static void killed_after_anothers_close(bool by_path)
{
	struct fs_rig *r = rig_new("");
	struct fuse_file_info killed, other;
	pid_t child = killed_child();
	struct fuse_entry_param file;

	rig_start(r);
	assert_int_equal(rig_create(r, 1, "a", O_WRONLY, &file, &killed), 0);
	assert_int_equal(rig_write(r, file.ino, &killed, "half", 4, 0), 0);
	if (by_path) {
		truncate_to(r, file.ino, 3);
	} else {
		assert_int_equal(rig_open(r, file.ino, O_WRONLY, &other), 0);
		assert_int_equal(rig_write(r, file.ino, &other, "H", 1, 0), 0);
		rig_close(r, file.ino, &other);
	}
	assert_int_equal(rig_state(r, file.ino), FILE_CLOSED);
	r->pid = child;
	rig_close(r, file.ino, &killed);
	r->pid = 0;
	assert_int_equal(rig_state(r, file.ino), FILE_INCOMPLETE);
	assert_int_equal(waitpid(child, NULL, 0), child);
	rig_free(r);
}

static void a_writer_killed_after_anothers_close(void **state)
{
	(void)state;
	killed_after_anothers_close(false);
	killed_after_anothers_close(true);
}

/* The owner's own close takes back what its child's death said, not what another's did. */
static void anothers_death_is_not_taken_back(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_file_info owner, other;
	pid_t child = killed_child();
	struct fuse_entry_param file;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_create(r, 1, "a", O_WRONLY, &file, &owner), 0);
	assert_int_equal(rig_write(r, file.ino, &owner, "text", 4, 0), 0);
	r->pid = child;
	assert_int_equal(rig_flush(r, file.ino, &owner), 0);
	assert_int_equal(rig_open(r, file.ino, O_WRONLY, &other), 0);
	assert_int_equal(rig_write(r, file.ino, &other, "ha", 2, 4), 0);
	rig_close(r, file.ino, &other);
	assert_int_equal(rig_state(r, file.ino), FILE_INCOMPLETE);
	r->pid = 0;
	rig_close(r, file.ino, &owner);
	assert_int_equal(rig_state(r, file.ino), FILE_INCOMPLETE);
	assert_int_equal(waitpid(child, NULL, 0), child);
	rig_free(r);
}

/* Nor that a part of it could not be written. */
static void what_lacks_is_not_taken_back(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_file_info owner;
	pid_t child = killed_child();
	struct fuse_entry_param file;
	struct rlimit limit, small;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_create(r, 1, "a", O_WRONLY, &file, &owner), 0);
	assert_int_equal(rig_write(r, file.ino, &owner, "text", 4, 0), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = (struct rlimit){.rlim_cur = 1000, .rlim_max = limit.rlim_max};
	assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(rig_write(r, file.ino, &owner, "more", 4, 2000), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	r->pid = child;
	assert_int_equal(rig_flush(r, file.ino, &owner), 0);
	assert_int_equal(rig_state(r, file.ino), FILE_INCOMPLETE);
	r->pid = 0;
	rig_close(r, file.ino, &owner);
	assert_int_equal(rig_state(r, file.ino), FILE_INCOMPLETE);
	assert_int_equal(waitpid(child, NULL, 0), child);
	rig_free(r);
}

static void a_killed_writer_stays_cut_off_when_its_flush_fails(void **state)
{
	struct fs_rig *r = rig_new("");
	pid_t child = killed_child();
	struct fuse_entry_param file;
	struct fuse_file_info fi;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_create(r, 1, "a", O_WRONLY, &file, &fi), 0);
	assert_int_equal(rig_write(r, file.ino, &fi, "half", 4, 0), 0);
	r->pid = child;
	disk_takes_writes(false);
	assert_int_equal(rig_flush(r, file.ino, &fi), -EFBIG);
	disk_takes_writes(true);
	assert_int_equal(rig_state(r, file.ino), FILE_OPEN);
	r->pid = 0;
	assert_int_equal(rig_release(r, file.ino, &fi), 0);
	assert_int_equal(rig_state(r, file.ino), FILE_INCOMPLETE);
	assert_int_equal(waitpid(child, NULL, 0), child);
	rig_free(r);
}

static void a_create_that_nobody_takes_is_cut_off(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_file_info fi = {.flags = O_WRONLY | O_CREAT};
	struct fuse_req *req;
	struct fs_status status;
	struct store_attr attr;

	(void)state;
	rig_start(r);
	req = rig_req(r);
	req->refuses = true;
	fs_operations.create(req, 1, "a", 0644, &fi);
	rig_wait(req);
	rig_req_free(req);
	assert_int_equal(store_lookup(r->store, 1, "a", &attr), 0);
	assert_int_equal(attr.state, FILE_INCOMPLETE);
	fs_status(r->fs, &status);
	assert_int_equal(status.files_open, 0);
	rig_free(r);
}

static void the_end_of_the_mount_closes_handles_but_no_versions(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct rig_listing l;
	struct fuse_file_info fi;

	(void)state;
	rig_start(r);
	assert_int_equal(rig_create(r, 1, "a", O_WRONLY, &file, &fi), 0);
	assert_int_equal(rig_write(r, file.ino, &fi, "half", 4, 0), 0);
	rig_opendir(r, 1, true, &l);
	fs_unmount(r->fs);
	assert_int_equal(rig_state(r, file.ino), FILE_OPEN);
	assert_false(store_has_writers(r->store, file.ino));
	rig_free(r);
}

/* ---- writing ---- */

static void appends_go_to_the_end_whatever_the_kernel_thinks(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info fi;
	struct stat st;

	(void)state;
	rig_start(r);
	file = rig_put(r, 1, "a", "0123456789");
	assert_int_equal(rig_open(r, file.ino, O_WRONLY | O_APPEND, &fi), 0);
	assert_int_equal(rig_write(r, file.ino, &fi, "ab", 2, 3), 0);
	rig_close(r, file.ino, &fi);
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_size, 12);
	rig_free(r);
}

static void set_mode(struct fs_rig *r, uint64_t ino, uint32_t mode)
{
	struct store_attr values = {.mode = mode};

	assert_int_equal(store_setattr(r->store, ino, STORE_SET_MODE, &values, &values), 0);
}

static void replacing_takes_suid_away(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info fi;
	struct stat st;

	(void)state;
	rig_start(r);
	file = rig_put(r, 1, "a", "x");
	set_mode(r, file.ino, 06755);
	r->uid = 1000;
	assert_int_equal(rig_open(r, file.ino, O_WRONLY | O_TRUNC, &fi), 0);
	rig_close(r, file.ino, &fi);
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	rig_free(r);
}

static void writing_takes_suid_and_sgid_away(void **state)
{
	static const struct {
		uid_t uid;
		uint32_t before, after;
	} rows[] = {
		{1000, 06755, 0755},
		{1000, 06745, 02745}, /* sgid without group execution is a lock mark */
		{0, 06755, 06755},
	};
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info fi;
	struct stat st;

	(void)state;
	rig_start(r);
	file = rig_put(r, 1, "a", "x");
	for (size_t i = 0; i < array_len(rows); i++) {
		set_mode(r, file.ino, rows[i].before);
		r->uid = rows[i].uid;
		assert_int_equal(rig_open(r, file.ino, O_WRONLY, &fi), 0);
		assert_int_equal(rig_write(r, file.ino, &fi, "y", 1, 0), 0);
		rig_close(r, file.ino, &fi);
		assert_int_equal(rig_getattr(r, file.ino, &st), 0);
		assert_int_equal(st.st_mode & 07777, rows[i].after);
	}
	rig_free(r);
}

/* ---- room ---- */

#define SMALL_CACHE_BYTES 65536
#define BLOCK_BYTES 16384

static struct fuse_req *write_begin(
	struct fs_rig *r, uint64_t ino, struct fuse_file_info *fi, off_t off)
{
	static char block[BLOCK_BYTES];
	struct fuse_req *req = rig_req(r);

	fs_operations.write(req, ino, block, sizeof(block), off, fi);
	return req;
}

/* Fills the buffer with a file that is on its way; then one more is begun. */
static struct fs_rig *full_buffer(struct fuse_entry_param *ret, struct fuse_file_info *ret_fi)
{
	static char block[BLOCK_BYTES];
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param first;

	r->store_config.cache_size_bytes = SMALL_CACHE_BYTES;
	r->config.full_timeout_ms = 0;
	rig_start(r);
	assert_int_equal(rig_create(r, 1, "first", O_WRONLY, &first, ret_fi), 0);
	for (off_t off = 0; off < SMALL_CACHE_BYTES; off += BLOCK_BYTES)
		assert_int_equal(rig_write(r, first.ino, ret_fi, block, sizeof(block), off), 0);
	rig_close(r, first.ino, ret_fi);
	assert_int_equal(rig_create(r, 1, "second", O_WRONLY, ret, ret_fi), 0);
	return r;
}

static void a_writer_waits_for_room_and_goes_on(void **state)
{
	struct fuse_entry_param file, first;
	struct fuse_file_info fi;
	struct fs_rig *r = full_buffer(&file, &fi);
	struct fs_status status;
	struct fuse_req *req;

	(void)state;
	req = write_begin(r, file.ino, &fi, 0);
	fs_status(r->fs, &status);
	assert_int_equal(status.writers_waiting, 1);
	assert_false(atomic_load(&req->done));
	assert_int_equal(rig_lookup(r, 1, "first", &first), 0); /* the rest goes on */
	rig_must_list(r, 1, "first second");
	assert_int_equal(rig_unlink(r, 1, "first"), 0); /* that frees room */
	assert_int_equal(rig_result(req), 0);
	rig_close(r, file.ino, &fi);
	assert_int_equal(rig_state(r, file.ino), FILE_CLOSED);
	rig_free(r);
}

static void a_writer_that_waits_can_be_interrupted(void **state)
{
	struct fuse_entry_param file;
	struct fuse_file_info fi;
	struct fs_rig *r = full_buffer(&file, &fi);
	struct fuse_req *req = write_begin(r, file.ino, &fi, 0);

	(void)state;
	assert_int_equal(rig_parked(r), 1);
	rig_interrupt(req);
	assert_int_equal(rig_result(req), -EINTR);
	/* it may try again: nothing of it was told to be there */
	rig_close(r, file.ino, &fi);
	assert_int_equal(rig_state(r, file.ino), FILE_CLOSED);
	rig_free(r);
}

static void the_full_timeout_ends_in_enospc_and_no_version(void **state)
{
	struct fuse_entry_param file;
	struct fuse_file_info fi;
	struct fs_rig *r = full_buffer(&file, &fi);

	(void)state;
	r->fs->config.full_timeout_ms = 20;
	assert_int_equal(rig_result(write_begin(r, file.ino, &fi, 0)), -ENOSPC);
	rig_close(r, file.ino, &fi);
	assert_int_equal(rig_state(r, file.ino), FILE_INCOMPLETE);
	rig_free(r);
}

static void fifty_writers_wait_and_the_end_answers_all(void **state)
{
	struct fuse_entry_param file;
	struct fuse_file_info fi;
	struct fs_rig *r = full_buffer(&file, &fi);
	struct fuse_req *reqs[50];
	struct fs_status status;

	(void)state;
	for (size_t i = 0; i < array_len(reqs); i++)
		reqs[i] = write_begin(r, file.ino, &fi, 0);
	fs_status(r->fs, &status);
	assert_int_equal(status.writers_waiting, 50);
	assert_int_equal(rig_lookup(r, 1, "first", NULL), 0);
	fs_park_stop(r->fs->park);
	for (size_t i = 0; i < array_len(reqs); i++)
		assert_int_equal(rig_result(reqs[i]), -EINTR);
	rig_free(r);
}

/* ---- objects from elsewhere ---- */

static void must_read(struct fs_rig *r, uint64_t ino, size_t size)
{
	struct fuse_file_info fi;
	struct fuse_req *req;

	assert_int_equal(rig_open(r, ino, O_RDONLY, &fi), 0);
	req = rig_req(r);
	fs_operations.read(req, ino, size + 100, 0, &fi);
	rig_wait(req);
	assert_int_equal(req->error, 0);
	assert_int_equal(req->size, size);
	for (size_t i = 0; i < size; i++)
		assert_int_equal((uint8_t)req->data[i], (uint8_t)(i * 7));
	rig_req_free(req);
	rig_close(r, ino, &fi);
}

static void reading_fetches_and_keeps(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	unsigned gets;

	(void)state;
	fake_put(r->bucket, "a", 10000, "e"); /* three chunks */
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	must_read(r, file.ino, 10000);
	gets = fake_count(r->bucket, S3_GET);
	assert_true(gets >= 1 && gets <= 3);
	must_read(r, file.ino, 10000);
	assert_int_equal(fake_count(r->bucket, S3_GET), gets);
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	assert_int_equal(file.attr.st_mtim.tv_sec, 1700000000); /* still the object's */
	assert_int_equal(file.attr.st_nlink, 2);
	rig_free(r);
}

static bool gets_fail(struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	(void)b;
	if (req->op != S3_GET)
		return false;
	fake_error(reply, S3_NOT_FOUND, 404, "NoSuchKey");
	return true;
}

static void what_cannot_be_fetched_is_an_error_not_zeros(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info fi;
	struct fuse_req *req;

	(void)state;
	fake_put(r->bucket, "a", 100, "e");
	r->bucket->answer = gets_fail;
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	assert_int_equal(rig_open(r, file.ino, O_RDONLY, &fi), 0);
	req = rig_req(r);
	fs_operations.read(req, file.ino, 100, 0, &fi);
	assert_int_equal(rig_result(req), -EIO);
	rig_close(r, file.ino, &fi);
	rig_free(r);
}

static void changing_in_place_and_removing_are_refused(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file, made;
	struct stat size = {.st_size = 5};
	struct fuse_file_info fi;
	struct fuse_req *req;

	(void)state;
	fake_put(r->bucket, "a", 100, "e");
	fake_put(r->bucket, "d/x", 100, "e");
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	assert_int_equal(rig_open(r, file.ino, O_WRONLY, &fi), -EPERM);
	assert_int_equal(rig_open(r, file.ino, O_RDWR, &fi), -EPERM);
	req = rig_req(r);
	fs_operations.setattr(req, file.ino, &size, FUSE_SET_ATTR_SIZE, NULL);
	assert_int_equal(rig_result(req), -EPERM);
	assert_int_equal(rig_unlink(r, 1, "a"), -EPERM);
	assert_int_equal(rig_rename(r, 1, "a", 1, "b", 0), -EPERM);
	assert_int_equal(rig_rename(r, 1, "d", 1, "e", 0), -EPERM);
	/* a folder of ours that holds theirs */
	assert_int_equal(rig_lookup(r, 1, "d", &made), 0);
	(void)rig_put(r, made.ino, "ours", "x");
	assert_int_equal(rig_rename(r, 1, "d", 1, "e", 0), -EPERM);
	assert_int_equal(rig_unlink(r, made.ino, "ours"), 0);
	assert_int_equal(rig_rmdir(r, 1, "d"), -ENOTEMPTY);
	assert_int_equal(fake_count(r->bucket, S3_DELETE), 0);
	rig_free(r);
}

/* The kernel goes on using the object's number. */
static void a_complete_replacement_becomes_ours(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file, again;
	struct store_attr ours;
	struct fuse_file_info fi;
	struct stat st;

	(void)state;
	fake_put(r->bucket, "d/a", 100, "e");
	rig_start(r);
	file = rig_walk(r, "d/a");
	assert_int_equal(rig_open(r, file.ino, O_WRONLY | O_TRUNC, &fi), 0);
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(rig_write(r, file.ino, &fi, "new", 3, 0), 0);
	rig_close(r, file.ino, &fi);
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(store_resolve(r->store, "d/a", &ours), 0);
	assert_int_equal(ours.state, FILE_CLOSED);
	assert_int_equal(st.st_ino, ours.ino);
	again = rig_walk(r, "d/a");
	assert_int_equal(again.ino, ours.ino);
	/* given up again, the object shows, under its number */
	assert_int_equal(rig_unlink(r, rig_walk(r, "d").ino, "a"), 0);
	again = rig_walk(r, "d/a");
	assert_int_equal(again.ino, file.ino);
	assert_int_equal(again.attr.st_size, 100);
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_size, 100);
	rig_free(r);
}

static void renaming_over_an_object_replaces_it(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param ours;

	(void)state;
	fake_put(r->bucket, "a", 100, "e");
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "a", NULL), 0);
	ours = rig_put(r, 1, ".a.XXXXXX", "new");
	assert_int_equal(rig_rename(r, 1, ".a.XXXXXX", 1, "a", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(rig_rename(r, 1, ".a.XXXXXX", 1, "a", 0), 0);
	assert_int_equal(rig_walk(r, "a").ino, ours.ino);
	rig_must_list(r, 1, "a");
	rig_free(r);
}

static void with_the_options_objects_can_be_changed_and_deleted(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info fi;
	struct stat st;

	(void)state;
	fake_put(r->bucket, "a", 10000, "e");
	fake_put(r->bucket, "b", 1, "e");
	r->config.allow_overwrite = r->config.allow_delete = true;
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	assert_int_equal(rig_open(r, file.ino, O_RDWR, &fi), 0);
	assert_int_equal(rig_write(r, file.ino, &fi, "X", 1, 9999), 0);
	rig_close(r, file.ino, &fi);
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_size, 10000); /* the rest was fetched first */

	assert_int_equal(rig_rename(r, 1, "b", 1, "c", 0), -EXDEV); /* mv copies and deletes */
	assert_int_equal(rig_unlink(r, 1, "b"), 0);
	assert_int_equal(rig_lookup(r, 1, "b", NULL), -ENOENT);
	rig_must_list(r, 1, "a");
	assert_int_equal(fake_count(r->bucket, S3_DELETE), 0); /* later: it can be taken back */
	rig_free(r);
}

/* While its content is fetched to be changed in place, somebody replaces it as a whole. */
static void taking_over_does_not_undo_a_replacement(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file, ours;
	struct fuse_file_info fi = {.flags = O_RDWR}, other;
	struct fuse_req *req;
	struct stat st;

	(void)state;
	fake_put(r->bucket, "a", 10000, "e");
	r->config.allow_overwrite = true;
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	fake_hold(r->bucket, true);
	req = rig_req(r);
	fs_operations.open(req, file.ino, &fi);
	for (unsigned i = 0; fake_count(r->bucket, S3_GET) == 0; i++) {
		assert_true(i < RIG_DEADLINE_MS);
		usleep(1000);
	}
	assert_int_equal(rig_open(r, file.ino, O_WRONLY | O_TRUNC, &other), 0);
	assert_int_equal(rig_write(r, file.ino, &other, "new", 3, 0), 0);
	rig_close(r, file.ino, &other);
	fake_hold(r->bucket, false);
	rig_wait(req);
	assert_int_equal(req->error, 0);
	fi = req->fi;
	rig_req_free(req);
	rig_close(r, file.ino, &fi);
	ours = rig_walk(r, "a");
	assert_int_equal(rig_getattr(r, ours.ino, &st), 0);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(rig_state(r, ours.ino), FILE_CLOSED);
	rig_must_list(r, 1, "a");
	rig_free(r);
}

/* Until it is whole, a kill leaves nothing of it. */
static void what_is_taken_over_is_marked_until_it_is_whole(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info fi = {.flags = O_RDWR};
	struct store_attr attr;
	struct store_entry e;
	struct fuse_req *req;

	(void)state;
	fake_put(r->bucket, "a", 10000, "e");
	r->config.allow_overwrite = true;
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	fake_hold(r->bucket, true);
	req = rig_req(r);
	fs_operations.open(req, file.ino, &fi);
	for (unsigned i = 0; fake_count(r->bucket, S3_GET) == 0; i++) {
		assert_true(i < RIG_DEADLINE_MS);
		usleep(1000);
	}
	assert_int_equal(store_readdir(r->store, STORE_ROOT_INO, "", &e, 1), 1);
	assert_true(e.attr.flags & STORE_FLAG_COPY);
	fake_hold(r->bucket, false);
	rig_wait(req);
	assert_int_equal(req->error, 0);
	fi = req->fi;
	rig_req_free(req);
	rig_close(r, file.ino, &fi);
	assert_int_equal(store_resolve(r->store, "a", &attr), 0);
	assert_false(attr.flags & STORE_FLAG_COPY);
	rig_free(r);
}

static int resize(struct fs_rig *r, uint64_t ino, off_t size)
{
	struct stat st = {.st_size = size};
	struct fuse_req *req = rig_req(r);

	fs_operations.setattr(req, ino, &st, FUSE_SET_ATTR_SIZE, NULL);
	return rig_result(req);
}

/* Room for it is waited for as with a file of ours. */
static void an_object_is_made_longer_than_there_is_room(void **state)
{
	static char block[BLOCK_BYTES];
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file, first;
	struct stat st = {.st_size = 40000};
	struct fuse_file_info fi;
	struct fuse_req *req;

	(void)state;
	r->store_config.cache_size_bytes = SMALL_CACHE_BYTES;
	r->config.allow_overwrite = true;
	r->config.full_timeout_ms = 0;
	fake_put(r->bucket, "a", 10000, "e");
	rig_start(r);
	assert_int_equal(rig_create(r, 1, "first", O_WRONLY, &first, &fi), 0);
	for (off_t off = 0; off < 2 * BLOCK_BYTES; off += BLOCK_BYTES)
		assert_int_equal(rig_write(r, first.ino, &fi, block, sizeof(block), off), 0);
	rig_close(r, first.ino, &fi);
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	req = rig_req(r);
	fs_operations.setattr(req, file.ino, &st, FUSE_SET_ATTR_SIZE, NULL);
	for (unsigned i = 0; rig_parked(r) == 0 && !atomic_load(&req->done); i++) {
		assert_true(i < RIG_DEADLINE_MS);
		usleep(1000);
	}
	assert_false(atomic_load(&req->done));
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_size, 10000);
	assert_int_equal(rig_unlink(r, 1, "first"), 0);
	assert_int_equal(rig_result(req), 0);
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_size, 40000);
	rig_free(r);
}

/* The kernel may keep its name for a second longer: what came by that would be in no file. */
static void discarded_while_it_is_read(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info reader = {0}, writer = {0};
	struct store_attr attr;

	(void)state;
	rig_start(r);
	file = rig_put(r, 1, "a", "text");
	rig_step(r, file.ino, FILE_CLOSED, FILE_SETTLED);
	rig_step(r, file.ino, FILE_SETTLED, FILE_CONFLICT);
	assert_int_equal(rig_open(r, file.ino, O_RDONLY, &reader), 0);
	assert_int_equal(store_attr(r->store, file.ino, &attr), 0);
	assert_int_equal(
		store_discard(r->store, file.ino, attr.generation, FILE_CONFLICT), 0);
	assert_int_equal(rig_open(r, file.ino, O_WRONLY | O_TRUNC, &writer), -ESTALE);
	rig_close(r, file.ino, &reader);
	/* one that a program removed while it has it open is that program's */
	file = rig_put(r, 1, "b", "text");
	assert_int_equal(rig_open(r, file.ino, O_RDONLY, &reader), 0);
	assert_int_equal(rig_unlink(r, 1, "b"), 0);
	assert_int_equal(rig_open(r, file.ino, O_WRONLY, &writer), 0);
	rig_close(r, file.ino, &writer);
	rig_close(r, file.ino, &reader);
	rig_free(r);
}

/* The disk does not take it: no handle's close would say how that version ended. */
static void a_file_that_cannot_be_made_longer(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct rlimit before, less;
	struct store_attr attr;
	struct stat st = {.st_size = 129 * MIB};
	struct fuse_req *req;

	(void)state;
	rig_start(r);
	file = rig_put(r, 1, "a", "text");
	rig_upload(r, file.ino, "a");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	less = before;
	less.rlim_cur = 128 * MIB;
	assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
	req = rig_req(r);
	fs_operations.setattr(req, file.ino, &st, FUSE_SET_ATTR_SIZE, NULL);
	assert_int_equal(rig_result(req), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(store_attr(r->store, file.ino, &attr), 0);
	assert_int_equal(attr.state, FILE_INCOMPLETE);
	assert_int_equal(attr.size_bytes, 4);
	rig_free(r);
}

/* Something else stands where the data files are to be; false: all is in its place again. */
static void take_data_away(struct fs_rig *r, bool away)
{
	char data[128], aside[128];

	snprintf(data, sizeof(data), "%s/data", r->dir);
	snprintf(aside, sizeof(aside), "%s/data.away", r->dir);
	if (away) {
		assert_int_equal(rename(data, aside), 0);
		assert_int_equal(close(open(data, O_CREAT | O_CLOEXEC, 0600)), 0);
	} else {
		assert_int_equal(unlink(data), 0);
		assert_int_equal(rename(aside, data), 0);
	}
}

/* Nor would a close that never comes, where the open itself was to empty it. */
static void a_file_that_cannot_be_emptied_by_its_open(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info fi;

	(void)state;
	rig_start(r);
	file = rig_put(r, 1, "a", "text");
	rig_upload(r, file.ino, "a");
	assert_int_equal(store_evict(r->store, UINT64_MAX), 0);
	take_data_away(r, true);
	assert_true(rig_open(r, file.ino, O_WRONLY | O_TRUNC, &fi) < 0);
	take_data_away(r, false);
	assert_int_equal(rig_state(r, file.ino), FILE_INCOMPLETE);
	assert_int_equal(rig_open(r, file.ino, O_WRONLY | O_TRUNC, &fi), 0);
	assert_int_equal(rig_write(r, file.ino, &fi, "new", 3, 0), 0);
	rig_close(r, file.ino, &fi);
	assert_int_equal(rig_state(r, file.ino), FILE_CLOSED);
	rig_free(r);
}

/* The cache takes no new data file: the object is as it was. */
static void an_object_that_cannot_be_emptied(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct store_attr attr;
	struct stat st;

	(void)state;
	fake_put(r->bucket, "a", 10000, "e");
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	take_data_away(r, true);
	assert_true(resize(r, file.ino, 0) < 0);
	assert_int_equal(store_resolve(r->store, "a", &attr), -ENOENT);
	take_data_away(r, false);
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_size, 10000);
	assert_int_equal(resize(r, file.ino, 0), 0);
	assert_int_equal(rig_getattr(r, file.ino, &st), 0);
	assert_int_equal(st.st_size, 0);
	rig_free(r);
}

static void times_set_on_an_object_are_kept_here(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct stat st = {.st_mtim = {.tv_sec = 1500000000}, .st_mode = 0600};
	struct fuse_req *req;

	(void)state;
	fake_put(r->bucket, "a", 100, "e");
	rig_start(r);
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	req = rig_req(r);
	fs_operations.setattr(req, file.ino, &st, FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MODE, NULL);
	assert_int_equal(rig_result(req), 0);
	assert_int_equal(rig_lookup(r, 1, "a", &file), 0);
	assert_int_equal(file.attr.st_mtim.tv_sec, 1500000000);
	assert_int_equal(file.attr.st_mode & 07777, 0600);
	assert_int_equal(file.attr.st_size, 100);
	rig_free(r);
}

/* ---- the rest ---- */

static void space_tells_the_truth(void **state)
{
	struct fuse_entry_param file;
	struct fuse_file_info fi;
	struct fs_rig *r = full_buffer(&file, &fi);
	struct fuse_req *req = rig_req(r);

	(void)state;
	fs_operations.statfs(req, 1);
	rig_wait(req);
	assert_int_equal(req->space.f_blocks * req->space.f_frsize, SMALL_CACHE_BYTES);
	assert_int_equal(req->space.f_bavail, 0);
	rig_req_free(req);
	r->fs->config.df_unlimited = true;
	req = rig_req(r);
	fs_operations.statfs(req, 1);
	rig_wait(req);
	assert_true(req->space.f_bavail * req->space.f_frsize > 500 * TIB);
	rig_req_free(req);
	rig_free(r);
}

static int get_xattr(struct fs_rig *r, uint64_t ino, const char *name, char *out, size_t size)
{
	struct fuse_req *req = rig_req(r);

	fs_operations.getxattr(req, ino, name, size);
	rig_wait(req);
	if (!req->error)
		snprintf(out, size, "%s", req->data);
	return rig_result(req);
}

static void made_up_attributes(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param ours, theirs;
	struct fuse_req *req;
	char value[256];

	(void)state;
	fake_put(r->bucket, "theirs", 1, "their-etag");
	rig_start(r);
	ours = rig_put(r, 1, "ours", "x");
	assert_int_equal(rig_lookup(r, 1, "theirs", &theirs), 0);
	assert_int_equal(get_xattr(r, ours.ino, "user.cpgfs.state", value, sizeof(value)), 0);
	assert_string_equal(value, "closed");
	assert_int_equal(get_xattr(r, ours.ino, "user.cpgfs.key", value, sizeof(value)), 0);
	assert_string_equal(value, "ours");
	assert_int_equal(get_xattr(r, ours.ino, "user.cpgfs.etag", value, sizeof(value)), -ENODATA);
	rig_upload(r, ours.ino, "ours");
	assert_int_equal(get_xattr(r, ours.ino, "user.cpgfs.etag", value, sizeof(value)), 0);
	assert_string_equal(value, "etag-ours");
	assert_int_equal(get_xattr(r, theirs.ino, "user.cpgfs.etag", value, sizeof(value)), 0);
	assert_string_equal(value, "their-etag");
	assert_int_equal(get_xattr(r, theirs.ino, "user.cpgfs.state", value, sizeof(value)), 0);
	assert_string_equal(value, "foreign");
	assert_int_equal(
		get_xattr(r, ours.ino, "security.capability", value, sizeof(value)), -EOPNOTSUPP);
	assert_int_equal(get_xattr(r, ours.ino, "user.other", value, sizeof(value)), -ENODATA);
	req = rig_req(r);
	fs_operations.listxattr(req, ours.ino, 0);
	rig_wait(req);
	assert_int_equal(req->size, 0); /* cp -a must not try to set them */
	rig_req_free(req);
	req = rig_req(r);
	fs_operations.setxattr(req, ours.ino, "user.cpgfs.state", "x", 1, 0);
	assert_int_equal(rig_result(req), -EPERM);
	req = rig_req(r);
	fs_operations.setxattr(req, theirs.ino, "user.mine", "value", 5, XATTR_CREATE);
	assert_int_equal(rig_result(req), 0);
	assert_int_equal(get_xattr(r, theirs.ino, "user.mine", value, sizeof(value)), 0);
	assert_string_equal(value, "value");
	rig_free(r);
}

static void fsync_runs_where_it_may_block(void **state)
{
	struct fs_rig *r = rig_new("");
	struct fuse_entry_param file;
	struct fuse_file_info fi;
	struct store_attr attr;
	struct fuse_req *req;

	(void)state;
	rig_start(r);
	file = rig_put(r, 1, "a", "text");
	assert_int_equal(rig_open(r, file.ino, O_RDONLY, &fi), 0);
	req = rig_req(r);
	fs_operations.fsync(req, file.ino, 0, &fi);
	assert_int_equal(rig_result(req), 0);
	assert_int_equal(store_attr(r->store, file.ino, &attr), 0);
	assert_true(attr.flags & STORE_FLAG_DURABLE);
	rig_close(r, file.ino, &fi);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_close_is_a_flush),
		cmocka_unit_test(others_do_not_close_a_half_written_file),
		cmocka_unit_test(an_open_that_writes_nothing_changes_nothing),
		cmocka_unit_test(late_pages_are_closed_by_the_release),
		cmocka_unit_test(a_killed_writer_leaves_incomplete),
		cmocka_unit_test(a_killed_child_of_the_writer_is_no_end),
		cmocka_unit_test(a_writer_killed_after_anothers_close),
		cmocka_unit_test(anothers_death_is_not_taken_back),
		cmocka_unit_test(what_lacks_is_not_taken_back),
		cmocka_unit_test(a_killed_writer_stays_cut_off_when_its_flush_fails),
		cmocka_unit_test(a_create_that_nobody_takes_is_cut_off),
		cmocka_unit_test(the_end_of_the_mount_closes_handles_but_no_versions),
		cmocka_unit_test(appends_go_to_the_end_whatever_the_kernel_thinks),
		cmocka_unit_test(replacing_takes_suid_away),
		cmocka_unit_test(writing_takes_suid_and_sgid_away),
		cmocka_unit_test(a_writer_waits_for_room_and_goes_on),
		cmocka_unit_test(a_writer_that_waits_can_be_interrupted),
		cmocka_unit_test(the_full_timeout_ends_in_enospc_and_no_version),
		cmocka_unit_test(fifty_writers_wait_and_the_end_answers_all),
		cmocka_unit_test(reading_fetches_and_keeps),
		cmocka_unit_test(what_cannot_be_fetched_is_an_error_not_zeros),
		cmocka_unit_test(changing_in_place_and_removing_are_refused),
		cmocka_unit_test(a_complete_replacement_becomes_ours),
		cmocka_unit_test(renaming_over_an_object_replaces_it),
		cmocka_unit_test(with_the_options_objects_can_be_changed_and_deleted),
		cmocka_unit_test(taking_over_does_not_undo_a_replacement),
		cmocka_unit_test(what_is_taken_over_is_marked_until_it_is_whole),
		cmocka_unit_test(an_object_is_made_longer_than_there_is_room),
		cmocka_unit_test(discarded_while_it_is_read),
		cmocka_unit_test(a_file_that_cannot_be_made_longer),
		cmocka_unit_test(a_file_that_cannot_be_emptied_by_its_open),
		cmocka_unit_test(an_object_that_cannot_be_emptied),
		cmocka_unit_test(times_set_on_an_object_are_kept_here),
		cmocka_unit_test(space_tells_the_truth),
		cmocka_unit_test(made_up_attributes),
		cmocka_unit_test(fsync_runs_where_it_may_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
