/*
 * fs - making, mounting, serving and ending the file system.
 *
 * The end comes in one of two ways: the kernel unmounts (the loop ends by itself), or fs_exit()
 * asks for it. Then one thread, while requests are still being served, answers what is parked and
 * waits for a notice under way (it may need an answer of ours), and only then ends the loop:
 * libfuse's loop waits for its end in a semaphore that only a signal interrupts.
 */
#define LOG_ROOM "fs"

#include "fs_private.h"

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#define WORKERS 10
#define TIMEOUT_MS 1000
#define LOOKUP_WAIT_MS 2000
#define WAKE_SIGNAL SIGURG /* ignored by default, nobody else's here */
#define WAKE_EVERY_MS 20

/* ---- creating ---- */

static int copy_texts(struct fs *fs)
{
	fs->prefix = text_dup(fs->config.prefix ? fs->config.prefix : "");
	fs->mountpoint = text_dup(fs->config.mountpoint ? fs->config.mountpoint : "");
	fs->fsname = text_dup(fs->config.fsname ? fs->config.fsname : "cpgfs");
	if (!fs->prefix || !fs->mountpoint || !fs->fsname)
		return -ENOMEM;
	fs->config.prefix = fs->prefix;
	fs->config.mountpoint = fs->mountpoint;
	fs->config.fsname = fs->fsname;
	return 0;
}

int fs_create(struct fs **ret, const struct fs_config *config)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs)
		return -ENOMEM;
	fs->config = *config;
	atomic_store(&fs->read_only, config->read_only);
	fs->owner_uid = getuid();
	fs->owner_gid = getgid();
	fs->made_at_ns = clock_wall_ns();
	fs->lookup_wait_ms = config->lookup_wait_ms ? config->lookup_wait_ms : LOOKUP_WAIT_MS;
	fs->timeout_s =
		(double)(config->attr_timeout_ms ? config->attr_timeout_ms : TIMEOUT_MS) / MS_PER_S;
	lock_init(&fs->lock, RANK_FS_NODE, "fs");
	check(sem_init(&fs->exit_asked, 0, 0) == 0);
	r = copy_texts(fs);
	if (r == 0)
		r = fs_table_create(&fs->table);
	if (r < 0) {
		fs_destroy(fs);
		return r;
	}
	*ret = fs;
	return 0;
}

void fs_destroy(struct fs *fs)
{
	if (!fs)
		return;
	fs_unmount(fs);
	fs_park_destroy(fs->park);
	fs_notify_destroy(fs->notify);
	fs_table_destroy(fs->table);
	fs_refusals_release(fs);
	lock_release_storage(&fs->lock);
	(void)sem_destroy(&fs->exit_asked); /* nobody waits any more */
	free(fs->hidden.slots);
	free(fs->prefix);
	free(fs->mountpoint);
	free(fs->fsname);
	free(fs);
}

/* ---- mounting ---- */

/* A comma would end the option, a backslash starts an escape. */
static void add_escaped(struct buf *b, const char *text)
{
	for (; *text; text++) {
		if (*text == ',' || *text == '\\')
			buf_add_char(b, '\\');
		buf_add_char(b, *text);
	}
}

static int mount_options(const struct fs *fs, struct buf *b)
{
	buf_add_text(b, "subtype=cpgfs,default_permissions,fsname=");
	add_escaped(b, fs->fsname);
	if (fs->config.allow_other)
		buf_add_text(b, ",allow_other");
	return buf_error(b);
}

