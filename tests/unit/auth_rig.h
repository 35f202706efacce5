/*
 * auth_rig - a home of its own without any AWS setting, and a small HTTP server on loopback that
 * answers as the test's function says and keeps what it was asked.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "auth_private.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define RIG_NOON INT64_C(1772366400) /* 2026-03-01T12:00:00Z */
#define RIG_DEADLINE_MS 60000

/* ---- home
 * ------------------------------------------------------------------------------------------- */

struct home {
	char path[64];
};

/* name: below the home, as ".aws/config" */
static inline void write_at_home(const struct home *h, const char *name, const char *text)
{
	char path[256], folder[256];
	snprintf(path, sizeof(path), "%s/%s", h->path, name);
	text_copy(folder, path, sizeof(folder));
	*strrchr(folder, '/') = '\0';
	assert_int_equal(io_mkdir_p(folder, 0700), 0);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static inline void write_file(const struct home *h, const char *name, const char *text)
{
	char below[64];
	snprintf(below, sizeof(below), ".aws/%s", name);
	write_at_home(h, below, text);
}

extern char **environ;

static inline int home_begin(void **state)
{
	struct home *h = calloc(1, sizeof(*h));
	for (char **at = environ; *at;) {
		char name[128];
		size_t len = strcspn(*at, "=");
		snprintf(name, sizeof(name), "%.*s", (int)len, *at);
		if (strncmp(name, "AWS_", 4) == 0)
			unsetenv(name); /* the list moves up */
		else
			at++;
	}
	static const char *const proxies[] = {
		"http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"};
	for (size_t i = 0; i < array_len(proxies); i++)
		unsetenv(proxies[i]);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	text_copy(h->path, "/tmp/test_auth.XXXXXX", sizeof(h->path));
	if (!mkdtemp(h->path))
		return -1;
	setenv("HOME", h->path, 1);
	*state = h;
	write_file(h, "config", "");
	clock_fake_begin(RIG_NOON * NS_PER_S);
	return 0;
}

static inline int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static inline int home_end(void **state)
{
	struct home *h = *state;
	clock_fake_end();
	(void)nftw(h->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(h);
	return 0;
}
#define HOME_TEST(f) cmocka_unit_test_setup_teardown(f, home_begin, home_end)

/* ---- credentials
 * ------------------------------------------------------------------------------------- */

static inline struct auth *auth_with(const struct auth_config *config)
{
	struct auth *a = NULL;
	cleanup_free char *message = NULL;
	int err = auth_create(&a, config, &message);
	if (err)
		print_error("%s\n", message ? message : strerror(-err));
	assert_int_equal(err, 0);
	return a;
}

static inline struct auth *auth_of(const char *profile)
{
	return auth_with(&(struct auth_config){.profile = profile});
}

static inline void assert_refused(const char *profile, const char *part)
{
	struct auth *a = NULL;
	cleanup_free char *message = NULL;
	struct auth_config config = {.profile = profile};
	assert_int_equal(auth_create(&a, &config, &message), -EINVAL);
	assert_non_null(message);
	if (!strstr(message, part))
		print_error("\"%s\" lacks \"%s\"\n", message, part);
	assert_non_null(strstr(message, part));
}

static inline void assert_keys(
	struct auth *a, const char *access, const char *secret, const char *token)
{
	struct s3_credentials keys;
	int err = auth_get(a, &keys);
	char why[512];
	auth_explain(a, why);
	if (err)
		print_error("no keys: %s\n", why);
	assert_int_equal(err, 0);
	assert_string_equal(keys.access_key, access);
	assert_string_equal(keys.secret_key, secret);
	assert_string_equal(keys.session_token, token);
	assert_false(keys.anonymous);
}

/* Every secret of these tests begins with SECRET. */
static inline void assert_no_secret(const char *text)
{
	for (const char *at = text; (at = strstr(at, "SECRET")); at++)
		assert_true(at >= text + 4 && strncmp(at - 4, "AWS_SECRET_ACCESS_KEY", 21) == 0);
}

static inline void assert_describes(struct auth *a, const char *part)
{
	char text[256];
	auth_describe(a, text);
	if (!strstr(text, part))
		print_error("\"%s\" lacks \"%s\"\n", text, part);
	assert_non_null(strstr(text, part));
	assert_no_secret(text);
}

static inline void assert_explains(struct auth *a, const char *part)
{
	char text[512];
	auth_explain(a, text);
	if (!strstr(text, part))
		print_error("\"%s\" lacks \"%s\"\n", text, part);
	assert_non_null(strstr(text, part));
	assert_no_secret(text);
}

/* ---- a server
 * ---------------------------------------------------------------------------------------- */

struct server_request {
	char head[16384]; /* request line and headers, with \r\n */
	char body[65536];
};

/* Writes the whole answer, status line and all, for the n-th request (from 0). */
typedef void server_answer_fn(
	void *user, unsigned n, const struct server_request *req, struct buf *out);

#define SERVER_REQUESTS_MAX 512

struct aws_server {
	server_answer_fn *answer;
	void *user;
	int listen_fd, stop_fd[2];
	unsigned port;
	char url[64];
	struct thread *thread;
	/* readable when no request is under way */
	struct server_request *requests[SERVER_REQUESTS_MAX];
	unsigned count;
};

static inline void server_read(int fd, struct server_request *r)
{
	char text[sizeof(r->head) + sizeof(r->body)];
	size_t len = 0, wanted = 0;
	char *end = NULL;
	while (!end || len < wanted) {
		ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
		if (n <= 0)
			break;
		len += (size_t)n;
		text[len] = '\0';
		if (!end && (end = strstr(text, "\r\n\r\n"))) {
			char *length = strcasestr(text, "\r\ncontent-length:");
			wanted = (size_t)(end + 4 - text) +
				 (length && length < end ? strtoul(length + 17, NULL, 10) : 0);
		}
	}
	if (!end)
		return;
	snprintf(r->head, sizeof(r->head), "%.*s", (int)(end + 2 - text), text);
	snprintf(r->body, sizeof(r->body), "%s", end + 4);
}

static inline void server_serve(struct aws_server *s, int fd)
{
	cleanup_buf struct buf out = {0};
	struct server_request *r = calloc(1, sizeof(*r));
	unsigned n = s->count;
	server_read(fd, r);
	if (!r->head[0] || n == SERVER_REQUESTS_MAX) {
		free(r);
		return;
	}
	s->requests[n] = r;
	__atomic_store_n(&s->count, n + 1, __ATOMIC_SEQ_CST);
	s->answer(s->user, n, r, &out);
	for (size_t at = 0; at < out.len;) {
		ssize_t sent = send(fd, out.data + at, out.len - at, MSG_NOSIGNAL);
		if (sent <= 0)
			break;
		at += (size_t)sent;
	}
}

static inline void server_run(void *user)
{
	struct aws_server *s = user;
	struct pollfd fds[] = {
		{.fd = s->listen_fd, .events = POLLIN}, {.fd = s->stop_fd[0], .events = POLLIN}};
	while (poll(fds, 2, -1) > 0 && !fds[1].revents) {
		int fd = accept(s->listen_fd, NULL, NULL);
		if (fd < 0)
			continue;
		server_serve(s, fd);
		shutdown(fd, SHUT_RDWR);
		close(fd);
	}
}

static inline void server_start(struct aws_server *s, server_answer_fn *answer, void *user)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	*s = (struct aws_server){.answer = answer, .user = user};
	s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->listen_fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(s->listen_fd, 16), 0);
	assert_int_equal(getsockname(s->listen_fd, (struct sockaddr *)&at, &len), 0);
	s->port = ntohs(at.sin_port);
	snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u", s->port);
	assert_int_equal(pipe(s->stop_fd), 0);
	assert_int_equal(thread_start(&s->thread, "server", server_run, s), 0);
}

static inline unsigned server_count(struct aws_server *s)
{
	return __atomic_load_n(&s->count, __ATOMIC_SEQ_CST);
}

static inline void server_stop(struct aws_server *s)
{
	assert_int_equal(write(s->stop_fd[1], "", 1), 1);
	thread_join(s->thread);
	close(s->listen_fd);
	close(s->stop_fd[0]);
	close(s->stop_fd[1]);
	for (unsigned i = 0; i < s->count; i++)
		free(s->requests[i]);
}

static inline void answer_with(struct buf *out, int status, const char *body)
{
	buf_printf(out, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
		status, strlen(body), body);
}

/* The value of a header of a request, "" if absent. */
static inline void header_of(
	const struct server_request *r, const char *name, char *out, size_t size)
{
	char mark[128];
	snprintf(mark, sizeof(mark), "\r\n%s:", name);
	const char *at = strcasestr(r->head, mark);
	out[0] = '\0';
	if (!at)
		return;
	at += strlen(mark);
	at += strspn(at, " ");
	snprintf(out, size, "%.*s", (int)strcspn(at, "\r"), at);
}
