/*
 * What is decided about a version, as a table: every combination of what is known, and what a
 * reply says about having been applied.
 */
#include "upload_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct plan_row {
	const char *what;
	struct plan_facts facts;
	enum plan plan;
};

static const struct plan_row rows[] = {
	{"new, the server refuses overwriting", {.enforced = true}, PLAN_CREATE},
	{"new, the server would overwrite", {.enforced = false}, PLAN_ASK},
	{"ours, the server refuses overwriting others'", {.enforced = true, .own_known = true},
		PLAN_REPLACE_OWN},
	{"ours, not enforced", {.own_known = true}, PLAN_ASK},
	{"ours with this very content", {.enforced = true, .own_known = true, .own_same = true},
		PLAN_ASK},
	{"large", {.enforced = true, .ask_first = true}, PLAN_ASK},
	{"large and ours", {.enforced = true, .own_known = true, .ask_first = true}, PLAN_ASK},
	{"nothing there", {.bucket = BUCKET_ABSENT}, PLAN_CREATE},
	{"ours vanished", {.bucket = BUCKET_ABSENT, .own_known = true}, PLAN_CREATE},
	{"same content from elsewhere", {.bucket = BUCKET_HOLDS, .content = CONTENT_SAME},
		PLAN_ADOPT},
	{"same content of ours",
		{.bucket = BUCKET_HOLDS, .content = CONTENT_SAME, .found_is_ours = true},
		PLAN_ADOPT},
	{"other content of ours",
		{.bucket = BUCKET_HOLDS, .content = CONTENT_OTHER, .found_is_ours = true},
		PLAN_REPLACE_FOUND},
	{"ours, not comparable: replaced anyway",
		{.bucket = BUCKET_HOLDS, .content = CONTENT_NEEDS_READING, .found_is_ours = true},
		PLAN_REPLACE_FOUND},
	{"other content from elsewhere", {.bucket = BUCKET_HOLDS, .content = CONTENT_OTHER},
		PLAN_CONFLICT},
	{"other content from elsewhere, replacing allowed",
		{.bucket = BUCKET_HOLDS, .content = CONTENT_OTHER, .may_replace = true},
		PLAN_REPLACE_FOUND},
	{"from elsewhere, not compared yet",
		{.bucket = BUCKET_HOLDS, .content = CONTENT_NEEDS_READING}, PLAN_READ},
	{"from elsewhere, not compared yet, replacing allowed",
		{.bucket = BUCKET_HOLDS, .content = CONTENT_NEEDS_READING, .may_replace = true},
		PLAN_READ},
	{"allowed, not enforced, unasked: still asked", {.may_replace = true}, PLAN_ASK},
};

static void test_plan_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_len(rows); i++) {
		enum plan plan = plan_version(&rows[i].facts);

		if (plan != rows[i].plan)
			fail_msg("%s: planned %d, not %d", rows[i].what, plan, rows[i].plan);
	}
}

/* Whatever is known: an object of someone else with other content is never replaced without leave,
 * and nothing is written on a guess where the server would not refuse it. */
static void test_plan_never_overwrites(void **state)
{
	unsigned asked = 0;

	(void)state;
	for (unsigned bits = 0; bits < 1u << 10; bits++) {
		struct plan_facts f = {.own_known = bits & 1,
			.own_same = bits & 2,
			.enforced = bits & 4,
			.ask_first = bits & 8,
			.may_replace = bits & 16,
			.found_is_ours = bits & 32,
			.bucket = (enum bucket_says)((bits >> 6 & 3) % 3),
			.content = (enum content_is)((bits >> 8 & 3) % 3)};
		enum plan p = plan_version(&f);

		if (f.bucket == BUCKET_HOLDS && !f.found_is_ours && !f.may_replace)
			assert_true(p == PLAN_ADOPT || p == PLAN_READ || p == PLAN_CONFLICT);
		if (f.bucket == BUCKET_UNASKED && !f.enforced)
			assert_int_equal(p, PLAN_ASK);
		if (p == PLAN_ADOPT)
			assert_true(f.bucket == BUCKET_HOLDS && f.content == CONTENT_SAME);
		asked += p == PLAN_ASK;
	}
	assert_in_range(asked, 1, 1023);
}

