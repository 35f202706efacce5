/*
 * cli_check_write - what an upload does, done once with a small object below the prefix: put with
 * the ACL, read back, conditions, parts, rate, delete.
 *
 * The object's name has 128 random bits. Whatever may be in the bucket is noted in struct check_run
 * before it is sent, and removed by check_clean_up() however the check ends.
 */
#include "cli_check.h"
#include "cli_private.h"

#include <inttypes.h>
#include <sys/mman.h>

#define SMALL_BYTES (64 * KIB)
#define RATE_BYTES (8 * MIB)
#define RATE_FIRST_BYTES MIB
#define RATE_QUICK_MS 1000 /* then the larger one is worth its time */
#define TIMEOUT_MS 30000
#define CLEAN_TIMEOUT_MS 15000
#define PLATE_BYTES 60e9

static const char *words(const struct s3_reply *reply)
{
	return text_starts(reply->message, "HTTP status ") ? "no reason given" : reply->message;
}

/* ---- the object ----------------------------------------------------------------------------- */

static int make_body(struct check_run *run)
{
	cleanup_free uint8_t *bytes = malloc(RATE_BYTES);
	run->body_fd = bytes ? memfd_create("cpgfs-check", MFD_CLOEXEC) : -1;
	if (!bytes || run->body_fd < 0)
		return bytes ? -errno : -ENOMEM;
	check_fill(bytes, RATE_BYTES);
	return io_pwrite(run->body_fd, bytes, RATE_BYTES, 0);
}

static int make_key(struct check_run *run)
{
	const char *prefix = run->options->prefix;
	int len = snprintf(run->key, sizeof(run->key), "%s%s.cpgfs-check-%016" PRIx64 "%016" PRIx64,
		prefix, prefix[0] ? "/" : "", random_u64(), random_u64());
	return len > 0 && (size_t)len < sizeof(run->key) ? 0 : -ENAMETOOLONG;
}

static int body_of(const struct check_run *run, uint64_t len, struct s3_body *ret)
{
	cleanup_free uint8_t *bytes = malloc(len);
	ssize_t n = bytes ? io_pread(run->body_fd, bytes, len, 0) : -ENOMEM;
	if (n < 0)
		return (int)n;
	*ret = (struct s3_body){.fd = run->body_fd,
		.len_bytes = len,
		.has_sha256 = true,
		.has_crc64nvme = true,
		.crc64nvme = crc64nvme(0, bytes, len)};
	sha256_of(bytes, len, ret->sha256);
	return 0;
}

/* ---- put, and its ACL ----------------------------------------------------------------------- */

static int put(
	struct check_run *run, uint64_t len, const char *acl, bool only_new, struct s3_reply *ret)
{
	struct s3_request req = {.op = S3_PUT,
		.key = run->key,
		.acl = acl,
		.if_none_match_any = only_new,
		.content_type = "binary/octet-stream",
		.timeout_ms = TIMEOUT_MS};
	int r = body_of(run, len, &req.body);
	if (r < 0)
		return r;
	bool before = run->may_exist;
	run->may_exist = true;
	r = check_call(run, &req, ret);
	if (r == 0 && ret->class == S3_DONE)
		(void)text_copy(run->etag, ret->object.etag, sizeof(run->etag));
	else if (r == 0 && ret->class != S3_UNKNOWN)
		run->may_exist = before;
	return r;
}

static void put_failed(struct check_run *run, const struct s3_reply *reply)
{
	const struct cli_mount *m = run->options;
	check_say(run->report, CHECK_FAIL, "put", "an object below s3://%s/%s is refused: %s (%s)",
		m->bucket, m->prefix, reply->code, words(reply));
	if (reply->class == S3_DENIED)
		check_remedy(run->report,
			"these keys may not write there: are they for this prefix, and for "
			"writing? Ask who gave them");
	else
		check_remedy(run->report, "the server's words tell; try again if it may pass");
}

/* Refused as it was asked for: is the ACL the reason? */
static bool put_another_way(struct check_run *run, const struct s3_reply *first)
{
	static const char owner[] = "bucket-owner-full-control";
	const char *acl = run->options->acl, *other = acl ? NULL : owner;
	struct s3_reply reply;
	if (put(run, SMALL_BYTES, other, false, &reply) < 0)
		return false;
	bool done = reply.class == S3_DONE;
	s3_reply_release(&reply);
	if (!done) {
		put_failed(run, first);
		return false;
	}
	run->acl = other;
	if (acl) {
		check_say(run->report, CHECK_FAIL, "acl",
			"objects with the ACL %s are refused: %s (%s); without "
			"one they are taken",
			acl, first->code, words(first));
		check_remedy(run->report,
			"--acl none, if the bucket's owner wants none; else ask for the right "
			"s3:PutObjectAcl");
	} else {
		check_say(run->report, CHECK_FAIL, "acl",
			"objects without an ACL are refused: %s (%s); with %s "
			"they are taken",
			first->code, words(first), owner);
		check_remedy(run->report, "leave --acl none away");
	}
	return true;
}

