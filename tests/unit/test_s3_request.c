/*
 * Requests as they go over the wire: endpoints, paths, queries, headers, the body of Complete.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "s3_request.h"

static struct s3_endpoint endpoint_of(const char *url, const char *region, const char *bucket)
{
	struct s3_endpoint e;
	struct s3_config config = {.endpoint = url, .region = region, .bucket = bucket};
	assert_int_equal(s3_endpoint_init(&e, &config), 0);
	return e;
}

/* ---- endpoints ----------------------------------------------------------------------------------- */

static void aws_is_virtual_hosted(void **state)
{
	struct s3_endpoint e = endpoint_of(NULL, NULL, "staging-cellpainting-gallery");

	assert_string_equal(
		e.root, "https://staging-cellpainting-gallery.s3.us-east-1.amazonaws.com");
	assert_string_equal(e.host, "staging-cellpainting-gallery.s3.us-east-1.amazonaws.com");
	assert_false(e.path_style);
	assert_true(e.is_aws);
	assert_true(e.is_private);
	e = endpoint_of(NULL, "cn-north-1", "bucket");
	assert_string_equal(e.host, "bucket.s3.cn-north-1.amazonaws.com.cn");
}

static void dotted_bucket_is_path_style(void **state)
{
	struct s3_endpoint e = endpoint_of(NULL, "eu-west-1", "my.bucket");

	assert_string_equal(e.root, "https://s3.eu-west-1.amazonaws.com");
	assert_true(e.path_style);
	assert_true(e.is_aws);
}

static void given_endpoints(void **state)
{
	struct s3_endpoint e = endpoint_of("http://127.0.0.1:9000", NULL, "b");

	assert_string_equal(e.root, "http://127.0.0.1:9000");
	assert_string_equal(e.host, "127.0.0.1:9000");
	assert_true(e.path_style);
	assert_false(e.is_aws);
	assert_true(e.is_private);
	e = endpoint_of("http://s3.lab.example/", NULL, "b");
	assert_string_equal(e.host, "s3.lab.example");
	assert_false(e.is_private);
	e = endpoint_of("https://s3.lab.example:443", NULL, "b");
	assert_string_equal(e.host, "s3.lab.example");
	assert_true(e.is_private);
	e = endpoint_of("http://[::1]:80", NULL, "b");
	assert_string_equal(e.host, "[::1]");
	assert_true(e.is_private);
	e = endpoint_of("https://s3.us-east-1.amazonaws.com", NULL, "b");
	assert_true(e.is_aws);
}

static void bad_endpoints(void **state)
{
	static const char *const urls[] = {"", "127.0.0.1:9000/x y", "ftp://h", "http://h/path",
		"http://u:p@h", "http://h/?q", "http://"};
	static const char *const buckets[] = {"", "a/b", "a b", "..", "b\nHost: x", "a?b"};
	struct s3_endpoint e;

	for (size_t i = 0; i < array_len(urls); i++) {
		struct s3_config config = {.endpoint = urls[i], .bucket = "b"};
		assert_int_equal(s3_endpoint_init(&e, &config), -EINVAL);
	}
	for (size_t i = 0; i < array_len(buckets); i++) {
		struct s3_config config = {.bucket = buckets[i]};
		assert_int_equal(s3_endpoint_init(&e, &config), -EINVAL);
	}
	struct s3_config config = {.bucket = "b", .region = "evil.example/"};
	assert_int_equal(s3_endpoint_init(&e, &config), -EINVAL);
}

/* ---- requests ------------------------------------------------------------------------------------- */

static struct s3_wire wire_of(struct s3_request req)
{
	struct s3_endpoint e = endpoint_of("http://127.0.0.1:9000", NULL, "bucket");
	struct s3_wire w;
	assert_int_equal(s3_wire_init(&w, &e, &req), 0);
	return w;
}

