/*
 * control_commands - what can be written to `.cpgfs/control`: one command a line,
 *
 *	VERB [TOKEN [PATH]]
 *
 * PATH is relative to the mount root ("" or nothing: everything); in it \\, \n, \t and \xNN stand
 * for odd bytes. With a TOKEN (letters, digits, _ and -; "-" alone means none) the answer is kept in
 * reply/TOKEN as JSON: {"ok":true,"count":N}, or {"error":"…"}, or what the command tells: with
 * "refused", how many it had to leave as they were, come "refusals", the first of them, as a list of
 * {"path":…,"reason":…}. The write itself fails too if a command does. Lines are one write: a command is
 * not put together from two.
 */
#include "control_private.h"

#define LOG_ROOM "control"

#define REFUSALS_TOLD 100

struct command {
	const char *verb;
	bool quiet; /* asked often: not worth a log line */
	/* Returns a count or -errno; may fill answer itself. */
	int64_t (*run)(struct control *c, const char *path, json_t *answer);
};

/* ---- what they do ---- */

static int64_t run_pause(struct control *c, const char *path, json_t *answer)
{
	upload_pause(c->config.upload);
	return 0;
}

static int64_t run_resume(struct control *c, const char *path, json_t *answer)
{
	upload_resume(c->config.upload);
	return 0;
}

static int64_t run_retry(struct control *c, const char *path, json_t *answer)
{
	if (c->config.auth)
		auth_renew(c->config.auth); /* refused credentials are tried again, too */
	return upload_retry(c->config.upload, path);
}

struct refusals {
	json_t *list;
	int64_t count;
	bool broken; /* no memory */
};

static void add_refusal(void *user, const char *path, const char *why)
{
	struct refusals *f = user;
	json_t *one;

	if (f->count++ >= REFUSALS_TOLD)
		return;
	one = json_pack("{s:o s:s}", "path", control_json_text(path), "reason", why);
	f->broken = f->broken || !one || json_array_append_new(f->list, one) < 0;
}

/* An order that may have to leave files as they are, and says which. */
static int64_t run_telling(struct control *c, const char *path, json_t *answer,
	int64_t (*order)(struct upload *u, const char *path, upload_refused_fn *refused, void *user))
{
	struct refusals refusals = {.list = json_array()};
	int64_t count = -ENOMEM;

	if (refusals.list)
		count = order(c->config.upload, path, add_refusal, &refusals);
	if (refusals.broken || json_object_set(answer, "refusals", refusals.list) < 0 ||
		json_object_set_new(answer, "refused", json_integer(refusals.count)) < 0)
		count = count < 0 ? count : -ENOMEM;
	json_decref(refusals.list);
	return count;
}

static int64_t run_accept(struct control *c, const char *path, json_t *answer)
{
	return run_telling(c, path, answer, upload_accept_all);
}

static int64_t run_discard(struct control *c, const char *path, json_t *answer)
{
	return run_telling(c, path, answer, upload_discard_all);
}

static int64_t run_undelete(struct control *c, const char *path, json_t *answer)
{
	return run_telling(c, path, answer, upload_undelete);
}

static int64_t run_rename_clean(struct control *c, const char *path, json_t *answer)
{
	return upload_rename_clean(c->config.upload, path);
}

static int64_t run_hurry(struct control *c, const char *path, json_t *answer)
{
	int64_t count = upload_hurry(c->config.upload, path);

	verify_hurry(c->config.verify, path);
	return count;
}

static int64_t run_verify(struct control *c, const char *path, json_t *answer)
{
	verify_hurry(c->config.verify, path);
	return 0;
}

static int64_t run_checkpoint(struct control *c, const char *path, json_t *answer)
{
	return store_checkpoint(c->config.store);
}

static int64_t run_flush(struct control *c, const char *path, json_t *answer)
{
	return store_flush_all(c->config.store);
}

static int64_t run_umount(struct control *c, const char *path, json_t *answer)
{
	if (!c->config.request_stop)
		return -EOPNOTSUPP;
	c->config.request_stop(c->config.stop_user);
	return 0;
}

static int64_t drain(struct control *c, bool on)
{
	if (!c->config.request_drain)
		return -EOPNOTSUPP;
	c->config.request_drain(c->config.stop_user, on);
	return 0;
}

static int64_t run_drain(struct control *c, const char *path, json_t *answer)
{
	return drain(c, true);
}

static int64_t run_no_drain(struct control *c, const char *path, json_t *answer)
{
	return drain(c, false);
}

