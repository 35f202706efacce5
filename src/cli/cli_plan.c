/*
 * cli_plan - `cpgfs plan`: the command, its options, and where the destination is.
 *
 * Towards s3://… the content of a source folder lands below the prefix, as with `aws s3 sync`;
 * towards a mount the folder itself does, as with `cp -r`.
 */
#include "cli_plan.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <unistd.h>

struct plan_command {
	struct plan plan;
	struct cli_bucket bucket; /* its options: of the mount's table; open with --remote */
	const char *layout_file;  /* --layout-file */
	const char *problems;	  /* --problems */
	bool remote;
};

static const struct option longs[] = {
	{"layout-file", required_argument, NULL, 'l'},
	{"expect", required_argument, NULL, 'e'},
	{"rate", required_argument, NULL, 'r'},
	{"problems", required_argument, NULL, 'P'},
	{"remote", no_argument, NULL, 'R'},
	{"summary", no_argument, NULL, 's'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static void plan_usage(FILE *out)
{
	fprintf(out, "Usage: cpgfs plan [OPTION…] SRC… s3://BUCKET[/PREFIX]\n"
		     "       cpgfs plan [OPTION…] SRC… MOUNTPOINT/PATH\n\n"
		     "The dry run: print what would be uploaded where, then totals, plates and "
		     "problems.\n"
		     "Needs no network. Towards s3:// the content of each SRC lands below PREFIX, "
		     "as with\n"
		     "`aws s3 sync`; towards a mount SRC itself lands in PATH, as with `cp -r`.\n\n"
		     "  -s, --summary       no line per file\n"
		     "  --remote            compare with the bucket: what is there already, and "
		     "what is there\n"
		     "                      with another size\n"
		     "  --problems FILE     write every problem to FILE, as TSV\n"
		     "  --expect W,S,C      wells, sites per well, channels of a plate; a number "
		     "left out is\n"
		     "                      taken from what is there\n"
		     "  --rate SIZE         bytes per second, for the time it takes [100M]\n"
		     "  --layout-file FILE  where what belongs [the gallery's]\n"
		     "  --gallery, --naming, --clean-with, --layout, --part-size, --endpoint, "
		     "--profile …\n"
		     "                      as in cpgfs mount\n\n"
		     "Exit codes: 0 nothing wrong, 1 error or nothing to upload, 3 problems.\n");
}

static int set_option(struct plan_command *c, int option, const char *value)
{
	struct plan *p = &c->plan;

	switch (option) {
	case 'l':
		c->layout_file = value;
		return 0;
	case 'e':
		return plate_pin_parse(value, &p->pin);
	case 'r':
		return size_parse(value, &p->rate_bytes_per_s) < 0 || !p->rate_bytes_per_s ? -EINVAL
											   : 0;
	case 'P':
		c->problems = value;
		return 0;
	case 'R':
		c->remote = true;
		return 0;
	default:
		p->lines = false;
		return 0;
	}
}

/* 0; 1: help was printed; -EINVAL after a message. */
static int parse(struct plan_command *c, int *argc, char **argv)
{
	int at = 0, r = cli_bucket_options(&c->bucket.options, argc, argv);

	if (r < 0)
		return -EINVAL;
	for (int o; (o = getopt_long(*argc, argv, "sh", longs, &at)) != -1; at = 0) {
		if (o == 'h' || o == '?') {
			plan_usage(o == 'h' ? stdout : stderr);
			return o == 'h' ? 1 : -EINVAL;
		}
		if (set_option(c, o, optarg) < 0) {
			cli_error("--%s=%s does not fit; see cpgfs plan --help", longs[at].name,
				optarg);
			return -EINVAL;
		}
	}
	if (*argc - optind < 2) {
		plan_usage(stderr);
		return -EINVAL;
	}
	return 0;
}

static int load_layout(struct plan_command *c)
{
	cleanup_free char *message = NULL, *path = NULL;
	int r = 0;

	if (c->bucket.options.layout == LAYOUT_MODE_OFF)
		return 0;
	/* a name with a slash is a path */
	if (c->layout_file)
		r = text_printf(
			&path, "%s%s", strchr(c->layout_file, '/') ? "" : "./", c->layout_file);
	if (r == 0)
		r = cli_layout_load(
			path ? path : c->bucket.options.layout_name, &c->plan.layout, &message);
	if (r < 0)
		cli_error("%s", message ? message : strerror(-r));
	return r;
}

/* ---- the destination ------------------------------------------------------------------------ */

static int dest_s3(struct plan_command *c, const char *dest, char **ret_prefix)
{
	struct cli_bucket *b = &c->bucket;
	int r = c->remote ? cli_bucket_open(b, dest) : cli_address_fill(&b->options, dest);

	if (r < 0)
		return r;
	c->plan.bucket = text_dup(b->options.bucket);
	*ret_prefix = text_dup(b->options.prefix);
	return c->plan.bucket && *ret_prefix ? 0 : -ENOMEM;
}

static void json_free(json_t **j)
{
	json_decref(*j);
}

/* Places are not looked at if the mount does not. */
static void take_layout(struct plan_command *c, const json_t *status)
{
	const char *mode = cli_option_of(status, "layout");

	if (mode && layout_mode_parse(mode, &c->bucket.options.layout) < 0)
		c->bucket.options.layout = LAYOUT_MODE_WARN; /* one of another version */
}

static int dest_mount(struct plan_command *c, const char *dest, bool own_naming, char **ret_prefix)
{
	struct plan *p = &c->plan;
	cleanup_with(json_free) json_t *status = NULL;
	cleanup_buf struct buf text = {0};
	struct cli_target target;
	const char *bucket;

	if (cli_target_find(dest, &target) < 0) {
		cli_error("\"%s\" is neither s3://BUCKET/PREFIX nor in a mount", dest);
		return -EINVAL;
	}
	if (cli_read(target.root, "status.json", &text) == 0)
		status = json_loadb(buf_text(&text), text.len, 0, NULL);
	bucket = json_string_value(json_object_get(json_object_get(status, "mount"), "bucket"));
	if (!bucket) {
		cli_error("%s: the mount does not say which bucket it is of", target.root);
		return -EIO;
	}
	if (!own_naming && cli_naming_of(status, &p->naming) < 0) {
		cli_error("%s: the mount has a naming rule that this version does not know",
			target.root);
		return -EIO;
	}
	if (c->bucket.options.layout == LAYOUT_MODE_WARN && !c->layout_file)
		take_layout(c, status);
	p->bucket = text_dup(bucket);
	if (c->remote) {
		cli_error("--remote is for s3:// destinations; for a mount, cpgfs verify SRC %s "
			  "compares",
			dest);
		return -EINVAL;
	}
	p->mount_root = text_dup(target.root);
	*ret_prefix = text_dup(target.path);
	return p->bucket && p->mount_root && *ret_prefix ? 0 : -ENOMEM;
}

static int source_add(struct plan *p, char *path, const char *prefix)
{
	struct plan_source *s = &p->sources[p->source_count];
	struct stat st;
	size_t len = strlen(path);
	const char *leaf;

	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	if (stat(path, &st) < 0) {
		cli_error("%s: %s", path, strerror(errno));
		return -errno;
	}
	leaf = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	s->path = path;
	s->is_single = !S_ISDIR(st.st_mode);
	p->source_count++;
	/* cp -r SRC/. copies what is in it, as does SRC/.. */
	if (!p->mount_root || s->is_single || strcmp(leaf, ".") == 0 || strcmp(leaf, "..") == 0)
		s->prefix = text_dup(prefix);
	else if (text_printf(&s->prefix, "%s%s%s", prefix, prefix[0] ? "/" : "", leaf) < 0)
		s->prefix = NULL;
	return s->prefix ? 0 : -ENOMEM;
}

/* ---- the end -------------------------------------------------------------------------------- */

static void print_totals(const struct plan *p)
{
	char bytes[24], rate[24], time[24];
	size_t plates = plan_plates_count(p);

	size_format(p->bytes, bytes);
	size_format(p->rate_bytes_per_s, rate);
	duration_format((int64_t)((double)p->bytes / (double)p->rate_bytes_per_s * 1000), time);
	printf("\nTotal: %" PRIu64 " files, %s, %zu plate%s, %" PRIu64 " requests to send them; "
	       "%s at %s/s\n",
		p->files, bytes, plates, plates == 1 ? "" : "s", p->parts, time, rate);
	if (p->there_files > 0)
		printf("In the bucket already, with the same size: %" PRIu64 " files\n",
			p->there_files);
	if (p->held_files == 0)
		return;
	size_format(p->held_bytes, bytes);
	printf("Not uploaded for their names: %" PRIu64 " files, %s\n", p->held_files, bytes);
}

void plan_print(const struct plan *p)
{
	plan_plates_print(p, stdout);
	plan_problems_print(p, stdout);
	print_totals(p);
}

static int run(struct plan_command *c)
{
	struct plan *p = &c->plan;
	int status = 0;

	for (; p->source_at < p->source_count && status == 0; p->source_at++) {
		struct plan_source *source = &p->sources[p->source_at];

		if (c->remote)
			status = plan_remote_open(&p->remote, c->bucket.s3, source->prefix);
		if (status == 0)
			status = plan_source(p, source);
		plan_remote_close(&p->remote);
	}
	plan_progress(p, true);
	if (status == 0)
		status = plan_plates_finish(p);
	if (status < 0)
		return status;
	plan_print(p);
	if (p->files + p->held_files + p->there_files == 0) {
		cli_error("there is nothing to upload");
		return -ENODATA;
	}
	return fflush(stdout) == 0 ? 0 : -errno;
}

static void plan_release(struct plan *p)
{
	for (size_t i = 0; i < p->source_count; i++) {
		free(p->sources[i].prefix);
		free(p->sources[i].folder);
	}
	free(p->sources);
	free(p->bucket);
	free(p->mount_root);
	layout_destroy(p->layout);
	plan_plates_destroy(p->plates);
}

static int prepare(struct plan_command *c, int argc, char **argv)
{
	struct plan *p = &c->plan;
	cleanup_free char *prefix = NULL;
	const struct cli_mount *o = &c->bucket.options;
	bool own_naming = o->naming.mode != NAMING_HOLD || o->naming.clean_with;
	int status;

	p->naming = o->naming;
	p->part_size_bytes = o->part_size_bytes;
	p->threshold_bytes = o->multipart_threshold_bytes;
	status = text_starts(argv[argc - 1], "s3:")
			 ? dest_s3(c, argv[argc - 1], &prefix)
			 : dest_mount(c, argv[argc - 1], own_naming, &prefix);
	if (status == 0)
		status = load_layout(c);
	p->sources = calloc((size_t)argc, sizeof(*p->sources));
	for (int i = optind; status == 0 && i < argc - 1; i++)
		status = p->sources ? source_add(p, argv[i], prefix) : -ENOMEM;
	if (status == 0)
		status = plan_plates_create(&p->plates);
	if (status < 0)
		return status;
	status = plan_problems_create(&p->problems, c->problems);
	if (status < 0)
		cli_error("%s: %s", c->problems ? c->problems : "problems", strerror(-status));
	return status;
}

int cmd_plan(int argc, char **argv)
{
	struct plan_command c = {
		.plan = {.rate_bytes_per_s = PLAN_RATE_BYTES_PER_S, .lines = true},
	};
	bool problems = false;
	int status = parse(&c, &argc, argv), closed;

	if (status != 0) {
		cli_bucket_close(&c.bucket);
		return status < 0 ? EXIT_USAGE : EXIT_VERIFIED;
	}
	c.plan.progress = isatty(STDERR_FILENO) && (!c.plan.lines || !isatty(STDOUT_FILENO));
	status = prepare(&c, argc, argv);
	if (status == 0)
		status = run(&c);
	if (status == 0)
		problems = plan_has_problems(&c.plan);
	closed = plan_problems_close(c.plan.problems);
	if (status == 0 && closed < 0)
		cli_error("%s: %s", c.problems ? c.problems : "plan", strerror(-closed));
	plan_release(&c.plan);
	cli_bucket_close(&c.bucket);
	if (status < 0 || closed < 0)
		return EXIT_USAGE;
	return problems ? EXIT_NEEDS_PERSON : EXIT_VERIFIED;
}
