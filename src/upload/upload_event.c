/*
 * upload_event - how other threads reach the scheduler: events, and requests whose replies are one.
 *
 * A request holds a reference on the room and on the descriptor it sends from, so a reply that
 * comes after upload_stop() gave up waiting finds valid memory, closes what it held and goes.
 */
#include "upload_private.h"

void upload_unref(struct upload *u)
{
	if (atomic_fetch_sub(&u->refs, 1) != 1)
		return;
	cond_release(&u->wake);
	lock_release_storage(&u->lock);
	free(u->acl);
	free(u);
}

/* False: nobody listens any more. */
static bool event_queue(struct upload *u, struct event *e)
{
	with_lock(&u->lock);
	if (u->synced.closed)
		return false;
	e->next = NULL;
	*u->synced.last = e;
	u->synced.last = &e->next;
	cond_signal(&u->wake);
	return true;
}

void event_post(struct upload *u, struct event *e)
{
	if (!event_queue(u, e))
		e->drop(e);
}

int body_fd_create(int fd, struct body_fd **ret)
{
	struct body_fd *b = malloc(sizeof(*b));

	if (!b)
		return -ENOMEM;
	atomic_init(&b->refs, 1);
	b->fd = fd;
	*ret = b;
	return 0;
}

void body_fd_unref(struct body_fd *b)
{
	if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	close(b->fd);
	free(b);
}

static void request_free(struct request *rq)
{
	struct upload *u = rq->upload;

	s3_reply_release(&rq->reply);
	body_fd_unref(rq->body);
	free(rq);
	upload_unref(u);
}

static void request_drop(struct event *e)
{
	request_free((struct request *)e);
}

static void request_unlink(struct upload *u, struct request *rq)
{
	if (rq->prev)
		rq->prev->next_active = rq->next_active;
	else
		u->sched.requests = rq->next_active;
	if (rq->next_active)
		rq->next_active->prev = rq->prev;
}

static void request_link(struct upload *u, struct request *rq)
{
	rq->prev = NULL;
	rq->next_active = u->sched.requests;
	if (rq->next_active)
		rq->next_active->prev = rq;
	u->sched.requests = rq;
}

static void request_answered(struct upload *u, struct event *e)
{
	struct request *rq = (struct request *)e;

	request_unlink(u, rq);
	if (rq->task)
		rq->task->outstanding--;
	pause_note_reply(u, rq);
	if (rq->task && strcmp(rq->reply.code, "BodyReadFailed") == 0)
		log_warn("%s: the cache disk could not be read while this was sent; it is sent again",
			rq->task->key);
	rq->answer(u, rq->task, rq);
	request_free(rq);
}

/* On the S3 loop. */
static void request_done(void *user, struct s3_reply *reply)
{
	struct request *rq = user;

	s3_reply_move(&rq->reply, reply);
	event_post(rq->upload, &rq->event);
}

/* On the S3 loop: a body that is fetched for its checksum only. Ours alone until done. */
static int request_sum(void *user, uint64_t off, const void *data, size_t len)
{
	struct request *rq = user;

	if (off != rq->received)
		return -EIO;
	rq->crc64nvme = crc64nvme(rq->crc64nvme, data, len);
	rq->received += len;
	return 0;
}

int request_send(struct upload *u, struct task *t, const struct s3_request *req,
	struct body_fd *body, uint64_t chunk, answer_fn *answer)
{
	struct s3_request get = *req;
	struct request *rq;
	int r;

	if (u->sched.stopping)
		return -ESHUTDOWN;
	rq = calloc(1, sizeof(*rq));
	if (!rq)
		return -ENOMEM;
	*rq = (struct request){.event = {.run = request_answered, .drop = request_drop},
		.upload = u,
		.task = t,
		.answer = answer,
		.body = body,
		.op = req->op,
		.chunk = chunk,
		.body_bytes = req->body.len_bytes,
		.body_crc64nvme = req->body.crc64nvme};
	if (u->credentials_stamp)
		rq->credentials_stamp = u->credentials_stamp(u->credentials_user);
	atomic_fetch_add(&u->refs, 1);
	if (body)
		atomic_fetch_add(&body->refs, 1);
	request_link(u, rq);
	if (req->op == S3_GET)
		get.sink = (struct s3_sink){.write = request_sum, .user = rq};
	r = s3_submit(u->s3, req->op == S3_GET ? &get : req, request_done, rq, &rq->id);
	if (r < 0) {
		request_unlink(u, rq);
		request_free(rq);
		return r;
	}
	if (t)
		t->outstanding++;
	return 0;
}
