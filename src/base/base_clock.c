/*
 * base_clock - the two clocks, real or fake, and the two date formats of S3.
 *
 * The fake starts where the real monotonic clock is, so that deadlines made before it still lie
 * ahead, and both stand still until a test moves them.
 */
#include "base_private.h"

#include <limits.h>
#include <stdatomic.h>
#include <time.h>

#define NS_PER_MS (NS_PER_S / MS_PER_S)
#define FAKE_POLL_MS 1
#define S_PER_DAY INT64_C(86400)

static atomic_bool fake_on;
static _Atomic int64_t fake_mono_ns;
static _Atomic int64_t fake_wall_ns;

static int64_t clock_read_ns(clockid_t id)
{
	struct timespec ts;

	check(clock_gettime(id, &ts) == 0);
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t clock_mono_ns(void)
{
	return atomic_load(&fake_on) ? atomic_load(&fake_mono_ns) : clock_read_ns(CLOCK_MONOTONIC);
}

int64_t clock_mono_ms(void)
{
	return clock_mono_ns() / NS_PER_MS;
}

int64_t clock_boot_ns(void)
{
	return atomic_load(&fake_on) ? atomic_load(&fake_mono_ns) : clock_read_ns(CLOCK_BOOTTIME);
}

int64_t clock_wall_ns(void)
{
	return atomic_load(&fake_on) ? atomic_load(&fake_wall_ns) : clock_read_ns(CLOCK_REALTIME);
}

bool clock_is_fake(void)
{
	return atomic_load(&fake_on);
}

void clock_fake_begin(int64_t wall_ns)
{
	atomic_store(&fake_mono_ns, clock_read_ns(CLOCK_MONOTONIC));
	atomic_store(&fake_wall_ns, wall_ns);
	atomic_store(&fake_on, true);
}

void clock_fake_advance_ms(int64_t ms)
{
	check(clock_is_fake() && ms >= 0);
	atomic_fetch_add(&fake_mono_ns, ms * NS_PER_MS);
	atomic_fetch_add(&fake_wall_ns, ms * NS_PER_MS);
}

void clock_fake_set_ahead_ms(int64_t ms)
{
	check(clock_is_fake());
	atomic_fetch_add(&fake_wall_ns, ms * NS_PER_MS);
}

void clock_fake_end(void)
{
	atomic_store(&fake_on, false);
}

struct timespec clock_timespec_of_ms(int64_t deadline_ms)
{
	if (deadline_ms < 0)
		deadline_ms = 0;
	return (struct timespec){
		.tv_sec = deadline_ms / MS_PER_S, .tv_nsec = deadline_ms % MS_PER_S * NS_PER_MS};
}

int clock_poll_timeout_ms(int64_t deadline_ms)
{
	int64_t now_ms = clock_mono_ms();

	if (deadline_ms <= now_ms)
		return 0;
	if (clock_is_fake())
		return FAKE_POLL_MS;
	return deadline_ms - now_ms > INT_MAX ? INT_MAX : (int)(deadline_ms - now_ms);
}

/* ---- dates ---- */

struct civil {
	int year, month, day, hour, minute, second;
	int64_t fraction_ns;
	int offset_s; /* local minus UTC */
};

static bool year_is_leap(int y)
{
	return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

static int days_of_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return month == 2 && year_is_leap(year) ? 29 : days[month - 1];
}

/* Days since 1970-01-01 in the Gregorian calendar, years counted from March. */
static int64_t days_of_civil(const struct civil *c)
{
	int64_t y = c->month <= 2 ? c->year - 1 : c->year;
	int64_t month_from_march = (c->month + 9) % 12;
	int64_t day_of_year = (153 * month_from_march + 2) / 5 + c->day - 1;

	return 365 * y + y / 4 - y / 100 + y / 400 + day_of_year - 719468;
}

/* -EINVAL for a date that no calendar has, -ERANGE beyond what nanoseconds can count. */
static int civil_to_ns(const struct civil *c, int64_t *ret_ns)
{
	int64_t s;

	if (c->month < 1 || c->month > 12 || c->day < 1 ||
		c->day > days_of_month(c->year, c->month) || c->hour > 23 || c->minute > 59 ||
		c->second > 60)
		return -EINVAL;
	if (c->year < 1678 || c->year > 2261)
		return -ERANGE;
	s = days_of_civil(c) * S_PER_DAY + INT64_C(3600) * c->hour + INT64_C(60) * c->minute +
	    c->second - c->offset_s;
	*ret_ns = s * NS_PER_S + c->fraction_ns;
	return 0;
}

/* Exactly `digits` digits at *p. */
static bool take_number(const char **p, int digits, int *ret)
{
	int value = 0;

	for (int i = 0; i < digits; i++, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		value = value * 10 + (**p - '0');
	}
	*ret = value;
	return true;
}

static bool take_char(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

static bool take_time(const char **p, struct civil *c)
{
	return take_number(p, 2, &c->hour) && take_char(p, ':') && take_number(p, 2, &c->minute) &&
	       take_char(p, ':') && take_number(p, 2, &c->second);
}

/* ".123": at least one digit; beyond nine they are dropped. Nothing there is fine. */
static bool take_fraction(const char **p, int64_t *ret_ns)
{
	int64_t unit = NS_PER_S / 10;

	if (!take_char(p, '.'))
		return true;
	if (**p < '0' || **p > '9')
		return false;
	for (; **p >= '0' && **p <= '9'; (*p)++, unit /= 10)
		*ret_ns += unit * (**p - '0');
	return true;
}

/* "Z" or "+hh:mm" / "-hh:mm". */
static bool take_zone(const char **p, int *ret_offset_s)
{
	int sign, hours, minutes;

	if (take_char(p, 'Z'))
		return true;
	sign = **p == '+' ? 1 : -1;
	if (!take_char(p, '+') && !take_char(p, '-'))
		return false;
	if (!take_number(p, 2, &hours) || !take_char(p, ':') || !take_number(p, 2, &minutes))
		return false;
	*ret_offset_s = sign * (hours * 3600 + minutes * 60);
	return hours < 24 && minutes < 60;
}

int time_parse_iso8601(const char *text, int64_t *ret_ns)
{
	struct civil c = {0};
	const char *p = text;

	if (!take_number(&p, 4, &c.year) || !take_char(&p, '-') || !take_number(&p, 2, &c.month) ||
		!take_char(&p, '-') || !take_number(&p, 2, &c.day) || !take_char(&p, 'T') ||
		!take_time(&p, &c) || !take_fraction(&p, &c.fraction_ns) ||
		!take_zone(&p, &c.offset_s) || *p != '\0')
		return -EINVAL;
	return civil_to_ns(&c, ret_ns);
}

static const char *const month_names[] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char *const day_names[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

/* One of the three-letter names; *ret_index counts from 0. */
static bool take_name(const char **p, const char *const *names, size_t count, int *ret_index)
{
	for (size_t i = 0; i < count; i++) {
		if (strncmp(*p, names[i], 3) == 0) {
			*p += 3;
			*ret_index = (int)i;
			return true;
		}
	}
	return false;
}

int time_parse_http(const char *text, int64_t *ret_ns)
{
	struct civil c = {0};
	const char *p = text;
	int day_of_week;

	if (!take_name(&p, day_names, array_len(day_names), &day_of_week) || !take_char(&p, ',') ||
		!take_char(&p, ' ') || !take_number(&p, 2, &c.day) || !take_char(&p, ' ') ||
		!take_name(&p, month_names, array_len(month_names), &c.month) ||
		!take_char(&p, ' ') || !take_number(&p, 4, &c.year) || !take_char(&p, ' ') ||
		!take_time(&p, &c) || strcmp(p, " GMT") != 0)
		return -EINVAL;
	c.month++;
	return civil_to_ns(&c, ret_ns);
}

void time_format_iso8601(int64_t wall_ns, char out[32])
{
	time_t s = wall_ns / NS_PER_S - (wall_ns % NS_PER_S < 0 ? 1 : 0);
	struct tm tm;

	check(gmtime_r(&s, &tm) && strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) > 0);
}

void time_format_iso8601_ms(int64_t wall_ns, char out[32])
{
	int64_t within_ns = (wall_ns % NS_PER_S + NS_PER_S) % NS_PER_S;

	time_format_iso8601(wall_ns, out);
	snprintf(out + strlen("2026-03-01T12:00:00"), 8, ".%03dZ", (int)(within_ns / NS_PER_MS));
}
