/*
 * cli_plan_plates - plate by plate: images seen and expected, images/ and workspace/ side by side,
 *                   and what the layout requires of each batch and plate.
 *
 * Memory: one record per batch, plate and plate folder, in a tree by name. The images of a plate
 * are counted while the walk is in its folder (keys come in order), then only the sums stay. Where
 * more of it may come (from another source, or a name that is cleaned to the same) what was counted
 * stays, too: some 50 KiB a plate.
 */
#include <inttypes.h>
#include <search.h>
#include <unistd.h>

#include "cli_plan.h"

enum { PLATES_SHOWN = 20, MISSING_SHOWN = 6, RULES_MAX = 256 };

struct node {
	char *key; /* "level\tproject/source/batch[/plate]" */
	enum layout_level level;
	const char *place; /* inside key, behind the tab */
	bool has_images, has_workspace;
	uint8_t rules[RULES_MAX / 8]; /* rules that took a file of it */
	/* LAYOUT_FULLPLATE */
	struct plate_facts facts;
	enum image_vendor vendor;
	uint64_t files, bytes, there;
	int64_t first_at_ns, last_at_ns; /* of what was given to plan_plates_add; 0: nothing */
	char *missing;			 /* the first ones, for a person */
	struct plate *plate;		 /* NULL: not being counted (any more) */
};

struct plan_plates {
	void *tree; /* of struct node */
	struct node **nodes;
	size_t count, space;
	struct node *current; /* the walk is in its folder */
};

int plan_plates_create(struct plan_plates **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

static void leave_alone(void *node)
{
}

void plan_plates_destroy(struct plan_plates *pl)
{
	if (!pl)
		return;
	tdestroy(pl->tree, leave_alone);
	for (size_t i = 0; i < pl->count; i++) {
		free(pl->nodes[i]->key);
		free(pl->nodes[i]->missing);
		plate_destroy(pl->nodes[i]->plate);
		free(pl->nodes[i]);
	}
	free(pl->nodes);
	free(pl);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct node *)a)->key, ((const struct node *)b)->key);
}

static struct node *node_new(struct plan_plates *pl, const char *key, enum layout_level level)
{
	struct node *node;

	if (pl->count == pl->space) {
		size_t space = pl->space ? 2 * pl->space : 64;
		struct node **grown = reallocarray(pl->nodes, space, sizeof(struct node *));

		if (!grown)
			return NULL;
		pl->nodes = grown;
		pl->space = space;
	}
	node = calloc(1, sizeof(*node));
	if (!node)
		return NULL;
	node->key = text_dup(key);
	node->level = level;
	if (!node->key || !tsearch(node, &pl->tree, by_name)) {
		free(node->key);
		free(node);
		return NULL;
	}
	node->place = strchr(node->key, '\t') + 1;
	pl->nodes[pl->count++] = node;
	return node;
}

/* The record of what the key belongs to at this level; NULL when out of memory. */
static struct node *node_of(struct plan_plates *pl, enum layout_level level, const char *key,
	const struct layout_match *m, const struct layout_span *last)
{
	static const enum layout_level above[] = {LAYOUT_PROJECT, LAYOUT_SOURCE, LAYOUT_BATCH};
	cleanup_buf struct buf name = {0};
	struct node **found;

	buf_printf(&name, "%d\t", (int)level);
	for (size_t i = 0; i < array_len(above) && above[i] <= level; i++) {
		buf_add_text(&name, i ? "/" : "");
		buf_add(&name, key + m->level[above[i]].start, m->level[above[i]].len);
	}
	if (last) {
		buf_add_char(&name, '/');
		buf_add(&name, key + last->start, last->len);
	}
	if (buf_error(&name) < 0)
		return NULL;
	found = tfind(&(struct node){.key = (char *)buf_text(&name)}, &pl->tree, by_name);
	return found ? *found : node_new(pl, buf_text(&name), level);
}

/* ---- the images of one plate folder --------------------------------------------------------- */

struct missing_text {
	struct buf *out;
	unsigned n;
};

static bool add_missing(void *user, unsigned row, unsigned col, unsigned site, unsigned channel,
	unsigned plane, unsigned time)
{
	struct missing_text *t = user;
	char well[8];

	if (t->n++ == MISSING_SHOWN) {
		buf_add_text(t->out, ", …");
		return false;
	}
	well_format(row, col, well);
	buf_printf(t->out, "%s%s", t->n > 1 ? ", " : "", well);
	if (site > 0 || channel > 0)
		buf_printf(t->out, " site %u channel %u", site, channel);
	return true;
}

