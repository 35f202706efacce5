/*
 * One attempt: signing, curl's options, and the callbacks by which curl asks for the body and
 * hands over the answer. All but create and destroy runs on the loop thread.
 *
 * curl repeats a request by itself when a kept connection turns out to be dead. That is fine as
 * long as the request had not left completely; afterwards the first copy may have been applied, so
 * a change is never sent twice: the pre-request hook refuses, and the outcome is unknown to the
 * caller.
 */
#include "s3_client.h"

/* Measured: from 256 KiB up a PUT costs the same CPU. curl allocates it for each request anew. */
#define UPLOAD_BUFFER_BYTES (256L * 1024)
#define UPLOAD_BUFFER_MIN_BYTES (16L * 1024) /* curl's least */
#define GET_BUFFER_BYTES (256L * 1024)
#define ANSWER_BUFFER_BYTES (32L * 1024)

/* ---- life ---------------------------------------------------------------------------------------- */

int s3_transfer_create(struct s3_transfer **ret, struct s3_client *client,
	const struct s3_request *req, s3_done_fn *done, void *user)
{
	struct s3_transfer *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	int err = s3_wire_init(&t->wire, &client->endpoint, req);
	if (err) {
		free(t);
		return err;
	}
	t->client = client;
	t->body = req->body;
	t->body_len_bytes = 0;
	if (req->op == S3_PUT || req->op == S3_UPLOAD_PART)
		t->body_len_bytes = req->body.len_bytes;
	else if (req->op == S3_COMPLETE_MULTIPART)
		t->body_len_bytes = t->wire.xml.len;
	t->sink = req->sink;
	t->timeout_ms = req->timeout_ms;
	t->done = done;
	t->user = user;
	t->started_ms = clock_mono_ms();
	s3_answer_init(&t->answer);
	*ret = t;
	return 0;
}

void s3_transfer_destroy(struct s3_transfer *t)
{
	s3_wire_release(&t->wire);
	s3_answer_release(&t->answer);
	curl_slist_free_all(t->lines);
	s3_ring_unref(t->ring);
	free(t);
}

bool s3_transfer_is_sent(const struct s3_transfer *t)
{
	return t->issued && (t->handed_over || !t->body_len_bytes);
}

/* ---- curl asks -------------------------------------------------------------------------------------- */

static int on_request(void *user, char *ip, char *local_ip, int port, int local_port)
{
	struct s3_transfer *t = user;
	if (s3_transfer_is_sent(t) && s3_op_changes_bucket(t->wire.asked.op)) {
		t->stop = S3_STOP_RESENT;
		return CURL_PREREQFUNC_ABORT;
	}
	t->issued = true;
	return CURL_PREREQFUNC_OK;
}

static size_t read_xml(struct s3_transfer *t, char *to, size_t room)
{
	size_t left = (size_t)(t->body_len_bytes - t->body_at_bytes);
	size_t n = left < room ? left : room;
	memcpy(to, t->wire.xml.data + t->body_at_bytes, n);
	return n;
}

static ssize_t read_file(struct s3_transfer *t, char *to, size_t room)
{
	uint64_t left = t->body_len_bytes - t->body_at_bytes;
	size_t wanted = left < room ? (size_t)left : room;
	ssize_t n = io_pread(t->body.fd, to, wanted, t->body.offset_bytes + t->body_at_bytes);
	if (n < 0)
		t->stop = S3_STOP_BODY_READ_FAILED;
	else if ((size_t)n < wanted)
		t->stop = S3_STOP_BODY_TOO_SHORT;
	return t->stop == S3_STOP_NONE ? n : -1;
}

static size_t on_read(char *to, size_t size, size_t count, void *user)
{
	struct s3_transfer *t = user;
	size_t room = size * count;
	ssize_t n = 0;
	if (t->body_at_bytes == t->body_len_bytes)
		return 0;
	if (t->wire.xml.len)
		n = (ssize_t)read_xml(t, to, room);
	else
		n = read_file(t, to, room);
	if (n < 0)
		return CURL_READFUNC_ABORT;
	t->body_at_bytes += (uint64_t)n;
	if (t->body_at_bytes == t->body_len_bytes)
		t->handed_over = true;
	return (size_t)n;
}

