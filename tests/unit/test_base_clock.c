/*
 * The clocks, real and fake, and the two date formats.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base_private.h"

#include <limits.h>

static void fake_stands_still(void **state)
{
	int64_t real_ms = clock_mono_ms(), start_ms;

	clock_fake_begin(1000);
	start_ms = clock_mono_ms();
	assert_true(start_ms >= real_ms);
	assert_int_equal(clock_wall_ns(), 1000);
	clock_fake_advance_ms(60000);
	assert_int_equal(clock_mono_ms(), start_ms + 60000);
	assert_int_equal(clock_wall_ns(), 1000 + 60 * NS_PER_S);
	clock_fake_end();
	assert_true(clock_mono_ms() < start_ms + 60000);
	assert_true(clock_wall_ns() > 1600000000 * NS_PER_S);
}

static void poll_timeouts(void **state)
{
	int64_t now_ms = clock_mono_ms();

	assert_int_equal(clock_poll_timeout_ms(now_ms), 0);
	assert_int_equal(clock_poll_timeout_ms(-1), 0);
	assert_in_range(clock_poll_timeout_ms(now_ms + 100000), 90000, 100000);
	assert_int_equal(clock_poll_timeout_ms(INT64_MAX), INT_MAX);
	clock_fake_begin(0);
	assert_in_range(clock_poll_timeout_ms(clock_mono_ms() + 100000), 1, 1);
	clock_fake_advance_ms(5);
	assert_int_equal(clock_poll_timeout_ms(now_ms), 0);
	clock_fake_end();
}

static int64_t iso(const char *text)
{
	int64_t ns = -1;

	assert_int_equal(time_parse_iso8601(text, &ns), 0);
	return ns;
}

/* Seconds from `date -u -d … +%s`. */
static void iso_values(void **state)
{
	assert_int_equal(iso("1970-01-01T00:00:00Z"), 0);
	assert_int_equal(iso("2026-03-01T12:00:00Z"), 1772366400 * NS_PER_S);
	assert_int_equal(iso("2024-02-29T23:59:59Z"), 1709251199 * NS_PER_S);
	assert_int_equal(iso("2026-03-01T12:00:00.000Z"), 1772366400 * NS_PER_S);
	assert_int_equal(iso("2026-03-01T12:00:00.25Z"), 1772366400 * NS_PER_S + 250000000);
	assert_int_equal(iso("2026-03-01T12:00:00.1234567899Z"), 1772366400 * NS_PER_S + 123456789);
	assert_int_equal(iso("2026-03-01T14:00:00+02:00"), 1772366400 * NS_PER_S);
	assert_int_equal(iso("2026-03-01T11:30:00-00:30"), 1772366400 * NS_PER_S);
	assert_int_equal(iso("1969-12-31T23:59:59.5Z"), -NS_PER_S / 2);
	assert_int_equal(iso("2000-03-01T00:00:00Z"), 951868800 * NS_PER_S);
	assert_int_equal(iso("1900-03-01T00:00:00Z"), -2203891200 * NS_PER_S);
	assert_int_equal(iso("2016-12-31T23:59:60Z"), 1483228800 * NS_PER_S);
}

static void iso_refused(void **state)
{
	static const char *const bad[] = {"", "2026-03-01", "2026-03-01T12:00:00",
		"2026-03-01 12:00:00Z", "2026-3-01T12:00:00Z", "2026-13-01T12:00:00Z",
		"2026-00-01T12:00:00Z", "2026-02-29T12:00:00Z", "2026-04-31T12:00:00Z",
		"2026-03-00T12:00:00Z", "2026-03-01T24:00:00Z", "2026-03-01T12:60:00Z",
		"2026-03-01T12:00:61Z", "2026-03-01T12:00:00.Z", "2026-03-01T12:00:00Zx",
		" 2026-03-01T12:00:00Z", "2026-03-01T12:00:00+0200", "2026-03-01T12:00:00+24:00",
		"2026-03-01T12:00:00+02:60", "-026-03-01T12:00:00Z", "2026-03-01T12:00:0",
		"1900-02-29T00:00:00Z"};
	int64_t ns = 42;

	for (size_t i = 0; i < array_len(bad); i++)
		assert_int_equal(time_parse_iso8601(bad[i], &ns), -EINVAL);
	assert_int_equal(time_parse_iso8601("9999-12-31T23:59:59Z", &ns), -ERANGE);
	assert_int_equal(time_parse_iso8601("0001-01-01T00:00:00Z", &ns), -ERANGE);
	assert_int_equal(ns, 42);
}

static void iso_there_and_back(void **state)
{
	static const int64_t days[] = {
		-90000, -25567, -1, 0, 1, 58, 59, 60, 10957, 11016, 20513, 90000};
	char text[32];

	for (size_t i = 0; i < array_len(days); i++) {
		int64_t ns = (days[i] * 86400 + 3661) * NS_PER_S;

		time_format_iso8601(ns, text);
		assert_int_equal(iso(text), ns);
	}
	time_format_iso8601(1772366400 * NS_PER_S + 999999999, text);
	assert_string_equal(text, "2026-03-01T12:00:00Z");
	time_format_iso8601_ms(1772366400 * NS_PER_S + 87999999, text);
	assert_string_equal(text, "2026-03-01T12:00:00.087Z");
	time_format_iso8601_ms(-1, text);
	assert_string_equal(text, "1969-12-31T23:59:59.999Z");
}

static void http_dates(void **state)
{
	static const char *const bad[] = {"", "Sunday, 06-Nov-94 08:49:37 GMT",
		"Sun Nov  6 08:49:37 1994", "Sun, 6 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 GMT ",
		"Sun, 06 nov 1994 08:49:37 GMT", "Xxx, 06 Nov 1994 08:49:37 GMT",
		"Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET", "Su"};
	int64_t ns = 42;

	for (size_t i = 0; i < array_len(bad); i++)
		assert_int_equal(time_parse_http(bad[i], &ns), -EINVAL);
	assert_int_equal(ns, 42);
	assert_int_equal(time_parse_http("Sun, 06 Nov 1994 08:49:37 GMT", &ns), 0);
	assert_int_equal(ns, 784111777 * NS_PER_S);
	assert_int_equal(time_parse_http("Fri, 31 Dec 2027 23:59:59 GMT", &ns), 0);
	assert_int_equal(ns, 1830297599 * NS_PER_S);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fake_stands_still),
		cmocka_unit_test(poll_timeouts),
		cmocka_unit_test(iso_values),
		cmocka_unit_test(iso_refused),
		cmocka_unit_test(iso_there_and_back),
		cmocka_unit_test(http_dates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
