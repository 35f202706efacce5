/* The room's state, shared by its contract (auth.c), the schedule (auth_renew.c) and the texts
 * (auth_text.c). */
#pragma once

#include "auth_try.h"

struct auth_stamp {
	int64_t mtime_ns, ctime_ns;
	int64_t size_bytes; /* -1: no such file */
	uint64_t inode;
};

struct auth {
	/* constant after create */
	struct auth_places places;
	struct auth_grant_wish wish;
	bool anonymous;
	void (*news)(void *user);
	void *news_user;
	struct thread *thread; /* NULL before auth_start */
	atomic_bool stop;
	/* of the thread that ticks */
	struct auth_recipe recipe;
	struct auth_stamp stamps[2 + AUTH_WATCH_MAX]; /* of the shared files and recipe.watch */
	int64_t looked_at_ms;
	/* guarded by lock */
	struct lock lock;
	struct cond changed;
	struct {
		struct auth_result *current; /* secret memory; good unless expired or refused */
		bool has;
		bool handed_over;	     /* current is what a person gave */
		struct s3_credentials *base; /* keys that a person gave, to be exchanged; or NULL */
		uint64_t hand_serial;	     /* how often a person gave some */
		bool is_static;		     /* nothing but a change of files brings others */
		char source[256],
			remedy[256]; /* of current; of the last recipe when there is none */
		char region[64];
		uint64_t stamp, renewals;
		int64_t fetched_at_ms;
		/* refused by the server */
		bool refused;
		bool told_to_try; /* by a person (auth_renew): the same keys once more are fine */
		int64_t refused_until_ms; /* then one more attempt may show that it was wrong */
		unsigned refusals;	  /* of credentials that were just fetched, in a row */
		/* the schedule */
		bool wanted;	     /* a try is due */
		bool trying;	     /* one is under way */
		bool planned;	     /* refused ones will be renewed at try_at_ms */
		int64_t asked_at_ms; /* when wanted or trying became true */
		int64_t tried_at_ms; /* when the last one began; INT64_MIN / 2: never */
		int64_t try_at_ms;   /* after a failure; INT64_MAX: none */
		int64_t renew_at_ns; /* wall time, of the server; 0: none */
		/* the last try */
		bool first_done;
		int error;
		struct auth_failure why;
		int64_t failed_at_ns;
		unsigned tries_failed;
		int64_t clock_offset_ns;
	} synced;
};

/* auth_text.c: source, error and remedy */
void auth_explain_shortly(const struct auth_status *s, char out[512]);

/* auth_renew.c */
/* All that is due now: looks at the files, tries if it is time. Returns when to look again
 * (clock_mono_ms). The thread's body; before auth_start a test may play the thread. */
int64_t auth_tick(struct auth *a);
void auth_thread_run(void *auth);
/* Reads the recipe; installs keys that need no asking. For create. */
must_check int auth_first_look(struct auth *a, char **ret_message);
bool auth_usable_locked(const struct auth *a);
/* The current ones are refused: given out again in a minute, or where new ones may come, after
 * these should have come. */
void auth_refuse_locked(struct auth *a);
/* Makes a try due, unless one is. */
void auth_want_locked(struct auth *a);
/* result becomes current. */
void auth_install_locked(struct auth *a, const struct auth_result *result, const char *source);
