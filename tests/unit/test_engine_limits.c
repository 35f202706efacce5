/*
 * The largest file that can be: 10,000 parts, really sent over HTTP to tests/s3d. Parts here begin
 * with 16 bytes, so that the largest is small.
 */
#define RIG_PART 16u
#include "engine_rig.h"

static struct engine *rig;

static int setup(void **state)
{
	rig = rig_create(NULL);
	if (rig)
		rig_start(rig);
	return 0;
}

static int teardown(void **state)
{
	if (rig)
		rig_stop(rig);
	rig_destroy(steal_ptr(rig));
	return 0;
}

/* Those that were carried out: while this program gets no time its clock may run ahead of the server's,
 * which refuses what is signed with it. */
static unsigned requests(const char *operation)
{
	char path[512], line[4096], found[64];
	unsigned count = 0, status;
	FILE *f;

	rig_path(rig, "requests", path);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %*s %63s %*s %*s %*s %u", found, &status) == 2)
			count += status == 200 && strcmp(found, operation) == 0;
	}
	fclose(f);
	return count;
}

#define ROUND_REQUESTS 500
#define ROUNDS_MAX 100

static bool has_gone_on(struct engine *e, void *user)
{
	const unsigned *from = user;

	return atomic_load(&e->shim.ended) - *from >= ROUND_REQUESTS || rig_all_verified(e, NULL);
}

/* Ten thousand requests take as long as the machine needs: each round of them has the deadline. */
static bool until_verified(void)
{
	for (unsigned i = 0; i < ROUNDS_MAX && !rig_all_verified(rig, NULL); i++) {
		unsigned from = atomic_load(&rig->shim.ended);

		if (!rig_until(rig, has_gone_on, &from))
			break;
	}
	return rig_all_verified(rig, NULL);
}

static int append_one_byte(uint64_t ino)
{
	struct store_file *f;
	uint64_t chunk;
	int r;

	assert_int_equal(store_file_open(rig->store, ino, &f), 0);
	store_file_writer_add(f);
	r = store_file_write(f, "x", 1, 0, true, &chunk);
	store_file_writer_drop(f);
	store_file_close(f);
	return r;
}

static void ten_thousand_parts(void **state)
{
	uint64_t limit = chunk_start(RIG_PART, STORE_CHUNKS_MAX), ino;

	if (!rig)
		skip();
	ino = rig_write(rig, "p/largest", limit, 1);
	assert_true(until_verified());
	assert_string_equal(rig->early, "");
	assert_int_equal(requests("CreateMultipartUpload"), 1);
	assert_int_equal(requests("UploadPart"), STORE_CHUNKS_MAX);
	assert_int_equal(requests("CompleteMultipartUpload"), 1);
	assert_int_equal(rig_stat(rig, "open_uploads"), 0);
	/* and not one byte more, which leaves it as it is */
	assert_int_equal(append_one_byte(ino), -EFBIG);
	assert_int_equal(rig_state(rig, ino), FILE_VERIFIED);
	assert_true(rig_object_is(rig, "p/largest", rig->files[0].data, limit));
}

/* Another table of parts: the last one of a row of a thousand, and the first of the next. */
static void where_parts_become_larger(void **state)
{
	uint64_t step = chunk_start(RIG_PART, 1000);
	static const unsigned want[] = {1000, 1000, 1001};

	if (!rig)
		skip();
	for (int i = 0; i < 3; i++) {
		char path[16];
		unsigned before = requests("UploadPart");

		snprintf(path, sizeof(path), "p/%d", i);
		(void)rig_write(rig, path, (size_t)(step - 1 + (unsigned)i), (unsigned)i);
		assert_true(until_verified());
		assert_int_equal(requests("UploadPart") - before, want[i]);
	}
	assert_string_equal(rig->early, "");
	assert_int_equal(rig_stat(rig, "open_uploads"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ten_thousand_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(where_parts_become_larger, setup, teardown),
	};

	return cmocka_run_group_tests_name("engine limits", tests, NULL, NULL);
}
