/*
 * credential_process: a program that prints credentials as JSON, {"Version": 1, "AccessKeyId": …}.
 *
 * The line is split as the AWS tools split it (Python's shlex in POSIX mode): white space divides,
 * quotes join, a backslash takes the next character as it is (within double quotes only before "
 * and \). No shell, so no variables, globs or pipes. The program has the folder, environment and
 * user of the mount command, no input, and a minute.
 *
 * Source: AWS SDKs and Tools Reference Guide, "Process credential provider".
 */
#include "auth_keys.h"
#include "auth_process.h"
#include "auth_try.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define LOG_ROOM "auth"
#define PROCESS_MS (60 * MS_PER_S)
#define LOOK_MS 100 /* whether to stop */
#define STDERR_SHOWN 160

extern char **environ;

/* ---- words ---------------------------------------------------------------------------------- */

/* One word of *at into *to; -EINVAL: a quote without its end. */
static int split_word(const char **at, char **to)
{
	char quote = '\0';
	for (; **at; (*at)++) {
		char c = **at;
		if (quote && c == quote) {
			quote = '\0';
		} else if (!quote && (c == '"' || c == '\'')) {
			quote = c;
		} else if (c == '\\' && quote != '\'' && (*at)[1] &&
			   (!quote || (*at)[1] == '"' || (*at)[1] == '\\')) {
			*(*to)++ = *++*at;
		} else if (c == '\\' && !quote) {
			return -EINVAL; /* nothing behind it */
		} else if (!quote && (c == ' ' || c == '\t')) {
			break;
		} else {
			*(*to)++ = c;
		}
	}
	*(*to)++ = '\0';
	return quote ? -EINVAL : 0;
}

int auth_process_split(const char *line, char **words, size_t max, char *room)
{
	size_t count = 0;
	for (;;) {
		line += strspn(line, " \t");
		if (!*line)
			break;
		if (count + 1 >= max)
			return -E2BIG;
		words[count++] = room;
		if (split_word(&line, &room))
			return -EINVAL;
	}
	words[count] = NULL;
	return count ? 0 : -EINVAL;
}

/* ---- environment ---------------------------------------------------------------------------- */

/* The keys that this process has overwritten in its own environment. */
struct child_environment {
	char **list;
	char *secrets[3];
};

static void child_environment_release(struct child_environment *e)
{
	for (size_t i = 0; i < array_len(e->secrets); i++)
		secret_free(e->secrets[i]);
	free(e->list);
}

static int secret_assignment(char **ret, const char *name, const char *value)
{
	size_t size = strlen(name) + strlen(value) + 2;
	*ret = secret_alloc(size);
	if (!*ret)
		return -ENOMEM;
	snprintf(*ret, size, "%s=%s", name, value);
	return 0;
}

static int child_environment_init(struct child_environment *e, const struct auth_places *p)
{
	const struct {
		const char *name, *value;
	} kept[] = {
		{"AWS_SECRET_ACCESS_KEY", p->environment->keys.secret_key},
		{"AWS_SESSION_TOKEN", p->environment->keys.session_token},
		{"AWS_CONTAINER_AUTHORIZATION_TOKEN", p->environment->container_token},
	};
	size_t count = 0, used = 0;
	while (environ && environ[count])
		count++;
	*e = (struct child_environment){
		.list = calloc(count + array_len(kept) + 1, sizeof(char *))};
	if (!e->list)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		bool is_kept = false;
		for (size_t k = 0; k < array_len(kept); k++) {
			size_t len = strlen(kept[k].name);
			is_kept |= strncmp(environ[i], kept[k].name, len) == 0 &&
				   environ[i][len] == '=';
		}
		if (!is_kept)
			e->list[used++] = environ[i];
	}
	for (size_t k = 0; k < array_len(kept); k++) {
		if (!kept[k].value[0])
			continue;
		if (secret_assignment(&e->secrets[k], kept[k].name, kept[k].value))
			return -ENOMEM;
		e->list[used++] = e->secrets[k];
	}
	return 0;
}

