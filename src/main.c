/*
 * main - build the stack bottom to top, run it, take it down in reverse.
 *
 * `cpgfs mount` becomes a daemon before anything with a thread or a lock exists; the parent waits for
 * one line through a pipe: "" = mounted, else why not.
 */
#define LOG_ROOM "main"

#include "cpgfs/auth.h"
#include "cpgfs/base.h"
#include "cpgfs/cli.h"
#include "cpgfs/control.h"
#include "cpgfs/fs.h"
#include "cpgfs/gallery.h"
#include "cpgfs/remote.h"
#include "cpgfs/s3.h"
#include "cpgfs/store.h"
#include "cpgfs/upload.h"
#include "cpgfs/verify.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <mntent.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#define LOCK_WAIT_MS 30000      /* for a daemon that is shutting down */
#define STOP_WAIT_MS 10000      /* for requests under way */
#define CREDENTIALS_WAIT_MS 20000 /* for the first ones */

struct stack {
	struct cli_mount options;
	bool is_daemon;
	atomic_bool is_read_only;
	atomic_bool stop_asked;
	atomic_bool drains; /* uploads what is pending when it ends */
	bool was_mounted;
	struct layout *layout; /* NULL: not looked at */
	struct auth *auth;
	struct s3 *s3;
	struct store *store;
	struct remote *remote;
	struct upload *upload;
	struct verify *verify;
	struct control *control;
	struct fs *fs;
	char *message; /* why building it failed */
	char *made;    /* the mount point that this mount made, until it is mounted */
};

static volatile sig_atomic_t stop_signals;
static volatile sig_atomic_t stop_signal, stop_signal_pid; /* the last one, and whose it was */
static struct fs *signalled_fs;
static struct stack *_Atomic mounted; /* whom news of credentials concern */

/* ---- news between rooms --------------------------------------------------------------------- */

static void on_store_changed(void *user, const struct store_change *change)
{
	struct stack *s = user;
	upload_notice(s->upload, change);
	verify_notice(s->verify, change);
	control_notice(s->control, change);
	fs_notice_store(s->fs, change);
}

static void on_room_freed(void *user)
{
	struct stack *s = user;
	remote_room_freed(s->remote);
	fs_notice_room(s->fs);
}

static void on_growing(void *user)
{
	struct stack *s = user;
	upload_notice_growing(s->upload);
}

static void on_listed(void *user, const char *prefix, int error)
{
	struct stack *s = user;
	fs_notice_listed(s->fs, prefix, error);
	verify_notice_listed(s->verify, prefix, error);
}

static void on_fetched(void *user, uint64_t ino, uint64_t chunk, int error)
{
	struct stack *s = user;
	fs_notice_fetched(s->fs, ino, chunk, error);
}

static struct fs *the_fs(void *user)
{
	struct stack *s = user;
	return s->fs;
}

static uint64_t credentials_stamp(void *user)
{
	struct stack *s = user;
	return auth_stamp(s->auth);
}

static void credentials_explain(void *user, char out[512])
{
	struct stack *s = user;
	auth_explain(s->auth, out);
}

static bool grant_is_for_reading(struct stack *s)
{
	struct auth_status status;
	auth_status(s->auth, &status);
	return status.by_grant && status.permission == AUTH_READ;
}

/* New ones, or a try that failed. The first may come late, when everything is mounted. */
static void on_credentials(void *user)
{
	struct stack *s = atomic_load(&mounted);
	struct auth_status status;
	if (!s)
		return;
	auth_status(s->auth, &status);
	if (status.state == AUTH_GOOD)
		verify_again(s->verify);
	if (!grant_is_for_reading(s) || atomic_exchange(&s->is_read_only, true))
		return;
	fs_set_read_only(s->fs);
	log_warn("the access grant is for reading only: nothing can be changed from now on");
}

static void on_stop_asked(void *user)
{
	struct stack *s = user;
	atomic_store(&s->stop_asked, true);
	fs_exit(s->fs);
}

/* A listing may take minutes; draining needs it. */
static void on_ending(void *user)
{
	struct stack *s = user;
	if (!atomic_load(&s->drains))
		remote_stop(s->remote);
}

