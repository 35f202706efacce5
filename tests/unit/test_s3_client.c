/*
 * The real client against a server of a few lines that plays a script: what is sent, what an
 * answer, a lost answer, a stall, a reset make of it, cancelling, lanes, facts, the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>

#include "cpgfs/s3.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#define DEADLINE_MS 60000
#define ETAG "ETag: \"0cc175b9c0f1b6a831c399e269772661\"\r\n"
#define EMPTY "Content-Length: 0\r\n\r\n"
#define ECHO_STEP "ECHO" /* 200 with the CRC64NVME that came */

#define EMPTY_LISTING                                                                              \
	"HTTP/1.1 200 OK\r\nContent-Length: 69\r\n\r\n<ListBucketResult>"                            \
	"<IsTruncated>false</IsTruncated></ListBucketResult>"

/* ---- the server -------------------------------------------------------------------------------------- */

enum step_kind {
	ANSWER,        /* reads the whole request, sends text */
	LOSE,          /* reads the whole request, closes */
	RESET,         /* reads the headers, resets */
	HOLD,          /* reads the whole request, answers with text once released */
	HOLD_BODY,     /* reads the headers only, waits to be released, resets */
	ANSWER_CLOSE,  /* ANSWER, then closes */
	EARLY,         /* reads the headers, sends text, closes */
};

struct step {
	enum step_kind kind;
	const char *text;
	size_t filler_bytes; /* of 'x', after text */
};

#define STEPS_MAX 32
struct server {
	int listen_fd;
	uint16_t port;
	struct thread *thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	/* guarded by mutex */
	const struct step *steps;
	size_t step_count, step_at;
	char *requests[STEPS_MAX]; /* heads */
	size_t body_bytes[STEPS_MAX];
	size_t request_count, connection_count;
	bool released, stopping;
	struct thread *connections[STEPS_MAX];
	int fds[STEPS_MAX];
};

struct connection {
	struct server *server;
	int fd;
};

static size_t header_number(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);
	return at ? strtoul(at + strlen(name), NULL, 10) : 0;
}

/* A head, up to and with its empty line; NULL at the end. */
static char *read_head(int fd)
{
	struct buf head;
	char c;
	buf_init(&head, 0);
	while (recv(fd, &c, 1, 0) == 1) {
		buf_add_char(&head, c);
		if (text_ends(buf_text(&head), "\r\n\r\n"))
			return buf_steal(&head);
	}
	buf_release(&head);
	return NULL;
}

static size_t read_body(int fd, size_t len)
{
	static __thread char data[65536];
	size_t got = 0;
	while (got < len) {
		size_t want = len - got < sizeof(data) ? len - got : sizeof(data);
		ssize_t n = recv(fd, data, want, 0);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

static void send_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n <= 0)
			return;
		data += n;
		len -= (size_t)n;
	}
}

static void send_filler(int fd, size_t len)
{
	static __thread char data[65536];
	memset(data, 'x', sizeof(data));
	for (; len; len -= len < sizeof(data) ? len : sizeof(data))
		send_all(fd, data, len < sizeof(data) ? len : sizeof(data));
}

static void send_echo(int fd, const char *head)
{
	char reply[512], crc[32] = "";
	const char *at = strcasestr(head, "x-amz-checksum-crc64nvme: ");
	if (at)
		sscanf(at + strlen("x-amz-checksum-crc64nvme: "), "%31s", crc);
	snprintf(reply, sizeof(reply),
		"HTTP/1.1 200 OK\r\n" ETAG "x-amz-checksum-crc64nvme: %s\r\n" EMPTY, crc);
	send_all(fd, reply, strlen(reply));
}

static void send_step(int fd, const struct step *step, const char *head)
{
	if (strcmp(step->text, ECHO_STEP) == 0)
		send_echo(fd, head);
	else
		send_all(fd, step->text, strlen(step->text));
	send_filler(fd, step->filler_bytes);
}

static void reset(int fd)
{
	struct linger hard = {.l_onoff = 1};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

static void wait_released(struct server *s)
{
	pthread_mutex_lock(&s->mutex);
	while (!s->released && !s->stopping)
		pthread_cond_wait(&s->changed, &s->mutex);
	pthread_mutex_unlock(&s->mutex);
}

/* Takes the next step for a request that begins with head; its number in *ret_at. */
static struct step next_step(struct server *s, char *head, size_t *ret_at)
{
	struct step step = {ANSWER, "HTTP/1.1 500 No more steps\r\n" EMPTY, 0};
	pthread_mutex_lock(&s->mutex);
	*ret_at = s->request_count++;
	check(*ret_at < STEPS_MAX);
	s->requests[*ret_at] = head;
	if (s->step_at < s->step_count)
		step = s->steps[s->step_at++];
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mutex);
	return step;
}

static bool wants_body(enum step_kind kind)
{
	return kind != RESET && kind != HOLD_BODY && kind != EARLY;
}

/* False when the connection is to be closed. */
static bool serve_one(struct server *s, int fd)
{
	size_t at;
	char *head = read_head(fd);
	if (!head)
		return false;
	struct step step = next_step(s, head, &at);
	size_t got = wants_body(step.kind) ? read_body(fd, header_number(head, "content-length: "))
					   : 0;
	pthread_mutex_lock(&s->mutex);
	s->body_bytes[at] = got;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mutex);
	if (step.kind == HOLD || step.kind == HOLD_BODY)
		wait_released(s);
	if (step.kind == RESET || step.kind == HOLD_BODY)
		reset(fd);
	if (step.kind == ANSWER || step.kind == HOLD || step.kind == ANSWER_CLOSE ||
		step.kind == EARLY)
		send_step(fd, &step, head);
	return step.kind == ANSWER || step.kind == HOLD;
}

