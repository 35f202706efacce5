/*
 * The client against the scripted S3 server (tests/s3d): the fault vocabulary on every kind of
 * request, each classed right, and held against what the server really has: a class that says "not
 * applied" is a lie if the object is there.
 *
 * Skipped when the server is not built beside this test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cpgfs/s3.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define START_DEADLINE_MS 60000
#define BODY_BYTES (256 * 1024)
#define BIG_BODY_BYTES (16 * 1024 * 1024) /* more than the sockets between hold */

/* ---- the server as a child ------------------------------------------------------------------------------ */

struct rig {
	char folder[64];
	pid_t server;
	struct s3 *s3;
	struct s3_credentials keys;
	int fd;
	uint64_t crc, big_crc;
	unsigned next_key;
};

static bool server_path(char out[4096])
{
	ssize_t n = readlink("/proc/self/exe", out, 4000);
	if (n < 0)
		return false;
	out[n] = '\0';
	strcpy(strrchr(out, '/'), "/../s3d/s3d");
	return access(out, X_OK) == 0;
}

static void path_in(const struct rig *r, const char *name, char out[128])
{
	snprintf(out, 128, "%s/%s", r->folder, name);
}

static void run_server(const struct rig *r, const char *program)
{
	char root[128], port[128], faults[128];
	path_in(r, "root", root);
	path_in(r, "port", port);
	path_in(r, "faults", faults);
	execl(program, "s3d", "--root", root, "--port-file", port, "--fault-script", faults, "--key",
		"AKIDEXAMPLE:secret:token", "--bucket", "bucket", (char *)NULL);
	_exit(127);
}

static unsigned read_port(const struct rig *r)
{
	char path[128];
	unsigned port = 0;
	path_in(r, "port", path);
	FILE *f = fopen(path, "r");
	if (f && fscanf(f, "%u", &port) != 1)
		port = 0;
	if (f)
		fclose(f);
	return port;
}

static unsigned await_port(const struct rig *r)
{
	int64_t deadline_ms = clock_mono_ms() + START_DEADLINE_MS;
	while (clock_mono_ms() < deadline_ms) {
		unsigned port = read_port(r);
		if (port)
			return port;
		poll(NULL, 0, 5);
	}
	return 0;
}

static void set_faults(const struct rig *r, const char *text)
{
	char path[128], fresh[128];
	path_in(r, "faults", path);
	path_in(r, "faults.new", fresh);
	FILE *f = fopen(fresh, "w");
	assert_non_null(f);
	fprintf(f, "%s\n", text);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(rename(fresh, path), 0);
}

static int keys_get(void *user, struct s3_credentials *ret)
{
	*ret = *(const struct s3_credentials *)user;
	return 0;
}

static void client_start(struct rig *r)
{
	char url[64];
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", await_port(r));
	text_copy(r->keys.access_key, "AKIDEXAMPLE", sizeof(r->keys.access_key));
	text_copy(r->keys.secret_key, "secret", sizeof(r->keys.secret_key));
	text_copy(r->keys.session_token, "token", sizeof(r->keys.session_token));
	struct s3_config config = {.endpoint = url,
		.bucket = "bucket",
		.stall_timeout_ms = 1000,
		.credentials = {keys_get, NULL, &r->keys}};
	assert_int_equal(s3_client_create(&r->s3, &config), 0);
}

static void make_content(struct rig *r)
{
	char path[128];
	cleanup_free char *data = malloc(BIG_BODY_BYTES);
	for (size_t i = 0; i < BIG_BODY_BYTES; i++)
		data[i] = (char)(i * 2654435761u >> 13);
	path_in(r, "content", path);
	r->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(io_pwrite(r->fd, data, BIG_BODY_BYTES, 0), 0);
	r->crc = crc64nvme(0, data, BODY_BYTES);
	r->big_crc = crc64nvme(0, data, BIG_BODY_BYTES);
}

