/*
 * Buffers, numbers in byte strings, sizes, durations, UTF-8, escapes, cleanup helpers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base_private.h"

#include <fcntl.h>

static void buf_grows(void **state)
{
	cleanup_buf struct buf b = {0};

	assert_string_equal(buf_text(&b), "");
	for (int i = 0; i < 1000; i++) {
		buf_add_char(&b, 'a');
		buf_add_text(&b, "bc");
		buf_printf(&b, "%03d", i);
	}
	assert_int_equal(buf_error(&b), 0);
	assert_int_equal(b.len, 6000);
	assert_true(text_starts(buf_text(&b), "abc000abc001"));
	assert_true(text_ends(buf_text(&b), "abc999"));
	buf_clear(&b);
	assert_int_equal(b.len, 0);
	assert_string_equal(buf_text(&b), "");
	buf_add(&b, "x\0y", 3);
	assert_int_equal(b.len, 3);
	assert_memory_equal(b.data, "x\0y\0", 4);
}

static void buf_bound_latches(void **state)
{
	struct buf b;

	buf_init(&b, 10);
	buf_add_text(&b, "0123456789");
	assert_int_equal(buf_error(&b), 0);
	buf_add_char(&b, 'x');
	assert_int_equal(buf_error(&b), -ENOBUFS);
	assert_string_equal(buf_text(&b), "0123456789");
	buf_clear(&b);
	buf_add_text(&b, "ok");
	buf_printf(&b, "%s", "far too long");
	buf_add_text(&b, "!"); /* would fit, but the latch holds */
	assert_int_equal(buf_error(&b), -ENOBUFS);
	assert_string_equal(buf_text(&b), "ok");
	assert_null(buf_steal(&b));
	assert_int_equal(b.len, 0);
	buf_add(&b, "", SIZE_MAX);
	assert_int_equal(buf_error(&b), -ENOBUFS);
	buf_release(&b);
}

static void buf_steals(void **state)
{
	struct buf b;
	char *text;

	buf_init(&b, 0);
	text = buf_steal(&b);
	assert_string_equal(text, "");
	free(text);
	buf_add_text(&b, "kept");
	text = buf_steal(&b);
	assert_string_equal(text, "kept");
	assert_string_equal(buf_text(&b), "");
	free(text);
	buf_release(&b);
}

static void numbers_in_bytes(void **state)
{
	uint8_t p[9] = {0};

	put_be64(p + 1, UINT64_C(0x0102030405060708));
	assert_memory_equal(p, "\0\1\2\3\4\5\6\7\10", 9);
	assert_int_equal(get_be64(p + 1), UINT64_C(0x0102030405060708));
	assert_int_equal(get_le64(p + 1), UINT64_C(0x0807060504030201));
	assert_int_equal(get_be32(p + 1), 0x01020304);
	assert_int_equal(get_le32(p + 1), 0x04030201);
	assert_int_equal(get_be16(p + 1), 0x0102);
	assert_int_equal(get_le16(p + 1), 0x0201);
	put_le64(p, UINT64_C(0x0102030405060708));
	assert_memory_equal(p, "\10\7\6\5\4\3\2\1", 8);
	put_be32(p, 0xa1b2c3d4);
	put_le32(p + 4, 0xa1b2c3d4);
	assert_memory_equal(p, "\xa1\xb2\xc3\xd4\xd4\xc3\xb2\xa1", 8);
	put_be16(p, 0xa1b2);
	put_le16(p + 2, 0xa1b2);
	assert_memory_equal(p, "\xa1\xb2\xb2\xa1", 4);
}

static void sizes_read(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {{"0", 0}, {"500", 500}, {"500B", 500}, {"8M", 8 * MIB}, {"8m", 8 * MIB},
		{"8MB", 8 * MIB}, {"8MiB", 8 * MIB}, {"1.5G", 3 * GIB / 2}, {"0.5K", 512},
		{"1.999999999999999999K", 2047}, {"2T", 2 * TIB}, {"16383P", 16383 * 1024 * TIB},
		{"18446744073709551615", UINT64_MAX}, {"00012", 12}};
	static const char *const bad[] = {"", " ", "M", "-1", "+1", " 8M", "8M ", "8 M", "8X",
		"8MM", "8iB", "1.5", "1.5B", "1.", ".5M", "1..5M", "0x10", "1e3", "8,5M", "inf",
		"1.0000000000000000001K"};
	uint64_t bytes = 42;

	for (size_t i = 0; i < array_len(bad); i++)
		assert_int_equal(size_parse(bad[i], &bytes), -EINVAL);
	assert_int_equal(size_parse("18446744073709551616", &bytes), -ERANGE);
	assert_int_equal(size_parse("16384P", &bytes), -ERANGE);
	assert_int_equal(size_parse("99999999999999999999999M", &bytes), -ERANGE);
	assert_int_equal(bytes, 42);
	for (size_t i = 0; i < array_len(good); i++) {
		assert_int_equal(size_parse(good[i].text, &bytes), 0);
		assert_int_equal(bytes, good[i].bytes);
	}
}

static void durations_read(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} good[] = {{"90", 90000}, {"90s", 90000}, {"0", 0}, {"10m", 600000}, {"10min", 600000},
		{"12h", 43200000}, {"2d", 172800000}, {"250ms", 250}, {"1.5h", 5400000},
		{"0.25", 250}, {"36525d", INT64_C(3155760000000)}};
	static const char *const bad[] = {"", "s", "-1s", "1 s", "1w", "1.5ms", "1h30m", "1s "};
	int64_t ms = 42;

	for (size_t i = 0; i < array_len(bad); i++)
		assert_int_equal(duration_parse(bad[i], &ms), -EINVAL);
	/* whoever means "never" must not get "at once", as if the clock had gone round */
	assert_int_equal(duration_parse("36526d", &ms), -ERANGE);
	assert_int_equal(duration_parse("9223372036854775808ms", &ms), -ERANGE);
	assert_int_equal(duration_parse("9223372036854775807s", &ms), -ERANGE);
	assert_int_equal(ms, 42);
	for (size_t i = 0; i < array_len(good); i++) {
		assert_int_equal(duration_parse(good[i].text, &ms), 0);
		assert_int_equal(ms, good[i].ms);
	}
}

