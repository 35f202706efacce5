/*
 * sig - AWS Signature Version 4, the server's side.
 *
 * A canonical request is: method, path, query, headers, names of the signed headers, payload hash.
 * S3 decodes the path and encodes it once again (no normalising); query parameters are decoded,
 * encoded and sorted. All x-amz-* headers and Host must be signed.
 */
#include "s3d_sig.h"
#include "s3d_digest.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SKEW_MAX_MS (15 * 60 * 1000)
#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define EXPIRES_MAX_S (7 * 24 * 3600)

/* What the client says it did. */
struct sig_claim {
	bool presigned;
	char *access;
	char *scope;          /* date/region/service/aws4_request */
	char *signed_headers; /* a;b;c */
	char *signature;
	char *date;
	char *token;
	char *expires;
};

static void sig_claim_release(struct sig_claim *claim)
{
	free(claim->access);
	free(claim->scope);
	free(claim->signed_headers);
	free(claim->signature);
	free(claim->date);
	free(claim->token);
	free(claim->expires);
}

/* --- keys --- */

int sig_keys_add(struct sig_keys *keys, const char *spec)
{
	AUTO(free_str) char *copy = str_dup(spec);
	char *limit = strchr(copy, '@'), *rest = copy, *access, *secret, *slash;
	struct sig_key key = {0};

	if (limit)
		*limit++ = '\0';
	access = strsep(&rest, ":");
	secret = strsep(&rest, ":");
	if (!secret || !*access || !*secret)
		return -EINVAL;
	key.access = str_dup(access);
	key.secret = str_dup(secret);
	if (rest && *rest)
		key.token = str_dup(rest);
	if (limit) {
		slash = strchr(limit, '/');
		key.bucket = slash ? str_dupn(limit, (size_t)(slash - limit)) : str_dup(limit);
		key.prefix = str_dup(slash ? slash + 1 : "");
	}
	keys->keys = mem_realloc(keys->keys, (keys->len + 1) * sizeof(key));
	keys->keys[keys->len++] = key;
	return 0;
}

struct sig_issued {
	struct sig_issued *next;
	struct sig_key key;
};
static pthread_mutex_t issued_lock = PTHREAD_MUTEX_INITIALIZER;

static char *random_hex(size_t bytes)
{
	uint8_t raw[64];
	char *hex = mem_zalloc(2 * bytes + 1);

	(void)RAND_bytes(raw, (int)bytes); /* of a test server: whatever comes will do */
	hex_encode(raw, bytes, hex);
	return hex;
}

const struct sig_key *sig_keys_issue(struct sig_keys *keys, const char *bucket, const char *prefix,
	bool read_only, int64_t expires_ms)
{
	struct sig_issued *issued = mem_zalloc(sizeof(*issued));
	AUTO(free_str) char *number = random_hex(8);
	AUTO(free_str) char *secret = random_hex(18);
	AUTO(free_str) char *token = random_hex(60);

	issued->key = (struct sig_key){.access = str_printf("ASIA%.16s", number),
		.secret = str_printf("issued/%s", secret),
		.token = str_printf("TOKEN/%s==", token),
		.bucket = bucket ? str_dup(bucket) : NULL,
		.prefix = bucket ? str_dup(prefix) : NULL,
		.expires_ms = expires_ms,
		.read_only = read_only};
	pthread_mutex_lock(&issued_lock);
	issued->next = keys->issued;
	keys->issued = issued;
	pthread_mutex_unlock(&issued_lock);
	return &issued->key;
}

static void sig_key_release(struct sig_key *key)
{
	free(key->access);
	free(key->secret);
	free(key->token);
	free(key->bucket);
	free(key->prefix);
}

void sig_keys_release(struct sig_keys *keys)
{
	struct sig_issued *issued;

	for (size_t i = 0; i < keys->len; i++)
		sig_key_release(&keys->keys[i]);
	free(keys->keys);
	keys->keys = NULL;
	while ((issued = keys->issued)) {
		keys->issued = issued->next;
		sig_key_release(&issued->key);
		free(issued);
	}
}

