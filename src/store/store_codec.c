/*
 * store_codec - records to bytes and back. Every record begins with its version; numbers are
 * little-endian, texts have a 16-bit length. Keys of the index are big-endian so that they sort.
 */
#include "store_private.h"

#define RECORD_VERSION 1

/* ---- keys ----------------------------------------------------------------------------------------- */

struct ikey ikey_ino(uint64_t ino)
{
	struct ikey k = { .len = 8 };
	put_be64(k.data, ino);
	return k;
}

struct ikey ikey_ino_name(uint64_t ino, const char *name)
{
	struct ikey k;
	size_t len = strlen(name);
	check(len <= STORE_NAME_MAX);
	put_be64(k.data, ino);
	memcpy(k.data + 8, name, len);
	k.len = 8 + len;
	return k;
}

struct ikey ikey_chunk(uint64_t ino, uint64_t n)
{
	struct ikey k = { .len = 12 };
	put_be64(k.data, ino);
	put_be32(k.data + 8, (uint32_t)n);
	return k;
}

struct ikey ikey_queue(uint8_t class_or_state, uint64_t order, uint64_t ino)
{
	struct ikey k = { .len = 17 };
	k.data[0] = class_or_state;
	put_be64(k.data + 1, order);
	put_be64(k.data + 9, ino);
	return k;
}

struct ikey ikey_count(uint64_t ino, uint8_t slot)
{
	struct ikey k = { .len = 9 };
	put_be64(k.data, ino);
	k.data[8] = slot;
	return k;
}

/* Object keys reach 1,024 bytes, LMDB's 511: 128 bits of their SHA-256 stand for them. */
struct ikey ikey_hash(const char *object_key, uint64_t id)
{
	uint8_t digest[32];
	struct ikey k = { .len = 24 };
	sha256_of(object_key, strlen(object_key), digest);
	memcpy(k.data, digest, 16);
	put_be64(k.data + 16, id);
	return k;
}

struct ikey ikey_text(const char *name)
{
	struct ikey k;
	k.len = strlen(name);
	check(k.len > 0 && k.len <= STORE_NAME_MAX);
	memcpy(k.data, name, k.len);
	return k;
}

/* ---- writing -------------------------------------------------------------------------------------- */

static void add_u8(struct buf *b, unsigned v)
{
	buf_add_char(b, (char)v);
}

static void add_u32(struct buf *b, uint32_t v)
{
	uint8_t p[4];
	put_le32(p, v);
	buf_add(b, p, sizeof(p));
}

static void add_u64(struct buf *b, uint64_t v)
{
	uint8_t p[8];
	put_le64(p, v);
	buf_add(b, p, sizeof(p));
}

static void add_text(struct buf *b, const char *text)
{
	size_t len = strlen(text);
	add_u8(b, len & 0xff);
	add_u8(b, (len >> 8) & 0xff);
	buf_add(b, text, len);
}

/* ---- reading: a latch, so that one check at the end is enough -------------------------------------- */

struct reader {
	const uint8_t *at, *end;
	bool bad;
};

static const uint8_t *take(struct reader *r, size_t len)
{
	static const uint8_t zeros[8];
	if (r->bad || (size_t)(r->end - r->at) < len) {
		r->bad = true;
		return len <= sizeof(zeros) ? zeros : NULL;
	}
	const uint8_t *p = r->at;
	r->at += len;
	return p;
}

static unsigned take_u8(struct reader *r)
{
	return *take(r, 1);
}

static uint32_t take_u32(struct reader *r)
{
	return get_le32(take(r, 4));
}

static uint64_t take_u64(struct reader *r)
{
	return get_le64(take(r, 8));
}

static void take_text(struct reader *r, char *out, size_t size)
{
	unsigned low = take_u8(r);
	size_t len = low | take_u8(r) << 8;
	const uint8_t *p = len < size ? take(r, len) : NULL;
	out[0] = '\0';
	if (!p || r->bad || memchr(p, '\0', len)) {
		r->bad = true;
		return;
	}
	memcpy(out, p, len);
	out[len] = '\0';
}

