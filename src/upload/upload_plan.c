/*
 * upload_plan - what to do with a version, given what is known. Pure, so that the whole table can
 * be tested.
 *
 * The order of the questions is the rule: content that is there already is never sent; what is ours
 * may be replaced; what is not ours is replaced only with permission; nothing is decided on a guess
 * where the server would not refuse a wrong one.
 */
#include "upload_private.h"

static enum plan plan_unasked(const struct plan_facts *f)
{
	if (!f->enforced || f->ask_first || f->own_same)
		return PLAN_ASK;
	return f->own_known ? PLAN_REPLACE_OWN : PLAN_CREATE;
}

static enum plan plan_found(const struct plan_facts *f)
{
	if (f->content == CONTENT_SAME)
		return PLAN_ADOPT;
	if (f->found_is_ours)
		return PLAN_REPLACE_FOUND;
	if (f->content == CONTENT_NEEDS_READING)
		return PLAN_READ;
	return f->may_replace ? PLAN_REPLACE_FOUND : PLAN_CONFLICT;
}

enum plan plan_version(const struct plan_facts *f)
{
	switch (f->bucket) {
	case BUCKET_UNASKED:
		return plan_unasked(f);
	case BUCKET_ABSENT:
		return PLAN_CREATE;
	case BUCKET_HOLDS:
		return plan_found(f);
	}
	return PLAN_ASK;
}

/* Errors of the server's own making after the whole body: it may have been written all the same. */
static enum applied retry_applied(const struct s3_reply *reply)
{
	if (!reply->body_fully_sent)
		return APPLIED_NO;
	if (reply->http_status == 0)
		return APPLIED_PERHAPS;
	return reply->http_status >= 500 && reply->http_status != 503 ? APPLIED_PERHAPS
								      : APPLIED_NO;
}

enum applied reply_applied(const struct s3_reply *reply)
{
	switch (reply->class) {
	case S3_DONE:
		return APPLIED_YES;
	case S3_UNKNOWN:
		return APPLIED_PERHAPS;
	case S3_RETRY:
		return retry_applied(reply);
	case S3_NOT_FOUND:
	case S3_THROTTLED:
	case S3_AUTH:
	case S3_DENIED:
	case S3_CLOCK:
	case S3_CONFLICT:
	case S3_FATAL:
		return APPLIED_NO;
	}
	return APPLIED_PERHAPS;
}