static int on_seek(void *user, curl_off_t offset, int origin)
{
	struct s3_transfer *t = user;
	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->body_len_bytes)
		return CURL_SEEKFUNC_CANTSEEK;
	t->body_at_bytes = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* ---- curl answers ------------------------------------------------------------------------------------- */

static size_t on_header(char *line, size_t size, size_t count, void *user)
{
	struct s3_transfer *t = user;
	s3_answer_header(&t->answer, line, size * count);
	return size * count;
}

static bool is_for_sink(const struct s3_transfer *t)
{
	int status = t->answer.reply.http_status;
	return t->wire.asked.op == S3_GET && (status == 200 || status == 206);
}

static bool give_to_sink(struct s3_transfer *t, const char *data, size_t len)
{
	uint64_t off = t->answer.reply.bytes_received;
	if (!off)
		t->stop = s3_answer_check_get(&t->answer, &t->wire.asked);
	if (t->stop == S3_STOP_NONE && t->sink.write && t->sink.write(t->sink.user, off, data, len))
		t->stop = S3_STOP_SINK_FAILED;
	return t->stop == S3_STOP_NONE;
}

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
	struct s3_transfer *t = user;
	size_t len = size * count;
	if (is_for_sink(t)) {
		if (!give_to_sink(t, data, len))
			return 0;
	} else {
		buf_add(&t->answer.body, data, len);
		if (t->answer.body.error)
			return 0;
	}
	t->answer.reply.bytes_received += len;
	return len;
}

/* ---- signing -------------------------------------------------------------------------------------------- */

/* Signed payload where its hash is known; unsigned only where the server proves what it got. */
static const char *choose_payload(struct s3_transfer *t)
{
	if (t->wire.payload[0])
		return t->wire.payload;
	if (s3_facts_wants_sha256(t->client) || !t->wire.asked.sent_crc)
		return NULL;
	t->wire.asked.payload_unsigned = true;
	return S3_UNSIGNED_PAYLOAD;
}

static int sign(struct s3_transfer *t, struct buf *authorization)
{
	const struct s3_endpoint *e = &t->client->endpoint;
	struct s3_headers *h = &t->wire.headers;
	const struct s3_credentials *keys = &t->ring->credentials;
	const char *payload = choose_payload(t);
	char date[17];
	if (!payload) {
		t->stop = S3_STOP_PAYLOAD_HASH_NEEDED;
		return -EAGAIN;
	}
	if (keys->anonymous)
		return 0;
	s3_sign_date(clock_wall_ns() + t->client->clock_offset_ns, date);
	s3_headers_add(h, "x-amz-date", date);
	s3_headers_add(h, "x-amz-content-sha256", payload);
	if (keys->session_token[0])
		s3_headers_add(h, "x-amz-security-token", keys->session_token);
	if (h->values.error)
		return h->values.error;
	struct s3_sign_input in = {
		.method = t->wire.method,
		.path = buf_text(&t->wire.path),
		.query = buf_text(&t->wire.query),
		.headers = h,
		.payload = payload,
		.date = date,
		.region = e->region,
		.service = "s3",
	};
	return s3_sign(
		authorization, &t->ring->signing_key, keys->access_key, keys->secret_key, &in);
}

/* ---- curl's options ----------------------------------------------------------------------------------------- */

static int add_line(struct s3_transfer *t, struct buf *line, const char *name, const char *value)
{
	buf_clear(line);
	buf_printf(line, "%s: %s", name, value);
	if (buf_error(line))
		return buf_error(line);
	struct curl_slist *longer = curl_slist_append(t->lines, line->data);
	if (!longer)
		return -ENOMEM;
	t->lines = longer;
	return 0;
}

static int make_lines(struct s3_transfer *t)
{
	cleanup_buf struct buf authorization = {.wipes = true};
	cleanup_buf struct buf line = {.wipes = true};
	int err = sign(t, &authorization);
	for (size_t i = 0; !err && i < t->wire.headers.count; i++)
		err = add_line(t, &line, t->wire.headers.items[i].name,
			s3_headers_value(&t->wire.headers, i));
	if (!err && authorization.len)
		err = add_line(t, &line, "Authorization", authorization.data);
	/* without a value curl leaves its own header out */
	struct curl_slist *longer = err ? NULL : curl_slist_append(t->lines, "Expect:");
	if (!err && !longer)
		err = -ENOMEM;
	if (longer)
		t->lines = longer;
	return err;
}

