/*
 * The whole fault vocabulary of the scripted server on every kind of request, as a matrix: for each
 * cell a small file is uploaded, read, listed, moved or deleted by the whole engine. In the end the
 * object equals the ledger, was written once, and nothing was said before it was true; no upload is
 * left open, nobody else was asked, and the log says what it should.
 *
 * CELL=substring runs some cells only ("CELL=PutObject: 500"); TEST_LOG=1 shows the rooms' log.
 * Skipped when the server is not built beside this test.
 */
#include "engine_rig.h"

#define SMALL_BYTES 5000
#define LARGE_BYTES (3 * RIG_PART + 77)
#define PARTS 4
#define LISTED_FILES 5

static struct engine *rig;

/* The ways in which the cells are gone through. */
struct mode {
	const char *name;
	bool like_aws; /* checksums and conditions: known to be honoured, or honoured in part */
	unsigned workers;
	const struct fault *faults;
	size_t fault_count;
	int64_t clock_off_ms;
	unsigned stall_timeout_ms;
	unsigned max_transfers; /* 0: as usual */
	const char *times;	/* which of the requests suffer */
};
static const struct mode *mode;
static char log_path[512];

/* ---- another host, where a redirect would lead
 * --------------------------------------------------- */

static int elsewhere_fd = -1;
static unsigned elsewhere_port;

static void elsewhere_open(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);

	elsewhere_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(elsewhere_fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(elsewhere_fd, 16), 0);
	assert_int_equal(getsockname(elsewhere_fd, (struct sockaddr *)&at, &len), 0);
	elsewhere_port = ntohs(at.sin_port);
}

/* Whoever came would wait in the queue. */
static bool elsewhere_was_asked(void)
{
	cleanup_fd int fd = accept4(elsewhere_fd, NULL, NULL, SOCK_CLOEXEC);

	return fd >= 0;
}

/* ---- the vocabulary
 * ------------------------------------------------------------------------------ */

/* What a kind of request has, and what a fault needs to be one. */
#define HAS_BODY 1u	/* sends an object's bytes */
#define HAS_SENT_XML 2u /* sends XML */
#define HAS_ANSWER 4u	/* its reply has a body */
#define HAS_ETAG 8u
#define HAS_CHECKSUM 16u
#define HAS_PAGES 32u
#define HAS_NO_ANSWER 64u /* a body would be odd */
#define HAS_UPLOAD 128u

struct fault {
	const char *name;
	const char *rule;
	unsigned needs;	 /* any of these; 0: every kind */
	bool applied;	 /* the server did what it was asked for */
	bool refused;	 /* as it says, for good: a person is needed */
	bool reads_fail; /* a reader is told */
	bool not_there;	 /* denies that there is such a thing */
};

#define REFUSAL .refused = true, .reads_fail = true
#define APPLIED .applied = true

static const struct fault faults[] = {
	{"none", NULL},
	{"500", "status=500 code=InternalError"},
	{"500 although applied", "status=500 code=InternalError apply", APPLIED},
	{"502 of a proxy", "status=502 garbage-xml"},
	{"503 SlowDown", "status=503 code=SlowDown"},
	{"503 ServiceUnavailable", "status=503 code=ServiceUnavailable"},
	{"429", "status=429 code=TooManyRequests"},
	{"408", "status=408 code=RequestTimeout"},
	{"400 RequestTimeout", "status=400 code=RequestTimeout"},
	{"reset before", "reset-before"},
	{"reset at the headers", "reset-before at=headers"},
	{"reset in the body", "reset-before at=mid-body after=100",
		.needs = HAS_BODY | HAS_SENT_XML},
	{"reset after", "reset-after", APPLIED},
	{"cut body", "cut-body=20", .needs = HAS_ANSWER, APPLIED},
	{"empty body", "empty-body", .needs = HAS_ANSWER, APPLIED},
	{"too long a Content-Length", "wrong-content-length=7", APPLIED},
	{"too short a Content-Length", "wrong-content-length=-7", .needs = HAS_ANSWER, APPLIED},
	{"200 with an error", "200-error code=InternalError"},
	{"200 with space and an error", "200-error code=InternalError leading-space"},
	{"no ETag", "no-etag", .needs = HAS_ETAG, APPLIED},
	{"wrong ETag", "wrong-etag", .needs = HAS_ETAG, APPLIED, .reads_fail = true},
	{"no checksum", "no-checksum", .needs = HAS_CHECKSUM, APPLIED},
	{"wrong checksum", "wrong-checksum", .needs = HAS_CHECKSUM, APPLIED},
	{"BadDigest", "status=400 code=BadDigest"},
	{"XAmzContentSHA256Mismatch", "status=400 code=XAmzContentSHA256Mismatch"},
	{"NoSuchUpload", "status=404 code=NoSuchUpload", .needs = HAS_UPLOAD, .not_there = true},
	{"NoSuchKey", "status=404 code=NoSuchKey", .reads_fail = true, .not_there = true},
	{"404 of a proxy", "status=404 garbage-xml"},
	{"301", "redirect=http://127.0.0.1:PORT/ status=301", REFUSAL},
	{"307", "redirect=http://127.0.0.1:PORT/ status=307"},
	{"clock 20 min ahead", "skew-date=1200"},
	{"clock 20 min behind", "skew-date=-1200"},
	{"412", "status=412 code=PreconditionFailed", .reads_fail = true},
	{"409 ConditionalRequestConflict", "status=409 code=ConditionalRequestConflict"},
	{"409 OperationAborted", "status=409 code=OperationAborted"},
	{"malformed XML", "garbage-xml", APPLIED},
	{"malformed XML, nothing done", "garbage-xml no-apply"},
	{"huge XML", "huge-xml=20000000", APPLIED},
	{"entity bomb", "entity-bomb", APPLIED},
	{"NUL bytes", "nul-xml", .needs = HAS_ANSWER, APPLIED},
	{"repeated token", "repeat-token", .needs = HAS_PAGES, APPLIED},
	{"missing token", "missing-token", .needs = HAS_PAGES, APPLIED},
	{"AccessDenied", "status=403 code=AccessDenied", REFUSAL},
	{"InvalidRequest", "status=400 code=InvalidRequest", REFUSAL},
	{"501", "status=501 code=NotImplemented", REFUSAL},
	{"ExpiredToken", "expire-token", .reads_fail = true},
};