static void run_connection(void *user)
{
	struct connection *c = user;
	while (serve_one(c->server, c->fd))
		;
	pthread_mutex_lock(&c->server->mutex);
	for (size_t i = 0; i < STEPS_MAX; i++)
		if (c->server->fds[i] == c->fd)
			c->server->fds[i] = -1;
	close(c->fd);
	pthread_mutex_unlock(&c->server->mutex);
	free(c);
}

static void run_server(void *user)
{
	struct server *s = user;
	for (;;) {
		int fd = accept(s->listen_fd, NULL, NULL);
		if (fd < 0)
			return;
		struct connection *c = malloc(sizeof(*c));
		*c = (struct connection){s, fd};
		pthread_mutex_lock(&s->mutex);
		size_t at = s->connection_count++;
		check(at < STEPS_MAX);
		s->fds[at] = fd;
		check(thread_start(&s->connections[at], "connection", run_connection, c) == 0);
		pthread_mutex_unlock(&s->mutex);
	}
}

static int listen_on(uint16_t *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(*port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

static void server_start(struct server *s, const struct step *steps, size_t count)
{
	uint16_t port = s->port;
	*s = (struct server){.port = port, .steps = steps, .step_count = count};
	memset(s->fds, -1, sizeof(s->fds));
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->listen_fd = listen_on(&s->port);
	assert_int_equal(thread_start(&s->thread, "server", run_server, s), 0);
}

static void server_release(struct server *s)
{
	pthread_mutex_lock(&s->mutex);
	s->released = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mutex);
}

/* Waits until the number-th request (from 0) has come with so many bytes of body. */
static void server_await(struct server *s, size_t number, size_t body_bytes)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += DEADLINE_MS / 1000;
	pthread_mutex_lock(&s->mutex);
	while (s->request_count <= number || s->body_bytes[number] < body_bytes)
		assert_int_equal(pthread_cond_timedwait(&s->changed, &s->mutex, &until), 0);
	pthread_mutex_unlock(&s->mutex);
}

#define LOOK(type, name, what)                                                                      \
	static type name                                                                           \
	{                                                                                          \
		pthread_mutex_lock(&s->mutex);                                                     \
		type seen = what;                                                                  \
		pthread_mutex_unlock(&s->mutex);                                                   \
		return seen;                                                                       \
	}
LOOK(size_t, requests_seen(struct server *s), s->request_count)
LOOK(size_t, connections_seen(struct server *s), s->connection_count)
LOOK(size_t, body_seen(struct server *s, size_t i), s->body_bytes[i])
LOOK(const char *, head_of(struct server *s, size_t i), s->requests[i])

static void server_stop(struct server *s)
{
	shutdown(s->listen_fd, SHUT_RDWR);
	thread_join(s->thread);
	close(s->listen_fd);
	pthread_mutex_lock(&s->mutex);
	s->stopping = true;
	for (size_t i = 0; i < STEPS_MAX; i++)
		if (s->fds[i] >= 0)
			shutdown(s->fds[i], SHUT_RDWR);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mutex);
	for (size_t i = 0; i < s->connection_count; i++)
		thread_join(s->connections[i]);
	for (size_t i = 0; i < s->request_count; i++)
		free(s->requests[i]);
}

/* ---- the client ---------------------------------------------------------------------------------------- */

struct keys {
	struct s3_credentials credentials;
	int error;
	bool renews;
	unsigned asked_count;
	unsigned rejected_count;
	char rejected_code[64];
};

static int keys_get(void *user, struct s3_credentials *ret)
{
	struct keys *k = user;
	*ret = k->credentials;
	__atomic_add_fetch(&k->asked_count, 1, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&k->error, __ATOMIC_SEQ_CST);
}

static bool keys_rejected(void *user, const struct s3_credentials *which, const char *code)
{
	struct keys *k = user;
	assert_string_equal(which->access_key, k->credentials.access_key);
	text_copy(k->rejected_code, code, sizeof(k->rejected_code));
	k->rejected_count++;
	return k->renews;
}

struct rig {
	struct server server;
	struct keys keys;
	struct s3 *s3;
	int fd; /* BODY_BYTES of content */
};
#define BODY_BYTES (8 * 1024 * 1024)

static void client_start(struct rig *r, struct s3_config config)
{
	char url[64];
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", r->server.port);
	text_copy(r->keys.credentials.access_key, "AKIDEXAMPLE", 256);
	text_copy(r->keys.credentials.secret_key, "secret", 256);
	config.endpoint = url;
	config.bucket = "bucket";
	config.credentials = (struct s3_credentials_source){keys_get, keys_rejected, &r->keys};
	assert_int_equal(s3_client_create(&r->s3, &config), 0);
}

static void rig_start(
	struct rig *r, const struct step *steps, size_t count, struct s3_config config)
{
	char path[] = "/tmp/test_s3_client.XXXXXX";
	*r = (struct rig){.s3 = NULL};
	r->fd = mkstemp(path);
	assert_true(r->fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(r->fd, BODY_BYTES), 0);
	server_start(&r->server, steps, count);
	client_start(r, config);
}

#define RIG(...)                                                                                   \
	static const struct step steps[] = {__VA_ARGS__};                                          \
	struct rig rig;                                                                            \
	rig_start(&rig, steps, array_len(steps), (struct s3_config){.bucket = NULL})

static void rig_stop(struct rig *r)
{
	s3_destroy(r->s3);
	server_stop(&r->server);
	close(r->fd);
}

static struct s3_body body_of(const struct rig *r, uint64_t len, bool has_sha256)
{
	return (struct s3_body){.fd = r->fd,
		.len_bytes = len,
		.has_sha256 = has_sha256,
		.has_crc64nvme = true,
		.crc64nvme = 1};
}

