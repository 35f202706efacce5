/*
 * temp - data before it is an object: a file in DIR/.s3d/tmp/, or in a sink nothing.
 */
#include "s3d_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic unsigned long temp_count;

static void temp_name(const struct temp *temp, char name[24])
{
	snprintf(name, 24, "%lu", temp->number);
}

int temp_create(struct store *store, struct temp *ret)
{
	struct temp temp = {.store = store, .fd = -1, .number = ++temp_count};
	char name[24];

	temp_name(&temp, name);
	if (!store_options(store)->sink) {
		temp.fd = openat(store_tmp_fd(store), name,
			O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (temp.fd < 0)
			return -errno;
	}
	*ret = temp;
	return 0;
}

int temp_write(struct temp *temp, const void *data, size_t len)
{
	const char *p = data;

	temp->size_bytes += len;
	while (len && temp->fd >= 0) {
		ssize_t n = write(temp->fd, p, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int temp_copy(struct temp *temp, int fd, uint64_t offset_bytes, uint64_t len_bytes)
{
	loff_t offset = (loff_t)offset_bytes;

	temp->size_bytes += len_bytes;
	while (len_bytes && temp->fd >= 0 && fd >= 0) {
		ssize_t n = copy_file_range(fd, &offset, temp->fd, NULL, len_bytes, 0);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (!n)
			return -EIO;
		if (n > 0)
			len_bytes -= (uint64_t)n;
	}
	return 0;
}

int temp_rename(struct temp *temp, int dir_fd, const char *path)
{
	char name[24];

	if (temp->fd < 0)
		return 0;
	temp_name(temp, name);
	if (renameat(store_tmp_fd(temp->store), name, dir_fd, path) < 0)
		return -errno;
	temp->placed = true;
	return 0;
}

void temp_discard(struct temp *temp)
{
	char name[24];

	if (!temp->store)
		return;
	if (temp->fd >= 0) {
		temp_name(temp, name);
		if (!temp->placed)
			(void)unlinkat(store_tmp_fd(temp->store), name, 0);
		close(temp->fd);
	}
	*temp = (struct temp){.fd = -1};
}
