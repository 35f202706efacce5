/*
 * bench_put - PUT every file of a folder with libcurl and nothing else: no digest of the content, no
 * journal, no proof. What is left is the server's and libcurl's own cost, the floor of an uploader.
 *
 *   bench_put TRANSFERS FOLDER URL       each file to URL/<name>, TRANSFERS at a time
 *
 * Signs with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (headers only: UNSIGNED-PAYLOAD).
 * Exit status 1 if one PUT was not answered with 200.
 */
#include <curl/curl.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEND_BUFFER_BYTES (512 * 1024L)

struct put {
	CURL *easy;
	int fd;
	off_t sent_bytes;
	char url[4096];
};

static struct curl_slist *headers;
static char user_and_key[512];

static void die(const char *what)
{
	fprintf(stderr, "bench_put: %s: %s\n", what, strerror(errno));
	exit(1);
}

static size_t give_body(char *to, size_t size, size_t count, void *arg)
{
	struct put *put = arg;
	ssize_t n = pread(put->fd, to, size * count, put->sent_bytes);
	if (n < 0)
		return CURL_READFUNC_ABORT;
	put->sent_bytes += n;
	return (size_t)n;
}

static size_t drop_reply(char *from, size_t size, size_t count, void *arg)
{
	(void)from, (void)arg;
	return size * count;
}

/* The next file of the folder goes out; 0 when there is none. */
static int put_next(struct put *put, CURLM *multi, DIR *dir, const char *url)
{
	struct dirent *d;
	while ((d = readdir(dir)) && d->d_type != DT_REG)
		;
	if (!d)
		return 0;
	struct stat st;
	put->fd = openat(dirfd(dir), d->d_name, O_RDONLY);
	if (put->fd < 0 || fstat(put->fd, &st) < 0)
		die(d->d_name);
	put->sent_bytes = 0;
	snprintf(put->url, sizeof(put->url), "%s/%s", url, d->d_name);
	curl_easy_setopt(put->easy, CURLOPT_URL, put->url);
	curl_easy_setopt(put->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)st.st_size);
	curl_multi_add_handle(multi, put->easy);
	return 1;
}

static void prepare(struct put *put)
{
	put->easy = curl_easy_init();
	if (!put->easy)
		die("curl_easy_init");
	curl_easy_setopt(put->easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(put->easy, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BUFFER_BYTES);
	curl_easy_setopt(put->easy, CURLOPT_READFUNCTION, give_body);
	curl_easy_setopt(put->easy, CURLOPT_READDATA, put);
	curl_easy_setopt(put->easy, CURLOPT_WRITEFUNCTION, drop_reply);
	curl_easy_setopt(put->easy, CURLOPT_HTTPHEADER, headers);
	/* an empty "Expect:" would be signed, but not sent */
	curl_easy_setopt(put->easy, CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);
	curl_easy_setopt(put->easy, CURLOPT_PRIVATE, put);
	curl_easy_setopt(put->easy, CURLOPT_AWS_SIGV4, "aws:amz:us-east-1:s3");
	curl_easy_setopt(put->easy, CURLOPT_USERPWD, user_and_key);
}

/* Puts that ended, and how many of them failed. */
static int collect(CURLM *multi, DIR *dir, const char *url, int *running)
{
	int failed = 0, left;
	CURLMsg *message;
	while ((message = curl_multi_info_read(multi, &left))) {
		if (message->msg != CURLMSG_DONE)
			continue;
		struct put *put;
		long status = 0;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&put);
		curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
		if (message->data.result != CURLE_OK || status != 200) {
			failed++;
			fprintf(stderr, "%s: %s, %ld\n", put->url, curl_easy_strerror(message->data.result), status);
		}
		curl_multi_remove_handle(multi, put->easy);
		close(put->fd);
		*running += put_next(put, multi, dir, url) - 1;
	}
	return failed;
}

int main(int argc, char **argv)
{
	int transfers = argc == 4 ? atoi(argv[1]) : 0;
	const char *id = getenv("AWS_ACCESS_KEY_ID"), *key = getenv("AWS_SECRET_ACCESS_KEY");
	if (transfers < 1 || !id || !key) {
		fprintf(stderr, "usage: bench_put TRANSFERS FOLDER URL, with AWS keys in the environment\n");
		return 2;
	}
	DIR *dir = opendir(argv[2]);
	if (!dir)
		die(argv[2]);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	snprintf(user_and_key, sizeof(user_and_key), "%s:%s", id, key);
	headers = curl_slist_append(headers, "x-amz-content-sha256: UNSIGNED-PAYLOAD");
	headers = curl_slist_append(headers, "x-amz-acl: bucket-owner-full-control");
	CURLM *multi = curl_multi_init();
	struct put *puts = calloc((size_t)transfers, sizeof(*puts));
	if (!multi || !puts || !headers)
		die("memory");
	int running = 0, failed = 0;
	for (int i = 0; i < transfers; i++) {
		prepare(&puts[i]);
		running += put_next(&puts[i], multi, dir, argv[3]);
	}
	while (running > 0) {
		int still;
		if (curl_multi_perform(multi, &still) != CURLM_OK)
			die("curl_multi_perform");
		failed += collect(multi, dir, argv[3], &running);
		if (running > 0)
			curl_multi_poll(multi, NULL, 0, 1000, NULL);
	}
	for (int i = 0; i < transfers; i++)
		curl_easy_cleanup(puts[i].easy);
	curl_multi_cleanup(multi);
	return failed ? 1 : 0;
}