static const struct sig_key *sig_issued_find(const struct sig_keys *keys, const char *access)
{
	const struct sig_issued *issued;

	pthread_mutex_lock(&issued_lock);
	issued = keys->issued;
	while (issued && strcmp(issued->key.access, access))
		issued = issued->next;
	pthread_mutex_unlock(&issued_lock);
	return issued ? &issued->key : NULL;
}

static const struct sig_key *sig_key_find(const struct sig_keys *keys, const char *access)
{
	for (size_t i = 0; i < keys->len; i++) {
		if (!strcmp(keys->keys[i].access, access))
			return &keys->keys[i];
	}
	return sig_issued_find(keys, access);
}

/* --- payload kinds --- */

static const struct {
	enum sig_payload payload;
	const char *header;
	const char *name;
} sig_payloads[] = {
	{SIG_PAYLOAD_UNSIGNED, "UNSIGNED-PAYLOAD", "unsigned"},
	{SIG_PAYLOAD_CHUNKED, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "chunked"},
	{SIG_PAYLOAD_CHUNKED_TRAILER, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
		"chunked-trailer"},
	{SIG_PAYLOAD_UNSIGNED_TRAILER, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "unsigned-trailer"},
	{SIG_PAYLOAD_SHA256, NULL, "sha256"},
	{SIG_PAYLOAD_NONE, NULL, ""},
};

enum sig_payload sig_payload_from_header(const char *value, char sha256_hex[65])
{
	uint8_t hash[32];

	for (size_t i = 0; sig_payloads[i].header; i++) {
		if (!strcmp(value, sig_payloads[i].header))
			return sig_payloads[i].payload;
	}
	if (hex_decode(value, hash, 32))
		return SIG_PAYLOAD_NONE;
	hex_encode(hash, 32, sha256_hex);
	return SIG_PAYLOAD_SHA256;
}

const char *sig_payload_name(enum sig_payload payload)
{
	for (size_t i = 0; i < ARRAY_SIZE(sig_payloads); i++) {
		if (sig_payloads[i].payload == payload)
			return sig_payloads[i].name;
	}
	return "";
}

/* --- reading the claim --- */

static char *sig_header(const struct sig_request *request, const char *name)
{
	struct buf value = {0};

	if (!request->header(request->cls, name, &value))
		return NULL;
	return buf_steal(&value);
}

/* The decoded value of a query parameter, NULL if absent. */
static char *sig_query_value(const char *query, const char *name)
{
	size_t name_len = strlen(name);
	char *value;

	for (const char *p = query; p && *p; p += *p == '&') {
		size_t len = strcspn(p, "&");

		if (len > name_len && !strncmp(p, name, name_len) && p[name_len] == '=')
			return uri_decode(p + name_len + 1, len - name_len - 1, true, &value)
				? NULL : value;
		p += len;
	}
	return NULL;
}

static int sig_claim_credential(struct sig_claim *claim, const char *credential)
{
	const char *slash = credential ? strchr(credential, '/') : NULL;

	if (!slash)
		return -EINVAL;
	claim->access = str_dupn(credential, (size_t)(slash - credential));
	claim->scope = str_dup(slash + 1);
	return 0;
}

/* `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`, spaces being optional. */
static int sig_claim_from_header(const struct sig_request *request, const char *authorization,
	struct sig_claim *claim)
{
	AUTO(free_str) char *copy = str_dup(authorization);
	char *rest = copy, *field;

	if (strcmp(strsep(&rest, " "), "AWS4-HMAC-SHA256") || !rest)
		return -EINVAL;
	while ((field = strsep(&rest, ","))) {
		char *name;

		field += strspn(field, " ");
		name = strsep(&field, "=");
		if (!field)
			return -EINVAL;
		if (!strcmp(name, "Credential") && !claim->access)
			(void)sig_claim_credential(claim, field); /* checked below */
		else if (!strcmp(name, "SignedHeaders") && !claim->signed_headers)
			claim->signed_headers = str_dup(field);
		else if (!strcmp(name, "Signature") && !claim->signature)
			claim->signature = str_dup(field);
	}
	claim->date = sig_header(request, "x-amz-date");
	claim->token = sig_header(request, "x-amz-security-token");
	return claim->access && claim->signed_headers && claim->signature && claim->date
		? 0 : -EINVAL;
}

