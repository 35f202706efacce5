/* Where the bucket is: scheme, host and path style from the configuration; pure. */
#pragma once

#include "cpgfs/s3.h"

struct s3_endpoint {
	char root[420];   /* "https://bucket.s3.us-east-1.amazonaws.com", as the URL begins */
	char host[400];   /* as the Host header and the signature have it */
	char region[64];
	char bucket[256];
	bool path_style;  /* the bucket is the first component of the path */
	bool is_aws;      /* conditions are known to be honoured */
	bool is_private;  /* HTTPS or loopback: an unsigned payload cannot be changed on the way */
};
/* -EINVAL: endpoint, region or bucket unusable. */
must_check int s3_endpoint_init(struct s3_endpoint *ret, const struct s3_config *config);
