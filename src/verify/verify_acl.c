/*
 * verify_acl - who has full control of each object, and which objects the bucket's owner lacks.
 *
 * An object uploaded without the ACL belongs to its uploader's account, and the bucket's owner can
 * neither read nor pass it on. The canonical id of the bucket's owner is not told anywhere a
 * contributor may ask: unless it is given, it is taken to be the one who controls most objects of
 * others. Where everything is controlled by its owner alone, that is the bucket's owner (as in
 * buckets that enforce it), or every ACL is wrong: nobody can tell, so it is said.
 *
 * Source: S3 API, GetObjectAcl.
 */
#include <libxml/parser.h>
#include <search.h>

#include "verify_tree.h"

struct grantee {
	char *id;
	uint64_t objects; /* of others, that it controls */
	uint64_t own;
};

struct object {
	char *key;
	struct grantee **controllers; /* NULL-ended */
};

struct acl_ids {
	struct lock lock;
	struct {
		struct grantee **grantees;
		size_t grantee_count;
		struct object *objects;
		size_t object_count, object_space;
	} synced; /* by lock */
};

int verify_acl_create(struct acl_ids **ret)
{
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	lock_init(&(*ret)->lock, RANK_VERIFY, "verify acl");
	return 0;
}

void verify_acl_destroy(struct acl_ids *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->synced.grantee_count; i++) {
		free(a->synced.grantees[i]->id);
		free(a->synced.grantees[i]);
	}
	for (size_t i = 0; i < a->synced.object_count; i++) {
		free(a->synced.objects[i].key);
		free(a->synced.objects[i].controllers);
	}
	free(a->synced.grantees);
	free(a->synced.objects);
	lock_release_storage(&a->lock);
	free(a);
}

static struct grantee *grantee_of_locked(struct acl_ids *a, const char *id)
{
	struct grantee **grown, *g;

	for (size_t i = 0; i < a->synced.grantee_count; i++) {
		if (strcmp(a->synced.grantees[i]->id, id) == 0)
			return a->synced.grantees[i];
	}
	grown = reallocarray(a->synced.grantees, a->synced.grantee_count + 1, sizeof(g));
	if (!grown)
		return NULL;
	a->synced.grantees = grown;
	g = calloc(1, sizeof(*g));
	if (g)
		g->id = text_dup(id);
	if (!g || !g->id) {
		free(g);
		return NULL;
	}
	grown[a->synced.grantee_count++] = g;
	return g;
}

/* ---- the document -------------------------------------------------------------------------------
 */

static const xmlNode *child(const xmlNode *of, const char *name)
{
	for (const xmlNode *n = of ? of->children : NULL; n; n = n->next) {
		if (n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, name) == 0)
			return n;
	}
	return NULL;
}

static bool text_is(const xmlNode *node, const char *want)
{
	return node && node->children && node->children->content &&
	       strcmp((const char *)node->children->content, want) == 0;
}

static const char *text_of(const xmlNode *node)
{
	return node && node->children && node->children->content
		       ? (const char *)node->children->content
		       : NULL;
}

static int note_grants_locked(
	struct acl_ids *a, const xmlNode *list, const char *owner, struct object *o)
{
	size_t count = 0;

	for (const xmlNode *n = list->children; n; n = n->next) {
		const char *id = text_of(child(child(n, "Grantee"), "ID"));
		struct grantee **grown, *g;

		if (!id || !text_is(child(n, "Permission"), "FULL_CONTROL"))
			continue;
		g = grantee_of_locked(a, id);
		grown = g ? reallocarray(o->controllers, count + 2, sizeof(g)) : NULL;
		if (!grown)
			return -ENOMEM;
		o->controllers = grown;
		grown[count++] = g;
		grown[count] = NULL;
		g->objects += strcmp(g->id, owner) != 0;
		g->own += strcmp(g->id, owner) == 0;
	}
	return 0;
}

static int note_locked(struct acl_ids *a, const char *key, const xmlNode *list, const char *owner)
{
	struct object *o;

	if (a->synced.object_count == a->synced.object_space) {
		size_t space = a->synced.object_space ? 2 * a->synced.object_space : 256;
		struct object *grown = reallocarray(a->synced.objects, space, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		a->synced.objects = grown;
		a->synced.object_space = space;
	}
	o = &a->synced.objects[a->synced.object_count];
	*o = (struct object){.key = text_dup(key)};
	if (!o->key)
		return -ENOMEM;
	a->synced.object_count++;
	return note_grants_locked(a, list, owner, o);
}

/* What memory was lacking for may be missing in it: then there is none. */
static int document_read(const char *xml, size_t len, xmlDoc **ret)
{
	xmlParserCtxt *ctxt = xmlNewParserCtxt();
	bool lacking;

	if (!ctxt)
		return -ENOMEM;
	*ret = xmlCtxtReadMemory(ctxt, xml, (int)len, "acl", NULL,
		XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	lacking = ctxt->errNo == XML_ERR_NO_MEMORY || (!*ret && ctxt->errNo == XML_ERR_OK);
	if (lacking)
		xmlFreeDoc(*ret);
	xmlFreeParserCtxt(ctxt);
	return lacking ? -ENOMEM : 0;
}

int verify_acl_note(struct acl_ids *a, const char *key, const char *xml, size_t len)
{
	xmlDoc *doc;
	const xmlNode *root, *list;
	const char *owner;
	int r = document_read(xml, len, &doc);

	if (r < 0)
		return r;
	root = doc ? xmlDocGetRootElement(doc) : NULL;
	list = root ? child(root, "AccessControlList") : NULL;
	owner = text_of(child(child(root, "Owner"), "ID"));
	r = -EBADMSG;
	if (list) {
		with_lock(&a->lock);
		r = note_locked(a, key, list, owner ? owner : "");
	}
	xmlFreeDoc(doc);
	return r;
}

/* ---- judging -------------------------------------------------------------------------------- */

static const struct grantee *most(const struct acl_ids *a, bool *ret_guess)
{
	const struct grantee *best = NULL, *owner = NULL;

	for (size_t i = 0; i < a->synced.grantee_count; i++) {
		const struct grantee *g = a->synced.grantees[i];

		if (g->objects > (best ? best->objects : 0))
			best = g;
		if (g->own > (owner ? owner->own : 0))
			owner = g;
	}
	*ret_guess = !best;
	return best ? best : owner;
}

static bool controls(const struct object *o, const char *id)
{
	for (struct grantee **g = o->controllers; g && *g; g++) {
		if (strcmp((*g)->id, id) == 0)
			return true;
	}
	return false;
}

int verify_acl_judge(struct acl_ids *a, const char *owner,
	int (*each)(void *user, const char *key, const char *what), void *user, char **ret_guess)
{
	bool guess = false;
	const struct grantee *usual = owner ? NULL : most(a, &guess);
	const char *id = owner ? owner : usual ? usual->id : NULL;
	int r = 0;

	*ret_guess = guess && id ? text_dup(id) : NULL;
	if (guess && id && !*ret_guess)
		return -ENOMEM;
	for (size_t i = 0; i < a->synced.object_count && r == 0; i++) {
		const struct object *o = &a->synced.objects[i];

		if (!id || !controls(o, id))
			r = each(user, o->key,
				o->controllers ? "full control only for another account"
					       : "nobody has full control");
	}
	return r;
}