/* For ever, but for the client's patience: before the reply, in it, in the request's body. */
static const struct fault stalls[] = {
	{"stalls before the reply", "stall=forever of=response", APPLIED},
	{"stalls in the reply", "stall=forever of=response after=20", .needs = HAS_ANSWER, APPLIED},
	{"stalls in the request", "stall=forever of=request after=100",
		.needs = HAS_BODY | HAS_SENT_XML},
};

#define TWENTY_MINUTES_MS (20 * 60 * MS_PER_S)

static const struct mode modes[] = {
	{"aws", true, 3, faults, array_len(faults), .times = "n=1-2"},
	{"old", false, 3, faults, array_len(faults), .times = "n=1-2"},
	{"stall", true, 12, stalls, array_len(stalls), .times = "n=1", .stall_timeout_ms = 1000,
		.max_transfers = 1},
	{"ahead", false, 3, faults, 1, .clock_off_ms = TWENTY_MINUTES_MS},
	{"behind", true, 3, faults, 1, .clock_off_ms = -TWENTY_MINUTES_MS},
};

/* ---- a cell
 * -------------------------------------------------------------------------------------- */

struct kind;
struct cell {
	const struct kind *kind;
	const struct fault *fault;
	struct engine *e;
	char name[128], dir[32], path[64], moved[64];
	uint64_t ino;
	long requests_at, played_at, log_at, played_before, uploads_before;
	bool failed_once, retried, conflicted, ended;
	unsigned bad;
};

struct kind {
	const char *name; /* the server's word for it */
	const char *how;  /* "" or what is special */
	unsigned has;
	unsigned requests;		   /* of this kind, in a run without faults */
	unsigned writes;		   /* of objects, all in all */
	bool fails_first;		   /* the scenario makes the file fail once */
	bool never_refuses;		   /* a refusal is worked around */
	const char *also_operation, *also; /* a rule that stands beside the fault */
	void (*begin)(struct cell *c);
	void (*act)(struct cell *c);
	bool (*done)(struct cell *c);
	void (*look)(struct cell *c);
};

__attribute__((format(printf, 2, 3))) static void bad(struct cell *c, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", c->name);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	c->bad++;
}

static long file_length(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (long)st.st_size : 0;
}

/* ---- what the server saw
 * ------------------------------------------------------------------------- */

struct row {
	char operation[64], key[256], code[64], fault[256];
	int status;
};

static bool row_parse(char *line, struct row *ret)
{
	char *fields[24] = {0}, *at = line;
	unsigned n = 0;

	line[strcspn(line, "\n")] = '\0';
	while (at && n < 24)
		fields[n++] = strsep(&at, "\t");
	if (n < 17 || line[0] == '#')
		return false;
	text_copy(ret->operation, fields[2], sizeof(ret->operation));
	text_copy(ret->key, fields[4], sizeof(ret->key));
	ret->status = atoi(fields[6]);
	text_copy(ret->code, fields[7], sizeof(ret->code));
	text_copy(ret->fault, fields[16], sizeof(ret->fault));
	return true;
}

