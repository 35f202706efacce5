/*
 * store_rebuild - a new index from what evidence there is.
 *
 * What a file's record says is believed as far as its bytes can bear it out:
 *
 *   checksums of all chunks   CLOSED: the upload compares them before it sends anything, and finds
 *                             what the bucket proves to hold already (uploaded, not sent again)
 *   none, but the record can  CLOSED or HELD as it was, as after any kill
 *   only be the latest
 *   none                      TORN: a person decides; also where a power cut may have taken the
 *                             bytes (no mount looks for that any more)
 *   as above, other length    TORN, with all bytes that are there
 *   still open at the end     INCOMPLETE, with all bytes that are there
 *   a program writes to it    INCOMPLETE
 *   bytes missing             only in the bucket, if it had them (a listing shows it); else LOST
 *
 * Nothing is deleted, here or in the bucket: deletes that were due are dropped, uploads that were
 * under way are aborted and begun anew, what was sent without an answer is found by its content.
 */
#include "store_repair.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#define DEPTH_MAX 512
#define OPS_PER_COMMIT 20000

/* ---- writing it ------------------------------------------------------------------------------ */

static int apply(struct repair *p)
{
	struct buf *list = &p->s->op.list;
	int r = buf_error(list);

	if (r == 0)
		r = op_apply(&p->s->index, list->data + JOURNAL_HEADER_BYTES,
			list->len - JOURNAL_HEADER_BYTES);
	if (r < 0 || ++p->s->ops_since_commit % OPS_PER_COMMIT)
		return r;
	r = index_commit(&p->s->index);
	return r < 0 ? r : index_begin(&p->s->index);
}

static void put_named(struct repair *p, const struct record *new)
{
	struct ikey k = ikey_ino_name(new->i.attr.parent, new->i.name);
	uint8_t ino[8];

	put_be64(ino, new->i.attr.ino);
	op_put(p->s, TABLE_DIRENT, &k, ino, sizeof(ino));
	op_inode(p->s, NULL, new);
}

static void note(struct repair *p, const char *path, const char *what)
{
	if (p->config->note)
		p->config->note(p->config->user, path, what);
}

/* ---- who has which name ---------------------------------------------------------------------- */

static int inode_read(struct repair *p, uint64_t ino, struct record *ret, struct testimony *from)
{
	struct ikey k = ikey_ino(ino);
	int r = evidence_get(p, TABLE_INODE, &k, from);

	if (r == 0 && from->gone)
		r = -ENOENT;
	return r < 0 ? r : record_decode(from->value, ino, ret);
}

