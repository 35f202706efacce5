/*
 * verify_s3 - the bucket asked directly, each request again while that may help.
 */
#include "verify_tree.h"

enum { TRIES_MAX = 12 }; /* some minutes of backoff */

bool verify_helps_to_retry(enum s3_class class)
{
	return class == S3_RETRY || class == S3_THROTTLED || class == S3_CLOCK ||
	       class == S3_UNKNOWN;
}

void verify_describe(const struct s3_request *req, const struct s3_reply *reply, char **ret_message)
{
	const char *key = req->key ? req->key : req->prefix ? req->prefix : "";

	if (text_printf(ret_message, "%s %s: %s (%s)", s3_op_text(req->op), key, reply->code,
		    reply->message) < 0)
		*ret_message = NULL;
}

static void pause_before(unsigned attempt, bool throttled)
{
	int64_t ms = s3_backoff_ms(attempt, throttled);

	(void)nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

int verify_ask(
	struct s3 *s3, const struct s3_request *req, struct s3_reply *ret, char **ret_message)
{
	for (unsigned attempt = 1;; attempt++) {
		int r = s3_call(s3, req, ret);

		if (r < 0)
			return r;
		if (!verify_helps_to_retry(ret->class))
			return 0;
		if (attempt == TRIES_MAX) {
			verify_describe(req, ret, ret_message);
			s3_reply_release(ret);
			return -EIO;
		}
		if (ret->class != S3_CLOCK)
			pause_before(attempt, ret->class == S3_THROTTLED);
		s3_reply_release(ret);
	}
}

/* ---- struct verify_bucket ------------------------------------------------------------------- */

struct side {
	struct s3 *s3;
	struct remote_cursor *listing;
};

static int side_next(
	void *user, const char **key, size_t *ret_len, struct s3_object *ret, char **ret_message)
{
	struct side *s = user;
	struct remote_walk_entry e;
	int r;

	do
		r = remote_cursor_next(s->listing, &e);
	while (r == 1 && e.is_prefix);
	if (r == 1) {
		*key = e.key;
		*ret_len = e.key_len;
		*ret = e.object;
	} else if (r == -EACCES || r == -EIO || r == -ENETDOWN) {
		int why = remote_cursor_explain(s->listing, ret_message);

		return r == -EACCES ? r : why;
	}
	return r;
}

static int side_checksum(void *user, const char *key, uint64_t *ret_crc, char **ret_message)
{
	struct side *s = user;
	struct s3_request req = {.op = S3_HEAD, .key = key};
	struct s3_reply reply = {0};
	int r = verify_ask(s->s3, &req, &reply, ret_message);

	if (r < 0)
		return r;
	*ret_crc = reply.crc64nvme;
	if (reply.class == S3_DONE)
		r = reply.has_crc64nvme && reply.crc_is_full_object;
	else
		r = reply.class == S3_NOT_FOUND ? -ENOENT : -EACCES;
	if (r < 0)
		verify_describe(&req, &reply, ret_message);
	s3_reply_release(&reply);
	return r;
}

static int side_acl(void *user, const char *key, struct buf *ret_xml, char **ret_message)
{
	struct side *s = user;
	struct s3_request req = {.op = S3_GET_ACL, .key = key};
	struct s3_reply reply = {0};
	int r = verify_ask(s->s3, &req, &reply, ret_message);

	if (r < 0)
		return r;
	if (reply.class == S3_DONE)
		buf_add(ret_xml, buf_text(&reply.text), reply.text.len);
	s3_reply_release(&reply);
	return buf_error(ret_xml);
}

static void side_close(void *user)
{
	struct side *s = user;

	remote_cursor_close(s->listing);
	free(s);
}

int verify_bucket_s3(
	struct verify_bucket *ret, struct s3 *s3, const char *prefix, const char *after)
{
	struct side *s = calloc(1, sizeof(*s));
	cleanup_free char *below = NULL;
	int r = text_printf(&below, "%s%s", prefix, prefix[0] ? "/" : "");

	if (!s || r < 0) {
		free(s);
		return -ENOMEM;
	}
	r = remote_cursor_open(&s->listing, s3, below, after);
	if (r < 0) {
		free(s);
		return r;
	}
	s->s3 = s3;
	*ret = (struct verify_bucket){s, side_next, side_checksum, side_acl, side_close};
	return 0;
}
