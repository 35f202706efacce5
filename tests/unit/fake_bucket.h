/*
 * fake_bucket - a bucket in memory behind the s3 operations table, for unit tests of the rooms above
 * s3: objects, LIST with pages and delimiter, HEAD, GET with range and If-Match, PUT of a name,
 * DELETE. One thread stands for the S3 loop.
 *
 * A test may judge each request first (answer), stop the loop (hold), and count requests by kind.
 */
#pragma once

#include "cpgfs/s3.h"

#define FAKE_OBJECTS_MAX 40000
#define FAKE_KEY_BYTES 2048

struct fake_object {
	char *key;
	struct s3_object object;
	const uint8_t *data; /* NULL: byte i is (uint8_t)(i * 7) */
};

struct fake_job {
	struct fake_job *next;
	uint64_t id;
	struct s3_request req; /* with copies of its texts */
	char *texts[7];
	s3_done_fn *done;
	void *user;
	bool cancelled;
};

struct fake_bucket {
	struct s3 s3; /* first */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	pthread_t thread;
	struct fake_job *first, **last;
	uint64_t last_id;
	bool ending, held, busy;
	bool down;
	unsigned page_keys; /* of a LIST; 0: 1,000 */
	unsigned count[S3_GET_ACL + 1]; /* requests submitted, by op */
	unsigned cancels;
	struct fake_object objects[FAKE_OBJECTS_MAX]; /* by key */
	size_t object_count;
	/* Asked before the bucket; runs on the loop thread without the mutex. True: it filled reply. */
	bool (*answer)(
		struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply);
	void *answer_user;
	char log[64][256]; /* the last requests: "LIST prefix token" */
	unsigned logged;
};

/* ---- objects ---- */

