/*
 * When to try again: exponential backoff with full jitter, and a token bucket that slows everything
 * down when most requests fail.
 *
 * Source: AWS SDK reference, "Retry behavior".
 */
#include "cpgfs/s3.h"

#define BACKOFF_START_MS 500
#define BACKOFF_THROTTLED_START_MS 2000
#define BACKOFF_MAX_MS 60000
#define BUCKET_FULL 500
#define RETRY_COST 5
#define THROTTLED_COST 10

int64_t s3_backoff_ms(unsigned attempt, bool throttled)
{
	int64_t cap_ms = throttled ? BACKOFF_THROTTLED_START_MS : BACKOFF_START_MS;
	for (unsigned i = 1; i < attempt && cap_ms < BACKOFF_MAX_MS; i++)
		cap_ms *= 2;
	if (cap_ms > BACKOFF_MAX_MS)
		cap_ms = BACKOFF_MAX_MS;
	return 1 + (int64_t)(random_u64() % (uint64_t)cap_ms);
}

void s3_retry_bucket_init(struct s3_retry_bucket *b)
{
	b->tokens = BUCKET_FULL;
}

bool s3_retry_bucket_take(struct s3_retry_bucket *b, enum s3_class why)
{
	unsigned cost = why == S3_THROTTLED ? THROTTLED_COST : RETRY_COST;
	if (b->tokens < cost)
		return false;
	b->tokens -= cost;
	return true;
}

void s3_retry_bucket_give(struct s3_retry_bucket *b)
{
	if (b->tokens < BUCKET_FULL)
		b->tokens++;
}
