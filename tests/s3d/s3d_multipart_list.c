/*
 * multipart_list - ListParts and ListMultipartUploads.
 */
#include "s3d_server.h"
#include "s3d_xml.h"

#include <string.h>

struct parts_page {
	const struct request *request;
	struct buf out;
	uint64_t marker;
	uint64_t max;
};

static void xml_part_entry(struct parts_page *page, const struct part *part)
{
	char crc[16];

	xml_open(&page->out, "Part");
	xml_number(&page->out, "PartNumber", part->number);
	xml_time(&page->out, "LastModified", part->modified_ms);
	xml_etag(&page->out, part->etag);
	xml_number(&page->out, "Size", part->size_bytes);
	if (page->request->server->options.crc64nvme && part->checksum_kind == DIGEST_CRC64NVME) {
		crc64nvme_base64(part->crc64, crc);
		xml_text(&page->out, "ChecksumCRC64NVME", crc);
	}
	xml_close(&page->out, "Part");
}

static void xml_upload_people(struct buf *out, const struct upload *upload)
{
	buf_str(out, "<Initiator>");
	xml_text(out, "ID", upload->owner);
	buf_str(out, "</Initiator><Owner>");
	xml_text(out, "ID", upload->owner);
	buf_str(out, "</Owner><StorageClass>STANDARD</StorageClass>");
}

/* With the faults that spoil the marker. */
static void parts_page_end(struct parts_page *page, uint64_t last, bool truncated)
{
	const struct fault *fault = &page->request->fault;

	if (fault->repeat_token && page->marker)
		last = page->marker;
	if (!fault->missing_token)
		xml_number(&page->out, "NextPartNumberMarker", last);
	if (fault->repeat_token || fault->missing_token)
		truncated = true;
	xml_number(&page->out, "MaxParts", page->max);
	xml_text(&page->out, "IsTruncated", truncated ? "true" : "false");
}

static void parts_page_fill(void *cls, const struct upload *upload)
{
	struct parts_page *page = cls;
	uint64_t shown = 0, last = 0;
	bool truncated = false;

	xml_text(&page->out, "UploadId", upload->id);
	xml_upload_people(&page->out, upload);
	if (upload->algorithm != DIGEST_NONE)
		xml_text(&page->out, "ChecksumAlgorithm", digest_kind_name(upload->algorithm));
	if (upload->algorithm == DIGEST_CRC64NVME)
		xml_text(&page->out, "ChecksumType", "FULL_OBJECT");
	for (size_t i = 0; i < upload->parts_len; i++) {
		if (upload->parts[i].number <= page->marker)
			continue;
		truncated = shown == page->max;
		if (truncated)
			break;
		xml_part_entry(page, &upload->parts[i]);
		last = upload->parts[i].number;
		shown++;
	}
	xml_number(&page->out, "PartNumberMarker", page->marker);
	parts_page_end(page, last, truncated);
}

static uint64_t request_page_max(const struct request *request, const char *name, bool *ret_bad)
{
	uint64_t limit = request->server->options.page_size;
	uint64_t max = request_number(request, name, 1000, ret_bad);

	return max < limit ? max : limit;
}

static enum s3d_error parts_look(const struct request *request, struct parts_page *page)
{
	int r = uploads_look(uploads_of(request->bucket), request_parameter(request, "uploadId"),
		request->key, parts_page_fill, page);

	return r ? ERROR_NO_SUCH_UPLOAD : ERROR_NONE;
}

void handle_list_parts(struct request *request)
{
	struct parts_page page = {.request = request};
	bool bad = false;
	enum s3d_error error;

	page.marker = request_number(request, "part-number-marker", 0, &bad);
	page.max = request_page_max(request, "max-parts", &bad);
	xml_begin(&page.out, "ListPartsResult");
	xml_text(&page.out, "Bucket", request->bucket_name);
	xml_text(&page.out, "Key", request->key);
	error = bad ? ERROR_INVALID_ARGUMENT : parts_look(request, &page);
	xml_close(&page.out, "ListPartsResult");
	if (error)
		reply_error(request, error);
	else
		reply_xml(request, 200, &page.out);
	buf_release(&page.out);
}

