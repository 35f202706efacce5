/*
 * The shared files of the AWS tools: a way to credentials, none, or a refusal with a message; no
 * message holds a secret.
 *
 *   credentials file NUL config file
 */
#include "fuzz.h"
#include "auth_chain.h"

#include <sys/mman.h>

#define SECRET "wJalrXUtnFEMI" /* in the corpus as a part of secrets */

static struct auth_places places;
static int files[2];

static char *file_path(int *ret_fd)
{
	char *path = NULL;

	*ret_fd = memfd_create("ini", MFD_CLOEXEC);
	must(*ret_fd >= 0 && text_printf(&path, "/proc/self/fd/%d", *ret_fd) == 0);
	return path;
}

static void begin(void)
{
	struct auth_config config = {0};

	must(clearenv() == 0 && setenv("HOME", "/nonexistent", 1) == 0);
	must(setenv("AWS_PROFILE", "cpg", 1) == 0);
	must(auth_places_init(&places, &config) == 0);
	free(places.credentials_path);
	free(places.config_path);
	places.credentials_path = file_path(&files[0]);
	places.config_path = file_path(&files[1]);
}

static void fill(int fd, const char *text)
{
	must(io_truncate(fd, 0) == 0 && io_pwrite(fd, text, strlen(text), 0) == 0);
}

/* Only as the value of a secret key: other values may be shown. */
static bool secret_is_in_place(const char *text)
{
	for (const char *at = text; (at = strstr(at, SECRET)); at++) {
		const char *line = at;

		while (line > text && line[-1] != '\n')
			line--;
		if (strncmp(line, "aws_secret_access_key = ", 24) != 0)
			return false;
	}
	return true;
}

static void check_recipe(const struct auth_recipe *r, bool in_place)
{
	must(r->kind >= AUTH_KIND_NONE && r->kind <= AUTH_KIND_INSTANCE);
	must(r->origin[0]);
	must(!in_place || (!strstr(r->origin, SECRET) && !strstr(r->remedy, SECRET)));
	must((r->kind == AUTH_KIND_STATIC) == !!r->keys);
	must((r->kind == AUTH_KIND_PROCESS) == !!r->process);
	must(r->role_count <= AUTH_ROLES_MAX && r->watch_count <= AUTH_WATCH_MAX);
	for (size_t i = 0; i < r->role_count; i++)
		must(r->roles[i].arn && r->roles[i].arn[0]);
	if (r->kind == AUTH_KIND_STATIC)
		must(r->keys->access_key[0] && r->keys->secret_key[0]);
	if (r->kind == AUTH_KIND_SSO)
		must(r->sso.cache_path && r->sso.account && r->sso.role);
	if (r->kind == AUTH_KIND_WEB)
		must(r->web.arn && r->web.arn[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len};
	char *credentials, *config, *message = NULL;
	struct auth_recipe recipe = {0};
	bool in_place;
	int r;

	if (!places.profile)
		begin();
	credentials = fuzz_text(&in, len);
	config = fuzz_text(&in, len);
	in_place = secret_is_in_place(credentials) && secret_is_in_place(config);
	fill(files[0], credentials);
	fill(files[1], config);
	r = auth_chain_find(&recipe, &places, &message);
	must(r == 0 || r == -EINVAL);
	if (r == 0)
		check_recipe(&recipe, in_place);
	else
		must(!message || (message[0] && !(in_place && strstr(message, SECRET))));
	if (r == 0)
		auth_recipe_release(&recipe);
	free(message);
	free(credentials);
	free(config);
	return 0;
}
