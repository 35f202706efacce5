/*
 * buckets - ListBuckets, HeadBucket, CreateBucket, location and versioning of a bucket.
 */
#include "s3d_server.h"
#include "s3d_xml.h"

#include <string.h>

void handle_list_buckets(struct request *request)
{
	AUTO(buf_release) struct buf out = {0};
	struct store *store = request->server->store;
	struct bucket *bucket;

	xml_begin(&out, "ListAllMyBucketsResult");
	buf_str(&out, "<Owner><ID>" OWNER_ID "</ID></Owner><Buckets>");
	for (size_t i = 0; (bucket = store_bucket_at(store, i)); i++) {
		xml_open(&out, "Bucket");
		xml_text(&out, "Name", bucket_name(bucket));
		xml_time(&out, "CreationDate", bucket_created_ms(bucket));
		xml_close(&out, "Bucket");
	}
	xml_close(&out, "Buckets");
	xml_close(&out, "ListAllMyBucketsResult");
	reply_xml(request, 200, &out);
}

void handle_head_bucket(struct request *request)
{
	request->reply.status = 200;
	reply_header(request, "x-amz-bucket-region", "%s", request->server->options.region);
}

void handle_create_bucket(struct request *request)
{
	struct bucket *bucket;

	if (request->bucket) {
		reply_error(request, ERROR_BUCKET_OWNED);
		return;
	}
	if (store_bucket_create(request->server->store, request->bucket_name, &bucket)) {
		reply_error(request, ERROR_INVALID_BUCKET_NAME);
		return;
	}
	request->reply.status = 200;
	reply_header(request, "Location", "/%s", request->bucket_name);
}

void handle_get_bucket_location(struct request *request)
{
	AUTO(buf_release) struct buf out = {0};
	const char *region = request->server->options.region;

	xml_begin(&out, "LocationConstraint");
	buf_str(&out, strcmp(region, "us-east-1") ? region : "");
	xml_close(&out, "LocationConstraint");
	reply_xml(request, 200, &out);
}

void handle_get_bucket_versioning(struct request *request)
{
	AUTO(buf_release) struct buf out = {0};

	xml_begin(&out, "VersioningConfiguration");
	xml_close(&out, "VersioningConfiguration");
	reply_xml(request, 200, &out);
}
