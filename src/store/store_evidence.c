/*
 * store_evidence - all that index, journal and witness still say, the latest of each entry.
 *
 * The index counts as of its last commit (number); journal records behind that are newer. Where the
 * index has holes, older records of the journal (its file keeps them until they are overwritten)
 * and the witness fill in. "exact" is what nothing can have outdated unseen: the index, if no
 * record of the journal was lost, and those records. What stands in the journal behind a record
 * that a power cut took tells of names and bytes that may be there, and takes nothing away: no
 * mount would replay it.
 */
#include "store_repair.h"

#include <fcntl.h>
#include <sys/stat.h>

#define HEAD_BYTES 9 /* number(8) flags(1) */
#define FLAG_EXACT 1u
#define FLAG_GONE 2u
#define PUTS_PER_COMMIT 50000

/* ---- the table of testimonies ---------------------------------------------------------------- */

int testimony_read(struct bytes raw, struct testimony *ret)
{
	const uint8_t *p = raw.data;

	if (raw.len < HEAD_BYTES)
		return -EUCLEAN;
	*ret = (struct testimony){.number = get_le64(p),
		.exact = p[8] & FLAG_EXACT,
		.gone = p[8] & FLAG_GONE,
		.value = {p + HEAD_BYTES, raw.len - HEAD_BYTES}};
	return 0;
}

int evidence_get(struct repair *p, enum table t, const struct ikey *k, struct testimony *ret)
{
	struct bytes raw;
	int r = index_get(&p->evidence, t, k, &raw);

	return r < 0 ? r : testimony_read(raw, ret);
}

static int put_raw(struct repair *p, enum table t, struct bytes key, const struct testimony *what)
{
	cleanup_free uint8_t *raw = malloc(HEAD_BYTES + what->value.len);

	if (!raw)
		return -ENOMEM;
	put_le64(raw, what->number);
	raw[8] = (uint8_t)((what->exact ? FLAG_EXACT : 0) | (what->gone ? FLAG_GONE : 0));
	if (what->value.len)
		memcpy(raw + HEAD_BYTES, what->value.data, what->value.len);
	int r = index_put(&p->evidence, t, key, (struct bytes){raw, HEAD_BYTES + what->value.len});
	if (r < 0 || ++p->puts % PUTS_PER_COMMIT)
		return r;
	r = index_commit(&p->evidence);
	return r < 0 ? r : index_begin(&p->evidence);
}

int evidence_put(struct repair *p, enum table t, struct bytes key, const struct testimony *what)
{
	struct ikey k = {.len = key.len};
	struct testimony before;

	if (key.len == 0 || key.len > sizeof(k.data))
		return 0; /* no key of ours */
	memcpy(k.data, key.data, key.len);
	int r = evidence_get(p, t, &k, &before);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && (before.number > what->number ||
			      (before.number == what->number && before.exact && !what->exact)))
		return 0;
	return put_raw(p, t, key, what);
}

void evidence_close(struct repair *p)
{
	index_close(&p->evidence);
	free(steal_ptr(p->evidence.path));
}

/* ---- what the sources say of themselves ------------------------------------------------------ */

static int open_source(struct repair *p, const char *name, int *ret_fd)
{
	return io_openat(p->s->dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, ret_fd);
}

static bool key_is(struct bytes key, const char *name)
{
	return key.len == strlen(name) && memcmp(key.data, name, key.len) == 0;
}

static int meta_each(void *user, const char *table, struct bytes key, struct bytes value)
{
	struct sources *s = user;
	const struct {
		const char *name;
		uint64_t *where;
	} numbers[] = {{"format", &s->format}, {"epoch", &s->epoch}, {"number", &s->number},
		{"clean", &s->clean}, {META_DISK_SEQ, &s->disk_seq}};

	for (size_t i = 0; i < array_len(numbers); i++)
		if (key_is(key, numbers[i].name) && value.len == 8)
			*numbers[i].where = get_le64(value.data);
	if (key_is(key, "identity") && value.len < sizeof(s->index_identity)) {
		memcpy(s->index_identity, value.data, value.len);
		s->index_identity[value.len] = '\0';
	}
	return 0;
}

static int boot_each(void *user, const char *table, struct bytes key, struct bytes value)
{
	const char *ours = user;

	if (key_is(key, "boot-id") &&
		(value.len != strlen(ours) || memcmp(value.data, ours, value.len) != 0))
		return -ESTALE;
	return 0;
}

