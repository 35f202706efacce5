/*
 * Memory for keys: locked, not dumped, wiped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cpgfs/base.h"

#include <fcntl.h>

/* Has the mapping that holds p this flag in /proc/self/smaps? */
static bool mapping_has_flag(const void *p, const char *flag)
{
	cleanup_file FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	bool inside = false;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long from, to;
		if (sscanf(line, "%llx-%llx ", &from, &to) == 2)
			inside = (uintptr_t)p >= from && (uintptr_t)p < to;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			return strstr(line, flag) != NULL;
	}
	return false;
}

static void pages_are_not_dumped(void **state)
{
	char *p = secret_alloc(5000);

	assert_non_null(p);
	assert_true(mapping_has_flag(p, " dd "));
	assert_true(mapping_has_flag(p + 4999, " dd "));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* their mlock does nothing */
	assert_true(mapping_has_flag(p, " lo ")); /* RLIMIT_MEMLOCK has room for two pages */
#endif
	secret_free(p);
}

static void content_is_zero_and_apart(void **state)
{
	char *a = secret_alloc(100), *b = secret_alloc(100);

	for (int i = 0; i < 100; i++)
		assert_int_equal(a[i] | b[i], 0);
	assert_int_equal((uintptr_t)a % 16, 0);
	memset(a, 'a', 100);
	memset(b, 'b', 100);
	assert_int_equal(a[99], 'a');
	secret_free(a);
	assert_int_equal(b[0], 'b');
	secret_free(b);
	secret_free(NULL);
	assert_null(secret_alloc(SIZE_MAX));
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void fill_zmm(const void *from)
{
	__asm__ volatile(
		"vmovdqu64 (%0), %%zmm5\n\tvmovdqu64 (%0), %%zmm16\n\tvmovdqu64 (%0), %%zmm31" ::
			"r"(from)
		: "memory");
}

__attribute__((target("avx512f"))) static void read_zmm(char to[3 * 64])
{
	__asm__ volatile("vmovdqu64 %%zmm5, (%0)\n\tvmovdqu64 %%zmm16, 64(%0)\n\tvmovdqu64 "
			 "%%zmm31, 128(%0)" ::"r"(to)
			 : "memory");
}

__attribute__((target("avx"))) static void fill_ymm(const void *from)
{
	__asm__ volatile("vmovdqu (%0), %%ymm0\n\tvmovdqu (%0), %%ymm15" ::"r"(from) : "memory");
}

__attribute__((target("avx"))) static void read_ymm(char to[2 * 32])
{
	__asm__ volatile("vmovdqu %%ymm0, (%0)\n\tvmovdqu %%ymm15, 32(%0)" ::"r"(to) : "memory");
}

/* What the dynamic linker would save on the stack. */
static void registers_hold_nothing(void **state)
{
	static const char text[64] =
		"secret/secret/secret/secret/secret/secret/secret/secret/secret/";
	static const char none[3 * 64] = "";
	char held[3 * 64];
	bool any = false;

	if (__builtin_cpu_supports("avx512f")) {
		fill_zmm(text);
		stack_wipe();
		read_zmm(held);
		assert_memory_equal(held, none, sizeof(held));
		any = true;
	}
	if (__builtin_cpu_supports("avx")) {
		fill_ymm(text);
		registers_wipe();
		read_ymm(held);
		assert_memory_equal(held, none, 2 * 32);
		any = true;
	}
	if (!any)
		skip();
}
#endif

/* How many bytes of the freed text are still there? Read as a dump would, so that tools that watch
 * freed memory have nothing to say. Less than four in a row are the allocator's own (links, a
 * random key), which may look like ours. */
static size_t left_of(const void *where, size_t len, char what)
{
	cleanup_fd int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	cleanup_free char *copy = calloc(1, len);
	size_t left = 0, run = 0;

	assert_true(fd >= 0);
	if (pread(fd, copy, len, (off_t)(uintptr_t)where) != (ssize_t)len)
		return 0; /* not even mapped */
	for (size_t i = 0; i < len; i++) {
		run = copy[i] == what ? run + 1 : 0;
		left += run == 4 ? 4 : run > 4;
	}
	return left;
}

static void freed_text_is_wiped(void **state)
{
	char *p = malloc(1000);
	uintptr_t was = (uintptr_t)p;

	memset(p, 'S', 1000);
	assert_int_equal(left_of((void *)was, 1000, 'S'), 1000);
	p = wiping_realloc(p, 100000);
	assert_int_not_equal((uintptr_t)p, was);
	assert_int_equal(p[999], 'S');
	assert_int_equal(left_of((void *)was, 1000, 'S'), 0);
	was = (uintptr_t)p;
	wiping_free(p);
	assert_int_equal(left_of((void *)was, 1000, 'S'), 0);
}

static void texts_survive_reallocation(void **state)
{
	char *q = wiping_realloc(NULL, 10);

	memcpy(q, "123456789", 10);
	q = wiping_realloc(q, 100);
	assert_string_equal(q, "123456789");
	q = wiping_realloc(q, 5);
	assert_memory_equal(q, "12345", 5);
	wiping_free(q);
	wiping_free(NULL);
}

static void buffers_for_secrets_are_wiped(void **state)
{
	struct buf b = {.wipes = true};
	uintptr_t was;

	for (int i = 0; i < 1000; i++)
		buf_add_char(&b, 'S');
	was = (uintptr_t)b.data;
	for (int i = 0; i < 100000; i++)
		buf_add_char(&b, 'T');
	assert_int_not_equal((uintptr_t)b.data, was);
	assert_int_equal(left_of((void *)was, 1000, 'S'), 0);
	assert_int_equal(b.len, 101000);
	assert_int_equal(b.data[999], 'S');
	assert_int_equal(b.data[100999], 'T');
	was = (uintptr_t)b.data;
	buf_release(&b);
	assert_int_equal(left_of((void *)was, 1000, 'S'), 0);
	assert_true(b.wipes);
	assert_null(b.data);
	{
		cleanup_buf struct buf scoped = {.wipes = true};
		buf_add_text(&scoped, "SSSSSSSSSSSSSSSS");
		was = (uintptr_t)scoped.data;
		assert_int_equal(left_of((void *)was, 16, 'S'), 16);
	}
	assert_int_equal(left_of((void *)was, 16, 'S'), 0);
}

/* Newer AddressSanitizers keep what is below in places of their own, not on the stack. */
__attribute__((noinline, no_sanitize("address"))) static void leave_on_the_stack(
	uintptr_t *ret_where)
{
	char text[4000];
	volatile char *through = text;

	for (size_t i = 0; i < sizeof(text); i++)
		through[i] = 'S';
	*ret_where = (uintptr_t)text;
}

static void what_calls_left_below_is_wiped(void **state)
{
	uintptr_t was;

	leave_on_the_stack(&was);
	stack_wipe();
	assert_int_equal(left_of((void *)was, 4000, 'S'), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_not_dumped),
#if defined(__x86_64__)
		cmocka_unit_test(registers_hold_nothing),
#endif
		cmocka_unit_test(content_is_zero_and_apart),
		cmocka_unit_test(freed_text_is_wiped),
		cmocka_unit_test(texts_survive_reallocation),
		cmocka_unit_test(buffers_for_secrets_are_wiped),
		cmocka_unit_test(what_calls_left_below_is_wiped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
