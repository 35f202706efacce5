/*
 * http - libmicrohttpd on one side, requests on the other; plays the faults of the connection.
 *
 * One thread per connection, so that a fault (or a slow disk) may block where it is. The life of a
 * request: http_uri() (request line read) → http_access() first call (headers read: prepared) →
 * further calls (body) → last call (no more data: handled, answered) → http_completed().
 *
 * A request that fails by its headers is answered at once if the client waits for 100 Continue,
 * else after its body was read: closing a connection with unread data would cost the client the
 * answer. Replies that HTTP forbids are written to the socket past libmicrohttpd.
 */
#include "s3d_log.h"
#include "s3d_server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTION_MEMORY_BYTES (256 << 10)
#define CONNECTION_TIMEOUT_S 600
#define CONNECTIONS_MAX 4096
#define WAIT_STEP_MS 5

static _Atomic unsigned long request_count, connection_count;

static int request_fd(const struct request *request)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->connection,
		MHD_CONNECTION_INFO_CONNECTION_FD);

	return info ? info->connect_fd : -1;
}

/* --- waiting --- */

static bool request_client_left(const struct request *request)
{
	struct pollfd poll_fd = {.fd = request_fd(request), .events = POLLRDHUP};

	return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/*
 * Waits `ms` (FAULT_FOREVER: without end), or until `path` exists (NULL: no such condition), or the
 * server stops; or, if that matters here, the client leaves. False if the request should end.
 */
static bool request_wait(const struct request *request, int64_t ms, const char *path,
	bool watch_client)
{
	int64_t end_ms = ms == FAULT_FOREVER ? INT64_MAX : time_monotonic_ms() + ms + (ms > 0);

	while (!request->server->stopping) {
		int64_t left_ms = end_ms - time_monotonic_ms();

		if (left_ms <= 0 || (path && !access(path, F_OK)))
			return true;
		if (watch_client && request_client_left(request))
			return false;
		(void)poll(NULL, 0, left_ms < WAIT_STEP_MS ? (int)left_ms : WAIT_STEP_MS);
	}
	return false;
}

/* --- ends without an answer --- */

static void request_count_end(struct request *request)
{
	if (!request->counted)
		return;
	request->counted = false;
	request_log_end(request->server->log, request);
}

/* Nothing of the request is left, and its line is in the log, when the client sees the end. */

static void request_log_unanswered(struct request *request, const char *code)
{
	if (request->finished)
		return;
	request->finished = true;
	temp_discard(&request->body.temp);
	request_log_write(request->server->log, request, 0, code);
	request_count_end(request);
}

/* Disconnecting a TCP socket (RFC 793 "abort") sends RST at once; the descriptor stays open. */
static enum MHD_Result request_reset(struct request *request)
{
	const struct sockaddr nothing = {.sa_family = AF_UNSPEC};

	request_log_unanswered(request, "Reset");
	(void)connect(request_fd(request), &nothing, sizeof(nothing));
	return MHD_NO;
}

static enum MHD_Result request_hang_up(struct request *request)
{
	request_log_unanswered(request, "Closed");
	(void)shutdown(request_fd(request), SHUT_RDWR);
	return MHD_NO;
}

/* --- answering --- */

static bool request_is_head(const struct request *request)
{
	return !strcmp(request->method, "HEAD");
}

static void reply_common_headers(struct request *request)
{
	char date[40];

	time_format_http(request->now_ms, date, sizeof(date));
	reply_header(request, "Date", "%s", date);
	reply_header(request, "Server", "s3d");
	reply_header(request, "x-amz-request-id", "%016lX", request->id);
	if (request->reply.error && request->sig.payload == SIG_PAYLOAD_NONE)
		reply_header(request, "x-amz-bucket-region", "%s",
			request->server->options.region);
}

/* HEAD has no body, so no error either. */
static void reply_trim_head(struct request *request)
{
	struct reply *reply = &request->reply;

	if (request_is_head(request) && reply->status >= 300) {
		buf_release(&reply->body);
		reply->length_bytes = 0;
	}
}

static ssize_t no_content(void *cls, uint64_t position, char *buffer, size_t size)
{
	(void)cls;
	(void)position;
	(void)buffer;
	(void)size;
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

static struct MHD_Response *reply_to_response(struct request *request)
{
	struct reply *reply = &request->reply;
	struct MHD_Response *response;
	size_t len = reply->body.len;

	if (request_is_head(request) && reply->length_bytes != len)
		return MHD_create_response_from_callback(reply->length_bytes, 1024, no_content,
			NULL, NULL);
	if (reply->fd < 0)
		return MHD_create_response_from_buffer(len, buf_steal(&reply->body),
			MHD_RESPMEM_MUST_FREE);
	response = MHD_create_response_from_fd_at_offset64(reply->length_bytes, reply->fd,
		reply->fd_offset);
	if (response)
		reply->fd = -1;
	return response;
}

static enum MHD_Result reply_send(struct request *request)
{
	struct MHD_Response *response = reply_to_response(request);
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	for (size_t i = 0; i < request->reply.headers_len; i++) {
		const struct header *header = &request->reply.headers[i];

		(void)MHD_add_response_header(response, header->name, header->value);
	}
	result = MHD_queue_response(request->connection, (unsigned)request->reply.status, response);
	MHD_destroy_response(response);
	return result;
}

/* --- answering against the rules --- */

static bool socket_write(int fd, const char *data, size_t len)
{
	while (len) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		if (n < 0 && poll(&poll_fd, 1, 60000) <= 0)
			return false;
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return true;
}

static bool reply_write_range(struct request *request, uint64_t from, uint64_t to)
{
	const struct reply *reply = &request->reply;
	int fd = request_fd(request);
	char data[65536];

	if (reply->fd < 0)
		return socket_write(fd, reply->body.data + from, to - from);
	while (from < to) {
		size_t want = to - from < sizeof(data) ? (size_t)(to - from) : sizeof(data);
		ssize_t n = pread(reply->fd, data, want, (off_t)(reply->fd_offset + from));

		if (n <= 0 || !socket_write(fd, data, (size_t)n))
			return false;
		from += (uint64_t)n;
	}
	return true;
}

static void reply_format_head(struct request *request, struct buf *head)
{
	const struct reply *reply = &request->reply;
	int64_t announced = (int64_t)reply->length_bytes;

	if (request->fault.has_wrong_length)
		announced += request->fault.wrong_length_delta_bytes;
	buf_printf(head, "HTTP/1.1 %d Scripted\r\n", reply->status);
	for (size_t i = 0; i < reply->headers_len; i++)
		buf_printf(head, "%s: %s\r\n", reply->headers[i].name, reply->headers[i].value);
	buf_printf(head, "Content-Length: %lld\r\n\r\n",
		(long long)(announced < 0 ? 0 : announced));
}

/*
 * The headers, the body up to where the fault strikes, a pause or the end. A reply without a body
 * stalls before the last line of its headers: else the client would have it all.
 */
static enum MHD_Result reply_send_raw(struct request *request)
{
	const struct fault *fault = &request->fault;
	uint64_t len = request_is_head(request) ? 0 : request->reply.length_bytes, strike = len;
	AUTO(buf_release) struct buf head = {0};
	int fd = request_fd(request);
	size_t held = len || !fault->stall_ms ? 0 : 2;

	if (fault->stall_ms && (uint64_t)fault->after_bytes < strike)
		strike = (uint64_t)fault->after_bytes;
	if (fault->has_cut_body && (uint64_t)fault->cut_body_bytes < strike)
		strike = (uint64_t)fault->cut_body_bytes;
	reply_format_head(request, &head);
	if (!socket_write(fd, head.data, head.len - held) ||
		!reply_write_range(request, 0, strike))
		return MHD_NO;
	if (fault->stall_ms && !request_wait(request, fault->stall_ms, NULL, true))
		return MHD_NO;
	(void)socket_write(fd, head.data + head.len - held, held); /* closed next in any case */
	if (!fault->has_cut_body)
		(void)reply_write_range(request, strike, len); /* likewise */
	(void)shutdown(request_fd(request), SHUT_WR);
	return MHD_NO;
}

static bool stalls_request(const struct request *request)
{
	const struct fault *fault = &request->fault;

	return fault->stall_ms && (fault->of == FAULT_OF_REQUEST ||
		(fault->of == FAULT_OF_DEFAULT && request->operation->body != BODY_NONE));
}

static enum MHD_Result request_answer(struct request *request)
{
	const struct fault *fault = &request->fault;
	struct reply *reply = &request->reply;

	reply_trim_head(request);
	reply_common_headers(request);
	request->finished = true;
	temp_discard(&request->body.temp);
	request_log_write(request->server->log, request, reply->status, reply->code);
	if (reply->fd < 0 && !fault->stall_ms)
		request_count_end(request);
	if (fault->has_wrong_length || fault->has_cut_body ||
		(fault->stall_ms && !stalls_request(request)))
		return reply_send_raw(request);
	return reply_send(request);
}

/* --- the way of a request --- */

static void request_handle(struct request *request)
{
	if (!request->error && request->operation->body != BODY_NONE)
		request->error = body_finish(&request->body);
	if (fault_prevents(&request->fault))
		return;
	if (request->error)
		reply_error(request, request->error);
	else
		request->operation->handle(request);
}

/* Waits for the fault's file; that the request has come so far shows by another with `.held`. */
static bool request_hold(const struct request *request, bool watch_client)
{
	const char *path = request->fault.hold_path;
	AUTO(free_str) char *mark = str_printf("%s.held", path);
	int fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	if (fd >= 0)
		close(fd);
	return request_wait(request, FAULT_FOREVER, path, watch_client);
}

static bool request_holds(const struct request *request, enum fault_point point)
{
	enum fault_point at = request->fault.at;

	if (!request->fault.hold_path[0])
		return false;
	return at == point || (at == FAULT_AT_DEFAULT && point == FAULT_AT_BEFORE_APPLY);
}

/* All came in: handle and answer. A hold goes on when the client has left, as a server would. */
static enum MHD_Result request_finish(struct request *request)
{
	const struct fault *fault = &request->fault;

	(void)request_wait(request, request->server->options.delay_ms + fault->delay_ms, NULL,
		false); /* ends early only when the server stops */
	if (fault->reset_before)
		return request_reset(request);
	if (request_holds(request, FAULT_AT_BEFORE_APPLY) && !request_hold(request, false))
		return request_hang_up(request);
	request_handle(request);
	if (request_holds(request, FAULT_AT_AFTER_APPLY) && !request_hold(request, false))
		return request_hang_up(request);
	if (fault->reset_after)
		return request_reset(request);
	reply_play_fault(request);
	return request_answer(request);
}

/* Faults in the middle of the request's body, once so many bytes came in. */
static enum MHD_Result request_play_mid_body(struct request *request)
{
	struct fault *fault = &request->fault;

	if (!fault->active || request->body.wire_bytes < (uint64_t)fault->after_bytes)
		return MHD_YES;
	if (request_holds(request, FAULT_AT_MID_BODY)) {
		if (!request_hold(request, true))
			return request_hang_up(request);
		fault->hold_path[0] = '\0';
	}
	if (stalls_request(request)) {
		if (!request_wait(request, fault->stall_ms, NULL, true))
			return request_hang_up(request);
		fault->stall_ms = 0;
	}
	if (fault->reset_before && fault->at == FAULT_AT_MID_BODY)
		return request_reset(request);
	return MHD_YES;
}

static bool request_expects_continue(const struct request *request)
{
	const char *expect = request_header(request, "expect");

	return expect && !strcasecmp(expect, "100-continue");
}

/* Headers are in. Either an answer already, or on with the body. */
static enum MHD_Result request_begin(struct request *request)
{
	const struct fault *fault = &request->fault;

	request_prepare(request);
	request->prepared = true;
	request->counted = true;
	request_log_begin(request->server->log, request);
	if (fault->at == FAULT_AT_HEADERS && fault->reset_before)
		return request_reset(request);
	if ((fault->at == FAULT_AT_HEADERS && fault_prevents(fault)) ||
		(request->error && request_expects_continue(request)))
		return request_finish(request);
	return MHD_YES;
}

/* --- libmicrohttpd's callbacks --- */

static void *http_uri(void *cls, const char *uri, struct MHD_Connection *connection)
{
	struct request *request = mem_zalloc(sizeof(*request));
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	request->server = cls;
	request->connection = connection;
	request->connection_id = info ? (unsigned long)(uintptr_t)info->socket_context : 0;
	request->id = ++request_count;
	request->started_ms = time_monotonic_ms();
	request->reply = (struct reply){.fd = -1, .code = ""};
	request->body.temp.fd = -1;
	request_split_uri(request, uri);
	return request;
}

static enum MHD_Result http_access(void *cls, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *upload_data, size_t *upload_data_size,
	void **request_cls)
{
	struct request *request = *request_cls;

	(void)cls;
	(void)connection;
	(void)url;
	(void)version;
	if (!request->prepared) {
		request->method = str_dup(method);
		return request_begin(request);
	}
	if (!*upload_data_size)
		return request_finish(request);
	body_feed(&request->body, upload_data, *upload_data_size);
	*upload_data_size = 0;
	return request_play_mid_body(request);
}

static void http_completed(void *cls, struct MHD_Connection *connection, void **request_cls,
	enum MHD_RequestTerminationCode code)
{
	struct request *request = *request_cls;

	(void)cls;
	(void)connection;
	(void)code;
	if (!request)
		return;
	if (request->prepared)
		request_log_unanswered(request, "ClientClosed");
	request_count_end(request);
	request_release(request);
	*request_cls = NULL;
}

static void http_connection(void *cls, struct MHD_Connection *connection, void **socket_cls,
	enum MHD_ConnectionNotificationCode code)
{
	(void)cls;
	(void)connection;
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		*socket_cls = (void *)(uintptr_t)++connection_count;
}

/* URIs and queries are decoded here, by s3d_dispatch.c, not by the library. */
static size_t http_unescape(void *cls, struct MHD_Connection *connection, char *text)
{
	(void)cls;
	(void)connection;
	return strlen(text);
}

int server_run(struct server *server, int listen_fd, int stop_fd)
{
	struct pollfd stop = {.fd = stop_fd, .events = POLLIN};
	struct MHD_Daemon *daemon = MHD_start_daemon(
		MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_ITC |
			MHD_USE_SUPPRESS_DATE_NO_CLOCK,
		0, NULL, NULL, http_access, server, MHD_OPTION_LISTEN_SOCKET, listen_fd,
		MHD_OPTION_URI_LOG_CALLBACK, http_uri, server, MHD_OPTION_NOTIFY_COMPLETED,
		http_completed, server, MHD_OPTION_NOTIFY_CONNECTION, http_connection, server,
		MHD_OPTION_UNESCAPE_CALLBACK, http_unescape, server,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CONNECTION_TIMEOUT_S,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_END);

	if (!daemon)
		return -EIO;
	while (poll(&stop, 1, -1) < 0 && errno == EINTR)
		;
	server->stopping = true;
	MHD_stop_daemon(daemon);
	return 0;
}
