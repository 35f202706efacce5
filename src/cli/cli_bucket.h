/*
 * cli_bucket - a bucket without a mount.
 */
#pragma once

#include "cpgfs/auth.h"

#include "cli_private.h"

struct cli_bucket {
	struct cli_mount options;
	struct auth *auth;
	struct s3 *s3;
};

/* Fills m from the options of `cpgfs mount` in argv (--gallery's presets below them) and takes them
 * out of it; the command's own stay. -EINVAL after a message. */
must_check int cli_bucket_options(struct cli_mount *m, int *argc, char **argv);
/* address: s3://BUCKET[/PREFIX]; NULL: the gallery's bucket. Waits for credentials, to read. -errno
 * after a message; close it in any case. */
must_check int cli_bucket_open(struct cli_bucket *b, const char *address);
void cli_bucket_close(struct cli_bucket *b);
