/*
 * CRC64NVME (both ways against each other, a bit-by-bit reference and the published check value),
 * SHA-256, HMAC, MD5, hex, base64.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base_private.h"

#define SAMPLE_BYTES 70000

static uint8_t sample[SAMPLE_BYTES];

static int make_sample(void **state)
{
	uint64_t x = 88172645463325252u;

	for (size_t i = 0; i < sizeof(sample); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		sample[i] = (uint8_t)x;
	}
	return 0;
}

/* The definition, one bit at a time, most significant first: shares nothing with the code. */
static uint64_t crc_reference(const uint8_t *p, size_t len)
{
	uint64_t crc = UINT64_MAX, reflected = 0;

	for (size_t i = 0; i < len * 8; i++) {
		uint64_t in = p[i / 8] >> (i % 8) & 1;
		bool top = (crc >> 63) ^ in;

		crc = crc << 1 ^ (top ? UINT64_C(0xad93d23594c93659) : 0);
	}
	for (int i = 0; i < 64; i++)
		reflected |= (crc >> i & 1) << (63 - i);
	return ~reflected;
}

static void crc_check_value(void **state)
{
	assert_int_equal(crc64nvme(0, "123456789", 9), UINT64_C(0xae8b14860a799888));
	assert_int_equal(crc64nvme(0, "", 0), 0);
	assert_int_equal(
		crc_reference((const uint8_t *)"123456789", 9), crc64nvme(0, "123456789", 9));
}

/* NVM Express NVM Command Set specification, "64b CRC test cases": 4 KiB of each. */
static void crc_nvme_vectors(void **state)
{
	uint8_t block[4096];

	memset(block, 0, sizeof(block));
	assert_int_equal(crc64nvme(0, block, sizeof(block)), UINT64_C(0x6482d367eb22b64e));
	memset(block, 0xff, sizeof(block));
	assert_int_equal(crc64nvme(0, block, sizeof(block)), UINT64_C(0xc0ddba7302eca3ac));
}

static void crc_table_equals_fold(void **state)
{
	assert_int_equal(
		crc64nvme(0, sample, sizeof(sample)), crc_reference(sample, sizeof(sample)));
	if (!crc64_can_fold())
		skip();
	for (size_t len = 0; len < 1200; len++) {
		for (size_t off = 0; off < 17; off++) {
			uint64_t start = len * UINT64_C(0x9e3779b97f4a7c15) + off;

			assert_int_equal(crc64_feed_table(start, sample + off, len),
				crc64_feed_fold(start, sample + off, len));
		}
	}
	assert_int_equal(~crc64_feed_table(UINT64_MAX, sample, sizeof(sample)),
		~crc64_feed_fold(UINT64_MAX, sample, sizeof(sample)));
}

static void crc_in_pieces(void **state)
{
	uint64_t whole = crc64nvme(0, sample, sizeof(sample));
	static const size_t cuts[] = {
		0, 1, 15, 16, 17, 127, 128, 255, 256, 257, 4096, 69999, 70000};

	for (size_t i = 0; i < array_len(cuts); i++) {
		size_t cut = cuts[i];
		uint64_t a = crc64nvme(0, sample, cut);
		uint64_t b = crc64nvme(0, sample + cut, sizeof(sample) - cut);

		assert_int_equal(crc64nvme(a, sample + cut, sizeof(sample) - cut), whole);
		assert_int_equal(crc64nvme_combine(a, b, sizeof(sample) - cut), whole);
	}
}

static void crc_of_zeros(void **state)
{
	static uint8_t zeros[100000];
	uint64_t start = crc64nvme(0, sample, 1000);
	static const size_t lens[] = {0, 1, 7, 8, 9, 4095, 65536, 100000};

	for (size_t i = 0; i < array_len(lens); i++)
		assert_int_equal(crc64nvme_zeros(start, lens[i]), crc64nvme(start, zeros, lens[i]));
	/* Far beyond what could be fed: 2^63 + 5 zeros in two ways. */
	assert_int_equal(
		crc64nvme_zeros(crc64nvme_zeros(start, UINT64_C(1) << 62), UINT64_C(1) << 62),
		crc64nvme_zeros(start, UINT64_C(1) << 63));
	assert_int_equal(crc64nvme_zeros(crc64nvme_zeros(start, UINT64_C(1) << 63), 5),
		crc64nvme_zeros(start, (UINT64_C(1) << 63) + 5));
	assert_int_not_equal(crc64nvme_zeros(start, UINT64_C(1) << 63), start);
}

