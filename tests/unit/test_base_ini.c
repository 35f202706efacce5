/* The format of ini files, as the AWS tools read it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cpgfs/base.h"

static int collect(void *user, const char *section, const char *name, const char *value)
{
	buf_printf(user, "[%s|%s|%s]", section, name, value);
	return 0;
}

static int parse(const char *text, struct buf *out, unsigned *ret_line)
{
	cleanup_free char *copy = text_dup(text);
	buf_clear(out);
	return ini_parse(copy, strlen(text), collect, out, ret_line);
}

static void assert_parses(const char *text, const char *expected)
{
	cleanup_buf struct buf out = {0};
	unsigned line;
	assert_int_equal(parse(text, &out, &line), 0);
	assert_string_equal(buf_text(&out), expected);
}

static void format(void **state)
{
	assert_parses("", "");
	assert_parses("[a]\nx = 1\n", "[a|x|1]");
	assert_parses("[a]\nx=1", "[a|x|1]"); /* no newline at the end */
	assert_parses("\xef\xbb\xbf[a]\r\nX_Y : 1\r\n", "[a|x_y|1]");
	assert_parses("# c\n; d\n\n[ profile a ]\n  # e\nx=1\n", "[profile a|x|1]");
	assert_parses("[a]\nx=\n", "[a|x|]");
	assert_parses("[a]\nx=1\n[b]\nx=2\n[a]\ny=3\n", "[a|x|1][b|x|2][a|y|3]");
}

/* What a general INI library would cut or change. */
static void secrets_stay_whole(void **state)
{
	assert_parses("[a]\nk = a;b#c ;d #e\n", "[a|k|a;b#c ;d #e]");
	assert_parses("[a]\nk = a=b:c==\n", "[a|k|a=b:c==]");
	assert_parses("[a]\nk = \"q\" 'r' \\n %x\n", "[a|k|\"q\" 'r' \\n %x]");
	cleanup_buf struct buf text = {0};
	cleanup_buf struct buf expected = {0};
	buf_add_text(&text, "[a]\nk = ");
	buf_add_text(&expected, "[a|k|");
	for (int i = 0; i < 100000; i++) {
		buf_add_char(&text, (char)('a' + i % 26));
		buf_add_char(&expected, (char)('a' + i % 26));
	}
	buf_add_text(&expected, "]");
	assert_parses(buf_text(&text), buf_text(&expected));
}

static void nested_settings_have_no_name(void **state)
{
	assert_parses("[a]\ns3 =\n  region = inner\n  x = y\nregion = outer\n",
		"[a|s3|][a||region = inner][a||x = y][a|region|outer]");
	/* everything indented alike is no nesting */
	assert_parses("[a]\n  x = 1\n  y = 2\n[b]\n  z = 3\n", "[a|x|1][a|y|2][b|z|3]");
}

static void malformed_lines_are_named(void **state)
{
	static const struct {
		const char *text;
		unsigned line;
	} bad[] = {
		{"x = 1\n", 1},
		{"[a]\nx = 1\n\nnonsense\n", 4},
		{"[a\n", 1},
		{"[]\n", 1},
		{"[a]\n= 1\n", 2},
	};

	for (size_t i = 0; i < array_len(bad); i++) {
		cleanup_buf struct buf out = {0};
		unsigned line = 0;
		assert_int_equal(parse(bad[i].text, &out, &line), -EBADMSG);
		assert_int_equal(line, bad[i].line);
	}
	char nul[] = "[a]\nx = 1\0 2\n";
	cleanup_buf struct buf out = {0};
	unsigned line = 0;
	assert_int_equal(
		ini_parse(nul, sizeof(nul) - 1, collect, &out, &line), -EBADMSG);
	assert_int_equal(line, 2);
}

/* What the reader of a setting says ends it, at that line. */
static int refuse_y(void *user, const char *section, const char *name, const char *value)
{
	const unsigned *line = user;
	assert_int_equal(*line, *name == 'x' ? 2 : 3);
	return strcmp(name, "y") == 0 ? -ERANGE : 0;
}

static void a_reader_can_end_it(void **state)
{
	char text[] = "[a]\nx = 1\ny = 2\nnonsense\n";
	unsigned line = 0;
	assert_int_equal(ini_parse(text, sizeof(text) - 1, refuse_y, &line, &line), -ERANGE);
	assert_int_equal(line, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(format),
		cmocka_unit_test(secrets_stay_whole),
		cmocka_unit_test(nested_settings_have_no_name),
		cmocka_unit_test(malformed_lines_are_named),
		cmocka_unit_test(a_reader_can_end_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
