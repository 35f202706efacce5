/*
 * fuzz_main - main() of a fuzz target where libFuzzer brings none.
 *
 *	fuzz_X [--near N] FILE|DIR…   plays files, and so many inputs near each: cut off, a byte
 *changed, a piece doubled; the same ones each time fuzz_X                        one input from
 *standard input (AFL++, which keeps the process)
 */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

#define INPUT_MAX_BYTES (1 * MIB)

static unsigned long played;

static void play(const uint8_t *data, size_t len)
{
	/* memory of exactly this size */
	uint8_t *copy = malloc(len ? len : 1);

	must(copy);
	memcpy(copy, data, len);
	(void)LLVMFuzzerTestOneInput(copy, len);
	free(copy);
	played++;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static size_t change(uint8_t *data, size_t len, uint64_t *state)
{
	uint64_t r = next_random(state);
	size_t at = (r >> 8) % len, piece;

	switch (r & 3) {
	case 0:
		return at;
	case 1:
		data[at] ^= (uint8_t)(1u << ((r >> 3) & 7));
		return len;
	case 2:
		data[at] = (uint8_t)(r >> 32);
		return len;
	default: /* a piece of it once more, in its own place */
		piece = 1 + (r >> 40) % (len - at);
		memmove(data + at + piece, data + at, len - at);
		return len + piece;
	}
}

static void play_near(const uint8_t *data, size_t len, unsigned count)
{
	uint64_t state = crc64nvme(0, data, len) | 1;

	for (unsigned i = 0; i < count && len > 0; i++) {
		uint8_t *other = malloc(2 * len);

		must(other);
		memcpy(other, data, len);
		play(other, change(other, len, &state));
		free(other);
	}
}

static void play_file(const char *path, unsigned near)
{
	static uint8_t data[INPUT_MAX_BYTES];
	FILE *f = fopen(path, "re");
	size_t len;

	if (!f) {
		perror(path);
		exit(2);
	}
	len = fread(data, 1, sizeof(data), f);
	fclose(f);
	fprintf(stderr, "%s\n", path); /* the last one named is the one that broke */
	play(data, len);
	play_near(data, len, near);
}

static int is_visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static void play_all(const char *path, unsigned near)
{
	struct dirent **names = NULL;
	struct stat st;
	int count = stat(path, &st) == 0 && S_ISDIR(st.st_mode)
			    ? scandir(path, &names, is_visible, alphasort)
			    : -1;

	if (count < 0) {
		play_file(path, near);
		return;
	}
	for (int i = 0; i < count; i++) {
		char *file = NULL;

		must(text_printf(&file, "%s/%s", path, names[i]->d_name) == 0);
		play_file(file, near);
		free(file);
		free(names[i]);
	}
	free(names);
}

#ifdef __AFL_COMPILER
__AFL_FUZZ_INIT();

static int play_input(void)
{
	const uint8_t *data;

	__AFL_INIT();
	data = __AFL_FUZZ_TESTCASE_BUF;
	while (__AFL_LOOP(10000))
		play(data, (size_t)__AFL_FUZZ_TESTCASE_LEN);
	return 0;
}
#else
static int play_input(void)
{
	static uint8_t data[INPUT_MAX_BYTES];

	play(data, fread(data, 1, sizeof(data), stdin));
	return 0;
}
#endif

int main(int argc, char **argv)
{
	unsigned near = 0;
	int first = 1;

	if (argc > 2 && strcmp(argv[1], "--near") == 0) {
		near = (unsigned)atoi(argv[2]);
		first = 3;
	}
	if (first == argc)
		return play_input();
	for (int i = first; i < argc; i++)
		play_all(argv[i], near);
	fprintf(stderr, "%lu inputs\n", played);
	return played == 0;
}