static void note_time(struct node *node, int64_t at_ns)
{
	if (at_ns && (!node->first_at_ns || at_ns < node->first_at_ns))
		node->first_at_ns = at_ns;
	if (at_ns > node->last_at_ns)
		node->last_at_ns = at_ns;
}

static bool more_may_come(const struct plan *p)
{
	return p->source_count > 1 || p->naming.mode == NAMING_CLEAN;
}

static int plate_done(struct plan *p)
{
	struct plan_plates *pl = p->plates;
	cleanup_buf struct buf text = {0};
	struct missing_text missing = {.out = &text};
	struct node *node = pl->current;
	int status = 0;

	if (node) {
		status = plate_sum(node->plate, &p->pin, &node->facts);
		if (status == 0 && node->facts.missing > 0)
			status = plate_each_missing(node->plate, &p->pin, add_missing, &missing);
		free(node->missing);
		node->missing = buf_steal(&text);
		if (!more_may_come(p))
			plate_destroy(steal_ptr(node->plate));
	}
	pl->current = NULL;
	return status;
}

/* Is the plate's folder in the mount already? */
static void judge_existing(
	struct plan *p, const struct node *node, const char *key, const struct layout_match *m)
{
	const struct layout_span *plate = &m->level[LAYOUT_FULLPLATE];
	cleanup_buf struct buf path = {0};

	if (!p->mount_root || node->files > 0)
		return;
	buf_printf(&path, "%s/%.*s", p->mount_root, (int)(plate->start + plate->len), key);
	if (buf_error(&path) == 0 && access(buf_text(&path), F_OK) == 0)
		plan_problem(p, PLAN_EXISTS, node->place, NULL);
}

static int add_image(struct plan *p, struct node *node, const char *key, uint64_t bytes)
{
	struct plan_plates *pl = p->plates;
	const char *leaf = strrchr(key, '/') + 1;
	struct image_name image;
	int status = 0;

	if (pl->current != node) {
		status = plate_done(p);
		if (status == 0 && !node->plate)
			status = plate_create(&node->plate);
		if (status < 0)
			return status;
		pl->current = node;
	}
	node->files++;
	node->bytes += bytes;
	if (!image_name_parse(leaf, &image))
		return 0;
	node->vendor = image.vendor;
	status = plate_add(node->plate, &image);
	return status == -ERANGE ? 0 : status; /* no well of a plate: not counted */
}

/* ---- every file ----------------------------------------------------------------------------- */

static void node_mark(struct node *node, const struct layout_match *m)
{
	if (m->rule >= 0 && m->rule < RULES_MAX)
		node->rules[m->rule / 8] |= (uint8_t)(1 << (m->rule % 8));
}

static bool node_has(const struct node *node, int rule)
{
	return rule < RULES_MAX && (node->rules[rule / 8] >> (rule % 8) & 1);
}

/* Counted under its short name, whichever of both the key has. */
static int add_plate(struct plan *p, const char *key, const struct layout_match *m)
{
	struct layout_span short_name = m->level[LAYOUT_PLATE];
	bool is_images = m->level[LAYOUT_FULLPLATE].len > 0;
	struct node *node;

	if (is_images) {
		short_name = m->level[LAYOUT_FULLPLATE];
		short_name.len = plate_short_name(key + short_name.start, short_name.len);
	}
	if (short_name.len == 0)
		return 0;
	node = node_of(p->plates, LAYOUT_PLATE, key, m, &short_name);
	if (!node)
		return -ENOMEM;
	node_mark(node, m);
	if (is_images)
		node->has_images = true;
	else if (strstr(key, "/workspace/"))
		node->has_workspace = true;
	return 0;
}

int plan_plates_add(struct plan *p, const char *key, const struct layout_match *m, uint64_t bytes,
	int64_t at_ns)
{
	struct node *node;
	int status;

	if (m->class == LAYOUT_WRONG || m->level[LAYOUT_BATCH].len == 0)
		return 0;
	node = node_of(p->plates, LAYOUT_BATCH, key, m, NULL);
	if (!node)
		return -ENOMEM;
	node_mark(node, m);
	status = add_plate(p, key, m);
	if (status < 0 || m->level[LAYOUT_FULLPLATE].len == 0)
		return status;
	node = node_of(p->plates, LAYOUT_FULLPLATE, key, m, &m->level[LAYOUT_FULLPLATE]);
	if (!node)
		return -ENOMEM;
	node_mark(node, m);
	judge_existing(p, node, key, m);
	note_time(node, at_ns);
	return add_image(p, node, key, bytes);
}

