/*
 * What the kernel and libfuse say at the mount, and what comes of it: suid and sgid are left to us
 * where the kernel offers that, and no other request or answer is touched.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "fs_private.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/uio.h>

#define OTHERS (FUSE_BIG_WRITES | FUSE_ASYNC_READ) /* flags that are none of ours */

struct first_request {
	struct fuse_in_header header;
	struct fuse_init_in init;
};

struct rig {
	struct fs fs;
	int ends[2];
};

static void rig_init(struct rig *r)
{
	*r = (struct rig){0};
	assert_int_equal(pipe(r->ends), 0);
}

static void rig_release(struct rig *r)
{
	close(r->ends[0]);
	close(r->ends[1]);
}

/* size bytes of a request with this opcode and these flags, as the kernel hands it over. */
static void request(struct rig *r, uint32_t opcode, uint32_t flags, size_t size)
{
	struct first_request sent = {.header = {.opcode = opcode, .unique = 2},
				     .init.flags = flags},
			     got = {0};

	assert_int_equal(write(r->ends[1], &sent, size), size);
	assert_int_equal(fs_killpriv_read(r->ends[0], &got, sizeof(got), &r->fs), size);
	assert_memory_equal(&got, &sent, size);
}

/* The flags that arrive of an answer of size bytes (without its header) with OTHERS. */
static uint32_t answer(struct rig *r, int error, size_t size)
{
	struct fuse_out_header header = {.error = error, .unique = 2}, got_header;
	struct fuse_init_out init = {.flags = OTHERS}, got = {.flags = OTHERS};
	struct iovec iov[] = {{&header, sizeof(header)}, {&init, size}};
	int count = size ? 2 : 1;

	assert_int_equal(fs_killpriv_writev(r->ends[1], iov, count, &r->fs), sizeof(header) + size);
	assert_int_equal(read(r->ends[0], &got_header, sizeof(header)), sizeof(header));
	assert_memory_equal(&got_header, &header, sizeof(header));
	if (size)
		assert_int_equal(read(r->ends[0], &got, size), size);
	return got.flags;
}

static void agreed_where_offered(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	request(&r, FUSE_INIT, OTHERS | FUSE_HANDLE_KILLPRIV_V2, sizeof(struct first_request));
	assert_true(fs_killpriv_agree(&r.fs));
	assert_int_equal(
		answer(&r, 0, sizeof(struct fuse_init_out)), OTHERS | FUSE_HANDLE_KILLPRIV_V2);
	/* the next answer that looks like it is another request's */
	assert_int_equal(answer(&r, 0, sizeof(struct fuse_init_out)), OTHERS);
	rig_release(&r);
}

static void not_agreed(void **state)
{
	static const struct {
		const char *what;
		uint32_t opcode, flags;
		size_t size;
	} rows[] = {
		{"not offered", FUSE_INIT, OTHERS, sizeof(struct first_request)},
		{"another request", FUSE_GETATTR, FUSE_HANDLE_KILLPRIV_V2,
			sizeof(struct first_request)},
		{"no flags", FUSE_INIT, FUSE_HANDLE_KILLPRIV_V2,
			sizeof(struct fuse_in_header) + 2 * sizeof(uint32_t)},
	};

	(void)state;
	for (size_t i = 0; i < array_len(rows); i++) {
		struct rig r;

		rig_init(&r);
		request(&r, rows[i].opcode, rows[i].flags, rows[i].size);
		if (fs_killpriv_agree(&r.fs) ||
			answer(&r, 0, sizeof(struct fuse_init_out)) != OTHERS)
			fail_msg("%s", rows[i].what);
		/* what is offered later was not offered at the mount */
		request(&r, FUSE_INIT, FUSE_HANDLE_KILLPRIV_V2, sizeof(struct first_request));
		assert_false(fs_killpriv_agree(&r.fs));
		rig_release(&r);
	}
}

static void without_the_first_request(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r);
	assert_false(fs_killpriv_agree(&r.fs)); /* nobody carries requests past us */
	rig_release(&r);
}

/* libfuse refuses the kernel, or has an answer that we do not know. */
static void taken_back(void **state)
{
	static const struct {
		int error;
		size_t size;
	} rows[] = {{-EPROTO, 0}, {0, 0}, {0, 2 * sizeof(uint32_t)}};

	(void)state;
	for (size_t i = 0; i < array_len(rows); i++) {
		struct rig r;

		rig_init(&r);
		request(&r, FUSE_INIT, FUSE_HANDLE_KILLPRIV_V2, sizeof(struct first_request));
		r.fs.kills_privileges = fs_killpriv_agree(&r.fs);
		assert_true(r.fs.kills_privileges);
		assert_int_equal(answer(&r, rows[i].error, rows[i].size), OTHERS);
		assert_false(r.fs.kills_privileges);
		rig_release(&r);
	}
}

static void errors_are_passed_on(void **state)
{
	struct rig r;
	struct fuse_out_header header = {.unique = 2};
	struct iovec iov = {&header, sizeof(header)};

	(void)state;
	rig_init(&r);
	assert_int_equal(fs_killpriv_read(-1, &header, sizeof(header), &r.fs), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(fs_killpriv_writev(-1, &iov, 1, &r.fs), -1);
	assert_int_equal(errno, EBADF);
	/* and the first request may come yet */
	request(&r, FUSE_INIT, FUSE_HANDLE_KILLPRIV_V2, sizeof(struct first_request));
	assert_true(fs_killpriv_agree(&r.fs));
	rig_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agreed_where_offered),
		cmocka_unit_test(not_agreed),
		cmocka_unit_test(without_the_first_request),
		cmocka_unit_test(taken_back),
		cmocka_unit_test(errors_are_passed_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
