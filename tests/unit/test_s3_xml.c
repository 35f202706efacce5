/*
 * XML replies: listings, results, errors; and what must not pass as whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "s3_xml.h"

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
#define NS " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static struct s3_xml parsed(const char *text)
{
	struct s3_xml x;
	assert_int_equal(s3_xml_parse(&x, text, strlen(text)), 0);
	return x;
}

static void assert_not_whole(const char *text)
{
	struct s3_xml x = parsed(text);
	assert_false(x.whole);
	s3_xml_release(&x);
}

/* ---- listings -------------------------------------------------------------------------------------- */

static const char listing[] = HEAD "<ListBucketResult" NS "><Name>b</Name><Prefix>cpg+x/</Prefix>"
	"<NextContinuationToken>to+ken%2F==</NextContinuationToken><KeyCount>4</KeyCount>"
	"<MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter><IsTruncated>true</IsTruncated>"
	"<Contents><Key>cpg+x/b%2Bc.tif</Key><LastModified>2026-03-01T12:00:00.000Z</LastModified>"
	"<ETag>&quot;0cc175b9c0f1b6a831c399e269772661&quot;</ETag><Size>2500000</Size>"
	"<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><Owner><ID>x</ID></Owner>"
	"<StorageClass>STANDARD</StorageClass></Contents>"
	"<Contents><Key>cpg+x/z</Key><LastModified>2026-03-01T12:00:01Z</LastModified>"
	"<ETag>\"0cc175b9c0f1b6a831c399e269772661-3\"</ETag><Size>18446744073709551615</Size>"
	"</Contents>"
	"<CommonPrefixes><Prefix>cpg+x/a/</Prefix></CommonPrefixes>"
	"<CommonPrefixes><Prefix>cpg+x/c/</Prefix></CommonPrefixes>"
	"<EncodingType>url</EncodingType></ListBucketResult>";

static void list_page(void **state)
{
	struct s3_xml x = parsed(listing);
	const char *const keys[] = {"cpg x/a/", "cpg x/b+c.tif", "cpg x/c/", "cpg x/z"};

	assert_int_equal(x.root, S3_XML_LIST);
	assert_true(x.whole);
	assert_true(x.list.truncated);
	assert_string_equal(x.list.next_token, "to+ken%2F=="); /* a token is never decoded */
	assert_int_equal(x.list.count, 4);
	assert_int_equal(x.list.left_out, 0);
	for (size_t i = 0; i < 4; i++) {
		assert_string_equal(x.list.entries[i].key, keys[i]);
		assert_int_equal(x.list.entries[i].key_len, strlen(keys[i]));
		assert_int_equal(x.list.entries[i].is_prefix, i == 0 || i == 2);
	}
	const struct s3_object *o = &x.list.entries[1].object;
	assert_int_equal(o->size_bytes, 2500000);
	assert_int_equal(o->last_modified_ns, INT64_C(1772366400) * NS_PER_S);
	assert_string_equal(o->etag, "0cc175b9c0f1b6a831c399e269772661");
	assert_true(x.list.entries[3].object.size_bytes == UINT64_MAX);
	assert_string_equal(x.list.entries[3].object.etag, "0cc175b9c0f1b6a831c399e269772661-3");
	s3_xml_release(&x);
}

static void list_without_encoding_is_literal(void **state)
{
	struct s3_xml x = parsed("<ListBucketResult><IsTruncated>false</IsTruncated>"
				 "<Contents><Key>a+b%20&amp;&lt;&#x41;é</Key><Size>1</Size></Contents>"
				 "</ListBucketResult>");

	assert_true(x.whole);
	assert_int_equal(x.list.count, 1);
	assert_string_equal(x.list.entries[0].key, "a+b%20&<Aé");
	s3_xml_release(&x);
}

