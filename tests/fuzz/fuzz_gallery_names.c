/*
 * Names and keys: a key that comes out is a valid one with as many components as its path, cleaning
 * is final, and nothing leads out of the prefix.
 *
 *   mode(1) clean_with(1) folder(1) path NUL prefix NUL other prefix
 */
#include "fuzz.h"
#include "gallery_private.h"

static size_t slashes(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == '/';
	return n;
}

static void check_key(const char *key)
{
	size_t len = strlen(key);

	must(len > 0 && len <= KEY_MAX_BYTES && utf8_is_valid(key, len));
	for (const char *at = key;; at++) {
		size_t part = strcspn(at, "/");

		must(part > 0 && !(part == 1 && at[0] == '.') &&
			!(part == 2 && at[0] == '.' && at[1] == '.'));
		at += part;
		if (!*at)
			break;
	}
	for (; *key; key++)
		must((unsigned char)*key >= 0x20 && *key != 0x7f);
}

static void try_clean(const struct naming_policy *p, const char *name)
{
	char once[KEY_MAX_BYTES + 1], twice[KEY_MAX_BYTES + 1], reason[256];
	int r = name_clean(p, name, once, sizeof(once));

	must(r == 0 || r == -EINVAL || r == -ENAMETOOLONG);
	for (int v = NAME_TEMPORARY; v <= NAME_NOT_TEXT; v++) {
		name_reason(p, (enum name_verdict)v, name, strlen(name), reason, sizeof(reason));
		must(memchr(reason, '\0', sizeof(reason)) && reason[0]);
	}
	if (r < 0)
		return;
	must(naming_is_plain(once) && strlen(once) <= strlen(name));
	must(name_clean(p, once, twice, sizeof(twice)) == 0 && strcmp(once, twice) == 0);
	if (p->mode == NAMING_CLEAN && name_judge(p, name, true, 1) == NAME_OK)
		must(name_judge(p, once, true, 1) == NAME_OK);
}

static void try_path(const struct naming_policy *p, const char *path, bool is_folder)
{
	char key[KEY_MAX_BYTES + 1], again[KEY_MAX_BYTES + 1];
	const char *component = NULL;
	size_t len = 0;
	enum name_verdict verdict = path_judge(p, path, is_folder, &component, &len);
	int r = path_to_key(p, path, is_folder, key);

	if (!*path) {
		must(verdict == NAME_OK && r == -EINVAL);
		return;
	}
	must((verdict == NAME_OK) == (r == 0));
	must((verdict == NAME_TOO_LONG) == (r == -ENAMETOOLONG));
	if (r < 0) {
		must(component >= path && component + len <= path + strlen(path));
		return;
	}
	check_key(key);
	must(slashes(key) == slashes(path));
	if (p->mode != NAMING_CLEAN)
		must(strcmp(key, path) == 0);
	else
		must(path_to_key(p, key, is_folder, again) == 0 && strcmp(again, key) == 0);
}

static void try_prefix(const char *prefix, const char *path)
{
	char a[KEY_MAX_BYTES + 1], b[KEY_MAX_BYTES + 1];
	enum prefix_side side;

	if (prefix_normalise(prefix, a) < 0 || prefix_normalise(path, b) < 0)
		return;
	must(prefix_normalise(a, a) == 0);
	must(strncmp(a, prefix, strlen(a)) == 0);
	must(prefix_side_of(a, a) == PREFIX_INSIDE);
	side = prefix_side_of(a, b);
	must(side != PREFIX_INSIDE || !*a || strcmp(a, b) == 0 ||
		(text_starts(b, a) && b[strlen(a)] == '/'));
	must(side != PREFIX_ABOVE || !*b || (text_starts(a, b) && a[strlen(b)] == '/'));
	must((side == PREFIX_INSIDE) ==
		(prefix_side_of(b, a) == PREFIX_ABOVE || strcmp(a, b) == 0));
	for (const char *at = a; *a;) {
		size_t len = strcspn(at, "/");

		must(key_component_is_showable(at, len, at == a));
		at += len;
		if (!*at++)
			break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char with[] = {'\0', '_', '-', 'x'};
	struct fuzz_in in = {data, len};
	struct naming_policy p = {.mode = (enum naming_mode)(fuzz_u8(&in) % 4)};
	bool is_folder;
	char *path, *prefix, *other;

	p.clean_with = with[fuzz_u8(&in) % sizeof(with)];
	is_folder = fuzz_u8(&in) & 1;
	path = fuzz_text(&in, 4096);
	prefix = fuzz_text(&in, 4096);
	other = fuzz_text(&in, 4096);
	if (strlen(path) <= KEY_MAX_BYTES)
		try_clean(&p, path);
	try_path(&p, path, is_folder);
	try_prefix(prefix, other);
	try_prefix(path, prefix);
	free(path);
	free(prefix);
	free(other);
	return 0;
}