static void on_drain_asked(void *user, bool on)
{
	struct stack *s = user;
	atomic_store(&s->drains, on || s->options.drain);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)context;
	stop_signal = number;
	stop_signal_pid = info->si_pid;
	stop_signals++;
	if (signalled_fs)
		fs_exit(signalled_fs);
}

/* ---- building, bottom to top ------------------------------------------------------------------ */

static int fail(struct stack *s, int error, const char *what)
{
	if (!s->message && text_printf(&s->message, "%s: %s", what, strerror(-error)) < 0)
		s->message = NULL;
	return error;
}

/* PATH is MOUNT or below it. */
static bool is_inside(const char *path, const char *mount)
{
	size_t len = strlen(mount);
	return text_starts(path, mount) && (path[len] == '\0' || path[len] == '/');
}

static int refuse_cache(struct stack *s, const char *cache)
{
	if (text_printf(&s->message,
		    "the cache directory %s lies inside the mount point, or in another mount of "
		    "cpgfs: give another --cache-dir",
		    cache) < 0)
		return -ENOMEM;
	return -EINVAL;
}

/* In any mount of cpgfs, whose files are uploaded. */
static bool is_in_a_mount_of_ours(const char *path)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	size_t longest = 0;
	bool ours = false;
	for (struct mntent *m; mounts && (m = getmntent(mounts));) {
		size_t len = strlen(m->mnt_dir);
		if (len < longest || !(is_inside(path, m->mnt_dir) || len == 1))
			continue;
		longest = len;
		ours = strcmp(m->mnt_type, "fuse.cpgfs") == 0;
	}
	if (mounts)
		endmntent(mounts);
	return ours;
}

static int build_log(struct stack *s)
{
	const struct cli_mount *o = &s->options;
	cleanup_free char *path = NULL;
	if (is_inside(o->cache_dir, o->mountpoint) ||
		is_in_a_mount_of_ours(o->cache_dir)) /* not even made; check_cache_place knows links */
		return refuse_cache(s, o->cache_dir);
	int r = io_mkdir_p(o->cache_dir, 0700);
	if (r < 0) {
		if (text_printf(&s->message, "the cache directory %s cannot be made: %s", o->cache_dir,
			    strerror(-r)) < 0)
			return r;
		return r;
	}
	if (o->log_file)
		r = text_printf(&path, "%s", o->log_file);
	else if (!o->foreground)
		r = text_printf(&path, "%s/cpgfs.log", o->cache_dir);
	if (r == 0)
		r = log_open(o->log_level, path, false);
	return r < 0 ? fail(s, r, path ? path : "the log") : 0;
}

static void warn(struct stack *s, const char *message)
{
	log_warn("%s", message);
	if (!s->options.foreground) /* there the log is standard error */
		fprintf(stderr, "cpgfs: warning: %s\n", message);
}

/* The cache must not lie in its own mount, nor in another one; a network file system or memory as cache is
 * a bad idea. */
static int check_cache_place(struct stack *s)
{
	const struct cli_mount *o = &s->options;
	char cache[PATH_MAX], mount[PATH_MAX];
	if (!realpath(o->cache_dir, cache) || !realpath(o->mountpoint, mount))
		return fail(s, -errno, o->mountpoint);
	if (is_inside(cache, mount) || is_in_a_mount_of_ours(cache))
		return refuse_cache(s, cache);
	struct statfs st;
	const char *flaw = statfs(cache, &st) == 0 ? cli_cache_warning((unsigned long)st.f_type) : NULL;
	cleanup_free char *text = NULL;
	if (flaw && text_printf(&text, "the cache directory %s is %s", cache, flaw) == 0)
		warn(s, text);
	return 0;
}

static int build_auth(struct stack *s)
{
	const struct cli_mount *o = &s->options;
	struct auth_config config = {
		.profile = o->profile,
		.anonymous = o->no_sign_request,
		.region = o->region,
		.ca_bundle = o->ca_bundle,
		.access_grant = o->access_grant,
		.account_id = o->account_id,
		.bucket = o->bucket,
		.prefix = o->prefix,
		.permission = o->read_only ? AUTH_READ : AUTH_READWRITE,
		.news = on_credentials,
		.news_user = s,
	};
	int r = auth_create(&s->auth, &config, &s->message);
	if (r < 0)
		return fail(s, r, "credentials");
	auth_forget_environment();
	r = auth_start(s->auth);
	return r < 0 ? fail(s, r, "credentials") : 0;
}

