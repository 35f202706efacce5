/*
 * XML replies: whatever arrives, what is said to be whole is whole, sorted and inside its bounds,
 * and what is cut off is never whole.
 */
#include "fuzz.h"
#include "s3_encode.h"
#include "s3_xml.h"

static struct s3_xml parse(const char *data, size_t len)
{
	struct s3_xml x;

	must(s3_xml_parse(&x, data, len) == 0);
	return x;
}

static void check_etag(const char etag[S3_ETAG_MAX])
{
	must(memchr(etag, '\0', S3_ETAG_MAX));
	must(!strchr(etag, '"'));
}

static void check_list(const struct s3_list_page *list)
{
	must(list->count <= 100000);
	for (size_t i = 0; i < list->count; i++) {
		const struct s3_list_entry *e = &list->entries[i], *last = i ? e - 1 : e;
		size_t shorter = last->key_len < e->key_len ? last->key_len : e->key_len;
		int order = memcmp(last->key, e->key, shorter);

		must(e->key >= list->keys && strlen(e->key) == e->key_len);
		must(order < 0 || (order == 0 && last->key_len <= e->key_len));
		check_etag(e->object.etag);
	}
}

static void check_parts(const struct s3_xml *x)
{
	must(x->part_count <= 10000 && x->next_part_marker <= 10000);
	for (size_t i = 0; i < x->part_count; i++) {
		const struct s3_part *p = &x->parts[i];

		must(p->number <= 10000);
		must(!i || p[-1].number <= p->number);
		must(!x->whole || (p->number && p->etag[0]));
		check_etag(p->etag);
	}
}

static void check_texts(const struct s3_xml *x)
{
	must(memchr(x->code, '\0', sizeof(x->code)));
	must(memchr(x->message, '\0', sizeof(x->message)));
	must(memchr(x->request_id, '\0', sizeof(x->request_id)));
	must(memchr(x->region, '\0', sizeof(x->region)));
	must(memchr(x->endpoint, '\0', sizeof(x->endpoint)));
	must(memchr(x->upload_id, '\0', sizeof(x->upload_id)));
	check_etag(x->etag);
}

/* A document without the last byte of its end tag (or comment) is not one. */
static void check_cut(const char *data, size_t len)
{
	struct s3_xml x;

	while (len && strchr(" \t\r\n", data[len - 1]))
		len--;
	must(len);
	x = parse(data, len - 1);
	must(!x.whole);
	s3_xml_release(&x);
}

/* The same page, as S3 would write it with encoding-type=url. */
static void render(const struct s3_list_page *list, struct buf *out)
{
	buf_printf(out,
		"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>%s</IsTruncated>",
		list->truncated ? "true" : "false");
	if (list->next_token) {
		buf_add_text(out, "<NextContinuationToken>");
		s3_encode_xml(out, list->next_token);
		buf_add_text(out, "</NextContinuationToken>");
	}
	for (size_t i = 0; i < list->count; i++) {
		const struct s3_list_entry *e = &list->entries[i];

		buf_add_text(out, e->is_prefix ? "<CommonPrefixes><Prefix>" : "<Contents><Key>");
		s3_encode_path(out, e->key);
		buf_add_text(out, e->is_prefix ? "</Prefix></CommonPrefixes>" : "</Key><ETag>");
		if (e->is_prefix)
			continue;
		s3_encode_xml(out, e->object.etag);
		buf_printf(out, "</ETag><Size>%llu</Size></Contents>",
			(unsigned long long)e->object.size_bytes);
	}
	buf_add_text(out, "</ListBucketResult>");
}

static bool has_entry(const struct s3_list_page *list, const struct s3_list_entry *want)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct s3_list_entry *e = &list->entries[i];

		if (e->is_prefix == want->is_prefix && strcmp(e->key, want->key) == 0 &&
			(e->is_prefix || (e->object.size_bytes == want->object.size_bytes &&
						 strcmp(e->object.etag, want->object.etag) == 0)))
			return true;
	}
	return false;
}

static void check_round_trip(const struct s3_list_page *list)
{
	cleanup_buf struct buf text = {0};
	struct s3_xml again;

	render(list, &text);
	must(buf_error(&text) == 0);
	again = parse(buf_text(&text), text.len);
	must(again.whole && again.root == S3_XML_LIST);
	must(again.list.count == list->count && again.list.truncated == list->truncated);
	must(!list->next_token || strcmp(again.list.next_token, list->next_token) == 0);
	for (size_t i = 0; i < list->count; i++)
		must(has_entry(&again.list, &list->entries[i]));
	s3_xml_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct s3_xml x = parse((const char *)data, len);

	check_texts(&x);
	check_list(&x.list);
	check_parts(&x);
	must(!x.whole || (x.root != S3_XML_NONE && len > 0));
	if (x.whole)
		check_cut((const char *)data, len);
	if (x.whole && x.root == S3_XML_LIST)
		check_round_trip(&x.list);
	s3_xml_release(&x);
	return 0;
}
