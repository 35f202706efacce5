/*
 * list - ListObjectsV2 and ListObjects.
 *
 * A page holds at most max-keys entries, keys and common prefixes counted together, in the byte
 * order of UTF-8. A continuation token is the place to go on from, in hex after a letter: `a` after
 * this key, `f` from this string on (past a common prefix). A common prefix that sorts before
 * start-after (or marker) is shown as long as a key below it comes later, but not one that equals
 * it.
 */
#include "s3d_server.h"
#include "s3d_xml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct page_entry {
	struct object *object; /* or, if NULL, … */
	char *prefix;
};

struct page {
	const char *prefix;
	const char *delimiter; /* "" = none */
	const char *skip;      /* a common prefix that is not to be shown again */
	size_t max;
	struct page_entry *entries;
	size_t len;
	bool truncated;
	struct buf next; /* where the walk jumps to */
};

static void page_release(struct page *page)
{
	for (size_t i = 0; i < page->len; i++) {
		object_unref(page->entries[i].object);
		free(page->entries[i].prefix);
	}
	free(page->entries);
	buf_release(&page->next);
}

static void page_add(struct page *page, struct object *object, char *prefix)
{
	page->entries = mem_realloc(page->entries, (page->len + 1) * sizeof(*page->entries));
	page->entries[page->len++] = (struct page_entry){.object = object, .prefix = prefix};
}

/* The smallest string after all that begin with the prefix (whose last byte is not 0xff: UTF-8). */
static void successor(struct buf *out, const char *prefix)
{
	buf_reset(out);
	buf_str(out, prefix);
	out->data[out->len - 1]++;
}

/* The length of the common prefix that the key belongs to, 0 if it stands for itself. */
static size_t common_prefix_length(const struct page *page, const char *key)
{
	const char *found;

	if (!*page->delimiter)
		return 0;
	found = strstr(key + strlen(page->prefix), page->delimiter);
	return found ? (size_t)(found - key) + strlen(page->delimiter) : 0;
}

static const char *page_visit(void *cls, struct object *object)
{
	struct page *page = cls;
	size_t len;

	if (!str_starts(object->key, page->prefix))
		return NULL;
	len = common_prefix_length(page, object->key);
	if (len) {
		AUTO(free_str) char *prefix = str_dupn(object->key, len);

		successor(&page->next, prefix);
		if (!strcmp(prefix, page->skip))
			return page->next.data;
		if (page->len == page->max) {
			page->truncated = true;
			return NULL;
		}
		page_add(page, NULL, prefix);
		prefix = NULL;
		return page->next.data;
	}
	if (page->len == page->max) {
		page->truncated = true;
		return NULL;
	}
	page_add(page, object_ref(object), NULL);
	return "";
}

/* Entries whose file changed are brought up to date, those whose file is gone leave the page. */
static void page_refresh(struct page *page, struct bucket *bucket)
{
	size_t kept = 0;

	for (size_t i = 0; i < page->len; i++) {
		struct page_entry *entry = &page->entries[i];

		if (entry->object && bucket_refresh(bucket, &entry->object))
			object_unref(entry->object);
		else
			page->entries[kept++] = *entry;
	}
	page->len = kept;
}

/* --- tokens --- */

static void token_write(struct buf *out, char kind, const char *place)
{
	buf_char(out, kind);
	for (; *place; place++)
		buf_printf(out, "%02x", (unsigned char)*place);
}

/* Where the next page begins: after the last entry of this one. */
static void token_of_page(struct buf *out, const struct page *page)
{
	const struct page_entry *last = &page->entries[page->len - 1];
	AUTO(buf_release) struct buf from = {0};

	if (last->object) {
		token_write(out, 'a', last->object->key);
		return;
	}
	successor(&from, last->prefix);
	token_write(out, 'f', from.data);
}

