/*
 * `.cpgfs` of a running mount without the kernel: any bytes written to control, any path looked up.
 * A command that names a token is answered there with valid JSON that says the same as the write.
 *
 *   how(1) text: 0 written to control; 1 looked up and read
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../unit/control_bench.h"
#include "fuzz.h"

#include "control_private.h"

static void end(void)
{
	void *none = NULL;

	(void)!teardown(&none);
}

static void begin(void)
{
	uint64_t d;

	(void)setup;
	log_set_level(LOG_LEVEL_ERROR);
	must(bench_setup("") == 0);
	atexit(end);
	d = make(STORE_ROOT_INO, "d", STORE_DIR);
	(void)make_file(d, "f.tif", 3);
	set_state(make_file(STORE_ROOT_INO, "odd\xff\n", 1), FILE_HELD, HELD_NAME, "why");
	fake_put(bucket, "r/x", 3, "abc");
}

/* "VERB TOKEN …" of one line: the token, or NULL. */
static char *token_of(const char *text)
{
	size_t verb = strcspn(text, " "), len;
	char *token;

	if (verb >= 32 || !text[verb] || strchr(text, '\n'))
		return NULL;
	len = strcspn(text + verb + 1, " ");
	token = strndup(text + verb + 1, len);
	must(token);
	if (strcmp(token, "-") != 0 && control_token_is_valid(token))
		return token;
	free(token);
	return NULL;
}

static void check_answer(const char *token, int r)
{
	cleanup_buf struct buf text = {0};
	char path[128];
	json_t *json;

	snprintf(path, sizeof(path), "reply/%s", token);
	must(read_as(OWNER, path, &text) == 0);
	json = json_loads(buf_text(&text), 0, NULL);
	must(json);
	must((r < 0) == !!json_object_get(json, "error"));
	must((r == 0) == json_is_true(json_object_get(json, "ok")));
	json_decref(json);
}

static void try_command(const char *text)
{
	char *token = token_of(text);
	int r = command_as(OWNER, text);

	must(r <= 0 && r > -4096);
	must(command_as(STRANGER, text) == -EACCES || command_as(STRANGER, text) == -EPERM);
	if (token)
		check_answer(token, r);
	free(token);
}

static void try_path(const char *path)
{
	cleanup_buf struct buf text = {0};
	int r = read_as(OWNER, path, &text);

	must(r <= 0 && r > -4096);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	unsigned how = fuzz_u8(&in);
	char *text = fuzz_text(&in, 4096);

	if (!control)
		begin();
	if (how & 1)
		try_path(text);
	else
		try_command(text);
	free(text);
	return 0;
}