/* The listing of a folder, or the one that shows a file. */
static int64_t run_refresh(struct control *c, const char *path, json_t *answer)
{
	char prefix[KEY_MAX_BYTES + 2] = "";
	struct store_attr attr;
	struct fs *fs = c->config.fs ? c->config.fs(c->config.fs_user) : NULL;
	int r = store_resolve(c->config.store, path, &attr);
	bool is_file = r == 0 && attr.type == STORE_FILE;

	if (r < 0 && r != -ENOENT && r != -ENOTDIR)
		return r;
	r = *path ? path_to_key(&c->config.naming, path, !is_file, prefix) : 0;
	if (r < 0)
		return r;
	if (is_file)
		prefix[strrchr(prefix, '/') ? strrchr(prefix, '/') + 1 - prefix : 0] = '\0';
	else if (*prefix)
		strcat(prefix, "/"); /* KEY_MAX_BYTES + 2 */
	remote_refresh(c->config.remote, prefix);
	if (fs)
		fs_notice_listed(fs, prefix, 0); /* the kernel's caches too */
	return 1;
}

/* ---- counts ---- */

static int found(void *user, const struct remote_walk_entry *entry)
{
	return 1; /* one is enough */
}

static int found_exactly(void *user, const struct remote_walk_entry *entry)
{
	const char *key = user;

	return entry->key_len == strlen(key) && memcmp(entry->key, key, entry->key_len) == 0 ? 1 : -ENOENT;
}

#define ASK_MAX_MS 20000

/* Has the bucket an object of this key, or anything below it? 1, 0, or why that can't be told. */
static int bucket_has(struct control *c, const char *path)
{
	char key[KEY_MAX_BYTES + 2];
	int64_t deadline_ms = clock_mono_ms() + ASK_MAX_MS;
	int r;

	if (path_to_key(&c->config.naming, path, false, key) < 0)
		return 0;
	r = remote_walk(c->config.remote, key, true, deadline_ms, found_exactly, key, NULL);
	if (r == 1 || (r < 0 && r != -ENOENT && r != -EACCES))
		return r;
	strcat(key, "/"); /* KEY_MAX_BYTES + 2 */
	if (text_starts(c->prefix, key))
		return 1; /* a level above the mounted prefix, or that itself */
	r = remote_walk(c->config.remote, key, true, deadline_ms, found, NULL, NULL);
	return r == -EACCES ? 0 : r;
}

static bool is_below(const char *path, const char *top)
{
	size_t len = strlen(top);

	return len == 0 || (strncmp(path, top, len) == 0 && (path[len] == '/' || !path[len]));
}

/* All of them; *ret is malloc'ed. Returns how many. */
static int jobs_read(struct control *c, struct store_job **ret)
{
	struct store_job *jobs = NULL;
	size_t room = 16;
	int n;

	do {
		struct store_job *grown = reallocarray(jobs, room *= 4, sizeof(*grown));

		if (!grown) {
			free(jobs);
			return -ENOMEM;
		}
		jobs = grown;
		n = store_jobs(c->config.store, jobs, room);
	} while (n > 0 && (size_t)n == room);
	*ret = jobs;
	return n;
}

/* Re-key jobs that concern a path: their folder lies below it, or it lies in their folder. Returns how
 * many, and apart from these how many have met something damaged. */
static int64_t jobs_of(struct control *c, const char *path, int64_t *ret_damaged)
{
	cleanup_free struct store_job *jobs = NULL;
	int64_t count = 0, damaged = 0;
	int n = jobs_read(c, &jobs);

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		cleanup_buf struct buf folder = {0};

		if (store_path(c->config.store, jobs[i].dir_ino, &folder) == 0 &&
			!is_below(buf_text(&folder), path) && !is_below(path, buf_text(&folder)))
			continue;
		if (upload_job_is_damaged(c->config.upload, jobs[i].id))
			damaged++;
		else
			count++;
	}
	*ret_damaged = damaged;
	return count;
}

/* By its key, too, where that is another: what waits below it counts. */
static int resolve(struct control *c, const char *path, struct store_attr *ret)
{
	struct fs *fs = c->config.fs ? c->config.fs(c->config.fs_user) : NULL;

	return fs ? fs_resolve(fs, path, ret) : store_resolve(c->config.store, path, ret);
}

static int64_t run_counts(struct control *c, const char *path, json_t *answer)
{
	struct store_counts counts = {0};
	struct store_attr attr;
	int64_t damaged = 0;
	int64_t jobs = jobs_of(c, path, &damaged); /* first: what one leaves behind is counted */
	int r = *path ? resolve(c, path, &attr) : 0;
	bool here = r == 0;

	if (jobs < 0)
		return jobs;
	if (r < 0 && r != -ENOENT && r != -ENOTDIR)
		return r;
	if (here)
		r = store_counts(c->config.store, *path ? attr.ino : STORE_ROOT_INO, &counts);
	else
		r = 0;
	if (r == 0)
		r = control_json_counts(answer, &counts);
	if (r == 0)
		r = here ? 1 : bucket_has(c, path);
	if (r < 0)
		return r;
	if (json_object_set_new(answer, "exists", json_boolean(r)) < 0 ||
		json_object_set_new(answer, "jobs", json_integer(jobs)) < 0 ||
		json_object_set_new(answer, "jobs_damaged", json_integer(damaged)) < 0)
		return -ENOMEM;
	return 0;
}

