/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/crc32c.h"

/* The instruction has a latency of three cycles and a throughput of one, so
 * that one stream leaves two thirds of the unit idle.  A long input is cut
 * into three lanes of equal size, whose checksums are computed at the same
 * time and then combined: the checksum of lane A followed by n bytes is that
 * of A advanced over n zero bytes, xor that of the n bytes.  Advancing over
 * the fixed lane sizes is a multiplication by a constant, which is linear: a
 * table look-up for each of the four bytes.
 *
 * Within this file a 'state' is a checksum without the final inversion, the
 * form that advances linearly. */

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "lib/base/le.h"

/* 0x1edc6f41 with its bits reversed, as all polynomials here. */
#define POLYNOMIAL 0x82f63b78u

/* Three long lanes are 4056 bytes: a block of 4 KiB takes one round of them
 * and a rest of 40 bytes. */
#define LONG_LANE ((size_t)1352)
#define SHORT_LANE ((size_t)168)

static_assert(LONG_LANE % 8 == 0, "lanes are read in words of eight bytes");
static_assert(SHORT_LANE % 8 == 0, "lanes are read in words of eight bytes");

/* table[k][b] advances byte b over k zero bytes: "slicing by eight". */
static uint32_t table[8][256];
static uint32_t long_shift[4][256];
static uint32_t short_shift[4][256];
static bool has_instruction;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* a * b modulo the polynomial; bit 31 is the coefficient of x^0. */
static uint32_t
multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (uint32_t bit = UINT32_C(1) << 31; bit != 0; bit >>= 1) {
        if ((a & bit) != 0) {
            product ^= b;
        }
        b = (b & 1) != 0 ? b >> 1 ^ POLYNOMIAL : b >> 1;
    }
    return product;
}

/* x^(8 * size): what a state is multiplied by to pass 'size' zero bytes. */
static uint32_t
power_of_x(uint64_t size)
{
    uint32_t result = UINT32_C(1) << 31; /* x^0 */
    uint32_t square = UINT32_C(1) << 23; /* x^8 */

    for (; size != 0; size >>= 1) {
        if ((size & 1) != 0) {
            result = multiply(result, square);
        }
        square = multiply(square, square);
    }
    return result;
}

static void
fill_shift(uint32_t shift[4][256], size_t size)
{
    uint32_t factor = power_of_x(size);

    for (uint32_t byte = 0; byte < 256; byte++) {
        for (uint32_t k = 0; k < 4; k++) {
            shift[k][byte] = multiply(factor, byte << (8 * k));
        }
    }
}

static uint32_t
apply_shift(uint32_t shift[4][256], uint32_t state)
{
    return shift[0][state & 0xff] ^ shift[1][state >> 8 & 0xff] ^
           shift[2][state >> 16 & 0xff] ^ shift[3][state >> 24];
}

static void
init_tables(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t state = byte;
        for (int i = 0; i < 8; i++) {
            state = (state & 1) != 0 ? state >> 1 ^ POLYNOMIAL : state >> 1;
        }
        table[0][byte] = state;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        for (size_t k = 1; k < 8; k++) {
            uint32_t state = table[k - 1][byte];
            table[k][byte] = table[0][state & 0xff] ^ state >> 8;
        }
    }
    fill_shift(long_shift, LONG_LANE);
    fill_shift(short_shift, SHORT_LANE);
#ifdef __x86_64__
    __builtin_cpu_init();
    has_instruction = __builtin_cpu_supports("sse4.2") != 0;
#endif
}

static uint64_t
load64(const unsigned char *at)
{
    struct le64 value;
    memcpy(&value, at, sizeof value);
    return le64_get(value);
}

static void
store64(unsigned char *at, uint64_t value)
{
    struct le64 raw = le64_make(value);
    memcpy(at, &raw, sizeof raw);
}

static uint32_t
update_by_table(uint32_t state, const unsigned char *at, size_t size)
{
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word = load64(at) ^ state;
        state = 0;
        for (size_t k = 0; k < 8; k++) {
            state ^= table[7 - k][word >> (8 * k) & 0xff];
        }
    }
    for (; size > 0; size--, at++) {
        state = table[0][(state ^ *at) & 0xff] ^ state >> 8;
    }
    return state;
}

