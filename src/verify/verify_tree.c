/*
 * verify_tree - what should be there and what the bucket lists, side by side in the order of keys.
 */
#include "verify_tree.h"

struct join {
	const struct verify_tree *tree;
	struct proofs *proofs;
	char **ret_message;

	struct verify_item item;
	bool has_item;
	char last_key[KEY_MAX_BYTES + 1]; /* of items: they must ascend */
	char reached[KEY_MAX_BYTES + 1];
	bool has_entry;
	const char *entry_key;
	size_t entry_len;
	struct s3_object entry;
	uint64_t told;

	struct lock lock;
	struct verify_result *result; /* by lock while proofs run */
};

const char *verify_kind_text(enum verify_kind kind)
{
	static const char *const texts[VERIFY_KINDS] = {
		[VERIFY_MISSING] = "missing",
		[VERIFY_EXTRA] = "extra",
		[VERIFY_SIZE] = "size",
		[VERIFY_CONTENT] = "content",
		[VERIFY_ACL] = "acl",
	};

	return texts[kind];
}

void verify_result_release(struct verify_result *r)
{
	for (size_t i = 0; i < r->difference_count; i++) {
		free(r->differences[i].key);
		free(r->differences[i].what);
	}
	free(r->differences);
	free(r->acl_guess);
	*r = (struct verify_result){0};
}

/* ---- results -------------------------------------------------------------------------------- */

