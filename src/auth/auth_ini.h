/* The shared AWS files' format; pure. */
#pragma once

#include "cpgfs/base.h"

/* One "name = value" of a section; name in lower case, all without white space around. The text is
 * valid during the call only. Non-zero (-errno) ends the parse. */
typedef int auth_ini_fn(void *user, const char *section, const char *name, const char *value);

/* text is changed in place (len bytes and a NUL). 0; what visit returned; -EBADMSG: *ret_line is
 * neither a section, a setting, a comment nor a continuation. */
must_check int auth_ini_parse(
	char *text, size_t len, auth_ini_fn *visit, void *user, unsigned *ret_line);