static void crc_text(void **state)
{
	char text[16];
	uint64_t crc;

	crc64nvme_to_text(UINT64_C(0xae8b14860a799888), text);
	assert_string_equal(text, "rosUhgp5mIg=");
	assert_int_equal(crc64nvme_from_text(text, &crc), 0);
	assert_int_equal(crc, UINT64_C(0xae8b14860a799888));
	assert_int_equal(crc64nvme_from_text("rosUhgp5mA==", &crc), -EINVAL);
	assert_int_equal(crc64nvme_from_text("rosUhgp5mIhm", &crc), -EINVAL);
	assert_int_equal(crc64nvme_from_text("", &crc), -EINVAL);
	assert_int_equal(crc64nvme_from_text("rosUhgp5mIg", &crc), -EINVAL);
}

static void sha256_vectors(void **state)
{
	uint8_t digest[32], again[32];
	char hex[65];
	struct sha256_ctx *c;

	sha256_of("abc", 3, digest);
	hex_encode(digest, 32, hex);
	assert_string_equal(
		hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_of("", 0, digest);
	hex_encode(digest, 32, hex);
	assert_string_equal(
		hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256_of(sample, sizeof(sample), digest);
	assert_int_equal(sha256_create(&c), 0);
	for (size_t i = 0; i < sizeof(sample); i += 1000)
		sha256_update(c, sample + i, 1000);
	sha256_finish(c, again);
	assert_memory_equal(digest, again, 32);
}

/* RFC 4231, cases 1, 2 and 6 (key longer than a block). */
static void hmac_vectors(void **state)
{
	uint8_t key[131], mac[32];
	char hex[65];

	memset(key, 0x0b, 20);
	hmac_sha256(key, 20, "Hi There", 8, mac);
	hex_encode(mac, 32, hex);
	assert_string_equal(
		hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac);
	hex_encode(mac, 32, hex);
	assert_string_equal(
		hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(key, 0xaa, sizeof(key));
	hmac_sha256(key, sizeof(key), "Test Using Larger Than Block-Size Key - Hash Key First", 54,
		mac);
	hex_encode(mac, 32, hex);
	assert_string_equal(
		hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void md5_vector(void **state)
{
	struct md5_ctx *c;
	uint8_t digest[16];
	char hex[33];

	assert_int_equal(md5_create(&c), 0);
	md5_update(c, "message ", 8);
	md5_update(c, "digest", 6);
	md5_finish(c, digest);
	hex_encode(digest, 16, hex);
	assert_string_equal(hex, "f96b697d7cb7938d525a2f31aaf161d0");
}

static void hex_strict(void **state)
{
	uint8_t out[4] = {9, 9, 9, 9};

	assert_int_equal(hex_decode("00fFAb", 6, out), 0);
	assert_memory_equal(out, ((uint8_t[]){0, 0xff, 0xab, 9}), 4);
	assert_int_equal(hex_decode("0", 1, out), -EINVAL);
	assert_int_equal(hex_decode("0g", 2, out), -EINVAL);
	assert_int_equal(hex_decode("00 0", 4, out), -EINVAL);
}

/* RFC 4648 section 10, and forms that must not pass. */
static void base64_strict(void **state)
{
	static const char *const pairs[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
		{"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"}};
	static const char *const bad[] = {"Z", "Zg",
		"Zg=", "Zg==Zg==", "Zh==", "Zm9=", "=Zg=", "Zm 9", "Zm9v\n", "====", "Z===", "Zm-_",
		"Zg=a"};
	uint8_t out[16];
	char text[16];
	size_t len;

	for (size_t i = 0; i < array_len(pairs); i++) {
		base64_encode(pairs[i][0], strlen(pairs[i][0]), text);
		assert_string_equal(text, pairs[i][1]);
		assert_int_equal(base64_decode(text, out, sizeof(out), &len), 0);
		assert_int_equal(len, strlen(pairs[i][0]));
		assert_memory_equal(out, pairs[i][0], len);
	}
	for (size_t i = 0; i < array_len(bad); i++)
		assert_int_equal(base64_decode(bad[i], out, sizeof(out), &len), -EINVAL);
	assert_int_equal(base64_decode("Zm9v", out, 2, &len), -ENOBUFS);
	assert_int_equal(base64_decode("Zm8=", out, 2, &len), 0);
}

static void random_differs(void **state)
{
	uint64_t a = random_u64(), b = random_u64();

	assert_true(a != b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc_check_value),
		cmocka_unit_test(crc_nvme_vectors),
		cmocka_unit_test(crc_table_equals_fold),
		cmocka_unit_test(crc_in_pieces),
		cmocka_unit_test(crc_of_zeros),
		cmocka_unit_test(crc_text),
		cmocka_unit_test(sha256_vectors),
		cmocka_unit_test(hmac_vectors),
		cmocka_unit_test(md5_vector),
		cmocka_unit_test(hex_strict),
		cmocka_unit_test(base64_strict),
		cmocka_unit_test(random_differs),
	};

	return cmocka_run_group_tests(tests, make_sample, NULL);
}
