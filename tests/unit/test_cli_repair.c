/* What `cpgfs repair` ends with, for scripts. */
#include "store_rig.h"

#include "cli_private.h"

static int repair(struct rig *r)
{
	char *args[] = {"repair", "--cache-dir", r->dir, NULL};

	rig_close(r);
	return cmd_repair(3, args);
}

static void lose_index(struct rig *r)
{
	char path[128];

	rig_close(r);
	snprintf(path, sizeof(path), "%s/index/data.mdb", r->dir);
	must_eq(unlink(path), 0);
}

static void nothing_is_wrong(void **state)
{
	struct rig *r = *state;

	rig_bring(r, rig_put(r, STORE_ROOT_INO, "f", 5000, 1), FILE_VERIFIED);
	must_eq(repair(r), EXIT_VERIFIED);
	lose_index(r);
	must_eq(repair(r), EXIT_VERIFIED);
}

/* Nothing else tells of them, where their bytes had left the cache. */
static void dropped_deletes_need_a_person(void **state)
{
	struct rig *r = *state;

	rig_bring(r, rig_put(r, STORE_ROOT_INO, "f", 5000, 1), FILE_VERIFIED);
	must_eq(store_evict(r->s, UINT64_MAX), 0);
	must_eq(store_unlink(r->s, STORE_ROOT_INO, "f", 600000), 0);
	lose_index(r);
	must_eq(repair(r), EXIT_NEEDS_PERSON);
	must_eq(repair(r), EXIT_VERIFIED); /* that was said */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(nothing_is_wrong),
		rig_test(dropped_deletes_need_a_person),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
