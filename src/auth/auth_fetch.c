/*
 * One request with libcurl's easy interface, on the thread that calls. The handle lives as long as
 * the request: what passed through it is wiped with it.
 */
#include "auth_fetch.h"

#include "cpgfs/s3.h"

#include <curl/curl.h>
#include <openssl/ssl.h>

struct fetching {
	struct auth_answer *answer;
	const atomic_bool *stop;
	bool too_long;
};

/* ---- callbacks ------------------------------------------------------------------------------ */

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
	struct fetching *f = user;
	struct auth_answer *a = f->answer;
	size_t len = size * count;
	if (len > AUTH_ANSWER_MAX_BYTES - a->len) {
		f->too_long = true;
		return 0;
	}
	memcpy(a->body + a->len, data, len);
	a->len += len;
	return len;
}

static size_t on_header(char *line, size_t size, size_t count, void *user)
{
	struct fetching *f = user;
	size_t len = size * count;
	char date[64];
	if (len > 6 && len < sizeof(date) + 6 && strncasecmp(line, "date: ", 6) == 0) {
		snprintf(date, sizeof(date), "%.*s", (int)(len - 6), line + 6);
		date[strcspn(date, "\r\n")] = '\0';
		if (time_parse_http(date, &f->answer->date_ns))
			f->answer->date_ns = 0;
	}
	return len;
}

static int on_progress(
	void *user, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total, curl_off_t ul)
{
	const struct fetching *f = user;
	return f->stop && atomic_load(f->stop);
}

/* What was deciphered is wiped once it is handed over. */
static CURLcode on_tls(CURL *easy, void *context, void *user)
{
	(void)SSL_CTX_set_options(context, SSL_OP_CLEANSE_PLAINTEXT);
	return CURLE_OK;
}

/* ---- the request ---------------------------------------------------------------------------- */

/* One node per line; each is wiped with the list by curl's allocator. */
static int make_headers(struct curl_slist **ret, const char *lines)
{
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	cleanup_secret char *copy = lines ? secret_alloc(strlen(lines) + 1) : NULL;
	char *save = NULL;
	int err = list && (copy || !lines) ? 0 : -ENOMEM;
	if (copy)
		memcpy(copy, lines, strlen(lines) + 1);
	for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; line && !err;
		line = strtok_r(NULL, "\n", &save)) {
		struct curl_slist *longer = curl_slist_append(list, line);
		if (longer)
			list = longer;
		else
			err = -ENOMEM;
		if (strchr(line, '\r'))
			err = -EINVAL;
	}
	if (err) {
		curl_slist_free_all(list);
		return err;
	}
	*ret = list;
	return 0;
}

static CURLcode set_what(CURL *easy, const struct auth_request *req)
{
	CURLcode bad = curl_easy_setopt(easy, CURLOPT_URL, req->url);
	if (req->body) {
		bad |= curl_easy_setopt(
			easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_len);
		bad |= curl_easy_setopt(easy, CURLOPT_POSTFIELDS, req->body);
	}
	bad |= curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, req->method);
	if (req->ca_bundle)
		bad |= curl_easy_setopt(easy, CURLOPT_CAINFO, req->ca_bundle);
	if (req->never_by_proxy)
		bad |= curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	bad |= curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)req->connect_timeout_ms);
	bad |= curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)req->timeout_ms);
	return bad;
}

static CURLcode set_manners(CURL *easy, struct fetching *f)
{
	CURLcode bad = curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	bad |= curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	bad |= curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	bad |= curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	bad |= curl_easy_setopt(easy, CURLOPT_USERAGENT, "cpgfs/" CPGFS_VERSION);
	/* a curl without OpenSSL does not know it */
	(void)curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_tls);
	bad |= curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	bad |= curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	bad |= curl_easy_setopt(easy, CURLOPT_XFERINFODATA, f);
	bad |= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	bad |= curl_easy_setopt(easy, CURLOPT_WRITEDATA, f);
	bad |= curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	bad |= curl_easy_setopt(easy, CURLOPT_HEADERDATA, f);
	return bad;
}

