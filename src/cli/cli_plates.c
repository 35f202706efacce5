/*
 * cli_plates - `cpgfs status --plates`: each plate's grid of wells, as .cpgfs/plates has it.
 */
#include <unistd.h>

#include "cli_walk.h"
#include "cli_watch.h"

struct plates {
	const char *root;
	bool colour;
	unsigned shown;
};

static const char *colour_of(char letter)
{
	switch (letter) {
	case 'V':
		return "\033[32m";
	case 'u':
		return "\033[36m";
	case 'c':
		return "\033[33m";
	case '!':
		return "\033[1;31m";
	default:
		return NULL;
	}
}

/* Rows of wells begin with their letters in the first two columns: " A ", "AF ". */
static bool is_row(const char *line)
{
	return strlen(line) > 3 && (line[0] == ' ' || line[0] == 'A') && line[1] >= 'A' &&
	       line[1] <= 'Z' && line[2] == ' ';
}

static void print_line(const struct plates *p, const char *line)
{
	if (!p->colour || !is_row(line)) {
		puts(line);
		return;
	}
	printf("%.3s", line);
	for (const char *c = line + 3; *c; c++) {
		if (colour_of(*c))
			printf("%s%c\033[0m", colour_of(*c), *c);
		else
			putchar(*c);
	}
	putchar('\n');
}

static int print_plate(void *user, int parent, const char *path, const struct walk_entry *entry)
{
	struct plates *p = user;
	cleanup_buf struct buf text = {0};
	char *save = NULL;
	int r;

	if (!text_ends(entry->name, ".txt"))
		return 0;
	r = cli_read(p->root, path, &text);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* gone meanwhile */
	printf("%s", p->shown++ ? "\n" : "");
	for (char *line = text.data; line && *line; line = save) {
		save = strchr(line, '\n');
		if (save)
			*save++ = '\0';
		print_line(p, line);
	}
	return 0;
}

static int skip_folder(void *user, const char *path, int error)
{
	return error == ENOENT ? 0 : -error; /* gone meanwhile */
}

int cli_plates(const char *root)
{
	static const struct walk_hooks hooks = {.file = print_plate, .unreadable = skip_folder};
	struct plates p = {.root = root, .colour = isatty(STDOUT_FILENO)};
	cleanup_free char *top = NULL;
	int r = text_printf(&top, "%s/.cpgfs/plates", root);

	if (r == 0)
		r = cli_walk(top, "plates", &hooks, &p);
	if (r == 0 && p.shown == 0)
		puts("no plates yet");
	if (r == 0 && fflush(stdout) != 0)
		r = -errno;
	if (r == 0)
		return EXIT_VERIFIED;
	cli_error("%s: %s", root, strerror(-r));
	return EXIT_USAGE;
}