/* ---- running -------------------------------------------------------------------------------- */

struct running {
	pid_t pid;
	int out, err;
	char *text; /* secret memory */
	size_t len;
	bool too_long;
	char said[1024];
	size_t said_len;
};

static int spawn(struct running *r, char *const words[], char *const env[], const char *folder,
	int out, int err)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	if (posix_spawn_file_actions_init(&actions))
		return -ENOMEM;
	if (posix_spawnattr_init(&attr)) {
		posix_spawn_file_actions_destroy(&actions);
		return -ENOMEM;
	}
	int bad = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	bad = bad ? bad : posix_spawn_file_actions_adddup2(&actions, out, 1);
	bad = bad ? bad : posix_spawn_file_actions_adddup2(&actions, err, 2);
	bad = bad ? bad : posix_spawn_file_actions_addchdir_np(&actions, folder);
	bad = bad ? bad : posix_spawnattr_setsigmask(&attr, &none);
	bad = bad ? bad : posix_spawnattr_setsigdefault(&attr, &all);
	bad = bad ? bad
		  : posix_spawnattr_setflags(&attr,
			    POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	bad = bad ? bad : posix_spawnp(&r->pid, words[0], &actions, &attr, words, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -bad;
}

/* False at the end of this stream. */
static bool take_output(struct running *r)
{
	char rest[512];
	bool full = r->len >= AUTH_ANSWER_MAX_BYTES;
	ssize_t n = read(r->out, full ? rest : r->text + r->len,
		full ? sizeof(rest) : AUTH_ANSWER_MAX_BYTES - r->len);
	if (n > 0 && full)
		r->too_long = true;
	else if (n > 0)
		r->len += (size_t)n;
	return n > 0 || (n < 0 && errno == EINTR);
}

static bool take_words(struct running *r)
{
	char rest[512];
	bool full = r->said_len >= sizeof(r->said) - 1;
	ssize_t n = read(r->err, full ? rest : r->said + r->said_len,
		full ? sizeof(rest) : sizeof(r->said) - 1 - r->said_len);
	if (n > 0 && !full)
		r->said_len += (size_t)n;
	return n > 0 || (n < 0 && errno == EINTR);
}

/* Until both streams end. -ETIMEDOUT, -ECANCELED. */
static int listen_to(struct running *r, int64_t end_ms, const atomic_bool *stop)
{
	struct pollfd fds[2] = {{.fd = r->out, .events = POLLIN}, {.fd = r->err, .events = POLLIN}};
	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		int left_ms = clock_poll_timeout_ms(end_ms);
		if (!left_ms)
			return -ETIMEDOUT;
		if (stop && atomic_load(stop))
			return -ECANCELED;
		if (poll(fds, 2, left_ms < LOOK_MS ? left_ms : LOOK_MS) < 0 && errno != EINTR)
			return -errno;
		if (fds[0].revents && !take_output(r))
			fds[0].fd = -1;
		if (fds[1].revents && !take_words(r))
			fds[1].fd = -1;
	}
	return 0;
}

/* It may close its output and run on. */
static int await_end(const struct running *r, int64_t end_ms, const atomic_bool *stop)
{
	cleanup_fd int fd = pidfd_open(r->pid, 0);
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	while (fd >= 0) {
		int left_ms = clock_poll_timeout_ms(end_ms);
		if (!left_ms)
			return -ETIMEDOUT;
		if (stop && atomic_load(stop))
			return -ECANCELED;
		if (poll(&poll_fd, 1, left_ms < LOOK_MS ? left_ms : LOOK_MS) > 0)
			break;
	}
	return 0;
}

static int reap(const struct running *r, bool kill_it)
{
	int status = 0;
	if (kill_it)
		(void)kill(-r->pid, SIGKILL); /* its group; perhaps it has ended */
	while (waitpid(r->pid, &status, 0) < 0)
		if (errno != EINTR) /* SIGCHLD is ignored: what it printed decides */
			return 0;
	return status;
}

