/*
 * cli_links - tables that name other files: do those exist? What does not is a problem of the plan.
 */
#pragma once

#include "cli_plan.h"

/* Where the table and what it names are looked for. */
struct links {
	struct plan *plan;
	const char *shown; /* the table, as problems show it */
	void *user;
	FILE *(*open)(void *user, const char *key); /* NULL, and errno */
	bool (*has)(void *user, const char *key);
	bool (*any_below)(void *user, const char *prefix); /* does any key begin so? */
};

enum links_table {
	LINKS_NONE, /* no table that names others */
	LINKS_BARCODES,
	LINKS_LOAD_DATA,
	LINKS_UNREAD, /* names others, in a format that is not read */
};
enum links_table links_table_of(const char *key);
/* Reads the table with this key, if it is one. */
void links_check(const struct links *l, const char *key);
