/*
 * s3d - a scripted S3 server: test server and demo endpoint.
 *
 * Keeps objects as plain files (s3d_store.c says where), checks Signature Version 4 by itself
 * (s3d_sig.c), and plays a fault script (s3d_fault.h). It links nothing of the file system it
 * tests.
 */
#include "s3d_log.h"
#include "s3d_server.h"

#include <errno.h>
#include <getopt.h>
#include <libxml/parser.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define ZERO_FILE_BYTES (5LL << 40)
#define LISTEN_BACKLOG 1024

static const char help[] =
	"Usage: s3d --root DIR [OPTION]...\n"
	"A scripted S3 server for tests and demonstrations; runs in the foreground.\n"
	"\n"
	"  --listen HOST:PORT    where to listen (127.0.0.1:0; port 0 = any free one)\n"
	"  --port-file FILE      write the port there once connections are taken\n"
	"  --root DIR            objects are DIR/<bucket>/<key>, metadata DIR/.s3d/\n"
	"  --key ACCESS:SECRET[:TOKEN][@BUCKET[/PREFIX]]\n"
	"                        credentials to accept, perhaps only below a prefix; may be\n"
	"                        repeated; without any, every request is let in\n"
	"  --bucket NAME         make this bucket; may be repeated\n"
	"  --region REGION       the region of signatures (us-east-1)\n"
	"  --fault-script FILE   which requests go wrong, and how; read again when it changes\n"
	"  --request-log FILE    one line per request, tab-separated\n"
	"  --services FILE       STS, Access Grants, SSO, container and EC2 credentials, as this file\n"
	"                        says (s3d_services.h); read again for each request\n"
	"  --public              anyone may read, without a signature\n"
	"  --require-acl ACL     refuse new objects without this x-amz-acl\n"
	"  --crc64nvme on|off    know that checksum (on), or ignore it as older servers do\n"
	"  --conditions on|put|off\n"
	"                        honour If-Match and If-None-Match on writes (on), only on\n"
	"                        PutObject (put), or not at all (off)\n"
	"  --delay-ms N          wait before each request is handled (0)\n"
	"  --keep-versions       keep the data of every object that was ever there, too\n"
	"  --sink                keep no bodies, only metadata; objects read as zeros\n"
	"  --etag md5|fast       ETags from MD5 (default without --sink), or cheaper ones\n"
	"  --page-size N         at most N entries a page of a listing (1000)\n"
	"  --min-part-size N     bytes a part must have unless it is the last (5242880)\n"
	"  --help                this text\n"
	"\n"
	"GET /_s3d/stats tells counts, POST /_s3d/rescan notices files changed by hand.\n";

enum option_id {
	OPT_LISTEN = 1,
	OPT_PORT_FILE,
	OPT_ROOT,
	OPT_KEY,
	OPT_BUCKET,
	OPT_REGION,
	OPT_FAULT_SCRIPT,
	OPT_REQUEST_LOG,
	OPT_REQUIRE_ACL,
	OPT_SERVICES,
	OPT_PUBLIC,
	OPT_CRC64NVME,
	OPT_CONDITIONS,
	OPT_DELAY_MS,
	OPT_KEEP_VERSIONS,
	OPT_SINK,
	OPT_ETAG,
	OPT_PAGE_SIZE,
	OPT_MIN_PART_SIZE,
	OPT_HELP,
};

static const struct option long_options[] = {
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"port-file", required_argument, NULL, OPT_PORT_FILE},
	{"root", required_argument, NULL, OPT_ROOT},
	{"key", required_argument, NULL, OPT_KEY},
	{"bucket", required_argument, NULL, OPT_BUCKET},
	{"region", required_argument, NULL, OPT_REGION},
	{"fault-script", required_argument, NULL, OPT_FAULT_SCRIPT},
	{"request-log", required_argument, NULL, OPT_REQUEST_LOG},
	{"require-acl", required_argument, NULL, OPT_REQUIRE_ACL},
	{"services", required_argument, NULL, OPT_SERVICES},
	{"public", no_argument, NULL, OPT_PUBLIC},
	{"crc64nvme", required_argument, NULL, OPT_CRC64NVME},
	{"conditions", required_argument, NULL, OPT_CONDITIONS},
	{"delay-ms", required_argument, NULL, OPT_DELAY_MS},
	{"keep-versions", no_argument, NULL, OPT_KEEP_VERSIONS},
	{"sink", no_argument, NULL, OPT_SINK},
	{"etag", required_argument, NULL, OPT_ETAG},
	{"page-size", required_argument, NULL, OPT_PAGE_SIZE},
	{"min-part-size", required_argument, NULL, OPT_MIN_PART_SIZE},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

