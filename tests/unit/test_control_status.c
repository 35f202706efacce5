/*
 * What `.cpgfs` tells: status, status.json, metrics, the tables.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "control_bench.h"

static json_t *status_json(void)
{
	cleanup_buf struct buf text = {0};
	json_t *json;

	assert_int_equal(read_as(STRANGER, "status.json", &text), 0);
	json = json_loads(buf_text(&text), 0, NULL);
	assert_non_null(json);
	return json;
}

static json_int_t number(const json_t *json, const char *table, const char *name)
{
	const json_t *value = json_object_get(table ? json_object_get(json, table) : json, name);

	assert_true(json_is_integer(value));
	return json_integer_value(value);
}

/* One file of each kind that tells apart the tables; all in "d". */
static void make_some(void)
{
	uint64_t d = make(STORE_ROOT_INO, "d", STORE_DIR);

	(void)make_file(d, "closed", 10);
	(void)make(d, "open", STORE_FILE);
	set_state(make_file(d, "failed\tname\n", 20), FILE_FAILED, HELD_NOT, "refused: why");
	set_state(make_file(d, "Thumbs.db", 1), FILE_HELD, HELD_JUNK, "junk");
	set_state(make_file(d, "a b", 2), FILE_HELD, HELD_NAME, "a blank");
	set_state(make_file(d, ".x.aBcDeF", 4), FILE_HELD, HELD_TEMPORARY, "temporary");
}

static void an_empty_mount_is_done_and_says_that_it_is_empty(void **state)
{
	json_t *json = status_json();
	cleanup_buf struct buf text = {0};

	assert_int_equal(number(json, NULL, "exit_code"), 0);
	assert_int_equal(number(json, "files", "queued"), 0);
	assert_int_equal(json_object_size(json_object_get(json, "files")), FILE_STATE_COUNT - 1);
	assert_int_equal(json_object_size(json_object_get(json, "bytes")), FILE_STATE_COUNT - 1);
	json_decref(json);
	assert_int_equal(read_as(STRANGER, "status", &text), 0);
	assert_non_null(strstr(buf_text(&text), "nothing was copied in here yet"));
	assert_null(strstr(buf_text(&text), "all verified"));
}

static void json_has_numbers_for_all(void **state)
{
	json_t *json;

	make_some();
	wait_paused(true);
	json = status_json();
	assert_int_equal(number(json, "files", "closed"), 1);
	assert_int_equal(number(json, "bytes", "closed"), 10);
	assert_int_equal(number(json, "files", "open"), 1);
	assert_int_equal(number(json, "files", "failed"), 1);
	assert_int_equal(number(json, "bytes", "failed"), 20);
	assert_int_equal(number(json, "files", "held"), 3);
	assert_int_equal(number(json, "held", "junk"), 1);
	assert_int_equal(number(json, "held", "name"), 1);
	assert_int_equal(number(json, "held", "temporary"), 1);
	assert_int_equal(number(json, "cache", "size_bytes"), GIB);
	assert_true(number(json, "cache", "used_bytes") >= 37);
	assert_true(number(json, "cache", "pending_bytes") >= 37);
	assert_int_equal(number(json, NULL, "jobs"), 0);
	assert_int_equal(number(json, NULL, "pid"), getpid());
	assert_int_equal(number(json, NULL, "exit_code"), 3);
	assert_int_equal(number(json, NULL, "rate_bytes_per_s"), 0);
	assert_non_null(json_object_get(json, "eta_s"));
	assert_true(json_is_string(json_object_get(json, "paused_reason"))); /* by hand */
	assert_string_equal(json_string_value(json_array_get(json_object_get(json, "options"), 0)),
		"acl=none");
	/* not UTF-8, yet JSON */
	assert_string_equal(json_string_value(json_object_get(
				    json_object_get(json, "mount"), "mountpoint")),
		"/mnt/odd\\xff");
	json_decref(json);
}

static void nothing_paused_is_null(void **state)
{
	json_t *json;

	assert_int_equal(command("resume"), 0);
	wait_paused(false);
	json = status_json();
	assert_true(json_is_null(json_object_get(json, "paused_reason")));
	json_decref(json);
}

