/*
 * Pages of a listing: only what may stand below the prefix is believed, a listing ends, and the
 * names of a folder are each there once, in order, as a plain list has them.
 *
 *   how(1) prefix NUL, then pages: truncated(1) token NUL count(1), entries: kind(1) size(1) key
 * NUL
 */
#include "fuzz.h"
#include "remote_names.h"
#include "remote_page.h"

#define ENTRIES_MAX 64
#define PAGES_MAX 64

struct model {
	char *name[ENTRIES_MAX * PAGES_MAX];
	bool is_dir[ENTRIES_MAX * PAGES_MAX];
	uint64_t size[ENTRIES_MAX * PAGES_MAX];
	size_t count;
};

/* A folder stays; else the last one counts. */
static void model_put(struct model *m, const char *name, size_t len, bool is_dir, uint64_t size)
{
	size_t i = 0;

	while (i < m->count && (strlen(m->name[i]) != len || memcmp(m->name[i], name, len) != 0))
		i++;
	if (i == m->count) {
		m->name[i] = strndup(name, len);
		must(m->name[i]);
		m->count++;
	} else if (m->is_dir[i] && !is_dir) {
		return;
	}
	m->is_dir[i] = is_dir;
	m->size[i] = is_dir ? 0 : size;
}

static void take_entry(struct fuzz_in *in, struct s3_list_entry *e)
{
	unsigned kind = fuzz_u8(in);

	*e = (struct s3_list_entry){.is_prefix = kind & 1, .object.size_bytes = fuzz_u8(in)};
	e->key = fuzz_text(in, KEY_MAX_BYTES);
	e->key_len = strlen(e->key);
	if (kind & 2)
		text_copy(e->object.etag, "etag", sizeof(e->object.etag));
}

static void take_page(struct fuzz_in *in, struct s3_list_page *page)
{
	page->truncated = fuzz_u8(in) & 1;
	page->next_token = fuzz_text(in, 64);
	page->count = fuzz_u8(in) % ENTRIES_MAX;
	page->entries = calloc(ENTRIES_MAX, sizeof(*page->entries));
	must(page->entries);
	for (size_t i = 0; i < page->count; i++)
		take_entry(in, &page->entries[i]);
}

static void release_page(struct s3_list_page *page)
{
	for (size_t i = 0; i < page->count; i++)
		free((char *)page->entries[i].key);
	free(page->entries);
	free(page->next_token);
}

/* An entry of a page that was believed. */
static void take_name(const struct remote_paging *p, const struct s3_list_entry *e,
	struct remote_names *names, struct model *m)
{
	size_t len;
	const char *name = remote_page_name(p->prefix, e, &len);

	must(text_starts(e->key, p->prefix) && name == e->key + strlen(p->prefix));
	if (p->recursive) {
		must(!e->is_prefix);
		return;
	}
	must(!memchr(name, '/', len));
	if (!key_component_is_showable(name, len, false))
		return;
	must(remote_names_append(names, name, len, e->is_prefix, &e->object) == 0);
	model_put(m, name, len, e->is_prefix, e->object.size_bytes);
}

static void compare(const struct remote_names *names, const struct model *m)
{
	struct remote_entry e, last = {0};

	must(names->count == m->count);
	for (size_t i = 0; i < names->count; i++) {
		remote_names_entry(names, i, &e);
		must(i == 0 || strcmp(last.name, e.name) < 0);
		must(remote_names_after(names, e.name) == i + 1);
		last = e;
	}
	for (size_t i = 0; i < m->count; i++) {
		must(remote_names_find(names, m->name[i], &e));
		must(e.is_dir == m->is_dir[i]);
		must(e.is_dir || e.object.size_bytes == m->size[i]);
	}
}

/* Single changes afterwards: every third goes, every fifth becomes larger. */
static void change(struct remote_names *names, struct model *m)
{
	struct s3_object object = {.size_bytes = 1000, .etag = "new"};
	size_t kept = 0;

	for (size_t i = 0; i < m->count; i++) {
		bool gone = i % 3 == 0 && remote_names_remove(names, m->name[i]);

		must(gone == (i % 3 == 0 && !m->is_dir[i]));
		if (gone) {
			free(m->name[i]);
			continue;
		}
		if (i % 5 == 0) {
			must(remote_names_put(names, m->name[i], false, &object) == !m->is_dir[i]);
			m->size[i] = 1000;
		}
		m->name[kept] = m->name[i];
		m->is_dir[kept] = m->is_dir[i];
		m->size[kept++] = m->size[i];
	}
	m->count = kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct model m;
	struct fuzz_in in = {data, len};
	struct remote_paging paging = {.recursive = fuzz_u8(&in) & 1};
	char *prefix = fuzz_text(&in, 64);
	struct remote_names names = {0};
	bool more = true;

	paging.prefix = prefix;
	m.count = 0;
	for (unsigned pages = 0; more && pages < PAGES_MAX; pages++) {
		struct s3_list_page page = {0};
		int r;

		take_page(&in, &page);
		remote_page_sort(&page);
		r = remote_page_check(&paging, &page);
		must(r == 0 || r == -EIO);
		for (size_t i = 0; r == 0 && i < page.count; i++)
			take_name(&paging, &page.entries[i], &names, &m);
		must(r < 0 || !page.truncated || page.next_token[0]);
		more = r == 0 && page.truncated;
		release_page(&page);
		must(!more || in.len > 0 || pages < PAGES_MAX - 1); /* empty pages end it */
	}
	remote_names_finish(&names);
	compare(&names, &m);
	change(&names, &m);
	compare(&names, &m);
	for (size_t i = 0; i < m.count; i++)
		free(m.name[i]);
	remote_names_release(&names);
	free(prefix);
	return 0;
}