static int build_s3(struct stack *s)
{
	const struct cli_mount *o = &s->options;
	char region[64] = "";
	auth_region(s->auth, region);
	struct s3_config s3 = {
		.endpoint = o->endpoint,
		.region = o->region ? o->region : region[0] ? region : NULL,
		.bucket = o->bucket,
		.max_connections = o->max_transfers + 8, /* listings and reads beside the uploads */
		.sign_payload_always = o->sign_payload_always,
		.ca_bundle = o->ca_bundle,
		.credentials = auth_source(s->auth),
	};
	int r = s3_client_create(&s->s3, &s3);
	return r < 0 ? fail(s, r, "the endpoint or bucket is not usable") : 0;
}

/* A relative path of a credential_process or token file counts from where the command was given. */
static int leave_folder(struct stack *s)
{
	if (s->is_daemon && chdir("/") < 0)
		return fail(s, -errno, "/");
	return 0;
}

/* What a person must set right refuses the mount; what comes by itself, or by a sign-in, does not. */
static int await_credentials(struct stack *s)
{
	cleanup_free char *message = NULL;
	int r = auth_wait(s->auth, clock_mono_ms() + CREDENTIALS_WAIT_MS, &message);
	if (r == -ENOKEY || r == -EACCES) {
		if (text_printf(&s->message, "%s", message) < 0)
			s->message = NULL;
		return fail(s, r, "credentials");
	}
	if (r == -EKEYEXPIRED || r == -EAGAIN || r == -ETIMEDOUT) {
		cleanup_free char *text = NULL;
		if (text_printf(&text, "no credentials yet: %s; copying in works, uploads wait for them",
			    message) == 0)
			warn(s, text);
		return 1;
	}
	return r < 0 ? fail(s, r, "credentials") : 0;
}

static int build_probe(struct stack *s)
{
	cleanup_free char *message = NULL;
	int r = await_credentials(s);
	if (r)
		return r > 0 ? 0 : r;
	r = cli_probe_bucket(s->s3, s->options.bucket, s->options.prefix, &message);
	if (r < 0) {
		free(s->message);
		s->message = steal_ptr(message);
		return fail(s, r, "the bucket");
	}
	if (r > 0)
		warn(s, message);
	return 0;
}

/* Where nothing can be written, programs hear so at once instead of files waiting for ever. */
static int check_rights(struct stack *s)
{
	struct cli_mount *o = &s->options;
	if (grant_is_for_reading(s) && !o->read_only) {
		o->read_only = true;
		warn(s, "the access grant is for reading only: mounted read-only");
	}
	if (o->no_sign_request && !o->read_only) {
		o->read_only = true;
		log_info("requests are not signed: mounted read-only");
	}
	return 0;
}

static int build_store(struct stack *s)
{
	const struct cli_mount *o = &s->options;
	struct store_config config = {
		.dir = o->cache_dir,
		.identity = o->identity,
		.cache_size_bytes = o->cache_size_bytes,
		.min_free_bytes = o->min_free_bytes,
		.part_size_bytes = o->part_size_bytes,
		.stream_bytes = o->stream_quiet_ms > 0 ? o->multipart_threshold_bytes : 0,
		.settle_ms = o->settle_ms,
		.durability_close = o->durability_close,
	};
	int r = store_open(&s->store, &config, LOCK_WAIT_MS, &s->message);
	return r < 0 ? fail(s, r, "the cache directory") : 0;
}

static int build_remote(struct stack *s)
{
	cleanup_free char *points_path = NULL;
	struct remote_config config = { .s3 = s->s3,
		.store = s->store,
		.prefix = s->options.prefix,
		.list_ttl_ms = s->options.list_ttl_ms };
	int r = text_printf(&points_path, "%s/listing-points", s->options.cache_dir);
	config.points_path = points_path;
	if (r >= 0)
		r = remote_create(&s->remote, &config);
	return r < 0 ? fail(s, r, "remote") : 0;
}

