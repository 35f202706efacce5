/*
 * 20,000 random steps against a plain tree in memory. About every 500 the store is closed, or its
 * process killed between steps or at a random disk call, and opened again.
 */
#define SCRATCH_ON_DISK
#include "store_disk.h"
#include "store_model.h"

#define STEPS 20000
#define SEGMENT_STEPS 500

static struct model model;

static void arm_kill(void *arg)
{
	disk_on(DISK_KILL_HALF, *(long *)arg, 0);
}

static void one_segment(struct rig *r, uint64_t *seed, struct m_progress *p, unsigned *killed)
{
	struct m_segment g = {.model = &model, .progress = p, .steps = SEGMENT_STEPS};
	uint64_t roll = rig_random(seed) % 3;
	long at = 1 + (long)(rig_random(seed) % 1500);
	int status;

	*p = (struct m_progress){0};
	if (roll == 0) {
		rig_child(r, m_segment_close_work, &g, CHILD_CLOSES);
	} else if (roll == 1) {
		rig_child(r, m_segment_work, &g, CHILD_KILLED);
		(*killed)++;
	} else {
		g.armed = arm_kill;
		g.arm_arg = &at;
		status = rig_child_status(r, m_segment_work, &g, CHILD_KILLED);
		must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		(*killed)++;
	}
	rig_open(r);
	if (roll == 0) {
		struct m_op op;
		struct m_diff d;

		must(!m_follow(&model, p, &op));
		m_close_all(r, &model);
		m_crash(&model);
		if (!m_same(r, &model, &d))
			must_failed(__FILE__, __LINE__, "after a clean close: %s", d.text);
		rig_must_count(r, STORE_ROOT_INO);
	} else {
		m_must_follow(r, &model, p);
	}
	rig_close(r);
}

static void store_shows_the_model(void **state)
{
	struct rig *r = *state;
	struct m_progress *p = rig_shared(sizeof(*p));
	uint64_t first = rig_seed(), seed = first, steps = 0;
	unsigned killed = 0;

	m_init(&model, first + 1);
	for (unsigned i = 0; steps < STEPS; i++) {
		snprintf(rig_context, sizeof(rig_context), "CPGFS_TEST_SEED=%" PRIu64 ", segment %u",
			first, i);
		one_segment(r, &seed, p, &killed);
		steps += p->done;
	}
	rig_context[0] = '\0';
	print_message("%" PRIu64 " steps, killed %u times\n", steps, killed);
	must(killed > 3);
	munmap(p, sizeof(*p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {rig_test_closed(store_shows_the_model)};

	return cmocka_run_group_tests_name("store model", tests, NULL, NULL);
}
