/*
 * verify_proof - are an object of the right size and what it should be the same bytes?
 *
 *   1. The tag it was proved with is the one listed: the same object still.
 *   2. There is a file, and the tag is an MD5, or made of parts: the file is read and tagged alike.
 *   3. Else, or if asked to look deep, the server is asked for the checksum it keeps (HEAD), and that
 *      is compared with the one known or the file's. Where it keeps none, 1 stands.
 *
 * What none of these proves is a difference: "cannot be proved" is not "the same".
 */
#include "verify_tree.h"

enum { THREADS = 16, QUEUE_MAX = 256 };

struct proofs {
	const struct verify_tree *tree;
	struct proof_hooks hooks;
	struct pool *pool;
	struct acl_ids *acl;

	struct lock lock;
	struct cond room;
	struct {
		unsigned waiting;
		int error;
		char *message;
	} synced; /* by lock */
};

struct proof {
	struct proofs *proofs;
	struct verify_item item;
	struct s3_object listed;
};

static void proofs_free(struct proofs *p)
{
	pool_destroy(p->pool);
	verify_acl_destroy(p->acl);
	free(p->synced.message);
	cond_release(&p->room);
	lock_release_storage(&p->lock);
	free(p);
}

int proofs_create(struct proofs **ret, const struct verify_tree *t, const struct proof_hooks *hooks)
{
	struct proofs *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->tree = t;
	p->hooks = *hooks;
	lock_init(&p->lock, RANK_VERIFY, "verify proofs");
	cond_init(&p->room);
	r = pool_create(&p->pool, "proof", t->threads ? t->threads : THREADS, QUEUE_MAX);
	if (r == 0 && t->acl)
		r = verify_acl_create(&p->acl);
	if (r < 0) {
		proofs_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

/* Keeps the first error; the rest of the work is still done. */
static void note_error(struct proofs *p, int error, char *message)
{
	with_lock(&p->lock);

	if (p->synced.error == 0) {
		p->synced.error = error;
		p->synced.message = steal_ptr(message);
	}
	free(message);
}

static int differs(struct proof *t, const char *what)
{
	return t->proofs->hooks.differs(t->proofs->hooks.user, VERIFY_CONTENT, t->item.key, what);
}

static void equal(struct proof *t, bool by_tag, bool by_checksum)
{
	t->proofs->hooks.equal(t->proofs->hooks.user, by_tag, by_checksum);
}

/* ---- one object ----------------------------------------------------------------------------- */

/* By the file's bytes and the tag. 1: settled; 0: the tag does not tell. */
static int by_file_and_tag(struct proof *t, struct file_digest *ret)
{
	int r = verify_digest(t->item.path, t->listed.etag, true, ret);

	if (r < 0)
		return r;
	if (ret->size_bytes != t->item.size_bytes)
		return differs(t, "the file changed while it was read") < 0 ? -ENOMEM : 1;
	t->item.has_crc64nvme = true;
	t->item.crc64nvme = ret->crc64nvme;
	if (!ret->etag[0])
		return 0;
	if (strcasecmp(ret->etag, t->listed.etag) == 0) {
		equal(t, true, false);
		return 1;
	}
	/* an MD5 of plain or of encrypted bytes: only the checksum tells */
	return 0;
}

/* The object is the one that was proved, by its tag. */
static bool has_proved_tag(const struct verify_item *item, const struct s3_object *listed)
{
	return item->etag[0] && strcasecmp(item->etag, listed->etag) == 0;
}

static int by_checksum(struct proof *t, char **ret_message)
{
	const struct verify_bucket *bucket = t->proofs->tree->bucket;
	uint64_t crc = 0;
	int r;

	if (!t->item.has_crc64nvme)
		return differs(t, "another tag than when it was proved, and no checksum is known");
	r = bucket->checksum(bucket->user, t->item.key, &crc, ret_message);
	if (r < 0)
		return r;
	if (r == 0 && !t->item.path[0] && has_proved_tag(&t->item, &t->listed)) {
		equal(t, true, false); /* this server keeps none: more cannot be had */
		return 0;
	}
	if (r == 0)
		return differs(
			t, t->item.etag[0]
				   ? "another tag than when it was proved, and no checksum is kept"
			   : s3_etag_is_md5(t->listed.etag)
				   ? "other bytes"
				   : "its tag and size prove nothing, and no checksum is kept");
	if (crc != t->item.crc64nvme)
		return differs(t, "other bytes");
	equal(t, false, true);
	return 0;
}

static bool is_enough(const struct verify_tree *tree, const struct verify_item *item,
	const struct s3_object *listed)
{
	return has_proved_tag(item, listed) && !(tree->deep && item->has_crc64nvme);
}

static int prove(struct proof *t, char **ret_message)
{
	const struct verify_tree *tree = t->proofs->tree;
	struct file_digest digest;
	int r;

	if (is_enough(tree, &t->item, &t->listed)) {
		equal(t, true, false);
		return 0;
	}
	if (tree->size_only || (!t->item.path[0] && !t->item.etag[0] && !t->item.has_crc64nvme)) {
		equal(t, false, false);
		return 0;
	}
	if (t->item.path[0]) {
		r = by_file_and_tag(t, &digest);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return by_checksum(t, ret_message);
}

static int look_at_acl(struct proof *t, char **ret_message)
{
	const struct verify_bucket *bucket = t->proofs->tree->bucket;
	const struct proof_hooks *hooks = &t->proofs->hooks;
	cleanup_buf struct buf xml = {0};
	int r = bucket->acl(bucket->user, t->item.key, &xml, ret_message);

	if (r < 0)
		return r;
	return xml.len ? verify_acl_note(t->proofs->acl, t->item.key, buf_text(&xml), xml.len)
		       : hooks->differs(
				 hooks->user, VERIFY_ACL, t->item.key, "its ACL may not be read");
}

static void run_proof(void *user)
{
	struct proof *t = user;
	struct proofs *p = t->proofs;
	char *message = NULL;
	int r = prove(t, &message);

	if (r == 0 && p->acl)
		r = look_at_acl(t, &message);
	if (r < 0 && !message &&
		text_printf(&message, "%s: %s", t->item.path[0] ? t->item.path : t->item.key,
			strerror(-r)) < 0)
		message = NULL;
	if (r < 0)
		note_error(p, r, message);
	free(t);
	with_lock(&p->lock);
	p->synced.waiting--;
	cond_broadcast(&p->room);
}

bool proofs_by_tag(
	struct proofs *p, const struct verify_item *item, const struct s3_object *listed)
{
	if (p->acl || !is_enough(p->tree, item, listed))
		return false;
	p->hooks.equal(p->hooks.user, true, false);
	return true;
}

int proofs_add(struct proofs *p, const struct verify_item *item, const struct s3_object *listed)
{
	struct proof *t = malloc(sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	*t = (struct proof){.proofs = p, .item = *item, .listed = *listed};
	{
		with_lock(&p->lock);
		while (p->synced.waiting >= QUEUE_MAX)
			(void)cond_wait_until(&p->room, &p->lock, INT64_MAX);
		p->synced.waiting++;
	}
	r = pool_submit(p->pool, run_proof, t);
	if (r == 0)
		return 0;
	free(t);
	with_lock(&p->lock);
	p->synced.waiting--;
	return r;
}

static int acl_differs(void *user, const char *key, const char *what)
{
	struct proofs *p = user;

	return p->hooks.differs(p->hooks.user, VERIFY_ACL, key, what);
}

int proofs_finish(struct proofs *p, char **ret_acl_guess, char **ret_message)
{
	int r;

	{
		with_lock(&p->lock);
		while (p->synced.waiting > 0)
			(void)cond_wait_until(&p->room, &p->lock, INT64_MAX);
		r = p->synced.error;
		if (r < 0)
			*ret_message = steal_ptr(p->synced.message);
	}
	if (r == 0 && p->acl)
		r = verify_acl_judge(p->acl, p->tree->owner, acl_differs, p, ret_acl_guess);
	proofs_free(p);
	return r;
}
