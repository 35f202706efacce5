/*
 * cli_check_call - requests that a signal ends early, so that the clean-up comes at once.
 */
#include "cli_check.h"

#include <poll.h>
#include <signal.h>

#define TRIES 4
#define LOOK_MS 50
#define SLOW_FAILURE_MS 3000

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = number;
}

void check_catch_signals(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal};
	for (size_t i = 0; i < array_len(numbers); i++)
		sigaction(numbers[i], &action, NULL);
	sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
}

bool check_is_interrupted(void)
{
	return interrupted != 0;
}

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

/* A request whose body has left is not cut short: its outcome must be known. */
static void await(struct check_run *run, struct call *call, uint64_t id)
{
	bool cancelled = false, done = false;
	while (!done) {
		if (check_is_interrupted() && !run->cleaning && !cancelled) {
			fprintf(stderr, "cpgfs: stopping; what was put is removed first\n");
			s3_cancel(run->s3, id);
			cancelled = true;
		}
		with_lock(&call->lock);
		if (!call->done)
			(void)cond_wait_until(
				&call->arrived, &call->lock, clock_mono_ms() + LOOK_MS);
		done = call->done;
	}
}

static int call_once(struct check_run *run, const struct s3_request *req, struct s3_reply *ret)
{
	struct call call = {.done = false};
	uint64_t id;
	lock_init(&call.lock, RANK_S3, "check call");
	cond_init(&call.arrived);
	int r = s3_submit(run->s3, req, on_done, &call, &id);
	if (r == 0) {
		await(run, &call, id);
		s3_reply_move(ret, &call.reply);
	}
	cond_release(&call.arrived);
	lock_release_storage(&call.lock);
	return r;
}

/* What took long without an answer would again. */
static bool may_pass(const struct s3_reply *reply)
{
	if (reply->http_status == 0 && reply->elapsed_ms > SLOW_FAILURE_MS)
		return false;
	return reply->class == S3_RETRY || reply->class == S3_THROTTLED || reply->class == S3_CLOCK;
}

static void pause_before(
	const struct check_run *run, unsigned attempt, const struct s3_reply *reply)
{
	if (reply->class == S3_CLOCK) /* the offset is known now */
		return;
	int64_t until_ms = clock_mono_ms() + (200 << attempt);
	while (clock_mono_ms() < until_ms && (run->cleaning || !check_is_interrupted()))
		(void)poll(NULL, 0, LOOK_MS);
}

int check_call(struct check_run *run, const struct s3_request *req, struct s3_reply *ret)
{
	for (unsigned attempt = 0;; attempt++) {
		int r = call_once(run, req, ret);
		if (r < 0)
			return r;
		if (check_is_interrupted() && !run->cleaning && ret->class != S3_DONE) {
			s3_reply_release(ret);
			return -EINTR;
		}
		if (!may_pass(ret) || attempt + 1 == TRIES)
			return 0;
		pause_before(run, attempt, ret);
		s3_reply_release(ret);
	}
}
