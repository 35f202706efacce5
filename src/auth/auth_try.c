/*
 * From a recipe to credentials: the first source, then its roles in order, then the grant. Every
 * step asks anew: what lies between lives for hours at most, and a renewal is rare.
 */
#include "auth_try.h"

#include "auth_keys.h"

#include <fcntl.h>
#include <sys/stat.h>

#define LOG_ROOM "auth"
#define CONNECT_MS 10000
#define ANSWER_MS 30000
#define CLOCK_CORRECTION_MIN_NS (60 * NS_PER_S)
#define TOKEN_MAX_BYTES (64 * KIB)

int auth_fail(struct auth_try *t, int err, const char *remedy, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(t->why.error, sizeof(t->why.error), fmt, args);
	va_end(args);
	if (n < 0)
		t->why.error[0] = '\0';
	for (char *c = t->why.error; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
	text_copy(t->why.remedy, remedy ? remedy : "", sizeof(t->why.remedy));
	return err;
}

int64_t auth_try_now_ns(const struct auth_try *t)
{
	return clock_wall_ns() + t->clock_offset_ns;
}

/* ---- asking --------------------------------------------------------------------------------- */

int auth_ask(struct auth_try *t, struct auth_request *req, struct auth_answer *ret)
{
	struct auth_url url;
	if (auth_url_parse(&url, req->url)) {
		*ret = (struct auth_answer){.status = 0};
		return auth_fail(
			t, -EINVAL, "correct it", "%.200s is no http or https address", req->url);
	}
	if (!req->connect_timeout_ms)
		req->connect_timeout_ms = CONNECT_MS;
	if (!req->timeout_ms)
		req->timeout_ms = ANSWER_MS;
	req->ca_bundle = t->recipe->ca_bundle;
	req->stop = t->stop;
	int err = auth_fetch(req, ret);
	log_debug("%s %s: %s%d", req->method, url.base, err ? "error " : "status ",
		err ? err : ret->status);
	if (err == -ECANCELED || err == -ENOMEM)
		return err;
	if (err == -EINVAL)
		return auth_fail(t, err, "see AWS_CA_BUNDLE and the endpoint", "%.200s: %s",
			url.host, ret->error);
	return err ? auth_fail(t, -EAGAIN, NULL, "%.200s: %s", url.host, ret->error) : 0;
}

static int sign(struct auth_try *t, const struct s3_credentials *keys,
	struct s3_other_request *other, struct buf *lines)
{
	if (!keys) {
		buf_printf(lines, "content-type: %s\n", other->content_type);
		return buf_error(lines);
	}
	other->wall_ns = auth_try_now_ns(t);
	return s3_sign_other(lines, keys, other);
}

static int ask_once(struct auth_try *t, const struct s3_credentials *keys,
	const struct auth_url *url, struct s3_other_request *other, struct auth_answer *ret)
{
	cleanup_buf struct buf lines = {.wipes = true};
	cleanup_free char *whole = NULL;
	cleanup_free char *path = NULL;
	int err = text_printf(&path, "%s%s", url->path, other->path);
	if (!err)
		err = text_printf(&whole, "%s%s%s%s", url->base, other->path,
			other->query ? "?" : "", other->query ? other->query : "");
	*ret = (struct auth_answer){.status = 0};
	if (err)
		return err;
	struct s3_other_request at = *other;
	at.host = url->host;
	at.path = path;
	err = sign(t, keys, &at, &lines);
	if (!err) {
		struct auth_request req = {.method = other->method,
			.url = whole,
			.headers = buf_text(&lines),
			.body = other->body,
			.body_len = other->body_len};
		err = auth_ask(t, &req, ret);
	} else {
		err = auth_fail(t, err, NULL, "the request to %.200s cannot be signed", url->host);
	}
	return err;
}

/* True when the answer's clock is far from ours and that was not known yet. */
static bool learn_clock(struct auth_try *t, const struct auth_answer *a)
{
	bool has_date = a->date_ns > 0; /* before 1970 no server was */
	int64_t offset = has_date ? a->date_ns - clock_wall_ns() : 0;
	int64_t change = offset - t->clock_offset_ns;
	if (!has_date || (change < CLOCK_CORRECTION_MIN_NS && change > -CLOCK_CORRECTION_MIN_NS))
		return false;
	t->clock_offset_ns = offset;
	return true;
}

int auth_ask_signed(struct auth_try *t, const struct s3_credentials *keys, const char *endpoint,
	struct s3_other_request *other, struct auth_answer *ret)
{
	struct auth_url url;
	*ret = (struct auth_answer){.status = 0};
	if (auth_url_parse(&url, endpoint))
		return auth_fail(t, -EINVAL, "correct it",
			"the endpoint %.200s is no http or https "
			"address",
			endpoint);
	int err = ask_once(t, keys, &url, other, ret);
	/* a success puts right, too, what something in between said with its error */
	if (err || !learn_clock(t, ret) || ret->status < 400 || !keys)
		return err;
	auth_answer_release(ret);
	return ask_once(t, keys, &url, other, ret);
}

int auth_take_json(struct auth_try *t, const char *text, size_t len, const char *who,
	struct s3_credentials *ret)
{
	const char *wrong;
	cleanup_json json_t *root = auth_json_load(text, len, 0);
	if (!json_is_object(root))
		return auth_fail(t, -EAGAIN, NULL, "%s: the answer is no JSON object", who);
	if (auth_keys_from_json(root, ret, &wrong))
		return auth_fail(t, -EAGAIN, NULL, "%s: %s", who, wrong);
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int auth_read_token(const char *path, char **ret)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	cleanup_secret char *text = secret_alloc(TOKEN_MAX_BYTES + 1);
	struct stat st;
	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (!text)
		return -ENOMEM;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > TOKEN_MAX_BYTES)
		return -EINVAL;
	ssize_t n = io_pread(fd, text, TOKEN_MAX_BYTES, 0);
	if (n < 0)
		return (int)n;
	size_t from = 0, to = (size_t)n;
	while (to && is_blank(text[to - 1]))
		to--;
	while (from < to && is_blank(text[from]))
		from++;
	memmove(text, text + from, to - from);
	text[to - from] = '\0';
	if (to == from || strlen(text) != to - from || strpbrk(text, "\r\n"))
		return -EINVAL;
	*ret = steal_ptr(text);
	return 0;
}

