/*
 * xml - writes the replies' XML, reads the two bodies that clients send.
 */
#include "s3d_xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdlib.h>
#include <string.h>

void xml_begin(struct buf *out, const char *root)
{
	buf_printf(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
			"<%s xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", root);
}

void xml_open(struct buf *out, const char *name)
{
	buf_printf(out, "<%s>", name);
}

void xml_close(struct buf *out, const char *name)
{
	buf_printf(out, "</%s>", name);
}

/* Control characters as S3 writes them, though XML 1.0 knows no such references. */
static void xml_escape(struct buf *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '&')
			buf_str(out, "&amp;");
		else if (c == '<')
			buf_str(out, "&lt;");
		else if (c == '>')
			buf_str(out, "&gt;");
		else if (c == '"')
			buf_str(out, "&quot;");
		else if (c < ' ' || c == 0x7f)
			buf_printf(out, "&#x%x;", c);
		else
			buf_char(out, *text);
	}
}

void xml_text(struct buf *out, const char *name, const char *text)
{
	xml_open(out, name);
	xml_escape(out, text);
	xml_close(out, name);
}

void xml_number(struct buf *out, const char *name, uint64_t number)
{
	buf_printf(out, "<%s>%llu</%s>", name, (unsigned long long)number, name);
}

void xml_etag(struct buf *out, const char *etag)
{
	buf_printf(out, "<ETag>&quot;%s&quot;</ETag>", etag);
}

void xml_time(struct buf *out, const char *name, int64_t ms)
{
	char text[40];

	time_format_iso(ms, text, sizeof(text));
	xml_text(out, name, text);
}

static void xml_free_document(xmlDoc **document)
{
	xmlFreeDoc(*document);
}

/* The document if its root is called so. */
static xmlDoc *xml_read(const char *data, size_t len, const char *root_name)
{
	xmlDoc *document = xmlReadMemory(data, (int)len, "body.xml", NULL,
		XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	xmlNode *root = document ? xmlDocGetRootElement(document) : NULL;

	if (root && !strcmp((const char *)root->name, root_name))
		return document;
	xmlFreeDoc(document);
	return NULL;
}

static xmlNode *xml_first(xmlNode *node)
{
	while (node && node->type != XML_ELEMENT_NODE)
		node = node->next;
	return node;
}

static bool xml_is(const xmlNode *node, const char *name)
{
	return !strcmp((const char *)node->name, name);
}

static char *xml_content(xmlNode *node)
{
	xmlChar *text = xmlNodeGetContent(node);
	char *copy = str_dup(text ? (const char *)text : "");

	xmlFree(text);
	return copy;
}

static char *xml_content_etag(xmlNode *node)
{
	AUTO(free_str) char *text = xml_content(node);
	size_t len = strlen(text);

	if (len >= 2 && text[0] == '"' && text[len - 1] == '"')
		return str_dupn(text + 1, len - 2);
	return str_dup(text);
}

static int xml_read_part(xmlNode *node, struct xml_part *ret)
{
	struct xml_part part = {0};
	xmlNode *child = xml_first(node->children);

	for (; child; child = xml_first(child->next)) {
		if (xml_is(child, "PartNumber")) {
			AUTO(free_str) char *text = xml_content(child);

			(void)str_to_u64(text, &part.number); /* 0 is refused below */
		} else if (xml_is(child, "ETag") && !part.etag) {
			part.etag = xml_content_etag(child);
		} else if (xml_is(child, "ChecksumCRC64NVME") && !part.crc64nvme) {
			part.crc64nvme = xml_content(child);
		}
	}
	*ret = part;
	return part.number && part.number <= 10000 && part.etag ? 0 : -EINVAL;
}

int xml_read_parts(const char *data, size_t len, struct xml_parts *ret)
{
	AUTO(xml_free_document) xmlDoc *document = xml_read(data, len, "CompleteMultipartUpload");
	struct xml_parts parts = {0};
	int r = document ? 0 : -EINVAL;
	xmlNode *node = r ? NULL : xml_first(xmlDocGetRootElement(document)->children);

	for (; node && !r; node = xml_first(node->next)) {
		if (!xml_is(node, "Part"))
			continue;
		parts.parts = mem_realloc(parts.parts, (parts.len + 1) * sizeof(*parts.parts));
		r = xml_read_part(node, &parts.parts[parts.len++]);
	}
	if (r || !parts.len) {
		xml_parts_release(&parts);
		return -EINVAL;
	}
	*ret = parts;
	return 0;
}

void xml_parts_release(struct xml_parts *parts)
{
	for (size_t i = 0; i < parts->len; i++) {
		free(parts->parts[i].etag);
		free(parts->parts[i].crc64nvme);
	}
	free(parts->parts);
	*parts = (struct xml_parts){0};
}

static void xml_read_delete_object(xmlNode *node, struct xml_delete *request)
{
	xmlNode *child = xml_first(node->children);
	size_t n = request->len;

	request->keys = mem_realloc(request->keys, (n + 1) * sizeof(*request->keys));
	request->etags = mem_realloc(request->etags, (n + 1) * sizeof(*request->etags));
	request->keys[n] = request->etags[n] = NULL;
	request->len++;
	for (; child; child = xml_first(child->next)) {
		if (xml_is(child, "Key") && !request->keys[n])
			request->keys[n] = xml_content(child);
		else if (xml_is(child, "ETag") && !request->etags[n])
			request->etags[n] = xml_content_etag(child);
	}
	if (!request->keys[n])
		request->keys[n] = str_dup("");
}

int xml_read_delete(const char *data, size_t len, struct xml_delete *ret)
{
	AUTO(xml_free_document) xmlDoc *document = xml_read(data, len, "Delete");
	struct xml_delete request = {0};
	xmlNode *node;

	if (!document)
		return -EINVAL;
	node = xml_first(xmlDocGetRootElement(document)->children);
	for (; node; node = xml_first(node->next)) {
		AUTO(free_str) char *text = xml_content(node);

		if (xml_is(node, "Object"))
			xml_read_delete_object(node, &request);
		else if (xml_is(node, "Quiet"))
			request.quiet = !strcmp(text, "true");
	}
	if (!request.len || request.len > 1000) {
		xml_delete_release(&request);
		return -EINVAL;
	}
	*ret = request;
	return 0;
}

void xml_delete_release(struct xml_delete *request)
{
	for (size_t i = 0; i < request->len; i++) {
		free(request->keys[i]);
		free(request->etags[i]);
	}
	free(request->keys);
	free(request->etags);
	*request = (struct xml_delete){0};
}
