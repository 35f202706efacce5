/*
 * cli_mount - the command line of `cpgfs mount` (and of mount(8)) to one checked struct.
 */
#include "cli_gallery.h"
#include "cli_options.h"
#include "cli_private.h"

#include <limits.h>
#include <sys/stat.h>

bool cli_is_mount(int argc, char **argv)
{
	return argc > 1 && (strcmp(argv[1], "mount") == 0 || text_starts(argv[1], "s3://"));
}

static void mount_usage(FILE *out)
{
	fprintf(out,
		"Usage: cpgfs mount --gallery NAME --prefix PREFIX [OPTION…] MOUNTPOINT\n"
		"       cpgfs mount [OPTION…] s3://BUCKET[/PREFIX] MOUNTPOINT\n"
		"\n"
		"Mount the prefix of a bucket. What is copied in is safe on this machine when cp\n"
		"returns, and goes to the bucket in the background; a path in the mount is the\n"
		"object's key. `cpgfs wait MOUNTPOINT` waits until all of it is verified there.\n"
		"\n"
		"  -f, --foreground            stay in the foreground, log to standard error\n"
		"  -o NAME[=VALUE][,…]         the options below as mount(8) gives them\n");
	options_help(out);
	fprintf(out,
		"\nSizes take K, M, G, T (binary); times take ms, s, m, h, d (no unit: seconds).\n"
		"Exit code: 0 mounted, 1 not (the message says why).\n");
}

/* Options of mount(8) and fstab that are not ours, or are ours by another name. */
static int set_generic(struct cli_mount *m, const char *name)
{
	static const char *const ignored[] = {"rw", "defaults", "auto", "noauto", "user", "nouser",
		"users", "owner", "group", "_netdev", "nofail", "dev", "nodev", "suid", "nosuid",
		"exec", "noexec", "atime", "noatime", "relatime", "nodiratime", "async",
		"default_permissions", "big_writes"};
	if (strcmp(name, "ro") == 0) {
		m->read_only = true;
		return 0;
	}
	if (text_starts(name, "x-") || text_starts(name, "comment="))
		return 0;
	for (size_t i = 0; i < array_len(ignored); i++)
		if (strcmp(name, ignored[i]) == 0)
			return 0;
	return -ENOENT;
}

static int complain_option(const char *dashes, const char *name, const char *value, int error)
{
	if (error == -ENOENT)
		cli_error("no option %s%s; `cpgfs mount --help` lists them all", dashes, name);
	else if (error == -EINVAL && !value)
		cli_error("option %s%s needs a value", dashes, name);
	else if (error == -EINVAL)
		cli_error("option %s%s: \"%s\" does not fit; see `cpgfs mount --help`", dashes,
			name, value);
	else
		cli_error("option %s%s: %s", dashes, name, strerror(-error));
	return -EINVAL;
}

static int set_list(struct cli_mount *m, const char *list)
{
	cleanup_free char *copy = text_dup(list);
	if (!copy)
		return -ENOMEM;
	char *save = NULL;
	for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		char *value = strchr(item, '=');
		if (set_generic(m, item) == 0)
			continue;
		if (value)
			*value++ = '\0';
		int r = option_set(m, item, value);
		if (r < 0)
			return complain_option("-o ", item, value, r);
	}
	return 0;
}

int cli_mount_option(struct cli_mount *m, int argc, char **argv, int *at)
{
	char name[64];
	const char *arg = argv[*at] + 2;
	const char *value = strchr(arg, '=');
	size_t len = value ? (size_t)(value - arg) : strlen(arg);
	snprintf(name, sizeof(name), "%.*s", (int)len, arg);
	if (value)
		value++;
	int r = option_set(m, name, value);
	if (r == -EINVAL && !value && *at + 1 < argc) {
		value = argv[*at + 1];
		r = option_set(m, name, value);
		if (r == 0)
			(*at)++;
	}
	return r < 0 ? complain_option("--", name, value, r) : 0;
}

struct words {
	const char *first,
		*second; /* address, mount point; with --gallery the first may be missing */
};

static int take_word(struct words *w, const char *word)
{
	if (!w->first)
		w->first = word;
	else if (!w->second)
		w->second = word;
	else {
		cli_error(
			"one s3:// address and one mount point, please; \"%s\" is too much", word);
		return -EINVAL;
	}
	return 0;
}