static void status_names_every_way_out(void **state)
{
	static const char *const parts[] = {"s3://the-bucket/", "PAUSED", "failed 1 (failed.tsv)",
		"cpgfs retry", "held, name 1 (rejected.tsv)", "cpgfs rename-clean",
		"held, junk 1 (rejected.tsv)", "held, temporary 1", "cache: ",
		"some files need you"};
	cleanup_buf struct buf text = {0};

	make_some();
	wait_paused(true);
	assert_int_equal(read_as(STRANGER, "status", &text), 0);
	for (size_t i = 0; i < array_len(parts); i++) {
		if (!strstr(buf_text(&text), parts[i]))
			fail_msg("\"%s\" is not in:\n%s", parts[i], buf_text(&text));
	}
}

static void assert_table(const char *name, const char *expected)
{
	cleanup_buf struct buf text = {0};

	assert_int_equal(read_as(STRANGER, name, &text), 0);
	assert_string_equal(buf_text(&text), expected);
}

static void tables_have_a_line_a_file(void **state)
{
	cleanup_buf struct buf text = {0};

	make_some();
	assert_table("failed.tsv", "path\tstate\treason\tattempts\tremedy\n"
				   "d/failed\\tname\\n\tfailed\trefused: why\t0\t"
				   "see the reason, then `cpgfs retry`\n");
	assert_table("rejected.tsv",
		"path\tkind\treason\tremedy\n"
		"d/Thumbs.db\tjunk\tjunk\tnothing to do: such files are never sent\n"
		"d/a b\tname\ta blank\trename it in the mount (`cpgfs rename-clean` renames folders)\n"
		"d/.x.aBcDeF\ttemporary\ttemporary\t"
		"nothing to do: it is sent when it gets its real name\n");
	assert_table("uploaded.tsv",
		"key\tsize_bytes\tcrc64nvme\tetag\tuploaded_at\tverified_at\tstate\tmtime\tpath\n");
	assert_int_equal(read_as(STRANGER, "queue.tsv", &text), 0);
	assert_non_null(strstr(buf_text(&text), "\nd/closed\tclosed\t10\t20"));
	assert_non_null(strstr(buf_text(&text), "\nd/open\topen\t0\t-\t"));
	assert_null(strstr(buf_text(&text), "Thumbs"));
}

static void uploaded_tells_the_proof(void **state)
{
	uint64_t ino = make_file(STORE_ROOT_INO, "f", 3), crc = crc64nvme(0, "xxx", 3);
	struct store_transition t = {.ino = ino, .from = FILE_SETTLED, .to = FILE_UPLOADED};
	struct store_object object = {.key = "k\xfe",
		.etag = "tag",
		.size_bytes = 3,
		.has_crc64nvme = true,
		.crc64nvme = crc,
		.uploaded_at_ns = 1700000000 * NS_PER_S};
	struct store_attr attr;

	set_state(ino, FILE_SETTLED, HELD_NOT, NULL);
	assert_int_equal(store_attr(store, ino, &attr), 0);
	t.generation = object.generation = attr.generation;
	assert_int_equal(store_object_set(store, &t, &object, false), 0);
	{
		cleanup_buf struct buf expected = {0};
		char text[16], mtime[32];

		crc64nvme_to_text(crc, text);
		time_format_iso8601(attr.mtime_ns, mtime);
		buf_printf(&expected,
			"key\tsize_bytes\tcrc64nvme\tetag\tuploaded_at\tverified_at\tstate\tmtime\tpath\n"
			"k\\xfe\t3\t%s\ttag\t2023-11-14T22:13:20Z\t-\tuploaded\t%s\tf\n",
			text, mtime);
		assert_table("uploaded.tsv", buf_text(&expected));
	}
}

static void *open_stream(const char *path)
{
	struct fs_virtual_attr attr;
	void *stream = NULL;

	assert_int_equal(look(path, &attr), 0);
	assert_int_equal(tree.stream_open(tree.user, attr.id, STRANGER, &stream), 0);
	assert_non_null(stream);
	return stream;
}