static bool name_is_good(const char *name)
{
	return name[0] && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static bool is_named(const struct record *r)
{
	return r->i.attr.ino != STORE_ROOT_INO && !(r->i.attr.flags & STORE_FLAG_UNLINKED) &&
	       !(r->i.attr.flags & STORE_FLAG_FOREIGN) && name_is_good(r->i.name);
}

/* Of two that claim a name the later one has it. */
static int claim_name(struct repair *p, const struct record *r, const struct testimony *from)
{
	struct ikey k = ikey_ino_name(r->i.attr.parent, r->i.name);
	uint8_t ino[8];
	struct testimony claim = {
		.number = from->number, .exact = from->exact, .value = {ino, sizeof(ino)}};

	put_be64(ino, r->i.attr.ino);
	return evidence_put(p, EVIDENCE_NAME, (struct bytes){k.data, k.len}, &claim);
}

static bool has_its_name(struct repair *p, const struct record *r)
{
	struct ikey k = ikey_ino_name(r->i.attr.parent, r->i.name);
	struct testimony claim;

	return evidence_get(p, EVIDENCE_NAME, &k, &claim) == 0 && claim.value.len == 8 &&
	       get_be64(claim.value.data) == r->i.attr.ino;
}

/* ---- every entry in turn; what is put into the evidence meanwhile does not matter ------------ */

typedef int row_fn(struct repair *p, struct bytes key, const struct testimony *row);

static int row_next(struct repair *p, enum table t, struct ikey *at, struct testimony *ret)
{
	cleanup_cursor struct index_cursor c;
	int r = index_seek(&p->evidence, t, at, at->len > 0, &c);

	if (r < 0)
		return r;
	if (c.key.len > sizeof(at->data))
		return -EUCLEAN;
	memcpy(at->data, c.key.data, c.key.len);
	at->len = c.key.len;
	return testimony_read(c.value, ret);
}

static int each_row(struct repair *p, enum table t, row_fn *each)
{
	struct ikey at = {.len = 0};
	struct testimony row;
	int r;

	while ((r = row_next(p, t, &at, &row)) == 0) {
		if (!row.gone)
			r = each(p, (struct bytes){at.data, at.len}, &row);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

typedef int inode_fn(struct repair *p, struct record *r, const struct testimony *from);

static int each_inode(struct repair *p, inode_fn *each)
{
	cleanup_free struct record *r = malloc(sizeof(*r));
	struct ikey at = {.len = 0};
	struct testimony from;
	int e = r ? 0 : -ENOMEM;

	while (e == 0 && (e = row_next(p, TABLE_INODE, &at, &from)) == 0) {
		if (from.gone)
			continue;
		e = record_decode(from.value, get_be64(at.data), r);
		from.value = (struct bytes){0}; /* it may move */
		if (e == 0)
			e = each(p, r, &from);
	}
	return e == -ENOENT ? 0 : e;
}

static int claim_each(struct repair *p, struct record *r, const struct testimony *from)
{
	return is_named(r) ? claim_name(p, r, from) : 0;
}

/* The path as far as it is known: "?/" before what has no root. */
static int known_path(struct repair *p, const struct record *r, struct buf *out)
{
	cleanup_free struct record *dir = malloc(sizeof(*dir));
	cleanup_buf struct buf texts = {0};
	size_t starts[DEPTH_MAX];
	unsigned depth = 0;
	uint64_t parent = r->i.attr.parent;
	struct testimony from;

	if (!dir)
		return -ENOMEM;
	while (parent != STORE_ROOT_INO && depth < DEPTH_MAX &&
		inode_read(p, parent, dir, &from) == 0) {
		starts[depth++] = texts.len;
		buf_add(&texts, dir->i.name, strlen(dir->i.name) + 1);
		parent = dir->i.attr.parent;
	}
	if (buf_error(&texts) < 0)
		return buf_error(&texts);
	if (parent != STORE_ROOT_INO)
		buf_add_text(out, "?/");
	while (depth--)
		buf_printf(out, "%s/", texts.data + starts[depth]);
	buf_add_text(out, r->i.name);
	return buf_error(out);
}

/* ---- folders, from the root down ------------------------------------------------------------- */

static bool is_made(struct repair *p, uint64_t ino)
{
	struct ikey k = ikey_ino(ino);
	struct bytes v;

	return index_get(&p->s->index, TABLE_INODE, &k, &v) == 0;
}

static int make_root(struct repair *p)
{
	struct record root = {0};
	struct testimony from;
	struct ikey k = ikey_ino(STORE_ROOT_INO);
	cleanup_buf struct buf b = {0};
	int64_t now = clock_wall_ns();

	if (inode_read(p, STORE_ROOT_INO, &root, &from) < 0 || root.i.attr.type != STORE_DIR) {
		root = (struct record){.since_ns = now};
		root.i.attr = (struct store_attr){.mode = S_IFDIR | 0755,
			.uid = getuid(),
			.gid = getgid(),
			.mtime_ns = now,
			.ctime_ns = now,
			.atime_ns = now,
			.generation = 1,
			.type = STORE_DIR};
	}
	root.i.attr.ino = root.i.attr.parent = STORE_ROOT_INO;
	int r = record_encode(&root, &b);
	op_begin(p->s);
	op_put(p->s, TABLE_INODE, &k, b.data, b.len);
	return r < 0 ? r : apply(p);
}

/* With all above it. -ENOENT: there is no way from the root to it. */
static int make_dir(struct repair *p, uint64_t ino, unsigned depth)
{
	cleanup_free struct record *r = malloc(sizeof(*r));
	struct testimony from;

	if (is_made(p, ino))
		return 0;
	if (!r)
		return -ENOMEM;
	int e = depth < DEPTH_MAX ? inode_read(p, ino, r, &from) : -ENOENT;
	if (e < 0)
		return e;
	if (r->i.attr.type != STORE_DIR || !is_named(r) || !has_its_name(p, r))
		return -ENOENT;
	e = make_dir(p, r->i.attr.parent, depth + 1);
	if (e < 0)
		return e;
	if (is_made(p, ino))
		return 0;
	op_begin(p->s);
	put_named(p, r);
	p->report->folders++;
	return apply(p);
}

static int make_dir_each(struct repair *p, struct record *r, const struct testimony *from)
{
	int e = r->i.attr.type == STORE_DIR ? make_dir(p, r->i.attr.ino, 0) : 0;

	return e == -ENOENT ? 0 : e;
}

/* ---- files ----------------------------------------------------------------------------------- */

struct found {
	struct record r;
	struct testimony from;
	uint64_t data_bytes; /* of its data file */
	bool is_there;
	bool has_data;	     /* there, and as long as the record says */
	bool is_sparse;
	uint64_t crcs; /* chunks that are here and have a CRC */
	bool any_absent;
	bool is_latest; /* the record is, and nothing that it says of bytes can have got lost */
};

static void look_at_data(struct repair *p, struct found *f)
{
	char path[64];
	struct stat st;

	data_path(f->r.i.attr.ino, path);
	bool there =
		fstatat(p->s->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
	f->is_there = there;
	f->data_bytes = there ? (uint64_t)st.st_size : 0;
	f->is_sparse = there && (uint64_t)st.st_blocks * 512 < (uint64_t)st.st_size;
	f->has_data =
		f->r.i.attr.size_bytes == 0 || (there && f->data_bytes >= f->r.i.attr.size_bytes);
}

static int chunk_read(struct repair *p, uint64_t ino, uint64_t n, struct chunk_record *ret)
{
	struct ikey k = ikey_chunk(ino, n);
	struct testimony from;
	int r = evidence_get(p, TABLE_CHUNK, &k, &from);

	*ret = (struct chunk_record){0};
	if (r == 0 && !from.gone)
		r = chunk_decode(from.value, ret);
	return r == -ENOENT ? 0 : r;
}

static int look_at_chunks(struct repair *p, struct found *f)
{
	for (uint64_t n = 0; n < f->r.i.chunk_count; n++) {
		struct chunk_record c;
		int r = chunk_read(p, f->r.i.attr.ino, n, &c);

		if (r < 0)
			return r;
		f->any_absent |= c.absent ||
			(c.filled && p->sources.power_cut && object_has_version(&f->r.i));
		f->crcs += c.has_crc && !c.absent;
	}
	return 0;
}

static bool was_in_bucket(const struct store_inode *i)
{
	enum file_state s = i->attr.state;

	return i->object.key[0] && i->object.generation == i->attr.generation &&
	       i->object.size_bytes == i->attr.size_bytes &&
	       (s == FILE_UPLOADED || s == FILE_VERIFIED || s == FILE_MOVING || s == FILE_GONE);
}

static void become(struct record *r, enum file_state state, const char *reason)
{
	r->i.attr.state = state;
	r->i.attr.in_bucket = state == FILE_UPLOADED;
	if (state != FILE_HELD)
		r->i.held = HELD_NOT;
	(void)text_copy(r->i.reason, reason, sizeof(r->i.reason)); /* may be cut */
}

static void resize(struct record *r, uint64_t size_bytes)
{
	r->i.attr.size_bytes = size_bytes;
	r->i.chunk_count = chunk_count_of(r->i.part_size_bytes, size_bytes);
	r->present_bytes = size_bytes;
}

/* Its bytes are not here, or nothing vouches for them: what the bucket had stands. */
static void only_in_bucket(struct repair *p, struct found *f)
{
	struct record *r = &f->r;

	r->present_bytes = 0;
	r->i.object.verified_at_ns = 0;
	if (r->i.attr.state != FILE_GONE && r->i.attr.state != FILE_MOVING)
		become(r, FILE_UPLOADED, "");
	p->report->in_bucket_only++;
}

static void tear(struct repair *p, struct found *f, const char *reason)
{
	resize(&f->r, f->data_bytes);
	become(&f->r, FILE_TORN, reason);
	p->report->torn++;
}

static void without_proof(struct repair *p, struct found *f)
{
	struct record *r = &f->r;

	if (f->is_latest) { /* as after any kill */
		if (r->i.attr.state != FILE_HELD)
			become(r, FILE_CLOSED, "");
		p->report->to_check++;
		return;
	}
	tear(p, f,
		"the index was damaged, and no checksum of these bytes was left to compare them "
		"with");
}

static void with_proof(struct repair *p, struct found *f)
{
	struct record *r = &f->r;

	if (r->i.attr.state == FILE_MOVING && f->is_latest)
		return;
	r->i.object.generation = 0; /* its digest says whether the object still is the same */
	become(r, FILE_CLOSED, "");
	p->report->to_check++;
}

static bool bytes_match(struct repair *p, struct found *f)
{
	const struct store_inode *i = &f->r.i;
	cleanup_fd int fd = -1;
	char path[64];

	data_path(i->attr.ino, path);
	if (i->chunk_count && io_openat(p->s->dir_fd, path, O_RDONLY | O_NOFOLLOW, 0, &fd) < 0)
		return false;
	for (uint64_t n = 0; n < i->chunk_count; n++) {
		uint64_t start = chunk_start(i->part_size_bytes, n), crc;
		uint64_t len = chunk_size(i->part_size_bytes, n), left = i->attr.size_bytes - start;
		struct chunk_record c;

		if (chunk_read(p, i->attr.ino, n, &c) < 0 || !c.has_crc ||
			crc_of_range(fd, start, len < left ? len : left, &crc) < 0 ||
			crc != c.crc64nvme)
			return false;
	}
	return true;
}

static void stays_as_before(struct repair *p, const struct record *r)
{
	bool needs_nobody =
		r->i.attr.state == FILE_HELD ? r->i.held != HELD_NAME : r->i.attr.state == FILE_GONE;

	if (needs_nobody)
		p->report->set_aside++;
	else
		p->report->as_before++;
}

static void judge_present(struct repair *p, struct found *f)
{
	bool proof = f->crcs == f->r.i.chunk_count;

	f->r.present_bytes = f->r.i.attr.size_bytes;
	if (!f->from.exact && f->data_bytes != f->r.i.attr.size_bytes &&
		f->r.i.attr.state != FILE_INCOMPLETE && f->r.i.attr.state != FILE_TORN) {
		tear(p, f,
			"the index was damaged, and this file has another length than was "
			"recorded");
		return;
	}
	switch (f->r.i.attr.state) {
	case FILE_INCOMPLETE:
	case FILE_TORN:
		if (!f->is_latest)
			resize(&f->r, f->data_bytes);
		stays_as_before(p, &f->r);
		return;
	case FILE_GONE: /* nobody compares its bytes later: it is never sent again, and may be
			   evicted */
		proof = proof && (f->is_latest || bytes_match(p, f));
		/* fallthrough */
	case FILE_CONFLICT:
	case FILE_FAILED:
	case FILE_HELD:
		if (f->is_latest || proof)
			stays_as_before(p, &f->r);
		else
			without_proof(p, f);
		return;
	case FILE_LOST: /* here again */
	case FILE_NONE:
	case FILE_OPEN:
	case FILE_CLOSED:
	case FILE_SETTLED:
	case FILE_QUEUED:
	case FILE_SENDING:
	case FILE_UPLOADED:
	case FILE_VERIFIED:
	case FILE_UNKNOWN:
	case FILE_MOVING:
	case FILE_DELETING:
	case FILE_STATE_COUNT:
		break;
	}
	if (proof)
		with_proof(p, f);
	else
		without_proof(p, f);
}

/* A program of a mount that ended may still write into it, or did (store_lent.c). */
static bool judge_writers(struct repair *p, struct found *f)
{
	struct record *r = &f->r;
	enum lent_verdict verdict = LENT_OVER;

	if (p->can_see_writers && f->data_bytes)
		verdict = lent_judge(p->s->dir_fd, r->i.attr.ino,
			r->i.attr.flags & STORE_FLAG_LENT ? &r->i.attr : NULL);
	if (verdict != LENT_OVER) {
		resize(r, f->data_bytes);
		become(r, FILE_INCOMPLETE, "");
		p->report->incomplete++;
	}
	lent_strand(r, verdict);
	return verdict != LENT_OVER;
}

static void judge(struct repair *p, struct found *f)
{
	struct record *r = &f->r;
	bool in_bucket = was_in_bucket(&r->i), proof = f->crcs == r->i.chunk_count;

	if (judge_writers(p, f))
		return;
	if (r->i.attr.state == FILE_OPEN && (f->is_there || f->has_data)) {
		resize(r, f->data_bytes);
		become(r, FILE_INCOMPLETE,
			f->from.exact
				? "cpgfs ended while it was being written"
				: "the index was damaged before anything said that it is whole");
		p->report->incomplete++;
	} else if (in_bucket && (!f->has_data || f->any_absent || f->is_sparse || !proof)) {
		only_in_bucket(p, f);
	} else if (!f->has_data || f->any_absent) {
		r->present_bytes =
			f->data_bytes < r->i.attr.size_bytes ? f->data_bytes : r->i.attr.size_bytes;
		become(r, FILE_LOST,
			"its data file in the cache directory is missing or too short");
		p->report->lost++;
	} else {
		judge_present(p, f);
	}
}

static int put_chunks(struct repair *p, const struct found *f)
{
	const struct store_inode *i = &f->r.i;
	bool absent = f->r.present_bytes == 0 && i->attr.state != FILE_LOST;

	for (uint64_t n = 0; n < i->chunk_count; n++) {
		struct chunk_record c;
		int r = chunk_read(p, i->attr.ino, n, &c);

		if (r < 0)
			return r;
		c = (struct chunk_record){
			.absent = absent, .has_crc = c.has_crc, .crc64nvme = c.crc64nvme};
		if (i->attr.state != FILE_TORN && i->attr.state != FILE_INCOMPLETE)
			op_chunk(p->s, i->attr.ino, n, &c);
	}
	return 0;
}

static uint64_t aborts_of(struct repair *p, uint64_t ino)
{
	struct ikey k = ikey_ino(ino);
	struct testimony from;

	return evidence_get(p, EVIDENCE_ABORTS, &k, &from) == 0 ? from.number : 0;
}

static const char *leftover_label(const struct found *f)
{
	if (!f->from.exact)
		return "not shown any more: perhaps another version than the one that the bucket "
		       "holds";
	return f->any_absent || f->is_sparse || !f->has_data ? "part of what the bucket holds"
							     : "copy of what the bucket holds";
}

static int make_file(struct repair *p, struct found *f)
{
	uint64_t torn = p->report->torn, lost = p->report->lost, incomplete = p->report->incomplete;
	struct record *r = &f->r;
	cleanup_buf struct buf path = {0};

	look_at_data(p, f);
	int e = look_at_chunks(p, f);
	if (e == 0)
		e = known_path(p, r, &path);
	if (e < 0)
		return e;
	f->is_latest =
		f->from.exact && (!p->sources.power_cut || r->i.attr.flags & STORE_FLAG_DURABLE);
	judge(p, f);
	r->i.attr.flags &=
		~(STORE_FLAG_ACCEPTED | STORE_FLAG_UNPROVED | STORE_FLAG_REPLACES | STORE_FLAG_COPY);
	r->i.in_the_way = 0;
	r->i.due_at_ns = r->since_ns = clock_wall_ns();
	r->attempts_open = (uint32_t)aborts_of(p, r->i.attr.ino);
	op_begin(p->s);
	put_named(p, r);
	e = put_chunks(p, f);
	if (e == 0)
		e = apply(p);
	p->report->files++;
	if (p->report->torn + p->report->lost + p->report->incomplete > torn + lost + incomplete)
		note(p, buf_text(&path), file_state_text(r->i.attr.state));
	if (e == 0 && is_leftover(r, f->data_bytes))
		e = label_put(p, r->i.attr.ino, leftover_label(f), buf_text(&path));
	return e;
}

/* Its bytes stay, as an orphan with its name as far as known. */
static int leave_out(struct repair *p, const struct record *r, const char *why)
{
	cleanup_buf struct buf path = {0};
	int e = known_path(p, r, &path);

	return e < 0 ? e : label_put(p, r->i.attr.ino, why, buf_text(&path));
}

static bool folder_is_made(struct repair *p, uint64_t ino)
{
	struct ikey k = ikey_ino(ino);
	struct bytes v;
	cleanup_free struct record *r = malloc(sizeof(*r));

	return r && index_get(&p->s->index, TABLE_INODE, &k, &v) == 0 &&
	       record_decode(v, ino, r) == 0 && r->i.attr.type == STORE_DIR;
}

static int drop_delete(struct repair *p, const struct record *r)
{
	if (r->i.attr.mode) { /* else a leftover without a file */
		p->report->deletes_dropped++;
		note(p, r->i.object.key, "its deletion was due: it stays in the bucket");
	}
	return leave_out(p, r, "deleted");
}

static int make_file_each(struct repair *p, struct record *r, const struct testimony *from)
{
	if (r->i.attr.type == STORE_DIR)
		return 0;
	if (r->i.attr.state == FILE_DELETING)
		return drop_delete(p, r);
	if (r->i.attr.flags & STORE_FLAG_FOREIGN)
		return label_put(
			p, r->i.attr.ino, "copy of an object from elsewhere", r->i.object.key);
	if (r->i.attr.flags & STORE_FLAG_UNLINKED)
		return leave_out(p, r, "deleted");
	if (!is_named(r) || !has_its_name(p, r))
		return leave_out(p, r, "another file has its name");
	if (!folder_is_made(p, r->i.attr.parent))
		return leave_out(p, r, "its folder is not known");
	cleanup_free struct found *f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->r = *r;
	f->from = *from;
	return make_file(p, f);
}

/* ---- what hangs on inodes -------------------------------------------------------------------- */

static int copy_row(struct repair *p, enum table t, struct bytes key, const struct testimony *row)
{
	struct ikey k = {.len = key.len};

	memcpy(k.data, key.data, key.len);
	op_begin(p->s);
	op_put(p->s, t, &k, row->value.data, row->value.len);
	return apply(p);
}

static int xattr_each(struct repair *p, struct bytes key, const struct testimony *row)
{
	bool kept = key.len > 8 && is_made(p, get_be64(key.data));

	return kept ? copy_row(p, TABLE_XATTR, key, row) : 0;
}

static int setting_each(struct repair *p, struct bytes key, const struct testimony *row)
{
	return copy_row(p, TABLE_SETTING, key, row);
}

/* One that was done already finds nothing to do. */
static int job_each(struct repair *p, struct bytes key, const struct testimony *row)
{
	bool kept =
		key.len == 8 && row->value.len > 8 && folder_is_made(p, get_be64(row->value.data));

	return kept ? copy_row(p, TABLE_JOB, key, row) : 0;
}

/* An upload in parts that may be open at the server: aborted, or it is billed for ever. Other
 * requests leave nothing behind but an object, and that is found by its key. */
static int attempt_each(struct repair *p, struct bytes key, const struct testimony *row)
{
	cleanup_free struct store_attempt *a = malloc(sizeof(*a));
	struct testimony count = {.number = 1};
	cleanup_buf struct buf b = {0};
	uint8_t ino[8];

	if (!a)
		return -ENOMEM;
	if (key.len != 8 || attempt_decode(row->value, get_be64(key.data), a) < 0 ||
		!a->upload_id[0])
		return 0;
	a->phase = ATTEMPT_ABORTING;
	int r = attempt_encode(a, &b);
	struct ikey k = ikey_ino(a->id), by_key = ikey_hash(a->key, a->id);
	op_begin(p->s);
	op_put(p->s, TABLE_ATTEMPT, &k, b.data, b.len);
	op_put(p->s, TABLE_ATTEMPT_KEY, &by_key, "", 0);
	if (r == 0)
		r = apply(p);
	count.number += aborts_of(p, a->ino);
	put_be64(ino, a->ino);
	return r < 0 ? r : evidence_put(p, EVIDENCE_ABORTS, (struct bytes){ino, 8}, &count);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int put_meta(struct repair *p)
{
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {{"format", FORMAT_VERSION}, {"epoch", p->highest_epoch + 1},
		{"number", p->highest_number}, {"clean", 1}, {"next-ino", p->next_ino},
		{"next-attempt", p->next_attempt}, {"next-job", p->next_job},
		{META_DISK_SEQ, p->s->disk_seq}};
	struct ikey boot = ikey_text("boot-id"), identity = ikey_text("identity");
	const char *whose = p->report->identity;

	op_begin(p->s);
	for (size_t i = 0; i < array_len(numbers); i++)
		op_meta_u64(p->s, numbers[i].name, numbers[i].value);
	op_put(p->s, TABLE_META, &boot, p->s->boot_id, strlen(p->s->boot_id));
	op_put(p->s, TABLE_META, &identity, whose, strlen(whose));
	return apply(p);
}

static int open_new(struct repair *p)
{
	cleanup_free char *path = NULL;
	int r = text_printf(&path, "%s/index", p->work_dir);

	if (r == 0)
		r = io_mkdir_p(path, 0700);
	p->s->index.flags = MDB_NOSYNC;
	p->s->index.map_bytes = p->evidence.map_bytes;
	return r < 0 ? r : index_open(&p->s->index, path);
}

int rebuild(struct repair *p)
{
	int r = open_new(p);

	if (r < 0)
		return r;
	p->can_see_writers = store_lend_possible(p->s) == 0;
	with_lock(&p->s->lock);
	r = make_root(p);
	if (r == 0)
		r = each_inode(p, claim_each);
	if (r == 0)
		r = each_inode(p, make_dir_each);
	if (r == 0)
		r = each_row(p, TABLE_ATTEMPT, attempt_each);
	if (r == 0)
		r = each_inode(p, make_file_each);
	if (r == 0)
		r = each_row(p, TABLE_XATTR, xattr_each);
	if (r == 0)
		r = each_row(p, TABLE_SETTING, setting_each);
	if (r == 0)
		r = each_row(p, TABLE_JOB, job_each);
	return r;
}

int rebuild_end(struct repair *p)
{
	with_lock(&p->s->lock);
	int r = put_meta(p);

	if (r == 0)
		r = index_commit(&p->s->index);
	if (r == 0)
		r = index_error(mdb_env_sync(p->s->index.env, 1));
	return r < 0 ? r : index_begin(&p->s->index);
}
