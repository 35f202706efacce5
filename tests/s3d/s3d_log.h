/*
 * log - the request log (TSV) and the counters behind `GET /_s3d/stats`.
 *
 * A line is written and flushed before the reply goes out, so that a client that has its answer
 * finds the line. Columns, named in the first line:
 *
 *   time_ms connection operation bucket key query status code bytes_in bytes_out acl content_type
 *   if_match if_none_match payload checksum fault duration_ms range
 *
 * key is percent-encoded; bytes_in are those of the body on the wire, bytes_out the body announced;
 * payload is how x-amz-content-sha256 signs the body (sha256, unsigned, chunked …); checksum is
 * `crc64nvme=<base64>` as sent; absent values are `-`. Status 0: the client got no answer, code
 * says why (`Reset`, or `ClientClosed` if the client went away).
 */
#pragma once

struct request;
struct request_log;
struct buf;

/* `path` may be NULL. 0 or -errno. */
int request_log_create(const char *path, struct request_log **ret);
void request_log_destroy(struct request_log *log);
/*
 * Count the requests that are on their way (but for those to /_s3d/): from their headers until just
 * before the reply goes out, or, for object data and stalled replies, until all is sent.
 */
void request_log_begin(struct request_log *log, const struct request *request);
void request_log_end(struct request_log *log, const struct request *request);
void request_log_write(struct request_log *log, const struct request *request, int status,
	const char *code);
/* `"requests": {"PutObject": {"200": 3}}, …` */
void request_log_stats(struct request_log *log, struct buf *json);
