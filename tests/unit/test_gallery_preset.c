/* A gallery's ini file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cpgfs/gallery.h"

static int parse(struct gallery_preset *p, const char *text, char **ret_message)
{
	cleanup_free char *copy = text_dup(text);
	return gallery_preset_parse(p, copy, strlen(copy), ret_message);
}

static void a_whole_file(void **state)
{
	struct gallery_preset p;
	char *message = NULL;
	assert_int_equal(
		parse(&p,
			"# about\n[gallery]\ndescription = A place; with # signs\nbucket=b-1\n"
			"credentials = access-grant\nlayout = cp\nurl = https://x/?a=b\n\n"
			"[mount]\nregion = us-east-1\nacl =\n",
			&message),
		0);
	assert_string_equal(p.description, "A place; with # signs");
	assert_string_equal(p.bucket, "b-1");
	assert_int_equal(p.credentials, GALLERY_ACCESS_GRANT);
	assert_string_equal(p.layout, "cp");
	assert_string_equal(p.url, "https://x/?a=b");
	assert_int_equal(p.option_count, 2);
	assert_string_equal(p.options[0].name, "region");
	assert_string_equal(p.options[0].value, "us-east-1");
	assert_int_equal(p.options[0].line, 10);
	assert_string_equal(p.options[1].value, "");
	gallery_preset_release(&p);
}

static void the_least(void **state)
{
	struct gallery_preset p;
	char *message = NULL;
	assert_int_equal(parse(&p, "[gallery]\nbucket = b\ndescription = d", &message), 0);
	assert_int_equal(p.credentials, GALLERY_CHAIN);
	assert_null(p.layout);
	assert_null(p.url);
	assert_int_equal(p.option_count, 0);
	gallery_preset_release(&p);
}

/* Each names its line, what is wrong, and what there is. */
static void what_is_wrong_is_named(void **state)
{
	static const struct {
		const char *text, *line, *also;
	} wrong[] = {
		{"[gallery]\nbuckt = x\n", "line 2: ", "bucket, credentials, description, layout"},
		{"[gallery]\nregion = x\n", "line 2: ", "belong below [mount]"},
		{"[galery]\nbucket = x\n", "line 2: ", "only [gallery] and [mount]"},
		{"[gallery]\ncredentials = magic\n", "line 2: ", "access-grant, role and chain"},
		{"[gallery]\nbucket = x\nbucket = y\n", "line 3: ", "second time"},
		{"[gallery]\ncredentials = role\ncredentials = role\n", "line 3: ", "second time"},
		{"[mount]\nacl = x\nacl = y\n", "line 3: ", "second time"},
		{"[gallery]\nbucket = x\n  url = y\n", "line 3: ", "indented"},
		{"[gallery]\nbucket =\n", "line 2: ", "no value"},
		{"bucket = x\n", "line 1: ", "neither"},
		{"[gallery]\nbucket x\n", "line 2: ", "neither"},
		{"[gallery]\ndescription = x\n", "", "no \"bucket"},
		{"[gallery]\nbucket = x\n", "", "no \"description"},
		{"", "", "no \"bucket"},
	};
	for (size_t i = 0; i < array_len(wrong); i++) {
		struct gallery_preset p;
		cleanup_free char *message = NULL;
		assert_int_equal(parse(&p, wrong[i].text, &message), -EINVAL);
		assert_non_null(message);
		if (!text_starts(message, wrong[i].line) || !strstr(message, wrong[i].also))
			fail_msg("%s\n%s", wrong[i].text, message);
	}
}

static void too_many_options_are_refused(void **state)
{
	cleanup_buf struct buf text = {0};
	struct gallery_preset p;
	cleanup_free char *message = NULL;
	buf_add_text(&text, "[gallery]\nbucket=x\ndescription=d\n[mount]\n");
	for (int i = 0; i < 101; i++)
		buf_printf(&text, "o%d = 1\n", i);
	assert_int_equal(parse(&p, buf_text(&text), &message), -EINVAL);
	assert_true(text_starts(message, "line 105: "));
}

static void names(void **state)
{
	static const char *const good[] = {"cellpainting", "cellpainting-staging", "my_lab.2", "A"};
	static const char *const bad[] = {"", ".", "..", ".x", "x.", "a/b", "../x", "a b", "a\n",
		"0123456789012345678901234567890123456789012345678901234567890123x"};
	for (size_t i = 0; i < array_len(good); i++)
		assert_true(gallery_name_is_valid(good[i]));
	for (size_t i = 0; i < array_len(bad); i++)
		assert_false(gallery_name_is_valid(bad[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_file),
		cmocka_unit_test(the_least),
		cmocka_unit_test(what_is_wrong_is_named),
		cmocka_unit_test(too_many_options_are_refused),
		cmocka_unit_test(names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
