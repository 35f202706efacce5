/*
 * verify_check - one folder's uploads against one fresh listing of it.
 *
 * The listing is read first, then each upload is looked up in it. An upload counts as verified only
 * if it was finished before the listing was begun; a later one waits for the next. What is missing
 * or different is asked for by name before anything follows from it. When a listing comes by anyway
 * and the folder is quiet, the files verified earlier are looked up as well: what vanished is gone.
 */
#include "verify_private.h"

#define LOG_ROOM "verify"
/* Then a listing is begun anew, later, with more time: a server that hangs should not hold up the
 * end of the mount, nor should a giant folder never be finished. */
#define LISTING_FIRST_MS 30000
#define LISTING_DOUBLINGS_MAX 5
#define HEAD_MAX_MS 20000
#define READDIR_BATCH 64
#define ABSENT_BELIEVED 20 /* so many listed as missing were, and none was not: the rest is, too */

struct check {
	struct verify *verify;
	struct verify_listing listing;
	int64_t begun_at_ns;
	struct verify_inos open; /* to be looked at again */
	uint64_t parent;	 /* local folder of what was looked at; 0: none */
	unsigned verified, asked, absent, failed;
};

static int each(void *user, const struct remote_walk_entry *entry)
{
	struct check *c = user;

	if (verify_is_stopping(c->verify))
		return -ESHUTDOWN;
	if (entry->is_prefix)
		return 0;
	return verify_listing_add(&c->listing, entry->key, entry->key_len, &entry->object);
}

static int read_listing(struct check *c, const struct verify_folder *f)
{
	unsigned doublings =
		f->failures < LISTING_DOUBLINGS_MAX ? f->failures : LISTING_DOUBLINGS_MAX;
	int64_t deadline_ms = clock_mono_ms() + ((int64_t)LISTING_FIRST_MS << doublings);
	int r = remote_walk(
		c->verify->remote, f->prefix, false, deadline_ms, each, c, &c->begun_at_ns);

	if (r == 0)
		verify_listing_finish(&c->listing);
	return r;
}

/* Finished after the listing was begun. A time that still lies ahead is from before the clock was
 * set back. */
static bool is_too_new(const struct check *c, const struct store_inode *inode)
{
	return inode->object.uploaded_at_ns > c->begun_at_ns &&
	       inode->object.uploaded_at_ns <= clock_wall_ns();
}

/* A copy onto itself (new metadata, another encryption) changes the tag, not the content. */
static bool has_our_content(const struct store_object *ours, const struct s3_reply *shown)
{
	return ours->has_crc64nvme && shown->has_crc64nvme && shown->crc_is_full_object &&
	       ours->crc64nvme == shown->crc64nvme && ours->size_bytes == shown->object.size_bytes &&
	       shown->object.etag[0];
}

/* The listing did not show our object: does the bucket have it? 0 settled, -errno not known. */
static int ask_by_name(struct check *c, const struct store_inode *inode)
{
	struct verify *v = c->verify;
	struct s3_reply reply = {0};
	int r;

	if (inode->attr.state == FILE_VERIFIED && c->absent >= ABSENT_BELIEVED &&
		c->absent == c->asked)
		return verify_outcome_missing(v, inode);
	r = remote_head_fresh(v->remote, inode->object.key, clock_mono_ms() + HEAD_MAX_MS, &reply);

	c->asked++;
	c->absent += r == -ENOENT;
	if (r == -ENOENT)
		r = verify_outcome_missing(v, inode);
	else if (r == 0 && verify_compare(&inode->object, &reply.object) == 0)
		r = -EAGAIN; /* it is there, but listings do not say so yet */
	else if (r == 0 && has_our_content(&inode->object, &reply))
		r = verify_outcome_other_tag(v, inode, &reply.object);
	else if (r == 0)
		r = verify_outcome_different(v, inode, &reply.object);
	s3_reply_release(&reply);
	return r;
}

/* 0: settled, or no longer of interest; else it stays open. */
static int look_at(struct check *c, const struct store_inode *inode, enum file_state state)
{
	if (inode->attr.state != state || !inode->object.key[0])
		return 0;
	if (is_too_new(c, inode))
		return -EAGAIN;
	if (verify_listing_look(&c->listing, &inode->object) != SHOWN_EQUAL) {
		int r = ask_by_name(c, inode);

		c->failed += r < 0;
		return r;
	}
	if (state == FILE_UPLOADED) {
		int r = verify_outcome_equal(c->verify, inode);

		c->failed += r < 0 && r != -EAGAIN;
		c->verified += r == 0;
		return r;
	}
	return 0;
}

bool verify_is_in_folder(const char *key, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(key, prefix, len) == 0 && !strchr(key + len, '/');
}

