/*
 * store_index - LMDB: one environment, one write transaction that is always open. Every read of
 * current state goes through it too, so no LMDB reader exists; the daemon's own lock keeps other
 * processes away (MDB_NOLOCK), which also frees the transaction from the thread that began it.
 */
#include "store_private.h"

#include <sys/resource.h>
#include <sys/stat.h>

#define MAP_FIRST_BYTES (1 * GIB)

int index_error(int e)
{
	switch (e) {
	case MDB_SUCCESS:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
		return -E2BIG;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_BAD_DBI:
	case MDB_INCOMPATIBLE:
	case MDB_BAD_VALSIZE:
		return -EUCLEAN;
	case MDB_PANIC:
	case MDB_BAD_TXN:
		return -EIO;
	case MDB_TXN_FULL:
	case MDB_CURSOR_FULL:
	case MDB_PAGE_FULL:
		return -E2BIG;
	default:
		return e > 0 ? -e : -EIO;
	}
}

/* LMDB maps the file: a page that it lacks kills the process when it is touched. One that ends before
 * its last page may lack only pages that nothing uses, so it is read. */
static int check_whole(struct index *x)
{
	struct salvage_report report;
	MDB_envinfo info;
	MDB_stat stat;
	struct stat st;
	int fd;
	if (mdb_env_get_fd(x->env, &fd) != 0 || mdb_env_info(x->env, &info) != 0 ||
		mdb_env_stat(x->env, &stat) != 0 || fstat(fd, &st) < 0)
		return -EIO;
	if ((uint64_t)st.st_size >= ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize)
		return 0;
	int r = salvage_index(fd, NULL, NULL, NULL, &report);
	return r == 0 && report.bad_pages ? -EUCLEAN : r;
}

int index_open(struct index *x, const char *path)
{
	if (!x->path && !(x->path = text_dup(path)))
		return -ENOMEM;
	if (x->map_bytes == 0)
		x->map_bytes = MAP_FIRST_BYTES;
	int e = mdb_env_create(&x->env);
	if (e)
		return index_error(e);
	e = mdb_env_set_maxdbs(x->env, TABLE_COUNT_OF);
	if (!e)
		e = mdb_env_set_mapsize(x->env, x->map_bytes);
	if (!e)
		e = mdb_env_open(
			x->env, path, MDB_NOLOCK | MDB_NORDAHEAD | MDB_NOTLS | x->flags, 0600);
	int r = index_error(e);
	if (r == 0) {
		MDB_envinfo info;
		mdb_env_info(x->env, &info);
		x->map_bytes = info.me_mapsize; /* a grown one is remembered in the file */
		r = check_whole(x);
	}
	if (r == 0) {
		r = index_begin(x);
	}
	if (r < 0) {
		mdb_env_close(x->env);
		x->env = NULL;
	}
	return r;
}

void index_close(struct index *x)
{
	index_abort(x);
	if (x->env)
		mdb_env_close(x->env);
	x->env = NULL;
}

int index_begin(struct index *x)
{
	static const char *const names[TABLE_COUNT_OF] = { "meta", "inode", "dirent", "chunk", "queue",
		"count", "attempt", "attempt-key", "object-key", "xattr", "job", "setting", "grave",
		"unsynced", "evict", "folder" };
	int e = mdb_txn_begin(x->env, NULL, 0, &x->txn);
	for (unsigned t = 0; !e && t < TABLE_COUNT_OF; t++)
		e = mdb_dbi_open(x->txn, names[t], MDB_CREATE, &x->dbi[t]);
	if (e)
		index_abort(x);
	return index_error(e);
}

void index_abort(struct index *x)
{
	if (x->txn)
		mdb_txn_abort(x->txn);
	x->txn = NULL;
}

/* Pages that this thread has made dirty in the page cache; LMDB does not tell. 0 for ever where the
 * kernel does not count them (some file systems, some kernels). */
static uint64_t pages_written(void)
{
	struct rusage usage;
	return getrusage(RUSAGE_THREAD, &usage) == 0 ? (uint64_t)usage.ru_oublock * 512 / 4096 : 0;
}

int index_commit(struct index *x)
{
	uint64_t before = pages_written();
	int e = mdb_txn_commit(x->txn);
	x->txn = NULL;
	x->commit_pages = pages_written() - before;
	return index_error(e);
}

/* No transaction may be open. */
int index_grow(struct index *x)
{
	size_t wanted = x->map_bytes * 2;
	int e = mdb_env_set_mapsize(x->env, wanted);
	if (e)
		return index_error(e);
	x->map_bytes = wanted;
	return 0;
}

static MDB_val val(const void *data, size_t len)
{
	return (MDB_val){ .mv_size = len, .mv_data = (void *)data };
}

int index_get(struct index *x, enum table t, const struct ikey *k, struct bytes *ret)
{
	MDB_val key = val(k->data, k->len), value;
	if (!x->txn) /* the store has failed */
		return -EIO;
	int e = mdb_get(x->txn, x->dbi[t], &key, &value);
	if (e)
		return index_error(e);
	*ret = (struct bytes){ value.mv_data, value.mv_size };
	return 0;
}

int index_put(struct index *x, enum table t, struct bytes k, struct bytes v)
{
	MDB_val key = val(k.data, k.len), value = val(v.data, v.len);
	return index_error(mdb_put(x->txn, x->dbi[t], &key, &value, 0));
}

int index_del(struct index *x, enum table t, struct bytes k)
{
	MDB_val key = val(k.data, k.len);
	int r = index_error(mdb_del(x->txn, x->dbi[t], &key, NULL));
	return r == -ENOENT ? 0 : r;
}

static int cursor_take(struct index_cursor *c, MDB_cursor_op how, MDB_val key)
{
	MDB_val value;
	int e = mdb_cursor_get(c->cursor, &key, &value, how);
	if (e)
		return index_error(e);
	c->key = (struct bytes){ key.mv_data, key.mv_size };
	c->value = (struct bytes){ value.mv_data, value.mv_size };
	return 0;
}

int index_seek(struct index *x, enum table t, const struct ikey *from, bool after,
	struct index_cursor *c)
{
	c->cursor = NULL;
	if (!x->txn)
		return -EIO;
	int e = mdb_cursor_open(x->txn, x->dbi[t], &c->cursor);
	if (e)
		return index_error(e);
	int r = from->len ? cursor_take(c, MDB_SET_RANGE, val(from->data, from->len))
			  : cursor_take(c, MDB_FIRST, val(NULL, 0));
	if (r == 0 && after && c->key.len == from->len &&
		memcmp(c->key.data, from->data, from->len) == 0)
		r = index_next(c);
	return r;
}

int index_next(struct index_cursor *c)
{
	return cursor_take(c, MDB_NEXT, val(NULL, 0));
}

void index_done(struct index_cursor *c)
{
	if (c->cursor)
		mdb_cursor_close(c->cursor);
	c->cursor = NULL;
}

void cleanup_cursor_fn(struct index_cursor *c)
{
	index_done(c);
}
