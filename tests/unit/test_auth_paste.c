/*
 * Credentials as people paste them.
 */
#include "auth_rig.h"

static struct s3_credentials keys;
static char target[AUTH_TARGET_MAX];

static int parse(const char *text, char **ret_message)
{
	explicit_bzero(&keys, sizeof(keys));
	return auth_parse_pasted(text, strlen(text), &keys, target, ret_message);
}

static void assert_taken(const char *text, const char *access, const char *secret,
	const char *token, int64_t expires_s)
{
	cleanup_free char *message = NULL;
	int err = parse(text, &message);
	if (err)
		print_error("%s\n%s\n", text, message);
	assert_int_equal(err, 0);
	assert_string_equal(keys.access_key, access);
	assert_string_equal(keys.secret_key, secret);
	assert_string_equal(keys.session_token, token);
	assert_int_equal(keys.expires_at_ns, expires_s * NS_PER_S);
}

static void assert_refused_text(const char *text, const char *part)
{
	cleanup_free char *message = NULL;
	assert_int_equal(parse(text, &message), -EINVAL);
	assert_non_null(message);
	if (!strstr(message, part))
		print_error("\"%s\" lacks \"%s\"\n", message, part);
	assert_non_null(strstr(message, part));
	assert_no_secret(message);
	assert_string_equal(keys.secret_key, "");
}

static void json_of_the_aws_tool(void **state)
{
	/* aws s3control get-data-access */
	assert_taken(
		"{\n    \"Credentials\": {\n        \"AccessKeyId\": \"ASIA1\",\n"
		"        \"SecretAccessKey\": \"SECRET/1+\",\n        \"SessionToken\": \"T==\",\n"
		"        \"Expiration\": \"2026-03-02T00:00:00+00:00\"\n    },\n"
		"    \"MatchedGrantTarget\": \"s3://staging/cpg0037-oasis/broad/*\",\n"
		"    \"Grantee\": {\"GranteeType\": \"IAM\"}\n}\n",
		"ASIA1", "SECRET/1+", "T==", RIG_NOON + 12 * 3600);
	assert_string_equal(target, "s3://staging/cpg0037-oasis/broad/*");
	/* aws sts assume-role */
	assert_taken("{\"Credentials\": {\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"SECRET\", "
		     "\"SessionToken\": \"T\", \"Expiration\": \"2026-03-01T13:00:00Z\"}, "
		     "\"AssumedRoleUser\": {}}",
		"A", "SECRET", "T", RIG_NOON + 3600);
	assert_string_equal(target, "");
	/* aws configure export-credentials */
	assert_taken("{\"Version\": 1, \"AccessKeyId\": \"A\", \"SecretAccessKey\": \"SECRET\"}",
		"A", "SECRET", "", 0);
	/* aws sso get-role-credentials */
	assert_taken(
		"{\"roleCredentials\": {\"accessKeyId\": \"A\", \"secretAccessKey\": \"SECRET\", "
		"\"sessionToken\": \"T\", \"expiration\": 1772370000000}}",
		"A", "SECRET", "T", RIG_NOON + 3600);
	/* with the prompt and what follows */
	assert_taken("$ aws …\n{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"SECRET\", "
		     "\"Token\": \"T\"}\n$ exit\n",
		"A", "SECRET", "T", 0);
}

static void lines(void **state)
{
	static const char *const texts[] = {
		/* source create_credentials.sh; export -p | grep AWS */
		"export AWS_ACCESS_KEY_ID=A\nexport AWS_SECRET_ACCESS_KEY=SECRET/1+=\n"
		"export AWS_SESSION_TOKEN=T\nexport "
		"AWS_CREDENTIAL_EXPIRATION=2026-03-01T13:00:00Z\n",
		"declare -x AWS_ACCESS_KEY_ID=\"A\"\ndeclare -x "
		"AWS_SECRET_ACCESS_KEY=\"SECRET/1+=\"\n"
		"declare -x AWS_SESSION_TOKEN=\"T\"\ndeclare -x AWS_CREDENTIAL_EXPIRATION="
		"\"2026-03-01T13:00:00Z\"\n",
		"AWS_ACCESS_KEY_ID='A';\r\nAWS_SECRET_ACCESS_KEY='SECRET/1+=';\r\n"
		"AWS_SESSION_TOKEN='T';\r\nAWS_CREDENTIAL_EXPIRATION='2026-03-01T13:00:00Z';\r\n",
		"$Env:AWS_ACCESS_KEY_ID=\"A\"\n$Env:AWS_SECRET_ACCESS_KEY=\"SECRET/1+=\"\n"
		"$Env:AWS_SESSION_TOKEN=\"T\"\n$Env:AWS_CREDENTIAL_EXPIRATION=\"2026-03-01T13:00:"
		"00Z\"",
		"set AWS_ACCESS_KEY_ID=A\nSET AWS_SECRET_ACCESS_KEY=SECRET/1+=\nset "
		"AWS_SESSION_TOKEN=T\n"
		"set AWS_CREDENTIAL_EXPIRATION=2026-03-01T13:00:00Z\n",
		"[cpg_staging]\naws_access_key_id = A\naws_secret_access_key = SECRET/1+=\n"
		"aws_session_token = T\naws_credential_expiration = 2026-03-01T13:00:00Z\nregion = "
		"us-east-1\n",
		"PATH=/bin\nHOME=/root\nAWS_ACCESS_KEY_ID=A\nAWS_REGION=us-east-1\n"
		"AWS_SECRET_ACCESS_KEY=SECRET/1+=\n\n  AWS_SESSION_TOKEN=T  \n"
		"AWS_CREDENTIAL_EXPIRATION=2026-03-01T14:00:00+01:00\n",
	};
	for (size_t i = 0; i < array_len(texts); i++) {
		assert_taken(texts[i], "A", "SECRET/1+=", "T", RIG_NOON + 3600);
		assert_string_equal(target, "");
	}
	assert_taken("AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=SECRET", "A", "SECRET", "", 0);
	/* the later line counts */
	assert_taken("AWS_ACCESS_KEY_ID=old\nAWS_SECRET_ACCESS_KEY=SECRET0\nAWS_ACCESS_KEY_ID=A\n"
		     "AWS_SECRET_ACCESS_KEY=SECRET",
		"A", "SECRET", "", 0);
}

