/*
 * cli_verify - `cpgfs verify`: the command, its two sides, and what it prints.
 */
#include "cli_verify.h"

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHOWN_MAX = 20, HEADS_AT_ONCE = 64 };

enum output { OUTPUT_PEOPLE, OUTPUT_TSV, OUTPUT_JSON };

struct verify_command {
	struct cli_bucket bucket; /* of s3://… */
	struct cli_target target; /* of a mount; root "" if none */
	struct verify_bucket side;
	struct items *items;
	struct verify_tree tree;
	const char *after;
	enum output output;
	uint64_t pending; /* copied in, and not yet in the bucket */
	uint64_t moving;  /* renamed folders that the bucket has to follow: their objects have the
			     old names */
	bool progress;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	interrupted = 1;
}

static bool is_interrupted(void *user)
{
	return interrupted;
}

static void verify_usage(FILE *out)
{
	fprintf(out,
		"Usage: cpgfs verify [OPTION…] MOUNTPOINT[/PATH]\n"
		"       cpgfs verify [OPTION…] MANIFEST.tsv s3://BUCKET[/PREFIX]\n"
		"       cpgfs verify [OPTION…] SRC s3://BUCKET/PREFIX | MOUNTPOINT/PATH\n\n"
		"Compare with a listing of the bucket made now: what was copied into a mount; "
		"what a\n"
		"manifest (uploaded.tsv, or that of cpgfs report) names; or the files of SRC "
		"(what is\n"
		"in a folder SRC should lie below PREFIX or PATH).\n\n"
		"  --deep          also ask for the checksum that the server keeps of every "
		"object\n"
		"  --size-only     SRC: do not read files, compare sizes\n"
		"  --no-extra      objects that nothing stands for are no differences\n"
		"  --acl-check     look whether the bucket's owner has full control of each "
		"object\n"
		"  --bucket-owner ID  its canonical id (else: who controls objects of others)\n"
		"  --after KEY     go on behind KEY\n"
		"  --tsv, --json   for programs: a line per difference, or everything\n"
		"  --gallery, --endpoint, --profile, --region, --no-sign-request, --naming …\n"
		"                  as in cpgfs mount, with s3://\n\n"
		"Exit codes: 0 all there and the same, 1 error or nothing to compare, 2 some "
		"files\n"
		"are not uploaded (yet, or for their names), 3 differences.\n");
}

