/*
 * gallery_layout - a compiled layout, shared by the files that read, match and explain it.
 */
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "cpgfs/gallery.h"

enum { LEVELS_MAX = 48, RULE_COMPONENTS_MAX = 24, RULE_GROUPS_MAX = 64 };

struct level {
	char *name;
	char *pattern;     /* Perl pattern of the text it stands for */
	char *description; /* for a person */
	pcre2_code *should; /* NULL, or what the text should fit */
	char *should_text;
};

struct rule {
	enum layout_class class;
	enum layout_level per; /* LAYOUT_LEVELS: none */
	char *name;
	char *template;
	char *text;             /* the fix or the warning; NULL */
	pcre2_code *code;       /* of a whole key */
	int group[LEVELS_MAX]; /* capture group of each level; 0: none */
};

struct layout {
	struct level *levels;
	int level_count;
	int known[LAYOUT_LEVELS]; /* index in levels; -1: the layout has none */
	struct rule *rules;
	int rule_count;
};

int layout_level_find(const struct layout *l, const char *name, size_t len); /* -1: none */

/* The Perl pattern of a template. -EINVAL: message says why. */
must_check int layout_template_pattern(
	const struct layout *l, struct rule *r, struct buf *pattern, struct buf *message);

/* Can what rule i takes stand below this folder ("a/b/", or "")? */
bool layout_rule_goes_on(const struct layout *l, int i, const char *folder, size_t len);
