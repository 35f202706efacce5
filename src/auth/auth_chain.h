/* Which way to credentials the environment and the shared files say; pure but for reading them. */
#pragma once

#include "auth_settings.h"

enum auth_kind {
	AUTH_KIND_NONE,	     /* origin says why */
	AUTH_KIND_STATIC,    /* keys as they stand */
	AUTH_KIND_PROCESS,   /* credential_process */
	AUTH_KIND_WEB,	     /* AssumeRoleWithWebIdentity */
	AUTH_KIND_SSO,	     /* `aws sso login` */
	AUTH_KIND_CONTAINER, /* ECS, EKS */
	AUTH_KIND_INSTANCE,  /* EC2 */
};

#define AUTH_ROLES_MAX 8
#define AUTH_WATCH_MAX 4

struct auth_role {
	char *arn, *external_id, *session; /* external_id NULL: none; session NULL: one of ours */
	unsigned duration_s;		   /* 0: the service's */
};

/* First `kind`, then the roles in order, each assumed with what came before. */
struct auth_recipe {
	enum auth_kind kind;
	char origin[256];	     /* for a person: where they are from, or why there are none */
	char remedy[256];	     /* what a person does when they don't work */
	char region[64];	     /* "" if nobody says one */
	char *ca_bundle;	     /* NULL: the system's */
	struct s3_credentials *keys; /* STATIC; secret memory */
	char *process;
	struct auth_role web; /* WEB: arn and session */
	struct {
		char *cache_path, *region, *account, *role;
	} sso;
	struct auth_role roles[AUTH_ROLES_MAX];
	size_t role_count;
	/* files whose change is a reason to look again, beside the two shared ones */
	char *watch[AUTH_WATCH_MAX];
	size_t watch_count;
};
/* 0 even when there is nothing (AUTH_KIND_NONE); -EINVAL with *ret_message (malloc'ed, may be
 * NULL): what stands there can't be meant; -ENOMEM. */
must_check int auth_chain_find(
	struct auth_recipe *ret, const struct auth_places *p, char **ret_message);
void auth_recipe_release(struct auth_recipe *r);
