/* credential_process; pure part. */
#pragma once

#include "cpgfs/base.h"

/* line to words (NULL behind the last), which lie in room (at least strlen(line) + 1 bytes).
 * -EINVAL: none, a quote without its end, or a backslash at the end; -E2BIG: max or more. */
must_check int auth_process_split(const char *line, char **words, size_t max, char *room);
