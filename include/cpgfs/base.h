/*
 * base - what every room stands on: errors, cleanup, locks, threads, clock, log, buffers,
 *        digests, file I/O, small text helpers.
 *
 * Owns:     process-wide log settings, the clock seam, the file I/O seam, the lock rank table.
 * Threads:  everything here may be called from any thread unless said otherwise.
 * Errors:   0 (or a documented count) or -errno; ret_ arguments are written on success only.
 * Tests:    tests/unit/test_base_*.c
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* ---- compiler help ---------------------------------------------------------------------- */

#define must_check __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))
#define array_len(a) (sizeof(a) / sizeof((a)[0]))

#define KIB ((uint64_t)1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

#define NS_PER_S INT64_C(1000000000)
#define MS_PER_S INT64_C(1000)

/* ---- cleanup: `cleanup_free char *p = …;` frees at scope end; steal_ptr/steal_fd keep ------ */

void cleanup_free_fn(void *pp);
void cleanup_fd_fn(int *fd);
void cleanup_file_fn(FILE **f);
#define cleanup_free __attribute__((cleanup(cleanup_free_fn)))
#define cleanup_fd __attribute__((cleanup(cleanup_fd_fn)))
#define cleanup_file __attribute__((cleanup(cleanup_file_fn)))
#define cleanup_with(fn) __attribute__((cleanup(fn)))

/* Declares cleanup_NAME_fn for an opaque `struct NAME *` that NAME_FREE(p) ends (NULL is skipped).
 */
#define DEFINE_CLEANUP(name, type, free_fn)                                                        \
	static inline void cleanup_##name##_fn(type *pp)                                           \
	{                                                                                          \
		if (*pp)                                                                           \
			free_fn(*pp);                                                              \
	}

#define steal_ptr(p)                                                                               \
	({                                                                                         \
		__typeof__(p) stolen_ = (p);                                                       \
		(p) = NULL;                                                                        \
		stolen_;                                                                           \
	})
int steal_fd(int *fd);

/* Programmer errors only (never for the world's errors); stays on in every build. */
_Noreturn void check_failed(const char *expr, const char *file, int line);
#define check(expr) ((expr) ? (void)0 : check_failed(#expr, __FILE__, __LINE__))

/* ---- locks with ranks -------------------------------------------------------------------- */

/*
 * One table of all locks: a thread takes locks in rising rank only (never two of one rank). Every
 * build checks this at each take and aborts naming both sites.
 */
enum lock_rank {
	RANK_CONTROL = 10,     /* control: command queue, snapshots */
	RANK_FS_TABLE = 20,    /* fs: inode table */
	RANK_FS_NODE = 25,     /* fs: one node */
	RANK_FS_PARK = 30,     /* fs: parked requests */
	RANK_VERIFY = 35,      /* verify: folders to look at */
	RANK_UPLOAD = 40,      /* upload: scheduler state */
	RANK_REMOTE = 50,      /* remote: listing cache, fetches in flight */
	RANK_STORE_FILE = 60,  /* store: one open file's version state */
	RANK_STORE_SPACE = 65, /* store: space accounting and waiters */
	RANK_STORE_INDEX = 70, /* store: index, journal append, the open LMDB transaction */
	RANK_STORE_SYNC = 75,  /* store: group sync of the journal */
	RANK_AUTH = 80,	       /* auth: current credentials */
	RANK_S3 = 85,	       /* s3: submit queue, endpoint facts */
	RANK_POOL = 90,	       /* base: work queue of a thread pool */
	RANK_LOG = 99,	       /* base: log output */
};

struct lock {
	pthread_mutex_t mutex;
	enum lock_rank rank;
	const char *name;
};

void lock_init(struct lock *l, enum lock_rank rank, const char *name);
void lock_release_storage(struct lock *l);
void lock_take_at(struct lock *l, const char *site);
void lock_drop(struct lock *l);
bool lock_is_mine(const struct lock *l);
#define BASE_STR2(x) #x
#define BASE_STR(x) BASE_STR2(x)
#define lock_take(l) lock_take_at((l), __FILE__ ":" BASE_STR(__LINE__))
#define lock_assert_held(l) check(lock_is_mine(l))
/* For places that may block (network, replies, callbacks upward): this thread holds no lock. */
void lock_assert_none_held(void);