static struct reader reader_of(struct bytes in)
{
	struct reader r = { .at = in.data, .end = (const uint8_t *)in.data + in.len };
	if (take_u8(&r) != RECORD_VERSION)
		r.bad = true;
	return r;
}

static int reader_end(const struct reader *r)
{
	return r->bad || r->at != r->end ? -EUCLEAN : 0;
}

/* ---- inodes --------------------------------------------------------------------------------------- */

int record_encode(const struct record *r, struct buf *out)
{
	const struct store_inode *i = &r->i;
	const struct store_attr *a = &i->attr;
	const struct store_object *o = &i->object;
	add_u8(out, RECORD_VERSION);
	add_u64(out, a->parent);
	add_u8(out, a->type);
	add_u32(out, a->mode);
	add_u32(out, a->uid);
	add_u32(out, a->gid);
	add_u64(out, a->size_bytes);
	add_u64(out, (uint64_t)a->mtime_ns);
	add_u64(out, (uint64_t)a->ctime_ns);
	add_u64(out, (uint64_t)a->atime_ns);
	add_u64(out, a->generation);
	add_u8(out, a->state);
	add_u32(out, a->flags);
	add_u8(out, i->held);
	add_u64(out, i->part_size_bytes);
	add_u64(out, (uint64_t)i->closed_at_ns);
	add_u64(out, (uint64_t)i->due_at_ns);
	add_u32(out, i->attempts);
	add_u32(out, i->rewrites);
	add_u8(out, i->state_before);
	add_u64(out, r->present_bytes);
	add_u64(out, (uint64_t)r->since_ns);
	add_u32(out, r->attempts_open);
	add_text(out, i->name);
	add_text(out, i->reason);
	add_text(out, o->key);
	add_text(out, o->etag);
	add_u64(out, o->size_bytes);
	add_u64(out, o->generation);
	add_u8(out, o->has_crc64nvme);
	add_u64(out, o->crc64nvme);
	add_u64(out, (uint64_t)o->uploaded_at_ns);
	add_u64(out, (uint64_t)o->verified_at_ns);
	if (i->in_the_way) /* few have it */
		add_u64(out, i->in_the_way);
	return buf_error(out);
}

static void take_attr(struct reader *in, struct store_attr *a)
{
	a->parent = take_u64(in);
	a->type = (enum store_type)take_u8(in);
	a->mode = take_u32(in);
	a->uid = take_u32(in);
	a->gid = take_u32(in);
	a->size_bytes = take_u64(in);
	a->mtime_ns = (int64_t)take_u64(in);
	a->ctime_ns = (int64_t)take_u64(in);
	a->atime_ns = (int64_t)take_u64(in);
	a->generation = take_u64(in);
	a->state = (enum file_state)take_u8(in);
	a->flags = take_u32(in);
}

static void take_object(struct reader *in, struct store_object *o)
{
	take_text(in, o->key, sizeof(o->key));
	take_text(in, o->etag, sizeof(o->etag));
	o->size_bytes = take_u64(in);
	o->generation = take_u64(in);
	o->has_crc64nvme = take_u8(in) != 0;
	o->crc64nvme = take_u64(in);
	o->uploaded_at_ns = (int64_t)take_u64(in);
	o->verified_at_ns = (int64_t)take_u64(in);
}

int record_decode(struct bytes in, uint64_t ino, struct record *ret)
{
	struct reader r = reader_of(in);
	struct store_inode *i = &ret->i;
	i->attr.ino = ino;
	take_attr(&r, &i->attr);
	i->held = (enum held_kind)take_u8(&r);
	i->part_size_bytes = take_u64(&r);
	i->closed_at_ns = (int64_t)take_u64(&r);
	i->due_at_ns = (int64_t)take_u64(&r);
	i->attempts = take_u32(&r);
	i->rewrites = take_u32(&r);
	i->state_before = (enum file_state)take_u8(&r);
	ret->present_bytes = take_u64(&r);
	ret->since_ns = (int64_t)take_u64(&r);
	ret->attempts_open = take_u32(&r);
	take_text(&r, i->name, sizeof(i->name));
	take_text(&r, i->reason, sizeof(i->reason));
	take_object(&r, &i->object);
	bool any = r.at != r.end;
	i->in_the_way = any ? take_u64(&r) : 0;
	if (any != (i->in_the_way != 0) || i->attr.state >= FILE_STATE_COUNT ||
		i->state_before >= FILE_STATE_COUNT || i->held >= HELD_KIND_COUNT ||
		(i->attr.type != STORE_FILE && i->attr.type != STORE_DIR) ||
		i->part_size_bytes > 5 * GIB ||
		(i->attr.type == STORE_FILE && i->part_size_bytes == 0))
		return -EUCLEAN;
	i->attr.in_bucket = i->attr.state == FILE_UPLOADED || i->attr.state == FILE_VERIFIED;
	i->chunk_count = i->attr.type == STORE_FILE
		? chunk_count_of(i->part_size_bytes, i->attr.size_bytes)
		: 0;
	return reader_end(&r);
}