static void sizes_written(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} pairs[] = {{0, "0 B"}, {1023, "1023 B"}, {1024, "1 KiB"}, {1536, "1.5 KiB"},
		{5 * MIB / 2, "2.5 MiB"}, {60 * GIB, "60 GiB"}, {MIB - 1, "1 MiB"},
		{99 * MIB + MIB / 2, "99.5 MiB"}, {500 * MIB + MIB / 4, "500 MiB"},
		{1023 * MIB, "1023 MiB"}, {GIB - 1, "1 GiB"}, {UINT64_MAX, "16 EiB"}};
	char out[24];

	for (size_t i = 0; i < array_len(pairs); i++) {
		size_format(pairs[i].bytes, out);
		assert_string_equal(out, pairs[i].text);
	}
}

static void durations_written(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} pairs[] = {{0, "0 ms"}, {999, "999 ms"}, {1000, "1 s"}, {59999, "59 s"},
		{125000, "2 min 5 s"}, {4800000, "1 h 20 min"}, {273600000, "3 d 4 h"},
		{-1500, "-1 s"}, {INT64_MAX, "106751991167 d 7 h"},
		{INT64_MIN, "-106751991167 d 7 h"}};
	char out[24];

	for (size_t i = 0; i < array_len(pairs); i++) {
		duration_format(pairs[i].ms, out);
		assert_string_equal(out, pairs[i].text);
	}
}

static void u64_strict(void **state)
{
	uint64_t v = 42;
	static const char *const bad[] = {"", "-1", "+1", "1 ", " 1", "1a", "0x1"};

	for (size_t i = 0; i < array_len(bad); i++)
		assert_int_equal(u64_parse(bad[i], &v), -EINVAL);
	assert_int_equal(u64_parse("18446744073709551616", &v), -ERANGE);
	assert_int_equal(v, 42);
	assert_int_equal(u64_parse("18446744073709551615", &v), 0);
	assert_true(v == UINT64_MAX);
}

static void utf8_rules(void **state)
{
	static const char *const good[] = {"", "abc", "é", "€", "𝄞", "\xed\x9f\xbf", "\xee\x80\x80",
		"\xf4\x8f\xbf\xbf", "\x7f\x01"};
	static const char *const bad[] = {"\x80", "\xc3", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf",
		"\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
		"a\xe2\x82", "\xe2\x28\xa1", "\xf0\x9d\x84"};

	for (size_t i = 0; i < array_len(good); i++)
		assert_true(utf8_is_valid(good[i], strlen(good[i])));
	for (size_t i = 0; i < array_len(bad); i++)
		assert_false(utf8_is_valid(bad[i], strlen(bad[i])));
	assert_false(utf8_is_valid("€", 2)); /* never looks beyond len */
}

static void escapes(void **state)
{
	cleanup_buf struct buf b = {0};

	text_escape(&b, "a\tb\nc\\d\r\x01\x7f é\x80\xff𝄞\xc2\x9b\xe2\x82");
	assert_int_equal(buf_error(&b), 0);
	assert_string_equal(
		buf_text(&b), "a\\tb\\nc\\\\d\\x0d\\x01\\x7f é\\x80\\xff𝄞\\xc2\\x9b\\xe2\\x82");
}

static void text_helpers(void **state)
{
	char out[4];
	char *text = NULL;

	assert_true(text_copy(out, "abc", sizeof(out)));
	assert_string_equal(out, "abc");
	assert_false(text_copy(out, "wxyz", sizeof(out)));
	assert_string_equal(out, "wxy");
	assert_true(text_starts("abc", ""));
	assert_true(text_starts("abc", "ab"));
	assert_false(text_starts("ab", "abc"));
	assert_true(text_ends("abc", "bc"));
	assert_false(text_ends("bc", "abc"));
	assert_int_equal(text_printf(&text, "%s/%d", "x", 7), 0);
	assert_string_equal(text, "x/7");
	free(text);
	text = text_dup("y");
	assert_string_equal(text, "y");
	free(text);
}

static void cleanups(void **state)
{
	int kept, fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	char *text;

	assert_true(fd >= 0);
	{
		cleanup_fd int closing = fd;
		cleanup_fd int never = -1;
		cleanup_free char *gone = text_dup("gone"), *stays = text_dup("stays");

		assert_non_null(gone);
		text = steal_ptr(stays);
		assert_null(stays);
		errno = EXDEV;
		(void)closing;
		(void)never;
	}
	assert_int_equal(errno, EXDEV);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_string_equal(text, "stays");
	free(text);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	{
		cleanup_fd int staying = fd;

		kept = steal_fd(&staying);
	}
	assert_int_equal(kept, fd);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buf_grows),
		cmocka_unit_test(buf_bound_latches),
		cmocka_unit_test(buf_steals),
		cmocka_unit_test(numbers_in_bytes),
		cmocka_unit_test(sizes_read),
		cmocka_unit_test(durations_read),
		cmocka_unit_test(sizes_written),
		cmocka_unit_test(durations_written),
		cmocka_unit_test(u64_strict),
		cmocka_unit_test(utf8_rules),
		cmocka_unit_test(escapes),
		cmocka_unit_test(text_helpers),
		cmocka_unit_test(cleanups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
