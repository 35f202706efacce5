/*
 * base_secret - memory for keys: pages of their own that are locked (never in swap), left out of
 * core dumps, and wiped when freed. Also an allocator for libraries through whose hands keys pass:
 * what they free is wiped.
 *
 *   page 0: header | content …        the size is kept for the end
 */
#include "base_private.h"

#include <malloc.h>
#include <sys/mman.h>

struct secret {
	size_t mapped_bytes;
	_Alignas(16) char content[];
};

void *secret_alloc(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t bytes;

	if (size > SIZE_MAX / 2)
		return NULL;
	bytes = (sizeof(struct secret) + size + page - 1) / page * page;
	struct secret *s =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return NULL;
	/* both are a second fence: the process forbids dumps, and swap is root's to read */
	(void)madvise(s, bytes, MADV_DONTDUMP);
	(void)mlock(s, bytes);
	s->mapped_bytes = bytes;
	return s->content;
}

void secret_free(void *p)
{
	struct secret *s;
	size_t bytes;

	if (!p)
		return;
	s = (struct secret *)((char *)p - offsetof(struct secret, content));
	bytes = s->mapped_bytes;
	explicit_bzero(s, bytes);
	(void)munmap(s, bytes); /* fails only for what is no mapping */
}

void cleanup_secret_fn(void *pp)
{
	secret_free(*(void **)pp);
}

/*
 * What memcpy() and its kin moved last is still in the wide registers. There it would be nobody's,
 * but the dynamic linker saves them on the stack the first time a function of a library is called,
 * and stacks stay. By the ABI no function may expect its caller's values in them.
 */
#if defined(__x86_64__)
__attribute__((target("avx"))) static void ymm_wipe(void)
{
	__asm__ volatile("vzeroall" ::: "memory"); /* 0 to 15, all of them with AVX-512, too */
}

__attribute__((target("avx512f"))) static void zmm_wipe(void)
{
	__asm__ volatile("vpxorq %%zmm16, %%zmm16, %%zmm16\n\tvpxorq %%zmm17, %%zmm17, %%zmm17\n\t"
			 "vpxorq %%zmm18, %%zmm18, %%zmm18\n\tvpxorq %%zmm19, %%zmm19, %%zmm19\n\t"
			 "vpxorq %%zmm20, %%zmm20, %%zmm20\n\tvpxorq %%zmm21, %%zmm21, %%zmm21\n\t"
			 "vpxorq %%zmm22, %%zmm22, %%zmm22\n\tvpxorq %%zmm23, %%zmm23, %%zmm23\n\t"
			 "vpxorq %%zmm24, %%zmm24, %%zmm24\n\tvpxorq %%zmm25, %%zmm25, %%zmm25\n\t"
			 "vpxorq %%zmm26, %%zmm26, %%zmm26\n\tvpxorq %%zmm27, %%zmm27, %%zmm27\n\t"
			 "vpxorq %%zmm28, %%zmm28, %%zmm28\n\tvpxorq %%zmm29, %%zmm29, %%zmm29\n\t"
			 "vpxorq %%zmm30, %%zmm30, %%zmm30\n\tvpxorq %%zmm31, %%zmm31, %%zmm31" ::
				 : "memory");
}

void registers_wipe(void)
{
	if (__builtin_cpu_supports("avx512f"))
		zmm_wipe();
	if (__builtin_cpu_supports("avx"))
		ymm_wipe();
}
#else
void registers_wipe(void)
{
} /* elsewhere they are narrower than a secret */
#endif

#define STACK_WIPED_BYTES (96 * KIB)

/* Without the red zones of AddressSanitizer, which would be left as they are. */
__attribute__((noinline, no_sanitize("address"))) void stack_wipe(void)
{
	char below[STACK_WIPED_BYTES];

	explicit_bzero(below, sizeof(below));
	registers_wipe();
}

/* Whatever holds a key is far smaller; larger blocks are file content on its way. */
#define WIPED_MAX_BYTES ((size_t)64 * 1024)

void wiping_free(void *p)
{
	size_t size = p ? malloc_usable_size(p) : 0;

	if (p)
		explicit_bzero(p, size < WIPED_MAX_BYTES ? size : WIPED_MAX_BYTES);
	free(p);
}

void *wiping_realloc(void *p, size_t size)
{
	size_t have = p ? malloc_usable_size(p) : 0;
	void *moved;

	if (p && size && size <= have && size >= have / 2)
		return p;
	moved = malloc(size ? size : 1);
	if (moved && p) {
		memcpy(moved, p, have < size ? have : size);
		wiping_free(p);
	}
	return moved;
}