static struct s3_request put_of(const struct rig *r, uint64_t len)
{
	return (struct s3_request){.op = S3_PUT, .key = "k", .body = body_of(r, len, true)};
}

static struct s3_reply call(struct rig *r, struct s3_request req)
{
	struct s3_reply reply;
	assert_int_equal(s3_call(r->s3, &req, &reply), 0);
	return reply;
}

static void assert_call(
	struct rig *r, struct s3_request req, enum s3_class class, const char *code)
{
	struct s3_reply reply = call(r, req);
	if (reply.class != class || strcmp(reply.code, code) != 0)
		print_error("%s %s: %s\n", s3_class_text(reply.class), reply.code, reply.message);
	assert_int_equal(reply.class, class);
	assert_string_equal(reply.code, code);
	s3_reply_release(&reply);
}

/* A request in the background. */
struct job {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	unsigned done_count;
	struct s3_reply reply;
	uint64_t id;
};

static void job_done(void *user, struct s3_reply *reply)
{
	struct job *j = user;
	pthread_mutex_lock(&j->mutex);
	s3_reply_move(&j->reply, reply);
	j->done_count++;
	pthread_cond_broadcast(&j->changed);
	pthread_mutex_unlock(&j->mutex);
}

static void job_start(struct job *j, struct rig *r, struct s3_request req)
{
	*j = (struct job){.done_count = 0};
	pthread_mutex_init(&j->mutex, NULL);
	pthread_cond_init(&j->changed, NULL);
	assert_int_equal(s3_submit(r->s3, &req, job_done, j, &j->id), 0);
}

static unsigned job_done_count(struct job *j)
{
	pthread_mutex_lock(&j->mutex);
	unsigned count = j->done_count;
	pthread_mutex_unlock(&j->mutex);
	return count;
}

static void job_await(struct job *j, enum s3_class class, const char *code)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += DEADLINE_MS / 1000;
	pthread_mutex_lock(&j->mutex);
	while (!j->done_count)
		assert_int_equal(pthread_cond_timedwait(&j->changed, &j->mutex, &until), 0);
	pthread_mutex_unlock(&j->mutex);
	assert_int_equal(j->reply.class, class);
	assert_string_equal(j->reply.code, code);
	s3_reply_release(&j->reply);
}

/* ---- what is sent ---------------------------------------------------------------------------------------- */

static void put_goes_out_signed(void **state)
{
	RIG({ANSWER, ECHO_STEP, 0});
	struct s3_request req = put_of(&rig, 3000000);

	text_copy(rig.keys.credentials.session_token, "token/1", 4096);
	req.key = "a b/../c";
	req.acl = "bucket-owner-full-control";
	assert_call(&rig, req, S3_DONE, "");
	const char *head = head_of(&rig.server, 0);
	assert_true(text_starts(head, "PUT /bucket/a%20b/../c HTTP/1.1\r\n"));
	assert_non_null(strcasestr(head, "\r\nx-amz-acl: bucket-owner-full-control\r\n"));
	assert_non_null(strcasestr(head, "\r\nContent-Length: 3000000\r\n"));
	assert_non_null(strcasestr(head, "\r\nx-amz-content-sha256: 0000000000000000"));
	assert_non_null(strcasestr(head, "\r\nx-amz-security-token: token/1\r\n"));
	assert_non_null(strcasestr(head, "SignedHeaders=host;x-amz-acl;"
					 "x-amz-checksum-crc64nvme;x-amz-content-sha256;"
					 "x-amz-date;x-amz-security-token, "));
	assert_null(strcasestr(head, "\r\nExpect:"));
	assert_null(strcasestr(head, "\r\nTransfer-Encoding:"));
	assert_int_equal(body_seen(&rig.server, 0), 3000000);
	rig_stop(&rig);
}

static void anonymous_is_unsigned(void **state)
{
	RIG({ANSWER, EMPTY_LISTING, 0});

	rig.keys.credentials.anonymous = true;
	assert_call(&rig, (struct s3_request){.op = S3_LIST}, S3_DONE, "");
	assert_null(strcasestr(head_of(&rig.server, 0), "authorization"));
	assert_null(strcasestr(head_of(&rig.server, 0), "x-amz-date"));
	rig_stop(&rig);
}

static void connections_are_kept(void **state)
{
	RIG({ANSWER, ECHO_STEP, 0}, {ANSWER, "HTTP/1.1 204 X\r\n\r\n", 0},
		{ANSWER, "HTTP/1.1 404 X\r\nContent-Length: 44\r\n\r\n"
			 "<Error><Code>NoSuchKey</Code></Error>       ", 0},
		{ANSWER, "HTTP/1.1 200 OK\r\n" ETAG "Content-Length: 3\r\n\r\n", 0},
		{ANSWER, ECHO_STEP, 0});

	assert_call(&rig, put_of(&rig, 100), S3_DONE, "");
	assert_call(&rig, (struct s3_request){.op = S3_DELETE, .key = "k"}, S3_DONE, "");
	assert_call(&rig, (struct s3_request){.op = S3_GET, .key = "k"}, S3_NOT_FOUND,
		"NoSuchKey");
	assert_call(&rig, (struct s3_request){.op = S3_HEAD, .key = "k"}, S3_DONE, "");
	assert_call(&rig, put_of(&rig, 0), S3_DONE, "");
	assert_int_equal(connections_seen(&rig.server), 1);
	assert_int_equal(requests_seen(&rig.server), 5);
	assert_true(text_starts(head_of(&rig.server, 3), "HEAD "));
	assert_non_null(strcasestr(head_of(&rig.server, 4), "\r\nContent-Length: 0\r\n"));
	rig_stop(&rig);
}