static void assert_header(const struct s3_wire *w, const char *name, const char *value)
{
	const char *found = s3_headers_find(&w->headers, name);
	if (!value) {
		assert_null(found);
		return;
	}
	assert_non_null(found);
	assert_string_equal(found, value);
}

static void assert_line(
	const struct s3_wire *w, const char *method, const char *path, const char *query)
{
	assert_string_equal(w->method, method);
	assert_string_equal(buf_text(&w->path), path);
	assert_string_equal(buf_text(&w->query), query);
}

static void put_object(void **state)
{
	struct s3_wire w = wire_of((struct s3_request){.op = S3_PUT,
		.key = "cpg/a b//é%.tif",
		.body = {.fd = 0, .len_bytes = 9, .has_crc64nvme = true,
			.crc64nvme = UINT64_C(0xae8b14860a799888)},
		.acl = "bucket-owner-full-control",
		.content_type = "image/tiff",
		.has_mtime = true,
		.mtime_ns = INT64_C(1772366400250000000),
		.if_none_match_any = true});

	assert_line(&w, "PUT", "/bucket/cpg/a%20b//%C3%A9%25.tif", "");
	assert_header(&w, "host", "127.0.0.1:9000");
	assert_header(&w, "x-amz-acl", "bucket-owner-full-control");
	assert_header(&w, "content-type", "image/tiff");
	assert_header(&w, "x-amz-meta-mtime", "1772366400.25");
	assert_header(&w, "x-amz-checksum-crc64nvme", "rosUhgp5mIg=");
	assert_header(&w, "if-none-match", "*");
	assert_header(&w, "if-match", NULL);
	assert_string_equal(w.payload, ""); /* not known: to be judged when it is sent */
	assert_true(w.asked.sent_crc);
	s3_wire_release(&w);
}

static void put_payload_hash(void **state)
{
	struct s3_request req = {.op = S3_PUT, .key = "k",
		.body = {.fd = 0, .len_bytes = 3, .has_sha256 = true}};
	memset(req.body.sha256, 0xab, sizeof(req.body.sha256));
	struct s3_wire w = wire_of(req);
	assert_string_equal(w.payload,
		"abababababababababababababababababababababababababababababababab");
	s3_wire_release(&w);
	req.body = (struct s3_body){.fd = -1};
	w = wire_of(req);
	assert_string_equal(w.payload, S3_EMPTY_SHA256);
	s3_wire_release(&w);
}

static void no_acl_when_none(void **state)
{
	struct s3_wire w = wire_of((struct s3_request){.op = S3_CREATE_MULTIPART, .key = "k"});

	assert_header(&w, "x-amz-acl", NULL);
	s3_wire_release(&w);
}

static void mtimes(void **state)
{
	static const struct {
		int64_t ns;
		const char *text;
	} vectors[] = {
		{0, "0"},
		{1, "0.000000001"},
		{INT64_C(1500000000000000000), "1500000000"},
		{INT64_C(1500000000123456789), "1500000000.123456789"},
		{INT64_C(-1500000000), "-1.5"},
		{INT64_C(-500000000), "-0.5"},
	};

	for (size_t i = 0; i < array_len(vectors); i++) {
		struct s3_wire w = wire_of((struct s3_request){.op = S3_PUT, .key = "k",
			.has_mtime = true, .mtime_ns = vectors[i].ns});
		assert_header(&w, "x-amz-meta-mtime", vectors[i].text);
		s3_wire_release(&w);
	}
}

static void get_range(void **state)
{
	struct s3_wire w = wire_of((struct s3_request){.op = S3_GET, .key = "k", .has_range = true,
		.range_start = 10, .range_len = 5, .if_match = "abc"});

	assert_line(&w, "GET", "/bucket/k", "");
	assert_header(&w, "range", "bytes=10-14");
	assert_header(&w, "if-match", "\"abc\"");
	assert_header(&w, "x-amz-checksum-mode", "ENABLED");
	assert_string_equal(w.payload, S3_EMPTY_SHA256);
	s3_wire_release(&w);
}

