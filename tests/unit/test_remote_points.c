/*
 * Where listings may be cut is known over mounts; the file that says so may be missing or hold anything.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cpgfs/remote.h"
#include "fake_bucket.h"
#include "remote_points.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

static char dir[64], path[80];

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/cpgfs-points-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/points", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)unlink(path);
	return rmdir(dir); /* nothing else was left */
}

static void learn(struct remote_points *p, const char *prefix, unsigned count)
{
	struct remote_names names = {0};
	struct s3_object o = {.etag = "e"};
	char name[32];

	for (unsigned i = 0; i < count; i++) {
		size_t len = (size_t)snprintf(name, sizeof(name), "f\t%06u", i);

		assert_int_equal(remote_names_append(&names, name, len, false, &o), 0);
	}
	remote_names_finish(&names);
	remote_points_learn(p, prefix, &names);
	remote_names_release(&names);
}

static unsigned count_ranges(const struct remote_points *p, const char *prefix)
{
	struct remote_scan scan;
	unsigned count = 0;

	assert_int_equal(remote_scan_init(&scan, prefix, false, NULL), 0);
	remote_points_split(p, prefix, &scan);
	for (const struct scan_range *r = scan.ranges; r; r = r->next)
		count++;
	remote_scan_release(&scan);
	return count;
}

static void large_folders_are_remembered(void **state)
{
	struct remote_points p = {0}, later = {0};
	char prefix[32];

	assert_int_equal(remote_points_load(&p, path), -ENOENT);
	learn(&p, "small/", 1000);
	assert_int_equal(remote_points_save(&p, path), 0);
	assert_int_equal(access(path, F_OK), -1); /* nothing to say */
	learn(&p, "o\\dd\n/", 3000);
	learn(&p, "huge/", 200000);
	assert_int_equal(remote_points_save(&p, path), 0);
	assert_int_equal(remote_points_load(&later, path), 0);
	assert_int_equal(count_ranges(&later, "small/"), 1);
	assert_int_equal(count_ranges(&later, "o\\dd\n/"), 3);
	assert_int_equal(count_ranges(&later, "huge/"), POINTS_MAX + 1);
	learn(&later, "huge/", 5000); /* what was learned later counts */
	assert_int_equal(count_ranges(&later, "huge/"), 5);
	for (unsigned i = 0; i < POINTS_FOLDERS_MAX - 1; i++) {
		snprintf(prefix, sizeof(prefix), "p%u/", i);
		learn(&later, prefix, 2000);
	}
	assert_int_equal(count_ranges(&later, "huge/"), 5);
	assert_int_equal(count_ranges(&later, "o\\dd\n/"), 1); /* the oldest went */
	assert_int_equal(remote_points_save(&later, path), 0);
	remote_points_release(&p);
	assert_int_equal(remote_points_load(&p, path), 0);
	assert_int_equal(p.count, POINTS_FOLDERS_MAX);
	remote_points_release(&p);
	remote_points_release(&later);
}

static void write_file(const char *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

/* Each cut and each byte changed: all of it, or nothing, or other points; never more than there is room
 * for. */
static void a_damaged_file_is_no_harm(void **state)
{
	struct remote_points p = {0};
	char text[2000];
	size_t len;
	int fd;

	learn(&p, "a/", 5000);
	learn(&p, "b\\/", 2000);
	assert_int_equal(remote_points_save(&p, path), 0);
	remote_points_release(&p);
	fd = open(path, O_RDONLY);
	len = (size_t)read(fd, text, sizeof(text));
	close(fd);
	assert_in_range(len, 50, sizeof(text) - 1);
	for (size_t i = 0; i < len; i++) {
		write_file(text, i);
		if (remote_points_load(&p, path) < 0)
			assert_int_equal(p.count, 0);
		else
			assert_true(p.count < 2);
		remote_points_release(&p);
		for (unsigned bit = 0; bit < 8; bit++) {
			text[i] ^= (char)(1 << bit);
			write_file(text, len);
			if (remote_points_load(&p, path) < 0)
				assert_int_equal(p.count, 0);
			(void)count_ranges(&p, "a/");
			remote_points_release(&p);
			text[i] ^= (char)(1 << bit);
		}
	}
}

/* The room itself, twice: the second time the first question is asked at several places at once. */
static void the_first_listing_after_a_mount_is_split(void **state)
{
	struct remote_config config = {.prefix = "", .list_ttl_ms = 60000, .points_path = path};
	struct fake_bucket *bucket = fake_create();
	struct remote_entry e;
	struct remote *r;
	char key[32];

	for (unsigned i = 0; i < 4000; i++) {
		snprintf(key, sizeof(key), "p/x%c%04u", 'a' + i % 7, i);
		fake_put(bucket, key, i, "e");
	}
	config.s3 = &bucket->s3;
	for (unsigned round = 0; round < 2; round++) {
		unsigned before = fake_count(bucket, S3_LIST);

		assert_int_equal(remote_create(&r, &config), 0);
		assert_int_equal(remote_start(r), 0);
		fake_hold(bucket, true);
		assert_int_equal(remote_lookup(r, "p/", "xa0007", false, &e), -EINPROGRESS);
		while (fake_count(bucket, S3_LIST) < before + (round == 0 ? 1 : 4))
			sched_yield();
		fake_hold(bucket, false);
		while (remote_lookup(r, "p/", "xa0007", false, &e) == -EINPROGRESS)
			sched_yield();
		assert_int_equal(e.object.size_bytes, 7);
		assert_int_equal(remote_lookup(r, "p/", "xb3998", false, &e), 0);
		remote_stop(r);
		remote_destroy(r);
	}
	s3_destroy(&bucket->s3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(large_folders_are_remembered, setup, teardown),
		cmocka_unit_test_setup_teardown(a_damaged_file_is_no_harm, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_first_listing_after_a_mount_is_split, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
