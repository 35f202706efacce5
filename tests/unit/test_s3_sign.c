/*
 * SigV4 against values that others published: the AWS Signature Version 4 test suite (the
 * "unnormalized" cases where there is a choice, as S3's paths are never normalised) and the
 * examples of the S3 API reference, "Signature Calculations for the Authorization Header".
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cpgfs/s3.h"
#include "s3_encode.h"
#include "s3_sign.h"

static const char *signature_in(const struct buf *authorization)
{
	const char *mark = strstr(buf_text(authorization), "Signature=");
	return mark ? mark + strlen("Signature=") : "";
}

/* ---- the suite ----------------------------------------------------------------------------------- */

struct suite_case {
	const char *name, *method, *path; /* not encoded */
	struct s3_param params[3];
	const char *extra_headers[4]; /* name, value … */
	const char *signature;
};

static const struct suite_case suite[] = {
	{"get-vanilla", "GET", "/", {{0}}, {0},
		"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"post-vanilla", "POST", "/", {{0}}, {0},
		"5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	{"get-vanilla-query-order-key-case", "GET", "/",
		{{"Param2", "value2"}, {"Param1", "value1"}}, {0},
		"b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
	{"get-vanilla-query-unreserved", "GET", "/",
		{{"-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
			"-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"}},
		{0}, "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
	{"get-vanilla-utf8-query", "GET", "/", {{"ሴ", "bar"}}, {0},
		"2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
	{"get-unreserved", "GET",
		"/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", {{0}}, {0},
		"07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
	{"get-utf8", "GET", "/ሴ", {{0}}, {0},
		"8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
	{"get-space-unnormalized", "GET", "/example space/", {{0}}, {0},
		"652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
	{"get-slashes-unnormalized", "GET", "//example//", {{0}}, {0},
		"87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5"},
	{"get-relative-unnormalized", "GET", "/example/..", {{0}}, {0},
		"eca7ead57bb5aa5c8e28007acd4ff04e1ff9a0ff3b237ec1554a184887ff9282"},
	{"get-header-value-trim", "GET", "/", {{0}},
		{"my-header1", " value1", "my-header2", " \"a   b   c\""},
		"acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
	{"get-vanilla-with-session-token", "GET", "/", {{0}},
		{"x-amz-security-token",
			"6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"},
		"07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"},
	{"post-sts-header-before", "POST", "/", {{0}},
		{"x-amz-security-token",
			"AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHG"
			"BuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1N"
			"tBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHN"
			"VXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9"
			"FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="},
		"85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"},
};

static void sign_suite_case(
	const struct suite_case *c, struct s3_signing_key *key, struct buf *authorization)
{
	struct s3_headers headers;
	cleanup_buf struct buf path = {0};
	cleanup_buf struct buf query = {0};
	size_t params = 0;

	s3_headers_init(&headers);
	s3_headers_add(&headers, "x-amz-date", "20150830T123600Z");
	s3_headers_add(&headers, "host", "example.amazonaws.com");
	for (size_t i = 0; i < array_len(c->extra_headers) && c->extra_headers[i]; i += 2)
		s3_headers_add(&headers, c->extra_headers[i], c->extra_headers[i + 1]);
	s3_encode_path(&path, c->path);
	while (params < array_len(c->params) && c->params[params].name)
		params++;
	s3_encode_query(&query, c->params, params);
	struct s3_sign_input in = {
		.method = c->method,
		.path = buf_text(&path),
		.query = buf_text(&query),
		.headers = &headers,
		.payload = S3_EMPTY_SHA256,
		.date = "20150830T123600Z",
		.region = "us-east-1",
		.service = "service",
	};
	assert_int_equal(s3_sign(authorization, key, "AKIDEXAMPLE",
				 "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", &in),
		0);
	s3_headers_release(&headers);
}

static void suite_signatures(void **state)
{
	struct s3_signing_key key = {""}; /* one for all: the cached key must do */

	for (size_t i = 0; i < array_len(suite); i++) {
		cleanup_buf struct buf authorization = {0};
		sign_suite_case(&suite[i], &key, &authorization);
		if (strcmp(signature_in(&authorization), suite[i].signature) != 0)
			print_error("case %s\n", suite[i].name);
		assert_string_equal(signature_in(&authorization), suite[i].signature);
	}
	assert_string_equal(key.scope, "20150830/us-east-1/service");
}

static void whole_authorization_header(void **state)
{
	struct s3_signing_key key = {""};
	cleanup_buf struct buf authorization = {0};

	sign_suite_case(&suite[0], &key, &authorization);
	assert_string_equal(buf_text(&authorization),
		"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
		"SignedHeaders=host;x-amz-date, "
		"Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

/* ---- S3's own examples ----------------------------------------------------------------------------- */

struct s3_example {
	const char *method, *key;
	struct s3_param params[3];
	const char *extra_headers[4];
	const char *payload, *signature;
};

static const struct s3_example examples[] = {
	{"GET", "test.txt", {{0}}, {"range", "bytes=0-9"}, S3_EMPTY_SHA256,
		"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
	{"PUT", "test$file.text", {{0}},
		{"date", "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class",
			"REDUCED_REDUNDANCY"},
		"44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
		"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
	{"GET", "", {{"lifecycle", NULL}}, {0}, S3_EMPTY_SHA256,
		"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
	{"GET", "", {{"prefix", "J"}, {"max-keys", "2"}}, {0}, S3_EMPTY_SHA256,
		"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
};

static void sign_example(const struct s3_example *e, const char *payload, struct buf *out)
{
	struct s3_signing_key key = {""};
	struct s3_headers headers;
	cleanup_buf struct buf path = {0};
	cleanup_buf struct buf query = {0};
	size_t params = 0;

	s3_headers_init(&headers);
	s3_headers_add(&headers, "host", "examplebucket.s3.amazonaws.com");
	s3_headers_add(&headers, "x-amz-content-sha256", payload);
	s3_headers_add(&headers, "x-amz-date", "20130524T000000Z");
	for (size_t i = 0; i < array_len(e->extra_headers) && e->extra_headers[i]; i += 2)
		s3_headers_add(&headers, e->extra_headers[i], e->extra_headers[i + 1]);
	buf_add_char(&path, '/');
	s3_encode_path(&path, e->key);
	while (params < array_len(e->params) && e->params[params].name)
		params++;
	s3_encode_query(&query, e->params, params);
	struct s3_sign_input in = {
		.method = e->method,
		.path = buf_text(&path),
		.query = buf_text(&query),
		.headers = &headers,
		.payload = payload,
		.date = "20130524T000000Z",
		.region = "us-east-1",
		.service = "s3",
	};
	assert_int_equal(s3_sign(out, &key, "AKIAIOSFODNN7EXAMPLE",
				 "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", &in),
		0);
	s3_headers_release(&headers);
}

static void s3_example_signatures(void **state)
{
	for (size_t i = 0; i < array_len(examples); i++) {
		cleanup_buf struct buf authorization = {0};
		sign_example(&examples[i], examples[i].payload, &authorization);
		assert_string_equal(signature_in(&authorization), examples[i].signature);
	}
}

static void payload_is_part_of_signature(void **state)
{
	cleanup_buf struct buf authorization = {0};

	sign_example(&examples[1], S3_UNSIGNED_PAYLOAD, &authorization);
	assert_int_equal(strlen(signature_in(&authorization)), 64);
	assert_string_not_equal(signature_in(&authorization), examples[1].signature);
}

static void canonical_request_text(void **state)
{
	struct s3_headers headers;
	cleanup_buf struct buf out = {0};

	s3_headers_init(&headers);
	s3_headers_add(&headers, "x-amz-date", "20130524T000000Z");
	s3_headers_add(&headers, "host", "h");
	struct s3_sign_input in = {.method = "PUT", .path = "/b/a%20b//c", .query = "",
		.headers = &headers, .payload = S3_UNSIGNED_PAYLOAD};
	s3_canonical_request(&out, &in);
	assert_string_equal(buf_text(&out),
		"PUT\n/b/a%20b//c\n\nhost:h\nx-amz-date:20130524T000000Z\n\nhost;x-amz-date\n"
		"UNSIGNED-PAYLOAD");
	s3_headers_release(&headers);
}

static void key_changes_with_day_and_region(void **state)
{
	struct s3_signing_key key = {""};
	struct s3_headers headers;
	cleanup_buf struct buf out = {0};
	uint8_t first[32];

	s3_headers_init(&headers);
	struct s3_sign_input in = {.method = "GET", .path = "/", .query = "", .headers = &headers,
		.payload = "", .date = "20130524T000000Z", .region = "us-east-1", .service = "s3"};
	assert_int_equal(s3_sign(&out, &key, "A", "B", &in), 0);
	memcpy(first, key.key, sizeof(first));
	in.date = "20130524T235959Z";
	assert_int_equal(s3_sign(&out, &key, "A", "B", &in), 0);
	assert_memory_equal(first, key.key, sizeof(first));
	in.date = "20130525T000000Z";
	assert_int_equal(s3_sign(&out, &key, "A", "B", &in), 0);
	assert_memory_not_equal(first, key.key, sizeof(first));
	memcpy(first, key.key, sizeof(first));
	in.region = "eu-west-1";
	assert_int_equal(s3_sign(&out, &key, "A", "B", &in), 0);
	assert_memory_not_equal(first, key.key, sizeof(first));
	assert_string_equal(key.scope, "20130525/eu-west-1/s3");
	s3_headers_release(&headers);
}

static void headers_refuse_control_characters(void **state)
{
	const char *bad[] = {"a\r\nx: y", "a\nb", "a\tb", "\x7f"};

	for (size_t i = 0; i < array_len(bad); i++) {
		struct s3_headers headers;
		s3_headers_init(&headers);
		s3_headers_add(&headers, "content-type", bad[i]);
		assert_int_equal(headers.values.error, -EINVAL);
		s3_headers_release(&headers);
	}
}

static void dates(void **state)
{
	char out[17];

	s3_sign_date(INT64_C(1369353600) * NS_PER_S, out);
	assert_string_equal(out, "20130524T000000Z");
	s3_sign_date(INT64_C(1709210096) * NS_PER_S + 999999999, out);
	assert_string_equal(out, "20240229T123456Z");
}

/* ---- encoding ---------------------------------------------------------------------------------------- */

static void keys_are_encoded_once(void **state)
{
	static const char *const vectors[][2] = {
		{"a b+c", "a%20b%2Bc"},
		{"100%", "100%25"},
		{"%41", "%2541"},
		{"~-._", "~-._"},
		{"é", "%C3%A9"},
		{"a//b/./c/../d/", "a//b/./c/../d/"},
		{"q?&=#$@,;:!'()*[]", "q%3F%26%3D%23%24%40%2C%3B%3A%21%27%28%29%2A%5B%5D"},
		{"\x01\xff", "%01%FF"},
	};

	for (size_t i = 0; i < array_len(vectors); i++) {
		cleanup_buf struct buf out = {0};
		s3_encode_path(&out, vectors[i][0]);
		assert_string_equal(buf_text(&out), vectors[i][1]);
	}
	cleanup_buf struct buf out = {0};
	s3_encode_param(&out, "a/b");
	assert_string_equal(buf_text(&out), "a%2Fb");
}

static void listed_keys_decode(void **state)
{
	size_t len;
	char plus[] = "a+b%2Bc%20d%2525";
	char utf8[] = "%C3%A9/x";
	char nul[] = "a%00b";
	char cut[] = "a%2";
	char bad[] = "a%zz";

	assert_int_equal(s3_decode_listed(plus, &len), 0);
	assert_string_equal(plus, "a b+c d%25");
	assert_int_equal(s3_decode_listed(utf8, &len), 0);
	assert_string_equal(utf8, "é/x");
	assert_int_equal(s3_decode_listed(nul, &len), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(nul, "a\0b", 4);
	assert_int_equal(s3_decode_listed(cut, &len), -EBADMSG);
	assert_int_equal(s3_decode_listed(bad, &len), -EBADMSG);
}

static void query_sorts_by_name(void **state)
{
	cleanup_buf struct buf out = {0};
	const struct s3_param params[] = {{"b", "2"}, {"a-b", "1"}, {"a", "x/y z"}, {"acl", NULL}};

	s3_encode_query(&out, params, array_len(params));
	assert_string_equal(buf_text(&out), "a=x%2Fy%20z&a-b=1&acl=&b=2");
}

/* ---- other services: signatures as botocore makes them -------------------------------------------- */

#define NOON INT64_C(1772366400) /* 2026-03-01T12:00:00Z */

static void sts_request(void **state)
{
	cleanup_buf struct buf lines = {0};
	const char *body = "Action=AssumeRole&Version=2011-06-15";
	struct s3_credentials keys = {.access_key = "AKIDEXAMPLE",
		.secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
		.session_token = "tok/en+1=="};
	struct s3_other_request req = {.service = "sts",
		.region = "us-east-1",
		.method = "POST",
		.host = "sts.us-east-1.amazonaws.com",
		.path = "/",
		.body = body,
		.body_len = strlen(body),
		.content_type = "application/x-www-form-urlencoded; charset=utf-8",
		.wall_ns = NOON * NS_PER_S};

	assert_int_equal(s3_sign_other(&lines, &keys, &req), 0);
	assert_string_equal(buf_text(&lines),
		"content-type: application/x-www-form-urlencoded; charset=utf-8\n"
		"x-amz-content-sha256: "
		"8c5a2f96788492c37e55f1e4f0fea8f59ed4791621dd61b248f8788f7b05d9e4\n"
		"x-amz-date: 20260301T120000Z\n"
		"x-amz-security-token: tok/en+1==\n"
		"authorization: AWS4-HMAC-SHA256 "
		"Credential=AKIDEXAMPLE/20260301/us-east-1/sts/aws4_request, "
		"SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;"
		"x-amz-security-token, "
		"Signature=1f4d5b19db411d352777749970bf48840305c4807b6f8c4874f23c35d3bb8cc2\n");
}

static void access_grants_request(void **state)
{
	cleanup_buf struct buf lines = {0};
	struct s3_credentials keys = {.access_key = "AKIDEXAMPLE",
		.secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"};
	struct s3_other_request req = {.service = "s3",
		.region = "us-east-1",
		.method = "GET",
		.host = "309624411020.s3-control.us-east-1.amazonaws.com",
		.path = "/v20180820/accessgrantsinstance/dataaccess",
		.query = "durationSeconds=43200&permission=READWRITE&privilege=Default&target="
			 "s3%3A%2F%2Fstaging-cellpainting-gallery%2Fcpg0037-oasis%2Fbroad%2F%2A",
		.account_id = "309624411020",
		.wall_ns = NOON * NS_PER_S};

	assert_int_equal(s3_sign_other(&lines, &keys, &req), 0);
	assert_non_null(strstr(buf_text(&lines), "x-amz-account-id: 309624411020\n"));
	assert_null(strstr(buf_text(&lines), "security-token"));
	assert_true(text_ends(buf_text(&lines),
		"SignedHeaders=host;x-amz-account-id;x-amz-content-sha256;x-amz-date, "
		"Signature=d99a1fc3cafde17764ecdf2d8475f50e70c22a0d88008f610400cf79b90a7d19\n"));
}

static void other_requests_refuse_control_characters(void **state)
{
	cleanup_buf struct buf lines = {0};
	struct s3_credentials keys = {
		.access_key = "A", .secret_key = "S", .session_token = "a\r\nx-evil: 1"};
	struct s3_other_request req = {.service = "sts",
		.region = "us-east-1", .method = "GET", .host = "h", .path = "/"};

	assert_int_equal(s3_sign_other(&lines, &keys, &req), -EINVAL);
	assert_int_equal(lines.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(suite_signatures),
		cmocka_unit_test(whole_authorization_header),
		cmocka_unit_test(s3_example_signatures),
		cmocka_unit_test(payload_is_part_of_signature),
		cmocka_unit_test(canonical_request_text),
		cmocka_unit_test(key_changes_with_day_and_region),
		cmocka_unit_test(headers_refuse_control_characters),
		cmocka_unit_test(dates),
		cmocka_unit_test(keys_are_encoded_once),
		cmocka_unit_test(listed_keys_decode),
		cmocka_unit_test(query_sorts_by_name),
		cmocka_unit_test(sts_request),
		cmocka_unit_test(access_grants_request),
		cmocka_unit_test(other_requests_refuse_control_characters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