static int judge(const struct fetching *f, CURLcode code, const char *text)
{
	struct auth_answer *a = f->answer;
	text_copy(a->error, *text ? text : curl_easy_strerror(code), sizeof(a->error));
	if (f->too_long) {
		text_copy(a->error, "an answer longer than credentials are", sizeof(a->error));
		return -EMSGSIZE;
	}
	switch ((int)code) {
	case CURLE_OK:
		a->error[0] = '\0';
		return 0;
	case CURLE_ABORTED_BY_CALLBACK:
		return -ECANCELED;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_SSL_CACERT_BADFILE:
		return -EINVAL;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return -ENETDOWN;
	}
}

static int perform(CURL *easy, const struct auth_request *req, struct auth_answer *ret)
{
	struct fetching f = {.answer = ret, .stop = req->stop};
	struct curl_slist *headers = NULL;
	char text[CURL_ERROR_SIZE] = "";
	long status = 0;
	int err = make_headers(&headers, req->headers);
	if (err)
		return err;
	CURLcode bad = set_manners(easy, &f);
	bad |= set_what(easy, req);
	bad |= curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	bad |= curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, text);
	if (bad) {
		err = -ENOMEM;
	} else {
		CURLcode code = curl_easy_perform(easy);
		(void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status); /* known option */
		err = judge(&f, code, text);
	}
	(void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL); /* known option */
	curl_slist_free_all(headers);
	ret->status = (int)status;
	return err;
}

int auth_fetch(const struct auth_request *req, struct auth_answer *ret)
{
	*ret = (struct auth_answer){.body = secret_alloc(AUTH_ANSWER_MAX_BYTES + 1)};
	if (!ret->body)
		return -ENOMEM;
	s3_libraries_init();
	CURL *easy = curl_easy_init();
	if (!easy)
		return -ENOMEM;
	int err = perform(easy, req, ret);
	curl_easy_cleanup(easy);
	return err;
}

void auth_answer_release(struct auth_answer *a)
{
	secret_free(a->body);
	a->body = NULL;
	a->len = 0;
}

/* ---- URLs ----------------------------------------------------------------------------------- */

static int url_take(struct auth_url *u, CURLU *url)
{
	char *scheme = NULL, *host = NULL, *port = NULL, *path = NULL, *user = NULL;
	/* absent parts are an error to curl and stay NULL here */
	(void)curl_url_get(url, CURLUPART_SCHEME, &scheme, 0);
	(void)curl_url_get(url, CURLUPART_HOST, &host, 0);
	(void)curl_url_get(url, CURLUPART_PORT, &port, CURLU_NO_DEFAULT_PORT);
	(void)curl_url_get(url, CURLUPART_PATH, &path, 0);
	(void)curl_url_get(url, CURLUPART_USER, &user, 0);
	int err = scheme && host && path && !user ? 0 : -EINVAL;
	if (!err) {
		size_t len = strlen(path);
		while (len && path[len - 1] == '/')
			path[--len] = '\0';
		u->is_plain = strcmp(scheme, "http") == 0;
		int a = snprintf(u->host, sizeof(u->host), "%s%s%s", host, port ? ":" : "",
			port ? port : "");
		int b = snprintf(u->base, sizeof(u->base), "%s://%s%s", scheme, u->host, path);
		bool fits = a > 0 && (size_t)a < sizeof(u->host) && b > 0 &&
			    (size_t)b < sizeof(u->base) &&
			    text_copy(u->path, path, sizeof(u->path)) &&
			    text_copy(u->hostname, host, sizeof(u->hostname));
		if (!fits || (!u->is_plain && strcmp(scheme, "https") != 0))
			err = -EINVAL;
	}
	char *const all[] = {scheme, host, port, path, user};
	for (size_t i = 0; i < array_len(all); i++)
		curl_free(all[i]);
	return err;
}

int auth_url_parse(struct auth_url *ret, const char *text)
{
	struct auth_url u = {.is_plain = false};
	CURLU *url = curl_url();
	if (!url)
		return -ENOMEM;
	int err = curl_url_set(url, CURLUPART_URL, text, 0) ? -EINVAL : url_take(&u, url);
	curl_url_cleanup(url);
	if (!err)
		*ret = u;
	return err;
}