static int build_upload(struct stack *s)
{
	const struct cli_mount *o = &s->options;
	struct upload_config config = {
		.s3 = s->s3,
		.store = s->store,
		.remote = s->remote,
		.naming = o->naming,
		.prefix = o->prefix,
		.acl = o->acl,
		.max_transfers = o->max_transfers,
		.multipart_threshold_bytes = o->multipart_threshold_bytes,
		.allow_overwrite = o->allow_overwrite,
		.allow_delete = o->allow_delete,
		.start_paused = o->start_paused,
		.settle_ms = o->settle_ms,
		.stream_quiet_ms = o->stream_quiet_ms,
		.credentials_stamp = credentials_stamp,
		.credentials_explain = credentials_explain,
		.credentials_user = s,
	};
	int r = upload_create(&s->upload, &config);
	return r < 0 ? fail(s, r, "upload") : 0;
}

static int build_verify(struct stack *s)
{
	struct verify_config config = {
		.store = s->store, .remote = s->remote, .naming = s->options.naming };
	int r = verify_create(&s->verify, &config);
	return r < 0 ? fail(s, r, "verify") : 0;
}

static int build_layout(struct stack *s)
{
	cleanup_free char *message = NULL;
	int r = s->options.layout == LAYOUT_MODE_OFF
			? 0
			: cli_layout_load(s->options.layout_name, &s->layout, &message);
	return r < 0 ? fail(s, r, message ? message : "layout") : 0;
}

static int build_control(struct stack *s)
{
	const struct cli_mount *o = &s->options;
	struct control_config config = {
		.store = s->store,
		.remote = s->remote,
		.upload = s->upload,
		.verify = s->verify,
		.auth = s->auth,
		.fs = the_fs,
		.fs_user = s,
		.owner = getuid(),
		.bucket = o->bucket,
		.prefix = o->prefix,
		.endpoint = o->endpoint,
		.mountpoint = o->mountpoint,
		.cache_dir = o->cache_dir,
		.naming = o->naming,
		.layout = s->layout,
		.options = (const char *const *)o->options,
		.request_stop = on_stop_asked,
		.request_drain = on_drain_asked,
		.stop_user = s,
	};
	int r = control_create(&s->control, &config);
	return r < 0 ? fail(s, r, "control") : 0;
}

static int build_fs(struct stack *s)
{
	const struct cli_mount *o = &s->options;
	cleanup_free char *name = NULL;
	int r = text_printf(&name, "s3://%s%s%s", o->bucket, o->prefix[0] ? "/" : "", o->prefix);
	if (r < 0)
		return r;
	struct fs_config config = {
		.store = s->store,
		.remote = s->remote,
		.upload = s->upload,
		.verify = s->verify,
		.naming = o->naming,
		.layout = o->layout == LAYOUT_MODE_ENFORCE ? s->layout : NULL,
		.standard = s->layout,
		.prefix = o->prefix,
		.mountpoint = o->mountpoint,
		.fsname = name,
		.view = o->view_uploaded ? FS_VIEW_UPLOADED : FS_VIEW_MERGED,
		.read_only = o->read_only,
		.allow_other = o->allow_other,
		.allow_overwrite = o->allow_overwrite,
		.allow_delete = o->allow_delete,
		.df_unlimited = o->df_unlimited,
		.close_syncs = o->durability_close,
		.passthrough = o->passthrough,
		.delete_delay_ms = o->delete_delay_ms,
		.full_timeout_ms = o->full_timeout_ms,
		.virtual = control_virtual(s->control),
		.ending = on_ending,
		.ending_user = s,
	};
	r = fs_create(&s->fs, &config);
	atomic_store(&s->is_read_only, o->read_only);
	atomic_store(&s->drains, o->drain);
	return r < 0 ? fail(s, r, "fs") : 0;
}

