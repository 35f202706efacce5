/* Keys as they are typed, piped and exported. */
#include "cli_credentials.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void keys_on_the_command_line_are_noticed(void **state)
{
	static const char *const secret[] = {
		"AKIAIOSFODNN7EXAMPLE",
		"ASIAIOSFODNN7EXAMPLE",
		"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		"AWS_SECRET_ACCESS_KEY=x",
		"aws_access_key_id=x",
		"export AWS_SESSION_TOKEN=x",
		"$Env:AWS_SESSION_TOKEN='x'",
		"{\"Credentials\":{}}",
		"--secret-access-key=x",
		"--aws-session-token",
	};
	static const char *const plain[] = { "/home/user/gallery", "~/gallery", "gallery", "--env", "--stdin",
		"--force", "-", "--help", "/srv/a/long/path/of/letters/and/slashes/only/x",
		"cpg0123-example/broad", "/mnt/secret-project/gallery" };
	for (size_t i = 0; i < array_len(secret); i++)
		if (!credentials_word_is_secret(secret[i]))
			fail_msg("not noticed: %s", secret[i]);
	for (size_t i = 0; i < array_len(plain); i++)
		if (credentials_word_is_secret(plain[i]))
			fail_msg("taken for a key: %s", plain[i]);
}

static void clear_environment(void)
{
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	unsetenv("AWS_SESSION_TOKEN");
	unsetenv("AWS_CREDENTIAL_EXPIRATION");
}

static void the_environment_as_lines(void **state)
{
	struct credentials_text t;
	clear_environment();
	assert_int_equal(credentials_from_environment(&t), -ENOENT);
	setenv("AWS_ACCESS_KEY_ID", "", 1);
	assert_int_equal(credentials_from_environment(&t), -ENOENT);
	setenv("AWS_ACCESS_KEY_ID", "A", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "s/+=", 1);
	setenv("AWS_SESSION_TOKEN", "t==", 1);
	setenv("AWS_REGION", "us-east-1", 1);
	assert_int_equal(credentials_from_environment(&t), 0);
	assert_string_equal(t.text,
		"AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=s/+=\nAWS_SESSION_TOKEN=t==\n");
	assert_int_equal(t.len, strlen(t.text));
	credentials_text_release(&t);
	clear_environment();
}

static FILE *file_of(size_t bytes)
{
	FILE *f = tmpfile();
	assert_non_null(f);
	for (size_t i = 0; i < bytes; i++)
		fputc('a' + (int)(i % 26), f);
	assert_int_equal(fflush(f), 0);
	rewind(f);
	return f;
}

static void a_pipe_is_read_to_its_end(void **state)
{
	static const size_t sizes[] = { 0, 1, 5000, CREDENTIALS_TEXT_MAX };
	struct credentials_text t;
	FILE *f;
	for (size_t i = 0; i < array_len(sizes); i++) {
		f = file_of(sizes[i]);
		assert_int_equal(credentials_from_pipe(fileno(f), &t), 0);
		assert_int_equal(t.len, sizes[i]);
		assert_int_equal(strlen(t.text), sizes[i]);
		credentials_text_release(&t);
		fclose(f);
	}
	f = file_of(CREDENTIALS_TEXT_MAX + 1);
	assert_int_equal(credentials_from_pipe(fileno(f), &t), -EFBIG);
	fclose(f);
	assert_int_equal(credentials_from_pipe(-1, &t), -EBADF);
}

static void assert_odd(const char *access, const char *secret, const char *token, const char *says)
{
	struct s3_credentials k = { 0 };
	char out[256];
	text_copy(k.access_key, access, sizeof(k.access_key));
	text_copy(k.secret_key, secret, sizeof(k.secret_key));
	text_copy(k.session_token, token, sizeof(k.session_token));
	credentials_oddity(&k, out, sizeof(out));
	if (says ? !strstr(out, says) : out[0] != '\0')
		fail_msg("%s %s: \"%s\"", access, token, out);
	if (strlen(token) > 5)
		assert_null(strstr(out, token));
}

static void odd_keys(void **state)
{
	assert_odd("AKIAIOSFODNN7EXAMPLE", "s", "", NULL);
	assert_odd("ASIAIOSFODNN7EXAMPLE", "s", "t", NULL);
	assert_odd("minio", "s", "", NULL);
	assert_odd("ASIASHORT", "s", "", NULL); /* not of AWS */
	assert_odd("ASIAIOSFODNN7EXAMPLE", "s", "", "session token");
	assert_odd("AKIAIOSFODNN7EXAMPLE", "s", "STALETOKEN", "unset AWS_SESSION_TOKEN");
	assert_odd("YOUR_ACCESS_KEY", "s", "", "placeholder");
	assert_odd("AKIAIOSFODNN7EXAMPLE", "YOUR_SECRET_KEY", "", "placeholder");
	assert_odd("null", "null", "null", "placeholder");
	assert_odd("<key>", "s", "", "placeholder");
	assert_odd("AKIA...", "s", "", "placeholder");
}

static void of_a_key_only_its_end_is_shown(void **state)
{
	struct s3_credentials k = { .access_key = "ASIAIOSFODNN7EXAMPLE" };
	char tail[16];
	credentials_key_tail(&k, tail);
	assert_string_equal(tail, "…MPLE");
	text_copy(k.access_key, "minio", sizeof(k.access_key));
	credentials_key_tail(&k, tail);
	assert_string_equal(tail, "…");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_on_the_command_line_are_noticed),
		cmocka_unit_test(the_environment_as_lines),
		cmocka_unit_test(a_pipe_is_read_to_its_end),
		cmocka_unit_test(odd_keys),
		cmocka_unit_test(of_a_key_only_its_end_is_shown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