static bool row_wrote(const struct cell *c, const struct row *r)
{
	bool writes = strcmp(r->operation, "PutObject") == 0 ||
		      strcmp(r->operation, "CopyObject") == 0 ||
		      strcmp(r->operation, "CompleteMultipartUpload") == 0;

	if (!writes)
		return false;
	if (strstr(r->fault, "reset-after"))
		return true;
	if (strcmp(r->fault, "-") != 0 && !strstr(r->fault, "skew-date"))
		return c->fault->applied && r->status != 412;
	return r->status == 200;
}

/* Requests of one kind since the script began, and writes of objects since the cell did. */
static void count_requests(struct cell *c, unsigned *ret_requests, unsigned *ret_writes)
{
	char path[512];
	cleanup_free char *line = NULL;
	size_t size = 0;
	FILE *f;

	*ret_requests = *ret_writes = 0;
	rig_path(c->e, "requests", path);
	f = fopen(path, "r");
	assert_non_null(f);
	fseek(f, c->requests_at, SEEK_SET);
	for (long at = c->requests_at; getline(&line, &size, f) > 0; at = ftell(f)) {
		struct row r;

		if (!row_parse(line, &r) || strcmp(r.key, "echo") == 0)
			continue;
		*ret_requests += strcmp(r.operation, c->kind->name) == 0 && at >= c->played_at;
		*ret_writes += row_wrote(c, &r);
	}
	fclose(f);
}

/* ---- the scripts
 * --------------------------------------------------------------------------------- */

/* A line of the script for this cell. The message makes it another one for the server, which counts
 * by line. */
static void add_rule(struct cell *c, struct buf *script, const char *operation, const char *rule)
{
	static unsigned serial;
	const char *port = strstr(rule, "PORT");
	bool has_key = strncmp(operation, "List", 4) != 0 || strcmp(operation, "ListParts") == 0;

	buf_add_text(script, operation);
	buf_add_char(script, ' ');
	if (has_key)
		buf_printf(script, "key=%s/* ", c->dir);
	if (port)
		buf_printf(script, "%.*s%u%s", (int)(port - rule), rule, elsewhere_port, port + 4);
	else
		buf_add_text(script, rule);
	buf_printf(script, " message=%u\n", ++serial);
}

static void play(struct cell *c)
{
	cleanup_buf struct buf script = {0}, rule = {0};
	char requests[512];

	rig_path(c->e, "requests", requests);
	c->played_at = file_length(requests);
	buf_add_text(&script, "# a cell\n");
	if (c->fault->rule) {
		buf_printf(&rule, "%s %s", mode->times, c->fault->rule);
		add_rule(c, &script, c->kind->name, buf_text(&rule));
	}
	if (c->kind->also_operation)
		add_rule(c, &script, c->kind->also_operation, c->kind->also);
	rig_faults(c->e, "%s", buf_text(&script));
	c->played_before = rig_stat(c->e, "faults_applied");
}

static void heal(struct cell *c)
{
	rig_faults(c->e, "# none");
}

/* ---- the engine: one for some cells, for starting it costs more than they do
 * ---------------------- */

#define CELLS_PER_ENGINE 12
/* The server's clock is the machine's: it would refuse 15 min. */
#define AHEAD_MAX_MS (5 * 60 * MS_PER_S)

static bool engine_runs;
static unsigned engine_cells;

/* What the endpoint is known to do: on AWS nothing has to be learned first. */
static void teach(struct engine *e)
{
	static const enum s3_op conditional[] = {S3_PUT, S3_DELETE, S3_COPY, S3_COMPLETE_MULTIPART};
	struct s3_request put = {.op = S3_PUT, .key = "echo", .body.has_crc64nvme = true};
	struct s3_reply reply;

	for (size_t i = 0; i < array_len(conditional); i++)
		for (unsigned c = 0; c < S3_CONDITIONS; c++)
			s3_learn(&e->shim.s3, conditional[i], (enum s3_condition)c, mode->like_aws);
	if (!mode->like_aws)
		return;
	for (unsigned tries = 0;; tries++) { /* another cell may have bent the clock */
		enum s3_class class;

		assert_int_equal(s3_call(&e->shim.s3, &put, &reply), 0);
		class = reply.class;
		s3_reply_release(&reply);
		if (class == S3_DONE)
			break;
		assert_true((class == S3_CLOCK || class == S3_RETRY) && tries < 5);
	}
	assert_false(s3_wants_sha256(&e->shim.s3));
}

static void engine_stop(struct engine *e)
{
	if (engine_runs)
		rig_stop(e);
	engine_runs = false;
}

