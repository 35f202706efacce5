/*
 * cli_verify_mount - the bucket as a running mount asks it, with the mount's credentials: a listing
 *                    made now, and checksums key by key.
 */
#include "cli_verify.h"

#include <inttypes.h>
#include <jansson.h>
#include <sys/stat.h>

struct side {
	char *root;
	struct buf listing;
	char *next; /* line to be read; NULL: the end */
	char *after;
	char *only; /* this key, not what else is in its folder; NULL: all */
	char key[KEY_MAX_BYTES + 1];
};

static void side_close(void *user)
{
	struct side *s = user;

	if (!s)
		return;
	buf_release(&s->listing);
	free(s->root);
	free(s->after);
	free(s->only);
	free(s);
}

/* key, size, etag, time. -EBADMSG: not such a line. */
static int read_line(struct side *s, char *line, struct s3_object *ret)
{
	char *save = NULL, *key = strtok_r(line, "\t", &save), *size = strtok_r(NULL, "\t", &save);
	char *etag = strtok_r(NULL, "\t", &save);

	*ret = (struct s3_object){0};
	if (!key || !size || !etag || text_unescape(key) < 0 ||
		!text_copy(s->key, key, sizeof(s->key)) || u64_parse(size, &ret->size_bytes) < 0 ||
		!text_copy(ret->etag, etag, sizeof(ret->etag)))
		return -EBADMSG;
	return 1;
}

static bool is_left_out(const struct side *s)
{
	return strcmp(s->key, s->after) <= 0 || (s->only && strcmp(s->key, s->only) != 0);
}

static int side_next(
	void *user, const char **key, size_t *ret_len, struct s3_object *ret, char **ret_message)
{
	struct side *s = user;
	int r;

	do {
		char *line = s->next;

		if (!line || !*line)
			return 0;
		s->next = strchr(line, '\n');
		if (s->next)
			*s->next++ = '\0';
		r = read_line(s, line, ret);
	} while (r == 1 && is_left_out(s));
	*key = s->key;
	*ret_len = strlen(s->key);
	if (r < 0)
		*ret_message = text_dup("the mount's listing cannot be read");
	return r;
}

static int side_checksum(void *user, const char *key, uint64_t *ret_crc, char **ret_message)
{
	struct side *s = user;
	const char *text, *error;
	json_t *answer;
	int r = cli_ask(s->root, "checksum", key, &answer);

	if (r < 0)
		return r;
	error = json_string_value(json_object_get(answer, "error"));
	text = json_string_value(json_object_get(answer, "crc64nvme"));
	if (error && text_printf(ret_message, "%s: %s", key, error) < 0)
		*ret_message = NULL;
	if (error)
		r = -EIO;
	else
		r = text ? (crc64nvme_from_text(text, ret_crc) < 0 ? -EBADMSG : 1) : 0;
	json_decref(answer);
	return r;
}

/* Nothing of that name in the bucket is an empty listing; an object is looked for in that of its
 * folder. */
static int read_listing(struct side *s, const char *prefix)
{
	cleanup_buf struct buf place = {0}, name = {0};
	size_t len = strlen(prefix);
	struct stat st;
	int r;

	buf_printf(&place, "%s/.cpgfs/remote/%s", s->root, prefix);
	if (buf_error(&place) < 0)
		return -ENOMEM;
	if (stat(buf_text(&place), &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode)) {
		s->only = text_dup(prefix);
		if (!s->only)
			return -ENOMEM;
		len = strrchr(prefix, '/') ? (size_t)(strrchr(prefix, '/') - prefix) : 0;
	}
	buf_printf(&name, "remote/%.*s%s.listing.tsv", (int)len, prefix, len ? "/" : "");
	if (buf_error(&name) < 0)
		return -ENOMEM;
	buf_init(&s->listing, GIB);
	r = cli_read(s->root, buf_text(&name), &s->listing);
	s->next = r == 0 ? strchr(s->listing.data, '\n') : NULL;
	if (s->next)
		s->next++;
	return r;
}

int verify_bucket_mount(
	struct verify_bucket *ret, const char *root, const char *prefix, const char *after)
{
	struct side *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;

	if (r == 0) {
		s->root = text_dup(root);
		s->after = text_dup(after);
		r = s->root && s->after ? read_listing(s, prefix) : -ENOMEM;
	}
	if (r < 0) {
		cli_error("%s: the bucket cannot be listed: %s", root, strerror(-r));
		side_close(s);
		return r;
	}
	*ret = (struct verify_bucket){
		.user = s, .list_next = side_next, .checksum = side_checksum, .close = side_close};
	return 0;
}