/* Every room knows where its news goes; then the threads start, lowest room first. */
static int start_rooms(struct stack *s)
{
	struct store_events store = {
		.user = s, .changed = on_store_changed, .room_freed = on_room_freed,
		.growing = on_growing };
	struct remote_events remote = { .user = s, .listed = on_listed, .fetched = on_fetched };
	store_subscribe(s->store, &store);
	remote_subscribe(s->remote, &remote);
	int r = store_start(s->store);
	if (r == 0)
		r = remote_start(s->remote);
	if (r == 0)
		r = fs_mount(s->fs, &s->message);
	if (r == 0)
		r = upload_start(s->upload);
	if (r == 0)
		r = verify_start(s->verify);
	if (r < 0)
		return fail(s, r, s->options.mountpoint);
	atomic_store(&mounted, s);
	on_credentials(s); /* what came since check_rights() */
	return 0;
}

static int stack_build(struct stack *s)
{
	int (*const steps[])(struct stack *) = { build_log, check_cache_place, build_auth, leave_folder,
		build_s3, build_probe, check_rights,
		build_store, build_remote, build_upload, build_verify, build_layout, build_control, build_fs,
		start_rooms };
	for (size_t i = 0; i < array_len(steps); i++) {
		int r = steps[i](s);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- running and taking down -------------------------------------------------------------------- */

struct left {
	uint64_t pending, needs_person, cut_off; /* files */
	uint64_t jobs;			      /* renames of folders that the bucket has not followed */
	int exit_code;			      /* as of `cpgfs wait` */
	bool known;
};

/* Nobody goes on with what was being written: the next mount finds it cut off. */
static struct left what_is_left(struct stack *s)
{
	struct left left = { 0 };
	struct upload_status status;
	struct store_counts counts;
	upload_status(s->upload, &status); /* jobs first: what one leaves behind is counted */
	left.jobs = status.jobs_open;
	left.known = store_counts(s->store, STORE_ROOT_INO, &counts) == 0;
	if (!left.known)
		return left;
	left.cut_off = counts.files[FILE_OPEN];
	counts.files[FILE_OPEN] = 0;
	for (enum file_state state = FILE_NONE + 1; state < FILE_STATE_COUNT; state++) {
		if (file_state_exit(state) == EXIT_PENDING)
			left.pending += counts.files[state];
		else if (state != FILE_HELD && file_state_exit(state) == EXIT_NEEDS_PERSON)
			left.needs_person += counts.files[state];
	}
	left.needs_person += counts.held[HELD_NAME];
	counts.files[FILE_INCOMPLETE] += left.cut_off;
	left.exit_code = control_exit_of(&counts, status.jobs_open, status.jobs_damaged);
	return left;
}

static void drain(struct stack *s)
{
	sig_atomic_t before = stop_signals;
	log_info("uploading what is pending before the end; another signal ends at once");
	for (;;) {
		struct left left = what_is_left(s);
		if (!left.known || left.pending + left.jobs == 0 || stop_signals != before)
			return;
		if (upload_hurry(s->upload, "") < 0)
			(void)0; /* it settles in its time */
		verify_hurry(s->verify, "");
		(void)poll(NULL, 0, 200); /* the pace of looking */
	}
}

static void say_what_is_left(struct stack *s, const struct left *left)
{
	uint64_t persons = left->needs_person + left->cut_off;
	if (!left->known)
		log_info("stopped; what is left to upload cannot be told now: it is safe in %s",
			s->options.cache_dir);
	else if (left->pending)
		log_info("stopped with %" PRIu64
			 " file%s still to upload: safe in %s, the next mount goes on",
			left->pending, left->pending == 1 ? "" : "s", s->options.cache_dir);
	else if (left->jobs)
		log_info("stopped while the bucket follows a renamed folder: the next mount goes on");
	else if (!persons)
		log_info("stopped; nothing is left to upload");
	if (left->cut_off)
		log_info("stopped with %" PRIu64 " file%s that %s still being written: incomplete, kept in %s",
			left->cut_off, left->cut_off == 1 ? "" : "s", left->cut_off == 1 ? "was" : "were",
			s->options.cache_dir);
	if (left->needs_person)
		log_info("stopped with %" PRIu64 " file%s that need%s you, and %s kept in %s: `cpgfs status` "
			 "tells after the next mount",
			left->needs_person, left->needs_person == 1 ? "" : "s",
			left->needs_person == 1 ? "s" : "", left->needs_person == 1 ? "is" : "are",
			s->options.cache_dir);
}

/* For the log, and for `cpgfs umount --drain`, when nothing changes any more. */
static void tell_what_is_left(struct stack *s)
{
	struct left left = what_is_left(s);
	say_what_is_left(s, &left);
	if (left.known)
		store_mark_ended(s->store, left.exit_code);
}

static void stack_take_down(struct stack *s)
{
	signalled_fs = NULL;
	if (s->auth)
		auth_stop(s->auth); /* no more news; what is there can still be used */
	atomic_store(&mounted, NULL);
	if (s->store)
		store_mark_stopping(s->store);
	if (s->remote)
		remote_stop(s->remote); /* wakes all who wait for the bucket: rooms above it can end */
	if (s->fs)
		fs_unmount(s->fs);
	if (s->upload)
		upload_stop(s->upload, clock_mono_ms() + STOP_WAIT_MS);
	if (s->verify)
		verify_stop(s->verify);
	if (s->was_mounted)
		tell_what_is_left(s);
	if (s->store)
		store_stop(s->store); /* it tells the rooms above of what it does */
	s3_destroy(s->s3);
	if (s->fs)
		fs_destroy(s->fs);
	if (s->control)
		control_destroy(s->control);
	layout_destroy(s->layout);
	if (s->verify)
		verify_destroy(s->verify);
	if (s->upload)
		upload_destroy(s->upload);
	if (s->remote)
		remote_destroy(s->remote);
	if (s->store)
		store_close(s->store);
	if (s->auth)
		auth_destroy(s->auth);
	cli_mount_release(&s->options);
	free(s->message);
	if (s->made)
		(void)rmdir(s->made); /* it failed: nothing of it stays; what is not empty does */
	free(s->made);
}

static void catch_signals(struct stack *s)
{
	signalled_fs = s->fs;
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
}

static void prepare_process(void)
{
	struct rlimit files;
	umask(0077);
#if !defined(__SANITIZE_ADDRESS__) /* its leak check must trace the process */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* keys are in memory; a refusal only weakens that */
#endif
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files); /* fewer files at once, if it fails */
	}
}