static bool is_about_acl(const struct s3_reply *reply)
{
	return reply->class == S3_DENIED || strstr(reply->code, "AccessControlList") ||
	       strstr(reply->message, "ACL") || strcmp(reply->code, "Refused") == 0;
}

static void say_checksum(struct check_run *run, const struct s3_reply *reply)
{
	if (reply->has_crc64nvme)
		check_say(run->report, CHECK_OK, "checksum", "the server confirms CRC64NVME");
	else
		check_say(run->report, CHECK_OK, "checksum",
			"the server does not confirm CRC64NVME: contents are proved by signing "
			"their SHA-256");
}

static bool check_put(struct check_run *run)
{
	struct s3_reply reply;
	run->acl = run->options->acl;
	int r = put(run, SMALL_BYTES, run->acl, true, &reply);
	bool lost = r == 0 && reply.class == S3_UNKNOWN;
	if (lost || (r == 0 && strcmp(reply.code, "NotImplemented") == 0)) {
		s3_reply_release(&reply); /* the condition is tried below */
		r = put(run, SMALL_BYTES, run->acl, false, &reply);
	}
	if (r < 0) {
		if (r != -EINTR)
			check_say(run->report, CHECK_FAIL, "put", "%s", strerror(-r));
		return false;
	}
	bool done = reply.class == S3_DONE;
	if (done) {
		check_say(run->report, CHECK_OK, "put", "an object was put%s%s",
			run->acl ? " with the ACL " : "", run->acl ? run->acl : " without an ACL");
		say_checksum(run, &reply);
	} else if (is_about_acl(&reply)) {
		done = put_another_way(run, &reply);
	} else {
		put_failed(run, &reply);
	}
	s3_reply_release(&reply);
	return done;
}

/* ---- reading back --------------------------------------------------------------------------- */

/* What a HEAD must say of the object that was put; NULL: it does. */
static const char *head_differs(
	const struct check_run *run, const struct s3_reply *reply, uint64_t crc)
{
	if (reply->object.size_bytes != SMALL_BYTES)
		return "another size";
	if (reply->has_crc64nvme && reply->crc64nvme != crc)
		return "another checksum";
	if (run->etag[0] && strcmp(reply->object.etag, run->etag) != 0)
		return "another ETag";
	return NULL;
}

static void check_head(struct check_run *run)
{
	struct s3_request req = {.op = S3_HEAD, .key = run->key, .timeout_ms = TIMEOUT_MS};
	struct s3_body body;
	struct s3_reply reply;
	if (body_of(run, SMALL_BYTES, &body) < 0 || check_call(run, &req, &reply) < 0)
		return;
	const char *differs =
		reply.class == S3_DONE ? head_differs(run, &reply, body.crc64nvme) : NULL;
	if (reply.class != S3_DONE) {
		check_say(run->report, CHECK_WARN, "head",
			"the object cannot be asked for: %s (%s)", reply.code, words(&reply));
		check_remedy(run->report,
			"files cannot be read back, and lost answers are settled by listings "
			"only: ask for the right s3:GetObject");
	} else if (differs) {
		check_say(run->report, CHECK_FAIL, "head", "the object has %s than what was put",
			differs);
		check_remedy(run->report,
			"something between here and the bucket changes what is sent: tell the "
			"server's people");
	} else {
		check_say(run->report, CHECK_OK, "head", "size%s and ETag are those that were sent",
			reply.has_crc64nvme ? ", checksum" : "");
		check_number(run->report, "round_trip_ms", (double)reply.elapsed_ms);
	}
	s3_reply_release(&reply);
}