struct uploads_page {
	struct buf out;
	const char *prefix;
	const char *key_marker;
	const char *id_marker;
	bool marker_seen; /* the upload of id_marker */
	bool url;
	bool truncated;
	uint64_t max;
	uint64_t shown;
	struct buf next_key;
	char next_id[40];
};

static void xml_upload_key(struct buf *out, const char *tag, const char *key, bool url)
{
	AUTO(buf_release) struct buf encoded = {0};

	uri_encode_listing(&encoded, key);
	xml_text(out, tag, url ? buf_text(&encoded) : key);
}

static bool uploads_page_skips(struct uploads_page *page, const struct upload *upload)
{
	int order = strcmp(upload->key, page->key_marker);
	bool skips = !str_starts(upload->key, page->prefix);

	if (*page->key_marker && order < 0)
		return true;
	if (*page->key_marker && !order) {
		skips = skips || !*page->id_marker || !page->marker_seen;
		page->marker_seen = page->marker_seen || !strcmp(upload->id, page->id_marker);
	}
	return skips;
}

static bool uploads_page_visit(void *cls, const struct upload *upload)
{
	struct uploads_page *page = cls;

	if (uploads_page_skips(page, upload))
		return true;
	page->truncated = page->shown == page->max;
	if (page->truncated)
		return false;
	xml_open(&page->out, "Upload");
	xml_upload_key(&page->out, "Key", upload->key, page->url);
	xml_text(&page->out, "UploadId", upload->id);
	xml_upload_people(&page->out, upload);
	xml_time(&page->out, "Initiated", upload->initiated_ms);
	xml_close(&page->out, "Upload");
	page->shown++;
	buf_reset(&page->next_key);
	buf_str(&page->next_key, upload->key);
	memcpy(page->next_id, upload->id, sizeof(page->next_id));
	return true;
}

static const char *parameter_or_empty(const struct request *request, const char *name)
{
	const char *value = request_parameter(request, name);

	return value ? value : "";
}

static void uploads_page_end(struct uploads_page *page)
{
	if (page->truncated) {
		xml_upload_key(&page->out, "NextKeyMarker", page->next_key.data, page->url);
		xml_text(&page->out, "NextUploadIdMarker", page->next_id);
	}
	xml_number(&page->out, "MaxUploads", page->max);
	xml_text(&page->out, "IsTruncated", page->truncated ? "true" : "false");
	xml_close(&page->out, "ListMultipartUploadsResult");
}

void handle_list_multipart_uploads(struct request *request)
{
	struct uploads_page page = {.prefix = parameter_or_empty(request, "prefix"),
		.key_marker = parameter_or_empty(request, "key-marker"),
		.id_marker = parameter_or_empty(request, "upload-id-marker")};
	bool bad = false;

	page.url = !strcmp(parameter_or_empty(request, "encoding-type"), "url");
	page.max = request_page_max(request, "max-uploads", &bad);
	if (bad || *parameter_or_empty(request, "delimiter")) {
		reply_error(request, bad ? ERROR_INVALID_ARGUMENT : ERROR_NOT_IMPLEMENTED);
		return;
	}
	xml_begin(&page.out, "ListMultipartUploadsResult");
	xml_text(&page.out, "Bucket", request->bucket_name);
	xml_upload_key(&page.out, "KeyMarker", page.key_marker, page.url);
	xml_text(&page.out, "UploadIdMarker", page.id_marker);
	xml_upload_key(&page.out, "Prefix", page.prefix, page.url);
	if (page.url)
		xml_text(&page.out, "EncodingType", "url");
	uploads_walk(uploads_of(request->bucket), uploads_page_visit, &page);
	uploads_page_end(&page);
	reply_xml(request, 200, &page.out);
	buf_release(&page.out);
	buf_release(&page.next_key);
}
