/*
 * cli_bucket - a bucket without a mount, for commands that ask it themselves: the options of
 *              `cpgfs mount` say how it is reached.
 */
#include "cli_bucket.h"

#include "cli_gallery.h"
#include "cli_options.h"

#define CREDENTIALS_MAX_MS 30000

static bool is_mount_option(const char *arg)
{
	size_t len = text_starts(arg, "--") ? strcspn(arg + 2, "=") : 0;

	for (size_t i = 0; i < option_row_count && len > 0; i++) {
		if (strncmp(option_rows[i].name, arg + 2, len) == 0 &&
			option_rows[i].name[len] == '\0')
			return true;
	}
	return false;
}

/* One pass: takes the mount's options out of argv, or only looks (keep). */
static int take_options(struct cli_mount *m, int *argc, char **argv, bool keep)
{
	int left = 1, r = 0;

	for (int i = 1; i < *argc && r == 0; i++) {
		int at = i;

		if (strcmp(argv[i], "--") == 0) {
			while (i < *argc)
				argv[left++] = argv[i++];
		} else if (!is_mount_option(argv[i])) {
			if (!keep)
				argv[left] = argv[i];
			left++;
		} else {
			r = cli_mount_option(m, *argc, argv, &i);
			left += keep ? i - at + 1 : 0;
		}
	}
	if (r == 0 && !keep) {
		*argc = left;
		argv[left] = NULL;
	}
	return r;
}

int cli_bucket_options(struct cli_mount *m, int *argc, char **argv)
{
	cleanup_free char *gallery = NULL;
	int r = options_preset(m);

	if (r == 0)
		r = take_options(m, argc, argv, true);
	gallery = steal_ptr(m->gallery);
	cli_mount_release(m);
	*m = (struct cli_mount){0};
	if (r == 0)
		r = options_preset(m);
	if (r == 0 && gallery)
		r = cli_gallery_apply(m, gallery);
	return r < 0 ? r : take_options(m, argc, argv, false);
}

/* ---- opening -------------------------------------------------------------------------------- */

static int open_auth(struct cli_bucket *b, char **ret_message)
{
	const struct cli_mount *o = &b->options;
	struct auth_config config = {
		.profile = o->profile,
		.anonymous = o->no_sign_request,
		.region = o->region,
		.ca_bundle = o->ca_bundle,
		.access_grant = o->access_grant,
		.account_id = o->account_id,
		.bucket = o->bucket,
		.prefix = o->prefix,
		.permission = AUTH_READ,
	};
	int r = auth_create(&b->auth, &config, ret_message);

	if (r == 0)
		r = auth_start(b->auth);
	return r < 0 || o->no_sign_request
		       ? r
		       : auth_wait(b->auth, clock_mono_ms() + CREDENTIALS_MAX_MS, ret_message);
}

static int open_s3(struct cli_bucket *b)
{
	const struct cli_mount *o = &b->options;
	char region[64] = "";

	auth_region(b->auth, region);
	return s3_client_create(&b->s3, &(struct s3_config){
						.endpoint = o->endpoint,
						.region = o->region   ? o->region
							  : region[0] ? region
								      : NULL,
						.bucket = o->bucket,
						.max_connections = o->max_transfers,
						.ca_bundle = o->ca_bundle,
						.credentials = auth_source(b->auth),
					});
}

int cli_bucket_open(struct cli_bucket *b, const char *address)
{
	cleanup_free char *message = NULL;
	int r = cli_address_fill(&b->options, address);

	log_set_level(LOG_LEVEL_ERROR); /* what is wrong is the command's to say */
	if (r == 0)
		r = cli_mount_endpoint(&b->options);
	if (r < 0)
		return r; /* said already */
	r = open_auth(b, &message);
	if (r == 0)
		r = open_s3(b);
	if (r < 0)
		cli_error("s3://%s/%s: %s", b->options.bucket, b->options.prefix,
			message ? message : strerror(-r));
	return r;
}

void cli_bucket_close(struct cli_bucket *b)
{
	s3_destroy(b->s3);
	auth_destroy(b->auth);
	cli_mount_release(&b->options);
	*b = (struct cli_bucket){0};
}