static void check_acl(struct check_run *run)
{
	struct s3_request req = {.op = S3_GET_ACL, .key = run->key, .timeout_ms = TIMEOUT_MS};
	struct s3_reply reply;
	if (!run->acl || run->acl != run->options->acl || check_call(run, &req, &reply) < 0)
		return;
	if (reply.class != S3_DONE)
		check_say(run->report, CHECK_OK, "acl", "%s was taken (it may not be read back)",
			run->acl);
	else if (strstr(buf_text(&reply.text), "FULL_CONTROL"))
		check_say(run->report, CHECK_OK, "acl", "%s was taken", run->acl);
	else {
		check_say(run->report, CHECK_WARN, "acl",
			"%s was taken, but the object grants nobody full "
			"control",
			run->acl);
		check_remedy(run->report,
			"ask the bucket's owner whether they can read what you upload");
	}
	s3_reply_release(&reply);
}

/* A second put "only if there is none" must be refused. */
static void check_conditions(struct check_run *run)
{
	struct s3_reply reply;
	if (put(run, SMALL_BYTES, run->acl, true, &reply) < 0)
		return;
	if (reply.http_status == 412 || reply.http_status == 409) {
		check_say(run->report, CHECK_OK, "conditions",
			"nobody's object can be overwritten unseen");
	} else {
		check_say(run->report, CHECK_WARN, "conditions",
			"the server does not honour If-None-Match (%s)",
			reply.class == S3_DONE ? "it overwrote" : reply.code);
		check_remedy(run->report,
			"cpgfs looks at each key just before it writes; let nobody else write "
			"to this prefix meanwhile");
	}
	s3_reply_release(&reply);
}

/* ---- parts ---------------------------------------------------------------------------------- */

static void parts_failed(struct check_run *run, const char *step, const struct s3_reply *reply)
{
	check_say(run->report, CHECK_FAIL, "multipart", "%s is refused: %s (%s)", step, reply->code,
		words(reply));
	check_remedy(run->report,
		"files larger than --multipart-threshold cannot be uploaded: ask for the "
		"rights of multipart uploads, or set --multipart-threshold 5G (then files up to "
		"5 GiB go in one piece)");
}

/* One step; false: it failed, and was said, or a signal came. */
static bool step(struct check_run *run, const struct s3_request *req, const char *what)
{
	struct s3_reply reply;
	if (check_call(run, req, &reply) < 0)
		return false;
	bool done = reply.class == S3_DONE;
	if (!done)
		parts_failed(run, what, &reply);
	else if (req->op == S3_CREATE_MULTIPART)
		(void)text_copy(run->upload_id, reply.upload_id, sizeof(run->upload_id));
	s3_reply_release(&reply);
	return done;
}

static bool abort_upload(struct check_run *run, unsigned timeout_ms, struct s3_reply *ret)
{
	struct s3_request req = {.op = S3_ABORT_MULTIPART,
		.key = run->key,
		.upload_id = run->upload_id,
		.timeout_ms = timeout_ms};
	if (check_call(run, &req, ret) < 0)
		return false;
	if (ret->class == S3_DONE || ret->class == S3_NOT_FOUND)
		run->upload_id[0] = '\0';
	return true;
}

static void check_parts(struct check_run *run)
{
	struct s3_request create = {.op = S3_CREATE_MULTIPART,
		.key = run->key,
		.acl = run->acl,
		.content_type = "binary/octet-stream",
		.timeout_ms = TIMEOUT_MS};
	struct s3_request part = {.op = S3_UPLOAD_PART,
		.key = run->key,
		.upload_id = run->upload_id,
		.part_number = 1,
		.timeout_ms = TIMEOUT_MS};
	struct s3_request list = {.op = S3_LIST_PARTS,
		.key = run->key,
		.upload_id = run->upload_id,
		.timeout_ms = TIMEOUT_MS};
	struct s3_reply reply;
	if (body_of(run, SMALL_BYTES, &part.body) < 0 ||
		!step(run, &create, "to begin an upload in parts") || !step(run, &part, "a part") ||
		!step(run, &list, "to list the parts") || !abort_upload(run, TIMEOUT_MS, &reply))
		return;
	if (run->upload_id[0])
		parts_failed(run, "to give such an upload up", &reply);
	else
		check_say(run->report, CHECK_OK, "multipart",
			"begun, one part put, listed, and given up");
	s3_reply_release(&reply);
}

/* ---- the rate ------------------------------------------------------------------------------- */

static int64_t timed_put(struct check_run *run, uint64_t len)
{
	struct s3_reply reply;
	int r = put(run, len, run->acl, false, &reply);
	if (r < 0)
		return r;
	int64_t elapsed_ms = reply.class == S3_DONE ? reply.elapsed_ms + 1 : -EIO;
	s3_reply_release(&reply);
	return elapsed_ms;
}

