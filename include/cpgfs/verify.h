/*
 * verify - compare what was copied in with what the bucket lists afterwards.
 *
 * Owns:     UPLOADED -> VERIFIED, and VERIFIED -> GONE or CONFLICT.
 * Threads:  one, made by verify_start(): after uploads finish in a folder, a fresh listing that was
 *           begun after the last of them is compared.
 * Locks:    RANK_VERIFY; never held over a listing.
 * Errors:   0 or -errno.
 * Tests:    tests/unit/test_verify_*.c
 */
#pragma once

#if defined(CPGFS_LAYER) && CPGFS_LAYER < 80
#error "verify.h: a lower room may not include it (README, source map)"
#endif

#include "cpgfs/remote.h"
#include "cpgfs/store.h"
#include "cpgfs/upload.h"

struct verify;

struct verify_config {
	struct store *store;
	struct remote *remote;
	struct naming_policy naming;
	int64_t quiet_ms; /* look at a folder this long after the last upload in it; 0: 1,000; while
			     uploads go on in it: at latest every 30 s */
};
must_check int verify_create(struct verify **ret, const struct verify_config *config);
must_check int verify_start(struct verify *v); /* takes up what is UPLOADED from before */
/* Waits for a listing under way: call remote_stop() before, which ends it. */
void verify_stop(struct verify *v);
void verify_destroy(struct verify *v);

/* News from the store (store_events.changed). Cheap, any thread. */
void verify_notice(struct verify *v, const struct store_change *change);
/* News from remote (remote_events.listed): what a listing does not show any more is GONE. Cheap, any
 * thread. */
void verify_notice_listed(struct verify *v, const char *prefix, int error);
/* Look at once at everything that is UPLOADED below path ("" = all). */
void verify_hurry(struct verify *v, const char *path);

/*
 * Judge one object of ours against a listing entry: 0 equal (size and ETag as the server gave them
 * to us), -EBADMSG different. Pure.
 */
must_check int verify_compare(const struct store_object *ours, const struct s3_object *listed);