void cleanup_lock_fn(struct lock **l);
/* `with_lock(&x->lock);` holds it to the end of the scope. */
#define BASE_PASTE2(a, b) a##b
#define BASE_PASTE(a, b) BASE_PASTE2(a, b)
#define with_lock(l)                                                                               \
	__attribute__((cleanup(cleanup_lock_fn))) struct lock *BASE_PASTE(                         \
		scoped_lock_, __LINE__) = (l);                                                     \
	lock_take(BASE_PASTE(scoped_lock_, __LINE__))

/* Condition on CLOCK_MONOTONIC. cond_wait_until returns 0 or -ETIMEDOUT; callers loop on their
 * predicate. deadline_ms is clock_mono_ms() based; INT64_MAX waits without end. l must be the only
 * lock this thread holds. */
struct cond {
	pthread_cond_t cond;
};
void cond_init(struct cond *c);
void cond_release(struct cond *c);
int cond_wait_until(struct cond *c, struct lock *l, int64_t deadline_ms);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

/* ---- threads ----------------------------------------------------------------------------- */

/* Start a named thread (15 bytes shown) with all signals blocked; thread_join waits for its end. */
struct thread;
must_check int thread_start(
	struct thread **ret, const char *name, void (*run)(void *user), void *user);
void thread_join(struct thread *t); /* joins and frees; NULL is fine */

/* A pool of worker threads (>= 1) over one FIFO of at most max_queued (>= 1) waiting jobs; jobs run
 * in any order across workers. */
struct pool;
must_check int pool_create(
	struct pool **ret, const char *name, unsigned threads, unsigned max_queued);
/* 0, -EAGAIN when max_queued jobs wait, -ESHUTDOWN after pool_destroy began. */
must_check int pool_submit(struct pool *p, void (*run)(void *user), void *user);
void pool_destroy(struct pool *p); /* finishes what is queued, then joins; NULL is fine */

/* ---- clock (seam: tests may install a fake) ------------------------------------------------ */

int64_t clock_mono_ms(void); /* for durations and deadlines */
int64_t clock_mono_ns(void);
int64_t clock_boot_ns(void); /* likewise, and goes on while the machine sleeps */
int64_t clock_wall_ns(void); /* since the epoch: for time stamps and signatures */
/* Fake both clocks (tests): they stand still until moved. clock_fake_end restores the real ones.
 * cond_wait_until notices a moved fake clock within a millisecond. */
void clock_fake_begin(int64_t wall_ns);
void clock_fake_advance_ms(int64_t ms);
void clock_fake_set_ahead_ms(int64_t ms); /* the wall clock alone, as somebody sets it */
void clock_fake_end(void);
/* Timeout for poll(2)-like calls up to a clock_mono_ms() based deadline: 0 when it has passed; with
 * a fake clock at most 1 ms, so that the caller's loop looks again. */
int clock_poll_timeout_ms(int64_t deadline_ms);

/* "2026-03-01T12:00:00Z" (ISO 8601; optional .fraction; "+02:00" instead of Z) to ns since the
 * epoch. -EINVAL, -ERANGE outside the years 1678..2261. */
must_check int time_parse_iso8601(const char *text, int64_t *ret_ns);
/* Back, in UTC: whole seconds (rounded down), or with three digits of milliseconds. */
void time_format_iso8601(int64_t wall_ns, char out[32]);
void time_format_iso8601_ms(int64_t wall_ns, char out[32]);
/* RFC 7231 "Sun, 06 Nov 1994 08:49:37 GMT" to ns. -EINVAL, -ERANGE. */
must_check int time_parse_http(const char *text, int64_t *ret_ns);

/* ---- log --------------------------------------------------------------------------------- */

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Lines go to stderr, or to `path` (appended, reopened by log_reopen), or to syslog/journal when
 * use_syslog. One line: "2026-…Z level room: text", control characters as \xNN, cut at 8 KiB.
 * errno is kept. Never pass secrets. Before log_open: stderr, level info. */
must_check int log_open(enum log_level level, const char *path, bool use_syslog);
int log_reopen(void);
void log_set_level(enum log_level level);
bool log_wants(enum log_level level);
void log_at(enum log_level level, const char *room, const char *fmt, ...) printf_like(3, 4);
must_check int log_level_parse(const char *text, enum log_level *ret);
/* Each .c that logs defines LOG_ROOM, e.g. #define LOG_ROOM "upload". */
#define log_error(...) log_at(LOG_LEVEL_ERROR, LOG_ROOM, __VA_ARGS__)
#define log_warn(...) log_at(LOG_LEVEL_WARN, LOG_ROOM, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, LOG_ROOM, __VA_ARGS__)
#define log_debug(...)                                                                             \
	(log_wants(LOG_LEVEL_DEBUG) ? log_at(LOG_LEVEL_DEBUG, LOG_ROOM, __VA_ARGS__) : (void)0)