static int sig_claim_from_query(const struct sig_request *request, struct sig_claim *claim)
{
	const char *query = request->raw_query;
	AUTO(free_str) char *credential = sig_query_value(query, "X-Amz-Credential");

	claim->presigned = true;
	claim->signed_headers = sig_query_value(query, "X-Amz-SignedHeaders");
	claim->signature = sig_query_value(query, "X-Amz-Signature");
	claim->date = sig_query_value(query, "X-Amz-Date");
	claim->token = sig_query_value(query, "X-Amz-Security-Token");
	claim->expires = sig_query_value(query, "X-Amz-Expires");
	if (sig_claim_credential(claim, credential))
		return -EINVAL;
	return claim->signed_headers && claim->signature && claim->date && claim->expires
		? 0 : -EINVAL;
}

/* --- the canonical request --- */

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Decoded and encoded again, so that every spelling of a request has one signature. */
static int canonical_text(struct buf *out, const char *raw, size_t len, bool is_path)
{
	AUTO(free_str) char *text = NULL;

	if (uri_decode(raw, len, !is_path, &text))
		return -EINVAL;
	uri_encode(out, text, is_path);
	return 0;
}

static int canonical_parameter(const char *raw, size_t len, char **ret)
{
	AUTO(buf_release) struct buf out = {0};
	const char *equals = memchr(raw, '=', len);
	size_t name_len = equals ? (size_t)(equals - raw) : len;

	if (canonical_text(&out, raw, name_len, false))
		return -EINVAL;
	buf_char(&out, '=');
	if (equals && canonical_text(&out, equals + 1, len - name_len - 1, false))
		return -EINVAL;
	*ret = buf_steal(&out);
	return 0;
}

static void free_strings(char **strings, size_t len)
{
	for (size_t i = 0; i < len; i++)
		free(strings[i]);
	free(strings);
}

static int canonical_query(struct buf *out, const char *query)
{
	char **parameters = NULL;
	size_t count = 0;
	int r = 0;

	for (const char *p = query; p && *p && !r; p += *p == '&') {
		size_t len = strcspn(p, "&");

		if (len && !str_starts(p, "X-Amz-Signature=")) {
			parameters = mem_realloc(parameters, (count + 1) * sizeof(*parameters));
			r = canonical_parameter(p, len, &parameters[count]);
			count += !r;
		}
		p += len;
	}
	if (count)
		qsort(parameters, count, sizeof(*parameters), compare_strings);
	for (size_t i = 0; i < count; i++)
		buf_printf(out, "%s%s", i ? "&" : "", parameters[i]);
	free_strings(parameters, count);
	return r;
}

/* Trimmed, runs of spaces as one. */
static void canonical_value(struct buf *out, const char *value)
{
	size_t start = out->len;

	for (; *value; value++) {
		bool space = *value == ' ' || *value == '\t';

		if (!space)
			buf_char(out, *value);
		else if (out->len > start && out->data[out->len - 1] != ' ')
			buf_char(out, ' ');
	}
	if (out->len > start && out->data[out->len - 1] == ' ')
		out->data[--out->len] = '\0';
}

static int canonical_headers(struct buf *out, const struct sig_request *request, const char *names)
{
	AUTO(free_str) char *copy = str_dup(names);
	char *rest = copy, *name;

	while ((name = strsep(&rest, ";"))) {
		AUTO(buf_release) struct buf value = {0};

		if (!request->header(request->cls, name, &value))
			return -EINVAL;
		buf_printf(out, "%s:", name);
		canonical_value(out, buf_text(&value));
		buf_char(out, '\n');
	}
	return 0;
}