/* For one more. It doubles: powers of two. */
static int make_room(struct verify_result *r)
{
	struct verify_difference *grown;

	if (r->difference_count & (r->difference_count - 1))
		return 0;
	grown = reallocarray(r->differences, r->difference_count ? 2 * r->difference_count : 1,
		sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	r->differences = grown;
	return 0;
}

static int add_difference(void *user, enum verify_kind kind, const char *key, const char *what)
{
	struct join *j = user;
	struct verify_result *r = j->result;
	struct verify_difference d = {kind, text_dup(key), text_dup(what)};
	with_lock(&j->lock);

	if (!d.key || !d.what || make_room(r) < 0) {
		free(d.key);
		free(d.what);
		return -ENOMEM;
	}
	r->differences[r->difference_count++] = d;
	r->count[kind]++;
	return 0;
}

static void add_equal(void *user, bool by_tag, bool by_checksum)
{
	struct join *j = user;
	with_lock(&j->lock);

	j->result->equal++;
	j->result->by_tag += by_tag;
	j->result->by_checksum += by_checksum;
}

static int by_key_and_kind(const void *a, const void *b)
{
	const struct verify_difference *x = a, *y = b;
	int c = strcmp(x->key, y->key);

	return c ? c : (int)x->kind - (int)y->kind;
}

/* ---- both sides ----------------------------------------------------------------------------- */

static int next_item(struct join *j)
{
	const struct verify_tree *t = j->tree;
	int r;

	j->item = (struct verify_item){0};
	r = t->next(t->user, &j->item);
	j->has_item = r == 1;
	if (r <= 0)
		return r;
	if (j->last_key[0] && strcmp(j->last_key, j->item.key) >= 0) {
		if (text_printf(j->ret_message, "%s comes after %s", j->item.key, j->last_key) < 0)
			*j->ret_message = NULL;
		return -EILSEQ;
	}
	memcpy(j->last_key, j->item.key, sizeof(j->last_key));
	j->result->items++;
	j->result->bytes += j->item.size_bytes;
	return 0;
}

/* Folder markers ("a/b/", no bytes) are no files that anybody copied. */
static bool is_marker(const struct join *j)
{
	return j->entry_len > 0 && j->entry_key[j->entry_len - 1] == '/' &&
	       j->entry.size_bytes == 0;
}

static int next_entry(struct join *j)
{
	const struct verify_bucket *b = j->tree->bucket;
	int r;

	do
		r = b->list_next(b->user, &j->entry_key, &j->entry_len, &j->entry, j->ret_message);
	while (r == 1 && is_marker(j));
	j->has_entry = r == 1;
	j->result->listed += r == 1;
	return r < 0 ? r : 0;
}

/* Bytewise, as S3 sorts; <0: the item comes first. */
static int compare(const struct join *j)
{
	size_t len, n;
	int c;

	if (!j->has_item || !j->has_entry)
		return j->has_item ? -1 : 1;
	len = strlen(j->item.key);
	n = len < j->entry_len ? len : j->entry_len;
	c = memcmp(j->item.key, j->entry_key, n);
	return c ? c : len < j->entry_len ? -1 : len > j->entry_len;
}

static int both(struct join *j)
{
	const struct s3_object *o = &j->entry;
	char what[96];

	if (o->size_bytes == j->item.size_bytes && proofs_by_tag(j->proofs, &j->item, o))
		return 0;
	if (o->size_bytes == j->item.size_bytes)
		return proofs_add(j->proofs, &j->item, o);
	snprintf(what, sizeof(what), "%llu bytes, should be %llu",
		(unsigned long long)o->size_bytes, (unsigned long long)j->item.size_bytes);
	return add_difference(j, VERIFY_SIZE, j->item.key, what);
}

static int extra(struct join *j)
{
	char key[KEY_MAX_BYTES + 1];

	if (!j->tree->extra || j->entry_len > KEY_MAX_BYTES)
		return 0;
	memcpy(key, j->entry_key, j->entry_len);
	key[j->entry_len] = '\0';
	return add_difference(j, VERIFY_EXTRA, key, "in the bucket only");
}

static void tell(struct join *j)
{
	uint64_t seen = j->result->items + j->result->listed;

	if (j->tree->progress && seen >= j->told + 500) {
		j->told = seen;
		j->tree->progress(j->tree->user, j->result->items, j->result->bytes);
	}
}

static int step(struct join *j)
{
	int order = compare(j), r;

	if (order < 0)
		r = add_difference(j, VERIFY_MISSING, j->item.key, "not in the bucket");
	else
		r = order > 0 ? extra(j) : both(j);
	if (order <= 0)
		memcpy(j->reached, j->item.key, sizeof(j->reached));
	if (r == 0 && order <= 0)
		r = next_item(j);
	if (r == 0 && order >= 0)
		r = next_entry(j);
	tell(j);
	if (r == 0 && j->tree->stop && j->tree->stop(j->tree->user))
		r = -ECANCELED;
	return r;
}

static int run(struct join *j)
{
	int r = next_item(j);

	if (r == 0)
		r = next_entry(j);
	while (r == 0 && (j->has_item || j->has_entry))
		r = step(j);
	return r;
}

int verify_tree_run(const struct verify_tree *t, struct verify_result *ret, char **ret_message)
{
	struct join j = {.tree = t, .ret_message = ret_message, .result = ret};
	struct proof_hooks hooks = {&j, add_difference, add_equal};
	char *late = NULL;
	int r, late_r = 0;

	*ret = (struct verify_result){0};
	*ret_message = NULL;
	lock_init(&j.lock, RANK_VERIFY, "verify join");
	r = proofs_create(&j.proofs, t, &hooks);
	if (r == 0)
		r = run(&j);
	if (j.proofs)
		late_r = proofs_finish(j.proofs, &ret->acl_guess, &late);
	lock_release_storage(&j.lock);
	/* stopped: who goes on behind what was reached would pass over it */
	if ((r == 0 || r == -ECANCELED) && late_r < 0) {
		r = late_r;
		*ret_message = steal_ptr(late);
	}
	free(late);
	if (r < 0 && r != -ECANCELED) {
		verify_result_release(ret);
		return r;
	}
	memcpy(ret->reached, j.reached, sizeof(ret->reached));
	if (ret->difference_count)
		qsort(ret->differences, ret->difference_count, sizeof(*ret->differences),
			by_key_and_kind);
	return r;
}