/* Can it be what the table should hold? */
static bool makes_sense(const char *table, struct bytes key, struct bytes value)
{
	struct record r;
	struct chunk_record c;

	if (strcmp(table, "inode") == 0)
		return key.len == 8 && record_decode(value, get_be64(key.data), &r) == 0;
	if (strcmp(table, "chunk") == 0)
		return key.len == 12 && chunk_decode(value, &c) == 0;
	if (strcmp(table, "dirent") == 0)
		return key.len > 8 && value.len == 8;
	return true;
}

static int sense_each(void *user, const char *table, struct bytes key, struct bytes value)
{
	uint64_t *bad = user;

	*bad += !makes_sense(table, key, value);
	return 0;
}

static int look_at_index(struct repair *p)
{
	struct sources *s = &p->sources;
	struct salvage_report report;
	uint64_t senseless = 0;
	cleanup_fd int fd = -1;
	int r = open_source(p, "index/data.mdb", &fd);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	s->has_index = true;
	s->epoch = s->number = UINT64_MAX;
	s->clean = UINT64_MAX;
	r = salvage_index(fd, "meta", meta_each, s, &report);
	if (r == 0)
		s->power_cut =
			(salvage_index(fd, "meta", boot_each, p->s->boot_id, &report) == -ESTALE ||
				store_disk_is_another(s->disk_seq, p->s->disk_seq)) &&
			s->clean == 0;
	s->meta_known = r == 0 && s->epoch != UINT64_MAX && s->number != UINT64_MAX &&
			s->clean != UINT64_MAX && s->index_identity[0] && s->format;
	if (r == 0)
		r = salvage_index(fd, NULL, sense_each, &senseless, &report);
	s->tree_sound = r == 0 && s->meta_known && report.bad_pages == 0 && senseless == 0;
	return r == -EUCLEAN || r == -EIO ? 0 : r;
}

static int epoch_each(void *user, uint64_t epoch, uint64_t number, const void *payload, size_t len)
{
	struct repair *p = user;
	struct sources *s = &p->sources;

	if (epoch == WITNESS_EPOCH || epoch < s->journal_epoch)
		return 0;
	if (epoch > s->journal_epoch || number < s->front_number)
		s->front_number = number;
	s->journal_epoch = epoch;
	return 0;
}

static int replay_none(void *user, uint64_t number, const void *payload, size_t len)
{
	const uint8_t *at = payload;
	struct primitive p;
	int r = 0;

	while (r == 0 && len)
		r = op_list_next(&at, &len, &p);
	return r;
}

/* As a mount would judge it (store_recover.c). */
static bool run_is_whole(struct repair *p, int fd)
{
	struct sources *s = &p->sources;
	struct journal j = {.fd = fd};
	enum journal_front front;
	uint64_t count, epoch;
	bool later = false;
	struct stat st;

	if (!s->meta_known || fstat(fd, &st) < 0)
		return false;
	int r = journal_replay(&j, s->epoch, s->number + 1, replay_none, NULL, &count);
	s->run_end = j.next_number - 1;
	if (r < 0 || (uint64_t)st.st_size < JOURNAL_ROOM_BYTES ||
		journal_front(&j, &front, &epoch) < 0)
		return false;
	if (front == JOURNAL_FRONT_RECORD && epoch > s->epoch)
		return false;
	if (s->power_cut)
		return true;
	if (front == JOURNAL_FRONT_ELSE && j.next_number > 1)
		return false;
	return journal_has_later(&j, &later) == 0 && !later;
}

static int look_at_journal(struct repair *p, bool *ret_whole)
{
	cleanup_fd int fd = -1;
	int r = open_source(p, "journal", &fd);

	*ret_whole = false;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	p->sources.has_journal = true;
	*ret_whole = run_is_whole(p, fd);
	r = journal_scan(fd, 0, epoch_each, p);
	return r < 0 ? r : 0;
}

static int newest_each(void *user, uint64_t epoch, uint64_t number, const void *payload, size_t len)
{
	uint64_t *newest = user;

	if (epoch == WITNESS_EPOCH && number > *newest)
		*newest = number;
	return 0;
}

static int run_end_each(
	void *user, uint64_t epoch, uint64_t number, const void *payload, size_t len)
{
	struct repair *p = user;

	if (epoch == p->sources.epoch && number > p->highest_number)
		p->highest_number = number;
	return 0;
}

