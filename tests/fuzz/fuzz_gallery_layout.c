/*
 * Keys held against the gallery's layout: what a rule takes may stand in each of its folders, and
 * every other key gets an explanation.
 *
 *   key
 */
#include "fuzz.h"
#include "cpgfs/gallery.h"

static const struct layout *gallery(void)
{
	static struct layout *layout;
	char *message = NULL;

	if (!layout)
		must(layout_create(&layout, layout_builtin("cellpainting"), &message) == 0);
	return layout;
}

static void check_match(const struct layout *l, const struct layout_match *m, size_t key_len)
{
	must(m->class >= LAYOUT_REQUIRED && m->class <= LAYOUT_WRONG);
	must(m->rule >= -1 && m->rule < layout_rules(l));
	must(m->rule >= 0 || m->class == LAYOUT_WRONG);
	must(layout_rule_name(l, m->rule)[0]);
	for (int i = 0; i < LAYOUT_LEVELS; i++)
		must(m->level[i].start <= key_len &&
			m->level[i].len <= key_len - m->level[i].start);
}

static void check_folders(const struct layout *l, char *key)
{
	for (char *at = key; (at = strchr(at, '/')); at++) {
		*at = '\0';
		must(layout_takes_folder(l, key));
		*at = '/';
	}
	must(layout_takes_folder(l, ""));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	char *key = fuzz_text(&in, KEY_MAX_BYTES);
	const struct layout *l = gallery();
	cleanup_buf struct buf why = {0};
	struct layout_match m;

	must(layout_match(l, key, &m) == 0);
	check_match(l, &m, strlen(key));
	layout_explain(l, key, &m, &why);
	must(buf_error(&why) == 0 && (m.class < LAYOUT_WARN) == (why.len == 0));
	if (m.class != LAYOUT_WRONG)
		check_folders(l, key);
	free(key);
	return 0;
}