/* With what the last one left in its cache. */
static void engine_start(struct engine *e)
{
	rig_start(e);
	engine_runs = true;
	engine_cells = 0;
	teach(e);
}

/* A good one, perhaps the one that runs. */
static void engine_provide(struct engine *e)
{
	if (engine_runs && (++engine_cells >= CELLS_PER_ENGINE || rig_ahead_ms(e) > AHEAD_MAX_MS))
		engine_stop(e);
	if (!engine_runs) {
		rig_forget_cache(e);
		engine_start(e);
	} else {
		teach(e);
	}
	e->upload->copy_max_bytes = COPY_MAX_BYTES;
	e->upload->copy_part_bytes = COPY_PART_BYTES;
}

/* ---- steps of scenarios
 * -------------------------------------------------------------------------- */

static bool until(struct cell *c, rig_done_fn *done, const char *what)
{
	if (rig_until(c->e, done, c))
		return true;
	bad(c, "waited in vain until %s", what);
	return false;
}

static bool is_settled(struct engine *e, void *user)
{
	return rig_all_verified(e, NULL) && rig_is_idle(e, NULL);
}

static void write_small(struct cell *c)
{
	c->ino = rig_write(c->e, c->path, SMALL_BYTES, 7);
}

static void write_large(struct cell *c)
{
	c->ino = rig_write(c->e, c->path, LARGE_BYTES, 9);
}

static void small_is_there(struct cell *c)
{
	write_small(c);
	until(c, is_settled, "the file was uploaded");
}

static void evict(struct cell *c)
{
	struct store_chunk chunk;

	assert_int_equal(store_evict(c->e->store, UINT64_MAX / 2), 0);
	assert_int_equal(store_chunk(c->e->store, c->ino, 0, &chunk), 0);
	assert_false(chunk.present);
}

static void small_is_only_there(struct cell *c)
{
	small_is_there(c);
	evict(c);
}

static void large_is_only_there(struct cell *c)
{
	write_large(c);
	if (until(c, is_settled, "the file was uploaded"))
		evict(c);
	c->e->upload->copy_max_bytes = c->e->upload->copy_part_bytes = RIG_PART;
}

static void move(struct cell *c)
{
	rig_rename(c->e, c->path, c->moved);
}

static void delete (struct cell *c)
{
	rig_unlink(c->e, c->path);
	rig_ledger_drop(c->e);
}

static bool two_parts_are_there(struct engine *e, void *user)
{
	struct cell *c = user;
	unsigned n = 0;

	for (uint64_t i = 0; i < PARTS; i++) {
		struct store_chunk chunk;

		n += store_chunk(e->store, c->ino, i, &chunk) == 0 && chunk.part_attempt != 0;
	}
	return n == 2 && atomic_load(&e->shim.in_flight) == 0;
}

/* A former daemon has sent two parts. */
static void begin_half_sent(struct cell *c)
{
	cleanup_buf struct buf script = {0};

	add_rule(c, &script, "UploadPart", "n=3+ status=503 code=SlowDown");
	rig_faults(c->e, "%s", buf_text(&script));
	write_large(c);
	until(c, two_parts_are_there, "two parts were sent");
	engine_stop(c->e);
}

static void start_again(struct cell *c)
{
	engine_start(c->e);
}

static bool all_wait_for_a_transfer(struct engine *e, void *user)
{
	struct store_counts counts;

	(void)user;
	assert_int_equal(store_counts(e->store, STORE_ROOT_INO, &counts), 0);
	return counts.files[FILE_QUEUED] >= LISTED_FILES;
}

/* Sent together: a file that arrives after the listing to verify was begun wants another one. */
static void write_some(struct cell *c)
{
	char path[64];

	upload_pause(c->e->upload);
	for (unsigned i = 0; i < LISTED_FILES; i++) {
		snprintf(path, sizeof(path), "%s/f%u", c->dir, i);
		c->ino = rig_write(c->e, path, SMALL_BYTES + i, i);
	}
	if (!rig_until(c->e, all_wait_for_a_transfer, NULL))
		bad(c, "the files were not queued");
	upload_resume(c->e->upload);
}

static void some_are_there(struct cell *c)
{
	write_some(c);
	until(c, is_settled, "the files were uploaded");
	remote_refresh(c->e->remote, "");
}

/* ---- reading
 * ------------------------------------------------------------------------------------- */

