/*
 * cli_watch - the live screen: drawn once a second and at every key, on the terminal's other
 * screen, so that what was there before comes back.
 */
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli_watch.h"

#define EVERY_MS 1000

static volatile sig_atomic_t ended;

static void on_end(int number)
{
	ended = number;
}

static void on_size(int number)
{
	/* ends the poll: it is drawn anew */
}

struct terminal {
	struct termios before;
	bool raw;
};

static void terminal_restore(struct terminal *t)
{
	if (!t->raw)
		return;
	(void)!write(STDOUT_FILENO, "\033[?25h\033[?1049l", 14); /* it may be gone */
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &t->before);
}

static int terminal_take(struct terminal *t)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &t->before) < 0)
		return -errno;
	for (size_t i = 0; i < array_len(ends); i++)
		(void)sigaction(ends[i], &(struct sigaction){.sa_handler = on_end}, NULL);
	(void)sigaction(SIGWINCH, &(struct sigaction){.sa_handler = on_size}, NULL);
	raw = t->before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) < 0)
		return -errno;
	t->raw = true;
	return write(STDOUT_FILENO, "\033[?1049h\033[?25l", 14) == 14 ? 0 : -EIO;
}

static struct watch_screen screen_now(void)
{
	struct winsize size = {0};

	(void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size); /* zeros, if it does not tell */
	return (struct watch_screen){.width = size.ws_col ? size.ws_col : 80,
		.height = size.ws_row ? size.ws_row : 24,
		.colour = true,
		.now_ns = clock_wall_ns()};
}

static int put_screen(const struct buf *text)
{
	cleanup_buf struct buf out = {0};

	buf_add_text(&out, "\033[H");
	for (size_t i = 0; i < text->len; i++) {
		if (text->data[i] == '\n')
			buf_add_text(&out, "\033[K\r");
		buf_add_char(&out, text->data[i]);
	}
	buf_add_text(&out, "\033[K\033[J");
	if (buf_error(&out) < 0)
		return -ENOMEM;
	for (size_t at = 0; at < out.len;) {
		ssize_t n = write(STDOUT_FILENO, out.data + at, out.len - at);

		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* *ret_exit: what `cpgfs status` would end with. */
static int draw_once(const char *root, int *ret_exit)
{
	cleanup_buf struct buf json = {0}, plates = {0}, text = {0};
	struct watch_screen screen = screen_now();
	json_t *status;
	int r = cli_read(root, "status.json", &json);

	if (r == 0)
		r = cli_read(root, "plates.tsv", &plates);
	if (r < 0)
		return r;
	status = json_loadb(buf_text(&json), json.len, 0, NULL);
	if (!status)
		return -EBADMSG;
	watch_draw(status, buf_text(&plates), &screen, &text);
	*ret_exit = cli_exit_of_counts(status);
	json_decref(status);
	return put_screen(&text);
}

static bool is_quit(void)
{
	char key;
	bool quit = false;

	while (read(STDIN_FILENO, &key, 1) == 1)
		quit = quit || key == 'q' || key == 'Q';
	return quit;
}

static int watch_loop(const char *root, int *ret_exit)
{
	struct pollfd keys = {.fd = STDIN_FILENO, .events = POLLIN};
	int r = 0;

	while (r == 0 && !ended) {
		r = draw_once(root, ret_exit);
		if (r == 0 && poll(&keys, 1, EVERY_MS) > 0 && (is_quit() || keys.revents & POLLHUP))
			break;
	}
	return r;
}

int cli_watch(const char *root)
{
	cleanup_with(terminal_restore) struct terminal t = {0};
	int code = EXIT_USAGE, r;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		cli_error("--watch needs a terminal; `cpgfs status` and `cpgfs wait` do not");
		return EXIT_USAGE;
	}
	r = terminal_take(&t);
	if (r == 0)
		r = watch_loop(root, &code);
	terminal_restore(&t);
	t.raw = false;
	if (r == 0)
		return code;
	cli_error("%s: %s", root, strerror(-r));
	return EXIT_USAGE;
}
