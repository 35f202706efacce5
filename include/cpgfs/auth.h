/*
 * auth - where credentials come from, and that they go on being there: the chain of the AWS tools,
 *        S3 Access Grants on top, renewal ahead of expiry and when the server refuses.
 *
 * Owns:     the current credentials in memory (secret_alloc); nothing on disk. Nothing secret is
 *           ever logged or part of a message.
 * Threads:  any; auth_start() makes one thread that reads, asks and renews. Nothing but auth_wait()
 *           blocks on the network, a program or a home directory after auth_create().
 * Locks:    RANK_AUTH; never held over a request, a file or a program.
 * Errors:   0 or -errno.
 * Source:   AWS SDKs and Tools Reference Guide, "Standardized credential providers"; S3 API,
 *           GetDataAccess; STS API; sections [name] and [profile name] are accepted in both shared
 *           files (the gallery's tutorial writes the former into ~/.aws/config).
 * Tests:    tests/unit/test_auth_*.c, tests/mount/65-credentials.sh
 *
 * The order: --profile (then no keys from the environment), else the environment's keys; the
 * profile's role_arn, web identity (also the environment's), sso_*, keys in the credentials file,
 * credential_process, keys in the config file; the container's endpoint; EC2 instance metadata.
 * What was handed over by auth_hand_over() comes before all of it until it expires or is refused.
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 40
#error "auth.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/s3.h"

struct auth;

enum auth_permission {
	AUTH_READWRITE, /* also what is asked for where nothing else is said */
	AUTH_READ,
};

/* Plain data, copied by auth_create; NULL where nothing is said. */
struct auth_config {
	const char *profile; /* --profile; NULL: AWS_PROFILE, else "default"; given: before environment keys */
	bool anonymous;      /* --no-sign-request: all the rest is not looked at */
	const char *region;  /* of S3 Control and STS; NULL: environment, profile, us-east-1 */
	const char *ca_bundle; /* NULL: AWS_CA_BUNDLE, the profile's ca_bundle, the system's */
	/* --access-grant: exchange what the chain gives through GetDataAccess */
	bool access_grant;
	const char *account_id;     /* 12 digits, of the grants instance; needed with access_grant */
	const char *bucket, *prefix; /* what is asked for: s3://bucket/prefix + "/" + "*" */
	enum auth_permission permission; /* READWRITE: READ is asked for when that is refused */
	unsigned grant_duration_s;  /* 900..43,200; 0: 43,200 */
	/* Told after every try and hand-over: auth_status() may say something else now. The auth
	 * thread or the caller's, no lock held; NULL: nobody. */
	void (*news)(void *user);
	void *news_user;
};

/*
 * Reads environment and shared files once; keys that stand there can be had at once, all others
 * after auth_start(). 0 even when none was found (auth_get tells): a mount may start and wait.
 * -EINVAL: a named profile does not exist, a file is malformed, role profiles form a loop, …;
 * *ret_message (malloc'ed) says which, and the way out.
 */
must_check int auth_create(struct auth **ret, const struct auth_config *config, char **ret_message);
/* Overwrites the secrets in this process's environment; auth_create has copies. Call it while there
 * is one thread. */
void auth_forget_environment(void);
/* Starts the thread (call after daemonising): the first credentials are fetched, then renewed. */
must_check int auth_start(struct auth *a);
void auth_stop(struct auth *a);    /* at once, whatever it waits for; auth_get goes on answering */
void auth_destroy(struct auth *a); /* stops; wipes the keys; NULL is fine */

/*
 * Waits for the first outcome. 0: there are credentials. Else *ret_message (malloc'ed) has source,
 * error and remedy, and
 * -ENOKEY      no source has any
 * -EACCES      refused for good: no such grant, the mount lies outside the grant, the key is unknown
 * -EKEYEXPIRED a person must renew something (`aws sso login`, a token file); picked up when done
 * -EAGAIN      what may pass by itself (network, a throttled or failing service); tried again
 * -ETIMEDOUT   none of this until deadline_ms (clock_mono_ms)
 */
must_check int auth_wait(struct auth *a, int64_t deadline_ms, char **ret_message);

/* Current credentials, never blocking. -EAGAIN: being fetched or renewed, ask again soon; -ENOKEY:
 * none found; -EKEYEXPIRED: expired or refused, and none to replace them yet. */
