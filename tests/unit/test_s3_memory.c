/*
 * The S3 client short of memory: each request ends, with its outcome or as not done, and the next
 * one works.
 */
#include <errno.h>
#include <sched.h>

#include "memory_fault.h"

#include "cpgfs/s3.h"
#include "s3_xml.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define ETAG "ETag: \"0cc175b9c0f1b6a831c399e269772661\"\r\n"
#define BODY "hello"

/* ---- a server that says yes
 * ------------------------------------------------------------------------ */

static int listen_fd = -1;
static uint16_t port;
static struct thread *server;
static _Atomic unsigned puts_seen;

static bool read_request(int fd, char head[8192])
{
	size_t len = 0, want = 0;
	char *end = NULL, *at;

	while (!end && len < 8191) {
		ssize_t n = recv(fd, head + len, 8191 - len, 0);

		if (n <= 0)
			return false;
		len += (size_t)n;
		head[len] = '\0';
		end = strstr(head, "\r\n\r\n");
	}
	at = end ? strcasestr(head, "\r\ncontent-length: ") : NULL;
	if (at && at < end)
		want = strtoul(at + 18, NULL, 10);
	for (size_t got = end ? len - (size_t)(end + 4 - head) : want; got < want;) {
		char rest[1024];
		ssize_t n = recv(fd, rest, sizeof(rest), 0);

		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return end;
}

static void answer(int fd, const char *head)
{
	static const char list[] =
		"<ListBucketResult><IsTruncated>true</IsTruncated>"
		"<NextContinuationToken>t</NextContinuationToken><EncodingType>url</EncodingType>"
		"<Contents><Key>a%20b</Key><LastModified>2026-03-01T12:00:00.000Z</LastModified>"
		"<ETag>&quot;e&quot;</ETag><Size>5</Size></Contents>"
		"<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes></ListBucketResult>";
	static const char complete[] = "<CompleteMultipartUploadResult><ETag>\"e-1\"</ETag>"
				       "</CompleteMultipartUploadResult>";
	const char *body = "";
	char text[2048];

	if (strstr(head, "list-type=2"))
		body = list;
	else if (strstr(head, "uploadId=u"))
		body = complete;
	else if (strncmp(head, "GET ", 4) == 0)
		body = BODY;
	else if (strncmp(head, "PUT ", 4) == 0)
		puts_seen++;
	snprintf(text, sizeof(text),
		"HTTP/1.1 200 OK\r\n" ETAG "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
		strlen(body), body);
	(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static void serve(void *user)
{
	static char head[8192];
	int fd;

	while ((fd = accept(listen_fd, NULL, NULL)) >= 0) {
		if (read_request(fd, head))
			answer(fd, head);
		(void)shutdown(fd, SHUT_WR);
		while (recv(fd, head, sizeof(head), 0) > 0)
			;
		close(fd);
	}
}

static int setup(void **state)
{
	struct sockaddr_in here = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(here);

	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listen_fd, (struct sockaddr *)&here, sizeof(here)), 0);
	assert_int_equal(listen(listen_fd, 16), 0);
	assert_int_equal(getsockname(listen_fd, (struct sockaddr *)&here, &len), 0);
	port = ntohs(here.sin_port);
	return thread_start(&server, "server", serve, NULL);
}

static int teardown(void **state)
{
	(void)shutdown(listen_fd, SHUT_RDWR);
	thread_join(server);
	close(listen_fd);
	return 0;
}

/* ---- requests
 * --------------------------------------------------------------------------------------- */

static int some_keys(void *user, struct s3_credentials *ret)
{
	*ret = (struct s3_credentials){.access_key = "a", .secret_key = "s"};
	return 0;
}

static int client(struct s3 **ret)
{
	char endpoint[64];
	struct s3_config config = {
		.endpoint = endpoint, .bucket = "bucket", .credentials.get = some_keys};

	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", port);
	return s3_client_create(ret, &config);
}

static int keep(void *user, uint64_t off, const void *data, size_t len)
{
	memcpy((char *)user + off, data, len);
	return 0;
}

static char got[sizeof(BODY)];
static int body_fd = -1;

static struct s3_request request(enum s3_op op)
{
	static const struct s3_part part = {.number = 1, .etag = "e"};
	struct s3_request r = {
		.op = op, .key = "k", .acl = "private", .content_type = "image/tiff"};

	switch ((int)op) {
	case S3_PUT:
		r.body = (struct s3_body){
			.fd = body_fd, .len_bytes = strlen(BODY), .has_sha256 = true};
		sha256_of(BODY, strlen(BODY), r.body.sha256);
		break;
	case S3_GET:
		r.sink = (struct s3_sink){.write = keep, .user = got};
		break;
	case S3_LIST:
		r.prefix = "";
		break;
	case S3_COMPLETE_MULTIPART:
		r.upload_id = "u";
		r.parts = &part;
		r.part_count = 1;
		break;
	}
	return r;
}

static void check_done(enum s3_op op, const struct s3_reply *r)
{
	must_hold(r->object.etag[0] || op == S3_LIST);
	if (op == S3_GET)
		must_hold(strcmp(got, BODY) == 0);
	if (op == S3_COMPLETE_MULTIPART)
		must_hold(strcmp(r->object.etag, "e-1") == 0);
	if (op != S3_LIST)
		return;
	must_hold(r->list.count == 2 && r->list.truncated);
	must_hold(strcmp(r->list.next_token, "t") == 0);
	must_hold(strcmp(r->list.entries[0].key, "a b") == 0);
}

/* Not done, but said so: never a part of an answer. */
static void check_reply(enum s3_op op, int r, struct s3_reply *reply, unsigned puts_before)
{
	if (r < 0) {
		must_hold(r == -ENOMEM);
		must_hold(puts_seen == puts_before);
		return;
	}
	if (reply->class == S3_DONE)
		check_done(op, reply);
	else
		must_hold(reply->class == S3_RETRY || reply->class == S3_UNKNOWN);
	if (op == S3_PUT && reply->class == S3_RETRY)
		must_hold(puts_seen == puts_before);
	s3_reply_release(reply);
}

static bool play_once(void *user)
{
	enum s3_op op = *(enum s3_op *)user;
	struct s3_request req = request(op);
	struct s3_reply reply;
	unsigned puts_before = puts_seen;
	struct s3 *s3;
	bool reached;
	int r;

	memset(got, 0, sizeof(got));
	assert_int_equal(client(&s3), 0);
	memory_fault_begin(memory_sweep_at, false);
	r = s3_call(s3, &req, &reply);
	reached = memory_fault_end();
	check_reply(op, r, &reply, puts_before);
	must_hold(s3_call(s3, &req, &reply) == 0);
	if (reply.class != S3_DONE)
		print_error("%s: %s, %s\n", s3_class_text(reply.class), reply.code, reply.message);
	must_hold(reply.class == S3_DONE);
	check_done(op, &reply);
	s3_reply_release(&reply);
	s3_destroy(s3);
	return reached;
}

static void requests_end(void **state)
{
	enum s3_op ops[] = {S3_PUT, S3_GET, S3_LIST, S3_COMPLETE_MULTIPART};

	body_fd = memfd_create("body", MFD_CLOEXEC);
	assert_int_equal(write(body_fd, BODY, strlen(BODY)), strlen(BODY));
	for (size_t i = 0; i < array_len(ops); i++)
		memory_sweep(s3_op_text(ops[i]), play_once, &ops[i], 1);
	close(body_fd);
}

static bool create_once(void *user)
{
	struct s3 *s3 = NULL;
	bool reached;
	int r;

	memory_fault_begin(memory_sweep_at, false);
	r = client(&s3);
	reached = memory_fault_end();
	must_hold(r == 0 || r == -ENOMEM || r == -EAGAIN);
	must_hold((r == 0) == !!s3);
	s3_destroy(s3);
	return reached;
}

static void a_client_is_made_or_not(void **state)
{
	memory_sweep("client", create_once, NULL, 1);
}

/* ---- XML
 * --------------------------------------------------------------------------------------------- */

static bool parse_once(void *user)
{
	const char *text = user;
	struct s3_xml whole, x;
	bool reached;
	int r;

	assert_int_equal(s3_xml_parse(&whole, text, strlen(text)), 0);
	memory_fault_begin(memory_sweep_at, false);
	r = s3_xml_parse(&x, text, strlen(text));
	reached = memory_fault_end();
	must_hold(r == 0 || r == -ENOMEM);
	if (r == 0 && x.whole) {
		must_hold(x.root == whole.root && x.list.count == whole.list.count);
		must_hold(x.part_count == whole.part_count);
		must_hold(strcmp(x.code, whole.code) == 0 && strcmp(x.etag, whole.etag) == 0);
		must_hold(!whole.list.next_token ||
			  (x.list.next_token &&
				  strcmp(x.list.next_token, whole.list.next_token) == 0));
	}
	if (r == 0)
		s3_xml_release(&x);
	s3_xml_release(&whole);
	return reached;
}

static void xml_is_whole_or_not(void **state)
{
	static const char *const texts[] = {
		"<ListBucketResult><IsTruncated>true</IsTruncated>"
		"<NextContinuationToken>token</NextContinuationToken>"
		"<Contents><Key>a</Key><Size>1</Size></Contents>"
		"<Contents><Key>b</Key><Size>2</Size></Contents></ListBucketResult>",
		"<Error><Code>SlowDown</Code><Message>slow</Message></Error>",
		("<ListPartsResult><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>"
		 "</ListPartsResult>"),
	};

	for (size_t i = 0; i < array_len(texts); i++)
		memory_sweep("XML", parse_once, (void *)texts[i], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_client_is_made_or_not),
		cmocka_unit_test(xml_is_whole_or_not),
		cmocka_unit_test(requests_end),
	};

	return cmocka_run_group_tests_name("s3 short of memory", tests, setup, teardown);
}
