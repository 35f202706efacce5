/*
 * A request whose caller waits: for probes, commands and tests; never on the loop thread.
 */
#include "cpgfs/s3.h"

struct call {
	struct lock lock;
	struct cond arrived;
	bool done;
	struct s3_reply reply;
};

static void on_done(void *user, struct s3_reply *reply)
{
	struct call *call = user;
	with_lock(&call->lock);
	s3_reply_move(&call->reply, reply);
	call->done = true;
	cond_signal(&call->arrived);
}

static void await(struct call *call)
{
	with_lock(&call->lock);
	while (!call->done)
		(void)cond_wait_until(&call->arrived, &call->lock, INT64_MAX);
}

int s3_call(struct s3 *s3, const struct s3_request *req, struct s3_reply *ret)
{
	struct call call = {.done = false};
	lock_init(&call.lock, RANK_S3, "s3 call");
	cond_init(&call.arrived);
	int err = s3_submit(s3, req, on_done, &call, NULL);
	if (!err) {
		await(&call);
		s3_reply_move(ret, &call.reply);
	}
	cond_release(&call.arrived);
	lock_release_storage(&call.lock);
	return err;
}