/* The checksum the server keeps of an object; PATH is its key. */
static int64_t run_checksum(struct control *c, const char *key, json_t *answer)
{
	struct s3_reply reply = {0};
	char text[16] = "";
	int r = remote_head_fresh(c->config.remote, key, clock_mono_ms() + ASK_MAX_MS, &reply);

	if (r < 0)
		return r;
	if (reply.has_crc64nvme && reply.crc_is_full_object)
		crc64nvme_to_text(reply.crc64nvme, text);
	s3_reply_release(&reply);
	return json_object_set_new(answer, "crc64nvme", text[0] ? json_string(text) : json_null()) < 0
		       ? -ENOMEM
		       : 0;
}

static const struct command commands[] = {
	{"accept", false, run_accept},
	{"checkpoint", false, run_checkpoint},
	{"checksum", true, run_checksum},
	{"counts", true, run_counts},
	{"discard", false, run_discard},
	{"drain", false, run_drain},
	{"flush", false, run_flush},
	{"hurry", true, run_hurry},
	{"no-drain", false, run_no_drain},
	{"pause", false, run_pause},
	{"refresh", false, run_refresh},
	{"rename-clean", false, run_rename_clean},
	{"resume", false, run_resume},
	{"retry", false, run_retry},
	{"status-of", true, run_counts},
	{"umount", false, run_umount},
	{"undelete", false, run_undelete},
	{"verify", false, run_verify},
};

/* ---- lines ---- */

struct line {
	char verb[32];
	char token[TOKEN_MAX + 2];
	char *path; /* malloc'ed, unescaped */
};

/* Next word to a fixed place; what follows one blank is left. */
static int take_word(const char **at, char *word, size_t size)
{
	size_t len = strcspn(*at, " ");

	if (len >= size)
		return -EINVAL;
	memcpy(word, *at, len);
	word[len] = '\0';
	*at += len;
	if (**at == ' ')
		(*at)++;
	return 0;
}

/* No slash at either end, no empty, "." or ".." component. */
static int path_check(char *path)
{
	size_t len = strlen(path);

	while (len > 0 && path[len - 1] == '/')
		path[--len] = '\0';
	while (*path == '/')
		memmove(path, path + 1, len--);
	for (const char *part = path; *part;) {
		size_t n = strcspn(part, "/");

		if (n == 0 || (n == 1 && part[0] == '.') ||
			(n == 2 && part[0] == '.' && part[1] == '.'))
			return -EINVAL;
		part += n + (part[n] == '/');
	}
	return 0;
}

static int line_parse(const char *text, struct line *ret)
{
	int r = take_word(&text, ret->verb, sizeof(ret->verb));

	if (r == 0)
		r = take_word(&text, ret->token, sizeof(ret->token));
	if (r < 0)
		return r;
	if (strcmp(ret->token, "-") == 0)
		ret->token[0] = '\0';
	if (ret->token[0] && !control_token_is_valid(ret->token)) {
		ret->token[0] = '\0';
		return -EINVAL;
	}
	ret->path = text_dup(text);
	if (!ret->path)
		return -ENOMEM;
	r = text_unescape(ret->path);
	return r < 0 ? r : path_check(ret->path);
}

static const struct command *command_find(const char *verb)
{
	for (size_t i = 0; i < array_len(commands); i++) {
		if (strcmp(commands[i].verb, verb) == 0)
			return &commands[i];
	}
	return NULL;
}

static const char *error_text(const struct command *cmd, int error)
{
	switch (-error) {
	case ENOENT:
		return "no such file or folder in the mount";
	case EINVAL:
		return cmd ? "the path is not one that this command can work on"
			   : "no such command";
	case EACCES:
		return "outside the mounted prefix";
	default:
		return strerror(-error);
	}
}

static int line_run(struct control *c, const char *text)
{
	struct line line = {0};
	int64_t result = line_parse(text, &line);
	const struct command *cmd = command_find(line.verb);
	json_t *answer = json_object();

	if (result == 0 && !cmd)
		result = -EINVAL;
	if (result == 0)
		result = cmd->run(c, line.path, answer);
	if (cmd && !cmd->quiet)
		log_info("%s \"%s\": %s", line.verb, line.path ? line.path : "",
			result < 0 ? error_text(cmd, (int)result) : "done");
	if (line.token[0] && answer)
		control_answer_keep(c, line.token, result,
			result < 0 ? error_text(cmd, (int)result) : NULL, answer);
	json_decref(answer);
	free(line.path);
	return result < 0 ? (int)result : 0;
}

int control_command_write(struct control *c, const char *data, size_t len)
{
	cleanup_free char *copy = strndup(data, len);
	char *at = copy;
	int first = 0;

	if (!copy)
		return -ENOMEM;
	if (strlen(copy) != len)
		return -EINVAL; /* a NUL inside */
	while (at && *at) {
		char *line = strsep(&at, "\n");
		int r = *line ? line_run(c, line) : 0;

		first = first < 0 ? first : r;
	}
	return first;
}
