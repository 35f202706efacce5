/*
 * upload_reason - a refusal in words for a person, with what to do about it.
 */
#include "upload_private.h"

struct remedy {
	const char *code, *what;
};

static const struct remedy remedies[] = {
	{"AccessDenied", "the credentials may not write this key: check the prefix, the grant and"},
	{"AccessControlListNotSupported",
		"the bucket takes no ACLs: mount with --acl none, or with bucket-owner-full-control"},
	{"NoSuchBucket", "there is no such bucket: check its name and the endpoint"},
	{"InvalidArgument", "see the server's message"},
	{"KeyTooLongError", "the path is longer than a key may be: shorten names"},
	{"EntityTooLarge", "the server takes no object of this size: enlarge --part-size"},
	{"QuotaExceeded", "the bucket's quota is used up: ask its owner"},
	{"NoCredentials", "no credentials were found: see `cpgfs credentials MOUNTPOINT`"},
	{"ExpiredCredentials", "the credentials have expired: renew them"},
	{"ExpiredToken", "the credentials have expired: renew them"},
};

static const char *remedy_of(const char *code)
{
	for (size_t i = 0; i < array_len(remedies); i++) {
		if (strcmp(code, remedies[i].code) == 0)
			return remedies[i].what;
	}
	return NULL;
}

void reason_of_reply(const struct s3_reply *reply, const char *acl, char out[REASON_MAX])
{
	const char *remedy = remedy_of(reply->code);
	char status[16] = "", says[160] = "";

	if (reply->http_status)
		snprintf(status, sizeof(status), " (%d)", reply->http_status);
	if (reply->message[0] && !text_starts(reply->message, "HTTP status "))
		snprintf(says, sizeof(says), ": %.150s", reply->message);
	snprintf(out, REASON_MAX, "%.40s%s%.110s%s%s%s%.30s",
		reply->code[0] ? reply->code : s3_class_text(reply->class), status, says,
		remedy ? "; " : "", remedy ? remedy : "",
		remedy == remedies[0].what ? " --acl, now " : "",
		remedy == remedies[0].what ? (acl ? acl : "none") : "");
}