/* Reads all that is here and wants what is not. True at the end. */
static bool read_on(struct cell *c)
{
	struct ledger *l = rig_ledger(c->e, c->ino);
	cleanup_free uint8_t *data = malloc(l->len);
	struct store_file *f;
	uint64_t at = 0, chunk = 0;
	ssize_t n;

	assert_int_equal(store_file_open(c->e->store, c->ino, &f), 0);
	while ((n = store_file_read(f, data + at, l->len - at, at, &chunk)) > 0) {
		if (memcmp(data + at, l->data + at, (size_t)n) != 0)
			bad(c, "read something else at %llu", (unsigned long long)at);
		at += (uint64_t)n;
	}
	store_file_close(f);
	if (n == -EREMOTE) {
		int r = remote_fetch(c->e->remote, c->ino, chunk);

		if (r < 0 && r != -EINPROGRESS)
			bad(c, "chunk %llu cannot be asked for: %s", (unsigned long long)chunk,
				strerror(-r));
		return false;
	}
	if (n < 0)
		bad(c, "read fails: %s", strerror(-(int)n));
	return n < 0 || at == l->len;
}

/* ---- listing
 * ------------------------------------------------------------------------------------- */

struct walk {
	struct cell *c;
	unsigned seen, wrong;
	int result;
	atomic_bool ended;
};

static int walk_each(void *user, const struct remote_walk_entry *entry)
{
	struct walk *w = user;
	char want[64];

	snprintf(want, sizeof(want), "%s/f%u", w->c->dir, w->seen++);
	w->wrong += strlen(want) != entry->key_len || memcmp(want, entry->key, entry->key_len) != 0;
	return 0;
}

static void walk_run(void *user)
{
	struct walk *w = user;
	char prefix[64];

	snprintf(prefix, sizeof(prefix), "%s/", w->c->dir);
	w->result = remote_walk(
		w->c->e->remote, prefix, true, clock_mono_ms() + 600000, walk_each, w, NULL);
	atomic_store(&w->ended, true);
}

static bool walk_ended(struct engine *e, void *user)
{
	return atomic_load(&((struct walk *)user)->ended);
}

/* All of them, or an error: never some of them as if that were all. */
static bool walk_all(struct cell *c)
{
	struct walk w = {.c = c};
	struct thread *thread;

	assert_int_equal(thread_start(&thread, "walk", walk_run, &w), 0);
	if (!rig_until(c->e, walk_ended, &w))
		bad(c, "the walk does not end");
	thread_join(thread);
	if (w.wrong || (w.result == 0 && w.seen != LISTED_FILES))
		bad(c, "the walk (%d) showed %u names, %u wrong", w.result, w.seen, w.wrong);
	return w.result == 0;
}

/* The cached view: what is there is found or not known, what is not there is not found. */
static bool look_up_all(struct cell *c)
{
	struct remote_entry entry;
	char prefix[64], name[16];
	unsigned found = 0;
	int r;

	snprintf(prefix, sizeof(prefix), "%s/", c->dir);
	for (unsigned i = 0; i <= LISTED_FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		r = remote_lookup(c->e->remote, prefix, name, false, &entry);
		if (i < LISTED_FILES ? r == -ENOENT : r == 0)
			bad(c, "%s: %d", name, r);
		if (r == 0 && entry.object.size_bytes != SMALL_BYTES + i)
			bad(c, "%s has %llu bytes", name,
				(unsigned long long)entry.object.size_bytes);
		found += r == 0;
	}
	return found == LISTED_FILES;
}

/* ---- what the folder holds in the end
 * ------------------------------------------------------------ */

static unsigned objects_counted;

static int count_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	objects_counted += flag == FTW_F;
	return 0;
}

static unsigned objects_in(struct cell *c)
{
	char path[512];

	rig_object_path(c->e, c->dir, path);
	objects_counted = 0;
	nftw(path, count_one, 16, FTW_PHYS);
	return objects_counted;
}

static void check_objects(struct cell *c)
{
	for (unsigned i = 0; i < c->e->file_count; i++) {
		const struct ledger *l = &c->e->files[i];

		if (!rig_object_is(c->e, l->path, l->data, l->len))
			bad(c, "the object %s is not what was written", l->path);
	}
	if (objects_in(c) != c->e->file_count)
		bad(c, "%u objects for %u files", objects_in(c), c->e->file_count);
}

/* What passes by itself no reader hears of. */
static void check_read(struct cell *c)
{
	pthread_mutex_lock(&c->e->mutex);
	if (!c->fault->reads_fail && c->e->fetch_errors > 0)
		bad(c, "%u times a reader was told an error", c->e->fetch_errors);
	pthread_mutex_unlock(&c->e->mutex);
	check_objects(c);
}

/* ---- the kinds of requests
 * ------------------------------------------------------------------------ */

