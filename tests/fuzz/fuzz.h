/*
 * fuzz.h - what the fuzz targets share. A target is one file with
 *
 *	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
 *
 * for libFuzzer (contrib/fuzz), AFL++ (contrib/fuzz --afl), and fuzz_main.c, which plays the corpus
 * in normal builds. It asserts what holds for every input, with must().
 */
#pragma once

#include "cpgfs/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Stays on in every build; the input that broke it is what libFuzzer keeps. */
#define must(expr)                                                                                 \
	((expr) ? (void)0                                                                          \
		: (fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #expr),       \
			  abort()))

/* The input, eaten from the front; zeros when it is used up. */
struct fuzz_in {
	const uint8_t *at;
	size_t len;
};

static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
	if (!in->len)
		return 0;
	in->len--;
	return *in->at++;
}

static inline uint64_t fuzz_number(struct fuzz_in *in, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | fuzz_u8(in);
	return v;
}

/* Exactly so many bytes (at most what is left), in memory of their own: a read beyond them shows.
 */
static inline uint8_t *fuzz_bytes(struct fuzz_in *in, size_t want, size_t *ret_len)
{
	size_t len = want < in->len ? want : in->len;
	uint8_t *p = malloc(len ? len : 1);

	must(p);
	if (len)
		memcpy(p, in->at, len);
	in->at += len;
	in->len -= len;
	*ret_len = len;
	return p;
}

/* The same as a text: up to its first NUL, which is eaten, too. */
static inline char *fuzz_text(struct fuzz_in *in, size_t max)
{
	size_t room = max < in->len ? max : in->len,
	       len = in->len ? strnlen((const char *)in->at, room) : 0;
	char *text = malloc(len + 1);

	must(text);
	if (len)
		memcpy(text, in->at, len);
	text[len] = '\0';
	len += len < in->len && !in->at[len];
	in->at += len;
	in->len -= len;
	return text;
}
