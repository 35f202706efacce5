/*
 * Signature Version 4 for requests that are not the bucket's: STS and S3 Control have the same
 * scheme with another service name, and a body of a few hundred bytes at most.
 */
#include "cpgfs/s3.h"

#include "s3_sign.h"

static void add_headers(struct s3_headers *h, const struct s3_credentials *keys,
	const struct s3_other_request *req, const char *date, const char *payload)
{
	s3_headers_add(h, "host", req->host);
	s3_headers_add(h, "x-amz-content-sha256", payload);
	s3_headers_add(h, "x-amz-date", date);
	if (req->content_type)
		s3_headers_add(h, "content-type", req->content_type);
	if (req->account_id)
		s3_headers_add(h, "x-amz-account-id", req->account_id);
	if (keys->session_token[0])
		s3_headers_add(h, "x-amz-security-token", keys->session_token);
}

static void write_lines(
	struct buf *out, const struct s3_headers *h, const struct buf *authorization)
{
	for (size_t i = 0; i < h->count; i++)
		if (strcmp(h->items[i].name, "host") != 0) /* the HTTP library's */
			buf_printf(out, "%s: %s\n", h->items[i].name, s3_headers_value(h, i));
	buf_printf(out, "authorization: %s\n", buf_text(authorization));
}

int s3_sign_other(struct buf *ret_lines, const struct s3_credentials *keys,
	const struct s3_other_request *req)
{
	struct s3_headers headers;
	struct s3_signing_key key = {.scope = ""};
	cleanup_buf struct buf authorization = {.wipes = true};
	uint8_t digest[32];
	char payload[65], date[17];
	sha256_of(req->body ? req->body : "", req->body_len, digest);
	hex_encode(digest, sizeof(digest), payload);
	s3_sign_date(req->wall_ns, date);
	s3_headers_init(&headers);
	add_headers(&headers, keys, req, date, payload);
	struct s3_sign_input in = {
		.method = req->method,
		.path = req->path,
		.query = req->query ? req->query : "",
		.headers = &headers,
		.payload = payload,
		.date = date,
		.region = req->region,
		.service = req->service,
	};
	int err = buf_error(&headers.values);
	if (!err)
		err = s3_sign(&authorization, &key, keys->access_key, keys->secret_key, &in);
	if (!err) {
		write_lines(ret_lines, &headers, &authorization);
		err = buf_error(ret_lines);
	}
	s3_signing_key_wipe(&key);
	s3_headers_release(&headers);
	return err;
}