static const struct kind kinds[] = {
	{"PutObject", "", HAS_BODY | HAS_ETAG | HAS_CHECKSUM, 1, 1, .act = write_small},
	{"CreateMultipartUpload", "", HAS_ANSWER, 1, 1, .act = write_large},
	{"UploadPart", "", HAS_BODY | HAS_ETAG | HAS_CHECKSUM | HAS_UPLOAD, PARTS, 1,
		.act = write_large},
	{"CompleteMultipartUpload", "",
		HAS_SENT_XML | HAS_ANSWER | HAS_ETAG | HAS_CHECKSUM | HAS_UPLOAD, 1, 1,
		.act = write_large},
	{"AbortMultipartUpload", "", HAS_UPLOAD, 1, 1, .fails_first = true, .never_refuses = true,
		.also_operation = "UploadPart", .also = "n=1 status=403 code=AccessDenied",
		.act = write_large},
	{"ListParts", "", HAS_ANSWER | HAS_ETAG | HAS_PAGES | HAS_UPLOAD, 1, 1,
		.never_refuses = true, .begin = begin_half_sent, .act = start_again},
	{"CopyObject", "of what is here", HAS_ANSWER | HAS_ETAG | HAS_CHECKSUM, 1, 2,
		.never_refuses = true, .begin = small_is_there, .act = move},
	{"CopyObject", "of what is only there", HAS_ANSWER | HAS_ETAG | HAS_CHECKSUM, 1, 2,
		.begin = small_is_only_there, .act = move},
	{"UploadPartCopy", "", HAS_ANSWER | HAS_ETAG | HAS_CHECKSUM | HAS_UPLOAD, PARTS, 2,
		.begin = large_is_only_there, .act = move},
	{"HeadObject", "", HAS_ETAG | HAS_CHECKSUM, 1, 1, .never_refuses = true,
		.also_operation = "PutObject", .also = "n=1 reset-after", .act = write_small},
	{"GetObject", "", HAS_ANSWER | HAS_ETAG | HAS_CHECKSUM, PARTS, 1, .never_refuses = true,
		.begin = large_is_only_there, .done = read_on, .look = check_read},
	{"ListObjectsV2", "to verify", HAS_ANSWER | HAS_ETAG | HAS_PAGES, 3, LISTED_FILES,
		.never_refuses = true, .act = write_some},
	{"ListObjectsV2", "of all below", HAS_ANSWER | HAS_ETAG | HAS_PAGES, 3, LISTED_FILES,
		.never_refuses = true, .begin = some_are_there, .done = walk_all},
	{"ListObjectsV2", "of a folder", HAS_ANSWER | HAS_ETAG | HAS_PAGES, 3, LISTED_FILES,
		.never_refuses = true, .begin = some_are_there, .done = look_up_all},
	{"DeleteObject", "", 0, 1, 1, .never_refuses = true, .begin = small_is_there,
		.act = delete},
};

static bool applies(const struct kind *k, const struct fault *f)
{
	return !f->needs || (k->has & f->needs);
}

/* ---- one cell
 * ------------------------------------------------------------------------------------ */

static void cell_open(struct cell *c, const struct kind *k, const struct fault *f)
{
	static unsigned serial;
	char requests[512];

	*c = (struct cell){.kind = k, .fault = f, .e = rig};
	snprintf(c->name, sizeof(c->name), "%s%s%s: %s", k->name, k->how[0] ? " " : "", k->how,
		f->name);
	snprintf(c->dir, sizeof(c->dir), "p/c%u", ++serial);
	snprintf(c->path, sizeof(c->path), "%s/file.bin", c->dir);
	snprintf(c->moved, sizeof(c->moved), "%s/moved.bin", c->dir);
	rig_path(c->e, "requests", requests);
	c->requests_at = file_length(requests);
	c->log_at = file_length(log_path);
	heal(c);
	c->uploads_before = rig_stat(c->e, "open_uploads");
	engine_provide(c->e);
}

/* FAILED and CONFLICT are for a person: who heals the server and says retry. */
static void person_looks(struct cell *c)
{
	bool failed = false;

	for (unsigned i = 0; i < c->e->file_count; i++) {
		enum file_state s = rig_state(c->e, c->e->files[i].ino);

		failed = failed || s == FILE_FAILED || s == FILE_CONFLICT;
		c->conflicted = c->conflicted || s == FILE_CONFLICT;
		if (s == FILE_LOST || s == FILE_TORN || s == FILE_GONE || s == FILE_INCOMPLETE ||
			s == FILE_HELD) {
			bad(c, "%s is %s", c->e->files[i].path, file_state_text(s));
			c->ended = true;
		}
	}
	if (!failed || !rig_is_idle(c->e, NULL))
		return;
	if (c->kind->fails_first && !c->failed_once) {
		c->failed_once = true;
	} else {
		c->retried = true;
		heal(c);
	}
	if (upload_retry(c->e->upload, "") <= 0)
		bad(c, "nothing to retry");
}

