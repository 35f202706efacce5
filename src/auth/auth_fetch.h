/* One small HTTP request to a service that gives credentials: no redirects, an answer of at most
 * 64 KiB in secret memory, an end in time. */
#pragma once

#include "cpgfs/base.h"

#include <stdatomic.h>

#define AUTH_ANSWER_MAX_BYTES (64 * KIB)

struct auth_request {
	const char *method;
	const char *url;
	const char *headers; /* "name: value\n" lines; NULL: none */
	const char *body;    /* NULL: none */
	size_t body_len;
	const char *ca_bundle; /* NULL: the system's */
	bool never_by_proxy;   /* link-local and loopback addresses */
	unsigned connect_timeout_ms, timeout_ms;
	const atomic_bool *stop; /* true ends it within a second; NULL: never */
};
struct auth_answer {
	int status;
	int64_t date_ns; /* of its Date header; 0: none */
	char *body;	 /* secret memory, with a NUL behind it */
	size_t len;
	char error[256]; /* why there is no answer */
};
/* 0 for any complete answer; else -ENETDOWN, -ETIMEDOUT, -EMSGSIZE (longer than any), -ECANCELED,
 * -EINVAL (a URL or header that can't be), -ENOMEM, and ret->error says more. Release it always. */
must_check int auth_fetch(const struct auth_request *req, struct auth_answer *ret);
void auth_answer_release(struct auth_answer *a);
#define cleanup_answer __attribute__((cleanup(auth_answer_release)))

/* "https://host:8443/base/" to "host:8443" as it goes into the Host header, and whether it is http.
 * -EINVAL: no http or https URL, or with a user in it. */
struct auth_url {
	char host[256];	    /* with the port unless it is the scheme's */
	char hostname[256]; /* without; IPv6 in brackets */
	char base[512];	    /* "https://host:8443/base", no slash at the end */
	char path[256];	    /* "/base", "" */
	bool is_plain;	    /* http */
};
must_check int auth_url_parse(struct auth_url *ret, const char *text);