static void listing(void **state)
{
	struct s3_wire w = wire_of((struct s3_request){.op = S3_LIST, .prefix = "a/b c/",
		.delimiter = "/", .start_after = "a/b c/x+", .token = "t/1="});

	assert_line(&w, "GET", "/bucket",
		"continuation-token=t%2F1%3D&delimiter=%2F&encoding-type=url&list-type=2&"
		"max-keys=1000&prefix=a%2Fb%20c%2F&start-after=a%2Fb%20c%2Fx%2B");
	assert_string_equal(w.asked.prefix, "a/b c/");
	assert_string_equal(w.asked.token, "t/1=");
	s3_wire_release(&w);
	w = wire_of((struct s3_request){.op = S3_LIST, .max_keys = 1});
	assert_line(&w, "GET", "/bucket", "encoding-type=url&list-type=2&max-keys=1&prefix=");
	s3_wire_release(&w);
}

static void multipart_create_and_parts(void **state)
{
	struct s3_wire w = wire_of((struct s3_request){.op = S3_CREATE_MULTIPART, .key = "k",
		.acl = "bucket-owner-full-control"});
	assert_line(&w, "POST", "/bucket/k", "uploads=");
	assert_header(&w, "x-amz-checksum-algorithm", "CRC64NVME");
	assert_header(&w, "x-amz-checksum-type", "FULL_OBJECT");
	assert_header(&w, "x-amz-acl", "bucket-owner-full-control");
	s3_wire_release(&w);
	w = wire_of((struct s3_request){.op = S3_UPLOAD_PART, .key = "k", .upload_id = "u/1",
		.part_number = 7, .acl = "private",
		.body = {.fd = 0, .len_bytes = 1, .has_crc64nvme = true, .crc64nvme = 1}});
	assert_line(&w, "PUT", "/bucket/k", "partNumber=7&uploadId=u%2F1");
	assert_header(&w, "x-amz-checksum-crc64nvme", "AAAAAAAAAAE=");
	assert_header(&w, "x-amz-acl", NULL); /* a part has none */
	s3_wire_release(&w);
	w = wire_of((struct s3_request){
		.op = S3_LIST_PARTS, .key = "k", .upload_id = "u", .part_number = 1000});
	assert_line(&w, "GET", "/bucket/k", "part-number-marker=1000&uploadId=u");
	s3_wire_release(&w);
	w = wire_of((struct s3_request){.op = S3_ABORT_MULTIPART, .key = "k", .upload_id = "u"});
	assert_line(&w, "DELETE", "/bucket/k", "uploadId=u");
	s3_wire_release(&w);
}

static void multipart_complete(void **state)
{
	const struct s3_part parts[] = {
		{.number = 1, .etag = "e1<&>", .has_crc64nvme = true, .crc64nvme = 2},
		{.number = 2, .etag = "e2"},
	};
	struct s3_wire w = wire_of((struct s3_request){.op = S3_COMPLETE_MULTIPART, .key = "k",
		.upload_id = "u", .parts = parts, .part_count = 2, .has_full_crc = true,
		.full_crc = 1, .total_bytes = 123, .if_match = "old"});

	assert_line(&w, "POST", "/bucket/k", "uploadId=u");
	assert_header(&w, "x-amz-checksum-crc64nvme", "AAAAAAAAAAE=");
	assert_header(&w, "x-amz-checksum-type", "FULL_OBJECT");
	assert_header(&w, "x-amz-mp-object-size", "123");
	assert_header(&w, "if-match", "old");
	assert_string_equal(buf_text(&w.xml),
		"<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
		"<Part><PartNumber>1</PartNumber><ETag>&quot;e1&lt;&amp;&gt;&quot;</ETag>"
		"<ChecksumCRC64NVME>AAAAAAAAAAI=</ChecksumCRC64NVME></Part>"
		"<Part><PartNumber>2</PartNumber><ETag>&quot;e2&quot;</ETag></Part>"
		"</CompleteMultipartUpload>");
	uint8_t digest[32];
	char hex[65];
	sha256_of(w.xml.data, w.xml.len, digest);
	hex_encode(digest, sizeof(digest), hex);
	assert_string_equal(w.payload, hex);
	s3_wire_release(&w);
}