static bool cell_done(struct engine *e, void *user)
{
	struct cell *c = user;

	person_looks(c);
	return c->ended || (is_settled(e, NULL) && (!c->kind->done || c->kind->done(c)));
}

static bool is_kind(const struct cell *c, const char *name)
{
	return strcmp(c->kind->name, name) == 0;
}

/* Without checksums only the tag tells, and it was another one than listings show. */
static bool expects_conflict(const struct cell *c)
{
	return !mode->like_aws && strcmp(c->fault->name, "wrong ETag") == 0 &&
	       (is_kind(c, "PutObject") || is_kind(c, "CompleteMultipartUpload"));
}

/* A "no such thing" to what makes a new thing is no answer that waiting could mend. */
static bool expects_retry(const struct cell *c)
{
	if (expects_conflict(c))
		return true;
	if (c->fault->not_there)
		return is_kind(c, "PutObject") || is_kind(c, "CreateMultipartUpload");
	return c->fault->refused && !c->kind->never_refuses;
}

/* Whom the server will not let abort leaves an upload behind, and says so; an upload whose id never
 * came is nobody's. */
static long expected_uploads(const struct cell *c)
{
	if (is_kind(c, "AbortMultipartUpload") && (c->fault->refused || c->fault->not_there))
		return 1;
	if (is_kind(c, "CreateMultipartUpload") && c->fault->applied)
		return rig_stat(c->e, "faults_applied") - c->played_before;
	return 0;
}

/* A wait for a person, only where the server refuses for good. */
static void check_retry(struct cell *c)
{
	bool expected = expects_retry(c);

	if (c->conflicted != expects_conflict(c))
		bad(c, c->conflicted ? "was in conflict" : "was not in conflict");
	if (c->retried != expected)
		bad(c, "%s",
			expected ? "did not fail although it was refused"
				 : "failed: a retry was needed");
	if (c->kind->fails_first && !c->failed_once)
		bad(c, "did not fail once, as it should have");
}

/* What was not carried out is sent again, what was is not: the bucket is asked. */
static void check_counts(struct cell *c)
{
	unsigned requests, writes;

	count_requests(c, &requests, &writes);
	if (writes != c->kind->writes)
		bad(c, "%u writes of objects, not %u", writes, c->kind->writes);
	if (!c->fault->rule && mode->like_aws && !mode->clock_off_ms ? requests != c->kind->requests
								     : requests < c->kind->requests)
		bad(c, "%u requests, not %u", requests, c->kind->requests);
}

static void check_server(struct cell *c)
{
	long uploads = rig_stat(c->e, "open_uploads") - c->uploads_before;

	if (c->fault->rule && rig_stat(c->e, "faults_applied") == c->played_before)
		bad(c, "the fault was not played");
	if (rig_stat(c->e, "fault_script_bad_lines") != 0)
		bad(c, "the server does not understand the script");
	if (uploads != expected_uploads(c))
		bad(c, "%ld uploads are left open, not %ld", uploads, expected_uploads(c));
	if (elsewhere_was_asked())
		bad(c, "a request went to another host");
}

/* What a person may read about such a cell, and what says it. */
static bool is_expected_line(const struct cell *c, const char *line)
{
	const struct {
		const char *text;
		bool expected;
	} lines[] = {
		{"uploading paused: credentials", strcmp(c->fault->name, "ExpiredToken") == 0},
		{"the server does not answer", c->fault->rule && strstr(c->fault->rule, "reset")},
		{"an upload may have been left open", is_kind(c, "CreateMultipartUpload")},
		{"it may not be aborted", expected_uploads(c) > 0},
		{"cannot be deleted", is_kind(c, "DeleteObject") && c->fault->refused},
		{"holds something else", expects_conflict(c)},
		{"the bucket shows", expects_conflict(c)},
		{"AccessDenied", c->kind->fails_first},
	};

	for (size_t i = 0; i < array_len(lines); i++) {
		if (strstr(line, lines[i].text) && lines[i].expected)
			return true;
	}
	return expects_retry(c) && strstr(line, c->dir);
}

