/*
 * `.cpgfs/credentials`: who may write it, what it takes, what it answers, and that it tells nothing.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "control_private.h"

#include "control_bench.h"

static int setup_chain(void **state)
{
	static const char *const names[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
		"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE",
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"};

	for (size_t i = 0; i < array_len(names); i++)
		unsetenv(names[i]);
	setenv("HOME", "/nonexistent", 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	bench_has_chain = true;
	return bench_setup("p/q");
}

static int hand_over_as(uid_t uid, const char *text)
{
	struct fs_virtual_attr attr;

	assert_int_equal(look("credentials", &attr), 0);
	assert_int_equal(attr.mode, 0600);
	return tree.write_all(tree.user, attr.id, uid, text, strlen(text));
}

static void assert_uses(const char *access, const char *secret, const char *token)
{
	struct s3_credentials keys;

	assert_int_equal(auth_get(auth, &keys), 0);
	assert_string_equal(keys.access_key, access);
	assert_string_equal(keys.secret_key, secret);
	assert_string_equal(keys.session_token, token);
}

#define LINES                                                                                      \
	"export AWS_ACCESS_KEY_ID=ASIAONE\nexport AWS_SECRET_ACCESS_KEY=secretONE\n"               \
	"export AWS_SESSION_TOKEN=tokenONE\n"
#define JSON                                                                                       \
	"{\"Credentials\": {\"AccessKeyId\": \"ASIATWO\", \"SecretAccessKey\": \"secretTWO\", "      \
	"\"SessionToken\": \"tokenTWO\", \"Expiration\": \"2099-01-01T00:00:00Z\"}}"

static void what_is_handed_over_is_used(void **state)
{
	json_t *said;

	assert_int_equal(hand_over_as(OWNER, LINES), 0);
	assert_uses("ASIAONE", "secretONE", "tokenONE");
	assert_int_equal(hand_over_as(OWNER, "# reply t1\n" JSON), 0);
	assert_uses("ASIATWO", "secretTWO", "tokenTWO");
	said = answer("t1");
	assert_true(json_is_true(json_object_get(said, "ok")));
	assert_string_equal(
		json_string_value(json_object_get(said, "expires_at")), "2099-01-01T00:00:00Z");
	json_decref(said);
}

static void only_the_owner_and_root_hand_over(void **state)
{
	struct s3_credentials keys;
	cleanup_buf struct buf text = {0};

	assert_int_equal(hand_over_as(STRANGER, LINES), -EACCES);
	assert_true(auth_get(auth, &keys) < 0);
	assert_int_equal(read_as(OWNER, "credentials", &text), -EACCES);
	assert_int_equal(hand_over_as(0, LINES), 0);
	assert_uses("ASIAONE", "secretONE", "tokenONE");
}

/* The old ones stay in use, and the answer names the reason without a value. */
static void what_cannot_be_used_is_refused(void **state)
{
	static const char *const wrong[] = {
		"",
		"\n",
		"nonsense",
		"AWS_ACCESS_KEY_ID=ASIATHREE\n",
		"AWS_ACCESS_KEY_ID=ASIATHREE\nAWS_SECRET_ACCESS_KEY=secret THREE\n",
		"{\"Credentials\": {\"AccessKeyId\": \"ASIATHREE\"}}",
		("{\"AccessKeyId\": \"ASIATHREE\", \"SecretAccessKey\": \"secretTHREE\", "
		 "\"SessionToken\": \"tokenTHREE\", \"Expiration\": \"2001-01-01T00:00:00Z\"}"),
	};

	assert_int_equal(hand_over_as(OWNER, LINES), 0);
	for (size_t i = 0; i < array_len(wrong); i++) {
		cleanup_free char *line = NULL;
		char token[16];
		json_t *said;

		snprintf(token, sizeof(token), "w%zu", i);
		assert_int_equal(text_printf(&line, "# reply %s\n%s", token, wrong[i]), 0);
		assert_int_equal(hand_over_as(OWNER, line), -EINVAL);
		said = answer(token);
		const char *error = json_string_value(json_object_get(said, "error"));
		assert_non_null(error);
		assert_null(strstr(error, "THREE"));
		json_decref(said);
		assert_uses("ASIAONE", "secretONE", "tokenONE");
	}
}

/* A first line that is no reply line is part of the text. */
static void odd_reply_lines(void **state)
{
	struct fs_virtual_attr attr;

	assert_int_equal(hand_over_as(OWNER, "# reply bad.token\n" LINES), 0);
	assert_int_equal(look("reply/bad.token", &attr), -ENOENT);
	assert_int_equal(hand_over_as(OWNER, "# reply \n" LINES), 0);
	assert_int_equal(hand_over_as(OWNER, "# my keys\n" LINES), 0);
	assert_int_equal(hand_over_as(OWNER, "# reply t9"), -EINVAL);
	assert_int_equal(look("reply/t9", &attr), 0);
}

static void status_tells_no_secret(void **state)
{
	static const char *const files[] = {"status", "status.json", "metrics"};

	assert_int_equal(hand_over_as(OWNER, "# reply t1\n" LINES), 0);
	for (size_t i = 0; i < array_len(files); i++) {
		cleanup_buf struct buf text = {0};

		assert_int_equal(read_as(OWNER, files[i], &text), 0);
		assert_null(strstr(buf_text(&text), "secretONE"));
		assert_null(strstr(buf_text(&text), "tokenONE"));
	}
	cleanup_buf struct buf reply = {0};
	assert_int_equal(read_as(OWNER, "reply/t1", &reply), 0);
	assert_null(strstr(buf_text(&reply), "ONE"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_handed_over_is_used, setup_chain, teardown),
		cmocka_unit_test_setup_teardown(
			only_the_owner_and_root_hand_over, setup_chain, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_used_is_refused, setup_chain, teardown),
		cmocka_unit_test_setup_teardown(odd_reply_lines, setup_chain, teardown),
		cmocka_unit_test_setup_teardown(status_tells_no_secret, setup_chain, teardown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