static void copies(void **state)
{
	struct s3_wire w = wire_of((struct s3_request){.op = S3_COPY, .key = "to",
		.copy_source_key = "fr om/é", .copy_source_if_match = "e",
		.acl = "bucket-owner-full-control", .has_mtime = true, .if_none_match_any = true});

	assert_line(&w, "PUT", "/bucket/to", "");
	assert_header(&w, "x-amz-copy-source", "/bucket/fr%20om/%C3%A9");
	assert_header(&w, "x-amz-copy-source-if-match", "\"e\"");
	assert_header(&w, "x-amz-metadata-directive", "REPLACE");
	assert_header(&w, "if-none-match", "*");
	assert_header(&w, "x-amz-acl", "bucket-owner-full-control");
	s3_wire_release(&w);
	w = wire_of((struct s3_request){.op = S3_UPLOAD_PART_COPY, .key = "to",
		.copy_source_key = "from", .upload_id = "u", .part_number = 1, .has_range = true,
		.range_start = 0, .range_len = 100});
	assert_header(&w, "x-amz-copy-source-range", "bytes=0-99");
	assert_header(&w, "range", NULL);
	s3_wire_release(&w);
}

static void other_operations(void **state)
{
	struct s3_wire w = wire_of((struct s3_request){.op = S3_HEAD_BUCKET});
	assert_line(&w, "HEAD", "/bucket", "");
	s3_wire_release(&w);
	w = wire_of((struct s3_request){.op = S3_HEAD, .key = "k"});
	assert_line(&w, "HEAD", "/bucket/k", "");
	assert_header(&w, "x-amz-checksum-mode", "ENABLED");
	s3_wire_release(&w);
	w = wire_of((struct s3_request){.op = S3_DELETE, .key = "k", .if_match = "e"});
	assert_line(&w, "DELETE", "/bucket/k", "");
	assert_header(&w, "if-match", "e");
	s3_wire_release(&w);
	w = wire_of((struct s3_request){.op = S3_GET_ACL, .key = "k"});
	assert_line(&w, "GET", "/bucket/k", "acl=");
	s3_wire_release(&w);
}

static void virtual_hosted_paths(void **state)
{
	struct s3_endpoint e = endpoint_of(NULL, NULL, "bucket");
	struct s3_request list = {.op = S3_LIST}, get = {.op = S3_GET, .key = "/a"};
	struct s3_wire w;

	assert_int_equal(s3_wire_init(&w, &e, &list), 0);
	assert_string_equal(buf_text(&w.path), "/");
	s3_wire_release(&w);
	assert_int_equal(s3_wire_init(&w, &e, &get), 0);
	assert_string_equal(buf_text(&w.path), "//a");
	s3_wire_release(&w);
}

