/* Reading the sources of credentials: environment and shared files. */
#pragma once

#include "cpgfs/auth.h"

/* Names and settings that hold for the life of the process. */
struct auth_places {
	char *profile;          /* never NULL */
	bool profile_is_named;  /* by option or AWS_PROFILE: then it must exist */
	bool use_environment;   /* no --profile was given */
	char *credentials_path, *config_path; /* absolute */
};
must_check int auth_places_init(struct auth_places *ret, const char *profile);
void auth_places_release(struct auth_places *p);

struct auth_found {
	bool has_keys;
	struct s3_credentials keys;
	char region[64];
	char origin[160]; /* for a person: where the keys are from, or why there are none */
};

/* 0 even without keys; -EINVAL with *ret_message (malloc'ed, may be NULL), -ENOMEM. */
must_check int auth_sources_read(
	const struct auth_places *p, struct auth_found *ret, char **ret_message);