/* Does the witness know of operations that neither the index nor the journal has? */
static int look_beyond(struct repair *p, int witness_fd, bool *ret_newer)
{
	cleanup_fd int fd = -1;
	uint64_t newest = 0;
	int r = journal_scan(witness_fd, 0, newest_each, &newest);

	p->highest_number = p->sources.meta_known ? p->sources.number : 0;
	if (r >= 0 && open_source(p, "journal", &fd) == 0)
		r = journal_scan(fd, 0, run_end_each, p);
	*ret_newer = newest > p->highest_number;
	return r < 0 ? r : 0;
}

static int look_at_witness(struct repair *p, bool *ret_newer)
{
	struct sources *s = &p->sources;
	cleanup_fd int fd = -1;
	int r = open_source(p, "witness", &fd);

	*ret_newer = false;
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = witness_identity(fd, s->witness_identity, sizeof(s->witness_identity));
	if (r == -ENOENT || r > 0) /* it is of use all the same */
		r = 0;
	s->has_witness = r == 0;
	s->index_is_foreign = s->witness_identity[0] && s->index_identity[0] &&
			      strcmp(s->witness_identity, s->index_identity) != 0;
	return r < 0 ? r : look_beyond(p, fd, ret_newer);
}

int sources_look(struct repair *p)
{
	struct sources *s = &p->sources;
	bool whole = false, newer = false;
	int r = look_at_index(p);

	if (r == 0)
		r = look_at_journal(p, &whole);
	if (r == 0)
		r = look_at_witness(p, &newer);
	if (s->index_is_foreign)
		s->tree_sound = s->meta_known = false;
	/* A clean end left nothing in the journal that the index lacks */
	s->records_lost = !s->meta_known || (!whole && s->clean != 1) ||
			  (s->journal_epoch > s->epoch && s->has_journal) ||
			  (newer && !s->power_cut);
	s->sound = s->tree_sound && whole && (!newer || s->power_cut);
	return r;
}

/* ---- gathering ------------------------------------------------------------------------------- */

static const char *const gathered[TABLE_COUNT_OF] = {[TABLE_INODE] = "inode",
	[TABLE_CHUNK] = "chunk",
	[TABLE_ATTEMPT] = "attempt",
	[TABLE_XATTR] = "xattr",
	[TABLE_JOB] = "job",
	[TABLE_SETTING] = "setting",
	[TABLE_GRAVE] = "grave"};

static void next_above(uint64_t *next, uint64_t seen)
{
	if (seen >= *next)
		*next = seen + 1;
}

/* Numbers are never given twice, whatever became of their owners. */
static void note_numbers(struct repair *p, enum table t, struct bytes key, struct bytes value)
{
	uint64_t id = key.len >= 8 ? get_be64(key.data) : 0;

	if ((t == TABLE_INODE || t == TABLE_GRAVE) && !(id & STORE_INO_FROM_BUCKET))
		next_above(&p->next_ino, id);
	if (t == TABLE_ATTEMPT)
		next_above(&p->next_attempt, id);
	if (t == TABLE_JOB)
		next_above(&p->next_job, id);
	if (t != TABLE_META || value.len != 8)
		return;
	uint64_t number = get_le64(value.data);
	if (key_is(key, "next-ino") && number > p->next_ino)
		p->next_ino = number;
	if (key_is(key, "next-attempt") && number > p->next_attempt)
		p->next_attempt = number;
	if (key_is(key, "next-job") && number > p->next_job)
		p->next_job = number;
}

static int tree_each(void *user, const char *table, struct bytes key, struct bytes value)
{
	struct repair *p = user;
	struct testimony what = {
		.number = p->sources.number, .exact = !p->sources.records_lost, .value = value};

	if (strcmp(table, "meta") == 0)
		note_numbers(p, TABLE_META, key, value);
	if (!makes_sense(table, key, value))
		return 0;
	for (enum table t = 0; t < TABLE_COUNT_OF; t++) {
		if (!gathered[t] || strcmp(gathered[t], table) != 0)
			continue;
		note_numbers(p, t, key, value);
		return evidence_put(p, t, key, &what);
	}
	return 0;
}

enum faith {
	FAITH_OLD,   /* perhaps outdated */
	FAITH_EXACT, /* the latest */
	FAITH_TAKEN, /* behind a record that a power cut took */
};

static int list_gather(
	struct repair *p, uint64_t number, enum faith faith, const uint8_t *at, size_t len)
{
	struct primitive prim;