static int rig_start(void **state)
{
	char program[4096], root[128];
	if (!server_path(program)) {
		*state = NULL;
		return 0;
	}
	struct rig *r = calloc(1, sizeof(*r));
	*state = r;
	text_copy(r->folder, "/tmp/test_s3_faults.XXXXXX", sizeof(r->folder));
	assert_non_null(mkdtemp(r->folder));
	path_in(r, "root", root);
	mkdir(root, 0700);
	set_faults(r, "");
	r->server = fork();
	if (!r->server)
		run_server(r, program);
	make_content(r);
	client_start(r);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int rig_stop(void **state)
{
	struct rig *r = *state;
	if (!r)
		return 0;
	s3_destroy(r->s3);
	kill(r->server, SIGKILL);
	waitpid(r->server, NULL, 0);
	close(r->fd);
	nftw(r->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(r);
	return 0;
}

static struct rig *rig_of(void **state)
{
	if (!*state)
		skip();
	return *state;
}

/* ---- requests ------------------------------------------------------------------------------------------- */

static struct s3_reply call(struct rig *r, struct s3_request req)
{
	struct s3_reply reply;
	assert_int_equal(s3_call(r->s3, &req, &reply), 0);
	return reply;
}

static void call_done(struct rig *r, struct s3_request req)
{
	struct s3_reply reply = call(r, req);
	if (reply.class != S3_DONE)
		print_error("%s: %s %s\n", s3_op_text(req.op), reply.code, reply.message);
	assert_int_equal(reply.class, S3_DONE);
	s3_reply_release(&reply);
}

static struct s3_body body_of(const struct rig *r, bool big)
{
	return (struct s3_body){.fd = r->fd,
		.len_bytes = big ? BIG_BODY_BYTES : BODY_BYTES,
		.has_crc64nvme = true,
		.crc64nvme = big ? r->big_crc : r->crc};
}

/* A PUT whose payload is not signed needs an endpoint that has echoed a checksum. */
static void teach_echo(struct rig *r)
{
	struct s3_request req = {.op = S3_PUT, .key = "teach"};
	req.body.has_crc64nvme = true;
	set_faults(r, "");
	call_done(r, req);
	assert_false(s3_wants_sha256(r->s3));
}

static bool is_there(struct rig *r, const char *key)
{
	struct s3_reply reply = call(r, (struct s3_request){.op = S3_HEAD, .key = key});
	assert_true(reply.class == S3_DONE || reply.class == S3_NOT_FOUND);
	bool there = reply.class == S3_DONE;
	s3_reply_release(&reply);
	return there;
}

struct fault_case {
	const char *rule; /* after the operation's name */
	enum s3_class class;
	const char *code;
	bool applied; /* what the server really did */
	bool big;
};

static void assert_outcome(const struct fault_case *c, const char *op, const struct s3_reply *reply)
{
	if (reply->class != c->class || strcmp(reply->code, c->code) != 0)
		print_error("%s %s: %s, code '%s' (%s), status %d\n", op, c->rule,
			s3_class_text(reply->class), reply->code, reply->message,
			reply->http_status);
	assert_int_equal(reply->class, c->class);
	assert_string_equal(reply->code, c->code);
}

/* Every time: curl itself repeats a request that did not leave completely, or a read, when a kept
 * connection breaks. */
static void arm(struct rig *r, const char *operation, const struct fault_case *c)
{
	char text[256];
	snprintf(text, sizeof(text), "%s always %s", operation, c->rule);
	set_faults(r, text);
}

/* ---- PUT --------------------------------------------------------------------------------------------------- */

static const struct fault_case put_cases[] = {
	{"status=500 code=InternalError", S3_UNKNOWN, "InternalError", false, false},
	{"status=500 code=InternalError apply", S3_UNKNOWN, "InternalError", true, false},
	{"status=503 code=SlowDown", S3_THROTTLED, "SlowDown", false, false},
	{"status=429 code=TooManyRequests", S3_THROTTLED, "TooManyRequests", false, false},
	{"status=400 code=RequestTimeout", S3_RETRY, "RequestTimeout", false, false},
	{"status=400 code=BadDigest", S3_RETRY, "BadDigest", false, false},
	{"status=403 code=AccessDenied", S3_DENIED, "AccessDenied", false, false},
	{"status=409 code=OperationAborted", S3_RETRY, "OperationAborted", false, false},
	{"status=409 code=ConditionalRequestConflict", S3_CONFLICT, "ConditionalRequestConflict",
		false, false},
	{"expire-token", S3_AUTH, "ExpiredToken", false, false},
	{"redirect=http://127.0.0.1:1/ status=301", S3_FATAL, "PermanentRedirect", false, false},
	{"redirect=http://127.0.0.1:1/ status=307", S3_RETRY, "TemporaryRedirect", false, false},
	{"200-error code=InternalError", S3_UNKNOWN, "InternalError", false, false},
	{"200-error code=SlowDown leading-space", S3_THROTTLED, "SlowDown", false, false},
	{"no-etag", S3_UNKNOWN, "NoEtag", true, false},
	{"no-checksum", S3_UNKNOWN, "NoChecksumEcho", true, false},
	{"wrong-checksum", S3_UNKNOWN, "ChecksumEchoDiffers", true, false},
	{"wrong-content-length", S3_UNKNOWN, "AnswerCut", true, false},
	{"delay=300", S3_DONE, "", true, false},
};

static void put_faults(void **state)
{
	struct rig *r = rig_of(state);

	for (size_t i = 0; i < array_len(put_cases); i++) {
		char key[32];
		teach_echo(r);
		snprintf(key, sizeof(key), "put-%u", r->next_key++);
		arm(r, "PutObject", &put_cases[i]);
		struct s3_reply reply = call(r, (struct s3_request){
			.op = S3_PUT, .key = key, .body = body_of(r, false)});
		assert_outcome(&put_cases[i], "PutObject", &reply);
		s3_reply_release(&reply);
		assert_int_equal(is_there(r, key), put_cases[i].applied);
		/* and the next one passes */
		teach_echo(r);
		call_done(r, (struct s3_request){
			.op = S3_PUT, .key = key, .body = body_of(r, false)});
	}
}

/* What the words of a lost connection are depends on timing; the class does not. */
static void put_lost_connections(void **state)
{
	static const struct fault_case cases[] = {
		{"reset-after", S3_UNKNOWN, "", true, false},
		{"reset-before", S3_UNKNOWN, "", false, false},
		{"reset-before at=headers", S3_RETRY, "", false, true},
		{"stall=forever of=response", S3_UNKNOWN, "Timeout", true, false},
		{"stall=forever of=request after=1000", S3_RETRY, "Timeout", false, true},
	};
	struct rig *r = rig_of(state);

	for (size_t i = 0; i < array_len(cases); i++) {
		char key[32];
		teach_echo(r);
		snprintf(key, sizeof(key), "lost-%u", r->next_key++);
		arm(r, "PutObject", &cases[i]);
		struct s3_reply reply = call(r, (struct s3_request){
			.op = S3_PUT, .key = key, .body = body_of(r, cases[i].big)});
		if (reply.class != cases[i].class)
			print_error("%s: %s %s\n", cases[i].rule, reply.code, reply.message);
		assert_int_equal(reply.class, cases[i].class);
		if (cases[i].code[0])
			assert_string_equal(reply.code, cases[i].code);
		assert_int_equal(reply.http_status, 0);
		assert_int_equal(reply.body_fully_sent, cases[i].class == S3_UNKNOWN);
		s3_reply_release(&reply);
		assert_int_equal(is_there(r, key), cases[i].applied);
	}
}

static void clock_skew(void **state)
{
	struct rig *r = rig_of(state);
	const int skews_s[] = {1200, -1200};

	for (size_t i = 0; i < 2; i++) {
		char rule[64];
		teach_echo(r);
		snprintf(rule, sizeof(rule), "* skew-date=%d", skews_s[i]);
		set_faults(r, rule);
		struct s3_request req = {.op = S3_PUT, .key = "skew", .body = body_of(r, false)};
		struct s3_reply reply = call(r, req);
		assert_int_equal(reply.class, S3_CLOCK);
		s3_reply_release(&reply);
		call_done(r, req);
		/* back to the right time */
		set_faults(r, "");
		reply = call(r, req);
		assert_int_equal(reply.class, S3_CLOCK);
		s3_reply_release(&reply);
		call_done(r, req);
	}
}

/* ---- multipart ----------------------------------------------------------------------------------------------- */

static void begin_multipart(struct rig *r, const char *key, char upload_id[S3_UPLOAD_ID_MAX],
	struct s3_part *part)
{
	teach_echo(r);
	struct s3_reply reply =
		call(r, (struct s3_request){.op = S3_CREATE_MULTIPART, .key = key});
	assert_int_equal(reply.class, S3_DONE);
	text_copy(upload_id, reply.upload_id, S3_UPLOAD_ID_MAX);
	reply = call(r, (struct s3_request){.op = S3_UPLOAD_PART, .key = key,
		.upload_id = upload_id, .part_number = 1, .body = body_of(r, false)});
	assert_int_equal(reply.class, S3_DONE);
	*part = (struct s3_part){.number = 1, .has_crc64nvme = true, .crc64nvme = r->crc};
	text_copy(part->etag, reply.object.etag, sizeof(part->etag));
}

static const struct fault_case complete_cases[] = {
	{"reset-after", S3_UNKNOWN, NULL, true, false},
	{"reset-before", S3_UNKNOWN, NULL, false, false},
	{"cut-body=60", S3_UNKNOWN, "AnswerCut", true, false},
	{"empty-body", S3_UNKNOWN, "BadResult", true, false},
	{"garbage-xml", S3_UNKNOWN, "BadResult", true, false},
	{"entity-bomb", S3_UNKNOWN, "BadResult", true, false},
	{"huge-xml=20000000", S3_UNKNOWN, "AnswerTooLarge", true, false},
	{"200-error code=InternalError leading-space", S3_UNKNOWN, "InternalError", false, false},
	{"200-error code=SlowDown", S3_THROTTLED, "SlowDown", false, false},
	{"status=500 code=InternalError apply", S3_UNKNOWN, "InternalError", true, false},
	{"status=409 code=ConditionalRequestConflict", S3_CONFLICT, "ConditionalRequestConflict",
		false, false},
	{"status=404 code=NoSuchUpload", S3_NOT_FOUND, "NoSuchUpload", false, false},
	{"no-etag", S3_UNKNOWN, "NoEtag", true, false},
	{"wrong-checksum", S3_UNKNOWN, "ChecksumEchoDiffers", true, false},
	{"no-checksum", S3_DONE, "", true, false},
};

static void complete_faults(void **state)
{
	struct rig *r = rig_of(state);

	for (size_t i = 0; i < array_len(complete_cases); i++) {
		char key[32], upload_id[S3_UPLOAD_ID_MAX];
		struct s3_part part;
		snprintf(key, sizeof(key), "mp-%u", r->next_key++);
		begin_multipart(r, key, upload_id, &part);
		arm(r, "CompleteMultipartUpload", &complete_cases[i]);
		struct s3_reply reply = call(r, (struct s3_request){
			.op = S3_COMPLETE_MULTIPART, .key = key, .upload_id = upload_id,
			.parts = &part, .part_count = 1, .has_full_crc = true, .full_crc = r->crc,
			.total_bytes = BODY_BYTES});
		if (complete_cases[i].code)
			assert_outcome(&complete_cases[i], "CompleteMultipartUpload", &reply);
		assert_int_equal(reply.class, complete_cases[i].class);
		s3_reply_release(&reply);
		set_faults(r, "");
		assert_int_equal(is_there(r, key), complete_cases[i].applied);
	}
}

static void part_faults(void **state)
{
	static const struct fault_case cases[] = {
		{"reset-after", S3_RETRY, NULL, true, false},
		{"status=500 code=InternalError", S3_RETRY, "InternalError", false, false},
		{"no-etag", S3_UNKNOWN, "NoEtag", true, false},
		{"no-checksum", S3_RETRY, "NoChecksumEcho", true, false},
		{"status=503 code=SlowDown", S3_THROTTLED, "SlowDown", false, false},
		{"status=404 code=NoSuchUpload", S3_NOT_FOUND, "NoSuchUpload", false, false},
	};
	struct rig *r = rig_of(state);
	char upload_id[S3_UPLOAD_ID_MAX];
	struct s3_part part;

	begin_multipart(r, "parts", upload_id, &part);
	for (size_t i = 0; i < array_len(cases); i++) {
		teach_echo(r);
		arm(r, "UploadPart", &cases[i]);
		struct s3_reply reply = call(r, (struct s3_request){.op = S3_UPLOAD_PART,
			.key = "parts", .upload_id = upload_id, .part_number = 2 + (unsigned)i,
			.body = body_of(r, false)});
		if (cases[i].code)
			assert_outcome(&cases[i], "UploadPart", &reply);
		assert_int_equal(reply.class, cases[i].class);
		s3_reply_release(&reply);
	}
	set_faults(r, "");
	struct s3_reply reply = call(r, (struct s3_request){
		.op = S3_LIST_PARTS, .key = "parts", .upload_id = upload_id});
	assert_int_equal(reply.class, S3_DONE);
	assert_int_equal(reply.part_count, 4); /* the first, and the three that were applied */
	s3_reply_release(&reply);
	call_done(r, (struct s3_request){
		.op = S3_ABORT_MULTIPART, .key = "parts", .upload_id = upload_id});
}

/* ---- the others -------------------------------------------------------------------------------------------------- */

static void run_cases(struct rig *r, const char *operation, struct s3_request req,
	const struct fault_case *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		arm(r, operation, &cases[i]);
		struct s3_reply reply = call(r, req);
		if (cases[i].code)
			assert_outcome(&cases[i], operation, &reply);
		assert_int_equal(reply.class, cases[i].class);
		s3_reply_release(&reply);
	}
	set_faults(r, "");
}

static void list_faults(void **state)
{
	static const struct fault_case cases[] = {
		{"garbage-xml", S3_RETRY, "BadListing", false, false},
		{"entity-bomb", S3_RETRY, "BadListing", false, false},
		{"huge-xml=20000000", S3_RETRY, "AnswerTooLarge", false, false},
		{"empty-body", S3_RETRY, "BadListing", false, false},
		{"cut-body=100", S3_RETRY, "AnswerCut", false, false},
		{"wrong-content-length", S3_RETRY, "AnswerCut", false, false},
		{"missing-token", S3_RETRY, "NoContinuationToken", false, false},
		{"200-error code=InternalError", S3_RETRY, "InternalError", false, false},
		{"status=503 code=SlowDown", S3_THROTTLED, "SlowDown", false, false},
		{"status=403 code=AccessDenied", S3_DENIED, "AccessDenied", false, false},
		{"reset-after", S3_RETRY, NULL, false, false},
		{"delay=1", S3_DONE, "", false, false},
	};
	struct rig *r = rig_of(state);

	teach_echo(r);
	run_cases(r, "ListObjectsV2", (struct s3_request){.op = S3_LIST}, cases, array_len(cases));
}

static void list_token_that_goes_round(void **state)
{
	struct rig *r = rig_of(state);
	struct s3_request req = {.op = S3_LIST, .max_keys = 1};
	struct s3_reply first, second;

	teach_echo(r);
	set_faults(r, "ListObjectsV2 repeat-token");
	first = call(r, req);
	assert_int_equal(first.class, S3_DONE);
	assert_true(first.list.truncated);
	req.token = first.list.next_token;
	second = call(r, req);
	assert_int_equal(second.class, S3_RETRY);
	assert_string_equal(second.code, "RepeatedContinuationToken");
	s3_reply_release(&first);
	s3_reply_release(&second);
	set_faults(r, "");
}

static int count_bytes(void *user, uint64_t off, const void *data, size_t len)
{
	*(uint64_t *)user += len;
	return 0;
}

static void get_and_head_faults(void **state)
{
	static const struct fault_case get_cases[] = {
		{"cut-body=1000", S3_RETRY, "AnswerCut", false, false},
		{"wrong-content-length", S3_RETRY, "AnswerCut", false, false},
		{"reset-before", S3_RETRY, NULL, false, false},
		{"status=500 code=InternalError", S3_RETRY, "InternalError", false, false},
		{"status=404 code=NoSuchKey", S3_NOT_FOUND, "NoSuchKey", false, false},
		{"stall=forever after=1000", S3_RETRY, "Timeout", false, false},
		{"wrong-etag", S3_CONFLICT, "EtagDiffers", false, false},
		{"delay=1", S3_DONE, "", false, false},
	};
	static const struct fault_case head_cases[] = {
		{"status=403 code=AccessDenied", S3_DENIED, "Forbidden", false, false},
		{"status=404 code=NoSuchKey", S3_NOT_FOUND, "NotFound", false, false},
		{"status=503 code=SlowDown", S3_THROTTLED, "SlowDown", false, false},
		{"no-etag", S3_RETRY, "NoEtag", false, false},
		{"reset-after", S3_RETRY, NULL, false, false},
	};
	struct rig *r = rig_of(state);
	uint64_t got = 0;

	teach_echo(r);
	call_done(r, (struct s3_request){.op = S3_PUT, .key = "get", .body = body_of(r, false)});
	struct s3_reply head = call(r, (struct s3_request){.op = S3_HEAD, .key = "get"});
	assert_true(head.has_crc64nvme && head.crc_is_full_object && head.crc64nvme == r->crc);
	run_cases(r, "GetObject",
		(struct s3_request){.op = S3_GET, .key = "get", .if_match = head.object.etag,
			.sink = {count_bytes, &got}},
		get_cases, array_len(get_cases));
	assert_in_range(got, BODY_BYTES, 4 * BODY_BYTES);
	run_cases(r, "HeadObject", (struct s3_request){.op = S3_HEAD, .key = "get"}, head_cases,
		array_len(head_cases));
}

static void delete_copy_create_faults(void **state)
{
	static const struct fault_case delete_cases[] = {
		{"reset-before", S3_UNKNOWN, NULL, false, false},
		{"status=500 code=InternalError", S3_UNKNOWN, "InternalError", false, false},
		{"status=503 code=SlowDown", S3_THROTTLED, "SlowDown", false, false},
		{"reset-after", S3_UNKNOWN, NULL, true, false},
	};
	static const struct fault_case copy_cases[] = {
		{"200-error code=InternalError", S3_UNKNOWN, "InternalError", false, false},
		{"200-error code=SlowDown", S3_THROTTLED, "SlowDown", false, false},
		{"empty-body", S3_UNKNOWN, "BadResult", true, false},
		{"cut-body=30", S3_UNKNOWN, "AnswerCut", true, false},
		{"no-etag", S3_UNKNOWN, "NoEtag", true, false},
		{"delay=1", S3_DONE, "", true, false},
	};
	static const struct fault_case create_cases[] = {
		{"empty-body", S3_UNKNOWN, "BadResult", true, false},
		{"garbage-xml", S3_UNKNOWN, "BadResult", true, false},
		{"reset-after", S3_UNKNOWN, NULL, true, false},
		{"status=403 code=AccessDenied", S3_DENIED, "AccessDenied", false, false},
	};
	struct rig *r = rig_of(state);

	teach_echo(r);
	call_done(r, (struct s3_request){.op = S3_PUT, .key = "src", .body = body_of(r, false)});
	run_cases(r, "CopyObject",
		(struct s3_request){.op = S3_COPY, .key = "dst", .copy_source_key = "src"},
		copy_cases, array_len(copy_cases));
	run_cases(r, "CreateMultipartUpload",
		(struct s3_request){.op = S3_CREATE_MULTIPART, .key = "src"}, create_cases,
		array_len(create_cases));
	run_cases(r, "DeleteObject", (struct s3_request){.op = S3_DELETE, .key = "src"},
		delete_cases, array_len(delete_cases));
	assert_false(is_there(r, "src"));
	assert_true(is_there(r, "dst"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(put_faults),
		cmocka_unit_test(put_lost_connections),
		cmocka_unit_test(clock_skew),
		cmocka_unit_test(complete_faults),
		cmocka_unit_test(part_faults),
		cmocka_unit_test(list_faults),
		cmocka_unit_test(list_token_that_goes_round),
		cmocka_unit_test(get_and_head_faults),
		cmocka_unit_test(delete_copy_create_faults),
	};
	return cmocka_run_group_tests(tests, rig_start, rig_stop);
}