static int canonical_request(struct buf *out, const struct sig_request *request,
	const struct sig_claim *claim, const char *payload)
{
	buf_printf(out, "%s\n", request->method);
	if (canonical_text(out, request->raw_path, strlen(request->raw_path), true))
		return -EINVAL;
	buf_char(out, '\n');
	if (canonical_query(out, request->raw_query))
		return -EINVAL;
	buf_char(out, '\n');
	if (canonical_headers(out, request, claim->signed_headers))
		return -EINVAL;
	buf_printf(out, "\n%s\n%s", claim->signed_headers, payload);
	return 0;
}

/* --- checks --- */

struct unsigned_search {
	const char *signed_headers;
	bool found;
};

static bool header_is_listed(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; *p; p += *p == ';') {
		size_t part = strcspn(p, ";");

		if (part == len && !strncmp(p, name, len))
			return true;
		p += part;
	}
	return false;
}

static void unsigned_search_visit(void *arg, const char *name)
{
	struct unsigned_search *search = arg;

	if ((str_starts(name, "x-amz-") || !strcmp(name, "host")) &&
		!header_is_listed(search->signed_headers, name))
		search->found = true;
}

static enum s3d_error sig_check_headers_signed(const struct sig_request *request,
	const struct sig_claim *claim)
{
	struct unsigned_search search = {.signed_headers = claim->signed_headers};

	request->headers(request->cls, unsigned_search_visit, &search);
	return search.found ? ERROR_HEADER_NOT_SIGNED : ERROR_NONE;
}

static enum s3d_error sig_check_time(const struct sig_request *request,
	const struct sig_claim *claim)
{
	int64_t date_ms;
	uint64_t expires_s;

	if (time_parse_amz(claim->date, &date_ms))
		return ERROR_AUTH_MALFORMED;
	if (claim->presigned) {
		if (str_to_u64(claim->expires, &expires_s) || expires_s > EXPIRES_MAX_S)
			return ERROR_AUTH_QUERY;
		if (request->now_ms > date_ms + (int64_t)expires_s * 1000 ||
			request->now_ms < date_ms - SKEW_MAX_MS)
			return ERROR_REQUEST_EXPIRED;
		return ERROR_NONE;
	}
	return llabs(request->now_ms - date_ms) > SKEW_MAX_MS ? ERROR_TIME_TOO_SKEWED : ERROR_NONE;
}

static const char *sig_service(const struct sig_request *request)
{
	return request->service ? request->service : "s3";
}

static enum s3d_error sig_check_scope(const struct sig_keys *keys,
	const struct sig_request *request, const struct sig_claim *claim)
{
	AUTO(free_str) char *want = str_printf("%.8s/%s/%s/aws4_request", claim->date,
		keys->region, sig_service(request));

	return strcmp(want, claim->scope) ? ERROR_AUTH_MALFORMED : ERROR_NONE;
}

static enum s3d_error sig_check_token(const struct sig_request *request,
	const struct sig_claim *claim, const struct sig_key *key)
{
	if (request->expire_token || (key->expires_ms && request->now_ms >= key->expires_ms))
		return ERROR_EXPIRED_TOKEN;
	if (!key->token && !claim->token)
		return ERROR_NONE;
	if (key->token && claim->token && !strcmp(key->token, claim->token))
		return ERROR_NONE;
	return ERROR_INVALID_TOKEN;
}

static void sig_derive_key(struct sig *sig, const char *region, const char *service)
{
	AUTO(free_str) char *secret = str_printf("AWS4%s", sig->key->secret);
	AUTO(free_str) char *day = str_dupn(sig->date, 8);
	uint8_t key[32];

	hmac_sha256(secret, strlen(secret), day, key);
	hmac_sha256(key, 32, region, key);
	hmac_sha256(key, 32, service, key);
	hmac_sha256(key, 32, "aws4_request", sig->signing_key);
}

static void sig_sign(const struct sig *sig, const char *string_to_sign, char signature[65])
{
	uint8_t mac[32];

	hmac_sha256(sig->signing_key, 32, string_to_sign, mac);
	hex_encode(mac, 32, signature);
}

static bool signature_equal(const char *a, const char *b)
{
	return strlen(a) == 64 && strlen(b) == 64 && !CRYPTO_memcmp(a, b, 64);
}