static void bad_requests(void **state)
{
	struct s3_endpoint e = endpoint_of(NULL, NULL, "bucket");
	char long_key[1026];
	memset(long_key, 'k', sizeof(long_key) - 1);
	long_key[sizeof(long_key) - 1] = '\0';
	const struct s3_part part = {.number = 1, .etag = "e"};
	const struct s3_request bad[] = {
		{.op = S3_PUT},
		{.op = S3_PUT, .key = ""},
		{.op = S3_PUT, .key = long_key},
		{.op = S3_PUT, .key = "k", .body = {.fd = -1, .len_bytes = 1}},
		{.op = S3_PUT, .key = "k", .if_none_match_any = true, .if_match = "e"},
		{.op = S3_PUT, .key = "k", .if_match = "a\"b"},
		{.op = S3_PUT, .key = "k", .if_match = ""},
		{.op = S3_PUT, .key = "k", .acl = "a\r\nx-amz-evil: 1"},
		{.op = S3_COPY, .key = "k"},
		{.op = S3_GET, .key = "k", .has_range = true},
		{.op = S3_GET, .key = "k", .has_range = true, .range_start = UINT64_MAX,
			.range_len = 2},
		{.op = S3_UPLOAD_PART, .key = "k", .part_number = 1},
		{.op = S3_UPLOAD_PART, .key = "k", .upload_id = "u"},
		{.op = S3_UPLOAD_PART, .key = "k", .upload_id = "u", .part_number = 10001},
		{.op = S3_COMPLETE_MULTIPART, .key = "k", .upload_id = "u"},
		{.op = S3_COMPLETE_MULTIPART, .key = "k", .parts = &part, .part_count = 1},
		{.op = (enum s3_op)99, .key = "k"},
	};

	for (size_t i = 0; i < array_len(bad); i++) {
		struct s3_wire w;
		if (s3_wire_init(&w, &e, &bad[i]) != -EINVAL)
			print_error("request %zu was taken\n", i);
		assert_int_equal(s3_wire_init(&w, &e, &bad[i]), -EINVAL);
	}
}

static void what_changes_the_bucket(void **state)
{
	const enum s3_op changes[] = {
		S3_PUT, S3_DELETE, S3_COPY, S3_CREATE_MULTIPART, S3_COMPLETE_MULTIPART};
	unsigned count = 0;

	for (int op = S3_HEAD_BUCKET; op <= S3_GET_ACL; op++)
		count += s3_op_changes_bucket((enum s3_op)op);
	assert_int_equal(count, array_len(changes));
	for (size_t i = 0; i < array_len(changes); i++)
		assert_true(s3_op_changes_bucket(changes[i]));
}

static void etags(void **state)
{
	struct s3_part parts[] = {{.number = 1, .etag = "0cc175b9c0f1b6a831c399e269772661"},
		{.number = 2, .etag = "92eb5ffee6ae2fec3ad71c777531578f"}};
	char out[S3_ETAG_MAX];

	assert_true(s3_etag_is_md5("0cc175b9c0f1b6a831c399e269772661"));
	assert_false(s3_etag_is_md5("0cc175b9c0f1b6a831c399e269772661-2"));
	assert_false(s3_etag_is_md5("0cc175b9c0f1b6a831c399e26977266"));
	assert_false(s3_etag_is_md5(""));
	/* md5(md5("a") md5("b")), by md5sum */
	assert_true(s3_etag_of_parts(parts, 2, out));
	assert_string_equal(out, "96e024ba2074fe77e8e965ba43a704be-2");
	parts[1].etag[0] = 'x';
	assert_false(s3_etag_of_parts(parts, 2, out));
	assert_false(s3_etag_of_parts(parts, 0, out));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(aws_is_virtual_hosted),
		cmocka_unit_test(dotted_bucket_is_path_style),
		cmocka_unit_test(given_endpoints),
		cmocka_unit_test(bad_endpoints),
		cmocka_unit_test(put_object),
		cmocka_unit_test(put_payload_hash),
		cmocka_unit_test(no_acl_when_none),
		cmocka_unit_test(mtimes),
		cmocka_unit_test(get_range),
		cmocka_unit_test(listing),
		cmocka_unit_test(multipart_create_and_parts),
		cmocka_unit_test(multipart_complete),
		cmocka_unit_test(copies),
		cmocka_unit_test(other_operations),
		cmocka_unit_test(virtual_hosted_paths),
		cmocka_unit_test(bad_requests),
		cmocka_unit_test(what_changes_the_bucket),
		cmocka_unit_test(etags),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
