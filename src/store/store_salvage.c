/*
 * store_salvage - read an LMDB data file page by page, without liblmdb: it trusts every page it is
 * given, so a damaged one may crash it, and one bad page costs it all that lies behind.
 *
 * Format 1 (LMDB 0.9, mdb.c), 64 bit, little-endian:
 *
 *   page    number(8) pad(2) flags(2) lower(2) upper(2) | pages(4) of an overflow run
 *   node    leaf:   value length(4) flags(2) key length(2) key value | page(8) of an overflow run
 *           branch: page(6) key length(2) key
 *   db      pad(4) flags(2) depth(2) branches(8) leaves(8) overflows(8) entries(8) root(8)
 *   meta    magic(4) version(4) address(8) map size(8) free db, main db, last page(8) txn(8)
 *
 * Pages 0 and 1 are metas: the one with the higher transaction number counts. The main db's entries
 * with the sub-db flag are the named tables. Every page is checked for its own number, its kind and
 * its bounds; a bad one is counted and left out with what hangs on it.
 */
#include "store_private.h"

#define PAGE_HEAD_BYTES 16
#define PAGE_MAX_BYTES 65536
#define P_BRANCH 0x01u
#define P_LEAF 0x02u
#define P_OVERFLOW 0x04u
#define P_META 0x08u
#define F_BIG_DATA 0x01u
#define F_SUB_DATA 0x02u
#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1
#define META_FREE_DB 24
#define META_MAIN_DB (META_FREE_DB + DB_BYTES)
#define META_LAST_PAGE (META_MAIN_DB + DB_BYTES)
#define META_TXN (META_LAST_PAGE + 8)
#define META_BYTES (META_TXN + 8)
#define DB_BYTES 48
#define NODE_BYTES 8
#define DEPTH_MAX 32
#define KEY_MAX 511
#define VALUE_MAX_BYTES (64 * MIB)
#define NO_PAGE UINT64_MAX

struct db {
	unsigned depth;
	uint64_t entries, root;
};

struct salvage {
	int fd;
	size_t page_bytes;
	uint64_t pages; /* by the size of the file, or what the meta says: the smaller */
	uint8_t *seen;	/* bit per page: no page belongs to two places */
	struct salvage_report *report;
	const char *only; /* this table, or NULL: all */
	salvage_each_fn *each;
	void *user;
	int error; /* of each, or of memory: ends it all */
};

struct node {
	struct bytes key;
	const uint8_t *body;
	size_t room; /* from body to the page's end */
	unsigned flags;
	uint64_t child;	  /* branch */
	size_t value_len; /* leaf */
};

static struct db db_read(const uint8_t *p)
{
	return (struct db){
		.depth = get_le16(p + 6), .entries = get_le64(p + 32), .root = get_le64(p + 40)};
}

/* ---- pages ----------------------------------------------------------------------------------- */

static bool page_claim(struct salvage *v, uint64_t number)
{
	if (number >= v->pages || (v->seen[number / 8] >> (number % 8) & 1))
		return false;
	v->seen[number / 8] |= (uint8_t)(1u << (number % 8));
	return true;
}

static bool page_read(struct salvage *v, uint64_t number, unsigned kind, uint8_t *page)
{
	if (!page_claim(v, number) || io_pread(v->fd, page, v->page_bytes,
					      number * v->page_bytes) != (ssize_t)v->page_bytes)
		return false;
	unsigned lower = get_le16(page + 12), upper = get_le16(page + 14);
	if (get_le64(page) != number || (get_le16(page + 10) & 0x0f) != kind)
		return false;
	return lower >= PAGE_HEAD_BYTES && lower % 2 == 0 && lower <= upper &&
	       upper <= v->page_bytes;
}

static unsigned page_nodes(const uint8_t *page)
{
	return (unsigned)(get_le16(page + 12) - PAGE_HEAD_BYTES) / 2;
}