static int token_read(const char *token, bool *ret_after, char **ret_place)
{
	size_t len = strlen(token) / 2;
	AUTO(free_str) char *place = mem_zalloc(len + 1);

	if ((token[0] != 'a' && token[0] != 'f') ||
		hex_decode(token + 1, (uint8_t *)place, len))
		return -EINVAL;
	*ret_after = token[0] == 'a';
	*ret_place = place;
	place = NULL;
	return 0;
}

/* --- both versions --- */

struct list_request {
	const char *prefix;
	const char *delimiter;
	bool url;
	uint64_t max_keys;
	uint64_t page_size; /* what fits at most */
};

static const char *text_or_empty(const char *text)
{
	return text ? text : "";
}

static enum s3d_error list_request_read(const struct request *request, struct list_request *ret)
{
	const char *encoding = request_parameter(request, "encoding-type");
	uint64_t limit = request->server->options.page_size;
	bool bad = encoding && *encoding && strcmp(encoding, "url");

	ret->prefix = text_or_empty(request_parameter(request, "prefix"));
	ret->delimiter = text_or_empty(request_parameter(request, "delimiter"));
	ret->url = encoding && !strcmp(encoding, "url");
	ret->max_keys = request_number(request, "max-keys", 1000, &bad);
	ret->page_size = ret->max_keys < limit ? ret->max_keys : limit;
	return bad ? ERROR_INVALID_ARGUMENT : ERROR_NONE;
}

/* `place` and `after`: where the walk starts, at least at the prefix. */
static void page_fill(struct page *page, struct request *request, const struct list_request *list,
	const char *place, bool after)
{
	page->prefix = list->prefix;
	page->delimiter = list->delimiter;
	page->max = (size_t)list->page_size;
	if (strcmp(place, list->prefix) < 0) {
		place = list->prefix;
		after = false;
	}
	if (page->max)
		bucket_walk(request->bucket, place, after, page_visit, page);
}

static void xml_name(struct buf *out, const struct list_request *list, const char *tag,
	const char *text)
{
	AUTO(buf_release) struct buf encoded = {0};

	if (list->url)
		uri_encode_listing(&encoded, text);
	xml_text(out, tag, list->url ? buf_text(&encoded) : text);
}

static void xml_owner(struct buf *out, const struct object *object)
{
	xml_open(out, "Owner");
	xml_text(out, "ID", *object->owner ? object->owner : OWNER_ID);
	xml_close(out, "Owner");
}

static void xml_object(struct buf *out, const struct request *request,
	const struct list_request *list, const struct object *object, bool owner)
{
	xml_open(out, "Contents");
	xml_name(out, list, "Key", object->key);
	xml_time(out, "LastModified", object->modified_ms / 1000 * 1000);
	xml_etag(out, object->etag);
	if (request->server->options.crc64nvme && object->checksum_kind != DIGEST_NONE) {
		xml_text(out, "ChecksumAlgorithm", digest_kind_name(object->checksum_kind));
		xml_text(out, "ChecksumType", "FULL_OBJECT");
	}
	xml_number(out, "Size", object->size_bytes);
	if (owner)
		xml_owner(out, object);
	xml_text(out, "StorageClass", "STANDARD");
	xml_close(out, "Contents");
}

static void xml_entries(struct buf *out, const struct request *request,
	const struct list_request *list, const struct page *page, bool owner)
{
	for (size_t i = 0; i < page->len; i++) {
		if (page->entries[i].object)
			xml_object(out, request, list, page->entries[i].object, owner);
	}
	for (size_t i = 0; i < page->len; i++) {
		if (page->entries[i].object)
			continue;
		xml_open(out, "CommonPrefixes");
		xml_name(out, list, "Prefix", page->entries[i].prefix);
		xml_close(out, "CommonPrefixes");
	}
}