/* What the command line says, beside the server's options. */
struct command_line {
	struct server *server;
	const char *buckets[256];
	size_t buckets_len;
	char *listen; /* split in place */
	const char *etag;
	bool help;
};

static int parse_on_off(const char *text, bool *ret)
{
	*ret = !strcmp(text, "on");
	return *ret || !strcmp(text, "off") ? 0 : -EINVAL;
}

static int parse_conditions(const char *text, enum conditions_mode *ret)
{
	static const char *const names[] = {[CONDITIONS_OFF] = "off", [CONDITIONS_PUT] = "put",
		[CONDITIONS_ON] = "on"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(names[i], text)) {
			*ret = (enum conditions_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_number_option(struct server_options *options, enum option_id id)
{
	uint64_t v;

	if (str_to_u64(optarg, &v) || v > INT64_MAX)
		return -EINVAL;
	if (id == OPT_DELAY_MS)
		options->delay_ms = (int64_t)v;
	else if (id == OPT_MIN_PART_SIZE)
		options->min_part_size_bytes = v;
	else if (!v || v > 1000)
		return -EINVAL;
	else
		options->page_size = v;
	return 0;
}

static int parse_bucket(struct command_line *line)
{
	if (line->buckets_len == ARRAY_SIZE(line->buckets))
		return -EINVAL;
	line->buckets[line->buckets_len++] = optarg;
	return 0;
}

static int parse_option(struct command_line *line, int id)
{
	struct server_options *options = &line->server->options;

	switch ((enum option_id)id) {
	case OPT_LISTEN:
		line->listen = optarg;
		return 0;
	case OPT_PORT_FILE:
		options->port_file = optarg;
		return 0;
	case OPT_ROOT:
		options->root = optarg;
		return 0;
	case OPT_KEY:
		return sig_keys_add(&line->server->keys, optarg);
	case OPT_BUCKET:
		return parse_bucket(line);
	case OPT_REGION:
		options->region = optarg;
		return 0;
	case OPT_FAULT_SCRIPT:
		options->fault_script = optarg;
		return 0;
	case OPT_REQUEST_LOG:
		options->request_log = optarg;
		return 0;
	case OPT_REQUIRE_ACL:
		options->require_acl = optarg;
		return 0;
	case OPT_SERVICES:
		options->services = optarg;
		return 0;
	case OPT_PUBLIC:
		options->public = true;
		return 0;
	case OPT_CRC64NVME:
		return parse_on_off(optarg, &options->crc64nvme);
	case OPT_CONDITIONS:
		return parse_conditions(optarg, &options->conditions);
	case OPT_KEEP_VERSIONS:
		options->keep_versions = true;
		return 0;
	case OPT_SINK:
		options->sink = true;
		return 0;
	case OPT_ETAG:
		line->etag = optarg;
		return strcmp(optarg, "md5") && strcmp(optarg, "fast") ? -EINVAL : 0;
	case OPT_DELAY_MS:
	case OPT_PAGE_SIZE:
	case OPT_MIN_PART_SIZE:
		return parse_number_option(options, (enum option_id)id);
	case OPT_HELP:
		line->help = true;
		return 0;
	}
	return -EINVAL;
}

static int parse_listen(struct command_line *line)
{
	struct server_options *options = &line->server->options;
	char *colon;
	uint64_t port;

	options->listen_host = "127.0.0.1";
	if (!line->listen)
		return 0;
	colon = strrchr(line->listen, ':');
	if (!colon || str_to_u64(colon + 1, &port) || port > 65535)
		return -EINVAL;
	*colon = '\0';
	options->listen_host = line->listen;
	options->listen_port = (unsigned)port;
	return 0;
}

static int parse_command_line(struct command_line *line, int argc, char **argv)
{
	struct server_options *options = &line->server->options;
	int index = 0, id;

	while ((id = getopt_long(argc, argv, "", long_options, &index)) != -1) {
		if (id == '?')
			return -EINVAL;
		if (parse_option(line, id)) {
			fprintf(stderr, "s3d: bad value for --%s: %s\n", long_options[index].name,
				optarg);
			return -EINVAL;
		}
	}
	if (line->help)
		return 0;
	options->fast_tag = line->etag ? !strcmp(line->etag, "fast") : options->sink;
	if (parse_listen(line) || optind < argc || !options->root) {
		fputs("s3d: --root DIR is needed, --listen takes HOST:PORT; see --help\n", stderr);
		return -EINVAL;
	}
	return 0;
}

/* --- listening --- */

static int listen_on(const struct server_options *options, unsigned *ret_port)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_PASSIVE};
	AUTO(free_str) char *port = str_printf("%u", options->listen_port);
	struct sockaddr_storage bound = {0};
	socklen_t len = sizeof(bound);
	struct addrinfo *address;
	char name[NI_MAXSERV];
	int fd, one = 1;
	uint64_t v = 0;

	if (getaddrinfo(options->listen_host, port, &hints, &address))
		return -EADDRNOTAVAIL;
	fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		bind(fd, address->ai_addr, address->ai_addrlen) < 0 ||
		listen(fd, LISTEN_BACKLOG) < 0 ||
		getsockname(fd, (struct sockaddr *)&bound, &len) < 0) {
		int r = -errno;

		close_fd(&fd);
		freeaddrinfo(address);
		return r;
	}
	freeaddrinfo(address);
	(void)getnameinfo((struct sockaddr *)&bound, len, NULL, 0, name, sizeof(name),
		NI_NUMERICSERV);
	(void)str_to_u64(name, &v); /* a number by NI_NUMERICSERV */
	*ret_port = (unsigned)v;
	return fd;
}