static bool node_read(const struct salvage *v, const uint8_t *page, unsigned i, struct node *ret)
{
	size_t at = get_le16(page + PAGE_HEAD_BYTES + 2 * (size_t)i);
	bool leaf = get_le16(page + 10) & P_LEAF;
	if (at < get_le16(page + 14) || at + NODE_BYTES > v->page_bytes)
		return false;
	const uint8_t *node = page + at;
	size_t key_len = get_le16(node + 6);
	if (key_len > KEY_MAX || at + NODE_BYTES + key_len > v->page_bytes)
		return false;
	*ret = (struct node){.key = {node + NODE_BYTES, key_len},
		.body = node + NODE_BYTES + key_len,
		.room = v->page_bytes - at - NODE_BYTES - key_len};
	if (!leaf) {
		ret->child = get_le32(node) | (uint64_t)get_le16(node + 4) << 32;
		return true;
	}
	ret->flags = get_le16(node + 4);
	ret->value_len = get_le32(node);
	return ret->value_len <= VALUE_MAX_BYTES &&
	       (ret->flags & F_BIG_DATA ? ret->room >= 8 : ret->room >= ret->value_len);
}

/* The value of a node that has it in pages of its own. */
static bool big_value_read(struct salvage *v, const struct node *n, struct buf *out)
{
	uint8_t head[PAGE_HEAD_BYTES];
	uint64_t first = get_le64(n->body), at = first * v->page_bytes;
	uint64_t run = (PAGE_HEAD_BYTES + n->value_len + v->page_bytes - 1) / v->page_bytes;
	if (first >= v->pages || run > v->pages - first ||
		io_pread(v->fd, head, sizeof(head), at) != sizeof(head))
		return false;
	if (get_le64(head) != first || (get_le16(head + 10) & 0x0f) != P_OVERFLOW ||
		get_le32(head + 12) < run)
		return false;
	for (uint64_t i = 0; i < run; i++)
		if (!page_claim(v, first + i))
			return false;
	buf_clear(out);
	cleanup_free void *value = malloc(n->value_len + 1);
	if (!value ||
		io_pread(v->fd, value, n->value_len, at + PAGE_HEAD_BYTES) != (ssize_t)n->value_len)
		return false;
	buf_add(out, value, n->value_len);
	return buf_error(out) == 0;
}

/* ---- trees ----------------------------------------------------------------------------------- */

typedef bool leaf_fn(struct salvage *v, const char *table, const struct node *n);

static bool node_value(struct salvage *v, const char *table, const struct node *n)
{
	cleanup_buf struct buf big = {.max = VALUE_MAX_BYTES + 1};
	struct bytes value = {n->body, n->value_len};
	if (n->flags & F_BIG_DATA) {
		if (!big_value_read(v, n, &big))
			return false;
		value = (struct bytes){big.data, big.len};
	}
	v->report->entries++;
	if (v->each && table && v->error == 0)
		v->error = v->each(v->user, table, n->key, value);
	return true;
}

static bool ascends(struct bytes before, struct bytes key)
{
	size_t len = before.len < key.len ? before.len : key.len;
	int c = memcmp(before.data, key.data, len);
	return c < 0 || (c == 0 && before.len < key.len);
}

static uint64_t tree_walk(struct salvage *v, const char *table, uint64_t number, unsigned depth,
	bool numeric_keys, leaf_fn *leaf);

/* How many entries of this page, and below it, were read. */
static uint64_t page_walk(struct salvage *v, const char *table, const uint8_t *page, unsigned depth,
	bool numeric_keys, leaf_fn *leaf)
{
	struct bytes before = {"", 0};
	uint64_t entries = 0;
	for (unsigned i = 0; i < page_nodes(page) && v->error == 0; i++) {
		struct node n;
		bool good = node_read(v, page, i, &n);
		/* the first key of a branch page is empty; the free list's keys are numbers */
		if (good && i > (depth > 1) && !numeric_keys)
			good = ascends(before, n.key);
		if (good && depth > 1)
			entries += tree_walk(v, table, n.child, depth - 1, numeric_keys, leaf);
		else if (good)
			good = leaf(v, table, &n);
		v->report->bad_pages += !good;
		entries += good && depth == 1;
		if (good)
			before = n.key;
	}
	return entries;
}