static void xml_list_head(struct buf *out, const struct request *request,
	const struct list_request *list)
{
	xml_begin(out, "ListBucketResult");
	xml_text(out, "Name", request->bucket_name);
	xml_name(out, list, "Prefix", list->prefix);
	xml_number(out, "MaxKeys", list->max_keys < 1000 ? list->max_keys : 1000);
	if (*list->delimiter)
		xml_name(out, list, "Delimiter", list->delimiter);
	if (list->url)
		xml_text(out, "EncodingType", "url");
}

static void xml_list_end(struct request *request, struct buf *out)
{
	xml_close(out, "ListBucketResult");
	reply_xml(request, 200, out);
}

/* --- ListObjectsV2 --- */

/* The token of the next page, with the faults that spoil it; "" = none is to be written. */
static void v2_next_token(struct request *request, struct page *page, const char *token,
	const char *place, bool after, struct buf *out)
{
	if (request->fault.repeat_token) {
		page->truncated = true;
		if (token)
			buf_str(out, token);
		else
			token_write(out, after ? 'a' : 'f', place);
	} else if (request->fault.missing_token) {
		page->truncated = true;
	} else if (page->truncated) {
		token_of_page(out, page);
	}
}

static void v2_reply(struct request *request, const struct list_request *list,
	const struct page *page, const struct buf *next)
{
	const char *token = request_parameter(request, "continuation-token");
	const char *start_after = request_parameter(request, "start-after");
	const char *owner = request_parameter(request, "fetch-owner");
	AUTO(buf_release) struct buf out = {0};

	xml_list_head(&out, request, list);
	xml_number(&out, "KeyCount", page->len);
	xml_text(&out, "IsTruncated", page->truncated ? "true" : "false");
	if (token)
		xml_text(&out, "ContinuationToken", token);
	if (next->len)
		xml_text(&out, "NextContinuationToken", next->data);
	if (start_after)
		xml_name(&out, list, "StartAfter", start_after);
	xml_entries(&out, request, list, page, owner && !strcmp(owner, "true"));
	xml_list_end(request, &out);
}

void handle_list_objects_v2(struct request *request)
{
	const char *token = request_parameter(request, "continuation-token");
	const char *start_after = text_or_empty(request_parameter(request, "start-after"));
	AUTO(page_release) struct page page = {.skip = token ? "" : start_after};
	AUTO(buf_release) struct buf next = {0};
	AUTO(free_str) char *place = NULL;
	struct list_request list;
	bool after = true;
	enum s3d_error error = list_request_read(request, &list);

	if (!error && token && token_read(token, &after, &place))
		error = ERROR_INVALID_ARGUMENT;
	if (error) {
		reply_error(request, error);
		return;
	}
	if (!place)
		place = str_dup(start_after);
	page_fill(&page, request, &list, place, after);
	v2_next_token(request, &page, token, place, after, &next);
	page_refresh(&page, request->bucket);
	v2_reply(request, &list, &page, &next);
}

/* --- ListObjects --- */

static const char *page_last_name(const struct page *page)
{
	const struct page_entry *last = &page->entries[page->len - 1];

	return last->object ? last->object->key : last->prefix;
}

void handle_list_objects(struct request *request)
{
	const char *marker = text_or_empty(request_parameter(request, "marker"));
	AUTO(page_release) struct page page = {.skip = marker};
	AUTO(buf_release) struct buf out = {0};
	AUTO(free_str) char *next = NULL;
	struct list_request list;
	enum s3d_error error = list_request_read(request, &list);

	if (error) {
		reply_error(request, error);
		return;
	}
	page_fill(&page, request, &list, marker, true);
	if (page.truncated && *list.delimiter)
		next = str_dup(page_last_name(&page));
	page_refresh(&page, request->bucket);
	xml_list_head(&out, request, &list);
	xml_name(&out, &list, "Marker", marker);
	xml_text(&out, "IsTruncated", page.truncated ? "true" : "false");
	if (next)
		xml_name(&out, &list, "NextMarker", next);
	xml_entries(&out, request, &list, &page, true);
	xml_list_end(request, &out);
}