static void list_leaves_out_nul_keys(void **state)
{
	struct s3_xml x = parsed("<ListBucketResult><EncodingType>url</EncodingType>"
				 "<Contents><Key>a%00b</Key><Size>1</Size></Contents>"
				 "<Contents><Key>c%01</Key><Size>2</Size></Contents>"
				 "</ListBucketResult>");

	assert_true(x.whole);
	assert_int_equal(x.list.count, 1);
	assert_int_equal(x.list.left_out, 1);
	assert_string_equal(x.list.entries[0].key, "c\x01");
	assert_int_equal(x.list.entries[0].object.size_bytes, 2);
	s3_xml_release(&x);
}

static void empty_listing(void **state)
{
	struct s3_xml x = parsed("<ListBucketResult" NS "><KeyCount>0</KeyCount>"
				 "<IsTruncated>false</IsTruncated></ListBucketResult>");

	assert_true(x.whole);
	assert_int_equal(x.list.count, 0);
	assert_false(x.list.truncated);
	s3_xml_release(&x);
}

static void full_page_of_a_thousand(void **state)
{
	cleanup_buf struct buf text = {0};

	buf_add_text(&text, "<ListBucketResult><EncodingType>url</EncodingType>");
	for (int i = 999; i >= 0; i--)
		buf_printf(&text, "<Contents><Key>p/%04d</Key><Size>%d</Size></Contents>", i, i);
	buf_add_text(&text, "</ListBucketResult>");
	struct s3_xml x = parsed(buf_text(&text));
	assert_true(x.whole);
	assert_int_equal(x.list.count, 1000);
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(x.list.entries[i].object.size_bytes, i);
	s3_xml_release(&x);
}

static void bad_listings(void **state)
{
	static const char *const bad[] = {
		"<ListBucketResult><Contents><Key>a</Key><Size>x</Size></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents>"
		"</ListBucketResult>",
		"<ListBucketResult><Contents><Key></Key></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents>"
		"<Contents><Key>b</Key></Contents></ListBucketResult>",
		"<ListBucketResult><IsTruncated>perhaps</IsTruncated></ListBucketResult>",
		"<ListBucketResult><EncodingType>rot13</EncodingType></ListBucketResult>",
		"<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%4</Key>"
		"</Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key><LastModified>yesterday</LastModified>"
		"</Contents></ListBucketResult>",
	};

	for (size_t i = 0; i < array_len(bad); i++)
		assert_not_whole(bad[i]);
}

/* Cut at every byte: never whole, never a crash. */
static void cut_anywhere(void **state)
{
	for (size_t len = 0; len < strlen(listing); len++) {
		struct s3_xml x;
		cleanup_free char *copy = malloc(len + 1); /* so that a sanitizer sees overreads */
		memcpy(copy, listing, len);
		copy[len] = '\0';
		assert_int_equal(s3_xml_parse(&x, copy, len), 0);
		assert_false(x.whole);
		s3_xml_release(&x);
	}
}

/* ---- results and errors ------------------------------------------------------------------------------ */

static void results(void **state)
{
	struct s3_xml x = parsed("<InitiateMultipartUploadResult" NS "><Bucket>b</Bucket>"
				 "<UploadId>2~id</UploadId></InitiateMultipartUploadResult>");
	assert_int_equal(x.root, S3_XML_CREATE);
	assert_string_equal(x.upload_id, "2~id");
	assert_true(x.whole);
	s3_xml_release(&x);

	x = parsed(" \r\n\t\n" HEAD "<CompleteMultipartUploadResult" NS "><ETag>&quot;e-2&quot;</ETag>"
		   "<ChecksumCRC64NVME>rosUhgp5mIg=</ChecksumCRC64NVME>"
		   "<ChecksumType>FULL_OBJECT</ChecksumType></CompleteMultipartUploadResult>");
	assert_int_equal(x.root, S3_XML_COMPLETE);
	assert_true(x.whole);
	assert_string_equal(x.etag, "e-2");
	assert_true(x.has_crc64nvme);
	assert_true(x.crc64nvme == UINT64_C(0xae8b14860a799888));
	s3_xml_release(&x);

	x = parsed("<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>");
	assert_int_equal(x.root, S3_XML_COPY);
	assert_string_equal(x.etag, "e");
	s3_xml_release(&x);
	x = parsed("<CopyPartResult><ETag>e</ETag></CopyPartResult>");
	assert_int_equal(x.root, S3_XML_COPY_PART);
	assert_string_equal(x.etag, "e");
	s3_xml_release(&x);
}