static uint64_t tree_walk(struct salvage *v, const char *table, uint64_t number, unsigned depth,
	bool numeric_keys, leaf_fn *leaf)
{
	cleanup_free uint8_t *page = malloc(v->page_bytes);
	if (!page) {
		v->error = -ENOMEM;
		return 0;
	}
	if (!page_read(v, number, depth > 1 ? P_BRANCH : P_LEAF, page) || page_nodes(page) == 0) {
		v->report->bad_pages++;
		return 0;
	}
	return page_walk(v, table, page, depth, numeric_keys, leaf);
}

static bool db_walk(
	struct salvage *v, const char *table, const uint8_t *raw, bool numeric_keys, leaf_fn *leaf)
{
	struct db db = db_read(raw);
	if (db.root == NO_PAGE)
		return db.entries == 0;
	if (db.depth == 0 || db.depth > DEPTH_MAX)
		return false;
	uint64_t bad_before = v->report->bad_pages;
	uint64_t entries = tree_walk(v, table, db.root, db.depth, numeric_keys, leaf);
	return v->error || entries == db.entries || v->report->bad_pages > bad_before;
}

/* An entry of the main db: a table by its name. */
static bool table_walk(struct salvage *v, const char *unused, const struct node *n)
{
	char name[64];
	if (!(n->flags & F_SUB_DATA) || n->value_len != DB_BYTES || n->key.len >= sizeof(name))
		return false;
	memcpy(name, n->key.data, n->key.len);
	name[n->key.len] = '\0';
	return (v->only && strcmp(v->only, name) != 0) ||
	       db_walk(v, name, n->body, false, node_value);
}

/* ---- metas ----------------------------------------------------------------------------------- */

static bool meta_read(struct salvage *v, size_t page_bytes, unsigned i, uint8_t meta[META_BYTES])
{
	uint8_t page[PAGE_HEAD_BYTES + META_BYTES];
	if (io_pread(v->fd, page, sizeof(page), i * page_bytes) != sizeof(page) ||
		get_le64(page) != i || !(get_le16(page + 10) & P_META))
		return false;
	memcpy(meta, page + PAGE_HEAD_BYTES, META_BYTES);
	return get_le32(meta) == META_MAGIC && get_le32(meta + 4) == META_VERSION &&
	       get_le32(meta + META_FREE_DB) == page_bytes;
}

/* The page size stands in the metas only: where the first is bad, it is found by the second. */
static bool metas_read(struct salvage *v, uint8_t meta[META_BYTES])
{
	uint8_t other[META_BYTES];
	for (size_t size = 4096; size <= PAGE_MAX_BYTES; size *= 2) {
		bool first = meta_read(v, size, 0, meta), second = meta_read(v, size, 1, other);
		if (!first && !second)
			continue;
		if (!first || (second && get_le64(other + META_TXN) > get_le64(meta + META_TXN)))
			memcpy(meta, other, META_BYTES);
		v->report->bad_pages += !first + !second;
		v->page_bytes = size;
		return true;
	}
	return false;
}

static int salvage_open(struct salvage *v, uint8_t meta[META_BYTES])
{
	off_t end = lseek(v->fd, 0, SEEK_END);
	if (end < 0)
		return -errno;
	if (!metas_read(v, meta))
		return -EUCLEAN;
	uint64_t there = (uint64_t)end / v->page_bytes, meant = get_le64(meta + META_LAST_PAGE) + 1;
	v->report->is_short = there < meant;
	v->pages = there < meant ? there : meant;
	v->seen = calloc(1, v->pages / 8 + 1);
	return v->seen ? 0 : -ENOMEM;
}

int salvage_index(
	int fd, const char *only, salvage_each_fn *each, void *user, struct salvage_report *ret)
{
	*ret = (struct salvage_report){0};
	struct salvage v = {.fd = fd, .report = ret, .only = only, .each = each, .user = user};
	uint8_t meta[META_BYTES];
	int r = salvage_open(&v, meta);
	if (r == 0 && !only && !db_walk(&v, NULL, meta + META_FREE_DB, true, node_value))
		ret->bad_pages++;
	if (r == 0 && !db_walk(&v, NULL, meta + META_MAIN_DB, false, table_walk))
		ret->bad_pages++;
	free(v.seen);
	return r < 0 ? r : v.error;
}
