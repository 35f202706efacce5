/* What the process was started with: names, paths and the environment's keys, copied once, because
 * a daemon changes its folder and forgets its environment. */
#pragma once

#include "cpgfs/auth.h"

struct auth_places {
	char *profile;	       /* never NULL */
	bool profile_is_named; /* by option or AWS_PROFILE: then it must exist */
	bool use_environment;  /* no --profile was given: keys there count */
	char *home, *start_folder;
	char *credentials_path, *config_path; /* absolute */
	char *region;	 /* of the command line, else the environment; "" if none */
	char *ca_bundle; /* absolute; "" if none was named */
	/* roles and endpoints as the environment has them; "" if not */
	char *role_arn, *role_session, *web_token_path;
	char *container_relative, *container_full, *container_token_path;
	char *sts_endpoint, *s3_control_endpoint, *sso_endpoint, *metadata_endpoint;
	bool metadata_disabled;
	/* in secret memory */
	struct auth_environment_keys {
		struct s3_credentials keys;
		bool too_long;
		char container_token[4096];
	} * environment;
};
must_check int auth_places_init(struct auth_places *ret, const struct auth_config *config);
void auth_places_release(struct auth_places *p);
/* PATH as people write it: "~/x" for what lies at home. */
void auth_path_for_people(const struct auth_places *p, const char *path, char *out, size_t size);
/* "~/x" and "x" (of the folder the process was started in) to an absolute path. */
must_check int auth_path_absolute(const struct auth_places *p, const char *path, char **ret);
