/*
 * verify_gone - files that were verified once and that a listing, made for whoever, does not show any
 * more: the maintainers moved the plate on, or somebody deleted it.
 *
 * The cached listing is looked at first, which asks nobody. Only if it lacks something of ours a
 * fresh one is made, and what that lacks is asked for by name.
 */
#include "verify_private.h"

#define LOG_ROOM "verify"
#define READDIR_BATCH 64
#define FOLDERS_PAGE 16

void verify_notice_listed(struct verify *v, const char *prefix, int error)
{
	char *copy;

	if (error)
		return;
	with_lock(&v->lock);
	for (unsigned i = 0; i < v->synced.listed_count; i++) {
		if (strcmp(v->synced.listed[i], prefix) == 0)
			return;
	}
	copy = v->synced.listed_count < VERIFY_LISTED_MAX ? text_dup(prefix) : NULL;
	if (!copy)
		return; /* its next listing will do */
	v->synced.listed[v->synced.listed_count++] = copy;
	cond_signal(&v->wake);
}

static char *take_listed(struct verify *v)
{
	with_lock(&v->lock);
	return v->synced.listed_count > 0 ? v->synced.listed[--v->synced.listed_count] : NULL;
}

/* News come with every change of ours, too: each listing is looked at once. */
static bool is_seen(const struct verify *v, const struct verify_seen *it)
{
	const struct verify_seen *seen = &v->seen[it->prefix_hash % VERIFY_SEEN_MAX];

	return seen->prefix_hash == it->prefix_hash && seen->listed_at_ns == it->listed_at_ns;
}

/* A time that still lies ahead is from before the clock was set back. */
static bool was_verified_before(const struct store_inode *inode, int64_t at_ns)
{
	return inode->object.verified_at_ns < at_ns ||
	       inode->object.verified_at_ns > clock_wall_ns();
}

static int is_missing(struct verify *v, const char *prefix, int64_t listed_at_ns,
	const struct store_entry *entry, struct store_inode *inode)
{
	int r;

	if (entry->attr.type != STORE_FILE || entry->attr.state != FILE_VERIFIED)
		return 0;
	r = store_inode(v->store, entry->attr.ino, inode);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* forgotten meanwhile */
	return was_verified_before(inode, listed_at_ns) &&
	       verify_is_in_folder(inode->object.key, prefix) &&
	       remote_cached_has(v->remote, prefix, inode->object.key + strlen(prefix)) == 0;
}

/* 1, 0, -errno. */
static int lacks_something(
	struct verify *v, const char *prefix, int64_t listed_at_ns, uint64_t dir_ino)
{
	cleanup_free struct store_entry *batch = calloc(READDIR_BATCH, sizeof(*batch));
	cleanup_free struct store_inode *inode = calloc(1, sizeof(*inode));
	char after[STORE_NAME_MAX + 1] = "";
	int n;

	if (!batch || !inode)
		return -ENOMEM;
	while ((n = store_readdir(v->store, dir_ino, after, batch, READDIR_BATCH)) > 0) {
		for (int i = 0; i < n; i++) {
			int r = is_missing(v, prefix, listed_at_ns, &batch[i], inode);

			if (r != 0)
				return r;
		}
		(void)text_copy(after, batch[n - 1].name, sizeof(after)); /* same size */
		if (verify_is_stopping(v))
			return -ESHUTDOWN;
	}
	return n;
}

/* ---- the local folders of a prefix: more than one where names are cleaned on the way to the key --- */

struct listed {
	struct verify *verify;
	const char *prefix;
	int64_t at_ns;
	int error; /* not all could be looked at */
};

static void look_in(struct listed *l, uint64_t dir_ino)
{
	int r = lacks_something(l->verify, l->prefix, l->at_ns, dir_ino);

	if (r == 1)
		r = verify_check_gone(l->verify, l->prefix, dir_ino);
	if (r < 0 && r != -ESHUTDOWN)
		log_debug("what is gone from \"%s\" can't be told now (%s)", l->prefix,
			strerror(-r));
	if (r < 0)
		l->error = r;
}

static void look_below(struct listed *l, uint64_t dir_ino, const char *rest, unsigned depth);

/* Folders of other names that are cleaned to this one. */
static void look_in_cleaned(struct listed *l, uint64_t dir_ino, const char *name,
	const char *rest, unsigned depth)
{
	const struct verify *v = l->verify;
	struct store_entry page[FOLDERS_PAGE];
	char after[STORE_NAME_MAX + 1] = "", cleaned[STORE_NAME_MAX + 1];
	int n;

	while ((n = store_readdir_folders(v->store, dir_ino, after, page, FOLDERS_PAGE)) > 0) {
		for (int i = 0; i < n; i++) {
			if (strcmp(page[i].name, name) != 0 &&
				name_clean(&v->naming, page[i].name, cleaned, sizeof(cleaned)) == 0 &&
				strcmp(cleaned, name) == 0)
				look_below(l, page[i].attr.ino, rest, depth + 1);
		}
		memcpy(after, page[n - 1].name, sizeof(after));
	}
	if (n < 0)
		l->error = n;
}

static void look_below(struct listed *l, uint64_t dir_ino, const char *rest, unsigned depth)
{
	size_t len = strcspn(rest, "/");
	char name[STORE_NAME_MAX + 1];
	struct store_attr attr;
	int r;

	if (len == 0) {
		look_in(l, dir_ino);
		return;
	}
	if (len >= sizeof(name))
		return;
	memcpy(name, rest, len);
	name[len] = '\0';
	rest += len + (rest[len] == '/');
	r = store_lookup(l->verify->store, dir_ino, name, &attr);
	if (r == 0 && attr.type == STORE_DIR)
		look_below(l, attr.ino, rest, depth + 1);
	else if (r < 0 && r != -ENOENT)
		l->error = r;
	if (l->verify->naming.mode == NAMING_CLEAN && depth <= NAMING_STRICT_DEPTH)
		look_in_cleaned(l, dir_ino, name, rest, depth);
}

bool verify_gone_pass(struct verify *v)
{
	cleanup_free char *prefix = take_listed(v);
	struct listed l = {.verify = v, .prefix = prefix};
	struct verify_seen it;

	if (!prefix)
		return false;
	l.at_ns = remote_listed_at(v->remote, prefix);
	it = (struct verify_seen){verify_hash_of(prefix, strlen(prefix)), l.at_ns};
	if (!l.at_ns || is_seen(v, &it))
		return true;
	look_below(&l, STORE_ROOT_INO, prefix, 1);
	if (l.error == 0) /* else the next news makes us look again */
		v->seen[it.prefix_hash % VERIFY_SEEN_MAX] = it;
	return true;
}