static void parts(void **state)
{
	struct s3_xml x = parsed(
		"<ListPartsResult><IsTruncated>true</IsTruncated>"
		"<NextPartNumberMarker>2</NextPartNumberMarker>"
		"<Part><PartNumber>2</PartNumber><ETag>\"b\"</ETag><Size>6</Size></Part>"
		"<Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag><Size>5</Size>"
		"<ChecksumCRC64NVME>AAAAAAAAAAE=</ChecksumCRC64NVME></Part></ListPartsResult>");

	assert_true(x.whole);
	assert_int_equal(x.part_count, 2);
	assert_int_equal(x.parts[0].number, 1);
	assert_string_equal(x.parts[0].etag, "a");
	assert_int_equal(x.parts[0].size_bytes, 5);
	assert_true(x.parts[0].has_crc64nvme);
	assert_int_equal(x.parts[0].crc64nvme, 1);
	assert_int_equal(x.parts[1].number, 2);
	assert_false(x.parts[1].has_crc64nvme);
	assert_true(x.parts_truncated);
	assert_int_equal(x.next_part_marker, 2);
	s3_xml_release(&x);
	assert_not_whole("<ListPartsResult><Part><PartNumber>0</PartNumber><ETag>e</ETag></Part>"
			 "</ListPartsResult>");
	assert_not_whole("<ListPartsResult><Part><PartNumber>10001</PartNumber><ETag>e</ETag>"
			 "</Part></ListPartsResult>");
	assert_not_whole("<ListPartsResult><Part><PartNumber>1</PartNumber></Part>"
			 "</ListPartsResult>");
	assert_not_whole("<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>");
}

static void errors(void **state)
{
	struct s3_xml x = parsed(HEAD "<Error><Code>PermanentRedirect</Code><Message>The bucket you "
				      "are attempting to access</Message><Endpoint>b.s3.eu</Endpoint>"
				      "<Region>eu-west-1</Region><RequestId>R1</RequestId></Error>");

	assert_int_equal(x.root, S3_XML_ERROR);
	assert_true(x.whole);
	assert_string_equal(x.code, "PermanentRedirect");
	assert_string_equal(x.message, "The bucket you are attempting to access");
	assert_string_equal(x.endpoint, "b.s3.eu");
	assert_string_equal(x.region, "eu-west-1");
	assert_string_equal(x.request_id, "R1");
	s3_xml_release(&x);
	/* cut, but the code was there */
	x = parsed("<Error><Code>AccessDenied</Code><Mess");
	assert_false(x.whole);
	assert_int_equal(x.root, S3_XML_ERROR);
	assert_string_equal(x.code, "AccessDenied");
	s3_xml_release(&x);
	/* only direct children count */
	x = parsed("<Error><Detail><Code>AccessDenied</Code></Detail></Error>");
	assert_string_equal(x.code, "");
	s3_xml_release(&x);
}

static void not_xml(void **state)
{
	static const char *const bad[] = {"", "   ", "hello", "<html><p>x</html>", "{\"a\": 1}",
		"\x01\x02", "<a>", "<a/><b/>", "<a>&undefined;</a>"};

	for (size_t i = 0; i < array_len(bad); i++)
		assert_not_whole(bad[i]);
	struct s3_xml x = parsed("<html></html>");
	assert_int_equal(x.root, S3_XML_OTHER);
	assert_true(x.whole);
	s3_xml_release(&x);
}

static void doctypes_are_refused(void **state)
{
	static const char bomb[] =
		"<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY a \"aaaaaaaaaa\">"
		"<!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">"
		"<!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;\">]>"
		"<Error><Code>&c;</Code></Error>";
	struct s3_xml x = parsed(bomb);

	assert_false(x.whole);
	assert_string_equal(x.code, "");
	s3_xml_release(&x);
	x = parsed("<!DOCTYPE Error SYSTEM \"file:///etc/passwd\"><Error><Code>x</Code></Error>");
	assert_false(x.whole);
	assert_string_equal(x.code, "");
	s3_xml_release(&x);
	x = parsed("<!DOCTYPE e [<!ENTITY x SYSTEM \"file:///etc/hostname\">]>"
		   "<Error><Code>&x;</Code></Error>");
	assert_false(x.whole);
	assert_string_equal(x.code, "");
	s3_xml_release(&x);
}