static void check_rate(struct check_run *run)
{
	if (run->quick)
		return;
	uint64_t len = RATE_FIRST_BYTES;
	int64_t ms = timed_put(run, len);
	if (ms > 0 && ms < RATE_QUICK_MS) {
		len = RATE_BYTES;
		ms = timed_put(run, len);
	}
	if (ms == -EINTR)
		return;
	if (ms < 0) {
		check_say(run->report, CHECK_WARN, "rate",
			"an object of %" PRIu64 " MiB was not taken in %d s", len / MIB,
			TIMEOUT_MS / 1000);
		check_remedy(run->report,
			"the line is slow or breaks: uploads go on where they stopped, but a "
			"plate may take days");
		return;
	}
	double rate = (double)len * 1000 / (double)ms;
	char text[24], plate[24];
	size_format((uint64_t)rate, text);
	duration_format((int64_t)(PLATE_BYTES / rate * 1000), plate);
	check_say(run->report, CHECK_OK, "rate",
		"%s/s over one connection: a plate of 60 GB in %s at that (several go at once)",
		text, plate);
	check_number(run->report, "bytes_per_s", rate);
}

/* ---- taking it away ------------------------------------------------------------------------- */

static bool delete_object(struct check_run *run, unsigned timeout_ms, struct s3_reply *ret)
{
	struct s3_request req = {.op = S3_DELETE, .key = run->key, .timeout_ms = timeout_ms};
	if (check_call(run, &req, ret) < 0)
		return false;
	if (ret->class == S3_DONE || ret->class == S3_NOT_FOUND)
		run->may_exist = false;
	return true;
}

static void left_behind(struct check_run *run, const char *code, const char *message)
{
	check_say(run->report, CHECK_FAIL, "delete",
		"the object that was put cannot be deleted: %s (%s)", code, message);
	check_remedy(run->report,
		"s3://%s/%s is left there; renames and deletes would not reach the bucket: ask for "
		"the right "
		"s3:DeleteObject",
		run->options->bucket, run->key);
}

static bool is_gone(struct check_run *run)
{
	struct s3_request req = {
		.op = S3_LIST, .prefix = run->key, .max_keys = 1, .timeout_ms = TIMEOUT_MS};
	struct s3_reply reply;
	if (check_call(run, &req, &reply) < 0)
		return true; /* nothing is known against it */
	bool gone = reply.class != S3_DONE || reply.list.count == 0;
	s3_reply_release(&reply);
	return gone;
}

static void check_delete(struct check_run *run)
{
	struct s3_reply reply;
	if (!delete_object(run, TIMEOUT_MS, &reply))
		return;
	if (run->may_exist)
		left_behind(run, reply.code, words(&reply));
	else if (!is_gone(run))
		left_behind(run, "the server says that it did", "but lists it still");
	else
		check_say(run->report, CHECK_OK, "delete",
			"the object was deleted and is not listed any more");
	run->may_exist = false; /* said */
	s3_reply_release(&reply);
}

void check_clean_up(struct check_run *run)
{
	struct s3_reply reply;
	run->cleaning = true;
	if (run->upload_id[0] && abort_upload(run, CLEAN_TIMEOUT_MS, &reply))
		s3_reply_release(&reply);
	if (run->upload_id[0])
		cli_error("an upload in parts of s3://%s/%s could not be given up; it holds one "
			  "part of 64 KiB",
			run->options->bucket, run->key);
	if (run->may_exist && delete_object(run, CLEAN_TIMEOUT_MS, &reply))
		s3_reply_release(&reply);
	if (run->may_exist)
		cli_error("s3://%s/%s may be left there: it could not be deleted",
			run->options->bucket, run->key);
	if (run->body_fd >= 0)
		close(steal_fd(&run->body_fd));
}

void check_writing(struct check_run *run)
{
	void (*const steps[])(struct check_run *) = {
		check_head, check_acl, check_conditions, check_parts, check_rate, check_delete};
	if (run->no_write || run->options->read_only) {
		check_say(run->report, CHECK_SKIP, "put", "nothing was written: %s",
			run->options->read_only ? "--read-only"
						: "--no-write, or keys for reading only");
		return;
	}
	int r = make_key(run);
	if (r == 0)
		r = make_body(run);
	if (r < 0) {
		check_say(run->report, CHECK_FAIL, "put", "%s", strerror(-r));
		return;
	}
	if (!check_put(run))
		return;
	for (size_t i = 0; i < array_len(steps) && !check_is_interrupted(); i++)
		steps[i](run);
}
