/*
 * control_json - status.json: the same facts as status, for programs.
 */
#include "control_private.h"

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *text_or_null(const char *text)
{
	return *text ? control_json_text(text) : json_null();
}

static json_t *cache_of(const struct control_facts *f)
{
	return json_pack("{s:o s:o s:o s:o s:o s:o s:o s:o}", "size_bytes", number(f->space.size_bytes),
		"used_bytes", number(f->space.used_bytes), "pending_bytes",
		number(f->space.pending_bytes), "evictable_bytes", number(f->space.evictable_bytes),
		"disk_free_bytes", number(f->space.disk_free_bytes), "index_bytes",
		number(f->space.index_bytes), "journal_bytes", number(f->space.journal_bytes), "filled_by",
		control_json_fill(f));
}

static json_t *transfers_of(const struct control_facts *f)
{
	return json_pack("{s:o s:o s:o s:o s:o}", "active", number(f->upload.transfers_active),
		"limit", number(f->upload.transfers_limit), "objects_sent_total",
		number(f->upload.objects_sent_total), "bytes_sent_total",
		number(f->upload.bytes_sent_total), "retries_total", number(f->upload.retries_total));
}

static json_t *mount_of(struct control *c)
{
	return json_pack("{s:o s:o s:o s:o s:o s:I}", "bucket", control_json_text(c->bucket), "prefix",
		control_json_text(c->prefix), "endpoint", text_or_null(c->endpoint), "mountpoint",
		control_json_text(c->mountpoint), "cache_dir", control_json_text(c->cache_dir),
		"uptime_s", (json_int_t)((clock_mono_ms() - c->started_mono_ms) / MS_PER_S));
}

static json_t *recovery_of(const struct control_facts *f)
{
	const struct store_recovery *r = &f->recovery;

	return json_pack("{s:b s:b s:o s:o s:o s:o s:o}", "was_unclean", r->was_unclean, "power_cut",
		r->power_cut, "replayed_records", number(r->replayed_records), "torn_files",
		number(r->torn_files), "incomplete_files", number(r->incomplete_files), "lost_files",
		number(r->lost_files), "orphan_data_files", number(r->orphan_data_files));
}

static json_t *requests_of(const struct control_facts *f)
{
	return json_pack("{s:o s:o s:o}", "parked", number(f->fs.requests_parked),
		"writers_waiting", number(f->fs.writers_waiting), "files_open",
		number(f->fs.files_open));
}

static json_t *passthrough_of(const struct control_facts *f)
{
	return json_pack("{s:o s:o}", "state", text_or_null(f->fs.passthrough), "files",
		number(f->fs.passthrough_files));
}

static json_t *options_of(struct control *c)
{
	json_t *list = json_array();

	for (char **o = c->options; *o; o++) {
		if (json_array_append_new(list, control_json_text(*o)) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* Sets it; a value that could not be made (NULL) fails the whole. */
static int set(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new(object, name, value) < 0 ? -ENOMEM : 0;
}

static int fill(struct control *c, const struct control_facts *f, json_t *o)
{
	struct {
		const char *name;
		json_t *value;
	} members[] = {
		{"rate_bytes_per_s", json_integer((json_int_t)f->upload.rate_bytes_per_s)},
		{"eta_s", f->upload.eta_s >= 0 ? json_integer(f->upload.eta_s) : json_null()},
		{"paused_reason", text_or_null(f->upload.paused_reason)},
		{"paused_by_hand", json_boolean(f->upload.pauses & PAUSE_BY_HAND)},
		{"jobs", number(f->upload.jobs_open)},
		{"jobs_damaged", number(f->upload.jobs_damaged)},
		{"damaged", text_or_null(f->upload.damaged)},
		{"foreign_files", number(f->counts.foreign_files)},
		{"cache", cache_of(f)},
		{"transfers", transfers_of(f)},
		{"requests", requests_of(f)},
		{"credentials", control_json_text(f->credentials)},
		{"remote_problem", text_or_null(f->remote_message)},
		{"recovery", recovery_of(f)},
		{"passthrough", passthrough_of(f)},
		{"mount", mount_of(c)},
		{"options", options_of(c)},
		{"version", json_string(CPGFS_VERSION)},
		{"pid", json_integer(getpid())},
		{"exit_code", json_integer(f->exit_code)},
	};
	int r = control_json_counts(o, &f->counts);

	for (size_t i = 0; i < array_len(members); i++) {
		int e = set(o, members[i].name, members[i].value);

		r = r < 0 ? r : e;
	}
	return r;
}

int control_write_json(struct control *c, struct buf *out)
{
	struct control_facts facts;
	int r = control_facts_get(c, &facts);
	json_t *o;

	if (r < 0)
		return r;
	o = json_object();
	r = o ? fill(c, &facts, o) : -ENOMEM;
	if (r == 0)
		r = control_json_write(o, JSON_INDENT(2) | JSON_PRESERVE_ORDER, out);
	json_decref(o);
	buf_add_char(out, '\n');
	return r;
}
