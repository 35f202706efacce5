/*
 * base_cleanup - scope-end helpers and the last stop for programmer errors.
 */
#include "base_private.h"

void cleanup_free_fn(void *pp)
{
	free(*(void **)pp);
}

void cleanup_fd_fn(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd); /* nothing is decided by it: who must know calls io_fsync first */
	errno = saved;
}

void cleanup_file_fn(FILE **f)
{
	int saved = errno;

	if (*f)
		(void)fclose(*f); /* read-only or already flushed and checked by its user */
	errno = saved;
}

int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

void check_failed(const char *expr, const char *file, int line)
{
	char text[512];

	snprintf(text, sizeof(text), "check failed: %s (%s:%d)", expr, file, line);
	log_last_words(text);
	abort();
}
