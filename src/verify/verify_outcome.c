/*
 * verify_outcome - what follows when an object of ours was shown equal, different or not at all.
 *
 * A version that changed meanwhile is not judged: the store refuses (-ESTALE), and its next upload
 * is looked at in its turn.
 */
#include "verify_private.h"

#define LOG_ROOM "verify"
/* An upload that vanishes so often before it is verified is not sent for ever. */
#define LOST_MAX 3

static void log_path(struct verify *v, uint64_t ino, struct buf *out)
{
	if (store_path(v->store, ino, out) < 0)
		buf_printf(out, "inode %llu", (unsigned long long)ino);
}

static void say(struct verify *v, enum log_level level, const struct store_inode *inode,
	const char *what)
{
	cleanup_buf struct buf path = {0};

	log_path(v, inode->attr.ino, &path);
	log_at(level, LOG_ROOM, "%s (%s): %s", buf_text(&path), inode->object.key, what);
}

int verify_outcome_of(struct verify *v, uint64_t ino, struct store_inode *ret)
{
	v->names = store_names(v->store);
	return store_inode(v->store, ino, ret);
}

/* What could not be recorded is still to be judged. */
static int recorded(struct verify *v, const struct store_inode *inode, int r)
{
	cleanup_free char *what = NULL;

	if (r >= 0 || r == -ESTALE || r == -ENOENT)
		return 0;
	if (r == -EAGAIN)
		return r;
	if (text_printf(&what, "what was found could not be recorded (%s); will try again",
		    strerror(-r)) == 0)
		say(v, LOG_LEVEL_WARN, inode, what);
	return r;
}

static struct store_transition transition(struct verify *v, const struct store_inode *inode,
	enum file_state to, const char *reason)
{
	return (struct store_transition){
		.ino = inode->attr.ino,
		.generation = inode->attr.generation,
		.from = inode->attr.state,
		.to = to,
		.reason = reason,
		.names = v->names,
	};
}

int verify_outcome_equal(struct verify *v, const struct store_inode *inode)
{
	struct store_transition t = transition(v, inode, FILE_VERIFIED, "");
	struct store_object object = inode->object;

	object.verified_at_ns = clock_wall_ns();
	return recorded(v, inode,
		store_object_set(v->store, &t, &object, inode->attr.flags & STORE_FLAG_ADOPTED));
}

/* Not verified by this: the next listing has to show the tag as it is now. */
int verify_outcome_other_tag(
	struct verify *v, const struct store_inode *inode, const struct s3_object *shown)
{
	struct store_transition t = transition(v, inode, FILE_UPLOADED, "");
	struct store_object object = inode->object;
	int r;

	(void)text_copy(object.etag, shown->etag, sizeof(object.etag)); /* same size */
	r = store_object_set(v->store, &t, &object, inode->attr.flags & STORE_FLAG_ADOPTED);
	if (r == 0)
		say(v, LOG_LEVEL_INFO, inode, "the bucket shows our content with another tag");
	return recorded(v, inode, r);
}

int verify_outcome_different(
	struct verify *v, const struct store_inode *inode, const struct s3_object *shown)
{
	char reason[256];
	struct store_transition t = transition(v, inode, FILE_CONFLICT, reason);
	int r;

	snprintf(reason, sizeof(reason),
		"the bucket shows %llu bytes with tag %.40s; uploaded were %llu bytes with tag %.40s",
		(unsigned long long)shown->size_bytes, shown->etag,
		(unsigned long long)inode->object.size_bytes, inode->object.etag);
	t.in_the_way = store_in_the_way(inode->object.key, shown->etag);
	r = store_state_set(v->store, &t);
	if (r == 0)
		say(v, LOG_LEVEL_WARN, inode, reason);
	return recorded(v, inode, r);
}

/* How often has this upload vanished (this time included)? */
static unsigned count_lost(struct verify *v, uint64_t ino)
{
	for (size_t i = 0; i < array_len(v->lost); i++) {
		if (v->lost[i].ino == ino)
			return ++v->lost[i].times;
	}
	v->lost[v->lost_next++ % array_len(v->lost)] = (struct verify_lost){ino, 1};
	return 1;
}

/* Its chunks were evicted: nothing is left to send. */
static bool is_evicted(struct verify *v, const struct store_inode *inode)
{
	cleanup_fd int fd = -1;

	return store_version_open(v->store, inode->attr.ino, inode->attr.generation, &fd) ==
	       -EREMOTE;
}

/* Never verified: the upload did not last, so it is an upload still to be made. */
static struct store_transition send_again(struct verify *v, const struct store_inode *inode)
{
	if (is_evicted(v, inode))
		return transition(v, inode, FILE_LOST,
			"the object vanished before it was verified, and its bytes are not here "
			"any more");
	if (count_lost(v, inode->attr.ino) > LOST_MAX)
		return transition(v, inode, FILE_FAILED,
			"its object vanishes from the bucket again and again before it is verified");
	return transition(v, inode, FILE_QUEUED,
		"its object vanished before it was verified; it is sent again");
}

int verify_outcome_missing(struct verify *v, const struct store_inode *inode)
{
	struct store_transition t =
		inode->attr.state == FILE_VERIFIED
			? transition(v, inode, FILE_GONE,
				  "it was verified once, and is no longer in the bucket")
			: send_again(v, inode);
	int r = store_state_set(v->store, &t);

	if (r == 0)
		say(v, t.to == FILE_GONE ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, inode, t.reason);
	return recorded(v, inode, r);
}