static void check_log(struct cell *c)
{
	cleanup_free char *line = NULL;
	unsigned told = 0;
	size_t size = 0;
	FILE *f = fopen(log_path, "r");

	if (!f)
		return; /* TEST_LOG: it goes to the screen */
	fseek(f, c->log_at, SEEK_SET);
	while (getline(&line, &size, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (!is_expected_line(c, line))
			bad(c, "log: %s", line);
		told++;
	}
	fclose(f);
	if (expects_retry(c) && told == 0)
		bad(c, "nobody was told");
}

static void cell_close(struct cell *c)
{
	pthread_mutex_lock(&c->e->mutex);
	if (c->e->early[0])
		bad(c, "%s", c->e->early);
	pthread_mutex_unlock(&c->e->mutex);
	check_log(c);
	rig_forget(c->e);
	if (c->bad) /* whatever it left behind is nobody else's */
		engine_stop(c->e);
}

static unsigned cell_run(const struct kind *k, const struct fault *f)
{
	struct cell c;

	cell_open(&c, k, f);
	if (k->begin)
		k->begin(&c);
	play(&c);
	if (k->act)
		k->act(&c);
	if (!rig_until(c.e, cell_done, &c))
		bad(&c, "does not come to its end: file is %s",
			file_state_text(rig_state(c.e, c.ino)));
	check_retry(&c);
	check_counts(&c);
	check_server(&c);
	if (k->look)
		k->look(&c);
	else
		check_objects(&c);
	cell_close(&c);
	return c.bad;
}

static bool is_chosen(const struct kind *k, const struct fault *f)
{
	const char *wanted = getenv("CELL");
	char name[128];

	snprintf(name, sizeof(name), "%s%s%s: %s", k->name, k->how[0] ? " " : "", k->how, f->name);
	return !wanted || strstr(name, wanted);
}

/* ---- workers: the clock is the process's, so each has its own
 * ------------------------------------ */

static void worker_begin(void)
{
	static const char *const aws[] = {"--page-size", "2", NULL};
	static const char *const old[] = {
		"--page-size", "2", "--crc64nvme", "off", "--conditions", "put", NULL};

	rig = rig_create(mode->like_aws ? aws : old);
	rig->stall_timeout_ms = mode->stall_timeout_ms;
	rig->clock_off_ms = mode->clock_off_ms;
	rig->max_transfers = mode->max_transfers;
	elsewhere_open();
	rig_path(rig, "log", log_path);
	if (getenv("TEST_LOG"))
		log_set_level(LOG_LEVEL_DEBUG);
	else
		assert_int_equal(log_open(LOG_LEVEL_WARN, log_path, false), 0);
}

/* Its share of the cells. */
static unsigned worker_run(unsigned number)
{
	unsigned wrong = 0, cells = 0;

	worker_begin();
	for (size_t i = 0; i < array_len(kinds) * mode->fault_count; i++) {
		const struct kind *k = &kinds[i / mode->fault_count];
		const struct fault *f = &mode->faults[i % mode->fault_count];

		if (applies(k, f) && is_chosen(k, f) && cells++ % mode->workers == number)
			wrong += cell_run(k, f) > 0;
	}
	if (number == 0)
		print_message("%u cells\n", cells);
	engine_stop(rig);
	rig_destroy(rig);
	return wrong;
}

static unsigned worker_number;

static void test_worker(void **state)
{
	assert_int_equal(worker_run(worker_number), 0);
}

static int worker_main(const char *name, const char *number)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_worker)};

	for (size_t i = 0; i < array_len(modes); i++) {
		if (strcmp(modes[i].name, name) == 0)
			mode = &modes[i];
	}
	worker_number = (unsigned)atoi(number);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

static void run_matrix(const char *name, unsigned workers)
{
	pid_t pids[16];
	unsigned wrong = 0;
	char program[4096];
	ssize_t len;

	if (!rig_server_path(program))
		skip();
	len = readlink("/proc/self/exe", program, sizeof(program) - 1); /* running the link runs valgrind */
	assert_true(len > 0);
	program[len] = '\0';
	for (unsigned i = 0; i < workers; i++) {
		char number[16];

		snprintf(number, sizeof(number), "%u", i);
		pids[i] = fork();
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			execl(program, "test_engine_faults", name, number, NULL);
			_exit(127);
		}
	}
	for (unsigned i = 0; i < workers; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		if (WIFSIGNALED(status))
			print_error("worker %u: %s\n", i, strsignal(WTERMSIG(status)));
		wrong += status != 0;
	}
	assert_int_equal(wrong, 0);
}

/* One test for each of modes. */
static void test_mode(void **state)
{
	const struct mode *m = *state;

	run_matrix(m->name, m->workers);
}

int main(int argc, char **argv)
{
	struct CMUnitTest tests[array_len(modes)];

	if (argc == 3)
		return worker_main(argv[1], argv[2]);
	for (size_t i = 0; i < array_len(modes); i++)
		tests[i] = (struct CMUnitTest){.name = modes[i].name,
			.test_func = test_mode,
			.initial_state = (void *)&modes[i]};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