/* ---- buffers ----------------------------------------------------------------------------- */

/*
 * A growing byte buffer with an upper bound and an error latch: after a failed append (-ENOMEM,
 * -ENOBUFS beyond max) every later one is a no-op; look at buf_error() once at the end. data is
 * always NUL-terminated (never NULL after the first append; buf_text() is "" before). All zeros is
 * an empty buffer: `cleanup_buf struct buf b = {0};`.
 */
struct buf {
	char *data;
	size_t len, cap, max; /* max 0: 64 MiB */
	int error;	      /* first -errno, 0 while fine */
	bool wipes;	      /* for keys and tokens: what it gives up, growing or at its end, is wiped */
};
void buf_init(struct buf *b, size_t max_bytes);
void buf_release(struct buf *b);
void buf_clear(struct buf *b); /* len = 0, error = 0, memory kept */
void buf_add(struct buf *b, const void *data, size_t len);
void buf_add_text(struct buf *b, const char *text);
void buf_add_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) printf_like(2, 3);
const char *buf_text(const struct buf *b);
must_check int buf_error(const struct buf *b);
char *buf_steal(struct buf *b); /* the malloc'ed text, NULL only after an error; b is empty after */
void cleanup_buf_fn(struct buf *b);
#define cleanup_buf __attribute__((cleanup(cleanup_buf_fn)))

/* ---- secrets ------------------------------------------------------------------------------- */

/* Zeroed memory on pages of its own: locked, left out of core dumps, wiped by secret_free. For keys
 * and whatever holds them for longer than a function. NULL when out of memory. */
must_check void *secret_alloc(size_t size);
void secret_free(void *p); /* NULL is fine */
void cleanup_secret_fn(void *pp);
#define cleanup_secret __attribute__((cleanup(cleanup_secret_fn)))
/* For libraries that let their allocator be replaced (curl, jansson, libxml2): what they free is
 * wiped. malloc() goes with them. */
void wiping_free(void *p);
/* Libraries that handled keys leave pieces of them on the stack: what lies below the caller's frame is
 * overwritten, as deep as they go, and the wide registers are. */
void stack_wipe(void);
/* The wide registers alone: after a key was copied. */
void registers_wipe(void);
void *wiping_realloc(void *p, size_t size);

/* Big-endian and little-endian numbers in byte strings. */
void put_be64(uint8_t *p, uint64_t v);
uint64_t get_be64(const uint8_t *p);
void put_be32(uint8_t *p, uint32_t v);
uint32_t get_be32(const uint8_t *p);
void put_be16(uint8_t *p, uint16_t v);
uint16_t get_be16(const uint8_t *p);
void put_le64(uint8_t *p, uint64_t v);
uint64_t get_le64(const uint8_t *p);
void put_le32(uint8_t *p, uint32_t v);
uint32_t get_le32(const uint8_t *p);
void put_le16(uint8_t *p, uint16_t v);
uint16_t get_le16(const uint8_t *p);

/* ---- digests ------------------------------------------------------------------------------- */

/* CRC-64/NVME (reflected, poly 0xad93d23594c93659, init and xorout all ones): what S3 calls
 * CRC64NVME. Start with 0; feeding ranges in turn equals feeding them at once.
 * Check value of "123456789": 0xae8b14860a799888. */
uint64_t crc64nvme(uint64_t crc, const void *data, size_t len);
/* CRC of A‖B from the CRCs of A and B and the length of B. */
uint64_t crc64nvme_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b);
/* CRC of len zero bytes appended: for holes. */
uint64_t crc64nvme_zeros(uint64_t crc, uint64_t len);
/* Base64 of the 8 big-endian bytes, as the x-amz-checksum-crc64nvme header has it. */
void crc64nvme_to_text(uint64_t crc, char out[16]);
must_check int crc64nvme_from_text(const char *text, uint64_t *ret);

struct sha256_ctx; /* incremental; create/update/finish (finish frees) */
must_check int sha256_create(struct sha256_ctx **ret);
void sha256_update(struct sha256_ctx *c, const void *data, size_t len);
void sha256_finish(struct sha256_ctx *c, uint8_t out[32]);
void sha256_of(const void *data, size_t len, uint8_t out[32]);
void hmac_sha256(
	const void *key, size_t key_len, const void *data, size_t data_len, uint8_t out[32]);
struct md5_ctx;
must_check int md5_create(struct md5_ctx **ret);
void md5_update(struct md5_ctx *c, const void *data, size_t len);
void md5_finish(struct md5_ctx *c, uint8_t out[16]);

