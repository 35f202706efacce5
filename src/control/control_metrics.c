/*
 * control_metrics - `.cpgfs/metrics` in the text format of Prometheus (exposition format 0.0.4).
 */
#include "control_private.h"

#include <inttypes.h>

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP cpgfs_%s %s\n# TYPE cpgfs_%s %s\n", name, help, name, type);
}

static void one(struct buf *out, const char *name, const char *type, const char *help,
	uint64_t value)
{
	head(out, name, type, help);
	buf_printf(out, "cpgfs_%s %" PRIu64 "\n", name, value);
}

static void by_state(struct buf *out, const char *name, const char *help, const uint64_t *numbers)
{
	head(out, name, "gauge", help);
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++)
		buf_printf(out, "cpgfs_%s{state=\"%s\"} %" PRIu64 "\n", name, file_state_text(s),
			numbers[s]);
}

static void held(struct buf *out, const struct store_counts *counts)
{
	head(out, "held_files", "gauge", "Files kept here because of their names, by kind.");
	for (enum held_kind k = HELD_NOT + 1; k < HELD_KIND_COUNT; k++)
		buf_printf(out, "cpgfs_held_files{kind=\"%s\"} %" PRIu64 "\n",
			control_held_text(k), counts->held[k]);
}

static void pauses(struct buf *out, unsigned bits)
{
	static const struct {
		unsigned bit;
		const char *name;
	} rows[] = {
		{PAUSE_CREDENTIALS, "credentials"},
		{PAUSE_SPACE, "space"},
		{PAUSE_NETWORK, "network"},
		{PAUSE_DENIED, "denied"},
		{PAUSE_BY_HAND, "by_hand"},
	};

	head(out, "paused", "gauge", "1 while uploading is paused for this reason.");
	for (size_t i = 0; i < array_len(rows); i++)
		buf_printf(out, "cpgfs_paused{reason=\"%s\"} %d\n", rows[i].name,
			bits & rows[i].bit ? 1 : 0);
}

int control_write_metrics(struct control *c, struct buf *out)
{
	struct control_facts f;
	int r = control_facts_get(c, &f);

	if (r < 0)
		return r;
	by_state(out, "files", "Files by state.", f.counts.files);
	by_state(out, "file_bytes", "Bytes of files by state.", f.counts.bytes);
	held(out, &f.counts);
	pauses(out, f.upload.pauses);
	one(out, "sent_bytes_total", "counter", "Bytes sent since the mount.",
		f.upload.bytes_sent_total);
	one(out, "sent_objects_total", "counter", "Objects sent since the mount.",
		f.upload.objects_sent_total);
	one(out, "retries_total", "counter", "Repeated requests since the mount.",
		f.upload.retries_total);
	one(out, "transfers_active", "gauge", "Uploads under way.", f.upload.transfers_active);
	one(out, "transfers_limit", "gauge", "Uploads allowed at once now.",
		f.upload.transfers_limit);
	one(out, "jobs_open", "gauge", "Renamed folders the bucket has to follow.",
		f.upload.jobs_open);
	one(out, "cache_size_bytes", "gauge", "What the cache may hold.", f.space.size_bytes);
	one(out, "cache_used_bytes", "gauge", "What it holds.", f.space.used_bytes);
	one(out, "cache_pending_bytes", "gauge", "Of that, not yet safe in the bucket.",
		f.space.pending_bytes);
	one(out, "writers_waiting", "gauge", "Writers that wait for room.", f.fs.writers_waiting);
	one(out, "requests_parked", "gauge", "Requests of programs that wait.",
		f.fs.requests_parked);
	one(out, "remote_problem", "gauge", "1 while the endpoint is down or refuses to list.",
		f.remote_health < 0);
	return 0;
}
