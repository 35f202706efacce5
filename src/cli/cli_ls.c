/*
 * cli_ls - `cpgfs ls`: a fresh listing of the bucket in the format of `aws s3 ls`, read through
 *          `.cpgfs/remote`.
 *
 * Keys are printed in the bytewise order S3 lists them in, which places a folder where "name/" sorts.
 * Recursively it is one flat listing, made by the mount (`.listing.tsv`), not one for each folder.
 */
#include "cli_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>

struct ls {
	uint64_t objects, bytes;
};

struct ls_entry {
	char *name; /* folders with their final '/' */
	struct stat st;
};

static void ls_usage(FILE *out)
{
	fprintf(out, "Usage: cpgfs ls [-R] [--summarize] MOUNTPOINT[/PATH]\n\n"
		     "List what the bucket holds now, as `aws s3 ls` does (-R: --recursive).\n");
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct ls_entry *)a)->name, ((const struct ls_entry *)b)->name);
}

static void entries_free(struct ls_entry *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(list[i].name);
	free(list);
}

/* All entries of a folder, sorted. */
static int entries_read(const char *dir, struct ls_entry **ret, size_t *ret_count)
{
	DIR *d = opendir(dir);
	if (!d)
		return -errno;
	struct ls_entry *list = NULL;
	size_t count = 0, room = 0;
	int r = 0;
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(d);
		if (!e) {
			r = -errno;
			break;
		}
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (count == room) {
			room = room ? room * 2 : 256;
			struct ls_entry *grown = realloc(list, room * sizeof(*list));
			if (!grown) {
				r = -ENOMEM;
				break;
			}
			list = grown;
		}
		struct ls_entry *entry = &list[count];
		if (fstatat(dirfd(d), e->d_name, &entry->st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				continue; /* gone since it was listed */
			r = -errno;
			break;
		}
		r = text_printf(&entry->name, "%s%s", e->d_name, S_ISDIR(entry->st.st_mode) ? "/" : "");
		if (r < 0)
			break;
		count++;
	}
	closedir(d);
	if (r < 0) {
		entries_free(list, count);
		return r;
	}
	if (count)
		qsort(list, count, sizeof(*list), compare_names);
	*ret = list;
	*ret_count = count;
	return 0;
}

static void print_object(struct ls *ls, time_t at, uint64_t size_bytes, const char *name)
{
	char when[32] = "";
	struct tm tm;
	if (localtime_r(&at, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%s %10" PRIu64 " %s\n", when, size_bytes, name);
	ls->objects++;
	ls->bytes += size_bytes;
}

static int list_dir(struct ls *ls, const char *dir, const char *path)
{
	struct ls_entry *list = NULL;
	size_t count = 0;
	int r = entries_read(dir, &list, &count);
	if (r < 0) {
		cli_error("%s: %s", path, strerror(-r));
		return r;
	}
	for (size_t i = 0; i < count; i++) {
		const struct stat *st = &list[i].st;
		if (S_ISDIR(st->st_mode))
			printf("%30s %s\n", "PRE", list[i].name);
		else
			print_object(ls, st->st_mtime, (uint64_t)st->st_size, list[i].name);
	}
	entries_free(list, count);
	return 0;
}

/* key, size, etag, time. */
static int print_row(struct ls *ls, char *row)
{
	char *save = NULL, *key = strtok_r(row, "\t", &save), *size = strtok_r(NULL, "\t", &save);
	char *etag = strtok_r(NULL, "\t", &save), *when = etag ? save : NULL;
	uint64_t size_bytes;
	int64_t at_ns;
	/* Without an etag two tabs follow each other, and what was taken for it is the time. */
	if (when && !*when)
		when = etag;
	if (!key || !size || !when || text_unescape(key) < 0 || u64_parse(size, &size_bytes) < 0 ||
		time_parse_iso8601(when, &at_ns) < 0)
		return -EBADMSG;
	print_object(ls, (time_t)(at_ns / NS_PER_S), size_bytes, key);
	return 0;
}

static int print_rows(struct ls *ls, FILE *rows)
{
	cleanup_free char *row = NULL;
	size_t cap = 0;
	bool is_first = true;
	int r = 0;
	for (ssize_t n; r == 0 && (n = getline(&row, &cap, rows)) > 0; is_first = false) {
		if (row[n - 1] == '\n')
			row[n - 1] = '\0';
		if (!is_first && row[0])
			r = print_row(ls, row);
	}
	return r == 0 && !feof(rows) ? -errno : r; /* without memory for a row, too */
}

static int list_below(struct ls *ls, const struct cli_target *target)
{
	cleanup_free char *name = NULL;
	int r = text_printf(&name, "%s/.cpgfs/remote/%s%s.listing.tsv", target->root, target->path,
		target->path[0] ? "/" : "");
	FILE *rows = r >= 0 ? fopen(name, "re") : NULL;
	if (r >= 0)
		r = rows ? print_rows(ls, rows) : -errno;
	if (rows)
		(void)fclose(rows); /* only read */
	if (r < 0)
		cli_error("%s: %s", target->path[0] ? target->path : target->root, strerror(-r));
	return r;
}

int cmd_ls(int argc, char **argv)
{
	static const struct option longs[] = { { "recursive", no_argument, NULL, 'R' },
		{ "summarize", no_argument, NULL, 's' }, { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 } };
	struct ls ls = { 0 };
	bool summarize = false, recursive = false;
	for (int c; (c = getopt_long(argc, argv, "Rh", longs, NULL)) != -1;) {
		if (c == 'R')
			recursive = true;
		else if (c == 's')
			summarize = true;
		else {
			ls_usage(c == 'h' ? stdout : stderr);
			return c == 'h' ? EXIT_VERIFIED : EXIT_USAGE;
		}
	}
	struct cli_target target;
	if (optind != argc - 1) {
		ls_usage(stderr);
		return EXIT_USAGE;
	}
	if (cli_target_find(argv[optind], &target) < 0)
		return EXIT_USAGE;
	char key[4096];
	if (cli_target_key(&target, key) < 0)
		return EXIT_USAGE;
	(void)text_copy(target.path, key, sizeof(target.path)); /* same size */
	cleanup_free char *top = NULL;
	if (text_printf(&top, "%s/.cpgfs/remote%s%s", target.root, target.path[0] ? "/" : "",
		    target.path) < 0)
		return EXIT_USAGE;
	struct stat st;
	int r = 0;
	if (lstat(top, &st) < 0) {
		cli_error("%s: %s", target.path[0] ? target.path : target.root, strerror(errno));
		return EXIT_USAGE;
	}
	if (!S_ISDIR(st.st_mode))
		print_object(&ls, st.st_mtime, (uint64_t)st.st_size,
			recursive ? target.path : strrchr(top, '/') + 1);
	else
		r = recursive ? list_below(&ls, &target) : list_dir(&ls, top, target.path);
	if (summarize && r == 0)
		printf("\nTotal Objects: %" PRIu64 "\n   Total Size: %" PRIu64 "\n", ls.objects, ls.bytes);
	if (r == 0 && ls.objects == 0 && recursive && !summarize)
		return EXIT_USAGE; /* as aws s3 ls: nothing there */
	return r < 0 || fflush(stdout) != 0 ? EXIT_USAGE : EXIT_VERIFIED;
}