/* ---- proof of content -------------------------------------------------------------------------------------- */

static void echo_decides_about_signing(void **state)
{
	RIG({ANSWER, ECHO_STEP, 0}, {ANSWER, ECHO_STEP, 0},
		{ANSWER, "HTTP/1.1 200 OK\r\n" ETAG EMPTY, 0},
		{ANSWER, "HTTP/1.1 200 OK\r\n" ETAG EMPTY, 0}, {ANSWER, ECHO_STEP, 0},
		{ANSWER, "HTTP/1.1 200 OK\r\n" ETAG EMPTY, 0});
	struct s3_request plain = put_of(&rig, 100);

	plain.body.has_sha256 = false;
	assert_true(s3_wants_sha256(rig.s3));
	assert_call(&rig, plain, S3_RETRY, "PayloadHashNeeded");
	assert_int_equal(requests_seen(&rig.server), 0);
	assert_call(&rig, put_of(&rig, 100), S3_DONE, "");
	assert_false(s3_wants_sha256(rig.s3));
	assert_call(&rig, plain, S3_DONE, "");
	assert_non_null(strstr(head_of(&rig.server, 1), "UNSIGNED-PAYLOAD"));
	/* one server of many that does not know the checksum */
	assert_call(&rig, plain, S3_UNKNOWN, "NoChecksumEcho");
	assert_true(s3_wants_sha256(rig.s3));
	assert_call(&rig, put_of(&rig, 100), S3_DONE, "");
	assert_true(s3_wants_sha256(rig.s3));
	assert_call(&rig, put_of(&rig, 100), S3_DONE, "");
	assert_false(s3_wants_sha256(rig.s3));
	/* without a CRC there is nothing to echo */
	plain.body.has_crc64nvme = false;
	assert_call(&rig, plain, S3_RETRY, "PayloadHashNeeded");
	assert_int_equal(requests_seen(&rig.server), 5);
	/* a signed payload needs no echo, but tells about the server */
	assert_call(&rig, put_of(&rig, 100), S3_DONE, "");
	assert_true(s3_wants_sha256(rig.s3));
	rig_stop(&rig);
}

static void signing_always_stays(void **state)
{
	static const struct step steps[] = {{ANSWER, ECHO_STEP, 0}};
	struct rig rig;

	rig_start(&rig, steps, 1, (struct s3_config){.sign_payload_always = true});
	assert_call(&rig, put_of(&rig, 100), S3_DONE, "");
	assert_true(s3_wants_sha256(rig.s3));
	rig_stop(&rig);
}

/* ---- lost answers -------------------------------------------------------------------------------------------- */

/* Also on a kept connection, where curl by itself would send the request again. */
static void lost_answer_is_unknown_and_sent_once(void **state)
{
	RIG({LOSE, NULL, 0}, {ANSWER, ECHO_STEP, 0}, {LOSE, NULL, 0}, {ANSWER, ECHO_STEP, 0},
		{LOSE, NULL, 0}, {ANSWER, ECHO_STEP, 0});
	struct s3_reply reply = call(&rig, put_of(&rig, 1000000));

	assert_int_equal(reply.class, S3_UNKNOWN);
	assert_true(reply.body_fully_sent);
	assert_int_equal(requests_seen(&rig.server), 1);
	assert_int_equal(body_seen(&rig.server, 0), 1000000);
	assert_call(&rig, put_of(&rig, 10), S3_DONE, "");
	reply = call(&rig, put_of(&rig, 1000000));
	assert_int_equal(reply.class, S3_UNKNOWN);
	assert_int_equal(requests_seen(&rig.server), 3);
	assert_call(&rig, put_of(&rig, 10), S3_DONE, "");
	reply = call(&rig, (struct s3_request){.op = S3_DELETE, .key = "k"});
	assert_int_equal(reply.class, S3_UNKNOWN);
	assert_int_equal(requests_seen(&rig.server), 5);
	rig_stop(&rig);
}

static void reset_before_the_body_left_is_retry(void **state)
{
	RIG({RESET, NULL, 0});
	struct s3_reply reply = call(&rig, put_of(&rig, BODY_BYTES));

	assert_int_equal(reply.class, S3_RETRY);
	assert_false(reply.body_fully_sent);
	assert_int_equal(reply.http_status, 0);
	rig_stop(&rig);
}

static void early_refusal_is_read(void **state)
{
	RIG({EARLY, "HTTP/1.1 403 X\r\nConnection: close\r\nContent-Length: 40\r\n\r\n"
		    "<Error><Code>AccessDenied</Code></Error>", 0});
	struct s3_reply reply = call(&rig, put_of(&rig, BODY_BYTES));

	/* the kernel may drop the answer when the server closes on unread data */
	assert_true(reply.class == S3_DENIED || reply.class == S3_RETRY);
	assert_false(reply.body_fully_sent);
	rig_stop(&rig);
}

static void stalls_end(void **state)
{
	static const struct step steps[] = {{HOLD, "", 0}, {HOLD_BODY, "", 0}, {HOLD, "", 0}};
	struct rig rig;
	struct job answering, sending;

	rig_start(&rig, steps, 3, (struct s3_config){.stall_timeout_ms = 1000});
	job_start(&answering, &rig, put_of(&rig, 100));
	server_await(&rig.server, 0, 100);
	job_start(&sending, &rig, put_of(&rig, BODY_BYTES));
	job_await(&answering, S3_UNKNOWN, "Timeout");
	job_await(&sending, S3_RETRY, "Timeout");
	assert_call(&rig, (struct s3_request){.op = S3_HEAD, .key = "k", .timeout_ms = 100},
		S3_RETRY, "Timeout");
	assert_true(s3_is_down(rig.s3));
	rig_stop(&rig);
}