#ifdef __x86_64__
#include <nmmintrin.h>

/* Three lanes of 'lane' bytes each.  'to' is NULL, or where the words go. */
__attribute__((target("sse4.2"), always_inline)) static inline uint32_t
update_lanes(uint32_t state, unsigned char *to, const unsigned char *from,
             size_t lane, uint32_t shift[4][256])
{
    uint64_t a = state;
    uint64_t b = 0;
    uint64_t c = 0;

    for (size_t i = 0; i < lane; i += 8) {
        uint64_t word_a = load64(from + i);
        uint64_t word_b = load64(from + lane + i);
        uint64_t word_c = load64(from + 2 * lane + i);
        if (to != NULL) {
            store64(to + i, word_a);
            store64(to + lane + i, word_b);
            store64(to + 2 * lane + i, word_c);
        }
        a = _mm_crc32_u64(a, word_a);
        b = _mm_crc32_u64(b, word_b);
        c = _mm_crc32_u64(c, word_c);
    }
    uint32_t ab = apply_shift(shift, (uint32_t)a) ^ (uint32_t)b;
    return apply_shift(shift, ab) ^ (uint32_t)c;
}

__attribute__((target("sse4.2"), always_inline)) static inline uint32_t
update_by_instruction(uint32_t state, unsigned char *to,
                      const unsigned char *from, size_t size)
{
    size_t done = 0;

    for (; size - done >= 3 * LONG_LANE; done += 3 * LONG_LANE) {
        state = update_lanes(state, to != NULL ? to + done : NULL, from + done,
                             LONG_LANE, long_shift);
    }
    for (; size - done >= 3 * SHORT_LANE; done += 3 * SHORT_LANE) {
        state = update_lanes(state, to != NULL ? to + done : NULL, from + done,
                             SHORT_LANE, short_shift);
    }
    for (; size - done >= 8; done += 8) {
        uint64_t word = load64(from + done);
        if (to != NULL) {
            store64(to + done, word);
        }
        state = (uint32_t)_mm_crc32_u64(state, word);
    }
    for (; done < size; done++) {
        unsigned char byte = from[done];
        if (to != NULL) {
            to[done] = byte;
        }
        state = _mm_crc32_u8(state, byte);
    }
    return state;
}

/* Two instances, so that the test for a copy is not in the loops. */
__attribute__((target("sse4.2"))) static uint32_t
checksum_by_instruction(uint32_t state, const unsigned char *from, size_t size)
{
    return update_by_instruction(state, NULL, from, size);
}

__attribute__((target("sse4.2"), nonnull(2))) static uint32_t
copy_by_instruction(uint32_t state, unsigned char *to,
                    const unsigned char *from, size_t size)
{
    return update_by_instruction(state, to, from, size);
}
#else
static uint32_t
checksum_by_instruction(uint32_t state, const unsigned char *from, size_t size)
{
    return update_by_table(state, from, size);
}

static uint32_t
copy_by_instruction(uint32_t state, unsigned char *to,
                    const unsigned char *from, size_t size)
{
    memcpy(to, from, size);
    return update_by_table(state, to, size);
}
#endif

uint32_t
crc32c_portable(uint32_t seed, const void *data, size_t size)
{
    pthread_once(&once, init_tables);
    return ~update_by_table(~seed, data, size);
}

uint32_t
crc32c_update(uint32_t seed, const void *data, size_t size)
{
    pthread_once(&once, init_tables);
    if (has_instruction) {
        return ~checksum_by_instruction(~seed, data, size);
    }
    return ~update_by_table(~seed, data, size);
}

uint32_t
crc32c_copy(uint32_t seed, void *destination, const void *source, size_t size)
{
    if (size == 0) {
        return seed;
    }
    pthread_once(&once, init_tables);
    if (has_instruction) {
        return ~copy_by_instruction(~seed, destination, source, size);
    }
    memcpy(destination, source, size);
    return ~update_by_table(~seed, destination, size);
}

uint32_t
crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b)
{
    /* The inversions cancel out, and so does the seed of B. */
    return multiply(power_of_x(size_b), crc_a) ^ crc_b;
}