/* Its object was moved on: this folder's listing says nothing of it. */
static int hand_over(struct check *c, const struct store_inode *inode)
{
	if (inode->attr.state != FILE_UPLOADED || !inode->object.key[0])
		return 0;
	return verify_folders_add(
		&c->verify->folders, inode->object.key, inode->attr.ino, clock_mono_ms());
}

static int check_uploads(struct check *c, const struct verify_folder *f, struct store_inode *inode)
{
	const struct verify_inos *inos = &f->inos;
	int r = 0;

	for (size_t i = 0; i < inos->count && r == 0; i++) {
		if (i > 0 && inos->ino[i] == inos->ino[i - 1])
			continue;
		if (verify_is_stopping(c->verify))
			return -ESHUTDOWN;
		r = verify_outcome_of(c->verify, inos->ino[i], inode);
		if (r < 0) {
			r = r == -ENOMEM ? r : 0; /* forgotten meanwhile */
			continue;
		}
		if (!verify_is_in_folder(inode->object.key, f->prefix)) {
			r = hand_over(c, inode);
			continue;
		}
		c->parent = inode->attr.parent;
		if (look_at(c, inode, FILE_UPLOADED) < 0)
			r = verify_inos_add(&c->open, inode->attr.ino);
	}
	return r;
}

static void check_verified_one(struct check *c, const char *prefix,
	const struct store_entry *entry, struct store_inode *inode)
{
	int r;

	if (entry->attr.type != STORE_FILE || entry->attr.state != FILE_VERIFIED)
		return;
	r = verify_outcome_of(c->verify, entry->attr.ino, inode);
	if (r < 0)
		c->failed += r != -ENOENT; /* forgotten meanwhile */
	else if (verify_is_in_folder(inode->object.key, prefix))
		(void)look_at(c, inode, FILE_VERIFIED); /* it counts what can't be asked now */
}

/* The files of the local folder that were verified before. */
static int check_verified(struct check *c, const char *prefix, struct store_inode *inode)
{
	cleanup_free struct store_entry *batch = calloc(READDIR_BATCH, sizeof(*batch));
	char after[STORE_NAME_MAX + 1] = "";
	int n;

	if (!batch)
		return -ENOMEM;
	while ((n = store_readdir(c->verify->store, c->parent, after, batch, READDIR_BATCH)) > 0) {
		for (int i = 0; i < n && !verify_is_stopping(c->verify); i++)
			check_verified_one(c, prefix, &batch[i], inode);
		if (verify_is_stopping(c->verify))
			return -ESHUTDOWN;
		(void)text_copy(after, batch[n - 1].name, sizeof(after)); /* same size */
	}
	return n;
}

static int compare_inos(const void *pa, const void *pb)
{
	uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

	return a < b ? -1 : a > b;
}

static int check_all(struct check *c, struct verify_folder *f, bool quiet)
{
	cleanup_free struct store_inode *inode = calloc(1, sizeof(*inode));
	int r = inode ? read_listing(c, f) : -ENOMEM;

	if (r < 0)
		return r;
	if (f->inos.count > 0)
		qsort(f->inos.ino, f->inos.count, sizeof(*f->inos.ino), compare_inos);
	r = check_uploads(c, f, inode);
	if (r == 0 && quiet && c->parent)
		(void)check_verified(c, f->prefix, inode); /* else another time: it stays as it is */
	log_debug("\"%s\": %u verified, %u asked by name, %zu still open", f->prefix, c->verified,
		c->asked, c->open.count);
	return r;
}

int verify_check_folder(struct verify *v, struct verify_folder *f)
{
	struct check c = {.verify = v};
	bool quiet = clock_mono_ms() - f->last_ms >= v->quiet_ms;
	int r = check_all(&c, f, quiet);

	verify_listing_release(&c.listing);
	if (r < 0) { /* all of them again: judging twice does no harm */
		verify_inos_release(&c.open);
		return r;
	}
	verify_inos_release(&f->inos);
	f->inos = c.open;
	if (c.failed == 0)
		f->failures = 0;
	return c.failed > 0 ? -EAGAIN : 0;
}

int verify_check_gone(struct verify *v, const char *prefix, uint64_t dir_ino)
{
	cleanup_free struct store_inode *inode = calloc(1, sizeof(*inode));
	cleanup_free char *name = text_dup(prefix);
	struct verify_folder f = {.prefix = name};
	struct check c = {.verify = v, .parent = dir_ino};
	int r = inode && name ? read_listing(&c, &f) : -ENOMEM;

	if (r == 0)
		r = check_verified(&c, prefix, inode);
	verify_listing_release(&c.listing);
	return r == 0 && c.failed > 0 ? -EAGAIN : r;
}
