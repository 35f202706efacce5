/*
 * XML replies, read by libxml2's SAX interface: no tree is built, the network, entities and huge
 * documents are off, and a DOCTYPE ends the parse (S3 never sends one; an entity bomb needs one).
 *
 * Every element that matters lies at depth 2 (child of the root) or 3 (child of Contents,
 * CommonPrefixes or Part), so a table of (parent, name, setter) is the whole grammar. Keys are
 * decoded at the end, when EncodingType is known whatever its place, and sorted: Contents and
 * CommonPrefixes come as two lists but a folder has one.
 */
#include "s3_xml.h"

#include "s3_encode.h"

#include <libxml/parser.h>

#define ENTRIES_MAX 100000
#define PARTS_MAX 10000
#define NEST_MAX 16

enum parent { IN_ROOT, IN_CONTENTS, IN_PREFIXES, IN_PART, IN_NOTHING };

struct parse {
	struct s3_xml *out;
	xmlParserCtxtPtr ctxt;
	unsigned depth;
	enum parent parent; /* of elements at depth 3 */
	struct buf text;    /* of the innermost element */
	struct buf keys;    /* NUL-ended, in order of arrival */
	size_t *key_at;     /* per entry */
	size_t entries_room, parts_room;
	bool has_size; /* the entry that is being read */
	bool url_encoded;
	bool bad; /* an element we know could not be read */
	int error;
};

/* ---- values -------------------------------------------------------------------------------------- */

bool s3_etag_copy(char out[S3_ETAG_MAX], const char *text)
{
	size_t len = strlen(text);
	if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
		text++;
		len -= 2;
	}
	if (!len || len >= S3_ETAG_MAX || memchr(text, '"', len))
		return false;
	memcpy(out, text, len);
	out[len] = '\0';
	return true;
}

static struct s3_list_entry *last_entry(struct parse *p)
{
	return &p->out->list.entries[p->out->list.count - 1];
}

static struct s3_part *last_part(struct parse *p)
{
	return &p->out->parts[p->out->part_count - 1];
}

static void fail(struct parse *p, int error)
{
	if (!p->error)
		p->error = error;
	xmlStopParser(p->ctxt);
}

static void *grow(struct parse *p, void *old, size_t *room, size_t count, size_t size)
{
	size_t wanted = *room ? *room * 2 : 256;
	if (count < *room)
		return old;
	void *bigger = reallocarray(old, wanted, size);
	if (!bigger)
		fail(p, -ENOMEM);
	else
		*room = wanted;
	return bigger;
}

/* ---- openings ------------------------------------------------------------------------------------ */

static void begin_entry(struct parse *p, bool is_prefix)
{
	struct s3_list_page *list = &p->out->list;
	size_t room = p->entries_room;
	if (list->count >= ENTRIES_MAX) {
		fail(p, -E2BIG);
		return;
	}
	void *entries = grow(p, list->entries, &p->entries_room, list->count, sizeof(*list->entries));
	if (!entries)
		return;
	list->entries = entries;
	void *key_at = grow(p, p->key_at, &room, list->count, sizeof(*p->key_at));
	if (!key_at)
		return;
	p->key_at = key_at;
	p->key_at[list->count] = SIZE_MAX;
	p->has_size = false;
	list->entries[list->count++] = (struct s3_list_entry){.is_prefix = is_prefix};
}

static void begin_part(struct parse *p)
{
	if (p->out->part_count >= PARTS_MAX) {
		fail(p, -E2BIG);
		return;
	}
	void *parts = grow(
		p, p->out->parts, &p->parts_room, p->out->part_count, sizeof(*p->out->parts));
	if (!parts)
		return;
	p->out->parts = parts;
	p->out->parts[p->out->part_count++] = (struct s3_part){0};
}

static enum s3_xml_root root_of(const char *name)
{
	static const struct {
		const char *name;
		enum s3_xml_root root;
	} roots[] = {
		{"Error", S3_XML_ERROR},
		{"ListBucketResult", S3_XML_LIST},
		{"InitiateMultipartUploadResult", S3_XML_CREATE},
		{"CompleteMultipartUploadResult", S3_XML_COMPLETE},
		{"CopyObjectResult", S3_XML_COPY},
		{"CopyPartResult", S3_XML_COPY_PART},
		{"ListPartsResult", S3_XML_LIST_PARTS},
		{"AccessControlPolicy", S3_XML_ACL},
	};
	for (size_t i = 0; i < array_len(roots); i++)
		if (strcmp(roots[i].name, name) == 0)
			return roots[i].root;
	return S3_XML_OTHER;
}

