/*
 * The XML of STS and S3 Control, by libxml2's SAX interface with network, entities and huge
 * documents off; a DOCTYPE ends the parse. The first element of each name counts, wherever it
 * stands: AssumeRole wraps its Credentials three levels deep, GetDataAccess one.
 */
#include "auth_keys.h"
#include "auth_try.h"

#include <libxml/parser.h>

#define NEST_MAX 16

struct parse {
	struct auth_xml *out;
	xmlParserCtxtPtr ctxt;
	unsigned depth;
	char text[AUTH_TARGET_MAX + 4096]; /* of the innermost element */
	size_t len;
	char expiry[64];
	bool bad;
};

#define FIELD(name, member)                                                                        \
	{                                                                                          \
		name, offsetof(struct auth_xml, member), sizeof(((struct auth_xml *)NULL)->member) \
	}
static const struct {
	const char *name;
	size_t at, size;
} fields[] = {
	FIELD("AccessKeyId", keys.access_key),
	FIELD("SecretAccessKey", keys.secret_key),
	FIELD("SessionToken", keys.session_token),
	FIELD("MatchedGrantTarget", target),
	FIELD("Code", code),
};

static void stop(struct parse *p)
{
	p->bad = true;
	xmlStopParser(p->ctxt);
}

static void on_start(void *user, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
	int ns_count, const xmlChar **ns, int attr_count, int defaulted, const xmlChar **attrs)
{
	struct parse *p = user;
	p->len = 0;
	if (++p->depth > NEST_MAX)
		stop(p);
}

static void on_text(void *user, const xmlChar *data, int len)
{
	struct parse *p = user;
	if ((size_t)len >= sizeof(p->text) - p->len) {
		stop(p);
		return;
	}
	memcpy(p->text + p->len, data, (size_t)len);
	p->len += (size_t)len;
}

static void set_field(struct parse *p, char *to, size_t size)
{
	if (!*to && !auth_keys_copy(to, p->text, size))
		stop(p);
}

/* A message is cut where it is too long; controls in it are not for a log line. */
static void set_message(struct parse *p)
{
	char *to = p->out->message;
	if (*to)
		return;
	(void)text_copy(to, p->text, sizeof(p->out->message));
	for (; *to; to++)
		if ((unsigned char)*to < ' ' || *to == 0x7f)
			*to = ' ';
}

static void on_end(void *user, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
	struct parse *p = user;
	p->text[p->len] = '\0';
	for (size_t i = 0; i < array_len(fields); i++)
		if (strcmp(fields[i].name, (const char *)name) == 0)
			set_field(p, (char *)p->out + fields[i].at, fields[i].size);
	if (strcmp((const char *)name, "Expiration") == 0)
		set_field(p, p->expiry, sizeof(p->expiry));
	if (strcmp((const char *)name, "Message") == 0)
		set_message(p);
	p->len = 0;
	p->depth--;
}

static void on_doctype(
	void *user, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
	stop(user);
}

static int run(struct parse *p, const char *text, size_t len)
{
	xmlSAXHandler sax = {
		.initialized = XML_SAX2_MAGIC,
		.startElementNs = on_start,
		.endElementNs = on_end,
		.characters = on_text,
		.cdataBlock = on_text,
		.internalSubset = on_doctype,
	};
	p->ctxt = xmlCreatePushParserCtxt(&sax, p, NULL, 0, NULL);
	if (!p->ctxt)
		return -ENOMEM;
	(void)xmlCtxtUseOptions(p->ctxt,
		XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_IGNORE_ENC);
	int bad = xmlParseChunk(p->ctxt, text, (int)len, 1);
	bool whole = !bad && p->ctxt->wellFormed && p->depth == 0 && !p->bad;
	xmlFreeParserCtxt(p->ctxt);
	return whole ? 0 : -EBADMSG;
}

int auth_xml_parse(const char *text, size_t len, struct auth_xml *ret)
{
	cleanup_secret struct parse *p = secret_alloc(sizeof(*p));
	cleanup_secret struct auth_xml *out = secret_alloc(sizeof(*out));
	if (!p || !out)
		return -ENOMEM;
	if (!len || len > AUTH_ANSWER_MAX_BYTES || memchr(text, '\0', len))
		return -EBADMSG; /* a NUL: 16-bit characters, which no service sends */
	s3_libraries_init();
	p->out = out;
	int err = run(p, text, len);
	if (!err && p->expiry[0] && !(out->keys.expires_at_ns = auth_expiry_parse(p->expiry)))
		err = -EBADMSG;
	if (!err && !auth_keys_are_empty(&out->keys) && auth_keys_check(&out->keys))
		err = -EBADMSG;
	if (!err)
		*ret = *out;
	return err;
}

void auth_xml_say(const struct auth_xml *xml, char out[AUTH_XML_TEXT])
{
	snprintf(out, AUTH_XML_TEXT, "%.60s%s%.200s", xml->code, xml->message[0] ? ": " : "",
		xml->message);
}
