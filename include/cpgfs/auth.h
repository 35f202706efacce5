/*
 * auth - where credentials come from: environment, then the shared files by profile; read again
 *        when the files change.
 *
 * Owns:     the current credentials in memory; nothing on disk. Nothing secret is ever logged.
 * Threads:  any.
 * Locks:    RANK_AUTH.
 * Errors:   0 or -errno.
 * Source:   AWS CLI user guide, "Configuration and credential file settings"; sections [name] and
 *           [profile name] are accepted in both files (the gallery's tutorial writes the former
 *           into ~/.aws/config).
 * Tests:    tests/unit/test_auth_*.c
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 40
#error "auth.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/s3.h"

struct auth;

struct auth_config {
	const char *profile; /* --profile; NULL: AWS_PROFILE, else "default"; given: before environment keys */
	bool anonymous;      /* --no-sign-request */
};

/* Reads the sources once. 0 even when none was found (auth_get tells): a mount may start and wait.
 * -EINVAL: a named profile does not exist or a file is malformed; *ret_message (malloc'ed) says
 * which, and the way out. */
must_check int auth_create(struct auth **ret, const struct auth_config *config, char **ret_message);
void auth_destroy(struct auth *a); /* wipes the keys */

/* Current credentials. -ENOKEY: none found; -EKEYEXPIRED: known to be expired. Looks at the files'
 * stamps (at most once a second) and reads them again when they changed. */
must_check int auth_get(struct auth *a, struct s3_credentials *ret);
/* The server refused these: read the sources again; changed ones are used at once. */
void auth_rejected(struct auth *a, const struct s3_credentials *which, const char *code);
/* For s3_config.credentials. */
struct s3_credentials_source auth_source(struct auth *a);

/* Region of the profile or environment ("" if none). */
void auth_region(struct auth *a, char out[64]);
/* One line for a person, without secrets: "environment", "profile cpg_staging in ~/.aws/credentials",
 * "none found: set AWS_ACCESS_KEY_ID … or --profile". */
void auth_describe(struct auth *a, char out[256]);