static void begin_child(struct parse *p, const char *name)
{
	p->parent = IN_NOTHING;
	if (p->out->root == S3_XML_LIST && strcmp(name, "Contents") == 0) {
		p->parent = IN_CONTENTS;
		begin_entry(p, false);
	} else if (p->out->root == S3_XML_LIST && strcmp(name, "CommonPrefixes") == 0) {
		p->parent = IN_PREFIXES;
		begin_entry(p, true);
	} else if (p->out->root == S3_XML_LIST_PARTS && strcmp(name, "Part") == 0) {
		p->parent = IN_PART;
		begin_part(p);
	}
}

static void on_start(void *user, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
	int nb_namespaces, const xmlChar **namespaces, int nb_attributes, int nb_defaulted,
	const xmlChar **attributes)
{
	struct parse *p = user;
	p->depth++;
	buf_clear(&p->text);
	if (p->depth == 1)
		p->out->root = root_of((const char *)name);
	else if (p->depth == 2)
		begin_child(p, (const char *)name);
	else if (p->depth > NEST_MAX)
		fail(p, -E2BIG);
}

/* ---- setters: one per kind of value ---------------------------------------------------------------- */

/* Returns false when the text is not what it has to be. */
typedef bool set_fn(struct parse *p, const char *text);

#define COPY_SETTER(name, field)                                                                   \
	static bool name(struct parse *p, const char *text)                                        \
	{                                                                                          \
		text_copy(p->out->field, text, sizeof(p->out->field));                             \
		return true;                                                                       \
	}
COPY_SETTER(set_code, code)
COPY_SETTER(set_message, message)
COPY_SETTER(set_request_id, request_id)
COPY_SETTER(set_region, region)
COPY_SETTER(set_endpoint, endpoint)

static bool parse_bool(const char *text, bool *ret)
{
	*ret = strcmp(text, "true") == 0;
	return *ret || strcmp(text, "false") == 0;
}

/* RADOS Gateway 16 answers a Complete with an empty one: missing, not malformed. */
static bool set_etag(struct parse *p, const char *text)
{
	return !*text || s3_etag_copy(p->out->etag, text);
}

static bool set_upload_id(struct parse *p, const char *text)
{
	return *text && text_copy(p->out->upload_id, text, sizeof(p->out->upload_id));
}

static bool set_crc(struct parse *p, const char *text)
{
	p->out->has_crc64nvme = crc64nvme_from_text(text, &p->out->crc64nvme) == 0;
	return p->out->has_crc64nvme;
}

static bool set_truncated(struct parse *p, const char *text)
{
	p->out->says_truncated = true;
	return parse_bool(text, &p->out->list.truncated);
}

static bool set_next_token(struct parse *p, const char *text)
{
	free(p->out->list.next_token);
	p->out->list.next_token = text_dup(text);
	if (!p->out->list.next_token)
		fail(p, -ENOMEM);
	return true;
}

static bool set_list_prefix(struct parse *p, const char *text)
{
	return text_copy(p->out->list_prefix, text, sizeof(p->out->list_prefix));
}

static bool set_encoding(struct parse *p, const char *text)
{
	p->url_encoded = strcmp(text, "url") == 0;
	return p->url_encoded || !*text;
}

static bool set_parts_truncated(struct parse *p, const char *text)
{
	return parse_bool(text, &p->out->parts_truncated);
}

static bool parse_number(const char *text, unsigned max, unsigned *ret)
{
	uint64_t number;
	if (u64_parse(text, &number) || number > max)
		return false;
	*ret = (unsigned)number;
	return true;
}

static bool set_next_marker(struct parse *p, const char *text)
{
	return parse_number(text, PARTS_MAX, &p->out->next_part_marker);
}

static bool set_key(struct parse *p, const char *text)
{
	p->key_at[p->out->list.count - 1] = p->keys.len;
	buf_add(&p->keys, text, strlen(text) + 1);
	return *text;
}

static bool set_size(struct parse *p, const char *text)
{
	p->has_size = true;
	return u64_parse(text, &last_entry(p)->object.size_bytes) == 0;
}

static bool set_modified(struct parse *p, const char *text)
{
	return time_parse_iso8601(text, &last_entry(p)->object.last_modified_ns) == 0;
}

static bool set_entry_etag(struct parse *p, const char *text)
{
	return !*text || s3_etag_copy(last_entry(p)->object.etag, text);
}

static bool set_part_number(struct parse *p, const char *text)
{
	return parse_number(text, PARTS_MAX, &last_part(p)->number) && last_part(p)->number;
}

static bool set_part_size(struct parse *p, const char *text)
{
	return u64_parse(text, &last_part(p)->size_bytes) == 0;
}

static bool set_part_etag(struct parse *p, const char *text)
{
	return s3_etag_copy(last_part(p)->etag, text);
}

static bool set_part_crc(struct parse *p, const char *text)
{
	last_part(p)->has_crc64nvme = crc64nvme_from_text(text, &last_part(p)->crc64nvme) == 0;
	return last_part(p)->has_crc64nvme;
}