static void lines_of_other_shells(void **state)
{
	static const char *const texts[] = {
		"export AWS_ACCESS_KEY_ID=A; export AWS_SECRET_ACCESS_KEY=SECRET/1+=; export "
		"AWS_SESSION_TOKEN=T\n",
		"export AWS_ACCESS_KEY_ID=A AWS_SECRET_ACCESS_KEY=SECRET/1+= AWS_SESSION_TOKEN='T'",
		"AWS_ACCESS_KEY_ID=A && AWS_SECRET_ACCESS_KEY=SECRET/1+= && AWS_SESSION_TOKEN=T",
		"set \"AWS_ACCESS_KEY_ID=A\"\r\nset \"AWS_SECRET_ACCESS_KEY=SECRET/1+=\"\r\nset "
		"\"AWS_SESSION_TOKEN=T\"\r\n",
		"setx AWS_ACCESS_KEY_ID A\r\nsetx AWS_SECRET_ACCESS_KEY \"SECRET/1+=\"\r\nsetx "
		"AWS_SESSION_TOKEN T\r\n",
		"$Env:AWS_ACCESS_KEY_ID = 'A'; $Env:AWS_SECRET_ACCESS_KEY = 'SECRET/1+='; "
		"$Env:AWS_SESSION_TOKEN = 'T'",
	};
	for (size_t i = 0; i < array_len(texts); i++)
		assert_taken(texts[i], "A", "SECRET/1+=", "T", 0);
	/* a secret of another server may hold any character */
	assert_taken("aws_access_key_id = A\naws_secret_access_key = SEC;RET&&1\n", "A",
		"SEC;RET&&1", "", 0);
}

/* What the last set lacks is not taken from the one before. */
static void two_sets_are_not_mixed(void **state)
{
	assert_refused_text("AWS_ACCESS_KEY_ID=OLD\nAWS_SECRET_ACCESS_KEY=SECRET1\n"
			    "AWS_SESSION_TOKEN=T1\nAWS_ACCESS_KEY_ID=NEW\n",
		"an access key id without a secret key");
	assert_taken("[a]\naws_access_key_id = A\naws_secret_access_key = SECRET1\n"
		     "aws_session_token = T\naws_expiration = 2026-03-01T13:00:00Z\n"
		     "[b]\naws_access_key_id = B\naws_secret_access_key = SECRET\n",
		"B", "SECRET", "", 0);
	/* of one set twice, too */
	assert_taken("AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=SECRET\n"
		     "$env:AWS_ACCESS_KEY_ID=\"A\"\n$env:AWS_SECRET_ACCESS_KEY=\"SECRET\"\n",
		"A", "SECRET", "", 0);
}

static void what_is_refused(void **state)
{
	char token[5000];
	cleanup_free char *text = NULL;
	memset(token, 't', sizeof(token) - 1);
	token[sizeof(token) - 1] = '\0';
	assert_refused_text("", "no credentials in this text: paste the JSON of");
	assert_refused_text("hello\n", "no credentials in this text");
	assert_refused_text("AWS_ACCESS_KEY_ID=A\n", "an access key id without a secret key");
	assert_refused_text(
		"AWS_SECRET_ACCESS_KEY=SECRET\n", "a secret key without an access key id");
	assert_refused_text("{\"AccessKeyId\": \"A\"}", "no AccessKeyId and SecretAccessKey in it");
	assert_refused_text("{\"Credentials\": {}}", "holds no usable credentials");
	assert_refused_text(
		"{\"AccessKeyId\": \"A b\", \"SecretAccessKey\": \"SECRET\"}", "a space");
	assert_refused_text("AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=SECRET x\n", "a space");
	assert_refused_text(
		"{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"SECRET\", \"Expiration\": "
		"\"soon\"}",
		"its Expiration is no time");
	assert_int_equal(text_printf(&text,
				 "AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=SECRET\n"
				 "AWS_SESSION_TOKEN=%s\n",
				 token),
		0);
	assert_refused_text(text, "longer than any key");
	/* cut off while copying; another --output */
	assert_refused_text(
		"{\"Credentials\": {\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"SEC", "all of it");
	assert_refused_text("CREDENTIALS\tA\t2026-03-01T13:00:00Z\tSECRET\tT\n", "--output json");
	assert_refused_text("|  AccessKeyId  |  A  |\n|  SecretAccessKey  |  SECRET |\n",
		"--output json");
	assert_refused_text("Credentials:\n  AccessKeyId: A\n", "--output json");
	cleanup_free char *message = NULL;
	assert_int_equal(auth_parse_pasted("A\0B", 3, &keys, target, &message), -EINVAL);
	assert_non_null(strstr(message, "this is no text"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_of_the_aws_tool),
		cmocka_unit_test(lines),
		cmocka_unit_test(lines_of_other_shells),
		cmocka_unit_test(two_sets_are_not_mixed),
		cmocka_unit_test(what_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
