/*
 * upload_rekey - folders that were renamed with something below that the bucket or a hold knew by
 * the old path: each file below is looked at once, in batches, so that a large folder holds up
 * nothing else. The root's is that of a cache of an older build. A job that was interrupted is
 * simply walked again, and so is a batch of which something could not be read or recorded: nobody
 * else would look at its files. What is damaged in the index is passed by and named; the job then stands
 * until the next mount, or the repair that mends it, and others go on.
 */
#include "upload_private.h"

#define BATCH 256

/* The version that the bucket holds under another key has to follow; what waits is judged anew.
 * -ESTALE: its state has changed meanwhile. */
static int rekey_as_it_is(struct upload *u, uint64_t ino)
{
	struct store_inode inode;
	struct version v;
	struct key_now now;
	enum file_state to = FILE_CLOSED;
	int r = store_inode(u->store, ino, &inode);

	if (r < 0 && r != -ENOENT)
		pause_note_store(u, r);
	if (r < 0)
		return r;
	v = (struct version){
		.ino = ino, .generation = inode.attr.generation, .state = inode.attr.state};
	switch (v.state) {
	case FILE_UPLOADED:
	case FILE_VERIFIED:
		if (key_of_inode(u, ino, &now) == 0 && now.held == HELD_NOT &&
			strcmp(now.key, inode.object.key) == 0)
			return 0;
		to = FILE_MOVING;
		break;
	case FILE_HELD:
	case FILE_FAILED:
	case FILE_CONFLICT:
		break;
	case FILE_NONE:
	case FILE_OPEN:
	case FILE_CLOSED:
	case FILE_SETTLED:
	case FILE_QUEUED:
	case FILE_SENDING:
	case FILE_UNKNOWN:
	case FILE_INCOMPLETE:
	case FILE_TORN:
	case FILE_LOST:
	case FILE_GONE:
	case FILE_MOVING:
	case FILE_DELETING:
	case FILE_STATE_COUNT:
		return 0;
	}
	return state_set(u, &v, &(struct state_change){.to = to});
}

static int rekey_file(struct upload *u, uint64_t ino)
{
	int r;

	do
		r = rekey_as_it_is(u, ino);
	while (r == -ESTALE);
	return r;
}

/* ---- what is damaged ---------------------------------------------------------------------------- */

/* They are worked off in the order of their numbers. */
bool job_is_damaged_locked(const struct upload *u, uint64_t id)
{
	return id < u->synced.damaged_below;
}

bool upload_job_is_damaged(struct upload *u, uint64_t job_id)
{
	with_lock(&u->lock);
	return job_is_damaged_locked(u, job_id);
}

/* The entry that the walk has passed, or the folder that can't be walked. */
static void damage_note(struct upload *u, bool entry)
{
	cleanup_buf struct buf path = {0}, shown = {0};
	char text[sizeof(u->synced.damaged)];

	u->sched.job_met_damage = true;
	if (entry && store_walk_path(u->store, &u->sched.job_walk, &path) == 0)
		text_escape(&shown, buf_text(&path));
	else
		text_escape(&shown, u->sched.job.old_prefix);
	snprintf(text, sizeof(text),
		"%s%.300s: its record in the index is damaged, and the bucket does not follow a folder's new "
		"name there: unmount, then `cpgfs repair`",
		entry ? "" : "what was ", shown.len ? buf_text(&shown) : "/");
	log_error("%s", text);
	with_lock(&u->lock);
	if (!u->synced.damaged[0])
		memcpy(u->synced.damaged, text, sizeof(text));
}

static void job_stands(struct upload *u, uint64_t id)
{
	with_lock(&u->lock);
	u->synced.damaged_below = id + 1;
	u->synced.damaged_count++;
}

static unsigned jobs_that_stand(struct upload *u)
{
	with_lock(&u->lock);
	return u->synced.damaged_count;
}

/* ---- jobs --------------------------------------------------------------------------------------- */

static void job_next(struct upload *u)
{
	size_t max = jobs_that_stand(u) + 1;
	struct store_job *jobs = calloc(max, sizeof(*jobs));
	int n = jobs ? store_jobs(u->store, jobs, max) : -ENOMEM;

	u->sched.job_active = false;
	u->sched.jobs_look = n < 0; /* again with the next look */
	for (int i = 0; i < n && !u->sched.job_active; i++) {
		if (upload_job_is_damaged(u, jobs[i].id))
			continue;
		u->sched.job_active = true;
		u->sched.job_met_damage = false;
		u->sched.job = jobs[i];
		u->sched.job_walk = (struct store_walk){0};
	}
	free(jobs);
}

static void job_done(struct upload *u)
{
	int r = 0;

	if (u->sched.job_met_damage)
		job_stands(u, u->sched.job.id);
	else
		r = store_job_end(u->store, u->sched.job.id);
	u->sched.job_active = false;
	u->sched.jobs_look = true;
	if (r < 0 && r != -ENOENT)
		pause_note_store(u, r);
}

static void job_damaged(struct upload *u)
{
	bool passed = u->sched.job_walk.passed_damage;

	damage_note(u, passed);
	if (!passed)
		job_done(u);
}

void rekey_pass(struct upload *u)
{
	struct store_walk from;
	uint64_t inos[BATCH];
	int n;

	if (pause_holds(u, PAUSE_SPACE))
		return;
	if (!u->sched.job_active && u->sched.jobs_look)
		job_next(u);
	if (!u->sched.job_active)
		return;
	from = u->sched.job_walk;
	n = store_walk_next(
		u->store, u->sched.job.dir_ino, &u->sched.job_walk, inos, array_len(inos));
	for (int i = 0; i < n && !pause_holds(u, PAUSE_SPACE); i++)
		if (rekey_file(u, inos[i]) == -EUCLEAN)
			damage_note(u, false);
	if (pause_holds(u, PAUSE_SPACE))
		u->sched.job_walk = from;
	else if (n == 0 || n == -ENOENT) /* done, or its folder is gone */
		job_done(u);
	else if (n == -EUCLEAN)
		job_damaged(u);
	else if (n < 0)
		pause_note_store(u, n);
	wake_by(u, clock_mono_ms());
}