struct setter {
	enum s3_xml_root root; /* of children of the root */
	enum parent parent;
	const char *name;
	set_fn *set;
};

static const struct setter setters[] = {
	{S3_XML_LIST, IN_CONTENTS, "Key", set_key},
	{S3_XML_LIST, IN_CONTENTS, "LastModified", set_modified},
	{S3_XML_LIST, IN_CONTENTS, "ETag", set_entry_etag},
	{S3_XML_LIST, IN_CONTENTS, "Size", set_size},
	{S3_XML_LIST, IN_PREFIXES, "Prefix", set_key},
	{S3_XML_LIST, IN_ROOT, "Prefix", set_list_prefix},
	{S3_XML_LIST, IN_ROOT, "IsTruncated", set_truncated},
	{S3_XML_LIST, IN_ROOT, "NextContinuationToken", set_next_token},
	{S3_XML_LIST, IN_ROOT, "EncodingType", set_encoding},
	{S3_XML_ERROR, IN_ROOT, "Code", set_code},
	{S3_XML_ERROR, IN_ROOT, "Message", set_message},
	{S3_XML_ERROR, IN_ROOT, "RequestId", set_request_id},
	{S3_XML_ERROR, IN_ROOT, "Region", set_region},
	{S3_XML_ERROR, IN_ROOT, "Endpoint", set_endpoint},
	{S3_XML_CREATE, IN_ROOT, "UploadId", set_upload_id},
	{S3_XML_COMPLETE, IN_ROOT, "ETag", set_etag},
	{S3_XML_COMPLETE, IN_ROOT, "ChecksumCRC64NVME", set_crc},
	{S3_XML_COPY, IN_ROOT, "ETag", set_etag},
	{S3_XML_COPY, IN_ROOT, "ChecksumCRC64NVME", set_crc},
	{S3_XML_COPY_PART, IN_ROOT, "ETag", set_etag},
	{S3_XML_COPY_PART, IN_ROOT, "ChecksumCRC64NVME", set_crc},
	{S3_XML_LIST_PARTS, IN_PART, "PartNumber", set_part_number},
	{S3_XML_LIST_PARTS, IN_PART, "Size", set_part_size},
	{S3_XML_LIST_PARTS, IN_PART, "ETag", set_part_etag},
	{S3_XML_LIST_PARTS, IN_PART, "ChecksumCRC64NVME", set_part_crc},
	{S3_XML_LIST_PARTS, IN_ROOT, "IsTruncated", set_parts_truncated},
	{S3_XML_LIST_PARTS, IN_ROOT, "NextPartNumberMarker", set_next_marker},
};

/* ---- closings -------------------------------------------------------------------------------------- */

static void set_value(struct parse *p, enum parent parent, const char *name)
{
	for (size_t i = 0; i < array_len(setters); i++) {
		const struct setter *s = &setters[i];
		if (s->root != p->out->root || s->parent != parent || strcmp(s->name, name) != 0)
			continue;
		if (p->text.error)
			fail(p, p->text.error);
		else if (!s->set(p, buf_text(&p->text)))
			p->bad = true;
		return;
	}
}

static void on_end(void *user, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
	struct parse *p = user;
	if (p->depth == 2 && p->parent == IN_CONTENTS && !p->has_size)
		p->bad = true; /* an empty object is another thing */
	if (p->depth == 2)
		set_value(p, IN_ROOT, (const char *)name);
	else if (p->depth == 3 && p->parent != IN_NOTHING)
		set_value(p, p->parent, (const char *)name);
	p->depth--;
	buf_clear(&p->text);
}

static void on_text(void *user, const xmlChar *text, int len)
{
	struct parse *p = user;
	buf_add(&p->text, text, (size_t)len);
}

static void on_doctype(
	void *user, const xmlChar *name, const xmlChar *external_id, const xmlChar *system_id)
{
	fail(user, -EBADMSG);
}

/* ---- after the parse ------------------------------------------------------------------------------- */

static int compare_entries(const void *a, const void *b)
{
	const struct s3_list_entry *x = a, *y = b;
	size_t shorter = x->key_len < y->key_len ? x->key_len : y->key_len;
	int by_bytes = memcmp(x->key, y->key, shorter);
	if (by_bytes)
		return by_bytes;
	return x->key_len < y->key_len ? -1 : x->key_len > y->key_len;
}

/* Keys and prefixes come as two lists; each is in order by itself unless the server has another. */
static void note_order(struct s3_list_page *list)
{
	const struct s3_list_entry *last[2] = {NULL, NULL};

	for (size_t i = 0; i < list->count; i++) {
		const struct s3_list_entry *e = &list->entries[i];

		if (last[e->is_prefix] && compare_entries(last[e->is_prefix], e) > 0)
			list->unordered = true;
		last[e->is_prefix] = e;
	}
}

