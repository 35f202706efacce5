/*
 * control_status - `.cpgfs/status`: how it stands, for people, with the way out of everything that
 * does not go on by itself.
 */
#include "control_private.h"

#include <inttypes.h>

static void add_size(struct buf *out, uint64_t bytes)
{
	char text[24];

	size_format(bytes, text);
	buf_add_text(out, text);
}

static void write_mount(struct control *c, const struct control_facts *f, struct buf *out)
{
	buf_printf(out, "cpgfs %s: s3://%s/%s on ", CPGFS_VERSION, c->bucket, c->prefix);
	text_escape(out, c->mountpoint);
	buf_printf(out, "%s%s\ncredentials: %s\n", *c->endpoint ? ", endpoint " : "", c->endpoint,
		f->credentials);
	if (f->remote_message[0])
		buf_printf(out, "bucket: %s\n", f->remote_message);
}

static void write_pause(const struct control_facts *f, struct buf *out)
{
	if (f->upload.paused_reason[0])
		buf_printf(out, "\nPAUSED: %s\n", f->upload.paused_reason);
}

static void write_states(const struct control_facts *f, struct buf *out)
{
	buf_printf(out, "\n%-12s %10s %10s\n", "state", "files", "size");
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++) {
		char size[24];

		if (f->counts.files[s] == 0)
			continue;
		size_format(f->counts.bytes[s], size);
		buf_printf(out, "%-12s %10" PRIu64 " %10s  %s\n", file_state_text(s),
			f->counts.files[s], size, file_state_what(s));
	}
}

static void write_transfers(const struct control_facts *f, struct buf *out)
{
	buf_printf(out, "\nsending: %u of at most %u transfers, ", f->upload.transfers_active,
		f->upload.transfers_limit);
	add_size(out, (uint64_t)f->upload.rate_bytes_per_s);
	buf_add_text(out, "/s");
	if (f->upload.eta_s > 0) {
		char eta[24];

		duration_format(f->upload.eta_s * MS_PER_S, eta);
		buf_printf(out, ", about %s left", eta);
	}
	buf_printf(out, "; since the mount %" PRIu64 " objects, ", f->upload.objects_sent_total);
	add_size(out, f->upload.bytes_sent_total);
	buf_printf(out, ", %" PRIu64 " repeated requests\n", f->upload.retries_total);
	if (f->upload.jobs_open > 0)
		buf_printf(out, "renamed folders that the bucket still has to follow: %" PRIu64 "\n",
			f->upload.jobs_open);
}

static void write_cache(struct control *c, const struct control_facts *f, struct buf *out)
{
	buf_add_text(out, "cache: ");
	add_size(out, f->space.used_bytes);
	buf_add_text(out, " used of ");
	add_size(out, f->space.size_bytes);
	buf_add_text(out, ", ");
	add_size(out, f->space.pending_bytes);
	buf_add_text(out, " not yet safe in the bucket, in ");
	text_escape(out, c->cache_dir);
	buf_add_char(out, '\n');
	control_write_fill(f, out);
	if (strcmp(f->fs.passthrough, "on") == 0) /* else status.json tells why not */
		buf_add_text(out, "kernel passthrough: on\n");
}

/* Why the first of them is in this state: often all are for one reason. */
static void write_example(struct control *c, enum file_state state, struct buf *out)
{
	cleanup_free struct store_inode *inode = calloc(1, sizeof(*inode));
	cleanup_buf struct buf path = {0};
	struct store_queue_item item;

	if (!inode || store_queue(c->config.store, state, NULL, &item, 1) != 1 ||
		store_inode(c->config.store, item.ino, inode) < 0 || !*inode->reason ||
		store_path(c->config.store, item.ino, &path) < 0)
		return;
	buf_add_text(out, "    ");
	text_escape(out, buf_text(&path));
	buf_add_text(out, ": ");
	text_escape(out, inode->reason);
	buf_add_char(out, '\n');
}

/* States that need a person (or can be taken back), each with its remedy. */
static void write_remedies(struct control *c, const struct control_facts *f, struct buf *out)
{
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++) {
		if (f->counts.files[s] == 0 || !*file_state_remedy(s) || s == FILE_HELD)
			continue;
		buf_printf(out, "%s %" PRIu64 " (%s): %s\n", file_state_text(s), f->counts.files[s],
			s == FILE_DELETING ? "queue.tsv" : "failed.tsv", file_state_remedy(s));
		if (file_state_exit(s) == 3)
			write_example(c, s, out);
	}
	if (f->upload.jobs_damaged > 0)
		buf_printf(out, "renamed folders with something damaged below %u:\n    %s\n",
			f->upload.jobs_damaged, f->upload.damaged);
	for (enum held_kind k = HELD_NOT + 1; k < HELD_KIND_COUNT; k++) {
		if (f->counts.held[k] > 0)
			buf_printf(out, "held, %s %" PRIu64 " (rejected.tsv): %s\n",
				control_held_text(k), f->counts.held[k], control_held_remedy(k));
	}
}

static void write_recovery(const struct control_facts *f, struct buf *out)
{
	const struct store_recovery *r = &f->recovery;

	if (!r->was_unclean)
		return;
	buf_printf(out,
		"the last run ended without warning%s: %" PRIu64 " records replayed, %" PRIu64
		" files torn, %" PRIu64 " incomplete, %" PRIu64 " lost, %" PRIu64
		" data files without a name\n",
		r->power_cut ? " (power cut, crash of the machine or loss of the cache's disk)" : "", r->replayed_records,
		r->torn_files, r->incomplete_files, r->lost_files, r->orphan_data_files);
}

/* Nothing here is not "all verified". */
static bool no_file_counts(const struct control_facts *f)
{
	for (enum file_state s = FILE_NONE + 1; s < FILE_STATE_COUNT; s++)
		if (f->counts.files[s] > 0)
			return false;
	return true;
}

static void write_conclusion(const struct control_facts *f, struct buf *out)
{
	static const char *const texts[] = {
		[0] = "all verified in the bucket",
		[2] = "not everything is in the bucket yet",
		[3] = "some files need you, see above",
	};

	const char *text = texts[f->exit_code];
	if (f->exit_code == 0 && no_file_counts(f))
		text = "nothing was copied in here yet";
	buf_printf(out, "\n%s\n", text);
}

int control_write_status(struct control *c, struct buf *out)
{
	struct control_facts facts;
	int r = control_facts_get(c, &facts);

	if (r < 0)
		return r;
	write_mount(c, &facts, out);
	write_pause(&facts, out);
	write_states(&facts, out);
	write_transfers(&facts, out);
	write_cache(c, &facts, out);
	write_remedies(c, &facts, out);
	write_recovery(&facts, out);
	write_conclusion(&facts, out);
	return 0;
}