must_check int auth_get(struct auth *a, struct s3_credentials *ret);
/* The server refused these. True: sending again is worth it (they are being renewed, or other ones
 * are in use already); many refusals of the same credentials cause one renewal. False: there was a
 * renewal just now and it did not help, or nothing can be renewed. */
bool auth_rejected(struct auth *a, const struct s3_credentials *which, const char *code);
/* For s3_config.credentials. */
struct s3_credentials_source auth_source(struct auth *a);
/* Another number whenever other credentials are in use; tells nothing about them. */
uint64_t auth_stamp(struct auth *a);
/* Read and ask again now, as at expiry (`cpgfs retry`). No effect on anonymous ones. */
void auth_renew(struct auth *a);

/*
 * Credentials by hand: text is what one of these printed, or lines of it among others:
 *   aws s3control get-data-access …         {"Credentials": {…}, "MatchedGrantTarget": "s3://…"}
 *   aws sts assume-role …                   {"Credentials": {…}}
 *   aws configure export-credentials [--format process|env|env-no-export|powershell]
 *   [export ]AWS_ACCESS_KEY_ID=value (also …SECRET_ACCESS_KEY, …SESSION_TOKEN, …EXPIRATION; quoted or not)
 *   aws_access_key_id = value               (a section of a credentials file)
 * Long-lived keys (no session token) of a mount with --access-grant are exchanged; everything else
 * is used as it stands. Replaces what was handed over before. The caller wipes text.
 * -EINVAL: nothing usable in it, already expired, or a grant that does not cover the mount;
 * *ret_message (malloc'ed) says what, without any value.
 */
must_check int auth_hand_over(struct auth *a, const char *text, size_t len, char **ret_message);
/* The same for keys that a caller has; expires_at_ns in it may be 0. */
must_check int auth_set_static(
	struct auth *a, const struct s3_credentials *keys, const char *origin, char **ret_message);
/* What auth_hand_over understands, for a caller that only wants to know (`cpgfs credentials` before
 * it sends anything). matched_target is "" if the text names none. */
#define AUTH_TARGET_MAX 2048
must_check int auth_parse_pasted(const char *text, size_t len, struct s3_credentials *ret,
	char matched_target[AUTH_TARGET_MAX], char **ret_message);

/* ---- for people ------------------------------------------------------------------------------- */

enum auth_state {
	AUTH_ANONYMOUS, /* requests are not signed */
	AUTH_FETCHING,  /* the first ones are being fetched, or refused ones renewed */
	AUTH_GOOD,      /* in use; error may tell of a renewal ahead of expiry that failed */
	AUTH_NONE,      /* no source has any */
	AUTH_EXPIRED,   /* expired or refused, waiting for others */
};
const char *auth_state_text(enum auth_state s); /* one word, for status.json */

struct auth_status {
	enum auth_state state;
	char source[256];         /* "environment"; "role arn:… by profile x in ~/.aws/config"; "handed over" */
	int64_t expires_at_ns;    /* 0: not known to expire */
	int64_t renew_at_ns;      /* wall time of the next try; 0: none is planned */
	uint64_t renewals;        /* since the start */
	/* the last try that failed; "" after a good one */
	char error[384];
	char remedy[256];         /* what a person does about it; "" if it may pass by itself */
	int64_t failed_at_ns;
	unsigned tries_failed;    /* in a row */
	/* Access Grants */
	bool by_grant;            /* credentials in use came by a grant */
	char matched_target[AUTH_TARGET_MAX]; /* "s3://bucket/cpg0123-example/broad/" + "*"; "": not known */
	enum auth_permission permission; /* of the credentials in use */
};
void auth_status(struct auth *a, struct auth_status *ret);

/* Region of --region, environment or profile ("" if none). */
void auth_region(struct auth *a, char out[64]);
/* One line for a person, without secrets: "profile cpg_staging in ~/.aws/credentials, access grant
 * s3://…, until 2026-03-01T12:00:00Z"; "none found: set AWS_ACCESS_KEY_ID … or --profile". */
void auth_describe(struct auth *a, char out[256]);
/* Source, error and remedy in one line, for paused_reason; "" while all is well. */
void auth_explain(struct auth *a, char out[512]);
