/*
 * log - the request log (TSV) and the counters behind `GET /_s3d/stats`.
 */
#include "s3d_log.h"
#include "s3d_server.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct counter {
	const char *operation; /* of the dispatch table, lives for ever */
	int status;
	unsigned long count;
};

struct request_log {
	int fd;
	pthread_mutex_t lock;
	struct counter *counters; /* guarded by lock, like the rest */
	size_t counters_len;
	unsigned long current;
	unsigned long max;
};

static const char log_columns[] =
	"#time_ms\tconnection\toperation\tbucket\tkey\tquery\tstatus\tcode\tbytes_in\tbytes_out\t"
	"acl\tcontent_type\tif_match\tif_none_match\tpayload\tchecksum\tfault\tduration_ms\t"
	"range\n";

int request_log_create(const char *path, struct request_log **ret)
{
	struct request_log *log = mem_zalloc(sizeof(*log));

	pthread_mutex_init(&log->lock, NULL);
	log->fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
	if (path && (log->fd < 0 ||
			    (lseek(log->fd, 0, SEEK_END) == 0 &&
				    write(log->fd, log_columns, strlen(log_columns)) < 0))) {
		int r = -errno;

		request_log_destroy(log);
		return r;
	}
	*ret = log;
	return 0;
}

void request_log_destroy(struct request_log *log)
{
	close_fd(&log->fd);
	pthread_mutex_destroy(&log->lock);
	free(log->counters);
	free(log);
}

void request_log_begin(struct request_log *log, const struct request *request)
{
	if (request->operation->level == LEVEL_ADMIN)
		return;
	pthread_mutex_lock(&log->lock);
	log->current++;
	if (log->current > log->max)
		log->max = log->current;
	pthread_mutex_unlock(&log->lock);
}

void request_log_end(struct request_log *log, const struct request *request)
{
	if (request->operation->level == LEVEL_ADMIN)
		return;
	pthread_mutex_lock(&log->lock);
	log->current--;
	pthread_mutex_unlock(&log->lock);
}

static void log_count_locked(struct request_log *log, const char *operation, int status)
{
	struct counter *counter = log->counters;

	for (; counter < log->counters + log->counters_len; counter++) {
		if (counter->status == status && !strcmp(counter->operation, operation)) {
			counter->count++;
			return;
		}
	}
	log->counters =
		mem_realloc(log->counters, (log->counters_len + 1) * sizeof(*log->counters));
	log->counters[log->counters_len++] =
		(struct counter){.operation = operation, .status = status, .count = 1};
}

static void log_field(struct buf *line, const char *value)
{
	buf_char(line, '\t');
	if (!value || !*value)
		value = "-";
	for (; *value; value++)
		buf_char(line, (unsigned char)*value < ' ' ? '?' : *value);
}

static void log_checksum(struct buf *line, const struct request *request)
{
	const struct body_options *options = &request->body.options;
	AUTO(free_str) char *text = NULL;
	const char *value = options->checksum_value;

	if (options->checksum == DIGEST_NONE) {
		value = request_header(request, CRC64NVME_HEADER);
		text = value ? str_printf("CRC64NVME=%s", value) : NULL;
	} else {
		text = str_printf("%s=%s", digest_kind_name(options->checksum),
			value ? value : "trailer");
	}
	log_field(line, text);
}

static void log_format(struct buf *line, const struct request *request, int status,
	const char *code)
{
	AUTO(buf_release) struct buf key = {0};

	uri_encode(&key, request->key, true);
	buf_printf(line, "%lld\t%lu\t%s", (long long)time_now_ms(), request->connection_id,
		request->operation->name);
	log_field(line, request->bucket_name);
	log_field(line, buf_text(&key));
	log_field(line, request->raw_query);
	buf_printf(line, "\t%d", status);
	log_field(line, code);
	buf_printf(line, "\t%llu\t%llu", (unsigned long long)request->body.wire_bytes,
		status && strcmp(request->method, "HEAD")
			? (unsigned long long)request->reply.length_bytes : 0ULL);
	log_field(line, request_header(request, "x-amz-acl"));
	log_field(line, request_header(request, "content-type"));
	log_field(line, request_header(request, "if-match"));
	log_field(line, request_header(request, "if-none-match"));
	log_field(line, sig_payload_name(request->sig.payload));
	log_checksum(line, request);
	log_field(line, request->fault.text);
	buf_printf(line, "\t%lld", (long long)(time_monotonic_ms() - request->started_ms));
	log_field(line, request_header(request, "range"));
	buf_char(line, '\n');
}

void request_log_write(struct request_log *log, const struct request *request, int status,
	const char *code)
{
	AUTO(buf_release) struct buf line = {0};

	if (request->operation->level == LEVEL_ADMIN)
		return;
	pthread_mutex_lock(&log->lock);
	log_count_locked(log, request->operation->name, status);
	pthread_mutex_unlock(&log->lock);
	if (log->fd < 0)
		return;
	log_format(&line, request, status, code);
	if (write(log->fd, line.data, line.len) < 0)
		perror("s3d: request log");
}

static void stats_operation(struct buf *json, const struct request_log *log, size_t first)
{
	const char *operation = log->counters[first].operation;

	buf_printf(json, "\"%s\": {", operation);
	for (size_t i = first; i < log->counters_len; i++) {
		if (!strcmp(log->counters[i].operation, operation))
			buf_printf(json, "%s\"%d\": %lu", i == first ? "" : ", ",
				log->counters[i].status, log->counters[i].count);
	}
	buf_str(json, "}");
}

static bool stats_is_first(const struct request_log *log, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(log->counters[i].operation, log->counters[n].operation))
			return false;
	}
	return true;
}

void request_log_stats(struct request_log *log, struct buf *json)
{
	bool first = true;

	pthread_mutex_lock(&log->lock);
	buf_str(json, "\"requests\": {");
	for (size_t i = 0; i < log->counters_len; i++) {
		if (!stats_is_first(log, i))
			continue;
		if (!first)
			buf_str(json, ", ");
		first = false;
		stats_operation(json, log, i);
	}
	buf_printf(json, "}, \"current_requests\": %lu, \"max_requests\": %lu", log->current,
		log->max);
	pthread_mutex_unlock(&log->lock);
}