static void cut_answers(void **state)
{
	RIG({ANSWER_CLOSE, "HTTP/1.1 200 OK\r\n" ETAG "Content-Length: 10\r\n\r\nabc", 0},
		{ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
			       "<CompleteMultipartUploadResult>", 0},
		{ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nETag: \"e", 0}, {ANSWER_CLOSE, "hello\r\n", 0});
	const struct s3_part part = {.number = 1, .etag = "e"};

	assert_call(&rig, (struct s3_request){.op = S3_GET, .key = "k"}, S3_RETRY, "AnswerCut");
	assert_call(&rig,
		(struct s3_request){.op = S3_COMPLETE_MULTIPART, .key = "k", .upload_id = "u",
			.parts = &part, .part_count = 1},
		S3_UNKNOWN, "AnswerCut");
	struct s3_reply reply = call(&rig, put_of(&rig, 10));
	assert_int_equal(reply.class, S3_UNKNOWN);
	reply = call(&rig, put_of(&rig, 10));
	assert_int_equal(reply.class, S3_UNKNOWN);
	assert_string_equal(reply.code, "NotHttp");
	rig_stop(&rig);
}

static void endless_answer_is_bounded(void **state)
{
	RIG({ANSWER_CLOSE, "HTTP/1.1 200 OK\r\n\r\n<ListBucketResult>", 20 * 1024 * 1024});

	assert_call(&rig, (struct s3_request){.op = S3_LIST}, S3_RETRY, "AnswerTooLarge");
	rig_stop(&rig);
}

/* ---- redirects, clock, credentials ------------------------------------------------------------------------------ */

static void redirects_are_not_followed(void **state)
{
	static const struct step none[] = {{ANSWER, "HTTP/1.1 200 OK\r\n" EMPTY, 0}};
	struct server other = {.port = 0};
	char text[512];
	struct step steps[2];
	struct rig rig;

	server_start(&other, none, 1);
	snprintf(text, sizeof(text),
		"HTTP/1.1 301 X\r\nLocation: http://127.0.0.1:%u/bucket/k\r\n"
		"x-amz-bucket-region: eu-west-1\r\n" EMPTY, other.port);
	steps[0] = (struct step){ANSWER, text, 0};
	steps[1] = (struct step){ANSWER, "HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\n" EMPTY,
		0};
	rig_start(&rig, steps, 2, (struct s3_config){.bucket = NULL});
	struct s3_reply reply = call(&rig, put_of(&rig, 10));
	assert_int_equal(reply.class, S3_FATAL);
	assert_string_equal(reply.region, "eu-west-1");
	assert_non_null(strstr(reply.redirect_to, "/bucket/k"));
	assert_call(&rig, put_of(&rig, 10), S3_RETRY, "TemporaryRedirect");
	rig_stop(&rig);
	assert_int_equal(requests_seen(&other), 0);
	assert_int_equal(connections_seen(&other), 0);
	server_stop(&other);
}

#define SKEWED(date)                                                                               \
	"HTTP/1.1 403 X\r\nDate: " date "\r\nContent-Length: 48\r\n\r\n"                           \
	"<Error><Code>RequestTimeTooSkewed</Code></Error>"

static void clock_is_corrected_once(void **state)
{
	RIG({ANSWER, SKEWED("Sun, 06 Nov 1994 08:49:37 GMT"), 0}, {ANSWER, ECHO_STEP, 0},
		{ANSWER, SKEWED("Sun, 06 Nov 1994 08:49:39 GMT"), 0},
		{ANSWER, SKEWED("Sat, 01 Jan 1678 00:00:00 GMT"), 0},
		{ANSWER, "HTTP/1.1 403 X\r\nContent-Length: 48\r\n\r\n"
			 "<Error><Code>RequestTimeTooSkewed</Code></Error>", 0});

	assert_call(&rig, put_of(&rig, 10), S3_CLOCK, "RequestTimeTooSkewed");
	assert_null(strstr(head_of(&rig.server, 0), "x-amz-date: 19941106T"));
	assert_call(&rig, put_of(&rig, 10), S3_DONE, "");
	assert_non_null(strstr(head_of(&rig.server, 1), "x-amz-date: 19941106T0849"));
	/* the correction holds, and yet it refuses: no going round in circles */
	assert_call(&rig, put_of(&rig, 10), S3_RETRY, "RequestTimeTooSkewed");
	/* nor further than time can be counted */
	assert_call(&rig, put_of(&rig, 10), S3_RETRY, "RequestTimeTooSkewed");
	assert_call(&rig, put_of(&rig, 10), S3_RETRY, "RequestTimeTooSkewed");
	rig_stop(&rig);
}

static void credentials_are_asked_each_time(void **state)
{
	RIG({ANSWER, "HTTP/1.1 403 X\r\nContent-Length: 46\r\n\r\n"
		     "<Error><Code>InvalidAccessKeyId</Code></Error>", 0}, {ANSWER, ECHO_STEP, 0});

	rig.keys.error = -ENOKEY;
	assert_call(&rig, put_of(&rig, 10), S3_AUTH, "NoCredentials");
	rig.keys.error = -EKEYEXPIRED;
	assert_call(&rig, put_of(&rig, 10), S3_AUTH, "ExpiredCredentials");
	assert_call(&rig, put_of(&rig, 10), S3_AUTH, "ExpiredCredentials");
	assert_int_equal(requests_seen(&rig.server), 0);
	assert_int_equal(rig.keys.rejected_count, 0);
	assert_false(s3_is_down(rig.s3));
	rig.keys.error = 0;
	assert_call(&rig, put_of(&rig, 10), S3_AUTH, "InvalidAccessKeyId");
	assert_int_equal(rig.keys.rejected_count, 1);
	assert_string_equal(rig.keys.rejected_code, "InvalidAccessKeyId");
	text_copy(rig.keys.credentials.access_key, "AKIDNEW", 256);
	assert_call(&rig, put_of(&rig, 10), S3_DONE, "");
	assert_non_null(strstr(head_of(&rig.server, 1), "Credential=AKIDNEW/"));
	rig_stop(&rig);
}

