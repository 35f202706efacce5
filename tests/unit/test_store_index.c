/*
 * The index from inside: a map that is full grows and nothing is lost, formats of the future are
 * refused, LMDB's errors are told in the system's words.
 */
#include "store_private.h"

#include "store_rig.h"

#define FILES 600

static void index_path(struct rig *r, char out[128])
{
	snprintf(out, 128, "%s/index", r->dir);
}

/* As if the map had been made just as large as what it holds, and a little more. */
static void shrink_map(struct rig *r, unsigned spare_pages)
{
	MDB_envinfo info;
	MDB_stat stat;

	lock_take(&r->s->lock);
	must_eq(checkpoint_locked(r->s), 0);
	index_abort(&r->s->index);
	must_eq(mdb_env_info(r->s->index.env, &info), 0);
	must_eq(mdb_env_stat(r->s->index.env, &stat), 0);
	r->s->index.map_bytes = (info.me_last_pgno + 1 + spare_pages) * stat.ms_psize;
	must_eq(mdb_env_set_mapsize(r->s->index.env, r->s->index.map_bytes), 0);
	must_eq(index_begin(&r->s->index), 0);
	lock_drop(&r->s->lock);
}

static void must_have_all(struct rig *r)
{
	char name[16], value[600];

	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		must_eq(store_xattr_get(r->s, rig_find(r, name), "user.x", value, sizeof(value)), 500);
	}
	must_eq(rig_files_in(r, FILE_CLOSED), FILES);
	rig_must_count(r, STORE_ROOT_INO);
}

static void full_map_grows(void **state)
{
	static const unsigned spare[] = {4, 9, 33};
	struct rig *r = *state;
	char name[16], value[500] = {1};

	for (size_t k = 0; k < array_len(spare); k++) {
		uint64_t map_bytes;

		snprintf(rig_context, sizeof(rig_context), "%u spare pages", spare[k]);
		rig_close(r);
		rig_empty(r);
		rig_open(r);
		shrink_map(r, spare[k]);
		map_bytes = r->s->index.map_bytes;
		for (int i = 0; i < FILES; i++) {
			uint64_t ino;

			snprintf(name, sizeof(name), "f%d", i);
			ino = rig_put(r, STORE_ROOT_INO, name, 0, 1);
			must_eq(store_xattr_set(r->s, ino, "user.x", value, 500, 0), 0);
			if (i % 97 == 96)
				must_eq(store_checkpoint(r->s), 0);
		}
		must(r->s->index.map_bytes > map_bytes);
		must_have_all(r);
		rig_reopen(r);
		must_have_all(r);
	}
	rig_context[0] = '\0';
}

/* A checkpoint itself may be what no longer fits. */
static void full_map_at_a_checkpoint(void **state)
{
	struct rig *r = *state;

	/* without free pages of earlier commits to fall back on, at every distance from the end */
	for (unsigned spare = 0; spare < 40; spare++) {
		char name[16], value[3000] = {1};
		uint64_t ino;

		snprintf(rig_context, sizeof(rig_context), "%u spare pages", spare);
		rig_close(r);
		rig_empty(r);
		rig_open(r);
		shrink_map(r, spare);
		for (int i = 0; i < 12; i++) {
			snprintf(name, sizeof(name), "d%d", i);
			ino = rig_dir(r, STORE_ROOT_INO, name);
			must_eq(store_xattr_set(r->s, ino, "user.x", value, sizeof(value), 0), 0);
			must_eq(store_checkpoint(r->s), 0);
		}
		rig_reopen(r);
		for (int i = 0; i < 12; i++) {
			snprintf(name, sizeof(name), "d%d", i);
			must_eq(store_xattr_get(r->s, rig_find(r, name), "user.x", NULL, 0),
				sizeof(value));
		}
	}
	rig_context[0] = '\0';
}

static void newer_format_is_refused(void **state)
{
	struct rig *r = *state;
	cleanup_free char *message = NULL;
	struct index x = {0};
	struct ikey k = ikey_text("format");
	uint8_t next[8] = {FORMAT_VERSION + 1};
	char path[128];

	rig_open(r);
	rig_close(r);
	index_path(r, path);
	must_eq(index_open(&x, path), 0);
	must_eq(index_put(&x, TABLE_META, (struct bytes){k.data, k.len}, (struct bytes){next, 8}), 0);
	must_eq(index_commit(&x), 0);
	index_close(&x);
	free(x.path);
	must_eq(rig_try_open(r, &message), -EPROTO);
	must(strstr(message, "newer") != NULL && strstr(message, r->dir) != NULL);
}

static void must_be_format(struct rig *r, uint64_t want)
{
	uint64_t format = 0;

	lock_take(&r->s->lock);
	must_eq(meta_get_u64(&r->s->index, "format", &format), 0);
	lock_drop(&r->s->lock);
	must_eq(format, want);
}

/* A cache of format 1 has no table of its folders: it is made when it is opened. */
static void format_1_is_brought_up(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a");

	(void)rig_dir(r, a, "below");
	(void)rig_dir(r, STORE_ROOT_INO, "b");
	(void)rig_put(r, a, "file", 1, 1);
	lock_take(&r->s->lock);
	must_eq(mdb_drop(r->s->index.txn, r->s->index.dbi[TABLE_FOLDER], 0), 0);
	must_eq(meta_put_u64(&r->s->index, "format", 1), 0);
	must_eq(checkpoint_locked(r->s), 0);
	lock_drop(&r->s->lock);
	rig_reopen(r);
	rig_must_count(r, STORE_ROOT_INO);
	rig_must_count(r, a);
	must_be_format(r, FORMAT_VERSION);
	must_eq(store_rmdir(r->s, STORE_ROOT_INO, "b"), 0);
	rig_must_count(r, STORE_ROOT_INO);
}

