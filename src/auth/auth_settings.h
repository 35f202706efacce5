/* The two shared files, read into memory that is wiped when released. */
#pragma once

#include "auth_places.h"

struct auth_setting {
	const char *section, *name, *value; /* of one section, section is one pointer */
	unsigned file; /* 0: credentials, 1: config */
};
struct auth_settings {
	struct auth_setting *items;
	size_t count, room;
	char *text[2]; /* secret memory that the items point into */
	char *broken;  /* NULL, or which file or line can't be used, and the way out */
};
/* Reads what can be read: what can't is told by `broken`. -ENOMEM. */
must_check int auth_settings_read(struct auth_settings *ret, const struct auth_places *p);
void auth_settings_release(struct auth_settings *s);

#define AUTH_CREDENTIALS_FILE 1u
#define AUTH_CONFIG_FILE 2u
/* Is there a section [profile] or [profile PROFILE] in either? */
bool auth_profile_exists(const struct auth_settings *s, const char *profile);
/* A profile's setting, NULL if absent or empty; the credentials file's before the config file's,
 * the later line before the earlier. files: a bit for each to look into. */
const char *auth_profile_get(
	const struct auth_settings *s, const char *profile, const char *name, unsigned files);
/* The same of keys in one file: only of the section whose aws_access_key_id counts, if there are
 * several of that profile. */
const char *auth_profile_get_key(
	const struct auth_settings *s, const char *profile, const char *name, unsigned file);
/* The same of a section [KIND NAME], as in [sso-session my-sso]. */
const char *auth_section_get(
	const struct auth_settings *s, const char *kind, const char *of, const char *name);
bool auth_section_exists(const struct auth_settings *s, const char *kind, const char *of);
