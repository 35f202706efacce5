/*
 * base_private - what files of this room share with each other, and its unit tests with them.
 */
#pragma once

#include "cpgfs/base.h"

/* Last words before abort(): to stderr and to the open log, without taking any lock. */
void log_last_words(const char *line);

/* Absolute CLOCK_MONOTONIC time of a clock_mono_ms() based deadline. */
struct timespec clock_timespec_of_ms(int64_t deadline_ms);
bool clock_is_fake(void);

/* The two ways to feed the CRC register (not inverted: the bare remainder). */
uint64_t crc64_feed_table(uint64_t state, const void *data, size_t len);
/* Only where crc64_can_fold(); any length, any alignment. */
uint64_t crc64_feed_fold(uint64_t state, const void *data, size_t len);
bool crc64_can_fold(void);
/* x^n mod P in the register's bit order; tables ready after it returns. */
uint64_t crc64_x_pow(uint64_t exponent);