static int parse_words(int argc, char **argv, int first, struct cli_mount *m, struct words *w)
{
	bool only_words = false;
	*w = (struct words){0};
	for (int i = first; i < argc; i++) {
		const char *arg = argv[i];
		int r = 0;
		if (only_words || arg[0] != '-') {
			r = take_word(w, arg);
		} else if (strcmp(arg, "--") == 0) {
			only_words = true;
		} else if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0) {
			mount_usage(stdout);
			return -ECANCELED;
		} else if (strcmp(arg, "-f") == 0 || strcmp(arg, "--foreground") == 0) {
			m->foreground = true;
		} else if (strcmp(arg, "-o") == 0 && i + 1 < argc) {
			r = set_list(m, argv[++i]);
		} else if (text_starts(arg, "-o") && arg[2]) {
			r = set_list(m, arg + 2);
		} else if (strcmp(arg, "-d") == 0 || strcmp(arg, "-n") == 0 ||
			   strcmp(arg, "-s") == 0) {
			m->foreground |= arg[1] == 'd'; /* mount(8) may pass these */
		} else if (text_starts(arg, "--")) {
			r = cli_mount_option(m, argc, argv, &i);
		} else {
			cli_error("no option %s; `cpgfs mount --help` lists them all", arg);
			r = -EINVAL;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* Options as they stand; then, if they name a gallery, again on top of what that presets. */
static int parse_all(int argc, char **argv, int first, struct cli_mount *m, struct words *w)
{
	int r = options_preset(m);
	if (r == 0)
		r = parse_words(argc, argv, first, m, w);
	if (r < 0 || !m->gallery)
		return r;
	cleanup_free char *gallery = steal_ptr(m->gallery);
	cli_mount_release(m);
	*m = (struct cli_mount){0};
	r = options_preset(m);
	if (r == 0)
		r = cli_gallery_apply(m, gallery);
	return r < 0 ? r : parse_words(argc, argv, first, m, w);
}

static int usage_error(const struct cli_mount *m)
{
	if (m->gallery)
		cli_error("usage: cpgfs mount --gallery %s --prefix PREFIX [OPTION…] MOUNTPOINT "
			  "(`cpgfs mount --help` tells more)",
			m->gallery);
	else
		cli_error("usage: cpgfs mount [OPTION…] s3://BUCKET[/PREFIX] MOUNTPOINT, or cpgfs "
			  "mount "
			  "--gallery NAME --prefix PREFIX MOUNTPOINT (`cpgfs mount --help` tells "
			  "more)");
	return -EINVAL;
}

/* `cpgfs check` needs no mount point. */
static int split_check_words(struct cli_mount *m, const struct words *w, const char **ret_target)
{
	const char *address = w->first;
	if (!address && !m->gallery) {
		cli_error("check: say what: s3://BUCKET/PREFIX, or --gallery NAME --prefix PREFIX");
		return -EINVAL;
	}
	if (address && m->gallery && !w->second && address[0] == '/')
		address = NULL; /* a mount point, as in the command that will follow */
	*ret_target = "/";
	return cli_address_fill(m, address);
}

/* A single word is the mount point: the gallery knows the bucket. */
static int split_words(struct cli_mount *m, const struct words *w, const char **ret_target)
{
	bool is_target_only =
		m->gallery && w->first && !w->second && !text_starts(w->first, "s3://");
	*ret_target = is_target_only ? w->first : w->second;
	if (!*ret_target)
		return usage_error(m);
	return cli_address_fill(m, is_target_only ? NULL : w->first);
}

/* Not "" (-EINVAL: a variable that was not set), which would be the working directory. */
static int absolute_path(const char *path, char **ret)
{
	if (!path[0]) {
		cli_error("an empty path (\"\") names nothing");
		return -EINVAL;
	}
	if (path[0] == '/')
		return (*ret = text_dup(path)) ? 0 : -ENOMEM;
	char here[PATH_MAX];
	if (!getcwd(here, sizeof(here)))
		return -errno;
	return text_printf(ret, "%s/%s", here, path);
}

/* The daemon works in "/". NULL stays. */
static int make_absolute(char **path)
{
	char *whole = NULL;
	int r = *path ? absolute_path(*path, &whole) : 0;
	if (r == 0 && whole) {
		free(*path);
		*path = whole;
	}
	return r;
}

int cli_mount_endpoint(struct cli_mount *m)
{
	const char *from_env = getenv("AWS_ENDPOINT_URL_S3");
	if (!from_env || !from_env[0])
		from_env = getenv("AWS_ENDPOINT_URL");
	if (!m->endpoint && from_env && from_env[0] && !(m->endpoint = text_dup(from_env)))
		return -ENOMEM;
	if (m->endpoint && !text_starts(m->endpoint, "http://") &&
		!text_starts(m->endpoint, "https://")) {
		cli_error("--endpoint %s: begin it with http:// or https://", m->endpoint);
		return -EINVAL;
	}
	const char *bundle = getenv("AWS_CA_BUNDLE");
	if (!m->ca_bundle && bundle && bundle[0] && !(m->ca_bundle = text_dup(bundle)))
		return -ENOMEM;
	return make_absolute(&m->ca_bundle);
}

/* Where a variable of the XDG base directories, or HOME, says; -ENOENT: neither is set. */
static int default_folder(
	const char *variable, const char *below_home, const char *without_home, char **ret)
{
	const char *given = getenv(variable), *home = getenv("HOME");
	if (given && given[0] == '/')
		return text_printf(ret, "%s/cpgfs", given);
	if (home && home[0] == '/')
		return text_printf(ret, "%s/%s/cpgfs", home, below_home);
	if (geteuid() == 0) /* mount(8) at boot: no HOME */
		return text_printf(ret, "%s", without_home);
	return -ENOENT;
}

/* What cannot be asked for may be there: the mount will say what is wrong with it. */
static bool may_be_there(const char *path)
{
	struct stat st;
	return lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

/*
 * What waits to be uploaded is nowhere else: this is no cache that may be cleared at any time. It was
 * kept as one by older builds; where such a directory is, it goes on being used, and nothing is begun
 * beside it. (/var/lib/cpgfs belongs to the user of the systemd unit.)
 */
static int default_cache(const struct cli_mount *m, const char *hash, char **ret)
{
	cleanup_free char *folder = NULL, *old_folder = NULL, *path = NULL, *old_path = NULL;
	int r = default_folder("XDG_STATE_HOME", ".local/state", "/var/lib/cpgfs-root", &folder);
	int old = default_folder("XDG_CACHE_HOME", ".cache", "/var/cache/cpgfs", &old_folder);
	if (r == 0)
		r = text_printf(&path, "%s/%s-%s", folder, m->bucket, hash);
	if (old == 0)
		old = text_printf(&old_path, "%s/%s-%s", old_folder, m->bucket, hash);
	if (r == -ENOMEM || old == -ENOMEM)
		return -ENOMEM;
	if (path && old_path && strcmp(path, old_path) != 0 && may_be_there(path) &&
		may_be_there(old_path)) {
		cli_error("there are two directories where data of s3://%s/%s may wait: %s and %s; mount "
			  "each with --cache-dir until `cpgfs wait` ends with 0, then remove one",
			m->bucket, m->prefix, path, old_path);
		return -EINVAL;
	}
	*ret = old_path && (!path || may_be_there(old_path)) ? steal_ptr(old_path) : steal_ptr(path);
	return *ret ? 0 : -ENOENT;
}

static int identity_of(const struct cli_mount *m, const char *slash, char **ret)
{
	const char *endpoint = m->endpoint ? m->endpoint : "aws";
	size_t len = strlen(endpoint);
	return text_printf(ret, "%.*s%s %s %s", (int)(len - text_ends(endpoint, "/")), endpoint, slash,
		m->bucket, m->prefix);
}

static int default_cache_of(const struct cli_mount *m, const char *identity, char **ret)
{
	uint8_t digest[32];
	char hash[17];
	sha256_of(identity, strlen(identity), digest);
	hex_encode(digest, 8, hash);
	return default_cache(m, hash, ret);
}

/* Older builds took an endpoint with a slash at its end for another one: where such a cache is, it is used. */
static int cache_with_slash(const struct cli_mount *m, char **cache)
{
	cleanup_free char *identity = NULL, *path = NULL;
	if (!m->endpoint)
		return 0;
	int r = identity_of(m, "/", &identity);
	if (r == 0)
		r = default_cache_of(m, identity, &path);
	if (r < 0 || !may_be_there(path) || (may_be_there(*cache) && !text_ends(m->endpoint, "/")))
		return r;
	free(*cache);
	*cache = steal_ptr(path);
	return 0;
}

/* What a cache directory belongs to, and the default directory made from it. */
static int fill_cache(struct cli_mount *m)
{
	int r = identity_of(m, "", &m->identity);
	if (r < 0)
		return r;
	if (m->cache_dir)
		return make_absolute(&m->cache_dir);
	r = default_cache_of(m, m->identity, &m->cache_dir);
	if (r == 0)
		r = cache_with_slash(m, &m->cache_dir);
	if (r != -ENOENT)
		return r;
	cli_error("neither HOME nor XDG_STATE_HOME is set: give --cache-dir DIR");
	return -EINVAL;
}

static int fill_log_file(struct cli_mount *m)
{
	return make_absolute(&m->log_file);
}

static int check_grant(const struct cli_mount *m)
{
	const char *id = m->account_id;
	if (id && (strlen(id) != 12 || strspn(id, "0123456789") != 12)) {
		cli_error("--account-id %s: an account has 12 digits, such as 309624411020", id);
		return -EINVAL;
	}
	if (!m->access_grant || m->no_sign_request)
		return 0;
	if (!id) {
		cli_error("--access-grant: say whose grant it is with --account-id (--gallery "
			  "knows that of "
			  "its gallery)");
		return -EINVAL;
	}
	if (!m->prefix[0]) {
		cli_error("a grant is for a prefix: name the one you were given, as --prefix "
			  "cpg0123-example/broad");
		return -EINVAL;
	}
	return 0;
}

static int check_values(struct cli_mount *m)
{
	if (m->acl && strcmp(m->acl, "none") == 0) {
		free(m->acl);
		m->acl = NULL;
	}
	if (m->part_size_bytes < 5 * MIB || m->part_size_bytes > 5 * GIB) {
		cli_error("--part-size: S3 takes parts of 5M to 5G");
		return -EINVAL;
	}
	if (m->cache_size_bytes && m->cache_size_bytes < 2 * m->part_size_bytes) {
		cli_error("--cache-size: at least two parts of --part-size: one read may need two at once");
		return -EINVAL;
	}
	if (m->multipart_threshold_bytes < m->part_size_bytes)
		m->multipart_threshold_bytes = m->part_size_bytes;
	if (m->multipart_threshold_bytes > 5 * GIB) {
		cli_error("--multipart-threshold: S3 takes at most 5G in one piece");
		return -EINVAL;
	}
	return 0;
}

/* Values that a gallery may have preset as well as the command line. */
static int fill_and_check(struct cli_mount *m)
{
	int (*const steps[])(struct cli_mount *) = {
		cli_mount_endpoint, fill_cache, fill_log_file, check_values};
	int r = 0;
	for (size_t i = 0; i < array_len(steps) && r == 0; i++)
		r = steps[i](m);
	if (r == -EINVAL && m->gallery)
		fprintf(stderr, "cpgfs: (`cpgfs galleries %s` shows what the gallery presets)\n",
			m->gallery);
	return r;
}

typedef int split_fn(struct cli_mount *m, const struct words *w, const char **ret_target);

static int parse(
	int argc, char **argv, int first, split_fn *split, struct cli_mount *ret, int *ret_exit)
{
	struct cli_mount m = {0};
	struct words words = {0};
	const char *target = NULL;
	int r = parse_all(argc, argv, first, &m, &words);
	if (r == 0)
		r = split(&m, &words, &target);
	if (r == 0)
		r = absolute_path(target, &m.mountpoint);
	if (r == 0)
		r = check_grant(&m);
	if (r == 0)
		r = fill_and_check(&m);
	if (r == 0)
		r = options_describe(&m, &m.options);
	if (r < 0) {
		if (r != -EINVAL && r != -ECANCELED)
			cli_error("%s", strerror(-r));
		cli_mount_release(&m);
		*ret_exit = r == -ECANCELED ? EXIT_VERIFIED : EXIT_USAGE;
		return r == -ECANCELED ? r : -EINVAL;
	}
	*ret = m;
	return 0;
}

int cli_mount_parse(int argc, char **argv, struct cli_mount *ret, int *ret_exit)
{
	return parse(argc, argv, 1 + (strcmp(argv[1], "mount") == 0), split_words, ret, ret_exit);
}

int cli_check_parse(int argc, char **argv, struct cli_mount *ret, int *ret_exit)
{
	return parse(argc, argv, 1, split_check_words, ret, ret_exit);
}

void cli_mount_release(struct cli_mount *m)
{
	char **texts[] = {&m->gallery, &m->bucket, &m->prefix, &m->prefix_option, &m->mountpoint,
		&m->endpoint, &m->region, &m->profile, &m->ca_bundle, &m->account_id, &m->acl,
		&m->cache_dir, &m->identity, &m->log_file, &m->layout_name};
	for (size_t i = 0; i < array_len(texts); i++) {
		free(*texts[i]);
		*texts[i] = NULL;
	}
	for (char **o = m->options; o && *o; o++)
		free(*o);
	free(m->options);
	m->options = NULL;
}