static inline size_t fake_index(struct fake_bucket *b, const char *key)
{
	size_t low = 0, high = b->object_count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (strcmp(b->objects[mid].key, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static inline struct fake_object *fake_find(struct fake_bucket *b, const char *key)
{
	size_t i = fake_index(b, key);

	return i < b->object_count && strcmp(b->objects[i].key, key) == 0 ? &b->objects[i] : NULL;
}

static inline struct s3_object fake_put(
	struct fake_bucket *b, const char *key, uint64_t size_bytes, const char *etag)
{
	struct fake_object *o;

	pthread_mutex_lock(&b->mutex);
	o = fake_find(b, key);
	if (!o) {
		size_t i = fake_index(b, key);

		check(b->object_count < FAKE_OBJECTS_MAX);
		memmove(&b->objects[i + 1], &b->objects[i],
			(b->object_count - i) * sizeof(b->objects[0]));
		b->object_count++;
		o = &b->objects[i];
		*o = (struct fake_object){.key = strdup(key)};
	}
	o->object = (struct s3_object){
		.size_bytes = size_bytes, .last_modified_ns = 1700000000 * NS_PER_S};
	snprintf(o->object.etag, sizeof(o->object.etag), "%s", etag);
	pthread_mutex_unlock(&b->mutex);
	return o->object;
}

static inline void fake_remove(struct fake_bucket *b, const char *key)
{
	struct fake_object *o;

	pthread_mutex_lock(&b->mutex);
	o = fake_find(b, key);
	if (o) {
		free(o->key);
		memmove(o, o + 1,
			(size_t)(&b->objects[b->object_count] - (o + 1)) * sizeof(*o));
		b->object_count--;
	}
	pthread_mutex_unlock(&b->mutex);
}

/* ---- answers ---- */

static inline void fake_error(
	struct s3_reply *reply, enum s3_class class, int status, const char *code)
{
	reply->class = class;
	reply->http_status = status;
	snprintf(reply->code, sizeof(reply->code), "%s", code);
	snprintf(reply->message, sizeof(reply->message), "%s (fake)", code);
}

/* Entries are added with keys of their own; finish moves them into one block. */
static inline void fake_page_add(
	struct s3_list_page *page, const char *key, bool is_prefix, const struct s3_object *object)
{
	page->entries = realloc(page->entries, (page->count + 1) * sizeof(*page->entries));
	page->entries[page->count++] = (struct s3_list_entry){
		.key = strdup(key),
		.key_len = strlen(key),
		.is_prefix = is_prefix,
		.object = object ? *object : (struct s3_object){0},
	};
}

static inline void fake_page_finish(struct s3_list_page *page)
{
	size_t len = 1;
	char *at;

	for (size_t i = 0; i < page->count; i++)
		len += page->entries[i].key_len + 1;
	page->keys = at = malloc(len);
	for (size_t i = 0; i < page->count; i++) {
		memcpy(at, page->entries[i].key, page->entries[i].key_len + 1);
		free((char *)page->entries[i].key);
		page->entries[i].key = at;
		at += page->entries[i].key_len + 1;
	}
}

/* The mutex is held. */
static inline void fake_list(
	struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	const char *prefix = req->prefix ? req->prefix : "";
	unsigned max = req->max_keys ? req->max_keys : b->page_keys ? b->page_keys : 1000;
	char last[FAKE_KEY_BYTES] = "", after[FAKE_KEY_BYTES] = "";

	if (req->token)
		snprintf(after, sizeof(after), "%s", req->token + 4);
	else if (req->start_after)
		snprintf(after, sizeof(after), "%s", req->start_after);
	for (size_t i = fake_index(b, prefix); i < b->object_count; i++) {
		const struct fake_object *o = &b->objects[i];
		const char *slash;
		char key[FAKE_KEY_BYTES];

		if (!text_starts(o->key, prefix))
			break;
		slash = req->delimiter ? strchr(o->key + strlen(prefix), '/') : NULL;
		snprintf(key, sizeof(key), "%.*s",
			slash ? (int)(slash + 1 - o->key) : (int)strlen(o->key), o->key);
		if (strcmp(key, last) == 0 || (*after && strcmp(key, after) <= 0))
			continue;
		if (reply->list.count == max) {
			reply->list.truncated = true;
			break;
		}
		fake_page_add(&reply->list, key, slash != NULL, slash ? NULL : &o->object);
		snprintf(last, sizeof(last), "%s", key);
	}
	if (reply->list.truncated && asprintf(&reply->list.next_token, "tok:%s", last) < 0)
		abort();
	fake_page_finish(&reply->list);
}

static inline void fake_get(
	const struct fake_object *o, const struct s3_request *req, struct s3_reply *reply)
{
	uint8_t block[4096];
	uint64_t len = req->has_range ? req->range_len : o->object.size_bytes, sent = 0;

	reply->object = o->object;
	reply->content_range_total = o->object.size_bytes;
	while (sent < len) {
		size_t n = len - sent < sizeof(block) ? len - sent : sizeof(block);

		for (size_t i = 0; i < n; i++) {
			uint64_t at = req->range_start + sent + i;

			block[i] = o->data ? o->data[at] : (uint8_t)(at * 7);
		}
		if (req->sink.write(req->sink.user, sent, block, n)) {
			fake_error(reply, S3_RETRY, 0, "SinkFailed");
			return;
		}
		sent += n;
	}
	reply->bytes_received = sent;
}

static inline void fake_answer(
	struct fake_bucket *b, const struct s3_request *req, struct s3_reply *reply)
{
	struct fake_object o = {0}, *found;

	reply->class = S3_DONE;
	reply->http_status = 200;
	if (req->op == S3_DELETE) {
		fake_remove(b, req->key);
		return;
	}
	pthread_mutex_lock(&b->mutex);
	found = req->key ? fake_find(b, req->key) : NULL;
	if (found)
		o = *found;
	if (req->op == S3_LIST)
		fake_list(b, req, reply);
	pthread_mutex_unlock(&b->mutex);
	if (req->op == S3_LIST)
		return;
	if (!found)
		fake_error(reply, S3_NOT_FOUND, 404, "NoSuchKey");
	else if (req->if_match && strcmp(req->if_match, o.object.etag) != 0)
		fake_error(reply, S3_CONFLICT, 412, "PreconditionFailed");
	else if (req->op == S3_GET)
		fake_get(&o, req, reply);
	else
		reply->object = o.object;
}

/* ---- the loop ---- */

/* The client asks for memory, too (memory_fault.h). */
static inline bool fake_is_short_of_memory(void)
{
#ifdef MEMORY_FAULT
	return memory_call_fails();
#else
	return false;
#endif
}

static inline void fake_job_run(struct fake_bucket *b, struct fake_job *job)
{
	struct s3_reply reply = {0};

	if (job->cancelled)
		fake_error(&reply, S3_RETRY, 0, "Cancelled");
	else if (fake_is_short_of_memory())
		fake_error(&reply, S3_RETRY, 0, "OutOfMemory");
	else if (!b->answer || !b->answer(b, &job->req, &reply))
		fake_answer(b, &job->req, &reply);
	job->done(job->user, &reply);
	s3_reply_release(&reply);
	for (size_t i = 0; i < array_len(job->texts); i++)
		free(job->texts[i]);
	free(job);
}

static inline void *fake_loop(void *arg)
{
	struct fake_bucket *b = arg;

	pthread_mutex_lock(&b->mutex);
	for (;;) {
		struct fake_job *job = b->first, **at = &b->first;

		/* Held: only cancelled ones leave. */
		while (b->held && job && !job->cancelled) {
			at = &job->next;
			job = job->next;
		}
		if (!job && b->ending && !b->first)
			break;
		if (!job) {
			pthread_cond_wait(&b->changed, &b->mutex);
			continue;
		}
		*at = job->next;
		if (b->last == &job->next)
			b->last = at;
		b->busy = true;
		pthread_mutex_unlock(&b->mutex);
		fake_job_run(b, job);
		pthread_mutex_lock(&b->mutex);
		b->busy = false;
		pthread_cond_broadcast(&b->changed);
	}
	pthread_mutex_unlock(&b->mutex);
	return NULL;
}

static inline const char *fake_keep(struct fake_job *job, size_t i, const char *text)
{
	return text ? (job->texts[i] = strdup(text)) : NULL;
}

static inline int fake_submit(struct s3 *s3, const struct s3_request *req, s3_done_fn *done,
	void *user, uint64_t *ret_id)
{
	struct fake_bucket *b = (struct fake_bucket *)s3;
	struct fake_job *job;

	lock_assert_none_held(); /* no lock over a request */
	if (fake_is_short_of_memory())
		return -ENOMEM;
	job = calloc(1, sizeof(*job));
	job->req = *req;
	job->req.key = fake_keep(job, 0, req->key);
	job->req.prefix = fake_keep(job, 1, req->prefix);
	job->req.delimiter = fake_keep(job, 2, req->delimiter);
	job->req.token = fake_keep(job, 3, req->token);
	job->req.if_match = fake_keep(job, 4, req->if_match);
	job->req.copy_source_key = fake_keep(job, 5, req->copy_source_key);
	job->req.start_after = fake_keep(job, 6, req->start_after);
	job->done = done;
	job->user = user;
	pthread_mutex_lock(&b->mutex);
	job->id = ++b->last_id;
	if (ret_id)
		*ret_id = job->id;
	b->count[req->op]++;
	snprintf(b->log[b->logged++ % 64], 256, "%s %s %s", s3_op_text(req->op),
		req->op == S3_LIST ? req->prefix : req->key ? req->key : "",
		req->token ? req->token : "");
	*b->last = job;
	b->last = &job->next;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->mutex);
	return 0;
}

static inline void fake_cancel(struct s3 *s3, uint64_t id)
{
	struct fake_bucket *b = (struct fake_bucket *)s3;

	pthread_mutex_lock(&b->mutex);
	for (struct fake_job *job = b->first; job; job = job->next) {
		if (job->id == id)
			job->cancelled = true;
	}
	b->cancels++;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->mutex);
}

static inline bool fake_false(struct s3 *s3)
{
	return false;
}

static inline bool fake_is_down(struct s3 *s3)
{
	return ((struct fake_bucket *)s3)->down;
}

static inline bool fake_enforces(struct s3 *s3, enum s3_op op, enum s3_condition condition)
{
	return true;
}

static inline void fake_learn(
	struct s3 *s3, enum s3_op op, enum s3_condition condition, bool enforced)
{
}

/* Holds the loop before the next request, or lets it go on. Returns when it stands still. */
static inline void fake_hold(struct fake_bucket *b, bool hold)
{
	pthread_mutex_lock(&b->mutex);
	b->held = hold;
	pthread_cond_broadcast(&b->changed);
	while (hold && b->busy)
		pthread_cond_wait(&b->changed, &b->mutex);
	pthread_mutex_unlock(&b->mutex);
}

static inline unsigned fake_count(struct fake_bucket *b, enum s3_op op)
{
	unsigned n;

	pthread_mutex_lock(&b->mutex);
	n = b->count[op];
	pthread_mutex_unlock(&b->mutex);
	return n;
}

static inline unsigned fake_cancels(struct fake_bucket *b)
{
	unsigned n;

	pthread_mutex_lock(&b->mutex);
	n = b->cancels;
	pthread_mutex_unlock(&b->mutex);
	return n;
}

/* Of the last requests, those whose line begins so. */
static inline unsigned fake_count_log(struct fake_bucket *b, const char *begin)
{
	unsigned n = 0;

	pthread_mutex_lock(&b->mutex);
	for (unsigned i = 0; i < b->logged && i < array_len(b->log); i++)
		n += text_starts(b->log[i], begin);
	pthread_mutex_unlock(&b->mutex);
	return n;
}

static inline void fake_destroy(struct s3 *s3)
{
	struct fake_bucket *b = (struct fake_bucket *)s3;

	pthread_mutex_lock(&b->mutex);
	b->ending = true;
	b->held = false;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->mutex);
	pthread_join(b->thread, NULL);
	for (size_t i = 0; i < b->object_count; i++)
		free(b->objects[i].key);
	pthread_mutex_destroy(&b->mutex);
	pthread_cond_destroy(&b->changed);
	free(b);
}

static inline int64_t fake_quickest_ms(struct s3 *s3)
{
	(void)s3;
	return 0;
}

static inline struct fake_bucket *fake_create(void)
{
	static const struct s3_ops ops = {
		.submit = fake_submit,
		.cancel = fake_cancel,
		.wants_sha256 = fake_false,
		.is_down = fake_is_down,
		.quickest_ms = fake_quickest_ms,
		.enforces = fake_enforces,
		.learn = fake_learn,
		.destroy = fake_destroy,
	};
	struct fake_bucket *b = calloc(1, sizeof(*b));

	b->s3.ops = &ops;
	b->last = &b->first;
	pthread_mutex_init(&b->mutex, NULL);
	pthread_cond_init(&b->changed, NULL);
	check(pthread_create(&b->thread, NULL, fake_loop, b) == 0);
	return b;
}