void hex_encode(const void *data, size_t len, char *out /* 2*len+1 */);
must_check int hex_decode(const char *text, size_t len, uint8_t *out /* len/2 */);
void base64_encode(const void *data, size_t len, char *out /* 4*((len+2)/3)+1 */);
/* Padded form only, no white space. -EINVAL, -ENOBUFS. */
must_check int base64_decode(const char *text, uint8_t *out, size_t out_max, size_t *ret_len);
uint64_t random_u64(void);

/* ---- file I/O: the seam for disk faults ----------------------------------------------------- */

/* All reads and writes of the cache directory go through these. Full transfers or -errno;
 * io_pread returns a short count only at end of file. EINTR is retried inside. */
must_check int io_open(const char *path, int flags, mode_t mode, int *ret_fd); /* O_CLOEXEC added */
must_check int io_openat(int dir_fd, const char *path, int flags, mode_t mode, int *ret_fd);
must_check ssize_t io_pread(int fd, void *data, size_t len, uint64_t off);
/* 0: all of that range is in the page cache; -EAGAIN: it is not, or lies beyond the end. */
must_check int io_is_cached(int fd, uint64_t off, size_t len);
must_check int io_pwrite(int fd, const void *data, size_t len, uint64_t off);
must_check int io_fsync(int fd);
must_check int io_fdatasync(int fd);
must_check int io_syncfs(int fd);
must_check int io_truncate(int fd, uint64_t size);
must_check int io_fallocate(int fd, int mode, uint64_t off, uint64_t len);
/* Makes all missing levels; existing folders are fine, -ENOTDIR where a level is something else. */
must_check int io_mkdir_p(const char *path, mode_t mode);

/* ---- processes ------------------------------------------------------------------------------ */

/* The line of /proc/PID/stat. -ESRCH: there is no such process (any more, or in this namespace). */
must_check int process_stat(pid_t pid, char *line, size_t size);
/* Its field n (from 3), a number; false: it has none. */
bool process_stat_field(const char *line, unsigned n, uint64_t *ret);
/* Gone, or killed and about to go: what it holds will be free in a moment. */
bool process_is_ending(pid_t pid);

/* ---- text ----------------------------------------------------------------------------------- */

/* "8M", "1.5G", "500" (binary K M G T P, optional B/iB) to bytes; "90", "90s", "10m", "12h",
 * "2d", "250ms" to milliseconds (no unit: seconds). Units in either case. -EINVAL for anything
 * else (signs, blanks, junk), -ERANGE when it does not fit, or is longer than 100 years; the caller
 * names the option. */
must_check int size_parse(const char *text, uint64_t *ret_bytes);
must_check int duration_parse(const char *text, int64_t *ret_ms);
/* "2.5 MiB", "60 GiB": for people. */
void size_format(uint64_t bytes, char out[24]);
void duration_format(int64_t ms, char out[24]);
must_check int u64_parse(const char *text, uint64_t *ret); /* digits only; -EINVAL, -ERANGE */
bool text_starts(const char *text, const char *prefix);
bool text_ends(const char *text, const char *suffix);
bool utf8_is_valid(const char *text, size_t len);
/* Copies at most size-1 bytes, always terminated; returns false when cut. */
bool text_copy(char *dst, const char *src, size_t size);
char *text_dup(const char *text); /* NULL when out of memory */
must_check int text_printf(char **ret, const char *fmt, ...) printf_like(2, 3);
/* TSV/JSON-safe form of odd bytes in names for logs and tables: \t \n \\ and \xNN (other controls,
 * DEL, C1 controls, bytes that are not UTF-8). */
void text_escape(struct buf *out, const char *text);
/* What text_escape made, in place. -EINVAL: it did not. */
must_check int text_unescape(char *text);

/* ---- ini files -------------------------------------------------------------------------------- */

/* One "name = value" of a section; name in lower case, all without white space around. A line
 * indented deeper than the setting before it continues that: it comes with the name "". The text is
 * valid during the call only. Non-zero (-errno) ends the parse. */
typedef int ini_fn(void *user, const char *section, const char *name, const char *value);
/* Reads as Python's configparser does (what the AWS tools use): src/base/base_ini.c. text is changed
 * in place (len bytes and a NUL). 0; what visit returned; -EBADMSG: neither a section, a setting, a
 * comment nor a continuation. *ret_line is the line being read, during visit and at the end. */
must_check int ini_parse(char *text, size_t len, ini_fn *visit, void *user, unsigned *ret_line);