/* ---- step by step --------------------------------------------------------------------------- */

static int from_source(struct auth_try *t, struct s3_credentials *ret)
{
	const struct auth_recipe *r = t->recipe;
	switch (r->kind) {
	case AUTH_KIND_NONE:
		return auth_fail(t, -ENOKEY, r->remedy, "no credentials were found");
	case AUTH_KIND_STATIC:
		*ret = *r->keys;
		return 0;
	case AUTH_KIND_PROCESS:
		return auth_from_process(t, ret);
	case AUTH_KIND_WEB:
		return auth_from_web_identity(t, ret);
	case AUTH_KIND_SSO:
		return auth_from_sso(t, ret);
	case AUTH_KIND_CONTAINER:
		return auth_from_container(t, ret);
	case AUTH_KIND_INSTANCE:
		return auth_from_instance(t, ret);
	}
	return -EINVAL;
}

static int check_time(struct auth_try *t, const struct s3_credentials *keys, const char *remedy)
{
	char when[32];
	if (!keys->expires_at_ns || auth_try_now_ns(t) < keys->expires_at_ns)
		return 0;
	time_format_iso8601(keys->expires_at_ns, when);
	return auth_fail(t, -EKEYEXPIRED, remedy, "they expired at %s", when);
}

int auth_try_run(struct auth_try *t)
{
	cleanup_secret struct s3_credentials *keys = secret_alloc(sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	t->why = (struct auth_failure){.error = ""};
	int err = from_source(t, keys);
	for (size_t i = 0; !err && i < t->recipe->role_count; i++)
		err = auth_assume_role(t, &t->recipe->roles[i], keys);
	if (!err)
		err = check_time(t, keys, t->recipe->remedy);
	if (!err && t->wish->wanted) {
		err = auth_exchange(t, keys);
		return err ? err : check_time(t, &t->result->keys, "see whether the clock is right");
	}
	if (!err)
		t->result->keys = *keys;
	return err;
}