static const struct option longs[] = {
	{"deep", no_argument, NULL, 'd'},
	{"size-only", no_argument, NULL, 's'},
	{"no-extra", no_argument, NULL, 'x'},
	{"acl-check", no_argument, NULL, 'a'},
	{"bucket-owner", required_argument, NULL, 'o'},
	{"after", required_argument, NULL, 'A'},
	{"tsv", no_argument, NULL, 't'},
	{"json", no_argument, NULL, 'j'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static void set_option(struct verify_command *c, int option, const char *value)
{
	switch (option) {
	case 'd':
		c->tree.deep = true;
		break;
	case 's':
		c->tree.size_only = true;
		break;
	case 'x':
		c->tree.extra = false;
		break;
	case 'a':
		c->tree.acl = true;
		break;
	case 'o':
		c->tree.owner = value;
		break;
	case 'A':
		c->after = value;
		break;
	default:
		c->output = option == 't' ? OUTPUT_TSV : OUTPUT_JSON;
	}
}

/* 0; 1: help was printed; -EINVAL after a message. */
static int parse(struct verify_command *c, int *argc, char **argv)
{
	int r = cli_bucket_options(&c->bucket.options, argc, argv);

	if (r < 0)
		return r;
	for (int o; (o = getopt_long(*argc, argv, "h", longs, NULL)) != -1;) {
		if (o == 'h' || o == '?') {
			verify_usage(o == 'h' ? stdout : stderr);
			return o == 'h' ? 1 : -EINVAL;
		}
		set_option(c, o, optarg);
	}
	if (*argc - optind == 1 || *argc - optind == 2)
		return 0;
	verify_usage(stderr);
	return -EINVAL;
}

/* ---- the two sides -------------------------------------------------------------------------- */

static int read_text(const char *path, struct buf *out)
{
	cleanup_file FILE *f = fopen(path, "re");
	char block[65536];
	size_t n;

	if (!f)
		return -errno;
	buf_init(out, 4 * GIB);
	while ((n = fread(block, 1, sizeof(block), f)) > 0)
		buf_add(out, block, n);
	return ferror(f) ? -EIO : buf_error(out);
}

static bool is_manifest(const char *path)
{
	struct stat st;

	return text_ends(path, ".tsv") && stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

static int items_of_source(struct verify_command *c, const char *source, const char *prefix,
	const struct naming_policy *naming)
{
	cleanup_buf struct buf text = {0};
	int r;

	if (!is_manifest(source))
		return items_from_folder(&c->items, source, prefix, naming);
	r = read_text(source, &text);
	if (r < 0) {
		cli_error("%s: %s", source, strerror(-r));
		return r;
	}
	if (strlen(buf_text(&text)) != text.len) {
		cli_error("%s: it holds zero bytes: damaged, or cut off", source);
		return -EBADMSG;
	}
	return items_from_tsv(&c->items, buf_text(&text), source, prefix);
}

static int sides_of_s3(struct verify_command *c, const char *source, const char *address)
{
	struct cli_bucket *b = &c->bucket;
	int r = cli_bucket_open(b, address);

	if (r == 0)
		r = items_of_source(c, source, b->options.prefix, &b->options.naming);
	if (r < 0)
		return r;
	r = verify_bucket_s3(&c->side, b->s3, b->options.prefix, c->after);
	if (r < 0)
		cli_error("%s: %s", address, strerror(-r));
	return r;
}

static void keep_most(uint64_t *most, uint64_t now)
{
	*most = *most > now ? *most : now;
}

static void note_counts(struct verify_command *c, const json_t *counts)
{
	struct cli_progress p;
	uint64_t uploaded =
		json_integer_value(json_object_get(json_object_get(counts, "files"), "uploaded"));

	cli_progress_of(counts, &p);
	keep_most(&c->pending,
		p.files_pending - uploaded + p.files_person + p.held_name + p.held_temporary);
	keep_most(&c->moving, json_integer_value(json_object_get(counts, "jobs")) +
				      json_integer_value(json_object_get(counts, "jobs_damaged")));
}

/* What of the mount's files below the path is not in the bucket yet. */
static int count_pending(struct verify_command *c)
{
	const char *error;
	json_t *counts;
	int r = cli_ask(c->target.root, "counts", c->target.path, &counts);

	if (r < 0)
		return r;
	error = json_string_value(json_object_get(counts, "error"));
	if (error || !json_is_true(json_object_get(counts, "exists"))) {
		cli_error("%s/%s: %s", c->target.root, c->target.path,
			error ? error : "no such file or folder, here or in the bucket");
		r = -ENOENT;
	} else {
		note_counts(c, counts);
	}
	json_decref(counts);
	return r;
}

/* What the mount uploaded, or the files of source. */
static int sides_of_mount(struct verify_command *c, const char *source, const char *place)
{
	struct naming_policy naming = c->bucket.options.naming;
	bool own_naming = naming.mode != NAMING_HOLD || naming.clean_with;
	cleanup_buf struct buf text = {0};
	char key[4096];
	int r = cli_target_find(place, &c->target);

	if (r == 0 && c->tree.acl) {
		cli_error("--acl-check asks the bucket itself: name it as s3://BUCKET/PREFIX");
		r = -EINVAL;
	}
	if (r == 0)
		r = count_pending(c);
	if (r == 0)
		r = cli_target_key(&c->target, key);
	if (r == 0 && source && !own_naming)
		r = cli_naming_ask(c->target.root, &naming);
	if (r == 0 && source)
		r = items_of_source(c, source, is_manifest(source) ? key : c->target.path, &naming);
	else if (r == 0) {
		buf_init(&text, 4 * GIB);
		r = cli_read(c->target.root, "uploaded.tsv", &text);
		if (r == 0)
			r = items_from_tsv(&c->items, buf_text(&text), "uploaded.tsv", key);
		if (r == 0) /* what was changed or renamed since is in neither */
			r = count_pending(c);
	}
	return r < 0 ? r : verify_bucket_mount(&c->side, c->target.root, key, c->after);
}

static int find_sides(struct verify_command *c, int argc, char **argv)
{
	const char *place = argv[argc - 1], *source = argc - optind == 2 ? argv[optind] : NULL;
	int r;

	if (source && text_starts(place, "s3://"))
		r = sides_of_s3(c, source, place);
	else
		r = sides_of_mount(c, source, place);
	if (r < 0)
		return r;
	items_start_after(c->items, c->after);
	if (items_count(c->items) > 0 || c->pending > 0 || c->moving > 0)
		return 0;
	cli_error("%s: there is nothing to compare%s", source ? source : place,
		items_left_out(c->items) || items_refused(c->items)
			? ": all of it lies elsewhere, or is not uploaded for its name"
			: "");
	return -ENODATA;
}

/* ---- results -------------------------------------------------------------------------------- */

static void on_progress(void *user, uint64_t objects, uint64_t bytes)
{
	fprintf(stderr, "\r%" PRIu64 " files compared\033[K", objects);
}

static int print_tsv(const struct verify_result *r)
{
	for (size_t i = 0; i < r->difference_count; i++) {
		cleanup_buf struct buf key = {0};

		text_escape(&key, r->differences[i].key);
		if (buf_error(&key) < 0)
			return buf_error(&key);
		printf("%s\t%s\n", verify_kind_text(r->differences[i].kind), buf_text(&key));
	}
	return fflush(stdout) == 0 ? 0 : -errno;
}

static json_t *json_of(const struct verify_difference *d)
{
	cleanup_buf struct buf key = {0};
	json_t *text = json_string(d->key);

	if (!text) {
		text_escape(&key, d->key);
		text = buf_error(&key) < 0 ? NULL : json_string(buf_text(&key));
	}
	return json_pack(
		"{s:s s:o s:s}", "kind", verify_kind_text(d->kind), "key", text, "what", d->what);
}

static int print_json(const struct verify_command *c, const struct verify_result *r)
{
	json_t *list = json_array(), *all;
	int status = 0;

	for (size_t i = 0; i < r->difference_count && status == 0; i++)
		status = json_array_append_new(list, json_of(&r->differences[i]));
	all = json_pack("{s:I s:I s:I s:I s:I s:I s:I s:I s:I s:s s:o}", "files",
		(json_int_t)r->items, "bytes", (json_int_t)r->bytes, "equal", (json_int_t)r->equal,
		"listed", (json_int_t)r->listed, "by_tag", (json_int_t)r->by_tag, "by_checksum",
		(json_int_t)r->by_checksum, "pending", (json_int_t)c->pending, "folders_moving",
		(json_int_t)c->moving, "refused", (json_int_t)items_refused(c->items), "reached",
		r->reached, "differences", list);
	if (status < 0 || !all || json_dumpf(all, stdout, JSON_INDENT(1)) < 0)
		status = -ENOMEM;
	json_decref(all);
	putchar('\n');
	return status < 0 ? status : fflush(stdout) == 0 ? 0 : -errno;
}

static int print_difference(const struct verify_difference *d)
{
	cleanup_buf struct buf key = {0};

	text_escape(&key, d->key);
	if (buf_error(&key) < 0)
		return buf_error(&key);
	printf("  %-8s %s (%s)\n", verify_kind_text(d->kind), buf_text(&key), d->what);
	return 0;
}

static int print_people(const struct verify_command *c, const struct verify_result *r)
{
	char bytes[24];
	size_t shown = r->difference_count < SHOWN_MAX ? r->difference_count : SHOWN_MAX;

	size_format(r->bytes, bytes);
	for (size_t i = 0; i < shown; i++) {
		int status = print_difference(&r->differences[i]);

		if (status < 0)
			return status;
	}
	if (r->difference_count > shown)
		printf("  and %zu more (--tsv has all)\n", r->difference_count - shown);
	printf("%" PRIu64 " files, %s: %" PRIu64 " there and the same (%" PRIu64 " by tag, %" PRIu64
	       " by checksum, %" PRIu64 " by size only)\n",
		r->items, bytes, r->equal, r->by_tag, r->by_checksum,
		r->equal - r->by_tag - r->by_checksum);
	for (enum verify_kind k = 0; k < VERIFY_KINDS; k++) {
		if (r->count[k])
			printf("%s: %" PRIu64 "\n", verify_kind_text(k), r->count[k]);
	}
	if (c->pending)
		printf("not in the bucket yet: %" PRIu64 " files (cpgfs status tells more)\n",
			c->pending);
	if (c->moving)
		printf("renamed, and not yet in the bucket under their new names: %" PRIu64
		       " folders (cpgfs status tells more)\n",
			c->moving);
	if (r->acl_guess)
		printf("every object is controlled by its owner alone, %s: fine if that is the "
		       "bucket's "
		       "owner (--bucket-owner ID makes sure)\n",
			r->acl_guess);
	if (items_left_out(c->items))
		printf("not compared: %zu (elsewhere, gone on, or made by desktops)\n",
			items_left_out(c->items));
	if (items_refused(c->items))
		printf("not uploaded, for its name or because it is no file: %zu (cpgfs plan tells "
		       "more)\n",
			items_refused(c->items));
	return fflush(stdout) == 0 ? 0 : -errno;
}

static int print_result(const struct verify_command *c, const struct verify_result *r)
{
	if (c->output == OUTPUT_TSV)
		return print_tsv(r);
	return c->output == OUTPUT_JSON ? print_json(c, r) : print_people(c, r);
}

static int run(struct verify_command *c)
{
	struct verify_result result = {0};
	cleanup_free char *message = NULL;
	int r, printed, code = EXIT_VERIFIED;

	c->tree.bucket = &c->side;
	/* where no files are read, only round trips are waited for */
	c->tree.threads = items_have_paths(c->items) ? 0 : HEADS_AT_ONCE;
	c->tree.next = items_next;
	c->tree.user = c->items;
	c->tree.stop = is_interrupted;
	c->tree.progress = c->progress ? on_progress : NULL;
	(void)sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL);
	r = verify_tree_run(&c->tree, &result, &message);
	if (c->progress)
		fputs("\r\033[K", stderr);
	if (r < 0 && r != -ECANCELED) {
		cli_error("%s", message ? message : strerror(-r));
		return EXIT_USAGE;
	}
	printed = print_result(c, &result);
	if (printed == -ENOMEM)
		cli_error("%s: what was found could not be printed", strerror(ENOMEM));
	if (r == -ECANCELED)
		cli_error("stopped; go on with --after %s", result.reached);
	if (r < 0 || printed < 0)
		code = EXIT_USAGE;
	else if (result.difference_count)
		code = EXIT_NEEDS_PERSON;
	else if (c->pending || c->moving || items_refused(c->items))
		code = EXIT_PENDING;
	verify_result_release(&result);
	return code;
}

int cmd_verify(int argc, char **argv)
{
	struct verify_command c = {.after = "", .tree = {.extra = true}};
	int code, r = parse(&c, &argc, argv);

	if (r == 0)
		r = find_sides(&c, argc, argv);
	if (r == 0) {
		c.progress = isatty(STDERR_FILENO) && c.output == OUTPUT_PEOPLE;
		/* a mount shows what others have put there: not what was copied in */
		if (c.target.root[0] && argc - optind == 1)
			c.tree.extra = false;
		code = run(&c);
	} else {
		code = r == 1 ? EXIT_VERIFIED : EXIT_USAGE;
	}
	if (c.side.close)
		c.side.close(c.side.user);
	items_free(c.items);
	cli_bucket_close(&c.bucket);
	return code;
}
