/*
 * Pasted credentials: usable ones or a refusal whose message holds none of them.
 */
#include "fuzz.h"
#include "auth_keys.h"
#include "cpgfs/auth.h"

#define SECRET "wJalrXUtnFEMI" /* in the corpus as a part of secrets */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct s3_credentials keys;
	static char target[AUTH_TARGET_MAX];
	char *text = malloc(len ? len : 1), *message = NULL;
	int r;

	must(text);
	if (len)
		memcpy(text, data, len);
	memset(&keys, 0, sizeof(keys));
	r = auth_parse_pasted(text, len, &keys, target, &message);
	must(r == 0 || r == -EINVAL);
	must((r == 0) == !message && memchr(target, '\0', sizeof(target)));
	if (r == 0)
		must(!auth_keys_check(&keys) && !keys.anonymous);
	else
		must(message[0] && !strstr(message, SECRET) && !strchr(message, '\n'));
	free(message);
	free(text);
	return 0;
}