	while (len && op_list_next(&at, &len, &prim) == 0) {
		struct testimony what = {.number = number,
			.exact = faith == FAITH_EXACT,
			.gone = prim.kind == PRIMITIVE_DEL,
			.value = prim.value};
		if (prim.kind == PRIMITIVE_COUNT || (what.gone && faith == FAITH_TAKEN))
			continue;
		note_numbers(p, prim.table, prim.key, prim.value);
		const char *table = gathered[prim.table];
		if (!table || (!what.gone && !makes_sense(table, prim.key, prim.value)))
			continue;
		int r = evidence_put(p, prim.table, prim.key, &what);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool was_taken(const struct sources *s, uint64_t number)
{
	return s->power_cut && s->meta_known && number > s->run_end;
}

static int journal_each(
	void *user, uint64_t epoch, uint64_t number, const void *payload, size_t len)
{
	struct repair *p = user;
	struct sources *s = &p->sources;
	bool newer = number > s->number, taken = was_taken(s, number);
	enum faith faith = newer && !s->records_lost ? FAITH_EXACT : FAITH_OLD;

	if (epoch == WITNESS_EPOCH)
		return 0;
	if (epoch > p->highest_epoch)
		p->highest_epoch = epoch;
	/* a tail that a power cut took: its numbers were given again in a later epoch */
	if (newer && epoch < s->epoch)
		return 0;
	if (s->tree_sound && !newer)
		return 0;
	if (s->sound && taken)
		return 0;
	if (number > p->highest_number)
		p->highest_number = number;
	return list_gather(p, number, taken ? FAITH_TAKEN : faith, payload, len);
}

static int witness_each(
	void *user, uint64_t epoch, uint64_t number, const void *payload, size_t len)
{
	struct repair *p = user;

	if (epoch != WITNESS_EPOCH || (p->sources.tree_sound && number <= p->sources.number))
		return 0;
	if (number > p->highest_number)
		p->highest_number = number;
	return list_gather(
		p, number, was_taken(&p->sources, number) ? FAITH_TAKEN : FAITH_OLD, payload, len);
}

static int gather_index(struct repair *p)
{
	struct salvage_report report;
	cleanup_fd int fd = -1;
	int r = open_source(p, "index/data.mdb", &fd);

	if (r == 0)
		r = salvage_index(fd, NULL, tree_each, p, &report);
	return r == -ENOENT || r == -EUCLEAN ? 0 : r;
}

static int gather_file(struct repair *p, const char *name, journal_scan_fn *each)
{
	cleanup_fd int fd = -1;
	int r = open_source(p, name, &fd);

	if (r == 0)
		r = journal_scan(fd, 0, each, p);
	if (r > 0 && p->config->note)
		p->config->note(p->config->user, name,
			"the disk failed while it was read: the last that was known of some files "
			"may be missing");
	return r == -ENOENT || r > 0 ? 0 : r;
}

static uint64_t source_bytes(struct repair *p, const char *name)
{
	struct stat st;

	return fstatat(p->s->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_size
									  : 0;
}

static int evidence_open(struct repair *p)
{
	cleanup_free char *path = NULL;
	int r = text_printf(&path, "%s/evidence", p->work_dir);

	if (r == 0)
		r = io_mkdir_p(path, 0700);
	p->evidence.flags = MDB_NOSYNC;
	p->evidence.map_bytes =
		GIB + 8 * MIB *
			      ((source_bytes(p, "index/data.mdb") + source_bytes(p, "journal") +
				       source_bytes(p, "witness")) /
					      MIB +
				      1);
	return r < 0 ? r : index_open(&p->evidence, path);
}

int evidence_gather(struct repair *p)
{
	struct sources *s = &p->sources;
	int r = evidence_open(p);

	if (!s->meta_known) { /* the journal's newest records are newer than what the tree has */
		s->number = s->front_number ? s->front_number - 1 : 0;
		s->epoch = s->journal_epoch;
	}
	p->highest_epoch = s->epoch;
	p->highest_number = s->number;
	p->next_ino = STORE_ROOT_INO + 1;
	p->next_attempt = p->next_job = 1;
	if (r == 0 && !s->index_is_foreign)
		r = gather_index(p);
	if (r == 0 && !s->index_is_foreign)
		r = gather_file(p, "journal", journal_each);
	if (r == 0 && !s->sound)
		r = gather_file(p, "witness", witness_each);
	return r;
}
