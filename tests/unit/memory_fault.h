/*
 * memory_fault.h - the N-th call for memory (or for a thread, or a handle of curl) fails, for N =
 * 1, 2, 3 … until a case no longer reaches N: no crash, no deadlock, nothing lost, and what the
 * case asserts.
 *
 * Linked with -Wl,--wrap=… (memory_wraps in meson.build): all calls of the rooms come here, also
 * those that libcurl, libxml2 and jansson make through the functions the rooms gave them. Calls of
 * the test itself do not: include this before anything that allocates for the test.
 */
#pragma once
#define MEMORY_FAULT

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>
#include <lmdb.h>

static struct {
	_Atomic long at; /* this call fails; 0: none */
	_Atomic long calls;
	_Atomic bool from_then_on; /* and all behind it */
} memory_fault;

/* A thread of the test's own: it calls the rooms, too. */
static __thread bool memory_spares_thread;

static bool memory_call_fails(void)
{
	long at = atomic_load(&memory_fault.at), now;

	if (at == 0 || memory_spares_thread)
		return false;
	now = atomic_fetch_add(&memory_fault.calls, 1) + 1;
	return now == at || (now > at && atomic_load(&memory_fault.from_then_on));
}

static void memory_fault_begin(long at, bool from_then_on)
{
	atomic_store(&memory_fault.calls, 0);
	atomic_store(&memory_fault.from_then_on, from_then_on);
	atomic_store(&memory_fault.at, at);
}

/* The test looks around meanwhile. */
static inline long memory_fault_pause(void)
{
	return atomic_exchange(&memory_fault.at, 0);
}

static inline void memory_fault_resume(long at)
{
	atomic_store(&memory_fault.at, at);
}

/* Was call N reached? From here on there is memory. */
static bool memory_fault_end(void)
{
	long at = atomic_exchange(&memory_fault.at, 0);

	return atomic_load(&memory_fault.calls) >= at;
}

/* ---- what is wrapped
 * ----------------------------------------------------------------------------- */

#define WRAP(type, name, params, args, failed)                                                     \
	type __real_##name params;                                                                 \
	type __wrap_##name params;                                                                 \
	type __wrap_##name params                                                                  \
	{                                                                                          \
		return memory_call_fails() ? (failed) : __real_##name args;                        \
	}

WRAP(void *, malloc, (size_t size), (size), (errno = ENOMEM, NULL))
WRAP(void *, calloc, (size_t count, size_t size), (count, size), (errno = ENOMEM, NULL))
WRAP(void *, realloc, (void *p, size_t size), (p, size), (errno = ENOMEM, NULL))
WRAP(void *, reallocarray, (void *p, size_t count, size_t size), (p, count, size),
	(errno = ENOMEM, NULL))
WRAP(char *, strdup, (const char *text), (text), (errno = ENOMEM, NULL))
WRAP(char *, strndup, (const char *text, size_t len), (text, len), (errno = ENOMEM, NULL))
WRAP(int, vasprintf, (char **ret, const char *fmt, va_list args), (ret, fmt, args), -1)
WRAP(ssize_t, getline, (char **line, size_t *size, FILE *from), (line, size, from),
	(errno = ENOMEM, -1))
WRAP(ssize_t, __getdelim, (char **line, size_t *size, int end, FILE *from), /* getline, inlined */
	(line, size, end, from), (errno = ENOMEM, -1))
WRAP(int, pthread_create,
	(pthread_t * id, const pthread_attr_t *attr, void *(*run)(void *), void *arg),
	(id, attr, run, arg), EAGAIN)
WRAP(CURL *, curl_easy_init, (void), (), NULL)
WRAP(CURLM *, curl_multi_init, (void), (), NULL)
WRAP(CURLMcode, curl_multi_add_handle, (CURLM * multi, CURL *easy), (multi, easy),
	CURLM_OUT_OF_MEMORY)
WRAP(struct curl_slist *, curl_slist_append, (struct curl_slist * list, const char *text),
	(list, text), NULL)
WRAP(int, mdb_put, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags),
	(txn, dbi, key, value, flags), ENOMEM)
WRAP(int, mdb_cursor_open, (MDB_txn * txn, MDB_dbi dbi, MDB_cursor **cursor), (txn, dbi, cursor),
	ENOMEM)
WRAP(int, mdb_txn_begin, (MDB_env * env, MDB_txn *parent, unsigned flags, MDB_txn **txn),
	(env, parent, flags, txn), ENOMEM)

/* The test's own calls. */
#define malloc __real_malloc
#define calloc __real_calloc
#define realloc __real_realloc
#define reallocarray __real_reallocarray
#define strdup __real_strdup
#define strndup __real_strndup
#define pthread_create __real_pthread_create

/* ---- the sweep
 * ----------------------------------------------------------------------------------- */

/* N for failure messages. */
static long memory_sweep_at;

/* Runs the case for each N; it calls memory_fault_begin(memory_sweep_at, …) and memory_fault_end(),
 * and returns what that said. */
static void memory_sweep(const char *what, bool (*run)(void *user), void *user, long step)
{
	for (memory_sweep_at = 1; run(user); memory_sweep_at += step)
		if (memory_sweep_at > 100000)
			fail_msg("%s: goes on asking for memory", what);
	print_message("%s: %ld places\n", what, memory_sweep_at - 1);
}

#define must_hold(expr)                                                                            \
	do {                                                                                       \
		if (!(expr))                                                                       \
			fail_msg("%s:%d: call %ld failed: does not hold: %s", __FILE__, __LINE__,  \
				memory_sweep_at, #expr);                                           \
	} while (0)
