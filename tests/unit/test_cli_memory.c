/*
 * Commands short of memory: what they write down is whole, or they fail.
 */
#include <errno.h>

#include "memory_fault.h"

#include "cli_plan.h"
#include "cli_verify.h"
#include "scratch.h"

static char path[128];

static void read_back(char out[1024])
{
	FILE *f = fopen(path, "re");
	size_t n;

	assert_non_null(f);
	n = fread(out, 1, 1023, f);
	out[n] = '\0';
	fclose(f);
}

/* ---- findings ---- */

static int find(void)
{
	struct plan plan = {0};
	int r = plan_problems_create(&plan.problems, path);

	if (r < 0)
		return r;
	plan_problem(&plan, PLAN_EMPTY, "a/tab\there", NULL);
	plan_problem(&plan, PLAN_LAYOUT, "b", "no place for it");
	plan_problem(&plan, PLAN_LAYOUT, "c", "no place for it");
	return plan_problems_close(plan.problems);
}

static bool play_findings(void *user)
{
	char got[1024];
	bool reached;
	int r;

	memory_fault_begin(memory_sweep_at, false);
	r = find();
	reached = memory_fault_end();
	must_hold(r == 0 || r == -ENOMEM);
	if (r == 0) {
		read_back(got);
		must_hold(strcmp(got, user) == 0);
	}
	return reached;
}

static void findings_are_all_there(void **state)
{
	char want[1024];

	snprintf(path, sizeof(path), "%s/cpgfs-findings-%d", scratch_top(), (int)getpid());
	assert_int_equal(find(), 0);
	read_back(want);
	assert_non_null(strstr(want, "a/tab\\there"));
	memory_sweep("findings", play_findings, want, 1);
	unlink(path);
}

/* ---- a manifest ---- */

#define ROWS 3000

static bool play_manifest(void *user)
{
	struct items *items = NULL;
	bool reached;
	int r;

	memory_fault_begin(memory_sweep_at, false);
	r = items_from_tsv(&items, user, "manifest", "p");
	reached = memory_fault_end();
	must_hold(r == 0 || r == -ENOMEM);
	must_hold(r < 0 || items_count(items) == ROWS);
	items_free(items);
	return reached;
}

static void a_manifest_is_read_to_its_end(void **state)
{
	cleanup_buf struct buf text = {0};

	buf_add_text(&text, "key\tsize_bytes\n");
	for (unsigned i = 0; i < ROWS; i++)
		buf_printf(&text, "p/%05u\t%u\n", i, i);
	assert_int_equal(buf_error(&text), 0);
	memory_sweep("a manifest", play_manifest, text.data, 97);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(findings_are_all_there),
		cmocka_unit_test(a_manifest_is_read_to_its_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