static void test_applied(void **state)
{
	struct s3_reply r = {.class = S3_DONE};

	(void)state;
	assert_int_equal(reply_applied(&r), APPLIED_YES);
	r.class = S3_UNKNOWN;
	assert_int_equal(reply_applied(&r), APPLIED_PERHAPS);
	r = (struct s3_reply){.class = S3_RETRY};
	assert_int_equal(reply_applied(&r), APPLIED_NO); /* the body did not leave */
	r = (struct s3_reply){.class = S3_RETRY, .body_fully_sent = true};
	assert_int_equal(reply_applied(&r), APPLIED_PERHAPS); /* left, no answer */
	r.http_status = 500;
	assert_int_equal(reply_applied(&r), APPLIED_PERHAPS);
	r.http_status = 503;
	assert_int_equal(reply_applied(&r), APPLIED_NO);
	r.http_status = 400; /* BadDigest, RequestTimeout */
	assert_int_equal(reply_applied(&r), APPLIED_NO);
	for (enum s3_class c = S3_NOT_FOUND; c <= S3_FATAL; c++) {
		if (c == S3_RETRY)
			continue;
		r = (struct s3_reply){.class = c, .body_fully_sent = true, .http_status = 403};
		assert_int_equal(reply_applied(&r), APPLIED_NO);
	}
}

/* ---- same content ------------------------------------------------------------------------------- */

static const char md5_a[] = "0cc175b9c0f1b6a831c399e269772661";

static struct found found_with(uint64_t size, const char *etag)
{
	struct found f = {.says = BUCKET_HOLDS, .object = {.size_bytes = size}};

	(void)text_copy(f.object.etag, etag, sizeof(f.object.etag));
	return f;
}

static void test_same_content(void **state)
{
	struct version v = {.size_bytes = 1, .has_crc64nvme = true, .crc64nvme = 7};
	struct found f = found_with(1, md5_a);

	(void)state;
	assert_int_equal(same_content(&v, &f), CONTENT_NEEDS_READING);
	f.has_crc64nvme = true;
	f.crc64nvme = 7;
	assert_int_equal(same_content(&v, &f), CONTENT_SAME);
	f.crc64nvme = 8;
	assert_int_equal(same_content(&v, &f), CONTENT_OTHER);
	f.crc64nvme = 7;
	f.object.size_bytes = 2;
	assert_int_equal(same_content(&v, &f), CONTENT_OTHER);
	f = found_with(1, md5_a);
	v.has_md5 = true;
	memcpy(v.md5, md5_a, sizeof(v.md5));
	assert_int_equal(same_content(&v, &f), CONTENT_SAME);
	v.md5[0] = '1';
	assert_int_equal(same_content(&v, &f), CONTENT_OTHER);
	f = found_with(1, "0cc175b9c0f1b6a831c399e269772661-2");
	assert_int_equal(same_content(&v, &f), CONTENT_NEEDS_READING);
}

static void test_attempt_made(void **state)
{
	struct store_attempt a = {
		.kind = ATTEMPT_PUT, .size_bytes = 1, .has_crc64nvme = true, .crc64nvme = 7};
	struct found f = found_with(1, md5_a);

	(void)state;
	assert_false(attempt_made(&a, &f)); /* size alone proves nothing */
	f.has_crc64nvme = true;
	f.crc64nvme = 7;
	assert_true(attempt_made(&a, &f));
	f.crc64nvme = 8;
	a.has_md5 = true;
	memcpy(a.md5, md5_a, sizeof(a.md5));
	assert_false(attempt_made(&a, &f)); /* the checksum decides, not the ETag */
	f.has_crc64nvme = false;
	assert_true(attempt_made(&a, &f));
	a.kind = ATTEMPT_MULTIPART;
	assert_false(attempt_made(&a, &f));
	f = found_with(1, "0cc175b9c0f1b6a831c399e269772661-3");
	assert_true(attempt_made(&a, &f));
	f.object.size_bytes = 2;
	assert_false(attempt_made(&a, &f));
	f = found_with(1, md5_a);
	f.says = BUCKET_ABSENT;
	a.kind = ATTEMPT_PUT;
	assert_false(attempt_made(&a, &f));
}

/* Amazon's rule, seen in the field: MD5 of the parts' MD5s, dash, count. Two parts "a" and "b". */
static void test_etag_of_parts(void **state)
{
	uint8_t md5s[2][16];
	char etag[S3_ETAG_MAX];

	(void)state;
	assert_int_equal(hex_decode("0cc175b9c0f1b6a831c399e269772661", 32, md5s[0]), 0);
	assert_int_equal(hex_decode("92eb5ffee6ae2fec3ad71c777531578f", 32, md5s[1]), 0);
	assert_true(etag_of_parts((const uint8_t(*)[16])md5s, 2, etag));
	assert_string_equal(etag, "96e024ba2074fe77e8e965ba43a704be-2");
	assert_false(etag_of_parts((const uint8_t(*)[16])md5s, 0, etag));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plan_table),
		cmocka_unit_test(test_plan_never_overwrites),
		cmocka_unit_test(test_applied),
		cmocka_unit_test(test_same_content),
		cmocka_unit_test(test_attempt_made),
		cmocka_unit_test(test_etag_of_parts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