/* Whoever finds the mount gone wants to know who it was. */
static void say_why(struct stack *s)
{
	int pid = stop_signal_pid;
	char line[256], *name, *end;
	if (stop_signals) {
		bool known = process_stat(pid, line, sizeof(line)) == 0;
		name = known ? strchr(line, '(') : NULL;
		end = name ? strrchr(name, ')') : NULL;
		if (end)
			end[1] = '\0';
		log_info("ending: signal %d of process %d %s", (int)stop_signal, pid,
			end ? name : "(which has ended)");
	} else {
		log_info("ending: %s", atomic_load(&s->stop_asked) ? "asked to through .cpgfs/control"
								: "unmounted");
	}
}

/* ready_fd: where the parent waits (-1 in the foreground). Returns the exit code. */
static int run_mount(struct stack *s, int ready_fd)
{
	prepare_process();
	int r = stack_build(s);
	if (r < 0) {
		fprintf(stderr, "cpgfs: %s\n", s->message ? s->message : strerror(-r));
		stack_take_down(s);
		return EXIT_USAGE;
	}
	catch_signals(s);
	s->was_mounted = true;
	free(steal_ptr(s->made));
	if (ready_fd >= 0) {
		(void)!write(ready_fd, "", 1); /* a parent that is gone needs no news */
		close(ready_fd);
		int null_fd = open("/dev/null", O_RDWR);
		if (null_fd >= 0)
			for (int fd = 0; fd < 3; fd++)
				dup2(null_fd, fd);
	}
	log_info("mounted s3://%s/%s on %s (pid %d)", s->options.bucket, s->options.prefix,
		s->options.mountpoint, (int)getpid());
	r = fs_run(s->fs);
	if (r < 0)
		log_error("the file system ended: %s", strerror(-r));
	else
		say_why(s);
	if (atomic_load(&s->drains)) {
		fs_unmount(s->fs);
		drain(s);
	}
	stack_take_down(s);
	return r < 0 ? EXIT_USAGE : EXIT_VERIFIED;
}