static int session_create(struct fs *fs)
{
	cleanup_buf struct buf options = {0};
	char *argv[] = {"cpgfs", "-o", NULL, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	int r = mount_options(fs, &options);

	if (r < 0)
		return r;
	argv[2] = options.data;
	fs->session = fuse_session_new(&args, &fs_operations, sizeof(fs_operations), fs);
	fuse_opt_free_args(&args);
	return fs->session ? 0 : -EINVAL;
}

/* -EBUSY, -EPERM: what failed has said why. */
static void say_mount_failed(const struct fs *fs, int error, char **ret_message)
{
	const char *hint = "see the message of fusermount3 above";

	if (error == -ENOENT)
		hint = "fusermount3 is not installed (package fuse3)";
	else if (error != -EBUSY && error != -EPERM)
		hint = strerror(-error);
	else if (access("/dev/fuse", F_OK) < 0)
		hint = "there is no /dev/fuse: load the kernel module fuse (in a container, pass "
		       "the "
		       "device in)";
	else if (access("/dev/fuse", R_OK | W_OK) < 0)
		hint = "/dev/fuse may not be opened by this user: its mode must be 0666, or the "
		       "user "
		       "must be in its group";
	else if (fs->config.allow_other && getuid() != 0)
		hint = "--allow-other needs the line `user_allow_other` in /etc/fuse.conf";
	if (text_printf(ret_message, "%s: cannot be mounted on: %s", fs->mountpoint, hint) < 0)
		*ret_message = NULL;
}

/* As somebody who is not root: libfuse takes over a descriptor, and closes it. */
static int attach_by_fusermount(struct fs *fs)
{
	cleanup_buf struct buf options = {0};
	char path[sizeof("/dev/fd/") + 3 * sizeof(int)];
	int fd, r = mount_options(fs, &options);

	buf_add_text(&options, ",rw,nosuid,nodev");
	if (r < 0 || buf_error(&options))
		return -ENOMEM;
	fd = fs_fusermount_mount(options.data, fs->mountpoint);
	if (fd < 0)
		return fd;
	(void)snprintf(path, sizeof(path), "/dev/fd/%d", fd);
	check(fuse_session_mount(fs->session, path) == 0); /* it only notes an open descriptor */
	fs->by_fusermount = true;
	return 0;
}

static int attach(struct fs *fs)
{
	if (geteuid() != 0)
		return attach_by_fusermount(fs);
	return fuse_session_mount(fs->session, fs->mountpoint) == 0 ? 0 : -EPERM;
}

static void detach(struct fs *fs)
{
	if (fs->by_fusermount)
		fs_fusermount_end(fs->mountpoint, fuse_session_fd(fs->session));
	else
		fuse_session_unmount(fs->session);
}

int fs_mount(struct fs *fs, char **ret_message)
{
	int r = session_create(fs);

	if (r == 0)
		r = fs_hidden_load(fs);
	if (r == 0)
		r = fs_park_create(&fs->park);
	if (r == 0)
		r = fs_notify_create(&fs->notify, fs->session);
	if (r < 0) {
		if (text_printf(ret_message, "FUSE cannot be set up: %s", strerror(-r)) < 0)
			*ret_message = NULL;
		return r;
	}
	r = attach(fs);
	if (r < 0) {
		say_mount_failed(fs, r, ret_message);
		return -EPERM;
	}
	fs->mounted = true;
#ifdef FS_KILLPRIV_BY_HAND
	fs_killpriv_attach(fs);
#endif
	return 0;
}

/* ---- serving ---- */

static void stop_waiting(struct fs *fs)
{
	atomic_store(&fs->live, false);
	if (fs->park)
		fs_park_stop(fs->park);
	if (fs->notify)
		fs_notify_stop(fs->notify);
}

static void on_wake(int number)
{
	(void)number; /* that it interrupts is all it is for */
}

static void end_main(void *user)
{
	struct fs *fs = user;

	while (sem_wait(&fs->exit_asked) < 0)
		; /* EINTR */
	if (atomic_load(&fs->loop_ended))
		return;
	if (fs->config.ending)
		fs->config.ending(fs->config.ending_user);
	stop_waiting(fs);
	fuse_session_exit(fs->session);
	while (!atomic_load(&fs->loop_ended)) { /* a signal before the wait would be lost */
		(void)pthread_kill(fs->loop_thread, WAKE_SIGNAL);
		(void)poll(NULL, 0, WAKE_EVERY_MS);
	}
}

static int loop(struct fs *fs)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_max_threads(config, WORKERS);
	fuse_loop_cfg_set_clone_fd(config, 0);
	r = fuse_session_loop_mt(fs->session, config);
	fuse_loop_cfg_destroy(config);
	if (atomic_load(&fs->exiting))
		return 0; /* how we ended it does not matter */
	return r < 0 ? r : 0;
}

static void accept_wakes(void)
{
	struct sigaction action = {.sa_handler = on_wake};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, WAKE_SIGNAL);
	check(sigaction(WAKE_SIGNAL, &action, NULL) == 0);
	check(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
}

int fs_run(struct fs *fs)
{
	struct thread *end;
	int r;

	fs->loop_thread = pthread_self();
	accept_wakes();
	r = thread_start(&end, "fs-end", end_main, fs);
	if (r < 0)
		return r;
	r = loop(fs);
	atomic_store(&fs->loop_ended, true);
	(void)sem_post(&fs->exit_asked); /* it may be waiting still */
	thread_join(end);
	return r;
}

void fs_exit(struct fs *fs)
{
	atomic_store(&fs->exiting, true);
	(void)sem_post(&fs->exit_asked); /* overflows only after billions of calls */
}

void fs_unmount(struct fs *fs)
{
	if (fs->mounted)
		stop_waiting(fs);
	if (fs->session) {
		if (fs->mounted)
			detach(fs);
		fuse_session_destroy(fs->session);
	}
	fs->session = NULL;
	fs_handles_close(fs);
	fs->mounted = false;
}

/* ---- news ---- */

static bool is_in_bucket(enum file_state s)
{
	return s == FILE_UPLOADED || s == FILE_VERIFIED;
}

/* A file's link count, or that it is gone. Not each touch of a folder (NONE to NONE): the kernel
 * would drop the folder's permission bits too, and ask for them again before the next create. */
static bool is_news_to_kernel(const struct store_change *c)
{
	return is_in_bucket(c->from) != is_in_bucket(c->to) ||
	       (c->from != FILE_NONE && c->to == FILE_NONE);
}

void fs_notice_store(struct fs *fs, const struct store_change *change)
{
	if (change->from != change->to &&
		(change->to == FILE_DELETING || change->to == FILE_MOVING))
		(void)fs_hidden_add_object(fs, change->ino); /* it may have none */
	if (!atomic_load(&fs->live))
		return;
	if (is_news_to_kernel(change))
		fs_notify_inode(fs->notify, change->ino);
}

void fs_notice_listed(struct fs *fs, const char *prefix, int error)
{
	uint64_t listing = fs_listing_id(prefix);

	if (!atomic_load(&fs->live))
		return;
	if (error == 0)
		fs_clear_impatient(fs, listing);
	fs_park_news_listing(fs->park, listing, error);
}

void fs_notice_fetched(struct fs *fs, uint64_t ino, uint64_t chunk, int error)
{
	if (atomic_load(&fs->live))
		fs_park_news_chunk(fs->park, ino, chunk, error);
}

void fs_notice_room(struct fs *fs)
{
	if (atomic_load(&fs->live))
		fs_park_news_room(fs->park);
}

void fs_status(struct fs *fs, struct fs_status *ret)
{
	struct fs_status status = {0};

	if (fs->park)
		fs_park_count(fs->park, &status.requests_parked, &status.writers_waiting);
	status.files_open = fs_table_handles(fs->table);
	status.nodes = fs_table_nodes(fs->table);
	fs_lend_explain(fs, status.passthrough, sizeof(status.passthrough));
	status.passthrough_files = atomic_load(&fs->lent_files);
	*ret = status;
}