/* ---- chunks ------------------------------------------------------------------------------------------ */

#define CHUNK_ABSENT 1u
#define CHUNK_FILLED 2u
#define CHUNK_HAS_CRC 4u

int chunk_encode(const struct chunk_record *c, struct buf *out)
{
	add_u8(out, RECORD_VERSION);
	add_u8(out, (c->absent ? CHUNK_ABSENT : 0) | (c->filled ? CHUNK_FILLED : 0) |
			(c->has_crc ? CHUNK_HAS_CRC : 0));
	add_u64(out, c->crc64nvme);
	add_u64(out, c->part_attempt);
	add_text(out, c->part_etag);
	return buf_error(out);
}

int chunk_decode(struct bytes in, struct chunk_record *ret)
{
	struct reader r = reader_of(in);
	unsigned flags = take_u8(&r);
	ret->absent = flags & CHUNK_ABSENT;
	ret->filled = flags & CHUNK_FILLED;
	ret->has_crc = flags & CHUNK_HAS_CRC;
	ret->crc64nvme = take_u64(&r);
	ret->part_attempt = take_u64(&r);
	take_text(&r, ret->part_etag, sizeof(ret->part_etag));
	return reader_end(&r);
}

/* ---- attempts ------------------------------------------------------------------------------------------ */

int attempt_encode(const struct store_attempt *a, struct buf *out)
{
	add_u8(out, RECORD_VERSION);
	add_u64(out, a->ino);
	add_u64(out, a->generation);
	add_u8(out, a->kind);
	add_u8(out, a->phase);
	add_text(out, a->key);
	add_u64(out, a->size_bytes);
	add_u8(out, a->has_crc64nvme);
	add_u64(out, a->crc64nvme);
	add_u8(out, a->has_md5);
	add_text(out, a->md5);
	add_u8(out, a->if_none_match);
	add_text(out, a->if_match);
	add_text(out, a->upload_id);
	add_text(out, a->source_key);
	add_u64(out, (uint64_t)a->begun_at_ns);
	return buf_error(out);
}

int attempt_decode(struct bytes in, uint64_t id, struct store_attempt *ret)
{
	struct reader r = reader_of(in);
	ret->id = id;
	ret->ino = take_u64(&r);
	ret->generation = take_u64(&r);
	ret->kind = (enum attempt_kind)take_u8(&r);
	ret->phase = (enum attempt_phase)take_u8(&r);
	take_text(&r, ret->key, sizeof(ret->key));
	ret->size_bytes = take_u64(&r);
	ret->has_crc64nvme = take_u8(&r) != 0;
	ret->crc64nvme = take_u64(&r);
	ret->has_md5 = take_u8(&r) != 0;
	take_text(&r, ret->md5, sizeof(ret->md5));
	ret->if_none_match = take_u8(&r) != 0;
	take_text(&r, ret->if_match, sizeof(ret->if_match));
	take_text(&r, ret->upload_id, sizeof(ret->upload_id));
	take_text(&r, ret->source_key, sizeof(ret->source_key));
	ret->begun_at_ns = (int64_t)take_u64(&r);
	ret->names = 0;
	if (ret->kind < ATTEMPT_PUT || ret->kind > ATTEMPT_DELETE || ret->phase < ATTEMPT_OPEN ||
		ret->phase > ATTEMPT_KEPT)
		return -EUCLEAN;
	return reader_end(&r);
}
