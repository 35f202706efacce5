/*
 * verify_tree - proving what should be in a bucket without a mount.
 *
 *	verify_s3.c      the bucket asked directly
 *	verify_tree.c    both sides side by side: missing, extra, size
 *	verify_proof.c   the same size: are they the same bytes? On a pool of threads
 *	verify_digest.c  MD5, ETags of parts and CRC64NVME of a file
 *	verify_acl.c     who has full control
 */
#pragma once

#include "cpgfs/verify.h"

/* ---- verify_s3.c ---- */
/* One request, again and again while that may help, for some minutes. 0: answered, reply's class is
 * one that retrying does not change; -errno with *ret_message. */
must_check int verify_ask(
	struct s3 *s3, const struct s3_request *req, struct s3_reply *ret, char **ret_message);

bool verify_helps_to_retry(enum s3_class class);
void verify_describe(
	const struct s3_request *req, const struct s3_reply *reply, char **ret_message);

/* ---- verify_digest.c ---- */
struct file_digest {
	uint64_t size_bytes, crc64nvme;
	char etag[S3_ETAG_MAX]; /* MD5, or of the parts that `like` names; "": none fits */
};
/* like: the ETag to find out about, "…-N" for N parts. -errno of reading. */
must_check int verify_digest(
	const char *path, const char *like, bool with_crc, struct file_digest *ret);

/* ---- verify_acl.c ---- */
struct acl_ids; /* who controls how many */
must_check int verify_acl_create(struct acl_ids **ret);
void verify_acl_destroy(struct acl_ids *a);
/* Notes who has FULL_CONTROL of this object. -EBADMSG: no ACL document. Any thread. */
must_check int verify_acl_note(struct acl_ids *a, const char *key, const char *xml, size_t len);
/* Calls each for every object that owner (NULL: see the .c) does not control. *ret_guess
 * (malloc'ed, or NULL): the id that everything was compared with, when only a person knows if it is
 * right. */
must_check int verify_acl_judge(struct acl_ids *a, const char *owner,
	int (*each)(void *user, const char *key, const char *what), void *user, char **ret_guess);

/* ---- verify_proof.c ---- */
struct proofs;
struct proof_hooks {
	void *user;
	/* Any thread. what: for a person. */
	int (*differs)(void *user, enum verify_kind kind, const char *key, const char *what);
	void (*equal)(void *user, bool by_tag, bool by_checksum);
};
must_check int proofs_create(
	struct proofs **ret, const struct verify_tree *t, const struct proof_hooks *hooks);
/* Is that the same without looking further? Then it is counted. */
bool proofs_by_tag(
	struct proofs *p, const struct verify_item *item, const struct s3_object *listed);
/* The item and what is listed under its key, of the same size. Waits while much is under way. */
must_check int proofs_add(
	struct proofs *p, const struct verify_item *item, const struct s3_object *listed);
/* Waits for all. 0, or the first error with *ret_message. Ends and frees it. */
must_check int proofs_finish(struct proofs *p, char **ret_acl_guess, char **ret_message);
