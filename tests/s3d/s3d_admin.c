/*
 * admin - GET /_s3d/stats and POST /_s3d/rescan: no credentials, but only from this machine.
 */
#include "s3d_log.h"
#include "s3d_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static bool address_is_loopback(const struct sockaddr *address)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;

	if (address->sa_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

static bool admin_allowed(struct request *request)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->connection,
		MHD_CONNECTION_INFO_CLIENT_ADDRESS);

	if (info && address_is_loopback(info->client_addr))
		return true;
	reply_error(request, ERROR_ACCESS_DENIED);
	return false;
}

static void reply_json(struct request *request, struct buf *json)
{
	reply_xml(request, 200, json);
	reply_drop_header(&request->reply, "content-type");
	reply_header(request, "Content-Type", "application/json");
}

static void stats_buckets(struct store *store, struct buf *json)
{
	struct bucket *bucket;

	buf_str(json, "\"buckets\": {");
	for (size_t i = 0; (bucket = store_bucket_at(store, i)); i++)
		buf_printf(json, "%s\"%s\": {\"objects\": %zu, \"open_uploads\": %zu}",
			i ? ", " : "", bucket_name(bucket), bucket_count(bucket),
			uploads_count(bucket));
	buf_str(json, "}");
}

void handle_admin_stats(struct request *request)
{
	AUTO(buf_release) struct buf json = {0};
	struct server *server = request->server;
	unsigned long applied;
	unsigned bad_lines;

	if (!admin_allowed(request))
		return;
	fault_script_stats(server->faults, &applied, &bad_lines);
	buf_str(&json, "{");
	request_log_stats(server->log, &json);
	buf_str(&json, ", ");
	stats_buckets(server->store, &json);
	buf_printf(&json, ", \"faults_applied\": %lu, \"fault_script_bad_lines\": %u}\n", applied,
		bad_lines);
	reply_json(request, &json);
}

void handle_admin_rescan(struct request *request)
{
	AUTO(buf_release) struct buf json = {0};

	if (!admin_allowed(request))
		return;
	if (store_rescan(request->server->store)) {
		reply_error(request, ERROR_INTERNAL);
		return;
	}
	buf_str(&json, "{");
	stats_buckets(request->server->store, &json);
	buf_str(&json, "}\n");
	reply_json(request, &json);
}
