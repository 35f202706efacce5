/*
 * cli_plan_remote - what the bucket has already: one listing, read along with the walk, for both go
 * by key. Where cleaned names break the order it begins anew.
 */
#include "cpgfs/verify.h"

#include "cli_plan.h"

struct plan_remote {
	struct s3 *s3;
	char *prefix;
	struct verify_bucket side;
	char asked[KEY_MAX_BYTES + 1]; /* the last key asked for */
	bool has;		       /* an entry not yet passed: */
	char key[KEY_MAX_BYTES + 1];
	struct s3_object object;
};

static int begin(struct plan_remote *r)
{
	if (r->side.close)
		r->side.close(r->side.user);
	r->side = (struct verify_bucket){0};
	r->has = false;
	r->key[0] = r->asked[0] = '\0';
	return verify_bucket_s3(&r->side, r->s3, r->prefix, "");
}

int plan_remote_open(struct plan_remote **ret, struct s3 *s3, const char *prefix)
{
	struct plan_remote *r = calloc(1, sizeof(*r));
	int status = -ENOMEM;

	*ret = r;
	if (!r)
		return status;
	r->s3 = s3;
	r->prefix = text_dup(prefix);
	if (r->prefix)
		status = begin(r);
	if (status < 0)
		cli_error("the bucket cannot be listed: %s", strerror(-status));
	return status;
}

void plan_remote_close(struct plan_remote **remote)
{
	struct plan_remote *r = *remote;

	if (!r)
		return;
	if (r->side.close)
		r->side.close(r->side.user);
	free(r->prefix);
	free(r);
	*remote = NULL;
}

static int next(struct plan_remote *r)
{
	cleanup_free char *message = NULL;
	const char *key;
	size_t len;
	int status;

	do
		status = r->side.list_next(r->side.user, &key, &len, &r->object, &message);
	while (status == 1 && len > KEY_MAX_BYTES);
	r->has = status == 1;
	if (status == 1) {
		memcpy(r->key, key, len);
		r->key[len] = '\0';
	}
	if (status < 0)
		cli_error("%s", message ? message : strerror(-status));
	return status;
}

int plan_remote_find(struct plan_remote *r, const char *key, struct s3_object *ret)
{
	int status = strcmp(key, r->asked) < 0 ? begin(r) : 0;

	if (status == 0 && !text_copy(r->asked, key, sizeof(r->asked)))
		status = -ENAMETOOLONG;
	if (status < 0)
		return status;
	if (!r->has && !r->key[0])
		status = next(r); /* the very first */
	while (status >= 0 && r->has && strcmp(r->key, key) < 0)
		status = next(r);
	if (status < 0)
		return status;
	if (!r->has || strcmp(r->key, key) != 0)
		return 0;
	*ret = r->object;
	return 1;
}