/* Ctrl-C while it mounts is meant for the child, which the terminal does not reach. */
static volatile sig_atomic_t awaited_child, mount_interrupted;

static void on_signal_while_waiting(int signal)
{
	int was = errno;
	mount_interrupted = signal;
	(void)kill((pid_t)awaited_child, SIGTERM);
	errno = was;
}

/* What is ignored (nohup, a background job of a script) stays so. */
static void pass_on(int signal)
{
	struct sigaction was;
	if (sigaction(signal, NULL, &was) == 0 && was.sa_handler != SIG_IGN)
		sigaction(signal, &(struct sigaction){ .sa_handler = on_signal_while_waiting }, NULL);
}

/* The parent's part: 0 when the child says that it is mounted. */
static int await_child(int ready_fd, pid_t child)
{
	char word;
	ssize_t n;
	do
		n = read(ready_fd, &word, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1 && !mount_interrupted)
		return EXIT_VERIFIED;
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_USAGE;
	if (mount_interrupted)
		fprintf(stderr, "cpgfs: interrupted: nothing is mounted\n");
	else if (WIFSIGNALED(status))
		fprintf(stderr, "cpgfs: the daemon died of signal %d while starting\n",
			WTERMSIG(status));
	return EXIT_USAGE;
}

/* Locks and pipes of whoever mounts are not the daemon's to hold open. What it opened itself closes on exec,
 * and was never inherited. */
static void close_inherited(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	while (dir && (e = readdir(dir))) {
		int fd = (int)strtol(e->d_name, NULL, 10), flags = fcntl(fd, F_GETFD);
		if (fd > 2 && flags >= 0 && !(flags & FD_CLOEXEC))
			close(fd);
	}
	if (dir)
		closedir(dir);
}

static int cmd_mount(int argc, char **argv)
{
	struct stack s = { 0 };
	int code;
	if (cli_mount_parse(argc, argv, &s.options, &code) < 0)
		return code;
	code = s.options.check_first ? cli_check_before_mount(&s.options) : EXIT_VERIFIED;
	if (code != EXIT_VERIFIED) {
		stack_take_down(&s);
		return code;
	}
	bool made = false;
	int r = fs_mountpoint_prepare(s.options.mountpoint, &made, &s.message);
	if (r == 0 && made && !(s.made = text_dup(s.options.mountpoint)))
		r = -ENOMEM;
	if (r < 0) {
		fprintf(stderr, "cpgfs: %s\n", s.message ? s.message : strerror(-r));
		stack_take_down(&s);
		return EXIT_USAGE;
	}
	if (s.options.foreground)
		return run_mount(&s, -1);
	int ready[2];
	sigset_t stops, before;
	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	sigprocmask(SIG_BLOCK, &stops, &before); /* until the parent knows whom to tell */
	pid_t child = pipe2(ready, O_CLOEXEC) < 0 ? -1 : fork();
	if (child < 0) {
		fprintf(stderr, "cpgfs: no new process can be made: %s\n", strerror(errno));
		stack_take_down(&s);
		return EXIT_USAGE;
	}
	if (child == 0) {
		sigprocmask(SIG_SETMASK, &before, NULL);
		close(ready[0]);
		close_inherited();
		(void)setsid(); /* a new child is no group leader: cannot fail */
		s.is_daemon = true;
		return run_mount(&s, ready[1]);
	}
	close(ready[1]);
	awaited_child = child;
	pass_on(SIGINT);
	pass_on(SIGTERM);
	sigprocmask(SIG_SETMASK, &before, NULL);
	code = await_child(ready[0], child);
	close(ready[0]);
	if (code == EXIT_VERIFIED)
		free(steal_ptr(s.made));
	stack_take_down(&s);
	return code;
}

/* Else the next file opened, perhaps one with data, is where messages go. */
static void open_missing_streams(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd < 3);
	if (fd >= 0)
		close(fd);
}

/* Whoever started us may ignore the end of its children: then nobody is told how a program of ours ended. */
static void hear_of_children(void)
{
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
}

int main(int argc, char **argv)
{
	open_missing_streams();
	hear_of_children();
	if (cli_is_mount(argc, argv))
		return cmd_mount(argc, argv);
	return cli_run(argc, argv);
}
