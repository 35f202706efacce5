/*
 * bench_files - write files as programs do, and say how long each call took.
 *
 *   bench_files create DIR COUNT BYTES      COUNT times create, write, close
 *   bench_files chunks FILE BYTES CHUNK     one file, write-only, CHUNK bytes a write
 *   bench_files update FILE BYTES CHUNK     the same through a handle that reads and writes: each
 *                                           chunk is written, and every 16th read back
 *   bench_files times COUNT COMMAND-FILE    COUNT times open, read whole, close (.cpgfs/status …)
 *
 * Prints lines NAME<tab>VALUE: wall_s, and percentiles of one round of calls in µs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "bench_files: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int compare_i64(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static void print_percentiles(const char *name, int64_t *took_ns, size_t count)
{
	static const struct {
		const char *name;
		double share;
	} points[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p99.9", 0.999 }, { "max", 1 } };
	qsort(took_ns, count, sizeof(*took_ns), compare_i64);
	for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++) {
		size_t at = (size_t)(points[i].share * (double)(count - 1));
		printf("%s_%s_us\t%.1f\n", name, points[i].name, (double)took_ns[at] / 1e3);
	}
}

/* Bytes that differ from file to file, so that nothing is recognised as the same. */
static char *make_content(size_t size_bytes)
{
	char *content = malloc(size_bytes + 16);
	if (!content)
		die("malloc");
	uint64_t state = 88172645463325252u;
	for (size_t i = 0; i < size_bytes; i++) {
		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		content[i] = (char)state;
	}
	return content;
}

static void write_all(int fd, const char *from, size_t size_bytes)
{
	while (size_bytes > 0) {
		ssize_t n = write(fd, from, size_bytes);
		if (n < 0)
			die("write");
		from += n, size_bytes -= (size_t)n;
	}
}

static void create_files(const char *dir, size_t count, size_t size_bytes)
{
	char *content = make_content(size_bytes);
	int64_t *took_ns = calloc(count, sizeof(*took_ns));
	int at = open(dir, O_RDONLY | O_DIRECTORY);
	if (!took_ns || at < 0)
		die(dir);
	int64_t began_ns = now_ns();
	for (size_t i = 0; i < count; i++) {
		char name[32];
		snprintf(name, sizeof(name), "f%07zu.bin", i);
		memcpy(content, &i, size_bytes < sizeof(i) ? size_bytes : sizeof(i));
		int64_t start_ns = now_ns();
		int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd < 0)
			die(name);
		write_all(fd, content, size_bytes);
		if (close(fd) < 0)
			die("close");
		took_ns[i] = now_ns() - start_ns;
	}
	printf("wall_s\t%.6f\n", (double)(now_ns() - began_ns) / 1e9);
	print_percentiles("create", took_ns, count);
	close(at);
	free(took_ns);
	free(content);
}

static void write_chunks(const char *path, size_t size_bytes, size_t chunk_bytes, int with_reads)
{
	char *content = make_content(chunk_bytes), *back = malloc(chunk_bytes);
	size_t count = size_bytes / chunk_bytes;
	int64_t *took_ns = calloc(count, sizeof(*took_ns));
	if (!back || !took_ns)
		die("malloc");
	int64_t began_ns = now_ns();
	int fd = open(path, (with_reads ? O_RDWR : O_WRONLY) | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		die(path);
	for (size_t i = 0; i < count; i++) {
		int64_t start_ns = now_ns();
		write_all(fd, content, chunk_bytes);
		if (with_reads && i % 16 == 15 &&
			pread(fd, back, chunk_bytes, (off_t)((i - 8) * chunk_bytes)) != (ssize_t)chunk_bytes)
			die("pread");
		took_ns[i] = now_ns() - start_ns;
	}
	if (close(fd) < 0)
		die("close");
	printf("wall_s\t%.6f\n", (double)(now_ns() - began_ns) / 1e9);
	print_percentiles("write", took_ns, count);
	free(took_ns);
	free(back);
	free(content);
}

static void read_times(size_t count, const char *path)
{
	int64_t *took_ns = calloc(count, sizeof(*took_ns));
	if (!took_ns)
		die("malloc");
	int64_t began_ns = now_ns();
	for (size_t i = 0; i < count; i++) {
		char text[65536];
		int64_t start_ns = now_ns();
		int fd = open(path, O_RDONLY);
		if (fd < 0)
			die(path);
		ssize_t n;
		while ((n = read(fd, text, sizeof(text))) > 0)
			;
		if (n < 0)
			die("read");
		close(fd);
		took_ns[i] = now_ns() - start_ns;
	}
	printf("wall_s\t%.6f\n", (double)(now_ns() - began_ns) / 1e9);
	print_percentiles("read", took_ns, count);
	free(took_ns);
}

static size_t number(const char *text)
{
	char *end;
	errno = 0;
	unsigned long long n = strtoull(text, &end, 10);
	if (errno || *end || n == 0) {
		fprintf(stderr, "bench_files: not a number above 0: %s\n", text);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "create"))
		create_files(argv[2], number(argv[3]), number(argv[4]));
	else if (argc == 5 && !strcmp(argv[1], "chunks"))
		write_chunks(argv[2], number(argv[3]), number(argv[4]), 0);
	else if (argc == 5 && !strcmp(argv[1], "update"))
		write_chunks(argv[2], number(argv[3]), number(argv[4]), 1);
	else if (argc == 4 && !strcmp(argv[1], "times"))
		read_times(number(argv[2]), argv[3]);
	else {
		fprintf(stderr, "usage: bench_files create|chunks|update|times … (see bench_files.c)\n");
		return 2;
	}
	return 0;
}