/* Written whole or not at all: a test waits for it. */
static int write_port_file(const char *path, unsigned port)
{
	AUTO(free_str) char *new_path = str_printf("%s.new", path);
	FILE *file = fopen(new_path, "we");

	if (!file)
		return -errno;
	fprintf(file, "%u\n", port);
	if (fclose(file))
		return -errno;
	return rename(new_path, path) < 0 ? -errno : 0;
}

static int open_zero_file(void)
{
	int fd = memfd_create("s3d-zeros", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, ZERO_FILE_BYTES) < 0)
		return -errno;
	return fd;
}

/* SIGTERM and SIGINT end the server; threads inherit the mask. */
static int open_stop_fd(void)
{
	sigset_t signals;
	int fd;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &signals, SFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* --- the server's parts --- */

static int make_buckets(struct server *server, const struct command_line *line)
{
	struct bucket *bucket;
	int r;

	for (size_t i = 0; i < line->buckets_len; i++) {
		r = store_bucket_create(server->store, line->buckets[i], &bucket);
		if (r)
			return r;
	}
	return 0;
}

static int server_create_parts(struct server *server, const struct command_line *line)
{
	const struct store_options store_options = {.root = server->options.root,
		.sink = server->options.sink, .fast_tag = server->options.fast_tag,
		.keep_versions = server->options.keep_versions};
	int r;

	server->keys.region = server->options.region;
	server->faults = fault_script_create(server->options.fault_script);
	server->zero_fd = open_zero_file();
	if (server->zero_fd < 0)
		return server->zero_fd;
	r = request_log_create(server->options.request_log, &server->log);
	if (!r)
		r = store_create(&store_options, &server->store);
	return r ? r : make_buckets(server, line);
}

static void server_destroy_parts(struct server *server)
{
	if (server->store) {
		uploads_destroy_all(server->store);
		store_destroy(server->store);
	}
	if (server->log)
		request_log_destroy(server->log);
	if (server->faults)
		fault_script_destroy(server->faults);
	sig_keys_release(&server->keys);
	close_fd(&server->zero_fd);
}

static int serve(struct server *server)
{
	AUTO(close_fd) int stop_fd = open_stop_fd();
	unsigned port = 0;
	int listen_fd = listen_on(&server->options, &port), r;

	if (listen_fd < 0) {
		fprintf(stderr, "s3d: cannot listen on %s:%u: %s\n", server->options.listen_host,
			server->options.listen_port, strerror(-listen_fd));
		return listen_fd;
	}
	if (server->options.port_file) {
		r = write_port_file(server->options.port_file, port);
		if (r) {
			fprintf(stderr, "s3d: cannot write %s: %s\n", server->options.port_file,
				strerror(-r));
			close(listen_fd);
			return r;
		}
	}
	fprintf(stderr, "s3d: http://%s:%u serves %s\n", server->options.listen_host, port,
		server->options.root);
	return server_run(server, listen_fd, stop_fd);
}

int main(int argc, char **argv)
{
	struct server server = {.zero_fd = -1,
		.options = {.region = "us-east-1", .crc64nvme = true, .conditions = CONDITIONS_ON,
			.page_size = 1000, .min_part_size_bytes = 5 << 20}};
	struct command_line line = {.server = &server};
	int r = parse_command_line(&line, argc, argv);

	if (r || line.help) {
		fputs(line.help ? help : "", stdout);
		sig_keys_release(&server.keys);
		return r ? 2 : 0;
	}
	digest_setup();
	xmlInitParser();
	r = server_create_parts(&server, &line);
	if (r)
		fprintf(stderr, "s3d: cannot start in %s: %s\n", server.options.root, strerror(-r));
	else
		r = serve(&server);
	server_destroy_parts(&server);
	xmlCleanupParser();
	return r ? 1 : 0;
}
