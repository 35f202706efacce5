/* The real client's insides: what the transfers, the loop and the operations table share. */
#pragma once

#include "s3_reply.h"

#include <curl/curl.h>
#include <sys/queue.h>

/* Credentials in use, with the signing key made of them. Loop thread only. */
struct s3_ring {
	unsigned refs;
	struct s3_credentials credentials;
	struct s3_signing_key signing_key;
};
void s3_ring_unref(struct s3_ring *r); /* the last one wipes the keys; NULL is fine */

/* One attempt, from submit to its callback. */
struct s3_transfer {
	TAILQ_ENTRY(s3_transfer) link; /* in exactly one of the lists of struct s3_client */
	/* constant after submit */
	struct s3_client *client;
	uint64_t id;
	struct s3_wire wire;
	struct s3_body body;
	uint64_t body_len_bytes; /* of the file range, or of wire.xml */
	struct s3_sink sink;
	unsigned timeout_ms;
	s3_done_fn *done;
	void *user;
	/* loop only */
	CURL *easy;
	struct curl_slist *lines; /* headers as curl wants them */
	struct s3_ring *ring;
	struct s3_answer answer;
	uint64_t body_at_bytes;
	bool issued;      /* curl began to send the request */
	bool handed_over; /* curl has the body's last byte (never unset) */
	enum s3_stop stop;
	int64_t started_ms;
	char curl_text[CURL_ERROR_SIZE];
};
TAILQ_HEAD(s3_transfers, s3_transfer);

must_check int s3_transfer_create(struct s3_transfer **ret, struct s3_client *client,
	const struct s3_request *req, s3_done_fn *done, void *user);
void s3_transfer_destroy(struct s3_transfer *t);
/* Signs and fills easy; after 0 it can go to the multi handle. -EAGAIN without t->stop: credentials
 * are being renewed, try again later. On any other failure t->stop says why. */
must_check int s3_transfer_prepare(struct s3_transfer *t, CURL *easy);
/* May the bucket have got the whole request? */
bool s3_transfer_is_sent(const struct s3_transfer *t);
/* Sets what is the same for every transfer. */
must_check int s3_transfer_easy_create(CURL **ret, const struct s3_client *client);

#define S3_IDLE_EASIES_MAX 64
#define S3_DOWN_AFTER_FAILURES 3

struct s3_client {
	struct s3 base; /* first: struct s3 * is this */
	/* constant after start */
	struct s3_endpoint endpoint;
	unsigned max_connections;
	bool sign_payload_always;
	char *ca_bundle;
	long stall_timeout_s;
	long connect_timeout_ms;
	struct s3_credentials_source credentials;
	CURLM *multi; /* used by the loop thread only, but for curl_multi_wakeup */
	struct thread *thread;
	/* guarded by lock */
	struct lock lock;
	struct s3_transfers inbox;
	uint64_t *cancels; /* ids */
	size_t cancel_count, cancel_room;
	bool stopping;
	uint64_t next_id;
	bool echo_seen;       /* the endpoint confirmed a CRC64NVME */
	unsigned failures;    /* transports in a row without an answer */
	int64_t quickest_ms;  /* of the answers that took a millisecond; 0: none yet */
	uint32_t enforced[S3_CONDITIONS]; /* bit per operation */
	pthread_t loop_thread; /* valid while loop_runs */
	bool loop_runs;
	/* loop only */
	struct s3_transfers waiting, active;
	unsigned senders, others; /* active ones by lane */
	CURL *idle[S3_IDLE_EASIES_MAX];
	unsigned idle_count;
	int64_t held_until_ms; /* credentials are being renewed: nothing starts before */
	struct s3_ring *ring;
	int64_t clock_offset_ns;
};

/* s3_loop.c: the thread's body. */
void s3_loop_run(void *client);
/* s3_facts.c: what the endpoint taught us. */
bool s3_facts_wants_sha256(struct s3_client *c);
void s3_facts_learn(struct s3_client *c, struct s3_transfer *t);
/* The credentials for one attempt, with a reference; -errno of the source. Loop thread only. */
must_check int s3_ring_get(struct s3_ring **ret, struct s3_client *c);
