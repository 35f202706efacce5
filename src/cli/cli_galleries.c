/*
 * cli_galleries - `cpgfs galleries`: which galleries there are, what they preset, and where that
 * stands.
 */
#include "cli_gallery.h"
#include "cli_private.h"

static void galleries_usage(FILE *out)
{
	fprintf(out,
		"Usage: cpgfs galleries [NAME]\n\n"
		"List the galleries that `cpgfs mount --gallery NAME` knows, with their files; "
		"with a\n"
		"NAME, show what it presets. Files NAME.ini in ~/.config/cpgfs/galleries and in\n"
		"/etc/cpgfs/galleries go before those that come with cpgfs.\n");
}

/* One that can't be used is shown with the reason. */
static int list_one(const struct cli_gallery_dirs *dirs, const char *name)
{
	struct cli_gallery g;
	cleanup_free char *message = NULL;
	int r = cli_gallery_find(dirs, name, &g, &message);
	if (r < 0) {
		printf("%-22s  CANNOT BE USED: %s\n", name, message ? message : strerror(-r));
		return r;
	}
	printf("%-22s  %s\n%24s%s\n", name, g.preset.description, "", g.file.path);
	cli_gallery_release(&g);
	return 0;
}

static int list_all(const struct cli_gallery_dirs *dirs)
{
	char **names;
	int r = cli_gallery_names(dirs, &names);
	if (r < 0) {
		cli_error("%s", strerror(-r));
		return EXIT_USAGE;
	}
	for (char **n = names; *n; n++)
		if (list_one(dirs, *n) < 0)
			r = -EINVAL;
	cli_gallery_names_release(names);
	return r < 0 ? EXIT_USAGE : EXIT_VERIFIED;
}

static const char *credentials_explained(enum gallery_credentials way)
{
	switch (way) {
	case GALLERY_ACCESS_GRANT:
		return "the keys you were given are exchanged for those of your prefix";
	case GALLERY_ROLE:
		return "a profile that assumes a role; --no-sign-request reads what is public";
	case GALLERY_CHAIN:
		break;
	}
	return "as any AWS tool finds them";
}

static int show_one(const struct cli_gallery_dirs *dirs, const char *name)
{
	struct cli_gallery g;
	cleanup_free char *message = NULL;
	int r = cli_gallery_find(dirs, name, &g, &message);
	if (r < 0) {
		cli_error("%s", message ? message : strerror(-r));
		return EXIT_USAGE;
	}
	const struct gallery_preset *p = &g.preset;
	printf("%s: %s\nfrom %s\n\n", name, p->description, g.file.path);
	printf("  bucket       %s\n", p->bucket);
	printf("  credentials  %s: %s\n", gallery_credentials_text(p->credentials),
		credentials_explained(p->credentials));
	if (p->layout)
		printf("  layout       %s\n", p->layout);
	if (p->url)
		printf("  url          %s\n", p->url);
	printf("\nOptions of cpgfs mount (the command line goes before them):\n\n");
	for (size_t i = 0; i < p->option_count; i++)
		printf("  --%s=%s  (line %u)\n", p->options[i].name, p->options[i].value,
			p->options[i].line);
	printf("\ncpgfs mount --gallery %s --prefix PREFIX MOUNTPOINT\n", name);
	cli_gallery_release(&g);
	return EXIT_VERIFIED;
}

int cmd_galleries(int argc, char **argv)
{
	if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
		bool help =
			argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
		galleries_usage(help ? stdout : stderr);
		return help ? EXIT_VERIFIED : EXIT_USAGE;
	}
	struct cli_gallery_dirs dirs;
	int r = cli_gallery_dirs_init(&dirs);
	if (r < 0) {
		cli_error("%s", strerror(-r));
		return EXIT_USAGE;
	}
	int code = argc == 2 ? show_one(&dirs, argv[1]) : list_all(&dirs);
	cli_gallery_dirs_release(&dirs);
	return fflush(stdout) == 0 ? code : EXIT_USAGE;
}