int plan_plates_there(struct plan *p, const char *key, const struct layout_match *m)
{
	struct node *node;

	if (m->class == LAYOUT_WRONG || m->level[LAYOUT_FULLPLATE].len == 0)
		return 0;
	node = node_of(p->plates, LAYOUT_FULLPLATE, key, m, &m->level[LAYOUT_FULLPLATE]);
	if (!node)
		return -ENOMEM;
	node->there++;
	return 0;
}

/* ---- at the end ----------------------------------------------------------------------------- */

static void judge_images(struct plan *p, const struct node *node)
{
	const struct plate_facts *f = &node->facts;

	if (node->there > 0)
		plan_problem_f(p, PLAN_EXISTS, node->place, "%" PRIu64 " of its %" PRIu64 " files",
			node->there, node->files);
	bool pinned = p->pin.wells || p->pin.sites || p->pin.channels;

	if (f->images == 0 || f->missing == 0)
		return;
	plan_problem_f(p, pinned ? PLAN_EXPECTED : PLAN_MISSING, node->place,
		"%" PRIu64 " of %" PRIu64 " images (%u wells × %u sites × %u channels)%s%s",
		f->images, f->expected, f->wells, f->sites, f->channels,
		node->missing && node->missing[0] ? "; missing: " : "",
		node->missing ? node->missing : "");
}

static void judge_required(struct plan *p, const struct node *node)
{
	for (int i = 0; i < layout_rules(p->layout); i++) {
		if (layout_rule_per(p->layout, i) == node->level && !node_has(node, i))
			plan_problem_f(p, PLAN_REQUIRED, node->place, "no %s for this %s",
				layout_rule_name(p->layout, i), layout_level_name(node->level));
	}
}

static void judge_sides(struct plan *p, const struct node *node)
{
	if (node->has_images && !node->has_workspace)
		plan_problem(p, PLAN_COUNTERPART, node->place, "images, but nothing in workspace/");
	if (node->has_workspace && !node->has_images)
		plan_problem(p, PLAN_COUNTERPART, node->place, "workspace/, but no images");
}

int plan_plates_finish(struct plan *p)
{
	int status = plate_done(p);

	for (size_t i = 0; status == 0 && i < p->plates->count; i++) {
		const struct node *node = p->plates->nodes[i];

		if (node->level == LAYOUT_FULLPLATE)
			judge_images(p, node);
		else if (node->level == LAYOUT_PLATE)
			judge_sides(p, node);
		judge_required(p, node);
	}
	return status;
}

int plan_plates_each(
	const struct plan *p, int (*each)(void *user, const struct plan_plate *plate), void *user)
{
	int r = 0;

	for (size_t i = 0; i < p->plates->count && r == 0; i++) {
		const struct node *n = p->plates->nodes[i];
		struct plan_plate plate = {.place = n->place,
			.vendor = n->vendor,
			.facts = n->facts,
			.files = n->files,
			.bytes = n->bytes,
			.first_at_ns = n->first_at_ns,
			.last_at_ns = n->last_at_ns};

		if (n->level == LAYOUT_FULLPLATE)
			r = each(user, &plate);
	}
	return r;
}

size_t plan_plates_count(const struct plan *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->plates->count; i++)
		n += p->plates->nodes[i]->level == LAYOUT_FULLPLATE;
	return n;
}

static void print_plate(const struct node *node, FILE *out)
{
	const struct plate_facts *f = &node->facts;
	char bytes[24];

	size_format(node->bytes, bytes);
	fprintf(out, "  %s  %" PRIu64 " files, %s", node->place, node->files, bytes);
	if (f->images > 0)
		fprintf(out, "; %s, %u wells × %u sites × %u channels: %s",
			image_vendor_text(node->vendor), f->wells, f->sites, f->channels,
			f->missing ? "gaps" : "complete");
	fputc('\n', out);
}

void plan_plates_print(const struct plan *p, FILE *out)
{
	size_t shown = 0, all = plan_plates_count(p);

	if (all > 0)
		fprintf(out, "\nPlates\n");
	for (size_t i = 0; i < p->plates->count && shown < PLATES_SHOWN; i++) {
		if (p->plates->nodes[i]->level != LAYOUT_FULLPLATE)
			continue;
		print_plate(p->plates->nodes[i], out);
		shown++;
	}
	if (all > shown)
		fprintf(out, "  and %zu more\n", all - shown);
}