static void await_asked(struct keys *k, unsigned count)
{
	int64_t end_ms = clock_mono_ms() + DEADLINE_MS;
	while (__atomic_load_n(&k->asked_count, __ATOMIC_SEQ_CST) < count) {
		assert_true(clock_mono_ms() < end_ms);
		sched_yield();
	}
}

static void requests_wait_while_credentials_are_renewed(void **state)
{
	RIG({ANSWER, "HTTP/1.1 403 X\r\nContent-Length: 40\r\n\r\n"
		     "<Error><Code>ExpiredToken</Code></Error>", 0},
		{ANSWER, ECHO_STEP, 0}, {ANSWER, ECHO_STEP, 0});
	struct job first, second;

	rig.keys.renews = true;
	assert_call(&rig, put_of(&rig, 10), S3_CLOCK, "ExpiredToken");
	assert_int_equal(rig.keys.rejected_count, 1);
	__atomic_store_n(&rig.keys.error, -EAGAIN, __ATOMIC_SEQ_CST);
	job_start(&first, &rig, put_of(&rig, 10));
	job_start(&second, &rig, put_of(&rig, 10));
	await_asked(&rig.keys, 4);
	assert_int_equal(requests_seen(&rig.server), 1);
	assert_int_equal(job_done_count(&first) + job_done_count(&second), 0);
	assert_false(s3_is_down(rig.s3));
	__atomic_store_n(&rig.keys.error, 0, __ATOMIC_SEQ_CST);
	job_await(&first, S3_DONE, "");
	job_await(&second, S3_DONE, "");
	rig_stop(&rig);
}

static void waiting_for_credentials_ends_with_the_client(void **state)
{
	RIG({ANSWER, ECHO_STEP, 0});
	struct job held, cancelled;

	rig.keys.error = -EAGAIN;
	job_start(&held, &rig, put_of(&rig, 10));
	job_start(&cancelled, &rig, put_of(&rig, 10));
	await_asked(&rig.keys, 2);
	s3_cancel(rig.s3, cancelled.id);
	job_await(&cancelled, S3_RETRY, "Cancelled");
	rig_stop(&rig);
	job_await(&held, S3_RETRY, "ShuttingDown");
}

/* ---- bodies and sinks ---------------------------------------------------------------------------------------------- */

static void bodies_that_fail(void **state)
{
	RIG({HOLD_BODY, NULL, 0}, {HOLD_BODY, NULL, 0});
	struct s3_request req = put_of(&rig, 1000);

	req.body.offset_bytes = BODY_BYTES - 999;
	assert_call(&rig, req, S3_RETRY, "BodyTooShort");
	req = put_of(&rig, 1000);
	req.body.fd = open("/tmp", O_RDONLY | O_DIRECTORY);
	assert_call(&rig, req, S3_RETRY, "BodyReadFailed");
	close(req.body.fd);
	rig_stop(&rig);
}

struct kept {
	char data[64];
	uint64_t len;
	int fail;
};

static int keep(void *user, uint64_t off, const void *data, size_t len)
{
	struct kept *k = user;
	assert_int_equal(off, k->len);
	memcpy(k->data + off, data, len);
	k->len += len;
	return k->fail;
}

