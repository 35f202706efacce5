/*
 * base_crc64 - CRC-64/NVME: the checksum of every chunk, part and object.
 *
 * Polynomials are kept bit-reflected: bit i of the 64-bit register is the coefficient of x^(63-i).
 * Three parts:
 *
 *  table   sixteen bytes at a time through sixteen tables: everywhere.
 *  fold    carry-less multiplication (PCLMULQDQ), chosen at run time. A 128-bit lane V stands for
 *          L·x^64 + H (L its low half: the earlier bytes). Moving it D bits towards the end of the
 *          message is V·x^D = L·x^(D+64) + H·x^D (mod P): two multiplications by constants. The
 *          product of two reflected 64-bit numbers comes out one bit short, i.e. times x, so the
 *          constants are x^(D+63) and x^(D-1). Eight lanes run side by side; at the end they are
 *          folded into one, whose 16 bytes go through the tables like any message.
 *  shift   appending n zero bytes multiplies the register by x^(8n) mod P: by squaring, at most
 *          64 multiplications. Combining two CRCs is that plus an XOR.
 *
 * Source of the folding: Gopal et al., "Fast CRC Computation for Generic Polynomials Using
 * PCLMULQDQ Instruction" (Intel, 2009). Constants and tables are computed once from P.
 */
#include "base_private.h"

#define POLY_REFLECTED UINT64_C(0x9a6c9329ac4bc9b5)
#define ONE_REFLECTED (UINT64_C(1) << 63) /* x^0 */
#define X_REFLECTED (UINT64_C(1) << 62)	  /* x^1 */

#define SLICES 16
#define LANE_BYTES 16U
#define LANE_BITS 128U
#define LANES 8U
#define POWERS 67 /* x^(2^k), k up to 63 bits of a length and 3 for bits per byte */

static pthread_once_t crc_once = PTHREAD_ONCE_INIT;
static uint64_t table[SLICES][256];
static uint64_t x_to_2_to[POWERS];
static struct {
	uint64_t far_low, far_high;   /* move a lane by LANES lanes */
	uint64_t near_low, near_high; /* move a lane by one */
} fold_by;
static bool can_fold;

/* a·b mod P */
static uint64_t multiply(uint64_t a, uint64_t b)
{
	uint64_t product = 0;

	for (uint64_t bit = ONE_REFLECTED; bit; bit >>= 1) {
		if (a & bit)
			product ^= b;
		b = b & 1 ? (b >> 1) ^ POLY_REFLECTED : b >> 1;
	}
	return product;
}

/* x^(n·2^first) mod P; x_to_2_to must be filled. */
static uint64_t power(uint64_t n, unsigned first)
{
	uint64_t p = ONE_REFLECTED;

	for (unsigned k = first; n; n >>= 1, k++) {
		if (n & 1)
			p = multiply(x_to_2_to[k], p);
	}
	return p;
}

static void make_tables(void)
{
	for (unsigned byte = 0; byte < 256; byte++) {
		uint64_t r = byte;

		for (int bit = 0; bit < 8; bit++)
			r = r & 1 ? (r >> 1) ^ POLY_REFLECTED : r >> 1;
		table[0][byte] = r;
	}
	for (unsigned s = 1; s < SLICES; s++) {
		for (unsigned byte = 0; byte < 256; byte++) {
			uint64_t r = table[s - 1][byte];

			table[s][byte] = table[0][r & 0xff] ^ (r >> 8);
		}
	}
}

static void crc_init(void)
{
	make_tables();
	x_to_2_to[0] = X_REFLECTED;
	for (unsigned k = 1; k < POWERS; k++)
		x_to_2_to[k] = multiply(x_to_2_to[k - 1], x_to_2_to[k - 1]);
	fold_by.far_low = power(LANES * LANE_BITS + 63, 0);
	fold_by.far_high = power(LANES * LANE_BITS - 1, 0);
	fold_by.near_low = power(LANE_BITS + 63, 0);
	fold_by.near_high = power(LANE_BITS - 1, 0);
#ifdef __x86_64__
	__builtin_cpu_init();
	can_fold = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
}

static void crc_ready(void)
{
	check(pthread_once(&crc_once, crc_init) == 0);
}

bool crc64_can_fold(void)
{
	crc_ready();
	return can_fold;
}

uint64_t crc64_x_pow(uint64_t exponent)
{
	crc_ready();
	return power(exponent, 0);
}