static enum s3d_error sig_check_signature(const struct sig_request *request,
	const struct sig_claim *claim, const char *payload, struct sig *sig)
{
	AUTO(buf_release) struct buf canonical = {0};
	AUTO(free_str) char *to_sign = NULL;
	char hash[65];

	if (canonical_request(&canonical, request, claim, payload))
		return ERROR_SIGNATURE_MISMATCH;
	sha256_hex(canonical.data, canonical.len, hash);
	to_sign = str_printf("AWS4-HMAC-SHA256\n%s\n%s\n%s", claim->date, claim->scope, hash);
	sig_sign(sig, to_sign, sig->signature);
	return signature_equal(sig->signature, claim->signature) ? ERROR_NONE
								 : ERROR_SIGNATURE_MISMATCH;
}

static enum s3d_error sig_check_claim(const struct sig_keys *keys,
	const struct sig_request *request, const struct sig_claim *claim, const char *payload,
	struct sig *sig)
{
	enum s3d_error error = sig_check_time(request, claim);

	sig->key = sig_key_find(keys, claim->access);
	if (!sig->key)
		return ERROR_INVALID_ACCESS_KEY;
	if (!error)
		error = sig_check_scope(keys, request, claim);
	if (!error)
		error = sig_check_token(request, claim, sig->key);
	if (!error)
		error = sig_check_headers_signed(request, claim);
	if (error)
		return error;
	snprintf(sig->date, sizeof(sig->date), "%s", claim->date);
	snprintf(sig->scope, sizeof(sig->scope), "%s", claim->scope);
	sig_derive_key(sig, keys->region, sig_service(request));
	return sig_check_signature(request, claim, payload, sig);
}

enum s3d_error sig_check(const struct sig_keys *keys, const struct sig_request *request,
	struct sig *ret)
{
	AUTO(sig_claim_release) struct sig_claim claim = {0};
	AUTO(free_str) char *authorization = sig_header(request, "authorization");
	AUTO(free_str) char *payload = sig_header(request, "x-amz-content-sha256");
	struct sig sig = {0};
	enum s3d_error error = ERROR_NONE;

	if (!payload && request->payload_sha256)
		payload = str_dup(request->payload_sha256);
	if (payload)
		sig.payload = sig_payload_from_header(payload, sig.sha256_hex);
	if (!keys->len) {
		error = request->expire_token ? ERROR_EXPIRED_TOKEN : ERROR_NONE;
	} else if (authorization) {
		if (sig_claim_from_header(request, authorization, &claim))
			return ERROR_AUTH_MALFORMED;
		if (!payload)
			return ERROR_MISSING_SHA256;
		if (sig.payload == SIG_PAYLOAD_NONE)
			return ERROR_INVALID_ARGUMENT;
		error = sig_check_claim(keys, request, &claim, payload, &sig);
	} else if (request->raw_query && strstr(request->raw_query, "X-Amz-Signature=")) {
		if (sig_claim_from_query(request, &claim))
			return ERROR_AUTH_QUERY;
		error = sig_check_claim(keys, request, &claim,
			payload ? payload : "UNSIGNED-PAYLOAD", &sig);
	} else {
		error = ERROR_ACCESS_DENIED;
	}
	*ret = sig;
	return error;
}

bool sig_check_chunk(struct sig *sig, const char *chunk_sha256_hex, const char *signature)
{
	AUTO(free_str) char *to_sign = str_printf("AWS4-HMAC-SHA256-PAYLOAD\n%s\n%s\n%s\n%s\n%s",
		sig->date, sig->scope, sig->signature, EMPTY_SHA256, chunk_sha256_hex);

	sig_sign(sig, to_sign, sig->signature);
	return signature_equal(sig->signature, signature);
}

bool sig_check_trailer(struct sig *sig, const char *trailer_sha256_hex, const char *signature)
{
	AUTO(free_str) char *to_sign = str_printf("AWS4-HMAC-SHA256-TRAILER\n%s\n%s\n%s\n%s",
		sig->date, sig->scope, sig->signature, trailer_sha256_hex);

	sig_sign(sig, to_sign, sig->signature);
	return signature_equal(sig->signature, signature);
}
