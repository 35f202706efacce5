/*
 * Commands short of memory: what they write down is whole, or they fail.
 */
#include <errno.h>

#include "memory_fault.h"

#include "cli_plan.h"
#include "cli_verify.h"
#include "scratch.h"

#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>

static char path[160];

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

/* ---- a listing ---- */

static void write_below(const char *dir, const char *name, const char *text)
{
	char file[256];
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", dir, name);
	f = fopen(file, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* What a mount shows of itself and of the bucket. */
static void make_mount(char dir[128])
{
	char below[256];

	snprintf(dir, 128, "%s/cpgfs-mount-XXXXXX", scratch_top());
	assert_non_null(mkdtemp(dir));
	snprintf(below, sizeof(below), "%s/.cpgfs/", dir);
	assert_int_equal(mkdir(below, 0700), 0);
	snprintf(below, sizeof(below), "%s/.cpgfs/remote", dir);
	assert_int_equal(mkdir(below, 0700), 0);
	write_below(dir, ".cpgfs/status.json", "{}");
	write_below(dir, ".cpgfs/remote/.listing.tsv",
		"key\tsize_bytes\tetag\tlast_modified\n"
		"p/a\t1\te1\t2026-03-01T12:00:00Z\n"
		"p/b\t2\te2\t2026-03-01T12:00:00Z\n"
		"p/c\t3\te3\t2026-03-01T12:00:00Z\n");
}

/* What it prints goes into the file at path. */
static int list_all(char *dir)
{
	char *args[] = {"ls", "-R", "--summarize", dir, NULL};
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), before, r;

	fflush(stdout);
	before = dup(STDOUT_FILENO);
	assert_true(fd >= 0 && before >= 0 && dup2(fd, STDOUT_FILENO) >= 0);
	optind = 1;
	r = cmd_ls(4, args);
	fflush(stdout);
	assert_true(dup2(before, STDOUT_FILENO) >= 0);
	close(before);
	close(fd);
	return r;
}

struct listing {
	char dir[128], want[1024];
};

static bool play_listing(void *user)
{
	struct listing *l = user;
	char got[1024];
	bool reached;
	int r;

	memory_fault_begin(memory_sweep_at, false);
	r = list_all(l->dir);
	reached = memory_fault_end();
	must_hold(r == EXIT_VERIFIED || r == EXIT_USAGE);
	read_back(got);
	must_hold((r == EXIT_VERIFIED) == (strcmp(got, l->want) == 0));
	must_hold(r == EXIT_VERIFIED || !strstr(got, "Total"));
	return reached;
}

static void a_listing_is_whole_or_fails(void **state)
{
	struct listing l;
	char command[160];

	make_mount(l.dir);
	snprintf(path, sizeof(path), "%s/printed", l.dir);
	assert_int_equal(list_all(l.dir), EXIT_VERIFIED);
	read_back(l.want);
	assert_non_null(strstr(l.want, "Total Objects: 3\n   Total Size: 6\n"));
	memory_sweep("a listing", play_listing, &l, 1);
	snprintf(command, sizeof(command), "rm -rf '%s'", l.dir);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(findings_are_all_there),
		cmocka_unit_test(a_manifest_is_read_to_its_end),
		cmocka_unit_test(a_listing_is_whole_or_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