static int set_url(struct s3_transfer *t, CURL *easy)
{
	cleanup_buf struct buf url;
	buf_init(&url, 0);
	buf_add_text(&url, t->client->endpoint.root);
	buf_add(&url, t->wire.path.data, t->wire.path.len);
	if (t->wire.query.len)
		buf_printf(&url, "?%s", t->wire.query.data);
	if (buf_error(&url))
		return buf_error(&url);
	return curl_easy_setopt(easy, CURLOPT_URL, url.data) ? -ENOMEM : 0;
}

static long send_buffer_bytes(const struct s3_transfer *t)
{
	if (t->body_len_bytes <= UPLOAD_BUFFER_MIN_BYTES)
		return UPLOAD_BUFFER_MIN_BYTES;
	return t->body_len_bytes < UPLOAD_BUFFER_BYTES ? (long)t->body_len_bytes : UPLOAD_BUFFER_BYTES;
}

/* HEAD, GET (and what has no body), or an upload under whatever method. */
static CURLcode set_method(struct s3_transfer *t, CURL *easy)
{
	bool is_head = strcmp(t->wire.method, "HEAD") == 0;
	bool sends = strcmp(t->wire.method, "PUT") == 0 || strcmp(t->wire.method, "POST") == 0;
	CURLcode bad = curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L); /* unsets NOBODY and UPLOAD */
	if (is_head)
		bad |= curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	if (sends) {
		bad |= curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
		bad |= curl_easy_setopt(
			easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->body_len_bytes);
	}
	if (sends)
		bad |= curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, send_buffer_bytes(t));
	bad |= curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, is_head ? NULL : t->wire.method);
	return bad;
}

static CURLcode set_callbacks(struct s3_transfer *t, CURL *easy)
{
	CURLcode bad = curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
	bad |= curl_easy_setopt(easy, CURLOPT_PREREQDATA, t);
	bad |= curl_easy_setopt(easy, CURLOPT_READDATA, t);
	bad |= curl_easy_setopt(easy, CURLOPT_SEEKDATA, t);
	bad |= curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
	bad |= curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
	bad |= curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->curl_text);
	return bad;
}

static int take_credentials(struct s3_transfer *t)
{
	int err = s3_ring_get(&t->ring, t->client);
	if (err == -EKEYEXPIRED)
		t->stop = S3_STOP_EXPIRED_CREDENTIALS;
	else if (err && err != -ENOMEM && err != -EAGAIN)
		t->stop = S3_STOP_NO_CREDENTIALS;
	return err;
}

int s3_transfer_prepare(struct s3_transfer *t, CURL *easy)
{
	int err = take_credentials(t);
	if (err == -EAGAIN)
		return err;
	if (!err)
		err = make_lines(t);
	if (!err)
		err = set_url(t, easy);
	if (!err) {
		CURLcode bad = set_method(t, easy);
		bad |= set_callbacks(t, easy);
		bad |= curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->lines);
		bad |= curl_easy_setopt(easy, CURLOPT_BUFFERSIZE,
			t->wire.asked.op == S3_GET ? GET_BUFFER_BYTES : ANSWER_BUFFER_BYTES);
		bad |= curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)t->timeout_ms);
		err = bad ? -ENOMEM : 0;
	}
	if (err && t->stop == S3_STOP_NONE)
		t->stop = S3_STOP_NO_MEMORY;
	return err;
}

int s3_transfer_easy_create(CURL **ret, const struct s3_client *client)
{
	CURL *easy = curl_easy_init();
	if (!easy)
		return -ENOMEM;
	CURLcode bad = curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	bad |= curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	bad |= curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	bad |= curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	bad |= curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	bad |= curl_easy_setopt(easy, CURLOPT_USERAGENT, "cpgfs/" CPGFS_VERSION);
	bad |= curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	bad |= curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	bad |= curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
	bad |= curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 15L);
	bad |= curl_easy_setopt(easy, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);
	bad |= curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, client->connect_timeout_ms);
	bad |= curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	bad |= curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, client->stall_timeout_s);
	bad |= curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request);
	bad |= curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
	bad |= curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
	bad |= curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	bad |= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	if (client->ca_bundle)
		bad |= curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_bundle);
	if (bad) {
		curl_easy_cleanup(easy);
		return -ENOMEM;
	}
	*ret = easy;
	return 0;
}