/* In those of format 2 GONE files could not be evicted. */
static void format_2_is_brought_up(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a"), ino = rig_put(r, a, "gone", 100, 1);
	struct store_space space;

	rig_bring(r, ino, FILE_GONE);
	lock_take(&r->s->lock);
	must_eq(mdb_drop(r->s->index.txn, r->s->index.dbi[TABLE_EVICT], 0), 0);
	must_eq(count_apply(&r->s->index, a, SLOT_EVICTABLE, 0, -100), 0);
	must_eq(meta_put_u64(&r->s->index, "format", 2), 0);
	must_eq(checkpoint_locked(r->s), 0);
	lock_drop(&r->s->lock);
	store_space(r->s, &space);
	must_eq(space.evictable_bytes, 0);
	rig_reopen(r);
	must_be_format(r, FORMAT_VERSION);
	store_space(r->s, &space);
	must_eq(space.evictable_bytes, 100);
	must_eq(store_evict(r->s, 1), 0);
	store_space(r->s, &space);
	must_eq(space.evictable_bytes, 0);
	must_eq(space.used_bytes, 0);
	rig_must_count(r, STORE_ROOT_INO);
}

/* In those of format 3 a file may say that its object has its name though it has not, and a
 * conflict does not say with what: every file is looked at again, once. */
static void format_3_is_brought_up(void **state)
{
	struct rig *r = *state;
	struct store_job jobs[2];

	(void)rig_put(r, STORE_ROOT_INO, "file", 1, 1);
	must_eq(store_jobs(r->s, jobs, 2), 0);
	lock_take(&r->s->lock);
	must_eq(meta_put_u64(&r->s->index, "format", 3), 0);
	must_eq(checkpoint_locked(r->s), 0);
	lock_drop(&r->s->lock);
	rig_reopen(r);
	must_be_format(r, FORMAT_VERSION);
	rig_reopen(r); /* it is still to be done */
	must_eq(store_jobs(r->s, jobs, 2), 1);
	must_eq(jobs[0].dir_ino, STORE_ROOT_INO);
	must(!store_key_is_ours(r->s, "any/key"));
	must_eq(store_job_end(r->s, jobs[0].id), 0);
	rig_reopen(r);
	must_eq(store_jobs(r->s, jobs, 2), 0);
}

/* The map was full when that was to be committed: what was brought up is lost with the transaction. */
static void brought_up_after_a_full_map(void **state)
{
	struct rig *r = *state;
	uint64_t a = rig_dir(r, STORE_ROOT_INO, "a");

	(void)rig_dir(r, a, "below");
	lock_take(&r->s->lock);
	must_eq(mdb_drop(r->s->index.txn, r->s->index.dbi[TABLE_FOLDER], 0), 0);
	must_eq(meta_put_u64(&r->s->index, "format", 1), 0);
	must_eq(checkpoint_locked(r->s), 0);
	must_eq(index_upgrade(&r->s->index), 0);
	index_abort(&r->s->index);
	must_eq(index_grow(&r->s->index), 0);
	must_eq(index_replay(r->s), 0);
	lock_drop(&r->s->lock);
	must_be_format(r, FORMAT_VERSION);
	rig_must_count(r, STORE_ROOT_INO);
	rig_must_count(r, a);
}

/* Whatever the operations touch, a transaction settles at as many pages as it may hold. */
static void commits_are_as_large_as_memory_allows(void **state)
{
	static const struct {
		uint64_t ops_per_page;
		uint64_t settles_at;
	} cells[] = {{1, 4096}, {3, 12288}, {20, 81920}, {1000, CHECKPOINT_OPS_MOST}};
	uint64_t ops = CHECKPOINT_OPS_FIRST;

	for (size_t i = 0; i < array_len(cells); i++) {
		for (int commits = 0; commits < 10; commits++)
			ops = checkpoint_ops(ops, ops, ops / cells[i].ops_per_page);
		must_eq(ops, cells[i].settles_at);
	}
	/* each touches many: at once */
	must_eq(checkpoint_ops(100000, 100000, 400000), 1024);
	/* commits of idle moments say nothing, nor do kernels that do not count */
	must_eq(checkpoint_ops(20000, 5, 30), 20000);
	must_eq(checkpoint_ops(20000, 20000, 0), 20000);
}

static void lmdb_errors(void **state)
{
	must_eq(index_error(MDB_SUCCESS), 0);
	must_eq(index_error(MDB_NOTFOUND), -ENOENT);
	must_eq(index_error(MDB_MAP_FULL), -E2BIG);
	must_eq(index_error(MDB_CORRUPTED), -EUCLEAN);
	must_eq(index_error(MDB_PANIC), -EIO);
	must_eq(index_error(ENOSPC), -ENOSPC);
	must(index_error(-31000) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(full_map_grows),
		rig_test(full_map_at_a_checkpoint),
		rig_test_closed(newer_format_is_refused),
		rig_test(format_1_is_brought_up),
		rig_test(format_2_is_brought_up),
		rig_test(format_3_is_brought_up),
		rig_test(brought_up_after_a_full_map),
		cmocka_unit_test(commits_are_as_large_as_memory_allows),
		cmocka_unit_test(lmdb_errors),
	};

	return cmocka_run_group_tests_name("store index", tests, NULL, NULL);
}
