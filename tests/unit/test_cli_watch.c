/*
 * One screen of `cpgfs status --watch`.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cli_watch.h"

static const char status_text[] =
	"{\"files\": {\"verified\": 50, \"uploaded\": 10, \"queued\": 30, \"conflict\": 2, "
	"\"held\": 3,"
	" \"failed\": 8},"
	" \"bytes\": {\"verified\": 5000, \"uploaded\": 1000, \"queued\": 3000, \"conflict\": 200,"
	" \"failed\": 800},"
	" \"held\": {\"temporary\": 1, \"junk\": 0, \"name\": 2},"
	" \"rate_bytes_per_s\": 1048576, \"eta_s\": 90, \"paused_reason\": \"no \\u001b[2J "
	"credentials\","
	" \"remote_problem\": null, \"requests\": {\"writers_waiting\": 4},"
	" \"transfers\": {\"active\": 3, \"limit\": 8},"
	" \"mount\": {\"bucket\": \"staging\", \"prefix\": \"cpg0123/broad\"}}";

static const char plates_text[] =
	"plate\tverified\tverified_bytes\tuploaded\tuploaded_bytes\tcopied\tcopied_bytes\t"
	"needs_person\tneeds_person_bytes\n"
	"p/s/b/done\t10\t1\t0\t0\t0\t0\t0\t0\n"
	"p/s/b/going\t5\t1\t0\t0\t5\t1\t0\t0\n"
	"p/s/b/stuck\t8\t1\t0\t0\t0\t0\t2\t1\n";

static void draw(unsigned width, unsigned height, bool colour, struct buf *out)
{
	struct watch_screen screen = {.width = width, .height = height, .colour = colour};
	json_t *status = json_loads(status_text, 0, NULL);

	assert_non_null(status);
	watch_draw(status, plates_text, &screen, out);
	json_decref(status);
	assert_int_equal(buf_error(out), 0);
}

static void assert_has(const struct buf *out, const char *text)
{
	if (!strstr(buf_text(out), text))
		fail_msg("no \"%s\" in\n%s", text, buf_text(out));
}

static void eighty_columns_say_it_all(void **state)
{
	cleanup_buf struct buf out = {0};
	const char *stuck, *going, *done;

	draw(80, 24, false, &out);
	assert_has(&out, "s3://staging/cpg0123/broad  1970-01-01T00:00:00Z");
	assert_has(&out, "[#############==...........]  60%  5.9 KiB of 9.8 KiB in the bucket");
	assert_has(&out, "files: 103  verified 50  on their way 40  need you 12");
	assert_has(&out, "rate: 1 MiB/s  left: 1 min 30 s  transfers: 3 of 8");
	assert_has(&out, "PAUSED: no \\x1b[2J credentials");
	assert_has(&out, "4 writers wait for room");
	assert_has(&out, "1 files with temporary names");
	assert_has(&out, "conflict 2: `cpgfs accept`");
	assert_has(&out, "failed 8: see the reason");
	assert_has(&out, "held 2: rename it");
	stuck = strstr(buf_text(&out), "p/s/b/stuck");
	going = strstr(buf_text(&out), "p/s/b/going");
	done = strstr(buf_text(&out), "p/s/b/done");
	assert_true(stuck && going && done && stuck < going && going < done);
	assert_has(&out, "] 8/10\n");
	assert_has(&out, "q quits");
	assert_null(strchr(buf_text(&out), '\033'));
}

static void every_size_is_kept(void **state)
{
	for (unsigned width = 20; width < 130; width += 7) {
		for (unsigned height = 8; height < 30; height++) {
			cleanup_buf struct buf out = {0};
			unsigned lines = 1, column = 0;

			draw(width, height, false, &out);
			for (const char *c = buf_text(&out); *c; c++) {
				column = *c == '\n' ? 0 : column + 1;
				lines += *c == '\n';
				assert_true(column <= width);
			}
			assert_true(lines <= height);
		}
	}
}

static void colours_end_where_they_began(void **state)
{
	cleanup_buf struct buf out = {0};
	unsigned on = 0, off = 0;

	draw(80, 24, true, &out);
	for (const char *at = strchr(buf_text(&out), '\033'); at; at = strchr(at + 1, '\033')) {
		if (strncmp(at, "\033[0m", 4) == 0)
			off++;
		else
			on++;
	}
	assert_true(on > 3);
	assert_int_equal(on, off);
}

static void many_plates_are_counted(void **state)
{
	cleanup_buf struct buf out = {0}, plates = {0};
	struct watch_screen screen = {.width = 80, .height = 24};
	json_t *status = json_object();

	buf_add_text(&plates, "plate\n");
	for (int i = 0; i < 100; i++)
		buf_printf(&plates, "p/s/b/%03d\t1\t1\t0\t0\t0\t0\t0\t0\n", i);
	watch_draw(status, buf_text(&plates), &screen, &out);
	assert_has(&out, "p/s/b/018 ");
	assert_null(strstr(buf_text(&out), "p/s/b/019 "));
	assert_has(&out, "and 81 more plates; q quits");
	assert_has(&out, "100%");
	json_decref(status);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(eighty_columns_say_it_all),
		cmocka_unit_test(every_size_is_kept),
		cmocka_unit_test(colours_end_where_they_began),
		cmocka_unit_test(many_plates_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