static int judge(struct auth_try *t, struct running *r, int err, int status)
{
	const char *remedy = t->recipe->remedy;
	r->said[strcspn(r->said, "\r\n")] = '\0';
	if (err == -ECANCELED)
		return err;
	if (err == -ETIMEDOUT)
		return auth_fail(t, -EKEYEXPIRED, remedy,
			"credential_process did not end within a minute: %.*s", STDERR_SHOWN,
			r->said);
	if (err)
		return auth_fail(t, -EAGAIN, NULL, "credential_process: %s", strerror(-err));
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return auth_fail(t, -EKEYEXPIRED, remedy,
			"credential_process ended with %s %d: %.*s",
			WIFEXITED(status) ? "status" : "signal",
			WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), STDERR_SHOWN,
			r->said);
	if (r->too_long)
		return auth_fail(
			t, -EKEYEXPIRED, remedy, "credential_process prints more than credentials");
	return 0;
}

static int take_answer(struct auth_try *t, const struct running *r, struct s3_credentials *ret)
{
	const char *wrong;
	const char *remedy = t->recipe->remedy;
	cleanup_json json_t *root = auth_json_load(r->text, r->len, 0);
	const json_t *version = json_object_get(root, "Version");
	if (!json_is_object(root))
		return auth_fail(t, -EKEYEXPIRED, remedy, "credential_process prints no JSON");
	if (!json_is_integer(version) || json_integer_value(version) != 1)
		return auth_fail(
			t, -EKEYEXPIRED, remedy, "credential_process prints no \"Version\": 1");
	if (auth_keys_from_json(root, ret, &wrong))
		return auth_fail(t, -EKEYEXPIRED, remedy, "credential_process: %s", wrong);
	return 0;
}

static int run(struct auth_try *t, struct running *r, char *const words[], char *const env[])
{
	int out[2], err[2];
	if (pipe2(out, O_CLOEXEC) < 0)
		return auth_fail(t, -EAGAIN, NULL, "no pipe can be made: %s", strerror(errno));
	if (pipe2(err, O_CLOEXEC) < 0) {
		close(out[0]);
		close(out[1]);
		return auth_fail(t, -EAGAIN, NULL, "no pipe can be made: %s", strerror(errno));
	}
	check(words[0]); /* auth_process_split() refuses an empty line */
	int bad = spawn(r, words, env, t->places->start_folder, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	r->out = out[0];
	r->err = err[0];
	int result;
	if (bad) {
		result = auth_fail(t, -EKEYEXPIRED, t->recipe->remedy,
			"credential_process %.100s cannot be run: %s", words[0], strerror(-bad));
	} else {
		int64_t end_ms = clock_mono_ms() + PROCESS_MS;
		int heard = listen_to(r, end_ms, t->stop);
		if (!heard)
			heard = await_end(r, end_ms, t->stop);
		int status = reap(r, heard != 0);
		result = judge(t, r, heard, status);
	}
	close(out[0]);
	close(err[0]);
	return result;
}

int auth_from_process(struct auth_try *t, struct s3_credentials *ret)
{
	const char *line = t->recipe->process;
	cleanup_free char *room = malloc(strlen(line) + 64);
	char *words[64];
	struct running r = {.text = secret_alloc(AUTH_ANSWER_MAX_BYTES + 1)};
	struct child_environment env = {.list = NULL};
	int err = room && r.text ? 0 : -ENOMEM;
	if (!err && auth_process_split(line, words, array_len(words), room))
		err = auth_fail(t, -EINVAL, "correct it",
			"credential_process is empty, has a quote without its end, or is too long");
	if (!err)
		err = child_environment_init(&env, t->places);
	if (!err)
		err = run(t, &r, words, env.list);
	if (!err)
		err = take_answer(t, &r, ret);
	child_environment_release(&env);
	secret_free(r.text);
	return err;
}