/* Eight of the sixteen bytes: byte i has 15 - i (or 7 - i) bytes behind it in its block. */
static uint64_t slice8(uint64_t word, const uint64_t (*t)[256])
{
	return t[7][word & 0xff] ^ t[6][word >> 8 & 0xff] ^ t[5][word >> 16 & 0xff] ^
	       t[4][word >> 24 & 0xff] ^ t[3][word >> 32 & 0xff] ^ t[2][word >> 40 & 0xff] ^
	       t[1][word >> 48 & 0xff] ^ t[0][word >> 56];
}

uint64_t crc64_feed_table(uint64_t state, const void *data, size_t len)
{
	const uint8_t *p = data;

	crc_ready();
	for (; len >= SLICES; len -= SLICES, p += SLICES)
		state = slice8(state ^ get_le64(p), &table[8]) ^ slice8(get_le64(p + 8), &table[0]);
	for (; len > 0; len--, p++)
		state = table[0][(state ^ *p) & 0xff] ^ (state >> 8);
	return state;
}

#ifdef __x86_64__
#include <immintrin.h>

#define FOLD_TARGET __attribute__((target("pclmul,sse4.1")))

FOLD_TARGET static inline __m128i load(const uint8_t *p)
{
	return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* lane moved by what `by` says, plus what stands there. */
FOLD_TARGET static inline __m128i fold(__m128i lane, __m128i by, __m128i there)
{
	__m128i low = _mm_clmulepi64_si128(lane, by, 0x00);
	__m128i high = _mm_clmulepi64_si128(lane, by, 0x11);

	return _mm_xor_si128(_mm_xor_si128(low, high), there);
}

/* Folds whole lanes of p (count of them, at least one) into one 16-byte message of equal CRC. */
FOLD_TARGET static void fold_lanes(uint64_t state, const uint8_t *p, size_t count, uint8_t out[16])
{
	const __m128i far = _mm_set_epi64x((int64_t)fold_by.far_high, (int64_t)fold_by.far_low);
	const __m128i near = _mm_set_epi64x((int64_t)fold_by.near_high, (int64_t)fold_by.near_low);
	__m128i sum = _mm_xor_si128(load(p), _mm_cvtsi64_si128((int64_t)state));
	size_t next = 1;

	if (count / 2 >= LANES) {
		__m128i lane[LANES] = {sum};

		for (size_t i = 1; i < LANES; i++)
			lane[i] = load(p + i * LANE_BYTES);
		for (next = LANES; next + LANES <= count; next += LANES) {
#pragma GCC unroll 8
			for (size_t i = 0; i < LANES; i++)
				lane[i] = fold(lane[i], far, load(p + (next + i) * LANE_BYTES));
		}
		sum = lane[0];
		for (size_t i = 1; i < LANES; i++)
			sum = fold(sum, near, lane[i]);
	}
	for (; next < count; next++)
		sum = fold(sum, near, load(p + next * LANE_BYTES));
	_mm_storeu_si128((__m128i *)(void *)out, sum);
}

uint64_t crc64_feed_fold(uint64_t state, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t lanes = len / LANE_BYTES;
	uint8_t rest[LANE_BYTES];

	crc_ready();
	if (lanes == 0)
		return crc64_feed_table(state, p, len);
	fold_lanes(state, p, lanes, rest);
	state = crc64_feed_table(0, rest, sizeof(rest));
	return crc64_feed_table(state, p + lanes * LANE_BYTES, len % LANE_BYTES);
}

#else

uint64_t crc64_feed_fold(uint64_t state, const void *data, size_t len)
{
	return crc64_feed_table(state, data, len);
}

#endif

uint64_t crc64nvme(uint64_t crc, const void *data, size_t len)
{
	return crc64_can_fold() ? ~crc64_feed_fold(~crc, data, len)
				: ~crc64_feed_table(~crc, data, len);
}

uint64_t crc64nvme_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b)
{
	crc_ready();
	return multiply(power(len_b, 3), crc_a) ^ crc_b;
}

uint64_t crc64nvme_zeros(uint64_t crc, uint64_t len)
{
	crc_ready();
	return ~multiply(power(len, 3), ~crc);
}

void crc64nvme_to_text(uint64_t crc, char out[16])
{
	uint8_t bytes[8];

	put_be64(bytes, crc);
	base64_encode(bytes, sizeof(bytes), out);
}

int crc64nvme_from_text(const char *text, uint64_t *ret)
{
	uint8_t bytes[8];
	size_t len;

	if (base64_decode(text, bytes, sizeof(bytes), &len) < 0 || len != sizeof(bytes))
		return -EINVAL;
	*ret = get_be64(bytes);
	return 0;
}