static void sinks(void **state)
{
	RIG({ANSWER, "HTTP/1.1 206 X\r\nContent-Range: bytes 5-9/100\r\n" ETAG
		     "Content-Length: 5\r\n\r\nabcde", 0},
		{ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", 0},
		{ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", 0},
		{ANSWER, "HTTP/1.1 404 X\r\nContent-Length: 37\r\n\r\n"
			 "<Error><Code>NoSuchKey</Code></Error>", 0});
	struct kept kept = {.len = 0};
	struct s3_request get = {.op = S3_GET, .key = "k", .sink = {keep, &kept}};
	struct s3_request part = get;

	part.has_range = true;
	part.range_start = 5;
	part.range_len = 5;
	struct s3_reply reply = call(&rig, part);
	assert_int_equal(reply.class, S3_DONE);
	assert_int_equal(reply.content_range_total, 100);
	assert_int_equal(reply.bytes_received, 5);
	assert_memory_equal(kept.data, "abcde", 5);
	kept = (struct kept){.len = 0};
	assert_call(&rig, part, S3_FATAL, "RangeIgnored");
	assert_int_equal(kept.len, 0);
	kept.fail = -EIO;
	assert_call(&rig, get, S3_RETRY, "SinkFailed");
	kept = (struct kept){.len = 0};
	assert_call(&rig, get, S3_NOT_FOUND, "NoSuchKey"); /* an error's body is no content */
	assert_int_equal(kept.len, 0);
	rig_stop(&rig);
}

/* ---- cancelling, lanes, the end -------------------------------------------------------------------------------------- */

static void cancel_while_sending(void **state)
{
	RIG({HOLD_BODY, NULL, 0}, {ANSWER, ECHO_STEP, 0});
	struct job job;

	job_start(&job, &rig, put_of(&rig, BODY_BYTES));
	server_await(&rig.server, 0, 0);
	s3_cancel(rig.s3, job.id);
	job_await(&job, S3_RETRY, "Cancelled");
	assert_false(job.reply.body_fully_sent);
	s3_cancel(rig.s3, job.id); /* unknown by now */
	assert_call(&rig, put_of(&rig, 10), S3_DONE, "");
	assert_int_equal(job.done_count, 1);
	rig_stop(&rig);
}

static void cancel_comes_too_late(void **state)
{
	RIG({HOLD, "HTTP/1.1 200 OK\r\n" ETAG EMPTY, 0}, {ANSWER, "HTTP/1.1 204 X\r\n\r\n", 0});
	struct job job;

	job_start(&job, &rig, put_of(&rig, 100));
	server_await(&rig.server, 0, 100);
	s3_cancel(rig.s3, job.id);
	/* another request's round trip: by then the loop has seen the cancel */
	assert_call(&rig, (struct s3_request){.op = S3_DELETE, .key = "x"}, S3_DONE, "");
	assert_int_equal(job_done_count(&job), 0);
	server_release(&rig.server);
	job_await(&job, S3_DONE, "");
	rig_stop(&rig);
}

static void cancel_a_read_and_a_waiting_one(void **state)
{
	static const struct step steps[] = {{HOLD, "", 0}, {ANSWER, "HTTP/1.1 204 X\r\n\r\n", 0}};
	struct rig rig;
	struct job reading, waiting;

	rig_start(&rig, steps, 2, (struct s3_config){.max_connections = 1});
	job_start(&reading, &rig, (struct s3_request){.op = S3_GET, .key = "k"});
	server_await(&rig.server, 0, 0);
	job_start(&waiting, &rig, (struct s3_request){.op = S3_DELETE, .key = "k"});
	s3_cancel(rig.s3, waiting.id);
	job_await(&waiting, S3_RETRY, "Cancelled");
	assert_int_equal(requests_seen(&rig.server), 1);
	s3_cancel(rig.s3, reading.id);
	job_await(&reading, S3_RETRY, "Cancelled");
	rig_stop(&rig);
}

static void listings_pass_uploads(void **state)
{
	static const struct step steps[] = {{HOLD, "HTTP/1.1 200 OK\r\n" ETAG EMPTY, 0},
		{ANSWER, EMPTY_LISTING, 0},
		{ANSWER, ECHO_STEP, 0}};
	struct rig rig;
	struct job first, second;

	rig_start(&rig, steps, 3, (struct s3_config){.max_connections = 1});
	job_start(&first, &rig, put_of(&rig, 100));
	server_await(&rig.server, 0, 100);
	job_start(&second, &rig, put_of(&rig, 100));
	assert_call(&rig, (struct s3_request){.op = S3_LIST}, S3_DONE, "");
	assert_int_equal(requests_seen(&rig.server), 2); /* the second upload waits for its lane */
	int64_t start_ms = clock_mono_ms();
	server_release(&rig.server);
	job_await(&first, S3_DONE, "");
	job_await(&second, S3_DONE, "");
	assert_true(clock_mono_ms() - start_ms < 5000); /* at once, not at the next idle turn */
	assert_int_equal(requests_seen(&rig.server), 3);
	rig_stop(&rig);
}

struct chain {
	struct rig *rig;
	struct job last;
	unsigned left;
};

static void chain_done(void *user, struct s3_reply *reply)
{
	struct chain *c = user;
	const struct s3_request req = {.op = S3_DELETE, .key = "k"};
	assert_int_equal(reply->class, S3_DONE);
	if (--c->left)
		assert_int_equal(s3_submit(c->rig->s3, &req, chain_done, c, NULL), 0);
	else
		job_done(&c->last, reply);
}

static void callbacks_may_submit(void **state)
{
	RIG({ANSWER, "HTTP/1.1 204 X\r\n\r\n", 0}, {ANSWER, "HTTP/1.1 204 X\r\n\r\n", 0},
		{ANSWER, "HTTP/1.1 204 X\r\n\r\n", 0});
	struct chain chain = {.rig = &rig, .left = 3};
	const struct s3_request req = {.op = S3_DELETE, .key = "k"};
	int64_t start_ms = clock_mono_ms();

	pthread_mutex_init(&chain.last.mutex, NULL);
	pthread_cond_init(&chain.last.changed, NULL);
	assert_int_equal(s3_submit(rig.s3, &req, chain_done, &chain, NULL), 0);
	job_await(&chain.last, S3_DONE, "");
	assert_int_equal(requests_seen(&rig.server), 3);
	assert_true(clock_mono_ms() - start_ms < 5000); /* not once per idle turn */
	rig_stop(&rig);
}

static void the_end_tells_everybody(void **state)
{
	static const struct step steps[] = {{HOLD, "", 0}, {HOLD, "", 0}};
	struct rig rig;
	struct job sent, reading, waiting;

	rig_start(&rig, steps, 2, (struct s3_config){.max_connections = 1});
	job_start(&sent, &rig, put_of(&rig, 100));
	server_await(&rig.server, 0, 100);
	job_start(&reading, &rig, (struct s3_request){.op = S3_LIST});
	server_await(&rig.server, 1, 0);
	job_start(&waiting, &rig, put_of(&rig, 100));
	s3_destroy(rig.s3);
	assert_int_equal(sent.done_count, 1); /* the loop has ended: no lock needed */
	assert_int_equal(reading.done_count, 1);
	assert_int_equal(waiting.done_count, 1);
	job_await(&sent, S3_UNKNOWN, "ShuttingDown");
	job_await(&reading, S3_RETRY, "ShuttingDown");
	job_await(&waiting, S3_RETRY, "ShuttingDown");
	server_stop(&rig.server);
	close(rig.fd);
}

/* ---- facts ------------------------------------------------------------------------------------------------------------ */

static void down_and_up_again(void **state)
{
	static const struct step steps[] = {{ANSWER, "HTTP/1.1 404 X\r\n\r\n", 0}};
	struct rig rig;
	const struct s3_request head = {.op = S3_HEAD, .key = "k"};

	rig_start(&rig, steps, 1, (struct s3_config){.bucket = NULL});
	server_stop(&rig.server);
	for (int i = 0; i < 3; i++) {
		assert_false(s3_is_down(rig.s3));
		assert_call(&rig, head, S3_RETRY, "ConnectFailed");
	}
	assert_true(s3_is_down(rig.s3));
	server_start(&rig.server, steps, 1); /* on the same port */
	assert_call(&rig, head, S3_NOT_FOUND, "NotFound");
	assert_false(s3_is_down(rig.s3));
	rig_stop(&rig);
}

/* A label of more than 63 letters: no resolver asks anybody. */
static void a_name_that_nobody_knows(void **state)
{
	char url[128];
	struct rig rig = {.s3 = NULL};
	struct s3_config config = {.endpoint = url,
		.bucket = "bucket",
		.credentials = {keys_get, keys_rejected, &rig.keys}};
	const struct s3_request head = {.op = S3_HEAD, .key = "k"};

	snprintf(url, sizeof(url), "http://%070d.invalid", 0);
	text_copy(rig.keys.credentials.access_key, "AKIDEXAMPLE", 256);
	text_copy(rig.keys.credentials.secret_key, "secret", 256);
	assert_int_equal(s3_client_create(&rig.s3, &config), 0);
	for (int i = 0; i < 3; i++) {
		assert_false(s3_is_down(rig.s3));
		assert_call(&rig, head, S3_RETRY, "NameNotResolved");
	}
	assert_true(s3_is_down(rig.s3));
	s3_destroy(rig.s3);
}

static void conditions_are_learned(void **state)
{
	RIG({ANSWER, "HTTP/1.1 412 X\r\n" EMPTY, 0});
	struct s3_request req = put_of(&rig, 10);

	req.if_none_match_any = true;
	assert_false(s3_enforces(rig.s3, S3_PUT, S3_IF_NONE_MATCH));
	assert_call(&rig, req, S3_CONFLICT, "PreconditionFailed");
	assert_true(s3_enforces(rig.s3, S3_PUT, S3_IF_NONE_MATCH));
	assert_false(s3_enforces(rig.s3, S3_PUT, S3_IF_MATCH));
	assert_false(s3_enforces(rig.s3, S3_DELETE, S3_IF_NONE_MATCH));
	s3_learn(rig.s3, S3_DELETE, S3_IF_MATCH, true);
	assert_true(s3_enforces(rig.s3, S3_DELETE, S3_IF_MATCH));
	s3_learn(rig.s3, S3_DELETE, S3_IF_MATCH, false);
	assert_false(s3_enforces(rig.s3, S3_DELETE, S3_IF_MATCH));
	rig_stop(&rig);
}

/* A copy names its source's ETag too: that may be what was refused. */
static void refused_copies_teach_nothing(void **state)
{
	RIG({ANSWER, "HTTP/1.1 412 X\r\n" EMPTY, 0});
	struct s3_request req = {.op = S3_COPY,
		.key = "k",
		.copy_source_key = "from",
		.copy_source_if_match = "etag",
		.if_none_match_any = true};

	assert_call(&rig, req, S3_CONFLICT, "PreconditionFailed");
	assert_false(s3_enforces(rig.s3, S3_COPY, S3_IF_NONE_MATCH));
	rig_stop(&rig);
}

static void aws_enforces_from_the_start(void **state)
{
	struct s3 *s3;
	struct keys keys = {.error = 0};
	struct s3_config config = {.bucket = "bucket",
		.credentials = {keys_get, keys_rejected, &keys}};

	assert_int_equal(s3_client_create(&s3, &config), 0);
	assert_true(s3_enforces(s3, S3_COMPLETE_MULTIPART, S3_IF_NONE_MATCH));
	assert_true(s3_enforces(s3, S3_PUT, S3_IF_MATCH));
	s3_destroy(s3);
	config.bucket = "no/bucket";
	assert_int_equal(s3_client_create(&s3, &config), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(put_goes_out_signed),
		cmocka_unit_test(anonymous_is_unsigned),
		cmocka_unit_test(connections_are_kept),
		cmocka_unit_test(echo_decides_about_signing),
		cmocka_unit_test(signing_always_stays),
		cmocka_unit_test(lost_answer_is_unknown_and_sent_once),
		cmocka_unit_test(reset_before_the_body_left_is_retry),
		cmocka_unit_test(early_refusal_is_read),
		cmocka_unit_test(stalls_end),
		cmocka_unit_test(cut_answers),
		cmocka_unit_test(endless_answer_is_bounded),
		cmocka_unit_test(redirects_are_not_followed),
		cmocka_unit_test(clock_is_corrected_once),
		cmocka_unit_test(credentials_are_asked_each_time),
		cmocka_unit_test(requests_wait_while_credentials_are_renewed),
		cmocka_unit_test(waiting_for_credentials_ends_with_the_client),
		cmocka_unit_test(bodies_that_fail),
		cmocka_unit_test(sinks),
		cmocka_unit_test(cancel_while_sending),
		cmocka_unit_test(cancel_comes_too_late),
		cmocka_unit_test(cancel_a_read_and_a_waiting_one),
		cmocka_unit_test(listings_pass_uploads),
		cmocka_unit_test(callbacks_may_submit),
		cmocka_unit_test(the_end_tells_everybody),
		cmocka_unit_test(down_and_up_again),
		cmocka_unit_test(a_name_that_nobody_knows),
		cmocka_unit_test(conditions_are_learned),
		cmocka_unit_test(refused_copies_teach_nothing),
		cmocka_unit_test(aws_enforces_from_the_start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