/* Places the keys, decodes them, and leaves out those with a NUL byte. */
static void finish_entries(struct parse *p)
{
	struct s3_list_page *list = &p->out->list;
	size_t kept = 0;
	if (p->keys.error) { /* some key has no place */
		p->error = p->keys.error;
		list->count = 0;
		return;
	}
	list->keys = p->keys.len ? buf_steal(&p->keys) : NULL;
	for (size_t i = 0; i < list->count; i++) {
		if (p->key_at[i] == SIZE_MAX) {
			p->bad = true;
			continue;
		}
		struct s3_list_entry entry = list->entries[i];
		char *key = list->keys + p->key_at[i];
		entry.key_len = strlen(key); // NOLINT(clang-analyzer-core.NonNullParamChecker): key_at says so
		if (p->url_encoded && s3_decode_listed(key, &entry.key_len)) {
			p->bad = true;
			continue;
		}
		if (memchr(key, '\0', entry.key_len)) {
			list->left_out++;
			continue;
		}
		entry.key = key;
		list->entries[kept++] = entry;
	}
	list->count = kept;
	note_order(list);
	if (kept)
		qsort(list->entries, kept, sizeof(list->entries[0]), compare_entries);
}

static int compare_parts(const void *a, const void *b)
{
	const struct s3_part *x = a, *y = b;
	return x->number < y->number ? -1 : x->number > y->number;
}

static bool are_parts_complete(const struct s3_xml *x)
{
	for (size_t i = 0; i < x->part_count; i++)
		if (!x->parts[i].number || !x->parts[i].etag[0])
			return false;
	return !x->parts_truncated || x->next_part_marker;
}

static void finish_parts(struct parse *p)
{
	if (p->out->root != S3_XML_LIST_PARTS)
		return;
	if (!are_parts_complete(p->out))
		p->bad = true;
	if (p->out->part_count)
		qsort(p->out->parts, p->out->part_count, sizeof(p->out->parts[0]), compare_parts);
}

static bool run_parser(struct parse *p, const char *data, size_t len)
{
	xmlSAXHandler sax = {
		.initialized = XML_SAX2_MAGIC,
		.startElementNs = on_start,
		.endElementNs = on_end,
		.characters = on_text,
		.cdataBlock = on_text,
		.internalSubset = on_doctype,
	};
	p->ctxt = xmlCreatePushParserCtxt(&sax, p, NULL, 0, NULL);
	if (!p->ctxt) {
		p->error = -ENOMEM;
		return false;
	}
	(void)xmlCtxtUseOptions(
		p->ctxt, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
				 XML_PARSE_IGNORE_ENC);
	int xml_error = xmlParseChunk(p->ctxt, data, (int)len, 1);
	bool whole = xml_error == 0 && p->ctxt->wellFormed && p->depth == 0;
	if (xml_error == XML_ERR_NO_MEMORY)
		p->error = -ENOMEM;
	xmlFreeParserCtxt(p->ctxt);
	p->ctxt = NULL;
	return whole;
}

/* S3 writes UTF-8. libxml2 tells other encodings by their first bytes, and overlooks junk behind a
 * document of 16-bit characters: a NUL gives those away. */
static bool is_utf8_document(const char *data, size_t len)
{
	return len > 0 && data[0] == '<' && !memchr(data, '\0', len);
}

/* With the byte order mark of UTF-8, if there is one. */
static size_t leading_space(const char *data, size_t len)
{
	size_t i = len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	while (i < len && strchr(" \t\r\n", data[i]) && data[i])
		i++;
	return i;
}

int s3_xml_parse(struct s3_xml *ret, const char *data, size_t len)
{
	struct s3_xml out = {.root = S3_XML_NONE};
	struct parse p = {.out = &out};
	size_t skipped = leading_space(data, len);
	if (len > INT32_MAX)
		return -E2BIG;
	buf_init(&p.text, 64 * KIB);
	buf_init(&p.keys, 0);
	bool whole = is_utf8_document(data + skipped, len - skipped) &&
		     run_parser(&p, data + skipped, len - skipped);
	finish_entries(&p);
	finish_parts(&p);
	out.whole = whole && !p.bad && !p.error;
	int err = p.error == -ENOMEM ? -ENOMEM : 0;
	buf_release(&p.text);
	buf_release(&p.keys);
	free(p.key_at);
	if (err)
		s3_xml_release(&out);
	else
		*ret = out;
	return err;
}

static void list_release(struct s3_list_page *list)
{
	free(list->entries);
	free(list->keys);
	free(list->next_token);
	*list = (struct s3_list_page){0};
}

void s3_xml_release(struct s3_xml *x)
{
	list_release(&x->list);
	free(x->parts);
	x->parts = NULL;
	x->part_count = 0;
}