static void only_utf8_is_read(void **state)
{
	static const char wide[] = "\xff\xfe<\0E\0r\0r\0o\0r\0/\0>\0\2";
	struct s3_xml x = parsed("\xef\xbb\xbf" HEAD "<Error><Code>SlowDown</Code></Error>");

	assert_true(x.whole);
	assert_string_equal(x.code, "SlowDown");
	s3_xml_release(&x);
	for (size_t cut = 0; cut < 4; cut++) {
		assert_int_equal(s3_xml_parse(&x, wide, sizeof(wide) - 1 - cut), 0);
		assert_false(x.whole);
		s3_xml_release(&x);
		assert_int_equal(s3_xml_parse(&x, wide + 2, sizeof(wide) - 3 - cut), 0);
		assert_false(x.whole);
		s3_xml_release(&x);
	}
	x = parsed("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><Error><Code>\xe4</Code></Error>");
	assert_false(x.whole);
	s3_xml_release(&x);
}

static void nesting_is_bounded(void **state)
{
	cleanup_buf struct buf text = {0};

	for (int i = 0; i < 10000; i++)
		buf_add_text(&text, "<a>");
	for (int i = 0; i < 10000; i++)
		buf_add_text(&text, "</a>");
	assert_not_whole(buf_text(&text));
}

static void long_values_are_cut_or_refused(void **state)
{
	cleanup_buf struct buf text = {0};

	buf_add_text(&text, "<Error><Code>");
	for (int i = 0; i < 1000; i++)
		buf_add_char(&text, 'C');
	buf_add_text(&text, "</Code></Error>");
	struct s3_xml x = parsed(buf_text(&text));
	assert_int_equal(strlen(x.code), sizeof(x.code) - 1);
	s3_xml_release(&x);
	buf_clear(&text);
	buf_add_text(&text, "<InitiateMultipartUploadResult><UploadId>");
	for (int i = 0; i < S3_UPLOAD_ID_MAX; i++)
		buf_add_char(&text, 'u');
	buf_add_text(&text, "</UploadId></InitiateMultipartUploadResult>");
	assert_not_whole(buf_text(&text)); /* a cut upload id would be another upload's */
}

static void etags_lose_their_quotes(void **state)
{
	char out[S3_ETAG_MAX];
	char too_long[S3_ETAG_MAX + 1];

	assert_true(s3_etag_copy(out, "\"abc\""));
	assert_string_equal(out, "abc");
	assert_true(s3_etag_copy(out, "abc-2"));
	assert_string_equal(out, "abc-2");
	assert_false(s3_etag_copy(out, ""));
	assert_false(s3_etag_copy(out, "\"\""));
	assert_false(s3_etag_copy(out, "W/\"abc\""));
	memset(too_long, 'e', S3_ETAG_MAX);
	too_long[S3_ETAG_MAX] = '\0';
	assert_false(s3_etag_copy(out, too_long));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(list_page),
		cmocka_unit_test(list_without_encoding_is_literal),
		cmocka_unit_test(list_leaves_out_nul_keys),
		cmocka_unit_test(empty_listing),
		cmocka_unit_test(full_page_of_a_thousand),
		cmocka_unit_test(bad_listings),
		cmocka_unit_test(cut_anywhere),
		cmocka_unit_test(results),
		cmocka_unit_test(parts),
		cmocka_unit_test(errors),
		cmocka_unit_test(not_xml),
		cmocka_unit_test(doctypes_are_refused),
		cmocka_unit_test(only_utf8_is_read),
		cmocka_unit_test(nesting_is_bounded),
		cmocka_unit_test(long_values_are_cut_or_refused),
		cmocka_unit_test(etags_lose_their_quotes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
