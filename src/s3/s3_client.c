/*
 * The real client: its operations table, creation and end. Everything that touches curl's multi
 * handle is the loop's (s3_loop.c).
 */
#include "s3_client.h"

#include <libxml/parser.h>

#define DEFAULT_CONNECTIONS 64
#define DEFAULT_STALL_MS 30000
#define DEFAULT_CONNECT_MS 10000

static struct s3_client *client_of(struct s3 *s3)
{
	return (struct s3_client *)s3;
}

/* Wakes the loop unless this is the loop, which looks again before it sleeps. Called with the lock
 * held: curl_multi_wakeup does not block, and the multi lives as long as the client. */
static void wake_locked(struct s3_client *c)
{
	lock_assert_held(&c->lock);
	if (!c->loop_runs || !pthread_equal(c->loop_thread, pthread_self()))
		(void)curl_multi_wakeup(c->multi); /* a full pipe is a wake-up under way */
}

/* ---- operations ------------------------------------------------------------------------------------ */

static int client_submit(struct s3 *s3, const struct s3_request *req, s3_done_fn *done, void *user,
	uint64_t *ret_id)
{
	struct s3_client *c = client_of(s3);
	struct s3_transfer *t;
	int err = s3_transfer_create(&t, c, req, done, user);
	if (err)
		return err;
	bool stopping;
	{
		with_lock(&c->lock);
		stopping = c->stopping;
		t->id = ++c->next_id;
		if (!stopping && ret_id)
			*ret_id = t->id;
		if (!stopping) {
			bool was_empty = TAILQ_EMPTY(&c->inbox);
			TAILQ_INSERT_TAIL(&c->inbox, t, link);
			if (was_empty)
				wake_locked(c);
		}
	}
	if (stopping)
		s3_transfer_destroy(t);
	return stopping ? -ESHUTDOWN : 0;
}

/* Out of memory: the request simply goes on, as it may anyway. */
static void client_cancel(struct s3 *s3, uint64_t id)
{
	struct s3_client *c = client_of(s3);
	with_lock(&c->lock);
	if (c->cancel_count == c->cancel_room) {
		size_t room = c->cancel_room ? c->cancel_room * 2 : 16;
		uint64_t *bigger = reallocarray(c->cancels, room, sizeof(*bigger));
		if (!bigger)
			return;
		c->cancels = bigger;
		c->cancel_room = room;
	}
	c->cancels[c->cancel_count++] = id;
	wake_locked(c);
}

static bool client_wants_sha256(struct s3 *s3)
{
	return s3_facts_wants_sha256(client_of(s3));
}

static bool client_is_down(struct s3 *s3)
{
	struct s3_client *c = client_of(s3);
	with_lock(&c->lock);
	return c->failures >= S3_DOWN_AFTER_FAILURES;
}

static int64_t client_quickest_ms(struct s3 *s3)
{
	struct s3_client *c = client_of(s3);
	with_lock(&c->lock);
	return c->quickest_ms;
}

static bool client_enforces(struct s3 *s3, enum s3_op op, enum s3_condition condition)
{
	struct s3_client *c = client_of(s3);
	with_lock(&c->lock);
	return c->enforced[condition] & (UINT32_C(1) << op);
}

static void client_learn(
	struct s3 *s3, enum s3_op op, enum s3_condition condition, bool enforced)
{
	struct s3_client *c = client_of(s3);
	with_lock(&c->lock);
	if (enforced)
		c->enforced[condition] |= UINT32_C(1) << op;
	else
		c->enforced[condition] &= ~(UINT32_C(1) << op);
}

/* ---- life ------------------------------------------------------------------------------------------ */

static void client_free(struct s3_client *c)
{
	if (c->multi)
		(void)curl_multi_cleanup(c->multi); /* empty by now */
	lock_release_storage(&c->lock);
	free(c->cancels);
	free(c->ca_bundle);
	free(c);
}

static void client_destroy(struct s3 *s3)
{
	struct s3_client *c = client_of(s3);
	{
		with_lock(&c->lock);
		c->stopping = true;
		wake_locked(c);
	}
	thread_join(c->thread);
	client_free(c);
}

static const struct s3_ops client_ops = {
	.submit = client_submit,
	.cancel = client_cancel,
	.wants_sha256 = client_wants_sha256,
	.is_down = client_is_down,
	.quickest_ms = client_quickest_ms,
	.enforces = client_enforces,
	.learn = client_learn,
	.destroy = client_destroy,
};

/* Keys and tokens pass through both libraries' memory. */
static void libraries_init_once(void)
{
	check(curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, wiping_free, wiping_realloc, strdup,
		      calloc) == CURLE_OK);
	check(xmlMemSetup(wiping_free, malloc, wiping_realloc, strdup) == 0);
	xmlInitParser();
}

void s3_libraries_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, libraries_init_once);
}

static unsigned or_default(unsigned value, unsigned otherwise)
{
	return value ? value : otherwise;
}

static int client_configure(struct s3_client *c, const struct s3_config *config)
{
	int err = s3_endpoint_init(&c->endpoint, config);
	if (err)
		return err;
	c->base.ops = &client_ops;
	c->max_connections = or_default(config->max_connections, DEFAULT_CONNECTIONS);
	c->sign_payload_always = config->sign_payload_always;
	c->stall_timeout_s = (or_default(config->stall_timeout_ms, DEFAULT_STALL_MS) + 999) / 1000;
	c->connect_timeout_ms = or_default(config->connect_timeout_ms, DEFAULT_CONNECT_MS);
	c->credentials = config->credentials;
	for (unsigned i = 0; i < S3_CONDITIONS; i++)
		c->enforced[i] = c->endpoint.is_aws ? UINT32_MAX : 0;
	TAILQ_INIT(&c->inbox);
	TAILQ_INIT(&c->waiting);
	TAILQ_INIT(&c->active);
	if (config->ca_bundle && !(c->ca_bundle = text_dup(config->ca_bundle)))
		return -ENOMEM;
	return 0;
}

static int multi_create(struct s3_client *c)
{
	c->multi = curl_multi_init();
	if (!c->multi)
		return -ENOMEM;
	CURLMcode bad = curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	if (!bad)
		bad = curl_multi_setopt(
			c->multi, CURLMOPT_MAXCONNECTS, 2L * (long)c->max_connections);
	return bad ? -ENOMEM : 0;
}

int s3_client_create(struct s3 **ret, const struct s3_config *config)
{
	if (!config->credentials.get)
		return -EINVAL;
	s3_libraries_init();
	struct s3_client *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	lock_init(&c->lock, RANK_S3, "s3");
	int err = client_configure(c, config);
	if (!err)
		err = multi_create(c);
	if (!err)
		err = thread_start(&c->thread, "cpgfs-s3", s3_loop_run, c);
	if (err) {
		client_free(c);
		return err;
	}
	*ret = &c->base;
	return 0;
}