static void read_from(void *stream, size_t block, struct buf *out)
{
	cleanup_free char *data = malloc(block);
	ssize_t n;

	buf_clear(out);
	while ((n = tree.stream_read(tree.user, stream, data, block, out->len)) > 0)
		buf_add(out, data, (size_t)n);
	assert_int_equal(n, 0);
	assert_int_equal(buf_error(out), 0);
}

static unsigned count_rows(const struct buf *text)
{
	unsigned rows = 0;

	for (const char *p = buf_text(text); (p = strchr(p, '\n')); p++)
		rows += p[1] == 'f';
	return rows;
}

#define ROWS 1500

/* Some blocks of it: read in one go, here and there, and again when it has become shorter. */
static void a_long_table_is_made_while_it_is_read(void **state)
{
	cleanup_buf struct buf all = {0}, again = {0};
	uint64_t inos[ROWS];
	char name[256], part[3000];
	void *stream;

	for (unsigned i = 0; i < ROWS; i++) {
		snprintf(name, sizeof(name), "f%u-%0230u", i, i);
		inos[i] = make_file(STORE_ROOT_INO, name, 1);
	}
	stream = open_stream("queue.tsv");
	for (unsigned i = ROWS - 200; i < ROWS; i++) /* go on meanwhile: there, and once */
		set_state(inos[i], FILE_SETTLED, HELD_NOT, NULL);
	read_from(stream, 100000, &all);
	assert_int_equal(count_rows(&all), ROWS);
	assert_non_null(strstr(buf_text(&all), "\tsettled\t"));
	assert_true(all.len > 3 * 128 * KIB);
	for (size_t off = 0; off < all.len; off += 77777) {
		size_t at = all.len - off, len = off < sizeof(part) ? off : sizeof(part);

		assert_int_equal(
			tree.stream_read(tree.user, stream, part, sizeof(part), at), (ssize_t)len);
		assert_memory_equal(part, all.data + at, len);
	}
	assert_int_equal(tree.stream_read(tree.user, stream, part, sizeof(part), all.len + 5), 0);
	for (unsigned i = 0; i < ROWS; i += 2)
		set_state(inos[i], FILE_HELD, HELD_JUNK, "junk");
	read_from(stream, sizeof(part), &again);
	assert_int_equal(again.len, all.len); /* whatever it tells now */
	for (char *at = again.data, *line; (line = strsep(&at, "\n"));)
		assert_true(!*line || ((line[0] == 'f' || line == again.data) && strchr(line, '\t')));
	tree.stream_close(tree.user, stream);
	stream = open_stream("queue.tsv");
	read_from(stream, 4096, &again);
	assert_int_equal(count_rows(&again), ROWS / 2);
	tree.stream_close(tree.user, stream);
}

static void metrics_are_readable_by_prometheus(void **state)
{
	cleanup_buf struct buf text = {0};
	char *at, *line;

	make_some();
	wait_paused(true);
	assert_int_equal(read_as(STRANGER, "metrics", &text), 0);
	assert_non_null(strstr(buf_text(&text), "\ncpgfs_files{state=\"failed\"} 1\n"));
	assert_non_null(strstr(buf_text(&text), "\ncpgfs_held_files{kind=\"name\"} 1\n"));
	assert_non_null(strstr(buf_text(&text), "\ncpgfs_paused{reason=\"by_hand\"} 1\n"));
	at = text.data;
	while ((line = strsep(&at, "\n")) && *line) {
		const char *blank = strrchr(line, ' ');
		uint64_t value;

		if (*line == '#')
			continue;
		assert_true(text_starts(line, "cpgfs_"));
		assert_int_equal(u64_parse(blank + 1, &value), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_empty_mount_is_done_and_says_that_it_is_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(json_has_numbers_for_all, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_paused_is_null, setup, teardown),
		cmocka_unit_test_setup_teardown(status_names_every_way_out, setup, teardown),
		cmocka_unit_test_setup_teardown(tables_have_a_line_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(uploaded_tells_the_proof, setup, teardown),
		cmocka_unit_test_setup_teardown(a_long_table_is_made_while_it_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(
			metrics_are_readable_by_prometheus, setup, teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
